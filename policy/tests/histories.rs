//! Random histories. After every step the plan is judged by the independent checker, made a second time (it
//! must be the same), and carried out, sometimes only in part.
//!
//! `SPEEDLOADER_HISTORIES` sets how many (100,000 is the figure the project shows);
//! `SPEEDLOADER_HISTORY` replays one seed.

mod dice;
mod world;

use speedloader_policy::{Learned, Outcome, Plan, Refusal, Snapshot, check, explain, plan};

use dice::Dice;
use world::World;

/// One line a thing.
fn readable(snapshot: &Snapshot, plan: &Plan) -> String {
    let mut lines: Vec<String> = snapshot.pools.iter().map(|p| format!("{p:?}")).collect();
    lines.extend(snapshot.files.iter().map(|f| format!("{f:?}")));
    lines.extend(snapshot.models.iter().map(|m| format!("{m:?}")));
    lines.extend(snapshot.wants.iter().map(|w| format!("{w:?}")));
    lines.extend(plan.moves.iter().map(|m| format!("{m:?}")));
    lines.extend(plan.report.findings.iter().map(|f| format!("{f:?}")));
    lines.join("\n")
}

/// Every refusal with figures must be true.
fn judge_refusals(world: &World, plan: &Plan) {
    for finding in &plan.report.findings {
        if let Outcome::Refused(Refusal::TooLarge {
            needs_bytes,
            largest_bytes,
        }) = finding.outcome
        {
            assert!(needs_bytes > largest_bytes);
            assert!(
                world
                    .snapshot
                    .pools
                    .iter()
                    .any(|p| p.capacity_bytes == largest_bytes)
            );
        }
        if let Outcome::Refused(Refusal::NoRoom {
            needs_bytes,
            available_bytes,
            ..
        }) = finding.outcome
        {
            assert!(
                needs_bytes > available_bytes,
                "{finding:?}\n{}",
                readable(&world.snapshot, plan)
            );
        }
    }
}

fn run(seed: u64) {
    let mut dice = Dice(seed);
    let mut world = World::new(&mut dice);
    for step in 0..20 + dice.below(40) {
        world.event(&mut dice);
        let planned = plan(&world.params, &world.learned, &world.snapshot)
            .unwrap_or_else(|fault| panic!("history {seed} step {step}: {fault}"));
        let notes = check(&world.snapshot, &planned);
        assert!(
            notes.is_empty(),
            "history {seed} step {step}: {notes:?}\n{}",
            readable(&world.snapshot, &planned)
        );
        judge_refusals(&world, &planned);
        let again = plan(&world.params, &world.learned, &world.snapshot);
        assert_eq!(
            Ok(&planned),
            again.as_ref(),
            "history {seed} step {step}: not the same twice"
        );
        if dice.chance(5) {
            let saved = world.learned.to_bytes();
            let restored = Learned::from_bytes(&saved).expect("what was saved is read");
            assert_eq!(restored.to_bytes(), saved, "history {seed} step {step}");
            world.learned = restored;
        }
        if dice.chance(5) && !world.snapshot.models.is_empty() {
            let at = dice.below(world.snapshot.models.len() as u64) as usize;
            let model = world.snapshot.models[at].id;
            let told = explain(&world.params, &world.learned, &world.snapshot, model);
            assert!(matches!(told, Ok(Some(_))), "history {seed} step {step}");
        }
        world.carry_out(&mut dice, &planned);
    }
}

#[test]
fn the_checker_finds_nothing_in_random_histories() {
    let number = |name| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse::<u64>().ok())
    };
    if let Some(seed) = number("SPEEDLOADER_HISTORY") {
        return run(seed);
    }
    for seed in 0..number("SPEEDLOADER_HISTORIES").unwrap_or(100) {
        run(seed);
    }
}
