//! Counters of the file system, measured, in one plain struct.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! stats {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counters since the mount.
        #[derive(Debug, Default)]
        pub struct Stats { $($(#[$doc])* pub $name: AtomicU64,)* }

        /// The counters at one moment.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct StatsView { $($(#[$doc])* pub $name: u64,)* }

        impl Stats {
            /// Reads all counters.
            pub fn view(&self) -> StatsView {
                StatsView { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }
    };
}

stats! {
    /// Names looked up.
    lookups,
    /// Attributes asked for.
    getattrs,
    /// Files opened.
    opens,
    /// Opens that the kernel serves from a pool.
    opens_resident,
    /// Opens that the kernel serves from a home.
    opens_home,
    /// Opens whose reads come through the daemon.
    opens_daemon,
    /// Copies that were wanted by who opened the file.
    first_loads,
    /// Opens that waited for a copy.
    opens_held,
    /// Bytes read through the daemon.
    daemon_read_bytes,
    /// Bytes written through the daemon.
    daemon_written_bytes,
    /// Changes of cold files refused.
    cold_writes_refused,
    /// Nodeids retired because a held file moved.
    nodes_retired,
    /// Events that the owner was too slow to take.
    events_lost,
}

/// Adds one.
pub fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
