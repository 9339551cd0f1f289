//! LRU, LFU, GDSF and LFUDA: lets go the least priority, always admits.
//!
//! GDSF: L. Cherkasova, "Improving WWW Proxies Performance with Greedy-Dual-Size-Frequency
//! Caching Policy", HP Labs HPL-98-69R1, 1998: priority = clock + count / size, and the clock is
//! the priority of the last one let go. LFUDA: M. Arlitt et al., "Evaluating Content Management
//! Techniques for Web Proxy Caches", ACM PER 27(4), 2000: priority = clock + count.

use std::collections::BTreeSet;

use super::{Baseline, Room};
use crate::trace::TraceLoad;

/// What the priority of an object is made of.
struct Figures {
    clock: f64,
    count: f64,
    bytes: f64,
    sequence: f64,
}

/// See the module.
pub struct Priority {
    room: Room,
    priority: fn(&Figures) -> f64,
    /// (bits of the priority, sequence, object): all priorities are 0 or more, so bits order.
    order: BTreeSet<(u64, u64, u32)>,
    /// By object: its key in `order`, its count while held.
    keys: Vec<(u64, u64, f64)>,
    clock: f64,
    sequence: u64,
}

/// Least recently used.
pub fn lru(capacity_bytes: u64) -> Priority {
    Priority::new(capacity_bytes, |f| f.sequence)
}

/// Least frequently used since it came, of equals the least recently used.
pub fn lfu(capacity_bytes: u64) -> Priority {
    Priority::new(capacity_bytes, |f| f.count)
}

/// GreedyDual-Size-Frequency.
pub fn gdsf(capacity_bytes: u64) -> Priority {
    Priority::new(capacity_bytes, |f| f.clock + f.count / f.bytes.max(1.0))
}

/// LFU with dynamic aging.
pub fn lfuda(capacity_bytes: u64) -> Priority {
    Priority::new(capacity_bytes, |f| f.clock + f.count)
}

impl Priority {
    fn new(capacity_bytes: u64, priority: fn(&Figures) -> f64) -> Self {
        Self {
            room: Room::new(capacity_bytes),
            priority,
            order: BTreeSet::new(),
            keys: Vec::new(),
            clock: 0.0,
            sequence: 0,
        }
    }
}

impl Baseline for Priority {
    fn load(&mut self, load: &TraceLoad, gone: &mut Vec<u32>) {
        let (object, at) = (load.object, load.object as usize);
        if self.keys.len() <= at {
            self.keys.resize(at + 1, (0, 0, 0.0));
        }
        let held = self.room.holds(object);
        if held {
            self.order
                .remove(&(self.keys[at].0, self.keys[at].1, object));
        }
        if load.bytes > self.room.capacity_bytes {
            if held {
                self.room.remove(object);
                gone.push(object);
            }
            return;
        }
        // What has another size is another content: nobody has loaded it before.
        let is_same = held && self.room.bytes(object) == load.bytes;
        let count = if is_same { self.keys[at].2 + 1.0 } else { 1.0 };
        self.room.remove(object);
        while self.room.free_bytes() < load.bytes {
            let Some((bits, _, least)) = self.order.pop_first() else {
                break;
            };
            self.clock = f64::from_bits(bits);
            self.room.remove(least);
            gone.push(least);
        }
        self.sequence += 1;
        let figures = Figures {
            clock: self.clock,
            count,
            bytes: load.bytes as f64,
            sequence: self.sequence as f64,
        };
        let bits = (self.priority)(&figures).to_bits();
        self.keys[at] = (bits, self.sequence, count);
        self.order.insert((bits, self.sequence, object));
        self.room.insert(object, load.bytes);
    }

    fn holds(&self, object: u32) -> bool {
        self.room.holds(object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The count of the former content went on.
    #[test]
    fn what_has_changed_is_counted_anew() {
        for policy in [lfu, gdsf, lfuda] {
            let mut policy = policy(20);
            let mut gone = Vec::new();
            let mut load = |object: u32, bytes: u64| {
                let (family, at_secs) = (1, 0);
                let load = TraceLoad {
                    object,
                    family,
                    bytes,
                    at_secs,
                };
                policy.load(&load, &mut gone);
            };
            (0..9).for_each(|_| load(0, 10));
            load(0, 9);
            (0..2).for_each(|_| load(1, 9));
            load(2, 9);
            assert_eq!(gone, [0], "it was loaded once, the other twice");
        }
    }
}
