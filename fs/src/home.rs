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
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustix::fs::{
    AtFlags, CWD, Dir, Mode, OFlags, ResolveFlags, Stat, StatFs, StatVfs, StatxAttributes,
    StatxFlags, fstat, openat2, readlinkat,
};

use crate::acl;
use crate::attr::{Attr, Kind};
use crate::errno;
use crate::error::{ErrorKind, FsError, FsResult};
use crate::event::AtPath;
use crate::identity::Identity;
use crate::ids::HomeId;
use crate::mount_table;
use crate::rel_path::{RelPath, check_name};
use crate::sys;
use crate::virtual_file;

/// How changes in a home become known to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// A local file system: inotify tells.
    Inotify,
    /// A network file system, where inotify is blind: rescans.
    Rescan,
}

impl Watch {
    /// What a file system allows, by its magic number (`statfs(2)`): inotify sees what this machine does, which is
    /// enough for ext2 to ext4, xfs, btrfs, f2fs, tmpfs, zfs, bcachefs and overlayfs.
    pub fn of(file_system: &StatFs) -> Watch {
        const LOCAL: [u64; 8] = [
            0xef53,
            0x5846_5342,
            0x9123_683e,
            0xf2f5_2010,
            0x0102_1994,
            0x2fc1_2fc1,
            0xca45_1a4e,
            0x794c_7630,
        ];
        let magic = u64::try_from(file_system.f_type).unwrap_or(0);
        match LOCAL.contains(&magic) {
            true => Watch::Inotify,
            false => Watch::Rescan,
        }
    }
}

/// Who says how changes become known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchChoice {
    /// The configuration.
    Fixed(Watch),
    /// The file system, also one that is mounted there later; that of now allows this.
    ByFileSystem(Watch),
}

impl WatchChoice {
    fn at_start(self) -> Watch {
        let (Self::Fixed(watch) | Self::ByFileSystem(watch)) = self;
        watch
    }
}

/// One directory of originals.
#[derive(Debug)]
pub struct Home {
    id: HomeId,
    path: PathBuf,
    /// Where the path led at the start, without links: nothing elsewhere is ever shown. `None`: there is no procfs.
    real_path: Option<PathBuf>,
    /// Another one when another file system is mounted there. `None`: nothing has been at the path yet.
    root: RwLock<Option<Arc<Root>>>,
    choice: WatchChoice,
    /// Where other file systems were mounted below the models directory at the start.
    mounts: Vec<RelPath>,
}

/// What a home shows.
#[derive(Debug)]
struct Root {
    fd: OwnedFd,
    watch: Watch,
    /// Whether the kernel itself refuses writes through `fd`.
    read_only: bool,
}

/// How often an open is tried that a lease is in the way of.
const LEASE_TRIES: u32 = 10;

/// Room for the ACLs that there are, and for the largest that there can be (XATTR_SIZE_MAX).
const ACL_BYTES: usize = 512;
const ACL_BYTES_MAX: usize = 64 << 10;

const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);

impl Home {
    /// Opens the models directory. What is mounted below it from now on is not entered: anybody may mount a file system of
    /// his own that never answers, and those that answer the kernel ask this home.
    ///
    /// # Errors
    /// When `path` is not a directory that we may open.
    pub fn open_models(path: &Path) -> FsResult<Home> {
        let fd = open_root(path)?;
        let choice = WatchChoice::Fixed(Watch::Inotify);
        let real = real_path(&fd);
        let watch = choice.at_start();
        let root = Root {
            fd,
            watch,
            read_only: false,
        };
        let mounts = real.as_deref().map(mounts_below).unwrap_or_default();
        let home = Home::new(HomeId::MODELS, path, real, Some(root), choice);
        Ok(Home { mounts, ..home })
    }

