//! A pool: a directory for copies, on a tmpfs of our own or an existing one, and its space.
//!
//! Space is what the file system says (`statfs`), less what is promised: every byte of a pool is
//! reserved by a [`Reservation`] before it is allocated, and that guard stays with the copy
//! through its whole life, so that nothing is counted twice or forgotten. The pool knows nothing
//! of files and replicas; dropping it unmounts nothing, since replicas outlive the daemon.
//!
//! Layout: `replicas/` holds complete copies with their metadata, `partial/` what has no name yet
//! where the file system has no `O_TMPFILE`. All directories have mode 0700 and belong to us; no
//! symlink is ever followed.

mod layout;
mod prefault;
mod reservation;
mod speed;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::{ErrorKind, FsError, FsResult};
use crate::ids::PoolId;
use crate::seam::Seam;
use crate::sys::map::kernel_page_bytes;
use crate::tmpfs::{self, DroppedOption, TmpfsSettings};
use layout::Layout;
pub(crate) use layout::{open_unnamed, preallocate, reopen_direct};
pub use prefault::PREFAULT_BYTES_MIN;
use prefault::{Prefaulted, ReadyFile};
pub use reservation::Reservation;

/// What a pool is made of.
#[derive(Clone, Debug)]
pub enum PoolKind {
    /// A tmpfs that we mount, or find mounted by an earlier run.
    Tmpfs(TmpfsSettings),
    /// A directory on a file system that exists already; of it at most so many bytes.
    Directory {
        /// The limit in bytes.
        capacity_bytes: u64,
    },
}

/// What it takes to connect a pool.
#[derive(Clone)]
pub struct PoolSettings {
    /// Its number.
    pub id: PoolId,
    /// Its name, for people.
    pub name: String,
    /// Where it is; an absolute path.
    pub path: PathBuf,
    /// What it is made of.
    pub kind: PoolKind,
    /// Speed in bytes per second; measured by [`Pool::measure_speed`] where it is not configured.
    pub speed_bytes_per_sec: Option<u64>,
    /// Told of every step of a copy's life in this pool; [`crate::seam::NoSeam`] but for tests.
    pub seam: Arc<dyn Seam>,
}

/// The space of a pool at one moment, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// All there is.
    pub capacity_bytes: u64,
    /// Allocated, draining and unfinished copies included.
    pub used_bytes: u64,
    /// The part of `used_bytes` that belongs to dropped replicas which somebody still uses.
    pub draining_bytes: u64,
    /// Promised to copies and not allocated yet.
    pub reserved_bytes: u64,
    /// What a new reservation can have.
    pub free_bytes: u64,
    /// The part of `free_bytes` whose memory is ready for the next copies.
    pub prefaulted_bytes: u64,
}

#[derive(Debug, Default)]
struct Ledger {
    reserved_bytes: u64,
    occupied_bytes: u64,
    draining_bytes: u64,
    replicas_serving: usize,
    claims: usize,
    closing: bool,
    prefaulted: Prefaulted,
}

impl Ledger {
    /// Nothing more is promised, and no file of ours keeps a tmpfs mounted.
    fn close(&mut self) {
        self.closing = true;
        self.prefaulted = Prefaulted::default();
    }
}

/// Whether the memory behind a pool can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It answers.
    Answers = 0,
    /// It does not, and may again: nothing new is read from it, and nothing of it is forgotten.
    Silent = 1,
    /// It is gone for good, with all that was in it.
    Lost = 2,
}

/// A connected pool.
pub struct Pool {
    id: PoolId,
    name: String,
    path: PathBuf,
    directory: OwnedFd,
    replicas: OwnedFd,
    partial: OwnedFd,
    is_memory: bool,
    mounted: bool,
    adopted: bool,
    dropped_options: Vec<DroppedOption>,
    directory_limit_bytes: AtomicU64,
    speed_bytes_per_sec: AtomicU64,
    reach: AtomicU8,
    seam: Arc<dyn Seam>,
    ledger: Mutex<Ledger>,
    /// Told whenever a claim is given back.
    room: Condvar,
}

