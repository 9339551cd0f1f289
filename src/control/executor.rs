//! Who asks, and the one who answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::command::{Answer, Command};
use crate::view::View;

/// The one who carries commands out, called by every door.
pub trait Executor: Send + Sync {
    /// Carries `command` out; returns when there is an answer.
    ///
    /// Doors call this from a thread that belongs to one client, so it may wait where the command
    /// says so (`wait`, `follow`), and then must look at [`Peer::is_gone`] at least once a second and
    /// give up when it says true. `progress` may block for as long as the client is slow (bounded by
    /// the door's write time-out): hold no lock while calling it.
    ///
    /// The command has passed [`Command::check`].
    fn execute(&self, peer: &Peer, command: Command, progress: &mut dyn FnMut(View)) -> Answer;
}

/// Through which door a command came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// The Unix socket.
    Socket,
    /// A file in `.speedloader/`.
    ControlFile,
    /// The web page or its API.
    Http,
    /// The daemon itself.
    Internal,
}

/// Who asks.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Through which door.
    pub door: Door,
    /// User id; none where the door cannot know.
    pub uid: Option<u32>,
    /// Group id; none where the door cannot know.
    pub gid: Option<u32>,
    /// Process id; none where the door cannot know.
    pub pid: Option<i32>,
    gone: Gone,
}

impl Peer {
    /// Somebody at `door` of whom nothing else is known.
    pub fn new(door: Door) -> Self {
        Self {
            door,
            uid: None,
            gid: None,
            pid: None,
            gone: Gone::default(),
        }
    }

    /// The same with credentials.
    #[must_use]
    pub fn with_credentials(self, uid: u32, gid: u32, pid: Option<i32>) -> Self {
        Self {
            uid: Some(uid),
            gid: Some(gid),
            pid,
            ..self
        }
    }

    /// Whether nobody is there any more to hear the answer, or the door is closing.
    pub fn is_gone(&self) -> bool {
        self.gone.is_set()
    }

    /// The handle by which the door says so.
    pub fn gone(&self) -> Gone {
        self.gone.clone()
    }
}

/// Set once, when whoever asked has left.
#[derive(Clone, Debug, Default)]
pub struct Gone(Arc<AtomicBool>);

impl Gone {
    /// From now on the peer is gone.
    pub fn set(&self) {
        // Nothing is published with the flag: it only ends loops.
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
