//! fsx on the mount: random reads, writes, mappings, truncations, holes and copies of one file, each
//! read compared with what it must be. Afterwards the file is compared, byte for byte, with what the
//! same seed makes of a file on the file system below.
//!
//! A failure prints the seed; the same operations are run again with the command that it prints.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::mode::{self, Mode, say};
use super::moves;
use super::tools::{FSX, tail};
use crate::harness::{Mount, Site};

/// A run takes some seconds on an idle machine.
const RUN_LIMIT: Duration = Duration::from_secs(100);
/// Operations of a run over a file that stays where it is.
const OPERATIONS: u32 = 2_500;
/// Operations of a run between two promotions, and the number of such runs.
const OPERATIONS_BETWEEN: u32 = 150;
const ROUNDS: u64 = 12;
/// Seeds of the long runs.
const SEEDS: [u64; 2] = [7, 1_904];

/// All that fsx can do, mappings for reading and writing among it. It is always closed and opened
/// again now and then, for only between the two can a file be moved.
const WEIGHTS: &str = "[weights]\nclose_open = 4\nread = 10\nwrite = 10\nmapread = 10\n\
    mapwrite = 10\ninvalidate = 1\ntruncate = 3\nfsync = 1\nfdatasync = 1\n\
    posix_fallocate = 2\npunch_hole = 3\nsendfile = 3\nposix_fadvise = 3\n\
    copy_file_range = 3\n";
/// The same without what changes the size: the file is not emptied at the start either.
const FIXED_WEIGHTS: &str = "[weights]\nclose_open = 0\nread = 10\nwrite = 10\nmapread = 10\n\
    mapwrite = 10\ninvalidate = 1\ntruncate = 0\nfsync = 1\nfdatasync = 1\n\
    posix_fallocate = 0\npunch_hole = 3\nsendfile = 3\nposix_fadvise = 3\n\
    copy_file_range = 3\n";
const FILE_BYTES: u32 = 1 << 20;

/// fsx with its configuration.
struct Fsx {
    configuration: PathBuf,
    artifacts: PathBuf,
}

impl Fsx {
    /// Everything lies below `root` and goes with it.
    fn new(root: &Path, fixed_size: bool) -> Self {
        let artifacts = root.join(format!("fsx-{fixed_size}"));
        fs::create_dir(&artifacts).unwrap();
        let weights = if fixed_size { FIXED_WEIGHTS } else { WEIGHTS };
        let text = format!(
            "flen = {FILE_BYTES}\nblockmode = {fixed_size}\n\
             [opsize]\nmin = 1\nmax = 131072\n{weights}"
        );
        let configuration = artifacts.join("fsx.toml");
        fs::write(&configuration, text).unwrap();
        Fsx {
            configuration,
            artifacts,
        }
    }

