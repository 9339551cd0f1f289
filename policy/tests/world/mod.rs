//! Random histories: loads, opens, closes, pins, rules, failing copies, shrinking and vanishing pools.

use std::collections::BTreeMap;

use speedloader_policy::{
    FileRef, FileState, Learned, Load, ModelId, ModelRule, ModelState, MoveKind, Params, Plan,
    PoolState, Snapshot, Strategy, TierId, Tiers, Want, WantKind,
};

use super::dice::Dice;

impl Dice {
    /// Whether something happens that does so in so many of a hundred cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// A world that plans are carried out in; sizes are small numbers so that a failure can be read.
pub struct World {
    pub snapshot: Snapshot,
    draining: BTreeMap<TierId, Vec<(FileRef, u64)>>,
    pub learned: Learned,
    pub params: Params,
}

impl World {
    pub fn new(dice: &mut Dice) -> Self {
        let mut snapshot = Snapshot {
            cold_bytes_per_sec: 1,
            ..Snapshot::default()
        };
        for id in 0..dice.below(4) {
            let capacity_bytes = dice.below(300);
            snapshot.pools.push(PoolState {
                id: TierId(id as u16),
                speed_bytes_per_sec: 1 + dice.below(10),
                capacity_bytes,
                free_bytes: capacity_bytes,
                give_back_bytes: 0,
                accepts: true,
            });
        }
        let files = 1 + dice.below(40);
        for id in 0..files {
            snapshot.files.push(FileState {
                id: FileRef(id),
                size_bytes: dice.below(60),
                place: None,
                open: false,
                busy: false,
                spare: None,
                spare_open: false,
            });
        }
        for id in 0..dice.below(20) {
            let mut own: Vec<u64> = (0..dice.below(5)).map(|_| dice.below(files)).collect();
            own.sort_unstable();
            own.dedup();
            snapshot.models.push(ModelState {
                id: ModelId(id),
                files: own.into_iter().map(FileRef).collect(),
                pin: None,
                rule: ModelRule::Normal,
                priority: 0,
                moving_to: None,
            });
        }
        let strategy = [
            Strategy::FastestFit,
            Strategy::FillFirst,
            Strategy::RoundRobin,
        ][dice.below(4).min(2) as usize];
        let params = Params {
            strategy,
            known_models_max: 16,
            ..Params::default()
        };
        let mut world = Self {
            snapshot,
            draining: BTreeMap::new(),
            learned: Learned::new(),
            params,
        };
        world.measure();
        world
    }

    /// Free room as a daemon would measure it.
    fn measure(&mut self) {
        for pool in &mut self.snapshot.pools {
            let held: u64 = self
                .snapshot
                .files
                .iter()
                .filter(|f| [f.place, f.spare].contains(&Some(pool.id)))
                .map(|f| f.size_bytes)
                .sum();
            let draining: u64 = self
                .draining
                .get(&pool.id)
                .into_iter()
                .flatten()
                .map(|&(_, bytes)| bytes)
                .sum();
            pool.free_bytes = pool.capacity_bytes.saturating_sub(held + draining);
            pool.give_back_bytes = (held + draining).saturating_sub(pool.capacity_bytes);
        }
    }

    /// Something happens.
    pub fn event(&mut self, dice: &mut Dice) {
        let models = self.snapshot.models.len() as u64;
        let pools = self.snapshot.pools.len() as u64;
        let model = dice.below(models) as usize;
        let some_pool = |dice: &mut Dice| {
            // One beyond: a pool that is not connected.
            (dice.below(3) > 0).then(|| TierId(dice.below(pools + 1) as u16))
        };
        self.snapshot.wants.clear();
        match dice.below(100) {
            _ if models == 0 => {}
            0..50 => self.load(dice, model),
            50..58 => {
                let kind = WantKind::Promote {
                    pool: some_pool(dice),
                };
                self.want(model, kind);
            }
            58..64 => {
                let kind = WantKind::Demote {
                    pool: some_pool(dice),
                };
                self.want(model, kind);
            }
            // A list of wishes, as people and restarts have them.
            64..67 => {
                let restored = dice.chance(50);
                let pool = some_pool(dice);
                let kind = match restored {
                    true => WantKind::Restore { pool },
                    false => WantKind::Promote { pool },
                };
                let count = models.min(1 + dice.below(4)) as usize;
                (model..model + count).for_each(|at| self.want(at % models as usize, kind));
            }
            67..70 => self.snapshot.models[model].pin = some_pool(dice),
            70..74 => {
                self.snapshot.models[model].rule =
                    [ModelRule::Normal, ModelRule::Always, ModelRule::Never]
                        [dice.below(3) as usize];
            }
            74..77 => self.snapshot.models[model].priority = dice.below(3) as i32 - 1,
            77..82 if pools > 0 => {
                let pool = &mut self.snapshot.pools[dice.below(pools) as usize];
                pool.capacity_bytes = dice.below(300);
            }
            82..84 if pools > 0 => {
                let pool = &mut self.snapshot.pools[dice.below(pools) as usize];
                pool.accepts = !pool.accepts;
            }
            84..86 if pools > 0 => self.lose_pool(dice),
            86..89 if pools > 0 => {
                let pool = self.snapshot.pools[dice.below(pools) as usize].id;
                (0..models as usize).for_each(|at| self.want(at, WantKind::Leave { pool }));
            }
            _ => self.use_file(dice),
        }
        self.measure();
    }

