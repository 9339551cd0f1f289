//! Making the socket: who else serves it, what a crash has left behind, its mode and group. From the
//! first moment that anybody can connect, the mode is right.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Gid, Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::SocketSettings;
use crate::command::{Code, Message, suggest};
use crate::safe_directory;

/// The kernel's limit for addresses is 107 bytes; the name that is used while binding is longer.
const PATH_BYTES_MAX: usize = 100;
const BACKLOG: i32 = 128;
const GROUPS_BYTES_MAX: u64 = 16 << 20;

/// The right to serve a path: held by a lock beside it, so that two daemons that start at once
/// cannot both replace what a crash left behind.
pub(super) struct Claim {
    path: PathBuf,
    /// Device and inode of our socket: another's is never removed.
    identity: Option<(u64, u64)>,
    _lock: OwnedFd,
}

impl Claim {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the socket, if it is still ours.
    pub(super) fn remove(&mut self) {
        let Some(identity) = self.identity.take() else {
            return;
        };
        if identity_of(&self.path).is_ok_and(|now| now == identity) {
            // If it cannot be removed it is stale, which the next daemon recognises.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity_of(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

/// Listens where `settings` say, replacing a socket that nobody serves.
pub(super) fn listen(settings: &SocketSettings) -> Result<(UnixListener, Claim), Message> {
    let path = settings.path.as_path();
    if !path.is_absolute() || path.file_name().is_none() {
        let text = format!(
            "`{}` cannot be the control socket: its path must be absolute",
            path.display()
        );
        return Err(Message::new(Code::BadConfig, text));
    }
    let length = path.as_os_str().len();
    if length > PATH_BYTES_MAX {
        let text = format!(
            "`{}` cannot be the control socket: its path has {length} bytes, {PATH_BYTES_MAX} are allowed",
            path.display()
        );
        return Err(Message::new(Code::BadConfig, text));
    }
    make_directory(path)?;
    check_directory(path)?;
    let lock = lock(path)?;
    check_replaceable(path)?;
    let listener = bind(settings)?;
    let identity = identity_of(path).map_err(|error| failed("looking at", path, &error))?;
    Ok((
        listener,
        Claim {
            path: path.to_owned(),
            identity: Some(identity),
            _lock: lock,
        },
    ))
}

fn make_directory(path: &Path) -> Result<(), Message> {
    let Some(directory) = path.parent().filter(|directory| !directory.exists()) else {
        return Ok(());
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(directory)
        // Whatever our umask, others must be able to reach the socket: its own mode is the door.
        .and_then(|()| fs::set_permissions(directory, Permissions::from_mode(0o755)))
        .map_err(|error| failed("making the directory of", path, &error))
}

/// Whoever can write to the directory can put a socket of their own there, and hear what is asked.
fn check_directory(path: &Path) -> Result<(), Message> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let fault = safe_directory::fault(directory);
    let Some(why) = fault.map_err(|error| failed("looking at", path, &error))? else {
        return Ok(());
    };
    let text = format!(
        "{} is no safe place for the control socket: it {why}",
        directory.display()
    );
    Err(Message::new(Code::Denied, text)
        .with_hint("set `control.socket` to a path in a directory of your own"))
}

fn lock(path: &Path) -> Result<OwnedFd, Message> {
    let beside = with_suffix(path, ".lock");
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let lock = rustix::fs::open(&beside, flags, Mode::RUSR | Mode::WUSR)
        .map_err(|error| failed("locking", &beside, &error.into()))?;
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(already_running(path)),
        Err(error) => Err(failed("locking", &beside, &error.into())),
    }
}

fn already_running(path: &Path) -> Message {
    Message::new(Code::AlreadyRunning, format!("a speedloader is already running at {}", path.display())).with_hint(
        "`speedloader status` shows it; to run another, give it a socket and a state directory of its own (`control.socket`, `state_dir`)",
    )
}

/// Whether what is at `path` is nothing, or a socket that nobody serves.
fn check_replaceable(path: &Path) -> Result<(), Message> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("looking at", path, &error)),
    };
    if !found.file_type().is_socket() {
        let text = format!(
            "{} exists and is no socket; nothing was changed",
            path.display()
        );
        return Err(Message::new(Code::Failed, text)
            .with_hint("move it away, or set `control.socket` to another path"));
    }
    // Without waiting: a daemon whose queue is full is alive.
    let socket = socket().map_err(|error| failed("looking at", path, &error.into()))?;
    let address =
        SocketAddrUnix::new(path).map_err(|error| failed("looking at", path, &error.into()))?;
    match rustix::net::connect(&socket, &address) {
        Err(rustix::io::Errno::CONNREFUSED | rustix::io::Errno::NOENT) => Ok(()),
        Ok(()) | Err(rustix::io::Errno::AGAIN) => Err(already_running(path)),
        Err(error) => Err(failed("looking at", path, &error.into())),
    }
}

