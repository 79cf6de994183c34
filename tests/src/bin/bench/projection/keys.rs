//! The pages of data keys in a file, so that whoever measures its memory holds none but those that it opened.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use eventlog::{Bucket, Error, Keyring};
use proto::sealing::DataKey;

/// Nobody's data is under it.
pub(crate) fn master() -> DataKey {
    DataKey::new([7; 32])
}

/// A bucket that is only read.
struct Pages {
    file: File,
    places: BTreeMap<String, (u64, usize)>,
}

/// Writes what a bucket holds into the folder.
pub(crate) async fn write(folder: &Path, bucket: &dyn Bucket) {
    let (mut bytes, mut places, mut place) = (Vec::new(), BTreeMap::new(), 0);
    for name in bucket.keys().await.expect("names") {
        let (value, _) = bucket.get(&name).await.expect("a value").expect("a value that was named");
        places.insert(name, (place, value.len()));
        place += value.len() as u64;
        bytes.extend_from_slice(&value);
    }
    std::fs::write(folder.join("keys"), bytes).expect("a disk with room");
    let places = serde_json::to_vec(&places).expect("JSON");
    std::fs::write(folder.join("keys.places"), places).expect("a disk with room");
}

/// The keyring over what was written.
pub(crate) fn open(folder: &Path) -> Keyring {
    let file = File::open(folder.join("keys")).expect("the keys are written");
    let places = std::fs::read(folder.join("keys.places")).expect("the keys are written");
    let places = serde_json::from_slice(&places).expect("places");
    Keyring::new(Arc::new(Pages { file, places }), master())
}

fn refused<T>() -> Result<T, Error> {
    Err(Error::Refused { doing: "changing keys".to_string(), reason: "they are only read".to_string() })
}

#[async_trait::async_trait]
impl Bucket for Pages {
    async fn get(&self, key: &str) -> Result<Option<(Bytes, u64)>, Error> {
        let Some((place, length)) = self.places.get(key).copied() else { return Ok(None) };
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, place).expect("a whole value");
        Ok(Some((bytes.into(), 1)))
    }

    async fn create(&self, _: &str, _: Bytes) -> Result<u64, Error> {
        refused()
    }

    async fn update(&self, _: &str, _: Bytes, _: u64) -> Result<u64, Error> {
        refused()
    }

    async fn keys(&self) -> Result<Vec<String>, Error> {
        Ok(self.places.keys().cloned().collect())
    }

    async fn purge(&self, _: &str) -> Result<(), Error> {
        refused()
    }
}
