//! Bytes at the HTTP door, as a client without the token may send them: nothing is changed, and every answer is one.
#![no_main]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use speedloader::command::{Answer, Code, Command, Message};
use speedloader::control::http::{ROUTES, Token};
use speedloader::control::{Executor, HttpServer, HttpSettings, Peer};
use speedloader::view::View;

/// Refuses every look, and ends the run at a change.
struct Nobody;

impl Executor for Nobody {
    fn execute(&self, _: &Peer, command: Command, _: &mut dyn FnMut(View)) -> Answer {
        let written = serde_json::to_value(&command).expect("commands are JSON");
        let route = ROUTES.iter().find(|route| written["do"] == route.command);
        assert!(
            route.is_some_and(|route| !route.needs_token),
            "changed without the token: {written}"
        );
        Answer::Error(Message::new(Code::Failed, "nobody is here"))
    }
}

fn address() -> SocketAddr {
    static SERVER: OnceLock<HttpServer> = OnceLock::new();
    let start = || {
        let token = Token::new("0123456789abcdef0123456789abcdef");
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        HttpServer::start(HttpSettings::new(listen, token), Arc::new(Nobody)).expect("a free port")
    };
    SERVER.get_or_init(start).address()
}

/// Sends all of it, says that it was all, and gives what comes back.
fn ask(bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address()).expect("the door is open");
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("a time");
    // The door may close before it has taken all.
    let _ = stream
        .write_all(bytes)
        .and_then(|()| stream.shutdown(Shutdown::Write));
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

fuzz_target!(|bytes: &[u8]| {
    let answer = ask(bytes);
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."));
    let request = [
        b"GET /".as_slice(),
        bytes,
        b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ]
    .concat();
    let answer = ask(&request);
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."));
});
