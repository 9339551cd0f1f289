//! How fast a pool is read: measured on a file of its own, which never has a name.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Pool, open_unnamed, reopen_direct};
use crate::error::{ErrorKind, FsError, FsResult};
use crate::sys::map::HugeBuffer;

const SAMPLE_BYTES: u64 = 64 << 20;
const BLOCK_BYTES: usize = 1 << 20;
const ROUNDS: usize = 3;
/// Of a slow pool less is written and read: no more than this much time goes into each.
const PATIENCE: Duration = Duration::from_secs(1);
/// But at least so much is.
const SAMPLE_BYTES_MIN: u64 = 4 << 20;

impl Pool {
    /// Measures how fast one thread reads the pool, rates the pool accordingly and returns the
    /// rating in bytes per second. Takes 64 MiB of it for that time, less where less is free or it is slow.
    ///
    /// # Errors
    /// NoSpace when not even 2 MiB are free; Unsupported where no file without a name can be made;
    /// Io.
    pub fn measure_speed(self: &Arc<Self>) -> FsResult<u64> {
        let failed = |error| FsError::new("measure", ErrorKind::Io(error)).at_file(self.path());
        let free_bytes = self.usage()?.free_bytes;
        let sample = (free_bytes / 4).clamp(2 * BLOCK_BYTES as u64, SAMPLE_BYTES);
        let _room = self.try_reserve(sample)?;
        let file = open_unnamed(self.partial_directory())
            .map_err(failed)?
            .ok_or_else(|| {
                let kind = ErrorKind::Unsupported("the file system has no files without a name");
                FsError::new("measure", kind).at_file(self.path())
            })?;
        let speed = self.measure(&file, sample).map_err(failed)?;
        self.set_speed_bytes_per_sec(speed);
        Ok(speed)
    }

    fn measure(&self, file: &File, sample: u64) -> io::Result<u64> {
        let mut buffer = HugeBuffer::new(BLOCK_BYTES)?;
        let block = buffer.bytes_mut();
        block.fill(0x5a);
        file.set_len(sample)?;
        // Of a device the page cache would be measured instead, and writes would only seem to be done.
        let direct = if self.is_memory() {
            None
        } else {
            reopen_direct(file, true)
        };
        let file = direct.as_ref().unwrap_or(file);
        let written = for_a_while(sample, |offset| file.write_all_at(block, offset))?;
        let (mut best, began) = (0, Instant::now());
        for _ in 0..ROUNDS {
            let start = Instant::now();
            let read = for_a_while(written, |offset| file.read_exact_at(block, offset))?;
            let nanos = start.elapsed().as_nanos().max(1);
            let rate = u128::from(read) * 1_000_000_000 / nanos;
            best = best.max(u64::try_from(rate).unwrap_or(u64::MAX));
            if began.elapsed() > PATIENCE {
                break;
            }
        }
        Ok(best)
    }
}

/// Does something to one block after the other until `most` bytes are done, or enough for the time it takes;
/// how many were.
fn for_a_while(most: u64, mut deed: impl FnMut(u64) -> io::Result<()>) -> io::Result<u64> {
    let (start, mut offset) = (Instant::now(), 0);
    while offset + BLOCK_BYTES as u64 <= most {
        deed(offset)?;
        offset += BLOCK_BYTES as u64;
        if offset >= SAMPLE_BYTES_MIN && start.elapsed() > PATIENCE {
            break;
        }
    }
    Ok(offset)
}
