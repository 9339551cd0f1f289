//! The offline bound against the least load time there is, found by trying every placement of tiny traces.

mod dice;

use speedloader_policy::{HEADER, TierId, Tiers, Trace, TraceReader, load_time_bound_secs};

use dice::Dice;

/// Loads by (object, bytes).
fn trace(loads: &[(usize, u64)]) -> Trace {
    let mut reader = TraceReader::new();
    reader.line(HEADER).expect("is the header");
    for (at, (object, bytes)) in loads.iter().enumerate() {
        let line = format!("{at},{at},g,o{object},{bytes}");
        reader.line(&line).expect("is a load");
    }
    reader.finish().expect("is a trace")
}

/// Pools of these capacities, at 10, 5 and (the homes) 1 bytes a second.
fn tiers(capacities: &[u64]) -> Tiers {
    let pools = capacities.iter().zip([(0, 10), (1, 5)]);
    Tiers {
        pools: pools
            .map(|(&bytes, (id, speed))| (TierId(id), speed, bytes))
            .collect(),
        cold_bytes_per_sec: 1,
    }
}

/// Where each object is, the homes being the place after the slowest pool.
type Places = Vec<usize>;

/// All ways to place objects of these sizes in pools.
fn placements(sizes: &[u64], tiers: &Tiers) -> Vec<Places> {
    let homes = tiers.pools.len();
    let mut all: Vec<Places> = vec![Vec::new()];
    for _ in sizes {
        let longer = |places: &Places| {
            let places = places.clone();
            (0..=homes).map(move |place| [places.as_slice(), &[place]].concat())
        };
        all = all.iter().flat_map(longer).collect();
    }
    let fits = |places: &Places| {
        tiers
            .pools
            .iter()
            .enumerate()
            .all(|(rank, &(_, _, capacity))| {
                let here = places
                    .iter()
                    .zip(sizes)
                    .filter(|(place, _)| **place == rank);
                here.map(|(_, bytes)| bytes).sum::<u64>() <= capacity
            })
    };
    all.retain(fits);
    all
}

/// The least load time: before each load everything may be anywhere it can have got to, demotions being
/// copies that are paid for, and promotions happening while the model is loaded.
fn optimum(loads: &[(usize, u64)], sizes: &[u64], tiers: &Tiers) -> f64 {
    let homes = tiers.pools.len();
    let secs = |place: usize| {
        let pool = tiers.pools.get(place);
        1.0 / pool.map_or(tiers.cold_bytes_per_sec, |&(_, speed, _)| speed) as f64
    };
    let all = placements(sizes, tiers);
    let empty = vec![homes; sizes.len()];
    let cost = |places: &Places| if *places == empty { 0.0 } else { f64::INFINITY };
    let mut costs: Vec<f64> = all.iter().map(cost).collect();
    for &(loaded, bytes) in loads {
        let moved = |from: &Places, to: &Places| {
            let mut sum = bytes as f64 * secs(from[loaded]);
            for (object, (&before, &after)) in from.iter().zip(to).enumerate() {
                if after < before && object != loaded {
                    return f64::INFINITY;
                }
                if after > before && after < homes {
                    sum += sizes[object] as f64 * secs(after);
                }
            }
            sum
        };
        let least = |to: &Places| {
            let ways = all.iter().zip(&costs);
            let ways = ways.filter(|(_, cost)| cost.is_finite());
            ways.map(|(from, cost)| cost + moved(from, to))
                .fold(f64::INFINITY, f64::min)
        };
        costs = all.iter().map(least).collect();
    }
    costs.into_iter().fold(f64::INFINITY, f64::min)
}

fn judge(name: &str, loads: &[(usize, u64)], sizes: &[u64], capacities: &[u64]) {
    let tiers = tiers(capacities);
    let bound = load_time_bound_secs(&tiers, &trace(loads));
    let optimum = optimum(loads, sizes, &tiers);
    assert!(
        bound <= optimum * (1.0 + 1e-9),
        "{name}: {loads:?} in {capacities:?} can take {optimum} s, the bound is {bound} s"
    );
}

/// Equal objects loaded in the order of the letters, `a` first.
fn equal(order: &str) -> Vec<(usize, u64)> {
    let object = |letter: u8| usize::from(letter - b'a');
    order.bytes().map(|letter| (object(letter), 10)).collect()
}

/// Each reuse was held in one pool from the one load to the next: `b` cannot be, while others are loaded in a
/// row, but it can wait in RAM and be demoted before the second row. The bound was 7 s above what a policy took.
#[test]
fn what_is_in_ram_first_and_demoted_later_is_not_forgotten() {
    let pattern = format!("b{}ab{}a", "d".repeat(10), "c".repeat(10));
    judge("the audit's", &equal(&pattern), &[10; 4], &[10, 10]);
    for (first, second) in [(1, 8), (3, 3), (5, 2), (8, 8), (2, 12)] {
        let pattern = format!("b{}ab{}ab", "d".repeat(first), "c".repeat(second));
        judge("like it", &equal(&pattern), &[10; 4], &[10, 10]);
        let pattern = format!("ab{}ba{}ba", "c".repeat(first), "d".repeat(second));
        judge("turned", &equal(&pattern), &[10; 4], &[10, 10]);
        judge("turned", &equal(&pattern), &[10; 4], &[20, 10]);
    }
}

#[test]
fn no_placement_of_tiny_traces_is_below_the_bound() {
    for seed in 0..150 {
        let mut dice = Dice(seed);
        let objects = 2 + dice.below(3) as usize;
        let sizes: Vec<u64> = (0..objects)
            .map(|_| [5, 10, 15, 20][dice.below(4) as usize])
            .collect();
        let mut loads = Vec::new();
        while loads.len() < 18 {
            let object = dice.below(objects as u64) as usize;
            let row = [1, 1, 1, 8][dice.below(4) as usize];
            loads.extend(vec![(object, sizes[object]); row]);
        }
        let ram = [10, 15, 20][dice.below(3) as usize];
        let remote = [10, 20, 30][dice.below(3) as usize];
        judge("one pool", &loads, &sizes, &[ram]);
        judge("two pools", &loads, &sizes, &[ram, remote]);
        judge("one too small", &loads, &sizes, &[3, remote]);
    }
}
