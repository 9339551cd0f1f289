//! Parts of a test that must be a process of their own, perhaps another user's: this test binary
//! again, with the part's name in its environment. Parent and part talk in lines: the part's begin
//! with `@`, since libtest writes to the same pipe; the part ends when its input ends.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child as Process, ChildStdin, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

const PART: &str = "SPEEDLOADER_TEST_PART";
const ARGUMENT: &str = "SPEEDLOADER_TEST_ARGUMENT_";

/// A running part.
#[derive(Debug)]
pub struct Child {
    process: Process,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

/// Starts a part as this user, with paths as its arguments.
pub fn start(part: &str, uid: Option<u32>, arguments: &[PathBuf]) -> Child {
    // The binary may lie where another user must not look: the kernel's own link leads to it.
    start_program(Path::new("/proc/self/exe"), part, uid, arguments)
}

/// The same by another copy of this binary: what is started by one is no program of the other's.
pub fn start_program(program: &Path, part: &str, uid: Option<u32>, arguments: &[PathBuf]) -> Child {
    let mut command = Command::new(program);
    command.args([
        "--exact",
        "harness::child::part",
        "--nocapture",
        "--test-threads=1",
    ]);
    command.env(PART, part);
    for (index, argument) in arguments.iter().enumerate() {
        command.env(format!("{ARGUMENT}{index}"), argument);
    }
    if let Some(uid) = uid {
        command.uid(uid).gid(uid);
    }
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .current_dir("/");
    let mut process = command.spawn().unwrap();
    let input = process.stdin.take();
    let output = BufReader::new(process.stdout.take().unwrap());
    Child {
        process,
        input,
        output,
    }
}

impl Child {
    /// The next line that it says; `None` when it has ended.
    pub fn hear(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            if self.output.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            // libtest ends none of its own lines before a test is over.
            if let Some((_, said)) = line.trim_end().split_once('@') {
                return Some(said.to_owned());
            }
        }
    }

    /// Fails unless this is the next line.
    pub fn expect(&mut self, wanted: &str) {
        assert_eq!(self.hear().as_deref(), Some(wanted));
    }

    /// Says a line to it.
    pub fn say(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Tells it to end, and fails if it has failed. Returns what it still had to say.
    pub fn finish(mut self) -> Vec<String> {
        drop(self.input.take());
        let mut said = Vec::new();
        while let Some(line) = self.hear() {
            said.push(line);
        }
        let status = self.process.wait().unwrap();
        assert!(status.success(), "the part ended with {status}: {said:?}");
        said
    }

    /// Sends it a signal that ends it, and waits until it is gone.
    pub fn end_by(&mut self, signal: Signal) {
        let pid = Pid::from_child(&self.process);
        kill_process(pid, signal).unwrap();
        self.process.wait().unwrap();
    }

    /// Kills it and waits until it is gone.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It has ended already unless the test has failed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An argument of this part.
pub fn argument(index: usize) -> PathBuf {
    std::env::var_os(format!("{ARGUMENT}{index}"))
        .unwrap()
        .into()
}

/// Says a line to the parent.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "@{line}").unwrap();
    out.flush().unwrap();
}

/// The next line from the parent; `None`: it is time to end.
pub fn hear() -> Option<String> {
    let mut line = String::new();
    match std::io::stdin().read_line(&mut line).unwrap() {
        0 => None,
        _ => Some(line.trim_end().to_owned()),
    }
}

/// Where a part begins. Run by itself, it is no test at all.
#[test]
fn part() {
    match std::env::var(PART).as_deref() {
        Ok("churn") => crate::mounted::churn::part(),
        Ok("create") => crate::mounted::behind::create(),
        Ok("lock") => crate::mounted::locking::part(),
        Ok("load") => crate::mounted::first_load::part(),
        Ok("memory") => crate::mounted::memory::part(),
        Ok("read") => crate::mounted::hung::part(),
        Ok("workload") => crate::mounted::workload::part(),
        Ok(other) => panic!("no part is called `{other}`"),
        Err(_) => {}
    }
}
