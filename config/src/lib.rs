//! The configuration of speedloader: as written, validated, explained.
//!
//! [`load`] takes all sources (a TOML file or the original's `config.json`, the environment, flags and mount options)
//! and returns the effective [`Config`] or **all** [`Faults`], each with its place, what was found, what would be
//! right, and what was probably meant. Precedence: option over environment over file over default.
//!
//! [`Config::fields`] is the table of everything that can be set; the structs, the reading, the sample file, the manual
//! and the web form are made from it.
//!
//! The crate is pure: it does no I/O but for [`load_path`], which reads one file; it knows no other crate of ours.
//!
//! The order of the modules is the layering: each names only those above it.

#![forbid(unsafe_code)]

mod units;
mod origin;
mod fault;
mod value;
mod setting;
mod name;
mod field;
mod effective;
mod raw;
mod legacy;
mod validate;
mod load;

pub use effective::{
    Cache, Cold, Config, Control, Entry, Http, Log, Mount, Mover, Placement, Policy, Pool, Remote,
    Union,
};
pub use fault::{Fault, Faults};
pub use field::{DefaultValue, Effect, Field};
pub use load::{FILE_LEN_MAX, File, Sources, load, load_path};
pub use name::{Group, Host, MemoryPolicy, Mode, Nqn, PoolName, SshTarget, Token};
pub use origin::Origin;
pub use setting::{
    ColdKind, Filesystem, HugePages, Kind, LogFormat, LogLevel, Passthrough, Strategy, Transport,
};
pub use units::{Bytes, Capacity, format_duration, parse_duration};
pub use validate::Account;

#[cfg(test)]
mod tests;
