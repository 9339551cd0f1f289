//! Everything that changes names or attributes. All of it happens in the models directory.
//!
//! The order is always: refuse, change the home, look at what it is now, record. Nothing is recorded
//! that was not seen in the home afterwards.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, PoisonError, RwLockReadGuard, RwLockWriteGuard, TryLockError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, RenameFlags, Timespec, Timestamps, UTIME_NOW,
    UTIME_OMIT, Uid,
};

use super::open::{CreateRequest, LARGE_BYTES, OpenRequest};
use super::{Shown, TieredFs};
use crate::attr::Kind;
use crate::errno;
use crate::error::{ErrorKind, FsError, FsResult};
use crate::event::FsEvent;
use crate::file::HomeFile;
use crate::home::{attr_of, proc_path};
use crate::ids::{DirId, HandleId, NodeId};
use crate::node::{Node, Target};
use crate::rel_path::{BadPath, PATH_BYTES_MAX, RelPath, check_name};
use crate::same_file::Caller;
use crate::stats::count;
use crate::sys::caller::in_name_of;
use crate::union::{Found, UnionChange};

/// A time to be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// The time of the call.
    Now,
    /// This one.
    At(SystemTime),
}

/// Attributes to be set; `None`: left as they are.
#[derive(Clone, Copy, Debug, Default)]
pub struct SetAttr {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Size in bytes.
    pub size: Option<u64>,
    /// Access time.
    pub atime: Option<Time>,
    /// Modification time.
    pub mtime: Option<Time>,
}

impl SetAttr {
    /// Whether both times are set to now, and nothing else.
    fn is_touch(&self) -> bool {
        (self.atime, self.mtime) == (Some(Time::Now), Some(Time::Now))
            && self.mode.is_none()
            && self.uid.is_none()
            && self.gid.is_none()
            && self.size.is_none()
    }
}

/// How a rename treats an existing target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenameMode {
    /// It is replaced.
    Replace,
    /// It is an error.
    NoReplace,
    /// The two are exchanged.
    Exchange,
}

/// A name in a directory that exists in the models directory, ready for a change.
struct Slot<'a> {
    directory: DirId,
    fd: OwnedFd,
    path: RelPath,
    name: &'a [u8],
}

impl Slot<'_> {
    fn name(&self) -> &OsStr {
        OsStr::from_bytes(self.name)
    }

    fn failed(&self, operation: &'static str, error: impl Into<std::io::Error>) -> FsError {
        let path = self.path.join(self.name).unwrap_or_default();
        FsError::io(operation, &path, error)
    }

    /// What came of making something in somebody's name.
    fn done(
        &self,
        operation: &'static str,
        made: std::io::Result<rustix::io::Result<()>>,
    ) -> FsResult<()> {
        made.map_err(|error| self.failed(operation, error))?
            .map_err(|errno| self.failed(operation, errno))
    }
}

