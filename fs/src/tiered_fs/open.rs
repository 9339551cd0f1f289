//! Opening, reading, writing and closing regular files.
//!
//! An open never changes what other handles of the node are bound to. Where a file goes is decided
//! when the first handle of a node is opened; later handles share it, and an open that cannot share
//! (a writer beside readers of a replica) is sent to look the name up again: it finds another node.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FallocateFlags, Mode, OFlags, SeekFrom};

use super::{CHANGED, Shown, TieredFs};
use crate::errno;
use crate::error::{ErrorKind, FsError, FsResult};
use crate::event::FsEvent;
use crate::file::HomeFile;
use crate::first_load::{FirstLoad, Opening, Verdict};
use crate::handle::{Handle, OpenFile};
use crate::home::attr_of;
use crate::identity::Identity;
use crate::ids::{HandleId, HomeId, NodeId};
use crate::node::{Bound, Node, OpenState, Place, Target, Token};
use crate::residency::Notice;
use crate::same_file::Caller;
use crate::stats::count;
use crate::sys::caller::as_users_may;

/// Registers a file with the kernel for passthrough.
pub type Register<'a> = &'a dyn Fn(&File) -> io::Result<Token>;

/// To cut or remove a file so large takes its file system its time.
pub(super) const LARGE_BYTES: u64 = 1 << 30;

/// Who opens, and how.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenRequest {
    /// Flags of `open(2)`.
    pub flags: i32,
    /// The thread that opens, 0 when unknown.
    pub pid: u32,
    /// Owner of what is created.
    pub uid: u32,
    /// Group of what is created.
    pub gid: u32,
}

impl OpenRequest {
    fn flags(&self) -> OFlags {
        OFlags::from_bits_retain(self.flags.cast_unsigned())
    }

    /// Whether the handle may write.
    pub fn writes(&self) -> bool {
        self.flags().intersects(OFlags::WRONLY | OFlags::RDWR)
    }

    /// Whether the file shall be emptied.
    pub fn truncates(&self) -> bool {
        self.flags().contains(OFlags::TRUNC)
    }
}

/// Name, mode and flags of a file to be created.
#[derive(Clone, Copy, Debug)]
pub struct CreateRequest<'a> {
    /// The directory.
    pub parent: NodeId,
    /// The name.
    pub name: &'a [u8],
    /// Permission bits, the umask taken off.
    pub mode: u32,
    /// Who, and how.
    pub open: OpenRequest,
}

/// Who moves the bytes of a handle.
#[derive(Clone, Debug)]
pub enum Served {
    /// The kernel, by this registration.
    Passthrough(Token),
    /// The daemon, through the page cache; `true`: the cache may be kept.
    Cached(bool),
    /// The daemon, past the page cache.
    Direct,
    /// The daemon, past the page cache where the kernel can map such a file, else through it: the
    /// file is on its way, and whoever loads it may map it.
    Arriving,
}

/// An open handle.
#[derive(Clone, Debug)]
pub struct Opened {
    /// Its identifier.
    pub handle: HandleId,
    /// Who moves the bytes.
    pub served: Served,
}

/// How long an open may take to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Not at all: this thread answers the kernel.
    None,
    /// A cold home may be asked, and a copy be waited for.
    Home,
    /// The same, but no copy is waited for (any more).
    HomeOnly,
}

/// What an open leads to.
#[derive(Clone)]
pub enum OpenReply {
    /// It is open.
    Ready(Opened),
    /// It must ask a home that may hang: repeat on a thread of its own with [`Patience::Home`].
    Waits(HomeId),
    /// The file is being copied: hold the reply by `FirstLoads::hold`, then repeat on a thread of
    /// its own with [`Patience::HomeOnly`].
    Held(Arc<FirstLoad>),
}

/// The fastest copy that can be had.
pub(super) fn best_replica(file: &HomeFile) -> Option<Place> {
    file.with_live(|live| {
        let replica = live.serving()?;
        let copied = replica.meta().origin.source;
        let pool = replica.pool().id();
        Some(Place::Pool(pool, replica.shared_file(), copied))
    })
}

/// Whether what the node is bound to is the file in its home: what a writer can share.
fn is_bound_to_home(open: &OpenState, file: &HomeFile) -> bool {
    open.bound
        .as_ref()
        .is_some_and(|bound| bound.file.id == file.id && matches!(bound.place, Place::Home(_)))
}

