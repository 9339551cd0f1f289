//! The planner's board: the snapshot with every planned move already made.
//!
//! Turns "models in pools" ([`Pools`], which rules understand) into files: a file shared by
//! several models is held as long as one of the resident ones stays, so displacing a model frees
//! only what nobody else holds. Space is only ever counted as free when it is: a file that is
//! open frees nothing when it leaves, and a file going up frees its old place after the copy.
//! What it leaves there stays as a spare, which is free room too: when that is used, the spares of
//! the hottest models go first. Emits moves in the order in which they are possible. Decides nothing
//! by itself.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::decide::Pools;
use crate::eviction::{self, Yard};
use crate::ids::{FileRef, ModelId, TierId};
use crate::learned::Learned;
use crate::lookup::Lookup;
use crate::report::{Move, MoveKind, Reason};
use crate::rule::Index;
use crate::snapshot::{ModelRule, ModelState, Snapshot, Tiers};

/// What can leave a pool: a model, or a file that no resident model holds. By position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Piece {
    /// A file left over from a model that is not resident as a whole.
    Leftover(usize),
    /// A model.
    Model(usize),
}

struct FileOnBoard {
    id: FileRef,
    bytes: u64,
    place: Option<usize>,
    open: bool,
    busy: bool,
    spare: Option<Spare>,
    /// Resident models (and the one under consideration) that keep it.
    holders: u32,
    /// Moved by this plan already: stays where it was put.
    moved: bool,
    /// Tried on paper to let go, as a leftover.
    released: bool,
}

/// A copy in a slower pool than where the file is served from.
#[derive(Clone, Copy)]
struct Spare {
    rank: usize,
    /// Not free room: it is in use, or its model is being moved.
    fixed: bool,
    /// It is there only once this move of the plan is done.
    left_by: Option<usize>,
}

/// Lists of positions, one for each of many things, in one piece of memory.
#[derive(Default)]
struct Lists {
    ends: Vec<usize>,
    items: Vec<usize>,
}

impl Lists {
    /// The list at `at`.
    fn of(&self, at: usize) -> &[usize] {
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.items[start..self.ends[at]]
    }

    /// One list more.
    fn add(&mut self, list: impl Iterator<Item = usize>) {
        self.items.extend(list);
        self.ends.push(self.items.len());
    }

    /// For each of `count` items, the positions of the lists it is in.
    fn turned(&self, count: usize) -> Self {
        let mut ends = vec![0; count];
        self.items.iter().for_each(|&item| ends[item] += 1);
        let mut sum = 0;
        for end in &mut ends {
            sum += std::mem::replace(end, sum);
        }
        // Until all are filled in, each of `ends` is where its next one goes.
        let mut items = vec![0; self.items.len()];
        for list in 0..self.ends.len() {
            for &item in self.of(list) {
                items[ends[item]] = list;
                ends[item] += 1;
            }
        }
        Self { ends, items }
    }
}

