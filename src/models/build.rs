//! From a tree to a [`Catalog`]: each layout in a file of its own, in a fixed order.
//!
//! What a name tells is taken from the name; bytes are read only where they are needed, each file
//! at most once, and not at all if the previous catalog read the same bytes.

mod ollama_store;
mod hub;
mod gguf_files;
mod listing;
mod directories;

use super::catalog::{Catalog, Draft, Packer};
use super::entries::Entries;
use super::facts::{Facts, Format, Reader};
use super::tree::Tree;
use std::collections::BTreeMap;
use std::sync::Arc;

impl Catalog {
    /// Finds every model of `tree`; what `previous` has read of files that did not change since is
    /// taken from there.
    ///
    /// Never fails: a file that cannot be read or understood is a fault of its model. Reads may
    /// wait on a home, so this belongs on a thread on which nobody waits.
    pub fn build(tree: &dyn Tree, previous: Option<&Self>) -> Self {
        let entries = Entries::new(tree.files());
        if entries.left_out > 0 {
            tracing::warn!(
                files = entries.left_out,
                "files that no catalog can hold are left out"
            );
        }
        let older = previous.map(|catalog| (&catalog.entries, &catalog.facts));
        let by_directory = ByDirectory::new(&entries);
        let mut build = Build {
            entries,
            by_directory,
            reader: Reader::new(tree, older),
            packer: Packer::default(),
            references: BTreeMap::new(),
        };
        ollama_store::find(&mut build);
        gguf_files::find(&mut build);
        directories::find(&mut build);
        let reads = build.reader.reads;
        build
            .packer
            .finish(build.entries, build.reader.into_table(), reads)
    }
}

/// A build under way.
struct Build<'a> {
    entries: Entries,
    by_directory: ByDirectory,
    reader: Reader<'a>,
    packer: Packer,
    /// Of the repositories of hub caches that were met.
    references: BTreeMap<Vec<u8>, hub::References>,
}

impl Build<'_> {
    fn add(&mut self, draft: Draft) {
        self.packer.add(draft, &self.entries);
    }

    fn facts(&mut self, entry: u32, format: Format) -> Result<Arc<Facts>, String> {
        self.reader.facts(&mut self.entries, entry, format)
    }

    /// The entries of a directory, by name.
    fn in_directory(&self, directory: u32) -> Vec<u32> {
        self.by_directory.entries(directory).to_vec()
    }
}

/// The entries of each directory side by side; the table itself is sorted by path.
struct ByDirectory {
    order: Vec<u32>,
    starts: Vec<u32>,
}

impl ByDirectory {
    fn new(entries: &Entries) -> Self {
        let mut order: Vec<u32> = (0..entries.len()).collect();
        order.sort_by_key(|entry| (entries.directory(*entry), *entry));
        let starts = (0..=entries.directories())
            .map(|directory| {
                let start = order.partition_point(|entry| entries.directory(*entry) < directory);
                u32::try_from(start).unwrap_or(u32::MAX)
            })
            .collect();
        Self { order, starts }
    }

    fn entries(&self, directory: u32) -> &[u32] {
        let at = directory as usize;
        match (self.starts.get(at), self.starts.get(at + 1)) {
            (Some(start), Some(end)) => &self.order[*start as usize..*end as usize],
            _ => &[],
        }
    }
}
