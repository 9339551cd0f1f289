//! A console whose output can be looked at, and a program that mounts nothing.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

use speedloader::cli::{Console, run};
use speedloader::command::{Code, Message};
use speedloader::program::{Demo, Program, Ready, SetUp, SetUpEnd, Start};
use speedloader::view::Style;

use crate::control::fake::NOW_MS;

/// What a command line came to.
#[derive(Debug)]
pub struct Outcome {
    pub status: u8,
    pub out: String,
    pub err: String,
}

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Remembers what it was asked to do.
#[derive(Default)]
pub struct Recorder {
    pub started: Mutex<Vec<Start>>,
    pub set_ups: Mutex<Vec<SetUp>>,
    pub demos: Mutex<Vec<Demo>>,
}

impl Program for Recorder {
    fn serve(&self, start: Start, ready: &mut Ready) -> Result<(), Message> {
        self.started.lock().unwrap().push(start);
        ready.announce()
    }

    fn set_up(&self, set_up: SetUp) -> Result<SetUpEnd, Message> {
        self.set_ups.lock().unwrap().push(set_up);
        Ok(SetUpEnd::Ended)
    }

    fn demo(&self, demo: Demo) -> Result<(), Message> {
        let is_kept = demo.keep;
        self.demos.lock().unwrap().push(demo);
        if is_kept {
            Ok(())
        } else {
            Err(Message::new(
                Code::Failed,
                "the demo failed, as the test wants it",
            ))
        }
    }
}

/// Runs `speedloader` with `arguments`, in an empty environment.
pub fn speedloader(arguments: &[&str]) -> Outcome {
    with_program(
        &[&["speedloader"], arguments].concat(),
        &Recorder::default(),
    )
}

/// The same against the daemon at `socket`.
pub fn at(socket: &Path, arguments: &[&str]) -> Outcome {
    speedloader(&[&["--socket", socket.to_str().unwrap()], arguments].concat())
}

/// The same on a terminal of this width.
pub fn at_width(socket: &Path, width: usize, arguments: &[&str]) -> Outcome {
    let global = ["speedloader", "--socket", socket.to_str().unwrap()];
    let style = Style {
        width: Some(width),
        colour: false,
    };
    let arguments = [&global, arguments].concat();
    with_style(&arguments, style, None, &[], &Recorder::default())
}

/// Runs whole command lines, the program's name included.
pub fn with_program(arguments: &[&str], program: &dyn Program) -> Outcome {
    with_answers(arguments, None, &[], program)
}

/// The same with somebody who answers, and with variables.
pub fn with_answers(
    arguments: &[&str],
    answers: Option<&str>,
    environment: &[(&str, &str)],
    program: &dyn Program,
) -> Outcome {
    with_style(arguments, Style::PLAIN, answers, environment, program)
}

fn with_style(
    arguments: &[&str],
    style: Style,
    answers: Option<&str>,
    environment: &[(&str, &str)],
    program: &dyn Program,
) -> Outcome {
    let (out, err) = (Captured::default(), Captured::default());
    let mut console = Console {
        out: Box::new(out.clone()),
        err: Box::new(err.clone()),
        style,
        interactive: false,
        answers: answers.map(|text| {
            Box::new(io::Cursor::new(text.as_bytes().to_vec())) as Box<dyn io::BufRead>
        }),
        environment: environment
            .iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect(),
        now_ms: || NOW_MS,
    };
    let arguments = arguments.iter().map(OsString::from).collect();
    let status = run(arguments, &mut console, program);
    Outcome {
        status,
        out: out.text(),
        err: err.text(),
    }
}
