//! pjdfstest on the mount against pjdfstest on the file system below, test by test.
//!
//! The tests run in a directory that only cold storage has at first, while files beside them are
//! promoted and demoted without end. Below, all but the tests of read-only file systems run in a plain
//! directory of the file system that holds the models directory; those remount what they run on, and
//! what a machine runs on cannot be remounted: they run on a tmpfs.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::mount::MountFlags;

use super::deviations::{self, Results};
use super::mode::{self, Mode, say};
use super::moves;
use super::tools::{PJDFSTEST, tail};
use crate::harness::{Mount, Site, skip};

/// A run takes some seconds on an idle machine.
const RUN_LIMIT: Duration = Duration::from_secs(120);
/// Fewer that pass below mean that something is wrong with how the suite is run.
const TESTS_MIN: usize = 370;
/// The address of a socket is a path that is no longer than 107 bytes, and the suite adds 55 to where
/// it works.
const PATH_BYTES_MAX: usize = 50;
/// Tests that need a file system that can be remounted.
const REMOUNTING: &str = "erofs";

/// What the suite said about each test, and why where it said so.
#[derive(Clone, Default)]
struct Outcome {
    results: Results,
    reasons: BTreeMap<String, String>,
}

/// Two accounts that every distribution has, with their groups: (name, group).
fn accounts() -> Option<[(String, String); 2]> {
    let account = |name: &str| {
        let users = fs::read_to_string("/etc/passwd").ok()?;
        let user = users
            .lines()
            .find(|line| line.split(':').next() == Some(name))?;
        let gid = user.split(':').nth(3)?;
        let groups = fs::read_to_string("/etc/group").ok()?;
        let group = groups
            .lines()
            .find(|line| line.split(':').nth(2) == Some(gid))?;
        Some((name.to_owned(), group.split(':').next()?.to_owned()))
    };
    Some([account("nobody")?, account("daemon")?])
}

/// The suite with its configuration and what it calls, in a tree of its own.
struct Suite {
    directory: PathBuf,
    short: tempfile::TempDir,
    accounts: [(String, String); 2],
    second: PathBuf,
}

impl Suite {
    /// Everything lies below `root` and goes with it.
    fn new(root: &Path, accounts: [(String, String); 2]) -> Self {
        let directory = root.join("suite");
        fs::create_dir(&directory).unwrap();
        // mount(8) would leave a remount to the helper of the type, which knows of no remounts.
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mount = std::env::split_paths(&path)
            .chain(["/usr/bin", "/bin"].map(PathBuf::from))
            .map(|directory| directory.join("mount"))
            .find(|program| program.exists())
            .unwrap();
        let wrapper = directory.join("mount");
        let script = format!("#!/bin/sh\nexec '{}' -i \"$@\"\n", mount.display());
        fs::write(&wrapper, script).unwrap();
        fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
        let second = root.join("second");
        fs::create_dir(&second).unwrap();
        rustix::mount::mount("tmpfs", &second, "tmpfs", MountFlags::empty(), None).unwrap();
        let temporary = std::env::temp_dir();
        let is_short = temporary.as_os_str().len() < PATH_BYTES_MAX - 20;
        let mut short = tempfile::Builder::new();
        let short = short
            .prefix("sl-")
            .permissions(fs::Permissions::from_mode(0o755));
        let short = short.tempdir_in(if is_short {
            &temporary
        } else {
            Path::new("/tmp")
        });
        Suite {
            directory,
            short: short.unwrap(),
            accounts,
            second,
        }
    }

    fn configuration(&self, remount: bool) -> PathBuf {
        let [first, second] = &self.accounts;
        let text = format!(
            "[features]\nposix_fallocate = {{}}\nrename_ctime = {{}}\nutime_now = {{}}\n\
             utimensat = {{}}\nsecondary_fs = {:?}\n\
             [settings]\nnaptime = 0.02\nallow_remount = {remount}\n\
             [dummy_auth]\nentries = [[{:?}, {:?}], [{:?}, {:?}]]\n",
            self.second, first.0, first.1, second.0, second.1
        );
        let path = self.directory.join(format!("remount-{remount}.toml"));
        fs::write(&path, text).unwrap();
        path
    }

    /// A path of a directory that is short enough.
    fn short(&self, directory: &Path) -> PathBuf {
        let path = self.short.path().join(directory.file_name().unwrap());
        match std::os::unix::fs::symlink(directory, &path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            made => made.unwrap(),
        }
        assert!(
            path.as_os_str().len() <= PATH_BYTES_MAX,
            "{}",
            path.display()
        );
        path
    }

    /// Runs the tests whose name contains `pattern` in a directory.
    fn run(&self, directory: &Path, remount: bool, pattern: Option<&str>) -> Outcome {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = [self.directory.clone()]
            .into_iter()
            .chain(std::env::split_paths(&path));
        let output = PJDFSTEST
            .command(RUN_LIMIT)
            .arg("-c")
            .arg(self.configuration(remount))
            .arg("-p")
            .arg(directory)
            .args(pattern)
            .env("PATH", std::env::join_paths(path).unwrap())
            .env("RUST_BACKTRACE", "0")
            .output()
            .unwrap();
        let outcome = parse(&String::from_utf8_lossy(&output.stdout));
        outcome.unwrap_or_else(|| {
            panic!(
                "pjdfstest in {} ended early, {}:\n{}",
                directory.display(),
                output.status,
                tail(&output, 40)
            )
        })
    }

