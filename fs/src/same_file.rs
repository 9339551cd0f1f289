//! Whether a process is about to destroy a file by copying or moving it onto itself: from the mount
//! onto the file's own home, or back.
//!
//! Two paths lead to one file, and the kernel shows them with different device numbers, so `cp` and
//! `mv` cannot see it: `cp` would empty the file that it reads, `mv` would unlink it. The caller's
//! command line and descriptors tell. Only names without symlinks are followed, and of those only what
//! the kernel has at hand: the caller chooses the paths, and whoever answers the kernel must wait for
//! no other file system, least of all for itself. A program that copies has just looked at them.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};

use crate::home::numbers_of;
use crate::identity::Identity;
use crate::rel_path::RelPath;

/// Programs that copy or move what their arguments name.
const COPIERS: [&str; 5] = ["cp", "mv", "install", "dd", "rsync"];
/// Arguments that are looked at.
const ARGUMENTS_MAX: usize = 256;
/// Descriptors that are looked at.
const DESCRIPTORS_MAX: usize = 1024;

/// A process that asks something of the mount.
pub struct Caller<'a> {
    pid: u32,
    mountpoint: &'a Path,
}

impl<'a> Caller<'a> {
    /// The process of thread `pid`; `mountpoint` is ours.
    pub fn new(pid: u32, mountpoint: &'a Path) -> Caller<'a> {
        Caller { pid, mountpoint }
    }

    /// Whether it is a program that copies or moves.
    pub fn copies(&self) -> bool {
        let comm = fs::read(format!("/proc/{}/comm", self.pid)).unwrap_or_default();
        COPIERS
            .iter()
            .any(|name| comm.strip_suffix(b"\n") == Some(name.as_bytes()))
    }

    /// Whether its arguments name, outside the mount, the home file of `path`.
    pub fn names(&self, path: &RelPath, home_file: &Identity) -> bool {
        let Ok(line) = fs::read(format!("/proc/{}/cmdline", self.pid)) else {
            return false;
        };
        let Ok(cwd) = fs::read_link(format!("/proc/{}/cwd", self.pid)) else {
            return false;
        };
        let arguments: Vec<PathBuf> = line
            .split(|byte| *byte == 0)
            .skip(1)
            .take(ARGUMENTS_MAX)
            .map(value_of)
            .filter(|argument| !argument.is_empty() && !argument.starts_with(b"-"))
            .map(|argument| plain(&cwd.join(OsStr::from_bytes(argument))))
            .collect();
        let ends = self.ends(path, &arguments);
        let outside = arguments
            .iter()
            .filter(|argument| !argument.starts_with(self.mountpoint));
        outside
            .flat_map(|place| {
                ends.iter()
                    .map(move |end| place.join(end))
                    .chain(std::iter::once(place.clone()))
            })
            .any(|candidate| is_file(&candidate, home_file))
    }

    /// What a directory that is copied to may be followed by: the name alone, and the path below each
    /// argument that lies in the mount or below its parent.
    fn ends(&self, path: &RelPath, arguments: &[PathBuf]) -> Vec<PathBuf> {
        let path = Path::new(path.as_os_str());
        let mut ends: Vec<PathBuf> = path.file_name().map(PathBuf::from).into_iter().collect();
        for argument in arguments {
            let Ok(source) = argument.strip_prefix(self.mountpoint) else {
                continue;
            };
            let above = [Some(source), source.parent()];
            ends.extend(
                above
                    .into_iter()
                    .flatten()
                    .filter_map(|base| {
                        path.strip_prefix(base)
                            .ok()
                            .filter(|end| !end.as_os_str().is_empty())
                    })
                    .map(Path::to_owned),
            );
        }
        ends
    }

    /// Whether it has the home file open, other than through the mount.
    pub fn holds(&self, home_file: &Identity) -> bool {
        let Ok(entries) = fs::read_dir(format!("/proc/{}/fdinfo", self.pid)) else {
            return false;
        };
        let line = format!("ino:\t{}\n", home_file.ino);
        entries.flatten().take(DESCRIPTORS_MAX).any(|entry| {
            let info = fs::read_to_string(entry.path()).unwrap_or_default();
            let number = entry.file_name();
            info.contains(&line)
                && fs::read_link(Path::new(&format!("/proc/{}/fd", self.pid)).join(number))
                    .is_ok_and(|target| {
                        !target.starts_with(self.mountpoint) && is_file(&target, home_file)
                    })
        })
    }
}

/// The path of an argument such as `of=PATH`, else the argument.
fn value_of(argument: &[u8]) -> &[u8] {
    argument
        .strip_prefix(b"of=")
        .or_else(|| argument.strip_prefix(b"if="))
        .unwrap_or(argument)
}

/// Without `.` and `..`, as far as text tells.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    plain
}

fn is_file(path: &Path, identity: &Identity) -> bool {
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::CACHED;
    let found = openat2(CWD, path, flags, Mode::empty(), resolve).and_then(numbers_of);
    found.is_ok_and(|found| found == (identity.dev, identity.ino))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_own_descriptor_is_seen_and_one_of_another_file_is_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let (one, two) = (directory.path().join("one"), directory.path().join("two"));
        fs::write(&one, b"x").expect("written");
        fs::write(&two, b"x").expect("written");
        let held = fs::File::open(&one).expect("opened");
        let caller = Caller::new(std::process::id(), Path::new("/nowhere"));
        assert!(caller.holds(&Identity::of_fd(&held).expect("stat")));
        let other = Identity::of_fd(fs::File::open(&two).expect("opened")).expect("stat");
        assert!(!caller.holds(&other));
        let through_mount = Caller::new(std::process::id(), directory.path());
        assert!(!through_mount.holds(&Identity::of_fd(&held).expect("stat")));
    }

    #[test]
    fn a_test_is_no_copier_and_names_nothing() {
        let caller = Caller::new(std::process::id(), Path::new("/nowhere"));
        assert!(!caller.copies());
        let identity = Identity {
            dev: 1,
            ino: 1,
            size: 0,
            mtime_ns: 0,
            ctime_ns: 0,
        };
        assert!(!caller.names(&RelPath::root(), &identity));
        assert!(!Caller::new(u32::MAX, Path::new("/")).copies());
    }

    #[test]
    fn a_directory_copied_to_its_home_ends_in_the_same_file() {
        let caller = Caller::new(1, Path::new("/mnt/models"));
        let path = RelPath::new(b"a/b/c.gguf").expect("valid");
        let arguments = [
            PathBuf::from("/mnt/models/a"),
            PathBuf::from("/home/models"),
        ];
        let ends = caller.ends(&path, &arguments);
        for end in ["c.gguf", "b/c.gguf", "a/b/c.gguf"] {
            assert!(ends.contains(&PathBuf::from(end)), "{end} of {ends:?}");
        }
    }

    #[test]
    fn dots_are_taken_out() {
        assert_eq!(plain(Path::new("/a/./b/../c")), Path::new("/a/c"));
        assert_eq!(value_of(b"of=/x"), b"/x");
    }
}
