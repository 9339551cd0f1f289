//! What other pool sizes would have meant: the log of loads, replayed through the policy that decides. Takes a moment of
//! one processor, in the thread of whoever asks, one at a time.

use std::sync::TryLockError;

use speedloader_policy::{Moves, Params, TierId, Tiers, Trace, replay};

use super::Coordinator;
use super::moves::COLD_BYTES_PER_SEC;
use crate::command::{Code, Message};
use crate::load_log;
use crate::view::{ForecastPoint, ForecastView};

/// The latest loads say most, and more would take long.
const LOADS_MAX: usize = 20_000;
/// Sizes that are tried, nothing and the present one apart.
const SIZES: u64 = 16;
/// What memory gives as long as no pool was measured, bytes a second.
const POOL_BYTES_PER_SEC: u64 = 10_000_000_000;

impl Coordinator {
    /// Replays the log for sizes up to that of all models that were loaded.
    pub(super) fn forecast(&self) -> Result<ForecastView, Message> {
        let _one = match self.forecasting.try_lock() {
            Ok(one) => one,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                return Err(Message::new(
                    Code::Busy,
                    "a forecast is being made; ask again in a moment",
                ));
            }
        };
        let directory = &self.config().state_dir;
        let logged = load_log::read(directory).map_err(|error| {
            Message::new(
                Code::Failed,
                format!("the log of loads cannot be read: {error}"),
            )
        })?;
        let mut trace = logged.trace;
        trace.keep_last(LOADS_MAX);
        Ok(self.forecast_of(&trace))
    }

    fn forecast_of(&self, trace: &Trace) -> ForecastView {
        let here: Vec<Pool> = self
            .pools()
            .iter()
            .filter_map(|pool| {
                let speed = pool.speed_bytes_per_sec();
                Some(Pool {
                    capacity_bytes: pool.usage().ok()?.capacity_bytes,
                    bytes_per_sec: if speed > 0 { speed } else { POOL_BYTES_PER_SEC },
                })
            })
            .collect();
        let here_bytes: u64 = here.iter().map(|pool| pool.capacity_bytes).sum();
        let params = Params {
            half_life: f64::from(self.config().policy.half_life),
            ..Params::default()
        };
        let home_bytes_per_sec = self.history.home_bytes_per_sec(COLD_BYTES_PER_SEC);
        let footprint_bytes = trace.footprint_bytes();
        let point = |pool_bytes: u64| {
            let tiers = Tiers {
                pools: scaled(&here, pool_bytes),
                cold_bytes_per_sec: home_bytes_per_sec,
            };
            let totals = replay(&params, &tiers, Moves::WhileReading, trace);
            ForecastPoint {
                pool_bytes,
                load_time_s: totals.load_time_secs,
                byte_hit_ratio: totals.byte_hit_ratio(),
            }
        };
        let sizes = sizes(here_bytes, footprint_bytes);
        let points = match trace.loads.is_empty() {
            true => Vec::new(),
            false => sizes.into_iter().map(point).collect(),
        };
        let at = |load: Option<&speedloader_policy::TraceLoad>| load.map_or(0, |load| load.at_secs);
        ForecastView {
            loads: trace.loads.len() as u64,
            span_s: at(trace.loads.last()).saturating_sub(at(trace.loads.first())),
            here_bytes,
            footprint_bytes,
            pool_bytes_per_sec: together(&here),
            home_bytes_per_sec,
            points,
        }
    }
}

/// One of the pools there are.
struct Pool {
    capacity_bytes: u64,
    bytes_per_sec: u64,
}

/// The pools there are, made larger or smaller in proportion until they are so large together, the fastest first;
/// one in memory where there is none.
fn scaled(here: &[Pool], pool_bytes: u64) -> Vec<(TierId, u64, u64)> {
    let here_bytes: u128 = here
        .iter()
        .map(|pool| u128::from(pool.capacity_bytes))
        .sum();
    if here_bytes == 0 {
        return vec![(TierId(0), POOL_BYTES_PER_SEC, pool_bytes)];
    }
    let mut fastest: Vec<&Pool> = here.iter().collect();
    fastest.sort_by_key(|pool| std::cmp::Reverse(pool.bytes_per_sec));
    // Each goes to where the pools up to it end, so that no rounding is lost.
    let (mut before, mut end) = (0u128, 0u64);
    let mut pools = Vec::new();
    for (id, pool) in (0..).zip(fastest) {
        before += u128::from(pool.capacity_bytes);
        let next = (u128::from(pool_bytes) * before / here_bytes) as u64;
        pools.push((TierId(id), pool.bytes_per_sec, next - end));
        end = next;
    }
    pools
}

/// What all pools give, each counting by its size, bytes a second.
fn together(here: &[Pool]) -> u64 {
    let (mut bytes, mut secs) = (0.0, 0.0);
    for pool in here {
        bytes += pool.capacity_bytes as f64;
        secs += pool.capacity_bytes as f64 / pool.bytes_per_sec as f64;
    }
    match secs > 0.0 {
        true => (bytes / secs).round() as u64,
        false => POOL_BYTES_PER_SEC,
    }
}

/// Evenly from nothing to where all fits, and the present size; each once.
fn sizes(here: u64, footprint: u64) -> Vec<u64> {
    let most = u128::from(footprint.max(here));
    let share = |step: u64| (most * u128::from(step) / u128::from(SIZES)) as u64;
    let mut sizes: Vec<u64> = (0..=SIZES).map(share).collect();
    sizes.push(here);
    sizes.sort_unstable();
    sizes.dedup();
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_present_size_is_among_those_that_are_tried() {
        assert_eq!(
            sizes(5, 32),
            [
                0, 2, 4, 5, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 32
            ]
        );
        assert!(sizes(100, 32).ends_with(&[93, 100]));
        assert_eq!(sizes(0, 0), [0]);
    }

    /// The last was up to 15 bytes below what all models need, and one of them did not fit.
    #[test]
    fn the_last_size_is_where_all_fits() {
        for footprint in [17, 31, 1_000_003, u64::MAX] {
            assert_eq!(sizes(5, footprint).last(), Some(&footprint));
        }
    }

    /// All were replayed as one of the sum of their sizes, as fast as the fastest.
    #[test]
    fn several_pools_are_made_larger_and_smaller_in_proportion() {
        let pool = |capacity_bytes, bytes_per_sec| Pool {
            capacity_bytes,
            bytes_per_sec,
        };
        let here = [pool(200, 5), pool(100, 10)];
        let pools = |bytes| scaled(&here, bytes);
        assert_eq!(pools(300), [(TierId(0), 10, 100), (TierId(1), 5, 200)]);
        assert_eq!(pools(100), [(TierId(0), 10, 33), (TierId(1), 5, 67)]);
        assert_eq!(pools(0), [(TierId(0), 10, 0), (TierId(1), 5, 0)]);
        assert_eq!(
            pools(u64::MAX).iter().map(|pool| pool.2).sum::<u64>(),
            u64::MAX
        );
        assert_eq!(together(&here), 6);
        let one = (TierId(0), POOL_BYTES_PER_SEC, 7);
        assert_eq!(scaled(&[], 7), [one]);
        assert_eq!(scaled(&[pool(0, 5)], 7), [one]);
        assert_eq!(together(&[]), POOL_BYTES_PER_SEC);
    }
}
