//! Messages to standard error: for people as text, for programs as JSON. A daemon in the background
//! keeps them in its state directory.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::OFlags;

use speedloader_config::{Log, LogFormat, LogLevel};
use tracing_subscriber::filter::LevelFilter;

use crate::state_files::{LOG, LOG_BEFORE};

/// The file is exchanged for a new one when it is longer; the one before it is kept.
const KEPT_BYTES_MAX: u64 = 4 << 20;
/// What terminals take for an order begins with it, and ends with an `m` where it is a colour.
const ESCAPE: u8 = 0x1b;

/// Where messages go once nobody hears standard error any more.
static KEPT: Mutex<Option<Kept>> = Mutex::new(None);

/// Starts logging; a second start changes nothing. `verbosity` is how many levels more than configured are
/// wanted; less than none: nothing but errors.
pub fn start(log: &Log, verbosity: i8) {
    let lines = tracing_subscriber::fmt()
        .with_max_level(level(log.level, verbosity))
        .with_writer(|| Sink)
        // Of a line that cannot be written it would tell standard error, and panic there: a full disk or
        // a reader that has gone must not end a thread.
        .log_internal_errors(false);
    let lines = lines.with_ansi(std::io::stderr().is_terminal());
    // An error means that somebody logs already: the tests' own process.
    let _ = match log.format {
        LogFormat::Text => lines.with_target(false).try_init(),
        LogFormat::Json => lines.json().try_init(),
    };
}

/// To say nothing but errors is to say those.
fn level(configured: LogLevel, verbosity: i8) -> LevelFilter {
    const LEVELS: [LevelFilter; 5] = [
        LevelFilter::ERROR,
        LevelFilter::WARN,
        LevelFilter::INFO,
        LevelFilter::DEBUG,
        LevelFilter::TRACE,
    ];
    let configured: usize = match configured {
        LogLevel::Error => 0,
        LogLevel::Warn => 1,
        LogLevel::Info => 2,
        LogLevel::Debug => 3,
        LogLevel::Trace => 4,
    };
    match usize::try_from(verbosity) {
        Ok(more) => LEVELS[(configured + more).min(LEVELS.len() - 1)],
        Err(_) => LevelFilter::ERROR,
    }
}

/// From now on messages are kept in this directory, and what ends a thread by a fault of the program
/// is one of them.
///
/// # Errors
/// When the file cannot be had; then nothing changes.
pub fn keep_in(directory: &Path) -> io::Result<()> {
    let kept = Kept::open(directory)?;
    *lock() = Some(kept);
    std::panic::set_hook(Box::new(|panic| {
        tracing::error!("a fault of the program: {panic}");
    }));
    Ok(())
}

fn lock() -> MutexGuard<'static, Option<Kept>> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Sink;

impl Write for Sink {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match &mut *lock() {
            Some(kept) => kept.add(line).map(|()| line.len()),
            None => io::stderr().write(line),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Kept {
    directory: PathBuf,
    file: File,
    bytes: u64,
}

impl Kept {
    fn open(directory: &Path) -> io::Result<Kept> {
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o640);
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        options.custom_flags(flags.bits().cast_signed());
        let file = options.open(directory.join(LOG))?;
        let bytes = file.metadata()?.len();
        let directory = directory.to_owned();
        Ok(Kept {
            directory,
            file,
            bytes,
        })
    }

    /// Whether the file is still the one of that name.
    fn is_at(&self, path: &Path) -> bool {
        let place = |found: fs::Metadata| (found.dev(), found.ino());
        let own = self.file.metadata().map(place).ok();
        own.is_some() && own == fs::symlink_metadata(path).map(place).ok()
    }

    fn add(&mut self, line: &[u8]) -> io::Result<()> {
        let path = self.directory.join(LOG);
        if !self.is_at(&path) {
            // Somebody has removed it, or put it aside.
            *self = Kept::open(&self.directory)?;
        } else if self.bytes > KEPT_BYTES_MAX {
            fs::rename(path, self.directory.join(LOG_BEFORE))?;
            *self = Kept::open(&self.directory)?;
        }
        let line = without_colours(line);
        self.file.write_all(&line)?;
        self.bytes += line.len() as u64;
        Ok(())
    }
}

/// Whether there are colours was decided by where standard error led at the start.
fn without_colours(line: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(line.len());
    let mut rest = line.iter();
    while let Some(byte) = rest.next() {
        match *byte {
            ESCAPE => drop(rest.by_ref().find(|byte| **byte == b'm')),
            byte => plain.push(byte),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_log_has_no_colours_and_an_end() {
        let top = tempfile::tempdir().unwrap();
        let mut kept = Kept::open(top.path()).unwrap();
        kept.add(b"\x1b[2m2026\x1b[0m \x1b[32m INFO\x1b[0m here\n")
            .unwrap();
        let read = |name| fs::read(top.path().join(name)).unwrap();
        assert_eq!(read(LOG), b"2026  INFO here\n");
        let long = vec![b'x'; 1 << 20];
        for _ in 0..12 {
            kept.add(&long).unwrap();
        }
        let most = KEPT_BYTES_MAX + (2 << 20);
        assert!((read(LOG).len() as u64) < most && (read(LOG_BEFORE).len() as u64) < most);
        assert_eq!(fs::read_dir(top.path()).unwrap().count(), 2);
        // Whoever comes next goes on with it.
        let before = read(LOG).len() as u64;
        assert_eq!(Kept::open(top.path()).unwrap().bytes, before);
    }

    #[test]
    fn a_kept_log_that_is_gone_is_made_again() {
        let top = tempfile::tempdir().unwrap();
        let mut kept = Kept::open(top.path()).unwrap();
        kept.add(b"one\n").unwrap();
        let path = top.path().join(LOG);
        fs::remove_file(&path).unwrap();
        kept.add(b"two\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two\n");
        fs::rename(&path, top.path().join("aside")).unwrap();
        fs::write(&path, b"").unwrap();
        kept.add(b"three\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"three\n");
    }

    #[test]
    fn quiet_is_nothing_but_errors() {
        for configured in [LogLevel::Error, LogLevel::Info, LogLevel::Trace] {
            assert_eq!(level(configured, -1), LevelFilter::ERROR);
        }
        assert_eq!(level(LogLevel::Info, 0), LevelFilter::INFO);
        assert_eq!(level(LogLevel::Info, 1), LevelFilter::DEBUG);
        assert_eq!(level(LogLevel::Info, i8::MAX), LevelFilter::TRACE);
    }
}
