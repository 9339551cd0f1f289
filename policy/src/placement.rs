//! Which pool, when somebody asked for one to be found: the strategies. No heat, no victims.

use crate::params::Strategy;

/// A pool as the strategies see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its rank in speed, 0 is the fastest.
    pub rank: usize,
    /// Its position in the configuration.
    pub configured: usize,
    /// How many models it holds.
    pub models: usize,
}

/// Ranks in the order in which they are to be tried.
pub fn order(strategy: Strategy, mut pools: Vec<Candidate>) -> Vec<usize> {
    match strategy {
        Strategy::FastestFit => pools.sort_by_key(|p| p.rank),
        Strategy::FillFirst => pools.sort_by_key(|p| p.configured),
        Strategy::RoundRobin => pools.sort_by_key(|p| (p.models, p.configured)),
    }
    pools.into_iter().map(|p| p.rank).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_strategy_has_its_order() {
        let pools = vec![
            Candidate {
                rank: 1,
                configured: 0,
                models: 3,
            },
            Candidate {
                rank: 0,
                configured: 1,
                models: 3,
            },
            Candidate {
                rank: 2,
                configured: 2,
                models: 1,
            },
        ];
        assert_eq!(order(Strategy::FastestFit, pools.clone()), [0, 1, 2]);
        assert_eq!(order(Strategy::FillFirst, pools.clone()), [1, 0, 2]);
        assert_eq!(order(Strategy::RoundRobin, pools), [2, 1, 0]);
    }
}
