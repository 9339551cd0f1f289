//! Residency: which copies serve new opens of a file, and what happens to held nodes when that
//! changes.
//!
//! The map itself lives in each file's record (`Live`); this room has the only code that changes it.
//! Invariants: a file with a writer has no replica; a replica that was taken away drains and is
//! never given to an open again; a node that is held is retired, never rebound.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crossbeam_channel::Sender;

use crate::error::{ErrorKind, FsError};
use crate::event::FsEvent;
use crate::file::HomeFile;
use crate::identity::Identity;
use crate::ids::{DirId, NodeId, PoolId};
use crate::node::{Node, NodeTable, OpenState, Place};
use crate::replica::{Drainer, Replica};
use crate::stats::{Stats, count};

/// So much of the kernel's list of locks is read, about 4,000 of them in some 10 ms: it goes through all that it has told
/// of already for each page that it tells, and anybody can hold a million.
const LOCKS_BYTES_MAX: u64 = 256 << 10;

/// How long the kernel may take to forget a name.
const TOLD_PATIENCE: Duration = Duration::from_secs(1);

/// Something in the kernel's caches is no longer true.
#[derive(Clone, Debug)]
pub enum Notice {
    /// A name of a directory leads elsewhere.
    Entry(NodeId, Arc<[u8]>),
    /// The attributes of a node.
    Attr(NodeId),
    /// The attributes and pages of a node.
    Data(NodeId),
    /// Nothing: the notices after it come after the lookups in a directory that were under way.
    Barrier(NodeId),
    /// Not for the kernel: whoever holds the other end is told that all notices before this one were
    /// sent.
    Told(Sender<()>),
}

/// Changes where new opens go.
pub struct Residency {
    notices: Sender<Notice>,
    events: Sender<FsEvent>,
    drainer: Arc<Drainer>,
    stats: Arc<Stats>,
    mount_dev: OnceLock<u64>,
    changes: AtomicU64,
}

impl Residency {
    /// Sends notices to the adapter, events to the owner, and dropped replicas to the drainer.
    pub fn new(
        notices: Sender<Notice>,
        events: Sender<FsEvent>,
        drainer: Arc<Drainer>,
        stats: Arc<Stats>,
    ) -> Residency {
        Residency {
            notices,
            events,
            drainer,
            stats,
            mount_dev: OnceLock::new(),
            changes: AtomicU64::new(0),
        }
    }

    /// The device number of the mount, once it is known.
    pub fn mount_dev(&self) -> Option<u64> {
        self.mount_dev.get().copied()
    }

    /// The device number of the mount: locks are found by it.
    pub fn set_mount_dev(&self, dev: u64) {
        // A second mount of one file system object does not happen; the first number stays.
        let _ = self.mount_dev.set(dev);
    }

    /// Grows with every change of what is resident, when it is made.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Tells the owner; a full channel loses the event and counts it.
    pub fn tell(&self, event: FsEvent) {
        if self.events.try_send(event).is_err() {
            count(&self.stats.events_lost);
        }
    }

    /// Tells the kernel, through the adapter.
    pub fn notice(&self, notice: Notice) {
        // Fails only when the adapter is gone, and the kernel's caches with it.
        let _ = self.notices.send(notice);
    }

    /// Tells the kernel that a name leads elsewhere, if it knows the directory.
    pub fn notice_name(&self, nodes: &NodeTable, directory: DirId, name: &Arc<[u8]>) {
        if let Some(parent) = nodes.of_directory(directory) {
            self.notice(Notice::Entry(parent, Arc::clone(name)));
        }
    }

    /// Tells the kernel that what it has of a file is no longer true, if it knows the file.
    ///
    /// Between our answer to a first lookup and the moment that its caller goes on, the kernel has the answer's
    /// attributes and takes no notice, as it does not know the node yet: the notice must come after that.
    pub fn notice_file(
        &self,
        nodes: &NodeTable,
        file: &HomeFile,
        notice: impl FnOnce(NodeId) -> Notice,
    ) {
        let Some(node) = file.with_live(|live| live.node()) else {
            return;
        };
        let names = file.names().into_iter();
        let parents = names.filter_map(|(directory, _)| nodes.of_directory(directory));
        for parent in parents.collect::<BTreeSet<_>>() {
            self.notice(Notice::Barrier(parent));
        }
        self.notice(notice(node));
    }

    /// Tells it the same of a directory's attributes.
    pub fn notice_directory(&self, nodes: &NodeTable, directory: DirId, parent: Option<DirId>) {
        let Some(node) = nodes.of_directory(directory) else {
            return;
        };
        if let Some(parent) = parent.and_then(|parent| nodes.of_directory(parent)) {
            self.notice(Notice::Barrier(parent));
        }
        self.notice(Notice::Attr(node));
    }

