//! A pool that is about to be disconnected: nothing new is put into it, what other pools have room for is moved
//! there by plan, and its readers are named, waited for, or left behind with what they have.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use speedloader_fs::file::HomeFile;
use speedloader_fs::ids::{FileId, PoolId};
use speedloader_fs::pool::Pool;
use speedloader_policy::{Outcome, Refusal, TierId, Want, WantKind};

use super::cause::Cause;
use super::moves::Subject;
use super::pause::Pause;
use super::{Coordinator, Errand};
use crate::command::{Code, Message};
use crate::control::Peer;
use crate::machine;
use crate::view::human::escape;
use crate::view::{
    DoneView, MoveView, Outcome as Moved, PlanView, PlannedView, TransfersView, View,
};

/// So many files are named where there are more.
const NAMED_MAX: usize = 5;
/// How often it is looked again who reads what is still read.
const NAME_INTERVAL: Duration = Duration::from_secs(2);

/// How a pool is disconnected.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Parting {
    /// Readers go on with what they have, and nobody waits for them.
    pub force: bool,
    /// Readers are waited for. With neither they are a reason to refuse.
    pub wait: bool,
    /// All that is in it goes back to its home, also what others would have room for.
    pub no_move: bool,
}

/// While this is there nothing new is put into a pool.
pub(super) struct Leaving<'a> {
    coordinator: &'a Coordinator,
    pool: PoolId,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.coordinator.lock_leaving().remove(&self.pool);
    }
}

impl Coordinator {
    /// Whether the pool is about to be disconnected.
    pub(super) fn is_leaving(&self, pool: PoolId) -> bool {
        self.lock_leaving().contains(&pool)
    }

