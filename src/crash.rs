//! Dying at a chosen step, for the crash tests: debug builds only.
//!
//! `SPEEDLOADER_CRASH_AT=N` ends the process without a word before the N-th step (from 1) of
//! promotions and demotions; `SPEEDLOADER_STEPS=FILE` appends the name of each step to a file. A
//! release build looks at neither.

use std::sync::Arc;

use speedloader_fs::seam::{NoSeam, Seam};

/// The seam of this process.
pub fn seam() -> Arc<dyn Seam> {
    #[cfg(debug_assertions)]
    if let Some(seam) = stepping::from_environment() {
        return Arc::new(seam);
    }
    Arc::new(NoSeam)
}

#[cfg(debug_assertions)]
mod stepping {
    use std::fs::File;
    use std::io::Write;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU64, Ordering};

    use speedloader_fs::error::FsResult;
    use speedloader_fs::seam::Seam;

    /// Counts steps, names them, and dies at one.
    pub struct Stepping {
        steps: AtomicU64,
        die_at: Option<u64>,
        log: Option<Mutex<File>>,
    }

    pub fn from_environment() -> Option<Stepping> {
        let die_at = std::env::var("SPEEDLOADER_CRASH_AT")
            .ok()
            .and_then(|n| n.parse().ok());
        let log = std::env::var_os("SPEEDLOADER_STEPS")
            .and_then(|path| File::options().create(true).append(true).open(path).ok())
            .map(Mutex::new);
        (die_at.is_some() || log.is_some()).then(|| Stepping {
            steps: AtomicU64::new(0),
            die_at,
            log,
        })
    }

    impl Seam for Stepping {
        fn step(&self, name: &'static str) -> FsResult<()> {
            let number = self.steps.fetch_add(1, Ordering::SeqCst) + 1;
            if let Some(log) = &self.log
                && let Ok(mut log) = log.lock()
            {
                // A lost line shows in the test that reads them.
                let _ = writeln!(log, "{number} {name}");
            }
            if self.die_at == Some(number) {
                std::process::abort();
            }
            Ok(())
        }
    }
}
