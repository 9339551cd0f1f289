//! The client's end of the socket, blocking, one request at a time. What goes wrong on the way is
//! told as a [`Message`], like what goes wrong at the other end.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::PidfdFlags;

use crate::command::{Code, Command, Frame, Message, PROTOCOL, Request, Response};
use crate::view::View;

/// A daemon that is alive answers what needs no waiting within this time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// No response is longer; 100,000 models are some 40 MiB.
const RESPONSE_BYTES_MAX: u64 = 512 << 20;

/// A connection to a daemon.
pub struct Client {
    stream: BufReader<UnixStream>,
    path: PathBuf,
    requests: u64,
    /// The daemon's process, where the kernel tells it.
    process: Option<OwnedFd>,
}

impl Client {
    /// Connects to the daemon that listens at `path`.
    ///
    /// # Errors
    /// [`Code::NotRunning`] if nobody listens there, [`Code::Denied`] if the socket may not be
    /// opened, else [`Code::Failed`].
    pub fn connect(path: &Path) -> Result<Self, Message> {
        let stream = UnixStream::connect(path).map_err(|error| cannot_connect(path, &error))?;
        stream
            .set_write_timeout(Some(ANSWER_TIMEOUT))
            .map_err(|error| failed(path, &error))?;
        Ok(Self {
            path: path.to_owned(),
            requests: 0,
            process: process_of(&stream),
            stream: BufReader::new(stream),
        })
    }

    /// Sends `command` and returns what it came to.
    ///
    /// # Errors
    /// The daemon's own message; or [`Code::TimedOut`] if it does not answer, [`Code::NotRunning`] if
    /// it ends before it has answered, [`Code::Failed`] if what it says cannot be understood.
    pub fn call(&mut self, command: Command) -> Result<View, Message> {
        self.call_with_progress(command, &mut |_| Ok(()))
    }

    /// The same; `progress` gets what is shown meanwhile. If it fails, the connection is closed, by
    /// which the daemon knows that nobody listens any more.
    ///
    /// # Errors
    /// As [`Client::call`], and whatever `progress` says.
    pub fn call_with_progress(
        &mut self,
        command: Command,
        progress: &mut dyn FnMut(View) -> Result<(), Message>,
    ) -> Result<View, Message> {
        command.check()?;
        let id = self.next_id();
        let written = self.send(Request {
            v: PROTOCOL,
            id,
            command,
        })?;
        loop {
            let response = match self.read_response() {
                Ok(response) => response,
                Err(message) => {
                    return Err(
                        written.map_or_else(|error| failed(&self.path, &error), |()| message)
                    );
                }
            };
            match response.frame {
                Frame::Progress(view) if response.id == Some(id) => {
                    if let Err(message) = progress(view) {
                        // It may be closed already, which is as good.
                        let _ = self.stream.get_ref().shutdown(Shutdown::Both);
                        return Err(message);
                    }
                }
                Frame::Answer(answer) if response.id.is_none_or(|answered| answered == id) => {
                    return answer.into_result();
                }
                // Something left over from a request that was given up.
                Frame::Progress(_) | Frame::Answer(_) => {}
            }
        }
    }

    fn next_id(&mut self) -> u64 {
        self.requests += 1;
        self.requests
    }

    /// Writes a request. A daemon that refuses a connection says why and closes it: then writing
    /// fails, but there is an answer to read, which is why that failure comes as a value.
    fn send(&mut self, request: Request) -> Result<io::Result<()>, Message> {
        let timeout = if request.command.may_wait() {
            None
        } else {
            Some(ANSWER_TIMEOUT)
        };
        let mut line = serde_json::to_string(&request).map_err(|error| {
            Message::new(
                Code::Internal,
                format!("the request cannot be written as JSON: {error}"),
            )
        })?;
        line.push('\n');
        let stream = self.stream.get_mut();
        stream
            .set_read_timeout(timeout)
            .map_err(|error| failed(&self.path, &error))?;
        Ok(stream.write_all(line.as_bytes()))
    }

