//! Snapshots: a directory that begins with one answers as one that read the log from its beginning, and one that does not
//! fit is not used.

#![cfg(test)]

#[expect(clippy::allow_attributes, reason = "which parts are used differs between the tests that include it")]
#[allow(dead_code, reason = "the other tests use the rest")]
mod common;

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::answers::{answers, same};
use common::{Running, World, config, deadline};
use eventlog::memory::{self, Faults, MemoryObjects};
use eventlog::objects::{Object, Objects, Stream};
use projector::{Moment, Projection, Snapshot, When, snapshots};
use proto::Kind;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::sync::Notify;

const PEOPLE: usize = 60;

async fn populated() -> World {
    let mut world = World::new();
    let mut people = Vec::new();
    for number in 0..PEOPLE {
        people.push(world.user(&format!("user-{number}")).await);
    }
    let team = world.group("Team", &people[..20]).await;
    world.members(team, &people[20..30], &people[..5]).await;
    world
}

/// Opens in a folder of its own, with these snapshots, and does not follow yet.
async fn begun(world: &World, folder: &Path, objects: &MemoryObjects) -> Projection {
    let objects: Arc<dyn Objects> = Arc::new(objects.clone());
    let (log, keyring) = (world.log.clone(), world.keyring.clone());
    let config = config(folder, &[]);
    Projection::open_from(config, log, keyring, world.registry.clone(), Some(objects)).await.unwrap()
}

async fn all(world: &World, projection: &Projection) -> String {
    let moments = [When::Sequence(PEOPLE as u64 / 2), When::Sequence(PEOPLE as u64 + 1)];
    answers(projection, &world.tenant, &world.registry, &moments).await
}

async fn taken(world: &World) -> (MemoryObjects, Snapshot, String) {
    let objects = MemoryObjects::default();
    let running = world.open().await;
    let snapshot = running.projection.snapshot(&objects).await.unwrap().unwrap();
    let expected = all(world, &running.projection).await;
    running.stop().await;
    (objects, snapshot, expected)
}

async fn bytes(objects: &MemoryObjects, name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    objects.get(name).await.unwrap().unwrap().read_to_end(&mut bytes).await.unwrap();
    bytes
}

/// Puts a changed snapshot in the place of one; what is opened with it must have read the log instead.
async fn refused(world: &World, snapshot: &Snapshot, expected: &str, changed: Vec<u8>, what: &str) {
    let (objects, folder) = (MemoryObjects::default(), tempfile::tempdir().unwrap());
    objects.put(&snapshot.name(), Box::pin(Cursor::new(changed))).await.unwrap();
    let projection = begun(world, folder.path(), &objects).await;
    assert_eq!(projection.applied(), 0, "{what}");
    let running = Running::start(projection);
    running.projection.catch_up(deadline()).await.unwrap();
    same(&all(world, &running.projection).await, expected, what);
    running.stop().await;
}

#[tokio::test]
async fn a_new_directory_begins_with_the_newest_and_follows() {
    let mut world = populated().await;
    let (objects, snapshot, expected) = taken(&world).await;
    assert_eq!(snapshot.position.sequence, PEOPLE as u64 + 2);
    let folder = tempfile::tempdir().unwrap();
    let projection = begun(&world, folder.path(), &objects).await;
    // Before a single row is there.
    assert_eq!(projection.applied(), snapshot.position.sequence);
    assert!(projection.is_filling());
    same(&all(&world, &projection).await, &expected, "before the rows are there");
    world.user("one more").await;
    let running = Running::start(projection);
    running.projection.catch_up(deadline()).await.unwrap();
    while running.projection.is_filling() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let with_one_more = all(&world, &running.projection).await;
    running.stop().await;
    // From its own rows, without snapshots, and from the log alone.
    let config = config(folder.path(), &[]);
    let again = Running::open(config, world.log.clone(), &world.keyring, &world.registry).await;
    same(&all(&world, &again.projection).await, &with_one_more, "from its own rows");
    again.stop().await;
    let whole = world.open().await;
    same(&all(&world, &whole.projection).await, &with_one_more, "from the log");
    let digest = |moment| whole.projection.digest(&world.tenant, moment, |_, _| {});
    assert_eq!(digest(Moment::NOW).await.unwrap().unwrap().resources, PEOPLE as u64 + 2);
    whole.stop().await;
}

