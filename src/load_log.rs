//! The log of loads: what was loaded here and when, in the form of a trace, for `simulate`.
//!
//! A line a load: time, family, name and size, nothing of contents. Two files of the state directory,
//! the older one dropped when the newer one has half of the limit, so that the limit always holds.
//! Readable as it is by anything that reads traces. A line that cannot be read (torn by a crash,
//! damaged, hostile) costs that line.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::OFlags;
use speedloader_policy::{HEADER, Trace, TraceReader};

use crate::state_files::{LOADS as NEWER, LOADS_BEFORE as OLDER};
use crate::whole_file;

/// No honest line is longer.
const LINE_BYTES_MAX: u64 = 64 << 10;
/// More of a name is not kept.
const NAME_BYTES_MAX: usize = 8 << 10;
/// No honest file of ours is larger: the greatest limit that can be configured.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// Who may read it: our group, too.
const FILE_MODE: u32 = 0o640;

/// One load, as it is logged.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Unix time, seconds.
    pub at_secs: u64,
    /// Which load it was, counted from the first.
    pub number: u64,
    /// What the model has in common with its kin.
    pub family: &'a str,
    /// The model.
    pub name: &'a str,
    /// Its size, bytes.
    pub bytes: u64,
}

/// Writes the log.
#[derive(Debug)]
pub struct LoadLog {
    directory: PathBuf,
    /// The newer file and its size, once something was written.
    open: Mutex<Option<(File, u64)>>,
}

