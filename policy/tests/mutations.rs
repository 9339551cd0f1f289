//! The checker notices: right plans of random histories are spoilt in one way at a time, each must give the one
//! note that says so. A note that never fires in any test might as well not be there.

mod dice;
mod world;

use speedloader_policy::{
    FileRef, ModelId, ModelRule, ModelState, Move, MoveKind, NoteKind, Plan, Reason, Snapshot,
    TierId, WantKind, check, plan,
};

use dice::Dice;
use world::World;

/// A world and the plan for it.
struct Case {
    snapshot: Snapshot,
    plan: Plan,
}

impl Case {
    /// The first move that is so, its position and the move.
    fn find(&self, wanted: impl Fn(&Move) -> bool) -> Option<(usize, Move)> {
        let mut moves = self.plan.moves.iter().enumerate();
        let found = moves.find(|(_, mv)| wanted(mv));
        found.map(|(at, mv)| (at, mv.clone()))
    }

    /// The first promotion of something from the home.
    fn promotion(&self) -> Option<(usize, Move)> {
        self.find(|mv| mv.kind == MoveKind::Promote && mv.from.is_none() && mv.bytes > 0)
    }

    /// The first file that is dropped from a pool.
    fn drop(&self) -> Option<(usize, Move)> {
        self.find(|mv| mv.kind == MoveKind::Demote && mv.to.is_none() && mv.bytes > 0)
    }

    /// The first move to make room for another model, and that model.
    fn displaced(&self) -> Option<(Move, ModelId)> {
        let makes_room = |mv: &Move| matches!(mv.reason, Reason::MakesRoomFor(_));
        let (_, mv) = self.find(|mv| makes_room(mv) && mv.kind != MoveKind::DropSpare)?;
        let Reason::MakesRoomFor(by) = mv.reason else {
            return None;
        };
        Some((mv, by))
    }

    fn model(&mut self, id: ModelId) -> Option<&mut ModelState> {
        self.snapshot.models.iter_mut().find(|model| model.id == id)
    }

    fn edit(&mut self, file: FileRef, change: impl Fn(&mut speedloader_policy::FileState)) {
        let mut files = self.snapshot.files.iter_mut();
        files.find(|known| known.id == file).map(change);
    }
}

/// Spoils a right plan, or the world it was made for; what must be noted. `None`: there is nothing to spoil so.
type Mutation = fn(&mut Case) -> Option<NoteKind>;

fn unknown_file(case: &mut Case) -> Option<NoteKind> {
    let (at, mut mv) = case.promotion()?;
    mv.file = FileRef(9999);
    case.plan.moves.insert(at, mv.clone());
    Some(NoteKind::UnknownFile(mv.file))
}

fn unknown_model(case: &mut Case) -> Option<NoteKind> {
    let (at, mv) = case.promotion()?;
    case.plan.moves[at].model = ModelId(9999);
    Some(NoteKind::UnknownModel(ModelId(9999), mv.file))
}

fn unknown_pool(case: &mut Case) -> Option<NoteKind> {
    let (at, mv) = case.drop()?;
    case.plan.moves[at].to = Some(TierId(99));
    case.edit(mv.file, |file| file.size_bytes = 0);
    case.plan.moves[at].bytes = 0;
    Some(NoteKind::UnknownPool(TierId(99)))
}

fn wrong_place(case: &mut Case) -> Option<NoteKind> {
    let (at, mv) = case.promotion()?;
    let to = case.snapshot.pools.iter().find(|p| Some(p.id) == mv.to)?;
    let speed = to.speed_bytes_per_sec;
    let mut pools = case.snapshot.pools.iter();
    let slower = pools.find(|p| p.speed_bytes_per_sec < speed)?.id;
    case.plan.moves[at].from = Some(slower);
    Some(NoteKind::WrongPlace(mv.file))
}

fn wrong_size(case: &mut Case) -> Option<NoteKind> {
    let (at, mv) = case.find(|mv| mv.kind != MoveKind::DropSpare)?;
    case.plan.moves[at].bytes += 1;
    Some(NoteKind::WrongSize(mv.file))
}

fn up_as_down(case: &mut Case) -> Option<NoteKind> {
    let (at, mv) = case.promotion()?;
    case.plan.moves[at].kind = MoveKind::Demote;
    Some(NoteKind::WrongDirection(mv.file))
}

