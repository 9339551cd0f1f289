//! Pools on paper: who would be where if one rule had ruled alone, and what that would have cost.
//!
//! Holds only metadata of models as wholes, by slot. Keeps, for every index its rule may ask for,
//! the models of each pool in the order of that index, so that victims are found without looking
//! at the rest. Applies no rule itself: [`View`] is what [`crate::decide::open`] works on.

use std::collections::BTreeSet;

use crate::chain::{Chains, NONE};
use crate::decide::Pools;
use crate::heat::{HeatClock, Memory};
use crate::known::{Known, KnownModels};
use crate::params::Moves;
use crate::reuse::{CELLS, Reuse};
use crate::rule::{HEATS, Index, Rule};
use crate::snapshot::Tiers;

/// An `f64` as bits that order like it.
fn ordered(value: f64) -> u64 {
    let bits = value.to_bits();
    if bits >> 63 == 1 {
        !bits
    } else {
        bits | 1 << 63
    }
}

/// The models of one pool in the order of one heat index.
type HeatOrder = BTreeSet<(u64, u32)>;

/// Which cells of the pool are not empty, by position in the order of worth.
#[derive(Clone, Debug, PartialEq)]
struct Mask(Vec<u64>);

impl Mask {
    fn new() -> Self {
        Self(vec![0; CELLS.div_ceil(64)])
    }
    fn set(&mut self, at: usize, on: bool) {
        let bit = 1 << (at % 64);
        if on {
            self.0[at / 64] |= bit
        } else {
            self.0[at / 64] &= !bit
        }
    }
    /// The first position from `at` on that is not empty.
    fn next(&self, at: usize) -> Option<usize> {
        let mut word = at / 64;
        let mut bits = self.0.get(word)? & (u64::MAX << (at % 64));
        while bits == 0 {
            word += 1;
            bits = *self.0.get(word)?;
        }
        Some(word * 64 + bits.trailing_zeros() as usize)
    }
}

#[derive(Clone, Debug, PartialEq)]
struct ShadowPool {
    used_bytes: u64,
    models: u64,
    /// Copies left behind by models that are in a faster pool now: free room until it is needed.
    spare_bytes: u64,
    /// Their models, coldest first: the coldest is the next to come back.
    spares: HeatOrder,
    /// By those of [`HEATS`]; `None`: nobody asks.
    orders: [Option<HeatOrder>; HEATS.len()],
    mask: Option<Mask>,
}

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Shadow {
    pools: Vec<ShadowPool>,
    capacities: Vec<u64>,
    place: Vec<u8>,
    spare: Vec<u8>,
    cells: Chains,
    /// Bytes that demotions of the last load copied, by rank.
    demoted: Vec<u64>,
}

/// In no pool.
const NOWHERE: u8 = u8::MAX;

impl Shadow {
    /// Empty pools like those of `tiers`, for one rule or (`None`) for any.
    pub fn new(tiers: &Tiers, rule: Option<&Rule>) -> Self {
        let count = tiers.pools.len();
        let pool = |rank: usize| {
            let asked = |index: Index| {
                rule.is_none_or(|rule| {
                    rule.hold == index || rule.split == index && rank + 1 < count
                })
            };
            ShadowPool {
                used_bytes: 0,
                models: 0,
                spare_bytes: 0,
                spares: HeatOrder::new(),
                orders: HEATS.map(|index| asked(index).then(HeatOrder::new)),
                mask: asked(Index::Reuse).then(Mask::new),
            }
        };
        let pools: Vec<_> = (0..count).map(pool).collect();
        let by_cell = pools.iter().any(|p| p.mask.is_some());
        Self {
            cells: Chains::new(if by_cell { count * CELLS } else { 0 }),
            demoted: vec![0; count],
            capacities: tiers
                .pools
                .iter()
                .map(|&(_, _, capacity)| capacity)
                .collect(),
            place: Vec::new(),
            spare: Vec::new(),
            pools,
        }
    }

    /// The rank where a model is.
    pub fn place(&self, slot: u32) -> Option<usize> {
        let place = self.place.get(slot as usize).copied().unwrap_or(NOWHERE);
        (place != NOWHERE).then_some(usize::from(place))
    }

