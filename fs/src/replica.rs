//! A replica: a complete, verified copy of a home file in a pool, and the end of its life.
//!
//! copying ([`Partial`], without a name) -> verified -> published ([`Replica`]) -> serving ->
//! draining ([`Draining`]: the name is gone, somebody may still use the memory) -> gone. The
//! types are the states: nothing can be served before it is complete, or dropped twice. A replica
//! that is merely dropped from memory stays in its pool for the next run to adopt.
//!
//! A replica holds the only descriptor that this process has of its file, opened read-only;
//! that is what makes the lease tell the truth about other users.

mod meta;
mod adopt;
mod drainer;
mod partial;

use std::fs::File;
use std::sync::Arc;

use rustix::fs::AtFlags;

pub use adopt::{Adopted, adopt};
pub use drainer::{Drainer, DrainingState, Gone};
pub use meta::{Digest, DigestKind, ReplicaId, ReplicaMeta, ReplicaOrigin};
pub use partial::Partial;

use crate::errno;
use crate::error::{ErrorKind, FsError, FsResult};
use crate::identity::Identity;
use crate::pool::{Pool, Reach, Reservation};
use crate::rel_path::RelPath;
use crate::sys::lease;

/// Bytes of a block as `st_blocks` counts.
const STAT_BLOCK_BYTES: u64 = 512;

/// A complete copy in a pool.
#[derive(Debug)]
pub struct Replica {
    id: ReplicaId,
    meta: ReplicaMeta,
    // Closed before the claim is given back.
    file: Arc<File>,
    claim: Reservation,
}

impl Replica {
    /// Its number, which is also its name in the pool.
    pub fn id(&self) -> ReplicaId {
        self.id
    }

    /// The pool that holds it.
    pub fn pool(&self) -> &Arc<Pool> {
        self.claim.pool()
    }

    /// The open file, read-only. No other descriptor of it may be kept: [`Replica::is_in_use`]
    /// and draining would take it for a user.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The same descriptor, for who reads from it while the replica may be dropped; it counts as a
    /// user until it is given back.
    pub fn shared_file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// Lends it to a copy into another pool, which counts as a user until it gives it back. `None` if it is no
    /// copy of what the `home` has now.
    pub fn lend(&self, home: &Identity) -> Option<Lent> {
        self.meta.origin.source.same_contents(home).then(|| Lent {
            file: Arc::clone(&self.file),
            pool: Arc::clone(self.pool()),
            digest: self.meta.digest,
        })
    }

    /// What it is a copy of, and the digest of its bytes.
    pub fn meta(&self) -> &ReplicaMeta {
        &self.meta
    }

    /// Size in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.meta.origin.source.size
    }

    /// Bytes that it takes in the pool, its metadata included.
    pub fn occupied_bytes(&self) -> u64 {
        self.claim.occupied_bytes()
    }

    /// Whether anybody has the replica open or mapped now.
    ///
    /// # Errors
    /// Io where the file system of the pool has no leases.
    pub fn is_in_use(&self) -> FsResult<bool> {
        match lease::sole_user(&self.file) {
            Ok(alone) => Ok(!alone),
            Err(error) => Err(FsError::io("lease", &self.meta.origin.path, error)),
        }
    }

    /// Whether its memory would be freed at once if it were dropped: nobody has it open or mapped, and
    /// no held node is bound to it.
    pub fn is_free_to_go(&self) -> bool {
        Arc::strong_count(&self.file) == 1 && !self.is_in_use().unwrap_or(false)
    }

    /// Takes the replica's name away: of a pool in memory now, of another when [`Draining::try_finish`] is called, for that
    /// may take its time. Whoever uses it goes on undisturbed; nobody new finds it, then also not after a
    /// crash.
    pub fn drain(self) -> Draining {
        let mut draining = Draining {
            replica: self,
            unlinked: false,
        };
        draining.replica.claim.drain();
        if draining.pool().is_memory() {
            draining.unlink();
        }
        draining
    }

    fn path(&self) -> &RelPath {
        &self.meta.origin.path
    }
}

