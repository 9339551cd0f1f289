//! Facts of this machine, read when asked; nothing is remembered and nothing changed.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use speedloader_config::{Config, Faults};
use speedloader_fs::mount_table;

/// How long a directory of a configuration may take to say where it leads.
const RESOLVE_PATIENCE: Duration = Duration::from_secs(3);

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
    status_of(tid, "Tgid:")?.parse().ok()
}

/// Whether a process is there and has not ended.
pub fn is_running(process: u32) -> bool {
    status_of(process, "State:").is_some_and(|state| !state.starts_with(['Z', 'X']))
}

/// The first process of a program: the farthest that this one descends from, through such as run the same program alone.
/// Workers lead to the server that has started them; a shell's or a service manager's programs have nothing in common.
pub fn first_of_program(process: u32) -> u32 {
    /// Generations that are looked at.
    const GENERATIONS_MAX: usize = 6;
    // The link's text alone: where it leads may hang.
    let program = |process: u32| std::fs::read_link(format!("/proc/{process}/exe")).ok();
    let parent = |process: u32| status_of(process, "PPid:")?.parse().ok();
    let Some(own) = program(process) else {
        return process;
    };
    let is_same = |process: &u32| *process > 1 && program(*process).as_ref() == Some(&own);
    std::iter::successors(Some(process), |process| parent(*process).filter(is_same))
        .take(GENERATIONS_MAX)
        .last()
        .unwrap_or(process)
}

