//! One contract, every log: the same suite on the log in memory, on the faulty log, and on a real server.

#![cfg(test)]

#[expect(clippy::allow_attributes, reason = "which parts are used differs between the tests that include it")]
#[allow(dead_code, reason = "the other tests use the rest")]
mod common;

use std::collections::BTreeSet;
use std::io::Cursor;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use eventlog::memory::Faults;
use eventlog::{Append, Broker, Error, Guard, Keyring, Log, clock, memory};
use futures::StreamExt;
use proto::sealing::DataKey;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::time::{Instant, timeout};

use common::House;

const SOON: Duration = Duration::from_secs(30);

fn deadline() -> Instant {
    Instant::now() + SOON
}

fn append(subject: &str, guard: Guard) -> Append {
    Append {
        subject: format!("identity.corp.User.{subject}"),
        guard,
        id: clock::new_event_id(),
        payload: Bytes::from(format!("payload of {subject}")),
        headers: eventlog::Headers::default(),
    }
}

async fn guards_decide(log: &dyn Log) {
    let first = log.append(append("a", Guard::Last(0)), deadline()).await.unwrap();
    assert!(matches!(log.append(append("a", Guard::Last(0)), deadline()).await, Err(Error::Conflict { .. })));
    let second = log.append(append("a", Guard::Last(first)), deadline()).await.unwrap();
    assert!(second > first);
    assert!(matches!(
        log.append(append("a", Guard::Last(first)), deadline()).await,
        Err(Error::Conflict { .. })
    ));
    log.append(append("a", Guard::None), deadline()).await.unwrap();
    assert!(matches!(
        log.append(append("a", Guard::Last(second)), deadline()).await,
        Err(Error::Conflict { .. })
    ));
}

/// What a writer does whose acknowledgement was lost.
async fn asking_again_is_harmless(log: &dyn Log) {
    let create = append("b", Guard::Last(0));
    let sequence = log.append(create.clone(), deadline()).await.unwrap();
    assert_eq!(log.append(create.clone(), deadline()).await.unwrap(), sequence);
    // Even after somebody else wrote on the subject.
    log.append(append("b", Guard::Last(sequence)), deadline()).await.unwrap();
    assert_eq!(log.append(create, deadline()).await.unwrap(), sequence);
    let free = append("b", Guard::None);
    let sequence = log.append(free.clone(), deadline()).await.unwrap();
    assert_eq!(log.append(free, deadline()).await.unwrap(), sequence);
}

async fn batches_are_whole(log: &dyn Log) {
    let pair = vec![append("c", Guard::Last(0)), append("d", Guard::Last(0))];
    let sequences = log.append_atomic(pair.clone(), deadline()).await.unwrap();
    assert_eq!(sequences[1], sequences[0] + 1);
    assert_eq!(log.append_atomic(pair.clone(), deadline()).await.unwrap(), sequences);
    let before = log.last_sequence().await.unwrap();
    let half = vec![append("e", Guard::Last(0)), append("d", Guard::Last(0))];
    assert!(matches!(log.append_atomic(half, deadline()).await, Err(Error::Conflict { .. })));
    assert_eq!(log.last_sequence().await.unwrap(), before);
    assert!(log.last_on("identity.corp.User.e").await.unwrap().is_none());
}

async fn racing_creates_have_one_winner(broker: &Broker) {
    let racers: Vec<_> = (0..16)
        .map(|_| {
            let log = broker.identity.clone();
            tokio::spawn(async move { log.append(append("race", Guard::Last(0)), deadline()).await })
        })
        .collect();
    let mut won = 0;
    for racer in racers {
        match racer.await.unwrap() {
            Ok(_) => won += 1,
            Err(error) => assert!(matches!(error, Error::Conflict { .. }), "{error}"),
        }
    }
    assert_eq!(won, 1);
}

