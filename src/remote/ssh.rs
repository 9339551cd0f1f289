//! The one place that starts ssh: by argument vector, with the user's keys and known hosts, never with a
//! password, and never for longer than it may be silent: for what takes long the agent says how far it is.
//!
//! The other machine runs a fixed command: its own `speedloader remote-agent`, or where it has none of
//! this version a copy of ours, which is sent over standard input and removes itself. What is wanted goes
//! over standard input as JSON; nothing of it is ever part of a command.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::wire::{Greeting, LINE_BYTES_MAX, PROTOCOL, Progress, Reply, Request, TargetState};
use super::{Failure, There, printable};

/// So much of what ssh says on standard error is kept.
const SAID_BYTES_MAX: u64 = 4096;
/// What the shell says of a command that is not there, or cannot be run.
const NOT_THERE: [i32; 2] = [126, 127];
/// What ssh itself ends with.
const SSH_FAILED: i32 = 255;
/// How long an ssh that is told to end may take.
const END_PATIENCE: Duration = Duration::from_secs(2);

/// Where it is installed, for root and for others.
const INSTALLED: &str = "PATH=\"$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/sbin\"; export PATH; \
    if [ \"$(id -u)\" = 0 ]; then exec speedloader remote-agent; \
    else exec sudo -n speedloader remote-agent; fi";

/// Another machine, reached by ssh.
pub struct Ssh {
    destination: String,
    patience: Duration,
    agent: Option<Agent>,
}

struct Agent {
    child: Child,
    /// What is to be sent. By a thread of its own: nobody here waits for one who does not read.
    requests: Sender<Vec<u8>>,
    lines: Receiver<io::Result<Vec<u8>>>,
    said: Arc<Mutex<Vec<u8>>>,
}

impl Ssh {
    /// Nothing happens until something is asked.
    pub fn new(destination: &str, patience: Duration) -> Self {
        Ssh {
            destination: destination.to_owned(),
            patience,
            agent: None,
        }
    }

    /// The command, as people would write it.
    pub fn command_line(&self) -> String {
        format!("ssh {} speedloader remote-agent", self.destination)
    }

    fn agent(&mut self) -> Result<&mut Agent, Failure> {
        let agent = match self.agent.take() {
            Some(agent) => agent,
            None => self.start()?,
        };
        Ok(self.agent.insert(agent))
    }

    fn start(&self) -> Result<Agent, Failure> {
        match self.start_with(INSTALLED, None) {
            Err(Refusal::NotThere) => {}
            Err(Refusal::Failed(failure)) => return Err(failure),
            Ok(agent) => return Ok(agent),
        }
        // Ours is the program that is running, whatever lies at its path by now.
        let own = std::fs::read("/proc/self/exe")
            .map_err(|error| Failure::new(format!("cannot read our own program: {error}")))?;
        let command = format!(
            "umask 077; d=$(mktemp -d) || exit 1; trap 'rm -rf \"$d\"' EXIT; trap 'exit 1' HUP INT TERM; \
             head -c {} >\"$d/speedloader\" && chmod 700 \"$d/speedloader\" || exit 1; \
             if [ \"$(id -u)\" = 0 ]; then \"$d/speedloader\" remote-agent; \
             else sudo -n \"$d/speedloader\" remote-agent; fi",
            own.len()
        );
        self.start_with(&command, Some(own))
            .map_err(|refusal| match refusal {
                Refusal::Failed(failure) => failure,
                Refusal::NotThere => {
                    let text = format!(
                        "{} has no speedloader {}, and ours does not run there",
                        self.destination,
                        env!("CARGO_PKG_VERSION")
                    );
                    Failure::new(text).with_remedy("install it there")
                }
            })
    }

