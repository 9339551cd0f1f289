//! What is wrong, or soon will be, and what to do about it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::table::{Style, Tone};

/// How bad a finding is.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Worth knowing; nothing suffers.
    #[default]
    Notice,
    /// Something is slower or less safe than it could be.
    Warning,
    /// Something does not work, or soon will not.
    Error,
}

impl Severity {
    fn text(self) -> &'static str {
        match self {
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }

    fn tone(self) -> Tone {
        match self {
            Self::Notice => Tone::Dim,
            Self::Warning => Tone::Warning,
            Self::Error => Tone::Bad,
        }
    }
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct FindingView {
    /// A kebab-case word for the sort of fault.
    pub check: String,
    /// How bad it is.
    pub severity: Severity,
    /// The file, pool, home or setting that it is about.
    pub subject: String,
    /// What was found: part of a sentence.
    pub found: String,
    /// What that means: a sentence.
    pub meaning: String,
    /// What to do: a sentence or a command.
    pub remedy: String,
    /// Whether `--repair` does that.
    pub repairable: bool,
    /// What the repair came to, if it was tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repaired: Option<String>,
}

/// All that was found, the worst first.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct HealthView {
    /// As whom and where it was looked, if not at everything as oneself: part of a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Checks that were made, by their words.
    pub checked: Vec<String>,
    /// What they found.
    pub findings: Vec<FindingView>,
}

impl HealthView {
    pub(super) fn text(&self, style: Style) -> String {
        let scope = self.scope.as_deref();
        let scope = scope.map_or_else(String::new, |scope| format!("{scope}\n"));
        if self.findings.is_empty() {
            return format!("{scope}{} checks, nothing found\n", self.checked.len());
        }
        let shown = |finding: &FindingView| {
            let head = style.paint(finding.severity.text(), finding.severity.tone());
            let done = match (&finding.repaired, finding.repairable) {
                (Some(done), _) => format!("\n  repair: {done}"),
                (None, true) => "\n  repair: `speedloader health --repair` does it".to_owned(),
                (None, false) => String::new(),
            };
            format!(
                "{head}  {} ({})\n  {}: {}\n  {}\n  remedy: {}{done}\n",
                finding.subject,
                finding.check,
                "found",
                finding.found,
                finding.meaning,
                finding.remedy
            )
        };
        let findings = self.findings.iter().map(shown);
        std::iter::once(scope).chain(findings).collect()
    }
}