fn socket() -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

/// Binds beside `path`, sets mode and group, listens, and only then moves the socket to `path`.
fn bind(settings: &SocketSettings) -> Result<UnixListener, Message> {
    let path = settings.path.as_path();
    let beside = with_suffix(path, ".new");
    let _ = fs::remove_file(&beside);
    let made = bind_at(&beside, settings)
        .and_then(|socket| fs::rename(&beside, path).map(|()| socket))
        .map_err(|error| failed("making", path, &error));
    if made.is_err() {
        let _ = fs::remove_file(&beside);
    }
    made.map(UnixListener::from)
}

fn bind_at(beside: &Path, settings: &SocketSettings) -> io::Result<OwnedFd> {
    let socket = socket()?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(beside)?)?;
    if let Some(group_id) = settings.group_id {
        rustix::fs::chown(beside, None, Some(Gid::from_raw(group_id)))?;
    }
    fs::set_permissions(beside, Permissions::from_mode(settings.mode & 0o777))?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

pub(super) fn failed(doing: &str, path: &Path, error: &io::Error) -> Message {
    let code = if error.kind() == io::ErrorKind::PermissionDenied {
        Code::Denied
    } else {
        Code::Failed
    };
    Message::new(
        code,
        format!(
            "{doing} the control socket {} failed: {error}",
            path.display()
        ),
    )
}

/// The number of a group, given by name (as in /etc/group) or as a number.
///
/// # Errors
/// [`Code::BadConfig`] if there is no such group.
pub fn group_id(name: &str) -> Result<u32, Message> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let mut groups = Vec::new();
    File::open("/etc/group")
        .and_then(|file| file.take(GROUPS_BYTES_MAX).read_to_end(&mut groups))
        .map_err(|error| {
            Message::new(Code::Failed, format!("/etc/group cannot be read: {error}"))
        })?;
    find_group(&String::from_utf8_lossy(&groups), name)
}

fn find_group(groups: &str, name: &str) -> Result<u32, Message> {
    let known = || groups.lines().filter_map(|line| line.split_once(':'));
    let number = known()
        .find(|(group, _)| *group == name)
        .and_then(|(_, rest)| rest.split(':').nth(1)?.parse().ok());
    number.ok_or_else(|| {
        Message::new(
            Code::BadConfig,
            format!("control.group: no group is called `{name}`"),
        )
        .with_suggestions(suggest(name, known().map(|(group, _)| group)))
        .with_hint(format!(
            "make it with `groupadd --system {name}`, or name another"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_found_by_name_and_number() {
        let groups = "root:x:0:\nspeedloader:x:998:ann,bob\nbroken\n:x:\nodd:x:many:\n";
        assert_eq!(find_group(groups, "speedloader"), Ok(998));
        assert_eq!(group_id("12"), Ok(12));
        let error = find_group(groups, "speedlaoder").unwrap_err();
        assert_eq!(
            error.to_string(),
            "control.group: no group is called `speedlaoder`; did you mean `speedloader`?"
        );
        assert!(find_group(groups, "odd").is_err());
        assert!(find_group(groups, "").is_err());
    }
}
