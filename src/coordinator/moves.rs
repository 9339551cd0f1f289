//! From what is known to what is moved: the policy's snapshot, its plan, the checker's word, and
//! the orders for the mover.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use speedloader_config::{Config, Strategy as Configured};
use speedloader_fs::copy::Pace;
use speedloader_fs::file::HomeFile;
use speedloader_fs::ids::{FileId, PoolId, TransferId};
use speedloader_fs::mover::Job;
use speedloader_fs::replica::Digest;
use speedloader_policy::{
    Expert, Explanation, FileRef, FileState, Load, ModelId, ModelRule, ModelState, MoveKind,
    Outcome, Params, Plan, PoolState, Refusal, Severity, Snapshot, Strategy, TierId, Tiers, Want,
    WantKind, check, explain, plan,
};

use super::cause::{Cause, Why};
use super::loads::Reader;
use super::world::Known;
use super::{Coordinator, Errand, Moves, Reading, SPARE, chain, events};
use crate::back_off::Origin;
use crate::command::{Code, Message};
use crate::load_log::Entry;
use crate::machine;
use crate::models::{Catalog, ModelIndex, ModelRef, family};
use crate::view::human::{escape, unescape};
use crate::view::{Level, problems};

/// Speed that homes are taken to have, bytes a second, until it is measured.
pub(super) const COLD_BYTES_PER_SEC: u64 = 1_000_000_000;

/// What a file's replica is dropped with by a plan; why is told beside it.
pub(super) const DEMOTED: &str = "demoted";

/// Loads that are put off until a copy has ended; the latest.
const PUT_OFF_MAX: usize = 64;

/// The kind of a single file that was asked for by its path.
pub(super) const SINGLE_FILE: &str = "file";

/// A model, or a single file, as it is moved: a name and its files.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    /// As people know it. Another model of the same name changes it: nothing is kept by it.
    pub name: String,
    /// What it is kept by: where it is in the tree, printable, with a slash first as no name has it.
    pub key: String,
    /// How it is stored.
    pub kind: &'static str,
    /// For the policy: the same across restarts.
    pub id: ModelId,
    /// Its files, each once.
    pub files: Vec<Arc<HomeFile>>,
    /// Names of files that should be there and are not.
    pub missing: Vec<String>,
    /// What is wrong with files that are there.
    pub faults: Vec<String>,
}

impl Subject {
    /// A file that belongs to no model, by its printable path.
    pub fn single(path: String, file: Arc<HomeFile>) -> Subject {
        let key = format!("/{path}");
        Subject {
            id: model_id(&key),
            name: path,
            key,
            kind: SINGLE_FILE,
            files: vec![file],
            missing: Vec::new(),
            faults: Vec::new(),
        }
    }

    /// What is said of a model that is moved although no engine can load it.
    pub fn remark(&self) -> Option<String> {
        let problems = problems(&self.missing, &self.faults);
        let (first, rest) = problems.split_first()?;
        Some(match rest.len() {
            0 => first.clone(),
            more => format!("{first} ({more} more: `explain`)"),
        })
    }

    /// Bytes of all its files.
    pub fn bytes(&self) -> u64 {
        let sizes = self.files.iter().map(|file| file.attr().identity.size);
        sizes.fold(0, u64::saturating_add)
    }
}

/// See [`Subject::key`].
pub(super) fn key_of(catalog: &Catalog, index: ModelIndex) -> String {
    format!("/{}", escape(catalog.place(index)))
}

/// The same number for the same key, in every run and on every machine: FNV-1a.
pub(super) fn model_id(key: &str) -> ModelId {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    ModelId(key.bytes().fold(0xcbf2_9ce4_8422_2325, step))
}

/// All that is known of one model and the policy.
pub(super) struct Explained {
    /// What the policy says.
    pub found: Explanation,
    /// Every expert with what it cost lately, seconds.
    pub standings: Vec<(Expert, f64)>,
    /// Names of all models.
    pub names: BTreeMap<ModelId, String>,
}

/// A snapshot and what its numbers mean.
struct Scene {
    snapshot: Snapshot,
    files: HashMap<FileRef, Arc<HomeFile>>,
    names: BTreeMap<ModelId, String>,
}

