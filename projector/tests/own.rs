//! What our own process wrote is shown from its acknowledgement, and the log has the last word on it.

#![cfg(test)]

#[expect(clippy::allow_attributes, reason = "which parts are used differs between the tests that include it")]
#[allow(dead_code, reason = "the other tests use the rest")]
mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{SOON, append, body, config, event, registry, sealed, tenant};
use eventlog::memory::{self, Faults};
use eventlog::{Append, Error as LogError, Guard, Keyring, Log, Message, clock};
use futures::StreamExt;
use futures::stream::BoxStream;
use jiff::{SignedDuration, Timestamp};
use projector::{Announced, Error, Projection};
use proto::sealing::DataKey;
use proto::{Event, Kind, ResourceId, Tenant, subject};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// More events than the tail holds.
const MANY: usize = 17_000;

/// A log that tells its followers only what they may hear, and whose clock can be wrong.
struct Quiet {
    log: Arc<dyn Log>,
    /// Up to here it tells.
    tells: watch::Sender<u64>,
    /// How far the broker's clock is from ours.
    clock: SignedDuration,
    /// Tells another event than it holds at this sequence.
    replaced: Option<u64>,
}

#[async_trait::async_trait]
impl Log for Quiet {
    fn name(&self) -> &str {
        self.log.name()
    }

    async fn append(&self, append: Append, deadline: Instant) -> Result<u64, LogError> {
        self.log.append(append, deadline).await
    }

    async fn append_atomic(&self, appends: Vec<Append>, deadline: Instant) -> Result<Vec<u64>, LogError> {
        self.log.append_atomic(appends, deadline).await
    }

    async fn read(&self, sequence: u64) -> Result<Option<Message>, LogError> {
        self.log.read(sequence).await
    }

    async fn last_on(&self, subject: &str) -> Result<Option<Message>, LogError> {
        self.log.last_on(subject).await
    }

    async fn last_sequence(&self) -> Result<u64, LogError> {
        self.log.last_sequence().await
    }

    fn follow(&self, from: u64) -> BoxStream<'static, Result<Message, LogError>> {
        let (tells, clock, replaced) = (self.tells.subscribe(), self.clock, self.replaced);
        let told = self.log.follow(from).then(move |message| {
            let mut tells = tells.clone();
            async move {
                let mut message = message?;
                let _ = tells.wait_for(|tells| *tells >= message.sequence).await;
                message.time += clock;
                if replaced == Some(message.sequence) {
                    message.id = Some(clock::new_event_id());
                }
                Ok(message)
            }
        });
        told.boxed()
    }

    async fn note(&self, name: &str) -> Result<Option<String>, LogError> {
        self.log.note(name).await
    }

    async fn set_note(&self, name: &str, value: &str) -> Result<(), LogError> {
        self.log.set_note(name, value).await
    }
}

struct World {
    log: Arc<Quiet>,
    keyring: Keyring,
    tenant: Tenant,
    projection: Projection,
    task: tokio::task::JoinHandle<Result<(), Error>>,
    shutdown: CancellationToken,
    folder: tempfile::TempDir,
}

/// A message that is written or about to be.
struct Prepared {
    announced: Announced,
    id: ResourceId,
}

impl World {
    async fn new(clock: SignedDuration, replaced: Option<u64>) -> Self {
        let broker = memory::broker(Faults::default());
        let keyring = Keyring::new(broker.keys.clone(), DataKey::new([1; 32]));
        let log = Arc::new(Quiet { log: broker.identity, tells: watch::Sender::new(0), clock, replaced });
        let folder = tempfile::tempdir().unwrap();
        let projection = open(&folder, log.clone(), &keyring).await;
        let shutdown = CancellationToken::new();
        let (running, stop) = (projection.clone(), shutdown.clone());
        let task = tokio::spawn(async move { running.run(stop).await });
        Self { log, keyring, tenant: tenant("corp"), projection, task, shutdown, folder }
    }

    async fn message(&self, name: &str, continued: bool) -> Prepared {
        let (key_ref, key) = self.keyring.issue(&self.tenant).await.unwrap();
        let id = clock::new_resource_id();
        let kind = Kind::Created { members_added: vec![] };
        let event = Event { key_ref: Some(key_ref), continued, ..event(&self.tenant, "User", id, kind) };
        let body = body(&json!({"userName": name}), None);
        let payload = sealed(&event, &body, &key);
        let key = subject::key_of_id(id);
        Prepared { announced: Announced { event, key, body: Some(Arc::new(body)), payload }, id }
    }

    async fn write(&self, message: &Announced) -> u64 {
        let Announced { event, key, payload, .. } = message;
        let append = append(event, key, Guard::Last(0), payload.clone());
        self.log.append(append, Instant::now() + SOON).await.unwrap()
    }

    /// Writes one of our own, from its announcement to its acknowledgement.
    async fn own(&self, name: &str) -> (ResourceId, u64) {
        let Prepared { announced, id } = self.message(name, false).await;
        let payload = announced.payload.clone();
        let append = append(&announced.event, &announced.key, Guard::Last(0), payload);
        let announcement = self.projection.announce(vec![announced]);
        let sequence = self.log.append(append, Instant::now() + SOON).await.unwrap();
        announcement.stands_at(sequence, clock::now());
        (id, sequence)
    }

    fn shows(&self, id: ResourceId) -> bool {
        self.projection.type_of(&self.tenant, id).is_some()
    }

