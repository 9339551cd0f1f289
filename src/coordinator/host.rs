//! What the mover needs: the source of a copy, and somebody who takes the replica.

use std::fs::File;
use std::sync::{Arc, Weak};

use speedloader_fs::copy::{CopyControl, FileSource, Source};
use speedloader_fs::error::{ErrorKind, FsError, FsResult};
use speedloader_fs::identity::Identity;
use speedloader_fs::ids::{FileId, PoolId};
use speedloader_fs::mover::{MoverHost, Refused, TransferState};
use speedloader_fs::replica::{Lent, Replica};

use super::moves::COLD_BYTES_PER_SEC;
use super::{Coordinator, Errand, Wakeup};
use crate::back_off::Counted;
use crate::view::Level;

/// What a replica is dropped with whose bytes are not what was verified.
const DAMAGED: &str = "its bytes were not what was copied";

/// The coordinator as the mover sees it; does not keep it alive.
pub struct Host(pub Weak<Coordinator>);

impl Host {
    pub(super) fn errand(
        &self,
        operation: &'static str,
        id: FileId,
    ) -> FsResult<(Arc<Coordinator>, Errand)> {
        let gone = || FsError::new(operation, ErrorKind::NotFound);
        let coordinator = self.0.upgrade().ok_or_else(gone)?;
        let found = {
            let moves = coordinator.lock_moves();
            let errand = moves.errands.values().find(|errand| errand.file.id == id);
            errand.cloned()
        };
        let errand = found.ok_or_else(gone)?;
        Ok((coordinator, errand))
    }
}

impl MoverHost for Host {
    fn open_source(&self, id: FileId) -> FsResult<Box<dyn Source>> {
        let (coordinator, Errand { file, origin, .. }) = self.errand("promote", id)?;
        let opened = coordinator.fs.open_to_copy(&file)?;
        // What a header's reader has just had from the home comes from the page cache.
        let kept = coordinator.fs.first_loads().kept_blocks(id);
        let source = FileSource::new(opened).keeping(kept);
        Ok(Box::new(Counted::new(source, origin)))
    }

    fn lend(&self, id: FileId, home: &Identity) -> Option<Lent> {
        let (coordinator, Errand { file, origin, .. }) = self.errand("promote", id).ok()?;
        let home_bytes_per_sec = coordinator.history.home_bytes_per_sec(COLD_BYTES_PER_SEC);
        let lent = file.with_live(|live| {
            let replica = live.serving()?;
            let pool = replica.pool();
            let is_faster = pool.is_memory() || pool.speed_bytes_per_sec() > home_bytes_per_sec;
            is_faster.then(|| replica.lend(home))?
        })?;
        origin.borrow_from(lent.pool().id());
        Some(lent)
    }

    fn damaged(&self, id: FileId, pool: PoolId) {
        let Ok((coordinator, Errand { file, .. })) = self.errand("promote", id) else {
            return;
        };
        coordinator.fs.drop_replicas(&file, Some(pool), DAMAGED);
        let text = format!(
            "its copy in {} was damaged, and is gone: the home is read",
            coordinator.pool_name(pool)
        );
        let path = coordinator.shown_path(&file);
        coordinator.events.add(Level::Error, "damaged", &path, text);
    }

    fn publish(&self, id: FileId, replica: Replica) -> Result<(), Refused> {
        match self.errand("publish", id) {
            Ok((coordinator, errand)) => {
                let (bytes, pool) = (replica.size_bytes(), replica.pool().id());
                let file = &errand.file;
                let published = coordinator.fs.publish(file, replica, errand.writes);
                if published.is_ok() {
                    coordinator.count_promotion(bytes);
                    // At once: the room of the place it left may be what the next copy waits for.
                    coordinator.drop_others(file, pool, errand.leaves);
                }
                published.map_err(|(error, replica)| Refused { error, replica })
            }
            Err(error) => Err(Refused {
                error,
                replica: Box::new(replica),
            }),
        }
    }

    fn begun(&self, file: FileId, partial: Arc<File>, control: &Arc<CopyControl>) {
        self.copy_begun(file, partial, control);
    }

    fn ended(&self, transfer: &TransferState) {
        if let Some(coordinator) = self.0.upgrade() {
            // After a copy that was published there is nothing to end.
            coordinator.fs.first_loads().end(transfer.file);
            // The thread may have ended before the last transfer.
            let _ = coordinator.wakeup.send(Wakeup::Ended(transfer.clone()));
        }
    }
}
