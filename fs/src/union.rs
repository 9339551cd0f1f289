//! The union: one in-memory tree over all homes, in order of precedence.
//!
//! It is a picture of the homes, kept true by `refresh_*` alone: each looks at the home first and
//! changes the tree only when no other change of that directory came between (a version a
//! directory), so no order of writes through us, inotify and rescans can leave a ghost. No method
//! holds the tree's lock while it waits for a home. Directories of the same name are merged; else
//! the entry of the first home hides the others, which stay known beneath it.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};

use crate::attr::{Attr, Kind};
use crate::error::{ErrorKind, FsError, FsResult};
use crate::file::{HomeFile, Name, lock, works_on_live};
use crate::home::{Home, Listed};
use crate::ids::{DirId, FileId, HomeId};
use crate::recent::Recent;
use crate::rel_path::RelPath;

mod barred;
mod by_inode;

use by_inode::{ByInode, InodeKey, inode_key};

/// What a name leads to.
#[derive(Clone, Debug)]
pub enum Found {
    /// A (merged) directory.
    Directory(DirId),
    /// Anything else.
    File(Arc<HomeFile>),
}

/// A change of the picture that somebody may have to hear of.
#[derive(Clone, Debug)]
pub enum UnionChange {
    /// The name leads elsewhere or nowhere now.
    Name(DirId, Arc<[u8]>),
    /// The last name of the file is gone: which it was.
    FileGone(Arc<HomeFile>, DirId, Arc<[u8]>),
    /// The contents of the file are other ones now.
    FileChanged(Arc<HomeFile>),
    /// The file has one name more or less; those left may be hidden.
    FileNames(Arc<HomeFile>),
    /// Only attributes of the file changed.
    FileAttr(Arc<HomeFile>),
    /// A directory of the home was seen for the first time.
    DirectoryFound(HomeId, DirId),
    /// Attributes of the directory, or what is in it, changed.
    DirectoryAttr(DirId),
    /// Other people than before may be let into a directory that several homes have.
    DirectoryPermissions(DirId),
    /// The directory is gone from every home.
    DirectoryGone(DirId),
}

/// One line of a directory listing.
#[derive(Clone, Debug)]
pub struct ListedName {
    /// The name.
    pub name: Arc<[u8]>,
    /// The inode number shown.
    pub ino: u64,
    /// What it is.
    pub kind: Kind,
}

#[derive(Debug)]
enum Slot {
    File(Arc<HomeFile>),
    Directory(DirId),
    /// Several homes have the name; files in the order of their homes.
    Mixed(Box<(Vec<Arc<HomeFile>>, Option<DirId>)>),
}

impl Slot {
    /// The files of all homes, and the directory.
    fn take_apart(self) -> (Vec<Arc<HomeFile>>, Option<DirId>) {
        match self {
            Slot::File(file) => (vec![file], None),
            Slot::Directory(id) => (Vec::new(), Some(id)),
            Slot::Mixed(mixed) => *mixed,
        }
    }

    /// The directory, of whichever homes.
    fn directory(&self) -> Option<DirId> {
        match self {
            Slot::Directory(id) => Some(*id),
            Slot::Mixed(mixed) => mixed.1,
            Slot::File(_) => None,
        }
    }
}

/// A directory of one home, as last seen.
#[derive(Clone, Copy, Debug)]
struct Sight {
    attr: Attr,
    /// Differs for each directory that was found under the name, one after the other.
    incarnation: u64,
}

#[derive(Debug)]
struct Directory {
    parent: DirId,
    name: Arc<[u8]>,
    /// One bit a home that has this directory.
    homes: u64,
    ino: u64,
    /// What is shown: what the first home that has it says.
    attr: Attr,
    /// What each home says that was looked at, in order: the next one is shown when the first has lost it. A map
    /// would take a kilobyte a directory, for one entry.
    sights: Vec<(HomeId, Sight)>,
    /// What was shown of another home until a moment ago: the kernel may not have been told yet.
    shown_before: Option<Box<barred::ShownBefore>>,
    version: u64,
    entries: BTreeMap<Arc<[u8]>, Slot>,
    /// Of the entries, those that are directories in every home: counting them would make each
    /// getattr of a large directory slow.
    plain_directories: u32,
    /// Of the entries, those that several homes have under one name.
    mixed: u32,
}

impl Directory {
    fn show_first(&mut self) {
        if let Some((_, first)) = self.sights.first() {
            self.attr = first.attr;
        }
    }

    /// The same where that was of a home which is no longer the first.
    fn show_another(&mut self) {
        self.shown_before = Some(Box::new(barred::ShownBefore::now(self.attr)));
        self.show_first();
    }

    /// Makes the entries take less memory: a map that was filled name by name has half of its room free.
    fn pack(&mut self) {
        self.entries = std::mem::take(&mut self.entries).into_iter().collect();
    }

    fn sight(&self, home: HomeId) -> Option<&Sight> {
        let at = self.place_of(home).ok()?;
        Some(&self.sights[at].1)
    }

    /// What the home says, `fresh` if it had said nothing yet.
    fn sight_or_insert(&mut self, home: HomeId, fresh: Sight) -> &mut Sight {
        let at = self.place_of(home).unwrap_or_else(|at| {
            self.sights.reserve_exact(1);
            self.sights.insert(at, (home, fresh));
            at
        });
        &mut self.sights[at].1
    }

    fn place_of(&self, home: HomeId) -> Result<usize, usize> {
        self.sights.binary_search_by_key(&home, |(known, _)| *known)
    }

