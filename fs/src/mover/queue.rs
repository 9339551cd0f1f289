//! The books of the mover: what waits, what runs, what ended. No threads, no I/O.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Job;
use super::transfer::{Phase, TransferState};
use crate::copy::{CopyControl, Progress};
use crate::error::{ErrorKind, FsError, FsResult};
use crate::ids::{FileId, PoolId, TransferId};

/// Transfers that are still shown after they ended.
const ENDED_MAX: usize = 100;

/// The priority of what somebody waits for.
const URGENT: i32 = i32::MAX;

struct Transfer {
    job: Job,
    control: Arc<CopyControl>,
    running: bool,
    queued_at: Instant,
    started_at: Instant,
}

/// A job that was taken out of the queue to be run.
pub(super) struct Claimed {
    pub(super) id: TransferId,
    pub(super) job: Job,
    pub(super) control: Arc<CopyControl>,
}

pub(super) struct Queue {
    waiting_max: usize,
    next_id: u64,
    /// By priority, then by age.
    waiting: BTreeSet<(Reverse<i32>, TransferId)>,
    active: BTreeMap<TransferId, Transfer>,
    by_target: HashMap<(FileId, PoolId), TransferId>,
    ended: VecDeque<TransferState>,
}

impl Queue {
    pub(super) fn new(waiting_max: usize) -> Self {
        Queue {
            waiting_max,
            next_id: 1,
            waiting: BTreeSet::new(),
            active: BTreeMap::new(),
            by_target: HashMap::new(),
            ended: VecDeque::new(),
        }
    }

    /// Adds a job, or finds the transfer that does the same.
    pub(super) fn submit(&mut self, job: Job, control: CopyControl) -> FsResult<TransferId> {
        let target = (job.file, job.pool.id());
        if let Some(id) = self.by_target.get(&target).copied() {
            self.raise(id, job.priority);
            if let Some(transfer) = self.active.get_mut(&id) {
                transfer.job.leaves = transfer.job.leaves.or(job.leaves);
            }
            return Ok(id);
        }
        if self.waiting.len() >= self.waiting_max {
            let why = "too many copies are waiting already";
            return Err(FsError::new("promote", ErrorKind::Busy(why)).at(&job.path));
        }
        let id = TransferId(self.next_id);
        self.next_id += 1;
        self.waiting.insert((Reverse(job.priority), id));
        self.by_target.insert(target, id);
        let (now, priority) = (Instant::now(), job.priority);
        let control = Arc::new(control);
        let transfer = Transfer {
            job,
            control,
            running: false,
            queued_at: now,
            started_at: now,
        };
        self.active.insert(id, transfer);
        self.raise(id, priority);
        Ok(id)
    }

    /// Raises a transfer, and what makes room for it, which does not come after it.
    fn raise(&mut self, id: TransferId, priority: i32) {
        for id in self.with_room_makers(id) {
            let Some(transfer) = self.active.get_mut(&id) else {
                continue;
            };
            let before = transfer.job.priority;
            if priority > before && self.waiting.remove(&(Reverse(before), id)) {
                transfer.job.priority = priority;
                self.waiting.insert((Reverse(priority), id));
            }
        }
    }

    /// A transfer, those asked for before it whose files leave the pool that it goes to, those that make room
    /// for them in turn, and so on. Each is before what it makes room for: one way back finds all of them once.
    fn with_room_makers(&self, id: TransferId) -> Vec<TransferId> {
        let mut found = Vec::new();
        let mut awaited: HashSet<PoolId> = HashSet::new();
        for (other, Transfer { job, .. }) in self.active.range(..=id).rev() {
            if *other == id || job.leaves.is_some_and(|pool| awaited.contains(&pool)) {
                awaited.insert(job.pool.id());
                found.push(*other);
            }
        }
        found
    }

    /// Whether the pool that a transfer goes to is about to be left by a file.
    pub(super) fn room_is_coming(&self, id: TransferId) -> bool {
        self.with_room_makers(id).len() > 1
    }

    /// Puts the copies of a file before all others, but for those that make room for them; whether there are any.
    pub(super) fn urge(&mut self, file: FileId) -> bool {
        let ids = self.of_file(file);
        for id in &ids {
            self.raise(*id, URGENT);
            for id in self.with_room_makers(*id) {
                if let Some(transfer) = self.active.get(&id) {
                    transfer.control.urge();
                }
            }
        }
        !ids.is_empty()
    }

    /// The controls of a file's copies.
    pub(super) fn controls(&self, file: FileId) -> Vec<Arc<CopyControl>> {
        let ids = self.of_file(file);
        ids.into_iter().filter_map(|id| self.control(id)).collect()
    }

