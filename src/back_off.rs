//! Copies that nobody waits for stop while somebody else reads from their device, and go on when
//! nobody has for a while.
//!
//! Opens of cold files are known at once. What is read by who has them open, or passes us by, is
//! known from the device's own statistics, less what our copies had from it. Where there are none,
//! whoever has just opened a file is taken to read it.

mod device;
mod judge;

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

pub(crate) use device::Device;
use judge::{Judge, Sample};
use speedloader_fs::copy::{Pace, Source};
use speedloader_fs::identity::Identity;
use speedloader_fs::ids::{HandleId, PoolId};

/// How often a device is looked at while something is copied from it, or waits.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// For so long who has opened a file is taken to read it, where that cannot be measured.
const READS_AFTER_OPEN: Duration = Duration::from_secs(30);
/// Smaller files are no models, and read in no time.
const BYTES_MIN: u64 = 16 << 20;
/// Fewer handles take no memory to speak of.
const LOOKED_THROUGH_MIN: usize = 1024;

/// All devices that are copied from.
pub struct BackOff {
    calm: Duration,
    watches: Mutex<HashMap<u64, Arc<DeviceWatch>>>,
    /// Handles of models that are open on their homes, of each device number.
    open: Arc<Mutex<Opens>>,
    is_open: Box<dyn Fn(HandleId) -> bool + Send + Sync>,
}

#[derive(Debug, Default)]
struct Opens {
    handles: HashMap<HandleId, (u64, Instant)>,
    /// When there are so many, they are looked through for what was closed.
    look_through_at: usize,
}

/// One device.
#[derive(Debug)]
pub struct DeviceWatch {
    device: Device,
    calm: Duration,
    dev: u64,
    open: Arc<Mutex<Opens>>,
    asked_bytes: AtomicU64,
    came_bytes: AtomicU64,
    judge: Mutex<Judge>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl BackOff {
    /// Copies go on when nobody else has read for `calm`; zero: they never stop. `is_open` is asked now and then about
    /// handles: that one was closed is told by an event, and events are lost where too many come at once.
    pub fn new(
        calm: Duration,
        is_open: impl Fn(HandleId) -> bool + Send + Sync + 'static,
    ) -> BackOff {
        BackOff {
            calm,
            watches: Mutex::default(),
            open: Arc::default(),
            is_open: Box::new(is_open),
        }
    }

    /// What slows down copies from the file system with number `dev`; `None`: nothing does.
    pub fn watch(&self, dev: u64) -> Option<Arc<DeviceWatch>> {
        if self.calm.is_zero() {
            return None;
        }
        // A copy is about to ask who reads.
        lock(&self.open).look_through(&self.is_open);
        let mut watches = lock(&self.watches);
        if let Some(known) = watches.get(&dev) {
            return Some(Arc::clone(known));
        }
        let device = Device::of(dev);
        // File systems on one disk are one device.
        let same = watches.values().find(|watch| watch.device == device);
        let watch = same.cloned().unwrap_or_else(|| {
            Arc::new(DeviceWatch {
                device,
                calm: self.calm,
                dev,
                open: Arc::clone(&self.open),
                asked_bytes: AtomicU64::new(0),
                came_bytes: AtomicU64::new(0),
                judge: Mutex::default(),
            })
        });
        watches.insert(dev, Arc::clone(&watch));
        Some(watch)
    }

    /// Somebody opened a file of so many bytes on its home, to read it.
    pub fn opened(&self, dev: u64, bytes: u64, handle: HandleId) {
        if self.calm.is_zero() || bytes < BYTES_MIN {
            return;
        }
        let now = Instant::now();
        let mut open = lock(&self.open);
        open.handles.insert(handle, (dev, now));
        if open.handles.len() >= open.look_through_at {
            open.look_through(&self.is_open);
        }
        drop(open);
        let watch = lock(&self.watches).get(&dev).cloned();
        if let Some(watch) = watch {
            lock(&watch.judge).is_read(now);
        }
    }

    /// The handle was closed; mappings count as open.
    pub fn closed(&self, handle: HandleId) {
        lock(&self.open).handles.remove(&handle);
    }
}

impl DeviceWatch {
    /// Looks at the device, unless that was done a moment ago.
    fn look(&self, judge: &mut Judge, now: Instant) {
        if !judge.is_due(now, LOOK_INTERVAL) {
            return;
        }
        let latest = lock(&self.open).latest(self.dev);
        // With nothing of ours under way what others read is known exactly.
        let is_blind = judge.is_blind(now) && latest.is_some();
        let came_bytes = self.came_bytes.load(Ordering::SeqCst);
        let measured = self.device.read_bytes();
        let is_new = |at: Instant| now.saturating_duration_since(at) < READS_AFTER_OPEN;
        if is_blind || (measured.is_none() && latest.is_some_and(is_new)) {
            judge.is_read(now);
        }
        judge.sampled(Sample {
            at: now,
            came_bytes,
            device_bytes: measured.unwrap_or(0),
            asked_bytes: self.asked_bytes.load(Ordering::SeqCst),
        });
    }
}

impl Opens {
    /// Forgets handles that are not open any more.
    fn look_through(&mut self, is_open: impl Fn(HandleId) -> bool) {
        self.handles.retain(|handle, _| is_open(*handle));
        // Twice as many: what each open pays for it does not grow with them.
        self.look_through_at = (2 * self.handles.len()).max(LOOKED_THROUGH_MIN);
    }

