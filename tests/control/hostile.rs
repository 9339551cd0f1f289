//! The socket with clients that do not behave: each gets a clear answer or is closed, nothing is
//! changed, and everybody else is served.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use proptest::prelude::*;
use speedloader::command::{Answer, Code, Command, Frame, Message, Response};

use super::fake::{Served, until};

/// Sends `bytes`, says that this was all, and returns the errors that come back.
fn send(served: &Served, bytes: &[u8]) -> Vec<Message> {
    let mut stream = UnixStream::connect(served.socket()).unwrap();
    // The server may have closed already; what it has said can still be read.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    errors(stream)
}

fn errors(stream: UnixStream) -> Vec<Message> {
    BufReader::new(stream)
        .lines()
        .map_while(Result::ok)
        .map(
            |line| match serde_json::from_str::<Response>(&line).unwrap().frame {
                Frame::Answer(Answer::Error(message)) => message,
                other => panic!("{other:?}"),
            },
        )
        .collect()
}

fn assert_alive(served: &Served) {
    assert!(served.client().call(Command::Status {}).is_ok());
}

#[test]
fn wrong_requests_say_what_would_be_right() {
    let served = Served::new();
    let cases: &[(&str, Code, &str)] = &[
        ("hello", Code::BadRequest, "the line is no request"),
        ("{}", Code::BadRequest, "has no `v`"),
        ("[1]", Code::BadRequest, "the line is no request"),
        ("null", Code::BadRequest, "the line is no request"),
        ("{\"v\":1", Code::BadRequest, "the line is no request"),
        (
            r#"{"v":2,"id":1,"command":{"do":"status"}}"#,
            Code::UnsupportedVersion,
            "this daemon speaks 1",
        ),
        (
            r#"{"v":"1","id":1}"#,
            Code::BadRequest,
            "the line is no request",
        ),
        (
            r#"{"v":1,"command":{"do":"status"}}"#,
            Code::BadRequest,
            "missing field `id`",
        ),
        (
            r#"{"v":1,"id":-1,"command":{"do":"status"}}"#,
            Code::BadRequest,
            "invalid value",
        ),
        (
            r#"{"v":1,"id":1}"#,
            Code::BadRequest,
            "missing field `command`",
        ),
        (
            r#"{"v":1,"id":1,"command":"status"}"#,
            Code::BadRequest,
            "the request is wrong",
        ),
        (
            r#"{"v":1,"id":1,"command":{}}"#,
            Code::BadRequest,
            "missing field `do`",
        ),
        (
            r#"{"v":1,"id":1,"command":{"do":"statsu"}}"#,
            Code::BadRequest,
            "unknown variant `statsu`",
        ),
        (
            r#"{"v":1,"id":1,"command":{"do":"status","x":1}}"#,
            Code::BadRequest,
            "unknown field `x`",
        ),
        (
            r#"{"v":1,"id":1,"command":{"do":"status"},"x":1}"#,
            Code::BadRequest,
            "unknown field `x`",
        ),
        (
            r#"{"v":1,"id":1,"command":{"do":"promote"}}"#,
            Code::BadRequest,
            "missing field `names`",
        ),
        (
            r#"{"v":1,"id":1,"command":{"do":"promote","names":[]}}"#,
            Code::BadRequest,
            "`names` is empty",
        ),
        (
            r#"{"v":1,"id":1,"command":{"do":"promote","names":[""]}}"#,
            Code::BadRequest,
            "`names` is empty",
        ),
        (
            r#"{"v":1,"id":1,"command":{"do":"promote","names":"a"}}"#,
            Code::BadRequest,
            "expected a sequence",
        ),
        (
            r#"{"v":1,"id":1,"command":{"do":"which","name":"a\nb"}}"#,
            Code::BadRequest,
            "control character",
        ),
        (
            r#"{"v":1,"id":1,"command":{"do":"which","name":"a\\b"}}"#,
            Code::BadRequest,
            "backslash",
        ),
        (
            r#"{"v":1,"id":1,"command":{"do":"wait","names":["a"],"timeout_s":86401}}"#,
            Code::BadRequest,
            "86400 at most",
        ),
        (
            r#"{"v":1,"id":1,"command":{"do":"cancel-transfer","id":"x"}}"#,
            Code::BadRequest,
            "invalid type",
        ),
    ];
    for (line, code, part) in cases {
        let errors = send(&served, format!("{line}\n").as_bytes());
        assert_eq!(errors.len(), 1, "{line}");
        assert_eq!(errors[0].code, *code, "{line}: {}", errors[0]);
        assert!(errors[0].text.contains(part), "{line}: {}", errors[0]);
    }
    assert!(served.fake.asked().is_empty(), "nothing was carried out");
}

