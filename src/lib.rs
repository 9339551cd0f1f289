//! The program crate of speedloader.

pub mod models;
