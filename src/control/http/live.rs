//! Live updates as server-sent events. However many pages are open, the daemon is asked once a period,
//! and everyone is sent what has changed: never a list again for one changed row. Nobody watches: nothing is
//! asked. A page that is too slow for its stream is told to ask for everything again.

use std::collections::HashMap;
use std::convert::Infallible;
use std::hash::Hash;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use serde::Serialize;
use tokio::sync::{Notify, broadcast, mpsc};
use tokio::time::timeout;

use super::answer;
use super::api::{Api, number_in_query};
use crate::command::{Answer, Command};
use crate::control::{Door, Executor, Peer};
use crate::view::{EventView, ModelView, TransferView, View};

/// How often the daemon is asked while somebody watches.
const PERIOD: Duration = Duration::from_millis(500);
/// Models change by what the events tell; all else (heat, open files) is looked at once in so many periods.
const PERIODS_BETWEEN_MODELS: u32 = 4;
/// Messages that a slow page may be behind.
const BEHIND_MAX: usize = 256;
/// Messages on their way to one page.
const UNSENT_MAX: usize = 16;
/// A page that takes nothing for so long is given up.
const SEND_PATIENCE: Duration = Duration::from_secs(30);
/// Something is sent at least so often, so that both sides see a broken connection.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// A message of the stream.
#[derive(Clone)]
struct Sent {
    bytes: Bytes,
    /// The number of the event, if it is one.
    seq: Option<u64>,
}

/// What all open streams share.
pub(super) struct Live {
    sender: broadcast::Sender<Sent>,
    watched: Notify,
}

impl Live {
    /// Starts to look whenever somebody watches; called within the runtime.
    pub(super) fn start(executor: Arc<dyn Executor>) -> Arc<Live> {
        let (sender, _) = broadcast::channel(BEHIND_MAX);
        let live = Arc::new(Live {
            sender,
            watched: Notify::new(),
        });
        tokio::spawn(watch(Arc::downgrade(&live), executor));
        live
    }

    fn subscribe(&self) -> broadcast::Receiver<Sent> {
        let receiver = self.sender.subscribe();
        self.watched.notify_one();
        receiver
    }
}

async fn watch(live: std::sync::Weak<Live>, executor: Arc<dyn Executor>) {
    let mut picture = Picture::default();
    loop {
        let Some(now) = live.upgrade() else { return };
        if now.sender.receiver_count() == 0 {
            picture = Picture::default();
            now.watched.notified().await;
        }
        let executor = Arc::clone(&executor);
        let looked = tokio::task::spawn_blocking(move || {
            let messages = picture.look(executor.as_ref());
            (picture, messages)
        });
        let Ok((seen, messages)) = looked.await else {
            return;
        };
        picture = seen;
        for message in messages {
            // Whoever watched may have left.
            let _ = now.sender.send(message);
        }
        drop(now);
        tokio::time::sleep(PERIOD).await;
    }
}

/// What was seen last.
#[derive(Default)]
struct Picture {
    begun: bool,
    periods: u32,
    seq: u64,
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
        if let Answer::Ok(View::Status(status)) = ask(Command::Status {}) {
            messages.push(message("status", &status, None));
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
        self.periods += 1;
        if first || happened || self.periods.is_multiple_of(PERIODS_BETWEEN_MODELS) {
            if let Answer::Ok(View::Models(view)) = ask(Command::Models { filter: None }) {
                let changes = differences(&mut self.models, view.models, |row| row.name.clone());
                messages.extend(of_changes("models", &changes).filter(|_| !first));
            }
        }
        messages
    }
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

fn event_message(event: &EventView) -> Sent {
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

/// `GET /api/v1/stream`: everything that changes.
pub(super) async fn stream(State(api): State<Arc<Api>>) -> Response {
    let receiver = api.live.subscribe();
    // The page asks for all it shows when it hears this: nothing that changes later is missed.
    let hello = Sent {
        bytes: Bytes::from_static(b"retry: 2000\nevent: hello\ndata: {}\n\n"),
        seq: None,
    };
    respond(vec![hello], receiver, |_| true)
}

/// `GET /api/v1/events/stream`: events only, those after `since` (or `Last-Event-ID`) first.
pub(super) async fn events(State(api): State<Arc<Api>>, request: Request) -> Response {
    let query = request.uri().query().unwrap_or_default();
    let since = match number_in_query(query, "since") {
        Ok(since) => since.or_else(|| last_event(request.headers())).unwrap_or(0),
        Err((status, message)) => return answer::error(status, &message),
    };
    let receiver = api.live.subscribe();
    let known = match api
        .execute(Command::Events {
            since,
            follow: false,
        })
        .await
    {
        Answer::Ok(View::Events(view)) => view.events,
        other => return answer::of(other),
    };
    let seen = known.last().map_or(since, |event| event.seq);
    let first = known.iter().map(event_message).collect();
    respond(first, receiver, move |sent: &Sent| {
        sent.seq.is_some_and(|seq| seq > seen)
    })
}

fn last_event(headers: &HeaderMap) -> Option<u64> {
    headers.get("last-event-id")?.to_str().ok()?.parse().ok()
}

fn respond(
    first: Vec<Sent>,
    receiver: broadcast::Receiver<Sent>,
    wanted: impl Fn(&Sent) -> bool + Send + 'static,
) -> Response {
    let (sender, stream) = mpsc::channel(UNSENT_MAX);
    tokio::spawn(async move {
        for sent in first {
            if !give(&sender, sent.bytes).await {
                return;
            }
        }
        forward(receiver, &sender, wanted).await;
    });
    let headers = [(header::CONTENT_TYPE, "text/event-stream")];
    (headers, Body::new(Stream(stream))).into_response()
}

async fn forward(
    mut receiver: broadcast::Receiver<Sent>,
    sender: &mpsc::Sender<Bytes>,
    wanted: impl Fn(&Sent) -> bool,
) {
    use broadcast::error::RecvError;
    loop {
        let received = tokio::select! {
            received = timeout(KEEP_ALIVE, receiver.recv()) => received,
            () = sender.closed() => return,
        };
        let bytes = match received {
            Ok(Ok(sent)) if wanted(&sent) => sent.bytes,
            Ok(Ok(_)) => continue,
            Ok(Err(RecvError::Lagged(_))) => Bytes::from_static(b"event: hello\ndata: {}\n\n"),
            Ok(Err(RecvError::Closed)) => return,
            Err(_) => Bytes::from_static(b": still here\n\n"),
        };
        if !give(sender, bytes).await {
            return;
        }
    }
}

/// False if the page is gone or takes nothing.
async fn give(sender: &mpsc::Sender<Bytes>, bytes: Bytes) -> bool {
    matches!(timeout(SEND_PATIENCE, sender.send(bytes)).await, Ok(Ok(())))
}

/// A body that is what comes through a channel.
struct Stream(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let received = self.0.poll_recv(context);
        received.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
