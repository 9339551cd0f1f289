//! What counts as a load of a model: an open that reads it, not one that looks at it.
//!
//! Told by the command that opens (hash jobs, backups and searches count nothing), by the file (one
//! with tensors, where the model has any), and by time and use: a handle counts when it is held as
//! long as reading the file at memory speed takes at least, when it is still open after
//! [`HELD_ENOUGH`], or when it was closed with a mapping left. A header read is closed long before.
//!
//! What a process reads of one model is one load until it has let go for [`SAME_LOAD`], and a file of the model that it
//! has not read yet goes on with the load that it is in, however long the one before took. A process that begins while
//! another of its engine does goes on with that one's load: an engine has a process for each GPU. Of models that share
//! what is read, one is loaded.
//!
//! Opens come by tens of thousands a second: who opens, and whether it has the file mapped, is asked
//! of /proc once in [`REMEMBERED`] for each thread, or process and file.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lru::LruCache;
use speedloader_fs::file::HomeFile;
use speedloader_fs::ids::{FileId, HandleId};

/// No memory that a pool may be made of is read faster: bytes a second.
const MEMORY_BYTES_PER_SEC: u64 = 20_000_000_000;
/// Headers with long vocabularies are parsed for so long: a handle that was held for less counts for nothing by its time.
const HEADER_TIME: Duration = Duration::from_millis(60);
/// A handle that is open for so long is not a look at a header.
const HELD_ENOUGH: Duration = Duration::from_secs(1);
/// A process that opens a model again within this time after its last close goes on loading it.
const SAME_LOAD: Duration = Duration::from_secs(10);
/// For so long a process may take from one file of a model to the next, or wait for its copy.
const NEXT_FILE: Duration = Duration::from_secs(3600);
/// Processes of a load beyond which those that have ended are forgotten.
const PROCESSES_MAX: usize = 64;
/// So much is read of what a process has mapped, some 80,000 mappings: it may have chosen very many, with long names.
const MAPS_BYTES_MAX: u64 = 8 << 20;
/// The fields before the path of a line of it take no more.
const MAPS_FIELDS_BYTES: usize = 128;
/// Pairs of model and engine that are remembered, the latest; of file and process, and of handles that count.
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
    reader: Reader,
    opened: Instant,
}

/// An open that turned out to read its file.
#[derive(Clone)]
pub struct Reading {
    /// The file.
    pub file: Arc<HomeFile>,
    /// Who reads.
    pub reader: Reader,
    /// The handle, if it is still open.
    pub handle: Option<HandleId>,
}

/// A process that reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reader {
    /// The process.
    pub process: u32,
    /// The first process of its engine, perhaps itself.
    pub engine: u32,
}

/// Who has opened a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opener {
    /// The process.
    pub reader: Reader,
    /// Whether what it runs is known to read without using.
    pub ignored: bool,
}

/// The last time that a process was asked whether it has a file mapped.
struct Asked {
    at: Instant,
    reader: Reader,
    /// It closed the file once more since: to be asked again.
    again: Option<Arc<HomeFile>>,
}

/// What a process does with a file of a model that it loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// It wants a copy, and may wait for it.
    Awaits,
    /// It reads.
    Reads,
}

/// The last load of a model by an engine.
struct Load {
    /// When a process last did anything of it, or closed a file.
    last: Instant,
    /// By process, what it has done.
    parts: HashMap<u32, HashSet<(FileId, Part)>>,
}

impl Load {
    /// Whether what a process does now goes on with this load; `holds`: it has not let go of what it did before.
    fn goes_on(
        &self,
        process: u32,
        part: (FileId, Part),
        holds: bool,
        is_running: impl Fn(u32) -> bool,
        now: Instant,
    ) -> bool {
        let since = now.saturating_duration_since(self.last);
        match self.parts.get(&process) {
            Some(done) => {
                since < SAME_LOAD || holds || (since < NEXT_FILE && !done.contains(&part))
            }
            // Whoever starts engines one after the other starts loads one after the other.
            None => {
                (since < SAME_LOAD || holds) && self.parts.keys().any(|other| is_running(*other))
            }
        }
    }

    fn take_part(
        &mut self,
        process: u32,
        part: (FileId, Part),
        is_running: impl Fn(u32) -> bool,
        now: Instant,
    ) {
        self.last = now;
        if self.parts.len() >= PROCESSES_MAX && !self.parts.contains_key(&process) {
            self.parts.retain(|other, _| is_running(*other));
        }
        self.parts.entry(process).or_default().insert(part);
    }
}

