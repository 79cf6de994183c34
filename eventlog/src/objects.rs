//! Large things by name, such as snapshots.

use std::pin::Pin;
use std::time::Duration;

use jiff::Timestamp;
use tokio::io::AsyncRead;

use crate::Error;

/// Bytes that come one after the other.
pub type Stream = Pin<Box<dyn AsyncRead + Send>>;

/// What is known of an object without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub bytes: u64,
    /// When it was put there, where that is known.
    pub put: Option<Timestamp>,
}

/// A store of objects.
#[async_trait::async_trait]
pub trait Objects: Send + Sync + 'static {
    /// All of them, in the order of their names.
    async fn list(&self) -> Result<Vec<Object>, Error>;

    /// Puts an object there, whole or not at all; one of the same name is replaced.
    async fn put(&self, name: &str, bytes: Stream) -> Result<(), Error>;

    /// An object's bytes; nothing when there is none. Reading them to the end fails when they are not what was put.
    async fn get(&self, name: &str) -> Result<Option<Stream>, Error>;

    /// Removes an object, if it is there.
    async fn delete(&self, name: &str) -> Result<(), Error>;

    /// Removes what is left of objects whose putting broke off: their bytes have been silent for so long.
    async fn sweep(&self, silence: Duration) -> Result<(), Error>;
}
