//! What models there are: the catalog made from the union, and the files behind it.
//!
//! Rebuilt when somebody asks and the tree has changed since. Reading headers may wait for a cold
//! home, bounded; a home that hangs is asked once a build.

use std::cell::RefCell;
use std::collections::HashSet;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use speedloader_fs::attr::Kind;
use speedloader_fs::file::HomeFile;
use speedloader_fs::ids::HomeId;
use speedloader_fs::rel_path::RelPath;
use speedloader_fs::tiered_fs::TieredFs;
use speedloader_fs::union::Found;

use crate::models::{Catalog, FileKind, Tree, TreeFile};

/// How long one header of a cold file is waited for.
const HEADER_PATIENCE: Duration = Duration::from_secs(3);

/// A catalog and the files of its models.
pub struct Known {
    /// The tree's generation that it was made from.
    pub generation: u64,
    /// Models and files.
    pub catalog: Catalog,
    /// Files that belong to a model, each once, by their identifiers: a table would take twice as much.
    files: Vec<Arc<HomeFile>>,
}

impl Known {
    /// A file that belongs to a model, by the catalog's identity.
    pub fn file(&self, file: u64) -> Option<&Arc<HomeFile>> {
        let at = self.files.binary_search_by_key(&file, |known| known.id.0);
        at.ok().map(|at| &self.files[at])
    }

    /// Whether it was made from the tree as it was at this generation.
    pub fn is_of(&self, generation: u64) -> bool {
        self.generation == generation
    }
}

/// The catalog, kept up to date on demand.
pub struct World {
    fs: Arc<TieredFs>,
    known: RwLock<Arc<Known>>,
    building: Mutex<()>,
}

impl World {
    /// Knows nothing yet.
    pub fn new(fs: Arc<TieredFs>) -> World {
        let nothing = Known {
            generation: 0,
            catalog: Catalog::default(),
            files: Vec::new(),
        };
        World {
            fs,
            known: RwLock::new(Arc::new(nothing)),
            building: Mutex::new(()),
        }
    }

    /// What is known, perhaps not of the newest files.
    pub fn known(&self) -> Arc<Known> {
        Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is known of the tree as it is now.
    pub fn fresh(&self) -> Arc<Known> {
        let _one_at_a_time = self.building.lock().unwrap_or_else(PoisonError::into_inner);
        let generation = self.fs.generation();
        let before = self.known();
        if before.generation == generation {
            return before;
        }
        let tree = FsTree {
            fs: &self.fs,
            silent: RefCell::default(),
        };
        let catalog = Catalog::build(&tree, Some(&before.catalog));
        let mut files = Vec::new();
        self.fs.union().for_each_file(|file| {
            if !catalog.models_of(file.id.0).is_empty() {
                files.push(Arc::clone(file));
            }
        });
        files.sort_unstable_by_key(|file| file.id);
        files.dedup_by_key(|file| file.id);
        files.shrink_to_fit();
        let known = Arc::new(Known {
            generation,
            catalog,
            files,
        });
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&known);
        drop(before);
        // A tree of 100,000 files takes tens of MiB while it is looked through.
        speedloader_fs::sys::heap::give_back();
        known
    }

    /// The file of a path below the mount.
    pub fn file_at(&self, path: &[u8]) -> Option<Arc<HomeFile>> {
        match self.fs.union().find(&RelPath::new(path).ok()?)? {
            Found::File(file) if file.kind == Kind::File => Some(file),
            _ => None,
        }
    }
}

struct FsTree<'a> {
    fs: &'a Arc<TieredFs>,
    silent: RefCell<HashSet<HomeId>>,
}

impl Tree for FsTree<'_> {
    fn files(&self) -> Vec<TreeFile> {
        let mut files = Vec::new();
        self.fs.union().for_each_path(|path, file| {
            let identity = file.attr().identity;
            let kind = match (file.kind, &file.target) {
                (Kind::File, _) => FileKind::Regular,
                (Kind::Symlink, Some(target)) => FileKind::Symlink(target.to_vec()),
                _ => FileKind::Other,
            };
            files.push(TreeFile {
                path: path.to_vec(),
                size: identity.size,
                mtime_ns: identity.mtime_ns.into(),
                kind,
                file: file.id.0,
                cold: file.is_cold(),
            });
        });
        files.sort_by(|one, two| one.path.cmp(&two.path));
        files
    }

    fn read(&self, path: &[u8], offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let path = RelPath::new(path).map_err(|_| io::ErrorKind::InvalidInput)?;
        let Some(Found::File(file)) = self.fs.union().find(&path) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let home = Arc::clone(self.fs.home_of(&file));
        let read = move || -> io::Result<Vec<u8>> {
            let opened = home.open_file(&path, false).map_err(io::Error::other)?;
            // What the kernel would read ahead, or later because it did now, would come twice.
            let _ = rustix::fs::fadvise(&opened, 0, None, rustix::fs::Advice::Random);
            read_range(&opened, offset, len)
        };
        if !file.is_cold() {
            return read();
        }
        if self.silent.borrow().contains(&file.home) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let (sender, answer) = crossbeam_channel::bounded(1);
        // Nobody waits for an answer that comes too late.
        self.fs
            .offload(file.home)
            .run(Box::new(move || drop(sender.send(read()))));
        answer.recv_timeout(HEADER_PATIENCE).unwrap_or_else(|_| {
            self.silent.borrow_mut().insert(file.home);
            Err(io::ErrorKind::TimedOut.into())
        })
    }
}

/// Never more memory than the file has bytes, whatever is asked.
fn read_range(file: &std::fs::File, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    let there = file.metadata()?.len().saturating_sub(offset);
    let mut bytes = vec![0; usize::try_from(there).unwrap_or(usize::MAX).min(len)];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(number) => filled += number,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}
