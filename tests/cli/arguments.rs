//! From arguments to commands: what each command line asks of the daemon, and what it starts.

use speedloader::command::Command;

use super::console::{Recorder, at, with_answers, with_program};
use crate::control::fake::Served;

#[test]
fn every_verb_asks_its_command() {
    let llama = || "llama3.2:3b".to_owned();
    let local = || "local".to_owned();
    let cases: Vec<(&[&str], Command)> = vec![
        (&["status"], Command::Status {}),
        (&["models"], Command::Models { filter: None }),
        (
            &["models", "llama"],
            Command::Models {
                filter: Some("llama".to_owned()),
            },
        ),
        (
            &["promote", "llama3.2:3b"],
            Command::Promote {
                names: vec![llama()],
                pool: None,
                wait: false,
            },
        ),
        (
            &["promote", "llama3.2:3b", "phi4.gguf", "-p", "local", "-w"],
            Command::Promote {
                names: vec![llama(), "phi4.gguf".to_owned()],
                pool: Some(local()),
                wait: true,
            },
        ),
        (
            &["demote", "llama3.2:3b"],
            Command::Demote {
                names: vec![llama()],
            },
        ),
        (
            &["pin", "llama3.2:3b", "local"],
            Command::Pin {
                name: llama(),
                pool: local(),
            },
        ),
        (&["unpin", "llama3.2:3b"], Command::Unpin { name: llama() }),
        (&["tiers"], Command::Tiers {}),
        (&["tiers", "list"], Command::Tiers {}),
        (
            &["tiers", "connect", "local"],
            Command::TierConnect { name: local() },
        ),
        (
            &["tiers", "connect", "local", "--dry-run"],
            Command::TierSteps { name: local() },
        ),
        (
            &["tiers", "disconnect", "local"],
            Command::TierDisconnect {
                name: local(),
                force: false,
                wait: false,
                no_move: false,
            },
        ),
        (
            &["tiers", "disconnect", "local", "--dry-run"],
            Command::TierMoves { name: local() },
        ),
        (
            &["tiers", "disconnect", "local", "--no-move"],
            Command::TierDisconnect {
                name: local(),
                force: false,
                wait: false,
                no_move: true,
            },
        ),
        (
            &["tiers", "disconnect", "local", "--wait"],
            Command::TierDisconnect {
                name: local(),
                force: false,
                wait: true,
                no_move: false,
            },
        ),
        (
            &["tiers", "disconnect", "local", "--force"],
            Command::TierDisconnect {
                name: local(),
                force: true,
                wait: false,
                no_move: false,
            },
        ),
        (
            &["tiers", "resize", "local", "60%"],
            Command::TierResize {
                name: local(),
                capacity: "60%".to_owned(),
            },
        ),
        (&["transfers"], Command::Transfers {}),
        (
            &["transfers", "--cancel", "7"],
            Command::CancelTransfer { id: 7 },
        ),
        (
            &["wait", "llama3.2:3b"],
            Command::Wait {
                names: vec![llama()],
                timeout_s: 600,
            },
        ),
        (
            &["wait", "llama3.2:3b", "-t", "90s"],
            Command::Wait {
                names: vec![llama()],
                timeout_s: 90,
            },
        ),
        (&["which", "llama3.2:3b"], Command::Which { name: llama() }),
        (
            &["explain", "llama3.2:3b"],
            Command::Explain { name: llama() },
        ),
        (&["plan"], Command::Plan {}),
        (&["rescan"], Command::Rescan {}),
        (
            &["events"],
            Command::Events {
                since: 0,
                follow: false,
            },
        ),
        (
            &["events", "-f", "--since", "3"],
            Command::Events {
                since: 3,
                follow: true,
            },
        ),
        (&["config", "show", "--running"], Command::Config {}),
        (&["config", "reload"], Command::Reload {}),
        (&["version"], Command::Version {}),
        // Global options go anywhere, and a name may look like a verb.
        (
            &["-q", "unpin", "--json", "llama3.2:3b"],
            Command::Unpin { name: llama() },
        ),
        (
            &["models", "status"],
            Command::Models {
                filter: Some("status".to_owned()),
            },
        ),
        // What the shell hands over raw is escaped; what was copied from a listing is not.
        (
            &["models", "a\nb"],
            Command::Models {
                filter: Some("a\\nb".to_owned()),
            },
        ),
        (
            &["models", "a\\nb"],
            Command::Models {
                filter: Some("a\\nb".to_owned()),
            },
        ),
    ];
    let served = Served::new();
    for (index, (arguments, wanted)) in cases.iter().enumerate() {
        at(&served.socket(), arguments);
        let asked = served.fake.asked();
        assert_eq!(asked.get(index), Some(wanted), "{arguments:?}");
    }
}

