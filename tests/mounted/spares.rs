//! A copy that a file leaves in a slower pool: it serves again without being copied, goes when its
//! room is needed or it is stale, and outlives the daemon.

use std::fs::{self, File};
use std::path::Path;

use speedloader::command::Command;
use speedloader::view::{PlaceView, ReplicaState, TierView, View};

use crate::harness::{Mount, Site, content, in_both_modes};

const LEN: u64 = 8 << 20;

/// The faster pool holds one of the files, the slower one three.
fn site(site: Site) -> Site {
    let site = site
        .pools(&[("fast", "12MiB"), ("slow", "28MiB")])
        .option("pool.fast.speed=8GiB")
        .option("pool.slow.speed=2GiB");
    let names = ["a", "b", "c", "d"];
    (names.iter().zip(1..)).fold(site, |site, (name, seed)| site.cold_file(name, seed, LEN))
}

fn promote(mount: &Mount, name: &str, pool: &str) {
    mount.call(Command::Promote {
        names: vec![name.to_owned()],
        pool: Some(pool.to_owned()),
        wait: true,
    });
    // Copies elsewhere go when the transfer is over, a moment after it serves.
    mount.until("nothing moves", || {
        let View::Transfers(moving) = mount.call(Command::Transfers {}) else {
            return false;
        };
        let mut states = moving.transfers.iter().map(|transfer| transfer.state);
        states.all(|state| state.is_final())
    });
}

/// The pools that have the file, the one that serves first.
fn pools_of(place: &PlaceView) -> Vec<(&str, ReplicaState)> {
    let row = |replica: &speedloader::view::ReplicaView| replica.state;
    let names = place.replicas.iter().map(|replica| replica.pool.as_str());
    names.zip(place.replicas.iter().map(row)).collect()
}

fn is_at(mount: &Mount, name: &str, pools: &[&str]) -> bool {
    let place = mount.which(name);
    let states = [ReplicaState::Serving, ReplicaState::Spare];
    let wanted: Vec<_> = pools.iter().copied().zip(states).collect();
    pools_of(&place) == wanted
}

fn tier(mount: &Mount, name: &str) -> TierView {
    let status = mount.status();
    let tier = status.pools.into_iter().find(|tier| tier.name == name);
    tier.unwrap_or_else(|| panic!("{name} is not there"))
}

/// `b` serves from the faster pool and is spare in the slower one.
fn climb(mount: &Mount) {
    promote(mount, "b", "slow");
    promote(mount, "b", "fast");
    mount.until("b has climbed and left a spare", || {
        is_at(mount, "b", &["fast", "slow"])
    });
}

fn check(mount: &Mount, name: &str, seed: u64) {
    content::check_file(&mount.mounted(name), seed, LEN).unwrap();
}

#[test]
fn a_file_goes_back_to_its_spare_without_being_copied() {
    in_both_modes(site, |mount| {
        climb(mount);
        check(mount, "b", 2);
        let (fast, slow) = (tier(mount, "fast"), tier(mount, "slow"));
        assert!(
            slow.spare_bytes >= LEN && slow.used_bytes >= LEN,
            "{slow:?}"
        );
        assert_eq!(fast.spare_bytes, 0);
        let View::Models(models) = mount.call(Command::Models {
            filter: Some("b".to_owned()),
        }) else {
            panic!("models are not models");
        };
        let model = &models.models[0];
        assert_eq!(model.resident_total_bytes, LEN, "{model:?}");
        assert!(!model.resident_bytes.contains_key("slow"), "{model:?}");
        let promotions = mount.status().totals.promotions;
        // The kernel tells of a close a moment later.
        mount.until("nobody reads b", || mount.status().counts.files_open == 0);
        promote(mount, "a", "fast");
        mount.until("b is where it was", || is_at(mount, "b", &["slow"]));
        assert_eq!(mount.status().totals.promotions, promotions + 1);
        assert_eq!(tier(mount, "slow").spare_bytes, 0);
        assert!(Path::new(&mount.which("b").serving).starts_with(mount.pool("slow")));
        check(mount, "a", 1);
        check(mount, "b", 2);
    });
}

