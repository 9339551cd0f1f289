//! From a name to its position in a list, built at once and never changed. Ordered, so
//! deterministic, and fast for lists that are sorted already, as an owner's mostly are.

/// See the module.
#[derive(Debug)]
pub struct Lookup<K>(Vec<(K, u32)>);

impl<K: Copy + Ord> Lookup<K> {
    /// Positions of `keys` in their order.
    pub fn new(keys: impl Iterator<Item = K>) -> Self {
        let mut pairs: Vec<(K, u32)> = keys.zip(0..).collect();
        pairs.sort_unstable();
        Self(pairs)
    }

    /// A key that is there twice.
    pub fn twice(&self) -> Option<K> {
        self.0
            .windows(2)
            .find(|pair| pair[0].0 == pair[1].0)
            .map(|pair| pair[0].0)
    }

    /// The position of a key.
    pub fn get(&self, key: K) -> Option<usize> {
        let at = self.0.binary_search_by_key(&key, |&(k, _)| k).ok()?;
        Some(self.0[at].1 as usize)
    }
}
