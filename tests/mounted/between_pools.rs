//! A copy from one pool into another reads the replica that is there, up and down: the home is not read again.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use speedloader::command::Command;
use speedloader::view::{ReplicaState, View};

use crate::harness::store::{Speed, Store};
use crate::harness::{Mount, Site, content};

const LEN: u64 = (8 << 20) + 321;

/// A far store with a file, and two pools.
struct Scene {
    mount: Mount,
    store: Store,
}

fn scene() -> Option<Scene> {
    let site = Site::new()
        .unguarded()
        .pools(&[("fast", "32MiB"), ("slow", "32MiB")])
        .option("pool.fast.speed=8GiB")
        .option("pool.slow.speed=2GiB");
    let backing = site.root().join("backing");
    fs::create_dir(&backing).unwrap();
    content::write_file(&backing.join("f"), 3, LEN);
    let store = site.far_store(&backing, Speed::default())?;
    let mount = site.start()?;
    Some(Scene { mount, store })
}

impl Scene {
    fn promote(&self, pool: &str) {
        self.mount.call(Command::Promote {
            names: vec!["f".to_owned()],
            pool: Some(pool.to_owned()),
            wait: true,
        });
        self.mount.until("nothing moves", || {
            let View::Transfers(moving) = self.mount.call(Command::Transfers {}) else {
                return false;
            };
            let mut states = moving.transfers.iter().map(|transfer| transfer.state);
            states.all(|state| state.is_final())
        });
    }

    /// The pool that serves.
    fn serving(&self) -> String {
        let replicas = self.mount.which("f").replicas;
        let mut serving = replicas
            .into_iter()
            .filter(|r| r.state == ReplicaState::Serving);
        serving
            .next()
            .map(|replica| replica.pool)
            .unwrap_or_default()
    }

    /// The file of its replica in a pool.
    fn replica_in(&self, pool: &str) -> PathBuf {
        let files = fs::read_dir(self.mount.pool(pool).join("replicas")).unwrap();
        let mut paths = files.map(|entry| entry.unwrap().path());
        let data = paths.find(|path| fs::metadata(path).unwrap().len() == LEN);
        data.expect("there is a replica")
    }

    fn check(&self) {
        content::check_file(&self.mount.mounted("f"), 3, LEN).unwrap();
    }
}

#[test]
fn what_moves_between_pools_is_not_read_from_its_home_again() {
    let Some(scene) = scene() else { return };
    let promoted = |scene: &Scene| scene.mount.status().totals.promotions;
    for (first, second) in [("slow", "fast"), ("fast", "slow")] {
        scene.promote(first);
        assert_eq!(scene.serving(), first);
        let (read, copies) = (scene.store.counts(), promoted(&scene));
        assert!(read.bytes >= LEN);
        scene.promote(second);
        assert_eq!(scene.serving(), second);
        scene.check();
        assert_eq!(promoted(&scene), copies + 1, "it was copied");
        assert_eq!(scene.store.counts(), read, "{first} to {second}");
        scene.mount.demote("f");
        scene.mount.until("its memory is free", || {
            let pools = scene.mount.status().pools;
            pools.iter().all(|pool| pool.draining_bytes == 0)
        });
    }
    scene.mount.finish();
}

#[test]
fn a_damaged_replica_is_copied_to_nowhere_and_gone() {
    let Some(scene) = scene() else { return };
    scene.promote("slow");
    let data = File::options().write(true).open(scene.replica_in("slow"));
    data.unwrap().write_all_at(b"?", LEN / 2).unwrap();
    let read = scene.store.counts().bytes;
    scene.promote("fast");
    assert_eq!(scene.serving(), "fast");
    scene.check();
    assert!(
        scene.store.counts().bytes >= read + LEN,
        "its home was read"
    );
    let replicas = scene.mount.which("f").replicas;
    assert!(
        replicas.iter().all(|replica| replica.pool != "slow"),
        "{replicas:?}"
    );
    let events = scene.mount.events();
    assert!(
        events.iter().any(|event| event.kind == "damaged"),
        "{events:?}"
    );
    assert_eq!(scene.mount.status().totals.promotions_failed, 0);
    scene.mount.finish();
}
