//! Pins of the configuration: they name models as people do, by a name, a tag or a path.

use std::collections::BTreeMap;

use super::Coordinator;
use super::world::Known;

/// What the configuration's pins have come to.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// The model of each.
    models: BTreeMap<String, String>,
    /// Those that name none, with why.
    unmatched: Vec<String>,
    /// The tree that they were looked up in; none while some of it is still being read.
    looked_in: Option<u64>,
}

impl Written {
    /// The model that a pin of the configuration names, as far as that is known.
    pub fn model_of<'a>(&'a self, written: &'a str) -> &'a str {
        self.models.get(written).map_or(written, String::as_str)
    }

    /// The file says something else of this pin than before, or nothing any more: it is looked up anew. Gives the
    /// model that it named.
    pub fn forget(&mut self, written: &str) -> String {
        self.unmatched.clear();
        self.looked_in = None;
        let model = self.models.remove(written);
        model.unwrap_or_else(|| written.to_owned())
    }
}

impl Coordinator {
    /// Gives the pins of the configuration to the models that they name, as `pin` would.
    pub(super) fn settle_pins(&self, known: &Known) {
        let config = self.config();
        let looked_in = self.lock_moves().written_pins.looked_in;
        if config.pins.is_empty() || looked_in == Some(known.generation) {
            return;
        }
        let all_read = self.fs.home_states().iter().all(|home| home.scanned);
        let names = config.pins.keys();
        let found = names.map(|written| (written, self.one_named(written)));
        let found: Vec<_> = found.collect();
        let mut moves = self.lock_moves();
        let moves = &mut *moves;
        moves.written_pins.unmatched.clear();
        for (written, found) in found {
            match found {
                Ok(subject) => {
                    let pool = moves.pins.remove(written);
                    if let Some(pool) = pool {
                        moves.pins.entry(subject.name.clone()).or_insert(pool);
                    }
                    let models = &mut moves.written_pins.models;
                    models.insert(written.clone(), subject.name);
                }
                Err(why) => {
                    let text = format!("a pin of the configuration has no effect: {why}");
                    moves.written_pins.unmatched.push(text);
                }
            }
        }
        moves.written_pins.looked_in = all_read.then_some(known.generation);
    }

    /// Pins of the configuration that have no effect.
    pub(super) fn pin_warnings(&self) -> Vec<String> {
        let moves = self.lock_moves();
        let written = &moves.written_pins;
        // What is still being read may have the model.
        let looked = written.looked_in.map(|_| written.unmatched.clone());
        looked.unwrap_or_default()
    }
}
