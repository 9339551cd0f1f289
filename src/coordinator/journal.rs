//! What survives a restart: what was learned, the pins made at run time, and what was resident.
//!
//! Each is a file of the state directory, replaced whole by rename after an fsync. One that cannot be
//! read is set aside with a message and costs nothing but the memory.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use speedloader_policy::Learned;

use crate::safe_directory;
use crate::state_files::{LEARNED, PINS, RESIDENT};
use crate::whole_file;

/// The form of the list of what is resident.
const RESIDENT_VERSION: u32 = 1;
/// How long a daemon that is about to end is waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
const LOCK_INTERVAL: Duration = Duration::from_millis(50);
/// No honest file of ours is larger.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// A model, or a single file, that is resident as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resident {
    /// As people know it.
    pub name: String,
    /// What it is kept by, whatever it is called by then; empty in a list of an older build.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub key: String,
    /// The pool that it is in.
    pub pool: String,
    /// Its files.
    pub files: Vec<ResidentFile>,
}

/// A file as it was when it was copied. The number of its file system is left out: it may be another one
/// after a reboot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResidentFile {
    /// Below the mountpoint, escaped.
    pub path: String,
    /// Its size.
    pub size_bytes: u64,
    /// When its contents were changed last.
    pub mtime_ns: i64,
    /// Its number in its file system.
    pub ino: u64,
}

/// The file: `sha256` is of `models` as compact JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ResidentList {
    version: u32,
    sha256: String,
    models: Vec<Resident>,
}

