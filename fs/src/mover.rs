//! Background promotions: a bounded queue and a few threads that carry each job through
//! reserve -> copy -> verify -> publish.
//!
//! Two requests for the same file and pool are one transfer. Whatever goes wrong, the job ends as
//! failed or cancelled, nothing of the copy stays in the pool and its reservation is given back.
//! The mover decides nothing: what to move is the owner's business, whether a copy may be given
//! out is the host's.

mod transfer;
mod queue;

use std::collections::VecDeque;
use std::fs::File;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

pub use transfer::{Phase, TransferState};

use crate::copy::{CopyControl, CopySettings, LentSource, Pace, Source, copy};
use crate::error::{ErrorKind, FsError, FsResult};
use crate::identity::Identity;
use crate::ids::{FileId, PoolId, TransferId};
use crate::pool::{Pool, Reservation};
use crate::rel_path::RelPath;
use crate::replica::{Digest, Lent, Partial, Replica, ReplicaOrigin};
use queue::{Claimed, Queue};

/// Threads beyond the configured ones, started while others hang in a home that does not answer, or
/// somebody waits for a file that others would keep waiting.
const EXTRA_WORKERS_MAX: usize = 8;
/// How long a copy waits for memory that is draining.
const DRAIN_PATIENCE: Duration = Duration::from_secs(2);
/// How often it looks meanwhile whether it was cancelled.
const DRAIN_LOOK: Duration = Duration::from_millis(100);
/// How long dropping a mover waits for copies that were cancelled.
const DROP_PATIENCE: Duration = Duration::from_secs(5);

/// One file to promote.
#[derive(Clone, Debug)]
pub struct Job {
    /// The file.
    pub file: FileId,
    /// What people call it.
    pub label: String,
    /// The home's directory, recorded with the replica.
    pub home: PathBuf,
    /// The file's path below it, recorded with the replica.
    pub path: RelPath,
    /// Size in bytes as far as it is known; the open file has the last word.
    pub size_bytes: u64,
    /// Where to.
    pub pool: Arc<Pool>,
    /// The pool that the file leaves when it is there: the jobs after this one may be for that room.
    pub leaves: Option<PoolId>,
    /// What its bytes must be, if its name promises that.
    pub expected: Option<Digest>,
    /// Higher ones come first, equal ones in the order of their requests.
    pub priority: i32,
    /// Holds it back while others need the device it is read from.
    pub pace: Option<Arc<dyn Pace>>,
}

/// How the mover works.
#[derive(Clone)]
pub struct MoverSettings {
    /// Copies at the same time.
    pub workers: NonZeroUsize,
    /// Jobs that may wait.
    pub queue_max: usize,
    /// Threads and chunks of each copy; what is expected comes with the job.
    pub copy: CopySettings,
    /// A copy without progress for so long does not keep others waiting.
    pub stalled_after: Duration,
}

impl Default for MoverSettings {
    fn default() -> Self {
        MoverSettings {
            workers: NonZeroUsize::MIN,
            queue_max: 4096,
            copy: CopySettings::default(),
            stalled_after: Duration::from_secs(10),
        }
    }
}

/// A complete replica that the host did not take, because its file has a writer or changed.
#[derive(Debug)]
pub struct Refused {
    /// Why.
    pub error: FsError,
    /// The replica, which the mover removes.
    pub replica: Box<Replica>,
}

/// What the mover needs of the file system above it.
pub trait MoverHost: Send + Sync {
    /// Opens the file's home for reading.
    ///
    /// # Errors
    /// Whatever makes the copy impossible: NotFound, Busy, Io.
    fn open_source(&self, file: FileId) -> FsResult<Box<dyn Source>>;

    /// A replica that has the bytes of the `home` as it is now, faster than that has, if there is one.
    fn lend(&self, file: FileId, home: &Identity) -> Option<Lent> {
        let _ = (file, home);
        None
    }

    /// The bytes of the file's replica in `pool` are not those that were verified when it was made.
    fn damaged(&self, file: FileId, pool: PoolId) {
        let _ = (file, pool);
    }

    /// A complete, verified replica of `file`: from now on new opens may be given it.
    ///
    /// # Errors
    /// The replica back, when the file has a writer or is no longer what was copied.
    fn publish(&self, file: FileId, replica: Replica) -> Result<(), Refused>;

    /// Copying from the home begins: `partial` is what it fills, and `control` tells what is there. Called
    /// without a lock, must not wait. `partial` must be let go by the time that the copy is published.
    fn begun(&self, file: FileId, partial: Arc<File>, control: &Arc<CopyControl>) {
        let _ = (file, partial, control);
    }

