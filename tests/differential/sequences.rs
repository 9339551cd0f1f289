//! The same random system calls on a plain directory and on a mount: the same answers.
//!
//! What may differ is in `differences`, each with a test of its own. Here it is allowed for as
//! narrowly as can be: a refusal that names cold storage must be about something that cold storage
//! has, what comes to light under a removed name must be the cold file, and a handle that was opened
//! on a replica may show what the file was then.
//!
//! `SPEEDLOADER_DIFFERENTIAL_SEED=N` runs that sequence alone.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use speedloader::command::Command;

use super::side::{Answer, Outcome, Side, copy_over};
use crate::harness::{Mount, in_both_modes};
use crate::model::op::{Access, Op, P, Random, Seen, draw, fill, p};

/// Sequences on each mount, and steps of each.
const SEQUENCES: u64 = 60;
const STEPS: u32 = 80;
const HANDLES_MAX: usize = 6;

/// A sequence that goes on.
struct Pair {
    plain: Side,
    mounted: Side,
    /// The same directory in cold storage; may not exist.
    cold: PathBuf,
    name: String,
    /// What handles showed when they were opened, where replicas are made.
    opened: BTreeMap<u32, Vec<u8>>,
    moves: bool,
}

fn seeds() -> Vec<u64> {
    match std::env::var("SPEEDLOADER_DIFFERENTIAL_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..SEQUENCES).collect(),
    }
}

fn directory_of(seed: u64) -> String {
    format!("s{seed}")
}

/// Fills a directory with a few files and directories.
fn populate(root: &Path, random: &mut Random) {
    fs::create_dir_all(root.join("d/e")).unwrap();
    for path in ["a", "b", "c", "d/a", "d/b", "d/e/c", "e"] {
        if !random.one_in(3) {
            fs::write(root.join(path), fill(random).bytes()).unwrap();
        }
    }
}

fn walk(root: &Path, below: &str, paths: &mut Vec<P>, directories: &mut Vec<P>) {
    for entry in fs::read_dir(root.join(below)).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let path = match below {
            "" => name,
            _ => format!("{below}/{name}"),
        };
        paths.push(P(path.clone()));
        if entry.file_type().unwrap().is_dir() {
            directories.push(P(path.clone()));
            walk(root, &path, paths, directories);
        }
    }
}

fn seen(pair: &Pair) -> Seen {
    let (mut paths, mut directories) = (Vec::new(), vec![p("")]);
    walk(&pair.plain.root, "", &mut paths, &mut directories);
    paths.sort();
    directories.sort();
    Seen {
        homes: vec![paths.clone()],
        home_directories: vec![directories.clone()],
        paths,
        directories,
        labels: pair.plain.labels(),
        pools: 1,
    }
}

fn paths_of(op: &Op) -> Vec<&P> {
    match op {
        Op::Open { path, .. }
        | Op::FsyncDirectory { path }
        | Op::Truncate { path, .. }
        | Op::Chmod { path, .. }
        | Op::Touch { path, .. }
        | Op::Mkdir { path, .. }
        | Op::Rmdir { path }
        | Op::Unlink { path }
        | Op::Symlink { path, .. } => vec![path],
        Op::Link { from, to } | Op::Rename { from, to, .. } => vec![from, to],
        _ => Vec::new(),
    }
}

impl Pair {
    fn step(&mut self, mount: &Mount, op: &Op) {
        match op {
            Op::Promote { path, .. } => self.promote(mount, path),
            Op::Demote { path, .. } => {
                let names = vec![format!("{}/{}", self.name, path.0)];
                // What is not resident is refused.
                let _ = mount.try_call(Command::Demote { names });
            }
            Op::PromoteBegin { .. }
            | Op::PromoteEnd
            | Op::PromoteFails { .. }
            | Op::Restart { .. }
            | Op::Home { .. }
            | Op::Evict => {}
            op => self.call(op),
        }
    }

    fn promote(&self, mount: &Mount, path: &P) {
        if self.moves {
            let names = vec![format!("{}/{}", self.name, path.0)];
            let (pool, wait) = (None, true);
            // What is no file, or has a writer, is refused.
            let _ = mount.try_call(Command::Promote { names, pool, wait });
        }
    }

