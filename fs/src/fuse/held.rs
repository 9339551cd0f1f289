//! Replies that wait for a home or a copy: kept apart from every thread, and killable.
//!
//! The kernel cannot take back a request that we have read, so a caller killed meanwhile would stay
//! until we answer. One thread looks at the callers' pending signals, and answers EINTR for a caller
//! that a fatal one is waiting for. It sleeps while nothing is held.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::Duration;

use crate::errno::INTERRUPTED;
use crate::file::lock;

/// How often callers are looked at while something is held.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

type Fail<R> = Box<dyn FnOnce(R, i32) + Send>;

/// A reply that somebody else may answer first.
pub struct HeldReply<R>(Mutex<Option<(R, Fail<R>)>>);

impl<R> HeldReply<R> {
    /// Takes the reply to answer it; `None` when it has been answered.
    pub fn take(&self) -> Option<R> {
        lock(&self.0).take().map(|(reply, _)| reply)
    }

    /// Whether somebody has answered it.
    pub fn is_answered(&self) -> bool {
        lock(&self.0).is_none()
    }

    /// Uses the reply without answering it.
    ///
    /// # Errors
    /// [`io::ErrorKind::Interrupted`] when it has been answered.
    pub fn with<T>(&self, work: impl FnOnce(&R) -> T) -> io::Result<T> {
        match &*lock(&self.0) {
            Some((reply, _)) => Ok(work(reply)),
            None => Err(io::ErrorKind::Interrupted.into()),
        }
    }
}

/// A held reply whose type does not matter.
trait Failing: Send + Sync {
    fn is_answered(&self) -> bool;
    fn fail(&self, errno: i32);
}

impl<R: Send> Failing for HeldReply<R> {
    fn is_answered(&self) -> bool {
        HeldReply::is_answered(self)
    }

    fn fail(&self, errno: i32) {
        let taken = lock(&self.0).take();
        if let Some((reply, fail)) = taken {
            fail(reply, errno);
        }
    }
}

#[derive(Default)]
struct State {
    next: u64,
    waiting: BTreeMap<u64, (u32, Weak<dyn Failing>)>,
    watching: bool,
}

/// All replies that are held.
#[derive(Default)]
pub struct HeldReplies {
    state: Mutex<State>,
    changed: Condvar,
    #[cfg(test)]
    looks: std::sync::atomic::AtomicU32,
}

impl HeldReplies {
    /// Holds a reply for the thread `tid`; `fail` answers it with an errno.
    pub fn hold<R: Send + 'static>(
        self: &Arc<Self>,
        tid: u32,
        reply: R,
        fail: impl FnOnce(R, i32) + Send + 'static,
    ) -> Arc<HeldReply<R>> {
        let held = Arc::new(HeldReply(Mutex::new(Some((
            reply,
            Box::new(fail) as Fail<R>,
        )))));
        let strong: Arc<dyn Failing> = held.clone();
        let mut state = lock(&self.state);
        let key = state.next;
        state.next += 1;
        state.waiting.insert(key, (tid, Arc::downgrade(&strong)));
        if !state.watching {
            let replies = Arc::clone(self);
            let thread = std::thread::Builder::new().name("held-replies".to_owned());
            match thread.spawn(move || replies.watch()) {
                Ok(_) => state.watching = true,
                Err(error) => tracing::error!(%error, "held opens cannot be interrupted"),
            }
        }
        self.changed.notify_one();
        held
    }

    /// Answers everything that is held with `errno`: at shutdown.
    pub fn fail_all(&self, errno: i32) {
        let waiting = std::mem::take(&mut lock(&self.state).waiting);
        for (_, reply) in waiting.into_values() {
            if let Some(reply) = reply.upgrade() {
                reply.fail(errno);
            }
        }
    }

    fn watch(&self) {
        loop {
            let mut state = lock(&self.state);
            while state.waiting.is_empty() {
                state = self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            drop(state);
            // Not woken by what comes meanwhile: most is answered before anybody looks.
            std::thread::sleep(LOOK_INTERVAL);
            self.look();
        }
    }

    /// Looks at each caller once. Nobody who comes to wait is kept by it: asking the kernel takes time.
    fn look(&self) {
        #[cfg(test)]
        self.looks.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let callers: BTreeSet<u32> = {
            let mut state = lock(&self.state);
            let waits = |reply: &Weak<dyn Failing>| {
                let reply = reply.upgrade();
                reply.is_some_and(|reply| !reply.is_answered())
            };
            state.waiting.retain(|_, (_, reply)| waits(reply));
            state.waiting.values().map(|(tid, _)| *tid).collect()
        };
        let killed: Vec<u32> = callers
            .into_iter()
            .filter(|tid| has_fatal_signal(*tid))
            .collect();
        if killed.is_empty() {
            return;
        }
        let mut failed = Vec::new();
        lock(&self.state).waiting.retain(|_, (tid, reply)| {
            let is_killed = killed.contains(tid);
            failed.extend(is_killed.then(|| reply.upgrade()).flatten());
            !is_killed
        });
        for reply in failed {
            reply.fail(INTERRUPTED);
        }
    }
}

