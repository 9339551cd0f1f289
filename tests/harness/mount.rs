//! A running daemon and its mount, from the real program. Ends with the test: normally by asking it
//! to, checking that it leaves nothing behind and has not written to cold storage; by force when the
//! test has failed.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, ExitStatus, Output, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use speedloader::command::{Command, Message};
use speedloader::control::Client;
use speedloader::view::{DaemonState, EventView, PlaceView, StatusView, View};

use super::cold_guard::ColdGuard;
use super::mount_table;
use super::site::Site;
use super::watchdog::{self, Watch};

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_speedloader");
/// How often something is looked at that must come to be.
const PAUSE: Duration = Duration::from_millis(2);

/// A daemon that runs, or has run, and the tree that it mounts.
#[derive(Debug)]
pub struct Mount {
    site: Site,
    program: PathBuf,
    child: Option<Child>,
    guards: Mutex<Vec<ColdGuard>>,
    watch: Watch,
}

impl Mount {
    pub(super) fn start(site: Site) -> Self {
        let watch = watchdog::watch(site.root.clone(), site.limit);
        let mut mount = Mount {
            program: program_for(&site),
            child: None,
            guards: Mutex::default(),
            watch,
            site,
        };
        mount.guard();
        mount.spawn();
        mount.wait_ready();
        mount
    }

    fn guard(&mut self) {
        if self.site.guarded {
            // An ordinary user has no read-only mount of its own, and reading leaves its trace.
            let strict = self.site.user.is_none();
            let guards = self
                .site
                .colds
                .iter()
                .map(|cold| ColdGuard::new(cold, strict));
            self.guards = Mutex::new(guards.collect());
        }
    }

    fn process(&self) -> Process {
        let mut process = Process::new(&self.program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("SPEEDLOADER_") {
                process.env_remove(name);
            }
        }
        // Nobody's own configuration is looked at.
        process
            .env("HOME", self.site.root.join("state"))
            .env_remove("XDG_CONFIG_HOME");
        process.arg("--socket").arg(self.socket());
        process.stdin(Stdio::null()).current_dir("/");
        if let Some(uid) = self.site.user {
            process.uid(uid).gid(uid);
        }
        process
    }

    fn spawn(&mut self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .unwrap();
        let mut process = self.process();
        process
            .arg("serve")
            .arg(self.mounted(""))
            .arg("--models")
            .arg(self.models(""));
        for cold in &self.site.colds {
            process.arg("--cold").arg(cold);
        }
        for (name, size) in &self.site.pools {
            let path = self.site.pool_path(name);
            process
                .arg("--pool")
                .arg(format!("{name}:{size}:{}", path.display()));
        }
        process.arg("-o").arg(format!(
            "state_dir={}",
            self.site.root.join("state").display()
        ));
        for option in &self.site.options {
            process.arg("-o").arg(option);
        }
        process.envs(
            self.site
                .environment
                .iter()
                .map(|(name, value)| (name, value)),
        );
        process.stdout(log.try_clone().unwrap()).stderr(log);
        let child = process
            .spawn()
            .unwrap_or_else(|error| panic!("{PROGRAM}: {error}"));
        self.watch.add(child.id());
        self.child = Some(child);
    }

