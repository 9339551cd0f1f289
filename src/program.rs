//! What the command line needs of the rest of the program, as one trait: the daemon and the demo
//! implement it, `main` hands it over. Knows neither of them.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};
use speedloader_config::{Config, Sources};

use crate::command::{Code, Message};
use crate::setup::Target;

/// The flag by which `serve` knows that its standard output is the pipe to whoever has started it.
pub const READY_FLAG: &str = "--ready-on-stdout";

/// The parts of the program that do more than ask a running daemon.
pub trait Program {
    /// Mounts and serves until it is told to end (by `Shutdown`, an unmount or a signal), and returns
    /// when nothing is left behind. Calls [`Ready::announce`] once, when the mount answers.
    ///
    /// # Errors
    /// Why it could not start, or could not go on.
    fn serve(&self, start: Start, ready: &mut Ready) -> Result<(), Message>;

    /// Serves the guide to a first configuration, to this machine only, until one is written or it is
    /// told to end.
    ///
    /// # Errors
    /// Why the guide could not be served.
    fn set_up(&self, set_up: SetUp) -> Result<SetUpEnd, Message>;

    /// Shows on a temporary mount what the product does.
    ///
    /// # Errors
    /// Why it could not, or [`Code::Failed`] if what it showed is not as it should be.
    fn demo(&self, demo: Demo) -> Result<(), Message>;
}

/// What a daemon starts with.
#[derive(Clone, Debug)]
pub struct Start {
    /// The effective configuration.
    pub config: Config,
    /// What it was made of: a reload reads `sources.file` again and keeps the rest.
    pub sources: Sources,
    /// Where to mount; absolute and without symlinks, as the kernel names it.
    pub mountpoint: PathBuf,
    /// How many levels more (`-v`) than configured are wanted; less than none (`-q`): nothing but errors.
    pub verbosity: i8,
    /// Whether a terminal or a supervisor reads our standard error; else we are on our own.
    pub foreground: bool,
}

/// What a set-up starts with.
#[derive(Clone, Debug)]
pub struct SetUp {
    /// Where and how the guide is served, and whose token it asks for; there are no models in it.
    pub config: Config,
    /// Where the configuration is to be written.
    pub target: Target,
    /// As in [`Start`].
    pub verbosity: i8,
    /// Whether a person reads our standard error on a terminal, and is told the whole link.
    pub interactive: bool,
}

/// How a set-up ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetUpEnd {
    /// There is a configuration now.
    Written,
    /// It was told to end.
    Ended,
}

/// What the demo is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demo {
    /// Leave the mount up when it is over.
    pub keep: bool,
    /// Use this directory of models, without writing to it, rather than synthetic ones.
    pub models: Option<PathBuf>,
    /// Bytes of each synthetic model.
    pub size_bytes: u64,
    /// Print the result as JSON.
    pub json: bool,
}

/// How a daemon says that its mount answers.
#[derive(Debug, Default)]
pub struct Ready {
    waiting: Option<File>,
    announced: bool,
}

impl Ready {
    /// Nobody waits.
    pub fn nobody() -> Self {
        Self::default()
    }

    /// Somebody waits at the other end of `pipe`, and takes over our standard streams' fate: they lead
    /// nowhere as soon as the mount answers.
    pub fn pipe(pipe: OwnedFd) -> Self {
        Self {
            waiting: Some(File::from(pipe)),
            announced: false,
        }
    }

    /// The mount answers.
    ///
    /// # Errors
    /// [`Code::Cancelled`] if whoever waited has left meanwhile: then nobody knows of this mount, and
    /// the daemon should end.
    pub fn announce(&mut self) -> Result<(), Message> {
        self.announced = true;
        let Some(mut pipe) = self.waiting.take() else {
            return Ok(());
        };
        let gone = |error: io::Error| {
            Message::new(
                Code::Cancelled,
                format!("whoever started the mount has not waited for it: {error}"),
            )
        };
        // A caller that reads our output until its end would else wait for as long as the mount lives.
        lead_nowhere().map_err(gone)?;
        pipe.write_all(b"ready\n").map_err(gone)
    }

    /// Whether whoever started it waits for nothing but the mount: standard error leads nowhere then.
    pub fn is_in_background(&self) -> bool {
        self.waiting.is_some()
    }

    /// Tells whoever waits why there is no mount; false if nobody waits (any more).
    pub fn fail(&mut self, message: &Message) -> bool {
        let Some(mut pipe) = self.waiting.take() else {
            return false;
        };
        let Ok(mut line) = serde_json::to_vec(message) else {
            return false;
        };
        line.push(b'\n');
        pipe.write_all(&line).is_ok()
    }

    /// Whether the mount has been announced.
    pub fn is_announced(&self) -> bool {
        self.announced
    }
}

fn lead_nowhere() -> io::Result<()> {
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    Ok(())
}