/// A field of what the kernel says of a thread; `None` when it is gone.
fn status_of(tid: u32, field: &str) -> Option<String> {
    let status = std::fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
    let found = status.lines().find_map(|line| line.strip_prefix(field))?;
    Some(found.trim().to_owned())
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

/// Processes that have files open on a FUSE mount which is in no directory any more, as far as this user may know.
pub fn readers_of_detached() -> Vec<u32> {
    let has = |pid: &u32| {
        let Ok(table) = std::fs::read(format!("/proc/{pid}/mountinfo")) else {
            return false;
        };
        let mounts: Vec<u64> = mount_table::entries(&table)
            .map(|entry| entry.mount_id)
            .collect();
        let Ok(open) = std::fs::read_dir(format!("/proc/{pid}/fd")) else {
            return false;
        };
        open.flatten().any(|entry| {
            let number = entry.file_name();
            let info = format!("/proc/{pid}/fdinfo/{}", number.to_string_lossy());
            let info = std::fs::read_to_string(info).unwrap_or_default();
            let mount = info.lines().find_map(|line| line.strip_prefix("mnt_id:"));
            let mount = mount.and_then(|number| number.trim().parse().ok());
            // Of what is mounted nobody is asked: it may hang.
            mount.is_some_and(|mount| !mounts.contains(&mount)) && is_fuse(&entry.path())
        })
    };
    processes().into_iter().filter(has).collect()
}

fn is_fuse(path: &Path) -> bool {
    /// `FUSE_SUPER_MAGIC` of statfs(2).
    const FUSE: u64 = 0x6573_5546;
    rustix::fs::statfs(path).is_ok_and(|found| u64::try_from(found.f_type) == Ok(FUSE))
}

/// Where a path leads, as far as there is anything: links are followed, and what is not there is kept as it is written.
pub fn resolve(path: &Path) -> PathBuf {
    match (path.canonicalize(), path.parent(), path.file_name()) {
        (Ok(found), _, _) => found,
        (Err(_), Some(parent), Some(name)) => resolve(parent).join(name),
        (Err(_), _, _) => path.to_owned(),
    }
}

/// The same, and the path itself where the answer is longer in coming than `patience`: a directory may hang.
pub fn resolve_within(path: &Path, patience: Duration) -> PathBuf {
    let (sender, answer) = crossbeam_channel::bounded(1);
    let asked = path.to_owned();
    std::thread::spawn(move || {
        // Nobody waits for an answer that comes too late.
        let _ = sender.send(resolve(&asked));
    });
    answer
        .recv_timeout(patience)
        .unwrap_or_else(|_| path.to_owned())
}

/// What is wrong about where the directories of a configuration lead on this machine, which no text says: a start refuses
/// it. A directory that does not answer within 3 s counts as written.
pub fn misplaced(config: &Config) -> Faults {
    speedloader_config::misplaced(config, |path| resolve_within(path, RESOLVE_PATIENCE))
}

/// The topmost directory above a path that others than its owner and group may not enter: through a mount that is for
/// everybody they could. Whom the directory itself keeps out the mount keeps out as well. May hang as the path may.
pub fn barrier_above(path: &Path) -> Option<PathBuf> {
    const OTHERS_ENTER: u32 = 0o001;
    let path = resolve(path);
    let mut above: Vec<&Path> = path.ancestors().skip(1).collect();
    above.reverse();
    let bars = |directory: &&Path| {
        std::fs::metadata(directory).is_ok_and(|found| found.mode() & OTHERS_ENTER == 0)
    };
    above.into_iter().find(bars).map(Path::to_owned)
}

/// Directories of a configuration that everybody could read through its mount, though they lie below one that others may
/// not enter: each with that one. What does not answer within 3 s is not judged.
pub fn opened_up(config: &Config) -> Vec<(PathBuf, PathBuf)> {
    if !config.mount.allow_other {
        return Vec::new();
    }
    let cold = config.cold.iter().map(|cold| &cold.path);
    let homes = std::iter::once(&config.models_dir).chain(cold);
    let asked = homes.map(|home| {
        let (sender, answer) = crossbeam_channel::bounded(1);
        let path = home.clone();
        std::thread::spawn(move || {
            // Nobody waits for an answer that comes too late.
            let _ = sender.send(barrier_above(&path));
        });
        (home, answer)
    });
    let asked: Vec<_> = asked.collect();
    let deadline = Instant::now() + RESOLVE_PATIENCE;
    let found = asked.into_iter().filter_map(|(home, answer)| {
        let barrier = answer.recv_deadline(deadline).ok().flatten()?;
        Some((home.clone(), barrier))
    });
    found.collect()
}

fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let number: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    number.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

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
    fn links_are_followed_as_far_as_there_is_anything() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("real")).unwrap();
        std::os::unix::fs::symlink("real", root.join("link")).unwrap();
        std::os::unix::fs::symlink("gone", root.join("dangling")).unwrap();
        assert_eq!(resolve(&root.join("link")), root.join("real"));
        assert_eq!(resolve(&root.join("link/a/b")), root.join("real/a/b"));
        assert_eq!(resolve(&root.join("dangling")), root.join("dangling"));
    }

    #[test]
    fn what_bars_others_is_found_above_a_path() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        let allow = |path: &Path, mode| {
            let permissions = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(path, permissions).unwrap();
        };
        std::fs::create_dir_all(root.join("alice/models")).unwrap();
        std::os::unix::fs::symlink("alice", root.join("link")).unwrap();
        allow(&root, 0o755);
        allow(&root.join("alice"), 0o711);
        assert_eq!(barrier_above(&root.join("alice/models")), None);
        allow(&root.join("alice"), 0o750);
        let barrier = Some(root.join("alice"));
        assert_eq!(barrier_above(&root.join("alice/models")), barrier);
        assert_eq!(barrier_above(&root.join("link/models")), barrier);
        // Its own permissions are kept by the mount.
        assert_eq!(barrier_above(&root.join("alice")), None);
    }

    #[test]
    fn workers_lead_to_the_program_that_has_started_them_and_no_farther() {
        let own = std::process::id();
        let mut shell = Command::new("sh")
            .args(["-c", "sh -c 'echo $$; cat; :'; :"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        let mut output = BufReader::new(shell.stdout.take().unwrap());
        output.read_line(&mut said).unwrap();
        let worker = said.trim().parse().unwrap();
        assert_ne!(worker, shell.id());
        assert_eq!(first_of_program(worker), shell.id());
        assert_eq!(first_of_program(shell.id()), shell.id());
        assert_ne!(first_of_program(own), shell.id());
        assert!(is_running(worker));
        drop(shell.stdin.take());
        // Until somebody asks what has become of it, it is there and does not run.
        while is_running(shell.id()) {
            std::thread::yield_now();
        }
        assert!(shell.wait().unwrap().success());
    }

    #[test]
    fn nonsense_is_no_number() {
        assert_eq!(kibibytes("MemTotal: 5 kB\n", "MemTotal:"), Some(5120));
        assert_eq!(kibibytes("MemTotal: many kB\n", "MemTotal:"), None);
        assert_eq!(kibibytes("", "MemTotal:"), None);
    }
}
