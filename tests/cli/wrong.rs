//! Wrong command lines and wrong lines in `.speedloader/control`: each is refused with a status that
//! says which sort of wrong it is and a message that says what would be right; nothing is carried out.

use std::sync::Arc;

use speedloader::control::{ControlFiles, Door, Executor, Peer};

use super::console::{Outcome, at, speedloader};
use crate::control::fake::{Fake, Served};

fn assert_refused(arguments: &[&str], outcome: &Outcome, status: u8, part: &str) {
    assert_eq!(outcome.status, status, "{arguments:?}: {outcome:?}");
    assert!(outcome.err.contains(part), "{arguments:?}: {outcome:?}");
    assert_eq!(outcome.out, "", "{arguments:?}");
}

#[test]
fn wrong_usage_ends_with_2() {
    let cases: &[(&[&str], &str)] = &[
        (&[], "Usage: speedloader"),
        (&["promot", "x"], "'promote'"),
        (&["promote"], "<NAME>"),
        (&["promote", ""], "`names` is empty"),
        (&["promote", "x", "--pol", "y"], "'--pool'"),
        (&["pin", "x"], "<POOL>"),
        (&["pin", "x", "y", "z"], "unexpected argument"),
        (&["unpin"], "<NAME>"),
        (&["tiers", "remove"], "unrecognized subcommand"),
        (&["tiers", "resize", "local"], "<CAPACITY>"),
        (&["tiers", "resize", "local", "64"], "a size with its unit"),
        (
            &["tiers", "resize", "local", "-1GiB"],
            "unexpected argument",
        ),
        (&["transfers", "--cancel", "seven"], "invalid value 'seven'"),
        (&["transfers", "--cancel", "-1"], "unexpected argument"),
        (&["wait", "x", "--timeout", "soon"], "invalid value 'soon'"),
        (
            &["events", "--since", "yesterday"],
            "invalid value 'yesterday'",
        ),
        (&["status", "--watch", "0"], "0 is not in 1..=3600"),
        (&["status", "-q", "-v"], "cannot be used with"),
        (&["config"], "Usage: speedloader config"),
        (
            &["config", "check", "/nonexistent/x.toml"],
            "/nonexistent/x.toml",
        ),
        (&["config", "check", "/dev/null/x"], "/dev/null/x"),
        (
            &["--config", "/nonexistent/x.toml", "status"],
            "name the socket with --socket",
        ),
        (&["completions", "tcsh"], "possible values"),
        (&["demo", "--size", "much"], "invalid value 'much'"),
        (&["demo", "--models", "/nonexistent"], "is no directory"),
        (&["mount"], "models_dir"),
        (
            &["serve", "--models", "/srv/m"],
            "nothing says where to mount",
        ),
        (
            &[
                "mount",
                "/mnt/x",
                "--models",
                "/srv/m",
                "-o",
                "frobnicate=1",
            ],
            "frobnicate",
        ),
        (
            &["mount", "/mnt/x", "--models", "/srv/m", "--pool", "lots"],
            "pool",
        ),
        (&["umount", "/"], "not of speedloader"),
    ];
    for (arguments, part) in cases {
        let config = if arguments.contains(&"--config") {
            &[][..]
        } else {
            &["--socket", "/nonexistent/s"][..]
        };
        let outcome = speedloader(&[config, arguments].concat());
        assert_refused(arguments, &outcome, 2, part);
    }
}

#[test]
fn without_a_daemon_every_question_ends_with_5() {
    for arguments in [
        ["status"].as_slice(),
        &["models"],
        &["promote", "x"],
        &["pin", "x", "y"],
        &["tiers"],
        &["wait", "x"],
        &["events", "-f"],
        &["config", "reload"],
        &["umount"],
    ] {
        let outcome =
            speedloader(&[&["--socket", "/nonexistent/control.sock"], arguments].concat());
        assert_refused(
            arguments,
            &outcome,
            5,
            "no speedloader answers at /nonexistent/control.sock; start it with",
        );
    }
}

#[test]
fn what_the_daemon_refuses_has_its_status() {
    let served = Served::new();
    let cases: &[(&[&str], u8, &str)] = &[
        (
            &["promote", "lama3.2:3b"],
            3,
            "no model matches `lama3.2:3b`; did you mean `llama3.2:3b`?",
        ),
        (
            &["which", "xylophone"],
            3,
            "no model matches `xylophone`; `speedloader models` lists all",
        ),
        (
            &["pin", "llama3.2:3b", "locla"],
            3,
            "no pool is called `locla`; did you mean `local`?",
        ),
        (
            &["tiers", "connect", "wren"],
            3,
            "no pool is called `wren`; `speedloader tiers` lists all",
        ),
        (
            &["transfers", "--cancel", "8"],
            3,
            "no transfer has the id 8",
        ),
        (
            &["promote", "huge:405b"],
            4,
            "`huge:405b` has 810 GiB; `local` holds 64.0 GiB; choose a larger pool",
        ),
        (
            &["promote", "pinned:1b"],
            4,
            "`pinned:1b` is pinned to `meadowlark`",
        ),
        (
            &["tiers", "disconnect", "local"],
            4,
            "copies in `local` are being read; wait, or use --force",
        ),
        (
            &["wait", "llama3.2:3b", "-t", "1s"],
            6,
            "`llama3.2:3b` is not resident after 1 s",
        ),
    ];
    for (arguments, status, part) in cases {
        assert_refused(arguments, &at(&served.socket(), arguments), *status, part);
    }
}

