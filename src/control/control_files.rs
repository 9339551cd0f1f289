//! The contents of `<mount>/.speedloader/`: what each file shows, and what a line written into
//! `control` does. The nodes are in `fs`; this says only which bytes they have. Reading never
//! changes anything; a write is carried out wholly or, if any of its lines is wrong, not at all. The
//! kernel lets one write after the other: what takes long goes on without its writer.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{RecvTimeoutError, bounded};

use super::{Executor, Peer, metrics};
use crate::command::{Answer, Code, Command, Message, parse_line};
use crate::view::{DraftView, EventsView, Style, View};

/// A write is a line or a few, not a file.
const WRITE_BYTES_MAX: usize = 64 << 10;
/// So many commands may be in one write.
const COMMANDS_MAX: usize = 64;
/// So many answers can be read back.
const ANSWERS_MAX: usize = 64;
/// How long a write waits for its commands: whoever writes next waits as well.
const WRITE_PATIENCE: Duration = Duration::from_secs(2);
/// So many writes may go on without their writers.
const GOING_ON_MAX: usize = 16;
/// What the answers say of one.
const GOES_ON: &str = "it takes long, and goes on: its answer comes here when it is over\n";
/// A stream of events starts again, with its newer half, when it is longer.
const EVENTS_BYTES_MAX: usize = 4 << 20;

/// A file in `.speedloader/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlFile {
    /// Its name.
    pub name: &'static str,
    /// Its permission bits; the group may be the one that may use the socket.
    pub mode: u32,
    /// What it is, for documentation.
    pub about: &'static str,
}

const fn file(name: &'static str, mode: u32, about: &'static str) -> ControlFile {
    ControlFile { name, mode, about }
}

/// All files, sorted by name.
pub const FILES: &[ControlFile] = &[
    file("config", 0o440, "the configuration in effect, as TOML"),
    file(
        "config.json",
        0o440,
        "the configuration in effect, with where each value is from",
    ),
    file(
        "control",
        0o660,
        "write commands, a line each; read the last answers",
    ),
    file("events", 0o444, "what happened; grows, for tail -f"),
    file(
        "events.json",
        0o444,
        "what happened, a JSON object a line; grows",
    ),
    file("metrics", 0o444, "Prometheus text"),
    file("models", 0o444, "models, and how much of each is resident"),
    file("models.json", 0o444, "the same as JSON"),
    file("stats", 0o444, "the daemon's state as JSON"),
    file("stats.json", 0o444, "the same"),
    file("tiers", 0o444, "pools"),
    file("tiers.json", 0o444, "the same as JSON"),
    file("transfers", 0o444, "copies that run or wait"),
    file("transfers.json", 0o444, "the same as JSON"),
    file("version", 0o444, "which version runs"),
    file("version.json", 0o444, "the same as JSON"),
];

/// The contents of a file that has no memory; `None` if there is no such file, or if it is one of
/// those with a memory (`control`, `events`), which [`ControlFiles`] keeps.
pub fn render(name: &str, exec: &dyn Executor) -> Option<Vec<u8>> {
    let (stem, as_json) = match name.strip_suffix(".json") {
        Some(stem) => (stem, true),
        None => (name, name == "stats"),
    };
    let command = match stem {
        "stats" => Command::Status {},
        "metrics" if !as_json => Command::Status {},
        "models" => Command::Models { filter: None },
        "tiers" => Command::Tiers {},
        "transfers" => Command::Transfers {},
        "config" => Command::Config {},
        "version" => Command::Version {},
        _ => return None,
    };
    let answer = exec.execute(&internal(), command, &mut |_| ());
    let text = match (answer, as_json) {
        (Answer::Ok(View::Status(status)), false) => metrics::render(&status),
        (Answer::Ok(view), false) => view.text(now_ms(), Style::PLAIN),
        (Answer::Ok(view), true) => format!("{}\n", view.json()),
        (Answer::Error(message), false) => format!("{message}\n"),
        (Answer::Error(message), true) => format!("{}\n", error_json(&message)),
    };
    Some(text.into_bytes())
}

