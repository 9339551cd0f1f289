//! The daemon dies before each step of a promotion and a demotion, through the seam of debug builds.
//! Whatever the step: no partial replica is ever given to anybody, a complete one is taken over
//! without copying, the homes are untouched, and the next promotion works.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use rustix::process::Signal;
use speedloader::command::Command;

use crate::harness::{Mount, Site, content};

const LEN: u64 = 300_001;
const NAME: &str = "d/f";

fn site() -> Site {
    // One thread copies: the steps come in one order.
    Site::new()
        .cold_file(NAME, 1, LEN)
        .option("mover.threads=1")
        .limit(Duration::from_secs(600))
}

/// Moves the file up and down, as far as the daemon lives.
fn up_and_down(mount: &Mount) {
    let names = vec![NAME.to_owned()];
    let promoted = mount.try_call(Command::Promote {
        names: names.clone(),
        pool: None,
        wait: true,
    });
    if promoted.is_ok() {
        // What happens afterwards is told by how it ends.
        let _ = mount.try_call(Command::Demote { names });
    }
}

/// The steps of an undisturbed promotion and demotion, by name.
fn steps(mount: &mut Mount) -> Vec<String> {
    let path = mount.root().join("steps");
    mount.end(Signal::INT);
    mount.restart_with(&[("SPEEDLOADER_STEPS", path.as_os_str())]);
    up_and_down(mount);
    mount.until("the demotion is complete", || {
        mount.status().pools[0].draining_bytes == 0
    });
    let text = fs::read_to_string(&path).unwrap_or_default();
    text.lines()
        .filter_map(|line| Some(line.split_once(' ')?.1.to_owned()))
        .collect()
}

#[test]
fn stopped_at_every_step() {
    let Some(mut mount) = site().start() else {
        return;
    };
    let steps = steps(&mut mount);
    let place = |name: &str| steps.iter().position(|step| step == name);
    let (Some(published), Some(dropped)) = (place("publish.done"), place("drain.unlink_data"))
    else {
        panic!("the steps have other names than this test knows: {steps:?}");
    };
    mount.end(Signal::INT);
    for (index, step) in steps.iter().enumerate() {
        let number = (index + 1).to_string();
        mount.restart_with(&[("SPEEDLOADER_CRASH_AT", OsStr::new(&number))]);
        up_and_down(&mount);
        let status = mount.wait_ended();
        assert!(
            status.signal().is_some(),
            "step {number}, {step}: it did not die but ended with {status}"
        );
        mount.restart_with(&[]);
        let adopted = !mount.which(NAME).replicas.is_empty();
        content::check_file(&mount.mounted(NAME), 1, LEN)
            .unwrap_or_else(|error| panic!("step {number}, {step}: {error}"));
        assert_eq!(
            mount.status().totals.promoted_bytes,
            0,
            "step {number}, {step}: it was copied again"
        );
        if (published..=dropped).contains(&index) {
            assert!(
                adopted,
                "step {number}, {step}: a complete replica was thrown away"
            );
        }
        mount.promote_wait(NAME);
        content::check_file(&mount.mounted(NAME), 1, LEN).unwrap();
        mount.demote(NAME);
        mount.until("nothing is left in the pool", || {
            let pool = &mount.status().pools[0];
            pool.draining_bytes == 0 && pool.reserved_bytes == 0 && pool.resident_files == 0
        });
        let left: Vec<_> = ["replicas", "partial"]
            .iter()
            .flat_map(|directory| fs::read_dir(mount.pool("p").join(directory)).unwrap())
            .map(|entry| entry.unwrap().path())
            .collect();
        assert!(left.is_empty(), "step {number}, {step}: {left:?}");
        mount.end(Signal::INT);
    }
    mount.restart_with(&[]);
    mount.finish();
}