#[test]
fn a_hostile_name_cannot_command_the_terminal() {
    let served = Served::new();
    for (name, status) in [("x\x1b[2J\u{9b}31m", 3), ("evil", 1)] {
        let outcome = at(&served.socket(), &["which", name]);
        assert_eq!(outcome.status, status);
        assert!(
            outcome.err.chars().all(|c| c == '\n' || !c.is_control()),
            "{outcome:?}"
        );
    }
}

#[test]
fn wrong_control_lines_are_refused() {
    let fake = Arc::new(Fake::default());
    let files = ControlFiles::new(Arc::clone(&fake) as Arc<dyn Executor>);
    let peer = Peer::new(Door::ControlFile);
    let long = "x".repeat(70_000);
    let many = "status\n".repeat(65);
    let cases: &[(&[u8], &str)] = &[
        (b"", "no command in this write; `promote NAME` would be one"),
        (b"\n \n# only a remark\n", "no command in this write"),
        (
            b"promot x",
            "line 1: `promot` is no command; did you mean `promote`?",
        ),
        (
            b"frobnicate",
            "line 1: `frobnicate` is no command; commands are status, models, promote",
        ),
        (
            b"PROMOTE x",
            "line 1: `PROMOTE` is no command; did you mean `promote`?",
        ),
        (
            b"promote",
            "line 1: `promote` does not go with 0 words after it; write `promote NAME [POOL]`",
        ),
        (
            b"status\npin x",
            "line 2: `pin` does not go with 1 word after it; write `pin NAME POOL`",
        ),
        (b"promote 'x", "line 1: a quote (') is not closed"),
        (b"promote ''", "line 1: promote: `names` is empty"),
        (
            b"promote a\\b",
            "line 1: promote: `names` contains a backslash",
        ),
        (
            b"promote a\x07",
            "line 1: promote: `names` contains a control character (\\u{7})",
        ),
        (
            b"promote \xff",
            "byte 9 is no UTF-8; write such a byte of a name as \\xNN",
        ),
        (b"promote a\0b", "contains a control character (\\u{0})"),
        (b"cancel x", "line 1: cancel: ID `x` is not a whole number"),
        (b"cancel 99999999999999999999", "is not a whole number"),
        (b"disconnect local now", "write `disconnect POOL [force]`"),
        (b"wait llama3", "line 1: `wait` is no command"),
        (b"{\"do\":\"status\"}", "is no command"),
        (
            long.as_bytes(),
            "70000 bytes in one write; 65536 are allowed",
        ),
        (many.as_bytes(), "65 commands in one write; 64 are allowed"),
    ];
    for (bytes, part) in cases {
        let error = files.write("control", bytes, &peer).unwrap_err();
        let shown: String = String::from_utf8_lossy(bytes).chars().take(40).collect();
        assert!(error.to_string().contains(part), "{shown}: {error}");
        assert!(
            error.to_string().len() < 1_000,
            "{shown}: a message is not a novel"
        );
    }
    assert!(fake.asked().is_empty());
}

#[test]
fn a_state_directory_that_leads_to_the_models_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    std::fs::create_dir(path("models")).unwrap();
    std::os::unix::fs::symlink("models", path("link")).unwrap();
    let text = format!(
        "models_dir = {:?}\nstate_dir = {:?}\n",
        path("models"),
        path("link")
    );
    std::fs::write(path("c.toml"), text).unwrap();
    let arguments = ["config", "check", &path("c.toml")];
    let outcome = speedloader(&arguments);
    assert_refused(&arguments, &outcome, 2, "which is the same as models_dir");
}

#[test]
fn wrong_usage_is_json_for_programs() {
    let outcome = speedloader(&["--json", "promot", "x"]);
    assert_eq!(outcome.status, 2, "{outcome:?}");
    let document: serde_json::Value = serde_json::from_str(&outcome.out).unwrap();
    assert_eq!(document["error"]["code"], "usage", "{document}");
    let hinted = speedloader(&["init"]);
    assert!(hinted.err.contains("speedloader setup"), "{hinted:?}");
}
