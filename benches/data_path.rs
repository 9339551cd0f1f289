//! The data path against the kernel's own: hot files through the mount and the same replicas read
//! natively, side by side in one run; metadata; cold files.
//!
//! `cargo bench --bench data_path [-- OPTIONS]`, as root; `-- --help` lists the options. The daemon
//! is the real program on temporary directories; nothing is left of it.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark prints its figures"
)]

mod harness;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use harness::files::{self, Access};
use harness::report::{Case, Fact, Figures, side};
use harness::{Goal, Options, Report, Site, machine};

const ACCESSES: [Access; 5] = [
    Access::Read,
    Access::RandomRead,
    Access::MapLines,
    Access::MapRandomPages,
    Access::Direct,
];
const THREADS: [usize; 2] = [1, 4];
/// Smallest and largest of the small files: manifests and tokenizers.
const SMALL_BYTES: (u64, u64) = (4 << 10, 1 << 20);
/// Opens in one round of the latency measurement.
const OPENS: usize = 4000;

/// A file of the models directory in all its places.
struct Places {
    mount: PathBuf,
    home: PathBuf,
    replica: PathBuf,
}

fn main() -> Result<()> {
    let Some(options) = Options::parse(Options::default())? else {
        return Ok(());
    };
    let site = Site::new(&options.directory)?;
    let mut report = Report::start("speedloader: the data path", &options);
    let bytes = options.bytes();
    files::write_file(&site.models().join("large.gguf"), bytes)?;
    files::write_file(&site.models().join("other.gguf"), bytes + (2 << 20))?;
    files::write_file(&site.cold().join("cold.gguf"), bytes + (4 << 20))?;
    let sizes = write_small_files(&site, options.files)?;
    let pool_bytes = 2 * bytes + sizes.iter().sum::<u64>() * 2 + (256 << 20);
    site.start(pool_bytes, &["policy.enabled=false"])?;
    let passthrough = site.ask(&["status"])?;
    report.note(&format!("passthrough: {}", served_by(&passthrough)));
    site.run(&["promote", "large.gguf", "--wait"])?;
    site.run(&["promote", "small/*", "--wait"])?;
    let large = Places {
        mount: site.mount().join("large.gguf"),
        home: site.models().join("large.gguf"),
        replica: site.replica_of_size(bytes)?,
    };
    let small = small_places(&site, &sizes)?;

    if options.wants("hot") {
        hot(&mut report, &options, &large)?;
        against_shm(&mut report, &options, &site, &large)?;
    }
    if options.wants("small") {
        small_files(&mut report, &options, &small)?;
    }
    if options.wants("metadata") {
        metadata(&mut report, &options, &site, &small)?;
    }
    if options.wants("open") {
        open_latency(&mut report, &options, &site, &large)?;
    }
    if options.wants("cold") {
        cold(&mut report, &options, &site)?;
    }
    report.finish()
}

/// What `status` says of who moves the bytes.
fn served_by(status: &serde_json::Value) -> String {
    let found = &status["passthrough"];
    let why = found["why"].as_str().unwrap_or_default();
    match found["active"].as_bool() {
        Some(true) => format!("active: {why}"),
        _ => format!("off, every read goes through the daemon: {why}"),
    }
}

/// Files of all sizes between the bounds, no two alike; gives the sizes.
fn write_small_files(site: &Site, count: usize) -> Result<Vec<u64>> {
    let directory = site.models().join("small");
    std::fs::create_dir(&directory)?;
    let mut sizes = Vec::with_capacity(count);
    let ratio = SMALL_BYTES.1 as f64 / SMALL_BYTES.0 as f64;
    for index in 0..count {
        // As many between 4 and 8 KiB as between 512 KiB and 1 MiB.
        let exact = SMALL_BYTES.0 as f64 * ratio.powf(index as f64 / count as f64);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let size = (exact as u64).max(sizes.last().map_or(0, |last| last + 1));
        std::fs::write(
            small_name(&directory, index),
            vec![b' '; usize::try_from(size)?],
        )?;
        sizes.push(size);
    }
    rustix::fs::sync();
    Ok(sizes)
}

fn small_name(directory: &Path, index: usize) -> PathBuf {
    directory.join(format!("tokenizer-{index:05}.json"))
}

