//! The streams that pages and programs hold open. One that is too slow for its stream is told to ask for
//! everything again; one that takes nothing at all is given up.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use tokio::sync::{OwnedSemaphorePermit, broadcast, mpsc};
use tokio::time::timeout;

use super::api::{Api, in_query};
use super::live::{HELLO, Sent, event_message};
use super::routes::Read;
use super::{Use, answer};
use crate::command::{Answer, Command};
use crate::view::View;

/// Messages on their way to one page.
const UNSENT_MAX: usize = 16;
/// A page that takes nothing for so long is given up.
const SEND_PATIENCE: Duration = Duration::from_secs(30);
/// Something is sent at least so often, so that both sides see a broken connection.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// `GET /api/v1/stream`: everything that changes.
pub(super) async fn stream(State(api): State<Arc<Api>>, request: Request) -> Response {
    let Some(place) = place(&api, &request) else {
        return answer::crowded();
    };
    let receiver = api.live.subscribe().await;
    // The page asks for all it shows when it hears this: nothing that changes later is missed.
    let hello = Sent {
        bytes: Bytes::from_static(b"retry: 2000\nevent: hello\ndata: {}\n\n"),
        seq: None,
    };
    respond(place, vec![hello], receiver, |_| true)
}

/// `GET /api/v1/events/stream`: events only, those after `since` (or `Last-Event-ID`) first.
pub(super) async fn events(State(api): State<Arc<Api>>, request: Request) -> Response {
    let query = request.uri().query().unwrap_or_default();
    let since = match in_query(query, "since", Read::Number) {
        Ok(since) => since
            .and_then(|since| since.as_u64())
            .or_else(|| last_event(request.headers()))
            .unwrap_or(0),
        Err((status, message)) => return answer::error(status, &message),
    };
    let Some(place) = place(&api, &request) else {
        return answer::crowded();
    };
    let receiver = api.live.subscribe().await;
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
    respond(place, first, receiver, move |sent: &Sent| {
        sent.seq.is_some_and(|seq| seq > seen)
    })
}

fn last_event(headers: &HeaderMap) -> Option<u64> {
    headers.get("last-event-id")?.to_str().ok()?.parse().ok()
}

/// A place for one more stream: they have no end, so they must not take what others need.
fn place(api: &Api, request: &Request) -> Option<OwnedSemaphorePermit> {
    let place = Arc::clone(&api.streams).try_acquire_owned().ok()?;
    if let Some(used) = request.extensions().get::<Arc<Use>>() {
        used.lasts();
    }
    Some(place)
}

fn respond(
    place: OwnedSemaphorePermit,
    first: Vec<Sent>,
    receiver: broadcast::Receiver<Sent>,
    wanted: impl Fn(&Sent) -> bool + Send + 'static,
) -> Response {
    let (sender, stream) = mpsc::channel(UNSENT_MAX);
    tokio::spawn(async move {
        let _place = place;
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
            Ok(Err(RecvError::Lagged(_))) => Bytes::from_static(HELLO),
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
