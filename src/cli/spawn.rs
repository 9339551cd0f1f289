//! Starting a daemon in the background: ourselves again, as `serve` in a session of its own, with a
//! pipe by which it says that the mount answers or why there is none. No fork: a new process has no
//! threads or locks of ours. Needs no PATH and no HOME.

use std::ffi::OsString;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::command::{Code, Message};

/// A mount waits for no home, so it answers soon or never.
const START_TIMEOUT: Duration = Duration::from_secs(120);
/// A message is a few lines.
const MESSAGE_BYTES_MAX: u64 = 1 << 20;

/// The flag by which `serve` knows that its standard output is the pipe.
pub(super) const READY_FLAG: &str = "--ready-on-stdout";

/// Runs `serve` with `arguments` in the background; returns its process id when its mount answers.
pub(super) fn serve_in_background(arguments: &[OsString]) -> Result<u32, Message> {
    let cannot = |error: std::io::Error| {
        Message::new(
            Code::Failed,
            format!("the daemon cannot be started: {error}"),
        )
    };
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).map_err(|error| cannot(error.into()))?;
    let mut child = Command::new("/proc/self/exe")
        .arg0("speedloader")
        .arg("serve")
        .arg(READY_FLAG)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::from(writer))
        .spawn()
        .map_err(cannot)?;
    match wait_ready(reader) {
        Ok(()) => Ok(child.id()),
        Err(Silence::Said(message)) => {
            let _ = child.wait();
            Err(message)
        }
        Err(Silence::Ended) => Err(ended(&mut child)),
        Err(Silence::Late) => Err(late(&mut child)),
    }
}

enum Silence {
    Said(Message),
    Ended,
    Late,
}

fn wait_ready(reader: OwnedFd) -> Result<(), Silence> {
    let deadline = Instant::now() + START_TIMEOUT;
    let mut said = Vec::new();
    let mut pipe = std::fs::File::from(reader);
    while !said.ends_with(b"\n") {
        if !is_readable(&pipe, deadline) {
            return Err(Silence::Late);
        }
        let mut bytes = [0; 4_096];
        match pipe.read(&mut bytes) {
            Ok(0) => break,
            Ok(count) if said.len() as u64 + count as u64 <= MESSAGE_BYTES_MAX => {
                said.extend_from_slice(&bytes[..count])
            }
            Ok(_) => return Err(Silence::Ended),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return Err(Silence::Ended),
        }
    }
    if said == b"ready\n" {
        return Ok(());
    }
    Err(serde_json::from_slice(&said).map_or(Silence::Ended, Silence::Said))
}

fn is_readable(pipe: &impl AsFd, deadline: Instant) -> bool {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let Ok(left) = rustix::time::Timespec::try_from(left) else {
            return false;
        };
        match poll(&mut [PollFd::new(pipe, PollFlags::IN)], Some(&left)) {
            Ok(0) => return false,
            Err(rustix::io::Errno::INTR) => {}
            // An error shows when the pipe is read.
            Ok(_) | Err(_) => return true,
        }
    }
}

fn ended(child: &mut Child) -> Message {
    let how = match child.wait() {
        Ok(status) => how_it_ended(status),
        Err(error) => format!("and its status is not known: {error}"),
    };
    Message::new(
        Code::Failed,
        format!("the daemon ended before its mount answered, {how}"),
    )
    .with_hint("`speedloader serve` shows what happens")
}

fn how_it_ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("with status {code}"),
        (None, Some(signal)) => format!("by signal {signal}"),
        (None, None) => "for no known reason".to_owned(),
    }
}

fn late(child: &mut Child) -> Message {
    if let Some(pid) = i32::try_from(child.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw)
    {
        // It unmounts and ends by itself; if it cannot, it is left to the administrator.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
    let text = format!(
        "the mount has not answered within {} s; it was told to end",
        START_TIMEOUT.as_secs()
    );
    Message::new(Code::TimedOut, text).with_hint("`speedloader serve` shows what happens")
}
