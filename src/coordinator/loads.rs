//! What counts as a load of a model: an open that reads it, not one that looks at it.
//!
//! Told by the command that opens (hash jobs, backups and searches count nothing), by the file (one
//! with tensors, where the model has any), and by time and use: a handle counts when it is held as
//! long as reading the file at memory speed takes at least, when it is still open after
//! [`HELD_ENOUGH`], or when it was closed with a mapping left. A header read is closed long before.
//! Opens of one model by one process are one load until it has let go for [`SAME_LOAD`].

use std::collections::{HashMap, HashSet};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lru::LruCache;
use speedloader_fs::file::HomeFile;
use speedloader_fs::ids::HandleId;

/// No memory that a pool may be made of is read faster: bytes a second.
const MEMORY_BYTES_PER_SEC: u64 = 20_000_000_000;
/// A handle that is open for so long is not a look at a header.
const HELD_ENOUGH: Duration = Duration::from_secs(1);
/// A process that opens a model again within this time after its last close goes on loading it.
const SAME_LOAD: Duration = Duration::from_secs(10);
/// Pairs of model and process that are remembered, the latest.
const LATELY_MAX: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");
/// Open handles that are watched; more are not counted.
const WATCHED_MAX: usize = 100_000;

struct Watched {
    file: Arc<HomeFile>,
    process: u32,
    opened: Instant,
    counted: bool,
}

/// An open that turned out to read its file.
#[derive(Clone)]
pub struct Reading {
    /// The file.
    pub file: Arc<HomeFile>,
    /// The process.
    pub process: u32,
}

/// Open handles, and loads that were counted lately.
pub struct Loads {
    open: HashMap<HandleId, Watched>,
    lately: LruCache<(u64, u32), Instant>,
}

impl Default for Loads {
    fn default() -> Self {
        Loads {
            open: HashMap::new(),
            lately: LruCache::new(LATELY_MAX),
        }
    }
}

impl Loads {
    /// A file was opened by `process`; `command` is what runs there.
    pub fn opened(
        &mut self,
        handle: HandleId,
        file: Arc<HomeFile>,
        process: u32,
        command: Option<&str>,
        ignored: &HashSet<String>,
        now: Instant,
    ) {
        let ignored = command.is_some_and(|command| ignored.contains(command));
        if !ignored && self.open.len() < WATCHED_MAX {
            self.open.insert(
                handle,
                Watched {
                    file,
                    process,
                    opened: now,
                    counted: false,
                },
            );
        }
    }

    /// The handle was closed. `is_mapped` is asked only when the time alone does not tell.
    pub fn closed(
        &mut self,
        handle: HandleId,
        now: Instant,
        is_mapped: impl FnOnce(&HomeFile, u32) -> bool,
    ) -> Option<Reading> {
        let watched = self.open.remove(&handle)?;
        if watched.counted {
            return None;
        }
        let held = now.saturating_duration_since(watched.opened);
        let counts = held >= time_to_read(watched.file.attr().identity.size)
            || is_mapped(&watched.file, watched.process);
        counts.then_some(Reading {
            file: watched.file,
            process: watched.process,
        })
    }

    /// Handles that have been open long enough to count now.
    pub fn held(&mut self, now: Instant) -> Vec<Reading> {
        let mut readings = Vec::new();
        for watched in self.open.values_mut().filter(|watched| !watched.counted) {
            if now.saturating_duration_since(watched.opened) >= HELD_ENOUGH {
                watched.counted = true;
                let (file, process) = (Arc::clone(&watched.file), watched.process);
                readings.push(Reading { file, process });
            }
        }
        readings
    }

    /// The file was demoted on request: handles that were open then are no reason to bring it back.
    pub fn settle(&mut self, file: &HomeFile) {
        for watched in self
            .open
            .values_mut()
            .filter(|watched| watched.file.id == file.id)
        {
            watched.counted = true;
        }
    }

    /// Whether any open handle may still turn out to be a load.
    pub fn is_waiting(&self) -> bool {
        self.open.values().any(|watched| !watched.counted)
    }

    /// Whether this reading begins a load of the model, rather than going on with one.
    pub fn begins(&mut self, model: u64, process: u32, now: Instant) -> bool {
        let last = self.lately.put((model, process), now);
        last.is_none_or(|last| now.saturating_duration_since(last) >= SAME_LOAD)
    }
}