    /// Runs all tests in a directory, and then those that remount, at a mountpoint: not in one run, for the suite leaves files open, and a file system with an unlinked file that is
    /// open cannot be made read-only.
    fn run_all(&self, directory: &Path, remountable: &Path) -> Outcome {
        let mut outcome = self.run(&self.short(directory), false, None);
        let remounting = self.run(remountable, true, Some(REMOUNTING));
        outcome.results.extend(remounting.results);
        outcome.reasons.extend(remounting.reasons);
        outcome
    }

    /// The results on the file system below; the same for all modes, so had once.
    fn below(&self, plain: &Path) -> Outcome {
        static BELOW: OnceLock<Outcome> = OnceLock::new();
        let run = || {
            fs::create_dir(plain).unwrap();
            self.run_all(plain, &self.second)
        };
        BELOW.get_or_init(run).clone()
    }
}

/// Reads the suite's report; `None` when it does not end as a whole one does.
fn parse(text: &str) -> Option<Outcome> {
    let mut outcome = Outcome::default();
    let mut last = None;
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (name, verdict) = (words.next(), words.next());
        match (name, verdict) {
            (Some(name), Some(verdict)) if name.contains("::") && !line.starts_with('\t') => {
                outcome.results.insert(name.to_owned(), verdict.to_owned());
                last = Some(name.to_owned());
            }
            _ if line.starts_with('\t') => {
                if let Some(name) = &last {
                    let reason = outcome.reasons.entry(name.clone()).or_default();
                    reason.push_str(line);
                    reason.push('\n');
                }
            }
            _ => {}
        }
    }
    let summary = text.lines().find(|line| line.starts_with("Summary:"))?;
    let total = summary.split(", ").last()?.split(' ').next()?;
    (total.parse() == Ok(outcome.results.len())).then_some(outcome)
}

fn count(results: &Results, verdict: &str) -> usize {
    results.values().filter(|found| *found == verdict).count()
}

fn summary(results: &Results) -> String {
    format!(
        "{} ok, {} failed, {} skipped",
        count(results, "ok"),
        count(results, "FAILED"),
        count(results, "skipped")
    )
}

fn same_as_below(mode: Mode) {
    let Some(accounts) = accounts() else {
        return skip::skip("there is no account `nobody` or `daemon`");
    };
    let site = Site::new()
        .cold_file("work/cold.gguf", 1, 300_000)
        .models_file("moving.gguf", 2, 3_000_000);
    let Some(mount) = mode::start(site, mode, &[&PJDFSTEST]) else {
        return;
    };
    let suite = Suite::new(mount.root(), accounts);
    let below = suite.below(&mount.root().join("plain"));
    assert!(
        count(&below.results, "ok") >= TESTS_MIN,
        "{}",
        summary(&below.results)
    );
    let start = Instant::now();
    let names = ["moving.gguf", "work/cold.gguf"];
    let (outcome, moved) = moves::during(&mount, &names, || {
        suite.run_all(&mount.mounted("work"), &mount.mounted(""))
    });
    say(&format!(
        "pjdfstest ({mode}): below {}; on the mount {}; {moved}; {:.0?}",
        summary(&below.results),
        summary(&outcome.results),
        start.elapsed()
    ));
    deviations::check(
        "pjdfstest",
        mode,
        &below.results,
        &outcome.results,
        |test| outcome.reasons.get(test).cloned().unwrap_or_default(),
    );
    nothing_is_left(&mount);
}

/// The suite removes what it has made: what the mount still has must be what it had.
fn nothing_is_left(mount: &Mount) {
    let names = |path: PathBuf| {
        let entries = fs::read_dir(path).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name());
        names.collect::<Vec<_>>()
    };
    assert_eq!(names(mount.mounted("work")), ["cold.gguf"]);
    assert_eq!(names(mount.models("work")), [""; 0]);
}

#[test]
fn passthrough_answers_as_the_file_system_below() {
    same_as_below(Mode::Passthrough);
}

#[test]
fn the_daemon_answers_as_the_file_system_below() {
    same_as_below(Mode::Daemon);
}

#[test]
fn a_report_that_breaks_off_is_none() {
    let whole = "chmod::ctime   ok\nchown::x  FAILED\n\tleft: 1\n\tright: 2\n\n\
                 Summary: 1 failed, 0 skipped, 1 passed, 0 expected failures, 2 total\n";
    let outcome = parse(whole).unwrap();
    assert_eq!(summary(&outcome.results), "1 ok, 1 failed, 0 skipped");
    assert_eq!(outcome.reasons["chown::x"], "\tleft: 1\n\tright: 2\n");
    assert!(parse("chmod::ctime   ok\n").is_none());
    assert!(parse(&whole.replace("2 total", "3 total")).is_none());
}
