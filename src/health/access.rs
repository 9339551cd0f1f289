//! Whether a user can reach and read what is mounted: every component of a path is walked with his credentials, in a
//! thread of its own, and the first that refuses is told with what would let him through. Nothing is opened but
//! directories, so no model is loaded by being looked at, and nothing is changed.

mod walk;
mod barrier;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use speedloader_config::Config;
use speedloader_fs::sys::account;

use self::barrier::{Barrier, mount_at};
use self::walk::{Refusal, Walked, Wanted, walk_all};
use super::patience::Patience;
use super::{Finding, shown};
use crate::view::human::escape;
use crate::view::{HealthView, Severity};

/// Every sort of fault that is looked for.
pub const CHECKS: &[&str] = &[
    "not-mounted",
    "user-cannot-enter",
    "user-cannot-list",
    "user-cannot-read",
    "user-finds-nothing",
    "user-meets-error",
    "user-path-hangs",
    "user-unchecked",
];

/// So many findings are told; who has repaired them asks again.
const FINDINGS_MAX: usize = 50;

/// Somebody whose way is walked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visitor {
    /// What he is called, or his number.
    pub name: String,
    /// His number.
    pub uid: u32,
    /// The number of his own group.
    pub gid: u32,
    /// All groups that he is in.
    pub groups: Vec<u32>,
}

impl Visitor {
    /// The user of a name or number, with the groups that he has when he logs in. A number that no user has is in no
    /// group. May take as long as the machine's databases of users do.
    ///
    /// # Errors
    /// When they cannot be asked. `Ok(None)`: there is no such user.
    pub fn find(user: &OsStr) -> io::Result<Option<Visitor>> {
        /// The group that nobody's files belong to.
        const NO_GROUP: u32 = 65_534;
        let number: Option<u32> = user.to_str().and_then(|text| text.parse().ok());
        // u32::MAX is no user: it means that a number is left as it is.
        let number = number.filter(|number| *number != u32::MAX);
        let found = match account::of_name(user)? {
            Some(account) => Some(account),
            None => number.map(account::of_number).transpose()?.flatten(),
        };
        Ok(match (found, number) {
            (Some(account), _) => Some(Visitor {
                name: escape(account.name.as_encoded_bytes()),
                uid: account.uid,
                gid: account.gid,
                groups: account::groups_of(&account)?,
            }),
            (None, Some(uid)) => Some(Visitor {
                name: uid.to_string(),
                uid,
                gid: NO_GROUP,
                groups: Vec::new(),
            }),
            (None, None) => None,
        })
    }

    /// Which of the three groups of permission bits of a file are his.
    fn class(&self, owner: u32, group: u32) -> Class {
        if self.uid == owner {
            Class::Owner
        } else if self.gid == group || self.groups.contains(&group) {
            Class::Group
        } else {
            Class::Others
        }
    }
}

/// Whose permission bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Owner,
    Group,
    Others,
}

impl Class {
    /// The letter of chmod(1).
    fn letter(self) -> char {
        match self {
            Self::Owner => 'u',
            Self::Group => 'g',
            Self::Others => 'o',
        }
    }

    /// The bits that count, as those of others.
    fn bits(self, mode: u32) -> u32 {
        match self {
            Self::Owner => mode >> 6 & 7,
            Self::Group => mode >> 3 & 7,
            Self::Others => mode & 7,
        }
    }
}

