//! A cold home that answers nothing any more: everything that does not live there goes on, whoever
//! waits for it can be killed, and the daemon ends when it is told to. The home is another speedloader's mount,
//! without caches, whose process is stopped.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::Signal;
use speedloader::command::{Code, Command};
use speedloader::view::{Outcome, TierState, View};

use crate::harness::store::{Closing, Speed, Store};
use crate::harness::{Mount, Site, child, content, mount_table, skip};

const LEN: u64 = 300_000;
/// Those of the daemon that answer the kernel.
const THREADS: u64 = 4;
/// Nothing that does not wait for the home takes nearly as long; whatever does takes for ever.
const AT_ONCE: Duration = Duration::from_secs(20);

/// A process that opens and reads a file, and may never come to an end.
pub fn part() {
    let path = child::argument(0);
    child::say("opening");
    let mut file = File::open(path).unwrap();
    child::say("open");
    child::hear();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    child::say(&format!("read {}", bytes.len()));
}

/// A home that can be stopped, and a daemon that has it as its first cold directory.
struct Hanging {
    mount: Mount,
    home: Mount,
}

fn hanging() -> Option<Hanging> {
    let home = Site::new()
        .cold_file("far/a", 1, LEN)
        .cold_file("far/b", 2, LEN)
        .cold_file("far/held", 5, LEN)
        .without_passthrough()
        .option("cache.entry_timeout=0s")
        .option("cache.attr_timeout=0s")
        .pools(&[])
        .start()?;
    let mut site = Site::new().colds(1).unguarded();
    site.set_cold(0, home.mounted(""));
    let site = site.add_cold();
    content::write_file(&site.cold(1, "near/c"), 3, LEN);
    let site = site.models_file("own", 4, LEN).option("union.scan_wait=5s");
    let mount = site.start()?;
    mount.promote_wait("far/a");
    // The kernel asks such a home at each close, and waits for that whatever happens, until it has
    // been told once that nobody cares.
    content::check_file(&home.mounted("far/b"), 2, LEN).unwrap();
    Some(Hanging { mount, home })
}

impl Hanging {
    /// Returns when no thread of the home's server runs any more: a request that one of them has taken
    /// cannot be given up by whoever asked, not even when he is killed.
    fn stop(&self) {
        let pid = self.home.pid();
        mount_table::signal(pid, Signal::STOP).unwrap();
        while states(pid).iter().any(|(state, _)| *state != 'T') {
            std::thread::yield_now();
        }
    }

    fn go_on(&self) {
        mount_table::signal(self.home.pid(), Signal::CONT).unwrap();
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        // A stopped process could not be asked to end.
        let _ = mount_table::signal(self.home.pid(), Signal::CONT);
    }
}

/// Fails when it takes longer than what does not wait.
fn at_once<T>(what: &str, act: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = act();
    assert!(
        start.elapsed() < AT_ONCE,
        "{what} took {:?}",
        start.elapsed()
    );
    result
}

/// The state of each task of a process, with all that is known of it.
fn states(pid: u32) -> Vec<(char, String)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten();
    tasks
        .filter_map(|task| {
            let stat = fs::read_to_string(task.ok()?.path().join("stat")).ok()?;
            let state = stat.rsplit(')').next()?.trim_start().chars().next()?;
            Some((state, stat))
        })
        .collect()
}

/// Tasks of a process that wait without a way to be woken.
fn uninterruptible(pid: u32) -> Vec<String> {
    let waiting = states(pid).into_iter().filter(|(state, _)| *state == 'D');
    waiting.map(|(_, stat)| stat).collect()
}

#[test]
fn everything_else_goes_on() {
    let Some(hanging) = hanging() else { return };
    hanging.stop();
    let mount = &hanging.mount;
    for _ in 0..3 {
        at_once("listing", || {
            let names: Vec<_> = fs::read_dir(mount.mounted("far"))
                .unwrap()
                .map(|entry| entry.unwrap().file_name())
                .collect();
            assert_eq!(names.len(), 3);
            assert_eq!(fs::read_dir(mount.mounted("")).unwrap().count(), 3);
        });
        at_once("stat of hung files", || {
            assert_eq!(fs::metadata(mount.mounted("far/b")).unwrap().len(), LEN)
        });
        at_once("a resident file", || {
            content::check_file(&mount.mounted("far/a"), 1, LEN).unwrap()
        });
        at_once("a file of another cold home", || {
            content::check_file(&mount.mounted("near/c"), 3, LEN).unwrap()
        });
        at_once("a local file", || {
            content::check_file(&mount.mounted("own"), 4, LEN).unwrap()
        });
        at_once("a write", || fs::write(mount.mounted("new"), "x").unwrap());
        at_once("removing it", || {
            fs::remove_file(mount.mounted("new")).unwrap()
        });
        at_once("a move of a local file", || {
            mount.promote_wait("own");
            mount.demote("own");
        });
        at_once("status", || mount.status());
        at_once("models", || mount.call(Command::Models { filter: None }));
        at_once("the control files", || {
            fs::read_to_string(mount.mounted(".speedloader/stats")).unwrap()
        });
    }
    hanging.go_on();
    content::check_file(&mount.mounted("far/b"), 2, LEN).unwrap();
}

