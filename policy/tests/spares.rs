//! What the checker says of plans that are wrong about spares.

use speedloader_policy::{
    Expert, FileRef, FileState, ModelId, ModelRule, ModelState, Move, MoveKind, NoteKind, Plan,
    PoolState, Reason, Report, Snapshot, SnapshotFault, TierId, check,
};

const FAST: Option<TierId> = Some(TierId(0));
const SLOW: Option<TierId> = Some(TierId(1));
const FILE: FileRef = FileRef(7);

/// A file of 40 bytes, a faster pool and a slower one with 50 free each.
fn snapshot(place: Option<TierId>, spare: Option<TierId>) -> Snapshot {
    let pool = |id, speed_bytes_per_sec| PoolState {
        id: TierId(id),
        speed_bytes_per_sec,
        capacity_bytes: 100,
        free_bytes: 50,
        give_back_bytes: 0,
        accepts: true,
    };
    Snapshot {
        pools: vec![pool(0, 10), pool(1, 5)],
        cold_bytes_per_sec: 1,
        files: vec![FileState {
            id: FILE,
            size_bytes: 40,
            place,
            open: false,
            busy: false,
            spare,
            spare_open: false,
        }],
        models: vec![ModelState {
            id: ModelId(1),
            files: vec![FILE],
            pin: None,
            rule: ModelRule::Normal,
            priority: 0,
            moving_to: None,
        }],
        wants: Vec::new(),
    }
}

fn step(kind: MoveKind, from: Option<TierId>, to: Option<TierId>) -> Move {
    Move {
        file: FILE,
        model: ModelId(1),
        kind,
        from,
        to,
        bytes: 40,
        keeps_spare: false,
        reason: Reason::Requested,
    }
}

fn keeping(step: Move) -> Move {
    Move {
        keeps_spare: true,
        ..step
    }
}

fn notes(snapshot: &Snapshot, moves: Vec<Move>) -> Vec<NoteKind> {
    let report = Report {
        leader: Expert::C,
        findings: Vec::new(),
        still_owed: Vec::new(),
    };
    let notes = check(snapshot, &Plan { moves, report });
    notes.into_iter().map(|note| note.kind).collect()
}

#[test]
fn there_and_back_is_right() {
    let up = keeping(step(MoveKind::Promote, SLOW, FAST));
    assert_eq!(notes(&snapshot(SLOW, None), vec![up]), []);
    let mut both = snapshot(FAST, SLOW);
    // What falls back takes no room.
    both.pools[1].free_bytes = 0;
    let back = step(MoveKind::FallBack, FAST, SLOW);
    assert_eq!(notes(&both, vec![back]), []);
    let goes = step(MoveKind::DropSpare, SLOW, None);
    assert_eq!(notes(&both, vec![goes]), []);
}

#[test]
fn nobody_falls_back_to_what_is_not_there() {
    let back = step(MoveKind::FallBack, FAST, SLOW);
    let goes = step(MoveKind::DropSpare, SLOW, None);
    let lone = snapshot(FAST, None);
    assert_eq!(
        notes(&lone, vec![back.clone()]),
        [NoteKind::NoSpare(FILE)],
        "there is none"
    );
    assert_eq!(notes(&lone, vec![goes.clone()]), [NoteKind::NoSpare(FILE)]);
    assert_eq!(
        notes(&snapshot(FAST, SLOW), vec![goes, back]),
        [NoteKind::NoSpare(FILE)],
        "it has gone before"
    );
}

#[test]
fn no_pool_has_two_copies_of_a_file() {
    let copied = step(MoveKind::Demote, FAST, SLOW);
    assert_eq!(
        notes(&snapshot(FAST, SLOW), vec![copied]),
        [NoteKind::SpareTwice(FILE)]
    );
}

#[test]
fn a_spare_is_slower_than_what_serves() {
    let down = keeping(step(MoveKind::Demote, FAST, SLOW));
    assert_eq!(
        notes(&snapshot(FAST, None), vec![down]),
        [NoteKind::WrongSpare(FILE)]
    );
    let home = step(MoveKind::Demote, FAST, None);
    assert_eq!(
        notes(&snapshot(FAST, SLOW), vec![home]),
        [NoteKind::WrongSpare(FILE)],
        "the spare must go first"
    );
    let faster = snapshot(SLOW, FAST).fault();
    assert_eq!(faster, Some(SnapshotFault::SpareNotSlower(FILE)));
    let lone = snapshot(None, SLOW).fault();
    assert_eq!(lone, Some(SnapshotFault::SpareNotSlower(FILE)));
}

#[test]
fn room_of_a_spare_is_not_free_before_it_goes() {
    let mut both = snapshot(FAST, SLOW);
    both.pools[1].free_bytes = 10;
    let other = FileRef(8);
    let file = FileState {
        id: other,
        place: None,
        spare: None,
        ..both.files[0].clone()
    };
    both.files.push(file);
    both.models.push(ModelState {
        id: ModelId(2),
        files: vec![other],
        ..both.models[0].clone()
    });
    let comes = Move {
        file: other,
        model: ModelId(2),
        ..step(MoveKind::Promote, None, SLOW)
    };
    assert_eq!(
        notes(&both, vec![comes.clone()]),
        [NoteKind::OverCapacity(TierId(1), 30)]
    );
    let goes = step(MoveKind::DropSpare, SLOW, None);
    assert_eq!(notes(&both, vec![goes.clone(), comes.clone()]), []);
    both.files[0].spare_open = true;
    let in_use = notes(&both, vec![goes, comes]);
    assert!(in_use.contains(&NoteKind::InUse(FILE)), "{in_use:?}");
}
