//! The configuration of speedloader: as written, validated, explained.
//!
//! [`load`] takes all sources (a TOML file or the original's `config.json`, the environment, flags and mount options)
//! and returns the effective [`Config`] or **all** [`Faults`], each with its place, what was found, what would be
//! right, and what was probably meant. Precedence: option over environment over file over default.
//!
//! [`Config::fields`] is the table of everything that can be set; the structs, the reading, the sample file, the manual
//! and the web form are made from it.
//!
//! ```
//! use speedloader_config::{Sources, load};
//!
//! let option = |key: &str, text: &str| (key.to_owned(), text.to_owned());
//! let options = vec![option("models_dir", "/srv/models"), option("pool", "fast:64GiB")];
//! let config = load(&Sources { options, ..Sources::default() })?;
//! assert_eq!(config.pools[0].name.as_str(), "fast");
//! # Ok::<(), speedloader_config::Faults>(())
//! ```
//!
//! The crate is pure: it does no I/O but for [`load_path`], which reads one file; it knows no other crate of ours.
//!
//! The order of the modules is the layering: each names only those above it.

#![forbid(unsafe_code)]

mod units;
mod origin;
mod account;
mod fault;
mod value;
mod setting;
mod choice;
mod name;
mod field;
mod effective;
mod places;
mod raw;
mod blank;
mod overlay;
mod legacy;
mod validate;
mod options;
mod change;
mod sample;
mod load;
mod edit;

pub use account::Account;
pub use blank::blank_secrets;
pub use change::{Change, changes};
pub use choice::{
    Checksum, ColdKind, Filesystem, HugePages, LogFormat, LogLevel, Passthrough, Strategy,
    Transport,
};
pub use edit::edit;
pub use effective::{
    Cache, Cold, Config, Control, Engines, Entry, Http, Log, Mount, Mover, Placement, Policy, Pool,
    Remote, Union,
};
pub use fault::{Fault, Faults};
pub use field::{DefaultValue, Effect, Field};
pub use load::{FILE_LEN_MAX, File, Sources, load, load_path, load_shown};
pub use name::{DhchapSecret, Group, Host, MemoryPolicy, Mode, Nqn, PoolName, SshTarget, Token};
pub use options::{MountOptions, parse_mount_options};
pub use origin::Origin;
pub use places::misplaced;
pub use sample::{sample, show, to_toml};
pub use setting::Kind;
pub use units::{Bytes, Capacity, format_duration, parse_duration};

#[cfg(test)]
mod tests;
