//! Every command at every door. The list of commands is that of the type itself, so one that is added and
//! not reachable everywhere fails here.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};
use speedloader::command::{Command, parse_line};
use speedloader::control::http::{self, Method};

use super::fake::Served;
use super::web::{Web, request};
use crate::cli::console::at;

/// A command's word; how it is written on the command line; as a line of the control file; over HTTP.
struct Case {
    word: &'static str,
    cli: &'static [&'static str],
    /// None for what waits or follows: nobody can be kept waiting in a write.
    line: Option<&'static str>,
    http: (&'static str, &'static str, Option<Value>),
}

fn cases() -> Vec<Case> {
    let case = |word, cli, line, method, path, body| Case {
        word,
        cli,
        line,
        http: (method, path, body),
    };
    let model = "llama3.2:3b";
    let changes = json!({"changes": [{"key": "policy.enabled", "value": "false"}]});
    vec![
        case(
            "status",
            &["status"][..],
            Some("status"),
            "GET",
            "/status",
            None,
        ),
        case(
            "models",
            &["models"],
            Some("models"),
            "GET",
            "/models",
            None,
        ),
        case(
            "promote",
            &["promote", "llama3.2:3b"],
            Some("promote llama3.2:3b"),
            "POST",
            "/models/promote",
            Some(json!({"names": [model]})),
        ),
        case(
            "warm-up",
            &[
                "promote",
                "--file",
                concat!(env!("CARGO_MANIFEST_DIR"), "/contrib/warm-up.list"),
            ],
            Some("warm-up llama3.2:3b other"),
            "POST",
            "/models/warm-up",
            Some(json!({"names": [model, "other"]})),
        ),
        case(
            "demote",
            &["demote", "llama3.2:3b"],
            Some("demote llama3.2:3b"),
            "POST",
            "/models/demote",
            Some(json!({"names": [model]})),
        ),
        case(
            "pin",
            &["pin", "llama3.2:3b", "local"],
            Some("pin llama3.2:3b local"),
            "POST",
            "/models/pin",
            Some(json!({"name": model, "pool": "local"})),
        ),
        case(
            "unpin",
            &["unpin", "llama3.2:3b"],
            Some("unpin llama3.2:3b"),
            "POST",
            "/models/unpin",
            Some(json!({"name": model})),
        ),
        case("tiers", &["tiers"], Some("tiers"), "GET", "/tiers", None),
        case(
            "tier-steps",
            &["tiers", "connect", "local", "--dry-run"],
            Some("steps local"),
            "GET",
            "/tiers/local/steps",
            None,
        ),
        case(
            "tier-connect",
            &["tiers", "connect", "local"],
            Some("connect local"),
            "POST",
            "/tiers/local/connect",
            None,
        ),
        case(
            "tier-moves",
            &["tiers", "disconnect", "local", "--dry-run"],
            Some("moves local"),
            "GET",
            "/tiers/local/moves",
            None,
        ),
        case(
            "tier-disconnect",
            &["tiers", "disconnect", "local", "--force"],
            Some("disconnect local force"),
            "POST",
            "/tiers/local/disconnect",
            Some(json!({"force": true})),
        ),
        case(
            "tier-resize",
            &["tiers", "resize", "local", "8GiB"],
            Some("resize local 8GiB"),
            "POST",
            "/tiers/local/resize",
            Some(json!({"capacity": "8GiB"})),
        ),
        case(
            "transfers",
            &["transfers"],
            Some("transfers"),
            "GET",
            "/transfers",
            None,
        ),
        case(
            "cancel-transfer",
            &["transfers", "--cancel", "7"],
            Some("cancel 7"),
            "DELETE",
            "/transfers/7",
            None,
        ),
        case(
            "wait",
            &["wait", "llama3.2:3b", "--timeout", "1s"],
            None,
            "GET",
            "/models/wait?name=llama3.2:3b&timeout_s=1",
            None,
        ),
        case(
            "which",
            &["which", "llama3.2:3b"],
            Some("which llama3.2:3b"),
            "GET",
            "/models/which?name=llama3.2%3A3b",
            None,
        ),
        case(
            "rescan",
            &["rescan"],
            Some("rescan"),
            "POST",
            "/rescan",
            None,
        ),
        case(
            "events",
            &["events"],
            Some("events"),
            "GET",
            "/events?since=0",
            None,
        ),
        case(
            "config",
            &["config", "show", "--running"],
            Some("config"),
            "GET",
            "/config",
            None,
        ),
        case(
            "reload",
            &["config", "reload"],
            Some("reload"),
            "POST",
            "/config/reload",
            None,
        ),
        case(
            "version",
            &["version"],
            Some("version"),
            "GET",
            "/version",
            None,
        ),
        case(
            "explain",
            &["explain", "llama3.2:3b"],
            Some("explain llama3.2:3b"),
            "GET",
            "/models/explain?name=llama3.2:3b",
            None,
        ),
        case("plan", &["plan"], Some("plan"), "GET", "/plan", None),
        case(
            "history",
            &["history"],
            Some("history"),
            "GET",
            "/history",
            None,
        ),
        case(
            "forecast",
            &["forecast"],
            Some("forecast"),
            "GET",
            "/forecast",
            None,
        ),
        case(
            "settings",
            &["config", "fields"],
            Some("settings"),
            "GET",
            "/settings",
            None,
        ),
        case(
            "check-settings",
            &["config", "set", "policy.enabled=false", "--dry-run"],
            Some("check policy.enabled false"),
            "POST",
            "/settings/check",
            Some(changes.clone()),
        ),
        case(
            "save-settings",
            &["config", "set", "policy.enabled=false"],
            Some("set policy.enabled false"),
            "POST",
            "/settings",
            Some(changes),
        ),
        case(
            "shutdown",
            &["umount"],
            Some("shutdown"),
            "POST",
            "/shutdown",
            None,
        ),
    ]
}

