//! The HTTP door: the web page, the API below `/api/v1`, its streams, `/health`, `/readyz` and `/metrics`.
//!
//! It has threads of its own, bounded in number, and limits for connections, headers, bodies and times, so
//! that no client, however many or slow, holds up the mount or another door. Requests that a browser was
//! tricked into are refused ([`Guard`]); every change needs the [`Token`].

mod token;
mod guard;
mod routes;
mod answer;
mod openapi;
mod live;
mod api;
mod streams;
mod probes;
mod pages;
mod setup;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use crossbeam_channel::Sender;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tower_http::compression::CompressionLayer;

use super::Executor;
use crate::command::{Code, Message};
use crate::setup::Desk;

pub use guard::Guard;
pub use openapi::{document, routes_of_commands};
pub use pages::{ASSETS, Asset};
pub use routes::{Method, PREFIX, ROUTES, Route};
pub use token::{TOKEN_FILE, Token};

use api::Api;

/// What the server waits at most, when it ends, for answers that are being written.
const GRACE: Duration = Duration::from_secs(2);
/// Pause after an accept that failed because something (descriptors, memory) has run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Threads that read and write; commands have threads of their own.
const WORKERS: usize = 2;
/// Threads for what the streams show, for forecasts, and for the look whether the mount is seen.
const OTHER_THREADS: usize = 1 + api::FORECASTS_MAX + 1;
/// What the last answer of a connection whose time is over may still take.
const LAST_ANSWER: Duration = Duration::from_secs(30);
/// So many bytes of headers are read, the address among them: a name of 4096 characters may take 48 KiB there.
const HEADER_BYTES_MAX: usize = 64 << 10;
/// A client that takes none of what was sent for so long is given up, milliseconds.
const SEND_TIMEOUT_MS: u32 = 30_000;

/// What the door is like.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Names of this machine beside its addresses and `localhost`.
    pub hosts: Vec<String>,
    /// What a change must present.
    pub token: Token,
    /// So many may be connected at once; more are told so.
    pub connections_max: usize,
    /// So many of them, the last, are kept for programs that watch and for who has the token, and for one request
    /// each: whoever has an account here can connect as often as he likes.
    pub connections_reserved: usize,
    /// So many streams may be open: they have no end.
    pub streams_max: usize,
    /// A connection without a stream and without the token ends after this time, whatever it is at.
    pub connection_timeout: Duration,
    /// The same on one of the places that are kept.
    pub reserved_timeout: Duration,
    /// Larger bodies are refused, bytes.
    pub body_bytes_max: usize,
    /// Headers must be complete within this time; so long a connection may also be idle.
    pub header_timeout: Duration,
    /// A body must be complete within this time.
    pub body_timeout: Duration,
    /// So many commands are carried out at a time.
    pub commands_max: usize,
    /// So many of them may be such that wait for something.
    pub waiting_max: usize,
    /// Where the mount is, and the number of its device: readiness means that it is seen there.
    pub mount: Option<(PathBuf, u64)>,
}

impl HttpSettings {
    /// The usual limits.
    pub fn new(listen: SocketAddr, token: Token) -> Self {
        Self {
            listen,
            hosts: Vec::new(),
            token,
            connections_max: 512,
            connections_reserved: 64,
            streams_max: 256,
            connection_timeout: Duration::from_secs(120),
            reserved_timeout: Duration::from_secs(10),
            body_bytes_max: 256 << 10,
            header_timeout: Duration::from_secs(15),
            body_timeout: Duration::from_secs(15),
            commands_max: 8,
            waiting_max: 16,
            mount: None,
        }
    }
}

/// A door that is open; closes when it is dropped or [stopped](Self::stop).
pub struct HttpServer {
    runtime: Option<Runtime>,
    stop: watch::Sender<bool>,
    accepting: JoinHandle<()>,
    address: SocketAddr,
}

impl HttpServer {
    /// Takes the address of the door, before there is one.
    ///
    /// # Errors
    /// [`Code::Failed`], naming the address, if it cannot be listened on.
    pub fn listen(address: SocketAddr) -> Result<std::net::TcpListener, Message> {
        std::net::TcpListener::bind(address).map_err(|error| cannot_serve(address, &error))
    }

