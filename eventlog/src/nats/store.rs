//! A bucket of the broker.

use async_nats::jetstream::kv;
use bytes::Bytes;
use futures::TryStreamExt;

use super::unavailable;
use crate::{Bucket, Error};

pub(super) struct NatsBucket {
    name: String,
    store: kv::Store,
}

impl NatsBucket {
    pub(super) fn new(name: &str, store: kv::Store) -> Self {
        Self { name: name.to_string(), store }
    }

    fn doing(&self, what: &str, key: &str) -> String {
        format!("{what} {key} in the bucket {}", self.name)
    }
}

#[async_trait::async_trait]
impl Bucket for NatsBucket {
    async fn get(&self, key: &str) -> Result<Option<(Bytes, u64)>, Error> {
        match self.store.entry(key).await {
            Ok(Some(entry)) if entry.operation == kv::Operation::Put => {
                Ok(Some((entry.value, entry.revision)))
            }
            Ok(_) => Ok(None),
            Err(error) => Err(unavailable(self.doing("reading", key), error)),
        }
    }

    async fn create(&self, key: &str, value: Bytes) -> Result<u64, Error> {
        self.store.create(key, value).await.map_err(|error| match error.kind() {
            kv::CreateErrorKind::AlreadyExists => Error::Conflict { at: None },
            kv::CreateErrorKind::InvalidKey
            | kv::CreateErrorKind::Publish
            | kv::CreateErrorKind::Ack
            | kv::CreateErrorKind::Other => unavailable(self.doing("creating", key), error),
        })
    }

    async fn update(&self, key: &str, value: Bytes, revision: u64) -> Result<u64, Error> {
        self.store.update(key, value, revision).await.map_err(|error| match error.kind() {
            kv::UpdateErrorKind::WrongLastRevision => Error::Conflict { at: None },
            kv::UpdateErrorKind::InvalidKey | kv::UpdateErrorKind::TimedOut | kv::UpdateErrorKind::Other => {
                unavailable(self.doing("updating", key), error)
            }
        })
    }

    async fn keys(&self) -> Result<Vec<String>, Error> {
        let doing = || format!("listing the bucket {}", self.name);
        match self.store.keys().await {
            Ok(keys) => keys.try_collect().await.map_err(|error| unavailable(doing(), error)),
            Err(error) => Err(unavailable(doing(), error)),
        }
    }

    async fn purge(&self, key: &str) -> Result<(), Error> {
        // The bucket's own way leaves a mark for each name, which every list of the names has to read.
        let subject = format!("{}{key}", self.store.prefix);
        let purged = self.store.stream.purge().filter(subject).await;
        purged.map(|_| ()).map_err(|error| unavailable(self.doing("purging", key), error))
    }
}
