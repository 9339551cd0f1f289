//! Where the program finds itself: root directory, variables, people. Tests have surroundings of their own.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use speedloader_config::Account;

use super::walk::Limits;

/// Files that tell of people and services are not longer, in bytes.
const FILE_BYTES_MAX: u64 = 256 << 10;
/// So many people's directories are looked at.
const PEOPLE_MAX: usize = 32;
/// Numbers of people, as distributions give them.
const PEOPLE: std::ops::Range<u32> = 1_000..60_000;

/// What is looked at.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// `/`, or where a test has its own.
    pub root: PathBuf,
    /// Environment variables.
    pub variables: Vec<(OsString, OsString)>,
    /// Who runs the program.
    pub account: Account,
    /// How far is looked.
    pub limits: Limits,
}

impl Surroundings {
    /// Of a process with these variables, run by `account`.
    pub fn new(variables: Vec<(OsString, OsString)>, account: Account) -> Self {
        Self {
            root: PathBuf::from("/"),
            variables,
            account,
            limits: Limits::default(),
        }
    }

    /// A path of the system, below the root directory.
    pub(super) fn system(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// A variable that is set to an absolute path.
    pub(super) fn path_variable(&self, name: &str) -> Option<PathBuf> {
        let found = self.variables.iter().find(|(key, _)| key == name);
        let path = PathBuf::from(found.map(|(_, value)| value)?);
        path.is_absolute().then_some(path)
    }

    /// Home directories: our own, and for root those of everybody.
    pub(super) fn homes(&self) -> Vec<PathBuf> {
        let mut homes: Vec<PathBuf> = self.account.home.iter().cloned().collect();
        if self.account.uid == 0 {
            let people = self.people().into_iter();
            let people = people.filter(|person| PEOPLE.contains(&person.uid));
            homes.extend(people.take(PEOPLE_MAX).map(|person| person.home));
        }
        homes.dedup();
        homes
    }

    fn people(&self) -> Vec<Person> {
        let text = self.read(&self.system("/etc/passwd")).unwrap_or_default();
        text.lines().filter_map(|line| self.person(line)).collect()
    }

    fn person(&self, line: &str) -> Option<Person> {
        let fields: Vec<&str> = line.split(':').collect();
        let home = *fields.get(5)?;
        let is_path = home.starts_with('/') && home != "/";
        is_path.then_some(Person {
            uid: fields.get(2)?.parse().ok()?,
            home: self.system(home),
        })
    }

    /// A short text file; none where it cannot be read.
    pub(super) fn read(&self, path: &Path) -> Option<String> {
        let file = File::open(path).ok()?;
        if !file.metadata().ok()?.is_file() {
            return None;
        }
        let mut text = String::new();
        file.take(FILE_BYTES_MAX).read_to_string(&mut text).ok()?;
        Some(text)
    }

    /// Where a directory of ours lies for an ordinary user: a variable, or below the home directory.
    pub(super) fn own(&self, variable: &str, below_home: &str) -> PathBuf {
        let home = || {
            self.account
                .home
                .clone()
                .unwrap_or_else(|| PathBuf::from("/tmp"))
        };
        self.path_variable(variable)
            .unwrap_or_else(|| home().join(below_home))
    }
}

struct Person {
    uid: u32,
    home: PathBuf,
}

/// A path as a configuration can hold it.
pub(super) fn as_text(path: &OsStr) -> Option<&str> {
    path.to_str()
        .filter(|text| !text.chars().any(char::is_control))
}
