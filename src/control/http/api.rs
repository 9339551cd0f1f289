//! From a request to a command and back. One handler serves every row of the table of routes.

use std::future::poll_fn;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequestParts, RawPathParams, Request, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::Response;
use axum::routing::{MethodRouter, delete, get, post};
use hyper::body::Body as _;
use serde_json::{Map, Value};
use tokio::sync::Semaphore;

use super::live::Live;
use super::routes::{Method, Parameter, Read, Route};
use super::{Guard, HttpSettings, answer};
use crate::command::{Answer, Code, Command, Message};
use crate::control::{Door, Executor, Gone, Peer};

/// How long a request waits for its turn.
const TURN_PATIENCE: Duration = Duration::from_secs(10);

/// So many forecasts are made at a time: the one command that is long in coming and needs no token.
pub(super) const FORECASTS_MAX: usize = 2;

/// What the handlers share.
pub(super) struct Api {
    executor: Arc<dyn Executor>,
    pub(super) guard: Arc<Guard>,
    pub(super) live: Arc<Live>,
    quick: Semaphore,
    waiting: Semaphore,
    forecasts: Semaphore,
    pub(super) streams: Arc<Semaphore>,
    /// Where the mount should be seen, and its device.
    pub(super) mount: Option<(PathBuf, u64)>,
    /// Whoever looks there has it: a look may hang.
    pub(super) look: Arc<Semaphore>,
    body_bytes_max: usize,
    body_timeout: Duration,
}

impl Api {
    /// Called within the runtime.
    pub(super) fn new(
        settings: &HttpSettings,
        guard: Arc<Guard>,
        executor: Arc<dyn Executor>,
    ) -> Api {
        Api {
            live: Live::start(Arc::clone(&executor)),
            executor,
            guard,
            quick: Semaphore::new(settings.commands_max),
            waiting: Semaphore::new(settings.waiting_max),
            forecasts: Semaphore::new(FORECASTS_MAX),
            streams: Arc::new(Semaphore::new(settings.streams_max)),
            mount: settings.mount.clone(),
            look: Arc::new(Semaphore::new(1)),
            body_bytes_max: settings.body_bytes_max,
            body_timeout: settings.body_timeout,
        }
    }

    /// Has a command carried out on a thread of its own, when there is one.
    pub(super) async fn execute(&self, command: Command) -> Answer {
        let places = match &command {
            Command::Forecast {} => &self.forecasts,
            command if command.may_wait() => &self.waiting,
            _ => &self.quick,
        };
        let Ok(Ok(_place)) = tokio::time::timeout(TURN_PATIENCE, places.acquire()).await else {
            let text = "too many requests are being carried out; try again in a moment";
            return Answer::Error(Message::new(Code::NotRunning, text));
        };
        let peer = Peer::new(Door::Http);
        // Dropped with this future when the client leaves.
        let _leaving = Leaving(peer.gone());
        let is_change = command.is_change();
        if is_change {
            tracing::info!(?command, "asked over HTTP");
        }
        let executor = Arc::clone(&self.executor);
        let task =
            tokio::task::spawn_blocking(move || executor.execute(&peer, command, &mut |_| ()));
        let answer = task.await.unwrap_or_else(|_| {
            let text = "the command ended in a fault of the program; the daemon's log has more";
            Answer::Error(Message::new(Code::Internal, text))
        });
        if is_change {
            self.live.hurry();
        }
        answer
    }
}

/// Tells a waiting command that nobody hears its answer any more.
struct Leaving(Gone);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.set();
    }
}

/// What serves a route.
pub(super) fn method_router(route: &'static Route) -> MethodRouter<Arc<Api>> {
    let handler = move |State(api): State<Arc<Api>>, request: Request| async move {
        handle(route, &api, request).await
    };
    match route.method {
        Method::Get => get(handler),
        Method::Post => post(handler),
        Method::Delete => delete(handler),
    }
}

