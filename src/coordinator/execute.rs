//! Carrying commands out: one arm a command, the same for every door.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use speedloader_config::{Change, Config, Effect, changes};
use speedloader_fs::ids::{FileId, TransferId};
use speedloader_fs::seam::{NoSeam, Seam};
use speedloader_policy::{
    ModelId, ModelRule, MoveKind, Outcome as Found, Plan, Refusal, TierId, Want, WantKind,
};

use super::moves::{COLD_BYTES_PER_SEC, Carried, SINGLE_FILE, Subject};
use super::parting::Parting;
use super::pause::{LOOK_INTERVAL, Pause};
use super::{Cause, Coordinator, PoolId};
use crate::command::{Answer, Code, Command, Message, PROTOCOL};
use crate::control::{Executor, Peer};
use crate::machine;
use crate::view::human::{escape, shell_word, size, sizes};
use crate::view::{
    A_POOL, ChangeView, ConfigView, DoneView, EventsView, Level, ModelView, ModelsView, MoveView,
    MovesView, NO_POOLS, Outcome, PlanView, PlannedView, ReloadView, ScanView, SettingView,
    TiersView, TransferState, TransferView, TransfersView, VersionView, View, WhichView,
};

/// How long a demotion waits for copies of its files to end.
const SETTLE_PATIENCE: Duration = Duration::from_secs(2);
/// How long the last moments of a copy may take, after it serves.
const ENDING_PATIENCE: Duration = Duration::from_secs(5);
/// How long a promotion that is waited for gives writers to be gone: the kernel tells of a close a
/// moment after it returned, and whoever has just copied a model promotes it next.
const CLOSE_PATIENCE: Duration = Duration::from_millis(500);
/// How often it is looked whether they are.
const CLOSE_LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// How long a promotion waits for room that is about to be free.
const DRAIN_PATIENCE: Duration = Duration::from_millis(500);
/// A rescan that takes longer goes on without its client.
const RESCAN_PATIENCE: Duration = Duration::from_secs(600);

/// What is to be done about a pin that is in the way.
const UNPIN: &str = "unpin it first: speedloader unpin NAME";
/// What a person is told of a demotion that frees nothing yet.
const DRAINING: &str = "its memory is free when the last reader lets go";
/// Of one that was on its way.
const CANCELLED: &str = "the copy that was on its way is cancelled";
/// Of one whose files in pools are all of other models too.
const SHARED: &str = "what is resident of it stays: other models have the same files";
/// Of a model that the configuration wants in no pool.
const GOES_AGAIN: &str =
    "it is set to never, and goes with the next load of any model: pin it to keep it";
/// Of one that it always wants in one.
const COMES_AGAIN: &str = "it is set to always, and comes back with the next load of any model";

type Progress<'a> = &'a mut dyn FnMut(View);

/// Adds the subjects that are not there yet.
fn add_new(subjects: &mut Vec<Subject>, found: Vec<Subject>) {
    for subject in found {
        if subjects.iter().all(|other| other.id != subject.id) {
            subjects.push(subject);
        }
    }
}

fn to_promote(subjects: &[Subject], pool: Option<TierId>) -> Vec<Want> {
    let want = |subject: &Subject| Want {
        model: subject.id,
        kind: WantKind::Promote { pool },
    };
    subjects.iter().map(want).collect()
}

/// A text, and what is wrong with the model: that it moves does not mean that an engine can load it.
fn remarked(texts: &[&str], subject: &Subject) -> String {
    let remark = subject.remark().unwrap_or_default();
    let mut texts = [texts, &[remark.as_str()]].concat();
    texts.retain(|text| !text.is_empty());
    texts.join("; ")
}

/// Whether any of these is a file of the subject.
fn has(subject: &Subject, files: &HashSet<FileId>) -> bool {
    subject.files.iter().any(|file| files.contains(&file.id))
}

/// What became of subjects that were asked for together.
#[derive(Default)]
struct Rows {
    moves: Vec<MoveView>,
    /// Why the first of those refused was.
    refusal: Option<Message>,
}

impl Rows {
    fn add(&mut self, subject: &Subject, row: Result<MoveView, Message>) {
        self.moves.push(row.unwrap_or_else(|refusal| {
            let text = refusal.to_string();
            self.refusal.get_or_insert(refusal);
            MoveView {
                outcome: Outcome::Refused,
                text,
                ..Coordinator::row(subject)
            }
        }));
    }

    /// All rows; a refusal alone where there is nothing else to tell.
    fn told(self) -> Result<Vec<MoveView>, Message> {
        let is_all = self.moves.iter().all(is_refused);
        match self.refusal.filter(|_| is_all) {
            Some(refusal) => Err(refusal),
            None => Ok(self.moves),
        }
    }
}

fn is_refused(row: &MoveView) -> bool {
    row.outcome == Outcome::Refused
}

/// Those of the subjects whose rows do not refuse them.
fn begun(subjects: &[Subject], rows: &[MoveView]) -> Vec<Subject> {
    let begun = subjects
        .iter()
        .zip(rows)
        .filter(|(_, row)| !is_refused(row));
    begun.map(|(subject, _)| subject.clone()).collect()
}

/// Whether the plan refuses a model because of a writer.
fn is_busy(carried: &Carried) -> bool {
    let busy = |found: &Found| matches!(found, Found::Refused(Refusal::Busy(_)));
    carried.outcomes.values().any(busy)
}

impl Executor for Coordinator {
    fn execute(&self, peer: &Peer, command: Command, progress: Progress<'_>) -> Answer {
        self.carry_out_command(peer, command, progress).into()
    }
}

