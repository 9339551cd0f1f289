//! [`Learned`] as bytes and back. Pools on paper are saved as places; the orders are made anew.

use super::{Contestant, Learned, Score};
use crate::bytes::{LearnedFault, Reader, Writer};
use crate::heat::{Heat, HeatClock, TICK_MAX};
use crate::ids::{ModelId, TierId};
use crate::known::Known;
use crate::reuse::{self, Reuse, Rhythm};
use crate::rule::EXPERTS;
use crate::shadow::Shadow;
use crate::snapshot::Tiers;

/// Format of [`Learned::to_bytes`].
const VERSION: u32 = 3;
/// In no pool.
const NOWHERE: u8 = u8::MAX;
const MODEL_BYTES: usize = 8 + 8 + 8 + 3 * 8 + 4 + 4 + 1;
const SCORES_BYTES: usize = 2 * (8 + 8);
const POOL_BYTES: usize = 2 + 8 + 8;
/// Nobody loads more often; ages and counts can go on from here without an end.
pub(super) const LOADS_MAX: u64 = 1 << 48;

fn impossible(what: &'static str) -> LearnedFault {
    LearnedFault::Impossible { what }
}

impl Learned {
    /// Everything, in a versioned, checksummed form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.u64(self.clock.loads);
        out.f64(self.clock.aged);
        self.reuse.write(&mut out);
        let mut slots: Vec<(u32, &Known)> = self.models.iter().collect();
        slots.sort_by_key(|(_, known)| known.last_load);
        out.count(slots.len());
        for (_, known) in &slots {
            out.u64(known.id.0);
            out.u64(known.bytes);
            out.u64(known.last_load);
            known.heat.keys.iter().for_each(|&key| out.f64(key));
            out.u32(known.rhythm.slow.to_bits());
            out.u32(known.rhythm.fast.to_bits());
            out.u8(u8::from(known.set_aside));
        }
        let pools = self.tiers.as_ref().map_or(&[][..], |tiers| &tiers.pools);
        out.u64(
            self.tiers
                .as_ref()
                .map_or(1, |tiers| tiers.cold_bytes_per_sec),
        );
        out.count(pools.len());
        for &(id, speed, capacity) in pools {
            out.u16(id.0);
            out.u64(speed);
            out.u64(capacity);
        }
        out.u8(self.leader as u8);
        out.count(self.contest.len());
        for contestant in &self.contest {
            let expert = contestant.rule.expert;
            out.u8(EXPERTS.iter().position(|r| r.expert == expert).unwrap_or(0) as u8);
            for score in [contestant.lately, contestant.just_now] {
                out.f64(score.secs);
                out.f64(score.spread);
            }
            let shadow = &contestant.shadow;
            for &(slot, _) in &slots {
                for rank in [shadow.place(slot), shadow.spare(slot)] {
                    out.u8(rank.map_or(NOWHERE, |rank| rank as u8));
                }
            }
        }
        out.seal(VERSION)
    }

    /// Back from [`Learned::to_bytes`]. Any damage is a fault, never a panic or a wrong figure.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, LearnedFault> {
        let mut from = Reader::open(bytes, VERSION)?;
        let mut learned = Self::default();
        learned.clock.loads = from.u64()?;
        if learned.clock.loads > LOADS_MAX {
            return Err(impossible("it has counted more loads than there can be"));
        }
        learned.clock.aged = from.within(
            0.0..=learned.clock.loads as f64 * TICK_MAX,
            "the clock is ahead of the loads",
        )?;
        learned.reuse = Reuse::read(&mut from, learned.clock.loads)?;
        let mut slots = Vec::new();
        let mut last = 0;
        for _ in 0..from.count(MODEL_BYTES)? {
            let known = read_known(&mut from, learned.clock)?;
            if known.last_load < last || learned.models.find(known.id).is_some() {
                return Err(impossible("models are listed twice or not by age"));
            }
            last = known.last_load;
            learned.reuse.starts_waiting(known.cell());
            slots.push(learned.models.add(known));
        }
        learned.reuse.relearn();
        let tiers = read_tiers(&mut from)?;
        learned.leader = usize::from(from.u8()?);
        for _ in 0..from.count(1 + SCORES_BYTES + 2 * slots.len())? {
            let contestant = learned.read_contestant(&mut from, &tiers, &slots)?;
            learned.contest.push(contestant);
        }
        if learned.leader >= learned.contest.len().max(1) {
            return Err(impossible("an expert leads that does not exist"));
        }
        learned.tiers = Some(tiers);
        from.finish()?;
        Ok(learned)
    }

    fn read_contestant(
        &self,
        from: &mut Reader<'_>,
        tiers: &Tiers,
        slots: &[u32],
    ) -> Result<Contestant, LearnedFault> {
        let rule = EXPERTS
            .get(usize::from(from.u8()?))
            .ok_or(impossible("unknown expert"))?;
        let [lately, just_now] = [read_score(from)?, read_score(from)?];
        let mut shadow = Shadow::new(tiers, Some(rule));
        for &slot in slots {
            let [place, spare] = [from.u8()?, from.u8()?].map(usize::from);
            if spare != usize::from(NOWHERE) && spare <= place {
                return Err(impossible("a spare on paper is in no slower pool"));
            }
            let known = self.models.get(slot);
            for rank in [place, spare] {
                if rank == usize::from(NOWHERE) {
                    continue;
                }
                let &(_, _, capacity) = tiers.pools.get(rank).ok_or(impossible("unknown pool"))?;
                let held = shadow
                    .used_bytes(rank)
                    .checked_add(shadow.spare_bytes(rank));
                if held.is_none_or(|held| capacity.saturating_sub(held) < known.bytes) {
                    return Err(impossible("a pool on paper holds more than its capacity"));
                }
                if rank == place {
                    shadow.insert(slot, rank, known, &self.reuse);
                } else {
                    shadow.keep_spare(slot, rank, known);
                }
            }
        }
        Ok(Contestant {
            rule,
            shadow,
            lately,
            just_now,
        })
    }
}

