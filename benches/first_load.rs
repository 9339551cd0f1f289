//! The first load of a model that is not in RAM yet: the time until an engine has touched all of it,
//! through the mount and from its home, for seven ways of reading, on three kinds of store: the disk,
//! one that takes 2 ms for each request, at 1.2 GB/s at most, and one of 300 MB/s; and how often each
//! byte was read.
//!
//! `cargo bench --bench first_load [-- OPTIONS]`, as root; `-- --help` lists the options. `--only lat`
//! measures one store, `--only "disk, 4"` four readers at once on the disk alone, `--only "disk, one
//! reader, D2"` one way of reading, and `--venv DIR` adds real engines on the first two. In each round
//! both sides are measured one after the other, in turn in both orders, with caches dropped before
//! each. Last, engines that wait for a copy are killed.

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
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use first_load::engine::{self, PATTERNS, disk_bytes};
use harness::report::{Fact, Figures};
use harness::{Goal, Options, Report, Site, files, machine};
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use serde_json::{Value, json};
use speedloader::models::synthetic::{write_directory, write_gguf};
use store::{Speed, Store};

/// In the environment of a process that is a part of this benchmark.
const PART: &str = "FIRST_LOAD_PART";
/// The directory in cold storage that everything is in.
const DIRECTORY: &str = "far";
/// The model as a file, in it.
const FILE: &str = "model.gguf";
/// Engines of `tests/engines/load.py`, each with what it loads.
const ENGINES: [(&str, Model); 5] = [
    ("llama-mmap", Model::Gguf),
    ("llama-none", Model::Gguf),
    ("llama-dio", Model::Gguf),
    ("mistralrs", Model::Directory),
    ("transformers", Model::Directory),
];
/// Of a model in a directory.
const SHARDS: u32 = 3;
/// How fast the store is while engines wait and are killed: they wait long.
const TRICKLE: Speed = Speed {
    latency: Duration::from_millis(2),
    bytes_per_sec: 8 << 20,
};
/// A daemon is idle when it has not done anything for so long.
const IDLE: Duration = Duration::from_secs(4);
/// How often that is looked at, and for how long at most.
const IDLE_LOOK: Duration = Duration::from_millis(200);
const IDLE_PATIENCE: Duration = Duration::from_secs(60);
/// A caller that was killed is gone within so many milliseconds.
const GONE_GOAL_MS: f64 = 100.0;

/// What loads a model with a real engine and says how long that took.
const LOAD_SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/engines/load.py");

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
        match self {
            Kind::Disk => None,
            Kind::Latency => Some(latency_speed()),
            Kind::Bandwidth => Some(Speed {
                latency: Duration::from_micros(200),
                bytes_per_sec: 300_000_000,
            }),
        }
    }
}

/// The rate is that of a fast network, and what keeps this from measuring how fast two processors copy
/// memory.
fn latency_speed() -> Speed {
    Speed {
        latency: Duration::from_millis(2),
        bytes_per_sec: 1_200_000_000,
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
            let patterns = (0..PATTERNS.len()).map(Way::Pattern);
            let wanted = wanted_of(&options, &title, patterns);
            if !wanted.is_empty() {
                let bench = Bench::new(&options, kind.speed(), Model::Pattern, readers)?;
                bench.run(&mut report, &title, &wanted, options.rounds)?;
            }
        }
    }
    if let Some(venv) = &options.venv {
        let engines = find_engines(venv)?;
        for (kind, name) in &KINDS[..2] {
            for (model, form) in [(Model::Gguf, "GGUF"), (Model::Directory, "directory")] {
                let title = format!("{name}, real engines, {form}");
                let of_form = engines.iter().filter(|(_, its)| *its == model);
                let ways = of_form.map(|(way, _)| way.clone());
                let wanted = wanted_of(&options, &title, ways);
                if !wanted.is_empty() {
                    let bench = Bench::new(&options, kind.speed(), model, 1)?;
                    bench.run(&mut report, &title, &wanted, options.rounds)?;
                }
            }
        }
    }
    let title = "An engine that waits for a copy, killed";
    if options.wants(title) {
        kill_waiting(&mut report, &options, title)?;
    }
    report.finish()
}

