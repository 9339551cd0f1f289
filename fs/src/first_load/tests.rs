//! Opens and reads of files on their way, without a mount.

use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::*;
use crate::copy::{CopySettings, copy};
use crate::identity::Identity;
use crate::ids::HomeId;
use crate::replica::Partial;
use crate::testing::{MemorySource, TestPool, attr_of, content, origin_of};

const SIZE: usize = 3 << 20;
const NODE: NodeId = NodeId(7);
/// Nothing that comes takes nearly as long.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Host {
    refuses: AtomicBool,
    ignores: AtomicBool,
    wanted: AtomicUsize,
}

impl FirstLoadHost for Host {
    fn may_load(&self, _: &HomeFile) -> bool {
        !self.refuses.load(Ordering::SeqCst)
    }

    fn is_ignored(&self, _: u32) -> bool {
        self.ignores.load(Ordering::SeqCst)
    }

    fn wanted(&self, _: &Arc<HomeFile>, _: u32) {
        self.wanted.fetch_add(1, Ordering::SeqCst);
    }
}

struct Held {
    sender: Sender<()>,
    killed: Arc<AtomicBool>,
}

impl HeldOpen for Held {
    fn is_answered(&self) -> bool {
        self.killed.load(Ordering::SeqCst)
    }

    fn resume(self: Box<Self>) {
        self.sender.send(()).unwrap();
    }
}

struct Bench {
    /// Whoever is held is killed.
    killed: Arc<AtomicBool>,
    loads: Arc<FirstLoads>,
    host: Arc<Host>,
    file: Arc<HomeFile>,
}

fn bench() -> Bench {
    let identity = Identity {
        dev: 1,
        ino: 2,
        size: SIZE as u64,
        mtime_ns: 0,
        ctime_ns: 0,
    };
    let (loads, host) = (FirstLoads::new(Arc::default()), Arc::new(Host::default()));
    let asked: Arc<dyn FirstLoadHost> = host.clone();
    loads.set_host(asked);
    Bench {
        killed: Arc::default(),
        loads,
        host,
        file: Arc::new(HomeFile::new(
            FileId(1),
            HomeId(1),
            2,
            attr_of(identity),
            None,
        )),
    }
}

fn opening(node: NodeId, tid: u32, direct: bool) -> Opening {
    Opening {
        node,
        tid,
        direct,
        may_hold: true,
    }
}

impl Bench {
    fn open(&self, tid: u32, direct: bool) -> Verdict {
        let opening = opening(NODE, tid, direct);
        self.loads.open(&self.file, &opening)
    }

    fn served(&self, tid: u32, direct: bool) -> Arc<FirstLoad> {
        match self.open(tid, direct) {
            Verdict::Serve(load) => load,
            Verdict::Ordinary => panic!("it is opened as ever"),
            Verdict::Hold(_) => panic!("it is held"),
        }
    }

    fn is_held(&self, tid: u32) -> bool {
        matches!(self.open(tid, false), Verdict::Hold(_))
    }

    fn wanted(&self) -> usize {
        self.host.wanted.load(Ordering::SeqCst)
    }

    fn is_ordinary(&self, tid: u32) -> bool {
        matches!(self.open(tid, false), Verdict::Ordinary)
    }
}

fn own() -> u32 {
    std::process::id()
}

fn parent() -> u32 {
    std::os::unix::process::parent_id()
}

/// Reads a range; what comes: the bytes of the copy, or nothing: the home is to be read.
fn read(bench: &Bench, load: &Arc<FirstLoad>, range: Range<u64>) -> Receiver<Option<Vec<u8>>> {
    let (sender, receiver) = unbounded();
    let (start, length) = (range.start, range.end - range.start);
    let answer = move |copy: Option<Arc<CopyBytes>>| {
        let read = |copy: Arc<CopyBytes>| {
            let mut bytes = vec![0; usize::try_from(length).unwrap()];
            copy.file().read_exact_at(&mut bytes, start).unwrap();
            let in_memory = copy.complete_bytes(start..start + length);
            assert!(in_memory.is_none_or(|found| found == bytes));
            bytes
        };
        sender.send(copy.map(read)).unwrap();
    };
    bench.loads.read(load, range, Box::new(answer));
    receiver
}

fn held(bench: &Bench, load: &Arc<FirstLoad>) -> Receiver<()> {
    let (sender, receiver) = unbounded();
    let open = Held {
        sender,
        killed: Arc::clone(&bench.killed),
    };
    bench.loads.hold(load, NODE, Box::new(open));
    receiver
}

