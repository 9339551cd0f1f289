//! A load time that no policy can be below, not even one that knows the future.
//!
//! D. Berger et al., "Practical Bounds on Optimal Caching with Variable Object Sizes", ACM
//! SIGMETRICS 2018 (FOO, PFOO-L). Holding an object from one load to the next saves size x gain
//! and takes size x time of capacity; choosing what to hold is a linear programme, and any prices of
//! capacity give an upper bound on the saving (its dual):
//! capacity x sum of prices + sum over intervals of size x max(0, gain - price of the interval).
//! Prices are per load, found by multiplicative steps; every step's bound is valid, the best is
//! kept. One price for all time is the weaker PFOO-L, where the steps start.
//!
//! With several pools, what a load is served from was in that pool or in faster ones since the load
//! before: nothing goes up unless it is loaded, or at the cost of a copy that saves less than staying would.
//! It may well have been in a faster one first, and been demoted. So capacity is counted in parts, as the
//! baselines count it: the fastest pool, the two fastest, and so on to all of them.
//! What is served from a pool takes room in its part and in all larger ones, wherever in there it lay. Moves
//! are free here, and nothing needs to be packed into one pool; both only lower the bound. What is larger
//! than each pool of a part is never in it.

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
    bytes: u64,
}

/// The fastest so many pools together.
struct Part {
    /// Prices by load, seconds per byte.
    by_load: Vec<f64>,
    /// Sum of the prices of all loads before this one.
    before: Vec<f64>,
    /// Bytes that want to be held: changes by load.
    wanted: Vec<f64>,
    /// Seconds a byte saves when served from the slowest of these pools.
    gain: f64,
    /// Of these, what it saves more than in the next larger part.
    gain_here: f64,
    capacity: f64,
    /// Nothing larger than this is held.
    largest_bytes: u64,
}

impl Part {
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

    /// What room for a byte costs over the interval, seconds.
    fn price(&self, interval: &Interval) -> f64 {
        self.before[interval.to] - self.before[interval.from]
    }

    /// Adds the interval to what is wanted.
    fn want(&mut self, interval: &Interval) {
        self.wanted[interval.from] += interval.bytes as f64;
        self.wanted[interval.to] -= interval.bytes as f64;
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
    let mut parts = parts(tiers, loads);
    let largest_bytes = parts.last().map_or(0, |all| all.largest_bytes);
    let intervals = intervals(largest_bytes, trace);
    if intervals.is_empty() {
        return all_cold;
    }
    start_constant(&mut parts, &intervals);
    let mut best = f64::INFINITY;
    let steps = (LOADS_STEPPED / loads.max(1)).clamp(STEPS_MIN, STEPS);
    for step in 0..steps {
        best = best.min(saving(&mut parts, &intervals, loads));
        let by = STEP_FIRST / (1.0 + step as f64 / STEPS_LARGE).sqrt();
        parts.iter_mut().for_each(|part| part.step(by));
    }
    all_cold - best
}

/// The fastest pool, the two fastest, and so on; pools without capacity left out.
fn parts(tiers: &Tiers, loads: usize) -> Vec<Part> {
    let cold = tiers.secs_per_byte(None);
    let mut parts: Vec<Part> = Vec::new();
    for (rank, &(_, _, capacity)) in tiers.pools.iter().enumerate() {
        if capacity == 0 {
            continue;
        }
        let gain = (cold - tiers.secs_per_byte(Some(rank))).max(0.0);
        let faster = parts.last_mut();
        let (mut sum, mut largest_bytes) = (capacity as f64, capacity);
        if let Some(faster) = faster {
            faster.gain_here = (faster.gain - gain).max(0.0);
            sum += faster.capacity;
            largest_bytes = largest_bytes.max(faster.largest_bytes);
        }
        parts.push(Part {
            by_load: vec![0.0; loads],
            before: vec![0.0; loads + 1],
            wanted: vec![0.0; loads + 1],
            gain,
            gain_here: gain,
            capacity: sum,
            largest_bytes,
        });
    }
    parts
}

fn intervals(largest_bytes: u64, trace: &Trace) -> Vec<Interval> {
    let mut last: Vec<Option<(usize, u64)>> = vec![None; trace.sizes.len()];
    let mut intervals = Vec::new();
    for (to, load) in trace.loads.iter().enumerate() {
        let bytes = load.bytes;
        // What has another size than before is another content: it cannot have been held.
        if let Some((from, before)) = last[load.object as usize].replace((to, bytes))
            && before == bytes
            && bytes <= largest_bytes
        {
            intervals.push(Interval { from, to, bytes });
        }
    }
    intervals
}

/// Starts with the constant price at which as much is wanted as there is capacity, part by part
/// (PFOO-L).
fn start_constant(parts: &mut [Part], intervals: &[Interval]) {
    let mut lengths: Vec<(f64, f64)> = intervals
        .iter()
        .map(|i| ((i.to - i.from) as f64, i.bytes as f64))
        .collect();
    lengths.sort_by(|a, b| a.0.total_cmp(&b.0));
    for part in parts {
        let mut volume = part.capacity * part.before.len() as f64;
        let mut longest = 1.0;
        for &(length, bytes) in &lengths {
            volume -= length * bytes;
            if volume < 0.0 {
                break;
            }
            longest = length;
        }
        part.by_load.fill(part.gain_here / longest);
    }
}

/// The bound on the saving at these prices; notes what is wanted.
fn saving(parts: &mut [Part], intervals: &[Interval], loads: usize) -> f64 {
    parts.iter_mut().for_each(Part::sum_up);
    let mut total: f64 = parts.iter().map(|p| p.capacity * p.before[loads]).sum();
    for interval in intervals {
        // The best is served from the slowest pool of this part: (net gain, which).
        let mut best: Option<(f64, usize)> = None;
        let mut price = 0.0;
        for (at, part) in parts.iter().enumerate().rev() {
            price += part.price(interval);
            let net = part.gain - price;
            let fits = interval.bytes <= part.largest_bytes;
            if fits && best.map_or(0.0, |(most, _)| most) < net {
                best = Some((net, at));
            }
        }
        if let Some((net, at)) = best {
            total += interval.bytes as f64 * net;
            parts[at..].iter_mut().for_each(|part| part.want(interval));
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