    fn start_with(&self, command: &str, own: Option<Vec<u8>>) -> Result<Agent, Refusal> {
        let failed = |what: &str, error: &io::Error| {
            Refusal::Failed(Failure::new(format!("cannot {what} ssh: {error}")))
        };
        let seconds = self.patience.as_secs().max(1);
        let mut child = Command::new("ssh")
            .args([
                "-T",
                "-x",
                "-a",
                "-o",
                "BatchMode=yes",
                "-o",
                "LogLevel=ERROR",
            ])
            .args(["-o", &format!("ConnectTimeout={seconds}")])
            .args(["-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3"])
            .args(["-o", "ClearAllForwardings=yes", "--"])
            .args([&self.destination, command])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| {
                let failure = Failure::new(format!("cannot run ssh: {error}"));
                Refusal::Failed(failure.with_remedy("install the OpenSSH client on this machine"))
            })?;
        let (Some(input), Some(output), Some(errors)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(Refusal::Failed(Failure::new("ssh has no standard streams")));
        };
        let said = listen(errors).map_err(|error| failed("hear", &error))?;
        let lines = read_lines(output).map_err(|error| failed("hear", &error))?;
        let requests = send(input).map_err(|error| failed("talk to", &error))?;
        let mut agent = Agent {
            child,
            requests,
            lines,
            said,
        };
        if let Some(own) = own {
            // Whether it went through is seen by the greeting.
            let _ = agent.requests.send(own);
        }
        let greeting = match agent.line(self.patience) {
            Ok(line) => serde_json::from_slice::<Greeting>(&line).ok(),
            Err(Silence::Late) => return Err(Refusal::Failed(self.late())),
            Err(Silence::Ended) => None,
        };
        match greeting {
            Some(Greeting {
                agent: PROTOCOL,
                version,
            }) if version == env!("CARGO_PKG_VERSION") => Ok(agent),
            // Of another version: ours is brought along.
            Some(_) => Err(Refusal::NotThere),
            None => Err(self.no_greeting(agent)),
        }
    }

    fn no_greeting(&self, mut agent: Agent) -> Refusal {
        let code = agent.end();
        if code.is_some_and(|code| NOT_THERE.contains(&code)) {
            return Refusal::NotThere;
        }
        let said = agent.said();
        let who = match code {
            // With this level of words ssh says why it is not let in, and nothing of a connection that ends.
            Some(SSH_FAILED) if said.is_empty() => {
                format!("the connection to {} broke off", self.destination)
            }
            Some(SSH_FAILED) => format!("cannot log in to {}", self.destination),
            _ => format!("the agent on {} does not start", self.destination),
        };
        let remedy = if said.contains("Host key verification failed")
            || said.contains("HOST IDENTIFICATION HAS CHANGED")
        {
            "its host key is unknown or changed: compare it, then `ssh` there once as the user who runs the daemon"
        } else if said.contains("Permission denied") {
            "the user who runs the daemon needs a key without a passphrase that logs in there"
        } else if said.contains("sudo") {
            "allow it there in sudoers: NOPASSWD: /usr/bin/speedloader remote-agent; or log in as root"
        } else if said.is_empty() {
            "is it up? try again"
        } else {
            "try the same by hand: `ssh -o BatchMode=yes` and that destination"
        };
        let text = match said.is_empty() {
            true => who,
            false => format!("{who}: {said}"),
        };
        Refusal::Failed(Failure::new(text).with_remedy(remedy))
    }

    fn silent(&self, silence: &Silence, said: Option<String>) -> Failure {
        match silence {
            Silence::Late => self.late(),
            Silence::Ended => {
                let said = said.filter(|said| !said.is_empty());
                let why = said.map_or(String::new(), |said| format!(": {said}"));
                let text = format!("the connection to {} ended{why}", self.destination);
                Failure::new(text).with_remedy("is it up? try again")
            }
        }
    }

    fn late(&self) -> Failure {
        let text = format!(
            "{} did not answer within {} s",
            self.destination,
            self.patience.as_secs_f32()
        );
        Failure::new(text).with_remedy("is it up? `ssh_timeout` may be raised")
    }
}

