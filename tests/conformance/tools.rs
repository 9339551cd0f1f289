//! The suites as programs: installed from the registry into the build's own directory, in versions
//! that are laid down here, and run with a limit of time.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A program of the registry.
#[derive(Debug)]
pub struct Tool {
    name: &'static str,
    version: &'static str,
}

/// 398 tests of names, attributes, permissions and errors.
pub const PJDFSTEST: Tool = Tool {
    name: "pjdfstest",
    version: "0.2.2",
};

/// Random reads, writes and mappings of one file, each read compared with what it must be.
pub const FSX: Tool = Tool {
    name: "fsx",
    version: "0.3.2",
};

/// Whoever comes second finds what the first has installed.
static INSTALLING: Mutex<()> = Mutex::new(());

impl Tool {
    /// The program, built now if it was not before.
    pub fn program(&self) -> PathBuf {
        let _alone = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
        let base = Path::new(env!("CARGO_TARGET_TMPDIR")).join("conformance");
        let root = base.join(format!("{}-{}", self.name, self.version));
        let program = root.join("bin").join(self.name);
        if program.exists() {
            return program;
        }
        fs::create_dir_all(&root).unwrap();
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .args(["install", "--quiet", "--locked", "--debug", "--root"])
            .arg(&root)
            .arg(format!("{}@{}", self.name, self.version))
            // Not the workspace's settings, and nothing that takes a compiler long: what these
            // programs do all day is wait for the kernel. Their own arithmetic is not under test.
            .current_dir(&base)
            .env("CARGO_TARGET_DIR", base.join("build"))
            .env("CARGO_PROFILE_DEV_DEBUG", "false")
            .env("CARGO_PROFILE_DEV_OVERFLOW_CHECKS", "false")
            .env("CARGO_PROFILE_DEV_DEBUG_ASSERTIONS", "false")
            .output()
            .unwrap_or_else(|error| panic!("cargo install {}: {error}", self.name));
        assert!(
            output.status.success(),
            "cargo install {}@{} needs the package registry: {}\n{}",
            self.name,
            self.version,
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        program
    }

    /// A command that is killed, with a failing status, when it takes longer.
    pub fn command(&self, limit: Duration) -> Command {
        let mut command = Command::new("timeout");
        command
            .args(["-k", "5", &limit.as_secs().to_string()])
            .arg(self.program())
            .env("NO_COLOR", "1")
            .env_remove("RUST_LOG");
        command
    }
}

/// What a program has printed, without more than its last `lines` lines.
pub fn tail(output: &Output, lines: usize) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy);
    let text = text.concat();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
