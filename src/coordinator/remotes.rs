//! Remote pools: brought up and taken down on command, at start and after a loss; watched while they are there.
//!
//! Whoever brings one up or takes it down holds it alone (`is_busy`) and runs in a thread where waiting is
//! allowed. One thread looks once a second whether connected ones answer, and leaves waiting for ssh to others. One
//! that does not answer gets nothing new at once; one that is given up is forgotten with all its replicas, and tried
//! again ever more rarely.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use speedloader_config::{Bytes, Remote as RemoteConfig, Transport};
use speedloader_fs::copy::verify;
use speedloader_fs::error::FsError;
use speedloader_fs::pool::{Pool, PoolKind, PoolSettings, Reach};
use speedloader_fs::replica::Replica;
use speedloader_fs::seam::NoSeam;

use super::parting::Parting;
use super::pause::Pause;
use super::remote_pages::Pages;
use super::{Coordinator, pools};
use crate::command::{Code, Message};
use crate::control::Peer;
use crate::machine;
use crate::remote::connect::{HostIdentity, NvmeHost};
use crate::remote::ssh::Ssh;
use crate::remote::wire::Secret;
use crate::remote::{self, MOUNTS, Machine, Settings, Step, Stopped, Timing, Volume, nqn_of};
use crate::state_files::REMOTE;
use crate::view::human::rate;
use crate::view::{
    Level, Outcome, StepState, StepView, StepsView, TierKind, TierState, TierView, View,
};
use crate::whole_file;

/// How often it is looked whether connected pools answer.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// When a lost pool is tried again first, and at the longest.
const RETRY_FIRST: Duration = Duration::from_secs(5);
const RETRY_LAST: Duration = Duration::from_secs(60);
/// How long replicas that were just dropped may take to be let go.
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);
/// How long the other machine may take to answer when we are about to end.
const END_PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked whether one that is being taken down is gone.
const END_INTERVAL: Duration = Duration::from_millis(50);
/// What is said of one that is gone.
const GONE: &str = "disconnected, its memory is free";
/// What comes after the steps of the remote room.
const USE: &str = "use it as a pool";

/// What is known of one remote pool.
#[derive(Default)]
struct RemoteState {
    state: TierState,
    steps: Vec<StepView>,
    /// Somebody brings it up or takes it down.
    is_busy: bool,
    pool: Option<Arc<Pool>>,
    /// It goes when its last reader has let go.
    is_parting: bool,
    /// Since when it does not answer.
    silent_since: Option<Instant>,
    /// When it is tried again, and how long is waited after that.
    retry: Option<(Instant, Duration)>,
    /// Why it could not be connected, as was told last.
    told: String,
    pages: Pages,
}

/// All of them, by name.
#[derive(Default)]
pub(super) struct Remotes(Mutex<BTreeMap<String, RemoteState>>);

impl Remotes {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, RemoteState>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether one is being taken down.
    fn is_one_going(&self) -> bool {
        self.lock().values().any(|state| {
            state.is_busy && state.pool.is_none() && state.state == TierState::Disconnected
        })
    }

    /// Changes what is known of one, or looks at it; nothing that waits may be done by `deed`.
    fn change<T>(&self, name: &str, deed: impl FnOnce(&mut RemoteState) -> T) -> T {
        deed(self.lock().entry(name.to_owned()).or_default())
    }
}

/// Holds a remote pool alone.
struct Held<'a> {
    remotes: &'a Remotes,
    name: &'a str,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.remotes
            .change(self.name, |state| state.is_busy = false);
    }
}

/// That something did not come to its end, and what to do: the remedy, and what comes `then`.
fn stopped(name: &str, deed: &str, stopped: Stopped, then: Option<String>) -> Message {
    let Stopped { step, failure, .. } = stopped;
    let text = format!("{name}: cannot {deed}{}: {}", step.title(), failure.what);
    let message = Message::new(Code::Failed, text);
    let hints: Vec<String> = failure.remedy.into_iter().chain(then).collect();
    match hints.is_empty() {
        true => message,
        false => message.with_hint(hints.join("; ")),
    }
}

/// What a failed bring-up could not undo, and how to.
fn left_behind(name: &str, left: &[String]) -> Option<String> {
    let what = left.join("; ");
    let again = format!("`speedloader tiers disconnect {name}` tries it again");
    (!left.is_empty()).then(|| format!("not undone: {what}; {again}"))
}

