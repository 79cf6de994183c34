//! What a person or a guard rail has stopped at an app: one value per app in the bucket LEASES, changed by comparing and
//! setting. Whoever works for the app reads it again and again and obeys. Every change stands in CONTROL, too.

use std::collections::{BTreeMap, BTreeSet};

use eventlog::{Append, Broker, Bucket, Guard, clock};
use jiff::Timestamp;
use proto::control::{self, Kind};
use proto::{ResourceId, Tenant, subject};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::time::Instant;

use crate::place::Place;
use crate::rails::{Limit, Operation};
use crate::rollout::Rollout;

/// How often a change is tried again because somebody else changed the value.
const ATTEMPTS_MAX: u32 = 32;
/// How long writing a change down may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How many of those that wait are named.
pub(crate) const EXAMPLES_MAX: usize = 10;
/// How many authors are remembered.
const AUTHORS_MAX: usize = 100;

/// What a person said.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Said {
    /// Who.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// Why.
    #[serde(default)]
    pub why: String,
}

impl Said {
    /// Said now.
    pub fn now(by: &str, why: &str) -> Self {
        Self { by: by.trim().to_string(), at: clock::now(), why: why.trim().to_string() }
    }
}

/// A guard rail holds an operation.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tripped {
    /// Since when.
    pub at: Timestamp,
    /// How many there were, or would have been.
    pub counted: usize,
    /// Of so many accounts.
    pub of: usize,
    /// What was exceeded.
    pub limit: Limit,
    /// What was planned with then.
    pub configuration_hash: String,
    /// Whether it was foreseen of a whole configuration, before its first call.
    #[serde(default)]
    pub foreseen: bool,
    /// How many wait.
    #[serde(default)]
    pub waiting: usize,
    /// Some of them.
    #[serde(default)]
    pub examples: Vec<ResourceId>,
    /// Who caused it, as far as that is known: `SOURCE/ACTOR`.
    #[serde(default)]
    pub authors: BTreeSet<String>,
}

/// What waited goes on.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Released {
    /// Who, when and why.
    #[serde(flatten)]
    pub said: Said,
    /// So many go without being counted.
    pub allowance: usize,
    /// The configuration that was foreseen.
    pub configuration_hash: String,
}

/// Everything that is stopped at an app.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Valve {
    /// Nothing is called.
    pub paused: Option<Said>,
    /// What guard rails hold.
    pub tripped: BTreeMap<Operation, Tripped>,
    /// What was released last.
    pub released: BTreeMap<Operation, Released>,
    /// The configuration that the app was first filled with.
    #[serde(rename = "filled_with", alias = "filling", skip_serializing_if = "Option::is_none")]
    pub filling: Option<String>,
    /// The changed configuration that is carried out by stages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// Who passes everything that is stopped.
    pub passes: BTreeMap<ResourceId, Said>,
    /// Where its accounts are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

/// Who stops an app when no person does.
pub(crate) const OURSELVES: &str = "rollcall";

/// A change that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nobody says who wants it.
    #[error("say who you are: nothing is stopped or let go on by nobody")]
    Unnamed,
    /// It is paused already.
    #[error("it is paused already, by {} since {}", .0.by, .0.at)]
    Paused(Said),
    /// It is not paused.
    #[error("it is not paused")]
    NotPaused,
    /// No guard rail holds anything, or not this operation, and no rollout stopped.
    #[error(
        "no guard rail holds anything there, and no rollout stopped; `rollcall app show` says what waits and why"
    )]
    NotTripped,
    /// Neither the directory nor the app knows it.
    #[error(
        "neither the directory nor the app knows it; name somebody by an id, a userName or a group's displayName"
    )]
    Unknown,
    /// Nothing that was meant is held.
    #[error("nothing of that is held; `rollcall app held` shows what is")]
    NotHeld,
    /// Whoever caused it wants to release it.
    #[error("{0} caused it: somebody else must release it")]
    OwnCause(String),
    /// Nobody has said yet whether its accounts are where the configuration names it.
    #[error("{0}")]
    Moved(String),
}

impl Valve {
    /// Stops every call.
    pub fn pause(&mut self, said: Said) -> Result<(), Refusal> {
        named(&said)?;
        match &self.paused {
            Some(paused) => Err(Refusal::Paused(paused.clone())),
            None => {
                self.paused = Some(said);
                Ok(())
            }
        }
    }

