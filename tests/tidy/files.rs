//! No file is dead: every Rust file is named by the one above it, and every relative link of a
//! document leads somewhere. Long files are reported, since a reader decides what to do about them.

use std::collections::BTreeSet;
use std::io::Write;

use super::source::{Source, all_paths, expect_none, line_of, root, rust, sources};

/// A file whose product code is longer than this is worth a look.
const LONG_LINES: usize = 500;

/// Files that no other Rust file names: the compiler starts with them.
#[derive(Default)]
struct Roots {
    /// Those that a manifest names, as `[[bin]]` and the like; Cargo finds the others by itself.
    named: BTreeSet<String>,
}

impl Roots {
    fn of(manifests: &[Source]) -> Roots {
        let paths = |manifest: &Source| {
            let directory = manifest.path.strip_suffix("Cargo.toml").unwrap_or_default();
            let lines = manifest.text.lines();
            let paths = lines.filter_map(|line| line.strip_prefix("path = \"")?.strip_suffix('"'));
            paths
                .map(|path| format!("{directory}{path}"))
                .collect::<Vec<_>>()
        };
        Roots {
            named: manifests.iter().flat_map(paths).collect(),
        }
    }

    fn has(&self, path: &str) -> bool {
        let name = path.rsplit('/').next().unwrap_or(path);
        let parent = path.rsplit('/').nth(1).unwrap_or_default();
        matches!(name, "lib.rs" | "main.rs")
            || matches!(parent, "tests" | "benches" | "examples" | "bin")
            || self.named.contains(path)
    }
}

/// Every path that a file's `mod` lines lead to; inline modules are directories.
fn leads_to(source: &Source, roots: &Roots) -> Vec<String> {
    let stem = source.path.trim_end_matches(".rs");
    let directory = match stem.rsplit_once('/') {
        Some((directory, "mod")) => directory.to_owned(),
        _ if !roots.has(&source.path) => stem.to_owned(),
        Some((directory, _)) => directory.to_owned(),
        None => String::new(),
    };
    let mut inside: Vec<String> = Vec::new();
    let mut found = Vec::new();
    let mut depth = 0_usize;
    let mut depths = Vec::new();
    for line in source.code().lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let at = words.iter().position(|word| *word == "mod");
        if let Some(name) = at.and_then(|at| words.get(at + 1)) {
            let mut parts = vec![directory.clone()];
            parts.extend(inside.iter().cloned());
            if let Some(name) = name.strip_suffix(';') {
                let directory = parts.join("/");
                found.extend([".rs", "/mod.rs"].map(|end| format!("{directory}/{name}{end}")));
            } else {
                inside.push((*name).to_owned());
                depths.push(depth);
            }
        }
        depth = (depth + line.matches('{').count()).saturating_sub(line.matches('}').count());
        while depths.last().is_some_and(|opened| depth <= *opened) && line.contains('}') {
            depths.pop();
            inside.pop();
        }
    }
    found
}

fn dead_files(sources: &[Source], roots: &Roots) -> Vec<String> {
    let leads = |source| leads_to(source, roots);
    let named: BTreeSet<String> = sources.iter().flat_map(leads).collect();
    let dead = sources
        .iter()
        .filter(|source| !roots.has(&source.path) && !named.contains(&source.path));
    dead.map(|source| {
        format!(
            "{} is named by no other file: it is not compiled",
            source.path
        )
    })
    .collect()
}

/// Relative links of a document that lead nowhere.
fn dead_links(document: &Source, exists: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut faults = Vec::new();
    for (at, _) in document.text.match_indices("](") {
        let rest = &document.text[at + 2..];
        let Some(target) = rest.split(')').next() else {
            continue;
        };
        let target = target.split_whitespace().next().unwrap_or_default();
        let file = target.split('#').next().unwrap_or_default();
        if file.is_empty() || file.contains("://") || file.starts_with("mailto:") {
            continue;
        }
        let directory = document
            .path
            .rsplit_once('/')
            .map_or("", |(directory, _)| directory);
        if !exists(&normal(&format!("{directory}/{file}"))) {
            let line = line_of(&document.text, at);
            faults.push(format!(
                "{}:{line} leads to {target}, which is not there",
                document.path
            ));
        }
    }
    faults
}

fn normal(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[test]
fn no_dead_files() {
    let roots = Roots::of(&sources("Cargo.toml"));
    expect_none("dead files", &dead_files(&rust(), &roots));
}

#[test]
fn no_dead_links() {
    let paths: BTreeSet<String> = all_paths().into_iter().collect();
    let exists =
        |path: &str| paths.contains(path) || (path.is_empty() || root().join(path).is_dir());
    let faults: Vec<String> = sources(".md")
        .iter()
        .flat_map(|document| dead_links(document, &exists))
        .collect();
    expect_none("links", &faults);
}

#[test]
fn long_files_are_reported() {
    for source in rust() {
        let lines = source.product_lines();
        if lines > LONG_LINES {
            // Past libtest, which would keep it to itself.
            let _ = writeln!(
                std::io::stderr(),
                "LONG {}: {lines} lines before its tests",
                source.path
            );
        }
    }
}

#[test]
fn the_rule_of_dead_files_fires() {
    let main = Source::new(
        "tests/main.rs",
        "//! A.\nmod a {\n    pub mod b;\n    mod c {\n        mod d;\n    }\n}\nmod e;\n",
    );
    assert_eq!(
        leads_to(&main, &Roots::default()),
        [
            "tests/a/b.rs",
            "tests/a/b/mod.rs",
            "tests/a/c/d.rs",
            "tests/a/c/d/mod.rs",
            "tests/e.rs",
            "tests/e/mod.rs"
        ]
    );
    let room = Source::new("fs/src/room.rs", "pub(crate) mod a;\n");
    assert_eq!(
        leads_to(&room, &Roots::default()),
        ["fs/src/room/a.rs", "fs/src/room/a/mod.rs"]
    );
    let dead = [
        main,
        Source::new("tests/a/b.rs", ""),
        Source::new("tests/a/x.rs", ""),
    ];
    assert_eq!(dead_files(&dead, &Roots::default()).len(), 1);
    let manifest = Source::new(
        "tests/fuzz/Cargo.toml",
        "[[bin]]\nname = \"a\"\npath = \"targets/a.rs\"\n",
    );
    let programs = [
        Source::new("tests/fuzz/targets/a.rs", "mod shared;\n"),
        Source::new("tests/fuzz/targets/shared.rs", ""),
        Source::new("tests/fuzz/targets/x.rs", ""),
    ];
    let faults = dead_files(&programs, &Roots::of(&[manifest]));
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].contains("targets/x.rs"), "{faults:?}");
}

#[test]
fn the_rule_of_links_fires() {
    let text = "[a](b.md) [c](../d.md#e) [f](https://g/h) [i](#j) [k](gone.md)";
    let document = Source::new("docs/a.md", text);
    let exists = |path: &str| path == "docs/b.md" || path == "d.md";
    let faults = dead_links(&document, &exists);
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].contains("gone.md"), "{faults:?}");
}
