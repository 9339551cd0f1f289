//! What the benchmarks share: options, a daemon on temporary directories, interleaved rounds, tables.
//!
//! Each benchmark is a program of its own that starts the real release binary. Nothing here judges a
//! figure: goals are printed beside ratios, and only `--check` makes a missed one an error.

#![allow(
    dead_code,
    unused_imports,
    reason = "each benchmark uses its part of this"
)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark prints its figures"
)]

pub mod files;
pub mod machine;
pub mod options;
pub mod report;
pub mod site;

pub use options::Options;
pub use report::{Goal, Report};
pub use site::Site;
