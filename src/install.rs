//! Putting a service, or a line of fstab(5), onto a machine or into an image, and taking it off again: as a list of
//! [`Change`]s that is shown, and then made.
//!
//! Nothing is remembered of an installation: each file of ours says by its last line whether it is as it was written, so
//! a second run changes nothing, nothing of others is overwritten or removed, and what is taken back is what was put
//! there. Directories that were made stay.

mod root;
mod mark;
mod systemd;
mod fstab;
mod planner;

use std::path::{Path, PathBuf};

use speedloader_fs::mount_table;

use self::planner::Planner;
use crate::command::{Code, Message};
use crate::safe_directory;
use crate::view::human::{escape, shell_word};
use crate::view::{ContentView, FileChangeView, InstallState, InstallView};

pub use root::Root;

/// What is, or will be, under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A file.
    File {
        /// What is in it.
        bytes: Vec<u8>,
        /// Its permissions.
        mode: u32,
    },
    /// A symbolic link, and where it leads.
    Link(PathBuf),
}

/// What becomes of the file of somebody else in the place of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Aside {
    /// There is none.
    Nothing,
    /// It is kept, under this name.
    Keep(PathBuf),
    /// It comes back from there.
    Back(PathBuf),
}

/// One file that changes. Paths are absolute, and beneath a [`Root`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which.
    pub path: PathBuf,
    /// What is there.
    pub before: Option<Content>,
    /// What will be.
    pub after: Option<Content>,
    /// What becomes of somebody else's.
    pub aside: Aside,
    /// Whether it was generated, so that nobody need read it.
    pub generated: bool,
}

/// How the file system is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By a service of systemd.
    Service,
    /// By mount(8).
    Fstab,
}

/// A file that the program makes from its own help.
#[derive(Clone, Debug)]
pub struct Page {
    /// Beneath which directory of shared files it belongs, such as `man/man1/speedloader.1`.
    pub path: PathBuf,
    /// A directory of the system's shared files without which nobody reads it.
    pub reader: PathBuf,
    /// How a comment begins in it.
    pub comment: &'static str,
    /// What is in it.
    pub text: Vec<u8>,
}

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Wish<'a> {
    /// The program, as it will be called.
    pub program: &'a Path,
    /// Its configuration.
    pub config: &'a Path,
    /// Where that has it mount.
    pub mountpoint: &'a Path,
    /// How.
    pub way: Way,
    /// Manual pages and completions.
    pub pages: &'a [Page],
    /// Replace what is somebody else's, and keep it.
    pub force: bool,
}

/// Changes that were found to be needed, and what is to be known of them.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// In the order in which they are made.
    pub changes: Vec<Change>,
    /// Sentences.
    pub remarks: Vec<String>,
    /// Commands with their arguments, to be given afterwards.
    pub commands: Vec<Vec<String>>,
}

/// What an installation would change; nothing is changed by it.
///
/// # Errors
/// [`Code::Busy`] where somebody else's is in the way, [`Code::Usage`] for what cannot be written into such files, and
/// whatever keeps them from being read.
pub fn plan(root: &Root, wish: &Wish<'_>) -> Result<Plan, Message> {
    let mut planner = Planner::new(root, wish.force);
    match wish.way {
        Way::Service => planner.service(wish)?,
        Way::Fstab => planner.fstab(wish)?,
    }
    for page in wish.pages {
        planner.page(wish.program, page)?;
    }
    planner.obstacles()?;
    if let Some(first) = planner.foreign_pages.first() {
        let remark = format!(
            "manual pages or completions of somebody else stay ({} files, {} for one); --force replaces them",
            planner.foreign_pages.len(),
            shown(first)
        );
        planner.plan.remarks.push(remark);
    }
    if let Some(fault) = unsafe_program(root, wish.program) {
        planner.plan.remarks.push(fault);
    }
    planner.plan.commands = commands(root, wish, &planner.plan.changes);
    Ok(planner.plan)
}

/// What taking an installation back would change: every file of ours that is as we wrote it, whichever way it was
/// installed; with `force` also those that were changed since. `program` is where our link leads, `mountpoint` what its
/// daemon is to take away, if it is known.
///
/// # Errors
/// As [`plan`].
pub fn plan_removal(
    root: &Root,
    program: &Path,
    mountpoint: Option<&Path>,
    pages: &[Page],
    force: bool,
) -> Result<Plan, Message> {
    let mut planner = Planner::new(root, force);
    planner.remove(Path::new(systemd::PATH), false)?;
    if planner
        .plan
        .changes
        .iter()
        .any(|change| change.after.is_none())
    {
        planner.remove_link(systemd::ENABLED, Path::new(systemd::PATH))?;
    }
    planner.remove_line()?;
    planner.remove_link(fstab::HELPER, program)?;
    for directory in directories_of(program, pages) {
        for path in root.names(&directory) {
            let name = path.file_name().unwrap_or_default().as_encoded_bytes();
            if name.starts_with(b"speedloader") || name == b"_speedloader" {
                planner.remove(&path, true)?;
            }
        }
    }
    planner.obstacles()?;
    if root.is_machine() && !planner.plan.changes.is_empty() {
        // Told by systemd to end, a daemon leaves its pools for the next one, which will not come.
        let umount = mountpoint
            .filter(|at| is_mounted(at))
            .map(|at| words(&[&program.to_string_lossy(), "umount", &at.to_string_lossy()]));
        let reload = systemd_runs().then(|| words(&["systemctl", "daemon-reload"]));
        planner.plan.commands = umount.into_iter().chain(reload).collect();
    }
    Ok(planner.plan)
}

