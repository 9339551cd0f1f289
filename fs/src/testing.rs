//! Guards for tests of this crate: directories and mounts that are always taken down again.

use std::path::{Path, PathBuf};

use rustix::mount::UnmountFlags;

/// A directory to mount at; unmounted and removed on drop.
pub(crate) struct MountPoint {
    directory: tempfile::TempDir,
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
        Some(MountPoint { directory, path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A directory beside the mount, on the ordinary file system.
    pub(crate) fn beside(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for MountPoint {
    fn drop(&mut self) {
        let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
        while rustix::mount::unmount(&self.path, flags).is_ok() {}
    }
}
