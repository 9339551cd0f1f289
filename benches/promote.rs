//! Promotion against what people do by hand: one large file from disk into RAM by the daemon,
//! `rsync -a --inplace` and `cp`, beside fio's best direct read of the same file as the disk's limit.
//!
//! `cargo bench --bench promote [-- OPTIONS]`, as root; `-- --help` lists the options. In each round
//! each way is measured once, in turn in another order; caches are dropped before each.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark prints its figures"
)]

mod harness;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::report::{Fact, Figures};
use harness::{Goal, Options, Report, Site, files, machine};
use serde_json::{Value, json};
use speedloader_fs::sys::map::HugeBuffer;

/// A way from the disk into memory, or just from the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// The daemon; a CRC is recorded, as by default.
    Crc64,
    /// The daemon; a digest is recorded.
    Blake3,
    /// The daemon; the digest is the file's name and is verified.
    Sha256,
    Rsync,
    Cp,
    /// Only reads: one process with many requests under way.
    FioRing,
    /// Only reads: threads with one request each.
    FioThreads,
}

const WAYS: [Way; 7] = [
    Way::Crc64,
    Way::Blake3,
    Way::Sha256,
    Way::Rsync,
    Way::Cp,
    Way::FioRing,
    Way::FioThreads,
];

impl Way {
    fn name(self) -> &'static str {
        match self {
            Way::Crc64 => "promote, CRC-64 recorded (the default)",
            Way::Blake3 => "promote, BLAKE3 recorded",
            Way::Sha256 => "promote, an Ollama blob's SHA-256 verified",
            Way::Rsync => "rsync -a --inplace",
            Way::Cp => "cp",
            Way::FioRing => "fio direct read, io_uring x16",
            Way::FioThreads => "fio direct read, 8 threads",
        }
    }

    /// What the daemon records, for the ways that go through it.
    fn checksum(self) -> Option<&'static str> {
        match self {
            Way::Crc64 | Way::Sha256 => Some("mover.checksum=crc64"),
            Way::Blake3 => Some("mover.checksum=blake3"),
            _ => None,
        }
    }

    fn is_fio(self) -> bool {
        matches!(self, Way::FioRing | Way::FioThreads)
    }

    /// The program that it needs beside ours, and the package that has it.
    fn needs(self) -> Option<(&'static str, &'static str)> {
        match self {
            Way::Rsync => Some(("rsync", "apt install rsync")),
            Way::FioRing | Way::FioThreads => Some(("fio", "apt install fio")),
            _ => None,
        }
    }
}

/// One way in one round.
#[derive(Clone, Copy)]
struct Round {
    gb_per_sec: f64,
    cpu_secs_per_gb: f64,
}

fn main() -> Result<()> {
    let defaults = Options {
        rounds: 5,
        mib: 2048,
        ..Options::default()
    };
    let Some(options) = Options::parse(defaults)? else {
        return Ok(());
    };
    let mut report = Report::start("speedloader: promotion", &options);
    let mut ways = Vec::new();
    for way in WAYS {
        match way.needs().filter(|(program, _)| !is_installed(program)) {
            Some((program, hint)) => {
                report.cannot_measure(&format!("{}: {program} is missing: {hint}", way.name()));
            }
            None => ways.push(way),
        }
    }
    let bench = Bench::new(&options)?;
    let mut rounds: Vec<Vec<Round>> = ways.iter().map(|_| Vec::new()).collect();
    for round in 0..options.rounds {
        for turn in 0..ways.len() {
            let at = (turn + round) % ways.len();
            let measured = bench.measure(ways[at]);
            rounds[at].push(measured.with_context(|| ways[at].name())?);
        }
    }
    print(&mut report, &options, &ways, &rounds);
    report.finish()
}

