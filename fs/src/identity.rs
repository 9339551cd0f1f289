//! What makes a home file the same file with the same contents: compared before and after a copy,
//! when a replica is adopted, and when a home changed behind our back.

use std::os::fd::AsFd;

use rustix::fs::Stat;
use serde::{Deserialize, Serialize};

/// Device, inode, size and change times of a file at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// Device number of the file system that holds the file.
    pub dev: u64,
    /// Inode number there.
    pub ino: u64,
    /// Size in bytes.
    pub size: u64,
    /// Modification time, nanoseconds since the epoch.
    pub mtime_ns: i64,
    /// Change time, nanoseconds since the epoch.
    pub ctime_ns: i64,
}

impl Identity {
    /// From the result of a `stat`.
    pub fn of(stat: &Stat) -> Self {
        Identity {
            dev: stat.st_dev,
            ino: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime_ns: nanos(stat.st_mtime, stat.st_mtime_nsec as i64),
            ctime_ns: nanos(stat.st_ctime, stat.st_ctime_nsec as i64),
        }
    }

    /// Of an open file.
    ///
    /// # Errors
    /// Whatever `fstat` reports.
    pub fn of_fd(fd: impl AsFd) -> std::io::Result<Self> {
        Ok(Identity::of(&rustix::fs::fstat(fd)?))
    }

    /// Whether both are of one file, whatever it holds.
    pub fn same_file(&self, other: &Identity) -> bool {
        (self.dev, self.ino) == (other.dev, other.ino)
    }

    /// Whether contents read under `self` may still be given out under `other`. The change time is
    /// left out on purpose: chmod, chown, link and rename move it and touch no byte.
    pub fn same_contents(&self, other: &Identity) -> bool {
        self.same_file(other) && self.size == other.size && self.mtime_ns == other.mtime_ns
    }
}

/// Seconds and nanoseconds as one number; saturates in the year 2262.
pub fn nanos(seconds: i64, nanoseconds: i64) -> i64 {
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(nanoseconds)
}
