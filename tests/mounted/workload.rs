//! The policy on a real mount: loads of sixty models by Zipf's law, whose popularity shifts half-way,
//! over a pool that holds 15 % of them. What comes from the pool is what the simulator says of the same
//! loads, nothing is taken from whoever has it open, and the new favourites arrive.
//!
//! Its figures: `cargo test --test main mounted::workload -- --nocapture`.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::Read;
use std::time::Duration;

use speedloader::command::Command;
use speedloader::models::synthetic::write_gguf;
use speedloader::view::ReplicaState;
use speedloader_policy::{Moves, Params, TierId, Tiers, Trace, TraceReader, replay};

use crate::harness::child::{self, Child};
use crate::harness::{Mount, Site, mapping};
use crate::model::op::Random;

const MODELS: usize = 60;
const LOADS: usize = 800;
/// The pool, of all models.
const POOL_PERCENT: u64 = 15;
/// All of them take minutes beside other programs.
const TIME_MAX: Duration = Duration::from_secs(600);
/// How long loading one takes at least.
const LOADING: Duration = Duration::from_millis(70);
/// Engines that have their model open at a time.
const ENGINES: usize = 2;
/// Of the last loads before the shift and at the end, by which it is judged.
const SETTLED: usize = LOADS / 4;
/// By how much the hit ratio may differ from what was predicted, of that.
const TOLERANCE: f64 = 0.02;
/// How often the pool must serve the new favourites by the end, of how often it served the old ones:
/// what is remembered of those takes room from these for a while.
const FOLLOWED: f64 = 0.7;

/// From 0 to 1.
fn share(numbers: &mut Random) -> f64 {
    (numbers.next() >> 11) as f64 / (1_u64 << 53) as f64
}

/// A rank, the more often the smaller: rank r with a weight of 1 / (r + 1).
fn rank(numbers: &mut Random) -> usize {
    let total: f64 = (1..=MODELS).map(|rank| 1.0 / rank as f64).sum();
    let mut left = share(numbers) * total;
    for rank in 1..MODELS {
        left -= 1.0 / rank as f64;
        if left < 0.0 {
            return rank - 1;
        }
    }
    MODELS - 1
}

/// Names without anything in common: no model is another's kin.
fn name(model: usize) -> String {
    let letter = |number: usize| char::from(b'a' + u8::try_from(number % 26).unwrap());
    format!(
        "{}{}.gguf",
        letter(model * 7),
        letter(model / 26 + model * 3)
    )
}

/// An engine: looks at the header, opens the model again, maps and reads it, and keeps the mapping.
pub fn part() {
    let path = child::argument(0);
    let mut header = [0; 4];
    File::open(&path).unwrap().read_exact(&mut header).unwrap();
    assert_eq!(&header, b"GGUF");
    let file = File::open(&path).unwrap();
    let map = mapping::shared(&file).unwrap();
    let sum = checksum(&map);
    // Models are larger elsewhere: a handle that is held for less may have looked at a header.
    std::thread::sleep(LOADING);
    drop(file);
    child::say(&sum);
    while child::hear().is_some() {}
}

fn checksum(bytes: &[u8]) -> String {
    let words = bytes.chunks_exact(8).map(|word| {
        let word = word.first_chunk::<8>().unwrap();
        u64::from_ne_bytes(*word)
    });
    words.fold(0, u64::wrapping_add).to_string()
}

/// A process that has a model open.
struct Engine {
    model: usize,
    /// Whether it reads the replica.
    has_replica: bool,
    process: Child,
}

struct Workload {
    mount: Mount,
    sizes: Vec<u64>,
    sums: Vec<String>,
    /// Those that run, the oldest first.
    engines: VecDeque<Engine>,
    /// Of each load, its bytes and whether they came from the pool.
    served: Vec<(u64, bool)>,
    /// How many of them ended on a replica.
    on_replicas: usize,
}

impl Workload {
    fn start() -> Option<Workload> {
        let mut numbers = Random(5);
        let site = Site::new().option("policy.enabled=true").limit(TIME_MAX);
        let (mut sizes, mut sums) = (Vec::new(), Vec::new());
        for (model, seed) in (0..MODELS).zip(1..) {
            // From 512 KiB to 8 MiB, as many of them in each doubling; whole pages, which is what a pool
            // takes for them, and the simulator knows nothing of pages.
            let bytes = (share(&mut numbers).mul_add(4.0, 19.0)).exp2() as u64;
            let path = site.cold(0, name(model));
            let written = write_gguf(&path, bytes, 1, seed).unwrap();
            let file = File::options().write(true).open(&path).unwrap();
            file.set_len(written.size_bytes.next_multiple_of(4096))
                .unwrap();
            let content = fs::read(path).unwrap();
            sizes.push(content.len() as u64);
            sums.push(checksum(&content));
        }
        let pool = sizes.iter().sum::<u64>() * POOL_PERCENT / 100;
        fs::copy("/proc/self/exe", site.root().join("engine")).unwrap();
        let mount = site.pools(&[("p", &format!("{pool}B"))]).start()?;
        mount.call(Command::Models { filter: None });
        Some(Workload {
            mount,
            sizes,
            sums,
            engines: VecDeque::new(),
            served: Vec::new(),
            on_replicas: 0,
        })
    }

