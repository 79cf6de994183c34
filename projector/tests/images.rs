//! A large image is written while rows go on being written, and what was written after it is read with it.

#![cfg(test)]

#[expect(clippy::allow_attributes, reason = "which parts are used differs between the tests that include it")]
#[allow(dead_code, reason = "the other tests use the rest")]
mod common;

use std::time::Duration;

use common::answers::found;
use common::{World, deadline};
use projector::Moment;
use proto::{Kind, ResourceId, subject};
use serde_json::json;
use tokio::time::Instant;

/// An image is written once so many rows are there.
const ROWS: usize = 20_000;
const PEOPLE: usize = 30;

/// Changes of one group, so that many rows are made soon.
async fn changes(world: &mut World, group: ResourceId, count: usize) {
    let key = subject::key_of_id(group);
    for _ in 0..count {
        let kind = Kind::MembersChanged { added: vec![], removed: vec![] };
        world.write("Group", group, &key, kind, json!({})).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_written_beside_the_rows_and_read_with_those_that_came_later() {
    let mut world = World::new();
    let group = world.group("Team", &[]).await;
    changes(&mut world, group, ROWS).await;
    let running = world.open().await;
    let image = world.folder.path().join("projection/images").join(world.tenant.as_str());
    let patience = deadline();
    while !image.is_file() {
        assert!(Instant::now() < patience, "there is no image");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut members = Vec::new();
    for number in 0..PEOPLE {
        members.push(world.user(&format!("user-{number}")).await);
    }
    world.members(group, &members, &[]).await;
    running.projection.catch_up(deadline()).await.unwrap();
    running.stop().await;
    let size = std::fs::metadata(&image).unwrap().len();

    let running = world.open().await;
    assert_eq!(running.projection.members(&world.tenant, group), members);
    let last = format!(r#"userName eq "user-{}""#, PEOPLE - 1);
    let asked = ("User", last.as_str());
    let found = found(&running.projection, &world.tenant, &world.registry, asked, Moment::NOW).await;
    assert_eq!(found.len(), 1);
    // So few rows are not worth another image.
    assert_eq!(std::fs::metadata(&image).unwrap().len(), size);
    running.stop().await;
}