    /// The rank of the pool where a model left a copy behind.
    pub fn spare(&self, slot: u32) -> Option<usize> {
        let spare = self.spare.get(slot as usize).copied().unwrap_or(NOWHERE);
        (spare != NOWHERE).then_some(usize::from(spare))
    }

    /// Bytes of spares, by rank.
    pub fn spare_bytes(&self, rank: usize) -> u64 {
        self.pools[rank].spare_bytes
    }

    /// Notes that a model has a spare; of several the last.
    pub fn keep_spare(&mut self, slot: u32, rank: usize, known: &Known) {
        self.drop_spare(slot, known);
        if self.spare.len() <= slot as usize {
            self.spare.resize(slot as usize + 1, NOWHERE);
        }
        self.spare[slot as usize] = rank as u8;
        self.pools[rank].spare_bytes += known.bytes;
        self.pools[rank].spares.insert((spare_key(known), slot));
    }

    fn drop_spare(&mut self, slot: u32, known: &Known) {
        let Some(rank) = self.spare(slot) else { return };
        self.spare[slot as usize] = NOWHERE;
        self.pools[rank].spare_bytes -= known.bytes;
        self.pools[rank].spares.remove(&(spare_key(known), slot));
    }

    /// Drops spares until the pool holds no more than it can: those of the hottest models first,
    /// which stay longest where they are.
    fn fit(&mut self, rank: usize, models: &KnownModels) {
        let capacity = self.capacities[rank];
        loop {
            let pool = &self.pools[rank];
            let (true, Some(&(_, slot))) = (
                pool.used_bytes.saturating_add(pool.spare_bytes) > capacity,
                pool.spares.last(),
            ) else {
                return;
            };
            self.drop_spare(slot, models.get(slot));
        }
    }

    /// How many models it holds.
    pub fn models(&self) -> u64 {
        self.pools.iter().map(|p| p.models).sum()
    }

    /// Bytes used, by rank.
    pub fn used_bytes(&self, rank: usize) -> u64 {
        self.pools[rank].used_bytes
    }

    /// Bytes that were demoted since the last call, by rank they went to.
    pub fn take_demoted(&mut self, mut each: impl FnMut(usize, u64)) {
        for (rank, bytes) in self.demoted.iter_mut().enumerate() {
            if *bytes > 0 {
                each(rank, std::mem::take(bytes));
            }
        }
    }

    /// Takes a model out of all orders because its figures are about to change; [`Shadow::file`]
    /// puts it back.
    pub fn unfile(&mut self, slot: u32, known: &Known, reuse: &Reuse) {
        if let Some(rank) = self.spare(slot) {
            self.pools[rank].spares.remove(&(spare_key(known), slot));
        }
        let Some(rank) = self.place(slot) else { return };
        let pool = &mut self.pools[rank];
        for (order, index) in pool.orders.iter_mut().zip(HEATS) {
            if let Some(order) = order {
                order.remove(&(sort_key(known, index), slot));
            }
        }
        if let Some(mask) = &mut pool.mask {
            let cell = known.cell();
            let queue = rank * CELLS + cell;
            self.cells.remove(queue, slot);
            if self.cells.first(queue) == NONE {
                mask.set(reuse.position(cell), false);
            }
        }
    }

    /// Puts a model into the orders of the pool where it is.
    pub fn file(&mut self, slot: u32, known: &Known, reuse: &Reuse) {
        if let Some(rank) = self.spare(slot) {
            self.pools[rank].spares.insert((spare_key(known), slot));
        }
        let Some(rank) = self.place(slot) else { return };
        let pool = &mut self.pools[rank];
        for (order, index) in pool.orders.iter_mut().zip(HEATS) {
            if let Some(order) = order {
                order.insert((sort_key(known, index), slot));
            }
        }
        if let Some(mask) = &mut pool.mask {
            let cell = known.cell();
            self.cells.push(rank * CELLS + cell, slot);
            mask.set(reuse.position(cell), true);
        }
    }