    /// A running transfer begins again; `None` when somebody has ended it.
    pub(super) fn renew(&mut self, id: TransferId) -> Option<Arc<CopyControl>> {
        let transfer = self.active.get_mut(&id)?;
        if transfer.control.is_cancelled() {
            return None;
        }
        transfer.control = Arc::new(transfer.control.renewed());
        Some(Arc::clone(&transfer.control))
    }

    /// Number of transfers that wait while somebody waits for them.
    pub(super) fn urgent(&self) -> usize {
        let urgent = |waiting: &&(Reverse<i32>, TransferId)| waiting.0 == Reverse(URGENT);
        self.waiting.iter().take_while(urgent).count()
    }

    /// Takes the first waiting job; it runs from now on.
    pub(super) fn claim(&mut self) -> Option<Claimed> {
        let (_, id) = self.waiting.pop_first()?;
        let transfer = self.active.get_mut(&id)?;
        transfer.running = true;
        transfer.started_at = Instant::now();
        let (job, control) = (transfer.job.clone(), Arc::clone(&transfer.control));
        Some(Claimed { id, job, control })
    }

    /// The transfer ended so.
    pub(super) fn end(&mut self, id: TransferId, result: FsResult<()>) -> Option<TransferState> {
        let transfer = self.active.remove(&id)?;
        self.waiting.remove(&(Reverse(transfer.job.priority), id));
        self.by_target
            .remove(&(transfer.job.file, transfer.job.pool.id()));
        let phase = match result {
            Ok(()) => Phase::Done,
            Err(FsError {
                kind: ErrorKind::Cancelled,
                ..
            }) => Phase::Cancelled,
            Err(error) => Phase::Failed(Arc::new(error)),
        };
        let mut state = transfer.state(id);
        state.phase = phase;
        state.ended_at = Some(Instant::now());
        if self.ended.len() >= ENDED_MAX {
            self.ended.pop_front();
        }
        self.ended.push_back(state.clone());
        Some(state)
    }

    /// Ends it if it waits, asks it to end if it runs. Whether it was there, and what ended.
    pub(super) fn cancel(&mut self, id: TransferId) -> (bool, VecDeque<TransferState>) {
        let Some(transfer) = self.active.get(&id) else {
            return (false, VecDeque::new());
        };
        transfer.control.cancel();
        if transfer.running {
            return (true, VecDeque::new());
        }
        let cancelled = Err(FsError::new("promote", ErrorKind::Cancelled));
        (true, self.end(id, cancelled).into_iter().collect())
    }

    pub(super) fn cancel_all(&mut self) -> VecDeque<TransferState> {
        let ids: Vec<TransferId> = self.active.keys().copied().collect();
        ids.into_iter().flat_map(|id| self.cancel(id).1).collect()
    }

    pub(super) fn of_file(&self, file: FileId) -> Vec<TransferId> {
        let of_file = self
            .active
            .iter()
            .filter(|(_, transfer)| transfer.job.file == file);
        of_file.map(|(id, _)| *id).collect()
    }

    pub(super) fn control(&self, id: TransferId) -> Option<Arc<CopyControl>> {
        self.active
            .get(&id)
            .map(|transfer| Arc::clone(&transfer.control))
    }

    pub(super) fn state(&self, id: TransferId) -> Option<TransferState> {
        let ended = || self.ended.iter().find(|state| state.id == id).cloned();
        self.active
            .get(&id)
            .map(|transfer| transfer.state(id))
            .or_else(ended)
    }

    pub(super) fn states(&self) -> Vec<TransferState> {
        let active = self.active.iter().map(|(id, transfer)| transfer.state(*id));
        self.ended.iter().cloned().chain(active).collect()
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Number of running transfers without progress for so long.
    pub(super) fn stalled(&self, after: Duration) -> usize {
        let stalled = |transfer: &&Transfer| {
            let progress = transfer.control.progress();
            let idle = if progress.elapsed.is_zero() {
                transfer.started_at.elapsed()
            } else {
                progress.since_last_bytes
            };
            transfer.running && idle >= after
        };
        self.active.values().filter(stalled).count()
    }
}

impl Transfer {
    fn state(&self, id: TransferId) -> TransferState {
        let mut progress = self.control.progress();
        if progress.elapsed.is_zero() {
            progress = Progress {
                total_bytes: self.job.size_bytes,
                ..Progress::default()
            };
        }
        TransferState {
            id,
            file: self.job.file,
            label: self.job.label.clone(),
            pool: self.job.pool.id(),
            phase: if self.running {
                Phase::Running
            } else {
                Phase::Queued
            },
            progress,
            queued_at: self.queued_at,
            ended_at: None,
        }
    }
}