    /// When a file of the device was opened last that is still open.
    fn latest(&self, dev: u64) -> Option<Instant> {
        let of_it = self.handles.values().filter(|(of, _)| *of == dev);
        of_it.map(|(_, at)| *at).max()
    }
}

impl DeviceWatch {
    /// How long a copy waits until it asks again whether it may go on.
    fn delay(&self) -> Duration {
        let now = Instant::now();
        let mut judge = lock(&self.judge);
        self.look(&mut judge, now);
        match judge.may_go_on(now, self.calm) {
            true => Duration::ZERO,
            false => LOOK_INTERVAL,
        }
    }
}

/// Where one copy's bytes come from. As long as that is its home others who read from the home's device hold it
/// back.
#[derive(Debug)]
pub struct Origin {
    watch: Option<Arc<DeviceWatch>>,
    lender: OnceLock<PoolId>,
    is_home: AtomicBool,
}

impl Origin {
    /// The home, on a device that is watched or not.
    pub fn home(watch: Option<Arc<DeviceWatch>>) -> Origin {
        Origin {
            watch,
            lender: OnceLock::new(),
            is_home: AtomicBool::new(true),
        }
    }

    /// From now on a replica in this pool, until the home is read all the same.
    pub fn borrow_from(&self, pool: PoolId) {
        // A copy borrows once.
        let _ = self.lender.set(pool);
        self.is_home.store(false, Ordering::SeqCst);
    }

    /// The pool that it comes from; none: the home.
    pub fn pool(&self) -> Option<PoolId> {
        let lender = self.lender.get().copied();
        lender.filter(|_| !self.is_home.load(Ordering::SeqCst))
    }

