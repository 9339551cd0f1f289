//! The Unix socket: newline-delimited JSON, one [`Request`](crate::command::Request) a line, answered
//! by progress frames and one answer ([`Response`](crate::command::Response)). Connections, lines and
//! times are limited, and each command runs on a thread of its own, so that no client, however slow or
//! hostile, holds up another or the daemon. Who may connect is the socket's mode, by default 0660: owner and group.

mod request;
mod connection;
mod listen;
mod places;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Door, Executor, Peer};
use crate::command::{Answer, Code, Message};

pub use listen::group_id;
pub use request::parse as parse_request;

use places::Places;

/// What the server waits at most, when it ends, for answers that are being written.
const GRACE: Duration = Duration::from_secs(2);
/// Pause after an accept that failed because something (descriptors, memory) has run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the socket is like.
#[derive(Clone, Debug)]
pub struct SocketSettings {
    /// Its absolute path; its directory is made (0755) if it is missing.
    pub path: PathBuf,
    /// Its permission bits: whoever may write to it may connect.
    pub mode: u32,
    /// The group that may connect besides the owner; [`group_id`] finds it by name.
    pub group_id: Option<u32>,
    /// So many may be connected at once: the last eighth of them root and the daemon's own user only, and half of
    /// them any one other user.
    pub connections_max: usize,
    /// Longer lines are refused.
    pub line_bytes_max: usize,
    /// A connection without a request for so long is closed.
    pub idle_timeout: Duration,
    /// A line must be complete within this time of its first byte.
    pub line_timeout: Duration,
    /// A client that takes nothing of an answer for so long is given up.
    pub write_timeout: Duration,
}

impl SocketSettings {
    /// The usual limits for a socket at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            mode: 0o660,
            group_id: None,
            connections_max: 64,
            line_bytes_max: 1 << 20,
            idle_timeout: Duration::from_secs(300),
            line_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
        }
    }
}

/// A socket that is being served; ends when it is dropped or [stopped](Self::stop).
pub struct SocketServer {
    runtime: Option<Runtime>,
    stop: watch::Sender<bool>,
    accepting: JoinHandle<()>,
    claim: listen::Claim,
}

impl SocketServer {
    /// Starts to serve `executor` at the socket that `settings` describes.
    ///
    /// # Errors
    /// [`Code::AlreadyRunning`] if somebody serves that socket; [`Code::Failed`] or
    /// [`Code::Denied`], naming the path, if it cannot be made.
    pub fn start(settings: SocketSettings, executor: Arc<dyn Executor>) -> Result<Self, Message> {
        let (listener, claim) = listen::listen(&settings)?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            // A command has a thread to itself, and there is one command at a time a connection.
            .max_blocking_threads(settings.connections_max + 1)
            .thread_name("control")
            .enable_all()
            .build()
            .map_err(|error| {
                Message::new(
                    Code::Failed,
                    format!("the control threads cannot be started: {error}"),
                )
            })?;
        let (stop, stopping) = watch::channel(false);
        let listener = {
            let _context = runtime.enter();
            UnixListener::from_std(listener)
                .map_err(|error| listen::failed("listening at", &settings.path, &error))?
        };
        let accepting = runtime.spawn(accept(listener, Arc::new(settings), executor, stopping));
        Ok(Self {
            runtime: Some(runtime),
            stop,
            accepting,
            claim,
        })
    }

    /// The socket's path.
    pub fn path(&self) -> &Path {
        self.claim.path()
    }

    /// Takes no more requests, lets answers that are ready be written, and removes the socket.
    /// Commands that wait for something are told that their peer is gone. Returns within seconds.
    pub fn stop(mut self) {
        self.finish();
    }

    fn finish(&mut self) {
        let Some(runtime) = self.runtime.take() else {
            return;
        };
        self.claim.remove();
        self.stop.send_replace(true);
        runtime.block_on(async {
            // Ends when every connection has; a time-out leaves them to the runtime's end.
            let _ = tokio::time::timeout(GRACE, &mut self.accepting).await;
        });
        runtime.shutdown_background();
    }
}

impl Drop for SocketServer {
    fn drop(&mut self) {
        self.finish();
    }
}

async fn accept(
    listener: UnixListener,
    settings: Arc<SocketSettings>,
    executor: Arc<dyn Executor>,
    mut stopping: watch::Receiver<bool>,
) {
    let places = Places::new(settings.connections_max);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = connection::stopped(&mut stopping) => break,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let settings = Arc::clone(&settings);
        let peer = peer(&stream);
        let place = match places.take(peer.uid) {
            Ok(place) => place,
            Err(full) => {
                tokio::spawn(async move { refuse(stream, full).await });
                continue;
            }
        };
        let (executor, stopping) = (Arc::clone(&executor), stopping.clone());
        tokio::spawn(async move {
            connection::serve(stream, peer, executor, &settings, stopping).await;
            drop(place);
        });
    }
    drop(listener);
    places.all_free().await;
}

async fn refuse(stream: UnixStream, full: Message) {
    let busy = Answer::Error(full);
    // The line fits the socket's buffer; a client that does not take it is not waited for.
    let _ = stream.writable().await;
    let _ = stream.try_write(&connection::answer_line(None, busy));
}

fn peer(stream: &UnixStream) -> Peer {
    let peer = Peer::new(Door::Socket);
    match stream.peer_cred() {
        Ok(credentials) => {
            peer.with_credentials(credentials.uid(), credentials.gid(), credentials.pid())
        }
        Err(_) => peer,
    }
}
