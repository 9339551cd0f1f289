//! A far store: a FUSE server that shows the regular files of one directory, as slow as it is told
//! to be, that counts what is read from it, and that can hang or fail for direct I/O, as copies use it,
//! and nobody else. Nothing of it can be written.

#![allow(dead_code, reason = "tests and benchmarks use a part each")]

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, UNIX_EPOCH};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, InitFlags, KernelConfig, LockOwner, MountOption, OpenFlags, ReplyAttr,
    ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen, ReplyXattr, Request,
    Session, SessionACL,
};
use rustix::fs::OFlags;
use rustix::mount::UnmountFlags;

/// Requests that are answered at the same time.
const THREADS: usize = 24;
/// The nodeid of the first file; the root is 1.
const FIRST_FILE: u64 = 2;
/// Handles for direct I/O.
const DIRECT: FileHandle = FileHandle(1);

thread_local! {
    /// A fresh one for each answer would be paid for by page faults.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// How fast a store is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Speed {
    /// What each request takes at least.
    pub latency: Duration,
    /// Bytes a second of all requests together; 0: no limit.
    pub bytes_per_sec: u64,
}

/// What was read since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Bytes.
    pub bytes: u64,
    /// Requests.
    pub requests: u64,
}

#[derive(Default)]
struct Shared {
    bytes: AtomicU64,
    requests: AtomicU64,
    failing: AtomicBool,
    /// Direct reads beyond this offset are not answered.
    hangs_from: Mutex<Option<u64>>,
    closing: Mutex<Closing>,
    /// Requests that it does not answer now.
    waiting: AtomicU64,
    changed: Condvar,
}

/// What the store does when a file is closed, or holes are looked for in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Closing {
    /// It need not be asked: the kernel does so once.
    #[default]
    Unasked,
    /// It answers.
    Answers,
    /// It does not, until it does something else.
    Hangs,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A mounted store; it is unmounted on drop.
pub struct Store {
    shared: Arc<Shared>,
    session: Option<BackgroundSession>,
    mountpoint: PathBuf,
}

impl Store {
    /// Shows the files that `directory` has now at `mountpoint`.
    ///
    /// # Errors
    /// Whatever the kernel reports.
    pub fn start(directory: &Path, mountpoint: &Path, speed: Speed) -> io::Result<Store> {
        let mut files = Vec::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            files.push((entry.file_name(), entry.path(), File::open(entry.path())?));
        }
        let shared = Arc::new(Shared::default());
        let server = Server {
            numbers: (files.iter().zip(FIRST_FILE..))
                .map(|((name, ..), number)| (name.clone(), number))
                .collect(),
            files,
            speed,
            free: Mutex::new(Instant::now()),
            shared: Arc::clone(&shared),
        };
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("far".to_owned()), MountOption::RO];
        config.acl = SessionACL::All;
        config.n_threads = Some(THREADS);
        let session = Session::new(server, mountpoint, &config)?.spawn()?;
        Ok(Store {
            shared,
            session: Some(session),
            mountpoint: mountpoint.to_owned(),
        })
    }

    /// What was read since the start.
    pub fn counts(&self) -> Counts {
        Counts {
            bytes: self.shared.bytes.load(Ordering::SeqCst),
            requests: self.shared.requests.load(Ordering::SeqCst),
        }
    }

    /// From now on direct reads of bytes from `offset` on are not answered; `None`: all are.
    pub fn hang_from(&self, offset: Option<u64>) {
        *lock(&self.shared.hangs_from) = offset;
        self.shared.changed.notify_all();
    }

    /// From now on it does this at a close. The kernel asks only while it has never been told that it need not.
    pub fn at_close(&self, closing: Closing) {
        *lock(&self.shared.closing) = closing;
        self.shared.changed.notify_all();
    }

    /// How many requests it does not answer now.
    pub fn waiting(&self) -> u64 {
        self.shared.waiting.load(Ordering::SeqCst)
    }

    /// From now on direct reads fail with EIO, or no longer.
    pub fn fail(&self, failing: bool) {
        self.shared.failing.store(failing, Ordering::SeqCst);
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.hang_from(None);
        self.at_close(Closing::Unasked);
        // Whoever still has a file of it open gets errors from now on; the mountpoint is free.
        let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
        let _ = rustix::mount::unmount(&self.mountpoint, flags);
        drop(self.session.take());
    }
}

struct Server {
    files: Vec<(OsString, PathBuf, File)>,
    numbers: HashMap<OsString, u64>,
    speed: Speed,
    /// When the line is free again.
    free: Mutex<Instant>,
    shared: Arc<Shared>,
}

impl Server {
    fn file(&self, node: INodeNo) -> Option<&(OsString, PathBuf, File)> {
        let index = usize::try_from(node.0.checked_sub(FIRST_FILE)?).ok()?;
        self.files.get(index)
    }

