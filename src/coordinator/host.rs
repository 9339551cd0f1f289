//! What the mover needs: the source of a copy, and somebody who takes the replica.

use std::sync::{Arc, Weak};

use speedloader_fs::copy::{FileSource, Source};
use speedloader_fs::error::{ErrorKind, FsError, FsResult};
use speedloader_fs::file::HomeFile;
use speedloader_fs::ids::FileId;
use speedloader_fs::mover::{MoverHost, Refused, TransferState};
use speedloader_fs::replica::Replica;

use super::{Coordinator, Wakeup};

/// The coordinator as the mover sees it; does not keep it alive.
pub struct Host(pub Weak<Coordinator>);

impl Host {
    fn file(
        &self,
        operation: &'static str,
        id: FileId,
    ) -> FsResult<(Arc<Coordinator>, Arc<HomeFile>, u32)> {
        let gone = || FsError::new(operation, ErrorKind::NotFound);
        let coordinator = self.0.upgrade().ok_or_else(gone)?;
        let found = {
            let moves = coordinator.lock_moves();
            let errand = moves.errands.values().find(|errand| errand.file.id == id);
            errand.map(|errand| (Arc::clone(&errand.file), errand.writes))
        };
        let (file, writes) = found.ok_or_else(gone)?;
        Ok((coordinator, file, writes))
    }
}

impl MoverHost for Host {
    fn open_source(&self, id: FileId) -> FsResult<Box<dyn Source>> {
        let (coordinator, file, _) = self.file("promote", id)?;
        if file.with_live(|live| live.writers > 0) {
            return Err(FsError::new(
                "promote",
                ErrorKind::Busy("the file is being written"),
            ));
        }
        let gone = || FsError::new("promote", ErrorKind::NotFound);
        let path = coordinator.fs.union().path_of(&file).ok_or_else(gone)?;
        let opened = coordinator.fs.home_of(&file).open_file(&path, false)?;
        Ok(Box::new(FileSource::new(opened)))
    }

    fn publish(&self, id: FileId, replica: Replica) -> Result<(), Refused> {
        match self.file("publish", id) {
            Ok((coordinator, file, writes)) => {
                let bytes = replica.size_bytes();
                let published = coordinator.fs.publish(&file, replica, writes);
                if published.is_ok() {
                    coordinator.count_promotion(bytes);
                }
                published.map_err(|(error, replica)| Refused { error, replica })
            }
            Err(error) => Err(Refused {
                error,
                replica: Box::new(replica),
            }),
        }
    }

    fn ended(&self, transfer: &TransferState) {
        if let Some(coordinator) = self.0.upgrade() {
            // The thread may have ended before the last transfer.
            let _ = coordinator.wakeup.send(Wakeup::Ended(transfer.clone()));
        }
    }
}
