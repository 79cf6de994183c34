//! The directory over the log in memory: what it answers, and that it answers the same after anything that can happen
//! to its folder.

#![cfg(test)]

#[expect(clippy::allow_attributes, reason = "which parts are used differs between the tests that include it")]
#[allow(dead_code, reason = "the other tests use the rest")]
mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::answers::{answers, found, same};
use common::{World, config, deadline, files};
use projector::{Error, Moment, Projection};
use proto::subject;
use proto::{At, Kind, Position, Resource, ResourceId, evolve};
use serde_json::json;

async fn find(world: &World, projection: &Projection, kind: &str, filter: &str) -> Vec<String> {
    let found = found(projection, &world.tenant, &world.registry, (kind, filter), Moment::NOW).await;
    found.iter().map(|stored| stored.document["displayName"].as_str().unwrap().to_string()).collect()
}

/// Everything that a client could read, as one text.
async fn all(world: &World, projection: &Projection) -> String {
    answers(projection, &world.tenant, &world.registry, &[]).await
}

async fn populated() -> World {
    let mut world = World::new();
    let (ada, bob, cyd) = (world.user("Ada").await, world.user("bob").await, world.user("cyd").await);
    let team = world.group("Team", &[ada, bob]).await;
    world.members(team, &[cyd], &[ada]).await;
    let key = world.key("bob");
    world
        .write(
            "User",
            bob,
            &key,
            Kind::Updated { members_added: vec![], members_removed: vec![] },
            json!({"userName": "bob", "displayName": "Robert"}),
        )
        .await;
    world
}

