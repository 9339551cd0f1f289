//! A file moves while it is in use: whoever has it keeps what he has, whoever comes gets the new
//! place, and nobody sees another inode number, another byte, or an error.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use rustix::fs::{Mode, OFlags};

use crate::harness::{Mount, Site, content, in_both_modes, mapping, mount_table, skip};

const LEN: u64 = (2 << 20) + 77;

/// Moves the file up and down under whatever the test holds, and looks each time.
fn under_moves(mount: &Mount, name: &str, mut look: impl FnMut(&str)) {
    look("before any move");
    for _ in 0..3 {
        mount.promote_wait(name);
        look("promoted");
        mount.demote(name);
        look("demoted");
    }
}

#[test]
fn a_handle_keeps_its_file_and_number() {
    in_both_modes(
        |site| site.cold_file("f", 5, LEN),
        |mount| {
            let path = mount.mounted("f");
            let old = File::open(&path).unwrap();
            let map = mapping::shared(&old).unwrap();
            let ino = old.metadata().unwrap().ino();
            let mut handles = Vec::new();
            under_moves(mount, "f", |when| {
                content::check_open(&old, 5, LEN).unwrap_or_else(|error| panic!("{when}: {error}"));
                content::check(&map, 5, 0).unwrap_or_else(|error| panic!("{when}: {error}"));
                let new = File::open(&path).unwrap_or_else(|error| panic!("{when}: {error}"));
                content::check_open(&new, 5, LEN).unwrap_or_else(|error| panic!("{when}: {error}"));
                let numbers = [old.metadata(), new.metadata(), fs::metadata(&path)]
                    .map(|stat| stat.unwrap().ino());
                assert_eq!(numbers, [ino; 3], "{when}");
                // Some handles stay, of every place that the file has been in.
                handles.push(new);
            });
            for handle in &handles {
                content::check_open(handle, 5, LEN).unwrap();
            }
        },
    );
}

#[test]
fn a_new_open_is_bound_to_the_replica() {
    in_both_modes(
        |site| site.cold_file("f", 6, LEN),
        |mount| {
            let active = mount.status().passthrough.active;
            let old = File::open(mount.mounted("f")).unwrap();
            let mut new = None;
            let mut keeps = || {
                mount.promote_wait("f");
                let place = mount.which("f");
                assert!(
                    Path::new(&place.serving).starts_with(mount.pool("p")),
                    "{place:?}"
                );
                // The kernel is told of the move a moment after it; an open before that shares the former place.
                let before = mount.status().totals.opens_resident;
                new = Some(File::open(mount.mounted("f")).unwrap());
                if active {
                    mount.until("new opens are bound to the replica", || {
                        new = Some(File::open(mount.mounted("f")).unwrap());
                        mount.status().totals.opens_resident > before
                    });
                }
                mount.demote("f");
                // The reader of the replica keeps its memory until it lets go.
                mount.status().pools[0].draining_bytes >= LEN
            };
            match active {
                true => assert!(keeps(), "{:?}", mount.status().pools[0]),
                // Nothing tells there which place an open has.
                false => mount.until("a new open keeps the replica's memory", keeps),
            }
            let new = new.unwrap();
            content::check_open(&new, 6, LEN).unwrap();
            drop((old, new));
            mount.until("the replica's memory is free", || {
                mount.status().pools[0].draining_bytes == 0
            });
        },
    );
}

#[test]
fn a_mapping_keeps_its_replica_after_the_handle_is_closed() {
    in_both_modes(
        |site| site.cold_file("f", 7, LEN),
        |mount| {
            let empty_bytes = mount.status().pools[0].used_bytes;
            mount.promote_wait("f");
            let map = mapping::shared(&File::open(mount.mounted("f")).unwrap()).unwrap();
            mount.demote("f");
            content::check(&map, 7, 0).unwrap();
            drop(map);
            mount.until("the pool is as empty as at the start", || {
                let pool = &mount.status().pools[0];
                pool.draining_bytes == 0 && pool.used_bytes == empty_bytes
            });
        },
    );
}