/// The small files in all their places, in an order that no directory has.
fn small_places(site: &Site, sizes: &[u64]) -> Result<Vec<Places>> {
    let by_size = site.replicas_by_size()?;
    let (mount, home) = (site.mount().join("small"), site.models().join("small"));
    let place = |index: u32| {
        let index = index as usize;
        let replica = by_size.get(&sizes[index]);
        Ok(Places {
            mount: small_name(&mount, index),
            home: small_name(&home, index),
            replica: replica.context("a small file was not promoted")?.clone(),
        })
    };
    files::shuffled(sizes.len(), 3)
        .into_iter()
        .map(place)
        .collect()
}

fn hot(report: &mut Report, options: &Options, large: &Places) -> Result<()> {
    let mut cases = Vec::new();
    for access in ACCESSES {
        for threads in THREADS {
            cases.push(Case {
                name: format!("{}, {threads} thread{}", access.name(), plural(threads)),
                unit: access.unit(),
                goal: Some(Goal::AtLeast(0.95)),
                ours: side(move || access.rate(&large.mount, threads)),
                other: side(move || access.rate(&large.replica, threads)),
            });
        }
    }
    let title = format!("A hot file of {} MiB", options.mib);
    let sides = ("through the mount", "the replica natively");
    report.compare(&title, sides, options.rounds, &mut cases)
}

fn plural(number: usize) -> &'static str {
    if number == 1 { "" } else { "s" }
}

fn against_shm(report: &mut Report, options: &Options, site: &Site, large: &Places) -> Result<()> {
    let copy = site
        .plain_tmpfs(options.bytes() + (16 << 20))?
        .join("large.gguf");
    std::fs::copy(&large.home, &copy)?;
    let copy = &copy;
    let mut cases = Vec::new();
    for access in [Access::Read, Access::MapLines, Access::MapRandomPages] {
        for threads in THREADS {
            let is_map = access != Access::Read;
            cases.push(Case {
                name: format!("{}, {threads} thread{}", access.name(), plural(threads)),
                unit: access.unit(),
                goal: is_map.then_some(Goal::AtLeast(2.0)),
                ours: side(move || access.rate(&large.mount, threads)),
                other: side(move || access.rate(copy, threads)),
            });
        }
    }
    let title =
        "The same file against a copy by hand in a plain tmpfs (pages of 4 KiB, as /dev/shm)";
    let sides = ("through the mount", "plain tmpfs");
    report.compare(title, sides, options.rounds, &mut cases)?;
    std::fs::remove_file(copy)?;
    Ok(())
}

fn small_files(report: &mut Report, options: &Options, small: &[Places]) -> Result<()> {
    let paths = |pick: fn(&Places) -> &PathBuf| -> Vec<PathBuf> {
        small.iter().map(|places| pick(places).clone()).collect()
    };
    let mount = &paths(|places| &places.mount);
    let replica = &paths(|places| &places.replica);
    let mut cases: Vec<Case<'_>> = THREADS
        .iter()
        .map(|threads| Case {
            name: format!("open, read, close, {threads} thread{}", plural(*threads)),
            unit: "k files/s",
            goal: None,
            ours: side(|| files::read_all(mount, *threads)),
            other: side(|| files::read_all(replica, *threads)),
        })
        .collect();
    let title = format!("{} hot small files of 4 KiB to 1 MiB", small.len());
    let sides = ("through the mount", "the replicas natively");
    report.compare(&title, sides, options.rounds, &mut cases)
}

fn metadata(report: &mut Report, options: &Options, site: &Site, small: &[Places]) -> Result<()> {
    let mount: &Vec<PathBuf> = &small.iter().map(|places| places.mount.clone()).collect();
    let home: &Vec<PathBuf> = &small.iter().map(|places| places.home.clone()).collect();
    // The last case leaves the side that it measures first without names.
    let warm =
        |paths: &[PathBuf]| files::stat_all(paths, 1).and_then(|_| files::stat_all(paths, 20));
    let (listed, native) = (&site.mount().join("small"), &site.models().join("small"));
    let mut cases = [
        Case {
            name: "stat, warm".to_owned(),
            unit: "k/s",
            goal: Some(Goal::AtLeast(0.8)),
            ours: side(|| warm(mount)),
            other: side(|| warm(home)),
        },
        Case {
            name: format!("ls -l of {} files, warm", small.len()),
            unit: "ms",
            goal: Some(Goal::AtMost(2.0)),
            ours: side(|| list_millis(listed)),
            other: side(|| list_millis(native)),
        },
        Case {
            name: format!("ls -l of {} files, names dropped before", small.len()),
            unit: "ms",
            goal: None,
            ours: side(|| machine::drop_names().and_then(|()| list_millis(listed))),
            other: side(|| machine::drop_names().and_then(|()| list_millis(native))),
        },
    ];
    let sides = ("through the mount", "the models directory natively");
    let title = format!("metadata of {} files", small.len());
    report.compare(&title, sides, options.rounds, &mut cases)
}

