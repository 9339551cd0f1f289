//! `speedloader simulate`: what policies and pool sizes would have made of a trace of loads.
//!
//! The policy's own code replays it; nothing is moved, and of a daemon nothing is asked but where it
//! keeps its log of loads.

mod source;
mod plot;

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use speedloader_config::Bytes;
use speedloader_policy::{
    BASELINES, BaselineKind, Moves, POOLS_MAX, TierId, Tiers, Totals, load_time_bound_secs, replay,
    replay_baseline,
};

use super::context::Context;
use crate::command::{Code, Message};
use crate::view::human::{rate, size};
use crate::view::table::{self, Align, Cell, Column, Row, Tone};

/// Sizes of pools that one run compares at most.
const SIZES_MAX: usize = 64;
/// The policies that are compared where none is named.
const USUAL: &str = "auto,lru,lfu,gdsf,s3-fifo,sieve,w-tinylfu,lfuda,autotier,belady";

/// Replay loads: what would more RAM, or another policy, have brought?
#[derive(Args, Debug)]
#[command(after_help = "\
Without --trace the daemon's own log of loads is replayed (policy.load_log). A trace is CSV, also compressed by gzip, with the columns ts_s,load,group,object,size_bytes: one line
a load of an object, times in seconds. Sizes in % are of all its distinct objects together. Load time is the sum of
size / bandwidth of the tier that serves each load, and of what moves cost; the bound is what no
policy can go below, also one that knows the future. With --remote, published policies have it easier
than they could: what they hold need fit into all pools together only, not into each.

--json prints {\"results\": [..]}, for each size and policy: policy, pool_bytes, remote_bytes, object_hit_ratio,
byte_hit_ratio, load_time_s, bound_s, moved_bytes; with several --remote also tiers, what each tier served.

Examples:
  speedloader simulate --pool 64GiB --more 256GB
  speedloader simulate --trace loads.csv.gz --plot loads.svg
  speedloader simulate --trace loads.csv --pool 64GiB,128GiB,256GiB --policy auto,lru
  speedloader simulate --trace loads.csv --pool 10% --remote 20% --json
  speedloader simulate --pool 64GiB --remote near=256GiB@20GB/s --remote far=1TiB@1GB/s")]
pub(super) struct Arguments {
    /// The trace [default: what the daemon has logged]
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,

    /// Sizes of the pool in local RAM, to be compared
    #[arg(long, value_name = "SIZE|%,..", default_value = "5%,10%,20%,40%")]
    pool: String,

    /// Compare each size also with so much more: what would it buy?
    #[arg(long, value_name = "SIZE|%,..")]
    more: Option<String>,

    /// A pool in another host's RAM beside it, without @RATE as fast as --bandwidth says; may be repeated
    #[arg(long, value_name = "[NAME=]SIZE|%[@RATE]")]
    remote: Vec<String>,

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

    /// Draw load time and the RAM that a byte not read cold costs, as SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
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
    /// Only where there are several remote pools, which `remote_bytes` does not tell apart.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tiers: Vec<Share>,
}

/// What one tier served of all loads.
#[derive(Clone, Debug, Serialize)]
struct Share {
    tier: String,
    capacity_bytes: Option<u64>,
    bytes_per_sec: u64,
    loaded_bytes: u64,
}

/// A share with what it belongs to, as a line.
struct ShareRow<'a> {
    outcome: &'a Outcome,
    share: &'a Share,
}

