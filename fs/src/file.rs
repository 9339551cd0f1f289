//! One file of a home: the record that the union, the nodes and the residency share.
//!
//! Hard links share one record. The record outlives its names while a node still holds it, so that a
//! file unlinked while open goes on working.

use std::cell::Cell;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use crate::attr::{Attr, Kind};
use crate::identity::Identity;
use crate::ids::{DirId, FileId, HomeId, NodeId};
use crate::pool::Reach;
use crate::recent::Recent;
use crate::replica::Replica;

/// A name of a file: the directory and the last component.
pub type Name = (DirId, Arc<[u8]>);

/// One file (of any kind but a directory) of one home. Of a hundred thousand each byte is felt.
#[derive(Debug)]
pub struct HomeFile {
    /// Our own identifier; never re-used.
    pub id: FileId,
    /// Where it lives.
    pub home: HomeId,
    /// What it is.
    pub kind: Kind,
    /// The inode number shown to users; stable for as long as the file exists.
    pub ino: u64,
    /// The target, for a symlink.
    pub target: Option<Box<[u8]>>,
    seen: Mutex<Seen>,
    live: Mutex<Live>,
    writes: AtomicU32,
}

/// Attributes as last seen, taken apart so that what many files have in common is kept once; and names.
#[derive(Debug)]
struct Seen {
    ino: u64,
    size: u64,
    mtime_ns: i64,
    ctime_ns: i64,
    atime_ns: i64,
    blocks: u64,
    common: Arc<Common>,
    names: Names,
}

/// Attributes that are the same for most files of a home.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Common {
    dev: u64,
    kind: Kind,
    permissions: u16,
    nlink: u32,
    uid: u32,
    gid: u32,
    rdev: u32,
}

/// Among so many an equal one is looked for.
const RECENT_COMMON: usize = 64;

static RECENT: LazyLock<Mutex<Recent<Common>>> =
    LazyLock::new(|| Mutex::new(Recent::new(RECENT_COMMON)));

impl Seen {
    fn new(attr: &Attr) -> Seen {
        let common = Arc::new(Common::of(attr));
        Seen {
            ino: attr.identity.ino,
            size: attr.identity.size,
            mtime_ns: attr.identity.mtime_ns,
            ctime_ns: attr.identity.ctime_ns,
            atime_ns: attr.atime_ns,
            blocks: attr.blocks,
            common: lock(&RECENT).share(common),
            names: Names::None,
        }
    }

    fn attr(&self) -> Attr {
        let common = &*self.common;
        Attr {
            identity: Identity {
                dev: common.dev,
                ino: self.ino,
                size: self.size,
                mtime_ns: self.mtime_ns,
                ctime_ns: self.ctime_ns,
            },
            atime_ns: self.atime_ns,
            blocks: self.blocks,
            kind: common.kind,
            permissions: common.permissions,
            nlink: common.nlink,
            uid: common.uid,
            gid: common.gid,
            rdev: common.rdev,
        }
    }

    fn set_attr(&mut self, attr: &Attr) {
        let common = Common::of(attr);
        if common != *self.common {
            self.common = lock(&RECENT).share(Arc::new(common));
        }
        self.ino = attr.identity.ino;
        self.size = attr.identity.size;
        self.mtime_ns = attr.identity.mtime_ns;
        self.ctime_ns = attr.identity.ctime_ns;
        self.atime_ns = attr.atime_ns;
        self.blocks = attr.blocks;
    }
}

impl Common {
    fn of(attr: &Attr) -> Common {
        Common {
            dev: attr.identity.dev,
            kind: attr.kind,
            permissions: attr.permissions,
            nlink: attr.nlink,
            uid: attr.uid,
            gid: attr.gid,
            rdev: attr.rdev,
        }
    }
}

/// The names of a file. Nearly every file has one.
#[derive(Debug)]
enum Names {
    None,
    One(DirId, Arc<[u8]>),
    Several(Box<[Name]>),
}

impl Names {
    fn to_vec(&self) -> Vec<Name> {
        match self {
            Names::None => Vec::new(),
            Names::One(directory, name) => vec![(*directory, Arc::clone(name))],
            Names::Several(names) => names.to_vec(),
        }
    }

    fn from_vec(mut names: Vec<Name>) -> Names {
        match (names.pop(), names.is_empty()) {
            (None, _) => Names::None,
            (Some((directory, name)), true) => Names::One(directory, name),
            (Some(name), false) => {
                names.push(name);
                Names::Several(names.into_boxed_slice())
            }
        }
    }

    fn first(&self) -> Option<Name> {
        match self {
            Names::None => None,
            Names::One(directory, name) => Some((*directory, Arc::clone(name))),
            Names::Several(names) => names.first().cloned(),
        }
    }
}

/// What is known of a file that is looked up, open or resident. Most files have nothing but a nodeid
/// of it, or not even that: the rest takes memory only while it says something.
#[derive(Debug, Default)]
pub struct Live {
    /// The nodeid that new lookups get; nodeids are not zero.
    node: Option<NonZeroU64>,
    more: Option<Box<InUse>>,
}

/// What is known of a file that is open or resident.
#[derive(Debug, Default)]
pub struct InUse {
    /// Complete copies in pools, fastest first: the first serves new opens, what follows is spare.
    pub replicas: Vec<Replica>,
    /// Open handles that may write.
    pub writers: u32,
    /// Open handles.
    pub opens: u32,
    /// Grows with every change of where new opens go.
    pub epoch: u64,
}

