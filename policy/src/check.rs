//! The independent judge of plans: carries one out on paper, move by move.
//!
//! Shares the types with the planner and nothing else, on purpose: a mistake in the planner's
//! view of the world must not be in the judge's too.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::ids::{FileRef, ModelId, TierId};
use crate::report::{Move, MoveKind, Plan, Reason};
use crate::snapshot::{FileState, ModelRule, ModelState, PoolState, Snapshot, WantKind};

/// Whether the plan may be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Wasteful or surprising, but harmless.
    Warning,
    /// Must not be carried out.
    Fatal,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoteKind {
    /// The move names a file that does not exist.
    UnknownFile(FileRef),
    /// The move names a model that does not exist or does not contain the file.
    UnknownModel(ModelId, FileRef),
    /// The move names a pool that is not connected.
    UnknownPool(TierId),
    /// The file is not where the move takes it from.
    WrongPlace(FileRef),
    /// The move says another size than the file has.
    WrongSize(FileRef),
    /// The move goes nowhere, or up when it says down.
    WrongDirection(FileRef),
    /// The pool does not have that much free at this step; bytes missing.
    OverCapacity(TierId, u64),
    /// The pool takes nothing.
    PoolClosed(TierId),
    /// A file with a writer, a lock, or a copy under way is moved.
    Busy(FileRef),
    /// A file in use is dropped or demoted though nobody asked for it.
    InUse(FileRef),
    /// A model loses or leaves the pool it is pinned to, or goes elsewhere.
    PinBroken(ModelId, TierId),
    /// A model set to `always` leaves the pools.
    AlwaysDropped(ModelId),
    /// A model set to `never` is promoted though nobody asked for it.
    NeverPromoted(ModelId),
    /// A model is left with some files in pools and others not.
    Half(ModelId),
    /// A model that is being moved already is moved.
    UnderWay(ModelId),
    /// The pool has less free at the end than it was asked to give back; bytes missing.
    NotGivenBack(TierId, u64),
    /// A file is moved more than once.
    MovedTwice(FileRef),
    /// There is no spare where one is dropped or fallen back to.
    NoSpare(FileRef),
    /// A copy is made in, or left behind in, a pool although the file has one there or elsewhere.
    SpareTwice(FileRef),
    /// A spare is left where none may be: by what does not go up, or in no slower pool.
    WrongSpare(FileRef),
    /// The first makes way for the second, which has a lower priority, and neither pin nor `always`.
    Outranked(ModelId, ModelId),
    /// The model makes way for one that was only to be brought back into free room.
    DisplacedByRestore(ModelId),
}

/// One remark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Whether the plan may be carried out.
    pub severity: Severity,
    /// At this move of the plan; `None`: about the plan as a whole.
    pub step: Option<usize>,
    /// What is wrong.
    pub kind: NoteKind,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.severity == Severity::Fatal {
            "fatal"
        } else {
            "warning"
        };
        match self.step {
            Some(step) => write!(f, "{word} at move {step}: {:?}", self.kind),
            None => write!(f, "{word}: {:?}", self.kind),
        }
    }
}

struct Judge<'a> {
    snapshot: &'a Snapshot,
    free: BTreeMap<TierId, u64>,
    place: BTreeMap<FileRef, Option<TierId>>,
    before: BTreeMap<FileRef, Option<TierId>>,
    spare: BTreeMap<FileRef, TierId>,
    notes: Vec<Note>,
}

/// Every remark on the plan; empty when it is right.
pub fn check(snapshot: &Snapshot, plan: &Plan) -> Vec<Note> {
    let place: BTreeMap<_, _> = snapshot.files.iter().map(|f| (f.id, f.place)).collect();
    let mut judge = Judge {
        snapshot,
        free: snapshot
            .pools
            .iter()
            .map(|p| (p.id, p.free_bytes))
            .collect(),
        before: place.clone(),
        place,
        spare: snapshot
            .files
            .iter()
            .filter_map(|f| Some((f.id, f.spare?)))
            .collect(),
        notes: Vec::new(),
    };
    judge.keep_room_for_moves_under_way();
    judge.carry_out(plan);
    judge.judge_models(plan);
    judge.judge_displaced(plan);
    judge.judge_pools(plan);
    judge.notes
}

