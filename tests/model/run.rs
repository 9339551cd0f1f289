//! Runs a case: every step on the naive model and on the real thing, compared, with the invariants
//! checked after each step; and shortens a case that fails.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use speedloader_fs::error::{ErrorKind, FsError};
use speedloader_fs::file::HomeFile;

use super::naive::{Answer, Ino, Naive, Sees, Stamp, View};
use super::op::{Access, Behind, Op, P, Random, Seen, behind, draw};
use super::world::{HOMES, OnDisk, POOLS, Pools, World};

/// Steps between looks at everything.
const LOOK_EVERY: usize = 12;
const HANDLES_MAX: usize = 8;
/// Runs of a case before it counts as one that does not fail: what depends on threads fails now and then.
const SHRINK_RUNS: usize = 6;

/// Everything that a run is made of.
#[derive(Clone, Debug)]
pub struct Case {
    pub pools: Pools,
    pub passthrough: bool,
    /// What the homes hold before the first start.
    pub before: Vec<(usize, Behind)>,
    pub ops: Vec<Op>,
}

struct Pending {
    path: P,
    ino: Ino,
    pool: usize,
    changes: u64,
    touches: u64,
    /// It may be refused although it is good: a home changed since, and the record may be another
    /// file's by now, or somebody had the file open for writing.
    unsure: bool,
}

struct Run {
    naive: Naive,
    world: World,
    pending: Option<Pending>,
    /// Inode numbers as they were first shown.
    shown: HashMap<Ino, u64>,
    cold: Vec<BTreeMap<String, OnDisk>>,
    passthrough: bool,
    steps: usize,
}

macro_rules! ensure {
    ($true:expr, $($why:tt)*) => { if !$true { return Err(format!($($why)*)); } };
}

type Checked = Result<(), String>;

/// The case of a seed: drawn step by step from the model's state, without running anything.
pub fn case_of(seed: u64) -> Case {
    let mut random = Random(seed);
    let pools = match random.below(12) {
        0 if rustix::process::geteuid().is_root() => Pools::Tmpfs,
        1 => Pools::Disk,
        _ => Pools::Memory,
    };
    let passthrough = !random.one_in(4);
    let mut naive = Naive::new(HOMES);
    let mut before = Vec::new();
    for _ in 0..random.below(24) {
        let (home, change) = behind(&mut random, &seen(&naive));
        if naive.behind(home, &change) {
            before.push((home, change));
        }
    }
    let mut ops = Vec::new();
    for label in 0..40 + random.below(60) as u32 {
        let state = seen(&naive);
        let op = match state.labels.len() >= HANDLES_MAX {
            true => Op::Close {
                label: state.labels[random.below(state.labels.len())],
            },
            false => draw(&mut random, &state, label),
        };
        foresee(&mut naive, &op);
        ops.push(op);
    }
    Case {
        pools,
        passthrough,
        before,
        ops,
    }
}

fn seen(naive: &Naive) -> Seen {
    let is_dir = |(path, view): &(P, View)| matches!(view, View::Dir(_)).then(|| path.clone());
    let paths = naive.paths();
    let with_root = |mut paths: Vec<P>| {
        paths.push(P(String::new()));
        paths
    };
    let homes: Vec<_> = (0..HOMES).map(|home| naive.paths_of(home)).collect();
    let directories = |home: &Vec<(P, Option<Ino>)>| -> Vec<P> {
        home.iter()
            .filter(|(_, ino)| ino.is_none())
            .map(|(path, _)| path.clone())
            .collect()
    };
    Seen {
        directories: with_root(paths.iter().filter_map(is_dir).collect()),
        paths: paths.into_iter().map(|(path, _)| path).collect(),
        home_directories: homes
            .iter()
            .map(|home| with_root(directories(home)))
            .collect(),
        homes: homes
            .into_iter()
            .map(|home| home.into_iter().map(|(p, _)| p).collect())
            .collect(),
        labels: naive.handles.keys().copied().collect(),
        pools: POOLS,
    }
}

/// Moves the model on, so that the next step can be drawn.
fn foresee(naive: &mut Naive, op: &Op) {
    match op {
        Op::Home { home, change } => {
            naive.behind(*home, change);
        }
        Op::Restart { meanwhile } => {
            naive.restart();
            for (home, change) in meanwhile {
                naive.behind(*home, change);
            }
        }
        Op::Promote { .. }
        | Op::PromoteBegin { .. }
        | Op::PromoteEnd
        | Op::PromoteFails { .. }
        | Op::Demote { .. } => {}
        op if label_of(op).is_some_and(|label| !naive.handles.contains_key(&label)) => {}
        op => {
            // Refused steps are part of the case.
            let _ = naive.apply(op);
        }
    }
}

