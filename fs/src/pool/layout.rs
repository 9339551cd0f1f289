//! What a pool consists of on disk: found or made, and checked to be ours alone.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FallocateFlags, FlockOperation, Mode, OFlags};

use super::PoolKind;
use crate::errno;
use crate::error::{ErrorKind, FsError, FsResult};
use crate::tmpfs::{self, DroppedOption};

/// What [`prepare`] found or made.
pub(super) struct Prepared {
    pub(super) mounted: bool,
    pub(super) adopted: bool,
    pub(super) dropped_options: Vec<DroppedOption>,
}

/// Makes sure that there is a directory, and a tmpfs of ours at it where one is wanted.
pub(super) fn prepare(path: &Path, kind: &PoolKind) -> FsResult<Prepared> {
    let failed = |error| FsError::new("connect pool", ErrorKind::Io(error)).at_file(path);
    if !path.is_absolute() {
        let kind = ErrorKind::Invalid("the path of a pool must be absolute");
        return Err(FsError::new("connect pool", kind).at_file(path));
    }
    let mut prepared = Prepared {
        mounted: matches!(kind, PoolKind::Tmpfs(_)),
        adopted: true,
        dropped_options: Vec::new(),
    };
    match kind {
        PoolKind::Tmpfs(settings) if tmpfs::find(path)?.is_some() => {
            // Smaller than what it holds: it stays as it is until replicas were dropped.
            let _ = tmpfs::resize(path, settings.capacity_bytes);
        }
        PoolKind::Tmpfs(settings) => {
            // Others may pass its parents: the control socket may lie there.
            make_directory(path, 0o755).map_err(failed)?;
            prepared.dropped_options = tmpfs::mount(path, settings)?;
            prepared.adopted = false;
        }
        PoolKind::Directory { .. } if path.exists() => {}
        PoolKind::Directory { .. } => {
            make_directory(path, 0o700).map_err(failed)?;
            prepared.adopted = false;
        }
    }
    Ok(prepared)
}

/// How long a pool's lock is waited for: a daemon that was killed gives it back only when the kernel
/// is done with it, and a process that it is just starting holds it until its `exec`.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);

/// Makes a directory that only we may enter, if it is missing, and its parents with `parents_mode`.
fn make_directory(path: &Path, parents_mode: u32) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(parents_mode).create(parent)?;
    }
    fs::DirBuilder::new().mode(0o700).create(path)
}

/// The open directories of a pool.
pub(super) struct Layout {
    pub(super) directory: OwnedFd,
    pub(super) replicas: OwnedFd,
    pub(super) partial: OwnedFd,
    pub(super) is_memory: bool,
}

impl Layout {
    pub(super) fn open(path: &Path) -> FsResult<Self> {
        let failed = |error: rustix::io::Errno| {
            FsError::new("connect pool", ErrorKind::Io(error.into())).at_file(path)
        };
        let directory = open_own_directory(CWD, path, path)?;
        lock(&directory).map_err(|error| {
            if errno::lease_refused(&error.into()) {
                let kind = ErrorKind::Busy("another speedloader uses this pool");
                FsError::new("connect pool", kind).at_file(path)
            } else {
                failed(error)
            }
        })?;
        let below = |name: &str| {
            match rustix::fs::mkdirat(&directory, name, Mode::RWXU) {
                Ok(()) => {}
                Err(error) if errno::is_there(error) => {}
                Err(error) => return Err(failed(error)),
            }
            open_own_directory(&directory, Path::new(name), &path.join(name))
        };
        let replicas = below("replicas")?;
        let partial = below("partial")?;
        let is_memory = tmpfs::holds(&directory).map_err(failed)?;
        Ok(Layout {
            directory,
            replicas,
            partial,
            is_memory,
        })
    }
}

/// Takes a pool for this process: two daemons in one pool would each remove the other's copies.
fn lock(directory: &OwnedFd) -> rustix::io::Result<()> {
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        let locked = rustix::fs::flock(directory, FlockOperation::NonBlockingLockExclusive);
        let is_taken = |error: rustix::io::Errno| errno::lease_refused(&error.into());
        match locked {
            Err(error) if is_taken(error) && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(10));
            }
            done => return done,
        }
    }
}

/// Opens a directory that must belong to us and be writable by nobody else.
fn open_own_directory(at: impl AsFd, name: &Path, shown: &Path) -> FsResult<OwnedFd> {
    let failed = |error: rustix::io::Errno| {
        FsError::new("connect pool", ErrorKind::Io(error.into())).at_file(shown)
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(at, name, flags, Mode::empty()).map_err(failed)?;
    let stat = rustix::fs::fstat(&directory).map_err(failed)?;
    let ours = stat.st_uid == rustix::process::geteuid().as_raw();
    if !ours || stat.st_mode & 0o022 != 0 {
        return Err(FsError::new("connect pool", ErrorKind::NotPermitted).at_file(shown));
    }
    Ok(directory)
}

/// Opens a file a second time for direct I/O, through the same mount; `None` where its file system refuses.
pub(crate) fn reopen_direct(file: &File, write: bool) -> Option<File> {
    // A FIFO in the place of a file would stop us here.
    let flags = OFlags::DIRECT | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let mut options = File::options();
    options.read(true).write(write);
    let flags = flags.bits().cast_signed();
    options.custom_flags(flags).open(path).ok()
}

/// Opens a new file without a name in `directory`, mode 0600; `None` where the file system cannot.
pub(crate) fn open_unnamed(directory: &OwnedFd) -> io::Result<Option<File>> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::openat(directory, ".", flags, Mode::RUSR | Mode::WUSR) {
        Ok(fd) => Ok(Some(File::from(fd))),
        Err(error) => {
            let error = io::Error::from(error);
            if errno::is_unsupported(&error) {
                Ok(None)
            } else {
                Err(error)
            }
        }
    }
}

/// Allocates a range; a file system that cannot is not an error, it fails at the write.
pub(crate) fn preallocate(file: &File, offset: u64, len: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), offset, len) {
        Ok(()) => Ok(()),
        Err(error) => {
            let error = io::Error::from(error);
            if errno::is_unsupported(&error) {
                Ok(())
            } else {
                Err(error)
            }
        }
    }
}
