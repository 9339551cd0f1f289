//! What an earlier run left in a pool: complete replicas are taken over, the rest of ours is
//! removed, what is not ours by its name is left alone.
//!
//! Everything found is treated as hostile: names by pattern only, no symlink followed, regular
//! files of our own user with one name only, metadata bounded and checked.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};

use super::meta::{META_BYTES_MAX, ReplicaId, ReplicaMeta};
use super::{Replica, STAT_BLOCK_BYTES, allocated_bytes};
use crate::error::{ErrorKind, FsError, FsResult};
use crate::pool::Pool;

/// What adoption found.
#[derive(Debug, Default)]
pub struct Adopted {
    /// Complete replicas that were accepted.
    pub replicas: Vec<Replica>,
    /// Files of ours that were removed: incomplete, damaged or not accepted.
    pub files_removed: usize,
    /// Entries that are not ours and were left alone.
    pub foreign_entries: usize,
}

#[derive(Default)]
struct Names {
    has_data: bool,
    has_meta: bool,
}

/// Takes over the replicas in `pool` for which `accept` says yes (their home file is still the
/// same, and they are wanted), and removes all other files of ours. To be called once, before the
/// first copy into the pool.
///
/// # Errors
/// Io when the pool's directories cannot be listed. A single bad file is no error.
pub fn adopt(pool: &Arc<Pool>, mut accept: impl FnMut(&ReplicaMeta) -> bool) -> FsResult<Adopted> {
    let mut adopted = Adopted::default();
    let mut found: BTreeMap<ReplicaId, Names> = BTreeMap::new();
    for name in list(pool, pool.replicas_directory())? {
        match ReplicaId::parse(&name) {
            Some((id, "data")) => found.entry(id).or_default().has_data = true,
            Some((id, "meta")) => found.entry(id).or_default().has_meta = true,
            _ => adopted.foreign_entries += 1,
        }
    }
    for (id, names) in found {
        let replica = if names.has_data && names.has_meta {
            open(pool, id).filter(|replica| accept(&replica.meta))
        } else {
            None
        };
        if let Some(replica) = replica {
            adopted.replicas.push(replica);
            continue;
        }
        pool.step("adopt.remove")?;
        for (has, name) in [
            (names.has_data, id.data_name()),
            (names.has_meta, id.meta_name()),
        ] {
            if has {
                adopted.removed(remove(pool.replicas_directory(), &name));
            }
        }
    }
    for name in list(pool, pool.partial_directory())? {
        match ReplicaId::parse(&name) {
            Some((id, "partial")) => {
                adopted.removed(remove(pool.partial_directory(), &id.partial_name()));
            }
            _ => adopted.foreign_entries += 1,
        }
    }
    for replica in &mut adopted.replicas {
        let occupied_bytes = replica.claim.occupied_bytes();
        replica.claim.serve(occupied_bytes);
    }
    Ok(adopted)
}

impl Adopted {
    /// A directory under a name of ours is not ours: it cannot be unlinked, and is not.
    fn removed(&mut self, removed: bool) {
        if removed {
            self.files_removed += 1;
        } else {
            self.foreign_entries += 1;
        }
    }
}

fn remove(directory: &OwnedFd, name: &str) -> bool {
    rustix::fs::unlinkat(directory, name, AtFlags::empty()).is_ok()
}

fn list(pool: &Pool, directory: &OwnedFd) -> FsResult<Vec<Vec<u8>>> {
    let failed = |error: rustix::io::Errno| {
        FsError::new("adopt", ErrorKind::Io(error.into())).at_file(pool.path())
    };
    let mut names = Vec::new();
    for entry in Dir::read_from(directory).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    Ok(names)
}

/// Opens both files of a replica; `None` when anything about them is not as we leave it.
fn open(pool: &Arc<Pool>, id: ReplicaId) -> Option<Replica> {
    let (meta_file, meta_stat) = open_own(pool, &id.meta_name())?;
    if meta_stat.size > META_BYTES_MAX {
        return None;
    }
    let mut bytes = Vec::new();
    meta_file
        .take(META_BYTES_MAX)
        .read_to_end(&mut bytes)
        .ok()?;
    let meta = ReplicaMeta::from_bytes(&bytes)?;
    let (file, stat) = open_own(pool, &id.data_name())?;
    let size_bytes = meta.origin.source.size;
    // In memory every page was allocated: a hole means that somebody punched it.
    let has_hole = pool.is_memory() && stat.allocated < size_bytes;
    if stat.size != size_bytes || has_hole {
        return None;
    }
    let occupied_bytes = allocated_bytes(&file)
        .ok()?
        .saturating_add(meta_stat.allocated);
    let claim = pool.claim_existing(occupied_bytes);
    Some(Replica {
        id,
        meta,
        file: Arc::new(file),
        claim,
    })
}

struct OwnStat {
    size: u64,
    allocated: u64,
}

fn open_own(pool: &Pool, name: &str) -> Option<(File, OwnStat)> {
    let attempt = || -> io::Result<Option<(File, OwnStat)>> {
        // Without NONBLOCK a FIFO under our name would stop us here.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let directory = pool.replicas_directory();
        let file = File::from(rustix::fs::openat(directory, name, flags, Mode::empty())?);
        let stat = rustix::fs::fstat(&file)?;
        let ours = FileType::from_raw_mode(stat.st_mode).is_file()
            && stat.st_uid == rustix::process::geteuid().as_raw()
            && stat.st_mode & 0o022 == 0
            && stat.st_nlink == 1;
        let stat = OwnStat {
            size: u64::try_from(stat.st_size).unwrap_or(0),
            allocated: u64::try_from(stat.st_blocks).unwrap_or(0) * STAT_BLOCK_BYTES,
        };
        Ok(ours.then_some((file, stat)))
    };
    attempt().ok().flatten()
}
