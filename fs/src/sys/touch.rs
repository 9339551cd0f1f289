//! Reading a whole file through a mapping, for measurements.

use std::fs::File;
use std::hint::black_box;
use std::io;

use memmap2::{Mmap, MmapOptions};

/// Bytes of a cache line: one word of each is read.
const LINE_BYTES: usize = 64;

/// Maps `file` and reads one word of every cache line, as an engine that computes with it does.
/// Gives the bytes mapped.
///
/// # Errors
/// Whatever mapping reports. A file that shrinks meanwhile ends the process with SIGBUS, so this is
/// only for files of which the caller knows that nobody does that.
pub fn every_line(file: &File) -> io::Result<u64> {
    if file.metadata()?.len() == 0 {
        return Ok(0);
    }
    // SAFETY: the mapping is private and read-only; the caller vouches that the file does not shrink,
    // and what others write to it can only change the numbers that are summed.
    let map: Mmap = unsafe { MmapOptions::new().map(file) }?;
    let lines = map.chunks(LINE_BYTES);
    let sum = lines.fold(0u64, |sum, line| sum.wrapping_add(u64::from(line[0])));
    black_box(sum);
    Ok(map.len() as u64)
}