/// Open handles that may turn out to load something, and loads that were counted lately.
pub struct Loads {
    open: HashMap<HandleId, Watched>,
    /// By model and engine.
    lately: LruCache<(u64, u32), Load>,
    /// Open handles that count, the model and who reads it.
    counted: LruCache<HandleId, (u64, Reader)>,
    /// What processes, and for files without tensors engines, have opened lately, and when last: by it models that share
    /// a file are told apart.
    opened: LruCache<(FileId, u32), Instant>,
    openers: HashMap<u32, (Opener, Instant)>,
    asked: HashMap<(FileId, u32), Asked>,
}

impl Default for Loads {
    fn default() -> Self {
        Loads {
            open: HashMap::new(),
            lately: LruCache::new(LATELY_MAX),
            opened: LruCache::new(LATELY_MAX),
            counted: LruCache::new(LATELY_MAX),
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
        self.opened.put((file.id, opener.reader.process), now);
        if self.open.len() >= WATCHED_MAX {
            return;
        }
        let watched = Watched {
            file,
            reader: opener.reader,
            opened: now,
        };
        self.open.insert(handle, watched);
    }

    /// A file beside the weights of a model was opened by the thread `tid`; `who` is asked when that is not known.
    pub fn opened_beside(
        &mut self,
        file: FileId,
        tid: u32,
        who: impl FnOnce(u32) -> Opener,
        now: Instant,
    ) {
        let opener = self.opener(tid, who, now);
        if !opener.ignored {
            self.opened.put((file, opener.reader.engine), now);
        }
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
        if let Some((model, reader)) = self.counted.pop(&handle)
            && let Some(load) = self.lately.peek_mut(&(model, reader.engine))
        {
            load.last = now;
        }
        let Watched {
            file,
            reader,
            opened,
        } = self.open.remove(&handle)?;
        let reading = |file| Reading {
            file,
            reader,
            handle: None,
        };
        let process = reader.process;
        let held = now.saturating_duration_since(opened);
        if held >= time_to_read(file.attr().identity.size) {
            return Some(reading(file));
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
                    reader,
                    again: None,
                };
                self.asked.insert((file.id, process), asked);
                mapped.then(|| reading(file))
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
        for (handle, watched) in self.open.extract_if(is_enough) {
            let Watched { file, reader, .. } = watched;
            readings.push(Reading {
                file,
                reader,
                handle: Some(handle),
            });
        }
        self.asked.retain(|(_, process), asked| {
            if now.saturating_duration_since(asked.at) < REMEMBERED {
                return true;
            }
            let file = asked.again.take();
            if let Some(file) = file.filter(|file| is_mapped(file, *process)) {
                readings.push(Reading {
                    file,
                    reader: asked.reader,
                    handle: None,
                });
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

    /// When the process has opened the file last, as far as that is remembered; for a file without tensors its engine.
    pub fn last_opened(&self, file: FileId, process: u32) -> Option<Instant> {
        self.opened.peek(&(file, process)).copied()
    }

    /// Whether anything may still turn out to be a load.
    pub fn is_waiting(&self) -> bool {
        !self.open.is_empty() || self.asked.values().any(|asked| asked.again.is_some())
    }

    /// Whether this reading begins a load of the model, rather than going on with one. `is_open` tells of handles: that one
    /// was closed may not have been heard.
    pub fn begins(
        &mut self,
        model: u64,
        reading: &Reading,
        is_open: impl Fn(HandleId) -> bool,
        is_running: impl Fn(u32) -> bool,
        now: Instant,
    ) -> bool {
        let (file, reader) = (reading.file.id, reading.reader);
        let key = (model, reader);
        let mut counted = self.counted.iter();
        let holds = counted.any(|(handle, held)| *held == key && is_open(*handle));
        if let Some(handle) = reading.handle {
            self.counted.put(handle, key);
        }
        self.takes_part(model, reader, (file, Part::Reads), holds, is_running, now)
    }

    /// The same for a process that wants a copy of a file, and may wait for it, before it reads; `coming`: it is on its way
    /// already.
    pub fn begins_first(
        &mut self,
        model: u64,
        file: FileId,
        reader: Reader,
        coming: bool,
        is_running: impl Fn(u32) -> bool,
        now: Instant,
    ) -> bool {
        let part = (file, Part::Awaits);
        self.takes_part(model, reader, part, coming, is_running, now)
    }

    fn takes_part(
        &mut self,
        model: u64,
        reader: Reader,
        part: (FileId, Part),
        holds: bool,
        is_running: impl Fn(u32) -> bool,
        now: Instant,
    ) -> bool {
        let new = || Load {
            last: now,
            parts: HashMap::new(),
        };
        let process = reader.process;
        let key = (model, reader.engine);
        let known = self.lately.get(&key);
        let goes_on = known.is_some_and(|l| l.goes_on(process, part, holds, &is_running, now));
        if !goes_on {
            self.lately.put(key, new());
        }
        let load = self.lately.get_or_insert_mut(key, new);
        load.take_part(process, part, is_running, now);
        !goes_on
    }
}

/// The least time that reading so many bytes takes, and no header.
fn time_to_read(bytes: u64) -> Duration {
    HEADER_TIME.max(Duration::from_secs_f64(
        bytes as f64 / MEMORY_BYTES_PER_SEC as f64,
    ))
}

/// Whether a process has a file mapped, by the numbers that the mount shows: whatever the file is called where the process
/// lives, and also when a replica is what is mapped.
pub fn is_mapped_by(process: u32, dev: u64, ino: u64) -> bool {
    let Ok(maps) = File::open(format!("/proc/{process}/maps")) else {
        return false;
    };
    let lines = BufReader::new(maps.take(MAPS_BYTES_MAX)).split(b'\n');
    lines
        .map_while(Result::ok)
        .any(|line| inode_of_mapping(&line) == Some((dev, ino)))
}

/// Device and inode of a line `RANGE MODE OFFSET MAJOR:MINOR INODE PATH`.
fn inode_of_mapping(line: &[u8]) -> Option<(u64, u64)> {
    let line = String::from_utf8_lossy(&line[..line.len().min(MAPS_FIELDS_BYTES)]);
    let mut fields = line.split_whitespace().skip(3);
    let (major, minor) = fields.next()?.split_once(':')?;
    let number = |text| u32::from_str_radix(text, 16).ok();
    let dev = rustix::fs::makedev(number(major)?, number(minor)?);
    Some((dev, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use speedloader_fs::attr::{Attr, Kind};
    use speedloader_fs::identity::Identity;
    use speedloader_fs::ids::HomeId;

    use super::*;

    fn file(size: u64) -> Arc<HomeFile> {
        numbered(1, size)
    }

    fn numbered(id: u64, size: u64) -> Arc<HomeFile> {
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
        Arc::new(HomeFile::new(FileId(id), HomeId::MODELS, 2, attr, None))
    }

    const GIB: u64 = 1 << 30;

    fn open(loads: &mut Loads, handle: u64, command: &str, now: Instant) {
        let ignored = command == "sha256sum";
        let who = |process| Opener {
            reader: reader(process, process),
            ignored,
        };
        loads.opened(HandleId(handle), file(GIB), 7, who, now);
    }

    fn reader(process: u32, engine: u32) -> Reader {
        Reader { process, engine }
    }

    /// What a process reads of a model that has many files.
    fn part(file: u64, reader: Reader) -> Reading {
        Reading {
            file: numbered(file, GIB),
            reader,
            handle: None,
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    /// Whether it begins a load of model 5, all of whose readers run.
    fn begins(loads: &mut Loads, reading: &Reading, now: Instant) -> bool {
        loads.begins(5, reading, |_| true, |_| true, now)
    }

    fn begins_first(loads: &mut Loads, file: u64, coming: bool, now: Instant) -> bool {
        loads.begins_first(5, FileId(file), reader(7, 7), coming, |_| true, now)
    }

    fn held(loads: &mut Loads, now: Instant) -> usize {
        loads.held(now, |_, _| false).len()
    }

    #[test]
    fn who_opens_again_and_again_is_asked_once() {
        let (mut loads, now) = (Loads::default(), Instant::now());
        let never = |_: &HomeFile, _: u32| -> bool { panic!("asked again") };
        let opener = Opener {
            reader: reader(7, 7),
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

    /// Parsing the header of a small model took longer than reading all of it would.
    #[test]
    fn a_header_of_a_small_file_is_no_load_either() {
        let (mut loads, now) = (Loads::default(), Instant::now());
        let who = |process| Opener {
            reader: reader(process, process),
            ignored: false,
        };
        loads.opened(HandleId(1), file(60_000_000), 7, who, now);
        let closed = loads.closed(HandleId(1), now + Duration::from_millis(50), |_, _| false);
        assert!(closed.is_none());
    }

    #[test]
    fn a_load_that_waits_for_its_copy_is_one_load() {
        let (mut loads, now) = (Loads::default(), Instant::now());
        assert!(begins_first(&mut loads, 1, false, now));
        assert!(
            !begins_first(&mut loads, 2, false, now + 60 * SECOND),
            "its second file"
        );
        assert!(
            !begins_first(&mut loads, 2, true, now + 90 * SECOND),
            "its second thread"
        );
        let (rank, later) = (reader(8, 7), now + 105 * SECOND);
        let begins_too = loads.begins_first(5, FileId(1), rank, true, |_| true, later);
        assert!(!begins_too, "another process of its engine");
        let first = part(1, reader(7, 7));
        assert!(!begins(&mut loads, &first, now + 120 * SECOND));
        assert!(begins(&mut loads, &first, now + 180 * SECOND));
    }

    /// A server that reads a model which is not admitted through one open had one load for ever.
    #[test]
    fn each_load_of_a_model_that_is_not_admitted_counts() {
        let (mut loads, now) = (Loads::default(), Instant::now());
        for load in 0..3 {
            assert!(begins_first(&mut loads, 1, false, now + load * 14 * SECOND));
        }
        // The same where it is read as well.
        for load in 3..6 {
            let now = now + load * 14 * SECOND;
            assert!(begins_first(&mut loads, 1, false, now));
            assert!(!begins(&mut loads, &part(1, reader(7, 7)), now + SECOND));
        }
    }

    /// A model of thirty shards on slow storage was loaded thirty times.
    #[test]
    fn shards_that_take_long_are_one_load() {
        let (mut loads, now) = (Loads::default(), Instant::now());
        let mut begun = 0;
        for shard in 0..30 {
            let reading = part(shard.into(), reader(7, 7));
            begun += usize::from(begins(&mut loads, &reading, now + shard * 100 * SECOND));
        }
        assert_eq!(begun, 1);
        let again = part(0, reader(7, 7));
        assert!(begins(&mut loads, &again, now + 3100 * SECOND));
        assert!(!begins(
            &mut loads,
            &part(1, reader(7, 7)),
            now + 3200 * SECOND
        ));
    }

    #[test]
    fn a_load_lasts_until_it_has_let_go() {
        let (mut loads, now) = (Loads::default(), Instant::now());
        let held = Reading {
            handle: Some(HandleId(1)),
            ..part(1, reader(7, 7))
        };
        let again = part(1, reader(7, 7));
        assert!(begins(&mut loads, &held, now));
        assert!(
            !begins(&mut loads, &again, now + 60 * SECOND),
            "it has it open"
        );
        let unheard = now + 90 * SECOND;
        assert!(loads.begins(5, &again, |_| false, |_| true, unheard));
        let closed = now + 120 * SECOND;
        assert!(loads.closed(HandleId(1), closed, |_, _| false).is_none());
        assert!(!begins(&mut loads, &again, closed + 9 * SECOND));
        assert!(begins(&mut loads, &again, closed + 20 * SECOND));
    }

    /// Eight ranks were eight loads; what else was in RAM made way for them.
    #[test]
    fn the_processes_of_an_engine_load_once() {
        let (mut loads, now) = (Loads::default(), Instant::now());
        let mut begun = 0;
        for rank in 0..8 {
            let reading = part(1, reader(100 + rank, 100));
            begun += usize::from(begins(&mut loads, &reading, now + rank * SECOND));
        }
        assert_eq!(begun, 1);
        let after = now + 9 * SECOND;
        assert!(
            begins(&mut loads, &part(1, reader(200, 200)), after),
            "another engine"
        );
        // One whose others have all ended is started anew.
        let next = part(1, reader(108, 100));
        assert!(loads.begins(5, &next, |_| true, |_| false, after));
        assert!(begins(
            &mut loads,
            &part(1, reader(109, 100)),
            after + 10 * SECOND
        ));
    }

    #[test]
    fn opens_of_one_model_by_one_process_are_one_load() {
        let (mut loads, now) = (Loads::default(), Instant::now());
        let reading = part(1, reader(7, 7));
        assert!(begins(&mut loads, &reading, now));
        assert!(!begins(&mut loads, &reading, now + SECOND));
        assert!(begins(&mut loads, &part(1, reader(8, 8)), now + SECOND));
        assert!(loads.begins(6, &reading, |_| true, |_| true, now + SECOND));
        assert!(begins(&mut loads, &reading, now + 60 * SECOND));
    }

    #[test]
    fn a_mapping_is_told_by_its_numbers() {
        let line =
            b"7faaae800000-7faaafb13000 r--s 00000000 00:29 1099521639889     /in/a \xff.gguf";
        let dev = rustix::fs::makedev(0, 0x29);
        assert_eq!(inode_of_mapping(line), Some((dev, 1_099_521_639_889)));
        assert_eq!(inode_of_mapping(b"7ffd-7ffe rw-p 0 00:00 0"), Some((0, 0)));
        assert_eq!(inode_of_mapping(b"7ffd-7ffe rw-p"), None);
    }
}
