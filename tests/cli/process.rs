//! The program as a process: its name, its exit status, its streams, an empty environment.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::console::{Recorder, with_answers};
use crate::control::fake::Served;
use crate::harness::as_user;

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

/// Without XDG_RUNTIME_DIR it is in /tmp, where anybody could have made it first: he was sent secrets, and his answers
/// reached the terminal as they were.
#[test]
fn where_a_user_s_own_daemon_would_listen_nobody_else_is_asked() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (user, other) = (4_343, 4_242);
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let place = directory.path().join("speedloader");
    let socket = place.join("control.sock");
    let listener = as_user(other, &[], || {
        fs::create_dir(&place).unwrap();
        fs::set_permissions(&place, fs::Permissions::from_mode(0o777)).unwrap();
        let listener = UnixListener::bind(&socket).unwrap();
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o777)).unwrap();
        listener
    });
    let runtime = directory.path().to_str().unwrap();
    let asked = as_user(user, &[], || {
        with_answers(
            &["speedloader", "config", "set", "http.token=secret"],
            None,
            &[("XDG_RUNTIME_DIR", runtime), ("HOME", runtime)],
            &Recorder::default(),
        )
    });
    assert_eq!(asked.status, 7, "{asked:?}");
    assert!(asked.err.contains("user 4242 listens at"), "{asked:?}");
    let (mut heard, _) = listener.accept().unwrap();
    let mut sent = Vec::new();
    std::io::Read::read_to_end(&mut heard, &mut sent).unwrap();
    assert!(sent.is_empty(), "{sent:?}");
}
