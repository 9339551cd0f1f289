//! Completions of names, in the shells themselves: a key is pressed in a terminal, and what the shell then runs is looked
//! at.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use speedloader::command::{Answer, Code, Command, Message};
use speedloader::control::{Executor, Peer, SocketServer, SocketSettings};
use speedloader::view::{
    FieldView, ModelView, ModelsView, SettingsView, TierView, TiersView, TransferView,
    TransfersView, View,
};

use super::console::at;
use crate::harness::mount::PROGRAM;
use crate::harness::skip;

/// What a name may have in it.
const MODELS: [&str; 7] = [
    "llama3.2:1b",
    "llama3.2:3b-instruct",
    "hf.co/org/repo:Q4_K_M",
    "My Model (new).gguf",
    "it's \"odd\" $HOME `id`.gguf",
    "semi;colon&.gguf",
    "evil\\x1b[31m.gguf",
];
/// A shell that has not done what was typed by then never will.
const LIMIT: Duration = Duration::from_secs(60);

struct Names;

impl Executor for Names {
    fn execute(&self, _: &Peer, command: Command, _: &mut dyn FnMut(View)) -> Answer {
        let answer = match command {
            Command::Models { .. } => Ok(View::Models(ModelsView {
                models: MODELS.iter().map(|name| model(name)).collect(),
            })),
            Command::Tiers {} => Ok(View::Tiers(TiersView {
                tiers: ["local", "meadow lark"].map(pool).to_vec(),
            })),
            Command::Transfers {} => Ok(View::Transfers(TransfersView {
                transfers: vec![TransferView {
                    id: 4711,
                    ..TransferView::default()
                }],
            })),
            Command::Settings {} => Ok(View::Settings(SettingsView {
                fields: ["policy.enabled", "policy.max_wait"].map(field).to_vec(),
                ..SettingsView::default()
            })),
            other => Err(Message::new(Code::Unsupported, format!("{other:?}"))),
        };
        answer.into()
    }
}

fn model(name: &str) -> ModelView {
    ModelView {
        name: name.to_owned(),
        ..ModelView::default()
    }
}

fn pool(name: &str) -> TierView {
    TierView {
        name: name.to_owned(),
        ..TierView::default()
    }
}

fn field(key: &str) -> FieldView {
    FieldView {
        key: key.to_owned(),
        ..FieldView::default()
    }
}

/// A daemon that knows names, and a place for a shell's files.
struct Site {
    directory: tempfile::TempDir,
    _server: SocketServer,
}

impl Site {
    fn new() -> Site {
        let directory = tempfile::tempdir().unwrap();
        let settings = SocketSettings::new(directory.path().join("run/sock"));
        let _server = SocketServer::start(settings, Arc::new(Names)).unwrap();
        Site { directory, _server }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn asked(&self, words: &[&str]) -> String {
        let all = [&["complete", "--", "speedloader"], words].concat();
        let outcome = at(&self.path("run/sock"), &all);
        assert_eq!((outcome.status, outcome.err.as_str()), (0, ""));
        outcome.out
    }

    fn script(&self, shell: &str, name: &str) -> PathBuf {
        let script = super::console::speedloader(&["completions", shell]).out;
        fs::write(self.path(name), script).unwrap();
        self.path(name)
    }
}

#[test]
fn names_are_told_where_they_are_wanted_and_silence_where_nobody_knows_them() {
    let site = Site::new();
    assert_eq!(site.asked(&["promote", ""]).lines().count(), MODELS.len());
    assert_eq!(
        site.asked(&["promote", "--pool=lo"]),
        "--pool=local\n--pool=meadow lark\n"
    );
    assert_eq!(site.asked(&["transfers", "--cancel", ""]), "4711\n");
    assert_eq!(
        site.asked(&["config", "set", ""]),
        "policy.enabled=\npolicy.max_wait=\n"
    );
    for nothing in [&["status", ""][..], &["promote", "--"], &[]] {
        assert_eq!(site.asked(nothing), "", "{nothing:?}");
    }
    // Nothing that a name has commands a terminal.
    assert!(!site.asked(&["which", ""]).contains('\x1b'));
    let silent = at(
        Path::new("/nonexistent/sock"),
        &["complete", "--", "s", "which", ""],
    );
    assert_eq!(
        (silent.status, silent.out, silent.err),
        (0, String::new(), String::new())
    );
}

/// A daemon that takes the connection and says nothing.
#[test]
fn a_daemon_that_hangs_holds_no_shell_up() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("sock");
    let _silent = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let start = Instant::now();
    let outcome = at(&socket, &["complete", "--", "speedloader", "which", ""]);
    assert_eq!((outcome.status, outcome.out.as_str()), (0, ""));
    assert!(start.elapsed() < Duration::from_secs(5));
}

/// A shell in a terminal of its own.
struct Terminal {
    script: Child,
    told: PathBuf,
}