fn timing(config: &RemoteConfig) -> Timing {
    Timing {
        connect: config.connect_timeout,
        keep_alive: config.keep_alive,
        reconnect_delay: config.reconnect_delay,
        fast_io_fail: config.fast_io_fail,
        ctrl_loss: config.ctrl_loss,
    }
}

impl Coordinator {
    /// The configuration of a remote pool, if the name is one's.
    pub(super) fn remote_config(&self, name: &str) -> Option<RemoteConfig> {
        let config = self.config();
        let mut remotes = config.remotes.iter();
        let found = remotes.find(|(known, _)| known.as_str() == name);
        found.map(|(_, remote)| remote.clone())
    }

    /// Whether a remote pool is up, or on its way up or down.
    pub(super) fn is_remote_in_use(&self, name: &str) -> bool {
        let states = self.remotes.lock();
        let state = states.get(name);
        state.is_some_and(|state| state.is_busy || state.pool.is_some() || state.is_parting)
    }

    fn generation_file(&self, name: &str) -> PathBuf {
        self.config().state_dir.join(format!("{REMOTE}{name}"))
    }

    fn generation(&self, name: &str) -> Option<u64> {
        let text = std::fs::read_to_string(self.generation_file(name)).ok()?;
        text.trim().parse().ok()
    }

    fn keep_generation(&self, name: &str, generation: u64) {
        let path = self.generation_file(name);
        let written = whole_file::replace(&path, generation.to_string().as_bytes());
        if let Err(error) = written {
            tracing::warn!(path = %path.display(), %error, "what is in the pool is not known next time");
        }
    }

    fn remote_settings(&self, name: &str, remote: &RemoteConfig) -> Result<Settings, Message> {
        let state_dir = self.config().state_dir.clone();
        let nqn = remote.allowed_host_nqn.as_ref().map(|nqn| nqn.as_str());
        let host = HostIdentity::of_machine(&state_dir, nqn)
            .map_err(|failure| Message::new(Code::Failed, format!("{name}: {failure}")))?;
        Ok(Settings {
            pool: name.to_owned(),
            nqn: nqn_of(name, remote),
            address: remote.address.to_string(),
            port: remote.port,
            // Nothing else is encrypted.
            transport: match remote.tls {
                true => Transport::Tcp,
                false => remote.transport,
            },
            capacity: remote.capacity.to_string(),
            secret: remote
                .dhchap_secret
                .as_ref()
                .map(|secret| Secret::new(secret.as_str())),
            tls: remote.tls,
            filesystem: remote.filesystem,
            mount_at: Path::new(MOUNTS).join(name),
            host,
            timing: timing(remote),
            generation: self.generation(name),
        })
    }

    fn need_root(name: &str) -> Result<(), Message> {
        if rustix::process::geteuid().is_root() {
            return Ok(());
        }
        let text = format!("{name}: a remote pool needs root on this machine");
        Err(Message::new(Code::Denied, text).with_hint("run the daemon as root"))
    }

    /// Takes hold of a remote pool.
    fn hold<'a>(&'a self, name: &'a str) -> Result<Held<'a>, Message> {
        let was_busy = self
            .remotes
            .change(name, |state| std::mem::replace(&mut state.is_busy, true));
        if was_busy {
            let text = format!("{name} is being connected or disconnected already");
            return Err(
                Message::new(Code::Busy, text).with_hint("`speedloader tiers` shows how far it is")
            );
        }
        Ok(Held {
            remotes: &self.remotes,
            name,
        })
    }

    /// What would be done, in words and commands.
    pub(super) fn tier_steps(&self, name: &str) -> Result<View, Message> {
        let step = |step: &str, text: String| StepView {
            step: step.to_owned(),
            text,
            ..StepView::default()
        };
        let steps = match self.remote_config(name) {
            Some(remote) => {
                let settings = self.remote_settings(name, &remote)?;
                let ssh = Ssh::new(remote.ssh.as_str(), remote.ssh_timeout);
                let plan = remote::plan(&settings, &ssh.command_line())
                    .map_err(|failure| Message::new(Code::Failed, format!("{name}: {failure}")))?;
                let mut steps: Vec<StepView> = plan
                    .into_iter()
                    .map(|(what, text)| step(what.title(), text))
                    .collect();
                steps.push(step(
                    USE,
                    "measure its speed, take over what is in it and whole".to_owned(),
                ));
                steps
            }
            None => {
                let pool = self.configured_pool(name)?;
                let path = pool.path.display();
                let text = match pool.mount {
                    true => {
                        let ram = Bytes(machine::memory().total_bytes);
                        let bytes = pool.capacity.resolve(ram).0;
                        format!("mount -t tmpfs -o size={bytes} '{path}'")
                    }
                    false => format!("the directory {path}, of it {}", pool.capacity),
                };
                vec![
                    step("take this machine's memory", text),
                    step(USE, String::new()),
                ]
            }
        };
        let pool = name.to_owned();
        Ok(View::Steps(StepsView { pool, steps }))
    }