/// The kernel lets one write after the other: all who wrote after it waited for the home.
#[test]
fn a_rescan_that_was_written_holds_up_nobody() {
    let Some(hanging) = hanging() else { return };
    hanging.stop();
    let mount = &hanging.mount;
    let control = mount.mounted(".speedloader/control");
    let write = |line: &str| {
        let mut options = OpenOptions::new();
        let mut control = options.write(true).truncate(true).open(&control).unwrap();
        control.write_all(line.as_bytes()).unwrap();
    };
    at_once("a rescan", || write("rescan\n"));
    at_once("a promotion", || write("promote own\n"));
    mount.until("it is promoted", || !mount.which("own").replicas.is_empty());
    hanging.go_on();
    mount.until("the rescan is answered", || {
        fs::read_to_string(&control).unwrap().contains("3 homes")
    });
}

#[test]
fn whoever_waits_for_it_can_be_killed() {
    let Some(hanging) = hanging() else { return };
    hanging.stop();
    let path = hanging.mount.mounted("far/b");
    let mut readers: Vec<_> = (0..8)
        .map(|_| child::start("read", None, std::slice::from_ref(&path)))
        .collect();
    for reader in &mut readers {
        reader.expect("opening");
    }
    // More of them than the daemon has threads, and still it answers.
    at_once("a local file", || {
        content::check_file(&hanging.mount.mounted("own"), 4, LEN).unwrap()
    });
    for reader in &mut readers {
        at_once("killing a reader", || reader.kill());
    }
    at_once("a local file afterwards", || {
        content::check_file(&hanging.mount.mounted("own"), 4, LEN).unwrap()
    });
    hanging.go_on();
    content::check_file(&path, 2, LEN).unwrap();
}

/// What a program that copies names is looked at before it may open a file, on the threads that answer the kernel: an
/// ordinary user could stop them all with `dd of=` in a place of his own that answers nothing.
#[test]
fn copiers_that_name_what_hangs_hold_up_nobody() {
    let Some(hanging) = hanging() else { return };
    hanging.stop();
    let mount = &hanging.mount;
    let copiers: Vec<_> = (0..6)
        .map(|number| {
            let name = format!("far/new{number}");
            let to = hanging.home.mounted(name).display().to_string();
            let from = mount.mounted("own").display().to_string();
            let mut copier = std::process::Command::new("dd");
            copier.args([format!("if={from}"), format!("of={to}")]);
            copier.spawn().unwrap()
        })
        .collect();
    // Each has its file by then, or waits for the place that it writes to.
    let is_past = |pid: u32| {
        let open = fs::read_dir(format!("/proc/{pid}/fd"))
            .into_iter()
            .flatten();
        let links = open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        links.into_iter().any(|link| link == mount.mounted("own"))
    };
    mount.until("they have opened what they read", || {
        copiers.iter().all(|copier| is_past(copier.id()))
    });
    at_once("a local file", || {
        content::check_file(&mount.mounted("own"), 4, LEN).unwrap()
    });
    for mut copier in copiers {
        copier.kill().unwrap();
        at_once("killing a copier", || copier.wait()).unwrap();
    }
}

#[test]
fn whoever_waits_goes_on_when_it_answers_again() {
    let Some(hanging) = hanging() else { return };
    hanging.stop();
    let mut reader = child::start("read", None, &[hanging.mount.mounted("far/b")]);
    reader.expect("opening");
    hanging.go_on();
    reader.expect("open");
    assert_eq!(reader.finish(), [format!("read {LEN}")]);
}

/// Handles that are open while the home hangs, a reader that waits, a copy that is under way.
#[test]
fn the_daemon_ends_all_the_same() {
    let Some(mut hanging) = hanging() else { return };
    let held = File::open(hanging.mount.mounted("far/held")).unwrap();
    hanging.stop();
    let names = vec!["far/b".to_owned()];
    let _ = hanging.mount.try_call(Command::Promote {
        names,
        pool: None,
        wait: false,
    });
    let path: PathBuf = hanging.mount.mounted("far/b");
    let mut reader = child::start("read", None, &[path]);
    reader.expect("opening");
    let pid = hanging.mount.pid();
    let status = at_once("ending the daemon", || hanging.mount.end(Signal::INT));
    assert!(status.success(), "{status}\n{}", hanging.mount.log());
    assert_eq!(uninterruptible(pid), Vec::<String>::new());
    assert!(mount_table::at(&hanging.mount.mounted("")).is_none());
    at_once("killing the reader", || reader.kill());
    hanging.go_on();
    drop(held);
}

