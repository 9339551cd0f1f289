//! Expert A: the decayed count of loads. Sound where popularity drifts slowly and sizes say nothing.

use super::{Expert, Index, Rule};

/// See the module.
pub const RULE: Rule = Rule {
    expert: Expert::A,
    hold: Index::HeatMedium,
    split: Index::HeatRecent,
    always: false,
    priced: true,
    only_splits: false,
};
