//! The memory reserve with real memory: the daemon and a process that takes memory share a control group
//! with a limit. The pool gives way by plan, nobody is killed, and it grows again.
//!
//! Printed as a timeline with `cargo test --test main mounted::memory -- --nocapture`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use speedloader::command::Command;
use speedloader::models::synthetic::write_gguf;
use speedloader::view::EventView;

use super::warm_up::read_as_engine;
use crate::harness::child::{self, Child};
use crate::harness::{Mount, Site, content, skip};

const MIB: u64 = 1 << 20;
const LIMIT: u64 = 512 * MIB;
const RESERVE: u64 = 96 * MIB;
const POOL: u64 = 40 * MIB;
/// Nine of these fill the pool.
const LEN: u64 = 4 * MIB;
/// The coldest first.
const NAMES: [&str; 9] = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];

/// A control group with a limit, removed in the end.
struct Group {
    directory: PathBuf,
    is_v2: bool,
}

impl Group {
    /// `None`, and a line that says why, where there can be none.
    fn new(test: &str) -> Option<Group> {
        let name = format!("speedloader-test-{test}-{}", std::process::id());
        let (v1, v2) = ("/sys/fs/cgroup/memory", "/sys/fs/cgroup");
        for (top, sign, limit, is_v2) in [
            (v2, "cgroup.controllers", "memory.max", true),
            (v1, "memory.limit_in_bytes", "memory.limit_in_bytes", false),
        ] {
            // Where version 1 is mounted, version 2's place may be an ordinary directory.
            if !Path::new(top).join(sign).exists() {
                continue;
            }
            let directory = Path::new(top).join(&name);
            if fs::create_dir(&directory).is_err() {
                continue;
            }
            let group = Group { directory, is_v2 };
            if fs::write(group.directory.join(limit), LIMIT.to_string()).is_ok() {
                // What is swapped out is not taken; where there is no swap there is no file.
                let _ = fs::write(group.directory.join("memory.swap.max"), "0");
                return Some(group);
            }
        }
        skip::skip("no control group with a memory controller can be made");
        None
    }

    fn join(&self, pid: u32) {
        fs::write(self.directory.join("cgroup.procs"), pid.to_string()).unwrap();
    }

    /// How many processes the kernel has killed here.
    fn kills(&self) -> u64 {
        let name = if self.is_v2 {
            "memory.events"
        } else {
            "memory.oom_control"
        };
        let text = fs::read_to_string(self.directory.join(name)).unwrap();
        let kills = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        kills.unwrap().parse().unwrap()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Somebody is still in it: then the test has failed already.
        let _ = fs::remove_dir(&self.directory);
    }
}

/// Takes as many MiB as each line says, on top of what it has, or lets all go.
pub fn part() {
    let procs = child::argument(0).join("cgroup.procs");
    fs::write(procs, std::process::id().to_string()).unwrap();
    let mut taken: Vec<Vec<u8>> = Vec::new();
    while let Some(line) = child::hear() {
        match line.parse::<usize>() {
            Ok(mib) => taken.extend((0..mib).map(|_| vec![1; 1 << 20])),
            Err(_) => taken.clear(),
        }
        child::say("done");
    }
}

fn take(hog: &mut Child, bytes: u64) {
    hog.say(&(bytes / MIB).to_string());
    hog.expect("done");
}

fn site() -> Site {
    let site = Site::new()
        .pools(&[("p", "40MiB")])
        .option("policy.enabled=true")
        .option("policy.memory_reserve=96MiB");
    for (name, seed) in NAMES.iter().zip(1..) {
        write_gguf(&site.cold(0, format!("{name}.gguf")), LEN, 1, seed).unwrap();
    }
    site
}

/// Each is loaded once more than the one before it.
fn load_all(mount: &Mount) {
    for round in 0..NAMES.len() {
        for name in &NAMES[round..] {
            read_as_engine(&mount.mounted(format!("{name}.gguf")));
        }
        mount.call(Command::Wait {
            names: Vec::new(),
            timeout_s: 60,
        });
    }
}

fn resident(mount: &Mount) -> Vec<&'static str> {
    let is_resident = |name: &&str| !mount.which(&format!("{name}.gguf")).replicas.is_empty();
    NAMES.into_iter().filter(is_resident).collect()
}

fn pool_bytes(mount: &Mount) -> u64 {
    mount.status().pools[0].capacity_bytes
}

fn available(mount: &Mount) -> u64 {
    mount.status().memory.available_bytes
}

#[allow(clippy::print_stdout)] // libtest shows it when the test fails, or with --nocapture.
fn print_timeline(events: &[EventView], since: u64) {
    let kinds = ["memory", "demoted"];
    let told = events.iter().filter(|event| event.seq > since);
    let told: Vec<_> = told
        .filter(|event| kinds.contains(&event.kind.as_str()))
        .collect();
    let start = told.first().map_or(0, |event| event.time_ms);
    for event in told {
        let (ms, kind, text) = (event.time_ms - start, &event.kind, &event.text);
        println!("{ms:>6} ms  {kind:<8} {}: {text}", event.subject);
    }
}