#[test]
fn who_reads_the_spare_keeps_it() {
    in_both_modes(site, |mount| {
        promote(mount, "b", "slow");
        let old = File::open(mount.mounted("b")).unwrap();
        promote(mount, "b", "fast");
        let new = File::open(mount.mounted("b")).unwrap();
        assert!(is_at(mount, "b", &["fast", "slow"]));
        content::check_open(&old, 2, LEN).unwrap();
        content::check_open(&new, 2, LEN).unwrap();
        // Its room is not free while somebody reads it.
        promote(mount, "a", "slow");
        promote(mount, "c", "slow");
        let refused = mount.try_call(Command::Promote {
            names: vec!["d".to_owned()],
            pool: Some("slow".to_owned()),
            wait: true,
        });
        // One of the others makes room, but not the one that is read.
        assert!(refused.is_ok(), "{refused:?}");
        assert!(is_at(mount, "b", &["fast", "slow"]));
        content::check_open(&old, 2, LEN).unwrap();
    });
}

#[test]
fn a_spare_goes_when_its_room_is_needed() {
    in_both_modes(site, |mount| {
        climb(mount);
        promote(mount, "a", "slow");
        promote(mount, "c", "slow");
        assert!(
            is_at(mount, "b", &["fast", "slow"]),
            "there is room for all"
        );
        promote(mount, "d", "slow");
        for (name, pool) in [("a", "slow"), ("b", "fast"), ("c", "slow"), ("d", "slow")] {
            assert!(is_at(mount, name, &[pool]), "{:?}", mount.which(name));
        }
        let told = mount.events();
        assert!(told.iter().any(|event| event.kind == "spare"), "{told:?}");
        check(mount, "b", 2);
        // A smaller pool is no reason to keep one either.
        mount.demote("d");
        promote(mount, "b", "slow");
        promote(mount, "b", "fast");
        mount.demote("c");
        mount.until("b has a spare again", || {
            is_at(mount, "b", &["fast", "slow"])
        });
        mount.call(Command::TierResize {
            name: "slow".to_owned(),
            capacity: "12MiB".to_owned(),
        });
        for (name, pool) in [("a", "slow"), ("b", "fast")] {
            assert!(is_at(mount, name, &[pool]), "{:?}", mount.which(name));
        }
    });
}

#[test]
fn a_spare_is_taken_over_after_a_crash_and_never_outlives_a_change() {
    let Some(mut mount) = site(Site::new()).start() else {
        return;
    };
    climb(&mount);
    mount.kill9();
    mount.restart();
    assert!(
        is_at(&mount, "b", &["fast", "slow"]),
        "{:?}",
        mount.which("b")
    );
    assert_eq!(mount.status().totals.promotions, 0);
    promote(&mount, "a", "fast");
    mount.until("b is where it was", || is_at(&mount, "b", &["slow"]));
    check(&mount, "b", 2);
    // The faster pool goes: the spare serves.
    promote(&mount, "b", "fast");
    mount.until("b has climbed again", || {
        is_at(&mount, "b", &["fast", "slow"])
    });
    mount.call(Command::TierDisconnect {
        name: "fast".to_owned(),
        force: false,
        wait: false,
        no_move: false,
    });
    assert!(is_at(&mount, "b", &["slow"]));
    check(&mount, "b", 2);
    mount.call(Command::TierConnect {
        name: "fast".to_owned(),
    });
    promote(&mount, "b", "fast");
    // What the home has now is in neither.
    mount.change_cold(0, || content::write_file(&mount.cold(0, "b"), 9, LEN));
    mount.until("both copies are gone", || {
        mount.which("b").replicas.is_empty()
    });
    check(&mount, "b", 9);
    let left = fs::read_dir(mount.pool("slow").join("replicas")).unwrap();
    let a = if is_at(&mount, "a", &["slow"]) { 2 } else { 0 };
    assert_eq!(left.count(), a);
    mount.finish();
}
