//! What a running copy is told and asked: cancel, pause, which ranges first; how far it is.
//!
//! Shared between the copy's threads and whoever watches it. Progress only grows and ends at the
//! size; a range is complete when its bytes are in the destination, before they are verified.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Ranges that can be asked for and not copied yet; more are copied when their turn comes.
const DEMANDS_MAX: usize = 4096;
/// After a demand somebody is taken to read along for so long: who is always behind the copy asks for
/// nothing.
const READ_ALONG_FOR: Duration = Duration::from_secs(5);
/// How long a paused copy sleeps at most before it looks again.
const GATE_LOOK: Duration = Duration::from_millis(500);

/// Holds copies back while somebody else needs the device.
pub trait Pace: fmt::Debug + Send + Sync {
    /// How long to wait before it is asked again whether the next `bytes` may be read; zero: now.
    /// Not asked for demanded ranges.
    fn delay(&self, bytes: u64) -> Duration;
}

/// How far a copy is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes copied, and hashed unless that waits until all have come.
    pub done_bytes: u64,
    /// Bytes that have come, of chunks that may not be complete yet.
    pub came_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
    /// Time since the first byte was asked for.
    pub elapsed: Duration,
    /// Mean rate since the start in bytes per second.
    pub rate_bytes_per_sec: u64,
    /// Time that the rest takes at this rate; unknown before the first byte.
    pub eta: Option<Duration>,
    /// Time since bytes came last, or were hashed.
    pub since_last_bytes: Duration,
    /// It is held back: paused, or others need the device.
    pub held_back: bool,
    /// It was, for a while: the rate says nothing about where it comes from.
    pub was_held_back: bool,
}

impl Progress {
    /// How long the rest takes to come, at the rate at which bytes came by now.
    pub fn left(&self) -> Option<Duration> {
        time_left(self.came_bytes, self.total_bytes, self.elapsed)
    }
}

/// The time that the rest takes, unknown before the first byte.
fn time_left(done_bytes: u64, total_bytes: u64, elapsed: Duration) -> Option<Duration> {
    let left = u128::from(total_bytes.saturating_sub(done_bytes));
    let nanos = left.saturating_mul(elapsed.as_nanos()) / u128::from(done_bytes).max(1);
    let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
    (done_bytes > 0).then(|| Duration::from_nanos(nanos))
}

const PENDING: u8 = 0;
const CLAIMED: u8 = 1;
const COMPLETE: u8 = 2;

struct Chunks {
    size_bytes: u64,
    chunk_bytes: u64,
    states: Box<[AtomicU8]>,
    started: Instant,
}

/// What somebody waits for.
#[derive(Default)]
struct Demands {
    ranges: VecDeque<Range<u64>>,
    last: Option<Instant>,
}

type OnRange = Box<dyn Fn(Range<u64>) + Send + Sync>;

/// The handle to one copy.
#[derive(Default)]
pub struct CopyControl {
    chunks: OnceLock<Chunks>,
    cursor: AtomicUsize,
    done_bytes: AtomicU64,
    came_bytes: AtomicU64,
    last_bytes_ms: AtomicU64,
    cancelled: AtomicBool,
    stopped: AtomicBool,
    paused: AtomicBool,
    has_demand: AtomicBool,
    urgent: AtomicBool,
    /// Threads that wait at the gate.
    held_back: AtomicUsize,
    was_held_back: AtomicBool,
    demands: Mutex<Demands>,
    gate: Mutex<()>,
    opened: Condvar,
    pace: Option<Arc<dyn Pace>>,
    on_range: OnceLock<OnRange>,
}

impl CopyControl {
    /// For one copy.
    pub fn new() -> Self {
        CopyControl::default()
    }

    /// The same, slowed down by `pace`.
    #[must_use]
    pub fn with_pace(mut self, pace: Arc<dyn Pace>) -> Self {
        self.pace = Some(pace);
        self
    }

    /// For a copy that begins again, as this one was slowed down and waited for.
    #[must_use]
    pub fn renewed(&self) -> Self {
        CopyControl {
            pace: self.pace.clone(),
            urgent: AtomicBool::new(self.urgent.load(Ordering::SeqCst)),
            ..CopyControl::default()
        }
    }

