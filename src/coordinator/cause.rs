//! Why something moves: who wanted it, and what the policy had to say. Data first, sentences second.

use std::collections::BTreeMap;
use std::fmt;

use speedloader_fs::ids::PoolId;
use speedloader_policy::{ModelId, Reason};

use super::Coordinator;

/// Who wanted a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Somebody asked for it.
    Request,
    /// Somebody pinned it.
    Pin,
    /// It was loaded.
    Load,
    /// It is being loaded, and somebody may wait for it.
    FirstLoad,
    /// It was resident before a restart.
    WarmUp,
    /// Memory is given back.
    Pressure,
    /// What the user has laid down: pins, `always`, `never`.
    Policy,
}

impl Cause {
    /// The word for it, the same at every door.
    pub fn word(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Pin => "pin",
            Self::Load => "load",
            Self::FirstLoad => "first load",
            Self::WarmUp => "warm-up",
            Self::Pressure => "pressure",
            Self::Policy => "policy",
        }
    }

    /// What somebody waits for is copied first, what nobody has asked for last.
    pub fn copy_priority(self) -> i32 {
        match self {
            Self::FirstLoad => 2,
            Self::Request => 1,
            Self::Pin | Self::Load | Self::Policy | Self::Pressure => 0,
            Self::WarmUp => -1,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Why one file moves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Why {
    /// Who wanted it.
    pub cause: Cause,
    /// The model for which it moves.
    pub model: String,
    /// The policy's reason, in the names of people.
    pub reason: String,
}

impl Why {
    /// For programs.
    pub fn fields(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            ("cause".to_owned(), self.cause.word().to_owned()),
            ("model".to_owned(), self.model.clone()),
            ("reason".to_owned(), self.reason.clone()),
        ])
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.cause, self.reason)
    }
}

impl Coordinator {
    /// A reason of the policy in the names of people.
    pub(super) fn reason_text(&self, reason: &Reason, names: &BTreeMap<ModelId, String>) -> String {
        match reason {
            Reason::MakesRoomFor(model) => match names.get(model) {
                Some(name) => format!("makes room for {name}"),
                None => "makes room for another model".to_owned(),
            },
            Reason::GivesBack(pool) => {
                format!("{} gives memory back", self.pool_name(PoolId(pool.0)))
            }
            Reason::PoolGoes(pool) => {
                format!("{} is disconnected", self.pool_name(PoolId(pool.0)))
            }
            other => other.to_string(),
        }
    }
}
