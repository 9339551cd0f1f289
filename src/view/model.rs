//! Models as people name them, and where each of their files is. A percentage is of verified
//! resident bytes and is rounded down, so that 100 means all.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

use super::human::{ago, count, percent, size};
use super::table::{Align, Cell, Column, Row, Style, Tone, render_or_none};

/// A model: the unit that is promoted, demoted and pinned.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ModelView {
    /// Its name; what all commands take.
    pub name: String,
    /// `ollama`, `gguf`, `huggingface` or `file`.
    pub kind: String,
    /// How many files it has.
    pub files: u64,
    /// Their bytes.
    pub size_bytes: u64,
    /// Bytes resident in each pool.
    pub resident_bytes: BTreeMap<String, u64>,
    /// Bytes that are resident in at least one pool.
    pub resident_total_bytes: u64,
    /// The share of those, in whole percent rounded down.
    pub resident_percent: u8,
    /// The decayed frequency of its loads.
    #[serde(serialize_with = "finite")]
    #[schemars(with = "f64")]
    pub heat: f64,
    /// The pool that it is pinned to.
    pub pinned: Option<String>,
    /// How many of its files are open or mapped now.
    pub open: u64,
    /// Engines that say that they have it loaded now.
    #[serde(default)]
    pub loaded: Vec<String>,
    /// Loads since the start; of names of the same weights, of all of them.
    pub loads: u64,
    /// The last of these, as Unix time.
    pub last_load_ms: Option<u64>,
    /// Names of files that should be there and are not.
    #[serde(default)]
    pub missing: Vec<String>,
    /// What is wrong with files that are there, one sentence each.
    #[serde(default)]
    pub faults: Vec<String>,
}

/// What is missing of a model and wrong with it, a sentence each.
pub(crate) fn problems(missing: &[String], faults: &[String]) -> Vec<String> {
    let missing = missing.iter().map(|name| format!("{name} is missing"));
    missing.chain(faults.iter().cloned()).collect()
}

impl ModelView {
    /// When it was loaded last, as far as is known: what is counted begins with the daemon, what is learned before.
    pub fn last_load(&self, now_ms: u64) -> String {
        match self.last_load_ms {
            None if self.heat > 0.0 => "before start".to_owned(),
            known => ago(now_ms, known),
        }
    }

    /// Computes `resident_percent` from the other fields.
    #[must_use]
    pub fn with_percent(self) -> Self {
        Self {
            // Of nothing, nothing is resident: it has no weights yet, or all of them are missing.
            resident_percent: match self.size_bytes {
                0 => 0,
                size_bytes => percent(self.resident_total_bytes, size_bytes),
            },
            ..self
        }
    }
}

/// JSON has no infinity; a heat that is none is nothing rather than `null`.
fn finite<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(if value.is_finite() { *value } else { 0.0 })
}

impl Row for ModelView {
    const COLUMNS: &'static [Column] = &[
        ("MODEL", Align::Flexible),
        ("KIND", Align::Left),
        ("SIZE", Align::Right),
        ("RESIDENT", Align::Right),
        ("POOLS", Align::Left),
        ("PINNED", Align::Left),
        ("HEAT", Align::Right),
        ("OPEN", Align::Right),
        ("LOADED IN", Align::Left),
        ("LOADS", Align::Right),
        ("LAST LOAD", Align::Right),
    ];
    const OPTIONAL: &'static [&'static str] =
        &["LOADS", "HEAT", "KIND", "PINNED", "LOADED IN", "OPEN"];

    fn cells(&self, now_ms: u64) -> Vec<Cell> {
        let Self {
            name,
            kind,
            files: _,
            size_bytes,
            resident_bytes,
            resident_total_bytes: _,
            resident_percent,
            heat,
            pinned,
            open,
            loaded,
            loads,
            last_load_ms: _,
            missing: _,
            faults: _,
        } = self;
        let pools: Vec<&str> = resident_bytes
            .iter()
            .filter(|(_, bytes)| **bytes > 0)
            .map(|(pool, _)| pool.as_str())
            .collect();
        let tone = match resident_percent {
            100.. => Tone::Good,
            0 => Tone::Dim,
            _ => Tone::Warning,
        };
        vec![
            name.into(),
            kind.into(),
            size(*size_bytes).into(),
            Cell::new(format!("{resident_percent} %"), tone),
            if pools.is_empty() {
                "-".into()
            } else {
                pools.join(",").into()
            },
            pinned.as_deref().unwrap_or("-").into(),
            format!("{heat:.2}").into(),
            count(*open).into(),
            if loaded.is_empty() {
                "-".into()
            } else {
                loaded.join(",").into()
            },
            count(*loads).into(),
            self.last_load(now_ms).into(),
        ]
    }
}