/// Whether a signal that ends the thread waits for it. An unknown thread has none.
fn has_fatal_signal(tid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{tid}/status"));
    tid != 0 && status.is_ok_and(|status| is_fatal(&status))
}

/// The same, from the text of `/proc/TID/status`.
fn is_fatal(status: &str) -> bool {
    let mask = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
            .unwrap_or(0)
    };
    let bit = |signal: rustix::process::Signal| 1u64 << (signal.as_raw() - 1);
    use rustix::process::Signal;
    let pending = mask("SigPnd:") | mask("ShdPnd:");
    // Signals whose default is to be ignored or to stop.
    let harmless = [
        Signal::CHILD,
        Signal::CONT,
        Signal::STOP,
        Signal::TSTP,
        Signal::TTIN,
        Signal::TTOU,
        Signal::URG,
        Signal::WINCH,
    ];
    let harmless = harmless.iter().fold(0, |all, signal| all | bit(*signal));
    let held_back = mask("SigBlk:") | mask("SigIgn:") | mask("SigCgt:") | harmless;
    pending & (!held_back | bit(Signal::KILL)) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(pending: u64, blocked: u64, caught: u64) -> String {
        format!(
            "Name:\tcat\nSigPnd:\t{pending:016x}\nShdPnd:\t{:016x}\nSigBlk:\t{blocked:016x}\nSigIgn:\t{:016x}\nSigCgt:\t{caught:016x}\n",
            0, 0
        )
    }

    #[test]
    fn only_signals_that_end_the_caller_are_fatal() {
        let (term, kill, child) = (1 << 14, 1 << 8, 1 << 16);
        assert!(is_fatal(&status(term, 0, 0)));
        assert!(is_fatal(&status(kill, u64::MAX, u64::MAX)));
        assert!(!is_fatal(&status(term, term, 0)));
        assert!(!is_fatal(&status(term, 0, term)));
        assert!(!is_fatal(&status(child, 0, 0)));
        assert!(!is_fatal(&status(0, 0, 0)));
        assert!(!is_fatal("nonsense"));
    }

    /// Each that came woke the thread, which asked the kernel of all that were there: reads of a first load by eight
    /// threads cost a third of a processor so.
    #[test]
    fn many_that_come_are_not_looked_at_each_time() {
        let replies = Arc::new(HeldReplies::default());
        let began = std::time::Instant::now();
        let own = std::process::id();
        let held: Vec<_> = (0..5_000)
            .map(|_| replies.hold(own, (), |(), _| ()))
            .collect();
        let looks = replies.looks.load(std::sync::atomic::Ordering::SeqCst);
        let most = began.elapsed().as_millis() / LOOK_INTERVAL.as_millis();
        assert!(u128::from(looks) <= most, "{looks} looks, {most} at most");
        assert!(held.iter().all(|reply| !reply.is_answered()));
    }

    #[test]
    fn a_held_reply_is_answered_once() {
        let replies = Arc::new(HeldReplies::default());
        let (sender, answers) = crossbeam_channel::unbounded();
        let held = replies.hold(0, "reply", move |reply, errno| {
            // The receiver outlives the test.
            let _ = sender.send((reply, errno));
        });
        assert_eq!(held.with(|reply| reply.len()).expect("not answered"), 5);
        replies.fail_all(INTERRUPTED);
        assert_eq!(answers.recv().expect("failed"), ("reply", INTERRUPTED));
        assert!(held.take().is_none());
        assert!(held.with(|_| ()).is_err());
    }
}