/// Those whose row of a table is wanted.
fn wanted_of(options: &Options, title: &str, ways: impl Iterator<Item = Way>) -> Vec<Way> {
    ways.filter(|way| options.wants_row(title, way.name()))
        .collect()
}

/// What there is to load.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Model {
    /// A file that is no real model, for the patterns.
    Pattern,
    /// A file for engines.
    Gguf,
    /// A directory of Hugging Face: the whole of [`DIRECTORY`].
    Directory,
}

impl Model {
    /// Writes about so many bytes into a directory; the exact number.
    fn write(self, directory: &Path, bytes: u64) -> Result<u64> {
        let file = directory.join(FILE);
        Ok(match self {
            Model::Pattern => {
                files::write_file(&file, bytes)?;
                bytes
            }
            Model::Gguf => write_gguf(&file, bytes, 1, 1)?.size_bytes,
            Model::Directory => write_directory(directory, bytes, SHARDS, 1)?.size_bytes,
        })
    }

    /// Below the home and below the mount.
    fn path(self) -> PathBuf {
        match self {
            Model::Directory => PathBuf::from(DIRECTORY),
            Model::Pattern | Model::Gguf => Path::new(DIRECTORY).join(FILE),
        }
    }
}

/// A way of loading.
#[derive(Clone)]
enum Way {
    /// By its place in [`PATTERNS`].
    Pattern(usize),
    /// A real engine: its name and the Python that has it.
    Engine(&'static str, PathBuf),
}

/// What a way of loading says of itself.
struct Told {
    secs: f64,
    result: Value,
    /// What it had the disk read itself; a real engine does not say.
    read_bytes: u64,
}

impl Way {
    /// A process that loads, once it hears anything.
    fn start(&self, path: &Path) -> Result<Child> {
        match self {
            Way::Pattern(index) => part("engine", &[&path.to_string_lossy(), &index.to_string()]),
            Way::Engine(name, python) => {
                let mut command = Command::new(python);
                command.arg(LOAD_SCRIPT).arg(name).arg(path).arg("--times");
                let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
                Ok(command.stderr(Stdio::null()).spawn()?)
            }
        }
    }

    /// Reads what it has printed.
    fn told(&self, output: &[u8]) -> Result<Told> {
        let line = match self {
            Way::Pattern(_) => output,
            // Engines write what they like, too.
            Way::Engine(..) => output
                .split(|byte| *byte == b'\n')
                .find(|line| line.starts_with(b"{\"loader\": "))
                .context("the engine says nothing")?,
        };
        let mut told: Value = serde_json::from_slice(line)?;
        let fields = told.as_object_mut().context("no object")?;
        let mut take = |name: &str| fields.remove(name);
        let secs = take("secs").or_else(|| take("load_s"));
        Ok(Told {
            secs: secs.and_then(|secs| secs.as_f64()).context("no time")?,
            read_bytes: take("read_bytes")
                .and_then(|bytes| bytes.as_u64())
                .unwrap_or(0),
            result: told,
        })
    }

    fn name(&self) -> &'static str {
        match self {
            Way::Pattern(index) => PATTERNS[*index].1,
            Way::Engine(name, _) => name,
        }
    }

    /// Of its time on a store, at most so much of native is wanted.
    fn goal(&self, speed: Option<Speed>) -> f64 {
        let is_bound_by_latency = speed.is_some_and(|speed| speed == latency_speed());
        match self {
            Way::Pattern(index) if is_bound_by_latency && !PATTERNS[*index].0.is_direct() => 0.2,
            _ => 1.1,
        }
    }
}

