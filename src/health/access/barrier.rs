//! What refuses, as root sees it: whose it is, why it refuses whom, and what would change that.

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use speedloader_config::Config;
use speedloader_fs::mount_table;
use speedloader_fs::sys::account;

use super::walk::Wanted;
use super::{Class, Kept, Visitor};
use crate::health::homes::has_acl;
use crate::health::{Finding, word};
use crate::machine::resolve_within;
use crate::view::Severity;
use crate::view::human::{escape, shell_word};

/// How long a mountpoint is asked where it leads: it may hang.
const RESOLVE_PATIENCE: Duration = Duration::from_secs(1);

/// What refuses, as root sees it.
pub(super) struct Barrier {
    /// What is told of: a file or directory.
    path: PathBuf,
    wanted: Wanted,
    /// How many files of its directory refuse likewise.
    count: usize,
    error: String,
    kind: ErrorKind,
    facts: Option<Facts>,
    /// Where permissions are changed: in the home, if it is seen through the mount.
    original: PathBuf,
    place: Place,
}

/// Where a barrier is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Nowhere that we know.
    Outside,
    /// A FUSE mount that lets in nobody but who has mounted it; `true`: it is ours.
    Private(bool),
    /// In the mount, from the models directory.
    Models,
    /// In the mount, from cold storage.
    Cold,
}

struct Facts {
    owner: String,
    group: String,
    gid: u32,
    mode: u32,
    class: Class,
    has_acl: bool,
    /// Whose home it is, if it is somebody else's.
    home_of: Option<String>,
}

impl Barrier {
    /// May hang as the path does.
    pub(super) fn look(
        config: &Config,
        visitor: &Visitor,
        at: PathBuf,
        wanted: Wanted,
        kept: &Kept,
    ) -> Self {
        let path = match wanted {
            Wanted::Read => kept.first.clone(),
            Wanted::Enter | Wanted::List | Wanted::Find => at,
        };
        let (original, place, facts) = if is_private_mount(&path) {
            // Root may have to wait for it as well, and it refuses by who asks, not by its permissions.
            let own = config.mountpoint.as_deref().and_then(mount_at);
            let is_ours = own.as_ref() == Some(&path);
            (path.clone(), Place::Private(is_ours), None)
        } else {
            let (original, place) = original_of(config, &path);
            let found = fs::symlink_metadata(&path).ok();
            let facts = found.map(|found| Facts::of(&path, &found, visitor));
            (original, place, facts)
        };
        Self {
            facts,
            path,
            wanted,
            count: kept.count,
            error: kept.error.to_string(),
            kind: kept.error.kind(),
            original,
            place,
        }
    }

    pub(super) fn finding(&self, visitor: &Visitor) -> Finding {
        let check = match (self.kind, self.wanted) {
            (ErrorKind::NotFound, _) => "user-finds-nothing",
            (ErrorKind::PermissionDenied, Wanted::Enter) => "user-cannot-enter",
            (ErrorKind::PermissionDenied, Wanted::List) => "user-cannot-list",
            (ErrorKind::PermissionDenied, Wanted::Read | Wanted::Find) => "user-cannot-read",
            _ => "user-meets-error",
        };
        let finding = |found: String| Finding::new(check, Severity::Error, &self.path, found);
        if self.kind == ErrorKind::NotFound {
            return finding("there is nothing of that name".to_owned())
                .means("What was asked about is not there, for anybody.")
                .remedy("correct the path, or mount what should be there");
        }
        if self.kind != ErrorKind::PermissionDenied {
            return finding(format!("looking at it failed: {}", self.error))
                .means("Whoever goes this way gets an error.")
                .remedy("see to what is mounted there: speedloader health");
        }
        finding(self.found(visitor))
            .means(self.meaning())
            .remedy(self.remedy(visitor))
    }

    fn found(&self, visitor: &Visitor) -> String {
        let name = &visitor.name;
        let what = match self.wanted {
            Wanted::Enter => format!("{name} may not enter it"),
            Wanted::List => format!("{name} may not list it"),
            Wanted::Read if self.count > 1 => {
                let more = self.count - 1;
                format!("{name} may not read it, nor {more} more in its directory")
            }
            Wanted::Read | Wanted::Find => format!("{name} may not read it"),
        };
        if let Place::Private(_) = self.place {
            return format!("{what}: it is a FUSE mount for the user alone who has mounted it");
        }
        let Some(facts) = &self.facts else {
            return what;
        };
        let whose = format!(
            "it belongs to {}, group {}, with mode {:03o} ({})",
            facts.owner,
            facts.group,
            facts.mode & 0o7777,
            letters(facts.mode)
        );
        let home = match &facts.home_of {
            Some(owner) => format!(", the private home of {owner}"),
            None => String::new(),
        };
        let although = match (self.is_refused_by_mode(facts), facts.has_acl) {
            (true, _) => "",
            (false, true) => ", which would do; its ACL refuses",
            (false, false) => ", which would do; something else refuses",
        };
        format!("{what}{home}: {whose}{although}")
    }

    fn is_refused_by_mode(&self, facts: &Facts) -> bool {
        facts.class.bits(facts.mode) & self.bit() == 0
    }

    /// The right that is missing, as one of others.
    fn bit(&self) -> u32 {
        match self.wanted {
            Wanted::Enter => 1,
            Wanted::List | Wanted::Read | Wanted::Find => 4,
        }
    }

