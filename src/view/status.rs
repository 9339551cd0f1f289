//! How the daemon, its homes and its pools are doing. All numbers are measured; memory that is
//! still held by readers of a demoted replica is shown as draining, not as free.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::human::{ago, count, duration, percent, rate, size};
use super::table::{self, Align, Cell, Column, Row, Style, Tone};

/// The whole of `speedloader status`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StatusView {
    /// Version of the running daemon.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// Where it is in its life.
    pub state: DaemonState,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// Where it is mounted.
    pub mountpoint: String,
    /// The writable home.
    pub models_dir: String,
    /// Whether the kernel reads for us.
    pub passthrough: PassthroughView,
    /// Resident memory of the daemon itself, without pools.
    pub daemon_rss_bytes: u64,
    /// How much there is of what.
    pub counts: CountsView,
    /// Memory of this machine.
    pub memory: MemoryView,
    /// Automatic moves.
    pub policy: PolicyView,
    /// Pools, the fastest first.
    pub pools: Vec<TierView>,
    /// Homes, in order of precedence.
    pub homes: Vec<HomeView>,
    /// Totals since the daemon started; they only grow.
    pub totals: TotalsView,
    /// What a person should look at, a sentence each.
    pub warnings: Vec<String>,
}

/// Where the daemon is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DaemonState {
    /// The mount does not answer yet.
    #[default]
    Starting,
    /// The mount answers.
    Ready,
    /// No new work is accepted.
    Stopping,
}

impl DaemonState {
    fn text(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Stopping => "stopping",
        }
    }
}

/// Whether reads go to the real files inside the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PassthroughView {
    /// True if they do.
    pub active: bool,
    /// Why, or why not.
    pub why: String,
}

/// How much there is of what, now.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CountsView {
    /// Files in the union.
    pub files: u64,
    /// Models in the catalog.
    pub models: u64,
    /// Models of which every byte is resident.
    pub models_resident: u64,
    /// Files that are open or mapped.
    pub files_open: u64,
    /// Copies that are running.
    pub transfers_running: u64,
    /// Copies that wait for a worker.
    pub transfers_queued: u64,
}

/// Memory of this machine.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MemoryView {
    /// All of it.
    pub total_bytes: u64,
    /// What the kernel says is available.
    pub available_bytes: u64,
    /// What pools leave free.
    pub reserve_bytes: u64,
}

/// Automatic moves.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PolicyView {
    /// Off means that only what was asked for is moved.
    pub enabled: bool,
    /// Which pool takes a model: `fastest-fit`, `fill-first` or `round-robin`.
    pub strategy: String,
}

/// Totals since the daemon started.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TotalsView {
    /// Opens of files.
    pub opens: u64,
    /// Opens that were bound to a replica.
    pub opens_resident: u64,
    /// Opens that were bound to a real file in the kernel.
    pub opens_passthrough: u64,
    /// Loads of models.
    pub loads: u64,
    /// Loads of models that were resident.
    pub loads_resident: u64,
    /// Bytes that the daemon itself served to readers.
    pub read_bytes: u64,
    /// Bytes copied into pools and verified.
    pub promoted_bytes: u64,
    /// Replicas published.
    pub promotions: u64,
    /// Copies that failed or were thrown away.
    pub promotions_failed: u64,
    /// Replicas dropped.
    pub demotions: u64,
    /// Events that somebody who followed them was too slow for.
    pub events_lost: u64,
}

/// What sort of tier a pool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
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

