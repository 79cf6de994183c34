//! What happened is told in pages: none is larger than memory bears, none is lost, and none comes twice.

#![cfg(test)]

#[expect(clippy::allow_attributes, reason = "which parts are used differs between the tests that include it")]
#[allow(dead_code, reason = "the other tests use the rest")]
mod common;

use common::World;
use projector::{Moment, When};
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
