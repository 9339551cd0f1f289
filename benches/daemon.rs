//! What the daemon itself costs: memory and wake-ups while idle; with many files the time to start,
//! memory, and how long names take to look up.
//!
//! `cargo bench --bench daemon [-- OPTIONS]`, as root; `-- --help` lists the options.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark prints its figures"
)]

mod harness;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::report::{Fact, Figures};
use harness::{Goal, Options, Report, Site, files, machine};
use serde_json::json;

/// Bytes that the daemon may take by itself with 100,000 files.
const RSS_GOAL_MIB: f64 = 64.0;
/// Files in one directory.
const DIRECTORY_FILES: usize = 50;
/// Of them, shards of a model's weights.
const SHARDS: usize = 10;
/// How long wake-ups are counted.
const IDLE: Duration = Duration::from_secs(60);
/// How long the daemon is left alone before.
const SETTLE: Duration = Duration::from_secs(15);
/// Names that are looked up in one round.
const LOOKUPS: usize = 5000;

fn main() -> Result<()> {
    let defaults = Options {
        rounds: 5,
        mib: 64,
        files: 100_000,
        ..Options::default()
    };
    let Some(options) = Options::parse(defaults)? else {
        return Ok(());
    };
    let mut report = Report::start("speedloader: the daemon", &options);
    if options.wants("idle") {
        idle(&mut report, &options)?;
    }
    if options.wants("files") {
        many_files(&mut report, &options)?;
    }
    report.finish()
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// A daemon that has been used and is left alone.
fn idle(report: &mut Report, options: &Options) -> Result<()> {
    let site = Site::new(&options.directory)?;
    files::write_file(&site.models().join("model.gguf"), options.bytes())?;
    files::write_file(&site.cold().join("cold.gguf"), options.bytes())?;
    let pool_bytes = 4 * options.bytes();
    site.start(pool_bytes, &[])?;
    site.run(&["promote", "model.gguf", "--wait"])?;
    std::fs::read(site.mount().join("cold.gguf"))?;
    let (pid, started) = (site.pid()?, machine::rss_of(site.pid()?)?);
    machine::pause(SETTLE);
    let before = machine::sleeps_of(pid)?;
    let cpu_before = machine::cpu_secs_of(pid)?;
    machine::pause(IDLE);
    let after = machine::sleeps_of(pid)?;
    let sum = |sleeps: &[(String, u64)]| sleeps.iter().map(|(_, number)| number).sum::<u64>();
    let minutes = IDLE.as_secs_f64() / 60.0;
    let wakeups = (sum(&after) - sum(&before).min(sum(&after))) as f64 / minutes;
    let mut rows = vec![
        Fact::shown("RSS when ready", mib(started.total_bytes()), "MiB"),
        Fact::shown("RSS idle", mib(machine::rss_of(pid)?.total_bytes()), "MiB"),
        Fact::shown("threads", after.len() as f64, ""),
        Fact::judged("wake-ups", wakeups, "/min", Goal::AtMost(10.0)),
        Fact::shown(
            "processor",
            (machine::cpu_secs_of(pid)? - cpu_before) / minutes,
            "s/min",
        ),
    ];
    for (name, number) in &after {
        let earlier = before.iter().find(|(known, _)| known == name);
        let more = number - earlier.map_or(0, |(_, number)| *number).min(*number);
        // Threads of one name are told apart only by their sum.
        if more > 0 && after.iter().filter(|(other, _)| other == name).count() == 1 {
            let name = format!("of them, thread {name}");
            rows.push(Fact::shown(name, more as f64 / minutes, "/min"));
        }
    }
    report.facts("An idle daemon", &rows);
    Ok(())
}

/// Half of the files in the models directory, half in cold storage, as Hugging Face keeps them.
fn make_files(site: &Site, count: usize) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::with_capacity(count);
    for (home, part) in [(site.models(), count / 2), (site.cold(), count - count / 2)] {
        for index in 0..part {
            let directory = format!(
                "{}/model-{:05}",
                home.file_name().unwrap_or_default().to_string_lossy(),
                index / DIRECTORY_FILES
            );
            let name = match index % DIRECTORY_FILES {
                0 => "config.json".to_owned(),
                1 => "tokenizer.json".to_owned(),
                2 => "generation_config.json".to_owned(),
                shard if shard < 3 + SHARDS => {
                    format!("model-{:05}-of-{SHARDS:05}.safetensors", shard - 2)
                }
                other => format!("onnx/layer-{other:05}.onnx_data"),
            };
            let below = PathBuf::from(directory).join(name);
            let path = home.join(&below);
            std::fs::create_dir_all(path.parent().unwrap_or(&home))?;
            std::fs::write(&path, contents(&below))?;
            paths.push(site.mount().join(below));
        }
    }
    Ok(paths)
}

