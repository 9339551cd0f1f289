//! The files of the repository as the rules see them: path, text, and the text without what the
//! compiler does not read.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A text file.
#[derive(Clone, Debug)]
pub struct Source {
    /// From the top of the repository, with slashes.
    pub path: String,
    /// As written.
    pub text: String,
}

impl Source {
    /// For the tests of the rules.
    pub fn new(path: &str, text: &str) -> Self {
        Source {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    /// The text with comments, strings and characters blanked; lines and columns stay.
    pub fn code(&self) -> String {
        code_of(&self.text)
    }

    /// The same without the tests at its end.
    pub fn product_code(&self) -> String {
        let code = self.code();
        let end = tests_start(&code).unwrap_or(code.len());
        code[..end].to_owned()
    }

    /// How many lines come before the tests at its end.
    pub fn product_lines(&self) -> usize {
        self.product_code().lines().count()
    }
}

/// Where the tests at the end of a file begin.
fn tests_start(code: &str) -> Option<usize> {
    code.match_indices("#[cfg(test)]")
        .map(|(at, _)| at)
        .find(|at| {
            code[*at..]
                .lines()
                .nth(1)
                .is_some_and(|line| line.starts_with("mod ") && line.ends_with('{'))
        })
}

/// The top of the repository.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All files that belong to the repository, as git knows them, else as the directory has them.
pub fn all_paths() -> Vec<String> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output();
    let mut paths: Vec<String> = match listed {
        Ok(output) if output.status.success() => String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect(),
        _ => {
            let mut found = Vec::new();
            walk(&root(), "", &mut found);
            found
        }
    };
    paths.retain(|path| root().join(path).is_file());
    paths.sort();
    paths
}

fn walk(directory: &Path, prefix: &str, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if name == "target" || name == ".git" {
            continue;
        }
        let path = format!("{prefix}{name}");
        if entry.file_type().unwrap().is_dir() {
            walk(&entry.path(), &format!("{path}/"), found);
        } else {
            found.push(path);
        }
    }
}

/// All files of the repository that end so.
pub fn sources(suffix: &str) -> Vec<Source> {
    let paths = all_paths();
    let ours = paths.into_iter().filter(|path| path.ends_with(suffix));
    ours.map(|path| {
        let text = std::fs::read_to_string(root().join(&path)).unwrap();
        Source { path, text }
    })
    .collect()
}

/// All Rust files.
pub fn rust() -> Vec<Source> {
    sources(".rs")
}

/// Fails with all faults, a line each.
pub fn expect_none(rule: &str, faults: &[String]) {
    assert!(faults.is_empty(), "{rule}:\n  {}\n", faults.join("\n  "));
}

/// Says something that fails nothing. Past libtest, which would keep it to itself.
pub fn note(text: &str) {
    // Nobody listens: nothing is lost.
    let _ = writeln!(std::io::stderr(), "NOTE {text}");
}

/// Line number, from 1, of a byte offset.
pub fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// Where a word begins in a text, as a whole word.
pub fn words<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.match_indices(word)
        .map(|(at, _)| at)
        .filter(move |at| {
            let bytes = text.as_bytes();
            let before = at.checked_sub(1).is_some_and(|at| is_word(bytes[at]));
            let after = bytes
                .get(at + word.len())
                .is_some_and(|byte| is_word(*byte));
            !before && !after
        })
}

fn code_of(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => bytes[at..]
                .iter()
                .position(|byte| *byte == b'\n')
                .map_or(bytes.len(), |n| at + n),
            b'/' if bytes[at..].starts_with(b"/*") => end_of_block(bytes, at),
            b'"' => end_of_string(bytes, at),
            b'r' | b'b' if !follows_word(bytes, at) => match raw_string(bytes, at) {
                Some(end) => end,
                None => at,
            },
            b'\'' => end_of_character(bytes, at),
            _ => at,
        };
        for byte in &mut code[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    String::from_utf8(code).unwrap()
}

fn follows_word(bytes: &[u8], at: usize) -> bool {
    at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_')
}

fn end_of_block(bytes: &[u8], start: usize) -> usize {
    let (mut depth, mut at) = (0, start);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if bytes[at..].starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    bytes.len()
}

fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The end of `r"..."`, `r#"..."#`, `br#"..."#`; `None` when none starts here.
fn raw_string(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    if bytes[at] == b'b' {
        at += 1;
    }
    if bytes.get(at) != Some(&b'r') {
        return None;
    }
    at += 1;
    let hashes = bytes[at..].iter().take_while(|byte| **byte == b'#').count();
    at += hashes;
    if bytes.get(at) != Some(&b'"') {
        return None;
    }
    let mut close = vec![b'"'];
    close.extend(std::iter::repeat_n(b'#', hashes));
    let rest = &bytes[at + 1..];
    let found = rest
        .windows(close.len())
        .position(|window| window == close)?;
    Some(at + 1 + found + close.len())
}

/// The end of a character; a lifetime ends where it starts.
fn end_of_character(bytes: &[u8], start: usize) -> usize {
    match bytes.get(start + 1) {
        Some(b'\\') => {
            let rest = bytes.get(start + 3..).unwrap_or_default();
            rest.iter()
                .position(|byte| *byte == b'\'')
                .map_or(start, |n| start + 3 + n + 1)
        }
        Some(_) => {
            // One character of up to four bytes, then a quote.
            let width = (1..=4).find(|width| bytes.get(start + 1 + width) == Some(&b'\''));
            let text = width
                .and_then(|width| std::str::from_utf8(&bytes[start + 1..start + 1 + width]).ok());
            match text {
                Some(text) if text.chars().count() == 1 => start + 2 + text.len(),
                _ => start,
            }
        }
        None => start,
    }
}

#[test]
fn only_code_is_code() {
    let text = r###"let a = "unsafe // no"; // unsafe
/* unsafe /* nested */ unsafe */ let b = r#"unsafe " "#; let c = '"'; let d = '\''; fn e<'a>() {}
let f = b"unsafe"; let g = "a\"unsafe"; unsafe"###;
    let code = code_of(text);
    assert_eq!(code.matches("unsafe").count(), 1, "{code}");
    assert_eq!(code.len(), text.len());
    assert!(code.contains("fn e<'a>() {}"), "{code}");
}

#[test]
fn tests_at_the_end_are_no_product() {
    let source = Source::new(
        "a.rs",
        "//! A.\nfn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\n",
    );
    assert!(source.product_code().contains("fn a"));
    assert!(!source.product_code().contains("fn b"));
    assert_eq!(source.product_lines(), 2);
    let other = Source::new("lib.rs", "#[cfg(test)]\nmod tests;\nfn a() {}\n");
    assert!(other.product_code().contains("fn a"));
}

#[test]
fn words_are_whole() {
    assert_eq!(
        words("unsafe_code unsafe xunsafe", "unsafe").collect::<Vec<_>>(),
        [12]
    );
}
