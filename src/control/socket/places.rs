//! Who may be connected when many are: whoever may connect at all must not keep root out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::command::{Code, Message};

/// Of so many places one is kept for root and the daemon's own user.
const KEPT_PART: usize = 8;
/// Of so many places one user may have one.
const ONE_USERS_PART: usize = 2;

type Counts = Arc<Mutex<HashMap<u32, usize>>>;

/// The places there are.
pub(super) struct Places {
    all: Arc<Semaphore>,
    max: usize,
    /// How many each user has.
    counts: Counts,
}

/// A place, until it is dropped.
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    counts: Counts,
    uid: u32,
}

impl Places {
    pub(super) fn new(max: usize) -> Places {
        Places {
            all: Arc::new(Semaphore::new(max)),
            max,
            counts: Counts::default(),
        }
    }

    /// A place for a user; who is not known counts as one.
    ///
    /// # Errors
    /// [`Code::Busy`] if there is none for him.
    pub(super) fn take(&self, uid: Option<u32>) -> Result<Place, Message> {
        let own = rustix::process::geteuid().as_raw();
        let is_ours = uid.is_some_and(|uid| uid == 0 || uid == own);
        let uid = uid.unwrap_or(u32::MAX);
        let busy = |text: String| Message::new(Code::Busy, text).with_hint("try again in a moment");
        let mut counts = lock(&self.counts);
        let has = counts.get(&uid).copied().unwrap_or(0);
        let (kept, of_one) = (self.max / KEPT_PART, self.max / ONE_USERS_PART);
        if !is_ours && has >= of_one.max(1) {
            let text =
                format!("{has} clients of user {uid} are connected already, as many as may be");
            return Err(busy(text));
        }
        let full = || {
            let max = self.max;
            busy(format!(
                "{max} clients are connected already, as many as may be"
            ))
        };
        if !is_ours && self.all.available_permits() <= kept {
            return Err(full());
        }
        let permit = Arc::clone(&self.all).try_acquire_owned();
        let permit = permit.map_err(|_| full())?;
        *counts.entry(uid).or_default() += 1;
        Ok(Place {
            _permit: permit,
            counts: Arc::clone(&self.counts),
            uid,
        })
    }

    /// Returns when every connection has ended.
    pub(super) async fn all_free(&self) {
        let all = u32::try_from(self.max).unwrap_or(u32::MAX);
        // It is never closed.
        let _ = self.all.acquire_many(all).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = lock(&self.counts);
        if let Some(count) = counts.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.uid);
            }
        }
    }
}

fn lock(counts: &Counts) -> MutexGuard<'_, HashMap<u32, usize>> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first 64 clients, whoever they were of, kept root out.
    #[test]
    fn users_of_the_socket_leave_places_for_others_and_for_root() {
        let places = Places::new(64);
        let take = |uid, wanted: usize| -> Vec<Place> {
            let taken = (0..wanted).map_while(|_| places.take(uid).ok());
            taken.collect()
        };
        let (own, first) = (rustix::process::geteuid().as_raw(), 70_001);
        let held = take(Some(first), 64);
        assert_eq!(held.len(), 32, "one user has half");
        assert_eq!(take(None, 64).len(), 24, "nobody knows whose");
        let second = take(Some(first + 1), 64);
        assert_eq!(second.len(), 24, "an eighth is kept");
        assert_eq!(take(Some(0), 64).len(), 8);
        assert_eq!(take(Some(own), 64).len(), 8);
        drop(second);
        assert_eq!(take(Some(0), 64).len(), 32);
        drop(held);
        assert_eq!(take(Some(0), 65).len(), 64);
        assert!(lock(&places.counts).is_empty());
    }
}