impl Coordinator {
    fn carry_out_command(
        &self,
        peer: &Peer,
        command: Command,
        progress: Progress<'_>,
    ) -> Result<View, Message> {
        match command {
            Command::Status {} => Ok(View::Status(Box::new(self.status()))),
            Command::Models { filter } => self.models(filter.as_deref()),
            Command::Promote { names, pool, wait } => {
                self.promote(peer, &names, pool.as_deref(), wait, progress)
            }
            Command::WarmUp { names, pool, wait } => {
                self.warm_up_list(peer, &names, pool.as_deref(), wait, progress)
            }
            Command::Demote { names } => self.demote(&names),
            Command::Pin { name, pool } => self.pin(&name, &pool),
            Command::Unpin { name } => self.unpin(&name),
            Command::Tiers {} => Ok(View::Tiers(TiersView {
                tiers: self.tier_views(&self.counts(&self.world.known())),
            })),
            Command::TierSteps { name } => self.tier_steps(&name),
            Command::TierConnect { name } => self.tier_connect(&name, progress),
            Command::TierMoves { name } => self.tier_moves(&name),
            Command::TierDisconnect {
                name,
                force,
                wait,
                no_move,
            } => {
                let how = Parting {
                    force,
                    wait,
                    no_move,
                };
                self.tier_disconnect(peer, &name, how, progress)
            }
            Command::TierResize { name, capacity } => self.tier_resize(&name, &capacity),
            Command::Transfers {} => Ok(View::Transfers(TransfersView {
                transfers: self.transfer_views(),
            })),
            Command::CancelTransfer { id } => self.cancel_transfer(id),
            Command::Wait { names, timeout_s } => self.wait(peer, &names, timeout_s, progress),
            Command::Which { name } => self.which(&name),
            Command::Rescan {} => self.rescan(),
            Command::Events { since, follow } => self.follow_events(peer, since, follow, progress),
            Command::Config {} => Ok(View::Config(self.config_view())),
            Command::Reload {} => self.reload(),
            Command::Version {} => Ok(View::Version(VersionView {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                protocol: PROTOCOL,
                kernel: machine::kernel_release(),
                daemon: None,
            })),
            Command::Explain { name } => self.explain(&name),
            Command::Plan {} => self.plan_view(),
            Command::History {} => Ok(View::History(self.history.view(COLD_BYTES_PER_SEC))),
            Command::Forecast {} => self.forecast().map(View::Forecast),
            Command::Settings {} => Ok(View::Settings(self.settings())),
            Command::CheckSettings { changes } => self.check_settings(&changes).map(View::Draft),
            Command::SaveSettings { changes } => self.save_settings(&changes).map(View::Draft),
            Command::Shutdown {} => {
                self.end();
                let text = format!("{} is being unmounted", self.mountpoint.display());
                Ok(View::Done(DoneView { text }))
            }
        }
    }

    fn models(&self, filter: Option<&str>) -> Result<View, Message> {
        let known = self.world.fresh();
        let subjects = match filter {
            None => self.all_subjects(&known),
            Some(filter) => {
                let contains = |subject: &Subject| subject.name.contains(filter);
                let mut found: Vec<Subject> = self
                    .all_subjects(&known)
                    .into_iter()
                    .filter(contains)
                    .collect();
                if found.is_empty() {
                    found = self.subjects(&known, filter)?;
                }
                found
            }
        };
        let loaded = self.loaded_now(&known);
        let models = subjects
            .iter()
            .map(|subject| ModelView {
                loaded: loaded.get(&subject.id).cloned().unwrap_or_default(),
                ..self.model_view(subject)
            })
            .collect();
        Ok(View::Models(ModelsView { models }))
    }

    /// What all the names mean, each once.
    fn all_named(&self, names: &[String]) -> Result<Vec<Subject>, Message> {
        let known = self.world.fresh();
        let mut subjects: Vec<Subject> = Vec::new();
        for name in names {
            add_new(&mut subjects, self.subjects(&known, name)?);
        }
        Ok(subjects)
    }

    /// A pool as plans know it; none leaves the choice to the placement strategy.
    fn tier_named(&self, pool: Option<&str>) -> Result<Option<TierId>, Message> {
        let pool = pool.map(|name| self.pool_named(name)).transpose()?;
        Ok(pool.map(|pool| TierId(pool.id().0)))
    }

    pub(super) fn one_named(&self, name: &str) -> Result<Subject, Message> {
        let mut subjects = self.all_named(&[name.to_owned()])?;
        match subjects.len() {
            1 => Ok(subjects.remove(0)),
            0 => Err(Message::new(
                Code::NoMatch,
                format!("no model matches `{name}`"),
            )),
            number => {
                let text = format!("`{name}` matches {number} models, and one is needed");
                let mut message = Message::new(Code::Ambiguous, text);
                message.suggestions = subjects
                    .iter()
                    .take(5)
                    .map(|subject| subject.name.clone())
                    .collect();
                Err(message)
            }
        }
    }

    fn promote(
        &self,
        peer: &Peer,
        names: &[String],
        pool: Option<&str>,
        wait: bool,
        progress: Progress<'_>,
    ) -> Result<View, Message> {
        let pool = self.tier_named(pool)?;
        let subjects = self.all_named(names)?;
        let wants = to_promote(&subjects, pool);
        self.let_drains_end();
        let mut carried = self.plan_and_move(&subjects, wants.clone(), Cause::Request)?;
        let until = Instant::now() + CLOSE_PATIENCE;
        while wait && is_busy(&carried) && Instant::now() < until {
            std::thread::sleep(CLOSE_LOOK_INTERVAL);
            let again = self.plan_and_move(&subjects, wants.clone(), Cause::Request)?;
            let begun = std::mem::replace(&mut carried, again).transfers;
            carried.transfers.extend(begun);
        }
        let mut moves = self.moves_of(&subjects, &carried)?;
        if wait {
            let begun = begun(&subjects, &moves);
            self.wait_resident(peer, &begun, None, progress)?;
            self.wait_ended(&carried.transfers);
            moves.retain(is_refused);
            moves.extend(begun.iter().map(|subject| self.resident_row(subject)));
        }
        Ok(View::Moves(MovesView { moves }))
    }

    /// Waits, briefly, for room that is about to be free: a plan without it would displace other models.
    /// What readers still hold of dropped replicas is not waited for any longer.
    fn let_drains_end(&self) {
        let until = Instant::now() + DRAIN_PATIENCE;
        for pool in self.pools() {
            self.wait_while_draining(&pool, until, || true);
        }
    }