/// A replica whose bytes a copy has in place of its home's. It may be dropped meanwhile: its memory stays until
/// this is given back.
#[derive(Debug)]
pub struct Lent {
    // Let go before the pool is.
    file: Arc<File>,
    pool: Arc<Pool>,
    digest: Digest,
}

impl Lent {
    /// The pool that holds it.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// The digest that its bytes had when they were verified.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    pub(crate) fn shared_file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }
}

/// A replica without a name whose memory somebody may still use.
#[derive(Debug)]
pub struct Draining {
    replica: Replica,
    unlinked: bool,
}

impl Draining {
    /// The number that the replica had.
    pub fn id(&self) -> ReplicaId {
        self.replica.id
    }

    /// The pool whose memory it still takes.
    pub fn pool(&self) -> &Arc<Pool> {
        self.replica.pool()
    }

    /// What it was a copy of.
    pub fn meta(&self) -> &ReplicaMeta {
        &self.replica.meta
    }

    /// Bytes that it still takes.
    pub fn occupied_bytes(&self) -> u64 {
        self.replica.occupied_bytes()
    }

    /// Frees the memory if the last handle and mapping are gone.
    ///
    /// # Errors
    /// The replica itself, while it is still used.
    pub fn try_finish(mut self) -> Result<(), Box<Draining>> {
        self.unlink();
        let in_use = match lease::sole_user(&self.replica.file) {
            Ok(alone) => !alone,
            Err(error) => {
                // Without leases nobody can tell; the pool's own space stays true all the same.
                tracing::warn!(
                    path = %self.replica.path(), %error,
                    "the file system of the pool has no leases: draining is not counted"
                );
                false
            }
        };
        let shared = Arc::strong_count(&self.replica.file) > 1;
        if in_use || shared || !self.unlinked {
            return Err(Box::new(self));
        }
        Ok(())
    }

    /// Removes the names, the data's first: metadata without data is rubbish that adoption
    /// removes, data without metadata likewise. Tried again by `try_finish` if it fails.
    fn unlink(&mut self) {
        if self.unlinked {
            return;
        }
        let pool = Arc::clone(self.pool());
        match pool.reach() {
            Reach::Answers => {}
            // Asking it would hold up whoever asks, until it is known which of the two it is.
            Reach::Silent => return,
            Reach::Lost => {
                self.unlinked = true;
                return;
            }
        }
        let remove = || -> FsResult<()> {
            pool.step("drain.unlink_data")?;
            unlink(&pool, &self.replica.id.data_name())?;
            pool.step("drain.unlink_metadata")?;
            unlink(&pool, &self.replica.id.meta_name())?;
            pool.step("drain.unlinked")
        };
        match remove() {
            Ok(()) => self.unlinked = true,
            Err(error) => {
                let path = self.replica.path();
                tracing::warn!(%path, %error, "a dropped replica keeps its name until the pool is adopted again");
            }
        }
    }
}

/// Removes one name of ours from the pool; it may be gone already.
fn unlink(pool: &Pool, name: &str) -> FsResult<()> {
    match rustix::fs::unlinkat(pool.replicas_directory(), name, AtFlags::empty()) {
        Ok(()) => Ok(()),
        Err(error) if errno::is_missing(error) => Ok(()),
        Err(error) => {
            let path = pool.path().join("replicas").join(name);
            Err(FsError::new("unlink", ErrorKind::Io(error.into())).at_file(&path))
        }
    }
}

/// Bytes that a file takes in its file system.
fn allocated_bytes(file: &File) -> rustix::io::Result<u64> {
    let stat = rustix::fs::fstat(file)?;
    Ok(u64::try_from(stat.st_blocks)
        .unwrap_or(0)
        .saturating_mul(STAT_BLOCK_BYTES))
}

#[cfg(test)]
mod tests;