/// The real engines of an environment, each with what it loads.
fn find_engines(venv: &Path) -> Result<Vec<(Way, Model)>> {
    let mut found: Vec<(Way, Model)> = Vec::new();
    for name in ["base", "torch"] {
        let python = venv.join(name).join("bin/python");
        if !python.exists() {
            continue;
        }
        let output = Command::new(&python)
            .arg(LOAD_SCRIPT)
            .arg("--available")
            .output()?;
        let available: Vec<String> = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("{} has no engines", python.display()))?;
        for (engine, model) in ENGINES {
            let is_known = found.iter().any(|(way, _)| way.name() == engine);
            if !is_known && available.iter().any(|name| name == engine) {
                found.push((Way::Engine(engine, python.clone()), model));
            }
        }
    }
    ensure!(
        !found.is_empty(),
        "no engine in {0}: python3 tests/engines/setup.py {0}",
        venv.display()
    );
    Ok(found)
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
    // Whoever populates a mapping of a store that was killed spins in the kernel until he is killed, too.
    set_parent_process_death_signal(Some(Signal::KILL))?;
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
struct Loaded {
    secs: f64,
    /// Bytes that left the store, by the size of the file.
    cold: f64,
    /// Whether the last open of each reader was bound to the replica.
    on_replica: bool,
    /// What the engine made of it: the same for the same bytes.
    result: Value,
}

struct Bench {
    // Ended before the store that it reads from.
    site: Site,
    store: Option<std::cell::RefCell<FarStore>>,
    /// What is loaded, below the home and below the mount.
    path: PathBuf,
    speed: Option<Speed>,
    bytes: u64,
    readers: usize,
}

impl Bench {
    fn new(options: &Options, speed: Option<Speed>, model: Model, readers: usize) -> Result<Bench> {
        let site = Site::new(&options.directory)?;
        let far = site.cold().join(DIRECTORY);
        std::fs::create_dir(&far)?;
        let (mut store, bytes) = (None, options.bytes());
        let bytes = match speed {
            None => model.write(&far, bytes)?,
            Some(speed) => {
                // In memory: the store is as fast as it is told to be, whatever is dropped.
                let backing = site.directory_in(Path::new("/dev/shm"))?;
                let bytes = model.write(&backing, bytes)?;
                site.is_mounted(&far);
                let far = FarStore::start(&backing, &far, speed)?;
                store = Some(std::cell::RefCell::new(far));
                bytes
            }
        };
        let mut settings = vec!["policy.enabled=true", "cache.cold_read_ahead=0B"];
        let prefault = options.prefault.as_ref();
        let prefault = prefault.map(|amount| format!("pool.bench.prefault={amount}"));
        settings.extend(prefault.as_deref());
        // Room for several models of this size: a quarter of it is what the pool keeps ready.
        site.start(4 * bytes + (256 << 20), &settings)?;
        site.run(&["models"])?;
        Ok(Bench {
            site,
            store,
            path: model.path(),
            speed,
            bytes,
            readers,
        })
    }

