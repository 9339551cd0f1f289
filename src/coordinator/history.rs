//! What loads have been like since the start, bounded: the last ones each, and a week of hours. How long a load
//! takes the kernel does not tell; it is computed from the bytes and from speeds that were measured, of pools by
//! reading them and of homes by the copies from them.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::view::{HistoryView, HourView, LoadView};

/// Loads that are remembered each.
const LOADS_MAX: usize = 2_000;
/// Hours that are remembered: a week.
const HOURS_MAX: usize = 24 * 7;
const HOUR_MS: u64 = 3_600_000;
/// Copies of less say nothing about a home's speed, bytes.
const COPY_BYTES_MIN: u64 = 16 << 20;

/// Plans take another speed when what is measured differs by more than this part of it.
const PLANNED_SHARE: u64 = 4;

/// What is remembered.
pub struct History {
    since_ms: u64,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    home_bytes_per_sec: Option<u64>,
    /// The same, as plans take it: coarse, and the same until it is another by much.
    planned_bytes_per_sec: Option<u64>,
    loads: VecDeque<LoadView>,
    hours: VecDeque<HourView>,
}

/// A load, as it was seen.
pub struct Seen {
    /// The model's printable name.
    pub model: String,
    /// Its bytes.
    pub bytes: u64,
    /// Pools it was read from: name, bytes, measured bytes a second.
    pub pools: Vec<(String, u64, u64)>,
}

