//! The coordinator: the one owner of all that is learned, pinned and configured at run time.
//!
//! It hears what the file system tells, counts loads, asks the policy, has the plan checked, and
//! hands moves to the mover. Its thread reads /proc and the headers of models that have changed (of cold ones on
//! the threads of their homes, with a patience), and writes the journals and the log of loads; copies run in the
//! mover's threads. Commands of all doors come to `Coordinator::execute`, in the doors' own threads.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, select};
use speedloader_config::{Bytes, Config, Sources};
use speedloader_fs::event::{AtPath, FsEvent};
use speedloader_fs::file::HomeFile;
use speedloader_fs::fuse::Passthrough;
use speedloader_fs::ids::{FileId, PoolId, TransferId};
use speedloader_fs::mover::{Mover, Phase, TransferState};
use speedloader_fs::pool::Pool;
use speedloader_fs::replica::{Drainer, Replica};
use speedloader_fs::tiered_fs::TieredFs;
use speedloader_policy::{Learned, ModelId};

use crate::back_off::{BackOff, Origin};
use crate::engines::Engines;
use crate::load_log::LoadLog;
use crate::machine::{self, Memory};
use crate::pressure::MemoryWatch;
use crate::state_files::PINS;
pub use crate::view::human::chain;
use crate::view::{DaemonState, Level, NOT_SERVED};

mod events;
mod journal;
mod history;
mod world;
mod loads;
mod pause;
mod cause;
mod prefault;
mod moves;
mod rules;
mod pins;
mod parting;
mod pools;
mod remote_pages;
mod remotes;
mod warm_up;
mod memory;
mod explanation;
mod host;
mod first_load;
mod counts;
mod views;
mod settings;
mod forecast;
mod execute;

use cause::{Cause, Why};
pub use events::EventLog;
pub use host::Host;
pub use journal::{Journal, Resident, ResidentFile, parse_resident};
use loads::{Loads, Opener, Reader, Reading};
use memory::MemoryState;
use remotes::Remotes;
use warm_up::WarmUp;
use world::World;

/// How often handles that are still open are looked at.
const TICK: Duration = Duration::from_millis(500);
/// How often what was learned is written down, when it changed.
const SAVE_INTERVAL: Duration = Duration::from_secs(60);

/// Everything that the coordinator is made of.
pub struct Parts {
    /// The effective configuration.
    pub config: Config,
    /// What it was made of.
    pub sources: Sources,
    /// The file system.
    pub fs: Arc<TieredFs>,
    /// Where dropped replicas go.
    pub drainer: Arc<Drainer>,
    /// Where the file system is, or is about to be, mounted.
    pub mountpoint: PathBuf,
    /// What survives a restart.
    pub journal: Journal,
    /// Tells of memory that becomes short.
    pub watch: Arc<MemoryWatch>,
    /// What engines have loaded.
    pub engines: Engines,
    /// Wakes the thread that minds remote pools.
    pub remote_wakeup: Sender<()>,
    /// Told when somebody asks for the end.
    pub end: Sender<()>,
}

/// What is counted since the start.
#[derive(Default)]
struct Totals {
    loads: AtomicU64,
    loads_resident: AtomicU64,
    promoted_bytes: AtomicU64,
    promotions: AtomicU64,
    promotions_failed: AtomicU64,
    demotions: AtomicU64,
    given_back_bytes: AtomicU64,
}

/// What a file's spare is dropped with when somebody needs its room.
const SPARE: &str = "its room is needed";

/// What is known of one transfer beside the mover's own state.
#[derive(Clone)]
struct Errand {
    why: Why,
    file: Arc<HomeFile>,
    /// The file's count of writes when it was asked for.
    writes: u32,
    /// The pool whose copy of the file goes when it is done; none: what is slower stays as a spare.
    leaves: Option<PoolId>,
    /// Where its bytes come from, and so what holds it back.
    origin: Arc<Origin>,
}

/// What is told of a copy.
#[derive(Clone, Default)]
struct Told {
    model: String,
    from: String,
    why: String,
}

/// Loads of one model.
#[derive(Clone, Copy, Default)]
struct LoadCount {
    loads: u64,
    last_ms: u64,
}

