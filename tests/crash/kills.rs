//! `kill -9` at random moments, while files are promoted, demoted, written and pinned at once.
//!
//! A moment is a number of things that have come about (polls that saw bytes copied, writes made
//! durable, pins answered), not a time: a slow machine dies at the same places.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::process::Signal;
use speedloader::command::Command;
use speedloader::control::Client;
use speedloader::view::{TransferState, View};

use super::place::{adopted, complete, files, homes_are_whole, site, without_privileges};
use crate::harness::{Mount, Site, content, mount_table};

/// Kills of each of the two tests.
const KILLS: u64 = 110;
const LIMIT: Duration = Duration::from_secs(900);
/// Bytes that are written and made durable at a time.
const RECORD: usize = 3001;
const WRITTEN: &str = "written";
const WRITTEN_SEED: u64 = 99;

/// What must come about before the daemon is killed.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// So many per cent of a file's bytes are copied.
    Copied(u64),
    /// So many transfers have ended.
    Ended(usize),
    /// So many records are durable.
    Durable(u64),
    /// So many changes of pins were answered.
    Pinned(u64),
    /// It was told to end, and so many polls ago.
    Ending(u64),
}

/// splitmix64, seeded by the round.
fn random(seed: u64, below: u64) -> u64 {
    let mut z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) % below
}

fn moment(round: u64) -> Moment {
    let amount = random(round * 2 + 1, 100);
    match random(round * 2, 8) {
        0..=2 => Moment::Copied(amount),
        3 | 4 => Moment::Ended(1 + amount as usize % 9),
        5 => Moment::Durable(1 + amount / 2),
        6 => Moment::Pinned(1 + amount / 5),
        _ => Moment::Ending(amount / 10),
    }
}

/// What goes on meanwhile.
#[derive(Default)]
struct Load {
    durable: AtomicU64,
    pinned: AtomicU64,
    over: AtomicBool,
}

impl Load {
    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }

    /// Writes records through the mount, each durable before the next.
    ///
    /// `root` is the root of the mount, opened while it was mounted: a daemon that ends in good order
    /// unmounts, and by its path the file would then be made below the mountpoint.
    fn write(&self, root: &File) {
        let (flags, mode) = (
            OFlags::CREATE | OFlags::WRONLY | OFlags::TRUNC,
            0o644.into(),
        );
        let Ok(file) = rustix::fs::openat(root, WRITTEN, flags, mode).map(File::from) else {
            return;
        };
        let mut number = 0;
        while self.goes_on() {
            let at = number * RECORD as u64;
            let record = content::bytes(WRITTEN_SEED, at, RECORD);
            if file
                .write_all_at(&record, at)
                .and_then(|()| file.sync_data())
                .is_err()
            {
                return;
            }
            number += 1;
            self.durable.store(number, Ordering::SeqCst);
        }
    }

    /// Pins and unpins.
    fn pin(&self, mount: &Mount) {
        let Ok(mut client) = Client::connect(&mount.socket()) else {
            return;
        };
        for number in 0.. {
            let (name, pool) = ("m".to_owned(), "p".to_owned());
            let command = match number % 2 {
                0 => Command::Pin { name, pool },
                _ => Command::Unpin { name },
            };
            if !self.goes_on() || client.call(command).is_err() && !answers(mount) {
                return;
            }
            self.pinned.store(number + 1, Ordering::SeqCst);
        }
    }

    /// Promotes everything and demotes it again.
    fn shuffle(&self, mount: &Mount) {
        let names = || {
            files()
                .map(|(path, ..)| path.to_owned())
                .collect::<Vec<_>>()
        };
        while self.goes_on() {
            let promote = Command::Promote {
                names: names(),
                pool: None,
                wait: true,
            };
            // A file with a pin or in use may be refused.
            let _ = mount.try_call(promote);
            let _ = mount.try_call(Command::Demote { names: names() });
            if !answers(mount) {
                return;
            }
        }
    }
}

fn answers(mount: &Mount) -> bool {
    mount.try_call(Command::Version {}).is_ok()
}

