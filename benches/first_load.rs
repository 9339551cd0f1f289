//! The first load of a model that is not in RAM yet: the time until an engine has touched all of it,
//! through the mount and from its home, for seven ways of reading, on three kinds of store: the disk,
//! one that takes 2 ms for each request, at 1.2 GB/s at most, and one of 300 MB/s; and how often each
//! byte was read.
//!
//! `cargo bench --bench first_load [-- OPTIONS]`, as root; `-- --help` lists the options. `--only lat`
//! measures one store, `--only "disk, 4"` four readers at once on the disk alone. In each round both
//! sides are measured one after the other, in turn in both orders, with caches dropped before each.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a benchmark prints its figures, and ends where its machinery fails"
)]

mod harness;
#[path = "../tests/harness/mapping.rs"]
mod mapping;
#[path = "../tests/harness/store.rs"]
mod store;
mod first_load {
    //! What is measured.

    pub mod engine;
}

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use first_load::engine::{self, PATTERNS, disk_bytes};
use harness::report::{Fact, Figures};
use harness::{Goal, Options, Report, Site, files, machine};
use serde_json::{Value, json};
use store::{Speed, Store};

/// In the environment of a process that is a part of this benchmark.
const PART: &str = "FIRST_LOAD_PART";
/// The model.
const NAME: &str = "model.gguf";

/// A kind of store.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Disk,
    Latency,
    Bandwidth,
}

const KINDS: [(Kind, &str); 3] = [
    (Kind::Disk, "disk"),
    (Kind::Latency, "lat (2 ms a request)"),
    (Kind::Bandwidth, "bw (300 MB/s)"),
];

impl Kind {
    fn speed(self) -> Option<Speed> {
        let (micros, bytes_per_sec) = match self {
            Kind::Disk => return None,
            // The rate is that of a fast network, and what keeps this from measuring how fast two
            // processors copy memory.
            Kind::Latency => (2000, 1_200_000_000),
            Kind::Bandwidth => (200, 300_000_000),
        };
        Some(Speed {
            latency: Duration::from_micros(micros),
            bytes_per_sec,
        })
    }
}

fn main() -> Result<()> {
    match std::env::var(PART).as_deref() {
        Ok("store") => return serve_store(),
        Ok("engine") => return be_engine(),
        _ => {}
    }
    let defaults = Options {
        rounds: 3,
        mib: 512,
        ..Options::default()
    };
    let Some(options) = Options::parse(defaults)? else {
        return Ok(());
    };
    let mut report = Report::start("speedloader: the first load", &options);
    for (kind, name) in KINDS {
        for readers in [1, 4] {
            let title = match readers {
                1 => format!("{name}, one reader"),
                _ => format!("{name}, {readers} readers at once"),
            };
            if options.wants(&title) {
                let bench = Bench::new(&options, kind, readers)?;
                bench.run(&mut report, &title, options.rounds)?;
            }
        }
    }
    report.finish()
}

// --- parts

fn argument(index: usize) -> Result<String> {
    let argument = std::env::args().nth(index + 1);
    argument.context("a part lacks an argument")
}

fn part(name: &str, arguments: &[&str]) -> Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.env(PART, name).args(arguments);
    let child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    Ok(child)
}

/// A store, until its input ends: each line asks what was read so far.
fn serve_store() -> Result<()> {
    let (directory, mountpoint) = (argument(0)?, argument(1)?);
    let speed = Speed {
        latency: Duration::from_micros(argument(2)?.parse()?),
        bytes_per_sec: argument(3)?.parse()?,
    };
    let store = Store::start(Path::new(&directory), Path::new(&mountpoint), speed)?;
    println!("ready");
    for _ in std::io::stdin().lines() {
        println!("{}", store.counts().bytes);
    }
    Ok(())
}

fn be_engine() -> Result<()> {
    // All of them begin together.
    std::io::stdin().read_line(&mut String::new())?;
    println!(
        "{}",
        engine::load(Path::new(&argument(0)?), argument(1)?.parse()?)?
    );
    Ok(())
}

