//! Moves that nobody waits for stop while somebody reads cold files beside them.

use std::fs::{self, File};
use std::time::Duration;

use rustix::process::Signal;
use speedloader::command::Command;
use speedloader::models::synthetic::write_gguf;
use speedloader::view::{ReplicaState, TransferView, View};

use crate::harness::store::{Speed, Store};
use crate::harness::{Mount, Site, mapping};

const LEN: u64 = 24 << 20;
const SPEED: Speed = Speed {
    latency: Duration::from_millis(1),
    bytes_per_sec: 64 << 20,
};

struct Scene {
    mount: Mount,
    _store: Store,
}

/// Two cold models on one device; what comes to be is not a first load.
fn scene() -> Option<Scene> {
    let site = Site::new()
        .unguarded()
        .option("policy.enabled=false")
        .option("mover.back_off=200ms");
    let backing = site.root().join("backing");
    fs::create_dir(&backing).unwrap();
    for (name, seed) in [("moved.gguf", 1), ("read.gguf", 2)] {
        write_gguf(&backing.join(name), LEN, 1, seed).unwrap();
    }
    let store = site.far_store(&backing, SPEED)?;
    let mount = site.start()?;
    mount.call(Command::Models { filter: None });
    Some(Scene {
        mount,
        _store: store,
    })
}

impl Scene {
    fn promote(&self, wait: bool) {
        let names = vec!["moved.gguf".to_owned()];
        self.mount.call(Command::Promote {
            names,
            pool: None,
            wait,
        });
    }

    fn transfers(&self) -> Vec<TransferView> {
        let View::Transfers(found) = self.mount.call(Command::Transfers {}) else {
            panic!("no transfers");
        };
        found.transfers
    }

    fn transfer(&self) -> TransferView {
        self.transfers().into_iter().next().unwrap()
    }

    fn is_resident(&self) -> bool {
        let replicas = self.mount.which("moved.gguf").replicas;
        (replicas.iter()).any(|replica| replica.state == ReplicaState::Serving)
    }
}

#[test]
fn a_move_stops_while_a_cold_file_is_read_and_ends_afterwards() {
    let Some(scene) = scene() else { return };
    let file = File::open(scene.mount.mounted("read.gguf")).unwrap();
    let opens = scene.mount.status().totals.loads;
    let map = mapping::shared(&file).unwrap();
    // A load is counted a second after its open: by then the open has long been heard of.
    scene.mount.until("the open is heard of", || {
        scene.mount.status().totals.loads > opens
    });
    scene.promote(false);
    scene.mount.until("it waits", || {
        scene
            .transfer()
            .why
            .ends_with("waits while others read its storage")
    });
    let sum: u64 = map.iter().map(|byte| u64::from(*byte)).sum();
    assert!(sum > 0);
    assert_eq!(scene.transfer().done_bytes, 0);
    drop((file, map));
    scene.mount.until("it is resident", || scene.is_resident());
    assert!(!scene.transfer().why.contains("waits"));
    scene.mount.finish();
}

#[test]
fn a_move_that_somebody_waits_for_does_not_stop() {
    let Some(mut scene) = scene() else { return };
    let file = File::open(scene.mount.mounted("read.gguf")).unwrap();
    let loads = scene.mount.status().totals.loads;
    let map = mapping::shared(&file).unwrap();
    scene.mount.until("the open is heard of", || {
        scene.mount.status().totals.loads > loads
    });
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| scene.promote(true));
        // One that stops does so for as long as the file is mapped.
        while !waits.is_finished() {
            let transfers = scene.transfers();
            let stopped = transfers
                .iter()
                .any(|transfer| transfer.why.contains("waits while"));
            assert!(!stopped, "{transfers:?}");
        }
    });
    assert!(scene.is_resident());
    drop((file, map));
    scene.mount.end(Signal::INT);
}