async fn reading_finds_what_was_written(log: &dyn Log) {
    let write = append("f", Guard::Last(0));
    let sequence = log.append(write.clone(), deadline()).await.unwrap();
    let read = log.read(sequence).await.unwrap().unwrap();
    assert_eq!((&read.subject, read.id, &read.payload), (&write.subject, Some(write.id), &write.payload));
    assert_eq!(log.last_on(&write.subject).await.unwrap().as_ref(), Some(&read));
    assert_eq!(log.last_sequence().await.unwrap(), sequence);
    assert!(log.read(sequence + 1).await.unwrap().is_none());
    assert!(log.last_on("identity.corp.User.nobody").await.unwrap().is_none());
    assert_eq!(log.next_on(&write.subject, 0).await.unwrap().as_ref(), Some(&read));
    assert_eq!(log.next_on(&write.subject, sequence).await.unwrap().as_ref(), Some(&read));
    assert!(log.next_on(&write.subject, sequence + 1).await.unwrap().is_none());
    assert_eq!(log.next_on("identity.*.User.f", 1).await.unwrap().as_ref(), Some(&read));
    assert!(log.next_on("identity.corp.User.nobody", 1).await.unwrap().is_none());
    assert!(log.some_on("identity.corp.User.nobody", 1).await.unwrap().is_empty());
    assert_eq!(log.sequence_at("2020-01-01T00:00:00Z".parse().unwrap()).await.unwrap(), 1);
    assert_eq!(log.sequence_at("2090-01-01T00:00:00Z".parse().unwrap()).await.unwrap(), sequence + 1);
    log.set_note("colour", "blue").await.unwrap();
    assert_eq!(log.note("colour").await.unwrap().as_deref(), Some("blue"));
    assert_eq!(log.note("size").await.unwrap(), None);
}

/// One after the other, as many at once as there may be.
async fn all_on_a_subject_are_told(log: &dyn Log) {
    let (mut written, mut last) = (Vec::new(), 0);
    for number in 0..1_200 {
        let other = append(&format!("some-other-{}", number % 7), Guard::None);
        log.append(other, deadline()).await.unwrap();
        let write = Append { id: clock::new_event_id(), ..append("some-this", Guard::Last(last)) };
        last = log.append(write.clone(), deadline()).await.unwrap();
        written.push((last, Some(write.id)));
    }
    let subject = "identity.corp.User.some-this";
    for (pattern, first) in [(subject, 0), ("identity.*.User.some-this", 1), (subject, 700)] {
        let (mut told, mut from) = (Vec::new(), written[first].0);
        loop {
            let some = log.some_on(pattern, from).await.unwrap();
            let Some(last) = some.last() else { break };
            from = last.sequence + 1;
            told.extend(some.into_iter().map(|message| {
                assert_eq!(message.subject, subject);
                (message.sequence, message.id)
            }));
        }
        assert_eq!(told, written[first..], "{pattern} from {first}");
    }
}

