//! What counts as a load of a model: an open that reads it, not one that looks at it.
//!
//! Told by the command that opens (hash jobs, backups and searches count nothing), by the file (one
//! with tensors, where the model has any), and by time and use: a handle counts when it is held as
//! long as reading the file at memory speed takes at least, when it is still open after
//! [`HELD_ENOUGH`], or when it was closed with a mapping left. A header read is closed long before.
//! Opens of one model by one process are one load until it has let go for [`SAME_LOAD`]; of models that share what is
//! read, one is loaded.
//!
//! Opens come by tens of thousands a second: who opens, and whether it has the file mapped, is asked
//! of /proc once in [`REMEMBERED`] for each thread, or process and file.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lru::LruCache;
use speedloader_fs::file::HomeFile;
use speedloader_fs::ids::{FileId, HandleId};

/// No memory that a pool may be made of is read faster: bytes a second.
const MEMORY_BYTES_PER_SEC: u64 = 20_000_000_000;
/// A handle that is open for so long is not a look at a header.
const HELD_ENOUGH: Duration = Duration::from_secs(1);
/// A process that opens a model again within this time after its last close goes on loading it.
const SAME_LOAD: Duration = Duration::from_secs(10);
/// Pairs of model and process that are remembered, the latest.
const LATELY_MAX: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");
/// Open handles that are watched; more are not counted. Those that count are watched no longer, so nobody who
/// holds many keeps the loads of others from being counted.
const WATCHED_MAX: usize = 100_000;
/// For how long an answer of /proc is remembered: no process number is used again so soon.
const REMEMBERED: Duration = Duration::from_millis(500);
/// Answers that may be remembered before those that are too old are looked for.
const ANSWERS_MAX: usize = 256;

struct Watched {
    file: Arc<HomeFile>,
    process: u32,
    opened: Instant,
}

/// An open that turned out to read its file.
#[derive(Clone)]
pub struct Reading {
    /// The file.
    pub file: Arc<HomeFile>,
    /// The process.
    pub process: u32,
}

/// Who has opened a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opener {
    /// The process.
    pub process: u32,
    /// Whether what it runs is known to read without using.
    pub ignored: bool,
}

/// The last time that a process was asked whether it has a file mapped.
struct Asked {
    at: Instant,
    /// It closed the file once more since: to be asked again.
    again: Option<Arc<HomeFile>>,
}

/// Open handles that may turn out to load something, and loads that were counted lately.
pub struct Loads {
    open: HashMap<HandleId, Watched>,
    lately: LruCache<(u64, u32), Instant>,
    /// What processes have opened lately: by it models that share a file are told apart.
    opened: LruCache<(FileId, u32), ()>,
    /// Loads that were counted when they began: the next reading goes on with them.
    first: LruCache<(u64, u32), ()>,
    openers: HashMap<u32, (Opener, Instant)>,
    asked: HashMap<(FileId, u32), Asked>,
}

impl Default for Loads {
    fn default() -> Self {
        Loads {
            open: HashMap::new(),
            lately: LruCache::new(LATELY_MAX),
            opened: LruCache::new(LATELY_MAX),
            first: LruCache::new(LATELY_MAX),
            openers: HashMap::new(),
            asked: HashMap::new(),
        }
    }
}

impl Loads {
    /// A file was opened by the thread `tid`; `who` is asked when that is not known.
    pub fn opened(
        &mut self,
        handle: HandleId,
        file: Arc<HomeFile>,
        tid: u32,
        who: impl FnOnce(u32) -> Opener,
        now: Instant,
    ) {
        let opener = self.opener(tid, who, now);
        if opener.ignored {
            return;
        }
        self.opened.put((file.id, opener.process), ());
        if self.open.len() >= WATCHED_MAX {
            return;
        }
        let watched = Watched {
            file,
            process: opener.process,
            opened: now,
        };
        self.open.insert(handle, watched);
    }

    fn opener(&mut self, tid: u32, who: impl FnOnce(u32) -> Opener, now: Instant) -> Opener {
        let is_new = |at: Instant| now.saturating_duration_since(at) < REMEMBERED;
        if let Some((opener, _)) = self.openers.get(&tid).filter(|(_, at)| is_new(*at)) {
            return *opener;
        }
        if self.openers.len() >= ANSWERS_MAX {
            self.openers.retain(|_, (_, at)| is_new(*at));
        }
        let opener = who(tid);
        self.openers.insert(tid, (opener, now));
        opener
    }

    /// The handle was closed. `is_mapped` is asked only when the time alone does not tell, and not
    /// again and again: [`Loads::held`] asks for what was closed meanwhile.
    pub fn closed(
        &mut self,
        handle: HandleId,
        now: Instant,
        is_mapped: impl FnOnce(&HomeFile, u32) -> bool,
    ) -> Option<Reading> {
        let Watched {
            file,
            process,
            opened,
        } = self.open.remove(&handle)?;
        let held = now.saturating_duration_since(opened);
        if held >= time_to_read(file.attr().identity.size) {
            return Some(Reading { file, process });
        }
        if self.asked.len() >= ANSWERS_MAX {
            self.asked.retain(|_, asked| {
                asked.again.is_some() || now.saturating_duration_since(asked.at) < REMEMBERED
            });
        }
        match self.asked.get_mut(&(file.id, process)) {
            Some(asked) if now.saturating_duration_since(asked.at) < REMEMBERED => {
                asked.again = Some(file);
                None
            }
            _ => {
                let mapped = is_mapped(&file, process);
                let asked = Asked {
                    at: now,
                    again: None,
                };
                self.asked.insert((file.id, process), asked);
                mapped.then_some(Reading { file, process })
            }
        }
    }

