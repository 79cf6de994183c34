//! What a log can do, and how it fails.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::Timestamp;
use proto::EventId;
use tokio::time::Instant;

/// A message to be written.
#[derive(Clone, Debug)]
pub struct Append {
    /// Where.
    pub subject: String,
    /// What the writer believes about the subject.
    pub guard: Guard,
    /// The event's id, by which the broker knows it again.
    pub id: EventId,
    /// The event.
    pub payload: Bytes,
    /// Further headers.
    pub headers: Headers,
}

/// Names and values. Shared, because what waits in a queue and may have to go again is copied.
pub type Headers = Arc<[(&'static str, String)]>;

/// What the writer believes to be the last sequence on the subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// This one; 0 for a subject that was never used.
    Last(u64),
    /// Nothing: the message commutes with others on the subject.
    None,
}

/// A message that stands in the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Its sequence in the stream.
    pub sequence: u64,
    /// Where.
    pub subject: String,
    /// The event's id; nothing when a stranger wrote the message.
    pub id: Option<EventId>,
    /// The event.
    pub payload: Bytes,
    /// The broker's timestamp.
    pub time: Timestamp,
}

/// The world says no.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody else wrote on the subject: catch up and decide again.
    #[error("somebody else wrote on the subject meanwhile")]
    Conflict {
        /// The sequence of the message that stood in the way, where the broker tells it.
        at: Option<u64>,
    },
    /// The deadline passed without an answer; the message may stand in the log or not.
    #[error("{doing}: no answer in time, so whether it happened is unknown")]
    Unknown {
        /// What we were doing.
        doing: String,
    },
    /// The broker cannot be reached or cannot serve; nothing was written.
    #[error("{doing}: the broker is not available")]
    Unavailable {
        /// What we were doing.
        doing: String,
        /// Why.
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The broker refuses, and will refuse again.
    #[error("{doing}: {reason}")]
    Refused {
        /// What we were doing.
        doing: String,
        /// The broker's words, and what to do.
        reason: String,
    },
    /// What the broker holds is not what was written.
    #[error("{doing}: {reason}")]
    Damaged {
        /// What we were doing.
        doing: String,
        /// What is wrong.
        reason: String,
    },
}

impl Error {
    /// Whether the same may succeed a moment later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Conflict { .. } | Self::Unknown { .. } | Self::Unavailable { .. } => true,
            Self::Refused { .. } | Self::Damaged { .. } => false,
        }
    }
}

/// An append-only log whose subjects can be guarded.
#[async_trait::async_trait]
pub trait Log: Send + Sync + 'static {
    /// The stream's name.
    fn name(&self) -> &str;

    /// Writes one message and returns its sequence. After a lost acknowledgement it asks again with the same id, so
    /// that success means "stands in the log, once" and [`Error::Conflict`] means "does not stand there".
    async fn append(&self, append: Append, deadline: Instant) -> Result<u64, Error>;

    /// Writes all or none and returns the sequences, which follow one another. The first must be guarded.
    async fn append_atomic(&self, appends: Vec<Append>, deadline: Instant) -> Result<Vec<u64>, Error>;

    /// The message at a sequence, asked of the leader.
    async fn read(&self, sequence: u64) -> Result<Option<Message>, Error>;

    /// The last message on a subject, asked of the leader.
    async fn last_on(&self, subject: &str) -> Result<Option<Message>, Error>;

    /// The first message from a sequence on whose subject is this one, or one of this pattern; nothing when there is none.
    async fn next_on(&self, subject: &str, from: u64) -> Result<Option<Message>, Error> {
        let last = self.last_sequence().await?;
        for sequence in from.max(1)..=last {
            if let Some(message) = self
                .read(sequence)
                .await?
                .filter(|message| proto::subject::matches(subject, &message.subject))
            {
                return Ok(Some(message));
            }
        }
        Ok(None)
    }

    /// The first messages from a sequence on whose subject is this one, or one of this pattern: as many as are had at once,
    /// none only when the leader has none.
    async fn some_on(&self, subject: &str, from: u64) -> Result<Vec<Message>, Error> {
        Ok(self.next_on(subject, from).await?.into_iter().collect())
    }

    /// The stream's last sequence, asked of the leader; 0 when it is empty.
    async fn last_sequence(&self) -> Result<u64, Error>;

    /// Every message from a sequence on, in order, without gap or repeat, through reconnects. Ends only after an
    /// error, which is always [`Error::Damaged`].
    fn follow(&self, from: u64) -> BoxStream<'static, Result<Message, Error>>;

    /// A note that stands with the stream.
    async fn note(&self, name: &str) -> Result<Option<String>, Error>;

    /// Sets a note.
    async fn set_note(&self, name: &str, value: &str) -> Result<(), Error>;

    /// A sequence at which the broker's clock had reached an instant, and before which it had not; one past the last when
    /// there is none. Where that clock went back there are several, and this is one of them: whoever must miss nothing
    /// asks a projection.
    async fn sequence_at(&self, time: Timestamp) -> Result<u64, Error> {
        let (mut low, mut high) = (1, self.last_sequence().await? + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.read(middle).await? {
                Some(message) if message.time >= time => high = middle,
                Some(_) | None => low = middle + 1,
            }
        }
        Ok(low)
    }
}
