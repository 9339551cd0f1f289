//! One load, one rule, any pools: the only place where heat turns into a decision.
//!
//! The same function serves the real pools (through the planner's board), every shadow, and the
//! simulator, so what is simulated is what is done. It knows nothing of files.

use crate::rule::{Index, Rule};

/// Pools as a rule sees them; rank 0 is the fastest.
pub trait Pools {
    /// What is held.
    type Object: Copy;
    /// How many pools there are.
    fn count(&self) -> usize;
    /// Seconds to read a byte from the pool at this rank, `None` for the homes.
    fn secs_per_byte(&self, rank: Option<usize>) -> f64;
    /// What it costs to promote a byte from there, seconds; nothing where that happens while a load reads it.
    fn copy_secs_per_byte(&self, from: Option<usize>) -> f64;
    /// Where it is.
    fn place(&self, object: Self::Object) -> Option<usize>;
    /// Bytes that must be free at `rank` to hold it there, and that are read faster afterwards.
    fn need_bytes(&self, object: Self::Object, rank: usize) -> u64;
    /// Bytes free at `rank` now.
    fn free_bytes(&self, rank: usize) -> u64;
    /// Whether it could be held at `rank` if that were empty of everything that may leave.
    fn can_hold(&self, object: Self::Object, rank: usize) -> bool;
    /// Bytes that must be free at `rank` to keep it there when it leaves a faster pool; `None`:
    /// it cannot be kept there.
    fn keep_bytes(&self, object: Self::Object, rank: usize) -> Option<u64>;
    /// Its worth per byte.
    fn index(&self, object: Self::Object, index: Index) -> f64;
    /// Whom to displace at `rank` so that `need_bytes` are free there for `keep` (never itself a
    /// victim); least worth first, each with the bytes it frees. `None`: not possible.
    fn victims(
        &mut self,
        rank: usize,
        need_bytes: u64,
        index: Index,
        keep: Self::Object,
    ) -> Option<Vec<(Self::Object, u64)>>;
    /// Whether it makes way for the other one whatever both are worth: the user has said so.
    fn yields(&self, object: Self::Object, to: Self::Object) -> bool;
    /// The slower pool that it can go to without being copied: its copy there was kept when it left.
    /// Such spares count as free room, and go when that is needed.
    fn spare(&self, object: Self::Object) -> Option<usize>;
    /// Moves a victim (or part of it) from `from` to a slower pool, or to the home.
    fn demote(&mut self, object: Self::Object, from: usize, to: Option<usize>);
    /// Takes an object out of its pool because it will be put into a faster one; leaves a spare.
    fn lift(&mut self, object: Self::Object);
    /// Puts an object where it will be served from.
    fn put(&mut self, object: Self::Object, rank: usize);
}

/// What became of a load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Decision {
    /// Served where it is; no faster pool pays.
    Stays,
    /// Put into the pool at this rank; what is displaced from the pools altogether was worth
    /// `lost` (less what the room that is left over will earn), the newcomer `worth` (index x bytes, so
    /// comparable only with each other).
    Placed { rank: usize, worth: f64, lost: f64 },
    /// Stays in the home: it is worth no more than what it would displace at `rank`.
    NotWorth { rank: usize, worth: f64, lost: f64 },
    /// No pool can hold it.
    DoesNotFit,
}

/// Applies `rule` to a load of `object`.
pub fn open<P: Pools>(pools: &mut P, rule: &Rule, object: P::Object) -> Decision {
    let place = pools.place(object);
    if place == Some(0) || pools.count() == 0 {
        return if place.is_some() {
            Decision::Stays
        } else {
            Decision::DoesNotFit
        };
    }
    let slower_than = place.unwrap_or(pools.count());
    let mut at = place;
    let mut result = Decision::Stays;
    let pays = |pools: &P, rank: usize, chosen: &[(P::Object, u64)]| {
        rule.always || copy_pays(pools, object, place, rank, chosen)
    };
    let is_gain = |pools: &P, rank: usize| place.is_none_or(|held| is_faster(pools, rank, held));
    let room = (0..slower_than).find(|&r| is_gain(pools, r) && has_room(pools, object, r));
    if let Some(rank) = room.filter(|&r| pays(pools, r, &[])) {
        if rank == 0 {
            if place.is_some() {
                pools.lift(object);
            }
            pools.put(object, 0);
            return Decision::Placed {
                rank: 0,
                worth: 0.0,
                lost: 0.0,
            };
        }
        at = Some(rank);
        result = Decision::Placed {
            rank,
            worth: 0.0,
            lost: 0.0,
        };
    } else if place.is_none() {
        let Some((rank, lost, chosen)) = cheapest_pool(pools, rule.hold, object) else {
            return Decision::DoesNotFit;
        };
        let worth = pools.index(object, rule.hold) * pools.need_bytes(object, rank) as f64;
        if worth <= lost && !rule.always || !pays(pools, rank, &chosen) {
            return Decision::NotWorth { rank, worth, lost };
        }
        for (victim, _) in chosen {
            pools.demote(victim, rank, None);
        }
        at = Some(rank);
        result = Decision::Placed { rank, worth, lost };
    }
    let Some(held) = at else {
        return Decision::DoesNotFit;
    };
    if place.is_some() && at != place {
        pools.lift(object);
    }
    let lifted = at != place;
    for rank in 0..held {
        if let Some((worth, lost)) = climb(pools, rule, object, held, rank, lifted) {
            return Decision::Placed { rank, worth, lost };
        }
    }
    if lifted {
        pools.put(object, held);
    }
    result
}

