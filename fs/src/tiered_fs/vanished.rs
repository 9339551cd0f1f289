//! Files that vanished from the models directory behind our back, kept findable for a moment.
//!
//! `mv` from the mount onto the file's own home unlinks the target first and only then opens the
//! source, which is the same file: without this its bytes would be gone. A program that copies or moves
//! files still finds it, and reads it by the descriptor that its node holds. Whoever wants to change it
//! ends that: what he writes belongs to the name, not to a file that has none.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::file::{HomeFile, lock};
use crate::ids::DirId;

type Name = (DirId, Arc<[u8]>);

/// Names that are gone, with their files and when they are forgotten.
#[derive(Default)]
pub(super) struct Vanished(Mutex<HashMap<Name, (Arc<HomeFile>, Instant)>>);

impl Vanished {
    /// Keeps a name until then.
    pub fn keep(&self, directory: DirId, name: &Arc<[u8]>, file: &Arc<HomeFile>, until: Instant) {
        lock(&self.0).insert((directory, Arc::clone(name)), (Arc::clone(file), until));
    }

    /// The file of a name that is kept.
    pub fn find(&self, directory: DirId, name: &[u8]) -> Option<Arc<HomeFile>> {
        let kept = lock(&self.0);
        if kept.is_empty() {
            return None;
        }
        kept.get(&(directory, Arc::from(name)))
            .map(|(file, _)| Arc::clone(file))
    }

    /// Whether the name is kept.
    pub fn holds(&self, directory: DirId, name: &Arc<[u8]>) -> bool {
        lock(&self.0).contains_key(&(directory, Arc::clone(name)))
    }

    /// Forgets a name: something else has it now.
    pub fn forget(&self, directory: DirId, name: &Arc<[u8]>) {
        lock(&self.0).remove(&(directory, Arc::clone(name)));
    }

    /// Forgets the names of a file, and gives them.
    pub fn take(&self, file: &HomeFile) -> Vec<Name> {
        self.take_those(|kept, _| kept.id == file.id)
    }

    /// Time until the next name is forgotten; `None`: nothing is kept.
    pub fn next_end(&self) -> Option<Duration> {
        let next = lock(&self.0).values().map(|(_, until)| *until).min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    /// Forgets what is over, and gives its names.
    pub fn take_ended(&self, now: Instant) -> Vec<Name> {
        self.take_those(|_, until| until <= now)
    }

    fn take_those(&self, ends: impl Fn(&HomeFile, Instant) -> bool) -> Vec<Name> {
        let mut kept = lock(&self.0);
        let ended = kept.extract_if(|_, (file, until)| ends(file, *until));
        ended.map(|(name, _)| name).collect()
    }
}
