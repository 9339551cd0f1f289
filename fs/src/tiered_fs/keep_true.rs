//! Keeping the union true: the first scan, inotify on local homes, rescans of the others, a look at
//! what is resident where inotify may be blind (writes through a mapping or another link), and at the
//! homes' paths when something was mounted.
//!
//! One thread a home scans it, one thread reads inotify. A home that hangs holds up its own thread
//! and nothing else; what is known of it stays as it was.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Timespec, inotify};

use super::TieredFs;
use crate::errno;
use crate::error::{FsError, FsResult};
use crate::event::{AtPath, FsEvent};
use crate::file::{HomeFile, Name, lock};
use crate::home::{Home, Watch, proc_path};
use crate::ids::{DirId, FileId, HomeId};
use crate::rel_path::RelPath;
use crate::union::{Found, UnionChange};

/// How often the start looks whether homes are still being scanned.
const SCAN_LOOK: Duration = Duration::from_millis(50);
/// How often the path of a home is looked at that leads elsewhere: what is there now may be filled later.
const DETACHED_LOOK: Duration = Duration::from_secs(10);
/// A home that has not answered one question for so long is not waited for.
const SILENT_AFTER: Duration = Duration::from_secs(2);

/// What the thread of a home shall do.
enum Task {
    /// Read this directory and all below.
    Scan(DirId),
    /// Look at these names again.
    Look(Vec<Name>),
    /// Look at this file from time to time while it is resident.
    Guard(Weak<HomeFile>),
    /// Look what is at the home's path.
    Mounts,
    /// Read everything, whatever is at the home's path now, and tell when it is done.
    Rescan(Sender<()>),
    /// End.
    Stop,
}

/// The resident files of a watched home, and when they are looked at next; without any the home's
/// thread sleeps.
#[derive(Default)]
struct Guarded {
    files: HashMap<FileId, Weak<HomeFile>>,
    due: Option<Instant>,
}

/// One home as `status` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HomeState {
    /// Whether the first scan is complete.
    pub scanned: bool,
    /// For how long the home's thread has waited for one answer; `None`: it is idle.
    pub waiting: Option<Duration>,
    /// Time since the last complete scan.
    pub last_scan: Option<Duration>,
    /// Whether changes come by inotify, rescans not needed.
    pub watched: bool,
    /// The last error of a scan, in words.
    pub error: Option<String>,
    /// Whether the home is not what is at its path now.
    pub detached: bool,
}

/// What a watch is of: the directory of a home, and which of those that it has had under the name.
#[derive(Clone, Copy)]
struct Watched {
    home: HomeId,
    directory: DirId,
    incarnation: u64,
}

struct Scanner {
    sender: Sender<Task>,
    receiver: Receiver<Task>,
    scanned: AtomicBool,
    /// Milliseconds since `born` at which the current question was asked; 0: none.
    asked_ms: AtomicU64,
    /// Milliseconds since `born` of the last complete scan; 0: none.
    done_ms: AtomicU64,
    unwatched: AtomicBool,
    detached: AtomicBool,
    /// Whether a [`Task::Mounts`] waits: a home that hangs shall not collect them.
    mounts_waits: AtomicBool,
    /// The same of a scan of everything, as changes were lost: they are lost again and again while one is made.
    scan_waits: AtomicBool,
    error: Mutex<Option<String>>,
}

/// The threads' shared state.
pub struct KeepTrue {
    born: Instant,
    scanners: Vec<Scanner>,
    /// `None`: this user has no instance left.
    pub(super) inotify: Option<OwnedFd>,
    watches: Mutex<HashMap<i32, Watched>>,
    stop: Mutex<Option<OwnedFd>>,
}

impl KeepTrue {
    pub(super) fn new(homes: usize) -> KeepTrue {
        let scanner = |_| {
            let (sender, receiver) = unbounded();
            Scanner {
                sender,
                receiver,
                scanned: AtomicBool::new(false),
                asked_ms: AtomicU64::new(0),
                done_ms: AtomicU64::new(0),
                unwatched: AtomicBool::new(false),
                detached: AtomicBool::new(false),
                mounts_waits: AtomicBool::new(false),
                scan_waits: AtomicBool::new(false),
                error: Mutex::new(None),
            }
        };
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        KeepTrue {
            born: Instant::now(),
            scanners: (0..homes).map(scanner).collect(),
            inotify: inotify::init(flags).ok(),
            watches: Mutex::new(HashMap::new()),
            stop: Mutex::new(None),
        }
    }

