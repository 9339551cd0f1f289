//! What a plan consists of, and why: data for people, events and pages. No behaviour.

use std::fmt;

use crate::ids::{FileRef, ModelId, TierId};
use crate::rule::Expert;

/// Up or down, or what is left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoveKind {
    /// To a faster place.
    Promote,
    /// To a slower pool, or dropped back to the home.
    Demote,
    /// To the slower pool that still has a copy: nothing is copied.
    FallBack,
    /// Nothing moves: the copy in the pool it comes from, slower than where it is served from, goes.
    DropSpare,
}

/// One file's move. Carried out in the order of the plan, each is possible when its turn comes.
#[derive(Clone, Debug, PartialEq)]
pub struct Move {
    /// The file.
    pub file: FileRef,
    /// The model for (or because of) which it moves.
    pub model: ModelId,
    /// Up or down.
    pub kind: MoveKind,
    /// Where it is served from now; `None` is the home.
    pub from: Option<TierId>,
    /// Where to; `None` is the home: the replica is dropped.
    pub to: Option<TierId>,
    /// Its size, bytes.
    pub bytes: u64,
    /// Of a promotion: the copy it leaves in the slower pool stays there as a spare.
    pub keeps_spare: bool,
    /// Why.
    pub reason: Reason,
}

/// Why a file moves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reason {
    /// Being loaded, and worth more (index x bytes, by the leading expert) than what it displaces.
    Loaded {
        /// Its worth; 0 when there was free room and nobody asked.
        worth: f64,
        /// The worth of what it displaces, less what the room left over will earn.
        lost: f64,
        /// Whether anything leaves a pool for it.
        displaces: bool,
    },
    /// The user asked.
    Requested,
    /// It was resident before the restart.
    Restored,
    /// It is pinned to the pool.
    Pinned,
    /// The user said `always`.
    Always,
    /// The user said `never`.
    Never,
    /// Free room is filled with what is hottest.
    FillsFreeRoom {
        /// Its heat.
        heat: f64,
    },
    /// Makes room for another model that is worth more, or asked for.
    MakesRoomFor(ModelId),
    /// The pool must give memory back.
    GivesBack(TierId),
    /// The pool is about to be disconnected.
    PoolGoes(TierId),
    /// The file belongs to no model that is resident as a whole, and its room is needed.
    Leftover,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loaded {
                displaces: false, ..
            } => write!(f, "loaded, and there is room"),
            Self::Loaded { worth, lost, .. } if *worth > *lost && *lost > 0.0 => {
                write!(
                    f,
                    "loaded, and worth {:.1}x what it displaces",
                    worth / lost
                )
            }
            Self::Loaded { .. } => write!(f, "loaded, and takes the place of others"),
            Self::Requested => write!(f, "requested"),
            Self::Restored => write!(f, "it was resident before the restart"),
            Self::Pinned => write!(f, "pinned"),
            Self::Always => write!(f, "set to always"),
            Self::Never => write!(f, "set to never"),
            Self::FillsFreeRoom { heat } => write!(f, "fills free room, heat {heat:.2}"),
            Self::MakesRoomFor(model) => write!(f, "makes room for {model}"),
            Self::GivesBack(pool) => write!(f, "{pool} gives memory back"),
            Self::PoolGoes(pool) => write!(f, "{pool} is being disconnected"),
            Self::Leftover => write!(f, "left over from a model that is not resident as a whole"),
        }
    }
}

