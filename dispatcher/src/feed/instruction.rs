//! What operators ask of a feed. Any process can be asked: the instruction stands in the bucket LEASES until the dispatcher
//! that works for the feed has looked at it, and so does its answer.

use std::time::Duration;

use eventlog::{Append, Broker, Error, Guard, clock};
use jiff::Timestamp;
use proto::control::{self, Kind};
use proto::{EventId, Tenant, subject};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::cursor::{self, FeedState};

/// Instructions that may wait.
const PENDING_MAX: usize = 32;
/// How long an answer is waited for.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// How often it is looked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// How often a value that others change too is tried to be changed.
const CONFLICTS_MAX: usize = 20;
/// How long writing an event may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// What the names of states begin with.
const STATES: &str = "watermark.feed.";

/// What an operator asks of a feed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", tag = "what")]
pub enum Instruction {
    /// Try again what is held: these resources or events, or everything when none is named.
    Redrive {
        /// Ids of resources or of refused events.
        ids: Vec<String>,
    },
    /// Give up a refused event, and go on with what waits behind it.
    Skip {
        /// The event's id, or its resource's.
        id: String,
    },
    /// Deliver a part of the log once more.
    Replay {
        /// From this sequence on.
        first: u64,
        /// To this one; nothing means up to where the feed is.
        last: Option<u64>,
    },
    /// Deliver everything that there is.
    Snapshot,
    /// Go on after the feed was stopped.
    Resume,
}

impl Instruction {
    /// Its name, and what it is about: never a person's data.
    fn written(&self) -> (&'static str, Option<Value>) {
        match self {
            Self::Redrive { ids } => ("redrive", Some(json!({"ids": ids}))),
            Self::Skip { id } => ("skip", Some(json!({"id": id}))),
            Self::Replay { first, last } => ("replay", Some(json!({"from": first, "to": last}))),
            Self::Snapshot => ("snapshot", None),
            Self::Resume => ("resume", None),
        }
    }
}

/// An instruction that waits.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct Pending {
    pub(super) number: u64,
    /// The event by which it is written down.
    pub(super) event: EventId,
    pub(super) by: String,
    pub(super) at: Timestamp,
    pub(super) instruction: Instruction,
}

/// Instructions as they stand in the bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
struct Inbox {
    last: u64,
    pending: Vec<Pending>,
}

/// What came of an instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instructed {
    /// It was done; what exactly.
    Done(String),
    /// It was not done; why.
    Refused(String),
    /// No dispatcher has looked at it yet; the one that works for the feed will.
    Waiting,
}

/// Feeds as operators see them, from any process.
#[derive(Clone)]
pub struct Feeds {
    broker: Broker,
}

impl Feeds {
    /// The feeds of this broker.
    pub fn new(broker: Broker) -> Self {
        Self { broker }
    }

    /// The names of all feeds that ever ran.
    pub async fn names(&self) -> Result<Vec<String>, Error> {
        let keys = self.broker.leases.keys().await?;
        let mut names: Vec<String> =
            keys.iter().filter_map(|key| key.strip_prefix(STATES)).map(str::to_string).collect();
        names.sort();
        Ok(names)
    }

    /// How a feed is; nothing when it never ran.
    pub async fn state(&self, feed: &str) -> Result<Option<FeedState>, Error> {
        Ok(cursor::read(&self.broker, feed).await?.map(|(state, _)| state))
    }

    /// Asks something of a feed that ran before, and waits a while for what comes of it.
    pub async fn instruct(
        &self,
        feed: &str,
        instruction: Instruction,
        by: &str,
    ) -> Result<Instructed, Error> {
        let Some(number) = self.put(feed, instruction, by).await? else {
            return Ok(Instructed::Refused(format!(
                "{PENDING_MAX} instructions wait already: no dispatcher works for this feed"
            )));
        };
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        loop {
            let answered = self
                .state(feed)
                .await?
                .and_then(|state| state.answers.iter().find(|answered| answered.number == number).cloned());
            match answered.map(|answered| answered.outcome) {
                Some(Ok(done)) => return Ok(Instructed::Done(done)),
                Some(Err(why)) => return Ok(Instructed::Refused(why)),
                None if Instant::now() >= deadline => return Ok(Instructed::Waiting),
                None => tokio::time::sleep(LOOK_INTERVAL).await,
            }
        }
    }

