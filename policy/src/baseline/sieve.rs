//! SIEVE: Y. Zhang et al., "SIEVE is Simpler than LRU: an Efficient Turn-Key Eviction Algorithm
//! for Web Caches", NSDI '24. One queue in the order of insertion, one bit, one hand.

use super::{Baseline, Room};
use crate::trace::TraceLoad;

const NONE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Node {
    newer: u32,
    older: u32,
    visited: bool,
}

/// See the module.
pub struct Sieve {
    room: Room,
    nodes: Vec<Node>,
    newest: u32,
    oldest: u32,
    hand: u32,
}

impl Sieve {
    /// Empty.
    pub fn new(capacity_bytes: u64) -> Self {
        let room = Room::new(capacity_bytes);
        Self {
            room,
            nodes: Vec::new(),
            newest: NONE,
            oldest: NONE,
            hand: NONE,
        }
    }

    fn unlink(&mut self, object: u32) {
        let Node { newer, older, .. } = self.nodes[object as usize];
        match newer {
            NONE => self.newest = older,
            _ => self.nodes[newer as usize].older = older,
        }
        match older {
            NONE => self.oldest = newer,
            _ => self.nodes[older as usize].newer = newer,
        }
        if self.hand == object {
            self.hand = newer;
        }
        self.room.remove(object);
    }

    /// Moves the hand from old to new, sparing the visited once.
    fn let_one_go(&mut self) -> Option<u32> {
        let mut at = if self.hand == NONE {
            self.oldest
        } else {
            self.hand
        };
        while at != NONE && self.nodes[at as usize].visited {
            self.nodes[at as usize].visited = false;
            let newer = self.nodes[at as usize].newer;
            at = if newer == NONE { self.oldest } else { newer };
        }
        if at == NONE {
            return None;
        }
        self.hand = at;
        self.unlink(at);
        Some(at)
    }
}

impl Baseline for Sieve {
    fn load(&mut self, load: &TraceLoad, gone: &mut Vec<u32>) {
        let (object, at) = (load.object, load.object as usize);
        if self.nodes.len() <= at {
            self.nodes.resize(
                at + 1,
                Node {
                    newer: NONE,
                    older: NONE,
                    visited: false,
                },
            );
        }
        if self.room.holds(object) {
            if self.room.bytes(object) == load.bytes {
                self.nodes[at].visited = true;
                return;
            }
            self.unlink(object);
            gone.push(object);
        }
        if load.bytes > self.room.capacity_bytes {
            return;
        }
        while self.room.free_bytes() < load.bytes {
            let Some(least) = self.let_one_go() else {
                break;
            };
            gone.push(least);
        }
        self.nodes[at] = Node {
            newer: NONE,
            older: self.newest,
            visited: false,
        };
        match self.newest {
            NONE => self.oldest = object,
            newest => self.nodes[newest as usize].newer = object,
        }
        self.newest = object;
        self.room.insert(object, load.bytes);
    }

    fn holds(&self, object: u32) -> bool {
        self.room.holds(object)
    }
}
