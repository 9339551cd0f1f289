//! Going a way as somebody else: component by component, as the kernel does, so that the one that refuses is known.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags, accessat, openat, readlinkat};
use rustix::io::Errno;
use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::Visitor;
use crate::health::patience::Pulse;

/// As many links as the kernel follows on one way.
const LINKS_MAX: usize = 40;
/// Files and directories that are looked at.
const ENTRIES_MAX: usize = 500_000;

/// What is asked of a file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wanted {
    /// To pass a directory.
    Enter,
    /// To list it.
    List,
    /// To read a file.
    Read,
    /// That it is there at all.
    Find,
}

/// What was refused, and by what.
#[derive(Debug)]
pub(super) struct Refusal {
    /// Without links.
    pub(super) path: PathBuf,
    pub(super) wanted: Wanted,
    pub(super) error: io::Error,
}

/// What was met.
#[derive(Debug)]
pub(super) struct Walked {
    /// How much was looked at in the directory at the end of the way.
    pub(super) seen: usize,
    /// Whether all of it was.
    pub(super) is_whole: bool,
    pub(super) refusals: Vec<Refusal>,
}

/// Goes to `start` as `visitor`, and with `deep` through everything in it. The thread stays his: it is to end with this.
///
/// # Errors
/// When it cannot become his; then nothing was looked at.
pub(super) fn walk_all(
    visitor: &Visitor,
    start: &Path,
    deep: bool,
    pulse: &Pulse,
) -> io::Result<Walked> {
    become_him(visitor)?;
    let mut walked = Walked {
        seen: 0,
        is_whole: true,
        refusals: Vec::new(),
    };
    match follow(start) {
        Ok(End::Directory(path)) if deep => walked.go_through(path, pulse),
        Ok(End::Directory(_) | End::File) => {}
        Err(refusal) => walked.refusals.push(refusal),
    }
    Ok(walked)
}

/// Makes this thread the visitor's, by real, effective and saved numbers, which FUSE compares, too; without the rights
/// of root unless he is root. Other threads stay whose they are: these are the kernel's calls, not those of the C library.
fn become_him(visitor: &Visitor) -> io::Result<()> {
    if geteuid().is_root() {
        let groups: Vec<Gid> = visitor
            .groups
            .iter()
            .map(|group| Gid::from_raw(*group))
            .collect();
        let (uid, gid) = (Uid::from_raw(visitor.uid), Gid::from_raw(visitor.gid));
        set_thread_groups(&groups)?;
        set_thread_res_gid(gid, gid, gid)?;
        set_thread_res_uid(uid, uid, uid)?;
    }
    match geteuid().as_raw() == visitor.uid {
        true => Ok(()),
        false => Err(io::ErrorKind::PermissionDenied.into()),
    }
}

/// What a way ends at.
enum End {
    /// One that may be entered and listed; its path without links.
    Directory(PathBuf),
    File,
}

/// A directory on a way.
struct Here {
    open: OwnedFd,
    path: PathBuf,
}

impl Here {
    fn root() -> Result<Self, Refusal> {
        let path = PathBuf::from("/");
        match openat(CWD, &path, FLAGS, Mode::empty()) {
            Ok(open) => Ok(Self { open, path }),
            Err(error) => Err(refusal(&path, Wanted::Find, error)),
        }
    }

    /// Refused by what is `wanted` of this directory, if anything is.
    fn permits(&self, wanted: Wanted, access: Access) -> Result<(), Refusal> {
        accessat(&self.open, ".", access, AtFlags::empty())
            .map_err(|error| refusal(&self.path, wanted, error))
    }
}

const FLAGS: OFlags = OFlags::PATH
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

fn refusal(path: &Path, wanted: Wanted, error: Errno) -> Refusal {
    Refusal {
        path: path.to_owned(),
        wanted,
        error: error.into(),
    }
}

/// The names of a path, the first one last.
fn names(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().rev().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
    })
}