impl History {
    /// An empty one.
    pub fn new(now_ms: u64) -> History {
        History {
            since_ms: now_ms,
            memory: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy of so many bytes from a home ran at this speed.
    pub fn copied(&self, bytes: u64, bytes_per_sec: u64) {
        if bytes < COPY_BYTES_MIN || bytes_per_sec == 0 {
            return;
        }
        let mut memory = self.lock();
        let known = memory.home_bytes_per_sec.unwrap_or(bytes_per_sec);
        // The latest copies say the most, and one odd one not much.
        let measured = known / 4 * 3 + bytes_per_sec / 4;
        memory.home_bytes_per_sec = Some(measured);
        let differs = |planned: u64| planned.abs_diff(measured) > planned / PLANNED_SHARE;
        if memory.planned_bytes_per_sec.is_none_or(differs) {
            memory.planned_bytes_per_sec = Some(coarse(measured));
        }
    }

    /// What an earlier run had measured, as plans took it.
    pub fn had_measured(&self, bytes_per_sec: u64) {
        let mut memory = self.lock();
        memory.home_bytes_per_sec = Some(bytes_per_sec);
        memory.planned_bytes_per_sec = Some(bytes_per_sec);
    }

    /// What plans take homes to give, bytes a second; `assumed` as long as nothing was measured. It changes seldom:
    /// plans, and what is learned by it, would waver.
    pub fn planned_bytes_per_sec(&self, assumed: u64) -> u64 {
        self.lock().planned_bytes_per_sec.unwrap_or(assumed)
    }

    /// What homes give, bytes a second; `assumed` as long as nothing was measured.
    pub fn home_bytes_per_sec(&self, assumed: u64) -> u64 {
        self.lock().home_bytes_per_sec.unwrap_or(assumed)
    }

    /// A model was loaded; `assumed` is what a home gives as long as nothing was measured.
    pub fn loaded(&self, seen: Seen, assumed_bytes_per_sec: u64, now_ms: u64) {
        let mut memory = self.lock();
        let home = memory.home_bytes_per_sec.unwrap_or(assumed_bytes_per_sec);
        let load = judge(seen, home, now_ms);
        let hour_ms = now_ms - now_ms % HOUR_MS;
        if memory
            .hours
            .back()
            .is_none_or(|hour| hour.time_ms != hour_ms)
        {
            memory.hours.push_back(HourView {
                time_ms: hour_ms,
                ..HourView::default()
            });
        }
        if memory.hours.len() > HOURS_MAX {
            memory.hours.pop_front();
        }
        if let Some(hour) = memory.hours.back_mut() {
            hour.loads += 1;
            hour.bytes += load.bytes;
            hour.resident_bytes += load.resident_bytes;
            hour.saved_ms += load.saved_ms;
        }
        memory.loads.push_back(load);
        if memory.loads.len() > LOADS_MAX {
            memory.loads.pop_front();
        }
    }

    /// What is remembered.
    pub fn view(&self, assumed_bytes_per_sec: u64) -> HistoryView {
        let memory = self.lock();
        HistoryView {
            since_ms: self.since_ms,
            home_bytes_per_sec: memory.home_bytes_per_sec.unwrap_or(assumed_bytes_per_sec),
            home_measured: memory.home_bytes_per_sec.is_some(),
            loads: memory.loads.iter().cloned().collect(),
            hours: memory.hours.iter().cloned().collect(),
        }
    }
}

/// With two figures.
fn coarse(bytes_per_sec: u64) -> u64 {
    let unit = 10_u64.pow(bytes_per_sec.max(1).ilog10().saturating_sub(1));
    (bytes_per_sec / unit).max(1) * unit
}

fn judge(seen: Seen, home_bytes_per_sec: u64, now_ms: u64) -> LoadView {
    let ms = |bytes: u64, speed: u64| bytes.saturating_mul(1000) / speed.max(1);
    let resident: u64 = seen.pools.iter().map(|(_, bytes, _)| bytes).sum();
    let resident = resident.min(seen.bytes);
    let from_pools: u64 = seen
        .pools
        .iter()
        .map(|(_, bytes, speed)| ms(*bytes, *speed))
        .sum();
    let read_ms = from_pools + ms(seen.bytes - resident, home_bytes_per_sec);
    let most = seen.pools.iter().max_by_key(|(_, bytes, _)| *bytes);
    LoadView {
        time_ms: now_ms,
        pool: most.map(|(name, _, _)| name.clone()).unwrap_or_default(),
        model: seen.model,
        bytes: seen.bytes,
        resident_bytes: resident,
        read_ms,
        saved_ms: ms(seen.bytes, home_bytes_per_sec).saturating_sub(read_ms),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(resident: u64) -> Seen {
        Seen {
            model: "m".to_owned(),
            bytes: 1_000_000_000,
            pools: vec![("p".to_owned(), resident, 10_000_000_000)],
        }
    }

    #[test]
    fn what_ram_saved_is_the_difference_to_the_home() {
        let history = History::new(0);
        history.loaded(seen(1_000_000_000), 500_000_000, HOUR_MS + 1);
        history.loaded(seen(0), 500_000_000, HOUR_MS + 2);
        let view = history.view(500_000_000);
        assert_eq!((view.loads[0].read_ms, view.loads[0].saved_ms), (100, 1900));
        assert_eq!((view.loads[1].read_ms, view.loads[1].saved_ms), (2000, 0));
        assert_eq!(view.hours.len(), 1);
        assert_eq!((view.hours[0].loads, view.hours[0].saved_ms), (2, 1900));
        assert_eq!(view.hours[0].time_ms, HOUR_MS);
        assert!(!view.home_measured);
    }

    #[test]
    fn a_homes_speed_is_learned_from_copies_of_some_size() {
        let history = History::new(0);
        history.copied(1000, 1);
        assert!(!history.view(7).home_measured);
        history.copied(1 << 30, 400);
        assert_eq!(history.view(7).home_bytes_per_sec, 400);
        history.copied(1 << 30, 800);
        assert_eq!(history.view(7).home_bytes_per_sec, 500);
    }

    #[test]
    fn plans_take_what_homes_give_and_do_not_waver() {
        let history = History::new(0);
        assert_eq!(history.planned_bytes_per_sec(7), 7);
        for (copied, planned) in [(123_456, 120_000), (150_000, 120_000), (110_000, 120_000)] {
            history.copied(1 << 30, copied);
            assert_eq!(history.planned_bytes_per_sec(7), planned, "{copied}");
        }
        history.copied(1 << 30, 400_000);
        assert_eq!(history.planned_bytes_per_sec(7), 190_000);
        let next = History::new(0);
        next.had_measured(190_000);
        assert_eq!(next.planned_bytes_per_sec(7), 190_000);
        assert!(next.view(7).home_measured);
    }

    #[test]
    fn it_does_not_grow_for_ever() {
        let history = History::new(0);
        for number in 0..(LOADS_MAX as u64 + 10) {
            history.loaded(seen(0), 1, number * HOUR_MS);
        }
        let view = history.view(1);
        assert_eq!((view.loads.len(), view.hours.len()), (LOADS_MAX, HOURS_MAX));
    }
}