    /// Gives a verified replica to new opens; `writes` is the file's count when the copy began.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`] when the file has a writer, [`ErrorKind::SourceChanged`] when `current`
    /// is not what was copied: the replica comes back.
    pub fn publish(
        &self,
        nodes: &NodeTable,
        file: &Arc<HomeFile>,
        replica: Replica,
        writes: u32,
        speed: impl Fn(PoolId) -> u64,
    ) -> Result<(), (FsError, Box<Replica>)> {
        let pool = replica.pool().id();
        let mut replica = Some(replica);
        let refused = file.with_live(|live| {
            if live.writers > 0 || file.writes() != writes {
                return Some(ErrorKind::Busy(
                    "the file is being written, or was since it was copied",
                ));
            }
            let source = replica.as_ref().map(|replica| replica.meta().origin.source);
            if !source.is_some_and(|source| source.same_contents(&file.attr().identity)) {
                return Some(ErrorKind::SourceChanged);
            }
            if live.replicas.iter().any(|known| known.pool().id() == pool) {
                return Some(ErrorKind::Exists);
            }
            live.replicas.extend(replica.take());
            live.replicas
                .sort_by_key(|known| std::cmp::Reverse(speed(known.pool().id())));
            live.epoch += 1;
            None
        });
        if let (Some(kind), Some(replica)) = (refused, replica) {
            return Err((FsError::new("publish", kind), Box::new(replica)));
        }
        self.changes.fetch_add(1, Ordering::Release);
        self.retire_held(nodes, file);
        self.tell(FsEvent::Promoted {
            file: Arc::clone(file),
            pool,
        });
        Ok(())
    }

    /// Takes replicas away from new opens: of one pool, or all. Gives the number taken.
    pub fn drop_replicas(
        &self,
        nodes: &NodeTable,
        file: &Arc<HomeFile>,
        pool: Option<PoolId>,
        reason: &'static str,
    ) -> usize {
        let dropped = file.with_live(|live| self.take_replicas(live, pool));
        if dropped.is_empty() {
            return 0;
        }
        self.retire_held(nodes, file);
        self.after_drop(file, dropped, reason)
    }

    /// Takes the replicas of one pool away from new opens without a trace: they stay in their pool for the next
    /// run to take over.
    pub fn forget_replicas(&self, nodes: &NodeTable, file: &Arc<HomeFile>, pool: PoolId) {
        if !file
            .with_live(|live| self.take_replicas(live, Some(pool)))
            .is_empty()
        {
            self.retire_held(nodes, file);
        }
    }

    /// Counts a writer in and takes all replicas away, in one step: none can be published between.
    pub fn writer_comes(&self, nodes: &NodeTable, file: &Arc<HomeFile>) {
        file.count_write();
        let dropped = file.with_live(|live| {
            live.writers += 1;
            self.take_replicas(live, None)
        });
        if !dropped.is_empty() {
            self.retire_held(nodes, file);
            self.after_drop(file, dropped, "the file was opened for writing");
        }
    }

    /// Counts a writer out; `true` when it was the last.
    pub fn writer_goes(&self, file: &HomeFile) -> bool {
        file.with_live(|live| {
            live.writers = live.writers.saturating_sub(1);
            live.writers == 0
        })
    }

    fn take_replicas(&self, live: &mut crate::file::Live, pool: Option<PoolId>) -> Vec<Replica> {
        let wanted = |replica: &Replica| pool.is_none_or(|pool| replica.pool().id() == pool);
        let (taken, kept): (Vec<_>, _) = live.replicas.drain(..).partition(wanted);
        live.replicas = kept;
        live.epoch += 1;
        if !taken.is_empty() {
            self.changes.fetch_add(1, Ordering::Release);
        }
        taken
    }

    fn after_drop(
        &self,
        file: &Arc<HomeFile>,
        dropped: Vec<Replica>,
        reason: &'static str,
    ) -> usize {
        let number = dropped.len();
        for replica in dropped {
            let pool = replica.pool().id();
            self.tell(FsEvent::Dropped {
                file: Arc::clone(file),
                pool,
                reason,
            });
            self.drainer.drain(replica);
        }
        number
    }

    /// Makes the next lookup give another nodeid, if somebody holds this one elsewhere than where
    /// new opens go.
    pub fn retire_held(&self, nodes: &NodeTable, file: &Arc<HomeFile>) {
        let best = |live: &mut crate::file::Live| {
            let of = |replica: &Replica| (replica.pool().id(), replica.meta().origin.source);
            (live.node(), live.serving().map(of))
        };
        let (Some(id), best) = file.with_live(best) else {
            return;
        };
        let Some(node) = nodes.opened(id) else {
            return;
        };
        let is_elsewhere = |open: &OpenState| {
            let bound = open.bound.as_ref();
            open.handles > 0 && bound.is_some_and(|bound| !is_at(&bound.place, best.as_ref()))
        };
        // The kernel may take its time to tell of locks: nobody who opens the file waits for that.
        if !is_elsewhere(&node.lock_open()) || self.is_locked(&node, file) {
            return;
        }
        let mut open = node.lock_open();
        if is_elsewhere(&open) {
            open.retired = true;
            drop(open);
            self.retire(nodes, file, &node);
        }
    }