    /// Waits for the last moments of copies that serve already: whoever demotes now and promotes
    /// again must not be told that it is on its way.
    fn wait_ended(&self, transfers: &[TransferId]) {
        let Some(mover) = self.mover.get() else {
            return;
        };
        for id in transfers {
            // One that is forgotten has ended.
            let _ = mover.wait(*id, ENDING_PATIENCE);
        }
    }

    /// Brings a list of models into the pools, in its order. What cannot be is said of each, and stops
    /// nothing else.
    fn warm_up_list(
        &self,
        peer: &Peer,
        names: &[String],
        pool: Option<&str>,
        wait: bool,
        progress: Progress<'_>,
    ) -> Result<View, Message> {
        let pool = self.tier_named(pool)?;
        let known = self.world.fresh();
        let mut subjects: Vec<Subject> = Vec::new();
        let mut unknown: Vec<MoveView> = Vec::new();
        for name in names {
            match self.subjects(&known, name) {
                Ok(found) => add_new(&mut subjects, found),
                Err(message) => unknown.push(MoveView {
                    name: name.clone(),
                    outcome: Outcome::Unknown,
                    text: message.to_string(),
                    ..MoveView::default()
                }),
            }
        }
        let wants = to_promote(&subjects, pool);
        self.let_drains_end();
        let carried = self.plan_and_move(&subjects, wants, Cause::Request)?;
        let mut rows = Rows::default();
        for subject in &subjects {
            rows.add(subject, self.move_of(subject, &carried));
        }
        let mut moves = rows.moves;
        if wait {
            let begun = begun(&subjects, &moves);
            match self.wait_resident(peer, &begun, None, progress) {
                Err(message) if peer.is_gone() => return Err(message),
                // Which of them, and why, is said in their rows.
                Ok(()) | Err(_) => {}
            }
            self.wait_ended(&carried.transfers);
            let waited = moves.iter_mut().filter(|row| !is_refused(row));
            for (row, subject) in waited.zip(&begun) {
                let resident = subject.files.iter().all(|file| file.is_resident());
                (row.outcome, row.text) = match resident {
                    true => (Outcome::Done, "resident".to_owned()),
                    false => (Outcome::Refused, self.why_missing(subject).text),
                };
            }
        }
        moves.extend(unknown);
        Ok(View::Moves(MovesView { moves }))
    }

    fn moves_of(&self, subjects: &[Subject], carried: &Carried) -> Result<Vec<MoveView>, Message> {
        let mut rows = Rows::default();
        self.add_rows(subjects, carried, &mut rows)?;
        rows.told()
    }

    /// Adds what became of each subject.
    fn add_rows(
        &self,
        subjects: &[Subject],
        carried: &Carried,
        rows: &mut Rows,
    ) -> Result<(), Message> {
        if let Some(fault) = carried.faults.first() {
            return Err(fault.clone());
        }
        for subject in subjects {
            rows.add(subject, self.move_of(subject, carried));
        }
        Ok(())
    }

    /// What there is to say of a subject, whatever became of it.
    fn row(subject: &Subject) -> MoveView {
        MoveView {
            name: escape(subject.name.as_bytes()),
            files: subject.files.len() as u64,
            bytes: subject.bytes(),
            ..MoveView::default()
        }
    }

    fn move_of(&self, subject: &Subject, carried: &Carried) -> Result<MoveView, Message> {
        let (outcome, pool, text) = match carried.outcomes.get(&subject.id) {
            Some(Found::Promoted { pool, displaces }) => {
                let names = |id: &ModelId| carried.names.get(id).cloned().unwrap_or_default();
                let displaced: Vec<String> = displaces.iter().map(names).collect();
                let text = match displaced.is_empty() {
                    true => String::new(),
                    false => format!("instead of {}", displaced.join(", ")),
                };
                let rule = match self.rule_of(subject) {
                    ModelRule::Never => GOES_AGAIN,
                    _ => "",
                };
                let text = remarked(&[&text, rule], subject);
                (Outcome::Started, Some(*pool), text)
            }
            Some(Found::Stays { pool }) => (Outcome::Already, Some(*pool), remarked(&[], subject)),
            Some(Found::Refused(Refusal::UnderWay(pool))) => (
                Outcome::Started,
                Some(*pool),
                "already on its way".to_owned(),
            ),
            Some(Found::Refused(Refusal::NotResident)) if has(subject, &carried.cancelled) => {
                (Outcome::Done, None, CANCELLED.to_owned())
            }
            Some(Found::Refused(Refusal::NotResident)) => {
                (Outcome::Already, None, "it is in no pool".to_owned())
            }
            Some(Found::Demoted { .. })
                if !has(subject, &carried.moved) && !has(subject, &carried.cancelled) =>
            {
                (Outcome::Already, None, SHARED.to_owned())
            }
            Some(Found::Demoted { pool }) => {
                let draining = self.is_draining(subject);
                match draining {
                    true => (Outcome::Draining, *pool, DRAINING.to_owned()),
                    false if self.rule_of(subject) == ModelRule::Always => {
                        (Outcome::Done, *pool, COMES_AGAIN.to_owned())
                    }
                    false => (Outcome::Done, *pool, String::new()),
                }
            }
            Some(Found::Refused(refusal)) => return Err(self.refused(subject, refusal)),
            None => (Outcome::Already, None, String::new()),
        };
        let mut moved = subject.clone();
        if matches!(outcome, Outcome::Done | Outcome::Draining) {
            moved.files.retain(|file| carried.moved.contains(&file.id));
        }
        Ok(MoveView {
            outcome,
            pool: pool
                .map(|pool| self.pool_name(PoolId(pool.0)))
                .unwrap_or_default(),
            text,
            ..Coordinator::row(&moved)
        })
    }

    /// Whether memory of the subject's files is still held by readers.
    fn is_draining(&self, subject: &Subject) -> bool {
        let union = self.fs.union();
        let paths: HashSet<_> = subject
            .files
            .iter()
            .filter_map(|f| union.path_of(f))
            .collect();
        let open = subject.files.iter().any(|file| file.is_open());
        open && self
            .drainer
            .draining()
            .iter()
            .any(|state| paths.contains(&state.path))
    }

