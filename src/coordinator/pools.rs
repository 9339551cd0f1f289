//! Connecting, resizing and disconnecting pools, and taking over what an earlier run left in them.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use speedloader_config::{Bytes, HugePages, Pool as PoolConfig};
use speedloader_fs::copy::verify;
use speedloader_fs::error::{ErrorKind, FsError};
use speedloader_fs::file::{HomeFile, Live};
use speedloader_fs::ids::PoolId;
use speedloader_fs::pool::{Pool, PoolKind, PoolSettings};
use speedloader_fs::replica::{Replica, ReplicaMeta, adopt};
use speedloader_fs::seam::Seam;
use speedloader_fs::tiered_fs::POOLS_MAX;
use speedloader_fs::tmpfs::{MemoryPolicy, TmpfsSettings};
use speedloader_fs::union::Found;

use super::parting::Parting;
use super::{Coordinator, SPARE, chain};
use crate::command::{Code, Message};
use crate::control::Peer;
use crate::machine;
use crate::view::human::size;
use crate::view::{DaemonState, Level, MoveView, View};

/// How long dropped spares may take until their memory is free.
const DROP_PATIENCE: Duration = Duration::from_millis(500);

/// How long the start waits until what lies on disks is verified.
const VERIFY_PATIENCE: Duration = Duration::from_secs(2);

/// How long those who take a pool away wait for the copies into it to end; one that hangs in its home goes on
/// without them.
const CANCEL_PATIENCE: Duration = Duration::from_secs(5);

/// How often it is looked again whether what drains has gone.
const DRAIN_LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// What was taken over from an earlier run.
#[derive(Default)]
pub(super) struct Adopted {
    /// Replicas that serve again.
    pub(super) replicas: usize,
    /// Those that were not whole, and are gone.
    pub(super) damaged: usize,
    /// Those whose home was not read yet.
    pub(super) undecided: usize,
}

/// What became of a replica of an earlier run.
enum Taken {
    Serves,
    Gone,
    /// Its home was not read yet.
    NotYet(Box<Replica>),
}

fn being_connected(name: &str) -> Message {
    let text = format!("{name} is being connected: what it holds is verified");
    Message::new(Code::Busy, text).with_hint("`speedloader tiers` says when it is there")
}

impl Adopted {
    /// In words.
    pub(super) fn text(&self) -> String {
        let damaged = match self.damaged {
            0 => String::new(),
            number => format!(", {number} damaged ones removed"),
        };
        let undecided = match self.undecided {
            0 => String::new(),
            number => format!(", {number} kept until their homes are read"),
        };
        format!("{} replicas taken over{damaged}{undecided}", self.replicas)
    }
}

pub(super) fn failed(what: &str, error: &FsError) -> Message {
    let code = match &error.kind {
        ErrorKind::TooLarge { .. } => Code::TooLarge,
        ErrorKind::NoSpace { .. } => Code::NoSpace,
        ErrorKind::Busy(_) => Code::Busy,
        ErrorKind::NotPermitted => Code::Denied,
        _ => Code::Failed,
    };
    Message::new(code, format!("{what}: {}", chain(error)))
}

/// Why a pool cannot have a size.
fn too_small(name: &str, wanted_bytes: u64, error: &FsError) -> Message {
    let ErrorKind::NoSpace { needed_bytes, .. } = error.kind else {
        return failed(name, error);
    };
    let (wanted, needed) = (size(wanted_bytes), size(needed_bytes));
    let text = format!("{name} cannot be made as small as {wanted}: {needed} of it are in use");
    Message::new(Code::NoSpace, text)
}

/// A tmpfs of size 0 would have no limit.
pub(super) const POOL_BYTES_MIN: u64 = 1 << 20;

/// While this is there a pool is being connected.
struct Connecting<'a> {
    coordinator: &'a Coordinator,
    name: String,
}

impl Drop for Connecting<'_> {
    fn drop(&mut self) {
        self.coordinator.lock_connecting().remove(&self.name);
    }
}

