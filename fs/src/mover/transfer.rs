//! What is shown of a transfer.

use std::sync::Arc;
use std::time::Instant;

use crate::copy::Progress;
use crate::error::FsError;
use crate::ids::{FileId, PoolId, TransferId};

/// Where a transfer stands.
#[derive(Clone, Debug)]
pub enum Phase {
    /// It waits for its turn.
    Queued,
    /// It is being copied.
    Running,
    /// The replica was verified and is in service.
    Done,
    /// It ended with this error, nothing is left of it.
    Failed(Arc<FsError>),
    /// Somebody ended it, nothing is left of it.
    Cancelled,
}

impl Phase {
    /// Whether nothing more will happen.
    pub fn has_ended(&self) -> bool {
        !matches!(self, Phase::Queued | Phase::Running)
    }

    /// The word for it: `queued`, `running`, `done`, `failed`, `cancelled`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Phase::Queued => "queued",
            Phase::Running => "running",
            Phase::Done => "done",
            Phase::Failed(_) => "failed",
            Phase::Cancelled => "cancelled",
        }
    }
}

/// A transfer at one moment.
#[derive(Clone, Debug)]
pub struct TransferState {
    /// Its number.
    pub id: TransferId,
    /// The file.
    pub file: FileId,
    /// What people call it.
    pub label: String,
    /// Where to.
    pub pool: PoolId,
    /// Where it stands.
    pub phase: Phase,
    /// How far it is, what is left and how fast it goes; stands still once it has ended.
    pub progress: Progress,
    /// When it was asked for.
    pub queued_at: Instant,
    /// When it ended.
    pub ended_at: Option<Instant>,
}
