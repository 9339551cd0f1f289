//! Promotion against what people do by hand: one large file from disk into RAM, by our mover,
//! `rsync -a --inplace`, `cp`, and fio's best direct read of the same file as the disk's limit.
//!
//! `cargo bench --bench promote [-- --gib N --rounds N --dir DIR]`, as root. Rounds are interleaved and the
//! page cache is dropped before each copy; medians are printed with the slowest and fastest round.
#![allow(clippy::print_stdout)]

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::time::ClockId;
use speedloader_fs::copy::{CopySettings, FileSource, Source};
use speedloader_fs::error::{FsError, FsResult};
use speedloader_fs::ids::{FileId, PoolId};
use speedloader_fs::mover::{Job, Mover, MoverHost, MoverSettings, Phase, Refused};
use speedloader_fs::pool::{Pool, PoolKind, PoolSettings};
use speedloader_fs::rel_path::RelPath;
use speedloader_fs::replica::{Digest, DigestKind, Replica};
use speedloader_fs::seam::NoSeam;
use speedloader_fs::sys::map::HugeBuffer;
use speedloader_fs::tmpfs::{self, HugePages, TmpfsSettings};

const WAYS: [&str; 7] = [
    "ours, CRC-64 recorded",
    "ours, BLAKE3 recorded",
    "ours, SHA-256 verified",
    "rsync -a --inplace",
    "cp",
    "fio direct read, io_uring x16",
    "fio direct read, 8 threads",
];
const RSYNC: usize = 3;
const CP: usize = 4;
const FIO: [usize; 2] = [5, 6];

struct Options {
    gib: u64,
    rounds: usize,
    directory: PathBuf,
}

fn main() -> Result<()> {
    let options = options()?;
    if !rustix::process::geteuid().is_root() {
        println!("skipped: mounting a tmpfs and dropping caches need root");
        return Ok(());
    }
    let place = tempfile::tempdir_in(&options.directory)?;
    let source = place.path().join("model.gguf");
    println!("writing {} GiB to {} ..", options.gib, source.display());
    let digest = write_file(&source, options.gib << 30)?;
    let pool = Guard::connect(&place.path().join("pool"), options.gib << 30)?;
    let by_hand = PlainTmpfs::mount(&place.path().join("by-hand"), options.gib << 30)?;
    let bytes = options.gib << 30;
    println!("first touch of memory: {:.2} CPU s/GB", touch_cost(bytes)?);
    println!("the same memory again: {:.2} CPU s/GB", touch_cost(bytes)?);

    let mut rounds: Vec<Vec<Round>> = WAYS.iter().map(|_| Vec::new()).collect();
    for _ in 0..options.rounds {
        for (way, rounds) in rounds.iter_mut().enumerate() {
            std::fs::write("/proc/sys/vm/drop_caches", "1")?;
            touch_memory(bytes)?;
            let target = by_hand.0.join("model.gguf");
            let measured = Round::measure(bytes, || match way {
                0 => promote(&pool, &source, DigestKind::Crc64, None),
                1 => promote(&pool, &source, DigestKind::Blake3, None),
                2 => promote(&pool, &source, digest.kind, Some(digest)),
                RSYNC => run(Command::new("rsync")
                    .args(["-a", "--inplace"])
                    .arg(&source)
                    .arg(&target)),
                CP => run(Command::new("cp").arg(&source).arg(&target)),
                _ => fio(&source, way),
            });
            match measured {
                Ok(round) => rounds.push(round),
                Err(error) => println!("{}: {error:#}", WAYS[way]),
            }
            if target.exists() {
                std::fs::remove_file(&target)?;
            }
        }
    }
    print_table(&mut rounds);
    Ok(())
}

fn options() -> Result<Options> {
    let mut options = Options {
        gib: 2,
        rounds: 5,
        directory: PathBuf::from(env!("CARGO_TARGET_TMPDIR")),
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || {
            arguments
                .next()
                .with_context(|| format!("{argument} needs a value"))
        };
        match argument.as_str() {
            "--gib" => options.gib = value()?.parse()?,
            "--rounds" => options.rounds = value()?.parse()?,
            "--dir" => options.directory = value()?.into(),
            // Cargo itself says so.
            "--bench" => {}
            other => bail!("unknown option {other}: --gib N, --rounds N, --dir DIR"),
        }
    }
    ensure!(
        options.gib > 0 && options.rounds > 0,
        "--gib and --rounds must be at least 1"
    );
    Ok(options)
}

