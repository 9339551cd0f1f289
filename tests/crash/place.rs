//! A mount that is made to die, and what must be true of its pool, its homes and its state then.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use speedloader::command::Command;
use speedloader::view::{ReplicaState, View};

use crate::harness::{Mount, Site, content};

/// Files that are promoted and demoted: path, content, bytes. No two are of one size.
pub const COLD: [(&str, u64, u64); 2] = [("blobs/c", 1, 300_001), ("big", 2, (2 << 20) + 1)];
pub const MODELS: [(&str, u64, u64); 2] = [("m", 3, 600_012), ("dir/n", 4, 70_000)];

/// All of them.
pub fn files() -> impl Iterator<Item = (&'static str, u64, u64)> {
    COLD.into_iter().chain(MODELS)
}

/// A site with these files. One thread copies, so that the order of the steps is always the same.
pub fn site(limit: Duration) -> Site {
    let mut site = Site::new()
        .pools(&[("p", "64MiB")])
        .option("mover.threads=1")
        .option("mover.chunk=256KiB")
        .limit(limit);
    for (path, seed, len) in COLD {
        site = site.cold_file(path, seed, len);
    }
    for (path, seed, len) in MODELS {
        site = site.models_file(path, seed, len);
    }
    site
}

/// On a directory of the disk instead of a tmpfs, and served by the daemon.
pub fn without_privileges(site: Site) -> Site {
    site.option("pool.p.mount=false").without_passthrough()
}

/// Files of which the pool holds a complete replica. Fails if it holds anything else that somebody
/// could take for one.
pub fn complete(mount: &Mount) -> BTreeSet<&'static str> {
    let names = |below: &str| -> BTreeSet<String> {
        let entries = fs::read_dir(mount.pool("p").join(below))
            .into_iter()
            .flatten();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    };
    let replicas = names("replicas");
    let mut found = BTreeSet::new();
    for name in &replicas {
        let Some(stem) = name.strip_suffix(".data") else {
            continue;
        };
        let path = mount.pool("p").join("replicas").join(name);
        let len = fs::metadata(&path).unwrap().len();
        let file = files().find(|file| file.2 == len);
        let (path_below, seed, _) =
            file.unwrap_or_else(|| panic!("a replica of {len} bytes is a copy of nothing"));
        content::check_file(&path, seed, len).unwrap();
        assert!(
            replicas.contains(&format!("{stem}.meta")),
            "{path_below} has no metadata"
        );
        assert!(found.insert(path_below), "two replicas of {path_below}");
    }
    found
}

/// Names in the pool, whatever they are.
fn names(mount: &Mount) -> usize {
    ["replicas", "partial"]
        .iter()
        .flat_map(|below| fs::read_dir(mount.pool("p").join(below)).unwrap())
        .count()
}

/// The daemon is dead: the homes are as they were, and the state can be read.
pub fn homes_are_whole(mount: &Mount) {
    mount.check_cold();
    for (path, seed, len) in MODELS {
        content::check_file(&mount.models(path), seed, len).unwrap();
    }
}

/// A new daemon runs: what was complete serves at once, without a copy, and nothing else is left.
pub fn adopted(mount: &Mount, complete: &BTreeSet<&str>) {
    let View::Transfers(transfers) = mount.call(Command::Transfers {}) else {
        panic!("transfers are not transfers");
    };
    assert!(transfers.transfers.is_empty(), "{transfers:?}");
    assert_eq!(mount.status().totals.promoted_bytes, 0);
    for (path, seed, len) in files() {
        let place = mount.which(path);
        let serving = place
            .replicas
            .iter()
            .filter(|r| r.state == ReplicaState::Serving);
        let wanted = usize::from(complete.contains(path));
        assert_eq!(serving.count(), wanted, "{place:?}\n{}", mount.log());
        content::check_file(&mount.mounted(path), seed, len).unwrap();
    }
    assert_eq!(
        names(mount),
        2 * complete.len(),
        "{complete:?}\n{}",
        mount.log()
    );
    assert!(
        !state_was_bad(&mount.root().join("state")),
        "{}",
        mount.log()
    );
}

/// Whether a start found a file of the state directory that it could not read.
fn state_was_bad(state: &Path) -> bool {
    let mut entries = fs::read_dir(state).into_iter().flatten().flatten();
    entries.any(|entry| entry.path().extension().is_some_and(|end| end == "bad"))
}

/// Everything can be promoted and read.
pub fn promote_everything(mount: &Mount) {
    for (path, seed, len) in files() {
        mount.promote_wait(path);
        content::check_file(&mount.mounted(path), seed, len).unwrap();
    }
    assert_eq!(complete(mount).len(), files().count());
}

/// Gives back every replica.
pub fn demote_everything(mount: &Mount) {
    for (path, ..) in files() {
        // One that is not resident is nothing to demote.
        let _ = mount.try_call(Command::Demote {
            names: vec![path.to_owned()],
        });
    }
    mount.until("the pool is empty", || names(mount) == 0);
}