/// A store in a process of its own.
struct FarStore {
    process: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl FarStore {
    fn start(directory: &Path, mountpoint: &Path, speed: Speed) -> Result<FarStore> {
        let latency = speed.latency.as_micros().to_string();
        let rate = speed.bytes_per_sec.to_string();
        let (from, to) = (directory.to_string_lossy(), mountpoint.to_string_lossy());
        let mut process = part("store", &[&from, &to, &latency, &rate])?;
        let output = BufReader::new(process.stdout.take().context("no output")?);
        let mut store = FarStore { process, output };
        ensure!(store.hear()? == "ready", "the store does not start");
        Ok(store)
    }

    fn hear(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }

    fn bytes(&mut self) -> Result<u64> {
        let input = self.process.stdin.as_mut().context("no input")?;
        input.write_all(b"\n")?;
        Ok(self.hear()?.parse()?)
    }
}

impl Drop for FarStore {
    fn drop(&mut self) {
        // It ends with its input, and takes its mount along.
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

// --- measuring

/// One load.
#[derive(Clone, Copy)]
struct Loaded {
    secs: f64,
    /// Bytes that left the store, by the size of the file.
    cold: f64,
    /// Whether the last open of each reader was bound to the replica.
    on_replica: bool,
    sum: u64,
}

struct Bench {
    // Ended before the store that it reads from.
    site: Site,
    store: Option<std::cell::RefCell<FarStore>>,
    home: PathBuf,
    bytes: u64,
    readers: usize,
}

impl Bench {
    fn new(options: &Options, kind: Kind, readers: usize) -> Result<Bench> {
        let site = Site::new(&options.directory)?;
        let (bytes, cold) = (options.bytes(), site.cold());
        let mut store = None;
        match kind.speed() {
            None => files::write_file(&cold.join(NAME), bytes)?,
            Some(speed) => {
                // In memory: the store is as fast as it is told to be, whatever is dropped.
                let backing = site.directory_in(Path::new("/dev/shm"))?;
                files::write_file(&backing.join(NAME), bytes)?;
                site.is_mounted(&cold);
                let far = FarStore::start(&backing, &cold, speed)?;
                store = Some(std::cell::RefCell::new(far));
            }
        }
        site.start(
            bytes + bytes / 8 + (64 << 20),
            &["policy.enabled=true", "cache.cold_read_ahead=0B"],
        )?;
        site.run(&["models"])?;
        Ok(Bench {
            home: cold.join(NAME),
            site,
            store,
            bytes,
            readers,
        })
    }

    fn run(&self, report: &mut Report, title: &str, rounds: usize) -> Result<()> {
        let (mut rows, mut facts) = (Vec::new(), Vec::new());
        for (index, (pattern, name)) in PATTERNS.iter().enumerate() {
            let mut pairs = Vec::new();
            for round in 0..rounds {
                let pair = match round % 2 {
                    0 => (self.ours(index)?, self.native(index)?),
                    _ => {
                        let native = self.native(index)?;
                        (self.ours(index)?, native)
                    }
                };
                ensure!(pair.0.sum == pair.1.sum, "{name}: wrong bytes");
                pairs.push(pair);
            }
            let of = |figure: &dyn Fn(&(Loaded, Loaded)) -> f64| {
                Figures::new(pairs.iter().map(figure).collect()).median()
            };
            let ratio = of(&|(ours, native)| ours.secs / native.secs);
            let cold = of(&|(ours, _)| ours.cold);
            let on_replica = pairs.iter().filter(|(ours, _)| ours.on_replica).count();
            rows.push(vec![
                json!(name),
                json!(of(&|(ours, _)| ours.secs)),
                json!(of(&|(_, native)| native.secs)),
                json!(ratio),
                json!(cold),
                json!(of(&|(_, native)| native.cold)),
                json!(format!("{on_replica} of {rounds}")),
            ]);
            let most = match title.starts_with("lat") && !pattern.is_direct() {
                true => 0.2,
                false => 1.1,
            };
            let name = |what: &str| format!("{title}, {name}: {what}");
            facts.push(Fact::judged(
                name("time / native"),
                ratio,
                "x",
                Goal::AtMost(most),
            ));
            facts.push(Fact::judged(
                name("cold bytes / size"),
                cold,
                "x",
                Goal::AtMost(1.02),
            ));
        }
        let header = [
            "",
            "mount, s",
            "native, s",
            "ratio",
            "cold bytes",
            "native",
            "on the replica",
        ];
        report.table(title, &header, rows);
        report.facts(&format!("{title}: goals"), &facts);
        Ok(())
    }

    fn native(&self, pattern: usize) -> Result<Loaded> {
        self.load(&self.home, pattern)
    }

    fn ours(&self, pattern: usize) -> Result<Loaded> {
        self.site.run(&["demote", NAME])?;
        let before = self.opens_resident()?;
        let mut loaded = self.load(&self.site.mount().join(NAME), pattern)?;
        loaded.on_replica = self.opens_resident()? >= before + self.readers as u64;
        // The copy may end a moment after its last reader.
        self.site.run(&["wait", NAME])?;
        Ok(loaded)
    }

    fn opens_resident(&self) -> Result<u64> {
        let status = self.site.ask(&["status"])?;
        let opens = status["totals"]["opens_resident"].as_u64();
        opens.context("no totals.opens_resident")
    }

    fn load(&self, path: &Path, pattern: usize) -> Result<Loaded> {
        machine::drop_page_cache()?;
        let before = self.cold_bytes()?;
        let (path, pattern) = (path.to_string_lossy(), pattern.to_string());
        let mut engines = Vec::new();
        for _ in 0..self.readers {
            engines.push(part("engine", &[&path, &pattern])?);
        }
        for engine in &mut engines {
            let mut input = engine.stdin.take().context("no input")?;
            input.write_all(b"go\n")?;
        }
        let mut told: Vec<Value> = Vec::new();
        for engine in engines {
            let output = engine.wait_with_output()?;
            ensure!(output.status.success(), "a reader failed");
            told.push(serde_json::from_slice(&output.stdout)?);
        }
        let secs = |told: &Value| told["secs"].as_f64().unwrap_or(f64::NAN);
        let sum = told[0]["sum"].as_u64().context("no sum")?;
        ensure!(told.iter().all(|told| told["sum"] == sum), "readers differ");
        let mut cold = self.cold_bytes()? - before;
        if self.store.is_none() {
            let bytes = |told: &Value| told["read_bytes"].as_u64().unwrap_or(0);
            cold += told.iter().map(bytes).sum::<u64>();
        }
        Ok(Loaded {
            secs: told.iter().map(secs).fold(0.0, f64::max),
            cold: cold as f64 / self.bytes as f64,
            on_replica: false,
            sum,
        })
    }

    /// Of the store; of the disk, what the daemon has read from it.
    fn cold_bytes(&self) -> Result<u64> {
        match &self.store {
            Some(store) => store.borrow_mut().bytes(),
            None => disk_bytes(&self.site.pid()?.to_string()),
        }
    }
}
