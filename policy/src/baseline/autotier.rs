//! 45Drives autotier (github.com/45Drives/autotier, `popularityCalc.hpp` and `tiering.cpp`): every
//! period each file's popularity moves towards its rate of use, slowly (damping 1,000,000 s), all
//! files are sorted by it, and each in that order goes to the first tier where it still fits. Period 1000 s; all files exist from the start, old enough for full damping.

use super::{Baseline, Room};
use crate::trace::{Trace, TraceLoad};

const PERIOD_SECS: u64 = 1000;
const DAMPING_SECS: f64 = 1_000_000.0;
/// To accesses per hour.
const MULTIPLIER: f64 = 3600.0;
/// Popularity of a file never used, in accesses per hour.
const AVERAGE_USAGE: f64 = 0.238;

struct File {
    bytes: u64,
    popularity: f64,
    count: u64,
    used_at: u64,
}

/// See the module.
pub struct Autotier {
    room: Room,
    /// Larger files fit into no tier.
    largest_bytes: u64,
    files: Vec<File>,
    tiered_at: u64,
    /// Belongs into the pool.
    due: Vec<bool>,
}

impl Autotier {
    /// Empty.
    pub fn new(capacity_bytes: u64, largest_bytes: u64, trace: &Trace) -> Self {
        let popularity = MULTIPLIER * AVERAGE_USAGE;
        let files = trace.sizes.iter();
        Self {
            room: Room::new(capacity_bytes),
            largest_bytes,
            files: files
                .map(|&bytes| File {
                    bytes,
                    popularity,
                    count: 0,
                    used_at: 0,
                })
                .collect(),
            tiered_at: trace.loads.first().map_or(0, |load| load.at_secs),
            due: Vec::new(),
        }
    }

    /// So many periods end, in all but the first of which nothing was used: they leave the order as it is.
    fn tier(&mut self, periods: u64, gone: &mut Vec<u32>) {
        let period = PERIOD_SECS as f64;
        let damping = DAMPING_SECS / period;
        let fades = 1.0 - 1.0 / damping;
        let faded = fades.powf((periods - 1) as f64);
        for file in &mut self.files {
            let used = file.count as f64 / period;
            file.popularity = (MULTIPLIER * used / damping + fades * file.popularity) * faded;
            file.count = 0;
        }
        let mut order: Vec<u32> = (0..self.files.len() as u32).collect();
        let file = |object: u32| &self.files[object as usize];
        order.sort_by(|&a, &b| {
            let (a, b) = (file(a), file(b));
            b.popularity
                .total_cmp(&a.popularity)
                .then(b.used_at.cmp(&a.used_at))
        });
        let mut held = vec![false; self.files.len()];
        let mut free = self.room.capacity_bytes;
        for object in order {
            let bytes = file(object).bytes;
            let Some(rest) = free
                .checked_sub(bytes)
                .filter(|_| bytes <= self.largest_bytes)
            else {
                continue;
            };
            free = rest;
            held[object as usize] = true;
        }
        for (object, &stays) in held.iter().enumerate() {
            let object = object as u32;
            if !stays && self.room.holds(object) {
                self.room.remove(object);
                gone.push(object);
            }
        }
        self.due = held;
    }
}

impl Baseline for Autotier {
    fn load(&mut self, load: &TraceLoad, gone: &mut Vec<u32>) {
        let periods = load.at_secs.saturating_sub(self.tiered_at) / PERIOD_SECS;
        if periods > 0 {
            self.tiered_at += periods * PERIOD_SECS;
            self.tier(periods, gone);
        }
        let file = &mut self.files[load.object as usize];
        file.count += 1;
        file.used_at = load.at_secs;
        let due = self.due.get(load.object as usize).copied().unwrap_or(false);
        if due && load.bytes <= self.room.free_bytes() && !self.room.holds(load.object) {
            self.room.insert(load.object, load.bytes);
        }
    }

    fn holds(&self, object: u32) -> bool {
        self.room.holds(object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loads(at_secs: &[(u64, u32)]) -> Trace {
        let load = |&(at_secs, object): &(u64, u32)| TraceLoad {
            object,
            family: 1,
            bytes: 10,
            at_secs,
        };
        Trace {
            loads: at_secs.iter().map(load).collect(),
            names: vec![String::new(); 3],
            sizes: vec![10; 3],
        }
    }

    fn popularities(trace: &Trace) -> Vec<f64> {
        let mut policy = Autotier::new(10, 10, trace);
        let mut gone = Vec::new();
        trace
            .loads
            .iter()
            .for_each(|load| policy.load(load, &mut gone));
        policy.files.iter().map(|file| file.popularity).collect()
    }

    /// Each period of a gap was gone through, all files sorted: a trace in nanoseconds did not end, and a time
    /// near the end of 64 bits went round.
    #[test]
    fn a_gap_of_any_length_takes_no_time() {
        let trace = loads(&[(0, 0), (1, 1), (86_400_000_000_000, 1), (u64::MAX, 2)]);
        assert_eq!(popularities(&trace), [0.0; 3]);
    }

    #[test]
    fn a_gap_fades_as_its_periods_do_one_by_one() {
        let used = [(0, 0), (500, 1), (600, 1)];
        let gap = loads(&[&used[..], &[(9000, 2)]].concat());
        // What is not loaded in between fades, period by period.
        let steps: Vec<(u64, u32)> = (1..=9).map(|period| (1000 * period, 2)).collect();
        let stepwise = loads(&[&used[..], &steps].concat());
        for object in 0..2 {
            let [a, b] = [&gap, &stepwise].map(|trace| popularities(trace)[object]);
            assert!((a / b - 1.0).abs() < 1e-12, "{object}: {a} and {b}");
        }
        assert!(popularities(&gap)[1] > popularities(&gap)[0]);
    }
}
