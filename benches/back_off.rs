//! What an engine's load of a cold file costs while another model is promoted from the same disk:
//! its speed beside the promotion by its speed alone, for read(2), mmap and direct I/O.
//!
//! `cargo bench --bench back_off [-- OPTIONS]`, as root; `-- --help` lists the options. In each round
//! the engine loads both ways, one after the other, in turn in both orders, with caches dropped before
//! each. The promotion is of a model four times as large, and must end once it is left alone.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a benchmark prints its figures, and ends where its machinery fails"
)]

mod harness;
#[path = "../tests/harness/mapping.rs"]
mod mapping;
mod first_load {
    //! How engines read.

    pub mod engine;
}

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use first_load::engine::{self, PATTERNS, Pattern};
use harness::report::{Fact, Figures};
use harness::{Goal, Options, Report, Site, files, machine};
use serde_json::{Value, json};

/// In the environment of a process that is the engine.
const PART: &str = "BACK_OFF_PART";
/// What the engine loads, and what is promoted.
const READ: &str = "read.gguf";
const MOVED: &str = "moved.gguf";
/// The second by the first.
const MOVED_TIMES: u64 = 4;
/// How long a promotion may take to begin, and to end once it is left alone.
const PATIENCE: Duration = Duration::from_secs(120);

fn main() -> Result<()> {
    if std::env::var_os(PART).is_some() {
        let argument = |index| std::env::args().nth(index).context("no argument");
        println!(
            "{}",
            engine::load(Path::new(&argument(1)?), argument(2)?.parse()?)?
        );
        return Ok(());
    }
    let defaults = Options {
        rounds: 5,
        mib: 512,
        ..Options::default()
    };
    let Some(options) = Options::parse(defaults)? else {
        return Ok(());
    };
    let mut report = Report::start("speedloader: loads beside a promotion", &options);
    let site = Site::new(&options.directory)?;
    let (bytes, moved_bytes) = (options.bytes(), options.bytes() * MOVED_TIMES);
    files::write_file(&site.cold().join(READ), bytes)?;
    files::write_file(&site.cold().join(MOVED), moved_bytes)?;
    // Nothing is moved by itself: the engine's file stays cold.
    site.start(
        moved_bytes + moved_bytes / 8 + (64 << 20),
        &["policy.enabled=false"],
    )?;
    site.run(&["models"])?;

    let (mut rows, mut facts) = (Vec::new(), Vec::new());
    for wanted in [Pattern::Read, Pattern::Private, Pattern::Direct] {
        let index = PATTERNS.iter().position(|(pattern, _)| *pattern == wanted);
        let index = index.context("no such pattern")?;
        let name = PATTERNS[index].1;
        if !options.wants(name) {
            continue;
        }
        let (mut alone, mut beside, mut copied) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..options.rounds {
            for first in [true, false] {
                if first == (round % 2 == 0) {
                    alone.push(load(&site, index)?);
                } else {
                    let (secs, part) = load_beside(&site, index)?;
                    beside.push(secs);
                    copied.push(part);
                }
            }
        }
        let ratios = alone
            .iter()
            .zip(&beside)
            .map(|(alone, beside)| alone / beside);
        let ratio = Figures::new(ratios.collect()).median();
        rows.push(vec![
            json!(name),
            json!(Figures::new(alone).median()),
            json!(Figures::new(beside).median()),
            json!(ratio),
            json!(Figures::new(copied).median()),
        ]);
        facts.push(Fact::judged(
            format!("{name}: speed beside a promotion / alone"),
            ratio,
            "x",
            Goal::AtLeast(0.9),
        ));
    }
    let header = [
        "",
        "alone, s",
        "beside, s",
        "speed",
        "of the promotion meanwhile",
    ];
    report.table("loads of a cold file", &header, rows);
    report.facts("goals", &facts);
    report.finish()
}

/// Seconds that an engine takes.
fn load(site: &Site, pattern: usize) -> Result<f64> {
    machine::drop_page_cache()?;
    engine_secs(site, pattern)
}

fn engine_secs(site: &Site, pattern: usize) -> Result<f64> {
    let output = Command::new(std::env::current_exe()?)
        .env(PART, "engine")
        .arg(site.mount().join(READ))
        .arg(pattern.to_string())
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "the engine failed");
    let told: Value = serde_json::from_slice(&output.stdout)?;
    told["secs"].as_f64().context("no seconds")
}

/// The same while the other model is promoted; and the part of it that came meanwhile.
fn load_beside(site: &Site, pattern: usize) -> Result<(f64, f64)> {
    machine::drop_page_cache()?;
    site.run(&["promote", MOVED])?;
    let start = Instant::now();
    let before = loop {
        let done = part_done(site)?;
        if done > 0.0 {
            break done;
        }
        ensure!(start.elapsed() < PATIENCE, "the promotion does not begin");
    };
    ensure!(
        before < 1.0,
        "the promotion was over before the engine began: use a larger --mib"
    );
    let secs = engine_secs(site, pattern)?;
    let after = part_done(site)?;
    let start = Instant::now();
    while part_done(site)? < 1.0 {
        ensure!(start.elapsed() < PATIENCE, "the promotion does not end");
        std::thread::sleep(Duration::from_millis(100));
    }
    site.run(&["wait", MOVED])?;
    site.run(&["demote", MOVED])?;
    Ok((secs, after - before))
}

/// How much of the promotion is done.
fn part_done(site: &Site) -> Result<f64> {
    let told = site.ask(&["transfers"])?;
    let transfers = told["transfers"].as_array().context("no transfers")?;
    let newest = transfers
        .iter()
        .max_by_key(|transfer| transfer["id"].as_u64());
    let newest = newest.context("nothing is promoted")?;
    let bytes = |name: &str| newest[name].as_f64().unwrap_or(0.0);
    Ok(bytes("done_bytes") / bytes("total_bytes").max(1.0))
}