fn no_room(case: &mut Case) -> Option<NoteKind> {
    let (_, mv) = case.promotion()?;
    let mut pools = case.snapshot.pools.iter_mut();
    let pool = pools.find(|p| Some(p.id) == mv.to)?;
    pool.free_bytes = 0;
    let notes = check(&case.snapshot, &case.plan).into_iter();
    let mut kinds = notes.map(|note| note.kind);
    // Where what leaves before is enough there was nothing to spoil.
    kinds.find(|kind| matches!(kind, NoteKind::OverCapacity(..)))
}

/// The room is there only once the move after it is done.
fn too_early(case: &mut Case) -> Option<NoteKind> {
    let (at, dropped) = case.drop()?;
    let comes = case
        .promotion()
        .filter(|(after, mv)| *after > at && mv.to == dropped.from);
    let (after, mv) = comes?;
    let mv_again = case.plan.moves.remove(after);
    case.plan.moves.insert(at, mv_again);
    let mut pools = case.snapshot.pools.iter();
    let free = pools.find(|p| Some(p.id) == mv.to)?.free_bytes;
    let missing = mv.bytes.checked_sub(free).filter(|missing| *missing > 0)?;
    Some(NoteKind::OverCapacity(mv.to?, missing))
}

fn closed(case: &mut Case) -> Option<NoteKind> {
    let (_, mv) = case.promotion()?;
    let mut pools = case.snapshot.pools.iter_mut();
    pools.find(|p| Some(p.id) == mv.to)?.accepts = false;
    Some(NoteKind::PoolClosed(mv.to?))
}

fn busy(case: &mut Case) -> Option<NoteKind> {
    let (_, mv) = case.promotion()?;
    case.edit(mv.file, |file| file.busy = true);
    Some(NoteKind::Busy(mv.file))
}

fn in_use(case: &mut Case) -> Option<NoteKind> {
    let (_, mv) = case.drop()?;
    case.edit(mv.file, |file| file.open = true);
    Some(NoteKind::InUse(mv.file))
}

fn pin_lost(case: &mut Case) -> Option<NoteKind> {
    let (_, mv) = case.drop()?;
    let pool = mv.from?;
    case.model(mv.model)?.pin = Some(pool);
    Some(NoteKind::PinBroken(mv.model, pool))
}

/// Pinned, not resident, and promoted to another pool: that passed.
fn pinned_elsewhere(case: &mut Case) -> Option<NoteKind> {
    let (_, mv) = case.promotion()?;
    let mut pools = case.snapshot.pools.iter();
    let pool = pools.find(|p| Some(p.id) != mv.to)?.id;
    case.model(mv.model)?.pin = Some(pool);
    Some(NoteKind::PinBroken(mv.model, pool))
}

fn always_dropped(case: &mut Case) -> Option<NoteKind> {
    let (_, mv) = case.drop()?;
    case.model(mv.model)?.rule = ModelRule::Always;
    Some(NoteKind::AlwaysDropped(mv.model))
}

fn never_promoted(case: &mut Case) -> Option<NoteKind> {
    let (_, mv) = case.promotion()?;
    case.model(mv.model)?.rule = ModelRule::Never;
    Some(NoteKind::NeverPromoted(mv.model))
}

fn half(case: &mut Case) -> Option<NoteKind> {
    let (at, mv) = case.promotion()?;
    let next = case.plan.moves.get(at + 1)?;
    if (next.kind, next.model) != (mv.kind, mv.model) {
        return None;
    }
    case.plan.moves.remove(at);
    Some(NoteKind::Half(mv.model))
}

fn under_way(case: &mut Case) -> Option<NoteKind> {
    let (_, mv) = case.promotion()?;
    case.model(mv.model)?.moving_to = mv.to;
    Some(NoteKind::UnderWay(mv.model))
}

/// Nothing is given back, and the plan says that nothing could be: that was believed.
fn nothing_given_back(case: &mut Case) -> Option<NoteKind> {
    let mut pools = case.snapshot.pools.iter();
    let asked = pools.find(|p| p.give_back_bytes > 0 && p.free_bytes == 0)?;
    let (pool, bytes) = (asked.id, asked.give_back_bytes);
    let gave = |mv: &Move| mv.reason == Reason::GivesBack(pool) && mv.from == Some(pool);
    case.find(gave)?;
    case.plan.moves.clear();
    case.plan.report.still_owed = vec![(pool, bytes)];
    let notes = check(&case.snapshot, &case.plan)
        .into_iter()
        .map(|note| note.kind);
    let mut notes = notes.filter(|kind| matches!(kind, NoteKind::NotGivenBack(..)));
    // Of what shares its room with something in use the checker cannot be sure.
    notes.next()
}

