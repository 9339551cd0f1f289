//! What the configuration says of models: by a name, a path, or a pattern with `*` and `?`. It is looked up once for a
//! catalog, and holds for every model that is meant in any way, so that no model can take another out of it.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use globset::{Glob, GlobSet};
use speedloader_config::Config;
use speedloader_policy::{ModelId, ModelRule};

use super::Coordinator;
use super::moves::{SINGLE_FILE, Subject, key_of, model_id};
use super::world::Known;
use crate::models::ModelRef;
use crate::view::human::escape;

/// Names and patterns in order, made ready once for all models.
struct Patterns {
    listed: Vec<String>,
    /// Which of `listed` each of `globs` is; what is no pattern is only a name.
    places: Vec<usize>,
    globs: GlobSet,
}

impl Patterns {
    fn new(listed: &[String]) -> Patterns {
        let mut globs = GlobSet::builder();
        let mut places = Vec::new();
        for (place, glob) in listed.iter().map(|pattern| Glob::new(pattern)).enumerate() {
            if let Ok(glob) = glob {
                globs.add(glob);
                places.push(place);
            }
        }
        let globs = globs.build().unwrap_or_default();
        Patterns {
            listed: listed.to_vec(),
            places,
            globs,
        }
    }

    /// How much the one at this place is worth: the earlier, the higher.
    fn rank(&self, at: usize) -> i32 {
        i32::try_from(self.listed.len() - at).unwrap_or(i32::MAX)
    }

    /// The first of them that means this.
    fn first(&self, name: &str) -> Option<usize> {
        let named = self.listed.iter().position(|listed| listed == name);
        let matched = self.globs.matches(name);
        let matched = matched.first().map(|glob| self.places[*glob]);
        named.into_iter().chain(matched).min()
    }
}

/// What is said of one model.
#[derive(Clone, Copy, Default)]
struct Said {
    never: bool,
    always: bool,
    priority: i32,
}

/// All that it says, of the models of one catalog.
pub(super) struct Rules {
    config: Arc<Config>,
    generation: u64,
    models: HashMap<ModelId, Said>,
    /// What is no model is meant by its path.
    never: Patterns,
    always: Patterns,
    priorities: Patterns,
    /// Entries that mean nothing, each with its setting.
    idle: Vec<(&'static str, String)>,
}

impl Rules {
    /// Whether a model is wanted in the pools always, never, or as it is loaded.
    pub fn rule(&self, subject: &Subject) -> ModelRule {
        match self.said(subject) {
            Said { never: true, .. } => ModelRule::Never,
            Said { always: true, .. } => ModelRule::Always,
            _ => ModelRule::Normal,
        }
    }

    /// The higher, the earlier it is listed; 0: not at all.
    pub fn priority(&self, subject: &Subject) -> i32 {
        self.said(subject).priority
    }

    fn said(&self, subject: &Subject) -> Said {
        if subject.kind != SINGLE_FILE {
            return self.models.get(&subject.id).copied().unwrap_or_default();
        }
        let path = subject.name.as_str();
        let place = self.priorities.first(path);
        Said {
            never: self.never.first(path).is_some(),
            always: self.always.first(path).is_some(),
            priority: place.map_or(0, |at| self.priorities.rank(at)),
        }
    }
}

impl Coordinator {
    /// What the configuration says of the models that are known.
    pub(super) fn rules(&self, known: &Known) -> Arc<Rules> {
        let config = self.config();
        let mut kept = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        let holds = |rules: &&Arc<Rules>| {
            rules.generation == known.generation && Arc::ptr_eq(&rules.config, &config)
        };
        if let Some(rules) = kept.as_ref().filter(holds) {
            return Arc::clone(rules);
        }
        let rules = Arc::new(self.read_rules(config, known));
        *kept = Some(Arc::clone(&rules));
        rules
    }

    fn read_rules(&self, config: Arc<Config>, known: &Known) -> Rules {
        let policy = &config.policy;
        let mut rules = Rules {
            generation: known.generation,
            models: HashMap::new(),
            never: Patterns::new(&policy.never),
            always: Patterns::new(&policy.always),
            priorities: Patterns::new(&policy.priorities),
            idle: Vec::new(),
            config: Arc::clone(&config),
        };
        let lists = [
            ("policy.never", &policy.never),
            ("policy.always", &policy.always),
            ("policy.priorities", &policy.priorities),
        ];
        for (setting, listed) in lists {
            for (at, entry) in listed.iter().enumerate() {
                // What is text stays text without the mountpoint.
                let below = String::from_utf8_lossy(self.below_mount(entry.as_bytes()));
                let meant = known.catalog.all_meant(&below);
                let is_file = || {
                    matches!(
                        known.catalog.resolve(&below).as_deref(),
                        Ok([ModelRef::File(_), ..])
                    )
                };
                if meant.is_empty() && !is_file() {
                    rules.idle.push((setting, entry.clone()));
                }
                for index in meant {
                    let id = model_id(&key_of(&known.catalog, index));
                    let said = rules.models.entry(id).or_default();
                    match setting {
                        "policy.never" => said.never = true,
                        "policy.always" => said.always = true,
                        _ => said.priority = said.priority.max(rules.priorities.rank(at)),
                    }
                }
            }
        }
        rules
    }

    /// Entries of the configuration's lists of models that have no effect.
    pub(super) fn rule_warnings(&self) -> Vec<String> {
        // What is still being read may have the model.
        if !self.fs.home_states().iter().all(|home| home.scanned) {
            return Vec::new();
        }
        let rules = self.rules(&self.world.known());
        let idle = rules.idle.iter();
        idle.map(|(setting, entry)| {
            format!(
                "`{}` in {setting} has no effect: no model matches it",
                escape(entry.as_bytes())
            )
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_or_pattern_that_means_a_model_counts() {
        let listed: Vec<String> = ["[", "b*", "a[", "?b", "a*", "ab"]
            .map(str::to_owned)
            .into();
        let patterns = Patterns::new(&listed);
        let cases = [
            ("[", Some(0)),
            ("bb", Some(1)),
            ("a[", Some(2)),
            ("ab", Some(3)),
            ("abc", Some(4)),
            ("c", None),
        ];
        for (name, place) in cases {
            assert_eq!(patterns.first(name), place, "{name}");
        }
    }
}
