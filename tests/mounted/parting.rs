//! A pool is disconnected: its readers are named, waited for, or left behind with what they have.

use std::fs::File;

use speedloader::command::{Code, Command, Message};
use speedloader::view::{Outcome, View};

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
