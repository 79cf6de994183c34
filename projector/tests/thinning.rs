//! Thinning: what is asked about moments above the floor is answered as before; below it, that is refused.

#![cfg(test)]

#[expect(clippy::allow_attributes, reason = "which parts are used differs between the tests that include it")]
#[allow(dead_code, reason = "the other tests use the rest")]
mod common;

use std::time::Duration;

use common::World;
use common::answers::{answers, same};
use projector::{Error, Moment, Projection, When};
use proto::{Kind, ResourceId, subject};
use serde_json::json;

const ROUNDS: usize = 12;

/// People who change, leave and come back, and a team that they come to and go from.
async fn lively() -> (World, Vec<ResourceId>) {
    let mut world = World::new();
    let mut people = Vec::new();
    for number in 0..8 {
        people.push(world.user(&format!("user-{number}")).await);
    }
    let team = world.group("Team", &people).await;
    for round in 0..ROUNDS {
        if round + 1 == ROUNDS {
            // A fast machine writes the whole of it in one millisecond, and times tell nothing apart then.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        for (number, id) in people.clone().into_iter().enumerate() {
            let name = format!("user-{number}");
            let key = world.key(&name);
            let title = format!("round {round}");
            let document = json!({"userName": name, "displayName": title, "title": title});
            let kind = Kind::Updated { members_added: vec![], members_removed: vec![] };
            world.write("User", id, &key, kind, document).await;
        }
        let one = people[round % people.len()];
        world.members(team, &[], &[one]).await;
        world.members(team, &[one], &[]).await;
        if round % 4 == 3 {
            let number = round % people.len();
            let key = world.key(&format!("user-{number}"));
            world.write("User", people[number], &key, Kind::Deleted, json!({})).await;
            people[number] = world.user(&format!("user-{number}")).await;
        }
    }
    (world, people)
}

