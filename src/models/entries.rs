//! All paths of the tree, packed: 100,000 files must cost a few MiB, not a few tens.
//!
//! Names live in one arena, directories in another, and everything else speaks in positions
//! (`u32`). The table is sorted by path and never changes once built, but for the facts attached.

use super::tree::{FileKind, TreeFile};
use std::cmp::Ordering;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

/// No entry, no facts.
pub(crate) const NONE: u32 = u32::MAX;
/// As many links are followed as the kernel would follow.
const HOPS_MAX: u32 = 40;
/// Path components that are walked for one path: links to links to links cost no more.
const STEPS_MAX: usize = 256;
/// Hard links of one file that are searched for what was read by another name.
const LINKS_MAX: usize = 64;

/// So many names that came last are looked through for an equal one: directories of models have the same.
const RECENT_NAMES: usize = 1024;

const IS_LINK: u8 = 1;
const IS_OTHER: u8 = 2;
const IS_COLD: u8 = 4;

#[derive(Debug)]
struct Entry {
    file: u64,
    size: u64,
    mtime_ns: i64,
    name: u32,
    directory: u32,
    /// Of a regular file its facts, of a link the file that it leads to.
    behind: u32,
    name_len: u16,
    flags: u8,
}

/// Where names begin that came last, each at the place that its hash says.
struct RecentNames {
    starts: Vec<u32>,
    hasher: RandomState,
}

impl RecentNames {
    fn new() -> Self {
        Self {
            starts: vec![NONE; RECENT_NAMES],
            hasher: RandomState::new(),
        }
    }

    /// Where a name is or would be kept.
    fn place(&mut self, name: &[u8]) -> &mut u32 {
        let place = self.hasher.hash_one(name) % RECENT_NAMES as u64;
        // Smaller than their number.
        &mut self.starts[usize::try_from(place).unwrap_or(0)]
    }
}

/// The table of all files.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    entries: Vec<Entry>,
    names: Vec<u8>,
    /// Start of each directory's path in `directory_paths`; sorted by path.
    directories: Vec<u32>,
    directory_paths: Vec<u8>,
    /// Links that lead to no file: to a directory, out of the tree, nowhere.
    links: HashMap<u32, Box<[u8]>>,
    by_file: Vec<u32>,
    /// Files that did not fit into 32-bit positions.
    pub(crate) left_out: usize,
}

impl Entries {
    /// Packs what a tree lists. Repeated paths and paths that are not plain are left out.
    pub(crate) fn new(mut files: Vec<TreeFile>) -> Self {
        if !files.is_sorted_by(|a, b| a.path < b.path) {
            files.sort_by(|a, b| a.path.cmp(&b.path));
            files.dedup_by(|a, b| a.path == b.path);
        }
        let mut table = Self {
            entries: Vec::with_capacity(files.len()),
            ..Self::default()
        };
        let listed = files.len();
        let directory_of = table.pack_directories(&files);
        let mut recent = RecentNames::new();
        for (file, directory) in files.into_iter().zip(directory_of) {
            table.push(file, directory, &mut recent);
        }
        table.left_out = listed - table.entries.len();
        table.names.shrink_to_fit();
        table.follow_links();
        let mut by_file: Vec<u32> = (0..table.len()).filter(|i| table.is_regular(*i)).collect();
        by_file.sort_unstable_by_key(|i| (table.file(*i), *i));
        by_file.shrink_to_fit();
        table.by_file = by_file;
        table
    }

    /// Sorts the directories; answers the one of each file, [`NONE`] if it did not fit.
    fn pack_directories(&mut self, files: &[TreeFile]) -> Vec<u32> {
        let mut paths: Vec<&[u8]> = files.iter().map(|file| split_path(&file.path).0).collect();
        paths.sort_unstable();
        paths.dedup();
        for path in &paths {
            let (Ok(start), Ok(_)) = (
                u32::try_from(self.directory_paths.len()),
                u32::try_from(self.directory_paths.len() + path.len()),
            ) else {
                break;
            };
            self.directories.push(start);
            self.directory_paths.extend(*path);
        }
        self.directories.shrink_to_fit();
        self.directory_paths.shrink_to_fit();
        let mut last = (NONE, [].as_slice());
        files
            .iter()
            .map(|file| {
                let directory = split_path(&file.path).0;
                if last.0 == NONE || last.1 != directory {
                    last = (self.find_directory(directory).unwrap_or(NONE), directory);
                }
                last.0
            })
            .collect()
    }

