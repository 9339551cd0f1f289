//! A mountpoint as the kernel names it, found without asking what is mounted there.

use std::fs;
use std::path::{Path, PathBuf};

/// As many links as the kernel follows.
const LINKS_MAX: usize = 40;

/// The path without symlinks. Of its last part only a link is read, which is no question to a mount:
/// one that is dead or hangs answers none.
pub(super) fn resolve(mountpoint: &Path) -> PathBuf {
    let mut path = std::path::absolute(mountpoint).unwrap_or_else(|_| mountpoint.to_owned());
    for _ in 0..LINKS_MAX {
        let (Some(Ok(parent)), Some(name)) =
            (path.parent().map(fs::canonicalize), path.file_name())
        else {
            return path;
        };
        let real = parent.join(name);
        match fs::read_link(&real) {
            Ok(target) => path = parent.join(target),
            Err(_) => return real,
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_followed_to_a_directory_or_nothing() {
        let site = tempfile::tempdir().expect("a directory");
        let root = site.path().canonicalize().expect("it is there");
        fs::create_dir_all(root.join("d/mnt")).expect("made");
        let links = [
            ("d", "l"),
            ("l/mnt", "one"),
            ("one", "two"),
            ("../one", "d/up"),
            ("loop", "loop"),
        ];
        for (target, link) in links {
            symlink(target, root.join(link)).expect("made");
        }
        for (given, wanted) in [
            ("d/mnt", "d/mnt"),
            ("l/mnt", "d/mnt"),
            ("two", "d/mnt"),
            ("l/up", "d/mnt"),
            ("l/none", "d/none"),
            ("loop", "loop"),
        ] {
            assert_eq!(resolve(&root.join(given)), root.join(wanted), "{given}");
        }
    }
}
