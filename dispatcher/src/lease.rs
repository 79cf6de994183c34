//! Who works for an app: one dispatcher at a time, told by a value in the bucket LEASES.
//!
//! No two processes need agree on what time it is. Whoever waits for another watches whether the value is still renewed, by a
//! clock of his own that nobody sets; the time in the value says nothing to him.

use std::time::Duration;

use eventlog::{Bucket, Error, clock};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// How long a lease lasts without being renewed. Longer than a call may take.
pub(crate) const LEASE: Duration = Duration::from_secs(30);
/// How often it is renewed.
pub(crate) const RENEW: Duration = Duration::from_secs(10);

#[derive(Deserialize, Serialize)]
struct Value {
    holder: String,
    /// No two values of a process have the same. The beginning of time says that it was given back.
    until: Timestamp,
}

/// A lease that may be ours.
pub(crate) struct Lease {
    key: String,
    holder: String,
    until: Option<End>,
    /// Values that this process wrote and that may stand: it is not always told which. Nothing until it wrote one.
    written: Option<Vec<(Timestamp, Instant)>>,
    /// What another wrote, by its revision, and since when we know that it stands.
    others: Option<(u64, Instant)>,
}

/// When a lease ends that is ours: what comes first counts. One clock stands still while the machine sleeps, the other may
/// be set back.
#[derive(Clone, Copy)]
struct End {
    time: Timestamp,
    instant: Instant,
}

impl End {
    fn is_after(self, timeout: Duration) -> bool {
        let time =
            SignedDuration::try_from(timeout).ok().and_then(|timeout| clock::now().checked_add(timeout).ok());
        time.is_some_and(|time| self.time > time) && self.instant > Instant::now() + timeout
    }
}

impl Lease {
    pub(crate) fn new(name: &str, holder: &str) -> Self {
        let (key, holder) = (format!("lease.{name}"), holder.to_string());
        Self { key, holder, until: None, written: None, others: None }
    }

    /// Whether it is ours for at least this long.
    pub(crate) fn outlives(&self, timeout: Duration) -> bool {
        self.until.is_some_and(|until| until.is_after(timeout))
    }

