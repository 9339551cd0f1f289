//! `speedloader demo`: what the product does, measured on this machine in a minute.
//!
//! It runs the real program: a daemon of its own on temporary directories, asked over its socket.
//! Everything that it made is gone afterwards, also when it fails or is interrupted.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::Advice;
use serde::Serialize;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use speedloader_fs::sys::descriptors::keep_from_children;

use crate::command::{Code, Command, Message};
use crate::control::Client;
use crate::models::synthetic;
use crate::program::{Demo, READY_FLAG};
use crate::view::human::{size, unescape};
use crate::view::table::{Align, Cell, Column, Row, Style};
use crate::view::{PlaceView, View};

/// Times that each figure is measured; the median is shown.
const ROUNDS: usize = 5;
/// Bytes of one read(2).
const READ_BYTES: usize = 1 << 20;
/// Models of a user's own directory that are shown at most.
const MODELS_MAX: usize = 3;
/// Bytes of a model that are read at most for one figure.
const MEASURED_BYTES_MAX: u64 = 4 << 30;
/// How long the daemon may take to be there, and to go.
const PATIENCE: Duration = Duration::from_secs(60);

/// A message is a few lines.
const SAID_BYTES_MAX: u64 = 1 << 20;

/// What was measured of one model.
#[derive(Debug, Serialize)]
struct Measured {
    model: String,
    size_bytes: u64,
    cold_read: f64,
    hot_read: f64,
    native_read: f64,
    cold_mmap: f64,
    hot_mmap: f64,
    native_mmap: f64,
    promote: f64,
}

impl Row for Measured {
    const COLUMNS: &'static [Column] = &[
        ("MODEL", Align::Flexible),
        ("SIZE", Align::Right),
        ("COLD READ", Align::Right),
        ("HOT READ", Align::Right),
        ("NATIVE READ", Align::Right),
        ("COLD MMAP", Align::Right),
        ("HOT MMAP", Align::Right),
        ("NATIVE MMAP", Align::Right),
        ("PROMOTED AT", Align::Right),
    ];

    fn cells(&self, _now_ms: u64) -> Vec<Cell> {
        let speed = |gigabytes: f64| Cell::from(format!("{gigabytes:.2} GB/s"));
        vec![
            Cell::from(&self.model),
            Cell::from(size(self.size_bytes)),
            speed(self.cold_read),
            speed(self.hot_read),
            speed(self.native_read),
            speed(self.cold_mmap),
            speed(self.hot_mmap),
            speed(self.native_mmap),
            speed(self.promote),
        ]
    }
}

/// Runs the demo and prints its table.
///
/// # Errors
/// What is missing, or what did not work.
pub fn run(demo: &Demo) -> Result<(), Message> {
    let mut out = io::stdout();
    let stop = interruption()?;
    let stage = Stage::set(demo, &mut out)?;
    let measured = stage.measure(demo, &mut out, &stop);
    let shown = measured.and_then(|measured| show(demo, &stage, &measured, &mut out));
    if demo.keep && shown.is_ok() {
        stage.keep(&mut out)
    } else {
        stage.clear().and(shown)
    }
}

/// What a daemon has said that ended before its mount answered.
fn why_it_ended(daemon: &mut Child) -> Message {
    let mut said = Vec::new();
    if let Some(pipe) = daemon.stdout.take() {
        // What cannot be read was not said.
        let _ = pipe.take(SAID_BYTES_MAX).read_to_end(&mut said);
    }
    serde_json::from_slice(&said)
        .unwrap_or_else(|_| Message::new(Code::Failed, "demo: the daemon did not start"))
}

fn failed(what: &str, error: &io::Error) -> Message {
    Message::new(Code::Failed, format!("demo: {what}: {error}"))
}

/// Set by Ctrl-C, and by a terminal that is closed: between two steps the demo ends and cleans up.
fn interruption() -> Result<Arc<AtomicBool>, Message> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))
            .map_err(|error| failed("catching signals", &error))?;
    }
    Ok(stop)
}

