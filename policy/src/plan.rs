//! The plan: what must go first, what was asked for, what heat earns, what free room allows.
//!
//! A pure function of what is given. Models are moved whole or not at all; no move is planned
//! that is impossible when its turn comes; nothing open is dropped unless the user asked for it.

use std::collections::BTreeSet;

use crate::board::{Board, Piece};
use crate::decide::{self, Decision, Pools};
use crate::ids::{ModelId, TierId};
use crate::learned::{Learned, Load};
use crate::params::{Params, Strategy};
use crate::placement::{self, Candidate};
use crate::report::{Explanation, Finding, Outcome, Plan, Reason, Refusal, Report};
use crate::rule::{Index, Rule};
use crate::snapshot::{ModelRule, Snapshot, SnapshotFault, Tiers, Want, WantKind};

/// What to move, in order, and why. An error means that the snapshot contradicts itself, which is
/// a fault of its maker.
pub fn plan(
    params: &Params,
    learned: &Learned,
    snapshot: &Snapshot,
) -> Result<Plan, SnapshotFault> {
    if let Some(fault) = snapshot.fault() {
        return Err(fault);
    }
    let mut planner = Planner::new(params, learned, snapshot);
    planner.give_back();
    planner.obey_never();
    planner.obey_demotions();
    planner.obey_pins();
    planner.obey_always();
    planner.empty_pools();
    planner.answer_wants();
    if params.automatic && params.fill_free_room {
        planner.fill_free_room();
    }
    let report = Report {
        leader: learned.leader(),
        findings: planner.findings,
        still_owed: planner.owed,
    };
    Ok(Plan {
        moves: planner.board.into_moves(),
        report,
    })
}

struct Planner<'a> {
    params: &'a Params,
    learned: &'a Learned,
    rule: &'static Rule,
    board: Board<'a>,
    findings: Vec<Finding>,
    owed: Vec<(TierId, u64)>,
}

impl<'a> Planner<'a> {
    fn new(params: &'a Params, learned: &'a Learned, snapshot: &'a Snapshot) -> Self {
        let mut planner = Self {
            params,
            learned,
            rule: learned.rule(),
            board: Board::new(learned, snapshot),
            findings: Vec::new(),
            owed: Vec::new(),
        };
        for want in &snapshot.wants {
            if let WantKind::Leave { pool } = want.kind
                && let Some(rank) = planner.rank(pool)
            {
                planner.board.accepts[rank] = false;
            }
        }
        planner
    }

    fn found(&mut self, at: usize, outcome: Outcome) {
        let model = self.board.state(at).id;
        self.findings.push(Finding { model, outcome });
    }

    fn pool(&self, rank: usize) -> TierId {
        self.board.tiers.pools[rank].0
    }

    fn rank(&self, pool: TierId) -> Option<usize> {
        self.board
            .tiers
            .pools
            .iter()
            .position(|&(id, ..)| id == pool)
    }

    /// Pools that must shrink drop what is worth least, to a slower pool if there is room.
    fn give_back(&mut self) {
        let asked: Vec<(TierId, u64)> = self
            .board
            .snapshot
            .pools
            .iter()
            .filter(|p| p.give_back_bytes > 0)
            .map(|p| (p.id, p.give_back_bytes))
            .collect();
        for (pool, bytes) in asked {
            let Some(rank) = self.rank(pool) else {
                continue;
            };
            let reason = Reason::GivesBack(pool);
            let spared = self.board.drop_spares(rank, bytes, reason).min(bytes);
            self.board.withhold(rank, spared);
            let bytes = bytes - spared;
            if bytes == 0 {
                continue;
            }
            let free = self.board.free_bytes(rank);
            let goal = free.saturating_add(bytes).min(self.board.available_bytes(
                rank,
                self.rule.hold,
                None,
            ));
            self.board.makes_room = reason;
            let mut chosen = self
                .board
                .choose(rank, goal, self.rule.hold, None)
                .unwrap_or_default();
            decide::spares_first(&self.board, &mut chosen);
            for (piece, _) in chosen {
                let to = decide::room_below(&self.board, piece, rank);
                self.board.demote(piece, rank, to);
            }
            self.board.settle();
            let gained = self.board.free_bytes(rank).saturating_sub(free);
            if gained < bytes {
                self.owed.push((pool, bytes - gained));
            }
            self.board.withhold(rank, gained.min(bytes));
            self.board.take_displaced();
        }
    }

