//! The members of a large group are read in pieces, while others change it: each answer is the group as it was at its version.

#![cfg(test)]

#[expect(clippy::allow_attributes, reason = "which parts are used differs between the tests that include it")]
#[allow(dead_code, reason = "the other tests use the rest")]
mod common;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{World, lens};
use projector::Projection;
use proto::{ResourceId, Tenant};
use scim::ResourceType;
use serde_json::Value;

/// More than three pieces hold.
const MEMBERS: usize = 3_500;
/// Who comes while the group is read.
const COMING: usize = 400;

/// A version's sequence, the members that were shown, and whether anything was applied meanwhile.
type Seen = (u64, usize, bool);

/// The group as text and as a tree, one after the other, until nobody comes any more.
async fn read(
    projection: &Projection,
    tenant: &Tenant,
    kind: &ResourceType,
    group: ResourceId,
    ended: &AtomicBool,
) -> Vec<Seen> {
    let mut seen = Vec::new();
    while !ended.load(Ordering::Relaxed) {
        let stored = projection.resource(tenant, "Group", group).await.unwrap().unwrap();
        let (before, mut text) = (projection.applied(), Vec::new());
        let written = projection.write_json(tenant, &stored, kind, &lens("hr"), &mut text);
        let between = projection.applied();
        let shown = projection.represent_now(tenant, &stored, kind, &lens("hr"));
        let after = projection.applied();
        let text: Value = serde_json::from_slice(&text).unwrap();
        let count = |members: &Value| members.as_array().unwrap().len();
        for (is_current, one) in [
            (written.is_current, (written.version.sequence(), count(&text["members"]), between > before)),
            (shown.is_current, (shown.version.sequence(), count(&shown.object["members"]), after > between)),
        ] {
            if is_current {
                seen.push(one);
            }
        }
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_large_group_is_shown_as_it_was_at_its_version() {
    let mut world = World::new();
    let mut people = Vec::new();
    for number in 0..MEMBERS + COMING {
        people.push(world.user(&format!("u{number}")).await);
    }
    let (there, coming) = people.split_at(MEMBERS);
    let group = world.group("Everybody", there).await;
    let running = world.open().await;
    running.projection.catch_up(common::deadline()).await.unwrap();
    let (projection, tenant) = (running.projection.clone(), world.tenant.clone());
    let kind = world.registry.by_name("Group").unwrap().clone();
    let ended = std::sync::Arc::new(AtomicBool::new(false));
    let reading = tokio::spawn({
        let (projection, ended) = (projection.clone(), ended.clone());
        async move { read(&projection, &tenant, &kind, group, &ended).await }
    });
    let mut counts = BTreeMap::new();
    for (number, one) in (1..).zip(coming) {
        counts.insert(world.members(group, &[*one], &[]).await, MEMBERS + number);
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    ended.store(true, Ordering::Relaxed);
    let seen = reading.await.unwrap();
    let mut meanwhile = 0;
    for (sequence, count, changed) in &seen {
        let expected = counts.get(sequence).copied().unwrap_or(MEMBERS);
        assert_eq!(*count, expected, "at {sequence}");
        meanwhile += usize::from(*changed);
    }
    assert!(meanwhile > 5, "{meanwhile} of {} were read while somebody came", seen.len());
    running.stop().await;
}
