//! Copies that run or wait, moves that were asked for, and moves that are planned. Progress of a
//! transfer is monotone: `done_bytes` never shrinks and never passes `total_bytes`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::human::{duration, percent, rate, size};
use super::table::{Align, Cell, Column, Row, Tone};

/// Where a transfer is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TransferState {
    /// Waits for a worker.
    #[default]
    Queued,
    /// Bytes are moving.
    Copying,
    /// Slowed down or halted, because somebody reads the same device.
    BackingOff,
    /// All bytes are there; their checksum is being compared.
    Verifying,
    /// Published.
    Done,
    /// Ended without a replica.
    Failed,
    /// Ended by request.
    Cancelled,
}

impl TransferState {
    /// The word for it.
    pub fn text(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Copying => "copying",
            Self::BackingOff => "backing off",
            Self::Verifying => "verifying",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing will change any more.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }

    fn tone(self) -> Tone {
        match self {
            Self::Queued => Tone::Dim,
            Self::Copying | Self::Verifying => Tone::Plain,
            Self::BackingOff | Self::Cancelled => Tone::Warning,
            Self::Done => Tone::Good,
            Self::Failed => Tone::Bad,
        }
    }
}

/// The copy of one file.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct TransferView {
    /// What `CancelTransfer` takes.
    pub id: u64,
    /// The model that it is for; empty if it is for a file alone.
    pub model: String,
    /// The file's path below the mountpoint.
    pub file: String,
    /// Where the bytes come from.
    pub from: String,
    /// The pool that they go to.
    pub to: String,
    /// Bytes copied.
    pub done_bytes: u64,
    /// Bytes of the file.
    pub total_bytes: u64,
    /// Bytes per second lately.
    pub rate_bytes_per_sec: u64,
    /// Seconds left at that rate; none if that cannot be told.
    pub eta_s: Option<u64>,
    /// Where it is in its life.
    pub state: TransferState,
    /// Who wanted it and why: `request`, `pin`, `load`, `first load`, `warm-up`, `pressure`, `policy`; or, if it
    /// failed, what happened.
    pub why: String,
}

impl TransferView {
    /// The share of bytes copied, in whole percent rounded down.
    pub fn percent(&self) -> u8 {
        percent(self.done_bytes, self.total_bytes)
    }
}

impl Row for TransferView {
    const COLUMNS: &'static [Column] = &[
        ("ID", Align::Right),
        ("MODEL", Align::Flexible),
        ("FILE", Align::Flexible),
        ("FROM", Align::Left),
        ("TO", Align::Left),
        ("DONE", Align::Right),
        ("SIZE", Align::Right),
        ("RATE", Align::Right),
        ("ETA", Align::Right),
        ("STATE", Align::Left),
        ("WHY", Align::Flexible),
    ];
    const OPTIONAL: &'static [&'static str] = &["FROM", "FILE", "RATE"];

    fn cells(&self, _now_ms: u64) -> Vec<Cell> {
        let Self {
            id,
            model,
            file,
            from,
            to,
            done_bytes: _,
            total_bytes,
            rate_bytes_per_sec,
            eta_s,
            state,
            why,
        } = self;
        vec![
            id.to_string().into(),
            if model.is_empty() {
                "-".into()
            } else {
                model.into()
            },
            file.into(),
            from.into(),
            to.into(),
            format!("{} %", self.percent()).into(),
            size(*total_bytes).into(),
            rate(*rate_bytes_per_sec).into(),
            eta_s.map_or_else(|| "-".to_owned(), duration).into(),
            Cell::new(state.text(), state.tone()),
            why.into(),
        ]
    }
}

/// Transfers, running ones first.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct TransfersView {
    /// One for each file.
    pub transfers: Vec<TransferView>,
}

/// What became of a request about one model or pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was done.
    #[default]
    Done,
    /// It has begun and goes on in the background.
    Started,
    /// Nothing had to be done.
    Already,
    /// It was done, but memory is free only when readers let go.
    Draining,
    /// It cannot be done; the remark says why.
    Refused,
    /// Nothing has this name.
    Unknown,
}

impl Outcome {
    fn cell(self) -> Cell {
        match self {
            Self::Done => Cell::new("done", Tone::Good),
            Self::Started => Cell::new("started", Tone::Plain),
            Self::Already => Cell::new("already", Tone::Dim),
            Self::Draining => Cell::new("draining", Tone::Warning),
            Self::Refused => Cell::new("refused", Tone::Bad),
            Self::Unknown => Cell::new("unknown", Tone::Bad),
        }
    }
}

/// What became of a request about one model or pool.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct MoveView {
    /// The model's or pool's name in full.
    pub name: String,
    /// What became of it.
    pub outcome: Outcome,
    /// The pool that is meant; empty for the home.
    pub pool: String,
    /// How many files are concerned.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// A sentence for a person.
    pub text: String,
}

impl Row for MoveView {
    const COLUMNS: &'static [Column] = &[
        ("NAME", Align::Flexible),
        ("OUTCOME", Align::Left),
        ("POOL", Align::Left),
        ("FILES", Align::Right),
        ("SIZE", Align::Right),
        ("REMARK", Align::Flexible),
    ];

    fn cells(&self, _now_ms: u64) -> Vec<Cell> {
        let Self {
            name,
            outcome,
            pool,
            files,
            bytes,
            text,
        } = self;
        vec![
            name.into(),
            outcome.cell(),
            if pool.is_empty() {
                "-".into()
            } else {
                pool.into()
            },
            files.to_string().into(),
            size(*bytes).into(),
            text.into(),
        ]
    }
}

/// What became of a request that changes something, a row for each model or pool it named.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct MovesView {
    /// In the order of the request.
    pub moves: Vec<MoveView>,
}

/// A move that the policy would make now, or refuses to make.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct PlannedView {
    /// The model.
    pub model: String,
    /// Where it is.
    pub from: String,
    /// Where it would be.
    pub to: String,
    /// Its bytes.
    pub bytes: u64,
    /// False for a move that was considered and refused.
    pub planned: bool,
    /// The reason.
    pub why: String,
}

impl Row for PlannedView {
    const COLUMNS: &'static [Column] = &[
        ("MODEL", Align::Flexible),
        ("MOVE", Align::Left),
        ("FROM", Align::Left),
        ("TO", Align::Left),
        ("SIZE", Align::Right),
        ("WHY", Align::Flexible),
    ];

    fn cells(&self, _now_ms: u64) -> Vec<Cell> {
        let Self {
            model,
            from,
            to,
            bytes,
            planned,
            why,
        } = self;
        let verdict = if *planned {
            Cell::new("yes", Tone::Good)
        } else {
            Cell::new("no", Tone::Dim)
        };
        vec![
            model.into(),
            verdict,
            from.into(),
            to.into(),
            size(*bytes).into(),
            why.into(),
        ]
    }
}

/// What the policy would do now.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct PlanView {
    /// Moves, then refusals.
    pub moves: Vec<PlannedView>,
}