impl Row for ShareRow<'_> {
    const COLUMNS: &'static [Column] = &[
        ("POOL", Align::Right),
        ("POLICY", Align::Left),
        ("TIER", Align::Left),
        ("CAPACITY", Align::Right),
        ("SPEED", Align::Right),
        ("LOADED", Align::Right),
        ("OF ALL", Align::Right),
    ];

    fn cells(&self, _now_ms: u64) -> Vec<Cell> {
        let ShareRow { outcome, share } = self;
        let all: u64 = outcome.tiers.iter().map(|tier| tier.loaded_bytes).sum();
        let of_all = share.loaded_bytes as f64 / (all as f64).max(1.0);
        vec![
            Cell::from(size(outcome.pool_bytes)),
            Cell::from(outcome.policy),
            Cell::from(share.tier.as_str()),
            Cell::from(share.capacity_bytes.map_or("-".to_owned(), size)),
            Cell::from(rate(share.bytes_per_sec)),
            Cell::from(size(share.loaded_bytes)),
            Cell::from(format!("{:.1} %", of_all * 100.0)),
        ]
    }
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
    const OPTIONAL: &'static [&'static str] = &["OBJECT HITS"];

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
    let (trace, params) = source::loads(arguments.trace.as_deref(), context)?;
    let footprint = trace.footprint_bytes();
    let wanted = sizes(&arguments.pool, "--pool", footprint)?;
    let more = match &arguments.more {
        Some(text) => sizes(text, "--more", footprint)?,
        None => Vec::new(),
    };
    let sizes = compared(&wanted, &more)?;
    let remotes = remotes(&arguments.remote, footprint, speeds.remote)?;
    let moves = if arguments.moves == "copy" {
        Moves::Copy
    } else {
        Moves::WhileReading
    };
    let mut outcomes = Vec::new();
    for pool in sizes {
        let (names, tiers) = speeds.tiers(pool, &remotes);
        let bound_s = load_time_bound_secs(&tiers, &trace);
        for policy in &policies {
            let totals = match policy {
                Policy::Auto => replay(&params, &tiers, moves, &trace),
                Policy::Baseline(kind) => replay_baseline(*kind, &tiers, moves, &trace),
            };
            let mut outcome = outcome(*policy, pool, &tiers, &totals, bound_s);
            if remotes.len() > 1 {
                outcome.tiers = shares(&names, &tiers, &totals);
            }
            outcomes.push(outcome);
        }
    }
    if let Some(path) = &arguments.plot {
        let loaded_bytes = trace.loads.iter().map(|load| load.bytes as f64).sum();
        draw(path, &outcomes, loaded_bytes)?;
    }
    let text = if context.global.json {
        format!("{}\n", serde_json::json!({ "results": outcomes }))
    } else {
        let bought = bought(&outcomes, &wanted, &more);
        let mut text = table::render(&outcomes, 0, context.console.style);
        let shares: Vec<ShareRow<'_>> = outcomes
            .iter()
            .flat_map(|outcome| outcome.tiers.iter().map(move |share| (outcome, share)))
            .map(|(outcome, share)| ShareRow { outcome, share })
            .collect();
        if !shares.is_empty() {
            text = text + "\n" + &table::render(&shares, 0, context.console.style);
        }
        text + &bought
    };
    context
        .console
        .out
        .write_all(text.as_bytes())
        .map_err(|error| Message::new(Code::Failed, format!("printing: {error}")))
}

/// Every size, and every size with more, in order and each once.
fn compared(wanted: &[u64], more: &[u64]) -> Result<Vec<u64>, Message> {
    let mut sizes = wanted.to_vec();
    for size in wanted {
        for more in more {
            let sum = size.checked_add(*more);
            sizes.push(sum.ok_or_else(|| usage("--more: no pool can be so large".to_owned()))?);
        }
    }
    // Without `--more` what was asked for is shown as it was asked for.
    if !more.is_empty() {
        sizes.sort_unstable();
        sizes.dedup();
    }
    match sizes.len() {
        0..=SIZES_MAX => Ok(sizes),
        count => Err(usage(format!(
            "--more: {count} sizes; {SIZES_MAX} can be compared"
        ))),
    }
}