#[test]
fn serve_hands_over_what_was_configured() {
    let program = Recorder::default();
    let arguments = [
        "speedloader",
        "serve",
        "/mnt/test",
        "--models",
        "/srv/models",
        "--cold",
        "/srv/co:ld",
        "--cold",
        "/srv/more",
        "--pool",
        "1GiB",
        "-o",
        "placement.strategy=fill-first,nodev",
        "-vv",
    ];
    let outcome = with_program(&arguments, &program);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    let started = program.started.lock().unwrap();
    let start = &started[0];
    assert_eq!(start.mountpoint.to_str(), Some("/mnt/test"));
    assert_eq!(start.config.models_dir.to_str(), Some("/srv/models"));
    // Each flag is one directory; a colon had made two of it.
    assert_eq!(start.config.cold[0].path.to_str(), Some("/srv/co:ld"));
    assert_eq!(start.config.cold[1].path.to_str(), Some("/srv/more"));
    assert_eq!(start.config.placement.strategy.word(), "fill-first");
    assert_eq!(start.verbosity, 2);
    assert!(start.foreground);
}

#[test]
fn serve_without_a_configuration_is_set_up_first() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("etc/config.toml");
    let missing = missing.to_str().unwrap();
    let program = Recorder::default();
    let serve = ["speedloader", "--config", missing, "serve", "-o"];
    let outcome = with_program(
        &[&serve[..], &["http.listen=127.0.0.1:1"]].concat(),
        &program,
    );
    assert_eq!(outcome.status, 0, "{outcome:?}");
    let set_ups = program.set_ups.lock().unwrap();
    assert_eq!(set_ups[0].target.path.to_str(), Some(missing));
    assert_eq!(set_ups[0].config.http.listen.port(), 1);
    assert!(program.started.lock().unwrap().is_empty());
    drop(set_ups);
    // What says where the models are needs no guide; nor does whoever waits for a mount.
    for arguments in [&["serve", "-o", "models_dir=/x"][..], &["mount", "/mnt/x"]] {
        let outcome = with_program(
            &[&["speedloader", "--config", missing], arguments].concat(),
            &program,
        );
        assert_ne!(outcome.status, 0, "{outcome:?}");
    }
    assert_eq!(program.set_ups.lock().unwrap().len(), 1);
}

#[test]
fn demo_hands_over_its_options() {
    let program = Recorder::default();
    let outcome = with_program(
        &["speedloader", "demo", "--keep", "--size", "64MiB"],
        &program,
    );
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert_eq!(program.demos.lock().unwrap()[0].size_bytes, 64 << 20);
    assert_eq!(with_program(&["speedloader", "demo"], &program).status, 1);
}

