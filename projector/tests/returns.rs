//! Who comes back under a former id is one resource with two lives: each is answered as of its time.

#![cfg(test)]

#[expect(clippy::allow_attributes, reason = "which parts are used differs between the tests that include it")]
#[allow(dead_code, reason = "the other tests use the rest")]
mod common;

use common::answers::found;
use common::history::ENTERPRISE;
use common::{Running, World, deadline, lens};
use projector::{Became, Moment, When};
use proto::{Kind, ResourceId};
use serde_json::{Value, json};

const CREATED: Kind = Kind::Created { members_added: Vec::new() };

/// Somebody of a group, who leaves and comes back into another.
struct Case {
    world: World,
    ada: ResourceId,
    old: ResourceId,
    new: ResourceId,
    /// Sequences at which she was there, was gone, and was there again.
    first: u64,
    gone: u64,
    last: u64,
}

async fn back() -> Case {
    let mut world = World::new();
    let ada = world.user("ada").await;
    let (old, new) = (world.group("Old", &[]).await, world.group("New", &[]).await);
    let first = world.members(old, &[ada], &[]).await;
    let key = world.key("ada");
    let gone = world.write("User", ada, &key, Kind::Deleted, json!({})).await;
    let again = json!({"userName": "ada", "displayName": "Ada again"});
    world.write("User", ada, &key, CREATED, again).await;
    let last = world.members(new, &[ada], &[]).await;
    Case { world, ada, old, new, first, gone, last }
}

async fn check(case: &Case, running: &Running, what: &str) {
    let (Case { world, ada, old, new, .. }, projection) = (case, &running.projection);
    let tenant = &world.tenant;
    let at = |sequence| projection.moment(tenant, When::Sequence(sequence)).unwrap().unwrap();
    let lives =
        [(case.first, "The ada", vec![*old]), (case.gone, "", vec![]), (case.last, "Ada again", vec![*new])];
    for (sequence, name, groups) in &lives {
        let (moment, what) = (at(*sequence), format!("{what}, at {sequence}"));
        let stored = projection.resource_at(tenant, "User", *ada, moment).await.unwrap();
        let shown = stored.map(|stored| stored.document["displayName"].clone());
        assert_eq!(shown, (!name.is_empty()).then(|| json!(name)), "{what}");
        assert_eq!(projection.known_at(tenant, *ada, moment).unwrap().exists, !name.is_empty(), "{what}");
        let direct: Vec<ResourceId> =
            projection.groups_at(tenant, *ada, moment).into_iter().map(|(group, _)| group).collect();
        assert_eq!(direct, *groups, "{what}");
        for group in [old, new] {
            let questions = [
                ("User", format!("id eq \"{ada}\""), !name.is_empty()),
                ("User", format!("groups.value eq \"{group}\""), groups.contains(group)),
                (
                    "Group",
                    format!("members.value eq \"{ada}\" and id eq \"{group}\""),
                    groups.contains(group),
                ),
            ];
            for (kind, filter, is_found) in questions {
                let all = found(projection, tenant, &world.registry, (kind, &filter), moment).await;
                assert_eq!(all.len(), usize::from(is_found), "{filter}: {what}");
            }
        }
    }
    let history = projection.history(tenant, *ada, Moment::NOW, None, 100).await.unwrap().unwrap();
    let kinds: Vec<&str> = history.events.iter().map(|event| event.event.kind.name()).collect();
    assert_eq!(kinds, ["Created", "Deleted", "Created"], "{what}");
    let stays = projection.stays_of(tenant, *ada, Moment::NOW).await;
    let stays = projection.some_stays(tenant, &stays, 0, 100);
    let stays: Vec<_> = stays.iter().map(|stay| (stay.group, stay.from.0, stay.to.map(|to| to.0))).collect();
    assert_eq!(stays, [(*old, case.first, Some(case.gone)), (*new, case.last, None)], "{what}");
    let found =
        projection.differences(tenant, (Some(at(case.first)), at(case.last)), None, 100).await.unwrap();
    let ours: Vec<_> = found.resources.iter().filter(|one| one.id == *ada).collect();
    assert!(
        matches!(ours[..], [one] if one.what == Became::Changed && one.changes.len() == 1),
        "{what}: {ours:?}"
    );
}

#[tokio::test]
async fn both_lives_are_answered_as_of_their_times() {
    let case = back().await;
    let running = case.world.open().await;
    check(&case, &running, "from the log").await;
    running.stop().await;
    let running = case.world.open().await;
    check(&case, &running, "after a new start").await;
    running.stop().await;
}

/// Where a manager was found last is remembered.
#[tokio::test]
async fn a_manager_who_came_back_is_named() {
    let mut world = World::new();
    let ada = world.user("ada").await;
    let (bob, bobs) = (eventlog::clock::new_resource_id(), world.key("bob"));
    let document = json!({"userName": "bob", ENTERPRISE: {"manager": {"value": ada.to_string()}}});
    world.write("User", bob, &bobs, CREATED, document).await;
    let running = world.open().await;
    let (tenant, kind) = (world.tenant.clone(), world.registry.by_name("User").unwrap().clone());
    let named = async || {
        running.projection.catch_up(deadline()).await.unwrap();
        let stored = running.projection.resource(&tenant, "User", bob).await.unwrap().unwrap();
        let mut text = Vec::new();
        running.projection.write_json(&tenant, &stored, &kind, &lens("hr"), &mut text);
        serde_json::from_slice::<Value>(&text).unwrap()[ENTERPRISE]["manager"]["displayName"].clone()
    };
    assert_eq!(named().await, json!("The ada"));
    let key = world.key("ada");
    world.write("User", ada, &key, Kind::Deleted, json!({})).await;
    assert_eq!(named().await, Value::Null);
    let again = json!({"userName": "ada", "displayName": "Ada again"});
    world.write("User", ada, &key, CREATED, again).await;
    assert_eq!(named().await, json!("Ada again"));
    running.stop().await;
}