/// Whether an open for writing has to ask the kernel for locks of the node's readers, or to empty a large file.
fn takes_long_to_write(node: &Node, file: &HomeFile, request: &OpenRequest) -> bool {
    let open = node.lock_open();
    open.handles > 0 && !is_bound_to_home(&open, file)
        || request.truncates() && file.attr().identity.size >= LARGE_BYTES
}

/// Takes away the bits that let a program run as its owner, as the kernel does when an ordinary user
/// changes the file: it was root, we, who emptied it.
fn clear_set_id(own: &File) -> rustix::io::Result<()> {
    let mode = rustix::fs::fstat(own)?.st_mode;
    // Without the group's execute bit it is a mark of mandatory locking, and stays.
    let set_group = if mode & 0o010 != 0 { 0o2000 } else { 0 };
    let cleared = mode & !(0o4000 | set_group);
    if cleared == mode {
        return Ok(());
    }
    rustix::fs::fchmod(own, Mode::from_raw_mode(cleared & 0o7777))
}

/// Whether a thread is of a group besides its own.
fn is_of_group(tid: u32, gid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{tid}/status")).unwrap_or_default();
    let groups = status.lines().find_map(|line| line.strip_prefix("Groups:"));
    let mut groups = groups.unwrap_or_default().split_whitespace();
    groups.any(|group| group.parse() == Ok(gid))
}

fn opening(node: &Node, request: &OpenRequest, patience: Patience) -> Opening {
    Opening {
        node: node.id,
        tid: request.pid,
        direct: request.flags().contains(OFlags::DIRECT),
        may_hold: patience == Patience::Home,
    }
}

/// The first load that a node's readers are served by, once its name leads to another node.
fn serving_load(open: &OpenState) -> Option<&FirstLoad> {
    let bound = open.bound.as_ref().filter(|_| open.retired)?;
    bound.first_load.as_deref()
}

impl TieredFs {
    /// Opens a node. Without patience it never asks a cold home.
    ///
    /// # Errors
    /// [`ErrorKind::ColdReadOnly`] for writing to a cold file, or the home's answer.
    pub fn open(
        &self,
        node: NodeId,
        request: &OpenRequest,
        register: Register<'_>,
        patience: Patience,
    ) -> FsResult<OpenReply> {
        let node = self.node(node)?;
        let target = node.target();
        self.see_displaced(
            &target,
            self.open_target(&node, &target, request, register, patience),
        )
    }

    fn open_target(
        &self,
        node: &Arc<Node>,
        target: &Target,
        request: &OpenRequest,
        register: Register<'_>,
        patience: Patience,
    ) -> FsResult<OpenReply> {
        match target {
            Target::File(file) if request.writes() || request.truncates() => {
                if patience == Patience::None && takes_long_to_write(node, file, request) {
                    return Ok(OpenReply::Waits(HomeId::MODELS));
                }
                self.open_for_writing(node, file, request, register)
                    .map(OpenReply::Ready)
            }
            Target::File(file) if self.bars(file, request) => {
                Err(FsError::new("open", ErrorKind::Barred))
            }
            Target::File(file) => self.open_for_reading(node, file, request, register, patience),
            // Its contents may take time to make: never on a thread that answers the kernel.
            Target::Virtual(_) if patience == Patience::None => {
                Ok(OpenReply::Waits(HomeId::MODELS))
            }
            Target::Virtual(_) if !self.handles.has_room_for_virtual(request.uid) => {
                Err(FsError::new("open", ErrorKind::Io(errno::too_many_open())))
            }
            Target::Virtual(index) => {
                let contents = self.virtual_files.read(self.virtual_name(*index));
                let uid = request.uid;
                let handle = self.handles.insert_virtual(*index, contents, uid);
                Ok(OpenReply::Ready(Opened {
                    handle,
                    served: Served::Direct,
                }))
            }
            _ => Err(FsError::new("open", ErrorKind::IsDirectory)),
        }
    }

    /// Whether the directories of a cold file's home keep the caller out. The kernel knows, but where an earlier home has
    /// just got or lost such a directory it may not have been told yet.
    fn bars(&self, file: &HomeFile, request: &OpenRequest) -> bool {
        if !file.is_cold() || request.uid == 0 {
            return false;
        }
        let bits = self.union.barred_as_believed(file);
        bits != 0 && {
            let attr = file.attr();
            let left = attr.permissions & !bits;
            let class = if request.uid == attr.uid {
                left >> 6
            } else if request.gid == attr.gid || is_of_group(request.pid, attr.gid) {
                left >> 3
            } else {
                left
            };
            class & 0o5 == 0
        }
    }

