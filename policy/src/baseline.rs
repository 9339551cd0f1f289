//! Published policies, each as its source describes it, for comparison in simulations only.
//!
//! A baseline knows one pool. Where there are several, each pool has an instance of its own
//! ([`tiered`]). Only whole objects, counted in bytes; what is larger than the pool is never held.

mod autotier;
mod belady;
mod priority;
mod s3_fifo;
mod sieve;
mod tiered;
mod tiny_lfu;

pub use tiered::replay_baseline;

use crate::trace::{Trace, TraceLoad};

/// A policy for one pool.
trait Baseline {
    /// One load: decides whether to hold the object from now on, and whom to let go for it.
    /// `gone` receives those that were held and no longer are.
    fn load(&mut self, load: &TraceLoad, gone: &mut Vec<u32>);
    /// Whether it is held.
    fn holds(&self, object: u32) -> bool;
}

/// Which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BaselineKind {
    /// Least recently used.
    Lru,
    /// Least frequently used, counted while held.
    Lfu,
    /// GreedyDual-Size with frequency (Cherkasova 1998).
    Gdsf,
    /// S3-FIFO (Yang et al., SOSP '23).
    S3Fifo,
    /// SIEVE (Zhang et al., NSDI '24).
    Sieve,
    /// W-TinyLFU with aggregated victims by count (Einziger et al. 2021).
    WTinyLfu,
    /// The same with counts weighted by bytes.
    WTinyLfuBytes,
    /// LFU with dynamic aging (Arlitt et al. 2000).
    Lfuda,
    /// 45Drives autotier: popularity every 1000 s.
    Autotier,
    /// Clairvoyant: lets go what is needed again last.
    Belady,
}

/// All of them, the clairvoyant last.
pub const BASELINES: [BaselineKind; 10] = [
    BaselineKind::Lru,
    BaselineKind::Lfu,
    BaselineKind::Gdsf,
    BaselineKind::S3Fifo,
    BaselineKind::Sieve,
    BaselineKind::WTinyLfu,
    BaselineKind::WTinyLfuBytes,
    BaselineKind::Lfuda,
    BaselineKind::Autotier,
    BaselineKind::Belady,
];

impl BaselineKind {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lru => "lru",
            Self::Lfu => "lfu",
            Self::Gdsf => "gdsf",
            Self::S3Fifo => "s3-fifo",
            Self::Sieve => "sieve",
            Self::WTinyLfu => "w-tinylfu",
            Self::WTinyLfuBytes => "w-tinylfu-bytes",
            Self::Lfuda => "lfuda",
            Self::Autotier => "autotier",
            Self::Belady => "belady",
        }
    }

    /// The one with this name.
    pub fn named(name: &str) -> Option<Self> {
        BASELINES.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether it knows the future, and so is no policy to compare with.
    pub fn is_clairvoyant(self) -> bool {
        self == Self::Belady
    }

    /// Empty, for pools of so many bytes together and in the largest of them.
    fn start(self, capacity_bytes: u64, largest_bytes: u64, trace: &Trace) -> Box<dyn Baseline> {
        match self {
            Self::Lru => Box::new(priority::lru(capacity_bytes)),
            Self::Lfu => Box::new(priority::lfu(capacity_bytes)),
            Self::Gdsf => Box::new(priority::gdsf(capacity_bytes)),
            Self::Lfuda => Box::new(priority::lfuda(capacity_bytes)),
            Self::S3Fifo => Box::new(s3_fifo::S3Fifo::new(capacity_bytes)),
            Self::Sieve => Box::new(sieve::Sieve::new(capacity_bytes)),
            Self::WTinyLfu => Box::new(tiny_lfu::TinyLfu::new(capacity_bytes, false)),
            Self::WTinyLfuBytes => Box::new(tiny_lfu::TinyLfu::new(capacity_bytes, true)),
            Self::Autotier => Box::new(autotier::Autotier::new(
                capacity_bytes,
                largest_bytes,
                trace,
            )),
            Self::Belady => Box::new(belady::Belady::new(capacity_bytes, trace)),
        }
    }
}

/// What is held in one pool: sizes by object, and their sum.
#[derive(Debug)]
struct Room {
    capacity_bytes: u64,
    used_bytes: u64,
    held: Vec<Option<u64>>,
}

impl Room {
    fn new(capacity_bytes: u64) -> Self {
        Self {
            capacity_bytes,
            used_bytes: 0,
            held: Vec::new(),
        }
    }
    fn holds(&self, object: u32) -> bool {
        self.held.get(object as usize).is_some_and(Option::is_some)
    }
    fn bytes(&self, object: u32) -> u64 {
        self.held
            .get(object as usize)
            .copied()
            .flatten()
            .unwrap_or(0)
    }
    fn free_bytes(&self) -> u64 {
        self.capacity_bytes - self.used_bytes
    }
    fn insert(&mut self, object: u32, bytes: u64) {
        if self.held.len() <= object as usize {
            self.held.resize(object as usize + 1, None);
        }
        self.remove(object);
        self.held[object as usize] = Some(bytes);
        self.used_bytes += bytes;
    }
    fn remove(&mut self, object: u32) {
        if let Some(bytes) = self.held.get_mut(object as usize).and_then(Option::take) {
            self.used_bytes -= bytes;
        }
    }
}
