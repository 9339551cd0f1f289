//! Files that are promoted while somebody opens them, from a store that counts what is read from it:
//! right bytes in every way of reading and whatever becomes of the copy, each byte read once, and
//! nobody kept who does not want to be.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::process::Signal;
use speedloader::command::Command;
use speedloader::models::synthetic::write_gguf;
use speedloader::view::{ReplicaState, View};

use crate::harness::store::{Speed, Store};
use crate::harness::{Mount, Site, child, mapping, mount_table};

const MIB: u64 = 1 << 20;
const LEN: u64 = 24 * MIB;
/// What is not kept does not take nearly as long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A store with models, and a daemon that has it as its cold directory.
struct Far {
    mount: Mount,
    store: Store,
    backing: PathBuf,
}

const FAST: Speed = Speed {
    latency: Duration::ZERO,
    bytes_per_sec: 0,
};
/// Slow enough that readers are there before the copy.
const SLOW: Speed = Speed {
    latency: Duration::from_millis(1),
    bytes_per_sec: 24 << 20,
};

fn far(names: &[&str], speed: Speed, settle: impl Fn(Site) -> Site) -> Option<Far> {
    let site = settle(Site::new().unguarded().option("policy.enabled=true"));
    let backing = site.root().join("backing");
    fs::create_dir(&backing).unwrap();
    for (name, seed) in names.iter().zip(1..) {
        let path = backing.join(name);
        write_gguf(&path, LEN - 2 * MIB, 1, seed).unwrap();
        let file = File::options().write(true).open(path).unwrap();
        file.set_len(LEN).unwrap();
    }
    let store = site.far_store(&backing, speed)?;
    let mount = site.start()?;
    // The catalog is made, and headers are read for it.
    mount.call(Command::Models { filter: None });
    Some(Far {
        mount,
        store,
        backing,
    })
}

impl Far {
    fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.backing.join(name)).unwrap()
    }

    fn is_resident(&self, name: &str) -> bool {
        let replicas = self.mount.which(name).replicas;
        replicas
            .iter()
            .any(|replica| replica.state == ReplicaState::Serving)
    }

    fn until_resident(&self, name: &str) {
        self.mount
            .until("it is resident", || self.is_resident(name));
    }

    /// No more than the file was read from the store since `before`.
    fn read_once(&self, before: u64, copies: u64) {
        let read = self.store.counts().bytes - before;
        let size = copies * LEN;
        assert!(
            read <= size + size / 50 + MIB / 2,
            "{read} bytes of {size}\n{}",
            self.mount.log()
        );
    }
}

/// What an engine does first.
fn read_header(path: &Path) {
    let mut header = [0; 4096];
    File::open(path)
        .unwrap()
        .read_exact_at(&mut header, 0)
        .unwrap();
    assert_eq!(&header[..4], b"GGUF");
}

/// A process that looks at the header of a model, and loads it when it is told to.
pub fn part() {
    let path = child::argument(0);
    read_header(&path);
    child::say("looked");
    if child::hear().is_none() {
        return;
    }
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) => return child::say(&error.to_string()),
    };
    child::say("opened");
    let map = mapping::shared(&file).unwrap();
    let sum: u64 = map.iter().map(|byte| u64::from(*byte)).sum();
    child::say(&format!("{sum}"));
}

fn sum_of(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|byte| u64::from(*byte))
        .sum::<u64>()
        .to_string()
}

#[test]
fn the_second_open_waits_and_has_the_replica() {
    for passthrough in [true, false] {
        let settle = |site: Site| match passthrough {
            true => site,
            false => site.without_passthrough(),
        };
        let Some(far) = far(&["m.gguf"], FAST, settle) else {
            return;
        };
        let path = far.mount.mounted("m.gguf");
        let (before, totals) = (far.store.counts().bytes, far.mount.status().totals);
        read_header(&path);
        assert!(!far.is_resident("m.gguf"));
        let file = File::open(&path).unwrap();
        assert!(far.is_resident("m.gguf"), "{}", far.mount.log());
        let map = mapping::shared(&file).unwrap();
        assert!(map[..] == far.bytes("m.gguf"));
        far.read_once(before, 1);
        drop(file);
        let now = far.mount.status().totals;
        if far.mount.status().passthrough.active {
            assert_eq!(now.opens_resident, totals.opens_resident + 1);
        }
        far.mount.until("the load is counted", || {
            far.mount.status().totals.loads == 1
        });
        assert_eq!(far.mount.status().totals.loads_resident, 0);
        drop(map);
        let Far { mount, store, .. } = far;
        mount.finish();
        drop(store);
    }
}