    fn begin_steps(&self, name: &str, titles: impl Iterator<Item = &'static str>) {
        let steps = titles.map(|title| StepView {
            step: title.to_owned(),
            ..StepView::default()
        });
        self.remotes
            .change(name, |state| state.steps = steps.collect());
    }

    /// One step has come to something: whoever looks sees it.
    fn step(
        &self,
        name: &str,
        title: &str,
        state: StepState,
        text: &str,
        began: &mut Instant,
    ) -> View {
        if state == StepState::Running && text.is_empty() {
            *began = Instant::now();
        }
        let steps = self.remotes.change(name, |known| {
            if let Some(step) = known.steps.iter_mut().find(|step| step.step == title) {
                step.state = state;
                // What was done stays to be read where it is undone.
                if !text.is_empty() || state == StepState::Running {
                    step.text = text.to_owned();
                }
                step.elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            }
            known.steps.clone()
        });
        let level = match state {
            StepState::Failed => Some(Level::Error),
            StepState::Done | StepState::Undone => Some(Level::Info),
            StepState::Waiting | StepState::Running | StepState::Found => None,
        };
        if let Some(level) = level {
            let said = format!("{title}: {} {text}", state.word());
            self.events
                .add(level, "remote", name, said.trim_end().to_owned());
        }
        View::Steps(StepsView {
            pool: name.to_owned(),
            steps,
        })
    }

    /// Brings a remote pool up and uses it.
    pub(super) fn connect_remote(
        &self,
        name: &str,
        remote: &RemoteConfig,
        progress: &mut dyn FnMut(View),
    ) -> Result<View, Message> {
        Self::need_root(name)?;
        let held = self.hold(name)?;
        self.remotes.change(name, |state| {
            if state.pool.is_some() {
                let text = format!("{name} is connected already");
                return Err(Message::new(Code::AlreadyRunning, text));
            }
            state.state = TierState::Connecting;
            Ok(())
        })?;
        let connected = self.bring_up(name, remote, progress);
        self.remotes.change(name, |state| match connected {
            Ok(pool) => {
                state.state = TierState::Connected;
                state.pool = Some(pool);
                state.retry = None;
                state.silent_since = None;
                state.told.clear();
                Ok(())
            }
            Err(error) => {
                state.state = TierState::Disconnected;
                Err(error)
            }
        })?;
        drop(held);
        // Full: it is awake.
        let _ = self.remote_wakeup.try_send(());
        self.think();
        Ok(Coordinator::tier_moved(
            name,
            Outcome::Done,
            0,
            "connected".to_owned(),
        ))
    }

    fn bring_up(
        &self,
        name: &str,
        remote: &RemoteConfig,
        progress: &mut dyn FnMut(View),
    ) -> Result<Arc<Pool>, Message> {
        let settings = self.remote_settings(name, remote)?;
        self.begin_steps(name, Step::ALL.map(Step::title).into_iter().chain([USE]));
        let mut began = Instant::now();
        let mut ssh = Ssh::new(remote.ssh.as_str(), remote.ssh_timeout);
        let mut machine = Machine::default();
        let mut report = |step: Step, state: StepState, text: &str| {
            progress(self.step(name, step.title(), state, text, &mut began));
        };
        let volume =
            remote::connect(&settings, &mut ssh, &mut machine, &mut report).map_err(|failed| {
                let then = left_behind(name, &failed.left);
                stopped(name, "", failed, then)
            })?;
        progress(self.step(name, USE, StepState::Running, "", &mut began));
        match self.use_volume(name, remote, &settings, &volume) {
            Ok((pool, text)) => {
                progress(self.step(name, USE, StepState::Done, &text, &mut began));
                Ok(pool)
            }
            Err(error) => {
                progress(self.step(name, USE, StepState::Failed, &error.to_string(), &mut began));
                let mut report = |_: Step, _: StepState, _: &str| {};
                // What is there is found again by the next attempt.
                if let Err(left) = remote::leave(&settings, &mut machine, false, &mut report) {
                    tracing::warn!(pool = name, error = %left.failure, "the volume stays mounted");
                }
                Err(error)
            }
        }
    }

