//! What is mounted here, and how to be rid of it whatever state its daemon is in. Nothing in here
//! touches a mount's own files, so nothing in here hangs on one.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags};
use rustix::process::{Pid, Signal};

/// A line of the mount table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub mountpoint: PathBuf,
    pub kind: String,
    pub source: String,
    /// Minor number of the device: the name of a FUSE connection.
    pub minor: u32,
    pub options: String,
}

/// All mounts, in the order in which they were made.
pub fn entries() -> Vec<Entry> {
    let table = fs::read("/proc/self/mountinfo").unwrap();
    table
        .split(|byte| *byte == b'\n')
        .filter_map(parse)
        .collect()
}

/// The topmost mount at exactly this path.
pub fn at(path: &Path) -> Option<Entry> {
    entries()
        .into_iter()
        .rev()
        .find(|entry| entry.mountpoint == path)
}

/// Mounts at or below a path, the latest first.
pub fn below(path: &Path) -> Vec<Entry> {
    let mut found: Vec<Entry> = entries()
        .into_iter()
        .filter(|entry| entry.mountpoint.starts_with(path))
        .collect();
    found.reverse();
    found
}

fn parse(line: &[u8]) -> Option<Entry> {
    let mut fields = line.split(|byte| *byte == b' ');
    let device = std::str::from_utf8(fields.nth(2)?).ok()?;
    let minor = device.split_once(':')?.1.parse().ok()?;
    let mountpoint = PathBuf::from(unescape(fields.nth(1)?));
    let options = String::from_utf8_lossy(fields.next()?).into_owned();
    fields.find(|field| *field == b"-")?;
    let kind = String::from_utf8_lossy(fields.next()?).into_owned();
    let source = String::from_utf8_lossy(fields.next()?).into_owned();
    Some(Entry {
        mountpoint,
        kind,
        source,
        minor,
        options,
    })
}

fn unescape(field: &[u8]) -> OsString {
    let mut name = Vec::new();
    let mut at = 0;
    while at < field.len() {
        let octal = field
            .get(at + 1..at + 4)
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match octal {
            Some(byte) if field[at] == b'\\' => {
                name.push(byte);
                at += 4;
            }
            _ => {
                name.push(field[at]);
                at += 1;
            }
        }
    }
    OsString::from_vec(name)
}

/// Ends a FUSE connection: whoever waits for its daemon gets an error.
pub fn abort_connection(minor: u32) {
    let abort = |root: &Path| fs::write(root.join(minor.to_string()).join("abort"), "1");
    if abort(Path::new("/sys/fs/fuse/connections")).is_ok() {
        return;
    }
    // The control file system is not mounted on every machine; ours is seen for a moment only.
    let Ok(directory) = tempfile::Builder::new().prefix("fusectl-").tempdir() else {
        return;
    };
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    if rustix::mount::mount("fusectl", directory.path(), "fusectl", flags, None).is_ok() {
        // It is gone already if this fails.
        let _ = abort(directory.path());
        unmount(directory.path());
    }
}

/// Unmounts lazily, as root or with the helper of ordinary users.
pub fn unmount(path: &Path) {
    if rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).is_err() {
        let _ = std::process::Command::new("fusermount3")
            .args(["-u", "-z", "-q", "--"])
            .arg(path)
            .status();
    }
}

/// Aborts and unmounts all that lies at or below a path.
pub fn clear(path: &Path) {
    for entry in below(path) {
        if entry.kind.starts_with("fuse") && entry.kind != "fusectl" {
            abort_connection(entry.minor);
        }
        unmount(&entry.mountpoint);
    }
}

/// Sends a signal to a process.
///
/// # Errors
/// The kernel's answer: there is no such process, or it is not ours.
pub fn signal(pid: u32, signal: Signal) -> io::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or(io::ErrorKind::InvalidInput)?;
    Ok(rustix::process::kill_process(pid, signal)?)
}

#[test]
fn the_root_is_mounted_and_nothing_is_below_nothing() {
    assert!(at(Path::new("/")).is_some());
    assert!(below(Path::new("/no/such/place")).is_empty());
    let line = b"40 22 0:50 / /mnt/a\\040b rw,nosuid shared:7 - fuse.speedloader x rw,user_id=0";
    let entry = parse(line).unwrap();
    assert_eq!(entry.mountpoint, Path::new("/mnt/a b"));
    assert_eq!((entry.kind.as_str(), entry.minor), ("fuse.speedloader", 50));
}
