//! Heat: decayed counts of a model's loads, at three half-lives.
//!
//! Time is the sequence of loads, weighted by how many models the leading expert holds: at each load of
//! anything the [`HeatClock`] advances by 1 / resident, and a count with factor `k` halves every
//! `k` units, that is every `k x resident` loads. So heat forgets slowly where much is held.
//! All counts of one factor decay alike, hence the *order* of two models changes only when one of
//! them is loaded; [`Heat::key`] is that order, constant between loads.

/// How fast a count forgets, in units of resident models' worth of loads.
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
            Self::Medium => 16.0,
        }
    }
}

/// Fewer resident models than this count as this many, or heat would forget at once.
const RESIDENT_FLOOR: u64 = 4;

/// The one clock, by which all heat decays.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct HeatClock {
    /// Loads of anything so far.
    pub(crate) loads: u64,
    /// Sum of 1 / resident over them.
    pub(crate) aged: f64,
}

impl HeatClock {
    /// One load of anything while the leading expert holds `resident` models.
    pub fn tick(&mut self, resident: u64) {
        self.loads += 1;
        self.aged += 1.0 / resident.max(RESIDENT_FLOOR) as f64;
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
        clock.tick(10);
        heat.add_load(clock);
        for _ in 0..40 {
            clock.tick(10);
        }
        assert!((heat.count(clock, Memory::Short) - 0.5).abs() < 1e-9);
        assert!((heat.count(clock, Memory::Medium) - 0.5f64.powf(0.25)).abs() < 1e-9);
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
            clock.tick(7);
            if i % 3 == 0 {
                a.add_load(clock)
            } else {
                b.add_load(clock)
            }
        }
        let before = a.count(clock, Memory::Short) < b.count(clock, Memory::Short);
        for _ in 0..500 {
            clock.tick(7);
        }
        assert_eq!(
            before,
            a.count(clock, Memory::Short) < b.count(clock, Memory::Short)
        );
        assert_eq!(before, a.key(Memory::Short) < b.key(Memory::Short));
    }
}
