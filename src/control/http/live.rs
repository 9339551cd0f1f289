//! Live updates as server-sent events. However many pages are open, the daemon is asked once a period,
//! and everyone is sent what has changed: never a list again for one changed row. Nobody watches: nothing is
//! asked.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use serde::Serialize;
use tokio::sync::{Notify, broadcast, watch as watched};
use tokio::time::timeout;

use crate::command::{Answer, Command};
use crate::control::control_files::now_ms;
use crate::control::{Door, Executor, Peer};
use crate::view::{EventView, ModelView, StatusView, TransferView, View};

/// How often the daemon is asked while somebody watches.
const PERIOD: Duration = Duration::from_millis(500);
/// What is never still (the time since the start, memory that others take, heat) is sent once in so many periods, what
/// something has changed at once.
const PERIODS_OF_CALM: u32 = 4;
/// Messages that a slow page may be behind.
const BEHIND_MAX: usize = 256;

/// How long who watches first waits until it was looked once.
const LOOK_PATIENCE: Duration = Duration::from_secs(5);

/// All is to be asked for again.
pub(super) const HELLO: &[u8] = b"event: hello\ndata: {}\n\n";

/// A message of the stream.
#[derive(Clone)]
pub(super) struct Sent {
    pub(super) bytes: Bytes,
    /// The number of the event, if it is one.
    pub(super) seq: Option<u64>,
}

/// What all open streams share.
pub(super) struct Live {
    sender: broadcast::Sender<Sent>,
    /// Whether it was looked since somebody watches: what happens from then on is sent.
    looked: watched::Sender<bool>,
    watched: Notify,
    hurry: Notify,
}

impl Live {
    /// Starts to look whenever somebody watches; called within the runtime.
    pub(super) fn start(executor: Arc<dyn Executor>) -> Arc<Live> {
        let (sender, _) = broadcast::channel(BEHIND_MAX);
        let live = Arc::new(Live {
            sender,
            looked: watched::Sender::new(false),
            watched: Notify::new(),
            hurry: Notify::new(),
        });
        tokio::spawn(watch(Arc::downgrade(&live), executor));
        live
    }

    /// Something was changed: whoever watches wants to see it now.
    pub(super) fn hurry(&self) {
        self.hurry.notify_one();
    }

    /// What is sent from now on: all that happens after this has returned.
    pub(super) async fn subscribe(&self) -> broadcast::Receiver<Sent> {
        let mut looked = self.looked.subscribe();
        let receiver = {
            // Not between the question whether anybody watches and what follows from it.
            let _held = self.looked.borrow();
            self.sender.subscribe()
        };
        self.watched.notify_one();
        // A daemon that answers nothing is not waited for: its stream says so by its silence.
        let _ = timeout(LOOK_PATIENCE, looked.wait_for(|looked| *looked)).await;
        receiver
    }

    /// Begins anew if nobody watches.
    fn rest(&self) -> bool {
        self.looked.send_if_modified(|looked| {
            let nobody = self.sender.receiver_count() == 0;
            *looked &= !nobody;
            nobody
        })
    }
}

async fn watch(live: std::sync::Weak<Live>, executor: Arc<dyn Executor>) {
    let mut picture = Picture::default();
    let mut looks = 0_u32;
    loop {
        let Some(now) = live.upgrade() else { return };
        if now.rest() {
            picture = Picture::default();
            now.watched.notified().await;
        }
        let executor = Arc::clone(&executor);
        let looked = tokio::task::spawn_blocking(move || {
            let messages = picture.look(executor.as_ref());
            (picture, messages)
        });
        let (seen, mut messages) = looked.await.unwrap_or_else(|error| {
            tracing::error!(%error, "a look for the live updates ended in a fault of the program");
            let anew = Sent {
                bytes: Bytes::from_static(HELLO),
                seq: None,
            };
            (Picture::default(), vec![anew])
        });
        picture = seen;
        // From here, not from where it is sent on: a daemon that answers nothing is silent.
        if looks.is_multiple_of(PERIODS_OF_CALM) {
            messages.push(message("beat", &Beat { now_ms: now_ms() }, None));
        }
        looks = looks.wrapping_add(1);
        for message in messages {
            // Whoever watched may have left.
            let _ = now.sender.send(message);
        }
        now.looked
            .send_if_modified(|looked| !std::mem::replace(looked, true));
        // In time or not is the same: it is looked again.
        let _ = timeout(PERIOD, now.hurry.notified()).await;
    }
}

