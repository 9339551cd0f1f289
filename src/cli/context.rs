//! What every verb has at hand: the global options, the daemon at the other end of the socket, and
//! one way to show a view and one to tell a failure.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{ArgAction, Args};

use super::console::Console;
use super::progress::{Bars, Lines, Progress};
use super::settings;
use crate::command::{Code, Command, Message};
use crate::control::Client;
use crate::control::control_files::error_json;
use crate::program::Program;
use crate::view::human;
use crate::view::{Outcome, View};

/// Options that go with every verb.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct Global {
    /// The configuration file [default: ~/.config/speedloader/config.toml, except for root, else
    /// /etc/speedloader/config.toml; environment: SPEEDLOADER_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,

    /// The daemon's socket [default: as configured; environment: SPEEDLOADER_SOCKET]
    #[arg(long, global = true, value_name = "PATH")]
    pub(super) socket: Option<PathBuf>,

    /// Print JSON instead of text
    #[arg(long, global = true)]
    pub(super) json: bool,

    /// Say more; may be repeated
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(super) verbose: u8,

    /// Say nothing but errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(super) quiet: bool,
}

impl Global {
    /// How many levels more of messages than configured are wanted; less than none: nothing but errors.
    pub(super) fn verbosity(&self) -> i8 {
        if self.quiet {
            -1
        } else {
            i8::try_from(self.verbose).unwrap_or(i8::MAX)
        }
    }
}

pub(super) struct Context<'a> {
    pub(super) console: &'a mut Console,
    pub(super) program: &'a dyn Program,
    pub(super) global: Global,
    /// Whether an answer was printed as JSON: programs read one document.
    has_answered: bool,
}

impl<'a> Context<'a> {
    pub(super) fn new(console: &'a mut Console, program: &'a dyn Program, global: Global) -> Self {
        Self {
            console,
            program,
            global,
            has_answered: false,
        }
    }

    /// The socket of the daemon that is meant.
    pub(super) fn socket(&self) -> Result<PathBuf, Message> {
        let (socket, config) = (self.global.socket.as_deref(), self.global.config.as_deref());
        settings::socket(self.console, socket, config)
    }

    /// A connection to the daemon.
    pub(super) fn connect(&self) -> Result<Client, Message> {
        let socket = self.socket()?;
        self.check_peer(&socket, Client::connect(&socket)?)
    }

    /// The same for who waits no longer than `patience` for an answer.
    pub(super) fn connect_within(&self, patience: Duration) -> Result<Client, Message> {
        let socket = self.socket()?;
        self.check_peer(&socket, Client::connect_within(&socket, patience)?)
    }

    /// Where nobody has named the socket it may be in a directory of /tmp that anybody could have made: whoever
    /// listens there is told nothing, and is believed nothing, unless it is this user or root.
    fn check_peer(&self, socket: &Path, client: Client) -> Result<Client, Message> {
        let own = rustix::process::geteuid().as_raw();
        if !settings::is_default_socket(self.console, socket) {
            return Ok(client);
        }
        match client.peer_uid()? {
            uid if uid == own || uid == 0 => Ok(client),
            uid => {
                let text = format!(
                    "user {uid} listens at {}, where your own daemon would",
                    socket.display()
                );
                Err(Message::new(Code::Denied, text)
                    .with_hint("set XDG_RUNTIME_DIR, or `control.socket` to a place of your own"))
            }
        }
    }

    /// What `command` comes to.
    pub(super) fn ask(&self, command: Command) -> Result<View, Message> {
        // What is wrong in itself is wrong also where no daemon answers.
        command.check()?;
        self.connect()?.call(command)
    }

    /// The same, showing how far it is.
    pub(super) fn ask_with_progress(&mut self, command: Command) -> Result<View, Message> {
        command.check()?;
        let mut client = self.connect()?;
        let mut progress = if self.global.quiet || self.global.json {
            Progress::Silent
        } else if self.console.interactive {
            Progress::Bars(Bars::new())
        } else {
            Progress::Lines(Lines::new(self.console.err.as_mut()))
        };
        let answer = client.call_with_progress(command, &mut |view| {
            progress.show(view);
            Ok(())
        });
        progress.finish();
        answer
    }

    /// Asks and shows.
    pub(super) fn show_answer(&mut self, command: Command) -> Result<(), Message> {
        let view = self.ask(command)?;
        self.show(&view)
    }

