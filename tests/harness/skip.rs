//! What a test needs that a machine may not have. A test that cannot run says so, with its name and
//! why, in a line that `tests/run` counts; it never passes in silence.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// The name of the test that runs in this thread.
pub fn test_name() -> String {
    std::thread::current().name().unwrap_or("a test").to_owned()
}

/// Says that this test does not run. Past libtest, which would keep it to itself.
pub fn skip(why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED {}: {why}", test_name());
}

/// Why nothing can be mounted here; `None` when it can.
pub fn why_no_mount() -> Option<&'static str> {
    if !Path::new("/dev/fuse").exists() {
        Some("there is no /dev/fuse")
    } else if !is_root() {
        Some("mounting needs root")
    } else {
        None
    }
}

/// Whether this is root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether a program is to be found.
pub fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let standard = ["/usr/sbin", "/sbin"].map(std::path::PathBuf::from);
    std::env::split_paths(&path)
        .chain(standard)
        .any(|directory| directory.join(name).is_file())
}

/// `true`, with a line that says why, when one of the programs is missing.
pub fn lacks_programs(names: &[&str]) -> bool {
    let missing: Vec<&str> = names
        .iter()
        .copied()
        .filter(|name| !has_program(name))
        .collect();
    if !missing.is_empty() {
        skip(&format!("{} is not installed", missing.join(", ")));
    }
    !missing.is_empty()
}

/// Whether an ordinary user may open /dev/fuse.
pub fn is_fuse_open_to_all() -> bool {
    std::fs::metadata("/dev/fuse").is_ok_and(|stat| stat.permissions().mode() & 0o006 == 0o006)
}
