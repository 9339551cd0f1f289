//! Mappings that own their memory: of a file that nobody else can reach, and anonymous ones of
//! huge pages as buffers.
//!
//! Slices of a mapping are handed out as ordinary `&mut [u8]`, so that disjoint parts can be
//! filled by several threads with `chunks_mut` and no unsafe code elsewhere.

use std::fs::File;
use std::io;
use std::ops::Range;

use memmap2::{Advice, MmapMut, MmapOptions, MmapRaw};

/// Direct I/O is aligned to so many bytes; no page is smaller.
pub const PAGE_BYTES: u64 = 4096;

/// Bytes of the kernel's pages, in which memory is taken: on ARM64 they may have 64 KiB.
pub fn kernel_page_bytes() -> u64 {
    rustix::param::page_size() as u64
}

/// Bytes of a huge page (of the PMD level).
pub const HUGE_PAGE_BYTES: u64 = 2 << 20;

/// A shared, writable mapping of a part of one file.
pub struct FileMap {
    map: MmapMut,
}

impl FileMap {
    /// Maps `len` bytes from `offset` of a file that no other code can change or truncate: one
    /// without a name, or with a name in a directory that only this process enters.
    ///
    /// The pages must exist before they are touched (`fallocate`, or [`FileMap::populate`]), or a
    /// full file system ends in SIGBUS.
    ///
    /// # Errors
    /// Whatever `mmap` reports; InvalidInput when `len` does not fit the address space.
    pub fn of_private_file(file: &File, offset: u64, len: u64) -> io::Result<Self> {
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut options = MmapOptions::new();
        options.offset(offset).len(len);
        // SAFETY: the caller's file is private to this process (see above), every access to its
        // bytes in this process goes through this one mapping while it lives, and it is never
        // truncated, so the memory stays valid and unaliased.
        let map = unsafe { options.map_mut(file) }?;
        Ok(FileMap { map })
    }

    /// Asks for small pages: a file of a few KiB then does not take a whole huge page.
    ///
    /// # Errors
    /// Whatever `madvise` reports.
    pub fn use_small_pages(&self) -> io::Result<()> {
        self.map.advise(Advice::NoHugePage)
    }

    /// Makes all pages present and writable now.
    ///
    /// # Errors
    /// EFAULT where touching them would have been a SIGBUS (the file system is full), EINVAL
    /// before Linux 5.14.
    pub fn populate(&self) -> io::Result<()> {
        self.map.advise(Advice::PopulateWrite)
    }

    /// The mapped bytes.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.map
    }
}

/// A shared, read-only mapping of a whole file.
pub struct ReadMap {
    map: memmap2::Mmap,
}

impl ReadMap {
    /// Maps a file that nobody changes or truncates while it is mapped: a replica, which is whole or
    /// absent, or a file of the caller's own.
    ///
    /// # Errors
    /// Whatever `mmap` reports.
    pub fn of_unchanging_file(file: &File) -> io::Result<Self> {
        // SAFETY: by the condition above nobody changes the bytes or takes them away (SIGBUS) while
        // the mapping lives.
        let map = unsafe { memmap2::Mmap::map(file) }?;
        Ok(ReadMap { map })
    }

    /// The mapped bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }
}

/// A shared, read-only mapping of a file that is being filled.
#[derive(Debug)]
pub struct GrowingMap {
    map: MmapRaw,
}

impl GrowingMap {
    /// Maps all of a file that is never truncated.
    ///
    /// # Errors
    /// Whatever `mmap` reports.
    pub fn of_growing_file(file: &File) -> io::Result<Self> {
        let map = MmapOptions::new().map_raw_read_only(file)?;
        Ok(GrowingMap { map })
    }

    /// The bytes of a range that has been filled, and that nobody changes any more; what lies behind
    /// the end is cut off.
    pub fn filled_bytes(&self, range: Range<u64>) -> &[u8] {
        let within =
            |at: u64| usize::try_from(at).map_or(self.map.len(), |at| at.min(self.map.len()));
        let (start, end) = (within(range.start), within(range.end));
        let first = self.map.as_ptr().wrapping_add(start);
        // SAFETY: `start <= end <= len`, so the slice lies within the mapping, which lives as long as
        // `self`; the file is never truncated, and by the condition above nobody writes these bytes.
        unsafe { std::slice::from_raw_parts(first, end.saturating_sub(start)) }
    }
}

/// Zeroed anonymous memory, aligned to a huge page and made of huge pages where the kernel has
/// some: direct I/O needs one segment where 512 small pages would need 512.
pub struct HugeBuffer {
    map: MmapMut,
    start: usize,
    len: usize,
}

impl HugeBuffer {
    /// `len` bytes.
    ///
    /// # Errors
    /// Whatever `mmap` reports.
    pub fn new(len: usize) -> io::Result<Self> {
        let huge = usize::try_from(HUGE_PAGE_BYTES).unwrap_or(usize::MAX);
        let total = len.checked_add(huge).ok_or(io::ErrorKind::InvalidInput)?;
        let map = MmapMut::map_anon(total)?;
        let start = map.as_ptr().align_offset(huge);
        // Only a wish: kernels without huge pages say EINVAL.
        let _ = map.advise(Advice::HugePage);
        Ok(HugeBuffer { map, start, len })
    }

    /// The buffer's bytes.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.map[self.start..self.start + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn what_is_filled_can_be_read_while_more_comes() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(2 * PAGE_BYTES + 3).unwrap();
        let map = GrowingMap::of_growing_file(&file).unwrap();
        file.write_all_at(&[7; 4096], PAGE_BYTES).unwrap();
        assert!(map.filled_bytes(4096..8192).iter().all(|byte| *byte == 7));
        file.write_all_at(&[8; 3], 2 * PAGE_BYTES).unwrap();
        assert_eq!(map.filled_bytes(8191..1 << 40), [7, 8, 8, 8]);
        assert!(map.filled_bytes(1 << 40..1 << 41).is_empty());
    }

    #[test]
    fn disjoint_parts_are_filled_by_several_threads() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4 * PAGE_BYTES).unwrap();
        let mut map = FileMap::of_private_file(&file, 0, 4 * PAGE_BYTES).unwrap();
        map.populate().unwrap();
        std::thread::scope(|scope| {
            for (number, part) in map.bytes_mut().chunks_mut(4096).enumerate() {
                scope.spawn(move || part.fill(u8::try_from(number).unwrap() + 1));
            }
        });
        drop(map);
        let mut byte = [0];
        for number in 0..4u8 {
            file.read_exact_at(&mut byte, u64::from(number) * 4096 + 4095)
                .unwrap();
            assert_eq!(byte[0], number + 1);
        }
    }

    #[test]
    fn a_buffer_starts_on_a_huge_page() {
        let mut buffer = HugeBuffer::new(3 << 20).unwrap();
        let bytes = buffer.bytes_mut();
        assert_eq!(bytes.len(), 3 << 20);
        assert_eq!(bytes.as_ptr().align_offset(2 << 20), 0);
        bytes.fill(7);
    }
}