/// An `f64` that orders.
#[derive(Clone, Copy, PartialEq)]
struct Worth(f64);
impl Eq for Worth {}
impl PartialOrd for Worth {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Worth {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// See the module.
pub struct Board<'a> {
    pub snapshot: &'a Snapshot,
    pub learned: &'a Learned,
    pub tiers: Tiers,
    /// By rank: may be put into, and configured position.
    pub accepts: Vec<bool>,
    pub configured: Vec<usize>,
    /// Free room, spares that may go included; and these alone.
    free: Vec<u64>,
    spare_bytes: Vec<u64>,
    /// Whose spares go next, by rank, from when it is first asked; some have gone already.
    spares: Vec<Option<BinaryHeap<(Worth, usize)>>>,
    files: Vec<FileOnBoard>,
    /// Files by model, models by file, and which models count as resident.
    files_of: Lists,
    users_of: Lists,
    holds: Vec<bool>,
    /// Models that nothing else may displace in this plan.
    kept: Vec<bool>,
    model_at: Lookup<ModelId>,
    /// Files moved so far.
    moved: Vec<usize>,
    moves: Vec<Move>,
    /// Why files that go up or are asked to move do so, and on whose behalf others leave.
    pub reason: Reason,
    pub makes_room: Reason,
    displaced: Vec<ModelId>,
    /// The rank that `release` counts bytes of.
    yard: usize,
}

impl<'a> Board<'a> {
    /// The snapshot, nothing moved. The snapshot must be without fault.
    pub fn new(learned: &'a Learned, snapshot: &'a Snapshot) -> Self {
        let tiers = Tiers::of(snapshot);
        let ranks = Lookup::new(tiers.pools.iter().map(|&(id, ..)| id));
        let rank_of = |pool: TierId| ranks.get(pool).unwrap_or_default();
        let mut board = Self {
            snapshot,
            learned,
            accepts: vec![false; tiers.pools.len()],
            configured: vec![0; tiers.pools.len()],
            free: vec![0; tiers.pools.len()],
            spare_bytes: vec![0; tiers.pools.len()],
            spares: vec![None; tiers.pools.len()],
            files: Vec::with_capacity(snapshot.files.len()),
            files_of: Lists::default(),
            users_of: Lists::default(),
            holds: vec![false; snapshot.models.len()],
            kept: vec![false; snapshot.models.len()],
            model_at: Lookup::new(snapshot.models.iter().map(|m| m.id)),
            moved: Vec::new(),
            moves: Vec::new(),
            reason: Reason::Requested,
            makes_room: Reason::Requested,
            displaced: Vec::new(),
            yard: 0,
            tiers,
        };
        for (at, pool) in snapshot.pools.iter().enumerate() {
            let rank = rank_of(pool.id);
            board.accepts[rank] = pool.accepts;
            board.configured[rank] = at;
            board.free[rank] = pool.free_bytes;
        }
        let file_at = Lookup::new(snapshot.files.iter().map(|f| f.id));
        for file in &snapshot.files {
            board.files.push(FileOnBoard {
                id: file.id,
                bytes: file.size_bytes,
                place: file.place.map(rank_of),
                open: file.open,
                busy: file.busy,
                spare: file.spare.map(|pool| Spare {
                    rank: rank_of(pool),
                    fixed: file.spare_open || file.busy,
                    left_by: None,
                }),
                holders: 0,
                moved: false,
                released: false,
            });
        }
        for model in &snapshot.models {
            let files = model.files.iter().filter_map(|&id| file_at.get(id));
            board.files_of.add(files);
        }
        board.users_of = board.files_of.turned(board.files.len());
        board.count_spares();
        for at in 0..board.models() {
            let moving = snapshot.models[at].moving_to.map(rank_of);
            if let Some(rank) = moving {
                let missing = board.need_bytes(Piece::Model(at), rank);
                board.free[rank] = board.free[rank].saturating_sub(missing);
            }
            if moving.is_some() || board.place(Piece::Model(at)).is_some() {
                board.hold(at);
            }
        }
        board
    }

    /// Spares that may go are free room.
    fn count_spares(&mut self) {
        for at in 0..self.files.len() {
            let users = self.users_of.of(at);
            let moves = |&user: &usize| self.state(user).moving_to.is_some();
            let stays = users.is_empty() || users.iter().any(moves);
            let file = &mut self.files[at];
            if let Some(spare) = &mut file.spare {
                spare.fixed |= stays;
                if !spare.fixed {
                    self.free[spare.rank] += file.bytes;
                    self.spare_bytes[spare.rank] += file.bytes;
                }
            }
        }
    }

    /// Position of a model.
    pub fn find(&self, model: ModelId) -> Option<usize> {
        self.model_at.get(model)
    }

    /// What the snapshot says about the model at `at`.
    pub fn state(&self, at: usize) -> &'a ModelState {
        &self.snapshot.models[at]
    }

    /// How many models are there.
    pub fn models(&self) -> usize {
        self.holds.len()
    }

    /// Moves so far, and whom they displaced since the last call.
    pub fn take_displaced(&mut self) -> Vec<ModelId> {
        std::mem::take(&mut self.displaced)
    }

    /// Gives the promotions of `model` their reason once the figures are known.
    pub fn explain_moves(&mut self, model: ModelId, reason: Reason) {
        let ups = self.moves.iter_mut().rev().take_while(|m| m.model == model);
        ups.filter(|m| m.kind == MoveKind::Promote)
            .for_each(|m| m.reason = reason);
    }

    /// All moves.
    pub fn into_moves(self) -> Vec<Move> {
        self.moves
    }

