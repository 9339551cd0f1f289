//! A line of fstab(5), below a comment by which it is known again. All other lines stay byte for byte.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::mark::{MARK, Whose, digest};
use crate::command::{Code, Message};
use crate::view::human::escape;

/// Where it is.
pub(super) const PATH: &str = "/etc/fstab";
/// By which mount(8) runs the program, without any package of FUSE.
pub(super) const HELPER: &str = "/sbin/mount.fuse.speedloader";

const TYPE: &[u8] = b"fuse.speedloader";

/// The line for a configuration and its mountpoint, without its end.
///
/// # Errors
/// [`Code::Usage`] for a path that no line can name.
pub(super) fn line(mountpoint: &Path, config: &Path) -> Result<String, Message> {
    let (mountpoint, config) = (field(mountpoint, "")?, field(config, ",\"\\")?);
    Ok(format!(
        "speedloader  {mountpoint}  fuse.speedloader  config={config},_netdev,nofail  0 0"
    ))
}

/// A path as a field, or within one. What is `refused` has a meaning among options that mount(8) and its libraries do not
/// agree on.
fn field(path: &Path, refused: &str) -> Result<String, Message> {
    let text = path
        .to_str()
        .filter(|text| !text.contains(|c: char| c.is_control() || refused.contains(c)));
    let text = text.ok_or_else(|| {
        let shown = escape(path.as_os_str().as_encoded_bytes());
        let text = format!("{shown} cannot be named in {PATH}");
        let hint = match refused {
            "" => "wanted: a path of printable UTF-8",
            _ => "wanted: a path of printable UTF-8 without comma, quote and backslash; or the service, without --fstab",
        };
        Message::new(Code::Usage, text).with_hint(hint)
    })?;
    Ok(text
        .replace('\\', "\\134")
        .replace(' ', "\\040")
        .replace('#', "\\043"))
}

/// A table with our lines taken out.
pub(super) struct Table {
    lines: Vec<Vec<u8>>,
    /// Where ours were.
    at: Option<usize>,
    /// Whose they were; others', if there were none.
    pub(super) whose: Whose,
}

impl Table {
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut rest = bytes.split_inclusive(|byte| *byte == b'\n').peekable();
        let mut table = Table {
            lines: Vec::new(),
            at: None,
            whose: Whose::Others,
        };
        while let Some(line) = rest.next() {
            let Some(promised) = promised(line) else {
                table.lines.push(line.to_vec());
                continue;
            };
            table.at.get_or_insert(table.lines.len());
            let own = rest.next_if(|next| fields(next).nth(2) == Some(TYPE));
            let is_whole = own.is_some_and(|own| digest(trimmed(own)) == promised);
            // One that somebody has touched makes all of them so.
            table.whose = match (is_whole, table.whose) {
                (true, Whose::Others | Whose::Ours) => Whose::Ours,
                (false, _) | (_, Whose::Changed) => Whose::Changed,
            };
        }
        table
    }

    /// The line of somebody else that mounts something at `mountpoint`, as it is shown.
    pub(super) fn other_at(&self, mountpoint: &Path) -> Option<String> {
        let is_there = |line: &[u8]| {
            let at = fields(line).nth(1).map(unescape);
            at.is_some_and(|at| Path::new(OsStr::from_bytes(&at)) == mountpoint)
        };
        let mut lines = self.lines.iter();
        lines
            .find(|line| is_there(line))
            .map(|line| escape(line.trim_ascii()))
    }

    /// The table with `line`, where ours was or at the end.
    pub(super) fn with(&self, line: &str) -> Vec<u8> {
        let at = self.at.unwrap_or(self.lines.len());
        let mut bytes = self.lines[..at].concat();
        if !bytes.is_empty() && !bytes.ends_with(b"\n") {
            bytes.push(b'\n');
        }
        let mark = format!("# {MARK}{} of the next line\n", digest(line.as_bytes()));
        bytes.extend_from_slice(mark.as_bytes());
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
        bytes.extend(self.lines[at..].concat());
        bytes
    }

    /// The table without it.
    pub(super) fn without(&self) -> Vec<u8> {
        self.lines.concat()
    }
}