/// That the daemon is there, and what time it is where times come from.
#[derive(Serialize)]
struct Beat {
    now_ms: u64,
}

/// What was seen last.
#[derive(Default)]
struct Picture {
    begun: bool,
    periods: u32,
    seq: u64,
    status: Option<StatusView>,
    models: HashMap<String, ModelView>,
    transfers: HashMap<u64, TransferView>,
}

/// Rows that are new or differ, and keys of rows that are gone.
#[derive(Serialize)]
struct Changes<R, K> {
    changed: Vec<R>,
    gone: Vec<K>,
}

impl Picture {
    fn look(&mut self, executor: &dyn Executor) -> Vec<Sent> {
        let ask = |command| {
            let peer = Peer::new(Door::Http);
            executor.execute(&peer, command, &mut |_| ())
        };
        let mut messages = Vec::new();
        let is_due = self.periods.is_multiple_of(PERIODS_OF_CALM);
        self.periods += 1;
        if let Answer::Ok(View::Status(status)) = ask(Command::Status {}) {
            let still = Some(still(&status));
            if is_due || still != self.status {
                messages.push(message("status", &status, None));
                self.status = still;
            }
        }
        let (since, first) = (self.seq, !std::mem::replace(&mut self.begun, true));
        let mut happened = false;
        if let Answer::Ok(View::Events(view)) = ask(Command::Events {
            since,
            follow: false,
        }) {
            self.seq = view.events.last().map_or(since, |event| event.seq);
            // What happened before anybody watched is asked for, not sent.
            for event in view.events.iter().filter(|_| !first) {
                happened = true;
                messages.push(event_message(event));
            }
        }
        if let Answer::Ok(View::Transfers(view)) = ask(Command::Transfers {}) {
            let changes = differences(&mut self.transfers, view.transfers, |row| row.id);
            happened |= !changes.changed.is_empty();
            messages.extend(of_changes("transfers", &changes));
        }
        if (is_due || happened)
            && let Answer::Ok(View::Models(view)) = ask(Command::Models { filter: None })
        {
            let changes = differences(&mut self.models, view.models, |row| row.name.clone());
            messages.extend(of_changes("models", &changes).filter(|_| !first));
        }
        messages
    }
}

/// A status without what is never still.
fn still(status: &StatusView) -> StatusView {
    let mut still = status.clone();
    still.uptime_s = 0;
    still.daemon_rss_bytes = 0;
    still.memory.available_bytes = 0;
    still
}

fn differences<K: Hash + Eq + Clone, R: PartialEq + Clone>(
    known: &mut HashMap<K, R>,
    rows: Vec<R>,
    key: impl Fn(&R) -> K,
) -> Changes<R, K> {
    let mut before = std::mem::take(known);
    let mut changed = Vec::new();
    for row in rows {
        let id = key(&row);
        if before.remove(&id).as_ref() != Some(&row) {
            changed.push(row.clone());
        }
        known.insert(id, row);
    }
    let gone = before.into_keys().collect();
    Changes { changed, gone }
}

fn of_changes<R: Serialize, K: Serialize>(kind: &str, changes: &Changes<R, K>) -> Option<Sent> {
    let any = !changes.changed.is_empty() || !changes.gone.is_empty();
    any.then(|| message(kind, changes, None))
}

pub(super) fn event_message(event: &EventView) -> Sent {
    message("event", event, Some(event.seq))
}

