//! Where the loads come from that are replayed: a trace, or what this machine's daemon has logged.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;

use speedloader_config::Config;
use speedloader_policy::{Params, Trace, TraceReader};

use crate::cli::context::Context;
use crate::cli::running::running;
use crate::cli::settings;
use crate::command::{Code, Message};
use crate::load_log;

/// No honest trace has longer lines.
const LINE_BYTES_MAX: usize = 64 << 10;

/// The loads of `trace`, or, without one, those that the daemon has logged, and what its policy works with.
///
/// # Errors
/// When they cannot be read, or there are none.
pub(super) fn loads(
    trace: Option<&Path>,
    context: &mut Context<'_>,
) -> Result<(Trace, Params), Message> {
    let Some(path) = trace else {
        return logged(context);
    };
    let trace = read_trace(path)?;
    let nothing = match (trace.loads.len(), trace.footprint_bytes()) {
        (0, _) => "there are no loads in it",
        (_, 0) => "all that is loaded in it is empty, 0 bytes",
        _ => return Ok((trace, Params::default())),
    };
    let text = format!("--trace: {}: {nothing}", path.display());
    Err(Message::new(Code::Failed, text))
}

fn logged(context: &mut Context<'_>) -> Result<(Trace, Params), Message> {
    let config = config(context)?;
    let directory = &config.state_dir;
    let hint = "--trace FILE replays a trace";
    let failed = |text: String| Message::new(Code::Failed, text).with_hint(hint);
    let logged = load_log::read(directory).map_err(|error| {
        failed(format!(
            "the log of loads in {}: {error}",
            directory.display()
        ))
    })?;
    if logged.trace.footprint_bytes() == 0 {
        let text = format!("no load is logged in {} yet", directory.display());
        return Err(failed(text));
    }
    if logged.skipped > 0 {
        let lines = logged.skipped;
        // If this cannot be written, there is nobody to tell.
        let _ = writeln!(
            context.console.err,
            "warning: {lines} lines of the log of loads cannot be read and are left out"
        );
    }
    let params = Params {
        half_life: f64::from(config.policy.half_life),
        ..Params::default()
    };
    Ok((logged.trace, params))
}

/// The configuration of the daemon that runs, else of the one that would.
fn config(context: &Context<'_>) -> Result<Config, Message> {
    // With a configuration named, no daemon needs to run.
    if let Some(running) = running(context) {
        return Ok(running.config);
    }
    let named = context.global.config.as_deref();
    let loaded = settings::load_config(context.console, named, settings::client_options())?;
    Ok(loaded.config)
}

fn read_trace(path: &Path) -> Result<Trace, Message> {
    let failed = |what: &dyn std::fmt::Display| {
        Message::new(Code::Failed, format!("--trace: {}: {what}", path.display()))
    };
    let file = File::open(path).map_err(|error| failed(&error))?;
    let mut file = BufReader::new(file);
    let compressed = file
        .fill_buf()
        .is_ok_and(|start| start.starts_with(&[0x1f, 0x8b]));
    let plain: Box<dyn Read> = match compressed {
        true => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
        false => Box::new(file),
    };
    let mut lines = BufReader::new(plain);
    let (mut reader, mut line, mut number) = (TraceReader::new(), Vec::new(), 0);
    loop {
        line.clear();
        number += 1;
        let mut limited = (&mut lines).take(LINE_BYTES_MAX as u64);
        match limited.read_until(b'\n', &mut line) {
            Ok(0) => break,
            Ok(LINE_BYTES_MAX) => {
                return Err(failed(&format!(
                    "line {number} is longer than {LINE_BYTES_MAX} bytes"
                )));
            }
            Ok(_) => {}
            Err(error) => return Err(failed(&format!("line {number}: {error}"))),
        }
        let text = std::str::from_utf8(&line)
            .map_err(|_| failed(&format!("line {number} is no UTF-8")))?;
        reader.line(text).map_err(|fault| failed(&fault))?;
    }
    reader.finish().map_err(|fault| failed(&fault))
}
