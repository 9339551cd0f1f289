//! A copy that is being made, without a name that anybody could open. In memory its pages are made as
//! they are filled, but for those that its claim brings along: clearing all of a large file first would
//! keep its first reader waiting.
//!
//! Dropping it at any moment removes it. A crash at any instruction leaves nothing (a file
//! without a name), or a `.partial` or `.meta` that adoption removes, or a complete replica.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{Advice, AtFlags, CWD, Mode, OFlags, RenameFlags};

use super::meta::{Digest, META_BYTES_MAX, ReplicaId, ReplicaMeta, ReplicaOrigin};
use super::{Replica, allocated_bytes, unlink};
use crate::errno;
use crate::error::{ErrorKind, FsError, FsResult};
use crate::pool::{Pool, Reservation, open_unnamed, preallocate, reopen_direct};
use crate::sys::map::{FileMap, HUGE_PAGE_BYTES, PAGE_BYTES, kernel_page_bytes};

/// Bytes allocated at a time: the pool's books are closed meanwhile.
const ALLOCATION_STEP_BYTES: u64 = 256 << 20;

/// A copy under construction.
#[derive(Debug)]
pub struct Partial {
    id: ReplicaId,
    origin: ReplicaOrigin,
    file: Arc<File>,
    /// The same for direct I/O: of a device no second copy in this machine's memory is wanted.
    direct: Option<File>,
    /// Its name below `partial/`, where the file system has no files without one.
    name: Option<PartialName>,
    pool: Arc<Pool>,
    // Given back after the file is closed.
    claim: Mutex<Claim>,
}

/// The room that is promised, and which huge pages of it are made; the tail has none.
#[derive(Debug)]
struct Claim {
    reservation: Reservation,
    made: Vec<bool>,
}

impl Partial {
    /// Makes the file of `origin.source.size` bytes. Outside memory all of them are allocated:
    /// filling it can not run out of space; in memory see `Partial::allocate`. Below one huge
    /// page, and in the tail of larger files, small pages are used, so that a file of 4 KiB takes
    /// 4 KiB also on a tmpfs mounted with `huge=always`.
    ///
    /// # Errors
    /// NoSpace when somebody outside took the room, Io, and what the seam injects.
    pub fn create(mut claim: Reservation, origin: ReplicaOrigin) -> FsResult<Self> {
        let pool = Arc::clone(claim.pool());
        let id = ReplicaId::random();
        let failed = |error: io::Error| FsError::io("create replica", &origin.path, error);
        pool.step("partial.create")?;
        let ready = claim.take_ready();
        let ready_bytes = ready.as_ref().map_or(0, |ready| ready.bytes);
        let unnamed = match ready {
            Some(ready) => Some(ready.file),
            None => open_unnamed(pool.partial_directory()).map_err(failed)?,
        };
        let (file, name) = match unnamed {
            Some(file) => (file, None),
            None => {
                let name = PartialName {
                    pool: Arc::clone(&pool),
                    name: id.partial_name(),
                };
                (
                    create_new(pool.partial_directory(), &name.name).map_err(failed)?,
                    Some(name),
                )
            }
        };
        let claim = Claim {
            reservation: claim,
            made: vec![true; huge_page(ready_bytes)],
        };
        let partial = Partial {
            id,
            origin,
            direct: match pool.is_memory() {
                true => None,
                false => reopen_direct(&file, true),
            },
            file: Arc::new(file),
            name,
            pool: Arc::clone(&pool),
            claim: Mutex::new(claim),
        };
        pool.step("partial.allocate")?;
        partial.prepare()?;
        Ok(partial)
    }

    /// What it will be a copy of.
    pub fn origin(&self) -> &ReplicaOrigin {
        &self.origin
    }

