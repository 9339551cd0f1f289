//! What was resident before a restart comes back by itself: the list of what is resident, written down
//! with some calm, and at start the copies of what was not found in the pools, the hottest first.
//!
//! The list is kept true while it is worked off: what has not come back yet stays on it, so that a crash in
//! between loses nothing. Only the coordinator's thread works it off.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use speedloader_fs::file::HomeFile;
use speedloader_fs::ids::{FileId, PoolId};
use speedloader_policy::{ModelId, Outcome, Refusal, TierId, Want, WantKind};

use super::cause::{Cause, Why};
use super::journal::{Resident, ResidentFile};
use super::moves::{Subject, key_of, model_id};
use super::world::Known;
use super::{Coordinator, Moves};
use crate::models::{ModelIndex, ModelRef};
use crate::view::Level;
use crate::view::human::{escape, size, unescape};

/// Written down when nothing has changed for so long,
const CALM: Duration = Duration::from_secs(1);
/// or when it has waited for so long.
const UNSAVED_MAX: Duration = Duration::from_secs(10);
/// So many files are asked for at a time: the mover's queue is for others, too.
const BATCH_FILES: usize = 256;

/// How far something that was resident has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nobody has looked yet, or its home is still being read.
    New,
    /// It could not be asked for yet: no pool is there, or somebody writes.
    Later,
    /// Its copies are ordered.
    Ordered,
}

/// What was resident, and is not yet.
#[derive(Clone, Debug)]
struct Awaited {
    was: Resident,
    stage: Stage,
    /// What it is now; none while it was not found.
    subject: Option<Subject>,
}

/// The list, and how far it is worked off.
#[derive(Debug, Default)]
pub(super) struct WarmUp {
    awaited: Vec<Awaited>,
    /// Copies were ordered: how many models, and since when.
    begun: Option<(usize, Instant)>,
    /// As it was written down last.
    saved: Vec<Resident>,
    /// When it was changed first and last since.
    changed: Option<(Instant, Instant)>,
    /// What happens from now on is the end, not news.
    parted: bool,
}

impl WarmUp {
    /// What an earlier run has left.
    pub fn new(saved: Vec<Resident>) -> WarmUp {
        let awaited = saved.iter().map(|was| Awaited {
            was: was.clone(),
            stage: Stage::New,
            subject: None,
        });
        WarmUp {
            awaited: awaited.collect(),
            saved,
            ..WarmUp::default()
        }
    }

    /// Whether it is over.
    pub fn is_parted(&self) -> bool {
        self.parted
    }

    /// Something has come, gone, or been loaded: the list, or its order, may be another.
    pub fn touch(&mut self) {
        let now = Instant::now();
        let first = self.changed.map_or(now, |(first, _)| first);
        self.changed = Some((first, now));
    }

    /// Nothing is written down any more.
    pub fn part(&mut self) {
        self.parted = true;
    }

    /// Whether a model is on the list and has not come back.
    pub fn awaits(&self, subject: &Subject) -> bool {
        let is_it = |was: &Resident| match was.key.as_str() {
            "" => was.name == subject.name,
            key => key == subject.key,
        };
        self.awaited.iter().any(|awaited| is_it(&awaited.was))
    }
}

impl Coordinator {
    /// A file has got, or lost, a replica. Gives why.
    pub(super) fn residency_changed(&self, file: &HomeFile) -> Option<Why> {
        let mut moves = self.lock_moves();
        moves.warm_up.touch();
        moves.told.remove(&file.id)
    }

    pub(super) fn is_residency_unsaved(&self) -> bool {
        let moves = self.lock_moves();
        moves.warm_up.changed.is_some() && !moves.warm_up.parted
    }

    /// Whether something of the list is still to be looked for.
    pub(super) fn is_warm_up_waiting(&self) -> bool {
        let moves = self.lock_moves();
        let mut awaited = moves.warm_up.awaited.iter();
        awaited.any(|awaited| awaited.stage == Stage::New)
    }

    pub(super) fn save_residency_when_calm(&self) {
        let changed = self.lock_moves().warm_up.changed;
        if changed
            .is_some_and(|(first, last)| last.elapsed() >= CALM || first.elapsed() >= UNSAVED_MAX)
        {
            self.save_residency();
        }
    }

    /// Writes down what is resident or about to be, and what its order comes from.
    pub(super) fn save_residency(&self) {
        let known = self.world.fresh();
        {
            let mut moves = self.lock_moves();
            moves.warm_up.changed = None;
            if moves.warm_up.parted {
                return;
            }
        }
        let models = self.resident_now(&known);
        if models == self.lock_moves().warm_up.saved {
            return;
        }
        match self.journal.save_resident(&models) {
            Ok(()) => self.lock_moves().warm_up.saved = models,
            Err(error) => tracing::warn!(%error, "what is resident is not written down"),
        }
        self.save();
    }