/// The handle that a step works on.
fn label_of(op: &Op) -> Option<u32> {
    match op {
        Op::Close { label }
        | Op::Read { label, .. }
        | Op::Write { label, .. }
        | Op::Fsync { label }
        | Op::TruncateHandle { label, .. } => Some(*label),
        _ => None,
    }
}

/// Runs a case to its end.
pub fn run(case: &Case) -> Checked {
    let mut run = Run {
        naive: Naive::new(HOMES),
        world: World::new(case.pools, case.passthrough)?,
        pending: None,
        shown: HashMap::new(),
        cold: Vec::new(),
        passthrough: case.passthrough,
        steps: 0,
    };
    for (home, change) in &case.before {
        run.change_home(*home, change)?;
    }
    run.world.start()?;
    run.see_cold();
    for (number, op) in case.ops.iter().enumerate() {
        let done = run.step(op).and_then(|()| run.check());
        done.map_err(|why| format!("step {number}, {op:?}: {why}"))?;
    }
    run.end().map_err(|why| format!("at the end: {why}"))
}

/// Leaves out steps as long as the case still fails.
pub fn shrink(case: &Case, mut attempts: usize) -> Case {
    let mut best = case.clone();
    let fails = |case: &Case| {
        (0..SHRINK_RUNS).any(|_| {
            std::panic::catch_unwind(|| run(case)).map_or(true, |outcome| outcome.is_err())
        })
    };
    let mut size = best.ops.len().max(1);
    while size > 0 {
        let mut at = 0;
        while at < best.ops.len().max(best.before.len()) && attempts > 0 {
            for part in [true, false] {
                let mut shorter = best.clone();
                let length = if part {
                    shorter.ops.len()
                } else {
                    shorter.before.len()
                };
                if at >= length {
                    continue;
                }
                let range = at..(at + size).min(length);
                if part {
                    shorter.ops.drain(range);
                } else {
                    shorter.before.drain(range);
                }
                attempts = attempts.saturating_sub(1);
                if fails(&shorter) {
                    best = shorter;
                }
            }
            at += size;
        }
        size /= 2;
    }
    best
}

impl Run {
    fn change_home(&mut self, home: usize, change: &Behind) -> Checked {
        if self.naive.behind(home, change) {
            let done = self.world.behind(home, change);
            done.map_err(|error| format!("{change:?} in home {home}: {error}"))?;
        }
        Ok(())
    }

    fn see_cold(&mut self) {
        self.cold = (1..HOMES).map(|home| self.world.on_disk(home)).collect();
    }

    fn cold_is_untouched(&self) -> Checked {
        for (index, former) in self.cold.iter().enumerate() {
            let now = self.world.on_disk(index + 1);
            ensure!(
                &now == former,
                "cold home {} changed: {former:?} -> {now:?}",
                index + 1
            );
        }
        Ok(())
    }

    fn step(&mut self, op: &Op) -> Checked {
        self.steps += 1;
        self.world.kernel().listen();
        if label_of(op).is_some_and(|label| !self.naive.handles.contains_key(&label)) {
            return Ok(());
        }
        match op {
            Op::Home { home, change } => self.behind(*home, change),
            Op::Restart { meanwhile } => self.restart(meanwhile),
            Op::Promote { path, pool } => self.promote(path, *pool, None),
            Op::PromoteFails { path, pool, step } => self.promote(path, *pool, Some(*step)),
            Op::PromoteBegin { path, pool } => self.promote_begin(path, *pool),
            Op::PromoteEnd => self.promote_end(),
            Op::Demote { path, pool } => self.demote(path, *pool),
            op => self.call(op),
        }
    }

    /// A system call: both must give the same answer.
    fn call(&mut self, op: &Op) -> Checked {
        let wanted = self.naive.apply(op);
        let found = self.world.kernel().apply(op);
        ensure!(found == wanted, "answered {found:?}, the model {wanted:?}");
        match op {
            Op::Open { label, access, .. } if found.is_ok() => self.opened(*label, *access),
            Op::Stat { path } if found.is_ok() => self.same_number(path),
            _ => Ok(()),
        }
    }

