//! `speedloader umount`: takes the mount away and returns when its daemon has ended.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use speedloader_fs::mount_table;

use super::context::Context;
use super::mountpoint::resolve;
use super::settings::{client_options, load_config};
use crate::command::{Code, Command, Message};
use crate::control::Client;
use crate::unmount::unmount;
use crate::view::{DoneView, View, human};

/// A daemon that has lost its mount gives its pools back and ends.
const END_TIMEOUT: Duration = Duration::from_secs(60);

/// Unmount, and return when the daemon has ended
#[derive(Args, Debug)]
#[command(after_help = "\
Also removes a dead mount that a crash has left.

Examples:
  speedloader umount
  speedloader umount /mnt/models --lazy")]
pub(super) struct Arguments {
    /// The mountpoint [default: the running daemon's]
    mountpoint: Option<PathBuf>,

    /// Detach at once; open files keep it alive until they are closed
    #[arg(short, long)]
    lazy: bool,
}

pub(super) fn run(arguments: Arguments, context: &mut Context<'_>) -> Result<(), Message> {
    let mut daemon = context.connect().ok();
    let served = daemon.as_mut().and_then(mountpoint_of);
    let mountpoint = match (arguments.mountpoint, &served) {
        (Some(mountpoint), _) => resolve(&mountpoint),
        (None, Some(served)) => served.clone(),
        (None, None) => left_by_a_crash(context)?,
    };
    let mut daemon = daemon.filter(|_| served.as_ref() == Some(&mountpoint));
    match check_ours(&mountpoint) {
        Ok(()) => unmount(&mountpoint, arguments.lazy)?,
        // Somebody has unmounted it here, and a copy elsewhere keeps the daemon.
        Err(message) if message.code == Code::NoMatch => {
            let Some(daemon) = &mut daemon else {
                return Err(message);
            };
            daemon.call(Command::Shutdown {})?;
        }
        Err(message) => return Err(message),
    }
    if let Some(daemon) = daemon.filter(|_| !arguments.lazy) {
        daemon.wait_ended(END_TIMEOUT).map_err(|message| {
            message.with_hint(
                "a copy of the mount in another mount namespace may keep it: `grep -l speedloader \
                 /proc/*/mountinfo` shows whose; the same command again ends the daemon all the same",
            )
        })?;
    }
    let text = format!("{} is unmounted", mountpoint.display());
    context.show_change(&View::Done(DoneView { text }))
}

/// The configured mountpoint, if a mount of ours is there that no daemon answers for.
fn left_by_a_crash(context: &Context<'_>) -> Result<PathBuf, Message> {
    let explicit = context.global.config.as_deref();
    let loaded = load_config(context.console, explicit, client_options())?;
    let configured = loaded.config.mountpoint;
    if let Some(mountpoint) = configured.filter(|mountpoint| check_ours(mountpoint).is_ok()) {
        return Ok(mountpoint);
    }
    // Why there is no daemon is the best thing to say.
    context.connect()?;
    Err(Message::new(Code::Usage, "nothing says what to unmount").with_hint("name the mountpoint"))
}

fn mountpoint_of(daemon: &mut Client) -> Option<PathBuf> {
    match daemon.call(Command::Status {}) {
        Ok(View::Status(status)) => {
            let raw = human::unescape(&status.mountpoint)?;
            Some(PathBuf::from(std::ffi::OsStr::from_bytes(&raw)))
        }
        Ok(_) | Err(_) => None,
    }
}

/// Nothing but our own mounts is ever unmounted.
fn check_ours(mountpoint: &Path) -> Result<(), Message> {
    let mounts = mount_table::read().map_err(|error| {
        Message::new(
            Code::Failed,
            format!("/proc/self/mountinfo cannot be read: {error}"),
        )
    })?;
    match kind_of_mount(&mounts, mountpoint).as_deref() {
        Some("fuse.speedloader") => Ok(()),
        Some(kind) => {
            let text = format!(
                "{} is a mount of {kind}, not of speedloader",
                mountpoint.display()
            );
            Err(Message::new(Code::Usage, text))
        }
        None => Err(Message::new(
            Code::NoMatch,
            format!("nothing is mounted on {}", mountpoint.display()),
        )
        .with_hint("`grep speedloader /proc/self/mountinfo` lists our mounts")),
    }
}

/// The type of the topmost mount on `mountpoint`.
fn kind_of_mount(table: &[u8], mountpoint: &Path) -> Option<String> {
    let found = mount_table::topmost(table, mountpoint)?;
    Some(String::from_utf8_lossy(found.file_system).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTINFO: &[u8] = b"\
22 1 0:20 / / rw - ext4 /dev/sda1 rw
40 22 0:50 / /mnt/a\\040b rw,nosuid shared:7 - fuse.speedloader speedloader rw,user_id=0
41 22 0:51 / /mnt/c rw - nfs host:/x rw
42 41 0:52 / /mnt/c rw - fuse.speedloader speedloader rw
broken
";

    #[test]
    fn the_topmost_mount_counts() {
        assert_eq!(
            kind_of_mount(MOUNTINFO, Path::new("/mnt/a b")).as_deref(),
            Some("fuse.speedloader")
        );
        assert_eq!(
            kind_of_mount(MOUNTINFO, Path::new("/mnt/c")).as_deref(),
            Some("fuse.speedloader")
        );
        assert_eq!(
            kind_of_mount(MOUNTINFO, Path::new("/")).as_deref(),
            Some("ext4")
        );
        assert_eq!(kind_of_mount(MOUNTINFO, Path::new("/mnt")), None);
    }
}
