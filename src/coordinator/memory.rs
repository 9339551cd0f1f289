//! The memory reserve: pools give memory back before anybody else runs out of it, and may grow again
//! when it is there again.
//!
//! What is to be done is [`target_sizes`], a pure function of figures. A thread of its own looks at the
//! figures, has the policy drop what is worth least, and makes the pools smaller so that they stay so.
//! It drops nothing that is open: that goes when it is closed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use speedloader_fs::ids::PoolId;
use speedloader_fs::pool::{Pool, Usage};

use super::cause::Cause;
use super::pools::POOL_BYTES_MIN;
use super::prefault::Prefault;
use super::{Coordinator, chain};
use crate::machine::Memory;
use crate::pressure::{self, MemoryWatch, Woken};
use crate::view::Level;
use crate::view::human::size;

/// Nothing grows so soon after something shrank.
const CALM: Duration = Duration::from_secs(5);
/// How fast memory can be taken, bytes a second: figures are looked at before it can be gone.
const TAKEN_BYTES_PER_SEC: u64 = 4_000_000_000;
const LOOK_INTERVAL_MIN: Duration = Duration::from_millis(50);
const LOOK_INTERVAL_MAX: Duration = Duration::from_secs(10);
/// How long dropped replicas may take until their memory is free.
const FREE_PATIENCE: Duration = Duration::from_millis(500);

/// A pool as the decision sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PoolNow {
    /// How large it may be when there is memory.
    configured_bytes: u64,
    /// How large it may be now.
    size_bytes: u64,
    /// What it holds, and what running copies will fill.
    taken_bytes: u64,
}

/// Memory as the decision sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Room {
    /// What others can have, less what running copies will fill.
    available_bytes: u64,
    /// What pools leave to others.
    reserve_bytes: u64,
    /// Processes stall for memory.
    stalled: bool,
    /// Nothing has shrunk for a while.
    calm: bool,
}

/// How large each pool may be, the fastest first. Between seven and nine eighths of the reserve nothing
/// changes: below, pools give back until the reserve is whole, the slowest first; above, they may
/// grow into what is more than that, the fastest first.
fn target_sizes(room: Room, pools: &[PoolNow]) -> Vec<u64> {
    let margin = room.reserve_bytes / 8;
    // A stall says that the figures promise too much.
    let (least, goal) = match room.stalled {
        true => {
            let more = room.reserve_bytes.saturating_add(margin);
            (more, more)
        }
        false => (room.reserve_bytes - margin, room.reserve_bytes),
    };
    let floor = |pool: &PoolNow| POOL_BYTES_MIN.min(pool.size_bytes);
    let mut targets: Vec<u64> = pools.iter().map(|pool| pool.size_bytes).collect();
    if room.available_bytes < least {
        let mut missing = goal - room.available_bytes;
        for (target, pool) in targets.iter_mut().zip(pools).rev() {
            let taken = pool.taken_bytes.min(missing);
            missing -= taken;
            *target = (pool.taken_bytes - taken).clamp(floor(pool), pool.size_bytes);
        }
    } else if room.calm {
        let kept = room.reserve_bytes.saturating_add(margin);
        let mut spare = room.available_bytes.saturating_sub(kept);
        for (target, pool) in targets.iter_mut().zip(pools) {
            let most = pool
                .taken_bytes
                .saturating_add(spare)
                .min(pool.configured_bytes);
            let is_worth_it = most == pool.configured_bytes
                || most.saturating_sub(pool.size_bytes) >= pool.configured_bytes / 16;
            if most > pool.size_bytes && is_worth_it {
                *target = most;
            }
            spare = spare.saturating_sub(target.saturating_sub(pool.taken_bytes));
        }
    }
    targets
}

/// When to look again if so much is left beyond the reserve.
fn look_again_in(left_bytes: u64) -> Duration {
    Duration::from_millis(left_bytes / (TAKEN_BYTES_PER_SEC / 1000))
        .clamp(LOOK_INTERVAL_MIN, LOOK_INTERVAL_MAX)
}

