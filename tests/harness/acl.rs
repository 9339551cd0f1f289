//! POSIX ACLs, set without setfacl(1), which a machine may not have.

use std::path::Path;

use rustix::fs::XattrFlags;

/// An entry: its tag, and what it allows.
#[derive(Clone, Copy, Debug)]
pub enum Entry {
    Owner(u16),
    User(u32, u16),
    OwningGroup(u16),
    Group(u32, u16),
    Mask(u16),
    Others(u16),
}

/// Gives a file an ACL, of entries in this order: the kernel wants it.
///
/// # Errors
/// The kernel's answer, for one that no ACL of this file may be, too.
pub fn set(path: &Path, entries: &[Entry]) -> rustix::io::Result<()> {
    // Tag, permissions and identifier of each entry, after the version (linux/posix_acl_xattr.h).
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for entry in entries {
        let nobody = u32::MAX;
        let (tag, allowed, id) = match *entry {
            Entry::Owner(allowed) => (0x01_u16, allowed, nobody),
            Entry::User(id, allowed) => (0x02, allowed, id),
            Entry::OwningGroup(allowed) => (0x04, allowed, nobody),
            Entry::Group(id, allowed) => (0x08, allowed, id),
            Entry::Mask(allowed) => (0x10, allowed, nobody),
            Entry::Others(allowed) => (0x20, allowed, nobody),
        };
        acl.extend(tag.to_le_bytes());
        acl.extend(allowed.to_le_bytes());
        acl.extend(id.to_le_bytes());
    }
    rustix::fs::setxattr(path, "system.posix_acl_access", &acl, XattrFlags::empty())
}

/// Gives a file an ACL with which user 1 may read it.
///
/// # Errors
/// The kernel's answer.
pub fn let_in_user_1(file: &Path) -> rustix::io::Result<()> {
    let entries = [
        Entry::Owner(6),
        Entry::User(1, 4),
        Entry::OwningGroup(0),
        Entry::Mask(4),
        Entry::Others(0),
    ];
    set(file, &entries)
}

/// Whether the file system of the tests' directories has ACLs.
pub fn are_kept() -> bool {
    let file = tempfile::NamedTempFile::new().unwrap();
    let_in_user_1(file.path()).is_ok()
}