    fn refused(&self, subject: &Subject, refusal: &Refusal) -> Message {
        let name = escape(subject.name.as_bytes());
        let pool = |id: &TierId| self.pool_name(PoolId(id.0));
        let (code, text, hint) = match refusal {
            Refusal::TooLarge {
                needs_bytes,
                largest_bytes,
            } => {
                let [needed, had] = sizes(*needs_bytes, *largest_bytes);
                (
                    Code::TooLarge,
                    format!("needs {needed}, and no pool holds more than {had}"),
                    "make a pool larger: speedloader tiers resize NAME SIZE",
                )
            }
            Refusal::PinnedSetTooLarge {
                pool: id,
                pinned_bytes,
                capacity_bytes,
            } => {
                let [needed, had] = sizes(*pinned_bytes, *capacity_bytes);
                (
                    Code::TooLarge,
                    format!(
                        "the models pinned to {} need {needed}, and it holds {had}",
                        pool(id)
                    ),
                    "unpin one of them, or make the pool larger",
                )
            }
            Refusal::NoRoom {
                pool: id,
                needs_bytes,
                available_bytes,
            } => {
                let [needed, had] = sizes(*needs_bytes, *available_bytes);
                (
                    Code::NoSpace,
                    format!(
                        "needs {needed} in {}, and only {had} can be made free: the rest is open, pinned, set \
                     to always, or of higher priority",
                        pool(id)
                    ),
                    "demote a model, or make the pool larger",
                )
            }
            Refusal::Busy(file) if self.is_moving(FileId(file.0)) => (
                Code::Busy,
                "one of its files is being copied to another place".to_owned(),
                "try again when that has ended: speedloader wait",
            ),
            Refusal::Busy(_) => (
                Code::Busy,
                "one of its files is being written or is locked".to_owned(),
                "try again when the writer has closed it",
            ),
            Refusal::PinnedTo(id) => (Code::Pinned, format!("is pinned to {}", pool(id)), UNPIN),
            Refusal::NoPool
                if self.config().pools.is_empty() && self.config().remotes.is_empty() =>
            {
                (Code::NoSpace, NO_POOLS.to_owned(), A_POOL)
            }
            Refusal::NoPool if self.is_connecting_any() => (
                Code::Busy,
                "the pools are being connected: what they hold is verified".to_owned(),
                "`speedloader tiers` says when they are there",
            ),
            Refusal::NoPool => (
                Code::NoSpace,
                "no pool is connected".to_owned(),
                "speedloader tiers shows the pools, speedloader tiers connect NAME connects one",
            ),
            Refusal::PoolClosed(id) => (
                Code::Busy,
                format!("{} is being disconnected, and takes nothing new", pool(id)),
                "name another pool",
            ),
            Refusal::RuleNever => (
                Code::Pinned,
                "is set to never by the configuration".to_owned(),
                "take it out of policy.never, or pin it",
            ),
            Refusal::NoFiles => (
                Code::Failed,
                "has no files here".to_owned(),
                "speedloader which NAME shows what is known",
            ),
            other => (
                Code::Failed,
                other.to_string(),
                "speedloader explain NAME says more",
            ),
        };
        Message::new(code, format!("{name}: {text}")).with_hint(hint)
    }

    fn is_moving(&self, file: FileId) -> bool {
        self.mover.get().is_some_and(|mover| mover.is_moving(file))
    }

    fn demote(&self, names: &[String]) -> Result<View, Message> {
        let subjects = self.all_named(names)?;
        let mut cancelled = HashSet::new();
        if let Some(mover) = self.mover.get() {
            let files = || subjects.iter().flat_map(|subject| &subject.files);
            for file in files() {
                if mover.cancel_file(file.id) > 0 {
                    cancelled.insert(file.id);
                }
            }
            // A copy that has just been published is over in a moment; until then a new request for
            // the file would be taken for the same.
            let ids: HashSet<_> = files().map(|file| file.id).collect();
            let ending = mover
                .transfers()
                .into_iter()
                .filter(|transfer| ids.contains(&transfer.file));
            for transfer in ending.filter(|transfer| !transfer.phase.has_ended()) {
                // It may have been forgotten meanwhile.
                let _ = mover.wait(transfer.id, SETTLE_PATIENCE);
            }
        }
        for subject in &subjects {
            self.lock_moves().learned.set_aside(subject.id);
            let mut loads = self.lock_loads();
            subject.files.iter().for_each(|file| loads.settle(file));
        }
        // Who names a single file means it, whichever models share it.
        let (single, models): (Vec<Subject>, Vec<Subject>) = subjects
            .into_iter()
            .partition(|subject| subject.kind == SINGLE_FILE);
        let mut rows = Rows::default();
        for subject in &single {
            rows.add(subject, self.demote_file(subject, &cancelled));
        }
        let want = |subject: &Subject| Want {
            model: subject.id,
            kind: WantKind::Demote { pool: None },
        };
        if !models.is_empty() {
            let wants = models.iter().map(want).collect();
            let mut carried = self.plan_and_move(&models, wants, Cause::Request)?;
            carried.cancelled = cancelled;
            self.add_rows(&models, &carried, &mut rows)?;
        }
        let moves = rows.told()?;
        self.drainer.check_now();
        Ok(View::Moves(MovesView { moves }))
    }

    fn demote_file(
        &self,
        subject: &Subject,
        cancelled: &HashSet<FileId>,
    ) -> Result<MoveView, Message> {
        let pinned = self.lock_moves().pin_of(subject).cloned();
        if let Some(pool) = pinned {
            let text = format!("{}: is pinned to {pool}", escape(subject.name.as_bytes()));
            return Err(Message::new(Code::Pinned, text).with_hint(UNPIN));
        }
        let drop = |file| self.fs.drop_replicas(file, None, "demoted");
        let dropped: usize = subject.files.iter().map(drop).sum();
        let (outcome, text) = match (dropped, self.is_draining(subject)) {
            (0, _) if has(subject, cancelled) => (Outcome::Done, CANCELLED),
            (0, _) => (Outcome::Already, "it is in no pool"),
            (_, true) => (Outcome::Draining, DRAINING),
            _ if self.rule_of(subject) == ModelRule::Always => (Outcome::Done, COMES_AGAIN),
            (_, false) => (Outcome::Done, ""),
        };
        Ok(MoveView {
            outcome,
            text: text.to_owned(),
            ..Coordinator::row(subject)
        })
    }

