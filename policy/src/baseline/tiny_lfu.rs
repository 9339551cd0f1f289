//! W-TinyLFU with aggregated victims: G. Einziger et al., "Lightweight Robust Size Aware Cache
//! Management", ACM TOS 18(3), 2022 (arXiv 2105.08770). A window of 1 % by recency; what leaves it
//! enters the main part (segmented LRU, 80 % protected) only if its count exceeds that of all the
//! victims it needs together. Counts are exact here and not capped (the paper's sketch of four bits
//! approximates them; exact ones do better on all our traces), and halved when ten times as many loads were counted as objects are known.

use std::collections::{BTreeMap, BTreeSet};

use super::{Baseline, Room};
use crate::trace::TraceLoad;

const SAMPLE_FACTOR: u64 = 10;

/// The parts, in the order in which victims are taken from the main two.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Window,
    Probation,
    Protected,
}

/// See the module.
pub struct TinyLfu {
    room: Room,
    by_bytes: bool,
    window_max: u64,
    protected_max: u64,
    /// By part: (sequence of the last use, object), and bytes.
    parts: [(BTreeSet<(u64, u32)>, u64); 3],
    at: BTreeMap<u32, (Part, u64)>,
    counts: BTreeMap<u32, u32>,
    counted: u64,
    sequence: u64,
}

impl TinyLfu {
    /// Empty; counts weighted by bytes or not.
    pub fn new(capacity_bytes: u64, by_bytes: bool) -> Self {
        let window_max = capacity_bytes / 100;
        Self {
            room: Room::new(capacity_bytes),
            by_bytes,
            window_max,
            protected_max: (capacity_bytes - window_max) / 5 * 4,
            parts: Default::default(),
            at: BTreeMap::new(),
            counts: BTreeMap::new(),
            counted: 0,
            sequence: 0,
        }
    }

    fn count(&mut self, object: u32) {
        let count = self.counts.entry(object).or_default();
        *count = count.saturating_add(1);
        self.counted += 1;
        if self.counted >= SAMPLE_FACTOR * self.counts.len().max(16) as u64 {
            self.counted /= 2;
            self.counts.retain(|_, count| {
                *count /= 2;
                *count > 0
            });
        }
    }

    fn weight(&self, object: u32, bytes: u64) -> f64 {
        let count = f64::from(self.counts.get(&object).copied().unwrap_or(0));
        if self.by_bytes {
            count * bytes as f64
        } else {
            count
        }
    }

    fn put(&mut self, object: u32, part: Part) {
        self.sequence += 1;
        let bytes = self.room.bytes(object);
        let (order, sum) = &mut self.parts[part as usize];
        order.insert((self.sequence, object));
        *sum += bytes;
        self.at.insert(object, (part, self.sequence));
    }

    fn take(&mut self, object: u32) -> Option<Part> {
        let (part, sequence) = self.at.remove(&object)?;
        let bytes = self.room.bytes(object);
        let (order, sum) = &mut self.parts[part as usize];
        order.remove(&(sequence, object));
        *sum -= bytes;
        Some(part)
    }

    fn use_again(&mut self, object: u32) {
        match self.take(object) {
            Some(Part::Window) | None => self.put(object, Part::Window),
            Some(_) => {
                self.put(object, Part::Protected);
                while self.parts[Part::Protected as usize].1 > self.protected_max {
                    let oldest = self.parts[Part::Protected as usize].0.first().copied();
                    let Some((_, oldest)) = oldest else { break };
                    self.take(oldest);
                    self.put(oldest, Part::Probation);
                }
            }
        }
    }

    /// A candidate leaves the window: into the main part if it outweighs its victims, else gone.
    fn admit(&mut self, object: u32, gone: &mut Vec<u32>) {
        let bytes = self.room.bytes(object);
        let main_max = self.room.capacity_bytes - self.window_max;
        let used = self.parts[Part::Probation as usize].1 + self.parts[Part::Protected as usize].1;
        let missing = (used + bytes).saturating_sub(main_max);
        let mut victims = Vec::new();
        let (mut freed, mut lost) = (0, 0.0);
        let in_order = [Part::Probation, Part::Protected];
        for &(_, victim) in in_order
            .iter()
            .flat_map(|&part| &self.parts[part as usize].0)
        {
            if freed >= missing {
                break;
            }
            freed += self.room.bytes(victim);
            lost += self.weight(victim, self.room.bytes(victim));
            victims.push(victim);
        }
        if freed < missing || !victims.is_empty() && self.weight(object, bytes) <= lost {
            self.room.remove(object);
            gone.push(object);
            return;
        }
        for victim in victims {
            self.take(victim);
            self.room.remove(victim);
            gone.push(victim);
        }
        self.put(object, Part::Probation);
    }
}

impl Baseline for TinyLfu {
    fn load(&mut self, load: &TraceLoad, gone: &mut Vec<u32>) {
        let object = load.object;
        self.count(object);
        if self.room.holds(object) {
            if self.room.bytes(object) == load.bytes {
                return self.use_again(object);
            }
            self.take(object);
            self.room.remove(object);
            gone.push(object);
        }
        if load.bytes > self.room.capacity_bytes - self.window_max {
            return;
        }
        // The pool overflows by the newcomer only until the window has been brought to size.
        self.room.insert(object, load.bytes);
        self.put(object, Part::Window);
        while self.parts[Part::Window as usize].1 > self.window_max {
            let oldest = self.parts[Part::Window as usize].0.first().copied();
            let Some((_, candidate)) = oldest else { break };
            self.take(candidate);
            self.admit(candidate, gone);
        }
        gone.retain(|&o| o != object);
    }

    fn holds(&self, object: u32) -> bool {
        self.room.holds(object)
    }
}
