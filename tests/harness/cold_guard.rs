//! Watches a cold directory: whoever opens one of its files for writing, or changes anything in
//! it, is found out. Two independent witnesses: inotify, which tells of every file that was open for
//! writing when it is closed, through whichever mount it was reached, and a record of checksums and
//! times before and after. It says nothing before everybody has closed: ask it after the daemon's end.

use std::collections::BTreeMap;
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use speedloader_fs::sys::lease::has_no_writer;

/// What must not happen to a cold file.
const FORBIDDEN: WatchFlags = WatchFlags::CLOSE_WRITE
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVE);

/// A watched cold directory.
#[derive(Debug)]
pub struct ColdGuard {
    root: PathBuf,
    inotify: OwnedFd,
    watched: BTreeMap<i32, PathBuf>,
    before: BTreeMap<PathBuf, Record>,
    with_atime: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct Record {
    kind: fs::FileType,
    mode: u32,
    owner: (u32, u32),
    links: u64,
    ino: u64,
    len: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
    atime: Option<(i64, i64)>,
    contents: Option<checksum::Sum>,
}

impl ColdGuard {
    /// Starts watching. `with_atime`: even the time of the last access must stay, as it does where
    /// cold storage is reached by a read-only mount.
    pub fn new(root: &Path, with_atime: bool) -> Self {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
        let mut guard = ColdGuard {
            root: root.to_owned(),
            inotify,
            watched: BTreeMap::new(),
            before: BTreeMap::new(),
            with_atime,
        };
        guard.begin();
        guard
    }

    fn begin(&mut self) {
        await_our_writers(&self.root);
        self.watch(&self.root.clone());
        self.before = record(&self.root, self.with_atime);
    }

    fn watch(&mut self, directory: &Path) {
        let watch = inotify::add_watch(&self.inotify, directory, FORBIDDEN).unwrap();
        self.watched.insert(watch, directory.to_owned());
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                self.watch(&entry.path());
            }
        }
    }

    /// Lets the test itself change the directory, as somebody behind the daemon's back would.
    ///
    /// # Errors
    /// What had happened before the change.
    pub fn change<T>(&mut self, change: impl FnOnce() -> T) -> Result<T, String> {
        self.verify()?;
        let result = change();
        while !self.happened().is_empty() {}
        self.begin();
        Ok(result)
    }

    /// # Errors
    /// What was done to the directory since the start, a line each.
    pub fn verify(&self) -> Result<(), String> {
        let mut faults = self.happened();
        let after = record(&self.root, self.with_atime);
        for (path, before) in &self.before {
            match after.get(path) {
                None => faults.push(format!("{} is gone", path.display())),
                Some(after) if after != before => faults.push(format!(
                    "{} is not as it was: {before:?}, now {after:?}",
                    path.display()
                )),
                Some(_) => {}
            }
        }
        for path in after.keys().filter(|path| !self.before.contains_key(*path)) {
            faults.push(format!("{} is new", path.display()));
        }
        // Our own reading leaves no event: nothing was opened for writing, no time was changed.
        if faults.is_empty() {
            Ok(())
        } else {
            Err(format!(
                "cold storage was written:\n  {}",
                faults.join("\n  ")
            ))
        }
    }

    fn happened(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut buffer = [MaybeUninit::uninit(); 16 << 10];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) if event.events().contains(ReadFlags::IGNORED) => {}
                Ok(event) => {
                    let name = event
                        .file_name()
                        .map(|name| name.to_bytes())
                        .unwrap_or_default();
                    let path = match self.watched.get(&event.wd()) {
                        Some(directory) => directory.join(std::ffi::OsStr::from_bytes(name)),
                        None => PathBuf::from("(events were lost)"),
                    };
                    faults.push(format!("{}: {:?}", path.display(), event.events()));
                }
                Err(rustix::io::Errno::AGAIN) => return faults,
                Err(error) => panic!("inotify: {error}"),
            }
        }
    }
}

/// Waits until nothing of the tree is open for writing: a process that another test is just starting
/// has what we wrote with until its `exec`, and would close it under our eyes.
fn await_our_writers(root: &Path) {
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut waiting = vec![root.to_owned()];
    while let Some(path) = waiting.pop() {
        let kind = fs::symlink_metadata(&path).unwrap().file_type();
        if kind.is_dir() {
            let entries = fs::read_dir(&path).unwrap();
            waiting.extend(entries.map(|entry| entry.unwrap().path()));
        }
        if !kind.is_file() {
            continue;
        }
        let file = fs::File::open(&path).unwrap();
        // Where there are no leases this cannot be asked.
        while matches!(has_no_writer(&file), Ok(false)) && Instant::now() < deadline {
            std::thread::yield_now();
        }
    }
}