    fn push(&mut self, file: TreeFile, directory: u32, recent: &mut RecentNames) {
        let name = split_path(&file.path).1;
        let (Ok(end), Ok(name_len), Ok(index)) = (
            u32::try_from(self.names.len() + name.len()),
            u16::try_from(name.len()),
            u32::try_from(self.entries.len() + 1),
        ) else {
            return;
        };
        if directory == NONE || name.is_empty() || file.path.starts_with(b"/") {
            return;
        }
        let place = recent.place(name);
        if self
            .names
            .get(*place as usize..)
            .is_none_or(|from| !from.starts_with(name))
        {
            self.names.extend(name);
            *place = end - u32::from(name_len);
        }
        let (start, index) = (*place, index - 1);
        let flags = match file.kind {
            FileKind::Regular => 0,
            FileKind::Other => IS_OTHER,
            FileKind::Symlink(target) => {
                self.links.insert(index, target.into_boxed_slice());
                IS_LINK
            }
        } | if file.cold { IS_COLD } else { 0 };
        self.entries.push(Entry {
            file: file.file,
            size: file.size,
            mtime_ns: i64::try_from(file.mtime_ns).unwrap_or(if file.mtime_ns < 0 {
                i64::MIN
            } else {
                i64::MAX
            }),
            name: start,
            directory,
            behind: NONE,
            name_len,
            flags,
        });
    }

    fn follow_links(&mut self) {
        let mut indices: Vec<u32> = self.links.keys().copied().collect();
        indices.sort_unstable();
        let real: Vec<Option<u32>> = indices
            .iter()
            .map(|i| {
                self.follow_plain(*i)
                    .or_else(|| self.lookup(&self.path(*i)))
            })
            .collect();
        for (index, real) in indices.into_iter().zip(real) {
            if let Some(real) = real {
                self.entry_mut(index).behind = real;
                self.links.remove(&index);
            }
        }
        self.links.shrink_to_fit();
    }

    /// Follows a link such as `../../blobs/HEX` with one search: what holds files is a directory,
    /// never a link, so climbing from there by name is climbing on disk.
    fn follow_plain(&self, index: u32) -> Option<u32> {
        let mut target: &[u8] = self.links.get(&index)?;
        let mut base = self.directory_path(self.directory(index));
        while let Some(rest) = target.strip_prefix(b"../") {
            if base.is_empty() {
                return None;
            }
            base = split_path(base).0;
            target = rest;
        }
        let found = self.find(&join(base, target))?;
        self.is_regular(found).then_some(found)
    }

    fn entry(&self, index: u32) -> &Entry {
        &self.entries[index as usize]
    }

    fn entry_mut(&mut self, index: u32) -> &mut Entry {
        &mut self.entries[index as usize]
    }

    /// Number of entries.
    pub(crate) fn len(&self) -> u32 {
        u32::try_from(self.entries.len()).unwrap_or(NONE)
    }

    /// Identity of the file.
    pub(crate) fn file(&self, index: u32) -> u64 {
        self.entry(index).file
    }

    /// Bytes.
    pub(crate) fn size(&self, index: u32) -> u64 {
        self.entry(index).size
    }

    /// Whether its home is cold.
    pub(crate) fn is_cold(&self, index: u32) -> bool {
        self.entry(index).flags & IS_COLD != 0
    }

    /// Whether it is a regular file, not a link to one.
    pub(crate) fn is_regular(&self, index: u32) -> bool {
        self.entry(index).flags & (IS_LINK | IS_OTHER) == 0
    }

    /// The regular file that the entry is or leads to.
    pub(crate) fn real(&self, index: u32) -> Option<u32> {
        match self.is_regular(index) {
            true => Some(index),
            false => Some(self.entry(index).behind).filter(|real| *real != NONE),
        }
    }

    /// Position of what was read from the regular file, or [`NONE`].
    pub(crate) fn facts(&self, index: u32) -> u32 {
        match self.is_regular(index) {
            true => self.entry(index).behind,
            false => NONE,
        }
    }

    /// Position of what was read from the file by any of its hard links, or [`NONE`].
    pub(crate) fn facts_of_links(&self, index: u32) -> u32 {
        let own = self.facts(index);
        let mut links = self.of_file(self.file(index)).iter().take(LINKS_MAX);
        let of_link = links.find_map(|link| Some(self.facts(*link)).filter(|facts| *facts != NONE));
        if own != NONE {
            own
        } else {
            of_link.unwrap_or(NONE)
        }
    }

    /// Attaches what was read from the regular file.
    pub(crate) fn set_facts(&mut self, index: u32, facts: u32) {
        if self.is_regular(index) {
            self.entry_mut(index).behind = facts;
        }
    }

    /// Its name without directory.
    pub(crate) fn name(&self, index: u32) -> &[u8] {
        let entry = self.entry(index);
        let start = entry.name as usize;
        &self.names[start..start + usize::from(entry.name_len)]
    }

