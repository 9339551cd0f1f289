//! A claim on a pool's space, which goes with a copy through its whole life.

use std::io;
use std::sync::Arc;

use super::{Pool, ReadyFile};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Copying,
    Serving,
    Draining,
}

/// A claim on a pool's space. It goes with a copy from the first reserved byte until the memory is
/// free again, and gives everything back when it is dropped.
#[derive(Debug)]
pub struct Reservation {
    pool: Arc<Pool>,
    reserved_bytes: u64,
    occupied_bytes: u64,
    stage: Stage,
    ready: Option<ReadyFile>,
}

impl Reservation {
    /// For what the pool has just written into its books; what is `ready` counts as occupied.
    pub(super) fn new(
        pool: Arc<Pool>,
        reserved_bytes: u64,
        occupied_bytes: u64,
        ready: Option<ReadyFile>,
    ) -> Self {
        Reservation {
            pool,
            reserved_bytes,
            occupied_bytes,
            stage: Stage::Copying,
            ready,
        }
    }

    /// The file to make the copy in, if there is one whose memory is ready.
    pub(crate) fn take_ready(&mut self) -> Option<ReadyFile> {
        self.ready.take()
    }

    /// The pool it belongs to.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Bytes still promised and not allocated.
    pub fn reserved_bytes(&self) -> u64 {
        self.reserved_bytes
    }

    /// Runs `allocate`, which takes `bytes` of the pool, with the pool's books closed: in no
    /// [`Pool::usage`] are these bytes both promised and used.
    pub(crate) fn allocate(
        &mut self,
        bytes: u64,
        allocate: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let mut ledger = self.pool.ledger();
        allocate()?;
        let moved = bytes.min(self.reserved_bytes);
        self.reserved_bytes -= moved;
        self.occupied_bytes += bytes;
        ledger.reserved_bytes -= moved;
        ledger.occupied_bytes += bytes;
        Ok(())
    }

    /// The replica is complete: `occupied_bytes` is what was measured, the rest of the promise is
    /// given back.
    pub(crate) fn serve(&mut self, occupied_bytes: u64) {
        let mut ledger = self.pool.ledger();
        ledger.reserved_bytes -= std::mem::take(&mut self.reserved_bytes);
        ledger.occupied_bytes = ledger.occupied_bytes - self.occupied_bytes + occupied_bytes;
        self.occupied_bytes = occupied_bytes;
        ledger.replicas_serving += 1;
        self.stage = Stage::Serving;
    }

    /// The replica was dropped and somebody may still use it.
    pub(crate) fn drain(&mut self) {
        let mut ledger = self.pool.ledger();
        if self.stage == Stage::Serving {
            ledger.replicas_serving -= 1;
        }
        self.stage = Stage::Draining;
        ledger.draining_bytes += self.occupied_bytes;
    }

    /// Bytes allocated under this claim.
    pub fn occupied_bytes(&self) -> u64 {
        self.occupied_bytes
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // Its memory is free before its bytes are.
        drop(self.ready.take());
        let mut ledger = self.pool.ledger();
        ledger.reserved_bytes -= self.reserved_bytes;
        ledger.occupied_bytes -= self.occupied_bytes;
        ledger.claims -= 1;
        self.pool.room.notify_all();
        match self.stage {
            Stage::Copying => {}
            Stage::Serving => ledger.replicas_serving -= 1,
            Stage::Draining => ledger.draining_bytes -= self.occupied_bytes,
        }
        if let Err(error) = self.pool.unmount_when_empty(&ledger) {
            tracing::warn!(pool = %self.pool.name, %error, "a drained pool could not be unmounted");
        }
    }
}
