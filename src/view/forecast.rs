//! What other pool sizes would have meant for the loads that are logged.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::human::size;
use super::table::{Align, Cell, Column, Row};

/// The log of loads, replayed for several sizes of all local pools together.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ForecastView {
    /// Loads that were replayed: the latest.
    pub loads: u64,
    /// Seconds between the first and the last of them.
    pub span_s: u64,
    /// What the pools of this machine may hold together now, bytes.
    pub here_bytes: u64,
    /// The bytes of all models that were loaded.
    pub footprint_bytes: u64,
    /// What the pools give together, each counting by its size, bytes a second.
    pub pool_bytes_per_sec: u64,
    /// What a home gives, bytes a second.
    pub home_bytes_per_sec: u64,
    /// By size, the smallest first; empty if nothing is logged.
    pub points: Vec<ForecastPoint>,
}

/// A size, and what it would have meant.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ForecastPoint {
    /// Bytes of all pools together.
    pub pool_bytes: u64,
    /// Time of all loads, seconds.
    pub load_time_s: f64,
    /// The share of bytes from pools, 0 to 1.
    pub byte_hit_ratio: f64,
}

impl Row for ForecastPoint {
    const COLUMNS: &'static [Column] = &[
        ("POOLS", Align::Right),
        ("LOAD TIME", Align::Right),
        ("BYTES FROM RAM", Align::Right),
    ];

    fn cells(&self, _now_ms: u64) -> Vec<Cell> {
        vec![
            size(self.pool_bytes).into(),
            format!("{:.1} s", self.load_time_s).into(),
            format!("{:.0} %", self.byte_hit_ratio * 100.0).into(),
        ]
    }
}