    /// Size in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.origin.source.size
    }

    /// The pool that it is made in.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// The file to fill.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// The same descriptor, for who reads what is there already. While it is kept the replica that
    /// this becomes is in use.
    pub(crate) fn shared_file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// Fills a part: by direct I/O as far as there are whole pages at whole pages, where that goes.
    /// `bytes` begins at a page.
    ///
    /// # Errors
    /// Whatever `pwrite` reports.
    pub(crate) fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let page = usize::try_from(PAGE_BYTES).unwrap_or(1);
        let whole = bytes.len() / page * page;
        let (whole, rest) = bytes.split_at(whole);
        let direct = self
            .direct
            .as_ref()
            .filter(|_| offset.is_multiple_of(PAGE_BYTES));
        let written = direct.map(|direct| direct.write_all_at(whole, offset));
        match written {
            Some(Ok(())) => self.file.write_all_at(rest, offset + whole.len() as u64),
            Some(Err(error)) if !errno::refuses_direct_io(&error) => Err(error),
            _ => self.file.write_all_at(bytes, offset),
        }
    }

    /// What was read back is not kept in this machine's memory beside the pool's.
    pub(crate) fn forget_pages(&self, range: &Range<u64>) {
        if let Some(len) = std::num::NonZeroU64::new(range.end - range.start)
            && !self.pool.is_memory()
        {
            // It is only a wish.
            let _ = rustix::fs::fadvise(&*self.file, range.start, Some(len), Advice::DontNeed);
        }
    }

    fn prepare(&self) -> FsResult<()> {
        let failed = |error| self.allocation_failed(error);
        let size_bytes = self.size_bytes();
        self.file.set_len(size_bytes).map_err(failed)?;
        let mut claim = self.claim();
        let mut head_bytes = size_bytes;
        if self.pool.is_memory() {
            head_bytes -= size_bytes % HUGE_PAGE_BYTES;
            claim.made.resize(huge_page(head_bytes), false);
        } else {
            let mut at = 0;
            while at < head_bytes {
                let step = ALLOCATION_STEP_BYTES.min(head_bytes - at);
                claim
                    .reservation
                    .allocate(step, || preallocate(&self.file, at, step))
                    .map_err(failed)?;
                at += step;
            }
        }
        let tail_bytes = size_bytes - head_bytes;
        if tail_bytes > 0 {
            let pages = tail_bytes.next_multiple_of(kernel_page_bytes());
            let populate = || populate_small(&self.file, head_bytes, tail_bytes);
            claim
                .reservation
                .allocate(pages, populate)
                .map_err(failed)?;
        }
        Ok(())
    }

    /// Makes the pages of `range`, which is about to be filled: in memory touching others may end in
    /// SIGBUS. Nothing to do for ranges that have theirs.
    ///
    /// # Errors
    /// NoSpace when somebody outside took the room, Io.
    pub(crate) fn allocate(&self, range: &Range<u64>) -> FsResult<()> {
        let first = huge_page(range.start);
        let end = huge_page(range.end.next_multiple_of(HUGE_PAGE_BYTES));
        for page in first..end {
            let mut claim = self.claim();
            if claim.made.get(page) == Some(&false) {
                let at = page as u64 * HUGE_PAGE_BYTES;
                let make = || preallocate(&self.file, at, HUGE_PAGE_BYTES);
                let made = claim.reservation.allocate(HUGE_PAGE_BYTES, make);
                made.map_err(|error| self.allocation_failed(error))?;
                claim.made[page] = true;
            }
        }
        Ok(())
    }

    fn allocation_failed(&self, error: io::Error) -> FsError {
        if errno::is_out_of_space(&error) {
            let free_bytes = self.pool.usage().map_or(0, |usage| usage.free_bytes);
            let kind = ErrorKind::NoSpace {
                needed_bytes: self.size_bytes(),
                free_bytes,
            };
            FsError::new("allocate replica", kind).at(&self.origin.path)
        } else {
            FsError::io("allocate replica", &self.origin.path, error)
        }
    }

    fn claim(&self) -> MutexGuard<'_, Claim> {
        self.claim.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the verified copy its name. Its metadata is on stable storage before.
    ///
    /// # Errors
    /// Io, and what the seam injects; nothing is left of the copy then.
    pub fn publish(self, digest: Digest) -> FsResult<Replica> {
        let pool = Arc::clone(self.pool());
        let meta = ReplicaMeta::new(self.origin.clone(), digest);
        let mut names = Names {
            pool: &pool,
            id: self.id,
            keep: false,
        };
        let (file, occupied_bytes) = self.name_it(&pool, &meta)?;
        names.keep = true;
        let Partial {
            id,
            file: writable,
            direct,
            claim,
            ..
        } = self;
        drop((writable, direct));
        let claim = claim.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut claim = claim.reservation;
        claim.serve(occupied_bytes);
        Ok(Replica {
            id,
            meta,
            file: Arc::new(file),
            claim,
        })
    }

    /// Returns the file as it was opened by its new name, and the bytes that the replica takes.
    fn name_it(&self, pool: &Pool, meta: &ReplicaMeta) -> FsResult<(File, u64)> {
        let failed = |error: io::Error| FsError::io("publish replica", &self.origin.path, error);
        pool.step("publish.sync")?;
        if !pool.is_memory() {
            self.file.sync_all().map_err(failed)?;
        }
        pool.step("publish.metadata")?;
        let meta_bytes = write_metadata(pool, self.id, meta).map_err(failed)?;
        pool.step("publish.link")?;
        self.link(pool).map_err(failed)?;
        pool.step("publish.open")?;
        let file = self.open_published(pool).map_err(failed)?;
        pool.step("publish.sync_directory")?;
        if !pool.is_memory() {
            rustix::fs::fsync(pool.replicas_directory()).map_err(|error| failed(error.into()))?;
        }
        let data_bytes = allocated_bytes(&file).map_err(|error| failed(error.into()))?;
        pool.step("publish.done")?;
        Ok((file, data_bytes.saturating_add(meta_bytes)))
    }

    fn link(&self, pool: &Pool) -> io::Result<()> {
        let to = pool.replicas_directory();
        let name = self.id.data_name();
        if let Some(partial) = &self.name {
            let from = pool.partial_directory();
            let flags = RenameFlags::NOREPLACE;
            return Ok(rustix::fs::renameat_with(
                from,
                &partial.name,
                to,
                &name,
                flags,
            )?);
        }
        match rustix::fs::linkat(&*self.file, "", to, &name, AtFlags::EMPTY_PATH) {
            // Without CAP_DAC_READ_SEARCH the way through procfs is left.
            Err(error) if errno::is_missing(error) || errno::is_refused(error) => {
                let from = format!("/proc/self/fd/{}", self.file.as_raw_fd());
                Ok(rustix::fs::linkat(
                    CWD,
                    from,
                    to,
                    &name,
                    AtFlags::SYMLINK_FOLLOW,
                )?)
            }
            other => Ok(other?),
        }
    }

    /// Opens by name what was just linked, read-only, and makes sure that it is the same file.
    fn open_published(&self, pool: &Pool) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let name = self.id.data_name();
        let directory = pool.replicas_directory();
        let file = File::from(rustix::fs::openat(directory, &name, flags, Mode::empty())?);
        let (ours, theirs) = (rustix::fs::fstat(&*self.file)?, rustix::fs::fstat(&file)?);
        if (ours.st_dev, ours.st_ino) != (theirs.st_dev, theirs.st_ino) {
            return Err(io::Error::other(
                "the replica was replaced while it was published",
            ));
        }
        Ok(file)
    }
}

