//! Waiting for what may hang: in a thread that is left to itself when it does not get on.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::RecvTimeoutError;

use super::shown;

/// After so long it is said what is waited for.
const SAID_AFTER: Duration = Duration::from_secs(1);

/// How long something may stand still.
pub(super) struct Patience<'a> {
    limit: Duration,
    say: &'a mut dyn FnMut(&str),
}

/// Work that may take long shows by this that it gets on.
#[derive(Clone, Default)]
pub(super) struct Pulse(Arc<AtomicU64>);

impl Pulse {
    pub(super) fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl<'a> Patience<'a> {
    /// `say` is told what is waited for.
    pub(super) fn new(limit: Duration, say: &'a mut dyn FnMut(&str)) -> Self {
        Patience { limit, say }
    }

    /// What `work`, which looks at `path`, comes to; `None` if it stands still for too long.
    pub(super) fn wait<T: Send + 'static>(
        &mut self,
        path: &Path,
        work: impl FnOnce(&Pulse) -> T + Send + 'static,
    ) -> Option<T> {
        let pulse = Pulse::default();
        let own = pulse.clone();
        let (sender, answer) = crossbeam_channel::bounded(1);
        std::thread::spawn(move || {
            // Nobody waits for an answer that comes too late.
            let _ = sender.send(work(&own));
        });
        let start = Instant::now();
        let (mut seen, mut seen_at, mut is_said) = (0, start, false);
        loop {
            match answer.recv_timeout(self.limit.min(SAID_AFTER)) {
                Ok(found) => return Some(found),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if pulse.count() != seen {
                (seen, seen_at) = (pulse.count(), Instant::now());
            } else if seen_at.elapsed() >= self.limit {
                return None;
            }
            if !is_said && start.elapsed() >= SAID_AFTER {
                let limit = self.limit.as_secs();
                (self.say)(&format!(
                    "waiting for {}, while it gets on; for {limit} s if it does not",
                    shown(path)
                ));
                is_said = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_gets_on_is_waited_for_and_what_hangs_is_left() {
        let mut said = Vec::new();
        let mut say = |text: &str| said.push(text.to_owned());
        let mut patience = Patience::new(Duration::from_millis(1500), &mut say);
        let slow = patience.wait(Path::new("/slow"), |pulse| {
            for _ in 0..20 {
                std::thread::sleep(Duration::from_millis(100));
                pulse.beat();
            }
        });
        assert_eq!(slow, Some(()));
        let (never, forever) = crossbeam_channel::bounded::<()>(0);
        let hung = patience.wait(Path::new("/hung"), move |_| forever.recv());
        assert_eq!(hung, None);
        drop(never);
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(
            said[0].contains("/slow") && said[1].contains("/hung"),
            "{said:?}"
        );
    }
}