    /// Starts to serve `executor` where `settings` say.
    ///
    /// # Errors
    /// As [`HttpServer::listen`].
    pub fn start(settings: HttpSettings, executor: Arc<dyn Executor>) -> Result<Self, Message> {
        Self::start_at(Self::listen(settings.listen)?, settings, executor)
    }

    /// The same at an address that is taken already.
    ///
    /// # Errors
    /// [`Code::Failed`] if its threads cannot be started.
    pub fn start_at(
        listener: std::net::TcpListener,
        settings: HttpSettings,
        executor: Arc<dyn Executor>,
    ) -> Result<Self, Message> {
        Self::serve(listener, settings, |settings| router(settings, executor))
    }

    /// Serves the guide to a first configuration instead, and tells `written` when there is one.
    ///
    /// # Errors
    /// As [`HttpServer::start_at`].
    pub fn start_setup(
        listener: std::net::TcpListener,
        settings: HttpSettings,
        desk: Arc<Desk>,
        written: Sender<()>,
    ) -> Result<Self, Message> {
        Self::serve(listener, settings, |settings| {
            setup::router(settings, desk, written)
        })
    }

    fn serve(
        listener: std::net::TcpListener,
        settings: HttpSettings,
        router: impl FnOnce(&HttpSettings) -> Router,
    ) -> Result<Self, Message> {
        let cannot = |error: std::io::Error| cannot_serve(settings.listen, &error);
        listener.set_nonblocking(true).map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .max_blocking_threads(settings.commands_max + settings.waiting_max + OTHER_THREADS)
            .thread_name("http")
            .enable_all()
            .build()
            .map_err(cannot)?;
        let (stop, stopping) = watch::channel(false);
        let listener = {
            let _context = runtime.enter();
            TcpListener::from_std(listener).map_err(cannot)?
        };
        let settings = Arc::new(settings);
        let router = {
            let _context = runtime.enter();
            router(&settings)
        };
        let accepting = runtime.spawn(accept(listener, router, settings, stopping));
        Ok(Self {
            runtime: Some(runtime),
            stop,
            accepting,
            address,
        })
    }

    /// Where it listens: with port 0 in the settings the kernel has chosen one.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more requests and lets answers that are ready be written. Returns within seconds.
    pub fn stop(mut self) {
        self.finish();
    }

    fn finish(&mut self) {
        let Some(runtime) = self.runtime.take() else {
            return;
        };
        self.stop.send_replace(true);
        runtime.block_on(async {
            // Ends when every connection has; a time-out leaves them to the runtime's end.
            let _ = tokio::time::timeout(GRACE, &mut self.accepting).await;
        });
        runtime.shutdown_background();
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.finish();
    }
}

fn cannot_serve(address: SocketAddr, error: &std::io::Error) -> Message {
    let text = format!("the web page cannot be served on {address}: {error}");
    Message::new(Code::Failed, text)
        .with_hint("set http.listen to a free address, or http.enabled = false")
}

/// Everything that is served.
fn router(settings: &HttpSettings, executor: Arc<dyn Executor>) -> Router {
    let guard = Arc::new(Guard::new(settings.token.clone(), settings.hosts.clone()));
    let api = Arc::new(Api::new(settings, Arc::clone(&guard), executor));
    let mut router = Router::new();
    for route in ROUTES {
        router = router.route(
            &format!("{PREFIX}{}", route.path),
            api::method_router(route),
        );
    }
    let router = router
        .route(&format!("{PREFIX}/stream"), get(streams::stream))
        .route(&format!("{PREFIX}/events/stream"), get(streams::events))
        .route(&format!("{PREFIX}/proof"), get(api::proof))
        .route(&format!("{PREFIX}/openapi.json"), get(openapi::served))
        .route("/health", get(probes::health))
        .route("/readyz", get(probes::ready))
        .route("/metrics", get(probes::metrics))
        .fallback(pages::serve)
        .method_not_allowed_fallback(wrong_method)
        .with_state(api);
    guarded(router, guard)
}

