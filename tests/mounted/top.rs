//! `top` in a terminal of its own, against a real daemon: seen, steered by a key, ended by another.

use std::fs;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustix::process::Signal;

use crate::harness::{Mount, Site, mount_table, skip};

/// `top` in a terminal. It ends with the test, also when that fails: it would hold the test's output.
struct Terminal {
    script: Child,
    seen: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Terminal {
    fn open(mount: &Mount) -> Terminal {
        let run = format!(
            "stty cols 100 rows 20; exec '{}' --socket '{}' top",
            env!("CARGO_BIN_EXE_speedloader"),
            mount.socket().display()
        );
        // It gives its child a terminal, and its own input is what is typed there.
        let mut script = Command::new("script")
            .args(["-qefc", &run, "/dev/null"])
            .env("TERM", "xterm")
            .env("NO_COLOR", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut output = script.stdout.take().unwrap();
        let all = Arc::clone(&seen);
        let reader = std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut piece) {
                all.lock().unwrap().extend_from_slice(&piece[..count]);
            }
        });
        Terminal {
            script,
            seen,
            reader: Some(reader),
        }
    }

    fn is_seen(&self, text: &str) -> bool {
        String::from_utf8_lossy(&self.seen.lock().unwrap()).contains(text)
    }

    fn press(&mut self, key: &[u8]) {
        self.script.stdin.as_mut().unwrap().write_all(key).unwrap();
    }

    fn quit(mut self) {
        self.press(b"q");
        self.wait_ended();
        assert!(!self.is_seen("\u{1b}[36m"), "NO_COLOR is honoured");
    }

    fn wait_ended(&mut self) {
        assert!(self.script.wait().unwrap().success());
        self.reader.take().unwrap().join().unwrap();
    }

    /// The process of `top`.
    fn pid(&self) -> u32 {
        let script = self.script.id();
        let children = fs::read_to_string(format!("/proc/{script}/task/{script}/children"));
        children.unwrap().trim().parse().unwrap()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It has ended already unless the test has failed.
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}

#[test]
fn a_model_is_promoted_by_a_key() {
    if skip::lacks_programs(&["script"]) {
        return;
    }
    let site = Site::new()
        .option("policy.enabled=false")
        .models_file("one.gguf", 1, 100_000);
    let Some(mount) = site.start() else { return };
    mount.until("the model is known", || mount.status().counts.models == 1);
    let mut top = Terminal::open(&mount);
    mount.until("the model is drawn", || top.is_seen("one"));
    top.press(b"p");
    mount.until("it is resident", || {
        mount.status().counts.models_resident == 1
    });
    top.quit();
    // Only what changed is drawn again, character by character: a new terminal has all of it.
    let top = Terminal::open(&mount);
    mount.until("that is drawn", || top.is_seen("100 %"));
    top.quit();
    mount.finish();
}

/// Each key waited for half a minute, also the one that ends it.
#[test]
fn a_daemon_that_stands_still_does_not_hold_the_keys() {
    if skip::lacks_programs(&["script"]) {
        return;
    }
    let site = Site::new().models_file("one.gguf", 1, 100_000);
    let Some(mount) = site.start() else { return };
    mount.until("the model is known", || mount.status().counts.models == 1);
    let top = Terminal::open(&mount);
    mount.until("the model is drawn", || top.is_seen("one"));
    mount.signal(Signal::STOP);
    mount.until("it is told", || top.is_seen("CONNECTED"));
    top.quit();
    mount.signal(Signal::CONT);
    mount.finish();
}

#[test]
fn a_signal_leaves_the_terminal_as_it_was() {
    if skip::lacks_programs(&["script"]) {
        return;
    }
    let site = Site::new().models_file("one.gguf", 1, 100_000);
    let Some(mount) = site.start() else { return };
    mount.until("the model is known", || mount.status().counts.models == 1);
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let mut top = Terminal::open(&mount);
        mount.until("the model is drawn", || top.is_seen("one"));
        mount_table::signal(top.pid(), signal).unwrap();
        top.wait_ended();
        assert!(top.is_seen("\u{1b}[?1049l"), "the other screen is left");
    }
    mount.finish();
}