    /// A file keeps its inode number, and no other file has it.
    fn same_number(&mut self, path: &P) -> Checked {
        let Ok(View::Leaf { ino, .. }) = self.naive.view(&path.0) else {
            return Ok(());
        };
        let shown = self
            .world
            .kernel()
            .shown(path)
            .map_err(|errno| format!("errno {errno}"))?;
        let first = *self.shown.entry(ino).or_insert(shown.ino);
        ensure!(
            first == shown.ino,
            "inode number of {path:?} was {first}, is {}",
            shown.ino
        );
        Ok(())
    }

    fn opened(&mut self, label: u32, access: Access) -> Checked {
        let Some(by) = self.world.kernel().last_open else {
            return Err("an open without an event".to_owned());
        };
        let open = &self.naive.handles[&label];
        let ino = open.ino();
        let wanted = match &open.sees {
            Sees::Copy(ino, _) => self.naive.resident[ino].keys().next().copied(),
            Sees::Live(_) => None,
        };
        let found = by.pool.map(|pool| usize::from(pool.0));
        ensure!(
            found == wanted,
            "opened in pool {found:?}, the model has it in {wanted:?}"
        );
        if let Some(pending) = &mut self.pending
            && access != Access::Read
        {
            // One writer is enough to throw a copy away, whether he has written or not.
            pending.unsure |= pending.ino == ino;
        }
        if access != Access::Read && !self.passthrough {
            // One page cache serves all handles of the node.
            for (other, open) in &mut self.naive.handles {
                if self.world.kernel().node_of(*other) == Some(by.node) {
                    open.sees = Sees::Live(ino);
                }
            }
        }
        Ok(())
    }

    fn behind(&mut self, home: usize, change: &Behind) -> Checked {
        self.change_home(home, change)?;
        self.world.rescan()?;
        if let Some(pending) = &mut self.pending {
            pending.unsure = true;
        }
        self.shown.clear();
        self.see_cold();
        self.lost_copies_are_fine()
    }

    /// After a change behind our back copies may be lost, never gained.
    fn lost_copies_are_fine(&mut self) -> Checked {
        self.naive.drop_hidden();
        let found = self.residents()?;
        for (ino, pools) in &found {
            let known: Vec<usize> = self
                .naive
                .resident
                .get(ino)
                .into_iter()
                .flat_map(|p| p.keys().copied())
                .collect();
            ensure!(
                pools.iter().all(|pool| known.contains(pool)),
                "file {ino} is in pools {pools:?}, the model has it in {known:?}"
            );
        }
        for (ino, pools) in &mut self.naive.resident {
            pools.retain(|pool, _| found.get(ino).is_some_and(|found| found.contains(pool)));
        }
        self.naive.resident.retain(|_, pools| !pools.is_empty());
        Ok(())
    }

    fn restart(&mut self, meanwhile: &[(usize, Behind)]) -> Checked {
        self.cold_is_untouched()?;
        self.world.stop()?;
        self.naive.restart();
        let pending = self.pending.take();
        for (home, change) in meanwhile {
            self.change_home(*home, change)?;
        }
        if !meanwhile.is_empty() {
            self.shown.clear();
        }
        self.world.start()?;
        self.see_cold();
        // A complete copy that nobody was given yet is as good as any.
        if let Some(Pending {
            path,
            ino,
            pool,
            touches,
            ..
        }) = pending
        {
            let pools = self.naive.resident.entry(ino).or_default();
            let newer = pools.get(&pool).is_none_or(|stamp| stamp.touches < touches);
            if newer {
                pools.insert(pool, Stamp { path, touches });
            }
        }
        let naive = &self.naive;
        let expected: BTreeMap<Ino, BTreeSet<usize>> = naive
            .resident
            .iter()
            .map(|(ino, pools)| {
                let is_true = |stamp: &Stamp| {
                    let found = naive.view(&stamp.path.0);
                    matches!(found, Ok(View::Leaf { ino: now, .. }) if now == *ino)
                        && naive.inodes[*ino].touches == stamp.touches
                };
                let true_ones = pools.iter().filter(|(_, stamp)| is_true(stamp));
                (
                    *ino,
                    true_ones
                        .map(|(pool, _)| *pool)
                        .collect::<BTreeSet<usize>>(),
                )
            })
            .filter(|(_, pools)| !pools.is_empty())
            .collect();
        let found = self.residents()?;
        ensure!(
            found == expected,
            "adopted {found:?}, the model {expected:?}"
        );
        for (ino, pools) in &mut self.naive.resident {
            pools.retain(|pool, _| expected.get(ino).is_some_and(|found| found.contains(pool)));
        }
        self.naive.resident.retain(|_, pools| !pools.is_empty());
        Ok(())
    }

