//! A log that is a vector: its writer decides what time it is, and how much of it is told.

use std::sync::{Arc, PoisonError, RwLock};

use eventlog::{Append, Error, Log, Message, clock};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

/// The log. Clones are the same log.
#[derive(Clone)]
pub(crate) struct Book {
    messages: Arc<RwLock<Vec<Message>>>,
    /// Up to here it is told.
    told: Arc<watch::Sender<u64>>,
}

impl Default for Book {
    fn default() -> Self {
        Self { messages: Arc::default(), told: Arc::new(watch::Sender::new(0)) }
    }
}

impl Book {
    /// A log of these messages, none of which is told yet.
    pub(crate) fn of(messages: Vec<Message>) -> Self {
        Self { messages: Arc::new(RwLock::new(messages)), ..Self::default() }
    }

    /// Writes a message at a time of the broker; it is told later.
    pub(crate) fn write(&self, append: Append, time: Timestamp) -> u64 {
        let mut messages = self.messages.write().unwrap_or_else(PoisonError::into_inner);
        let sequence = messages.len() as u64 + 1;
        let Append { subject, id, payload, .. } = append;
        messages.push(Message { sequence, subject, id: Some(id), payload, time });
        sequence
    }

    /// Tells everything up to a sequence, which is then the last one for who asks.
    pub(crate) fn tell(&self, to: u64) {
        self.told.send_replace(to.min(self.len()));
    }

    pub(crate) fn told(&self) -> u64 {
        *self.told.borrow()
    }

    pub(crate) fn len(&self) -> u64 {
        self.messages.read().unwrap_or_else(PoisonError::into_inner).len() as u64
    }

    pub(crate) fn messages(&self) -> Vec<Message> {
        self.messages.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn get(&self, sequence: u64) -> Option<Message> {
        let index = usize::try_from(sequence).ok()?.checked_sub(1)?;
        self.messages.read().unwrap_or_else(PoisonError::into_inner).get(index).cloned()
    }
}

#[async_trait::async_trait]
impl Log for Book {
    fn name(&self) -> &str {
        "IDENTITY"
    }

    async fn append(&self, append: Append, _: Instant) -> Result<u64, Error> {
        let sequence = self.write(append, clock::now());
        self.tell(sequence);
        Ok(sequence)
    }

    async fn append_atomic(&self, appends: Vec<Append>, _: Instant) -> Result<Vec<u64>, Error> {
        let sequences: Vec<u64> =
            appends.into_iter().map(|append| self.write(append, clock::now())).collect();
        self.tell(self.len());
        Ok(sequences)
    }

    async fn read(&self, sequence: u64) -> Result<Option<Message>, Error> {
        Ok(self.get(sequence))
    }

    async fn last_on(&self, subject: &str) -> Result<Option<Message>, Error> {
        Ok(self.messages().into_iter().rfind(|message| message.subject == subject))
    }

    async fn last_sequence(&self) -> Result<u64, Error> {
        Ok(self.told())
    }

    fn follow(&self, from: u64) -> BoxStream<'static, Result<Message, Error>> {
        let following = (self.clone(), self.told.subscribe(), from.max(1));
        let step = |(book, mut told, next): (Self, watch::Receiver<u64>, u64)| async move {
            told.wait_for(|told| *told >= next).await.ok()?;
            let message = book.get(next)?;
            Some((Ok(message), (book, told, next + 1)))
        };
        stream::unfold(following, step).boxed()
    }

    async fn note(&self, _: &str) -> Result<Option<String>, Error> {
        Ok(None)
    }

    async fn set_note(&self, _: &str, _: &str) -> Result<(), Error> {
        Ok(())
    }
}
