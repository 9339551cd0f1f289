//! Guards and fault injectors for tests of this crate: mounts that are always taken down again,
//! pools of every kind, seams and sources that fail at the n-th step.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::mount::UnmountFlags;

use crate::attr::{Attr, Kind};
use crate::copy::Source;
use crate::error::{ErrorKind, FsError, FsResult};
use crate::identity::Identity;
use crate::ids::PoolId;
use crate::pool::{Pool, PoolKind, PoolSettings};
use crate::rel_path::RelPath;
use crate::replica::{Draining, ReplicaOrigin};
use crate::seam::Seam;
use crate::tmpfs::{HugePages, TmpfsSettings};

/// A directory to mount at; unmounted and removed on drop.
pub(crate) struct MountPoint {
    // Removed after the unmount in `drop`.
    _directory: tempfile::TempDir,
    path: PathBuf,
}

impl MountPoint {
    /// `None`, with a note, where this user may not mount.
    pub(crate) fn new(test: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped {test}: mounting a tmpfs needs root");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pool");
        std::fs::create_dir(&path).unwrap();
        Some(MountPoint {
            _directory: directory,
            path,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for MountPoint {
    fn drop(&mut self) {
        let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
        while rustix::mount::unmount(&self.path, flags).is_ok() {}
    }
}

/// Counts the steps and fails at the one that a test names.
#[derive(Default)]
pub(crate) struct FaultySeam {
    steps: Mutex<Vec<&'static str>>,
    fail_at: AtomicUsize,
}

impl FaultySeam {
    /// From now on the `number`-th step fails, counted from 1; 0 for none.
    pub(crate) fn fail_at(&self, number: usize) {
        self.steps.lock().unwrap().clear();
        self.fail_at.store(number, Ordering::SeqCst);
    }

    pub(crate) fn steps(&self) -> Vec<&'static str> {
        self.steps.lock().unwrap().clone()
    }
}

impl Seam for FaultySeam {
    fn step(&self, name: &'static str) -> FsResult<()> {
        let mut steps = self.steps.lock().unwrap();
        steps.push(name);
        if steps.len() == self.fail_at.load(Ordering::SeqCst) {
            return Err(FsError::new(
                name,
                ErrorKind::Io(io::Error::other("injected")),
            ));
        }
        Ok(())
    }
}

enum Place {
    Mounted(MountPoint),
    Directory(tempfile::TempDir),
}

/// A connected pool that is taken down with the test.
pub(crate) struct TestPool {
    pub(crate) pool: Arc<Pool>,
    pub(crate) seam: Arc<FaultySeam>,
    pub(crate) kind: PoolKind,
    place: Place,
}

pub(crate) const POOL_BYTES: u64 = 64 << 20;

impl TestPool {
    /// A tmpfs of our own; `None`, with a note, without root.
    pub(crate) fn mounted(test: &str, huge_pages: HugePages) -> Option<Self> {
        let kind = PoolKind::Tmpfs(TmpfsSettings {
            capacity_bytes: POOL_BYTES,
            huge_pages,
            no_swap: true,
            memory_policy: None,
        });
        Some(TestPool::connect(
            kind,
            Place::Mounted(MountPoint::new(test)?),
        ))
    }

    /// A directory of an existing file system, below `parent`.
    pub(crate) fn directory(parent: &Path) -> Self {
        let directory = tempfile::tempdir_in(parent).unwrap();
        let kind = PoolKind::Directory {
            capacity_bytes: POOL_BYTES,
        };
        TestPool::connect(kind, Place::Directory(directory))
    }

    /// One of every kind that this user can have.
    pub(crate) fn all(test: &str) -> Vec<Self> {
        let mut pools = vec![TestPool::directory(&std::env::temp_dir())];
        if Path::new("/dev/shm").is_dir() {
            pools.push(TestPool::directory(Path::new("/dev/shm")));
        }
        pools.extend(TestPool::mounted(test, HugePages::WithinSize));
        pools.extend(TestPool::mounted(test, HugePages::Always));
        pools
    }

    fn connect(kind: PoolKind, place: Place) -> Self {
        let seam = Arc::new(FaultySeam::default());
        let path = match &place {
            Place::Mounted(point) => point.path().to_owned(),
            Place::Directory(directory) => directory.path().join("pool"),
        };
        let settings = settings(&path, &kind, seam.clone());
        TestPool {
            pool: Pool::connect(settings).unwrap(),
            seam,
            kind,
            place,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.pool.path()
    }

    /// As after a restart of the daemon: the pool is let go and connected again. No replica of
    /// it may be held.
    pub(crate) fn reconnect(self) -> Self {
        let TestPool {
            pool, kind, place, ..
        } = self;
        let path = pool.path().to_owned();
        assert_eq!(Arc::strong_count(&pool), 1, "somebody still holds the pool");
        drop(pool);
        let seam = Arc::new(FaultySeam::default());
        let pool = Pool::connect(settings(&path, &kind, seam.clone())).unwrap();
        TestPool {
            pool,
            seam,
            kind,
            place,
        }
    }

    /// Names in the pool's directories, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = ["replicas", "partial"]
            .iter()
            .flat_map(|below| std::fs::read_dir(self.path().join(below)).unwrap())
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

pub(crate) fn settings(path: &Path, kind: &PoolKind, seam: Arc<dyn Seam>) -> PoolSettings {
    PoolSettings {
        id: PoolId(1),
        name: "test".to_owned(),
        path: path.to_owned(),
        kind: kind.clone(),
        speed_bytes_per_sec: None,
        seam,
    }
}

/// Bytes that repeat nowhere near a page or a chunk.
pub(crate) fn content(len: usize, seed: u64) -> Vec<u8> {
    let mut x = seed | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        bytes.extend_from_slice(&x.to_ne_bytes());
    }
    bytes.truncate(len);
    bytes
}

pub(crate) fn identity_of(size: usize) -> Identity {
    Identity {
        dev: 1,
        ino: 2,
        size: size as u64,
        mtime_ns: 3,
        ctime_ns: 4,
    }
}

/// What a plain file of root's with one name has beside its identity.
pub(crate) fn attr_of(identity: Identity) -> Attr {
    Attr {
        identity,
        atime_ns: 0,
        blocks: 0,
        kind: Kind::File,
        permissions: 0o644,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
    }
}

pub(crate) fn origin_of(size: usize) -> ReplicaOrigin {
    ReplicaOrigin {
        home: PathBuf::from("/home/of/tests"),
        path: RelPath::new(b"dir/model.gguf").unwrap(),
        source: identity_of(size),
    }
}

/// What a faulty source does at its n-th read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    Error,
    Interrupted,
    Short,
    Truncated,
    Grown,
    Changed,
    Panic,
}

/// A source in memory.
pub(crate) struct MemorySource {
    bytes: Vec<u8>,
    identity: Mutex<Identity>,
    fault: Fault,
    fault_at: usize,
    reads: AtomicUsize,
}

impl MemorySource {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        MemorySource::with_fault(bytes, Fault::None, 0)
    }

    /// With a fault at the `fault_at`-th read, counted from 1.
    pub(crate) fn with_fault(bytes: Vec<u8>, fault: Fault, fault_at: usize) -> Self {
        let identity = Mutex::new(identity_of(bytes.len()));
        MemorySource {
            bytes,
            identity,
            fault,
            fault_at,
            reads: AtomicUsize::new(0),
        }
    }
}

impl Source for MemorySource {
    fn identity(&self) -> io::Result<Identity> {
        Ok(*self.identity.lock().unwrap())
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let at = usize::try_from(offset).unwrap().min(self.bytes.len());
        let mut count = bytes.len().min(self.bytes.len() - at);
        if self.reads.fetch_add(1, Ordering::SeqCst) + 1 == self.fault_at {
            match self.fault {
                Fault::None => {}
                Fault::Error => return Err(io::Error::from_raw_os_error(5)),
                Fault::Interrupted => return Err(io::ErrorKind::Interrupted.into()),
                Fault::Short => count = count.min(count / 2 + 1),
                Fault::Truncated => return Ok(0),
                Fault::Grown => return Ok(bytes.len() + 1),
                Fault::Changed => self.identity.lock().unwrap().mtime_ns += 1,
                Fault::Panic => panic!("injected"),
            }
        }
        // Rubbish behind what was read must not survive in the copy's last page.
        bytes.fill(0xee);
        bytes[..count].copy_from_slice(&self.bytes[at..at + count]);
        Ok(count)
    }
}

/// Waits until something is so that ends with the last copy of a descriptor: a test beside this one that starts a
/// program holds copies of all for a moment, between fork and exec.
#[track_caller]
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < end, "it never came to be that {what}");
        std::thread::yield_now();
    }
}

/// Waits until nobody uses the replica any more.
#[track_caller]
pub(crate) fn finish(draining: Draining) {
    let mut left = Some(draining);
    until("nobody uses the replica", || {
        left = left
            .take()
            .and_then(|left| left.try_finish().err().map(|left| *left));
        left.is_none()
    });
}

/// Waits until so much of the pool is used.
#[track_caller]
pub(crate) fn until_used(pool: &Pool, bytes: u64) {
    let mut used = 0;
    until("the pool's memory is free again", || {
        used = pool.usage().unwrap().used_bytes;
        used == bytes
    });
}
