//! What is wrong with an installation, found from outside: with the daemon or without it. Each check looks at one
//! thing and says what it found, what that means and what to do; a few say a repair that is safe. No repair ever
//! touches a home, and no check waits for one that hangs.

mod originals;
mod patience;
mod daemon;
mod system;
mod homes;
mod remotes;
mod replicas;
pub mod access;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use speedloader_config::Config;

use self::originals::Originals;
use self::patience::Patience;
use crate::unmount::unmount;
use crate::view::human::{escape, printable, shell_word};
use crate::view::{FindingView, HealthView, Severity, StatusView, WhichView};

/// What is looked at.
#[derive(Clone, Debug)]
pub struct Scene {
    /// The configuration in effect.
    pub config: Config,
    /// The file it was read from.
    pub config_file: Option<PathBuf>,
    /// The daemon's state, if it answers.
    pub status: Option<StatusView>,
    /// Whether there is a daemon that does not answer.
    pub hangs: bool,
    /// Where the files of resident models are, if it answers.
    pub resident: Vec<WhichView>,
    /// Where `/proc`, `/sys` and `/dev` are found: `/` but in tests.
    pub root: PathBuf,
    /// Hash every blob and compare every byte, rather than samples.
    pub all: bool,
    /// How long a home may stand still before it is left.
    pub patience: Duration,
    /// Unix time in milliseconds.
    pub now_ms: u64,
}

impl Scene {
    /// The directories where originals are.
    fn homes(&self) -> impl Iterator<Item = &Path> {
        let cold = self.config.cold.iter().map(|cold| &cold.path);
        std::iter::once(&self.config.models_dir)
            .chain(cold)
            .map(PathBuf::as_path)
    }
}

/// A repair that is safe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repair {
    /// Remove a file of ours that is of no use.
    Remove(PathBuf),
    /// Remove a socket that nobody serves.
    RemoveSocket(PathBuf),
    /// Take away the permissions in the mask from a file of ours.
    Restrict(PathBuf, u32),
    /// Take away a mount whose daemon is gone.
    Unmount(PathBuf),
    /// Make an empty directory of ours.
    MakeDirectory(PathBuf),
    /// Drop the replicas of a model: only the daemon can.
    Demote(String),
}

/// Something that was found.
#[derive(Clone, Debug)]
pub struct Finding {
    check: &'static str,
    severity: Severity,
    subject: String,
    found: String,
    meaning: &'static str,
    remedy: String,
    repair: Option<Repair>,
}

impl Finding {
    fn new(
        check: &'static str,
        severity: Severity,
        subject: impl AsRef<OsStr>,
        found: impl Into<String>,
    ) -> Finding {
        Finding {
            check,
            severity,
            subject: escape(subject.as_ref().as_encoded_bytes()),
            found: found.into(),
            meaning: "",
            remedy: String::new(),
            repair: None,
        }
    }

    fn means(self, meaning: &'static str) -> Finding {
        Finding { meaning, ..self }
    }

    fn remedy(self, remedy: impl Into<String>) -> Finding {
        Finding {
            remedy: remedy.into(),
            ..self
        }
    }

    fn repair(self, repair: Repair) -> Finding {
        Finding {
            repair: Some(repair),
            ..self
        }
    }

    /// How bad it is.
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// The word for the sort of fault.
    pub fn check(&self) -> &'static str {
        self.check
    }

    /// As it is shown.
    pub fn view(&self) -> FindingView {
        FindingView {
            check: self.check.to_owned(),
            severity: self.severity,
            subject: self.subject.clone(),
            found: printable(&self.found),
            meaning: self.meaning.to_owned(),
            remedy: printable(&self.remedy),
            repairable: self.repair.is_some(),
            repaired: None,
        }
    }
}

/// Every sort of fault that is looked for.
pub const CHECKS: &[&str] = &[
    "daemon-silent",
    "stale-mount",
    "stale-socket",
    "no-passthrough",
    "pool-disconnected",
    "pool-not-in-memory",
    "pools-too-large",
    "no-pool",
    "memory-short",
    "home-hangs",
    "home-detached",
    "home-missing",
    "mountpoint-missing",
    "no-fuse",
    "kernel-old",
    "huge-pages-off",
    "misplaced",
    "home-opened-up",
    "low-space",
    "clock-wrong",
    "secret-readable",
    "token-untrusted",
    "state-writable",
    "state-read-only",
    "left-over",
    "set-aside",
    "digest-differs",
    "dangling-manifest",
    "missing-part",
    "acl-ignored",
    "replica-differs",
    "replica-unchecked",
    "ssh-missing",
    "mkfs-missing",
    "tlshd-missing",
    "ssh-key-refused",
    "nvme-module-missing",
    "pool-lost",
    "connection-left",
    "pool-left",
];

