//! A stream of the broker as a log.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{LastRawMessageErrorKind, RawMessageErrorKind};
use async_nats::jetstream::{self, stream};
use async_nats::{Client, HeaderMap};
use futures::stream::BoxStream;
use jiff::Timestamp;
use proto::EventId;
use tokio::time::Instant;

use super::{authority, follow, publish, several, unavailable};
use crate::{Append, Error, Log, Message};

/// One stream.
#[derive(Clone)]
pub(super) struct NatsLog {
    pub(super) name: &'static str,
    pub(super) client: Client,
    pub(super) context: jetstream::Context,
    /// How far it is known to go, whoever learned it.
    known: Arc<AtomicU64>,
}

impl NatsLog {
    pub(super) fn new(name: &'static str, client: Client, context: jetstream::Context) -> Self {
        Self { name, client, context, known: Arc::default() }
    }

    /// It goes to this sequence at least.
    pub(super) fn goes_to(&self, sequence: u64) {
        self.known.fetch_max(sequence, Ordering::Relaxed);
    }

    /// Whether something is known to stand at or after a sequence.
    pub(super) fn is_known_at(&self, sequence: u64) -> bool {
        self.known.load(Ordering::Relaxed) >= sequence
    }

    pub(super) async fn stream(&self) -> Result<stream::Stream<()>, Error> {
        let doing = || format!("opening the stream {}", self.name);
        self.context.get_stream_no_info(self.name).await.map_err(|error| unavailable(doing(), error))
    }

    /// The first message on a subject at or after a sequence, asked of the leader.
    pub(super) async fn next_on(&self, subject: &str, from: u64) -> Result<Option<Message>, Error> {
        let doing = || format!("reading {} after sequence {from}", self.name);
        let stream = self.stream().await?;
        match stream.raw_message_builder().sequence(from).next_by_subject(subject).send().await {
            Ok(message) => Ok(Some(from_stream(message))),
            Err(error) if is_absent(&error.kind()) => Ok(None),
            Err(error) => Err(unavailable(doing(), error)),
        }
    }
}

pub(super) fn is_absent(kind: &RawMessageErrorKind) -> bool {
    match kind {
        LastRawMessageErrorKind::NoMessageFound => true,
        LastRawMessageErrorKind::InvalidSubject
        | LastRawMessageErrorKind::JetStream(_)
        | LastRawMessageErrorKind::Other => false,
    }
}

pub(super) fn from_stream(message: StreamMessage) -> Message {
    Message {
        sequence: message.sequence,
        subject: message.subject.to_string(),
        id: event_id(&message.headers),
        payload: message.payload,
        time: timestamp(message.time.unix_timestamp_nanos()),
    }
}

pub(super) fn event_id(headers: &HeaderMap) -> Option<EventId> {
    headers.get(async_nats::header::NATS_MESSAGE_ID)?.as_str().parse().ok()
}

pub(super) fn timestamp(nanoseconds: i128) -> Timestamp {
    Timestamp::from_nanosecond(nanoseconds).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[async_trait::async_trait]
impl Log for NatsLog {
    fn name(&self) -> &str {
        self.name
    }

    async fn append(&self, append: Append, deadline: Instant) -> Result<u64, Error> {
        publish::single(self, &append, deadline).await
    }

    async fn append_atomic(&self, appends: Vec<Append>, deadline: Instant) -> Result<Vec<u64>, Error> {
        publish::atomic(self, &appends, deadline).await
    }

    async fn read(&self, sequence: u64) -> Result<Option<Message>, Error> {
        let doing = || format!("reading {} at {sequence}", self.name);
        if sequence == 0 {
            return Ok(None);
        }
        match self.stream().await?.get_raw_message(sequence).await {
            Ok(message) => Ok(Some(from_stream(message))),
            Err(error) if is_absent(&error.kind()) => Ok(None),
            Err(error) => Err(unavailable(doing(), error)),
        }
    }

    async fn last_on(&self, subject: &str) -> Result<Option<Message>, Error> {
        let doing = || format!("reading the last message of a subject of {}", self.name);
        match self.stream().await?.get_last_raw_message_by_subject(subject).await {
            Ok(message) => Ok(Some(from_stream(message))),
            Err(error) if is_absent(&error.kind()) => Ok(None),
            Err(error) => Err(unavailable(doing(), error)),
        }
    }

    async fn next_on(&self, subject: &str, from: u64) -> Result<Option<Message>, Error> {
        let doing = || format!("reading the messages of a subject of {}", self.name);
        match self.stream().await?.get_first_raw_message_by_subject(subject, from.max(1)).await {
            Ok(message) => Ok(Some(from_stream(message))),
            Err(error) if is_absent(&error.kind()) => Ok(None),
            Err(error) => Err(unavailable(doing(), error)),
        }
    }

    async fn some_on(&self, subject: &str, from: u64) -> Result<Vec<Message>, Error> {
        let mut some = several::told(self, subject, from).await;
        if some.is_empty() {
            some.extend(Log::next_on(self, subject, from).await?);
        }
        Ok(some)
    }

    async fn last_sequence(&self) -> Result<u64, Error> {
        let doing = || format!("asking for the last sequence of {}", self.name);
        let stream = self.stream().await?;
        let asked = || async { stream.get_info().await.map_err(|error| unavailable(doing(), error)) };
        let info = authority::ask(doing, asked).await?;
        self.goes_to(info.state.last_sequence);
        Ok(info.state.last_sequence)
    }

    fn follow(&self, from: u64) -> BoxStream<'static, Result<Message, Error>> {
        follow::from(self.clone(), from)
    }

    async fn note(&self, name: &str) -> Result<Option<String>, Error> {
        let doing = || format!("reading the notes of {}", self.name);
        let info = self.stream().await?.get_info().await.map_err(|error| unavailable(doing(), error))?;
        Ok(info.config.metadata.get(name).cloned())
    }

    async fn set_note(&self, name: &str, value: &str) -> Result<(), Error> {
        let doing = || format!("writing the notes of {}", self.name);
        let info = self.stream().await?.get_info().await.map_err(|error| unavailable(doing(), error))?;
        let mut config = info.config;
        config.metadata.insert(name.to_string(), value.to_string());
        self.context.update_stream(config).await.map_err(|error| unavailable(doing(), error))?;
        Ok(())
    }
}

/// How long to wait before the next attempt of whatever failed.
pub(super) const RETRY_DELAY: Duration = Duration::from_millis(50);
