//! What the broker in memory holds: messages in order, found again by subject and by id.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use proto::EventId;
use tokio::sync::watch;

use crate::{Append, Error, Guard, Message, clock};

/// A stream. Clones are the same stream.
#[derive(Clone)]
pub struct Stream {
    held: Arc<Mutex<Held>>,
    last: Arc<watch::Sender<u64>>,
}

#[derive(Default)]
struct Held {
    messages: Vec<Message>,
    /// The last sequence on each subject.
    subjects: BTreeMap<String, u64>,
    ids: BTreeMap<EventId, u64>,
    notes: BTreeMap<String, String>,
}

impl Default for Stream {
    fn default() -> Self {
        Self { held: Arc::default(), last: Arc::new(watch::Sender::new(0)) }
    }
}

impl Stream {
    /// Every message.
    pub fn messages(&self) -> Vec<Message> {
        self.lock().messages.clone()
    }

    /// The last sequence; 0 when it is empty.
    pub fn last_sequence(&self) -> u64 {
        self.lock().messages.len() as u64
    }

    /// The message at a sequence.
    pub fn get(&self, sequence: u64) -> Option<Message> {
        self.lock().get(sequence)
    }

    pub(super) fn last_on(&self, subject: &str) -> Option<Message> {
        let held = self.lock();
        held.get(held.last_on(subject))
    }

    pub(super) fn note(&self, name: &str) -> Option<String> {
        self.lock().notes.get(name).cloned()
    }

    pub(super) fn set_note(&self, name: &str, value: &str) {
        self.lock().notes.insert(name.to_string(), value.to_string());
    }

    /// Told after every message.
    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }

    /// What a broker answers to messages of which all or none are written: their sequences, unless a guard does not hold.
    /// Messages that are already there are not written again.
    pub(super) fn write(&self, appends: &[Append], guarded: bool) -> Result<Vec<u64>, Error> {
        let mut held = self.lock();
        if let Some(first) = appends.first().and_then(|append| held.ids.get(&append.id).copied()) {
            return Ok((first..).take(appends.len()).collect());
        }
        for append in appends {
            if let Guard::Last(expected) = append.guard
                && guarded
                && held.last_on(&append.subject) != expected
            {
                return Err(Error::Conflict { at: None });
            }
        }
        let sequences = appends.iter().map(|append| held.push(append.clone())).collect();
        let last = held.messages.len() as u64;
        drop(held);
        self.last.send_replace(last);
        Ok(sequences)
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn get(&self, sequence: u64) -> Option<Message> {
        let index = usize::try_from(sequence).ok()?.checked_sub(1)?;
        self.messages.get(index).cloned()
    }

    fn last_on(&self, subject: &str) -> u64 {
        self.subjects.get(subject).copied().unwrap_or_default()
    }

    fn push(&mut self, append: Append) -> u64 {
        let sequence = self.messages.len() as u64 + 1;
        let now = clock::now();
        let time = self.messages.last().map_or(now, |last| last.time.max(now));
        let Append { subject, id, payload, .. } = append;
        self.subjects.insert(subject.clone(), sequence);
        self.ids.insert(id, sequence);
        self.messages.push(Message { sequence, subject, id: Some(id), payload, time });
        sequence
    }
}