    /// A transfer ended. Called without a lock, must not wait.
    fn ended(&self, transfer: &TransferState) {
        let _ = transfer;
    }
}

struct Shared {
    host: Arc<dyn MoverHost>,
    settings: MoverSettings,
    state: Mutex<State>,
    changed: Condvar,
    tokens: Receiver<()>,
}

struct State {
    queue: Queue,
    /// `None` once the mover shuts down.
    sender: Option<Sender<()>>,
    workers_alive: usize,
    threads: Vec<JoinHandle<()>>,
}

/// The queue and its threads.
pub struct Mover {
    shared: Arc<Shared>,
}

impl Mover {
    /// Starts the threads.
    ///
    /// # Errors
    /// Io when a thread cannot be started.
    pub fn start(settings: MoverSettings, host: Arc<dyn MoverHost>) -> FsResult<Mover> {
        let (sender, tokens) = bounded(settings.queue_max.max(1));
        let workers = settings.workers.get();
        let state = State {
            queue: Queue::new(settings.queue_max.max(1)),
            sender: Some(sender),
            workers_alive: 0,
            threads: Vec::new(),
        };
        let (state, changed) = (Mutex::new(state), Condvar::new());
        let mover = Mover {
            shared: Arc::new(Shared {
                host,
                settings,
                state,
                changed,
                tokens,
            }),
        };
        let failed = |error| FsError::new("start the mover", ErrorKind::Io(error));
        for _ in 0..workers {
            mover
                .shared
                .start_worker(&mut mover.shared.lock())
                .map_err(failed)?;
        }
        let shared = Arc::clone(&mover.shared);
        let watch = std::thread::Builder::new().name("mover-watch".to_owned());
        let watch = watch.spawn(move || shared.watch()).map_err(failed)?;
        mover.shared.lock().threads.push(watch);
        Ok(mover)
    }

    /// Queues a promotion. If the same file is already queued or being copied to the same pool,
    /// that transfer is returned, with the higher of both priorities.
    ///
    /// # Errors
    /// TooLarge when the pool could never hold it, Busy when the queue is full, PoolGone,
    /// Cancelled when the mover is shutting down.
    pub fn submit(&self, job: Job) -> FsResult<TransferId> {
        let needed_bytes = job.pool.footprint_bytes(job.size_bytes);
        let capacity_bytes = job.pool.usage()?.capacity_bytes;
        if needed_bytes > capacity_bytes {
            let kind = ErrorKind::TooLarge {
                needed_bytes,
                capacity_bytes,
            };
            return Err(FsError::new("promote", kind).at(&job.path));
        }
        if job.pool.is_disconnected() {
            return Err(FsError::new("promote", ErrorKind::PoolGone).at(&job.path));
        }
        let mut control = CopyControl::new();
        if let Some(pace) = &job.pace {
            control = control.with_pace(Arc::clone(pace));
        }
        let mut state = self.shared.lock();
        let Some(sender) = state.sender.clone() else {
            return Err(FsError::new("promote", ErrorKind::Cancelled).at(&job.path));
        };
        let id = state.queue.submit(job, control)?;
        // Full means that there are tokens for all jobs that can wait.
        let _ = sender.try_send(());
        drop(state);
        self.shared.changed.notify_all();
        Ok(id)
    }

    /// Ends a transfer: at once when it waits, before its next chunk when it runs. False when it
    /// is unknown or over.
    pub fn cancel(&self, id: TransferId) -> bool {
        let (found, ended) = self.shared.lock().queue.cancel(id);
        self.shared.report(ended);
        found
    }

    /// Ends all transfers of a file: it is being written to. Returns how many.
    pub fn cancel_file(&self, file: FileId) -> usize {
        let ids = self.shared.lock().queue.of_file(file);
        ids.into_iter().filter(|id| self.cancel(*id)).count()
    }

    /// Somebody waits for the file: its copies come before all others, beside those that run, and
    /// are not slowed down. False when there is none.
    pub fn urge(&self, file: FileId) -> bool {
        let found = self.shared.lock().queue.urge(file);
        self.shared.changed.notify_all();
        found
    }

    /// Somebody waits for the file, if not with an open: its copies are not held back. They keep
    /// their turn.
    pub fn hurry(&self, file: FileId) {
        for control in self.shared.lock().queue.controls(file) {
            control.urge();
        }
    }

    /// Whether the file is being copied, or waits for that.
    pub fn is_moving(&self, file: FileId) -> bool {
        !self.shared.lock().queue.of_file(file).is_empty()
    }

    /// The control of a transfer that waits or runs: to demand ranges, to pause.
    pub fn control(&self, id: TransferId) -> Option<Arc<CopyControl>> {
        self.shared.lock().queue.control(id)
    }

