//! How much memory is left, to this machine and to the control groups that the daemon runs in, and
//! waiting until somebody should look again: a while later, or at once when processes stall for
//! memory (PSI, where the kernel has it). Reads and waits only.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use speedloader_fs::mount_table::{self, MountEntry};

use crate::machine::{self, Memory};

/// Somebody stalls for 100 ms of a second. An ordinary user may ask for windows of 2 s only.
const TRIGGERS: [&str; 2] = ["some 100000 1000000", "some 200000 2000000"];
/// Limits of control groups beyond this are none.
const LIMIT_BYTES_MAX: u64 = 1 << 60;

/// Memory of this machine, or of the control group with the least of it that this process is in: what
/// the kernel would kill for.
pub fn memory() -> Memory {
    groups()
        .iter()
        .flat_map(Group::with_parents)
        .fold(machine::memory(), tightened)
}

fn tightened(memory: Memory, room: Memory) -> Memory {
    Memory {
        total_bytes: memory.total_bytes.min(room.total_bytes),
        available_bytes: memory.available_bytes.min(room.available_bytes),
    }
}

/// How the two versions of control groups name their files.
#[derive(Debug)]
struct Names {
    limit: &'static str,
    usage: &'static str,
    /// In `memory.stat`: page cache, of which most can be had back at once.
    cache: [&'static str; 2],
}

const V1: Names = Names {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    cache: ["total_inactive_file", "total_active_file"],
};
const V2: Names = Names {
    limit: "memory.max",
    usage: "memory.current",
    cache: ["inactive_file", "active_file"],
};

/// Where control groups with a memory controller are mounted.
#[derive(Debug)]
struct Hierarchy {
    names: &'static Names,
    mountpoint: PathBuf,
    /// Which group its root is.
    root: PathBuf,
}

/// A control group that this process is in.
struct Group {
    names: &'static Names,
    top: PathBuf,
    directory: PathBuf,
}

impl Group {
    /// The memory of this group and of those around it, where it is limited.
    fn with_parents(&self) -> Vec<Memory> {
        let within = |directory: &&Path| directory.starts_with(&self.top);
        let all = self.directory.ancestors().take_while(within);
        all.filter_map(|directory| room_of(self.names, directory))
            .collect()
    }
}

fn room_of(names: &Names, directory: &Path) -> Option<Memory> {
    let number = |name: &str| -> Option<u64> {
        let text = fs::read_to_string(directory.join(name)).ok()?;
        text.trim().parse().ok()
    };
    let limit = number(names.limit).filter(|limit| *limit < LIMIT_BYTES_MAX)?;
    let usage = number(names.usage)?;
    let stat = fs::read_to_string(directory.join("memory.stat")).unwrap_or_default();
    let cache: u64 = names.cache.iter().map(|name| field(&stat, name)).sum();
    Some(Memory {
        total_bytes: limit,
        available_bytes: limit.saturating_sub(usage).saturating_add(cache).min(limit),
    })
}

/// A number of `memory.stat`.
fn field(stat: &str, name: &str) -> u64 {
    let mut fields = stat.lines().filter_map(|line| line.split_once(' '));
    fields
        .find(|(known, _)| *known == name)
        .and_then(|(_, number)| number.trim().parse().ok())
        .unwrap_or(0)
}

fn groups() -> Vec<Group> {
    static HIERARCHIES: OnceLock<Vec<Hierarchy>> = OnceLock::new();
    let hierarchies =
        HIERARCHIES.get_or_init(|| hierarchies(&mount_table::read().unwrap_or_default()));
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    groups_in(hierarchies, &own)
}

/// Of the lines of `mountinfo`, those of control groups that may limit memory.
fn hierarchies(table: &[u8]) -> Vec<Hierarchy> {
    let has_memory = |options: &[u8]| options.split(|byte| *byte == b',').any(|o| o == b"memory");
    let hierarchy = |entry: MountEntry<'_>| {
        let names = match entry.file_system {
            b"cgroup2" => &V2,
            b"cgroup" if has_memory(entry.options) => &V1,
            _ => return None,
        };
        Some(Hierarchy {
            names,
            mountpoint: entry.mount_point,
            root: entry.root,
        })
    };
    mount_table::entries(table).filter_map(hierarchy).collect()
}

/// Of the lines of `/proc/self/cgroup`, the groups that are seen in `hierarchies`.
fn groups_in(hierarchies: &[Hierarchy], own: &str) -> Vec<Group> {
    let group = |line: &str| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let is_v1 = controllers.split(',').any(|name| name == "memory");
        if !is_v1 && !controllers.is_empty() {
            return None;
        }
        let wanted = if is_v1 { V1.limit } else { V2.limit };
        let seen = hierarchies.iter().find(|h| h.names.limit == wanted)?;
        let below = Path::new(path).strip_prefix(&seen.root).ok()?;
        Some(Group {
            names: seen.names,
            directory: seen.mountpoint.join(below),
            top: seen.mountpoint.clone(),
        })
    };
    own.lines().filter_map(group).collect()
}

