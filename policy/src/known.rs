//! What is remembered of each model: a slot of fixed size, found by name, queued by age.
//!
//! Bounded by the caller, who forgets [`KnownModels::oldest`]. Decides nothing.

use std::collections::BTreeMap;

use crate::chain::{Chains, NONE};
use crate::heat::Heat;
use crate::ids::ModelId;
use crate::reuse::{self, BUCKETS, Rhythm};

/// One model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Known {
    pub id: ModelId,
    pub bytes: u64,
    pub last_load: u64,
    pub heat: Heat,
    pub rhythm: Rhythm,
    /// Class of `rhythm` and bucket of the present age.
    pub class: u8,
    pub bucket: u8,
    pub set_aside: bool,
}

impl Known {
    /// Its cell in the tables of reuse.
    pub fn cell(&self) -> usize {
        reuse::cell(self.class, self.bucket)
    }
}

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct KnownModels {
    slots: Vec<Known>,
    free: Vec<u32>,
    slot_of: BTreeMap<ModelId, u32>,
    /// By age bucket, in the order of the last load.
    by_bucket: Chains,
    bucket_ends: Vec<u64>,
}

impl Default for KnownModels {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            slot_of: BTreeMap::new(),
            by_bucket: Chains::new(BUCKETS),
            bucket_ends: (0..BUCKETS).map(reuse::bucket_end).collect(),
        }
    }
}

impl KnownModels {
    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.slot_of.len()
    }

    /// All slots in use, by name.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Known)> {
        self.slot_of.values().map(|&slot| (slot, self.get(slot)))
    }

    /// The slot of a model.
    pub fn find(&self, model: ModelId) -> Option<u32> {
        self.slot_of.get(&model).copied()
    }

    /// What is in a slot in use.
    pub fn get(&self, slot: u32) -> &Known {
        &self.slots[slot as usize]
    }

    /// Changes what is in a slot in use; never its age or name.
    pub fn get_mut(&mut self, slot: u32) -> &mut Known {
        &mut self.slots[slot as usize]
    }

    /// Remembers a new model, which must not be known.
    pub fn add(&mut self, known: Known) -> u32 {
        let slot = self.free.pop().unwrap_or(self.slots.len() as u32);
        match self.slots.get_mut(slot as usize) {
            Some(place) => *place = known,
            None => self.slots.push(known),
        }
        self.slot_of.insert(known.id, slot);
        self.by_bucket.push(usize::from(known.bucket), slot);
        slot
    }

    /// Forgets one.
    pub fn remove(&mut self, slot: u32) {
        let known = self.slots[slot as usize];
        self.by_bucket.remove(usize::from(known.bucket), slot);
        self.slot_of.remove(&known.id);
        self.free.push(slot);
    }

    /// Calls a model otherwise; nothing if the other name is known already.
    pub fn rename(&mut self, from: ModelId, to: ModelId) {
        if self.slot_of.contains_key(&to) {
            return;
        }
        if let Some(slot) = self.slot_of.remove(&from) {
            self.slots[slot as usize].id = to;
            self.slot_of.insert(to, slot);
        }
    }

    /// The one not loaded for longest.
    pub fn oldest(&self) -> Option<u32> {
        (0..BUCKETS)
            .rev()
            .map(|b| self.by_bucket.first(b))
            .find(|&slot| slot != NONE)
    }

    /// Age zero again, after a load.
    pub fn rejuvenate(&mut self, slot: u32, rhythm: Rhythm, loads: u64) {
        let known = &mut self.slots[slot as usize];
        self.by_bucket.remove(usize::from(known.bucket), slot);
        known.rhythm = rhythm;
        known.class = rhythm.class();
        known.bucket = 0;
        known.last_load = loads;
        self.by_bucket.push(0, slot);
    }

    /// The next model that has grown out of its bucket by the load number `loads`; moves it on.
    /// (slot, cell before, cell after). Call until `None`.
    pub fn grow_one(&mut self, from_bucket: usize, loads: u64) -> Option<(u32, usize, usize)> {
        let slot = self.by_bucket.first(from_bucket);
        if slot == NONE {
            return None;
        }
        let known = &mut self.slots[slot as usize];
        let age = loads - known.last_load;
        if age < self.bucket_ends[from_bucket] {
            return None;
        }
        let before = known.cell();
        known.bucket = reuse::bucket(age) as u8;
        let after = known.cell();
        self.by_bucket.remove(from_bucket, slot);
        self.by_bucket.push(usize::from(known.bucket), slot);
        Some((slot, before, after))
    }
}
