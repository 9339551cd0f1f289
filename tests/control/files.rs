//! The control files: every file reads, JSON is JSON, writes do what they say or nothing.

use std::sync::{Arc, Mutex};

use speedloader::command::{Answer, Code, Command};
use speedloader::control::control_files::FILES;
use speedloader::control::{ControlFiles, Door, Executor, Peer};
use speedloader::view::View;

use super::fake::{Fake, until};

fn files() -> (Arc<Fake>, ControlFiles, Peer) {
    let fake = Arc::new(Fake::default());
    let files = ControlFiles::new(Arc::clone(&fake) as Arc<dyn Executor>);
    (fake, files, Peer::new(Door::ControlFile))
}

#[test]
fn every_file_reads_and_json_is_json() {
    let (_, files, _) = files();
    for file in FILES {
        let text = String::from_utf8(files.read(file.name).unwrap()).unwrap();
        if file.name.ends_with(".json") || file.name == "stats" {
            for line in text.lines() {
                let value: serde_json::Value = serde_json::from_str(line).unwrap();
                assert_eq!(value["schema"], 1, "{}", file.name);
            }
            assert!(!text.is_empty());
        }
        assert!(text.is_empty() || text.ends_with('\n'), "{}", file.name);
    }
    let mut sorted: Vec<&str> = FILES.iter().map(|file| file.name).collect();
    sorted.sort_unstable();
    assert_eq!(
        sorted,
        FILES.iter().map(|file| file.name).collect::<Vec<_>>()
    );
}

#[test]
fn there_are_no_other_files() {
    let (_, files, _) = files();
    for name in [
        "",
        ".",
        "..",
        "nothing",
        "models.json.json",
        "metrics.json",
        "control.json",
        "Models",
    ] {
        assert_eq!(files.read(name), None, "{name}");
    }
}

#[test]
fn text_files_have_columns() {
    let (_, files, _) = files();
    let text = |name| String::from_utf8(files.read(name).unwrap()).unwrap();
    insta::assert_snapshot!("file_tiers", text("tiers"));
    insta::assert_snapshot!("file_transfers", text("transfers"));
    insta::assert_snapshot!("file_metrics", text("metrics"));
    insta::assert_snapshot!("file_events", text("events"));
}

#[test]
fn a_write_is_carried_out_and_its_answer_can_be_read() {
    let (fake, files, peer) = files();
    let text = b"# the morning's models\npromote llama3.2:3b local\n\npin llama3.2:3b local\n";
    files.write("control", text, &peer).unwrap();
    let name = || "llama3.2:3b".to_owned();
    let wanted = vec![
        Command::Promote {
            names: vec![name()],
            pool: Some("local".to_owned()),
            wait: false,
        },
        Command::Pin {
            name: name(),
            pool: "local".to_owned(),
        },
    ];
    assert_eq!(fake.asked(), wanted);
    let answers = String::from_utf8(files.read("control").unwrap()).unwrap();
    assert!(answers.contains("llama3.2:3b  started"), "{answers}");
}

#[test]
fn a_wrong_line_undoes_the_whole_write() {
    let (fake, files, peer) = files();
    let error = files
        .write("control", b"promote llama3.2:3b\npromot phi4.gguf\n", &peer)
        .unwrap_err();
    assert_eq!(error.code, Code::BadRequest);
    assert_eq!(
        error.to_string(),
        "line 2: `promot` is no command; did you mean `promote`?"
    );
    assert!(fake.asked().is_empty());
    let answers = String::from_utf8(files.read("control").unwrap()).unwrap();
    assert_eq!(
        answers,
        "error: line 2: `promot` is no command; did you mean `promote`?\n"
    );
}

#[test]
fn settings_that_are_not_saved_are_a_refused_write() {
    let (_, files, peer) = files();
    let write = |text: &str| files.write("control", text.as_bytes(), &peer);
    let error = write("set policy.enabled maybe\n").unwrap_err();
    assert_eq!(error.code, Code::BadRequest);
    assert_eq!(
        error.to_string(),
        "line 1: nothing was saved: policy.enabled: found \"maybe\", wanted true or false"
    );
    write("check policy.enabled maybe\n").unwrap();
    write("set policy.enabled true\n").unwrap();
}

/// A fake that does not find its commands' answers while the door is held.
#[derive(Default)]
struct Slow {
    fake: Fake,
    door: Mutex<()>,
}

impl Executor for Slow {
    fn execute(&self, peer: &Peer, command: Command, progress: &mut dyn FnMut(View)) -> Answer {
        if command == (Command::Rescan {}) {
            drop(self.door.lock().unwrap());
        }
        self.fake.execute(peer, command, progress)
    }
}

/// All who wrote after it waited until it was over.
#[test]
fn what_takes_long_goes_on_without_its_writer() {
    let slow = Arc::new(Slow::default());
    let files = ControlFiles::new(Arc::clone(&slow) as Arc<dyn Executor>);
    let peer = Peer::new(Door::ControlFile);
    let door = slow.door.lock().unwrap();
    files.write("control", b"rescan\n", &peer).unwrap();
    files.write("control", b"version\n", &peer).unwrap();
    let answers = || String::from_utf8(files.read("control").unwrap()).unwrap();
    let before = answers();
    assert!(before.starts_with("it takes long, and goes on"), "{before}");
    assert_eq!(slow.fake.asked(), [Command::Version {}]);
    drop(door);
    until(|| answers() != before);
    let after = answers();
    assert!(after.starts_with(&before), "{after}");
    assert!(after.contains("homes"), "{after}");
}

#[test]
fn events_grow_and_keep_their_offsets() {
    let (fake, files, _) = files();
    let first = files.read("events").unwrap();
    let lost = b"(2 older events are no longer remembered)\n";
    assert!(first.starts_with(lost), "what is missing is said");
    let json = files.read("events.json").unwrap();
    assert!(json.starts_with(br#"{"lost":2,"#));
    let second = files.read("events").unwrap();
    assert_eq!(first, second, "nothing new has happened");
    assert!(matches!(
        fake.asked().last(),
        Some(Command::Events {
            since: 4,
            follow: false
        })
    ));
}

#[test]
fn only_control_can_be_written() {
    let (fake, files, peer) = files();
    for file in FILES.iter().filter(|file| file.name != "control") {
        let error = files
            .write(file.name, b"promote llama3.2:3b\n", &peer)
            .unwrap_err();
        assert_eq!(error.code, Code::Denied);
        assert_eq!(
            file.mode & 0o222,
            0,
            "{} has no write permission",
            file.name
        );
    }
    assert!(fake.asked().is_empty());
}

#[test]
fn answers_are_remembered_within_bounds() {
    let (_, files, peer) = files();
    for _ in 0..1_000 {
        files.write("control", b"version\n", &peer).unwrap();
    }
    let answers = String::from_utf8(files.read("control").unwrap()).unwrap();
    assert_eq!(answers.lines().count(), 64);
}
