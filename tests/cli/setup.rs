//! `speedloader setup`: shown, asked about, written, refused.

use std::fs;
use std::path::{Path, PathBuf};

use super::console::{Outcome, Recorder, with_answers};

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        let place = Place(tempfile::tempdir().unwrap());
        fs::create_dir_all(place.path("nas")).unwrap();
        fs::write(place.path("nas/good.gguf"), b"GGUF\x03\0\0\0").unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Runs it in a home without models, with what is given here.
    fn setup(&self, arguments: &[&str], answers: Option<&str>) -> Outcome {
        let (config, nas) = (self.text("etc/config.toml"), self.text("nas"));
        let (mountpoint, models) = (self.text("mnt"), self.text("models"));
        let whole = [
            &[
                "speedloader",
                "--config",
                &config,
                "setup",
                "--directory",
                &nas,
            ][..],
            &[
                "--mountpoint",
                &mountpoint,
                "--models",
                &models,
                "--pool",
                "64MiB",
            ],
            arguments,
        ];
        let home = self.text("home");
        with_answers(
            &whole.concat(),
            answers,
            &[("HOME", &home)],
            &Recorder::default(),
        )
    }

    fn written(&self) -> Option<String> {
        fs::read_to_string(self.path("etc/config.toml")).ok()
    }
}

fn has(text: &str, path: &Path) -> bool {
    text.contains(path.to_str().unwrap())
}

#[test]
fn the_proposal_is_shown_and_nothing_written() {
    let place = Place::new();
    for arguments in [&[][..], &["--dry-run"]] {
        let outcome = place.setup(arguments, None);
        assert_eq!(outcome.status, 0, "{outcome:?}");
        assert!(has(&outcome.out, &place.path("nas")), "{}", outcome.out);
        assert!(
            outcome.out.contains("capacity = \"64MiB\""),
            "{}",
            outcome.out
        );
    }
    let outcome = place.setup(&["--json"], None);
    let json: serde_json::Value = serde_json::from_str(&outcome.out).unwrap();
    assert_eq!(
        (&json["view"], &json["stores"][0]["models"]),
        (&"setup".into(), &1.into())
    );
    assert_eq!(json["choices"]["pool_bytes"], 64 << 20);
    assert_eq!(place.written(), None);
    assert!(!place.path("models").exists() && !place.path("mnt").exists());
}

#[test]
fn it_is_written_without_asking_and_only_once() {
    let place = Place::new();
    let outcome = place.setup(&["--yes"], None);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert!(outcome.out.contains("OLLAMA_MODELS="), "{}", outcome.out);
    let text = place.written().unwrap();
    assert!(
        has(&text, &place.path("nas")) && has(&text, &place.path("mnt")),
        "{text}"
    );
    let again = place.setup(&["--yes"], None);
    assert_eq!(again.status, 4, "{again:?}");
    assert!(again.err.contains("is there already"), "{}", again.err);
    assert_eq!(place.written().unwrap(), text);
}

#[test]
fn a_person_is_asked_and_may_change_and_refuse() {
    let place = Place::new();
    // Every store that this machine happens to have is asked about; the last answers are for the rest.
    let asked = place.setup(&[], Some(""));
    assert_eq!(asked.status, 8, "nobody answers: {asked:?}");
    assert_eq!(place.written(), None);
    let stores = json_of(&place)["choices"]["cold"].as_array().unwrap().len();
    let answers = |each: &str, rest: &str| format!("{}{rest}", each.repeat(stores));
    let refused = place.setup(&[], Some(&answers("y\n", "\n\n\nn\n")));
    assert_eq!(refused.status, 0, "{refused:?}");
    assert!(
        refused.out.contains("Nothing was written"),
        "{}",
        refused.out
    );
    assert_eq!(place.written(), None);
    let elsewhere = place.text("elsewhere");
    let rest = format!("much\n80MiB\n{elsewhere}\n\ny\nn\n");
    let agreed = place.setup(&[], Some(&answers("n\n", &rest)));
    assert_eq!(agreed.status, 0, "{agreed:?}");
    let text = place.written().unwrap();
    assert!(
        text.contains("80MiB") && has(&text, &place.path("elsewhere")),
        "{text}"
    );
    assert!(!text.contains("[[cold]]"), "{text}");
}

fn json_of(place: &Place) -> serde_json::Value {
    serde_json::from_str(&place.setup(&["--json"], None).out).unwrap()
}

#[test]
fn what_is_wrong_is_said_and_nothing_written() {
    let place = Place::new();
    let nas = place.text("nas");
    for (arguments, wanted) in [
        (
            &["--yes", "--mountpoint", nas.as_str()][..],
            "the argument '--mountpoint",
        ),
        (&["--yes", "--directory", "/dev/null"], ""),
    ] {
        let outcome = place.setup(arguments, None);
        assert!(outcome.err.contains(wanted), "{outcome:?}");
    }
    let outcome = with_answers(
        &[
            "speedloader",
            "--config",
            &place.text("x/config.toml"),
            "setup",
            "--pool",
            "lots",
            "--yes",
        ],
        None,
        &[("HOME", &place.text("home"))],
        &Recorder::default(),
    );
    assert_eq!(outcome.status, 2, "{outcome:?}");
    let outcome = with_answers(
        &[
            "speedloader",
            "--config",
            &place.text("x/config.toml"),
            "setup",
            "--mountpoint",
            &nas,
            "--yes",
        ],
        None,
        &[("HOME", &place.text("home"))],
        &Recorder::default(),
    );
    assert_eq!(outcome.status, 2, "{outcome:?}");
    assert!(outcome.err.contains("is not empty"), "{}", outcome.err);
    assert!(!place.path("x").exists());
}

#[test]
fn what_is_no_place_for_models_is_refused_and_what_is_left_out_is_said() {
    let place = Place::new();
    let home = place.text("home");
    let run = |arguments: &[&str]| {
        let config = place.text("y/config.toml");
        let mountpoint = place.text("mnt");
        let whole = [
            &[
                "speedloader",
                "--config",
                &config,
                "setup",
                "--pool",
                "64MiB",
            ][..],
            &["--mountpoint", &mountpoint],
            arguments,
        ];
        with_answers(
            &whole.concat(),
            None,
            &[("HOME", &home)],
            &Recorder::default(),
        )
    };
    let models = place.text("models");
    let faulty = run(&["--models", "/etc", "--dry-run"]);
    assert_eq!(faulty.status, 2, "{faulty:?}");
    assert!(
        faulty.out.contains("/etc is the system's"),
        "{}",
        faulty.out
    );
    for left_out in ["/nope", "/etc"] {
        let outcome = run(&["--models", &models, "--directory", left_out, "--dry-run"]);
        assert_eq!(outcome.status, 0, "{outcome:?}");
        let told = format!("{left_out} is left out: ");
        assert!(outcome.out.contains(&told), "{}", outcome.out);
    }
    let written = run(&["--models", &models, "--directory", "/nope", "--yes"]);
    assert_eq!(written.status, 0, "{written:?}");
    assert!(written.out.contains("/nope is left out"), "{}", written.out);
    let again = run(&["--models", &models, "--yes", "--json"]);
    let document: serde_json::Value = serde_json::from_str(&again.out).unwrap();
    assert_eq!(document["error"]["code"], "busy", "{document}");
    assert!(
        has(&again.err, &place.path("y/config.toml")),
        "{}",
        again.err
    );
}
