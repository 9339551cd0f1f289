//! The program as a process: its name, its exit status, its streams, an empty environment.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::control::fake::Served;

const PROGRAM: &str = env!("CARGO_BIN_EXE_speedloader");

/// Runs `program` with neither HOME nor PATH nor anything else.
fn run(program: &Path, arguments: &[&str]) -> Output {
    Command::new(program)
        .args(arguments)
        .env_clear()
        .output()
        .unwrap()
}

#[test]
fn the_status_is_the_process_s() {
    let program = Path::new(PROGRAM);
    for (arguments, status) in [
        (["--version"].as_slice(), 0),
        (&["promote"], 2),
        (&["--socket", "/nonexistent/s", "status"], 5),
    ] {
        let output = run(program, arguments);
        assert_eq!(
            output.status.code(),
            Some(status),
            "{arguments:?}: {output:?}"
        );
    }
}

#[test]
fn a_daemon_is_asked() {
    let served = Served::new();
    let socket = served.socket();
    let output = run(
        Path::new(PROGRAM),
        &["--socket", socket.to_str().unwrap(), "tiers"],
    );
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stdout.starts_with(b"TIER"), "{output:?}");
    let output = Command::new(PROGRAM)
        .arg("tiers")
        .env_clear()
        .env("SPEEDLOADER_SOCKET", socket)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn the_name_makes_it_mount_s_helper() {
    let directory = tempfile::tempdir().unwrap();
    let helper = directory.path().join("mount.fuse.speedloader");
    symlink(PROGRAM, &helper).unwrap();
    let output = run(
        &helper,
        &[
            "speedloader",
            "/mnt/x",
            "-f",
            "-o",
            "rw,nofail,models=/srv/m",
        ],
    );
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let output = run(&helper, &["status"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        output
            .stderr
            .starts_with(b"mount.fuse.speedloader: SOURCE and MOUNTPOINT are wanted"),
        "{output:?}"
    );
    let output = run(
        &helper,
        &["speedloader", "/mnt/x", "-o", "config=/nonexistent/x.toml"],
    );
    assert_eq!(output.status.code(), Some(32), "{output:?}");
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let served = Served::new();
    let socket = served.socket();
    for arguments in [
        ["models"].as_slice(),
        &["events", "-f"],
        &["--help"],
        &["man"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = Command::new(PROGRAM)
            .args(["--socket", socket.to_str().unwrap()])
            .args(arguments)
            .env_clear()
            .stdout(Stdio::from(writer))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
            .wait_with_output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
        assert!(output.stderr.is_empty(), "{arguments:?}: {output:?}");
    }
}
