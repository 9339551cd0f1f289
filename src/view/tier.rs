//! Pools and homes: where bytes are and how much room there is. All numbers are measured; memory that
//! is still held by readers of a demoted replica is shown as draining, not as free.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::human::{ago, count, duration, rate, size};
use super::table::{Align, Cell, Column, Row, Tone};

/// What sort of tier a pool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TierKind {
    /// Memory of this machine.
    #[default]
    Local,
    /// Memory of another host.
    Remote,
}

impl TierKind {
    /// The word for it.
    pub fn text(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Remote => "remote",
        }
    }
}

/// Whether a pool can take and serve replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TierState {
    /// Configured, not in use.
    #[default]
    Disconnected,
    /// Being set up.
    Connecting,
    /// In use.
    Connected,
    /// Takes nothing new; goes when its last reader has let go.
    Draining,
    /// Cannot be reached.
    Lost,
}

impl TierState {
    fn cell(self) -> Cell {
        match self {
            Self::Disconnected => Cell::new("disconnected", Tone::Dim),
            Self::Connecting => Cell::new("connecting", Tone::Warning),
            Self::Connected => Cell::new("connected", Tone::Good),
            Self::Draining => Cell::new("draining", Tone::Warning),
            Self::Lost => Cell::new("lost", Tone::Bad),
        }
    }
}

/// What has become of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StepState {
    /// Its turn has not come.
    #[default]
    Waiting,
    /// It is being done.
    Running,
    /// It was done.
    Done,
    /// It had been done already.
    Found,
    /// It could not be done.
    Failed,
    /// It was done, and undone again.
    Undone,
}

impl StepState {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Done => "done",
            Self::Found => "found",
            Self::Failed => "failed",
            Self::Undone => "undone",
        }
    }

    fn cell(self) -> Cell {
        let tone = match self {
            Self::Done | Self::Found => Tone::Good,
            Self::Running => Tone::Warning,
            Self::Failed => Tone::Bad,
            Self::Waiting | Self::Undone => Tone::Dim,
        };
        Cell::new(self.word(), tone)
    }
}

/// One step of setting a remote pool up, or of taking it down.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct StepView {
    /// What it does.
    pub step: String,
    /// What has become of it.
    pub state: StepState,
    /// What was found or done, why it failed and what to do about it, or the command.
    pub text: String,
    /// How long it has taken.
    #[serde(default)]
    pub elapsed_ms: u64,
}

impl Row for StepView {
    const COLUMNS: &'static [Column] = &[
        ("STEP", Align::Left),
        ("STATE", Align::Left),
        ("", Align::Flexible),
    ];

    fn cells(&self, _now_ms: u64) -> Vec<Cell> {
        let Self {
            step,
            state,
            text,
            elapsed_ms: _,
        } = self;
        vec![step.into(), state.cell(), text.into()]
    }
}

/// The steps of a pool's bring-up or tear-down.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct StepsView {
    /// The pool.
    pub pool: String,
    /// In order.
    pub steps: Vec<StepView>,
}

/// A pool.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct TierView {
    /// Its name in the configuration.
    pub name: String,
    /// Memory of this machine or of another.
    pub kind: TierKind,
    /// Whether it is in use.
    pub state: TierState,
    /// Where it is mounted.
    pub path: String,
    /// Its read speed, measured or configured; 0 if unknown.
    pub speed_bytes_per_sec: u64,
    /// How large it may become now.
    pub capacity_bytes: u64,
    /// How large it may become when there is memory for it: more than `capacity_bytes` while it has given
    /// some of that back.
    #[serde(default)]
    pub configured_bytes: u64,
    /// What it holds, draining and unfinished replicas included.
    pub used_bytes: u64,
    /// What it could still take now, as statfs and the memory reserve allow.
    pub free_bytes: u64,
    /// Of `free_bytes`, what is faulted in and cleared for the next copies.
    #[serde(default)]
    pub prefaulted_bytes: u64,
    /// What demoted replicas still hold because somebody reads them.
    pub draining_bytes: u64,
    /// What running copies have set aside.
    pub reserved_bytes: u64,
    /// Of `used_bytes`, spares: copies of files that are served from faster pools. They go when their
    /// room is needed.
    #[serde(default)]
    pub spare_bytes: u64,
    /// Complete, verified replicas.
    pub resident_files: u64,
    /// Of a remote pool: the steps of the last bring-up or tear-down, as far as they have come.
    #[serde(default)]
    pub steps: Vec<StepView>,
}

impl TierView {
    /// What it has given back until there is memory again.
    pub fn held_back_bytes(&self) -> u64 {
        self.configured_bytes.saturating_sub(self.capacity_bytes)
    }
}

