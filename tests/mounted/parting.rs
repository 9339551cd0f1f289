//! A pool is disconnected: its readers are named, waited for, or left behind with what they have.

use std::fs::File;

use speedloader::command::{Code, Command, Message};
use speedloader::models::synthetic::write_gguf;
use speedloader::view::{Outcome, TierState, View};

use crate::harness::{Mount, Site, content, in_both_modes};

const LEN: u64 = (2 << 20) + 77;

fn site(site: Site) -> Site {
    site.cold_file("f", 5, LEN).cold_file("g", 6, LEN)
}

fn disconnect(force: bool, wait: bool) -> Command {
    Command::TierDisconnect {
        name: "p".to_owned(),
        force,
        wait,
        no_move: false,
    }
}

fn promote_g(mount: &Mount) -> Result<View, Message> {
    mount.try_call(Command::Promote {
        names: vec!["g".to_owned()],
        pool: Some("p".to_owned()),
        wait: true,
    })
}

fn outcome(view: View) -> Outcome {
    match view {
        View::Moves(view) => view.moves[0].outcome,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_pool_is_disconnected_when_its_readers_have_let_go() {
    in_both_modes(site, |mount| {
        mount.promote_wait("f");
        let mut held = Some(File::open(mount.mounted("f")).unwrap());
        let who = format!(" {}", std::process::id());
        let refused = mount.try_call(disconnect(false, false)).unwrap_err();
        assert_eq!(refused.code, Code::Busy);
        assert!(
            refused.text.contains("f (") && refused.text.contains(&who),
            "{refused}"
        );

        let mut said = Vec::new();
        let parted = mount
            .client()
            .call_with_progress(disconnect(false, true), &mut |view| {
                let View::Done(view) = view else {
                    panic!("{view:?}");
                };
                said.push(view.text);
                if held.is_some() {
                    let refused = promote_g(mount).unwrap_err();
                    assert!(refused.text.contains("takes nothing new"), "{refused}");
                    let again = mount.try_call(disconnect(false, true)).unwrap_err();
                    assert_eq!(again.code, Code::Busy, "{again}");
                }
                held = None;
                Ok(())
            });
        assert_eq!(outcome(parted.unwrap()), Outcome::Done);
        assert!(
            said[0].starts_with("waits for f (") && said[0].contains(&who),
            "{said:?}"
        );
        assert_eq!(promote_g(mount).unwrap_err().code, Code::NoSuchPool);
        content::check_file(&mount.mounted("f"), 5, LEN).unwrap();
    });
}

#[test]
fn a_pool_whose_readers_nobody_waits_for_any_more_stays() {
    in_both_modes(site, |mount| {
        mount.promote_wait("f");
        let held = File::open(mount.mounted("f")).unwrap();
        let given_up = mount
            .client()
            .call_with_progress(disconnect(false, true), &mut |_| {
                Err(Message::new(Code::Cancelled, "the test has seen enough"))
            });
        assert_eq!(given_up.unwrap_err().code, Code::Cancelled);
        mount.until("the pool takes files again", || promote_g(mount).is_ok());
        content::check_open(&held, 5, LEN).unwrap();
        // By force the reader keeps what it has.
        let parted = mount.call(disconnect(true, false));
        assert_eq!(outcome(parted), Outcome::Draining);
        content::check_open(&held, 5, LEN).unwrap();
    });
}

/// It was shown as gone, with nothing used, and another daemon was said to have it.
#[test]
fn a_pool_that_was_disconnected_under_a_reader_is_shown_until_its_memory_is_free() {
    in_both_modes(site, |mount| {
        mount.promote_wait("f");
        let held = File::open(mount.mounted("f")).unwrap();
        mount.call(disconnect(true, false));
        let shown = mount.status().pools.remove(0);
        assert_eq!(shown.state, TierState::Draining, "{shown:?}");
        assert!(shown.used_bytes >= LEN, "{shown:?}");
        assert!(shown.draining_bytes >= LEN, "{shown:?}");
        let connect = || {
            let name = "p".to_owned();
            mount.try_call(Command::TierConnect { name })
        };
        let refused = connect().unwrap_err();
        assert_eq!(refused.code, Code::Busy);
        assert!(refused.text.contains("p still drains 2."), "{refused}");
        drop(held);
        mount.until("it can be connected", || connect().is_ok());
        mount.promote_wait("f");
    });
}

#[test]
fn a_pool_that_was_disconnected_under_a_reader_does_not_outlive_the_daemon() {
    let Some(mount) = site(Site::new()).start() else {
        return;
    };
    mount.promote_wait("f");
    let held = File::open(mount.mounted("f")).unwrap();
    assert_eq!(
        outcome(mount.call(disconnect(true, false))),
        Outcome::Draining
    );
    mount.finish();
    drop(held);
}

/// Two pools: the one that goes has three files, the one that stays has room for two.
fn two_pools(site: Site) -> Site {
    let site = site
        .pools(&[("stays", "20MiB"), ("goes", "40MiB")])
        .option("pool.stays.speed=2GiB")
        .option("pool.goes.speed=8GiB");
    let names = ["a.gguf", "b.gguf", "c.gguf"];
    for (name, seed) in names.iter().zip(1..) {
        write_gguf(&site.cold(0, name), MODEL_LEN, 1, seed).unwrap();
    }
    site
}

const MODEL_LEN: u64 = 8 << 20;

fn promote_to(mount: &Mount, name: &str, pool: &str) {
    mount.call(Command::Promote {
        names: vec![name.to_owned()],
        pool: Some(pool.to_owned()),
        wait: true,
    });
}

fn goes(no_move: bool) -> Command {
    Command::TierDisconnect {
        name: "goes".to_owned(),
        force: false,
        wait: false,
        no_move,
    }
}

/// The pool that serves a file; empty for its home.
fn serving(mount: &Mount, name: &str) -> String {
    let replicas = mount.which(name).replicas;
    let first = replicas.into_iter().next();
    first.map(|replica| replica.pool).unwrap_or_default()
}

/// Reads a file as an engine does, and waits until that has counted.
fn load(mount: &Mount, name: &str) {
    let loads = mount.status().totals.loads;
    let file = File::open(mount.mounted(name)).unwrap();
    mount.until("the load is counted", || {
        mount.status().totals.loads > loads
    });
    drop(file);
}

#[test]
fn what_fits_moves_to_other_pools_the_hottest_first() {
    let Some(mount) = two_pools(Site::new()).start() else {
        return;
    };
    for name in ["a.gguf", "b.gguf", "c.gguf"] {
        promote_to(&mount, name, "goes");
    }
    load(&mount, "c.gguf");
    load(&mount, "b.gguf");
    let wanted = [("a", "home"), ("b", "stays"), ("c", "stays")];
    mount.until("it is said what will move where, once nobody reads", || {
        let View::Plan(plan) = mount.call(Command::TierMoves {
            name: "goes".to_owned(),
        }) else {
            panic!("no plan");
        };
        let rows = plan.moves.iter();
        let mut said: Vec<_> = rows
            .map(|row| (row.model.as_str(), row.to.as_str()))
            .collect();
        said.sort_unstable();
        said == wanted
    });
    for name in ["a.gguf", "b.gguf", "c.gguf"] {
        assert_eq!(serving(&mount, name), "goes", "nothing was done yet");
    }
    let View::Moves(moves) = mount.call(goes(false)) else {
        panic!("no moves");
    };
    assert_eq!(
        (moves.moves.len(), moves.moves[0].outcome),
        (3, Outcome::Done),
        "{moves:?}"
    );
    for (name, pool) in [("a.gguf", ""), ("b.gguf", "stays"), ("c.gguf", "stays")] {
        assert_eq!(serving(&mount, name), pool, "{name}");
    }
    let View::Tiers(view) = mount.call(Command::Tiers {}) else {
        panic!("no tiers");
    };
    let tier = view.tiers.iter().find(|tier| tier.name == "goes");
    assert_eq!(tier.unwrap().state, TierState::Disconnected);
    mount.finish();
}

#[test]
fn a_pool_can_be_disconnected_without_moving_anything() {
    let Some(mount) = two_pools(Site::new()).start() else {
        return;
    };
    promote_to(&mount, "a.gguf", "goes");
    let promotions = mount.status().totals.promotions;
    assert_eq!(outcome(mount.call(goes(true))), Outcome::Done);
    assert_eq!(serving(&mount, "a.gguf"), "");
    assert_eq!(mount.status().totals.promotions, promotions);
    mount.finish();
}

#[test]
fn what_is_read_until_the_end_moves_when_it_is_let_go() {
    let Some(mount) = two_pools(Site::new()).start() else {
        return;
    };
    promote_to(&mount, "a.gguf", "goes");
    promote_to(&mount, "b.gguf", "goes");
    let mut held = Some(File::open(mount.mounted("a.gguf")).unwrap());
    let waited = Command::TierDisconnect {
        name: "goes".to_owned(),
        force: false,
        wait: true,
        no_move: false,
    };
    let parted = mount.client().call_with_progress(waited, &mut |view| {
        // Copies are told of before.
        if matches!(view, View::Done(_)) {
            assert_eq!(serving(&mount, "b.gguf"), "stays");
            held = None;
        }
        Ok(())
    });
    assert_eq!(outcome(parted.unwrap()), Outcome::Done);
    for name in ["a.gguf", "b.gguf"] {
        assert_eq!(serving(&mount, name), "stays");
    }
    mount.finish();
}

/// Each took a number, and after 64 of them the daemon had none left for any pool.
#[test]
fn a_pool_can_be_connected_any_number_of_times() {
    let site = Site::new()
        .models_file("m.gguf", 4096, 1)
        .pools(&[("p", "4MiB")]);
    let Some(mount) = site.start() else { return };
    for _ in 0..70 {
        mount.cli_ok(&["tiers", "disconnect", "p"]);
        mount.cli_ok(&["tiers", "connect", "p"]);
    }
    mount.cli_ok(&["promote", "m.gguf", "--wait"]);
    mount.finish();
}