/// Speeds are measured: pools of one kind differ by less, and a copy between them would gain nothing.
const FASTER: f64 = 1.1;

fn is_faster<P: Pools>(pools: &P, rank: usize, than: usize) -> bool {
    pools.secs_per_byte(Some(than)) > FASTER * pools.secs_per_byte(Some(rank))
}

fn has_room<P: Pools>(pools: &P, object: P::Object, rank: usize) -> bool {
    pools.can_hold(object, rank) && pools.need_bytes(object, rank) <= pools.free_bytes(rank)
}

/// Whom a cold object displaces, and what is lost by it.
pub type Choice<O> = (usize, f64, Vec<(O, u64)>);

/// The pool where making room for `object` loses least; the slowest of equals.
pub fn cheapest_pool<P: Pools>(
    pools: &mut P,
    hold: Index,
    object: P::Object,
) -> Option<Choice<P::Object>> {
    let mut best: Option<Choice<P::Object>> = None;
    for rank in (0..pools.count()).rev() {
        if !pools.can_hold(object, rank) {
            continue;
        }
        let need_bytes = pools.need_bytes(object, rank);
        let Some(chosen) = pools.victims(rank, need_bytes, hold, object) else {
            continue;
        };
        let missing_bytes = need_bytes.saturating_sub(pools.free_bytes(rank));
        let lost = lost_by(pools, hold, &chosen, missing_bytes, object);
        if best.as_ref().is_none_or(|&(_, least, _)| lost < least) {
            best = Some((rank, lost, chosen));
        }
    }
    best
}

/// How much of what a copy up costs must be earned by what is promoted. It earns by the loads counted with
/// [`Index::HeatRecent`], of which the one now is one, so that what is new passes where there is free room. Tried
/// on the traces, where copies cost (two tiers 0.990 of the best baseline, three 0.981, without any of this 1.076
/// and 1.022): 0.5 and 1 (0.994 and 1.001 in two tiers), the longer memories, each expert's own (0.999 to 1.022).
const COPY_UP: f64 = 0.7;

/// Whether promoting `object` in place of `chosen` earns what the copy costs.
fn copy_pays<P: Pools>(
    pools: &P,
    object: P::Object,
    from: Option<usize>,
    rank: usize,
    chosen: &[(P::Object, u64)],
) -> bool {
    let copy_secs_per_byte = pools.copy_secs_per_byte(from);
    if copy_secs_per_byte <= 0.0 {
        return true;
    }
    let here = pools.secs_per_byte(Some(rank));
    let bytes = pools.need_bytes(object, rank) as f64;
    let loads = pools.index(object, Index::HeatRecent);
    let earned = loads * bytes * (pools.secs_per_byte(from) - here);
    let lost = worth_of(pools, Index::HeatRecent, chosen) * (pools.secs_per_byte(None) - here);
    earned - lost > COPY_UP * copy_secs_per_byte * bytes
}

fn worth_of<P: Pools>(pools: &P, index: Index, chosen: &[(P::Object, u64)]) -> f64 {
    chosen
        .iter()
        .map(|&(v, bytes)| pools.index(v, index) * bytes as f64)
        .sum()
}

/// Of what is lost by those that leave, how much the room that is left over earns again.
const REST_EARNS: f64 = 0.5;

/// The worth of `chosen`, but of those that make way for `keep` anyhow, less what will be held in the room that they leave beyond the `missing_bytes`: per
/// byte a share of the least worth among them. A large model that hardly anybody loads would else stand
/// against every small one.
fn lost_by<P: Pools>(
    pools: &P,
    index: Index,
    chosen: &[(P::Object, u64)],
    missing_bytes: u64,
    keep: P::Object,
) -> f64 {
    let (mut lost, mut freed_bytes, mut least) = (0.0, 0, None);
    for &(victim, bytes) in chosen {
        freed_bytes += bytes;
        if pools.yields(victim, keep) {
            continue;
        }
        let worth = pools.index(victim, index);
        lost += worth * bytes as f64;
        least = Some(least.map_or(worth, |least| worth.min(least)));
    }
    let rest_bytes = freed_bytes.saturating_sub(missing_bytes);
    lost - REST_EARNS * least.unwrap_or_default() * rest_bytes as f64
}

