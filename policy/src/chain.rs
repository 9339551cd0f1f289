//! Many queues over one set of slots: each slot is in at most one queue. Constant time, no
//! allocation per move. Knows nothing of what is queued.

/// No slot.
pub const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug, PartialEq)]
struct Link {
    next: u32,
    prev: u32,
}

/// The queues.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chains {
    links: Vec<Link>,
    /// (first, last) by queue.
    ends: Vec<(u32, u32)>,
}

impl Chains {
    /// So many empty queues.
    pub fn new(queues: usize) -> Self {
        Self {
            links: Vec::new(),
            ends: vec![(NONE, NONE); queues],
        }
    }

    /// The first of a queue, or [`NONE`].
    pub fn first(&self, queue: usize) -> u32 {
        self.ends[queue].0
    }

    /// The one behind a queued slot, or [`NONE`].
    pub fn after(&self, slot: u32) -> u32 {
        self.links[slot as usize].next
    }

    /// Puts a slot that is in no queue at the end of one.
    pub fn push(&mut self, queue: usize, slot: u32) {
        let at = slot as usize;
        if self.links.len() <= at {
            self.links.resize(
                at + 1,
                Link {
                    next: NONE,
                    prev: NONE,
                },
            );
        }
        let (first, last) = self.ends[queue];
        self.links[at] = Link {
            next: NONE,
            prev: last,
        };
        if last == NONE {
            self.ends[queue] = (slot, slot);
        } else {
            self.links[last as usize].next = slot;
            self.ends[queue] = (first, slot);
        }
    }

    /// Takes a slot out of the queue it is in.
    pub fn remove(&mut self, queue: usize, slot: u32) {
        let Link { next, prev } = self.links[slot as usize];
        let (first, last) = &mut self.ends[queue];
        if prev == NONE {
            *first = next;
        }
        if next == NONE {
            *last = prev;
        }
        if prev != NONE {
            self.links[prev as usize].next = next;
        }
        if next != NONE {
            self.links[next as usize].prev = prev;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_keep_their_order() {
        let mut chains = Chains::new(2);
        (0..4).for_each(|slot| chains.push(slot as usize % 2, slot));
        chains.remove(0, 0);
        chains.push(1, 0);
        chains.remove(1, 3);
        assert_eq!(chains.first(0), 2);
        assert_eq!(chains.after(2), NONE);
        assert_eq!(
            (chains.first(1), chains.after(1), chains.after(0)),
            (1, 0, NONE)
        );
    }
}
