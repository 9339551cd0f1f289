//! A load time that no policy can be below, not even one that knows the future.
//!
//! D. Berger et al., "Practical Bounds on Optimal Caching with Variable Object Sizes", ACM
//! SIGMETRICS 2018 (FOO, PFOO-L). Holding an object from one load to the next saves size x gain
//! and takes size x time of a pool's capacity; choosing what to hold is a linear programme, and
//! any prices of capacity give an upper bound on the saving (its dual):
//! capacity x sum of prices + sum over intervals of size x max(0, gain - price of the interval).
//! Prices are per load, found by multiplicative steps; every step's bound is valid, the best is
//! kept. One price for all time is the weaker PFOO-L, where the steps start. With several pools each
//! has its prices. What is larger than the largest pool is never held. Moves are free here, which only
//! lowers the bound.

use crate::snapshot::Tiers;
use crate::trace::Trace;

const STEPS: usize = 800;
/// For traces of millions of loads fewer steps do: so many together, and so many at least.
const LOADS_STEPPED: usize = 200_000_000;
const STEPS_MIN: usize = 50;
/// First step of the logarithm of a price; after so many steps they are smaller by a root of two.
const STEP_FIRST: f64 = 1.0;
const STEPS_LARGE: f64 = 30.0;

/// From one load of an object to the next.
struct Interval {
    from: usize,
    to: usize,
    bytes: f64,
}

struct Prices {
    /// By load, seconds per byte.
    by_load: Vec<f64>,
    /// Sum of the prices of all loads before this one.
    before: Vec<f64>,
    /// Bytes that want to be held: changes by load.
    wanted: Vec<f64>,
    /// Seconds a byte saves when served from here.
    gain: f64,
    capacity: f64,
}

impl Prices {
    fn sum_up(&mut self) {
        let mut sum = 0.0;
        for (before, price) in self.before.iter_mut().zip(&self.by_load) {
            *before = sum;
            sum += price;
        }
        if let Some(all) = self.before.last_mut() {
            *all = sum;
        }
        self.wanted.fill(0.0);
    }

    /// Adds the interval to what is wanted.
    fn want(&mut self, interval: &Interval) {
        self.wanted[interval.from] += interval.bytes;
        self.wanted[interval.to] -= interval.bytes;
    }

    fn step(&mut self, by: f64) {
        let mut wanted = 0.0;
        for (price, change) in self.by_load.iter_mut().zip(&self.wanted) {
            wanted += change;
            let excess = wanted / self.capacity - 1.0;
            *price *= (by * excess.clamp(-1.0, 1.0)).exp();
        }
    }
}

/// The bound, seconds.
pub fn load_time_bound_secs(tiers: &Tiers, trace: &Trace) -> f64 {
    let loads = trace.loads.len();
    let cold = tiers.secs_per_byte(None);
    let all_cold: f64 = trace
        .loads
        .iter()
        .map(|load| load.bytes as f64 * cold)
        .sum();
    let intervals = intervals(tiers, trace);
    if intervals.is_empty() {
        return all_cold;
    }
    let mut pools: Vec<Prices> = tiers
        .pools
        .iter()
        .enumerate()
        .filter(|(_, pool)| pool.2 > 0)
        .map(|(rank, &(_, _, capacity))| Prices {
            by_load: vec![0.0; loads],
            before: vec![0.0; loads + 1],
            wanted: vec![0.0; loads + 1],
            gain: (cold - tiers.secs_per_byte(Some(rank))).max(0.0),
            capacity: capacity as f64,
        })
        .collect();
    start_constant(&mut pools, &intervals);
    let mut best = f64::INFINITY;
    let steps = (LOADS_STEPPED / loads.max(1)).clamp(STEPS_MIN, STEPS);
    for step in 0..steps {
        best = best.min(saving(&mut pools, &intervals, loads));
        let by = STEP_FIRST / (1.0 + step as f64 / STEPS_LARGE).sqrt();
        pools.iter_mut().for_each(|pool| pool.step(by));
    }
    all_cold - best
}

fn intervals(tiers: &Tiers, trace: &Trace) -> Vec<Interval> {
    let largest = tiers
        .pools
        .iter()
        .map(|&(_, _, capacity)| capacity)
        .max()
        .unwrap_or(0);
    let mut last: Vec<Option<(usize, u64)>> = vec![None; trace.sizes.len()];
    let mut intervals = Vec::new();
    for (to, load) in trace.loads.iter().enumerate() {
        // What has another size than before is another content: it cannot have been held.
        if let Some((from, bytes)) = last[load.object as usize].replace((to, load.bytes))
            && bytes == load.bytes
            && bytes <= largest
        {
            intervals.push(Interval {
                from,
                to,
                bytes: load.bytes as f64,
            });
        }
    }
    intervals
}

/// Starts with the constant price at which as much is wanted as there is capacity, pool by pool
/// from the fastest on, each for what the faster ones leave (PFOO-L).
fn start_constant(pools: &mut [Prices], intervals: &[Interval]) {
    let mut lengths: Vec<(f64, f64)> = intervals
        .iter()
        .map(|i| ((i.to - i.from) as f64, i.bytes))
        .collect();
    lengths.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut shortest = lengths.into_iter().peekable();
    for pool in pools {
        let mut volume = pool.capacity * pool.before.len() as f64;
        let mut longest = 1.0;
        while let Some(&(length, bytes)) = shortest.peek() {
            volume -= length * bytes;
            if volume < 0.0 {
                break;
            }
            longest = length;
            shortest.next();
        }
        pool.by_load.fill(pool.gain / longest);
    }
}

/// The bound on the saving at these prices; notes what is wanted.
fn saving(pools: &mut [Prices], intervals: &[Interval], loads: usize) -> f64 {
    pools.iter_mut().for_each(Prices::sum_up);
    let mut total: f64 = pools.iter().map(|p| p.capacity * p.before[loads]).sum();
    for interval in intervals {
        let net =
            |pool: &Prices| pool.gain - (pool.before[interval.to] - pool.before[interval.from]);
        let best = (0..pools.len()).max_by(|&a, &b| net(&pools[a]).total_cmp(&net(&pools[b])));
        if let Some(best) = best.filter(|&b| net(&pools[b]) > 0.0) {
            total += interval.bytes * net(&pools[best]);
            pools[best].want(interval);
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::TierId;
    use crate::trace::TraceLoad;

    fn trace(objects: &[u32]) -> Trace {
        let load = |(at, &object): (usize, &u32)| TraceLoad {
            object,
            family: 1,
            bytes: 10,
            at_secs: at as u64,
        };
        Trace {
            loads: objects.iter().enumerate().map(load).collect(),
            names: vec![String::new(); 3],
            sizes: vec![10; 3],
        }
    }

    #[test]
    fn a_pool_for_all_bounds_by_the_first_loads() {
        let tiers = Tiers {
            pools: vec![(TierId(0), 10, 30)],
            cold_bytes_per_sec: 1,
        };
        let bound = load_time_bound_secs(&tiers, &trace(&[0, 1, 2, 0, 1, 2, 0, 1, 2]));
        assert!(
            (30.0..36.1).contains(&bound),
            "3 cold loads of 10 s and 6 of 1 s: {bound}"
        );
    }

    #[test]
    fn no_pool_no_saving() {
        let tiers = Tiers {
            pools: vec![],
            cold_bytes_per_sec: 1,
        };
        let bound = load_time_bound_secs(&tiers, &trace(&[0, 0, 0]));
        assert!((bound - 30.0).abs() < 1e-9, "{bound}");
    }
}
