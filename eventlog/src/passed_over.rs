//! Messages of a stream that nobody can read. One of them would end every reader at every start, and none can be taken out
//! of a log that keeps everything. So readers are given an event in its place that says so and changes nothing, for two
//! reasons only:
//!
//! * It bears no event id and is no event: whatever wrote it was none of us, of any version.
//! * An operator said so (`rollcall events pass-over`), of exactly this message: what was ours once and is damaged is
//!   nothing that a process may decide about.
//!
//! Everything else that cannot be read ends the reader: a newer version may have written it.

use std::collections::BTreeMap;
use std::sync::Arc;

use data_encoding::HEXLOWER;
use futures::StreamExt;
use futures::stream::BoxStream;
use jiff::Timestamp;
use proto::stand_in::{self, Stream};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::{Append, Bucket, Error, Log, Message};

/// What names in the bucket ROLLCALL begin with: `passed-over.IDENTITY.42`.
const PREFIX: &str = "passed-over.";
/// Why a message is passed over that nobody was asked about.
const FOREIGN: &str = "it bears no event id and is no event, so nothing of ours wrote it";

/// That an operator had a message passed over.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Pass {
    /// The message's digest: another one at the same place is not meant.
    digest: String,
    /// Why, in the operator's words.
    why: String,
}

impl Pass {
    /// Of a message as it stands in the stream.
    pub fn of(message: &Message, why: &str) -> Self {
        Self { digest: digest(message), why: why.to_string() }
    }

    /// The digest of the message that is meant.
    pub fn digest(&self) -> &str {
        &self.digest
    }
}

fn digest(message: &Message) -> String {
    HEXLOWER.encode(&stand_in::digest(&message.subject, &message.payload))
}

fn name(stream: &str, sequence: u64) -> String {
    format!("{PREFIX}{stream}.{sequence}")
}

/// Has a message passed over by every process that starts from now on. [`Error::Conflict`] when that was done before.
pub async fn note(bucket: &dyn Bucket, stream: &str, sequence: u64, pass: &Pass) -> Result<(), Error> {
    let doing = || "noting a message that is passed over".to_string();
    let value = serde_json::to_vec(pass)
        .map_err(|error| Error::Refused { doing: doing(), reason: error.to_string() })?;
    bucket.create(&name(stream, sequence), value.into()).await.map(drop)
}

/// What operators had passed over, by stream and sequence.
#[derive(Clone, Debug, Default)]
pub(crate) struct Passes(BTreeMap<String, BTreeMap<u64, Pass>>);

impl Passes {
    /// Reads them.
    pub(crate) async fn read(bucket: &dyn Bucket) -> Result<Self, Error> {
        let mut passes = Self::default();
        for key in bucket.keys().await? {
            let Some((stream, sequence)) = key.strip_prefix(PREFIX).and_then(|rest| rest.split_once('.'))
            else {
                continue;
            };
            let Some((value, _)) = bucket.get(&key).await? else { continue };
            let damaged = |reason: String| Error::Damaged {
                doing: "reading which messages are passed over".to_string(),
                reason: format!("the value {key} in the bucket ROLLCALL: {reason}"),
            };
            let sequence =
                sequence.parse().map_err(|_| damaged("its name ends with no sequence".to_string()))?;
            let pass = serde_json::from_slice(&value).map_err(|error| damaged(error.to_string()))?;
            passes.0.entry(stream.to_string()).or_default().insert(sequence, pass);
        }
        Ok(passes)
    }
}

/// A log whose readers are given events in place of what nobody can read.
pub(crate) struct PassingOver {
    log: Arc<dyn Log>,
    shown: Shown,
}

#[derive(Clone)]
struct Shown {
    stream: Stream,
    passes: Arc<BTreeMap<u64, Pass>>,
}

impl PassingOver {
    /// Over one of the three streams.
    pub(crate) fn new(log: Arc<dyn Log>, stream: Stream, passes: &Passes) -> Self {
        let passes = passes.0.get(log.name()).cloned().unwrap_or_default();
        Self { log, shown: Shown { stream, passes: passes.into() } }
    }
}

impl Shown {
    /// The message as readers are given it.
    fn of(&self, message: Message) -> Message {
        let noted = self.passes.get(&message.sequence).filter(|pass| pass.digest == digest(&message));
        let why = if let Some(pass) = noted {
            pass.why.as_str()
        } else if message.id.is_some() {
            return message;
        } else if let Err(error) = self.stream.check(&message.subject, &message.payload) {
            tracing::error!(
                stream = ?self.stream, sequence = message.sequence, subject = message.subject, %error,
                "a message is passed over that nothing of ours wrote; find out who may publish there"
            );
            FOREIGN
        } else {
            return message;
        };
        metrics::counter!("rollcall_log_passed_over_total").increment(1);
        let given = self.stream.stand_in(&message.subject, &message.payload, message.time, why);
        Message { subject: given.subject, id: Some(given.id), payload: given.payload, ..message }
    }
}

#[async_trait::async_trait]
impl Log for PassingOver {
    fn name(&self) -> &str {
        self.log.name()
    }

    async fn append(&self, append: Append, deadline: Instant) -> Result<u64, Error> {
        self.log.append(append, deadline).await
    }

    async fn append_atomic(&self, appends: Vec<Append>, deadline: Instant) -> Result<Vec<u64>, Error> {
        self.log.append_atomic(appends, deadline).await
    }

    async fn read(&self, sequence: u64) -> Result<Option<Message>, Error> {
        Ok(self.log.read(sequence).await?.map(|message| self.shown.of(message)))
    }

    async fn last_on(&self, subject: &str) -> Result<Option<Message>, Error> {
        Ok(self.log.last_on(subject).await?.map(|message| self.shown.of(message)))
    }

    async fn next_on(&self, subject: &str, from: u64) -> Result<Option<Message>, Error> {
        Ok(self.log.next_on(subject, from).await?.map(|message| self.shown.of(message)))
    }

    async fn some_on(&self, subject: &str, from: u64) -> Result<Vec<Message>, Error> {
        let some = self.log.some_on(subject, from).await?;
        Ok(some.into_iter().map(|message| self.shown.of(message)).collect())
    }

    async fn last_sequence(&self) -> Result<u64, Error> {
        self.log.last_sequence().await
    }

    fn follow(&self, from: u64) -> BoxStream<'static, Result<Message, Error>> {
        let shown = self.shown.clone();
        self.log.follow(from).map(move |message| message.map(|message| shown.of(message))).boxed()
    }

    async fn note(&self, name: &str) -> Result<Option<String>, Error> {
        self.log.note(name).await
    }

    async fn set_note(&self, name: &str, value: &str) -> Result<(), Error> {
        self.log.set_note(name, value).await
    }

    async fn sequence_at(&self, time: Timestamp) -> Result<u64, Error> {
        self.log.sequence_at(time).await
    }
}