    /// Takes or renews it; says whether it is ours. A process that begins takes over what another of its name held, which
    /// is how it goes on after a kill. Two that run at the same time under one name, as with a data folder that was copied,
    /// do not take it from one another again and again: it is the younger one's.
    pub(crate) async fn renew(&mut self, bucket: &dyn Bucket) -> Result<bool, Error> {
        let (now, begun) = (clock::now(), Instant::now());
        let time = now.checked_add(SignedDuration::try_from(LEASE).unwrap_or_default()).unwrap_or(now);
        let until = End { time, instant: begun + LEASE };
        let value =
            serde_json::to_vec(&Value { holder: self.holder.clone(), until: time }).unwrap_or_default();
        let result = match bucket.get(&self.key).await? {
            None => {
                self.writes(until, begun, None);
                bucket.create(&self.key, value.into()).await
            }
            Some((bytes, revision)) => {
                let held: Option<Value> = serde_json::from_slice(&bytes).ok();
                let stands = held.as_ref().map(|held| held.until);
                if let Some(held) = held.filter(|held| self.is_of_another(held))
                    && !self.is_over(&held, revision)
                {
                    if self.until.take().is_some() && held.holder == self.holder {
                        tracing::error!(
                            lease = self.key,
                            "another process that bears the id of this node works for this from now on: its data folder is a \
                             copy. Stop one of them, and remove node.id from its folder before it starts again"
                        );
                    }
                    return Ok(false);
                }
                self.writes(until, begun, stands);
                bucket.update(&self.key, value.into(), revision).await
            }
        };
        match result {
            Ok(_) => {
                self.until = Some(until);
                Ok(true)
            }
            Err(Error::Conflict { .. }) => {
                self.until = None;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// This is about to be written. What stands may stay for as long as nothing can be written; what else ended is nobody's.
    fn writes(&mut self, until: End, begun: Instant, stands: Option<Timestamp>) {
        let written = self.written.get_or_insert_default();
        written.retain(|(time, end)| *end > begun || Some(*time) == stands);
        written.push((until.time, until.instant));
    }

    /// Whether somebody else wrote this.
    fn is_of_another(&self, held: &Value) -> bool {
        let is_own =
            |written: &Vec<(Timestamp, Instant)>| written.iter().any(|(time, _)| *time == held.until);
        held.holder != self.holder || self.written.as_ref().is_some_and(|written| !is_own(written))
    }

    /// Whether another's is his no more: he gave it back, or has not renewed it for as long as it lasts.
    fn is_over(&mut self, held: &Value, revision: u64) -> bool {
        let now = Instant::now();
        let known = self.others.filter(|(known, _)| *known == revision);
        let (_, since) = *self.others.insert(known.unwrap_or((revision, now)));
        held.until == Timestamp::UNIX_EPOCH || now.duration_since(since) >= LEASE
    }

    /// Gives it back, so that another dispatcher need not wait.
    pub(crate) async fn release(&mut self, bucket: &dyn Bucket) {
        if self.until.take().is_some()
            && let Ok(Some((_, revision))) = bucket.get(&self.key).await
        {
            let value =
                serde_json::to_vec(&Value { holder: self.holder.clone(), until: Timestamp::UNIX_EPOCH });
            let _ = bucket.update(&self.key, value.unwrap_or_default().into(), revision).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use bytes::Bytes;
    use eventlog::memory::{self, Faults};

    use super::*;

    /// A bucket whose next change is not carried out, or is and nobody hears it.
    struct Unheard {
        bucket: Arc<dyn Bucket>,
        carried_out: Mutex<Option<bool>>,
    }

    #[async_trait::async_trait]
    impl Bucket for Unheard {
        async fn get(&self, key: &str) -> Result<Option<(Bytes, u64)>, Error> {
            self.bucket.get(key).await
        }

        async fn create(&self, key: &str, value: Bytes) -> Result<u64, Error> {
            self.bucket.create(key, value).await
        }

        async fn update(&self, key: &str, value: Bytes, revision: u64) -> Result<u64, Error> {
            let unheard = self.carried_out.lock().unwrap().take();
            if unheard.unwrap_or(true) {
                let revision = self.bucket.update(key, value, revision).await?;
                if unheard.is_none() {
                    return Ok(revision);
                }
            }
            Err(Error::Unavailable { doing: "changing a bucket".to_string(), source: None })
        }

        async fn keys(&self) -> Result<Vec<String>, Error> {
            self.bucket.keys().await
        }

        async fn purge(&self, key: &str) -> Result<(), Error> {
            self.bucket.purge(key).await
        }
    }

    /// Whoever is not told whether it was renewed goes on with whichever end stands.
    #[tokio::test(start_paused = true)]
    async fn a_renewal_that_nobody_heard_is_not_anothers() {
        let broker = memory::broker(Faults::default());
        let bucket = Unheard { bucket: broker.leases, carried_out: Mutex::default() };
        let mut lease = Lease::new("app.wiki", "one");
        assert!(renewed(&mut lease, &bucket).await);
        for carried_out in [false, true, false, false, true] {
            *bucket.carried_out.lock().unwrap() = Some(carried_out);
            assert!(lease.renew(&bucket).await.is_err() && lease.outlives(Duration::ZERO));
        }
        assert!(renewed(&mut lease, &bucket).await);
        for _ in 0..5 {
            tokio::time::advance(RENEW).await;
            *bucket.carried_out.lock().unwrap() = Some(false);
            assert!(lease.renew(&bucket).await.is_err());
        }
        assert!(!lease.outlives(Duration::ZERO));
        assert!(renewed(&mut lease, &bucket).await, "nobody else was there meanwhile");
        let mut copy = Lease::new("app.wiki", "one");
        assert!(renewed(&mut copy, &bucket).await && !renewed(&mut lease, &bucket).await);
    }

    /// A clock that is set, or was wrong from the beginning, takes a lease from nobody and keeps it for nobody.
    #[tokio::test(start_paused = true)]
    async fn a_lease_lasts_as_long_whatever_time_its_holder_has() {
        let bucket = &*memory::broker(Faults::default()).leases;
        for wrong in [SignedDuration::from_hours(2), SignedDuration::from_hours(-2)] {
            let until = clock::now().checked_add(wrong).unwrap();
            let write = async |lease: &mut Lease| {
                assert!(renewed(lease, bucket).await);
                let (_, revision) = bucket.get("lease.app.wiki").await.unwrap().unwrap();
                let value = serde_json::to_vec(&Value { holder: "wrong".to_string(), until }).unwrap();
                bucket.update("lease.app.wiki", value.into(), revision).await.unwrap();
            };
            let (mut right, mut other) = (Lease::new("app.wiki", "wrong"), Lease::new("app.wiki", "other"));
            for _ in 0..6 {
                write(&mut right).await;
                // What stands in the bucket now is what a process writes whose clock is wrong.
                right.written.get_or_insert_default().push((until, Instant::now() + LEASE));
                assert!(!renewed(&mut other, bucket).await, "it is renewed");
                tokio::time::advance(RENEW).await;
            }
            tokio::time::advance(LEASE - RENEW - Duration::from_secs(1)).await;
            assert!(!renewed(&mut other, bucket).await);
            tokio::time::advance(Duration::from_secs(1)).await;
            assert!(renewed(&mut other, bucket).await, "whoever held it is gone");
            other.release(bucket).await;
        }
    }

    async fn renewed(lease: &mut Lease, bucket: &dyn Bucket) -> bool {
        lease.renew(bucket).await.unwrap()
    }

    #[tokio::test]
    async fn a_process_goes_on_after_a_kill_and_its_copy_does_not_work_beside_it() {
        let bucket = &*memory::broker(Faults::default()).leases;
        let [mut first, mut again, mut other] =
            ["one", "one", "two"].map(|name| Lease::new("app.wiki", name));
        assert!(renewed(&mut first, bucket).await && renewed(&mut first, bucket).await);
        assert!(!renewed(&mut other, bucket).await);
        assert!(renewed(&mut again, bucket).await, "after a kill nothing is waited for");
        assert!(!renewed(&mut first, bucket).await, "it was a copy: both would work");
        assert!(!first.outlives(Duration::ZERO));
        assert!(renewed(&mut again, bucket).await && !renewed(&mut first, bucket).await);
        again.release(bucket).await;
        assert!(renewed(&mut first, bucket).await && !renewed(&mut other, bucket).await);
    }
}
