//! A pool is about to go: what it holds moves by worth, and displaces nothing that is worth as much.

use speedloader_policy::{
    Expert, FileRef, FileState, Learned, Load, ModelId, ModelRule, ModelState, Move, MoveKind,
    NoteKind, Outcome, Params, Plan, PoolState, Reason, Refusal, Report, Snapshot, TierId, Tiers,
    Want, WantKind, check, plan,
};

const FAST: TierId = TierId(0);
const SLOW: TierId = TierId(1);
const BYTES: u64 = 40;

/// Model `n` is file `n` of 40 bytes, and lies where it is said.
struct World {
    snapshot: Snapshot,
    learned: Learned,
}

impl World {
    fn new(fast_bytes: u64, slow_bytes: u64, places: &[TierId]) -> World {
        let held = |pool| places.iter().filter(|place| **place == pool).count() as u64 * BYTES;
        let pool = |id, speed_bytes_per_sec, capacity_bytes| PoolState {
            id,
            speed_bytes_per_sec,
            capacity_bytes,
            free_bytes: capacity_bytes - held(id),
            give_back_bytes: 0,
            accepts: true,
        };
        let file = |(id, place): (u64, &TierId)| FileState {
            id: FileRef(id),
            size_bytes: BYTES,
            place: Some(*place),
            open: false,
            busy: false,
            spare: None,
            spare_open: false,
        };
        let model = |id| ModelState {
            id: ModelId(id),
            files: vec![FileRef(id)],
            pin: None,
            rule: ModelRule::Normal,
            priority: 0,
            moving_to: None,
        };
        World {
            snapshot: Snapshot {
                pools: vec![pool(FAST, 10, fast_bytes), pool(SLOW, 5, slow_bytes)],
                cold_bytes_per_sec: 1,
                files: (0..).zip(places).map(file).collect(),
                models: (0..places.len() as u64).map(model).collect(),
                wants: Vec::new(),
            },
            learned: Learned::new(),
        }
    }

    fn load(&mut self, model: u64, times: usize) {
        for _ in 0..times {
            let load = Load {
                model: ModelId(model),
                bytes: BYTES,
                family: model,
            };
            let tiers = Tiers::of(&self.snapshot);
            self.learned.observe(&Params::default(), &tiers, load);
        }
    }

    /// All models leave the pool, whether they are in it or not.
    fn leave(&mut self, pool: TierId) -> Plan {
        let wants = self.snapshot.models.iter().map(|model| Want {
            model: model.id,
            kind: WantKind::Leave { pool },
        });
        self.snapshot.wants = wants.collect();
        let plan = plan(&Params::default(), &self.learned, &self.snapshot)
            .expect("the snapshot is without fault");
        assert_eq!(check(&self.snapshot, &plan), []);
        plan
    }
}

fn moves(plan: &Plan) -> Vec<(MoveKind, u64, Option<TierId>)> {
    let moves = plan.moves.iter();
    moves.map(|mv| (mv.kind, mv.model.0, mv.to)).collect()
}

fn refusal(plan: &Plan, model: u64) -> &Refusal {
    let mut findings = plan.report.findings.iter();
    match findings.find(|finding| finding.model == ModelId(model)) {
        Some(finding) => match &finding.outcome {
            Outcome::Refused(refusal) => refusal,
            other => panic!("{model}: {other:?}"),
        },
        None => panic!("nothing was found of {model}"),
    }
}

#[test]
fn the_hottest_have_the_free_room_of_other_pools() {
    let mut world = World::new(100, 200, &[SLOW, SLOW, SLOW]);
    world.load(0, 1);
    world.load(2, 5);
    world.load(1, 3);
    let plan = world.leave(SLOW);
    let up = MoveKind::Promote;
    assert_eq!(moves(&plan), [(up, 2, Some(FAST)), (up, 1, Some(FAST))]);
    assert!(
        plan.moves
            .iter()
            .all(|mv| mv.reason == Reason::PoolGoes(SLOW) && !mv.keeps_spare)
    );
    assert!(matches!(
        refusal(&plan, 0),
        Refusal::NotWorth { .. } | Refusal::NoRoom { .. }
    ));
}

