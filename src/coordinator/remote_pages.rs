//! Pages of remote pools in this machine's page cache. Whoever reads another machine's memory through the kernel
//! leaves a copy of it in ours, and pays for it twice. Once a second what was read is let go again, but for
//! what is mapped: that is in use, and the kernel takes it back itself when it needs memory.

use std::fs::File;
use std::sync::Arc;

use rustix::fs::Advice;
use speedloader_fs::file::HomeFile;
use speedloader_fs::pool::Pool;
use speedloader_fs::replica::Replica;

use super::Coordinator;
use crate::back_off::Device;

/// What is known of the pages of one pool.
#[derive(Default)]
pub(super) struct Pages {
    /// What was read from the pool's device when it was looked last.
    read_bytes: u64,
    /// Files that were open then: what they have mapped can be let go later.
    open: Vec<Arc<HomeFile>>,
}

impl Coordinator {
    /// Lets the pages of a pool go that were read since the last time.
    pub(super) fn drop_pages(&self, pool: &Pool, pages: &mut Pages) {
        let Ok(stat) = rustix::fs::fstat(pool.directory()) else {
            return;
        };
        let read_bytes = Device::of(stat.st_dev).read_bytes();
        let files = match read_bytes {
            Some(read_bytes) if read_bytes == pages.read_bytes => std::mem::take(&mut pages.open),
            _ => self.files_in(pool.id()),
        };
        pages.read_bytes = read_bytes.unwrap_or(0);
        pages.open.clear();
        for file in files {
            let (replica, is_open) = file.with_live(|live| {
                let mut replicas = live.replicas.iter();
                let ours = replicas.find(|replica| replica.pool().id() == pool.id());
                (ours.map(Replica::shared_file), live.opens > 0)
            });
            let Some(replica) = replica else { continue };
            let_go(&replica);
            if is_open {
                pages.open.push(file);
            }
        }
    }
}

fn let_go(file: &File) {
    // Advice: what cannot go stays.
    let _ = rustix::fs::fadvise(file, 0, None, Advice::DontNeed);
}

#[cfg(test)]
mod tests {
    use std::io::{IoSliceMut, Write};
    use std::time::{Duration, Instant};

    use rustix::io::{Errno, ReadWriteFlags, preadv2};
    use speedloader_fs::tmpfs;

    use super::*;

    /// What a processor has yet to put on its lists, or the disk has not taken, stays for a moment.
    const PATIENCE: Duration = Duration::from_secs(20);

    /// Whether the beginning of the file is in the page cache; `None` where that cannot be asked.
    fn is_cached(file: &File) -> Option<bool> {
        let mut bytes = [0; 4096];
        let mut into = [IoSliceMut::new(&mut bytes)];
        match preadv2(file, &mut into, 0, ReadWriteFlags::NOWAIT) {
            Ok(_) => Some(true),
            Err(Errno::AGAIN) => Some(false),
            Err(_) => None,
        }
    }

    #[test]
    fn what_was_read_is_let_go_and_can_be_read_again() {
        let mut file = tempfile::NamedTempFile::new().expect("made");
        file.write_all(&[7; 64 << 10]).expect("written");
        file.as_file().sync_all().expect("written");
        assert_ne!(is_cached(file.as_file()), Some(false));
        let_go(file.as_file());
        let is_memory = tmpfs::holds(file.as_file()).expect("asked");
        let end = Instant::now() + PATIENCE;
        // To ask begins reading it in again: the first answer that it has gone is the last that counts.
        let answer = loop {
            match is_cached(file.as_file()) {
                Some(true) if !is_memory && Instant::now() < end => {
                    let_go(file.as_file());
                    std::thread::yield_now();
                }
                answer => break answer,
            }
        };
        match answer {
            None => eprintln!(
                "SKIPPED what_was_read_is_let_go_and_can_be_read_again: it cannot be asked here"
            ),
            Some(is_cached) => assert_eq!(is_cached, is_memory, "what is memory stays"),
        }
        assert_eq!(std::fs::read(file.path()).expect("read"), [7; 64 << 10]);
    }
}