    /// (all bytes, bytes in pools) of a model.
    pub fn bytes_of(&self, at: usize) -> (u64, u64) {
        let sum = |resident: bool| {
            let files = self.files_of.of(at).iter().map(|&f| &self.files[f]);
            files
                .filter(|f| !resident || f.place.is_some())
                .map(|f| f.bytes)
                .sum()
        };
        (sum(false), sum(true))
    }

    /// Positions of a model's files.
    pub fn files_of(&self, at: usize) -> &[usize] {
        self.files_of.of(at)
    }

    /// Bytes of the file at `file`.
    pub fn file_bytes(&self, file: usize) -> u64 {
        self.files[file].bytes
    }

    /// A file of the model that would have to move to reach `rank` but must not, or is moved by
    /// this plan already.
    pub fn busy_file(&self, at: usize, rank: usize) -> Option<FileRef> {
        let mut files = self.files_of.of(at).iter().map(|&f| &self.files[f]);
        files
            .find(|f| (f.busy || f.moved) && f.place.is_none_or(|p| p > rank))
            .map(|f| f.id)
    }

    /// Whether any replica of the model is open or must not move.
    pub fn in_use(&self, at: usize) -> bool {
        let mut files = self.files_of.of(at).iter().map(|&f| &self.files[f]);
        files.any(FileOnBoard::stays)
    }

    /// Whether any file of the model lies at `rank`.
    pub fn is_at(&self, at: usize, rank: usize) -> bool {
        let mut files = self.files_of.of(at).iter().map(|&f| &self.files[f]);
        files.any(|f| f.place == Some(rank))
    }

    /// Where a model is pinned to that has any of the model's files at `rank`, the model itself among them.
    pub fn pin_at(&self, at: usize, rank: usize) -> Option<TierId> {
        let files = self.files_of.of(at).iter();
        let here = files.filter(|&&file| self.files[file].place == Some(rank));
        let mut users = here.flat_map(|&file| self.users_of.of(file));
        users.find_map(|&user| self.state(user).pin)
    }

    /// A file of the model at `rank` that is open or must not move.
    pub fn stays_at(&self, at: usize, rank: usize) -> Option<FileRef> {
        let files = self.files_of.of(at).iter().map(|&f| &self.files[f]);
        let mut here = files.filter(|f| f.place == Some(rank));
        here.find(|f| f.stays()).map(|f| f.id)
    }

    /// What the model's files at `from` take at `to`: a copy that is in use there already takes no more.
    pub fn bytes_from(&self, at: usize, from: usize, to: usize) -> u64 {
        let files = self.files_of.of(at).iter().map(|&f| &self.files[f]);
        let in_use = |f: &FileOnBoard| f.spare.is_some_and(|s| s.fixed && s.rank == to);
        let here = files.filter(|f| f.place == Some(from) && !in_use(f));
        here.map(|f| f.bytes).sum()
    }

    /// A file of the model in a pool that must not move.
    pub fn busy_replica(&self, at: usize) -> Option<FileRef> {
        let mut files = self.files_of.of(at).iter().map(|&f| &self.files[f]);
        files
            .find(|f| (f.busy || f.moved) && f.place.is_some())
            .map(|f| f.id)
    }

    /// Whether the model counts as resident.
    pub fn is_held(&self, at: usize) -> bool {
        self.holds[at]
    }

    /// Bytes of the model's files in pools faster than `rank`: all of them, or those only it holds.
    pub fn bytes_above(&self, at: usize, rank: usize, all: bool) -> u64 {
        let files = self.files_of.of(at).iter().map(|&f| &self.files[f]);
        let above = files.filter(|f| (all || f.holders <= 1) && f.place.is_some_and(|p| p < rank));
        above.map(|f| f.bytes).sum()
    }

    /// Of [`Board::bytes_above`], what takes room at `rank` when it goes there: a copy that is in use
    /// there already takes no more.
    pub fn room_for(&self, at: usize, rank: usize, all: bool) -> u64 {
        let in_use = |f: &FileOnBoard| f.spare.is_some_and(|s| s.fixed && s.rank == rank);
        let files = self.files_of.of(at).iter().map(|&f| &self.files[f]);
        let there = files.filter(|f| in_use(f) && (all || f.holders <= 1));
        let there: u64 = there.map(|f| f.bytes).sum();
        self.bytes_above(at, rank, all).saturating_sub(there)
    }

