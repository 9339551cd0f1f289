//! The log of events that people and programs follow: a bounded ring in memory.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::view::human::escape;
use crate::view::{EventView, EventsView, Level};

/// Events that are remembered.
const EVENTS_MAX: usize = 2000;
/// Events that are alike and that anybody can cause are told so far apart.
const RARELY: Duration = Duration::from_secs(10);
/// So many kinds of them are told apart.
const RARE_MAX: usize = 32;

/// The log. Numbers begin at the milliseconds of its start, so that those of an earlier daemon, which did not log one
/// event a millisecond, are smaller: who followed that one is told all that happened since.
pub struct EventLog {
    ring: Mutex<Ring>,
    /// By whom events of others were told lately, when, and how many were left out since.
    rare: Mutex<HashMap<String, (Instant, u64)>>,
    changed: Condvar,
}

struct Ring {
    /// The number before the first.
    start: u64,
    last: u64,
    events: VecDeque<EventView>,
}

impl Ring {
    /// What somebody has seen of this log. Numbers of others are none of ours, also where a clock was set back.
    fn seen(&self, since: u64) -> u64 {
        match (self.start..=self.last).contains(&since) {
            true => since,
            false => self.start,
        }
    }
}

impl Default for EventLog {
    fn default() -> Self {
        EventLog::starting_at(now_ms())
    }
}

