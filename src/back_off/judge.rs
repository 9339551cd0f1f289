//! Whether a copy may go on, from what is known of its device. No clock, no I/O: time is told.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Reads of others are looked for in so much time before now.
const WINDOW: Duration = Duration::from_millis(500);
/// Less in a window is no engine that loads.
const OTHERS_BYTES_MIN: u64 = 1 << 20;
/// Nor is less than this part of what we read ourselves: the kernel reads ahead of us too.
const OTHERS_PART: u64 = 8;
/// A device that is never left alone does not stop a copy for ever: from here on it goes on slowly.
const STOPPED_MAX: Duration = Duration::from_secs(60);
/// Slowly is one chunk in so much time.
const SLOW_STEP: Duration = Duration::from_secs(1);

/// What is known of a device at one moment. Taken in the order of the fields, what is counted between
/// two of them makes others look smaller, never larger.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// When.
    pub at: Instant,
    /// Bytes that have come for our copies.
    pub came_bytes: u64,
    /// Bytes that the device has read for anybody.
    pub device_bytes: u64,
    /// Bytes that our copies have asked for.
    pub asked_bytes: u64,
}

/// Knows when others read from one device.
#[derive(Debug, Default)]
pub(super) struct Judge {
    samples: VecDeque<Sample>,
    busy_at: Option<Instant>,
    stopped_since: Option<Instant>,
    stepped_at: Option<Instant>,
}

impl Judge {
    /// Somebody reads, or is about to.
    pub(super) fn is_read(&mut self, now: Instant) {
        self.busy_at = Some(now);
    }

    /// Whether the last look was so long ago that it says nothing of now.
    pub(super) fn is_blind(&self, now: Instant) -> bool {
        let last = self.samples.back();
        last.is_none_or(|last| now.saturating_duration_since(last.at) > WINDOW)
    }

    /// Whether it is time for another look.
    pub(super) fn is_due(&self, now: Instant, interval: Duration) -> bool {
        let last = self.samples.back();
        last.is_none_or(|last| now.saturating_duration_since(last.at) >= interval)
    }

    /// The device was looked at.
    pub(super) fn sampled(&mut self, sample: Sample) {
        let is_old = |old: &Sample| sample.at.saturating_duration_since(old.at) > WINDOW;
        while self.samples.len() > 1 && self.samples.front().is_some_and(is_old) {
            self.samples.pop_front();
        }
        if let Some(before) = self.samples.front().filter(|before| !is_old(before)) {
            let ours_at_most = sample.asked_bytes.saturating_sub(before.came_bytes);
            let all = sample.device_bytes.saturating_sub(before.device_bytes);
            let others = all.saturating_sub(ours_at_most);
            if others >= OTHERS_BYTES_MIN.max(ours_at_most / OTHERS_PART) {
                self.is_read(sample.at);
                // These bytes were seen.
                self.samples.clear();
            }
        }
        self.samples.push_back(sample);
    }

    /// Whether a chunk may be read now: nobody else has for `calm`.
    pub(super) fn may_go_on(&mut self, now: Instant, calm: Duration) -> bool {
        let busy = |at: Instant| now.saturating_duration_since(at) < calm;
        if !self.busy_at.is_some_and(busy) {
            self.stopped_since = None;
            return true;
        }
        let since = *self.stopped_since.get_or_insert(now);
        let is_over = |at: Instant, time: Duration| now.saturating_duration_since(at) >= time;
        let steps =
            is_over(since, STOPPED_MAX) && self.stepped_at.is_none_or(|at| is_over(at, SLOW_STEP));
        if steps {
            self.stepped_at = Some(now);
        }
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const CALM: Duration = Duration::from_secs(1);

    fn ms(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    /// A device on which we and others read at given rates, in bytes a millisecond, with a bit of ours
    /// always under way.
    struct Scene {
        judge: Judge,
        now: Instant,
        ours: u64,
        others: u64,
    }

    impl Scene {
        fn new() -> Scene {
            Scene {
                judge: Judge::default(),
                now: Instant::now(),
                ours: 0,
                others: 0,
            }
        }

        /// Looks every 20 ms for so long; ours stop as they are told. How many looks found us going on.
        fn pass(&mut self, time_ms: u64, ours_per_ms: u64, others_per_ms: u64) -> u64 {
            let mut gone_on = 0;
            for _ in 0..time_ms / 20 {
                self.now += ms(20);
                let goes_on = self.judge.may_go_on(self.now, CALM);
                gone_on += u64::from(goes_on);
                let before = self.ours;
                self.ours += if goes_on { 20 * ours_per_ms } else { 0 };
                self.others += 20 * others_per_ms;
                self.judge.sampled(Sample {
                    at: self.now,
                    came_bytes: before,
                    // Ours have left the device, and not been told to us.
                    device_bytes: self.ours + self.others,
                    asked_bytes: self.ours + if goes_on { 16 * MIB } else { 0 },
                });
            }
            gone_on
        }
    }

    #[test]
    fn a_copy_alone_goes_on() {
        let mut scene = Scene::new();
        assert_eq!(scene.pass(5000, MIB, 0), 250);
        // Somebody writes a log meanwhile, and reads it.
        assert_eq!(scene.pass(5000, MIB, 1000), 250);
    }

    #[test]
    fn who_reads_beside_a_copy_stops_it_and_is_waited_for() {
        let mut scene = Scene::new();
        scene.pass(1000, MIB, 0);
        let gone_on = scene.pass(2000, MIB, 300_000);
        assert!(gone_on <= 20, "{gone_on} looks of 100");
        assert_eq!(scene.pass(10_000, MIB, 300_000), 0);
        // It has a lot to do between two reads.
        for _ in 0..5 {
            assert_eq!(scene.pass(900, MIB, 0), 0);
            assert_eq!(scene.pass(100, MIB, 300_000), 0);
        }
        assert_eq!(scene.pass(900, MIB, 0), 0);
        let gone_on = scene.pass(1000, MIB, 0);
        assert!(gone_on >= 40, "{gone_on} looks of 50");
    }

    #[test]
    fn an_open_stops_it_before_anything_is_read() {
        let mut scene = Scene::new();
        scene.pass(1000, MIB, 0);
        scene.judge.is_read(scene.now);
        assert_eq!(scene.pass(980, MIB, 0), 0);
        assert!(scene.pass(1000, MIB, 0) >= 48);
    }

    #[test]
    fn a_device_that_is_never_left_alone_is_copied_from_slowly() {
        let mut scene = Scene::new();
        assert!(scene.pass(100, 0, MIB) <= 3);
        let in_a_minute = scene.pass(58_000, MIB / 10, MIB);
        assert!(in_a_minute <= 2, "{in_a_minute}");
        let in_another = scene.pass(60_000, MIB / 10, MIB);
        assert!((50..=60).contains(&in_another), "{in_another}");
    }

    #[test]
    fn who_has_not_looked_is_blind() {
        let mut scene = Scene::new();
        assert!(scene.judge.is_blind(scene.now));
        scene.pass(100, 0, 0);
        assert!(!scene.judge.is_blind(scene.now));
        assert!(scene.judge.is_blind(scene.now + ms(600)));
    }
}
