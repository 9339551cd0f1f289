//! Making something in a user's name: it is his from its first moment. Given to him afterwards, by
//! its name, it could be somebody else's by then, whom he has put in its place. And taking room for users without what
//! file systems keep for root, or let root have beyond a quota.

use std::fs::File;
use std::io;

use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

use crate::errno;

/// No user has this number: a call with it changes nothing, and tells who it is now (setfsuid(2)).
const NOBODY_AT_ALL: u32 = u32::MAX;

/// The user and group of nobody, as kernels have them (`/proc/sys/kernel/overflowuid`).
const NOBODY: u32 = 65_534;

/// Does something that makes files as this user and group, with the rights of this process but that to take what a file
/// system keeps for root. Only root can, and need, do that; for anybody else it is simply done.
///
/// # Errors
/// Why it cannot be done in his name; then it was not done.
pub fn in_name_of<T>(uid: u32, gid: u32, deed: impl FnOnce() -> T) -> io::Result<T> {
    if !rustix::process::geteuid().is_root() {
        return Ok(deed());
    }
    let _back = become_user(uid, gid)?;
    Ok(deed())
}

/// Does something that takes room in a file for users: they shall not have what its file system keeps for root, nor get
/// past a quota. What the kernel does with a file later, it does as who was here when it was opened or registered.
pub fn as_users_may<T>(file: &File, deed: impl FnOnce() -> T) -> T {
    if !rustix::process::geteuid().is_root() {
        return deed();
    }
    let user = if keeps_blocks_for_root(file) {
        NOBODY
    } else {
        0
    };
    // Where this user is not known, in a container, root is not the one whom blocks are kept for.
    let _back = become_user(user, user);
    deed()
}

/// Whether a file system asks who root is by his number, as ext2 to ext4 and f2fs do. Elsewhere the right counts alone,
/// and a server is asked in root's name as ever.
fn keeps_blocks_for_root(file: &File) -> bool {
    const EXT: u64 = 0xef53;
    const F2FS: u64 = 0xf2f5_2010;
    let found = rustix::fs::fstatfs(file).ok();
    let magic = found.and_then(|found| u64::try_from(found.f_type).ok());
    matches!(magic, Some(EXT | F2FS))
}

/// Makes the thread this user and group, with its rights over files, until what it gives is dropped.
fn become_user(uid: u32, gid: u32) -> io::Result<Back> {
    let rights = capabilities(None)?;
    let back = Back {
        uid: set_user(NOBODY_AT_ALL),
        gid: set_group(NOBODY_AT_ALL),
        rights,
    };
    set_group(gid);
    set_user(uid);
    if (set_user(NOBODY_AT_ALL), set_group(NOBODY_AT_ALL)) != (uid, gid) {
        return Err(errno::not_permitted());
    }
    // Another user than root has lost the rights over files, which are still permitted to this thread.
    let mut kept = rights;
    kept.effective.remove(CapabilitySet::SYS_RESOURCE);
    set_capabilities(None, kept)?;
    Ok(back)
}

/// Makes the thread what it was.
struct Back {
    uid: u32,
    gid: u32,
    rights: CapabilitySets,
}

impl Drop for Back {
    fn drop(&mut self) {
        set_user(self.uid);
        set_group(self.gid);
        // They were this thread's, and are permitted to it still.
        let _ = set_capabilities(None, self.rights);
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
        let kept = |rights: CapabilitySets| rights.effective.contains(CapabilitySet::SYS_RESOURCE);
        let his = in_name_of(65_534, 65_533, || capabilities(None)).expect("done");
        assert!(!kept(his.expect("told")));
        let some_file = fs::File::open(top.path()).expect("opened");
        assert!(!kept(
            as_users_may(&some_file, || capabilities(None)).expect("told")
        ));
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
