//! Whether a directory is one that nobody else can put something of his own in.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Why others could replace what is in the directory; `None`: they cannot. In one with the sticky bit they can
/// replace nothing of ours.
///
/// # Errors
/// When it cannot be looked at.
pub fn fault(directory: &Path) -> io::Result<Option<String>> {
    let found = fs::metadata(directory)?;
    let (own, group) = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    let is_sticky = found.mode() & 0o1000 != 0;
    let is_ours = |gid: u32| gid == 0 || gid == group;
    Ok(match found.uid() {
        uid if uid != own && uid != 0 => Some(format!("belongs to user {uid}")),
        _ if is_sticky => None,
        _ if found.mode() & 0o002 != 0 => Some("can be written by everybody".to_owned()),
        _ if found.mode() & 0o020 != 0 && !is_ours(found.gid()) => {
            Some(format!("can be written by group {}", found.gid()))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown};

    use super::*;

    #[test]
    fn what_others_could_write_is_told() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let top = tempfile::tempdir().unwrap();
        let told = |uid: u32, gid: u32, mode: u32| {
            chown(top.path(), Some(uid), Some(gid)).unwrap();
            fs::set_permissions(top.path(), fs::Permissions::from_mode(mode)).unwrap();
            fault(top.path()).unwrap().is_some()
        };
        assert!(!told(0, 0, 0o755) && !told(0, 0, 0o770) && !told(0, 5, 0o755));
        assert!(!told(0, 5, 0o1777));
        assert!(told(0, 0, 0o777) && told(0, 5, 0o770) && told(5, 0, 0o700));
    }
}
