//! A home: a directory that holds originals, reached only beneath its own descriptor.
//!
//! Cold storage is read-only by type (no method writes unless the home is the models directory) and,
//! where we may, by a private read-only clone of its mount: FUSE passthrough re-opens backing files
//! with the application's flags, so a descriptor opened read-only alone would not protect it.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, Mode, OFlags, ResolveFlags, Stat, StatVfs, StatxFlags, fstat, openat2,
    readlinkat,
};

use crate::attr::{Attr, Kind};
use crate::error::{ErrorKind, FsError, FsResult};
use crate::ids::HomeId;
use crate::rel_path::{RelPath, check_name};
use crate::sys;

/// How changes in a home become known to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// A local file system: inotify tells.
    Inotify,
    /// A network file system, where inotify is blind: rescans.
    Rescan,
}

/// One directory of originals.
#[derive(Debug)]
pub struct Home {
    id: HomeId,
    path: PathBuf,
    root: OwnedFd,
    watch: Watch,
    read_only_mount: bool,
}

const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);

impl Home {
    /// Opens the models directory.
    ///
    /// # Errors
    /// When `path` is not a directory that we may open.
    pub fn open_models(path: &Path) -> FsResult<Home> {
        Home::open(HomeId::MODELS, path, Watch::Inotify)
    }

    /// Opens a cold directory, through a private read-only clone of its mount where we may.
    ///
    /// # Errors
    /// When `path` is not a directory that we may open.
    pub fn open_cold(id: HomeId, path: &Path, watch: Watch) -> FsResult<Home> {
        let mut home = Home::open(id, path, watch)?;
        if let Ok(clone) = sys::mount::read_only_clone(&home.root) {
            home.root = clone;
            home.read_only_mount = true;
        }
        Ok(home)
    }