/// Looks whether `visitor` can reach and read `paths`, which are absolute, or, if there are none, the mountpoint and
/// everything in it. Root's process walks as anybody; any other only as itself. `say` is told what is waited for.
pub fn examine(
    config: &Config,
    visitor: &Visitor,
    paths: &[PathBuf],
    patience: Duration,
    say: &mut dyn FnMut(&str),
) -> HealthView {
    let mut patience = Patience::new(patience, say);
    let mut findings = Vec::new();
    let mountpoint = config.mountpoint.as_deref();
    let whole = paths.is_empty();
    let starts: Vec<PathBuf> = match whole {
        true => mountpoint.map(Path::to_owned).into_iter().collect(),
        false => paths.to_vec(),
    };
    if whole && let Some(mountpoint) = mountpoint {
        findings.extend(not_mounted(mountpoint));
    }
    let (mut seen, mut met) = (0, Met::default());
    for start in &starts {
        let (visitor, path) = (visitor.clone(), start.clone());
        let walked = patience.wait(start, move |pulse| walk_all(&visitor, &path, whole, pulse));
        match walked {
            Some(Ok(walked)) => {
                seen += walked.seen;
                met.add(walked);
            }
            Some(Err(error)) => findings.push(
                unchecked(
                    Severity::Error,
                    start,
                    format!("it was not looked at: {error}"),
                )
                .remedy("ask as root of the machine itself, or as that user"),
            ),
            None => findings.push(hangs(start)),
        }
    }
    if !met.is_whole {
        let found = format!("only the first {seen} files and directories were looked at");
        findings.push(
            unchecked(Severity::Warning, &starts[0], found).remedy("name what matters as PATH"),
        );
    }
    let left_out = met.barriers.len().saturating_sub(FINDINGS_MAX);
    for ((path, wanted), met) in met.barriers.into_iter().take(FINDINGS_MAX) {
        let (asked, own, visitor) = (path.clone(), config.clone(), visitor.clone());
        let told = patience.wait(&path, move |_| {
            Barrier::look(&own, &visitor, asked, wanted, &met).finding(&visitor)
        });
        findings.push(told.unwrap_or_else(|| hangs(&path)));
    }
    if left_out > 0 {
        let found = format!("{left_out} more of the same kinds are not shown");
        findings.push(
            unchecked(Severity::Warning, &starts[0], found)
                .remedy("repair what is shown, and ask again"),
        );
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    HealthView {
        checked: CHECKS.iter().map(|check| (*check).to_owned()).collect(),
        findings: findings.iter().map(Finding::view).collect(),
        scope: Some(scope(visitor, &starts, whole, seen)),
    }
}

/// What was looked at: a sentence.
fn scope(visitor: &Visitor, starts: &[PathBuf], whole: bool, seen: usize) -> String {
    let groups: Vec<String> = visitor.groups.iter().map(u32::to_string).collect();
    let groups = match groups.as_slice() {
        [] => "in no group".to_owned(),
        [one] => format!("group {one}"),
        several => format!("groups {}", several.join(", ")),
    };
    let paths: Vec<String> = starts.iter().map(|path| shown(path)).collect();
    let below = match whole {
        true => format!(", and {seen} files and directories in it"),
        false => String::new(),
    };
    format!(
        "as {} (user {}, {groups}): {}{below}",
        visitor.name,
        visitor.uid,
        paths.join(", ")
    )
}

/// What was met on all ways, by what refuses; of files those of one directory together.
struct Met {
    barriers: BTreeMap<(PathBuf, Wanted), Kept>,
    is_whole: bool,
}

/// Whom or what a barrier keeps from being seen.
struct Kept {
    /// The first of what was refused.
    first: PathBuf,
    count: usize,
    error: io::Error,
}

impl Default for Met {
    fn default() -> Self {
        Self {
            barriers: BTreeMap::new(),
            is_whole: true,
        }
    }
}

impl Met {
    fn add(&mut self, walked: Walked) {
        self.is_whole &= walked.is_whole;
        for refusal in walked.refusals {
            let Refusal {
                path,
                wanted,
                error,
            } = refusal;
            let at = match (wanted, path.parent()) {
                (Wanted::Read, Some(directory)) => directory.to_owned(),
                _ => path.clone(),
            };
            let kept = self.barriers.entry((at, wanted)).or_insert(Kept {
                first: path,
                count: 0,
                error,
            });
            kept.count += 1;
        }
    }
}

fn not_mounted(mountpoint: &Path) -> Option<Finding> {
    if mount_at(mountpoint).is_some() {
        return None;
    }
    let finding = Finding::new(
        "not-mounted",
        Severity::Warning,
        mountpoint,
        "nothing is mounted there",
    );
    Some(
        finding
            .means("Only the way there was looked at, and no model.")
            .remedy("speedloader mount, or systemctl start speedloader, then ask again"),
    )
}

fn unchecked(severity: Severity, path: &Path, found: String) -> Finding {
    Finding::new("user-unchecked", severity, path, found)
        .means("What was not looked at may refuse this user.")
}

fn hangs(path: &Path) -> Finding {
    Finding::new(
        "user-path-hangs",
        Severity::Error,
        path,
        "it does not answer",
    )
    .means("Whoever goes this way waits.")
    .remedy("see to the server or network it is on: speedloader health")
}
