//! What our own process writes: announced before it is sent, so that neither its acknowledgement nor the log has to be
//! unsealed and read again, and shown as soon as the acknowledgement tells where it stands.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use jiff::Timestamp;
use proto::subject::Key;
use proto::{Body, CLOCK_TOLERANCE, Event, EventId};

use crate::Projection;
use crate::content::Content;
use crate::directory::ColumnNumber;
use crate::row::{ReadRow, Row};

/// A message as it is about to be written.
#[derive(Debug)]
pub struct Announced {
    /// The envelope.
    pub event: Event,
    /// Its key.
    pub key: Key,
    /// The sealed body, in the clear.
    pub body: Option<Arc<Body>>,
    /// The bytes that are written.
    pub payload: Bytes,
}

/// What an announcement says about its resource, ready to be applied.
pub(crate) struct Ours {
    pub(crate) event: Event,
    pub(crate) key: Key,
    pub(crate) content: Option<Arc<Content>>,
    pub(crate) values: Vec<(ColumnNumber, String)>,
    pub(crate) payload: Bytes,
}

/// Everything that is announced and did not come yet, by event.
#[derive(Default)]
pub(crate) struct Own(Mutex<BTreeMap<EventId, Ours>>);

impl Own {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<EventId, Ours>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The row of a message that the log tells, when it is one of ours.
    pub(crate) fn take(&self, row: &Row, id: EventId) -> Option<ReadRow> {
        let mut announced = self.lock();
        // What stands in the log is what counts.
        if announced.get(&id)?.payload != row.payload {
            return None;
        }
        let Ours { event, content, values, .. } = announced.remove(&id)?;
        Some(ReadRow { row: row.clone(), event, content, values })
    }

    /// The rows of a command that stands in the log, unless the log has told of it already.
    fn take_all(&self, ids: &[EventId], first: u64) -> Option<Vec<ReadRow>> {
        let mut announced = self.lock();
        if !ids.iter().all(|id| announced.contains_key(id)) {
            return None;
        }
        let row = |(sequence, id): (u64, &EventId)| {
            let Ours { event, key, content, values, payload } = announced.remove(id)?;
            let row = Row { sequence, time: event.occurred_at, key, payload };
            Some(ReadRow { row, event, content, values })
        };
        Some((first..).zip(ids).filter_map(row).collect())
    }
}

/// A command that is about to be written. Dropping it takes the announcement back.
pub struct Announcement {
    projection: Projection,
    ids: Vec<EventId>,
}

impl Projection {
    /// Announces the messages of one command.
    pub fn announce(&self, messages: Vec<Announced>) -> Announcement {
        let ids = messages.iter().map(|message| message.event.id).collect();
        let ours: Vec<Ours> = messages.into_iter().map(|message| self.inner.reader.ours(message)).collect();
        let mut announced = self.inner.own.lock();
        announced.extend(ours.into_iter().map(|ours| (ours.event.id, ours)));
        drop(announced);
        Announcement { projection: self.clone(), ids }
    }
}

impl Announcement {
    /// The command was acknowledged: its first message stands at this sequence, the others follow it. It is shown at
    /// once if all before it is, and if our clock can be believed, which what took long cannot tell.
    pub fn stands_at(self, first: u64, now: Timestamp) {
        let inner = &self.projection.inner;
        let Some(rows) = inner.own.take_all(&self.ids, first) else { return };
        let slow =
            rows.iter().any(|read| now.duration_since(read.event.occurred_at).abs() > CLOCK_TOLERANCE / 2);
        if !slow {
            self.projection.acknowledged(rows);
        }
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        let mut announced = self.projection.inner.own.lock();
        for id in &self.ids {
            announced.remove(id);
        }
    }
}
