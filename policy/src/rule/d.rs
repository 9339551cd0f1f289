//! Expert D: the decayed count by size. Right where small models are the popular ones.

use super::{Expert, Index, Rule};

/// See the module.
pub const RULE: Rule = Rule {
    expert: Expert::D,
    hold: Index::HeatDensity,
    split: Index::HeatRecent,
    always: false,
    priced: true,
    only_splits: false,
};
