//! One event as the directory keeps it: sealed, with what the log knows about it.

use std::sync::Arc;

use bytes::Bytes;
use eventlog::Message;
use jiff::Timestamp;
use proto::codec::{Closed, Encoded};
use proto::subject::{self, Key};
use proto::{At, Event, Position};

use crate::Error;
use crate::content::Content;
use crate::directory::ColumnNumber;

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
    /// What it says about its resource; nothing when the event has no document, or its key was erased.
    pub(crate) content: Option<Arc<Content>>,
    /// The document's indexed values.
    pub(crate) values: Vec<(ColumnNumber, String)>,
}

impl Row {
    /// The row of a message, at a time that is still to be set.
    pub(crate) fn of(message: Message) -> Result<Self, Error> {
        let (_, _, key) = subject::parse_identity(&message.subject)
            .map_err(|error| Error::Stranger { sequence: message.sequence, reason: error.to_string() })?;
        Ok(Self { sequence: message.sequence, time: message.time, key, payload: message.payload })
    }

    /// Appends its bytes.
    pub(crate) fn put(&self, bytes: &mut Vec<u8>) {
        let key = self.key.as_str().as_bytes();
        bytes.extend_from_slice(&self.time.as_millisecond().to_be_bytes());
        bytes.push(u8::try_from(key.len()).unwrap_or_default());
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(&self.payload);
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.put(&mut bytes);
        bytes
    }

    /// Nothing when the bytes are no row.
    pub(crate) fn from_bytes(sequence: u64, bytes: &Bytes) -> Option<Self> {
        let (time, rest) = bytes.split_first_chunk::<8>()?;
        let (length, rest) = rest.split_first()?;
        let (key, payload) = rest.split_at_checked(usize::from(*length))?;
        Some(Self {
            sequence,
            time: Timestamp::from_millisecond(i64::from_be_bytes(*time)).ok()?,
            key: Key::parse(std::str::from_utf8(key).ok()?).ok()?,
            payload: bytes.slice_ref(payload),
        })
    }

    /// As far as its document needs; nothing when it holds none, or nothing is sealed.
    pub(crate) fn glance(&self) -> Result<Option<Closed>, Error> {
        proto::codec::glance(self.payload.clone())
            .map_err(|source| Error::Event { sequence: self.sequence, source })
    }

    pub(crate) fn decode(&self) -> Result<Encoded, Error> {
        proto::codec::decode(self.payload.clone())
            .map_err(|source| Error::Event { sequence: self.sequence, source })
    }
}

impl ReadRow {
    pub(crate) fn at(&self) -> At {
        At { position: Position { sequence: self.row.sequence, event: self.event.id }, time: self.row.time }
    }

    /// `externalId` by source.
    pub(crate) fn external_ids(&self) -> impl Iterator<Item = (&str, &str)> {
        self.content.iter().flat_map(|content| content.external_ids.each())
    }
}