    fn open_for_reading(
        &self,
        node: &Arc<Node>,
        file: &Arc<HomeFile>,
        request: &OpenRequest,
        register: Register<'_>,
        patience: Patience,
    ) -> FsResult<OpenReply> {
        let may_wait = patience != Patience::None;
        if file.is_cold() && !may_wait && !file.is_resident() && self.copies(request.pid) {
            // Its open waits for the home anyway: whether it copies onto the file itself is asked there.
            return Ok(OpenReply::Waits(file.home));
        }
        if let Some(path) = self.union.path_of(file) {
            self.refuse_same_file("open", file, &path, request.pid)?;
        }
        // Closed when the node is unlocked again: that may take as long as its home hangs.
        let mut unneeded = None;
        let mut open = node.lock_open();
        if open.handles == 0 && self.has_changed(node, file) {
            // Not while the node is locked: dropping looks whether it is held.
            drop(open);
            self.drop_replicas(file, None, CHANGED);
            open = node.lock_open();
        }
        if open.handles == 0 {
            let place = match best_replica(file) {
                Some(place) => place,
                None if file.is_cold() && !may_wait => return Ok(OpenReply::Waits(file.home)),
                None if file.is_cold() => {
                    // Nobody else may be held up by the lock while a cold home is asked.
                    drop(open);
                    match self
                        .first_loads
                        .open(file, &opening(node, request, patience))
                    {
                        Verdict::Ordinary => {}
                        Verdict::Hold(load) => return Ok(OpenReply::Held(load)),
                        Verdict::Serve(load) => {
                            return self.open_arriving(node, file, load, request, register);
                        }
                    }
                    let home = self.open_cold(node, file)?;
                    let place = Place::Home(Arc::new(self.within_limit(home, request)?));
                    open = node.lock_open();
                    place
                }
                None => {
                    let home = self.open_home(node, file, false)?;
                    Place::Home(Arc::new(self.within_limit(home, request)?))
                }
            };
            match open.handles {
                0 => self.bind(&mut open, file, place, register),
                _ => unneeded = Some(place),
            }
        } else if self.is_stale(node, &open) {
            // Others hold the node on a stale replica and keep it; whoever comes now is sent to look
            // the name up again, and finds a node that has what the home has. The kernel may not have
            // been told yet that the name leads there.
            if !open.retired {
                // To be told of all locks takes the kernel its time.
                if !may_wait {
                    return Ok(OpenReply::Waits(file.home));
                }
                drop(open);
                self.leave_stale(node, file);
                open = node.lock_open();
            }
            if open.handles == 0 || open.retired && open.sends_on(request.pid) {
                self.first_loads.sent_on(file.id, request.pid);
                return Err(FsError::new("open", ErrorKind::Retired));
            }
        } else if let Some(load) = serving_load(&open)
            && self
                .first_loads
                .sends_on(load, &opening(node, request, patience))
        {
            return Err(FsError::new("open", ErrorKind::Retired));
        } else if self.may_be_for_a_first_load(file, &open) {
            // Nobody is kept waiting: to be told of all locks takes the kernel 10 ms and more.
            if !may_wait {
                return Ok(OpenReply::Waits(file.home));
            }
            drop(open);
            self.make_way_for_a_first_load(node, file, request.pid);
            open = node.lock_open();
            if open.handles == 0 {
                // Everybody has closed it meanwhile. Sending this one elsewhere would be a second
                // time for some.
                drop(open);
                return self.open_for_reading(node, file, request, register, patience);
            }
        }
        let served = self.share(&mut open, request);
        let opened = self.opened(node, file, &open, served, None, request);
        drop(open);
        drop(unneeded);
        self.first_loads.arrived(file.id, request.pid);
        Ok(OpenReply::Ready(opened))
    }

    /// Whether replicas of a file of the models directory are of what it was before a change behind
    /// our back. That home is local: its word is had at once, before inotify tells.
    fn has_changed(&self, node: &Node, file: &HomeFile) -> bool {
        let source = file.with_live(|live| Some(live.replicas.first()?.meta().origin.source));
        let (Some(source), false) = (source, file.is_cold()) else {
            return false;
        };
        let current = self.current(node, file);
        current.is_none_or(|current| !source.same_contents(&current))
    }

