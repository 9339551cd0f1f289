//! What the coordinator shows of itself: views, made from what is measured at the moment of asking.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use speedloader_fs::fuse::Passthrough;
use speedloader_fs::ids::HomeId;
use speedloader_fs::mover::{Phase, TransferState as Transfer};
use speedloader_fs::pool::Pool;
use speedloader_policy::ModelId;

use super::counts::{Content, Counts, Figures};
use super::moves::Subject;
use super::prefault::ready_bytes;
use super::world::Known;
use super::{Coordinator, Errand, Told, events, history};
use crate::machine;
use crate::view::human::{escape, size};
use crate::view::{
    A_POOL, CountsView, HomeRole, HomeState, HomeView, MemoryView, ModelView, NO_POOLS, OF_MEMORY,
    PassthroughView, PlaceView, PolicyView, ReplicaState, ReplicaView, StatusView, TierKind,
    TierState, TierView, TotalsView, TransferState, TransferView,
};

/// A home that has not answered for so long is shown as hung, milliseconds.
const HUNG_AFTER_MS: u64 = 5_000;

impl Coordinator {
    pub(super) fn status(&self) -> StatusView {
        let config = self.config();
        let stats = self.fs.stats().view();
        let known = self.world.known();
        let Figures {
            memory,
            ready_bytes: ready_then,
            own_rss_bytes,
        } = self.figures();
        let counts = self.counts(&known);
        let pools = self.tier_views(&counts);
        let transfers = self.transfer_views();
        let count = |state: TransferState| {
            transfers
                .iter()
                .filter(|transfer| transfer.state == state)
                .count() as u64
        };
        let total = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        StatusView {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            state: *self.lock_state(),
            uptime_s: self.started.elapsed().as_secs(),
            mountpoint: escape(self.mountpoint.as_os_str().as_bytes()),
            models_dir: config.models_dir.display().to_string(),
            passthrough: self.passthrough_view(),
            daemon_rss_bytes: own_rss_bytes,
            counts: CountsView {
                files: counts.contents.values().map(|content| content.files).sum(),
                models: known.catalog.len() as u64,
                models_resident: counts.resident,
                files_open: self.fs.open_files() as u64,
                transfers_running: count(TransferState::Copying),
                transfers_queued: count(TransferState::Queued),
            },
            memory: MemoryView {
                total_bytes: memory.total_bytes,
                // Both of this moment: what is shown as ready, the pools' views have.
                available_bytes: (memory.available_bytes + ready_then)
                    .saturating_sub(ready_bytes(&self.pools())),
                reserve_bytes: self.reserve_of(&memory),
                held_back_bytes: pools.iter().map(TierView::held_back_bytes).sum(),
            },
            policy: PolicyView {
                enabled: config.policy.enabled,
                strategy: config.placement.strategy.word().to_owned(),
            },
            pools,
            homes: self.home_views(&counts.contents),
            engines: self.engines.seen(),
            totals: TotalsView {
                opens: stats.opens,
                opens_resident: stats.opens_resident,
                opens_passthrough: stats.opens_resident + stats.opens_home,
                loads: total(&self.totals.loads),
                loads_resident: total(&self.totals.loads_resident),
                first_loads: stats.first_loads,
                opens_held: stats.opens_held,
                read_bytes: stats.daemon_read_bytes,
                promoted_bytes: total(&self.totals.promoted_bytes),
                promotions: total(&self.totals.promotions),
                promotions_failed: total(&self.totals.promotions_failed),
                demotions: total(&self.totals.demotions),
                given_back_bytes: total(&self.totals.given_back_bytes),
                events_lost: stats.events_lost,
            },
            warnings: self.warnings(),
        }
    }

