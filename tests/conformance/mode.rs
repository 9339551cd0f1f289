//! The mount as both suites want it: who moves the bytes, cold storage below, and a pool to move
//! files to.

use std::fmt;
use std::io::Write;
use std::time::Duration;

use super::tools::Tool;
use crate::harness::{Mount, Site, skip};

/// No suite takes longer, also on a slow machine with a debug build.
pub const LIMIT: Duration = Duration::from_secs(240);

/// Who moves the bytes of an open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The kernel.
    Passthrough,
    /// The daemon: as on older kernels and for ordinary users.
    Daemon,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Passthrough => "passthrough",
            Mode::Daemon => "daemon",
        })
    }
}

/// Mounts a site in a mode. `None`, and a line that says why, where that cannot be had. The tools are
/// installed before, for nobody's time is limited yet.
pub fn start(site: Site, mode: Mode, tools: &[&Tool]) -> Option<Mount> {
    if skip::why_no_mount().is_none() {
        tools.iter().for_each(|tool| drop(tool.program()));
    }
    let site = match mode {
        Mode::Passthrough => site,
        Mode::Daemon => site.without_passthrough(),
    };
    let mount = site.limit(LIMIT).start()?;
    let passthrough = mount.status().passthrough;
    let as_wanted = passthrough.active == (mode == Mode::Passthrough);
    if !as_wanted {
        skip::skip(&format!("no passthrough: {}", passthrough.why));
    }
    as_wanted.then_some(mount)
}

/// Prints a line of the summary, past libtest, which keeps what a passing test prints to itself.
pub fn say(line: &str) {
    // Nobody may be listening.
    let _ = writeln!(std::io::stderr(), "conformance: {line}");
}