impl LoadLog {
    /// The log of a state directory; nothing is written before the first load.
    pub fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            open: Mutex::new(None),
        }
    }

    /// Removes what is more than `limit_bytes`, which may have been more before: the oldest loads, all for 0.
    ///
    /// # Errors
    /// Whatever reading and writing report.
    pub fn keep_within(&self, limit_bytes: u64) -> io::Result<()> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // It may be replaced.
        *open = None;
        for path in [OLDER, NEWER].map(|name| self.directory.join(name)) {
            let kept = match limit_bytes {
                0 => fs::remove_file(&path),
                limit => cut(&path, limit / 2),
            };
            match kept {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Adds a load. Both files together stay below `limit_bytes`; 0 writes nothing.
    ///
    /// # Errors
    /// Whatever writing reports; the next load tries again.
    pub fn add(&self, limit_bytes: u64, entry: &Entry<'_>) -> io::Result<()> {
        if limit_bytes == 0 {
            return Ok(());
        }
        let line = format!(
            "{},{},{},{},{}\n",
            entry.at_secs,
            entry.number,
            field(entry.family),
            field(entry.name),
            entry.bytes
        );
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // Somebody may have removed it, or put another in its place.
        let path = self.directory.join(NEWER);
        let (mut file, mut size) = match open.take() {
            Some((file, size)) if is_at(&file, &path) => (file, size),
            _ => self.newer()?,
        };
        if size + line.len() as u64 > limit_bytes / 2 && size > HEADER.len() as u64 + 1 {
            drop(file);
            fs::rename(self.directory.join(NEWER), self.directory.join(OLDER))?;
            (file, size) = self.newer()?;
        }
        file.write_all(line.as_bytes())?;
        *open = Some((file, size + line.len() as u64));
        Ok(())
    }

    /// The newer file, ready for the next line, and its size.
    fn newer(&self) -> io::Result<(File, u64)> {
        let path = self.directory.join(NEWER);
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(FILE_MODE);
        // A link is refused, and a pipe does not stop us here.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        options.custom_flags(flags.bits().cast_signed());
        let mut file = options.open(&path)?;
        if !file.metadata()?.is_file() {
            let text = format!("{} is no plain file", path.display());
            return Err(io::Error::other(text));
        }
        let size = file.seek(SeekFrom::End(0))?;
        let mut last = [b'\n'];
        if size > 0 {
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
        }
        // What a crash has torn stays a line of its own.
        let start = match (size, last) {
            (0, _) => format!("{HEADER}\n"),
            (_, [b'\n']) => String::new(),
            _ => "\n".to_owned(),
        };
        file.write_all(start.as_bytes())?;
        Ok((file, size + start.len() as u64))
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    let number = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    let at = fs::symlink_metadata(path).map(number);
    file.metadata()
        .map(number)
        .is_ok_and(|open| at.is_ok_and(|at| at == open))
}

/// Keeps the latest lines of a log, at most so many bytes with the header.
fn cut(path: &Path, bytes_max: u64) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.is_file() || metadata.len() <= bytes_max {
        return Ok(());
    }
    let mut kept = format!("{HEADER}\n").into_bytes();
    let mut file = File::open(path)?;
    let rest_max = bytes_max.saturating_sub(kept.len() as u64);
    file.seek(SeekFrom::Start(metadata.len().saturating_sub(rest_max)))?;
    let mut lines = BufReader::new(file);
    // It begins within a line.
    lines.skip_until(b'\n')?;
    lines.read_to_end(&mut kept)?;
    let readable = |file: &File| file.set_permissions(Permissions::from_mode(FILE_MODE));
    whole_file::write(path, &kept, readable, |from, to| fs::rename(from, to))
}

/// A name as a field: without what separates fields and lines.
fn field(name: &str) -> String {
    let mut field = String::with_capacity(name.len());
    for c in name.chars() {
        if field.len() >= NAME_BYTES_MAX {
            break;
        }
        match c {
            ',' | '%' | '"' => field.push_str(&format!("%{:02X}", c as u32)),
            c if c.is_control() => field.push_str(&format!("%{:02X}", c as u32)),
            c => field.push(c),
        }
    }
    field
}

/// What a log came to.
#[derive(Debug)]
pub struct Logged {
    /// The loads, in order.
    pub trace: Trace,
    /// Lines that could not be read.
    pub skipped: u64,
}

/// Reads the log of a state directory; empty if there is none.
///
/// # Errors
/// When a file is there but cannot be read, or is no plain file of a sensible size.
pub fn read(directory: &Path) -> io::Result<Logged> {
    let mut files = Vec::new();
    for name in [OLDER, NEWER] {
        let path = directory.join(name);
        let metadata = match fs::symlink_metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if !metadata.is_file() || metadata.len() > FILE_BYTES_MAX {
            let text = format!("{} is no plain file of a sensible size", path.display());
            return Err(io::Error::other(text));
        }
        files.push(BufReader::new(File::open(path)?.take(FILE_BYTES_MAX)));
    }
    parse(files)
}

/// The log that is in `files`, the older one first.
///
/// # Errors
/// When one cannot be read; no contents are an error.
pub fn parse(files: impl IntoIterator<Item = impl BufRead>) -> io::Result<Logged> {
    let mut reader = TraceReader::new();
    // A header of ours is always right.
    let _ = reader.line(HEADER);
    let (mut skipped, mut last_secs) = (0, 0);
    let mut line = Vec::new();
    for mut lines in files {
        while next_line(&mut lines, &mut line)? {
            let read = std::str::from_utf8(&line)
                .is_ok_and(|text| text == HEADER || add(&mut reader, &mut last_secs, text));
            skipped += u64::from(!read);
        }
    }
    let trace = reader.finish().map_err(io::Error::other)?;
    Ok(Logged { trace, skipped })
}

/// The next line without its end, cut where no honest line is longer; false at the end.
fn next_line(lines: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let mut limited = lines.take(LINE_BYTES_MAX);
    if limited.read_until(b'\n', line)? == 0 {
        return Ok(false);
    }
    while line.last() == Some(&b'\n') || line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(true)
}

/// Gives one line to the reader. A clock that was set back does not turn time around.
fn add(reader: &mut TraceReader, last_secs: &mut u64, text: &str) -> bool {
    let Some((at, rest)) = text.split_once(',') else {
        return text.is_empty();
    };
    let Ok(at_secs) = at.parse::<u64>() else {
        return false;
    };
    let at_secs = at_secs.max(*last_secs);
    let added = reader.line(&format!("{at_secs},{rest}")).is_ok();
    if added {
        *last_secs = at_secs;
    }
    added
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(number: u64, name: &str) -> Entry<'_> {
        Entry {
            at_secs: 1_000 + number,
            number,
            family: "f",
            name,
            bytes: 10 + number,
        }
    }

    fn logged(names: &[&str], limit_bytes: u64) -> (tempfile::TempDir, Logged) {
        let directory = tempfile::tempdir().expect("a directory");
        let log = LoadLog::new(directory.path());
        for (number, name) in names.iter().enumerate() {
            log.add(limit_bytes, &entry(number as u64, name))
                .expect("written");
        }
        let logged = read(directory.path()).expect("read");
        (directory, logged)
    }

    #[test]
    fn what_is_logged_is_a_trace() {
        let (directory, logged) = logged(&["a:1b", "b, \"x\"\n%", "a:1b"], 1 << 20);
        assert_eq!(logged.trace.names, ["a:1b", "b%2C %22x%22%0A%25"]);
        assert_eq!((logged.trace.loads.len(), logged.skipped), (3, 0));
        assert_eq!(logged.trace.loads[2].at_secs, 1_002);
        let text = fs::read_to_string(directory.path().join(NEWER)).expect("read");
        assert!(text.starts_with(HEADER), "any reader of traces reads it");
    }

    #[test]
    fn a_limit_of_nothing_writes_nothing() {
        let (directory, logged) = logged(&["a"], 0);
        assert!(logged.trace.loads.is_empty());
        assert!(!directory.path().join(NEWER).exists());
    }

    #[test]
    fn the_limit_holds_and_the_latest_loads_stay() {
        let names: Vec<String> = (0..500).map(|n| format!("model-{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let (directory, logged) = logged(&names, 4096);
        let sizes: u64 = [OLDER, NEWER]
            .map(|name| fs::metadata(directory.path().join(name)).map_or(0, |m| m.len()))
            .iter()
            .sum();
        assert!(sizes <= 4096, "{sizes} bytes");
        assert_eq!(
            logged.trace.names.last().map(String::as_str),
            Some("model-499")
        );
        assert!(
            logged.trace.loads.len() > 50,
            "{}",
            logged.trace.loads.len()
        );
    }

    /// The older file stayed as large as it was, and with no log wanted both did.
    #[test]
    fn a_smaller_limit_holds_at_once() {
        let names: Vec<String> = (0..500).map(|n| format!("model-{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let (directory, _) = logged(&names, 1 << 14);
        let log = LoadLog::new(directory.path());
        log.add(1 << 14, &entry(500, "model-500")).expect("written");
        log.keep_within(1 << 10).expect("cut");
        log.add(1 << 10, &entry(501, "model-501")).expect("written");
        let files = [OLDER, NEWER].map(|name| directory.path().join(name));
        let sizes = files
            .each_ref()
            .map(|file| fs::metadata(file).map_or(0, |m| m.len()));
        assert!(sizes.iter().sum::<u64>() <= 1 << 10, "{sizes:?}");
        let kept = read(directory.path()).expect("read");
        assert_eq!(kept.skipped, 0);
        assert!(
            kept.trace
                .names
                .ends_with(&["model-500".to_owned(), "model-501".to_owned()])
        );
        log.keep_within(0).expect("removed");
        assert!(files.iter().all(|file| !file.exists()));
    }

    /// Loads were written to a file that had no name any more.
    #[test]
    fn a_log_that_was_removed_is_begun_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let log = LoadLog::new(directory.path());
        log.add(1 << 20, &entry(1, "a")).expect("written");
        fs::remove_file(directory.path().join(NEWER)).expect("removed");
        log.add(1 << 20, &entry(2, "b")).expect("written");
        assert_eq!(read(directory.path()).expect("read").trace.names, ["b"]);
    }

    #[test]
    fn a_torn_line_costs_itself_only() {
        let (directory, _) = logged(&["a", "b"], 1 << 20);
        let path = directory.path().join(NEWER);
        let whole = fs::read(&path).expect("read");
        fs::write(&path, &whole[..whole.len() - 6]).expect("torn");
        let log = LoadLog::new(directory.path());
        log.add(1 << 20, &entry(7, "c")).expect("written");
        let logged = read(directory.path()).expect("read");
        assert_eq!(logged.skipped, 1);
        assert_eq!(logged.trace.names, ["a", "c"]);
    }

    #[test]
    fn a_clock_set_back_does_not_turn_time_around() {
        let directory = tempfile::tempdir().expect("a directory");
        let log = LoadLog::new(directory.path());
        for at_secs in [50, 10, 60] {
            let load = Entry {
                at_secs,
                ..entry(0, "a")
            };
            log.add(1 << 20, &load).expect("written");
        }
        let times: Vec<u64> = read(directory.path())
            .expect("read")
            .trace
            .loads
            .iter()
            .map(|load| load.at_secs)
            .collect();
        assert_eq!(times, [50, 50, 60]);
    }

    proptest! {
        #[test]
        fn whatever_lies_there_is_read_or_skipped(
            older in proptest::collection::vec(any::<u8>(), 0..300),
            newer in "(([0-9,a-z:%]{0,20}|7,0,f,a,5)\r?\n){0,20}",
        ) {
            let directory = tempfile::tempdir().expect("a directory");
            fs::write(directory.path().join(OLDER), older).expect("written");
            fs::write(directory.path().join(NEWER), newer).expect("written");
            read(directory.path()).expect("read");
            let log = LoadLog::new(directory.path());
            log.add(1 << 20, &entry(1, "the last")).expect("written");
            let logged = read(directory.path()).expect("read");
            let last = logged.trace.loads.last().expect("what was added");
            prop_assert_eq!(&logged.trace.names[last.object as usize], "the last");
        }

        #[test]
        fn any_name_is_one_field(name in "\\PC{1,40}|[,%\"\n\r\u{85}a]{1,9}") {
            let (_directory, logged) = logged(&[&name], 1 << 20);
            prop_assert_eq!((logged.trace.loads.len(), logged.skipped), (1, 0));
        }
    }
}
