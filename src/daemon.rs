//! The daemon: start order, signals, readiness, shutdown.
//!
//! Start: descriptor limit, homes, coordinator, mount, socket, pools, mover; ready when the mount
//! answers. End: the mount first (nothing new comes in), then copies, then pools. How it ends decides
//! what becomes of the pools: told by SIGTERM or SIGHUP's kin a successor is expected and takes the
//! replicas over; unmounted or interrupted by a person, their memory is given back.

mod web;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, select};
use rustix::process::{Resource, Rlimit};
use speedloader_config::{Checksum, Cold, ColdKind, Config, Passthrough};
use speedloader_fs::error::FsError;
use speedloader_fs::fuse::session::{MountSettings, Mounted, mount};
use speedloader_fs::home::{Watch, WatchChoice};
use speedloader_fs::mount_table;
use speedloader_fs::mover::{Mover, MoverSettings};
use speedloader_fs::read_ahead::ReadAhead;
use speedloader_fs::replica::{DigestKind, Drainer};
use speedloader_fs::seam::Seam;
use speedloader_fs::settings::{ColdSettings, FsSettings};
use speedloader_fs::tiered_fs::TieredFs;
use speedloader_fs::virtual_file::VirtualFiles;

use crate::command::{Code, Command, Message};
use crate::control::client::call_once;
use crate::control::control_files::FILES;
use crate::control::{ControlFiles, Door, HttpServer, Peer, SocketServer, SocketSettings, socket};
use crate::coordinator::{Coordinator, Host, Journal, Parts, chain};
use crate::engines::Engines;
use crate::machine;
use crate::pressure::MemoryWatch;
use crate::program::{Ready, SetUp, SetUpEnd, Start};
use crate::setup::{Desk, Surroundings};
use crate::view::human::{escape, size, unescape};
use crate::view::{Level, View};

use web::WebDoor;

/// Events of the file system that may wait for the coordinator.
const EVENTS_MAX: usize = 65_536;
/// How long a daemon that has lost its mount may take to end, before it counts as held by somebody.
const PARTING_PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked at meanwhile.
const PARTING_PAUSE: Duration = Duration::from_millis(50);
/// How long copies may take to end at shutdown.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(5);
/// How long a directory is asked where it leads, and a cold one what file system it is on.
const STATFS_PATIENCE: Duration = Duration::from_secs(3);

/// Why the daemon ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// Somebody unmounted it, asked for it, or pressed Ctrl-C.
    Person,
    /// A service manager: a successor may follow.
    Supervisor,
}

/// Mounts and serves until the end.
///
/// # Errors
/// Why it could not start.
pub fn serve(start: Start, ready: &mut Ready) -> Result<(), Message> {
    crate::logging::start(&start.config.log, start.verbosity);
    let seam: Arc<dyn Seam> = crate::crash::seam();
    serve_with(start, ready, &seam)
}

/// Serves the guide to a first configuration until one is written or it is told to end.
///
/// # Errors
/// Why the guide could not be served.
pub fn set_up(set_up: SetUp) -> Result<SetUpEnd, Message> {
    let SetUp {
        config,
        target,
        verbosity,
        interactive,
    } = set_up;
    crate::logging::start(&config.log, verbosity);
    let signals = signals()?;
    if !config.http.enabled {
        let text = format!("there is no configuration at {}", target.path.display());
        return Err(Message::new(Code::BadConfig, text).with_hint("`speedloader setup` makes one"));
    }
    // Whoever can reach it makes us read directories as root.
    if !config.http.listen.ip().is_loopback() {
        let text = "the set-up is served to this machine only, and http.listen is another address";
        return Err(Message::new(Code::Denied, text).with_hint("`speedloader setup` needs no page"));
    }
    std::fs::create_dir_all(&config.state_dir)
        .map_err(|error| io(&format!("use {}", config.state_dir.display()), &error))?;
    // The address first: where a daemon serves its page already its token must not be replaced.
    let listener = HttpServer::listen(config.http.listen)?;
    let settings = web::settings(&config)?;
    let token = settings.token.clone();
    let path = target.path.display().to_string();
    let around = Surroundings::new(
        target.sources.environment.clone(),
        target.sources.account.clone(),
    );
    let desk = Arc::new(Desk::new(around, target));
    let (written, heard) = bounded(1);
    let server = HttpServer::start_setup(listener, settings, desk, written)?;
    let address = server.address();
    // A log is read by more people than a terminal.
    let link = match interactive {
        true => format!("http://{address}/#token={}", token.reveal()),
        false => format!("http://{address}/ (`speedloader web-url` prints a link with the token)"),
    };
    tracing::info!("there is no configuration at {path} yet; set it up at {link}");
    let waiting = sd_notify::NotifyState::Status("not set up yet: the web page has a guide");
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready, waiting]);
    let end = loop {
        select! {
            recv(heard) -> _ => break SetUpEnd::Written,
            recv(signals) -> signal => match signal {
                // There is nothing to read again.
                Ok(signal_hook::consts::SIGHUP) => {}
                _ => break SetUpEnd::Ended,
            },
        }
    };
    // The answer that says so is on its way.
    server.stop();
    Ok(end)
}

