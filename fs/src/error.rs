//! The one error of this crate: what was tried, on which path, and what went wrong.
//!
//! `Display` never prints its source; whoever reports an error prints the chain once.

use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::rel_path::{BadPath, RelPath, escape};

/// Result of this crate.
pub type FsResult<T> = Result<T, FsError>;

/// What went wrong.
#[derive(Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The kernel's own answer.
    Io(io::Error),
    /// The name, file or handle does not exist (any more).
    NotFound,
    /// The name exists already.
    Exists,
    /// A directory was needed.
    NotDirectory,
    /// A directory is in the way.
    IsDirectory,
    /// The directory still has entries.
    NotEmpty,
    /// The name could escape or is too long.
    BadPath(BadPath),
    /// The file lives in cold storage, which is never written.
    ColdReadOnly,
    /// The whole mount is read-only.
    ReadOnly,
    /// An argument makes no sense; the text says which.
    Invalid(&'static str),
    /// The caller may not do that.
    NotPermitted,
    /// The directories of the file's home keep the caller out.
    Barred,
    /// The file has a writer, a lock or a move under way.
    Busy(&'static str),
    /// Readers keep the node where it is: the name leads to another one now.
    Retired,
    /// Another file has the name by now than the one that the kernel has checked.
    Displaced,
    /// No pool is ever large enough: bytes wanted, bytes at most.
    TooLarge {
        /// Bytes of the file.
        needed_bytes: u64,
        /// Capacity of the pool in bytes.
        capacity_bytes: u64,
    },
    /// There is no room now: bytes wanted, bytes free.
    NoSpace {
        /// Bytes of the file.
        needed_bytes: u64,
        /// Bytes free, reservations taken off.
        free_bytes: u64,
    },
    /// Somebody asked for the end of it.
    Cancelled,
    /// The source changed while it was copied.
    SourceChanged,
    /// The copy's digest is not what it must be: wanted, found (hexadecimal).
    DigestMismatch {
        /// The digest that the file's name promises.
        wanted: String,
        /// The digest of the bytes that were read.
        found: String,
    },
    /// The pool was disconnected or lost.
    PoolGone,
    /// This kernel, file system or build cannot do it; the text says what.
    Unsupported(&'static str),
}

/// An error with its place.
#[derive(Debug)]
pub struct FsError {
    /// What was tried: a verb, `"open"`, `"copy"`.
    pub operation: &'static str,
    /// On which path below its home; empty where there is none.
    pub path: String,
    /// At which offset in bytes, where that means something.
    pub offset: Option<u64>,
    /// What went wrong.
    pub kind: ErrorKind,
}

impl FsError {
    /// An error without a path.
    pub fn new(operation: &'static str, kind: ErrorKind) -> Self {
        FsError {
            operation,
            path: String::new(),
            offset: None,
            kind,
        }
    }

    /// The kernel's answer to `operation` on `path`.
    pub fn io(operation: &'static str, path: &RelPath, error: impl Into<io::Error>) -> Self {
        FsError::new(operation, ErrorKind::Io(error.into())).at(path)
    }

    /// The same error, on this path.
    #[must_use]
    pub fn at(mut self, path: &RelPath) -> Self {
        self.path = path.to_string();
        self
    }

    /// The same error, on this path of the machine (a pool's directory, a mount point).
    #[must_use]
    pub fn at_file(mut self, path: &Path) -> Self {
        self.path = escape(path.as_os_str().as_bytes());
        self
    }

    /// The same error, at this offset in bytes.
    #[must_use]
    pub fn at_offset(mut self, offset: u64) -> Self {
        self.offset = Some(offset);
        self
    }
}

impl fmt::Display for FsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.operation)?;
        if !self.path.is_empty() {
            write!(f, " `{}`", self.path)?;
        }
        if let Some(offset) = self.offset {
            write!(f, " at byte {offset}")?;
        }
        match &self.kind {
            ErrorKind::Io(_) => f.write_str(" failed"),
            ErrorKind::NotFound => f.write_str(": no such file or directory"),
            ErrorKind::Exists => f.write_str(": the name exists already"),
            ErrorKind::NotDirectory => f.write_str(": not a directory"),
            ErrorKind::IsDirectory => f.write_str(": is a directory"),
            ErrorKind::NotEmpty => f.write_str(": the directory is not empty"),
            ErrorKind::BadPath(bad) => write!(f, ": not a usable name: {bad}"),
            ErrorKind::ColdReadOnly => f.write_str(": lives in cold storage, never written"),
            ErrorKind::ReadOnly => f.write_str(": the mount is read-only"),
            ErrorKind::Invalid(what) => write!(f, ": {what}"),
            ErrorKind::NotPermitted => f.write_str(": not permitted"),
            ErrorKind::Barred => f.write_str(": its own directories do not let in whoever asks"),
            ErrorKind::Busy(why) => write!(f, ": busy: {why}"),
            ErrorKind::Retired => f.write_str(": the name leads to another node now"),
            ErrorKind::Displaced => f.write_str(": another file has its name now"),
            ErrorKind::TooLarge {
                needed_bytes,
                capacity_bytes,
            } => {
                write!(
                    f,
                    ": {needed_bytes} bytes never fit into a pool of {capacity_bytes} bytes"
                )
            }
            ErrorKind::NoSpace {
                needed_bytes,
                free_bytes,
            } => {
                write!(
                    f,
                    ": {needed_bytes} bytes wanted, {free_bytes} bytes free in the pool"
                )
            }
            ErrorKind::Cancelled => f.write_str(": cancelled"),
            ErrorKind::SourceChanged => f.write_str(": the source changed while it was copied"),
            ErrorKind::DigestMismatch { wanted, found } => {
                write!(
                    f,
                    ": the contents are corrupt: digest {found}, the name says {wanted}"
                )
            }
            ErrorKind::PoolGone => f.write_str(": the pool is gone"),
            ErrorKind::Unsupported(what) => write!(f, ": not supported: {what}"),
        }
    }
}

impl std::error::Error for FsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.kind {
            ErrorKind::Io(error) => Some(error),
            _ => None,
        }
    }
}
