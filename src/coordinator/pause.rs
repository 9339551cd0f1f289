//! The pauses of a command that waits.

use std::time::{Duration, Instant};

use super::Coordinator;
use crate::command::{Code, Message};
use crate::control::Peer;

/// How often a waiting command looks whether its client is still there.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// Until something happens, the client leaves or the time is over.
pub(super) struct Pause<'a> {
    coordinator: &'a Coordinator,
    peer: &'a Peer,
    until: Option<Instant>,
    seen: u64,
}

impl<'a> Pause<'a> {
    pub(super) fn new(
        coordinator: &'a Coordinator,
        peer: &'a Peer,
        until: Option<Instant>,
    ) -> Self {
        let events = coordinator.events.since(0).events;
        Pause {
            coordinator,
            peer,
            until,
            seen: events.last().map_or(0, |event| event.seq),
        }
    }

    /// Waits a moment; an error, with what is `late`, when waiting has no sense any more.
    pub(super) fn next(&mut self, late: &str) -> Result<(), Message> {
        if self.until.is_some_and(|until| Instant::now() >= until) {
            return Err(Message::new(Code::TimedOut, late)
                .with_hint("speedloader transfers shows what is on its way"));
        }
        if self.peer.is_gone() {
            return Err(Message::new(Code::Cancelled, "nobody waits any more"));
        }
        let heard = self.coordinator.events.wait_after(self.seen, LOOK_INTERVAL);
        self.seen = heard.last().map_or(self.seen, |event| event.seq);
        Ok(())
    }
}
