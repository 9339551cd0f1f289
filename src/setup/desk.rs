//! Where a person is served: what was found, what follows from choices, and writing it.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{CWD, Mode, OFlags, fchown, fstat, mkdirat, openat};
use rustix::process::{Gid, Uid, geteuid};
use speedloader_config::Sources;

use super::surroundings::Surroundings;
use super::{disks, proposal, stores};
use crate::command::{Code, Message};
use crate::machine::Memory;
use crate::pressure;
use crate::view::{
    FaultView, FileSystemView, SetupChoices, SetupState, SetupView, StoreKind, StoreView,
};
use crate::whole_file;

/// Where the configuration goes, and what else it is made of.
#[derive(Clone, Debug)]
pub struct Target {
    /// The file.
    pub path: PathBuf,
    /// Variables, options and account, which count beside the file.
    pub sources: Sources,
    /// Whether what is there was written by this set-up, and may be written over.
    pub is_ours: bool,
    /// Why the mount could not be made of it.
    pub failed: Option<String>,
}

/// A set-up under way.
pub struct Desk {
    around: Surroundings,
    target: Target,
    found: Mutex<Option<Found>>,
    // Two people do not write at once.
    writing: Mutex<()>,
}

#[derive(Clone)]
struct Found {
    stores: Vec<StoreView>,
    file_systems: Vec<FileSystemView>,
    memory: Memory,
}

impl Desk {
    /// A set-up in these surroundings; nothing is looked at yet.
    pub fn new(around: Surroundings, target: Target) -> Self {
        Self {
            around,
            target,
            found: Mutex::default(),
            writing: Mutex::default(),
        }
    }

    /// Looks at the machine, also at `directories` that a person named, and proposes. Takes seconds.
    pub fn look(&self, directories: &[PathBuf]) -> SetupView {
        let candidates = stores::candidates(&self.around, directories);
        let found = Found {
            stores: stores::look(&self.around, candidates),
            file_systems: disks::file_systems(),
            memory: pressure::memory(),
        };
        let options = &self.target.sources.options;
        let is_shared = proposal::is_shared(&self.target.sources);
        let (stores, memory) = (&found.stores, found.memory);
        let choices = proposal::propose(&self.around, stores, memory, options, is_shared);
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(found.clone());
        self.view(&found, choices)
    }

    /// What `choices` mean. Nothing is looked for again.
    pub fn check(&self, choices: SetupChoices) -> SetupView {
        let found = self
            .found
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let found = found.unwrap_or_else(|| Found {
            stores: Vec::new(),
            file_systems: Vec::new(),
            memory: pressure::memory(),
        });
        self.view(&found, choices)
    }

    /// Makes the directories and writes the configuration, if nothing is wrong with it; the view says
    /// whether it was.
    ///
    /// # Errors
    /// [`Code::Denied`] or [`Code::Failed`] if something cannot be made or written.
    pub fn apply(&self, choices: SetupChoices) -> Result<SetupView, Message> {
        let _alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut view = self.check(choices);
        if !view.faults.is_empty() {
            return Ok(view);
        }
        let models_dir = Path::new(&view.choices.models_dir);
        if !models_dir.is_dir() {
            make(models_dir).map_err(|error| cannot("make", models_dir, &error))?;
            self.give_to_its_engine(models_dir, &view);
        }
        let mountpoint = Path::new(&view.choices.mountpoint);
        make(mountpoint).map_err(|error| cannot("make", mountpoint, &error))?;
        let path = &self.target.path;
        write(path, view.toml.as_bytes(), self.target.is_ours)
            .map_err(|error| cannot("write", path, &error))?;
        view.state = SetupState::Written;
        Ok(view)
    }

    /// Ollama's service has a user of its own, which pulls models through the mount: who owns the first of its stores that
    /// were chosen owns the new directory, and those in it that Ollama writes to. Of a directory that several homes have the
    /// first one's owner is shown, so without these it would be another store's.
    fn give_to_its_engine(&self, models_dir: &Path, view: &SetupView) {
        let is_ollamas = |path: &&String| {
            let mut stores = view.stores.iter();
            stores.any(|store| store.kind == StoreKind::Ollama && store.path == **path)
        };
        if let Some(path) = view.choices.cold.iter().find(is_ollamas)
            && self.around.account.uid == 0
            && let Ok(found) = fs::metadata(path)
        {
            // Where it cannot be given away it stays ours, and the engine is told so by its own errors.
            let _ = give(models_dir, found.uid(), found.gid());
        }
    }

    fn view(&self, found: &Found, choices: SetupChoices) -> SetupView {
        let (toml, mut faults) = match proposal::toml_of(&choices) {
            Ok(toml) => {
                let (path, sources) = (&self.target.path, &self.target.sources);
                let faults = proposal::faults_of(&toml, &choices, found.memory, path, sources);
                (toml, faults)
            }
            Err(text) => (
                String::new(),
                vec![FaultView {
                    key: String::new(),
                    text,
                }],
            ),
        };
        if !self.target.is_ours && self.target.path.symlink_metadata().is_ok() {
            let text = format!("{} is there already", self.target.path.display());
            faults.push(FaultView {
                key: String::new(),
                text,
            });
        }
        SetupView {
            state: SetupState::Proposed,
            config_path: self.target.path.display().to_string(),
            memory_bytes: found.memory.total_bytes,
            used_bytes: found
                .memory
                .total_bytes
                .saturating_sub(found.memory.available_bytes),
            file_systems: found.file_systems.clone(),
            remarks: proposal::remarks_of(
                &self.around,
                &choices,
                &found.stores,
                found.memory,
                proposal::is_shared(&self.target.sources),
            ),
            uses: proposal::uses_of(&choices, &found.stores),
            stores: found.stores.clone(),
            choices,
            toml,
            faults,
            failed: self.target.failed.clone(),
        }
    }
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> Message {
    let code = match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Code::Denied,
        _ => Code::Failed,
    };
    Message::new(code, format!("cannot {what} {}: {error}", path.display()))
}

fn make(directory: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(directory)
}

/// Gives a new directory to the owner of an Ollama store, with the two in it that Ollama writes to. The directory itself comes
/// last: once it is his, he chooses what the names in it lead to.
pub(super) fn give(models_dir: &Path, uid: u32, gid: u32) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    let top = openat(CWD, models_dir, flags, Mode::empty())?;
    if fstat(&top)?.st_uid != geteuid().as_raw() {
        // Somebody who can write above it has put another in its place.
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    for name in ["blobs", "manifests"] {
        mkdirat(&top, name, Mode::from_raw_mode(0o755))?;
        let part = openat(&top, name, flags, Mode::empty())?;
        fchown(part, owner.0, owner.1)?;
    }
    Ok(fchown(top, owner.0, owner.1)?)
}

/// Writes a file that appears whole or not at all; what is there already is replaced only if it may be.
fn write(path: &Path, bytes: &[u8], may_replace: bool) -> io::Result<()> {
    make(path.parent().unwrap_or(Path::new("/")))?;
    let readable = |file: &File| file.set_permissions(fs::Permissions::from_mode(0o644));
    whole_file::write(path, bytes, readable, |from, to| match may_replace {
        true => fs::rename(from, to),
        // Not over one that somebody else has just made.
        false => fs::hard_link(from, to),
    })
}