    /// Calls are made again. Of an app at another address this says that its accounts are there, unless another pause ends first.
    pub fn resume(&mut self, said: &Said) -> Result<Said, Refusal> {
        named(said)?;
        let paused = self.paused.take().ok_or(Refusal::NotPaused)?;
        if let Some(why) = self.question() {
            if paused.by == OURSELVES {
                let moved_to = self.place.take().and_then(|place| place.moved_to);
                self.place = moved_to.map(|url| Place::new(&url));
            } else {
                self.paused = Some(Said::now(OURSELVES, &why));
            }
        }
        Ok(paused)
    }

    /// A guard rail holds an operation from now on; the first reason stays.
    pub(crate) fn trip(&mut self, operation: Operation, tripped: Tripped) -> bool {
        if self.tripped.contains_key(&operation) {
            return false;
        }
        self.tripped.insert(operation, tripped);
        true
    }

    /// What was foreseen of another configuration is not to be done any more.
    pub(crate) fn take_back(&mut self, configuration_hash: &str) -> Vec<Operation> {
        let gone = |tripped: &Tripped| tripped.foreseen && tripped.configuration_hash != configuration_hash;
        let operations: Vec<Operation> = self
            .tripped
            .iter()
            .filter(|(_, tripped)| gone(tripped))
            .map(|(operation, _)| *operation)
            .collect();
        self.tripped.retain(|_, tripped| !gone(tripped));
        operations
    }

    /// Lets go on what waits, of one operation and those that are counted with it, or all. Whoever caused it cannot.
    pub fn release(
        &mut self,
        only: Option<Operation>,
        said: &Said,
    ) -> Result<BTreeMap<Operation, Released>, Refusal> {
        named(said)?;
        let wanted = |operation: &Operation| {
            only.is_none_or(|only| only.counted_together().any(|together| together == *operation))
        };
        let tripped: Vec<(Operation, Tripped)> = self
            .tripped
            .iter()
            .filter(|(operation, _)| wanted(operation))
            .map(|(operation, tripped)| (*operation, tripped.clone()))
            .collect();
        if tripped.is_empty() {
            return Err(Refusal::NotTripped);
        }
        for (_, tripped) in &tripped {
            if let Some(author) = tripped.authors.iter().find(|author| is_same(author, &said.by)) {
                return Err(Refusal::OwnCause(author.clone()));
            }
        }
        let mut released = BTreeMap::new();
        for (operation, tripped) in tripped {
            let one = Released {
                said: said.clone(),
                allowance: tripped.waiting,
                configuration_hash: tripped.configuration_hash,
            };
            self.tripped.remove(&operation);
            released.insert(operation, one.clone());
            self.released.insert(operation, one);
        }
        Ok(released)
    }

    /// Lets a rollout go on that stopped; says whether one had. Whoever had the configuration applied cannot.
    pub fn roll_on(&mut self, said: &Said) -> Result<bool, Refusal> {
        named(said)?;
        let stopped = self.rollout.as_ref().filter(|rollout| rollout.stopped.is_some());
        if let Some(author) = stopped.and_then(|rollout| rollout.author.as_ref())
            && is_same(author, &said.by)
        {
            return Err(Refusal::OwnCause(author.clone()));
        }
        Ok(self.rollout.as_mut().is_some_and(|rollout| rollout.release(said)))
    }

    /// Lets one person's work pass whatever is stopped, once it is known that the account is that person's.
    pub fn pass(&mut self, id: ResourceId, said: Said) -> Result<(), Refusal> {
        named(&said)?;
        self.passes.insert(id, said);
        Ok(())
    }

    /// Says no as long as a person must say where its accounts are.
    pub(crate) fn is_settled(&self) -> Result<(), Refusal> {
        self.question().map_or(Ok(()), |why| Err(Refusal::Moved(why)))
    }
}

fn named(said: &Said) -> Result<(), Refusal> {
    if said.by.is_empty() { Err(Refusal::Unnamed) } else { Ok(()) }
}