/// Less is given back than the plan itself says.
fn less_given_back(case: &mut Case) -> Option<NoteKind> {
    let owed = |id: TierId, case: &Case| {
        let mut owed = case.plan.report.still_owed.iter();
        owed.find(|(pool, _)| *pool == id)
            .map_or(0, |&(_, bytes)| bytes)
    };
    let mut pools = case.snapshot.pools.iter();
    let pool = pools.find(|p| p.give_back_bytes > 0 && p.free_bytes == 0)?;
    let missing = pool.give_back_bytes - owed(pool.id, case);
    let id = pool.id;
    case.plan.moves.clear();
    (missing > 0).then_some(NoteKind::NotGivenBack(id, missing))
}

fn moved_twice(case: &mut Case) -> Option<NoteKind> {
    let (at, mv) = case.drop()?;
    let back = Move {
        kind: MoveKind::Promote,
        from: None,
        to: mv.from,
        ..mv.clone()
    };
    case.plan.moves.insert(at + 1, back);
    Some(NoteKind::MovedTwice(mv.file))
}

fn no_spare(case: &mut Case) -> Option<NoteKind> {
    let file = case
        .snapshot
        .files
        .iter()
        .find(|file| file.spare.is_none())?
        .clone();
    let mut models = case.snapshot.models.iter();
    let model = models.find(|model| model.files.contains(&file.id))?.id;
    let goes = Move {
        file: file.id,
        model,
        kind: MoveKind::DropSpare,
        from: Some(TierId(0)),
        to: None,
        bytes: file.size_bytes,
        keeps_spare: false,
        reason: Reason::Requested,
    };
    case.plan.moves.insert(0, goes);
    Some(NoteKind::NoSpare(file.id))
}

fn spare_there_already(case: &mut Case) -> Option<NoteKind> {
    let (_, mv) = case.find(|mv| mv.kind == MoveKind::Demote && mv.to.is_some())?;
    case.edit(mv.file, |file| file.spare = mv.to);
    Some(NoteKind::SpareTwice(mv.file))
}

fn spare_of_what_goes_down(case: &mut Case) -> Option<NoteKind> {
    let (at, mv) = case.promotion()?;
    case.plan.moves[at].keeps_spare = true;
    Some(NoteKind::WrongSpare(mv.file))
}

fn outranked(case: &mut Case) -> Option<NoteKind> {
    let (mv, by) = case.displaced()?;
    let priority = case.model(by)?.priority;
    case.model(mv.model)?.priority = priority + 1;
    Some(NoteKind::Outranked(mv.model, by))
}

fn displaced_by_restore(case: &mut Case) -> Option<NoteKind> {
    let (mv, by) = case.displaced()?;
    for want in case
        .snapshot
        .wants
        .iter_mut()
        .filter(|want| want.model == by)
    {
        want.kind = WantKind::Restore { pool: None };
    }
    Some(NoteKind::DisplacedByRestore(mv.model))
}

const MUTATIONS: &[(&str, Mutation)] = &[
    ("unknown_file", unknown_file),
    ("unknown_model", unknown_model),
    ("unknown_pool", unknown_pool),
    ("wrong_place", wrong_place),
    ("wrong_size", wrong_size),
    ("up_as_down", up_as_down),
    ("no_room", no_room),
    ("too_early", too_early),
    ("closed", closed),
    ("busy", busy),
    ("in_use", in_use),
    ("pin_lost", pin_lost),
    ("pinned_elsewhere", pinned_elsewhere),
    ("always_dropped", always_dropped),
    ("never_promoted", never_promoted),
    ("half", half),
    ("under_way", under_way),
    ("nothing_given_back", nothing_given_back),
    ("less_given_back", less_given_back),
    ("moved_twice", moved_twice),
    ("no_spare", no_spare),
    ("spare_there_already", spare_there_already),
    ("spare_of_what_goes_down", spare_of_what_goes_down),
    ("outranked", outranked),
    ("displaced_by_restore", displaced_by_restore),
];

/// How many kinds there are, and which one it is: a new one does not compile until it is counted here, and then
/// the test wants it to be seen.
const KINDS: usize = 22;