/// A name below `partial/`, removed on drop; after a rename there is nothing left to remove.
#[derive(Debug)]
struct PartialName {
    pool: Arc<Pool>,
    name: String,
}

impl Drop for PartialName {
    fn drop(&mut self) {
        let directory = self.pool.partial_directory();
        // Gone when it was renamed; what cannot be removed now is removed at adoption.
        let _ = rustix::fs::unlinkat(directory, &self.name, AtFlags::empty());
    }
}

/// The names of a replica that is being published: removed on drop unless kept.
struct Names<'a> {
    pool: &'a Pool,
    id: ReplicaId,
    keep: bool,
}

impl Drop for Names<'_> {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        for name in [self.id.data_name(), self.id.meta_name()] {
            if let Err(error) = unlink(self.pool, &name) {
                tracing::warn!(%error, "a copy that failed keeps its name until the next start");
            }
        }
    }
}

fn create_new(directory: &std::os::fd::OwnedFd, name: &str) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    Ok(File::from(rustix::fs::openat(
        directory, name, flags, mode,
    )?))
}

fn huge_page(offset: u64) -> usize {
    usize::try_from(offset / HUGE_PAGE_BYTES).unwrap_or(usize::MAX)
}

/// Allocates `len` bytes at `offset`, which lies on a huge page, in small pages.
fn populate_small(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let map = FileMap::of_private_file(file, offset, len.next_multiple_of(kernel_page_bytes()))?;
    match map.use_small_pages().and_then(|()| map.populate()) {
        // A kernel without huge pages, or before 5.14.
        Err(error) if errno::is_unsupported(&error) => preallocate(file, offset, len),
        other => other,
    }
}

/// Writes the metadata under its name, durably; returns the bytes that it takes.
fn write_metadata(pool: &Pool, id: ReplicaId, meta: &ReplicaMeta) -> io::Result<u64> {
    let bytes = meta.to_bytes()?;
    let len = bytes.len() as u64;
    if len > META_BYTES_MAX {
        return Err(io::Error::other("the metadata of the replica is too long"));
    }
    let file = create_new(pool.replicas_directory(), &id.meta_name())?;
    if pool.is_memory() {
        file.set_len(len)?;
        populate_small(&file, 0, len)?;
    }
    file.write_all_at(&bytes, 0)?;
    if !pool.is_memory() {
        file.sync_all()?;
    }
    Ok(allocated_bytes(&file)?)
}