    /// Makes a pool of a mounted volume: replicas that are known, true and undamaged serve again.
    fn use_volume(
        &self,
        name: &str,
        remote: &RemoteConfig,
        settings: &Settings,
        volume: &Volume,
    ) -> Result<(Arc<Pool>, String), Message> {
        self.keep_generation(name, volume.generation);
        let failed = |error: FsError| pools::failed(name, &error);
        let pool = Pool::connect(PoolSettings {
            id: self.pool_id(name)?,
            name: name.to_owned(),
            path: settings.mount_at.clone(),
            kind: PoolKind::Directory {
                capacity_bytes: u64::MAX,
            },
            speed_bytes_per_sec: remote.speed.map(|speed| speed.0),
            seam: Arc::new(NoSeam),
        })
        .map_err(failed)?;
        self.rate_pool(&pool, remote.speed.is_some());
        // What cannot be read is as good as damaged.
        let is_whole = |replica: &Replica| verify(replica).unwrap_or(false);
        let adopted = self.adopt_into(&pool, volume.is_known, is_whole)?;
        self.add_pool(&pool);
        let speed = rate(pool.speed_bytes_per_sec());
        let by = remote::way(volume.fabric, settings.tls);
        let text = format!("{speed} by {by}; {}", adopted.text());
        Ok((pool, text))
    }

    /// Takes a remote pool down.
    pub(super) fn disconnect_remote(
        &self,
        peer: &Peer,
        name: &str,
        remote: &RemoteConfig,
        how: Parting,
        progress: &mut dyn FnMut(View),
    ) -> Result<View, Message> {
        Self::need_root(name)?;
        let connected = self.remotes.change(name, |state| state.pool.clone());
        // From one that does not answer nothing is moved, and nobody waits for its readers. Before it is held, it
        // is looked after.
        let (mut leaving, mut moved) = (None, Vec::new());
        if let Some(pool) = connected.filter(|pool| pool.reach() == Reach::Answers) {
            leaving = Some(self.begin_leaving(&pool)?);
            moved = self.empty(peer, &pool, how, progress)?;
        }
        let held = self.hold(name)?;
        let (pool, is_silent) = self.remotes.change(name, |state| {
            state.retry = None;
            (state.pool.clone(), state.silent_since.is_some())
        });
        // Our hold on the pool ends here: its descriptors would keep the mount busy.
        let is_read = match (pool, is_silent) {
            (Some(_), true) => {
                self.lose(name, remote);
                false
            }
            (Some(pool), false) => !self.drop_remote(&pool, how.force || how.wait)?,
            (None, _) => false,
        };
        drop(leaving);
        if is_read {
            self.remotes.change(name, |state| {
                state.state = TierState::Draining;
                state.is_parting = true;
            });
            drop(held);
            let _ = self.remote_wakeup.try_send(());
            if how.wait && !how.force {
                // Somebody came in the last moment.
                self.wait_parted(peer, name)?;
                return Ok(Coordinator::tier_gone(name, Outcome::Done, GONE, moved));
            }
            let text = "it goes when the last reader lets go";
            return Ok(Coordinator::tier_gone(name, Outcome::Draining, text, moved));
        }
        self.take_down(name, remote, progress)?;
        drop(held);
        Ok(Coordinator::tier_gone(name, Outcome::Done, GONE, moved))
    }

    /// Waits until a remote pool that goes with its last reader has gone.
    fn wait_parted(&self, peer: &Peer, name: &str) -> Result<(), Message> {
        let mut pause = Pause::new(self, peer, None);
        // Without a pool it is on its way down, which can fail.
        let is_going = |state: &mut RemoteState| state.pool.is_some() || state.is_busy;
        while self.remotes.change(name, is_going) {
            pause.next("")?;
        }
        let is_failed = |step: &&StepView| step.state == StepState::Failed;
        let failed = self.remotes.change(name, |state| {
            let failed = state.steps.iter().find(is_failed);
            failed.map(|step| format!("{name}: cannot undo: {}: {}", step.step, step.text))
        });
        failed.map_or(Ok(()), |text| Err(Message::new(Code::Failed, text)))
    }

