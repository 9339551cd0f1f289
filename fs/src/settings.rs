//! What the file system is told by its owner; it knows nothing of files or command lines.

use std::path::PathBuf;
use std::time::Duration;

use crate::home::WatchChoice;

/// One cold directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColdSettings {
    /// Where it is.
    pub path: PathBuf,
    /// How changes become known.
    pub watch: WatchChoice,
    /// Time between rescans, where inotify is blind.
    pub rescan_interval: Duration,
}

/// Settings of one mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FsSettings {
    /// The writable home.
    pub models_dir: PathBuf,
    /// Cold directories in order of precedence.
    pub cold: Vec<ColdSettings>,
    /// Whether the kernel shall be asked for passthrough.
    pub passthrough: bool,
    /// How long an open may wait for a file that is being copied.
    pub max_wait: Duration,
    /// Whether every change through the mount is refused.
    pub read_only: bool,
    /// How long the kernel may keep names.
    pub entry_timeout: Duration,
    /// How long the kernel may keep attributes.
    pub attr_timeout: Duration,
    /// How long start-up waits for the first scan of cold directories.
    pub scan_wait: Duration,
    /// How long a file that vanished from the models directory behind our back can still be read
    /// by who had looked it up, and found by programs that copy or move.
    pub vanished_grace: Duration,
    /// How often resident files of watched cold directories are compared with them; each open of a file of the models
    /// directory compares that.
    pub stale_check_interval: Duration,
}

impl Default for FsSettings {
    fn default() -> Self {
        FsSettings {
            models_dir: PathBuf::new(),
            cold: Vec::new(),
            passthrough: true,
            max_wait: Duration::from_secs(30),
            read_only: false,
            entry_timeout: Duration::from_secs(3600),
            attr_timeout: Duration::from_secs(3600),
            scan_wait: Duration::from_secs(30),
            vanished_grace: Duration::from_millis(500),
            stale_check_interval: Duration::from_secs(10),
        }
    }
}