/// Everything about a tree but what reading it changes.
fn record(root: &Path, with_atime: bool) -> BTreeMap<PathBuf, Record> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(path) = waiting.pop() {
        let stat = fs::symlink_metadata(&path).unwrap();
        let kind = stat.file_type();
        let contents = kind.is_file().then(|| checksum::of_file(&path));
        if kind.is_dir() {
            // Reading a directory may set its time of access; nothing is learnt from that.
            waiting.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        }
        let record = Record {
            kind,
            mode: stat.mode(),
            owner: (stat.uid(), stat.gid()),
            links: stat.nlink(),
            ino: stat.ino(),
            len: if kind.is_dir() { 0 } else { stat.len() },
            mtime: (stat.mtime(), stat.mtime_nsec()),
            ctime: (stat.ctime(), stat.ctime_nsec()),
            atime: (with_atime && kind.is_file()).then(|| (stat.atime(), stat.atime_nsec())),
            contents,
        };
        found.insert(path, record);
    }
    found
}

mod checksum {
    //! Checksums that leave the time of the last access alone.

    use super::*;
    use std::io::Read;

    /// FNV-1a over words: told apart is what happened by accident, not by design.
    #[derive(Debug, PartialEq, Eq)]
    pub struct Sum(u64);

    pub fn of_file(path: &Path) -> Sum {
        // Only an owner may leave no trace.
        let flags = i32::try_from(rustix::fs::OFlags::NOATIME.bits()).unwrap();
        let quiet = fs::File::options()
            .read(true)
            .custom_flags(flags)
            .open(path);
        let mut file = quiet.or_else(|_| fs::File::open(path)).unwrap();
        let mut sum = 0xcbf2_9ce4_8422_2325_u64;
        let mut buffer = vec![0; 1 << 20];
        loop {
            let count = file.read(&mut buffer).unwrap();
            if count == 0 {
                return Sum(sum);
            }
            for word in buffer[..count].chunks(8) {
                let mut bytes = [0; 8];
                bytes[..word.len()].copy_from_slice(word);
                sum = (sum ^ u64::from_le_bytes(bytes)).wrapping_mul(0x0100_0000_01b3);
            }
        }
    }
}

#[test]
fn reading_is_no_fault_and_every_change_is_one() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::create_dir(at("sub")).unwrap();
    type Deed<'a> = (&'a str, Box<dyn Fn() + 'a>);
    let deeds: Vec<Deed<'_>> = vec![
        (
            "open for writing",
            Box::new(|| drop(fs::File::options().write(true).open(at("sub/a")).unwrap())),
        ),
        ("write", Box::new(|| fs::write(at("sub/a"), "b").unwrap())),
        (
            "chmod",
            Box::new(|| {
                use std::os::unix::fs::PermissionsExt;
                fs::set_permissions(at("sub/a"), fs::Permissions::from_mode(0o600)).unwrap();
            }),
        ),
        (
            "utimens",
            Box::new(|| {
                let file = fs::File::open(at("sub/a")).unwrap();
                file.set_modified(std::time::SystemTime::UNIX_EPOCH)
                    .unwrap();
            }),
        ),
        ("create", Box::new(|| fs::write(at("c"), "").unwrap())),
        (
            "rename",
            Box::new(|| fs::rename(at("sub/a"), at("sub/d")).unwrap()),
        ),
        (
            "link",
            Box::new(|| fs::hard_link(at("sub/a"), at("sub/e")).unwrap()),
        ),
        ("unlink", Box::new(|| fs::remove_file(at("sub/a")).unwrap())),
    ];
    for (name, deed) in deeds {
        fs::write(at("sub/a"), "a").unwrap();
        let guard = ColdGuard::new(directory.path(), true);
        assert_eq!(fs::read(at("sub/a")).unwrap(), b"a");
        let guard_of_reader = ColdGuard::new(directory.path(), false);
        assert_eq!(guard_of_reader.verify(), Ok(()), "{name}");
        deed();
        assert!(guard.verify().is_err(), "{name} was not noticed");
    }
}

#[test]
fn a_change_by_the_test_itself_is_no_fault() {
    let directory = tempfile::tempdir().unwrap();
    let mut guard = ColdGuard::new(directory.path(), true);
    let path = directory.path().join("new/file");
    guard
        .change(|| {
            fs::create_dir(path.parent().unwrap()).unwrap();
            fs::write(&path, "x").unwrap();
        })
        .unwrap();
    assert_eq!(guard.verify(), Ok(()));
    fs::write(&path, "y").unwrap();
    assert!(guard.verify().is_err());
}