#[test]
fn the_pool_gives_memory_back_before_anybody_is_killed() {
    let Some(group) = Group::new("gives-back") else {
        return;
    };
    let Some(mount) = site().start() else { return };
    group.join(mount.pid());
    let mut hog = child::start("memory", None, std::slice::from_ref(&group.directory));
    take(&mut hog, 0);
    load_all(&mount);
    assert_eq!(resident(&mount), NAMES);
    let before = mount.events().last().unwrap().seq;
    assert!(available(&mount) < LIMIT, "the group is seen");

    // Up to the reserve, and into a sixth of it: more than an eighth, so it is given back.
    let held = File::open(mount.mounted("b.gguf")).unwrap();
    let first = available(&mount) - RESERVE + RESERVE / 6;
    take(&mut hog, first);
    mount.until("the pool is smaller and the reserve whole", || {
        let memory = mount.status().memory;
        memory.held_back_bytes > 0 && memory.available_bytes >= RESERVE - RESERVE / 8
    });
    let left = resident(&mount);
    let small = pool_bytes(&mount);
    assert!((12 * MIB..=30 * MIB).contains(&small), "{small}");
    assert!(!left.contains(&"a") && left.contains(&"i"), "{left:?}");
    assert!(left.contains(&"b"), "what is open is not dropped: {left:?}");
    // The coldest went: what stayed, but for the open one, are the hottest.
    let rest: Vec<&str> = left.iter().copied().filter(|name| *name != "b").collect();
    assert_eq!(rest, NAMES[NAMES.len() - rest.len()..]);
    assert!(mount.status().totals.given_back_bytes > 0);

    // And what the pool still has, all but what is open.
    drop(held);
    take(&mut hog, RESERVE / 2);
    mount.until("the pool is nearly empty", || resident(&mount).is_empty());
    let all = first + RESERVE / 2;
    assert!(
        all > LIMIT - RESERVE - POOL,
        "it has got the pool's memory: {all}"
    );
    assert_eq!(group.kills(), 0);

    hog.say("let go");
    hog.expect("done");
    mount.until("the pool has its size again", || pool_bytes(&mount) == POOL);
    assert_eq!(mount.status().memory.held_back_bytes, 0);
    let events = mount.events();
    print_timeline(&events, before);
    let mut demoted = events
        .iter()
        .filter(|event| event.kind == "demoted" && event.seq > before);
    assert!(demoted.all(|event| event.fields["cause"] == "pressure"));
    // It is of use again.
    mount.promote_wait("i.gguf");
    hog.finish();
    mount.finish();
    assert_eq!(group.kills(), 0);
}

/// Larger than what copies are made of new memory for.
const LARGE: u64 = 80 * MIB + 5;

fn prefaulted(mount: &Mount) -> u64 {
    mount.status().pools[0].prefaulted_bytes
}

/// Free room is ready for the largest file that is not in the pool, until others need its memory: it goes
/// before any model does, comes again, and becomes the file's replica.
#[test]
fn memory_that_is_ready_goes_first_and_becomes_the_next_replica() {
    let Some(group) = Group::new("ready") else {
        return;
    };
    let site = Site::new()
        .pools(&[("p", "200MiB")])
        .option("pool.p.prefault=50%")
        .option("policy.enabled=false")
        .option("policy.memory_reserve=96MiB")
        .cold_file("large", 3, LARGE)
        .cold_file("small", 4, LEN)
        .limit(Duration::from_secs(240));
    let Some(mount) = site.start() else { return };
    group.join(mount.pid());
    let mut hog = child::start("memory", None, std::slice::from_ref(&group.directory));
    take(&mut hog, 0);
    let free = || mount.status().pools[0].free_bytes;
    let ready = LARGE - LARGE % (2 * MIB);
    mount.promote_wait("small");
    let empty = free();
    mount.until("memory is ready", || prefaulted(&mount) == ready);
    assert_eq!(free(), empty, "it is free room");
    let status = mount.status();
    let there = status.memory.available_bytes + status.pools[0].prefaulted_bytes;
    take(&mut hog, there - ready - RESERVE + RESERVE / 6);
    let is_here = || !mount.which("small").replicas.is_empty();
    mount.until("something is given back", || {
        !is_here() || prefaulted(&mount) < ready && available(&mount) >= RESERVE
    });
    assert!(is_here(), "a model went before what was ready");
    assert_eq!(mount.status().memory.held_back_bytes, 0);
    hog.say("let go");
    hog.expect("done");
    mount.until("it is ready again", || prefaulted(&mount) == ready);

    mount.promote_wait("large");
    content::check_open(&File::open(mount.mounted("large")).unwrap(), 3, LARGE).unwrap();
    assert_eq!(prefaulted(&mount), 0, "nothing else is that large");
    assert!(free() < empty - LARGE);
    mount.demote("large");
    mount.until("it is ready for it again", || prefaulted(&mount) == ready);
    hog.finish();
    mount.finish();
    assert_eq!(group.kills(), 0);
}