    /// The rank where the model's spare is, if all its files have one there.
    pub fn spare_of(&self, at: usize) -> Option<usize> {
        let spare = |&file: &usize| self.files[file].spare.map(|spare| spare.rank);
        let files = self.files_of.of(at);
        let rank = spare(files.first()?)?;
        files
            .iter()
            .all(|file| spare(file) == Some(rank))
            .then_some(rank)
    }

    /// How many models are held whose slowest file is at `rank`.
    pub fn models_at(&self, rank: usize) -> usize {
        let held = (0..self.models()).filter(|&at| self.holds[at]);
        held.filter(|&at| self.place(Piece::Model(at)) == Some(rank))
            .count()
    }

    /// From now on nothing displaces the model.
    pub fn keep(&mut self, at: usize) {
        self.kept[at] = true;
    }

    /// Keeps the model's files while it is considered.
    pub fn begin(&mut self, at: usize) {
        self.hold(at);
    }

    /// Ends `begin`: what did not become resident is no longer kept.
    pub fn end(&mut self, at: usize) {
        if self.place(Piece::Model(at)).is_none() && self.state(at).moving_to.is_none() {
            self.let_go(at);
        }
    }

    fn hold(&mut self, at: usize) {
        if !std::mem::replace(&mut self.holds[at], true) {
            for &file in self.files_of.of(at) {
                self.files[file].holders += 1;
            }
        }
    }

    fn let_go(&mut self, at: usize) {
        if std::mem::replace(&mut self.holds[at], false) {
            for &file in self.files_of.of(at) {
                self.files[file].holders -= 1;
            }
        }
    }

    /// Bytes of the file that may not be given to anybody, because they were given back.
    pub fn withhold(&mut self, rank: usize, bytes: u64) {
        self.free[rank] = self.free[rank].saturating_sub(bytes);
    }

    /// What could be free at `rank` if everything that may leave for `keep` left, in the order of
    /// `index`.
    pub fn available_bytes(&mut self, rank: usize, index: Index, keep: Option<usize>) -> u64 {
        self.yard = rank;
        let order: Vec<Piece> = self.leavers(rank, index, keep).collect();
        let mut gone = Vec::with_capacity(order.len());
        let mut bytes = self.free[rank];
        for piece in order {
            if let Some(freed) = self.release(piece) {
                bytes += freed;
                gone.push(piece);
            }
        }
        for piece in gone.into_iter().rev() {
            self.restore(piece);
        }
        bytes
    }

    /// What may leave `rank` for the sake of `keep` (of anybody), least worth first.
    fn leavers(
        &self,
        rank: usize,
        index: Index,
        keep: Option<usize>,
    ) -> impl Iterator<Item = Piece> + use<> {
        let priority_max = keep.map_or(i32::MAX, |at| self.state(at).priority_for_room());
        let here = |file: &FileOnBoard| file.place == Some(rank);
        let mut heap = BinaryHeap::new();
        for (at, file) in self.files.iter().enumerate() {
            if here(file) && file.holders == 0 && !self.users_of.of(at).is_empty() {
                heap.push(Reverse((i32::MIN, Worth(0.0), Piece::Leftover(at))));
            }
        }
        for at in 0..self.models() {
            let state = self.state(at);
            let stays = !self.holds[at]
                || Some(at) == keep
                || self.kept[at]
                || state.pin.is_some()
                || state.rule == ModelRule::Always
                || state.moving_to.is_some()
                || state.priority > priority_max;
            if !stays && self.files_of.of(at).iter().any(|&f| here(&self.files[f])) {
                let worth = Worth(self.learned.index(state.id, index));
                heap.push(Reverse((state.priority, worth, Piece::Model(at))));
            }
        }
        std::iter::from_fn(move || heap.pop().map(|Reverse((_, _, piece))| piece))
    }

    /// Whom to displace at `rank` for `keep`, or for nobody in particular.
    pub fn choose(
        &mut self,
        rank: usize,
        need_bytes: u64,
        index: Index,
        keep: Option<usize>,
    ) -> Option<Vec<(Piece, u64)>> {
        let missing = need_bytes.saturating_sub(self.free[rank]);
        if missing == 0 {
            return Some(Vec::new());
        }
        self.yard = rank;
        let order = self.leavers(rank, index, keep);
        eviction::victims(self, missing, order)
    }

