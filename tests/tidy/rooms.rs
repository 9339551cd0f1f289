//! Things that live in one room only: fuser's types, unsafe code, error numbers; and what the policy
//! crate must not know, because it is a function.

use super::source::{Source, expect_none, line_of, rust, words};

/// A word of the code, and where it may stand.
struct Room {
    word: &'static str,
    /// Beginnings of the paths that the rule looks at.
    within: &'static [&'static str],
    /// Beginnings of the paths where the word may stand.
    allowed: &'static [&'static str],
    why: &'static str,
}

const ROOMS: [Room; 3] = [
    Room {
        word: "fuser",
        within: &[""],
        // The last is no part of the product: a store to read from, for tests and benchmarks.
        allowed: &["fs/src/fuse.rs", "fs/src/fuse/", "tests/harness/store.rs"],
        why: "the adapter is one room, ready for another library",
    },
    Room {
        word: "unsafe",
        within: &[""],
        allowed: &["fs/src/sys/", "tests/harness/mapping.rs"],
        why: "unsafe code is read by a second person, in one place",
    },
    Room {
        word: "Errno",
        within: &["fs/src/"],
        allowed: &["fs/src/errno.rs", "fs/src/sys/"],
        why: "which error has which number is decided once, in fs/src/errno.rs",
    },
];

/// What the policy must not name: it gets the time as an argument, and the same input gives the same
/// answer.
const NOT_IN_POLICY: [&str; 12] = [
    "Instant",
    "SystemTime",
    "thread",
    "HashMap",
    "HashSet",
    "RandomState",
    "fs",
    "io",
    "net",
    "env",
    "process",
    "rand",
];

fn rooms(sources: &[Source]) -> Vec<String> {
    let mut faults = Vec::new();
    for source in sources {
        let starts = |prefixes: &[&str]| {
            prefixes
                .iter()
                .any(|prefix| source.path.starts_with(prefix))
        };
        for room in ROOMS
            .iter()
            .filter(|room| starts(room.within) && !starts(room.allowed))
        {
            let code = source.product_code();
            let found = words(&code, room.word)
                .find(|at| room.word != "Errno" || is_constant(&code[*at..]));
            if let Some(at) = found {
                let line = line_of(&code, at);
                faults.push(format!(
                    "{}:{line} names `{}`: {}",
                    source.path, room.word, room.why
                ));
            }
        }
    }
    faults
}

/// `Errno::NOENT`, not the type.
fn is_constant(code: &str) -> bool {
    let name = code.strip_prefix("Errno::").unwrap_or_default();
    name.starts_with(|c: char| c.is_ascii_uppercase())
}

fn without_reason(sources: &[Source]) -> Vec<String> {
    let mut faults = Vec::new();
    for source in sources {
        let code = source.code();
        let lines: Vec<&str> = source.text.lines().collect();
        for at in words(&code, "unsafe") {
            let line = line_of(&code, at);
            let above = lines[..line]
                .iter()
                .rev()
                .skip(1)
                .take_while(|line| is_comment(line));
            let reason = above
                .clone()
                .any(|line| line.contains("SAFETY:") || line.contains("# Safety"));
            if !reason && !lines[line - 1].contains("SAFETY:") {
                faults.push(format!(
                    "{}:{line} has no `// SAFETY:` above it",
                    source.path
                ));
            }
        }
    }
    faults
}

fn is_comment(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("//") || line.starts_with("#[")
}

fn impure(sources: &[Source]) -> Vec<String> {
    let mut faults = Vec::new();
    for source in sources
        .iter()
        .filter(|source| source.path.starts_with("policy/src/"))
    {
        let code = source.product_code();
        for word in NOT_IN_POLICY {
            let is_path = |at: &usize| {
                let capital = word.starts_with(|c: char| c.is_ascii_uppercase());
                capital
                    || code[..*at].ends_with("std::")
                    || code[at + word.len()..].starts_with("::")
            };
            if let Some(at) = words(&code, word).find(is_path) {
                let line = line_of(&code, at);
                faults.push(format!(
                    "{}:{line} names `{word}`: the policy is a function",
                    source.path
                ));
            }
        }
    }
    faults
}

#[test]
fn everything_is_in_its_room() {
    expect_none("rooms", &rooms(&rust()));
}

#[test]
fn unsafe_code_says_why_it_is_sound() {
    expect_none("SAFETY", &without_reason(&rust()));
}

#[test]
fn the_policy_is_pure() {
    expect_none("policy", &impure(&rust()));
}

#[test]
fn the_rule_of_rooms_fires() {
    let faulty = |path: &str, text: &str| rooms(&[Source::new(path, text)]).len();
    assert_eq!(faulty("fs/src/node.rs", "use fuser::INodeNo;"), 1);
    assert_eq!(faulty("fs/src/fuse/held.rs", "use fuser::INodeNo;"), 0);
    assert_eq!(faulty("fs/src/node.rs", "unsafe { a() }"), 1);
    assert_eq!(faulty("fs/src/sys/map.rs", "unsafe { a() }"), 0);
    assert_eq!(faulty("src/lib.rs", "#![forbid(unsafe_code)] // unsafe"), 0);
    assert_eq!(faulty("fs/src/node.rs", "return Errno::NOENT;"), 1);
    assert_eq!(
        faulty("fs/src/node.rs", "fn a() -> Errno { Errno::from(b) }"),
        0
    );
}

#[test]
fn the_rule_of_safety_fires() {
    let faulty = |text: &str| without_reason(&[Source::new("fs/src/sys/a.rs", text)]).len();
    assert_eq!(faulty("fn a() {\n    unsafe { b() }\n}\n"), 1);
    assert_eq!(
        faulty("fn a() {\n    // SAFETY: b asks for nothing.\n    unsafe { b() }\n}\n"),
        0
    );
    assert_eq!(
        faulty("// SAFETY: of another one.\nfn c() {}\nfn a() {\n    unsafe { b() }\n}\n"),
        1
    );
}

#[test]
fn the_rule_of_purity_fires() {
    let faulty = |text: &str| impure(&[Source::new("policy/src/a.rs", text)]).len();
    assert_eq!(faulty("use std::collections::HashMap;"), 1);
    assert_eq!(faulty("let now = Instant::now();"), 1);
    assert_eq!(faulty("std::thread::spawn(a);"), 1);
    assert_eq!(faulty("let thread = 1; // HashMap"), 0);
}
