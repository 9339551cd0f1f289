//! `TieredFs`: one method an operation of the file system, without any FUSE type.
//!
//! Owns homes, union, nodes, handles and residency, and joins them. No method waits for a cold home:
//! what must wait is reported as [`OpenReply::Waits`] and done again on a thread that may. Tests
//! below the mount drive this object.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, RwLock};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::attr::{Attr, Kind};
use crate::error::{ErrorKind, FsError, FsResult};
use crate::event::FsEvent;
use crate::file::{HomeFile, Live};
use crate::first_load::FirstLoads;
use crate::handle::{Handle, HandleTable};
use crate::home::{Home, Watch, attr_of};
use crate::identity::Identity;
use crate::ids::{DirId, HandleId, HomeId, NodeId, PoolId};
use crate::node::{Node, NodeTable, Place, Target, VIRTUAL_NODE};
use crate::offload::Offload;
use crate::pool::{Pool, Reach};
use crate::rel_path::{RelPath, check_name};
use crate::replica::{Drainer, Replica};
use crate::residency::{Notice, Residency};
use crate::settings::FsSettings;
use crate::stats::{Stats, count};
use crate::sys::lease;
use crate::union::{Found, HOMES_MAX, ListedName, Union, UnionChange};
use crate::virtual_file::{DIRECTORY, VirtualFiles};

mod open;
mod first_read;
mod changes;
mod keep_true;
mod vanished;

pub use changes::{RenameMode, SetAttr, Time};
pub(crate) use first_read::with_buffer;
pub use first_read::{FirstRead, Sink};
pub use keep_true::HomeState;
pub use open::{CreateRequest, OpenReply, OpenRequest, Opened, Patience, Register, Served};

/// Why a file loses its replicas that no name leads to.
const HIDDEN: &str = "no name shows the file any more";
/// Why it goes when its pool was taken out of use while it was made.
const PARTED: &str = "its pool is disconnected";
/// The same for one that is no longer what was copied.
const CHANGED: &str = "the file changed in its home";

/// Inode numbers shown for the virtual files: far above those of homes.
const VIRTUAL_INO: u64 = 1 << 61;

/// Attributes as a `stat` of the mount shows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The nodeid.
    pub node: NodeId,
    /// The inode number.
    pub ino: u64,
    /// Everything else.
    pub attr: Attr,
    /// How long the kernel may keep the attributes.
    pub attr_timeout: Duration,
}

/// The file system.
pub struct TieredFs {
    pub(crate) settings: FsSettings,
    homes: Vec<Arc<Home>>,
    offloads: Vec<Offload>,
    slow: Offload,
    union: Union,
    nodes: Arc<NodeTable>,
    handles: HandleTable,
    residency: Residency,
    first_loads: Arc<FirstLoads>,
    virtual_files: Arc<dyn VirtualFiles>,
    stats: Arc<Stats>,
    speeds: Vec<AtomicU64>,
    keep_true: keep_true::KeepTrue,
    /// Shared by changes through us, from the system call until it is recorded; taken alone by who
    /// looks at the models directory, so that nobody sees a rename half recorded.
    gate: RwLock<()>,
    /// Grows with every change of the tree.
    generation: AtomicU64,
    /// Where it is mounted, once it is.
    mountpoint: OnceLock<PathBuf>,
    vanished: vanished::Vanished,
    /// Anchors have descriptors below this. The lowest free number is given out: where it is as high,
    /// so many are open, and what is left is kept for files that are opened.
    anchors_below: i32,
    /// The same of what ordinary users open.
    opens_below: i32,
}

/// Of the descriptors that this process may have, one of so many is no anchor.
const DESCRIPTORS_KEPT: u64 = 4;
/// One of so many is for root, the homes and the control doors alone: no user can keep them from all others.
const DESCRIPTORS_OF_ROOT: u64 = 16;