    /// `never` means out of the pools, unless it is pinned there or in use.
    fn obey_never(&mut self) {
        for at in 0..self.board.models() {
            let state = self.board.state(at);
            let dropped = state.rule == ModelRule::Never
                && state.pin.is_none()
                && state.moving_to.is_none()
                && self.board.bytes_of(at).1 > 0
                && !self.board.in_use(at)
                && self.board.is_held(at);
            if dropped {
                self.board.send_down(at, None, Reason::Never);
                self.found(at, Outcome::Demoted { pool: None });
            }
        }
    }

    fn obey_demotions(&mut self) {
        for want in self.board.snapshot.wants.clone() {
            let WantKind::Demote { pool } = want.kind else {
                continue;
            };
            let Some(at) = self.board.find(want.model) else {
                self.refuse_unknown(want.model);
                continue;
            };
            let outcome = self.demote(at, pool).unwrap_or_else(Outcome::Refused);
            self.found(at, outcome);
        }
    }

    fn demote(&mut self, at: usize, pool: Option<TierId>) -> Result<Outcome, Refusal> {
        let state = self.board.state(at);
        if let Some(pool) = state.moving_to {
            return Err(Refusal::UnderWay(pool));
        }
        if let Some(pin) = state.pin.filter(|&pin| Some(pin) != pool) {
            return Err(Refusal::PinnedTo(pin));
        }
        if let Some(file) = self.board.busy_replica(at) {
            return Err(Refusal::Busy(file));
        }
        if self.board.bytes_of(at).1 == 0 {
            return Err(Refusal::NotResident);
        }
        let Some(pool) = pool else {
            self.board.send_down(at, None, Reason::Requested);
            return Ok(Outcome::Demoted { pool: None });
        };
        let to = self.rank(pool).ok_or(Refusal::UnknownPool(pool))?;
        self.lower_to(at, to, Reason::Requested)
    }

    /// Takes a model that is resident in faster pools than `to` down to it.
    fn lower_to(&mut self, at: usize, to: usize, reason: Reason) -> Result<Outcome, Refusal> {
        let pool = self.pool(to);
        if !self.board.accepts[to] {
            return Err(Refusal::PoolClosed(pool));
        }
        let place = self
            .board
            .place(Piece::Model(at))
            .ok_or(Refusal::NotResident)?;
        if place >= to && self.board.bytes_above(at, to, false) == 0 {
            return Err(Refusal::NotResident);
        }
        // Also what is shared now: those it is shared with may be displaced for it.
        let bytes = self.board.room_for(at, to, true);
        self.board.makes_room = Reason::MakesRoomFor(self.board.state(at).id);
        let Some(chosen) = self.board.choose(to, bytes, self.rule.hold, Some(at)) else {
            let available_bytes = self.board.available_bytes(to, self.rule.hold, Some(at));
            return Err(Refusal::NoRoom {
                pool,
                needs_bytes: bytes,
                available_bytes,
            });
        };
        for (piece, _) in chosen {
            self.board.demote(piece, to, None);
        }
        self.board.take_displaced();
        self.board.send_down(at, Some(to), reason);
        self.board.settle();
        Ok(Outcome::Demoted { pool: Some(pool) })
    }

