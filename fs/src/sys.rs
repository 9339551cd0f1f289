//! The only unsafe code of the crate: mappings of files that are ours alone, and leases.
//!
//! Everything else that talks to the kernel does so through rustix. What is exported is safe to
//! call with any argument.

#[allow(unsafe_code)]
pub mod lease;
#[allow(unsafe_code)]
pub mod map;
