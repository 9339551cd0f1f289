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
        let surplus = trace.loads.len().saturating_sub(LOADS_MAX);
        trace.loads.drain(..surplus);
        Ok(self.forecast_of(&trace))
    }

    fn forecast_of(&self, trace: &Trace) -> ForecastView {
        let pools = self.pools();
        let here_bytes = pools
            .iter()
            .filter_map(|pool| pool.usage().ok())
            .map(|usage| usage.capacity_bytes)
            .sum();
        let fastest = pools.iter().map(|pool| pool.speed_bytes_per_sec()).max();
        let pool_bytes_per_sec = fastest
            .filter(|speed| *speed > 0)
            .unwrap_or(POOL_BYTES_PER_SEC);
        let home_bytes_per_sec = self.history.home_bytes_per_sec(COLD_BYTES_PER_SEC);
        let footprint_bytes = trace.footprint_bytes();
        let point = |pool_bytes: u64| {
            let tiers = Tiers {
                pools: vec![(TierId(0), pool_bytes_per_sec, pool_bytes)],
                cold_bytes_per_sec: home_bytes_per_sec,
            };
            let totals = replay(&Params::default(), &tiers, Moves::WhileReading, trace);
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
            pool_bytes_per_sec,
            home_bytes_per_sec,
            points,
        }
    }
}

/// Evenly from nothing to where all fits, and the present size; each once.
fn sizes(here: u64, footprint: u64) -> Vec<u64> {
    let most = footprint.max(here);
    let mut sizes: Vec<u64> = (0..=SIZES).map(|step| most / SIZES * step).collect();
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
        assert!(sizes(100, 32).ends_with(&[96, 100]));
        assert_eq!(sizes(0, 0), [0]);
    }
}
