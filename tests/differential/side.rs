//! One of the two trees that are compared: carries out steps by plain system calls.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode as Permissions, OFlags, RenameFlags, Timespec, Timestamps,
    UTIME_OMIT,
};
use rustix::io::Errno;

use crate::model::op::{Access, Flags, Mode, Op, P};

/// What a step answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Done,
    /// Kind, permissions, links, owner, group, size (of what has one), and the modification time
    /// where a step has set it.
    Stat(char, u32, u64, u32, u32, Option<i64>, Option<i64>),
    Names(BTreeMap<String, char>),
    Bytes(Vec<u8>),
    Count(usize),
}

pub type Outcome = Result<Answer, Errno>;

/// Modification times before this one were set by a step.
const SET_SECONDS_MAX: i64 = 1_100_000;

/// A tree and the handles that are open in it.
pub struct Side {
    pub root: PathBuf,
    files: BTreeMap<u32, File>,
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

fn kind(mode: u32) -> char {
    match FileType::from_raw_mode(mode) {
        FileType::RegularFile => 'f',
        FileType::Directory => 'd',
        FileType::Symlink => 'l',
        _ => '?',
    }
}

impl Side {
    pub fn new(root: PathBuf) -> Side {
        Side {
            root,
            files: BTreeMap::new(),
        }
    }

    pub fn at(&self, path: &P) -> PathBuf {
        self.root.join(&path.0)
    }

    pub fn labels(&self) -> Vec<u32> {
        self.files.keys().copied().collect()
    }

    pub fn close(&mut self, label: u32) {
        self.files.remove(&label);
    }

    /// All that a handle shows.
    pub fn read_all(&self, label: u32) -> Result<Vec<u8>, Errno> {
        read(&self.files[&label], 0, 1 << 20)
    }

    pub fn apply(&mut self, op: &Op) -> Outcome {
        let done = |()| Answer::Done;
        match op {
            Op::Open {
                path,
                access,
                flags,
                label,
            } => {
                let mode = Permissions::from_raw_mode(0o644);
                let file = rustix::fs::open(self.at(path), open_flags(*access, *flags), mode)?;
                self.files.insert(*label, File::from(file));
                Ok(Answer::Done)
            }
            Op::Close { label } => {
                self.close(*label);
                Ok(Answer::Done)
            }
            Op::Read {
                label,
                offset,
                length,
            } => read(&self.files[label], *offset, *length).map(Answer::Bytes),
            Op::Write {
                label,
                offset,
                fill,
            } => {
                let mut file = &self.files[label];
                // With O_APPEND the offset does not count.
                file.seek(SeekFrom::Start(*offset)).map_err(|e| errno(&e))?;
                let bytes = fill.bytes();
                file.write(&bytes).map(Answer::Count).map_err(|e| errno(&e))
            }
            Op::Fsync { label } => rustix::fs::fsync(&self.files[label]).map(done),
            Op::TruncateHandle { label, size } => {
                rustix::fs::ftruncate(&self.files[label], *size).map(done)
            }
            _ => self.apply_to_names(op),
        }
    }