    // ---- moves -----------------------------------------------------------------------------------

    /// The regular file at a path.
    fn file_at(&self, path: &P) -> Option<Ino> {
        match self.naive.view(&path.0) {
            Ok(View::Leaf { ino, .. }) if self.naive.kind(ino) == 'f' => Some(ino),
            _ => None,
        }
    }

    fn fits(&self, ino: Ino, pool: usize) -> bool {
        let pool = &self.world.pools()[pool];
        let needed = pool.footprint_bytes(self.naive.bytes(ino).len() as u64);
        pool.usage().is_ok_and(|usage| usage.free_bytes >= needed)
    }

    fn stamp(&self, path: &P, ino: Ino) -> Stamp {
        // The record's own path is any of the file's names.
        let path = self
            .world
            .find(path)
            .and_then(|file| self.world.fs().union().path_of(&file));
        let path = path.map(|path| String::from_utf8_lossy(path.as_bytes()).into_owned());
        Stamp {
            path: P(path.unwrap_or_default()),
            touches: self.naive.inodes[ino].touches,
        }
    }

    fn promote(&mut self, path: &P, pool: usize, failing: Option<u64>) -> Checked {
        let Some(ino) = self.file_at(path) else {
            ensure!(
                self.world.copy(path, pool).is_err(),
                "promoted what is no file"
            );
            return Ok(());
        };
        let stamp = self.stamp(path, ino);
        let room = self.fits(ino, pool);
        let resident = self
            .naive
            .resident
            .get(&ino)
            .is_some_and(|p| p.contains_key(&pool));
        let done = match failing {
            None => self.world.promote(path, pool),
            Some(step) => self.world.promote_failing(path, pool, step),
        };
        let done = match done {
            Err(FsError {
                kind: ErrorKind::Invalid("broken by the test"),
                ..
            }) if failing.is_some() => return Ok(()),
            other => other,
        };
        let wanted = !self.naive.has_writer(ino) && !resident && room;
        match (done, wanted) {
            (Ok(()), true) => {
                self.naive
                    .resident
                    .entry(ino)
                    .or_default()
                    .insert(pool, stamp);
                Ok(())
            }
            (Err(_), false) => Ok(()),
            (Ok(()), false) => Err(format!(
                "promoted; writer {}, resident {resident}, room {room}",
                self.naive.has_writer(ino)
            )),
            (Err(error), true) => Err(format!("could not be promoted: {error}")),
        }
    }

    fn promote_begin(&mut self, path: &P, pool: usize) -> Checked {
        if self.pending.is_some() {
            return Ok(());
        }
        let Some(ino) = self.file_at(path) else {
            return Ok(());
        };
        let recorded = self.stamp(path, ino).path;
        let room = self.fits(ino, pool);
        match self.world.copy(path, pool) {
            Ok(copied) => {
                ensure!(
                    !self.naive.has_writer(ino),
                    "a file with a writer was copied"
                );
                let inode = &self.naive.inodes[ino];
                let (path, changes, touches) = (recorded, inode.changes, inode.touches);
                self.pending = Some(Pending {
                    path,
                    ino,
                    pool,
                    changes,
                    touches,
                    unsure: false,
                });
                self.world.pending = Some(copied);
                Ok(())
            }
            Err(error) => {
                ensure!(
                    self.naive.has_writer(ino) || !room,
                    "could not be copied: {error}"
                );
                Ok(())
            }
        }
    }

    fn promote_end(&mut self) -> Checked {
        let (Some(pending), Some(copied)) = (self.pending.take(), self.world.pending.take()) else {
            return Ok(());
        };
        let Pending {
            path,
            ino,
            pool,
            changes,
            touches,
            unsure,
        } = pending;
        let inode = &self.naive.inodes[ino];
        let shown = self
            .naive
            .paths()
            .iter()
            .any(|(_, view)| matches!(view, View::Leaf { ino: found, .. } if *found == ino));
        let resident = self
            .naive
            .resident
            .get(&ino)
            .is_some_and(|p| p.contains_key(&pool));
        let may = inode.changes == changes && shown && !resident && !self.naive.has_writer(ino);
        match self.world.hand_over(copied) {
            Ok(()) => {
                ensure!(may, "an outdated copy was taken");
                let pools = self.naive.resident.entry(ino).or_default();
                pools.insert(pool, Stamp { path, touches });
                Ok(())
            }
            Err(error) => {
                ensure!(!may || unsure, "a good copy was refused: {error}");
                Ok(())
            }
        }
    }

