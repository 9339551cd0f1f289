//! One step of a sequence: what it can be, and how a random one is drawn from a state.
//!
//! Steps are concrete (names, sizes, labels of handles), so a sequence can be shortened by leaving
//! steps out, and a failing one can be pasted into a test.

use std::fmt;

/// A path below the mount or below a home; empty: the root.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct P(pub String);

/// A path, as failing sequences print it.
pub fn p(path: &str) -> P {
    P(path.to_owned())
}

impl fmt::Debug for P {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p({:?})", self.0)
    }
}

impl P {
    /// The parent and the last name; the root has none.
    pub fn split(&self) -> Option<(&str, &str)> {
        if self.0.is_empty() {
            return None;
        }
        Some(self.0.rsplit_once('/').unwrap_or(("", &self.0)))
    }
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
    Both,
    Append,
}

/// Flags beside the access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Flags {
    pub create: bool,
    pub exclusive: bool,
    pub truncate: bool,
}

/// How a rename treats its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Replace,
    NoReplace,
    Exchange,
}

/// Contents that can be told apart: a byte and a length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill(pub u8, pub usize);

impl Fill {
    pub fn bytes(self) -> Vec<u8> {
        (0..self.1)
            .map(|at| self.0.wrapping_add((at / 251) as u8))
            .collect()
    }
}

/// A change of a home that does not come through the mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Behind {
    /// The file is overwritten in place, or created.
    Write(P, Fill),
    /// A new file takes the name.
    Replace(P, Fill),
    /// The file, or the directory with all below, is removed.
    Remove(P),
    Rename(P, P),
    Link(P, P),
    Mkdir(P),
    Symlink(P, String),
    Chmod(P, u16),
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    Open {
        path: P,
        access: Access,
        flags: Flags,
        label: u32,
    },
    Close {
        label: u32,
    },
    Read {
        label: u32,
        offset: u64,
        length: usize,
    },
    Write {
        label: u32,
        offset: u64,
        fill: Fill,
    },
    Fsync {
        label: u32,
    },
    FsyncDirectory {
        path: P,
    },
    TruncateHandle {
        label: u32,
        size: u64,
    },
    Truncate {
        path: P,
        size: u64,
    },
    Chmod {
        path: P,
        mode: u16,
    },
    Touch {
        path: P,
        seconds: u64,
    },
    Mkdir {
        path: P,
        mode: u16,
    },
    Rmdir {
        path: P,
    },
    Unlink {
        path: P,
    },
    Symlink {
        path: P,
        target: String,
    },
    Link {
        from: P,
        to: P,
    },
    Rename {
        from: P,
        to: P,
        mode: Mode,
    },
    Stat {
        path: P,
    },
    List {
        path: P,
    },
    ReadLink {
        path: P,
    },
    /// The kernel gives back what nobody holds.
    Evict,
    Promote {
        path: P,
        pool: usize,
    },
    /// Copies; `PromoteEnd` hands the copy over.
    PromoteBegin {
        path: P,
        pool: usize,
    },
    PromoteEnd,
    /// The promotion fails at its `step`-th step.
    PromoteFails {
        path: P,
        pool: usize,
        step: u64,
    },
    Demote {
        path: P,
        pool: Option<usize>,
    },
    /// The daemon ends and another takes over; the pools survive. Homes change meanwhile.
    Restart {
        meanwhile: Vec<(usize, Behind)>,
    },
    Home {
        home: usize,
        change: Behind,
    },
}

/// A small deterministic generator (splitmix64).
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    pub fn one_in(&mut self, number: usize) -> bool {
        self.below(number) == 0
    }

    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        (!of.is_empty()).then(|| &of[self.below(of.len())])
    }
}

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
const DEPTH_MAX: usize = 3;

/// What a draw may refer to.
pub struct Seen {
    /// Paths that are visible, the root not among them.
    pub paths: Vec<P>,
    /// The directories among them, and the root.
    pub directories: Vec<P>,
    /// Paths of each home.
    pub homes: Vec<Vec<P>>,
    /// Directories of each home, and its root.
    pub home_directories: Vec<Vec<P>>,
    /// Labels of open handles.
    pub labels: Vec<u32>,
    pub pools: usize,
}

fn child(random: &mut Random, parent: &P) -> P {
    let name = NAMES[random.below(NAMES.len())];
    if parent.0.is_empty() {
        return p(name);
    }
    if parent.0.split('/').count() >= DEPTH_MAX {
        return parent.clone();
    }
    P(format!("{}/{name}", parent.0))
}

/// A path that exists three times of four.
fn some_path(random: &mut Random, paths: &[P], directories: &[P]) -> P {
    match random.pick(paths) {
        Some(path) if !random.one_in(4) => path.clone(),
        _ => new_path(random, directories),
    }
}

/// A name in a directory that exists, mostly.
fn new_path(random: &mut Random, directories: &[P]) -> P {
    let parent = random.pick(directories).cloned().unwrap_or(p(""));
    let path = child(random, &parent);
    if random.one_in(16) {
        child(random, &path)
    } else {
        path
    }
}

pub fn fill(random: &mut Random) -> Fill {
    let byte = random.next() as u8;
    let length = match random.below(8) {
        0 => 0,
        1 => 4096 * (1 + random.below(4)),
        2 => random.below(150_000),
        _ => random.below(5000),
    };
    Fill(byte, length)
}