/// Goes a way to its end, which must be readable, and if it is a directory, enterable.
fn follow(start: &Path) -> Result<End, Refusal> {
    let mut here = Here::root()?;
    let mut left: Vec<OsString> = names(start).collect();
    let mut links = 0;
    while let Some(name) = left.pop() {
        let next = here.path.join(&name);
        match openat(&here.open, &name, FLAGS, Mode::empty()) {
            Ok(open) if name == ".." => {
                here.open = open;
                here.path.pop();
            }
            Ok(open) => here = Here { open, path: next },
            Err(Errno::ACCESS) => return Err(refusal(&here.path, Wanted::Enter, Errno::ACCESS)),
            Err(Errno::NOTDIR | Errno::LOOP) => match readlinkat(&here.open, &name, Vec::new()) {
                Ok(_) if links == LINKS_MAX => {
                    return Err(refusal(&next, Wanted::Find, Errno::LOOP));
                }
                Ok(target) => {
                    links += 1;
                    let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
                    left.extend(names(&target));
                    if target.is_absolute() {
                        here = Here::root()?;
                    }
                }
                // No link.
                Err(Errno::INVAL) if left.is_empty() => {
                    accessat(&here.open, &name, Access::READ_OK, AtFlags::empty())
                        .map_err(|error| refusal(&next, Wanted::Read, error))?;
                    return agrees(start, &next).map(|()| End::File);
                }
                Err(Errno::INVAL) => return Err(refusal(&next, Wanted::Find, Errno::NOTDIR)),
                Err(error) => return Err(refusal(&next, Wanted::Find, error)),
            },
            Err(error) => return Err(refusal(&next, Wanted::Find, error)),
        }
    }
    here.permits(Wanted::Enter, Access::EXEC_OK)?;
    here.permits(Wanted::List, Access::READ_OK)?;
    agrees(start, &here.path).map(|()| End::Directory(here.path))
}

/// The kernel's own word about a whole way, which knows of more than permissions: of links in directories that everybody
/// writes to (`fs.protected_symlinks`), and of security modules.
fn agrees(start: &Path, end: &Path) -> Result<(), Refusal> {
    accessat(CWD, start, Access::READ_OK, AtFlags::empty())
        .map_err(|error| refusal(end, Wanted::Find, error))
}

impl Walked {
    /// Looks at everything in a directory that may be listed.
    fn go_through(&mut self, top: PathBuf, pulse: &Pulse) {
        let mut open = vec![top];
        while let Some(directory) = open.pop() {
            let entries = match fs::read_dir(&directory) {
                Ok(entries) => entries,
                Err(error) => {
                    self.refuse(directory, Wanted::List, error);
                    continue;
                }
            };
            for entry in entries {
                pulse.beat();
                if self.seen == ENTRIES_MAX {
                    self.is_whole = false;
                    return;
                }
                let kind = entry.and_then(|entry| Ok((entry.path(), entry.file_type()?)));
                let (path, kind) = match kind {
                    Ok(found) => found,
                    Err(error) => {
                        self.refuse(directory, Wanted::List, error);
                        break;
                    }
                };
                self.seen += 1;
                if kind.is_dir() {
                    open.extend(self.enter(path));
                } else if kind.is_symlink() {
                    self.look_behind(&path);
                } else if kind.is_file()
                    && let Err(error) = rustix::fs::access(&path, Access::READ_OK)
                {
                    self.refuse(path, Wanted::Read, error.into());
                }
            }
        }
    }

    /// The directory, if it may be entered and listed.
    fn enter(&mut self, path: PathBuf) -> Option<PathBuf> {
        for (wanted, access) in [
            (Wanted::Enter, Access::EXEC_OK),
            (Wanted::List, Access::READ_OK),
        ] {
            if let Err(error) = rustix::fs::access(&path, access) {
                self.refuse(path, wanted, error.into());
                return None;
            }
        }
        Some(path)
    }

    /// A link that leads to nothing is no matter of permissions.
    fn look_behind(&mut self, link: &Path) {
        match follow(link) {
            Err(refusal) if refusal.error.kind() != io::ErrorKind::NotFound => {
                self.refusals.push(refusal);
            }
            Ok(_) | Err(_) => {}
        }
    }

    fn refuse(&mut self, path: PathBuf, wanted: Wanted, error: io::Error) {
        self.refusals.push(Refusal {
            path,
            wanted,
            error,
        });
    }
}
