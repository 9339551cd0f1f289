//! Where a value comes from: the file (line and column), the environment, an option, or the default.
//!
//! Only names places; does not read them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

/// Where a value of the configuration comes from. Orders by precedence: what is later wins.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "source", rename_all = "lowercase")]
pub enum Origin {
    /// Nobody said anything: the documented default.
    Default,
    /// A configuration file.
    File {
        /// The file's path, as it was named.
        file: Arc<Path>,
        /// Counted from 1; 0 for something that concerns the file as a whole.
        line: u32,
        /// In characters, counted from 1; 0 for something that concerns the file as a whole.
        column: u32,
    },
    /// An environment variable.
    Environment {
        /// The variable's name.
        name: String,
    },
    /// A command-line flag or mount option.
    Option {
        /// The option as it was written, without its value.
        name: String,
    },
}

impl Origin {
    /// The file as a whole, for what is missing from it.
    pub fn whole_file(file: &Arc<Path>) -> Origin {
        Origin::File {
            file: Arc::clone(file),
            line: 0,
            column: 0,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { file, line: 0, .. } => write!(f, "{}", printable(file)),
            Origin::File { file, line, column } => {
                write!(f, "{}:{line}:{column}", printable(file))
            }
            Origin::Environment { name } => write!(f, "environment {name}"),
            Origin::Option { name } => write!(f, "option {name}"),
        }
    }
}

/// A path that cannot move the cursor of whoever's terminal it is printed on.
fn printable(path: &Path) -> String {
    path.display()
        .to_string()
        .chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

/// Turns byte offsets of one text into lines and columns.
#[derive(Debug)]
pub(crate) struct Lines<'t> {
    file: Arc<Path>,
    text: &'t str,
    /// Where each line starts.
    starts: Vec<usize>,
    /// How many characters begin before each multiple of [`MARK_BYTES`], so that a place deep in an endless line is
    /// found without counting the whole line.
    marks: Vec<usize>,
}

const MARK_BYTES: usize = 1024;

/// True for the first byte of a character of UTF-8.
fn begins_char(byte: &u8) -> bool {
    byte & 0xc0 != 0x80
}

impl<'t> Lines<'t> {
    /// An index of the text that was read from this file.
    pub(crate) fn new(file: &Path, text: &'t str) -> Lines<'t> {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(i, _)| i + 1));
        let mut marks = vec![0];
        for piece in text.as_bytes().chunks(MARK_BYTES) {
            let before = marks.last().copied().unwrap_or(0);
            marks.push(before + piece.iter().filter(|byte| begins_char(byte)).count());
        }
        Lines {
            file: PathBuf::from(file).into(),
            text,
            starts: starts.collect(),
            marks,
        }
    }

    /// How many characters begin before a byte offset of the text.
    fn chars_before(&self, offset: usize) -> usize {
        let mark = offset / MARK_BYTES;
        let rest = &self.text.as_bytes()[mark * MARK_BYTES..offset];
        self.marks[mark] + rest.iter().filter(|byte| begins_char(byte)).count()
    }

    /// The text itself.
    pub(crate) fn text(&self) -> &'t str {
        self.text
    }

    /// The file as a whole.
    pub(crate) fn whole(&self) -> Origin {
        Origin::whole_file(&self.file)
    }

    /// The place of a column in bytes, counted from 1, of a line, counted from 1.
    pub(crate) fn at_line(&self, line: usize, column: usize) -> Origin {
        let start = self
            .starts
            .get(line.saturating_sub(1))
            .copied()
            .unwrap_or(self.text.len());
        self.at(start.saturating_add(column.saturating_sub(1)))
    }

    /// The place of a byte offset; an offset past the end is the end.
    pub(crate) fn at(&self, offset: usize) -> Origin {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = self.starts[line - 1];
        let column = self.chars_before(offset) - self.chars_before(start) + 1;
        let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Origin::File {
            file: Arc::clone(&self.file),
            line: small(line),
            column: small(column),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_become_lines_and_columns_in_characters() {
        let lines = Lines::new(Path::new("/f"), "ab\nä=1\n");
        let place = |offset| lines.at(offset).to_string();
        assert_eq!(place(0), "/f:1:1");
        assert_eq!(place(2), "/f:1:3");
        assert_eq!(place(3), "/f:2:1");
        assert_eq!(place(4), "/f:2:1", "inside a character counts as its start");
        assert_eq!(place(5), "/f:2:2");
        assert_eq!(place(8), "/f:3:1");
        assert_eq!(place(999), "/f:3:1");
        assert_eq!(lines.whole().to_string(), "/f");
        assert_eq!(
            Lines::new(Path::new("/\x1b[2J"), "").at(7).to_string(),
            "/?[2J:1:1"
        );
    }

    #[test]
    fn columns_of_long_lines_are_counted_too() {
        let text = format!("x\n{}", "äb".repeat(5_000));
        let lines = Lines::new(Path::new("/f"), &text);
        for (i, (offset, _)) in text.char_indices().enumerate().skip(2) {
            assert_eq!(lines.at(offset).to_string(), format!("/f:2:{}", i - 1));
        }
        assert_eq!(lines.at(text.len()).to_string(), "/f:2:10001");
    }

    #[test]
    fn later_sources_order_after_earlier_ones() {
        let file = Lines::new(Path::new("/f"), "x").at(0);
        let name = String::new();
        let environment = Origin::Environment { name: name.clone() };
        assert!(Origin::Default < file && file < environment);
        assert!(environment < Origin::Option { name });
    }
}
