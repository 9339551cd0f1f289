//! What differs between two configurations, and what each difference needs in order to count.
//!
//! Pools and remotes are compared by name, so that their order is no change; cold directories by position, because
//! their order is their precedence.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::effective::{Config, Entry};
use crate::field::Effect;

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The key in the new configuration, or in the old one if it is gone: `pool.local.capacity`.
    pub key: String,
    /// The old value as TOML; `None` if it was unset or not there.
    pub old: Option<String>,
    /// The new value as TOML; `None` if it is unset or not there.
    pub new: Option<String>,
    /// What it needs in order to count.
    #[serde(flatten)]
    pub effect: Effect,
}

/// All differences, in the order of the manual. Secrets are compared, but shown blanked.
pub fn changes(old: &Config, new: &Config) -> Vec<Change> {
    let olds = keyed(old);
    let news = keyed(new);
    let index: BTreeMap<&str, &Entry> = olds
        .iter()
        .map(|(key, entry)| (key.as_str(), entry))
        .collect();
    let mut left = index.clone();
    let mut changes = Vec::new();
    for (key, entry) in &news {
        left.remove(key.as_str());
        let before = index.get(key.as_str());
        if before.is_some_and(|before| before.has_value_of(entry)) {
            continue;
        }
        let effect = if before.is_some() {
            entry.field().effect
        } else {
            appearing(entry)
        };
        let old = before.and_then(|before| before.value.clone());
        if old.is_none() && entry.value.is_none() {
            continue;
        }
        changes.push(Change {
            key: key.clone(),
            old,
            new: entry.value.clone(),
            effect,
        });
    }
    for (key, entry) in &olds {
        if left.contains_key(key.as_str()) && entry.value.is_some() {
            let old = entry.value.clone();
            changes.push(Change {
                key: key.clone(),
                old,
                new: None,
                effect: appearing(entry),
            });
        }
    }
    changes
}

/// A whole pool, remote or pin comes and goes while we run; a cold directory does not.
fn appearing(entry: &Entry) -> Effect {
    let key = entry.field().key;
    let live = ["pool[].", "remote.*.", "placement.pins.*"];
    if live.iter().any(|place| key.starts_with(place)) {
        Effect::Live
    } else {
        Effect::Remount
    }
}

/// The entries by keys that mean the same thing in both configurations.
fn keyed(config: &Config) -> Vec<(String, Entry)> {
    let name = |entry: &Entry| {
        let index: usize = entry.item.parse().ok()?;
        let pool = config.pools.get(index)?;
        Some(format!("pool.{}.{}", pool.name, entry.field().name()))
    };
    config
        .entries()
        .into_iter()
        .filter(|entry| entry.field().key != "pool[].name")
        .map(|entry| {
            let pool = entry.field().key.starts_with("pool[].");
            let key = if pool { name(&entry) } else { None };
            (key.unwrap_or_else(|| entry.key.clone()), entry)
        })
        .collect()
}
