//! Models that share files: a load is of one of them, and is not half of it.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::process::Command as Process;

use speedloader::command::{Code, Command};
use speedloader::view::{ExplainView, IfLoaded, Outcome, ReplicaState, View};

use crate::harness::store::Speed;
use crate::harness::{Mount, Site};

const MIB: u64 = 1 << 20;

/// A blob of the store; gives its name.
fn blob(site: &Site, seed: u64) -> String {
    let (made, blobs) = (site.cold(0, "made"), site.cold(0, "blobs"));
    fs::create_dir_all(&blobs).unwrap();
    crate::harness::content::write_file(&made, seed, 2 * MIB);
    let output = Process::new("sha256sum").arg(&made).output().unwrap();
    let digest = String::from_utf8(output.stdout).unwrap()[..64].to_owned();
    fs::rename(made, blobs.join(format!("sha256-{digest}"))).unwrap();
    digest
}

fn tag(site: &Site, name: &str, base: &str, adapter: Option<&str>) {
    tag_with(site, name, base, adapter, None);
}

fn tag_with(site: &Site, name: &str, base: &str, adapter: Option<&str>, template: Option<&str>) {
    let layer = |kind: &str, digest: &str| {
        let kind = format!("application/vnd.ollama.image.{kind}");
        format!(
            r#"{{"mediaType":"{kind}","digest":"sha256:{digest}","size":{}}}"#,
            2 * MIB
        )
    };
    let mut layers = vec![layer("model", base)];
    layers.extend(adapter.map(|adapter| layer("adapter", adapter)));
    layers.extend(template.map(|template| layer("template", template)));
    let manifest = format!(r#"{{"schemaVersion":2,"layers":[{}]}}"#, layers.join(","));
    let below = site.cold(0, "manifests/registry.ollama.ai/library/fam");
    fs::create_dir_all(&below).unwrap();
    fs::write(below.join(name), manifest).unwrap();
}

fn load(path: &Path) -> File {
    let mut file = File::open(path).unwrap();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes.len() as u64, 2 * MIB);
    file
}

fn is_resident(mount: &Mount, blob: &str) -> bool {
    let replicas = mount.which(blob).replicas;
    let mut states = replicas.iter().map(|replica| replica.state);
    states.any(|state| state == ReplicaState::Serving)
}

/// Each name that shares the first file was loaded, and copied, by whoever opened that; a name whose files were being
/// copied for another was left half.
#[test]
fn a_file_that_several_models_share_is_a_load_of_one() {
    let site = Site::new()
        .unguarded()
        .pools(&[("p", "64MiB")])
        .option("policy.enabled=true");
    let (base, one, two) = (blob(&site, 1), blob(&site, 2), blob(&site, 3));
    for (name, adapter) in [
        ("base", None),
        ("one", Some(&one)),
        ("one-again", Some(&one)),
        ("two", Some(&two)),
    ] {
        tag(&site, name, &base, adapter.map(String::as_str));
    }
    let Some(mount) = site.start() else { return };
    let path = |digest: &str| format!("blobs/sha256-{digest}");
    let (base, one, two) = (path(&base), path(&one), path(&two));
    let opened = [&base, &one].map(|name| load(&mount.mounted(name)));
    mount.until("what was loaded is resident", || {
        is_resident(&mount, &base) && is_resident(&mount, &one)
    });
    drop(opened);
    let opened = [&base, &one].map(|name| load(&mount.mounted(name)));
    drop(opened);
    mount.until("its loads are counted", || mount.status().totals.loads >= 2);
    let log = fs::read_to_string(mount.root().join("state/loads.csv")).unwrap();
    let loads = |name: &str| log.matches(&format!(",{name},")).count();
    assert_eq!(loads("fam:two"), 0, "{log}");
    assert_eq!(loads("fam:one") + loads("fam:one-again"), 1, "{log}");
    assert!(loads("fam:base") <= 1, "{log}");
    assert!(!is_resident(&mount, &two));
    mount.finish();
}

