//! Making something in a user's name: it is his from its first moment. Given to him afterwards, by
//! its name, it could be somebody else's by then, whom he has put in its place.

use std::io;

use rustix::thread::{CapabilitySets, capabilities, set_capabilities};

use crate::errno;

/// No user has this number: a call with it changes nothing, and tells who it is now (setfsuid(2)).
const NOBODY_AT_ALL: u32 = u32::MAX;

/// Does something that makes files as this user and group, with the rights of this process. Only root can, and need, do
/// that; for anybody else it is simply done.
///
/// # Errors
/// Why it cannot be done in his name; then it was not done.
pub fn in_name_of<T>(uid: u32, gid: u32, deed: impl FnOnce() -> T) -> io::Result<T> {
    if !rustix::process::geteuid().is_root() {
        return Ok(deed());
    }
    let _back = Back {
        uid: set_user(NOBODY_AT_ALL),
        gid: set_group(NOBODY_AT_ALL),
    };
    let rights = capabilities(None)?;
    set_group(gid);
    set_user(uid);
    if (set_user(NOBODY_AT_ALL), set_group(NOBODY_AT_ALL)) != (uid, gid) {
        return Err(errno::not_permitted());
    }
    keep(rights)?;
    Ok(deed())
}

/// Another user than root loses the rights over files, which are still permitted to this thread.
fn keep(rights: CapabilitySets) -> io::Result<()> {
    Ok(set_capabilities(None, rights)?)
}

/// Makes the thread what it was; for root that gives it its rights back, too.
struct Back {
    uid: u32,
    gid: u32,
}

impl Drop for Back {
    fn drop(&mut self) {
        set_user(self.uid);
        set_group(self.gid);
    }
}

/// Sets whose this thread's files are; who it was before.
fn set_user(uid: u32) -> u32 {
    // SAFETY: takes a number and no pointer, changes this thread alone, and cannot fail but by changing
    // nothing.
    unsafe { libc::setfsuid(uid) }.cast_unsigned()
}

/// The same of their group.
fn set_group(gid: u32) -> u32 {
    // SAFETY: as above.
    unsafe { libc::setfsgid(gid) }.cast_unsigned()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};

    use super::*;

    #[test]
    fn what_is_made_is_the_users_from_the_first_moment_and_the_thread_is_root_again() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let top = tempfile::tempdir().expect("made");
        // Root's rights are kept: he may not write here.
        fs::set_permissions(top.path(), fs::Permissions::from_mode(0o700)).expect("set");
        let before = capabilities(None).expect("told");
        let make = |name: &str, mode| {
            let mut options = fs::File::options();
            options.write(true).create_new(true).mode(mode);
            options.open(top.path().join(name)).map(drop)
        };
        in_name_of(65_534, 65_533, || make("his", 0o600))
            .expect("done")
            .expect("made");
        make("ours", 0o600).expect("made");
        let owner = |name: &str| {
            let stat = fs::metadata(top.path().join(name)).expect("there");
            (stat.uid(), stat.gid())
        };
        assert_eq!((owner("his"), owner("ours")), ((65_534, 65_533), (0, 0)));
        let caught = std::panic::catch_unwind(|| in_name_of(65_534, 65_533, || panic!("within")));
        assert!(caught.is_err());
        assert_eq!((set_user(NOBODY_AT_ALL), set_group(NOBODY_AT_ALL)), (0, 0));
        assert_eq!(capabilities(None).expect("told"), before);
    }

    #[test]
    fn in_the_name_of_no_user_nothing_is_done() {
        if rustix::process::geteuid().is_root() {
            in_name_of(NOBODY_AT_ALL, 0, || panic!("done")).expect_err("nobody");
        }
    }
}
