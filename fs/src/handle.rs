//! Open handles: what the kernel's file handles stand for.

use std::collections::HashSet;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;

use crate::file::HomeFile;
use crate::ids::HandleId;
use crate::node::Node;
use crate::union::ListedName;

/// An open regular file.
pub struct OpenFile {
    /// The node that it was opened on.
    pub node: Arc<Node>,
    /// The file that it shows.
    pub file: Arc<HomeFile>,
    /// A writable descriptor of its own, for writers.
    pub own: Option<File>,
    /// The thread that opened it, 0 when unknown.
    pub tid: u32,
    /// Bytes read through the daemon, for a first load.
    pub read_bytes: AtomicU64,
}

/// What a handle stands for.
pub enum Handle {
    /// An open regular file.
    File(Arc<OpenFile>),
    /// A directory, as it was when it was opened.
    Directory(Arc<Vec<ListedName>>),
    /// A virtual file, by its place in the list of names, as it was when it was opened.
    Virtual(usize, Arc<Vec<u8>>),
}

/// So many bytes of virtual files are kept for whoever has them open; root may have more.
const VIRTUAL_BYTES_MAX: u64 = 256 << 20;
/// So many of them for one user, who would else keep all others from theirs.
const VIRTUAL_BYTES_OF_ONE_MAX: u64 = 32 << 20;

/// All handles.
#[derive(Default)]
pub struct HandleTable {
    handles: DashMap<HandleId, Handle>,
    next: AtomicU64,
    /// Bytes of the virtual files that are open.
    virtual_bytes: AtomicU64,
    /// The same by user.
    virtual_bytes_of: DashMap<u32, u64>,
    /// Who has opened a virtual file.
    virtual_owners: DashMap<HandleId, u32>,
}

impl HandleTable {
    /// Takes a handle in.
    pub fn insert(&self, handle: Handle) -> HandleId {
        let id = HandleId(self.next.fetch_add(1, Ordering::Relaxed) + 1);
        if let Handle::Virtual(_, contents) = &handle {
            self.virtual_bytes
                .fetch_add(contents.len() as u64, Ordering::Relaxed);
        }
        self.handles.insert(id, handle);
        id
    }

    /// Takes in a virtual file that a user has opened.
    pub fn insert_virtual(&self, index: usize, contents: Vec<u8>, uid: u32) -> HandleId {
        *self.virtual_bytes_of.entry(uid).or_default() += contents.len() as u64;
        let id = self.insert(Handle::Virtual(index, Arc::new(contents)));
        self.virtual_owners.insert(id, uid);
        id
    }

    /// Whether a user may open one more virtual file: each open keeps what there was to read, and could take all
    /// memory.
    pub fn has_room_for_virtual(&self, uid: u32) -> bool {
        let own = self.virtual_bytes_of.get(&uid).map_or(0, |bytes| *bytes);
        uid == 0
            || (self.virtual_bytes.load(Ordering::Relaxed) < VIRTUAL_BYTES_MAX
                && own < VIRTUAL_BYTES_OF_ONE_MAX)
    }

    /// Whether it is one.
    pub fn has(&self, id: HandleId) -> bool {
        self.handles.contains_key(&id)
    }

    /// The open file of a handle.
    pub fn file(&self, id: HandleId) -> Option<Arc<OpenFile>> {
        match &*self.handles.get(&id)? {
            Handle::File(open) => Some(Arc::clone(open)),
            _ => None,
        }
    }

    /// The listing of a handle.
    pub fn directory(&self, id: HandleId) -> Option<Arc<Vec<ListedName>>> {
        match &*self.handles.get(&id)? {
            Handle::Directory(listed) => Some(Arc::clone(listed)),
            _ => None,
        }
    }

    /// Gives an open directory another listing.
    pub fn replace_directory(&self, id: HandleId, listed: Arc<Vec<ListedName>>) {
        if let Some(mut handle) = self.handles.get_mut(&id) {
            *handle = Handle::Directory(listed);
        }
    }

    /// The contents of a virtual handle.
    pub fn virtual_contents(&self, id: HandleId) -> Option<(usize, Arc<Vec<u8>>)> {
        match &*self.handles.get(&id)? {
            Handle::Virtual(index, contents) => Some((*index, Arc::clone(contents))),
            _ => None,
        }
    }

    /// Takes a handle out.
    pub fn remove(&self, id: HandleId) -> Option<Handle> {
        let (_, handle) = self.handles.remove(&id)?;
        if let Handle::Virtual(_, contents) = &handle {
            let bytes = contents.len() as u64;
            self.virtual_bytes.fetch_sub(bytes, Ordering::Relaxed);
            if let Some((_, uid)) = self.virtual_owners.remove(&id) {
                self.virtual_bytes_of.alter(&uid, |_, held| held - bytes);
                self.virtual_bytes_of.remove_if(&uid, |_, held| *held == 0);
            }
        }
        Some(handle)
    }

    /// Number of files that are open, however often.
    pub fn open_files(&self) -> usize {
        let files = self.handles.iter().filter_map(|handle| match &*handle {
            Handle::File(open) => Some(open.file.id),
            _ => None,
        });
        files.collect::<HashSet<_>>().len()
    }

    /// Number of open handles.
    pub fn len(&self) -> usize {
        self.handles.len()
    }

    /// Whether nothing is open.
    pub fn is_empty(&self) -> bool {
        self.handles.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One user had all there is, and `.speedloader` could be read by nobody else.
    #[test]
    fn one_user_leaves_room_for_the_virtual_files_of_others() {
        let table = HandleTable::default();
        let mut held = Vec::new();
        while table.has_room_for_virtual(1000) {
            held.push(table.insert_virtual(0, vec![0; 4 << 20], 1000));
        }
        assert_eq!(held.len(), 8);
        assert!(table.has_room_for_virtual(1001) && table.has_room_for_virtual(0));
        table.remove(held[0]);
        assert!(table.has_room_for_virtual(1000));
        held.iter().for_each(|id| drop(table.remove(*id)));
        assert!(table.virtual_bytes_of.is_empty() && table.virtual_owners.is_empty());
        assert_eq!(table.virtual_bytes.load(Ordering::Relaxed), 0);
    }
}
