//! Expert B: whatever is loaded is held, displacing what was least loaded just now. Insurance for
//! abrupt change: where releases come and go it saves 8 % (world `release`, seed 6, 40 %), and it
//! costs nothing elsewhere, because it leads only while it is cheapest.

use super::{Expert, Index, Rule};

/// See the module.
pub const RULE: Rule = Rule {
    expert: Expert::B,
    hold: Index::HeatShort,
    split: Index::HeatRecent,
    always: true,
    priced: true,
    only_splits: false,
};
