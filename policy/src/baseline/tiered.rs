//! A baseline over any number of pools.
//!
//! One instance decides what is held at all, with the bytes of all pools together; one for each
//! faster part (the fastest pool, the two fastest, ...) decides what of it is in there. What leaves
//! a faster part and is still held is demoted, which costs a copy to the next pool.

use super::{Baseline, BaselineKind};
use crate::learned::Served;
use crate::simulate::{Moves, Totals};
use crate::snapshot::Tiers;
use crate::trace::Trace;

/// Replays a whole trace.
pub fn replay_baseline(kind: BaselineKind, tiers: &Tiers, moves: Moves, trace: &Trace) -> Totals {
    let mut sum = 0u64;
    let mut parts: Vec<Box<dyn Baseline>> = Vec::new();
    for &(_, _, capacity) in &tiers.pools {
        sum = sum.saturating_add(capacity);
        parts.push(kind.start(sum, trace));
    }
    let place = |parts: &[Box<dyn Baseline>], object: u32| {
        let held = parts.last().is_some_and(|all| all.holds(object));
        parts
            .iter()
            .position(|part| part.holds(object))
            .filter(|_| held)
    };
    let mut totals = Totals::default();
    let mut gone = Vec::new();
    for load in &trace.loads {
        let rank = place(&parts, load.object);
        let mut served = Served {
            rank,
            ..Served::default()
        };
        for at in (0..parts.len()).rev() {
            gone.clear();
            parts[at].load(load, &mut gone);
            let Some(all) = parts.last().filter(|_| at + 1 < parts.len()) else {
                continue;
            };
            for &object in gone.iter().filter(|&&object| all.holds(object)) {
                let bytes = trace.sizes[object as usize];
                served.demoted_bytes += bytes;
                served.demoted_secs += bytes as f64 * tiers.secs_per_byte(Some(at + 1));
            }
        }
        let after = place(&parts, load.object);
        if after.is_some_and(|after| rank.is_none_or(|before| after < before)) {
            served.promoted_bytes = load.bytes;
        }
        totals.add(load.bytes, served, tiers, moves);
    }
    totals
}