/// Writes bytes that do not compress; returns their SHA-256.
fn write_file(path: &Path, bytes: u64) -> Result<Digest> {
    let mut file = File::create(path)?;
    let mut x = 0x9e37_79b9_7f4a_7c15_u64;
    let mut block = vec![0_u8; 1 << 20];
    for _ in 0..bytes >> 20 {
        for word in block.chunks_exact_mut(8) {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            word.copy_from_slice(&x.to_ne_bytes());
        }
        file.write_all(&block)?;
    }
    file.sync_all()?;
    let output = Command::new("sha256sum").arg(path).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let hex = text
        .split_whitespace()
        .next()
        .context("sha256sum printed nothing")?;
    Ok(format!("sha256:{hex}").parse()?)
}

/// A pool that is unmounted at the end, also after an error.
struct Guard {
    pool: Arc<Pool>,
    path: PathBuf,
}

impl Guard {
    fn connect(path: &Path, bytes: u64) -> Result<Self> {
        let settings = PoolSettings {
            id: PoolId(0),
            name: "bench".to_owned(),
            path: path.to_owned(),
            kind: PoolKind::Tmpfs(TmpfsSettings {
                capacity_bytes: bytes + (64 << 20),
                huge_pages: HugePages::WithinSize,
                no_swap: true,
                memory_policy: None,
            }),
            speed_bytes_per_sec: None,
            seam: Arc::new(NoSeam),
        };
        Ok(Guard {
            pool: Pool::connect(settings)?,
            path: path.to_owned(),
        })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Err(error) = tmpfs::unmount(&self.path) {
            println!("left mounted: {error}");
        }
    }
}

/// A tmpfs as everybody has it at `/dev/shm`, for the copies by hand.
struct PlainTmpfs(PathBuf);

impl PlainTmpfs {
    fn mount(path: &Path, bytes: u64) -> Result<Self> {
        std::fs::create_dir(path)?;
        let size = std::ffi::CString::new(format!("size={}", bytes + (64 << 20)))?;
        let flags = rustix::mount::MountFlags::NODEV;
        rustix::mount::mount("bench", path, "tmpfs", flags, size.as_c_str())?;
        Ok(PlainTmpfs(path.to_owned()))
    }
}

impl Drop for PlainTmpfs {
    fn drop(&mut self) {
        if let Err(error) = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH) {
            println!("left mounted: {error}");
        }
    }
}

/// Takes memory and gives it back. A virtual machine whose free memory goes back to its host pays
/// for the first touch after a pause, 1.5 CPU s/GB and more; no way shall pay for another's.
fn touch_memory(bytes: u64) -> Result<()> {
    let mut memory = HugeBuffer::new(usize::try_from(bytes)?)?;
    for page in memory.bytes_mut().chunks_mut(4096) {
        page[0] = 1;
    }
    Ok(())
}

fn touch_cost(bytes: u64) -> Result<f64> {
    let touched = Round::measure(bytes, || {
        touch_memory(bytes)?;
        Ok(Duration::from_secs(1))
    })?;
    Ok(touched.cpu_secs_per_gb)
}

#[derive(Default)]
struct Host {
    source: PathBuf,
    replicas: Mutex<Vec<Replica>>,
}

impl MoverHost for Host {
    fn open_source(&self, _: FileId) -> FsResult<Box<dyn Source>> {
        let file = File::open(&self.source)
            .map_err(|error| FsError::io("open", &RelPath::root(), error))?;
        Ok(Box::new(FileSource::new(file)))
    }

    fn publish(&self, _: FileId, replica: Replica) -> Result<(), Refused> {
        self.replicas
            .lock()
            .expect("no test panics with it")
            .push(replica);
        Ok(())
    }
}

fn promote(
    pool: &Guard,
    source: &Path,
    record: DigestKind,
    expected: Option<Digest>,
) -> Result<Duration> {
    let host = Arc::new(Host {
        source: source.to_owned(),
        ..Host::default()
    });
    let start = Instant::now();
    let copy = CopySettings {
        record,
        ..CopySettings::default()
    };
    let settings = MoverSettings {
        copy,
        ..MoverSettings::default()
    };
    let mover = Mover::start(settings, Arc::clone(&host) as Arc<dyn MoverHost>)?;
    let id = mover.submit(Job {
        file: FileId(1),
        label: "model".to_owned(),
        home: source.parent().context("no parent")?.to_owned(),
        path: RelPath::new(b"model.gguf").map_err(|bad| io::Error::other(bad.to_string()))?,
        size_bytes: source.metadata()?.len(),
        pool: Arc::clone(&pool.pool),
        expected,
        priority: 0,
    })?;
    let ended = mover.wait(id, Duration::from_secs(3600))?;
    let elapsed = start.elapsed();
    if let Phase::Failed(error) = ended.phase {
        bail!("{error}");
    }
    for replica in host
        .replicas
        .lock()
        .expect("no test panics with it")
        .drain(..)
    {
        ensure!(
            replica.drain().try_finish().is_ok(),
            "somebody uses the replica"
        );
    }
    Ok(elapsed)
}

