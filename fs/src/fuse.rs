//! The FUSE adapter: decode a request, one call into [`TieredFs`], encode the answer. No decision.
//!
//! The only room, with `fuse/`, that names types of the FUSE library.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    BackingId, BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, InitFlags, IoctlFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags,
    ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyIoctl,
    ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use crate::attr::Kind;
use crate::errno::{INTERRUPTED, NO_SUCH_IOCTL, NOT_IMPLEMENTED, to_errno};
use crate::error::{ErrorKind, FsError};
use crate::first_load::HeldOpen;
use crate::ids::{HandleId, HomeId, NodeId};
use crate::node::Token;
use crate::tiered_fs::{
    CreateRequest, FirstRead, OpenReply, OpenRequest, Opened, Patience, RenameMode, Served,
    SetAttr, Shown, TieredFs, Time, with_buffer,
};

mod held;
mod notify;
pub mod session;

use held::{HeldReplies, HeldReply};

/// What the kernel said about passthrough when the mount was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Passthrough {
    /// The kernel moves the bytes.
    Active,
    /// The daemon does; the text says why.
    Off(String),
}

struct Adapter {
    fs: Arc<TieredFs>,
    held: Arc<HeldReplies>,
    passthrough: Arc<OnceLock<Passthrough>>,
    /// Whether files that pass the page cache can be mapped shared: since Linux 6.6.
    maps_direct: OnceLock<bool>,
    ended: crossbeam_channel::Sender<()>,
}

/// Largest read or write that the kernel is asked to send at once.
const REQUEST_BYTES_MAX: u32 = 1 << 20;
/// Requests of the kernel that may be under way in the background.
const BACKGROUND_MAX: u16 = 256;
/// File systems that may lie below a backing file: overlayfs or FUSE as cold storage.
const STACK_DEPTH: u32 = 2;

fn errno(error: &FsError) -> Errno {
    let number = to_errno(error);
    tracing::trace!(%error, number, "answered with an error");
    Errno::from_i32(number)
}

fn time(nanos: i64) -> SystemTime {
    let magnitude = Duration::from_nanos(nanos.unsigned_abs());
    if nanos >= 0 {
        UNIX_EPOCH + magnitude
    } else {
        UNIX_EPOCH - magnitude
    }
}

fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Directory => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Fifo => FileType::NamedPipe,
        Kind::Socket => FileType::Socket,
        Kind::CharDevice => FileType::CharDevice,
        Kind::BlockDevice => FileType::BlockDevice,
    }
}

/// Attributes under the given number: the nodeid in entries, the inode number in attributes.
fn file_attr(shown: &Shown, number: u64) -> FileAttr {
    let attr = &shown.attr;
    FileAttr {
        ino: INodeNo(number),
        size: attr.identity.size,
        blocks: attr.blocks,
        atime: time(attr.atime_ns),
        mtime: time(attr.identity.mtime_ns),
        ctime: time(attr.identity.ctime_ns),
        crtime: UNIX_EPOCH,
        kind: file_type(attr.kind),
        perm: attr.permissions,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: attr.rdev,
        blksize: 4096,
        flags: 0,
    }
}

fn open_request(request: &Request, flags: i32) -> OpenRequest {
    OpenRequest {
        flags,
        pid: request.pid(),
        uid: request.uid(),
        gid: request.gid(),
    }
}

fn backing(token: &Token) -> Option<&BackingId> {
    token.downcast_ref::<BackingId>()
}

fn fopen_flags(served: &Served, maps_direct: bool) -> FopenFlags {
    match served {
        Served::Passthrough(_) => FopenFlags::empty(),
        Served::Cached(true) => FopenFlags::FOPEN_KEEP_CACHE,
        Served::Cached(false) => FopenFlags::empty(),
        Served::Direct => FopenFlags::FOPEN_DIRECT_IO,
        Served::Arriving if maps_direct => FopenFlags::FOPEN_DIRECT_IO,
        // A shared mapping would be refused (ENODEV), and engines make such.
        Served::Arriving => FopenFlags::empty(),
    }
}

