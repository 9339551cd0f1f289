//! How soon a model is loaded again, learned from how soon others like it were.
//!
//! Models are sorted into classes by two decayed counts of their loads (a slow one: how much it is
//! used, and a fast one: whether it is in a burst). Per class, the chance of a load at each age
//! since the last one is estimated as Kaplan and Meier do, counting those that still wait as
//! censored; a class with few observations leans on all classes of the same slow count, and those
//! on the rate that the count itself implies. The index of a model is the best ratio, over all
//! horizons from its present age, of the chance of a load to the expected time of waiting for it:
//! what a byte of it earns per load of anything while it is held (a Gittins index).
//!
//! Ages are counted in loads of anything. No model is known here, only classes.

use crate::bytes::{LearnedFault, Reader, Writer};

/// Ages fall into this many buckets, a quarter of a factor of two each: up to 2^18 loads.
pub const BUCKETS: usize = 72;
const SLOW_CLASSES: usize = 16;
const FAST_CLASSES: usize = 4;
/// Cells of (class, age bucket).
pub const CELLS: usize = SLOW_CLASSES * FAST_CLASSES * BUCKETS;

/// Half-lives of the two counts, in loads of anything.
const SLOW_LOADS: f64 = 4096.0;
const FAST_LOADS: f64 = 64.0;
/// Every so many loads the tables are learned again.
const RELEARN_LOADS: u64 = 250;
/// Every so many loads old observations lose weight.
const FADE_LOADS: u64 = 2000;
const FADE: f64 = 0.92;
/// Observations' worth of trust in the coarser estimate.
const PRIOR: f64 = 4.0;
/// Faded observations of less weight than this are none.
const EVENTS_MIN: f64 = 1e-9;
const HAZARD_MAX: f64 = 0.999;

/// The two decayed counts of one model, as of its last load.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rhythm {
    pub slow: f32,
    pub fast: f32,
}

impl Rhythm {
    /// After a load that came `gap` loads after the one before (`None`: the first).
    pub fn after_load(self, gap: Option<u64>) -> Self {
        let Some(gap) = gap else {
            return Self {
                slow: 1.0,
                fast: 1.0,
            };
        };
        Self {
            slow: (self.slow_count(gap) + 1.0) as f32,
            fast: (faded(self.fast, gap, FAST_LOADS) + 1.0) as f32,
        }
    }

    /// The slow count, `age_loads` after the last load.
    pub fn slow_count(self, age_loads: u64) -> f64 {
        faded(self.slow, age_loads, SLOW_LOADS)
    }

    /// Orders models by the slow count at any time, given when they were last loaded.
    pub fn slow_key(self, last_load: u64) -> f64 {
        f64::from(self.slow).log2() + last_load as f64 / SLOW_LOADS
    }

    /// Its class.
    pub fn class(self) -> u8 {
        let slow = (1.5 * f64::from(self.slow).max(1.0).log2()) as usize;
        let fast = f64::from(self.fast).max(1.0).log2() as usize;
        (slow.min(SLOW_CLASSES - 1) * FAST_CLASSES + fast.min(FAST_CLASSES - 1)) as u8
    }
}

fn faded(count: f32, age_loads: u64, half_life_loads: f64) -> f64 {
    f64::from(count) * (-(age_loads as f64) / half_life_loads).exp2()
}

/// The bucket of an age.
pub fn bucket(age_loads: u64) -> usize {
    ((4.0 * ((age_loads + 1) as f64).log2() + 1e-9) as usize).min(BUCKETS - 1)
}

/// The youngest age that is beyond the bucket, `u64::MAX` for the last one.
pub fn bucket_end(bucket_at: usize) -> u64 {
    if bucket_at + 1 >= BUCKETS {
        return u64::MAX;
    }
    let mut age = (((bucket_at + 1) as f64 / 4.0).exp2() - 1.0).ceil() as u64;
    while bucket(age) <= bucket_at {
        age += 1;
    }
    while age > 0 && bucket(age - 1) > bucket_at {
        age -= 1;
    }
    age
}