    fn is_resident(&self, model: usize) -> bool {
        let replicas = self.mount.which(&name(model)).replicas;
        replicas
            .iter()
            .any(|replica| replica.state == ReplicaState::Serving)
    }

    /// Whether the last load of a model ended on its replica. An engine that opened the home, because there
    /// was no room yet, goes on with it, and the replica that is made once its load has been counted is in
    /// nobody's hands.
    fn was_given_the_replica(&self, model: usize) -> bool {
        let name = name(model);
        let events = self.mount.events();
        let last = |kind: &str, subject: &str| {
            let mut events = events.iter().rev();
            let event = events.find(|event| event.kind == kind && event.subject == subject);
            event.map_or("", |event| event.text.as_str())
        };
        let stem = name.trim_end_matches(".gguf");
        self.is_resident(model)
            && (last("load", stem) == "loaded from a pool"
                || last("promoted", &name).contains("(first load:"))
    }

    fn load(&mut self, model: usize) {
        let is_hit = self.is_resident(model);
        // Engines that have nothing to do with each other: of one program's processes each would go on with the other's load.
        let program = self.mount.root().join("engine");
        let arguments = [self.mount.mounted(name(model))];
        let mut engine = child::start_program(&program, "workload", None, &arguments);
        engine.expect(&self.sums[model]);
        self.served.push((self.sizes[model], is_hit));
        let loads = self.served.len() as u64;
        self.mount.until("the load is counted", || {
            self.mount.status().totals.loads == loads
        });
        self.mount.call(Command::Wait {
            names: Vec::new(),
            timeout_s: 60,
        });
        let engine = Engine {
            model,
            has_replica: self.was_given_the_replica(model),
            process: engine,
        };
        self.on_replicas += usize::from(engine.has_replica);
        self.engines.push_back(engine);
        for engine in &self.engines {
            assert!(
                !engine.has_replica || self.is_resident(engine.model),
                "{} was taken from an engine\n{}",
                name(engine.model),
                self.mount.log()
            );
        }
        if self.engines.len() > ENGINES {
            self.engines.pop_front().unwrap().process.finish();
        }
    }

    fn hit_ratio(&self, loads: std::ops::Range<usize>) -> f64 {
        let served = &self.served[loads];
        let hit: u64 = served.iter().filter(|load| load.1).map(|load| load.0).sum();
        let all: u64 = served.iter().map(|load| load.0).sum();
        hit as f64 / all as f64
    }

    /// What the daemon has written down of the loads.
    fn trace(&self) -> Trace {
        let text = fs::read_to_string(self.mount.root().join("state/loads.csv")).unwrap();
        let mut reader = TraceReader::new();
        for line in text.lines() {
            reader.line(line).unwrap();
        }
        reader.finish().unwrap()
    }
}

#[test]
fn a_zipf_workload_hits_as_often_as_the_simulator_says_and_its_shift_is_followed() {
    let Some(mut workload) = Workload::start() else {
        return;
    };
    let mut numbers = Random(7);
    for load in 0..LOADS {
        // The least popular become the most popular.
        let rank = rank(&mut numbers);
        let model = match load < LOADS / 2 {
            true => rank,
            false => MODELS - 1 - rank,
        };
        workload.load(model);
    }
    let before = workload.hit_ratio(LOADS / 2 - SETTLED..LOADS / 2);
    let after = workload.hit_ratio(LOADS - SETTLED..LOADS);
    let all = workload.hit_ratio(0..LOADS);
    let status = workload.mount.status();
    let capacity = status.pools[0].capacity_bytes;
    let tiers = Tiers {
        pools: vec![(TierId(0), 10_000_000_000, capacity)],
        cold_bytes_per_sec: 1_000_000_000,
    };
    let predicted = replay(
        &Params::default(),
        &tiers,
        Moves::WhileReading,
        &workload.trace(),
    )
    .byte_hit_ratio();
    println!(
        "{MODELS} models of {} MiB, a pool of {} MiB, {LOADS} loads: {:.1} % of the bytes from the pool, \
         predicted {:.1} %; before the shift {:.1} %, at the end {:.1} %",
        workload.sizes.iter().sum::<u64>() >> 20,
        capacity >> 20,
        all * 100.0,
        predicted * 100.0,
        before * 100.0,
        after * 100.0
    );
    assert!(
        (all / predicted - 1.0).abs() <= TOLERANCE,
        "{all}, predicted {predicted}"
    );
    assert!(workload.on_replicas > LOADS / 2, "{}", workload.on_replicas);
    assert!(after >= before * FOLLOWED, "{before}, then {after}");
    assert!(workload.is_resident(MODELS - 1), "the new favourite");
    for engine in workload.engines {
        engine.process.finish();
    }
    workload.mount.finish();
}
