//! A hung test is killed, not waited for: what it has mounted is aborted, its daemon killed, and if
//! even that does not end it, this whole test run, with the test's name as the last word.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::mount_table;

/// How long a test has to end once its mount is gone.
const GRACE: Duration = Duration::from_secs(60);

struct Watched {
    test: String,
    root: PathBuf,
    pids: Vec<u32>,
    deadline: Instant,
    bitten: bool,
}

#[derive(Default)]
struct Kennel {
    watched: BTreeMap<u64, Watched>,
    next: u64,
    awake: bool,
}

static KENNEL: Mutex<Kennel> = Mutex::new(Kennel {
    watched: BTreeMap::new(),
    next: 0,
    awake: false,
});
static CHANGED: Condvar = Condvar::new();

fn kennel() -> MutexGuard<'static, Kennel> {
    KENNEL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A test under watch, until this is dropped.
#[derive(Debug)]
pub struct Watch(u64);

/// Watches this thread's test, of which all mounts lie below `root`. A slow machine multiplies the
/// limit by `SPEEDLOADER_TEST_PATIENCE`.
pub fn watch(root: PathBuf, limit: Duration) -> Watch {
    let patience = std::env::var("SPEEDLOADER_TEST_PATIENCE").ok();
    let factor: u32 = patience.and_then(|text| text.parse().ok()).unwrap_or(1);
    let mut kennel = kennel();
    if !kennel.awake {
        kennel.awake = true;
        thread::Builder::new()
            .name("watchdog".to_owned())
            .spawn(guard)
            .unwrap();
    }
    kennel.next += 1;
    let number = kennel.next;
    let deadline = Instant::now() + limit * factor.max(1);
    let watched = Watched {
        test: super::test_name(),
        root,
        pids: Vec::new(),
        deadline,
        bitten: false,
    };
    kennel.watched.insert(number, watched);
    CHANGED.notify_one();
    Watch(number)
}

impl Watch {
    /// A process that dies with the test.
    pub fn add(&self, pid: u32) {
        if let Some(watched) = kennel().watched.get_mut(&self.0) {
            watched.pids.push(pid);
        }
    }

    /// A process that has ended: its number may be somebody else's soon.
    pub fn remove(&self, pid: u32) {
        if let Some(watched) = kennel().watched.get_mut(&self.0) {
            watched.pids.retain(|known| *known != pid);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        kennel().watched.remove(&self.0);
    }
}

fn guard() {
    let mut kennel = kennel();
    loop {
        let now = Instant::now();
        for watched in kennel
            .watched
            .values_mut()
            .filter(|watched| watched.deadline <= now)
        {
            if watched.bitten {
                say(&format!(
                    "HUNG {}: it does not end; the whole run is given up",
                    watched.test
                ));
                for watched in kennel.watched.values() {
                    bite(watched);
                }
                std::process::exit(101);
            }
            say(&format!(
                "HUNG {}: its mount is aborted and its daemon killed",
                watched.test
            ));
            bite(watched);
            watched.bitten = true;
            watched.deadline = now + GRACE;
        }
        let next = kennel
            .watched
            .values()
            .map(|watched| watched.deadline)
            .min();
        let left = next.map_or(GRACE, |next| next.saturating_duration_since(now));
        let waited = CHANGED.wait_timeout(kennel, left);
        kennel = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
}

fn bite(watched: &Watched) {
    for pid in &watched.pids {
        // It may have ended just now.
        let _ = mount_table::signal(*pid, Signal::KILL);
    }
    mount_table::clear(&watched.root);
}

/// Past libtest, which keeps what a test prints to itself until it has ended.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