    /// Opens a cold directory, through a private read-only clone of its mount where we may. One that is not there, or whose
    /// file system has died, has nothing in it until it appears ([`Home::follow_path`]).
    ///
    /// # Errors
    /// When `path` is something else than a directory that we may open.
    pub fn open_cold(id: HomeId, path: &Path, choice: WatchChoice) -> FsResult<Home> {
        match open_root(path) {
            Ok(fd) => {
                let real = real_path(&fd);
                let root = protected(fd, choice.at_start());
                Ok(Home::new(id, path, real, Some(root), choice))
            }
            Err(error) if may_appear(&error) => {
                Ok(Home::new(id, path, expected_path(path, 0), None, choice))
            }
            Err(error) => Err(error),
        }
    }

    fn new(
        id: HomeId,
        path: &Path,
        real_path: Option<PathBuf>,
        root: Option<Root>,
        choice: WatchChoice,
    ) -> Home {
        Home {
            id,
            path: path.to_owned(),
            real_path,
            root: RwLock::new(root.map(Arc::new)),
            choice,
            mounts: Vec::new(),
        }
    }

    /// How a path below this home is followed.
    fn resolve(&self, path: &RelPath) -> ResolveFlags {
        let is_below = |mount: &RelPath| {
            let rest = path.as_bytes().strip_prefix(mount.as_bytes());
            rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'/')))
        };
        match !self.is_models() || self.mounts.iter().any(is_below) {
            true => BENEATH,
            false => BENEATH.union(ResolveFlags::NO_XDEV),
        }
    }

    /// Refuses a name where another file system was mounted since the start, without asking that.
    fn refuse_mount(
        &self,
        directory: BorrowedFd<'_>,
        path: &RelPath,
        name: &[u8],
    ) -> rustix::io::Result<()> {
        let is_allowed = |path: RelPath| !self.resolve(&path).contains(ResolveFlags::NO_XDEV);
        if !is_mount_root(directory, name)? || path.join(name).is_ok_and(is_allowed) {
            return Ok(());
        }
        Err(errno::other_file_system())
    }

    fn shown(&self) -> Option<Arc<Root>> {
        let root = self.root.read().unwrap_or_else(PoisonError::into_inner);
        root.clone()
    }

    /// What it shows; where nothing has been at its path yet, the kernel's answer would be that it is missing.
    fn root(&self) -> rustix::io::Result<Arc<Root>> {
        self.shown().ok_or_else(errno::missing)
    }

    fn set_root(&self, root: Root) {
        *self.root.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(root));
    }

    /// Whether nothing has been at its path yet.
    pub fn is_missing(&self) -> bool {
        self.shown().is_none()
    }

    /// Looks what is at the home's path now. A cold home goes over to another file system there, which was mounted late,
    /// or again; to any other directory, and to an empty one, only if `asked`: a mount that is gone leaves an empty
    /// directory, and whoever may rename directories or make links, but not mount, shall not choose what root shows to
    /// everybody. One that was missing is whatever directory appears where its path led at the start, links followed. May
    /// hang as the home may.
    ///
    /// # Errors
    /// What keeps us from looking, or from protecting the new one as the old one was. The old one stays.
    pub fn follow_path(&self, asked: bool) -> FsResult<AtPath> {
        let failed = |errno| FsError::io("open directory", &RelPath::root(), errno);
        let fd = open_root(&self.path)?;
        let shown = self.shown();
        let before = shown.as_ref().and_then(|root| directory_id(&root.fd).ok());
        let now = directory_id(&fd)?;
        if before == Some(now) {
            return Ok(AtPath::Home);
        }
        let is_there = self.real_path.is_some() && real_path(&fd) == self.real_path;
        if self.is_models() || !is_there {
            return Ok(AtPath::Other);
        }
        let watch = match self.choice {
            WatchChoice::Fixed(watch) => watch,
            WatchChoice::ByFileSystem(_) => Watch::of(&rustix::fs::fstatfs(&fd).map_err(failed)?),
        };
        let Some(shown) = shown else {
            self.set_root(protected(fd, watch));
            return Ok(AtPath::Followed);
        };
        let is_mounted = before.is_none_or(|before| before.0 != now.0);
        if !(asked || is_mounted && holds_something(&fd).map_err(failed)?) {
            return Ok(AtPath::Other);
        }
        let fd = match shown.read_only {
            false => fd,
            true => sys::mount::read_only_clone(&fd)
                .map_err(|error| FsError::new("clone the mount", ErrorKind::Io(error)))?,
        };
        let read_only = shown.read_only;
        self.set_root(Root {
            fd,
            watch,
            read_only,
        });
        Ok(AtPath::Followed)
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
        self.shown()
            .map_or_else(|| self.choice.at_start(), |root| root.watch)
    }

    /// Whether its file system is one of this machine, so that inotify tells of all changes.
    pub fn is_local(&self) -> bool {
        let found = self.root().and_then(|root| rustix::fs::fstatfs(&root.fd));
        found.is_ok_and(|found| Watch::of(&found) == Watch::Inotify)
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
        let root = self
            .root()
            .map_err(|errno| FsError::io("stat", &RelPath::root(), errno))?;
        Ok(directory_id(&root.fd)?.0)
    }

    /// Whether the kernel itself refuses writes through us.
    pub fn has_read_only_mount(&self) -> bool {
        self.shown().is_some_and(|root| root.read_only)
    }

    fn beneath(&self, path: &RelPath, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let root = self.root()?;
        past_leases(|| {
            openat2(
                &root.fd,
                path.as_os_str(),
                flags | OFlags::CLOEXEC,
                Mode::empty(),
                self.resolve(path),
            )
        })
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
        if Kind::of_mode(stat.st_mode) != Kind::File {
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
            let root = self.root().map_err(std::io::Error::from);
            return root
                .and_then(|root| root.fd.try_clone())
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
        attr_of(&fd).map_err(|errno| FsError::io("stat", path, errno))
    }

    /// Whether what was had by a name is what is `known` by it. Some network file systems number the same file anew now and
    /// then: there it may also be one that looks the same and lets in the same.
    pub fn is_it(&self, known: &Attr, opened: impl AsFd) -> bool {
        let is_same =
            fstat(&opened).is_ok_and(|stat| Identity::of(&stat).same_file(&known.identity));
        if is_same || self.watch() == Watch::Inotify {
            return is_same;
        }
        let looks = |attr: &Attr| {
            let identity = &attr.identity;
            let contents =
                (attr.kind != Kind::Directory).then_some((identity.size, identity.mtime_ns));
            (attr.kind, attr.uid, attr.gid, attr.permissions, contents)
        };
        attr_of(opened).is_ok_and(|found| looks(&found) == looks(known))
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
    pub fn list(&self, path: &RelPath) -> FsResult<Listing> {
        self.list_in(&self.directory(path)?, path)
    }

    /// The same of a directory that is open already, of this path.
    ///
    /// # Errors
    /// As for [`Home::list`].
    pub fn list_in(&self, directory: &OwnedFd, path: &RelPath) -> FsResult<Listing> {
        let failed = |errno| FsError::io("list", path, errno);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(directory, ".", flags, Mode::empty()).map_err(failed)?;
        let mut listing = Listing::default();
        for entry in Dir::read_from(&directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_bytes();
            if check_name(name).is_err() || is_ours(path, name) {
                continue;
            }
            match self.look_at(directory.as_fd(), path, name) {
                Ok(found) => listing.found.extend(found),
                Err(_) => listing.unanswered.push(name.to_owned()),
            }
        }
        Ok(listing)
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

    fn look_at(
        &self,
        directory: BorrowedFd<'_>,
        path: &RelPath,
        name: &[u8],
    ) -> rustix::io::Result<Option<Listed>> {
        if self.is_models() {
            self.refuse_mount(directory, path, name)?;
        }
        look_at(directory, OsStr::from_bytes(name))
    }

    /// What one name of a directory is now; `None` when it does not exist.
    ///
    /// # Errors
    /// The kernel's answer, other than that it does not exist.
    pub fn look_up(&self, directory: &RelPath, name: &[u8]) -> FsResult<Option<Listed>> {
        self.look_up_in(self.directory(directory), directory, name)
    }

    /// The same of a directory that was opened before, of this path.
    ///
    /// # Errors
    /// As for [`Home::look_up`].
    pub fn look_up_in(
        &self,
        opened: FsResult<OwnedFd>,
        path: &RelPath,
        name: &[u8],
    ) -> FsResult<Option<Listed>> {
        match opened {
            _ if is_ours(path, name) => Ok(None),
            Ok(fd) => self
                .look_at(fd.as_fd(), path, name)
                .map_err(|errno| FsError::io("look up", path, errno)),
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

/// A directory of a home as it was read.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// What it holds.
    pub found: Vec<Listed>,
    /// Names that it holds too, of which the file system did not say what they are.
    pub unanswered: Vec<Vec<u8>>,
}

/// Whether the virtual directory has this name in the mount, so that what a home has there is shown to nobody.
fn is_ours(directory: &RelPath, name: &[u8]) -> bool {
    directory.is_root() && name == virtual_file::DIRECTORY.as_bytes()
}

fn open_root(path: &Path) -> FsResult<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(|errno| {
        let mut error = FsError::new("open directory", ErrorKind::Io(errno.into()));
        error.path = path.display().to_string();
        error
    })
}

/// A cold directory through a read-only clone of its mount, or as it is where we may not have one.
fn protected(fd: OwnedFd, watch: Watch) -> Root {
    match sys::mount::read_only_clone(&fd) {
        Ok(fd) => Root {
            fd,
            watch,
            read_only: true,
        },
        Err(_) => Root {
            fd,
            watch,
            read_only: false,
        },
    }
}

/// Whether something may be mounted or made there yet: nothing is, or a mount whose server has died.
fn may_appear(error: &FsError) -> bool {
    let ErrorKind::Io(error) = &error.kind else {
        return false;
    };
    error.kind() == std::io::ErrorKind::NotFound || errno::is_stale_mount(error)
}

/// Where a path leads that is not there: links are followed, also one that leads nowhere yet.
fn expected_path(path: &Path, links: u32) -> Option<PathBuf> {
    const LINKS_MAX: u32 = 8;
    if links > LINKS_MAX {
        return None;
    }
    let above = path.parent()?;
    if let Ok(target) = std::fs::read_link(path) {
        return expected_path(&above.join(target), links + 1);
    }
    let above = match above.canonicalize() {
        Ok(above) => above,
        Err(_) => expected_path(above, links)?,
    };
    Some(above.join(path.file_name()?))
}

/// Where a directory is, as the kernel knows it.
fn real_path(directory: &OwnedFd) -> Option<PathBuf> {
    std::fs::read_link(proc_path(directory)).ok()
}

/// The numbers of a directory.
fn directory_id(root: &OwnedFd) -> FsResult<(u64, u64)> {
    numbers_of(root).map_err(|errno| FsError::io("stat", &RelPath::root(), errno))
}

/// Device and inode number, without asking the file system: it may hang.
///
/// # Errors
/// The kernel's answer.
pub fn numbers_of(fd: impl AsFd) -> rustix::io::Result<(u64, u64)> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let stat = rustix::fs::statx(fd, "", flags, StatxFlags::INO)?;
    let device = rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor);
    Ok((device, stat.stx_ino))
}

/// Whether another file system is mounted on a name, without asking that. `false` also where nothing has the name.
fn is_mount_root(directory: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<bool> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
    match rustix::fs::statx(directory, name, flags, StatxFlags::empty()) {
        Ok(found) => Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)),
        Err(errno) if errno::is_no_answer(errno) => Err(errno),
        Err(_) => Ok(false),
    }
}