#[test]
fn what_is_colder_makes_room_and_what_is_hotter_does_not() {
    for (loads_there, displaced) in [(1, true), (9, false)] {
        let mut world = World::new(BYTES, 200, &[FAST, SLOW]);
        world.load(0, loads_there);
        world.load(1, 4);
        let plan = world.leave(SLOW);
        if displaced {
            let wanted = [
                (MoveKind::Demote, 0, None),
                (MoveKind::Promote, 1, Some(FAST)),
            ];
            assert_eq!(moves(&plan), wanted);
        } else {
            assert_eq!(moves(&plan), []);
            assert!(matches!(refusal(&plan, 1), Refusal::NotWorth { .. }));
        }
    }
}

#[test]
fn what_leaves_the_fastest_pool_goes_down_and_to_its_spare_at_no_cost() {
    let mut world = World::new(100, 100, &[FAST, FAST]);
    world.snapshot.files[1].spare = Some(SLOW);
    world.snapshot.pools[1].free_bytes -= BYTES;
    let mut planned = moves(&world.leave(FAST));
    planned.sort_by_key(|&(_, model, _)| model);
    let wanted = [
        (MoveKind::Demote, 0, Some(SLOW)),
        (MoveKind::FallBack, 1, Some(SLOW)),
    ];
    assert_eq!(planned, wanted);
}

#[test]
fn what_is_open_pinned_or_unwanted_is_left_to_the_owner() {
    let mut world = World::new(400, 400, &[SLOW; 4]);
    world.snapshot.files[0].open = true;
    world.snapshot.models[1].pin = Some(SLOW);
    world.snapshot.models[2].rule = ModelRule::Never;
    let plan = world.leave(SLOW);
    assert_eq!(refusal(&plan, 0), &Refusal::InUse(FileRef(0)));
    assert_eq!(refusal(&plan, 1), &Refusal::PinnedTo(SLOW));
    let kept: Vec<u64> = plan.moves.iter().map(|mv| mv.model.0).collect();
    assert!(
        kept.contains(&3) && !kept.contains(&0) && !kept.contains(&1),
        "{plan:?}"
    );
}

#[test]
fn models_that_share_a_file_leave_together() {
    let mut world = World::new(400, 400, &[SLOW, SLOW, SLOW]);
    for model in &mut world.snapshot.models {
        model.files = vec![model.files[0]];
    }
    world.snapshot.models[0].files.push(FileRef(2));
    world.snapshot.models[1].files.push(FileRef(2));
    let plan = world.leave(SLOW);
    let mut gone: Vec<u64> = plan.moves.iter().map(|mv| mv.file.0).collect();
    gone.sort_unstable();
    assert_eq!(gone, [0, 1, 2], "{plan:?}");
}

#[test]
fn the_checker_lets_nothing_into_a_pool_that_goes() {
    let mut world = World::new(100, 100, &[FAST]);
    world.snapshot.wants = vec![Want {
        model: ModelId(0),
        kind: WantKind::Leave { pool: SLOW },
    }];
    let down = Move {
        file: FileRef(0),
        model: ModelId(0),
        kind: MoveKind::Demote,
        from: Some(FAST),
        to: Some(SLOW),
        bytes: BYTES,
        keeps_spare: false,
        reason: Reason::PoolGoes(FAST),
    };
    let report = Report {
        leader: Expert::C,
        findings: Vec::new(),
        still_owed: Vec::new(),
    };
    let moves = vec![down];
    let notes = check(&world.snapshot, &Plan { moves, report });
    assert_eq!(notes[0].kind, NoteKind::PoolClosed(SLOW));
}
