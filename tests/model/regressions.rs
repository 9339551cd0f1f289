//! What random sequences found once, each as the shortest case with its story.

use super::op::{Access, Behind, Fill, Flags, Mode, Op, P, p};
use super::run::{Case, run};
use super::world::Pools;

fn holds(before: &[(usize, Behind)], ops: &[Op]) {
    rustix::process::umask(rustix::fs::Mode::empty());
    for passthrough in [true, false] {
        let case = Case {
            pools: Pools::Memory,
            passthrough,
            before: before.to_vec(),
            ops: ops.to_vec(),
        };
        if let Err(why) = run(&case) {
            panic!("passthrough {passthrough}: {why}");
        }
    }
}

fn file(home: usize, path: &str) -> (usize, Behind) {
    (home, Behind::Write(p(path), Fill(61, 2419)))
}

fn directory(home: usize, path: &str) -> (usize, Behind) {
    (home, Behind::Mkdir(p(path)))
}

fn open(path: &str, access: Access, label: u32) -> Op {
    Op::Open {
        path: p(path),
        access,
        flags: Flags::default(),
        label,
    }
}

fn empty(path: &str, label: u32) -> Op {
    let flags = Flags {
        truncate: true,
        ..Flags::default()
    };
    Op::Open {
        path: p(path),
        access: Access::Both,
        flags,
        label,
    }
}

fn stat(path: &str) -> Op {
    Op::Stat { path: p(path) }
}

fn promote(path: &str, pool: usize) -> Op {
    Op::Promote {
        path: p(path),
        pool,
    }
}

fn rename(from: &str, to: &str, mode: Mode) -> Op {
    let path = |path: &str| P(path.to_owned());
    Op::Rename {
        from: path(from),
        to: path(to),
        mode,
    }
}

fn behind(home: usize, change: Behind) -> Op {
    Op::Home { home, change }
}

/// The node went on with the cold file's descriptor: attributes were those of the cold file, and a
/// writer would have been given that.
#[test]
fn a_file_that_shadows_a_cold_one_is_not_reached_by_its_descriptor() {
    for _ in 0..20 {
        let write = Op::Write {
            label: 1,
            offset: 0,
            fill: Fill(7, 10),
        };
        holds(
            &[file(2, "d")],
            &[stat("d"), empty("d", 1), stat("d"), write, stat("d")],
        );
    }
}

/// An open names a node, not a name: the shadow was made under the other one.
#[test]
fn a_cold_file_of_two_names_is_emptied_under_both() {
    let link = (2, Behind::Link(p("b"), p("c")));
    holds(
        &[file(2, "b"), link],
        &[empty("c", 1), stat("b"), stat("c")],
    );
}

/// With readers on the old node nothing else kept the count of writers alive.
#[test]
fn a_file_that_shadows_one_with_readers_is_not_promoted_under_its_writer() {
    let steps = [open("d", Access::Read, 1), empty("d", 2), promote("d", 1)];
    holds(&[file(1, "d")], &steps);
}

/// The hidden directory was lost until the next scan.
#[test]
fn a_directory_exchanged_onto_a_name_is_merged_with_the_cold_one_hidden_there() {
    let before = [
        directory(2, "c"),
        directory(2, "c/e"),
        file(2, "c/x"),
        file(0, "c"),
    ];
    let steps = [
        Op::Mkdir {
            path: p("e"),
            mode: 0o750,
        },
        Op::Mkdir {
            path: p("e/e"),
            mode: 0o750,
        },
        rename("e", "c", Mode::Exchange),
        Op::List { path: p("c") },
        stat("c/e"),
        promote("c/x", 0),
    ];
    holds(&before, &steps);
}

/// The kernel kept names of a directory that went from one home and stayed in another.
#[test]
fn what_vanishes_with_a_directory_that_stays_elsewhere_is_told() {
    let before = [directory(2, "d"), directory(0, "d"), file(0, "d/a")];
    let removed = behind(0, Behind::Remove(p("d")));
    holds(&before, &[stat("d/a"), removed, stat("d/a"), stat("d/a/e")]);
}

/// The new name was a new file, and its writer unknown.
#[test]
fn a_file_renamed_behind_our_back_keeps_its_writer() {
    for target in ["b", "d/b", "0"] {
        let renamed = behind(0, Behind::Rename(p("a"), p(target)));
        let steps = [
            open("a", Access::Both, 1),
            renamed,
            promote(target, 0),
            Op::PromoteBegin {
                path: p(target),
                pool: 1,
            },
        ];
        holds(&[file(0, "a"), directory(0, "d")], &steps);
    }
}

/// Copies of files that nobody can name took memory that nobody could give back.
#[test]
fn a_file_that_another_hides_keeps_no_replica() {
    let before = [file(1, "a"), directory(2, "d"), file(2, "d/b")];
    let steps = [
        promote("a", 0),
        promote("d/b", 1),
        behind(0, Behind::Write(p("a"), Fill(1, 5))),
        behind(1, Behind::Write(p("d"), Fill(1, 5))),
        stat("a"),
        stat("d"),
    ];
    holds(&before, &steps);
}

/// A copy that was complete when its file lost its last name was published all the same.
#[test]
fn a_copy_of_a_file_that_is_gone_is_refused() {
    let begin = Op::PromoteBegin {
        path: p("a"),
        pool: 0,
    };
    holds(
        &[file(0, "a")],
        &[begin.clone(), Op::Unlink { path: p("a") }, Op::PromoteEnd],
    );
    let replaced = behind(1, Behind::Replace(p("a"), Fill(2, 2419)));
    holds(&[file(1, "a")], &[begin, replaced, Op::PromoteEnd]);
}

/// A second link made behind our back was another file, and a rename onto it an error.
#[test]
fn a_link_made_behind_our_back_is_the_same_file() {
    let linked = behind(2, Behind::Link(p("d"), p("c")));
    let steps = [
        stat("d"),
        linked,
        stat("c"),
        rename("c", "d", Mode::Replace),
        promote("c", 0),
    ];
    holds(&[file(2, "d")], &steps);
}