    async fn told(&self, to: u64) {
        self.log.tells.send_replace(to);
        timeout(SOON, self.projection.wait_until(to, Instant::now() + SOON)).await.unwrap().unwrap();
    }

    async fn created(&self, id: ResourceId) -> Timestamp {
        self.projection.resource(&self.tenant, "User", id).await.unwrap().unwrap().created
    }
}

async fn open(folder: &tempfile::TempDir, log: Arc<Quiet>, keyring: &Keyring) -> Projection {
    Projection::open(config(folder.path(), &[]), log, keyring.clone(), registry()).await.unwrap()
}

#[tokio::test]
async fn it_is_shown_before_the_log_tells_it_and_once() {
    let world = World::new(SignedDuration::ZERO, None).await;
    let (id, sequence) = world.own("ada").await;
    assert!(world.shows(id));
    assert_eq!(world.projection.applied(), sequence);
    let before = world.created(id).await;
    world.told(sequence).await;
    let (next, sequence) = world.own("bob").await;
    world.told(sequence).await;
    assert!(world.shows(next));
    assert_eq!(world.created(id).await, before);
    assert_eq!(world.projection.ids(&world.tenant, "User").len(), 2);
}

#[tokio::test]
async fn what_another_wrote_before_it_comes_first() {
    let world = World::new(SignedDuration::ZERO, None).await;
    let other = world.message("other", false).await;
    let theirs = world.write(&other.announced).await;
    let (id, ours) = world.own("ada").await;
    assert_eq!((theirs, ours), (1, 2));
    assert!(!world.shows(id), "nothing is shown across a gap");
    world.log.tells.send_replace(theirs);
    timeout(SOON, world.projection.wait_until(ours, Instant::now() + SOON)).await.unwrap().unwrap();
    assert!(world.shows(other.id) && world.shows(id), "ours follows at once, though the log did not tell it");
}

#[tokio::test]
async fn an_acknowledgement_that_never_comes_stalls_nothing() {
    let world = World::new(SignedDuration::ZERO, None).await;
    let Prepared { announced, id } = world.message("ada", false).await;
    let sequence = world.write(&announced).await;
    let announcement = world.projection.announce(vec![announced]);
    world.told(sequence).await;
    assert!(world.shows(id));
    // It comes after all.
    announcement.stands_at(sequence, clock::now());
    assert_eq!(world.projection.applied(), sequence);
}

#[tokio::test]
async fn more_is_acknowledged_than_may_wait_for_the_log() {
    let world = World::new(SignedDuration::ZERO, None).await;
    let mut last = (clock::new_resource_id(), 0);
    // None of it can be written before the log tells it, however slow that is.
    for number in 0..MANY {
        last = world.own(&format!("user-{number}")).await;
    }
    assert!(!world.shows(last.0), "so much is not kept");
    world.told(last.1).await;
    assert!(world.shows(last.0));
    world.shutdown.cancel();
    world.task.await.unwrap().unwrap();
    drop(world.projection);
    let again = open(&world.folder, world.log.clone(), &world.keyring).await;
    assert_eq!(again.applied(), last.1);
}

#[tokio::test]
async fn a_command_is_shown_whole() {
    let world = World::new(SignedDuration::ZERO, None).await;
    let (first, second) = (world.message("one", true).await, world.message("two", false).await);
    world.write(&first.announced).await;
    world.write(&second.announced).await;
    world.log.tells.send_replace(1);
    // Long enough for the first to be seen, if it were to be seen.
    let early = world.projection.wait_until(1, Instant::now() + Duration::from_millis(200)).await;
    assert!(early.is_err() && !world.shows(first.id));
    world.told(2).await;
    assert!(world.shows(first.id) && world.shows(second.id));
}

#[tokio::test]
async fn a_clock_that_is_wrong_does_not_count() {
    let ahead = SignedDuration::from_hours(24);
    let world = World::new(ahead, None).await;
    let (id, sequence) = world.own("ada").await;
    let forecast = world.created(id).await;
    world.log.tells.send_replace(sequence);
    let corrected = async {
        while world.created(id).await == forecast {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, corrected).await.unwrap();
    assert!(world.created(id).await.duration_since(forecast) > ahead / 2);
    // From now on the log must tell it first.
    let (next, sequence) = world.own("bob").await;
    assert!(!world.shows(next));
    world.told(sequence).await;
    assert!(world.created(next).await >= world.created(id).await);
}

#[tokio::test]
async fn a_log_that_holds_something_else_ends_it() {
    let world = World::new(SignedDuration::ZERO, Some(1)).await;
    let (_, sequence) = world.own("ada").await;
    world.log.tells.send_replace(sequence);
    let ended = timeout(SOON, world.task).await.unwrap().unwrap();
    assert!(matches!(ended, Err(Error::Replaced { sequence: 1 })), "{ended:?}");
}

#[tokio::test]
async fn only_what_the_log_told_is_stored() {
    let world = World::new(SignedDuration::ZERO, None).await;
    let (_, first) = world.own("ada").await;
    // What another wrote is shown only once the log told it, and so told what stands before it.
    let told = world.message("other", false).await;
    let told = world.write(&told.announced).await;
    world.told(told).await;
    assert_eq!(told, first + 1);
    let (id, _) = world.own("bob").await;
    assert!(world.shows(id));
    world.shutdown.cancel();
    timeout(SOON, world.task).await.unwrap().unwrap().unwrap();
    let World { log, keyring, folder, projection, .. } = world;
    drop(projection);
    let again = open(&folder, log, &keyring).await;
    assert_eq!(again.applied(), told);
}
