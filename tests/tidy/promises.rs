//! SEMANTICS.md is a list of promises, each with the test that holds it, written `test: name`.
//! Every such test exists, and no promise is without one.

use std::collections::BTreeSet;

use super::source::{Source, expect_none, line_of, root, rust};

const MARK: &str = "test:";

/// All tests, as `file::name` parts from the last: `mounted::writes::append`, `writes::append`,
/// `append`.
fn tests(sources: &[Source]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for source in sources {
        let path = source.path.trim_end_matches(".rs").replace('/', "::");
        let code = source.code();
        let mut awaited = false;
        for line in code.lines().map(str::trim) {
            if line.starts_with("#[test]") {
                awaited = true;
            }
            let name = line
                .strip_prefix("fn ")
                .and_then(|rest| rest.split(['(', '<']).next());
            if let Some(name) = name.filter(|_| awaited) {
                awaited = false;
                let full = format!("{path}::{name}");
                let starts = full.match_indices("::").map(|(at, _)| at + 2);
                found.extend(starts.map(|at| full[at..].to_owned()));
            }
        }
    }
    found
}

/// Tests that a document names and that do not exist, and promises that name none. A promise is an
/// item of a list.
fn broken(document: &Source, tests: &BTreeSet<String>) -> Vec<String> {
    let mut faults = Vec::new();
    for (at, _) in document.text.match_indices(MARK) {
        let line = line_of(&document.text, at);
        let rest = &document.text[at + MARK.len()..];
        let named = rest.split([')', '|']).next().unwrap_or_default();
        // Between backquotes, up to the closing bracket, over the ends of lines.
        for name in named.split('`').skip(1).step_by(2) {
            if !tests.contains(name) {
                faults.push(format!(
                    "{}:{line} names the test `{name}`, which does not exist",
                    document.path
                ));
            }
        }
    }
    for (number, item) in items(&document.text) {
        if !item.contains(MARK) {
            faults.push(format!(
                "{}:{number} promises something that no test holds",
                document.path
            ));
        }
    }
    faults
}

/// The items of a document's lists, with their line numbers.
fn items(text: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let mut inside = false;
    for (number, line) in text.lines().enumerate() {
        if line.starts_with("- ") {
            found.push((number + 1, line.to_owned()));
            inside = true;
        } else if line.starts_with(' ') && inside {
            if let Some((_, item)) = found.last_mut() {
                item.push('\n');
                item.push_str(line);
            }
        } else {
            inside = false;
        }
    }
    found
}

#[test]
fn every_promise_is_held_by_a_test() {
    match std::fs::read_to_string(root().join("SEMANTICS.md")) {
        Ok(text) => {
            let document = Source {
                path: "SEMANTICS.md".to_owned(),
                text,
            };
            expect_none("promises", &broken(&document, &tests(&rust())));
        }
        Err(_) => {
            super::source::note("SEMANTICS.md does not exist yet: its promises are not checked")
        }
    }
}

#[test]
fn the_rule_of_promises_fires() {
    let code = Source::new(
        "tests/mounted/writes.rs",
        "#[test]\nfn append_is_atomic() {}\nfn no_test() {}\n",
    );
    let tests = tests(&[code]);
    assert!(tests.contains("mounted::writes::append_is_atomic") && !tests.contains("no_test"));
    let faulty = |text: &str| broken(&Source::new("SEMANTICS.md", text), &tests).len();
    assert_eq!(faulty("- A (test: `append_is_atomic`)\n"), 0);
    assert_eq!(faulty("- A\n  (test: `writes::append_is_atomic`).\n"), 0);
    assert_eq!(faulty("- A (test: `gone_test`)\n"), 1);
    assert_eq!(
        faulty("- A (test:\n  `append_is_atomic`,\n  `gone_test`) `code`\n"),
        1
    );
    assert_eq!(faulty("- A (test: `append_is_atomic`, `no_test`)\n"), 1);
    assert_eq!(faulty("Text.\n\n- A\n- B (test: `append_is_atomic`)\n"), 1);
}
