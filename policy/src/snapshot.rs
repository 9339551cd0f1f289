//! What the owner knows at one moment, as plain data: pools, models, files, wishes.
//!
//! Sizes are bytes, speeds bytes per second. A snapshot is checked once ([`Snapshot::fault`]);
//! everything after that may rely on it. No behaviour beyond that check.

use std::fmt;

use crate::ids::{FileRef, ModelId, TierId};
use crate::lookup::Lookup;

/// More pools than this are not planned for.
pub const POOLS_MAX: usize = 64;

/// One pool. The memory reserve is the owner's: it is subtracted before these figures are given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolState {
    /// Its name here.
    pub id: TierId,
    /// Measured or configured speed, bytes per second, at least 1.
    pub speed_bytes_per_sec: u64,
    /// What replicas may use in total, bytes.
    pub capacity_bytes: u64,
    /// What a new replica may use now, bytes: neither used, nor reserved by a running copy, nor
    /// held by a draining replica.
    pub free_bytes: u64,
    /// What the pool must give back at once, bytes (memory pressure, a smaller size). Models are
    /// dropped, least worth first, until that much is free beyond `free_bytes`.
    pub give_back_bytes: u64,
    /// False when the pool is about to be disconnected or is failing: nothing is put there.
    pub accepts: bool,
}

/// One file, listed once even if several models share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileState {
    /// Its name here.
    pub id: FileRef,
    /// Its size, bytes.
    pub size_bytes: u64,
    /// The pool that holds its replica, or is receiving it; `None`: only the home has it.
    pub place: Option<TierId>,
    /// Open or mapped by somebody: dropping its replica would free nothing.
    pub open: bool,
    /// Has a writer, a lock, or a copy under way: it is not moved.
    pub busy: bool,
    /// A pool slower than `place` that still has a complete copy: room that is free when it is
    /// needed, and no copy to make should the file go there.
    pub spare: Option<TierId>,
    /// The spare is open or mapped by somebody: dropping it would free nothing.
    pub spare_open: bool,
}

/// What the user said about a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ModelRule {
    /// By heat.
    #[default]
    Normal,
    /// Resident whenever it fits, never dropped for another.
    Always,
    /// Not promoted; dropped if resident.
    Never,
}

/// One model and its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelState {
    /// Its name here.
    pub id: ModelId,
    /// Its files, each listed in [`Snapshot::files`]; promoted and dropped together.
    pub files: Vec<FileRef>,
    /// The pool it is fixed to.
    pub pin: Option<TierId>,
    /// What the user said.
    pub rule: ModelRule,
    /// A model never displaces one of higher priority. 0 is usual.
    pub priority: i32,
    /// A plan for this model is being carried out towards this pool: it is left alone, and room
    /// for its missing files is kept.
    pub moving_to: Option<TierId>,
}

/// Something that wants an answer now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    /// The model.
    pub model: ModelId,
    /// What is wanted.
    pub kind: WantKind,
}

/// What is wanted of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WantKind {
    /// It is being loaded now: promote it if that is worth more than what it displaces.
    Loaded,
    /// The user asked for it: promote it, displacing what is worth least, but nothing that was
    /// asked for earlier in the same snapshot.
    Promote {
        /// To this pool, or where the strategy says.
        pool: Option<TierId>,
    },
    /// It was resident before a restart: promote it into free room, displacing nothing.
    Restore {
        /// Where it was, if that pool is there still and has room; else where the strategy says.
        pool: Option<TierId>,
    },
    /// The user asked for it: to this pool if that is slower, or back to the home. Open files
    /// are dropped too (they drain).
    Demote {
        /// The slower pool; `None` is the home.
        pool: Option<TierId>,
    },
    /// This pool is about to be disconnected, and takes nothing more: the model's files there go to another
    /// one, into free room or in place of what is worth less. Where there is neither nothing is planned.
    Leave {
        /// The pool.
        pool: TierId,
    },
}

/// Everything that [`crate::plan`] looks at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Pools, in the configured order (which `fill-first` follows).
    pub pools: Vec<PoolState>,
    /// Speed of the homes, bytes per second, at least 1.
    pub cold_bytes_per_sec: u64,
    /// All files of all models.
    pub files: Vec<FileState>,
    /// All models.
    pub models: Vec<ModelState>,
    /// What is wanted now, in order.
    pub wants: Vec<Want>,
}

/// Pools in the order of speed, fastest first: what rules and shadows need to know of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tiers {
    /// (name, speed in bytes per second, capacity in bytes), fastest first.
    pub pools: Vec<(TierId, u64, u64)>,
    /// Speed of the homes, bytes per second.
    pub cold_bytes_per_sec: u64,
}

impl Tiers {
    /// The pools of a snapshot, fastest first; equal speeds keep the configured order.
    pub fn of(snapshot: &Snapshot) -> Self {
        let mut pools: Vec<_> = snapshot
            .pools
            .iter()
            .take(POOLS_MAX)
            .map(|p| (p.id, p.speed_bytes_per_sec.max(1), p.capacity_bytes))
            .collect();
        pools.sort_by_key(|&(_, speed, _)| std::cmp::Reverse(speed));
        Self {
            pools,
            cold_bytes_per_sec: snapshot.cold_bytes_per_sec.max(1),
        }
    }