/// A pool.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
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
    /// How large it may become.
    pub capacity_bytes: u64,
    /// What it holds, draining and unfinished replicas included.
    pub used_bytes: u64,
    /// What it could still take now, as statfs and the memory reserve allow.
    pub free_bytes: u64,
    /// What demoted replicas still hold because somebody reads them.
    pub draining_bytes: u64,
    /// What running copies have set aside.
    pub reserved_bytes: u64,
    /// Complete, verified replicas.
    pub resident_files: u64,
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
        ("DRAINING", Align::Right),
        ("RESERVED", Align::Right),
        ("FILES", Align::Right),
        ("PATH", Align::Flexible),
    ];

    fn cells(&self, _now_ms: u64) -> Vec<Cell> {
        let Self {
            name,
            kind,
            state,
            path,
            speed_bytes_per_sec,
            capacity_bytes,
            used_bytes,
            free_bytes,
            draining_bytes,
            reserved_bytes,
            resident_files,
        } = self;
        vec![
            name.into(),
            kind.text().into(),
            state.cell(),
            rate(*speed_bytes_per_sec).into(),
            size(*capacity_bytes).into(),
            size(*used_bytes).into(),
            size(*free_bytes).into(),
            size(*draining_bytes).into(),
            size(*reserved_bytes).into(),
            count(*resident_files).into(),
            path.into(),
        ]
    }
}

/// All tiers that are pools.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TiersView {
    /// The fastest first.
    pub tiers: Vec<TierView>,
}

/// What a home is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HomeRole {
    /// The models directory.
    #[default]
    Writable,
    /// Cold storage, never written.
    Cold,
}

/// Whether a home answers.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
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
        }
    }
}

/// A home.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
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

impl StatusView {
    /// The page that `speedloader status` prints.
    pub fn text(&self, now_ms: u64, style: Style) -> String {
        let mut page = String::new();
        for (label, value) in self.facts() {
            let label = style.heading(&format!("{label:<12}"));
            // Writing to a String cannot fail.
            let _ = writeln!(page, "{label}  {value}");
        }
        for (title, body) in [
            ("pools", table::render(&self.pools, now_ms, style)),
            ("homes", table::render(&self.homes, now_ms, style)),
        ] {
            let empty = if title == "pools" {
                self.pools.is_empty()
            } else {
                self.homes.is_empty()
            };
            let body = if empty { format!("no {title}\n") } else { body };
            let _ = write!(page, "\n{body}");
        }
        if !self.warnings.is_empty() {
            page.push('\n');
        }
        for warning in &self.warnings {
            let _ = writeln!(
                page,
                "{}",
                style.paint(&format!("warning: {warning}"), Tone::Warning)
            );
        }
        page
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        let Self {
            version,
            pid,
            state,
            uptime_s,
            mountpoint,
            models_dir,
            passthrough,
            daemon_rss_bytes,
            counts,
            memory,
            policy,
            pools: _,
            homes: _,
            totals,
            warnings: _,
        } = self;
        let CountsView {
            files,
            models,
            models_resident,
            files_open,
            transfers_running,
            transfers_queued,
        } = counts;
        let MemoryView {
            total_bytes,
            available_bytes,
            reserve_bytes,
        } = memory;
        let served = if passthrough.active {
            "in the kernel (passthrough)"
        } else {
            "by the daemon"
        };
        let automatic = if policy.enabled {
            "automatic"
        } else {
            "only on demand"
        };
        vec![
            (
                "speedloader",
                format!(
                    "{version}, {}, pid {pid}, up {}",
                    state.text(),
                    duration(*uptime_s)
                ),
            ),
            ("mount", format!("{mountpoint} over {models_dir}")),
            ("reads", format!("{served}: {}", passthrough.why)),
            (
                "models",
                format!(
                    "{} ({} resident), {} files, {} open",
                    count(*models),
                    count(*models_resident),
                    count(*files),
                    count(*files_open)
                ),
            ),
            (
                "transfers",
                format!("{transfers_running} running, {transfers_queued} queued"),
            ),
            (
                "loads",
                format!(
                    "{} since start, {} % from pools",
                    count(totals.loads),
                    if totals.loads == 0 {
                        0
                    } else {
                        percent(totals.loads_resident, totals.loads)
                    }
                ),
            ),
            (
                "memory",
                format!(
                    "{} available of {}, {} kept in reserve; daemon {}",
                    size(*available_bytes),
                    size(*total_bytes),
                    size(*reserve_bytes),
                    size(*daemon_rss_bytes)
                ),
            ),
            ("moves", format!("{automatic}, {}", policy.strategy)),
        ]
    }
}