/// What every request goes through.
fn guarded(router: Router, guard: Arc<Guard>) -> Router {
    router
        .layer(CompressionLayer::new())
        .layer(middleware::from_fn_with_state(guard, admit))
        .layer(middleware::map_response(protect))
}

async fn admit(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    if let Err((status, message)) = guard.admit(request.headers()) {
        return answer::error(status, &message);
    }
    if let Some(used) = request.extensions().get::<Arc<Use>>() {
        if guard.authorise(request.headers()).is_ok() {
            used.lasts();
        } else if used.is_reserved && !SMALL.contains(&request.uri().path()) {
            return answer::crowded();
        }
    }
    next.run(request).await
}

/// What is answered also to strangers when the door is nearly full: what watches, and whether this is the daemon.
const SMALL: &[&str] = &["/health", "/readyz", "/metrics", "/api/v1/proof"];

/// What a connection is used for, as far as it decides how long it may be.
#[derive(Default)]
struct Use {
    is_reserved: bool,
    lasts: AtomicBool,
}

impl Use {
    /// It has a stream, or the token.
    fn lasts(&self) {
        self.lasts.store(true, Ordering::Relaxed);
    }

    /// Returns when it has been used for long enough.
    async fn outlived(&self, limit: Duration) {
        tokio::time::sleep(limit).await;
        if self.lasts.load(Ordering::Relaxed) {
            std::future::pending().await
        }
    }
}

/// Headers that take from a browser whatever our page does not need.
const PROTECTION: &[(&str, &str)] = &[
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'",
    ),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    (
        "permissions-policy",
        "camera=(), geolocation=(), microphone=()",
    ),
];

async fn protect(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in PROTECTION {
        headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    // What the daemon says is true now only.
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

async fn accept(
    listener: TcpListener,
    router: Router,
    settings: Arc<HttpSettings>,
    mut stopping: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(settings.connections_max));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut stopping) => break,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            refuse(&stream);
            continue;
        };
        let used = Use {
            is_reserved: places.available_permits() < settings.connections_reserved,
            ..Use::default()
        };
        let (router, settings, stopping) =
            (router.clone(), Arc::clone(&settings), stopping.clone());
        tokio::spawn(async move {
            serve(stream, router, &settings, used, stopping).await;
            drop(place);
        });
    }
    drop(listener);
    // All places free again means that every connection has ended.
    let all = u32::try_from(settings.connections_max).unwrap_or(u32::MAX);
    let _ = places.acquire_many(all).await;
}

/// The answer fits the socket's buffer; a client that does not take it is not waited for.
fn refuse(stream: &TcpStream) {
    let _ = stream.try_write(
        b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    );
}

async fn serve(
    stream: TcpStream,
    router: Router,
    settings: &HttpSettings,
    used: Use,
    mut stopping: watch::Receiver<bool>,
) {
    // Without these it works too, only less well.
    let _ = stream.set_nodelay(true);
    let _ = rustix::net::sockopt::set_tcp_user_timeout(&stream, SEND_TIMEOUT_MS);
    let limit = match used.is_reserved {
        true => settings.reserved_timeout,
        false => settings.connection_timeout,
    };
    let used = Arc::new(used);
    let asked = Arc::clone(&used);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(Arc::clone(&asked));
        TowerToHyperService::new(router.clone()).call(request)
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(!used.is_reserved)
        .header_read_timeout(settings.header_timeout.min(limit))
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let patience = tokio::select! {
        // A client that breaks off is its own affair.
        _ = connection.as_mut() => return,
        () = stopped(&mut stopping) => GRACE,
        () = used.outlived(limit) => LAST_ANSWER.min(limit),
    };
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(patience, connection).await;
}

/// Returns when the server stops.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // An error means that the server is gone altogether.
    let _ = stopping.wait_for(|stop| *stop).await;
}

/// What an address is not called with; which methods it is called with is in the header `allow`.
async fn wrong_method() -> Response {
    let message = Message::new(Code::BadRequest, "this address has another method");
    answer::error(StatusCode::METHOD_NOT_ALLOWED, &message)
}

/// What no route has.
fn not_found() -> Response {
    let message = Message::new(Code::NoMatch, "there is nothing at this address");
    answer::error(StatusCode::NOT_FOUND, &message).into_response()
}
