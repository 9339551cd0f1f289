//! The socket with clients that behave: requests, progress, waiting, leaving, starting and stopping.

use std::io::{BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::{fs, thread};

use speedloader::command::{Code, Command};
use speedloader::control::{Client, Executor, SocketServer, SocketSettings};
use speedloader::view::View;

use super::fake::{Fake, Served, until};

fn forever() -> Command {
    Command::Wait {
        names: vec!["forever".to_owned()],
        timeout_s: 60,
    }
}

#[test]
fn a_command_is_answered_and_its_peer_is_known() {
    let served = Served::new();
    let view = served.client().call(Command::Version {}).unwrap();
    assert!(matches!(view, View::Version(_)));
    let peer = &served.fake.peers()[0];
    assert_eq!(peer.uid, Some(rustix::process::geteuid().as_raw()));
    assert_eq!(peer.pid, i32::try_from(std::process::id()).ok());
}

#[test]
fn progress_comes_in_order_before_the_answer() {
    let served = Served::new();
    let command = Command::Promote {
        names: vec!["llama3.2:3b".to_owned()],
        pool: None,
        wait: true,
    };
    let mut seen = Vec::new();
    let view = served.client().call_with_progress(command, &mut |view| {
        if let View::Transfers(view) = view {
            seen.push(view.transfers[0].done_bytes);
        }
        Ok(())
    });
    assert_eq!(seen, [0, 1 << 30, 3 << 30]);
    assert!(matches!(view, Ok(View::Moves(_))));
}

#[test]
fn a_connection_serves_many_requests_and_survives_refusals() {
    let served = Served::new();
    let mut client = served.client();
    for _ in 0..20 {
        assert!(client.call(Command::Status {}).is_ok());
        let error = client
            .call(Command::Unpin {
                name: "lama3.2:3b".to_owned(),
            })
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "no model matches `lama3.2:3b`; did you mean `llama3.2:3b`?"
        );
    }
}

#[test]
fn who_waits_holds_up_nobody() {
    let served = Served::new();
    let mut waiting: Vec<UnixStream> = Vec::new();
    for _ in 0..30 {
        let mut stream = UnixStream::connect(served.socket()).unwrap();
        stream
            .write_all(
                br#"{"v":1,"id":1,"command":{"do":"wait","names":["forever"],"timeout_s":9}}"#,
            )
            .unwrap();
        stream.write_all(b"\n").unwrap();
        waiting.push(stream);
    }
    until(|| served.fake.asked().len() == 30);
    assert!(served.client().call(Command::Status {}).is_ok());
    assert!(served.fake.gone().is_empty());
}

#[test]
fn a_command_notices_that_its_client_has_left() {
    let served = Served::new();
    let mut stream = UnixStream::connect(served.socket()).unwrap();
    stream.write_all(b"{\"v\":1,\"id\":1,\"command\":{\"do\":\"wait\",\"names\":[\"forever\"],\"timeout_s\":9}}\n").unwrap();
    until(|| !served.fake.asked().is_empty());
    drop(stream);
    until(|| !served.fake.gone().is_empty());
}

#[test]
fn a_client_that_has_only_finished_speaking_is_answered() {
    let served = Served::new();
    let mut stream = UnixStream::connect(served.socket()).unwrap();
    stream
        .write_all(b"{\"v\":1,\"id\":5,\"command\":{\"do\":\"version\"}}\n")
        .unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut lines = BufReader::new(stream).lines();
    let line = lines.next().unwrap().unwrap();
    assert!(
        line.starts_with(r#"{"v":1,"id":5,"answer":{"ok":"#),
        "{line}"
    );
    assert!(lines.next().is_none(), "then the server closes too");
}

#[test]
fn requests_sent_at_once_are_answered_in_order() {
    let served = Served::new();
    let mut stream = UnixStream::connect(served.socket()).unwrap();
    let lines: String = (0..50)
        .map(|id| format!("{{\"v\":1,\"id\":{id},\"command\":{{\"do\":\"version\"}}}}\n"))
        .collect();
    stream.write_all(lines.as_bytes()).unwrap();
    let answers = BufReader::new(stream).lines().take(50).map(Result::unwrap);
    for (id, answer) in answers.enumerate() {
        assert!(
            answer.starts_with(&format!("{{\"v\":1,\"id\":{id},")),
            "{answer}"
        );
    }
}

#[test]
fn a_fault_of_the_executor_is_an_answer() {
    let served = Served::new();
    let command = Command::Wait {
        names: vec!["panic".to_owned()],
        timeout_s: 1,
    };
    let error = served.client().call(command).unwrap_err();
    assert_eq!(error.code, Code::Internal);
    assert!(served.client().call(Command::Status {}).is_ok());
}

#[test]
fn stopping_ends_who_waits_and_removes_the_socket() {
    let mut served = Served::new();
    let mut client = served.client();
    let waiting = thread::spawn(move || client.call(forever()));
    until(|| !served.fake.asked().is_empty());
    let idle = served.client();
    served.server.take().unwrap().stop();
    assert_eq!(waiting.join().unwrap().unwrap_err().code, Code::Cancelled);
    idle.wait_ended(std::time::Duration::from_secs(60)).unwrap();
    assert!(!served.socket().exists());
    let error = Client::connect(&served.socket()).err().unwrap();
    assert_eq!(error.code, Code::NotRunning);
}

#[test]
fn only_owner_and_group_may_connect() {
    let served = Served::new();
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&served.socket()), 0o660);
    assert_eq!(mode(served.socket().parent().unwrap()), 0o755);
    assert!(
        fs::metadata(served.socket())
            .unwrap()
            .file_type()
            .is_socket()
    );
}