/// Whether a person's name is that of an author, `SOURCE/ACTOR`, or of one of its halves.
fn is_same(author: &str, name: &str) -> bool {
    let (source, actor) = author.split_once('/').unwrap_or((author, author));
    [author, source, actor].iter().any(|part| !part.is_empty() && part.eq_ignore_ascii_case(name))
}

impl Tripped {
    /// Remembers who caused it.
    pub(crate) fn caused_by<'a>(&mut self, authors: impl Iterator<Item = &'a String>) {
        for author in authors {
            if self.authors.len() < AUTHORS_MAX {
                self.authors.insert(author.clone());
            }
        }
    }
}

fn key(app: &str) -> String {
    format!("valve.{app}")
}

/// Reads an app's value. One that cannot be read stops everything: nobody knows what was stopped.
pub(crate) async fn load(bucket: &dyn Bucket, app: &str) -> Result<Valve, eventlog::Error> {
    Ok(read(bucket, app).await?.0)
}

async fn read(bucket: &dyn Bucket, app: &str) -> Result<(Valve, Option<u64>), eventlog::Error> {
    let Some((bytes, revision)) = bucket.get(&key(app)).await? else { return Ok((Valve::default(), None)) };
    let valve = serde_json::from_slice(&bytes).map_err(|error| eventlog::Error::Damaged {
        doing: format!("reading valve.{app} of the bucket LEASES"),
        reason: error.to_string(),
    })?;
    Ok((valve, Some(revision)))
}