fn message(kind: &str, data: &impl Serialize, seq: Option<u64>) -> Sent {
    // JSON has no line breaks outside of strings, and none unescaped inside.
    let data = serde_json::to_string(data)
        .expect("views have string keys and finite numbers only, all that JSON asks for");
    let id = seq.map_or_else(String::new, |seq| format!("id: {seq}\n"));
    Sent {
        bytes: Bytes::from(format!("event: {kind}\n{id}data: {data}\n\n")),
        seq,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Has told one event when it is asked first.
    #[derive(Default)]
    struct Telling(std::sync::atomic::AtomicU64);

    impl Executor for Telling {
        fn execute(&self, _: &Peer, command: Command, _: &mut dyn FnMut(View)) -> Answer {
            let last = self.0.load(std::sync::atomic::Ordering::SeqCst);
            let event = |seq| EventView {
                seq,
                ..EventView::default()
            };
            Answer::Ok(match command {
                Command::Events { since, .. } => View::Events(crate::view::EventsView {
                    events: (since + 1..=last).map(event).collect(),
                    lost: 0,
                }),
                _ => View::Status(Box::default()),
            })
        }
    }

    /// What happened before the first look was taken for what had happened before anybody watched.
    #[tokio::test]
    async fn who_watches_first_is_told_what_happens_next() {
        let telling = Arc::new(Telling::default());
        let live = Live::start(Arc::clone(&telling) as Arc<dyn Executor>);
        for number in 1..=3 {
            let mut receiver = live.subscribe().await;
            telling.0.store(number, std::sync::atomic::Ordering::SeqCst);
            let heard = timeout(Duration::from_secs(20), async {
                loop {
                    if let Some(seq) = receiver.recv().await.expect("a message").seq {
                        return seq;
                    }
                }
            });
            assert_eq!(heard.await, Ok(number));
        }
    }

    /// Panics when it is asked first.
    #[derive(Default)]
    struct Stumbling(std::sync::atomic::AtomicBool);

    impl Executor for Stumbling {
        fn execute(&self, _: &Peer, _: Command, _: &mut dyn FnMut(View)) -> Answer {
            let before = self.0.swap(true, std::sync::atomic::Ordering::SeqCst);
            assert!(before, "as the test wants it");
            Answer::Ok(View::Status(Box::default()))
        }
    }

    /// It ended all streams until the daemon was started again.
    #[test]
    fn a_look_that_ends_in_a_fault_is_followed_by_another() {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().expect("a runtime");
        let heard = runtime.block_on(async {
            let live = Live::start(Arc::new(Stumbling::default()));
            let mut receiver = live.subscribe().await;
            let heard = async {
                let mut all = String::new();
                while !(all.contains("event: status") && all.contains("event: beat")) {
                    let sent = receiver.recv().await.expect("a message");
                    all.push_str(std::str::from_utf8(&sent.bytes).expect("UTF-8"));
                }
                all
            };
            timeout(Duration::from_secs(20), heard).await
        });
        let heard = heard.expect("in time");
        assert!(heard.starts_with("event: hello\n"), "{heard}");
    }

    /// A status of the number of looks taken, all else still.
    #[derive(Default)]
    struct Ageing(std::sync::atomic::AtomicU64, std::sync::atomic::AtomicU64);

    impl Executor for Ageing {
        fn execute(&self, _: &Peer, command: Command, _: &mut dyn FnMut(View)) -> Answer {
            let relaxed = std::sync::atomic::Ordering::Relaxed;
            let mut status = StatusView::default();
            if command == (Command::Status {}) {
                status.uptime_s = self.0.fetch_add(1, relaxed);
                status.totals.opens = self.1.load(relaxed);
            }
            Answer::Ok(View::Status(Box::new(status)))
        }
    }

    #[test]
    fn a_status_that_only_ages_is_sent_now_and_then() {
        let (ageing, mut picture) = (Ageing::default(), Picture::default());
        let mut sent = || picture.look(&ageing).len();
        let calm: Vec<usize> = (0..8).map(|_| sent()).collect();
        assert_eq!(calm, [1, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(sent(), 1);
        ageing.1.store(1, std::sync::atomic::Ordering::Relaxed);
        assert_eq!((sent(), sent()), (1, 0), "a file was opened");
    }

    #[test]
    fn only_what_differs_is_sent() {
        let row = |id: u64, done: u64| TransferView {
            id,
            done_bytes: done,
            ..TransferView::default()
        };
        let mut known = HashMap::new();
        let first = differences(&mut known, vec![row(1, 0), row(2, 0)], |row| row.id);
        assert_eq!((first.changed.len(), first.gone.len()), (2, 0));
        let second = differences(&mut known, vec![row(2, 5)], |row| row.id);
        assert_eq!(second.changed, [row(2, 5)]);
        assert_eq!(second.gone, [1]);
        let third = differences(&mut known, vec![row(2, 5)], |row| row.id);
        assert!(of_changes("transfers", &third).is_none());
    }

    #[test]
    fn a_message_cannot_be_broken_by_what_it_carries() {
        let event = EventView {
            seq: 7,
            subject: "a\n\nevent: forged\ndata: x".to_owned(),
            ..EventView::default()
        };
        let sent = event_message(&event);
        let text = std::str::from_utf8(&sent.bytes).expect("UTF-8");
        assert_eq!(text.lines().count(), 4, "{text}");
        assert!(text.starts_with("event: event\nid: 7\ndata: {"));
        assert!(text.ends_with("}\n\n"));
    }
}
