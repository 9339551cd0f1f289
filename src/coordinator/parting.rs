//! A pool that is about to be disconnected: nothing new is put into it, and its readers are named, waited for, or
//! left behind with what they have.

use std::sync::Arc;
use std::time::{Duration, Instant};

use speedloader_fs::file::HomeFile;
use speedloader_fs::ids::PoolId;
use speedloader_fs::pool::Pool;

use super::Coordinator;
use super::loads::is_mapped_by;
use super::pause::Pause;
use crate::command::{Code, Message};
use crate::control::Peer;
use crate::machine;
use crate::view::{DoneView, View};

/// So many files are named where there are more.
const NAMED_MAX: usize = 5;
/// How often it is looked again who reads what is still read.
const NAME_INTERVAL: Duration = Duration::from_secs(2);

/// What is done with a pool's readers when it is disconnected; without any of it, they are a reason to refuse.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Readers {
    /// They go on with what they have, and nobody waits for them.
    pub force: bool,
    /// They are waited for.
    pub wait: bool,
}

/// While this is there nothing new is put into a pool.
pub(super) struct Leaving<'a> {
    coordinator: &'a Coordinator,
    pool: PoolId,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.coordinator.lock_leaving().remove(&self.pool);
    }
}

impl Coordinator {
    /// Whether the pool is about to be disconnected.
    pub(super) fn is_leaving(&self, pool: PoolId) -> bool {
        self.lock_leaving().contains(&pool)
    }

    /// From now on nothing new is put into the pool, until what comes back is dropped.
    pub(super) fn begin_leaving(&self, pool: &Pool) -> Result<Leaving<'_>, Message> {
        if !self.lock_leaving().insert(pool.id()) {
            let text = format!("{} is being disconnected already", pool.name());
            return Err(Message::new(Code::Busy, text));
        }
        Ok(Leaving {
            coordinator: self,
            pool: pool.id(),
        })
    }

    /// Refuses to take a pool away from who reads from it, or waits until nobody does.
    pub(super) fn mind_readers(
        &self,
        peer: &Peer,
        pool: &Arc<Pool>,
        readers: Readers,
        progress: &mut dyn FnMut(View),
    ) -> Result<(), Message> {
        if readers.force {
            return Ok(());
        }
        if !readers.wait {
            return self.refuse_if_read(pool);
        }
        // What is on its way there would only be thrown away.
        self.cancel_into(pool.id());
        let mut pause = Pause::new(self, peer, None);
        let mut told: Option<(usize, Instant)> = None;
        loop {
            let read = self.read_in(pool.id());
            if read.is_empty() || self.pool(pool.id()).is_none() {
                return Ok(());
            }
            let is_news =
                told.is_none_or(|(count, at)| count != read.len() || at.elapsed() >= NAME_INTERVAL);
            if is_news {
                told = Some((read.len(), Instant::now()));
                let text = format!("waits for {}", self.named_with_readers(&read, pool.id()));
                progress(View::Done(DoneView { text }));
            }
            pause.next("")?;
        }
    }

    /// Waits until the last reader of what was dropped from the pool has let go.
    pub(super) fn wait_drained(&self, peer: &Peer, pool: &Pool) -> Result<(), Message> {
        let mut pause = Pause::new(self, peer, None);
        loop {
            self.drainer.check_now();
            if pool.usage().map_or(true, |usage| usage.draining_bytes == 0) {
                return Ok(());
            }
            pause.next("")?;
        }
    }

    /// Refuses to take a pool away from who reads from it.
    pub(super) fn refuse_if_read(&self, pool: &Arc<Pool>) -> Result<(), Message> {
        let read = self.read_in(pool.id());
        if read.is_empty() {
            return Ok(());
        }
        let named = self.named_with_readers(&read, pool.id());
        let text = format!(
            "{}: {} of its replicas are being read: {named}",
            pool.name(),
            read.len()
        );
        Err(Message::new(Code::Busy, text).with_hint(
            "end the engines that use them, or `--wait` for it, or `--force`: readers keep what they have, and \
             the memory is free when they let go",
        ))
    }

    /// Files whose replicas in the pool are being read.
    fn read_in(&self, pool: PoolId) -> Vec<Arc<HomeFile>> {
        let mut files = self.files_in(pool);
        files.retain(|file| self.is_in_use(file, pool));
        files
    }

    /// Some of the files by name, each with the processes that have it.
    fn named_with_readers(&self, files: &[Arc<HomeFile>], pool: PoolId) -> String {
        let processes = machine::processes();
        let named = files.iter().take(NAMED_MAX).map(|file| {
            let path = self.shown_path(file);
            let suffix = format!("/{path}");
            let has = |process: &&u32| {
                machine::has_open(**process, &suffix) || is_mapped_by(**process, &suffix)
            };
            let users = processes.iter().filter(has);
            let mut users: Vec<String> = users
                .filter_map(|process| Some(format!("{} {process}", machine::command_of(*process)?)))
                .collect();
            if self.is_copied_from(file, pool) {
                users.push("copied to another pool".to_owned());
            }
            match users.is_empty() {
                true => path,
                false => format!("{path} ({})", users.join(", ")),
            }
        });
        let mut named: Vec<String> = named.collect();
        if files.len() > NAMED_MAX {
            named.push(format!("{} more", files.len() - NAMED_MAX));
        }
        named.join(", ")
    }

    /// Whether a copy of ours reads the file's replica in the pool.
    fn is_copied_from(&self, file: &HomeFile, pool: PoolId) -> bool {
        let moves = self.lock_moves();
        let mut errands = moves.errands.values();
        errands.any(|errand| errand.file.id == file.id && errand.origin.pool() == Some(pool))
    }
}