    fn meaning(&self) -> &'static str {
        let is_home = self.facts.as_ref().is_some_and(|f| f.home_of.is_some());
        match self.wanted {
            Wanted::Enter if is_home => {
                "Nothing below a private home can be reached by others, whatever its own permissions say."
            }
            Wanted::Enter => {
                "Nothing below it can be reached by this user, whatever its own permissions say."
            }
            Wanted::List => {
                "What is known by name can be opened; an engine that looks for models finds none."
            }
            Wanted::Read | Wanted::Find => "An engine that runs as this user cannot load it.",
        }
    }

    fn remedy(&self, visitor: &Visitor) -> String {
        match self.place {
            Place::Private(true) => {
                return "mount.allow_other = true in the configuration, then mount again"
                    .to_owned();
            }
            Place::Private(false) => return "mount it with the option allow_other".to_owned(),
            Place::Outside | Place::Models | Place::Cold => {}
        }
        let Some(facts) = &self.facts else {
            return format!("see to the permissions of {}", word(&self.original));
        };
        let original = match (self.wanted, self.count, self.original.parent()) {
            (Wanted::Read, 2.., Some(directory)) => format!("{}/*", word(directory)),
            _ => word(&self.original),
        };
        let right = if self.bit() == 1 { 'x' } else { 'r' };
        let name = shell_word(visitor.name.as_bytes());
        let acl = format!("setfacl -m u:{name}:{right} {original}");
        let is_by_mode = self.is_refused_by_mode(facts);
        let can_have_acl = self.place == Place::Outside;
        if !is_by_mode {
            return match (facts.has_acl, can_have_acl) {
                (true, true) => format!("getfacl {original} shows it; {acl}"),
                _ => "see what a security module (ausearch -m avc, or the kernel's log) or the server of that file system refuses".to_owned(),
            };
        }
        let chmod = format!("chmod {}+{right} {original}", facts.class.letter());
        let mut ways = Vec::new();
        if facts.home_of.is_some() {
            ways.push("move what is served out of the home".to_owned());
        } else {
            ways.push(chmod);
        }
        if can_have_acl && facts.class == Class::Others {
            ways.push(format!("for this user alone: {acl}"));
        }
        // Nobody becomes a member of root's group for that.
        let is_open_to_group = Class::Group.bits(facts.mode) & self.bit() != 0;
        if facts.class == Class::Others && is_open_to_group && facts.gid != 0 {
            let group = shell_word(facts.group.as_bytes());
            ways.push(format!(
                "usermod -aG {group} {name}, and a restart of what runs as {name}"
            ));
        }
        let whose = match self.place {
            Place::Cold => "in cold storage, which is never written through the mount: ",
            Place::Models | Place::Outside | Place::Private(_) => "",
        };
        format!("{whose}{}", ways.join("; or "))
    }
}

impl Facts {
    fn of(path: &Path, found: &Metadata, visitor: &Visitor) -> Self {
        let (uid, gid) = (found.uid(), found.gid());
        let owner = account::of_number(uid).ok().flatten();
        let group = account::group_name(gid).ok().flatten();
        let is_home = owner.as_ref().is_some_and(|owner| {
            uid != visitor.uid && owner.home != Path::new("/") && owner.home == path
        });
        let named = |name: Option<&OsStr>, number: u32| match name {
            Some(name) => escape(name.as_encoded_bytes()),
            None => number.to_string(),
        };
        let name = named(owner.as_ref().map(|owner| owner.name.as_os_str()), uid);
        Self {
            home_of: is_home.then(|| name.clone()),
            owner: name,
            group: named(group.as_deref(), gid),
            gid,
            mode: found.mode(),
            class: visitor.class(uid, gid),
            has_acl: has_acl(path),
        }
    }
}

/// Where what is seen at `path` has its permissions from.
fn original_of(config: &Config, path: &Path) -> (PathBuf, Place) {
    let outside = || (path.to_owned(), Place::Outside);
    let Some(mountpoint) = config.mountpoint.as_deref().and_then(mount_at) else {
        return outside();
    };
    let Ok(inner) = path.strip_prefix(&mountpoint) else {
        return outside();
    };
    let cold = config.cold.iter().map(|cold| (&cold.path, Place::Cold));
    let mut homes = std::iter::once((&config.models_dir, Place::Models)).chain(cold);
    // Of a directory that several homes have, the first one's permissions are shown.
    let found = homes.find_map(|(home, place)| {
        let original = match inner.as_os_str().is_empty() {
            true => home.clone(),
            false => home.join(inner),
        };
        original
            .symlink_metadata()
            .is_ok()
            .then_some((original, place))
    });
    found.unwrap_or_else(outside)
}

/// The path of a mountpoint as the kernel knows it, if something is mounted there.
pub(super) fn mount_at(mountpoint: &Path) -> Option<PathBuf> {
    let path = resolve_within(mountpoint, RESOLVE_PATIENCE);
    let table = mount_table::read().ok()?;
    mount_table::topmost(&table, &path).map(|_| path)
}

/// Whether it is a FUSE mount that only the user who has mounted it may enter.
fn is_private_mount(path: &Path) -> bool {
    let table = mount_table::read().unwrap_or_default();
    mount_table::topmost(&table, path).is_some_and(|entry| {
        let mut options = entry.options.split(|byte| *byte == b',');
        entry.file_system.starts_with(b"fuse") && !options.any(|option| option == b"allow_other")
    })
}

/// As ls(1) writes permissions.
fn letters(mode: u32) -> String {
    let rights = (0..9)
        .rev()
        .map(|bit| (mode >> bit & 1 == 1, [b'x', b'w', b'r'][bit as usize % 3]));
    rights
        .map(|(is_set, letter)| if is_set { char::from(letter) } else { '-' })
        .collect()
}
