//! Memory that pools keep ready for the next copies: how much, when it is made, and that it is the first
//! that others get. The thread that minds memory does it, in small pieces and never for more than half of
//! its time; nothing is made while copies run or shortly after something moved.

use std::sync::Arc;
use std::time::{Duration, Instant};

use speedloader_config::Bytes;
use speedloader_fs::pool::{PREFAULT_BYTES_MIN, Pool};

use super::{Coordinator, chain};
use crate::machine::Memory;
use crate::pressure::{self, Woken};

/// So long after the last news readers have the processors and the memory to themselves.
const CALM: Duration = Duration::from_secs(2);
/// So long after processes stalled for memory they have all of it.
const CALM_AFTER_STALL: Duration = Duration::from_secs(10);
/// What is made between two looks at memory.
const PIECE_BYTES: u64 = 16 << 20;
/// How soon is looked again for room, where there was none.
const ROOM_INTERVAL: Duration = Duration::from_secs(10);
/// How soon is looked again for files, where there was none to be ready for.
const FILES_INTERVAL: Duration = Duration::from_secs(60);
/// A pool is ready for no more copies than this.
const FILES_MAX: usize = 64;

/// What the thread remembers.
pub(super) struct Prefault {
    /// Nothing is made before.
    not_before: Instant,
    /// The tree's generation that the pools were told of; none: something moved since.
    told: Option<u64>,
    /// It could not be done; it is not tried again until there is news.
    has_failed: bool,
}

impl Prefault {
    pub fn new() -> Self {
        Prefault {
            not_before: Instant::now() + CALM,
            told: None,
            has_failed: false,
        }
    }

    /// Hears why the thread woke.
    pub fn hear(&mut self, woken: Woken) {
        let calm = match woken {
            Woken::Time => return,
            // Something moved: other files may come next, and readers are busy.
            Woken::News => CALM,
            Woken::Stalled => CALM_AFTER_STALL,
        };
        *self = Prefault {
            not_before: self.not_before.max(Instant::now() + calm),
            ..Prefault::new()
        };
    }
}

/// The sizes of copies to be ready for: of the largest files, as many as the budget has room for, the last
/// in part.
fn sizes_within(mut files: Vec<u64>, budget_bytes: u64) -> Vec<u64> {
    files.sort_unstable_by(|one, other| other.cmp(one));
    let mut left = budget_bytes;
    let mut sizes = Vec::new();
    for file in files.into_iter().take(FILES_MAX) {
        let size = file.min(left);
        if size < PREFAULT_BYTES_MIN {
            break;
        }
        left -= size;
        sizes.push(size);
    }
    sizes
}

/// What may be made ready of so much memory: as much as is ready stays free beside it, so that whoever takes
/// memory quickly finds some until the rest is given back.
fn allowed_bytes(available_bytes: u64, reserve_bytes: u64, ready_bytes: u64) -> u64 {
    available_bytes
        .saturating_sub(least_bytes(reserve_bytes))
        .saturating_sub(ready_bytes)
}

/// Below this, what is ready is given back.
fn least_bytes(reserve_bytes: u64) -> u64 {
    reserve_bytes.saturating_add(reserve_bytes / 8)
}

/// What pools keep ready at this moment.
pub(super) fn ready_bytes(pools: &[Arc<Pool>]) -> u64 {
    let usages = pools.iter().filter_map(|pool| pool.usage().ok());
    usages.map(|usage| usage.prefaulted_bytes).sum()
}

impl Coordinator {
    /// Memory that copies can have: what pools keep ready is there for them.
    pub(super) fn memory_for_copies(&self) -> Memory {
        let memory = pressure::memory();
        let ready_bytes = ready_bytes(&self.pools());
        Memory {
            available_bytes: memory.available_bytes.saturating_add(ready_bytes),
            ..memory
        }
    }

    /// Gives back what is ready and others need, or all of it where processes stall. Before any replica goes.
    pub(super) fn give_back_ready(&self, stalled: bool) {
        let pools = self.pools();
        if ready_bytes(&pools) == 0 {
            return;
        }
        let memory = pressure::memory();
        let least = least_bytes(self.reserve_of(&memory));
        let mut missing = match stalled {
            true => u64::MAX,
            false => least.saturating_sub(memory.available_bytes),
        };
        for pool in pools.iter().rev() {
            let ready = pool.usage().map_or(0, |usage| usage.prefaulted_bytes);
            pool.give_back_prefaulted(missing);
            missing = missing.saturating_sub(ready);
        }
    }