    fn run(&self, report: &mut Report, title: &str, ways: &[Way], rounds: usize) -> Result<()> {
        let (mut rows, mut facts) = (Vec::new(), Vec::new());
        for way in ways {
            let name = way.name();
            let mut pairs = Vec::new();
            for round in 0..rounds {
                let pair = match round % 2 {
                    0 => (self.ours(way)?, self.native(way)?),
                    _ => {
                        let native = self.native(way)?;
                        (self.ours(way)?, native)
                    }
                };
                ensure!(pair.0.result == pair.1.result, "{name}: wrong bytes");
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
            let goal = |what: &str, figure, most| {
                Fact::judged(
                    format!("{title}, {name}: {what}"),
                    figure,
                    "x",
                    Goal::AtMost(most),
                )
            };
            facts.push(goal("time / native", ratio, way.goal(self.speed)));
            // What a real engine has the disk read itself is not told.
            if self.store.is_some() || matches!(way, Way::Pattern(_)) {
                facts.push(goal("cold bytes / size", cold, 1.02));
            }
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

    fn native(&self, way: &Way) -> Result<Loaded> {
        self.load(&self.site.cold().join(&self.path), way)
    }

    fn ours(&self, way: &Way) -> Result<Loaded> {
        self.site.run(&["demote", &self.path.to_string_lossy()])?;
        self.wait_until_idle()?;
        let before = self.opens("opens_resident")?;
        let mut loaded = self.load(&self.site.mount().join(&self.path), way)?;
        loaded.on_replica = self.opens("opens_resident")? >= before + self.readers as u64;
        // The copy may end a moment after its last reader.
        self.site.run(&["wait", &self.path.to_string_lossy()])?;
        Ok(loaded)
    }

    /// Waits until the pool keeps no more memory ready than before: the daemon was idle for a while.
    fn wait_until_idle(&self) -> Result<()> {
        let until = Instant::now() + IDLE_PATIENCE;
        let (mut before, mut since) = (None, Instant::now());
        while Instant::now() < until && since.elapsed() < IDLE {
            let ready = self.site.ask(&["status"])?["pools"][0]["prefaulted_bytes"].as_u64();
            if ready != before {
                (before, since) = (ready, Instant::now());
            }
            std::thread::sleep(IDLE_LOOK);
        }
        Ok(())
    }

    /// So many opens of a kind were counted.
    fn opens(&self, kind: &str) -> Result<u64> {
        let status = self.site.ask(&["status"])?;
        let opens = status["totals"][kind].as_u64();
        opens.with_context(|| format!("no totals.{kind}"))
    }

    fn load(&self, path: &Path, way: &Way) -> Result<Loaded> {
        machine::drop_page_cache()?;
        let before = self.cold_bytes()?;
        let mut engines = Vec::new();
        for _ in 0..self.readers {
            engines.push(way.start(path)?);
        }
        for engine in &mut engines {
            let mut input = engine.stdin.take().context("no input")?;
            // A real engine does not wait for it, and may not take it.
            let _ = input.write_all(b"go\n");
        }
        let mut told: Vec<Told> = Vec::new();
        for engine in engines {
            let output = engine.wait_with_output()?;
            ensure!(output.status.success(), "a reader failed");
            told.push(way.told(&output.stdout)?);
        }
        ensure!(
            told.iter().all(|each| each.result == told[0].result),
            "readers differ"
        );
        let mut cold = self.cold_bytes()? - before;
        if self.store.is_none() {
            cold += told.iter().map(|each| each.read_bytes).sum::<u64>();
        }
        Ok(Loaded {
            secs: told.iter().map(|each| each.secs).fold(0.0, f64::max),
            cold: cold as f64 / self.bytes as f64,
            on_replica: false,
            result: told.swap_remove(0).result,
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

// --- killing

/// How long an engine is there after its signal, when it waits in an open for a copy that takes long.
fn kill_waiting(report: &mut Report, options: &Options, title: &str) -> Result<()> {
    let bench = Bench::new(options, Some(TRICKLE), Model::Pattern, 1)?;
    let (mut rows, mut facts) = (Vec::new(), Vec::new());
    for (signal, name) in [(Signal::TERM, "SIGTERM"), (Signal::KILL, "SIGKILL")] {
        let mut taken = Vec::new();
        for _ in 0..options.rounds.max(5) {
            let before = bench.opens("opens_held")?;
            let mut engine = Way::Pattern(0).start(&bench.site.mount().join(&bench.path))?;
            let mut input = engine.stdin.take().context("no input")?;
            input.write_all(b"go\n")?;
            while bench.opens("opens_held")? == before {
                ensure!(engine.try_wait()?.is_none(), "the engine was not held");
            }
            let start = Instant::now();
            kill_process(Pid::from_child(&engine), signal)?;
            engine.wait()?;
            taken.push(start.elapsed().as_secs_f64() * 1e3);
        }
        let taken = Figures::new(taken);
        rows.push(vec![
            json!(name),
            json!(taken.median()),
            json!(taken.quantile(1.0)),
        ]);
        let what = format!("the longest after {name}");
        facts.push(Fact::judged(
            what,
            taken.quantile(1.0),
            "ms",
            Goal::AtMost(GONE_GOAL_MS),
        ));
    }
    report.table(title, &["", "median, ms", "longest, ms"], rows);
    report.facts(&format!("{title}: goals"), &facts);
    Ok(())
}