#[test]
fn mount_s_helper_form_is_recognised() {
    // -f checks everything but does not mount.
    let cases: &[(&[&str], u8)] = &[
        (
            &[
                "mount.fuse.speedloader",
                "speedloader",
                "/mnt/x",
                "-f",
                "-o",
                "rw,models=/srv/m",
            ],
            0,
        ),
        (
            &[
                "/sbin/mount.fuse.speedloader",
                "-o",
                "rw,models=/srv/m",
                "speedloader",
                "/mnt/x",
                "-fn",
            ],
            0,
        ),
        (
            &[
                "mount.speedloader",
                "none",
                "-sfnv",
                "/mnt/x",
                "-orw,models=/srv/m",
            ],
            0,
        ),
        (&["mount.fuse.speedloader", "/srv/m", "/mnt/x", "-f"], 0),
        (
            &[
                "mount.fuse.speedloader",
                "/srv/m",
                "/mnt/x",
                "-f",
                "-t",
                "fuse.speedloader",
                "-N",
                "/proc/1/ns/mnt",
            ],
            0,
        ),
        (
            &[
                "speedloader",
                "speedloader",
                "/mnt/x",
                "-o",
                "rw,models=/srv/m",
                "-f",
            ],
            0,
        ),
        (
            &[
                "speedloader",
                "-f",
                "-o",
                "rw,models=/srv/m",
                "none",
                "/mnt/x",
            ],
            0,
        ),
        (
            &[
                "mount.fuse.speedloader",
                "x",
                "/mnt/x",
                "-f",
                "-o",
                "rw,nosuid,nodev,noexec,user,noauto,nofail,_netdev,x-systemd.automount,comment=x,models=/srv/m",
            ],
            0,
        ),
        // Sloppy: what nobody knows is ignored.
        (
            &[
                "mount.fuse.speedloader",
                "x",
                "/mnt/x",
                "-fs",
                "-o",
                "frobnicate=1,models=/srv/m",
            ],
            0,
        ),
        (
            &[
                "mount.fuse.speedloader",
                "x",
                "/mnt/x",
                "-f",
                "-o",
                "frobnicate=1,models=/srv/m",
            ],
            1,
        ),
        (&["mount.fuse.speedloader", "x", "/mnt/x", "-f", "-q"], 1),
        (&["mount.fuse.speedloader", "x"], 1),
        (&["mount.fuse.speedloader"], 1),
        (&["mount.fuse.speedloader", "x", "/mnt/x", "/mnt/y"], 1),
        (&["mount.fuse.speedloader", "x", "/mnt/x", "-o"], 1),
        // No models directory, and a configuration that is not there: no mount.
        (
            &[
                "mount.fuse.speedloader",
                "x",
                "/mnt/x",
                "-f",
                "-o",
                "config=/nonexistent/x.toml",
            ],
            32,
        ),
        (
            &[
                "mount.fuse.speedloader",
                "x",
                "/mnt/x",
                "-f",
                "-o",
                "models=/srv/m,pool=a:1GiB,pool=a:1GiB",
            ],
            32,
        ),
    ];
    for (arguments, wanted) in cases {
        let outcome = with_program(arguments, &Recorder::default());
        assert_eq!(outcome.status, *wanted, "{arguments:?}: {outcome:?}");
        assert_eq!(
            outcome.err.is_empty(),
            *wanted == 0,
            "{arguments:?}: {outcome:?}"
        );
    }
}

#[test]
fn a_verb_is_never_taken_for_a_source() {
    for arguments in [
        ["speedloader", "pin", "/models/x", "-o"].as_slice(),
        &["speedloader", "which", "/mnt/x", "-o", "x"],
        &["speedloader", "mount", "/mnt/x", "-o", "frobnicate"],
    ] {
        let outcome = with_program(arguments, &Recorder::default());
        assert_eq!(outcome.status, 2, "{outcome:?}");
        assert!(
            !outcome.err.contains("mount.fuse.speedloader"),
            "{outcome:?}"
        );
    }
}

#[test]
fn a_daemon_listens_where_the_variable_says() {
    let recorder = Recorder::default();
    let arguments = ["speedloader", "serve", "/mnt/x", "--models", "/srv/m"];
    let variable = [("SPEEDLOADER_SOCKET", "/run/elsewhere/s")];
    let outcome = with_answers(&arguments, None, &variable, &recorder);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    let started = recorder.started.lock().unwrap();
    let socket = &started[0].config.control.socket;
    assert_eq!(socket, std::path::Path::new("/run/elsewhere/s"));
}