impl Coordinator {
    /// Connects all configured pools. One that fails is an event, not the end. Those on a disk are read
    /// first, in the background: nothing waits for that longer than a moment.
    pub fn connect_pools(self: &Arc<Self>, seam: &Arc<dyn Seam>) {
        let (done, all_done) = crossbeam_channel::unbounded::<()>();
        for pool in &self.config().pools {
            if pool.mount {
                self.connect_or_tell(pool, seam);
                continue;
            }
            let (coordinator, seam, owned) = (Arc::clone(self), Arc::clone(seam), pool.clone());
            let done = done.clone();
            let started = std::thread::Builder::new()
                .name("pool-connect".to_owned())
                .spawn(move || {
                    coordinator.connect_or_tell(&owned, &seam);
                    drop(done);
                });
            if let Err(error) = started {
                tracing::warn!(%error, pool = pool.name.as_str(), "cannot connect");
            }
        }
        drop(done);
        // Nothing is ever sent: the last one hangs up.
        let _ = all_done.recv_timeout(VERIFY_PATIENCE);
    }

    fn connect_or_tell(&self, pool: &PoolConfig, seam: &Arc<dyn Seam>) {
        if let Err(error) = self.connect_pool(pool, seam) {
            let text = format!("{error}; `speedloader tiers connect` tries again");
            self.events
                .add(Level::Error, "pool", pool.name.as_str(), text);
        }
    }

