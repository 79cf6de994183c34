//! The broker's object store. Its bucket is made when something is put into it.

use std::collections::BTreeSet;
use std::time::Duration;

use async_nats::jetstream::object_store::{
    Config, DeleteErrorKind, GetErrorKind, ObjectInfo, ObjectMetadata, ObjectStore,
};
use async_nats::jetstream::stream::StorageType;
use async_nats::jetstream::{self, Context};
use futures::TryStreamExt;
use jiff::{SignedDuration, Timestamp};

use super::impatient::Impatient;
use super::settings::is_gone;
use super::unavailable;
use crate::objects::{Object, Objects, Stream};
use crate::{Error, clock};

/// Bytes in a message of an object.
const CHUNK_BYTES: usize = 1 << 20;
/// How long the next bytes of an object, or the next of a list, are waited for. Longer than a cluster takes to choose a leader.
const SILENCE_MAX: Duration = Duration::from_secs(20);

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

    /// The stream of the bucket, if there is one.
    async fn stream(&self) -> Result<Option<jetstream::stream::Stream>, Error> {
        match self.context.get_stream(format!("OBJ_{}", self.name)).await {
            Ok(stream) => Ok(Some(stream)),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(unavailable(format!("opening the object store {}", self.name), error)),
        }
    }

    /// The bucket, if there is one.
    async fn store(&self) -> Result<Option<ObjectStore>, Error> {
        if self.stream().await?.is_none() {
            return Ok(None);
        }
        let store = self.context.get_object_store(self.name).await;
        store.map(Some).map_err(|error| unavailable(format!("opening the object store {}", self.name), error))
    }

    async fn made(&self) -> Result<ObjectStore, Error> {
        if let Some(store) = self.store().await? {
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

impl NatsObjects {
    /// What the bucket says of each object.
    async fn infos(&self, store: &ObjectStore) -> Result<Vec<ObjectInfo>, Error> {
        let doing = || format!("listing the object store {}", self.name);
        let mut listing = store.list().await.map_err(|error| unavailable(doing(), error))?;
        let mut infos = Vec::new();
        loop {
            let next = tokio::time::timeout(SILENCE_MAX, listing.try_next()).await;
            match next.map_err(|silence| unavailable(doing(), silence))? {
                Ok(Some(info)) => infos.push(info),
                Ok(None) => return Ok(infos),
                Err(error) => return Err(unavailable(doing(), error)),
            }
        }
    }
}

#[async_trait::async_trait]
impl Objects for NatsObjects {
    async fn list(&self) -> Result<Vec<Object>, Error> {
        let Some(store) = self.store().await? else { return Ok(Vec::new()) };
        let mut objects: Vec<Object> = self
            .infos(&store)
            .await?
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
        let Some(store) = self.store().await? else { return Ok(None) };
        match store.get(name).await {
            Ok(object) => Ok(Some(Box::pin(Impatient::new(object, SILENCE_MAX)))),
            Err(error) if error.kind() == GetErrorKind::NotFound => Ok(None),
            Err(error) => Err(unavailable(self.doing("getting", name), error)),
        }
    }

    async fn delete(&self, name: &str) -> Result<(), Error> {
        let Some(store) = self.store().await? else { return Ok(()) };
        match store.delete(name).await {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == DeleteErrorKind::NotFound => Ok(()),
            Err(error) => Err(unavailable(self.doing("deleting", name), error)),
        }
    }

    async fn sweep(&self, silence: Duration) -> Result<(), Error> {
        let Some((store, stream)) = self.store().await?.zip(self.stream().await?) else { return Ok(()) };
        let infos = self.infos(&store).await?;
        let held: BTreeSet<&str> = infos.iter().map(|info| info.nuid.as_str()).collect();
        let doing = || format!("sweeping the object store {}", self.name);
        let subjects = stream.info_with_subjects(format!("$O.{}.C.>", self.name)).await;
        let mut subjects = subjects.map_err(|error| unavailable(doing(), error))?;
        while let Some((subject, _)) =
            subjects.try_next().await.map_err(|error| unavailable(doing(), error))?
        {
            if subject.rsplit('.').next().is_some_and(|nuid| held.contains(nuid)) {
                continue;
            }
            let last = stream.get_last_raw_message_by_subject(&subject).await;
            let last = last.map_err(|error| unavailable(doing(), error))?.time.unix_timestamp_nanos();
            let last = Timestamp::from_nanosecond(last).unwrap_or(Timestamp::MAX);
            if clock::now().duration_since(last)
                >= SignedDuration::try_from(silence).unwrap_or(SignedDuration::MAX)
            {
                stream.purge().filter(subject).await.map_err(|error| unavailable(doing(), error))?;
            }
        }
        Ok(())
    }
}