impl Coordinator {
    /// What a query means, as things that can be moved.
    pub(super) fn subjects(&self, known: &Known, query: &str) -> Result<Vec<Subject>, Message> {
        let query = unescape(query).unwrap_or_else(|| query.as_bytes().to_vec());
        let query = self.below_mount(&query);
        let found = known.catalog.resolve_bytes(query).map_err(|none| {
            let mut message = Message::new(Code::NoMatch, none.to_string());
            message.suggestions = none.suggestions;
            message
        })?;
        let subjects = found
            .into_iter()
            .filter_map(|reference| self.subject(known, reference));
        Ok(subjects.collect())
    }

    /// The path below the mountpoint, also below a link to it, where an absolute path leads there.
    pub(super) fn below_mount<'p>(&self, path: &'p [u8]) -> &'p [u8] {
        let config = self.config();
        let mut mountpoints = [Some(&self.mountpoint), config.mountpoint.as_ref()]
            .into_iter()
            .flatten();
        let below = mountpoints.find_map(|mountpoint| {
            match path.strip_prefix(mountpoint.as_os_str().as_bytes())? {
                // All that is in it.
                b"" | b"/" => Some(b"*".as_slice()),
                below => below.strip_prefix(b"/"),
            }
        });
        below.unwrap_or(path)
    }

    pub(super) fn subject(&self, known: &Known, reference: ModelRef) -> Option<Subject> {
        let model = known.catalog.model(reference)?;
        let mut files: Vec<Arc<HomeFile>> = Vec::with_capacity(model.files.len());
        let mut seen = HashSet::with_capacity(model.files.len());
        for part in &model.files {
            let file = known
                .file(part.file)
                .cloned()
                .or_else(|| self.world.file_at(&part.path));
            if let Some(file) = file.filter(|file| seen.insert(file.id)) {
                files.push(file);
            }
        }
        let key = match reference {
            ModelRef::Model(index) => key_of(&known.catalog, index),
            ModelRef::File(_) => format!("/{}", escape(&model.files.first()?.path)),
        };
        Some(Subject {
            id: model_id(&key),
            name: model.name,
            key,
            kind: model.kind.as_str(),
            files,
            missing: model.missing,
            faults: model.faults,
        })
    }

    /// All models of the catalog.
    pub(super) fn all_subjects(&self, known: &Known) -> Vec<Subject> {
        let indices = known.catalog.indices();
        indices
            .filter_map(|index| self.subject(known, ModelRef::Model(index)))
            .collect()
    }

    /// Whether somebody has the file's replica in a pool open or mapped.
    pub(super) fn is_in_use(&self, file: &HomeFile, pool: PoolId) -> bool {
        file.with_live(|live| {
            let found = live
                .replicas
                .iter()
                .position(|replica| replica.pool().id() == pool);
            // What is open may have been bound to any copy, most likely to the one that serves.
            found
                .is_some_and(|at| !live.replicas[at].is_free_to_go() || (live.opens > 0 && at == 0))
        })
    }

    /// Files that have a replica in the pool.
    pub(super) fn files_in(&self, pool: PoolId) -> Vec<Arc<HomeFile>> {
        let mut files = Vec::new();
        self.fs.union().for_each_file(|file| {
            let here = |live: &mut speedloader_fs::file::Live| {
                live.replicas
                    .iter()
                    .any(|replica| replica.pool().id() == pool)
            };
            if file.is_resident() && file.with_live(here) {
                files.push(Arc::clone(file));
            }
        });
        files
    }

    fn params(config: &Config) -> Params {
        Params {
            strategy: match config.placement.strategy {
                Configured::FastestFit => Strategy::FastestFit,
                Configured::FillFirst => Strategy::FillFirst,
                Configured::RoundRobin => Strategy::RoundRobin,
            },
            automatic: config.policy.enabled,
            fill_free_room: false,
            half_life: f64::from(config.policy.half_life),
            ..Params::default()
        }
    }

    fn pool_states(&self) -> Vec<PoolState> {
        let memory = self.memory_for_copies();
        let reserve_bytes = self.reserve_of(&memory);
        let mut spare = memory.available_bytes.saturating_sub(reserve_bytes);
        let mut states = Vec::new();
        for pool in self.pools() {
            let Ok(usage) = pool.usage() else { continue };
            spare = spare.saturating_sub(usage.reserved_bytes);
            let mut free = usage.free_bytes;
            if pool.is_memory() {
                // What a plan may take for one pool is not there for the next: the memory is one.
                free = free.min(spare);
                spare -= free;
            }
            states.push(PoolState {
                id: TierId(pool.id().0),
                speed_bytes_per_sec: pool.speed_bytes_per_sec().max(1),
                capacity_bytes: usage.capacity_bytes.max(free),
                free_bytes: free,
                give_back_bytes: self.lock_memory().owed_bytes(pool.id()),
                accepts: !pool.is_disconnected() && !self.is_leaving(pool.id()),
            });
        }
        // The fastest came first, for the memory that they share; `fill-first` goes by the configuration.
        let config = self.config();
        let configured = |state: &PoolState| {
            let name = self.pool_name(PoolId(state.id.0));
            let mut local = config.pools.iter();
            local.position(|pool| *pool.name.as_str() == *name)
        };
        states.sort_by_cached_key(|state| configured(state).unwrap_or(usize::MAX));
        states
    }

    /// What the configuration says of a model.
    pub(super) fn rule_of(&self, subject: &Subject) -> ModelRule {
        self.rules(&self.world.known()).rule(subject)
    }

    fn scene(&self, moves: &Moves, subjects: Vec<Subject>, wants: Vec<Want>) -> Scene {
        let rules = self.rules(&self.world.known());
        let pools = self.pool_states();
        // What a file takes is asked of one of them.
        let first = self.pools().into_iter().next();
        let mut sizes = Sizes::of(&pools);
        let connected = |pool: PoolId| pools.iter().any(|state| state.id == TierId(pool.0));
        let mut scene = Scene {
            snapshot: Snapshot::default(),
            files: HashMap::new(),
            names: BTreeMap::new(),
        };
        let mut moving: HashMap<FileId, PoolId> = self.moving(moves);
        moving.retain(|_, pool| connected(*pool));
        for subject in subjects {
            if scene
                .names
                .insert(subject.id, subject.name.clone())
                .is_some()
            {
                continue;
            }
            for file in &subject.files {
                let target = moving.get(&file.id).copied();
                let reference = FileRef(file.id.0);
                if scene.files.insert(reference, Arc::clone(file)).is_none() {
                    let bytes = file.attr().identity.size;
                    let taken = first
                        .as_ref()
                        .map_or(bytes, |pool| pool.footprint_bytes(bytes));
                    let bytes = sizes.counted(taken);
                    let state = self.file_state(file, bytes, target, &connected);
                    scene.snapshot.files.push(state);
                }
            }
            let pin = moves
                .pin_of(&subject)
                .and_then(|pool| self.pool_named(pool).ok());
            scene.snapshot.models.push(ModelState {
                id: subject.id,
                files: subject
                    .files
                    .iter()
                    .map(|file| FileRef(file.id.0))
                    .collect(),
                pin: pin.map(|pool| TierId(pool.id().0)),
                rule: rules.rule(&subject),
                priority: rules.priority(&subject),
                moving_to: None,
            });
        }
        scene.snapshot.pools = pools;
        tell_what_moves(&mut scene.snapshot, &moving);
        scene.snapshot.cold_bytes_per_sec = self.history.planned_bytes_per_sec(COLD_BYTES_PER_SEC);
        scene.snapshot.wants = wants;
        scene
    }

    fn file_state(
        &self,
        file: &Arc<HomeFile>,
        size_bytes: u64,
        target: Option<PoolId>,
        connected: &dyn Fn(PoolId) -> bool,
    ) -> FileState {
        let (mut copies, writers) = file.with_live(|live| {
            let pools = live.replicas.iter().map(|replica| replica.pool().id());
            (pools.collect::<Vec<_>>(), live.writers)
        });
        copies.retain(|pool| connected(*pool));
        let resident = copies.first().copied();
        // What is being copied may leave another spare than it has.
        let spare = copies.get(1).copied().filter(|_| target.is_none());
        let place = target.or(resident);
        FileState {
            id: FileRef(file.id.0),
            size_bytes,
            place: place.map(|pool| TierId(pool.0)),
            open: resident.is_some_and(|pool| self.is_in_use(file, pool)),
            busy: writers > 0 || target.is_some(),
            spare: spare.map(|pool| TierId(pool.0)),
            spare_open: spare.is_some_and(|pool| self.is_in_use(file, pool)),
        }
    }

    /// Files that are being copied, and where to.
    fn moving(&self, moves: &Moves) -> HashMap<FileId, PoolId> {
        let Some(mover) = self.mover.get() else {
            return HashMap::new();
        };
        let mut moving = HashMap::new();
        for (id, errand) in &moves.errands {
            if let Some(transfer) = mover.transfer(*id).filter(|t| !t.phase.has_ended()) {
                moving.insert(errand.file.id, transfer.pool);
            }
        }
        moving
    }

    /// All models, and the single files that are resident or asked for beside them.
    fn everything(&self, known: &Known, asked: &[Subject]) -> Vec<Subject> {
        let mut subjects = self.all_subjects(known);
        for subject in asked {
            if subjects.iter().all(|known| known.id != subject.id) {
                subjects.push(subject.clone());
            }
        }
        let files = subjects.iter().flat_map(|subject| &subject.files);
        let mut owned: HashSet<FileId> = files.map(|file| file.id).collect();
        self.fs.union().for_each_path(|path, file| {
            // Hard links are one file, under the first of their names.
            if file.is_resident() && owned.insert(file.id) {
                subjects.push(Subject::single(escape(path), Arc::clone(file)));
            }
        });
        subjects
    }

    /// Plans for `wants` and carries it out. Gives the plan's findings and the transfers begun.
    pub(super) fn plan_and_move(
        &self,
        asked: &[Subject],
        wants: Vec<Want>,
        cause: Cause,
    ) -> Result<Carried, Message> {
        let known = self.world.fresh();
        self.settle_pins(&known);
        let everything = self.everything(&known, asked);
        let mut moves = self.lock_moves();
        let scene = self.scene(&moves, everything, wants);
        let plan = self.checked_plan(&moves, &scene)?;
        Ok(self.carry_out(&mut moves, &scene, plan, cause))
    }

    fn checked_plan(&self, moves: &Moves, scene: &Scene) -> Result<Plan, Message> {
        let internal = |text: String| {
            tracing::error!(text, "the policy's plan is not carried out");
            Message::new(Code::Internal, text)
        };
        let params = Coordinator::params(&self.config());
        let plan = plan(&params, &moves.learned, &scene.snapshot)
            .map_err(|fault| internal(format!("the snapshot contradicts itself: {fault}")))?;
        let fatal = check(&scene.snapshot, &plan)
            .into_iter()
            .find(|note| note.severity == Severity::Fatal);
        match fatal {
            Some(note) => Err(internal(format!("the checker refuses the plan: {note}"))),
            None => Ok(plan),
        }
    }

    /// What is served from the pool.
    pub(super) fn subjects_in(&self, pool: PoolId) -> Vec<Subject> {
        let serves = |file: &Arc<HomeFile>| {
            let first = |live: &mut speedloader_fs::file::Live| {
                live.replicas.first().map(|replica| replica.pool().id())
            };
            file.is_resident() && file.with_live(first) == Some(pool)
        };
        let mut subjects = self.everything(&self.world.fresh(), &[]);
        subjects.retain(|subject| subject.files.iter().any(serves));
        subjects
    }

    /// The plan that would be made now, without carrying it out.
    pub(super) fn dry_plan(&self) -> Result<(Plan, BTreeMap<ModelId, String>), Message> {
        let (asked, wants) = self.warm_up_wants();
        self.dry_plan_for(&asked, wants)
    }

    /// The same for `wants`.
    pub(super) fn dry_plan_for(
        &self,
        asked: &[Subject],
        wants: Vec<Want>,
    ) -> Result<(Plan, BTreeMap<ModelId, String>), Message> {
        let known = self.world.fresh();
        let everything = self.everything(&known, asked);
        let moves = self.lock_moves();
        let scene = self.scene(&moves, everything, wants);
        Ok((self.checked_plan(&moves, &scene)?, scene.names))
    }

    /// What the policy has to say of one model, what its experts cost lately, and what names mean.
    pub(super) fn explained(&self, subject: &Subject) -> Result<Explained, Message> {
        let known = self.world.fresh();
        let everything = self.everything(&known, std::slice::from_ref(subject));
        let moves = self.lock_moves();
        let scene = self.scene(&moves, everything, Vec::new());
        let params = Coordinator::params(&self.config());
        let found = explain(&params, &moves.learned, &scene.snapshot, subject.id)
            .map_err(|fault| Message::new(Code::Internal, fault.to_string()))?
            .ok_or_else(|| Message::new(Code::NoMatch, format!("{} is gone", subject.name)))?;
        Ok(Explained {
            found,
            standings: moves.learned.standings(),
            names: scene.names,
        })
    }

    fn carry_out(&self, moves: &mut Moves, scene: &Scene, plan: Plan, cause: Cause) -> Carried {
        let mut carried = Carried {
            names: scene.names.clone(),
            ..Carried::default()
        };
        for step in &plan.moves {
            let Some(file) = scene.files.get(&step.file) else {
                continue;
            };
            let why = Why {
                cause,
                model: scene.names.get(&step.model).cloned().unwrap_or_default(),
                reason: self.reason_text(&step.reason, &scene.names),
            };
            let from = step.from.map(|pool| PoolId(pool.0));
            let leaves = from.filter(|_| !step.keeps_spare);
            match (step.kind, step.to) {
                (MoveKind::DropSpare, _) => {
                    self.fs.drop_replicas(file, from, SPARE);
                }
                (MoveKind::FallBack, _) | (_, None) => {
                    let dropped = self.fs.drop_replicas(file, from, DEMOTED);
                    if dropped > 0 {
                        moves.told.insert(file.id, why);
                        carried.moved.insert(file.id);
                    }
                }
                (_, Some(to)) => match self.submit(moves, file, PoolId(to.0), &why, leaves) {
                    Ok(id) => {
                        carried.moved.insert(file.id);
                        carried.transfers.push(id);
                    }
                    Err(error) => {
                        self.events
                            .add(Level::Error, "failed", &why.model, error.to_string());
                        carried.faults.push(error);
                    }
                },
            }
        }
        // A pin, and what is asked for, may both have something to say of a model. What is refused is
        // refused; else the first has moved it, and the second finds it moved.
        for finding in plan.report.findings {
            let is_refused = |outcome: &Outcome| matches!(outcome, Outcome::Refused(_));
            let before = carried.outcomes.get(&finding.model);
            if before.is_none_or(|before| !is_refused(before) && is_refused(&finding.outcome)) {
                carried.outcomes.insert(finding.model, finding.outcome);
            }
        }
        carried
    }

    fn submit(
        &self,
        moves: &mut Moves,
        file: &Arc<HomeFile>,
        pool: PoolId,
        why: &Why,
        leaves: Option<PoolId>,
    ) -> Result<TransferId, Message> {
        let gone = |text: &str| Message::new(Code::Failed, format!("{}: {text}", why.model));
        let mover = self
            .mover
            .get()
            .ok_or_else(|| gone("the mover is not there yet"))?;
        let pool = self.pool(pool).ok_or_else(|| gone("its pool is gone"))?;
        let path = self
            .fs
            .union()
            .path_of(file)
            .ok_or_else(|| gone("one of its files is gone"))?;
        let verify = self.config().mover.verify;
        let expected = self
            .world
            .known()
            .catalog
            .expected_digest(path.as_bytes())
            .filter(|_| verify);
        // An engine waits for the files of what it loads, one after the other.
        let watch = (why.cause != Cause::FirstLoad)
            .then(|| self.back_off.watch(file.attr().identity.dev))
            .flatten();
        let origin = Arc::new(Origin::home(watch));
        let job = Job {
            file: file.id,
            label: path.to_string(),
            home: self.fs.home_of(file).path().to_owned(),
            size_bytes: file.attr().identity.size,
            pool,
            leaves,
            expected: expected.map(Digest::sha256),
            priority: why.cause.copy_priority(),
            pace: Some(Arc::clone(&origin) as Arc<dyn Pace>),
            path,
        };
        let id = mover.submit(job).map_err(|error| gone(&chain(&error)))?;
        moves.told.insert(file.id, why.clone());
        // One that is under way already keeps its own.
        let known = moves.errands.get(&id);
        let origin = known.map_or(origin, |known| Arc::clone(&known.origin));
        let errand = Errand {
            why: why.clone(),
            writes: file.writes(),
            file: Arc::clone(file),
            leaves,
            origin,
        };
        moves.errands.insert(id, errand);
        Ok(id)
    }

    /// Something was read: is it a load of a model, and what follows?
    pub(super) fn reading(&self, reading: &Reading) {
        let known = self.world.known();
        let Some(index) = self.loaded_model(&known, reading.file.id, reading.reader) else {
            return;
        };
        let id = model_id(&key_of(&known.catalog, index));
        let mut loads = self.lock_loads();
        let is_open = |handle| self.fs.has_handle(handle);
        let now = Instant::now();
        let begins = loads.begins(id.0, reading, is_open, machine::is_running, now);
        drop(loads);
        if let Some(subject) = begins
            .then(|| self.subject(&known, ModelRef::Model(index)))
            .flatten()
        {
            self.load(subject, Cause::Load);
        }
    }

    /// Which model a process loads that reads a file. Of several that share it, the one of which it has opened the most
    /// weights lately, then the one whose other files its engine has opened last, then the one that it lacks least of, then
    /// the hottest.
    pub(super) fn loaded_model(
        &self,
        known: &Known,
        file: FileId,
        reader: Reader,
    ) -> Option<ModelIndex> {
        let models = known.catalog.models_of(file.0).iter().copied();
        let models = models.filter(|index| counts_as_weights(known, *index, file.0));
        let ranked = models.map(|index| {
            let heat = self
                .lock_moves()
                .learned
                .heat(model_id(&key_of(&known.catalog, index)));
            let loads = self.lock_loads();
            let (weights, others): (Vec<_>, Vec<_>) = known
                .catalog
                .files(index)
                .partition(|(.., role)| role.is_tensors());
            let last_opened = |of: u64, process| loads.last_opened(FileId(of), process);
            let is_opened = |of: u64| of == file.0 || last_opened(of, reader.process).is_some();
            let opened = weights.iter().filter(|(of, ..)| is_opened(*of)).count();
            let missed = weights.len() - opened;
            // A server reads them all for its list, and those of what it loads just before it does.
            let others = others.iter();
            let mut beside: Vec<_> = others
                .filter_map(|(of, ..)| last_opened(*of, reader.engine))
                .collect();
            beside.sort_unstable_by_key(|at| Reverse(*at));
            (Reverse(opened), Reverse(beside), missed, heat, index)
        });
        let best = ranked.min_by(|one, other| {
            let closeness = (&one.0, &one.1, one.2).cmp(&(&other.0, &other.1, other.2));
            closeness.then(other.3.total_cmp(&one.3))
        });
        best.map(|(.., index)| counted_as(known, index))
    }

    /// The model that has the loads of the subject, if that is another.
    pub(super) fn counted_with(&self, known: &Known, subject: &Subject) -> Option<Subject> {
        let index = known.catalog.find(&subject.name)?;
        let first = counted_as(known, index);
        (first != index).then(|| self.subject(known, ModelRef::Model(first)))?
    }

    /// A load of a model begins; `cause` of its moves, if it is moved.
    pub(super) fn load(&self, subject: Subject, cause: Cause) {
        let bytes = subject.bytes();
        let resident = subject.files.iter().all(|file| file.is_resident());
        self.totals.loads.fetch_add(1, Ordering::Relaxed);
        if resident {
            self.totals.loads_resident.fetch_add(1, Ordering::Relaxed);
        }
        self.remember_load(&subject);
        let family = family(subject.kind, &subject.name);
        let number = {
            let mut moves = self.lock_moves();
            let count = moves.counts.entry(subject.id).or_default();
            count.loads += 1;
            count.last_ms = events::now_ms();
            let tiers = Tiers::of(&Snapshot {
                pools: self.pool_states(),
                cold_bytes_per_sec: self.history.planned_bytes_per_sec(COLD_BYTES_PER_SEC),
                ..Snapshot::default()
            });
            let load = Load {
                model: subject.id,
                bytes,
                family: model_id(&family).0,
            };
            let params = Coordinator::params(&self.config());
            moves.learned.observe(&params, &tiers, load);
            moves.learned_changed = true;
            moves.warm_up.touch();
            moves.learned.loads()
        };
        let logged = Entry {
            at_secs: events::now_ms() / 1000,
            number,
            family: &family,
            name: &subject.name,
            bytes,
        };
        if let Err(error) = self.load_log.add(self.config().policy.load_log.0, &logged) {
            tracing::warn!(%error, "a load is not logged");
        }
        let from = if resident {
            "from a pool"
        } else {
            "from its home"
        };
        self.events
            .add(Level::Info, "load", &subject.name, format!("loaded {from}"));
        self.plan_load(subject, cause);
    }

    /// Asks the policy what follows from a load that is counted. What it cannot do as one of the files is being copied
    /// for another model is asked once more when that has ended.
    pub(super) fn plan_load(&self, subject: Subject, cause: Cause) {
        if !self.config().policy.enabled {
            return;
        }
        let wants = vec![Want {
            model: subject.id,
            kind: WantKind::Loaded,
        }];
        match self.plan_and_move(std::slice::from_ref(&subject), wants, cause) {
            Ok(carried) => {
                let outcome = carried.outcomes.get(&subject.id);
                if matches!(outcome, Some(Outcome::Refused(Refusal::Busy(_)))) {
                    let put_off = &mut self.lock_moves().put_off;
                    put_off.retain(|(known, _)| known.id != subject.id);
                    put_off.push((subject, cause));
                    let surplus = put_off.len().saturating_sub(PUT_OFF_MAX);
                    put_off.drain(..surplus);
                }
            }
            Err(error) => tracing::warn!(%error, "nothing was planned for a load"),
        }
    }

    /// Asks it for what was put off.
    pub(super) fn plan_put_off(&self) {
        let put_off = std::mem::take(&mut self.lock_moves().put_off);
        for (subject, cause) in put_off {
            self.plan_load(subject, cause);
        }
    }

    /// Pins, `always` and `never` are obeyed without being asked.
    pub(super) fn plan_freely(&self) {
        if let Err(error) = self.plan_and_move(&[], Vec::new(), Cause::Policy) {
            tracing::warn!(%error, "nothing was planned");
        }
    }
}

