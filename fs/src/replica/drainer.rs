//! Waits in the background until the last users of dropped replicas have let go: in one thread for pools
//! in memory, in another for those on a disk or far away, which may keep it waiting.
//!
//! Each replica is asked about again after a pause that doubles from 10 ms to 2 s; releases that
//! the owner hears of make it ask at once. The threads hold no lock while they report.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};

use super::meta::ReplicaId;
use super::{Draining, Replica};
use crate::ids::PoolId;
use crate::rel_path::RelPath;

const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// A replica that is waiting for its last user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrainingState {
    /// The number that the replica had.
    pub id: ReplicaId,
    /// The pool whose memory it takes.
    pub pool: PoolId,
    /// What it was a copy of.
    pub path: RelPath,
    /// Bytes that it takes.
    pub occupied_bytes: u64,
    /// Since when it has no name.
    pub since: Instant,
}

/// A replica whose memory is free.
pub type Gone = DrainingState;

enum Message {
    Drain(Box<Draining>, DrainingState),
    Check,
}

/// The background threads. Dropping it stops them; what still drains is freed by the kernel when its
/// last user lets go.
pub struct Drainer {
    memory: Lane,
    other: Lane,
    states: Arc<Mutex<Vec<DrainingState>>>,
}

/// One of the threads, and the way to it.
struct Lane {
    sender: Option<Sender<Message>>,
    /// Whether it was asked to check and has not begun to: one that hangs collects no more of them.
    is_asked: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drainer {
    /// Starts the threads; `on_gone` is called in them for each replica that is gone.
    ///
    /// # Errors
    /// Io when no thread can be started.
    pub fn start(on_gone: impl Fn(&Gone) + Clone + Send + 'static) -> std::io::Result<Self> {
        let states = Arc::new(Mutex::new(Vec::new()));
        let lane = |name: &str| {
            let (sender, receiver) = unbounded();
            let (shared, on_gone) = (Arc::clone(&states), on_gone.clone());
            let is_asked = Arc::new(AtomicBool::new(false));
            let asked = Arc::clone(&is_asked);
            let thread = std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || run(&receiver, &asked, &shared, &on_gone))?;
            std::io::Result::Ok(Lane {
                sender: Some(sender),
                is_asked,
                thread: Some(thread),
            })
        };
        Ok(Drainer {
            memory: lane("drainer")?,
            other: lane("drainer-far")?,
            states,
        })
    }

    /// Takes the replica's name away and waits for its users in the background. Whoever drops one may be answering the
    /// kernel: only a pool in memory is asked now.
    pub fn drain(&self, replica: Replica) {
        let lane = match replica.pool().is_memory() {
            true => &self.memory,
            false => &self.other,
        };
        let state = DrainingState {
            id: replica.id(),
            pool: replica.pool().id(),
            path: replica.path().clone(),
            occupied_bytes: replica.occupied_bytes(),
            since: Instant::now(),
        };
        let draining = Box::new(replica.drain());
        lock(&self.states).push(state.clone());
        lane.send(Message::Drain(draining, state));
    }

    /// Asks about all draining replicas at once: somebody closed something.
    pub fn check_now(&self) {
        // Somebody closes something all the time; mostly nothing drains, and the thread sleeps on.
        if !lock(&self.states).is_empty() {
            self.memory.check();
            self.other.check();
        }
    }

    /// What is still used.
    pub fn draining(&self) -> Vec<DrainingState> {
        lock(&self.states).clone()
    }
}

impl Lane {
    fn send(&self, message: Message) {
        if let Some(sender) = &self.sender {
            // The thread ends only after the sender is gone.
            let _ = sender.send(message);
        }
    }

    fn check(&self) {
        if !self.is_asked.swap(true, Ordering::AcqRel) {
            self.send(Message::Check);
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.sender = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Waiting {
    draining: Box<Draining>,
    state: DrainingState,
    pause: Duration,
    next: Instant,
}

fn run(
    receiver: &Receiver<Message>,
    is_asked: &AtomicBool,
    states: &Mutex<Vec<DrainingState>>,
    on_gone: &dyn Fn(&Gone),
) {
    let mut waiting: Vec<Waiting> = Vec::new();
    loop {
        let now = Instant::now();
        let next = waiting
            .iter()
            .map(|one| one.next.saturating_duration_since(now))
            .min();
        let message = match next {
            Some(pause) => receiver.recv_timeout(pause),
            None => receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        let now = Instant::now();
        match message {
            Ok(Message::Drain(draining, state)) => {
                waiting.push(Waiting {
                    draining,
                    state,
                    pause: PAUSE_MIN,
                    next: now,
                });
            }
            Ok(Message::Check) => {
                // Before they are asked: what is closed from now on is asked about once more.
                is_asked.store(false, Ordering::Release);
                for one in &mut waiting {
                    one.next = now;
                    one.pause = PAUSE_MIN;
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        waiting = waiting
            .into_iter()
            .filter_map(|mut one| {
                if one.next > now {
                    return Some(one);
                }
                match one.draining.try_finish() {
                    Err(draining) => {
                        one.draining = draining;
                        one.next = now + one.pause;
                        one.pause = (one.pause * 2).min(PAUSE_MAX);
                        Some(one)
                    }
                    Ok(()) => {
                        lock(states).retain(|state| state.id != one.state.id);
                        on_gone(&one.state);
                        None
                    }
                }
            })
            .collect();
    }
}

fn lock(states: &Mutex<Vec<DrainingState>>) -> std::sync::MutexGuard<'_, Vec<DrainingState>> {
    states.lock().unwrap_or_else(PoisonError::into_inner)
}