    /// What the models directory has of a file now.
    fn current(&self, node: &Node, file: &HomeFile) -> Option<Identity> {
        match node.anchor(file) {
            Some(anchor) => Identity::of_fd(&*anchor).ok(),
            None => {
                let path = self.union.path_of(file)?;
                Some(self.models().stat(&path).ok()?.identity)
            }
        }
    }

    /// Whether the node is held on a replica of what its home no longer has. Only of the models
    /// directory is that known at once.
    fn is_stale(&self, node: &Node, open: &OpenState) -> bool {
        let Some(bound) = open.bound.as_ref() else {
            return false;
        };
        // What is on record of the file may be newer than what was copied: a `stat` looks as well.
        let copied = bound.place.copied().filter(|_| !bound.file.is_cold());
        copied.is_some_and(|copied| {
            let current = self.current(node, &bound.file);
            current.is_some_and(|current| !current.same_contents(copied))
        })
    }

    /// Makes whoever opens next find another node than this, which is held on a stale replica.
    fn leave_stale(&self, node: &Arc<Node>, file: &Arc<HomeFile>) {
        if self.has_changed(node, file) {
            self.drop_replicas(file, None, CHANGED);
        }
        // There may be fresh replicas: while a lock held this node, nothing could be done.
        self.residency.retire_held(&self.nodes, file);
    }

    /// Opens a file of a cold home: by its path, or by its anchor when the name went a moment ago.
    pub(super) fn open_cold(&self, node: &Node, file: &Arc<HomeFile>) -> FsResult<File> {
        let gone = || FsError::new("open", ErrorKind::NotFound);
        let by_path = self
            .union
            .path_of(file)
            .ok_or_else(gone)
            .and_then(|path| self.home_of(file).open_file(&path, false));
        let opened = match (by_path, node.anchor(file)) {
            (Ok(opened), _) => {
                self.must_be(file, &opened)?;
                opened
            }
            (Err(_), Some(anchor)) => crate::home::reopen(&anchor, false)
                .map_err(|error| FsError::new("open", ErrorKind::Io(error)))?,
            (Err(error), None) => return Err(error),
        };
        if let Ok(identity) = Identity::of_fd(&opened)
            && !identity.same_contents(&file.attr().identity)
        {
            self.look_again(file);
        }
        Ok(opened)
    }

    /// The file, unless so many are open that what is left is root's.
    pub(super) fn within_limit(&self, opened: File, request: &OpenRequest) -> FsResult<File> {
        match request.uid == 0 || opened.as_raw_fd() < self.opens_below {
            true => Ok(opened),
            false => Err(FsError::new("open", ErrorKind::Io(errno::too_many_open()))),
        }
    }

    /// Opens a file of the models directory: by its path, or by its anchor when the path is gone. Who writes must
    /// mean it ([`Self::must_be_meant`]).
    pub(super) fn open_home(
        &self,
        node: &Node,
        file: &Arc<HomeFile>,
        write: bool,
    ) -> FsResult<File> {
        match (self.open_by_name(file, write), node.anchor(file)) {
            (Err(_), Some(anchor)) => crate::home::reopen(&anchor, write)
                .map_err(|error| FsError::new("open", ErrorKind::Io(error))),
            (by_name, _) => by_name,
        }
    }

    fn open_by_name(&self, file: &Arc<HomeFile>, write: bool) -> FsResult<File> {
        let gone = || FsError::new("open", ErrorKind::NotFound);
        let path = self.union.path_of(file).ok_or_else(gone)?;
        let opened = self.models().open_file(&path, write)?;
        self.must_be(file, &opened)?;
        Ok(opened)
    }

    pub(super) fn bind(
        &self,
        open: &mut OpenState,
        file: &Arc<HomeFile>,
        place: Place,
        register: Register<'_>,
    ) {
        let register = || match &place {
            // Those who write to it write as who registers it.
            Place::Home(home) if !file.is_cold() => as_users_may(home, || register(home)),
            place => register(place.file()),
        };
        let token = self.settings.passthrough.then(register);
        let token = match token {
            Some(Ok(token)) => Some(token),
            Some(Err(error)) => {
                tracing::debug!(%error, file = %file.id, "no passthrough for this file");
                None
            }
            None => None,
        };
        open.bound = Some(Box::new(Bound {
            file: Arc::clone(file),
            place,
            token,
            first_load: None,
        }));
    }

