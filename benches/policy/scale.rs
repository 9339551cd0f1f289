//! How time and memory grow: 100,000 models, millions of loads; and how long a plan takes.

use std::time::{Duration, Instant};

use speedloader_policy::{
    FileRef, FileState, Learned, Load, ModelId, ModelRule, ModelState, Moves, Params, PoolState,
    Replay, Snapshot, TierId, Tiers, TraceLoad, Want, WantKind, plan,
};

use crate::worlds::Dice;

const MODELS: u32 = 100_000;
const FILES: u64 = 10_000;
const PLANS: usize = 500;

/// Zipf-like without a table: the popularity of rank r falls as 1/r.
fn popular(dice: &mut Dice, models: u32) -> u32 {
    (f64::from(models).powf(dice.unit()) as u32 - 1).min(models - 1)
}

fn resident_set_mib() -> f64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text
        .split(' ')
        .nth(1)
        .and_then(|n| n.parse::<f64>().ok())
        .unwrap_or(0.0);
    pages * 4096.0 / 1048576.0
}

/// Prints both.
pub fn run(loads: u64) {
    if loads > 0 {
        println!("\nscale: {MODELS} models, pools of 5 % and 10 %");
        let [short, long] = [loads / 10, loads].map(simulate);
        println!(
            "10 times the loads take {:.1} times as long",
            long / short.max(f64::MIN_POSITIVE)
        );
    }
    latency();
}

/// Seconds it took.
fn simulate(loads: u64) -> f64 {
    let bytes = |object: u32| 1_000_000_000 + u64::from(object % 977) * 20_000_000;
    let footprint: u64 = (0..MODELS).map(bytes).sum();
    let pools = vec![
        (TierId(0), 10_000_000_000, footprint / 20),
        (TierId(1), 5_000_000_000, footprint / 10),
    ];
    let tiers = Tiers {
        pools,
        cold_bytes_per_sec: 1_000_000_000,
    };
    let before = resident_set_mib();
    let mut replay = Replay::new(Params::default(), tiers, Moves::WhileReading);
    let mut dice = Dice::new(1);
    let start = Instant::now();
    for at in 0..loads {
        let object = popular(&mut dice, MODELS);
        replay.load(TraceLoad {
            object,
            family: 1 + object % 500,
            bytes: bytes(object),
            at_secs: at,
        });
    }
    let secs = start.elapsed().as_secs_f64();
    let memory = resident_set_mib() - before;
    let saved = replay.learned().to_bytes().len();
    println!(
        "{loads:>9} loads: {secs:.1} s, {:.2} us a load, {memory:.0} MiB ({:.0} bytes a model, \
         the simulated pools included), saved state {:.1} MiB, byte hits {:.3}",
        secs * 1e6 / loads as f64,
        memory * 1048576.0 / f64::from(MODELS),
        saved as f64 / 1048576.0,
        replay.totals().byte_hit_ratio(),
    );
    secs
}

/// A plan for one load among 10,000 files of 3,333 models.
fn latency() {
    let mut dice = Dice::new(2);
    let mut snapshot = Snapshot {
        cold_bytes_per_sec: 1_000_000_000,
        ..Snapshot::default()
    };
    let mut used = 0;
    let capacity_bytes = 4_000_000_000_000;
    for id in 0..FILES {
        let size_bytes = 1_000_000 + dice.below(5_000_000_000);
        let held = id / 3 % 5 == 0 && used + 3 * 5_001_000_000 < capacity_bytes;
        used += if held { size_bytes } else { 0 };
        let place = held.then_some(TierId(0));
        snapshot.files.push(FileState {
            id: FileRef(id),
            size_bytes,
            place,
            open: false,
            busy: false,
            spare: None,
            spare_open: false,
        });
    }
    for (id, files) in snapshot.files.chunks(3).enumerate() {
        snapshot.models.push(ModelState {
            id: ModelId(id as u64),
            files: files.iter().map(|f| f.id).collect(),
            pin: None,
            rule: ModelRule::Normal,
            priority: 0,
            moving_to: None,
        });
    }
    snapshot.pools.push(PoolState {
        id: TierId(0),
        speed_bytes_per_sec: 10_000_000_000,
        capacity_bytes: used,
        free_bytes: 0,
        give_back_bytes: 0,
        accepts: true,
    });
    let params = Params::default();
    let tiers = Tiers::of(&snapshot);
    let models = snapshot.models.len() as u32;
    let mut learned = Learned::new();
    let mut times: Vec<Duration> = Vec::new();
    for _ in 0..20 * PLANS {
        let model = popular(&mut dice, models);
        let load = Load {
            model: ModelId(u64::from(model)),
            bytes: 7_500_000_000,
            family: 1,
        };
        learned.observe(&params, &tiers, load);
        if learned.loads().is_multiple_of(20) {
            snapshot.wants = vec![Want {
                model: load.model,
                kind: WantKind::Loaded,
            }];
            let start = Instant::now();
            let planned = plan(&params, &learned, &snapshot);
            times.push(start.elapsed());
            assert!(planned.is_ok(), "the snapshot is right");
        }
    }
    times.sort_unstable();
    println!(
        "\nplan for {FILES} files of {models} models: median {:.2} ms, p99 {:.2} ms",
        times[times.len() / 2].as_secs_f64() * 1e3,
        times[times.len() * 99 / 100].as_secs_f64() * 1e3,
    );
}