fn read_score(from: &mut Reader<'_>) -> Result<Score, LearnedFault> {
    Ok(Score {
        secs: from.within(0.0..=Score::SECS_MAX, "a cost is none")?,
        spread: from.within(0.0..=Score::SPREAD_MAX, "costs differ by what they cannot")?,
    })
}

fn read_known(from: &mut Reader<'_>, clock: HeatClock) -> Result<Known, LearnedFault> {
    let id = ModelId(from.u64()?);
    let (bytes, last_load) = (from.u64()?, from.u64()?);
    // The logarithm of a count of loads, and what the clock adds to it.
    let heats = 0.0..=f64::from(u64::BITS) + clock.aged;
    let mut heat = Heat::default();
    for key in &mut heat.keys {
        *key = from.within(heats.clone(), "a heat is no heat")?;
    }
    let rhythm = Rhythm {
        slow: f32::from_bits(from.u32()?),
        fast: f32::from_bits(from.u32()?),
    };
    if ![rhythm.slow, rhythm.fast]
        .iter()
        .all(|count| (0.0..=clock.loads as f32).contains(count))
    {
        return Err(impossible(
            "a model was loaded more often than there were loads",
        ));
    }
    let set_aside = from.u8()? != 0;
    let age = clock
        .loads
        .checked_sub(last_load)
        .ok_or(impossible("a load lies in the future"))?;
    Ok(Known {
        id,
        bytes,
        last_load,
        heat,
        rhythm,
        class: rhythm.class(),
        bucket: reuse::bucket(age) as u8,
        set_aside,
    })
}

fn read_tiers(from: &mut Reader<'_>) -> Result<Tiers, LearnedFault> {
    let cold_bytes_per_sec = from.u64()?;
    let mut pools = Vec::new();
    for _ in 0..from.count(POOL_BYTES)? {
        pools.push((TierId(from.u16()?), from.u64()?, from.u64()?));
    }
    if pools.len() >= usize::from(NOWHERE) {
        return Err(impossible("more pools than can be numbered"));
    }
    Ok(Tiers {
        pools,
        cold_bytes_per_sec,
    })
}
