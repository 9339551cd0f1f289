//! Where the bytes of a copy are read, while it comes and once it is there: its memory, where the pool
//! is in memory, and else its descriptor. Answering from memory saves copying them once more.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use crate::sys::map::GrowingMap;
use crate::tmpfs;

/// A copy, or what there is of it.
#[derive(Debug)]
pub struct CopyBytes {
    file: Arc<File>,
    /// `None` elsewhere: the mapping of a device that vanishes ends in SIGBUS.
    map: Option<GrowingMap>,
}

impl CopyBytes {
    /// The file of a copy, of its final size.
    pub(super) fn new(file: Arc<File>) -> Arc<CopyBytes> {
        let is_memory = tmpfs::holds(&*file).is_ok_and(|is_memory| is_memory);
        let map = is_memory.then(|| GrowingMap::of_growing_file(&file).ok());
        Arc::new(CopyBytes {
            map: map.flatten(),
            file,
        })
    }

    /// The bytes of a range that is complete, up to the end of the file; `None`: to be read from
    /// [`CopyBytes::file`].
    pub fn complete_bytes(&self, range: Range<u64>) -> Option<&[u8]> {
        Some(self.map.as_ref()?.filled_bytes(range))
    }

    /// The descriptor.
    pub fn file(&self) -> &File {
        &self.file
    }
}