    fn want(&mut self, model: usize, kind: WantKind) {
        self.snapshot.wants.push(Want {
            model: self.snapshot.models[model].id,
            kind,
        });
    }

    fn load(&mut self, dice: &mut Dice, model: usize) {
        let state = self.snapshot.models[model].clone();
        let files = self
            .snapshot
            .files
            .iter_mut()
            .filter(|f| state.files.contains(&f.id));
        let mut bytes = 0;
        for file in files {
            bytes += file.size_bytes;
            file.open = dice.chance(80);
        }
        let load = Load {
            model: state.id,
            bytes,
            family: model as u64 % 3,
        };
        self.learned
            .observe(&self.params, &Tiers::of(&self.snapshot), load);
        self.want(model, WantKind::Loaded);
        if dice.chance(5) {
            self.want(model, WantKind::Loaded);
        }
    }

    fn use_file(&mut self, dice: &mut Dice) {
        let at = dice.below(self.snapshot.files.len() as u64) as usize;
        let file = &mut self.snapshot.files[at];
        match dice.below(5) {
            0 => file.open = true,
            1 => file.busy = !file.busy,
            2 => file.spare_open = file.spare.is_some() && dice.chance(50),
            _ => file.open = false,
        }
        if !file.open {
            for held in self.draining.values_mut() {
                held.retain(|&(id, _)| id != file.id);
            }
        }
    }

    fn lose_pool(&mut self, dice: &mut Dice) {
        let lost = self.snapshot.pools[dice.below(self.snapshot.pools.len() as u64) as usize].id;
        for file in &mut self.snapshot.files {
            if file.place == Some(lost) {
                file.place = file.spare;
            }
            if file.place.is_none() || [file.place, Some(lost)].contains(&file.spare) {
                (file.spare, file.spare_open) = (None, false);
            }
        }
        self.draining.remove(&lost);
    }

    /// Carries a plan out, or only its first moves; a model then stays "under way" for a step,
    /// and its copy ends or fails.
    pub fn carry_out(&mut self, dice: &mut Dice, plan: &Plan) {
        for model in &mut self.snapshot.models {
            if model.moving_to.take().is_some() && dice.chance(50) {
                for file in self.snapshot.files.iter_mut() {
                    file.busy &= !model.files.contains(&file.id);
                }
            }
        }
        let whole = dice.chance(80);
        for mv in &plan.moves {
            if !whole && dice.chance(15) {
                let model = self.snapshot.models.iter_mut().find(|m| m.id == mv.model);
                if let (Some(model), MoveKind::Promote) = (model, mv.kind) {
                    model.moving_to = mv.to.filter(|_| dice.chance(70));
                }
                break;
            }
            let file = self.snapshot.files.iter_mut().find(|f| f.id == mv.file);
            let file = file.expect("the checker accepted the file");
            let (in_use, place) = match mv.kind {
                MoveKind::DropSpare => (std::mem::take(&mut file.spare_open), file.place),
                _ => (file.open && !mv.keeps_spare, mv.to),
            };
            if let (Some(from), true) = (mv.from, in_use) {
                let held = self.draining.entry(from).or_default();
                held.push((file.id, file.size_bytes));
            }
            file.place = place;
            match mv.kind {
                MoveKind::FallBack => {
                    file.open = std::mem::take(&mut file.spare_open);
                    file.spare = None;
                }
                MoveKind::DropSpare => file.spare = None,
                _ if mv.keeps_spare => {
                    (file.spare, file.spare_open) = (mv.from, file.open);
                }
                _ => {}
            }
        }
        self.measure();
    }
}
