//! What is shown: plain data, the same for the socket, the control files, the web page and the
//! command line. Each struct is written as JSON (serde) and as text columns from one definition, so
//! that a person and a program never see different facts. Views hold no references, read no clock
//! and never fail. Names in them are printable: made so by [`human::escape`].

pub mod human;
pub mod table;
mod event;
mod model;
mod explain;
mod tier;
mod status;
mod transfer;
mod settings;
mod history;
mod health;
mod setup;
mod install;
mod forecast;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use event::{
    ChangeView, ConfigView, EventView, EventsView, Level, ReloadView, ScanView, SettingView,
    VersionView,
};
pub use explain::{ExplainView, IfLoaded, StandingView};
pub use forecast::{ForecastPoint, ForecastView};
pub use health::{FindingView, HealthView, Severity};
pub use history::{HistoryView, HourView, LoadView};
pub use install::{ContentView, FileChangeView, InstallState, InstallView};
pub(crate) use model::problems;
pub use model::{ModelView, ModelsView, PlaceView, ReplicaState, ReplicaView, WhichView};
pub use settings::{
    DiffLineView, DraftChangeView, DraftView, FaultView, FieldView, SettingChange, SettingsView,
};
pub use setup::{
    FileSystemView, SetupChoices, SetupState, SetupView, StoreKind, StoreView, UseView,
};
pub use status::{
    A_POOL, CountsView, DaemonState, EngineView, MemoryView, NO_POOLS, NOT_SERVED, OF_MEMORY,
    PassthroughView, PolicyView, StatusView, TotalsView,
};
pub use table::Style;
pub use tier::{
    HomeRole, HomeState, HomeView, StepState, StepView, StepsView, TierKind, TierState, TierView,
    TiersView,
};
pub use transfer::{
    MoveView, MovesView, Outcome, PlanView, PlannedView, TransferState, TransferView, TransfersView,
};

/// The version of these shapes: it grows when a field is renamed, removed or changes its meaning;
/// a new field does not change it.
pub const SCHEMA: u32 = 1;

/// Anything that can be shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "view", rename_all = "kebab-case")]
pub enum View {
    /// How the daemon is.
    Status(Box<StatusView>),
    /// Models.
    Models(ModelsView),
    /// Pools.
    Tiers(TiersView),
    /// What is done to set a pool up, or to take it down.
    Steps(StepsView),
    /// Copies.
    Transfers(TransfersView),
    /// Where files are.
    Which(WhichView),
    /// One event, to somebody who follows.
    Event(EventView),
    /// Events.
    Events(EventsView),
    /// The configuration in effect.
    Config(ConfigView),
    /// What a reload changed.
    Reload(ReloadView),
    /// Which version runs.
    Version(VersionView),
    /// Why a model is where it is.
    Explain(Box<ExplainView>),
    /// What the policy would do.
    Plan(PlanView),
    /// What became of a request.
    Moves(MovesView),
    /// What a rescan found.
    Scan(ScanView),
    /// Every field of the configuration.
    Settings(SettingsView),
    /// What a change of the configuration means.
    Draft(DraftView),
    /// What loads have been like.
    History(HistoryView),
    /// What other pool sizes would have meant.
    Forecast(ForecastView),
    /// What is wrong.
    Health(HealthView),
    /// What was found on a machine without a configuration, and what is proposed.
    Setup(Box<SetupView>),
    /// What an installation changes.
    Install(InstallView),
    /// A request was carried out, and there is nothing to show but a sentence.
    Done(DoneView),
}

/// A sentence about a request that was carried out.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct DoneView {
    /// The sentence.
    pub text: String,
}

/// A view as a document of its own, as `--json` and the `.json` control files have it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Document {
    /// [`SCHEMA`].
    pub schema: u32,
    /// What is shown.
    #[serde(flatten)]
    pub view: View,
}

impl View {
    /// As text for a person, ending in a newline; `now_ms` is what "ago" refers to.
    pub fn text(&self, now_ms: u64, style: Style) -> String {
        match self {
            Self::Status(status) => status.text(now_ms, style),
            Self::Models(view) => table::render_or_none(&view.models, "models", now_ms, style),
            Self::Tiers(view) => table::render_or_none(&view.tiers, "tiers", now_ms, style),
            Self::Steps(view) => table::render_or_none(&view.steps, "steps", now_ms, style),
            Self::Transfers(view) => {
                table::render_or_none(&view.transfers, "transfers", now_ms, style)
            }
            Self::Which(view) => view.text(now_ms, style),
            Self::Event(event) => format!("{}\n", event.line(style)),
            Self::Events(view) => view.text(style),
            Self::Config(view) => view.toml.clone(),
            Self::Reload(view) => table::render_or_none(&view.changes, "changes", now_ms, style),
            Self::Version(view) => view.text(),
            Self::Explain(view) => view.text(),
            Self::Plan(view) => table::render_or_none(&view.moves, "moves", now_ms, style),
            Self::Moves(view) => table::render_or_none(&view.moves, "moves", now_ms, style),
            Self::Scan(view) => view.text(),
            Self::Settings(view) => table::render_or_none(&view.fields, "settings", now_ms, style),
            Self::Draft(view) => view.text(),
            Self::History(view) => table::render_or_none(&view.loads, "loads", now_ms, style),
            Self::Forecast(view) => {
                table::render_or_none(&view.points, "loads logged", now_ms, style)
            }
            Self::Health(view) => view.text(style),
            Self::Setup(view) => view.text(style),
            Self::Install(view) => view.text(style),
            Self::Done(view) => format!("{}\n", view.text),
        }
    }

    /// As a JSON document on one line, without a newline.
    pub fn json(&self) -> String {
        #[derive(Serialize)]
        struct Borrowed<'a> {
            schema: u32,
            #[serde(flatten)]
            view: &'a View,
        }
        serde_json::to_string(&Borrowed {
            schema: SCHEMA,
            view: self,
        })
        .expect("views have string keys and finite numbers only, all that JSON asks for")
    }
}
