//! What we depend on: every crate has the workspace's lints, every direct dependency is explained in
//! ARCHITECTURE.md, every licence is one that we may ship, and the number of packages has a limit.

use std::collections::BTreeSet;
use std::process::Command;

use super::source::{Source, expect_none, note, root, sources};

/// Licences that may be in a program under Apache-2.0 or MIT.
const LICENCES: [&str; 14] = [
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
    "MPL-2.0",
];
/// More packages than this (all of a Linux build, tests included) are too many to keep an eye on.
const PACKAGES_MAX: usize = 260;

/// Whether an expression of SPDX lets us take licences of the list only.
fn may_ship(expression: &str) -> bool {
    let text = expression.replace('/', " OR ").replace(['(', ')'], " ");
    text.split(" AND ")
        .all(|part| part.split(" OR ").any(|one| LICENCES.contains(&one.trim())))
}

fn metadata() -> serde_json::Value {
    let target = if cfg!(target_arch = "aarch64") {
        "aarch64"
    } else {
        "x86_64"
    };
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--locked",
            "--format-version",
            "1",
            "--filter-platform",
        ])
        .arg(format!("{target}-unknown-linux-gnu"))
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

fn text<'a>(value: &'a serde_json::Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// Names of direct dependencies of our own crates.
fn direct(metadata: &serde_json::Value) -> BTreeSet<String> {
    let packages = metadata["packages"].as_array().unwrap();
    let ours = packages
        .iter()
        .filter(|package| package["source"].is_null());
    let all = ours.flat_map(|package| package["dependencies"].as_array().unwrap());
    let foreign = all.filter(|dependency| !text(dependency, "name").starts_with("speedloader"));
    foreign
        .map(|dependency| text(dependency, "name").to_owned())
        .collect()
}

/// The names in the first column of the table, or of the list, under the heading `Dependencies`.
fn explained(architecture: &str) -> BTreeSet<String> {
    let mut inside = false;
    let mut found = BTreeSet::new();
    for line in architecture.lines() {
        if line.starts_with('#') {
            inside = line
                .trim_start_matches('#')
                .trim()
                .eq_ignore_ascii_case("dependencies");
            continue;
        }
        let row = line
            .strip_prefix("| ")
            .or_else(|| line.strip_prefix("- "))
            .filter(|_| inside);
        let first = row.map(|row| row.split([':', '|']).next().unwrap_or_default());
        for name in first.unwrap_or_default().split('`').skip(1).step_by(2) {
            found.insert(name.to_owned());
        }
    }
    found
}

fn unexplained(direct: &BTreeSet<String>, explained: &BTreeSet<String>) -> Vec<String> {
    let missing = direct.difference(explained);
    let stale = explained.difference(direct);
    missing
        .map(|name| format!("`{name}` is a dependency that ARCHITECTURE.md does not explain"))
        .chain(
            stale.map(|name| format!("ARCHITECTURE.md explains `{name}`, which is no dependency")),
        )
        .collect()
}

fn without_lints(manifests: &[Source]) -> Vec<String> {
    let lacks = |manifest: &&Source| {
        let rest = manifest.text.split("[lints]").nth(1).unwrap_or_default();
        let first = rest.lines().find(|line| !line.trim().is_empty());
        manifest.text.contains("[package]") && first.map(str::trim) != Some("workspace = true")
    };
    let faulty = manifests.iter().filter(lacks);
    faulty
        .map(|manifest| format!("{} has no `[lints] workspace = true`", manifest.path))
        .collect()
}

#[test]
fn every_crate_has_the_workspace_lints() {
    expect_none("lints", &without_lints(&sources("Cargo.toml")));
}

#[test]
fn licences_and_number_of_packages() {
    let metadata = metadata();
    let used: BTreeSet<&str> = metadata["resolve"]["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| text(node, "id"))
        .collect();
    let packages = metadata["packages"].as_array().unwrap();
    let used: Vec<_> = packages
        .iter()
        .filter(|package| used.contains(text(package, "id")))
        .collect();
    let faulty = used
        .iter()
        .filter(|package| !may_ship(text(package, "license")));
    let faults: Vec<String> = faulty
        .map(|package| {
            format!(
                "{} is under `{}`",
                text(package, "name"),
                text(package, "license")
            )
        })
        .collect();
    expect_none("licences", &faults);
    assert!(
        used.len() <= PACKAGES_MAX,
        "{} packages; {PACKAGES_MAX} are the limit",
        used.len()
    );
}

#[test]
fn dependencies_are_explained() {
    match std::fs::read_to_string(root().join("ARCHITECTURE.md")) {
        Ok(architecture) => {
            expect_none(
                "dependencies",
                &unexplained(&direct(&metadata()), &explained(&architecture)),
            );
        }
        Err(_) => note("ARCHITECTURE.md does not exist yet: dependencies are not checked"),
    }
}

#[test]
fn the_rule_of_licences_fires() {
    assert!(may_ship("MIT OR Apache-2.0") && may_ship("(MIT OR GPL-3.0) AND Unicode-3.0"));
    assert!(may_ship("MIT/Apache-2.0"));
    assert!(!may_ship("GPL-3.0-only") && !may_ship("MIT AND GPL-2.0") && !may_ship(""));
}

#[test]
fn the_rule_of_lints_fires() {
    let faulty = |text: &str| without_lints(&[Source::new("Cargo.toml", text)]).len();
    assert_eq!(faulty("[package]\n\n[lints]\nworkspace = true\n"), 0);
    assert_eq!(faulty("[package]\n[dependencies]\n"), 1);
    assert_eq!(faulty("[workspace]\n"), 0);
}

#[test]
fn the_rule_of_dependencies_fires() {
    let text = "# A\n| `no` | x |\n## Dependencies\n| crate | for |\n| `a`, `b` | `c` |\n- `d`: because\n## Next\n- `e`\n";
    let explained = explained(text);
    assert_eq!(
        explained.iter().map(String::as_str).collect::<Vec<_>>(),
        ["a", "b", "d"]
    );
    let direct: BTreeSet<String> = ["a", "b", "x"].map(str::to_owned).into();
    assert_eq!(unexplained(&direct, &explained).len(), 2);
}