    /// Takes everything out of the pool; whether nothing of it is in use any more.
    fn drop_remote(&self, pool: &Arc<Pool>, force: bool) -> Result<bool, Message> {
        let refusal = self.refuse_if_read(pool, true);
        let is_read = refusal.is_err();
        if !force {
            refusal?;
        }
        self.remove_pool(pool, "its pool is disconnected");
        if !is_read {
            self.wait_while_draining(pool, Instant::now() + DRAIN_PATIENCE, || true);
        }
        Ok(!pool.is_held())
    }

    fn take_down(
        &self,
        name: &str,
        remote: &RemoteConfig,
        progress: &mut dyn FnMut(View),
    ) -> Result<(), Message> {
        let settings = self.remote_settings(name, remote)?;
        let titles = [Step::Mount, Step::Connect, Step::Export, Step::MakeRam];
        self.begin_steps(name, titles.map(Step::title).into_iter());
        self.remotes.change(name, |state| {
            // Its descriptors keep the mount busy: nobody else may have it either.
            state.pool = None;
            state.is_parting = false;
            state.silent_since = None;
            state.state = TierState::Disconnected;
        });
        let mut ssh = Ssh::new(remote.ssh.as_str(), remote.ssh_timeout);
        let mut machine = Machine::default();
        let mut began = Instant::now();
        let mut report = |step: Step, state: StepState, text: &str| {
            progress(self.step(name, step.title(), state, text, &mut began));
        };
        let done = remote::disconnect(&settings, &mut ssh, &mut machine, &mut report);
        done.map_err(|failed| {
            progress(self.step(
                name,
                failed.step.title(),
                StepState::Failed,
                &failed.failure.to_string(),
                &mut began,
            ));
            let again = format!("`speedloader tiers disconnect {name}` goes on from here");
            stopped(name, "undo: ", failed, Some(again))
        })
    }

    /// Gives a pool up that does not answer: it is forgotten with all its replicas, and nothing waits for it
    /// any more.
    fn lose(&self, name: &str, remote: &RemoteConfig) {
        let pool = self.remotes.change(name, |state| {
            state.state = TierState::Lost;
            state.silent_since = None;
            state.is_parting = false;
            state.pool.take()
        });
        let Ok(settings) = self.remote_settings(name, remote) else {
            return;
        };
        let mut machine = Machine::default();
        // First of all: what waits for the device gets its error now.
        if let Err(failure) = remote::Here::disconnect(&mut machine, &settings.nqn) {
            tracing::warn!(pool = name, %failure, "the connection stays");
        }
        if let Some(pool) = pool {
            self.fs.set_reach(&pool, Reach::Lost);
            self.remove_pool(&pool, "its pool was lost");
            // Nothing is unmounted by it: it lies in a directory.
            let _ = pool.abandon();
        }
        let mut report = |_: Step, _: StepState, _: &str| {};
        if let Err(left) = remote::leave(&settings, &mut machine, true, &mut report) {
            tracing::warn!(pool = name, error = %left.failure, "the mount stays");
        }
        let text = "lost with what was in it; reads go to the next tier or home".to_owned();
        self.events.add(Level::Error, "remote", name, text);
        self.think();
    }

    /// The thread that minds remote pools: until the end.
    pub fn mind_remotes(self: &Arc<Self>, wakeups: &crossbeam_channel::Receiver<()>) {
        {
            let config = self.config();
            let mut states = self.remotes.lock();
            for (name, remote) in &config.remotes {
                let state = states.entry(name.to_string()).or_default();
                state.retry = remote.connect.then(|| (Instant::now(), RETRY_FIRST));
            }
        }
        loop {
            if self.is_parted() {
                return;
            }
            let is_idle = self.look_at_remotes();
            // Whoever connects one wakes us.
            let woken = match is_idle {
                true => wakeups.recv().map_err(|_| ()),
                false => match wakeups.recv_timeout(LOOK_INTERVAL) {
                    Err(crossbeam_channel::RecvTimeoutError::Disconnected) => Err(()),
                    _ => Ok(()),
                },
            };
            if woken.is_err() {
                return;
            }
        }
    }

