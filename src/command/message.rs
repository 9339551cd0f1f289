//! Errors as answers: a stable code for programs, and for a person what is wrong, where, and what
//! would be right. The one place where codes and exit statuses are laid down.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What sort of failure it is. The kebab-case word is stable; so is the exit status.
///
/// | status | meaning |
/// |---|---|
/// | 0 | done |
/// | 1 | failed |
/// | 2 | wrong usage: an argument, a request or the configuration |
/// | 3 | nothing of that name |
/// | 4 | refused: too large, no space, pinned, busy, read-only, already running |
/// | 5 | no daemon answers |
/// | 6 | not done in time |
/// | 7 | not permitted |
/// | 8 | cancelled |
///
/// Called as `mount.fuse.speedloader` the program ends with the statuses of mount(8) instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// It was tried and did not work.
    Failed,
    /// A fault of the program.
    Internal,
    /// A wrong argument.
    Usage,
    /// A request that cannot be read.
    BadRequest,
    /// A request of another version of the protocol.
    UnsupportedVersion,
    /// A faulty configuration.
    BadConfig,
    /// No model of that name.
    NoMatch,
    /// Several models of that name, where one was asked for.
    Ambiguous,
    /// No pool of that name.
    NoSuchPool,
    /// No transfer of that number.
    NoSuchTransfer,
    /// Larger than the pool.
    TooLarge,
    /// No room left, and none can be made.
    NoSpace,
    /// Pinned elsewhere.
    Pinned,
    /// In use, or already at work on something that excludes this.
    Busy,
    /// Cold storage is never written.
    ReadOnly,
    /// Another daemon is there.
    AlreadyRunning,
    /// This machine or build cannot do it.
    Unsupported,
    /// No daemon answers.
    NotRunning,
    /// Not done in time.
    TimedOut,
    /// Not permitted.
    Denied,
    /// It is not resident, and nothing brings it.
    NotResident,
    /// Ended by request.
    Cancelled,
    /// A code of a newer daemon.
    #[serde(other)]
    Unknown,
}

impl Code {
    /// Every code, for documentation and tests.
    pub const ALL: [Self; 23] = [
        Self::Failed,
        Self::Internal,
        Self::Usage,
        Self::BadRequest,
        Self::UnsupportedVersion,
        Self::BadConfig,
        Self::NoMatch,
        Self::Ambiguous,
        Self::NoSuchPool,
        Self::NoSuchTransfer,
        Self::TooLarge,
        Self::NoSpace,
        Self::Pinned,
        Self::Busy,
        Self::ReadOnly,
        Self::AlreadyRunning,
        Self::Unsupported,
        Self::NotRunning,
        Self::TimedOut,
        Self::Denied,
        Self::NotResident,
        Self::Cancelled,
        Self::Unknown,
    ];

    /// The exit status of a command line that ends with this.
    pub fn exit_status(self) -> u8 {
        match self {
            Self::Failed | Self::Internal | Self::NotResident | Self::Unknown => 1,
            Self::Usage | Self::BadRequest | Self::UnsupportedVersion | Self::BadConfig => 2,
            Self::NoMatch | Self::Ambiguous | Self::NoSuchPool | Self::NoSuchTransfer => 3,
            Self::TooLarge
            | Self::NoSpace
            | Self::Pinned
            | Self::Busy
            | Self::ReadOnly
            | Self::AlreadyRunning
            | Self::Unsupported => 4,
            Self::NotRunning => 5,
            Self::TimedOut => 6,
            Self::Denied => 7,
            Self::Cancelled => 8,
        }
    }
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Message {
    /// For programs.
    pub code: Code,
    /// What is wrong, and where: one sentence without a full stop.
    #[serde(rename = "message")]
    pub text: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// What may have been meant, the likeliest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suggestions: Vec<String>,
}

impl Message {
    /// A message without hint.
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
            hint: None,
            suggestions: Vec::new(),
        }
    }

    /// The same with what to do about it.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..self
        }
    }

    /// The same with what may have been meant.
    #[must_use]
    pub fn with_suggestions(self, suggestions: Vec<String>) -> Self {
        Self {
            suggestions,
            ..self
        }
    }

    /// "no model matches", with the names that are near.
    pub fn no_model<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        Self::new(Code::NoMatch, format!("no model matches `{name}`"))
            .with_suggestions(super::suggest(name, known))
            .with_hint("`speedloader models` lists all")
    }

    /// "no pool is called", with the names that are near.
    pub fn no_pool<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        Self::new(Code::NoSuchPool, format!("no pool is called `{name}`"))
            .with_suggestions(super::suggest(name, known))
            .with_hint("`speedloader tiers` lists all")
    }
}

impl fmt::Display for Message {
    /// On one line: `no model matches `lama3`; did you mean `llama3`?`
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            code: _,
            text,
            hint,
            suggestions,
        } = self;
        formatter.write_str(text)?;
        match (suggestions.as_slice(), hint) {
            ([], None) => Ok(()),
            ([], Some(hint)) => write!(formatter, "; {hint}"),
            ([only], _) => write!(formatter, "; did you mean `{only}`?"),
            ([several @ .., last], _) => {
                formatter.write_str("; did you mean ")?;
                for (index, name) in several.iter().enumerate() {
                    write!(formatter, "{}`{name}`", if index == 0 { "" } else { ", " })?;
                }
                write!(formatter, " or `{last}`?")
            }
        }
    }
}

impl std::error::Error for Message {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_statuses_are_stable() {
        let table: Vec<String> = Code::ALL
            .iter()
            .map(|code| {
                format!(
                    "{} {}",
                    code.exit_status(),
                    serde_json::to_string(code).unwrap()
                )
            })
            .collect();
        insta::assert_snapshot!(table.join("\n"), @r#"
        1 "failed"
        1 "internal"
        2 "usage"
        2 "bad-request"
        2 "unsupported-version"
        2 "bad-config"
        3 "no-match"
        3 "ambiguous"
        3 "no-such-pool"
        3 "no-such-transfer"
        4 "too-large"
        4 "no-space"
        4 "pinned"
        4 "busy"
        4 "read-only"
        4 "already-running"
        4 "unsupported"
        5 "not-running"
        6 "timed-out"
        7 "denied"
        1 "not-resident"
        8 "cancelled"
        1 "unknown"
        "#);
    }

    #[test]
    fn a_code_of_a_newer_daemon_is_read() {
        let message: Message = serde_json::from_str(r#"{"code":"on-fire","message":"x"}"#).unwrap();
        assert_eq!(message.code, Code::Unknown);
    }

    #[test]
    fn messages_suggest() {
        let message = Message::no_model("lama3", ["llama3", "phi4"]);
        assert_eq!(
            message.to_string(),
            "no model matches `lama3`; did you mean `llama3`?"
        );
        let message = Message::no_model("zzz", ["llama3"]);
        assert_eq!(
            message.to_string(),
            "no model matches `zzz`; `speedloader models` lists all"
        );
        let three = Message::new(Code::NoMatch, "no").with_suggestions(vec![
            "a".into(),
            "b".into(),
            "c".into(),
        ]);
        assert_eq!(three.to_string(), "no; did you mean `a`, `b` or `c`?");
    }
}