/// Why a wait is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// The time is over.
    Time,
    /// Somebody has news.
    News,
    /// Processes stall for memory.
    Stalled,
}

/// Waits for pressure.
pub struct MemoryWatch {
    stalls: Option<File>,
    news: OwnedFd,
}

impl MemoryWatch {
    /// With the kernel's own word on stalls, where it gives it.
    ///
    /// # Errors
    /// When no descriptor can be had.
    pub fn new() -> io::Result<MemoryWatch> {
        let news = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(MemoryWatch {
            stalls: trigger(),
            news,
        })
    }

    /// Ends a wait, or the next.
    pub fn wake(&self) {
        // Full: it has been woken often enough.
        let _ = rustix::io::write(&self.news, &1_u64.to_ne_bytes());
    }

    /// Waits at most so long; without a limit, until there is news.
    pub fn wait(&self, limit: Option<Duration>) -> Woken {
        let mut fds = vec![PollFd::new(&self.news, PollFlags::IN)];
        if let Some(stalls) = &self.stalls {
            fds.push(PollFd::new(stalls, PollFlags::PRI));
        }
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        // Interrupted: somebody looks a little early.
        let _ = poll(&mut fds, limit.as_ref());
        let stalled = fds
            .get(1)
            .is_some_and(|fd| fd.revents().contains(PollFlags::PRI));
        // Nothing to take: it was the time, or a stall.
        let has_news = rustix::io::read(&self.news, &mut [0_u8; 8]).is_ok();
        match (stalled, has_news) {
            (true, _) => Woken::Stalled,
            (false, true) => Woken::News,
            (false, false) => Woken::Time,
        }
    }
}

/// A descriptor on which the kernel tells of stalls; none where it cannot or we may not.
fn trigger() -> Option<File> {
    let set = |text: &&str| {
        let mut file = File::options()
            .read(true)
            .write(true)
            .open("/proc/pressure/memory")
            .ok()?;
        file.write_all(text.as_bytes()).ok()?;
        Some(file)
    };
    let found = TRIGGERS.iter().find_map(set);
    if found.is_none() {
        tracing::debug!(
            "the kernel does not tell of stalls for memory; only its figures are looked at"
        );
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &[u8] = b"\
30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate
31 24 0:27 /docker/x /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
32 24 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu
33 24 0:29 / /tmp rw - tmpfs tmpfs rw
nonsense
";

    #[test]
    fn groups_are_found_in_both_versions() {
        let hierarchies = hierarchies(MOUNTS);
        let paths = |own: &str| {
            let groups = groups_in(&hierarchies, own);
            let paths = groups
                .iter()
                .map(|group| group.directory.display().to_string());
            paths.collect::<Vec<_>>()
        };
        assert_eq!(
            paths("0::/system.slice/s.service\n"),
            ["/sys/fs/cgroup/system.slice/s.service"]
        );
        assert_eq!(
            paths("4:memory:/docker/x/y\n1:cpu:/\n"),
            ["/sys/fs/cgroup/memory/y"]
        );
        // Not to be seen from here.
        assert!(paths("4:memory:/other\nnonsense\n").is_empty());
    }

    #[test]
    fn the_tightest_group_counts_and_page_cache_is_not_lost() {
        let directory = tempfile::tempdir().expect("a directory");
        let inner = directory.path().join("inner");
        fs::create_dir(&inner).expect("made");
        let write = |path: &Path, limit: &str, usage: u64, cache: u64| {
            fs::write(path.join("memory.max"), limit).expect("written");
            fs::write(path.join("memory.current"), usage.to_string()).expect("written");
            let stat = format!("anon 5\nfile 99\ninactive_file {cache}\nactive_file 1\n");
            fs::write(path.join("memory.stat"), stat).expect("written");
        };
        write(directory.path(), "1000\n", 900, 49);
        write(&inner, "max\n", 700, 0);
        let group = Group {
            names: &V2,
            top: directory.path().to_owned(),
            directory: inner.clone(),
        };
        let room = |total_bytes, available_bytes| Memory {
            total_bytes,
            available_bytes,
        };
        assert_eq!(group.with_parents(), [room(1000, 150)]);
        write(&inner, "800", 700, 0);
        assert_eq!(group.with_parents(), [room(800, 101), room(1000, 150)]);
        let all = group
            .with_parents()
            .into_iter()
            .fold(room(5000, 4000), tightened);
        assert_eq!(all, room(800, 101));
    }

    #[test]
    fn a_watch_is_woken_by_news_and_by_time() {
        let watch = MemoryWatch::new().expect("a watch");
        watch.wake();
        // Somebody may stall just now.
        assert_ne!(watch.wait(None), Woken::Time);
        assert_ne!(watch.wait(Some(Duration::ZERO)), Woken::News);
        assert!(memory().total_bytes > 0);
    }
}
