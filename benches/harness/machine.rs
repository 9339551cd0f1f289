//! Facts of the machine that figures depend on, and of processes that are measured.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// Kernel, processors, load, huge pages: printed with every table.
pub fn facts() -> Value {
    let read = |path: &str| {
        std::fs::read_to_string(path)
            .map(|text| text.trim().to_owned())
            .unwrap_or_default()
    };
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map(|rest| rest.trim_start_matches([' ', '\t', ':']).to_owned());
    let meminfo = read("/proc/meminfo");
    let memory = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .unwrap_or_default();
    json!({
        "kernel": rustix::system::uname().release().to_string_lossy(),
        "cores": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        "processor": model,
        "memory": memory.trim(),
        "load_average": read("/proc/loadavg"),
        "shmem_enabled": chosen(&read("/sys/kernel/mm/transparent_hugepage/shmem_enabled")),
    })
}

/// The word in brackets: how the kernel shows what is chosen.
fn chosen(text: &str) -> &str {
    let inner = text
        .split_once('[')
        .and_then(|(_, rest)| rest.split_once(']'));
    inner.map_or(text, |(word, _)| word)
}

/// The load average of the last minute.
pub fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// Processor seconds that a process has used, threads that ended included; to 10 ms.
///
/// # Errors
/// When the process is gone.
pub fn cpu_secs_of(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // Behind the name, which may hold blanks: fields 14 and 15 of the line, in ticks of 10 ms.
    let fields = stat.rsplit_once(')').context("/proc/PID/stat is odd")?.1;
    let ticks = |at: usize| -> Result<f64> {
        let field = fields.split_whitespace().nth(at);
        Ok(field.context("/proc/PID/stat is short")?.parse()?)
    };
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}

/// Processor seconds of the children that this process has waited for; to 10 ms.
///
/// # Errors
/// When /proc is not there.
pub fn cpu_secs_of_children() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit_once(')').context("/proc/self/stat is odd")?.1;
    let ticks = |at: usize| -> Result<f64> {
        let field = fields.split_whitespace().nth(at);
        Ok(field.context("/proc/self/stat is short")?.parse()?)
    };
    Ok((ticks(13)? + ticks(14)?) / 100.0)
}

/// Private and file-backed resident memory of a process, in bytes: what it costs by itself.
#[derive(Clone, Copy, Debug)]
pub struct Rss {
    /// Heap and stacks.
    pub anonymous_bytes: u64,
    /// Its program.
    pub file_bytes: u64,
}

impl Rss {
    /// Both.
    pub fn total_bytes(self) -> u64 {
        self.anonymous_bytes + self.file_bytes
    }
}

/// What a process takes now.
///
/// # Errors
/// When the process is gone.
pub fn rss_of(pid: u32) -> Result<Rss> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| -> Result<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line
            .context("no such field")?
            .trim()
            .trim_end_matches(" kB");
        Ok(number.parse::<u64>()? << 10)
    };
    Ok(Rss {
        anonymous_bytes: field("RssAnon:")?,
        file_bytes: field("RssFile:")?,
    })
}

/// How often each thread of a process has gone to sleep by itself: the wake-ups that it asked for.
///
/// # Errors
/// When the process is gone.
pub fn sleeps_of(pid: u32) -> Result<Vec<(String, u64)>> {
    let mut sleeps = Vec::new();
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let path = thread?.path();
        // A thread may end while we look.
        let Ok(status) = std::fs::read_to_string(path.join("status")) else {
            continue;
        };
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
        let name = field("Name:").unwrap_or_default().trim().to_owned();
        let number = field("voluntary_ctxt_switches:").unwrap_or("0").trim();
        sleeps.push((name, number.parse()?));
    }
    Ok(sleeps)
}

/// Number of descriptors that a process has open.
///
/// # Errors
/// When the process is gone.
pub fn descriptors_of(pid: u32) -> Result<usize> {
    Ok(std::fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

/// Drops clean page cache of the whole machine.
///
/// # Errors
/// Without root.
pub fn drop_page_cache() -> Result<()> {
    rustix::fs::sync();
    Ok(std::fs::write("/proc/sys/vm/drop_caches", "1")?)
}

/// Drops cached names and inodes of the whole machine.
///
/// # Errors
/// Without root.
pub fn drop_names() -> Result<()> {
    Ok(std::fs::write("/proc/sys/vm/drop_caches", "2")?)
}

/// Waits; of benchmarks alone, where time itself is what is measured.
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}