    fn scanner(&self, home: HomeId) -> &Scanner {
        &self.scanners[usize::from(home.0)]
    }

    fn tell(&self, home: HomeId, task: Task) {
        // The receiver is ours and lives as long.
        let _ = self.scanner(home).sender.send(task);
    }

    /// A directory was seen for the first time: its thread reads it.
    pub(super) fn found(&self, home: HomeId, directory: DirId) {
        self.tell(home, Task::Scan(directory));
    }

    /// Something was mounted or unmounted somewhere: the homes' threads look whether it was there.
    fn mounts_changed(&self) {
        for (home, scanner) in (0..).map(HomeId).zip(&self.scanners) {
            if !scanner.mounts_waits.swap(true, Ordering::Relaxed) {
                self.tell(home, Task::Mounts);
            }
        }
    }

    /// Changes of a home were lost: its thread reads all of it again.
    fn lost(&self, home: HomeId) {
        if !self.scanner(home).scan_waits.swap(true, Ordering::Relaxed) {
            self.tell(home, Task::Scan(DirId::ROOT));
        }
    }

    /// Watches nothing of a home any more: another directory is shown in its place.
    fn unwatch(&self, home: HomeId) {
        let mut watches = lock(&self.watches);
        if let Some(inotify_fd) = &self.inotify {
            let of_home = watches.iter().filter(|(_, watched)| watched.home == home);
            for (watch, _) in of_home {
                // Fails for what was unmounted, whose watches are gone.
                let _ = inotify::remove_watch(inotify_fd, *watch);
            }
        }
        watches.retain(|_, watched| watched.home != home);
        self.scanner(home).unwatched.store(false, Ordering::Relaxed);
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis())
            .unwrap_or(u64::MAX)
            .max(1)
    }

    /// `incarnation` was looked up before the directory is opened: one that takes its place meanwhile is found, and
    /// watched, by itself. Gives `false` when there is none.
    fn watch(&self, home: &Home, watched: Watched, path: &RelPath) -> bool {
        if home.watch() != Watch::Inotify {
            return true;
        }
        let Some(inotify_fd) = &self.inotify else {
            self.cannot_watch(home, errno::too_many_open());
            return true;
        };
        let flags = inotify::WatchFlags::CREATE
            | inotify::WatchFlags::DELETE
            | inotify::WatchFlags::MOVE
            | inotify::WatchFlags::CLOSE_WRITE
            | inotify::WatchFlags::ATTRIB
            | inotify::WatchFlags::MODIFY
            | inotify::WatchFlags::ONLYDIR;
        let fd = match home.directory(path) {
            Ok(fd) => fd,
            Err(error) => return !errno::is_of_missing(&error),
        };
        match inotify::add_watch(inotify_fd, proc_path(&fd), flags) {
            Ok(watch) => {
                lock(&self.watches).insert(watch, watched);
            }
            Err(error) => self.cannot_watch(home, error.into()),
        }
        true
    }

    /// The rescans of the home find what inotify cannot tell.
    fn cannot_watch(&self, home: &Home, error: std::io::Error) {
        let unwatched = &self.scanner(home.id()).unwatched;
        if !unwatched.swap(true, Ordering::Relaxed) {
            let home = home.path().display();
            tracing::warn!(%error, %home, "cannot watch every directory: rescanning");
        }
    }
}

impl TieredFs {
    /// Reads the models directory before anybody can ask.
    pub(super) fn scan_models(&self) -> FsResult<()> {
        if !self.models().is_local() {
            // What other machines change there inotify does not tell.
            let scanner = self.keep_true.scanner(HomeId::MODELS);
            scanner.unwatched.store(true, Ordering::Relaxed);
            tracing::warn!("the models directory is not on a local file system: rescanning");
        }
        self.scan(HomeId::MODELS, DirId::ROOT, &mut |_| {})
    }

