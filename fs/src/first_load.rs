//! The first load: a file that is not in RAM yet is promoted while somebody opens it, so that its
//! bytes leave the home once.
//!
//! Measured for seven ways of reading on three kinds of store, this is what is fastest: the first
//! open of a process (which reads a header, and may be all that comes) and opens for direct I/O are
//! answered at once and read by the daemon from the copy as it comes, the ranges they ask for first;
//! the next open of the same process is held until the copy is complete, and then reads the replica
//! itself. A look at a header starts no copy: the open after it does, or reading more than a header.
//!
//! Whatever happens to the copy (it fails, stalls, is refused or takes too long) is never the
//! reader's fault: reads go to the home, held opens are answered. Nothing here waits: what must wait
//! is kept as a closure, and called by the copy, or by one thread that sleeps while nothing is kept.
//! This room decides when a copy is *wanted*; whether it is made is the owner's decision.

mod bytes;
mod opener;
mod state;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

pub use bytes::CopyBytes;
pub use state::{Answer, FirstLoad, HeldOpen};

use crate::copy::CopyControl;
use crate::file::{HomeFile, lock};
use crate::ids::{FileId, NodeId};
use crate::stats::{Stats, count};
use opener::lineage;

/// How often held opens and reads are looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// Files that were looked at, beyond which those that expired are forgotten.
const LOOKED_MAX: usize = 1024;
/// What `max_wait` is until somebody says otherwise.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// Who decides what is promoted. Asked where an open is answered: must not wait.
pub trait FirstLoadHost: Send + Sync {
    /// Whether loading the file could promote it, as far as can be told at once.
    fn may_load(&self, file: &HomeFile) -> bool;

    /// Whether what the thread runs reads files without using them.
    fn is_ignored(&self, tid: u32) -> bool;

    /// The thread loads the file, and may wait for it: it is to be copied soon, or to be
    /// [refused](FirstLoads::end).
    fn wanted(&self, file: &Arc<HomeFile>, tid: u32);
}

/// What an open is to do.
#[derive(Clone)]
pub enum Verdict {
    /// As ever: no first load.
    Ordinary,
    /// Read by the daemon, from the copy as it comes.
    Serve(Arc<FirstLoad>),
    /// To be held by [`FirstLoads::hold`], and asked again.
    Hold(Arc<FirstLoad>),
}

/// An open, as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    /// The node.
    pub node: NodeId,
    /// The thread, 0 when unknown.
    pub tid: u32,
    /// Whether it is for direct I/O.
    pub direct: bool,
    /// Whether it may be held; `false` for one that was.
    pub may_hold: bool,
}

/// All files that are looked at or on their way.
pub struct FirstLoads {
    host: OnceLock<Arc<dyn FirstLoadHost>>,
    table: Mutex<Table>,
    waiting: Condvar,
    max_wait_ms: AtomicU64,
    stats: Arc<Stats>,
}

#[derive(Default)]
struct Table {
    loads: HashMap<FileId, Arc<FirstLoad>>,
    watching: bool,
    /// Threads that were told to look a file's name up again, and have not opened it since.
    sent_on: HashMap<(u32, FileId), Instant>,
}

/// So many such threads are remembered before those are looked for that have given up.
const SENT_ON_MAX: usize = 1024;
/// A thread that was told so comes again sooner.
const SENT_ON_EXPIRES: Duration = Duration::from_secs(10);

impl FirstLoads {
    /// None yet; nothing is one until there is a host.
    pub fn new(stats: Arc<Stats>) -> Arc<FirstLoads> {
        Arc::new(FirstLoads {
            host: OnceLock::new(),
            table: Mutex::default(),
            waiting: Condvar::new(),
            max_wait_ms: AtomicU64::new(millis(MAX_WAIT)),
            stats,
        })
    }

    /// Who decides. Told once.
    pub fn set_host(&self, host: Arc<dyn FirstLoadHost>) {
        // The first one stays.
        let _ = self.host.set(host);
    }

    /// How long an open may be held.
    pub fn set_max_wait(&self, max_wait: Duration) {
        self.max_wait_ms.store(millis(max_wait), Ordering::Relaxed);
    }

    fn max_wait(&self) -> Duration {
        Duration::from_millis(self.max_wait_ms.load(Ordering::Relaxed))
    }

    fn find(&self, file: FileId) -> Option<Arc<FirstLoad>> {
        lock(&self.table).loads.get(&file).cloned()
    }

    /// A file without a replica is opened for reading.
    pub fn open(&self, file: &Arc<HomeFile>, opening: &Opening) -> Verdict {
        let Some(host) = self.host.get() else {
            return Verdict::Ordinary;
        };
        let known = self.find(file.id);
        // One that was held, and whose copy has ended since, is no look at a header.
        let candidate = known.is_some() || (opening.may_hold && host.may_load(file));
        if !candidate || host.is_ignored(opening.tid) {
            return Verdict::Ordinary;
        }
        let load = known.unwrap_or_else(|| self.look_at(file));
        let max_wait = match opening.may_hold {
            true => self.max_wait(),
            false => Duration::ZERO,
        };
        let (verdict, begins) = load.open(opening, &lineage(opening.tid), max_wait);
        if begins {
            count(&self.stats.first_loads);
        }
        if begins || matches!(verdict, Verdict::Hold(_)) {
            host.wanted(file, opening.tid);
        }
        verdict
    }

    /// Whether the file is on its way, or opening it could bring it there.
    pub fn may_begin(&self, file: &HomeFile) -> bool {
        let may_load = |host: &Arc<dyn FirstLoadHost>| host.may_load(file);
        self.find(file.id).is_some() || self.host.get().is_some_and(may_load)
    }

