//! One process's view of a bucket in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::time::Instant;

use super::Line;
use crate::{Bucket, Error};

/// The last revision, and each value with its own.
pub(super) type Values = Arc<Mutex<(u64, BTreeMap<String, (Bytes, u64)>)>>;

/// A bucket in memory.
pub struct MemoryBucket {
    values: Values,
    line: Arc<Line>,
}

impl MemoryBucket {
    pub(super) fn over(values: Values, line: Arc<Line>) -> Self {
        Self { values, line }
    }

    async fn set(&self, key: &str, value: Bytes, expected: Option<u64>) -> Result<u64, Error> {
        self.change(|last, values| {
            if values.get(key).map(|(_, revision)| *revision) != expected {
                return Err(Error::Conflict { at: None });
            }
            *last += 1;
            values.insert(key.to_string(), (value, *last));
            Ok(*last)
        })
        .await
    }

    /// Nobody asks a bucket twice, so a change whose answer is lost looks as if it had not been made.
    async fn change<T>(
        &self,
        change: impl FnOnce(&mut u64, &mut BTreeMap<String, (Bytes, u64)>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let line = &*self.line;
        let unavailable = || Error::Unavailable { doing: "changing a bucket".to_string(), source: None };
        line.alive().await;
        if !line.connected() || line.strikes(|weather| weather.lost_requests) {
            line.wait_in_vain(Instant::now() + line.weather().attempt_timeout).await;
            return Err(unavailable());
        }
        line.travel().await;
        let result = {
            let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
            let (last, values) = &mut *values;
            change(last, values)
        };
        if line.strikes(|weather| weather.lost_bucket_answers) {
            line.wait_in_vain(Instant::now() + line.weather().attempt_timeout).await;
            return Err(unavailable());
        }
        line.travel().await;
        result
    }
}

#[async_trait::async_trait]
impl Bucket for MemoryBucket {
    async fn get(&self, key: &str) -> Result<Option<(Bytes, u64)>, Error> {
        let get = || self.values.lock().unwrap_or_else(PoisonError::into_inner).1.get(key).cloned();
        self.line.ask("reading a bucket", get).await
    }

    async fn create(&self, key: &str, value: Bytes) -> Result<u64, Error> {
        self.set(key, value, None).await
    }

    async fn update(&self, key: &str, value: Bytes, revision: u64) -> Result<u64, Error> {
        self.set(key, value, Some(revision)).await
    }

    async fn keys(&self) -> Result<Vec<String>, Error> {
        let keys = || self.values.lock().unwrap_or_else(PoisonError::into_inner).1.keys().cloned().collect();
        self.line.ask("listing a bucket", keys).await
    }

    async fn purge(&self, key: &str) -> Result<(), Error> {
        self.change(|_, values| {
            values.remove(key);
            Ok(())
        })
        .await
    }
}