    /// Looks at each; whether there is nothing to look at before somebody connects one.
    fn look_at_remotes(self: &Arc<Self>) -> bool {
        let config = self.config();
        let mut is_idle = true;
        for (name, remote) in &config.remotes {
            let name = name.as_str();
            let (is_busy, pool, retry, is_parting, silent_since) = {
                let states = self.remotes.lock();
                let Some(state) = states.get(name) else {
                    continue;
                };
                let retry = state.retry.map(|(at, _)| at);
                (
                    state.is_busy,
                    state.pool.clone(),
                    retry,
                    state.is_parting,
                    state.silent_since,
                )
            };
            is_idle &= pool.is_none() && retry.is_none() && !is_busy;
            if is_busy {
                continue;
            }
            match pool {
                Some(pool) => {
                    self.look_whether_it_answers(name, remote, &pool, silent_since);
                    if is_parting {
                        self.part_when_free(name, remote, pool);
                    }
                }
                None if retry.is_some_and(|at| at <= Instant::now()) => {
                    self.try_again(name, remote)
                }
                None => {}
            }
        }
        is_idle
    }

    fn look_whether_it_answers(
        &self,
        name: &str,
        remote: &RemoteConfig,
        pool: &Arc<Pool>,
        silent_since: Option<Instant>,
    ) {
        let connection = NvmeHost::default().find(&nqn_of(name, remote));
        let is_live = connection
            .as_ref()
            .is_some_and(|found| found.is_live && found.namespace.is_some());
        match (is_live, silent_since) {
            (true, None) if remote.page_cache => {}
            (true, None) => {
                let taken = |state: &mut RemoteState| std::mem::take(&mut state.pages);
                let mut pages = self.remotes.change(name, taken);
                self.drop_pages(pool, &mut pages);
                self.remotes.change(name, |state| state.pages = pages);
            }
            (false, None) => {
                self.fs.set_reach(pool, Reach::Silent);
                self.remotes.change(name, |state| {
                    state.silent_since = Some(Instant::now());
                    state.state = TierState::Lost;
                });
                let text = "does not answer; new opens go to the next tier or home".to_owned();
                self.events.add(Level::Warning, "remote", name, text);
            }
            // The kernel has given it up, or has waited longer than it was told to.
            (false, Some(since)) => {
                if connection.is_none() || since.elapsed() > remote.ctrl_loss + LOOK_INTERVAL {
                    self.give_up(name, remote);
                }
            }
            // The connection is there again; whether the file system is too is asked of it.
            (true, Some(_)) => match rustix::fs::fsync(pool.replicas_directory()) {
                Ok(()) => {
                    self.fs.set_reach(pool, Reach::Answers);
                    self.remotes.change(name, |state| {
                        state.silent_since = None;
                        state.state = match state.is_parting {
                            true => TierState::Draining,
                            false => TierState::Connected,
                        };
                    });
                    let text = "answers again".to_owned();
                    self.events.add(Level::Info, "remote", name, text);
                    self.drainer.check_now();
                    self.think();
                }
                Err(_) => self.give_up(name, remote),
            },
        }
    }

    fn give_up(&self, name: &str, remote: &RemoteConfig) {
        let Ok(_held) = self.hold(name) else { return };
        self.lose(name, remote);
        let retry = (Instant::now() + RETRY_FIRST, RETRY_FIRST);
        self.remotes
            .change(name, |state| state.retry = remote.connect.then_some(retry));
    }

    /// In a thread of its own: its machine may not answer, and the others are looked at meanwhile.
    fn part_when_free(self: &Arc<Self>, name: &str, remote: &RemoteConfig, pool: Arc<Pool>) {
        self.drainer.check_now();
        let is_held = pool.is_held();
        // Its descriptors keep the mount busy.
        drop(pool);
        if is_held {
            return;
        }
        let (coordinator, owned, remote) = (Arc::clone(self), name.to_owned(), remote.clone());
        let started = std::thread::Builder::new()
            .name("remote-part".to_owned())
            .spawn(move || coordinator.part_now(&owned, &remote));
        if let Err(error) = started {
            tracing::warn!(pool = name, %error, "it is not taken down yet");
        }
    }

    fn part_now(&self, name: &str, remote: &RemoteConfig) {
        let Ok(_held) = self.hold(name) else { return };
        // Until now somebody else may have held it, and have done this.
        let is_parting = |state: &mut RemoteState| state.pool.is_some() && state.is_parting;
        if !self.remotes.change(name, is_parting) {
            return;
        }
        if let Err(error) = self.take_down(name, remote, &mut |_| ()) {
            self.events
                .add(Level::Error, "remote", name, error.to_string());
        }
    }