    /// Makes the next lookup of the file give another nodeid.
    pub fn retire(&self, nodes: &NodeTable, file: &Arc<HomeFile>, node: &Node) {
        file.with_live(|live| {
            if live.node() == Some(node.id) {
                live.set_node(None);
            }
        });
        count(&self.stats.nodes_retired);
        for (directory, name) in file.names() {
            self.notice_name(nodes, directory, &name);
        }
    }

    /// The same, back when the kernel has been told: whoever is answered afterwards and looks the name
    /// up again finds the new nodeid. Not for a thread that answers the kernel.
    pub fn retire_and_tell(&self, nodes: &NodeTable, file: &Arc<HomeFile>, node: &Node) {
        self.retire(nodes, file, node);
        // Too late: the next open is right all the same, only slower.
        self.wait_until_told();
    }

    /// Waits until the kernel has been told all that it was to be told so far; not for ever: it may have to wait
    /// for a lookup itself. Not for a thread that answers the kernel.
    pub fn wait_until_told(&self) {
        let (told, heard) = crossbeam_channel::bounded(1);
        self.notice(Notice::Told(told));
        // Whoever waits goes on all the same.
        let _ = heard.recv_timeout(TOLD_PATIENCE);
    }

    /// Whether anybody holds a flock, fcntl lock or lease on the node. The kernel keeps them by
    /// inode, so a file that is locked must keep its nodeid. Taken for true where there are so many locks on the machine
    /// that they are not all looked at.
    pub fn is_locked(&self, node: &Node, file: &HomeFile) -> bool {
        let Some(dev) = self.mount_dev.get() else {
            return false;
        };
        // Without procfs there is nothing to be learned.
        File::open("/proc/locks")
            .is_ok_and(|locks| may_be_locked(locks, *dev, &[file.ino, node.id.0]))
    }
}

/// Whether one of the inodes of a device may be locked, by the kernel's list of all locks.
fn may_be_locked(locks: impl Read, dev: u64, inodes: &[u64]) -> bool {
    let mut text = String::new();
    let whole = locks.take(LOCKS_BYTES_MAX + 1).read_to_string(&mut text);
    if !whole.is_ok_and(|length| length as u64 <= LOCKS_BYTES_MAX) {
        return true;
    }
    let (major, minor) = (rustix::fs::major(dev), rustix::fs::minor(dev));
    let device = format!("{major:02x}:{minor:02x}:");
    // Of a line such as `1: FLOCK ADVISORY WRITE 708 00:2a:14 0 EOF` the sixth word counts.
    text.lines()
        .filter_map(|line| {
            line.split_whitespace()
                .find(|word| word.starts_with(&device))
        })
        .filter_map(|word| word.rsplit(':').next()?.parse::<u64>().ok())
        .any(|ino| inodes.contains(&ino))
}

/// Whether what is bound there is what new opens get: `best`, or the home.
fn is_at(place: &Place, best: Option<&(PoolId, Identity)>) -> bool {
    match (place, best) {
        (Place::Pool(pool, _, copied), Some((best, source))) => {
            pool == best && copied.same_contents(source)
        }
        (Place::Home(_), None) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "1: FLOCK  ADVISORY  WRITE 708 00:2a:14 0 EOF\n";

    #[test]
    fn a_lock_is_found_by_device_and_inode() {
        let dev = rustix::fs::makedev(0, 0x2a);
        assert!(may_be_locked(LINE.as_bytes(), dev, &[3, 14]));
        assert!(!may_be_locked(LINE.as_bytes(), dev, &[1, 4]));
        assert!(!may_be_locked(LINE.as_bytes(), dev + 1, &[14]));
        assert!(!may_be_locked(&b""[..], dev, &[14]));
    }

    /// A user's million locks on files of his own, outside the mount, held every open up for minutes: the list was read
    /// to its end.
    #[test]
    fn of_very_many_locks_not_all_are_read() {
        struct Endless(u64);
        impl Read for Endless {
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                self.0 += buffer.len() as u64;
                assert!(self.0 < 4 * LOCKS_BYTES_MAX, "it is read to its end");
                let line = LINE.as_bytes().iter().cycle();
                buffer
                    .iter_mut()
                    .zip(line)
                    .for_each(|(to, from)| *to = *from);
                Ok(buffer.len())
            }
        }
        assert!(may_be_locked(Endless(0), rustix::fs::makedev(0, 1), &[1]));
    }
}