/// Models, in the order in which they are to be shown.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ModelsView {
    /// Those that the filter lets through.
    pub models: Vec<ModelView>,
}

/// Where each file of a model, or a file, is.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct WhichView {
    /// What was asked for, in full.
    pub name: String,
    /// A row for each file.
    pub files: Vec<PlaceView>,
    /// Names of files that should be there and are not.
    #[serde(default)]
    pub missing: Vec<String>,
    /// What is wrong with files that are there, one sentence each.
    #[serde(default)]
    pub faults: Vec<String>,
}

impl WhichView {
    /// The files, and what is wrong with them.
    pub(super) fn text(&self, now_ms: u64, style: Style) -> String {
        let mut text = render_or_none(&self.files, "files", now_ms, style);
        for problem in problems(&self.missing, &self.faults) {
            text.push_str(&style.paint(&problem, Tone::Warning));
            text.push('\n');
        }
        text
    }
}

/// Where one file is.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct PlaceView {
    /// Its path below the mountpoint.
    pub file: String,
    /// Its bytes.
    pub size_bytes: u64,
    /// The real file that the next open is bound to; like all paths here escaped.
    pub serving: String,
    /// Its durable original.
    pub home: String,
    /// Its copies.
    pub replicas: Vec<ReplicaView>,
    /// How many handles or mappings use it, as far as is known.
    pub open: u64,
}

/// A replica's place in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ReplicaState {
    /// Invisible, unfinished.
    #[default]
    Copying,
    /// Complete and verified; opens get it.
    Serving,
    /// Complete and verified, in a slower pool than the one that serves: goes when its room is needed,
    /// serves again when the faster one goes.
    Spare,
    /// Dropped, but still read by somebody.
    Draining,
}

impl ReplicaState {
    fn text(self) -> &'static str {
        match self {
            Self::Copying => "copying",
            Self::Serving => "serving",
            Self::Spare => "spare",
            Self::Draining => "draining",
        }
    }
}

/// A copy of a file in a pool.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ReplicaView {
    /// The pool.
    pub pool: String,
    /// The file in it.
    pub path: String,
    /// Where it is in its life.
    pub state: ReplicaState,
}

impl Row for PlaceView {
    const COLUMNS: &'static [Column] = &[
        ("FILE", Align::Flexible),
        ("SIZE", Align::Right),
        ("OPEN", Align::Right),
        ("REPLICAS", Align::Left),
        ("SERVED FROM", Align::Flexible),
        ("HOME", Align::Flexible),
    ];
    const OPTIONAL: &'static [&'static str] = &["OPEN", "HOME"];

    fn cells(&self, _now_ms: u64) -> Vec<Cell> {
        let Self {
            file,
            size_bytes,
            serving,
            home,
            replicas,
            open,
        } = self;
        let replicas: Vec<String> = replicas
            .iter()
            .map(
                |ReplicaView {
                     pool,
                     path: _,
                     state,
                 }| format!("{pool} ({})", state.text()),
            )
            .collect();
        vec![
            file.into(),
            size(*size_bytes).into(),
            count(*open).into(),
            if replicas.is_empty() {
                "-".into()
            } else {
                replicas.join(", ").into()
            },
            serving.into(),
            home.into(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Beside a heat of 5.89 it said "never".
    #[test]
    fn what_was_loaded_before_the_start_says_so() {
        let known = |heat, last_load_ms| ModelView {
            heat,
            last_load_ms,
            ..ModelView::default()
        };
        assert_eq!(known(0.0, None).last_load(9_000), "never");
        assert_eq!(known(5.89, None).last_load(9_000), "before start");
        assert_eq!(known(5.89, Some(4_000)).last_load(9_000), "5 s ago");
    }
}