    /// A model has grown older: from one cell into another.
    pub fn ages(&mut self, slot: u32, from: usize, to: usize, reuse: &Reuse) {
        let Some(rank) = self.place(slot) else { return };
        if let Some(mask) = &mut self.pools[rank].mask {
            let queue = rank * CELLS + from;
            self.cells.remove(queue, slot);
            if self.cells.first(queue) == NONE {
                mask.set(reuse.position(from), false);
            }
            self.cells.push(rank * CELLS + to, slot);
            mask.set(reuse.position(to), true);
        }
    }

    /// The order of cells has changed.
    pub fn reorder(&mut self, reuse: &Reuse) {
        for (rank, pool) in self.pools.iter_mut().enumerate() {
            if let Some(mask) = &mut pool.mask {
                mask.0.fill(0);
                for cell in 0..CELLS {
                    if self.cells.first(rank * CELLS + cell) != NONE {
                        mask.set(reuse.position(cell), true);
                    }
                }
            }
        }
    }

    /// Takes a model out of its pool, and what it left behind in another.
    pub fn remove(&mut self, slot: u32, known: &Known, reuse: &Reuse) {
        self.drop_spare(slot, known);
        self.take_out(slot, known, reuse);
    }

    /// Takes a model out of its pool; its spare stays.
    fn take_out(&mut self, slot: u32, known: &Known, reuse: &Reuse) {
        self.unfile(slot, known, reuse);
        if let Some(rank) = self.place(slot) {
            self.pools[rank].used_bytes -= known.bytes;
            self.pools[rank].models -= 1;
            self.place[slot as usize] = NOWHERE;
        }
    }

    /// Puts a model that is nowhere into a pool.
    pub fn insert(&mut self, slot: u32, rank: usize, known: &Known, reuse: &Reuse) {
        if self.place.len() <= slot as usize {
            self.place.resize(slot as usize + 1, NOWHERE);
        }
        self.place[slot as usize] = rank as u8;
        self.pools[rank].used_bytes += known.bytes;
        self.pools[rank].models += 1;
        self.file(slot, known, reuse);
    }

    /// Shows the models of a pool, least worth first, until `enough` says so.
    fn walk(&self, rank: usize, index: Index, reuse: &Reuse, mut enough: impl FnMut(u32) -> bool) {
        if index == Index::Reuse {
            return self.walk_cells(rank, reuse, enough);
        }
        for &(_, slot) in self.pools[rank].orders[index as usize].iter().flatten() {
            if enough(slot) {
                return;
            }
        }
    }

    /// As [`Shadow::walk`] for learned reuse: cell by cell, the longest waiting of a cell first.
    fn walk_cells(&self, rank: usize, reuse: &Reuse, mut enough: impl FnMut(u32) -> bool) {
        let Some(mask) = &self.pools[rank].mask else {
            return;
        };
        let mut next = mask.next(0);
        while let Some(at) = next {
            let mut slot = self.cells.first(rank * CELLS + reuse.cell_at(at));
            while slot != NONE {
                if enough(slot) {
                    return;
                }
                slot = self.cells.after(slot);
            }
            next = mask.next(at + 1);
        }
    }
}

fn spare_key(known: &Known) -> u64 {
    sort_key(known, Index::HeatMedium)
}

fn sort_key(known: &Known, index: Index) -> u64 {
    ordered(match index {
        Index::HeatShort => known.heat.key(Memory::Short),
        Index::HeatRecent => known.heat.key(Memory::Recent),
        Index::HeatMedium => known.heat.key(Memory::Medium),
        Index::HeatLong => known.rhythm.slow_key(known.last_load),
        Index::HeatDensity => known.heat.key(Memory::Medium) - (known.bytes.max(1) as f64).log2(),
        Index::Reuse => 0.0,
    })
}

/// Worth per byte of a model.
pub fn worth(known: &Known, index: Index, clock: HeatClock, reuse: &Reuse) -> f64 {
    match index {
        Index::HeatShort => known.heat.count(clock, Memory::Short),
        Index::HeatRecent => known.heat.count(clock, Memory::Recent),
        Index::HeatMedium => known.heat.count(clock, Memory::Medium),
        Index::HeatLong => known
            .rhythm
            .slow_count(clock.loads.saturating_sub(known.last_load)),
        Index::HeatDensity => known.heat.count(clock, Memory::Medium) / known.bytes.max(1) as f64,
        Index::Reuse => reuse.index(known.cell()),
    }
}

