//! Which model belongs in which pool, decided by pure functions.
//!
//! The crate remembers loads ([`Learned::observe`]), plans moves ([`plan`]), says why
//! ([`Report`], [`explain`]) and judges plans ([`check`]). The same inputs always give the same
//! answer: there is no clock, thread, randomness, unordered map, or I/O in here, and nothing here
//! knows what a path or a mount is. The owner translates its world into a [`Snapshot`] and a
//! [`Plan`] into copies.
//!
//! The order of the modules is the layering: a module uses only those above it.
#![forbid(unsafe_code)]

mod ids;
mod lookup;
mod params;
mod snapshot;
mod bytes;
mod heat;
mod chain;
mod reuse;
mod rule;
mod eviction;
mod decide;
mod known;
mod shadow;
mod learned;
mod report;
mod board;
mod placement;
mod plan;
mod check;
mod trace;
mod simulate;
mod baseline;
mod bound;

pub use baseline::{BASELINES, BaselineKind, replay_baseline};
pub use bound::load_time_bound_secs;
pub use check::{Note, NoteKind, Severity, check};
pub use heat::Heat;
pub use ids::{FileRef, ModelId, TierId};
pub use learned::{Learned, LearnedFault, Load, Served};
pub use params::{Moves, Params, Strategy};
pub use plan::{explain, plan};
pub use report::{Explanation, Finding, Move, MoveKind, Outcome, Plan, Reason, Refusal, Report};
pub use rule::Expert;
pub use simulate::{Replay, Totals, replay};
pub use snapshot::{
    FileState, ModelRule, ModelState, POOLS_MAX, PoolState, Snapshot, SnapshotFault, Tiers, Want,
    WantKind,
};
pub use trace::{HEADER, Trace, TraceFault, TraceFaultKind, TraceLoad, TraceReader};
