//! The table of deviations, and the comparison that holds it: what differs must be listed, with a
//! reason, and what is listed must differ.

use std::collections::{BTreeMap, BTreeSet};

use super::mode::Mode;

/// How a test of a suite ended, in the suite's own words.
pub type Results = BTreeMap<String, String>;

const TABLE: &str = include_str!("deviations.toml");

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Deviation {
    test: String,
    below: String,
    mount: String,
}

/// The entries of the table for a suite in a mode, and whether each may be none.
fn listed(table: &str, suite: &str, mode: Mode) -> BTreeMap<Deviation, bool> {
    let table: toml::Table = table.parse().unwrap();
    let entries = table["deviation"].as_array().unwrap();
    let text = |entry: &toml::Value, key: &str| {
        let text = entry.get(key).and_then(toml::Value::as_str);
        let text = text.unwrap_or_else(|| panic!("a deviation has no `{key}`: {entry}"));
        assert!(!text.trim().is_empty(), "`{key}` is empty: {entry}");
        text.to_owned()
    };
    let concerned = |entry: &&toml::Value| {
        assert!(text(entry, "reason").len() > 40, "say why: {entry}");
        let modes = entry["modes"].as_array().unwrap();
        let known = |name: &toml::Value| matches!(name.as_str(), Some("passthrough" | "daemon"));
        assert!(modes.iter().all(known), "unknown mode: {entry}");
        let mode = mode.to_string();
        text(entry, "suite") == suite && modes.iter().any(|name| name.as_str() == Some(&mode))
    };
    let deviation = |entry: &toml::Value| {
        let deviation = Deviation {
            test: text(entry, "test"),
            below: text(entry, "below"),
            mount: text(entry, "mount"),
        };
        let sometimes = entry.get("sometimes").and_then(toml::Value::as_bool);
        (deviation, sometimes.unwrap_or(false))
    };
    entries.iter().filter(concerned).map(deviation).collect()
}

/// What differs, as it would have to be listed.
fn found(below: &Results, mount: &Results) -> BTreeSet<Deviation> {
    let tests: BTreeSet<&String> = below.keys().chain(mount.keys()).collect();
    let verdict = |results: &Results, test: &str| {
        let verdict = results.get(test).map_or("not run", String::as_str);
        verdict.to_owned()
    };
    let both = |test: &String| Deviation {
        test: test.clone(),
        below: verdict(below, test),
        mount: verdict(mount, test),
    };
    tests
        .into_iter()
        .map(both)
        .filter(|deviation| deviation.below != deviation.mount)
        .collect()
}

/// What is wrong: deviations that are not listed, and listed ones that are none.
fn faults(table: &str, suite: &str, mode: Mode, below: &Results, mount: &Results) -> Vec<String> {
    let (listed, found) = (listed(table, suite, mode), found(below, mount));
    let unlisted = found.iter().filter(|found| !listed.contains_key(found));
    let unlisted = unlisted.map(|deviation| {
        format!(
            "{}: {} below, {} on the mount, and not in deviations.toml",
            deviation.test, deviation.below, deviation.mount
        )
    });
    let stale = listed
        .iter()
        .filter(|(listed, sometimes)| !**sometimes && !found.contains(listed));
    let stale = stale.map(|(deviation, _)| {
        format!(
            "{}: in deviations.toml, but not {} below and {} on the mount",
            deviation.test, deviation.below, deviation.mount
        )
    });
    unlisted.chain(stale).collect()
}

/// Compares the results of a suite; `more` says what is known of a test that deviates.
pub fn check(
    suite: &str,
    mode: Mode,
    below: &Results,
    mount: &Results,
    more: impl Fn(&str) -> String,
) {
    let faults = faults(TABLE, suite, mode, below, mount);
    assert!(
        faults.is_empty(),
        "{suite} ({mode}):\n{}",
        faults
            .iter()
            .map(|fault| format!(
                "{fault}\n{}",
                more(fault.split(": ").next().unwrap_or_default())
            ))
            .collect::<String>()
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = r#"
        [[deviation]]
        suite = "s"
        test = "a::b"
        modes = ["daemon"]
        below = "ok"
        mount = "FAILED"
        reason = "a reason that is long enough to be one, for it says why"
    "#;

    fn results(pairs: &[(&str, &str)]) -> Results {
        let owned = pairs
            .iter()
            .map(|(test, verdict)| ((*test).to_owned(), (*verdict).to_owned()));
        owned.collect()
    }

    #[test]
    fn only_what_is_listed_may_differ_and_what_is_listed_must() {
        let (good, bad) = (results(&[("a::b", "ok")]), results(&[("a::b", "FAILED")]));
        let count = |mode, below, mount| faults(EXAMPLE, "s", mode, below, mount).len();
        assert_eq!(count(Mode::Daemon, &good, &bad), 0);
        assert_eq!(count(Mode::Daemon, &good, &good), 1);
        // Listed with other verdicts: one that is not listed, and one that is none.
        assert_eq!(count(Mode::Daemon, &bad, &good), 2);
        assert_eq!(count(Mode::Passthrough, &good, &bad), 1);
        assert_eq!(count(Mode::Passthrough, &good, &Results::new()), 1);
        let sometimes = format!("{EXAMPLE}\nsometimes = true");
        assert!(faults(&sometimes, "s", Mode::Daemon, &good, &good).is_empty());
        assert!(faults(&sometimes, "s", Mode::Daemon, &good, &bad).is_empty());
        assert_eq!(
            faults(EXAMPLE, "other", Mode::Daemon, &good, &good).len(),
            0
        );
    }

    #[test]
    fn every_deviation_is_told_in_semantics() {
        let told = include_str!("../../SEMANTICS.md");
        for mode in [Mode::Passthrough, Mode::Daemon] {
            for deviation in listed(TABLE, "pjdfstest", mode).keys() {
                let row = format!("| `{}` | {} |", deviation.test, deviation.below);
                assert!(told.contains(&row), "SEMANTICS.md has no row {row}");
            }
            assert!(listed(TABLE, "no such suite", mode).is_empty());
        }
    }
}
