//! Threads that may wait for a home, so that nobody else has to.
//!
//! One set a home: a home that hangs holds up its own requests and nothing else. Threads are started
//! as they are needed, up to a bound, and never joined: one that hangs in the kernel must not hold
//! up a shutdown.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::file::lock;

/// Most threads that wait for one home at once.
const THREADS_MAX: usize = 16;

type Job = Box<dyn FnOnce() + Send>;

/// The threads of one home.
pub struct Offload {
    name: String,
    sender: Sender<Job>,
    receiver: Receiver<Job>,
    idle: Arc<AtomicUsize>,
    threads: Mutex<usize>,
}

impl Offload {
    /// No thread yet; `name` is shown in lists of threads.
    pub fn new(name: &str) -> Offload {
        let (sender, receiver) = unbounded();
        Offload {
            name: name.to_owned(),
            sender,
            receiver,
            idle: Arc::new(AtomicUsize::new(0)),
            threads: Mutex::new(0),
        }
    }

    /// Runs `job` on one of the threads, soon.
    pub fn run(&self, job: Job) {
        // Jobs in the queue are about to take the idle threads: count them off.
        if self.idle.load(Ordering::SeqCst) <= self.receiver.len() {
            self.start_thread();
        }
        // The receiver lives as long as the sender: both are ours.
        let _ = self.sender.send(job);
    }

    fn start_thread(&self) {
        let mut threads = lock(&self.threads);
        if *threads == THREADS_MAX {
            return;
        }
        let (jobs, idle) = (self.receiver.clone(), Arc::clone(&self.idle));
        let work = move || {
            loop {
                idle.fetch_add(1, Ordering::SeqCst);
                let job = jobs.recv();
                idle.fetch_sub(1, Ordering::SeqCst);
                let Ok(job) = job else { return };
                job();
            }
        };
        match std::thread::Builder::new()
            .name(self.name.clone())
            .spawn(work)
        {
            Ok(_) => *threads += 1,
            Err(error) => tracing::error!(%error, "no thread to wait for a home"),
        }
    }

    /// Jobs that no thread has taken yet.
    pub fn queued(&self) -> usize {
        self.receiver.len()
    }
}