/// Says of each model whether it is on its way: what of it is being copied goes to one pool, and the rest is there
/// already, or in a faster one. A model of which only a file moves that it shares is not: what it lacks is on no way.
fn tell_what_moves(snapshot: &mut Snapshot, moving: &HashMap<FileId, PoolId>) {
    if moving.is_empty() {
        return;
    }
    let speeds = snapshot.pools.iter();
    let speeds: HashMap<TierId, u64> = speeds.map(|p| (p.id, p.speed_bytes_per_sec)).collect();
    let places = snapshot.files.iter();
    let places: HashMap<FileRef, Option<TierId>> = places.map(|f| (f.id, f.place)).collect();
    for model in &mut snapshot.models {
        let target = |file: &FileRef| moving.get(&FileId(file.0)).map(|pool| TierId(pool.0));
        let Some(to) = model.files.iter().find_map(target) else {
            continue;
        };
        let is_there = |file: &FileRef| match target(file) {
            Some(pool) => pool == to,
            None => places[file].is_some_and(|place| speeds[&place] >= speeds[&to]),
        };
        model.moving_to = model.files.iter().all(is_there).then_some(to);
    }
}

/// Sizes of files as plans are told of them.
struct Sizes {
    counted_bytes: u64,
    too_large_bytes: u64,
}

