//! What engines have loaded is shown with the models, and an engine that does not answer holds nothing up.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use speedloader::command::Command;
use speedloader::view::View;

use crate::harness::{Mount, Site};

/// An Ollama that says that it has this loaded.
fn ollama(loaded: Arc<Mutex<String>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let name = loaded.lock().unwrap().clone();
            let body = match name.as_str() {
                "" => r#"{"models":[]}"#.to_owned(),
                name => format!(r#"{{"models":[{{"name":"{name}"}}]}}"#),
            };
            answer(&mut stream, &body);
        }
    });
    format!("http://{address}")
}

fn answer(stream: &mut TcpStream, body: &str) {
    let _ = stream.read(&mut [0; 1024]);
    let length = body.len();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
    let _ = stream.write_all((head + body).as_bytes());
}

fn loaded(mount: &Mount) -> Vec<(String, Vec<String>)> {
    let View::Models(view) = mount.call(Command::Models { filter: None }) else {
        panic!("no models");
    };
    let found = view
        .models
        .into_iter()
        .filter(|model| !model.loaded.is_empty());
    found.map(|model| (model.name, model.loaded)).collect()
}

/// Whether the daemon has the thread that asks engines.
fn asks(mount: &Mount) -> bool {
    let threads = fs::read_dir(format!("/proc/{}/task", mount.pid())).unwrap();
    let mut names = threads.map(|thread| fs::read_to_string(thread.unwrap().path().join("comm")));
    names.any(|name| name.is_ok_and(|name| name.trim() == "engines"))
}

#[test]
fn what_an_engine_has_loaded_is_shown_with_the_model() {
    let name = Arc::new(Mutex::new("one".to_owned()));
    // Takes connections, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let asked = format!(
        "engines.ask={}\\,http://{}",
        ollama(Arc::clone(&name)),
        silent.local_addr().unwrap()
    );
    let site = Site::new()
        .option(&asked)
        .option("engines.interval=1s")
        .models_file("one.gguf", 1, 100_000)
        .cold_file("two.gguf", 2, 100_000);
    let Some(mount) = site.start() else { return };
    let in_ollama = |name: &str| vec![(name.to_owned(), vec!["Ollama".to_owned()])];
    mount.until("the engine's model is shown", || {
        loaded(&mount) == in_ollama("one")
    });
    assert!(asks(&mount));
    let status = mount.cli_ok(&["status"]);
    assert!(status.contains("loaded: one"), "{status}");
    let by_path = mount.mounted("two.gguf").display().to_string();
    *name.lock().unwrap() = by_path;
    mount.until("a path through the mount is a name too", || {
        loaded(&mount) == in_ollama("two")
    });
    *name.lock().unwrap() = "nobody-knows-this".to_owned();
    mount.until("what we do not have is not shown", || {
        loaded(&mount).is_empty()
    });
    mount.until("the silent one is told", || {
        let engines = mount.status().engines;
        engines.len() == 2 && engines[1].error.is_some() && engines[0].answers
    });
    mount.finish();
}

#[test]
fn no_engine_is_asked_that_nobody_named() {
    let Some(mount) = Site::new().start() else {
        return;
    };
    assert!(mount.status().engines.is_empty());
    assert!(!asks(&mount), "a thread asks");
    mount.finish();
}