    /// Drops spares at `rank` until `bytes` have become free, or none is left; the bytes freed.
    pub fn drop_spares(&mut self, rank: usize, bytes: u64, reason: Reason) -> u64 {
        let mut freed = 0;
        while freed < bytes {
            let Some(file) = self.next_spare(rank) else {
                break;
            };
            freed += self.files[file].bytes;
            self.drop_spare(file, reason);
        }
        freed
    }

    /// The file whose spare at `rank` goes next: that of the hottest model, which stays longest where
    /// it is. Files of no bytes never go.
    fn next_spare(&mut self, rank: usize) -> Option<usize> {
        let mut order = self.spares[rank].take().unwrap_or_else(|| {
            let all = (0..self.files.len()).filter(|&file| self.is_spare(file, rank));
            all.map(|file| (self.heat_of(file), file)).collect()
        });
        let mut next = order.pop();
        while next.is_some_and(|(_, file)| !self.is_spare(file, rank)) {
            next = order.pop();
        }
        self.spares[rank] = Some(order);
        next.map(|(_, file)| file)
    }

    /// Whether the file has a spare at `rank` that may go, and frees something.
    fn is_spare(&self, file: usize, rank: usize) -> bool {
        let file = &self.files[file];
        let may_go = |spare: Spare| spare.rank == rank && !spare.fixed;
        file.bytes > 0 && file.spare.is_some_and(may_go)
    }

    /// The heat of the hottest model with this file.
    fn heat_of(&self, file: usize) -> Worth {
        let heat = |&at: &usize| Worth(self.learned.heat(self.state(at).id));
        let users = self.users_of.of(file).iter();
        users.map(heat).max().unwrap_or(Worth(0.0))
    }

    /// Drops a file's spare; one that is only going to be left behind is not left.
    fn drop_spare(&mut self, file: usize, reason: Reason) {
        let on_board = &mut self.files[file];
        let Some(spare) = on_board.spare.take() else {
            return;
        };
        if !spare.fixed {
            self.spare_bytes[spare.rank] -= on_board.bytes;
        }
        if let Some(left_by) = spare.left_by {
            self.moves[left_by].keeps_spare = false;
            return;
        }
        let Some(&model) = self.users_of.of(file).first() else {
            return;
        };
        self.moves.push(Move {
            file: on_board.id,
            model: self.snapshot.models[model].id,
            kind: MoveKind::DropSpare,
            from: Some(self.tiers.pools[spare.rank].0),
            to: None,
            bytes: on_board.bytes,
            keeps_spare: false,
            reason,
        });
    }

    /// Takes `bytes` of the free room at `rank`; spares that lie in it go.
    fn take_room(&mut self, rank: usize, bytes: u64, reason: Reason) {
        self.free[rank] = self.free[rank].saturating_sub(bytes);
        while self.spare_bytes[rank] > self.free[rank] {
            let Some(file) = self.next_spare(rank) else {
                break;
            };
            self.drop_spare(file, reason);
        }
    }

    /// Whether reading from the pool at `rank` takes longer than from that at `other`.
    fn is_slower(&self, rank: usize, other: usize) -> bool {
        self.tiers.pools[rank].1 < self.tiers.pools[other].1
    }

