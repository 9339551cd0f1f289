//! Who opens: a process and those that it descends from. An engine's server may read the header,
//! and a child of it load the model.

/// Generations that are looked at.
const GENERATIONS_MAX: usize = 6;

/// The process of a thread and its ancestors, the nearest first; without those that started
/// everything (process 1 and the kernel's). Empty when it is unknown or gone.
pub(super) fn lineage(tid: u32) -> Vec<u32> {
    let mut found = Vec::new();
    let mut next = (tid > 1).then_some(tid);
    while let Some(process) = next.filter(|_| found.len() < GENERATIONS_MAX) {
        let Ok(status) = std::fs::read_to_string(format!("/proc/{process}/status")) else {
            break;
        };
        found.extend(field(&status, "Tgid:"));
        next = field(&status, "PPid:").filter(|parent| *parent > 1);
    }
    found
}

fn field(status: &str, name: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_of_its_process_and_that_of_its_parent() {
        let own = std::process::id();
        let of_a_thread = std::thread::spawn(|| {
            lineage(
                rustix::thread::gettid()
                    .as_raw_nonzero()
                    .get()
                    .cast_unsigned(),
            )
        });
        let of_a_thread = of_a_thread.join().unwrap();
        assert_eq!(of_a_thread.first(), Some(&own));
        assert_eq!(of_a_thread, lineage(own));
        assert!(lineage(0).is_empty());
        assert_eq!(field("Tgid:\t12\nPPid:\t7\n", "PPid:"), Some(7));
        assert_eq!(field("Tgid:\tx\n", "Tgid:"), None);
    }
}
