//! Starting a daemon in the background: ourselves again, as `serve` in a session of its own, with a
//! pipe by which it says that the mount answers or why there is none. No fork: a new process has no
//! threads or locks of ours. Needs no PATH and no HOME.

use std::ffi::OsString;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use speedloader_fs::sys::descriptors::keep_from_children;

use crate::command::{Code, Message};
use crate::program::READY_FLAG;

/// A mount waits for no home, so it answers soon or never.
const START_TIMEOUT: Duration = Duration::from_secs(120);
/// A message is a few lines.
const MESSAGE_BYTES_MAX: u64 = 1 << 20;

/// Runs `serve` with `arguments` in the background; returns its process id when its mount answers.
pub(super) fn serve_in_background(arguments: &[OsString]) -> Result<u32, Message> {
    let cannot = |error: std::io::Error| {
        Message::new(
            Code::Failed,
            format!("the daemon cannot be started: {error}"),
        )
    };
    keep_from_children();
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).map_err(|error| cannot(error.into()))?;
    let mut child = Command::new(own_program())
        .arg0("speedloader")
        .arg("serve")
        .arg(READY_FLAG)
        .args(arguments)
        .envs(absolute_variables())
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

/// The variables that name files, as paths that lead there from the daemon's directory as well.
fn absolute_variables() -> impl Iterator<Item = (&'static str, PathBuf)> {
    ["SPEEDLOADER_CONFIG", "SPEEDLOADER_SOCKET"]
        .into_iter()
        .filter_map(|name| {
            let path = std::env::var_os(name).filter(|path| !path.is_empty())?;
            Some((name, std::path::absolute(path).ok()?))
        })
}

/// Our own file by its path, which gives the process its name; by its link if it has been replaced.
fn own_program() -> PathBuf {
    let own = std::env::current_exe().ok().filter(|path| path.exists());
    own.unwrap_or_else(|| PathBuf::from("/proc/self/exe"))
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

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;
    use std::thread;

    use super::*;
    use crate::program::Ready;

    /// What is understood of a daemon that writes `pieces` and ends.
    fn hear(pieces: &[&[u8]]) -> Result<(), Silence> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let pieces: Vec<Vec<u8>> = pieces.iter().map(|piece| piece.to_vec()).collect();
        let daemon = thread::spawn(move || {
            let mut pipe = File::from(writer);
            // A reader that has heard enough is gone.
            pieces.iter().all(|piece| pipe.write_all(piece).is_ok())
        });
        let heard = wait_ready(reader);
        daemon.join().unwrap();
        heard
    }

    #[test]
    fn a_ready_daemon_is_heard() {
        assert!(hear(&[b"ready\n"]).is_ok());
        assert!(hear(&[b"re", b"ady", b"\n"]).is_ok());
    }

    #[test]
    fn a_daemon_that_fails_says_why() {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let mut ready = Ready::pipe(writer);
        let message = Message::new(Code::Busy, "in use\nby somebody").with_hint("wait");
        assert!(ready.fail(&message));
        assert!(!ready.fail(&message), "once is enough");
        assert!(!ready.is_announced());
        let Err(Silence::Said(heard)) = wait_ready(reader) else {
            panic!("it has said why")
        };
        assert_eq!(heard, message);
    }

    #[test]
    fn anything_else_is_no_mount() {
        let endless = vec![b'x'; 3 << 20];
        for pieces in [
            [b"".as_slice()],
            [b"ready"],
            [b"readyish\n"],
            [b"{}\n"],
            [b"\xff\n"],
            [&endless],
        ] {
            assert!(matches!(hear(&pieces), Err(Silence::Ended)));
        }
    }

    #[test]
    fn a_child_that_dies_is_reported_with_its_status() {
        let mut child = Command::new("/bin/sh")
            .args(["-c", "exit 3"])
            .spawn()
            .unwrap();
        assert!(ended(&mut child).text.ends_with("with status 3"));
        let mut child = Command::new("/bin/sh")
            .args(["-c", "kill -9 $$"])
            .spawn()
            .unwrap();
        assert!(ended(&mut child).text.ends_with("by signal 9"));
    }
}
