//! Stopped at every step of promotions and demotions: the daemon dies before the n-th, for all n.

use std::ffi::OsStr;
use std::fs;
use std::time::Duration;

use speedloader::command::Command;

use super::place::{
    adopted, complete, demote_everything, homes_are_whole, promote_everything, site,
    without_privileges,
};
use crate::harness::{Mount, Site};

const LIMIT: Duration = Duration::from_secs(900);

/// Promotes two files and demotes one, until all is done or the daemon is dead.
fn work(mount: &Mount) {
    let promote = |path: &str| Command::Promote {
        names: vec![path.to_owned()],
        pool: None,
        wait: true,
    };
    for command in [
        promote("blobs/c"),
        promote("m"),
        Command::Demote {
            names: vec!["blobs/c".to_owned()],
        },
    ] {
        // The daemon may die of it.
        let _ = mount.try_call(command);
    }
}

/// The names of the steps of [`work`], in order.
fn steps(mount: &mut Mount) -> Vec<String> {
    let list = mount.root().join("steps");
    mount.kill9();
    mount.restart_with(&[("SPEEDLOADER_STEPS", list.as_os_str())]);
    work(mount);
    mount.kill9();
    let text = fs::read_to_string(list).unwrap();
    text.lines()
        .map(|line| line.split_once(' ').unwrap().1.to_owned())
        .collect()
}

fn dies_at_every_step(site: Site) {
    let Some(mut mount) = site.start() else {
        return;
    };
    let steps = steps(&mut mount);
    let number = |wanted: &str| steps.iter().filter(|step| *step == wanted).count();
    for needed in [
        "partial.allocate",
        "publish.link",
        "publish.done",
        "mover.hand_over",
    ] {
        assert_eq!(number(needed), 2, "{needed}: {steps:?}");
    }
    assert!(number("copy.chunk") > 4, "{steps:?}");
    assert_eq!(number("drain.unlink_data"), 1, "{steps:?}");
    mount.restart_with(&[]);
    for (index, step) in steps.iter().enumerate() {
        demote_everything(&mount);
        mount.kill9();
        let number = (index + 1).to_string();
        mount.restart_with(&[("SPEEDLOADER_CRASH_AT", OsStr::new(&number))]);
        work(&mount);
        let status = mount.wait_ended();
        assert!(!status.success(), "step {number}, {step}: it did not die");
        homes_are_whole(&mount);
        let complete = complete(&mount);
        mount.restart_with(&[]);
        adopted(&mount, &complete);
        promote_everything(&mount);
    }
    mount.finish();
}

#[test]
fn stopped_at_every_step() {
    dies_at_every_step(site(LIMIT));
}

#[test]
fn stopped_at_every_step_with_a_directory() {
    dies_at_every_step(without_privileges(site(LIMIT)));
}
