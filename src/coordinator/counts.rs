//! What the status counts and asks the kernel for: it is asked for all the time, so a count is kept for as long as
//! it holds, and a figure for a moment.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use speedloader_fs::ids::{HomeId, PoolId};

use super::Coordinator;
use super::moves::Subject;
use super::prefault::ready_bytes;
use super::world::Known;
use crate::machine::{self, Memory};
use crate::models::{ModelIndex, ModelRef};
use crate::pressure;

/// Sizes of files that others are writing to change without any name's changing: they are looked at anew so often.
const SIZES_MAX_AGE: Duration = Duration::from_secs(1);

/// Reading the kernel's figures of memory is a third of a status: they are looked at anew so often, which is less than
/// a page's period.
const FIGURES_MAX_AGE: Duration = Duration::from_millis(250);

/// What is kept of it.
#[derive(Default)]
pub(super) struct Kept {
    counts: Mutex<Arc<Counts>>,
    figures: Mutex<Option<(Instant, Figures)>>,
}

/// Memory of one moment.
#[derive(Clone, Copy)]
pub(super) struct Figures {
    pub(super) memory: Memory,
    /// What pools kept ready then, and was not available.
    pub(super) ready_bytes: u64,
    pub(super) own_rss_bytes: u64,
}

/// Files and bytes of one home.
#[derive(Clone, Copy, Default)]
pub(super) struct Content {
    pub(super) files: u64,
    pub(super) bytes: u64,
}

/// What a count holds for: the catalog, the tree and what is resident of it, by their generations.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Of {
    catalog: u64,
    tree: u64,
    residency: u64,
}

/// Counts of one moment.
#[derive(Clone, Default)]
pub(super) struct Counts {
    of: Of,
    sized: Option<Instant>,
    /// What each home shows.
    pub(super) contents: HashMap<HomeId, Content>,
    /// How many models are resident.
    pub(super) resident: u64,
    /// What pools hold of files that are served from faster ones.
    pub(super) spare_bytes: HashMap<PoolId, u64>,
}

impl Coordinator {
    pub(super) fn counts(&self, known: &Known) -> Arc<Counts> {
        // Before anything is counted: what changes meanwhile is counted again next time.
        let of = Of {
            catalog: known.generation,
            tree: self.fs.generation(),
            residency: self.fs.residency_changes(),
        };
        let mut kept = self
            .kept
            .counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let is_sized = (kept.sized).is_some_and(|sized| sized.elapsed() < SIZES_MAX_AGE);
        let holds_contents = is_sized && kept.of.tree == of.tree;
        let holds_resident = kept.sized.is_some() && kept.of == of;
        if holds_contents && holds_resident {
            return Arc::clone(&kept);
        }
        let counts = Arc::make_mut(&mut kept);
        if !holds_contents {
            counts.sized = Some(Instant::now());
            counts.contents = self.contents();
        }
        if !holds_resident {
            counts.resident = self.resident_count(known);
            counts.spare_bytes = self.spare_bytes();
        }
        counts.of = of;
        Arc::clone(&kept)
    }

    pub(super) fn figures(&self) -> Figures {
        let mut kept = self
            .kept
            .figures
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some((at, figures)) = *kept
            && at.elapsed() < FIGURES_MAX_AGE
        {
            return figures;
        }
        let figures = Figures {
            memory: pressure::memory(),
            ready_bytes: ready_bytes(&self.pools()),
            own_rss_bytes: machine::own_rss_bytes(),
        };
        *kept = Some((Instant::now(), figures));
        figures
    }

    fn contents(&self) -> HashMap<HomeId, Content> {
        let mut contents: HashMap<HomeId, Content> = HashMap::new();
        self.fs.union().for_each_file(|file| {
            let content = contents.entry(file.home).or_default();
            content.files += 1;
            content.bytes = content.bytes.saturating_add(file.attr().identity.size);
        });
        contents
    }

    fn spare_bytes(&self) -> HashMap<PoolId, u64> {
        let mut spares = HashMap::new();
        if self.pools().len() > 1 {
            self.fs.union().for_each_file(|file| {
                file.with_live(|live| {
                    for spare in live.replicas.iter().skip(1) {
                        *spares.entry(spare.pool().id()).or_default() += spare.occupied_bytes();
                    }
                });
            });
        }
        spares
    }

    /// Most models are told by their first file.
    fn resident_count(&self, known: &Known) -> u64 {
        let all_resident = |subject: &Subject| {
            !subject.files.is_empty() && subject.files.iter().all(|file| file.is_resident())
        };
        let is_resident = |index: &ModelIndex| {
            let mut any = false;
            for (file, ..) in known.catalog.files(*index) {
                match known.file(file) {
                    Some(file) if !file.is_resident() => return false,
                    Some(_) => any = true,
                    // Another one may have its place since.
                    None => {
                        let subject = self.subject(known, ModelRef::Model(*index));
                        return subject.as_ref().is_some_and(all_resident);
                    }
                }
            }
            any
        };
        known.catalog.indices().filter(is_resident).count() as u64
    }
}