/// What more RAM would buy by the first of the policies, a sentence for each comparison.
fn bought(outcomes: &[Outcome], wanted: &[u64], more: &[u64]) -> String {
    let secs = |pool: u64| {
        let found = outcomes.iter().find(|outcome| outcome.pool_bytes == pool);
        found.map(|outcome| (outcome.policy, outcome.load_time_s))
    };
    let mut text = String::new();
    for pool in wanted {
        for more in more {
            let (Some((policy, before)), Some((_, after))) = (secs(*pool), secs(pool + more))
            else {
                continue;
            };
            let saved = before - after;
            text.push_str(&format!(
                "{} more than {}: {before:.1} s become {after:.1} s by {policy}, {:.1} % less, {:.2} s a GB\n",
                size(*more),
                size(*pool),
                100.0 * saved / before.max(f64::MIN_POSITIVE),
                saved / (*more as f64 / 1e9),
            ));
        }
    }
    text
}

fn draw(path: &Path, outcomes: &[Outcome], loaded_bytes: f64) -> Result<(), Message> {
    let points: Vec<plot::Point> = outcomes
        .iter()
        .map(|outcome| {
            let pools = (outcome.pool_bytes + outcome.remote_bytes) as f64;
            let saved = outcome.byte_hit_ratio * loaded_bytes;
            plot::Point {
                policy: outcome.policy,
                pool_bytes: outcome.pool_bytes as f64,
                load_time_s: outcome.load_time_s,
                bound_s: outcome.bound_s,
                ram_per_byte_saved: (saved > 0.0).then(|| pools / saved),
            }
        })
        .collect();
    std::fs::write(path, plot::svg(&points, AUTO)).map_err(|error| {
        let text = format!("--plot: {}: {error}", path.display());
        Message::new(Code::Failed, text)
    })
}

/// What each tier served.
fn shares(names: &[String], tiers: &Tiers, totals: &Totals) -> Vec<Share> {
    let mut shares = Vec::new();
    for (rank, (name, &(_, speed, capacity))) in names.iter().zip(&tiers.pools).enumerate() {
        shares.push(Share {
            tier: name.clone(),
            capacity_bytes: Some(capacity),
            bytes_per_sec: speed,
            loaded_bytes: totals.pool_bytes.get(rank).copied().unwrap_or(0),
        });
    }
    shares.push(Share {
        tier: "cold".to_owned(),
        capacity_bytes: None,
        bytes_per_sec: tiers.cold_bytes_per_sec,
        loaded_bytes: totals.bytes - totals.hit_bytes,
    });
    shares
}