/// How many times a swap between pools must pay for the copies down that it causes. The worth of both
/// sides is a count of loads over the half-life of [`Index::HeatRecent`], hence more than once. Tried: 1.25,
/// 1.5 and 2 (three tiers 0.975 of the best baseline on traces each, instead of 0.974).
const COPIES: f64 = 1.75;

/// Swaps `object` from the pool at `held` into the faster one at `rank` if what is gained pays
/// for what is displaced, and for the copies that demoting it costs.
fn climb<P: Pools>(
    pools: &mut P,
    rule: &Rule,
    object: P::Object,
    held: usize,
    rank: usize,
    lifted: bool,
) -> Option<(f64, f64)> {
    if !is_faster(pools, rank, held) || !pools.can_hold(object, rank) {
        return None;
    }
    let need_bytes = pools.need_bytes(object, rank);
    let mut chosen = pools.victims(rank, need_bytes, rule.split, object)?;
    let here = pools.secs_per_byte(Some(rank));
    let gain_per_byte = pools.secs_per_byte(Some(held)) - here;
    let worth = pools.index(object, rule.split) * need_bytes as f64 * gain_per_byte;
    let lost: f64 = chosen
        .iter()
        .filter(|&&(victim, _)| !pools.yields(victim, object))
        .map(|&(victim, bytes)| {
            let spare = pools.spare(victim).filter(|&r| r > rank);
            // The next pool with room, at the latest where the climber leaves some.
            let to = spare
                .or_else(|| (rank + 1..held).find(|&r| has_room_for_victim(pools, victim, r)))
                .unwrap_or(held);
            let there = pools.secs_per_byte(Some(to));
            let copied = rule.priced && spare.is_none();
            let price = if copied { COPIES * there } else { 0.0 };
            (pools.index(victim, rule.split) * (there - here) + price) * bytes as f64
        })
        .sum();
    // Who goes up already is copied only once, to where it ends.
    let copy_secs_per_byte = match lifted {
        true => 0.0,
        false => pools.copy_secs_per_byte(Some(held)),
    };
    let copy_secs = COPY_UP * copy_secs_per_byte * need_bytes as f64;
    if worth <= lost + copy_secs && !rule.always {
        return None;
    }
    if !lifted {
        pools.lift(object);
    }
    spares_first(pools, &mut chosen);
    for (victim, _) in chosen {
        let to = landing(pools, rule.hold, victim, rank, object);
        pools.demote(victim, rank, to);
    }
    pools.put(object, rank);
    Some((worth, lost))
}

fn has_room_for_victim<P: Pools>(pools: &P, victim: P::Object, rank: usize) -> bool {
    let bytes = pools.keep_bytes(victim, rank);
    bytes.is_some_and(|bytes| bytes <= pools.free_bytes(rank))
}

/// Those that need not be copied go before the room of their spares is used for others.
pub fn spares_first<P: Pools>(pools: &P, victims: &mut [(P::Object, u64)]) {
    victims.sort_by_key(|&(victim, _)| pools.spare(victim).is_none());
}

/// The pool slower than `rank` that a victim has a spare in, or the next one with room for it.
pub fn room_below<P: Pools>(pools: &P, victim: P::Object, rank: usize) -> Option<usize> {
    let spare = pools.spare(victim).filter(|&r| r > rank);
    spare
        .into_iter()
        .chain(rank + 1..pools.count())
        .find(|&r| has_room_for_victim(pools, victim, r))
}

/// Where a victim from `rank` goes: the next slower pool with room, or one where it is worth more
/// than what it displaces (which is then dropped), or the home.
fn landing<P: Pools>(
    pools: &mut P,
    hold: Index,
    victim: P::Object,
    rank: usize,
    keep: P::Object,
) -> Option<usize> {
    if let Some(to) = room_below(pools, victim, rank) {
        return Some(to);
    }
    for to in rank + 1..pools.count() {
        let Some(bytes) = pools.keep_bytes(victim, to) else {
            continue;
        };
        let Some(chosen) = pools.victims(to, bytes, hold, keep) else {
            continue;
        };
        if worth_of(pools, hold, &chosen) < pools.index(victim, hold) * bytes as f64 {
            for (dropped, _) in chosen {
                pools.demote(dropped, to, None);
            }
            return Some(to);
        }
    }
    None
}
