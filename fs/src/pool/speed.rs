//! How fast a pool is read: measured on a file of its own, which never has a name.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Instant;

use super::{Pool, open_unnamed, reopen_direct};
use crate::error::{ErrorKind, FsError, FsResult};
use crate::sys::map::HugeBuffer;

const SAMPLE_BYTES: u64 = 64 << 20;
const BLOCK_BYTES: usize = 1 << 20;
const ROUNDS: usize = 3;

impl Pool {
    /// Measures how fast one thread reads the pool, rates the pool accordingly and returns the
    /// rating in bytes per second. Takes 64 MiB of it for that time, less where less is free.
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
        let offsets = || (0..sample / BLOCK_BYTES as u64).map(|n| n * BLOCK_BYTES as u64);
        for offset in offsets() {
            file.write_all_at(block, offset)?;
        }
        // Of a device the page cache would be measured instead.
        let direct = if self.is_memory() {
            None
        } else {
            reopen_direct(file, false)
        };
        if direct.is_some() {
            file.sync_data()?;
        }
        let reader = direct.as_ref().unwrap_or(file);
        let mut best = 0;
        for _ in 0..ROUNDS {
            let start = Instant::now();
            for offset in offsets() {
                reader.read_exact_at(block, offset)?;
            }
            let nanos = start.elapsed().as_nanos().max(1);
            let rate = u128::from(sample) * 1_000_000_000 / nanos;
            best = best.max(u64::try_from(rate).unwrap_or(u64::MAX));
        }
        Ok(best)
    }
}
