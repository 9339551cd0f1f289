//! `speedloader simulate`: what policies and pool sizes would have made of a trace of loads.
//!
//! The policy's own code replays it; nothing is asked of a daemon and nothing is moved.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use speedloader_config::Bytes;
use speedloader_policy::{
    BASELINES, BaselineKind, Moves, Params, TierId, Tiers, Totals, Trace, TraceReader,
    load_time_bound_secs, replay, replay_baseline,
};

use super::context::Context;
use crate::command::{Code, Message};
use crate::view::human::size;
use crate::view::table::{self, Align, Cell, Column, Row, Tone};

/// No honest trace has longer lines.
const LINE_BYTES_MAX: usize = 64 << 10;
/// Sizes of pools that one run compares at most.
const SIZES_MAX: usize = 64;
/// The policies that are compared where none is named.
const USUAL: &str = "auto,lru,lfu,gdsf,s3-fifo,sieve,w-tinylfu,lfuda,autotier,belady";

/// Replay a trace of loads: what would more RAM, or another policy, have brought?
#[derive(Args, Debug)]
#[command(after_help = "\
A trace is CSV, also compressed by gzip, with the columns ts_s,load,group,object,size_bytes: one line
a load of an object. Sizes in % are of all its distinct objects together. Load time is the sum of
size / bandwidth of the tier that serves each load, and of what moves cost; the bound is what no
policy can go below, also one that knows the future.

Examples:
  speedloader simulate --trace loads.csv.gz
  speedloader simulate --trace loads.csv --pool 64GiB,128GiB,256GiB --policy auto,lru
  speedloader simulate --trace loads.csv --pool 10% --remote 20% --json")]
pub(super) struct Arguments {
    /// The trace
    #[arg(long, value_name = "FILE")]
    trace: PathBuf,

    /// Sizes of the pool in local RAM, to be compared
    #[arg(long, value_name = "SIZE|%,..", default_value = "5%,10%,20%,40%")]
    pool: String,

    /// Size of a pool in another host's RAM beside it
    #[arg(long, value_name = "SIZE|%")]
    remote: Option<String>,

    /// Policies to be compared; `auto` is speedloader's own
    #[arg(long, value_name = "NAME,..", default_value = USUAL)]
    policy: String,

    /// What the tiers give
    #[arg(
        long,
        value_name = "TIER=RATE,..",
        default_value = "ram=10GB/s,remote=5GB/s,cold=1GB/s"
    )]
    bandwidth: String,

    /// Whether a promotion happens while the load reads anyway, or is a copy of its own
    #[arg(long, default_value = "while-reading", value_parser = ["while-reading", "copy"])]
    moves: String,
}

/// What one policy made of one size.
#[derive(Debug, Serialize)]
struct Outcome {
    policy: &'static str,
    pool_bytes: u64,
    remote_bytes: u64,
    object_hit_ratio: f64,
    byte_hit_ratio: f64,
    load_time_s: f64,
    bound_s: f64,
    moved_bytes: u64,
}

impl Row for Outcome {
    const COLUMNS: &'static [Column] = &[
        ("POOL", Align::Right),
        ("REMOTE", Align::Right),
        ("POLICY", Align::Left),
        ("OBJECT HITS", Align::Right),
        ("BYTE HITS", Align::Right),
        ("LOAD TIME", Align::Right),
        ("x BOUND", Align::Right),
        ("MOVED", Align::Right),
    ];

    fn cells(&self, _now_ms: u64) -> Vec<Cell> {
        let share = |ratio: f64| Cell::from(format!("{:.1} %", ratio * 100.0));
        let tone = if self.policy == AUTO {
            Tone::Good
        } else {
            Tone::Plain
        };
        vec![
            Cell::from(size(self.pool_bytes)),
            Cell::from(size(self.remote_bytes)),
            Cell::new(self.policy, tone),
            share(self.object_hit_ratio),
            share(self.byte_hit_ratio),
            Cell::from(format!("{:.1} s", self.load_time_s)),
            Cell::from(format!(
                "{:.3}",
                self.load_time_s / self.bound_s.max(f64::MIN_POSITIVE)
            )),
            Cell::from(size(self.moved_bytes)),
        ]
    }
}

/// The name of our own policy.
const AUTO: &str = "auto";