#[test]
fn the_daemon_starts_while_a_home_hangs() {
    let Some(mut hanging) = hanging() else { return };
    hanging.mount.end(Signal::INT);
    hanging.stop();
    hanging.mount.restart_unready();
    let mut byte = [0];
    at_once("starting", || hanging.mount.ready());
    at_once("a local file", || {
        let own = File::open(hanging.mount.mounted("own")).unwrap();
        own.read_exact_at(&mut byte, 0).unwrap();
        content::check_file(&hanging.mount.mounted("near/c"), 3, LEN).unwrap();
    });
    hanging.go_on();
    let mount = &hanging.mount;
    mount.until("the home's files appear", || {
        content::check_file(&mount.mounted("far/b"), 2, LEN).is_ok()
    });
}

/// What was resident of it stays in its pool until it answers, and serves then without being copied.
#[test]
fn replicas_of_a_home_that_hangs_at_the_start_are_kept() {
    let Some(mut hanging) = hanging() else { return };
    // As by a service manager: the pool stays.
    hanging.mount.end(Signal::TERM);
    hanging.stop();
    hanging.mount.restart_unready();
    at_once("starting", || hanging.mount.ready());
    hanging.go_on();
    let mount = &hanging.mount;
    mount.until("it serves again", || {
        mount
            .try_call(Command::Which {
                name: "far/a".to_owned(),
            })
            .is_ok_and(|_| mount.which("far/a").serving.contains("/pools/"))
    });
    content::check_file(&mount.mounted("far/a"), 1, LEN).unwrap();
    assert_eq!(mount.status().totals.promotions, 0);
    // Its memory is counted once, and free when it is dropped.
    mount.demote("far/a");
    let used = || mount.status().pools[0].used_bytes;
    mount.until("its memory is free", || used() < LEN);
}

/// Its server dies, and mounts anew in its place.
#[test]
fn a_home_that_is_mounted_again_is_read_again() {
    let Some(mut hanging) = hanging() else { return };
    hanging.home.kill9();
    let mount = &hanging.mount;
    mount.rescan();
    assert_eq!(fs::read_dir(mount.mounted("far")).unwrap().count(), 3);
    assert_eq!(fs::metadata(mount.mounted("far/b")).unwrap().len(), LEN);
    content::check_file(&mount.mounted("far/a"), 1, LEN).unwrap();
    File::open(mount.mounted("far/b")).expect_err("nobody has it");
    hanging.home.restart();
    let mount = &hanging.mount;
    mount.rescan();
    for (name, seed) in [("far/a", 1), ("far/b", 2), ("far/held", 5)] {
        content::check_file(&mount.mounted(name), seed, LEN).unwrap();
    }
}

/// It was refused, but the pool was gone from all lists, and its memory stayed mounted for good.
#[test]
fn a_pool_that_is_disconnected_under_a_copy_that_hangs_goes_with_it() {
    let site = Site::new().unguarded();
    let backing = site.root().join("backing");
    fs::create_dir(&backing).unwrap();
    content::write_file(&backing.join("f"), 1, 4 << 20);
    let Some(store) = site.far_store(&backing, Speed::default()) else {
        return;
    };
    let Some(mount) = site.start() else { return };
    store.hang_from(Some(1 << 20));
    let promote = |wait| Command::Promote {
        names: vec!["f".to_owned()],
        pool: None,
        wait,
    };
    mount.call(promote(false));
    let pool = || mount.status().pools.remove(0);
    mount.until("it is being copied", || pool().used_bytes > 0);
    mount.until("the copy hangs", || store.waiting() > 0);
    let View::Moves(parted) = mount.call(Command::TierDisconnect {
        name: "p".to_owned(),
        force: false,
        wait: false,
        no_move: false,
    }) else {
        panic!("no moves");
    };
    assert_eq!(parted.moves[0].outcome, Outcome::Draining, "{parted:?}");
    let shown = pool();
    assert_eq!(shown.state, TierState::Draining, "{shown:?}");
    assert!(shown.used_bytes > 0, "{shown:?}");
    let connect = || {
        let name = "p".to_owned();
        mount.try_call(Command::TierConnect { name })
    };
    let refused = connect().unwrap_err();
    assert_eq!(refused.code, Code::Busy);
    assert!(refused.text.contains("has not ended"), "{refused}");
    store.hang_from(None);
    mount.until("it can be connected", || connect().is_ok());
    mount.call(promote(true));
    mount.finish();
    drop(store);
}