#[test]
fn a_header_wants_nothing_and_the_next_open_waits() {
    let bench = bench();
    bench.served(own(), false);
    // Another process looks too: it is no second open of the first.
    bench.served(parent(), false);
    assert_eq!(bench.wanted(), 0);
    assert!(bench.is_held(own()));
    assert_eq!(bench.wanted(), 1);
}

#[test]
fn a_child_goes_on_with_what_its_parent_has_looked_at() {
    let bench = bench();
    bench.served(parent(), false);
    assert!(bench.is_held(own()));
}

#[test]
fn who_loads_a_file_is_sent_on_once_from_a_node_that_is_served_for_others() {
    let bench = bench();
    let load = bench.served(parent(), false);
    let sends_on = |tid: u32, direct: bool| {
        let opening = opening(NodeId(8), tid, direct);
        bench.loads.sends_on(&load, &opening)
    };
    // Has looked itself, or descends from who has.
    assert!(!sends_on(parent(), true));
    assert!(sends_on(parent(), false));
    assert!(!sends_on(parent(), false), "the same node by a descriptor");
    assert!(sends_on(own(), false));
    // Unknown; and when nothing comes any more.
    assert!(!sends_on(0, false));
    load.end();
    let mut child = std::process::Command::new("cat")
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    assert!(!sends_on(child.id(), false));
    drop(child.stdin.take());
    child.wait().unwrap();
}

/// Sent on by one load, and at the node that it found then by the next one, it got ESTALE from a plain open.
#[test]
fn who_was_sent_on_is_not_sent_on_again_before_it_has_opened_the_file() {
    let bench = bench();
    let opening = opening(NodeId(8), own(), false);
    let first = bench.served(parent(), false);
    assert!(bench.loads.sends_on(&first, &opening));
    bench.loads.end(first.file().id);
    let next = bench.served(parent(), false);
    assert!(!Arc::ptr_eq(&first, &next));
    assert!(!bench.loads.sends_on(&next, &opening));
    bench.loads.arrived(first.file().id, own());
    assert!(bench.loads.sends_on(&next, &opening));
}

/// One that had given up was remembered for good, and whichever thread had its number next was never sent on.
#[test]
fn who_was_sent_on_and_gave_up_is_forgotten() {
    let bench = bench();
    let opening = opening(NodeId(8), own(), false);
    let first = bench.served(parent(), false);
    assert!(bench.loads.sends_on(&first, &opening));
    let long_ago = Instant::now().checked_sub(SENT_ON_EXPIRES).unwrap();
    for at in lock(&bench.loads.table).sent_on.values_mut() {
        *at = long_ago;
    }
    bench.loads.end(first.file().id);
    let next = bench.served(parent(), false);
    assert!(bench.loads.sends_on(&next, &opening));
}

/// Each read beyond the end took memory.
#[test]
fn what_lies_beyond_the_end_is_not_kept() {
    let bench = bench();
    let load = bench.served(own(), false);
    let size = load.file().attr().identity.size;
    let blocks = load.note_kept_blocks(0..u64::MAX);
    assert_eq!(
        blocks.len() as u64,
        size.div_ceil(crate::copy::KEPT_BLOCK_BYTES)
    );
    assert!(
        load.note_kept_blocks(size * 1000..size * 1000 + 1)
            .is_empty()
    );
}

#[test]
fn a_first_look_beside_others_is_remembered() {
    let bench = bench();
    let load = bench.served(0, false);
    let beside = opening(NODE, own(), false);
    assert!(!bench.loads.sends_on(&load, &beside));
    assert!(bench.is_held(own()));
}

#[test]
fn direct_io_wants_it_at_once_and_never_waits() {
    let bench = bench();
    bench.served(own(), true);
    assert_eq!(bench.wanted(), 1);
    bench.served(own(), true);
    assert!(bench.is_held(own()));
}

#[test]
fn reading_more_than_a_header_wants_it_once() {
    let bench = bench();
    let load = bench.served(own(), false);
    let header = SIZE as u64 / 8;
    bench.loads.note_read(&load, 0, header, own());
    assert_eq!(bench.wanted(), 0);
    bench.loads.note_read(&load, header, header + 1, own());
    bench.loads.note_read(&load, header + 1, header + 2, own());
    assert_eq!(bench.wanted(), 1);
}

