//! A stand-in for the kernel: walks paths, keeps names until it is told otherwise, refuses what the
//! kernel refuses before it asks, and reads and writes backing files as passthrough does.
//!
//! What it is not told about, it does not see: a missing notice shows as a wrong answer.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use crossbeam_channel::Receiver;
use rustix::fs::OFlags;
use rustix::io::Errno;
use speedloader_fs::attr::Kind;
use speedloader_fs::errno::to_errno;
use speedloader_fs::error::{FsError, FsResult};
use speedloader_fs::event::FsEvent;
use speedloader_fs::ids::{HandleId, NodeId, PoolId};
use speedloader_fs::node::Token;
use speedloader_fs::residency::Notice;
use speedloader_fs::tiered_fs::{
    CreateRequest, OpenReply, OpenRequest, Opened, Patience, RenameMode, Served, SetAttr, Shown,
    TieredFs, Time,
};

use super::naive::{Answer, CREATED_MODE, Outcome};
use super::op::{Access, Fill, Flags, Mode, Op, P};

/// What the kernel keeps of a registered file.
struct Backing(File);

struct Known {
    kind: Kind,
    lookups: u64,
    handles: u32,
    /// The kernel takes one backing file a node while it is held.
    backing: Option<Token>,
    cached: u32,
}

struct Held {
    id: HandleId,
    node: NodeId,
    served: Served,
    backing: Option<File>,
    access: Access,
}

/// What an open told beside its answer.
#[derive(Clone, Copy, Debug)]
pub struct OpenedBy {
    pub node: NodeId,
    pub pool: Option<PoolId>,
}

pub struct Kernel {
    pub fs: Arc<TieredFs>,
    notices: Receiver<Notice>,
    events: Receiver<FsEvent>,
    names: HashMap<(NodeId, String), NodeId>,
    nodes: HashMap<NodeId, Known>,
    held: BTreeMap<u32, Held>,
    /// Rules of the kernel that an answer broke.
    pub broken: Vec<String>,
    pub last_open: Option<OpenedBy>,
}

fn errno(error: &FsError) -> i32 {
    to_errno(error)
}

fn fail<T>(errno: Errno) -> Result<T, i32> {
    Err(errno.raw_os_error())
}

fn io_errno(error: &std::io::Error) -> i32 {
    error.raw_os_error().unwrap_or(Errno::IO.raw_os_error())
}

fn open_flags(access: Access, flags: Flags) -> OFlags {
    let mut bits = match access {
        Access::Read => OFlags::RDONLY,
        Access::Write => OFlags::WRONLY,
        Access::Both => OFlags::RDWR,
        Access::Append => OFlags::WRONLY | OFlags::APPEND,
    };
    bits.set(OFlags::TRUNC, flags.truncate);
    bits
}

fn kind_char(kind: Kind) -> char {
    match kind {
        Kind::File => 'f',
        Kind::Directory => 'd',
        Kind::Symlink => 'l',
        _ => '?',
    }
}

fn register(file: &File) -> std::io::Result<Token> {
    Ok(Arc::new(Backing(file.try_clone()?)))
}

impl Kernel {
    pub fn new(fs: Arc<TieredFs>, notices: Receiver<Notice>, events: Receiver<FsEvent>) -> Kernel {
        Kernel {
            fs,
            notices,
            events,
            names: HashMap::new(),
            nodes: HashMap::new(),
            held: BTreeMap::new(),
            broken: Vec::new(),
            last_open: None,
        }
    }

    pub fn holds(&self, label: u32) -> bool {
        self.held.contains_key(&label)
    }

    pub fn node_of(&self, label: u32) -> Option<NodeId> {
        self.held.get(&label).map(|held| held.node)
    }

    /// Takes what the file system tells.
    pub fn listen(&mut self) {
        while let Ok(notice) = self.notices.try_recv() {
            if let Notice::Entry(parent, name) = notice {
                let name = String::from_utf8_lossy(&name).into_owned();
                if let Some(node) = self.names.remove(&(parent, name)) {
                    self.drop_below(node);
                }
            }
        }
        while self.events.try_recv().is_ok() {}
    }