/// What changes from plan to plan; one plan at a time is made and carried out.
#[derive(Default)]
struct Moves {
    learned: Learned,
    learned_changed: bool,
    pins: BTreeMap<String, String>,
    written_pins: pins::Written,
    errands: HashMap<TransferId, Errand>,
    /// What is told of copies that have ended, as long as the mover knows them.
    ended: HashMap<TransferId, Told>,
    counts: HashMap<ModelId, LoadCount>,
    /// Why files move that have not arrived yet.
    told: HashMap<FileId, Why>,
    /// Loads of which a file was being copied for another model.
    put_off: Vec<(moves::Subject, Cause)>,
    warm_up: WarmUp,
}

/// The coordinator.
pub struct Coordinator {
    config: RwLock<Arc<Config>>,
    sources: Sources,
    /// Held by whoever changes the configuration's file.
    saving: Mutex<()>,
    fs: Arc<TieredFs>,
    drainer: Arc<Drainer>,
    mover: OnceLock<Mover>,
    pools: RwLock<Vec<Arc<Pool>>>,
    /// Of all pools since the start: events tell of some that are gone.
    pool_names: Mutex<HashMap<PoolId, String>>,
    next_pool: AtomicU64,
    /// Local pools that are being connected, by name.
    connecting: Mutex<HashSet<String>>,
    /// Pools that are about to be disconnected.
    leaving: Mutex<HashSet<PoolId>>,
    /// Replicas of an earlier run whose homes were not read yet.
    undecided: Mutex<Vec<Replica>>,
    /// Pools that were disconnected while somebody read from them.
    left: Mutex<Vec<Weak<Pool>>>,
    remotes: Remotes,
    /// Wakes the thread that minds remote pools.
    remote_wakeup: Sender<()>,
    world: World,
    /// What the status is made of.
    kept: counts::Kept,
    /// What the configuration says of models, as it was looked up last.
    rules: Mutex<Option<Arc<rules::Rules>>>,
    moves: Mutex<Moves>,
    loads: Mutex<Loads>,
    memory: Mutex<MemoryState>,
    /// Woken when the figures of memory are to be looked at.
    watch: Arc<MemoryWatch>,
    engines: Engines,
    events: EventLog,
    totals: Totals,
    history: history::History,
    /// Held by whoever makes a forecast.
    forecasting: Mutex<()>,
    journal: Journal,
    load_log: LoadLog,
    back_off: BackOff,
    mountpoint: PathBuf,
    passthrough: OnceLock<Passthrough>,
    /// Why the web page is not served, while it is not.
    web_fault: Mutex<Option<String>>,
    state: Mutex<DaemonState>,
    started: Instant,
    wakeup: Sender<Wakeup>,
    ending: AtomicBool,
    end: Sender<()>,
}

/// What the coordinator's thread is woken by, beside the file system.
pub enum Wakeup {
    /// A transfer ended.
    Ended(TransferState),
    /// A process loads a file that is not in a pool.
    FirstLoad(Arc<HomeFile>, u32),
    /// The catalog or a pool changed: think again.
    Think,
    /// End.
    Stop,
}

/// Makes the log of loads as small as it may be.
fn keep_log_within(log: &LoadLog, config: &Config) {
    if let Err(error) = log.keep_within(config.policy.load_log.0) {
        tracing::warn!(%error, "the log of loads is larger than it may be");
    }
}