fn run(command: &mut Command) -> Result<Duration> {
    let start = Instant::now();
    let status = command
        .stdout(Stdio::null())
        .status()
        .context("is it installed?")?;
    ensure!(status.success(), "{status}");
    Ok(start.elapsed())
}

/// Time that fio itself says the reading took, without its start.
fn fio(source: &Path, way: usize) -> Result<Duration> {
    let mut command = Command::new("fio");
    command.args([
        "--name=read",
        "--rw=read",
        "--direct=1",
        "--bs=2M",
        "--readonly",
    ]);
    command.args(["--output-format=json", "--group_reporting"]);
    command.arg(format!("--filename={}", source.display()));
    command.args(["--iomem_align=2M"]);
    if way == FIO[0] {
        command.args(["--ioengine=io_uring", "--iodepth=16"]);
    } else {
        let share = source.metadata()?.len() / 8;
        command.args(["--ioengine=psync", "--thread", "--numjobs=8"]);
        command.args([
            format!("--size={share}"),
            format!("--offset_increment={share}"),
        ]);
    }
    let output = command.output().context("is fio installed?")?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{}: {}",
        output.status,
        complaint.trim()
    );
    let text = String::from_utf8_lossy(&output.stdout);
    // The first rate in its report is that of reads.
    let field = text
        .split("\"bw_bytes\" :")
        .nth(1)
        .context("fio printed no rate")?;
    let digits: String = field
        .trim()
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    let rate: f64 = digits.parse()?;
    #[allow(clippy::cast_precision_loss)]
    Ok(Duration::from_secs_f64(
        source.metadata()?.len() as f64 / rate,
    ))
}

#[derive(Clone, Copy)]
struct Round {
    gb_per_sec: f64,
    cpu_secs_per_gb: f64,
}

impl Round {
    fn measure(bytes: u64, way: impl FnOnce() -> Result<Duration>) -> Result<Self> {
        #[allow(clippy::cast_precision_loss)]
        let gb = bytes as f64 / 1e9;
        let before = cpu_secs()?;
        let elapsed = way()?;
        Ok(Round {
            gb_per_sec: gb / elapsed.as_secs_f64(),
            cpu_secs_per_gb: (cpu_secs()? - before) / gb,
        })
    }
}

/// Processor time of this process and of the children that it has waited for.
fn cpu_secs() -> Result<f64> {
    let own = rustix::time::clock_gettime(ClockId::ProcessCPUTime);
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // Behind the name, which may hold blanks: fields 16 and 17 are the children's, in 10 ms.
    let fields = stat.rsplit_once(')').context("/proc/self/stat is odd")?.1;
    let ticks = |at: usize| -> Result<f64> {
        Ok(fields
            .split_whitespace()
            .nth(at)
            .context("/proc/self/stat is short")?
            .parse()?)
    };
    let children = (ticks(13)? + ticks(14)?) / 100.0;
    let own = Duration::new(own.tv_sec.cast_unsigned(), u32::try_from(own.tv_nsec)?);
    Ok(own.as_secs_f64() + children)
}

fn print_table(rounds: &mut [Vec<Round>]) {
    let median = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    };
    let mut rows = Vec::new();
    for way in rounds.iter() {
        let mut rates: Vec<f64> = way.iter().map(|round| round.gb_per_sec).collect();
        let mut cpu: Vec<f64> = way.iter().map(|round| round.cpu_secs_per_gb).collect();
        let rate = median(&mut rates);
        let (least, most) = (rates.first().copied(), rates.last().copied());
        rows.push((
            rate,
            least.unwrap_or(f64::NAN),
            most.unwrap_or(f64::NAN),
            median(&mut cpu),
        ));
    }
    let disk = FIO.iter().map(|way| rows[*way].0).fold(0.0, f64::max);
    println!("| way | GB/s (min-max) | CPU s/GB | GB/s / rsync | CPU / rsync | of fio's best |");
    println!("|---|---|---|---|---|---|");
    for (name, (rate, least, most, cpu)) in WAYS.iter().zip(&rows) {
        println!(
            "| {name} | {rate:.2} ({least:.2}-{most:.2}) | {cpu:.3} | {:.1} | 1/{:.1} | {:.0} % |",
            rate / rows[RSYNC].0,
            rows[RSYNC].3 / cpu,
            100.0 * rate / disk,
        );
    }
}
