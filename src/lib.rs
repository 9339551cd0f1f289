//! The program crate of speedloader: the only place where the types of `config`, `policy` and `fs`
//! meet. The order of the `mod` lines is the layering: a file names only modules declared above
//! its own, so this list, read downwards, is the map.

pub mod machine;
pub mod whole_file;
pub mod safe_directory;
pub mod state_files;
pub mod pressure;
pub mod load_log;
pub mod models;
pub mod view;
pub mod command;
pub mod unmount;
pub mod remote;
pub mod setup;
pub mod engines;
pub mod control;
pub mod health;
pub mod back_off;
pub mod coordinator;
pub mod program;
pub mod logging;
pub mod crash;
pub mod daemon;
pub mod demo;
pub mod install;
pub mod cli;
