//! What loads have been like: the last ones, and sums of each hour.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::human::{ago, percent, size};
use super::table::{Align, Cell, Column, Row};

/// Loads since the daemon has started, as far as they are remembered.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct HistoryView {
    /// Since when, as Unix time.
    pub since_ms: u64,
    /// What homes are taken to give, bytes a second: measured by copies, or assumed.
    pub home_bytes_per_sec: u64,
    /// Whether that was measured.
    pub home_measured: bool,
    /// The last loads, the oldest first.
    pub loads: Vec<LoadView>,
    /// Hours in which anything was loaded, the oldest first.
    pub hours: Vec<HourView>,
}

/// A load of a model.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct LoadView {
    /// When, as Unix time.
    pub time_ms: u64,
    /// The model.
    pub model: String,
    /// Its bytes.
    pub bytes: u64,
    /// Those that came from a pool.
    pub resident_bytes: u64,
    /// The pool that most of them came from; empty for the home.
    pub pool: String,
    /// What reading them takes at the measured speeds, milliseconds.
    pub read_ms: u64,
    /// What reading all from the home would take longer, milliseconds.
    pub saved_ms: u64,
}

impl Row for LoadView {
    const COLUMNS: &'static [Column] = &[
        ("WHEN", Align::Right),
        ("MODEL", Align::Flexible),
        ("SIZE", Align::Right),
        ("FROM RAM", Align::Right),
        ("POOL", Align::Left),
        ("READ", Align::Right),
        ("SAVED", Align::Right),
    ];

    fn cells(&self, now_ms: u64) -> Vec<Cell> {
        let seconds = |ms: u64| format!("{}.{} s", ms / 1000, ms % 1000 / 100);
        vec![
            ago(now_ms, Some(self.time_ms)).into(),
            self.model.as_str().into(),
            size(self.bytes).into(),
            format!("{} %", percent(self.resident_bytes, self.bytes)).into(),
            if self.pool.is_empty() {
                "-".into()
            } else {
                self.pool.as_str().into()
            },
            seconds(self.read_ms).into(),
            seconds(self.saved_ms).into(),
        ]
    }
}

/// Sums of the loads of an hour.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct HourView {
    /// Its beginning, as Unix time.
    pub time_ms: u64,
    /// Loads.
    pub loads: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes that came from pools.
    pub resident_bytes: u64,
    /// What reading all from the homes would have taken longer, milliseconds.
    pub saved_ms: u64,
}
