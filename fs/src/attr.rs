//! Attributes of a file as the union keeps them and as `stat` on the mount shows them.
//!
//! Compact: cold files keep theirs in memory, 100,000 of them must be cheap.

use rustix::fs::{FileType, Stat};

use crate::identity::{Identity, nanos};

/// What kind of thing a name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file: the only kind that is ever promoted.
    File,
    /// A directory.
    Directory,
    /// A symbolic link, shown as it is.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

impl Kind {
    /// From the mode of a `stat`; unknown kinds count as sockets, which nobody can open.
    pub fn of_mode(mode: u32) -> Kind {
        match FileType::from_raw_mode(mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Symlink,
            FileType::Fifo => Kind::Fifo,
            FileType::CharacterDevice => Kind::CharDevice,
            FileType::BlockDevice => Kind::BlockDevice,
            _ => Kind::Socket,
        }
    }
}

/// Attributes at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attr {
    /// Device, inode, size and times of the file in its home.
    pub identity: Identity,
    /// Access time, nanoseconds since the epoch.
    pub atime_ns: i64,
    /// Allocated space in 512-byte blocks.
    pub blocks: u64,
    /// What it is.
    pub kind: Kind,
    /// Permission bits with set-user-id, set-group-id and sticky.
    pub permissions: u16,
    /// Number of hard links.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number, for devices.
    pub rdev: u32,
}

impl Attr {
    /// From a `stat`.
    #[allow(
        clippy::unnecessary_cast,
        reason = "the field types differ between architectures"
    )]
    pub fn of(stat: &Stat) -> Attr {
        let mode = stat.st_mode as u32;
        Attr {
            identity: Identity::of(stat),
            atime_ns: nanos(stat.st_atime, stat.st_atime_nsec as i64),
            blocks: u64::try_from(stat.st_blocks).unwrap_or(0),
            kind: Kind::of_mode(mode),
            permissions: (mode & 0o7777) as u16,
            nlink: u32::try_from(stat.st_nlink).unwrap_or(u32::MAX),
            uid: stat.st_uid,
            gid: stat.st_gid,
            rdev: stat.st_rdev as u32,
        }
    }
}
