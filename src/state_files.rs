//! The files of the state directory, by name: whoever looks at it from outside knows which are ours.

/// What was learned.
pub const LEARNED: &str = "learned.bin";
/// Pins made at run time.
pub const PINS: &str = "pins.json";
/// What was resident.
pub const RESIDENT: &str = "resident.json";
/// The log of loads that is being written, and the one before it.
pub const LOADS: &str = "loads.csv";
/// The log of loads before that.
pub const LOADS_BEFORE: &str = "loads.1.csv";
/// What a daemon in the background has to say, and what it said before.
pub const LOG: &str = "daemon.log";
/// The log before that.
pub const LOG_BEFORE: &str = "daemon.1.log";
/// This machine's number as an NVMe host.
pub const HOST_ID: &str = "nvme-hostid";
/// Before the name of a remote pool: which run of it was the last.
pub const REMOTE: &str = "remote-";

/// Whether a file of this name is one that is kept.
pub fn is_kept(name: &str) -> bool {
    let names = [
        LEARNED,
        PINS,
        RESIDENT,
        LOADS,
        LOADS_BEFORE,
        LOG,
        LOG_BEFORE,
        HOST_ID,
    ];
    names.contains(&name) || name.starts_with(REMOTE)
}

/// Whether it is one that was set aside because it could not be read.
pub fn is_set_aside(name: &str) -> bool {
    let kept = name.strip_suffix(".bad");
    kept.is_some_and(|kept| [LEARNED, PINS, RESIDENT].contains(&kept))
}

/// Whether it is one that was never finished: `.NAME.PID.NUMBER`, or `NAME.new` as older builds wrote.
pub fn is_unfinished(name: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let numbered = || {
        let (rest, number) = name.strip_prefix('.')?.rsplit_once('.')?;
        let (kept, process) = rest.rsplit_once('.')?;
        Some(is_number(number) && is_number(process) && is_kept(kept))
    };
    name.strip_suffix(".new").is_some_and(is_kept) || numbered().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_ours_are_ours() {
        for name in [".pins.json.17.0", ".remote-far.1.22", "learned.bin.new"] {
            assert!(is_unfinished(name), "{name}");
        }
        for name in [
            "model.gguf.tmp",
            "x.new",
            ".x.1.2",
            ".pins.json.x.2",
            "pins.json",
        ] {
            assert!(!is_unfinished(name), "{name}");
        }
        assert!(is_set_aside("learned.bin.bad") && !is_set_aside("y.bad.gguf"));
    }

    /// The names that files have before they are whole are given elsewhere.
    #[test]
    fn what_is_not_finished_is_known_by_its_name() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut seen = None;
        let path = directory.path().join(PINS);
        let _ = crate::whole_file::write(
            &path,
            b"",
            |_| Ok(()),
            |temporary, _| {
                seen = temporary
                    .file_name()
                    .and_then(|name| name.to_str())
                    .map(str::to_owned);
                Ok(())
            },
        );
        assert!(is_unfinished(&seen.expect("written")));
    }
}