    /// What is resident as a whole, and what is awaited, the hottest first.
    fn resident_now(&self, known: &Known) -> Vec<Resident> {
        let mut list: Vec<Resident> = Vec::new();
        let mut names: HashSet<String> = HashSet::new();
        let mut covered: HashSet<FileId> = HashSet::new();
        for awaited in &self.lock_moves().warm_up.awaited {
            if names.insert(awaited.was.name.clone()) {
                list.push(awaited.was.clone());
            }
        }
        for index in known.catalog.indices() {
            let mut files = known.catalog.files(index);
            let is_here = |file: u64| known.file(file).is_some_and(|f| f.is_resident());
            if !files.all(|(file, ..)| is_here(file)) {
                continue;
            }
            let Some(subject) = self.subject(known, ModelRef::Model(index)) else {
                continue;
            };
            covered.extend(subject.files.iter().map(|file| file.id));
            if !subject.files.is_empty() && names.insert(subject.name.clone()) {
                list.extend(self.resident(subject));
            }
        }
        let mut single: Vec<(String, Arc<HomeFile>)> = Vec::new();
        self.fs.union().for_each_path(|path, file| {
            if file.is_resident() && covered.insert(file.id) {
                single.push((escape(path), Arc::clone(file)));
            }
        });
        for (path, file) in single {
            if names.insert(path.clone()) {
                list.extend(self.resident(Subject::single(path, file)));
            }
        }
        let moves = self.lock_moves();
        let heat = |was: &Resident| moves.learned.heat(model_id(&was.key));
        list.sort_by(|a, b| heat(b).total_cmp(&heat(a)));
        list
    }

    fn resident(&self, subject: Subject) -> Option<Resident> {
        let union = self.fs.union();
        let row = |file: &Arc<HomeFile>| {
            let identity = file.attr().identity;
            Some(ResidentFile {
                path: escape(union.path_of(file)?.as_bytes()),
                size_bytes: identity.size,
                mtime_ns: identity.mtime_ns,
                ino: identity.ino,
            })
        };
        let first = subject.files.first()?;
        let pool = first.with_live(|live| Some(live.replicas.first()?.pool().name().to_owned()))?;
        Some(Resident {
            files: subject.files.iter().map(row).collect::<Option<_>>()?,
            name: subject.name,
            key: subject.key,
            pool,
        })
    }

    /// Orders the next copies of what was resident before the restart, if there is anything to order.
    pub(super) fn warm_up(&self) {
        if self.lock_moves().warm_up.awaited.is_empty() {
            return;
        }
        let config = self.config();
        if !(config.policy.enabled && config.policy.warm_up) {
            self.lock_moves().warm_up.awaited.clear();
            return;
        }
        if !self.lock_connecting().is_empty() {
            // It may be in there.
            return;
        }
        let known = self.world.fresh();
        self.look_for_awaited(&known);
        self.order_next();
        self.tell_when_back();
    }

    fn order_next(&self) {
        let is_busy = |moves: &Moves| {
            let mut awaited = moves.warm_up.awaited.iter();
            awaited.any(|awaited| awaited.stage == Stage::Ordered)
        };
        if is_busy(&self.lock_moves()) {
            return;
        }
        let (subjects, wants) = self.warm_up_wants();
        if wants.is_empty() {
            return;
        }
        match self.plan_and_move(&subjects, wants, Cause::WarmUp) {
            Ok(carried) => self.ordered(&subjects, &carried.outcomes),
            Err(error) => tracing::warn!(%error, "nothing was planned for the warm-up"),
        }
    }

    /// Finds what is awaited, and forgets what is here, gone or changed.
    fn look_for_awaited(&self, known: &Known) {
        let is_read = self.fs.home_states().iter().all(|home| home.scanned);
        // A copy: whoever ends the daemon meanwhile writes down what is still awaited.
        let mut awaited = self.lock_moves().warm_up.awaited.clone();
        let mut models: HashMap<String, ModelIndex> = HashMap::new();
        if awaited.iter().any(|awaited| awaited.subject.is_none()) {
            let kept = |index| (key_of(&known.catalog, index), index);
            models.extend(known.catalog.indices().map(kept));
        }
        awaited.retain_mut(|awaited| {
            if awaited.subject.is_none() {
                match self.find_again(known, &models, &awaited.was) {
                    Ok(subject) => awaited.subject = Some(subject),
                    // It may be in what is still being read.
                    Err(_) if !is_read => return true,
                    Err(why) => {
                        self.left_out(&awaited.was.name, why);
                        return false;
                    }
                }
            }
            let Some(subject) = &awaited.subject else {
                return true;
            };
            let is_here = subject.files.iter().all(|file| file.is_resident());
            let is_moving = || {
                let mover = self.mover.get();
                let moving = |file: &Arc<HomeFile>| mover.is_some_and(|m| m.is_moving(file.id));
                subject.files.iter().any(moving)
            };
            // What failed is told by the copy's own event.
            !is_here && (awaited.stage != Stage::Ordered || is_moving())
        });
        self.lock_moves().warm_up.awaited = awaited;
    }

