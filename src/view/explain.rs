//! Why a model is where it is, and what would change that: as data, and in sentences made of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::human::sizes;
use super::model::problems;

/// What would be done if the model were loaded now.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum IfLoaded {
    /// It is where it should be.
    #[default]
    Stays,
    /// It would be copied.
    Promoted {
        /// Into this pool.
        pool: String,
        /// Instead of these models, the least worth first; none: there is room.
        displaces: Vec<String>,
    },
    /// It would leave its pool.
    Demoted,
    /// It would stay in its home.
    Refused {
        /// Why, as part of a sentence.
        why: String,
        /// What could be done about it, where a person can do something.
        remedy: Option<String>,
    },
}

/// One of the policy's rules, and what its pools on paper cost lately.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct StandingView {
    /// The rule.
    pub expert: String,
    /// Seconds of loading and moving, half of them forgotten every 2,000 loads, and all that were before the
    /// last change of the world.
    pub cost_s: f64,
}

/// Everything there is to say about one model.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ExplainView {
    /// The model.
    pub name: String,
    /// The pools that hold some of it.
    pub pools: Vec<String>,
    /// A slower pool that has a copy of it too.
    #[serde(default)]
    pub spare: Option<String>,
    /// Names of files that should be there and are not.
    #[serde(default)]
    pub missing: Vec<String>,
    /// What is wrong with files that are there, one sentence each.
    #[serde(default)]
    pub faults: Vec<String>,
    /// Its bytes.
    pub size_bytes: u64,
    /// Of these, in pools.
    pub resident_bytes: u64,
    /// The pool that it is pinned to.
    pub pinned: Option<String>,
    /// Who has it copied into a pool now, and why.
    #[serde(default)]
    pub moving: Option<String>,
    /// `always` or `never`, where the configuration says so.
    pub rule: Option<String>,
    /// The first model with the same weights, if that is another: its loads, and what is said of them, are those of both.
    #[serde(default)]
    pub counted_for: Option<String>,
    /// The decayed count of its loads.
    pub heat: f64,
    /// Its place among all models by what the ruling expert goes by; 1 is first.
    pub rank: u64,
    /// Of how many.
    pub models: u64,
    /// Loads of other models since its last one; none: no load is remembered.
    pub loads_since: Option<u64>,
    /// The expert whose rule applies.
    pub expert: String,
    /// All experts, cheapest first.
    pub standings: Vec<StandingView>,
    /// What would be done if it were loaded now.
    pub if_loaded: IfLoaded,
    /// How many loads in a row would make it resident; 0: it is; none: no number of them would.
    pub loads_needed: Option<u32>,
    /// All that in sentences.
    pub reasons: Vec<String>,
}

impl ExplainView {
    /// Makes the sentences of the other fields.
    #[must_use]
    pub fn with_reasons(self) -> Self {
        Self {
            reasons: self.sentences(),
            ..self
        }
    }

    fn sentences(&self) -> Vec<String> {
        let mut reasons = vec![self.place()];
        reasons.extend(problems(&self.missing, &self.faults));
        if let Some(pool) = &self.spare {
            reasons.push(format!(
                "{pool} still has a copy: it can go back there without being copied, and the copy goes \
                 when its room is needed"
            ));
        }
        if let Some(why) = &self.moving {
            reasons.push(format!("it is on its way ({why})"));
        }
        if let Some(pool) = &self.pinned {
            reasons.push(format!("it is pinned to {pool}"));
        }
        if let Some(rule) = &self.rule {
            reasons.push(format!("it is set to {rule} by the configuration"));
        }
        if let Some(first) = &self.counted_for {
            reasons.push(format!(
                "it has the weights of {first}: its loads are counted for that name, and what follows is said \
                 of it"
            ));
        }
        reasons.push(format!(
            "heat {:.2}, rank {} of {} models",
            self.heat, self.rank, self.models
        ));
        reasons.push(match self.loads_since {
            None => "no load of it is remembered".to_owned(),
            Some(0) => "it was the last model to be loaded".to_owned(),
            Some(1) => "one load of another model since its last one".to_owned(),
            Some(loads) => format!("{loads} loads of other models since its last one"),
        });
        reasons.push(self.ruling());
        reasons.push(self.next_load());
        reasons.extend(self.needed());
        reasons
    }

    fn place(&self) -> String {
        let pools = self.pools.join(", ");
        if self.resident_bytes == 0 {
            "it is in its home only".to_owned()
        } else if self.resident_bytes >= self.size_bytes {
            format!("it is resident in {pools}")
        } else {
            let [part, all] = sizes(self.resident_bytes, self.size_bytes);
            format!("{part} of {all} are resident in {pools}")
        }
    }

    fn ruling(&self) -> String {
        let expert = &self.expert;
        let cost = |s: &&StandingView| s.expert == *expert;
        let own = self.standings.iter().find(cost).map(|s| s.cost_s);
        let other = self.standings.iter().find(|s| s.expert != *expert);
        match (own, other) {
            (Some(own), Some(other)) if own > 0.0 => format!(
                "expert {expert} rules: {own:.1} s of loading and moving lately by its rule, {:.1} s by \
                 the next best, {}",
                other.cost_s, other.expert
            ),
            _ => format!("expert {expert} rules: nothing is learned yet"),
        }
    }