    /// A name that goes takes what is known below it along.
    fn drop_below(&mut self, directory: NodeId) {
        let below: Vec<_> = self
            .names
            .keys()
            .filter(|(parent, _)| *parent == directory)
            .cloned()
            .collect();
        for key in below {
            if let Some(node) = self.names.remove(&key) {
                self.drop_below(node);
            }
        }
    }

    fn took(&mut self, shown: &Shown) -> NodeId {
        let fresh = Known {
            kind: shown.attr.kind,
            lookups: 0,
            handles: 0,
            backing: None,
            cached: 0,
        };
        let known = self.nodes.entry(shown.node).or_insert(fresh);
        known.lookups += 1;
        known.kind = shown.attr.kind;
        shown.node
    }

    fn lookup(&mut self, parent: NodeId, name: &str) -> Result<NodeId, i32> {
        let key = (parent, name.to_owned());
        if let Some(node) = self.names.get(&key) {
            return Ok(*node);
        }
        let shown = self
            .fs
            .lookup(parent, name.as_bytes(), 0)
            .map_err(|e| errno(&e))?;
        let node = self.took(&shown);
        self.names.insert(key, node);
        Ok(node)
    }

    fn kind(&self, node: NodeId) -> Kind {
        if node == NodeId::ROOT {
            return Kind::Directory;
        }
        self.nodes
            .get(&node)
            .map_or(Kind::Socket, |known| known.kind)
    }

