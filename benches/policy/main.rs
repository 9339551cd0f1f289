//! Load time of the policy engine against the offline bound and published policies.
//!
//! `cargo bench --bench policy [-- OPTIONS]`; `-- --help` lists the options. Figures in seconds of load time are
//! the same on every machine.
#![allow(clippy::print_stdout)]

mod scale;
mod worlds;

use std::collections::VecDeque;
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context, Result, bail};
use speedloader_policy::{
    BASELINES, Moves, Params, TierId, Tiers, Trace, TraceReader, load_time_bound_secs, replay,
    replay_baseline,
};

const USAGE: &str = "\
Replays traces, pools being 5, 10, 20 and 40 % of a trace's footprint; with three tiers a remote pool of
twice that is added. Speeds are 10, 5 and 1 GB/s, moves happen while reading, demotions are charged.

options: --traces DIR    replay every *.csv and *.csv.gz in DIR; may be repeated (also SPEEDLOADER_TRACES,
                         separated by colons); without any, synthetic worlds of its own are replayed
         --seeds N,N     those worlds' seeds (default 5,6)
         --tiers 2|3     only two tiers, or only three
         --scale LOADS   measure time, memory and plan latency over so many loads (default 10000000;
                         0 leaves it out)
         --quick         a little of everything, for tests";

const RAM: u64 = 10_000_000_000;
const REMOTE: u64 = 5_000_000_000;
const COLD: u64 = 1_000_000_000;
const PERCENTS: [u64; 4] = [5, 10, 20, 40];
/// Of a sum of load times, what the order of its terms may change.
const ROUNDING: f64 = 1e-9;

struct Options {
    directories: Vec<PathBuf>,
    seeds: Vec<u64>,
    tiers: Vec<usize>,
    scale_loads: u64,
    quick: bool,
}

/// One trace, one size, one number of tiers.
#[derive(Clone)]
struct Cell {
    trace: String,
    percent: u64,
    bound_secs: f64,
    best: (&'static str, f64),
    engine_secs: f64,
    byte_hit_ratio: f64,
    moved_bytes: u64,
}

/// None when only help was asked for.
fn options() -> Result<Option<Options>> {
    let mut options = Options {
        directories: Vec::new(),
        seeds: vec![5, 6],
        tiers: vec![2, 3],
        scale_loads: 10_000_000,
        quick: false,
    };
    if let Some(paths) = std::env::var_os("SPEEDLOADER_TRACES") {
        options.directories.extend(std::env::split_paths(&paths));
    }
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().with_context(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--bench" => {}
            "--help" | "-h" => {
                println!("{USAGE}");
                return Ok(None);
            }
            "--quick" => options.quick = true,
            "--traces" => options.directories.push(value()?.into()),
            "--seeds" => {
                let text = value()?;
                options.seeds = text
                    .split(',')
                    .map(|n| {
                        n.parse()
                            .with_context(|| format!("--seeds: {n:?} is no number"))
                    })
                    .collect::<Result<_>>()?;
            }
            "--tiers" => options.tiers = vec![value()?.parse().context("--tiers is 2 or 3")?],
            "--scale" => options.scale_loads = value()?.parse().context("--scale is a number")?,
            _ => bail!("unknown option {arg}; --help lists them"),
        }
    }
    Ok(Some(options))
}

fn main() -> Result<()> {
    let Some(mut options) = options()? else {
        return Ok(());
    };
    let mut traces = Vec::new();
    for directory in &options.directories {
        let entries = std::fs::read_dir(directory)
            .with_context(|| format!("cannot list {}", directory.display()))?;
        for entry in entries {
            let path = entry?.path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if let Some(name) = name.strip_suffix(".csv.gz").or(name.strip_suffix(".csv")) {
                traces.push((name.to_owned(), read(&path)?));
            }
        }
    }
    if options.directories.is_empty() {
        for &seed in &options.seeds {
            traces.extend(worlds::all(seed));
        }
    } else if traces.is_empty() {
        bail!("no *.csv or *.csv.gz in {:?}", options.directories);
    }
    traces.sort_by(|a, b| a.0.cmp(&b.0));
    if options.quick {
        traces.truncate(2);
        options.scale_loads = options.scale_loads.min(50_000);
    }
    for &tiers in &options.tiers {
        print_table(tiers, &measure_all(&traces, tiers));
    }
    scale::run(options.scale_loads);
    Ok(())
}

fn read(path: &Path) -> Result<Trace> {
    let file =
        std::fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let zipped = path.extension().is_some_and(|extension| extension == "gz");
    let plain: Box<dyn std::io::Read> = if zipped {
        Box::new(flate2::read::GzDecoder::new(file))
    } else {
        Box::new(file)
    };
    let mut reader = TraceReader::new();
    for line in std::io::BufReader::new(plain).lines() {
        let line = line.with_context(|| format!("cannot read {}", path.display()))?;
        reader
            .line(&line)
            .with_context(|| path.display().to_string())?;
    }
    reader.finish().with_context(|| path.display().to_string())
}

