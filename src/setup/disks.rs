//! File systems: which could hold models, and on which one a directory lies.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crossbeam_channel::bounded;
use speedloader_fs::mount_table::{self, MountEntry};

use crate::view::FileSystemView;

/// How long file systems are asked for their room.
const PATIENCE: Duration = Duration::from_millis(500);
/// More are not worth reading.
const SHOWN_MAX: usize = 8;
/// Types that keep what is written to them, on this machine or another one.
const LASTING: [&str; 22] = [
    "ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "zfs", "bcachefs", "jfs", "overlay", "nfs",
    "nfs4", "cifs", "smb3", "beegfs", "lustre", "ceph", "gpfs", "virtiofs", "9p", "ntfs3", "exfat",
];
/// Where no models belong.
const ELSEWHERE: [&str; 6] = ["/boot", "/dev", "/etc", "/proc", "/run", "/sys"];

/// The type of what our own mounts are, as the kernel shows it.
pub(super) const OWN: &str = "fuse.speedloader";

/// File systems that could hold models, the one with most room first. What does not answer is left out.
pub(super) fn file_systems() -> Vec<FileSystemView> {
    let table = mount_table::read().unwrap_or_default();
    let places = lasting(&table);
    let (sender, answers) = bounded(places.len());
    for (mount_point, kind) in places {
        let sender = sender.clone();
        // A server that is gone holds up nobody but this thread.
        let _ = std::thread::Builder::new()
            .name("look".to_owned())
            .spawn(move || {
                let found = space_of(&mount_point, kind);
                let _ = sender.send(found);
            });
    }
    drop(sender);
    let end = std::time::Instant::now() + PATIENCE;
    let mut found: Vec<FileSystemView> = Vec::new();
    while let Ok(answer) = answers.recv_deadline(end) {
        found.extend(answer);
    }
    found.sort_by(|a, b| (b.free_bytes, &a.mount_point).cmp(&(a.free_bytes, &b.mount_point)));
    found.truncate(SHOWN_MAX);
    found
}

/// Each lasting file system once, where its path is shortest.
fn lasting(table: &[u8]) -> Vec<(PathBuf, String)> {
    let mut places: BTreeMap<u64, (PathBuf, String)> = BTreeMap::new();
    for entry in mount_table::entries(table) {
        let kind = kind_of(&entry);
        let is_elsewhere = ELSEWHERE
            .iter()
            .any(|path| entry.mount_point.starts_with(path));
        if is_elsewhere || !LASTING.contains(&kind.as_str()) {
            continue;
        }
        let length = |path: &Path| path.as_os_str().len();
        let place = (entry.mount_point.clone(), kind);
        let known = places.entry(entry.dev).or_insert_with(|| place.clone());
        if length(&place.0) < length(&known.0) {
            *known = place;
        }
    }
    places.into_values().collect()
}

fn kind_of(entry: &MountEntry<'_>) -> String {
    String::from_utf8_lossy(entry.file_system).into_owned()
}

fn space_of(mount_point: &Path, kind: String) -> Option<FileSystemView> {
    if !mount_point.is_dir() {
        return None;
    }
    let space = rustix::fs::statvfs(mount_point).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(space.f_frsize);
    let mount_point = mount_point.to_str()?.to_owned();
    (space.f_blocks > 0).then(|| FileSystemView {
        mount_point,
        kind,
        total_bytes: bytes(space.f_blocks),
        free_bytes: bytes(space.f_bavail),
    })
}

/// The type of what a path lies on; empty if the table does not tell. Asks no file system.
pub(super) fn kind_at(table: &[u8], path: &Path) -> String {
    mount_table::entries(table)
        .filter(|entry| path.starts_with(&entry.mount_point))
        // Of two mounts on one directory the later one is seen.
        .max_by_key(|entry| entry.mount_point.as_os_str().len())
        .map(|entry| kind_of(&entry))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"\
22 1 8:1 / / rw - ext4 /dev/sda1 rw
23 22 0:5 / /proc rw - proc proc rw
24 22 8:2 /a /srv/models/deep rw - xfs /dev/sdb rw
25 22 8:2 / /srv rw - xfs /dev/sdb rw
26 22 0:40 / /mnt/nas rw - nfs4 nas:/models rw
27 22 0:41 / /dev/shm rw - tmpfs tmpfs rw
28 22 8:1 /etc/hosts /etc/hosts rw - ext4 /dev/sda1 rw
29 22 0:42 / /mnt/models rw - fuse.speedloader speedloader rw
";

    #[test]
    fn each_lasting_file_system_is_named_once() {
        let found: Vec<String> = lasting(TABLE)
            .into_iter()
            .map(|(path, kind)| format!("{kind} {}", path.display()))
            .collect();
        assert_eq!(found, ["nfs4 /mnt/nas", "ext4 /", "xfs /srv"]);
    }

    #[test]
    fn a_path_lies_on_the_nearest_mount_above_it() {
        for (path, kind) in [
            ("/home/a", "ext4"),
            ("/srv", "xfs"),
            ("/srvx", "ext4"),
            ("/srv/models/deep/x", "xfs"),
            ("/mnt/nas/x", "nfs4"),
            ("/mnt/models/x", OWN),
            ("relative", ""),
        ] {
            assert_eq!(kind_at(TABLE, Path::new(path)), kind, "{path}");
        }
    }

    #[test]
    fn this_machine_has_a_file_system() {
        let found = file_systems();
        assert!(
            found.iter().all(|one| one.total_bytes >= one.free_bytes),
            "{found:?}"
        );
    }
}
