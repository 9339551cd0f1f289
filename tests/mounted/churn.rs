//! Thousands of moves under everybody who can be in the way: threads, processes of two users,
//! mappings, descriptors opened again, a bind mount. No error, no wrong byte, and in the end the pool
//! is as empty as it was.
//!
//! `SPEEDLOADER_CHURN_MOVES` sets how many promotions and how many demotions there are.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use speedloader::command::Command;

use crate::harness::{Mount, Site, child, content, mapping, mount_table};

/// Promotions, and as many demotions.
const MOVES: u64 = 5_000;
const THREADS: usize = 4;
/// Users that are no root: `daemon` and `nobody` of every Debian.
const USERS: [u32; 2] = [1, 65_534];
/// Sizes of the files; their seed is their number.
const LENS: [u64; 8] = [
    0,
    1,
    4_096,
    70_001,
    131_072,
    300_000,
    1 << 20,
    (2 << 20) + 5,
];

fn name(index: usize) -> String {
    format!("churn/{index}.bin")
}

/// What one reader does, in turns.
fn read_once(directory: &Path, bound: &Path, turn: usize) -> Result<(), String> {
    let index = turn % LENS.len();
    let (seed, len) = (index as u64, LENS[index]);
    let path = directory.join(format!("{index}.bin"));
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        format!("turn {turn}: {what} {}: {error}", path.display())
    };
    let file = File::open(&path).map_err(|error| failed("open", &error))?;
    match turn / LENS.len() % 4 {
        0 => content::check_open(&file, seed, len).map_err(|error| failed("read", &error)),
        1 if len > 0 => {
            let map = mapping::shared(&file).map_err(|error| failed("map", &error))?;
            drop(file);
            content::check(&map, seed, 0).map_err(|error| failed("mapping of", &error))
        }
        2 => {
            let again = File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))
                .map_err(|error| failed("open again", &error))?;
            drop(file);
            content::check_open(&again, seed, len).map_err(|error| failed("read again", &error))
        }
        _ => {
            let last = LENS.len() - 1;
            let bound =
                File::open(bound).map_err(|error| failed("open the bind mount beside", &error))?;
            content::check_open(&bound, last as u64, LENS[last])
                .map_err(|error| failed("bind mount beside", &error))?;
            content::check_open(&file, seed, len).map_err(|error| failed("read", &error))
        }
    }
}

/// A process that reads until it is told to end.
pub fn part() {
    let (directory, bound) = (child::argument(0), child::argument(1));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while child::hear().is_some() {}
            done.store(true, Ordering::Relaxed);
        });
        child::say("ready");
        let mut turn = 0;
        while !done.load(Ordering::Relaxed) {
            if let Err(error) = read_once(&directory, &bound, turn) {
                child::say(&error);
                // The other thread waits for the parent.
                std::process::exit(1);
            }
            turn += 1;
        }
        child::say(&format!("{turn} turns"));
    });
}

/// Moves every file up and down until there were enough moves.
fn move_all(mount: &Mount, moves: u64) {
    let mut client = mount.client();
    let names: Vec<String> = (0..LENS.len()).map(name).collect();
    let before = mount.status().totals;
    let files = names.len() as u64;
    for round in 0..moves.div_ceil(files) {
        // In another order each time, so that files meet each other in all ways.
        let mut names = names.clone();
        names.rotate_left((round % files) as usize);
        let promote = Command::Promote {
            names: names.clone(),
            pool: None,
            wait: true,
        };
        client
            .call(promote)
            .unwrap_or_else(|error| panic!("{error}\n{}", mount.log()));
        client
            .call(Command::Demote { names })
            .unwrap_or_else(|error| panic!("{error}\n{}", mount.log()));
    }
    let after = mount.status().totals;
    assert_eq!(after.promotions_failed, before.promotions_failed);
    assert!(after.promotions - before.promotions >= moves, "{after:?}");
    // A demotion is counted by who hears of it, when it has been done.
    mount.until("the demotions are counted", || {
        mount.status().totals.demotions - before.demotions >= moves
    });
}

fn churn(site: Site, moves: u64) {
    let site = (0..LENS.len()).fold(site, |site, index| {
        if index % 2 == 0 {
            site.cold_file(name(index), index as u64, LENS[index])
        } else {
            site.models_file(name(index), index as u64, LENS[index])
        }
    });
    let Some(mount) = site.limit(Duration::from_secs(900)).start() else {
        return;
    };
    let empty_bytes = mount.status().pools[0].used_bytes;
    let bound = mount.root().join("bound");
    std::fs::write(&bound, "").unwrap();
    rustix::mount::mount_bind(mount.mounted(name(LENS.len() - 1)), &bound).unwrap();
    let directory: PathBuf = mount.mounted("churn");
    let mut parts: Vec<_> = USERS
        .iter()
        .map(|uid| child::start("churn", Some(*uid), &[directory.clone(), bound.clone()]))
        .collect();
    for part in &mut parts {
        part.expect("ready");
    }
    let done = AtomicBool::new(false);
    let turns = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..THREADS)
            .map(|first| {
                let (done, turns, directory, bound) = (&done, &turns, &directory, &bound);
                scope.spawn(move || {
                    let mut turn = first * 5;
                    while !done.load(Ordering::Relaxed) {
                        read_once(directory, bound, turn)?;
                        turn += 1;
                        turns.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok::<(), String>(())
                })
            })
            .collect();
        let moved =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| move_all(&mount, moves)));
        done.store(true, Ordering::Relaxed);
        for reader in readers {
            reader
                .join()
                .unwrap()
                .unwrap_or_else(|error| panic!("{error}\n{}", mount.log()));
        }
        moved.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    for part in parts {
        part.finish();
    }
    mount_table::unmount(&bound);
    mount.until("the pool is as empty as at the start", || {
        let pool = &mount.status().pools[0];
        pool.draining_bytes == 0 && pool.reserved_bytes == 0 && pool.used_bytes == empty_bytes
    });
    assert!(turns.load(Ordering::Relaxed) > 0);
    mount.finish();
}

fn moves() -> u64 {
    let wanted = std::env::var("SPEEDLOADER_CHURN_MOVES").ok();
    wanted.map_or(MOVES, |text| {
        text.parse().expect("SPEEDLOADER_CHURN_MOVES is a number")
    })
}

#[test]
fn thousands_of_moves_under_readers() {
    churn(Site::new(), moves());
}

/// The same rules where the daemon serves the reads; there a move costs a reader more.
#[test]
fn moves_under_readers_that_the_daemon_serves() {
    churn(Site::new().without_passthrough(), moves() / 10);
}