pub fn behind(random: &mut Random, seen: &Seen) -> (usize, Behind) {
    let home = random.below(seen.homes.len());
    let (paths, directories) = (&seen.homes[home], &seen.home_directories[home]);
    let some = |random: &mut Random| some_path(random, paths, directories);
    let fresh = |random: &mut Random| new_path(random, directories);
    let change = match random.below(10) {
        0 | 1 => Behind::Write(some(random), fill(random)),
        2 => Behind::Write(fresh(random), fill(random)),
        3 | 4 => Behind::Replace(some(random), fill(random)),
        5 => Behind::Remove(some(random)),
        6 => Behind::Rename(some(random), some(random)),
        7 => Behind::Mkdir(fresh(random)),
        8 => match random.below(3) {
            0 => Behind::Symlink(fresh(random), "a".to_owned()),
            1 => Behind::Link(some(random), fresh(random)),
            _ => Behind::Chmod(some(random), 0o600 + random.below(0o200) as u16),
        },
        _ => Behind::Rename(some(random), fresh(random)),
    };
    (home, change)
}

fn by_handle(random: &mut Random, label: u32) -> Op {
    match random.below(10) {
        0..=2 => Op::Read {
            label,
            offset: random.below(9000) as u64,
            length: 10_000,
        },
        3..=5 => Op::Write {
            label,
            offset: random.below(9000) as u64,
            fill: fill(random),
        },
        6 => Op::TruncateHandle {
            label,
            size: random.below(9000) as u64,
        },
        7 if random.one_in(4) => Op::Fsync { label },
        _ => Op::Close { label },
    }
}

fn open(random: &mut Random, seen: &Seen, label: u32) -> Op {
    let access = match random.below(10) {
        0..=5 => Access::Read,
        6 | 7 => Access::Both,
        8 => Access::Write,
        _ => Access::Append,
    };
    let writes = access != Access::Read;
    let flags = Flags {
        create: writes && random.one_in(2),
        exclusive: writes && random.one_in(8),
        truncate: writes && random.one_in(4),
    };
    Op::Open {
        path: some_path(random, &seen.paths, &seen.directories),
        access,
        flags,
        label,
    }
}

fn names(random: &mut Random, seen: &Seen, label: u32) -> Op {
    let some = |random: &mut Random| some_path(random, &seen.paths, &seen.directories);
    let fresh = |random: &mut Random| new_path(random, &seen.directories);
    let mode = 0o600 + random.below(0o200) as u16;
    match random.below(16) {
        0 | 1 => Op::Mkdir {
            path: fresh(random),
            mode: 0o700 + random.below(0o100) as u16,
        },
        2 => Op::Rmdir { path: some(random) },
        3 | 4 => Op::Unlink { path: some(random) },
        5 => Op::Symlink {
            path: fresh(random),
            target: "a/b".to_owned(),
        },
        6 => Op::Link {
            from: some(random),
            to: fresh(random),
        },
        7..=9 => Op::Rename {
            from: some(random),
            to: fresh(random),
            mode: Mode::Replace,
        },
        10 => Op::Rename {
            from: some(random),
            to: some(random),
            mode: Mode::Replace,
        },
        11 => Op::Rename {
            from: some(random),
            to: some(random),
            mode: Mode::NoReplace,
        },
        12 | 13 => Op::Rename {
            from: some(random),
            to: some(random),
            mode: Mode::Exchange,
        },
        14 => Op::Truncate {
            path: some(random),
            size: if random.one_in(2) {
                0
            } else {
                random.below(9000) as u64
            },
        },
        _ if random.one_in(2) => Op::Chmod {
            path: some(random),
            mode,
        },
        _ => Op::Touch {
            path: some(random),
            seconds: 1_000_000 + u64::from(label),
        },
    }
}

/// Draws the next step.
pub fn draw(random: &mut Random, seen: &Seen, label: u32) -> Op {
    let some = |random: &mut Random| some_path(random, &seen.paths, &seen.directories);
    let directory = |random: &mut Random| random.pick(&seen.directories).cloned().unwrap_or(p(""));
    match random.below(100) {
        0..=15 => open(random, seen, label),
        16..=37 => match random.pick(&seen.labels).copied() {
            Some(label) => by_handle(random, label),
            None => open(random, seen, label),
        },
        38..=56 => names(random, seen, label),
        57..=62 => Op::Stat { path: some(random) },
        63..=66 => Op::List {
            path: directory(random),
        },
        67 => Op::ReadLink { path: some(random) },
        68 => match random.one_in(4) {
            true => Op::FsyncDirectory {
                path: directory(random),
            },
            false => Op::Evict,
        },
        69..=76 => Op::Promote {
            path: some(random),
            pool: random.below(seen.pools),
        },
        77..=79 => Op::PromoteBegin {
            path: some(random),
            pool: random.below(seen.pools),
        },
        80..=82 => Op::PromoteEnd,
        83 => Op::PromoteFails {
            path: some(random),
            pool: random.below(seen.pools),
            step: 1 + random.below(20) as u64,
        },
        84..=87 => Op::Demote {
            path: some(random),
            pool: if random.one_in(2) {
                None
            } else {
                Some(random.below(seen.pools))
            },
        },
        88 => {
            let changes = if random.one_in(2) { random.below(3) } else { 0 };
            Op::Restart {
                meanwhile: (0..changes).map(|_| behind(random, seen)).collect(),
            }
        }
        _ => {
            let (home, change) = behind(random, seen);
            Op::Home { home, change }
        }
    }
}
