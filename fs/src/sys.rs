//! The only unsafe code of the program: mappings of files that are ours alone, leases, the one mount
//! call that rustix does not have, keys of the kernel, whose a thread's files are, the machine's users, which
//! descriptors a new program gets, and calls of the allocator.
//!
//! Everything else that talks to the kernel does so through rustix. What is exported is safe to
//! call with any argument, but for mappings: each says which files it may be of, and its callers see to
//! that. They map replicas and copies on their way alone, in directories that no one else enters.
#![allow(unsafe_code)]

pub mod account;
pub mod caller;
pub mod descriptors;
pub mod heap;
pub mod keyring;
pub mod lease;
pub mod map;
pub mod mount;
pub mod touch;