impl There for Ssh {
    fn ask(
        &mut self,
        request: &Request,
        hear: &mut dyn FnMut(Progress),
    ) -> Result<TargetState, Failure> {
        let mut line =
            serde_json::to_vec(request).map_err(|error| Failure::new(error.to_string()))?;
        line.push(b'\n');
        let patience = self.patience;
        let agent = self.agent()?;
        // If it cannot be sent, nothing is heard either.
        let _ = agent.requests.send(line);
        loop {
            let line = match agent.line(patience) {
                Ok(line) => line,
                Err(silence) => {
                    // What comes after is of another question.
                    let said = self.agent.take().map(|mut agent| {
                        agent.end();
                        agent.said()
                    });
                    return Err(self.silent(&silence, said));
                }
            };
            match serde_json::from_slice(&line) {
                // It goes on: the next word is waited for as long.
                Ok(Reply::Progress(progress)) => hear(progress),
                Ok(Reply::Ok(state)) => return Ok(printable_state(state)),
                Ok(Reply::Refused { what, remedy }) => {
                    return Err(Failure {
                        what: printable(&what),
                        remedy: remedy.map(|remedy| printable(&remedy)),
                    });
                }
                Err(error) => {
                    self.agent = None;
                    let text = format!("{} answers nonsense: {error}", self.destination);
                    return Err(Failure::new(text));
                }
            }
        }
    }
}

/// The same, harmless on a terminal: people are shown what the other machine calls itself.
fn printable_state(state: TargetState) -> TargetState {
    TargetState {
        machine: printable(&state.machine),
        kernel: printable(&state.kernel),
        owner: state.owner.map(|owner| printable(&owner)),
        ..state
    }
}

enum Refusal {
    NotThere,
    Failed(Failure),
}

enum Silence {
    Late,
    Ended,
}

impl Agent {
    fn line(&mut self, patience: Duration) -> Result<Vec<u8>, Silence> {
        match self.lines.recv_timeout(patience) {
            Ok(Ok(line)) => Ok(line),
            Err(RecvTimeoutError::Timeout) => Err(Silence::Late),
            Ok(Err(_)) | Err(RecvTimeoutError::Disconnected) => Err(Silence::Ended),
        }
    }

    /// Ends ssh, which may have ended already; its exit status.
    fn end(&mut self) -> Option<i32> {
        let until = Instant::now() + END_PATIENCE;
        while Instant::now() < until {
            match self.child.try_wait() {
                Ok(Some(status)) => return status.code(),
                Ok(None) => std::thread::sleep(Duration::from_millis(10)),
                Err(_) => break,
            }
        }
        // It may have ended this moment.
        let _ = self.child.kill();
        self.child.wait().ok().and_then(|status| status.code())
    }

