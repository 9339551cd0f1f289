//! All that is remembered between plans: how hot every model is, and who rules.
//!
//! [`Learned::observe`] is the only thing that changes it. It can be saved and restored
//! ([`Learned::to_bytes`]); losing it costs nothing but the memory. Bounded: models not loaded
//! for long are forgotten.

use std::collections::{BTreeMap, BTreeSet};

use crate::bytes::{Reader, Writer};
use crate::heat::{Heat, HeatClock, Memory};
use crate::ids::ModelId;
use crate::params::Params;
use crate::rule::{EXPERTS, Expert, Index, Rule};
use crate::snapshot::Tiers;

pub use crate::bytes::LearnedFault;

/// Format of [`Learned::to_bytes`].
const VERSION: u32 = 1;
const KNOWN_MODELS_MIN: usize = 16;

/// One load of a model, as the owner counted it (repeated opens of one load are one).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Which.
    pub model: ModelId,
    /// Its size, bytes.
    pub bytes: u64,
    /// What it has in common with its kin (a hash of the model's family name); 0: unknown.
    pub family: u64,
    /// How many models are resident in the real pools just now.
    pub resident_models: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Known {
    heat: Heat,
    bytes: u64,
    last_load: u64,
    set_aside: bool,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Learned {
    loads: u64,
    clock: HeatClock,
    known: BTreeMap<ModelId, Known>,
    by_age: BTreeSet<(u64, ModelId)>,
}

impl Learned {
    /// Knows nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes note of one load.
    pub fn observe(&mut self, params: &Params, _tiers: &Tiers, load: Load) {
        self.loads += 1;
        self.clock.tick(load.resident_models);
        let mut heat = Heat::default();
        if let Some(known) = self.known.get(&load.model) {
            heat = known.heat;
            self.by_age.remove(&(known.last_load, load.model));
        }
        heat.add_load(self.clock);
        let known = Known {
            heat,
            bytes: load.bytes,
            last_load: self.loads,
            set_aside: false,
        };
        self.known.insert(load.model, known);
        self.by_age.insert((self.loads, load.model));
        while self.known.len() > params.known_models_max.max(KNOWN_MODELS_MIN) {
            let Some((_, oldest)) = self.by_age.pop_first() else {
                break;
            };
            self.known.remove(&oldest);
        }
    }

    /// Forgets a model (it was deleted).
    pub fn forget(&mut self, model: ModelId) {
        if let Some(known) = self.known.remove(&model) {
            self.by_age.remove(&(known.last_load, model));
        }
    }

    /// The user demoted it: free room is not filled with it until it is loaded again.
    pub fn set_aside(&mut self, model: ModelId) {
        if let Some(known) = self.known.get_mut(&model) {
            known.set_aside = true;
        }
    }

    pub(crate) fn is_set_aside(&self, model: ModelId) -> bool {
        self.known.get(&model).is_some_and(|known| known.set_aside)
    }

    /// Loads observed since the beginning.
    pub fn loads(&self) -> u64 {
        self.loads
    }

    /// How many models are remembered.
    pub fn known_models(&self) -> usize {
        self.known.len()
    }

    /// Decayed count of loads, half-life 16 x resident models: what people are shown as heat.
    pub fn heat(&self, model: ModelId) -> f64 {
        self.index(model, Index::HeatMedium)
    }

    /// How many loads of anything ago it was last loaded; `None` if not remembered.
    pub fn loads_since(&self, model: ModelId) -> Option<u64> {
        self.known
            .get(&model)
            .map(|known| self.loads - known.last_load)
    }

    /// The expert whose rule the real pools follow.
    pub fn leader(&self) -> Expert {
        self.rule().expert
    }

    pub(crate) fn rule(&self) -> &'static Rule {
        &EXPERTS[0]
    }

    /// Worth per byte by `index`; 0 for what was never loaded.
    pub(crate) fn index(&self, model: ModelId, index: Index) -> f64 {
        let Some(known) = self.known.get(&model) else {
            return 0.0;
        };
        match index {
            Index::HeatShort => known.heat.count(self.clock, Memory::Short),
            Index::HeatMedium => known.heat.count(self.clock, Memory::Medium),
        }
    }

    /// Everything, in a versioned, checksummed form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.u64(self.loads);
        out.f64(self.clock.aged);
        out.count(self.known.len());
        for (id, known) in &self.known {
            out.u64(id.0);
            out.u64(known.bytes);
            out.u64(known.last_load);
            out.u64(u64::from(known.set_aside));
            out.f64(known.heat.short);
            out.f64(known.heat.medium);
        }
        out.seal(VERSION)
    }

    /// Back from [`Learned::to_bytes`]. Any damage is a fault, never a panic or a wrong figure.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, LearnedFault> {
        let mut from = Reader::open(bytes, VERSION)?;
        let mut learned = Self {
            loads: from.u64()?,
            ..Self::default()
        };
        learned.clock.aged = from.finite("the clock is not a number")?;
        for _ in 0..from.count(48)? {
            let id = ModelId(from.u64()?);
            let (bytes, last_load) = (from.u64()?, from.u64()?);
            let set_aside = from.u64()? != 0;
            let short = from.finite("a heat is not a number")?;
            let medium = from.finite("a heat is not a number")?;
            if last_load > learned.loads {
                return Err(LearnedFault::Impossible {
                    what: "a load lies in the future",
                });
            }
            let known = Known {
                heat: Heat { short, medium },
                bytes,
                last_load,
                set_aside,
            };
            if learned.known.insert(id, known).is_some() {
                return Err(LearnedFault::Impossible {
                    what: "a model is listed twice",
                });
            }
            learned.by_age.insert((last_load, id));
        }
        from.finish()?;
        Ok(learned)
    }
}