    fn apply_to_names(&self, op: &Op) -> Outcome {
        let done = |()| Answer::Done;
        match op {
            Op::FsyncDirectory { path } => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY;
                let directory = rustix::fs::open(self.at(path), flags, Permissions::empty())?;
                rustix::fs::fsync(directory).map(done)
            }
            Op::Truncate { path, size } => {
                let file = rustix::fs::open(self.at(path), OFlags::WRONLY, Permissions::empty())?;
                rustix::fs::ftruncate(file, *size).map(done)
            }
            Op::Chmod { path, mode } => {
                let mode = Permissions::from_raw_mode(u32::from(*mode));
                rustix::fs::chmod(self.at(path), mode).map(done)
            }
            Op::Touch { path, seconds } => {
                let omit = Timespec {
                    tv_sec: 0,
                    tv_nsec: UTIME_OMIT,
                };
                let set = Timespec {
                    tv_sec: i64::try_from(*seconds).unwrap(),
                    tv_nsec: 0,
                };
                let times = Timestamps {
                    last_access: omit,
                    last_modification: set,
                };
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                rustix::fs::utimensat(CWD, self.at(path), &times, flags).map(done)
            }
            Op::Mkdir { path, mode } => {
                let mode = Permissions::from_raw_mode(u32::from(*mode));
                rustix::fs::mkdir(self.at(path), mode).map(done)
            }
            Op::Rmdir { path } => rustix::fs::rmdir(self.at(path)).map(done),
            Op::Unlink { path } => rustix::fs::unlink(self.at(path)).map(done),
            Op::Symlink { path, target } => rustix::fs::symlink(target, self.at(path)).map(done),
            Op::Link { from, to } => rustix::fs::link(self.at(from), self.at(to)).map(done),
            Op::Rename { from, to, mode } => {
                let flags = match mode {
                    Mode::Replace => RenameFlags::empty(),
                    Mode::NoReplace => RenameFlags::NOREPLACE,
                    Mode::Exchange => RenameFlags::EXCHANGE,
                };
                rustix::fs::renameat_with(CWD, self.at(from), CWD, self.at(to), flags).map(done)
            }
            Op::Stat { path } => stat(&self.at(path)),
            Op::List { path } => list(&self.at(path)),
            Op::ReadLink { path } => {
                let target = rustix::fs::readlink(self.at(path), Vec::new())?;
                Ok(Answer::Bytes(target.into_bytes()))
            }
            _ => Ok(Answer::Done),
        }
    }
}

fn open_flags(access: Access, flags: Flags) -> OFlags {
    let mut bits = match access {
        Access::Read => OFlags::RDONLY,
        Access::Write => OFlags::WRONLY,
        Access::Both => OFlags::RDWR,
        Access::Append => OFlags::WRONLY | OFlags::APPEND,
    };
    bits.set(OFlags::CREATE, flags.create);
    bits.set(OFlags::EXCL, flags.exclusive && flags.create);
    bits.set(OFlags::TRUNC, flags.truncate);
    bits | OFlags::CLOEXEC
}

fn read(file: &File, offset: u64, length: usize) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; length];
    let mut done = 0;
    while done < length {
        let at = offset + done as u64;
        match file
            .read_at(&mut bytes[done..], at)
            .map_err(|e| errno(&e))?
        {
            0 => break,
            number => done += number,
        }
    }
    bytes.truncate(done);
    Ok(bytes)
}

fn stat(path: &Path) -> Outcome {
    let stat = rustix::fs::lstat(path)?;
    let kind = kind(stat.st_mode);
    let size = (kind != 'd').then_some(stat.st_size);
    let set = (stat.st_mtime < SET_SECONDS_MAX).then_some(stat.st_mtime);
    let permissions = stat.st_mode & 0o7777;
    #[allow(
        clippy::useless_conversion,
        reason = "the type differs between architectures"
    )]
    let links = u64::from(stat.st_nlink);
    Ok(Answer::Stat(
        kind,
        permissions,
        links,
        stat.st_uid,
        stat.st_gid,
        size,
        set,
    ))
}

fn list(path: &Path) -> Outcome {
    let entries = fs::read_dir(path).map_err(|e| errno(&e))?;
    let mut names = BTreeMap::new();
    for entry in entries {
        let entry = entry.map_err(|e| errno(&e))?;
        let kind = match entry.file_type().map_err(|e| errno(&e))? {
            kind if kind.is_dir() => 'd',
            kind if kind.is_symlink() => 'l',
            _ => 'f',
        };
        names.insert(entry.file_name().into_string().unwrap(), kind);
    }
    Ok(Answer::Names(names))
}

/// Copies what a path shows, with all below, to another tree.
pub fn copy_over(from: &Path, to: &Path) {
    let stat = fs::symlink_metadata(from).unwrap();
    if stat.is_symlink() {
        std::os::unix::fs::symlink(fs::read_link(from).unwrap(), to).unwrap();
        return;
    }
    if stat.is_dir() {
        fs::create_dir(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            copy_over(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        fs::write(to, fs::read(from).unwrap()).unwrap();
        let times = fs::FileTimes::new().set_modified(stat.modified().unwrap());
        File::options()
            .write(true)
            .open(to)
            .unwrap()
            .set_times(times)
            .unwrap();
    }
    fs::set_permissions(to, stat.permissions()).unwrap();
}