/// The cell of a class and an age bucket.
pub fn cell(class: u8, bucket_at: u8) -> usize {
    usize::from(class) * BUCKETS + usize::from(bucket_at)
}

/// What was learned, and the index made of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Reuse {
    /// Loads that came at this age, by cell, faded.
    events: Vec<f64>,
    /// Models that wait at this age now, by cell.
    waiting: Vec<u32>,
    /// The index by cell.
    index: Vec<f64>,
    /// Cells by ascending index, and the position of each in that order.
    by_index: Vec<u16>,
    position: Vec<u16>,
    width: Vec<f64>,
}

impl Default for Reuse {
    fn default() -> Self {
        let mut reuse = Self {
            events: vec![0.0; CELLS],
            waiting: vec![0; CELLS],
            index: vec![0.0; CELLS],
            by_index: (0..CELLS as u16).collect(),
            position: vec![0; CELLS],
            width: (0..BUCKETS)
                .map(|b| ((b + 1) as f64 / 4.0).exp2() - (b as f64 / 4.0).exp2())
                .collect(),
        };
        reuse.relearn();
        reuse
    }
}

impl Reuse {
    /// A model starts to wait in a cell.
    pub fn starts_waiting(&mut self, cell: usize) {
        self.waiting[cell] += 1;
    }

    /// It has left the cell (older now, loaded, or forgotten).
    pub fn stops_waiting(&mut self, cell: usize) {
        self.waiting[cell] -= 1;
    }

    /// It was loaded in this cell.
    pub fn loaded(&mut self, cell: usize) {
        self.events[cell] += 1.0;
    }

    /// Worth per byte of a model in this cell.
    pub fn index(&self, cell: usize) -> f64 {
        self.index[cell]
    }

    /// Position of the cell in the order of worth, least first.
    pub fn position(&self, cell: usize) -> usize {
        usize::from(self.position[cell])
    }

    /// The cell at a position.
    pub fn cell_at(&self, position: usize) -> usize {
        usize::from(self.by_index[position])
    }

    /// After the load number `loads`; true when the order of cells has changed.
    pub fn tick(&mut self, loads: u64) -> bool {
        if loads.is_multiple_of(FADE_LOADS) {
            self.events.iter_mut().for_each(|e| *e *= FADE);
        }
        let due = loads.is_multiple_of(RELEARN_LOADS);
        if due {
            self.relearn();
        }
        due
    }

    /// Makes the index anew from what was observed.
    pub fn relearn(&mut self) {
        for slow in 0..SLOW_CLASSES {
            let rate = (slow as f64 / 1.5).exp2() * std::f64::consts::LN_2 / (2.0 * SLOW_LOADS);
            let classes = slow * FAST_CLASSES..(slow + 1) * FAST_CLASSES;
            let parent = self.parent_hazard(classes.clone(), rate);
            let mut common = None;
            for class in classes {
                let cells = class * BUCKETS..(class + 1) * BUCKETS;
                let seen = self.waiting[cells.clone()].iter().any(|&w| w > 0)
                    || self.events[cells.clone()].iter().any(|&e| e > EVENTS_MIN);
                if seen {
                    let hazard = self.class_hazard(class, &parent);
                    self.index[cells].copy_from_slice(&best_ratios(&hazard, &self.width));
                } else {
                    let ratios = common.get_or_insert_with(|| best_ratios(&parent, &self.width));
                    self.index[cells].copy_from_slice(ratios);
                }
            }
        }
        let index = &self.index;
        self.by_index.sort_unstable_by(|&a, &b| {
            index[usize::from(a)]
                .total_cmp(&index[usize::from(b)])
                .then(a.cmp(&b))
        });
        for (at, &cell) in self.by_index.iter().enumerate() {
            self.position[usize::from(cell)] = at as u16;
        }
    }