    /// Pinned models, those already there first so that a set too large never thrashes.
    fn obey_pins(&mut self) {
        let mut pinned: Vec<(usize, TierId)> = (0..self.board.models())
            .filter_map(|at| self.board.state(at).pin.map(|pool| (at, pool)))
            .collect();
        pinned.sort_by(|&(a, pool_a), &(b, pool_b)| {
            let there = |at, pool| self.rank(pool) == self.board.place(Piece::Model(at));
            let (sa, sb) = (self.board.state(a), self.board.state(b));
            let heat = |id| self.learned.heat(id);
            there(b, pool_b)
                .cmp(&there(a, pool_a))
                .then(sb.priority.cmp(&sa.priority))
                .then(
                    self.board
                        .bytes_of(b)
                        .1
                        .min(1)
                        .cmp(&self.board.bytes_of(a).1.min(1)),
                )
                .then(heat(sb.id).total_cmp(&heat(sa.id)))
                .then(sa.id.cmp(&sb.id))
        });
        let mut counted: BTreeSet<(usize, usize)> = BTreeSet::new();
        let mut sums = vec![0u64; self.board.count()];
        for &(at, pool) in &pinned {
            if let Some(rank) = self.rank(pool) {
                for &file in self.board.files_of(at) {
                    if counted.insert((rank, file)) {
                        sums[rank] += self.board.file_bytes(file);
                    }
                }
            }
        }
        for (at, pool) in pinned {
            match self.obey_pin(at, pool, &sums) {
                Ok(Outcome::Stays { .. }) => {}
                Ok(outcome) => self.found(at, outcome),
                Err(refusal) => self.found(at, Outcome::Refused(refusal)),
            }
        }
    }

    fn obey_pin(&mut self, at: usize, pool: TierId, sums: &[u64]) -> Result<Outcome, Refusal> {
        let rank = self.rank(pool).ok_or(Refusal::UnknownPool(pool))?;
        if let Some(under_way) = self.board.state(at).moving_to {
            return Ok(Outcome::Stays { pool: under_way });
        }
        let place = self.board.place(Piece::Model(at));
        if place.is_some_and(|p| p <= rank) {
            if self.board.bytes_above(at, rank, false) > 0 && !self.board.in_use(at) {
                return self.lower_to(at, rank, Reason::Pinned);
            }
            return Ok(Outcome::Stays { pool });
        }
        let capacity_bytes = self.board.tiers.pools[rank].2;
        self.promote(at, &[rank], Reason::Pinned)
            .map_err(|refusal| match refusal {
                Refusal::NoRoom { .. } | Refusal::TooLarge { .. }
                    if sums[rank] > capacity_bytes =>
                {
                    Refusal::PinnedSetTooLarge {
                        pool,
                        pinned_bytes: sums[rank],
                        capacity_bytes,
                    }
                }
                other => other,
            })
    }

    /// What was asked for the same model decides now: to obey both would move it twice. The next plan obeys the rule
    /// again.
    fn obey_always(&mut self) {
        let wants = &self.board.snapshot.wants;
        let asks = |want: &&Want| {
            matches!(
                want.kind,
                WantKind::Promote { .. } | WantKind::Demote { .. }
            )
        };
        let asked: BTreeSet<ModelId> = wants.iter().filter(asks).map(|want| want.model).collect();
        for at in 0..self.board.models() {
            let state = self.board.state(at);
            let wanted = state.rule == ModelRule::Always
                && !asked.contains(&state.id)
                && state.pin.is_none()
                && state.moving_to.is_none()
                && self.board.place(Piece::Model(at)).is_none();
            if wanted {
                let ranks = self.ranks();
                let outcome = self.promote(at, &ranks, Reason::Always);
                self.found(at, outcome.unwrap_or_else(Outcome::Refused));
            }
        }
    }

    /// What lies in pools that are about to go, the hottest first.
    fn empty_pools(&mut self) {
        let mut leaving = Vec::new();
        for want in &self.board.snapshot.wants {
            let WantKind::Leave { pool } = want.kind else {
                continue;
            };
            if let Some(at) = self.board.find(want.model) {
                let worth = self.learned.index(want.model, self.rule.hold);
                leaving.push((worth, at, pool));
            }
        }
        leaving.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        for (worth, at, pool) in leaving {
            let outcome = self.leave(at, pool, worth);
            self.found(at, outcome.unwrap_or_else(Outcome::Refused));
        }
    }