fn sha256_of(models: &[Resident]) -> serde_json::Result<String> {
    let digest = Sha256::digest(serde_json::to_vec(models)?);
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// What was resident, from the file's bytes.
///
/// # Errors
/// What is wrong with them.
pub fn parse_resident(bytes: &[u8]) -> Result<Vec<Resident>, String> {
    let list: ResidentList = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if list.version != RESIDENT_VERSION {
        return Err(format!("it has version {}", list.version));
    }
    match sha256_of(&list.models) {
        Ok(sha256) if sha256 == list.sha256 => Ok(list.models),
        _ => Err("its checksum is not that of its contents".to_owned()),
    }
}

/// The files of a state directory.
pub struct Journal {
    directory: PathBuf,
    /// Who writes first is replaced first.
    writing: Mutex<()>,
    /// Why the last one could not be written, if it could not.
    fault: Mutex<Option<String>>,
    /// What could not be read, and why.
    set_aside: Mutex<Vec<(String, String)>>,
    /// Locked: two daemons would overwrite each other's state.
    _locked: File,
}

impl Journal {
    /// Uses `directory`, which is made if it is missing.
    ///
    /// # Errors
    /// `WouldBlock` while another daemon uses it; when it cannot be made.
    pub fn open(directory: &Path) -> io::Result<Journal> {
        // The process's mask may be empty: FUSE needs that.
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o755).create(directory)?;
        if let Some(why) = safe_directory::fault(directory)? {
            let text = format!("it {why}, who could change what is learned and pinned");
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        let locked = File::open(directory)?;
        lock(&locked)?;
        for name in [RESIDENT, LEARNED, PINS] {
            // Those of an older build everybody may write. What is missing needs nothing.
            let _ = fs::set_permissions(directory.join(name), fs::Permissions::from_mode(0o600));
        }
        Ok(Journal {
            directory: directory.to_owned(),
            writing: Mutex::new(()),
            fault: Mutex::new(None),
            set_aside: Mutex::default(),
            _locked: locked,
        })
    }

    /// What was learned before; nothing when it cannot be read.
    pub fn learned(&self) -> Learned {
        let Some(bytes) = self.read(LEARNED) else {
            return Learned::new();
        };
        Learned::from_bytes(&bytes).unwrap_or_else(|fault| {
            self.set_aside(LEARNED, &fault.to_string());
            Learned::new()
        })
    }

    /// Pins made at run time: model and pool.
    pub fn pins(&self) -> BTreeMap<String, String> {
        let Some(bytes) = self.read(PINS) else {
            return BTreeMap::new();
        };
        serde_json::from_slice(&bytes).unwrap_or_else(|error| {
            self.set_aside(PINS, &error.to_string());
            BTreeMap::new()
        })
    }

    /// What was resident when it was written down last, the hottest first.
    pub fn resident(&self) -> Vec<Resident> {
        let Some(bytes) = self.read(RESIDENT) else {
            return Vec::new();
        };
        parse_resident(&bytes).unwrap_or_else(|fault| {
            self.set_aside(RESIDENT, &fault);
            Vec::new()
        })
    }

    /// Writes down what is resident, the hottest first.
    ///
    /// # Errors
    /// Whatever writing reports; the former contents stay.
    pub fn save_resident(&self, models: &[Resident]) -> io::Result<()> {
        let list = ResidentList {
            version: RESIDENT_VERSION,
            sha256: sha256_of(models)?,
            models: models.to_vec(),
        };
        self.write(RESIDENT, &serde_json::to_vec_pretty(&list)?)
    }

    /// Writes down what was learned.
    ///
    /// # Errors
    /// Whatever writing reports; the former contents stay.
    pub fn save_learned(&self, bytes: &[u8]) -> io::Result<()> {
        self.write(LEARNED, bytes)
    }

    /// Writes the pins down.
    ///
    /// # Errors
    /// Whatever writing reports; the former contents stay.
    pub fn save_pins(&self, pins: &BTreeMap<String, String>) -> io::Result<()> {
        self.write(PINS, &serde_json::to_vec_pretty(pins)?)
    }

    fn read(&self, name: &str) -> Option<Vec<u8>> {
        let path = self.directory.join(name);
        let metadata = fs::symlink_metadata(&path).ok()?;
        if !metadata.is_file() || metadata.len() > FILE_BYTES_MAX {
            self.set_aside(name, "it is no plain file of a sensible size");
            return None;
        }
        fs::read(path).ok()
    }

    fn set_aside(&self, name: &str, why: &str) {
        let (path, aside) = (
            self.directory.join(name),
            self.directory.join(format!("{name}.bad")),
        );
        tracing::warn!(path = %path.display(), aside = %aside.display(), why, "unreadable: set aside");
        if let Err(error) = fs::rename(&path, &aside) {
            tracing::warn!(%error, "it could not even be renamed");
        }
        let mut set_aside = self
            .set_aside
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        set_aside.push((name.to_owned(), why.to_owned()));
    }

    /// What could not be read since the last time, and why.
    pub fn were_set_aside(&self) -> Vec<(String, String)> {
        std::mem::take(
            &mut self
                .set_aside
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let written = whole_file::replace(&self.directory.join(name), bytes);
        let fault = written
            .as_ref()
            .err()
            .map(|error| format!("{}: {error}", self.directory.display()));
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
        written
    }

    /// Why what was to be written last could not be written, if it could not.
    pub fn fault(&self) -> Option<String> {
        let fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        fault.clone()
    }
}

fn lock(directory: &File) -> io::Result<()> {
    let until = Instant::now() + LOCK_PATIENCE;
    loop {
        match flock(directory, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) if Instant::now() < until => std::thread::sleep(LOCK_INTERVAL),
            // A file system without locks: whoever runs two daemons there is not told.
            Ok(()) | Err(Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_owner_may_write_what_is_kept() {
        let directory = tempfile::tempdir().expect("a directory");
        let pins = directory.path().join(PINS);
        fs::write(&pins, b"{}").expect("written");
        fs::set_permissions(&pins, fs::Permissions::from_mode(0o666)).expect("set");
        let mode = || fs::metadata(&pins).expect("there").permissions().mode() & 0o777;
        let journal = Journal::open(directory.path()).expect("opened");
        assert_eq!(mode(), 0o600);
        journal.save_pins(&BTreeMap::new()).expect("saved");
        assert_eq!(mode(), 0o600);
    }

    #[test]
    fn two_daemons_do_not_share_a_directory() {
        let directory = tempfile::tempdir().expect("a directory");
        let first = Journal::open(directory.path()).expect("opened");
        let refused = Journal::open(directory.path()).err().expect("refused");
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        drop(first);
        Journal::open(directory.path()).expect("opened again");
    }

    #[test]
    fn what_is_written_is_read_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let journal = Journal::open(&directory.path().join("state")).expect("made");
        assert!(journal.pins().is_empty());
        let pins = BTreeMap::from([("a".to_owned(), "local".to_owned())]);
        journal.save_pins(&pins).expect("saved");
        assert_eq!(journal.pins(), pins);
        journal
            .save_learned(&Learned::new().to_bytes())
            .expect("saved");
        assert_eq!(journal.learned().to_bytes(), Learned::new().to_bytes());
    }

    #[test]
    fn what_is_corrupt_is_set_aside() {
        let directory = tempfile::tempdir().expect("a directory");
        let journal = Journal::open(directory.path()).expect("opened");
        fs::write(directory.path().join(PINS), b"{").expect("written");
        fs::write(directory.path().join(LEARNED), b"garbage").expect("written");
        assert!(journal.pins().is_empty());
        assert_eq!(journal.learned().to_bytes(), Learned::new().to_bytes());
        let told = journal.were_set_aside();
        let told: Vec<&str> = told.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(told, [PINS, LEARNED]);
        assert!(directory.path().join("pins.json.bad").exists());
        assert!(directory.path().join("learned.bin.bad").exists());
        assert!(journal.pins().is_empty());
    }

    #[test]
    fn what_is_resident_is_whole_or_set_aside() {
        let directory = tempfile::tempdir().expect("a directory");
        let journal = Journal::open(directory.path()).expect("opened");
        assert!(journal.resident().is_empty());
        let models = vec![Resident {
            name: "a:1b".to_owned(),
            key: "/manifests/a/1b".to_owned(),
            pool: "p".to_owned(),
            files: vec![ResidentFile {
                path: "blobs/a\\n".to_owned(),
                size_bytes: 7,
                mtime_ns: -1,
                ino: u64::MAX,
            }],
        }];
        journal.save_resident(&models).expect("saved");
        assert_eq!(journal.resident(), models);
        let path = directory.path().join(RESIDENT);
        let whole = fs::read_to_string(&path).expect("read");
        for (from, to) in [
            ("a:1b", "a:2b"),
            ("\"version\": 1", "\"version\": 2"),
            ("\"ino\"", "\"inode\""),
            ("}", ""),
        ] {
            let damaged = whole.replacen(from, to, 1);
            assert_ne!(damaged, whole, "{from}");
            fs::write(&path, &damaged).expect("written");
            assert!(journal.resident().is_empty(), "{from}");
            let aside = fs::read_to_string(directory.path().join("resident.json.bad"));
            assert_eq!(aside.expect("set aside"), damaged);
            assert!(!path.exists());
        }
    }

    /// A bit that turned, another version, and a crash in the middle of writing.
    #[test]
    fn what_was_learned_is_whole_or_set_aside() {
        let directory = tempfile::tempdir().expect("a directory");
        let journal = Journal::open(directory.path()).expect("opened");
        let path = directory.path().join(LEARNED);
        let whole = Learned::new().to_bytes();
        for at in [0, 8, 20, whole.len() - 1] {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&path, &damaged).expect("written");
            assert_eq!(journal.learned().loads(), 0);
            let aside = fs::read(directory.path().join("learned.bin.bad")).expect("set aside");
            assert_eq!(aside, damaged, "byte {at}");
            assert!(!path.exists());
        }
        journal.save_learned(&whole).expect("saved");
        fs::write(directory.path().join("learned.bin.new"), b"half").expect("written");
        assert_eq!(journal.learned().to_bytes(), whole);
        journal.save_learned(&whole).expect("saved over it");
        assert_eq!(fs::read(&path).expect("read"), whole);
    }
}
