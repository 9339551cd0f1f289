//! A rule: by what a model is held, admitted, and split between faster and slower pools.
//!
//! An expert *is* a rule; the same [`crate::decide::open`] applies it to the real pools and to
//! every shadow. A new expert is a new file under `rule/` and a name in [`EXPERTS`].

mod a;
mod b;
mod c;
mod d;
mod l;
mod r;

use std::fmt;

/// A figure by which models are compared, per byte: what is lost when a byte of it is not held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Index {
    /// Decayed count of loads with the short memory.
    HeatShort,
    /// Decayed count of loads with the memory next to it.
    HeatRecent,
    /// Decayed count of loads with the medium memory.
    HeatMedium,
    /// Decayed count of loads with half-life 4096 loads of anything, however much is resident.
    HeatLong,
    /// The medium one by size.
    HeatDensity,
    /// How soon it is expected again, learned.
    Reuse,
}

/// Those that are an order of models which changes only when one of them is loaded: all but
/// [`Index::Reuse`], in the order of their declaration.
pub const HEATS: [Index; 5] = [
    Index::HeatShort,
    Index::HeatRecent,
    Index::HeatMedium,
    Index::HeatLong,
    Index::HeatDensity,
];

/// Which expert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Expert {
    /// Learned reuse; the tiers split by what is going on now.
    C,
    /// Learned reuse; the tiers split by it too, and swapped freely.
    R,
    /// Decayed count of loads with the medium memory, usually half-life 16 x resident models.
    A,
    /// Decayed count of loads, half-life 4096 loads of anything.
    L,
    /// The count of A by size.
    D,
    /// Whatever is loaded, by what is going on now.
    B,
}

impl fmt::Display for Expert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::C => "C (learned reuse)",
            Self::R => "R (learned reuse, free split)",
            Self::A => "A (heat)",
            Self::L => "L (heat, long memory)",
            Self::B => "B (whatever is loaded)",
            Self::D => "D (heat by size)",
        })
    }
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
    /// Admits and promotes without asking what that displaces.
    pub always: bool,
    /// Whether a swap between pools must pay for the demotion it causes.
    pub priced: bool,
    /// Differs from the others only where there is more than one pool.
    pub only_splits: bool,
}

/// All experts; the first leads until another has proved cheaper.
///
/// Tried and left out because it gained no more than noise: the heat of a model's family as a third
/// dimension of the classes of learned reuse (two tiers 1.208 to 1.210 x bound instead of 1.2045), and
/// the same for first loads only (1.2043); a count with half-life 64 x resident models; splitting the
/// tiers by the medium memory of heat, by an expert of its own (three tiers 0.977 of the best baseline
/// instead of 0.978) or two (0.978), and by learned reuse with a price (0.977). Beside the six of now: one that
/// always admits and holds by learned reuse, or by half-life 8 x resident, and one that holds by the short
/// memory and does not always admit (each within 0.001 on the worlds where the six do worst).
pub const EXPERTS: &[Rule] = &[c::RULE, r::RULE, a::RULE, l::RULE, d::RULE, b::RULE];