    fn call(&mut self, op: &Op) {
        let found = self.mounted.apply(op);
        if found == Err(Errno::ROFS) {
            let has = |path: &&P| fs::symlink_metadata(self.cold.join(&path.0)).is_ok();
            assert!(
                paths_of(op).iter().any(has),
                "cold storage has nothing of it"
            );
            return;
        }
        let wanted = self.plain.apply(op);
        if !self.is_old_contents(op, &found) {
            assert!(
                found == wanted,
                "the mount: {found:?}\na plain directory: {wanted:?}"
            );
        }
        if found.is_err() {
            return;
        }
        match op {
            Op::Open {
                label,
                access: Access::Read | Access::Both,
                ..
            } => {
                let found = self.mounted.read_all(*label);
                assert_eq!(found, self.plain.read_all(*label), "just opened");
                self.opened.insert(*label, found.unwrap_or_default());
            }
            Op::Unlink { path } | Op::Rmdir { path } | Op::Rename { from: path, .. } => {
                self.cold_comes_to_light(path)
            }
            _ => {}
        }
    }

    /// Whether this is a read that shows the file as it was when the handle was opened.
    fn is_old_contents(&self, op: &Op, found: &Outcome) -> bool {
        let (
            Op::Read {
                label,
                offset,
                length,
            },
            Ok(Answer::Bytes(found)),
        ) = (op, found)
        else {
            return false;
        };
        let Some(opened) = self.opened.get(label).filter(|_| self.moves) else {
            return false;
        };
        let from = (*offset as usize).min(opened.len());
        let to = (from + length).min(opened.len());
        opened[from..to] == **found
    }

    /// A file of the models directory is gone that hid a cold one.
    fn cold_comes_to_light(&self, path: &P) {
        let (mounted, plain) = (self.mounted.at(path), self.plain.at(path));
        let is_there = |path: &Path| fs::symlink_metadata(path).is_ok();
        if is_there(&mounted) && !is_there(&plain) {
            assert!(
                is_there(&self.cold.join(&path.0)),
                "{path:?} came from nowhere"
            );
            copy_over(&mounted, &plain);
        }
    }

    /// Everything is the same.
    fn compare(&mut self) {
        let seen = seen(self);
        for path in seen.directories {
            self.call(&Op::List { path });
        }
        for path in seen.paths {
            let is_file = fs::symlink_metadata(self.plain.at(&path))
                .unwrap()
                .is_file();
            self.call(&Op::Stat { path: path.clone() });
            if is_file {
                let [found, wanted] =
                    [&self.mounted, &self.plain].map(|side| fs::read(side.at(&path)).unwrap());
                assert!(found == wanted, "{path:?} has other contents");
            }
        }
    }
}

fn run(mount: &Mount, plain: &Path, seed: u64) {
    let name = directory_of(seed);
    let (mounted, plain) = (mount.mounted(&name), plain.join(&name));
    match mounted.exists() {
        true => copy_over(&mounted, &plain),
        false => {
            fs::create_dir(&mounted).unwrap();
            fs::create_dir(&plain).unwrap();
        }
    }
    let mut random = Random(seed);
    let mut pair = Pair {
        plain: Side::new(plain),
        mounted: Side::new(mounted),
        cold: mount.root().join("cold0").join(&name),
        name,
        opened: BTreeMap::new(),
        moves: seed % 2 == 1,
    };
    let mut ops = Vec::new();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        for label in 0..STEPS {
            let state = seen(&pair);
            let op = match state.labels.len() >= HANDLES_MAX {
                true => Op::Close {
                    label: state.labels[0],
                },
                false => draw(&mut random, &state, label),
            };
            ops.push(op.clone());
            pair.step(mount, &op);
        }
        pair.compare();
    }));
    if let Err(panic) = outcome {
        let steps: String = ops.iter().map(|op| format!("  {op:?},\n")).collect();
        #[allow(clippy::print_stdout, reason = "how to replay what failed")]
        {
            println!(
                "seed {seed}; replay: SPEEDLOADER_DIFFERENTIAL_SEED={seed} cargo test --test main \
             differential -- --nocapture\n{steps}"
            );
        }
        std::panic::resume_unwind(panic);
    }
}

/// Plain directories lie on the file system of the homes.
fn plain() -> tempfile::TempDir {
    rustix::process::umask(rustix::fs::Mode::empty());
    tempfile::tempdir().unwrap()
}

#[test]
fn a_mount_of_models_alone_answers_as_a_plain_directory() {
    in_both_modes(
        |site| site.colds(0),
        |mount| {
            let plain = plain();
            seeds()
                .into_iter()
                .for_each(|seed| run(mount, plain.path(), seed));
        },
    );
}

#[test]
fn a_mount_over_cold_storage_answers_as_a_plain_directory() {
    let populated = |site: crate::harness::Site| {
        for seed in seeds() {
            let mut random = Random(!seed);
            let name = directory_of(seed);
            populate(&site.cold(0, &name), &mut random);
            if random.one_in(2) {
                populate(&site.models(&name), &mut random);
            }
        }
        site
    };
    in_both_modes(populated, |mount| {
        let plain = plain();
        seeds()
            .into_iter()
            .for_each(|seed| run(mount, plain.path(), seed));
    });
}