    /// Takes a model's files out of a pool: to their spares, into free room, or in place of models that are
    /// worth less, each of them and all together.
    fn leave(&mut self, at: usize, pool: TierId, worth: f64) -> Result<Outcome, Refusal> {
        let from = self.rank(pool).ok_or(Refusal::UnknownPool(pool))?;
        let state = self.board.state(at);
        if let Some(pool) = state.moving_to {
            return Err(Refusal::UnderWay(pool));
        }
        let place = self.board.place(Piece::Model(at));
        let place = place.ok_or(Refusal::NotResident)?;
        if !self.board.is_at(at, from) {
            let pool = self.pool(place);
            return Ok(Outcome::Stays { pool });
        }
        if let Some(pin) = self.board.pin_at(at, from) {
            return Err(Refusal::PinnedTo(pin));
        }
        if state.rule == ModelRule::Never {
            return Err(Refusal::RuleNever);
        }
        if let Some(file) = self.board.stays_at(at, from) {
            return Err(Refusal::InUse(file));
        }
        let ranks = self.ranks();
        let spare = self.board.spare_of(at).filter(|rank| ranks.contains(rank));
        let fits = |board: &Board<'_>, rank: usize| {
            board.bytes_from(at, from, rank) <= board.free_bytes(rank)
        };
        let free = spare.into_iter().chain(ranks.iter().copied());
        let free = free.into_iter().find(|&rank| fits(&self.board, rank));
        let (rank, displaces) = match free {
            Some(rank) => (rank, Vec::new()),
            None => self.displace_colder(at, from, &ranks, worth)?,
        };
        self.board.leave(at, from, rank, Reason::PoolGoes(pool));
        let pool = self.pool(rank);
        match rank < from {
            true => Ok(Outcome::Promoted { pool, displaces }),
            false => Ok(Outcome::Demoted { pool: Some(pool) }),
        }
    }

    /// Makes room for what a model has at `from` in the first of `ranks` where only what is worth less must go.
    fn displace_colder(
        &mut self,
        at: usize,
        from: usize,
        ranks: &[usize],
        worth: f64,
    ) -> Result<(usize, Vec<ModelId>), Refusal> {
        let hold = self.rule.hold;
        let mut refusal = Refusal::NoPool;
        for &rank in ranks {
            let needs_bytes = self.board.bytes_from(at, from, rank);
            let Some(mut chosen) = self.board.choose(rank, needs_bytes, hold, Some(at)) else {
                let available_bytes = self.board.available_bytes(rank, hold, Some(at));
                refusal = Refusal::NoRoom {
                    pool: self.pool(rank),
                    needs_bytes,
                    available_bytes,
                };
                continue;
            };
            let index = |&(piece, _): &(Piece, u64)| self.board.index(piece, hold);
            let lost = chosen.iter().map(|one| index(one) * one.1 as f64).sum();
            let all_worth = worth * needs_bytes as f64;
            if lost >= all_worth || chosen.iter().any(|one| index(one) >= worth) {
                refusal = Refusal::NotWorth {
                    pool: self.pool(rank),
                    worth: all_worth,
                    lost,
                };
                continue;
            }
            self.board.makes_room = Reason::MakesRoomFor(self.board.state(at).id);
            decide::spares_first(&self.board, &mut chosen);
            for (victim, _) in chosen {
                let to = decide::room_below(&self.board, victim, rank);
                self.board.demote(victim, rank, to);
            }
            return Ok((rank, self.board.take_displaced()));
        }
        Err(refusal)
    }

    fn answer_wants(&mut self) {
        for want in self.board.snapshot.wants.clone() {
            let Some(at) = self.board.find(want.model) else {
                if !matches!(want.kind, WantKind::Demote { .. }) {
                    self.refuse_unknown(want.model);
                }
                continue;
            };
            let outcome = match want.kind {
                WantKind::Demote { .. } | WantKind::Leave { .. } => continue,
                WantKind::Loaded => self.loaded(at),
                WantKind::Restore { pool } => self.restored(at, pool),
                WantKind::Promote { pool } => {
                    let outcome = self.requested(at, pool);
                    if outcome.is_ok() {
                        self.board.keep(at);
                    }
                    outcome
                }
            };
            self.found(at, outcome.unwrap_or_else(Outcome::Refused));
        }
    }

    fn refuse_unknown(&mut self, model: ModelId) {
        self.findings.push(Finding {
            model,
            outcome: Outcome::Refused(Refusal::UnknownModel),
        });
    }

    fn requested(&mut self, at: usize, pool: Option<TierId>) -> Result<Outcome, Refusal> {
        let state = self.board.state(at);
        if let Some(to) = state.moving_to {
            // A pin is obeyed when it has arrived.
            let elsewhere = pool.is_some_and(|pool| pool != to && state.pin != Some(pool));
            let busy = elsewhere.then(|| self.board.busy_replica(at)).flatten();
            return Err(busy.map_or(Refusal::UnderWay(to), Refusal::Busy));
        }
        if let Some(pin) = state.pin.filter(|&pin| pool.is_some_and(|p| p != pin)) {
            return Err(Refusal::PinnedTo(pin));
        }
        let place = self.board.place(Piece::Model(at));
        let Some(pool) = pool.or(state.pin) else {
            let ranks = self.ranks();
            let better = self.params.strategy == Strategy::FastestFit;
            if let Some(held) = place.filter(|&p| !better || ranks.iter().all(|&r| r >= p)) {
                return Ok(Outcome::Stays {
                    pool: self.pool(held),
                });
            }
            let faster: Vec<_> = ranks
                .into_iter()
                .filter(|&r| place.is_none_or(|p| r < p))
                .collect();
            return self.promote(at, &faster, Reason::Requested);
        };
        let rank = self.rank(pool).ok_or(Refusal::UnknownPool(pool))?;
        if place.is_some_and(|p| p < rank) && state.pin.is_none() {
            return self.lower_to(at, rank, Reason::Requested);
        }
        if place.is_some_and(|p| p <= rank) {
            return Ok(Outcome::Stays { pool });
        }
        self.promote(at, &[rank], Reason::Requested)
    }

    /// What was resident before a restart comes back into free room only: what has been loaded since
    /// is newer evidence.
    fn restored(&mut self, at: usize, pool: Option<TierId>) -> Result<Outcome, Refusal> {
        let state = self.board.state(at);
        if let Some(pool) = state.moving_to {
            return Err(Refusal::UnderWay(pool));
        }
        if state.rule == ModelRule::Never && state.pin.is_none() {
            return Err(Refusal::RuleNever);
        }
        if self.board.files_of(at).is_empty() {
            return Err(Refusal::NoFiles);
        }
        let piece = Piece::Model(at);
        if let Some(held) = self.board.place(piece) {
            let pool = self.pool(held);
            return Ok(Outcome::Stays { pool });
        }
        let mut ranks = self.ranks();
        if let Some(pin) = state.pin {
            ranks.retain(|&rank| self.pool(rank) == pin);
        }
        let before = pool.and_then(|pool| self.rank(pool));
        ranks.sort_by_key(|&rank| Some(rank) != before);
        if ranks.is_empty() {
            return Err(Refusal::NoPool);
        }
        if let Some(file) = ranks.iter().find_map(|&r| self.board.busy_file(at, r)) {
            return Err(Refusal::Busy(file));
        }
        self.board.begin(at);
        let has_room =
            |&&rank: &&usize| self.board.need_bytes(piece, rank) <= self.board.free_bytes(rank);
        let found = ranks.iter().find(has_room).copied();
        if let Some(rank) = found {
            self.board.reason = Reason::Restored;
            self.board.put(piece, rank);
        }
        self.board.end(at);
        match found {
            Some(rank) => Ok(Outcome::Promoted {
                pool: self.pool(rank),
                displaces: Vec::new(),
            }),
            None => Err(self.no_free_room(at, &ranks)),
        }
    }

    /// Why what may displace nothing fits into none of `ranks`.
    fn no_free_room(&self, at: usize, ranks: &[usize]) -> Refusal {
        let needs = |rank: usize| self.board.need_bytes(Piece::Model(at), rank);
        let free = |rank: usize| self.board.free_bytes(rank);
        let missing = |rank: usize| needs(rank).saturating_sub(free(rank));
        let Some(rank) = ranks.iter().copied().min_by_key(|&rank| missing(rank)) else {
            return Refusal::NoPool;
        };
        Refusal::NoRoom {
            pool: self.pool(rank),
            needs_bytes: needs(rank),
            available_bytes: free(rank),
        }
    }

    /// Pools that take something, in the order of the strategy.
    fn ranks(&self) -> Vec<usize> {
        let even = self.params.strategy == Strategy::RoundRobin;
        let candidates = (0..self.board.count())
            .filter(|&rank| self.board.accepts[rank])
            .map(|rank| Candidate {
                rank,
                configured: self.board.configured[rank],
                models: if even { self.board.models_at(rank) } else { 0 },
            })
            .collect();
        placement::order(self.params.strategy, candidates)
    }

    /// Puts a model into the first of `ranks` with free room, else the first where enough may be
    /// displaced, whatever it is worth.
    fn promote(&mut self, at: usize, ranks: &[usize], reason: Reason) -> Result<Outcome, Refusal> {
        if self.board.files_of(at).is_empty() {
            return Err(Refusal::NoFiles);
        }
        self.board.begin(at);
        let result = self.try_promote(at, ranks, reason);
        self.board.end(at);
        result
    }

    fn try_promote(
        &mut self,
        at: usize,
        ranks: &[usize],
        reason: Reason,
    ) -> Result<Outcome, Refusal> {
        let open: Vec<usize> = ranks
            .iter()
            .copied()
            .filter(|&r| self.board.accepts[r])
            .collect();
        match (ranks.first(), open.first()) {
            (None, _) => return Err(Refusal::NoPool),
            (Some(&rank), None) => return Err(Refusal::PoolClosed(self.pool(rank))),
            _ => {}
        }
        if let Some(file) = open.iter().find_map(|&rank| self.board.busy_file(at, rank)) {
            return Err(Refusal::Busy(file));
        }
        let piece = Piece::Model(at);
        self.board.reason = reason;
        self.board.makes_room = Reason::MakesRoomFor(self.board.state(at).id);
        let fits = |board: &Board<'_>, rank: usize| {
            board.need_bytes(piece, rank) <= board.free_bytes(rank)
        };
        if let Some(&rank) = open.iter().find(|&&rank| fits(&self.board, rank)) {
            self.board.put(piece, rank);
            return Ok(Outcome::Promoted {
                pool: self.pool(rank),
                displaces: Vec::new(),
            });
        }
        for &rank in &open {
            let need_bytes = self.board.need_bytes(piece, rank);
            let Some(mut chosen) = self
                .board
                .choose(rank, need_bytes, self.rule.hold, Some(at))
            else {
                continue;
            };
            decide::spares_first(&self.board, &mut chosen);
            for (victim, _) in chosen {
                let to = decide::room_below(&self.board, victim, rank);
                self.board.demote(victim, rank, to);
            }
            self.board.put(piece, rank);
            let displaces = self.board.take_displaced();
            return Ok(Outcome::Promoted {
                pool: self.pool(rank),
                displaces,
            });
        }
        let bytes = self.board.bytes_of(at).0;
        Err(self.no_room(at, &open, bytes))
    }

    /// Why none of `ranks` can take the model, with figures.
    fn no_room(&mut self, at: usize, ranks: &[usize], bytes: u64) -> Refusal {
        let capacity = |board: &Board<'_>, rank: usize| board.tiers.pools[rank].2;
        let largest_bytes = ranks
            .iter()
            .map(|&rank| capacity(&self.board, rank))
            .max()
            .unwrap_or(0);
        if bytes > largest_bytes {
            return Refusal::TooLarge {
                needs_bytes: bytes,
                largest_bytes,
            };
        }
        let mut best: Option<(u64, usize, u64, u64)> = None;
        for &rank in ranks {
            let needs = self.board.need_bytes(Piece::Model(at), rank);
            if needs > capacity(&self.board, rank) {
                continue;
            }
            let available = self.board.available_bytes(rank, self.rule.hold, Some(at));
            let missing = needs.saturating_sub(available);
            if best.is_none_or(|(least, ..)| missing < least) {
                best = Some((missing, rank, needs, available));
            }
        }
        let Some((_, rank, needs_bytes, available_bytes)) = best else {
            return Refusal::NoPool;
        };
        Refusal::NoRoom {
            pool: self.pool(rank),
            needs_bytes,
            available_bytes,
        }
    }

    /// A model is being loaded: the leading expert's rule decides.
    fn loaded(&mut self, at: usize) -> Result<Outcome, Refusal> {
        let state = self.board.state(at);
        if let Some(pool) = state.moving_to {
            return Err(Refusal::UnderWay(pool));
        }
        if state.rule == ModelRule::Never {
            return Err(Refusal::RuleNever);
        }
        if !self.params.automatic {
            return Err(Refusal::PolicyOff);
        }
        if self.board.files_of(at).is_empty() {
            return Err(Refusal::NoFiles);
        }
        if state.pin.is_some() {
            return self.requested(at, None);
        }
        let place = self.board.place(Piece::Model(at));
        if let (None, Some(file)) = (place, self.board.busy_file(at, 0)) {
            return Err(Refusal::Busy(file));
        }
        if let Some(rank) = place.filter(|&rank| self.board.busy_file(at, 0).is_some() && rank > 0)
        {
            return Ok(Outcome::Stays {
                pool: self.pool(rank),
            });
        }
        self.board.begin(at);
        let result = self.apply_rule(at);
        self.board.end(at);
        result
    }

    fn apply_rule(&mut self, at: usize) -> Result<Outcome, Refusal> {
        let piece = Piece::Model(at);
        let model = self.board.state(at).id;
        self.board.makes_room = Reason::MakesRoomFor(model);
        self.board.reason = Reason::Loaded {
            worth: 0.0,
            lost: 0.0,
            displaces: false,
        };
        let decision = if self.params.strategy == Strategy::FastestFit {
            decide::open(&mut self.board, self.rule, piece)
        } else {
            self.open_without_split(piece)
        };
        let displaces = self.board.take_displaced();
        if let Decision::Placed { worth, lost, .. } = decision {
            let displaces = !displaces.is_empty();
            let reason = Reason::Loaded {
                worth,
                lost,
                displaces,
            };
            self.board.explain_moves(model, reason);
        }
        match decision {
            Decision::Stays => {
                let held = self.board.place(piece).ok_or(Refusal::NoPool)?;
                Ok(Outcome::Stays {
                    pool: self.pool(held),
                })
            }
            Decision::Placed { rank, .. } => Ok(Outcome::Promoted {
                pool: self.pool(rank),
                displaces,
            }),
            Decision::NotWorth { rank, worth, lost } => Err(Refusal::NotWorth {
                pool: self.pool(rank),
                worth,
                lost,
            }),
            Decision::DoesNotFit => {
                let ranks = self.ranks();
                let bytes = self.board.bytes_of(at).0;
                Err(if ranks.is_empty() {
                    Refusal::NoPool
                } else {
                    self.no_room(at, &ranks, bytes)
                })
            }
        }
    }

    /// The strategies that do not split by heat: a pool with free room in their order, else the
    /// pool where least is lost; what is resident stays.
    fn open_without_split(&mut self, piece: Piece) -> Decision {
        if self.board.place(piece).is_some() {
            return Decision::Stays;
        }
        let fits = |board: &Board<'_>, rank: usize| {
            board.can_hold(piece, rank) && board.need_bytes(piece, rank) <= board.free_bytes(rank)
        };
        if let Some(rank) = self
            .ranks()
            .into_iter()
            .find(|&rank| fits(&self.board, rank))
        {
            self.board.put(piece, rank);
            return Decision::Placed {
                rank,
                worth: 0.0,
                lost: 0.0,
            };
        }
        let hold = self.rule.hold;
        let Some((rank, lost, chosen)) = decide::cheapest_pool(&mut self.board, hold, piece) else {
            return Decision::DoesNotFit;
        };
        let worth = self.board.index(piece, hold) * self.board.need_bytes(piece, rank) as f64;
        if worth <= lost && !self.rule.always {
            return Decision::NotWorth { rank, worth, lost };
        }
        for (victim, _) in chosen {
            self.board.demote(victim, rank, None);
        }
        self.board.put(piece, rank);
        Decision::Placed { rank, worth, lost }
    }

    /// What is hottest of what is not in the fastest pool, into free room only.
    fn fill_free_room(&mut self) {
        if (0..self.board.count()).all(|rank| self.board.free_bytes(rank) == 0) {
            return;
        }
        let mut hot: Vec<(f64, usize)> = (0..self.board.models())
            .filter(|&at| {
                let state = self.board.state(at);
                state.rule != ModelRule::Never
                    && state.pin.is_none()
                    && state.moving_to.is_none()
                    && !self.learned.is_set_aside(state.id)
            })
            .map(|at| {
                (
                    self.learned
                        .index(self.board.state(at).id, Index::HeatMedium),
                    at,
                )
            })
            .filter(|&(heat, _)| heat >= self.params.fill_heat_min && heat > 0.0)
            .collect();
        hot.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let split = self.params.strategy == Strategy::FastestFit;
        let ranks = if hot.is_empty() {
            Vec::new()
        } else {
            self.ranks()
        };
        let mut filled = 0;
        for (heat, at) in hot {
            if filled >= self.params.fill_models_max.max(1) {
                break;
            }
            let piece = Piece::Model(at);
            let place = self.board.place(piece);
            let secs = self.board.secs_per_byte(place);
            let earns = |board: &Board<'_>, rank: usize| {
                let gain = secs - board.secs_per_byte(Some(rank));
                gain > 0.0 && heat * gain >= self.params.fill_heat_min * secs
            };
            let room = ranks.iter().copied().find(|&rank| {
                (place.is_none() || split && place.is_some_and(|p| rank < p))
                    && self.board.need_bytes(piece, rank) > 0
                    && self.board.need_bytes(piece, rank) <= self.board.free_bytes(rank)
                    && self.board.busy_file(at, rank).is_none()
                    && earns(&self.board, rank)
            });
            if let Some(rank) = room {
                self.board.reason = Reason::FillsFreeRoom { heat };
                self.board.begin(at);
                self.board.put(piece, rank);
                self.board.end(at);
                let pool = self.pool(rank);
                self.found(
                    at,
                    Outcome::Promoted {
                        pool,
                        displaces: Vec::new(),
                    },
                );
                filled += 1;
            }
        }
    }
}

