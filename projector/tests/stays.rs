//! Times in groups: those that an event ended are found without looking through all others.

#![cfg(test)]

#[expect(clippy::allow_attributes, reason = "which parts are used differs between the tests that include it")]
#[allow(dead_code, reason = "the other tests use the rest")]
mod common;

use common::World;
use projector::Moment;
use proto::{Kind, subject};
use serde_json::json;

#[tokio::test]
async fn whose_time_an_event_ended_is_found_whatever_came_after() {
    let mut world = World::new();
    let mut people = Vec::new();
    for name in ["ada", "bob", "cyd", "dan"] {
        people.push(world.user(name).await);
    }
    let [ada, bob, cyd, dan] = people[..] else { panic!("four were made") };
    let (staff, other) = (world.group("Staff", &people).await, world.group("Other", &[ada, bob]).await);
    let first = world.members(staff, &[], &[ada, cyd]).await;
    let back = world.members(staff, &[ada], &[]).await;
    let key = world.key("ada");
    let gone = world.write("User", ada, &key, Kind::Deleted, json!({})).await;
    let last = world.members(staff, &[cyd], &[dan]).await;
    let key = subject::key_of_id(staff);
    let deleted = world.write("Group", staff, &key, Kind::Deleted, json!({})).await;
    let running = world.open().await;
    let (projection, tenant) = (&running.projection, &world.tenant);
    let left = |group, sequence| {
        let mut left = projection.left_with(tenant, group, sequence);
        left.sort();
        left
    };
    for (sequence, expected) in [
        (first, vec![ada, cyd]),
        (back, vec![]),
        (gone, vec![ada]),
        (last, vec![dan]),
        (deleted, vec![bob, cyd]),
        (deleted + 1, vec![]),
    ] {
        assert_eq!(left(staff, sequence), expected, "at {sequence}");
    }
    assert_eq!(left(other, gone), [ada]);
    let lost = |member, sequence| projection.lost_with(tenant, member, sequence);
    let mut of_ada = lost(ada, gone);
    of_ada.sort();
    assert_eq!((of_ada, lost(ada, first), lost(ada, last)), (vec![staff, other], vec![staff], vec![]));
    assert_eq!((lost(bob, deleted), lost(bob, gone)), (vec![staff], vec![]));
    let stays = projection.stays_in(tenant, staff, Moment::NOW).await;
    assert_eq!((stays.len(), projection.some_stays(tenant, &stays, 4, 9).len()), (6, 2));
    running.stop().await;
}
