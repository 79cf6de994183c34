//! What happened is told in pages: none is larger than memory bears, none is lost, and none comes twice.

#![cfg(test)]

#[expect(clippy::allow_attributes, reason = "which parts are used differs between the tests that include it")]
#[allow(dead_code, reason = "the other tests use the rest")]
mod common;

use common::World;
use projector::{Lens, Moment, Part, Query, When, Window};
use proto::{Kind, subject};
use serde_json::json;

/// More than a page has.
const MANY: usize = 10_000;

#[tokio::test]
async fn much_to_tell_is_told_in_more_pages() {
    let mut world = World::new();
    let group = world.group("All", &[]).await;
    let ids: Vec<_> = (0..100_000).map(|_| eventlog::clock::new_resource_id()).collect();
    for _ in 0..5 {
        world.members(group, &ids, &[]).await;
    }
    let title = "x".repeat(1 << 20);
    for number in 0..20 {
        let (id, name) = (eventlog::clock::new_resource_id(), format!("user-{number}"));
        let (key, kind) = (world.key(&name), Kind::Created { members_added: vec![] });
        world.write("User", id, &key, kind, json!({"userName": name, "title": title})).await;
    }
    let running = world.open().await;
    let (projection, tenant) = (&running.projection, &world.tenant);
    let (mut sizes, mut after) = (Vec::new(), None);
    loop {
        let page = projection.history(tenant, group, Moment::NOW, after, MANY).await.unwrap().unwrap();
        assert_eq!(page.total, 6);
        sizes.push(page.events.len());
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert!(sizes.len() > 1 && sizes.iter().sum::<usize>() == 6, "{sizes:?}");
    let (mut sizes, mut after) = (Vec::new(), None);
    loop {
        let page = projection.differences(tenant, (None, Moment::NOW), after, MANY).await.unwrap();
        sizes.push(page.resources.len());
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert!(sizes.len() > 2 && sizes.iter().sum::<usize>() == 21, "{sizes:?}");
    running.stop().await;
}

#[tokio::test]
async fn behind_the_last_place_nothing_comes() {
    let mut world = World::new();
    world.user("ada").await;
    let bob = world.user("bob").await;
    let key = subject::key_of_id(bob);
    world.write("User", bob, &key, Kind::CredentialsChanged, json!({})).await;
    let running = world.open().await;
    let (projection, tenant) = (&running.projection, &world.tenant);
    let now = projection.moment(tenant, When::Now).unwrap().unwrap();
    for (after, expected) in
        [(None, 2), (Some(0), 1), (Some(1), 0), (Some(u32::MAX.into()), 0), (Some(u64::MAX), 0)]
    {
        let page = projection.differences(tenant, (None, now), after, MANY).await.unwrap();
        assert_eq!((page.resources.len(), page.next), (expected, None), "{after:?}");
    }
    running.stop().await;
}

/// Of so many events that resources are looked at one by one instead.
#[tokio::test]
async fn what_differs_after_very_many_events_is_told_as_after_few() {
    let mut world = World::new();
    let mut people = Vec::new();
    for number in 0..30 {
        people.push(world.user(&format!("user-{number:02}")).await);
    }
    let staff = world.group("Staff", &people[..10]).await;
    let busy = world.group("Busy", &[]).await;
    let changed = |members_added, members_removed| Kind::Updated { members_added, members_removed };
    let mut few = Vec::new();
    for (round, times) in [(0, 10), (1, 20_000), (2, 10)] {
        let from = world.members(busy, &people[20..21], &[]).await;
        for time in 0..times {
            let (added, removed) = if time % 2 == 0 { (21..22, 0..0) } else { (0..0, 21..22) };
            world.members(busy, &people[added], &people[removed]).await;
        }
        let (of, gone) = (round * 3, round * 3 + 1);
        let key = world.key(&format!("user-{of:02}"));
        let document = json!({"userName": format!("user-{of:02}"), "title": "second"});
        world.write("User", people[of], &key, changed(vec![], vec![]), document).await;
        let key = world.key(&format!("user-{gone:02}"));
        world.write("User", people[gone], &key, Kind::Deleted, json!({})).await;
        let new = world.user(&format!("new-{round}")).await;
        let to = world.members(busy, &[], &people[20..21]).await;
        few.push((from, to, [staff, people[of], people[gone], new]));
    }
    let running = world.open().await;
    let (projection, tenant) = (&running.projection, &world.tenant);
    let at = |sequence| projection.moment(tenant, When::Sequence(sequence)).unwrap().unwrap();
    for (from, to, expected) in few {
        for count in [1, 3, MANY] {
            let (mut told, mut after) = (Vec::new(), None);
            loop {
                let moments = (Some(at(from - 1)), at(to));
                let page = projection.differences(tenant, moments, after, count).await.unwrap();
                told.extend(page.resources.iter().map(|one| one.id));
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            told.sort();
            let mut expected = expected.to_vec();
            expected.sort();
            assert_eq!(told, expected, "from {from} to {to} in pages of {count}");
        }
    }
    running.stop().await;
}

/// After a start no document is in memory, and the rows of a page are read together where they stand together.
#[tokio::test]
async fn each_of_a_page_has_its_own_document_after_a_start() {
    let mut world = World::new();
    let mut people = Vec::new();
    for number in 0..60 {
        let name = format!("user-{number:02}");
        people.push((world.user(&name).await, name, "first"));
        if number % 7 == 0 {
            world.group(&format!("group-{number}"), &[]).await;
        }
    }
    // Their rows stand elsewhere now.
    for (id, name, is) in people.iter_mut().step_by(5) {
        let (key, kind) = (world.key(name), Kind::Updated { members_added: vec![], members_removed: vec![] });
        *is = "second";
        world.write("User", *id, &key, kind, json!({"userName": name, "title": is})).await;
    }
    world.open().await.stop().await;
    let registry = world.registry.clone();
    let kind = registry.by_name("User").unwrap();
    let (parts, lens) = ([Part { kind, filter: None, sort: None }], Lens::default());
    for first in [1, 3, 20, 41] {
        // Nobody asked before.
        let running = world.open().await;
        let window = Window::From(first);
        let query =
            Query { parts: &parts, lens: &lens, window: &window, count: 20, scan_rows_max: usize::MAX };
        let page = running.projection.query(&world.tenant, query).await.unwrap();
        assert_eq!((page.total, page.resources.len()), (60, 20));
        for (found, (id, name, is)) in page.resources.iter().zip(&people[first - 1..]) {
            assert_eq!((found.id, &found.document["userName"]), (*id, &json!(name)));
            let title = found.document.get("title").cloned();
            assert_eq!(title, (*is == "second").then(|| json!("second")), "{name}");
            assert_eq!(found.external_ids.values().next(), Some(&format!("ext-{id}")));
        }
        running.stop().await;
    }
}
