//! Jobs end as what they are; nothing of a failed one stays behind, at whatever step it failed.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::*;
use crate::copy::FileSource;
use crate::error::FsError;
use crate::identity::Identity;
use crate::pool::PoolSettings;
use crate::testing::{self, Fault, MemorySource, TestPool, content, finish};

const LONG: Duration = Duration::from_secs(60);

/// Serves sources from memory and keeps what is published.
struct TestHost {
    size: usize,
    fault: Mutex<(Fault, usize)>,
    refuse: AtomicBool,
    opened: AtomicUsize,
    published: Mutex<Vec<(FileId, Replica)>>,
    ended: Sender<TransferState>,
    /// While this is locked no source is opened.
    door: Mutex<()>,
    /// Files whose open never returns until this is dropped.
    hanging: Mutex<Option<(FileId, Receiver<()>)>>,
}

impl TestHost {
    fn new(size: usize) -> (Arc<Self>, Receiver<TransferState>) {
        let (ended, receiver) = unbounded();
        let host = TestHost {
            size,
            fault: Mutex::new((Fault::None, 0)),
            refuse: AtomicBool::new(false),
            opened: AtomicUsize::new(0),
            published: Mutex::default(),
            ended,
            door: Mutex::new(()),
            hanging: Mutex::new(None),
        };
        (Arc::new(host), receiver)
    }

    fn replicas(&self) -> Vec<(FileId, Replica)> {
        std::mem::take(&mut self.published.lock().unwrap())
    }
}

impl MoverHost for TestHost {
    fn open_source(&self, file: FileId) -> FsResult<Box<dyn Source>> {
        let hanging = self.hanging.lock().unwrap().clone();
        if let Some((_, forever)) = hanging.filter(|(hangs, _)| *hangs == file) {
            let _ = forever.recv();
        }
        drop(self.door.lock().unwrap());
        self.opened.fetch_add(1, Ordering::SeqCst);
        let (fault, at) = *self.fault.lock().unwrap();
        Ok(Box::new(MemorySource::with_fault(
            content(self.size, file.0),
            fault,
            at,
        )))
    }

    fn publish(&self, file: FileId, replica: Replica) -> Result<(), Refused> {
        if self.refuse.load(Ordering::SeqCst) {
            let error = FsError::new("publish", ErrorKind::Busy("the file has a writer"));
            return Err(Refused {
                error,
                replica: Box::new(replica),
            });
        }
        let mut published = self.published.lock().unwrap();
        let pool = replica.pool().id();
        let moved = |(known, at): &(FileId, Replica)| *known == file && at.pool().id() != pool;
        let former = published.iter().position(moved);
        let former = former.map(|at| published.remove(at));
        published.push((file, replica));
        drop(published);
        if let Some((_, former)) = former {
            finish(former.drain());
        }
        Ok(())
    }

    fn ended(&self, transfer: &TransferState) {
        self.ended.send(transfer.clone()).unwrap();
    }
}

pub(super) fn settings() -> MoverSettings {
    MoverSettings {
        copy: CopySettings {
            chunk_bytes: 64 << 10,
            ..CopySettings::default()
        },
        ..MoverSettings::default()
    }
}

fn job(test: &TestPool, file: u64, host: &TestHost) -> Job {
    Job {
        file: FileId(file),
        label: format!("model {file}"),
        home: PathBuf::from("/home/of/tests"),
        path: RelPath::new(format!("file{file}").as_bytes()).unwrap(),
        size_bytes: host.size as u64,
        pool: Arc::clone(&test.pool),
        leaves: None,
        expected: None,
        priority: 0,
        pace: None,
    }
}

#[test]
fn a_promotion_ends_in_a_served_replica() {
    for test in TestPool::all("a_promotion_ends_in_a_served_replica") {
        let (host, ended) = TestHost::new(300_001);
        let mover = Mover::start(settings(), host.clone()).unwrap();
        let id = mover.submit(job(&test, 7, &host)).unwrap();
        let state = mover.wait(id, LONG).unwrap();
        assert!(matches!(state.phase, Phase::Done), "{state:?}");
        assert_eq!(state.progress.done_bytes, 300_001);
        assert_eq!(state.label, "model 7");
        assert_eq!(ended.recv().unwrap().id, id);
        let (file, replica) = host.replicas().pop().unwrap();
        assert_eq!(file, FileId(7));
        let mut bytes = vec![0; 300_001];
        replica.file().read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(bytes, content(300_001, 7));
        assert_eq!(
            replica.meta().digest.as_bytes(),
            blake3::hash(&bytes).as_bytes()
        );
        assert!(
            !replica.is_in_use().unwrap(),
            "no descriptor of the copy is left"
        );
        assert!(mover.wait(TransferId(999), LONG).is_err());
    }
}