    /// Handles that have been open long enough to count now, and files that were closed with a
    /// mapping left.
    pub fn held(
        &mut self,
        now: Instant,
        is_mapped: impl Fn(&HomeFile, u32) -> bool,
    ) -> Vec<Reading> {
        let mut readings = Vec::new();
        let is_enough = |_: &HandleId, watched: &mut Watched| {
            now.saturating_duration_since(watched.opened) >= HELD_ENOUGH
        };
        for (_, watched) in self.open.extract_if(is_enough) {
            let Watched { file, process, .. } = watched;
            readings.push(Reading { file, process });
        }
        self.asked.retain(|(_, process), asked| {
            if now.saturating_duration_since(asked.at) < REMEMBERED {
                return true;
            }
            let file = asked.again.take();
            if let Some(file) = file.filter(|file| is_mapped(file, *process)) {
                let process = *process;
                readings.push(Reading { file, process });
            }
            false
        });
        readings
    }

    /// The file was demoted on request: handles that were open then are no reason to bring it back.
    pub fn settle(&mut self, file: &HomeFile) {
        self.open.retain(|_, watched| watched.file.id != file.id);
        self.asked.retain(|(asked, _), _| *asked != file.id);
    }

    /// Whether the process has opened the file lately.
    pub fn has_opened(&self, file: FileId, process: u32) -> bool {
        self.opened.contains(&(file, process))
    }

    /// Whether anything may still turn out to be a load.
    pub fn is_waiting(&self) -> bool {
        !self.open.is_empty() || self.asked.values().any(|asked| asked.again.is_some())
    }

    /// Whether this reading begins a load of the model, rather than going on with one.
    pub fn begins(&mut self, model: u64, process: u32, now: Instant) -> bool {
        let last = self.lately.put((model, process), now);
        if self.first.pop(&(model, process)).is_some() {
            return false;
        }
        last.is_none_or(|last| now.saturating_duration_since(last) >= SAME_LOAD)
    }
}

impl Loads {
    /// The same for a load that is known before it reads: however long its files take to come, its
    /// next reading is no other load.
    pub fn begins_first(&mut self, model: u64, process: u32, now: Instant) -> bool {
        let begins = self.begins(model, process, now);
        self.first.put((model, process), ());
        begins
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
    use speedloader_fs::ids::HomeId;

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
        let ignored = command == "sha256sum";
        let who = |process| Opener { process, ignored };
        loads.opened(HandleId(handle), file(GIB), 7, who, now);
    }

    fn held(loads: &mut Loads, now: Instant) -> usize {
        loads.held(now, |_, _| false).len()
    }

    #[test]
    fn who_opens_again_and_again_is_asked_once() {
        let (mut loads, now) = (Loads::default(), Instant::now());
        let never = |_: &HomeFile, _: u32| -> bool { panic!("asked again") };
        let opener = Opener {
            process: 7,
            ignored: false,
        };
        loads.opened(HandleId(1), file(GIB), 8, |_| opener, now);
        assert!(loads.closed(HandleId(1), now, |_, _| false).is_none());
        for handle in 2..100 {
            loads.opened(HandleId(handle), file(GIB), 8, |_| panic!("asked"), now);
            assert!(loads.closed(HandleId(handle), now, never).is_none());
        }
        // The mapping of the last one is seen all the same, and by it alone.
        assert!(loads.is_waiting());
        assert!(loads.held(now + REMEMBERED / 2, never).is_empty());
        let later = loads.held(now + REMEMBERED, |_, process| process == 7);
        assert_eq!(later.len(), 1);
        assert!(!loads.is_waiting());
        loads.opened(HandleId(100), file(GIB), 8, |_| opener, now + REMEMBERED);
        let mapped = loads.closed(HandleId(100), now + REMEMBERED, |_, _| true);
        assert!(mapped.is_some());
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
        assert!(held(&mut loads, now + Duration::from_secs(60)) == 0);
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
        assert!(held(&mut loads, now + Duration::from_millis(10)) == 0);
        assert_eq!(held(&mut loads, now + Duration::from_secs(2)), 1);
        assert!(!loads.is_waiting());
        assert!(held(&mut loads, now + Duration::from_secs(3)) == 0);
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
    fn a_load_that_waits_for_its_copy_is_one_load() {
        let (mut loads, now) = (Loads::default(), Instant::now());
        assert!(loads.begins_first(5, 7, now));
        assert!(
            !loads.begins_first(5, 7, now + Duration::from_secs(60)),
            "its second file"
        );
        assert!(!loads.begins(5, 7, now + Duration::from_secs(120)));
        assert!(loads.begins(5, 7, now + Duration::from_secs(180)));
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