async fn following_has_no_gap_and_no_repeat(broker: &Broker) {
    let last = broker.identity.last_sequence().await.unwrap();
    let mut stream = broker.identity.follow(2);
    for expected in 2..=last {
        assert_eq!(timeout(SOON, stream.next()).await.unwrap().unwrap().unwrap().sequence, expected);
    }
    let mut ids = BTreeSet::new();
    for number in 0..50 {
        let write = append(&format!("follow-{number}"), Guard::Last(0));
        ids.insert(write.id);
        broker.identity.append(write, deadline()).await.unwrap();
    }
    for expected in last + 1..=last + 50 {
        let message = timeout(SOON, stream.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(message.sequence, expected);
        assert!(ids.remove(&message.id.unwrap()));
    }
}

async fn buckets_guard_revisions(broker: &Broker) {
    let bucket = &broker.leases;
    let revision = bucket.create("x", "1".into()).await.unwrap();
    assert!(matches!(bucket.create("x", "2".into()).await, Err(Error::Conflict { .. })));
    let next = bucket.update("x", "3".into(), revision).await.unwrap();
    assert!(matches!(bucket.update("x", "4".into(), revision).await, Err(Error::Conflict { .. })));
    assert_eq!(bucket.get("x").await.unwrap(), Some(("3".into(), next)));
    assert!(bucket.keys().await.unwrap().contains(&"x".to_string()));
    bucket.purge("x").await.unwrap();
    assert!(!bucket.keys().await.unwrap().contains(&"x".to_string()));
    assert_eq!(bucket.get("x").await.unwrap(), None);
    bucket.create("x", "5".into()).await.unwrap();
}

async fn keys_are_found_again(broker: &Broker) {
    let tenant = "corp".parse().unwrap();
    let ring = Keyring::new(broker.keys.clone(), DataKey::new([1; 32]));
    let mut issued = Vec::new();
    for _ in 0..300 {
        issued.push(ring.issue(&tenant).await.unwrap());
    }
    let distinct: BTreeSet<_> = issued.iter().map(|(at, _)| *at).collect();
    assert_eq!(distinct.len(), 300);
    let other = Keyring::new(broker.keys.clone(), DataKey::new([1; 32]));
    for (at, key) in &issued {
        assert_eq!(other.key(&tenant, *at).await.unwrap().as_ref(), Some(key));
    }
    let wrong = Keyring::new(broker.keys.clone(), DataKey::new([2; 32]));
    assert!(wrong.key(&tenant, issued[0].0).await.unwrap_err().to_string().contains("master key"));
}

async fn the_secret_is_made_once(broker: &Broker) {
    let master = DataKey::new([1; 32]);
    let secret = eventlog::read_subject_secret(broker, &master).await.unwrap().unwrap();
    assert_eq!(eventlog::subject_secret(broker, &master).await.unwrap(), secret);
    let wrong = eventlog::subject_secret(broker, &DataKey::new([2; 32])).await.unwrap_err().to_string();
    assert!(wrong.contains("master key"), "{wrong}");
    broker.rollcall.purge("subject-secret").await.unwrap();
    let lost = eventlog::subject_secret(broker, &master).await.unwrap_err().to_string();
    assert!(lost.contains("restore"), "{lost}");
}

async fn objects_are_whole_or_not_there(broker: &Broker) {
    let objects = &broker.snapshots;
    let put =
        async |name: &str, bytes: Vec<u8>| objects.put(name, Box::pin(Cursor::new(bytes))).await.unwrap();
    let get = async |name: &str| -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        objects.get(name).await.unwrap()?.read_to_end(&mut bytes).await.unwrap();
        Some(bytes)
    };
    assert_eq!((objects.list().await.unwrap(), get("00000001").await), (vec![], None));
    objects.delete("00000001").await.unwrap();
    // Larger than any message, and no multiple of one.
    let large: Vec<u8> =
        (0..5_000_001_u32).map(|number| number.to_le_bytes()[0] ^ number.to_le_bytes()[1]).collect();
    put("00000002", large.clone()).await;
    put("00000001", b"small".to_vec()).await;
    put("00000001", b"smaller".to_vec()).await;
    let listed = objects.list().await.unwrap();
    let named: Vec<(&str, u64)> = listed.iter().map(|object| (object.name.as_str(), object.bytes)).collect();
    assert_eq!(named, [("00000001", 7), ("00000002", 5_000_001)]);
    assert!(listed.iter().all(|object| object.put.is_some()));
    assert_eq!(get("00000001").await.unwrap(), b"smaller");
    assert!(get("00000002").await.unwrap() == large);
    objects.delete("00000002").await.unwrap();
    assert_eq!((objects.list().await.unwrap().len(), get("00000002").await), (1, None));
    // One that breaks off is not there.
    let broken = Cursor::new(vec![1; 3_000_000]).chain(failing());
    assert!(objects.put("00000003", Box::pin(broken)).await.is_err());
    assert_eq!(get("00000003").await, None);
}

/// Bytes that fail when they are read.
fn failing() -> impl AsyncRead + Send + 'static {
    struct Fails;
    impl AsyncRead for Fails {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<std::io::Result<()>> {
            Poll::Ready(Err(std::io::Error::other("the disk is gone")))
        }
    }
    Fails
}

async fn all(broker: &Broker) {
    eventlog::subject_secret(broker, &DataKey::new([1; 32])).await.unwrap();
    guards_decide(&*broker.identity).await;
    asking_again_is_harmless(&*broker.identity).await;
    batches_are_whole(&*broker.identity).await;
    racing_creates_have_one_winner(broker).await;
    reading_finds_what_was_written(&*broker.identity).await;
    all_on_a_subject_are_told(&*broker.identity).await;
    following_has_no_gap_and_no_repeat(broker).await;
    buckets_guard_revisions(broker).await;
    keys_are_found_again(broker).await;
    objects_are_whole_or_not_there(broker).await;
    the_secret_is_made_once(broker).await;
}

#[tokio::test]
async fn the_log_in_memory() {
    all(&memory::broker(Faults::default())).await;
}

#[tokio::test]
async fn the_log_in_memory_that_loses_answers() {
    for seed in 1..=20 {
        let suite = tokio::spawn(async move { all(&memory::broker(Faults { seed })).await });
        assert!(suite.await.is_ok(), "with seed {seed}");
    }
}

#[tokio::test]
async fn the_real_server() {
    let house = House::start();
    all(&house.broker().await).await;
    let logged = std::fs::read_to_string(house.folder.path().join("nats/nats-server.log")).unwrap();
    assert!(!logged.contains("[ERR]"), "{logged}");
}
