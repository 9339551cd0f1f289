//! Where the homes really are: no repair is made at or below one, whatever leads there.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Repair;
use crate::machine::resolve_within;
use speedloader_config::Config;

/// A home that hangs is known by its written path after so long.
const PATIENCE: Duration = Duration::from_secs(1);

/// All homes, resolved.
pub(super) struct Originals(Vec<PathBuf>);

impl Originals {
    pub(super) fn of(config: &Config) -> Originals {
        let cold = config.cold.iter().map(|cold| &cold.path);
        let homes = std::iter::once(&config.models_dir).chain(cold);
        let both = homes.flat_map(|home| [home.clone(), resolve_within(home, PATIENCE)]);
        Originals(both.collect())
    }

    /// Whether what would be done changes something in a home.
    pub(super) fn would_change(&self, repair: &Repair) -> bool {
        match repair {
            // A name that goes is not followed.
            Repair::Remove(path) | Repair::RemoveSocket(path) => self.has(&entry_of(path)),
            Repair::Restrict(path, _) | Repair::MakeDirectory(path) => {
                self.has(&resolve_within(path, PATIENCE))
            }
            Repair::Unmount(_) | Repair::Demote(_) => false,
        }
    }

    fn has(&self, path: &Path) -> bool {
        self.0.iter().any(|home| path.starts_with(home))
    }
}

/// A name in the directory where it really is.
fn entry_of(path: &Path) -> PathBuf {
    let parent = path.parent().unwrap_or(Path::new("/"));
    let name = path.file_name().unwrap_or(OsStr::new(""));
    resolve_within(parent, PATIENCE).join(name)
}