/// The least that is a file of its kind.
fn contents(path: &Path) -> &'static [u8] {
    match path.extension() {
        Some(ending) if ending == "safetensors" => b"\x08\0\0\0\0\0\0\0{}      ",
        _ => b"{}",
    }
}

fn many_files(report: &mut Report, options: &Options) -> Result<()> {
    let site = Site::new(&options.directory)?;
    let paths = make_files(&site, options.files)?;
    let mut starts = Vec::new();
    for round in 0..options.rounds {
        if round > 0 {
            site.stop();
        }
        starts.push(
            site.start(1 << 30, &["policy.enabled=false"])?
                .as_secs_f64(),
        );
    }
    let pid = site.pid()?;
    let rss = || Ok::<f64, anyhow::Error>(mib(machine::rss_of(pid)?.total_bytes()));
    let goal = Goal::AtMost(RSS_GOAL_MIB);
    let mut rows = vec![
        Fact::shown(
            "start until the mount answers",
            Figures::new(starts).median(),
            "s",
        ),
        Fact::judged("RSS after the start", rss()?, "MiB", goal),
    ];
    let start = Instant::now();
    let models = site.ask(&["models"])?;
    let found = models["models"].as_array().map_or(0, Vec::len);
    rows.push(Fact::shown(
        "first list of all models",
        start.elapsed().as_secs_f64(),
        "s",
    ));
    rows.push(Fact::shown("models found", found as f64, ""));
    rows.push(Fact::judged("RSS after it", rss()?, "MiB", goal));
    let listing = list_all(&site.mount())?;
    rows.push(Fact::shown("first ls -lR of the mount", listing, "s"));
    let after = machine::rss_of(pid)?;
    rows.push(Fact::judged(
        "RSS after ls -lR",
        mib(after.total_bytes()),
        "MiB",
        goal,
    ));
    rows.push(Fact::shown(
        "of it RssAnon",
        mib(after.anonymous_bytes),
        "MiB",
    ));
    rows.push(Fact::shown("of it RssFile", mib(after.file_bytes), "MiB"));
    rows.push(Fact::shown(
        "descriptors",
        machine::descriptors_of(pid)? as f64,
        "",
    ));
    let native = list_all(&site.models())? + list_all(&site.cold())?;
    rows.push(Fact::shown("ls -lR of the homes natively", native, "s"));
    rows.push(Fact::shown(
        "second ls -lR of the mount",
        list_all(&site.mount())?,
        "s",
    ));
    let title = format!("With {} files, half of them cold", options.files);
    report.facts(&title, &rows);
    lookups(report, options, &site, &paths)
}

fn list_all(directory: &Path) -> Result<f64> {
    let start = Instant::now();
    let status = Command::new("ls")
        .arg("-lR")
        .arg(directory)
        .env("LC_ALL", "C")
        .stdout(Stdio::null())
        .status()?;
    ensure!(status.success(), "ls: {status}");
    Ok(start.elapsed().as_secs_f64())
}

/// Looks names up that the kernel does not know any more, and then again.
fn lookups(report: &mut Report, options: &Options, site: &Site, paths: &[PathBuf]) -> Result<()> {
    let home_of = |path: &Path| {
        let below = path.strip_prefix(site.mount()).unwrap_or(path);
        let home = if below.starts_with("models") {
            site.models()
        } else {
            site.cold()
        };
        home.join(below)
    };
    let order = files::shuffled(paths.len(), 9);
    let chosen: Vec<PathBuf> = order
        .iter()
        .take(LOOKUPS)
        .map(|index| paths[*index as usize].clone())
        .collect();
    let native: Vec<PathBuf> = chosen.iter().map(|path| home_of(path)).collect();
    let mut found = [const { Vec::new() }; 4];
    for _ in 0..options.rounds {
        machine::drop_names()?;
        found[0].extend(stat_each(&chosen)?);
        found[1].extend(stat_each(&chosen)?);
        found[2].extend(stat_each(&native)?);
        found[3].extend(stat_each(&native)?);
    }
    let [new, warm, native_new, native_warm] = found.map(Figures::new);
    let rows = [
        ("stat through the mount, name not cached", &new),
        ("natively, name not cached", &native_new),
        ("stat through the mount, warm", &warm),
        ("natively, warm", &native_warm),
    ];
    let rows = rows
        .iter()
        .map(|(name, figures)| {
            vec![
                json!(name),
                json!(figures.quantile(0.5)),
                json!(figures.quantile(0.99)),
            ]
        })
        .collect();
    report.table("lookup latency, us", &["", "p50", "p99"], rows);
    Ok(())
}

/// Microseconds that each stat took.
fn stat_each(paths: &[PathBuf]) -> Result<Vec<f64>> {
    let mut taken = Vec::with_capacity(paths.len());
    for path in paths {
        let start = Instant::now();
        rustix::fs::stat(path)?;
        taken.push(start.elapsed().as_secs_f64() * 1e6);
    }
    Ok(taken)
}
