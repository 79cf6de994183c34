//! Objects in memory.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::AsyncReadExt;

use crate::objects::{Object, Objects, Stream};
use crate::{Error, clock};

/// An object store in memory. Clones are the same store.
#[derive(Clone, Default)]
pub struct MemoryObjects(Arc<Mutex<BTreeMap<String, Kept>>>);

type Kept = (Vec<u8>, jiff::Timestamp);

impl MemoryObjects {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait::async_trait]
impl Objects for MemoryObjects {
    async fn list(&self) -> Result<Vec<Object>, Error> {
        let object = |(name, (bytes, put)): (&String, &Kept)| Object {
            name: name.clone(),
            bytes: bytes.len() as u64,
            put: Some(*put),
        };
        Ok(self.lock().iter().map(object).collect())
    }

    async fn put(&self, name: &str, mut bytes: Stream) -> Result<(), Error> {
        let mut whole = Vec::new();
        bytes.read_to_end(&mut whole).await.map_err(|error| Error::Unavailable {
            doing: format!("putting {name}"),
            source: Some(error.into()),
        })?;
        self.lock().insert(name.to_string(), (whole, clock::now()));
        Ok(())
    }

    async fn get(&self, name: &str) -> Result<Option<Stream>, Error> {
        let found = self.lock().get(name).map(|(bytes, _)| bytes.clone());
        Ok(found.map(|bytes| -> Stream { Box::pin(Cursor::new(bytes)) }))
    }

    async fn delete(&self, name: &str) -> Result<(), Error> {
        self.lock().remove(name);
        Ok(())
    }

    async fn sweep(&self, _: Duration) -> Result<(), Error> {
        // What breaks off leaves nothing.
        Ok(())
    }
}
