//! The file system of speedloader: union, residency, pools, mover and the FUSE adapter.
//!
//! **The order of the `mod` lines is the layering**: a module names only modules declared above
//! its own. The invariants are those of the design: the kernel moves the bytes; pools only hold
//! copies; an open never changes its file; half a copy does not exist; no thread waits.

pub mod ids;
pub mod rel_path;
pub mod identity;
pub mod error;
pub mod errno;
pub mod seam;
pub mod sys;
pub mod mount_table;
pub mod tmpfs;
pub mod pool;
pub mod replica;
pub mod copy;
pub mod mover;
pub mod attr;
pub mod acl;
mod recent;
pub mod file;
pub mod event;
pub mod stats;
pub mod virtual_file;
pub mod read_ahead;
pub mod home;
pub mod settings;
pub mod union;
pub mod first_load;
pub mod node;
pub mod handle;
pub mod residency;
pub mod offload;
pub mod same_file;
pub mod tiered_fs;
pub mod fuse;

#[cfg(test)]
mod testing;