fn start_at(path: &std::path::Path) -> Result<SocketServer, speedloader::command::Message> {
    SocketServer::start(
        SocketSettings::new(path),
        Arc::new(Fake::default()) as Arc<dyn Executor>,
    )
}

#[test]
fn a_socket_that_a_crash_left_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "the crash left it");
    let server = start_at(&path).unwrap();
    assert!(
        Client::connect(&path)
            .unwrap()
            .call(Command::Status {})
            .is_ok()
    );
    drop(server);
}

#[test]
fn a_living_daemon_is_not_replaced() {
    let served = Served::new();
    let error = start_at(&served.socket()).err().unwrap();
    assert_eq!(error.code, Code::AlreadyRunning);
    // Nor one that knows nothing of our lock.
    let path = served.directory.path().join("other.sock");
    let listener = UnixListener::bind(&path).unwrap();
    assert_eq!(start_at(&path).err().unwrap().code, Code::AlreadyRunning);
    drop(listener);
    assert!(served.client().call(Command::Status {}).is_ok());
}

#[test]
fn of_two_that_start_at_once_one_wins() {
    for _ in 0..20 {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        let both: Vec<_> = (0..2)
            .map(|_| {
                let path = path.clone();
                thread::spawn(move || start_at(&path))
            })
            .collect();
        let results: Vec<_> = both
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect();
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
        assert!(
            Client::connect(&path)
                .unwrap()
                .call(Command::Status {})
                .is_ok()
        );
    }
}

#[test]
fn nothing_but_a_socket_is_ever_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("precious");
    fs::write(&path, "data").unwrap();
    let error = start_at(&path).err().unwrap();
    assert!(error.text.contains("is no socket"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "data");
    std::os::unix::fs::symlink(&path, directory.path().join("link")).unwrap();
    assert!(start_at(&directory.path().join("link")).is_err());
    assert!(start_at(directory.path()).is_err());
}

#[test]
fn a_socket_of_somebody_else_is_not_removed_at_the_end() {
    let mut served = Served::new();
    fs::remove_file(served.socket()).unwrap();
    let other = UnixListener::bind(served.socket()).unwrap();
    served.server.take().unwrap().stop();
    assert!(served.socket().exists());
    drop(other);
}

#[test]
fn a_directory_that_others_can_write_to_is_no_place() {
    let directory = tempfile::tempdir().unwrap();
    let shared = directory.path().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o777)).unwrap();
    let error = start_at(&shared.join("control.sock")).err().unwrap();
    assert!(
        error.text.contains("can be written by everybody"),
        "{error}"
    );
    // As /tmp is: nobody can replace what belongs to others.
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o1777)).unwrap();
    assert!(start_at(&shared.join("control.sock")).is_ok());
}

#[test]
fn paths_that_cannot_be_sockets_are_refused() {
    let long = format!("/tmp/{}/control.sock", "x".repeat(90));
    for (path, part) in [
        ("control.sock", "must be absolute"),
        ("/", "must be absolute"),
        (long.as_str(), "100 are allowed"),
    ] {
        let error = start_at(std::path::Path::new(path)).err().unwrap();
        assert!(error.text.contains(part), "{error}");
    }
}