impl Row for TierView {
    const COLUMNS: &'static [Column] = &[
        ("TIER", Align::Left),
        ("KIND", Align::Left),
        ("STATE", Align::Left),
        ("SPEED", Align::Right),
        ("CAPACITY", Align::Right),
        ("USED", Align::Right),
        ("FREE", Align::Right),
        ("PREFAULTED", Align::Right),
        ("DRAINING", Align::Right),
        ("RESERVED", Align::Right),
        ("SPARE", Align::Right),
        ("FILES", Align::Right),
        ("PATH", Align::Flexible),
    ];
    const OPTIONAL: &'static [&'static str] = &[
        "PREFAULTED",
        "RESERVED",
        "SPARE",
        "DRAINING",
        "PATH",
        "FILES",
        "KIND",
    ];

    fn cells(&self, _now_ms: u64) -> Vec<Cell> {
        let Self {
            name,
            kind,
            state,
            path,
            speed_bytes_per_sec,
            capacity_bytes,
            configured_bytes,
            used_bytes,
            free_bytes,
            prefaulted_bytes,
            draining_bytes,
            reserved_bytes,
            spare_bytes,
            resident_files,
            steps: _,
        } = self;
        vec![
            name.into(),
            kind.text().into(),
            state.cell(),
            rate(*speed_bytes_per_sec).into(),
            if configured_bytes > capacity_bytes {
                format!("{} of {}", size(*capacity_bytes), size(*configured_bytes)).into()
            } else {
                size(*capacity_bytes).into()
            },
            size(*used_bytes).into(),
            size(*free_bytes).into(),
            size(*prefaulted_bytes).into(),
            size(*draining_bytes).into(),
            size(*reserved_bytes).into(),
            size(*spare_bytes).into(),
            count(*resident_files).into(),
            path.into(),
        ]
    }
}

/// All tiers that are pools.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct TiersView {
    /// The fastest first.
    pub tiers: Vec<TierView>,
}

/// What a home is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HomeRole {
    /// The models directory.
    #[default]
    Writable,
    /// Cold storage, never written.
    Cold,
}

/// Whether a home answers.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum HomeState {
    /// It does.
    #[default]
    Ok,
    /// It does, and is being read through.
    Scanning,
    /// It does not.
    Hung {
        /// Since when, as Unix time.
        since_ms: u64,
    },
    /// It cannot be read at all.
    Failed {
        /// What happened.
        error: String,
    },
    /// It answers, but something else, or nothing, is at its path now: mounted there, or put in its place.
    Detached,
}

impl HomeState {
    fn cell(&self, now_ms: u64) -> Cell {
        match self {
            Self::Ok => Cell::new("ok", Tone::Good),
            Self::Scanning => Cell::new("scanning", Tone::Warning),
            Self::Hung { since_ms } => {
                let hung_s = now_ms.saturating_sub(*since_ms) / 1_000;
                Cell::new(format!("hung for {}", duration(hung_s)), Tone::Bad)
            }
            Self::Failed { error } => Cell::new(format!("failed: {error}"), Tone::Bad),
            Self::Detached => Cell::new("not what is at its path now", Tone::Bad),
        }
    }
}

/// A home.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct HomeView {
    /// Its directory.
    pub path: String,
    /// Writable or cold.
    pub role: HomeRole,
    /// Its file system, as configured or found: `local`, `nfs`, `beegfs`, `other`.
    pub kind: String,
    /// Whether it answers.
    #[serde(flatten)]
    pub state: HomeState,
    /// Whether the kernel refuses writes to it, because it is reached by a read-only mount.
    pub write_protected: bool,
    /// Files in it.
    pub files: u64,
    /// Their bytes.
    pub size_bytes: u64,
    /// When it was last read through, as Unix time.
    pub last_scan_ms: Option<u64>,
}

impl Row for HomeView {
    const COLUMNS: &'static [Column] = &[
        ("HOME", Align::Flexible),
        ("ROLE", Align::Left),
        ("KIND", Align::Left),
        ("FILES", Align::Right),
        ("SIZE", Align::Right),
        ("SCANNED", Align::Right),
        ("STATE", Align::Left),
    ];
    const OPTIONAL: &'static [&'static str] = &["SCANNED", "KIND"];

    fn cells(&self, now_ms: u64) -> Vec<Cell> {
        let Self {
            path,
            role,
            kind,
            state,
            write_protected,
            files,
            size_bytes,
            last_scan_ms,
        } = self;
        let role = match (role, write_protected) {
            (HomeRole::Writable, _) => "writable",
            (HomeRole::Cold, true) => "cold, read-only mount",
            (HomeRole::Cold, false) => "cold, never written",
        };
        vec![
            path.into(),
            role.into(),
            kind.into(),
            count(*files).into(),
            size(*size_bytes).into(),
            ago(now_ms, *last_scan_ms).into(),
            state.cell(now_ms),
        ]
    }
}
