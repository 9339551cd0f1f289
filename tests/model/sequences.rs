//! Random sequences against the naive model.
//!
//! A seed that fails prints itself, the command that replays it, and the shortest case found.
//! `SPEEDLOADER_MODEL_SEED=N` runs that seed alone, `SPEEDLOADER_MODEL_SEQUENCES=N` so many.

use std::panic::catch_unwind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::run::{case_of, run, shrink};

/// Sequences of an ordinary run.
const SEQUENCES: u64 = 2000;
/// Where the seeds of an ordinary run begin.
const FIRST_SEED: u64 = 1;
const SHRINK_ATTEMPTS: usize = 600;

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

fn report(seed: u64, why: &str) -> String {
    let shortest = shrink(&case_of(seed), SHRINK_ATTEMPTS);
    let again = catch_unwind(|| run(&shortest));
    format!(
        "seed {seed}: {why}\nreplay: SPEEDLOADER_MODEL_SEED={seed} cargo test --test main \
         model::sequences -- --nocapture\nshortest: {shortest:#?}\nfails with: {again:?}"
    )
}

#[test]
fn random_sequences_agree_with_the_naive_model() {
    rustix::process::umask(rustix::fs::Mode::empty());
    if let Some(seed) = number("SPEEDLOADER_MODEL_SEED") {
        if let Some(why) = fault(seed) {
            panic!("{}", report(seed, &why));
        }
        return;
    }
    let first = number("SPEEDLOADER_MODEL_FIRST").unwrap_or(FIRST_SEED);
    let last = first + number("SPEEDLOADER_MODEL_SEQUENCES").unwrap_or(SEQUENCES);
    let (next, failed) = (AtomicU64::new(first), Mutex::new(None));
    let remembered = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let old = remembered.fetch_add(1, Ordering::Relaxed);
                    let seed = match REMEMBERED.get(old) {
                        Some(seed) => *seed,
                        None => next.fetch_add(1, Ordering::Relaxed),
                    };
                    if seed >= last || failed.lock().unwrap().is_some() {
                        return;
                    }
                    if let Some(why) = fault(seed) {
                        failed.lock().unwrap().get_or_insert((seed, why));
                    }
                }
            });
        }
    });
    if let Some((seed, why)) = failed.into_inner().unwrap() {
        panic!("{}", report(seed, &why));
    }
}