    /// One handle more on what the node is bound to.
    pub(super) fn share(&self, open: &mut OpenState, request: &OpenRequest) -> Served {
        open.handles += 1;
        let Some(bound) = &open.bound else {
            return Served::Direct;
        };
        match &bound.token {
            Some(token) => Served::Passthrough(Arc::clone(token)),
            // Direct I/O passes the page cache by itself; of a file that does so anyway the kernel
            // would ask for a part of each read after the other, not for all of them at once.
            None if bound.first_load.is_some() => match request.flags().contains(OFlags::DIRECT) {
                true => Served::Cached(false),
                false => Served::Arriving,
            },
            None => {
                // What is on record may be older than what is read: a change behind our back.
                let identity = match &bound.place {
                    Place::Home(home) if !bound.file.is_cold() => Identity::of_fd(home).ok(),
                    // A replica is of what was copied, whatever the file is by now.
                    Place::Pool(.., copied) => Some(*copied),
                    // A cold home may hang.
                    Place::Home(_) => None,
                };
                let identity = identity.unwrap_or_else(|| bound.file.attr().identity);
                let contents = Box::new((identity.size, identity.mtime_ns));
                let keep = open.cached.as_ref() == Some(&contents);
                open.cached = Some(contents);
                Served::Cached(keep)
            }
        }
    }

    pub(super) fn opened(
        &self,
        node: &Arc<Node>,
        file: &Arc<HomeFile>,
        open: &OpenState,
        served: Served,
        own: Option<File>,
        request: &OpenRequest,
    ) -> Opened {
        count(&self.stats.opens);
        let pool = open.bound.as_ref().and_then(|bound| bound.place.pool());
        match (&served, pool) {
            (Served::Passthrough(_), Some(_)) => count(&self.stats.opens_resident),
            (Served::Passthrough(_), None) => count(&self.stats.opens_home),
            _ => count(&self.stats.opens_daemon),
        }
        file.with_live(|live| live.opens += 1);
        let write = own.is_some();
        let opened = OpenFile {
            node: Arc::clone(node),
            file: Arc::clone(file),
            own,
            tid: request.pid,
            read_bytes: AtomicU64::new(0),
        };
        let handle = self.handles.insert(Handle::File(Arc::new(opened)));
        let (file, pid) = (Arc::clone(file), request.pid);
        let bound = open.bound.as_ref();
        let looks = bound.is_some_and(|bound| bound.first_load.is_some());
        self.residency.tell(FsEvent::Opened {
            file,
            handle,
            pid,
            write,
            pool,
            looks,
        });
        Opened { handle, served }
    }

    fn open_for_writing(
        &self,
        node: &Arc<Node>,
        file: &Arc<HomeFile>,
        request: &OpenRequest,
        register: Register<'_>,
    ) -> FsResult<Opened> {
        self.refuse_read_only("open for writing")?;
        if request.truncates() && !file.is_cold() {
            self.refuse_truncating_itself(file, request.pid)?;
        }
        let shadow = match file.is_cold() {
            true if request.truncates() => {
                let _changing = self.changing();
                Some(self.shadow(node, file, request)?)
            }
            true => return Err(self.refuse_cold("open for writing", file, request.pid)),
            false => None,
        };
        let file = shadow.as_ref().unwrap_or(file);
        self.residency.writer_comes(&self.nodes, file);
        self.open_writer(node, file, request, register)
            .inspect_err(|_| {
                self.residency.writer_goes(file);
            })
    }

    /// Refuses to empty a file for a process that reads it by its path in the home.
    fn refuse_truncating_itself(&self, file: &Arc<HomeFile>, pid: u32) -> FsResult<()> {
        let identity = file.attr().identity;
        let (Some(mountpoint), Some(path)) = (self.mountpoint.get(), self.union.path_of(file))
        else {
            return Ok(());
        };
        if identity.size == 0 || pid == 0 {
            return Ok(());
        }
        if Caller::new(pid, mountpoint).holds(&identity) {
            let (operation, text) = ("truncate", path.to_string());
            self.residency.tell(FsEvent::SameFileRefused {
                operation,
                path: text,
                pid,
            });
            let why = "the caller has the same file open in its home";
            return Err(FsError::new(operation, ErrorKind::Busy(why)).at(&path));
        }
        self.refuse_same_file("truncate", file, &path, pid)
    }