    fn demote(&mut self, path: &P, pool: Option<usize>) -> Checked {
        let number = self.world.demote(path, pool);
        let Some(ino) = self.file_at(path) else {
            ensure!(number == 0, "{number} copies of nothing");
            return Ok(());
        };
        let Some(pools) = self.naive.resident.get_mut(&ino) else {
            ensure!(number == 0, "{number} copies dropped, the model knows none");
            return Ok(());
        };
        let before = pools.len();
        pools.retain(|known, _| pool.is_some_and(|pool| pool != *known));
        let wanted = before - pools.len();
        ensure!(
            number == wanted,
            "{number} copies dropped, the model {wanted}"
        );
        Ok(())
    }

    // ---- invariants ------------------------------------------------------------------------------

    /// Every visible file's record, by the model's inode.
    fn records(&self) -> Result<BTreeMap<Ino, (P, Arc<HomeFile>)>, String> {
        let mut records = BTreeMap::new();
        let mut wrong = None;
        self.world.fs().union().for_each_path(|path, file| {
            let path = P(String::from_utf8_lossy(path).into_owned());
            match self.naive.view(&path.0) {
                Ok(View::Leaf { ino, .. }) => {
                    records.insert(ino, (path, Arc::clone(file)));
                }
                other => wrong = Some(format!("{path:?} is shown, the model has {other:?}")),
            }
        });
        wrong.map_or(Ok(records), Err)
    }

    fn residents(&self) -> Result<BTreeMap<Ino, BTreeSet<usize>>, String> {
        let pools = |file: &HomeFile| -> BTreeSet<usize> {
            file.with_live(|live| {
                live.replicas
                    .iter()
                    .map(|r| usize::from(r.pool().id().0))
                    .collect()
            })
        };
        let records = self.records()?.into_iter();
        Ok(records
            .map(|(ino, (_, file))| (ino, pools(&file)))
            .filter(|(_, pools)| !pools.is_empty())
            .collect())
    }

    fn check(&mut self) -> Checked {
        self.world.kernel().listen();
        let broken = std::mem::take(&mut self.world.kernel().broken);
        ensure!(broken.is_empty(), "{}", broken.join("; "));
        self.naive.drop_hidden();
        self.check_copies()?;
        let labels: Vec<u32> = self.naive.handles.keys().copied().collect();
        for label in &labels {
            ensure!(self.world.kernel().holds(*label), "handle {label} is lost");
            let open = self.naive.handles[label].clone();
            if matches!(open.access, Access::Write | Access::Append) {
                continue;
            }
            let wanted = self.naive.seen_by(&open);
            let found = self.world.kernel().read_all(*label);
            let found = found.map_err(|errno| format!("handle {label}: errno {errno}"))?;
            ensure!(
                found == wanted,
                "handle {label} shows {} bytes, the model {}; first \
                difference {:?}",
                found.len(),
                wanted.len(),
                found.iter().zip(&wanted).position(|(one, two)| one != two)
            );
        }
        let (open, wanted) = (self.world.fs().handle_count(), labels.len());
        ensure!(open == wanted, "{open} handles, the model {wanted}");
        if self.steps.is_multiple_of(LOOK_EVERY) {
            self.look_at_everything()?;
        }
        Ok(())
    }