#[test]
fn a_failure_at_any_step_gives_everything_back() {
    for test in TestPool::all("a_failure_at_any_step_gives_everything_back") {
        let (host, _ended) = TestHost::new(300_001);
        let mover = Mover::start(settings(), host.clone()).unwrap();
        let start = test.pool.usage().unwrap();
        let run = || {
            let id = mover.submit(job(&test, 7, &host)).unwrap();
            mover.wait(id, LONG).unwrap()
        };
        run();
        let steps = test.seam.steps().len();
        assert!(steps > 15, "{:?}", test.seam.steps());
        finish(host.replicas().pop().unwrap().1.drain());
        for number in 1..=steps {
            test.seam.fail_at(number);
            let state = run();
            test.seam.fail_at(0);
            // Of the chunks' steps one may come after all work is done by another thread.
            assert!(
                matches!(state.phase, Phase::Failed(_)),
                "step {number}: {state:?}"
            );
            assert!(host.replicas().is_empty());
            assert_eq!(test.names(), [""; 0], "step {number}");
            let usage = test.pool.usage().unwrap();
            assert_eq!(usage.used_bytes, start.used_bytes, "step {number}");
            assert_eq!((usage.reserved_bytes, usage.draining_bytes), (0, 0));
            assert_eq!(test.pool.replicas_serving(), 0);
        }
    }
}

#[test]
fn faults_of_the_source_end_as_failures() {
    for test in TestPool::all("faults_of_the_source_end_as_failures") {
        let (host, ended) = TestHost::new(300_001);
        let mover = Mover::start(settings(), host.clone()).unwrap();
        let start = test.pool.usage().unwrap();
        for fault in [
            Fault::Error,
            Fault::Truncated,
            Fault::Grown,
            Fault::Changed,
            Fault::Panic,
        ] {
            *host.fault.lock().unwrap() = (fault, 2);
            mover.submit(job(&test, 1, &host)).unwrap();
            let state = ended.recv().unwrap();
            assert!(
                matches!(state.phase, Phase::Failed(_)),
                "{fault:?}: {state:?}"
            );
            assert_eq!(test.pool.usage().unwrap(), start);
        }
        *host.fault.lock().unwrap() = (Fault::None, 0);
        mover.submit(job(&test, 1, &host)).unwrap();
        assert!(
            matches!(ended.recv().unwrap().phase, Phase::Done),
            "the worker survived"
        );
    }
}

#[test]
fn a_refused_replica_is_removed() {
    for test in TestPool::all("a_refused_replica_is_removed") {
        let (host, ended) = TestHost::new(5000);
        let mover = Mover::start(settings(), host.clone()).unwrap();
        let start = test.pool.usage().unwrap();
        host.refuse.store(true, Ordering::SeqCst);
        mover.submit(job(&test, 1, &host)).unwrap();
        let Phase::Failed(error) = ended.recv().unwrap().phase else {
            panic!("refused")
        };
        assert!(matches!(error.kind, ErrorKind::Busy(_)));
        assert_eq!(test.pool.usage().unwrap(), start);
        assert_eq!(test.names(), [""; 0]);
    }
}

#[test]
fn two_requests_for_one_file_are_one_copy() {
    let test = TestPool::directory(&std::env::temp_dir());
    let (host, ended) = TestHost::new(5000);
    let door = host.door.lock().unwrap();
    let mover = Mover::start(settings(), host.clone()).unwrap();
    let first = mover.submit(job(&test, 1, &host)).unwrap();
    let other = mover.submit(job(&test, 2, &host)).unwrap();
    assert_eq!(mover.submit(job(&test, 1, &host)).unwrap(), first);
    assert_eq!(mover.submit(job(&test, 2, &host)).unwrap(), other);
    drop(door);
    for _ in 0..2 {
        assert!(matches!(ended.recv().unwrap().phase, Phase::Done));
    }
    assert_eq!(host.opened.load(Ordering::SeqCst), 2);
    let again = mover.submit(job(&test, 1, &host)).unwrap();
    assert!(again != first, "the first has ended");
    assert!(matches!(
        mover.wait(again, LONG).unwrap().phase,
        Phase::Done
    ));
}

