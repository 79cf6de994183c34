//! The directory over the log in memory: what it answers, and that it answers the same after anything that can happen
//! to its folder.

#![cfg(test)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use eventlog::memory::{self, Faults};
use eventlog::{Append, Broker, Guard, Keyring, clock};
use projector::{Config, Lens, Part, Projection, Query, Storage, Window};
use proto::sealing::DataKey;
use proto::subject::{self, Key, SubjectSecret};
use proto::{At, Body, Event, KeyRef, Kind, Position, Resource, ResourceId, Tenant, evolve};
use scim::{Dialect, Filter, FilterLimits, Registry};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const SECRET: [u8; 32] = [9; 32];

struct World {
    broker: Broker,
    keyring: Keyring,
    registry: Arc<Registry>,
    folder: tempfile::TempDir,
    tenant: Tenant,
    keys: BTreeMap<ResourceId, (KeyRef, DataKey)>,
}

struct Running {
    projection: Projection,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), projector::Error>>,
}

impl World {
    fn new() -> Self {
        let broker = memory::broker(Faults::default());
        let keyring = Keyring::new(broker.keys.clone(), DataKey::new([1; 32]));
        Self {
            broker,
            keyring,
            registry: Arc::new(Registry::built_in().unwrap()),
            folder: tempfile::tempdir().unwrap(),
            tenant: "corp".parse().unwrap(),
            keys: BTreeMap::new(),
        }
    }

    async fn write(
        &mut self,
        resource_type: &str,
        id: ResourceId,
        key: &Key,
        kind: Kind,
        document: Value,
    ) -> u64 {
        if !self.keys.contains_key(&id) {
            self.keys.insert(id, self.keyring.issue(&self.tenant).await.unwrap());
        }
        let (key_ref, data_key) = self.keys[&id].clone();
        let event = Event {
            id: clock::new_event_id(),
            tenant: self.tenant.clone(),
            resource_type: resource_type.to_string(),
            resource_id: id,
            source: "hr".to_string(),
            actor: "a".to_string(),
            txn: "t".to_string(),
            occurred_at: clock::now(),
            reason: String::new(),
            key_ref: Some(key_ref),
            continued: false,
            kind,
        };
        let body = Body {
            document: document.as_object().cloned().unwrap_or_default().into(),
            external_ids: [("hr".to_string(), format!("ext-{id}"))].into_iter().collect(),
            ..Body::default()
        };
        let payload = proto::codec::encode(&event, Some((&body, &data_key, clock::random().unwrap())));
        let append = Append {
            subject: subject::identity(&self.tenant, resource_type, key),
            guard: Guard::None,
            id: event.id,
            payload,
            headers: Vec::new(),
        };
        self.broker.identity.append(append, Instant::now()).await.unwrap()
    }

    fn key(&self, name: &str) -> Key {
        subject::key_of_value(&SubjectSecret::new(SECRET), &self.tenant, "User", name)
    }

    async fn user(&mut self, name: &str) -> ResourceId {
        let (id, key) = (clock::new_resource_id(), self.key(name));
        let document = json!({"userName": name, "displayName": format!("The {name}")});
        self.write("User", id, &key, Kind::Created { members_added: vec![] }, document).await;
        id
    }

    async fn group(&mut self, name: &str, members: &[ResourceId]) -> ResourceId {
        let id = clock::new_resource_id();
        let kind = Kind::Created { members_added: members.to_vec() };
        self.write("Group", id, &subject::key_of_id(id), kind, json!({"displayName": name})).await;
        id
    }

    async fn members(&mut self, group: ResourceId, added: &[ResourceId], removed: &[ResourceId]) -> u64 {
        let kind = Kind::MembersChanged { added: added.to_vec(), removed: removed.to_vec() };
        self.write("Group", group, &subject::key_of_id(group), kind, json!({})).await
    }

    async fn open(&self) -> Running {
        let config = Config {
            storage: Storage::Folder(self.folder.path().join("projection")),
            cache_bytes: 8 << 20,
            hot_bytes: 1 << 20,
            indexed: Vec::new(),
            until: None,
        };
        let projection = Projection::open(
            config,
            self.broker.identity.clone(),
            self.keyring.clone(),
            self.registry.clone(),
        )
        .await
        .unwrap();
        let shutdown = CancellationToken::new();
        let (running, token) = (projection.clone(), shutdown.clone());
        let task = tokio::spawn(async move { running.run(token).await });
        projection.catch_up(Instant::now() + Duration::from_secs(20)).await.unwrap();
        Running { projection, shutdown, task }
    }

