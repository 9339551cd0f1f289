//! S3-FIFO: J. Yang et al., "FIFO queues are all you need for cache eviction", SOSP '23,
//! algorithm 1. A small queue of a tenth of the bytes, a main queue, a ghost queue that remembers
//! as many bytes as the main queue holds.

use std::collections::{BTreeMap, VecDeque};

use super::{Baseline, Room};
use crate::trace::TraceLoad;

const COUNT_MAX: u8 = 3;

/// See the module.
pub struct S3Fifo {
    room: Room,
    small: VecDeque<u32>,
    main: VecDeque<u32>,
    small_bytes: u64,
    counts: BTreeMap<u32, u8>,
    ghosts: VecDeque<(u32, u64, u64)>,
    /// By object: which of its entries in `ghosts` is valid.
    ghost_at: BTreeMap<u32, u64>,
    ghost_bytes: u64,
    ghost_sequence: u64,
}

impl S3Fifo {
    /// Empty.
    pub fn new(capacity_bytes: u64) -> Self {
        Self {
            room: Room::new(capacity_bytes),
            small: VecDeque::new(),
            main: VecDeque::new(),
            small_bytes: 0,
            counts: BTreeMap::new(),
            ghosts: VecDeque::new(),
            ghost_at: BTreeMap::new(),
            ghost_bytes: 0,
            ghost_sequence: 0,
        }
    }

    fn remember(&mut self, object: u32, bytes: u64) {
        self.ghost_sequence += 1;
        self.ghost_at.insert(object, self.ghost_sequence);
        self.ghosts.push_back((object, self.ghost_sequence, bytes));
        self.ghost_bytes += bytes;
        let most = self.room.capacity_bytes / 10 * 9;
        while self.ghost_bytes > most {
            let Some((old, sequence, bytes)) = self.ghosts.pop_front() else {
                break;
            };
            self.ghost_bytes -= bytes;
            if self.ghost_at.get(&old) == Some(&sequence) {
                self.ghost_at.remove(&old);
            }
        }
    }

    fn let_one_go(&mut self, gone: &mut Vec<u32>) {
        let from_small = self.small_bytes >= self.room.capacity_bytes / 10 || self.main.is_empty();
        if !from_small || !self.let_go_from_small(gone) {
            self.let_go_from_main(gone);
        }
    }

    /// Whether one left; those used more than once move to the main queue on the way.
    fn let_go_from_small(&mut self, gone: &mut Vec<u32>) -> bool {
        while let Some(object) = self.small.pop_front() {
            let bytes = self.room.bytes(object);
            self.small_bytes -= bytes;
            if self.counts.get(&object).is_some_and(|&count| count > 1) {
                self.counts.insert(object, 0);
                self.main.push_back(object);
            } else {
                self.counts.remove(&object);
                self.room.remove(object);
                self.remember(object, bytes);
                gone.push(object);
                return true;
            }
        }
        false
    }

    fn let_go_from_main(&mut self, gone: &mut Vec<u32>) {
        while let Some(object) = self.main.pop_front() {
            match self.counts.get_mut(&object) {
                Some(count) if *count > 0 => {
                    *count -= 1;
                    self.main.push_back(object);
                }
                _ => {
                    self.counts.remove(&object);
                    self.room.remove(object);
                    gone.push(object);
                    return;
                }
            }
        }
    }

    fn drop_resized(&mut self, object: u32) {
        if let Some(at) = self.small.iter().position(|&o| o == object) {
            self.small.remove(at);
            self.small_bytes -= self.room.bytes(object);
        } else if let Some(at) = self.main.iter().position(|&o| o == object) {
            self.main.remove(at);
        }
        self.counts.remove(&object);
        self.room.remove(object);
    }
}

impl Baseline for S3Fifo {
    fn load(&mut self, load: &TraceLoad, gone: &mut Vec<u32>) {
        let object = load.object;
        if self.room.holds(object) {
            if self.room.bytes(object) == load.bytes {
                let count = self.counts.entry(object).or_default();
                *count = (*count + 1).min(COUNT_MAX);
                return;
            }
            self.drop_resized(object);
            gone.push(object);
        }
        if load.bytes > self.room.capacity_bytes {
            return;
        }
        while self.room.free_bytes() < load.bytes {
            self.let_one_go(gone);
        }
        if self.ghost_at.remove(&object).is_some() {
            self.main.push_back(object);
        } else {
            self.small.push_back(object);
            self.small_bytes += load.bytes;
        }
        self.counts.insert(object, 0);
        self.room.insert(object, load.bytes);
    }

    fn holds(&self, object: u32) -> bool {
        self.room.holds(object)
    }
}