impl Pool {
    /// Mounts or finds the pool, checks that it is ours alone, and opens it.
    ///
    /// # Errors
    /// Io; NotPermitted when the directory is not ours or writable by others; Busy when another
    /// daemon uses the pool, or the directory to mount at is not empty.
    pub fn connect(settings: PoolSettings) -> FsResult<Arc<Pool>> {
        let path = settings.path.clone();
        let prepared = layout::prepare(&path, &settings.kind)?;
        let opened = Layout::open(&path).inspect_err(|_| {
            if prepared.mounted && !prepared.adopted {
                // What we mounted a moment ago is not left behind; the first error counts.
                let _ = tmpfs::unmount(&path);
            }
        })?;
        let directory_limit_bytes = match settings.kind {
            PoolKind::Tmpfs(_) => u64::MAX,
            PoolKind::Directory { capacity_bytes } => capacity_bytes,
        };
        Ok(Arc::new(Pool {
            id: settings.id,
            name: settings.name,
            path,
            is_memory: opened.is_memory,
            directory: opened.directory,
            replicas: opened.replicas,
            partial: opened.partial,
            mounted: prepared.mounted,
            adopted: prepared.adopted,
            dropped_options: prepared.dropped_options,
            directory_limit_bytes: AtomicU64::new(directory_limit_bytes),
            speed_bytes_per_sec: AtomicU64::new(settings.speed_bytes_per_sec.unwrap_or(0)),
            reach: AtomicU8::new(Reach::Answers as u8),
            seam: settings.seam,
            ledger: Mutex::default(),
            room: Condvar::new(),
        }))
    }

    /// Its number.
    pub fn id(&self) -> PoolId {
        self.id
    }

    /// Its name, for people.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is a tmpfs of our own.
    pub fn is_mounted_by_us(&self) -> bool {
        self.mounted
    }

    /// Whether it existed before it was connected.
    pub fn was_adopted(&self) -> bool {
        self.adopted
    }

    /// Whether it lies on a tmpfs: copies are filled through a mapping then.
    pub fn is_memory(&self) -> bool {
        self.is_memory
    }

    /// Mount options that this kernel refused.
    pub fn dropped_options(&self) -> &[DroppedOption] {
        &self.dropped_options
    }

    /// Rated speed in bytes per second; 0 while it was neither configured nor measured.
    pub fn speed_bytes_per_sec(&self) -> u64 {
        self.speed_bytes_per_sec.load(Ordering::Relaxed)
    }

    /// Rates the pool.
    pub fn set_speed_bytes_per_sec(&self, speed: u64) {
        self.speed_bytes_per_sec.store(speed, Ordering::Relaxed);
    }

    /// Whether the memory behind it can be had, as far as is known.
    pub fn reach(&self) -> Reach {
        match self.reach.load(Ordering::Acquire) {
            0 => Reach::Answers,
            1 => Reach::Silent,
            _ => Reach::Lost,
        }
    }