fn serve_with(start: Start, ready: &mut Ready, seam: &Arc<dyn Seam>) -> Result<(), Message> {
    // Signals are caught before any thread is started, so that none is lost.
    let signals = signals()?;
    raise_descriptor_limit();
    speedloader_fs::sys::heap::map_large();
    let state_dir = start.config.state_dir.clone();
    let running = Running::start(start, seam)?;
    if ready.is_in_background()
        && let Err(error) = crate::logging::keep_in(&state_dir)
    {
        tracing::warn!(%error, "what is said from now on is kept nowhere");
    }
    ready.announce()?;
    // No service manager listens: nothing to tell.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    let end = running.wait(&signals);
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    running.end(end)
}

/// A daemon whose mount answers.
pub struct Running {
    fs: Arc<TieredFs>,
    coordinator: Arc<Coordinator>,
    mounted: Mounted,
    socket: Option<SocketServer>,
    http: WebDoor,
    thread: std::thread::JoinHandle<()>,
    memory: std::thread::JoinHandle<()>,
    remotes: std::thread::JoinHandle<()>,
    asked: Receiver<()>,
    // Put back at the end.
    _read_ahead: Vec<ReadAhead>,
}

impl Running {
    /// Starts everything.
    ///
    /// # Errors
    /// What is missing or in the way, and what to do about it.
    pub fn start(start: Start, seam: &Arc<dyn Seam>) -> Result<Running, Message> {
        let Start {
            config,
            sources,
            mountpoint,
            ..
        } = start;
        check_alone(&config)?;
        check_directories(&config, &mountpoint)?;
        let (events, fs_events) = bounded(EVENTS_MAX);
        let drainer = Drainer::start(|_| {}).map_err(|error| io("start the drainer", &error))?;
        let drainer = Arc::new(drainer);
        let files = Arc::new(Files {
            group_id: control_group(&config)?,
            ..Files::default()
        });
        let settings = fs_settings(&config);
        let virtual_files: Arc<dyn VirtualFiles> = files.clone();
        let (fs, notices) = TieredFs::new(settings, Arc::clone(&drainer), events, virtual_files)
            .map_err(|error| cannot_open(&config, &error))?;
        let journal = Journal::open(&config.state_dir)
            .map_err(|error| cannot_keep(&config.state_dir, &error))?;
        let (end, asked) = bounded(1);
        let (remote_wakeup, remote_wakeups) = bounded(1);
        let watch = MemoryWatch::new().map_err(|error| io("watch memory", &error))?;
        let watch = Arc::new(watch);
        let parts = Parts {
            watch: Arc::clone(&watch),
            sources,
            fs: Arc::clone(&fs),
            drainer,
            mountpoint: mountpoint.clone(),
            journal,
            engines: Engines::start(&config.engines.ask, config.engines.interval),
            config: config.clone(),
            remote_wakeup,
            end,
        };
        let (coordinator, wakeups) = Coordinator::new(parts);
        files.set(&coordinator);
        tell_missing(&fs, &coordinator);
        let socket = start_socket(&config, &coordinator)?;
        fs.first_loads()
            .set_host(Arc::new(Host(Arc::downgrade(&coordinator))));
        fs.start().map_err(|error| io("start a thread", &error))?;
        let mover = start_mover(&config, &coordinator)?;
        coordinator.set_mover(mover);
        coordinator.connect_pools(seam);
        let mounted =
            mount(&fs, notices, &mount_settings(&config, &mountpoint)).map_err(|error| {
                coordinator.release_empty_pools();
                cannot_mount(&mountpoint, &error)
            })?;
        let heard = Arc::clone(&coordinator);
        let thread = std::thread::Builder::new()
            .name("coordinator".to_owned())
            .spawn(move || heard.run(&fs_events, &wakeups))
            .map_err(|error| io("start a thread", &error))?;
        let minds = Arc::clone(&coordinator);
        let memory = std::thread::Builder::new()
            .name("memory".to_owned())
            .spawn(move || minds.mind_memory(&watch))
            .map_err(|error| io("start a thread", &error))?;
        let minds = Arc::clone(&coordinator);
        let remotes = std::thread::Builder::new()
            .name("remotes".to_owned())
            .spawn(move || minds.mind_remotes(&remote_wakeups))
            .map_err(|error| io("start a thread", &error))?;
        let read_ahead = raise_read_ahead(&config, &fs, &coordinator);
        coordinator.set_ready(mounted.passthrough());
        let http = WebDoor::open(&config, &mountpoint, &coordinator);
        Ok(Running {
            fs,
            coordinator,
            mounted,
            socket: Some(socket),
            http,
            thread,
            memory,
            remotes,
            asked,
            _read_ahead: read_ahead,
        })
    }

