//! Files beneath a directory that stands for `/`: this machine's own, or an image's. No link in it leads out: absolute
//! ones begin there, and `..` ends there.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, RenameFlags, ResolveFlags, openat, openat2, renameat_with};

use super::{Aside, Change, Content};
use crate::whole_file;

/// No file that we change is larger.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// So often a path is looked up again, where directories are renamed meanwhile.
const TRIES: usize = 8;

/// A directory that stands for `/`.
pub struct Root {
    directory: OwnedFd,
    path: PathBuf,
}

/// A directory beneath the root, and a name in it. By its descriptor, so that it stays the same however it is renamed.
struct Place {
    directory: OwnedFd,
    path: PathBuf,
}

impl Place {
    fn new(directory: OwnedFd, name: &OsStr) -> Self {
        let path = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name);
        Self { directory, path }
    }

    fn beside(&self, name: &OsStr) -> PathBuf {
        self.path.with_file_name(name)
    }

    fn sync(&self) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(&self.directory, ".", flags, Mode::empty())?;
        Ok(rustix::fs::fsync(directory)?)
    }
}

impl Root {
    /// The directory that is to stand for `/`.
    ///
    /// # Errors
    /// When it is not there, or is none.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            directory: openat(CWD, path, flags, Mode::empty())?,
            path: std::path::absolute(path)?,
        })
    }

    /// Whether it is this machine's own.
    pub fn is_machine(&self) -> bool {
        self.path == Path::new("/")
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there is a directory.
    pub fn is_directory(&self, path: &Path) -> bool {
        self.directory(path).is_ok()
    }

    /// What is under a name, which is not followed if it is a link.
    ///
    /// # Errors
    /// When it cannot be read, or is neither file nor link, or too large.
    pub fn read(&self, path: &Path) -> io::Result<Option<Content>> {
        let place = match self.place(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            place => place?,
        };
        let found = match fs::symlink_metadata(&place.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            found => found?,
        };
        if found.is_symlink() {
            return Ok(Some(Content::Link(fs::read_link(&place.path)?)));
        }
        let file = File::options()
            .read(true)
            .custom_flags(flags_of(OFlags::NOFOLLOW | OFlags::NONBLOCK))
            .open(&place.path)?;
        let mode = file.metadata()?.mode() & 0o7777;
        Ok(Some(Content::File {
            bytes: bytes_of(file)?,
            mode,
        }))
    }

    /// What a path leads to, through links beneath the root.
    ///
    /// # Errors
    /// When there is nothing, or nothing that can be read.
    pub fn contents(&self, path: &Path) -> io::Result<Vec<u8>> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        bytes_of(File::from(self.inner(path, flags)?))
    }

    /// Names of what is in a directory; none if there is none.
    pub fn names(&self, directory: &Path) -> Vec<PathBuf> {
        let Ok(opened) = self.directory(directory) else {
            return Vec::new();
        };
        let entries = fs::read_dir(format!("/proc/self/fd/{}", opened.as_raw_fd()));
        let mut names: Vec<PathBuf> = entries
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| directory.join(entry.file_name()))
            .collect();
        names.sort();
        names
    }

    /// Makes a change, if what is there is still what it was planned for: whole or not at all, directories included that
    /// it needs.
    ///
    /// # Errors
    /// Whatever goes wrong; what was there is there then.
    pub(super) fn apply(&self, change: &Change) -> io::Result<()> {
        if self.read(&change.path)? != change.before {
            let text = "it was changed by somebody else meanwhile";
            return Err(io::Error::other(text));
        }
        if change.after.is_some() {
            self.make_directories(change.path.parent().unwrap_or(Path::new("/")))?;
        }
        let place = self.place(&change.path)?;
        let named = |aside: &Path| place.beside(aside.file_name().unwrap_or_default());
        match (&change.aside, &change.after) {
            (Aside::Back(aside), _) => fs::rename(named(aside), &place.path)?,
            (Aside::Keep(aside), after) => {
                // Neither it nor a link to it is followed; one of that name is not replaced.
                fs::hard_link(&place.path, named(aside))?;
                put(&place, change, after.as_ref())?;
            }
            (Aside::Nothing, after) => put(&place, change, after.as_ref())?,
        }
        place.sync()
    }

    fn make_directories(&self, directory: &Path) -> io::Result<()> {
        if self.is_directory(directory) {
            return Ok(());
        }
        if let Some(parent) = directory.parent() {
            self.make_directories(parent)?;
        }
        let place = self.place(directory)?;
        fs::create_dir(&place.path)?;
        // Whatever the mask is: everybody reads units and manual pages.
        let made = self.inner(directory, OFlags::RDONLY | OFlags::DIRECTORY)?;
        File::from(made).set_permissions(Permissions::from_mode(0o755))
    }

    fn place(&self, path: &Path) -> io::Result<Place> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        Ok(Place::new(self.directory(parent)?, name))
    }

    fn directory(&self, path: &Path) -> io::Result<OwnedFd> {
        self.inner(path, OFlags::PATH | OFlags::DIRECTORY)
    }

    fn inner(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let mut left = TRIES;
        loop {
            match openat2(self.directory.as_fd(), path, flags, Mode::empty(), resolve) {
                Err(rustix::io::Errno::AGAIN) if left > 1 => left -= 1,
                opened => return Ok(opened?),
            }
        }
    }
}

fn put(place: &Place, change: &Change, after: Option<&Content>) -> io::Result<()> {
    let is_new = change.before.is_none();
    let rename = |from: &Path, to: &Path| match is_new {
        // Not over what somebody else has just made.
        true => Ok(renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?),
        false => fs::rename(from, to),
    };
    match after {
        None => fs::remove_file(&place.path),
        Some(Content::Link(target)) => {
            let name = format!(".speedloader-link.{}", std::process::id());
            let temporary = place.beside(OsStr::new(&name));
            // What a crash of a former process of our number has left.
            let _ = fs::remove_file(&temporary);
            symlink(target, &temporary)?;
            rename(&temporary, &place.path).inspect_err(|_| {
                // It is of no more use.
                let _ = fs::remove_file(&temporary);
            })
        }
        Some(Content::File { bytes, mode }) => {
            let owner = fs::symlink_metadata(&place.path).ok();
            let prepare = |file: &File| {
                if let Some(owner) = owner.filter(|_| !is_new) {
                    fchown(file, Some(owner.uid()), Some(owner.gid()))?;
                }
                file.set_permissions(Permissions::from_mode(*mode))
            };
            whole_file::write(&place.path, bytes, prepare, rename)
        }
    }
}

fn bytes_of(file: File) -> io::Result<Vec<u8>> {
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is neither a file nor a link"));
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > FILE_BYTES_MAX {
        true => Err(io::Error::other("it is too large for what it is called")),
        false => Ok(bytes),
    }
}

fn flags_of(flags: OFlags) -> i32 {
    i32::try_from(flags.bits()).unwrap_or(0)
}
