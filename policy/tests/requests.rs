//! What a user asks for and what a rule wants of the same model are one move, not two.

use speedloader_policy::{
    FileRef, FileState, Learned, ModelId, ModelRule, ModelState, Outcome, Params, PoolState,
    Reason, Snapshot, TierId, Want, WantKind, check, plan,
};

const FAST: TierId = TierId(0);
const SLOW: TierId = TierId(1);

/// One cold model of 40 bytes that shall always be resident, and two empty pools.
fn always(wants: Vec<Want>) -> Snapshot {
    let pool = |id, speed_bytes_per_sec| PoolState {
        id,
        speed_bytes_per_sec,
        capacity_bytes: 100,
        free_bytes: 100,
        give_back_bytes: 0,
        accepts: true,
    };
    Snapshot {
        pools: vec![pool(FAST, 10), pool(SLOW, 5)],
        cold_bytes_per_sec: 1,
        files: vec![FileState {
            id: FileRef(1),
            size_bytes: 40,
            place: None,
            open: false,
            busy: false,
            spare: None,
            spare_open: false,
        }],
        models: vec![ModelState {
            id: ModelId(1),
            files: vec![FileRef(1)],
            pin: None,
            rule: ModelRule::Always,
            priority: 0,
            moving_to: None,
        }],
        wants,
    }
}

/// History 75047 of `histories`: the rule had it copied to the fast pool, and the request from there to the slow one.
#[test]
fn a_model_that_is_always_resident_goes_once_to_the_pool_that_is_asked_for() {
    for (pool, expected) in [(Some(SLOW), SLOW), (Some(FAST), FAST), (None, FAST)] {
        let snapshot = always(vec![Want {
            model: ModelId(1),
            kind: WantKind::Promote { pool },
        }]);
        let plan = plan(&Params::default(), &Learned::new(), &snapshot).unwrap();
        assert_eq!(check(&snapshot, &plan), []);
        let moves: Vec<_> = plan.moves.iter().map(|mv| (mv.to, &mv.reason)).collect();
        assert_eq!(moves, [(Some(expected), &Reason::Requested)]);
    }
}

#[test]
fn what_is_refused_is_resident_by_its_rule_in_the_next_plan() {
    let mut snapshot = always(vec![Want {
        model: ModelId(1),
        kind: WantKind::Promote {
            pool: Some(TierId(7)),
        },
    }]);
    let asked = plan(&Params::default(), &Learned::new(), &snapshot).unwrap();
    assert_eq!(asked.moves, []);
    assert!(matches!(
        asked.report.findings[..],
        [ref found] if matches!(found.outcome, Outcome::Refused(_))
    ));
    snapshot.wants.clear();
    let next = plan(&Params::default(), &Learned::new(), &snapshot).unwrap();
    assert_eq!(next.moves[0].to, Some(FAST));
}

/// The demotion was made, and told as refused: the rule could not bring the model back in the same plan.
#[test]
fn a_demotion_of_a_model_that_is_always_resident_is_told_as_made() {
    let mut snapshot = always(vec![Want {
        model: ModelId(1),
        kind: WantKind::Demote { pool: None },
    }]);
    snapshot.files[0].place = Some(FAST);
    snapshot.pools[0].free_bytes -= snapshot.files[0].size_bytes;
    let plan = plan(&Params::default(), &Learned::new(), &snapshot).unwrap();
    assert_eq!(check(&snapshot, &plan), []);
    assert_eq!(plan.moves[0].to, None);
    let outcomes: Vec<_> = plan.report.findings.iter().map(|f| &f.outcome).collect();
    assert_eq!(outcomes, [&Outcome::Demoted { pool: None }]);
}