static NOT_IN_USE: InUse = InUse {
    replicas: Vec::new(),
    writers: 0,
    opens: 0,
    epoch: 0,
};

impl std::ops::Deref for Live {
    type Target = InUse;

    fn deref(&self) -> &InUse {
        self.more.as_deref().unwrap_or(&NOT_IN_USE)
    }
}

impl std::ops::DerefMut for Live {
    fn deref_mut(&mut self) -> &mut InUse {
        self.more.get_or_insert_default()
    }
}

impl InUse {
    /// The copy that new opens get: the fastest whose pool answers.
    pub fn serving(&self) -> Option<&Replica> {
        let answers = |replica: &&Replica| replica.pool().reach() == Reach::Answers;
        self.replicas.iter().find(answers)
    }
}

impl Live {
    /// The nodeid that new lookups get.
    pub fn node(&self) -> Option<NodeId> {
        self.node.map(|node| NodeId(node.get()))
    }

    /// Makes new lookups get this nodeid, or a fresh one.
    pub fn set_node(&mut self, node: Option<NodeId>) {
        self.node = node.and_then(|node| NonZeroU64::new(node.0));
    }

    fn is_idle(&self) -> bool {
        self.replicas.is_empty() && self.opens == 0 && self.writers == 0
    }
}

/// Locks without caring for poison: no invariant here spans two statements that can panic.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// That this thread works on the live state of a file: looked at in debug builds alone.
struct Working;

thread_local! {
    static WORKING: Cell<u32> = const { Cell::new(0) };
}

impl Working {
    fn begin() -> Working {
        if cfg!(debug_assertions) {
            WORKING.set(WORKING.get() + 1);
        }
        Working
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        if cfg!(debug_assertions) {
            WORKING.set(WORKING.get() - 1);
        }
    }
}

/// Whether this thread works on the live state of a file; known in debug builds alone.
pub(crate) fn works_on_live() -> bool {
    cfg!(debug_assertions) && WORKING.get() > 0
}

impl HomeFile {
    /// A record without names.
    pub fn new(
        id: FileId,
        home: HomeId,
        ino: u64,
        attr: Attr,
        target: Option<Box<[u8]>>,
    ) -> HomeFile {
        HomeFile {
            id,
            home,
            kind: attr.kind,
            ino,
            target,
            seen: Mutex::new(Seen::new(&attr)),
            live: Mutex::default(),
            writes: AtomicU32::new(0),
        }
    }

    /// Attributes as last seen; for cold files the only ones that are ever shown.
    pub fn attr(&self) -> Attr {
        lock(&self.seen).attr()
    }

    /// Device and inode number in its home, as last seen.
    pub fn inode(&self) -> (u64, u64) {
        let seen = lock(&self.seen);
        (seen.common.dev, seen.ino)
    }

    /// Records attributes just seen; gives the former ones.
    pub fn set_attr(&self, attr: Attr) -> Attr {
        let mut seen = lock(&self.seen);
        let former = seen.attr();
        seen.set_attr(&attr);
        former
    }

    /// All names that lead to this file.
    pub fn names(&self) -> Vec<Name> {
        lock(&self.seen).names.to_vec()
    }

    /// One of its names; `None` when it was unlinked.
    pub fn any_name(&self) -> Option<Name> {
        lock(&self.seen).names.first()
    }

    pub(crate) fn add_name(&self, directory: DirId, name: &Arc<[u8]>) {
        let mut seen = lock(&self.seen);
        let mut names = seen.names.to_vec();
        let known = |known: &Name| known.0 == directory && known.1 == *name;
        if !names.iter().any(known) {
            names.push((directory, Arc::clone(name)));
            seen.names = Names::from_vec(names);
        }
    }

    /// Takes a name away; `true` when it was the last.
    pub(crate) fn remove_name(&self, directory: DirId, name: &[u8]) -> bool {
        let mut seen = lock(&self.seen);
        let mut names = seen.names.to_vec();
        names.retain(|known| known.0 != directory || *known.1 != *name);
        let is_last = names.is_empty();
        seen.names = Names::from_vec(names);
        is_last
    }

    /// Whether it lives in cold storage.
    pub fn is_cold(&self) -> bool {
        self.home != HomeId::MODELS
    }

    /// Works on the live state; what is idle afterwards takes no memory. The tree of the union is not asked by
    /// `work`: who walks the tree looks at live states, and waits for this one.
    pub fn with_live<R>(&self, work: impl FnOnce(&mut Live) -> R) -> R {
        let _working = Working::begin();
        let mut live = lock(&self.live);
        let result = work(&mut live);
        if live.is_idle() {
            live.more = None;
        }
        result
    }

    /// How often it was opened for writing through us: a copy made before is not of now.
    pub fn writes(&self) -> u32 {
        self.writes.load(Ordering::Acquire)
    }

    pub(crate) fn count_write(&self) {
        self.writes.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether somebody has it open.
    pub fn is_open(&self) -> bool {
        lock(&self.live).opens > 0
    }

    /// Whether a copy in a pool serves new opens.
    pub fn is_resident(&self) -> bool {
        !lock(&self.live).replicas.is_empty()
    }
}

#[cfg(test)]
mod tests;