/// Directories and daemon of one demo.
struct Stage {
    directory: PathBuf,
    pool: PathBuf,
    socket: PathBuf,
    mountpoint: PathBuf,
    daemon: Option<Child>,
}

impl Stage {
    fn set(demo: &Demo, out: &mut dyn Write) -> Result<Stage, Message> {
        let root = rustix::process::geteuid().is_root();
        let directory = tempfile::Builder::new()
            .prefix("speedloader-demo-")
            .tempdir_in("/var/tmp")
            .map_err(|error| failed("making a directory in /var/tmp", &error))?
            .keep();
        let pool = match root {
            true => directory.join("pool"),
            false => Path::new("/dev/shm").join(directory.file_name().unwrap_or_default()),
        };
        let mut stage = Stage {
            pool,
            socket: directory.join("control.sock"),
            mountpoint: directory.join("mount"),
            directory,
            daemon: None,
        };
        // From here on everything is taken away again, whatever happens.
        match stage.fill(demo, root, out) {
            Ok(()) => Ok(stage),
            Err(error) => {
                // The first error is the one that counts.
                let _ = stage.clear();
                Err(error)
            }
        }
    }

    fn fill(&mut self, demo: &Demo, root: bool, out: &mut dyn Write) -> Result<(), Message> {
        for name in ["models", "mount", "state", "cold"] {
            let path = self.directory.join(name);
            fs::create_dir(&path).map_err(|error| failed("making a directory", &error))?;
        }
        let made = fs::DirBuilder::new().mode(0o700).create(&self.pool);
        made.map_err(|error| failed("making the pool", &error))?;
        let cold = match &demo.models {
            Some(models) => fs::canonicalize(models).map_err(|error| failed("--models", &error))?,
            None => self.directory.join("cold"),
        };
        let bytes = match &demo.models {
            Some(_) => content_bytes(&cold).min(available_bytes() / 2),
            None => {
                say(
                    out,
                    demo,
                    &format!("writing two models of {} each", size(demo.size_bytes)),
                );
                check_room(&cold, demo.size_bytes)?;
                write_models(&cold, demo.size_bytes)?
            }
        };
        say(out, demo, if root { ROOT_NOTE } else { USER_NOTE });
        self.start_daemon(&cold, bytes + bytes / 16 + (64 << 20), root)
    }

