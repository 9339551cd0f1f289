//! Expert R: as C, but the tiers are split by the same learned index, without a price. Matters where
//! people work in sessions and a model's turn comes and goes.

use super::{Expert, Index, Rule};

/// See the module.
pub const RULE: Rule = Rule {
    expert: Expert::R,
    hold: Index::Reuse,
    split: Index::Reuse,
    always: false,
    priced: false,
    only_splits: true,
};
