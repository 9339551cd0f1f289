//! After a crash and the loss of the pools' memory the hot set comes back by itself.
//!
//! Printed as a timeline with `cargo test --test main mounted::warm_up -- --nocapture`.

use std::fs;
use std::path::Path;
use std::process::{Command as Process, Stdio};

use serde_json::Value;
use speedloader::command::Command;
use speedloader::models::synthetic::write_gguf;
use speedloader::view::{EventView, View};

use crate::harness::{Mount, Site, mount_table};

const LEN: u64 = 8 << 20;
/// How often each is loaded.
const LOADS: [(&str, usize); 5] = [("a", 1), ("b", 5), ("c", 2), ("d", 3), ("e", 4)];
/// The hottest first.
const HOTTEST: [&str; 5] = ["b", "e", "d", "c", "a"];

fn site(names: &[&str]) -> Site {
    let site = Site::new().option("policy.enabled=true");
    for (name, seed) in names.iter().zip(1..) {
        write_gguf(&site.cold(0, format!("{name}.gguf")), LEN, 1, seed).unwrap();
    }
    site
}

/// As an engine does: another process each time, the whole file, and held for a while. So small a file
/// is read in a moment that could count as a look.
pub fn read_as_engine(path: &Path) {
    let script = "exec 3<\"$0\"; cat <&3; sleep 0.1";
    let mut shell = Process::new("sh");
    let shell = shell.arg("-c").arg(script).arg(path).stdout(Stdio::null());
    assert!(shell.status().unwrap().success());
}

fn load(mount: &Mount, name: &str) {
    read_as_engine(&mount.mounted(format!("{name}.gguf")));
    mount.call(Command::Wait {
        names: Vec::new(),
        timeout_s: 60,
    });
}

/// Loads by rounds, so that the first are not forgotten for the last.
fn load_all(mount: &Mount) {
    for round in 0..5 {
        for (name, _) in LOADS.iter().filter(|(_, loads)| *loads > round) {
            load(mount, name);
        }
    }
}

fn written(mount: &Mount) -> Vec<String> {
    let text = fs::read(mount.root().join("state/resident.json")).unwrap_or_default();
    let list: Value = serde_json::from_slice(&text).unwrap_or_default();
    let models = list["models"].as_array().cloned().unwrap_or_default();
    let name = |model: &Value| model["name"].as_str().unwrap_or_default().to_owned();
    models.iter().map(name).collect()
}

/// The machine is off and on again: neither the daemon nor the memory of its pool is left.
fn lose_everything(mount: &mut Mount) {
    mount.kill9();
    mount_table::unmount(&mount.mounted(""));
    mount_table::unmount(&mount.pool("p"));
}

fn is_resident(mount: &Mount, name: &str) -> bool {
    !mount.which(&format!("{name}.gguf")).replicas.is_empty()
}

fn of_kind(events: &[EventView], kind: &str) -> Vec<EventView> {
    let kinds = events.iter().filter(|event| event.kind == kind);
    kinds.cloned().collect()
}

#[allow(clippy::print_stdout)] // libtest shows it when the test fails, or with --nocapture.
fn print_timeline(events: &[EventView]) {
    let start = events.first().map_or(0, |event| event.time_ms);
    println!("after kill -9 and the loss of the pool's memory:");
    for event in events {
        let (ms, kind, text) = (event.time_ms - start, &event.kind, &event.text);
        println!("{ms:>6} ms  {kind:<9} {}: {text}", event.subject);
    }
}

#[test]
fn the_hot_set_is_back_after_a_reboot_the_hottest_first() {
    let Some(mut mount) = site(&["a", "b", "c", "d", "e"]).start() else {
        return;
    };
    load_all(&mount);
    mount.until("the order is written down", || written(&mount) == HOTTEST);
    lose_everything(&mut mount);
    mount.restart();
    mount.until("all are back", || {
        HOTTEST.iter().all(|name| is_resident(&mount, name))
    });
    mount.call(Command::Wait {
        names: Vec::new(),
        timeout_s: 60,
    });
    mount.until("the end is told", || {
        let told = of_kind(&mount.events(), "warm-up");
        let is_end = |event: &EventView| event.text.starts_with("5 models were brought back in ");
        told.iter().any(is_end)
    });
    let events = mount.events();
    print_timeline(&events);
    let promoted = of_kind(&events, "promoted");
    let files: Vec<&str> = promoted
        .iter()
        .map(|event| event.subject.as_str())
        .collect();
    assert_eq!(files, HOTTEST.map(|name| format!("{name}.gguf")));
    for event in &promoted {
        assert_eq!(event.fields["cause"], "warm-up", "{event:?}");
        assert_eq!(event.fields["reason"], "it was resident before the restart");
    }
    assert_eq!(mount.status().totals.loads, 0);
    // Nothing is copied again where the pool outlives the daemon.
    mount.kill9();
    mount.restart();
    assert!(HOTTEST.iter().all(|name| is_resident(&mount, name)));
    assert_eq!(mount.status().totals.promotions, 0);
    mount.finish();
}

#[test]
fn what_changed_or_went_meanwhile_does_not_come_back() {
    let Some(mut mount) = site(&["same", "changed", "gone"]).start() else {
        return;
    };
    for name in ["same", "changed", "gone"] {
        load(&mount, name);
    }
    mount.until("all are written down", || written(&mount).len() == 3);
    lose_everything(&mut mount);
    let changed = mount.cold(0, "changed.gguf");
    mount.change_cold(0, || {
        fs::remove_file(mount.cold(0, "gone.gguf")).unwrap();
        write_gguf(&changed, LEN + 4096, 1, 9).unwrap();
    });
    mount.restart();
    mount.until("what is the same is back", || is_resident(&mount, "same"));
    mount.call(Command::Wait {
        names: Vec::new(),
        timeout_s: 60,
    });
    assert!(!is_resident(&mount, "changed"));
    let told = of_kind(&mount.events(), "warm-up");
    let is_told = |name: &str, why: &str| {
        let mut events = told.iter();
        events.any(|event| event.subject == name && event.text.contains(why))
    };
    assert!(is_told("changed", "it has changed since"), "{told:?}");
    assert!(is_told("gone", "it is gone"), "{told:?}");
    mount.until("it is forgotten", || written(&mount) == ["same"]);
    mount.finish();
}

#[test]
fn a_damaged_list_is_set_aside_and_a_switch_turns_it_off() {
    let Some(mut mount) = site(&["a"]).start() else {
        return;
    };
    load(&mount, "a");
    mount.until("it is written down", || written(&mount) == ["a"]);
    lose_everything(&mut mount);
    let path = mount.root().join("state/resident.json");
    let whole = fs::read_to_string(&path).unwrap();
    fs::write(&path, whole.replacen("\"a\"", "\"b\"", 1)).unwrap();
    mount.restart();
    assert!(
        mount
            .log()
            .contains("its checksum is not that of its contents")
    );
    assert!(mount.root().join("state/resident.json.bad").exists());
    assert!(!is_resident(&mount, "a"));
    lose_everything(&mut mount);
    fs::write(&path, &whole).unwrap();
    mount.restart_with(&[("SPEEDLOADER_POLICY_WARM_UP", "false".as_ref())]);
    let View::Plan(plan) = mount.call(Command::Plan {}) else {
        panic!("no plan");
    };
    assert!(plan.moves.is_empty(), "{plan:?}");
    assert!(!is_resident(&mount, "a"));
    mount.finish();
}
