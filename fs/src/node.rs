//! Nodes: what the kernel's nodeids stand for, and what each is bound to while it is open.
//!
//! While a node is held it keeps one binding (the kernel takes one backing id a node). A file that
//! moves while held gets a new nodeid at its next lookup; the old one is *retired* and goes on with
//! what it had. Nothing calls back into this table: whoever moves a file retires its node.
//!
//! A file that was only looked up is an entry of the table, without a node. It becomes one under the
//! entry's lock, so there is never a second; and it stays one until the kernel forgets it.

use std::any::Any;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use dashmap::{DashMap, Entry};

use crate::file::{HomeFile, Live, lock};
use crate::first_load::FirstLoad;
use crate::identity::Identity;
use crate::ids::{DirId, NodeId, PoolId};

/// What a FUSE library registered for a node, kept alive while the node is held.
pub type Token = Arc<dyn Any + Send + Sync>;

/// What a nodeid stands for.
#[derive(Clone, Debug)]
pub enum Target {
    /// A directory of the union.
    Directory(DirId),
    /// A file of a home.
    File(Arc<HomeFile>),
    /// The virtual directory.
    VirtualDirectory,
    /// A virtual file, by its place in the list of names.
    Virtual(usize),
}

impl Target {
    /// The file, if it is one.
    pub fn file(self) -> Option<Arc<HomeFile>> {
        match self {
            Target::File(file) => Some(file),
            _ => None,
        }
    }
}

/// Where the bytes of an open node come from.
#[derive(Clone, Debug)]
pub enum Place {
    /// The home file itself.
    Home(Arc<File>),
    /// A copy in a pool: the pool, the replica's own descriptor, and what was copied.
    Pool(PoolId, Arc<File>, Identity),
}

impl Place {
    /// The descriptor to read from.
    pub fn file(&self) -> &File {
        match self {
            Place::Home(file) | Place::Pool(_, file, _) => file,
        }
    }

    /// The pool, if it is one.
    pub fn pool(&self) -> Option<PoolId> {
        match self {
            Place::Home(_) => None,
            Place::Pool(pool, ..) => Some(*pool),
        }
    }

    /// What was copied, if it is a copy: whatever becomes of the file meanwhile, these are its bytes.
    pub fn copied(&self) -> Option<&Identity> {
        match self {
            Place::Home(_) => None,
            Place::Pool(.., copied) => Some(copied),
        }
    }
}

/// What a held node is bound to.
pub struct Bound {
    /// The file whose bytes these are; differs from the node's after a shadowing truncation.
    pub file: Arc<HomeFile>,
    /// Where they come from.
    pub place: Place,
    /// The kernel's registration; `None`: the daemon serves the reads.
    pub token: Option<Token>,
    /// The copy on its way that the daemon reads from, as far as it is there.
    pub first_load: Option<Arc<FirstLoad>>,
}

/// The open side of a node.
#[derive(Default)]
pub struct OpenState {
    /// Open handles.
    pub handles: u32,
    /// What they are bound to; `Some` while `handles` is not zero.
    pub bound: Option<Box<Bound>>,
    /// Lookups give another nodeid now.
    pub retired: bool,
    /// Threads that were told so when they opened it.
    pub sent_on: Vec<u32>,
    /// Contents of the kernel's page cache for this node: size and modification time.
    pub cached: Option<Box<(u64, i64)>>,
}

/// So many threads that were sent on from one node are remembered.
const SENT_ON_MAX: usize = 256;

impl OpenState {
    /// Whether a thread that opens a node whose name leads elsewhere is told so: once. Who comes again has no name to
    /// look up, but a descriptor (`/proc/self/fd`), and means this one.
    pub fn sends_on(&mut self, tid: u32) -> bool {
        let sends_on = !self.sent_on.contains(&tid);
        if sends_on {
            // Of more than that the first have found it by now.
            if self.sent_on.len() >= SENT_ON_MAX {
                self.sent_on.clear();
            }
            self.sent_on.push(tid);
        }
        sends_on
    }
}

/// One node.
pub struct Node {
    /// Its nodeid.
    pub id: NodeId,
    stands_for: RwLock<StandsFor>,
    open: Mutex<OpenState>,
}

/// Both under one lock: a hundred thousand nodes feel a second one.
struct StandsFor {
    target: Target,
    /// A descriptor of the file that it is.
    anchor: Option<Arc<OwnedFd>>,
}

impl Node {
    fn read(&self) -> RwLockReadGuard<'_, StandsFor> {
        self.stands_for
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, StandsFor> {
        self.stands_for
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// What it stands for.
    pub fn target(&self) -> Target {
        self.read().target.clone()
    }

    /// Makes it stand for another file, one that shadows the former, with a descriptor of that.
    pub fn set_file(&self, file: &Arc<HomeFile>, anchor: Option<OwnedFd>) {
        *self.write() = StandsFor {
            target: Target::File(Arc::clone(file)),
            anchor: anchor.map(Arc::new),
        };
    }

    /// A descriptor that stands for `file` even when its name is gone, if there is one. That of
    /// another file, which the node stood for before, is never given.
    pub fn anchor(&self, file: &HomeFile) -> Option<Arc<OwnedFd>> {
        let now = self.read();
        now.is(file).then(|| now.anchor.clone())?
    }

    /// Gives it one, if it still stands for `file` and has none; the first stays.
    pub fn set_anchor(&self, file: &HomeFile, anchor: OwnedFd) {
        let mut now = self.write();
        if now.is(file) {
            now.anchor.get_or_insert_with(|| Arc::new(anchor));
        }
    }

    /// The open side, locked.
    pub fn lock_open(&self) -> MutexGuard<'_, OpenState> {
        lock(&self.open)
    }
}