    /// In a thread of its own: the others are looked at meanwhile.
    fn try_again(self: &Arc<Self>, name: &str, remote: &RemoteConfig) {
        self.remotes.change(name, |state| {
            let delay = state.retry.map_or(RETRY_FIRST, |(_, delay)| delay);
            state.retry = Some((Instant::now() + delay, (delay * 2).min(RETRY_LAST)));
        });
        let (coordinator, owned, remote) = (Arc::clone(self), name.to_owned(), remote.clone());
        let started = std::thread::Builder::new()
            .name("remote-connect".to_owned())
            .spawn(move || {
                if let Err(error) = coordinator.connect_remote(&owned, &remote, &mut |_| ()) {
                    coordinator.tell_once(&owned, &error);
                }
            });
        if let Err(error) = started {
            tracing::warn!(pool = name, %error, "it is not tried again yet");
        }
    }

    /// The same failure again and again is told once.
    fn tell_once(&self, name: &str, error: &Message) {
        let text = error.to_string();
        let told = self.remotes.change(name, |state| {
            std::mem::replace(&mut state.told, text.clone())
        });
        if told != text {
            let text = format!("{text}; it is tried again");
            self.events.add(Level::Error, "remote", name, text);
        }
    }

    /// At the end: what is here is taken down. The other machine keeps memory and replicas for a successor, or
    /// its memory is given back.
    pub fn release_remotes(&self, keep: bool) {
        let config = self.config();
        // What is on its way down is given the time that a machine has to answer now.
        let until = Instant::now() + END_PATIENCE;
        while self.remotes.is_one_going() && Instant::now() < until {
            std::thread::sleep(END_INTERVAL);
        }
        for (name, remote) in &config.remotes {
            let name = name.as_str();
            let Some(pool) = self.remotes.change(name, |state| state.pool.take()) else {
                continue;
            };
            self.write_pools(|pools| pools.retain(|known| known.id() != pool.id()));
            self.cancel_into(pool.id());
            for file in self.files_in(pool.id()) {
                match keep {
                    true => self.fs.forget_replicas(&file, pool.id()),
                    false => {
                        self.fs
                            .drop_replicas(&file, Some(pool.id()), "speedloader ends");
                    }
                }
            }
            self.drainer.check_now();
            drop(pool);
            let Ok(settings) = self.remote_settings(name, remote) else {
                continue;
            };
            let mut machine = Machine::default();
            let mut report = |_: Step, _: StepState, _: &str| {};
            let done = match keep {
                true => remote::leave(&settings, &mut machine, false, &mut report),
                false => {
                    let patience = remote.ssh_timeout.min(END_PATIENCE);
                    let mut ssh = Ssh::new(remote.ssh.as_str(), patience);
                    remote::disconnect(&settings, &mut ssh, &mut machine, &mut report)
                }
            };
            if let Err(left) = done {
                tracing::warn!(pool = name, step = left.step.title(), error = %left.failure, "it stays; the next start finds it");
            }
        }
    }

    /// What is shown of remote pools: connected ones are among `views` already.
    pub(super) fn add_remotes(&self, views: &mut Vec<TierView>) {
        let config = self.config();
        let states = self.remotes.lock();
        for name in config.remotes.keys() {
            let name = name.as_str();
            let state = states.get(name);
            let steps = state.map(|state| state.steps.clone()).unwrap_or_default();
            let shown = state.map_or(TierState::Disconnected, |state| state.state);
            let known = views.iter().position(|view| view.name == name);
            let at = known.unwrap_or_else(|| {
                views.push(TierView {
                    name: name.to_owned(),
                    path: Path::new(MOUNTS).join(name).display().to_string(),
                    ..TierView::default()
                });
                views.len() - 1
            });
            let view = &mut views[at];
            view.kind = TierKind::Remote;
            view.state = shown;
            view.steps = steps;
        }
    }