/// Every command there is, by its word, from the type's own description.
fn words() -> BTreeSet<String> {
    let schema = schemars::schema_for!(Command).to_value();
    let variants = schema["oneOf"].as_array().unwrap();
    variants
        .iter()
        .map(|variant| {
            variant["properties"]["do"]["const"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect()
}

fn word(command: &Command) -> String {
    serde_json::to_value(command).unwrap()["do"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn every_command_is_reachable_at_every_door() {
    let cases = cases();
    let listed: BTreeSet<String> = cases.iter().map(|case| case.word.to_owned()).collect();
    assert_eq!(listed, words(), "this test knows all commands");
    let routed: BTreeSet<String> = http::routes_of_commands()
        .map(|(word, _)| word.to_owned())
        .collect();
    assert_eq!(routed, words(), "every command has a route");
    for case in &cases {
        let served = Served::new();
        let outcome = at(&served.socket(), case.cli);
        let asked: Vec<String> = served.fake.asked().iter().map(word).collect();
        // `umount` asks about the mount first, and there is none here; the mounted tests see it go on.
        let wanted = match case.word {
            "shutdown" => "status",
            word => word,
        };
        assert!(
            asked.contains(&wanted.to_owned()),
            "command line: {} came to {asked:?}, {outcome:?}",
            case.word
        );

        let web = Web::start(Arc::clone(&served.fake));
        let (method, path, body) = &case.http;
        let answer = request(
            &web,
            method,
            &format!("/api/v1{path}"),
            body.as_ref(),
            Some(web.token()),
        );
        let last = served.fake.asked().last().map(word);
        assert_eq!(last.as_deref(), Some(case.word), "HTTP: {path}: {answer:?}");

        let Some(line) = case.line else { continue };
        let parsed = parse_line(line).unwrap().unwrap();
        assert_eq!(word(&parsed), case.word, "control file: {line}");
    }
}

#[test]
fn every_change_can_be_written_into_the_control_file_and_needs_the_token() {
    for case in cases() {
        let command = case.line.and_then(|line| parse_line(line).unwrap());
        let is_change = command.as_ref().is_some_and(Command::is_change);
        let route = http::ROUTES
            .iter()
            .find(|route| route.command == case.word)
            .unwrap();
        // What a change would mean tells more of the file than anybody may look at; so do paths; and waiting has
        // few places.
        let words = [
            "check-settings",
            "settings",
            "config",
            "tier-steps",
            "which",
            "wait",
        ];
        let needs_token = is_change || words.contains(&case.word);
        assert_eq!(route.needs_token, needs_token, "{}", case.word);
        assert!(
            !is_change || route.method != Method::Get,
            "{} changes something by a GET",
            case.word
        );
    }
}