impl StandsFor {
    fn is(&self, file: &HomeFile) -> bool {
        matches!(&self.target, Target::File(known) if known.id == file.id)
    }
}

/// What the table has of a nodeid.
enum Known {
    /// A file that was looked up and no more, as most are: of a hundred thousand, nodes would be felt.
    /// It becomes a node, once, when somebody wants to do more than look.
    LookedUp {
        file: Arc<HomeFile>,
        anchor: Option<Arc<OwnedFd>>,
        lookups: u32,
    },
    /// Anything else.
    Node { node: Arc<Node>, lookups: u64 },
}

impl Known {
    /// Looked up once.
    fn new(id: NodeId, target: Target, anchor: Option<OwnedFd>) -> Known {
        let anchor = anchor.map(Arc::new);
        match target {
            Target::File(file) => Known::LookedUp {
                file,
                anchor,
                lookups: 1,
            },
            target => Known::Node {
                node: new_node(id, target, anchor),
                lookups: 1,
            },
        }
    }

    /// The node, which it is from now on.
    fn node(&mut self, id: NodeId) -> Arc<Node> {
        let (node, lookups) = match self {
            Known::Node { node, .. } => return Arc::clone(node),
            Known::LookedUp {
                file,
                anchor,
                lookups,
            } => {
                let target = Target::File(Arc::clone(file));
                (new_node(id, target, anchor.take()), u64::from(*lookups))
            }
        };
        *self = Known::Node {
            node: Arc::clone(&node),
            lookups,
        };
        node
    }

    fn look_up(&mut self, id: NodeId) {
        if let Known::LookedUp { lookups, .. } = self {
            if let Some(more) = lookups.checked_add(1) {
                *lookups = more;
                return;
            }
            // What does not fit is counted by a node.
            self.node(id);
        }
        if let Known::Node { lookups, .. } = self {
            *lookups += 1;
        }
    }

    /// Whether none is left.
    fn forget(&mut self, count: u64) -> bool {
        match self {
            Known::LookedUp { lookups, .. } => {
                *lookups = lookups.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX));
                *lookups == 0
            }
            Known::Node { lookups, .. } => {
                *lookups = lookups.saturating_sub(count);
                *lookups == 0
            }
        }
    }
}

/// All nodes.
pub struct NodeTable {
    nodes: DashMap<NodeId, Known>,
    by_directory: DashMap<DirId, NodeId>,
    next: AtomicU64,
}

/// First nodeid given to files and directories; below lie the root and the virtual files.
const FIRST_NODE: u64 = 1024;
/// First nodeid that is no inode number: those of homes and virtual files are smaller.
const FIRST_FRESH: u64 = 1 << 63;
/// Nodeid of the virtual directory; its files follow.
pub const VIRTUAL_NODE: u64 = 2;

fn new_node(id: NodeId, target: Target, anchor: Option<Arc<OwnedFd>>) -> Arc<Node> {
    Arc::new(Node {
        id,
        stands_for: RwLock::new(StandsFor { target, anchor }),
        open: Mutex::new(OpenState::default()),
    })
}

impl NodeTable {
    /// A table with the root and `virtual_files` virtual files.
    pub fn new(virtual_files: usize) -> NodeTable {
        let table = NodeTable {
            nodes: DashMap::new(),
            by_directory: DashMap::new(),
            next: AtomicU64::new(FIRST_FRESH),
        };
        table.insert(NodeId::ROOT, Target::Directory(DirId::ROOT), None);
        table.by_directory.insert(DirId::ROOT, NodeId::ROOT);
        table.insert(NodeId(VIRTUAL_NODE), Target::VirtualDirectory, None);
        for index in 0..virtual_files {
            let id = NodeId(VIRTUAL_NODE + 1 + index as u64);
            table.insert(id, Target::Virtual(index), None);
        }
        table
    }

    fn insert(&self, id: NodeId, target: Target, anchor: Option<OwnedFd>) {
        self.nodes.insert(id, Known::new(id, target, anchor));
    }

    /// A new node of a file, looked up once: under its inode number where that is free, so that an
    /// entry can carry attributes (the library takes both numbers from one field), else a fresh one.
    fn insert_file(&self, ino: NodeId, target: Target, anchor: Option<OwnedFd>) -> NodeId {
        if (FIRST_NODE..FIRST_FRESH).contains(&ino.0)
            && let Entry::Vacant(free) = self.nodes.entry(ino)
        {
            free.insert(Known::new(ino, target, anchor));
            return ino;
        }
        let id = self.fresh_id();
        self.insert(id, target, anchor);
        id
    }

