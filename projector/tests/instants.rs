//! As of an instant that has passed the answer is the same whenever one asks.

#![cfg(test)]

#[expect(clippy::allow_attributes, reason = "which parts are used differs between the tests that include it")]
#[allow(dead_code, reason = "the other tests use the rest")]
mod common;

use std::sync::Arc;

use common::book::Book;
use common::{Running, World, append, config, deadline, event, key_of};
use eventlog::Guard;
use eventlog::clock::{self, Simulated};
use jiff::{SignedDuration, Timestamp};
use projector::{Config, MemoryStore, Projection, Storage, When};
use proto::{Event, Kind};

const SLOW: SignedDuration = SignedDuration::from_millis(1_500);

/// What happened until an instant, once that is known.
async fn until(projection: &Projection, world: &World, instant: Timestamp) -> u64 {
    if !projection.has_passed(instant).await {
        projection.catch_up(deadline()).await.unwrap();
    }
    let moment = projection.moment(&world.tenant, When::Instant(instant)).unwrap().unwrap();
    projection.stands_at(&world.tenant, moment).unwrap().0
}

/// Somebody is made at a time of the writer's clock, and stands in the log at another of the broker's.
fn write(book: &Book, world: &World, name: &str, occurred_at: Timestamp, broker: Timestamp) {
    let kind = Kind::Created { members_added: vec![] };
    let event = event(&world.tenant, "User", clock::new_resource_id(), kind);
    let event = Event { occurred_at, ..event };
    let payload = proto::codec::encode(&event, None);
    book.write(append(&event, &key_of(&world.tenant, name), Guard::None, payload), broker);
    book.tell(book.len());
}

#[tokio::test(start_paused = true)]
async fn what_was_on_its_way_is_waited_for() {
    let _simulated = Simulated::begin(1).unwrap();
    let (world, book) = (World::new(), Book::default());
    let begun = clock::now();
    write(&book, &world, "ada", begun, begun);
    let storage = Storage::Memory(MemoryStore::default());
    let (log, config) = (Arc::new(book.clone()), Config { storage, ..config(world.folder.path(), &[]) });
    let running = Running::open(config, log, &world.keyring, &world.registry).await;
    let projection = &running.projection;
    tokio::time::sleep(SLOW.unsigned_abs()).await;
    let asked = clock::now();
    let (first, ()) = tokio::join!(until(projection, &world, asked), async {
        // It took a while from the writer to the log.
        tokio::time::sleep(SLOW.unsigned_abs()).await;
        write(&book, &world, "bob", asked, clock::now());
    });
    assert_eq!(first, 2);
    assert_eq!(until(projection, &world, asked).await, first);
    // Of what is long ago, and before what happened since, nothing is waited for.
    let before = clock::now();
    assert_eq!(until(projection, &world, begun).await, 1);
    assert_eq!(clock::now(), before);
    running.stop().await;
}

/// Whoever asks for what came since an instant misses nothing of it, also where the broker's clock went back.
#[tokio::test]
async fn an_instant_has_its_place_in_the_log_also_when_the_clock_went_back() {
    let (world, book) = (World::new(), Book::default());
    let begun = Timestamp::from_millisecond(1_790_000_000_000).unwrap();
    let at = |seconds: i64| begun + SignedDuration::from_secs(seconds);
    for (number, broker) in [0, 100, 40, 41, 42, 43, 44, 200].into_iter().enumerate() {
        // It takes a while from the writer to the log.
        write(&book, &world, &format!("u{number}"), at(broker) - SLOW, at(broker));
    }
    let log = Arc::new(book.clone());
    let running = Running::open(config(world.folder.path(), &[]), log, &world.keyring, &world.registry).await;
    running.projection.catch_up(deadline()).await.unwrap();
    let tick = SignedDuration::from_nanos(1);
    for (instant, expected) in [
        (at(-1), 1),
        (at(0), 1),
        (at(0) + tick, 2),
        (at(42), 2),
        (at(100), 2),
        (at(100) + tick, 8),
        (at(200), 8),
        (at(200) + tick, 9),
        (at(300), 9),
    ] {
        assert_eq!(running.projection.sequence_at(instant).await.unwrap(), expected, "{instant}");
    }
    running.stop().await;
}
