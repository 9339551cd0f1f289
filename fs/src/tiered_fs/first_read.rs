//! The file system's side of a first load: opens that the daemon serves while the copy comes, and
//! where their reads are answered from.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::Advice;

use super::open::best_replica;
use super::{OpenReply, OpenRequest, Register, TieredFs};
use crate::copy::KEPT_BLOCK_BYTES;
use crate::error::{ErrorKind, FsError, FsResult};
use crate::file::HomeFile;
use crate::first_load::{CopyBytes, FirstLoad};
use crate::handle::OpenFile;
use crate::identity::Identity;
use crate::ids::HandleId;
use crate::node::{Bound, Node, OpenState, Place};

/// Takes what was read. Called once, by a thread that should not be kept.
pub type Sink = Box<dyn FnOnce(FsResult<&[u8]>) + Send>;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Lends this thread's room for the bytes of one read; what is in it is of the read before. A fresh one for each read
/// would be paid for by page faults. `read` must not ask for it again.
pub(crate) fn with_buffer(size: u32, read: impl FnOnce(&mut [u8])) {
    BUFFER.with_borrow_mut(|buffer| {
        let size = size as usize;
        if buffer.len() < size {
            *buffer = vec![0; size];
        }
        read(&mut buffer[..size]);
    });
}

/// A read of a handle that a first load serves.
pub struct FirstRead {
    load: Arc<FirstLoad>,
    home: Arc<File>,
    open: Arc<OpenFile>,
}

impl TieredFs {
    /// Opens a file whose bytes the daemon gives out as they come. Who opens it next shall find
    /// another nodeid, since the kernel reads the replica itself on one that the daemon never served.
    pub(super) fn open_arriving(
        &self,
        node: &Arc<Node>,
        file: &Arc<HomeFile>,
        load: Arc<FirstLoad>,
        request: &OpenRequest,
        register: Register<'_>,
    ) -> FsResult<OpenReply> {
        let home = self.open_cold(node, file)?;
        let home = self.within_limit(home, request)?;
        // What is copied is of one moment: of a file that has changed since, all is read from its home.
        let is_copied =
            Identity::of_fd(&home).is_ok_and(|found| found.same_contents(&file.attr().identity));
        // Each miss is read as it is asked for: what is read ahead would be read twice.
        let _ = rustix::fs::fadvise(&home, 0, None, Advice::Random);
        // Nobody can hold a lock on what nobody has open; asking the kernel takes 10 ms and more.
        let is_open = node.lock_open().handles > 0;
        let is_locked = is_open && self.residency.is_locked(node, file);
        if !is_locked {
            self.residency.retire_and_tell(&self.nodes, file, node);
        }
        let mut open = node.lock_open();
        if open.handles == 0 {
            match best_replica(file) {
                // It came meanwhile.
                Some(replica) => self.bind(&mut open, file, replica, register),
                None => {
                    open.bound = Some(Box::new(Bound {
                        file: Arc::clone(file),
                        place: Place::Home(Arc::new(home)),
                        token: None,
                        first_load: is_copied.then_some(load),
                    }));
                }
            }
        }
        open.retired |= !is_locked;
        let served = self.share(&mut open, request);
        Ok(OpenReply::Ready(
            self.opened(node, file, &open, served, None, request),
        ))
    }

    /// Whether a node that is held on its cold home may stand in the way of a first load: then whoever
    /// opens the file next shall find another one.
    pub(super) fn may_be_for_a_first_load(&self, file: &HomeFile, open: &OpenState) -> bool {
        let at_home = open.bound.as_ref().is_some_and(|bound| {
            bound.first_load.is_none() && matches!(bound.place, Place::Home(_))
        });
        at_home && !open.retired && file.is_cold() && self.first_loads.may_begin(file)
    }

    /// A thread opens a file beside others on such a node: whoever opens it next finds another one,
    /// unless somebody has locked this one. To be told of locks takes long.
    pub(super) fn make_way_for_a_first_load(
        &self,
        node: &Arc<Node>,
        file: &Arc<HomeFile>,
        tid: u32,
    ) {
        if !self.first_loads.open_beside(file, tid) || self.residency.is_locked(node, file) {
            return;
        }
        let mut open = node.lock_open();
        if open.handles > 0 && !open.retired {
            open.retired = true;
            self.residency.retire(&self.nodes, file, node);
        }
    }