    fn pin(&self, name: &str, pool: &str) -> Result<View, Message> {
        let subject = self.one_named(name)?;
        let pool = self.pool_named(pool)?;
        let before = self
            .lock_moves()
            .pins
            .insert(subject.key.clone(), pool.name().to_owned());
        let want = Want {
            model: subject.id,
            kind: WantKind::Promote {
                pool: Some(TierId(pool.id().0)),
            },
        };
        let moved = self
            .plan_and_move(std::slice::from_ref(&subject), vec![want], Cause::Pin)
            .and_then(|carried| self.moves_of(std::slice::from_ref(&subject), &carried));
        match moved {
            Ok(moves) => {
                self.save_pins()?;
                let text = format!("to {}", pool.name());
                self.events.add(Level::Info, "pinned", &subject.name, text);
                Ok(View::Moves(MovesView { moves }))
            }
            Err(error) => {
                let mut moves = self.lock_moves();
                match before {
                    Some(pool) => moves.pins.insert(subject.key, pool),
                    None => moves.pins.remove(&subject.key),
                };
                Err(error)
            }
        }
    }

    fn unpin(&self, name: &str) -> Result<View, Message> {
        // The model itself may be gone while its pin is not.
        let subject = match self.lock_moves().pins.contains_key(name) {
            true => None,
            false => Some(self.one_named(name)?),
        };
        let (name, key) = subject.map_or_else(
            || (name.to_owned(), name.to_owned()),
            |subject| (subject.name, subject.key),
        );
        let removed = self.lock_moves().unpin(&key);
        self.save_pins()?;
        // One that is set to `never` goes now.
        self.think();
        if let Some(pool) = &removed {
            let text = format!("from {pool}");
            self.events.add(Level::Info, "unpinned", &name, text);
        }
        let outcome = if removed.is_some() {
            Outcome::Done
        } else {
            Outcome::Already
        };
        let text = if removed.is_some() {
            ""
        } else {
            "it was not pinned"
        };
        Ok(View::Moves(MovesView {
            moves: vec![MoveView {
                name: escape(name.as_bytes()),
                outcome,
                pool: removed.unwrap_or_default(),
                text: text.to_owned(),
                ..MoveView::default()
            }],
        }))
    }

    /// Those of the configuration are kept there: who takes one out of it shall be rid of it.
    fn save_pins(&self) -> Result<(), Message> {
        let pins = {
            let config = self.config();
            let moves = self.lock_moves();
            let mut pins = moves.pins.clone();
            for (written, pool) in &config.pins {
                for key in moves.written_pins.keys_of(written) {
                    if pins
                        .get(key)
                        .is_some_and(|pinned| *pinned == *pool.as_str())
                    {
                        pins.remove(key);
                    }
                }
            }
            pins
        };
        self.journal.save_pins(&pins).map_err(|error| {
            Message::new(
                Code::Failed,
                format!("it is as you say until a restart, and then as before: {error}"),
            )
        })
    }

    pub(super) fn tier_moved(name: &str, outcome: Outcome, bytes: u64, text: String) -> View {
        let (name, pool) = (name.to_owned(), name.to_owned());
        View::Moves(MovesView {
            moves: vec![MoveView {
                name,
                outcome,
                pool,
                files: 0,
                bytes,
                text,
            }],
        })
    }

    fn tier_connect(&self, name: &str, progress: Progress<'_>) -> Result<View, Message> {
        if let Some(remote) = self.remote_config(name) {
            return self.connect_remote(name, &remote, progress);
        }
        let pool = self.configured_pool(name)?;
        let seam: Arc<dyn Seam> = Arc::new(NoSeam);
        self.connect_pool(&pool, &seam)?;
        Ok(Coordinator::tier_moved(
            name,
            Outcome::Done,
            0,
            "connected".to_owned(),
        ))
    }

    /// The pool of this machine that the configuration calls so.
    pub(super) fn configured_pool(&self, name: &str) -> Result<speedloader_config::Pool, Message> {
        let config = self.config();
        let found = config.pools.iter().find(|pool| pool.name.as_str() == name);
        found.cloned().ok_or_else(|| {
            let local = config.pools.iter().map(|pool| pool.name.as_str());
            let remote = config.remotes.keys().map(|name| name.as_str());
            let names: Vec<&str> = local.chain(remote).collect();
            let hint = match names.is_empty() {
                true => "the configuration has no [[pool]] and no [remote.NAME]".to_owned(),
                false => format!("configured pools: {}", names.join(", ")),
            };
            let text = format!("no pool is called `{name}`");
            Message::new(Code::NoSuchPool, text).with_hint(hint)
        })
    }

    fn tier_disconnect(
        &self,
        peer: &Peer,
        name: &str,
        how: Parting,
        progress: Progress<'_>,
    ) -> Result<View, Message> {
        if let Some(remote) = self.remote_config(name) {
            return self.disconnect_remote(peer, name, &remote, how, progress);
        }
        let (moved, free) = self.disconnect_pool(peer, name, how, progress)?;
        let (outcome, text) = match free {
            true => (Outcome::Done, "disconnected, its memory is free"),
            false => (
                Outcome::Draining,
                "its memory is free when the last reader or copy has let go",
            ),
        };
        Ok(Coordinator::tier_gone(name, outcome, text, moved))
    }

    /// What became of a pool that was disconnected, and then what was `moved` out of it.
    pub(super) fn tier_gone(
        name: &str,
        outcome: Outcome,
        text: &str,
        moved: Vec<MoveView>,
    ) -> View {
        let pool = MoveView {
            name: name.to_owned(),
            outcome,
            pool: name.to_owned(),
            text: text.to_owned(),
            ..MoveView::default()
        };
        let moves = std::iter::once(pool).chain(moved).collect();
        View::Moves(MovesView { moves })
    }

