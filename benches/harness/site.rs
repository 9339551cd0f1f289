//! A daemon on temporary directories: the real program, started, asked and ended as a user does it.
//!
//! Whatever happens (an error, a panic, Ctrl-C, SIGTERM) nothing stays mounted, running or on disk.

use std::collections::HashMap;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::mount::UnmountFlags;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// How long a daemon may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(120);

/// What must be undone.
#[derive(Default)]
struct Leftovers {
    daemon: Option<Child>,
    mounts: Vec<PathBuf>,
    directories: Vec<TempDir>,
}

impl Leftovers {
    fn clear(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            end(&mut daemon);
        }
        for mount in self.mounts.drain(..).rev() {
            // Mostly gone with the daemon.
            while rustix::mount::unmount(&mount, UnmountFlags::DETACH).is_ok() {}
        }
        self.directories.clear();
    }
}

/// Ends a daemon by a person's signal, which makes it give its pools back.
fn end(daemon: &mut Child) {
    let pid = i32::try_from(daemon.id()).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // It may be gone already.
        let _ = kill_process(pid, Signal::INT);
    }
    let deadline = Instant::now() + PATIENCE;
    while matches!(daemon.try_wait(), Ok(None)) {
        if Instant::now() > deadline {
            // Nothing more can be done for it.
            let _ = daemon.kill();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Directories, and the daemon on them once it is started.
pub struct Site {
    leftovers: Arc<Mutex<Leftovers>>,
    disk: PathBuf,
    run: PathBuf,
    socket: PathBuf,
}

impl Site {
    /// Makes `models`, `cold` and `mnt` in a new directory below `parent`, on the disk that is
    /// measured.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn new(parent: &Path) -> Result<Site> {
        std::fs::create_dir_all(parent)?;
        let on_disk = tempfile::Builder::new()
            .prefix("speedloader-bench-")
            .tempdir_in(parent)
            .with_context(|| format!("cannot make a directory in {}", parent.display()))?;
        // A socket's path must be short.
        let beside = tempfile::Builder::new()
            .prefix("speedloader-bench-")
            .tempdir()?;
        let (disk, run) = (on_disk.path().to_owned(), beside.path().to_owned());
        let leftovers = Arc::new(Mutex::new(Leftovers {
            directories: vec![on_disk, beside],
            mounts: vec![disk.join("mnt"), disk.join("pool")],
            daemon: None,
        }));
        clear_at_signal(&leftovers)?;
        for name in ["models", "cold", "mnt", "pool", "state"] {
            std::fs::create_dir(disk.join(name))?;
        }
        Ok(Site {
            leftovers,
            socket: run.join("control.sock"),
            disk,
            run,
        })
    }

    fn leftovers(&self) -> MutexGuard<'_, Leftovers> {
        self.leftovers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The writable home.
    pub fn models(&self) -> PathBuf {
        self.disk.join("models")
    }

    /// Cold storage.
    pub fn cold(&self) -> PathBuf {
        self.disk.join("cold")
    }

    /// The mount.
    pub fn mount(&self) -> PathBuf {
        self.disk.join("mnt")
    }

    /// A new directory beside them, with a tmpfs as `/dev/shm` is one: pages of 4 KiB.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn plain_tmpfs(&self, bytes: u64) -> Result<PathBuf> {
        let path = self.disk.join("by-hand");
        std::fs::create_dir(&path)?;
        let options = std::ffi::CString::new(format!("size={bytes},huge=never"))?;
        let flags = rustix::mount::MountFlags::NODEV | rustix::mount::MountFlags::NOSUID;
        rustix::mount::mount(
            "speedloader-bench",
            &path,
            "tmpfs",
            flags,
            options.as_c_str(),
        )?;
        self.leftovers().mounts.push(path.clone());
        Ok(path)
    }

    /// A new directory in `parent` that goes with everything else.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn directory_in(&self, parent: &Path) -> Result<PathBuf> {
        let made = tempfile::Builder::new()
            .prefix("speedloader-bench-")
            .tempdir_in(parent)?;
        let path = made.path().to_owned();
        self.leftovers().directories.push(made);
        Ok(path)
    }

    /// Something is about to be mounted there, and is to be gone at the end.
    pub fn is_mounted(&self, path: &Path) {
        self.leftovers().mounts.push(path.to_owned());
    }

    /// Starts the daemon with a pool of so many bytes; gives the time until its mount answered.
    ///
    /// # Errors
    /// What the daemon said when it could not.
    pub fn start(&self, pool_bytes: u64, settings: &[&str]) -> Result<Duration> {
        let told = self.run.join("notify.sock");
        let notify = UnixDatagram::bind(&told)?;
        notify.set_read_timeout(Some(Duration::from_millis(100)))?;
        let state = format!("state_dir={}", self.disk.join("state").display());
        let pool = format!("bench:{pool_bytes}B:{}", self.disk.join("pool").display());
        let mut command = self.speedloader();
        command.arg("serve").arg(self.mount());
        command.arg("--models").arg(self.models());
        command.arg("--cold").arg(self.cold());
        command.args(["--pool", &pool, "-o", &state]);
        for setting in settings {
            command.args(["-o", setting]);
        }
        command
            .env("NOTIFY_SOCKET", &told)
            .env("SPEEDLOADER_LOG_LEVEL", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let began = Instant::now();
        self.leftovers().daemon = Some(command.spawn().context("cannot start the daemon")?);
        let mut message = [0; 256];
        loop {
            if let Ok(length) = notify.recv(&mut message) {
                let text = String::from_utf8_lossy(&message[..length]);
                if text.lines().any(|line| line == "READY=1") {
                    break;
                }
            }
            let ended = match &mut self.leftovers().daemon {
                Some(daemon) => daemon.try_wait()?,
                None => bail!("interrupted"),
            };
            ensure!(ended.is_none(), "the daemon ended at its start");
            ensure!(began.elapsed() < PATIENCE, "the daemon does not get ready");
        }
        let elapsed = began.elapsed();
        std::fs::remove_file(told)?;
        Ok(elapsed)
    }

    /// Ends the daemon, so that another can be started.
    pub fn stop(&self) {
        // Not under the lock: a signal must not wait for it.
        let daemon = self.leftovers().daemon.take();
        if let Some(mut daemon) = daemon {
            end(&mut daemon);
        }
    }

    /// The daemon's process.
    ///
    /// # Errors
    /// When none is running.
    pub fn pid(&self) -> Result<u32> {
        let leftovers = self.leftovers();
        let daemon = leftovers.daemon.as_ref().context("no daemon is running")?;
        Ok(daemon.id())
    }

    fn speedloader(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_speedloader"));
        // Nothing of the caller's settings shall change what is measured.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("SPEEDLOADER_") {
                command.env_remove(name);
            }
        }
        let no_config = self.run.join("config.toml");
        if !no_config.exists() {
            // An error shows when the daemon cannot read it.
            let _ = std::fs::write(&no_config, "");
        }
        command.arg("--config").arg(no_config);
        command.arg("--socket").arg(&self.socket);
        command
    }

    /// Runs one of the program's commands and gives what it printed.
    ///
    /// # Errors
    /// What it said when it failed.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        let output = self
            .speedloader()
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .context("cannot start the program")?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "speedloader {}: {}",
            arguments.join(" "),
            complaint.trim()
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The same, as JSON.
    ///
    /// # Errors
    /// What it said when it failed.
    pub fn ask(&self, arguments: &[&str]) -> Result<Value> {
        let mut all = vec!["--json"];
        all.extend(arguments);
        let text = self.run(&all)?;
        serde_json::from_str(&text).with_context(|| format!("no JSON: {text}"))
    }

    /// All replicas of the pool by their size: sizes of measured files differ.
    ///
    /// # Errors
    /// When the pool cannot be read.
    pub fn replicas_by_size(&self) -> Result<HashMap<u64, PathBuf>> {
        let mut found = HashMap::new();
        for entry in std::fs::read_dir(self.disk.join("pool/replicas"))? {
            let path = entry?.path();
            if path.extension().is_some_and(|ending| ending == "data") {
                found.insert(std::fs::metadata(&path)?.len(), path);
            }
        }
        Ok(found)
    }

    /// The replica of the file of this size.
    ///
    /// # Errors
    /// When there is none.
    pub fn replica_of_size(&self, bytes: u64) -> Result<PathBuf> {
        let found = self.replicas_by_size()?.remove(&bytes);
        found.with_context(|| format!("no replica has {bytes} bytes: it was not promoted"))
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.leftovers().clear();
    }
}

/// Ctrl-C and SIGTERM clear everything and end the benchmark.
fn clear_at_signal(leftovers: &Arc<Mutex<Leftovers>>) -> Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let leftovers = Arc::clone(leftovers);
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            leftovers
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clear();
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}
