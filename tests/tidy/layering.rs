//! The order of `mod` lines is the layering: a module names only modules that are declared above
//! it, in every crate and at every depth. The crates below the program name neither each other nor
//! the program.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{Source, expect_none, line_of, rust, words};

/// Crates whose modules are in order.
const CRATES: [&str; 4] = ["config/src/", "policy/src/", "fs/src/", "src/"];
/// What `config`, `policy` and `fs` must not name.
const OURS: [(&str, &str); 4] = [
    ("config/", "speedloader_config"),
    ("policy/", "speedloader_policy"),
    ("fs/", "speedloader_fs"),
    ("src/", "speedloader"),
];

type Path = Vec<String>;

/// Modules of a crate: each with those it declares, in order.
struct Crate<'a> {
    files: Vec<(Path, &'a Source)>,
    children: BTreeMap<Path, Vec<String>>,
}

impl<'a> Crate<'a> {
    fn new(prefix: &str, sources: &'a [Source]) -> Self {
        let ours = sources
            .iter()
            .filter(|source| source.path.starts_with(prefix));
        let files: Vec<(Path, &Source)> = ours
            .map(|source| (module_path(&source.path[prefix.len()..]), source))
            .collect();
        let children = files
            .iter()
            .map(|(path, source)| (path.clone(), declared(&source.code())))
            .collect();
        Crate { files, children }
    }

    /// Where the name of a module that lies beside or above another one comes later than it.
    fn is_above(&self, from: &Path, to: &Path) -> bool {
        let shared = shared(from, to);
        let (Some(own), Some(other)) = (from.get(shared), to.get(shared)) else {
            return false;
        };
        let order = self
            .children
            .get(&from[..shared])
            .map(Vec::as_slice)
            .unwrap_or_default();
        let place = |name: &String| order.iter().position(|declared| declared == name);
        matches!((place(own), place(other)), (Some(own), Some(other)) if other > own)
    }

    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (own, source) in &self.files {
            let is_test = own
                .iter()
                .any(|name| name.ends_with("tests") || name == "testing");
            if own.is_empty() || is_test {
                continue;
            }
            let code = source.product_code();
            let mut found = BTreeSet::new();
            for (at, named) in names(&code, own) {
                if self.is_above(own, &named) {
                    found.insert(format!(
                        "{}:{} names `{}`, which is declared below `{}`",
                        source.path,
                        line_of(&code, at),
                        named[..=shared(own, &named)].join("::"),
                        own.join("::")
                    ));
                }
            }
            faults.extend(found);
        }
        faults
    }
}

/// How many parts two paths share.
fn shared(one: &Path, other: &Path) -> usize {
    one.iter().zip(other).take_while(|(a, b)| a == b).count()
}

fn module_path(file: &str) -> Path {
    let stem = file.strip_suffix(".rs").unwrap_or(file);
    match stem {
        "lib" | "main" => Vec::new(),
        stem => stem.split('/').map(str::to_owned).collect(),
    }
}

/// The modules that a file declares, in order.
fn declared(code: &str) -> Vec<String> {
    code.lines()
        .filter_map(|line| {
            let line = line.trim();
            let line = line
                .strip_prefix("pub")
                .map_or(line, |rest| match rest.strip_prefix('(') {
                    Some(rest) => rest.split_once(')').map_or("", |(_, rest)| rest),
                    None => rest,
                });
            let name = line.trim().strip_prefix("mod ")?.strip_suffix(';')?;
            Some(name.to_owned())
        })
        .collect()
}

/// Every module path that a file names, as far as it can be told without the compiler.
fn names(code: &str, own: &Path) -> Vec<(usize, Path)> {
    let mut found = Vec::new();
    for start in ["crate", "super"] {
        for at in words(code, start) {
            let before = code[..at].trim_end();
            if before.ends_with("::") {
                continue;
            }
            let mut base = if start == "crate" {
                Vec::new()
            } else {
                own[..own.len().saturating_sub(1)].to_vec()
            };
            let mut rest = &code[at + start.len()..];
            while let Some(after) = rest.strip_prefix("::super") {
                base.pop();
                rest = after;
            }
            if let Some(rest) = rest.strip_prefix("::") {
                tree(rest, &base, &mut |path| found.push((at, path)));
            }
        }
    }
    found
}