/// Carries out the commands in `bytes`, a line each, and returns their answers as text.
///
/// # Errors
/// [`Code::BadRequest`] if any line is wrong, naming the line: then none is carried out. Else the
/// message of the first command that failed; those after it are not carried out.
pub fn write_control(bytes: &[u8], peer: &Peer, exec: &dyn Executor) -> Result<String, Message> {
    let commands = parse(bytes)?;
    let mut answers = String::new();
    for (line, command) in commands {
        let is_change = command.is_change();
        if is_change {
            tracing::info!(
                uid = peer.uid,
                pid = peer.pid,
                ?command,
                "asked through the control file"
            );
        }
        match exec.execute(peer, command, &mut |_| ()) {
            Answer::Ok(View::Draft(draft)) if is_change && !draft.faults.is_empty() => {
                return Err(at_line(line, refusal(&draft)));
            }
            Answer::Ok(view) => answers.push_str(&view.text(now_ms(), Style::PLAIN)),
            Answer::Error(message) => return Err(at_line(line, message)),
        }
    }
    Ok(answers)
}

fn parse(bytes: &[u8]) -> Result<Vec<(usize, Command)>, Message> {
    let bad = |text: String| Err(Message::new(Code::BadRequest, text));
    if bytes.len() > WRITE_BYTES_MAX {
        return bad(format!(
            "{} bytes in one write; {WRITE_BYTES_MAX} are allowed",
            bytes.len()
        ));
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            return bad(format!(
                "byte {} is no UTF-8; write such a byte of a name as \\xNN",
                error.valid_up_to() + 1
            ));
        }
    };
    let mut commands = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if let Some(command) = parse_line(line).map_err(|message| at_line(index + 1, message))? {
            commands.push((index + 1, command));
        }
    }
    match commands.len() {
        0 => bad("no command in this write; `promote NAME` would be one".to_owned()),
        1..=COMMANDS_MAX => Ok(commands),
        count => bad(format!(
            "{count} commands in one write; {COMMANDS_MAX} are allowed"
        )),
    }
}

/// Settings that were not saved, because of what is wrong with them.
fn refusal(draft: &DraftView) -> Message {
    let faults = draft.faults.iter();
    let texts: Vec<String> = faults
        .map(|fault| format!("{}: {}", fault.key, fault.text))
        .collect();
    Message::new(
        Code::BadRequest,
        format!("nothing was saved: {}", texts.join("; ")),
    )
}

fn at_line(line: usize, message: Message) -> Message {
    Message {
        text: format!("line {line}: {}", message.text),
        ..message
    }
}

/// An error as a document, as `--json` and the `.json` files have it.
pub fn error_json(message: &Message) -> String {
    serde_json::json!({ "schema": crate::view::SCHEMA, "error": message }).to_string()
}

fn internal() -> Peer {
    Peer::new(super::Door::ControlFile)
}

pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn lock(answers: &Mutex<VecDeque<String>>) -> MutexGuard<'_, VecDeque<String>> {
    // A panic elsewhere leaves whole answers behind; they can still be read.
    answers.lock().unwrap_or_else(PoisonError::into_inner)
}

fn keep(answers: &Mutex<VecDeque<String>>, answer: String) {
    let mut answers = lock(answers);
    if answers.len() >= ANSWERS_MAX {
        answers.pop_front();
    }
    answers.push_back(answer);
}

/// The files with their memory: the last answers, and the events so far.
pub struct ControlFiles {
    exec: Arc<dyn Executor>,
    /// Each write that is carried out has it, too.
    answers: Arc<Mutex<VecDeque<String>>>,
    events: Mutex<Streams>,
}

/// Events as text and as JSON, in order, each byte for ever at the same offset until the stream
/// starts again: that is what lets `tail -f` follow it.
#[derive(Default)]
struct Streams {
    since: u64,
    text: String,
    json: String,
}

impl Streams {
    fn append(&mut self, view: &EventsView) {
        if let Some(lost) = view.lost_text() {
            let json = serde_json::json!({ "schema": crate::view::SCHEMA, "lost": view.lost });
            self.text.push_str(&format!("{lost}\n"));
            self.json.push_str(&format!("{json}\n"));
        }
        for event in &view.events {
            self.since = self.since.max(event.seq);
            self.text.push_str(&event.line(Style::PLAIN));
            self.text.push('\n');
            self.json.push_str(&View::Event(event.clone()).json());
            self.json.push('\n');
        }
        shorten(&mut self.text);
        shorten(&mut self.json);
    }
}