    /// Says so, once, when nothing is awaited any more.
    fn tell_when_back(&self) {
        let ended = {
            let warm_up = &mut self.lock_moves().warm_up;
            match warm_up.awaited.is_empty() {
                true => warm_up.begun.take(),
                false => None,
            }
        };
        if let Some((models, since)) = ended {
            let secs = since.elapsed().as_secs_f64();
            let were = if models == 1 {
                "model was"
            } else {
                "models were"
            };
            let text = format!("{models} {were} brought back in {secs:.1} s");
            self.events.add(Level::Info, "warm-up", "pools", text);
        }
    }

    fn left_out(&self, name: &str, why: &str) {
        let text = format!("was resident before the restart, but {why}");
        self.events.add(Level::Info, "warm-up", name, text);
    }

    /// What was resident, if it is what it was.
    fn find_again(
        &self,
        known: &Known,
        models: &HashMap<String, ModelIndex>,
        was: &Resident,
    ) -> Result<Subject, &'static str> {
        let at = |path: &str| self.world.file_at(&unescape(path)?);
        let model = models.get(&was.key).copied();
        let model = model.or_else(|| known.catalog.find(&was.name));
        let subject = match (model, was.files.as_slice()) {
            (Some(index), _) => self.subject(known, ModelRef::Model(index)),
            (None, [file]) => {
                let path = file.path.clone();
                at(&path).map(|file| Subject::single(path, file))
            }
            (None, _) => None,
        };
        let subject = subject.ok_or("it is gone")?;
        for before in &was.files {
            let file = at(&before.path).ok_or("one of its files is gone")?;
            let now = file.attr().identity;
            let same = now.size == before.size_bytes
                && now.mtime_ns == before.mtime_ns
                && now.ino == before.ino
                && subject.files.iter().any(|own| own.id == file.id);
            if !same {
                return Err("it has changed since");
            }
        }
        Ok(subject)
    }

    /// What is asked for next, the hottest first.
    pub(super) fn warm_up_wants(&self) -> (Vec<Subject>, Vec<Want>) {
        let pools = self.pools();
        let pool = |name: &str| {
            let pool = pools.iter().find(|pool| pool.name() == name);
            pool.map(|pool| TierId(pool.id().0))
        };
        let moves = self.lock_moves();
        let (mut subjects, mut wants, mut files) = (Vec::new(), Vec::new(), 0);
        for awaited in &moves.warm_up.awaited {
            let Some(subject) = &awaited.subject else {
                continue;
            };
            if awaited.stage == Stage::Ordered {
                continue;
            }
            files += subject.files.len();
            subjects.push(subject.clone());
            wants.push(Want {
                model: subject.id,
                kind: WantKind::Restore {
                    pool: pool(&awaited.was.pool),
                },
            });
            if files >= BATCH_FILES {
                break;
            }
        }
        (subjects, wants)
    }

    /// Takes note of what the plan says of each.
    fn ordered(&self, subjects: &[Subject], outcomes: &HashMap<ModelId, Outcome>) {
        let mut stages: HashMap<ModelId, Option<Stage>> = HashMap::new();
        let (mut models, mut bytes) = (0, 0);
        for subject in subjects {
            let stage = match outcomes.get(&subject.id) {
                Some(Outcome::Promoted { pool, .. }) => {
                    tracing::debug!(
                        name = subject.name,
                        pool = self.pool_name(PoolId(pool.0)),
                        "comes back"
                    );
                    models += 1;
                    bytes += subject.bytes();
                    Some(Stage::Ordered)
                }
                Some(Outcome::Refused(Refusal::UnderWay(_))) => Some(Stage::Ordered),
                Some(Outcome::Refused(
                    Refusal::Busy(_) | Refusal::NoPool | Refusal::PoolClosed(_),
                )) => Some(Stage::Later),
                Some(Outcome::Refused(refusal)) => {
                    self.left_out(
                        &subject.name,
                        &format!("stays in its home: {}", self.why_not(refusal).0),
                    );
                    None
                }
                // It is where it was.
                Some(Outcome::Stays { .. } | Outcome::Demoted { .. }) | None => None,
            };
            stages.insert(subject.id, stage);
        }
        let mut moves = self.lock_moves();
        moves.warm_up.awaited.retain_mut(|awaited| {
            let id = awaited.subject.as_ref().map(|subject| subject.id);
            match id.and_then(|id| stages.get(&id)) {
                Some(Some(stage)) => {
                    awaited.stage = *stage;
                    true
                }
                Some(None) => false,
                None => true,
            }
        });
        if models > 0 {
            let (before, since) = moves.warm_up.begun.unwrap_or((0, Instant::now()));
            moves.warm_up.begun = Some((before + models, since));
            drop(moves);
            let text = format!(
                "{models} models of {} that were resident before the restart are brought back, the hottest first",
                size(bytes)
            );
            self.events.add(Level::Info, "warm-up", "pools", text);
        }
    }
}