    /// From now on `on_range` is called by a copying thread for each finished chunk; it must not
    /// wait. There is one: a second is not heard.
    pub fn set_on_range(&self, on_range: impl Fn(Range<u64>) + Send + Sync + 'static) {
        let _ = self.on_range.set(Box::new(on_range));
    }

    /// Somebody waits for all of it: neither the pace nor a pause slows it down any more.
    pub fn urge(&self) {
        self.urgent.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// Ends the copy before its next read.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// Whether somebody cancelled it.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }

    /// Stops before the next chunk, until [`CopyControl::resume`]. Demanded ranges are copied all
    /// the same.
    pub fn pause(&self) {
        self.paused.store(true, Ordering::SeqCst);
    }

    /// Goes on.
    pub fn resume(&self) {
        self.paused.store(false, Ordering::SeqCst);
        self.wake();
    }

    /// Puts the chunks of `range` (in bytes) before all others, behind those demanded earlier.
    /// Possible before the copy starts. Of very many demands the latest are dropped: their chunks
    /// come when it is their turn.
    pub fn demand(&self, range: Range<u64>) {
        if range.is_empty() || self.is_complete(range.clone()) {
            return;
        }
        let mut demands = lock(&self.demands);
        demands.last = Some(Instant::now());
        if demands.ranges.len() < DEMANDS_MAX {
            demands.ranges.push_back(range);
            self.has_demand.store(true, Ordering::SeqCst);
        }
        drop(demands);
        self.wake();
    }

    /// Whether all bytes of `range` are in the destination. What lies behind the end counts as
    /// there. Never waits.
    pub fn is_complete(&self, range: Range<u64>) -> bool {
        let Some(chunks) = self.chunks.get() else {
            return false;
        };
        let end = range.end.min(chunks.size_bytes);
        if range.start >= end {
            return true;
        }
        let first = index(range.start / chunks.chunk_bytes);
        let last = index((end - 1) / chunks.chunk_bytes);
        chunks.states[first..=last]
            .iter()
            .all(|state| state.load(Ordering::Acquire) == COMPLETE)
    }

    /// How far the copy is.
    pub fn progress(&self) -> Progress {
        let done_bytes = self.done_bytes.load(Ordering::Acquire);
        let Some(chunks) = self.chunks.get() else {
            return Progress::default();
        };
        let elapsed = chunks.started.elapsed();
        let nanos = elapsed.as_nanos().max(1);
        let rate = u128::from(done_bytes) * 1_000_000_000 / nanos;
        let last = Duration::from_millis(self.last_bytes_ms.load(Ordering::Relaxed));
        Progress {
            done_bytes,
            came_bytes: self.came_bytes.load(Ordering::Relaxed),
            total_bytes: chunks.size_bytes,
            elapsed,
            rate_bytes_per_sec: u64::try_from(rate).unwrap_or(u64::MAX),
            eta: time_left(done_bytes, chunks.size_bytes, elapsed),
            since_last_bytes: elapsed.saturating_sub(last),
            held_back: self.held_back.load(Ordering::Relaxed) > 0,
            was_held_back: self.was_held_back.load(Ordering::Relaxed),
        }
    }

    /// The copy starts now.
    pub(super) fn begin(&self, size_bytes: u64, chunk_bytes: u64) {
        self.chunks.get_or_init(|| Chunks {
            size_bytes,
            chunk_bytes,
            states: (0..size_bytes.div_ceil(chunk_bytes))
                .map(|_| AtomicU8::new(PENDING))
                .collect(),
            started: Instant::now(),
        });
    }

    /// Whether somebody reads what comes, as it comes, and nobody waits for all of it: getting the
    /// bytes is more urgent than hashing them.
    pub(super) fn is_read_along(&self) -> bool {
        let last = lock(&self.demands).last;
        let is_recent = last.is_some_and(|last| last.elapsed() < READ_ALONG_FOR);
        is_recent && !self.urgent.load(Ordering::Relaxed)
    }

    /// Waits as long as the copy is paused or must keep its pace; false when it is cancelled.
    pub(super) fn pass_gate(&self, bytes: u64) -> bool {
        let mut delay = self.held_for(bytes);
        if !delay.is_zero() {
            self.was_held_back.store(true, Ordering::Relaxed);
            self.held_back.fetch_add(1, Ordering::Relaxed);
            while !delay.is_zero() {
                let held = lock(&self.gate);
                // Under the lock, or a wake-up between the look and the wait is lost.
                if !self.is_hurried() && !self.is_over() {
                    // Whether it is over or was woken is looked at next.
                    drop(self.opened.wait_timeout(held, delay));
                }
                // Who waits for others has not stalled.
                self.note_progress();
                delay = self.held_for(bytes);
            }
            self.held_back.fetch_sub(1, Ordering::Relaxed);
        }
        !self.is_over()
    }

    /// For how long the next chunk is held back at least.
    fn held_for(&self, bytes: u64) -> Duration {
        if self.is_hurried() || self.is_over() {
            return Duration::ZERO;
        }
        if self.paused.load(Ordering::SeqCst) {
            return GATE_LOOK;
        }
        let pace = self.pace.as_ref();
        pace.map_or(Duration::ZERO, |pace| pace.delay(bytes))
    }

    /// Whether somebody waits for it.
    fn is_hurried(&self) -> bool {
        self.has_demand.load(Ordering::SeqCst) || self.urgent.load(Ordering::SeqCst)
    }

    /// One thread failed: nobody waits at the gate any more.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.wake();
    }