    /// From now on nothing new is put into the pool, until what comes back is dropped.
    pub(super) fn begin_leaving(&self, pool: &Pool) -> Result<Leaving<'_>, Message> {
        if !self.lock_leaving().insert(pool.id()) {
            let text = format!("{} is being disconnected already", pool.name());
            return Err(Message::new(Code::Busy, text));
        }
        Ok(Leaving {
            coordinator: self,
            pool: pool.id(),
        })
    }

    /// Makes a pool ready to be disconnected: what fits elsewhere has moved, and nobody reads from it, or they are
    /// not to be minded. Gives what was moved.
    pub(super) fn empty(
        &self,
        peer: &Peer,
        pool: &Arc<Pool>,
        how: Parting,
        progress: &mut dyn FnMut(View),
    ) -> Result<Vec<MoveView>, Message> {
        let is_refused = !how.force && !how.wait;
        if is_refused {
            // Copies of ours are over when what fits has moved.
            self.refuse_if_read(pool, how.no_move)?;
        }
        // What is on its way there would only be thrown away.
        self.cancel_into(pool.id());
        let mut moved = Vec::new();
        loop {
            if !how.no_move {
                moved.extend(self.move_out(peer, pool, progress)?);
            }
            if is_refused {
                self.refuse_if_read(pool, true)?;
            }
            // What was read until now may move, too.
            if is_refused || how.force || !self.wait_for_readers(peer, pool, progress)? {
                return Ok(moved);
            }
        }
    }

    fn leave_wants(subjects: &[Subject], pool: PoolId) -> Vec<Want> {
        let pool = TierId(pool.0);
        let want = |subject: &Subject| Want {
            model: subject.id,
            kind: WantKind::Leave { pool },
        };
        subjects.iter().map(want).collect()
    }

    /// Moves what other pools have room for, and waits for it.
    fn move_out(
        &self,
        peer: &Peer,
        pool: &Arc<Pool>,
        progress: &mut dyn FnMut(View),
    ) -> Result<Vec<MoveView>, Message> {
        let subjects = self.subjects_in(pool.id());
        let wants = Self::leave_wants(&subjects, pool.id());
        let carried = self.plan_and_move(&subjects, wants, Cause::Request)?;
        let mut pause = Pause::new(self, peer, None);
        loop {
            let (transfers, files) = self.copies_from(pool.id());
            if transfers.is_empty() {
                break;
            }
            if let Some(mover) = self.mover.get() {
                files.iter().for_each(|file| mover.hurry(*file));
            }
            let mut views = self.transfer_views();
            views.retain(|view| transfers.contains(&view.id));
            progress(View::Transfers(TransfersView { transfers: views }));
            pause.next("")?;
        }
        let row = |subject: &Subject| {
            let to = match carried.outcomes.get(&subject.id)? {
                Outcome::Promoted { pool, .. } | Outcome::Demoted { pool: Some(pool) } => *pool,
                _ => return None,
            };
            // A copy that failed leaves it where it was.
            let is_there = |file: &Arc<HomeFile>| {
                let serving = file.with_live(|live| Some(live.replicas.first()?.pool().id()));
                serving.is_some_and(|serving| serving != pool.id())
            };
            let arrived = subject.files.iter().all(is_there);
            arrived.then(|| MoveView {
                name: escape(subject.name.as_bytes()),
                outcome: Moved::Done,
                pool: self.pool_name(PoolId(to.0)),
                files: subject.files.len() as u64,
                bytes: subject.bytes(),
                text: format!("moved from {}", pool.name()),
            })
        };
        Ok(subjects.iter().filter_map(row).collect())
    }

    /// Copies of ours that empty the pool, or read from it for another reason, and their files.
    fn copies_from(&self, pool: PoolId) -> (HashSet<u64>, Vec<FileId>) {
        let moves = self.lock_moves();
        let here =
            |errand: &Errand| errand.leaves == Some(pool) || errand.origin.pool() == Some(pool);
        let errands = moves.errands.iter().filter(|(_, errand)| here(errand));
        errands.map(|(id, errand)| (id.0, errand.file.id)).unzip()
    }

    /// What would become of what the pool holds.
    pub(super) fn tier_moves(&self, name: &str) -> Result<View, Message> {
        let pool = self.pool_named(name)?;
        let subjects = self.subjects_in(pool.id());
        let wants = Self::leave_wants(&subjects, pool.id());
        let (plan, names) = self.dry_plan_for(&subjects, wants)?;
        let mut moves = self.planned_views(&plan, &names);
        for subject in &subjects {
            if plan.moves.iter().any(|step| step.model == subject.id) {
                continue;
            }
            let mut findings = plan.report.findings.iter();
            let found = findings.find(|finding| finding.model == subject.id);
            let why = match found.map(|finding| &finding.outcome) {
                Some(Outcome::Refused(refusal)) => self.why_home(refusal),
                // What it shares with another model moves with that.
                Some(_) => continue,
                None => String::new(),
            };
            moves.push(PlannedView {
                model: escape(subject.name.as_bytes()),
                from: name.to_owned(),
                to: "home".to_owned(),
                bytes: subject.bytes(),
                planned: true,
                why,
            });
        }
        Ok(View::Plan(PlanView { moves }))
    }

    /// Why something goes back to its home when its pool goes.
    fn why_home(&self, refusal: &Refusal) -> String {
        match refusal {
            Refusal::NoPool => "there is no other pool".to_owned(),
            Refusal::NotResident => "it is not resident as a whole".to_owned(),
            Refusal::NotWorth { pool, .. } => {
                let pool = self.pool_name(PoolId(pool.0));
                format!("{pool} has room only in place of what is as hot")
            }
            other => self.why_not(other).0,
        }
    }

    /// Waits until nobody reads from the pool; whether that took any waiting.
    fn wait_for_readers(
        &self,
        peer: &Peer,
        pool: &Arc<Pool>,
        progress: &mut dyn FnMut(View),
    ) -> Result<bool, Message> {
        let mut pause = Pause::new(self, peer, None);
        let mut told: Option<(usize, Instant)> = None;
        loop {
            let read = self.read_in(pool.id());
            if read.is_empty() || self.pool(pool.id()).is_none() {
                return Ok(told.is_some());
            }
            let is_news =
                told.is_none_or(|(count, at)| count != read.len() || at.elapsed() >= NAME_INTERVAL);
            if is_news {
                told = Some((read.len(), Instant::now()));
                let text = format!("waits for {}", self.named_with_readers(&read, pool.id()));
                progress(View::Done(DoneView { text }));
            }
            pause.next("")?;
        }
    }

    /// Waits until the last copy into the pool has ended and the last reader of what was dropped from it has let go.
    pub(super) fn wait_drained(&self, peer: &Peer, pool: &Pool) -> Result<(), Message> {
        let mut pause = Pause::new(self, peer, None);
        loop {
            self.drainer.check_now();
            if !pool.is_held() {
                return Ok(());
            }
            pause.next("")?;
        }
    }

    /// Refuses to take a pool away from who reads from it; copies of ours count if they are `counted`.
    pub(super) fn refuse_if_read(&self, pool: &Arc<Pool>, counted: bool) -> Result<(), Message> {
        let mut read = self.read_in(pool.id());
        read.retain(|file| counted || !self.is_copied_from(file, pool.id()));
        if read.is_empty() {
            return Ok(());
        }
        let named = self.named_with_readers(&read, pool.id());
        let pool = pool.name();
        let text = match read.len() {
            1 => format!("{pool}: one of its replicas is being read: {named}"),
            number => format!("{pool}: {number} of its replicas are being read: {named}"),
        };
        Err(Message::new(Code::Busy, text).with_hint(
            "end the engines that use them, or `--wait` for it, or `--force`: readers keep what they have, and \
             the memory is free when they let go",
        ))
    }

    /// Files whose replicas in the pool are being read.
    fn read_in(&self, pool: PoolId) -> Vec<Arc<HomeFile>> {
        let mut files = self.files_in(pool);
        files.retain(|file| self.is_in_use(file, pool));
        files
    }

    /// Some of the files by name, each with the processes that have it.
    fn named_with_readers(&self, files: &[Arc<HomeFile>], pool: PoolId) -> String {
        let processes = machine::processes();
        let named = files.iter().take(NAMED_MAX).map(|file| {
            let path = self.shown_path(file);
            let suffix = format!("/{path}");
            let has = |process: &&u32| {
                machine::has_open(**process, &suffix) || self.is_mapped(file, **process)
            };
            let users = processes.iter().filter(has);
            let mut users: Vec<String> = users
                .filter_map(|process| Some(format!("{} {process}", machine::command_of(*process)?)))
                .collect();
            if self.is_copied_from(file, pool) {
                users.push("copied to another pool".to_owned());
            }
            match users.is_empty() {
                true => path,
                false => format!("{path} ({})", users.join(", ")),
            }
        });
        let mut named: Vec<String> = named.collect();
        if files.len() > NAMED_MAX {
            named.push(format!("{} more", files.len() - NAMED_MAX));
        }
        named.join(", ")
    }

    /// Whether a copy of ours reads the file's replica in the pool.
    fn is_copied_from(&self, file: &HomeFile, pool: PoolId) -> bool {
        let moves = self.lock_moves();
        let mut errands = moves.errands.values();
        errands.any(|errand| errand.file.id == file.id && errand.origin.pool() == Some(pool))
    }
}