/// Gives a directory of this owner the marks that making one leaves out. If another has its name by now, it is one of
/// the same owner's, and gets nothing but them.
fn give_marks(parent: &OwnedFd, name: &OsStr, uid: u32, mode: Mode) -> rustix::io::Result<()> {
    let marks = mode.intersection(Mode::SUID | Mode::SGID);
    if marks.is_empty() {
        return Ok(());
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    let found = rustix::fs::fstat(&made)?;
    match found.st_uid == uid {
        true => rustix::fs::fchmod(&made, bits(found.st_mode) | marks),
        false => Ok(()),
    }
}

fn bits(mode: u32) -> Mode {
    Mode::from_raw_mode(mode & 0o7777)
}

impl TieredFs {
    pub(super) fn refuse_read_only(&self, operation: &'static str) -> FsResult<()> {
        match self.settings.read_only {
            true => Err(FsError::new(operation, ErrorKind::ReadOnly)),
            false => Ok(()),
        }
    }

    /// The refusal to change a cold file, told to the owner as well.
    pub(super) fn refuse_cold(
        &self,
        operation: &'static str,
        file: &HomeFile,
        pid: u32,
    ) -> FsError {
        let path = self.union.path_of(file).unwrap_or_default();
        self.cold_refused(operation, &path, pid)
    }

    fn cold_refused(&self, operation: &'static str, path: &RelPath, pid: u32) -> FsError {
        count(&self.stats.cold_writes_refused);
        let path_text = path.to_string();
        self.residency.tell(FsEvent::ColdWriteRefused {
            operation,
            path: path_text,
            pid,
        });
        FsError::new(operation, ErrorKind::ColdReadOnly).at(path)
    }

    /// Whether the thread runs a program that copies or moves files.
    pub(super) fn copies(&self, pid: u32) -> bool {
        let mountpoint = self.mountpoint.get().filter(|_| pid != 0);
        mountpoint.is_some_and(|mountpoint| Caller::new(pid, mountpoint).copies())
    }

    /// Refuses to open or change a file for a program that copies or moves it onto itself.
    pub(super) fn refuse_same_file(
        &self,
        operation: &'static str,
        file: &HomeFile,
        path: &RelPath,
        pid: u32,
    ) -> FsResult<()> {
        let Some(mountpoint) = self.mountpoint.get().filter(|_| self.copies(pid)) else {
            return Ok(());
        };
        // What has the name now may be what the caller has just made of it.
        let current = match file.is_cold() {
            true => Ok(file.attr().identity),
            false => self.models().stat(path).map(|attr| attr.identity),
        };
        let caller = Caller::new(pid, mountpoint);
        if !current.is_ok_and(|current| caller.names(path, &current)) {
            return Ok(());
        }
        let text = path.to_string();
        self.residency.tell(FsEvent::SameFileRefused {
            operation,
            path: text,
            pid,
        });
        let why = "source and target are the same file";
        Err(FsError::new(operation, ErrorKind::Busy(why)).at(path))
    }

    /// Held while a name is changed in the models directory, until the change is recorded.
    pub(super) fn changing(&self) -> RwLockReadGuard<'_, ()> {
        self.gate.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Held while the models directory is looked at for changes behind our back. Never queued for:
    /// a waiting writer would hold up changes behind a slow one.
    pub(super) fn quiet(&self) -> RwLockWriteGuard<'_, ()> {
        loop {
            match self.gate.try_write() {
                Ok(guard) => return guard,
                Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    pub(super) fn in_models(&self, directory: DirId) -> bool {
        self.union
            .directory(directory)
            .is_some_and(|view| view.in_models)
    }

    /// The directory and name, with the directory made in the models directory if only cold storage
    /// has it so far.
    fn slot<'a>(&self, parent: NodeId, name: &'a [u8], what: &'static str) -> FsResult<Slot<'a>> {
        self.slot_in(self.directory_of(parent)?, name, what)
    }

    fn slot_in<'a>(
        &self,
        directory: DirId,
        name: &'a [u8],
        what: &'static str,
    ) -> FsResult<Slot<'a>> {
        self.refuse_read_only(what)?;
        check_name(name).map_err(|bad| FsError::new(what, ErrorKind::BadPath(bad)))?;
        if directory == DirId::ROOT && name == crate::virtual_file::DIRECTORY.as_bytes() {
            return Err(FsError::new(what, ErrorKind::NotPermitted));
        }
        let gone = || FsError::new(what, ErrorKind::NotFound);
        let path = self.union.directory_path(directory).ok_or_else(gone)?;
        // What no path leads to could never be looked up or removed again.
        path.join(name)
            .map_err(|bad| FsError::new(what, ErrorKind::BadPath(bad)).at(&path))?;
        self.make_in_models(directory)?;
        let fd = self.directory_in_models(directory, &path)?;
        Ok(Slot {
            directory,
            fd,
            path,
            name,
        })
    }

    /// A directory of the models directory, which must be the one that the kernel has checked: another may have
    /// its name by now. [`ErrorKind::Retired`] for that: whoever asked finds it by its name, or may not.
    fn directory_in_models(&self, directory: DirId, path: &RelPath) -> FsResult<OwnedFd> {
        let fd = self.models().directory(path)?;
        if self.union.is_directory(self.models(), directory, &fd) {
            return Ok(fd);
        }
        if let Some((parent, name)) = self.union.directory_name(directory) {
            self.see_name(self.models(), parent, &name);
        }
        Err(FsError::new("look up", ErrorKind::Retired).at(path))
    }

    /// Makes a directory that only cold storage has, with its parents, owners and permissions.
    fn make_in_models(&self, directory: DirId) -> FsResult<()> {
        let gone = || FsError::new("make directory", ErrorKind::NotFound);
        let (mut missing, mut at) = (Vec::new(), directory);
        while !self.in_models(at) {
            missing.push(at);
            at = self.union.directory_name(at).ok_or_else(gone)?.0;
        }
        let mut missing = missing.into_iter().rev();
        missing.try_for_each(|directory| self.make_one_in_models(directory))
    }

    /// The same where the parent is there.
    fn make_one_in_models(&self, directory: DirId) -> FsResult<()> {
        let gone = || FsError::new("make directory", ErrorKind::NotFound);
        let (parent, name) = self.union.directory_name(directory).ok_or_else(gone)?;
        let view = self.union.directory(directory).ok_or_else(gone)?;
        let path = self.union.directory_path(parent).ok_or_else(gone)?;
        let fd = self.directory_in_models(parent, &path)?;
        let text = OsStr::from_bytes(&name);
        let (uid, gid, mode) = (
            view.attr.uid,
            view.attr.gid,
            bits(view.attr.permissions.into()),
        );
        let failed = |errno| FsError::io("make directory", &path, errno);
        let made = in_name_of(uid, gid, || rustix::fs::mkdirat(&fd, text, mode));
        match made.map_err(|error| FsError::io("make directory", &path, error))? {
            Ok(()) => give_marks(&fd, text, uid, mode).map_err(failed)?,
            Err(error) if errno::is_there(error) => {}
            Err(errno) => return Err(failed(errno)),
        }
        self.record(parent, &name)
    }

    /// Looks at a name after we changed it. The kernel knows of the change already.
    fn record(&self, directory: DirId, name: &[u8]) -> FsResult<()> {
        let changes = self.union.refresh_name(self.models(), directory, name)?;
        self.apply_own(changes);
        Ok(())
    }

    fn apply_own(&self, mut changes: Vec<UnionChange>) {
        let before = changes.len();
        changes.retain(|change| match change {
            UnionChange::Name(directory, name) => {
                self.drop_hidden(*directory, name);
                false
            }
            UnionChange::DirectoryAttr(_) => false,
            _ => true,
        });
        if changes.len() < before {
            self.tree_changed();
        }
        self.apply(changes);
    }

    /// What we have just made.
    fn made(&self, slot: &Slot<'_>) -> FsResult<Shown> {
        self.record(slot.directory, slot.name)?;
        let found = self.union.look_up(slot.directory, slot.name);
        self.entry(found.ok_or_else(|| FsError::new("create", ErrorKind::NotFound))?)
    }

    pub(super) fn create_file(
        &self,
        request: &CreateRequest<'_>,
    ) -> FsResult<(Arc<HomeFile>, File)> {
        let _changing = self.changing();
        let slot = self.slot(request.parent, request.name, "create")?;
        let exclusive =
            OFlags::from_bits_retain(request.open.flags.cast_unsigned()).contains(OFlags::EXCL);
        let existing = self.union.look_up(slot.directory, slot.name);
        match existing {
            Some(Found::Directory(_)) => {
                return Err(FsError::new("create", ErrorKind::IsDirectory));
            }
            Some(Found::File(_)) if exclusive => {
                return Err(FsError::new("create", ErrorKind::Exists));
            }
            _ => {}
        }
        self.make_file(&slot, request.mode, &request.open)
    }

    /// Creates a file in the models directory. [`ErrorKind::Retired`] when somebody else has just made it.
    fn make_file(
        &self,
        slot: &Slot<'_>,
        mode: u32,
        request: &OpenRequest,
    ) -> FsResult<(Arc<HomeFile>, File)> {
        let base = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let flags = base | OFlags::CREATE | OFlags::EXCL;
        let made = in_name_of(request.uid, request.gid, || {
            rustix::fs::openat(&slot.fd, slot.name(), flags, bits(mode))
        });
        let own = match made.map_err(|error| slot.failed("create", error))? {
            Ok(fd) => fd,
            Err(error) if errno::is_there(error) => {
                // What the kernel did not know of it has not checked: whoever asked finds it by its name, and may
                // or may not open it.
                self.record(slot.directory, slot.name)?;
                return Err(FsError::new("create", ErrorKind::Retired));
            }
            Err(errno) => return Err(slot.failed("create", errno)),
        };
        self.record(slot.directory, slot.name)?;
        match self.union.look_up(slot.directory, slot.name) {
            Some(Found::File(file)) if !file.is_cold() => Ok((file, File::from(own))),
            _ => Err(FsError::new("create", ErrorKind::NotFound)),
        }
    }

    /// Creates an empty file in the models directory in place of a cold one, under all names that
    /// lead to that: hard links are one file. [`ErrorKind::Retired`] when it is done but somebody
    /// reads the cold file: whoever asked finds the new one by the name.
    pub(super) fn shadow(
        &self,
        node: &Arc<Node>,
        cold: &Arc<HomeFile>,
        request: &OpenRequest,
    ) -> FsResult<Arc<HomeFile>> {
        // Whoever comes without a name, by `/proc/self/fd` of a reader, has no name to make anything under.
        let nameless = || FsError::new("truncate", ErrorKind::Retired);
        // Nobody can hold a lock on what nobody has open.
        if node.lock_open().handles > 0 {
            self.refuse_locked(node, cold)?;
        }
        let names = self.union.shown_names(cold);
        let ((directory, name), links) = names.split_first().ok_or_else(nameless)?;
        let slot = self.slot_in(*directory, name, "truncate")?;
        let (file, own) = self.make_file(&slot, cold.attr().permissions.into(), request)?;
        if request.uid == 0 {
            // Emptying a file gives it to nobody else. Where owners cannot be given, it stays root's.
            let (uid, gid) = (cold.attr().uid, cold.attr().gid);
            let _ = rustix::fs::fchown(&own, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
            if let Ok(attr) = attr_of(&own) {
                file.set_attr(attr);
            }
        }
        for (directory, name) in links {
            let link = self.slot_in(*directory, name, "truncate")?;
            let (fd, to) = (&link.fd, link.name());
            match rustix::fs::linkat(&slot.fd, slot.name(), fd, to, AtFlags::empty()) {
                // Whoever made it meanwhile has it.
                Ok(()) => {}
                Err(error) if errno::is_there(error) => {}
                Err(errno) => return Err(link.failed("truncate", errno)),
            }
            self.record(link.directory, link.name)?;
        }
        if node.lock_open().handles > 0 {
            // The node stays what its readers opened; the name leads to another one.
            self.residency.retire(&self.nodes, cold, node);
            return Err(FsError::new("truncate", ErrorKind::Retired));
        }
        cold.with_live(|live| live.set_node(None));
        file.with_live(|live| live.set_node(Some(node.id)));
        node.set_file(&file, self.anchor(&file));
        Ok(file)
    }

    /// Makes a directory.
    ///
    /// # Errors
    /// [`ErrorKind::Exists`] when any home has the name; the home's answer.
    pub fn mkdir(
        &self,
        parent: NodeId,
        name: &[u8],
        mode: u32,
        uid: u32,
        gid: u32,
    ) -> FsResult<Shown> {
        let _changing = self.changing();
        let slot = self.slot(parent, name, "mkdir")?;
        self.refuse_existing(&slot, "mkdir")?;
        let made = in_name_of(uid, gid, || {
            rustix::fs::mkdirat(&slot.fd, slot.name(), bits(mode))
        });
        slot.done("mkdir", made)?;
        self.made(&slot)
    }

    fn refuse_existing(&self, slot: &Slot<'_>, what: &'static str) -> FsResult<()> {
        match self.union.look_up(slot.directory, slot.name) {
            Some(_) => Err(FsError::new(what, ErrorKind::Exists)),
            None => Ok(()),
        }
    }

    /// Makes a pipe, socket, device or empty file.
    ///
    /// # Errors
    /// [`ErrorKind::Exists`] when any home has the name; the home's answer.
    pub fn mknod(
        &self,
        parent: NodeId,
        name: &[u8],
        mode: u32,
        rdev: u32,
        owner: (u32, u32),
    ) -> FsResult<Shown> {
        let _changing = self.changing();
        let slot = self.slot(parent, name, "mknod")?;
        self.refuse_existing(&slot, "mknod")?;
        let kind = FileType::from_raw_mode(mode);
        let made = in_name_of(owner.0, owner.1, || {
            rustix::fs::mknodat(&slot.fd, slot.name(), kind, bits(mode), u64::from(rdev))
        });
        slot.done("mknod", made)?;
        self.made(&slot)
    }

    /// Makes a symlink; the target is kept as it is and followed by the caller, not by us.
    ///
    /// # Errors
    /// [`ErrorKind::Exists`] when any home has the name; the home's answer.
    pub fn symlink(
        &self,
        parent: NodeId,
        name: &[u8],
        target: &[u8],
        uid: u32,
        gid: u32,
    ) -> FsResult<Shown> {
        let _changing = self.changing();
        let slot = self.slot(parent, name, "symlink")?;
        self.refuse_existing(&slot, "symlink")?;
        let made = in_name_of(uid, gid, || {
            rustix::fs::symlinkat(OsStr::from_bytes(target), &slot.fd, slot.name())
        });
        slot.done("symlink", made)?;
        self.made(&slot)
    }

    /// Gives a file of the models directory one more name.
    ///
    /// # Errors
    /// [`ErrorKind::ColdReadOnly`] for a cold file; [`ErrorKind::Exists`]; the home's answer.
    pub fn link(&self, node: NodeId, parent: NodeId, name: &[u8], pid: u32) -> FsResult<Shown> {
        let target = self.target(node)?;
        let not_file = || FsError::new("link", ErrorKind::NotPermitted);
        let file = target.file().ok_or_else(not_file)?;
        if file.is_cold() {
            return Err(self.refuse_cold("link", &file, pid));
        }
        self.must_be_meant(&*self.node(node)?, &file, pid)?;
        let _changing = self.changing();
        let slot = self.slot(parent, name, "link")?;
        self.refuse_existing(&slot, "link")?;
        let gone = || FsError::new("link", ErrorKind::NotFound);
        let linked = match self.stands_for(node, &file) {
            Some(anchor) => {
                let (flags, to) = (AtFlags::SYMLINK_FOLLOW, slot.name());
                rustix::fs::linkat(CWD, proc_path(&*anchor), &slot.fd, to, flags)
            }
            None => {
                let path = self.union.path_of(&file).ok_or_else(gone)?;
                let (from, from_name) = path.split_last().ok_or_else(gone)?;
                let from = self.models().directory(&from)?;
                let from_name = OsStr::from_bytes(from_name);
                rustix::fs::linkat(&from, from_name, &slot.fd, slot.name(), AtFlags::empty())
            }
        };
        linked.map_err(|errno| slot.failed("link", errno))?;
        self.made(&slot)
    }

    /// Takes a name of the models directory away; a cold file of that name is seen again then.
    ///
    /// # Errors
    /// [`ErrorKind::ColdReadOnly`] when only cold storage has it; the home's answer.
    pub fn unlink(&self, parent: NodeId, name: &[u8], pid: u32) -> FsResult<()> {
        let _changing = self.changing();
        self.refuse_read_only("unlink")?;
        let directory = self.directory_of(parent)?;
        let file = match self.union.look_up(directory, name) {
            Some(Found::File(file)) => file,
            Some(Found::Directory(_)) => {
                return Err(FsError::new("unlink", ErrorKind::IsDirectory));
            }
            None => return Err(FsError::new("unlink", ErrorKind::NotFound)),
        };
        if file.is_cold() {
            return Err(self.refuse_cold("unlink", &file, pid));
        }
        let slot = self.slot(parent, name, "unlink")?;
        let path = slot.path.join(name).unwrap_or_default();
        self.refuse_same_file("unlink", &file, &path, pid)?;
        rustix::fs::unlinkat(&slot.fd, slot.name(), AtFlags::empty())
            .map_err(|errno| slot.failed("unlink", errno))?;
        self.record(slot.directory, slot.name)
    }

    /// Whether removing a name may take long: it may be the last one of a large file.
    pub fn unlink_takes_long(&self, parent: NodeId, name: &[u8]) -> bool {
        let directory = self.directory_of(parent).ok();
        let found = directory.and_then(|directory| self.union.look_up(directory, name));
        matches!(found, Some(Found::File(file)) if file.attr().identity.size >= LARGE_BYTES)
    }

    /// Removes an empty directory of the models directory.
    ///
    /// # Errors
    /// [`ErrorKind::NotEmpty`]; [`ErrorKind::ColdReadOnly`] when cold storage has it too.
    pub fn rmdir(&self, parent: NodeId, name: &[u8], pid: u32) -> FsResult<()> {
        let _changing = self.changing();
        self.refuse_read_only("rmdir")?;
        let directory = self.directory_of(parent)?;
        let id = match self.union.look_up(directory, name) {
            Some(Found::Directory(id)) => id,
            Some(Found::File(_)) => return Err(FsError::new("rmdir", ErrorKind::NotDirectory)),
            None => return Err(FsError::new("rmdir", ErrorKind::NotFound)),
        };
        if !self.union.is_empty(id) {
            return Err(FsError::new("rmdir", ErrorKind::NotEmpty));
        }
        if self.union.is_partly_cold(id) {
            let path = self.union.directory_path(id).unwrap_or_default();
            return Err(self.cold_refused("rmdir", &path, pid));
        }
        let slot = self.slot(parent, name, "rmdir")?;
        rustix::fs::unlinkat(&slot.fd, slot.name(), AtFlags::REMOVEDIR)
            .map_err(|errno| slot.failed("rmdir", errno))?;
        self.record(slot.directory, slot.name)
    }

    /// Renames inside the models directory.
    ///
    /// # Errors
    /// [`ErrorKind::ColdReadOnly`] when what would move is cold, or partly cold.
    pub fn rename(
        &self,
        from: (NodeId, &[u8]),
        to: (NodeId, &[u8]),
        mode: RenameMode,
        pid: u32,
    ) -> FsResult<()> {
        let _changing = self.changing();
        self.refuse_read_only("rename")?;
        let not_found = || FsError::new("rename", ErrorKind::NotFound);
        let from_directory = self.directory_of(from.0)?;
        let to_directory = self.directory_of(to.0)?;
        let moved = self
            .union
            .look_up(from_directory, from.1)
            .ok_or_else(not_found)?;
        let target = self.union.look_up(to_directory, to.1);
        self.refuse_cold_move(&moved, pid)?;
        match (mode, &target) {
            (RenameMode::NoReplace, Some(_)) => {
                return Err(FsError::new("rename", ErrorKind::Exists));
            }
            (RenameMode::Exchange, None) => return Err(not_found()),
            (RenameMode::Exchange, Some(target)) => self.refuse_cold_move(target, pid)?,
            (RenameMode::Replace, Some(target)) => self.refuse_target(&moved, target, pid)?,
            _ => {}
        }
        let (from, to) = (
            self.slot(from.0, from.1, "rename")?,
            self.slot(to.0, to.1, "rename")?,
        );
        self.refuse_too_deep(&moved, &to)?;
        if let (RenameMode::Exchange, Some(target)) = (mode, &target) {
            self.refuse_too_deep(target, &from)?;
        }
        let flags = match mode {
            RenameMode::Exchange => RenameFlags::EXCHANGE,
            RenameMode::NoReplace => RenameFlags::NOREPLACE,
            RenameMode::Replace => RenameFlags::empty(),
        };
        rustix::fs::renameat_with(&from.fd, from.name(), &to.fd, to.name(), flags)
            .map_err(|errno| to.failed("rename", errno))?;
        self.record_rename(&moved, target.as_ref(), &from, &to, mode)
    }

    fn refuse_cold_move(&self, moved: &Found, pid: u32) -> FsResult<()> {
        match moved {
            Found::File(file) if file.is_cold() => Err(self.refuse_cold("rename", file, pid)),
            Found::Directory(id) if self.union.has_cold_below(*id) => {
                let path = self.union.directory_path(*id).unwrap_or_default();
                Err(self.cold_refused("rename", &path, pid))
            }
            _ => Ok(()),
        }
    }

    /// What no path leads to could never be looked up or removed again, and trees could be made deeper and deeper.
    fn refuse_too_deep(&self, moved: &Found, to: &Slot<'_>) -> FsResult<()> {
        let below = match moved {
            Found::Directory(id) => self.union.path_bytes_below(*id),
            Found::File(_) => 0,
        };
        let bad = |bad| FsError::new("rename", ErrorKind::BadPath(bad)).at(&to.path);
        let goal = to.path.join(to.name).map_err(bad)?;
        match below > 0 && goal.as_bytes().len() + 1 + below > PATH_BYTES_MAX {
            true => Err(bad(BadPath::TooLong)),
            false => Ok(()),
        }
    }

    fn refuse_target(&self, moved: &Found, target: &Found, pid: u32) -> FsResult<()> {
        match (moved, target) {
            (Found::File(_), Found::Directory(_)) => {
                Err(FsError::new("rename", ErrorKind::IsDirectory))
            }
            (Found::Directory(_), Found::File(_)) => {
                Err(FsError::new("rename", ErrorKind::NotDirectory))
            }
            (Found::Directory(_), Found::Directory(id)) if !self.union.is_empty(*id) => {
                Err(FsError::new("rename", ErrorKind::NotEmpty))
            }
            (Found::Directory(_), Found::Directory(id)) if self.union.is_partly_cold(*id) => {
                let path = self.union.directory_path(*id).unwrap_or_default();
                Err(self.cold_refused("rename", &path, pid))
            }
            _ => Ok(()),
        }
    }

    fn record_rename(
        &self,
        moved: &Found,
        target: Option<&Found>,
        from: &Slot<'_>,
        to: &Slot<'_>,
        mode: RenameMode,
    ) -> FsResult<()> {
        let (source, goal) = ((from.directory, from.name), (to.directory, to.name));
        if mode == RenameMode::Exchange {
            let changes = self.union.exchange(source, goal);
            self.apply_own(changes);
            return Ok(());
        }
        let same = match (moved, target) {
            // Two links of one file: the kernel does nothing, and neither do we.
            (Found::File(moved), Some(Found::File(target))) => moved.id == target.id,
            _ => source == goal,
        };
        if !same {
            let mut changes = Vec::new();
            self.union.rename(source, goal, &mut changes);
            self.apply_own(changes);
        }
        self.record(from.directory, from.name)?;
        self.record(to.directory, to.name)?;
        self.tell_if_other(moved, to);
        Ok(())
    }

    /// Somebody had put another file in the place of the one that was to be renamed: the kernel, which has moved
    /// the name of the former, is told.
    fn tell_if_other(&self, moved: &Found, to: &Slot<'_>) {
        let found = self.union.look_up(to.directory, to.name);
        // What it has never looked up is not what it has moved, whatever we have seen there meanwhile.
        let is_it = match (moved, &found) {
            (Found::File(moved), Some(Found::File(found))) => {
                moved.id == found.id && found.with_live(|live| live.node()).is_some()
            }
            (Found::Directory(moved), Some(Found::Directory(found))) => {
                moved == found && self.nodes.of_directory(*found).is_some()
            }
            _ => false,
        };
        if !is_it {
            self.residency
                .notice_name(&self.nodes, to.directory, &Arc::from(to.name));
        }
    }

    /// Sets attributes.
    ///
    /// # Errors
    /// [`ErrorKind::ColdReadOnly`] for a cold file, unless it is emptied; the home's answer.
    pub fn setattr(
        &self,
        node: NodeId,
        handle: Option<HandleId>,
        set: &SetAttr,
        request: &OpenRequest,
    ) -> FsResult<Shown> {
        let found = self.node(node)?;
        let target = found.target();
        if let Target::File(file) = &target
            && !file.is_cold()
        {
            // Who has a handle means its file, and is not asked to come again: `fchmod` would not.
            let has_handle = match set.size {
                Some(_) => handle.is_some(),
                None => found.lock_open().handles > 0,
            };
            if !has_handle {
                self.must_be_meant(&found, file, request.pid)?;
            }
        }
        let _changing = self.changing();
        self.see_displaced(&target, self.set(&found, &target, handle, set, request))?;
        self.getattr(node, handle)
    }

    fn set(
        &self,
        node: &Arc<Node>,
        target: &Target,
        handle: Option<HandleId>,
        set: &SetAttr,
        request: &OpenRequest,
    ) -> FsResult<()> {
        match *target {
            // A virtual file takes truncation without a word: shells open with O_TRUNC.
            Target::Virtual(_) | Target::VirtualDirectory => {}
            Target::Directory(directory) => {
                self.refuse_read_only("set attributes")?;
                let gone = || FsError::new("set attributes", ErrorKind::NotFound);
                let path = self.union.directory_path(directory).ok_or_else(gone)?;
                if !self.in_models(directory) {
                    return Err(self.cold_refused("set attributes", &path, request.pid));
                }
                let anchor = self.directory_in_models(directory, &path)?;
                set_on(&anchor, Kind::Directory, set)
                    .map_err(|errno| FsError::io("set attributes", &path, errno))?;
            }
            Target::File(ref file) => {
                self.refuse_read_only("set attributes")?;
                self.set_file_attr(node, file, handle, set, request)?;
            }
        }
        Ok(())
    }

    fn set_file_attr(
        &self,
        node: &Arc<Node>,
        file: &Arc<HomeFile>,
        handle: Option<HandleId>,
        set: &SetAttr,
        request: &OpenRequest,
    ) -> FsResult<()> {
        if file.is_cold() && set.is_touch() {
            // Ollama touches a blob that it uses again, and gives up where it cannot.
            return Ok(());
        }
        if file.is_cold() {
            let only_emptied =
                set.size == Some(0) && set.mode.is_none() && set.uid.is_none() && set.gid.is_none();
            if !only_emptied {
                return Err(self.refuse_cold("set attributes", file, request.pid));
            }
            self.shadow(node, file, request)?;
            return Ok(());
        }
        if let Some(size) = set.size {
            self.truncate(node, file, handle, size)?;
        }
        let failed = |errno| FsError::new("set attributes", ErrorKind::Io(errno));
        let anchor = match self.stands_for(node.id, file) {
            Some(anchor) => anchor,
            None => {
                let gone = || FsError::new("set attributes", ErrorKind::NotFound);
                let path = self.union.path_of(file).ok_or_else(gone)?;
                let anchor = self.models().anchor(&path)?;
                self.must_be(file, &anchor)?;
                Arc::new(anchor)
            }
        };
        set_on(&anchor, file.kind, set).map_err(|errno| failed(errno.into()))?;
        if let Ok(attr) = attr_of(&anchor) {
            let former = file.set_attr(attr);
            if !former.identity.same_contents(&attr.identity) {
                self.drop_replicas(file, None, "the file was changed");
            }
        }
        Ok(())
    }

    fn truncate(
        &self,
        node: &Arc<Node>,
        file: &Arc<HomeFile>,
        handle: Option<HandleId>,
        size: u64,
    ) -> FsResult<()> {
        let failed = |error| FsError::new("truncate", ErrorKind::Io(error));
        self.residency.writer_comes(&self.nodes, file);
        let open = handle.and_then(|handle| self.handles.file(handle));
        let done = match open.as_ref().and_then(|open| open.own.as_ref()) {
            Some(own) => own
                .set_len(size)
                .map_err(failed)
                .map(|()| self.note_written(file, own)),
            None => self.open_home(node, file, true).and_then(|own| {
                own.set_len(size)
                    .map_err(failed)
                    .map(|()| self.note_written(file, &own))
            }),
        };
        self.residency.writer_goes(file);
        done
    }
}

/// Sets owner, permissions and times by a descriptor that stands for the file.
fn set_on(anchor: &OwnedFd, kind: Kind, set: &SetAttr) -> rustix::io::Result<()> {
    if set.uid.is_some() || set.gid.is_some() {
        let (uid, gid) = (set.uid.map(Uid::from_raw), set.gid.map(Gid::from_raw));
        rustix::fs::chownat(anchor, c"", uid, gid, AtFlags::EMPTY_PATH)?;
    }
    if let Some(mode) = set.mode
        && kind != Kind::Symlink
    {
        // After the owner: giving a file away clears set-user-id.
        let mode = bits(mode_asked(anchor, mode)?);
        rustix::fs::chmodat(CWD, proc_path(anchor), mode, AtFlags::empty())?;
    }
    if set.atime.is_some() || set.mtime.is_some() {
        let times = Timestamps {
            last_access: timespec(set.atime),
            last_modification: timespec(set.mtime),
        };
        rustix::fs::utimensat(anchor, c"", &times, AtFlags::EMPTY_PATH)?;
    }
    Ok(())
}

/// The mode that a file of a home gets for the one that was asked for. Of a file with an ACL fewer bits are shown than it
/// has: those of the group or of others that are asked for as they are shown stay as they are in the home, or `chmod u+x`
/// would take away the mask.
fn mode_asked(anchor: &OwnedFd, mode: u32) -> rustix::io::Result<u32> {
    let in_home = rustix::fs::fstat(anchor)?.st_mode & 0o7777;
    let shown = u32::from(attr_of(anchor)?.permissions);
    let stays = |class: &u32| (mode ^ shown) & class == 0;
    let kept: u32 = [0o070, 0o007].into_iter().filter(stays).sum();
    Ok(in_home & kept | mode & !kept)
}

fn timespec(time: Option<Time>) -> Timespec {
    match time {
        None => Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        Some(Time::Now) => Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_NOW,
        },
        Some(Time::At(at)) => match at.duration_since(UNIX_EPOCH) {
            Ok(since) => Timespec {
                tv_sec: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: since.subsec_nanos().into(),
            },
            Err(before) => {
                let before = before.duration();
                let (seconds, nanos) = (before.as_secs(), before.subsec_nanos());
                let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
                match nanos {
                    0 => Timespec {
                        tv_sec: -seconds,
                        tv_nsec: 0,
                    },
                    _ => Timespec {
                        tv_sec: -seconds - 1,
                        tv_nsec: (1_000_000_000 - nanos).into(),
                    },
                }
            }
        },
    }
}