/// A policy that can be replayed.
#[derive(Clone, Copy)]
enum Policy {
    Auto,
    Baseline(BaselineKind),
}

pub(super) fn run(arguments: &Arguments, context: &mut Context<'_>) -> Result<(), Message> {
    let policies = policies(&arguments.policy)?;
    let speeds = Speeds::parse(&arguments.bandwidth)?;
    let trace = read_trace(&arguments.trace)?;
    let footprint = trace.footprint_bytes();
    let sizes = sizes(&arguments.pool, "--pool", footprint)?;
    let remote = match &arguments.remote {
        Some(text) => one_size(text, "--remote", footprint)?,
        None => 0,
    };
    let moves = if arguments.moves == "copy" {
        Moves::Copy
    } else {
        Moves::WhileReading
    };
    let mut outcomes = Vec::new();
    for pool in sizes {
        let tiers = speeds.tiers(pool, remote);
        let bound_s = load_time_bound_secs(&tiers, &trace);
        for policy in &policies {
            let totals = match policy {
                Policy::Auto => replay(&Params::default(), &tiers, moves, &trace),
                Policy::Baseline(kind) => replay_baseline(*kind, &tiers, moves, &trace),
            };
            outcomes.push(outcome(*policy, pool, remote, &totals, bound_s));
        }
    }
    let text = if context.global.json {
        format!("{}\n", serde_json::json!({ "results": outcomes }))
    } else {
        table::render(&outcomes, 0, context.console.style)
    };
    context
        .console
        .out
        .write_all(text.as_bytes())
        .map_err(|error| Message::new(Code::Failed, format!("printing: {error}")))
}

fn outcome(policy: Policy, pool: u64, remote: u64, totals: &Totals, bound_s: f64) -> Outcome {
    Outcome {
        policy: match policy {
            Policy::Auto => AUTO,
            Policy::Baseline(kind) => kind.name(),
        },
        pool_bytes: pool,
        remote_bytes: remote,
        object_hit_ratio: totals.object_hit_ratio(),
        byte_hit_ratio: totals.byte_hit_ratio(),
        load_time_s: totals.load_time_secs,
        bound_s,
        moved_bytes: totals.moved_bytes,
    }
}

fn usage(text: String) -> Message {
    Message::new(Code::Usage, text)
}

fn policies(text: &str) -> Result<Vec<Policy>, Message> {
    let policy = |name: &str| match name {
        AUTO => Ok(Policy::Auto),
        name => BaselineKind::named(name)
            .map(Policy::Baseline)
            .ok_or_else(|| {
                let names: Vec<&str> = BASELINES.iter().map(|kind| kind.name()).collect();
                usage(format!("--policy: there is no policy `{name}`"))
                    .with_hint(format!("policies: {AUTO}, {}", names.join(", ")))
            }),
    };
    text.split(',').map(|name| policy(name.trim())).collect()
}

fn sizes(text: &str, option: &str, footprint: u64) -> Result<Vec<u64>, Message> {
    let parts: Vec<&str> = text.split(',').collect();
    if parts.len() > SIZES_MAX {
        return Err(usage(format!(
            "{option}: {} sizes; {SIZES_MAX} can be compared",
            parts.len()
        )));
    }
    parts
        .into_iter()
        .map(|part| one_size(part, option, footprint))
        .collect()
}

/// A size, or a share of the trace's footprint.
fn one_size(text: &str, option: &str, footprint: u64) -> Result<u64, Message> {
    let text = text.trim();
    let wrong = |wanted: &str| usage(format!("{option}: `{text}` is no size; wanted {wanted}"));
    let bytes = match text.strip_suffix('%') {
        Some(number) => {
            let percent: f64 = number.parse().map_err(|_| wanted_percent(option, text))?;
            if !(percent > 0.0 && percent <= 1000.0) {
                return Err(wanted_percent(option, text));
            }
            // Far below the precision of a 64-bit float for any sum of file sizes.
            (footprint as f64 * percent / 100.0) as u64
        }
        None => Bytes::parse(text).map_err(wrong)?.0,
    };
    if bytes == 0 {
        return Err(usage(format!(
            "{option}: `{text}` is nothing; wanted more than 0 bytes"
        )));
    }
    Ok(bytes)
}

fn wanted_percent(option: &str, text: &str) -> Message {
    usage(format!(
        "{option}: `{text}` is no share; wanted such as 10%, above 0 and at most 1000"
    ))
}

