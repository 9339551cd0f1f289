//! The kernel's table of mounts, `/proc/self/mountinfo`: its lines taken apart. Knows no mount of ours.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// The table as it is now.
///
/// # Errors
/// Io when procfs cannot be read.
pub fn read() -> io::Result<Vec<u8>> {
    std::fs::read("/proc/self/mountinfo")
}

/// The mounts of a table, in the order in which they were made; what is no line of one is left out.
pub fn entries(table: &[u8]) -> impl DoubleEndedIterator<Item = MountEntry<'_>> {
    table
        .split(|byte| *byte == b'\n')
        .filter_map(MountEntry::parse)
}

/// The topmost mount of a table on `mount_point`, which is as the kernel knows it: absolute and without links.
pub fn topmost<'a>(table: &'a [u8], mount_point: &Path) -> Option<MountEntry<'a>> {
    entries(table).rfind(|entry| entry.mount_point == mount_point)
}

/// One mount.
#[derive(Debug)]
pub struct MountEntry<'a> {
    /// Its number, as `fdinfo` has it.
    pub mount_id: u64,
    /// The number of its file system, as `stat` has it.
    pub dev: u64,
    /// Which directory of the file system it shows.
    pub root: PathBuf,
    /// Where it is.
    pub mount_point: PathBuf,
    /// Where it is, as the kernel writes it in all its tables.
    pub written_mount_point: &'a [u8],
    /// The type of the file system.
    pub file_system: &'a [u8],
    /// What is mounted, as the kernel writes it.
    pub source: &'a [u8],
    /// Options of the file system, not of this mount.
    pub options: &'a [u8],
}

impl<'a> MountEntry<'a> {
    /// One line: `ID PARENT DEV ROOT POINT OPTIONS [TAGS..] - TYPE SOURCE SUPER`.
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b' ');
        let mount_id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
        let (major, minor) = std::str::from_utf8(fields.nth(1)?).ok()?.split_once(':')?;
        let root = unescape(fields.next()?);
        let written_mount_point = fields.next()?;
        fields.find(|field| *field == b"-")?;
        Some(MountEntry {
            mount_id,
            dev: rustix::fs::makedev(major.parse().ok()?, minor.parse().ok()?),
            root,
            mount_point: unescape(written_mount_point),
            written_mount_point,
            file_system: fields.next()?,
            source: fields.next()?,
            options: fields.next()?,
        })
    }
}

/// The kernel writes blanks, tabs, line breaks and backslashes as a backslash and three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut name = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [byte, after @ ..] = rest {
        match after {
            [
                a @ b'0'..=b'3',
                b @ b'0'..=b'7',
                c @ b'0'..=b'7',
                after @ ..,
            ] if *byte == b'\\' => {
                name.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
                rest = after;
            }
            _ => {
                name.push(*byte);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(name))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_line_of_mountinfo_is_taken_apart() {
        let line =
            b"36 35 98:7 / /a\\040b\\134c rw,noatime master:1 - tmpfs speedloader rw,size=1k";
        let entry = MountEntry::parse(line).unwrap();
        assert_eq!(entry.mount_id, 36);
        assert_eq!(entry.dev, rustix::fs::makedev(98, 7));
        assert_eq!(entry.root, Path::new("/"));
        assert_eq!(entry.mount_point, Path::new("/a b\\c"));
        assert_eq!(entry.written_mount_point, b"/a\\040b\\134c");
        assert_eq!(entry.file_system, b"tmpfs");
        assert_eq!(entry.source, b"speedloader");
        assert_eq!(entry.options, b"rw,size=1k");
        for short in [
            &b""[..],
            b"36",
            b"x 1 2 3 4 5 - t s o",
            b"36 35 98:0 / /a rw - tmpfs",
        ] {
            assert!(MountEntry::parse(short).is_none());
        }
    }

    #[test]
    fn odd_escapes_are_taken_as_they_are() {
        assert_eq!(unescape(b"a\\134b\\0"), Path::new("a\\b\\0"));
        assert_eq!(unescape(b"\\777"), Path::new("\\777"));
    }
}