    fn open_writer(
        &self,
        node: &Arc<Node>,
        file: &Arc<HomeFile>,
        request: &OpenRequest,
        register: Register<'_>,
    ) -> FsResult<Opened> {
        let own = match self.open_by_name(file, true) {
            Ok(own) => own,
            Err(_) => {
                self.must_be_meant(node, file, request.pid)?;
                self.open_home(node, file, true)?
            }
        };
        let own = self.within_limit(own, request)?;
        // Before anything is changed: who is sent elsewhere has done nothing here.
        self.send_elsewhere(node, file, &mut node.lock_open())?;
        if request.truncates() {
            own.set_len(0)
                .map_err(|error| FsError::new("truncate", ErrorKind::Io(error)))?;
            if request.uid != 0 {
                clear_set_id(&own)
                    .map_err(|errno| FsError::new("truncate", ErrorKind::Io(errno.into())))?;
            }
            self.note_written(file, &own);
        }
        let mut open = node.lock_open();
        self.bind_for_writing(node, file, &own, &mut open, register)?;
        let served = self.share(&mut open, request);
        Ok(self.opened(node, file, &open, served, Some(own), request))
    }

    /// Binds a node to the file in its home, unless it is held and bound already.
    fn bind_to_home(
        &self,
        node: &Arc<Node>,
        file: &Arc<HomeFile>,
        own: &File,
        open: &mut OpenState,
        register: Register<'_>,
    ) -> FsResult<()> {
        if open.handles > 0 {
            return Ok(());
        }
        let place = self.open_home(node, file, false).or_else(|_| {
            own.try_clone()
                .map_err(|error| FsError::new("open", ErrorKind::Io(error)))
        })?;
        self.bind(open, file, Place::Home(Arc::new(place)), register);
        Ok(())
    }

    /// The same for a writer, who can share no binding but that.
    fn bind_for_writing(
        &self,
        node: &Arc<Node>,
        file: &Arc<HomeFile>,
        own: &File,
        open: &mut OpenState,
        register: Register<'_>,
    ) -> FsResult<()> {
        self.bind_to_home(node, file, own, open, register)?;
        self.send_elsewhere(node, file, open)
    }

    /// Refuses a writer on a node whose readers are bound to something else: a replica, or the cold
    /// file that was there before. They keep what they have opened, and the kernel takes one backing
    /// file and one page cache a node: it answers EIO to an open that is served otherwise. Told that
    /// the node is no longer the name's, it looks the name up again, finds a node without readers,
    /// and opens that.
    fn send_elsewhere(
        &self,
        node: &Arc<Node>,
        file: &Arc<HomeFile>,
        open: &mut OpenState,
    ) -> FsResult<()> {
        if open.handles == 0 || is_bound_to_home(open, file) {
            return Ok(());
        }
        self.refuse_locked(node, file)?;
        open.retired = true;
        self.residency.retire(&self.nodes, file, node);
        Err(FsError::new("open for writing", ErrorKind::Retired))
    }

    /// Refuses to send a writer to another node when a reader has locked this one: there the lock
    /// would hold nobody off.
    pub(super) fn refuse_locked(&self, node: &Arc<Node>, file: &Arc<HomeFile>) -> FsResult<()> {
        if self.residency.is_locked(node, file) {
            let why = "a reader has locked it and keeps what it has opened";
            return Err(FsError::new("open for writing", ErrorKind::Busy(why)));
        }
        Ok(())
    }

    /// Creates and opens a file in the models directory.
    ///
    /// # Errors
    /// [`ErrorKind::Exists`] when the name exists in any home; the home's answer.
    pub fn create(
        &self,
        request: &CreateRequest<'_>,
        register: Register<'_>,
    ) -> FsResult<(Shown, Opened)> {
        let (file, own) = self.create_file(request)?;
        let node = self.node(self.nodes.look_up_file(&file, || self.anchor(&file)))?;
        let writes = request.open.writes();
        if writes {
            self.residency.writer_comes(&self.nodes, &file);
        }
        let mut open = node.lock_open();
        // Somebody else may have made the name just now, and others may have it open already.
        let bound = match writes {
            true => self.bind_for_writing(&node, &file, &own, &mut open, register),
            false => self.bind_to_home(&node, &file, &own, &mut open, register),
        };
        if let Err(error) = bound {
            drop(open);
            if writes {
                self.residency.writer_goes(&file);
            }
            self.nodes.forget(node.id, 1);
            return Err(error);
        }
        let served = self.share(&mut open, &request.open);
        let own = writes.then_some(own);
        let opened = self.opened(&node, &file, &open, served, own, &request.open);
        drop(open);
        Ok((self.show_file(node.id, &file), opened))
    }