/// How large a pool may be.
#[derive(Clone, Copy)]
struct Limits {
    /// When there is memory.
    configured_bytes: u64,
    /// Now.
    size_bytes: u64,
}

/// What is remembered of pools that give memory back.
#[derive(Default)]
pub(super) struct MemoryState {
    limits: HashMap<PoolId, Limits>,
    /// What a pool must give back now: plans heed it.
    owed: HashMap<PoolId, u64>,
    last_shrink: Option<Instant>,
    /// It was said that readers hold what should be given back.
    is_held_told: bool,
}

impl MemoryState {
    /// A pool has, and may have, so much from now on.
    pub fn configure(&mut self, pool: PoolId, bytes: u64) {
        let limits = Limits {
            configured_bytes: bytes,
            size_bytes: bytes,
        };
        self.limits.insert(pool, limits);
    }

    /// What a pool must give back now.
    pub fn owed_bytes(&self, pool: PoolId) -> u64 {
        self.owed.get(&pool).copied().unwrap_or(0)
    }

    /// What a pool has given back until there is memory again.
    pub fn held_back_bytes(&self, pool: PoolId) -> u64 {
        let limits = self.limits.get(&pool);
        limits.map_or(0, |l| l.configured_bytes.saturating_sub(l.size_bytes))
    }

    fn resized(&mut self, pool: PoolId, bytes: u64) {
        if let Some(limits) = self.limits.get_mut(&pool) {
            limits.size_bytes = bytes;
        }
    }
}

/// A pool, what is in it and how large it shall be.
struct Change {
    pool: Arc<Pool>,
    usage: Usage,
    size_bytes: u64,
    target_bytes: u64,
}

fn taken_bytes(usage: &Usage) -> u64 {
    usage.used_bytes.saturating_add(usage.reserved_bytes)
}

impl Coordinator {
    /// The thread that minds the reserve: until the end.
    pub fn mind_memory(&self, watch: &MemoryWatch) {
        let mut limit = Some(LOOK_INTERVAL_MIN);
        let mut prefault = Prefault::new();
        loop {
            let woken = watch.wait(limit);
            if self.is_parted() {
                return;
            }
            prefault.hear(woken);
            let stalled = woken == Woken::Stalled;
            self.give_back_ready(stalled);
            let looks = self.look_at_memory(stalled);
            let makes = self.make_ready(&mut prefault);
            limit = match (looks, makes) {
                (Some(looks), Some(makes)) => Some(looks.min(makes)),
                (looks, makes) => looks.or(makes),
            };
        }
    }

