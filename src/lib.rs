//! The program crate of speedloader.
