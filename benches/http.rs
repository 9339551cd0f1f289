//! HTTP under load: how many requests for the status are answered and how fast, what 200 live streams cost,
//! and whether reads through the mount notice any of it.
//!
//! `cargo bench --bench http [-- OPTIONS]`, as root; `-- --help` lists the options.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark prints its figures"
)]

mod harness;

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::files::Access;
use harness::report::{Case, Fact, Figures, Sample, side};
use harness::{Goal, Options, Report, Site, files, machine};

/// Live streams at once.
const STREAMS: usize = 200;
/// How long requests are made in one measurement.
const PERIOD: Duration = Duration::from_secs(3);
/// A person's dashboards: between two requests of the load beside reads.
const PAUSE: Duration = Duration::from_millis(20);
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// The load has gone on for so many requests, half a second, before reads are measured beside it: opening the streams
/// is not it.
const SETTLED: u64 = 25;
/// So often the file is read in one measurement: once is over between two updates of the streams.
const PASSES: usize = 10;
/// What reads through the mount keep of their speed.
const KEPT: f64 = 0.97;

fn main() -> Result<()> {
    let defaults = Options {
        rounds: 9,
        mib: 512,
        files: 1_000,
        ..Options::default()
    };
    let Some(options) = Options::parse(defaults)? else {
        return Ok(());
    };
    let mut report = Report::start("speedloader: HTTP under load", &options);
    let site = Site::new(&options.directory)?;
    files::write_file(&site.models().join("hot.gguf"), options.bytes())?;
    for index in 0..options.files {
        std::fs::write(
            site.models().join(format!("small-{index:05}.gguf")),
            b"GGUF",
        )?;
    }
    let address = free_address()?;
    let listen = format!("http.listen={address}");
    let settings = ["http.enabled=true", &listen, "policy.enabled=false"];
    site.start(4 * options.bytes(), &settings)?;
    site.run(&["promote", "hot.gguf", "--wait"])?;
    if options.wants("status") {
        status(&mut report, address)?;
    }
    if options.wants("streams") {
        streams(&mut report, &site, address)?;
    }
    if options.wants("mount") {
        mount(
            &mut report,
            &options,
            &site.mount().join("hot.gguf"),
            address,
        )?;
    }
    report.finish()
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// A connection that is kept.
struct Connection(BufReader<TcpStream>);

impl Connection {
    fn new(address: SocketAddr) -> Result<Connection> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Connection(BufReader::new(stream)))
    }

    /// One request and its whole answer; the bytes of it.
    fn get(&mut self, path: &str) -> Result<usize> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        self.0.get_mut().write_all(request.as_bytes())?;
        let (mut line, mut length, mut is_first) = (String::new(), 0, true);
        loop {
            line.clear();
            self.0.read_line(&mut line)?;
            ensure!(
                !is_first || line.starts_with("HTTP/1.1 200"),
                "answered {line:?}"
            );
            is_first = false;
            let lower = line.to_ascii_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().context("a length that is none")?;
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        Ok(length)
    }
}

/// Requests of so many clients, one after the other each; seconds that each took.
fn requests(address: SocketAddr, clients: usize) -> Result<Vec<f64>> {
    let client = || -> Result<Vec<f64>> {
        let mut connection = Connection::new(address)?;
        let (end, mut taken) = (Instant::now() + PERIOD, Vec::new());
        while Instant::now() < end {
            let began = Instant::now();
            connection.get("/api/v1/status")?;
            taken.push(began.elapsed().as_secs_f64());
        }
        Ok(taken)
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..clients).map(|_| scope.spawn(client)).collect();
        let mut all = Vec::new();
        for client in clients {
            all.extend(
                client
                    .join()
                    .map_err(|_| anyhow::anyhow!("a client panicked"))??,
            );
        }
        Ok(all)
    })
}

fn status(report: &mut Report, address: SocketAddr) -> Result<()> {
    let mut rows = Vec::new();
    for clients in [1, 8, 64] {
        let taken = requests(address, clients)?;
        let rate = taken.len() as f64 / PERIOD.as_secs_f64();
        let taken = Figures::new(taken.into_iter().map(|seconds| seconds * 1e3).collect());
        let of = |what: &str| format!("{clients} clients, {what}");
        rows.push(Fact::shown(of("requests"), rate, "/s"));
        rows.push(Fact::shown(of("p50"), taken.median(), "ms"));
        rows.push(Fact::shown(of("p99"), taken.quantile(0.99), "ms"));
    }
    report.facts("GET /api/v1/status", &rows);
    Ok(())
}

