//! A baseline over any number of pools.
//!
//! One instance decides what is held at all, with the bytes of all pools together; one for each
//! faster part (the fastest pool, the two fastest, ...) decides what of it is in there. What leaves
//! a faster part and is still held is demoted, which costs a copy to the next pool. What is
//! larger than each pool of a part is shown to it as too large to be held: nothing lies across two.
//!
//! That is easier than anything real: what a part holds need only fit into the bytes of its pools together, in
//! whatever way they are cut, and where the fastest pool is not full the rest of a part may be more than the slower
//! pools could hold. So a baseline is given more room than its policy could have, and a comparison with it is on the
//! safe side. The offline bound counts capacity in the same parts, and is below these too.

use super::{Baseline, BaselineKind};
use crate::learned::Served;
use crate::params::Moves;
use crate::simulate::Totals;
use crate::snapshot::Tiers;
use crate::trace::Trace;

/// Replays a whole trace.
pub fn replay_baseline(kind: BaselineKind, tiers: &Tiers, moves: Moves, trace: &Trace) -> Totals {
    let (mut sum, mut largest) = (0u64, Vec::<u64>::new());
    let mut parts: Vec<Box<dyn Baseline>> = Vec::new();
    for &(_, _, capacity) in &tiers.pools {
        sum = sum.saturating_add(capacity);
        let most = largest.last().map_or(capacity, |&most| capacity.max(most));
        parts.push(kind.start(sum, most, trace));
        largest.push(most);
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
    let mut last_bytes: Vec<Option<u64>> = vec![None; trace.sizes.len()];
    for load in &trace.loads {
        // What has another size than before is another content: nobody holds it.
        let known = last_bytes[load.object as usize].replace(load.bytes);
        let rank = place(&parts, load.object).filter(|_| known == Some(load.bytes));
        let mut served = Served {
            rank,
            ..Served::default()
        };
        for at in (0..parts.len()).rev() {
            gone.clear();
            let mut shown = *load;
            if load.bytes > largest[at] {
                shown.bytes = u64::MAX;
            }
            parts[at].load(&shown, &mut gone);
            let Some(all) = parts.last().filter(|_| at + 1 < parts.len()) else {
                continue;
            };
            let is_stale = rank.is_none();
            let demoted =
                |&&object: &&u32| all.holds(object) && !(is_stale && object == load.object);
            for &object in gone.iter().filter(demoted) {
                let bytes = last_bytes[object as usize].unwrap_or(0);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baseline::BASELINES;
    use crate::ids::TierId;
    use crate::trace::{HEADER, TraceReader};

    /// What is loaded with another size is another content; the former one is dropped, not demoted.
    #[test]
    fn what_has_changed_is_not_demoted() {
        let mut reader = TraceReader::new();
        reader.line(HEADER).unwrap();
        for at in 0..20 {
            let line = format!("{at},{at},g,a,{}", 1 + at % 2);
            reader.line(&line).unwrap();
        }
        let trace = reader.finish().unwrap();
        let tiers = Tiers {
            pools: vec![(TierId(0), 10, 10), (TierId(1), 5, 20)],
            cold_bytes_per_sec: 1,
        };
        for kind in BASELINES {
            let totals = replay_baseline(kind, &tiers, Moves::WhileReading, &trace);
            let cold_secs = 30.0;
            assert_eq!(totals.load_time_secs, cold_secs, "{}", kind.name());
        }
    }
}
