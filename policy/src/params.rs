//! Every tunable, with unit, range and source. No behaviour.

/// What moves cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Moves {
    /// A promotion happens while the load reads the model anyway; demotions are copies.
    #[default]
    WhileReading,
    /// A promotion reads the model a second time, from where it was.
    Copy,
}

/// The usual [`Params::half_life`].
pub(crate) const HALF_LIFE: f64 = 16.0;
/// Its least and its most.
pub(crate) const HALF_LIFE_MIN: f64 = 1.0;
pub(crate) const HALF_LIFE_MAX: f64 = 1e6;

/// Which pool within the choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// The fastest pool the model fits into; hot models displace cold ones towards slower pools.
    #[default]
    FastestFit,
    /// The first pool in the order of the snapshot until it is full, then the next.
    FillFirst,
    /// The pool that holds the fewest models, so that models spread evenly. Needs no memory of
    /// whose turn it was, and corrects itself when models leave.
    RoundRobin,
}

/// The tunables of [`crate::plan`] and [`crate::Learned::observe`].
#[derive(Clone, Debug, PartialEq)]
pub struct Params {
    /// How a pool is chosen.
    pub strategy: Strategy,
    /// Whether loads may cause promotions. When off only wants, pins and `always` move anything.
    pub automatic: bool,
    /// Whether free room is filled, hottest first, with models that nobody is loading right now
    /// (after a restart, or when a pool grows). Costs a copy from the home, so see `fill_heat_min`.
    pub fill_free_room: bool,
    /// How fast heat forgets: after so many loads, for each resident model, a load counts half. The shorter
    /// memories that experts go by are in proportion. What it is set to while there is heat already counts from
    /// then on. Range 1 to 1,000,000.
    pub half_life: f64,
    /// The least heat (decayed loads, see `half_life`) for which a copy from the
    /// home that nobody waits for is worth making. One load that is certain to come earns back
    /// one copy, so 0.5 means "as likely as not". Range 0 or more.
    pub fill_heat_min: f64,
    /// At most this many models are promoted by one plan to fill free room, so that plans stay
    /// short and can be revised. At least 1.
    pub fill_models_max: usize,
    /// The most models remembered, least recently loaded forgotten first. Range 16 to 2^24.
    /// Bounds memory at about 200 bytes each.
    pub known_models_max: usize,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            strategy: Strategy::FastestFit,
            automatic: true,
            fill_free_room: true,
            half_life: HALF_LIFE,
            fill_heat_min: 0.5,
            fill_models_max: 8,
            known_models_max: 200_000,
        }
    }
}