impl Terminal {
    /// `speedloader` is a function there that writes its words down, unless it is asked for names.
    fn open(site: &Site, shell: &str) -> Terminal {
        let run = match shell {
            "bash" => {
                let script = site.script("bash", "completions");
                let text = format!(
                    "PS1='READY> '\n{}\nsource {}\n",
                    site.function(),
                    script.display()
                );
                fs::write(site.path("rc"), text).unwrap();
                format!("exec bash --noprofile --rcfile {} -i", site.text("rc"))
            }
            "zsh" => {
                site.script("zsh", "_speedloader");
                let text = format!(
                    "PS1='READY> '\n{}\nfpath=({} $fpath)\nautoload -Uz compinit\ncompinit -u -D\n",
                    site.function(),
                    site.directory.path().display()
                );
                fs::write(site.path(".zshrc"), text).unwrap();
                "exec zsh -d -i".to_owned()
            }
            _ => {
                let script = site.script("fish", "completions");
                let text = format!(
                    "function fish_prompt; echo -n 'READY> '; end\n\
                     function speedloader\n if test \"$argv[1]\" = complete\n {PROGRAM} --socket {} $argv\n \
                     else\n printf '<%s>' $argv >>{told}; echo >>{told}\n end\nend\nsource {}\n",
                    site.text("run/sock"),
                    script.display(),
                    told = site.text("told"),
                );
                fs::write(site.path("rc"), text).unwrap();
                format!("exec fish --no-config -i -C 'source {}'", site.text("rc"))
            }
        };
        let mut script = Process::new("script")
            .args([
                "-qefc",
                &format!("stty cols 200 rows 50; {run}"),
                "/dev/null",
            ])
            .env("TERM", "dumb")
            .env("HOME", site.directory.path())
            .env("ZDOTDIR", site.directory.path())
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("INPUTRC")
            .current_dir(site.directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = script.stdout.take().unwrap();
        let (sender, ready) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let (mut seen, mut piece) = (Vec::new(), [0; 4096]);
            while let Ok(count @ 1..) = output.read(&mut piece) {
                seen.extend_from_slice(&piece[..count]);
                if seen.windows(6).any(|part| part == b"READY>") {
                    // Once is enough.
                    let _ = sender.send(());
                }
            }
        });
        ready.recv_timeout(LIMIT).expect("a prompt");
        let told = site.path("told");
        Terminal { script, told }
    }

    /// What the shell runs when this is typed: the words of it.
    fn runs(&mut self, typed: &str) -> String {
        let _ = fs::remove_file(&self.told);
        let line = format!("{typed}\n");
        let input = self.script.stdin.as_mut().unwrap();
        input.write_all(line.as_bytes()).unwrap();
        let start = Instant::now();
        loop {
            let told = fs::read_to_string(&self.told).unwrap_or_default();
            if let Some(line) = told.strip_suffix('\n') {
                return line.to_owned();
            }
            assert!(start.elapsed() < LIMIT, "{typed:?} ran nothing");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}

impl Site {
    /// For shells of the family of sh.
    fn function(&self) -> String {
        format!(
            "speedloader() {{ if [ \"$1\" = complete ]; then {PROGRAM} --socket {} \"$@\"; \
             else printf '<%s>' \"$@\" >>{told}; echo >>{told}; fi; }}",
            self.text("run/sock"),
            told = self.text("told"),
        )
    }
}

/// In all shells alike.
const TYPED: [(&str, &str); 9] = [
    ("which llama3.2:1\t", "<which><llama3.2:1b>"),
    (
        "promote llama3.2:3\t--wait",
        "<promote><llama3.2:3b-instruct><--wait>",
    ),
    (
        "explain hf.co/org/repo:Q\t",
        "<explain><hf.co/org/repo:Q4_K_M>",
    ),
    ("demote My\t", "<demote><My Model (new).gguf>"),
    ("demote sem\t", "<demote><semi;colon&.gguf>"),
    ("pin llama3.2:1\tloc\t", "<pin><llama3.2:1b><local>"),
    ("promote --pool mea\tx", "<promote><--pool><meadow lark><x>"),
    ("transfers --cancel 4\t", "<transfers><--cancel><4711>"),
    (
        "config set policy.e\tfalse",
        "<config><set><policy.enabled=false>",
    ),
];

fn completes(shell: &str, more: &[(&str, &str)]) {
    if skip::lacks_programs(&["script", shell]) {
        return;
    }
    let site = Site::new();
    let mut terminal = Terminal::open(&site, shell);
    for (typed, wanted) in TYPED.iter().chain(more) {
        assert_eq!(
            &terminal.runs(&format!("speedloader {typed}")),
            wanted,
            "{shell}: {typed}"
        );
    }
}

const ODD: &str = "<which><it's \"odd\" $HOME `id`.gguf>";

#[test]
fn names_are_completed_in_bash() {
    completes(
        "bash",
        &[
            ("which it\t", ODD),
            ("which \"it\t", ODD),
            ("which 'My\t", "<which><My Model (new).gguf>"),
            ("which My\\ \t", "<which><My Model (new).gguf>"),
            ("which 'llama3.2:1\t", "<which><llama3.2:1b>"),
            ("promote --pool=lo\t", "<promote><--pool=local>"),
            ("statu\t", "<status>"),
        ],
    );
}

#[test]
fn names_are_completed_in_zsh() {
    completes(
        "zsh",
        &[
            ("which it\t", ODD),
            ("which \"it\t", ODD),
            ("which 'My\t", "<which><My Model (new).gguf>"),
            ("promote --pool=lo\t", "<promote><--pool=local>"),
            ("statu\t", "<status>"),
        ],
    );
}

#[test]
fn names_are_completed_in_fish() {
    completes("fish", &[("which it\t", ODD), ("statu\t", "<status>")]);
}