    /// Its directory.
    pub(crate) fn directory(&self, index: u32) -> u32 {
        self.entry(index).directory
    }

    /// Number of directories that hold files.
    pub(crate) fn directories(&self) -> u32 {
        u32::try_from(self.directories.len()).unwrap_or(NONE)
    }

    /// Path of a directory; empty for the top.
    pub(crate) fn directory_path(&self, directory: u32) -> &[u8] {
        let start = self.directories[directory as usize] as usize;
        let next = self.directories.get(directory as usize + 1);
        &self.directory_paths[start..next.map_or(self.directory_paths.len(), |end| *end as usize)]
    }

    /// The directory of this path that holds files itself.
    pub(crate) fn find_directory(&self, path: &[u8]) -> Option<u32> {
        search(self.directories(), |index| {
            self.directory_path(index).cmp(path)
        })
    }

    /// The directories whose paths begin with these bytes.
    pub(crate) fn directories_from(&self, start: &[u8]) -> std::ops::Range<u32> {
        let first = lower_bound(self.directories(), |index| {
            self.directory_path(index) < start
        });
        let inside = |index| self.directory_path(index).starts_with(start);
        first..lower_bound(self.directories(), |index| index < first || inside(index))
    }

    /// Its path.
    pub(crate) fn path(&self, index: u32) -> Vec<u8> {
        join(self.directory_path(self.directory(index)), self.name(index))
    }

    /// The entry of exactly this path.
    pub(crate) fn find(&self, path: &[u8]) -> Option<u32> {
        search(self.len(), |index| self.compare_path(index, path))
    }

    fn compare_path(&self, index: u32, path: &[u8]) -> Ordering {
        let directory = self.directory_path(self.directory(index));
        let slash: &[u8] = if directory.is_empty() { b"" } else { b"/" };
        let mut rest = path;
        for piece in [directory, slash, self.name(index)] {
            let cut = piece.len().min(rest.len());
            match piece[..cut].cmp(&rest[..cut]) {
                Ordering::Equal if cut < piece.len() => return Ordering::Greater,
                Ordering::Equal => rest = &rest[cut..],
                unequal => return unequal,
            }
        }
        if rest.is_empty() {
            Ordering::Equal
        } else {
            Ordering::Less
        }
    }

    /// The regular file at `path`, symbolic links in it followed.
    pub(crate) fn lookup(&self, path: &[u8]) -> Option<u32> {
        let mut todo: Vec<&[u8]> = path.rsplit(|byte| *byte == b'/').collect();
        let mut at = Vec::new();
        let mut hops = 0;
        for _ in 0..STEPS_MAX {
            let part = todo.pop()?;
            match part {
                b"" | b"." => continue,
                // A path that climbs out of the tree leads to nothing that we know.
                b".." if at.is_empty() => return None,
                b".." => {
                    at.truncate(split_path(&at).0.len());
                    continue;
                }
                _ => {}
            }
            let next = join(&at, part);
            match self.find(&next) {
                None => at = next,
                Some(index) if todo.is_empty() && self.real(index).is_some() => {
                    return self.real(index);
                }
                Some(index) => {
                    hops += 1;
                    let target = self.links.get(&index).filter(|_| hops <= HOPS_MAX)?;
                    if target.starts_with(b"/") {
                        return None;
                    }
                    todo.extend(target.rsplit(|byte| *byte == b'/'));
                }
            }
        }
        None
    }

    /// The entries of a file, hard links side by side.
    pub(crate) fn of_file(&self, file: u64) -> &[u32] {
        let start = self.by_file.partition_point(|i| self.file(*i) < file);
        let end = self.by_file.partition_point(|i| self.file(*i) <= file);
        &self.by_file[start..end]
    }

    /// Position of the facts that were read from the same bytes as `index` of `newer` has.
    pub(crate) fn facts_of_unchanged(&self, newer: &Self, index: u32) -> Option<u32> {
        let entry = newer.entry(index);
        self.of_file(entry.file)
            .iter()
            .take(LINKS_MAX)
            .map(|i| self.entry(*i))
            .find(|old| {
                old.behind != NONE && (old.size, old.mtime_ns) == (entry.size, entry.mtime_ns)
            })
            .map(|old| old.behind)
    }

    /// Bytes that the table holds on the heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
            + self.names.capacity()
            + self.directory_paths.capacity()
            + (self.directories.capacity() + self.by_file.capacity()) * size_of::<u32>()
            + self
                .links
                .values()
                .map(|target| target.len() + 32)
                .sum::<usize>()
    }
}

