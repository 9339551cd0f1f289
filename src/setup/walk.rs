//! A directory that is looked through once, within limits, through descriptors: no symbolic link is
//! followed, so nothing outside of it is seen whatever is in it. It is a [`Tree`], so what is found in it
//! are the models that a daemon would find.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};

use crate::models::{FileKind, Tree, TreeFile};

/// How far is looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// So many files and directories of one store.
    pub entries_max: usize,
    /// So many directories deep.
    pub depth_max: usize,
    /// So long for all stores together, which are looked through side by side.
    pub time_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries_max: 200_000,
            depth_max: 10,
            time_max: Duration::from_secs(4),
        }
    }
}

/// What a directory holds, as far as it was looked through.
#[derive(Debug)]
pub(super) struct Walked {
    top: OwnedFd,
    files: Vec<TreeFile>,
    deadline: Instant,
    /// Whether that is all.
    pub(super) is_complete: bool,
}

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK);

impl Walked {
    /// Looks `path` through, which is no link.
    ///
    /// # Errors
    /// Those of opening it.
    pub(super) fn new(path: &Path, limits: &Limits, deadline: Instant) -> io::Result<Self> {
        let top = rustix::fs::openat(CWD, path, DIRECTORY, Mode::empty())?;
        let mut walked = Self {
            top,
            files: Vec::new(),
            deadline,
            is_complete: true,
        };
        let mut left = limits.entries_max;
        let mut todo = vec![(Vec::new(), 0)];
        while let Some((directory, depth)) = todo.pop() {
            walked.list(&directory, &mut left, |name| {
                let is_near = depth < limits.depth_max;
                if is_near {
                    todo.push((join(&directory, name), depth + 1));
                }
                is_near
            });
        }
        walked.files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(walked)
    }

    /// Takes what is in a directory; `deeper` hears of directories, and says whether they are looked at.
    fn list(&mut self, directory: &[u8], left: &mut usize, mut deeper: impl FnMut(&[u8]) -> bool) {
        let opened = match directory {
            [] => rustix::io::fcntl_dupfd_cloexec(&self.top, 3),
            below => self.open(below, DIRECTORY),
        };
        let Ok((opened, entries)) = opened
            .and_then(|fd| Ok((Dir::read_from(&fd)?, fd)))
            .map(|(dir, fd)| (fd, dir))
        else {
            // It may not be read, or is gone again.
            self.is_complete = false;
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            if *left == 0 || Instant::now() >= self.deadline {
                self.is_complete = false;
                return;
            }
            *left -= 1;
            let found = rustix::fs::statat(&opened, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW);
            let Ok(found) = found else {
                continue;
            };
            let kind = match FileType::from_raw_mode(found.st_mode) {
                FileType::Directory => {
                    self.is_complete &= deeper(name);
                    continue;
                }
                FileType::RegularFile => FileKind::Regular,
                FileType::Symlink => {
                    match rustix::fs::readlinkat(&opened, entry.file_name(), Vec::new()) {
                        Ok(target) => FileKind::Symlink(target.into_bytes()),
                        Err(_) => continue,
                    }
                }
                _ => FileKind::Other,
            };
            self.files
                .push(file_of(join(directory, name), &found, kind));
        }
    }

    /// Opens what is below the top, through no link.
    fn open(&self, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let path = OsStr::from_bytes(path);
        rustix::fs::openat2(self.top.as_fd(), path, flags, Mode::empty(), resolve)
    }

    /// Bytes of all files, hard links once.
    pub(super) fn bytes(&self) -> u64 {
        let regular = self
            .files
            .iter()
            .filter(|file| file.kind == FileKind::Regular);
        let mut sizes: Vec<(u64, u64)> = regular.map(|file| (file.file, file.size)).collect();
        sizes.sort_unstable();
        sizes.dedup_by_key(|(file, _)| *file);
        sizes
            .iter()
            .fold(0, |sum, (_, size)| sum.saturating_add(*size))
    }
}

fn file_of(path: Vec<u8>, found: &Stat, kind: FileKind) -> TreeFile {
    TreeFile {
        path,
        size: u64::try_from(found.st_size).unwrap_or(0),
        mtime_ns: i128::from(found.st_mtime) * 1_000_000_000,
        kind,
        // One number of both: inode numbers rarely reach the bits that the device fills.
        file: found.st_dev.rotate_left(48) ^ found.st_ino,
        cold: false,
    }
}

impl Tree for Walked {
    fn files(&self) -> Vec<TreeFile> {
        self.files.clone()
    }

    fn read(&self, path: &[u8], offset: u64, len: usize) -> io::Result<Vec<u8>> {
        if Instant::now() >= self.deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = self.open(path, flags)?;
        let found = rustix::fs::fstat(&file)?;
        if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // Ask the size first: the buffer then never exceeds what is there.
        let there = u64::try_from(found.st_size)
            .unwrap_or(0)
            .saturating_sub(offset);
        let mut bytes = vec![0; usize::try_from(there).unwrap_or(usize::MAX).min(len)];
        let mut filled = 0;
        while filled < bytes.len() {
            let count = rustix::io::pread(&file, &mut bytes[filled..], offset + filled as u64)?;
            if count == 0 {
                break;
            }
            filled += count;
        }
        bytes.truncate(filled);
        Ok(bytes)
    }
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    match directory {
        [] => name.to_vec(),
        above => [above, b"/", name].concat(),
    }
}
