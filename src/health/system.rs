//! The machine and our own files: kernel, memory settings, space, clock, permissions, what is left over.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use speedloader_config::misplaced;

use super::patience::{Patience, Pulse};
use super::{Finding, Repair, Scene, hangs, is_known_to_hang, word};
use crate::control::http::{TOKEN_FILE, Token};
use crate::machine::{opened_up, resolve_within};
use crate::state_files::{PINS, is_kept, is_set_aside, is_unfinished};
use crate::view::Severity;

/// The first kernel with FUSE passthrough.
const PASSTHROUGH: (u32, u32) = (6, 9);
/// The right to write of all but the owner.
const OTHERS_WRITE: u32 = 0o022;
/// Less of a file system free is little, in percent.
const FREE_PERCENT_MIN: u64 = 5;
/// Files from so far in the future mean that a clock was wrong, milliseconds.
const FUTURE_MS: u64 = 3_600_000;
/// How long a directory is asked where it leads: it may hang.
const PATIENCE: Duration = Duration::from_secs(1);
/// Nothing of ours takes so long to write, milliseconds.
const UNFINISHED_MS: u64 = 60_000;

pub(super) fn check(scene: &Scene, patience: &mut Patience<'_>, findings: &mut Vec<Finding>) {
    kernel(scene, findings);
    places(scene, findings);
    privacy(scene, findings);
    space(scene, patience, findings);
    permissions(scene, findings);
    state_directory(scene, findings);
    state(scene, findings);
}

fn kernel(scene: &Scene, findings: &mut Vec<Finding>) {
    let release =
        fs::read_to_string(scene.root.join("proc/sys/kernel/osrelease")).unwrap_or_default();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|part| part.parse().ok());
    if let (Some(major), Some(minor)) = (numbers.next(), numbers.next())
        && (major, minor) < PASSTHROUGH
    {
        findings.push(
            Finding::new(
                "kernel-old",
                Severity::Warning,
                "kernel",
                format!("Linux {}", release.trim()),
            )
            .means("FUSE passthrough came with Linux 6.9: reads go through the daemon.")
            .remedy("a newer kernel; all else works"),
        );
    }
    if !scene.root.join("dev/fuse").exists() {
        findings.push(
            Finding::new("no-fuse", Severity::Error, "/dev/fuse", "nothing")
                .means("Nothing can be mounted.")
                .remedy("modprobe fuse; in a container, --device /dev/fuse"),
        );
    }
    let pages = scene
        .root
        .join("sys/kernel/mm/transparent_hugepage/shmem_enabled");
    let setting = fs::read_to_string(&pages).unwrap_or_default();
    if setting.contains("[deny]") {
        findings.push(
            Finding::new("huge-pages-off", Severity::Warning, pages, "deny")
                .means("Pools have small pages: mapped models are read 2 to 20 times slower.")
                .remedy("echo advise > /sys/kernel/mm/transparent_hugepage/shmem_enabled"),
        );
    }
}

/// What the text of a configuration does not show.
fn places(scene: &Scene, findings: &mut Vec<Finding>) {
    let faults = misplaced(&scene.config, |path| resolve_within(path, PATIENCE));
    for fault in faults.faults {
        findings.push(
            Finding::new("misplaced", Severity::Error, &fault.key, fault.found)
                .means("One directory would be seen through another, hide it, or be written by it; the daemon does not start.")
                .remedy(fault.wanted),
        );
    }
}

/// What the mount shows to more people than the directories above it do.
fn privacy(scene: &Scene, findings: &mut Vec<Finding>) {
    for (home, barrier) in opened_up(&scene.config) {
        let found = format!(
            "it lies below {}, which others may not enter",
            barrier.display()
        );
        findings.push(
            Finding::new("home-opened-up", Severity::Notice, &home, found)
                .means("Through the mount everybody can enter it, and read what its own permissions let them.")
                .remedy(format!(
                    "if that is not wanted: chmod o= {} (the mount keeps to that), take it out, or mount.allow_other = false",
                    word(&home)
                )),
        );
    }
}