impl Sizes {
    fn of(pools: &[PoolState]) -> Sizes {
        let largest = pools.iter().map(|pool| pool.capacity_bytes).max();
        Sizes {
            counted_bytes: 0,
            too_large_bytes: largest.unwrap_or(0).saturating_add(1),
        }
    }

    /// The size; of a file with holes it may be anything, and all of them together must be a number: then one is
    /// counted that is too large for every pool, too.
    fn counted(&mut self, bytes: u64) -> u64 {
        let fits = |sum: &u64| *sum <= u64::MAX / 2;
        let sum = self.counted_bytes.checked_add(bytes).filter(fits);
        let counted = sum.map_or(self.too_large_bytes.min(bytes), |_| bytes);
        self.counted_bytes = self.counted_bytes.saturating_add(counted);
        counted
    }
}

/// What came of a plan.
#[derive(Default)]
pub(super) struct Carried {
    /// Copies that were begun or joined.
    pub transfers: Vec<TransferId>,
    /// Files that have left a pool, or are copied to another.
    pub moved: HashSet<FileId>,
    /// Files whose copies were ended for it.
    pub cancelled: HashSet<FileId>,
    /// What the policy found, by model.
    pub outcomes: HashMap<ModelId, Outcome>,
    /// Orders that could not be given.
    pub faults: Vec<Message>,
    /// Names of the models in `outcomes`.
    pub names: BTreeMap<ModelId, String>,
}