    /// Does what the figures demand; when to look again, if not only on news.
    fn look_at_memory(&self, stalled: bool) -> Option<Duration> {
        let memory = pressure::memory();
        let reserve_bytes = self.reserve_of(&memory);
        let (mut pools, mut now) = (Vec::new(), Vec::new());
        for pool in self.pools().into_iter().filter(|pool| pool.is_memory()) {
            let limits = self.lock_memory().limits.get(&pool.id()).copied();
            let (Ok(usage), Some(limits)) = (pool.usage(), limits) else {
                continue;
            };
            now.push(PoolNow {
                configured_bytes: limits.configured_bytes,
                size_bytes: limits.size_bytes,
                taken_bytes: taken_bytes(&usage).min(limits.size_bytes),
            });
            pools.push((pool, usage));
        }
        let copying: u64 = pools.iter().map(|(_, usage)| usage.reserved_bytes).sum();
        let ready_bytes: u64 = pools.iter().map(|(_, usage)| usage.prefaulted_bytes).sum();
        let room = Room {
            available_bytes: memory
                .available_bytes
                .saturating_add(ready_bytes)
                .saturating_sub(copying),
            reserve_bytes,
            stalled,
            calm: self
                .lock_memory()
                .last_shrink
                .is_none_or(|at| at.elapsed() >= CALM),
        };
        let targets = target_sizes(room, &now);
        let changes = pools.into_iter().zip(&now).zip(targets);
        let (smaller, larger): (Vec<Change>, Vec<Change>) = changes
            .map(|(((pool, usage), now), target_bytes)| Change {
                pool,
                usage,
                size_bytes: now.size_bytes,
                target_bytes,
            })
            .filter(|change| change.target_bytes != change.size_bytes)
            .partition(|change| change.target_bytes < change.size_bytes);
        if !smaller.is_empty() {
            self.shrink(&smaller, &memory, reserve_bytes);
        }
        for change in &larger {
            self.grow(change);
        }
        let is_quiet = now.iter().all(|pool| {
            pool.taken_bytes <= POOL_BYTES_MIN && pool.size_bytes >= pool.configured_bytes
        });
        if is_quiet && ready_bytes == 0 {
            return None;
        }
        // What is ready must be given back before somebody needs it.
        let left = room
            .available_bytes
            .saturating_sub(reserve_bytes.saturating_add(ready_bytes));
        let again = look_again_in(left);
        // What shall grow waits for calm.
        let grows = now
            .iter()
            .any(|pool| pool.size_bytes < pool.configured_bytes);
        Some(if grows { again.min(CALM) } else { again })
    }

    /// Has the policy drop what is worth least, then makes the pools smaller.
    fn shrink(&self, changes: &[Change], memory: &Memory, reserve_bytes: u64) {
        {
            let mut state = self.lock_memory();
            state.last_shrink = Some(Instant::now());
            for change in changes {
                let owed = taken_bytes(&change.usage).saturating_sub(change.target_bytes);
                state.owed.insert(change.pool.id(), owed);
            }
        }
        let is_owed = |change: &Change| taken_bytes(&change.usage) > change.target_bytes;
        if changes.iter().any(is_owed) {
            if let Err(error) = self.plan_and_move(&[], Vec::new(), Cause::Pressure) {
                tracing::warn!(%error, "nothing was planned for the memory reserve");
            }
            self.drainer.check_now();
        }
        // Once is enough: another plan would drop as much again.
        self.lock_memory().owed.clear();
        let mut held_bytes = 0;
        for change in changes {
            self.wait_until_free(change);
            let Ok(mut usage) = change.pool.usage() else {
                continue;
            };
            if taken_bytes(&usage) > change.target_bytes && usage.reserved_bytes > 0 {
                self.end_background_copies(change.pool.id());
                usage = change.pool.usage().unwrap_or(usage);
            }
            held_bytes += taken_bytes(&usage).saturating_sub(change.target_bytes);
            let target = change.target_bytes.max(taken_bytes(&usage));
            self.make_smaller(change, &usage, target, memory, reserve_bytes);
        }
        let is_told = std::mem::replace(&mut self.lock_memory().is_held_told, held_bytes > 0);
        if held_bytes > 0 && !is_told {
            let text = format!(
                "{} more should be given back; it is being read, pinned or copied, and goes when that ends",
                size(held_bytes)
            );
            self.events.add(Level::Warning, "memory", "pools", text);
        }
    }

    fn make_smaller(
        &self,
        change: &Change,
        usage: &Usage,
        target: u64,
        memory: &Memory,
        reserve_bytes: u64,
    ) {
        let (pool, before) = (&change.pool, change.size_bytes);
        if target >= before {
            return;
        }
        if let Err(error) = pool.resize(target) {
            // A copy has begun meanwhile; it is looked at again in a moment.
            tracing::debug!(pool = pool.name(), error = chain(&error), "not smaller yet");
            return;
        }
        self.lock_memory().resized(pool.id(), target);
        // Whole models went, which may be more than was owed.
        let freed = taken_bytes(&change.usage).saturating_sub(taken_bytes(usage));
        self.count_given_back(freed);
        let text = format!(
            "gives {} back and may hold {} now, {} before: {} of memory were available, and {} are kept in reserve",
            size(freed),
            size(target),
            size(before),
            size(memory.available_bytes),
            size(reserve_bytes),
        );
        self.events.add(Level::Warning, "memory", pool.name(), text);
    }