    /// Hazard by bucket of all classes of one slow count together.
    fn parent_hazard(&self, classes: std::ops::Range<usize>, rate: f64) -> [f64; BUCKETS] {
        let mut hazard = [0.0; BUCKETS];
        let mut at_risk = 0.0;
        for b in (0..BUCKETS).rev() {
            let (mut events, mut waiting) = (0.0, 0.0);
            for class in classes.clone() {
                events += self.events[class * BUCKETS + b];
                waiting += f64::from(self.waiting[class * BUCKETS + b]);
            }
            at_risk += events + waiting;
            let expected = 1.0 - (-rate * self.width[b]).exp();
            hazard[b] = (events + PRIOR * expected) / (at_risk - waiting / 2.0 + PRIOR);
        }
        hazard
    }

    /// Hazard by bucket of one class.
    fn class_hazard(&self, class: usize, parent: &[f64; BUCKETS]) -> [f64; BUCKETS] {
        let mut hazard = [0.0; BUCKETS];
        let mut at_risk = 0.0;
        for b in (0..BUCKETS).rev() {
            let events = self.events[class * BUCKETS + b];
            let waiting = f64::from(self.waiting[class * BUCKETS + b]);
            at_risk += events + waiting;
            let mixed = (events + PRIOR * parent[b]) / (at_risk - waiting / 2.0 + PRIOR);
            hazard[b] = mixed.min(HAZARD_MAX);
        }
        hazard
    }

    /// Saves what was observed; what waits is told again when it is restored.
    pub fn write(&self, out: &mut Writer) {
        self.events.iter().for_each(|&e| out.f64(e));
    }

    /// Back from [`Reuse::write`] after so many loads; call [`Reuse::relearn`] when what waits has been told.
    pub fn read(from: &mut Reader<'_>, loads: u64) -> Result<Self, LearnedFault> {
        let mut reuse = Self::default();
        for event in &mut reuse.events {
            *event = from.within(
                0.0..=loads as f64,
                "more was observed than there were loads",
            )?;
        }
        Ok(reuse)
    }
}

/// At each age, the best ratio over all horizons of the chance of a load to the time of waiting.
fn best_ratios(hazard: &[f64; BUCKETS], width: &[f64]) -> [f64; BUCKETS] {
    let mut out = [0.0; BUCKETS];
    for (from, best) in out.iter_mut().enumerate() {
        let (mut surviving, mut chance, mut time) = (1.0, 0.0, 0.0);
        for b in from..BUCKETS {
            time += surviving * width[b] * (1.0 - hazard[b] / 2.0);
            chance += surviving * hazard[b];
            surviving *= 1.0 - hazard[b];
            *best = f64::max(*best, chance / time);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_ends_agree_with_buckets() {
        for b in 0..BUCKETS - 1 {
            let end = bucket_end(b);
            assert!(bucket(end) > b, "bucket {b}");
            assert!(end == 0 || bucket(end - 1) <= b, "bucket {b}");
        }
        assert_eq!(bucket(0), 0);
        assert_eq!(bucket(u64::MAX - 1), BUCKETS - 1);
    }

    #[test]
    fn a_class_that_returns_soon_is_worth_more_just_after_a_load() {
        let mut reuse = Reuse::default();
        let class = Rhythm {
            slow: 30.0,
            fast: 1.0,
        }
        .class();
        for _ in 0..100 {
            reuse.loaded(cell(class, bucket(20) as u8));
        }
        reuse.relearn();
        let at = |age| reuse.index(cell(class, bucket(age) as u8));
        assert!(at(15) > at(40), "what did not return by 40 is unlikely to");
        assert!(at(15) > 0.02, "it returns within a few loads of 20");
    }

    #[test]
    fn what_waits_in_vain_lowers_the_index() {
        let mut reuse = Reuse::default();
        let here = cell(0, bucket(100) as u8);
        let before = reuse.index(here);
        (0..1000).for_each(|_| reuse.starts_waiting(cell(0, bucket(5000) as u8)));
        reuse.relearn();
        assert!(reuse.index(here) < before);
    }
}