#[tokio::test]
async fn one_that_is_stopped_while_it_fetches_rows_begins_again() {
    let world = populated().await;
    let (objects, snapshot, expected) = taken(&world).await;
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..3 {
        let projection = begun(&world, folder.path(), &objects).await;
        assert_eq!(projection.applied(), snapshot.position.sequence);
        let running = Running::start(projection);
        tokio::task::yield_now().await;
        running.stop().await;
    }
    let running = Running::start(begun(&world, folder.path(), &objects).await);
    running.projection.catch_up(deadline()).await.unwrap();
    same(&all(&world, &running.projection).await, &expected, "begun again");
    running.stop().await;
}

#[tokio::test]
async fn what_does_not_fit_is_not_used() {
    let world = populated().await;
    let (objects, snapshot, expected) = taken(&world).await;
    let good = bytes(&objects, &snapshot.name()).await;
    let head = good.iter().position(|byte| *byte == b'\n').unwrap();
    let changed = |from: &str, to: &str| {
        let text = String::from_utf8(good[..head].to_vec()).unwrap();
        assert!(text.contains(from), "{text}");
        [text.replacen(from, to, 1).as_bytes(), &good[head..]].concat()
    };
    let mut flipped = good.clone();
    flipped[good.len() - 100] ^= 1;
    let other_event = "01890a5d-ac96-774b-bcce-b302099a8057";
    for (what, changed) in [
        ("another layout", changed("\"layout\":4", "\"layout\":3")),
        ("another timeline", changed(&snapshot.position.event.to_string(), other_event)),
        ("other indexes", changed("userName:", "nickName:")),
        ("cut off", good[..good.len() - 7].to_vec()),
        ("too long", [good.as_slice(), b"more"].concat()),
        ("damaged", flipped),
        ("no snapshot", b"hello".to_vec()),
    ] {
        refused(&world, &snapshot, &expected, changed, what).await;
    }
    // The log of somebody else does not have the event.
    let (other, folder) = (populated().await, tempfile::tempdir().unwrap());
    assert_eq!(begun(&other, folder.path(), &objects).await.applied(), 0);
}

#[tokio::test]
async fn the_one_before_a_damaged_one_is_begun_with() {
    let mut world = populated().await;
    let (objects, before, _) = taken(&world).await;
    world.user("one more").await;
    let running = world.open().await;
    let newest = running.projection.snapshot(&objects).await.unwrap().unwrap();
    let expected = all(&world, &running.projection).await;
    running.stop().await;
    let good = bytes(&objects, &newest.name()).await;
    let flipped =
        [&good[..good.len() - 100], &[good[good.len() - 100] ^ 1], &good[good.len() - 99..]].concat();
    for (what, changed) in [("cut off", good[..good.len() - 7].to_vec()), ("damaged", flipped)] {
        objects.put(&newest.name(), Box::pin(Cursor::new(changed))).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let projection = begun(&world, folder.path(), &objects).await;
        assert_eq!(projection.applied(), before.position.sequence, "{what}");
        let running = Running::start(projection);
        running.projection.catch_up(deadline()).await.unwrap();
        same(&all(&world, &running.projection).await, &expected, what);
        running.stop().await;
    }
}

/// A store that puts nothing before it may.
struct Gated {
    objects: MemoryObjects,
    begun: Notify,
    may: Notify,
}

#[async_trait::async_trait]
impl Objects for Gated {
    async fn list(&self) -> Result<Vec<Object>, eventlog::Error> {
        self.objects.list().await
    }

    async fn put(&self, name: &str, bytes: Stream) -> Result<(), eventlog::Error> {
        self.begun.notify_one();
        self.may.notified().await;
        self.objects.put(name, bytes).await
    }

    async fn get(&self, name: &str) -> Result<Option<Stream>, eventlog::Error> {
        self.objects.get(name).await
    }

    async fn delete(&self, name: &str) -> Result<(), eventlog::Error> {
        self.objects.delete(name).await
    }

    async fn sweep(&self, silence: Duration) -> Result<(), eventlog::Error> {
        self.objects.sweep(silence).await
    }
}

