//! Expert C: holds what is expected back soonest ([`crate::reuse`]). Without it load time is 3 % higher
//! on traces and up to 25 % on single worlds; alone it is nearly as good as all experts together.

use super::{Expert, Index, Rule};

/// See the module.
pub const RULE: Rule = Rule {
    expert: Expert::C,
    hold: Index::Reuse,
    split: Index::HeatRecent,
    always: false,
    priced: true,
    only_splits: false,
};
