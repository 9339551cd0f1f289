//! The configuration as a form: every field with its documentation and value, and what a change of some of
//! them would mean.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::table::{Align, Cell, Column, Row, Tone};

/// Every field of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct SettingsView {
    /// The file that changes are saved to; none if the daemon was started without one.
    pub path: Option<String>,
    /// In the order of the manual.
    pub fields: Vec<FieldView>,
}

/// One field, or one field of an item of a list.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct FieldView {
    /// Its key: `http.listen`, `pool[0].capacity`.
    pub key: String,
    /// What it is for.
    pub doc: String,
    /// `path`, `text`, `secret`, `size`, `capacity`, `duration`, `switch`, `integer`, `choice`, `list`.
    pub kind: String,
    /// The words of a choice.
    pub choices: Vec<String>,
    /// The least and the greatest value, as text.
    pub range: Option<(String, String)>,
    /// What it has if nobody sets it, in words.
    pub default: String,
    /// Whether a changed value counts at once.
    pub live: bool,
    /// Its value as text; none if it is unset. Secrets are blanked.
    pub value: Option<String>,
    /// `default`, a place in the file, a variable or an option.
    pub origin: String,
    /// Whether something outside of the file sets it, so that the file's value does not count.
    pub overridden: bool,
}

impl Row for FieldView {
    const COLUMNS: &'static [Column] = &[
        ("KEY", Align::Left),
        ("VALUE", Align::Flexible),
        ("FROM", Align::Flexible),
        ("EFFECT", Align::Left),
        ("MEANING", Align::Flexible),
    ];
    const OPTIONAL: &'static [&'static str] = &["EFFECT", "FROM"];

    fn cells(&self, _now_ms: u64) -> Vec<Cell> {
        let effect = if self.live {
            "at once"
        } else {
            "at the next mount"
        };
        vec![
            self.key.as_str().into(),
            self.value.as_deref().unwrap_or("-").into(),
            self.origin.as_str().into(),
            effect.into(),
            self.doc.as_str().into(),
        ]
    }
}

/// A key and its new value, which is never logged: it may be a secret.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SettingChange {
    /// `http.listen`, `pool[0].capacity`, `placement.pins.MODEL`; the number after the last makes a new item.
    pub key: String,
    /// The value as text; none takes the key out, or the whole item (`pool[1]`).
    #[serde(default)]
    pub value: Option<String>,
}

impl fmt::Debug for SettingChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let done = match self.value {
            Some(_) => "set",
            None => "taken out",
        };
        write!(f, "{:?} {done}", self.key)
    }
}

/// What changes of the configuration would mean, or have meant.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct DraftView {
    /// What is wrong with it; nothing is saved if anything is.
    pub faults: Vec<FaultView>,
    /// One for each key that differs from what is in effect.
    pub changes: Vec<DraftChangeView>,
    /// The lines of the file that differ.
    pub diff: Vec<DiffLineView>,
    /// Whether it was saved.
    pub saved: bool,
    /// Keys whose value in the file does not count, because something outside of it sets them, and what does.
    #[serde(default)]
    pub overridden: BTreeMap<String, String>,
}

/// A fault of a draft.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct FaultView {
    /// The key; empty for the whole.
    pub key: String,
    /// What was found and what would be right.
    pub text: String,
}

/// A key that a draft changes.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct DraftChangeView {
    /// Its key.
    pub key: String,
    /// The value in effect.
    pub before: String,
    /// The new value.
    pub after: String,
    /// Whether it counts at once.
    pub live: bool,
    /// Why a running daemon refuses it, if it does.
    pub refused: Option<String>,
    /// When it counts, where there is more to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remark: Option<String>,
}

impl Row for DraftChangeView {
    const COLUMNS: &'static [Column] = &[
        ("KEY", Align::Left),
        ("BEFORE", Align::Flexible),
        ("AFTER", Align::Flexible),
        ("EFFECT", Align::Flexible),
    ];

    fn cells(&self, _now_ms: u64) -> Vec<Cell> {
        let effect = match (self.refused.as_ref().or(self.remark.as_ref()), self.live) {
            (Some(why), _) => Cell::new(why, Tone::Warning),
            (None, true) => Cell::new("at once", Tone::Good),
            (None, false) => Cell::new("at the next mount", Tone::Warning),
        };
        vec![
            self.key.as_str().into(),
            self.before.as_str().into(),
            self.after.as_str().into(),
            effect,
        ]
    }
}

/// A line of a difference.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct DiffLineView {
    /// `+`, `-` or a blank.
    pub sign: String,
    /// The line.
    pub text: String,
}

impl DraftView {
    /// The difference, and what is wrong with it.
    pub(super) fn text(&self) -> String {
        let mut lines: Vec<String> = self
            .diff
            .iter()
            .map(|line| format!("{}{}", line.sign, line.text))
            .collect();
        lines.extend(self.faults.iter().map(|fault| match fault.key.as_str() {
            "" => format!("fault: {}", fault.text),
            key => format!("fault: {key}: {}", fault.text),
        }));
        let ending = match (self.saved, self.faults.is_empty(), self.diff.is_empty()) {
            (true, _, _) => "saved",
            (false, _, true) => "nothing would change",
            (false, true, _) => "not saved: this was a trial",
            (false, false, _) => "not saved",
        };
        lines.push(ending.to_owned());
        let is_waiting = |change: &&DraftChangeView| !change.live || change.remark.is_some();
        let waiting = self.changes.iter().filter(is_waiting);
        lines.extend(
            waiting.map(|change| match (&change.refused, &change.remark) {
                (None, Some(remark)) => format!("{} counts {remark}", change.key),
                (None, None) => format!("{} counts from the next mount on", change.key),
                (Some(why), _) => format!("{} is not in effect: {why}", change.key),
            }),
        );
        let overridden = self.overridden.iter();
        lines
            .extend(overridden.map(|(key, origin)| {
                format!("{key} has no effect: {origin} goes before the file")
            }));
        lines.join("\n") + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_has_no_value_of_a_setting() {
        let value = Some("correct-horse-battery".to_owned());
        let key = "http.token".to_owned();
        let change = SettingChange { key, value };
        assert_eq!(format!("{change:?}"), "\"http.token\" set");
    }
}