#[tokio::test]
async fn one_of_whom_was_erased_meanwhile_does_not_stay() {
    let mut world = populated().await;
    let gated =
        Arc::new(Gated { objects: MemoryObjects::default(), begun: Notify::new(), may: Notify::new() });
    let running = world.open().await;
    let taking = {
        let (projection, gated) = (running.projection.clone(), gated.clone());
        tokio::spawn(async move { projection.snapshot(&*gated).await })
    };
    gated.begun.notified().await;
    let (id, key) = (running.projection.ids(&world.tenant, "User")[0], world.key("user-0"));
    world.write("User", id, &key, Kind::Erased, json!({})).await;
    running.projection.catch_up(deadline()).await.unwrap();
    gated.may.notify_one();
    let taken = taking.await.unwrap();
    assert!(taken.unwrap_err().to_string().contains("erased"));
    assert_eq!(snapshots(&gated.objects).await.unwrap(), [0; 0]);
    // What another process put there from before goes when it is looked at.
    let old = format!("{:020}", 5);
    gated.objects.put(&old, Box::pin(Cursor::new(b"old".to_vec()))).await.unwrap();
    running.projection.prune_snapshots(&gated.objects, 9).await.unwrap();
    assert_eq!(snapshots(&gated.objects).await.unwrap(), [0; 0]);
    running.stop().await;
    // Also after a restart, from what is kept.
    let again = world.open().await;
    gated.objects.put(&old, Box::pin(Cursor::new(b"old".to_vec()))).await.unwrap();
    again.projection.prune_snapshots(&gated.objects, 9).await.unwrap();
    assert_eq!(snapshots(&gated.objects).await.unwrap(), [0; 0]);
    again.stop().await;
}

#[tokio::test]
async fn the_newest_stay_and_an_erasure_removes_all_before_it() {
    let mut world = populated().await;
    let objects = MemoryObjects::default();
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(begun(&world, folder.path(), &objects).await);
    let projection = &running.projection;
    let mut last = None;
    for number in 0..4 {
        last = Some(world.user(&format!("late-{number}")).await);
        projection.catch_up(deadline()).await.unwrap();
        projection.snapshot(&objects).await.unwrap();
    }
    projection.prune_snapshots(&objects, 2).await.unwrap();
    let first = PEOPLE as u64 + 3;
    assert_eq!(snapshots(&objects).await.unwrap(), [first + 3, first + 2]);
    let key = world.key("late-3");
    world.write("User", last.unwrap(), &key, Kind::Erased, json!({})).await;
    projection.catch_up(deadline()).await.unwrap();
    while !snapshots(&objects).await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    running.stop().await;
}

/// A log that was restored from a backup is shorter than what snapshots were made of.
#[tokio::test]
async fn those_of_a_longer_timeline_do_not_outlive_new_ones() {
    let world = populated().await;
    let objects = MemoryObjects::default();
    for beyond in [5_000, 6_000] {
        let former = Box::pin(Cursor::new(b"former".to_vec()));
        objects.put(&format!("{beyond:020}"), former).await.unwrap();
    }
    let running = world.open().await;
    let taken = running.projection.snapshot(&objects).await.unwrap().unwrap();
    running.projection.prune_snapshots(&objects, 2).await.unwrap();
    assert_eq!(snapshots(&objects).await.unwrap(), [taken.position.sequence]);
    running.stop().await;
}

/// Who was killed while rows were fetched has the images of a snapshot, and no rows.
#[tokio::test]
async fn what_is_left_of_one_of_another_timeline_is_not_used() {
    let world = populated().await;
    let (objects, _, _) = taken(&world).await;
    let folder = tempfile::tempdir().unwrap();
    drop(begun(&world, folder.path(), &objects).await);
    // The log was restored from a backup meanwhile, and written on.
    let broker = memory::broker(Faults::default());
    let mut other = World { log: broker.identity, folder, keys: BTreeMap::new(), ..world };
    for number in 0..PEOPLE + 5 {
        other.user(&format!("another-{number}")).await;
    }
    let running = other.open().await;
    let expected = all(&other, &running.projection).await;
    running.stop().await;
    let running = other.open().await;
    same(&all(&other, &running.projection).await, &expected, "after a new start");
    running.stop().await;
}
