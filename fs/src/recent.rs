//! Values of which a tree has the same again and again, shared: names such as `config.json`, owners.
//!
//! A value is shared with an equal one that came a short while ago, not with every one there is: the
//! memory that finds them has a bound, and a tree in which nothing repeats pays next to nothing.

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;

/// The values that came last.
#[derive(Debug)]
pub(crate) struct Recent<T: ?Sized> {
    /// Each value has one place, which it shares with others; the last one has it.
    places: Box<[Option<Arc<T>>]>,
    hasher: RandomState,
}

impl<T: ?Sized + Hash + Eq> Recent<T> {
    /// Remembers at most so many.
    pub(crate) fn new(places: usize) -> Recent<T> {
        Recent {
            places: (0..places.max(1)).map(|_| None).collect(),
            hasher: RandomState::new(),
        }
    }

    /// The equal value that is remembered, or this one, which is from now on.
    pub(crate) fn share(&mut self, value: Arc<T>) -> Arc<T> {
        let hash = self.hasher.hash_one(&*value);
        let count = self.places.len() as u64;
        // Smaller than the number of places.
        let place = &mut self.places[usize::try_from(hash % count).unwrap_or(0)];
        match place {
            Some(known) if *known == value => Arc::clone(known),
            _ => Arc::clone(place.insert(value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_again_is_shared_and_what_is_remembered_has_a_bound() {
        let mut names: Recent<[u8]> = Recent::new(16);
        let mut share = |name: &str| names.share(Arc::from(name.as_bytes()));
        let first = share("config.json");
        assert!(Arc::ptr_eq(&first, &share("config.json")));
        for number in 0..1000 {
            let name = format!("{number}.gguf");
            assert_eq!(*share(&name), *name.as_bytes());
        }
        // Another one has its place by now; it is what it was all the same.
        let again = share("config.json");
        assert_eq!(first, again);
        assert_eq!(Arc::strong_count(&first) + Arc::strong_count(&again), 3);
    }
}
