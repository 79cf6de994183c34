//! Who works for an app: one dispatcher at a time, told by a value in the bucket LEASES.

use std::time::Duration;

use eventlog::{Bucket, Error, clock};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// How long a lease lasts without being renewed. Longer than a call may take.
pub(crate) const LEASE: Duration = Duration::from_secs(30);
/// How often it is renewed.
pub(crate) const RENEW: Duration = Duration::from_secs(10);

#[derive(Deserialize, Serialize)]
struct Value {
    holder: String,
    until: Timestamp,
}

/// A lease that may be ours.
pub(crate) struct Lease {
    key: String,
    holder: String,
    until: Option<Timestamp>,
    /// Ends that this process wrote and that may stand: it is not always told which. Nothing until it wrote one.
    written: Option<Vec<Timestamp>>,
}

impl Lease {
    pub(crate) fn new(name: &str, holder: &str) -> Self {
        Self { key: format!("lease.{name}"), holder: holder.to_string(), until: None, written: None }
    }

    /// Whether it is ours for at least this long.
    pub(crate) fn outlives(&self, timeout: Duration) -> bool {
        let end =
            SignedDuration::try_from(timeout).ok().and_then(|timeout| clock::now().checked_add(timeout).ok());
        self.until.zip(end).is_some_and(|(until, end)| until > end)
    }

    /// Takes or renews it; says whether it is ours. A process that begins takes over what another of its name held, which
    /// is how it goes on after a kill. Two that run at the same time under one name, as with a data folder that was copied,
    /// do not take it from one another again and again: it is the younger one's.
    pub(crate) async fn renew(&mut self, bucket: &dyn Bucket) -> Result<bool, Error> {
        let now = clock::now();
        let until = now.checked_add(SignedDuration::try_from(LEASE).unwrap_or_default()).unwrap_or(now);
        let value = serde_json::to_vec(&Value { holder: self.holder.clone(), until }).unwrap_or_default();
        let result = match bucket.get(&self.key).await? {
            None => {
                self.writes(until, now);
                bucket.create(&self.key, value.into()).await
            }
            Some((bytes, revision)) => {
                let held: Option<Value> = serde_json::from_slice(&bytes).ok();
                if let Some(held) = held.filter(|held| held.until > now && self.is_of_another(held)) {
                    if self.until.take().is_some() && held.holder == self.holder {
                        tracing::error!(
                            lease = self.key,
                            "another process that bears the id of this node works for this from now on: its data folder is a \
                             copy. Stop one of them, and remove node.id from its folder before it starts again"
                        );
                    }
                    return Ok(false);
                }
                self.writes(until, now);
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

    /// This end is about to be written; those that passed are nobody's.
    fn writes(&mut self, until: Timestamp, now: Timestamp) {
        let written = self.written.get_or_insert_default();
        written.retain(|end| *end > now);
        written.push(until);
    }

    /// Whether somebody else wrote this.
    fn is_of_another(&self, held: &Value) -> bool {
        held.holder != self.holder
            || self.written.as_ref().is_some_and(|written| !written.contains(&held.until))
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
    #[tokio::test]
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
        let mut copy = Lease::new("app.wiki", "one");
        assert!(renewed(&mut copy, &bucket).await && !renewed(&mut lease, &bucket).await);
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