/// Why something wanted is not done. Sizes in bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Refusal {
    /// Not listed in the snapshot.
    UnknownModel,
    /// The model has no files.
    NoFiles,
    /// The pool asked for, or pinned to, is not connected.
    UnknownPool(TierId),
    /// The pool takes nothing at present.
    PoolClosed(TierId),
    /// There is no pool at all that takes anything.
    NoPool,
    /// Larger than any pool it may go to.
    TooLarge {
        /// What it needs.
        needs_bytes: u64,
        /// The capacity of the largest pool it may go to.
        largest_bytes: u64,
    },
    /// The models pinned to this pool are together larger than it.
    PinnedSetTooLarge {
        /// The pool.
        pool: TierId,
        /// All models pinned to it.
        pinned_bytes: u64,
        /// What it can hold.
        capacity_bytes: u64,
    },
    /// It would fit, if what is pinned, `always`, of higher priority, open or being moved left.
    NoRoom {
        /// The pool where least is missing.
        pool: TierId,
        /// What it needs there.
        needs_bytes: u64,
        /// What could be made free there.
        available_bytes: u64,
    },
    /// It is worth no more than what it would displace.
    NotWorth {
        /// The pool where least would be lost.
        pool: TierId,
        /// Its worth (index x bytes).
        worth: f64,
        /// The worth of what it would displace, less what the room left over would earn.
        lost: f64,
    },
    /// A file has a writer, a lock or a copy under way.
    Busy(FileRef),
    /// A file is open: it stays until it is let go.
    InUse(FileRef),
    /// It is already on its way to this pool.
    UnderWay(TierId),
    /// The user said `never`.
    RuleNever,
    /// It is pinned to this pool.
    PinnedTo(TierId),
    /// It is not in a pool faster than the place asked for.
    NotResident,
    /// Decisions by heat are switched off.
    PolicyOff,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownModel => write!(f, "no such model"),
            Self::NoFiles => write!(f, "has no files"),
            Self::UnknownPool(pool) => write!(f, "{pool} is not connected"),
            Self::PoolClosed(pool) => write!(f, "{pool} takes nothing at present"),
            Self::NoPool => write!(f, "no pool is connected"),
            Self::TooLarge {
                needs_bytes,
                largest_bytes,
            } => write!(
                f,
                "needs {needs_bytes} bytes; the largest pool it may go to holds {largest_bytes}"
            ),
            Self::PinnedSetTooLarge {
                pool,
                pinned_bytes,
                capacity_bytes,
            } => write!(
                f,
                "the models pinned to {pool} need {pinned_bytes} bytes; it holds {capacity_bytes}"
            ),
            Self::NoRoom {
                pool,
                needs_bytes,
                available_bytes,
            } => write!(
                f,
                "needs {needs_bytes} bytes in {pool}; only {available_bytes} could be made free \
                 without touching what is open, pinned, always, or of higher priority"
            ),
            Self::NotWorth { pool, worth, lost } => write!(
                f,
                "worth {:.2} of what it would displace in {pool}",
                if *lost > 0.0 { worth / lost } else { 0.0 }
            ),
            Self::Busy(file) => write!(f, "{file} has a writer, a lock, or a copy under way"),
            Self::InUse(file) => write!(f, "{file} is open"),
            Self::UnderWay(pool) => write!(f, "already on its way to {pool}"),
            Self::RuleNever => write!(f, "set to never"),
            Self::PinnedTo(pool) => write!(f, "pinned to {pool}"),
            Self::NotResident => write!(f, "not in a faster place"),
            Self::PolicyOff => write!(f, "decisions by heat are switched off"),
        }
    }
}

/// What became of one model that was considered.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Already where it should be.
    Stays {
        /// The slowest pool that any of its files is served from.
        pool: TierId,
    },
    /// Moves are planned; the models it displaces.
    Promoted {
        /// To this pool.
        pool: TierId,
        /// Instead of these, least worth first.
        displaces: Vec<ModelId>,
    },
    /// Moves are planned.
    Demoted {
        /// To this pool or the home.
        pool: Option<TierId>,
    },
    /// Nothing is done.
    Refused(Refusal),
}

/// One model that was considered, in the order it was.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The model.
    pub model: ModelId,
    /// What became of it.
    pub outcome: Outcome,
}

/// What a plan thought.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The expert whose rule was applied.
    pub leader: Expert,
    /// Models considered.
    pub findings: Vec<Finding>,
    /// Pools that could not give back all they were asked for: bytes still missing. The rest is
    /// open, pinned or being moved.
    pub still_owed: Vec<(TierId, u64)>,
}

/// What to do, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// File by file; a model's files are neighbours.
    pub moves: Vec<Move>,
    /// Why, and why not.
    pub report: Report,
}

/// Everything there is to say about one model.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// The model.
    pub model: ModelId,
    /// The slowest pool any of its files is served from; `None`: at least one is in the home.
    pub place: Option<TierId>,
    /// A slower pool that has a copy of it too: it goes there at no cost.
    pub spare: Option<TierId>,
    /// Its size, bytes.
    pub bytes: u64,
    /// Of these, in pools.
    pub resident_bytes: u64,
    /// Decayed count of loads, half-life [`crate::Params::half_life`] x resident models.
    pub heat: f64,
    /// Its place among all models by the leading expert's index, 1 is first.
    pub rank: usize,
    /// Of how many.
    pub models: usize,
    /// How many loads of anything ago it was last loaded.
    pub loads_since: Option<u64>,
    /// Whose rule applies.
    pub expert: Expert,
    /// What would be done if it were loaded now.
    pub if_loaded: Outcome,
    /// How many more loads in a row would make it resident; `Some(0)`: none, `None`: no number
    /// of loads would (see `if_loaded`).
    pub loads_needed: Option<u32>,
}
