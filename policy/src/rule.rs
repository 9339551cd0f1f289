//! A rule: by what a model is held, admitted, and split between faster and slower pools.
//!
//! An expert *is* a rule; the same [`crate::decide::open`] applies it to the real pools and to
//! every shadow. A new expert is a new constant in [`EXPERTS`].

/// A figure by which models are compared, per byte: what is lost when a byte of it is not held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Index {
    /// Decayed count with the short memory.
    HeatShort,
    /// Decayed count with the medium memory.
    HeatMedium,
}

/// Which expert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Expert {
    /// Decayed count of loads, half-life 16 x resident models.
    A,
}

/// What an expert does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Whose rule.
    pub expert: Expert,
    /// By what models are held at all.
    pub hold: Index,
    /// By what models are split between a faster and a slower pool.
    pub split: Index,
    /// Whether a swap between pools must pay for the demotion it causes.
    pub priced: bool,
}

/// All experts.
pub const EXPERTS: &[Rule] = &[Rule {
    expert: Expert::A,
    hold: Index::HeatMedium,
    split: Index::HeatShort,
    priced: true,
}];
