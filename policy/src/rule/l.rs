//! Expert L: as A, with twice its memory. Right where nothing drifts: loads by a law that stays, or in
//! a circle. Without it load time is 0.3 % higher on synthetic worlds, and up to 4 % on single ones.

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