/// Makes the changes, one after the other.
///
/// # Errors
/// [`Code::Denied`] or [`Code::Failed`] at the first that cannot be made, with what was made before: each is whole, so that
/// it can be gone on with, or taken back.
pub fn apply(root: &Root, changes: &[Change]) -> Result<(), Message> {
    for (done, change) in changes.iter().enumerate() {
        root.apply(change).map_err(|error| {
            let again = "run it again to go on, or with --uninstall to take it back";
            let message = failed("change", &change.path, &error);
            let hint = match (done, message.code) {
                (0, Code::Denied) => "nothing was changed; as root it can be".to_owned(),
                (0, _) => "nothing was changed".to_owned(),
                (1, _) => format!("only {} was changed; {again}", shown(&changes[0].path)),
                _ => format!(
                    "only {done} of {} files were changed; {again}",
                    changes.len()
                ),
            };
            message.with_hint(hint)
        })?;
    }
    Ok(())
}

/// A plan as it is shown.
pub fn view(root: &Root, plan: &Plan) -> InstallView {
    let command = |words: &Vec<String>| {
        let words: Vec<String> = words
            .iter()
            .map(|word| shell_word(word.as_bytes()))
            .collect();
        words.join(" ")
    };
    InstallView {
        root: shown(root.path()),
        state: match plan.changes.is_empty() {
            true => InstallState::Unchanged,
            false => InstallState::Proposed,
        },
        changes: plan.changes.iter().map(Change::view).collect(),
        remarks: plan.remarks.clone(),
        commands: plan.commands.iter().map(command).collect(),
        ran: false,
    }
}

/// Whether systemd is this machine's first process (sd_booted(3)).
pub fn systemd_runs() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

fn is_mounted(mountpoint: &Path) -> bool {
    let table = mount_table::read().unwrap_or_default();
    mount_table::topmost(&table, mountpoint).is_some()
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn shown(path: &Path) -> String {
    escape(path.as_os_str().as_encoded_bytes())
}

fn failed(what: &str, path: &Path, error: &std::io::Error) -> Message {
    let code = match error.kind() {
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
            Code::Denied
        }
        _ => Code::Failed,
    };
    Message::new(code, format!("cannot {what} {}: {error}", shown(path)))
}

/// What is to be done when the files are there.
fn commands(root: &Root, wish: &Wish<'_>, changes: &[Change]) -> Vec<Vec<String>> {
    if !root.is_machine() {
        return Vec::new();
    }
    let reload = words(&["systemctl", "daemon-reload"]);
    let mountpoint = wish.mountpoint.to_string_lossy();
    let mut changes = changes.iter();
    match (wish.way, systemd_runs()) {
        (Way::Service, true) => {
            let is_newer = changes
                .any(|change| change.path == Path::new(systemd::PATH) && change.before.is_some());
            let enable = words(&["systemctl", "enable", "--now", systemd::NAME]);
            let restart = is_newer.then(|| words(&["systemctl", "restart", systemd::NAME]));
            [reload, enable].into_iter().chain(restart).collect()
        }
        (Way::Service, false) => Vec::new(),
        (Way::Fstab, true) => vec![reload, words(&["mount", &mountpoint])],
        (Way::Fstab, false) => vec![words(&["mount", &mountpoint])],
    }
}

/// Why root should not run this program at every start.
fn unsafe_program(root: &Root, program: &Path) -> Option<String> {
    if !root.is_machine() {
        return None;
    }
    let directory = program.parent()?;
    let why = match safe_directory::fault(directory) {
        Ok(fault) => fault?,
        Err(error) => error.to_string(),
    };
    Some(format!(
        "root will run {} at every start, and its directory {why}: install it into /usr/local/bin first",
        shown(program)
    ))
}

/// Where shared files belong that go with a program.
fn shared(program: &Path) -> &'static Path {
    let is_packaged = program.starts_with("/usr") && !program.starts_with("/usr/local");
    Path::new(match is_packaged {
        true => "/usr/share",
        false => "/usr/local/share",
    })
}

/// The directories of pages, each once.
fn directories_of(program: &Path, pages: &[Page]) -> Vec<PathBuf> {
    let directories = pages.iter().filter_map(|page| page.path.parent());
    let mut directories: Vec<PathBuf> = directories
        .map(|directory| shared(program).join(directory))
        .collect();
    directories.sort();
    directories.dedup();
    directories
}

impl Change {
    fn view(&self) -> FileChangeView {
        let content = |content: &Content| match content {
            Content::File { bytes, .. } => ContentView::File {
                text: String::from_utf8_lossy(bytes).into_owned(),
            },
            Content::Link(target) => ContentView::Link {
                target: shown(target),
            },
        };
        let (kept_as, back_from) = match &self.aside {
            Aside::Nothing => (None, None),
            Aside::Keep(aside) => (Some(shown(aside)), None),
            Aside::Back(aside) => (None, Some(shown(aside))),
        };
        FileChangeView {
            path: shown(&self.path),
            before: self.before.as_ref().map(content),
            after: self.after.as_ref().map(content),
            generated: self.generated,
            kept_as,
            back_from,
        }
    }
}