    fn grow(&self, change: &Change) {
        let pool = &change.pool;
        match pool.resize(change.target_bytes) {
            Ok(()) => {
                self.lock_memory().resized(pool.id(), change.target_bytes);
                let text = format!("may hold {} again", size(change.target_bytes));
                self.events.add(Level::Info, "memory", pool.name(), text);
                self.think();
            }
            Err(error) => {
                tracing::warn!(
                    pool = pool.name(),
                    error = chain(&error),
                    "the pool stays small"
                );
            }
        }
    }

    /// Memory of what was dropped is free as soon as the drainer has looked. Without waiting for that the
    /// next look would have more dropped.
    fn wait_until_free(&self, change: &Change) {
        let drains = || {
            let usage = change.pool.usage();
            usage.is_ok_and(|usage| usage.draining_bytes > change.usage.draining_bytes)
        };
        self.wait_while_draining(&change.pool, Instant::now() + FREE_PATIENCE, drains);
    }

    /// Copies that nobody waits for are not worth somebody's memory.
    fn end_background_copies(&self, pool: PoolId) {
        let Some(mover) = self.mover.get() else {
            return;
        };
        let moves = self.lock_moves();
        let background = moves.errands.iter().filter(|(_, errand)| {
            !matches!(
                errand.why.cause,
                Cause::Request | Cause::Pin | Cause::FirstLoad
            )
        });
        let ids: Vec<_> = background.map(|(id, _)| *id).collect();
        drop(moves);
        for id in ids {
            if mover
                .transfer(id)
                .is_some_and(|transfer| transfer.pool == pool)
            {
                mover.cancel(id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn room(available: u64, reserve: u64) -> Room {
        Room {
            available_bytes: available * MIB,
            reserve_bytes: reserve * MIB,
            stalled: false,
            calm: true,
        }
    }

    fn pool(configured: u64, size: u64, taken: u64) -> PoolNow {
        PoolNow {
            configured_bytes: configured * MIB,
            size_bytes: size * MIB,
            taken_bytes: taken * MIB,
        }
    }

    fn mib(targets: &[u64]) -> Vec<u64> {
        targets.iter().map(|bytes| bytes / MIB).collect()
    }

    #[test]
    fn what_is_missing_is_given_back_and_no_more() {
        let pools = [pool(40, 40, 36)];
        for (available, size, why) in [
            (80, 40, "the reserve is whole"),
            (70, 40, "nearly whole"),
            (64, 20, "16 of 36 are missing"),
            (10, 1, "all of it, and never no limit"),
        ] {
            assert_eq!(
                mib(&target_sizes(room(available, 80), &pools)),
                [size],
                "{why}"
            );
        }
    }

    #[test]
    fn the_slowest_pool_gives_first_and_the_fastest_grows_first() {
        let pools = [pool(40, 40, 30), pool(40, 40, 10)];
        assert_eq!(mib(&target_sizes(room(64, 80), &pools)), [24, 1]);
        let small = [pool(40, 20, 20), pool(40, 10, 10)];
        assert_eq!(mib(&target_sizes(room(120, 80), &small)), [40, 20]);
        assert_eq!(mib(&target_sizes(room(105, 80), &small)), [35, 10]);
    }

    #[test]
    fn it_grows_only_when_there_is_calm_and_more_than_the_reserve() {
        let pools = [pool(40, 20, 18)];
        assert_eq!(mib(&target_sizes(room(90, 80), &pools)), [20]);
        assert_eq!(mib(&target_sizes(room(100, 80), &pools)), [28]);
        assert_eq!(mib(&target_sizes(room(1000, 80), &pools)), [40]);
        let nervous = Room {
            calm: false,
            ..room(1000, 80)
        };
        assert_eq!(mib(&target_sizes(nervous, &pools)), [20]);
    }

    #[test]
    fn a_stall_asks_for_more_than_the_figures() {
        let stalled = Room {
            stalled: true,
            ..room(80, 80)
        };
        assert_eq!(mib(&target_sizes(stalled, &[pool(40, 40, 36)])), [26]);
    }

    #[test]
    fn looks_become_frequent_where_little_is_left() {
        assert_eq!(look_again_in(0), LOOK_INTERVAL_MIN);
        assert_eq!(look_again_in(4_000_000_000), Duration::from_secs(1));
        assert_eq!(look_again_in(u64::MAX), LOOK_INTERVAL_MAX);
    }

    fn pools() -> impl Strategy<Value = Vec<PoolNow>> {
        let one = (1_u64..200, 0_u64..=200, 0_u64..=200).prop_map(|(configured, size, taken)| {
            let size = size.clamp(1, configured);
            pool(configured, size, taken.min(size))
        });
        proptest::collection::vec(one, 0..4)
    }

    /// What others have, if the pools did as they are told: who must give back has given.
    fn obeyed(room: Room, pools: &[PoolNow], targets: &[u64]) -> (Room, Vec<PoolNow>) {
        let mut room = room;
        let obey = |(pool, target): (&PoolNow, &u64)| {
            let taken = pool.taken_bytes.min(*target);
            room.available_bytes += pool.taken_bytes - taken;
            PoolNow {
                size_bytes: *target,
                taken_bytes: taken,
                ..*pool
            }
        };
        let pools = pools.iter().zip(targets).map(obey).collect();
        (room, pools)
    }

    proptest! {
        #[test]
        fn decisions_keep_the_reserve_and_come_to_rest(
            pools in pools(),
            available in 0_u64..400,
            reserve in 0_u64..200,
            stalled in any::<bool>(),
            calm in any::<bool>(),
        ) {
            let room = Room { stalled, calm, ..room(available, reserve) };
            let targets = target_sizes(room, &pools);
            prop_assert_eq!(targets.len(), pools.len());
            for (target, pool) in targets.iter().zip(&pools) {
                prop_assert!(*target >= POOL_BYTES_MIN && *target <= pool.configured_bytes);
            }
            let (after, changed) = obeyed(room, &pools, &targets);
            let shrinks = targets.iter().zip(&pools).any(|(target, pool)| *target < pool.size_bytes);
            let grows = targets.iter().zip(&pools).any(|(target, pool)| *target > pool.size_bytes);
            prop_assert!(!(shrinks && grows));
            if shrinks {
                let all_gone = changed.iter().all(|pool| pool.taken_bytes <= POOL_BYTES_MIN);
                // The least that a pool keeps is not worth asking others for.
                let kept = POOL_BYTES_MIN * pools.len() as u64;
                prop_assert!(after.available_bytes + kept >= room.reserve_bytes || all_gone);
            }
            if grows {
                // Filled to the brim, what has grown still leaves the reserve.
                let fills: u64 = changed
                    .iter()
                    .zip(&pools)
                    .filter(|(now, before)| now.size_bytes > before.size_bytes)
                    .map(|(now, _)| now.size_bytes - now.taken_bytes)
                    .sum();
                prop_assert!(room.available_bytes >= room.reserve_bytes + fills);
            }
            // Nothing has happened since: a second look changes nothing, whether in haste or not.
            let rest = Room { stalled: false, ..after };
            let again = target_sizes(rest, &changed);
            let sizes: Vec<u64> = changed.iter().map(|pool| pool.size_bytes).collect();
            if shrinks && after.available_bytes >= rest.reserve_bytes && !stalled {
                prop_assert_eq!(&target_sizes(Room { calm: false, ..rest }, &changed), &sizes);
                prop_assert_eq!(&again, &sizes);
            }
            if grows {
                prop_assert_eq!(&again, &sizes);
            }
        }
    }
}
