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
}

impl Lease {
    pub(crate) fn new(name: &str, holder: &str) -> Self {
        Self { key: format!("lease.{name}"), holder: holder.to_string(), until: None }
    }

    /// Whether it is ours for at least this long.
    pub(crate) fn outlives(&self, timeout: Duration) -> bool {
        let end =
            SignedDuration::try_from(timeout).ok().and_then(|timeout| clock::now().checked_add(timeout).ok());
        self.until.zip(end).is_some_and(|(until, end)| until > end)
    }

    /// Takes or renews it; says whether it is ours.
    pub(crate) async fn renew(&mut self, bucket: &dyn Bucket) -> Result<bool, Error> {
        let now = clock::now();
        let until = now.checked_add(SignedDuration::try_from(LEASE).unwrap_or_default()).unwrap_or(now);
        let value = serde_json::to_vec(&Value { holder: self.holder.clone(), until }).unwrap_or_default();
        let result = match bucket.get(&self.key).await? {
            None => bucket.create(&self.key, value.into()).await,
            Some((bytes, revision)) => {
                let held: Option<Value> = serde_json::from_slice(&bytes).ok();
                if held.is_some_and(|held| held.holder != self.holder && held.until > now) {
                    self.until = None;
                    return Ok(false);
                }
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