impl Coordinator {
    /// A coordinator without pools and mover; the receiver is for [`Coordinator::run`].
    pub fn new(parts: Parts) -> (Arc<Coordinator>, Receiver<Wakeup>) {
        let Parts {
            config,
            sources,
            fs,
            drainer,
            mountpoint,
            journal,
            watch,
            engines,
            remote_wakeup,
            end,
        } = parts;
        let (wakeup, wakeups) = crossbeam_channel::unbounded();
        let mut pins: BTreeMap<String, String> = config
            .pins
            .iter()
            .map(|(model, pool)| (model.clone(), pool.to_string()))
            .collect();
        pins.extend(journal.pins());
        let learned = journal.learned();
        let history = history::History::new(events::now_ms());
        // What homes gave is learned with the loads; as long as it was assumed, it was this.
        let gave = learned.tiers().map(|tiers| tiers.cold_bytes_per_sec);
        if let Some(gave) = gave.filter(|gave| *gave != moves::COLD_BYTES_PER_SEC) {
            history.had_measured(gave);
        }
        let warm_up = WarmUp::new(journal.resident());
        let load_log = LoadLog::new(&config.state_dir);
        keep_log_within(&load_log, &config);
        let opens = Arc::clone(&fs);
        let is_open = move |handle| opens.has_handle(handle);
        let back_off = BackOff::new(config.mover.back_off, is_open);
        let coordinator = Arc::new(Coordinator {
            config: RwLock::new(Arc::new(config)),
            sources,
            saving: Mutex::default(),
            world: World::new(Arc::clone(&fs)),
            kept: counts::Kept::default(),
            fs,
            drainer,
            mover: OnceLock::new(),
            pools: RwLock::default(),
            pool_names: Mutex::default(),
            next_pool: AtomicU64::new(0),
            connecting: Mutex::default(),
            leaving: Mutex::default(),
            undecided: Mutex::default(),
            left: Mutex::default(),
            remotes: Remotes::default(),
            remote_wakeup,
            rules: Mutex::default(),
            moves: Mutex::new(Moves {
                learned,
                pins,
                warm_up,
                ..Moves::default()
            }),
            loads: Mutex::default(),
            memory: Mutex::default(),
            watch,
            engines,
            events: EventLog::default(),
            totals: Totals::default(),
            history,
            forecasting: Mutex::default(),
            journal,
            load_log,
            back_off,
            mountpoint,
            passthrough: OnceLock::new(),
            web_fault: Mutex::default(),
            state: Mutex::new(DaemonState::Starting),
            started: Instant::now(),
            wakeup,
            ending: AtomicBool::new(false),
            end,
        });
        for (name, why) in coordinator.journal.were_set_aside() {
            let lost = match name == PINS {
                true => "none of the pins made at run time holds until they are made again",
                false => "what was in it is forgotten",
            };
            let text = format!("cannot be read, and is {name}.bad now: {lost} ({why})");
            coordinator.events.add(Level::Error, "state", &name, text);
        }
        (coordinator, wakeups)
    }

    /// Gives it the mover, whose host it is.
    pub fn set_mover(&self, mover: Mover) {
        // The daemon makes one mover.
        let _ = self.mover.set(mover);
    }

    /// Ends all copies; one that hangs in a home is left behind.
    pub fn end_mover(&self, patience: Duration) {
        if let Some(mover) = self.mover.get()
            && !mover.shutdown(patience)
        {
            tracing::warn!("a copy hangs in a home; it is left behind");
        }
    }

    /// The mount answers.
    pub fn set_ready(&self, passthrough: Passthrough) {
        let text = match &passthrough {
            Passthrough::Active => "the kernel reads the real files itself".to_owned(),
            Passthrough::Off(why) => format!("the daemon serves reads: {why}"),
        };
        let _ = self.passthrough.set(passthrough);
        *self.lock_state() = DaemonState::Ready;
        let mountpoint = self.mountpoint.display().to_string();
        self.events.add(Level::Info, "ready", &mountpoint, text);
        self.think();
    }

    /// The web page is not served; the mount is. It is tried again: what is known already is told once.
    pub fn web_failed(&self, message: &crate::command::Message) {
        let text = format!("{NOT_SERVED}: {message}");
        let known = self.lock_web_fault().replace(text.clone());
        if known.as_ref() != Some(&text) {
            self.events.add(Level::Error, "web", "http", text);
        }
    }

    /// The web page is served, which it was not.
    pub fn web_works(&self, address: std::net::SocketAddr) {
        if self.lock_web_fault().take().is_some() {
            let text = format!("the web page is served on {address} now");
            self.events.add(Level::Info, "web", "http", text);
        }
    }

    fn lock_web_fault(&self) -> MutexGuard<'_, Option<String>> {
        self.web_fault
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The log of events.
    pub fn events(&self) -> &EventLog {
        &self.events
    }

    /// Somebody asks for the end.
    fn end(&self) {
        *self.lock_state() = DaemonState::Stopping;
        self.ending.store(true, Ordering::Relaxed);
        // Full: it has been asked for already.
        let _ = self.end.try_send(());
    }