/// The least time that reading so many bytes takes.
fn time_to_read(bytes: u64) -> Duration {
    Duration::from_secs_f64(bytes as f64 / MEMORY_BYTES_PER_SEC as f64)
}

/// Whether a process has `path` mapped.
pub fn is_mapped_by(process: u32, path: &str) -> bool {
    let maps = std::fs::read_to_string(format!("/proc/{process}/maps")).unwrap_or_default();
    maps.lines().any(|line| line.ends_with(path))
}

#[cfg(test)]
mod tests {
    use speedloader_fs::attr::{Attr, Kind};
    use speedloader_fs::identity::Identity;
    use speedloader_fs::ids::{FileId, HomeId};

    use super::*;

    fn file(size: u64) -> Arc<HomeFile> {
        let identity = Identity {
            dev: 1,
            ino: 2,
            size,
            mtime_ns: 0,
            ctime_ns: 0,
        };
        let attr = Attr {
            identity,
            atime_ns: 0,
            blocks: 0,
            kind: Kind::File,
            permissions: 0o644,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
        };
        Arc::new(HomeFile::new(FileId(1), HomeId::MODELS, 2, attr, None))
    }

    const GIB: u64 = 1 << 30;

    fn open(loads: &mut Loads, handle: u64, command: &str, now: Instant) {
        let ignored = HashSet::from(["sha256sum".to_owned()]);
        loads.opened(HandleId(handle), file(GIB), 7, Some(command), &ignored, now);
    }

    #[test]
    fn a_header_read_is_no_load() {
        let (mut loads, now) = (Loads::default(), Instant::now());
        open(&mut loads, 1, "ollama", now);
        let closed = loads.closed(HandleId(1), now + Duration::from_millis(2), |_, _| false);
        assert!(closed.is_none());
    }

    #[test]
    fn reading_the_whole_file_is_a_load() {
        let (mut loads, now) = (Loads::default(), Instant::now());
        open(&mut loads, 1, "llama-server", now);
        let closed = loads.closed(HandleId(1), now + Duration::from_millis(90), |_, _| false);
        assert!(closed.is_some());
    }

    #[test]
    fn a_mapping_that_outlives_its_handle_is_a_load() {
        let (mut loads, now) = (Loads::default(), Instant::now());
        open(&mut loads, 1, "llama-server", now);
        assert!(
            loads
                .closed(HandleId(1), now, |_, process| process == 7)
                .is_some()
        );
    }

    #[test]
    fn a_hash_job_is_no_load_however_long_it_reads() {
        let (mut loads, now) = (Loads::default(), Instant::now());
        open(&mut loads, 1, "sha256sum", now);
        assert!(loads.held(now + Duration::from_secs(60)).is_empty());
        assert!(
            loads
                .closed(HandleId(1), now + Duration::from_secs(60), |_, _| true)
                .is_none()
        );
    }

    #[test]
    fn a_held_handle_counts_once() {
        let (mut loads, now) = (Loads::default(), Instant::now());
        open(&mut loads, 1, "python3", now);
        assert!(loads.is_waiting());
        assert!(loads.held(now + Duration::from_millis(10)).is_empty());
        assert_eq!(loads.held(now + Duration::from_secs(2)).len(), 1);
        assert!(!loads.is_waiting());
        assert!(loads.held(now + Duration::from_secs(3)).is_empty());
        assert!(
            loads
                .closed(HandleId(1), now + Duration::from_secs(4), |_, _| true)
                .is_none()
        );
    }

    #[test]
    fn a_handle_open_at_a_demotion_does_not_undo_it() {
        let (mut loads, now) = (Loads::default(), Instant::now());
        open(&mut loads, 1, "python3", now);
        loads.settle(&file(GIB));
        assert!(
            loads
                .closed(HandleId(1), now + Duration::from_secs(4), |_, _| true)
                .is_none()
        );
    }

    #[test]
    fn opens_of_one_model_by_one_process_are_one_load() {
        let (mut loads, now) = (Loads::default(), Instant::now());
        assert!(loads.begins(5, 7, now));
        assert!(!loads.begins(5, 7, now + Duration::from_secs(1)));
        assert!(loads.begins(5, 8, now + Duration::from_secs(1)));
        assert!(loads.begins(6, 7, now + Duration::from_secs(1)));
        assert!(loads.begins(5, 7, now + Duration::from_secs(60)));
    }
}