fn tiers_of(trace: &Trace, percent: u64, tiers: usize) -> Tiers {
    let ram = (u128::from(trace.footprint_bytes()) * u128::from(percent) / 100) as u64;
    let mut pools = vec![(TierId(0), RAM, ram)];
    if tiers > 2 {
        pools.push((TierId(1), REMOTE, 2 * ram));
    }
    Tiers {
        pools,
        cold_bytes_per_sec: COLD,
    }
}

/// All cells, on all processors.
fn measure_all(traces: &[(String, Trace)], tiers: usize) -> Vec<Cell> {
    let jobs: VecDeque<(usize, u64)> = (0..traces.len())
        .flat_map(|at| PERCENTS.map(|percent| (at, percent)))
        .collect();
    let jobs = Mutex::new(jobs);
    let cells = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let job = jobs.lock().expect("no worker panics").pop_front();
                    let Some((at, percent)) = job else { break };
                    let (name, trace) = &traces[at];
                    let cell = measure(name, trace, percent, tiers);
                    cells
                        .lock()
                        .expect("no worker panics")
                        .push((at, percent, cell));
                }
            });
        }
    });
    let mut cells = cells.into_inner().expect("no worker panics");
    cells.sort_by_key(|&(at, percent, _)| (at, percent));
    cells.into_iter().map(|(_, _, cell)| cell).collect()
}

fn measure(name: &str, trace: &Trace, percent: u64, count: usize) -> Cell {
    let tiers = tiers_of(trace, percent, count);
    let engine = replay(&Params::default(), &tiers, Moves::WhileReading, trace);
    let mut best = ("none", f64::INFINITY);
    for kind in BASELINES.into_iter().filter(|kind| !kind.is_clairvoyant()) {
        let secs = replay_baseline(kind, &tiers, Moves::WhileReading, trace).load_time_secs;
        if secs < best.1 {
            best = (kind.name(), secs);
        }
    }
    let cell = Cell {
        trace: name.to_owned(),
        percent,
        bound_secs: load_time_bound_secs(&tiers, trace),
        best,
        engine_secs: engine.load_time_secs,
        byte_hit_ratio: engine.byte_hit_ratio(),
        moved_bytes: engine.moved_bytes,
    };
    let least = cell.engine_secs.min(cell.best.1);
    // Where everything that is loaded again fits, a policy reaches it; sums are in another order.
    assert!(
        cell.bound_secs > 0.0 && cell.bound_secs <= least * (1.0 + ROUNDING),
        "{name} {percent} %: a policy takes {least} s, the bound is {} s",
        cell.bound_secs
    );
    cell
}

fn print_table(tiers: usize, cells: &[Cell]) {
    println!("\n{tiers} tiers: seconds of load time");
    println!(
        "{:<26} {:>4} {:>9} {:>16} {:>9} {:>9} {:>8} {:>7} {:>9} {:>9}",
        "trace",
        "pool",
        "bound",
        "best baseline",
        "",
        "engine",
        "x bound",
        "x best",
        "byte hits",
        "moved TB"
    );
    for cell in cells {
        println!(
            "{:<26} {:>3}% {:>9.0} {:>16} {:>9.0} {:>9.0} {:>8.3} {:>7.3} {:>9.3} {:>9.2}",
            cell.trace,
            cell.percent,
            cell.bound_secs,
            cell.best.0,
            cell.best.1,
            cell.engine_secs,
            cell.engine_secs / cell.bound_secs,
            cell.engine_secs / cell.best.1,
            cell.byte_hit_ratio,
            cell.moved_bytes as f64 / 1e12,
        );
    }
    let mean = |ratio: &dyn Fn(&Cell) -> f64| {
        (cells.iter().map(|c| ratio(c).ln()).sum::<f64>() / cells.len().max(1) as f64).exp()
    };
    let to_best = |cell: &Cell| cell.engine_secs / cell.best.1;
    let worst = cells
        .iter()
        .max_by(|a, b| to_best(a).total_cmp(&to_best(b)));
    println!(
        "{} cells: geometric mean {:.4} x bound, {:.4} x best baseline; worst {:.4} ({}), {} above 1.02",
        cells.len(),
        mean(&|c| c.engine_secs / c.bound_secs),
        mean(&to_best),
        worst.map_or(1.0, to_best),
        worst.map_or(String::new(), |c| format!("{} {} %", c.trace, c.percent)),
        cells.iter().filter(|c| to_best(c) > 1.02).count(),
    );
}
