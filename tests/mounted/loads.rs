//! Loads as they are counted on a real mount.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use speedloader::models::synthetic::write_gguf;

use crate::harness::{Mount, Site, child, mapping};

const LEN: u64 = 4 << 20;

/// The names of the models that were loaded, in this order.
fn loaded(mount: &Mount) -> Vec<String> {
    let events = mount.events();
    let loads = events.iter().filter(|event| event.kind == "load");
    loads.map(|event| event.subject.clone()).collect()
}

fn look(path: &Path) {
    let mut header = [0; 4];
    let file = File::open(path).unwrap();
    file.read_exact_at(&mut header, 0).unwrap();
    assert_eq!(&header, b"GGUF");
}

/// The path of a mapping was compared: the second name of a hard link, what a container is shown of a directory, and a
/// name that was looked up anew had another, and the original of a file had the same.
#[test]
fn a_mapping_counts_by_what_is_mapped_not_by_its_name() {
    let site = Site::new().unguarded().option("policy.enabled=false");
    for (name, seed) in [("first.gguf", 1), ("second.gguf", 2)] {
        write_gguf(&site.cold(0, name), LEN, 1, seed).unwrap();
    }
    fs::create_dir(site.cold(0, "below")).unwrap();
    fs::hard_link(site.cold(0, "first.gguf"), site.cold(0, "below/other.gguf")).unwrap();
    let Some(mount) = site.start() else { return };
    mount.promote_wait("first.gguf");
    let original = File::open(mount.cold(0, "second.gguf")).unwrap();
    let original = mapping::shared(&original).unwrap();
    look(&mount.mounted("second.gguf"));
    let maps = ["below/other.gguf", "first.gguf"].map(|name| {
        let file = File::open(mount.mounted(name)).unwrap();
        mapping::shared(&file).unwrap()
    });
    // Events are heard in their order: the look at the other came before.
    mount.until("the load is counted", || !loaded(&mount).is_empty());
    assert_eq!(loaded(&mount), ["first"]);
    drop((original, maps));
    mount.finish();
}

/// Each rank of an engine was a load of its own.
#[test]
fn the_ranks_of_an_engine_are_one_load_and_another_engine_is_its_own() {
    let site = Site::new().option("policy.enabled=false");
    for (name, seed) in [("shared.gguf", 1), ("other.gguf", 2)] {
        write_gguf(&site.cold(0, name), LEN, 1, seed).unwrap();
    }
    let engine = site.root().join("engine");
    fs::copy("/proc/self/exe", &engine).unwrap();
    let Some(mount) = site.start() else { return };
    let load = |program: &Path, name: &str| {
        let path = mount.mounted(name);
        let mut reader = child::start_program(program, "workload", None, &[path]);
        reader.hear().unwrap();
        reader
    };
    let own = Path::new("/proc/self/exe");
    let ranks = [load(own, "shared.gguf"), load(own, "shared.gguf")];
    for (number, name) in [(2, "other.gguf"), (3, "shared.gguf")] {
        let other = load(&engine, name);
        mount.until("the load is counted", || loaded(&mount).len() >= number);
        other.finish();
    }
    assert_eq!(loaded(&mount), ["shared", "other", "shared"]);
    ranks.into_iter().for_each(|rank| drop(rank.finish()));
    mount.finish();
}