    /// Moves one file, and accounts for it.
    fn move_file(&mut self, file: usize, to: Option<usize>, model: usize, reason: Reason) {
        let from = self.files[file].place;
        if from == to {
            return;
        }
        let makes_room = Reason::MakesRoomFor(self.snapshot.models[model].id);
        let faster = |rank: Option<usize>| rank.unwrap_or(usize::MAX);
        let up = faster(to) < faster(from);
        let spare = self.files[file].spare;
        let falls_back = spare.filter(|spare| Some(spare.rank) == to);
        if let (Some(spare), None) = (spare, falls_back) {
            let replaced = up && from.is_some() && !spare.fixed;
            let is_slower = to.is_some_and(|to| self.is_slower(spare.rank, to));
            if replaced || !is_slower {
                self.drop_spare(file, reason);
            }
        }
        let (bytes, open) = (self.files[file].bytes, self.files[file].open);
        if let Some(spare) = falls_back {
            if !spare.fixed {
                // Less than the spares may be free: what is on its way has room set aside.
                self.free[spare.rank] = self.free[spare.rank].saturating_sub(bytes);
                self.spare_bytes[spare.rank] -= bytes;
            }
            self.files[file].spare = None;
        } else if let Some(rank) = to {
            self.take_room(rank, bytes, makes_room);
        }
        let keeps = match (from, to) {
            (Some(from), Some(to)) if up && self.files[file].spare.is_none() => {
                self.accepts[from] && self.is_slower(from, to)
            }
            _ => false,
        };
        if let Some(rank) = from {
            if !open {
                self.free[rank] += bytes;
            }
            if keeps {
                self.files[file].spare = Some(Spare {
                    rank,
                    fixed: open,
                    left_by: Some(self.moves.len()),
                });
                if !open {
                    self.spare_bytes[rank] += bytes;
                    let heat = self.heat_of(file);
                    if let Some(order) = &mut self.spares[rank] {
                        order.push((heat, file));
                    }
                }
            }
        }
        let on_board = &mut self.files[file];
        on_board.place = to;
        on_board.moved = true;
        self.moved.push(file);
        let kind = match (up, falls_back) {
            (true, _) => MoveKind::Promote,
            (false, Some(_)) => MoveKind::FallBack,
            (false, None) => MoveKind::Demote,
        };
        self.moves.push(Move {
            file: on_board.id,
            model: self.snapshot.models[model].id,
            kind,
            from: from.map(|rank| self.tiers.pools[rank].0),
            to: to.map(|rank| self.tiers.pools[rank].0),
            bytes,
            keeps_spare: keeps,
            reason,
        });
    }

    /// Lets a model go from its place (all of its files that nobody else holds) to a slower pool,
    /// or home.
    pub fn send_down(&mut self, at: usize, to: Option<usize>, reason: Reason) {
        self.let_go(at);
        for file in self.files_of.of(at).to_vec() {
            let f = &self.files[file];
            let down = f.place.is_some_and(|rank| to.is_none_or(|to| rank < to));
            if f.holders == 0 && down && !f.busy {
                self.move_file(file, to, at, reason);
            }
        }
    }

    /// Takes what a model has at `from` to another pool, whoever shares it.
    pub fn leave(&mut self, at: usize, from: usize, to: usize, reason: Reason) {
        for file in self.files_of.of(at).to_vec() {
            if self.files[file].place == Some(from) {
                self.move_file(file, Some(to), at, reason);
            }
        }
        self.settle();
    }

    /// Holds again what is resident as a whole after a round of moves.
    pub fn settle(&mut self) {
        let mut users: Vec<usize> = Vec::new();
        for &file in &self.moved {
            users.extend(self.users_of.of(file));
        }
        users.sort_unstable();
        users.dedup();
        for at in users {
            if self.place(Piece::Model(at)).is_some() {
                self.hold(at);
            }
        }
    }
}

impl FileOnBoard {
    /// Whether its copies in pools must stay where they are.
    fn stays(&self) -> bool {
        let spare_in_use = self.spare.is_some_and(|spare| spare.fixed);
        self.place.is_some() && (self.open || spare_in_use || self.busy || self.moved)
    }
}

impl ModelState {
    /// Whom it may displace: those of at most this priority.
    fn priority_for_room(&self) -> i32 {
        if self.pin.is_some() || self.rule == ModelRule::Always {
            i32::MAX
        } else {
            self.priority
        }
    }
}

impl Yard for Board<'_> {
    type Object = Piece;

    fn release(&mut self, piece: Piece) -> Option<u64> {
        let yard = self.yard;
        match piece {
            Piece::Leftover(at) => {
                let file = &mut self.files[at];
                let may = !(file.stays() || file.released);
                file.released |= may;
                may.then_some(file.bytes)
            }
            Piece::Model(at) => {
                let stays = |f: &FileOnBoard| f.holders == 1 && f.stays();
                if self.files_of.of(at).iter().any(|&f| stays(&self.files[f])) {
                    return None;
                }
                let mut bytes = 0;
                for &file in self.files_of.of(at) {
                    let f = &mut self.files[file];
                    f.holders -= 1;
                    if f.holders == 0 && f.place == Some(yard) {
                        bytes += f.bytes;
                    }
                }
                Some(bytes)
            }
        }
    }

    fn restore(&mut self, piece: Piece) -> u64 {
        match piece {
            Piece::Leftover(at) => {
                self.files[at].released = false;
                self.files[at].bytes
            }
            Piece::Model(at) => {
                let mut bytes = 0;
                for &file in self.files_of.of(at) {
                    let f = &mut self.files[file];
                    f.holders += 1;
                    if f.holders == 1 && f.place == Some(self.yard) {
                        bytes += f.bytes;
                    }
                }
                bytes
            }
        }
    }
}

