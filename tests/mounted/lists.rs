//! Lists of models that shall be in RAM, and waiting until what moves has arrived.

use std::ffi::OsStr;
use std::fs;
use std::process::Output;

use speedloader::command::{Code, Command};

use crate::harness::{Mount, Site};

const LEN: u64 = 1_500_000;

/// A pool that two of the three files fit into.
fn site() -> Site {
    Site::new()
        .pools(&[("p", "4MiB")])
        .cold_file("a.gguf", 1, LEN)
        .cold_file("b.gguf", 2, LEN)
        .cold_file("c.gguf", 3, LEN)
}

fn promote_list(mount: &Mount, list: &[u8]) -> Output {
    let path = mount.root().join("list");
    fs::write(&path, list).unwrap();
    let arguments: [&OsStr; 4] = [
        "promote".as_ref(),
        "--wait".as_ref(),
        "--file".as_ref(),
        path.as_os_str(),
    ];
    mount.cli(&arguments)
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn is_resident(mount: &Mount, name: &str) -> bool {
    !mount.which(name).replicas.is_empty()
}

#[test]
fn the_first_names_of_a_list_win_and_the_rest_is_told() {
    let Some(mount) = site().start() else { return };
    let output = promote_list(&mount, b"# hot\nc.gguf\nnowhere.gguf\n\na.gguf\nb.gguf\n");
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let (out, err) = (said(&output.stdout), said(&output.stderr));
    assert!(out.contains("unknown") && out.contains("refused"), "{out}");
    assert!(err.contains("nowhere.gguf") && err.contains("b"), "{err}");
    assert!(is_resident(&mount, "c.gguf") && is_resident(&mount, "a.gguf"));
    assert!(!is_resident(&mount, "b.gguf"));
    // Once more: everything is there, and what is not still does not displace it.
    let again = promote_list(&mount, b"c.gguf\na.gguf\n");
    assert_eq!(again.status.code(), Some(0), "{again:?}");
    assert_eq!(mount.status().totals.promotions, 2);
    mount.finish();
}

/// A pin by a path, or of a name that no model has, did nothing and said nothing.
#[test]
fn a_configured_pin_is_resolved_or_told() {
    let site = site()
        .option("placement.pins.b.gguf=p")
        .option("placement.pins.nowhere=p");
    let Some(mount) = site.start() else { return };
    mount.until("what is pinned is resident", || {
        is_resident(&mount, "b.gguf")
    });
    let warned = || mount.status().warnings.join("\n");
    mount.until("the other pin is told", || {
        warned().contains("no model matches `nowhere`")
    });
    assert!(!warned().contains("b.gguf"), "{}", warned());
    // Written down once more beside another, it was there for good.
    mount.cli_ok(&["pin", "c.gguf", "p"]);
    let pins = fs::read_to_string(mount.root().join("state/pins.json")).unwrap();
    assert!(pins.contains("\"/c.gguf\""), "{pins}");
    assert!(!pins.contains("b.gguf"), "{pins}");
    mount.finish();
}

#[test]
fn a_list_with_bad_lines_starts_nothing() {
    let Some(mount) = site().start() else { return };
    let output = promote_list(&mount, b"c.gguf\n\xff\na\x07\n\\q\n");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let err = said(&output.stderr);
    for line in ["line 2 ", "line 3 ", "line 4 "] {
        assert!(err.contains(line), "{err}");
    }
    assert_eq!(mount.status().totals.promotions, 0);
    assert!(!is_resident(&mount, "c.gguf"));
    mount.finish();
}

#[test]
fn waiting_ends_when_what_moves_has_arrived() {
    let Some(mount) = site().start() else { return };
    let wait = |names: &[&str], timeout_s| {
        mount.try_call(Command::Wait {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            timeout_s,
        })
    };
    assert!(wait(&[], 60).is_ok(), "nothing moves");
    let refused = wait(&["a.gguf"], 60).unwrap_err();
    assert_eq!(refused.code, Code::NotResident, "{refused}");
    for names in [&[][..], &["a.gguf", "b.gguf"]] {
        mount.call(Command::Promote {
            names: vec!["a.gguf".to_owned(), "b.gguf".to_owned()],
            pool: None,
            wait: false,
        });
        wait(names, 60).unwrap();
        assert!(is_resident(&mount, "a.gguf") && is_resident(&mount, "b.gguf"));
        mount.demote("a.gguf");
        mount.demote("b.gguf");
    }
    mount.finish();
}

/// What the catalog knew was told nobody: a set with a part missing was promoted as if it could be loaded.
#[test]
fn a_model_that_is_not_whole_is_moved_and_said_to_be_broken() {
    let site = Site::new()
        .pools(&[("p", "64MiB")])
        .cold_file("big-00001-of-00002.gguf", 5, 70_000);
    let Some(mount) = site.start() else { return };
    let told = mount.cli_ok(&["promote", "--wait", "big"]);
    assert!(
        told.contains("resident; big-00002-of-00002.gguf is missing (1 more"),
        "{told}"
    );
    for verb in ["which", "explain"] {
        let told = mount.cli_ok(&[verb, "big"]);
        assert!(
            told.contains("big-00002-of-00002.gguf is missing"),
            "{told}"
        );
    }
    let models = mount.cli_ok(&["models", "--json"]);
    assert!(
        models.contains("\"missing\":[\"big-00002-of-00002.gguf\"]"),
        "{models}"
    );
    mount.finish();
}
