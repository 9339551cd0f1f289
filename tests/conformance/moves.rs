//! Files that are promoted and demoted without end while something else happens.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use speedloader::command::{Code, Command, Message};
use speedloader::control::Client;
use speedloader::view::View;

use crate::harness::Mount;

/// What became of the moves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Files promoted, every byte verified.
    pub promoted: u64,
    /// Moves that were refused, by reason.
    pub refused: BTreeMap<String, u64>,
}

impl fmt::Display for Moved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} promotions meanwhile", self.promoted)?;
        for (reason, count) in &self.refused {
            write!(f, ", {count} refused ({reason})")?;
        }
        Ok(())
    }
}

/// Does `work` while the files are moved in and out of a pool, through the control socket.
pub fn during<T>(mount: &Mount, names: &[&str], work: impl FnOnce() -> T) -> (T, Moved) {
    let socket = mount.socket();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mover = scope.spawn(|| keep_moving(&socket, names, &over));
        // The mover must end when the work has panicked, or the scope never would.
        let end = End(&over);
        let result = work();
        drop(end);
        (result, mover.join().unwrap())
    })
}

struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn keep_moving(socket: &Path, names: &[&str], over: &AtomicBool) -> Moved {
    let mut moved = Moved::default();
    while !over.load(Ordering::Relaxed) {
        for name in names {
            match promote(socket, name) {
                Ok(_) => moved.promoted += 1,
                Err(message) => note(&mut moved, &message),
            }
            let names = vec![(*name).to_owned()];
            if let Err(message) = ask(socket, Command::Demote { names }) {
                note(&mut moved, &message);
            }
        }
    }
    moved
}

/// Promotes a file; the answer comes when every byte is verified.
pub fn promote(socket: &Path, name: &str) -> Result<View, Message> {
    let promote = Command::Promote {
        names: vec![name.to_owned()],
        pool: None,
        wait: true,
    };
    ask(socket, promote)
}

fn ask(socket: &Path, command: Command) -> Result<View, Message> {
    Client::connect(socket)?.call(command)
}

/// Why a file that is written, removed or demoted meanwhile is not promoted: anything else is a
/// fault, but of no use in a thread of its own: the test sees it in the count.
const REASONS: [&str; 5] = [
    "busy",
    "no such file",
    "cancelled",
    "it changed meanwhile",
    "it left again",
];

fn note(moved: &mut Moved, message: &Message) {
    let text = message.to_string();
    let [busy, gone, cancelled, changed, left] = REASONS;
    let reason = match message.code {
        Code::Busy => busy,
        Code::NoMatch => gone,
        Code::Cancelled => cancelled,
        Code::Failed if text.contains("the source changed while it was copied") => changed,
        Code::NotResident if text.contains("is not resident: it has left its pool") => left,
        Code::Failed if text.contains("is not resident: its copy was ended") => left,
        Code::Failed if text.contains("busy: ") => busy,
        _ => &text,
    };
    *moved.refused.entry(reason.to_owned()).or_default() += 1;
}

impl Moved {
    /// Fails if a move was refused for a reason that no moved file gives.
    pub fn check(&self) {
        let others = self
            .refused
            .keys()
            .filter(|reason| !REASONS.contains(&reason.as_str()));
        assert_eq!(others.collect::<Vec<_>>(), [""; 0], "{self}");
    }
}