    /// Runs so many operations of a seed on a file.
    fn run(&self, file: &Path, seed: u64, operations: u32) {
        let mut command = FSX.command(RUN_LIMIT);
        command.arg("-f").arg(&self.configuration);
        command.args(["-N", &operations.to_string(), "-S", &seed.to_string()]);
        command.arg("-P").arg(&self.artifacts).arg(file);
        let output = command.output().unwrap();
        assert!(
            output.status.success(),
            "fsx with seed {seed}: {}; again with {command:?} and\n{}\n{}",
            output.status,
            fs::read_to_string(&self.configuration).unwrap(),
            tail(&output, 60)
        );
    }
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What the mount shows is what the home has, and what the file system below has after the same.
fn same(mount: &Mount, name: &str, below: &Path) {
    let (shown, home, below) = (
        read(&mount.mounted(name)),
        read(&mount.models(name)),
        read(below),
    );
    assert!(
        shown == home,
        "{name}: the mount does not show what the home has"
    );
    assert!(
        home == below,
        "{name}: not what the file system below has after the same"
    );
}

/// Long runs on a new file, and on one that cold storage has already.
fn alone(mode: Mode) {
    let site = Site::new().cold_file("work/cold.gguf", 1, 700_000);
    let Some(mount) = mode::start(site, mode, &[&FSX]) else {
        return;
    };
    let fsx = Fsx::new(mount.root(), false);
    let plain = mount.root().join("plain");
    let start = Instant::now();
    for seed in SEEDS {
        fsx.run(&plain, seed, OPERATIONS);
        for name in ["new.gguf", "work/cold.gguf"] {
            fsx.run(&mount.mounted(name), seed, OPERATIONS);
            same(&mount, name, &plain);
        }
    }
    say(&format!(
        "fsx ({mode}): {} runs of {OPERATIONS} operations, seeds {SEEDS:?}; {:.0?}",
        2 * SEEDS.len(),
        start.elapsed()
    ));
}

/// Runs on a file that is resident when fsx opens it, while it is promoted and demoted without end.
/// Before each the test itself promotes it, so that no round depends on luck.
fn while_moving(mode: Mode) {
    let site = Site::new().models_file("moving.gguf", 3, u64::from(FILE_BYTES));
    let Some(mount) = mode::start(site, mode, &[&FSX]) else {
        return;
    };
    let (fixed, free) = (Fsx::new(mount.root(), true), Fsx::new(mount.root(), false));
    let plain = mount.root().join("plain");
    fs::write(&plain, vec![0; FILE_BYTES as usize]).unwrap();
    let start = Instant::now();
    let name = "moving.gguf";
    let ((), moved) = moves::during(&mount, &[name], || {
        for round in 0..ROUNDS {
            // The second kind leaves a file of another size, which the first could not start on.
            let fsx = if round < ROUNDS / 2 { &fixed } else { &free };
            fsx.run(&plain, round, OPERATIONS_BETWEEN);
            mount.until("it is promoted", || {
                moves::promote(&mount.socket(), name).is_ok()
            });
            fsx.run(&mount.mounted(name), round, OPERATIONS_BETWEEN);
            same(&mount, name, &plain);
        }
    });
    say(&format!(
        "fsx ({mode}) on a file that moves: {ROUNDS} runs of {OPERATIONS_BETWEEN} operations, \
         seeds 0 to {}; {moved}; {:.0?}",
        ROUNDS - 1,
        start.elapsed()
    ));
    moved.check();
}

/// Runs on a file that somebody else goes on reading from a replica: the reader keeps what it has
/// opened, and fsx sees none of it.
fn beside_a_reader(mode: Mode) {
    let site = Site::new().models_file("read.gguf", 4, u64::from(FILE_BYTES));
    let Some(mount) = mode::start(site, mode, &[&FSX]) else {
        return;
    };
    let fsx = Fsx::new(mount.root(), true);
    let plain = mount.root().join("plain");
    fs::write(&plain, vec![0; FILE_BYTES as usize]).unwrap();
    let name = "read.gguf";
    for seed in SEEDS {
        mount.promote_wait(name);
        let before = read(&mount.models(name));
        let mut reader = File::open(mount.mounted(name)).unwrap();
        fsx.run(&plain, seed, OPERATIONS_BETWEEN);
        fsx.run(&mount.mounted(name), seed, OPERATIONS_BETWEEN);
        let mut read = Vec::new();
        reader.read_to_end(&mut read).unwrap();
        assert!(read == before, "the reader's replica changed under it");
        drop(reader);
        same(&mount, name, &plain);
    }
}

#[test]
fn passthrough_keeps_every_byte() {
    alone(Mode::Passthrough);
}

#[test]
fn the_daemon_keeps_every_byte() {
    alone(Mode::Daemon);
}

#[test]
fn passthrough_keeps_every_byte_of_a_file_that_moves() {
    while_moving(Mode::Passthrough);
}

#[test]
fn the_daemon_keeps_every_byte_of_a_file_that_moves() {
    while_moving(Mode::Daemon);
}

#[test]
fn passthrough_keeps_every_byte_beside_a_reader_of_a_replica() {
    beside_a_reader(Mode::Passthrough);
}

#[test]
fn the_daemon_keeps_every_byte_beside_a_reader_of_a_replica() {
    beside_a_reader(Mode::Daemon);
}
