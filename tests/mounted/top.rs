//! `top` in a terminal of its own, against a real daemon: seen, steered by a key, ended by another.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use crate::harness::Site;

/// Ends with the test, also when that fails: it would hold the test's output open.
struct Terminal(Child);

impl Drop for Terminal {
    fn drop(&mut self) {
        // It has ended already unless the test has failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_model_is_promoted_by_a_key() {
    let site = Site::new()
        .option("policy.enabled=false")
        .models_file("one.gguf", 1, 100_000);
    let Some(mount) = site.start() else { return };
    mount.until("the model is known", || mount.status().counts.models == 1);
    let socket = mount.socket();
    let run = format!(
        "stty cols 100 rows 20; exec '{}' --socket '{}' top",
        env!("CARGO_BIN_EXE_speedloader"),
        socket.display()
    );
    // It gives its child a terminal, and its own input is what is typed there.
    let terminal = Command::new("script")
        .args(["-qefc", &run, "/dev/null"])
        .env("TERM", "xterm")
        .env("NO_COLOR", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut terminal = Terminal(terminal);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let mut output = terminal.0.stdout.take().unwrap();
    let reader = {
        let seen = Arc::clone(&seen);
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut piece) {
                seen.lock().unwrap().extend_from_slice(&piece[..count]);
            }
        })
    };
    let is_seen = |text: &str| String::from_utf8_lossy(&seen.lock().unwrap()).contains(text);
    mount.until("the model is drawn", || is_seen("one"));
    let mut keys = terminal.0.stdin.take().unwrap();
    keys.write_all(b"p").unwrap();
    mount.until("it is resident", || {
        mount.status().counts.models_resident == 1
    });
    keys.write_all(b"q").unwrap();
    assert!(terminal.0.wait().unwrap().success());
    reader.join().unwrap();
    assert!(!is_seen("\u{1b}[36m"), "NO_COLOR is honoured");
    mount.finish();
}