/// More loads in a row than this are not tried out.
const LOADS_TRIED_MAX: u32 = 64;

/// Everything there is to say about one model; `None` if it is not in the snapshot.
///
/// Tries out what further loads would change on a copy of what was learned, so it is not meant
/// for every model at every moment.
pub fn explain(
    params: &Params,
    learned: &Learned,
    snapshot: &Snapshot,
    model: ModelId,
) -> Result<Option<Explanation>, SnapshotFault> {
    if let Some(fault) = snapshot.fault() {
        return Err(fault);
    }
    let board = Board::new(learned, snapshot);
    let Some(at) = board.find(model) else {
        return Ok(None);
    };
    let place = board.place(Piece::Model(at));
    let (bytes, resident_bytes) = board.bytes_of(at);
    let hold = learned.rule().hold;
    let mine = learned.index(model, hold);
    let hotter = snapshot
        .models
        .iter()
        .filter(|m| learned.index(m.id, hold) > mine)
        .count();
    let tiers = Tiers::of(snapshot);
    let load = Load {
        model,
        bytes,
        family: 0,
    };
    let mut tried = learned.clone();
    let mut if_loaded = None;
    let mut loads_needed = place.map(|_| 0);
    for loads in 1..=LOADS_TRIED_MAX {
        tried.observe(params, &tiers, load);
        let outcome = Planner::new(params, &tried, snapshot)
            .loaded(at)
            .unwrap_or_else(Outcome::Refused);
        let again = matches!(outcome, Outcome::Refused(Refusal::NotWorth { .. }));
        if matches!(outcome, Outcome::Promoted { .. } | Outcome::Stays { .. }) {
            loads_needed = loads_needed.or(Some(loads));
        }
        if_loaded = if_loaded.or(Some(outcome));
        if loads_needed.is_some() || !again {
            break;
        }
    }
    Ok(Some(Explanation {
        model,
        place: place.map(|rank| tiers.pools[rank].0),
        spare: board.spare_of(at).map(|rank| tiers.pools[rank].0),
        bytes,
        resident_bytes,
        heat: learned.heat(model),
        rank: hotter + 1,
        models: snapshot.models.len(),
        loads_since: learned.loads_since(model),
        expert: learned.leader(),
        if_loaded: if_loaded.unwrap_or(Outcome::Refused(Refusal::NoPool)),
        loads_needed,
    }))
}