    /// Says whether the memory behind it can be had. What is lost stays lost.
    pub fn set_reach(&self, reach: Reach) {
        let lost = Reach::Lost as u8;
        // Whoever lost it has the last word.
        let _ = self
            .reach
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| {
                (now != lost).then_some(reach as u8)
            });
    }

    /// The directory of complete replicas.
    pub fn replicas_directory(&self) -> &OwnedFd {
        &self.replicas
    }

    /// The directory in which copies are made.
    pub fn partial_directory(&self) -> &OwnedFd {
        &self.partial
    }

    /// The pool's own directory.
    pub fn directory(&self) -> &OwnedFd {
        &self.directory
    }

    /// Announces a step to the seam.
    pub(crate) fn step(&self, name: &'static str) -> FsResult<()> {
        self.seam.step(name)
    }

    /// The space of the pool now.
    ///
    /// # Errors
    /// Io when the file system does not answer.
    pub fn usage(&self) -> FsResult<Usage> {
        self.usage_under(&self.ledger())
    }

    /// Bytes that a copy of `size_bytes` takes in this pool: whole pages, and one for its
    /// metadata.
    pub fn footprint_bytes(&self, size_bytes: u64) -> u64 {
        let page_bytes = kernel_page_bytes();
        size_bytes
            .div_ceil(page_bytes)
            .saturating_add(1)
            .saturating_mul(page_bytes)
    }

    /// Claims room for a copy of `size_bytes`. Given back when the guard is dropped.
    ///
    /// # Errors
    /// TooLarge when it could never fit, NoSpace when it does not fit now, PoolGone when the pool
    /// is being disconnected, Io.
    pub fn try_reserve(self: &Arc<Self>, size_bytes: u64) -> FsResult<Reservation> {
        self.reserve(size_bytes, false)
    }

    /// The same for a copy that is about to be made: of this room, what memory is ready comes with it.
    ///
    /// # Errors
    /// As [`Pool::try_reserve`].
    pub fn try_reserve_ready(self: &Arc<Self>, size_bytes: u64) -> FsResult<Reservation> {
        self.reserve(size_bytes, true)
    }

    fn reserve(self: &Arc<Self>, size_bytes: u64, with_ready: bool) -> FsResult<Reservation> {
        let needed_bytes = self.footprint_bytes(size_bytes);
        let mut ledger = self.ledger();
        if ledger.closing || self.reach() != Reach::Answers {
            return Err(FsError::new("reserve", ErrorKind::PoolGone).at_file(&self.path));
        }
        let Usage {
            capacity_bytes,
            free_bytes,
            ..
        } = self.usage_under(&ledger)?;
        let kind = if needed_bytes > capacity_bytes {
            ErrorKind::TooLarge {
                needed_bytes,
                capacity_bytes,
            }
        } else if needed_bytes > free_bytes {
            ErrorKind::NoSpace {
                needed_bytes,
                free_bytes,
            }
        } else {
            let ready = with_ready
                .then(|| ledger.prefaulted.take(size_bytes))
                .flatten();
            let ready_bytes = ready.as_ref().map_or(0, |ready| ready.bytes);
            let reserved_bytes = needed_bytes - ready_bytes;
            // What is promised is there: memory that is ready for others makes way.
            let elsewhere = ready_bytes + ledger.prefaulted.bytes();
            let unused_bytes = free_bytes.saturating_sub(elsewhere);
            let missing_bytes = reserved_bytes.saturating_sub(unused_bytes);
            ledger.prefaulted.give_back(missing_bytes);
            ledger.reserved_bytes += reserved_bytes;
            ledger.occupied_bytes += ready_bytes;
            ledger.claims += 1;
            let pool = Arc::clone(self);
            return Ok(Reservation::new(pool, reserved_bytes, ready_bytes, ready));
        };
        Err(FsError::new("reserve", kind).at_file(&self.path))
    }

    /// Waits until a claim is given back, at most `patience`. False at once when nothing drains,
    /// and so nothing becomes free by waiting.
    pub fn wait_while_draining(&self, patience: Duration) -> bool {
        let ledger = self.ledger();
        if ledger.draining_bytes == 0 {
            return false;
        }
        let _ = self.room.wait_timeout(ledger, patience);
        true
    }

    /// Claims what a complete replica found in the pool occupies already.
    pub(crate) fn claim_existing(self: &Arc<Self>, occupied_bytes: u64) -> Reservation {
        let mut ledger = self.ledger();
        ledger.claims += 1;
        ledger.occupied_bytes += occupied_bytes;
        Reservation::new(Arc::clone(self), 0, occupied_bytes, None)
    }

    /// Changes the capacity at run time.
    ///
    /// # Errors
    /// NoSpace below what is used and reserved; Io.
    pub fn resize(&self, capacity_bytes: u64) -> FsResult<()> {
        let mut ledger = self.ledger();
        let usage = self.usage_under(&ledger)?;
        let needed_bytes = usage.used_bytes.saturating_add(usage.reserved_bytes);
        if capacity_bytes < needed_bytes {
            let kind = ErrorKind::NoSpace {
                needed_bytes,
                free_bytes: capacity_bytes,
            };
            return Err(FsError::new("resize", kind).at_file(&self.path));
        }
        let ready_bytes = capacity_bytes - needed_bytes;
        let surplus = usage.prefaulted_bytes.saturating_sub(ready_bytes);
        ledger.prefaulted.give_back(surplus);
        if self.mounted {
            return tmpfs::resize(&self.path, capacity_bytes);
        }
        self.directory_limit_bytes
            .store(capacity_bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Takes the pool out of use: no new reservation is given, and a tmpfs of ours is unmounted as
    /// soon as the last copy into it has ended and the last replica is gone, which may be now. Asking
    /// again is harmless.
    ///
    /// # Errors
    /// Io.
    pub fn disconnect(&self) -> FsResult<()> {
        let mut ledger = self.ledger();
        ledger.close();
        self.unmount_when_empty(&ledger)
    }

    /// Takes the pool out of use for good, whatever is still in it: a tmpfs of ours is unmounted at
    /// once, and the kernel frees what readers hold when they let go. For the end of the daemon, after
    /// which nobody would unmount it.
    ///
    /// # Errors
    /// Io.
    pub fn abandon(&self) -> FsResult<()> {
        let mut ledger = self.ledger();
        ledger.close();
        if self.mounted {
            unmount(&self.path)
        } else {
            Ok(())
        }
    }

    /// Whether [`Pool::disconnect`] succeeded.
    pub fn is_disconnected(&self) -> bool {
        self.ledger().closing
    }

    /// Whether a replica, a reader of a dropped one, or a copy that has not ended has any of its space.
    pub fn is_held(&self) -> bool {
        self.ledger().claims > 0
    }

    /// Number of replicas in service.
    pub fn replicas_serving(&self) -> usize {
        self.ledger().replicas_serving
    }

    fn unmount_when_empty(&self, ledger: &Ledger) -> FsResult<()> {
        if !(ledger.closing && self.mounted && ledger.claims == 0) {
            return Ok(());
        }
        unmount(&self.path)
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // Plain numbers, changed in single statements: true even after a panic elsewhere.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn usage_under(&self, ledger: &Ledger) -> FsResult<Usage> {
        let stat = rustix::fs::fstatfs(&self.directory).map_err(|error| {
            FsError::new("statfs", ErrorKind::Io(error.into())).at_file(&self.path)
        })?;
        let block_bytes = u64::try_from(stat.f_bsize).unwrap_or(0);
        let bytes = |blocks: u64| blocks.saturating_mul(block_bytes);
        let prefaulted_bytes = ledger.prefaulted.bytes();
        let available_bytes = bytes(stat.f_bavail).saturating_add(prefaulted_bytes);
        let (capacity_bytes, used_bytes) = if self.mounted {
            let allocated = bytes(stat.f_blocks.saturating_sub(stat.f_bfree));
            (
                bytes(stat.f_blocks),
                allocated.saturating_sub(prefaulted_bytes),
            )
        } else {
            let limit = self.directory_limit_bytes.load(Ordering::Relaxed);
            let used = ledger.occupied_bytes;
            (limit.min(used.saturating_add(available_bytes)), used)
        };
        let taken = used_bytes.saturating_add(ledger.reserved_bytes);
        Ok(Usage {
            capacity_bytes,
            used_bytes,
            draining_bytes: ledger.draining_bytes,
            reserved_bytes: ledger.reserved_bytes,
            free_bytes: capacity_bytes.saturating_sub(taken).min(available_bytes),
            prefaulted_bytes,
        })
    }
}

/// Unmounts a tmpfs of ours, if it is still there.
fn unmount(path: &Path) -> FsResult<()> {
    match tmpfs::unmount(path) {
        Err(FsError {
            kind: ErrorKind::NotFound,
            ..
        }) => Ok(()),
        other => other,
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Pool({} `{}` at {})",
            self.id,
            self.name,
            self.path.display()
        )
    }
}

#[cfg(test)]
mod tests;