/// Returns when the moment has come.
fn wait_for(moment: Moment, load: &Load, mount: &Mount) {
    let transfers = || match mount.try_call(Command::Transfers {}) {
        Ok(View::Transfers(view)) => view.transfers,
        other => panic!("the daemon does not answer: {other:?}\n{}", mount.log()),
    };
    loop {
        let come = match moment {
            Moment::Copied(percent) => transfers().iter().any(|transfer| {
                let running = transfer.state == TransferState::Copying;
                running && u64::from(transfer.percent()) >= percent
                    // A copy may be too fast to be seen.
                    || transfer.id > 12
            }),
            Moment::Ended(number) => {
                let ended = |state| {
                    matches!(
                        state,
                        TransferState::Done | TransferState::Failed | TransferState::Cancelled
                    )
                };
                transfers()
                    .iter()
                    .filter(|transfer| ended(transfer.state))
                    .count()
                    >= number
            }
            Moment::Durable(number) => load.durable.load(Ordering::SeqCst) >= number,
            Moment::Pinned(number) => load.pinned.load(Ordering::SeqCst) >= number,
            Moment::Ending(polls) => {
                mount_table::signal(mount.pid(), Signal::TERM).unwrap();
                for _ in 0..polls {
                    std::thread::yield_now();
                }
                true
            }
        };
        if come {
            return;
        }
        std::thread::yield_now();
    }
}

/// One life and death. Gives the number of records that were durable.
fn live_and_die(mount: &mut Mount, moment: Moment) -> u64 {
    let load = Load::default();
    let pid = mount.pid();
    let root = File::open(mount.mounted("")).unwrap();
    std::thread::scope(|scope| {
        let here: &Mount = mount;
        let load = &load;
        let root = &root;
        scope.spawn(move || load.write(root));
        scope.spawn(move || load.pin(here));
        scope.spawn(move || load.shuffle(here));
        wait_for(moment, load, here);
        // Ending, it may have ended.
        let _ = mount_table::signal(pid, Signal::KILL);
        load.over.store(true, Ordering::Relaxed);
    });
    mount.wait_ended();
    load.durable.load(Ordering::SeqCst)
}

fn state_is_whole(mount: &Mount) {
    let pins = mount.root().join("state/pins.json");
    if let Ok(bytes) = fs::read(&pins) {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let parsed: Result<std::collections::BTreeMap<String, String>, _> =
            serde_json::from_slice(&bytes);
        assert!(parsed.is_ok(), "{}: {text}", pins.display());
    }
}

fn killed_at_random(site: Site, first_round: u64) {
    let Some(mut mount) = site.start() else {
        return;
    };
    let mut seen_complete = BTreeSet::new();
    for round in first_round..first_round + KILLS {
        let moment = moment(round);
        let durable = live_and_die(&mut mount, moment);
        let context = || format!("round {round}, {moment:?}");
        homes_are_whole(&mount);
        let len = durable * RECORD as u64;
        if len > 0 {
            let written = fs::read(mount.models(WRITTEN)).unwrap();
            assert!(
                written.len() as u64 >= len,
                "{}: a durable record is lost",
                context()
            );
            content::check(&written[..len as usize], WRITTEN_SEED, 0)
                .unwrap_or_else(|why| panic!("{}: {why}", context()));
        }
        state_is_whole(&mount);
        let complete = complete(&mount);
        seen_complete.insert(complete.len());
        mount.restart();
        // Pins may have begun a copy already.
        let _ = mount.try_call(Command::Unpin {
            name: "m".to_owned(),
        });
        adopted(&mount, &complete);
    }
    assert!(
        seen_complete.len() > 2,
        "all moments were alike: {seen_complete:?}"
    );
    mount.finish();
}

#[test]
fn killed_at_random_moments() {
    killed_at_random(site(LIMIT), 0);
}

#[test]
fn killed_at_random_moments_with_a_directory() {
    killed_at_random(without_privileges(site(LIMIT)), KILLS);
}