impl Judge<'_> {
    fn note(&mut self, severity: Severity, step: Option<usize>, kind: NoteKind) {
        self.notes.push(Note {
            severity,
            step,
            kind,
        });
    }

    fn fatal(&mut self, step: Option<usize>, kind: NoteKind) {
        self.note(Severity::Fatal, step, kind);
    }

    fn speed(&self, pool: Option<TierId>) -> Option<u64> {
        match pool {
            None => Some(0),
            Some(id) => self
                .snapshot
                .pools
                .iter()
                .find(|p| p.id == id)
                .map(|p| p.speed_bytes_per_sec),
        }
    }

    /// Models on their way will take room for the files that are still missing.
    fn keep_room_for_moves_under_way(&mut self) {
        for model in &self.snapshot.models {
            let Some(to) = model.moving_to else { continue };
            let wanted = self.speed(Some(to));
            for file in self
                .snapshot
                .files
                .iter()
                .filter(|f| model.files.contains(&f.id))
            {
                let there = file.place.is_some() && self.speed(file.place) >= wanted;
                if !there {
                    let free = self.free.entry(to).or_default();
                    *free = free.saturating_sub(file.size_bytes);
                }
            }
        }
    }

    fn carry_out(&mut self, plan: &Plan) {
        let files: BTreeMap<_, _> = self.snapshot.files.iter().map(|f| (f.id, f)).collect();
        let mut moved = BTreeSet::new();
        let demoted_by_hand = self.files_of_wanted_demotions();
        for (step, mv) in plan.moves.iter().enumerate() {
            let at = Some(step);
            let Some(file) = files.get(&mv.file) else {
                self.fatal(at, NoteKind::UnknownFile(mv.file));
                continue;
            };
            let model = self.snapshot.models.iter().find(|m| m.id == mv.model);
            if model.is_none_or(|m| !m.files.contains(&mv.file)) {
                self.fatal(at, NoteKind::UnknownModel(mv.model, mv.file));
            }
            if mv.bytes != file.size_bytes {
                self.fatal(at, NoteKind::WrongSize(mv.file));
            }
            if file.busy {
                self.fatal(at, NoteKind::Busy(mv.file));
            }
            if mv.kind == MoveKind::DropSpare {
                if file.spare_open && !demoted_by_hand.contains(&mv.file) {
                    self.fatal(at, NoteKind::InUse(mv.file));
                }
                self.drop_spare(step, mv, file.spare_open);
                continue;
            }
            if !moved.insert(mv.file) {
                self.note(Severity::Warning, at, NoteKind::MovedTwice(mv.file));
            }
            if self.place[&mv.file] != mv.from {
                self.fatal(at, NoteKind::WrongPlace(mv.file));
            }
            let up = mv.kind == MoveKind::Promote;
            if file.open && !up && mv.from.is_some() && !demoted_by_hand.contains(&mv.file) {
                self.fatal(at, NoteKind::InUse(mv.file));
            }
            self.judge_direction(step, mv.from, mv.to, up, mv.file);
            self.judge_spare(step, mv);
            // What falls back takes room that its copy takes already.
            let copied_to = mv.to.filter(|_| mv.kind != MoveKind::FallBack);
            self.account(
                step,
                mv.from,
                copied_to,
                file.size_bytes,
                file.open || mv.keeps_spare,
            );
            self.place.insert(mv.file, mv.to);
        }
    }

    fn drop_spare(&mut self, step: usize, mv: &Move, in_use: bool) {
        let found = self.spare.remove(&mv.file);
        if found.is_none() || found != mv.from || mv.to.is_some() {
            self.fatal(Some(step), NoteKind::NoSpare(mv.file));
            return;
        }
        self.account(step, mv.from, None, mv.bytes, in_use);
    }

    /// A file has at most one spare, in a slower pool than its place.
    fn judge_spare(&mut self, step: usize, mv: &Move) {
        let at = Some(step);
        let spare = self.spare.get(&mv.file).copied();
        match mv.kind {
            MoveKind::FallBack => {
                if mv.to.is_none() || self.spare.remove(&mv.file) != mv.to {
                    self.fatal(at, NoteKind::NoSpare(mv.file));
                }
                if self
                    .snapshot
                    .pools
                    .iter()
                    .any(|p| Some(p.id) == mv.to && !p.accepts)
                {
                    self.fatal(at, NoteKind::WrongSpare(mv.file));
                }
            }
            _ if spare.is_some() && (spare == mv.to || mv.keeps_spare) => {
                self.fatal(at, NoteKind::SpareTwice(mv.file));
            }
            // Where nothing of it is left, or only what is faster than it is now, is no spare.
            _ if spare.is_some() && (mv.to.is_none() || self.speed(spare) >= self.speed(mv.to)) => {
                self.fatal(at, NoteKind::WrongSpare(mv.file));
            }
            _ => {}
        }
        if !mv.keeps_spare {
            return;
        }
        let goes_up = mv.kind == MoveKind::Promote && self.speed(mv.from) < self.speed(mv.to);
        match mv.from {
            Some(from) if goes_up => {
                self.spare.insert(mv.file, from);
            }
            _ => self.fatal(at, NoteKind::WrongSpare(mv.file)),
        }
    }

    /// Files that may be dropped in use: the user demotes or re-pins their model.
    fn files_of_wanted_demotions(&self) -> BTreeSet<FileRef> {
        let by_hand = self.snapshot.wants.iter().filter(|w| {
            matches!(
                w.kind,
                WantKind::Demote { .. } | WantKind::Promote { pool: Some(_) }
            )
        });
        let ids: BTreeSet<ModelId> = by_hand.map(|w| w.model).collect();
        let models = self.snapshot.models.iter().filter(|m| ids.contains(&m.id));
        models.flat_map(|m| m.files.iter().copied()).collect()
    }

    fn judge_direction(
        &mut self,
        step: usize,
        from: Option<TierId>,
        to: Option<TierId>,
        up: bool,
        file: FileRef,
    ) {
        let (Some(before), Some(after)) = (self.speed(from), self.speed(to)) else {
            for pool in [from, to].into_iter().flatten() {
                if self.speed(Some(pool)).is_none() {
                    self.fatal(Some(step), NoteKind::UnknownPool(pool));
                }
            }
            return;
        };
        let right = if up { after >= before } else { after <= before };
        if !right || from == to {
            self.fatal(Some(step), NoteKind::WrongDirection(file));
        }
    }

    fn account(
        &mut self,
        step: usize,
        from: Option<TierId>,
        to: Option<TierId>,
        bytes: u64,
        open: bool,
    ) {
        if let Some(pool) = to {
            let wants = self.snapshot.wants.iter();
            let mut leaving = wants.filter_map(|want| match want.kind {
                WantKind::Leave { pool } => Some(pool),
                _ => None,
            });
            let mut pools = self.snapshot.pools.iter();
            if leaving.any(|id| id == pool) || pools.any(|p| p.id == pool && !p.accepts) {
                self.fatal(Some(step), NoteKind::PoolClosed(pool));
            }
            let free = self.free.entry(pool).or_default();
            let missing = bytes.saturating_sub(*free);
            *free = free.saturating_sub(bytes);
            if missing > 0 {
                self.fatal(Some(step), NoteKind::OverCapacity(pool, missing));
            }
        }
        if let (Some(pool), false) = (from, open) {
            *self.free.entry(pool).or_default() += bytes;
        }
    }

    fn judge_models(&mut self, plan: &Plan) {
        // Who has only lost a spare is where it was.
        let moves = plan.moves.iter().filter(|m| m.kind != MoveKind::DropSpare);
        let moved: BTreeMap<FileRef, ModelId> = moves.map(|m| (m.file, m.model)).collect();
        let asked: BTreeSet<ModelId> = self
            .snapshot
            .wants
            .iter()
            .filter(|w| matches!(w.kind, WantKind::Promote { .. }))
            .map(|w| w.model)
            .collect();
        for model in &self.snapshot.models {
            let touched: Vec<FileRef> = model
                .files
                .iter()
                .copied()
                .filter(|f| moved.contains_key(f))
                .collect();
            if touched.is_empty() {
                continue;
            }
            let mine = touched.iter().any(|f| moved[f] == model.id);
            if mine && model.moving_to.is_some() {
                self.fatal(None, NoteKind::UnderWay(model.id));
            }
            let was_whole = self.is_whole(model, &self.before);
            let is_whole = self.is_whole(model, &self.place);
            let demoted = self
                .snapshot
                .wants
                .iter()
                .any(|w| w.model == model.id && matches!(w.kind, WantKind::Demote { .. }));
            if model.rule == ModelRule::Always && was_whole && !is_whole && !demoted {
                self.fatal(None, NoteKind::AlwaysDropped(model.id));
            }
            let promoted = plan
                .moves
                .iter()
                .any(|m| m.model == model.id && m.kind == MoveKind::Promote);
            let free_to = model.pin.is_some() || asked.contains(&model.id);
            if model.rule == ModelRule::Never && promoted && !free_to {
                self.fatal(None, NoteKind::NeverPromoted(model.id));
            }
            if promoted && !is_whole || was_whole && !is_whole && self.is_half(&model.files) {
                self.fatal(None, NoteKind::Half(model.id));
            }
            self.judge_pin(model, was_whole, plan);
        }
    }

    /// Whether files remain in pools that belong to no other model that is resident as a whole.
    fn is_half(&self, files: &[FileRef]) -> bool {
        files.iter().any(|file| {
            self.place.get(file).is_some_and(Option::is_some)
                && !self.snapshot.models.iter().any(|m| {
                    m.files.contains(file)
                        && (m.moving_to.is_some()
                            || m.files
                                .iter()
                                .all(|f| self.place.get(f).is_some_and(Option::is_some)))
                })
        })
    }

    /// What is moved up for a pinned model goes to its pool and stays there, and so does what was there while all
    /// of the model was: it ends there, or where a model sharing the file needs it faster. (Of a model that was
    /// not resident as a whole, what is left over may be dropped.)
    fn judge_pin(&mut self, model: &ModelState, was_whole: bool, plan: &Plan) {
        let Some(pool) = model.pin else { return };
        let wanted = self.speed(Some(pool));
        for &file in &model.files {
            let mine = plan.moves.iter().filter(|m| m.file == file);
            let mut mine = mine.filter(|m| m.model == model.id && m.kind == MoveKind::Promote);
            let Some(first) = mine.next() else {
                let (before, after) = (self.before[&file], self.place[&file]);
                let slower = after.is_none() || self.speed(after) < wanted;
                let was_right = before.is_some() && self.speed(before) >= wanted;
                if was_whole && slower && was_right {
                    self.fatal(None, NoteKind::PinBroken(model.id, pool));
                }
                continue;
            };
            let elsewhere = std::iter::once(first)
                .chain(mine)
                .any(|m| m.to != Some(pool));
            let after = self.place[&file];
            if elsewhere || after.is_none() || self.speed(after) < wanted {
                self.fatal(None, NoteKind::PinBroken(model.id, pool));
            }
        }
    }

    /// Nobody makes way for a model of lower priority, or for one that is only brought back after a restart.
    /// What is left over of models that are not resident as a whole is nobody's.
    fn judge_displaced(&mut self, plan: &Plan) {
        for (step, mv) in plan.moves.iter().enumerate() {
            let Reason::MakesRoomFor(by) = mv.reason else {
                continue;
            };
            let find = |id: ModelId| self.snapshot.models.iter().find(|m| m.id == id);
            let (Some(by), Some(victim)) = (find(by), find(mv.model)) else {
                continue;
            };
            let spare_only = mv.kind == MoveKind::DropSpare;
            let is_leftover = !self.is_whole(victim, &self.before);
            if spare_only || is_leftover || by.pin.is_some() || by.rule == ModelRule::Always {
                continue;
            }
            let restored_only = self.is_restored_only(by);
            if victim.priority > by.priority {
                self.fatal(Some(step), NoteKind::Outranked(victim.id, by.id));
            }
            if restored_only {
                self.fatal(Some(step), NoteKind::DisplacedByRestore(victim.id));
            }
        }
    }

    /// Whether all that is wanted of the model is that it comes back after a restart.
    fn is_restored_only(&self, model: &ModelState) -> bool {
        let wants = self.snapshot.wants.iter();
        let mut wants = wants.filter(|want| want.model == model.id).peekable();
        wants.peek().is_some() && wants.all(|want| matches!(want.kind, WantKind::Restore { .. }))
    }

    fn is_whole(&self, model: &ModelState, places: &BTreeMap<FileRef, Option<TierId>>) -> bool {
        let mut files = model.files.iter();
        files.all(|file| places.get(file).is_some_and(Option::is_some))
    }

    fn judge_pools(&mut self, plan: &Plan) {
        for pool in &self.snapshot.pools {
            let owed: u64 = plan
                .report
                .still_owed
                .iter()
                .filter(|&&(id, _)| id == pool.id)
                .map(|&(_, bytes)| bytes)
                .sum();
            // What the plan says it still owes is believed only where it could not have paid.
            let due = pool.give_back_bytes.min(self.droppable_bytes(pool));
            let promised = pool.give_back_bytes.saturating_sub(owed).max(due);
            let free = self.free.get(&pool.id).copied().unwrap_or(0);
            if free < promised {
                self.fatal(None, NoteKind::NotGivenBack(pool.id, promised - free));
            }
        }
    }

    /// At least so much could have been given back by the pool: spares and files that nothing keeps there.
    fn droppable_bytes(&self, pool: &PoolState) -> u64 {
        if pool.give_back_bytes == 0 {
            return 0;
        }
        let files = &self.snapshot.files;
        let files: BTreeMap<FileRef, &FileState> = files.iter().map(|f| (f.id, f)).collect();
        let is_calm = |file: &FileState| {
            let elsewhere = file.place.is_some() && file.place != Some(pool.id);
            !(file.open || file.busy || file.spare_open || elsewhere)
        };
        let is_free = |model: &ModelState| {
            let is_held = self.is_whole(model, &self.before) || model.moving_to.is_some();
            let may_go = model.pin.is_none()
                && model.rule != ModelRule::Always
                && model.moving_to.is_none()
                && model.files.iter().all(|file| is_calm(files[file]));
            !is_held || may_go
        };
        // Per file: whether anybody has it, and whether all of those let it go.
        let mut users: BTreeMap<FileRef, (bool, bool)> = BTreeMap::new();
        for model in &self.snapshot.models {
            let (moving, free) = (model.moving_to.is_some(), is_free(model));
            for &file in &model.files {
                let (still, loose) = users.entry(file).or_insert((true, true));
                *still &= !moving;
                *loose &= free;
            }
        }
        let mut bytes = 0;
        for file in files.values() {
            let Some(&(still, loose)) = users.get(&file.id) else {
                continue;
            };
            let is_spare = file.spare == Some(pool.id) && still && !file.spare_open && !file.busy;
            let is_here = file.place == Some(pool.id) && loose && is_calm(file);
            if is_spare || is_here {
                bytes += file.size_bytes;
            }
        }
        bytes
    }
}