    /// All transfers that wait or run, and the last 100 that ended.
    pub fn transfers(&self) -> Vec<TransferState> {
        self.shared.lock().queue.states()
    }

    /// One of them.
    pub fn transfer(&self, id: TransferId) -> Option<TransferState> {
        self.shared.lock().queue.state(id)
    }

    /// Waits until the transfer has ended, at most `timeout`, and returns its state, which tells
    /// whether it has.
    ///
    /// # Errors
    /// NotFound when there is no such transfer, or it ended too long ago.
    pub fn wait(&self, id: TransferId, timeout: Duration) -> FsResult<TransferState> {
        let until = Instant::now() + timeout;
        let mut state = self.shared.lock();
        loop {
            let Some(transfer) = state.queue.state(id) else {
                return Err(FsError::new("wait", ErrorKind::NotFound));
            };
            let left = until.saturating_duration_since(Instant::now());
            if transfer.phase.has_ended() || left.is_zero() {
                return Ok(transfer);
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Cancels everything and waits for the threads, at most `patience`: one that hangs in a home
    /// that does not answer is left behind, and its copy never gets a name. True when all ended.
    pub fn shutdown(&self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        let mut state = self.shared.lock();
        state.sender = None;
        let ended = state.queue.cancel_all();
        drop(state);
        self.shared.report(ended);
        let mut state = self.shared.lock();
        while state.workers_alive > 0 {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let all_ended = state.workers_alive == 0;
        let threads = std::mem::take(&mut state.threads);
        drop(state);
        for thread in threads {
            // With all workers gone the rest of each thread's life is a few instructions.
            if all_ended || thread.is_finished() {
                let _ = thread.join();
            }
        }
        all_ended
    }
}

impl Drop for Mover {
    fn drop(&mut self) {
        self.shutdown(DROP_PATIENCE);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start_worker(self: &Arc<Self>, state: &mut State) -> std::io::Result<()> {
        let shared = Arc::clone(self);
        let builder = std::thread::Builder::new().name("mover".to_owned());
        let thread = builder.spawn(move || shared.work())?;
        state.workers_alive += 1;
        state.threads.retain(|thread| !thread.is_finished());
        state.threads.push(thread);
        Ok(())
    }

    /// One worker: jobs until the mover shuts down or there are more workers than wanted.
    fn work(&self) {
        while self.tokens.recv().is_ok() {
            let claimed = self.lock().queue.claim();
            let Some(claimed) = claimed else { continue };
            self.changed.notify_all();
            self.run(claimed);
            let mut state = self.lock();
            if state.workers_alive > self.workers_wanted(&state) {
                state.workers_alive -= 1;
                drop(state);
                self.changed.notify_all();
                return;
            }
        }
        self.lock().workers_alive -= 1;
        self.changed.notify_all();
    }

    fn run(&self, claimed: Claimed) {
        let Claimed { id, job, control } = claimed;
        let attempt = AssertUnwindSafe(|| self.promote(id, &job, control));
        let result = catch_unwind(attempt).unwrap_or_else(|_| {
            Err(FsError::new("promote", ErrorKind::Invalid("the copy panicked")).at(&job.path))
        });
        let ended = self.lock().queue.end(id, result);
        self.report(ended.into_iter().collect());
    }

    /// The steps of a promotion, in order.
    fn promote(&self, id: TransferId, job: &Job, mut control: Arc<CopyControl>) -> FsResult<()> {
        let pool = &job.pool;
        pool.step("mover.open")?;
        let home: Arc<dyn Source> = Arc::from(self.host.open_source(job.file)?);
        let identity = home
            .identity()
            .map_err(|error| FsError::io("promote", &job.path, error))?;
        pool.step("mover.reserve")?;
        let claim = self.reserve(id, pool, identity.size, &control)?;
        let partial = Partial::create(
            claim,
            ReplicaOrigin {
                home: job.home.clone(),
                path: job.path.clone(),
                source: identity,
            },
        )?;
        let cancelled = || FsError::new("promote", ErrorKind::Cancelled).at(&job.path);
        let mut copied = None;
        if let Some(lent) = self.host.lend(job.file, &identity) {
            copied = self.copy_lent(job, &home, lent, &partial, &control)?;
            if copied.is_none() {
                let renewed = self.lock().queue.renew(id);
                control = renewed.ok_or_else(cancelled)?;
            }
        }
        let digest = match copied {
            Some(digest) => digest,
            None => {
                self.host.begun(job.file, partial.shared_file(), &control);
                copy(&*home, &partial, &self.copy_settings(job), &control)?
            }
        };
        drop(home);
        pool.step("mover.publish")?;
        if control.is_cancelled() {
            return Err(cancelled());
        }
        let replica = partial.publish(digest)?;
        if let Err(error) = pool.step("mover.hand_over") {
            discard(replica);
            return Err(error);
        }
        self.host.publish(job.file, replica).map_err(|refused| {
            discard(*refused.replica);
            refused.error
        })
    }

    /// Reserves room. What a copy before this one is about to leave is waited for until that has ended. What was
    /// dropped a moment ago is free as soon as the drainer has looked: while something drains it is waited for, briefly.
    fn reserve(
        &self,
        id: TransferId,
        pool: &Arc<Pool>,
        bytes: u64,
        control: &CopyControl,
    ) -> FsResult<Reservation> {
        let mut until = Instant::now() + DRAIN_PATIENCE;
        let mut can_grow = true;
        loop {
            // Asked first: what leaves between the two has left when room is looked for.
            let is_coming = self.lock().queue.room_is_coming(id);
            match pool.try_reserve_ready(bytes) {
                Err(FsError {
                    kind: ErrorKind::NoSpace { .. },
                    ..
                }) if (is_coming || can_grow) && !control.is_cancelled() => {
                    if is_coming {
                        self.wait_for_change(id);
                        (until, can_grow) = (Instant::now() + DRAIN_PATIENCE, true);
                        continue;
                    }
                    let left = until.saturating_duration_since(Instant::now());
                    // What drained since the look above is found by one more.
                    can_grow = pool.wait_while_draining(left.min(DRAIN_LOOK)) && !left.is_zero();
                }
                other => return other,
            }
        }
    }

    /// Waits, briefly, for any transfer to begin or end, if room is still coming for this one.
    fn wait_for_change(&self, id: TransferId) {
        let state = self.lock();
        if state.queue.room_is_coming(id) {
            let waited = self.changed.wait_timeout(state, DRAIN_LOOK);
            drop(waited.unwrap_or_else(PoisonError::into_inner));
        }
    }

    fn copy_settings(&self, job: &Job) -> CopySettings {
        CopySettings {
            expected: job.expected,
            ..self.settings.copy.clone()
        }
    }

    /// Copies a replica in its home's stead; `None` when its bytes are not what they should be. Nobody is served
    /// from such a copy before it is verified: what is wrong in the one must not be seen through the other.
    fn copy_lent(
        &self,
        job: &Job,
        home: &Arc<dyn Source>,
        lent: Lent,
        partial: &Partial,
        control: &CopyControl,
    ) -> FsResult<Option<Digest>> {
        let (pool, digest) = (lent.pool().id(), lent.digest());
        let mut settings = self.copy_settings(job);
        let expected = *settings.expected.get_or_insert(digest);
        let source = LentSource::new(Arc::clone(home), lent);
        match copy(&source, partial, &settings, control) {
            Err(FsError {
                kind: ErrorKind::DigestMismatch { wanted, found },
                ..
            }) => {
                let path = &job.path;
                tracing::warn!(%path, wanted, found, "a replica is not what it was: its home is read");
                drop(source);
                // What the name promises the home may not keep either.
                if expected == digest {
                    self.host.damaged(job.file, pool);
                }
                Ok(None)
            }
            copied => copied.map(Some),
        }
    }

    /// Starts more workers while others hang and jobs wait behind them. Sleeps while nothing
    /// waits.
    fn watch(self: &Arc<Self>) {
        let look = (self.settings.stalled_after / 4).max(Duration::from_millis(1));
        let mut state = self.lock();
        while state.sender.is_some() {
            if state.queue.is_empty() {
                state = self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            if state.workers_alive < self.workers_wanted(&state) {
                if let Err(error) = self.start_worker(&mut state) {
                    tracing::warn!(%error, "no further copying thread can be started");
                } else if let Some(sender) = &state.sender {
                    // The token of a waiting job may be with nobody; one too many does no harm.
                    let _ = sender.try_send(());
                }
            }
            let waited = self.changed.wait_timeout(state, look);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn workers_wanted(&self, state: &State) -> usize {
        let stalled = state.queue.stalled(self.settings.stalled_after);
        let extra = stalled.max(state.queue.urgent());
        self.settings.workers.get() + extra.min(EXTRA_WORKERS_MAX)
    }

    fn report(&self, ended: VecDeque<TransferState>) {
        self.changed.notify_all();
        for transfer in &ended {
            self.host.ended(transfer);
        }
    }
}

/// Removes a complete replica that nobody was given yet.
fn discard(replica: Replica) {
    if let Err(draining) = replica.drain().try_finish() {
        tracing::warn!(
            path = %draining.meta().origin.path,
            "a refused replica is in use by somebody outside; it goes with its last user"
        );
    }
}

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod lent_tests;
#[cfg(test)]
mod tests;