#[test]
fn urgent_jobs_come_first_and_a_full_queue_says_so() {
    let test = TestPool::directory(&std::env::temp_dir());
    let (host, ended) = TestHost::new(5000);
    let door = host.door.lock().unwrap();
    let settings = MoverSettings {
        queue_max: 3,
        ..settings()
    };
    let mover = Mover::start(settings, host.clone()).unwrap();
    let running = mover.submit(job(&test, 0, &host)).unwrap();
    while !matches!(mover.transfer(running).unwrap().phase, Phase::Running) {
        std::thread::yield_now();
    }
    let ids: Vec<_> = (1..=3)
        .map(|file| mover.submit(job(&test, file, &host)).unwrap())
        .collect();
    let error = mover.submit(job(&test, 4, &host)).unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Busy(_)));
    let raised = Job {
        priority: 5,
        ..job(&test, 3, &host)
    };
    assert_eq!(mover.submit(raised).unwrap(), ids[2]);
    assert!(mover.cancel(ids[0]));
    assert!(!mover.cancel(ids[0]));
    assert!(matches!(ended.recv().unwrap().phase, Phase::Cancelled));
    let last = mover.submit(job(&test, 5, &host)).unwrap();
    drop(door);
    let order: Vec<_> = (0..4).map(|_| ended.recv().unwrap().id).collect();
    assert_eq!(order, [running, ids[2], ids[1], last]);
    assert_eq!(mover.transfers().len(), 5);
}

#[test]
fn a_file_that_can_never_fit_is_refused_up_front() {
    let test = TestPool::directory(&std::env::temp_dir());
    let (host, _ended) = TestHost::new(5000);
    let mover = Mover::start(settings(), host.clone()).unwrap();
    let huge = Job {
        size_bytes: u64::MAX / 2,
        ..job(&test, 1, &host)
    };
    let error = mover.submit(huge).unwrap_err();
    assert!(matches!(error.kind, ErrorKind::TooLarge { .. }));
    assert_eq!(host.opened.load(Ordering::SeqCst), 0);
}

#[test]
fn a_copy_waits_for_the_memory_that_was_dropped_for_it() {
    for test in TestPool::all("a_copy_waits_for_the_memory_that_was_dropped_for_it") {
        let (host, ended) = TestHost::new(40 << 20);
        let mover = Mover::start(settings(), host.clone()).unwrap();
        mover.submit(job(&test, 1, &host)).unwrap();
        assert!(matches!(ended.recv().unwrap().phase, Phase::Done));
        // Nothing drains: the second does not wait for what nobody will give back.
        mover.submit(job(&test, 2, &host)).unwrap();
        let Phase::Failed(error) = ended.recv().unwrap().phase else {
            panic!("there is no room");
        };
        assert!(matches!(error.kind, ErrorKind::NoSpace { .. }), "{error}");
        let draining = host.replicas().pop().unwrap().1.drain();
        let door = host.door.lock().unwrap();
        mover.submit(job(&test, 2, &host)).unwrap();
        drop(door);
        finish(draining);
        let state = ended.recv().unwrap();
        assert!(matches!(state.phase, Phase::Done), "{state:?}");
    }
}

/// A second pool, in a directory.
fn pool_beside(pool: &TestPool, directory: &Path) -> Arc<Pool> {
    let path = directory.join("pool");
    let settings = testing::settings(&path, &pool.kind, pool.seam.clone());
    let second = Pool::connect(PoolSettings {
        id: PoolId(2),
        ..settings
    });
    second.unwrap()
}