/// The model that has the loads of this one: the first that has the same weights, whatever templates go with them. What
/// is in RAM for one is there for all.
pub(super) fn counted_as(known: &Known, index: ModelIndex) -> ModelIndex {
    let weights_of = |index| {
        let files = known.catalog.files(index);
        let weights = files.filter(|(.., role)| role.is_tensors());
        weights.map(|(file, ..)| file).collect::<BTreeSet<u64>>()
    };
    let own = weights_of(index);
    let sharers = own.iter().map(|file| known.catalog.models_of(*file));
    let fewest = sharers.min_by_key(|models| models.len());
    let mut fewest = fewest.unwrap_or_default().iter().copied();
    fewest
        .find(|other| *other == index || weights_of(*other) == own)
        .unwrap_or(index)
}

/// Whether the file is one of the weights of any model.
pub(super) fn is_weights(known: &Known, file: u64) -> bool {
    let models = known.catalog.models_of(file);
    models
        .iter()
        .any(|index| counts_as_weights(known, *index, file))
}

/// Whether reading this file is loading the model: it has tensors, or the model has none at all.
pub(super) fn counts_as_weights(known: &Known, index: ModelIndex, file: u64) -> bool {
    let (mut any, mut this) = (false, false);
    for (other, _, role) in known.catalog.files(index) {
        any |= role.is_tensors();
        this |= role.is_tensors() && other == file;
    }
    this || !any
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What shares a file with it was taken to be on its way, and stayed half.
    #[test]
    fn only_what_moves_as_a_whole_is_on_its_way() {
        let (slow, fast) = (TierId(1), TierId(2));
        let pool = |id, speed_bytes_per_sec| PoolState {
            id,
            speed_bytes_per_sec,
            capacity_bytes: 64 << 30,
            free_bytes: 0,
            give_back_bytes: 0,
            accepts: true,
        };
        let file = |id, place| FileState {
            id: FileRef(id),
            size_bytes: 1,
            place,
            open: false,
            busy: false,
            spare: None,
            spare_open: false,
        };
        let moving_to = |files: &[(u64, Option<TierId>)], moving: &[(u64, TierId)]| {
            let mut snapshot = Snapshot {
                pools: vec![pool(slow, 1), pool(fast, 2)],
                files: files.iter().map(|(id, place)| file(*id, *place)).collect(),
                models: vec![ModelState {
                    id: ModelId(1),
                    files: files.iter().map(|(id, _)| FileRef(*id)).collect(),
                    pin: None,
                    rule: ModelRule::default(),
                    priority: 0,
                    moving_to: None,
                }],
                ..Snapshot::default()
            };
            let moving = moving
                .iter()
                .map(|(file, to)| (FileId(*file), PoolId(to.0)));
            tell_what_moves(&mut snapshot, &moving.collect());
            snapshot.models[0].moving_to
        };
        let (at_slow, at_fast) = (Some(slow), Some(fast));
        assert_eq!(moving_to(&[(1, None)], &[]), None);
        assert_eq!(
            moving_to(&[(1, at_slow), (2, at_slow)], &[(1, slow), (2, slow)]),
            at_slow
        );
        assert_eq!(
            moving_to(&[(1, at_slow), (2, at_fast)], &[(1, slow)]),
            at_slow
        );
        assert_eq!(moving_to(&[(1, at_slow), (2, None)], &[(1, slow)]), None);
        assert_eq!(moving_to(&[(1, at_fast), (2, at_slow)], &[(1, fast)]), None);
        assert_eq!(
            moving_to(&[(1, at_fast), (2, at_slow)], &[(1, fast), (2, slow)]),
            None
        );
    }

    /// Whoever could make files with holes of 8 EiB stopped every plan.
    #[test]
    fn all_sizes_together_are_a_number_and_what_is_too_large_stays_so() {
        let pool = PoolState {
            id: TierId(1),
            speed_bytes_per_sec: 1,
            capacity_bytes: 64 << 30,
            free_bytes: 0,
            give_back_bytes: 0,
            accepts: true,
        };
        let mut sizes = Sizes::of(&[pool]);
        assert_eq!(sizes.counted(5), 5);
        let counted: Vec<u64> = (0..1000).map(|_| sizes.counted(u64::MAX / 3)).collect();
        assert_eq!(counted[0], u64::MAX / 3);
        let total = counted
            .iter()
            .try_fold(5_u64, |sum, size| sum.checked_add(*size));
        assert!(total.is_some());
        assert!(counted.iter().all(|size| *size > 64 << 30));
        assert_eq!(sizes.counted(4096), 4096);
    }
}