/// Milliseconds since the epoch.
pub fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl EventLog {
    fn starting_at(start: u64) -> EventLog {
        EventLog {
            ring: Mutex::new(Ring {
                start,
                last: start,
                events: VecDeque::new(),
            }),
            rare: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an event and logs it.
    pub fn add(&self, level: Level, kind: &str, subject: &str, text: String) {
        self.add_with(level, kind, subject, text, BTreeMap::new());
    }

    /// The same with fields for programs.
    pub fn add_with(
        &self,
        level: Level,
        kind: &str,
        subject: &str,
        text: String,
        fields: BTreeMap<String, String>,
    ) {
        let subject = printable(subject);
        match level {
            Level::Info => tracing::info!(kind, subject, text),
            Level::Warning => tracing::warn!(kind, subject, text),
            Level::Error => tracing::error!(kind, subject, text),
        }
        let mut ring = self.lock();
        ring.last += 1;
        let (seq, kind) = (ring.last, kind.to_owned());
        ring.events.push_back(EventView {
            seq,
            time_ms: now_ms(),
            kind,
            level,
            subject,
            text,
            fields,
        });
        if ring.events.len() > EVENTS_MAX {
            ring.events.pop_front();
        }
        drop(ring);
        self.changed.notify_all();
    }

    /// Adds an event that anybody can cause as often as he likes: of those that are `alike`, one in ten seconds, with how
    /// many were left out before it.
    pub fn add_rarely(&self, level: Level, kind: &str, subject: &str, text: &str, alike: &str) {
        let left_out = {
            let now = Instant::now();
            let mut rare = self.rare.lock().unwrap_or_else(PoisonError::into_inner);
            if rare.len() >= RARE_MAX && !rare.contains_key(alike) {
                rare.retain(|_, (told, _)| now.saturating_duration_since(*told) < RARELY);
            }
            // Whoever calls himself ever anew is one of many.
            let key = match rare.len() >= RARE_MAX && !rare.contains_key(alike) {
                true => "",
                false => alike,
            };
            match rare.get_mut(key) {
                Some((told, left_out)) if now.saturating_duration_since(*told) < RARELY => {
                    *left_out += 1;
                    return;
                }
                Some(known) => std::mem::replace(known, (now, 0)).1,
                None => {
                    rare.insert(key.to_owned(), (now, 0));
                    0
                }
            }
        };
        let text = match left_out {
            0 => text.to_owned(),
            number => format!("{text}; {number} more like it before"),
        };
        self.add(level, kind, subject, text);
    }

    /// Events after `since` that are still remembered.
    pub fn since(&self, since: u64) -> EventsView {
        let ring = self.lock();
        let since = ring.seen(since);
        let first = ring.events.front().map_or(ring.last + 1, |event| event.seq);
        let lost = first.saturating_sub(since.saturating_add(1));
        EventsView {
            events: after(&ring, since),
            lost,
        }
    }

    /// Waits for events after `since`, at most `patience`.
    pub fn wait_after(&self, since: u64, patience: Duration) -> Vec<EventView> {
        let ring = self.lock();
        let nothing_new = |ring: &mut Ring| ring.last == ring.seen(since);
        let waited = self.changed.wait_timeout_while(ring, patience, nothing_new);
        let (ring, _) = waited.unwrap_or_else(PoisonError::into_inner);
        after(&ring, since)
    }
}

/// A path comes escaped already: its backslashes are not made more.
fn printable(subject: &str) -> String {
    let parts = subject.split('\\').map(|part| escape(part.as_bytes()));
    parts.collect::<Vec<_>>().join("\\")
}

fn after(ring: &Ring, since: u64) -> Vec<EventView> {
    let since = ring.seen(since);
    ring.events
        .iter()
        .filter(|event| event.seq > since)
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use speedloader_fs::rel_path::RelPath;

    use super::*;

    /// Whoever removed many cold files filled the log, and pushed everything else out of it.
    #[test]
    fn what_anybody_can_cause_is_told_now_and_then() {
        let log = EventLog::default();
        for number in 0..10_000 {
            let who = format!("unlink by {}", number % 3);
            log.add_rarely(Level::Warning, "refused", "f", "refused", &who);
        }
        assert_eq!(log.since(0).events.len(), 3);
        for number in 0..10_000 {
            let who = format!("unlink by {number}");
            log.add_rarely(Level::Warning, "refused", "f", "refused", &who);
        }
        assert_eq!(log.since(0).events.len(), RARE_MAX + 1);
        for (told, _) in log.rare.lock().expect("whole").values_mut() {
            *told -= RARELY;
        }
        log.add_rarely(Level::Warning, "refused", "f", "refused", "unlink by 1");
        let events = log.since(0).events;
        let last = events.last().expect("told");
        assert!(last.text.ends_with("more like it before"), "{last:?}");
    }

    #[test]
    fn what_is_forgotten_is_counted() {
        let log = EventLog::default();
        for number in 0..EVENTS_MAX + 5 {
            log.add(Level::Info, "test", "x", number.to_string());
        }
        let all = log.since(0);
        assert_eq!((all.events.len(), all.lost), (EVENTS_MAX, 5));
        let last = all.events.last().expect("not empty").seq;
        assert!(log.since(last).events.is_empty());
        assert_eq!(log.since(last - 1).events.len(), 1);
        assert_eq!(log.wait_after(last - 2, Duration::ZERO).len(), 2);
    }

    /// Whoever followed the daemon before had heard a number that the new one had yet to come to.
    #[test]
    fn numbers_of_another_daemon_hide_nothing() {
        let log = EventLog::starting_at(1000);
        assert!(log.since(u64::MAX).events.is_empty());
        log.add(Level::Info, "test", "x", "started".to_owned());
        for since in [0, 7, 1000, 1002, u64::MAX] {
            let view = log.since(since);
            assert_eq!((view.events.len(), view.lost), (1, 0), "{since}");
            assert_eq!(log.wait_after(since, Duration::ZERO).len(), 1, "{since}");
        }
        let earlier = log.since(0).events[0].seq;
        let later = EventLog::default();
        later.add(Level::Info, "test", "x", "started".to_owned());
        assert!(later.since(0).events[0].seq > earlier);
        assert!(log.since(earlier).events.is_empty());
    }

    #[test]
    fn a_subject_is_escaped_once() {
        let log = EventLog::default();
        let path = RelPath::new("ünï\\\n\u{202e}".as_bytes()).expect("a path");
        log.add(Level::Info, "test", &path.to_string(), String::new());
        log.add(Level::Info, "test", "a\x1b", String::new());
        let subjects: Vec<String> = log.since(0).events.into_iter().map(|e| e.subject).collect();
        assert_eq!(subjects, ["ünï\\\\\\n\\xe2\\x80\\xae", "a\\x1b"]);
    }
}
