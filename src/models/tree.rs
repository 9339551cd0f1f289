//! The tree that models are found in, as this room sees it: a sorted list of files and reads.
//!
//! Must not know where a file's bytes live. [`DirTree`] is the plain-directory implementation.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// What a directory entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// A symbolic link and its target, as stored.
    Symlink(Vec<u8>),
    /// A socket, device or FIFO: never read.
    Other,
}

/// One file of the tree. Directories are not listed; they are what paths have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeFile {
    /// Relative path, components separated by one `/`; need not be UTF-8.
    pub path: Vec<u8>,
    /// Bytes.
    pub size: u64,
    /// Modification time, nanoseconds since 1970.
    pub mtime_ns: i128,
    /// What it is.
    pub kind: FileKind,
    /// Identity: all hard links of a file share it.
    pub file: u64,
    /// Lives on a cold home: reads may be slow, so only what is needed is read.
    pub cold: bool,
}

/// The tree below the models directory, homes merged.
pub trait Tree {
    /// Every file, sorted by path (byte order). Cached metadata only: never waits on a home.
    fn files(&self) -> Vec<TreeFile>;

    /// Up to `len` bytes of a regular file from `offset`; fewer only at its end.
    ///
    /// # Errors
    /// Those of the file system. A home that hangs must be answered with
    /// [`io::ErrorKind::TimedOut`] or [`io::ErrorKind::WouldBlock`] in bounded time; the catalog
    /// then lists the model with what its names tell, and reads again when it is next built.
    fn read(&self, path: &[u8], offset: u64, len: usize) -> io::Result<Vec<u8>>;
}

/// A plain directory as a [`Tree`].
#[derive(Clone, Debug)]
pub struct DirTree {
    root: PathBuf,
}

impl DirTree {
    /// The tree below `root`, which is listed anew at each [`Tree::files`].
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn list(&self, relative: &Path, found: &mut Vec<TreeFile>, todo: &mut Vec<PathBuf>) {
        // A directory that vanished or may not be read has no files for us.
        let Ok(entries) = fs::read_dir(self.root.join(relative)) else {
            return;
        };
        for entry in entries.flatten() {
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            let path = relative.join(entry.file_name());
            let kind = if metadata.is_dir() {
                todo.push(path);
                continue;
            } else if metadata.is_symlink() {
                match fs::read_link(entry.path()) {
                    Ok(target) => FileKind::Symlink(target.into_os_string().into_vec()),
                    Err(_) => continue,
                }
            } else if metadata.is_file() {
                FileKind::Regular
            } else {
                FileKind::Other
            };
            found.push(TreeFile {
                path: path.into_os_string().into_vec(),
                size: metadata.size(),
                mtime_ns: i128::from(metadata.mtime()) * 1_000_000_000
                    + i128::from(metadata.mtime_nsec()),
                kind,
                // One number of both: inode numbers rarely reach the bits that the device fills.
                file: metadata.dev().rotate_left(48) ^ metadata.ino(),
                cold: false,
            });
        }
    }
}

impl Tree for DirTree {
    fn files(&self) -> Vec<TreeFile> {
        let mut found = Vec::new();
        let mut todo = vec![PathBuf::new()];
        while let Some(directory) = todo.pop() {
            self.list(&directory, &mut found, &mut todo);
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        found
    }

    fn read(&self, path: &[u8], offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let file = File::open(self.root.join(OsStr::from_bytes(path)))?;
        // Ask the size first: the buffer then never exceeds what is there.
        let there = file.metadata()?.len().saturating_sub(offset);
        let mut bytes = vec![0; usize::try_from(there).unwrap_or(usize::MAX).min(len)];
        let mut filled = 0;
        while filled < bytes.len() {
            match file.read_at(&mut bytes[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }
}
