//! Messages to standard error: for people as text, for programs as JSON.

use std::io::IsTerminal;

use speedloader_config::{Log, LogFormat, LogLevel};
use tracing_subscriber::filter::LevelFilter;

/// Starts logging; a second start changes nothing. `verbosity` is how many levels more, or less, than
/// configured are wanted.
pub fn start(log: &Log, verbosity: i8) {
    let levels = [
        LevelFilter::OFF,
        LevelFilter::ERROR,
        LevelFilter::WARN,
        LevelFilter::INFO,
        LevelFilter::DEBUG,
        LevelFilter::TRACE,
    ];
    let configured: i8 = match log.level {
        LogLevel::Error => 1,
        LogLevel::Warn => 2,
        LogLevel::Info => 3,
        LogLevel::Debug => 4,
        LogLevel::Trace => 5,
    };
    let wanted = configured.saturating_add(verbosity).clamp(0, 5);
    let level = levels[usize::try_from(wanted).unwrap_or(0)];
    let lines = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
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
