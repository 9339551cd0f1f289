//! What the file system tells its owner. Sending never blocks: a full channel drops the event and
//! counts it.

use std::sync::Arc;

use crate::file::HomeFile;
use crate::ids::{HandleId, HomeId, PoolId};

/// What is at a home's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtPath {
    /// The directory that the home shows.
    Home,
    /// Another one, which the home shows from now on.
    Followed,
    /// Another one, or none. The home shows what was there before.
    Other,
}

/// Something happened.
#[derive(Clone, Debug)]
pub enum FsEvent {
    /// A regular file was opened.
    Opened {
        /// The file.
        file: Arc<HomeFile>,
        /// The handle, to match the [`FsEvent::Closed`].
        handle: HandleId,
        /// The thread that opened it, 0 when unknown.
        pid: u32,
        /// Whether it may write.
        write: bool,
        /// The pool that serves it; `None`: its home.
        pool: Option<PoolId>,
        /// It may only look at a header: that it loads the file is told otherwise.
        looks: bool,
    },
    /// The last descriptor of a handle was closed; mappings may live on.
    Closed {
        /// The file.
        file: Arc<HomeFile>,
        /// The handle.
        handle: HandleId,
    },
    /// A change of a file in cold storage was refused.
    ColdWriteRefused {
        /// What was tried.
        operation: &'static str,
        /// Path below the mount.
        path: String,
        /// Who tried.
        pid: u32,
    },
    /// A change was refused because it would have destroyed the file it was made from.
    SameFileRefused {
        /// What was tried.
        operation: &'static str,
        /// Path below the mount.
        path: String,
        /// Who tried.
        pid: u32,
    },
    /// A replica serves new opens.
    Promoted {
        /// The file.
        file: Arc<HomeFile>,
        /// Where.
        pool: PoolId,
    },
    /// A replica no longer serves new opens.
    Dropped {
        /// The file.
        file: Arc<HomeFile>,
        /// Where it was.
        pool: PoolId,
        /// Why, in words.
        reason: &'static str,
    },
    /// The tree changed: the owner's catalog of models may be out of date.
    TreeChanged,
    /// A home was read for the first time: all that it has is known.
    HomeScanned,
    /// What is at the path of a home has become something else.
    HomePath {
        /// Which.
        home: HomeId,
        /// What it is now.
        found: AtPath,
    },
}