    fn check_copies(&mut self) -> Checked {
        let mut serving = [0; POOLS];
        for (ino, (path, file)) in self.records()? {
            let mut wrong = None;
            let pools = file.with_live(|live| {
                if live.writers > 0 && !live.replicas.is_empty() {
                    wrong = Some(format!("{path:?} has a writer and a replica"));
                }
                let mut pools = BTreeSet::new();
                for replica in &live.replicas {
                    let pool = usize::from(replica.pool().id().0);
                    serving[pool] += 1;
                    pools.insert(pool);
                    let wanted = self.naive.bytes(ino);
                    let mut found = vec![0; replica.size_bytes() as usize];
                    let read = replica.file().read_exact_at(&mut found, 0);
                    if read.is_err() || found != wanted {
                        wrong = Some(format!("the replica of {path:?} is not the file"));
                    }
                }
                pools
            });
            if let Some(wrong) = wrong {
                return Err(wrong);
            }
            let known: BTreeSet<usize> = self
                .naive
                .resident
                .get(&ino)
                .map_or_else(BTreeSet::new, |p| p.keys().copied().collect());
            ensure!(
                pools == known,
                "{path:?} is in pools {pools:?}, the model {known:?}"
            );
        }
        for (number, serving) in serving.into_iter().enumerate() {
            let held = self
                .pending
                .as_ref()
                .is_some_and(|pending| pending.pool == number);
            let pool = &self.world.pools()[number];
            let found = pool.replicas_serving();
            ensure!(
                found == serving + usize::from(held),
                "pool {number} serves {found} replicas, files show {serving}"
            );
            let usage = pool.usage().map_err(|error| error.to_string())?;
            ensure!(
                usage.used_bytes <= usage.capacity_bytes,
                "pool {number}: {usage:?}"
            );
            ensure!(usage.reserved_bytes == 0, "pool {number}: {usage:?}");
            let (complete, partial) = self.world.pool_names(number);
            ensure!(
                (complete, partial) == (found, 0),
                "pool {number} has {complete} names and {partial} partial ones for {found} replicas"
            );
        }
        Ok(())
    }

    /// Every path that should be there, and no other.
    fn look_at_everything(&mut self) -> Checked {
        let mut directories = vec![P(String::new())];
        let paths = self.naive.paths();
        let is_dir = |(path, view): &(P, View)| matches!(view, View::Dir(_)).then(|| path.clone());
        directories.extend(paths.iter().filter_map(is_dir));
        for path in directories {
            let op = Op::List { path };
            self.call(&op).map_err(|why| format!("{op:?}: {why}"))?;
        }
        for (path, _) in paths {
            let op = Op::Stat { path };
            self.call(&op).map_err(|why| format!("{op:?}: {why}"))?;
        }
        Ok(())
    }

    fn homes_are_the_models(&self) -> Checked {
        for home in 0..HOMES {
            let found = self.world.on_disk(home);
            let wanted: BTreeMap<P, Option<Ino>> = self.naive.paths_of(home).into_iter().collect();
            let names: Vec<&String> = found.keys().collect();
            let known: Vec<&String> = wanted.keys().map(|path| &path.0).collect();
            ensure!(
                names == known,
                "home {home} has {names:?}, the model {known:?}"
            );
            let mut numbers: HashMap<u64, Ino> = HashMap::new();
            for (path, ino) in &wanted {
                let on_disk = &found[&path.0];
                let Some(ino) = ino else {
                    ensure!(on_disk.kind == 'd', "home {home}: {path:?} is no directory");
                    continue;
                };
                let inode = &self.naive.inodes[*ino];
                let bytes = match &inode.body {
                    super::naive::Body::File(bytes) => bytes.clone(),
                    super::naive::Body::Symlink(target) => target.clone().into_bytes(),
                };
                ensure!(
                    on_disk.bytes == bytes,
                    "home {home}: {path:?} has other bytes"
                );
                ensure!(
                    on_disk.kind == self.naive.kind(*ino),
                    "home {home}: {path:?} is a {}",
                    on_disk.kind
                );
                ensure!(
                    on_disk.mode == inode.mode,
                    "home {home}: {path:?} has mode {:o}, the \
                    model {:o}",
                    on_disk.mode,
                    inode.mode
                );
                let first = *numbers.entry(on_disk.ino).or_insert(*ino);
                ensure!(
                    first == *ino,
                    "home {home}: {path:?} is a link of another file"
                );
            }
        }
        Ok(())
    }

    fn end(mut self) -> Checked {
        self.look_at_everything()?;
        self.cold_is_untouched()?;
        self.homes_are_the_models()?;
        self.world.kernel().close_all();
        self.world.kernel().evict();
        self.world.kernel().listen();
        let nodes = self.world.fs().node_count();
        ensure!(nodes == 2, "{nodes} nodes are known when all are forgotten");
        ensure!(self.world.fs().handle_count() == 0, "handles are left");
        // Copies of what nobody shows any more would be memory that nobody can give back.
        self.world.pending = None;
        let files: Vec<_> = self.records()?.into_values().collect();
        for (_, file) in files {
            self.world.fs().drop_replicas(&file, None, "the end");
        }
        self.world.drained()?;
        for pool in self.world.pools() {
            let serving = pool.replicas_serving();
            ensure!(serving == 0, "{serving} replicas belong to no file");
        }
        self.world.stop()
    }
}

/// Answers that are compared are printed; this keeps them short.
impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}
