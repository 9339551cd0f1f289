//! The client's end of the socket, blocking, one request at a time. What goes wrong on the way is
//! told as a [`Message`], like what goes wrong at the other end.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use rustix::process::PidfdFlags;
use serde_json::Value;

use crate::command::{Code, Command, Frame, Message, PROTOCOL, Request, Response};
use crate::view::{View, human};

/// A daemon that is alive answers what needs no waiting within this time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// No response is longer; 100,000 models are some 40 MiB.
const RESPONSE_BYTES_MAX: u64 = 512 << 20;

/// A connection to a daemon.
pub struct Client {
    stream: BufReader<UnixStream>,
    path: PathBuf,
    requests: u64,
    /// How long an answer that needs no waiting may take.
    patience: Duration,
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
        Self::connect_within(path, ANSWER_TIMEOUT)
    }

    /// The same for somebody who waits no longer than `patience` for an answer that needs no waiting.
    ///
    /// # Errors
    /// As [`Client::connect`], and [`Code::TimedOut`] if nobody takes the connection.
    pub fn connect_within(path: &Path, patience: Duration) -> Result<Self, Message> {
        let stream = connected(path, patience).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => silent(path, patience),
            _ => cannot_connect(path, &error),
        })?;
        Ok(Self {
            path: path.to_owned(),
            requests: 0,
            patience,
            process: process_of(&stream),
            stream: BufReader::new(stream),
        })
    }

    /// The user at the other end.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn peer_uid(&self) -> Result<u32, Message> {
        let peer = sockopt::socket_peercred(self.stream.get_ref());
        peer.map(|peer| peer.uid.as_raw())
            .map_err(|error| failed(&self.path, &error.into()))
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
        let limit = limit_of(&command, self.patience);
        let request = Request {
            v: PROTOCOL,
            id,
            command,
        };
        let written = self.send(&request, limit)?;
        loop {
            let response = match self.read_response(limit) {
                Ok(response) => response,
                Err(message) => {
                    return Err(written.map_or_else(
                        |error| match error.kind() {
                            io::ErrorKind::WouldBlock => silent(&self.path, self.patience),
                            _ => failed(&self.path, &error),
                        },
                        |()| message,
                    ));
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
    fn send(
        &mut self,
        request: &Request,
        limit: Option<Duration>,
    ) -> Result<io::Result<()>, Message> {
        let mut line = serde_json::to_string(request).map_err(|error| {
            Message::new(
                Code::Internal,
                format!("the request cannot be written as JSON: {error}"),
            )
        })?;
        line.push('\n');
        let stream = self.stream.get_mut();
        stream
            .set_read_timeout(limit)
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
        let is_closed = match self.read_response(Some(timeout)) {
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

    fn read_response(&mut self, limit: Option<Duration>) -> Result<Response, Message> {
        let mut line = Vec::new();
        let mut limited = (&mut self.stream).take(RESPONSE_BYTES_MAX);
        limited
            .read_until(b'\n', &mut line)
            .map_err(|error| match (error.kind(), limit) {
                (io::ErrorKind::WouldBlock, Some(limit)) => silent(&self.path, limit),
                _ => failed(&self.path, &error),
            })?;
        if line.last() != Some(&b'\n') {
            let text = format!(
                "the speedloader at {} ended before it answered",
                self.path.display()
            );
            return Err(Message::new(Code::NotRunning, text).with_hint("its log says why"));
        }
        let response = read_line(&line).map_err(|error| {
            let text = format!(
                "the answer of the speedloader at {} cannot be understood: {error}",
                self.path.display()
            );
            Message::new(Code::Failed, text)
                .with_hint("compare `speedloader version` with the daemon's")
        })?;
        if response.v == PROTOCOL {
            return Ok(response);
        }
        let text = format!(
            "the speedloader at {} answers in version {} of the protocol, and this one speaks {PROTOCOL}",
            self.path.display(),
            response.v
        );
        Err(Message::new(Code::UnsupportedVersion, text)
            .with_hint("compare `speedloader version` with the daemon's"))
    }
}

/// How long the answer may be in coming; `None` where something must happen first that nobody can tell the end of.
fn limit_of(command: &Command, patience: Duration) -> Option<Duration> {
    match command {
        // The daemon itself ends this; one that stands still does not.
        Command::Wait { timeout_s, .. } => {
            Some(Duration::from_secs(*timeout_s).saturating_add(patience))
        }
        command if command.may_wait() => None,
        _ => Some(patience),
    }
}

/// Like [`UnixStream::connect`], which waits for ever where a daemon that stands still has a full queue.
fn connected(path: &Path, patience: Duration) -> io::Result<UnixStream> {
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    let stream = UnixStream::from(socket);
    stream.set_write_timeout(Some(patience))?;
    rustix::net::connect(&stream, &SocketAddrUnix::new(path)?)?;
    Ok(stream)
}

/// A line, of which no text can send a terminal orders, whoever has written it.
fn read_line(line: &[u8]) -> serde_json::Result<Response> {
    let is_odd = |text: &str| {
        let mut characters = text.chars().filter(|character| *character != '\n');
        text.contains("\\u") || characters.any(speedloader_fs::rel_path::is_hidden)
    };
    if !std::str::from_utf8(line).is_ok_and(is_odd) {
        return serde_json::from_slice(line);
    }
    let mut value = serde_json::from_slice(line)?;
    make_printable(&mut value);
    serde_json::from_value(value)
}

fn make_printable(value: &mut Value) {
    match value {
        Value::String(text) => {
            // What has several lines, or a tab in one, is meant to.
            let pieces = text.split_inclusive(['\n', '\t']).map(|piece| {
                let end = piece.trim_end_matches(['\n', '\t']).len();
                human::printable(&piece[..end]) + &piece[end..]
            });
            *text = pieces.collect();
        }
        Value::Array(values) => values.iter_mut().for_each(make_printable),
        Value::Object(fields) => fields.values_mut().for_each(make_printable),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The process at the other end, unless that is this one.
fn process_of(stream: &UnixStream) -> Option<OwnedFd> {
    let peer = sockopt::socket_peercred(stream).ok()?.pid;
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

fn silent(path: &Path, limit: Duration) -> Message {
    let text = format!(
        "the speedloader at {} has not answered within {} s",
        path.display(),
        limit.as_secs()
    );
    Message::new(Code::TimedOut, text)
        .with_hint("it is running but busy or stuck; its log may say why")
}

fn failed(path: &Path, error: &io::Error) -> Message {
    match error.kind() {
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

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// A daemon that stands still was waited for however short the time was.
    #[test]
    fn waiting_for_a_daemon_that_stands_still_has_an_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let _silent = UnixListener::bind(&path).unwrap();
        let patience = Duration::from_millis(20);
        let wait = Command::Wait {
            names: Vec::new(),
            timeout_s: 0,
        };
        for command in [wait, Command::Status {}] {
            let mut client = Client::connect_within(&path, patience).unwrap();
            assert_eq!(client.call(command).unwrap_err().code, Code::TimedOut);
        }
    }

    /// So was a daemon that takes no connections any more, as soon as its queue was full.
    #[test]
    fn a_full_queue_has_an_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let flags = SocketFlags::CLOEXEC;
        let silent =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        rustix::net::bind(&silent, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        rustix::net::listen(&silent, 1).unwrap();
        let patience = Duration::from_millis(20);
        let connect = || Client::connect_within(&path, patience);
        let clients: Vec<_> = (0..8).map(|_| connect()).collect();
        let refused = clients.iter().filter_map(|client| client.as_ref().err());
        let codes: Vec<Code> = refused.map(|message| message.code).collect();
        assert!(!codes.is_empty() && codes.iter().all(|code| *code == Code::TimedOut));
    }

    #[test]
    fn no_answer_sends_a_terminal_orders() {
        let read = |line: &str| read_line(line.as_bytes()).unwrap();
        let text = |line: &str| match read(line).frame {
            Frame::Answer(answer) => match answer.into_result() {
                Ok(view) => view.text(0, crate::view::Style::PLAIN),
                Err(message) => message.to_string(),
            },
            Frame::Progress(view) => view.text(0, crate::view::Style::PLAIN),
        };
        for (line, wanted) in [
            (
                r#"{"v":1,"id":1,"answer":{"ok":{"view":"done","text":"a\u001b[2J\tb"}}}"#,
                "a\\u{1b}[2J\tb\n",
            ),
            (
                "{\"v\":1,\"id\":1,\"progress\":{\"view\":\"done\",\"text\":\"a\u{9b}2J\"}}",
                "a\\u{9b}2J\n",
            ),
            (
                r#"{"v":1,"id":1,"answer":{"error":{"code":"failed","message":"\u0007"}}}"#,
                "\\u{7}",
            ),
        ] {
            assert_eq!(text(line), wanted, "{line}");
        }
    }
}