/// As many closes, or looks for holes, as there are threads that answer the kernel took all of them.
#[test]
fn who_closes_or_seeks_in_a_home_that_hangs_holds_nobody_up() {
    let site = Site::new().unguarded().models_file("own", 4, LEN);
    let backing = site.root().join("backing");
    fs::create_dir(&backing).unwrap();
    let names: Vec<String> = (0..40).map(|number| format!("far-{number}")).collect();
    for name in &names {
        content::write_file(&backing.join(name), 1, LEN);
    }
    let Ok(store) = Store::start(&backing, &site.cold(0, ""), Speed::default()) else {
        return;
    };
    store.at_close(Closing::Answers);
    let Some(mount) = site.start() else { return };
    let open = |name: &String| File::open(mount.mounted(name)).unwrap();
    let mut closed: Vec<File> = names.iter().map(open).collect();
    let sought = closed.split_off(20);
    let goes_on = || {
        at_once("listing", || {
            fs::read_dir(mount.mounted("")).unwrap().count()
        });
        at_once("a local file", || {
            content::check_file(&mount.mounted("own"), 4, LEN).unwrap()
        });
    };
    store.at_close(Closing::Hangs);
    at_once("closing", || drop(closed));
    mount.until("they wait", || store.waiting() >= THREADS);
    goes_on();
    store.at_close(Closing::Answers);
    mount.until("they are closed", || store.waiting() == 0);
    store.at_close(Closing::Hangs);
    std::thread::scope(|scope| {
        for file in &sought {
            scope.spawn(move || {
                let end = rustix::fs::seek(file, rustix::fs::SeekFrom::Hole(0)).unwrap();
                assert_eq!(end, LEN);
            });
        }
        mount.until("they wait", || store.waiting() >= THREADS);
        goes_on();
        store.at_close(Closing::Answers);
    });
    drop(sought);
    mount.finish();
    drop(store);
}

/// A file system at a place, as long as this lives.
struct Nested<'a>(&'a Path);

impl Drop for Nested<'_> {
    fn drop(&mut self) {
        let _ = unmount(self.0, UnmountFlags::DETACH);
    }
}

/// A user's own file system that never answers, mounted on a directory of his in the models directory, stopped the whole
/// mount. What was mounted there at the start is shown as ever.
#[test]
fn what_is_mounted_below_the_models_directory_later_is_not_entered() {
    let site = Site::new()
        .models_file("own", 1, LEN)
        .models_file("nest/below", 2, LEN)
        .models_file("disk/hidden", 3, LEN)
        .option("cache.entry_timeout=0s")
        .option("cache.attr_timeout=0s");
    if let Some(why) = skip::why_no_mount() {
        return skip::skip(why);
    }
    let (disk, nest) = (site.models("disk"), site.models("nest"));
    mount("tmpfs", &disk, "tmpfs", MountFlags::empty(), None).unwrap();
    let _disk = Nested(&disk);
    content::write_file(&disk.join("shown"), 4, LEN);
    let Some(mounted) = site.start() else { return };
    content::check_file(&mounted.mounted("disk/shown"), 4, LEN).unwrap();

    let mut device = File::options();
    let device = device.read(true).write(true).open("/dev/fuse").unwrap();
    let options = format!(
        "fd={},rootmode=40000,user_id=0,group_id=0,allow_other",
        device.as_raw_fd()
    );
    let options = CString::new(options).unwrap();
    mount(
        "nobody",
        &nest,
        "fuse",
        MountFlags::empty(),
        Some(&*options),
    )
    .unwrap();
    let silent = Nested(&nest);
    let path = mounted.mounted("nest");
    std::thread::scope(|scope| {
        for _ in 0..=THREADS {
            scope.spawn(|| fs::metadata(&path).unwrap());
        }
    });
    mounted.rescan();
    for (path, seed) in [("own", 1), ("disk/shown", 4)] {
        content::check_file(&mounted.mounted(path), seed, LEN).unwrap();
    }
    let refused = fs::File::create(mounted.mounted("nest/new")).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::CrossesDevices);
    drop(silent);
    mounted.rescan();
    content::check_file(&mounted.mounted("nest/below"), 2, LEN).unwrap();
    fs::write(mounted.mounted("nest/new"), "made").unwrap();
    drop(device);
    mounted.finish();
}