    fn is_over(&self) -> bool {
        self.is_cancelled() || self.stopped.load(Ordering::SeqCst)
    }

    /// Lets everybody at the gate look again.
    fn wake(&self) {
        drop(lock(&self.gate));
        self.opened.notify_all();
    }

    /// Claims a chunk that nobody copies yet: of a demanded range, else the next in order.
    pub(super) fn next_chunk(&self) -> Option<usize> {
        let chunks = self.chunks.get()?;
        while let Some(chunk) = self.next_demanded(chunks) {
            if chunks.claim(chunk) {
                return Some(chunk);
            }
        }
        loop {
            let chunk = self.cursor.fetch_add(1, Ordering::Relaxed);
            if chunk >= chunks.states.len() {
                return None;
            }
            if chunks.claim(chunk) {
                return Some(chunk);
            }
        }
    }

    fn next_demanded(&self, chunks: &Chunks) -> Option<usize> {
        if !self.has_demand.load(Ordering::SeqCst) {
            return None;
        }
        let mut demands = lock(&self.demands);
        while let Some(range) = demands.ranges.front_mut() {
            let end = range.end.min(chunks.size_bytes);
            if range.start >= end {
                demands.ranges.pop_front();
                continue;
            }
            let chunk = range.start / chunks.chunk_bytes;
            range.start = (chunk + 1).saturating_mul(chunks.chunk_bytes);
            return Some(index(chunk));
        }
        self.has_demand.store(false, Ordering::SeqCst);
        None
    }

    /// The bytes of a chunk.
    pub(super) fn chunk_range(&self, chunk: usize) -> Range<u64> {
        let Some(chunks) = self.chunks.get() else {
            return 0..0;
        };
        let start = chunk as u64 * chunks.chunk_bytes;
        start..(start + chunks.chunk_bytes).min(chunks.size_bytes)
    }

    /// The chunk is in the destination; if `done`, nothing follows that is counted.
    pub(super) fn finish_chunk(&self, chunk: usize, done: bool) {
        let Some(chunks) = self.chunks.get() else {
            return;
        };
        chunks.states[chunk].store(COMPLETE, Ordering::Release);
        self.note_progress();
        let range = self.chunk_range(chunk);
        if done {
            self.add_done(range.end - range.start);
        }
        if let Some(on_range) = self.on_range.get() {
            on_range(range);
        }
    }

    /// So many more bytes are copied and hashed.
    pub(super) fn add_done(&self, bytes: u64) {
        self.done_bytes.fetch_add(bytes, Ordering::AcqRel);
        self.note_progress();
    }

    /// So many more bytes came: the copy gets on, however long its chunks take.
    pub(super) fn came(&self, bytes: usize) {
        self.came_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.note_progress();
    }

