//! How far a feed is: its cursor with what is held, kept as one value in the bucket LEASES. Every change is compared with
//! what stood there before, so whoever lost the lease can change nothing any more.

use eventlog::{Broker, Error};
use jiff::Timestamp;
use proto::{Position, Tenant};
use serde::{Deserialize, Serialize};

use super::queue::Held;
use crate::watermark::{self, Watermark};

/// Answers to instructions that are kept.
const ANSWERS_MAX: usize = 32;

/// How far a feed is.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct FeedState {
    /// Up to where everything was taken or is held.
    #[serde(flatten)]
    pub(crate) watermark: Watermark,
    /// Whose people it tells of.
    #[serde(default)]
    pub tenant: Option<Tenant>,
    /// What it does before it goes on.
    #[serde(default)]
    pub work: Option<Work>,
    /// Resources whose next event the subscriber refuses.
    #[serde(default)]
    pub held: Vec<Held>,
    /// Why it goes on only when an operator says so.
    #[serde(default)]
    pub stopped: Option<Stopped>,
    /// Why nothing is delivered at the moment.
    #[serde(default)]
    pub resting: Option<String>,
    /// The last instruction that was looked at.
    #[serde(default)]
    pub(crate) instructed: u64,
    /// What came of the last ones.
    #[serde(default)]
    pub(crate) answers: Vec<Answered>,
}

/// Something that is delivered before the feed goes on.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Work {
    /// Everything that there is.
    Snapshot {
        /// Its id.
        id: String,
        /// As of which sequence; nothing while it has not begun.
        position: Option<u64>,
        /// When it was begun.
        time: Timestamp,
        /// How many resources were taken or are held.
        done: u64,
    },
    /// Part of the log once more.
    Replay {
        /// Its id.
        id: String,
        /// The first sequence.
        first: u64,
        /// The last one.
        last: u64,
        /// The last one that was taken or is held.
        done: u64,
    },
}

/// Why a feed goes on only when an operator says so.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Stopped {
    /// Why.
    pub why: String,
    /// Since when.
    pub since: Timestamp,
}

/// What came of an instruction.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Answered {
    pub(crate) number: u64,
    /// What was done, or why nothing was.
    pub(crate) outcome: Result<String, String>,
}

impl FeedState {
    /// The last event before which nothing is left to deliver.
    pub fn sequence(&self) -> u64 {
        self.watermark.position.map_or(0, |Position { sequence, .. }| sequence)
    }

    /// How many events are held.
    pub(crate) fn held_count(&self) -> usize {
        self.held.iter().map(|held| held.waiting.len()).sum()
    }

    /// Remembers what came of an instruction.
    pub(crate) fn answer(&mut self, number: u64, outcome: Result<String, String>) {
        self.instructed = self.instructed.max(number);
        self.answers.push(Answered { number, outcome });
        let surplus = self.answers.len().saturating_sub(ANSWERS_MAX);
        self.answers.drain(..surplus);
    }
}

/// A state that stands in the bucket, and its revision.
pub(super) struct Cursor {
    pub(super) state: FeedState,
    saved: FeedState,
    key: String,
    revision: u64,
}

/// Reads the state of a feed, which is named without `feed.`; nothing when it never ran.
pub(super) async fn read(broker: &Broker, feed: &str) -> Result<Option<(FeedState, u64)>, Error> {
    let key = key(feed);
    let Some((bytes, revision)) = broker.leases.get(&key).await? else { return Ok(None) };
    match serde_json::from_slice(&bytes) {
        Ok(state) => Ok(Some((state, revision))),
        // Beginning anew, it would tell everything once more or leave something out.
        Err(error) => Err(Error::Damaged {
            doing: format!("reading {key} in the bucket LEASES"),
            reason: error.to_string(),
        }),
    }
}

/// Where the state of a feed stands.
pub(super) fn key(feed: &str) -> String {
    watermark::key(&format!("feed.{feed}"))
}

impl Cursor {
    /// A state that was read.
    pub(super) fn new(feed: &str, state: FeedState, revision: u64) -> Self {
        Self { saved: state.clone(), state, key: key(feed), revision }
    }

    /// The first state of a feed.
    pub(super) async fn create(broker: &Broker, feed: &str, state: FeedState) -> Result<Self, Error> {
        let key = key(feed);
        let revision = broker.leases.create(&key, value(&state)).await?;
        Ok(Self { saved: state.clone(), state, key, revision })
    }

    /// Writes what changed. A conflict means that another process works for the feed now.
    pub(super) async fn save(&mut self, broker: &Broker) -> Result<(), Error> {
        if self.state == self.saved {
            return Ok(());
        }
        self.revision = broker.leases.update(&self.key, value(&self.state), self.revision).await?;
        self.saved = self.state.clone();
        Ok(())
    }
}

fn value(state: &FeedState) -> bytes::Bytes {
    serde_json::to_vec(state).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::queue::{Origin, Waiting};
    use eventlog::memory::{self, Faults};

    fn state() -> FeedState {
        let held = Held {
            resource_type: "User".to_string(),
            resource_id: "01890a5d-ac96-774b-bcce-b302099a8058".parse().unwrap(),
            event: "e.0".to_string(),
            event_type: "user.created".to_string(),
            reason: "the subscriber answers 422".to_string(),
            attempts: 8,
            since: Timestamp::UNIX_EPOCH,
            redriving: false,
            waiting: vec![Waiting { origin: Origin::Event { sequence: 7, replay: None }, next: 0 }],
        };
        let work = Work::Replay { id: "r".to_string(), first: 1, last: 9, done: 3 };
        FeedState { held: vec![held], work: Some(work), ..FeedState::default() }
    }

    #[tokio::test]
    async fn it_is_read_as_it_was_written_and_only_its_owner_can_write() {
        let broker = memory::broker(Faults::default());
        assert_eq!(read(&broker, "audit").await.unwrap(), None);
        let mut cursor = Cursor::create(&broker, "audit", state()).await.unwrap();
        let (found, revision) = read(&broker, "audit").await.unwrap().unwrap();
        assert_eq!(found, state());
        let mut other = Cursor::new("audit", found, revision);
        other.state.answer(1, Ok("done".to_string()));
        other.save(&broker).await.unwrap();
        cursor.state.held.clear();
        assert!(matches!(cursor.save(&broker).await, Err(Error::Conflict { .. })));
    }

    #[tokio::test]
    async fn a_cursor_of_an_older_version_is_understood() {
        let broker = memory::broker(Faults::default());
        let old = r#"{"position":{"sequence":42,"event":"01890a5d-ac96-774b-bcce-b302099a8057"},"configuration_hash":"x","timeline":null}"#;
        broker.leases.create(&key("audit"), old.into()).await.unwrap();
        let (found, _) = read(&broker, "audit").await.unwrap().unwrap();
        assert_eq!((found.sequence(), found.held.len(), found.work), (42, 0, None));
    }

    #[test]
    fn only_the_last_answers_are_kept() {
        let mut state = FeedState::default();
        for number in 1..=40 {
            state.answer(number, Err(String::new()));
        }
        assert_eq!((state.answers.len(), state.answers[0].number, state.instructed), (ANSWERS_MAX, 9, 40));
    }
}