/// Put before the others, or beside them, a copy failed for want of the room that the one before it was about to leave.
#[test]
fn a_copy_waits_for_the_room_that_the_one_before_it_leaves() {
    for workers in [1, 2] {
        let fast = TestPool::directory(&std::env::temp_dir());
        let below = tempfile::tempdir().unwrap();
        let slow = pool_beside(&fast, below.path());
        let (host, ended) = TestHost::new(40 << 20);
        let workers = NonZeroUsize::new(workers).unwrap();
        let settings = MoverSettings {
            workers,
            ..settings()
        };
        let mover = Mover::start(settings, host.clone()).unwrap();
        mover.submit(job(&fast, 1, &host)).unwrap();
        assert!(matches!(ended.recv().unwrap().phase, Phase::Done));
        let (hangs, forever) = unbounded();
        *host.hanging.lock().unwrap() = Some((FileId(1), forever));
        let leaving = Job {
            pool: Arc::clone(&slow),
            leaves: Some(fast.pool.id()),
            ..job(&fast, 1, &host)
        };
        let leaving = mover.submit(leaving).unwrap();
        let coming = mover.submit(job(&fast, 2, &host)).unwrap();
        assert!(mover.urge(FileId(2)));
        testing::until("the second copy looks for room", || {
            host.opened.load(Ordering::SeqCst) == 2
        });
        assert!(ended.try_recv().is_err());
        drop(hangs);
        let states: Vec<_> = (0..2).map(|_| ended.recv().unwrap()).collect();
        assert_eq!([states[0].id, states[1].id], [leaving, coming]);
        let all_done = states
            .iter()
            .all(|state| matches!(state.phase, Phase::Done));
        assert!(all_done, "{states:?}");
        // One that fails leaves nothing to wait for.
        *host.fault.lock().unwrap() = (Fault::Error, 0);
        let leaving = Job {
            pool: slow,
            leaves: Some(fast.pool.id()),
            ..job(&fast, 3, &host)
        };
        mover.submit(leaving).unwrap();
        mover.submit(job(&fast, 4, &host)).unwrap();
        for _ in 0..2 {
            assert!(matches!(ended.recv().unwrap().phase, Phase::Failed(_)));
        }
    }
}

/// Each was raised once for every way to it: with thirty jobs the mover hung, and all who asked it.
#[test]
fn jobs_that_make_room_for_one_another_are_raised_once() {
    let fast = TestPool::directory(&std::env::temp_dir());
    let below = tempfile::tempdir().unwrap();
    let slow = pool_beside(&fast, below.path());
    let (host, ended) = TestHost::new(5000);
    let door = host.door.lock().unwrap();
    let mover = Mover::start(settings(), host.clone()).unwrap();
    // The worker is kept by one that has nothing to do with them.
    let running = mover.submit(job(&fast, 0, &host)).unwrap();
    while !matches!(mover.transfer(running).unwrap().phase, Phase::Running) {
        std::thread::yield_now();
    }
    let other = mover.submit(job(&fast, 1, &host)).unwrap();
    let (up, down) = (&fast.pool, &slow);
    let exchanged = |file: u64| {
        let (to, from) = if file.is_multiple_of(2) {
            (up, down)
        } else {
            (down, up)
        };
        let job = Job {
            pool: Arc::clone(to),
            leaves: Some(from.id()),
            ..job(&fast, file, &host)
        };
        mover.submit(job).unwrap()
    };
    let mut wanted: Vec<_> = (2..66).map(exchanged).collect();
    // What waits for the last waits for all before it.
    mover
        .submit(Job {
            priority: 5,
            pool: Arc::clone(down),
            leaves: Some(up.id()),
            ..job(&fast, 65, &host)
        })
        .unwrap();
    drop(door);
    let order: Vec<_> = (0..66).map(|_| ended.recv().unwrap().id).collect();
    wanted.insert(0, running);
    wanted.push(other);
    assert_eq!(order, wanted);
}

#[test]
fn a_running_copy_is_cancelled_by_its_file() {
    for test in TestPool::all("a_running_copy_is_cancelled_by_its_file") {
        let (host, ended) = TestHost::new(5000);
        let start = test.pool.usage().unwrap();
        let door = host.door.lock().unwrap();
        let mover = Mover::start(settings(), host.clone()).unwrap();
        let id = mover.submit(job(&test, 1, &host)).unwrap();
        assert!(mover.control(id).is_some());
        assert_eq!(mover.cancel_file(FileId(1)), 1);
        drop(door);
        assert!(matches!(ended.recv().unwrap().phase, Phase::Cancelled));
        assert_eq!(test.pool.usage().unwrap(), start);
        assert!(mover.control(id).is_none());
    }
}