#[test]
fn descriptors_can_be_opened_again() {
    in_both_modes(
        |site| site.cold_file("f", 8, LEN),
        |mount| {
            let path = mount.mounted("f");
            let held = File::open(&path).unwrap();
            let only_path =
                rustix::fs::open(&path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
            under_moves(mount, "f", |when| {
                for number in [held.as_raw_fd(), only_path.as_raw_fd()] {
                    let again = File::open(format!("/proc/self/fd/{number}"))
                        .unwrap_or_else(|error| panic!("{when}: {error}"));
                    content::check_open(&again, 8, LEN)
                        .unwrap_or_else(|error| panic!("{when}: {error}"));
                    assert_eq!(
                        again.metadata().unwrap().ino(),
                        held.metadata().unwrap().ino(),
                        "{when}"
                    );
                }
            });
        },
    );
}

/// As `docker -v model.gguf:/model.gguf` does it: the bound name is never looked up again.
#[test]
fn a_single_file_that_is_bind_mounted_can_always_be_opened() {
    in_both_modes(
        |site| site.cold_file("f", 9, LEN),
        |mount| {
            let bound = mount.root().join("bound");
            fs::write(&bound, "").unwrap();
            rustix::mount::mount_bind(mount.mounted("f"), &bound).unwrap();
            let held = File::open(&bound).unwrap();
            let ino = held.metadata().unwrap().ino();
            let look = |when: &str| {
                let file = File::open(&bound).unwrap_or_else(|error| panic!("{when}: {error}"));
                content::check_open(&file, 9, LEN)
                    .unwrap_or_else(|error| panic!("{when}: {error}"));
                assert_eq!(file.metadata().unwrap().ino(), ino, "{when}");
            };
            under_moves(mount, "f", look);
            drop(held);
            under_moves(mount, "f", look);
            mount_table::unmount(&bound);
        },
    );
}

#[test]
fn cp_copies_what_moves() {
    if skip::lacks_programs(&["cp", "cmp"]) {
        return;
    }
    in_both_modes(
        |site| site.cold_file("f", 10, LEN).cold_file("d/g", 11, LEN),
        |mount| {
            let held = File::open(mount.mounted("f")).unwrap();
            let out = mount.root().join("out");
            under_moves(mount, "f", |when| {
                // cp compares the numbers of the name and of what it has opened.
                let copied = Command::new("cp")
                    .arg("-a")
                    .arg(mount.mounted(""))
                    .arg(&out)
                    .output()
                    .unwrap();
                assert!(
                    copied.status.success(),
                    "{when}: {}",
                    String::from_utf8_lossy(&copied.stderr)
                );
                content::check_file(&out.join("f"), 10, LEN).unwrap();
                content::check_file(&out.join("d/g"), 11, LEN).unwrap();
                fs::remove_dir_all(&out).unwrap();
            });
            drop(held);
        },
    );
}

#[test]
fn git_sees_no_change_in_what_moves() {
    if skip::lacks_programs(&["git"]) {
        return;
    }
    in_both_modes(
        |site| {
            site.models_file("repo/weights", 12, LEN)
                .models_file("repo/small", 13, 100)
        },
        |mount| {
            let git = |arguments: &[&str]| {
                let output = Command::new("git")
                    .args([
                        "-c",
                        "user.name=a",
                        "-c",
                        "user.email=a@b",
                        "-c",
                        "safe.directory=*",
                        "-C",
                    ])
                    .arg(mount.mounted("repo"))
                    .args(arguments)
                    .env("GIT_CONFIG_GLOBAL", "/dev/null")
                    .env("GIT_CONFIG_SYSTEM", "/dev/null")
                    .output()
                    .unwrap();
                assert!(
                    output.status.success(),
                    "{arguments:?}: {}",
                    String::from_utf8_lossy(&output.stderr)
                );
                String::from_utf8(output.stdout).unwrap()
            };
            git(&["init", "-q"]);
            git(&["add", "."]);
            git(&["commit", "-q", "-m", "all"]);
            let held = File::open(mount.mounted("repo/weights")).unwrap();
            under_moves(mount, "repo/weights", |when| {
                assert_eq!(git(&["status", "--porcelain"]), "", "{when}");
                git(&["fsck", "--strict", "--no-dangling"]);
            });
            drop(held);
        },
    );
}

/// Memory of a large replica is free a moment after its demotion: room for two is enough.
#[test]
fn what_was_just_demoted_comes_back_without_displacing_another() {
    const LARGE: u64 = 48 << 20;
    let site = Site::new()
        .pools(&[("p", "100MiB")])
        .cold_file("kept", 1, LARGE)
        .cold_file("moved", 2, LARGE);
    let Some(mount) = site.start() else { return };
    mount.promote_wait("kept");
    for _ in 0..10 {
        mount.promote_wait("moved");
        assert!(!mount.which("kept").replicas.is_empty(), "{}", mount.log());
        mount.demote("moved");
    }
    mount.until("all demotions are counted", || {
        mount.status().totals.demotions == 10
    });
    mount.finish();
}