/// Where other file systems are mounted below a directory.
fn mounts_below(directory: &Path) -> Vec<RelPath> {
    // Without procfs nothing is known to be mounted there.
    let table = mount_table::read().unwrap_or_default();
    mount_table::entries(&table)
        .filter_map(|entry| {
            let below = entry.mount_point.strip_prefix(directory).ok()?;
            RelPath::new(below.as_os_str().as_bytes()).ok()
        })
        .filter(|below| !below.is_root())
        .collect()
}

fn holds_something(directory: &OwnedFd) -> rustix::io::Result<bool> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let readable = rustix::fs::openat(directory, ".", flags, Mode::empty())?;
    for entry in Dir::new(readable)? {
        let name = entry?;
        if !matches!(name.file_name().to_bytes(), b"." | b"..") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What a name is; `None`: nothing, or nothing that we may look at. A store that does not answer has
/// not said that the file is gone: that is the error.
fn look_at(directory: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<Option<Listed>> {
    let looked = || {
        let stat: Stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let read = |acl: &mut [u8]| {
            let path = Path::new(&proc_path(directory)).join(name);
            rustix::fs::lgetxattr(path, acl::ATTRIBUTE, acl)
        };
        // Another file system may be mounted there.
        let is_served_by_fuse = || {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(directory, name, flags, Mode::empty()).is_ok_and(is_served_by_fuse)
        };
        let attr = with_acl(Attr::of(&stat), is_served_by_fuse, read)?;
        let target = match attr.kind {
            Kind::Symlink => Some(link_target(directory, name)?.into_boxed_slice()),
            _ => None,
        };
        let name = name.as_bytes().to_vec();
        Ok(Listed { name, attr, target })
    };
    match looked() {
        Ok(listed) => Ok(Some(listed)),
        Err(errno) if errno::is_no_answer(errno) => Err(errno),
        Err(_) => Ok(None),
    }
}

/// Attributes of what a descriptor stands for.
///
/// # Errors
/// The kernel's answer.
pub fn attr_of(fd: impl AsFd) -> rustix::io::Result<Attr> {
    let attr = Attr::of(&fstat(&fd)?);
    let read = |acl: &mut [u8]| rustix::fs::getxattr(proc_path(&fd), acl::ATTRIBUTE, acl);
    with_acl(attr, || is_served_by_fuse(&fd), read)
}

/// Attributes with no more permissions than the ACL gives, which is read where it can matter: one
/// that gives nobody but the owner anything narrows nothing.
fn with_acl(
    mut attr: Attr,
    is_served_by_fuse: impl Fn() -> bool,
    read: impl Fn(&mut [u8]) -> rustix::io::Result<usize>,
) -> rustix::io::Result<Attr> {
    if attr.kind == Kind::Symlink || attr.permissions & acl::BITS_OF_OTHERS == 0 {
        return Ok(attr);
    }
    let mut few = [0; ACL_BYTES];
    attr.permissions = match read(&mut few) {
        Ok(length) => acl::narrowed(attr.permissions, &few[..length]),
        Err(errno) if errno::has_no_attribute(errno) => attr.permissions,
        Err(errno) if errno::is_too_long(errno) => {
            let mut many = vec![0; ACL_BYTES_MAX];
            let length = read(&mut many).unwrap_or(0);
            acl::narrowed(attr.permissions, &many[..length])
        }
        // Some servers answer anything for what they do not have, and the kernel does not go by it.
        Err(_) if is_served_by_fuse() => attr.permissions,
        Err(errno) if errno::is_no_answer(errno) => return Err(errno),
        Err(_) => acl::narrowed(attr.permissions, &[]),
    };
    Ok(attr)
}

fn is_served_by_fuse(file: impl AsFd) -> bool {
    const FUSE: u64 = 0x6573_5546;
    rustix::fs::fstatfs(file).is_ok_and(|found| u64::try_from(found.f_type) == Ok(FUSE))
}

fn link_target(directory: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<Vec<u8>> {
    let target = readlinkat(directory, name, Vec::new())?;
    Ok(std::ffi::OsString::from_vec(target.into_bytes()).into_vec())
}

/// Opens again while a lease is in the way: for a moment it may be our own question whether anybody
/// writes, and we do not wait in an open.
fn past_leases(open: impl Fn() -> rustix::io::Result<OwnedFd>) -> rustix::io::Result<OwnedFd> {
    for _ in 0..LEASE_TRIES {
        match open() {
            Err(errno) if errno::lease_refused(&errno.into()) => {
                std::thread::sleep(Duration::from_millis(1));
            }
            done => return done,
        }
    }
    open()
}

/// The path by which a descriptor can be named in calls that take only paths.
pub fn proc_path(fd: impl AsFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}

/// Opens what a path-only descriptor stands for, even when its name is gone.
///
/// # Errors
/// The kernel's answer; without /proc, that there is none.
pub fn reopen(anchor: &OwnedFd, write: bool) -> std::io::Result<File> {
    let access = if write { OFlags::RDWR } else { OFlags::RDONLY };
    let flags = access | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let path = proc_path(anchor);
    let opened = past_leases(|| rustix::fs::openat(CWD, &path, flags, Mode::empty()))?;
    Ok(File::from(opened))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_at_its_path_is_taken_when_asked_for_and_links_never() {
        let top = tempfile::tempdir().expect("made");
        let at = |name: &str| top.path().join(name);
        for directory in ["place", "other"] {
            std::fs::create_dir(at(directory)).expect("made");
        }
        let names = |home: &Home| home.list(&RelPath::root()).expect("listed").found.len();
        let look = |home: &Home, asked| home.follow_path(asked).expect("looked");
        let choice = WatchChoice::ByFileSystem(Watch::Rescan);
        let home = Home::open_cold(HomeId(1), &at("place"), choice).expect("opened");
        let models = Home::open_models(&at("place")).expect("opened");
        assert_eq!(look(&home, true), AtPath::Home);

        // What somebody may have made who may make links, but not read what they lead to.
        std::fs::write(at("other").join("model"), "x").expect("written");
        std::fs::rename(at("place"), at("away")).expect("renamed");
        std::os::unix::fs::symlink("other", at("place")).expect("linked");
        assert_eq!((look(&home, true), names(&home)), (AtPath::Other, 0));

        std::fs::remove_file(at("place")).expect("removed");
        home.follow_path(true).expect_err("nothing is there");
        std::fs::rename(at("other"), at("place")).expect("renamed");
        assert_eq!((look(&home, false), names(&home)), (AtPath::Other, 0));
        assert_eq!((look(&home, true), names(&home)), (AtPath::Followed, 1));
        assert_eq!(look(&home, false), AtPath::Home);
        assert_eq!(home.watch() == Watch::Inotify, is_local(top.path()));
        assert_eq!((look(&models, true), names(&models)), (AtPath::Other, 0));
    }

    #[test]
    fn what_is_missing_has_nothing_until_it_appears_where_it_was_to_be() {
        let top = tempfile::tempdir().expect("made");
        let at = |name: &str| top.path().join(name);
        let choice = WatchChoice::ByFileSystem(Watch::Rescan);
        let open = |name: &str| Home::open_cold(HomeId(1), &at(name), choice);
        std::fs::write(at("file"), "x").expect("written");
        open("file").expect_err("it is no directory");
        Home::open_models(&at("deep/place")).expect_err("engines write there");
        std::os::unix::fs::symlink("deep/place", at("link")).expect("linked");
        let homes = [open("deep/place"), open("link")].map(|home| home.expect("it may come"));
        for home in &homes {
            assert!(home.is_missing() && !home.has_read_only_mount());
            home.list(&RelPath::root()).expect_err("nothing is there");
            home.follow_path(true).expect_err("nothing is there");
        }

        // Who may make links does not choose what is shown.
        std::fs::create_dir_all(at("other/place")).expect("made");
        std::os::unix::fs::symlink("other", at("deep")).expect("linked");
        for home in &homes {
            assert_eq!(home.follow_path(true).expect("looked"), AtPath::Other);
            assert!(home.is_missing());
        }
        std::fs::remove_file(at("deep")).expect("removed");
        std::fs::create_dir_all(at("deep/place")).expect("made");
        std::fs::write(at("deep/place/model"), "x").expect("written");
        for home in &homes {
            assert_eq!(home.follow_path(false).expect("looked"), AtPath::Followed);
            let found = home.list(&RelPath::root()).expect("listed").found;
            assert_eq!((found.len(), home.is_missing()), (1, false));
            assert_eq!(home.follow_path(false).expect("looked"), AtPath::Home);
        }
    }

    fn is_local(path: &Path) -> bool {
        Watch::of(&rustix::fs::statfs(path).expect("known")) == Watch::Inotify
    }
}
