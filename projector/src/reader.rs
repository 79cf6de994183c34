//! Rows read: their events decoded, and opened as far as a reader needs it.

use std::sync::Arc;

use bytes::Bytes;
use eventlog::Keyring;
use proto::codec::Encoded;
use proto::sealing::DataKey;
use proto::{Body, Event, Kind};
use scim::Registry;

use crate::Error;
use crate::content::Content;
use crate::index::Indexes;
use crate::own::{Announced, Ours};
use crate::row::{ReadRow, Row};

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Reader {
    pub(crate) keyring: Keyring,
    pub(crate) registry: Arc<Registry>,
    pub(crate) indexes: Arc<Indexes>,
}

/// A row that was read as far as that goes without its key, which must be fetched first.
pub(crate) struct Locked {
    row: Row,
    encoded: Encoded,
}

impl Locked {
    pub(crate) fn row(&self) -> &Row {
        &self.row
    }
}

/// What can be known of a row without waiting.
pub(crate) enum Now {
    Read(Box<ReadRow>),
    Locked(Box<Locked>),
}

/// Whether an event holds the document of its resource.
fn has_document(kind: &Kind) -> bool {
    matches!(kind, Kind::Created { .. } | Kind::Updated { .. })
}

impl Reader {
    /// A row with its event and its document, as far as that needs no waiting.
    pub(crate) fn read_now(&self, row: Row) -> Result<Now, Error> {
        let encoded = row.decode()?;
        self.unlock_now(Locked { row, encoded })
    }

    /// The same of a row whose key may be here by now.
    pub(crate) fn unlock_now(&self, locked: Locked) -> Result<Now, Error> {
        let key = match self.sealed_by(&locked.encoded) {
            None => None,
            Some(at) => match self.keyring.cached(at) {
                None => return Ok(Now::Locked(Box::new(locked))),
                Some(key) => key,
            },
        };
        let Locked { row, encoded } = locked;
        Ok(Now::Read(Box::new(self.finish(row, encoded, key.as_ref())?)))
    }

    /// Has the key of a row at hand afterwards.
    pub(crate) async fn fetch(&self, locked: &Locked) -> Result<(), Error> {
        if let Some(at) = self.sealed_by(&locked.encoded) {
            self.keyring.key(&locked.encoded.event.tenant, at).await?;
        }
        Ok(())
    }

    /// The key that is needed to read a document.
    fn sealed_by(&self, encoded: &Encoded) -> Option<proto::KeyRef> {
        encoded.event.key_ref.filter(|_| encoded.is_sealed() && has_document(&encoded.event.kind))
    }

    fn finish(&self, row: Row, encoded: Encoded, key: Option<&DataKey>) -> Result<ReadRow, Error> {
        let (mut content, mut values) = (None, Vec::new());
        if let Some(key) = key {
            let read = self.content(&encoded, key, row.sequence)?;
            values = self.values(&read, row.sequence)?;
            content = Some(Arc::new(read));
        }
        Ok(ReadRow { row, event: encoded.event, content, values })
    }

    fn content(&self, encoded: &Encoded, key: &DataKey, sequence: u64) -> Result<Content, Error> {
        let (json, external_ids) =
            encoded.open_document(key).map_err(|source| Error::Event { sequence, source })?;
        Ok(Content { json, external_ids, key_ref: encoded.event.key_ref, ..Content::default() })
    }

    fn values(&self, content: &Content, sequence: u64) -> Result<Vec<(u16, String)>, Error> {
        self.indexes
            .values(&content.json)
            .map_err(|error| Error::Event { sequence, source: proto::codec::Error::Json(error) })
    }

    /// What a row says, unless its key must be fetched first. Empty when it was erased.
    pub(crate) fn content_now(&self, row: &Row) -> Result<Option<Content>, Error> {
        let Some(closed) = row.glance()? else { return Ok(Some(Content::default())) };
        let key_ref = Some(closed.key_ref);
        match self.keyring.cached(closed.key_ref) {
            None => Ok(None),
            Some(None) => Ok(Some(Content { key_ref, ..Content::default() })),
            Some(Some(key)) => {
                let opened = closed.open_document(&key);
                let (json, external_ids) =
                    opened.map_err(|source| Error::Event { sequence: row.sequence, source })?;
                Ok(Some(Content { json, external_ids, key_ref, ..Content::default() }))
            }
        }
    }

    /// The JSON of a row's document, unless its key must be fetched first. Empty when it was erased.
    pub(crate) fn json_now(&self, row: &Row) -> Result<Option<Bytes>, Error> {
        let Some(closed) = row.glance()? else { return Ok(Some(Bytes::new())) };
        let Some(key) = self.keyring.cached(closed.key_ref) else { return Ok(None) };
        let json = key.map(|key| closed.open_json(&key)).transpose();
        json.map(|json| Some(json.unwrap_or_default()))
            .map_err(|source| Error::Event { sequence: row.sequence, source })
    }

    /// What a row says. Empty when it was erased.
    pub(crate) async fn content_of(&self, row: &Row) -> Result<Content, Error> {
        loop {
            if let Some(content) = self.content_now(row)? {
                return Ok(content);
            }
            self.fetch_key(row).await?;
        }
    }

    /// Has the key of a row's document at hand afterwards.
    pub(crate) async fn fetch_key(&self, row: &Row) -> Result<(), Error> {
        let is_there = |closed: proto::codec::Closed| self.keyring.is_cached(closed.key_ref);
        if row.glance()?.is_none_or(is_there) {
            return Ok(());
        }
        self.fetch(&Locked { row: row.clone(), encoded: row.decode()? }).await
    }

    /// A row's event and its whole body; no body when there is none, or when it was erased.
    pub(crate) async fn opened(&self, row: &Row) -> Result<(Event, Option<Body>), Error> {
        let encoded = row.decode()?;
        let key = match encoded.event.key_ref.filter(|_| encoded.is_sealed()) {
            None => None,
            Some(at) => self.keyring.key(&encoded.event.tenant, at).await?,
        };
        let sequence = row.sequence;
        let body = key.map(|key| encoded.open(&key)).transpose();
        Ok((encoded.event, body.map_err(|source| Error::Event { sequence, source })?))
    }

    /// A message of ours that is about to be written, which need not be opened afterwards.
    pub(crate) fn ours(&self, announced: Announced) -> Ours {
        let Announced { event, key, body, payload } = announced;
        let body = body.filter(|_| has_document(&event.kind));
        let content = body.map(|body| Arc::new(Content::of(&body, event.key_ref)));
        // What we wrote ourselves is JSON.
        let values = content.as_ref().and_then(|content| self.indexes.values(&content.json).ok());
        Ours { event, key, content, values: values.unwrap_or_default(), payload }
    }
}
