//! What is copied: a trait, which is also where tests inject faults, a file, and a replica in place of its home.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::Advice;

use crate::errno;
use crate::identity::Identity;
use crate::pool::{Reach, reopen_direct};
use crate::replica::Lent;
use crate::sys::map::PAGE_BYTES;

/// A file that can be read at any offset by several threads.
pub trait Source: Send + Sync {
    /// What the file is now.
    ///
    /// # Errors
    /// Whatever `fstat` reports.
    fn identity(&self) -> io::Result<Identity>;

    /// Reads to the start of `bytes` from `offset`, possibly less than fits; 0 is the end of the
    /// file. `bytes` may reach beyond the end up to the end of its page, so that direct I/O of the
    /// tail is possible.
    ///
    /// # Errors
    /// Whatever `pread` reports.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;
}

/// A part of a file that the kernel may have in its page cache already.
pub const KEPT_BLOCK_BYTES: u64 = 256 << 10;

/// An open file, read by direct I/O where its file system can.
#[derive(Debug)]
pub struct FileSource {
    file: Arc<File>,
    direct: Option<File>,
    direct_refused: AtomicBool,
    kept: HashSet<u64>,
}

impl FileSource {
    /// Takes a file that is open for reading. It is opened a second time for direct I/O, through
    /// the same mount; where that is refused all is read through the page cache.
    pub fn new(file: impl Into<Arc<File>>) -> Self {
        let file = file.into();
        FileSource {
            direct: reopen_direct(&file, false),
            file,
            direct_refused: AtomicBool::new(false),
            kept: HashSet::new(),
        }
    }

    /// The same; these blocks of [`KEPT_BLOCK_BYTES`] were read through the page cache a moment ago,
    /// and are had from there.
    #[must_use]
    pub fn keeping(mut self, kept: HashSet<u64>) -> Self {
        if !kept.is_empty() {
            // What is gone from there is read as it is asked for.
            let _ = rustix::fs::fadvise(&*self.file, 0, None, Advice::Random);
        }
        self.kept = kept;
        self
    }

    /// The same without direct I/O.
    pub fn buffered(file: File) -> Self {
        FileSource {
            file: Arc::new(file),
            direct: None,
            direct_refused: AtomicBool::new(true),
            kept: HashSet::new(),
        }
    }

    /// Whether direct I/O is used, as far as is known by now.
    pub fn is_direct(&self) -> bool {
        self.direct.is_some() && !self.direct_refused.load(Ordering::Relaxed)
    }
}

impl Source for FileSource {
    fn identity(&self) -> io::Result<Identity> {
        Identity::of_fd(&*self.file)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        if self.kept.contains(&(offset / KEPT_BLOCK_BYTES)) {
            let rest = KEPT_BLOCK_BYTES - offset % KEPT_BLOCK_BYTES;
            let rest = usize::try_from(rest).unwrap_or(usize::MAX).min(bytes.len());
            return self.file.read_at(&mut bytes[..rest], offset);
        }
        let page = usize::try_from(PAGE_BYTES).unwrap_or(1);
        let aligned = offset.is_multiple_of(PAGE_BYTES)
            && bytes.len().is_multiple_of(page)
            && bytes.as_ptr().align_offset(page) == 0;
        if let Some(direct) = self.direct.as_ref().filter(|_| aligned && self.is_direct()) {
            match direct.read_at(bytes, offset) {
                Err(error) if errno::refuses_direct_io(&error) => {
                    self.direct_refused.store(true, Ordering::Relaxed);
                }
                other => return other,
            }
        }
        self.file.read_at(bytes, offset)
    }
}

/// A home whose bytes come from a replica, as long as that can be read: what fails there is read from the home,
/// and everything after it. Whether the file is still the same is asked of the home alone.
pub struct LentSource {
    home: Arc<dyn Source>,
    replica: FileSource,
    is_given_up: AtomicBool,
    // Given back last.
    lent: Lent,
}

impl LentSource {
    /// Reads `lent` in place of `home`.
    pub fn new(home: Arc<dyn Source>, lent: Lent) -> Self {
        LentSource {
            home,
            replica: FileSource::new(lent.shared_file()),
            is_given_up: AtomicBool::new(false),
            lent,
        }
    }

    /// What the replica has; `None` when the home is to be asked. A pool that does not answer is not asked: the
    /// home may.
    fn read_lent(&self, bytes: &mut [u8], offset: u64) -> Option<io::Result<usize>> {
        let pool = self.lent.pool();
        if self.is_given_up.load(Ordering::Relaxed) || pool.reach() != Reach::Answers {
            return None;
        }
        let step = pool.step("copy.lent");
        let why = match step.map(|()| self.replica.read_at(bytes, offset)) {
            // Nobody asks beyond the end of the file: less than that is less than was verified.
            Ok(Ok(0)) => "it is too short".to_owned(),
            Ok(Err(error)) if error.kind() != io::ErrorKind::Interrupted => error.to_string(),
            Ok(came) => return Some(came),
            Err(error) => error.to_string(),
        };
        if !self.is_given_up.swap(true, Ordering::Relaxed) {
            let pool = pool.name();
            tracing::warn!(pool, offset, why, "a replica cannot be read: its home is");
        }
        None
    }
}

impl Source for LentSource {
    fn identity(&self) -> io::Result<Identity> {
        self.home.identity()
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        match self.read_lent(bytes, offset) {
            Some(came) => came,
            None => self.home.read_at(bytes, offset),
        }
    }
}
