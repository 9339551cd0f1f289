//! Belady's clairvoyant rule for objects of different size: what is needed again last goes first,
//! the newcomer included. Not optimal with sizes, but close; no policy can be it.

use std::collections::BTreeSet;

use super::{Baseline, Room};
use crate::trace::{Trace, TraceLoad};

/// See the module.
pub struct Belady {
    room: Room,
    /// By load: the position of the next load of the same object.
    next: Vec<u64>,
    now: usize,
    /// (next load, object).
    order: BTreeSet<(u64, u32)>,
    key: Vec<u64>,
}

impl Belady {
    /// Empty.
    pub fn new(capacity_bytes: u64, trace: &Trace) -> Self {
        let mut seen = vec![u64::MAX; trace.sizes.len()];
        let mut next = vec![u64::MAX; trace.loads.len()];
        for (at, load) in trace.loads.iter().enumerate().rev() {
            next[at] = std::mem::replace(&mut seen[load.object as usize], at as u64);
        }
        let key = vec![0; trace.sizes.len()];
        Self {
            room: Room::new(capacity_bytes),
            next,
            now: 0,
            order: BTreeSet::new(),
            key,
        }
    }
}

impl Baseline for Belady {
    fn load(&mut self, load: &TraceLoad, gone: &mut Vec<u32>) {
        let (object, at) = (load.object, load.object as usize);
        let next = self.next[self.now];
        self.now += 1;
        let held = self.room.holds(object);
        if held {
            self.order.remove(&(self.key[at], object));
            self.room.remove(object);
        }
        let mut victims = Vec::new();
        let mut room = self.room.free_bytes();
        for &(later, victim) in self.order.iter().rev() {
            if room >= load.bytes || later <= next {
                break;
            }
            room += self.room.bytes(victim);
            victims.push((later, victim));
        }
        if next == u64::MAX || room < load.bytes {
            if held {
                gone.push(object);
            }
            return;
        }
        for victim in victims {
            self.order.remove(&victim);
            self.room.remove(victim.1);
            gone.push(victim.1);
        }
        self.key[at] = next;
        self.order.insert((next, object));
        self.room.insert(object, load.bytes);
    }

    fn holds(&self, object: u32) -> bool {
        self.room.holds(object)
    }
}
