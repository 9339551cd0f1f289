//! Expert L: as A, but what it remembers does not depend on how little is held. Right where nothing
//! drifts (loads by a law that stays, or in a circle), above all with small pools, where A forgets soon.
//! It holds by the slow count of learned reuse, which is kept anyway.

use super::{Expert, Index, Rule};

/// See the module.
pub const RULE: Rule = Rule {
    expert: Expert::L,
    hold: Index::HeatLong,
    split: Index::HeatRecent,
    always: false,
    priced: true,
    only_splits: false,
};
