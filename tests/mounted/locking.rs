//! Locks hold between processes, on cold and resident files alike, and a locked file is not moved
//! under its lock.

use std::fs::{File, OpenOptions};
use std::path::Path;

use rustix::fs::{FlockOperation, fcntl_lock, flock};

use crate::harness::{Mount, Site, child, content, in_both_modes};

const LEN: u64 = 100_000;

/// A process that locks what it is told to, and says what came of it.
pub fn part() {
    let path = child::argument(0);
    child::say("ready");
    let mut held: Option<File> = None;
    while let Some(command) = child::hear() {
        let opened = held.take().map_or_else(|| open(&path), Ok);
        let result = opened.and_then(|file| {
            let result = match command.as_str() {
                "flock" => flock(&file, FlockOperation::NonBlockingLockExclusive),
                "flock shared" => flock(&file, FlockOperation::NonBlockingLockShared),
                "fcntl" => fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive),
                "fcntl shared" => fcntl_lock(&file, FlockOperation::NonBlockingLockShared),
                "close" => return Ok(()),
                other => panic!("{other}"),
            };
            held = Some(file);
            result.map_err(std::io::Error::from)
        });
        child::say(match result {
            Ok(()) => "done",
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => "refused",
            Err(error) => panic!("{command}: {error}"),
        });
    }
}

/// For writing where that is allowed: an exclusive fcntl lock wants it.
fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .or_else(|_| File::open(path))
}

struct Two {
    one: child::Child,
    other: child::Child,
}

impl Two {
    fn on(path: &Path) -> Self {
        let start = || {
            let mut part = child::start("lock", None, &[path.to_owned()]);
            part.expect("ready");
            part
        };
        Two {
            one: start(),
            other: start(),
        }
    }

    fn ask(part: &mut child::Child, command: &str, wanted: &str) {
        part.say(command);
        assert_eq!(part.hear().as_deref(), Some(wanted), "{command}");
    }
}

fn site(site: Site) -> Site {
    site.models_file("own", 1, LEN).cold_file("cold", 2, LEN)
}

#[test]
fn locks_exclude_each_other_between_processes() {
    in_both_modes(site, |mount| {
        for (name, kinds) in [("own", ["flock", "fcntl"].as_slice()), ("cold", &["flock"])] {
            for kind in kinds {
                let shared = format!("{kind} shared");
                let mut two = Two::on(&mount.mounted(name));
                Two::ask(&mut two.one, kind, "done");
                Two::ask(&mut two.other, kind, "refused");
                Two::ask(&mut two.other, &shared, "refused");
                Two::ask(&mut two.one, "close", "done");
                Two::ask(&mut two.other, &shared, "done");
                Two::ask(&mut two.one, &shared, "done");
                Two::ask(&mut two.one, kind, "refused");
                two.one.finish();
                Two::ask(&mut two.other, kind, "done");
                two.other.finish();
            }
        }
    });
}

fn locked_while_moved(mount: &Mount, command: &str) {
    let mut two = Two::on(&mount.mounted("cold"));
    Two::ask(&mut two.one, command, "done");
    for _ in 0..3 {
        // Whether a locked file may get a replica is one thing; that its lock holds is the other.
        let names = vec!["cold".to_owned()];
        let _ = mount.try_call(speedloader::command::Command::Promote {
            names,
            pool: None,
            wait: true,
        });
        Two::ask(&mut two.other, "flock", "refused");
        Two::ask(&mut two.other, "close", "done");
        content::check_file(&mount.mounted("cold"), 2, LEN).unwrap();
        mount.demote("cold");
        Two::ask(&mut two.other, "flock", "refused");
        Two::ask(&mut two.other, "close", "done");
    }
    two.one.finish();
    Two::ask(&mut two.other, "flock", "done");
    two.other.finish();
    mount.promote_wait("cold");
    mount.demote("cold");
}

#[test]
fn a_lock_holds_while_its_file_would_move() {
    in_both_modes(site, |mount| {
        locked_while_moved(mount, "flock");
        locked_while_moved(mount, "flock shared");
    });
}