fn outcome(policy: Policy, pool: u64, tiers: &Tiers, totals: &Totals, bound_s: f64) -> Outcome {
    let capacities = tiers.pools.iter().map(|&(_, _, capacity)| capacity);
    let all = capacities.fold(0, u64::saturating_add);
    Outcome {
        policy: match policy {
            Policy::Auto => AUTO,
            Policy::Baseline(kind) => kind.name(),
        },
        pool_bytes: pool,
        remote_bytes: all - pool,
        object_hit_ratio: totals.object_hit_ratio(),
        byte_hit_ratio: totals.byte_hit_ratio(),
        load_time_s: totals.load_time_secs,
        bound_s,
        moved_bytes: totals.moved_bytes,
        tiers: Vec::new(),
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
            // In whole millionths of a percent, so that no size depends on how floats are rounded.
            let millionths = (percent * 1e6).round() as u128;
            let bytes = u128::from(footprint) * millionths / 100_000_000;
            u64::try_from(bytes).map_err(|_| wanted_percent(option, text))?
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

/// A pool in another host's RAM.
#[derive(Debug, PartialEq, Eq)]
struct Remote {
    name: String,
    bytes: u64,
    bytes_per_sec: u64,
}

/// Pools as they were asked for; who gives no name is called `remote`.
fn remotes(texts: &[String], footprint: u64, usual: u64) -> Result<Vec<Remote>, Message> {
    let mut found: Vec<Remote> = Vec::new();
    for text in texts {
        let (name, rest) = text.split_once('=').unwrap_or(("remote", text));
        let (amount, bytes_per_sec) = match rest.split_once('@') {
            Some((amount, rate)) => {
                let wrong = || usage(format!("--remote: `{rate}` is no rate, such as 20GB/s"));
                (amount, parse_rate(rate).ok_or_else(wrong)?)
            }
            None => (rest, usual),
        };
        let is_taken = ["ram", "cold", ""].contains(&name);
        if is_taken || found.iter().any(|known| known.name == name) {
            let text = format!("--remote: `{name}` cannot be the name of one more pool");
            return Err(usage(text).with_hint("such as --remote near=256GiB@20GB/s"));
        }
        found.push(Remote {
            name: name.to_owned(),
            bytes: one_size(amount, "--remote", footprint)?,
            bytes_per_sec,
        });
    }
    if found.len() >= POOLS_MAX {
        return Err(usage(format!("--remote: at most {} pools", POOLS_MAX - 1)));
    }
    Ok(found)
}

/// Bytes a second, more than none.
fn parse_rate(text: &str) -> Option<u64> {
    let amount = text.trim().strip_suffix("/s")?;
    Bytes::parse(amount)
        .ok()
        .map(|bytes| bytes.0)
        .filter(|bytes| *bytes > 0)
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
        let mut given: Vec<&str> = Vec::new();
        for part in text.split(',') {
            let wrong = || {
                usage(format!("--bandwidth: `{part}` is no rate of a tier"))
                    .with_hint("such as ram=10GB/s,remote=5GB/s,cold=1GB/s")
            };
            let (tier, rate) = part.split_once('=').ok_or_else(wrong)?;
            let bytes = parse_rate(rate).ok_or_else(wrong)?;
            let tier = tier.trim();
            if given.contains(&tier) {
                return Err(usage(format!("--bandwidth: `{tier}` has two rates")));
            }
            given.push(tier);
            match tier {
                "ram" => speeds.ram = bytes,
                "remote" => speeds.remote = bytes,
                "cold" => speeds.cold = bytes,
                _ => return Err(wrong()),
            }
        }
        Ok(speeds)
    }

    /// The pools, fastest first, and their names in that order.
    fn tiers(&self, pool: u64, remotes: &[Remote]) -> (Vec<String>, Tiers) {
        let mut pools = vec![("ram".to_owned(), self.ram, pool)];
        for remote in remotes {
            pools.push((remote.name.clone(), remote.bytes_per_sec, remote.bytes));
        }
        pools.sort_by_key(|&(_, speed, _)| std::cmp::Reverse(speed));
        let names = pools.iter().map(|(name, _, _)| name.clone()).collect();
        let numbered = pools
            .iter()
            .zip(0..)
            .map(|(&(_, speed, bytes), id)| (TierId(id), speed, bytes));
        let tiers = Tiers {
            pools: numbered.collect(),
            cold_bytes_per_sec: self.cold,
        };
        (names, tiers)
    }
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
    fn remote_pools_have_names_and_rates() {
        let parsed = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            remotes(&texts, 1000, 5)
        };
        let remote = |name: &str, bytes, bytes_per_sec| Remote {
            name: name.to_owned(),
            bytes,
            bytes_per_sec,
        };
        assert_eq!(
            parsed(&["10%", "near=2KiB@20GB/s"]).expect("two"),
            [
                remote("remote", 100, 5),
                remote("near", 2048, 20_000_000_000)
            ]
        );
        let (names, tiers) = Speeds::parse("ram=10GB/s").expect("rates").tiers(
            7,
            &parsed(&["far=1KiB@1GB/s", "near=2KiB@20GB/s"]).expect("two"),
        );
        assert_eq!(names, ["near", "ram", "far"]);
        assert_eq!(tiers.pools[1], (TierId(1), 10_000_000_000, 7));
        for wrong in [
            &["a=1KiB", "a=2KiB"][..],
            &["ram=1KiB"],
            &["=1KiB"],
            &["a=1KiB@"],
            &["a=1KiB@0B/s"],
            &["a=@1GB/s"],
            &["1KiB", "1KiB"],
        ] {
            assert!(parsed(wrong).is_err(), "{wrong:?}");
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
