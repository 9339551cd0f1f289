//! What happened, which version runs, what is configured, and why a model is where it is.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::human::timestamp;
use super::table::{Align, Cell, Column, Row, Style, Tone};

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// The ordinary course of things.
    #[default]
    Info,
    /// Somebody should look.
    Warning,
    /// Something did not work.
    Error,
}

impl Level {
    fn text(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }

    fn tone(self) -> Tone {
        match self {
            Self::Info => Tone::Plain,
            Self::Warning => Tone::Warning,
            Self::Error => Tone::Bad,
        }
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct EventView {
    /// Grows by one with each event of a daemon's life; `Events { since }` continues after it.
    pub seq: u64,
    /// When, as Unix time.
    pub time_ms: u64,
    /// A kebab-case word: `promoted`, `demoted`, `draining`, `load`, `refused`, `pool-lost`, ..
    pub kind: String,
    /// How much it matters.
    pub level: Level,
    /// The model, file, pool or home that it is about.
    pub subject: String,
    /// A sentence for a person.
    pub text: String,
    /// The same for programs: names with units, values as text.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, String>,
}

impl EventView {
    /// One line, as followers print it; never contains a line break.
    pub fn line(&self, style: Style) -> String {
        let Self {
            seq: _,
            time_ms,
            kind,
            level,
            subject,
            text,
            fields: _,
        } = self;
        let line = format!(
            "{} {:<7} {kind:<12} {subject}: {text}",
            timestamp(*time_ms),
            level.text()
        );
        let line: String = line
            .chars()
            .map(|c| if c.is_control() { '\u{fffd}' } else { c })
            .collect();
        style.paint(&line, level.tone())
    }
}

/// Events, the oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct EventsView {
    /// Those after `since` that are still remembered.
    pub events: Vec<EventView>,
    /// How many after `since` are forgotten.
    pub lost: u64,
}

impl EventsView {
    /// What there is to say where events are missing.
    pub fn lost_text(&self) -> Option<String> {
        let lost = self.lost;
        (lost > 0).then(|| format!("({lost} older events are no longer remembered)"))
    }

    /// A line for each event.
    pub fn text(&self, style: Style) -> String {
        let mut text = String::new();
        if let Some(lost) = self.lost_text() {
            text.push_str(&style.paint(&lost, Tone::Dim));
            text.push('\n');
        }
        for event in &self.events {
            text.push_str(&event.line(style));
            text.push('\n');
        }
        text
    }
}

/// Which version runs.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct VersionView {
    /// The daemon's version.
    pub version: String,
    /// The version of the control protocol that it speaks.
    pub protocol: u32,
    /// The kernel that it runs on.
    pub kernel: String,
    /// The running daemon's, where a client shows its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daemon: Option<Box<VersionView>>,
}

impl VersionView {
    /// A line for a person, and one for the daemon.
    pub fn text(&self) -> String {
        let Self {
            version,
            protocol,
            kernel,
            daemon,
        } = self;
        let mut text =
            format!("speedloader {version} (control protocol {protocol}, Linux {kernel})\n");
        if let Some(daemon) = daemon {
            text.push_str(&format!("running daemon: {}", daemon.text()));
        }
        text
    }
}

/// The configuration in effect, secrets blanked.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ConfigView {
    /// The file that it was read from; none if all are defaults.
    pub path: Option<String>,
    /// Every key, with where its value is from.
    pub settings: Vec<SettingView>,
    /// The whole as TOML.
    pub toml: String,
}

/// One key of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct SettingView {
    /// Its dotted name.
    pub key: String,
    /// Its value as TOML.
    pub value: String,
    /// `default`, `file:line`, `environment`, `option`, ..
    pub origin: String,
}

impl Row for SettingView {
    const COLUMNS: &'static [Column] = &[
        ("KEY", Align::Left),
        ("VALUE", Align::Flexible),
        ("FROM", Align::Flexible),
    ];

    fn cells(&self, _now_ms: u64) -> Vec<Cell> {
        let Self { key, value, origin } = self;
        vec![key.into(), value.into(), origin.into()]
    }
}

/// What a reload of the configuration changed.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ReloadView {
    /// One for each key that differs.
    pub changes: Vec<ChangeView>,
}

/// One key that differs.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ChangeView {
    /// Its dotted name.
    pub key: String,
    /// The value in effect before.
    pub before: String,
    /// The value in the file now.
    pub after: String,
    /// Whether it is in effect already; else it takes a new mount.
    pub applied: bool,
    /// When it counts, where there is more to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remark: Option<String>,
}

impl Row for ChangeView {
    const COLUMNS: &'static [Column] = &[
        ("KEY", Align::Left),
        ("BEFORE", Align::Flexible),
        ("AFTER", Align::Flexible),
        ("EFFECT", Align::Left),
    ];

    fn cells(&self, _now_ms: u64) -> Vec<Cell> {
        let Self {
            key,
            before,
            after,
            applied,
            remark,
        } = self;
        let effect = match (remark, applied) {
            (Some(remark), _) => Cell::new(remark, Tone::Warning),
            (None, true) => Cell::new("applied", Tone::Good),
            (None, false) => Cell::new("at the next mount", Tone::Warning),
        };
        vec![key.into(), before.into(), after.into(), effect]
    }
}

/// What a rescan found.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ScanView {
    /// Homes read through.
    pub homes: u64,
    /// Files that were not known.
    pub files_added: u64,
    /// Files that are gone.
    pub files_removed: u64,
    /// Files that differ from what was known; their replicas are stale.
    pub files_changed: u64,
}

impl ScanView {
    /// A line for a person.
    pub fn text(&self) -> String {
        let Self {
            homes,
            files_added,
            files_removed,
            files_changed,
        } = self;
        format!(
            "{homes} homes scanned: {files_added} files new, {files_removed} gone, {files_changed} changed\n"
        )
    }
}