fn space(scene: &Scene, patience: &mut Patience<'_>, findings: &mut Vec<Finding>) {
    let models = &scene.config.models_dir;
    let look = |path: &PathBuf| {
        let path = path.clone();
        move |_: &Pulse| {
            let is_directory = std::fs::metadata(&path).map(|found| found.is_dir());
            (is_directory.ok(), free_percent(&path))
        }
    };
    if !is_known_to_hang(models, findings) {
        match patience.wait(models, look(models)) {
            Some((Some(true), free)) => low_space("models_dir", models, free, findings),
            Some((found, _)) => {
                let remedy = match found {
                    Some(_) => "correct models_dir".to_owned(),
                    None => format!("mkdir -p {}, or correct models_dir", word(models)),
                };
                findings.push(
                    Finding::new("home-missing", Severity::Error, models, "no directory")
                        .means("The models directory is where every new file goes; the daemon does not start without.")
                        .remedy(remedy),
                );
            }
            None => findings.push(hangs(models)),
        }
    }
    for (index, cold) in scene.config.cold.iter().enumerate() {
        let (key, path) = (format!("cold[{index}].path"), &cold.path);
        if is_known_to_hang(path, findings) {
            continue;
        }
        // What does not answer is told where it is looked through.
        if let Some((None | Some(false), _)) = patience.wait(path, look(path)) {
            findings.push(
                Finding::new("home-missing", Severity::Error, path, "no directory")
                    .means("The configuration names it as cold storage: what it holds is shown when it appears.")
                    .remedy(format!("mount it, correct {key}, or take it out")),
            );
        }
    }
    let state = &scene.config.state_dir;
    low_space("state_dir", state, free_percent(state), findings);
}

/// How much of the file system of a directory is free, if that can be told.
fn free_percent(path: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(path).ok()?;
    (found.f_blocks > 0).then(|| found.f_bavail.saturating_mul(100) / found.f_blocks)
}

fn low_space(what: &str, path: &Path, percent: Option<u64>, findings: &mut Vec<Finding>) {
    let Some(percent) = percent.filter(|percent| *percent < FREE_PERCENT_MIN) else {
        return;
    };
    let found = format!("{percent} % of the file system of {what} are free");
    findings.push(
        Finding::new("low-space", Severity::Warning, path, found)
            .means("Pulls through the mount, or what is remembered across restarts, may soon fail.")
            .remedy("remove models that are no longer used"),
    );
}

fn permissions(scene: &Scene, findings: &mut Vec<Finding>) {
    let token = scene
        .config
        .http
        .token
        .iter()
        .map(|_| "http.token".to_owned());
    let remotes = scene.config.remotes.iter();
    let secrets = remotes.filter(|(_, remote)| remote.dhchap_secret.is_some());
    let secrets = secrets.map(|(name, _)| format!("remote.{name}.dhchap_secret"));
    let secrets: Vec<String> = token.chain(secrets).collect();
    if let Some(path) = scene.config_file.as_ref().filter(|_| !secrets.is_empty())
        && fs::metadata(path).is_ok_and(|found| found.mode() & 0o004 != 0)
    {
        findings.push(
            Finding::new(
                "secret-readable",
                Severity::Error,
                path,
                format!("{} in a file that everybody may read", secrets.join(", ")),
            )
            .means("Whoever has an account here can change everything over HTTP, or connect to the memory of another machine.")
            .remedy(format!("chmod o= {}", word(path)))
            .repair(Repair::Restrict(path.clone(), 0o007)),
        );
    }
    token_file(&scene.config.state_dir, findings);
}

fn token_file(directory: &Path, findings: &mut Vec<Finding>) {
    let path = directory.join(TOKEN_FILE);
    let Ok(found) = fs::symlink_metadata(&path) else {
        return;
    };
    // Most people may not read it, and need not. What is no file may be anything.
    let is_closed = || {
        let opened = fs::File::open(&path);
        opened.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
    };
    if found.is_file() && is_closed() {
        return;
    }
    let Err(message) = Token::read_from(directory) else {
        return;
    };
    let finding = Finding::new("token-untrusted", Severity::Error, &path, message.text)
        .means("The web page is not served with it.");
    findings.push(match found.is_dir() {
        true => finding.remedy(format!(
            "see what is in it, then rm -r {}; the daemon makes a token at its start",
            word(&path)
        )),
        false => finding
            .remedy(format!(
                "rm {}; the daemon makes a new one at its start",
                word(&path)
            ))
            .repair(Repair::Remove(path)),
    });
}

