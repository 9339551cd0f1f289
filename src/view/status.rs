//! How the daemon is doing, with its pools and homes. All numbers are measured.

use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::human::{count, duration, percent, size};
use super::table::{self, Style, Tone};
use super::tier::{HomeView, TierView};

/// What the warning begins with that there is no pool.
pub const NO_POOLS: &str = "there is no pool, so nothing is kept in RAM";
/// How one is had.
pub const A_POOL: &str = "`--pool 50%`, or a `[[pool]]` in the configuration, makes one";
/// What the warning has that pools are larger than this machine.
pub const OF_MEMORY: &str = "that this machine has of memory";
/// What the warning begins with that there is no web page.
pub const NOT_SERVED: &str = "the web page is not served";

/// The whole of `speedloader status`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
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
    /// Engines that are asked what they have loaded.
    pub engines: Vec<EngineView>,
    /// Totals since the daemon started; they only grow.
    pub totals: TotalsView,
    /// What a person should look at, a sentence each.
    pub warnings: Vec<String>,
}

/// An engine, as far as it answers.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct EngineView {
    /// Where it is asked.
    pub address: String,
    /// What it is, for example `Ollama`; empty until it has answered.
    pub kind: String,
    /// Whether it answered when it was asked last.
    pub answers: bool,
    /// Why it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What it has loaded, in its own names.
    pub loaded: Vec<String>,
}

impl EngineView {
    fn text(&self) -> String {
        let Self {
            address,
            kind,
            answers,
            error,
            loaded,
        } = self;
        let what = match (answers, error, loaded.is_empty()) {
            (true, _, true) => "nothing loaded".to_owned(),
            (true, _, false) => format!("loaded: {}", loaded.join(", ")),
            (false, Some(error), _) => format!("no answer ({error})"),
            (false, None, _) => "not asked yet".to_owned(),
        };
        let kind = if kind.is_empty() { "engine" } else { kind };
        format!("{kind} at {address}, {what}")
    }
}

/// Where the daemon is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
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
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct PassthroughView {
    /// True if they do.
    pub active: bool,
    /// Why, or why not.
    pub why: String,
}

/// How much there is of what, now.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
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

/// Memory of this machine, or of the control group that the daemon runs in, where that has less.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct MemoryView {
    /// All of it.
    pub total_bytes: u64,
    /// What the kernel says is available.
    pub available_bytes: u64,
    /// What pools leave free.
    pub reserve_bytes: u64,
    /// What pools have given back until there is memory again.
    #[serde(default)]
    pub held_back_bytes: u64,
}

/// Automatic moves.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct PolicyView {
    /// Off means that only what was asked for is moved.
    pub enabled: bool,
    /// Which pool takes a model: `fastest-fit`, `fill-first` or `round-robin`.
    pub strategy: String,
}

/// Totals since the daemon started.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
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
    /// Copies that began because somebody was loading the file.
    pub first_loads: u64,
    /// Opens that waited for a copy.
    pub opens_held: u64,
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
    /// Bytes that pools gave back because memory was short.
    #[serde(default)]
    pub given_back_bytes: u64,
    /// Events that somebody who followed them was too slow for.
    pub events_lost: u64,
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
        let _ = write!(
            page,
            "\n{}",
            table::render_or_none(&self.pools, "pools", now_ms, style)
        );
        let _ = write!(
            page,
            "\n{}",
            table::render_or_none(&self.homes, "homes", now_ms, style)
        );
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

    /// A label and a sentence for everything but the tables.
    fn facts(&self) -> Vec<(&'static str, String)> {
        let Self {
            version,
            pid,
            state,
            uptime_s,
            mountpoint,
            models_dir,
            passthrough: PassthroughView { active, why },
            daemon_rss_bytes,
            counts,
            memory:
                MemoryView {
                    total_bytes,
                    available_bytes,
                    reserve_bytes,
                    held_back_bytes,
                },
            policy: PolicyView { enabled, strategy },
            pools: _,
            homes: _,
            engines,
            totals,
            warnings: _,
        } = self;
        let served = if *active {
            "in the kernel (passthrough)"
        } else {
            "by the daemon"
        };
        let automatic = if *enabled {
            "automatic"
        } else {
            "only on demand"
        };
        let up = duration(*uptime_s);
        let held_back = match held_back_bytes {
            0 => String::new(),
            bytes => format!(", pools have given {} back", size(*bytes)),
        };
        let memory = format!(
            "{} available of {}, {} kept in reserve{held_back}; daemon {}",
            size(*available_bytes),
            size(*total_bytes),
            size(*reserve_bytes),
            size(*daemon_rss_bytes)
        );
        let mut facts = vec![
            (
                "speedloader",
                format!("{version}, {}, pid {pid}, up {up}", state.text()),
            ),
            ("mount", format!("{mountpoint} over {models_dir}")),
            ("reads", format!("{served}: {why}")),
            ("models", counts.models_text()),
            ("transfers", counts.transfers_text()),
            ("loads", totals.loads_text()),
            ("memory", memory),
            ("moves", format!("{automatic}, {strategy}")),
        ];
        facts.extend(engines.iter().map(|engine| ("engine", engine.text())));
        facts
    }
}

impl CountsView {
    fn models_text(&self) -> String {
        let Self {
            files,
            models,
            models_resident,
            files_open,
            transfers_running: _,
            transfers_queued: _,
        } = self;
        let (models, resident) = (count(*models), count(*models_resident));
        format!(
            "{models} ({resident} resident), {} files, {} open",
            count(*files),
            count(*files_open)
        )
    }

    fn transfers_text(&self) -> String {
        format!(
            "{} running, {} queued",
            self.transfers_running, self.transfers_queued
        )
    }
}

impl TotalsView {
    fn loads_text(&self) -> String {
        match self.loads {
            0 => "none since start".to_owned(),
            loads => format!(
                "{} since start, {} % from pools",
                count(loads),
                percent(self.loads_resident, loads)
            ),
        }
    }
}
