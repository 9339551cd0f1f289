//! A process that is killed at any step of a promotion and demotion leaves a pool from which the
//! next one adopts a whole replica or none.

use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{Signal, getpid, kill_process};

use super::*;
use crate::pool::PoolKind;
use crate::replica::adopt;
use crate::seam::{NoSeam, Seam};
use crate::testing::{MemorySource, content, finish, settings, until_used};

const SIZE: usize = 300_001;
const POOL_VARIABLE: &str = "SPEEDLOADER_TEST_CRASH_POOL";
const STEP_VARIABLE: &str = "SPEEDLOADER_TEST_CRASH_STEP";

/// Kills its process at a step.
struct DeadlySeam {
    steps: AtomicUsize,
    deadly: usize,
}

impl Seam for DeadlySeam {
    fn step(&self, _: &'static str) -> FsResult<()> {
        if self.steps.fetch_add(1, Ordering::SeqCst) + 1 == self.deadly {
            kill_process(getpid(), Signal::KILL).unwrap();
            loop {
                std::thread::park();
            }
        }
        Ok(())
    }
}

/// Hands each replica back to the test.
struct HandBack(crossbeam_channel::Sender<Replica>);

impl MoverHost for HandBack {
    fn open_source(&self, _: FileId) -> FsResult<Box<dyn Source>> {
        Ok(Box::new(MemorySource::new(content(SIZE, 5))))
    }

    fn publish(&self, _: FileId, replica: Replica) -> Result<(), Refused> {
        self.0.send(replica).unwrap();
        Ok(())
    }
}

fn connect(path: &Path, seam: Arc<dyn Seam>) -> Arc<Pool> {
    let kind = PoolKind::Directory {
        capacity_bytes: 64 << 20,
    };
    Pool::connect(settings(path, &kind, seam)).unwrap()
}

/// What the killed process does: one promotion and one demotion. Does nothing as a test.
#[test]
fn child() {
    let Some(path) = std::env::var_os(POOL_VARIABLE) else {
        return;
    };
    let deadly = std::env::var(STEP_VARIABLE).unwrap().parse().unwrap();
    let seam = DeadlySeam {
        steps: AtomicUsize::new(0),
        deadly,
    };
    let pool = connect(Path::new(&path), Arc::new(seam));
    let (sender, replicas) = crossbeam_channel::unbounded();
    let copy = CopySettings {
        chunk_bytes: 64 << 10,
        ..CopySettings::default()
    };
    let settings = MoverSettings {
        copy,
        ..MoverSettings::default()
    };
    let mover = Mover::start(settings, Arc::new(HandBack(sender))).unwrap();
    let job = Job {
        file: FileId(1),
        label: "model".to_owned(),
        home: PathBuf::from("/home/of/tests"),
        path: RelPath::new(b"model.gguf").unwrap(),
        size_bytes: SIZE as u64,
        pool,
        leaves: None,
        expected: None,
        priority: 0,
        pace: None,
    };
    mover.submit(job).unwrap();
    replicas.recv().unwrap().drain().try_finish().unwrap();
}

#[test]
fn a_process_killed_at_any_step_leaves_a_whole_replica_or_none() {
    for parent in [std::env::temp_dir(), PathBuf::from("/dev/shm")] {
        let Ok(directory) = tempfile::tempdir_in(&parent) else {
            continue;
        };
        let path = directory.path().join("pool");
        let (mut whole, mut none) = (0, 0);
        for step in 1.. {
            let status = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "mover::crash_tests::child", "--nocapture"])
                .env(POOL_VARIABLE, &path)
                .env(STEP_VARIABLE, step.to_string())
                .output()
                .unwrap();
            let killed = status.status.signal() == Some(Signal::KILL.as_raw());
            assert!(killed || status.status.success(), "step {step}: {status:?}");

            let pool = connect(&path, Arc::new(NoSeam));
            let adopted = adopt(&pool, |_| true).unwrap();
            let names = std::fs::read_dir(path.join("replicas")).unwrap().count();
            assert_eq!(names, 2 * adopted.replicas.len(), "step {step}");
            assert_eq!(std::fs::read_dir(path.join("partial")).unwrap().count(), 0);
            assert!(adopted.replicas.len() <= 1 && adopted.foreign_entries == 0);
            if adopted.replicas.is_empty() {
                none += 1
            } else {
                whole += 1
            }
            for replica in adopted.replicas {
                let mut bytes = vec![0; SIZE];
                replica.file().read_exact_at(&mut bytes, 0).unwrap();
                assert_eq!(bytes, content(SIZE, 5), "step {step}");
                finish(replica.drain());
            }
            until_used(&pool, 0);
            if !killed {
                break;
            }
        }
        assert!(whole >= 3 && none >= 10, "{whole} whole, {none} none");
    }
}
