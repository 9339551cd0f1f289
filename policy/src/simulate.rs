//! Replays a trace through the very same [`Learned::observe`] and rules that the daemon uses, with
//! every decision carried out at once, and through published policies for comparison.
//!
//! Load time is the sum over loads of size / speed of the tier that serves them, and of what
//! moves cost. Pure: the trace is given, nothing is read or printed.

use crate::ids::ModelId;
use crate::learned::{Learned, Load, Served};
use crate::params::{Moves, Params};
use crate::snapshot::Tiers;
use crate::trace::{Trace, TraceLoad};

/// Sums over a replay.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    /// Loads.
    pub loads: u64,
    /// Loads served by any pool.
    pub hits: u64,
    /// Bytes loaded.
    pub bytes: u64,
    /// Bytes of loads served by any pool.
    pub hit_bytes: u64,
    /// Of these, those of each pool, fastest first; pools that never served may be missing at the end.
    pub pool_bytes: Vec<u64>,
    /// Bytes put into pools, moved up, or demoted.
    pub moved_bytes: u64,
    /// Load time with moves, seconds.
    pub load_time_secs: f64,
}

impl Totals {
    /// Share of loads served by pools, 0 to 1.
    pub fn object_hit_ratio(&self) -> f64 {
        self.hits as f64 / (self.loads as f64).max(1.0)
    }

    /// Share of bytes served by pools, 0 to 1.
    pub fn byte_hit_ratio(&self) -> f64 {
        self.hit_bytes as f64 / (self.bytes as f64).max(1.0)
    }

    pub(crate) fn add(&mut self, bytes: u64, served: Served, tiers: &Tiers, moves: Moves) {
        self.loads += 1;
        self.bytes += bytes;
        if let Some(rank) = served.rank {
            self.hits += 1;
            self.hit_bytes += bytes;
            self.pool_bytes
                .resize(self.pool_bytes.len().max(rank + 1), 0);
            self.pool_bytes[rank] += bytes;
        }
        // Loads are within 64 bits together; what is moved for them need not be.
        let moved_bytes = served.promoted_bytes.saturating_add(served.demoted_bytes);
        self.moved_bytes = self.moved_bytes.saturating_add(moved_bytes);
        let secs_per_byte = tiers.secs_per_byte(served.rank);
        self.load_time_secs += bytes as f64 * secs_per_byte + served.demoted_secs;
        if moves == Moves::Copy {
            self.load_time_secs += served.promoted_bytes as f64 * secs_per_byte;
        }
    }
}

/// The engine of this crate, load by load.
#[derive(Clone, Debug)]
pub struct Replay {
    params: Params,
    tiers: Tiers,
    moves: Moves,
    learned: Learned,
    totals: Totals,
}

impl Replay {
    /// Empty pools, nothing learned.
    pub fn new(params: Params, tiers: Tiers, moves: Moves) -> Self {
        let learned = Learned::with_mirror(&tiers, moves);
        Self {
            params,
            tiers,
            moves,
            learned,
            totals: Totals::default(),
        }
    }

    /// One load.
    pub fn load(&mut self, load: TraceLoad) -> Served {
        let load = Load {
            model: ModelId(u64::from(load.object)),
            bytes: load.bytes,
            family: u64::from(load.family),
        };
        let served = self
            .learned
            .observe_and_serve(&self.params, &self.tiers, load);
        self.totals.add(load.bytes, served, &self.tiers, self.moves);
        served
    }

    /// Sums so far.
    pub fn totals(&self) -> Totals {
        self.totals.clone()
    }

    /// What was learned so far.
    pub fn learned(&self) -> &Learned {
        &self.learned
    }
}

/// Replays a whole trace.
pub fn replay(params: &Params, tiers: &Tiers, moves: Moves, trace: &Trace) -> Totals {
    let mut replay = Replay::new(params.clone(), tiers.clone(), moves);
    for &load in &trace.loads {
        replay.load(load);
    }
    replay.totals()
}