    fn attr(&self, node: INodeNo) -> Option<FileAttr> {
        let (kind, perm, nlink) = match node {
            INodeNo::ROOT => (FileType::Directory, 0o755, 2),
            _ => (FileType::RegularFile, 0o644, 1),
        };
        let stat = match node {
            INodeNo::ROOT => None,
            _ => Some(fs::metadata(&self.file(node)?.1).ok()?),
        };
        let mtime = stat.as_ref().and_then(|stat| stat.modified().ok());
        let size = stat.as_ref().map_or(0, MetadataExt::size);
        Some(FileAttr {
            ino: node,
            size,
            blocks: size.div_ceil(512),
            atime: UNIX_EPOCH,
            mtime: mtime.unwrap_or(UNIX_EPOCH),
            ctime: mtime.unwrap_or(UNIX_EPOCH),
            crtime: UNIX_EPOCH,
            kind,
            perm,
            nlink,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    /// Takes as long as the store takes for so many bytes.
    fn take_time(&self, bytes: usize) {
        let mut until = Instant::now() + self.speed.latency;
        if self.speed.bytes_per_sec > 0 {
            let needed = bytes as f64 / self.speed.bytes_per_sec as f64;
            let mut free = lock(&self.free);
            *free = (*free).max(Instant::now()) + Duration::from_secs_f64(needed);
            until = until.max(*free);
        }
        std::thread::sleep(until.saturating_duration_since(Instant::now()));
    }

    fn answer(&self, file: &File, offset: u64, size: u32, buffer: &mut Vec<u8>, reply: ReplyData) {
        buffer.resize(buffer.len().max(size as usize), 0);
        match file.read_at(&mut buffer[..size as usize], offset) {
            Ok(length) => {
                self.shared.requests.fetch_add(1, Ordering::SeqCst);
                self.shared.bytes.fetch_add(length as u64, Ordering::SeqCst);
                self.take_time(length);
                reply.data(&buffer[..length]);
            }
            Err(_) => reply.error(Errno::EIO),
        }
    }

    /// What it does at a close, once it does anything.
    fn closing(&self) -> Closing {
        let mut closing = lock(&self.shared.closing);
        self.shared.waiting.fetch_add(1, Ordering::SeqCst);
        while *closing == Closing::Hangs {
            let woken = self.shared.changed.wait(closing);
            closing = woken.unwrap_or_else(PoisonError::into_inner);
        }
        self.shared.waiting.fetch_sub(1, Ordering::SeqCst);
        *closing
    }

    fn wait_while_hanging(&self, end: u64) {
        let mut from = lock(&self.shared.hangs_from);
        self.shared.waiting.fetch_add(1, Ordering::SeqCst);
        while from.is_some_and(|from| end > from) {
            let woken = self.shared.changed.wait(from);
            from = woken.unwrap_or_else(PoisonError::into_inner);
        }
        self.shared.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Filesystem for Server {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Each only lets more requests be under way at once.
        let _ = config.add_capabilities(InitFlags::FUSE_ASYNC_READ);
        let _ = config.add_capabilities(InitFlags::FUSE_ASYNC_DIO);
        let _ = config.set_max_background(256);
        Ok(())
    }

    fn lookup(&self, _request: &Request, _parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let number = self.numbers.get(name).copied().map(INodeNo);
        match number.and_then(|number| self.attr(number)) {
            Some(attr) => reply.entry(&Duration::ZERO, &attr, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getxattr(
        &self,
        _request: &Request,
        _node: INodeNo,
        _name: &OsStr,
        _size: u32,
        reply: ReplyXattr,
    ) {
        // As rclone does: that there is no such attribute has its own answer.
        reply.error(Errno::EIO);
    }

    fn getattr(
        &self,
        _request: &Request,
        node: INodeNo,
        _handle: Option<FileHandle>,
        reply: ReplyAttr,
    ) {
        match self.attr(node) {
            Some(attr) => reply.attr(&Duration::ZERO, &attr),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _request: &Request, _node: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let flags = OFlags::from_bits_retain(flags.0.cast_unsigned());
        let handle = u64::from(flags.contains(OFlags::DIRECT));
        reply.opened(FileHandle(handle), FopenFlags::FOPEN_KEEP_CACHE);
    }

    fn flush(
        &self,
        _request: &Request,
        _node: INodeNo,
        _handle: FileHandle,
        _owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        match self.closing() {
            Closing::Unasked => reply.error(Errno::ENOSYS),
            _ => reply.ok(),
        }
    }

    fn lseek(
        &self,
        _request: &Request,
        node: INodeNo,
        _handle: FileHandle,
        _offset: i64,
        _whence: i32,
        reply: ReplyLseek,
    ) {
        match (self.closing(), self.attr(node)) {
            // Without holes but the one at the end.
            (Closing::Answers, Some(attr)) => reply.offset(attr.size.cast_signed()),
            _ => reply.error(Errno::ENOSYS),
        }
    }

    fn read(
        &self,
        _request: &Request,
        node: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let Some((_, _, file)) = self.file(node) else {
            return reply.error(Errno::ENOENT);
        };
        if handle == DIRECT {
            self.wait_while_hanging(offset + u64::from(size));
            if self.shared.failing.load(Ordering::SeqCst) {
                return reply.error(Errno::EIO);
            }
        }
        BUFFER.with_borrow_mut(|bytes| self.answer(file, offset, size, bytes, reply));
    }

    fn readdir(
        &self,
        _request: &Request,
        _node: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let names = self.files.iter().zip(FIRST_FILE..);
        for (index, ((name, ..), number)) in names.enumerate().skip(from) {
            if reply.add(
                INodeNo(number),
                index as u64 + 1,
                FileType::RegularFile,
                name,
            ) {
                break;
            }
        }
        reply.ok();
    }
}