    fn tier_resize(&self, name: &str, capacity: &str) -> Result<View, Message> {
        let bytes = self.resize_pool(name, capacity)?;
        let text = format!("may hold {} now", size(bytes));
        let text = match self.too_much_for_memory() {
            None => text,
            Some(warning) => format!("{text}; {warning}"),
        };
        Ok(Coordinator::tier_moved(name, Outcome::Done, bytes, text))
    }

    fn cancel_transfer(&self, id: u64) -> Result<View, Message> {
        let cancelled = self
            .mover
            .get()
            .is_some_and(|mover| mover.cancel(TransferId(id)));
        if !cancelled {
            let text = format!("no transfer has the number {id}, or it has ended");
            return Err(Message::new(Code::NoSuchTransfer, text)
                .with_hint("speedloader transfers lists them"));
        }
        let name = format!("transfer {id}");
        Ok(View::Moves(MovesView {
            moves: vec![MoveView {
                name,
                outcome: Outcome::Done,
                ..MoveView::default()
            }],
        }))
    }

    fn wait(
        &self,
        peer: &Peer,
        names: &[String],
        timeout_s: u64,
        progress: Progress<'_>,
    ) -> Result<View, Message> {
        let until = Some(Instant::now() + Duration::from_secs(timeout_s));
        if names.is_empty() {
            return self.wait_for_all(peer, until, progress);
        }
        let subjects = self.all_named(names)?;
        self.wait_resident(peer, &subjects, until, progress)?;
        let moves = subjects.iter().map(|subject| self.resident_row(subject));
        Ok(View::Moves(MovesView {
            moves: moves.collect(),
        }))
    }

    /// Waits until nothing moves any more, and says what has arrived meanwhile.
    fn wait_for_all(
        &self,
        peer: &Peer,
        until: Option<Instant>,
        progress: Progress<'_>,
    ) -> Result<View, Message> {
        let mut pause = Pause::new(self, peer, until);
        let mut awaited: BTreeMap<u64, TransferView> = BTreeMap::new();
        loop {
            let mut moving = self.transfer_views();
            moving.retain(|transfer| !transfer.state.is_final());
            if moving.is_empty() && !self.is_warm_up_waiting() {
                break;
            }
            awaited.extend(
                moving
                    .iter()
                    .map(|transfer| (transfer.id, transfer.clone())),
            );
            let late = match moving.len() {
                1 => "one copy is still on its way".to_owned(),
                number => format!("{number} copies are still on their way"),
            };
            progress(View::Transfers(TransfersView { transfers: moving }));
            pause.next(&late)?;
        }
        self.arrived(awaited)
    }

    /// What became of transfers that somebody waited for, a row for each model.
    fn arrived(&self, awaited: BTreeMap<u64, TransferView>) -> Result<View, Message> {
        let mut ended = self.transfer_views();
        ended.retain(|transfer| awaited.contains_key(&transfer.id));
        let mut rows: Vec<MoveView> = Vec::new();
        for transfer in awaited.into_values() {
            let end = ended.iter().find(|end| end.id == transfer.id);
            match end.map(|end| (end.state, &end.why)) {
                Some((TransferState::Failed, why)) => {
                    let text = format!("{} is not resident: {why}", transfer.file);
                    return Err(Message::new(Code::Failed, text));
                }
                Some((TransferState::Cancelled, _)) => continue,
                // Of the oldest nobody remembers how they ended.
                _ => {}
            }
            let name = match transfer.model.is_empty() {
                true => &transfer.file,
                false => &transfer.model,
            };
            let same = |row: &&mut MoveView| row.name == *name && row.pool == transfer.to;
            if let Some(row) = rows.iter_mut().find(same) {
                row.files += 1;
                row.bytes += transfer.total_bytes;
            } else {
                rows.push(MoveView {
                    name: name.clone(),
                    outcome: Outcome::Done,
                    pool: transfer.to.clone(),
                    files: 1,
                    bytes: transfer.total_bytes,
                    text: "arrived".to_owned(),
                });
            }
        }
        Ok(View::Moves(MovesView { moves: rows }))
    }

    /// Waits until every file is resident, and gives up when nothing moves any more: then there is
    /// nothing to wait for.
    fn wait_resident(
        &self,
        peer: &Peer,
        subjects: &[Subject],
        until: Option<Instant>,
        progress: Progress<'_>,
    ) -> Result<(), Message> {
        let mut pause = Pause::new(self, peer, until);
        loop {
            let missing: Vec<&Subject> = subjects
                .iter()
                .filter(|subject| subject.files.iter().any(|file| !file.is_resident()))
                .collect();
            let Some(first) = missing.first() else {
                return Ok(());
            };
            if let Some(mover) = self.mover.get() {
                let files = missing.iter().flat_map(|subject| &subject.files);
                files.for_each(|file| mover.hurry(file.id));
            }
            let transfers = self.transfers_of(&missing);
            let moving = transfers.iter().any(|transfer| !transfer.state.is_final());
            if !moving && first.files.iter().any(|file| !file.is_resident()) {
                return Err(self.why_missing(first));
            }
            let name = escape(first.name.as_bytes());
            progress(View::Transfers(TransfersView { transfers }));
            pause.next(&format!("{name} is not resident yet"))?;
        }
    }

    /// Why a subject is not resident, although nothing of it moves any more.
    fn why_missing(&self, subject: &Subject) -> Message {
        let mut missing = subject.clone();
        missing.files.retain(|file| !file.is_resident());
        let transfers = self.transfers_of(&[&missing]);
        let ended = transfers.iter().find(|transfer| transfer.state.is_final());
        let (code, why) = match ended.map(|ended| (ended.state, ended.why.as_str())) {
            None => (Code::NotResident, "no copy of it is on its way"),
            Some((TransferState::Cancelled, _)) => (Code::Cancelled, "its copy was cancelled"),
            // Demoted, or opened for writing, before anybody could look.
            Some((TransferState::Done, _)) => (Code::NotResident, "it has left its pool already"),
            Some((_, why)) => (Code::Failed, why),
        };
        let name = escape(subject.name.as_bytes());
        Message::new(code, format!("{name} is not resident: {why}"))
    }