    fn passthrough_view(&self) -> PassthroughView {
        match self.passthrough.get() {
            Some(Passthrough::Active) => PassthroughView {
                active: true,
                why: "FUSE passthrough".to_owned(),
            },
            Some(Passthrough::Off(why)) => PassthroughView {
                active: false,
                why: why.clone(),
            },
            None => PassthroughView {
                active: false,
                why: "the mount does not answer yet".to_owned(),
            },
        }
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let connected = self.pools();
        let draining = self.draining_pools();
        for pool in &self.config().pools {
            let name = pool.name.as_str();
            let is_one_of = |pools: &[Arc<Pool>]| pools.iter().any(|known| known.name() == name);
            if is_one_of(&draining) {
                warnings.push(format!(
                    "pool {name} is disconnected; its memory is free when its last reader or copy has let go"
                ));
            } else if !is_one_of(&connected) && !self.is_connecting(name) {
                warnings.push(format!(
                    "pool {name} is not connected; `speedloader tiers connect {name}` tries again"
                ));
            }
        }
        let is_remote = |pool: &Arc<Pool>| self.remote_config(pool.name()).is_some();
        for pool in connected
            .iter()
            .filter(|pool| !pool.is_memory() && !is_remote(pool))
        {
            warnings.push(format!("pool {} is not in memory", pool.name()));
        }
        if self.config().pools.is_empty() && self.config().remotes.is_empty() {
            warnings.push(format!("{NO_POOLS}: {A_POOL}"));
        }
        warnings.extend(self.too_much_for_memory());
        warnings.extend(self.journal.fault().map(|fault| {
            format!(
                "what is learned and pinned is not written down, and is lost at the end: {fault}"
            )
        }));
        warnings.extend(self.pin_warnings());
        warnings.extend(self.rule_warnings());
        warnings.extend(self.remote_warnings());
        warnings.extend(self.lock_web_fault().clone());
        warnings
    }

    /// What there is to say of pools that promise more than this machine has.
    pub(super) fn too_much_for_memory(&self) -> Option<String> {
        let total = machine::memory().total_bytes;
        let in_memory = self
            .pools()
            .into_iter()
            .filter(|pool| pool.is_memory() && self.remote_config(pool.name()).is_none());
        let promised = in_memory.fold(0_u64, |sum, pool| {
            let capacity = pool.usage().map_or(0, |usage| usage.capacity_bytes);
            let held_back = self.lock_memory().held_back_bytes(pool.id());
            sum.saturating_add(capacity).saturating_add(held_back)
        });
        (total > 0 && promised > total).then(|| {
            format!(
                "the pools may hold {}, more than the {} {OF_MEMORY}: they fill only as far as policy.memory_reserve lets them",
                size(promised),
                size(total)
            )
        })
    }

    pub(super) fn tier_views(&self, counts: &Counts) -> Vec<TierView> {
        let connected = self.pools();
        let view = |pool: &Arc<Pool>| TierView {
            spare_bytes: counts.spare_bytes.get(&pool.id()).copied().unwrap_or(0),
            ..self.tier_view(pool)
        };
        let mut views: Vec<TierView> = connected.iter().map(view).collect();
        for pool in self.draining_pools() {
            let view = self.tier_view(&pool);
            views.push(TierView {
                state: TierState::Draining,
                configured_bytes: view.capacity_bytes,
                free_bytes: 0,
                ..view
            });
        }
        for pool in &self.config().pools {
            if views.iter().all(|view| view.name != pool.name.as_str()) {
                views.push(TierView {
                    name: pool.name.to_string(),
                    state: match self.is_connecting(pool.name.as_str()) {
                        true => TierState::Connecting,
                        false => TierState::Disconnected,
                    },
                    path: pool.path.display().to_string(),
                    ..TierView::default()
                });
            }
        }
        self.add_remotes(&mut views);
        views
    }

    fn tier_view(&self, pool: &Arc<Pool>) -> TierView {
        let usage = pool.usage();
        let lost = usage.is_err();
        let usage = usage.unwrap_or_default();
        TierView {
            name: pool.name().to_owned(),
            kind: TierKind::Local,
            state: if lost {
                TierState::Lost
            } else {
                TierState::Connected
            },
            path: pool.path().display().to_string(),
            speed_bytes_per_sec: pool.speed_bytes_per_sec(),
            capacity_bytes: usage.capacity_bytes,
            configured_bytes: usage
                .capacity_bytes
                .saturating_add(self.lock_memory().held_back_bytes(pool.id())),
            used_bytes: usage.used_bytes,
            free_bytes: usage.free_bytes,
            prefaulted_bytes: usage.prefaulted_bytes,
            draining_bytes: usage.draining_bytes,
            reserved_bytes: usage.reserved_bytes,
            spare_bytes: 0,
            resident_files: pool.replicas_serving() as u64,
            steps: Vec::new(),
        }
    }