    /// Whether all of it came from the home.
    pub fn is_home_alone(&self) -> bool {
        self.lender.get().is_none()
    }
}

impl Pace for Origin {
    fn delay(&self, _: u64) -> Duration {
        match &self.watch {
            Some(watch) if self.is_home.load(Ordering::SeqCst) => watch.delay(),
            _ => Duration::ZERO,
        }
    }
}

/// The home of a copy: what is read from it is counted.
pub struct Counted<S> {
    source: S,
    origin: Arc<Origin>,
}

impl<S> Counted<S> {
    /// The same source.
    pub fn new(source: S, origin: Arc<Origin>) -> Counted<S> {
        Counted { source, origin }
    }
}

impl<S: Source> Source for Counted<S> {
    fn identity(&self) -> io::Result<Identity> {
        self.source.identity()
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.origin.is_home.store(true, Ordering::SeqCst);
        let Some(watch) = &self.origin.watch else {
            return self.source.read_at(bytes, offset);
        };
        let asked = bytes.len() as u64;
        watch.asked_bytes.fetch_add(asked, Ordering::SeqCst);
        let result = self.source.read_at(bytes, offset);
        let came = result.as_ref().map_or(0, |count| *count as u64);
        watch.came_bytes.fetch_add(came, Ordering::SeqCst);
        // What did not come was not read.
        watch
            .asked_bytes
            .fetch_sub(asked.saturating_sub(came), Ordering::SeqCst);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nobody counts what is read from it.
    const DEV: u64 = 7;

    #[test]
    fn who_opens_a_model_stops_copies_until_it_is_closed() {
        let back_off = BackOff::new(Duration::from_nanos(1), |_| true);
        let watch = back_off.watch(DEV).unwrap();
        assert!(watch.delay().is_zero());
        back_off.opened(DEV, BYTES_MIN - 1, HandleId(1));
        back_off.opened(DEV + 1, BYTES_MIN, HandleId(2));
        back_off.opened(DEV, BYTES_MIN, HandleId(3));
        assert_eq!(lock(&back_off.open).handles.len(), 2);
        assert!(lock(&back_off.open).latest(DEV).is_some());
        back_off.closed(HandleId(3));
        assert!(lock(&back_off.open).latest(DEV).is_none());

        let back_off = BackOff::new(Duration::from_secs(3600), |_| true);
        back_off.opened(DEV, BYTES_MIN, HandleId(1));
        let watch = back_off.watch(DEV).unwrap();
        assert_eq!(watch.delay(), LOOK_INTERVAL, "it was open before");
        let other = back_off.watch(DEV + 1).unwrap();
        assert!(other.delay().is_zero(), "another device");
        back_off.opened(DEV + 1, BYTES_MIN, HandleId(2));
        assert_eq!(other.delay(), LOOK_INTERVAL);
    }

    #[test]
    fn who_was_not_heard_to_close_a_model_is_not_taken_to_read_for_ever() {
        let is_open = |handle: HandleId| handle.0.is_multiple_of(64);
        let back_off = BackOff::new(Duration::from_secs(3600), is_open);
        // None of them is told to be closed.
        let opened = 100 * LOOKED_THROUGH_MIN as u64;
        for handle in 1..=opened {
            back_off.opened(DEV, BYTES_MIN, HandleId(handle));
        }
        let kept = || lock(&back_off.open).handles.len();
        assert!(kept() < 4 * LOOKED_THROUGH_MIN, "{}", kept());
        back_off.opened(DEV + 1, BYTES_MIN, HandleId(opened + 1));
        let watch = back_off.watch(DEV + 1).unwrap();
        assert!(watch.delay().is_zero(), "it was closed");
        assert_eq!(kept() as u64, opened / 64);
    }

    /// Nothing but zeros.
    struct Zeros;

    impl Source for Zeros {
        fn identity(&self) -> io::Result<Identity> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn read_at(&self, bytes: &mut [u8], _: u64) -> io::Result<usize> {
            bytes.fill(0);
            Ok(bytes.len())
        }
    }

    #[test]
    fn a_copy_from_a_replica_is_not_held_back_by_readers_of_its_home_and_costs_it_nothing() {
        let back_off = BackOff::new(Duration::from_secs(3600), |_| true);
        back_off.opened(DEV, BYTES_MIN, HandleId(1));
        let watch = back_off.watch(DEV).unwrap();
        let origin = Arc::new(Origin::home(Some(Arc::clone(&watch))));
        assert_eq!((origin.delay(1), origin.pool()), (LOOK_INTERVAL, None));
        origin.borrow_from(PoolId(3));
        assert_eq!(
            (origin.delay(1), origin.pool()),
            (Duration::ZERO, Some(PoolId(3)))
        );
        assert_eq!(watch.came_bytes.load(Ordering::SeqCst), 0);
        // The replica cannot be read: the home is, and counts from then on.
        let home = Counted::new(Zeros, Arc::clone(&origin));
        assert_eq!(home.read_at(&mut [1; 64], 0).unwrap(), 64);
        assert_eq!((origin.delay(1), origin.pool()), (LOOK_INTERVAL, None));
        assert_eq!(watch.came_bytes.load(Ordering::SeqCst), 64);
        assert!(!origin.is_home_alone());
    }

    #[test]
    fn without_a_time_nothing_stops() {
        assert!(BackOff::new(Duration::ZERO, |_| true).watch(DEV).is_none());
    }
}