async fn handle(route: &Route, api: &Api, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    if route.needs_token
        && let Err((status, message)) = api.guard.authorise(&parts.headers)
    {
        return answer::error(status, &message);
    }
    match command_of(route, api, &mut parts, body).await {
        Ok(command) => answer::of(api.execute(command).await),
        Err((status, message)) => answer::error(status, &message),
    }
}

/// A status, and why.
pub(super) type Refused = (StatusCode, Message);

pub(super) fn bad(text: impl Into<String>) -> Refused {
    (
        StatusCode::BAD_REQUEST,
        Message::new(Code::BadRequest, text),
    )
}

/// The fields of the command, from wherever the route has them.
async fn command_of(
    route: &Route,
    api: &Api,
    parts: &mut Parts,
    body: Body,
) -> Result<Command, Refused> {
    let mut fields = match route.method {
        Method::Post => body_of(api.body_bytes_max, api.body_timeout, parts, body).await?,
        Method::Get | Method::Delete => Map::new(),
    };
    if fields.contains_key("do") {
        return Err(bad(
            "`do` is no field of the body; the address says what to do",
        ));
    }
    let in_path = RawPathParams::from_request_parts(parts, &())
        .await
        .map_err(|_| bad("the address is not UTF-8"))?;
    for (name, text) in &in_path {
        add(&mut fields, route.in_path, name, text)?;
    }
    for (name, text) in pairs(parts.uri.query().unwrap_or_default())? {
        add(&mut fields, route.in_query, &name, &text)?;
    }
    fields.insert("do".to_owned(), Value::from(route.command));
    let command: Command =
        serde_json::from_value(Value::Object(fields)).map_err(|error| bad(error.to_string()))?;
    command
        .check()
        .map_err(|message| (answer::status_of(message.code), message))?;
    Ok(command)
}

fn add(
    fields: &mut Map<String, Value>,
    known: &[Parameter],
    name: &str,
    text: &str,
) -> Result<(), Refused> {
    let Some(parameter) = known.iter().find(|parameter| parameter.name == name) else {
        let name: String = name.chars().take(64).flat_map(char::escape_debug).collect();
        return Err(bad(format!("`{name}` is no parameter of this address")));
    };
    let value = match parameter.read {
        Read::Text => Value::from(text),
        Read::Texts(field) => {
            let list = fields
                .entry(field)
                .or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(texts) = list {
                texts.push(Value::from(text));
            }
            return Ok(());
        }
        Read::Number => {
            let number: u64 = text
                .parse()
                .map_err(|_| bad(format!("`{name}` is not a whole number")))?;
            Value::from(number)
        }
    };
    match fields.insert(name.to_owned(), value) {
        None => Ok(()),
        Some(_) => Err(bad(format!("`{name}` is given twice"))),
    }
}

/// A body that is a JSON object, or nothing, within limits.
pub(super) async fn body_of(
    bytes_max: usize,
    timeout: Duration,
    parts: &Parts,
    body: Body,
) -> Result<Map<String, Value>, Refused> {
    let too_large = || {
        let text = format!("the body is larger than {bytes_max} bytes");
        (
            StatusCode::PAYLOAD_TOO_LARGE,
            Message::new(Code::BadRequest, text),
        )
    };
    let bytes = match tokio::time::timeout(timeout, read(body, bytes_max)).await {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(Unread::TooLarge)) => return Err(too_large()),
        Ok(Err(Unread::Broken)) => {
            return Err(bad("the body is cut short, or its chunks are wrong"));
        }
        Err(_) => {
            let message = Message::new(Code::TimedOut, "the body was not complete in time");
            return Err((StatusCode::REQUEST_TIMEOUT, message));
        }
    };
    if bytes.is_empty() {
        return Ok(Map::new());
    }
    // A form of another page cannot send this type without asking first.
    let is_json = parts
        .headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|value| value.trim().eq_ignore_ascii_case("application/json"));
    if !is_json {
        let message = Message::new(Code::BadRequest, "the body's type must be application/json");
        return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    serde_json::from_slice(&bytes)
        .map_err(|error| bad(format!("the body is no JSON object: {error}")))
}

