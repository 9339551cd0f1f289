//! Tells the kernel what is no longer true, from a thread of its own that holds no lock.
//!
//! FUSE_NOTIFY_INVAL_ENTRY waits for the directory's lock, which a lookup that waits for us may hold:
//! sent from a session thread it deadlocks.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crossbeam_channel::Receiver;
use fuser::{INodeNo, Notifier};

use crate::residency::Notice;

/// Sends notices until the file system is gone.
pub fn run(notices: &Receiver<Notice>, notifier: &Notifier) {
    for notice in notices {
        let sent = match &notice {
            Notice::Entry(parent, name) => {
                notifier.inval_entry(INodeNo(parent.0), OsStr::from_bytes(name))
            }
            // A negative offset: attributes only.
            Notice::Attr(node) => notifier.inval_inode(INodeNo(node.0), -1, 0),
            Notice::Data(node) => notifier.inval_inode(INodeNo(node.0), 0, 0),
            // The kernel looks for the name under the lock that lookups in the directory hold; nothing has it.
            Notice::Barrier(parent) => notifier.inval_entry(INodeNo(parent.0), OsStr::new(".")),
            Notice::Told(told) => {
                // Whoever asked may have stopped waiting.
                let _ = told.send(());
                continue;
            }
        };
        if let Err(error) = sent {
            tracing::debug!(%error, ?notice, "the kernel did not take a notice");
        }
    }
}
