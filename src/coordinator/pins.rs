//! Pins, by what models are kept by. Those of the configuration name models as people do, by a name, a tag or a path.

use std::collections::{BTreeMap, HashSet};

use super::moves::{Subject, key_of, model_id};
use super::world::Known;
use super::{Coordinator, Moves};
use crate::command::Code;
use crate::view::human::unescape;

/// What the configuration's pins have come to.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// Keys of the models of each.
    models: BTreeMap<String, Vec<String>>,
    /// What there is to say of them, and of others that nothing is pinned by.
    remarks: Vec<String>,
    /// The tree that they were looked up in; none while some of it is still being read.
    looked_in: Option<u64>,
    /// What an older build had learned by names is by keys.
    took_over: bool,
}

impl Written {
    /// What `Moves::pins` may have a pin of the configuration under.
    pub fn keys_of<'a>(&'a self, written: &'a str) -> impl Iterator<Item = &'a str> {
        let models = self.models.get(written).into_iter().flatten();
        models.map(String::as_str).chain([written])
    }

    /// The file says something else of this pin than before, or nothing any more: it is looked up anew. Gives what
    /// `Moves::pins` may have it under.
    pub fn forget(&mut self, written: &str) -> Vec<String> {
        self.remarks.clear();
        self.looked_in = None;
        let mut keys = self.models.remove(written).unwrap_or_default();
        keys.push(written.to_owned());
        keys
    }

    /// Whether a model has its pin from the configuration.
    pub fn has(&self, key: &str) -> bool {
        self.models.values().flatten().any(|known| known == key)
    }
}

impl Moves {
    /// The pool that it is pinned to.
    pub(super) fn pin_of(&self, subject: &Subject) -> Option<&String> {
        self.pins.get(&subject.key)
    }

    /// Takes a pin away.
    pub(super) fn unpin(&mut self, key: &str) -> Option<String> {
        // It would be given again by the name while homes are read.
        let models = &self.written_pins.models;
        self.pins.retain(|written, _| {
            let named = models.get(written).into_iter().flatten();
            named.into_iter().all(|known| known != key)
        });
        self.pins.remove(key)
    }
}

impl Coordinator {
    /// Gives the pins of the configuration, and those that were kept by a name, to the models that they name. Those of
    /// the configuration name a model as `pin` would, and all of its name if there are several: who makes another of
    /// that name takes no pin away.
    pub(super) fn settle_pins(&self, known: &Known) {
        let config = self.config();
        let kept: Vec<(String, String)> = {
            let moves = self.lock_moves();
            if moves.written_pins.looked_in == Some(known.generation) {
                return;
            }
            let kept = moves.pins.iter();
            kept.filter(|(name, _)| {
                !config.pins.contains_key(*name) && !moves.written_pins.has(name)
            })
            .map(|(name, pool)| (name.clone(), pool.clone()))
            .collect()
        };
        let all_read = self.fs.home_states().iter().all(|home| home.scanned);
        let mut remarks = Vec::new();
        let mut found: Vec<(&String, Vec<String>)> = Vec::new();
        for written in config.pins.keys() {
            match self.one_named(written) {
                Ok(subject) => found.push((written, vec![subject.key])),
                Err(why) => {
                    let models = keys_named(known, written);
                    remarks.push(match why.code {
                        Code::Ambiguous if !models.is_empty() => {
                            format!("a pin of the configuration holds for all that it names: {why}")
                        }
                        _ => format!("a pin of the configuration has no effect: {why}"),
                    });
                    found.push((written, models));
                }
            }
        }
        let keys: HashSet<String> = match kept.is_empty() {
            true => HashSet::new(),
            false => {
                let indices = known.catalog.indices();
                indices.map(|index| key_of(&known.catalog, index)).collect()
            }
        };
        for (name, pool) in &kept {
            let path = name.strip_prefix('/');
            let file = unescape(path.unwrap_or(name)).and_then(|path| self.world.file_at(&path));
            if path.is_some() && (keys.contains(name) || file.is_some()) {
                continue;
            }
            let mut models = keys_named(known, name);
            if models.is_empty() && file.is_some() {
                models.push(format!("/{name}"));
            }
            if models.is_empty() {
                remarks.push(format!("the pin of `{name}` to {pool} has no effect: nothing is there that is called so"));
            }
            found.push((name, models));
        }
        let mut moves = self.lock_moves();
        let moves = &mut *moves;
        for (name, models) in found {
            if models.is_empty() {
                continue;
            }
            if let Some(pool) = moves.pins.get(name).cloned() {
                for key in &models {
                    moves
                        .pins
                        .entry(key.clone())
                        .or_insert_with(|| pool.clone());
                }
            }
            // What is still being read may have more of that name.
            if all_read && !models.contains(name) {
                moves.pins.remove(name);
            }
            if config.pins.contains_key(name) {
                moves.written_pins.models.insert(name.clone(), models);
            }
        }
        moves.written_pins.remarks = remarks;
        if all_read && !std::mem::replace(&mut moves.written_pins.took_over, true) {
            for index in known.catalog.indices() {
                let before = model_id(known.catalog.name(index));
                let id = model_id(&key_of(&known.catalog, index));
                moves.learned.rename(before, id);
            }
        }
        moves.written_pins.looked_in = all_read.then_some(known.generation);
    }

    /// Pins that have no effect, or another one than was meant.
    pub(super) fn pin_warnings(&self) -> Vec<String> {
        let moves = self.lock_moves();
        let written = &moves.written_pins;
        // What is still being read may have the model.
        let looked = written.looked_in.map(|_| written.remarks.clone());
        looked.unwrap_or_default()
    }
}

/// Keys of the models that have this name, whether or not others have it, too.
fn keys_named(known: &Known, name: &str) -> Vec<String> {
    let catalog = &known.catalog;
    let named = |index: &_| catalog.plain_name(*index) == name || catalog.name(*index) == name;
    let models = catalog.indices().filter(named);
    models.map(|index| key_of(catalog, index)).collect()
}