/// The paths of a use tree: `a::b`, `{a, b::{c, d}}`.
fn tree(text: &str, base: &Path, found: &mut dyn FnMut(Path)) {
    if let Some(inner) = text.strip_prefix('{') {
        for part in branches(inner) {
            tree(part.trim_start(), base, found);
        }
        return;
    }
    let end = text
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(text.len());
    if end == 0 {
        return;
    }
    let mut path = base.clone();
    path.push(text[..end].to_owned());
    match text[end..].strip_prefix("::") {
        Some(rest) if rest.starts_with(|c: char| c == '{' || c.is_alphabetic()) => {
            found(path.clone());
            tree(rest, &path, found);
        }
        _ => found(path),
    }
}

/// What commas separate up to the closing brace.
fn branches(text: &str) -> Vec<&str> {
    let (mut depth, mut start) = (0, 0);
    let mut parts = Vec::new();
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 0 => {
                parts.push(&text[start..at]);
                return parts;
            }
            b'}' => depth -= 1,
            b',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts
}

fn layering(sources: &[Source]) -> Vec<String> {
    CRATES
        .iter()
        .flat_map(|prefix| Crate::new(prefix, sources).faults())
        .collect()
}

fn strangers(sources: &[Source]) -> Vec<String> {
    let mut faults = Vec::new();
    for source in sources {
        let Some((own, _)) = OURS
            .iter()
            .find(|(prefix, _)| source.path.starts_with(prefix))
        else {
            continue;
        };
        let own_crate = OURS.iter().find(|(prefix, _)| prefix == own);
        let code = source.code();
        for (_, name) in OURS
            .iter()
            .filter(|other| *own != "src/" && Some(*other) != own_crate)
        {
            if let Some(at) = words(&code, name).next() {
                let line = line_of(&code, at);
                faults.push(format!(
                    "{}:{line} names `{name}`; only src/ knows several crates",
                    source.path
                ));
            }
        }
    }
    faults
}

#[test]
fn modules_name_only_what_is_above_them() {
    expect_none("layering", &layering(&rust()));
}

#[test]
fn crates_do_not_name_each_other() {
    expect_none("crates", &strangers(&rust()));
    for name in ["config", "policy", "fs"] {
        let manifest =
            std::fs::read_to_string(super::source::root().join(name).join("Cargo.toml")).unwrap();
        let dependencies = manifest.split("[dependencies]").nth(1).unwrap_or_default();
        assert!(
            !dependencies.contains("speedloader"),
            "{name}/Cargo.toml depends on another crate of ours"
        );
    }
}

#[test]
fn the_rule_of_layers_fires() {
    let lib = Source::new(
        "fs/src/lib.rs",
        "//! A.\npub mod low;\npub(crate) mod high;\nmod top;\n",
    );
    let faulty = |path: &str, text: &str| layering(&[lib.clone(), Source::new(path, text)]).len();
    assert_eq!(faulty("fs/src/low.rs", "use crate::high::A;"), 1);
    assert_eq!(
        faulty("fs/src/low.rs", "use crate::{low::B, high::{self, A}};"),
        1
    );
    assert_eq!(faulty("fs/src/low.rs", "use super::high;"), 1);
    assert_eq!(faulty("fs/src/low.rs", "fn a() { crate::top::b() }"), 1);
    assert_eq!(faulty("fs/src/low/deep.rs", "use super::super::high;"), 1);
    assert_eq!(
        faulty("fs/src/high.rs", "use crate::low::A; // crate::top"),
        0
    );
    assert_eq!(
        faulty(
            "fs/src/low.rs",
            "fn a() {}\n#[cfg(test)]\nmod tests {\n use crate::high;\n}"
        ),
        0
    );
    let room = Source::new("fs/src/low.rs", "mod a;\nmod b;\n");
    let child = Source::new("fs/src/low/a.rs", "use super::b::C; use super::D;");
    assert_eq!(layering(&[lib, room, child]).len(), 1);
}

#[test]
fn the_rule_of_crates_fires() {
    assert_eq!(
        strangers(&[Source::new("fs/src/a.rs", "use speedloader_policy::plan;")]).len(),
        1
    );
    assert_eq!(
        strangers(&[Source::new("policy/src/a.rs", "use speedloader::view;")]).len(),
        1
    );
    assert_eq!(
        strangers(&[Source::new(
            "fs/src/a.rs",
            "use speedloader_fs::a; // speedloader_policy"
        )])
        .len(),
        0
    );
    assert_eq!(
        strangers(&[Source::new("src/a.rs", "use speedloader_policy::plan;")]).len(),
        0
    );
}
