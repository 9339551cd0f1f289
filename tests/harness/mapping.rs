//! Mappings of files on a mount, as an engine makes them. The one place of the tests with unsafe
//! code: what is mapped is never truncated while it is, and nobody relies on bytes that may change.
#![allow(unsafe_code)]
#![allow(dead_code, reason = "tests and benchmarks use a part each")]

use std::fs::File;
use std::io;

use memmap2::{Mmap, MmapMut, MmapOptions};

/// Maps a whole file for reading.
///
/// # Errors
/// Whatever `mmap` reports.
pub fn shared(file: &File) -> io::Result<Mmap> {
    // SAFETY: the tests truncate no file that they have mapped, and compare what they read with
    // what it must be; a byte that changes meanwhile is a failure, not a broken promise.
    unsafe { MmapOptions::new().map(file) }
}

/// Maps a whole file for reading, with all of it in place.
///
/// # Errors
/// Whatever `mmap` reports.
pub fn populated(file: &File) -> io::Result<Mmap> {
    // SAFETY: as in `shared`.
    unsafe { MmapOptions::new().populate().map(file) }
}

/// Maps a whole file for reading, privately.
///
/// # Errors
/// Whatever `mmap` reports.
pub fn private(file: &File) -> io::Result<Mmap> {
    // SAFETY: as in `shared`.
    unsafe { MmapOptions::new().map_copy_read_only(file) }
}

/// Maps a whole file for reading and writing.
///
/// # Errors
/// Whatever `mmap` reports.
pub fn shared_mut(file: &File) -> io::Result<MmapMut> {
    // SAFETY: as in `shared`; each test that writes is the only one to use its file.
    unsafe { MmapOptions::new().map_mut(file) }
}
