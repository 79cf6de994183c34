//! One event as the directory keeps it: sealed, with what the log knows about it.

use std::sync::Arc;

use bytes::Bytes;
use eventlog::{Keyring, Message};
use jiff::Timestamp;
use proto::codec::Encoded;
use proto::subject::{self, Key};
use proto::{At, Body, Event, Position, Tenant};

use crate::Error;

/// A row. Its bytes in the store are time, key and the message's payload.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) sequence: u64,
    /// Log time: never before that of an earlier sequence.
    pub(crate) time: Timestamp,
    pub(crate) key: Key,
    pub(crate) payload: Bytes,
}

/// A row whose event was read.
#[derive(Clone, Debug)]
pub(crate) struct ReadRow {
    pub(crate) row: Row,
    pub(crate) event: Event,
    /// Nothing when the event has none, or its key was erased.
    pub(crate) body: Option<Arc<Body>>,
}

impl Row {
    /// The row of a message, at a time that is still to be set.
    pub(crate) fn of(message: Message) -> Result<Self, Error> {
        let (_, _, key) = subject::parse_identity(&message.subject)
            .map_err(|error| Error::Stranger { sequence: message.sequence, reason: error.to_string() })?;
        Ok(Self { sequence: message.sequence, time: message.time, key, payload: message.payload })
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let key = self.key.as_str().as_bytes();
        let mut bytes = Vec::with_capacity(9 + key.len() + self.payload.len());
        bytes.extend_from_slice(&self.time.as_millisecond().to_be_bytes());
        bytes.push(u8::try_from(key.len()).unwrap_or_default());
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(&self.payload);
        bytes
    }

    /// Nothing when the bytes are no row.
    pub(crate) fn from_bytes(sequence: u64, bytes: &[u8]) -> Option<Self> {
        let (time, rest) = bytes.split_first_chunk::<8>()?;
        let (length, rest) = rest.split_first()?;
        let (key, payload) = rest.split_at_checked(usize::from(*length))?;
        Some(Self {
            sequence,
            time: Timestamp::from_millisecond(i64::from_be_bytes(*time)).ok()?,
            key: Key::parse(std::str::from_utf8(key).ok()?).ok()?,
            payload: Bytes::copy_from_slice(payload),
        })
    }

    pub(crate) fn decode(&self) -> Result<Encoded, Error> {
        proto::codec::decode(self.payload.clone())
            .map_err(|source| Error::Event { sequence: self.sequence, source })
    }
}

impl ReadRow {
    /// Reads a row's event and opens its body.
    pub(crate) async fn open(keyring: &Keyring, tenant: &Tenant, row: Row) -> Result<Self, Error> {
        let encoded = row.decode()?;
        let body = match encoded.event.key_ref.filter(|_| encoded.is_sealed()) {
            None => None,
            Some(at) => match keyring.key(tenant, at).await? {
                None => None,
                Some(key) => {
                    let sequence = row.sequence;
                    Some(Arc::new(encoded.open(&key).map_err(|source| Error::Event { sequence, source })?))
                }
            },
        };
        Ok(Self { row, event: encoded.event, body })
    }

    pub(crate) fn at(&self) -> At {
        At { position: Position { sequence: self.row.sequence, event: self.event.id }, time: self.row.time }
    }
}