/// Descriptors below this leave one of `kept` free.
fn descriptors_below(kept: u64) -> i32 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let below = limit.current.map(|most| most - most / kept);
    below.map_or(i32::MAX, |below| i32::try_from(below).unwrap_or(i32::MAX))
}

fn unknown_node() -> FsError {
    FsError::new("find node", ErrorKind::NotFound)
}

/// How long a writer may take to be gone: the kernel tells of a close before it has closed.
const WRITER_PATIENCE: Duration = Duration::from_millis(100);

/// Whether somebody has the file of a home open or mapped for writing, as far as the file system says.
fn has_writer(opened: &File) -> bool {
    let until = Instant::now() + WRITER_PATIENCE;
    while let Ok(false) = lease::has_no_writer(opened) {
        if Instant::now() >= until {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

/// How many pools can be known at once.
pub const POOLS_MAX: usize = 64;

impl TieredFs {
    /// Opens the homes and scans the models directory. Cold directories are empty until
    /// [`TieredFs::start`] has scanned them. Gives the channel of notices for the adapter.
    ///
    /// # Errors
    /// When a home cannot be opened or the models directory not be read.
    pub fn new(
        settings: FsSettings,
        drainer: Arc<Drainer>,
        events: Sender<FsEvent>,
        virtual_files: Arc<dyn VirtualFiles>,
    ) -> FsResult<(Arc<TieredFs>, Receiver<Notice>)> {
        if settings.cold.len() >= HOMES_MAX {
            let kind = ErrorKind::Invalid("more than 63 cold directories");
            return Err(FsError::new("mount", kind));
        }
        let mut homes = vec![Home::open_models(&settings.models_dir)?];
        for (index, cold) in settings.cold.iter().enumerate() {
            let id = HomeId(u16::try_from(index + 1).unwrap_or(u16::MAX));
            homes.push(Home::open_cold(id, &cold.path, cold.watch)?);
        }
        let homes: Vec<Arc<Home>> = homes.into_iter().map(Arc::new).collect();
        let root = homes[0].stat(&RelPath::root())?;
        let stats = Arc::new(Stats::default());
        let (notices, receiver) = unbounded();
        let file_system = Arc::new(TieredFs {
            offloads: homes
                .iter()
                .map(|home| Offload::new(&format!("home-{}", home.id())))
                .collect(),
            slow: Offload::new("slow"),
            union: Union::new(root, homes.len()),
            nodes: Arc::new(NodeTable::new(virtual_files.names().len())),
            handles: HandleTable::default(),
            residency: Residency::new(notices, events, drainer, Arc::clone(&stats)),
            first_loads: FirstLoads::new(Arc::clone(&stats)),
            virtual_files,
            stats,
            speeds: (0..POOLS_MAX).map(|_| AtomicU64::new(0)).collect(),
            keep_true: keep_true::KeepTrue::new(homes.len()),
            gate: RwLock::new(()),
            generation: AtomicU64::new(1),
            anchors_below: descriptors_below(DESCRIPTORS_KEPT),
            opens_below: descriptors_below(DESCRIPTORS_OF_ROOT),
            mountpoint: OnceLock::new(),
            vanished: vanished::Vanished::default(),
            homes,
            settings,
        });
        file_system
            .first_loads
            .set_max_wait(file_system.settings.max_wait);
        file_system.scan_models()?;
        Ok((file_system, receiver))
    }

    /// The settings it was made with.
    pub fn settings(&self) -> &FsSettings {
        &self.settings
    }

    /// The homes in order of precedence; the first is the models directory.
    pub fn homes(&self) -> &[Arc<Home>] {
        &self.homes
    }

    /// The merged tree.
    pub fn union(&self) -> &Union {
        &self.union
    }

    /// Files that are promoted while somebody opens them.
    pub fn first_loads(&self) -> &Arc<FirstLoads> {
        &self.first_loads
    }

    /// Counters.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Number of nodes that the kernel knows.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// Number of open handles.
    pub fn handle_count(&self) -> usize {
        self.handles.len()
    }

    /// Whether a handle has not been closed yet.
    pub fn has_handle(&self, handle: HandleId) -> bool {
        self.handles.has(handle)
    }

    /// Threads that may wait for a home.
    pub fn offload(&self, home: HomeId) -> &Offload {
        &self.offloads[usize::from(home.0).min(self.offloads.len() - 1)]
    }

    /// Threads for what may take the models directory's disk long: to make durable, allocate, cut or remove. What else
    /// is asked of that home does not wait behind it.
    pub fn offload_slow(&self) -> &Offload {
        &self.slow
    }

    /// Where it is mounted and with which device number, once it is.
    pub fn set_mount(&self, mountpoint: &Path, dev: u64) {
        // It is mounted once.
        let _ = self.mountpoint.set(mountpoint.to_owned());
        self.residency.set_mount_dev(dev);
    }

    /// That device number, once it is mounted.
    pub fn mount_dev(&self) -> Option<u64> {
        self.residency.mount_dev()
    }

    /// The home of a file.
    pub fn home_of(&self, file: &HomeFile) -> &Arc<Home> {
        &self.homes[usize::from(file.home.0).min(self.homes.len() - 1)]
    }

    fn models(&self) -> &Home {
        &self.homes[0]
    }

    // ---- replicas ------------------------------------------------------------------------

    /// Tells how fast a pool is (bytes a second): the fastest replica of a file serves.
    pub fn set_pool_speed(&self, pool: PoolId, bytes_per_sec: u64) {
        if let Some(speed) = self.speeds.get(usize::from(pool.0)) {
            speed.store(bytes_per_sec, Ordering::Relaxed);
        }
    }

    /// Opens a file to be copied. One that somebody may be writing is none: through the mount, or in the
    /// models directory itself, where also a mapping counts whose descriptor is closed.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`] for such a file; the home's answer.
    pub fn open_to_copy(&self, file: &HomeFile) -> FsResult<File> {
        let written = |why| FsError::new("promote", ErrorKind::Busy(why));
        if file.with_live(|live| live.writers > 0) {
            return Err(written("the file is being written"));
        }
        let gone = || FsError::new("promote", ErrorKind::NotFound);
        let path = self.union.path_of(file).ok_or_else(gone)?;
        let opened = self.home_of(file).open_file(&path, false)?;
        if !file.is_cold() && has_writer(&opened) {
            return Err(written("somebody has it open or mapped for writing").at(&path));
        }
        Ok(opened)
    }

    /// Gives a verified replica to new opens; `writes` is [`HomeFile::writes`] when the copy began.
    ///
    /// # Errors
    /// The replica back, when the file has a writer, is not what was copied, or has no name (any
    /// more) that shows it.
    pub fn publish(
        &self,
        file: &Arc<HomeFile>,
        replica: Replica,
        writes: u32,
    ) -> Result<(), (FsError, Box<Replica>)> {
        let pool = Arc::clone(replica.pool());
        if !self.union.shows(file) {
            self.first_loads.end(file.id);
            return Err((
                FsError::new("publish", ErrorKind::NotFound),
                Box::new(replica),
            ));
        }
        if !file.is_cold() {
            // What the models directory has now, not what inotify will tell us soon.
            self.reload_attr(file);
            let opened = self.open_to_copy(file);
            if let Err(error) = opened
                && matches!(error.kind, ErrorKind::Busy(_))
            {
                self.first_loads.end(file.id);
                return Err((error, Box::new(replica)));
            }
        }
        self.residency
            .publish(&self.nodes, file, replica, writes, |pool| {
                self.speeds
                    .get(usize::from(pool.0))
                    .map_or(0, |speed| speed.load(Ordering::Relaxed))
            })
            // Whoever gets it back is about to remove it: nobody here may use it.
            .inspect_err(|_| self.first_loads.end(file.id))?;
        match file.with_live(|live| live.replicas.first().map(Replica::shared_file)) {
            Some(replica) => self.first_loads.completed(file.id, replica),
            None => self.first_loads.end(file.id),
        }
        self.guard_resident(file);
        // Whoever takes the last name away or hides it drops the replicas afterwards: one of us two
        // sees the other's work.
        if !self.union.shows(file) {
            self.drop_replicas(file, None, HIDDEN);
        }
        // So with whoever takes a pool out of use.
        if pool.is_disconnected() {
            self.drop_replicas(file, Some(pool.id()), PARTED);
        }
        Ok(())
    }

    /// Takes replicas away from new opens: of one pool, or all. Gives the number taken.
    pub fn drop_replicas(
        &self,
        file: &Arc<HomeFile>,
        pool: Option<PoolId>,
        reason: &'static str,
    ) -> usize {
        if pool.is_none() {
            // What is being copied is no longer what is in the home, or not to be shown.
            self.first_loads.end(file.id);
        }
        self.residency
            .drop_replicas(&self.nodes, file, pool, reason)
    }

    /// Takes the replicas of one pool away from new opens; they stay in their pool for the next run.
    pub fn forget_replicas(&self, file: &Arc<HomeFile>, pool: PoolId) {
        self.residency.forget_replicas(&self.nodes, file, pool);
    }

    /// Says whether the memory behind a pool can be had. While it cannot, new opens of what it holds go
    /// to the next copy or home, at once; who reads already waits for it, or is told by the kernel.
    pub fn set_reach(&self, pool: &Pool, reach: Reach) {
        pool.set_reach(reach);
        let is_there = |live: &mut Live| {
            let mut replicas = live.replicas.iter();
            replicas.any(|replica| replica.pool().id() == pool.id())
        };
        let mut files = Vec::new();
        self.union.for_each_file(|file| {
            if file.with_live(is_there) {
                files.push(Arc::clone(file));
            }
        });
        for file in &files {
            self.residency.retire_held(&self.nodes, file);
        }
    }

    // ---- names and attributes ---------------------------------------------------------------

    fn directory_of(&self, node: NodeId) -> FsResult<DirId> {
        match self.target(node)? {
            Target::Directory(directory) => Ok(directory),
            Target::File(_) | Target::Virtual(_) => {
                Err(FsError::new("look up", ErrorKind::NotDirectory))
            }
            Target::VirtualDirectory => Err(FsError::new("change", ErrorKind::NotPermitted)),
        }
    }

    fn node(&self, node: NodeId) -> FsResult<Arc<Node>> {
        self.nodes.get(node).ok_or_else(unknown_node)
    }

    /// What a node stands for: enough to answer most of what is asked of most nodes.
    fn target(&self, node: NodeId) -> FsResult<Target> {
        self.nodes.target(node).ok_or_else(unknown_node)
    }

    /// Looks a name up for a thread (0: whoever); the node counts one lookup more.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], or that the name or directory is unusable.
    pub fn lookup(&self, parent: NodeId, name: &[u8], pid: u32) -> FsResult<Shown> {
        count(&self.stats.lookups);
        check_name(name).map_err(|bad| FsError::new("look up", ErrorKind::BadPath(bad)))?;
        if parent == NodeId::ROOT && name == DIRECTORY.as_bytes() {
            return self.getattr(NodeId(VIRTUAL_NODE), None);
        }
        if parent == NodeId(VIRTUAL_NODE) {
            let known = self
                .virtual_files
                .names()
                .iter()
                .position(|n| n.as_bytes() == name);
            let index = known.ok_or_else(|| FsError::new("look up", ErrorKind::NotFound))?;
            return self.getattr(NodeId(VIRTUAL_NODE + 1 + index as u64), None);
        }
        let directory = self.directory_of(parent)?;
        let found = self.union.look_up(directory, name);
        let found = found.or_else(|| {
            let vanished = self.vanished.find(directory, name)?;
            self.copies(pid).then_some(Found::File(vanished))
        });
        self.entry(found.ok_or_else(|| FsError::new("look up", ErrorKind::NotFound))?)
    }

    /// The node of what was found, counted as looked up once more.
    fn entry(&self, found: Found) -> FsResult<Shown> {
        match found {
            Found::Directory(directory) => {
                let node = self.nodes.look_up_directory(directory);
                self.show_directory(node, directory)
            }
            Found::File(file) => {
                let node = self.nodes.look_up_file(&file, || self.anchor(&file));
                if file.is_cold() && self.nodes.anchor(node, &file).is_none() {
                    self.anchor_later(node, &file);
                }
                Ok(self.show_file(node, &file))
            }
        }
    }

    /// A descriptor that keeps a file of the models directory reachable whatever happens to its name.
    fn anchor(&self, file: &HomeFile) -> Option<OwnedFd> {
        if file.is_cold() {
            return None;
        }
        let anchor = self.models().anchor(&self.union.path_of(file)?).ok()?;
        if anchor.as_raw_fd() >= self.anchors_below {
            return None;
        }
        let identity = Identity::of_fd(&anchor).ok()?;
        (identity.ino == file.attr().identity.ino).then_some(anchor)
    }

    /// Refuses what was had by a file's name and is another file: not the one that the kernel has checked.
    fn must_be(&self, file: &HomeFile, opened: impl AsFd) -> FsResult<()> {
        match self.home_of(file).is_it(&file.attr(), opened) {
            true => Ok(()),
            false => Err(FsError::new("look up", ErrorKind::Displaced)),
        }
    }

    /// Looks at the names of a file that another one was found in the place of, so that whoever asked finds what is
    /// there: the kernel asks for the name once more. Nothing may be locked.
    fn see_displaced<T>(&self, target: &Target, done: FsResult<T>) -> FsResult<T> {
        if let (Err(error), Target::File(file)) = (&done, target)
            && matches!(error.kind, ErrorKind::Displaced)
        {
            let home = self.home_of(file);
            for (directory, name) in file.names() {
                self.see_name(home, directory, &name);
            }
        }
        done
    }

    /// Whether the name of a file of the models directory still leads to it.
    fn is_at_its_name(&self, file: &HomeFile) -> bool {
        let path = self.union.path_of(file);
        let there = path.and_then(|path| self.models().anchor(&path).ok());
        there.is_some_and(|there| self.must_be(file, &there).is_ok())
    }

    /// Refuses to change a file of the models directory that its name does not lead to any more: it was removed,
    /// replaced or moved away behind our back, and whoever asked by that name means what is there now. He is told to
    /// look it up again, once: who comes again has no name, but a descriptor, and means this file. Nothing may be
    /// locked.
    fn must_be_meant(&self, node: &Node, file: &HomeFile, pid: u32) -> FsResult<()> {
        if self.is_at_its_name(file) {
            return Ok(());
        }
        {
            // A rename through us may not have been recorded yet.
            let _quiet = self.quiet();
            if self.is_at_its_name(file) {
                return Ok(());
            }
            for (directory, name) in file.names() {
                self.see_name(self.models(), directory, &name);
            }
        }
        for (directory, name) in self.vanished.take(file) {
            self.residency.notice_name(&self.nodes, directory, &name);
        }
        match pid != 0 && !node.lock_open().sends_on(pid) {
            true => Ok(()),
            false => Err(FsError::new("look up", ErrorKind::Displaced)),
        }
    }

    /// Looks at one name in a home.
    fn see_name(&self, home: &Home, directory: DirId, name: &[u8]) {
        if let Ok(changes) = self.union.refresh_name(home, directory, name) {
            self.apply(changes);
        }
    }

    /// What leads to a file of the models directory without its name: its anchor, or, where it has none
    /// and was unlinked, what its readers and writers have open.
    fn stands_for(&self, node: NodeId, file: &HomeFile) -> Option<Arc<OwnedFd>> {
        let anchor = self.nodes.anchor(node, file);
        if anchor.is_some() || file.any_name().is_some() {
            return anchor;
        }
        let node = self.nodes.opened(node)?;
        let open = node.lock_open();
        let bound = open.bound.as_ref()?;
        match &bound.place {
            Place::Home(home) if bound.file.id == file.id => {
                let home = home.try_clone().ok()?;
                Some(Arc::new(OwnedFd::from(home)))
            }
            _ => None,
        }
    }

    /// The same for a cold file, on a thread that may wait; where inotify tells of changes, else it
    /// would be of no use.
    fn anchor_later(&self, node: NodeId, file: &Arc<HomeFile>) {
        let home = self.home_of(file);
        let path = self.union.path_of(file);
        let (Watch::Inotify, Kind::File, Some(path)) = (home.watch(), file.kind, path) else {
            return;
        };
        let (home, nodes) = (Arc::clone(home), Arc::clone(&self.nodes));
        let file = Arc::clone(file);
        let anchors_below = self.anchors_below;
        self.offload(file.home).run(Box::new(move || {
            let Ok(anchor) = home.anchor(&path) else {
                return;
            };
            let ino = file.attr().identity.ino;
            if anchor.as_raw_fd() < anchors_below
                && Identity::of_fd(&anchor).is_ok_and(|found| found.ino == ino)
            {
                nodes.set_anchor(node, &file, anchor);
            }
        }));
    }

    /// Attributes of a node.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when the node or its directory is gone.
    pub fn getattr(&self, node: NodeId, _handle: Option<HandleId>) -> FsResult<Shown> {
        count(&self.stats.getattrs);
        match self.target(node)? {
            Target::Directory(directory) => self.show_directory(node, directory),
            Target::File(file) => Ok(self.show_file(node, &file)),
            Target::VirtualDirectory => Ok(self.show_virtual(node, Kind::Directory, 0o555, 0)),
            Target::Virtual(index) => {
                let name = self.virtual_name(index);
                let permissions = self.virtual_files.permissions(name);
                let size = self.virtual_files.size_bytes(name);
                Ok(self.show_virtual(node, Kind::File, permissions, size))
            }
        }
    }

    fn virtual_name(&self, index: usize) -> &'static str {
        self.virtual_files
            .names()
            .get(index)
            .copied()
            .unwrap_or_default()
    }

    fn show_directory(&self, node: NodeId, directory: DirId) -> FsResult<Shown> {
        let gone = || FsError::new("stat", ErrorKind::NotFound);
        let mut view = self.union.directory(directory).ok_or_else(gone)?;
        if view.in_models {
            let path = self.union.directory_path(directory).ok_or_else(gone)?;
            // Another that has its name by now says nothing of it.
            if let Ok(attr) = self.models().stat(&path)
                && attr.identity.same_file(&view.attr.identity)
            {
                view.attr = attr;
            }
        } else {
            view.attr.permissions &= !self.union.barred_directory(directory);
        }
        view.attr.nlink = view.subdirectories.saturating_add(2);
        let attr_timeout = self.settings.attr_timeout;
        Ok(Shown {
            node,
            ino: view.ino,
            attr: view.attr,
            attr_timeout,
        })
    }

    fn show_file(&self, node: NodeId, file: &Arc<HomeFile>) -> Shown {
        // What was seen just now, not what is recorded: another thread may record later what it has seen
        // before, and the kernel would keep that.
        let attr = if file.is_cold() {
            let mut attr = file.attr();
            // Of a symlink they say nothing.
            if file.kind != Kind::Symlink {
                attr.permissions &= !self.union.barred(file);
            }
            attr
        } else {
            match self.stands_for(node, file).map(attr_of) {
                Some(Ok(attr)) => self.see_attr(file, attr),
                _ => self.reload_attr(file),
            }
        };
        let written = file.with_live(|live| live.writers > 0);
        // While somebody writes, shared mappings change size and times without telling the kernel.
        let attr_timeout = if written {
            Duration::ZERO
        } else {
            self.settings.attr_timeout
        };
        // The kernel finds a bound socket by the number that it had when it was made, and that was
        // the nodeid: it must not change afterwards.
        let ino = match file.kind {
            Kind::Socket => node.0,
            _ => file.ino,
        };
        Shown {
            node,
            ino,
            attr,
            attr_timeout,
        }
    }

    fn show_virtual(&self, node: NodeId, kind: Kind, permissions: u16, size: u64) -> Shown {
        // The root is never removed from the union.
        let mut attr = self.union.root_attr();
        attr.kind = kind;
        (attr.uid, attr.gid) = self.virtual_files.owner();
        attr.permissions = permissions;
        attr.nlink = 1;
        attr.blocks = 0;
        attr.identity.size = size;
        Shown {
            node,
            ino: VIRTUAL_INO + node.0,
            attr,
            attr_timeout: Duration::ZERO,
        }
    }

    /// Records attributes just seen of a file of the models directory, and gives them back. Whoever records a
    /// change of contents must see to it: nobody else will find a difference.
    fn see_attr(&self, file: &Arc<HomeFile>, attr: Attr) -> Attr {
        let former = file.set_attr(attr);
        let through_us = file.with_live(|live| live.writers > 0);
        if !through_us && !former.identity.same_contents(&attr.identity) {
            self.drop_replicas(file, None, CHANGED);
            self.residency.notice_file(&self.nodes, file, Notice::Data);
            self.tree_changed();
        }
        attr
    }

    /// Looks at a file of the models directory again, and gives its attributes.
    fn reload_attr(&self, file: &Arc<HomeFile>) -> Attr {
        let attr = self
            .union
            .path_of(file)
            .and_then(|path| self.models().stat(&path).ok());
        match attr {
            Some(attr) if attr.identity.ino == file.attr().identity.ino => {
                self.see_attr(file, attr)
            }
            Some(_) => file.attr(),
            None => {
                let mut gone = file.attr();
                gone.nlink = 0;
                file.set_attr(gone);
                gone
            }
        }
    }

    /// The kernel gives back lookups.
    pub fn forget(&self, node: NodeId, number: u64) {
        self.nodes.forget(node, number);
    }

    /// The target of a symlink.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when it is none.
    pub fn readlink(&self, node: NodeId) -> FsResult<Vec<u8>> {
        let target = (self.target(node)?.file()).and_then(|file| file.target.clone());
        let invalid = || FsError::new("readlink", ErrorKind::Invalid("not a symlink"));
        Ok(target.ok_or_else(invalid)?.into_vec())
    }

    /// Opens a directory: its entries as they are now.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when it is gone.
    pub fn opendir(&self, node: NodeId) -> FsResult<HandleId> {
        let listed = match self.target(node)? {
            Target::Directory(directory) => self
                .union
                .listing(directory)
                .ok_or_else(|| FsError::new("list", ErrorKind::NotFound))?,
            Target::VirtualDirectory => Arc::new(self.list_virtual()),
            _ => return Err(FsError::new("list", ErrorKind::NotDirectory)),
        };
        Ok(self.handles.insert(Handle::Directory(listed)))
    }

    fn list_virtual(&self) -> Vec<ListedName> {
        let names = self.virtual_files.names().iter().enumerate();
        names
            .map(|(index, name)| ListedName {
                name: Arc::from(name.as_bytes()),
                ino: VIRTUAL_INO + VIRTUAL_NODE + 1 + index as u64,
                kind: Kind::File,
            })
            .collect()
    }

    /// The entries of an open directory, and the inode numbers of itself and its parent.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for an unknown handle.
    pub fn readdir(
        &self,
        node: NodeId,
        handle: HandleId,
        from_start: bool,
    ) -> FsResult<(Arc<Vec<ListedName>>, u64, u64)> {
        let unknown = || FsError::new("list", ErrorKind::NotFound);
        let mut listed = self.handles.directory(handle).ok_or_else(unknown)?;
        let (own, parent) = match self.target(node)? {
            Target::Directory(directory) => {
                // From the start again (rewinddir): as it is now.
                if from_start && let Some(now) = self.union.listing(directory) {
                    listed = now;
                    self.handles.replace_directory(handle, Arc::clone(&listed));
                }
                let parent = self.union.parent(directory).unwrap_or(DirId::ROOT);
                let ino = |id| self.union.directory_ino(id).unwrap_or(0);
                (ino(directory), ino(parent))
            }
            _ => (VIRTUAL_INO + VIRTUAL_NODE, VIRTUAL_INO),
        };
        Ok((listed, own, parent))
    }

    /// Closes a directory.
    pub fn releasedir(&self, handle: HandleId) {
        self.handles.remove(handle);
    }

    /// Space and inodes of the models directory: cold storage takes no file.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn statfs(&self) -> FsResult<rustix::fs::StatVfs> {
        self.models().statfs()
    }

    /// Applies changes of the union: tells the kernel and the owner, drops what is stale.
    fn apply(&self, changes: Vec<UnionChange>) {
        let mut tree_changed = false;
        let mut directories = BTreeSet::new();
        for change in changes {
            match change {
                UnionChange::Name(directory, name) => {
                    tree_changed = true;
                    self.drop_hidden(directory, &name);
                    let back = self.union.look_up(directory, &name).is_some();
                    if back {
                        self.vanished.forget(directory, &name);
                    }
                    if back || !self.vanished.holds(directory, &name) {
                        self.residency.notice_name(&self.nodes, directory, &name);
                    }
                }
                UnionChange::FileGone(file, ..) => {
                    tree_changed = true;
                    self.drop_replicas(&file, None, "the file is gone from its home");
                }
                UnionChange::FileChanged(file) => {
                    tree_changed = true;
                    self.drop_replicas(&file, None, CHANGED);
                    // What is written through us, the kernel has already.
                    let notice = match file.with_live(|live| live.writers) {
                        0 => Notice::Data,
                        _ => Notice::Attr,
                    };
                    self.residency.notice_file(&self.nodes, &file, notice);
                }
                UnionChange::FileNames(file) => {
                    if file.is_resident() && !self.union.shows(&file) {
                        self.drop_replicas(&file, None, HIDDEN);
                    }
                    self.residency.notice_file(&self.nodes, &file, Notice::Attr);
                }
                UnionChange::FileAttr(file) => {
                    self.residency.notice_file(&self.nodes, &file, Notice::Attr);
                }
                UnionChange::DirectoryFound(home, directory) => {
                    tree_changed = true;
                    self.keep_true.found(home, directory);
                }
                UnionChange::DirectoryAttr(directory) => {
                    directories.insert(directory);
                }
                UnionChange::DirectoryPermissions(directory) => {
                    for found in self.union.cold_below(directory) {
                        match found {
                            Found::Directory(below) => drop(directories.insert(below)),
                            Found::File(file) => {
                                self.residency.notice_file(&self.nodes, &file, Notice::Attr);
                            }
                        }
                    }
                }
                UnionChange::DirectoryGone(directory) => self.nodes.directory_gone(directory),
            }
        }
        for directory in directories {
            let parent = self.union.parent(directory);
            self.residency
                .notice_directory(&self.nodes, directory, parent);
        }
        if tree_changed {
            self.tree_changed();
        }
    }

    /// A copy that no name leads to takes memory that nobody could give back by name.
    fn drop_hidden(&self, directory: DirId, name: &[u8]) {
        for file in self.union.hidden_residents(directory, name) {
            self.drop_replicas(&file, None, HIDDEN);
        }
    }

    fn tree_changed(&self) {
        self.generation.fetch_add(1, Ordering::Release);
        self.residency.tell(FsEvent::TreeChanged);
    }

    /// Number of files that are open, however often; also such as have lost their last name.
    pub fn open_files(&self) -> usize {
        self.handles.open_files()
    }

    /// Grows with every change of what is resident.
    pub fn residency_changes(&self) -> u64 {
        self.residency.changes()
    }

    /// Grows with every change of the tree: what was made from an older one is out of date.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests;