/// The digest that a mark promises of the next line.
fn promised(line: &[u8]) -> Option<&str> {
    let line = std::str::from_utf8(line).ok()?;
    line.strip_prefix("# ")?
        .strip_prefix(MARK)?
        .split_whitespace()
        .next()
}

fn trimmed(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\n").unwrap_or(line)
}

/// The fields of a line; none of a comment.
fn fields(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let is_comment = line.trim_ascii_start().starts_with(b"#");
    let fields = line.split(|byte| byte.is_ascii_whitespace());
    fields.filter(move |field| !is_comment && !field.is_empty())
}

/// A field with its octal escapes read.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [byte, after @ ..] = rest {
        let digits = after.get(..3).filter(|_| *byte == b'\\');
        let number = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(number.unwrap_or(*byte));
        rest = match number {
            Some(_) => &after[3..],
            None => after,
        };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LINE: &str = "speedloader  /mnt/models  fuse.speedloader  config=/etc/speedloader/config.toml,_netdev,nofail  0 0";

    #[test]
    fn the_line_of_contrib_is_that_of_a_usual_installation() {
        let config = Path::new("/etc/speedloader/config.toml");
        assert_eq!(line(Path::new("/mnt/models"), config).unwrap(), LINE);
        let contrib = include_str!("../../contrib/fstab");
        assert_eq!(contrib.lines().last(), Some(LINE));
    }

    #[test]
    fn no_path_becomes_more_than_a_field() {
        let config = Path::new("/c");
        let strange = line(Path::new("/mnt/a b#\\c"), config).unwrap();
        assert!(strange.contains("  /mnt/a\\040b\\043\\134c  "), "{strange}");
        for hostile in ["/a\n/dev/sda / ext4", "/a\tb", "/\u{1b}"] {
            let error = line(Path::new(hostile), config).unwrap_err();
            assert_eq!(error.code, Code::Usage, "{hostile:?}");
        }
        for hostile in ["/a,suid", "/a\"b", "/a\\b", "/a\nb"] {
            let error = line(Path::new("/m"), Path::new(hostile)).unwrap_err();
            assert_eq!(error.code, Code::Usage, "{hostile:?}");
        }
    }

    #[test]
    fn ours_is_added_found_changed_and_taken_out() {
        let before = b"# \xff\nUUID=1 / ext4 defaults 0 1\n\ntmpfs /tmp tmpfs 0 0\n";
        let table = Table::of(before);
        assert_eq!(
            (table.whose, table.without()),
            (Whose::Others, before.to_vec())
        );
        let with = table.with(LINE);
        let again = Table::of(&with);
        assert_eq!(
            (again.whose, again.without()),
            (Whose::Ours, before.to_vec())
        );
        assert_eq!(again.with(LINE), with);
        // Where it was, not at the end.
        let more = [with.as_slice(), b"none /proc proc\n"].concat();
        let other = LINE.replace("models", "m");
        let replaced = Table::of(&more).with(&other);
        assert!(replaced.ends_with(b" 0 0\nnone /proc proc\n"));
        assert_eq!(Table::of(&replaced).whose, Whose::Ours);
        // What somebody has changed, or taken out without our comment, is seen.
        let changed = String::from_utf8_lossy(&with).replace("nofail", "noauto");
        assert_eq!(Table::of(changed.as_bytes()).whose, Whose::Changed);
        let orphan = String::from_utf8_lossy(&with).replace(LINE, "");
        assert_eq!(Table::of(orphan.as_bytes()).whose, Whose::Changed);
    }

    #[test]
    fn what_is_mounted_there_by_others_is_found() {
        let table =
            Table::of(b"#x /mnt/models\nnas:/m /mnt/models/ nfs\nnas:/n /mnt/a\\040b nfs\n");
        let at = |path: &str| table.other_at(Path::new(path));
        assert_eq!(
            at("/mnt/models").as_deref(),
            Some("nas:/m /mnt/models/ nfs")
        );
        assert!(at("/mnt/a b").is_some());
        assert_eq!(at("/mnt"), None);
    }

    proptest! {
        #[test]
        fn any_table_keeps_its_lines(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let table = Table::of(&bytes);
            prop_assert_eq!(table.without(), bytes.clone());
            let with = table.with(LINE);
            let without = Table::of(&with).without();
            prop_assert!(without == bytes || without == [bytes.as_slice(), b"\n"].concat());
        }
    }
}