    /// Shows what was asked for.
    pub(super) fn show(&mut self, view: &View) -> Result<(), Message> {
        self.has_answered = true;
        let text = if self.global.json {
            format!("{}\n", view.json())
        } else {
            view.text((self.console.now_ms)(), self.console.style)
        };
        self.print(&text)
    }

    /// Shows what a change came to; with `--quiet`, nothing.
    pub(super) fn show_change(&mut self, view: &View) -> Result<(), Message> {
        if self.global.quiet {
            Ok(())
        } else {
            self.show(view)
        }
    }

    /// Where answers go, for a verb that talks to a program.
    pub(super) fn output(&mut self) -> &mut dyn std::io::Write {
        self.console.out.as_mut()
    }

    /// Prints text that is nothing but text.
    pub(super) fn print(&mut self, text: &str) -> Result<(), Message> {
        let printed = self
            .console
            .out
            .write_all(text.as_bytes())
            .and_then(|()| self.console.out.flush());
        match printed {
            // `speedloader models | head` is no failure.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                Err(Message::new(Code::Cancelled, ""))
            }
            Err(error) => Err(Message::new(
                Code::Failed,
                format!("the output cannot be written: {error}"),
            )),
            Ok(()) => Ok(()),
        }
    }

    /// Tells a failure, and returns the exit status that goes with it.
    pub(super) fn fail(&mut self, message: &Message) -> u8 {
        if message.text.is_empty() {
            // Told already, or nobody listens any more.
            return if message.code == Code::Cancelled {
                0
            } else {
                message.code.exit_status()
            };
        }
        if self.global.json && !self.has_answered {
            let _ = writeln!(self.console.out, "{}", error_json(message));
        }
        // If even this cannot be written, there is nobody to tell; the status remains.
        let _ = self
            .console
            .err
            .write_all(self.failure_text(message).as_bytes());
        message.code.exit_status()
    }

    fn failure_text(&self, message: &Message) -> String {
        let label = if self.console.interactive && self.console.style.colour {
            "\x1b[1;31merror:\x1b[0m"
        } else {
            "error:"
        };
        // What the message quotes may come from a file name.
        let lines: Vec<String> = message.to_string().lines().map(human::printable).collect();
        format!("{label} {}\n", lines.join("\n  "))
    }
}

/// A name as it stands in a command: the shell's raw bytes are escaped; what is escaped already,
/// because it was copied from a listing, stays as it is.
pub(super) fn name(argument: &OsStr) -> String {
    match argument.to_str() {
        Some(text) if !text.chars().any(char::is_control) && human::unescape(text).is_some() => {
            text.to_owned()
        }
        _ => human::escape(argument.as_bytes()),
    }
}

/// The same for several.
pub(super) fn names(arguments: &[OsString]) -> Vec<String> {
    arguments.iter().map(|argument| name(argument)).collect()
}

/// Fails when anything of what was named was left out: not `done`.
pub(super) fn judge(view: &View, done: &str) -> Result<(), Message> {
    let View::Moves(view) = view else {
        return Ok(());
    };
    let named = |wanted: Outcome| {
        let rows = view.moves.iter().filter(|row| row.outcome == wanted);
        rows.map(|row| row.name.as_str()).collect::<Vec<_>>()
    };
    let (unknown, refused) = (named(Outcome::Unknown), named(Outcome::Refused));
    let left_out = |names: &[&str], why: &str| match names {
        [] => None,
        [name] => Some(format!("{name} {why}")),
        [first, ..] => Some(format!("{first} and {} more {why}", names.len() - 1)),
    };
    let texts = [
        left_out(&unknown, "led nowhere"),
        left_out(&refused, &format!("could not be {done}")),
    ];
    let texts: Vec<String> = texts.into_iter().flatten().collect();
    let code = match (unknown.as_slice(), refused.as_slice()) {
        ([], []) => return Ok(()),
        // Refused like a single one, whose answer is its refusal.
        ([], _) => Code::NoSpace,
        _ => Code::NoMatch,
    };
    Err(Message::new(code, texts.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_names_are_escaped_and_escaped_ones_kept() {
        let cases: &[(&[u8], &str)] = &[
            (b"llama3.2:3b", "llama3.2:3b"),
            (b"a\nb", "a\\nb"),
            (b"a\\nb", "a\\nb"),
            (b"a\\qb", "a\\\\qb"),
            (b"\xff", "\\xff"),
            ("ü".as_bytes(), "ü"),
        ];
        for (raw, wanted) in cases {
            assert_eq!(name(OsStr::from_bytes(raw)), *wanted);
        }
    }
}