    fn said(&self) -> String {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        without_frame(&printable(&String::from_utf8_lossy(&said)))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // The agent ends when nothing more can come; ssh with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// ssh draws a frame of `@` around the words of a host key that has changed.
fn without_frame(said: &str) -> String {
    let is_frame = |word: &&str| word.bytes().all(|byte| byte == b'@');
    let words: Vec<&str> = said.split(' ').filter(|word| !is_frame(word)).collect();
    words.join(" ")
}

/// Keeps the beginning of what is said, and reads the rest away.
fn listen(errors: impl Read + Send + 'static) -> io::Result<Arc<Mutex<Vec<u8>>>> {
    let said: Arc<Mutex<Vec<u8>>> = Arc::default();
    let kept = Arc::clone(&said);
    std::thread::Builder::new()
        .name("ssh-errors".to_owned())
        .spawn(move || {
            let mut errors = errors;
            let mut bytes = [0; 512];
            while let Ok(count @ 1..) = errors.read(&mut bytes) {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                let most = usize::try_from(SAID_BYTES_MAX).unwrap_or(usize::MAX);
                let room = most.saturating_sub(kept.len()).min(count);
                kept.extend_from_slice(&bytes[..room]);
            }
        })?;
    Ok(said)
}

/// Sends what comes, in order, until nothing more can come or nobody hears it.
fn send(input: impl Write + Send + 'static) -> io::Result<Sender<Vec<u8>>> {
    let (sender, messages) = crossbeam_channel::unbounded::<Vec<u8>>();
    std::thread::Builder::new()
        .name("ssh-requests".to_owned())
        .spawn(move || {
            let mut input = input;
            for message in messages {
                let sent = input.write_all(&message).and_then(|()| input.flush());
                if sent.is_err() {
                    return;
                }
            }
        })?;
    Ok(sender)
}

fn read_lines(output: impl Read + Send + 'static) -> io::Result<Receiver<io::Result<Vec<u8>>>> {
    let (sender, lines) = crossbeam_channel::bounded(4);
    std::thread::Builder::new()
        .name("ssh-answers".to_owned())
        .spawn(move || {
            let mut output = BufReader::new(output);
            loop {
                let mut line = Vec::new();
                let most = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
                let read = (&mut output).take(most).read_until(b'\n', &mut line);
                let line = match read {
                    Ok(0) => return,
                    Ok(_) if !line.ends_with(b"\n") => Err(io::ErrorKind::InvalidData.into()),
                    Ok(_) => Ok(line),
                    Err(error) => Err(error),
                };
                let is_last = line.is_err();
                if sender.send(line).is_err() || is_last {
                    return;
                }
            }
        })?;
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::wire::export_of_tests;

    /// An ssh that says what is put into the channel.
    fn ssh(patience: Duration) -> (Ssh, Sender<io::Result<Vec<u8>>>) {
        let (answers, lines) = crossbeam_channel::unbounded();
        let (requests, _) = crossbeam_channel::unbounded();
        let child = Command::new("sleep").arg("600").spawn().unwrap();
        let agent = Agent {
            child,
            requests,
            lines,
            said: Arc::default(),
        };
        let ssh = Ssh {
            destination: "meadowlark".to_owned(),
            patience,
            agent: Some(agent),
        };
        (ssh, answers)
    }

    #[test]
    fn what_a_machine_calls_itself_is_harmless_on_a_terminal() {
        let state = TargetState {
            machine: "meadow\u{1b}[2Jlark".to_owned(),
            owner: Some("nqn.\n\u{7}us".to_owned()),
            available_bytes: 1,
            ..TargetState::default()
        };
        let shown = printable_state(state);
        assert_eq!(
            (shown.machine.as_str(), shown.owner.as_deref()),
            ("meadow[2Jlark", Some("nqn. us"))
        );
        assert_eq!(shown.available_bytes, 1);
    }

    #[test]
    fn who_says_how_far_it_is_is_waited_for_and_who_falls_silent_is_not() {
        let patience = Duration::from_millis(400);
        let request = Request::MakeRam {
            export: export_of_tests(),
        };
        for ends in [true, false] {
            let (mut ssh, answers) = ssh(patience);
            let start = Instant::now();
            let speaker = std::thread::spawn(move || {
                let say = |reply: Reply| {
                    let line = serde_json::to_vec(&reply).unwrap();
                    // Nobody may be there to hear it any more.
                    let _ = answers.send(Ok(line));
                };
                for done_bytes in 0..5 {
                    say(Reply::Progress(Progress {
                        done_bytes,
                        total_bytes: 5,
                    }));
                    std::thread::sleep(patience / 2);
                }
                match ends {
                    true => say(Reply::Ok(TargetState::default())),
                    false => std::thread::sleep(4 * patience),
                }
            });
            let mut heard = Vec::new();
            let asked = ssh.ask(&request, &mut |progress| heard.push(progress.done_bytes));
            assert_eq!(heard, [0, 1, 2, 3, 4]);
            assert!(start.elapsed() > 2 * patience);
            match ends {
                true => assert_eq!(asked, Ok(TargetState::default())),
                false => assert!(asked.unwrap_err().what.contains("did not answer")),
            }
            speaker.join().unwrap();
        }
    }

    #[test]
    fn a_host_key_that_has_changed_is_told_without_its_frame() {
        let said = "@@@@@ @ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @ @@@@@ IT IS POSSIBLE of me@there";
        assert_eq!(
            without_frame(said),
            "WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! IT IS POSSIBLE of me@there"
        );
    }
}
