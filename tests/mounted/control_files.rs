//! The control files: read by `cat`, followed by `tail -f`, written by `echo`; with the same answers
//! as by any other door.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, chown};
use std::process::{Command, Stdio};

use crate::harness::{Site, as_user, content, in_both_modes, skip};

const LEN: u64 = 100_000;

fn site(site: Site) -> Site {
    site.cold_file("d/f.gguf", 1, LEN)
}

/// Whom the models directory belongs to: the account of an engine.
const ENGINE: u32 = 1234;

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn each_can_be_read() {
    in_both_modes(site, |mount| {
        let at = |name: &str| mount.mounted(".speedloader").join(name);
        let read = |name: &str| {
            fs::read_to_string(at(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
        };
        for name in ["models", "tiers", "transfers"] {
            let document = json(&read(&format!("{name}.json")));
            assert_eq!(document["view"], *name, "{document}");
            assert!(!read(name).is_empty());
        }
        for name in ["stats", "config", "version"] {
            json(&read(&format!("{name}.json")));
        }
        read("events.json")
            .lines()
            .for_each(|line| drop(json(line)));
        assert!(!at("metrics.json").exists(), "Prometheus has its own form");
        assert!(read("tiers").contains("connected"), "{}", read("tiers"));
        assert!(json(&read("stats"))["totals"].is_object() || json(&read("stats")).is_object());
        assert!(
            read("metrics")
                .lines()
                .any(|line| line.starts_with("# TYPE speedloader_"))
        );
        assert!(read("version").contains(env!("CARGO_PKG_VERSION")));
        assert!(read("config").contains("models_dir"));
        // Found by name, listed by nobody.
        assert!(
            fs::read_dir(mount.mounted(""))
                .unwrap()
                .all(|entry| entry.unwrap().file_name() != ".speedloader")
        );
        let listed: Vec<_> = fs::read_dir(at(""))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert!(
            listed.iter().any(|name| name == "control")
                && listed.iter().any(|name| name == "stats"),
            "{listed:?}"
        );
        assert!(!mount.models(".speedloader").exists());
    });
}

#[test]
fn commands_are_written_and_answered() {
    in_both_modes(site, |mount| {
        let control = mount.mounted(".speedloader/control");
        let write = |line: &str| {
            OpenOptions::new()
                .write(true)
                .truncate(true)
                .open(&control)
                .unwrap()
                .write_all(line.as_bytes())
        };
        write("promote d/f.gguf\n").unwrap();
        mount.until("the written command is carried out", || {
            !mount.which("d/f.gguf").replicas.is_empty()
        });
        let answers = fs::read_to_string(&control).unwrap();
        assert!(answers.contains("started"), "{answers}");
        for bad in [
            "explode\n",
            "promote\n",
            "promote no-such-model\n",
            "pin d/f.gguf no-such-pool\n",
            "\u{0}\n",
        ] {
            assert_eq!(
                write(bad).unwrap_err().kind(),
                ErrorKind::InvalidInput,
                "{bad}"
            );
        }
        let answers = fs::read_to_string(&control).unwrap();
        assert!(answers.contains("no-such-model"), "{answers}");
        write("demote d/f.gguf\n").unwrap();
        mount.until("it is demoted", || {
            mount.which("d/f.gguf").replicas.is_empty()
        });
        content::check_file(&mount.mounted("d/f.gguf"), 1, LEN).unwrap();
    });
}

#[test]
fn events_can_be_followed() {
    if skip::lacks_programs(&["tail"]) {
        return;
    }
    in_both_modes(site, |mount| {
        let mut tail = Command::new("tail")
            .args(["-n", "+1", "-f"])
            .arg(mount.mounted(".speedloader/events"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
        let mut wait_for = |word: &str| {
            let found = lines
                .by_ref()
                .map(Result::unwrap)
                .find(|line| line.contains(word));
            assert!(found.is_some(), "`{word}` was never said");
        };
        mount.promote_wait("d/f.gguf");
        wait_for("promoted");
        mount.demote("d/f.gguf");
        wait_for("demoted");
        tail.kill().unwrap();
        tail.wait().unwrap();
    });
}

#[test]
fn they_cannot_be_changed() {
    in_both_modes(site, |mount| {
        let at = |name: &str| mount.mounted(".speedloader").join(name);
        assert!(fs::remove_file(at("stats")).is_err());
        assert!(fs::remove_dir(mount.mounted(".speedloader")).is_err());
        assert!(fs::rename(mount.mounted("d"), mount.mounted(".speedloader")).is_err());
        assert!(fs::rename(mount.mounted(".speedloader"), mount.mounted("x")).is_err());
        assert!(File::create(at("new")).is_err());
        assert!(fs::create_dir(at("new")).is_err());
        assert!(fs::hard_link(mount.mounted("d/f.gguf"), at("link")).is_err());
        assert!(fs::hard_link(at("stats"), mount.mounted("link")).is_err());
        assert!(
            OpenOptions::new()
                .write(true)
                .open(at("stats"))
                .and_then(|mut file| file.write_all(b"x"))
                .is_err()
        );
        assert!(!mount.models("link").exists() && !mount.models("x").exists());
        json(&fs::read_to_string(at("stats")).unwrap());
    });
}

/// By settings it could have something else mounted over the system's own directories, and become root.
#[test]
fn who_owns_the_models_directory_gives_no_commands() {
    in_both_modes(site, |mount| {
        chown(mount.models(""), Some(ENGINE), Some(ENGINE)).unwrap();
        let control = mount.mounted(".speedloader/control");
        let shown = fs::metadata(&control).unwrap();
        let daemon = rustix::process::geteuid().as_raw();
        assert_eq!((shown.uid(), shown.gid()), (daemon, daemon));
        let refused = as_user(ENGINE, &[], || {
            fs::write(mount.mounted("own"), "x").unwrap();
            let written = OpenOptions::new().write(true).open(&control);
            written.and_then(|mut file| file.write_all(b"set mountpoint /etc"))
        });
        let refused = refused.expect_err("it is not the engine's");
        assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
    });
}