    /// The same as [`FirstLoads::open`] for an open that shares what others of the node have: nothing
    /// is held or served, but the process is known, and its next open should find another node.
    /// Whether it should.
    pub fn open_beside(&self, file: &Arc<HomeFile>, tid: u32) -> bool {
        let Some(host) = self.host.get() else {
            return false;
        };
        if !self.may_begin(file) || host.is_ignored(tid) {
            return false;
        }
        self.look_at(file).look(&lineage(tid));
        true
    }

    /// Whether an open that comes to a node served by `load` should look the name up again.
    pub fn sends_on(&self, load: &FirstLoad, opening: &Opening) -> bool {
        let (file, tid) = (load.file().id, opening.tid);
        // What it finds may be served by another load by then. The kernel looks once more only: told so again, its
        // caller would get ESTALE.
        let sent_on = lock(&self.table).sent_on.get(&(tid, file)).copied();
        let was_sent = sent_on.is_some_and(|at| at.elapsed() < SENT_ON_EXPIRES);
        let sends_on = !was_sent && load.sends_on(opening, &lineage(tid));
        if sends_on {
            self.sent_on(file, tid);
        }
        sends_on
    }

    /// A thread that opens the file is told to look its name up again.
    pub fn sent_on(&self, file: FileId, tid: u32) {
        let mut table = lock(&self.table);
        if table.sent_on.len() >= SENT_ON_MAX {
            table.sent_on.retain(|_, at| at.elapsed() < SENT_ON_EXPIRES);
        }
        table.sent_on.insert((tid, file), Instant::now());
    }

    /// A thread has opened the file.
    pub fn arrived(&self, file: FileId, tid: u32) {
        let mut table = lock(&self.table);
        if !table.sent_on.is_empty() {
            table.sent_on.remove(&(tid, file));
        }
    }

    /// A file that nobody has looked at lately.
    fn look_at(&self, file: &Arc<HomeFile>) -> Arc<FirstLoad> {
        let mut table = lock(&self.table);
        if table.loads.len() >= LOOKED_MAX {
            table.loads.retain(|_, load| !load.is_forgotten());
        }
        let new = || Arc::new(FirstLoad::new(file));
        Arc::clone(table.loads.entry(file.id).or_insert_with(new))
    }

    /// So many bytes were read by now through a handle of `tid`, and so many before: what reads more
    /// than a header loads the file.
    pub fn note_read(&self, load: &Arc<FirstLoad>, before: u64, now: u64, tid: u32) {
        let header = load.header_bytes_max();
        let Some(host) = self.host.get().filter(|_| before <= header && now > header) else {
            return;
        };
        if load.want() {
            count(&self.stats.first_loads);
        }
        host.wanted(load.file(), tid);
    }

    /// Blocks of [`KEPT_BLOCK_BYTES`](crate::copy::KEPT_BLOCK_BYTES) of the file that were read from its home for somebody.
    pub fn kept_blocks(&self, file: FileId) -> HashSet<u64> {
        self.find(file)
            .map(|load| load.kept_blocks())
            .unwrap_or_default()
    }

    /// Keeps an open until the file is resident, the copy ends otherwise, or it has been kept long
    /// enough; then it is resumed.
    pub fn hold(self: &Arc<Self>, load: &Arc<FirstLoad>, node: NodeId, open: Box<dyn HeldOpen>) {
        count(&self.stats.opens_held);
        if let Some(open) = load.hold(node, open) {
            return open.resume();
        }
        self.watch_over();
    }

    /// Answers a read: `answer` is given the copy that has the whole range, or `None` when it
    /// is to be read from the home. Called at once, or by the copying thread that brings the range.
    pub fn read(self: &Arc<Self>, load: &Arc<FirstLoad>, range: Range<u64>, answer: Answer) {
        if load.read(range, answer) {
            self.watch_over();
        }
    }

    /// A copy of the file begins.
    pub fn begun(&self, file: &Arc<HomeFile>, partial: Arc<File>, control: &Arc<CopyControl>) {
        let load = self.look_at(file);
        load.begin(partial, control);
    }

    /// The file is resident: `replica` has its bytes.
    pub fn completed(&self, file: FileId, replica: Arc<File>) {
        if let Some(load) = self.take(file) {
            load.complete(replica);
        }
    }

    /// There is no copy, or none any more: everything comes from the home.
    pub fn end(&self, file: FileId) {
        if let Some(load) = self.take(file) {
            load.end();
        }
    }

    fn take(&self, file: FileId) -> Option<Arc<FirstLoad>> {
        lock(&self.table).loads.remove(&file)
    }

    /// Wakes the thread that looks after what is kept, and starts it if there is none.
    fn watch_over(self: &Arc<Self>) {
        let mut table = lock(&self.table);
        if !table.watching {
            let loads = Arc::clone(self);
            let thread = std::thread::Builder::new().name("first-loads".to_owned());
            match thread.spawn(move || loads.watch()) {
                Ok(_) => table.watching = true,
                Err(error) => tracing::error!(%error, "first loads are not looked after"),
            }
        }
        self.waiting.notify_one();
    }

    fn watch(&self) {
        let mut table = lock(&self.table);
        loop {
            while !table.loads.values().any(|load| load.keeps_any()) {
                let woken = self.waiting.wait(table);
                table = woken.unwrap_or_else(PoisonError::into_inner);
            }
            drop(table);
            // Not woken by what comes meanwhile: most is answered before anybody looks.
            std::thread::sleep(LOOK_INTERVAL);
            let loads: Vec<Arc<FirstLoad>> = lock(&self.table).loads.values().cloned().collect();
            let (now, max_wait) = (Instant::now(), self.max_wait());
            for load in loads {
                load.look_after(now, max_wait);
            }
            table = lock(&self.table);
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