    /// The coordinator: whoever runs the daemon in its own process asks it directly.
    pub fn coordinator(&self) -> &Arc<Coordinator> {
        &self.coordinator
    }

    fn wait(&self, signals: &Receiver<i32>) -> End {
        loop {
            select! {
                recv(self.asked) -> _ => return End::Person,
                recv(self.mounted.ended()) -> _ => return End::Person,
                recv(signals) -> signal => match signal {
                    Ok(signal_hook::consts::SIGHUP) => self.reload(),
                    Ok(signal_hook::consts::SIGINT) => return End::Person,
                    _ => return End::Supervisor,
                },
            }
        }
    }

    fn reload(&self) {
        use crate::command::Answer;
        use crate::control::Executor;
        let peer = Peer::new(Door::Internal);
        match self
            .coordinator
            .execute(&peer, Command::Reload {}, &mut |_| ())
        {
            Answer::Ok(_) => tracing::info!("the configuration was read again"),
            Answer::Error(message) => tracing::error!(%message, "the configuration is not applied"),
        }
    }

    fn end(self, end: End) -> Result<(), Message> {
        self.shut_down(end == End::Supervisor)
    }

    /// Unmounts and ends everything; pools are kept for a successor, or their memory is given back.
    ///
    /// # Errors
    /// When the mount cannot be taken away.
    pub fn shut_down(mut self, keep_pools: bool) -> Result<(), Message> {
        if let Some(socket) = self.socket.take() {
            socket.stop();
        }
        self.http.close();
        let mountpoint = self.mounted.mountpoint().to_owned();
        let unmounted = self.mounted.unmount();
        // What is on its way now is brought back by the next run.
        self.coordinator.part();
        // It has just been woken to see that this is the end.
        let _ = self.memory.join();
        let _ = self.remotes.join();
        self.coordinator.end_mover(SHUTDOWN_PATIENCE);
        self.coordinator.release_remotes(keep_pools);
        self.coordinator.release_pools(keep_pools);
        self.coordinator.stop();
        self.fs.stop();
        // It only computes: it ends at once.
        let _ = self.thread.join();
        self.coordinator.save();
        unmounted.map_err(|error| io(&format!("unmount {}", mountpoint.display()), &error))
    }
}

fn io(what: &str, error: &std::io::Error) -> Message {
    Message::new(Code::Failed, format!("cannot {what}: {error}"))
}

fn signals() -> Result<Receiver<i32>, Message> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let mut caught = signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGTERM])
        .map_err(|error| io("catch signals", &error))?;
    let (sender, receiver): (Sender<i32>, _) = bounded(8);
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for signal in caught.forever() {
                if sender.send(signal).is_err() {
                    return;
                }
            }
        })
        .map_err(|error| io("start a thread", &error))?;
    Ok(receiver)
}

