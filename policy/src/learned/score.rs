//! What an expert has cost lately, beside the one that leads, and whether that can be chance.

/// What is left of a sum after one more load, if half of it is to be left after `half_life_loads`.
pub(super) fn fade(half_life_loads: f64) -> f64 {
    (-1.0 / half_life_loads).exp2()
}

/// Faded sums over an expert's loads.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Score {
    /// Seconds.
    pub secs: f64,
    /// Squares of the seconds by which its loads differ from the leader's, seconds squared: the variance
    /// of the difference of their sums.
    pub spread: f64,
}

impl Score {
    /// What a sum is at most, seconds: beyond anything that sizes and speeds allow.
    pub const SECS_MAX: f64 = 1e30;
    /// The same for squares.
    pub const SPREAD_MAX: f64 = 1e60;

    /// One load that took `secs`, which is `differs_secs` more than the leader's; of what was before `fade`
    /// is left.
    pub fn add(&mut self, fade: f64, secs: f64, differs_secs: f64) {
        self.secs = (self.secs * fade + secs).min(Self::SECS_MAX);
        self.spread =
            (self.spread * fade * fade + differs_secs * differs_secs).min(Self::SPREAD_MAX);
    }

    /// By how many standard deviations it is cheaper than `leader_secs`; none if they never differed.
    pub fn deviations_below(&self, leader_secs: f64) -> f64 {
        let by_secs = leader_secs - self.secs;
        if by_secs > 0.0 && self.spread > 0.0 {
            by_secs / self.spread.sqrt()
        } else {
            0.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_one_way_and_the_other_is_chance() {
        let fade = fade(1e9);
        let (mut leader, mut other) = (Score::default(), Score::default());
        for load in 0..100 {
            let secs = if load % 2 == 0 { 9.0 } else { 10.9 };
            leader.add(fade, 10.0, 0.0);
            other.add(fade, secs, secs - 10.0);
        }
        // Cheaper by 5 s of 1000, while a load differs by about one.
        assert!((leader.secs - other.secs - 5.0).abs() < 1e-3);
        assert!(other.deviations_below(leader.secs) < 0.6);
        for _ in 0..10 {
            leader.add(fade, 10.0, 0.0);
            other.add(fade, 8.5, -1.5);
        }
        assert!(other.deviations_below(leader.secs) > 1.8);
    }

    #[test]
    fn who_never_differed_is_not_cheaper() {
        let mut score = Score::default();
        score.add(fade(100.0), 3.0, 0.0);
        assert!(score.deviations_below(3.0) <= 0.0);
        assert!(score.deviations_below(2.0) <= 0.0, "dearer");
    }

    #[test]
    fn sums_stay_finite() {
        let mut score = Score::default();
        for _ in 0..10 {
            score.add(fade(1e9), 1e200, 1e200);
        }
        assert!(score.secs <= Score::SECS_MAX && score.spread <= Score::SPREAD_MAX);
    }
}
