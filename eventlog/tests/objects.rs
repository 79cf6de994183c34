//! The object store of a real broker: what breaks off leaves nothing, and a broker that is away is not an empty one.

#![cfg(test)]

#[expect(clippy::allow_attributes, reason = "which parts are used differs between the tests that include it")]
#[allow(dead_code, reason = "the other tests use the rest")]
mod common;

use std::io::Cursor;
use std::time::Duration;

use async_nats::jetstream;
use common::House;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// More than one message of an object.
const LARGE: usize = 3_000_000;
/// Longer than a test takes.
const LONG: Duration = Duration::from_secs(60 * 60);

/// The stream behind the bucket.
async fn stream(house: &House) -> jetstream::stream::Stream {
    let address: async_nats::ServerAddr = house.server.url().parse().unwrap();
    let (user, password) = (address.username().unwrap(), address.password().unwrap());
    let options = async_nats::ConnectOptions::with_user_and_password(user.to_string(), password.to_string());
    let context = jetstream::new(options.connect(house.server.url()).await.unwrap());
    context.get_stream("OBJ_SNAPSHOTS").await.unwrap()
}

/// How many messages the bucket holds.
async fn messages(house: &House) -> u64 {
    stream(house).await.cached_info().state.messages
}

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_off_is_swept_once_it_is_silent() {
    let house = House::start();
    let objects = house.broker().await.snapshots;
    let large = vec![7; LARGE];
    objects.put("00000001", Box::pin(Cursor::new(large.clone()))).await.unwrap();
    let whole = messages(&house).await;
    let (reading, mut writing) = tokio::io::duplex(1 << 20);
    let putting = {
        let objects = objects.clone();
        tokio::spawn(async move { objects.put("00000002", Box::pin(reading)).await })
    };
    writing.write_all(&large).await.unwrap();
    while messages(&house).await == whole {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Who puts it is killed.
    putting.abort();
    let _ = putting.await;
    objects.sweep(LONG).await.unwrap();
    assert!(messages(&house).await > whole, "another may be on its way");
    objects.sweep(Duration::ZERO).await.unwrap();
    assert_eq!(messages(&house).await, whole);
    let mut kept = Vec::new();
    objects.get("00000001").await.unwrap().unwrap().read_to_end(&mut kept).await.unwrap();
    assert!(kept == large);
    assert_eq!(objects.list().await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_away_is_not_an_empty_one() {
    let house = House::start();
    let objects = house.broker().await.snapshots;
    objects.sweep(Duration::ZERO).await.unwrap();
    assert!(objects.list().await.unwrap().is_empty());
    objects.put("00000001", Box::pin(Cursor::new(b"one".to_vec()))).await.unwrap();
    drop(house);
    let (listed, got, deleted) =
        tokio::join!(objects.list(), objects.get("00000001"), objects.delete("00000001"));
    assert_eq!((listed.is_err(), got.is_err(), deleted.is_err()), (true, true, true));
}

/// Whoever begins with a snapshot may read it just when it has to go, as after an erasure.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_removed_while_it_is_read_is_not_waited_for() {
    let house = House::start();
    let objects = house.broker().await.snapshots;
    // More than the broker sends before the first of it is taken.
    let large = vec![7; 16 * LARGE];
    objects.put("00000001", Box::pin(Cursor::new(large))).await.unwrap();
    let mut reading = objects.get("00000001").await.unwrap().unwrap();
    let mut first = [0; 10];
    reading.read_exact(&mut first).await.unwrap();
    objects.delete("00000001").await.unwrap();
    let rest = tokio::time::timeout(Duration::from_secs(60), reading.read_to_end(&mut Vec::new())).await;
    assert!(rest.expect("it is not waited for").is_err(), "it is not whole");
}

/// What a broker that lost a part of its store says of an object is true, and nothing of it is there.
#[tokio::test(flavor = "multi_thread")]
async fn what_lost_its_bytes_is_not_waited_for() {
    let house = House::start();
    let objects = house.broker().await.snapshots;
    objects.put("00000001", Box::pin(Cursor::new(vec![7; LARGE]))).await.unwrap();
    stream(&house).await.purge().filter("$O.SNAPSHOTS.C.>").await.unwrap();
    let mut reading = objects.get("00000001").await.unwrap().unwrap();
    let read = tokio::time::timeout(Duration::from_secs(60), reading.read_to_end(&mut Vec::new())).await;
    assert!(read.expect("it is not waited for").is_err());
}