/// Each way has a file of its own, which comes while it is read.
#[test]
fn a_file_on_its_way_has_the_same_bytes_in_every_way_of_reading() {
    let names = ["read.gguf", "map.gguf", "direct.gguf", "tail.gguf"];
    let Some(far) = far(&names, SLOW, |site| site.option("policy.max_wait=0s")) else {
        return;
    };
    let before = far.store.counts().bytes;
    let mut read = vec![0; LEN as usize + 1];

    let wanted = far.bytes("read.gguf");
    let file = File::open(far.mount.mounted("read.gguf")).unwrap();
    for (index, part) in read.chunks_mut(100_000).enumerate() {
        let length = file.read_at(part, index as u64 * 100_000).unwrap();
        assert!(part[..length] == wanted[index * 100_000..][..length]);
    }

    let wanted = far.bytes("map.gguf");
    let file = File::open(far.mount.mounted("map.gguf")).unwrap();
    assert!(mapping::shared(&file).unwrap()[..] == wanted);

    let wanted = far.bytes("direct.gguf");
    let mut direct = File::options();
    direct
        .read(true)
        .custom_flags(OFlags::DIRECT.bits().cast_signed());
    let file = direct.open(far.mount.mounted("direct.gguf")).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (file, wanted) = (&file, &wanted);
            scope.spawn(move || {
                let mut buffer = vec![0; (MIB + 4096) as usize];
                let start = buffer.as_ptr().align_offset(4096);
                let buffer = &mut buffer[start..start + MIB as usize];
                for block in (thread..24).step_by(4) {
                    let at = block * MIB;
                    let length = file.read_at(buffer, at).unwrap();
                    assert_eq!(length, MIB as usize);
                    assert!(buffer[..length] == wanted[at as usize..][..length]);
                }
            });
        }
    });

    // The end first, and what is behind it.
    let wanted = far.bytes("tail.gguf");
    let file = File::open(far.mount.mounted("tail.gguf")).unwrap();
    for at in (0..8).map(|part| part * 3_000_000).rev() {
        let length = file.read_at(&mut read[..3_000_000], at).unwrap();
        assert_eq!(length, 3_000_000);
        assert!(read[..length] == wanted[at as usize..][..length]);
    }
    assert_eq!(file.read_at(&mut read, wanted.len() as u64).unwrap(), 0);

    for name in names {
        far.until_resident(name);
    }
    // A file that is opened once is looked at as a header at first, and read once all the same.
    far.read_once(before, names.len() as u64);
    far.mount.finish();
}

#[test]
fn a_look_at_a_header_is_no_load_and_moves_nothing() {
    let names = ["a.gguf", "b.gguf", "c.gguf"];
    let Some(far) = far(&names, FAST, |site| site) else {
        return;
    };
    for _ in 0..3 {
        for name in names {
            let path = far.mount.mounted(name);
            let mut looker = child::start("load", None, std::slice::from_ref(&path));
            looker.expect("looked");
            looker.finish();
            let hash = std::process::Command::new("sha256sum")
                .arg(&path)
                .output()
                .unwrap();
            assert!(hash.status.success());
        }
    }
    let View::Transfers(transfers) = far.mount.call(Command::Transfers {}) else {
        panic!("no transfers");
    };
    assert_eq!(transfers.transfers, []);
    assert_eq!(far.mount.status().totals.loads, 0);
    far.mount.finish();
}

#[test]
fn four_readers_are_served_by_one_copy() {
    let Some(far) = far(&["m.gguf"], SLOW, |site| site) else {
        return;
    };
    let before = far.store.counts().bytes;
    let path = far.mount.mounted("m.gguf");
    let wanted = sum_of(&far.bytes("m.gguf"));
    let mut readers: Vec<_> = (0..4)
        .map(|_| child::start("load", None, std::slice::from_ref(&path)))
        .collect();
    for reader in &mut readers {
        reader.expect("looked");
        reader.say("load");
    }
    for mut reader in readers {
        reader.expect("opened");
        reader.expect(&wanted);
        reader.finish();
    }
    far.until_resident("m.gguf");
    far.read_once(before, 1);
    assert_eq!(far.mount.status().totals.promotions, 1);
    far.mount.finish();
}