    /// Whether somebody asked for the end.
    pub fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn lock_moves(&self) -> MutexGuard<'_, Moves> {
        self.moves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_loads(&self) -> MutexGuard<'_, Loads> {
        self.loads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_memory(&self) -> MutexGuard<'_, MemoryState> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_state(&self) -> MutexGuard<'_, DaemonState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_connecting(&self) -> MutexGuard<'_, HashSet<String>> {
        self.connecting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_leaving(&self) -> MutexGuard<'_, HashSet<PoolId>> {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_left(&self) -> MutexGuard<'_, Vec<Weak<Pool>>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pools(&self) -> Vec<Arc<Pool>> {
        self.pools
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn pool(&self, id: PoolId) -> Option<Arc<Pool>> {
        self.pools().into_iter().find(|pool| pool.id() == id)
    }

    /// The name of a pool, also of one that is gone already.
    fn pool_name(&self, id: PoolId) -> String {
        let names = self.lock_pool_names();
        names
            .get(&id)
            .cloned()
            .unwrap_or_else(|| format!("pool {id}"))
    }

    fn lock_pool_names(&self) -> MutexGuard<'_, HashMap<PoolId, String>> {
        self.pool_names
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the thread to think again.
    fn think(&self) {
        // The thread may have ended.
        let _ = self.wakeup.send(Wakeup::Think);
    }

    /// Tells the thread to end.
    pub fn stop(&self) {
        let _ = self.wakeup.send(Wakeup::Stop);
    }

    /// How much of this memory is left to others.
    fn reserve_of(&self, memory: &Memory) -> u64 {
        let all = Bytes(memory.total_bytes);
        self.config().policy.memory_reserve.resolve(all).0
    }

    /// The thread: until [`Coordinator::stop`].
    pub fn run(&self, fs_events: &Receiver<FsEvent>, wakeups: &Receiver<Wakeup>) {
        let never = crossbeam_channel::never();
        let mut last_save = Instant::now();
        loop {
            let waiting = self.lock_loads().is_waiting() || self.is_warm_up_waiting();
            let changed = self.lock_moves().learned_changed;
            let tick = match (waiting || self.is_residency_unsaved(), changed) {
                (true, _) => crossbeam_channel::after(TICK),
                (false, true) => crossbeam_channel::after(SAVE_INTERVAL),
                (false, false) => never.clone(),
            };
            select! {
                recv(fs_events) -> event => match event {
                    Ok(event) => self.hear(event),
                    Err(_) => return,
                },
                recv(wakeups) -> wakeup => match wakeup {
                    Ok(Wakeup::Ended(transfer)) => self.transfer_ended(&transfer),
                    Ok(Wakeup::FirstLoad(file, process)) => self.first_load(&file, process),
                    Ok(Wakeup::Think) => {
                        self.plan_freely();
                        self.warm_up();
                    }
                    Ok(Wakeup::Stop) | Err(_) => return,
                },
                recv(tick) -> _ => {
                    let is_mapped = |file: &HomeFile, process| self.is_mapped(file, process);
                    let held = self.lock_loads().held(Instant::now(), is_mapped);
                    for reading in held {
                        self.reading(&reading);
                    }
                    if self.is_warm_up_waiting() {
                        self.warm_up();
                    }
                }
            }
            self.save_residency_when_calm();
            if last_save.elapsed() >= SAVE_INTERVAL {
                self.save();
                last_save = Instant::now();
            }
        }
    }

    /// The end is near: writes down what is resident, for the next run, before anything is given back.
    pub fn part(&self) {
        self.save_residency();
        self.lock_moves().warm_up.part();
        self.watch.wake();
        // Full: it is awake.
        let _ = self.remote_wakeup.try_send(());
    }

    fn is_parted(&self) -> bool {
        self.lock_moves().warm_up.is_parted()
    }

    /// Writes down what was learned, if anything changed.
    pub fn save(&self) {
        let bytes = {
            let mut moves = self.lock_moves();
            if !std::mem::take(&mut moves.learned_changed) {
                return;
            }
            moves.learned.to_bytes()
        };
        if let Err(error) = self.journal.save_learned(&bytes) {
            tracing::warn!(
                error = format!("{error:#}"),
                "what was learned is not written down"
            );
        }
    }

    fn hear(&self, event: FsEvent) {
        match event {
            FsEvent::Opened {
                file,
                handle,
                pid,
                write,
                pool,
                looks,
            } => {
                if write {
                    if let Some(mover) = self.mover.get() {
                        mover.cancel_file(file.id);
                    }
                    return;
                }
                if pool.is_none() {
                    let identity = file.attr().identity;
                    self.back_off.opened(identity.dev, identity.size, handle);
                }
                let (who, now) = (|tid| self.opener(tid), Instant::now());
                if !self.may_be_loaded(&file) {
                    if self.is_of_a_model(&file) {
                        self.lock_loads().opened_beside(file.id, pid, who, now);
                    }
                } else if !looks {
                    self.lock_loads().opened(handle, file, pid, who, now);
                }
            }
            FsEvent::Closed { handle, .. } => {
                self.back_off.closed(handle);
                self.drainer.check_now();
                let is_mapped = |file: &HomeFile, process| self.is_mapped(file, process);
                let reading = self.lock_loads().closed(handle, Instant::now(), is_mapped);
                if let Some(reading) = reading {
                    self.reading(&reading);
                }
            }
            FsEvent::ColdWriteRefused {
                operation,
                path,
                pid,
            } => {
                let who = machine::command_of(pid).unwrap_or_else(|| "a process".to_owned());
                let text =
                    format!("{who} ({pid}): {operation} refused, cold storage is never written");
                let alike = format!("{operation} by {who}");
                self.events
                    .add_rarely(Level::Warning, "refused", &path, &text, &alike);
            }
            FsEvent::SameFileRefused {
                operation,
                path,
                pid,
            } => {
                let text = format!(
                    "process {pid}: {operation} refused, source and target are the same file"
                );
                self.events
                    .add_rarely(Level::Warning, "refused", &path, &text, operation);
            }
            FsEvent::Promoted { file, pool } => {
                let why = self.residency_changed(&file);
                self.watch.wake();
                let (path, pool) = (self.shown_path(&file), self.pool_name(pool));
                let text = format!("serves from {pool}");
                self.moved("promoted", &path, text, why.as_ref());
            }
            FsEvent::Dropped {
                file,
                pool,
                reason: SPARE,
            } => {
                let (path, pool) = (self.shown_path(&file), self.pool_name(pool));
                let text = format!("left {pool}, where it was spare: {SPARE}");
                self.moved("spare", &path, text, None);
            }
            FsEvent::Dropped { file, pool, reason } => {
                self.totals.demotions.fetch_add(1, Ordering::Relaxed);
                self.watch.wake();
                // Whatever else takes a replica away says why itself.
                let why = self
                    .residency_changed(&file)
                    .filter(|_| reason == moves::DEMOTED);
                let (path, pool) = (self.shown_path(&file), self.pool_name(pool));
                self.moved(
                    "demoted",
                    &path,
                    format!("left {pool}: {reason}"),
                    why.as_ref(),
                );
            }
            // Before anything is brought back that may be there already.
            FsEvent::TreeChanged | FsEvent::HomeScanned => self.decide(),
            FsEvent::HomePath { home, found } => {
                let path = self
                    .fs
                    .homes()
                    .get(usize::from(home.0))
                    .map(|home| home.path());
                let path = path
                    .map(|path| path.display().to_string())
                    .unwrap_or_default();
                let (level, text) = match found {
                    AtPath::Home => (Level::Info, "what is shown is at the path again"),
                    AtPath::Followed => (Level::Info, "goes over to what is at the path now"),
                    AtPath::Other => (
                        Level::Warning,
                        "something else, or nothing, is at the path; what was there before is still shown",
                    ),
                };
                self.events.add(level, "home", &path, text.to_owned());
            }
        }
    }

    fn moved(&self, kind: &str, path: &str, text: String, why: Option<&Why>) {
        let (text, fields) = match why {
            Some(why) => (format!("{text} ({why})"), why.fields()),
            None => (text, BTreeMap::new()),
        };
        self.events.add_with(Level::Info, kind, path, text, fields);
    }

    /// Whether opening the file may load a model: most small files are part of none, or not of its
    /// weights, and are not worth a look.
    fn may_be_loaded(&self, file: &HomeFile) -> bool {
        let known = self.world.known();
        !known.is_of(self.fs.generation()) || moves::is_weights(&known, file.id.0)
    }

    /// Whether the file is one of any model: such as lie beside the weights tell which of several models is loaded.
    fn is_of_a_model(&self, file: &HomeFile) -> bool {
        !self.world.known().catalog.models_of(file.id.0).is_empty()
    }

    /// Who reads where this process does.
    fn reader(process: u32) -> Reader {
        Reader {
            process,
            engine: machine::first_of_program(process),
        }
    }

    /// Whose thread this is.
    fn opener(&self, tid: u32) -> Opener {
        let process = machine::process_of(tid).unwrap_or(tid);
        let ignored = self.is_ignored(process);
        let reader = match ignored {
            true => Reader {
                process,
                engine: process,
            },
            false => Coordinator::reader(process),
        };
        Opener { reader, ignored }
    }

    /// Whether what the process runs is known to read without using.
    fn is_ignored(&self, process: u32) -> bool {
        let command = machine::command_of(process).unwrap_or_default();
        // The kernel keeps 15 bytes of a command's name.
        let is_it = |name: &String| name.chars().take(15).eq(command.chars());
        self.config().policy.ignore_commands.iter().any(is_it)
    }

    fn is_mapped(&self, file: &HomeFile, process: u32) -> bool {
        // In another namespace it may have another path, or none; never another number.
        let dev = self.fs.mount_dev();
        dev.is_some_and(|dev| loads::is_mapped_by(process, dev, file.ino))
    }

    fn shown_path(&self, file: &HomeFile) -> String {
        self.fs
            .union()
            .path_of(file)
            .map_or_else(|| format!("file {}", file.id), |p| p.to_string())
    }

    fn transfer_ended(&self, transfer: &TransferState) {
        let known = self.mover.get().map(Mover::transfers).unwrap_or_default();
        let errand = {
            let mut moves = self.lock_moves();
            let errand = moves.errands.remove(&transfer.id);
            moves
                .ended
                .retain(|id, _| known.iter().any(|one| one.id == *id));
            if let Some(errand) = &errand {
                moves.ended.insert(transfer.id, self.told(errand));
            }
            errand
        };
        let name = errand
            .as_ref()
            .map_or(&transfer.label, |errand| &errand.why.model)
            .clone();
        match &transfer.phase {
            Phase::Done => {
                let progress = &transfer.progress;
                // What came from a replica says nothing about homes, nor what had to wait for others.
                let is_home_alone = errand.is_some_and(|errand| errand.origin.is_home_alone());
                if is_home_alone && !progress.was_held_back {
                    self.history
                        .copied(progress.total_bytes, progress.rate_bytes_per_sec);
                }
            }
            Phase::Failed(error) => {
                self.lock_moves().told.remove(&transfer.file);
                self.totals
                    .promotions_failed
                    .fetch_add(1, Ordering::Relaxed);
                let text = format!("could not be copied: {}", chain(error.as_ref()));
                self.events.add(Level::Error, "failed", &name, text);
            }
            Phase::Cancelled => {
                self.lock_moves().told.remove(&transfer.file);
                self.events.add(
                    Level::Info,
                    "cancelled",
                    &name,
                    "the copy was ended".to_owned(),
                );
            }
            Phase::Queued | Phase::Running => {}
        }
        self.plan_put_off();
        self.warm_up();
    }

    /// A replica of so many bytes was published.
    fn count_promotion(&self, bytes: u64) {
        self.totals.promotions.fetch_add(1, Ordering::Relaxed);
        self.totals
            .promoted_bytes
            .fetch_add(bytes, Ordering::Relaxed);
    }

    /// A pool has given so much memory back.
    fn count_given_back(&self, bytes: u64) {
        self.totals
            .given_back_bytes
            .fetch_add(bytes, Ordering::Relaxed);
    }

    /// Drops the copies of a file beside the one in `serving`: all but one, which is in a slower pool
    /// and not in `leaves`. That is its spare.
    fn drop_others(&self, file: &Arc<HomeFile>, serving: PoolId, leaves: Option<PoolId>) {
        let copies: Vec<(PoolId, u64)> = file.with_live(|live| {
            let pools = live.replicas.iter().map(|replica| replica.pool());
            pools
                .map(|pool| (pool.id(), pool.speed_bytes_per_sec()))
                .collect()
        });
        let speed = copies.iter().find(|&&(pool, _)| pool == serving);
        let Some(&(_, speed)) = speed else { return };
        let is_spare = |&&(pool, slower): &&(PoolId, u64)| slower < speed && Some(pool) != leaves;
        let spare = copies.iter().find(is_spare).map(|&(pool, _)| pool);
        for &(pool, _) in &copies {
            if pool != serving && Some(pool) != spare {
                self.fs
                    .drop_replicas(file, Some(pool), "it moved to another pool");
            }
        }
    }
}