/// Every resident file and every file looked up holds a descriptor.
fn raise_descriptor_limit() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = rustix::process::setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files stays low");
    }
}

/// A daemon that answers on our socket is the one that would be in the way of everything else.
fn check_alone(config: &Config) -> Result<(), Message> {
    // Who has just been unmounted ends by itself, and answers until it has seen that.
    let until = Instant::now() + PARTING_PATIENCE;
    let (status, is_mounted) = loop {
        let answer = call_once(&config.control.socket, Command::Status {});
        let Ok(View::Status(status)) = answer else {
            return Ok(());
        };
        let is_mounted = is_mounted(&status.mountpoint);
        if is_mounted || Instant::now() >= until {
            break (status, is_mounted);
        }
        std::thread::sleep(PARTING_PAUSE);
    };
    let (pid, shown) = (status.pid, &status.mountpoint);
    let message = |text: String| Message::new(Code::AlreadyRunning, text);
    if is_mounted {
        let text = format!("already mounted on {shown} by process {pid}");
        return Err(message(text).with_hint(
            "`speedloader umount` ends it; another one beside it needs a `state_dir` and a `control.socket` of its own",
        ));
    }
    let readers = machine::readers_of_detached();
    let named = readers.iter().map(|reader| {
        let command = machine::command_of(*reader).unwrap_or_default();
        format!("{reader} ({})", escape(command.as_bytes()))
    });
    let named: Vec<String> = named.collect();
    let waits = match named.as_slice() {
        [] => "another mount namespace to let go of its mount".to_owned(),
        [one] => format!("process {one} to close what it has open there"),
        more => format!(
            "the processes {} to close what they have open there",
            more.join(", ")
        ),
    };
    let text = format!("process {pid} is detached from {shown}, and waits for {waits}");
    Err(message(text).with_hint("`speedloader umount` ends it at once"))
}

/// Whether a mount of ours is at a mountpoint as a daemon shows it.
fn is_mounted(shown: &str) -> bool {
    let table = mount_table::read().unwrap_or_default();
    unescape(shown).is_none_or(|path| {
        let path = Path::new(OsStr::from_bytes(&path));
        mount_table::topmost(&table, path)
            .is_some_and(|found| found.file_system == b"fuse.speedloader")
    })
}

fn check_directories(config: &Config, mountpoint: &Path) -> Result<(), Message> {
    let need = |what: &str, path: &Path| {
        // A mount of a dead daemon answers nothing, and is replaced later.
        let stale = std::fs::metadata(path)
            .is_err_and(|error| speedloader_fs::errno::is_stale_mount(&error));
        if stale || path.is_dir() {
            return Ok(());
        }
        let text = format!("{what}: {} is no directory", path.display());
        let hint = match path.exists() {
            true => "name a directory".to_owned(),
            false => format!("mkdir -p '{}'", path.display()),
        };
        Err(Message::new(Code::Failed, text).with_hint(hint))
    };
    need("models_dir", &config.models_dir)?;
    need("mountpoint", mountpoint)?;
    let config = Config {
        mountpoint: Some(mountpoint.to_owned()),
        ..config.clone()
    };
    let faults = crate::machine::misplaced(&config);
    if faults.is_empty() {
        return Ok(());
    }
    Err(Message::new(Code::BadConfig, faults.to_string()))
}

fn fs_settings(config: &Config) -> FsSettings {
    let cold = |cold: &Cold| ColdSettings {
        path: cold.path.clone(),
        watch: watch_of(cold),
        rescan_interval: cold.rescan_interval,
    };
    FsSettings {
        models_dir: config.models_dir.clone(),
        cold: config.cold.iter().map(cold).collect(),
        passthrough: config.cache.passthrough == Passthrough::Auto,
        max_wait: config.policy.max_wait,
        read_only: config.mount.read_only,
        entry_timeout: config.cache.entry_timeout,
        attr_timeout: config.cache.attr_timeout,
        scan_wait: config.union.scan_wait,
        stale_check_interval: config.union.stale_check_interval,
        ..FsSettings::default()
    }
}