/// Opens the live streams; each has said hello when this returns.
fn open_streams(address: SocketAddr) -> Result<Vec<TcpStream>> {
    let mut streams = Vec::with_capacity(STREAMS);
    for _ in 0..STREAMS {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"GET /api/v1/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        streams.push(stream);
    }
    for stream in &mut streams {
        let mut text = Vec::new();
        let mut piece = [0; 1024];
        while !text
            .windows(11)
            .any(|bytes| bytes == b"event: hell" || bytes == b"event:hello")
        {
            let count = stream.read(&mut piece)?;
            ensure!(count > 0, "a stream ended at its start");
            text.extend_from_slice(&piece[..count]);
        }
        stream.set_nonblocking(true)?;
    }
    Ok(streams)
}

/// Takes whatever streams have sent; the bytes of it.
fn drain(streams: &mut [TcpStream]) -> Result<u64> {
    let (mut piece, mut bytes) = ([0; 16 << 10], 0);
    for stream in streams {
        loop {
            match stream.read(&mut piece) {
                Ok(0) => anyhow::bail!("a stream ended"),
                Ok(count) => bytes += count as u64,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(bytes)
}

fn streams(report: &mut Report, site: &Site, address: SocketAddr) -> Result<()> {
    let began = Instant::now();
    let mut streams = open_streams(address)?;
    let opened = began.elapsed();
    let (cpu, rss) = (
        machine::cpu_secs_of(site.pid()?)?,
        machine::rss_of(site.pid()?)?,
    );
    let (began, mut bytes) = (Instant::now(), 0);
    while began.elapsed() < PERIOD {
        bytes += drain(&mut streams)?;
        machine::pause(PAUSE);
    }
    let cpu = (machine::cpu_secs_of(site.pid()?)? - cpu) / began.elapsed().as_secs_f64();
    let alone = requests(address, 1)?;
    let taken = Figures::new(alone.into_iter().map(|seconds| seconds * 1e3).collect());
    let rows = [
        Fact::shown(
            "until all streams have said hello",
            opened.as_secs_f64(),
            "s",
        ),
        Fact::shown(
            "received by all",
            bytes as f64 / 1e3 / PERIOD.as_secs_f64(),
            "kB/s",
        ),
        Fact::shown("the daemon's processor time", cpu, "s/s"),
        Fact::shown(
            "its RSS",
            rss.total_bytes() as f64 / f64::from(1 << 20),
            "MiB",
        ),
        Fact::shown(
            "a request for the status beside them, p99",
            taken.quantile(0.99),
            "ms",
        ),
    ];
    report.facts(&format!("{STREAMS} live streams"), &rows);
    Ok(())
}

/// Streams and requests until `stop`; how many requests were answered.
fn load(address: SocketAddr, stop: &AtomicBool, answered: &AtomicU64) -> Result<()> {
    let mut streams = open_streams(address)?;
    let mut connection = Connection::new(address)?;
    while !stop.load(Ordering::Relaxed) {
        connection.get("/api/v1/status")?;
        // Whoever watches does so on another machine: what this one takes for it shall be little.
        if answered
            .fetch_add(1, Ordering::Relaxed)
            .is_multiple_of(SETTLED)
        {
            drain(&mut streams)?;
        }
        machine::pause(PAUSE);
    }
    Ok(())
}

/// The reads take what processor time they take; that of the clients beside them is not theirs.
fn mount(report: &mut Report, options: &Options, file: &Path, address: SocketAddr) -> Result<()> {
    let rate = |access: Access| {
        let passes = (0..PASSES).map(|_| access.rate(file, 1));
        passes
            .collect::<Result<Vec<_>>>()
            .map(|rates| Sample::together(&rates))
    };
    let beside = |access: Access| {
        let (stop, answered) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            let busy = scope.spawn(|| load(address, &stop, &answered));
            while answered.load(Ordering::Relaxed) < SETTLED && !busy.is_finished() {
                machine::pause(PAUSE);
            }
            let found = rate(access);
            stop.store(true, Ordering::Relaxed);
            busy.join()
                .map_err(|_| anyhow::anyhow!("the load panicked"))??;
            found
        })
    };
    let case = |access: Access| Case {
        name: access.name().to_owned(),
        unit: access.unit(),
        goal: Some(Goal::AtLeast(KEPT)),
        ours: side(move || beside(access)),
        other: side(move || rate(access)),
    };
    let title = format!("A hot file through the mount, beside {STREAMS} streams and 50 requests/s");
    let names = ("with the load", "without");
    report.compare(
        &title,
        names,
        options.rounds,
        &mut [case(Access::Read), case(Access::MapLines)],
    )
}