/// Why a body could not be read.
enum Unread {
    TooLarge,
    Broken,
}

async fn read(mut body: Body, bytes_max: usize) -> Result<Vec<u8>, Unread> {
    let claimed = usize::try_from(body.size_hint().lower());
    if claimed.map_or(true, |bytes| bytes > bytes_max) {
        return Err(Unread::TooLarge);
    }
    let mut bytes = Vec::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let frame = frame.map_err(|_| Unread::Broken)?;
        // What follows the last chunk is nothing that we read.
        let data = frame.into_data().unwrap_or_default();
        if data.len() > bytes_max - bytes.len() {
            return Err(Unread::TooLarge);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

/// The pairs of a query string, decoded.
fn pairs(query: &str) -> Result<Vec<(String, String)>, Refused> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(name)?, decode(value)?))
        })
        .collect()
}

fn decode(text: &str) -> Result<String, Refused> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next(), rest.next()];
                let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
                match digits.map(digit) {
                    [Some(high), Some(low)] => u8::try_from(high * 16 + low).unwrap_or_default(),
                    _ => return Err(bad("the query has a % without two hex digits after it")),
                }
            }
            other => other,
        });
    }
    String::from_utf8(bytes).map_err(|_| bad("the query is not UTF-8"))
}

/// The one parameter of an address that is no command.
pub(super) fn in_query(
    query: &str,
    name: &'static str,
    read: Read,
) -> Result<Option<Value>, Refused> {
    let mut found = Map::new();
    let known = [Parameter {
        name,
        read,
        optional: true,
    }];
    for (name, text) in pairs(query)? {
        add(&mut found, &known, &name, &text)?;
    }
    Ok(found.remove(name))
}

/// `GET /api/v1/proof`.
pub(super) async fn proof(State(api): State<Arc<Api>>, request: Request) -> Response {
    prove(&api.guard, &request)
}

/// Shows that the door knows the token, before a page sends it.
pub(super) fn prove(guard: &Guard, request: &Request) -> Response {
    let query = request.uri().query().unwrap_or_default();
    let proved = in_query(query, "nonce", Read::Text).and_then(|nonce| {
        let nonce = nonce.as_ref().and_then(Value::as_str).unwrap_or_default();
        guard.prove(nonce)
    });
    match proved {
        Ok(proof) => {
            let shown = serde_json::json!({ "proof": proof, "instance": guard.instance() });
            answer::json(StatusCode::OK, shown.to_string())
        }
        Err((status, message)) => answer::error(status, &message),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn queries_are_decoded() {
        let decoded = pairs("name=a%20b+c%2Fd&x&&y=1%3d2").expect("well-formed");
        let expected = [("name", "a b c/d"), ("x", ""), ("y", "1=2")];
        let expected: Vec<_> = expected.map(|(a, b)| (a.to_owned(), b.to_owned())).to_vec();
        assert_eq!(decoded, expected);
        for wrong in ["a=%", "a=%4", "a=%zz", "a=%ff"] {
            assert!(pairs(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_parameter_that_may_be_repeated_is_a_list() {
        let known = [Parameter {
            name: "name",
            read: Read::Texts("names"),
            optional: true,
        }];
        let mut fields = Map::new();
        for text in ["a", "b,c", "a"] {
            add(&mut fields, &known, "name", text).expect("it is known");
        }
        assert_eq!(
            Value::Object(fields),
            serde_json::json!({"names": ["a", "b,c", "a"]})
        );
    }

    proptest! {
        #[test]
        fn no_query_panics(query in "\\PC{0,64}", near in "([a%=&+0-9f]{0,3}){0,16}") {
            let _ = pairs(&query);
            let _ = pairs(&near);
        }
    }
}
