//! The only unsafe code of the program; everything else goes through rustix.
#![allow(unsafe_code)]

pub mod mount;