fn is_installed(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdout(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

struct Bench {
    site: Site,
    bytes: u64,
    plain: PathBuf,
    blob: PathBuf,
    by_hand: PathBuf,
}

impl Bench {
    fn new(options: &Options) -> Result<Bench> {
        let site = Site::new(&options.directory)?;
        let bytes = options.bytes();
        let plain = site.models().join("model.gguf");
        files::write_file(&plain, bytes)?;
        let output = Command::new("sha256sum").arg(&plain).output()?;
        let text = String::from_utf8(output.stdout)?;
        let digest = text.split_whitespace().next().context("no sha256sum")?;
        let blob = site.models().join(format!("blobs/sha256-{digest}"));
        std::fs::create_dir(site.models().join("blobs"))?;
        files::write_file(&blob, bytes)?;
        let by_hand = site.plain_tmpfs(bytes + (64 << 20))?.join("model.gguf");
        Ok(Bench {
            site,
            bytes,
            plain,
            blob,
            by_hand,
        })
    }

    fn measure(&self, way: Way) -> Result<Round> {
        if let Some(checksum) = way.checksum() {
            // Another checksum needs another daemon; all ways of ours have a fresh one.
            let pool_bytes = self.bytes + (64 << 20);
            // To make memory ready is a part of what a copy costs.
            let settings = ["policy.enabled=false", checksum, "pool.bench.prefault=0B"];
            self.site.start(pool_bytes, &settings)?;
        }
        machine::drop_page_cache()?;
        touch_memory(self.bytes)?;
        let gb = self.bytes as f64 / 1e9;
        let before = self.cpu_secs()?;
        let start = Instant::now();
        let told = self.go(way)?;
        let elapsed = told.unwrap_or_else(|| start.elapsed());
        let cpu = self.cpu_secs()? - before;
        self.clear(way)?;
        self.site.stop();
        Ok(Round {
            gb_per_sec: gb / elapsed.as_secs_f64(),
            cpu_secs_per_gb: cpu / gb,
        })
    }

    /// Of the daemon, and of all children: what the command line takes counts too.
    fn cpu_secs(&self) -> Result<f64> {
        let daemon = match self.site.pid() {
            Ok(pid) => machine::cpu_secs_of(pid)?,
            Err(_) => 0.0,
        };
        Ok(daemon + machine::cpu_secs_of_children()?)
    }

    /// Goes the way; gives the time if the program that goes it tells better than we can.
    fn go(&self, way: Way) -> Result<Option<Duration>> {
        match way {
            Way::Crc64 | Way::Blake3 | Way::Sha256 => {
                self.site.run(&["promote", &self.name(way), "--wait"])?;
            }
            Way::Rsync => succeed(
                Command::new("rsync")
                    .args(["-a", "--inplace"])
                    .arg(&self.plain)
                    .arg(&self.by_hand),
            )?,
            Way::Cp => succeed(Command::new("cp").arg(&self.plain).arg(&self.by_hand))?,
            Way::FioRing | Way::FioThreads => return fio(&self.plain, self.bytes, way).map(Some),
        }
        Ok(None)
    }

    fn name(&self, way: Way) -> String {
        let file = match way {
            Way::Sha256 => &self.blob,
            _ => &self.plain,
        };
        let below = file.strip_prefix(self.site.models()).unwrap_or(file);
        below.to_string_lossy().into_owned()
    }

    fn clear(&self, way: Way) -> Result<()> {
        match way {
            Way::Crc64 | Way::Blake3 | Way::Sha256 => {
                let size = self.site.replica_of_size(self.bytes);
                size.context("nothing was promoted")?;
                self.site.run(&["demote", &self.name(way)])?;
            }
            Way::Rsync | Way::Cp => std::fs::remove_file(&self.by_hand)?,
            Way::FioRing | Way::FioThreads => {}
        }
        Ok(())
    }
}

/// Takes memory and gives it back. A virtual machine whose free memory goes back to its host pays for
/// the first touch after a pause; no way shall pay for another's.
fn touch_memory(bytes: u64) -> Result<()> {
    let mut memory = HugeBuffer::new(usize::try_from(bytes)?)?;
    for page in memory.bytes_mut().chunks_mut(4096) {
        page[0] = 1;
    }
    Ok(())
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command.stdout(Stdio::null()).status()?;
    ensure!(status.success(), "{status}");
    Ok(())
}

/// The time that fio itself says the reading took, without its start.
fn fio(source: &Path, bytes: u64, way: Way) -> Result<Duration> {
    let mut command = Command::new("fio");
    command.args(["--name=read", "--rw=read", "--direct=1", "--bs=2M"]);
    command.args(["--readonly", "--output-format=json", "--group_reporting"]);
    command.arg(format!("--filename={}", source.display()));
    // Buffers of huge pages where the C library can: with small ones fio is slower than the disk.
    command.arg("--iomem_align=2M");
    command.env("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1");
    if way == Way::FioRing {
        command.args(["--ioengine=io_uring", "--iodepth=16"]);
    } else {
        let share = bytes / 8;
        command.args(["--ioengine=psync", "--thread", "--numjobs=8"]);
        command.arg(format!("--size={share}"));
        command.arg(format!("--offset_increment={share}"));
    }
    let output = command.output()?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "fio: {}", complaint.trim());
    let found: Value = serde_json::from_slice(&output.stdout).context("fio printed no JSON")?;
    let rate = found["jobs"][0]["read"]["bw_bytes"].as_f64();
    let rate = rate.context("fio printed no rate")?;
    Ok(Duration::from_secs_f64(bytes as f64 / rate))
}

fn print(report: &mut Report, options: &Options, ways: &[Way], rounds: &[Vec<Round>]) {
    let rates = |at: usize| Figures::new(rounds[at].iter().map(|r| r.gb_per_sec).collect());
    let cpu = |at: usize| Figures::new(rounds[at].iter().map(|r| r.cpu_secs_per_gb).collect());
    let disk = (0..ways.len())
        .filter(|at| ways[*at].is_fio())
        .map(|at| rates(at).median())
        .fold(f64::NAN, f64::max);
    let row = |at: usize| {
        let (rates, cpu) = (rates(at), cpu(at));
        vec![
            json!(ways[at].name()),
            json!(rates.median()),
            json!(format!(
                "{:.2}-{:.2}",
                rates.quantile(0.0),
                rates.quantile(1.0)
            )),
            json!(cpu.median()),
            json!(100.0 * rates.median() / disk),
        ]
    };
    let header = ["", "GB/s", "slowest-fastest", "CPU s/GB", "% of fio's best"];
    let title = format!("{} MiB from the disk, caches dropped", options.mib);
    report.table(&title, &header, (0..ways.len()).map(row).collect());
    let Some(rsync) = ways.iter().position(|way| *way == Way::Rsync) else {
        return;
    };
    let mut facts = Vec::new();
    for at in (0..ways.len()).filter(|at| ways[*at].checksum().is_some()) {
        let name = ways[at].name();
        let faster = rates(at).median() / rates(rsync).median();
        let cheaper = cpu(at).median() / cpu(rsync).median();
        let name = |what: &str| format!("{name}: {what} / rsync's");
        facts.push(Fact::judged(name("GB/s"), faster, "x", Goal::AtLeast(3.0)));
        facts.push(Fact::judged(
            name("CPU s/GB"),
            cheaper,
            "x",
            Goal::AtMost(0.125),
        ));
    }
    report.facts("against rsync", &facts);
}