/// A disk or network that is late is no reason to have nothing: the mount is there without what lies on it.
fn tell_missing(fs: &TieredFs, coordinator: &Coordinator) {
    for home in fs.homes().iter().filter(|home| home.is_missing()) {
        let path = home.path().display().to_string();
        let text = "nothing is there: what it holds is shown when it appears";
        let events = coordinator.events();
        events.add(Level::Warning, "home", &path, text.to_owned());
    }
}

/// Cold files that are not promoted are read by the kernel: from far away, with more under way at once.
fn raise_read_ahead(config: &Config, fs: &TieredFs, coordinator: &Coordinator) -> Vec<ReadAhead> {
    let bytes = config.cache.cold_read_ahead.0;
    let mut all_raised = Vec::new();
    for home in fs.homes().iter().filter(|home| !home.is_models()) {
        let path = home.path().display().to_string();
        let raised = home.device().map(|dev| ReadAhead::raise(dev, bytes));
        match raised {
            Ok(Ok(Some(raised))) => {
                let (before, now) = (size(raised.before_bytes()), size(bytes));
                let text =
                    format!("the kernel reads {now} ahead, not {before}, until speedloader ends");
                coordinator.events().add(Level::Info, "home", &path, text);
                all_raised.push(raised);
            }
            Ok(Ok(None)) => {}
            Ok(Err(error)) => tracing::debug!(%error, path, "the kernel reads ahead as it likes"),
            Err(error) => tracing::debug!(%error, path, "the kernel reads ahead as it likes"),
        }
    }
    all_raised
}

/// How changes in a cold directory become known.
fn watch_of(cold: &Cold) -> WatchChoice {
    match cold.kind {
        ColdKind::Local => WatchChoice::Fixed(Watch::Inotify),
        ColdKind::Auto => {
            let (sender, answer) = bounded(1);
            let path = cold.path.clone();
            // A file system that hangs is asked by a thread that nobody waits for.
            std::thread::spawn(move || {
                // Nobody waits for an answer that comes too late.
                let _ = sender.send(rustix::fs::statfs(&path));
            });
            WatchChoice::ByFileSystem(match answer.recv_timeout(STATFS_PATIENCE) {
                Ok(Ok(found)) => Watch::of(&found),
                _ => Watch::Rescan,
            })
        }
        ColdKind::Nfs | ColdKind::Beegfs | ColdKind::Other => WatchChoice::Fixed(Watch::Rescan),
    }
}

fn mount_settings(config: &Config, mountpoint: &Path) -> MountSettings {
    MountSettings {
        mountpoint: mountpoint.to_owned(),
        threads: usize::try_from(config.cache.fuse_threads).unwrap_or(1),
        read_ahead_bytes: config.cache.read_ahead.0,
        allow_other: config.mount.allow_other,
        allow_suid_dev: false,
        allow_exec: config.mount.exec,
    }
}

/// A home that cannot be opened, by the key that names it.
fn cannot_open(config: &Config, error: &FsError) -> Message {
    let is_it = |cold: &Cold| cold.path.display().to_string() == error.path;
    let text = chain(error);
    match config.cold.iter().position(is_it) {
        None => Message::new(Code::Failed, text),
        Some(index) => Message::new(Code::Failed, format!("cold[{index}].path: {text}"))
            .with_hint("correct the path, or take the directory out of the configuration"),
    }
}

fn cannot_keep(state_dir: &Path, error: &std::io::Error) -> Message {
    if error.kind() != std::io::ErrorKind::WouldBlock {
        return io(&format!("use {}", state_dir.display()), error);
    }
    let text = format!(
        "another speedloader keeps its state in {}",
        state_dir.display()
    );
    Message::new(Code::AlreadyRunning, text)
        .with_hint("to run another, give it a `state_dir` of its own")
}

fn cannot_mount(mountpoint: &Path, error: &std::io::Error) -> Message {
    if error.kind() == std::io::ErrorKind::AlreadyExists {
        let text = format!("cannot mount on {}: {error}", mountpoint.display());
        return Message::new(Code::AlreadyRunning, text)
            .with_hint("unmount that one first, or choose another mountpoint");
    }
    let message = io(&format!("mount on {}", mountpoint.display()), error);
    let root = rustix::process::geteuid().is_root();
    let access = rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK;
    if !root && rustix::fs::access("/dev/fuse", access).is_err() {
        return message.with_hint("/dev/fuse may not be used by you: as root, chmod 666 /dev/fuse");
    }
    match root {
        true => message.with_hint("is /dev/fuse there, and the fuse module loaded?"),
        false => message.with_hint(
            "an ordinary user needs fusermount3 (package fuse3), and `user_allow_other` in \
             /etc/fuse.conf for mount.allow_other",
        ),
    }
}

