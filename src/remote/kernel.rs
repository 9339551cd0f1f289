//! What a kernel shows of itself in directories and attributes, and its modules; on either machine.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// Where programs of the system are, whatever we were started with.
pub(super) const SYSTEM_PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// The value of an attribute; none when it cannot be read.
pub(super) fn read(attribute: &Path) -> Option<String> {
    let text = fs::read_to_string(attribute).ok()?;
    let is_filler = |c: char| c.is_whitespace() || c == '\0';
    Some(text.trim_matches(is_filler).to_owned())
}

/// The names in a directory, in order; none when it cannot be read.
pub(super) fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// Whether a machine has an RDMA device; `sys` is its sysfs.
pub(super) fn has_rdma(sys: &Path) -> bool {
    !names_in(&sys.join("class/infiniband")).is_empty()
}

/// Sees to it that a module is there, loaded or part of the kernel; whether it is.
pub(super) fn provide_module(name: &str) -> bool {
    let known = Path::new("/sys/module").join(name.replace('-', "_"));
    if known.exists() {
        return true;
    }
    let status = Command::new("modprobe")
        .args(["--quiet", "--", name])
        .env("PATH", SYSTEM_PATH)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}
