//! `kill -9` at random moments, while files move up and down and somebody writes and syncs: no partial
//! replica is ever seen, homes are untouched, and no byte that was acknowledged by fsync is lost.
//!
//! `SPEEDLOADER_KILLS=N` sets how often, `SPEEDLOADER_KILLS_SEED=N` when.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use speedloader::command::Command;

use crate::harness::{Mount, Site, content};

const KILLS: u64 = 200;
const LEN: u64 = 3_000_000;
const NAMES: [&str; 4] = ["d/a", "d/b", "own/c", "own/d"];
/// Bytes of one write that is synced.
const RECORD: u64 = 1_000;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .map_or(default, |text| text.parse().expect("a number"))
}

/// Moves files for as long as the daemon answers.
fn move_files(mount: &Mount) {
    for turn in 0.. {
        let names: Vec<String> = NAMES
            .iter()
            .skip(turn % 2)
            .map(|name| (*name).to_owned())
            .collect();
        let promote = Command::Promote {
            names: names.clone(),
            pool: None,
            wait: turn % 3 != 0,
        };
        if mount.try_call(promote).is_err() || mount.try_call(Command::Demote { names }).is_err() {
            return;
        }
    }
}

/// Appends and syncs for as long as that is possible; counts what was acknowledged.
fn write_records(path: &Path, acknowledged: &AtomicU64) {
    let Ok(file) = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(false)
        .open(path)
    else {
        return;
    };
    loop {
        let at = acknowledged.load(Ordering::Relaxed);
        let record = content::bytes(77, at, RECORD as usize);
        // With passthrough a handle outlives the daemon; without, it ends with it.
        if file.write_all_at(&record, at).is_err() || file.sync_data().is_err() {
            return;
        }
        acknowledged.store(at + RECORD, Ordering::Relaxed);
        if at > 2_000_000 {
            return;
        }
    }
}

fn check(mount: &Mount, acknowledged: u64) {
    for (seed, name) in NAMES.iter().enumerate() {
        content::check_file(&mount.mounted(name), seed as u64, LEN).unwrap();
    }
    if acknowledged == 0 {
        // Killed before the first record: the log need not even be there.
        return;
    }
    let log = File::open(mount.models("log")).unwrap();
    let mut bytes = vec![0; acknowledged as usize];
    log.read_exact_at(&mut bytes, 0).unwrap();
    content::check(&bytes, 77, 0).unwrap();
}

#[test]
fn killed_at_random_moments() {
    let mut site = Site::new().limit(Duration::from_secs(1_200));
    for (seed, name) in NAMES.iter().enumerate() {
        site = match name.starts_with("own/") {
            true => site.models_file(name, seed as u64, LEN),
            false => site.cold_file(name, seed as u64, LEN),
        };
    }
    let Some(mut mount) = site.start() else {
        return;
    };
    let mut seed = number("SPEEDLOADER_KILLS_SEED", 1);
    let acknowledged = AtomicU64::new(0);
    for _ in 0..number("SPEEDLOADER_KILLS", KILLS) {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        // Long enough for a few moves, short enough to come into the middle of them.
        let moment = Duration::from_micros((seed >> 33) % 60_000);
        let path = mount.mounted("log");
        std::thread::scope(|scope| {
            scope.spawn(|| move_files(&mount));
            scope.spawn(|| write_records(&path, &acknowledged));
            std::thread::sleep(moment);
            mount.signal(rustix::process::Signal::KILL);
        });
        mount.wait_ended();
        mount.restart();
        check(&mount, acknowledged.load(Ordering::Relaxed));
    }
    assert!(
        acknowledged.load(Ordering::Relaxed) > 0,
        "nothing was ever written"
    );
    mount.finish();
}