/// The group that may give commands beside the daemon's user, if one is configured.
fn control_group(config: &Config) -> Result<Option<u32>, Message> {
    let group = config.control.group.as_ref();
    group
        .map(|group| socket::group_id(group.as_str()))
        .transpose()
}

fn start_socket(config: &Config, coordinator: &Arc<Coordinator>) -> Result<SocketServer, Message> {
    let settings = SocketSettings {
        mode: config.control.mode.0,
        group_id: control_group(config)?,
        ..SocketSettings::new(&config.control.socket)
    };
    let executor: Arc<dyn crate::control::Executor> = coordinator.clone();
    SocketServer::start(settings, executor)
}

fn start_mover(config: &Config, coordinator: &Arc<Coordinator>) -> Result<Mover, Message> {
    let mut settings = MoverSettings::default();
    let number = |value: u32| std::num::NonZeroUsize::new(usize::try_from(value).unwrap_or(1));
    if let Some(workers) = number(config.mover.concurrent) {
        settings.workers = workers;
    }
    if let Some(threads) = number(config.mover.threads) {
        settings.copy.threads = threads;
    }
    settings.copy.record = match config.mover.checksum {
        Checksum::Crc64 => DigestKind::Crc64,
        Checksum::Blake3 => DigestKind::Blake3,
    };
    // The copy wants a power of two.
    settings.copy.chunk_bytes = (config.mover.chunk.0 / 2 + 1).next_power_of_two();
    let host = Arc::new(Host(Arc::downgrade(coordinator)));
    Mover::start(settings, host).map_err(|error| Message::new(Code::Failed, chain(&error)))
}

/// The virtual files, which exist before the coordinator that fills them.
#[derive(Default)]
struct Files {
    group_id: Option<u32>,
    coordinator: OnceLock<Weak<Coordinator>>,
    contents: OnceLock<ControlFiles>,
    names: OnceLock<Vec<&'static str>>,
}

impl Files {
    fn set(&self, coordinator: &Arc<Coordinator>) {
        let executor: Arc<dyn crate::control::Executor> = coordinator.clone();
        // Set once, by the daemon's start.
        let _ = self.coordinator.set(Arc::downgrade(coordinator));
        let _ = self.contents.set(ControlFiles::new(executor));
    }
}

impl VirtualFiles for Files {
    fn names(&self) -> &[&'static str] {
        self.names
            .get_or_init(|| FILES.iter().map(|file| file.name).collect())
    }

    fn permissions(&self, name: &str) -> u16 {
        let mode = FILES
            .iter()
            .find(|file| file.name == name)
            .map_or(0, |file| file.mode);
        u16::try_from(mode).unwrap_or(0)
    }

    fn owner(&self) -> (u32, u32) {
        let own = rustix::process::getegid().as_raw();
        let uid = rustix::process::geteuid().as_raw();
        (uid, self.group_id.unwrap_or(own))
    }

    fn size_bytes(&self, name: &str) -> u64 {
        let contents = self.contents.get();
        contents.map_or(0, |contents| contents.size_bytes(name) as u64)
    }

    fn read(&self, name: &str) -> Vec<u8> {
        self.contents
            .get()
            .and_then(|contents| contents.read(name))
            .unwrap_or_default()
    }

    fn write(&self, name: &str, bytes: &[u8], pid: u32) -> Result<(), String> {
        let Some(contents) = self.contents.get() else {
            return Err("not ready yet".to_owned());
        };
        let mut peer = Peer::new(Door::ControlFile);
        peer.pid = i32::try_from(pid).ok();
        // For the log only: the number may be another process's by now.
        let process = std::fs::metadata(format!("/proc/{pid}"));
        peer.uid = process.ok().map(|process| process.uid());
        contents
            .write(name, bytes, &peer)
            .map_err(|message| message.to_string())
    }
}