    /// What people should know of remote pools.
    pub(super) fn remote_warnings(&self) -> Vec<String> {
        let states = self.remotes.lock();
        let warned = states.iter().filter_map(|(name, state)| {
            let text = match state.state {
                TierState::Lost => "does not answer; reads go to the next tier or home",
                TierState::Disconnected if state.retry.is_some() => {
                    "is not connected; it is tried again"
                }
                _ => return None,
            };
            Some(format!("remote pool {name} {text}"))
        });
        warned.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::process::Command;

    use crossbeam_channel::bounded;
    use speedloader_config::{File, Sources, load};
    use speedloader_fs::replica::Drainer;
    use speedloader_fs::settings::FsSettings;
    use speedloader_fs::tiered_fs::TieredFs;
    use speedloader_fs::virtual_file::NoVirtualFiles;

    use super::super::{Journal, Parts};
    use super::*;
    use crate::control::Door;
    use crate::engines::Engines;
    use crate::pressure::MemoryWatch;

    /// One that minds a pool on a machine.
    fn coordinator(root: &Path, machine: &str) -> Arc<Coordinator> {
        let [models, mountpoint, state] = ["models", "mnt", "state"].map(|name| {
            let path = root.join(name);
            std::fs::create_dir(&path).unwrap();
            path
        });
        let text = format!(
            "models_dir = {models:?}\nmountpoint = {mountpoint:?}\nstate_dir = {state:?}\n[remote.far]\n\
             ssh = \"root@{machine}\"\naddress = \"{machine}\"\ncapacity = \"64MiB\"\nssh_timeout = \"3s\"\n"
        );
        let sources = Sources {
            file: Some(File {
                path: root.join("config.toml"),
                contents: text.into_bytes(),
            }),
            ..Sources::default()
        };
        let drainer = Arc::new(Drainer::start(|_| {}).unwrap());
        let settings = FsSettings {
            models_dir: models,
            ..FsSettings::default()
        };
        let (events, _) = bounded(1);
        let (fs, _) = TieredFs::new(
            settings,
            Arc::clone(&drainer),
            events,
            Arc::new(NoVirtualFiles),
        )
        .unwrap();
        let parts = Parts {
            config: load(&sources).unwrap(),
            sources,
            fs,
            drainer,
            mountpoint,
            journal: Journal::open(&state).unwrap(),
            watch: Arc::new(MemoryWatch::new().unwrap()),
            engines: Engines::start(&[], Duration::ZERO),
            remote_wakeup: bounded(1).0,
            end: bounded(1).0,
        };
        Coordinator::new(parts).0
    }

    /// Minds a pool whose last reader has gone, on a machine where whoever connects waits: nobody accepts. `None`, and a
    /// line that says why, where that cannot be had.
    fn parting(root: &Path, machine: &str) -> Option<(TcpListener, Arc<Coordinator>)> {
        let Ok(listener) = TcpListener::bind((machine, 22)) else {
            eprintln!("SKIPPED: port 22 of {machine} cannot be had");
            return None;
        };
        if Command::new("ssh").arg("-V").output().is_err() {
            eprintln!("SKIPPED: there is no ssh");
            return None;
        }
        let coordinator = coordinator(root, machine);
        let pool = Pool::connect(PoolSettings {
            id: coordinator.pool_id("far").unwrap(),
            name: "far".to_owned(),
            path: root.join("pool"),
            kind: PoolKind::Directory {
                capacity_bytes: u64::MAX,
            },
            speed_bytes_per_sec: Some(1 << 30),
            seam: Arc::new(NoSeam),
        })
        .unwrap();
        coordinator.remotes.change("far", |state| {
            state.pool = Some(pool);
            state.is_parting = true;
        });
        Some((listener, coordinator))
    }

    #[test]
    fn a_pool_that_parts_from_a_machine_that_does_not_answer_holds_up_nobody_who_minds_the_others()
    {
        let root = tempfile::tempdir().unwrap();
        let Some((_listener, coordinator)) = parting(root.path(), "127.77.0.1") else {
            return;
        };
        let start = Instant::now();
        coordinator.look_at_remotes();
        assert!(start.elapsed() < Duration::from_secs(2));
        let is_there = |state: &mut RemoteState| state.pool.is_some() || state.is_busy;
        while coordinator.remotes.change("far", is_there) {
            assert!(start.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    #[test]
    fn who_waits_for_a_pool_to_part_hears_that_it_could_not_be_taken_down() {
        let root = tempfile::tempdir().unwrap();
        let Some((_listener, coordinator)) = parting(root.path(), "127.77.0.2") else {
            return;
        };
        coordinator.look_at_remotes();
        let peer = Peer::new(Door::Socket);
        let failed = coordinator.wait_parted(&peer, "far").unwrap_err();
        assert!(failed.text.contains("did not answer"), "{failed:?}");
    }
}