    fn home_views(&self, contents: &HashMap<HomeId, Content>) -> Vec<HomeView> {
        let now = events::now_ms();
        let config = self.config();
        let states = self.fs.home_states();
        let view = |(home, state): (&Arc<speedloader_fs::home::Home>, _)| {
            let state: speedloader_fs::tiered_fs::HomeState = state;
            let content = contents.get(&home.id()).copied().unwrap_or_default();
            let waiting_ms = state.waiting.map_or(0, millis);
            let shown = match (&state.error, waiting_ms) {
                (_, waited) if waited > HUNG_AFTER_MS => HomeState::Hung {
                    since_ms: now - waited,
                },
                (Some(error), _) => HomeState::Failed {
                    error: error.clone(),
                },
                (None, 0) if state.scanned && state.detached => HomeState::Detached,
                (None, 0) if state.scanned => HomeState::Ok,
                _ => HomeState::Scanning,
            };
            let cold = usize::from(home.id().0)
                .checked_sub(1)
                .and_then(|at| config.cold.get(at));
            HomeView {
                path: home.path().display().to_string(),
                role: if home.is_models() {
                    HomeRole::Writable
                } else {
                    HomeRole::Cold
                },
                kind: cold.map_or("local", |cold| cold.kind.word()).to_owned(),
                state: shown,
                write_protected: home.has_read_only_mount(),
                files: content.files,
                size_bytes: content.bytes,
                last_scan_ms: state.last_scan.map(|ago| now.saturating_sub(millis(ago))),
            }
        };
        self.fs.homes().iter().zip(states).map(view).collect()
    }

    pub(super) fn model_view(&self, subject: &Subject) -> ModelView {
        let mut resident_bytes: BTreeMap<String, u64> = BTreeMap::new();
        let (mut total, mut open) = (0, 0);
        for file in &subject.files {
            let size = file.attr().identity.size;
            let serving = file.with_live(|live| {
                let serving = live.replicas.first();
                serving.map(|replica| replica.pool().name().to_owned())
            });
            open += u64::from(file.is_open());
            if let Some(pool) = serving {
                total += size;
                *resident_bytes.entry(pool).or_default() += size;
            }
        }
        let counted = self.counted_with(&self.world.known(), subject);
        let counted = counted.map_or(subject.id, |first| first.id);
        let moves = self.lock_moves();
        let count = moves.counts.get(&counted).copied().unwrap_or_default();
        ModelView {
            name: escape(subject.name.as_bytes()),
            kind: subject.kind.to_owned(),
            files: subject.files.len() as u64,
            size_bytes: subject.bytes(),
            resident_bytes,
            resident_total_bytes: total,
            resident_percent: 0,
            heat: moves.learned.heat(counted),
            pinned: moves.pin_of(subject).cloned(),
            open,
            loaded: Vec::new(),
            loads: count.loads,
            last_load_ms: (count.last_ms != 0).then_some(count.last_ms),
            missing: subject.missing.clone(),
            faults: subject.faults.clone(),
        }
        .with_percent()
    }

    /// Which engines have which models loaded, by the models' numbers.
    pub(super) fn loaded_now(&self, known: &Known) -> HashMap<ModelId, Vec<String>> {
        let mut loaded: HashMap<ModelId, Vec<String>> = HashMap::new();
        for engine in self.engines.seen() {
            for name in &engine.loaded {
                for subject in self.known_to_engine(known, name) {
                    let engines = loaded.entry(subject.id).or_default();
                    if !engines.contains(&engine.kind) {
                        engines.push(engine.kind.clone());
                    }
                }
            }
        }
        loaded
    }

    /// An engine names a model as it was told: by its tag, its repository, or its path through the mount.
    fn known_to_engine(&self, known: &Known, name: &str) -> Vec<Subject> {
        // What lies elsewhere is no model of ours.
        if self.below_mount(name.as_bytes()).starts_with(b"/") {
            return Vec::new();
        }
        self.subjects(known, name).unwrap_or_default()
    }