    /// Closes a handle.
    pub fn release(&self, handle: HandleId) {
        let Some(Handle::File(opened)) = self.handles.remove(handle) else {
            return;
        };
        let (node, file) = (&opened.node, &opened.file);
        let unbound = {
            let mut open = node.lock_open();
            open.handles = open.handles.saturating_sub(1);
            // Given back after the lock: the last reference closes descriptors.
            if open.handles == 0 {
                open.bound.take()
            } else {
                None
            }
        };
        // To close a file of a home that hangs takes as long as that hangs.
        match unbound {
            Some(bound) if bound.file.is_cold() && bound.place.pool().is_none() => {
                self.offload(bound.file.home).run(Box::new(|| drop(bound)));
            }
            unbound => drop(unbound),
        }
        file.with_live(|live| live.opens = live.opens.saturating_sub(1));
        if let Some(own) = &opened.own {
            // Before the writer is counted out: what it has written is no change behind our back.
            self.note_written(file, own);
        }
        if opened.own.is_some() && self.residency.writer_goes(file) {
            self.residency.notice(Notice::Attr(node.id));
            self.tree_changed();
        }
        self.residency.tell(FsEvent::Closed {
            file: Arc::clone(file),
            handle,
        });
    }

    /// Whether writing to this node may take time: a command of the control file.
    pub fn write_waits(&self, node: NodeId) -> bool {
        matches!(self.nodes.target(node), Some(Target::Virtual(_)))
    }

    /// Whether reading this handle may wait for a cold home, and for which.
    pub fn read_waits_for(&self, handle: HandleId) -> Option<HomeId> {
        if self.handles.virtual_contents(handle).is_some() {
            return Some(HomeId::MODELS);
        }
        let open = self.handles.file(handle)?;
        let on_cold = open
            .node
            .lock_open()
            .bound
            .as_ref()
            .is_some_and(|bound| bound.file.is_cold() && matches!(bound.place, Place::Home(_)));
        on_cold.then_some(open.file.home)
    }

    /// Reads through the daemon.
    ///
    /// # Errors
    /// The kernel's answer, with the offset.
    pub fn read(&self, handle: HandleId, offset: u64, buffer: &mut [u8]) -> FsResult<usize> {
        if let Some((index, mut contents)) = self.handles.virtual_contents(handle) {
            let name = self.virtual_name(index);
            let from = usize::try_from(offset).unwrap_or(usize::MAX);
            if from >= contents.len() && self.virtual_files.size_bytes(name) > offset {
                // A file that grows and is followed.
                contents = Arc::new(self.virtual_files.read(name));
            }
            let rest = contents.get(from..).unwrap_or_default();
            let length = rest.len().min(buffer.len());
            buffer[..length].copy_from_slice(&rest[..length]);
            return Ok(length);
        }
        let failed = |error| FsError::new("read", ErrorKind::Io(error)).at_offset(offset);
        let open = self.open_file_of(handle)?;
        let mut length = 0;
        while length < buffer.len() {
            let at = offset + length as u64;
            let place = self.bound_place(&open)?;
            match place.file().read_at(&mut buffer[length..], at) {
                Ok(0) => break,
                Ok(number) => length += number,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
        self.stats
            .daemon_read_bytes
            .fetch_add(length as u64, Ordering::Relaxed);
        Ok(length)
    }

    fn bound_place(&self, open: &OpenFile) -> FsResult<Place> {
        let state = open.node.lock_open();
        let place = state.bound.as_ref().map(|bound| bound.place.clone());
        place.ok_or_else(|| FsError::new("read", ErrorKind::NotFound))
    }

    pub(super) fn open_file_of(&self, handle: HandleId) -> FsResult<Arc<OpenFile>> {
        self.handles
            .file(handle)
            .ok_or_else(|| FsError::new("find handle", ErrorKind::NotFound))
    }

    fn writer_of<'a>(&self, open: &'a OpenFile) -> FsResult<&'a File> {
        open.own
            .as_ref()
            .ok_or_else(|| FsError::new("write", ErrorKind::NotPermitted))
    }