/// A shadow with all that is needed to apply a rule to it.
pub struct View<'a> {
    pub shadow: &'a mut Shadow,
    pub models: &'a KnownModels,
    pub clock: HeatClock,
    pub reuse: &'a Reuse,
    pub tiers: &'a Tiers,
    pub moves: Moves,
}

impl Pools for View<'_> {
    type Object = u32;

    fn count(&self) -> usize {
        self.shadow.pools.len()
    }

    fn secs_per_byte(&self, rank: Option<usize>) -> f64 {
        self.tiers.secs_per_byte(rank)
    }

    fn copy_secs_per_byte(&self, from: Option<usize>) -> f64 {
        match self.moves {
            Moves::WhileReading => 0.0,
            Moves::Copy => self.tiers.secs_per_byte(from),
        }
    }

    fn place(&self, slot: u32) -> Option<usize> {
        self.shadow.place(slot)
    }

    fn need_bytes(&self, slot: u32, _rank: usize) -> u64 {
        self.models.get(slot).bytes
    }

    fn free_bytes(&self, rank: usize) -> u64 {
        self.shadow.capacities[rank].saturating_sub(self.shadow.pools[rank].used_bytes)
    }

    fn can_hold(&self, slot: u32, rank: usize) -> bool {
        self.models.get(slot).bytes <= self.shadow.capacities[rank]
    }

    fn keep_bytes(&self, slot: u32, rank: usize) -> Option<u64> {
        self.can_hold(slot, rank)
            .then(|| self.models.get(slot).bytes)
    }

    fn index(&self, slot: u32, index: Index) -> f64 {
        worth(self.models.get(slot), index, self.clock, self.reuse)
    }

    fn victims(
        &mut self,
        rank: usize,
        need_bytes: u64,
        index: Index,
        keep: u32,
    ) -> Option<Vec<(u32, u64)>> {
        let missing = need_bytes.saturating_sub(self.free_bytes(rank));
        if missing == 0 {
            return Some(Vec::new());
        }
        let mut taken: Vec<(u32, u64)> = Vec::new();
        let mut freed = 0;
        self.shadow.walk(rank, index, self.reuse, |slot| {
            if slot != keep {
                let bytes = self.models.get(slot).bytes;
                freed += bytes;
                taken.push((slot, bytes));
            }
            freed >= missing
        });
        if freed < missing {
            return None;
        }
        // From the most worth down, what turns out not to be needed stays.
        let mut surplus = freed - missing;
        for entry in taken.iter_mut().rev() {
            if entry.1 <= surplus {
                surplus -= entry.1;
                entry.1 = 0;
            }
        }
        taken.retain(|&(_, bytes)| bytes > 0);
        Some(taken)
    }

    /// On paper nobody says anything.
    fn yields(&self, _: u32, _: u32) -> bool {
        false
    }

    fn spare(&self, slot: u32) -> Option<usize> {
        self.shadow.spare(slot)
    }

    fn demote(&mut self, slot: u32, _from: usize, to: Option<usize>) {
        let known = self.models.get(slot);
        let spare = self.shadow.spare(slot);
        self.shadow.take_out(slot, known, self.reuse);
        // What is slower than where it goes stays.
        if spare <= to || to.is_none() {
            self.shadow.drop_spare(slot, known);
        }
        if let Some(rank) = to {
            if spare != to {
                self.shadow.demoted[rank] += known.bytes;
            }
            self.shadow.insert(slot, rank, known, self.reuse);
            self.shadow.fit(rank, self.models);
        }
    }

    fn lift(&mut self, slot: u32) {
        let known = self.models.get(slot);
        if let Some(rank) = self.shadow.place(slot) {
            self.shadow.take_out(slot, known, self.reuse);
            self.shadow.keep_spare(slot, rank, known);
        }
    }

    fn put(&mut self, slot: u32, rank: usize) {
        self.shadow
            .insert(slot, rank, self.models.get(slot), self.reuse);
        self.shadow.fit(rank, self.models);
    }
}