    fn wait_ready(&mut self) {
        loop {
            let ended = self
                .child
                .as_mut()
                .and_then(|child| child.try_wait().unwrap());
            if let Some(status) = ended {
                panic!(
                    "the daemon ended before its mount answered, {status}\n{}",
                    self.log()
                );
            }
            if let Ok(View::Status(status)) = self.try_call(Command::Status {})
                && status.state == DaemonState::Ready
            {
                return;
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// The temporary tree.
    pub fn root(&self) -> &Path {
        &self.site.root
    }

    /// A path in the mount.
    pub fn mounted(&self, path: impl AsRef<Path>) -> PathBuf {
        self.site.mounted(path)
    }

    /// A path in the models directory, behind the daemon's back.
    pub fn models(&self, path: impl AsRef<Path>) -> PathBuf {
        self.site.models(path)
    }

    /// A path in a cold directory, behind the daemon's back.
    pub fn cold(&self, index: usize, path: impl AsRef<Path>) -> PathBuf {
        self.site.cold(index, path)
    }

    /// Where a pool lies.
    pub fn pool(&self, name: &str) -> PathBuf {
        self.site.pool_path(name)
    }

    /// The control socket.
    pub fn socket(&self) -> PathBuf {
        self.site.root.join("control.sock")
    }

    /// The daemon's process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the daemon runs").id()
    }

    fn log_path(&self) -> PathBuf {
        self.site.root.join("log")
    }

    /// All that the daemon has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Changes cold storage behind the daemon's back, which the watch over it lets pass.
    pub fn change_cold<T>(&self, index: usize, change: impl FnOnce() -> T) -> T {
        match self.guards.lock().unwrap().get_mut(index) {
            Some(guard) => guard
                .change(change)
                .unwrap_or_else(|faults| panic!("{faults}")),
            None => change(),
        }
    }

    /// A connection to the daemon.
    pub fn client(&self) -> Client {
        Client::connect(&self.socket()).unwrap_or_else(|message| self.fail(&message))
    }

    /// Asks the daemon.
    ///
    /// # Errors
    /// Its refusal, or that it does not answer.
    pub fn try_call(&self, command: Command) -> Result<View, Message> {
        Client::connect(&self.socket())?.call(command)
    }

    /// Asks the daemon for what it must not refuse.
    pub fn call(&self, command: Command) -> View {
        self.try_call(command)
            .unwrap_or_else(|message| self.fail(&message))
    }

    fn fail(&self, message: &Message) -> ! {
        panic!("{message}\n{}", self.log())
    }

    /// How it is.
    pub fn status(&self) -> StatusView {
        match self.call(Command::Status {}) {
            View::Status(status) => *status,
            other => panic!("{other:?}"),
        }
    }

    /// Where a file is.
    pub fn which(&self, name: &str) -> PlaceView {
        match self.call(Command::Which {
            name: name.to_owned(),
        }) {
            View::Which(which) if which.files.len() == 1 => which.files[0].clone(),
            other => panic!("{name}: {other:?}"),
        }
    }

    /// All events so far.
    pub fn events(&self) -> Vec<EventView> {
        match self.call(Command::Events {
            since: 0,
            follow: false,
        }) {
            View::Events(events) => events.events,
            other => panic!("{other:?}"),
        }
    }

    /// Copies a model or file into a pool; returns when it is there.
    pub fn promote_wait(&self, name: &str) {
        let names = vec![name.to_owned()];
        self.call(Command::Promote {
            names,
            pool: None,
            wait: true,
        });
        assert!(
            self.which(name)
                .replicas
                .iter()
                .any(|replica| replica.state == speedloader::view::ReplicaState::Serving),
            "{name} is promoted, but {:?}\n{}",
            self.which(name),
            self.log()
        );
    }

    /// Drops the replicas of a model or file.
    pub fn demote(&self, name: &str) {
        let names = vec![name.to_owned()];
        self.call(Command::Demote { names });
    }

    /// Reads all homes through.
    pub fn rescan(&self) {
        self.call(Command::Rescan {});
    }

    /// Runs the program with these arguments against this daemon.
    pub fn cli<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Output {
        self.process().args(arguments).output().unwrap()
    }

    /// The same; returns what it prints, and fails with what it says if it fails.
    pub fn cli_ok<S: AsRef<OsStr> + std::fmt::Debug>(&self, arguments: &[S]) -> String {
        let output = self.cli(arguments);
        assert!(
            output.status.success(),
            "{arguments:?}: {}\n{}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr),
            self.log()
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Kills the daemon without a word. What it had mounted stays, dead.
    pub fn kill9(&mut self) {
        let mut child = self.child.take().expect("the daemon runs");
        child.kill().unwrap();
        child.wait().unwrap();
        self.watch.remove(child.id());
    }

    /// Sends the daemon a signal.
    pub fn signal(&self, signal: Signal) {
        mount_table::signal(self.pid(), signal).unwrap();
    }

    /// Ends the daemon as a person does (SIGINT), or a service manager (SIGTERM), or whatever else.
    pub fn end(&mut self, signal: Signal) -> ExitStatus {
        self.signal(signal);
        self.wait_ended()
    }

    /// Waits until the daemon has ended by itself.
    pub fn wait_ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the daemon runs");
        let status = child.wait().unwrap();
        self.watch.remove(child.id());
        status
    }

    /// Starts a daemon again where one was killed or has ended.
    pub fn restart(&mut self) {
        assert!(self.child.is_none(), "the daemon still runs");
        self.spawn();
        self.wait_ready();
    }

    /// The same with another environment.
    pub fn restart_with(&mut self, environment: &[(&str, &OsStr)]) {
        let owned = environment
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()));
        self.site.environment = owned.collect();
        self.restart();
    }

    /// Starts a daemon that is not expected to become ready.
    pub fn restart_unready(&mut self) {
        assert!(self.child.is_none(), "the daemon still runs");
        self.spawn();
    }

    /// Waits until it is ready after all.
    pub fn ready(&mut self) {
        self.wait_ready();
    }

    /// Waits until something is so; the watchdog ends what never comes.
    pub fn until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let start = Instant::now();
        let limit = self.site.limit / 2;
        while !is_so() {
            assert!(
                start.elapsed() < limit,
                "it never came to be that {what}\n{}",
                self.log()
            );
            std::thread::sleep(PAUSE);
        }
    }

    /// Whether cold storage is as it was. Complete only when the daemon has ended.
    pub fn check_cold(&self) {
        for guard in &*self.guards.lock().unwrap() {
            guard.verify().unwrap_or_else(|faults| panic!("{faults}"));
        }
    }

    /// Ends the daemon if it runs, and checks that nothing is left of it.
    pub fn finish(mut self) {
        self.finish_now();
    }

    fn finish_now(&mut self) {
        if self.child.is_some() {
            let status = self.end(Signal::INT);
            assert!(
                status.success(),
                "the daemon ended with {status}\n{}",
                self.log()
            );
            let left = mount_table::below(&self.site.root);
            let left: Vec<_> = left.iter().filter(|entry| is_its_own(entry)).collect();
            assert!(
                left.is_empty(),
                "the daemon has left {left:?}\n{}",
                self.log()
            );
            let log = self.log();
            assert!(!log.contains("panicked at"), "{log}");
        }
        self.check_cold();
    }
}

fn is_its_own(entry: &mount_table::Entry) -> bool {
    entry.source == "speedloader"
}

/// An ordinary user may not be able to reach the program where it was built.
fn program_for(site: &Site) -> PathBuf {
    match site.user {
        None => PathBuf::from(PROGRAM),
        Some(_) => {
            let path = site.root.join("speedloader");
            fs::copy(PROGRAM, &path).unwrap();
            path
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let finished =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.finish_now()));
            self.clear();
            if let Err(panic) = finished {
                std::panic::resume_unwind(panic);
            }
            return;
        }
        self.clear();
    }
}

impl Mount {
    fn clear(&mut self) {
        mount_table::clear(&self.site.root);
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
            self.watch.remove(child.id());
        }
        // Pools that it had mounted meanwhile.
        mount_table::clear(&self.site.root);
    }
}