    /// Writes through the daemon: to a virtual file, or where the kernel does not.
    ///
    /// # Errors
    /// The kernel's answer, with the offset; [`ErrorKind::Invalid`] for a bad control command.
    pub fn write(
        &self,
        node: NodeId,
        handle: HandleId,
        offset: u64,
        bytes: &[u8],
        pid: u32,
    ) -> FsResult<usize> {
        if let Target::Virtual(index) = self.target(node)? {
            return match self
                .virtual_files
                .write(self.virtual_name(index), bytes, pid)
            {
                Ok(()) => Ok(bytes.len()),
                Err(message) => {
                    tracing::info!(%message, pid, "refused a write to the control file");
                    Err(FsError::new(
                        "control",
                        ErrorKind::Invalid("a bad control command"),
                    ))
                }
            };
        }
        let open = self.open_file_of(handle)?;
        let own = self.writer_of(&open)?;
        as_users_may(own, || own.write_all_at(bytes, offset))
            .map_err(|error| FsError::new("write", ErrorKind::Io(error)).at_offset(offset))?;
        self.stats
            .daemon_written_bytes
            .fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(bytes.len())
    }

    /// Makes a file durable, whoever has written it: any handle of it will do.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn fsync(&self, handle: HandleId, data_only: bool) -> FsResult<()> {
        let open = self.open_file_of(handle)?;
        let sync = |file: &File| match data_only {
            true => file.sync_data(),
            false => file.sync_all(),
        };
        let done = match &open.own {
            Some(own) => sync(own),
            None => match self.home_file_of(&open)? {
                Some(home) => sync(&home),
                None => Ok(()),
            },
        };
        done.map_err(|error| FsError::new("fsync", ErrorKind::Io(error)))
    }

    /// What a reader's handle has of the models directory, also when it reads a replica. `None`: it is
    /// of cold storage, where nothing is written, or nothing leads to the file any more.
    pub(super) fn home_file_of(&self, open: &OpenFile) -> FsResult<Option<Arc<File>>> {
        let file = {
            let state = open.node.lock_open();
            let Some(bound) = state.bound.as_ref().filter(|bound| !bound.file.is_cold()) else {
                return Ok(None);
            };
            if let Place::Home(home) = &bound.place {
                return Ok(Some(Arc::clone(home)));
            }
            Arc::clone(&bound.file)
        };
        match self.open_home(&open.node, &file, false) {
            Ok(home) => Ok(Some(Arc::new(home))),
            Err(_) if file.any_name().is_none() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes a directory of the models directory durable.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn fsync_directory(&self, node: NodeId) -> FsResult<()> {
        let Ok(directory) = self.directory_of(node) else {
            return Ok(());
        };
        let path = self.union.directory_path(directory);
        let Some(path) = path.filter(|_| self.in_models(directory)) else {
            return Ok(());
        };
        self.models().sync_directory(&path)
    }

    /// Allocates, punches or zeroes a range.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn fallocate(&self, handle: HandleId, mode: i32, offset: u64, length: u64) -> FsResult<()> {
        let open = self.open_file_of(handle)?;
        let own = self.writer_of(&open)?;
        let flags = FallocateFlags::from_bits_retain(mode.cast_unsigned());
        as_users_may(own, || rustix::fs::fallocate(own, flags, offset, length))
            .map_err(|errno| FsError::new("fallocate", ErrorKind::Io(errno.into())))?;
        self.note_written(&open.file, own);
        Ok(())
    }

    /// Finds data or a hole.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn lseek(&self, handle: HandleId, offset: i64, whence: i32) -> FsResult<u64> {
        let open = self.open_file_of(handle)?;
        let place = self.bound_place(&open)?;
        let from = u64::try_from(offset)
            .map_err(|_| FsError::new("seek", ErrorKind::Invalid("negative offset")))?;
        let position = match whence {
            libc::SEEK_DATA => SeekFrom::Data(from),
            libc::SEEK_HOLE => SeekFrom::Hole(from),
            _ => return Err(FsError::new("seek", ErrorKind::Invalid("unknown whence"))),
        };
        // Nothing else uses the position of these descriptors.
        rustix::fs::seek(place.file(), position)
            .map_err(|errno| FsError::new("seek", ErrorKind::Io(errno.into())))
    }

    /// Records size and times of a file of the models directory that was just changed.
    pub(super) fn note_written(&self, file: &HomeFile, own: &File) {
        if let Ok(attr) = attr_of(own) {
            file.set_attr(attr);
        }
    }
}
