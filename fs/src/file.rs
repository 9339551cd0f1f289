//! One file of a home: the record that the union, the nodes and the residency share.
//!
//! Hard links share one record. The record outlives its names while a node still holds it, so that a
//! file unlinked while open goes on working.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::attr::{Attr, Kind};
use crate::ids::{DirId, FileId, HomeId, NodeId};
use crate::pool::Reach;
use crate::replica::Replica;

/// A name of a file: the directory and the last component.
pub type Name = (DirId, Arc<[u8]>);

/// One file (of any kind but a directory) of one home.
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
    attr: Mutex<Attr>,
    names: Mutex<Names>,
    live: Mutex<Live>,
    writes: AtomicU32,
}

/// The names of a file. Nearly every file has one: a hundred thousand lists of one would be felt.
#[derive(Debug, Default)]
enum Names {
    #[default]
    None,
    One(Name),
    Several(Vec<Name>),
}

impl Names {
    fn as_slice(&self) -> &[Name] {
        match self {
            Names::None => &[],
            Names::One(name) => std::slice::from_ref(name),
            Names::Several(names) => names,
        }
    }

    fn from_vec(mut names: Vec<Name>) -> Names {
        match (names.pop(), names.is_empty()) {
            (None, _) => Names::None,
            (Some(name), true) => Names::One(name),
            (Some(name), false) => {
                names.push(name);
                Names::Several(names)
            }
        }
    }

    fn take(&mut self) -> Vec<Name> {
        match std::mem::take(self) {
            Names::None => Vec::new(),
            Names::One(name) => vec![name],
            Names::Several(names) => names,
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
            attr: Mutex::new(attr),
            names: Mutex::default(),
            live: Mutex::default(),
            writes: AtomicU32::new(0),
        }
    }

    /// Attributes as last seen; for cold files the only ones that are ever shown.
    pub fn attr(&self) -> Attr {
        *lock(&self.attr)
    }

    /// Records attributes just seen; gives the former ones.
    pub fn set_attr(&self, attr: Attr) -> Attr {
        std::mem::replace(&mut *lock(&self.attr), attr)
    }

    /// All names that lead to this file.
    pub fn names(&self) -> Vec<Name> {
        lock(&self.names).as_slice().to_vec()
    }

    /// One of its names; `None` when it was unlinked.
    pub fn any_name(&self) -> Option<Name> {
        lock(&self.names).as_slice().first().cloned()
    }

    pub(crate) fn add_name(&self, directory: DirId, name: &Arc<[u8]>) {
        let mut names = lock(&self.names);
        let known = |known: &Name| known.0 == directory && known.1 == *name;
        if !names.as_slice().iter().any(known) {
            let mut all = names.take();
            all.reserve_exact(1);
            all.push((directory, Arc::clone(name)));
            *names = Names::from_vec(all);
        }
    }

    /// Takes a name away; `true` when it was the last.
    pub(crate) fn remove_name(&self, directory: DirId, name: &[u8]) -> bool {
        let mut names = lock(&self.names);
        let mut all = names.take();
        all.retain(|known| known.0 != directory || *known.1 != *name);
        *names = Names::from_vec(all);
        names.as_slice().is_empty()
    }

    /// Whether it lives in cold storage.
    pub fn is_cold(&self) -> bool {
        self.home != HomeId::MODELS
    }

    /// Works on the live state; what is idle afterwards takes no memory.
    pub fn with_live<R>(&self, work: impl FnOnce(&mut Live) -> R) -> R {
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