    fn next_load(&self) -> String {
        match &self.if_loaded {
            IfLoaded::Stays => "if it were loaded now it would stay where it is".to_owned(),
            IfLoaded::Promoted { pool, displaces } if displaces.is_empty() => {
                format!("if it were loaded now it would go to {pool}: there is room")
            }
            IfLoaded::Promoted { pool, displaces } => format!(
                "if it were loaded now it would go to {pool} instead of {}",
                displaces.join(", ")
            ),
            IfLoaded::Demoted => "if it were loaded now it would be demoted".to_owned(),
            IfLoaded::Refused { why, .. } => {
                format!("if it were loaded now it would not move: {why}")
            }
        }
    }

    fn needed(&self) -> Option<String> {
        let remedy = match &self.if_loaded {
            IfLoaded::Refused { remedy, .. } => remedy.clone(),
            _ => None,
        };
        match self.loads_needed {
            Some(0 | 1) => None,
            Some(loads) => Some(format!("{loads} loads in a row would make it resident")),
            None => remedy.map(|remedy| format!("to have it promoted: {remedy}")),
        }
    }

    /// A line for each reason.
    pub fn text(&self) -> String {
        let line = |reason: &String| format!("{}: {reason}\n", self.name);
        self.reasons.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cold() -> ExplainView {
        ExplainView {
            name: "a".to_owned(),
            size_bytes: 4 << 30,
            rank: 2,
            models: 3,
            heat: 0.5,
            expert: "C".to_owned(),
            if_loaded: IfLoaded::Refused {
                why: "worth 0.40 of what it would displace in ram".to_owned(),
                remedy: Some("promote it by hand".to_owned()),
            },
            ..ExplainView::default()
        }
    }

    #[test]
    fn a_cold_model_is_told_what_would_promote_it() {
        let never = cold().with_reasons().reasons;
        assert!(
            never.contains(&"to have it promoted: promote it by hand".to_owned()),
            "{never:?}"
        );
        let soon = ExplainView {
            loads_needed: Some(3),
            ..cold()
        };
        let told = soon.with_reasons().reasons;
        assert_eq!(
            told.last().map(String::as_str),
            Some("3 loads in a row would make it resident")
        );
    }

    #[test]
    fn a_model_that_is_not_whole_says_so() {
        let view = ExplainView {
            missing: vec!["a-00002-of-00002.gguf".to_owned()],
            faults: vec!["a-00001-of-00002.gguf ends before its last tensor".to_owned()],
            ..cold()
        };
        let told = &view.with_reasons().reasons;
        assert_eq!(told[1], "a-00002-of-00002.gguf is missing");
        assert_eq!(told[2], "a-00001-of-00002.gguf ends before its last tensor");
    }

    #[test]
    fn the_ruling_expert_is_compared_with_the_next_best() {
        let standing = |expert: &str, cost_s| StandingView {
            expert: expert.to_owned(),
            cost_s,
        };
        let view = ExplainView {
            standings: vec![standing("C", 10.0), standing("A", 12.0)],
            ..cold()
        };
        let text = view.with_reasons().text();
        assert!(
            text.contains(
                "a: expert C rules: 10.0 s of loading and moving lately by its rule, 12.0 s"
            ),
            "{text}"
        );
    }

    #[test]
    fn a_spare_is_told_beside_the_place() {
        let view = ExplainView {
            pools: vec!["ram".to_owned()],
            spare: Some("remote".to_owned()),
            resident_bytes: 4 << 30,
            ..cold()
        };
        let reasons = view.with_reasons().reasons;
        assert_eq!(reasons[0], "it is resident in ram");
        assert!(
            reasons[1].starts_with("remote still has a copy"),
            "{reasons:?}"
        );
    }

    #[test]
    fn a_name_of_the_same_weights_says_whose_figures_it_shows() {
        let view = ExplainView {
            counted_for: Some("base:7b".to_owned()),
            ..cold()
        };
        let reasons = view.with_reasons().reasons;
        assert!(
            reasons[1].starts_with("it has the weights of base:7b: its loads are counted for that"),
            "{reasons:?}"
        );
        assert!(reasons[2].starts_with("heat"), "{reasons:?}");
    }

    /// It said "28.6 MiB of 28.6 MiB are resident".
    #[test]
    fn what_is_resident_but_for_a_few_bytes_is_told_to_the_byte() {
        let view = ExplainView {
            pools: vec!["ram".to_owned()],
            resident_bytes: (4 << 30) - 100,
            ..cold()
        };
        assert_eq!(
            view.with_reasons().reasons[0],
            "4294967196 B of 4294967296 B are resident in ram"
        );
    }

    #[test]
    fn what_is_partly_resident_is_told_in_bytes() {
        let view = ExplainView {
            pools: vec!["ram".to_owned()],
            resident_bytes: 1 << 30,
            ..cold()
        };
        assert_eq!(
            view.with_reasons().reasons[0],
            "1.00 GiB of 4.00 GiB are resident in ram"
        );
    }
}
