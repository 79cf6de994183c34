//! The broker goes away for a while: who can wait is served once, who cannot is told that nothing was written, and that
//! holds for ever after.

#![cfg(test)]

#[expect(clippy::allow_attributes, reason = "which parts are used differs between the tests that include it")]
#[allow(dead_code, reason = "the other tests use the rest")]
mod common;
#[path = "common/wire.rs"]
#[expect(clippy::allow_attributes, reason = "which parts are used differs between the tests that include it")]
#[allow(dead_code, reason = "the other tests use the rest")]
mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use eventlog::{Append, Broker, Error, Guard, Log, clock, nats};
use proto::EventId;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use common::House;
use wire::Wire;

const SOON: Duration = Duration::from_secs(60);
/// How long the broker is away.
const AWAY: Duration = Duration::from_secs(10);
/// How long those have who cannot wait for it.
const SHORT: Duration = Duration::from_secs(3);

fn write(subject: String) -> Append {
    Append {
        subject: format!("identity.corp.User.{subject}"),
        guard: Guard::Last(0),
        id: clock::new_event_id(),
        payload: Bytes::from_static(b"x"),
        headers: eventlog::Headers::default(),
    }
}

/// What somebody wanted to write, and what came of it.
struct Told {
    ids: Vec<EventId>,
    result: Result<u64, Error>,
}

/// Starts this many writers, every second with two messages in one batch.
fn writers(broker: &Broker, name: &str, count: usize, time: Duration) -> JoinSet<Told> {
    let mut writers = JoinSet::new();
    for number in 0..count {
        let log: Arc<dyn Log> = broker.identity.clone();
        let mut appends = vec![write(format!("{name}-{number}"))];
        if number % 2 == 1 {
            appends.push(write(format!("{name}-{number}-too")));
        }
        writers.spawn(async move {
            let ids = appends.iter().map(|append| append.id).collect();
            let deadline = Instant::now() + time;
            let result = match appends.as_slice() {
                [only] => log.append(only.clone(), deadline).await,
                _ => log.append_atomic(appends, deadline).await.map(|sequences| sequences[0]),
            };
            Told { ids, result }
        });
    }
    writers
}

async fn standing(broker: &Broker) -> BTreeMap<EventId, Vec<u64>> {
    let mut found: BTreeMap<EventId, Vec<u64>> = BTreeMap::new();
    // A broker that was killed a moment ago may not answer at once.
    let begun = Instant::now();
    let last = loop {
        match broker.identity.last_sequence().await {
            Ok(last) => break last,
            Err(error) => assert!(begun.elapsed() < SOON, "{error}"),
        }
    };
    for sequence in 1..=last {
        let id = broker.identity.read(sequence).await.unwrap().unwrap().id.unwrap();
        found.entry(id).or_default().push(sequence);
    }
    found
}

/// What was told is what stands: once and whole, or not at all.
fn agree(told: &[Told], standing: &BTreeMap<EventId, Vec<u64>>) {
    for Told { ids, result } in told {
        let found: Vec<Vec<u64>> =
            ids.iter().map(|id| standing.get(id).cloned().unwrap_or_default()).collect();
        let once: Vec<u64> = found.iter().flatten().copied().collect();
        match result {
            Ok(first) => {
                let expected: Vec<u64> = (*first..first + ids.len() as u64).collect();
                assert_eq!(once, expected);
            }
            Err(Error::Unknown { .. }) => assert!(once.is_empty() || once.len() == ids.len(), "{found:?}"),
            Err(error) => assert!(once.is_empty(), "{error}: {found:?}"),
        }
        assert!(found.iter().all(|sequences| sequences.len() <= 1), "{found:?}");
    }
}

/// Sends a signal to the broker's process.
fn signal(house: &House, signal: libc::c_int) {
    let pid = libc::pid_t::try_from(house.server.pid()).unwrap();
    // SAFETY: a signal to a child of ours, by its id.
    #[expect(unsafe_code, reason = "the standard library can only kill what it started itself")]
    unsafe {
        libc::kill(pid, signal);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_cut_off_for_ten_seconds() {
    let house = House::start();
    let wire = Wire::to(house.server.url().rsplit_once('@').unwrap().1.parse().unwrap());
    let config = nats::Config { url: wire.url(house.server.url()), ..house.config() };
    let ours = nats::connect(&config).await.unwrap();
    let direct = house.broker().await;
    wire.go_away();
    let begun = Instant::now();
    while ours.reachable() {
        assert!(begun.elapsed() < SOON, "the cut is not noticed");
        sleep(Duration::from_millis(10)).await;
    }
    let patient = writers(&ours, "patient", 40, SOON);
    let hasty = writers(&ours, "hasty", 40, SHORT).join_all().await;
    for told in &hasty {
        assert!(matches!(told.result, Err(Error::Unavailable { .. })), "{:?}", told.result);
    }
    sleep(AWAY.saturating_sub(begun.elapsed())).await;
    wire.come_back();
    let patient = patient.join_all().await;
    for told in &patient {
        assert!(told.result.is_ok(), "{:?}", told.result);
    }
    // What comes after everything that the client may have kept.
    ours.identity.append(write("after".to_string()), Instant::now() + SOON).await.unwrap();
    let standing = standing(&direct).await;
    agree(&patient, &standing);
    agree(&hasty, &standing);
}

/// Stopped, not dead: the connection stays, and what was sent waits in it.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_stopped_for_ten_seconds() {
    let house = House::start();
    let ours = house.broker().await;
    ours.identity.append(write("before".to_string()), Instant::now() + SOON).await.unwrap();
    signal(&house, libc::SIGSTOP);
    let begun = Instant::now();
    let patient = writers(&ours, "patient", 20, SOON);
    let hasty = writers(&ours, "hasty", 20, SHORT).join_all().await;
    for told in &hasty {
        let result = &told.result;
        assert!(matches!(result, Err(Error::Unknown { .. } | Error::Unavailable { .. })), "{result:?}");
    }
    sleep(AWAY.saturating_sub(begun.elapsed())).await;
    signal(&house, libc::SIGCONT);
    let patient = patient.join_all().await;
    for told in &patient {
        assert!(told.result.is_ok(), "{:?}", told.result);
    }
    ours.identity.append(write("after".to_string()), Instant::now() + SOON).await.unwrap();
    let standing = standing(&ours).await;
    agree(&patient, &standing);
    agree(&hasty, &standing);
}

/// Killed and started again while batches are under way.
#[tokio::test(flavor = "multi_thread")]
async fn batches_are_whole_when_the_broker_is_killed() {
    let house = House::start();
    let ours = house.broker().await;
    let mut told = Vec::new();
    for round in 0..4 {
        let mut running = writers(&ours, &format!("round-{round}"), 60, SOON);
        told.extend(running.join_next().await.map(Result::unwrap));
        signal(&house, libc::SIGKILL);
        told.extend(running.join_all().await);
    }
    for told in &told {
        assert!(told.result.is_ok(), "{:?}", told.result);
    }
    assert_eq!(told.len(), 240);
    agree(&told, &standing(&ours).await);
}