    /// It gets on.
    pub(super) fn note_progress(&self) {
        if let Some(chunks) = self.chunks.get() {
            let ms = u64::try_from(chunks.started.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.last_bytes_ms.fetch_max(ms, Ordering::Relaxed);
        }
    }

    pub(super) fn is_chunk_complete(&self, chunk: usize) -> bool {
        let state = self
            .chunks
            .get()
            .and_then(|chunks| chunks.states.get(chunk));
        state.is_some_and(|state| state.load(Ordering::Acquire) == COMPLETE)
    }
}

impl Chunks {
    fn claim(&self, chunk: usize) -> bool {
        let state = &self.states[chunk];
        state
            .compare_exchange(PENDING, CLAIMED, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }
}

impl fmt::Debug for CopyControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "CopyControl({:?}, cancelled: {})",
            self.progress(),
            self.is_cancelled()
        )
    }
}

fn index(chunk: u64) -> usize {
    usize::try_from(chunk).unwrap_or(usize::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(control: &CopyControl) -> Vec<usize> {
        std::iter::from_fn(|| control.next_chunk()).collect()
    }

    /// Holds a copy back for as long as nobody asks for it.
    #[derive(Debug)]
    struct Never;

    impl Pace for Never {
        fn delay(&self, _: u64) -> Duration {
            Duration::from_secs(3600)
        }
    }

    #[test]
    fn demanded_chunks_come_first_and_none_comes_twice() {
        let control = CopyControl::new();
        control.demand(55..75);
        control.begin(100, 10);
        assert_eq!(control.next_chunk(), Some(5));
        control.demand(0..5);
        control.demand(98..u64::MAX);
        control.demand(500..600);
        assert_eq!(order(&control), [6, 7, 0, 9, 1, 2, 3, 4, 8]);
    }

    #[test]
    fn complete_means_every_chunk_of_the_range() {
        let control = CopyControl::new();
        assert!(!control.is_complete(0..0));
        control.begin(25, 10);
        assert!(!control.is_complete(0..1));
        control.finish_chunk(0, true);
        control.finish_chunk(2, true);
        assert!(control.is_complete(0..10));
        assert!(!control.is_complete(9..11));
        assert!(control.is_complete(20..u64::MAX));
        assert!(control.is_complete(25..30));
        assert_eq!(control.progress().done_bytes, 15);
        control.finish_chunk(1, true);
        assert_eq!(control.progress().done_bytes, 25);
        assert_eq!(control.progress().eta, Some(Duration::ZERO));
    }

    #[test]
    fn a_paused_copy_serves_demands_and_can_be_cancelled() {
        let control = Arc::new(CopyControl::new());
        control.begin(100, 10);
        control.pause();
        control.demand(30..31);
        assert!(control.pass_gate(10), "a demand passes a paused gate");
        assert_eq!(control.next_chunk(), Some(3));
        assert_eq!(control.next_chunk(), Some(0));
        let waiting = {
            let control = Arc::clone(&control);
            std::thread::spawn(move || control.pass_gate(10))
        };
        control.cancel();
        assert!(!waiting.join().unwrap());
    }

    #[test]
    fn a_copy_that_somebody_waits_for_is_not_slowed_down() {
        let control = Arc::new(CopyControl::new().with_pace(Arc::new(Never)));
        control.begin(100, 10);
        control.pause();
        let waiting = {
            let control = Arc::clone(&control);
            std::thread::spawn(move || control.pass_gate(10))
        };
        control.urge();
        assert!(waiting.join().unwrap());
        assert!(control.pass_gate(10), "and goes on so");
    }

    #[test]
    fn a_copy_that_was_held_back_says_so_for_good() {
        let control = Arc::new(CopyControl::new().with_pace(Arc::new(Never)));
        control.begin(100, 10);
        assert!(!control.progress().was_held_back);
        let waiting = {
            let control = Arc::clone(&control);
            std::thread::spawn(move || control.pass_gate(10))
        };
        while !control.progress().held_back {
            std::thread::yield_now();
        }
        control.urge();
        assert!(waiting.join().unwrap());
        let progress = control.progress();
        assert!(progress.was_held_back && !progress.held_back);
    }

    #[test]
    fn the_pace_is_kept_except_for_demands() {
        let control = Arc::new(CopyControl::new().with_pace(Arc::new(Never)));
        control.begin(100, 10);
        let waiting = {
            let control = Arc::clone(&control);
            std::thread::spawn(move || control.pass_gate(10))
        };
        control.demand(30..31);
        assert!(waiting.join().unwrap());
    }
}
