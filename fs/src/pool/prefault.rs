//! Free room whose memory is ready: faulted in and cleared before a copy needs it. Clearing takes as
//! long as a fast disk takes to fill it, and several times that in a virtual machine whose host has
//! taken freed memory back.
//!
//! It lies in files without a name, each of which becomes one copy's file; pages cannot go from one
//! file to another, so the files are as large as the copies that may come. In the pool's books it is
//! free: whoever needs the room has it, in this memory or instead of it.

use std::fs::File;
use std::io;

use super::{Pool, Reach, open_unnamed, preallocate};
use crate::error::{ErrorKind, FsError, FsResult};
use crate::sys::map::{FileMap, HUGE_PAGE_BYTES};

/// Copies smaller than this are made of new memory: that takes milliseconds, and leaves what is ready
/// to one that gains by it.
pub const PREFAULT_BYTES_MIN: u64 = 64 << 20;

/// A file without a name, of which so many bytes from its start are in memory; whole huge pages.
#[derive(Debug)]
pub(crate) struct ReadyFile {
    pub file: File,
    pub bytes: u64,
}

impl ReadyFile {
    fn cut_to(&mut self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)?;
        self.bytes = self.bytes.min(bytes);
        Ok(())
    }
}

/// What of a pool is ready, and shall be.
#[derive(Debug, Default)]
pub(super) struct Prefaulted {
    /// The largest first.
    files: Vec<ReadyFile>,
    /// Bytes of the files that shall be ready, whole huge pages, the largest first.
    wanted: Vec<u64>,
}

impl Prefaulted {
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|ready| ready.bytes).sum()
    }

    /// The file that fits a copy of `size_bytes` best, cut to what that can use: the smallest that is
    /// large enough, else the largest. The tail of a copy is made of small pages.
    pub fn take(&mut self, size_bytes: u64) -> Option<ReadyFile> {
        let usable = whole_huge_pages(size_bytes);
        if usable < PREFAULT_BYTES_MIN {
            return None;
        }
        let enough = self.files.iter().rposition(|ready| ready.bytes >= usable);
        let at = enough.unwrap_or(0);
        let ready = self.files.get(at).filter(|ready| ready.bytes > 0)?;
        let cut = ready.bytes.min(usable);
        let mut ready = self.files.remove(at);
        // What cannot be cut is given back, and the copy does without.
        ready.cut_to(cut).ok().map(|()| ready)
    }

    /// Gives at least so many bytes back, or all there are; the smallest files go first.
    pub fn give_back(&mut self, bytes: u64) {
        let mut missing = bytes;
        while missing > 0
            && let Some(last) = self.files.last_mut()
        {
            let left = whole_huge_pages(last.bytes.saturating_sub(missing));
            missing = missing.saturating_sub(last.bytes - left);
            if left == 0 || last.cut_to(left).is_err() {
                self.files.pop();
            }
        }
    }

    /// Says what shall be ready from now on, and gives back what is more than that.
    fn want(&mut self, mut wanted: Vec<u64>) {
        for bytes in &mut wanted {
            *bytes = whole_huge_pages(*bytes);
        }
        wanted.retain(|bytes| *bytes >= PREFAULT_BYTES_MIN);
        wanted.sort_unstable_by(|one, other| other.cmp(one));
        self.files.truncate(wanted.len());
        for (ready, wanted) in self.files.iter_mut().zip(&wanted) {
            if ready.bytes > *wanted && ready.cut_to(*wanted).is_err() {
                // Seen as empty, it is never taken, and grown again if it can be.
                ready.bytes = 0;
            }
        }
        self.wanted = wanted;
        self.sort();
    }

    fn sort(&mut self) {
        self.files
            .sort_by_key(|ready| std::cmp::Reverse(ready.bytes));
    }

    /// Which file is to grow next.
    fn next(&self) -> Option<usize> {
        let bytes_of = |at: usize| self.files.get(at).map_or(0, |ready| ready.bytes);
        let mut wanted = self.wanted.iter().enumerate();
        wanted
            .find(|(at, wanted)| bytes_of(*at) < **wanted)
            .map(|(at, _)| at)
    }
}

fn whole_huge_pages(bytes: u64) -> u64 {
    bytes - bytes % HUGE_PAGE_BYTES
}

impl Pool {
    /// Says which copies may come, by their sizes in bytes: for each a file of that size shall be
    /// ready, the largest first. What is more than that is given back at once; what is less,
    /// [`Pool::prefault`] makes. Nothing for pools that are no memory of our own.
    pub fn want_prefaulted(&self, sizes: Vec<u64>) {
        if self.is_memory && self.mounted {
            self.ledger().prefaulted.want(sizes);
        }
    }

    /// Whether something that shall be ready is not.
    pub fn is_prefault_wanted(&self) -> bool {
        self.ledger().prefaulted.next().is_some()
    }

    /// Makes one huge page more of what shall be ready, where there is room beside all that is
    /// promised; how many bytes: 0 when there is nothing to do. The pool's books are closed for the
    /// time that it takes to clear it: who calls this often leaves others their turn.
    ///
    /// # Errors
    /// Io, for example before Linux 5.14; nothing is kept of that page.
    pub fn prefault(&self) -> FsResult<u64> {
        let failed = |error| FsError::new("prefault", ErrorKind::Io(error)).at_file(&self.path);
        let mut ledger = self.ledger();
        if ledger.closing || self.reach() != Reach::Answers {
            return Ok(0);
        }
        let Some(at) = ledger.prefaulted.next() else {
            return Ok(0);
        };
        let usage = self.usage_under(&ledger)?;
        if usage.free_bytes < usage.prefaulted_bytes + HUGE_PAGE_BYTES {
            return Ok(0);
        }
        if at == ledger.prefaulted.files.len() {
            let Some(file) = open_unnamed(&self.partial).map_err(failed)? else {
                return Ok(0);
            };
            ledger.prefaulted.files.push(ReadyFile { file, bytes: 0 });
        }
        let wanted = ledger.prefaulted.wanted[at];
        let ready = &mut ledger.prefaulted.files[at];
        let made = make(&ready.file, ready.bytes, wanted);
        if let Err(error) = made {
            // The file goes with all it has if not even that can be undone.
            if ready.cut_to(ready.bytes).is_err() {
                ledger.prefaulted.files.remove(at);
            }
            return Err(failed(error));
        }
        ready.bytes += HUGE_PAGE_BYTES;
        ledger.prefaulted.sort();
        Ok(HUGE_PAGE_BYTES)
    }

    /// Gives memory that is ready back, so many bytes of it or all.
    pub fn give_back_prefaulted(&self, bytes: u64) {
        self.ledger().prefaulted.give_back(bytes);
    }
}

/// Makes the huge page at `offset` of a file that will have `size_bytes`.
fn make(file: &File, offset: u64, size_bytes: u64) -> io::Result<()> {
    file.set_len(size_bytes)?;
    preallocate(file, offset, HUGE_PAGE_BYTES)?;
    FileMap::of_private_file(file, offset, HUGE_PAGE_BYTES)?.populate()
}

#[cfg(test)]
mod tests;
