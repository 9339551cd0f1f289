//! What the configuration says of models by their names: a name is meant, or a pattern with `*` and `?`.

use globset::{Glob, GlobSet};
use speedloader_config::Config;
use speedloader_policy::ModelRule;

/// Names and patterns in order, made ready once for all models.
struct Patterns<'a> {
    listed: &'a [String],
    /// Which of `listed` each of `globs` is; what is no pattern is only a name.
    places: Vec<usize>,
    globs: GlobSet,
}

impl<'a> Patterns<'a> {
    fn new(listed: &'a [String]) -> Patterns<'a> {
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
            listed,
            places,
            globs,
        }
    }

    /// The first of them that means the model.
    fn first(&self, name: &str) -> Option<usize> {
        let named = self.listed.iter().position(|listed| listed == name);
        let matched = self.globs.matches(name);
        let matched = matched.first().map(|glob| self.places[*glob]);
        named.into_iter().chain(matched).min()
    }
}

/// All that it says.
pub(super) struct Rules<'a> {
    never: Patterns<'a>,
    always: Patterns<'a>,
    priorities: Patterns<'a>,
}

impl<'a> Rules<'a> {
    pub fn new(config: &'a Config) -> Rules<'a> {
        Rules {
            never: Patterns::new(&config.policy.never),
            always: Patterns::new(&config.policy.always),
            priorities: Patterns::new(&config.policy.priorities),
        }
    }

    /// Whether a model is wanted in the pools always, never, or as it is loaded.
    pub fn rule(&self, name: &str) -> ModelRule {
        if self.never.first(name).is_some() {
            ModelRule::Never
        } else if self.always.first(name).is_some() {
            ModelRule::Always
        } else {
            ModelRule::Normal
        }
    }

    /// The higher, the earlier it is listed; 0: not at all.
    pub fn priority(&self, name: &str) -> i32 {
        let listed = self.priorities.listed.len();
        let place = self.priorities.first(name);
        place.map_or(0, |at| i32::try_from(listed - at).unwrap_or(i32::MAX))
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