impl Pools for Board<'_> {
    type Object = Piece;

    fn count(&self) -> usize {
        self.free.len()
    }

    fn secs_per_byte(&self, rank: Option<usize>) -> f64 {
        self.tiers.secs_per_byte(rank)
    }

    fn copy_secs_per_byte(&self, _from: Option<usize>) -> f64 {
        0.0
    }

    fn place(&self, piece: Piece) -> Option<usize> {
        let Piece::Model(at) = piece else { return None };
        let mut slowest = None;
        for &file in self.files_of.of(at) {
            slowest = slowest.max(Some(self.files[file].place?));
        }
        slowest
    }

    fn need_bytes(&self, piece: Piece, rank: usize) -> u64 {
        let Piece::Model(at) = piece else { return 0 };
        let files = self.files_of.of(at).iter().map(|&f| &self.files[f]);
        files
            .filter(|f| f.place.is_none_or(|p| p > rank))
            .map(|f| f.bytes)
            .sum()
    }

    fn free_bytes(&self, rank: usize) -> u64 {
        self.free[rank]
    }

    fn can_hold(&self, piece: Piece, rank: usize) -> bool {
        let Piece::Model(at) = piece else {
            return false;
        };
        self.accepts[rank]
            && self.need_bytes(piece, rank) <= self.tiers.pools[rank].2
            && self
                .state(at)
                .pin
                .is_none_or(|pool| pool == self.tiers.pools[rank].0)
    }

    /// A model that shares files with another resident one is not kept in a slower pool: one of
    /// the two would be torn apart, or the other slowed down.
    fn keep_bytes(&self, piece: Piece, rank: usize) -> Option<u64> {
        let Piece::Model(at) = piece else { return None };
        let shared = self
            .files_of
            .of(at)
            .iter()
            .any(|&f| self.files[f].holders > 1);
        let bytes = self.room_for(at, rank, false);
        (!shared && self.accepts[rank] && bytes <= self.tiers.pools[rank].2).then_some(bytes)
    }

    fn index(&self, piece: Piece, index: Index) -> f64 {
        match piece {
            Piece::Leftover(_) => 0.0,
            Piece::Model(at) => self.learned.index(self.state(at).id, index),
        }
    }

    fn victims(
        &mut self,
        rank: usize,
        need_bytes: u64,
        index: Index,
        keep: Piece,
    ) -> Option<Vec<(Piece, u64)>> {
        let keep = match keep {
            Piece::Model(at) => Some(at),
            Piece::Leftover(_) => None,
        };
        self.choose(rank, need_bytes, index, keep)
    }

    fn yields(&self, piece: Piece, to: Piece) -> bool {
        match (piece, to) {
            (Piece::Model(at), Piece::Model(to)) => {
                self.state(at).priority < self.state(to).priority
            }
            _ => false,
        }
    }

    fn spare(&self, piece: Piece) -> Option<usize> {
        let Piece::Model(at) = piece else { return None };
        self.spare_of(at).filter(|&rank| self.accepts[rank])
    }

    fn demote(&mut self, piece: Piece, _from: usize, to: Option<usize>) {
        match piece {
            Piece::Leftover(file) => {
                if let Some(&model) = self.users_of.of(file).first() {
                    self.move_file(file, None, model, Reason::Leftover);
                }
            }
            Piece::Model(at) => {
                self.displaced.push(self.state(at).id);
                self.send_down(at, to, self.makes_room);
            }
        }
    }

    fn lift(&mut self, _piece: Piece) {}

    fn put(&mut self, piece: Piece, rank: usize) {
        let Piece::Model(at) = piece else { return };
        for file in self.files_of.of(at).to_vec() {
            if self.files[file].place.is_none_or(|p| p > rank) {
                self.move_file(file, Some(rank), at, self.reason);
            }
        }
        self.settle();
    }
}