    /// Puts an instruction behind those that wait; nothing when too many do.
    async fn put(&self, feed: &str, instruction: Instruction, by: &str) -> Result<Option<u64>, Error> {
        let leases = &*self.broker.leases;
        for _ in 0..CONFLICTS_MAX {
            let found = leases.get(&key(feed)).await?;
            let (mut waiting, revision) = match &found {
                Some((bytes, revision)) => (read(bytes), Some(*revision)),
                None => (Inbox::default(), None),
            };
            if waiting.pending.len() >= PENDING_MAX {
                return Ok(None);
            }
            // A value that was removed begins anew; answers of the old one must not count for it.
            let known = self.state(feed).await?.map_or(0, |state| state.instructed);
            waiting.last = waiting.last.max(known) + 1;
            waiting.pending.push(Pending {
                number: waiting.last,
                event: clock::new_event_id(),
                by: by.to_string(),
                at: clock::now(),
                instruction: instruction.clone(),
            });
            let value = serde_json::to_vec(&waiting).unwrap_or_default().into();
            let put = match revision {
                Some(revision) => leases.update(&key(feed), value, revision).await,
                None => leases.create(&key(feed), value).await,
            };
            match put {
                Ok(_) => return Ok(Some(waiting.last)),
                Err(Error::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::Conflict { at: None })
    }
}

/// Where the instructions for a feed stand.
fn key(feed: &str) -> String {
    format!("instructions.feed.{feed}")
}

fn read(bytes: &[u8]) -> Inbox {
    serde_json::from_slice(bytes).unwrap_or_default()
}

/// Instructions after this number.
pub(super) async fn pending(broker: &Broker, feed: &str, after: u64) -> Result<Vec<Pending>, Error> {
    let Some((bytes, _)) = broker.leases.get(&key(feed)).await? else { return Ok(Vec::new()) };
    let waiting = read(&bytes).pending.into_iter();
    Ok(waiting.filter(|pending| pending.number > after).collect())
}

/// Removes instructions up to this number. If others change the value meanwhile, they stay: they are not looked at twice.
pub(super) async fn remove(broker: &Broker, feed: &str, until: u64) -> Result<(), Error> {
    let Some((bytes, revision)) = broker.leases.get(&key(feed)).await? else { return Ok(()) };
    let mut waiting = read(&bytes);
    waiting.pending.retain(|pending| pending.number > until);
    let value = serde_json::to_vec(&waiting).unwrap_or_default().into();
    match broker.leases.update(&key(feed), value, revision).await {
        Ok(_) | Err(Error::Conflict { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Writes down on CONTROL what was done, who asked for it, and when.
pub(super) async fn write_down(
    broker: &Broker,
    tenant: &Tenant,
    feed: &str,
    pending: &Pending,
) -> Result<(), Error> {
    let (operation, detail) = pending.instruction.written();
    let kind = Kind::Operated {
        subject: format!("feed/{feed}"),
        operation: operation.to_string(),
        detail: detail.map(|detail| detail.to_string()).unwrap_or_default(),
    };
    let event = control::Event {
        id: pending.event,
        tenant: tenant.clone(),
        actor: pending.by.clone(),
        txn: clock::new_uuid().to_string(),
        occurred_at: clock::now(),
        reason: String::new(),
        ticket: String::new(),
        kind,
    };
    let append = Append {
        subject: subject::control(tenant, event.kind.name()),
        guard: Guard::None,
        id: event.id,
        payload: control::encode(&event),
        headers: eventlog::Headers::default(),
    };
    broker.control.append(append, Instant::now() + WRITE_TIMEOUT).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::cursor::Cursor;
    use eventlog::memory::{self, Faults};

    #[tokio::test]
    async fn an_instruction_waits_until_it_is_looked_at_and_is_answered_once() {
        let broker = memory::broker(Faults::default());
        let mut cursor = Cursor::create(&broker, "audit", FeedState::default()).await.unwrap();
        let feeds = Feeds::new(broker.clone());
        assert_eq!(feeds.names().await.unwrap(), ["audit"]);
        let asking = tokio::spawn(async move { feeds.instruct("audit", Instruction::Resume, "ada").await });
        let found = loop {
            let found = pending(&broker, "audit", 0).await.unwrap();
            if let Some(found) = found.first() {
                break found.clone();
            }
            tokio::task::yield_now().await;
        };
        assert_eq!((found.number, found.by.as_str()), (1, "ada"));
        cursor.state.answer(found.number, Ok("it goes on".to_string()));
        cursor.save(&broker).await.unwrap();
        remove(&broker, "audit", 1).await.unwrap();
        assert_eq!(asking.await.unwrap().unwrap(), Instructed::Done("it goes on".to_string()));
        assert_eq!(pending(&broker, "audit", 1).await.unwrap(), []);
    }

    #[tokio::test]
    async fn only_so_many_wait() {
        let broker = memory::broker(Faults::default());
        let feeds = Feeds::new(broker);
        for number in 1..=PENDING_MAX {
            let put = feeds.put("audit", Instruction::Resume, "ada").await.unwrap();
            assert_eq!(put, Some(number as u64));
        }
        assert_eq!(feeds.put("audit", Instruction::Resume, "ada").await.unwrap(), None);
    }
}
