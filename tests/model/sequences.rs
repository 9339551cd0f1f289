//! Random sequences against the naive model.
//!
//! A seed that fails prints itself, the command that replays it, and the shortest case found.
//! `SPEEDLOADER_MODEL_SEED=N` runs that seed alone, `SPEEDLOADER_MODEL_SEQUENCES=N` so many.

use std::fmt::Write;
use std::panic::catch_unwind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::run::{Case, case_of, run, shrink};

/// Sequences of an ordinary run.
const SEQUENCES: u64 = 2000;
/// Where the seeds of an ordinary run begin.
const FIRST_SEED: u64 = 1;
const SHRINK_ATTEMPTS: usize = 600;
/// After so many nobody reads on.
const FAULTS_MAX: usize = 10;

/// Seeds that found something once.
const REMEMBERED: [u64; 0] = [];

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// What is wrong with a seed; `None`: nothing.
fn fault(seed: u64) -> Option<String> {
    let case = case_of(seed);
    let outcome = catch_unwind(|| run(&case));
    match outcome {
        Ok(Ok(())) => None,
        Ok(Err(why)) => Some(why),
        Err(_) => Some("a panic, see above".to_owned()),
    }
}

fn report(faults: &[(u64, String)]) -> String {
    let mut text = String::new();
    for (seed, why) in faults {
        let _ = writeln!(
            text,
            "seed {seed}: {why}\n  replay: SPEEDLOADER_MODEL_SEED={seed} cargo test --test main \
             model::sequences -- --nocapture"
        );
    }
    let Some((seed, _)) = faults.first() else {
        return text;
    };
    let shortest = shrink(&case_of(*seed), SHRINK_ATTEMPTS);
    let Case {
        pools,
        passthrough,
        before,
        ops,
    } = &shortest;
    let _ = writeln!(
        text,
        "the shortest case of seed {seed}: {pools:?}, passthrough {passthrough}"
    );
    for (home, change) in before {
        let _ = writeln!(text, "  before: ({home}, {change:?}),");
    }
    for op in ops {
        let _ = writeln!(text, "  {op:?},");
    }
    let again = catch_unwind(|| run(&shortest));
    let _ = writeln!(text, "fails with: {again:?}");
    text
}

#[test]
fn random_sequences_agree_with_the_naive_model() {
    rustix::process::umask(rustix::fs::Mode::empty());
    let alone = number("SPEEDLOADER_MODEL_SEED");
    let first = alone
        .or(number("SPEEDLOADER_MODEL_FIRST"))
        .unwrap_or(FIRST_SEED);
    let sequences = number("SPEEDLOADER_MODEL_SEQUENCES").unwrap_or(SEQUENCES);
    let last = first + alone.map_or(sequences, |_| 1);
    let remembered = if alone.is_some() {
        &[]
    } else {
        &REMEMBERED[..]
    };
    let faults = Mutex::new(Vec::new());
    let (old, new) = (AtomicUsize::new(0), AtomicU64::new(first));
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = match remembered.get(old.fetch_add(1, Ordering::Relaxed)) {
                        Some(seed) => *seed,
                        None => new.fetch_add(1, Ordering::Relaxed),
                    };
                    let enough = faults.lock().unwrap().len() >= FAULTS_MAX;
                    if seed >= last || enough {
                        return;
                    }
                    if let Some(why) = fault(seed) {
                        faults.lock().unwrap().push((seed, why));
                    }
                }
            });
        }
    });
    let faults = faults.into_inner().unwrap();
    assert!(faults.is_empty(), "{}", report(&faults));
}