#[test]
fn a_hanging_home_does_not_hold_up_the_others() {
    let test = TestPool::directory(&std::env::temp_dir());
    let (host, ended) = TestHost::new(5000);
    let (release, forever) = unbounded();
    *host.hanging.lock().unwrap() = Some((FileId(1), forever));
    let settings = MoverSettings {
        stalled_after: Duration::from_millis(20),
        ..settings()
    };
    let mover = Mover::start(settings, host.clone()).unwrap();
    let stuck = mover.submit(job(&test, 1, &host)).unwrap();
    let other = mover.submit(job(&test, 2, &host)).unwrap();
    assert!(matches!(
        mover.wait(other, LONG).unwrap().phase,
        Phase::Done
    ));
    assert!(matches!(
        mover.transfer(stuck).unwrap().phase,
        Phase::Running
    ));
    assert!(
        !mover.shutdown(Duration::from_millis(50)),
        "one hangs, and we do not"
    );
    assert_eq!(ended.recv().unwrap().id, other);
    drop(release);
    assert!(matches!(ended.recv().unwrap().phase, Phase::Cancelled));
    assert!(mover.shutdown(LONG));
}

#[test]
fn shutting_down_cancels_what_waits() {
    let test = TestPool::directory(&std::env::temp_dir());
    let (host, ended) = TestHost::new(5000);
    let door = host.door.lock().unwrap();
    let mover = Mover::start(settings(), host.clone()).unwrap();
    for file in 1..=3 {
        mover.submit(job(&test, file, &host)).unwrap();
    }
    std::thread::scope(|scope| {
        let down = scope.spawn(|| mover.shutdown(LONG));
        while mover.submit(job(&test, 9, &host)).is_ok() {
            std::thread::yield_now();
        }
        drop(door);
        assert!(down.join().unwrap());
    });
    assert!(
        ended
            .try_iter()
            .all(|state| matches!(state.phase, Phase::Cancelled))
    );
    assert_eq!(test.names(), [""; 0]);
}

#[test]
fn the_last_hundred_that_ended_are_kept() {
    let test = TestPool::directory(&std::env::temp_dir());
    let (host, ended) = TestHost::new(1);
    let mover = Mover::start(settings(), host.clone()).unwrap();
    let first = mover.submit(job(&test, 0, &host)).unwrap();
    for file in 1..=100 {
        mover.submit(job(&test, file, &host)).unwrap();
    }
    for _ in 0..=100 {
        ended.recv().unwrap();
    }
    assert_eq!(mover.transfers().len(), 100);
    assert!(mover.transfer(first).is_none());
}

/// A file that changes while it is copied is thrown away, also by its real change time.
#[test]
fn a_changing_file_is_never_published() {
    struct Changing(tempfile::NamedTempFile, Mutex<Vec<Replica>>);
    struct ChangingSource(FileSource, File);
    impl Source for ChangingSource {
        fn identity(&self) -> std::io::Result<Identity> {
            self.0.identity()
        }
        fn read_at(&self, bytes: &mut [u8], offset: u64) -> std::io::Result<usize> {
            let count = self.0.read_at(bytes, offset)?;
            self.1.write_all_at(b"!", offset)?;
            Ok(count)
        }
    }
    impl MoverHost for Changing {
        fn open_source(&self, _: FileId) -> FsResult<Box<dyn Source>> {
            let open = |write| {
                File::options()
                    .read(true)
                    .write(write)
                    .open(self.0.path())
                    .unwrap()
            };
            Ok(Box::new(ChangingSource(
                FileSource::new(open(false)),
                open(true),
            )))
        }
        fn publish(&self, _: FileId, replica: Replica) -> Result<(), Refused> {
            self.1.lock().unwrap().push(replica);
            Ok(())
        }
    }
    let test = TestPool::directory(&std::env::temp_dir());
    let mut named = tempfile::NamedTempFile::new().unwrap();
    named.write_all(&content(1 << 20, 1)).unwrap();
    // Times of files move in steps of some milliseconds: begin on a step of its own.
    let old = std::time::SystemTime::now() - Duration::from_secs(10);
    named.as_file().set_modified(old).unwrap();
    let (host, _) = TestHost::new(1 << 20);
    let changing = Arc::new(Changing(named, Mutex::default()));
    let mover = Mover::start(settings(), changing.clone()).unwrap();
    let id = mover.submit(job(&test, 1, &host)).unwrap();
    let Phase::Failed(error) = mover.wait(id, LONG).unwrap().phase else {
        panic!("published")
    };
    assert!(matches!(error.kind, ErrorKind::SourceChanged), "{error}");
    assert!(changing.1.lock().unwrap().is_empty());
}