/// As the processes of an engine with several GPUs do. Some come to a node on which others still look
/// at the header, which the daemon serves.
#[test]
fn readers_that_begin_together_all_end_on_the_replica() {
    let names: Vec<String> = (0..8).map(|round| format!("{round}.gguf")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let speed = Speed {
        latency: Duration::from_millis(1),
        bytes_per_sec: 96 << 20,
    };
    let Some(far) = far(&names, speed, |site| site) else {
        return;
    };
    for name in names {
        let before = far.mount.status().totals.read_bytes;
        let path = far.mount.mounted(name);
        let wanted = sum_of(&far.bytes(name));
        let start = |_| child::start("load", None, std::slice::from_ref(&path));
        let mut readers: Vec<_> = (0..6).map(start).collect();
        for reader in &mut readers {
            reader.say("load");
        }
        for mut reader in readers {
            reader.expect("looked");
            reader.expect("opened");
            reader.expect(&wanted);
            reader.finish();
        }
        let status = far.mount.status();
        if status.passthrough.active {
            // Headers.
            let read = status.totals.read_bytes - before;
            assert!(read < LEN / 2, "{name}: {read} bytes");
        }
    }
    far.mount.finish();
}

/// A copy that does not get on: its reader is held until it is killed.
#[test]
fn whoever_waits_for_a_copy_can_be_killed() {
    for signal in [Signal::TERM, Signal::KILL] {
        let Some(far) = far(&["m.gguf"], FAST, |site| site) else {
            return;
        };
        far.store.hang_from(Some(8 * MIB));
        let path = far.mount.mounted("m.gguf");
        let mut reader = child::start("load", None, std::slice::from_ref(&path));
        reader.expect("looked");
        let before = far.mount.status().totals.opens_held;
        reader.say("load");
        far.mount.until("its open is held", || {
            far.mount.status().totals.opens_held > before
        });
        let start = Instant::now();
        reader.end_by(signal);
        assert!(start.elapsed() < PATIENCE);
        far.store.hang_from(None);
        far.until_resident("m.gguf");
        far.mount.finish();
    }
}

#[test]
fn whoever_waits_for_a_copy_is_answered_at_the_end() {
    let Some(mut far) = far(&["m.gguf"], FAST, |site| site) else {
        return;
    };
    far.store.hang_from(Some(8 * MIB));
    let path = far.mount.mounted("m.gguf");
    let mut reader = child::start("load", None, &[path]);
    reader.expect("looked");
    reader.say("load");
    far.mount.until("its open is held", || {
        far.mount.status().totals.opens_held > 0
    });
    far.mount.signal(Signal::INT);
    // The copy still hangs.
    reader.expect("Input/output error (os error 5)");
    far.store.hang_from(None);
    let status = far.mount.wait_ended();
    assert!(status.success(), "{status}\n{}", far.mount.log());
    assert!(mount_table::at(&far.mount.mounted("")).is_none());
}

/// All threads of the copy together take longer for their chunks than a copy that hangs is waited for.
#[test]
fn a_slow_store_is_not_taken_for_one_that_hangs() {
    let slowest = Speed {
        latency: Duration::from_millis(1),
        bytes_per_sec: 5 << 19,
    };
    let Some(far) = far(&["m.gguf"], slowest, |site| site) else {
        return;
    };
    let before = far.store.counts().bytes;
    let path = far.mount.mounted("m.gguf");
    read_header(&path);
    let file = File::open(&path).unwrap();
    assert!(mapping::shared(&file).unwrap()[..] == far.bytes("m.gguf"));
    far.read_once(before, 1);
    assert!(far.is_resident("m.gguf"), "{}", far.mount.log());
    drop(file);
    far.mount.finish();
}

/// Whatever becomes of the copy, the reader has its bytes.
#[test]
fn a_copy_that_stalls_or_fails_is_not_the_readers_fault() {
    for what in ["stalls", "fails", "no room"] {
        let settle = |site: Site| match what {
            "no room" => site.pools(&[("p", "8MiB")]),
            _ => site,
        };
        let Some(far) = far(&["m.gguf"], FAST, settle) else {
            return;
        };
        match what {
            "stalls" => far.store.hang_from(Some(8 * MIB)),
            "fails" => far.store.fail(true),
            _ => {}
        }
        let path = far.mount.mounted("m.gguf");
        read_header(&path);
        let file = File::open(&path).unwrap();
        assert!(mapping::shared(&file).unwrap()[..] == far.bytes("m.gguf"));
        assert!(fs::read(&path).unwrap() == far.bytes("m.gguf"));
        assert!(!far.is_resident("m.gguf"), "it {what}");
        drop(file);
        far.store.hang_from(None);
        far.mount.finish();
    }
}

#[test]
fn a_file_that_changes_on_its_way_is_read_as_it_is() {
    let Some(far) = far(&["m.gguf"], SLOW, |site| site) else {
        return;
    };
    let path = far.mount.mounted("m.gguf");
    far.store.hang_from(Some(16 * MIB));
    let mut reader = child::start("load", None, std::slice::from_ref(&path));
    reader.expect("looked");
    reader.say("load");
    far.mount.until("it is being copied", || {
        let View::Transfers(transfers) = far.mount.call(Command::Transfers {}) else {
            return false;
        };
        transfers
            .transfers
            .iter()
            .any(|transfer| transfer.done_bytes > 0)
    });
    let mut changed = far.bytes("m.gguf");
    changed[20 * MIB as usize..].fill(7);
    fs::write(far.backing.join("m.gguf"), &changed).unwrap();
    far.mount.rescan();
    far.store.hang_from(None);
    reader.expect("opened");
    reader.finish();
    let file = File::open(&path).unwrap();
    assert!(mapping::shared(&file).unwrap()[..] == changed);
    far.mount.finish();
}

#[test]
fn the_other_files_of_a_model_follow_in_order() {
    let site = Site::new().unguarded().option("policy.enabled=true");
    let backing = site.root().join("backing");
    fs::create_dir(&backing).unwrap();
    let written = write_gguf(&backing.join("set.gguf"), 2 * LEN, 3, 5).unwrap();
    let Some(store) = site.far_store(&backing, SLOW) else {
        return;
    };
    let Some(mount) = site.start() else { return };
    mount.call(Command::Models { filter: None });
    let names: Vec<String> = written
        .files
        .iter()
        .map(|file| file.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    let before = store.counts().bytes;
    for name in &names {
        let path = mount.mounted(name);
        read_header(&path);
        let file = File::open(&path).unwrap();
        let wanted = fs::read(backing.join(name)).unwrap();
        assert!(mapping::shared(&file).unwrap()[..] == wanted);
    }
    let read = store.counts().bytes - before;
    assert!(read <= written.size_bytes + written.size_bytes / 50 + MIB);
    let View::Transfers(transfers) = mount.call(Command::Transfers {}) else {
        panic!("no transfers");
    };
    let mut by_age = transfers.transfers;
    by_age.sort_by_key(|transfer| transfer.id);
    let copied: Vec<String> = by_age.into_iter().map(|transfer| transfer.file).collect();
    assert_eq!(copied, names);
    assert_eq!(mount.status().totals.loads, 1);
    mount.finish();
    drop(store);
}

/// What is not promoted is read by the kernel, which reads further ahead than it would; at the end
/// everything is as it was.
#[test]
fn far_storage_is_read_further_ahead_until_the_end() {
    let site = Site::new().unguarded();
    let backing = site.root().join("backing");
    fs::create_dir(&backing).unwrap();
    let Some(_store) = site.far_store(&backing, FAST) else {
        return;
    };
    let dev = fs::metadata(site.cold(0, "")).unwrap().dev();
    let (major, minor) = (rustix::fs::major(dev), rustix::fs::minor(dev));
    let path = format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb");
    let figure = || fs::read_to_string(&path).unwrap_or_default();
    let before = figure();
    let Some(mut mount) = site.start() else {
        return;
    };
    if mount.status().passthrough.active {
        assert_eq!(figure().trim(), "8192", "was {before}");
        let told = |event: &speedloader::view::EventView| event.text.contains("ahead");
        assert!(mount.events().iter().any(told));
    }
    mount.end(Signal::INT);
    assert_eq!(figure(), before);
}

/// With the policy off, what somebody asked for is on its way.
#[test]
fn a_promotion_on_request_serves_whoever_opens_its_file() {
    let Some(far) = far(&["m.gguf"], SLOW, |site| {
        site.option("policy.enabled=false")
    }) else {
        return;
    };
    let before = far.store.counts().bytes;
    let names = vec!["m.gguf".to_owned()];
    far.mount.call(Command::Promote {
        names,
        pool: None,
        wait: false,
    });
    far.mount.until("it is being copied", || {
        let View::Transfers(transfers) = far.mount.call(Command::Transfers {}) else {
            return false;
        };
        transfers
            .transfers
            .iter()
            .any(|transfer| transfer.done_bytes > 0)
    });
    let path = far.mount.mounted("m.gguf");
    read_header(&path);
    let file = File::open(&path).unwrap();
    assert!(far.is_resident("m.gguf"), "{}", far.mount.log());
    assert!(mapping::shared(&file).unwrap()[..] == far.bytes("m.gguf"));
    far.read_once(before, 1);
    drop(file);
    far.mount.finish();
}