    fn walk(&mut self, path: &str) -> Result<NodeId, i32> {
        let mut at = NodeId::ROOT;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            if self.kind(at) != Kind::Directory {
                return fail(Errno::NOTDIR);
            }
            at = self.lookup(at, name)?;
        }
        Ok(at)
    }

    fn parent<'a>(&mut self, path: &'a P) -> Result<(NodeId, &'a str), i32> {
        let (directory, name) = path.split().ok_or(Errno::BUSY.raw_os_error())?;
        let node = self.walk(directory)?;
        if self.kind(node) != Kind::Directory {
            return fail(Errno::NOTDIR);
        }
        Ok((node, name))
    }

    /// What a name leads to; that it does not exist is no error.
    fn maybe(&mut self, parent: NodeId, name: &str) -> Result<Option<NodeId>, i32> {
        match self.lookup(parent, name) {
            Ok(node) => Ok(Some(node)),
            Err(errno) if errno == Errno::NOENT.raw_os_error() => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    fn entered(&mut self, parent: NodeId, name: &str, made: FsResult<Shown>) -> Outcome {
        let shown = made.map_err(|e| errno(&e))?;
        let node = self.took(&shown);
        self.names.insert((parent, name.to_owned()), node);
        Ok(Answer::Done)
    }

    fn free_name<'a>(&mut self, path: &'a P) -> Result<(NodeId, &'a str), i32> {
        let (parent, name) = self.parent(path)?;
        match self.maybe(parent, name)? {
            Some(_) => fail(Errno::EXIST),
            None => Ok((parent, name)),
        }
    }

    // ---- steps -----------------------------------------------------------------------------------

    /// Carries out a step of the system calls.
    pub fn apply(&mut self, op: &Op) -> Outcome {
        match op {
            Op::Open {
                path,
                access,
                flags,
                label,
            } => self.open(path, *access, *flags, *label),
            Op::Close { label } => {
                self.close(*label);
                Ok(Answer::Done)
            }
            Op::Read {
                label,
                offset,
                length,
            } => self.read(*label, *offset, *length),
            Op::Write {
                label,
                offset,
                fill,
            } => self.write(*label, *offset, *fill),
            Op::Fsync { label } => {
                let id = self.held[label].id;
                self.fs
                    .fsync(id, false)
                    .map_err(|e| errno(&e))
                    .map(|()| Answer::Done)
            }
            Op::FsyncDirectory { path } => {
                let node = self.directory(path)?;
                self.fs
                    .fsync_directory(node)
                    .map_err(|e| errno(&e))
                    .map(|()| Answer::Done)
            }
            Op::TruncateHandle { label, size } => self.truncate_handle(*label, *size),
            Op::Truncate { path, size } => match self.truncate_path(path, *size) {
                Err(errno) if errno == Errno::STALE.raw_os_error() => {
                    // The kernel looks the name up again, once.
                    self.listen();
                    let (parent, name) = self.parent(path)?;
                    self.names.remove(&(parent, name.to_owned()));
                    self.truncate_path(path, *size)
                }
                outcome => outcome,
            },
            Op::Chmod { path, mode } => {
                let node = self.walk(&path.0)?;
                if self.kind(node) == Kind::Symlink {
                    return fail(Errno::OPNOTSUPP);
                }
                let mode = Some(u32::from(*mode));
                self.set(
                    node,
                    None,
                    &SetAttr {
                        mode,
                        ..SetAttr::default()
                    },
                )
            }
            Op::Touch { path, seconds } => {
                let node = self.walk(&path.0)?;
                let mtime = Some(Time::At(UNIX_EPOCH + Duration::from_secs(*seconds)));
                self.set(
                    node,
                    None,
                    &SetAttr {
                        mtime,
                        ..SetAttr::default()
                    },
                )
            }
            Op::Mkdir { path, mode } => {
                let (parent, name) = self.free_name(path)?;
                let made = self.fs.mkdir(parent, name.as_bytes(), (*mode).into(), 0, 0);
                self.entered(parent, name, made)
            }
            Op::Symlink { path, target } => {
                let (parent, name) = self.free_name(path)?;
                let made = self
                    .fs
                    .symlink(parent, name.as_bytes(), target.as_bytes(), 0, 0);
                self.entered(parent, name, made)
            }
            Op::Rmdir { path } => self.remove(path, true),
            Op::Unlink { path } => self.remove(path, false),
            Op::Link { from, to } => {
                let node = self.walk(&from.0)?;
                let (parent, name) = self.free_name(to)?;
                if self.kind(node) == Kind::Directory {
                    return fail(Errno::PERM);
                }
                let made = self.fs.link(node, parent, name.as_bytes(), 1);
                self.entered(parent, name, made)
            }
            Op::Rename { from, to, mode } => self.rename(from, to, *mode),
            Op::Stat { path } => {
                let shown = self.shown(path)?;
                let kind = kind_char(shown.attr.kind);
                Ok(Answer::Stat {
                    kind,
                    mode: shown.attr.permissions,
                    size: (kind != 'd').then_some(shown.attr.identity.size as usize),
                    nlink: shown.attr.nlink,
                })
            }
            Op::List { path } => self.list(path),
            Op::ReadLink { path } => {
                let node = self.walk(&path.0)?;
                match self.kind(node) {
                    Kind::Symlink => self
                        .fs
                        .readlink(node)
                        .map(Answer::Bytes)
                        .map_err(|e| errno(&e)),
                    _ => fail(Errno::INVAL),
                }
            }
            Op::Evict => {
                self.evict();
                Ok(Answer::Done)
            }
            _ => unreachable!("no system call: {op:?}"),
        }
    }

    /// Attributes of a path.
    pub fn shown(&mut self, path: &P) -> Result<Shown, i32> {
        let node = self.walk(&path.0)?;
        self.fs.getattr(node, None).map_err(|e| errno(&e))
    }

    fn directory(&mut self, path: &P) -> Result<NodeId, i32> {
        let node = self.walk(&path.0)?;
        match self.kind(node) {
            Kind::Directory => Ok(node),
            _ => fail(Errno::NOTDIR),
        }
    }

    fn list(&mut self, path: &P) -> Outcome {
        let node = self.directory(path)?;
        let handle = self.fs.opendir(node).map_err(|e| errno(&e))?;
        let listed = self
            .fs
            .readdir(node, handle, true)
            .map_err(|e| errno(&e))?
            .0;
        self.fs.releasedir(handle);
        let name = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
        let names: BTreeMap<_, _> = listed
            .iter()
            .map(|entry| (name(&entry.name), kind_char(entry.kind)))
            .collect();
        if names.len() != listed.len() {
            self.broken
                .push(format!("a name is listed twice in {path:?}"));
        }
        Ok(Answer::Names(names))
    }

    fn set(&mut self, node: NodeId, handle: Option<HandleId>, set: &SetAttr) -> Outcome {
        let request = OpenRequest::default();
        let done = self.fs.setattr(node, handle, set, &request);
        done.map(|_| Answer::Done).map_err(|e| errno(&e))
    }

    fn truncate_path(&mut self, path: &P, size: u64) -> Outcome {
        let node = self.walk(&path.0)?;
        match self.kind(node) {
            Kind::Directory => fail(Errno::ISDIR),
            Kind::File => self.set(
                node,
                None,
                &SetAttr {
                    size: Some(size),
                    ..SetAttr::default()
                },
            ),
            _ => fail(Errno::INVAL),
        }
    }

    fn open(&mut self, path: &P, access: Access, flags: Flags, label: u32) -> Outcome {
        self.last_open = None;
        let (parent, name) = self.parent(path)?;
        let bits = open_flags(access, flags);
        let request = OpenRequest {
            flags: bits.bits().cast_signed(),
            ..OpenRequest::default()
        };
        let (node, opened) = match self.maybe(parent, name)? {
            None if !flags.create => return fail(Errno::NOENT),
            None => {
                let mut open = request;
                open.flags |= OFlags::CREATE.bits().cast_signed();
                if flags.exclusive {
                    open.flags |= OFlags::EXCL.bits().cast_signed();
                }
                let (name_bytes, mode) = (name.as_bytes(), CREATED_MODE.into());
                let create = CreateRequest {
                    parent,
                    name: name_bytes,
                    mode,
                    open,
                };
                let (shown, opened) = self.fs.create(&create, &register).map_err(|e| errno(&e))?;
                let node = self.took(&shown);
                self.names.insert((parent, name.to_owned()), node);
                (node, opened)
            }
            Some(_) if flags.create && flags.exclusive => return fail(Errno::EXIST),
            Some(node) => match self.kind(node) {
                Kind::Directory => return fail(Errno::ISDIR),
                Kind::Symlink => return fail(Errno::LOOP),
                _ => match self.open_node(node, &request) {
                    Err(errno) if errno == Errno::STALE.raw_os_error() => {
                        // The kernel looks the name up again, once.
                        self.listen();
                        self.names.remove(&(parent, name.to_owned()));
                        let node = self.lookup(parent, name)?;
                        (node, self.open_node(node, &request)?)
                    }
                    opened => (node, opened?),
                },
            },
        };
        self.hold(label, node, opened, access)
    }

    fn open_node(&mut self, node: NodeId, request: &OpenRequest) -> Result<Opened, i32> {
        for patience in [Patience::None, Patience::HomeOnly] {
            match self
                .fs
                .open(node, request, &register, patience)
                .map_err(|e| errno(&e))?
            {
                OpenReply::Ready(opened) => return Ok(opened),
                OpenReply::Waits(_) | OpenReply::Held(_) => {}
            }
        }
        self.broken
            .push("an open that may wait asked to wait again".to_owned());
        fail(Errno::IO)
    }

    /// What the kernel does with the answer to an open.
    fn hold(&mut self, label: u32, node: NodeId, opened: Opened, access: Access) -> Outcome {
        let mut pool = None;
        while let Ok(event) = self.events.try_recv() {
            if let FsEvent::Opened {
                handle, pool: of, ..
            } = event
                && handle == opened.handle
            {
                pool = of;
            }
        }
        self.last_open = Some(OpenedBy { node, pool });
        let Some(known) = self.nodes.get_mut(&node) else {
            return fail(Errno::IO);
        };
        let mut backing = None;
        match &opened.served {
            Served::Passthrough(token) => {
                let same = known
                    .backing
                    .as_ref()
                    .is_none_or(|held| Arc::ptr_eq(held, token));
                if !same || known.cached > 0 {
                    self.broken
                        .push(format!("node {node} has another backing file: EIO"));
                }
                known.backing = Some(Arc::clone(token));
                let Some(Backing(file)) = token.downcast_ref() else {
                    return fail(Errno::IO);
                };
                let path = format!("/proc/self/fd/{}", file.as_raw_fd());
                let writes = access != Access::Read;
                let flags = open_flags(access, Flags::default()).bits().cast_signed();
                let mut options = File::options();
                options
                    .read(!matches!(access, Access::Write | Access::Append))
                    .write(writes);
                let again = options.custom_flags(flags & libc_append()).open(path);
                backing = Some(again.map_err(|e| io_errno(&e))?);
            }
            Served::Cached(_) => {
                if known.backing.is_some() {
                    self.broken
                        .push(format!("node {node} is cached beside a backing file: EIO"));
                }
                known.cached += 1;
            }
            Served::Direct | Served::Arriving => {
                if known.backing.is_some() {
                    self.broken
                        .push(format!("node {node} is direct beside a backing file: EIO"));
                }
            }
        }
        known.handles += 1;
        let held = Held {
            id: opened.handle,
            node,
            served: opened.served,
            backing,
            access,
        };
        self.held.insert(label, held);
        Ok(Answer::Done)
    }

    pub fn close(&mut self, label: u32) {
        let Some(held) = self.held.remove(&label) else {
            return;
        };
        drop(held.backing);
        self.fs.release(held.id);
        if let Some(known) = self.nodes.get_mut(&held.node) {
            known.handles -= 1;
            match held.served {
                Served::Cached(_) => known.cached -= 1,
                Served::Passthrough(_) | Served::Direct | Served::Arriving => {}
            }
            if known.handles == 0 {
                known.backing = None;
            }
        }
    }

    pub fn close_all(&mut self) {
        let labels: Vec<u32> = self.held.keys().copied().collect();
        labels.into_iter().for_each(|label| self.close(label));
    }

    fn read(&mut self, label: u32, offset: u64, length: usize) -> Outcome {
        let held = &self.held[&label];
        if matches!(held.access, Access::Write | Access::Append) {
            return fail(Errno::BADF);
        }
        let mut bytes = vec![0; length];
        let mut done = 0;
        while done < length {
            let at = offset + done as u64;
            let number = match &held.backing {
                Some(file) => file
                    .read_at(&mut bytes[done..], at)
                    .map_err(|e| io_errno(&e))?,
                None => self
                    .fs
                    .read(held.id, at, &mut bytes[done..])
                    .map_err(|e| errno(&e))?,
            };
            if number == 0 {
                break;
            }
            done += number;
        }
        bytes.truncate(done);
        Ok(Answer::Bytes(bytes))
    }

    /// All that a handle shows.
    pub fn read_all(&mut self, label: u32) -> Result<Vec<u8>, i32> {
        match self.read(label, 0, 1 << 20)? {
            Answer::Bytes(bytes) => Ok(bytes),
            _ => fail(Errno::IO),
        }
    }

    fn write(&mut self, label: u32, offset: u64, fill: Fill) -> Outcome {
        let held = &self.held[&label];
        if held.access == Access::Read {
            return fail(Errno::BADF);
        }
        let bytes = fill.bytes();
        if bytes.is_empty() {
            return Ok(Answer::Done);
        }
        match &held.backing {
            Some(file) if held.access == Access::Append => {
                std::io::Write::write_all(&mut &*file, &bytes).map_err(|e| io_errno(&e))?;
            }
            Some(file) => file
                .write_all_at(&bytes, offset)
                .map_err(|e| io_errno(&e))?,
            None => {
                let offset = match held.access {
                    Access::Append => {
                        let shown = self.fs.getattr(held.node, None).map_err(|e| errno(&e))?;
                        shown.attr.identity.size
                    }
                    _ => offset,
                };
                self.fs
                    .write(held.node, held.id, offset, &bytes, 1)
                    .map_err(|e| errno(&e))?;
            }
        }
        Ok(Answer::Done)
    }

    fn truncate_handle(&mut self, label: u32, size: u64) -> Outcome {
        let held = &self.held[&label];
        if held.access == Access::Read {
            return fail(Errno::INVAL);
        }
        let (node, id) = (held.node, held.id);
        self.set(
            node,
            Some(id),
            &SetAttr {
                size: Some(size),
                ..SetAttr::default()
            },
        )
    }

    fn remove(&mut self, path: &P, directory: bool) -> Outcome {
        let (parent, name) = self.parent(path)?;
        let node = self.lookup(parent, name)?;
        let is_directory = self.kind(node) == Kind::Directory;
        match (directory, is_directory) {
            (true, false) => return fail(Errno::NOTDIR),
            (false, true) => return fail(Errno::ISDIR),
            _ => {}
        }
        let done = match directory {
            true => self.fs.rmdir(parent, name.as_bytes(), 1),
            false => self.fs.unlink(parent, name.as_bytes(), 1),
        };
        done.map_err(|e| errno(&e))?;
        self.names.remove(&(parent, name.to_owned()));
        self.drop_below(node);
        Ok(Answer::Done)
    }

    fn rename(&mut self, from: &P, to: &P, mode: Mode) -> Outcome {
        let (from_parent, from_name) = self.parent(from)?;
        let (to_parent, to_name) = self.parent(to)?;
        let moved = self.lookup(from_parent, from_name)?;
        let target = self.maybe(to_parent, to_name)?;
        match (mode, target) {
            (Mode::NoReplace, Some(_)) => return fail(Errno::EXIST),
            (Mode::Exchange, None) => return fail(Errno::NOENT),
            _ => {}
        }
        if to.0.starts_with(&format!("{}/", from.0)) {
            return fail(Errno::INVAL);
        }
        if from.0.starts_with(&format!("{}/", to.0)) {
            return fail(if mode == Mode::Exchange {
                Errno::INVAL
            } else {
                Errno::NOTEMPTY
            });
        }
        if target == Some(moved) {
            return Ok(Answer::Done);
        }
        if let Some(target) = target.filter(|_| mode != Mode::Exchange) {
            let kinds = [self.kind(moved), self.kind(target)].map(|kind| kind == Kind::Directory);
            match kinds {
                [true, false] => return fail(Errno::NOTDIR),
                [false, true] => return fail(Errno::ISDIR),
                _ => {}
            }
        }
        let rename = match mode {
            Mode::Replace => RenameMode::Replace,
            Mode::NoReplace => RenameMode::NoReplace,
            Mode::Exchange => RenameMode::Exchange,
        };
        let (one, two) = (
            (from_parent, from_name.as_bytes()),
            (to_parent, to_name.as_bytes()),
        );
        self.fs.rename(one, two, rename, 1).map_err(|e| errno(&e))?;
        let (one, two) = (
            (from_parent, from_name.to_owned()),
            (to_parent, to_name.to_owned()),
        );
        self.names.remove(&one);
        self.names.insert(two, moved);
        match (mode, target) {
            (Mode::Exchange, Some(target)) => {
                self.names.insert(one, target);
            }
            (_, Some(target)) => self.drop_below(target),
            _ => {}
        }
        Ok(Answer::Done)
    }

    /// Gives back every node that is not held; names are looked up again.
    pub fn evict(&mut self) {
        self.names.clear();
        let held: HashSet<NodeId> = self.held.values().map(|held| held.node).collect();
        let fs = Arc::clone(&self.fs);
        self.nodes.retain(|node, known| {
            let keep = held.contains(node);
            if !keep {
                fs.forget(*node, known.lookups);
            }
            keep
        });
    }
}

/// The flag that a backing file is opened with beside its access.
fn libc_append() -> i32 {
    OFlags::APPEND.bits().cast_signed()
}
