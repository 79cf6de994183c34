//! Small values by name, each with a revision.

use bytes::Bytes;

use crate::Error;

/// A bucket of values.
#[async_trait::async_trait]
pub trait Bucket: Send + Sync + 'static {
    /// A value and its revision.
    async fn get(&self, key: &str) -> Result<Option<(Bytes, u64)>, Error>;

    /// Sets a value that must not exist; [`Error::Conflict`] when it does.
    async fn create(&self, key: &str, value: Bytes) -> Result<u64, Error>;

    /// Sets a value whose revision must be this one; [`Error::Conflict`] when it is another.
    async fn update(&self, key: &str, value: Bytes, revision: u64) -> Result<u64, Error>;

    /// The names of all values. Costs a look at each of them.
    async fn keys(&self) -> Result<Vec<String>, Error>;

    /// Removes a value and its history.
    async fn purge(&self, key: &str) -> Result<(), Error>;
}