    fn fresh_id(&self) -> NodeId {
        NodeId(self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// The node of a nodeid, the same one whoever asks; `None` when the kernel has forgotten it.
    pub fn get(&self, id: NodeId) -> Option<Arc<Node>> {
        if let Known::Node { node, .. } = &*self.nodes.get(&id)? {
            return Some(Arc::clone(node));
        }
        Some(self.nodes.get_mut(&id)?.node(id))
    }

    /// The node of a nodeid that was ever opened: nobody holds one that was only looked up.
    pub fn opened(&self, id: NodeId) -> Option<Arc<Node>> {
        match &*self.nodes.get(&id)? {
            Known::LookedUp { .. } => None,
            Known::Node { node, .. } => Some(Arc::clone(node)),
        }
    }

    /// What a nodeid stands for; who only wants to know that needs no node.
    pub fn target(&self, id: NodeId) -> Option<Target> {
        let node = match &*self.nodes.get(&id)? {
            Known::LookedUp { file, .. } => return Some(Target::File(Arc::clone(file))),
            Known::Node { node, .. } => Arc::clone(node),
        };
        Some(node.target())
    }

    /// [`Node::anchor`] of a nodeid.
    pub fn anchor(&self, id: NodeId, file: &HomeFile) -> Option<Arc<OwnedFd>> {
        let node = match &*self.nodes.get(&id)? {
            Known::LookedUp {
                file: known,
                anchor,
                ..
            } => return anchor.clone().filter(|_| known.id == file.id),
            Known::Node { node, .. } => Arc::clone(node),
        };
        node.anchor(file)
    }

    /// [`Node::set_anchor`] of a nodeid.
    pub fn set_anchor(&self, id: NodeId, file: &HomeFile, anchor: OwnedFd) {
        let node = match self.nodes.get_mut(&id).as_deref_mut() {
            Some(Known::LookedUp {
                file: known,
                anchor: none,
                ..
            }) => {
                if known.id == file.id {
                    none.get_or_insert_with(|| Arc::new(anchor));
                }
                return;
            }
            Some(Known::Node { node, .. }) => Arc::clone(node),
            None => return,
        };
        node.set_anchor(file, anchor);
    }

    /// The nodeid of a directory, counted as looked up once more.
    pub fn look_up_directory(&self, directory: DirId) -> NodeId {
        // Held until the node is there: a forget between the two would leave one that nobody finds.
        let known = self
            .by_directory
            .entry(directory)
            .or_insert_with(|| self.fresh_id());
        let id = *known;
        self.nodes
            .entry(id)
            .and_modify(|known| known.look_up(id))
            .or_insert_with(|| Known::new(id, Target::Directory(directory), None));
        id
    }

    /// The nodeid of a file, counted as looked up once more. `anchor` is called for a new one only.
    pub fn look_up_file(
        &self,
        file: &Arc<HomeFile>,
        anchor: impl FnOnce() -> Option<OwnedFd>,
    ) -> NodeId {
        let known = |live: &Live| {
            let id = live.node()?;
            self.nodes.get_mut(&id)?.look_up(id);
            Some(id)
        };
        if let Some(id) = file.with_live(|live| known(live)) {
            return id;
        }
        // Not within: it asks the tree for the file's path.
        let anchor = anchor();
        file.with_live(|live| {
            // Somebody else may have been first.
            if let Some(id) = known(live) {
                return id;
            }
            let target = Target::File(Arc::clone(file));
            let id = self.insert_file(NodeId(file.ino), target, anchor);
            live.set_node(Some(id));
            id
        })
    }

    /// The nodeid of a directory, when the kernel knows it.
    pub fn of_directory(&self, directory: DirId) -> Option<NodeId> {
        self.by_directory.get(&directory).map(|id| *id)
    }

    /// The kernel gives back `count` lookups.
    pub fn forget(&self, id: NodeId, count: u64) {
        if id.0 < FIRST_NODE {
            return;
        }
        let Some(target) = self.target(id) else {
            return;
        };
        let give_back = || {
            let gone = |_: &NodeId, known: &mut Known| known.forget(count);
            self.nodes.remove_if_mut(&id, gone).is_some()
        };
        match target {
            Target::File(file) => file.with_live(|live| {
                if give_back() && live.node() == Some(id) {
                    live.set_node(None);
                }
            }),
            // In the same order as it is looked up.
            Target::Directory(directory) => {
                let mut is_known = false;
                self.by_directory.remove_if(&directory, |_, known| {
                    is_known = *known == id;
                    is_known && give_back()
                });
                // One that is gone from the tree is in the other table alone.
                if !is_known {
                    give_back();
                }
            }
            Target::VirtualDirectory | Target::Virtual(_) => {}
        }
    }

    /// The directory is gone from the union: a new one of that name is another node.
    pub fn directory_gone(&self, directory: DirId) {
        self.by_directory.remove(&directory);
    }

    /// Number of nodes that the kernel knows.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether the kernel knows no node; it always knows the root.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
}

#[cfg(test)]
mod tests;