#[test]
fn what_the_owner_does_not_want_is_opened_as_ever() {
    let bench = bench();
    bench.host.ignores.store(true, Ordering::SeqCst);
    assert!(bench.is_ordinary(own()));
    bench.host.ignores.store(false, Ordering::SeqCst);
    bench.host.refuses.store(true, Ordering::SeqCst);
    assert!(bench.is_ordinary(own()));
    assert!(!bench.loads.open_beside(&bench.file, own()));
    bench.loads.set_max_wait(Duration::ZERO);
    bench.host.refuses.store(false, Ordering::SeqCst);
    bench.served(own(), false);
    // Nobody shall be held at all.
    bench.served(own(), false);
    assert_eq!(bench.wanted(), 1);
}

#[test]
fn a_copy_that_ends_lets_everybody_go() {
    let bench = bench();
    let load = bench.served(own(), false);
    assert!(bench.is_held(own()));
    let (opened, bytes) = (held(&bench, &load), read(&bench, &load, 0..100));
    assert!(opened.try_recv().is_err() && bytes.try_recv().is_err());
    bench.loads.end(bench.file.id);
    assert_eq!(opened.recv(), Ok(()));
    assert_eq!(bytes.recv(), Ok(None));
    // What is asked from now on is answered at once.
    assert_eq!(held(&bench, &load).recv(), Ok(()));
    assert_eq!(read(&bench, &load, 0..100).recv(), Ok(None));
    assert!(load.has_ended());
    let again = Opening {
        node: NODE,
        tid: own(),
        direct: false,
        may_hold: false,
    };
    let verdict = bench.loads.open(&bench.file, &again);
    assert!(matches!(verdict, Verdict::Ordinary));
}

/// Whoever looks at the header where somebody is held waits too, since it would make the daemon serve
/// both; but not behind the dead.
#[test]
fn who_was_killed_keeps_nobody_waiting() {
    let bench = bench();
    let load = bench.served(own(), false);
    assert!(bench.is_held(own()));
    let opened = held(&bench, &load);
    assert!(bench.is_held(parent()));
    let stranger = 1;
    assert!(bench.is_held(stranger));
    bench.killed.store(true, Ordering::SeqCst);
    bench.served(stranger, false);
    assert_eq!(opened.recv(), Ok(()), "it is given up");
}

#[test]
fn nobody_is_held_for_longer_than_is_allowed() {
    let bench = bench();
    let load = bench.served(own(), false);
    assert!(bench.is_held(own()));
    let opened = held(&bench, &load);
    bench.loads.set_max_wait(Duration::from_millis(1));
    assert_eq!(opened.recv(), Ok(()));
}

/// Demanded, copied, answered; then the replica takes the place of the copy.
#[test]
fn reads_are_answered_by_the_copy_as_it_comes() {
    for test in TestPool::all("reads_are_answered_by_the_copy_as_it_comes") {
        let bench = bench();
        let load = bench.served(own(), true);
        let before = read(&bench, &load, 0..100);
        let source = MemorySource::new(content(SIZE, 5));
        let partial = partial(&test);
        let control = Arc::new(CopyControl::new());
        bench
            .loads
            .begun(&bench.file, partial.shared_file(), &control);
        assert!(before.try_recv().is_err());
        assert!(load.ready(0..100).is_none());
        let settings = CopySettings::default();
        let digest = copy(&source, &partial, &settings, &control).unwrap();
        let wanted = content(SIZE, 5)[..100].to_vec();
        assert_eq!(before.recv(), Ok(Some(wanted.clone())));
        assert!(load.ready(0..SIZE as u64).is_some());
        let replica = partial.publish(digest).unwrap();
        bench.loads.completed(bench.file.id, replica.shared_file());
        assert_eq!(read(&bench, &load, 0..100).recv(), Ok(Some(wanted)));
        // Nobody of ours keeps what was written to: the lease would take that for a user.
        drop((load, bench));
        // The thread that looks after what is held may look just now.
        let start = Instant::now();
        while replica.is_in_use().unwrap_or(false) {
            assert!(start.elapsed() < PATIENCE, "somebody keeps the replica");
            std::thread::yield_now();
        }
    }
}

fn partial(test: &TestPool) -> Partial {
    let claim = test.pool.try_reserve(SIZE as u64).unwrap();
    Partial::create(claim, origin_of(SIZE)).unwrap()
}
