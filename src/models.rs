//! Models: which files are one model, and what people call it.
//!
//! Everything read here is untrusted: names, manifests, headers and indexes may be truncated,
//! enormous or written to hurt. Each parser has limits on bytes, counts and depth, allocates by
//! those limits and never by a number found in a file, and answers a bad file with a value.
//!
//! This room knows nothing of pools, replicas or policy: it maps file identities to models and
//! back. It reads through [`Tree`], which must not wait on a home that hangs, and it builds a new
//! [`Catalog`] beside the old one, so nobody ever sees half of it.
//!
//! Terms: *blob* and *manifest* are Ollama's, a *split* is one of several GGUF files of a model, a
//! *shard* one of several safetensors files, a *revision* one checkout in the hub cache.

pub mod tree;
pub mod format;
pub mod model;
mod family;
pub mod gguf;
pub mod safetensors;
pub mod huggingface;
pub mod ollama;
mod entries;
mod facts;
pub mod catalog;
mod build;
pub mod resolve;
pub mod synthetic;

pub use catalog::Catalog;
pub use family::family;
pub use model::{Details, Kind, Model, ModelFile, ModelIndex, ModelRef, Role};
pub use resolve::NoMatch;
pub use tree::{DirTree, FileKind, Tree, TreeFile};

#[cfg(test)]
mod tests;