    /// What a read of this handle goes through, if a first load serves it.
    pub fn first_read(&self, handle: HandleId) -> Option<FirstRead> {
        let open = self.handles.file(handle)?;
        let state = open.node.lock_open();
        let bound = state.bound.as_ref()?;
        let load = Arc::clone(bound.first_load.as_ref()?);
        let Place::Home(home) = &bound.place else {
            return None;
        };
        let home = Arc::clone(home);
        drop(state);
        Some(FirstRead { load, home, open })
    }

    /// Where the bytes can be had at once, if they can. Called once a read.
    pub fn ready_to_read(
        &self,
        read: &FirstRead,
        offset: u64,
        size: u32,
    ) -> Option<Arc<CopyBytes>> {
        let before = read
            .open
            .read_bytes
            .fetch_add(u64::from(size), Ordering::Relaxed);
        self.first_loads
            .note_read(&read.load, before, before + u64::from(size), read.open.tid);
        read.load.ready(offset..offset + u64::from(size))
    }

    /// Gives the bytes to `sink` once they are there: from the copy as it comes, or from the home.
    pub fn read_arriving(self: &Arc<Self>, read: FirstRead, offset: u64, size: u32, sink: Sink) {
        let FirstRead { load, home, .. } = read;
        let (fs, of, home_id) = (Arc::clone(self), Arc::clone(&load), load.file().home);
        let answer = move |found: Option<Arc<CopyBytes>>| match found {
            Some(copy) => fs.read_copy(&copy, offset, size, sink),
            None => {
                let by = Arc::clone(&fs);
                let job = move || {
                    if of.has_ended() {
                        // It is read here to its end.
                        let _ = rustix::fs::fadvise(&home, 0, None, Advice::Normal);
                    } else {
                        of.note_kept_blocks(offset..offset + u64::from(size))
                            .into_iter()
                            .for_each(|block| read_block(&home, block));
                    }
                    by.read_range(&home, offset, size, sink);
                };
                fs.offload(home_id).run(Box::new(job));
            }
        };
        self.first_loads
            .read(&load, offset..offset + u64::from(size), Box::new(answer));
    }

    /// Gives a range that a copy has to `sink`.
    pub fn read_copy(
        &self,
        copy: &CopyBytes,
        offset: u64,
        size: u32,
        sink: impl FnOnce(FsResult<&[u8]>),
    ) {
        match copy.complete_bytes(offset..offset + u64::from(size)) {
            Some(bytes) => {
                self.stats
                    .daemon_read_bytes
                    .fetch_add(bytes.len() as u64, Ordering::Relaxed);
                sink(Ok(bytes));
            }
            None => self.read_range(copy.file(), offset, size, sink),
        }
    }

    /// Reads a range of a descriptor into this thread's buffer, for `sink`.
    fn read_range(&self, file: &File, offset: u64, size: u32, sink: impl FnOnce(FsResult<&[u8]>)) {
        with_buffer(size, |buffer| match fill(file, offset, buffer) {
            Ok(length) => {
                self.stats
                    .daemon_read_bytes
                    .fetch_add(length as u64, Ordering::Relaxed);
                sink(Ok(&buffer[..length]));
            }
            Err(error) => {
                let error = FsError::new("read", ErrorKind::Io(error));
                sink(Err(error.at_offset(offset)));
            }
        });
    }
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read_at(&mut buffer[length..], offset + length as u64) {
            Ok(0) => break,
            Ok(number) => length += number,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// Has the kernel read a block of a header and keep it.
fn read_block(home: &File, block: u64) {
    let mut bytes = vec![0; usize::try_from(KEPT_BLOCK_BYTES).unwrap_or(0)];
    // Whoever asked for it reads it once more, and is told what is wrong.
    let _ = home.read_at(&mut bytes, block * KEPT_BLOCK_BYTES);
}