#[tokio::test]
async fn filters_find_what_was_written() {
    let world = populated().await;
    let running = world.open().await;
    let projection = &running.projection;
    assert_eq!(find(&world, projection, "User", r#"userName eq "ADA""#).await, ["The Ada"]);
    assert_eq!(find(&world, projection, "User", r#"displayName eq "robert""#).await, ["Robert"]);
    assert_eq!(find(&world, projection, "User", r#"displayName eq "The bob""#).await, Vec::<String>::new());
    assert_eq!(
        find(&world, projection, "User", r#"userName sw "c" or userName eq "ada""#).await,
        ["The Ada", "The cyd"]
    );
    let bob = projection.ids(&world.tenant, "User")[1];
    assert_eq!(find(&world, projection, "User", &format!("externalId eq \"ext-{bob}\"")).await, ["Robert"]);
    assert_eq!(find(&world, projection, "User", &format!("id eq \"{bob}\"")).await, ["Robert"]);
    assert_eq!(find(&world, projection, "Group", &format!("members eq \"{bob}\"")).await, ["Team"]);
    assert_eq!(find(&world, projection, "Group", &format!("members[value eq \"{bob}\"]")).await, ["Team"]);
    running.stop().await;
}

/// An index keeps only the beginning of a text.
#[tokio::test]
async fn an_index_says_what_a_look_at_each_would_say() {
    let mut world = World::new();
    let long = "x".repeat(4096);
    world.group(&long, &[]).await;
    let running = world.open().await;
    let projection = &running.projection;
    for op in ["eq", "sw", "gt", "ge"] {
        let filter = format!("displayName {op} \"{long}a\"");
        assert_eq!(find(&world, projection, "Group", &filter).await, Vec::<String>::new(), "{op}");
    }
    for op in ["lt", "le", "ne"] {
        let filter = format!("displayName {op} \"{long}a\"");
        assert_eq!(find(&world, projection, "Group", &filter).await, [long.as_str()], "{op}");
    }
    running.stop().await;
}

#[tokio::test]
async fn a_deleted_user_leaves_its_groups_and_frees_its_key() {
    let mut world = populated().await;
    let running = world.open().await;
    let (bob, team) =
        (running.projection.ids(&world.tenant, "User")[1], running.projection.ids(&world.tenant, "Group")[0]);
    let before = running.projection.resource(&world.tenant, "Group", team).await.unwrap().unwrap();
    let key = world.key("bob");
    let sequence = world.write("User", bob, &key, Kind::Deleted, json!({})).await;
    // An add that lost the race against the deletion changes nothing.
    let late = world.members(team, &[bob], &[]).await;
    running.projection.wait_until(late, deadline()).await.unwrap();
    let after = running.projection.resource(&world.tenant, "Group", team).await.unwrap().unwrap();
    assert!(!running.projection.has_member(&world.tenant, team, bob));
    assert_eq!(after.version.sequence(), sequence);
    assert_ne!(after.version, before.version);
    assert_eq!(after.guard, late);
    let state = running.projection.key(&world.tenant, "User", &key);
    assert_eq!((state.last, state.holder), (sequence, None));
    assert!(running.projection.resource(&world.tenant, "User", bob).await.unwrap().is_none());
    running.stop().await;
}

#[tokio::test]
async fn a_new_start_answers_the_same() {
    let mut world = populated().await;
    let running = world.open().await;
    let expected = all(&world, &running.projection).await;
    assert!(expected.contains("Robert") && expected.contains("\"groups\""), "{expected}");
    running.stop().await;

    let running = world.open().await;
    same(&all(&world, &running.projection).await, &expected, "a new start");
    world.user("dan").await;
    running.projection.catch_up(deadline()).await.unwrap();
    let expected = all(&world, &running.projection).await;
    running.stop().await;

    std::fs::remove_dir_all(world.folder.path().join("projection")).unwrap();
    let running = world.open().await;
    same(&all(&world, &running.projection).await, &expected, "a new start");
    running.stop().await;
}

type Damage = fn(&mut Vec<u8>);

#[tokio::test]
async fn damage_is_answered_by_building_again() {
    let world = populated().await;
    let running = world.open().await;
    let expected = all(&world, &running.projection).await;
    running.stop().await;
    let folder = world.folder.path().join("projection");
    let damages: [(&str, Damage); 4] = [
        ("empty", Vec::clear),
        ("cut in half", |bytes| bytes.truncate(bytes.len() / 2)),
        ("flipped", |bytes| bytes.iter_mut().step_by(97).for_each(|byte| *byte ^= 0x55)),
        ("foreign", |bytes| *bytes = b"this is no database".to_vec()),
    ];
    for (what, damage) in damages {
        for file in files(&folder) {
            let mut bytes = std::fs::read(&file).unwrap();
            damage(&mut bytes);
            std::fs::write(&file, bytes).unwrap();
        }
        let running = world.open().await;
        same(&all(&world, &running.projection).await, &expected, what);
        running.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_folder_that_is_open_elsewhere_is_left_alone() {
    let world = populated().await;
    let running = world.open().await;
    let expected = all(&world, &running.projection).await;
    running.stop().await;
    let open = || {
        Projection::open(
            config(world.folder.path(), &[]),
            world.log.clone(),
            world.keyring.clone(),
            world.registry.clone(),
        )
    };
    let first = open().await.unwrap();
    let kept = files(world.folder.path());
    assert!(matches!(open().await, Err(Error::Folder { .. })));
    assert_eq!(files(world.folder.path()), kept);
    same(&all(&world, &first).await, &expected, "while another tries to open it");
    // Who waits for it gets it.
    let (second, ()) = tokio::join!(open(), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        drop(first);
    });
    same(&all(&world, &second.unwrap()).await, &expected, "after another let go of it");
}

#[tokio::test]
async fn another_timeline_is_noticed() {
    let mut world = populated().await;
    world.open().await.stop().await;
    // A log restored from a backup and written on: the same sequences, other events.
    let other = populated().await;
    world.log = other.log.clone();
    world.keyring = other.keyring.clone();
    let running = world.open().await;
    assert_eq!(all(&world, &running.projection).await, {
        let fresh = tempfile::tempdir().unwrap();
        let other = World { folder: fresh, ..other };
        let running = other.open().await;
        let answers = all(&other, &running.projection).await;
        running.stop().await;
        answers
    });
    running.stop().await;
}

/// The read model is the fold of the log.
#[tokio::test]
async fn the_directory_is_the_fold_of_the_log() {
    for seed in 1..=15u64 {
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut next = move |below: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            usize::try_from(random % below as u64).unwrap()
        };
        let mut world = World::new();
        let mut users = Vec::new();
        for number in 0..4 {
            users.push(world.user(&format!("user-{number}")).await);
        }
        let group = world.group("G", &users[..2]).await;
        for _ in 0..30 {
            let user = users[next(users.len())];
            match next(5) {
                0 => {
                    world.members(group, &[user], &[]).await;
                }
                1 => {
                    world.members(group, &[], &[user]).await;
                }
                2 => {
                    let kind = Kind::Updated { members_added: vec![user], members_removed: vec![] };
                    world
                        .write(
                            "Group",
                            group,
                            &subject::key_of_id(group),
                            kind,
                            json!({"displayName": format!("G{}", next(9))}),
                        )
                        .await;
                }
                3 => {
                    let key = world.key("x");
                    world.write("User", user, &key, Kind::Deleted, json!({})).await;
                }
                _ => users.push(world.user(&format!("user-{}", users.len())).await),
            }
        }
        let running = world.open().await;
        let mut folded: BTreeMap<ResourceId, Option<Resource>> = BTreeMap::new();
        for sequence in 1..=world.log.last_sequence().await.unwrap() {
            let message = world.log.read(sequence).await.unwrap().unwrap();
            let encoded = proto::codec::decode(message.payload).unwrap();
            let event = &encoded.event;
            let body = encoded.open(&world.keys[&event.resource_id].1).unwrap();
            let at = At { position: Position { sequence, event: event.id }, time: message.time };
            let current = folded.remove(&event.resource_id).flatten();
            // Edges to whoever is not alive at this sequence are ignored.
            let current = evolve(current, event, Some(&body), at).map(|mut resource| {
                if resource.id == group {
                    resource.members.retain(|id| folded.get(id).is_some_and(Option::is_some));
                }
                resource
            });
            let gone = current.is_none();
            folded.insert(event.resource_id, current);
            if gone {
                for resource in folded.values_mut().flatten() {
                    resource.members.remove(&event.resource_id);
                }
            }
        }
        for (id, expected) in &folded {
            let kind = if *id == group { "Group" } else { "User" };
            let found = running.projection.resource(&world.tenant, kind, *id).await.unwrap();
            assert_eq!(found.is_some(), expected.is_some(), "seed {seed}");
            let (Some(found), Some(expected)) = (found, expected) else { continue };
            assert_eq!(found.document, expected.document, "seed {seed}");
            let mut members = expected.members.iter().copied().collect::<Vec<_>>();
            members.sort();
            let mut held = running.projection.members(&world.tenant, *id);
            held.sort();
            assert_eq!(held, members, "seed {seed}");
        }
        running.stop().await;
    }
}