#[test]
fn a_name_longer_than_a_path_is_refused() {
    let served = Served::new();
    let line = format!(
        r#"{{"v":1,"id":1,"command":{{"do":"which","name":"{}"}}}}"#,
        "x".repeat(5_000)
    );
    let errors = send(&served, format!("{line}\n").as_bytes());
    assert_eq!(
        errors[0].text,
        "which: `name` is 5000 bytes long; 4096 are allowed"
    );
}

#[test]
fn a_line_without_end_is_cut_off() {
    let served = Served::new();
    let errors = send(&served, &vec![b'x'; 3 << 20]);
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].text, "the line is longer than 1048576 bytes");
    assert_alive(&served);
}

#[test]
fn deep_nesting_is_refused() {
    let served = Served::new();
    let line = format!("{{\"v\":1,\"id\":1,\"command\":{}\n", "[".repeat(900_000));
    assert_eq!(send(&served, line.as_bytes())[0].code, Code::BadRequest);
    assert_alive(&served);
}

#[test]
fn a_line_that_does_not_end_in_time_is_given_up() {
    let served = Served::with(|settings| settings.line_timeout = Duration::from_millis(50));
    let mut stream = UnixStream::connect(served.socket()).unwrap();
    stream.write_all(b"{\"v\":1,").unwrap();
    assert_alive(&served);
    let errors = errors(stream);
    assert_eq!(errors[0].text, "the line was not complete within 50 ms");
}

#[test]
fn who_says_nothing_is_closed() {
    let served = Served::with(|settings| settings.idle_timeout = Duration::from_millis(50));
    let errors = errors(UnixStream::connect(served.socket()).unwrap());
    assert_eq!(errors[0].code, Code::TimedOut);
}

#[test]
fn who_does_not_read_is_given_up() {
    let served = Served::with(|settings| settings.write_timeout = Duration::from_millis(50));
    let mut stream = UnixStream::connect(served.socket()).unwrap();
    let line = b"{\"v\":1,\"id\":1,\"command\":{\"do\":\"status\"}}\n";
    // The answers fill the socket's buffers, then the server closes: then writing fails.
    while stream.write_all(line).is_ok() {}
    assert_alive(&served);
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
}

#[test]
fn more_connections_than_allowed_are_told_so() {
    let served = Served::new();
    let mut clients: Vec<_> = (0..64).map(|_| served.client()).collect();
    for client in &mut clients {
        client.call(Command::Status {}).unwrap();
    }
    for _ in 0..36 {
        let error = served.client().call(Command::Status {}).unwrap_err();
        assert_eq!(error.code, Code::Busy);
        assert_eq!(
            error.text,
            "64 clients are connected already, as many as may be"
        );
    }
    clients[63].call(Command::Status {}).unwrap();
    drop(clients);
    until(|| served.client().call(Command::Status {}).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn random_bytes_change_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        let served = Served::new();
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.iter().all(u8::is_ascii_whitespace));
        let wanted = lines.count();
        let errors = send(&served, &bytes);
        // The last piece has no newline; if it is blank besides, it is told of all the same.
        prop_assert!(errors.len() == wanted || errors.len() == wanted + 1, "{} of {wanted}", errors.len());
        prop_assert!(served.fake.asked().is_empty());
        assert_alive(&served);
    }

    #[test]
    fn broken_requests_change_nothing(cut in 0usize..70, byte in any::<u8>()) {
        let served = Served::new();
        let mut line = br#"{"v":1,"id":1,"command":{"do":"demote","names":["llama3.2:3b"]}}"#.to_vec();
        let at = cut % line.len();
        line.truncate(at);
        line.push(byte);
        line.push(b'\n');
        let _ = send(&served, &line);
        prop_assert!(served.fake.asked().is_empty());
        assert_alive(&served);
    }
}