impl Adapter {
    fn maps_direct(&self) -> bool {
        self.maps_direct.get().copied().unwrap_or(false)
    }

    /// Answers with a name. The kernel takes nodeid and inode number from one field here: where they
    /// differ it is told to ask for the attributes again, and getattr shows the stable inode number.
    fn entry(&self, reply: ReplyEntry, result: Result<Shown, FsError>) {
        match result {
            Ok(shown) => {
                let attr = file_attr(&shown, shown.node.0);
                let entry_timeout = self.fs.settings.entry_timeout;
                let attr_timeout = if shown.node.0 == shown.ino {
                    shown.attr_timeout
                } else {
                    Duration::ZERO
                };
                reply.entry_with_ttls(&attr_timeout, &entry_timeout, &attr, Generation(0));
            }
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn attr(reply: ReplyAttr, result: Result<Shown, FsError>) {
        match result {
            Ok(shown) => reply.attr(&shown.attr_timeout, &file_attr(&shown, shown.ino)),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn done(reply: ReplyEmpty, result: Result<(), FsError>) {
        match result {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(errno(&error)),
        }
    }

    /// Opens on a thread that may wait for the home; the caller may be killed meanwhile.
    fn open_waiting(&self, home: HomeId, node: NodeId, request: OpenRequest, reply: ReplyOpen) {
        let slot = self
            .held
            .hold(request.pid, reply, |reply: ReplyOpen, number| {
                reply.error(Errno::from_i32(number));
            });
        let waiting = WaitingOpen {
            fs: Arc::clone(&self.fs),
            slot,
            maps_direct: self.maps_direct(),
            home,
            node,
            request,
        };
        waiting.run(Patience::Home);
    }

    /// Makes something durable, which takes as long as the disk; the caller may be killed meanwhile.
    fn make_durable(
        &self,
        request: &Request,
        reply: ReplyEmpty,
        sync: impl FnOnce(&TieredFs) -> Result<(), FsError> + Send + 'static,
    ) {
        let slot = self
            .held
            .hold(request.pid(), reply, |reply: ReplyEmpty, number| {
                reply.error(Errno::from_i32(number));
            });
        let fs = Arc::clone(&self.fs);
        let job = move || {
            if slot.is_answered() {
                return;
            }
            let done = sync(&fs);
            if let Some(reply) = slot.take() {
                Adapter::done(reply, done);
            }
        };
        self.fs.offload_slow().run(Box::new(job));
    }

    /// Makes a change that may take the disk its time. Its caller is kept until it is made: after him, others would
    /// find it not yet made.
    fn change_slowly(&self, change: impl FnOnce(&TieredFs) + Send + 'static) {
        let fs = Arc::clone(&self.fs);
        self.fs.offload_slow().run(Box::new(move || change(&fs)));
    }

    /// Reads from a copy on its way: at once what is there, else as it comes.
    fn read_arriving(&self, read: FirstRead, pid: u32, offset: u64, size: u32, reply: ReplyData) {
        if let Some(copy) = self.fs.ready_to_read(&read, offset, size) {
            let sink = |result: Result<&[u8], FsError>| answer_bytes(reply, result);
            return self.fs.read_copy(&copy, offset, size, sink);
        }
        let slot = self.held.hold(pid, reply, |reply: ReplyData, number| {
            reply.error(Errno::from_i32(number));
        });
        let sink = move |result: Result<&[u8], FsError>| {
            if let Some(reply) = slot.take() {
                answer_bytes(reply, result);
            }
        };
        self.fs.read_arriving(read, offset, size, Box::new(sink));
    }

    fn read_waiting(
        &self,
        home: HomeId,
        request: &Request,
        handle: HandleId,
        offset: u64,
        size: u32,
        reply: ReplyData,
    ) {
        let slot = self
            .held
            .hold(request.pid(), reply, |reply: ReplyData, number| {
                reply.error(Errno::from_i32(number));
            });
        let fs = Arc::clone(&self.fs);
        let job = move || {
            with_buffer(size, |buffer| {
                let result = fs.read(handle, offset, buffer);
                if let Some(reply) = slot.take() {
                    answer_read(reply, result, buffer);
                }
            });
        };
        self.fs.offload(home).run(Box::new(job));
    }
}

/// An open whose reply is held.
struct WaitingOpen {
    fs: Arc<TieredFs>,
    slot: Arc<HeldReply<ReplyOpen>>,
    maps_direct: bool,
    home: HomeId,
    node: NodeId,
    request: OpenRequest,
}

impl WaitingOpen {
    /// Opens on one of the home's threads.
    fn run(self, patience: Patience) {
        let fs = Arc::clone(&self.fs);
        fs.offload(self.home)
            .run(Box::new(move || self.open(patience)));
    }

    fn open(self, patience: Patience) {
        if self.slot.is_answered() {
            return;
        }
        let register = |file: &File| {
            self.slot
                .with(|reply| reply.open_backing(file))
                .and_then(|id| Ok(Arc::new(id?) as Token))
        };
        match self.fs.open(self.node, &self.request, &register, patience) {
            Ok(OpenReply::Held(load)) => {
                let (fs, node) = (Arc::clone(&self.fs), self.node);
                fs.first_loads().hold(&load, node, Box::new(self));
            }
            result => match (self.slot.take(), result) {
                (Some(reply), result) => answer_open(reply, result, self.maps_direct),
                (None, Ok(OpenReply::Ready(opened))) => self.fs.release(opened.handle),
                (None, _) => {}
            },
        }
    }
}

impl HeldOpen for WaitingOpen {
    fn is_answered(&self) -> bool {
        self.slot.is_answered()
    }

    fn resume(self: Box<Self>) {
        self.run(Patience::HomeOnly);
    }
}

fn answer_open(reply: ReplyOpen, result: Result<OpenReply, FsError>, maps_direct: bool) {
    match result {
        Ok(OpenReply::Ready(Opened { handle, served })) => {
            let flags = fopen_flags(&served, maps_direct);
            match &served {
                Served::Passthrough(token) if let Some(id) = backing(token) => {
                    reply.opened_passthrough(FileHandle(handle.0), flags, id);
                }
                _ => reply.opened(FileHandle(handle.0), flags),
            }
        }
        Ok(OpenReply::Waits(_) | OpenReply::Held(_)) => {
            reply.error(Errno::from_i32(INTERRUPTED));
        }
        Err(error) => reply.error(errno(&error)),
    }
}

fn answer_write(reply: ReplyWrite, result: Result<usize, FsError>) {
    match result {
        // Never more than was sent, and that was a u32.
        Ok(length) => reply.written(u32::try_from(length).unwrap_or(u32::MAX)),
        Err(error) => reply.error(errno(&error)),
    }
}

fn answer_bytes(reply: ReplyData, result: Result<&[u8], FsError>) {
    match result {
        Ok(bytes) => reply.data(bytes),
        Err(error) => reply.error(errno(&error)),
    }
}

fn answer_seek(reply: ReplyLseek, result: Result<u64, FsError>) {
    match result {
        Ok(position) => reply.offset(i64::try_from(position).unwrap_or(i64::MAX)),
        Err(error) => reply.error(errno(&error)),
    }
}

/// A time as the kernel has given it. Of one before 1970 the library (fuser 0.18) takes the nanoseconds off, which are to
/// be added to its seconds.
fn as_asked(at: SystemTime) -> SystemTime {
    let nanos = match UNIX_EPOCH.duration_since(at) {
        Ok(before) => before.subsec_nanos(),
        Err(_) => 0,
    };
    at + 2 * Duration::from_nanos(nanos.into())
}

fn answer_read(reply: ReplyData, result: Result<usize, FsError>, buffer: &[u8]) {
    match result {
        Ok(length) => reply.data(&buffer[..length]),
        Err(error) => reply.error(errno(&error)),
    }
}

impl Filesystem for Adapter {
    fn destroy(&mut self) {
        // Nobody may be waiting for the end.
        let _ = self.ended.try_send(());
    }

    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        for wanted in [
            InitFlags::FUSE_ATOMIC_O_TRUNC,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_CACHE_SYMLINKS,
            InitFlags::FUSE_ASYNC_READ,
            InitFlags::FUSE_ASYNC_DIO,
        ] {
            // Each of them only makes things faster where the kernel has it.
            let _ = config.add_capabilities(wanted);
        }
        let maps = config.add_capabilities(InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP);
        // Init comes once a session.
        let _ = self.maps_direct.set(maps.is_ok());
        let _ = config.set_max_write(REQUEST_BYTES_MAX);
        let _ = config.set_max_background(BACKGROUND_MAX);
        let state = match self.fs.settings.passthrough {
            false => Passthrough::Off("switched off by the configuration".to_owned()),
            true if !rustix::process::geteuid().is_root() => {
                Passthrough::Off("it needs root (CAP_SYS_ADMIN)".to_owned())
            }
            true => match config.add_capabilities(InitFlags::FUSE_PASSTHROUGH) {
                Ok(()) if config.set_max_stack_depth(STACK_DEPTH).is_ok() => Passthrough::Active,
                _ => Passthrough::Off("this kernel does not offer it (Linux 6.9 does)".to_owned()),
            },
        };
        // Init comes once a session.
        let _ = self.passthrough.set(state);
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (parent, name) = (NodeId(parent.0), name.as_bytes());
        self.entry(reply, self.fs.lookup(parent, name, request.pid()));
    }

    fn forget(&self, _request: &Request, node: INodeNo, number: u64) {
        self.fs.forget(NodeId(node.0), number);
    }

    fn getattr(
        &self,
        _request: &Request,
        node: INodeNo,
        handle: Option<FileHandle>,
        reply: ReplyAttr,
    ) {
        let handle = handle.map(|handle| HandleId(handle.0));
        Adapter::attr(reply, self.fs.getattr(NodeId(node.0), handle));
    }

    fn setattr(
        &self,
        request: &Request,
        node: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let wanted = |time: TimeOrNow| match time {
            TimeOrNow::Now => Time::Now,
            TimeOrNow::SpecificTime(at) => Time::At(as_asked(at)),
        };
        let set = SetAttr {
            mode,
            uid,
            gid,
            size,
            atime: atime.map(wanted),
            mtime: mtime.map(wanted),
        };
        let (node, handle) = (NodeId(node.0), handle.map(|handle| HandleId(handle.0)));
        let by = open_request(request, 0);
        if set.size.is_none() {
            return Adapter::attr(reply, self.fs.setattr(node, handle, &set, &by));
        }
        self.change_slowly(move |fs| Adapter::attr(reply, fs.setattr(node, handle, &set, &by)));
    }

    fn readlink(&self, _request: &Request, node: INodeNo, reply: ReplyData) {
        match self.fs.readlink(NodeId(node.0)) {
            Ok(target) => reply.data(&target),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let owner = (request.uid(), request.gid());
        let made = self
            .fs
            .mknod(NodeId(parent.0), name.as_bytes(), mode, rdev, owner);
        self.entry(reply, made);
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let (uid, gid) = (request.uid(), request.gid());
        self.entry(
            reply,
            self.fs
                .mkdir(NodeId(parent.0), name.as_bytes(), mode, uid, gid),
        );
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (parent, pid) = (NodeId(parent.0), request.pid());
        if !self.fs.unlink_takes_long(parent, name.as_bytes()) {
            return Adapter::done(reply, self.fs.unlink(parent, name.as_bytes(), pid));
        }
        let name = name.to_owned();
        self.change_slowly(move |fs| {
            Adapter::done(reply, fs.unlink(parent, name.as_bytes(), pid));
        });
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        Adapter::done(
            reply,
            self.fs
                .rmdir(NodeId(parent.0), name.as_bytes(), request.pid()),
        );
    }

    fn symlink(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let (uid, gid) = (request.uid(), request.gid());
        let target = target.as_os_str().as_bytes();
        let made = self
            .fs
            .symlink(NodeId(parent.0), name.as_bytes(), target, uid, gid);
        self.entry(reply, made);
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let known = RenameFlags::RENAME_EXCHANGE | RenameFlags::RENAME_NOREPLACE;
        if !known.contains(flags) {
            let kind = ErrorKind::Invalid("a flag of rename that this file system does not know");
            return reply.error(errno(&FsError::new("rename", kind)));
        }
        let mode = if flags.contains(RenameFlags::RENAME_EXCHANGE) {
            RenameMode::Exchange
        } else if flags.contains(RenameFlags::RENAME_NOREPLACE) {
            RenameMode::NoReplace
        } else {
            RenameMode::Replace
        };
        let from = (NodeId(parent.0), name.as_bytes());
        let to = (NodeId(new_parent.0), new_name.as_bytes());
        Adapter::done(reply, self.fs.rename(from, to, mode, request.pid()));
    }

    fn link(
        &self,
        request: &Request,
        node: INodeNo,
        new_parent: INodeNo,
        new_name: &OsStr,
        reply: ReplyEntry,
    ) {
        let (parent, name) = (NodeId(new_parent.0), new_name.as_bytes());
        self.entry(
            reply,
            self.fs.link(NodeId(node.0), parent, name, request.pid()),
        );
    }

    fn open(&self, request: &Request, node: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let by = open_request(request, flags.0);
        let register = |file: &File| reply.open_backing(file).map(|id| Arc::new(id) as Token);
        match self.fs.open(NodeId(node.0), &by, &register, Patience::None) {
            Ok(OpenReply::Waits(home)) => self.open_waiting(home, NodeId(node.0), by, reply),
            result => answer_open(reply, result, self.maps_direct()),
        }
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let create = CreateRequest {
            parent: NodeId(parent.0),
            name: name.as_bytes(),
            mode,
            open: open_request(request, flags),
        };
        let register = |file: &File| reply.open_backing(file).map(|id| Arc::new(id) as Token);
        match self.fs.create(&create, &register) {
            Ok((shown, Opened { handle, served })) => {
                let attr = file_attr(&shown, shown.node.0);
                let (handle, flags) = (
                    FileHandle(handle.0),
                    fopen_flags(&served, self.maps_direct()),
                );
                let (ttl, generation) = (Duration::ZERO, Generation(0));
                match &served {
                    Served::Passthrough(token) if let Some(id) = backing(token) => {
                        reply.created_passthrough(&ttl, &attr, generation, handle, flags, id);
                    }
                    _ => reply.created(&ttl, &attr, generation, handle, flags),
                }
            }
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn read(
        &self,
        request: &Request,
        _node: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let handle = HandleId(handle.0);
        if let Some(read) = self.fs.first_read(handle) {
            return self.read_arriving(read, request.pid(), offset, size, reply);
        }
        if let Some(home) = self.fs.read_waits_for(handle) {
            return self.read_waiting(home, request, handle, offset, size, reply);
        }
        with_buffer(size, |buffer| {
            let result = self.fs.read(handle, offset, buffer);
            answer_read(reply, result, buffer);
        });
    }

    fn write(
        &self,
        request: &Request,
        node: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let (node, handle, pid) = (NodeId(node.0), HandleId(handle.0), request.pid());
        if !self.fs.write_waits(node) {
            return answer_write(reply, self.fs.write(node, handle, offset, data, pid));
        }
        let slot = self.held.hold(pid, reply, |reply: ReplyWrite, number| {
            reply.error(Errno::from_i32(number));
        });
        let (fs, data) = (Arc::clone(&self.fs), data.to_vec());
        let job = move || {
            let result = fs.write(node, handle, offset, &data, pid);
            if let Some(reply) = slot.take() {
                answer_write(reply, result);
            }
        };
        self.fs.offload(HomeId::MODELS).run(Box::new(job));
    }

    fn flush(
        &self,
        _request: &Request,
        _node: INodeNo,
        _handle: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::from_i32(NOT_IMPLEMENTED));
    }

    fn release(
        &self,
        _request: &Request,
        _node: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.fs.release(HandleId(handle.0));
        reply.ok();
    }

    fn fsync(
        &self,
        request: &Request,
        _node: INodeNo,
        handle: FileHandle,
        data_only: bool,
        reply: ReplyEmpty,
    ) {
        let handle = HandleId(handle.0);
        self.make_durable(request, reply, move |fs| fs.fsync(handle, data_only));
    }

    fn opendir(&self, _request: &Request, node: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        match self.fs.opendir(NodeId(node.0)) {
            Ok(handle) => reply.opened(FileHandle(handle.0), FopenFlags::empty()),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn readdir(
        &self,
        _request: &Request,
        node: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let (listed, own, parent) =
            match self
                .fs
                .readdir(NodeId(node.0), HandleId(handle.0), offset == 0)
            {
                Ok(listed) => listed,
                Err(error) => return reply.error(errno(&error)),
            };
        let dots = [(own, "."), (parent, "..")];
        let dots = dots
            .iter()
            .map(|(ino, name)| (*ino, FileType::Directory, OsStr::new(*name)));
        let names = listed.iter().map(|entry| {
            (
                entry.ino,
                file_type(entry.kind),
                OsStr::from_bytes(&entry.name),
            )
        });
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        for (index, (ino, kind, name)) in dots.chain(names).enumerate().skip(from) {
            if reply.add(INodeNo(ino), index as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(
        &self,
        _request: &Request,
        _node: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.fs.releasedir(HandleId(handle.0));
        reply.ok();
    }

    fn fsyncdir(
        &self,
        request: &Request,
        node: INodeNo,
        _handle: FileHandle,
        _data_only: bool,
        reply: ReplyEmpty,
    ) {
        let node = NodeId(node.0);
        self.make_durable(request, reply, move |fs| fs.fsync_directory(node));
    }

    fn statfs(&self, _request: &Request, _node: INodeNo, reply: ReplyStatfs) {
        match self.fs.statfs() {
            Ok(space) => reply.statfs(
                space.f_blocks,
                space.f_bfree,
                space.f_bavail,
                space.f_files,
                space.f_ffree,
                u32::try_from(space.f_bsize).unwrap_or(4096),
                u32::try_from(space.f_namemax).unwrap_or(255),
                u32::try_from(space.f_frsize).unwrap_or(4096),
            ),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn getxattr(
        &self,
        _request: &Request,
        _node: INodeNo,
        _name: &OsStr,
        _size: u32,
        reply: ReplyXattr,
    ) {
        // The kernel stops asking: `ls -l` asks for two attributes of each file otherwise.
        reply.error(Errno::from_i32(NOT_IMPLEMENTED));
    }

    fn ioctl(
        &self,
        _request: &Request,
        _node: INodeNo,
        _handle: FileHandle,
        _flags: IoctlFlags,
        _command: u32,
        _input: &[u8],
        _output_bytes: u32,
        reply: ReplyIoctl,
    ) {
        // The library's own answer is a warning in the log: Python asks at each open for a terminal.
        reply.error(Errno::from_i32(NO_SUCH_IOCTL));
    }

    fn fallocate(
        &self,
        _request: &Request,
        _node: INodeNo,
        handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let handle = HandleId(handle.0);
        self.change_slowly(move |fs| {
            Adapter::done(reply, fs.fallocate(handle, mode, offset, length));
        });
    }

    fn lseek(
        &self,
        request: &Request,
        _node: INodeNo,
        handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let handle = HandleId(handle.0);
        let Some(home) = self.fs.read_waits_for(handle) else {
            return answer_seek(reply, self.fs.lseek(handle, offset, whence));
        };
        let slot = self
            .held
            .hold(request.pid(), reply, |reply: ReplyLseek, number| {
                reply.error(Errno::from_i32(number));
            });
        let fs = Arc::clone(&self.fs);
        let job = move || {
            let found = fs.lseek(handle, offset, whence);
            if let Some(reply) = slot.take() {
                answer_seek(reply, found);
            }
        };
        self.fs.offload(home).run(Box::new(job));
    }
}