async fn thinned(projection: &Projection, floor: u64) {
    while projection.floor() < floor {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn above_the_floor_nothing_is_lost() {
    let (world, people) = lively().await;
    let running = world.open().await;
    let projection = &running.projection;
    let last = projection.applied();
    let above: Vec<When> = (last / 2..=last).step_by(5).map(When::Sequence).collect();
    let expected = answers(projection, &world.tenant, &world.registry, &above).await;
    let moment = projection.moment(&world.tenant, When::Sequence(last / 2)).unwrap().unwrap();
    let (_, time) = projection.stands_at(&world.tenant, moment).unwrap();
    let whole = projection.history(&world.tenant, people[0], projector::Moment::NOW, None, 1000).await;
    let whole = whole.unwrap().unwrap();
    let after =
        |after: u64| projection.history(&world.tenant, people[0], projector::Moment::NOW, Some(after), 1000);
    let first = whole.events[0].sequence;
    assert_eq!(after(first).await.unwrap().unwrap().events[..], whole.events[1..]);

    let floor = projection.thin(time).unwrap();
    assert!(floor >= last / 2 && floor < last);
    thinned(projection, floor).await;
    let above: Vec<When> =
        above.into_iter().filter(|when| matches!(when, When::Sequence(at) if *at >= floor)).collect();
    let check = async |projection: &Projection, what: &str| {
        let found = answers(projection, &world.tenant, &world.registry, &above).await;
        for block in found.split_inclusive('\n') {
            assert!(expected.contains(block), "{what}: {block}");
        }
        let below = projection.moment(&world.tenant, When::Sequence(floor - 1));
        assert!(
            matches!(below, Err(Error::NotKept { floor: said, .. }) if said == floor),
            "{what}: {below:?}"
        );
        let kept = projection.history(&world.tenant, people[0], projector::Moment::NOW, None, 1000).await;
        let kept = kept.unwrap().unwrap();
        assert!(kept.not_kept > 0, "{what}");
        assert_eq!(kept.total + kept.not_kept, whole.total, "{what}");
        assert_eq!(kept.events[..], whole.events[kept.not_kept..], "{what}");
    };
    check(projection, "thinned").await;
    let again = projection.thin(time).unwrap();
    assert_eq!(again, floor);
    // Who reads on may not miss what is no longer kept.
    assert!(matches!(after(first).await, Err(Error::NotKept { floor: said, .. }) if said == floor));
    let kept = after(floor).await.unwrap().unwrap().events;
    assert_eq!(kept[..], whole.events[whole.events.len() - kept.len()..]);
    running.stop().await;

    let running = world.open().await;
    assert_eq!(running.projection.floor(), floor, "a floor stays");
    check(&running.projection, "opened again").await;
    running.stop().await;

    // Without its image nothing else tells what happened below the floor: the log does.
    let images = world.folder.path().join("projection").join("images");
    std::fs::remove_dir_all(images).unwrap();
    let running = world.open().await;
    assert_eq!(running.projection.floor(), 0);
    let every: Vec<When> = (last / 2..=last).step_by(5).map(When::Sequence).collect();
    same(
        &answers(&running.projection, &world.tenant, &world.registry, &every).await,
        &expected,
        "built again",
    );
    running.stop().await;
}

/// A tenant to whom nothing happened since is asked about any later moment; only what was before its last event is gone.
#[tokio::test]
async fn a_quiet_tenant_is_at_its_floor() {
    let mut world = World::new();
    let quiet = world.user("first").await;
    let key = world.key("first");
    let kind = Kind::Updated { members_added: vec![], members_removed: vec![] };
    let last = world.write("User", quiet, &key, kind, json!({"userName": "first", "title": "x"})).await;
    let (here, there) = (world.tenant.clone(), common::tenant("lively"));
    world.tenant = there.clone();
    for number in 0..6 {
        world.user(&format!("user-{number}")).await;
    }
    let running = world.open().await;
    let projection = &running.projection;
    let moment = projection.moment(&there, When::Sequence(last + 4)).unwrap().unwrap();
    let (at, time) = projection.stands_at(&there, moment).unwrap();
    // Others can have happened in the same millisecond.
    let floor = projection.thin(time).unwrap();
    assert!(floor >= at);
    thinned(projection, floor).await;
    for when in [When::Instant(time), When::Sequence(floor), When::Sequence(last)] {
        let moment = projection.moment(&here, when).unwrap().unwrap();
        let stored = projection.resource_at(&here, "User", quiet, moment).await.unwrap().unwrap();
        assert_eq!(stored.document["title"], "x", "{when:?}");
    }
    assert!(matches!(projection.moment(&here, When::Sequence(last - 1)), Err(Error::NotKept { .. })));
    assert!(matches!(projection.moment(&there, When::Sequence(floor - 1)), Err(Error::NotKept { .. })));
    running.stop().await;
}

/// A tenant of whom nothing was removed needs no image: whoever was killed before there was one has all his rows.
#[tokio::test]
async fn a_tenant_who_came_after_the_floor_has_nothing_built_again() {
    let (mut world, people) = lively().await;
    let running = world.open().await;
    let projection = &running.projection;
    let moment = projection.moment(&world.tenant, When::Sequence(projection.applied() / 2)).unwrap().unwrap();
    let (_, time) = projection.stands_at(&world.tenant, moment).unwrap();
    let floor = projection.thin(time).unwrap();
    thinned(projection, floor).await;
    running.stop().await;
    let (here, there) = (world.tenant.clone(), common::tenant("acme"));
    world.tenant = there.clone();
    let ada = world.user("ada").await;
    let images = world.folder.path().join("projection/images");
    for _ in 0..2 {
        let running = world.open().await;
        assert_eq!(running.projection.floor(), floor, "nothing is built again");
        assert!(running.projection.resource_at(&there, "User", ada, Moment::NOW).await.unwrap().is_some());
        assert!(
            running.projection.resource_at(&here, "User", people[0], Moment::NOW).await.unwrap().is_some()
        );
        running.stop().await;
        std::fs::remove_file(images.join("acme")).unwrap();
    }
    // Of whom something was removed nothing else can tell: all is built again.
    std::fs::remove_file(images.join("corp")).unwrap();
    let running = world.open().await;
    assert_eq!(running.projection.floor(), 0);
    assert!(running.projection.resource_at(&here, "User", people[0], Moment::NOW).await.unwrap().is_some());
    running.stop().await;
}

/// Others have their turn in between.
#[tokio::test]
async fn a_long_history_is_thinned_piece_by_piece() {
    let mut world = World::new();
    let ada = world.user("ada").await;
    let group = world.group("Team", &[]).await;
    for _ in 0..2_500 {
        world.members(group, &[ada], &[]).await;
        world.members(group, &[], &[ada]).await;
    }
    world.write("Group", group, &subject::key_of_id(group), Kind::Deleted, json!({})).await;
    let before = world.user("bob").await;
    tokio::time::sleep(Duration::from_millis(2)).await;
    world.user("cyd").await;
    let running = world.open().await;
    let projection = &running.projection;
    let moment = projection.moment(&world.tenant, When::Sequence(projection.applied() - 1)).unwrap().unwrap();
    let (last, time) = projection.stands_at(&world.tenant, moment).unwrap();
    // A stop would leave the rest to the next start.
    let said = world.folder.path().join("said");
    let file = std::fs::File::create(&said).unwrap();
    tracing_subscriber::fmt().with_writer(file).with_ansi(false).init();
    let floor = projection.thin(time).unwrap();
    assert_eq!(floor, last);
    thinned(projection, floor).await;
    // Others in this process are thinned elsewhere.
    while !std::fs::read_to_string(&said).unwrap().contains(&format!("floor={floor} rows=")) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for id in [ada, before] {
        assert!(projection.resource_at(&world.tenant, "User", id, moment).await.unwrap().is_some());
    }
    running.stop().await;
    let store = common::store(world.folder.path()).await;
    let names = store.tree_names().into_iter();
    let rows: usize = names.map(|name| store.open_tree(name).unwrap().len()).sum();
    // Three people, what is left of the group, and what the store says of itself.
    assert!(rows < 20, "{rows}");
}
