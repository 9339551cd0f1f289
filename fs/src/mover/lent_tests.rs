//! A copy between pools has its bytes from the replica that is there: the home is asked whether it is still the
//! same, and read only where the replica fails.

use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::tests::settings;
use super::*;
use crate::copy::FileSource;
use crate::pool::Reach;
use crate::testing::{TestPool, content, finish, identity_of, until};

const SIZE: usize = 300_001;
const LONG: Duration = Duration::from_secs(60);

/// A home that counts how often it is read, and is another file from its n-th look on.
struct Home {
    bytes: Vec<u8>,
    reads: Arc<AtomicUsize>,
    looks: AtomicUsize,
    changed_at: usize,
}

impl Source for Home {
    fn identity(&self) -> std::io::Result<Identity> {
        let mut identity = identity_of(self.bytes.len());
        let look = self.looks.fetch_add(1, Ordering::SeqCst) + 1;
        identity.mtime_ns += i64::from(look >= self.changed_at);
        Ok(identity)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> std::io::Result<usize> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let rest = &self.bytes[usize::try_from(offset).unwrap().min(self.bytes.len())..];
        let count = rest.len().min(bytes.len());
        bytes[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

/// One file, of which there is a replica.
struct Scene {
    home_reads: Arc<AtomicUsize>,
    changed_at: usize,
    replica: Mutex<Option<Replica>>,
    begun: AtomicUsize,
    damaged: AtomicUsize,
    published: Mutex<Option<Replica>>,
}

impl MoverHost for Scene {
    fn open_source(&self, _: FileId) -> FsResult<Box<dyn Source>> {
        Ok(Box::new(Home {
            bytes: content(SIZE, 7),
            reads: Arc::clone(&self.home_reads),
            looks: AtomicUsize::new(0),
            changed_at: self.changed_at,
        }))
    }

    fn lend(&self, _: FileId, home: &Identity) -> Option<Lent> {
        self.replica.lock().unwrap().as_ref()?.lend(home)
    }

    fn damaged(&self, _: FileId, _: PoolId) {
        self.damaged.fetch_add(1, Ordering::SeqCst);
    }

    fn begun(&self, _: FileId, _: Arc<File>, _: &Arc<CopyControl>) {
        self.begun.fetch_add(1, Ordering::SeqCst);
    }

    fn publish(&self, _: FileId, replica: Replica) -> Result<(), Refused> {
        *self.published.lock().unwrap() = Some(replica);
        Ok(())
    }
}

fn job(target: &TestPool, expected: Option<Digest>) -> Job {
    Job {
        file: FileId(1),
        label: "model".to_owned(),
        home: PathBuf::from("/home/of/tests"),
        path: RelPath::new(b"model.gguf").unwrap(),
        size_bytes: SIZE as u64,
        pool: Arc::clone(&target.pool),
        leaves: None,
        expected,
        priority: 0,
        pace: None,
    }
}

/// The file has a replica in `source`; nothing of the home is counted yet.
fn scene(source: &TestPool, changed_at: usize) -> Arc<Scene> {
    let scene = |replica, changed_at| {
        Arc::new(Scene {
            home_reads: Arc::default(),
            changed_at,
            replica: Mutex::new(replica),
            begun: AtomicUsize::new(0),
            damaged: AtomicUsize::new(0),
            published: Mutex::default(),
        })
    };
    let maker = scene(None, usize::MAX);
    assert!(matches!(run(&maker, source, None), Phase::Done));
    let replica = maker.published.lock().unwrap().take();
    scene(replica, changed_at)
}

fn run(scene: &Arc<Scene>, target: &TestPool, expected: Option<Digest>) -> Phase {
    let mover = Mover::start(settings(), scene.clone()).unwrap();
    let id = mover.submit(job(target, expected)).unwrap();
    mover.wait(id, LONG).unwrap().phase
}

/// What arrived is what the home has; then it is removed.
fn check_arrived(scene: &Scene) -> Digest {
    let replica = scene.published.lock().unwrap().take().unwrap();
    let mut bytes = vec![0; SIZE];
    replica.file().read_exact_at(&mut bytes, 0).unwrap();
    assert!(bytes == content(SIZE, 7), "what arrived is not the file");
    let digest = replica.meta().digest;
    finish(replica.drain());
    digest
}

/// Of every kind of pool, and the same again to copy into.
fn pairs(test: &str) -> Vec<(TestPool, TestPool)> {
    TestPool::all(test)
        .into_iter()
        .zip(TestPool::all(test).into_iter().rev())
        .collect()
}

#[test]
fn a_copy_between_pools_reads_the_replica_and_not_the_home() {
    for (source, target) in pairs("a_copy_between_pools_reads_the_replica_and_not_the_home") {
        let scene = scene(&source, usize::MAX);
        let phase = run(&scene, &target, None);
        assert!(matches!(phase, Phase::Done), "{phase:?}");
        let digest = check_arrived(&scene);
        assert_eq!(
            digest.as_bytes(),
            blake3::hash(&content(SIZE, 7)).as_bytes()
        );
        assert_eq!(scene.home_reads.load(Ordering::SeqCst), 0);
        assert_eq!(
            scene.begun.load(Ordering::SeqCst),
            0,
            "nobody is served from it"
        );
        let replica = scene.replica.lock().unwrap().take().unwrap();
        until("it was given back", || replica.is_free_to_go());
    }
}

#[test]
fn what_is_lent_keeps_its_memory_until_it_is_given_back() {
    for source in TestPool::all("what_is_lent_keeps_its_memory_until_it_is_given_back") {
        let replica = scene(&source, usize::MAX).replica.lock().unwrap().take();
        let replica = replica.unwrap();
        let lent = replica.lend(&identity_of(SIZE)).unwrap();
        let file = FileSource::new(lent.shared_file());
        assert!(!replica.is_free_to_go());
        let draining = replica.drain().try_finish().unwrap_err();
        let mut bytes = vec![0; 4096];
        assert_eq!(file.read_at(&mut bytes, 0).unwrap(), 4096);
        assert_eq!(bytes, content(SIZE, 7)[..4096]);
        drop((lent, file));
        finish(*draining);
    }
}

#[test]
fn a_replica_that_cannot_be_read_is_replaced_by_its_home_and_nobody_is_told() {
    for (source, target) in
        pairs("a_replica_that_cannot_be_read_is_replaced_by_its_home_and_nobody_is_told")
    {
        let scene = scene(&source, usize::MAX);
        source.seam.fail_at(0);
        assert!(matches!(run(&scene, &target, None), Phase::Done));
        check_arrived(&scene);
        let steps = source.seam.steps();
        assert!(steps.iter().all(|step| *step == "copy.lent"), "{steps:?}");
        for number in 1..=steps.len() {
            let before = scene.home_reads.load(Ordering::SeqCst);
            source.seam.fail_at(number);
            let phase = run(&scene, &target, None);
            source.seam.fail_at(0);
            assert!(matches!(phase, Phase::Done), "read {number}: {phase:?}");
            check_arrived(&scene);
            assert!(scene.home_reads.load(Ordering::SeqCst) > before);
        }
        assert_eq!(scene.damaged.load(Ordering::SeqCst), 0);
    }
}

#[test]
fn a_pool_that_does_not_answer_is_not_asked() {
    let source = TestPool::directory(&std::env::temp_dir());
    let target = TestPool::directory(&std::env::temp_dir());
    let scene = scene(&source, usize::MAX);
    source.seam.fail_at(0);
    source.pool.set_reach(Reach::Silent);
    assert!(matches!(run(&scene, &target, None), Phase::Done));
    check_arrived(&scene);
    assert_eq!(source.seam.steps(), [""; 0]);
    source.pool.set_reach(Reach::Answers);
    assert!(matches!(run(&scene, &target, None), Phase::Done));
    check_arrived(&scene);
    assert!(!source.seam.steps().is_empty());
}

#[test]
fn a_damaged_replica_is_found_out_and_the_home_is_read() {
    for (source, target) in pairs("a_damaged_replica_is_found_out_and_the_home_is_read") {
        let scene = scene(&source, usize::MAX);
        let name = scene
            .replica
            .lock()
            .unwrap()
            .as_ref()
            .unwrap()
            .id()
            .data_name();
        let path = source.path().join("replicas").join(name);
        let data = File::options().write(true).open(path).unwrap();
        data.write_all_at(b"?", 123_456).unwrap();
        drop(data);
        // What the name promises the home may not keep either: who is at fault is known of the own digest only.
        let promised = Digest::sha256(
            sha2::Digest::finalize(<sha2::Sha256 as sha2::Digest>::new_with_prefix(content(
                SIZE, 7,
            )))
            .into(),
        );
        for (expected, damaged) in [(Some(promised), 0), (None, 1)] {
            let phase = run(&scene, &target, expected);
            assert!(matches!(phase, Phase::Done), "{phase:?}");
            let digest = check_arrived(&scene);
            assert_eq!(digest, expected.unwrap_or(digest));
            assert_eq!(scene.damaged.load(Ordering::SeqCst), damaged);
        }
        assert_eq!(
            scene.begun.load(Ordering::SeqCst),
            2,
            "who waits is served from the home's copy"
        );
    }
}

#[test]
fn a_home_that_changed_is_noticed_though_a_replica_is_read() {
    let source = TestPool::directory(&std::env::temp_dir());
    let target = TestPool::directory(&std::env::temp_dir());
    // Looks: the mover's own, before the copy, after it.
    let before = scene(&source, 1);
    assert!(matches!(run(&before, &target, None), Phase::Done));
    assert!(
        before.home_reads.load(Ordering::SeqCst) > 0,
        "the replica is stale"
    );
    for changed_at in [2, 3] {
        let scene = scene(&source, changed_at);
        let Phase::Failed(error) = run(&scene, &target, None) else {
            panic!("it changed at look {changed_at}");
        };
        assert!(matches!(error.kind, ErrorKind::SourceChanged), "{error}");
        assert_eq!(scene.home_reads.load(Ordering::SeqCst), 0);
        assert_eq!(target.pool.usage().unwrap().reserved_bytes, 0);
    }
}