    /// Waits until the daemon has ended: it closes its connections first, and its pools last.
    ///
    /// # Errors
    /// [`Code::TimedOut`] if it is still there after `timeout`.
    pub fn wait_ended(mut self, timeout: Duration) -> Result<(), Message> {
        let until = Instant::now() + timeout;
        let path = self.path.clone();
        self.stream
            .get_mut()
            .set_read_timeout(Some(timeout))
            .map_err(|error| failed(&path, &error))?;
        let is_closed = match self.read_response() {
            Err(message) => message.code != Code::TimedOut,
            Ok(_) => true,
        };
        let has_ended = is_closed
            && self
                .process
                .is_none_or(|process| ends_until(&process, until));
        if has_ended {
            return Ok(());
        }
        let text = format!(
            "the speedloader at {} has not ended within {} s",
            path.display(),
            timeout.as_secs()
        );
        Err(Message::new(Code::TimedOut, text))
    }

    fn read_response(&mut self) -> Result<Response, Message> {
        let mut line = Vec::new();
        let mut limited = (&mut self.stream).take(RESPONSE_BYTES_MAX);
        limited
            .read_until(b'\n', &mut line)
            .map_err(|error| failed(&self.path, &error))?;
        if line.last() != Some(&b'\n') {
            let text = format!(
                "the speedloader at {} ended before it answered",
                self.path.display()
            );
            return Err(Message::new(Code::NotRunning, text).with_hint("its log says why"));
        }
        serde_json::from_slice(&line).map_err(|error| {
            let text = format!(
                "the answer of the speedloader at {} cannot be understood: {error}",
                self.path.display()
            );
            Message::new(Code::Failed, text)
                .with_hint("compare `speedloader version` with the daemon's")
        })
    }
}

/// The process at the other end, unless that is this one.
fn process_of(stream: &UnixStream) -> Option<OwnedFd> {
    let peer = rustix::net::sockopt::socket_peercred(stream).ok()?.pid;
    if peer == rustix::process::getpid() {
        return None;
    }
    rustix::process::pidfd_open(peer, PidfdFlags::empty()).ok()
}

/// Whether the process has ended, `until` a moment.
fn ends_until(process: &OwnedFd, until: Instant) -> bool {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let mut waited = [PollFd::new(process, PollFlags::IN)];
        match rustix::event::poll(&mut waited, Timespec::try_from(left).ok().as_ref()) {
            Ok(ready) => return ready > 0,
            Err(errno) if speedloader_fs::errno::is_interrupted(errno) => {}
            Err(_) => return false,
        }
    }
}

/// An answer's view, by a connection of its own.
///
/// # Errors
/// As [`Client::connect`] and [`Client::call`].
pub fn call_once(path: &Path, command: Command) -> Result<View, Message> {
    Client::connect(path)?.call(command)
}

fn cannot_connect(path: &Path, error: &io::Error) -> Message {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Message::new(
            Code::NotRunning,
            format!("no speedloader answers at {}", path.display()),
        )
        .with_hint("start it with `speedloader mount`, or name its socket with --socket"),
        io::ErrorKind::PermissionDenied => Message::new(
            Code::Denied,
            format!(
                "the socket {} may not be opened by this user",
                path.display()
            ),
        )
        .with_hint("join the group that `control.group` names, or use sudo"),
        _ => failed(path, error),
    }
}

fn failed(path: &Path, error: &io::Error) -> Message {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            let text = format!(
                "the speedloader at {} has not answered within {} s",
                path.display(),
                ANSWER_TIMEOUT.as_secs()
            );
            Message::new(Code::TimedOut, text)
                .with_hint("it is running but busy or stuck; its log may say why")
        }
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Message::new(
            Code::NotRunning,
            format!(
                "the speedloader at {} ended before it answered",
                path.display()
            ),
        )
        .with_hint("its log says why"),
        _ => Message::new(
            Code::Failed,
            format!(
                "talking to the speedloader at {} failed: {error}",
                path.display()
            ),
        ),
    }
}