    /// Starts the threads, and waits for the first scans of cold directories, not longer than
    /// `scan_wait`.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(self: &Arc<Self>) -> std::io::Result<()> {
        let (done, first_scans) = unbounded();
        for home in &self.homes {
            let (fs, home, done) = (Arc::clone(self), Arc::clone(home), done.clone());
            std::thread::Builder::new()
                .name(format!("scan-{}", home.id()))
                .spawn(move || fs.scanner_thread(&home, done))?;
        }
        drop(done);
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        *lock(&self.keep_true.stop) = Some(writer);
        let fs = Arc::clone(self);
        std::thread::Builder::new()
            .name("inotify".to_owned())
            .spawn(move || fs.inotify_thread(&reader))?;
        self.await_first_scans(&first_scans);
        Ok(())
    }

    /// Waits until every home was scanned once, at most `scan_wait`, and not for a home that gives no
    /// answer at all.
    fn await_first_scans(&self, first_scans: &Receiver<()>) {
        let deadline = Instant::now() + self.settings.scan_wait;
        let mut missing = self.homes.len();
        while missing > 0 {
            match first_scans.recv_timeout(SCAN_LOOK) {
                Ok(()) => missing -= 1,
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    let silent = |state: &HomeState| {
                        state.waiting.is_some_and(|waiting| waiting > SILENT_AFTER)
                    };
                    let hanging = self
                        .home_states()
                        .iter()
                        .filter(|state| silent(state))
                        .count();
                    if hanging >= missing || Instant::now() >= deadline {
                        tracing::warn!(
                            "a cold directory does not answer; its files appear when it does"
                        );
                        return;
                    }
                }
            }
        }
    }

    /// Ends the threads. One that hangs in a home is left behind.
    pub fn stop(&self) {
        lock(&self.keep_true.stop).take();
        for home in &self.homes {
            self.keep_true.tell(home.id(), Task::Stop);
        }
    }

    /// Reads all homes again, and waits until that is done or `wait` is over; `true`: it is done.
    pub fn rescan(&self, wait: Duration) -> bool {
        let (done, all_done) = unbounded();
        for home in &self.homes {
            self.keep_true.tell(home.id(), Task::Rescan(done.clone()));
        }
        drop(done);
        let deadline = Instant::now() + wait;
        self.homes
            .iter()
            .all(|_| all_done.recv_deadline(deadline).is_ok())
    }

    /// Waits until the kernel knows of what was found so far, about a second at most.
    pub fn wait_until_told(&self) {
        self.residency.wait_until_told();
    }

    /// The homes as `status` shows them, in order.
    pub fn home_states(&self) -> Vec<HomeState> {
        let now = self.keep_true.now_ms();
        let since = |ms: u64| (ms != 0).then(|| Duration::from_millis(now.saturating_sub(ms)));
        let state = |home: &Arc<Home>| {
            let scanner = self.keep_true.scanner(home.id());
            let unwatched = scanner.unwatched.load(Ordering::Relaxed);
            HomeState {
                scanned: scanner.scanned.load(Ordering::Relaxed),
                waiting: since(scanner.asked_ms.load(Ordering::Relaxed)),
                last_scan: since(scanner.done_ms.load(Ordering::Relaxed)),
                watched: home.watch() == Watch::Inotify && !unwatched,
                error: lock(&scanner.error).clone(),
                detached: scanner.detached.load(Ordering::Relaxed),
            }
        };
        self.homes.iter().map(state).collect()
    }

    /// A file seems to have changed in its home: the home's thread looks at it.
    pub fn look_again(&self, file: &HomeFile) {
        self.keep_true.tell(file.home, Task::Look(file.names()));
    }

    fn scanner_thread(&self, home: &Home, first_done: Sender<()>) {
        let scanner = self.keep_true.scanner(home.id());
        // Its path is looked at until something is there.
        scanner.detached.store(home.is_missing(), Ordering::Relaxed);
        if home.is_models() {
            scanner.scanned.store(true, Ordering::Relaxed);
            scanner
                .done_ms
                .store(self.keep_true.now_ms(), Ordering::Relaxed);
        } else {
            self.scan_reported(home);
        }
        // Nobody waits any more when `scan_wait` is over.
        let _ = first_done.send(());
        drop(first_done);
        let (mut guarded, mut scanned) = (Guarded::default(), Instant::now());
        loop {
            let rescan = self.rescan_interval(home).map(|after| scanned + after);
            let detached = scanner.detached.load(Ordering::Relaxed);
            let look = detached.then(|| Instant::now() + DETACHED_LOOK);
            let task = match rescan.into_iter().chain(guarded.due).chain(look).min() {
                Some(due) => scanner.receiver.recv_deadline(due),
                None => scanner
                    .receiver
                    .recv()
                    .map_err(|_| RecvTimeoutError::Disconnected),
            };
            match task {
                Ok(Task::Scan(directory)) => {
                    if directory == DirId::ROOT {
                        scanner.scan_waits.store(false, Ordering::Relaxed);
                    }
                    let done = self.scan(home.id(), directory, &mut |changes| self.apply(changes));
                    // One that is gone by now says nothing of its home.
                    let is_gone =
                        |error: &FsError| directory != DirId::ROOT && errno::is_of_missing(error);
                    if !done.as_ref().is_err_and(is_gone) {
                        self.note_error(home, done);
                    }
                }
                Ok(Task::Look(names)) => self.look(home, names),
                Ok(Task::Guard(file)) => self.guard(&mut guarded, file),
                Ok(Task::Mounts) => {
                    scanner.mounts_waits.store(false, Ordering::Relaxed);
                    self.follow_path(home, false);
                }
                Ok(Task::Rescan(done)) => {
                    if !self.follow_path(home, true) {
                        self.scan_reported(home);
                    }
                    scanned = Instant::now();
                    // Nobody may wait for it any more.
                    let _ = done.send(());
                }
                Err(RecvTimeoutError::Timeout) if rescan.is_some_and(|at| at <= Instant::now()) => {
                    if !self.follow_path(home, false) {
                        self.scan_reported(home);
                    }
                    scanned = Instant::now();
                }
                Err(RecvTimeoutError::Timeout)
                    if guarded.due.is_some_and(|at| at <= Instant::now()) =>
                {
                    self.look_at_guarded(home, &mut guarded);
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.follow_path(home, false);
                }
                Ok(Task::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// A file is resident now. Where nothing is watched, the rescans look at it; in the models directory each open
    /// does.
    pub(super) fn guard_resident(&self, file: &Arc<HomeFile>) {
        let home = self.home_of(file);
        if home.watch() == Watch::Inotify && !home.is_models() {
            let file_now = Arc::downgrade(file);
            self.keep_true.tell(file.home, Task::Guard(file_now));
        }
    }

    fn guard(&self, guarded: &mut Guarded, file: Weak<HomeFile>) {
        let Some(id) = file.upgrade().map(|file| file.id) else {
            return;
        };
        guarded.files.insert(id, file);
        let due = || Instant::now() + self.settings.stale_check_interval;
        guarded.due.get_or_insert_with(due);
    }

    /// Compares what is resident with its home.
    fn look_at_guarded(&self, home: &Home, guarded: &mut Guarded) {
        guarded.files.retain(|_, file| {
            let resident = file.upgrade().filter(|file| file.is_resident());
            let name = resident.as_ref().and_then(|file| file.any_name());
            self.look(home, name.into_iter().collect());
            resident.is_some_and(|file| file.is_resident())
        });
        let next = || Instant::now() + self.settings.stale_check_interval;
        guarded.due = (!guarded.files.is_empty()).then(next);
    }

    fn rescan_interval(&self, home: &Home) -> Option<Duration> {
        let unwatched = self
            .keep_true
            .scanner(home.id())
            .unwatched
            .load(Ordering::Relaxed);
        let interval = match home.id() {
            HomeId::MODELS => Duration::from_secs(300),
            HomeId(cold) => {
                self.settings
                    .cold
                    .get(usize::from(cold) - 1)?
                    .rescan_interval
            }
        };
        (home.watch() == Watch::Rescan || unwatched).then_some(interval)
    }

    /// Looks what is at the home's path, says when that has become something else, and reads it if the home shows
    /// that now: gives whether it does.
    fn follow_path(&self, home: &Home, asked: bool) -> bool {
        let found = self.asking(home, || home.follow_path(asked));
        let found = found.unwrap_or_else(|error| {
            tracing::debug!(%error, "what was there stays in use");
            AtPath::Other
        });
        let detached = found == AtPath::Other;
        let was = self
            .keep_true
            .scanner(home.id())
            .detached
            .swap(detached, Ordering::Relaxed);
        let follows = found == AtPath::Followed;
        if follows || detached != was {
            let home = home.id();
            self.residency.tell(FsEvent::HomePath { home, found });
        }
        if follows {
            self.keep_true.unwatch(home.id());
            self.scan_reported(home);
        }
        follows
    }

    fn scan_reported(&self, home: &Home) {
        let done = self.scan(home.id(), DirId::ROOT, &mut |changes| self.apply(changes));
        let scanner = self.keep_true.scanner(home.id());
        if done.is_ok() {
            let was_scanned = scanner.scanned.swap(true, Ordering::Relaxed);
            scanner
                .done_ms
                .store(self.keep_true.now_ms(), Ordering::Relaxed);
            if !was_scanned {
                self.residency.tell(FsEvent::HomeScanned);
            }
        }
        self.note_error(home, done);
    }

    fn note_error(&self, home: &Home, done: FsResult<()>) {
        let text = done.err().map(|error| match home.is_missing() {
            true => "nothing is there yet".to_owned(),
            false => error.to_string(),
        });
        if let Some(error) = &text {
            tracing::warn!(%error, home = %home.path().display(), "cannot read a home");
        }
        *lock(&self.keep_true.scanner(home.id()).error) = text;
    }

    /// Remembers since when the home has been asked: a hanging home is seen by that.
    fn asking<T>(&self, home: &Home, ask: impl FnOnce() -> T) -> T {
        let scanner = self.keep_true.scanner(home.id());
        scanner
            .asked_ms
            .store(self.keep_true.now_ms(), Ordering::Relaxed);
        let answer = ask();
        scanner.asked_ms.store(0, Ordering::Relaxed);
        answer
    }

    /// Reads a directory and all below. Errors of directories below the first are left to the next
    /// scan: they vanish while we read.
    fn scan(
        &self,
        home: HomeId,
        top: DirId,
        report: &mut dyn FnMut(Vec<UnionChange>),
    ) -> FsResult<()> {
        let home = &self.homes[usize::from(home.0)];
        if top == DirId::ROOT {
            let root = self.asking(home, || home.stat(&RelPath::root()))?;
            self.union.set_root_dev(home.id(), root.identity.dev);
        }
        let mut waiting = vec![top];
        while let Some(directory) = waiting.pop() {
            let incarnation = self.union.incarnation(home.id(), directory);
            let Some(path) = self.union.directory_path(directory) else {
                continue;
            };
            // Watched before it is read: a change in between is seen twice, not never.
            let watched = Watched {
                home: home.id(),
                directory,
                incarnation: incarnation.unwrap_or_default(),
            };
            if !self.keep_true.watch(home, watched, &path) {
                // What is there again a moment later may have the same inode number, and be taken for it.
                self.union
                    .directory_is_gone(home.id(), directory, watched.incarnation);
            }
            let quiet = home.is_models().then(|| self.quiet());
            match self.asking(home, || self.union.refresh_directory(home, directory)) {
                Ok(mut changes) => {
                    // Directories found in it are read here, not by a task of their own.
                    let is_below = |found| self.union.parent(found) == Some(directory);
                    changes.retain(|change| {
                        !matches!(change, UnionChange::DirectoryFound(_, found) if is_below(*found))
                    });
                    report(changes);
                }
                Err(error) if directory == top => return Err(error),
                Err(error) => tracing::debug!(%error, "left out of the scan"),
            }
            drop(quiet);
            waiting.extend(self.union.subdirectories_of(home.id(), directory));
        }
        Ok(())
    }

    fn inotify_thread(&self, stop: &OwnedFd) {
        let inotify_fd = self.keep_true.inotify.as_ref();
        let mut buffer = vec![MaybeUninit::uninit(); 64 << 10];
        // The kernel tells by it that the table of mounts has changed.
        let mounts = File::open("/proc/self/mountinfo").ok();
        // What was mounted before that, and after the homes were opened.
        self.keep_true.mounts_changed();
        loop {
            let mut fds = vec![PollFd::new(stop, PollFlags::IN)];
            fds.extend(mounts.as_ref().map(|it| PollFd::new(it, PollFlags::PRI)));
            fds.extend(inotify_fd.map(|it| PollFd::new(it, PollFlags::IN)));
            let patience = self.vanished.next_end().map(|left| Timespec {
                tv_sec: 0,
                // A little late, never early.
                tv_nsec: i64::from(left.subsec_nanos().min(900_000_000)) + 50_000_000,
            });
            match poll(&mut fds, patience.as_ref()) {
                Ok(0) => {
                    self.end_vanished();
                    continue;
                }
                Ok(_) if !fds[0].revents().is_empty() => return,
                Ok(_) => {}
                Err(error) if errno::is_interrupted(error) => {}
                Err(error) => {
                    tracing::error!(%error, "changes behind our back are no longer seen");
                    return;
                }
            }
            if mounts.is_some() && !fds[1].revents().is_empty() {
                self.keep_true.mounts_changed();
            }
            if let Some(inotify_fd) = inotify_fd {
                self.take_inotify_events(inotify_fd, &mut buffer);
            }
            // What comes in bursts is looked at once.
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whoever looked up what is gone now can still read it, for a moment.
    fn keep_vanished(&self, changes: &[UnionChange]) {
        if self.settings.vanished_grace.is_zero() {
            return;
        }
        for change in changes {
            if let UnionChange::FileGone(file, directory, name) = change
                && file.with_live(|live| live.node()).is_some()
            {
                let until = Instant::now() + self.settings.vanished_grace;
                self.vanished.keep(*directory, name, file, until);
            }
        }
    }

    fn end_vanished(&self) {
        for (directory, name) in self.vanished.take_ended(Instant::now()) {
            self.residency.notice_name(&self.nodes, directory, &name);
        }
    }

    fn take_inotify_events(&self, inotify_fd: &OwnedFd, buffer: &mut [MaybeUninit<u8>]) {
        let mut touched: BTreeSet<(HomeId, DirId, Arc<[u8]>)> = BTreeSet::new();
        let mut lost = false;
        let mut reader = inotify::Reader::new(inotify_fd, buffer);
        while let Ok(event) = reader.next() {
            let flags = event.events();
            lost |= flags.contains(inotify::ReadFlags::QUEUE_OVERFLOW);
            let mut watches = lock(&self.keep_true.watches);
            if flags.contains(inotify::ReadFlags::IGNORED) {
                let gone = watches.remove(&event.wd());
                drop(watches);
                // Another one may have its name, and its inode number, by now.
                let name = gone.and_then(|gone| {
                    let (home, directory) = (gone.home, gone.directory);
                    let (parent, name) =
                        self.union
                            .directory_is_gone(home, directory, gone.incarnation)?;
                    Some((home, parent, name))
                });
                touched.extend(name);
                continue;
            }
            let Some(watched) = watches.get(&event.wd()).copied() else {
                continue;
            };
            if let Some(name) = event.file_name() {
                let is_write = flags == inotify::ReadFlags::MODIFY;
                if is_write
                    && watched.home == HomeId::MODELS
                    && !self.is_seen_by_kernel(watched.directory, name.to_bytes())
                {
                    continue;
                }
                let name = Arc::from(name.to_bytes());
                touched.insert((watched.home, watched.directory, name));
            }
            if reader.is_buffer_empty() && touched.len() > 4096 {
                break;
            }
        }
        if lost {
            tracing::warn!("too many changes at once: reading all local homes again");
            for home in self
                .homes
                .iter()
                .filter(|home| home.watch() == Watch::Inotify)
            {
                self.keep_true.lost(home.id());
            }
        }
        let mut names: BTreeMap<HomeId, Vec<Name>> = BTreeMap::new();
        for (home, directory, name) in touched {
            names.entry(home).or_default().push((directory, name));
        }
        for (home, names) in names {
            match home {
                HomeId::MODELS => self.look(&self.homes[0], names),
                // A cold home may hang: its own thread asks it.
                cold => self.keep_true.tell(cold, Task::Look(names)),
            }
        }
    }

    /// Whether the kernel may have a size of the file that others write to. Of what is written through us it knows, and
    /// what it does not know is looked at when it is closed.
    fn is_seen_by_kernel(&self, directory: DirId, name: &[u8]) -> bool {
        match self.union.look_up(directory, name) {
            Some(Found::File(file)) => {
                file.with_live(|live| live.node().is_some() && live.writers == 0)
            }
            _ => false,
        }
    }

    /// Looks at names again. Those that exist come first: a file that got another name is still the
    /// same one when its old name is found gone.
    fn look(&self, home: &Home, mut names: Vec<Name>) {
        if names.len() > 1 {
            names.sort_by_cached_key(|(directory, name)| {
                let path = self.union.directory_path(*directory);
                let found = path.map(|path| self.asking(home, || home.look_up(&path, name)));
                !matches!(found, Some(Ok(Some(_))))
            });
        }
        for (directory, name) in names {
            let _quiet = home.is_models().then(|| self.quiet());
            let found = self.asking(home, || self.union.refresh_name(home, directory, &name));
            if let Ok(changes) = found {
                self.keep_vanished(&changes);
                self.apply(changes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each time that changes were lost, one more scan of everything was queued, and what was asked meanwhile waited for
    /// all of them.
    #[test]
    fn changes_that_are_lost_again_cost_no_second_scan() {
        let keep_true = KeepTrue::new(2);
        let home = HomeId(1);
        for _ in 0..100 {
            keep_true.lost(home);
        }
        let receiver = &keep_true.scanner(home).receiver;
        assert!(matches!(receiver.try_recv(), Ok(Task::Scan(DirId::ROOT))));
        assert!(receiver.is_empty());
    }
}
