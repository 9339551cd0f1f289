//! Facts of this machine, read when asked; nothing is remembered and nothing changed.

use std::path::PathBuf;

/// Memory of this machine in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// All of it.
    pub total_bytes: u64,
    /// What could be had without swapping, as the kernel reckons.
    pub available_bytes: u64,
}

/// Reads `/proc/meminfo`; zeros where that cannot be read.
pub fn memory() -> Memory {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let field = |name: &str| kibibytes(&text, name).unwrap_or(0);
    Memory {
        total_bytes: field("MemTotal:"),
        available_bytes: field("MemAvailable:"),
    }
}

/// Resident memory of this process in bytes, without the pools' files that it has mapped.
pub fn own_rss_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let anonymous = kibibytes(&text, "RssAnon:").unwrap_or(0);
    anonymous + kibibytes(&text, "RssFile:").unwrap_or(0)
}

/// The kernel's release, for example `6.9.1`.
pub fn kernel_release() -> String {
    rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned()
}

/// What this machine calls itself.
pub fn name() -> String {
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().into_owned()
}

/// The program that a thread runs, as `ps` shows it; `None` when it is gone.
pub fn command_of(pid: u32) -> Option<String> {
    let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(comm.trim_end_matches('\n').to_owned())
}

/// The process that a thread belongs to; `None` when it is gone.
pub fn process_of(tid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
    status
        .lines()
        .find_map(|line| line.strip_prefix("Tgid:"))?
        .trim()
        .parse()
        .ok()
}

/// All processes but this one.
pub fn processes() -> Vec<u32> {
    let own = std::process::id();
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers.filter(|pid| *pid != own).collect()
}

/// Whether a process has a file open whose path ends so, as far as this user may know.
pub fn has_open(pid: u32, suffix: &str) -> bool {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    let links = entries.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    let mut links = links.map(PathBuf::into_os_string);
    links.any(|link| link.as_encoded_bytes().ends_with(suffix.as_bytes()))
}

fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let number: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    number.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_memory_and_a_kernel() {
        let memory = memory();
        assert!(memory.total_bytes >= memory.available_bytes && memory.available_bytes > 0);
        assert!(own_rss_bytes() > 0);
        assert!(kernel_release().contains('.'));
        let own = std::process::id();
        assert_eq!(process_of(own), Some(own));
        assert!(command_of(own).is_some());
    }

    #[test]
    fn nonsense_is_no_number() {
        assert_eq!(kibibytes("MemTotal: 5 kB\n", "MemTotal:"), Some(5120));
        assert_eq!(kibibytes("MemTotal: many kB\n", "MemTotal:"), None);
        assert_eq!(kibibytes("", "MemTotal:"), None);
    }
}
