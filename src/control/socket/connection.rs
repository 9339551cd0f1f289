//! One connection: reads a request, has it carried out on a thread of its own, writes what comes of
//! it, and notices meanwhile when the client leaves. Ends on anything that is not a request it can
//! answer in order.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::request::{self, Lines};
use super::{Executor, Peer, SocketSettings};
use crate::command::{Answer, Code, Command, Frame, Message, PROTOCOL, Response};
use crate::view::View;

/// So many progress frames may wait for a slow client before its command does.
const FRAMES_MAX: usize = 64;
/// How often a client that will send nothing more is looked at, whether it still listens.
const LISTENING_PERIOD: Duration = Duration::from_secs(1);

/// Why no further request will be read.
enum End {
    /// The client has closed, or cannot be written to, or the server stops.
    Closed,
    /// The client is told why.
    Refused(Message),
}

/// Serves one client until it leaves, misbehaves or `stopping` turns true.
pub(super) async fn serve(
    stream: UnixStream,
    peer: Peer,
    executor: Arc<dyn Executor>,
    settings: &SocketSettings,
    stopping: watch::Receiver<bool>,
) {
    let (reader, writer) = stream.into_split();
    let lines = Lines::new(settings.line_bytes_max);
    let mut connection = Connection {
        reader,
        writer,
        lines,
        input_ended: false,
        peer,
        executor,
        settings,
        stopping,
    };
    if let End::Refused(message) = connection.run().await {
        let _ = connection
            .write(&answer_line(None, Answer::Error(message)))
            .await;
    }
}

/// An answer as a line.
pub(super) fn answer_line(id: Option<u64>, answer: Answer) -> Vec<u8> {
    frame_line(id, Frame::Answer(answer))
}

fn frame_line(id: Option<u64>, frame: Frame) -> Vec<u8> {
    let mut line = serde_json::to_vec(&Response {
        v: PROTOCOL,
        id,
        frame,
    })
    .expect("frames have string keys and finite numbers only, all that JSON asks for");
    line.push(b'\n');
    line
}

struct Connection<'a> {
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    lines: Lines,
    /// The client sends no more; it may still listen.
    input_ended: bool,
    peer: Peer,
    executor: Arc<dyn Executor>,
    settings: &'a SocketSettings,
    stopping: watch::Receiver<bool>,
}

impl Connection<'_> {
    async fn run(&mut self) -> End {
        loop {
            let line = match self.read_line().await {
                Ok(line) => line,
                Err(end) => return end,
            };
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let (id, answer) = match request::parse(&line) {
                Ok(request) => (
                    Some(request.id),
                    self.execute(request.id, request.command).await,
                ),
                Err((id, message)) => (id, Answer::Error(message)),
            };
            drop(line);
            if self.write(&answer_line(id, answer)).await.is_err() {
                return End::Closed;
            }
        }
    }

    /// The next line, in the time that is allowed for it.
    async fn read_line(&mut self) -> Result<Vec<u8>, End> {
        let idle_deadline = Instant::now() + self.settings.idle_timeout;
        let mut line_deadline = None;
        loop {
            match self.lines.next() {
                Ok(Some(line)) => return Ok(line),
                Ok(None) => {}
                Err(request::TooLong) => {
                    let text = format!(
                        "the line is longer than {} bytes",
                        self.settings.line_bytes_max
                    );
                    return Err(End::Refused(Message::new(Code::BadRequest, text)));
                }
            }
            if self.input_ended {
                return Err(match self.lines.has_begun() {
                    true => End::Refused(Message::new(
                        Code::BadRequest,
                        "the last line has no newline",
                    )),
                    false => End::Closed,
                });
            }
            if self.lines.has_begun() && line_deadline.is_none() {
                line_deadline = Some(Instant::now() + self.settings.line_timeout);
            }
            tokio::select! {
                read = self.reader.read_buf(self.lines.space()) => match read {
                    Ok(0) => self.input_ended = true,
                    Ok(_) => {}
                    Err(_) => return Err(End::Closed),
                },
                () = sleep_until(line_deadline.unwrap_or(idle_deadline)) => {
                    return Err(End::Refused(too_slow(self.settings, line_deadline.is_some())));
                }
                () = stopped(&mut self.stopping) => return Err(End::Closed),
            }
        }
    }

    /// Has `command` carried out; passes progress on, and notices if the client leaves.
    async fn execute(&mut self, id: u64, command: Command) -> Answer {
        let (sender, mut frames) = mpsc::channel::<View>(FRAMES_MAX);
        let (executor, peer) = (Arc::clone(&self.executor), self.peer.clone());
        if command.is_change() {
            tracing::info!(
                uid = peer.uid,
                pid = peer.pid,
                ?command,
                "asked through the socket"
            );
        }
        let task = tokio::task::spawn_blocking(move || {
            executor.execute(&peer, command, &mut |view| {
                if sender.blocking_send(view).is_err() {
                    peer.gone().set();
                }
            })
        });
        let gone = self.peer.gone();
        let mut stopping = self.stopping.clone();
        let mut told_to_stop = false;
        loop {
            tokio::select! {
                frame = frames.recv() => {
                    // The sender goes with the command's end.
                    let Some(view) = frame else { break };
                    if self.write(&frame_line(Some(id), Frame::Progress(view))).await.is_err() {
                        gone.set();
                        break;
                    }
                }
                read = self.reader.read_buf(self.lines.space()), if !self.input_ended && self.lines.has_room() => {
                    self.input_ended = !matches!(read, Ok(1..));
                    if self.input_ended && !self.is_listening().await {
                        gone.set();
                    }
                }
                () = sleep(LISTENING_PERIOD), if self.input_ended => {
                    if !self.is_listening().await {
                        gone.set();
                    }
                }
                () = stopped(&mut stopping), if !told_to_stop => {
                    told_to_stop = true;
                    gone.set();
                }
            }
        }
        drop(frames);
        task.await.unwrap_or_else(|_| {
            let text = "the command ended in a fault of the program; the daemon's log has more";
            Answer::Error(Message::new(Code::Internal, text))
        })
    }

    /// Whether the client, which has ended its output, still has its input open.
    async fn is_listening(&self) -> bool {
        self.writer
            .ready(Interest::WRITABLE)
            .await
            .is_ok_and(|ready| !ready.is_write_closed())
    }

    /// Writes all of `bytes`, as long as the client takes something now and then.
    async fn write(&mut self, mut bytes: &[u8]) -> Result<(), End> {
        while !bytes.is_empty() {
            match timeout(self.settings.write_timeout, self.writer.write(bytes)).await {
                Ok(Ok(written @ 1..)) => bytes = &bytes[written..],
                Ok(_) | Err(_) => return Err(End::Closed),
            }
        }
        Ok(())
    }
}

/// Returns when the server stops.
pub(super) async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // An error means that the server is gone altogether.
    let _ = stopping.wait_for(|stop| *stop).await;
}

fn too_slow(settings: &SocketSettings, in_line: bool) -> Message {
    let text = if in_line {
        format!(
            "the line was not complete within {} ms",
            settings.line_timeout.as_millis()
        )
    } else {
        format!(
            "no request for {} ms; the connection is closed",
            settings.idle_timeout.as_millis()
        )
    };
    Message::new(Code::TimedOut, text)
}
