//! What a person and a program see of each answer, by snapshot, and the exit status that goes with it.

use super::console::{at, at_width};
use crate::control::fake::Served;

#[test]
fn answers_as_text() {
    let served = Served::new();
    for (name, arguments) in [
        ("status", ["status"].as_slice()),
        ("models", &["models"]),
        ("models_none", &["models", "nothing"]),
        ("tiers", &["tiers"]),
        ("transfers", &["transfers"]),
        ("which", &["which", "llama3.2:3b"]),
        ("explain", &["explain", "llama3.2:3b"]),
        ("plan", &["plan"]),
        ("rescan", &["rescan"]),
        ("events", &["events"]),
        ("events_follow", &["events", "-f"]),
        ("config_running", &["config", "show", "--running"]),
        ("reload", &["config", "reload"]),
        ("promote", &["promote", "llama3.2:3b"]),
        ("promote_wait", &["promote", "llama3.2:3b", "--wait"]),
        ("demote", &["demote", "llama3.2:3b", "phi4.gguf"]),
        ("pin", &["pin", "llama3.2:3b", "local"]),
        ("history", &["history"]),
        ("fields", &["config", "fields"]),
        ("set", &["config", "set", "policy.enabled=false"]),
        (
            "set_trial",
            &["config", "set", "log.format=json", "--dry-run"],
        ),
    ] {
        let outcome = at(&served.socket(), arguments);
        assert_eq!(outcome.status, 0, "{outcome:?}");
        let text = if outcome.err.is_empty() {
            outcome.out
        } else {
            format!("{}--- stderr\n{}", outcome.out, outcome.err)
        };
        insta::assert_snapshot!(format!("answer_{name}"), text);
    }
}

/// The table of models wrapped: it needs 96 columns.
#[test]
fn tables_fit_80_columns() {
    let served = Served::new();
    for verb in ["models", "tiers", "transfers", "plan", "history"] {
        let outcome = at_width(&served.socket(), 80, &[verb]);
        let fits = |line: &str| line.chars().count() <= 80;
        assert!(outcome.out.lines().all(fits), "{}", outcome.out);
    }
    let models = at_width(&served.socket(), 80, &["models"]).out;
    assert!(models.contains("LAST LOAD"), "{models}");
}

#[test]
fn answers_as_json_are_documents() {
    let served = Served::new();
    for arguments in [
        ["status"].as_slice(),
        &["models"],
        &["tiers"],
        &["transfers"],
        &["which", "llama3.2:3b"],
        &["events"],
        &["events", "-f"],
        &["version"],
        &["promote", "llama3.2:3b", "--wait"],
        &["config", "show", "--running"],
        &["plan"],
        &["explain", "llama3.2:3b"],
    ] {
        let outcome = at(&served.socket(), &[arguments, &["--json"]].concat());
        assert_eq!(outcome.status, 0, "{outcome:?}");
        for line in outcome.out.lines() {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(value["schema"], 1, "{line}");
            assert!(value["view"].is_string(), "{line}");
        }
    }
}

#[test]
fn quiet_changes_say_nothing() {
    let served = Served::new();
    for arguments in [
        ["promote", "llama3.2:3b", "-w", "-q"].as_slice(),
        &["rescan", "-q"],
    ] {
        let outcome = at(&served.socket(), arguments);
        assert_eq!(
            (outcome.status, outcome.out.as_str(), outcome.err.as_str()),
            (0, "", "")
        );
    }
}

#[test]
fn errors_as_json_have_a_code() {
    let served = Served::new();
    let outcome = at(&served.socket(), &["promote", "lama3.2:3b", "--json"]);
    assert_eq!(outcome.status, 3);
    let value: serde_json::Value = serde_json::from_str(&outcome.out).unwrap();
    assert_eq!(value["error"]["code"], "no-match");
    assert_eq!(value["error"]["suggestions"][0], "llama3.2:3b");
}
