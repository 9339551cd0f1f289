//! Files by their inodes: hard links share one record, and a file that is renamed behind our back
//! keeps its own. The keys stand in the files: a copy of them would be three quarters of the table.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use hashbrown::HashTable;

use crate::file::HomeFile;
use crate::ids::HomeId;

/// Home, device and inode number.
pub(super) type InodeKey = (HomeId, u64, u64);

/// As last seen.
pub(super) fn inode_key(file: &HomeFile) -> InodeKey {
    let (dev, ino) = file.inode();
    (file.home, dev, ino)
}

/// Files by their inodes.
#[derive(Debug, Default)]
pub(super) struct ByInode {
    files: HashTable<Arc<HomeFile>>,
    hasher: RandomState,
}

impl ByInode {
    fn hash(&self, key: InodeKey) -> u64 {
        self.hasher.hash_one(key)
    }

    pub(super) fn get(&self, key: InodeKey) -> Option<&Arc<HomeFile>> {
        let is_it = |known: &Arc<HomeFile>| inode_key(known) == key;
        self.files.find(self.hash(key), is_it)
    }

    /// Takes the place of another record of the inode.
    pub(super) fn insert(&mut self, file: &Arc<HomeFile>) {
        let key = inode_key(file);
        let hasher = &self.hasher;
        let entry = self.files.entry(
            hasher.hash_one(key),
            |known| inode_key(known) == key,
            |known| hasher.hash_one(inode_key(known)),
        );
        entry.insert(Arc::clone(file));
    }

    pub(super) fn remove(&mut self, file: &HomeFile) {
        let hash = self.hash(inode_key(file));
        if let Ok(known) = self.files.find_entry(hash, |known| known.id == file.id) {
            known.remove();
        }
    }
}
