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

/// All handles.
#[derive(Default)]
pub struct HandleTable {
    handles: DashMap<HandleId, Handle>,
    next: AtomicU64,
}

impl HandleTable {
    /// Takes a handle in.
    pub fn insert(&self, handle: Handle) -> HandleId {
        let id = HandleId(self.next.fetch_add(1, Ordering::Relaxed) + 1);
        self.handles.insert(id, handle);
        id
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
        self.handles.remove(&id).map(|(_, handle)| handle)
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