    fn open(id: HomeId, path: &Path, watch: Watch) -> FsResult<Home> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(|errno| {
            let mut error = FsError::new("open directory", ErrorKind::Io(errno.into()));
            error.path = path.display().to_string();
            error
        })?;
        Ok(Home {
            id,
            path: path.to_owned(),
            root,
            watch,
            read_only_mount: false,
        })
    }

    /// Its place in the order of precedence.
    pub fn id(&self) -> HomeId {
        self.id
    }

    /// Where it is, as configured.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How changes become known.
    pub fn watch(&self) -> Watch {
        self.watch
    }

    /// Whether this is the models directory.
    pub fn is_models(&self) -> bool {
        self.id == HomeId::MODELS
    }

    /// The device number of its file system, without asking that: it may hang.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn device(&self) -> FsResult<u64> {
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let stat = rustix::fs::statx(&self.root, "", flags, StatxFlags::empty())
            .map_err(|errno| FsError::io("stat", &RelPath::root(), errno))?;
        Ok(rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor))
    }

    /// Whether the kernel itself refuses writes through us.
    pub fn has_read_only_mount(&self) -> bool {
        self.read_only_mount
    }

    fn beneath(&self, path: &RelPath, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        openat2(
            &self.root,
            path.as_os_str(),
            flags | OFlags::CLOEXEC,
            Mode::empty(),
            BENEATH,
        )
    }

    /// Opens a regular file; for writing only in the models directory.
    ///
    /// # Errors
    /// [`ErrorKind::ColdReadOnly`] for writing elsewhere; the kernel's answer otherwise, among them
    /// that the name is no regular file (any more).
    pub fn open_file(&self, path: &RelPath, write: bool) -> FsResult<File> {
        if write && !self.is_models() {
            return Err(FsError::new("open", ErrorKind::ColdReadOnly).at(path));
        }
        let access = if write { OFlags::RDWR } else { OFlags::RDONLY };
        // NONBLOCK: a name that became a pipe behind our back must not hang us.
        let flags = access | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW;
        let fd = self
            .beneath(path, flags)
            .map_err(|errno| FsError::io("open", path, errno))?;
        let stat = fstat(&fd).map_err(|errno| FsError::io("open", path, errno))?;
        if Attr::of(&stat).kind != Kind::File {
            return Err(FsError::new("open", ErrorKind::Invalid("not a regular file")).at(path));
        }
        Ok(File::from(fd))
    }

    /// A descriptor that stands for the file without opening it.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn anchor(&self, path: &RelPath) -> FsResult<OwnedFd> {
        self.beneath(path, OFlags::PATH | OFlags::NOFOLLOW)
            .map_err(|errno| FsError::io("look up", path, errno))
    }

    /// A descriptor of a directory, for the `*at` calls.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn directory(&self, path: &RelPath) -> FsResult<OwnedFd> {
        if path.is_root() {
            return self
                .root
                .try_clone()
                .map_err(|error| FsError::io("open directory", path, error));
        }
        self.beneath(path, OFlags::PATH | OFlags::DIRECTORY)
            .map_err(|errno| FsError::io("open directory", path, errno))
    }

    /// Attributes of a name, symlinks not followed.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn stat(&self, path: &RelPath) -> FsResult<Attr> {
        let fd = self.anchor(path)?;
        fstat(&fd)
            .map(|stat| Attr::of(&stat))
            .map_err(|errno| FsError::io("stat", path, errno))
    }

    /// Space and inodes of the file system below.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn statfs(&self) -> FsResult<StatVfs> {
        let readable = self
            .beneath(&RelPath::root(), OFlags::RDONLY | OFlags::DIRECTORY)
            .map_err(|errno| FsError::io("statfs", &RelPath::root(), errno))?;
        rustix::fs::fstatvfs(readable)
            .map_err(|errno| FsError::io("statfs", &RelPath::root(), errno))
    }

    /// The target of a symlink.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn read_link(&self, path: &RelPath) -> FsResult<Vec<u8>> {
        let fd = self.anchor(path)?;
        link_target(fd.as_fd(), OsStr::from_bytes(b""))
            .map_err(|errno| FsError::io("readlink", path, errno))
    }

    /// Reads a directory with the attributes of its entries. Entries that vanish meanwhile are left
    /// out, and so are names that we could not represent.
    ///
    /// # Errors
    /// The kernel's answer to opening or reading the directory itself.
    pub fn list(&self, path: &RelPath) -> FsResult<Vec<Listed>> {
        let failed = |errno| FsError::io("list", path, errno);
        let directory = self
            .beneath(path, OFlags::RDONLY | OFlags::DIRECTORY)
            .map_err(failed)?;
        let mut listed = Vec::new();
        for entry in Dir::read_from(&directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_bytes();
            if check_name(name).is_err() {
                continue;
            }
            if let Some(found) = look_at(directory.as_fd(), OsStr::from_bytes(name)) {
                listed.push(found);
            }
        }
        Ok(listed)
    }

    /// Makes the names of a directory durable.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn sync_directory(&self, path: &RelPath) -> FsResult<()> {
        let failed = |errno| FsError::io("fsync", path, errno);
        let fd = self
            .beneath(path, OFlags::RDONLY | OFlags::DIRECTORY)
            .map_err(failed)?;
        rustix::fs::fsync(fd).map_err(failed)
    }

    /// What one name of a directory is now; `None` when it does not exist.
    ///
    /// # Errors
    /// The kernel's answer to opening the directory, other than that it does not exist.
    pub fn look_up(&self, directory: &RelPath, name: &[u8]) -> FsResult<Option<Listed>> {
        match self.directory(directory) {
            Ok(fd) => Ok(look_at(fd.as_fd(), OsStr::from_bytes(name))),
            Err(FsError {
                kind: ErrorKind::Io(error),
                ..
            }) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// One entry of a directory of a home.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its name.
    pub name: Vec<u8>,
    /// Its attributes.
    pub attr: Attr,
    /// The target, for a symlink.
    pub target: Option<Box<[u8]>>,
}

fn look_at(directory: BorrowedFd<'_>, name: &OsStr) -> Option<Listed> {
    let stat: Stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    let attr = Attr::of(&stat);
    let target = match attr.kind {
        Kind::Symlink => Some(link_target(directory, name).ok()?.into_boxed_slice()),
        _ => None,
    };
    Some(Listed {
        name: name.as_bytes().to_vec(),
        attr,
        target,
    })
}

fn link_target(directory: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<Vec<u8>> {
    let target = readlinkat(directory, name, Vec::new())?;
    Ok(std::ffi::OsString::from_vec(target.into_bytes()).into_vec())
}

/// The path by which a descriptor can be named in calls that take only paths.
pub fn proc_path(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Opens what a path-only descriptor stands for, even when its name is gone.
///
/// # Errors
/// The kernel's answer; without /proc, that there is none.
pub fn reopen(anchor: &OwnedFd, write: bool) -> std::io::Result<File> {
    let access = if write { OFlags::RDWR } else { OFlags::RDONLY };
    let flags = access | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::openat(
        CWD,
        proc_path(anchor),
        flags,
        Mode::empty(),
    )?))
}
