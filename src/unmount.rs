//! Taking a mount away: as root by the system call, as an ordinary user with the help of FUSE.

use std::io;
use std::path::Path;
use std::process::{Command as Process, Stdio};

use rustix::mount::UnmountFlags;
use speedloader_fs::mount_table;

use crate::command::{Code, Message};

/// Where fusermount3 may be, should there be no PATH.
const FUSERMOUNT: [&str; 3] = [
    "/usr/bin/fusermount3",
    "/bin/fusermount3",
    "/usr/local/bin/fusermount3",
];

/// Takes the mount away; with `lazy` it goes when the last file in it is closed.
///
/// # Errors
/// [`Code::Busy`] if it is in use, [`Code::Denied`] if nobody helps an ordinary user, [`Code::Failed`] else.
pub fn unmount(mountpoint: &Path, lazy: bool) -> Result<(), Message> {
    let mut flags = UnmountFlags::NOFOLLOW;
    flags.set(UnmountFlags::DETACH, lazy);
    match rustix::mount::unmount(mountpoint, flags) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::PERM) => unmount_as_user(mountpoint, lazy),
        Err(rustix::io::Errno::BUSY) => Err(busy(mountpoint)),
        Err(error) => Err(failed(mountpoint, &io::Error::from(error).to_string())),
    }
}

/// Ordinary users may unmount what they have mounted, through the set-uid helper of FUSE.
fn unmount_as_user(mountpoint: &Path, lazy: bool) -> Result<(), Message> {
    let program = FUSERMOUNT
        .iter()
        .find(|program| Path::new(program).exists())
        .unwrap_or(&"fusermount3");
    let mut process = Process::new(program);
    process
        .arg("-u")
        .args(lazy.then_some("-z"))
        .arg("--")
        .arg(mountpoint);
    let output = process.stdin(Stdio::null()).output().map_err(|error| {
        let text = format!(
            "unmounting {} needs root or fusermount3: {error}",
            mountpoint.display()
        );
        Message::new(Code::Denied, text).with_hint("use sudo, or install fuse3")
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    if is_roots(mountpoint) && !rustix::process::geteuid().is_root() {
        let text = format!("{} was mounted by root", mountpoint.display());
        return Err(Message::new(Code::Denied, text).with_hint("use sudo"));
    }
    if said.contains("busy") {
        Err(busy(mountpoint))
    } else {
        Err(failed(mountpoint, said.trim()))
    }
}

fn is_roots(mountpoint: &Path) -> bool {
    let table = mount_table::read().unwrap_or_default();
    mount_table::topmost(&table, mountpoint).is_some_and(|found| {
        let mut options = found.options.split(|byte| *byte == b',');
        options.any(|option| option == b"user_id=0")
    })
}

fn busy(mountpoint: &Path) -> Message {
    Message::new(Code::Busy, format!("{} is in use", mountpoint.display()))
        .with_hint("end what uses it (`fuser -vm` on it shows what), or unmount with --lazy")
}

fn failed(mountpoint: &Path, why: &str) -> Message {
    Message::new(
        Code::Failed,
        format!("{} cannot be unmounted: {why}", mountpoint.display()),
    )
}