    fn transfers_of(&self, subjects: &[&Subject]) -> Vec<TransferView> {
        let union = self.fs.union();
        let files = subjects.iter().flat_map(|subject| &subject.files);
        let paths: HashSet<String> = files
            .filter_map(|file| union.path_of(file))
            .map(|path| path.to_string())
            .collect();
        let mut newest: HashMap<String, TransferView> = HashMap::new();
        for transfer in self.transfer_views() {
            if paths.contains(&transfer.file) {
                let known = newest
                    .entry(transfer.file.clone())
                    .or_insert_with(|| transfer.clone());
                if known.id < transfer.id {
                    *known = transfer;
                }
            }
        }
        let mut transfers: Vec<_> = newest.into_values().collect();
        transfers.sort_by_key(|transfer| transfer.id);
        transfers
    }

    fn resident_row(&self, subject: &Subject) -> MoveView {
        let view = self.model_view(subject);
        let pools: Vec<&str> = view.resident_bytes.keys().map(String::as_str).collect();
        MoveView {
            pool: pools.join(","),
            text: remarked(&["resident"], subject),
            ..Coordinator::row(subject)
        }
    }

    fn which(&self, name: &str) -> Result<View, Message> {
        let subjects = self.all_named(&[name.to_owned()])?;
        let mut seen = HashSet::new();
        let files = subjects.iter().flat_map(|subject| &subject.files);
        // Models may share files.
        let files = files.filter(|file| seen.insert(file.id));
        let own =
            |of: fn(&Subject) -> &Vec<String>| subjects.iter().flat_map(of).cloned().collect();
        let name = match subjects.as_slice() {
            [subject] => escape(subject.name.as_bytes()),
            _ => name.to_owned(),
        };
        Ok(View::Which(WhichView {
            name,
            files: files.map(|f| self.place_view(f)).collect(),
            missing: own(|subject| &subject.missing),
            faults: own(|subject| &subject.faults),
        }))
    }

    fn rescan(&self) -> Result<View, Message> {
        let picture = || {
            let mut files = HashMap::new();
            self.fs.union().for_each_file(|file| {
                files.insert(file.id, file.attr().identity);
            });
            files
        };
        let before = picture();
        let complete = self.fs.rescan(RESCAN_PATIENCE);
        // Who asked looks next. A lookup that hangs holds up what the kernel is told, and not this answer.
        self.fs.wait_until_told();
        let after = picture();
        self.think();
        if !complete {
            let text = "a home does not answer; the rescan goes on when it does";
            return Err(Message::new(Code::TimedOut, text).with_hint("speedloader status names it"));
        }
        let changed = |id| {
            before
                .get(id)
                .is_some_and(|old| !old.same_contents(&after[id]))
        };
        Ok(View::Scan(ScanView {
            homes: self.fs.homes().len() as u64,
            files_added: after.keys().filter(|id| !before.contains_key(id)).count() as u64,
            files_removed: before.keys().filter(|id| !after.contains_key(id)).count() as u64,
            files_changed: after.keys().filter(|id| changed(id)).count() as u64,
        }))
    }

    fn follow_events(
        &self,
        peer: &Peer,
        since: u64,
        follow: bool,
        progress: Progress<'_>,
    ) -> Result<View, Message> {
        let view = self.events.since(since);
        if !follow {
            return Ok(View::Events(view));
        }
        let mut seen = since;
        let mut heard = view.events;
        while !peer.is_gone() && !self.is_ending() {
            for event in heard {
                seen = event.seq;
                progress(View::Event(event));
            }
            heard = self.events.wait_after(seen, LOOK_INTERVAL);
        }
        Ok(View::Events(EventsView::default()))
    }

    fn config_view(&self) -> ConfigView {
        let config = self.config();
        let setting = |entry: speedloader_config::Entry| SettingView {
            key: entry.key,
            value: entry.value.unwrap_or_else(|| "(unset)".to_owned()),
            origin: entry.origin.to_string(),
        };
        ConfigView {
            path: self
                .sources
                .file
                .as_ref()
                .map(|file| file.path.display().to_string()),
            settings: config.entries().into_iter().map(setting).collect(),
            toml: speedloader_config::show(&config, false),
        }
    }

    pub(super) fn reload(&self) -> Result<View, Message> {
        let bad = |faults: speedloader_config::Faults| {
            Message::new(Code::BadConfig, format!("nothing was changed:\n{faults}"))
        };
        let mut sources = self.sources.clone();
        let new = match sources.file.take() {
            Some(file) => speedloader_config::load_path(&file.path, sources).map_err(bad)?,
            None => speedloader_config::load(&sources).map_err(bad)?,
        };
        let new = self.placed(new).map_err(bad)?;
        let old = self.config();
        let found = changes(&old, &new);
        let mut merged = (*old).clone();
        // What the configuration's own list of fields calls live, and nothing else.
        merged.policy = new.policy.clone();
        self.fs.first_loads().set_max_wait(new.policy.max_wait);
        merged.placement = new.placement.clone();
        merged.pins = new.pins.clone();
        self.merge_pools(&mut merged, &new);
        for (name, remote) in &mut merged.remotes {
            if let Some(new) = new.remotes.get(name) {
                remote.page_cache = new.page_cache;
                remote.ssh_timeout = new.ssh_timeout;
                remote.connect_timeout = new.connect_timeout;
            }
        }
        for pool in &mut merged.pools {
            if let Some(new) = new.pools.iter().find(|new| new.name == pool.name) {
                pool.prefault = new.prefault;
            }
        }
        self.apply_capacities(&mut merged, &new);
        // What still differs could not be had now, or takes a new mount.
        let left: HashSet<String> = changes(&merged, &new)
            .into_iter()
            .map(|change| change.key)
            .collect();
        *self
            .config
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = Arc::new(merged);
        super::keep_log_within(&self.load_log, &self.config());
        let is_pinned_anew = self.take_over_pins(&old, &new);
        if is_pinned_anew && let Err(error) = self.save_pins() {
            tracing::warn!(%error, "what the file says of pins holds");
        }
        self.watch.wake();
        self.think();
        let shown = found.into_iter().map(|change| ChangeView {
            applied: matches!(change.effect, Effect::Live) && !left.contains(&change.key),
            remark: self.remark_of(&change),
            before: change.old.unwrap_or_default(),
            after: change.new.unwrap_or_default(),
            key: change.key,
        });
        Ok(View::Reload(ReloadView {
            changes: shown.collect(),
        }))
    }