    /// Makes the counts true when an entry comes (`true`) or goes.
    fn count(&mut self, slot: &Slot, comes: bool) {
        let counted = match slot {
            Slot::File(_) => return,
            Slot::Directory(_) => &mut self.plain_directories,
            Slot::Mixed(_) => &mut self.mixed,
        };
        *counted = if comes {
            counted.saturating_add(1)
        } else {
            counted.saturating_sub(1)
        };
    }
}

/// A directory as it is shown.
#[derive(Clone, Copy, Debug)]
pub struct DirectoryView {
    /// The inode number shown.
    pub ino: u64,
    /// Attributes of the first home that has it, as last seen.
    pub attr: Attr,
    /// Whether the models directory has it.
    pub in_models: bool,
    /// Number of directories directly below.
    pub subdirectories: u32,
}

/// Among so many names of files one is looked for that is the same: directories of models have the same names.
const RECENT_NAMES: usize = 1024;
/// So many files without a name are kept before those that nobody holds any more are looked for.
const NAMELESS_MIN: usize = 64;

#[derive(Debug)]
struct Tree {
    directories: HashMap<DirId, Directory>,
    by_inode: ByInode,
    recent_names: Recent<[u8]>,
    /// Files without a name that somebody still holds: a rename to a directory that is read later
    /// looks like that.
    nameless: HashMap<InodeKey, Weak<HomeFile>>,
    nameless_max: usize,
    next_directory: u32,
    /// Grows when a directory moves: paths below it are others then.
    renames: u64,
    next_incarnation: u64,
}

/// What a directory was listed as, and in which version.
type Listing = (u64, Weak<Vec<ListedName>>);

/// The merged tree.
#[derive(Debug)]
pub struct Union {
    tree: RwLock<Tree>,
    next_file: AtomicU64,
    /// What directories were listed as, in which version, as long as somebody holds it.
    listings: Mutex<HashMap<DirId, Listing>>,
    /// Device of each home's root; 0 until it was looked at.
    root_devs: Vec<AtomicU64>,
}

/// So many listings are known before those are looked for that nobody holds any more.
const LISTINGS_MAX: usize = 64;

/// How many homes can be told apart in a directory's bit set.
pub const HOMES_MAX: usize = 64;

/// No file has it.
const NO_INODE: u64 = 0;

/// Bits of a home's inode numbers that are shown unchanged.
const INO_BITS: u32 = 40;