/// Directory and name of a path.
pub(crate) fn split_path(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// A path below a directory.
pub(crate) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(directory.len() + name.len() + 1);
    path.extend(directory);
    if !directory.is_empty() {
        path.push(b'/');
    }
    path.extend(name);
    path
}

/// The first position below `len` that is not before, or `len`.
fn lower_bound(len: u32, is_before: impl Fn(u32) -> bool) -> u32 {
    let (mut low, mut high) = (0, len);
    while low < high {
        let middle = low + (high - low) / 2;
        if is_before(middle) {
            low = middle + 1
        } else {
            high = middle
        }
    }
    low
}

/// The position below `len` at which a sorted table answers [`Ordering::Equal`].
fn search(len: u32, compare: impl Fn(u32) -> Ordering) -> Option<u32> {
    let (mut low, mut high) = (0, len);
    while low < high {
        let middle = low + (high - low) / 2;
        match compare(middle) {
            Ordering::Less => low = middle + 1,
            Ordering::Greater => high = middle,
            Ordering::Equal => return Some(middle),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regular(path: &str) -> TreeFile {
        let file = path.len() as u64;
        let kind = FileKind::Regular;
        TreeFile {
            path: path.into(),
            size: 1,
            mtime_ns: 0,
            kind,
            file,
            cold: false,
        }
    }

    fn link(path: &str, target: &str) -> TreeFile {
        TreeFile {
            kind: FileKind::Symlink(target.into()),
            ..regular(path)
        }
    }

    fn table() -> Entries {
        Entries::new(vec![
            regular("z"),
            regular("a/b/c"),
            regular("a-b/c"),
            regular("a"),
            regular("blobs/x"),
            regular("blobs/x"),
            regular("/etc/passwd"),
            regular(""),
            link("snap/r/plain", "../../blobs/x"),
            link("snap/r/twice", "plain"),
            link("dir", "blobs/./"),
            link("through", "dir/x"),
            link("loop", "loop"),
            link("out", "../../etc/passwd"),
            link("absolute", "/etc/passwd"),
            link("dangling", "nowhere"),
            TreeFile {
                kind: FileKind::Other,
                ..regular("fifo")
            },
        ])
    }

    #[test]
    fn every_path_is_found_again_and_no_other() {
        let table = table();
        assert_eq!(table.len(), 14);
        for index in 0..table.len() {
            assert_eq!(table.find(&table.path(index)), Some(index));
        }
        for wrong in ["", "a/", "a/b", "a/b/c/d", "a/b/", "zz", "/", "snap/r/plai"] {
            assert_eq!(table.find(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn names_that_come_again_are_kept_once_and_an_entry_is_small() {
        let paths =
            (0..200).flat_map(|d| ["config.json", "tokenizer.json"].map(|n| format!("{d}/{n}")));
        let mut files: Vec<TreeFile> = paths.map(|path| regular(&path)).collect();
        files.push(regular(&format!("long/{}", "n".repeat(1 << 16))));
        let table = Entries::new(files);
        assert_eq!((table.len(), table.left_out), (400, 1));
        assert_eq!(table.names.len(), "config.jsontokenizer.json".len());
        let index = table.find(b"17/tokenizer.json").expect("it is there");
        assert_eq!(table.name(index), b"tokenizer.json");
        assert_eq!(size_of::<Entry>(), 40);
    }

    #[test]
    fn links_are_followed_inside_the_tree_only() {
        let table = table();
        let blob = table.find(b"blobs/x");
        for path in [
            "snap/r/plain",
            "snap/r/twice",
            "through",
            "dir/x",
            "dir/../dir//x",
            "./z/../z",
        ] {
            let found = table.lookup(path.as_bytes());
            // `z/..` climbs by name from a file, which leads nowhere.
            assert_eq!(
                found,
                if path.contains('z') { None } else { blob },
                "{path}"
            );
        }
        for path in [
            "loop", "out", "absolute", "dangling", "dir", "fifo", "../z", "z/a",
        ] {
            assert_eq!(table.lookup(path.as_bytes()), None, "{path}");
        }
        assert_eq!(table.of_file(7).len(), 1);
    }

    proptest::proptest! {
        #[test]
        fn any_tree_and_any_query_end(
            files in proptest::collection::vec(("[ab./]{0,6}", "[ab./]{0,6}", 0..3_u8), 0..30),
            query: String,
        ) {
            let table = Entries::new(files.iter().map(|(path, target, kind)| match kind {
                0 => link(path, target),
                _ => regular(path),
            }).collect());
            table.lookup(query.as_bytes());
            for (path, target, _) in &files {
                table.lookup(path.as_bytes());
                table.lookup(target.as_bytes());
            }
        }
    }
}