fn list_millis(directory: &Path) -> Result<f64> {
    let start = Instant::now();
    let status = Command::new("ls")
        .arg("-l")
        .arg(directory)
        .env("LC_ALL", "C")
        .stdout(Stdio::null())
        .status()?;
    ensure!(status.success(), "ls: {status}");
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

/// Opens and closes, alone and while another file is promoted and demoted again and again.
fn open_latency(report: &mut Report, options: &Options, site: &Site, large: &Places) -> Result<()> {
    let mut rows = Vec::new();
    let (mount, native) = alternate_opens(options.rounds, large, || true)?;
    push_latencies(&mut rows, "", mount, native);
    let (stop, promotions) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (mount, native) = std::thread::scope(|scope| {
        let busy = scope.spawn(|| -> Result<()> {
            while !stop.load(Ordering::Relaxed) {
                files::forget_pages(&site.models().join("other.gguf"))?;
                site.run(&["promote", "other.gguf", "--wait"])?;
                promotions.fetch_add(1, Ordering::Relaxed);
                site.run(&["demote", "other.gguf"])?;
            }
            Ok(())
        });
        let enough = || promotions.load(Ordering::Relaxed) >= options.rounds.min(5);
        let measured = alternate_opens(options.rounds, large, enough);
        stop.store(true, Ordering::Relaxed);
        busy.join().expect("the promoting thread panicked")?;
        measured
    })?;
    push_latencies(&mut rows, " while a promotion runs", mount, native);
    rows.push(Fact::shown(
        "promotions meanwhile",
        promotions.into_inner() as f64,
        "",
    ));
    report.facts("open + close of a hot file", &rows);
    Ok(())
}

/// Microseconds of opens of the mount and the replica in turn, for so many rounds and until `enough`.
fn alternate_opens(
    rounds: usize,
    large: &Places,
    enough: impl Fn() -> bool,
) -> Result<(Vec<f64>, Vec<f64>)> {
    let (mut mount, mut native) = (Vec::new(), Vec::new());
    let mut round = 0;
    while round < rounds || !enough() {
        mount.extend(files::open_close(&large.mount, OPENS / 4)?);
        native.extend(files::open_close(&large.replica, OPENS / 4)?);
        round += 1;
    }
    Ok((mount, native))
}

fn push_latencies(rows: &mut Vec<Fact>, when: &str, mount: Vec<f64>, native: Vec<f64>) {
    let (mount, native) = (Figures::new(mount), Figures::new(native));
    for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
        let (ours, other) = (mount.quantile(share), native.quantile(share));
        rows.push(Fact::shown(format!("mount, {name}{when}"), ours, "us"));
        rows.push(Fact::shown(format!("native, {name}{when}"), other, "us"));
    }
}

fn cold(report: &mut Report, options: &Options, site: &Site) -> Result<()> {
    let (mount, native) = (
        &site.mount().join("cold.gguf"),
        &site.cold().join("cold.gguf"),
    );
    let mut cases = Vec::new();
    for dropped in [true, false] {
        for access in [Access::Read, Access::MapLines] {
            let rate = move |path: &Path| -> Result<f64> {
                if dropped {
                    files::forget_pages(native)?;
                }
                // The disk is waited for: the clock on the wall counts.
                Ok(access.rate(path, 1)?.figure)
            };
            let cache = if dropped { "dropped" } else { "warm" };
            cases.push(Case {
                name: format!("{}, page cache {cache}", access.name()),
                unit: access.unit(),
                goal: Some(Goal::AtLeast(0.95)),
                ours: side(move || rate(mount)),
                other: side(move || rate(native)),
            });
        }
    }
    // The dropped cases end with a warm cache: the last side has read all of it.
    let title = format!("A cold file of {} MiB, not admitted", options.mib + 4);
    let sides = ("through the mount", "the cold file natively");
    report.compare(&title, sides, options.rounds, &mut cases)
}