    /// Makes a little more memory ready, where that is due; when to come again.
    pub(super) fn make_ready(&self, state: &mut Prefault) -> Option<Duration> {
        let began = Instant::now();
        let pools = self.pools();
        let usages = pools.iter().filter_map(|pool| pool.usage().ok());
        if usages.map(|usage| usage.reserved_bytes).sum::<u64>() > 0 {
            state.hear(Woken::News);
        }
        let wait = state.not_before.saturating_duration_since(began);
        if !wait.is_zero() {
            return Some(wait);
        }
        let generation = self.fs.generation();
        if state.told != Some(generation) {
            self.tell_pools(&pools);
            state.told = Some(generation);
        }
        if state.has_failed {
            return None;
        }
        let memory = pressure::memory();
        let reserve_bytes = self.reserve_of(&memory);
        let allowed = allowed_bytes(memory.available_bytes, reserve_bytes, ready_bytes(&pools));
        let most = allowed.min(PIECE_BYTES);
        let mut is_wanted = false;
        let mut made_bytes = 0;
        for pool in &pools {
            while made_bytes < most {
                match pool.prefault() {
                    Ok(0) => break,
                    Ok(bytes) => made_bytes += bytes,
                    Err(error) => {
                        let (pool, error) = (pool.name(), chain(&error));
                        tracing::debug!(pool, error, "no memory is kept ready");
                        state.has_failed = true;
                        return None;
                    }
                }
                // Whoever waits for the pool's books has them now.
                std::thread::yield_now();
            }
            is_wanted |= pool.is_prefault_wanted();
        }
        match (made_bytes, is_wanted) {
            (0, true) => Some(ROOM_INTERVAL),
            (0, false) => self.keeps_ready().then_some(FILES_INTERVAL),
            _ => Some(began.elapsed()),
        }
    }

    /// Whether any pool shall keep memory ready.
    fn keeps_ready(&self) -> bool {
        let pools = self.pools();
        pools.iter().any(|pool| self.budget_bytes(pool) > 0)
    }

    /// How much a pool shall keep ready.
    fn budget_bytes(&self, pool: &Pool) -> u64 {
        if !pool.is_mounted_by_us() || self.is_leaving(pool.id()) {
            return 0;
        }
        let config = self.config();
        let mut configured = config.pools.iter();
        let configured = configured.find(|configured| configured.name.as_str() == pool.name());
        let capacity_bytes = pool.usage().map_or(0, |usage| usage.capacity_bytes);
        configured.map_or(0, |configured| {
            configured.prefault.resolve(Bytes(capacity_bytes)).0
        })
    }

    /// Tells pools which copies may come: of the largest files that they have none of.
    fn tell_pools(&self, pools: &[Arc<Pool>]) {
        for pool in pools {
            let capacity_bytes = pool.usage().map_or(0, |usage| usage.capacity_bytes);
            let budget_bytes = self.budget_bytes(pool);
            let mut files = Vec::new();
            if budget_bytes >= PREFAULT_BYTES_MIN {
                self.fs.union().for_each_file(|file| {
                    let bytes = file.attr().identity.size;
                    let fits = (PREFAULT_BYTES_MIN..=capacity_bytes).contains(&bytes);
                    if fits && !file.is_resident() {
                        files.push(bytes);
                    }
                });
            }
            pool.want_prefaulted(sizes_within(files, budget_bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn pools_are_ready_for_the_largest_files_within_the_budget() {
        let files = vec![100 * MIB, 800 * MIB, 64 * MIB, 300 * MIB];
        let within = |budget: u64| {
            let sizes = sizes_within(files.clone(), budget * MIB);
            sizes.iter().map(|size| size / MIB).collect::<Vec<_>>()
        };
        assert_eq!(within(0), [0_u64; 0]);
        assert_eq!(within(63), [0_u64; 0]);
        assert_eq!(within(500), [500]);
        assert_eq!(within(900), [800, 100]);
        assert_eq!(within(1150), [800, 300]);
        assert_eq!(within(9000), [800, 300, 100, 64]);
    }

    #[test]
    fn as_much_as_is_ready_stays_free_beside_the_reserve() {
        assert_eq!(allowed_bytes(1000, 80, 0), 910);
        assert_eq!(allowed_bytes(1000, 80, 455), 455);
        assert_eq!(allowed_bytes(545, 80, 455), 0);
        assert_eq!(allowed_bytes(0, u64::MAX, 7), 0);
    }
}