/// Whether what the daemon learns could be written down: a full or broken disk is often mounted read-only by the kernel.
fn state_directory(scene: &Scene, findings: &mut Vec<Finding>) {
    let directory = &scene.config.state_dir;
    let Ok(found) = fs::metadata(directory) else {
        return;
    };
    let is_read_only = rustix::fs::statvfs(directory)
        .is_ok_and(|found| found.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY));
    // Another user's directory need not let us in.
    let is_ours = rustix::process::geteuid().as_raw() == found.uid();
    let is_closed = || {
        let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
        // Root may all the same, but nobody takes that right away without meaning it.
        found.mode() & 0o200 == 0 || rustix::fs::access(directory, access).is_err()
    };
    let is_closed = is_ours && is_closed();
    let text = match (is_read_only, is_closed) {
        (true, _) => "its file system is read-only",
        (false, true) => "its owner may not write there",
        (false, false) => return,
    };
    findings.push(
        Finding::new("state-read-only", Severity::Error, directory, text)
            .means("What is learned, pinned and resident is not written down: the next start knows nothing of it.")
            .remedy(format!("mount it writable, chmod u+rwx {}, or set another state_dir", word(directory))),
    );
}

fn state(scene: &Scene, findings: &mut Vec<Finding>) {
    for entry in fs::read_dir(&scene.config.state_dir)
        .into_iter()
        .flatten()
        .flatten()
    {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        let Ok(found) = fs::symlink_metadata(&path) else {
            continue;
        };
        if !found.is_file() {
            continue;
        }
        let is_left_over = is_unfinished(&name) || is_unfinished_token(&name);
        if is_left_over && is_old(scene, &path) {
            findings.push(
                Finding::new(
                    "left-over",
                    Severity::Notice,
                    &path,
                    "a file that was never finished",
                )
                .means("The daemon ended in the middle of writing; nothing is lost.")
                .remedy(format!("rm {}", word(&path)))
                .repair(Repair::Remove(path.clone())),
            );
        }
        if is_set_aside(&name) && name.starts_with(PINS) {
            // The only copy of what a user has said: nobody but the user removes it.
            let kept = path.with_file_name(PINS);
            findings.push(
                Finding::new(
                    "set-aside",
                    Severity::Warning,
                    &path,
                    "the pins could not be read at a start",
                )
                .means("None of the pins in it holds that was not made again since.")
                .remedy(format!(
                    "mend it and put it back while no daemon runs (mv {} {}), or make the pins again and remove it",
                    word(&path),
                    word(&kept)
                )),
            );
        } else if is_set_aside(&name) {
            findings.push(
                Finding::new(
                    "set-aside",
                    Severity::Notice,
                    &path,
                    "a file that could not be read at a start",
                )
                .means("What was learned in it is lost; learning goes on.")
                .remedy(format!("rm {}", word(&path)))
                .repair(Repair::Remove(path.clone())),
            );
        }
        if is_kept(&name) && found.mode() & OTHERS_WRITE != 0 {
            findings.push(
                Finding::new(
                    "state-writable",
                    Severity::Warning,
                    &path,
                    format!("others may write it: {:o}", found.mode() & 0o7777),
                )
                .means("Whoever writes it decides what the next daemon promotes.")
                .remedy(format!("chmod go-w {}", word(&path)))
                .repair(Repair::Restrict(path.clone(), OTHERS_WRITE)),
            );
        }
        clock(scene, &path, findings);
    }
}

/// The token is written under its name and our process's number first.
fn is_unfinished_token(name: &str) -> bool {
    let number = name
        .strip_prefix(TOKEN_FILE)
        .and_then(|rest| rest.strip_prefix('.'));
    number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The daemon may be at it just now.
fn is_old(scene: &Scene, path: &Path) -> bool {
    changed_ms(path).saturating_add(UNFINISHED_MS) < scene.now_ms
}

fn changed_ms(path: &Path) -> u64 {
    let changed = fs::metadata(path).and_then(|found| found.modified());
    let since = changed
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

fn clock(scene: &Scene, path: &Path, findings: &mut Vec<Finding>) {
    if changed_ms(path) > scene.now_ms.saturating_add(FUTURE_MS) {
        findings.push(
            Finding::new(
                "clock-wrong",
                Severity::Warning,
                path,
                "a file from the future",
            )
            .means("The clock was or is wrong; times of loads are not to be relied on.")
            .remedy(format!(
                "timedatectl, and see to the time synchronisation; once it is right: touch {}",
                word(path)
            )),
        );
    }
}
