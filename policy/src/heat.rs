//! Heat: decayed counts of a model's loads, at three half-lives.
//!
//! Time is the sequence of loads, weighted by how many models the leading expert holds: at each load of
//! anything the [`HeatClock`] advances by 1 / resident, and a count with factor `k` halves every
//! `k` units, that is every `k x resident` loads. So heat forgets slowly where much is held. With another
//! half-life than the usual one the clock runs faster or slower from then on, and all counts with it.
//! All counts of one factor decay alike, hence the *order* of two models changes only when one of
//! them is loaded; [`Heat::key`] is that order, constant between loads.

use crate::params::{HALF_LIFE, HALF_LIFE_MAX, HALF_LIFE_MIN};

/// How fast a count forgets, in units of resident models' worth of loads, by the usual clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Half-life 4 x resident: what is going on now.
    Short,
    /// Half-life 8 x resident: what has been going on. Splits faster from slower pools.
    Recent,
    /// Half-life 16 x resident: what is shown to people as heat.
    Medium,
}

/// All of them, in the order of their declaration.
const MEMORIES: [Memory; 3] = [Memory::Short, Memory::Recent, Memory::Medium];

impl Memory {
    fn factor(self) -> f64 {
        match self {
            Self::Short => 4.0,
            Self::Recent => 8.0,
            Self::Medium => HALF_LIFE,
        }
    }
}

/// Fewer resident models than this count as this many, or heat would forget at once.
const RESIDENT_FLOOR: u64 = 4;
/// The most that the clock advances in one load.
pub(crate) const TICK_MAX: f64 = HALF_LIFE / HALF_LIFE_MIN / RESIDENT_FLOOR as f64;

/// The one clock, by which all heat decays.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct HeatClock {
    /// Loads of anything so far.
    pub(crate) loads: u64,
    /// Sum of 1 / resident over them, each times the usual half-life over that of the moment.
    pub(crate) aged: f64,
}

impl HeatClock {
    /// One load of anything while the leading expert holds `resident` models and [`Memory::Medium`] is to have
    /// this half-life.
    pub fn tick(&mut self, resident: u64, half_life: f64) {
        let pace = HALF_LIFE / half_life.clamp(HALF_LIFE_MIN, HALF_LIFE_MAX);
        self.loads += 1;
        self.aged += pace / resident.max(RESIDENT_FLOOR) as f64;
    }
}

/// The decayed load counts of one model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Heat {
    /// log2 of the count it would have had at clock zero, by [`Memory`].
    pub(crate) keys: [f64; MEMORIES.len()],
}

impl Default for Heat {
    /// Never loaded.
    fn default() -> Self {
        Self {
            keys: [f64::NEG_INFINITY; MEMORIES.len()],
        }
    }
}

impl Heat {
    /// One load, after the clock has ticked for it.
    pub fn add_load(&mut self, clock: HeatClock) {
        for memory in MEMORIES {
            self.keys[memory as usize] =
                (self.count(clock, memory) + 1.0).log2() + clock.aged / memory.factor();
        }
    }

    /// The decayed count now.
    pub fn count(&self, clock: HeatClock, memory: Memory) -> f64 {
        (self.key(memory) - clock.aged / memory.factor()).exp2()
    }

    /// Orders models by `count` at any time; changes only in [`Heat::add_load`].
    pub fn key(&self, memory: Memory) -> f64 {
        self.keys[memory as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_halves_after_its_half_life() {
        let mut clock = HeatClock::default();
        let mut heat = Heat::default();
        clock.tick(10, HALF_LIFE);
        heat.add_load(clock);
        for _ in 0..40 {
            clock.tick(10, HALF_LIFE);
        }
        assert!((heat.count(clock, Memory::Short) - 0.5).abs() < 1e-9);
        assert!((heat.count(clock, Memory::Medium) - 0.5f64.powf(0.25)).abs() < 1e-9);
    }

    #[test]
    fn another_half_life_counts_from_when_it_is_set() {
        let mut clock = HeatClock::default();
        let mut heat = Heat::default();
        heat.add_load(clock);
        let after = |clock: &mut HeatClock, loads: u64, half_life: f64| {
            (0..loads).for_each(|_| clock.tick(10, half_life));
            heat.count(*clock, Memory::Medium)
        };
        assert!((after(&mut clock, 160, HALF_LIFE) - 0.5).abs() < 1e-9);
        assert!((after(&mut clock, 320, 32.0) - 0.25).abs() < 1e-9, "slower");
        assert!((after(&mut clock, 10, 1.0) - 0.125).abs() < 1e-9, "faster");
        let short = heat.count(clock, Memory::Short);
        assert!((short - 0.125f64.powi(4)).abs() < 1e-9, "in proportion");
    }

    #[test]
    fn never_loaded_is_exactly_cold() {
        let heat = Heat::default();
        let clock = HeatClock {
            aged: 1e6,
            ..HeatClock::default()
        };
        assert!(heat.count(clock, Memory::Medium) <= 0.0);
    }

    #[test]
    fn the_order_of_two_does_not_change_while_neither_is_loaded() {
        let mut clock = HeatClock::default();
        let (mut a, mut b) = (Heat::default(), Heat::default());
        for i in 0..20u64 {
            clock.tick(7, HALF_LIFE);
            if i % 3 == 0 {
                a.add_load(clock)
            } else {
                b.add_load(clock)
            }
        }
        let before = a.count(clock, Memory::Short) < b.count(clock, Memory::Short);
        for _ in 0..500 {
            clock.tick(7, HALF_LIFE);
        }
        assert_eq!(
            before,
            a.count(clock, Memory::Short) < b.count(clock, Memory::Short)
        );
        assert_eq!(before, a.key(Memory::Short) < b.key(Memory::Short));
    }
}
