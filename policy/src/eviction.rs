//! From an order of worth to the victims that make enough room, no more than needed.
//!
//! The order is given (least worth first); what may not leave is refused by the yard.

/// Something that objects can leave, tried on paper first.
pub trait Yard {
    /// What leaves.
    type Object: Copy;
    /// Tries to let `object` go. The bytes that become free by it, given everything already let
    /// go (a file shared with an object that stays frees nothing); `None` if it must stay.
    fn release(&mut self, object: Self::Object) -> Option<u64>;
    /// Takes back `release`; the bytes that are occupied again.
    fn restore(&mut self, object: Self::Object) -> u64;
}

/// The first of `order` whose going frees `need_bytes`, then, from the most worth down, gives
/// back those that turn out not to be needed. Each with the bytes its going frees, in `order`.
/// `None` if everything together is not enough. The yard is left as it was found.
pub fn victims<Y: Yard>(
    yard: &mut Y,
    need_bytes: u64,
    order: impl Iterator<Item = Y::Object>,
) -> Option<Vec<(Y::Object, u64)>> {
    let mut taken = Vec::new();
    let mut freed = 0u64;
    for object in order {
        if freed >= need_bytes {
            break;
        }
        if let Some(bytes) = yard.release(object) {
            freed += bytes;
            taken.push((object, bytes));
        }
    }
    let enough = freed >= need_bytes;
    if enough {
        give_back(yard, need_bytes, freed, &mut taken);
    }
    for &(object, _) in taken.iter().rev() {
        yard.restore(object);
    }
    enough.then_some(taken)
}

/// Drops from `taken` whatever is not needed, most worth first, and corrects the others' bytes.
fn give_back<Y: Yard>(
    yard: &mut Y,
    need_bytes: u64,
    mut freed: u64,
    taken: &mut Vec<(Y::Object, u64)>,
) {
    let mut spared = false;
    for at in (0..taken.len()).rev() {
        let object = taken[at].0;
        let bytes = yard.restore(object);
        if freed - bytes >= need_bytes {
            freed -= bytes;
            taken.remove(at);
            spared = true;
        } else {
            yard.release(object);
        }
    }
    if spared {
        for &(object, _) in taken.iter().rev() {
            yard.restore(object);
        }
        for entry in taken.iter_mut() {
            entry.1 = yard.release(entry.0).unwrap_or(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Plain(Vec<u64>);
    impl Yard for Plain {
        type Object = usize;
        fn release(&mut self, object: usize) -> Option<u64> {
            (self.0[object] > 0).then(|| self.0[object])
        }
        fn restore(&mut self, object: usize) -> u64 {
            self.0[object]
        }
    }

    #[test]
    fn surplus_is_given_back_from_the_most_worth_down() {
        let mut yard = Plain(vec![3, 4, 0, 10]);
        let got = victims(&mut yard, 10, 0..4).expect("there is room");
        assert_eq!(
            got,
            [(3, 10)],
            "the large one alone is enough: the small ones stay"
        );
    }

    #[test]
    fn nothing_leaves_when_everything_is_not_enough() {
        assert_eq!(victims(&mut Plain(vec![3, 4]), 8, 0..2), None);
        assert_eq!(victims(&mut Plain(vec![3, 4]), 0, 0..2), Some(vec![]));
    }

    /// Two names of the same bytes: only both together free them.
    struct Twins(u32);
    impl Yard for Twins {
        type Object = u8;
        fn release(&mut self, _: u8) -> Option<u64> {
            self.0 -= 1;
            Some(if self.0 == 0 { 5 } else { 0 })
        }
        fn restore(&mut self, _: u8) -> u64 {
            self.0 += 1;
            if self.0 == 1 { 5 } else { 0 }
        }
    }

    #[test]
    fn shared_bytes_need_all_their_models_to_go() {
        let mut yard = Twins(2);
        let got = victims(&mut yard, 5, [1u8, 2].into_iter()).expect("both free five");
        assert_eq!(got, [(1, 0), (2, 5)]);
        assert_eq!(yard.0, 2, "the yard is as it was");
    }
}