    /// For the history: what a load of the subject is read from now.
    pub(super) fn remember_load(&self, subject: &Subject) {
        let view = self.model_view(subject);
        let speed = |name: &str| {
            let pools = self.pools();
            let pool = pools.iter().find(|pool| pool.name() == name);
            pool.map_or(1, |pool| pool.speed_bytes_per_sec())
        };
        let pools = view.resident_bytes.iter();
        let seen = history::Seen {
            bytes: view.size_bytes,
            pools: pools
                .map(|(name, bytes)| (name.clone(), *bytes, speed(name)))
                .collect(),
            model: view.name,
        };
        self.history
            .loaded(seen, super::moves::COLD_BYTES_PER_SEC, events::now_ms());
    }

    pub(super) fn place_view(&self, file: &Arc<speedloader_fs::file::HomeFile>) -> PlaceView {
        let path = self.fs.union().path_of(file).unwrap_or_default();
        let shown = |path: PathBuf| escape(path.as_os_str().as_encoded_bytes());
        let home = shown(self.fs.home_of(file).path().join(path.as_os_str()));
        let (replicas, opens) = file.with_live(|live| {
            let views = live
                .replicas
                .iter()
                .enumerate()
                .map(|(at, replica)| ReplicaView {
                    pool: replica.pool().name().to_owned(),
                    path: shown(
                        replica
                            .pool()
                            .path()
                            .join("replicas")
                            .join(replica.id().data_name()),
                    ),
                    state: match at {
                        0 => ReplicaState::Serving,
                        _ => ReplicaState::Spare,
                    },
                });
            (views.collect::<Vec<_>>(), live.opens)
        });
        PlaceView {
            file: path.to_string(),
            size_bytes: file.attr().identity.size,
            serving: replicas
                .first()
                .map_or_else(|| home.clone(), |replica| replica.path.clone()),
            home,
            replicas,
            open: opens.into(),
        }
    }

    pub(super) fn transfer_views(&self) -> Vec<TransferView> {
        let Some(mover) = self.mover.get() else {
            return Vec::new();
        };
        let mut views: Vec<TransferView> = mover
            .transfers()
            .iter()
            .map(|transfer| self.transfer_view(transfer))
            .collect();
        views.sort_by_key(|view| (view.state.is_final(), std::cmp::Reverse(view.id)));
        views
    }

    fn transfer_view(&self, transfer: &Transfer) -> TransferView {
        let told = {
            let moves = self.lock_moves();
            let errand = moves.errands.get(&transfer.id);
            errand
                .map(|errand| self.told(errand))
                .or_else(|| moves.ended.get(&transfer.id).cloned())
        };
        let told = told.unwrap_or_default();
        let (state, failure) = match &transfer.phase {
            Phase::Queued => (TransferState::Queued, None),
            Phase::Running => (TransferState::Copying, None),
            Phase::Done => (TransferState::Done, None),
            Phase::Cancelled => (TransferState::Cancelled, None),
            Phase::Failed(error) => (TransferState::Failed, Some(super::chain(error.as_ref()))),
        };
        let progress = &transfer.progress;
        TransferView {
            id: transfer.id.0,
            model: told.model,
            file: transfer.label.clone(),
            from: told.from,
            to: self.pool_name(transfer.pool),
            done_bytes: progress.done_bytes,
            total_bytes: progress.total_bytes,
            rate_bytes_per_sec: progress.rate_bytes_per_sec,
            eta_s: progress.eta.map(|eta| eta.as_secs()),
            state,
            why: failure.unwrap_or(match progress.held_back {
                true => format!("{}; waits while others read its storage", told.why),
                false => told.why,
            }),
        }
    }

    pub(super) fn told(&self, errand: &Errand) -> Told {
        Told {
            model: escape(errand.why.model.as_bytes()),
            from: match errand.origin.pool() {
                Some(pool) => self.pool_name(pool),
                None => self.fs.home_of(&errand.file).path().display().to_string(),
            },
            why: errand.why.to_string(),
        }
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