    /// Seconds to read one byte from the pool at `rank` (0 is the fastest), or from the homes.
    pub(crate) fn secs_per_byte(&self, rank: Option<usize>) -> f64 {
        let speed = rank
            .and_then(|r| self.pools.get(r))
            .map_or(self.cold_bytes_per_sec, |&(_, speed, _)| speed);
        1.0 / speed.max(1) as f64
    }
}

/// A snapshot that contradicts itself: a fault of the owner, so nothing is planned from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotFault {
    /// More pools than [`POOLS_MAX`].
    TooManyPools(usize),
    /// Two pools with one name.
    PoolTwice(TierId),
    /// Two files with one name.
    FileTwice(FileRef),
    /// Two models with one name.
    ModelTwice(ModelId),
    /// A model names one file twice.
    FileTwiceInModel(ModelId, FileRef),
    /// A model names a file that is not listed.
    UnknownFile(ModelId, FileRef),
    /// A file lies in a pool that is not listed.
    UnknownPlace(FileRef, TierId),
    /// A file's spare is in no pool that is slower than the file's place.
    SpareNotSlower(FileRef),
    /// A model is on its way to a pool that is not listed.
    UnknownTarget(ModelId, TierId),
    /// A pool has more free than it can hold.
    FreeBeyondCapacity(TierId),
    /// The sizes of all files do not fit into 64 bits.
    SizesOverflow,
}

impl fmt::Display for SnapshotFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyPools(count) => write!(f, "{count} pools; at most {POOLS_MAX}"),
            Self::PoolTwice(id) => write!(f, "{id} is listed twice"),
            Self::FileTwice(id) => write!(f, "{id} is listed twice"),
            Self::ModelTwice(id) => write!(f, "{id} is listed twice"),
            Self::FileTwiceInModel(m, id) => write!(f, "{m} names {id} twice"),
            Self::UnknownFile(m, id) => write!(f, "{m} names {id}, which is not listed"),
            Self::UnknownPlace(id, p) => write!(f, "{id} lies in {p}, which is not listed"),
            Self::SpareNotSlower(id) => {
                write!(f, "the spare of {id} is in no pool slower than its place")
            }
            Self::UnknownTarget(m, p) => write!(f, "{m} moves to {p}, which is not listed"),
            Self::FreeBeyondCapacity(p) => write!(f, "{p} has more free than its capacity"),
            Self::SizesOverflow => write!(f, "the sizes of all files exceed 64 bits"),
        }
    }
}

impl std::error::Error for SnapshotFault {}

impl Snapshot {
    /// The first contradiction in this snapshot, if any.
    pub fn fault(&self) -> Option<SnapshotFault> {
        if self.pools.len() > POOLS_MAX {
            return Some(SnapshotFault::TooManyPools(self.pools.len()));
        }
        let pools = Lookup::new(self.pools.iter().map(|p| p.id));
        if let Some(id) = pools.twice() {
            return Some(SnapshotFault::PoolTwice(id));
        }
        if let Some(pool) = self.pools.iter().find(|p| p.free_bytes > p.capacity_bytes) {
            return Some(SnapshotFault::FreeBeyondCapacity(pool.id));
        }
        let unknown = |pool: Option<TierId>| pool.filter(|&p| pools.get(p).is_none());
        let speed = |pool: Option<TierId>| {
            let known = pool.and_then(|p| pools.get(p));
            known.map(|at| self.pools[at].speed_bytes_per_sec.max(1))
        };
        let files = Lookup::new(self.files.iter().map(|f| f.id));
        if let Some(id) = files.twice() {
            return Some(SnapshotFault::FileTwice(id));
        }
        let mut total = 0u64;
        for file in &self.files {
            if let Some(place) = unknown(file.place).or(unknown(file.spare)) {
                return Some(SnapshotFault::UnknownPlace(file.id, place));
            }
            if file.spare.is_some() && speed(file.spare) >= speed(file.place) {
                return Some(SnapshotFault::SpareNotSlower(file.id));
            }
            match total.checked_add(file.size_bytes) {
                Some(sum) => total = sum,
                None => return Some(SnapshotFault::SizesOverflow),
            }
        }
        if let Some(id) = Lookup::new(self.models.iter().map(|m| m.id)).twice() {
            return Some(SnapshotFault::ModelTwice(id));
        }
        for m in &self.models {
            if let Some(pool) = unknown(m.moving_to) {
                return Some(SnapshotFault::UnknownTarget(m.id, pool));
            }
            if let Some(&file) = m.files.iter().find(|&&file| files.get(file).is_none()) {
                return Some(SnapshotFault::UnknownFile(m.id, file));
            }
            if let Some(file) = twice(&m.files) {
                return Some(SnapshotFault::FileTwiceInModel(m.id, file));
            }
        }
        None
    }
}

/// A file that is listed twice. Most models have few files: no list is sorted for those.
fn twice(files: &[FileRef]) -> Option<FileRef> {
    const FEW: usize = 16;
    if files.len() > FEW {
        return Lookup::new(files.iter().copied()).twice();
    }
    let again = |&(at, file): &(usize, &FileRef)| files[..at].contains(file);
    files.iter().enumerate().find(again).map(|(_, &file)| file)
}