    /// Pins that the file says something new of, and whether there are any: every other is as it was pinned since.
    fn take_over_pins(&self, old: &Config, new: &Config) -> bool {
        let written: BTreeSet<&String> = old.pins.keys().chain(new.pins.keys()).collect();
        let mut moves = self.lock_moves();
        let mut is_any = false;
        for name in written {
            let pool = new.pins.get(name);
            if pool == old.pins.get(name) {
                continue;
            }
            is_any = true;
            for key in moves.written_pins.forget(name) {
                moves.pins.remove(&key);
            }
            if let Some(pool) = pool {
                moves.pins.insert(name.clone(), pool.to_string());
            }
        }
        is_any
    }

    /// When a change counts that a reload does not bring about by itself.
    pub(super) fn remark_of(&self, change: &Change) -> Option<String> {
        if change.key == "control.socket" {
            let here = self.config().control.socket.display().to_string();
            let word = shell_word(here.as_bytes());
            return Some(format!(
                "at the next mount; until then `--socket {word}` reaches the daemon"
            ));
        }
        let is_new = change.old.is_none() && change.new.is_some();
        let (name, _) = change.key.strip_prefix("pool.")?.rsplit_once('.')?;
        let is_waiting = is_new && !self.is_pool_in_use(name);
        is_waiting.then(|| {
            format!(
                "after `speedloader tiers connect {}`",
                shell_word(name.as_bytes())
            )
        })
    }

    /// Pools that the file has not had before can be connected from now on; one that it has no longer goes once it
    /// is not connected.
    fn merge_pools(&self, merged: &mut Config, new: &Config) {
        let is_old = |name: &str| self.is_pool_in_use(name) || self.is_remote_in_use(name);
        merged.pools.retain(|pool| {
            new.pools.iter().any(|new| new.name == pool.name) || is_old(pool.name.as_str())
        });
        for pool in &new.pools {
            if merged.pools.iter().all(|known| known.name != pool.name) {
                merged.pools.push(pool.clone());
            }
        }
        merged
            .remotes
            .retain(|name, _| new.remotes.contains_key(name) || is_old(name.as_str()));
        for (name, remote) in &new.remotes {
            let known = merged.remotes.entry(name.clone());
            known.or_insert_with(|| remote.clone());
        }
        // Settings name a pool by its place in the file.
        let place = |pool: &speedloader_config::Pool| {
            let place = new.pools.iter().position(|new| new.name == pool.name);
            place.unwrap_or(usize::MAX)
        };
        merged.pools.sort_by_key(place);
        let is_pools = |key: &str| key.starts_with("pool[") || key.starts_with("remote.");
        merged.origins.retain(|key, _| !is_pools(key));
        let origins = new.origins.iter().filter(|(key, _)| is_pools(key));
        merged
            .origins
            .extend(origins.map(|(key, origin)| (key.clone(), origin.clone())));
    }

    /// Pools that the file gives another size; one that cannot have it keeps its own, which is an event.
    fn apply_capacities(&self, merged: &mut Config, new: &Config) {
        for pool in &mut merged.pools {
            let wanted = new.pools.iter().find(|other| other.name == pool.name);
            let Some(wanted) = wanted.filter(|wanted| wanted.capacity != pool.capacity) else {
                continue;
            };
            match self.resize_pool(pool.name.as_str(), &wanted.capacity.to_string()) {
                // One that is not connected gets it when it is.
                Ok(_) => pool.capacity = wanted.capacity,
                Err(error) if error.code == Code::NoSuchPool => pool.capacity = wanted.capacity,
                Err(error) => {
                    let name = pool.name.as_str();
                    self.events
                        .add(Level::Warning, "pool", name, error.to_string());
                }
            }
        }
    }

    fn explain(&self, name: &str) -> Result<View, Message> {
        let subject = self.one_named(name)?;
        let loaded = self.loaded_now(&self.world.known()).remove(&subject.id);
        let shown = ModelView {
            loaded: loaded.unwrap_or_default(),
            ..self.model_view(&subject)
        };
        Ok(View::Explain(Box::new(self.explain_view(&subject, shown)?)))
    }

    fn plan_view(&self) -> Result<View, Message> {
        let (plan, names) = self.dry_plan()?;
        let moves = self.planned_views(&plan, &names);
        Ok(View::Plan(PlanView { moves }))
    }

    /// The moves of a plan, for people.
    pub(super) fn planned_views(
        &self,
        plan: &Plan,
        names: &BTreeMap<ModelId, String>,
    ) -> Vec<PlannedView> {
        let place = |tier: Option<TierId>| {
            tier.map_or_else(|| "home".to_owned(), |tier| self.pool_name(PoolId(tier.0)))
        };
        let row = |step: &speedloader_policy::Move| PlannedView {
            model: names
                .get(&step.model)
                .map(|n| escape(n.as_bytes()))
                .unwrap_or_default(),
            from: place(step.from),
            to: place(step.to),
            bytes: step.bytes,
            planned: true,
            why: {
                let reason = self.reason_text(&step.reason, names);
                match step.kind {
                    MoveKind::DropSpare => format!("the spare goes: {reason}"),
                    MoveKind::FallBack => format!("its spare serves, nothing is copied: {reason}"),
                    MoveKind::Promote | MoveKind::Demote => reason,
                }
            },
        };
        plan.moves.iter().map(row).collect()
    }
}