/// A model of which only the shared file was on its way was said to be on its way, and stayed half.
#[test]
fn what_shares_a_file_that_moves_is_promoted_with_all_it_has() {
    let site = Site::new()
        .unguarded()
        .pools(&[("fast", "64MiB"), ("slow", "64MiB")])
        .option("pool.fast.speed=8GiB")
        .option("pool.slow.speed=2GiB");
    let (base, one, two) = (blob(&site, 1), blob(&site, 2), blob(&site, 3));
    tag(&site, "one", &base, Some(&one));
    tag(&site, "two", &base, Some(&two));
    let backing = site.root().join("backing");
    fs::rename(site.cold(0, "blobs"), &backing).unwrap();
    fs::create_dir(site.cold(0, "blobs")).unwrap();
    let Some(store) = site.far_store_at(&backing, &site.cold(0, "blobs"), Speed::default()) else {
        return;
    };
    let Some(mount) = site.start() else { return };
    let promote = |tag: &str, pool: &str, wait: bool| {
        mount.try_call(Command::Promote {
            names: vec![format!("fam:{tag}")],
            pool: Some(pool.to_owned()),
            wait,
        })
    };
    store.hang_from(Some(0));
    promote("one", "slow", false).unwrap();
    let refused = promote("one", "fast", true).unwrap_err();
    assert_eq!(refused.code, Code::Busy, "{refused}");
    let refused = promote("two", "fast", false).unwrap_err();
    assert!(refused.text.contains("is being copied"), "{refused}");
    let again = promote("one", "slow", false).unwrap();
    let other = promote("two", "slow", false).unwrap();
    let said = |view: View| match view {
        View::Moves(moves) => moves.moves[0].text.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(said(again), "already on its way");
    assert_ne!(said(other), "already on its way");
    store.hang_from(None);
    promote("two", "slow", true).unwrap();
    promote("one", "slow", true).unwrap();
    for digest in [base, one, two] {
        assert!(is_resident(&mount, &format!("blobs/sha256-{digest}")));
    }
    mount.finish();
    drop(store);
}

fn explanation(mount: &Mount, name: &str) -> ExplainView {
    let name = name.to_owned();
    match mount.call(Command::Explain { name }) {
        View::Explain(explanation) => *explanation,
        other => panic!("{other:?}"),
    }
}

/// Loads of such a name were counted for the first one, and what was said of the other was not true: that it would go to
/// a pool, that it had left one, and that a demotion had freed its bytes.
#[test]
fn a_name_of_the_same_weights_has_the_loads_of_the_first() {
    let site = Site::new()
        .unguarded()
        .pools(&[("p", "64MiB")])
        .option("policy.enabled=true");
    let (base, template) = (blob(&site, 1), blob(&site, 2));
    tag(&site, "base", &base, None);
    tag_with(&site, "custom", &base, None, Some(&template));
    let Some(mount) = site.start() else { return };
    let path = |digest: &str| format!("blobs/sha256-{digest}");
    mount.call(Command::Models { filter: None });
    fs::read(mount.mounted("manifests/registry.ollama.ai/library/fam/custom")).unwrap();
    drop(load(&mount.mounted(path(&template))));
    let opened = load(&mount.mounted(path(&base)));
    mount.until("what was loaded is resident", || {
        is_resident(&mount, &path(&base))
    });
    drop(opened);
    mount.call(Command::Wait {
        names: Vec::new(),
        timeout_s: 60,
    });
    assert!(!is_resident(&mount, &path(&template)));
    let (first, other) = (
        explanation(&mount, "fam:base"),
        explanation(&mount, "fam:custom"),
    );
    assert_eq!((first.heat, first.counted_for), (1.0, None));
    assert_eq!(other.counted_for.as_deref(), Some("fam:base"));
    assert_eq!(other.heat, first.heat);
    assert_eq!(other.if_loaded, IfLoaded::Stays);
    let wait = Command::Wait {
        names: vec!["fam:custom".to_owned()],
        timeout_s: 60,
    };
    let missed = mount.try_call(wait).unwrap_err().text;
    assert!(missed.ends_with("no copy of it is on its way"), "{missed}");
    let names = vec!["fam:custom".to_owned()];
    let View::Moves(demoted) = mount.call(Command::Demote { names }) else {
        panic!("no moves");
    };
    assert_eq!(demoted.moves[0].outcome, Outcome::Already, "{demoted:?}");
    assert!(is_resident(&mount, &path(&base)));
    mount.finish();
}

/// Weights of one model that are some of another's: whose other files were opened last is meant.
#[test]
fn what_is_read_beside_the_weights_tells_which_model_is_loaded() {
    let site = Site::new()
        .unguarded()
        .pools(&[("p", "64MiB")])
        .option("policy.enabled=true");
    let (base, adapter) = (blob(&site, 1), blob(&site, 2));
    tag(&site, "base", &base, None);
    tag(&site, "tuned", &base, Some(&adapter));
    let Some(mount) = site.start() else { return };
    mount.call(Command::Models { filter: None });
    for (number, name) in [(1, "tuned"), (2, "base")] {
        for name in ["base", "tuned", name] {
            let below = "manifests/registry.ollama.ai/library/fam";
            fs::read(mount.mounted(format!("{below}/{name}"))).unwrap();
        }
        let opened = load(&mount.mounted(format!("blobs/sha256-{base}")));
        let loads = || mount.events().into_iter().filter(|e| e.kind == "load");
        mount.until("the load is counted", || loads().count() == number);
        assert_eq!(loads().next_back().unwrap().subject, format!("fam:{name}"));
        drop(opened);
    }
    mount.finish();
}
