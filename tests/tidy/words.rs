//! Every file says first what it is, and words that stand for work left undone, or that mean
//! something else in this field, are not used.

use super::source::{Source, expect_none, line_of, rust, sources, words};

/// A word, what to write instead, and whether only whole words count.
const BANNED: [(&str, &str, bool); 17] = [
    ("TODO", "do it, or file an issue", true),
    ("FIXME", "fix it, or file an issue", true),
    ("XXX", "say what is meant", true),
    ("HACK", "say why it must be so", true),
    ("for now", "say until when, or why it stays", false),
    ("temporarily", "say until when", true),
    (
        "unimplemented!",
        "implement it, or refuse with an error that says so",
        false,
    ),
    ("hydrate", "promote", false),
    ("hotness", "heat", false),
    ("headroom", "reserve", false),
    ("zombie", "draining", false),
    ("initiator", "host (NVMe)", false),
    ("worker pool", "mover", false),
    (
        "should work",
        "say whether it does, and which test shows it",
        false,
    ),
    ("obviously", "leave it out", true),
    ("sanity check", "check", false),
    ("blacklist", "never", false),
];

/// Names of files that say nothing.
const EMPTY_NAMES: [&str; 6] = [
    "util",
    "utils",
    "helper_functions",
    "common",
    "misc",
    "stuff",
];

fn banned(sources: &[Source]) -> Vec<String> {
    let mut faults = Vec::new();
    for source in sources
        .iter()
        .filter(|source| !source.path.starts_with("tests/tidy/"))
    {
        for (word, instead, whole) in BANNED {
            let found = if whole {
                words(&source.text, word).next()
            } else {
                source.text.find(word)
            };
            if let Some(at) = found {
                let line = line_of(&source.text, at);
                faults.push(format!(
                    "{}:{line} says `{word}`; instead: {instead}",
                    source.path
                ));
            }
        }
    }
    faults
}

fn without_head(sources: &[Source]) -> Vec<String> {
    let faulty = sources
        .iter()
        .filter(|source| !source.text.starts_with("//! "));
    faulty
        .map(|source| format!("{} does not begin with `//!`", source.path))
        .collect()
}

fn empty_names(sources: &[Source]) -> Vec<String> {
    let named = |source: &&Source| {
        let parts = source.path.trim_end_matches(".rs").split('/');
        parts.into_iter().any(|part| EMPTY_NAMES.contains(&part))
    };
    let faulty = sources.iter().filter(named);
    faulty
        .map(|source| format!("{}: the name says nothing of what is in it", source.path))
        .collect()
}

#[test]
fn no_banned_words() {
    let mut all = rust();
    all.extend(sources(".md"));
    all.extend(sources(".toml"));
    all.extend(sources("tests/run"));
    expect_none("words", &banned(&all));
}

#[test]
fn every_file_says_what_it_is() {
    expect_none("heads", &without_head(&rust()));
    expect_none("names", &empty_names(&rust()));
}

#[test]
fn the_rule_of_words_fires() {
    for (word, _, _) in BANNED {
        let source = Source::new("src/a.rs", &format!("//! A.\n// {word} b\n"));
        assert_eq!(banned(&[source]).len(), 1, "{word}");
    }
    assert!(banned(&[Source::new("src/a.rs", "TODOS")]).is_empty());
}

#[test]
fn the_rule_of_heads_fires() {
    assert_eq!(
        without_head(&[Source::new("src/a.rs", "// A.\n//! B.\n")]).len(),
        1
    );
    assert!(without_head(&[Source::new("src/a.rs", "//! A.\n")]).is_empty());
    assert_eq!(
        empty_names(&[
            Source::new("src/utils.rs", ""),
            Source::new("src/common/a.rs", "")
        ])
        .len(),
        2
    );
}