/// Changes an app's value; what the change says is decided on the value that it replaces.
pub(crate) async fn change<T>(
    bucket: &dyn Bucket,
    app: &str,
    change: impl Fn(&mut Valve) -> Result<T, Refusal>,
) -> Result<Result<(Valve, T), Refusal>, eventlog::Error> {
    for _ in 0..ATTEMPTS_MAX {
        let (before, revision) = read(bucket, app).await?;
        let mut valve = before.clone();
        let said = match change(&mut valve) {
            Ok(said) => said,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if valve == before {
            return Ok(Ok((valve, said)));
        }
        let value = serde_json::to_vec(&valve).unwrap_or_default();
        let written = match revision {
            None => bucket.create(&key(app), value.into()).await,
            Some(revision) => bucket.update(&key(app), value.into(), revision).await,
        };
        match written {
            Ok(_) => return Ok(Ok((valve, said))),
            Err(eventlog::Error::Conflict { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Err(eventlog::Error::Conflict { at: None })
}

/// What is written down in CONTROL.
pub(crate) struct Record<'a> {
    pub(crate) tenant: &'a Tenant,
    pub(crate) app: &'a str,
    pub(crate) actor: &'a str,
    pub(crate) why: &'a str,
    pub(crate) operation: &'a str,
    pub(crate) detail: serde_json::Value,
}

/// Writes down what was stopped, let go on, or asked for.
pub(crate) async fn record(broker: &Broker, record: Record<'_>) -> Result<(), eventlog::Error> {
    let kind = Kind::Operated {
        subject: format!("app/{}", record.app),
        operation: record.operation.to_string(),
        detail: if record.detail.is_null() { String::new() } else { record.detail.to_string() },
    };
    let event = control::Event {
        id: clock::new_event_id(),
        tenant: record.tenant.clone(),
        actor: record.actor.to_string(),
        txn: clock::new_uuid().to_string(),
        occurred_at: clock::now(),
        reason: record.why.to_string(),
        ticket: String::new(),
        kind,
    };
    let append = Append {
        subject: subject::control(record.tenant, event.kind.name()),
        guard: Guard::None,
        id: event.id,
        payload: control::encode(&event),
        headers: eventlog::Headers::default(),
    };
    broker.control.append(append, Instant::now() + WRITE_TIMEOUT).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use eventlog::memory;

    fn said(by: &str) -> Said {
        Said { by: by.to_string(), at: Timestamp::UNIX_EPOCH, why: String::new() }
    }

    fn tripped(authors: &[&str]) -> Tripped {
        Tripped {
            at: Timestamp::UNIX_EPOCH,
            counted: 21,
            of: 99,
            limit: Limit { more_than: None, percent: Some(20) },
            configuration_hash: "hash".to_string(),
            foreseen: false,
            waiting: 40,
            examples: Vec::new(),
            authors: authors.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn pausing_needs_a_name_and_happens_once() {
        let mut valve = Valve::default();
        assert_eq!(valve.pause(said("")), Err(Refusal::Unnamed));
        assert_eq!(valve.resume(&said("ann")), Err(Refusal::NotPaused));
        assert_eq!(valve.pause(said("ann")), Ok(()));
        assert_eq!(valve.pause(said("bob")), Err(Refusal::Paused(said("ann"))));
        assert_eq!(valve.resume(&said("bob")), Ok(said("ann")));
    }

    #[test]
    fn whoever_caused_it_cannot_release_it() {
        let mut valve = Valve::default();
        assert_eq!(valve.release(None, &said("ann")), Err(Refusal::NotTripped));
        assert!(valve.trip(Operation::Delete, tripped(&["hr/k1"])));
        assert!(!valve.trip(Operation::Delete, tripped(&[])), "the first reason stays");
        for name in ["hr", "K1", "hr/k1"] {
            assert_eq!(
                valve.release(None, &said(name)),
                Err(Refusal::OwnCause("hr/k1".to_string())),
                "{name}"
            );
        }
        assert_eq!(valve.release(Some(Operation::Create), &said("ann")), Err(Refusal::NotTripped));
        let released = valve.release(Some(Operation::Deactivate), &said("ann")).unwrap();
        assert_eq!(released[&Operation::Delete].allowance, 40);
        assert!(valve.tripped.is_empty() && valve.released.contains_key(&Operation::Delete));
    }

    #[test]
    fn whoever_had_a_configuration_applied_cannot_let_its_rollout_go_on() {
        let config = crate::rollout::RolloutConfig::default();
        let id = |number: u8| format!("01890a5d-ac96-774b-bcce-b302099a80{number:02x}").parse().unwrap();
        let all = (1..9).map(|number| (u64::from(number), id(number))).collect();
        let begun = Rollout::begin("hash", "before", &config, &all, Timestamp::UNIX_EPOCH);
        let mut rollout = begun.unwrap();
        rollout.author = Some("ann".to_string());
        let mut valve = Valve { rollout: Some(rollout), ..Valve::default() };
        assert_eq!(valve.roll_on(&said("ann")), Ok(false), "it has not stopped");
        let failed = crate::rollout::Failed { at: Timestamp::UNIX_EPOCH, id: id(1), why: "400".to_string() };
        valve.rollout.as_mut().unwrap().stopped = Some(failed);
        assert_eq!(valve.roll_on(&said("Ann")), Err(Refusal::OwnCause("ann".to_string())));
        assert_eq!(valve.roll_on(&said("bob")), Ok(true));
    }

    #[test]
    fn only_what_was_foreseen_of_another_configuration_is_taken_back() {
        let mut valve = Valve::default();
        valve.trip(Operation::UnaskedCreate, Tripped { foreseen: true, ..tripped(&[]) });
        valve.trip(Operation::Delete, tripped(&[]));
        assert_eq!(valve.take_back("hash"), []);
        assert_eq!(valve.take_back("other"), [Operation::UnaskedCreate]);
        assert!(valve.tripped.contains_key(&Operation::Delete));
    }

    #[tokio::test]
    async fn changes_of_two_are_both_kept_and_read_back() {
        let broker = memory::broker(memory::Faults::default());
        let bucket = &*broker.leases;
        let pause = |valve: &mut Valve| valve.pause(said("ann"));
        assert!(change(bucket, "app", pause).await.unwrap().is_ok());
        assert_eq!(change(bucket, "app", pause).await.unwrap(), Err(Refusal::Paused(said("ann"))));
        let trip = |valve: &mut Valve| Ok(valve.trip(Operation::Delete, tripped(&["hr/k1"])));
        let (first, second) = tokio::join!(change(bucket, "app", trip), change(bucket, "app", trip));
        let done = [first.unwrap().unwrap().1, second.unwrap().unwrap().1];
        assert_eq!(done.iter().filter(|done| **done).count(), 1, "one of two wins");
        let valve = load(bucket, "app").await.unwrap();
        assert!(valve.paused.is_some() && valve.tripped[&Operation::Delete] == tripped(&["hr/k1"]));
        assert_eq!(load(bucket, "other").await.unwrap(), Valve::default());
    }
}