impl Union {
    /// An empty union over `homes` homes in order, at most [`HOMES_MAX`]; the first is the models
    /// directory, whose root has these attributes.
    pub fn new(attr: Attr, homes: usize) -> Union {
        let root = Directory {
            parent: DirId::ROOT,
            name: Arc::from(&b""[..]),
            homes: (0..homes).fold(0, |bits, home| bits | 1 << home),
            ino: shown_ino(HomeId::MODELS, &attr, attr.identity.dev),
            attr,
            sights: vec![(
                HomeId::MODELS,
                Sight {
                    attr,
                    incarnation: 0,
                },
            )],
            shown_before: None,
            version: 0,
            entries: BTreeMap::new(),
            plain_directories: 0,
            mixed: 0,
        };
        Union {
            tree: RwLock::new(Tree {
                directories: HashMap::from([(DirId::ROOT, root)]),
                by_inode: ByInode::default(),
                recent_names: Recent::new(RECENT_NAMES),
                nameless: HashMap::new(),
                nameless_max: NAMELESS_MIN,
                next_directory: 1,
                renames: 0,
                next_incarnation: 1,
            }),
            next_file: AtomicU64::new(1),
            listings: Mutex::default(),
            root_devs: (0..homes).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Tells the device of a home's root, before anything of that home is looked at.
    pub fn set_root_dev(&self, home: HomeId, dev: u64) {
        self.root_devs[usize::from(home.0)].store(dev, Ordering::Relaxed);
    }

    fn root_dev(&self, home: HomeId) -> u64 {
        self.root_devs[usize::from(home.0)].load(Ordering::Relaxed)
    }

    fn read(&self) -> RwLockReadGuard<'_, Tree> {
        debug_assert!(!works_on_live(), "the tree comes before the live state");
        self.tree.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Tree> {
        debug_assert!(!works_on_live(), "the tree comes before the live state");
        self.tree.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// What `name` in `directory` leads to.
    pub fn look_up(&self, directory: DirId, name: &[u8]) -> Option<Found> {
        let tree = self.read();
        tree.visible(tree.directories.get(&directory)?.entries.get(name)?)
    }

    /// What `path` leads to, symlinks not followed.
    pub fn find(&self, path: &RelPath) -> Option<Found> {
        let mut at = Found::Directory(DirId::ROOT);
        for name in path.names() {
            let Found::Directory(directory) = at else {
                return None;
            };
            at = self.look_up(directory, name)?;
        }
        Some(at)
    }

    /// The file's path below its home; `None` when it has no name any more.
    pub fn path_of(&self, file: &HomeFile) -> Option<RelPath> {
        let (directory, name) = file.any_name()?;
        self.directory_path(directory)?.join(&name).ok()
    }

    /// The path of a directory; `None` when it is gone.
    pub fn directory_path(&self, directory: DirId) -> Option<RelPath> {
        self.read().path(directory)
    }

    /// The parent of a directory; the root is its own.
    pub fn parent(&self, directory: DirId) -> Option<DirId> {
        Some(self.read().directories.get(&directory)?.parent)
    }

    /// The parent and name of a directory; `None` for the root and when it is gone.
    pub fn directory_name(&self, directory: DirId) -> Option<(DirId, Arc<[u8]>)> {
        let tree = self.read();
        let known = tree.directories.get(&directory)?;
        (directory != DirId::ROOT).then(|| (known.parent, Arc::clone(&known.name)))
    }

    /// A directory as it is shown.
    pub fn directory(&self, directory: DirId) -> Option<DirectoryView> {
        let tree = self.read();
        let known = tree.directories.get(&directory)?;
        let is_shown = |slot: &&Slot| {
            matches!(slot, Slot::Mixed(_))
                && matches!(tree.visible(slot), Some(Found::Directory(_)))
        };
        let shown = match known.mixed {
            0 => 0,
            _ => known.entries.values().filter(is_shown).count(),
        };
        Some(DirectoryView {
            ino: known.ino,
            attr: known.attr,
            in_models: known.homes & 1 != 0,
            subdirectories: known
                .plain_directories
                .saturating_add(u32::try_from(shown).unwrap_or(u32::MAX)),
        })
    }

    /// The inode number of a directory; `None` when it is gone.
    pub fn directory_ino(&self, directory: DirId) -> Option<u64> {
        Some(self.read().directories.get(&directory)?.ino)
    }

    /// Attributes of the root, as last seen.
    pub fn root_attr(&self) -> Attr {
        self.read().directories[&DirId::ROOT].attr
    }

    /// Whether any home but the models directory has this directory.
    pub fn is_partly_cold(&self, directory: DirId) -> bool {
        self.read()
            .directories
            .get(&directory)
            .is_none_or(|known| known.homes & !1 != 0)
    }

    /// Whether anything in or below the directory lives in cold storage.
    pub fn has_cold_below(&self, directory: DirId) -> bool {
        self.read().has_cold_below(directory)
    }

    /// Bytes of the longest path below a directory, counted from it: 0 when nothing is in it.
    pub fn path_bytes_below(&self, directory: DirId) -> usize {
        self.read().path_bytes_below(directory)
    }

    /// Directories directly below that `home` has.
    pub fn subdirectories_of(&self, home: HomeId, directory: DirId) -> Vec<DirId> {
        let tree = self.read();
        let Some(known) = tree.directories.get(&directory) else {
            return Vec::new();
        };
        let below = known
            .entries
            .keys()
            .filter_map(|name| tree.directory_at(directory, name));
        let has = |id: &DirId| {
            tree.directories
                .get(id)
                .is_some_and(|below| below.homes & (1 << home.0) != 0)
        };
        below.filter(has).collect()
    }

    /// Whether nothing is shown in the directory.
    pub fn is_empty(&self, directory: DirId) -> bool {
        self.read().is_empty(directory)
    }

    /// Whether `directory` is `ancestor` or lies below it.
    pub fn is_below(&self, directory: DirId, ancestor: DirId) -> bool {
        let tree = self.read();
        let mut at = directory;
        while at != ancestor {
            match tree.directories.get(&at) {
                Some(known) if at != DirId::ROOT => at = known.parent,
                _ => return false,
            }
        }
        true
    }

    /// The entries of a directory by name; `None` when it is gone. Whoever lists it while nothing changes in it shares
    /// them: of a large one they take megabytes.
    pub fn listing(&self, directory: DirId) -> Option<Arc<Vec<ListedName>>> {
        let version = self.read().directories.get(&directory)?.version;
        let known = lock(&self.listings).get(&directory).cloned();
        if let Some((of, listed)) = known
            && of == version
            && let Some(listed) = listed.upgrade()
        {
            return Some(listed);
        }
        let listed = Arc::new(self.list(directory)?);
        let mut listings = lock(&self.listings);
        if listings.len() >= LISTINGS_MAX {
            listings.retain(|_, (_, listed)| listed.strong_count() > 0);
        }
        listings.insert(directory, (version, Arc::downgrade(&listed)));
        Some(listed)
    }

    /// The entries of a directory by name; `None` when it is gone.
    fn list(&self, directory: DirId) -> Option<Vec<ListedName>> {
        let tree = self.read();
        let listed = tree
            .directories
            .get(&directory)?
            .entries
            .iter()
            .filter_map(|(name, slot)| {
                let (ino, kind) = match tree.visible(slot)? {
                    Found::File(file) => (file.ino, file.kind),
                    Found::Directory(id) => (tree.directories.get(&id)?.ino, Kind::Directory),
                };
                Some(ListedName {
                    name: Arc::clone(name),
                    ino,
                    kind,
                })
            });
        Some(listed.collect())
    }

    /// Every visible file, in no particular order of directories.
    pub fn for_each_file(&self, mut visit: impl FnMut(&Arc<HomeFile>)) {
        let tree = self.read();
        for directory in tree.directories.values() {
            for slot in directory.entries.values() {
                if let Some(Found::File(file)) = tree.visible(slot) {
                    visit(&file);
                }
            }
        }
    }

    /// Every visible file with its path, directory by directory.
    pub fn for_each_path(&self, mut visit: impl FnMut(&[u8], &Arc<HomeFile>)) {
        self.read().walk(&mut visit);
    }

    /// Directories that `home` has, with their paths.
    pub fn directories_of(&self, home: HomeId) -> Vec<(DirId, RelPath)> {
        let tree = self.read();
        let has = |directory: &&Directory| directory.homes & (1 << home.0) != 0;
        let found = tree
            .directories
            .iter()
            .filter(|(_, directory)| has(directory));
        found
            .filter_map(|(id, _)| Some((*id, tree.path(*id)?)))
            .collect()
    }

    /// The names that lead to the file: nothing of a home before its own hides them.
    pub fn shown_names(&self, file: &HomeFile) -> Vec<Name> {
        let tree = self.read();
        let leads_here = |(directory, name): &Name| {
            let known = tree.directories.get(directory);
            let slot = known.and_then(|known| known.entries.get(name));
            let found = slot.and_then(|slot| tree.visible(slot));
            matches!(found, Some(Found::File(found)) if found.id == file.id)
                && tree.is_visible(*directory)
        };
        let mut names = file.names();
        names.retain(leads_here);
        names
    }

    /// Whether any name leads to the file.
    pub fn shows(&self, file: &HomeFile) -> bool {
        !self.shown_names(file).is_empty()
    }

    /// Resident files at and below a name that an entry of an earlier home hides.
    pub fn hidden_residents(&self, directory: DirId, name: &[u8]) -> Vec<Arc<HomeFile>> {
        let tree = self.read();
        let known = tree.directories.get(&directory);
        let Some(Slot::Mixed(mixed)) = known.and_then(|known| known.entries.get(name)) else {
            return Vec::new();
        };
        let mut hidden = mixed.0.clone();
        if let Some(below) = mixed.1 {
            tree.files_below(below, &mut hidden);
        }
        hidden.retain(|file| file.is_resident());
        drop(tree);
        hidden.retain(|file| !self.shows(file));
        hidden
    }

    /// Number of visible and hidden files, and of directories.
    pub fn counts(&self) -> (usize, usize) {
        let tree = self.read();
        let files = tree
            .directories
            .values()
            .map(|directory| directory.entries.len())
            .sum();
        (files, tree.directories.len())
    }

    /// Which of the directories that a home has had there, one after the other, is known now; `None`: the home has
    /// none.
    pub fn incarnation(&self, home: HomeId, directory: DirId) -> Option<u64> {
        let tree = self.read();
        let sight = tree.directories.get(&directory)?.sight(home)?;
        Some(sight.incarnation)
    }

    /// That incarnation of the directory is no more: what is found under its name from now on is another one, even
    /// with the same inode number. Gives the name; `None` when another one is known already.
    pub fn directory_is_gone(
        &self,
        home: HomeId,
        directory: DirId,
        incarnation: u64,
    ) -> Option<Name> {
        let mut tree = self.write();
        let known = tree.directories.get_mut(&directory)?;
        let at = known.place_of(home).ok()?;
        let sight = &mut known.sights[at].1;
        if sight.incarnation != incarnation {
            return None;
        }
        sight.attr.identity.ino = NO_INODE;
        (directory != DirId::ROOT).then(|| (known.parent, Arc::clone(&known.name)))
    }

    /// Looks at one name in one home and makes the picture true.
    ///
    /// # Errors
    /// The home's answer, when the directory itself cannot be read.
    pub fn refresh_name(
        &self,
        home: &Home,
        directory: DirId,
        name: &[u8],
    ) -> FsResult<Vec<UnionChange>> {
        self.refresh(
            home,
            directory,
            |opened, path| home.look_up_in(opened, path, name),
            |tree, found, changes| {
                let name = tree.recent_names.share(Arc::from(name));
                self.set(tree, directory, &name, home.id(), found, changes);
            },
        )
    }

    /// Reads one directory of one home and makes the picture true. Directories found are reported,
    /// not descended into.
    ///
    /// # Errors
    /// The home's answer.
    pub fn refresh_directory(&self, home: &Home, directory: DirId) -> FsResult<Vec<UnionChange>> {
        self.refresh(
            home,
            directory,
            |opened, path| home.list_in(&opened?, path),
            |tree, found, changes| {
                let is_new = tree.is_empty(directory);
                let mut gone = tree.names_of(directory, home.id());
                for entry in found.found {
                    let name = tree.recent_names.share(Arc::from(entry.name.as_slice()));
                    gone.remove(&name);
                    self.set(tree, directory, &name, home.id(), Some(entry), changes);
                }
                for name in found.unanswered {
                    gone.remove(name.as_slice());
                }
                for name in gone {
                    self.set(tree, directory, &name, home.id(), None, changes);
                }
                if is_new && let Some(known) = tree.directories.get_mut(&directory) {
                    known.pack();
                }
            },
        )
    }

    /// Whether a descriptor that was had by the directory's path in a home is of the directory that we know there,
    /// and not of another that has its name by now.
    pub fn is_directory(&self, home: &Home, directory: DirId, opened: &OwnedFd) -> bool {
        if directory == DirId::ROOT {
            return true;
        }
        let known = {
            let tree = self.read();
            let known = tree.directories.get(&directory);
            known.and_then(|known| Some(known.sight(home.id())?.attr))
        };
        known.is_none_or(|known| home.is_it(&known, opened))
    }

    /// Looks outside the lock, and applies only when the directory did not change meanwhile. What another directory
    /// holds that has the name by now is not this one's: its name is looked at instead.
    fn refresh<T>(
        &self,
        home: &Home,
        directory: DirId,
        look: impl Fn(FsResult<OwnedFd>, &RelPath) -> FsResult<T>,
        apply: impl FnOnce(&mut Tree, T, &mut Vec<UnionChange>),
    ) -> FsResult<Vec<UnionChange>> {
        loop {
            let gone = || FsError::new("refresh", ErrorKind::NotFound);
            let (version, path) = {
                let tree = self.read();
                let known = tree.directories.get(&directory).ok_or_else(gone)?;
                (
                    (known.version, tree.renames),
                    tree.path(directory).ok_or_else(gone)?,
                )
            };
            let opened = home.directory(&path);
            if let Ok(opened) = &opened
                && !self.is_directory(home, directory, opened)
            {
                let above = self.directory_name(directory).ok_or_else(gone)?;
                return self.refresh_name(home, above.0, &above.1);
            }
            let found = look(opened, &path)?;
            let mut tree = self.write();
            let renames = tree.renames;
            let known = tree.directories.get_mut(&directory).ok_or_else(gone)?;
            if (known.version, renames) == version {
                known.version += 1;
                let mut changes = Vec::new();
                apply(&mut tree, found, &mut changes);
                return Ok(changes);
            }
        }
    }

    /// Moves the models directory's entry of a name to another name, where it replaces the models
    /// directory's entry; the caller has done the same in the home. Records and identifiers stay.
    pub fn rename(&self, from: (DirId, &[u8]), to: (DirId, &[u8]), changes: &mut Vec<UnionChange>) {
        let mut tree = self.write();
        let (from_name, to_name): (Arc<[u8]>, Arc<[u8]>) = (from.1.into(), to.1.into());
        let Some(moved) = tree.take(from.0, &from_name) else {
            return;
        };
        self.set(&mut tree, to.0, &to_name, HomeId::MODELS, None, changes);
        tree.put(to.0, &to_name, moved, changes);
        tree.touched(from.0, &from_name, changes);
        tree.touched(to.0, &to_name, changes);
    }

    /// Exchanges the models directory's entries of two names; the home has been changed already.
    pub fn exchange(&self, one: (DirId, &[u8]), two: (DirId, &[u8])) -> Vec<UnionChange> {
        let mut changes = Vec::new();
        let mut tree = self.write();
        let (one_name, two_name): (Arc<[u8]>, Arc<[u8]>) = (one.1.into(), two.1.into());
        let (first, second) = (tree.take(one.0, &one_name), tree.take(two.0, &two_name));
        if let Some(entry) = first {
            tree.put(two.0, &two_name, entry, &mut changes);
        }
        if let Some(entry) = second {
            tree.put(one.0, &one_name, entry, &mut changes);
        }
        tree.touched(one.0, &one_name, &mut changes);
        tree.touched(two.0, &two_name, &mut changes);
        changes
    }

    /// Sets what one home has under a name; `None`: nothing.
    fn set(
        &self,
        tree: &mut Tree,
        directory: DirId,
        name: &Arc<[u8]>,
        home: HomeId,
        found: Option<Listed>,
        changes: &mut Vec<UnionChange>,
    ) {
        let before = tree.seen(directory, name);
        let wants_directory = found
            .as_ref()
            .is_some_and(|f| f.attr.kind == Kind::Directory);
        if !wants_directory {
            tree.remove_directory_of(directory, name, home, changes);
        }
        match found {
            Some(listed) if wants_directory => {
                tree.remove_file_of(directory, name, home, changes);
                let dev = self.root_dev(home);
                if tree.has_other_directory(directory, name, home, &listed.attr) {
                    tree.remove_directory_of(directory, name, home, changes);
                }
                tree.add_directory(directory, name, home, &listed.attr, dev, changes);
            }
            Some(listed) => self.set_file(tree, directory, name, home, listed, changes),
            None => tree.remove_file_of(directory, name, home, changes),
        }
        if tree.seen(directory, name) != before {
            changes.push(UnionChange::Name(directory, Arc::clone(name)));
            changes.push(UnionChange::DirectoryAttr(directory));
        }
    }

    fn set_file(
        &self,
        tree: &mut Tree,
        directory: DirId,
        name: &Arc<[u8]>,
        home: HomeId,
        listed: Listed,
        changes: &mut Vec<UnionChange>,
    ) {
        let identity = listed.attr.identity;
        let is_it = |known: &HomeFile| {
            let inode = known.inode() == (identity.dev, identity.ino);
            inode && known.kind == listed.attr.kind && known.target == listed.target
        };
        let key = (home, identity.dev, identity.ino);
        let nameless = tree.nameless.remove(&key).and_then(|file| file.upgrade());
        let linked = tree.by_inode.get(key).cloned().or(nameless);
        let linked = linked.filter(|file| is_it(file));
        if let Some(known) = tree.file_of(directory, name, home) {
            if is_it(&known) && linked.as_ref().is_none_or(|linked| linked.id == known.id) {
                tree.by_inode.insert(&known);
                return note_attr(&known, listed.attr, changes);
            }
            tree.remove_file_of(directory, name, home, changes);
        }
        let file = match linked {
            // One more name of a file that is known, or its new one.
            Some(linked) => {
                note_attr(&linked, listed.attr, changes);
                changes.push(UnionChange::FileNames(Arc::clone(&linked)));
                linked
            }
            None => {
                let id = FileId(self.next_file.fetch_add(1, Ordering::Relaxed));
                let ino = shown_ino(home, &listed.attr, self.root_dev(home));
                Arc::new(HomeFile::new(id, home, ino, listed.attr, listed.target))
            }
        };
        tree.by_inode.insert(&file);
        tree.put_file(directory, name, file);
    }
}

/// Records attributes just seen; what they tell of a change is reported.
fn note_attr(file: &Arc<HomeFile>, attr: Attr, changes: &mut Vec<UnionChange>) {
    let former = file.set_attr(attr);
    if !former.identity.same_contents(&attr.identity) {
        changes.push(UnionChange::FileChanged(Arc::clone(file)));
    } else if former != attr {
        changes.push(UnionChange::FileAttr(Arc::clone(file)));
    }
}

/// What says whom a directory lets in.
fn lets_in(attr: &Attr) -> (u32, u32, u16) {
    (attr.uid, attr.gid, attr.permissions)
}

/// An inode number that is stable across restarts and differs between homes.
fn shown_ino(home: HomeId, attr: &Attr, root_dev: u64) -> u64 {
    let (dev, ino) = (attr.identity.dev, attr.identity.ino);
    if dev == root_dev && ino >> INO_BITS == 0 {
        return ino | u64::from(home.0) << INO_BITS;
    }
    // A file system mounted inside the home, or very large numbers: mixed, and told apart by a bit.
    let mixed = (dev ^ ino.rotate_left(24)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed >> 2 | 1 << 62
}

/// A directory that a home is being taken out of.
struct Leaving {
    parent: DirId,
    name: Arc<[u8]>,
    id: DirId,
    /// What its name led to.
    before: Option<(bool, u64)>,
    /// Its entries that have not been looked at.
    names: std::vec::IntoIter<Arc<[u8]>>,
}

/// An entry of the models directory on its way from one name to another.
enum Moved {
    File(Arc<HomeFile>),
    Directory(DirId),
}

impl Tree {
    fn is_empty(&self, directory: DirId) -> bool {
        self.directories
            .get(&directory)
            .is_none_or(|known| known.entries.is_empty())
    }

    fn home_of_directory(&self, directory: DirId) -> u32 {
        self.directories
            .get(&directory)
            .map_or(u32::MAX, |known| known.homes.trailing_zeros())
    }

    fn visible(&self, slot: &Slot) -> Option<Found> {
        match slot {
            Slot::File(file) => Some(Found::File(Arc::clone(file))),
            Slot::Directory(directory) => Some(Found::Directory(*directory)),
            Slot::Mixed(mixed) => match (mixed.0.first(), mixed.1) {
                (Some(file), Some(directory))
                    if self.home_of_directory(directory) < u32::from(file.home.0) =>
                {
                    Some(Found::Directory(directory))
                }
                (Some(file), _) => Some(Found::File(Arc::clone(file))),
                (None, directory) => directory.map(Found::Directory),
            },
        }
    }

    /// Whether a path leads to the directory.
    fn is_visible(&self, directory: DirId) -> bool {
        let mut at = directory;
        while at != DirId::ROOT {
            let Some(known) = self.directories.get(&at) else {
                return false;
            };
            let parent = self.directories.get(&known.parent);
            let slot = parent.and_then(|parent| parent.entries.get(&known.name));
            let found = slot.and_then(|slot| self.visible(slot));
            if !matches!(found, Some(Found::Directory(found)) if found == at) {
                return false;
            }
            at = known.parent;
        }
        true
    }

    /// All files below a directory, hidden ones too.
    fn files_below(&self, directory: DirId, files: &mut Vec<Arc<HomeFile>>) {
        let mut waiting = vec![directory];
        while let Some(known) = waiting.pop().map(|at| self.directories.get(&at)) {
            for slot in known.iter().flat_map(|known| known.entries.values()) {
                match slot {
                    Slot::File(file) => files.push(Arc::clone(file)),
                    Slot::Directory(below) => waiting.push(*below),
                    Slot::Mixed(mixed) => {
                        files.extend(mixed.0.iter().cloned());
                        waiting.extend(mixed.1);
                    }
                }
            }
        }
    }

    /// What a name leads to, in a form that can be compared.
    fn seen(&self, directory: DirId, name: &[u8]) -> Option<(bool, u64)> {
        let slot = self.directories.get(&directory)?.entries.get(name)?;
        self.visible(slot).map(|found| match found {
            Found::Directory(id) => (true, u64::from(id.0)),
            Found::File(file) => (false, file.id.0),
        })
    }

    fn walk(&self, visit: &mut impl FnMut(&[u8], &Arc<HomeFile>)) {
        let entries = |directory| self.directories.get(&directory).map(|it| it.entries.iter());
        let mut path = Vec::new();
        // The directories from the root down to where we are: the rest of each, and the length of its path.
        let mut above: Vec<_> = entries(DirId::ROOT)
            .map(|root| (root, 0))
            .into_iter()
            .collect();
        while let Some((rest, length)) = above.last_mut() {
            path.truncate(*length);
            let Some((name, slot)) = rest.next() else {
                above.pop();
                continue;
            };
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name);
            match self.visible(slot) {
                Some(Found::File(file)) => visit(&path, &file),
                Some(Found::Directory(below)) => {
                    above.extend(entries(below).map(|below| (below, path.len())));
                }
                None => {}
            }
        }
    }

    fn has_cold_below(&self, directory: DirId) -> bool {
        let mut waiting = vec![directory];
        while let Some(at) = waiting.pop() {
            let Some(known) = self.directories.get(&at) else {
                continue;
            };
            if known.homes & !1 != 0 {
                return true;
            }
            waiting.extend(known.entries.values().filter_map(Slot::directory));
        }
        false
    }

    /// Bytes of the longest path below a directory, from its own entries on.
    fn path_bytes_below(&self, directory: DirId) -> usize {
        let (mut longest, mut waiting) = (0, vec![(directory, 0)]);
        while let Some((at, length)) = waiting.pop() {
            let Some(known) = self.directories.get(&at) else {
                continue;
            };
            for (name, slot) in &known.entries {
                let length = length + usize::from(length > 0) + name.len();
                longest = longest.max(length);
                waiting.extend(slot.directory().map(|below| (below, length)));
            }
        }
        longest
    }

    fn path(&self, directory: DirId) -> Option<RelPath> {
        let mut names = Vec::new();
        let mut at = directory;
        while at != DirId::ROOT {
            let known = self.directories.get(&at)?;
            names.push(&known.name);
            at = known.parent;
        }
        names
            .iter()
            .rev()
            .try_fold(RelPath::root(), |path, name| path.join(name).ok())
    }

    /// The slot of a name taken apart: files of all homes, directory.
    fn take_slot(&mut self, directory: DirId, name: &[u8]) -> (Vec<Arc<HomeFile>>, Option<DirId>) {
        let slot = self.directories.get_mut(&directory).and_then(|known| {
            let slot = known.entries.remove(name)?;
            known.count(&slot, false);
            Some(slot)
        });
        slot.map_or_else(Default::default, Slot::take_apart)
    }

    fn put_slot(
        &mut self,
        directory: DirId,
        name: &Arc<[u8]>,
        mut files: Vec<Arc<HomeFile>>,
        below: Option<DirId>,
    ) {
        files.sort_by_key(|file| file.home);
        let slot = match (files.len(), below) {
            (0, None) => return,
            (0, Some(id)) => Slot::Directory(id),
            (1, None) => Slot::File(files.swap_remove(0)),
            _ => Slot::Mixed(Box::new((files, below))),
        };
        if let Some(known) = self.directories.get_mut(&directory) {
            known.count(&slot, true);
            if let Some(former) = known.entries.insert(Arc::clone(name), slot) {
                known.count(&former, false);
            }
        }
    }

    fn file_of(&self, directory: DirId, name: &[u8], home: HomeId) -> Option<Arc<HomeFile>> {
        match self.directories.get(&directory)?.entries.get(name)? {
            Slot::File(file) if file.home == home => Some(Arc::clone(file)),
            Slot::Mixed(mixed) => mixed.0.iter().find(|file| file.home == home).cloned(),
            _ => None,
        }
    }

    fn put_file(&mut self, directory: DirId, name: &Arc<[u8]>, file: Arc<HomeFile>) {
        file.add_name(directory, name);
        let (mut files, below) = self.take_slot(directory, name);
        files.retain(|known| known.home != file.home);
        files.push(file);
        self.put_slot(directory, name, files, below);
    }

    fn remove_file_of(
        &mut self,
        directory: DirId,
        name: &Arc<[u8]>,
        home: HomeId,
        changes: &mut Vec<UnionChange>,
    ) {
        let Some(file) = self.file_of(directory, name, home) else {
            return;
        };
        let (mut files, below) = self.take_slot(directory, name);
        files.retain(|known| known.home != home);
        self.put_slot(directory, name, files, below);
        if file.remove_name(directory, name) {
            self.by_inode.remove(&file);
            self.keep_nameless(inode_key(&file), &file);
            changes.push(UnionChange::FileGone(file, directory, Arc::clone(name)));
        } else {
            changes.push(UnionChange::FileNames(file));
        }
    }

    fn keep_nameless(&mut self, key: InodeKey, file: &Arc<HomeFile>) {
        if self.nameless.len() >= self.nameless_max {
            self.nameless.retain(|_, file| file.strong_count() > 0);
            self.nameless_max = NAMELESS_MIN.max(2 * self.nameless.len());
        }
        self.nameless.insert(key, Arc::downgrade(file));
    }

    fn directory_at(&self, directory: DirId, name: &[u8]) -> Option<DirId> {
        let known = self.directories.get(&directory)?;
        known.entries.get(name)?.directory()
    }

    fn add_directory(
        &mut self,
        parent: DirId,
        name: &Arc<[u8]>,
        home: HomeId,
        attr: &Attr,
        root_dev: u64,
        changes: &mut Vec<UnionChange>,
    ) {
        let bit = 1 << home.0;
        let id = self.directory_at(parent, name).unwrap_or_else(|| {
            let id = DirId(self.next_directory);
            self.next_directory += 1;
            let fresh = Directory {
                parent,
                name: Arc::clone(name),
                homes: 0,
                ino: shown_ino(home, attr, root_dev),
                attr: *attr,
                sights: Vec::new(),
                shown_before: None,
                version: 0,
                entries: BTreeMap::new(),
                plain_directories: 0,
                mixed: 0,
            };
            self.directories.insert(id, fresh);
            let (files, _) = self.take_slot(parent, name);
            self.put_slot(parent, name, files, Some(id));
            id
        });
        let Some(known) = self.directories.get_mut(&id) else {
            return;
        };
        let (shown, is_new) = (known.attr, known.homes & bit == 0);
        let fresh = Sight {
            attr: *attr,
            incarnation: self.next_incarnation,
        };
        let sight = known.sight_or_insert(home, fresh);
        let lets_in_others = is_new || lets_in(&sight.attr) != lets_in(attr);
        sight.attr = *attr;
        known.show_first();
        if lets_in_others && known.sights.len() > 1 {
            changes.push(UnionChange::DirectoryPermissions(id));
        }
        if known.attr != shown {
            changes.push(UnionChange::DirectoryAttr(id));
        }
        if is_new {
            self.next_incarnation += 1;
            known.homes |= bit;
            changes.push(UnionChange::DirectoryFound(home, id));
        }
    }

    /// Whether the home had another directory there: one that has taken its name is read and watched anew.
    fn has_other_directory(&self, parent: DirId, name: &[u8], home: HomeId, attr: &Attr) -> bool {
        let known = self
            .directory_at(parent, name)
            .and_then(|id| self.directories.get(&id)?.sight(home));
        let inode = |attr: &Attr| (attr.identity.dev, attr.identity.ino);
        known.is_some_and(|known| inode(&known.attr) != inode(attr))
    }

    /// Takes a home out of a directory and of everything below.
    fn remove_directory_of(
        &mut self,
        parent: DirId,
        name: &Arc<[u8]>,
        home: HomeId,
        changes: &mut Vec<UnionChange>,
    ) {
        // From the top down to where we are.
        let mut leaving: Vec<_> = self.start_leaving(parent, name, home).into_iter().collect();
        while let Some(at) = leaving.last_mut() {
            if let Some(below) = at.names.next() {
                let before = self.seen(at.id, &below);
                match self.start_leaving(at.id, &below, home) {
                    Some(deeper) => leaving.push(Leaving { before, ..deeper }),
                    None => self.leave_name(at.id, &below, before, home, changes),
                }
                continue;
            }
            if let Some(done) = leaving.pop() {
                self.finish_leaving(&done, home, changes);
                if !leaving.is_empty() {
                    self.leave_name(done.parent, &done.name, done.before, home, changes);
                }
            }
        }
    }

    /// `None` when the home has no directory there.
    fn start_leaving(&mut self, parent: DirId, name: &Arc<[u8]>, home: HomeId) -> Option<Leaving> {
        let id = self.directory_at(parent, name)?;
        let known = self.directories.get_mut(&id)?;
        if known.homes & (1 << home.0) == 0 {
            return None;
        }
        known.version += 1;
        let names: Vec<Arc<[u8]>> = known.entries.keys().cloned().collect();
        Some(Leaving {
            parent,
            name: Arc::clone(name),
            id,
            before: None,
            names: names.into_iter(),
        })
    }

    /// The home's directory of this name is taken out already, if it had one.
    fn leave_name(
        &mut self,
        directory: DirId,
        name: &Arc<[u8]>,
        before: Option<(bool, u64)>,
        home: HomeId,
        changes: &mut Vec<UnionChange>,
    ) {
        self.remove_file_of(directory, name, home, changes);
        // The directory may stay, for what other homes have in it.
        if self.seen(directory, name) != before {
            changes.push(UnionChange::Name(directory, Arc::clone(name)));
        }
    }

    fn finish_leaving(&mut self, done: &Leaving, home: HomeId, changes: &mut Vec<UnionChange>) {
        let Some(known) = self.directories.get_mut(&done.id) else {
            return;
        };
        known.homes &= !(1 << home.0);
        known.sights.retain(|(of, _)| *of != home);
        known.show_another();
        if known.homes == 0 {
            self.directories.remove(&done.id);
            let (files, _) = self.take_slot(done.parent, &done.name);
            self.put_slot(done.parent, &done.name, files, None);
            changes.push(UnionChange::DirectoryGone(done.id));
        } else {
            changes.push(UnionChange::DirectoryPermissions(done.id));
        }
    }

    /// Names under which `home` has something in the directory.
    fn names_of(&self, directory: DirId, home: HomeId) -> std::collections::BTreeSet<Arc<[u8]>> {
        let Some(known) = self.directories.get(&directory) else {
            return Default::default();
        };
        let has = |slot: &Slot| {
            let (files, below) = match slot {
                Slot::File(file) => (std::slice::from_ref(file), None),
                Slot::Directory(id) => (&[][..], Some(*id)),
                Slot::Mixed(mixed) => (mixed.0.as_slice(), mixed.1),
            };
            let bit = 1 << home.0;
            files.iter().any(|file| file.home == home)
                || below
                    .and_then(|id| self.directories.get(&id))
                    .is_some_and(|below| below.homes & bit != 0)
        };
        known
            .entries
            .iter()
            .filter(|(_, slot)| has(slot))
            .map(|(n, _)| Arc::clone(n))
            .collect()
    }

    /// Takes the models directory's entry out of a name.
    fn take(&mut self, directory: DirId, name: &Arc<[u8]>) -> Option<Moved> {
        if let Some(file) = self.file_of(directory, name, HomeId::MODELS) {
            let (mut files, below) = self.take_slot(directory, name);
            files.retain(|known| known.home != HomeId::MODELS);
            self.put_slot(directory, name, files, below);
            file.remove_name(directory, name);
            return Some(Moved::File(file));
        }
        let id = self.directory_at(directory, name)?;
        let (files, _) = self.take_slot(directory, name);
        self.put_slot(directory, name, files, None);
        Some(Moved::Directory(id))
    }

    fn put(
        &mut self,
        directory: DirId,
        name: &Arc<[u8]>,
        moved: Moved,
        changes: &mut Vec<UnionChange>,
    ) {
        match moved {
            Moved::File(file) => self.put_file(directory, name, file),
            Moved::Directory(id) => {
                let (files, hidden) = self.take_slot(directory, name);
                self.put_slot(directory, name, files, Some(id));
                self.adopt_directory(id, directory, name);
                if let Some(hidden) = hidden {
                    self.merge(hidden, id, changes);
                }
            }
        }
    }

    fn adopt_directory(&mut self, id: DirId, parent: DirId, name: &Arc<[u8]>) {
        self.renames += 1;
        if let Some(known) = self.directories.get_mut(&id) {
            known.parent = parent;
            known.name = Arc::clone(name);
        }
    }

    /// Makes one directory of two that have one name now: of the models directory, and of cold
    /// storage, where a file had hidden it.
    fn merge(&mut self, from: DirId, into: DirId, changes: &mut Vec<UnionChange>) {
        let mut waiting = vec![(from, into)];
        while let Some((from, into)) = waiting.pop() {
            let Some(hidden) = self.directories.remove(&from) else {
                continue;
            };
            changes.push(UnionChange::DirectoryGone(from));
            if let Some(known) = self.directories.get_mut(&into) {
                known.homes |= hidden.homes;
                for (home, sight) in hidden.sights {
                    known.sight_or_insert(home, sight);
                    // Watches go by directory: what was watched as the hidden one is watched anew.
                    changes.push(UnionChange::DirectoryFound(home, into));
                }
                known.version += 1;
                changes.push(UnionChange::DirectoryPermissions(into));
            }
            for (name, slot) in hidden.entries {
                let (files, below) = slot.take_apart();
                for file in files {
                    file.remove_name(from, &name);
                    self.put_file(into, &name, file);
                }
                let Some(below) = below else { continue };
                match self.directory_at(into, &name) {
                    Some(known) => waiting.push((below, known)),
                    None => {
                        let (files, _) = self.take_slot(into, &name);
                        self.put_slot(into, &name, files, Some(below));
                        self.adopt_directory(below, into, &name);
                    }
                }
            }
        }
    }

    fn touched(&mut self, directory: DirId, name: &Arc<[u8]>, changes: &mut Vec<UnionChange>) {
        if let Some(known) = self.directories.get_mut(&directory) {
            known.version += 1;
        }
        changes.push(UnionChange::Name(directory, Arc::clone(name)));
    }
}