    fn start_daemon(&mut self, cold: &Path, capacity: u64, root: bool) -> Result<(), Message> {
        let option = |key: &str, value: &Path| {
            let value = value
                .display()
                .to_string()
                .replace('\\', "\\\\")
                .replace(',', "\\,");
            format!("{key}={value}")
        };
        fs::write(self.directory.join("config.toml"), "")
            .map_err(|error| failed("writing a configuration", &error))?;
        let mut options = vec![
            option("state_dir", &self.directory.join("state")),
            option("models_dir", &self.directory.join("models")),
            // One directory, whatever its name: as an option a colon would begin another.
            option(
                "cold",
                Path::new(&cold.display().to_string().replace(':', "\\:")),
            ),
            format!("pool=demo:{capacity}B:{}", self.pool.display()),
            "policy.enabled=false".to_owned(),
            "policy.memory_reserve=0B".to_owned(),
            // Another daemon may have its port.
            "http.enabled=false".to_owned(),
        ];
        if !root {
            options.push("pool.demo.mount=false".to_owned());
        }
        keep_from_children();
        let child = Process::new("/proc/self/exe")
            .arg("serve")
            // It leaves our session and, once its mount answers, our standard error: it may outlive both.
            .arg(READY_FLAG)
            .arg("--quiet")
            .arg("--socket")
            .arg(&self.socket)
            .args(options.iter().flat_map(|option| ["-o", option]))
            .arg(&self.mountpoint)
            // A configuration of this machine has no part in the demo.
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("SPEEDLOADER_CONFIG", self.directory.join("config.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| failed("starting the daemon", &error))?;
        let daemon = self.daemon.insert(child);
        let until = Instant::now() + PATIENCE;
        loop {
            if let Ok(View::Status(status)) = ask(&self.socket, Command::Status {})
                && status.state == crate::view::DaemonState::Ready
            {
                return Ok(());
            }
            let ended = daemon
                .try_wait()
                .map_err(|error| failed("the daemon", &error))?;
            if ended.is_some() {
                return Err(why_it_ended(daemon));
            }
            if Instant::now() > until {
                return Err(Message::new(
                    Code::TimedOut,
                    "demo: the mount does not answer",
                ));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn measure(
        &self,
        demo: &Demo,
        out: &mut dyn Write,
        stop: &AtomicBool,
    ) -> Result<Vec<Measured>, Message> {
        let View::Models(models) = ask(&self.socket, Command::Models { filter: None })? else {
            return Err(Message::new(
                Code::Internal,
                "demo: the daemon lists no models",
            ));
        };
        let mut models = models.models;
        models.sort_by_key(|model| std::cmp::Reverse(model.size_bytes));
        models.truncate(MODELS_MAX);
        if models.is_empty() {
            let text = "demo: there is no model in that directory";
            return Err(Message::new(Code::NoMatch, text)
                .with_hint("name a directory with GGUF, safetensors or Ollama models"));
        }
        let mut measured = Vec::new();
        for model in &models {
            say(out, demo, &format!("measuring {}", model.name));
            match self.measure_model(&model.name, stop) {
                Ok(row) => measured.push(row),
                // A user's own model may be larger than this machine's memory.
                Err(error) if error.code == Code::TooLarge => {
                    say(out, demo, &format!("left out: {error}"));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(measured)
    }

    fn measure_model(&self, name: &str, stop: &AtomicBool) -> Result<Measured, Message> {
        let before = self.places(name)?;
        let homes: Vec<PathBuf> = before
            .iter()
            .map(|place| PathBuf::from(&place.home))
            .collect();
        let mounted = before.iter().map(|place| {
            let path = unescape(&place.file).unwrap_or_default();
            self.mountpoint.join(std::ffi::OsString::from_vec(path))
        });
        let mounted: Vec<PathBuf> = mounted.collect();
        let cold = |read: fn(&Path) -> io::Result<u64>| {
            median(stop, || {
                forget(&homes)?;
                speed(&mounted, read)
            })
        };
        let (cold_read, cold_mmap) = (cold(read_all)?, cold(map_all)?);
        let began = Instant::now();
        let names = vec![name.to_owned()];
        ask(
            &self.socket,
            Command::Promote {
                names,
                pool: None,
                wait: true,
            },
        )?;
        let took = began.elapsed();
        let places = self.places(name)?;
        let native: Vec<PathBuf> = places
            .iter()
            .map(|place| PathBuf::from(&place.serving))
            .collect();
        let size_bytes: u64 = places.iter().map(|place| place.size_bytes).sum();
        let hot = |read: fn(&Path) -> io::Result<u64>| -> Result<(f64, f64), Message> {
            let (mut through, mut beside) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                // Side by side, so that what disturbs the one disturbs the other.
                check(stop)?;
                through.push(speed(&mounted, read).map_err(|error| failed("reading", &error))?);
                beside.push(speed(&native, read).map_err(|error| failed("reading", &error))?);
            }
            Ok((middle(through), middle(beside)))
        };
        let ((hot_read, native_read), (hot_mmap, native_mmap)) = (hot(read_all)?, hot(map_all)?);
        Ok(Measured {
            model: name.to_owned(),
            size_bytes,
            cold_read,
            hot_read,
            native_read,
            cold_mmap,
            hot_mmap,
            native_mmap,
            promote: size_bytes as f64 / 1e9 / took.as_secs_f64(),
        })
    }

    /// The model's largest files, as far as they are measured.
    fn places(&self, name: &str) -> Result<Vec<PlaceView>, Message> {
        let which = Command::Which {
            name: name.to_owned(),
        };
        let View::Which(view) = ask(&self.socket, which)? else {
            return Err(Message::new(
                Code::Internal,
                "demo: the daemon knows no place",
            ));
        };
        let mut left = MEASURED_BYTES_MAX;
        let mut places = view.files;
        places.sort_by_key(|place| std::cmp::Reverse(place.size_bytes));
        places.retain(|place| {
            let fits = left > 0;
            left = left.saturating_sub(place.size_bytes);
            fits
        });
        Ok(places)
    }

    fn keep(mut self, out: &mut dyn Write) -> Result<(), Message> {
        // It lives on without us.
        self.daemon.take();
        let socket = self.socket.display();
        // Root's is below the directory.
        let pool = match self.pool.starts_with(&self.directory) {
            true => String::new(),
            false => format!(" {}", self.pool.display()),
        };
        let text = format!(
            "\nstill mounted on {}; look around with\n  speedloader --socket {socket} status\n\
             and end it with\n  speedloader --socket {socket} umount && rm -r {}{pool}\n",
            self.mountpoint.display(),
            self.directory.display()
        );
        out.write_all(text.as_bytes())
            .map_err(|error| failed("printing", &error))
    }

    /// Ends the daemon and takes everything away.
    fn clear(mut self) -> Result<(), Message> {
        if let Some(mut daemon) = self.daemon.take() {
            // It may have ended by itself, or never have listened.
            let asked = ask(&self.socket, Command::Shutdown {}).is_ok();
            let until = Instant::now() + PATIENCE;
            while asked && Instant::now() < until && matches!(daemon.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(20));
            }
            if matches!(daemon.try_wait(), Ok(None)) {
                let _ = daemon.kill();
            }
            let _ = daemon.wait();
        }
        for path in [&self.pool, &self.directory] {
            match fs::remove_dir_all(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    let what = format!("cleaning up {}", path.display());
                    return Err(failed(&what, &error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

const ROOT_NOTE: &str = "mounting; as root, with a tmpfs of huge pages as the pool";
const USER_NOTE: &str = "mounting as an ordinary user, with /dev/shm as the pool: root would add \
                         kernel passthrough and huge pages, which are most of the speed";

fn say(out: &mut dyn Write, demo: &Demo, text: &str) {
    if !demo.json {
        // Nobody may be reading.
        let _ = writeln!(out, "{text}");
    }
}

fn ask(socket: &Path, command: Command) -> Result<View, Message> {
    Client::connect(socket)?.call(command)
}

/// Two models are written, and a disk that is full is everybody's.
fn check_room(directory: &Path, bytes: u64) -> Result<(), Message> {
    let found = rustix::fs::statvfs(directory);
    let found = found.map_err(|error| failed("looking for room", &error.into()))?;
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let wanted = bytes.saturating_mul(2);
    if wanted <= free {
        return Ok(());
    }
    let text = format!(
        "demo: two models take {}, and {} has room for {}",
        size(wanted),
        directory.display(),
        size(free)
    );
    Err(Message::new(Code::NoSpace, text).with_hint("choose a smaller --size"))
}

fn write_models(directory: &Path, bytes: u64) -> Result<u64, Message> {
    let writing = |error| failed("writing the models", &error);
    let gguf = directory.join("demo-model.gguf");
    let one = synthetic::write_gguf(&gguf, bytes, 1, 1).map_err(writing)?;
    let sharded = directory.join("demo-safetensors");
    let two = synthetic::write_directory(&sharded, bytes, 3, 2).map_err(writing)?;
    for file in one.files.iter().chain(&two.files) {
        // What is still dirty could not be dropped from the page cache.
        File::open(file)
            .and_then(|file| file.sync_all())
            .map_err(writing)?;
    }
    Ok(one.size_bytes + two.size_bytes)
}

fn available_bytes() -> u64 {
    crate::machine::memory().available_bytes
}

/// Bytes of the files below a directory, symlinks not followed.
fn content_bytes(directory: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(directory) else {
        return 0;
    };
    let entry_bytes = |entry: fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => content_bytes(&entry.path()),
        Ok(found) if found.is_file() => found.len(),
        _ => 0,
    };
    entries.flatten().map(entry_bytes).sum()
}

/// Drops the files from the page cache, so that they are read from their device.
fn forget(files: &[PathBuf]) -> io::Result<()> {
    for path in files {
        rustix::fs::fadvise(File::open(path)?, 0, None, Advice::DontNeed)?;
    }
    Ok(())
}

/// Gigabytes a second over all files.
fn speed(files: &[PathBuf], read: fn(&Path) -> io::Result<u64>) -> io::Result<f64> {
    let began = Instant::now();
    let bytes = files
        .iter()
        .map(|path| read(path))
        .sum::<io::Result<u64>>()?;
    Ok(bytes as f64 / 1e9 / began.elapsed().as_secs_f64().max(1e-9))
}

fn read_all(path: &Path) -> io::Result<u64> {
    let (mut file, mut buffer, mut total) = (File::open(path)?, vec![0; READ_BYTES], 0);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(total),
            number => total += number as u64,
        }
    }
}

fn map_all(path: &Path) -> io::Result<u64> {
    speedloader_fs::sys::touch::every_line(&File::open(path)?)
}

fn check(stop: &AtomicBool) -> Result<(), Message> {
    match stop.load(Ordering::Relaxed) {
        true => Err(Message::new(Code::Cancelled, "demo: interrupted")),
        false => Ok(()),
    }
}

fn median(stop: &AtomicBool, measure: impl Fn() -> io::Result<f64>) -> Result<f64, Message> {
    let mut figures = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        check(stop)?;
        figures.push(measure().map_err(|error| failed("reading", &error))?);
    }
    Ok(middle(figures))
}

fn middle(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(0.0)
}

fn show(
    demo: &Demo,
    stage: &Stage,
    measured: &[Measured],
    out: &mut dyn Write,
) -> Result<(), Message> {
    let View::Status(status) = ask(&stage.socket, Command::Status {})? else {
        return Err(Message::new(
            Code::Internal,
            "demo: the daemon has no status",
        ));
    };
    let text = if demo.json {
        let document = serde_json::json!({
            "schema": crate::view::SCHEMA,
            "view": "demo",
            "units": {
                "size_bytes": "bytes",
                "cold_read": "GB/s",
                "hot_read": "GB/s",
                "native_read": "GB/s",
                "cold_mmap": "GB/s",
                "hot_mmap": "GB/s",
                "native_mmap": "GB/s",
                "promote": "GB/s",
            },
            "rounds": ROUNDS,
            "passthrough": status.passthrough,
            "models": measured,
        });
        format!("{document}\n")
    } else {
        let table = crate::view::table::render(measured, 0, Style::PLAIN);
        let served = match status.passthrough.active {
            true => "the kernel read the real files itself (FUSE passthrough)".to_owned(),
            false => format!("the daemon served the reads: {}", status.passthrough.why),
        };
        format!(
            "\n{table}\nmedians of {ROUNDS}; cold: from the disk, through the mount; hot: from RAM, \
             through the mount; native: the same RAM without the mount\n{served}\n\n\
             next: `speedloader mount --help`, README.md, or the same on your own models:\n  \
             speedloader demo --models DIR\n"
        )
    };
    out.write_all(text.as_bytes())
        .map_err(|error| failed("printing", &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_that_do_not_fit_are_not_begun() {
        let directory = tempfile::tempdir().unwrap();
        assert!(check_room(directory.path(), 0).is_ok());
        let refused = check_room(directory.path(), u64::MAX / 4).unwrap_err();
        assert_eq!(refused.code, Code::NoSpace);
    }
}
