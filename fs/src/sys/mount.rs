//! A private, detached, read-only clone of the mount that holds a directory.

use std::ffi::c_long;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::mount::OpenTreeFlags;

/// Clones the mounts below `directory` into a detached tree that only the returned descriptor
/// knows, and makes the clone read-only. Nothing becomes visible to anybody else, and the clone goes
/// away with the last descriptor opened through it.
///
/// # Errors
/// Without CAP_SYS_ADMIN, or on a kernel before 5.12.
pub fn read_only_clone(directory: &OwnedFd) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = rustix::mount::open_tree(directory.as_fd(), c"", flags)?;
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    // SAFETY: mount_setattr reads an empty C string and `size_of::<mount_attr>()` bytes behind the
    // pointer; both live until the call returns, and the descriptor is open.
    let done: c_long = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if done == 0 {
        Ok(tree)
    } else {
        Err(io::Error::last_os_error())
    }
}