/// Bytes a second of each tier.
struct Speeds {
    ram: u64,
    remote: u64,
    cold: u64,
}

impl Speeds {
    fn parse(text: &str) -> Result<Speeds, Message> {
        let mut speeds = Speeds {
            ram: 10_000_000_000,
            remote: 5_000_000_000,
            cold: 1_000_000_000,
        };
        for part in text.split(',') {
            let wrong = || {
                usage(format!("--bandwidth: `{part}` is no rate of a tier"))
                    .with_hint("such as ram=10GB/s,remote=5GB/s,cold=1GB/s")
            };
            let (tier, rate) = part.split_once('=').ok_or_else(wrong)?;
            let amount = rate.trim().strip_suffix("/s").ok_or_else(wrong)?;
            let bytes = Bytes::parse(amount).map_err(|_| wrong())?.0;
            if bytes == 0 {
                return Err(wrong());
            }
            match tier.trim() {
                "ram" => speeds.ram = bytes,
                "remote" => speeds.remote = bytes,
                "cold" => speeds.cold = bytes,
                _ => return Err(wrong()),
            }
        }
        Ok(speeds)
    }

    fn tiers(&self, pool: u64, remote: u64) -> Tiers {
        let mut pools = vec![(TierId(0), self.ram, pool)];
        if remote > 0 {
            pools.push((TierId(1), self.remote, remote));
        }
        Tiers {
            pools,
            cold_bytes_per_sec: self.cold,
        }
    }
}

fn read_trace(path: &Path) -> Result<Trace, Message> {
    let failed = |what: &dyn std::fmt::Display| {
        Message::new(Code::Failed, format!("--trace: {}: {what}", path.display()))
    };
    let file = File::open(path).map_err(|error| failed(&error))?;
    let mut file = BufReader::new(file);
    let compressed = file
        .fill_buf()
        .is_ok_and(|start| start.starts_with(&[0x1f, 0x8b]));
    let plain: Box<dyn Read> = match compressed {
        true => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
        false => Box::new(file),
    };
    let mut lines = BufReader::new(plain);
    let (mut reader, mut line, mut number) = (TraceReader::new(), Vec::new(), 0);
    loop {
        line.clear();
        number += 1;
        let mut limited = (&mut lines).take(LINE_BYTES_MAX as u64);
        match limited.read_until(b'\n', &mut line) {
            Ok(0) => break,
            Ok(LINE_BYTES_MAX) => {
                return Err(failed(&format!(
                    "line {number} is longer than {LINE_BYTES_MAX} bytes"
                )));
            }
            Ok(_) => {}
            Err(error) => return Err(failed(&format!("line {number}: {error}"))),
        }
        let text = std::str::from_utf8(&line)
            .map_err(|_| failed(&format!("line {number} is no UTF-8")))?;
        reader.line(text).map_err(|fault| failed(&fault))?;
    }
    reader.finish().map_err(|fault| failed(&fault))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_bytes_or_shares_of_the_footprint() {
        assert_eq!(one_size("10%", "--pool", 1000).expect("a share"), 100);
        assert_eq!(one_size("2KiB", "--pool", 1000).expect("a size"), 2048);
        for wrong in [
            "", "-5%", "nan%", "inf%", "0%", "1e9%", "64", "0B", "%", "10 %%",
        ] {
            let error = one_size(wrong, "--pool", 1000).expect_err(wrong);
            assert_eq!(error.code, Code::Usage, "{wrong}: {error}");
        }
    }

    #[test]
    fn rates_name_their_tier() {
        let speeds = Speeds::parse("ram=20GB/s,cold=500MB/s").expect("rates");
        assert_eq!(
            (speeds.ram, speeds.remote, speeds.cold),
            (20_000_000_000, 5_000_000_000, 500_000_000)
        );
        for wrong in [
            "ram",
            "ram=10GB",
            "tape=1GB/s",
            "ram=0B/s",
            "ram=-1GB/s",
            "",
        ] {
            assert!(Speeds::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn policies_are_known_by_name() {
        assert_eq!(
            policies(USUAL).expect("all known").len(),
            USUAL.split(',').count()
        );
        let error = policies("auto,lrru").err().expect("unknown");
        assert!(error.to_string().contains("lrru"));
    }
}