fn number(kind: &NoteKind) -> usize {
    match kind {
        NoteKind::UnknownFile(_) => 0,
        NoteKind::UnknownModel(..) => 1,
        NoteKind::UnknownPool(_) => 2,
        NoteKind::WrongPlace(_) => 3,
        NoteKind::WrongSize(_) => 4,
        NoteKind::WrongDirection(_) => 5,
        NoteKind::OverCapacity(..) => 6,
        NoteKind::PoolClosed(_) => 7,
        NoteKind::Busy(_) => 8,
        NoteKind::InUse(_) => 9,
        NoteKind::PinBroken(..) => 10,
        NoteKind::AlwaysDropped(_) => 11,
        NoteKind::NeverPromoted(_) => 12,
        NoteKind::Half(_) => 13,
        NoteKind::UnderWay(_) => 14,
        NoteKind::NotGivenBack(..) => 15,
        NoteKind::MovedTwice(_) => 16,
        NoteKind::NoSpare(_) => 17,
        NoteKind::SpareTwice(_) => 18,
        NoteKind::WrongSpare(_) => 19,
        NoteKind::Outranked(..) => 20,
        NoteKind::DisplacedByRestore(_) => 21,
    }
}

/// Whether a fault of this name may pass where the rest of the plan or the world makes it right after all.
fn may_pass(name: &str, case: &Case, kind: &NoteKind) -> bool {
    let asked = |model: ModelId| {
        let mut wants = case.snapshot.wants.iter();
        wants.any(|want| want.model == model && !matches!(want.kind, WantKind::Loaded))
    };
    let was_whole = |model: ModelId| {
        let model = case.snapshot.models.iter().find(|known| known.id == model);
        model.is_some_and(|model| {
            let placed = |file: &FileRef| {
                let mut files = case.snapshot.files.iter();
                files.any(|known| known.id == *file && known.place.is_some())
            };
            model.files.iter().all(placed)
        })
    };
    match *kind {
        // Somebody asked for it.
        NoteKind::InUse(_) => !case.snapshot.wants.is_empty(),
        NoteKind::NeverPromoted(model) => {
            let pinned = case
                .snapshot
                .models
                .iter()
                .any(|m| m.id == model && m.pin.is_some());
            asked(model) || pinned
        }
        NoteKind::AlwaysDropped(model) => asked(model) || !was_whole(model),
        // What is left over is nobody's; who is pinned or `always` displaces anybody.
        NoteKind::PinBroken(model, _) => name == "pin_lost" && !was_whole(model),
        NoteKind::Outranked(victim, by) => !was_whole(victim) || !rules_by_heat(case, by),
        NoteKind::DisplacedByRestore(victim) => {
            let by = case.displaced().map(|(_, by)| by);
            !was_whole(victim) || by.is_none_or(|by| !rules_by_heat(case, by) || !asked(by))
        }
        // The room of others may be enough, or what is missing is another's.
        NoteKind::OverCapacity(..) => true,
        _ => false,
    }
}

fn rules_by_heat(case: &Case, model: ModelId) -> bool {
    let model = case.snapshot.models.iter().find(|known| known.id == model);
    model.is_some_and(|model| model.pin.is_none() && model.rule != ModelRule::Always)
}

#[test]
fn each_note_is_seen_where_a_right_plan_is_spoilt() {
    let mut alone = [0; KINDS];
    let mut applied = vec![(0, 0); MUTATIONS.len()];
    for seed in 0..300 {
        let mut dice = Dice(seed);
        let mut world = World::new(&mut dice);
        for step in 0..30 {
            world.event(&mut dice);
            let right = plan(&world.params, &world.learned, &world.snapshot).expect("is right");
            for (at, (name, mutation)) in MUTATIONS.iter().enumerate() {
                let mut case = Case {
                    snapshot: world.snapshot.clone(),
                    plan: right.clone(),
                };
                let Some(expected) = mutation(&mut case) else {
                    continue;
                };
                let notes = check(&case.snapshot, &case.plan);
                let found = notes.iter().any(|note| note.kind == expected);
                assert!(
                    found || may_pass(name, &case, &expected),
                    "history {seed} step {step}: {name} should be {expected:?}, is {notes:?}\n{:?}\n{:?}",
                    case.snapshot,
                    case.plan
                );
                applied[at].0 += 1;
                if found && notes.iter().all(|note| note.kind == expected) {
                    alone[number(&expected)] += 1;
                    applied[at].1 += 1;
                }
            }
            world.carry_out(&mut dice, &right);
        }
    }
    for ((name, _), (times, alone)) in MUTATIONS.iter().zip(applied) {
        assert!(
            alone >= 3,
            "{name} was noted and nothing else {alone} times of {times}"
        );
    }
    assert!(alone.iter().all(|&times| times > 0), "{alone:?}");
}
