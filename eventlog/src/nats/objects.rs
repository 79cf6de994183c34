//! The broker's object store. Its bucket is made when something is put into it.

use async_nats::jetstream::Context;
use async_nats::jetstream::object_store::{
    Config, DeleteErrorKind, GetErrorKind, ObjectMetadata, ObjectStore,
};
use async_nats::jetstream::stream::StorageType;
use futures::TryStreamExt;
use jiff::Timestamp;

use super::unavailable;
use crate::Error;
use crate::objects::{Object, Objects, Stream};

/// Bytes in a message of an object.
const CHUNK_BYTES: usize = 1 << 20;

pub(super) struct NatsObjects {
    name: &'static str,
    context: Context,
    replicas: usize,
}

impl NatsObjects {
    pub(super) fn new(name: &'static str, context: Context, replicas: usize) -> Self {
        Self { name, context, replicas }
    }

    fn doing(&self, what: &str, name: &str) -> String {
        format!("{what} {name} in the object store {}", self.name)
    }

    /// The bucket, if there is one.
    async fn store(&self) -> Option<ObjectStore> {
        self.context.get_object_store(self.name).await.ok()
    }

    async fn made(&self) -> Result<ObjectStore, Error> {
        if let Some(store) = self.store().await {
            return Ok(store);
        }
        let config = Config {
            bucket: self.name.to_string(),
            storage: StorageType::File,
            num_replicas: self.replicas.max(1),
            ..Config::default()
        };
        let made = self.context.create_object_store(config).await;
        made.map_err(|error| unavailable(format!("making the object store {}", self.name), error))
    }
}

#[async_trait::async_trait]
impl Objects for NatsObjects {
    async fn list(&self) -> Result<Vec<Object>, Error> {
        let Some(store) = self.store().await else { return Ok(Vec::new()) };
        let doing = || format!("listing the object store {}", self.name);
        let listing = store.list().await.map_err(|error| unavailable(doing(), error))?;
        let infos: Vec<_> = listing.try_collect().await.map_err(|error| unavailable(doing(), error))?;
        let mut objects: Vec<Object> = infos
            .into_iter()
            .map(|info| Object {
                name: info.name,
                bytes: info.size as u64,
                put: info.modified.and_then(|at| Timestamp::from_nanosecond(at.unix_timestamp_nanos()).ok()),
            })
            .collect();
        objects.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(objects)
    }

    async fn put(&self, name: &str, mut bytes: Stream) -> Result<(), Error> {
        let store = self.made().await?;
        let description =
            ObjectMetadata { name: name.to_string(), chunk_size: Some(CHUNK_BYTES), ..Default::default() };
        let put = store.put(description, &mut bytes).await;
        put.map(|_| ()).map_err(|error| unavailable(self.doing("putting", name), error))
    }

    async fn get(&self, name: &str) -> Result<Option<Stream>, Error> {
        let Some(store) = self.store().await else { return Ok(None) };
        match store.get(name).await {
            Ok(object) => Ok(Some(Box::pin(object))),
            Err(error) if error.kind() == GetErrorKind::NotFound => Ok(None),
            Err(error) => Err(unavailable(self.doing("getting", name), error)),
        }
    }

    async fn delete(&self, name: &str) -> Result<(), Error> {
        let Some(store) = self.store().await else { return Ok(()) };
        match store.delete(name).await {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == DeleteErrorKind::NotFound => Ok(()),
            Err(error) => Err(unavailable(self.doing("deleting", name), error)),
        }
    }
}