    fn begin_connecting(&self, name: &str) -> Result<Connecting<'_>, Message> {
        if !self.lock_connecting().insert(name.to_owned()) {
            return Err(being_connected(name));
        }
        Ok(Connecting {
            coordinator: self,
            name: name.to_owned(),
        })
    }

    /// Whether a local pool is being connected: what is in it is not known yet.
    pub(super) fn is_connecting(&self, name: &str) -> bool {
        self.lock_connecting().contains(name)
    }

    /// Whether one of them is, or will be in a moment, as the daemon starts.
    pub(super) fn is_connecting_any(&self) -> bool {
        *self.lock_state() == DaemonState::Starting || !self.lock_connecting().is_empty()
    }

    /// Whether a local pool is connected, is being connected, or has readers left.
    pub(super) fn is_pool_in_use(&self, name: &str) -> bool {
        let has = |pools: &[Arc<Pool>]| pools.iter().any(|pool| pool.name() == name);
        has(&self.pools()) || has(&self.draining_pools()) || self.is_connecting(name)
    }

    /// The number of a pool that is about to be connected: the one that it had before, else one that no pool has had.
    pub(super) fn pool_id(&self, name: &str) -> Result<PoolId, Message> {
        let had = {
            let names = self.lock_pool_names();
            let named = names.iter().filter(|(_, known)| *known == name);
            named.map(|(id, _)| *id).collect::<Vec<_>>()
        };
        let left: Vec<_> = self.lock_left().iter().filter_map(Weak::upgrade).collect();
        let connected = self.pools();
        let free = |id: &PoolId| left.iter().chain(&connected).all(|pool| pool.id() != *id);
        if let Some(id) = had.into_iter().find(free) {
            return Ok(id);
        }
        let number = self.next_pool.fetch_add(1, Ordering::Relaxed);
        match u16::try_from(number) {
            Ok(id) if usize::from(id) < POOLS_MAX => {
                self.lock_pool_names().insert(PoolId(id), name.to_owned());
                Ok(PoolId(id))
            }
            _ => {
                let text =
                    "pools of too many names were connected since the start; restart the daemon";
                Err(Message::new(Code::Failed, text))
            }
        }
    }

    fn settings_of(
        &self,
        pool: &PoolConfig,
        seam: &Arc<dyn Seam>,
    ) -> Result<PoolSettings, Message> {
        let ram = Bytes(machine::memory().total_bytes);
        let capacity_bytes = pool.capacity.resolve(ram).0;
        let kind = if pool.mount {
            let mpol = pool
                .mpol
                .as_ref()
                .map(|text| MemoryPolicy::new(text.as_str()))
                .transpose();
            PoolKind::Tmpfs(TmpfsSettings {
                capacity_bytes,
                huge_pages: match pool.huge_pages {
                    HugePages::Always => speedloader_fs::tmpfs::HugePages::Always,
                    HugePages::WithinSize => speedloader_fs::tmpfs::HugePages::WithinSize,
                    HugePages::Never => speedloader_fs::tmpfs::HugePages::Never,
                },
                no_swap: pool.noswap,
                memory_policy: mpol.map_err(|error| failed(pool.name.as_str(), &error))?,
            })
        } else {
            PoolKind::Directory { capacity_bytes }
        };
        Ok(PoolSettings {
            id: self.pool_id(pool.name.as_str())?,
            name: pool.name.to_string(),
            path: pool.path.clone(),
            kind,
            speed_bytes_per_sec: pool.speed.map(|speed| speed.0),
            seam: Arc::clone(seam),
        })
    }

    /// Connects one pool, measures it, and takes over the replicas in it.
    pub(super) fn connect_pool(
        &self,
        config: &PoolConfig,
        seam: &Arc<dyn Seam>,
    ) -> Result<(), Message> {
        let name = config.name.as_str();
        let connecting = self.begin_connecting(name)?;
        self.refuse_while_draining(name)?;
        if self.pools().iter().any(|pool| pool.name() == name) {
            return Err(Message::new(
                Code::AlreadyRunning,
                format!("{name} is connected already"),
            ));
        }
        let settings = self.settings_of(config, seam)?;
        let configured_bytes = match &settings.kind {
            PoolKind::Tmpfs(tmpfs) => tmpfs.capacity_bytes,
            PoolKind::Directory { capacity_bytes } => *capacity_bytes,
        };
        let pool = Pool::connect(settings).map_err(|error| failed(name, &error))?;
        for dropped in pool.dropped_options() {
            let text = format!(
                "this kernel refuses the option `{}`; it was left out",
                dropped.option
            );
            self.events.add(Level::Warning, "pool", name, text);
        }
        self.rate_pool(&pool, config.speed.is_some());
        self.lock_memory().configure(pool.id(), configured_bytes);
        // Memory was ours alone; a disk outlives the daemon, and errors of its own. What cannot be read is
        // as good as damaged.
        let is_whole = |replica: &Replica| pool.is_memory() || verify(replica).unwrap_or(false);
        let adopted = self.adopt_into(&pool, true, is_whole)?;
        self.add_pool(&pool);
        drop(connecting);
        let text = format!("connected at {}; {}", pool.path().display(), adopted.text());
        self.events.add(Level::Info, "pool", name, text);
        self.watch.wake();
        self.think();
        Ok(())
    }

    /// Pools that were disconnected and whose memory is still read, or still copied into.
    pub(super) fn draining_pools(&self) -> Vec<Arc<Pool>> {
        let left = self.lock_left();
        left.iter()
            .filter_map(Weak::upgrade)
            .filter(|pool| pool.is_held())
            .collect()
    }

    fn refuse_while_draining(&self, name: &str) -> Result<(), Message> {
        let draining = || {
            let mut pools = self.draining_pools().into_iter();
            pools.find(|pool| pool.name() == name)
        };
        let Some(pool) = draining() else {
            return Ok(());
        };
        self.wait_while_draining(&pool, Instant::now() + DROP_PATIENCE, || true);
        if !pool.is_held() {
            return Ok(());
        }
        let (text, hint) = match pool.usage().map_or(0, |usage| usage.draining_bytes) {
            0 => (
                format!("{name} still has a copy that was cancelled and has not ended"),
                "it can be connected when the home that the copy reads answers; `speedloader status` names it",
            ),
            bytes => (
                format!(
                    "{name} still drains {}: somebody reads what it held",
                    size(bytes)
                ),
                "it can be connected when they let go; `speedloader tiers` shows it",
            ),
        };
        Err(Message::new(Code::Busy, text).with_hint(hint))
    }

    /// Measures how fast a pool is, unless that is configured; one that cannot be measured comes last.
    pub(super) fn rate_pool(&self, pool: &Arc<Pool>, is_configured: bool) {
        if !is_configured && let Err(error) = pool.measure_speed() {
            tracing::debug!(%error, "the pool could not be measured");
        }
        self.fs
            .set_pool_speed(pool.id(), pool.speed_bytes_per_sec().max(1));
    }

    /// Lets plans use a pool: the fastest comes first.
    pub(super) fn add_pool(&self, pool: &Arc<Pool>) {
        self.write_pools(|pools| {
            pools.push(Arc::clone(pool));
            pools.sort_by_key(|pool| std::cmp::Reverse(pool.speed_bytes_per_sec()));
        });
    }

    pub(super) fn write_pools(&self, change: impl FnOnce(&mut Vec<Arc<Pool>>)) {
        change(
            &mut self
                .pools
                .write()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        );
    }

    /// Takes over complete replicas that `is_wanted`, whose originals are unchanged and which are `is_whole`;
    /// everything else of ours goes.
    pub(super) fn adopt_into(
        &self,
        pool: &Arc<Pool>,
        is_wanted: bool,
        is_whole: impl Fn(&Replica) -> bool,
    ) -> Result<Adopted, Message> {
        let found = adopt(pool, |meta| {
            is_wanted && self.is_still_true(meta) != Some(false)
        })
        .map_err(|error| failed(pool.name(), &error))?;
        let mut adopted = Adopted::default();
        for replica in found.replicas {
            // What is not looked at any more stays for the next run.
            if self.is_ending() {
                break;
            }
            if !is_whole(&replica) {
                adopted.damaged += 1;
                self.drainer.drain(replica);
                continue;
            }
            match self.take_over(replica) {
                Taken::Serves => adopted.replicas += 1,
                Taken::Gone => {}
                Taken::NotYet(replica) => {
                    adopted.undecided += 1;
                    self.lock_undecided().push(*replica);
                }
            }
        }
        // Their home may have been read since.
        self.decide();
        Ok(adopted)
    }

    /// Takes over what waited for its home to be read, or lets it go.
    pub(super) fn decide(&self) {
        let waiting = std::mem::take(&mut *self.lock_undecided());
        for replica in waiting {
            if let Taken::NotYet(replica) = self.take_over(replica) {
                self.lock_undecided().push(*replica);
            }
        }
    }

    fn take_over(&self, replica: Replica) -> Taken {
        match self.is_still_true(replica.meta()) {
            Some(true) => {}
            Some(false) => {
                self.drainer.drain(replica);
                return Taken::Gone;
            }
            None => return Taken::NotYet(Box::new(replica)),
        }
        let path = replica.meta().origin.path.clone();
        let Some(Found::File(file)) = self.fs.union().find(&path) else {
            self.drainer.drain(replica);
            return Taken::Gone;
        };
        match self.fs.publish(&file, replica, file.writes()) {
            Ok(()) => {
                self.keep_one_spare(&file);
                Taken::Serves
            }
            Err((error, replica)) => {
                tracing::info!(%path, %error, "a replica of an earlier run is of no use");
                self.drainer.drain(*replica);
                Taken::Gone
            }
        }
    }

    fn lock_undecided(&self) -> std::sync::MutexGuard<'_, Vec<Replica>> {
        self.undecided
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// A file may be in several pools when replicas are taken over: the fastest serves, one of the
    /// others may be its spare.
    fn keep_one_spare(&self, file: &Arc<HomeFile>) {
        let serving = file.with_live(|live| Some(live.replicas.first()?.pool().id()));
        if let Some(serving) = serving {
            self.drop_others(file, serving, None);
        }
    }

    /// Whether the original of a replica found in a pool is what the union shows, unchanged; `None`: its home was not read
    /// to its end yet, and may have it.
    fn is_still_true(&self, meta: &ReplicaMeta) -> Option<bool> {
        let origin = &meta.origin;
        if let Some(Found::File(file)) = self.fs.union().find(&origin.path)
            && self.fs.home_of(&file).path() == origin.home
        {
            return Some(file.attr().identity == origin.source);
        }
        let homes = self.fs.homes().iter().zip(self.fs.home_states());
        let mut unread = homes.filter(|(_, state)| !state.scanned);
        match unread.any(|(home, _)| home.path() == origin.home) {
            true => None,
            false => Some(false),
        }
    }

    /// Empties a pool and lets it go; what was moved, and whether nobody holds any of its memory any more.
    pub(super) fn disconnect_pool(
        &self,
        peer: &Peer,
        name: &str,
        how: Parting,
        progress: &mut dyn FnMut(View),
    ) -> Result<(Vec<MoveView>, bool), Message> {
        let pool = self.pool_named(name)?;
        let leaving = self.begin_leaving(&pool)?;
        let moved = self.empty(peer, &pool, how, progress)?;
        self.remove_pool(&pool, "its pool is disconnected");
        drop(leaving);
        if !how.force {
            // Nobody reads: what was dropped is gone as soon as the drainer has looked.
            self.wait_while_draining(&pool, Instant::now() + DROP_PATIENCE, || true);
        }
        self.events
            .add(Level::Info, "pool", name, "disconnected".to_owned());
        if pool.is_held() {
            let mut left = self.lock_left();
            left.retain(|pool| pool.strong_count() > 0);
            left.push(Arc::downgrade(&pool));
            drop(left);
            if !how.wait {
                return Ok((moved, false));
            }
            // Somebody came in the last moment.
            self.wait_drained(peer, &pool)?;
        }
        // Asked once more, it says what was wrong.
        pool.disconnect().map_err(|error| failed(name, &error))?;
        Ok((moved, true))
    }

    /// Takes a pool out of use: nothing new is copied into it or read from it. It goes with the last copy into it
    /// and the last reader, whatever becomes of who asked for that.
    pub(super) fn remove_pool(&self, pool: &Arc<Pool>, why: &'static str) {
        self.write_pools(|pools| pools.retain(|known| known.id() != pool.id()));
        // Before anything is dropped: what a copy publishes meanwhile goes as well.
        if let Err(error) = pool.disconnect() {
            tracing::debug!(pool = pool.name(), error = chain(&error), "not yet");
        }
        self.cancel_into(pool.id());
        let undecided = std::mem::take(&mut *self.lock_undecided());
        for replica in undecided {
            match replica.pool().id() == pool.id() {
                true => self.drainer.drain(replica),
                false => self.lock_undecided().push(replica),
            }
        }
        for file in self.files_in(pool.id()) {
            self.fs.drop_replicas(&file, Some(pool.id()), why);
        }
        self.drainer.check_now();
    }

    pub(super) fn cancel_into(&self, pool: PoolId) {
        let Some(mover) = self.mover.get() else {
            return;
        };
        let mut transfers = mover.transfers();
        transfers.retain(|transfer| transfer.pool == pool && !transfer.phase.has_ended());
        for transfer in &transfers {
            mover.cancel(transfer.id);
        }
        let until = Instant::now() + CANCEL_PATIENCE;
        for transfer in &transfers {
            // One that is forgotten has ended.
            let _ = mover.wait(transfer.id, until.saturating_duration_since(Instant::now()));
        }
    }

    /// Changes how large a pool may become.
    pub(super) fn resize_pool(&self, name: &str, capacity: &str) -> Result<u64, Message> {
        let pool = self.pool_named(name)?;
        let wanted = speedloader_config::Capacity::parse(capacity).map_err(|wanted| {
            let text = format!("tiers resize: `{capacity}` is no size; wanted {wanted}");
            Message::new(Code::Usage, text)
        })?;
        let bytes = wanted.resolve(Bytes(machine::memory().total_bytes)).0;
        // A tmpfs takes a size of 0 for no limit at all.
        if bytes < POOL_BYTES_MIN {
            let least = size(POOL_BYTES_MIN);
            let text = format!("tiers resize: `{capacity}` is too small; wanted {least} or more");
            return Err(Message::new(Code::Usage, text));
        }
        self.drop_spares(&pool, bytes);
        pool.resize(bytes)
            .map_err(|error| too_small(name, bytes, &error).with_hint("demote models first"))?;
        self.lock_memory().configure(pool.id(), bytes);
        self.watch.wake();
        let text = format!("may hold {} now", size(bytes));
        self.events.add(Level::Info, "pool", name, text);
        self.think();
        Ok(bytes)
    }

    /// Drops spares of a pool that is to hold no more than `bytes`: they are no reason to refuse that.
    fn drop_spares(&self, pool: &Arc<Pool>, bytes: u64) {
        let used = || pool.usage().map_or(0, |usage| usage.used_bytes);
        let mut surplus = used().saturating_sub(bytes);
        let occupied = |live: &mut Live| {
            let mut spares = live.replicas.iter().skip(1);
            let here = spares.find(|spare| spare.pool().id() == pool.id())?;
            here.is_free_to_go().then(|| here.occupied_bytes())
        };
        for file in self.files_in(pool.id()) {
            if surplus == 0 {
                break;
            }
            if let Some(occupied) = file.with_live(occupied) {
                self.fs.drop_replicas(&file, Some(pool.id()), SPARE);
                surplus = surplus.saturating_sub(occupied);
            }
        }
        self.wait_while_draining(pool, Instant::now() + DROP_PATIENCE, || used() > bytes);
    }

    /// Waits until nothing drains in a pool any more, as long as `is_needed`.
    pub(super) fn wait_while_draining(
        &self,
        pool: &Pool,
        until: Instant,
        is_needed: impl Fn() -> bool,
    ) {
        // What nobody uses any more is free as soon as the drainer has looked.
        self.drainer.check_now();
        while is_needed() && Instant::now() < until && pool.wait_while_draining(DRAIN_LOOK_INTERVAL)
        {
            self.drainer.check_now();
        }
    }

    pub(super) fn pool_named(&self, name: &str) -> Result<Arc<Pool>, Message> {
        let pools = self.pools();
        if let Some(pool) = pools.iter().find(|pool| pool.name() == name) {
            return Ok(Arc::clone(pool));
        }
        if self.is_connecting(name) {
            return Err(being_connected(name));
        }
        let is_configured = self.remote_config(name).is_some()
            || self
                .config()
                .pools
                .iter()
                .any(|pool| pool.name.as_str() == name);
        if is_configured {
            let hint = format!("speedloader tiers connect {name}");
            return Err(
                Message::new(Code::NoSuchPool, format!("pool `{name}` is not connected"))
                    .with_hint(hint),
            );
        }
        let names: Vec<String> = pools.iter().map(|pool| pool.name().to_owned()).collect();
        let hint = match names.is_empty() {
            true => "no pool is connected".to_owned(),
            false => format!("connected pools: {}", names.join(", ")),
        };
        Err(Message::new(Code::NoSuchPool, format!("no pool is called `{name}`")).with_hint(hint))
    }

    /// Lets go of the pools that hold nothing, after a start that failed. What others hold is for the next.
    pub fn release_empty_pools(&self) {
        for pool in self.pools() {
            let holds = pool.usage().map_or(0, |usage| usage.used_bytes);
            if holds == 0
                && let Err(error) = pool.abandon()
            {
                tracing::warn!(pool = pool.name(), error = chain(&error), "the pool stays");
            }
        }
    }

    /// Lets go of all pools at the end: their memory is given back, or kept for the next run.
    pub fn release_pools(&self, keep: bool) {
        if keep {
            return;
        }
        let left: Vec<_> = std::mem::take(&mut *self.lock_left());
        let left = left.iter().filter_map(Weak::upgrade);
        for pool in self.pools().into_iter().chain(left) {
            for file in self.files_in(pool.id()) {
                self.fs
                    .drop_replicas(&file, Some(pool.id()), "speedloader ends");
            }
            // Readers keep what they have; nobody is left who could unmount it later.
            if let Err(error) = pool.abandon() {
                tracing::warn!(pool = pool.name(), error = chain(&error), "the pool stays");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_that_is_too_small_is_told_with_what_is_in_use() {
        let kind = ErrorKind::NoSpace {
            needed_bytes: 6 << 20,
            free_bytes: 1,
        };
        let told = too_small("local", 1, &FsError::new("resize", kind));
        assert_eq!(told.code, Code::NoSpace);
        let text = "local cannot be made as small as 1 B: 6.00 MiB of it are in use";
        assert_eq!(told.text, text);
    }
}
