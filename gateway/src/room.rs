//! Room in memory for what is large: bodies that arrive and answers that nobody has taken yet, of all requests together.
//!
//! Each request has its limits, but a client can make thousands at once and take its time over each. What is small needs no
//! room. Of the rest a tenant has at most as much as is left free: one alone half of it, and one that is slow leaves as much for
//! each that comes as it has itself. Who has none gets some as soon as it fits.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use proto::Tenant;
use tokio::sync::Notify;
use tokio::time::Instant;

/// What is not longer than this needs no room.
pub(crate) const SMALL_BYTES: usize = 64 * 1024;

/// There is no room at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("as much is being sent and answered as may be in memory")]
pub(crate) struct Full;

/// The room of a gateway, and who has how much of it. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Room(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bytes_max: usize,
    taken: Mutex<Taken>,
    /// Somebody gave some back.
    given_back: Notify,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_tenant: BTreeMap<Tenant, usize>,
}

/// A part of it, until it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    room: Room,
    tenant: Tenant,
    bytes: usize,
}

impl Room {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self(Arc::new(Inner { bytes_max, taken: Mutex::default(), given_back: Notify::new() }))
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So much for a tenant, if there is room now.
    pub(crate) fn try_take(&self, tenant: &Tenant, bytes: usize) -> Result<Share, Full> {
        // What could never fit has its turn when nothing else is there.
        let bytes = bytes.min(self.0.bytes_max);
        let mut taken = self.taken();
        let own = taken.by_tenant.get(tenant).copied().unwrap_or_default();
        let free = self.0.bytes_max - taken.all;
        if bytes > free || own > 0 && own + bytes > free - bytes {
            return Err(Full);
        }
        taken.all += bytes;
        taken.by_tenant.insert(tenant.clone(), own + bytes);
        Ok(Share { room: self.clone(), tenant: tenant.clone(), bytes })
    }

    /// The same, waiting for it until the deadline.
    pub(crate) async fn take(&self, tenant: &Tenant, bytes: usize, deadline: Instant) -> Result<Share, Full> {
        loop {
            let given_back = self.0.given_back.notified();
            if let Ok(share) = self.try_take(tenant, bytes) {
                return Ok(share);
            }
            tokio::time::timeout_at(deadline, given_back).await.map_err(|_| Full)?;
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.room.taken();
        taken.all = taken.all.saturating_sub(self.bytes);
        if let Some(own) = taken.by_tenant.get_mut(&self.tenant) {
            *own = own.saturating_sub(self.bytes);
            if *own == 0 {
                taken.by_tenant.remove(&self.tenant);
            }
        }
        drop(taken);
        self.room.0.given_back.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn tenant(name: &str) -> Tenant {
        name.parse().unwrap()
    }

    /// As many pieces as a tenant gets.
    fn fill(room: &Room, name: &str, bytes: usize) -> Vec<Share> {
        std::iter::from_fn(|| room.try_take(&tenant(name), bytes).ok()).collect()
    }

    #[test]
    fn one_tenant_leaves_as_much_as_it_has_for_the_next() {
        let room = Room::new(1_000);
        let first = fill(&room, "first", 10);
        assert_eq!(first.len(), 50);
        let second = fill(&room, "second", 10);
        assert_eq!(second.len(), 25);
        assert!(room.try_take(&tenant("first"), 1).is_err());
        drop(first);
        assert_eq!(fill(&room, "second", 10).len(), 25);
        drop(second);
        let taken = room.taken();
        assert!(taken.all == 0 && taken.by_tenant.is_empty());
    }

    #[test]
    fn what_is_larger_than_all_the_room_comes_alone() {
        let room = Room::new(100);
        let small = room.try_take(&tenant("one"), 1).unwrap();
        assert!(room.try_take(&tenant("other"), 1_000).is_err());
        drop(small);
        let all = room.try_take(&tenant("other"), 1_000).unwrap();
        assert!(room.try_take(&tenant("one"), 1).is_err());
        drop(all);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_is_told_when_some_is_given_back() {
        let room = Room::new(100);
        let all = room.try_take(&tenant("one"), 100).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        assert_eq!(room.take(&tenant("other"), 10, deadline).await.unwrap_err(), Full);
        assert_eq!(Instant::now(), deadline);
        let waits = tokio::spawn({
            let room = room.clone();
            async move { room.take(&tenant("other"), 10, deadline + Duration::from_secs(10)).await }
        });
        tokio::task::yield_now().await;
        drop(all);
        assert!(waits.await.unwrap().is_ok());
    }
}