/// Drops the older half of the lines of a stream that has become too long.
fn shorten(stream: &mut String) {
    if stream.len() > EVENTS_BYTES_MAX {
        let half = stream.len() - EVENTS_BYTES_MAX / 2;
        let start = stream
            .bytes()
            .skip(half)
            .position(|byte| byte == b'\n')
            .map_or(0, |at| half + at + 1);
        stream.drain(..start);
    }
}

impl ControlFiles {
    /// The files of `exec`.
    pub fn new(exec: Arc<dyn Executor>) -> Self {
        Self {
            exec,
            answers: Arc::default(),
            events: Mutex::default(),
        }
    }

    /// The contents of the file `name` now; `None` if there is none of that name.
    pub fn read(&self, name: &str) -> Option<Vec<u8>> {
        match name {
            "control" => Some(
                lock(&self.answers)
                    .iter()
                    .flat_map(|answer| answer.bytes())
                    .collect(),
            ),
            "events" => Some(self.events().text.clone().into_bytes()),
            "events.json" => Some(self.events().json.clone().into_bytes()),
            _ => render(name, self.exec.as_ref()),
        }
    }

    /// Carries out what somebody wrote into the file `name`, and keeps the answer for its readers. What takes
    /// longer than two seconds goes on behind the writer's back: it has succeeded as far as he is concerned.
    ///
    /// # Errors
    /// As [`write_control`]; [`Code::Denied`] for any file but `control`; [`Code::Busy`] while 16 writes go on
    /// without their writers. The caller's reply is EINVAL for [`Code::BadRequest`].
    pub fn write(&self, name: &str, bytes: &[u8], peer: &Peer) -> Result<(), Message> {
        if name != "control" {
            let text = format!("`.speedloader/{name}` cannot be written");
            return Err(Message::new(Code::Denied, text)
                .with_hint("commands go into `.speedloader/control`"));
        }
        let result = self.carry_out(bytes, peer);
        if let Err(message) = &result {
            keep(&self.answers, format!("error: {message}\n"));
        }
        result
    }

    /// Waits for the answer a moment; whichever it is, it is kept then or later.
    fn carry_out(&self, bytes: &[u8], peer: &Peer) -> Result<(), Message> {
        if Arc::strong_count(&self.answers) > GOING_ON_MAX {
            let text = format!("{GOING_ON_MAX} commands that take long are not over yet");
            return Err(
                Message::new(Code::Busy, text).with_hint("`.speedloader/control` says when")
            );
        }
        let (said, heard) = bounded(0);
        let (bytes, peer, exec) = (bytes.to_vec(), peer.clone(), Arc::clone(&self.exec));
        let answers = Arc::clone(&self.answers);
        let carries_out = move || {
            let result = write_control(&bytes, &peer, exec.as_ref());
            // Nobody hears it any more: it is kept here.
            if let Err(unheard) = said.send(result) {
                keep(
                    &answers,
                    unheard
                        .into_inner()
                        .unwrap_or_else(|e| format!("error: {e}\n")),
                );
            }
        };
        let internal = |text: String| Message::new(Code::Internal, text);
        std::thread::Builder::new()
            .name("control-file".to_owned())
            .spawn(carries_out)
            .map_err(|error| internal(format!("no thread can be started: {error}")))?;
        let answer = match heard.recv_timeout(WRITE_PATIENCE) {
            Ok(result) => result?,
            Err(RecvTimeoutError::Timeout) => GOES_ON.to_owned(),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(internal(
                    "the command broke off; the log says where".to_owned(),
                ));
            }
        };
        keep(&self.answers, answer);
        Ok(())
    }

    /// How many bytes a file has that grows, 0 of all others: those are made when they are opened.
    pub fn size_bytes(&self, name: &str) -> usize {
        match name {
            "events" => self.events().text.len(),
            "events.json" => self.events().json.len(),
            _ => 0,
        }
    }

    /// The events until now.
    fn events(&self) -> MutexGuard<'_, Streams> {
        let mut streams = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let command = Command::Events {
            since: streams.since,
            follow: false,
        };
        if let Answer::Ok(View::Events(view)) = self.exec.execute(&internal(), command, &mut |_| ())
        {
            streams.append(&view);
        }
        streams
    }
}