    /// Everything that a client could read, as one text.
    async fn answers(&self, projection: &Projection) -> String {
        let lens = Lens {
            source: "hr".to_string(),
            base_url: "http://x.test".to_string(),
            members: true,
            groups: true,
            ..Lens::default()
        };
        let mut all = String::new();
        for kind in self.registry.resource_types() {
            let parts = [Part { kind, filter: None, sort: None }];
            let window = Window::From(1);
            let query =
                Query { parts: &parts, lens: &lens, window: &window, count: 1000, scan_rows_max: 1000 };
            let page = projection.query(&self.tenant, query).await.unwrap();
            for stored in page.resources {
                let object = projection.represent(&self.tenant, &stored, kind, &lens);
                all.push_str(&format!("{} {}\n", stored.guard, Value::Object(object)));
            }
        }
        all
    }

    async fn find(&self, projection: &Projection, kind: &str, filter: &str) -> Vec<String> {
        let kind = self.registry.by_name(kind).unwrap();
        let filter =
            Filter::parse(filter, &FilterLimits::default(), Dialect::Rfc, &self.registry, kind).unwrap();
        let lens = Lens { source: "hr".to_string(), ..Lens::default() };
        let parts = [Part { kind, filter: Some(&filter), sort: None }];
        let window = Window::From(1);
        let query = Query { parts: &parts, lens: &lens, window: &window, count: 100, scan_rows_max: 1000 };
        let page = projection.query(&self.tenant, query).await.unwrap();
        assert_eq!(page.total, page.resources.len());
        page.resources
            .iter()
            .map(|stored| stored.document["displayName"].as_str().unwrap().to_string())
            .collect()
    }
}

impl Running {
    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }
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
    assert_eq!(world.find(projection, "User", r#"userName eq "ADA""#).await, ["The Ada"]);
    assert_eq!(world.find(projection, "User", r#"displayName eq "robert""#).await, ["Robert"]);
    assert_eq!(world.find(projection, "User", r#"displayName eq "The bob""#).await, Vec::<String>::new());
    assert_eq!(
        world.find(projection, "User", r#"userName sw "c" or userName eq "ada""#).await,
        ["The Ada", "The cyd"]
    );
    let bob = projection.ids(&world.tenant, "User")[1];
    assert_eq!(world.find(projection, "User", &format!("externalId eq \"ext-{bob}\"")).await, ["Robert"]);
    assert_eq!(world.find(projection, "User", &format!("id eq \"{bob}\"")).await, ["Robert"]);
    assert_eq!(world.find(projection, "Group", &format!("members eq \"{bob}\"")).await, ["Team"]);
    assert_eq!(world.find(projection, "Group", &format!("members[value eq \"{bob}\"]")).await, ["Team"]);
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
    running.projection.wait_until(late, Instant::now() + Duration::from_secs(20)).await.unwrap();
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
    let expected = world.answers(&running.projection).await;
    assert!(expected.contains("Robert") && expected.contains("\"groups\""), "{expected}");
    running.stop().await;

    let running = world.open().await;
    assert_eq!(world.answers(&running.projection).await, expected);
    world.user("dan").await;
    running.projection.catch_up(Instant::now() + Duration::from_secs(20)).await.unwrap();
    let expected = world.answers(&running.projection).await;
    running.stop().await;

    std::fs::remove_dir_all(world.folder.path().join("projection")).unwrap();
    let running = world.open().await;
    assert_eq!(world.answers(&running.projection).await, expected);
    running.stop().await;
}

type Damage = fn(&mut Vec<u8>);

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

#[tokio::test]
async fn damage_is_answered_by_building_again() {
    let world = populated().await;
    let running = world.open().await;
    let expected = world.answers(&running.projection).await;
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
        assert_eq!(world.answers(&running.projection).await, expected, "{what}");
        running.stop().await;
    }
}

#[tokio::test]
async fn another_timeline_is_noticed() {
    let mut world = populated().await;
    world.open().await.stop().await;
    // A log restored from a backup and written on: the same sequences, other events.
    let other = populated().await;
    world.broker.identity = other.broker.identity.clone();
    world.keyring = other.keyring.clone();
    let running = world.open().await;
    assert_eq!(world.answers(&running.projection).await, {
        let fresh = tempfile::tempdir().unwrap();
        let other = World { folder: fresh, ..other };
        let running = other.open().await;
        let answers = other.answers(&running.projection).await;
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
        for sequence in 1..=world.broker.identity.last_sequence().await.unwrap() {
            let message = world.broker.identity.read(sequence).await.unwrap().unwrap();
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