/// Makes all checks; the worst findings come first. `say` is told what is waited for.
pub fn examine(scene: &Scene, say: &mut dyn FnMut(&str)) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut patience = Patience::new(scene.patience, say);
    daemon::check(scene, &mut patience, &mut findings);
    system::check(scene, &mut patience, &mut findings);
    homes::check(scene, &mut patience, &mut findings);
    remotes::check(scene, &mut findings);
    replicas::check(scene, &mut patience, &mut findings);
    let originals = Originals::of(&scene.config);
    for finding in &mut findings {
        let repair = finding.repair.as_ref();
        if repair.is_some_and(|repair| originals.would_change(repair)) {
            finding.repair = None;
            finding.remedy = format!("it lies in a home, so by hand: {}", finding.remedy);
        }
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

/// A path as it is shown.
fn shown(path: &Path) -> String {
    escape(path.as_os_str().as_encoded_bytes())
}

/// A path as a word of a command.
fn word(path: &Path) -> String {
    shell_word(path.as_os_str().as_encoded_bytes())
}

/// A home that hangs.
fn hangs(home: &Path) -> Finding {
    let found = "it does not answer";
    Finding::new("home-hangs", Severity::Error, home, found)
        .means("What lives there and is not resident cannot be read now.")
        .remedy("see to the server or network it is on")
}

/// Whether it is known already that a home hangs.
fn is_known_to_hang(home: &Path, findings: &[Finding]) -> bool {
    let mut known = findings.iter();
    known.any(|known| known.check == "home-hangs" && known.subject == shown(home))
}

/// What was found, as it is shown.
pub fn view(findings: &[Finding]) -> HealthView {
    HealthView {
        checked: CHECKS.iter().map(|check| (*check).to_owned()).collect(),
        findings: findings.iter().map(Finding::view).collect(),
        scope: None,
    }
}

/// Carries out what a finding says it can, but nothing in a home; `demote` asks the daemon. `None` if there is
/// nothing it can do.
///
/// # Errors
/// A sentence: why it could not.
pub fn repair(
    scene: &Scene,
    finding: &Finding,
    demote: &mut dyn FnMut(&str) -> Result<(), String>,
) -> Option<Result<String, String>> {
    let repair = finding.repair.as_ref()?;
    let failed = |path: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", shown(path));
    // What was looked at before may lead elsewhere now.
    if Originals::of(&scene.config).would_change(repair) {
        return Some(Err(
            "it is in a home, and no home is ever changed".to_owned()
        ));
    }
    Some(match repair {
        // Between the look and the repair the daemon may have come back.
        Repair::RemoveSocket(path) if !daemon::is_unserved(path) => Err(served_again(path)),
        Repair::Unmount(path) if !daemon::is_dead(path) => Err(served_again(path)),
        Repair::Remove(path) | Repair::RemoveSocket(path) => fs::remove_file(path)
            .map(|()| format!("removed {}", shown(path)))
            .map_err(|error| failed(path, &error)),
        Repair::Restrict(path, mask) => restrict(path, *mask)
            .map(|mode| format!("the permissions are {mode:o} now"))
            .map_err(|error| failed(path, &error)),
        Repair::Unmount(path) => unmount(path, true)
            .map(|()| format!("unmounted {}; mount it again", shown(path)))
            .map_err(|message| printable(&message.to_string())),
        Repair::MakeDirectory(path) => fs::create_dir_all(path)
            .map(|()| format!("made {}", shown(path)))
            .map_err(|error| failed(path, &error)),
        Repair::Demote(model) => demote(model)
            .map_err(|error| printable(&error))
            .map(|()| format!("{} was demoted", printable(model))),
    })
}

fn served_again(path: &Path) -> String {
    format!("a daemon serves {} again", shown(path))
}

/// Of the file that a link leads to, and of no other that takes its place meanwhile.
fn restrict(path: &Path, mask: u32) -> io::Result<u32> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).unwrap_or(0);
    let path = path.canonicalize()?;
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    let mode = file.metadata()?.mode() & 0o7777 & !mask;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    Ok(mode)
}
