//! What the policy says of one model, in the names and words of people.

use speedloader_fs::ids::PoolId;
use speedloader_policy::{ModelId, ModelRule, Outcome, Refusal, TierId};

use super::Coordinator;
use super::moves::{Explained, Subject};
use crate::command::Message;
use crate::view::human::{escape, sizes};
use crate::view::{ExplainView, IfLoaded, ModelView, StandingView};

impl Coordinator {
    /// Everything there is to say about a model.
    pub(super) fn explain_view(
        &self,
        subject: &Subject,
        shown: ModelView,
    ) -> Result<ExplainView, Message> {
        let counted = self.counted_with(&self.world.known(), subject);
        let explained = self.explained(counted.as_ref().unwrap_or(subject))?;
        let found = &explained.found;
        let mut standings: Vec<StandingView> = explained
            .standings
            .iter()
            .map(|(expert, cost_s)| StandingView {
                expert: expert.to_string(),
                cost_s: *cost_s,
            })
            .collect();
        standings.sort_by(|a, b| a.cost_s.total_cmp(&b.cost_s));
        let held = shown.resident_bytes.iter().filter(|(_, bytes)| **bytes > 0);
        Ok(ExplainView {
            pools: held.map(|(pool, _)| pool.clone()).collect(),
            spare: found.spare.map(|pool| self.pool_name(PoolId(pool.0))),
            missing: shown.missing,
            faults: shown.faults,
            size_bytes: shown.size_bytes,
            resident_bytes: shown.resident_total_bytes,
            pinned: shown.pinned,
            moving: self.moving_text(subject),
            rule: match self.rule_of(subject) {
                ModelRule::Normal => None,
                ModelRule::Always => Some("always".to_owned()),
                ModelRule::Never => Some("never".to_owned()),
            },
            counted_for: counted.map(|first| escape(first.name.as_bytes())),
            heat: found.heat,
            rank: found.rank as u64,
            models: found.models as u64,
            loads_since: found.loads_since,
            expert: found.expert.to_string(),
            standings,
            if_loaded: self.if_loaded(&explained),
            loads_needed: found.loads_needed,
            name: shown.name,
            reasons: Vec::new(),
        }
        .with_reasons())
    }

    /// Why it is on its way, if it is.
    fn moving_text(&self, subject: &Subject) -> Option<String> {
        let moves = self.lock_moves();
        let mut errands = moves.errands.values();
        let own = |file| subject.files.iter().any(|own| own.id == file);
        if let Some(errand) = errands.find(|errand| own(errand.file.id)) {
            return Some(errand.why.to_string());
        }
        let awaited = moves.warm_up.awaits(subject);
        awaited.then(|| {
            "warm-up: it was resident before the restart, and waits for its turn".to_owned()
        })
    }

    fn if_loaded(&self, explained: &Explained) -> IfLoaded {
        let name = |id: &ModelId| {
            let name = explained.names.get(id).map(|name| escape(name.as_bytes()));
            name.unwrap_or_default()
        };
        match &explained.found.if_loaded {
            Outcome::Stays { .. } => IfLoaded::Stays,
            Outcome::Promoted { pool, displaces } => IfLoaded::Promoted {
                pool: self.pool_name(PoolId(pool.0)),
                displaces: displaces.iter().map(name).collect(),
            },
            Outcome::Demoted { .. } => IfLoaded::Demoted,
            Outcome::Refused(refusal) => {
                let (why, remedy) = self.why_not(refusal);
                IfLoaded::Refused {
                    why,
                    remedy: remedy.map(str::to_owned),
                }
            }
        }
    }

    /// A refusal in the names of people, and what can be done about it.
    pub(super) fn why_not(&self, refusal: &Refusal) -> (String, Option<&'static str>) {
        let pool = |id: &TierId| self.pool_name(PoolId(id.0));
        match refusal {
            Refusal::TooLarge {
                needs_bytes,
                largest_bytes,
            } => {
                let [needed, had] = sizes(*needs_bytes, *largest_bytes);
                (
                    format!("it needs {needed}, and the largest pool holds {had}"),
                    Some("make a pool larger: speedloader tiers resize"),
                )
            }
            Refusal::PinnedSetTooLarge {
                pool: id,
                pinned_bytes,
                capacity_bytes,
            } => {
                let [needed, had] = sizes(*pinned_bytes, *capacity_bytes);
                (
                    format!(
                        "the models pinned to {} need {needed}, and it holds {had}",
                        pool(id)
                    ),
                    Some("unpin one of them, or make the pool larger"),
                )
            }
            Refusal::NoRoom {
                pool: id,
                needs_bytes,
                available_bytes,
            } => {
                let [needed, had] = sizes(*needs_bytes, *available_bytes);
                (
                    format!(
                        "it needs {needed} in {}, and only {had} can be made free: the rest is open, pinned, set \
                     to always, or of higher priority",
                        pool(id)
                    ),
                    Some("wait until what is open is closed, or make the pool larger"),
                )
            }
            Refusal::NotWorth {
                pool: id,
                worth,
                lost,
            } => (
                format!(
                    "it is worth {:.2} of what it would displace in {}",
                    if *lost > 0.0 { worth / lost } else { 0.0 },
                    pool(id)
                ),
                Some("promote it by hand, pin it, or make the pool larger"),
            ),
            Refusal::Busy(_) => (
                "one of its files has a writer, a lock, or a copy under way".to_owned(),
                Some("wait until that is over"),
            ),
            Refusal::InUse(_) => (
                "one of its files is being read".to_owned(),
                Some("wait until that is over"),
            ),
            Refusal::UnderWay(id) => (format!("it is on its way to {}", pool(id)), None),
            Refusal::PinnedTo(id) => (format!("it is pinned to {}", pool(id)), None),
            Refusal::PoolClosed(id) => (
                format!("{} takes nothing at present", pool(id)),
                Some("see speedloader tiers"),
            ),
            Refusal::UnknownPool(id) => (
                format!("{} is not connected", pool(id)),
                Some("connect it: speedloader tiers connect"),
            ),
            Refusal::NoPool => (
                "no pool is connected".to_owned(),
                Some("connect one: speedloader tiers connect"),
            ),
            Refusal::RuleNever => (
                "the configuration says never".to_owned(),
                Some("take it out of policy.never, or pin it"),
            ),
            Refusal::PolicyOff => (
                "promotion by itself is switched off".to_owned(),
                Some("set policy.enabled = true, or promote it by hand"),
            ),
            Refusal::UnknownModel | Refusal::NoFiles | Refusal::NotResident => {
                (refusal.to_string(), None)
            }
        }
    }
}
