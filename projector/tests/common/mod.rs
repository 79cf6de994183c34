//! What the tests of the directory share: a log in a vector, events as a gateway writes them, a world to open it in,
//! random histories, and the naive directory that they must come to.

pub(crate) mod answers;
pub(crate) mod book;
pub(crate) mod history;
pub(crate) mod model;
pub(crate) mod past;
pub(crate) mod reader;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use eventlog::memory::{self, Faults};
use eventlog::{Append, Guard, Keyring, Log, clock};
use projector::{Config, Error, Lens, Projection, Storage};
use proto::sealing::DataKey;
use proto::subject::{self, Key, SubjectSecret};
use proto::{Body, Event, KeyRef, Kind, ResourceId, Tenant};
use scim::Registry;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub(crate) const SOON: Duration = Duration::from_secs(20);
/// What locations begin with.
pub(crate) const BASE_URL: &str = "http://x.test";
const SECRET: [u8; 32] = [9; 32];

pub(crate) fn deadline() -> Instant {
    Instant::now() + SOON
}

pub(crate) fn tenant(name: &str) -> Tenant {
    name.parse().unwrap()
}

pub(crate) fn registry() -> Arc<Registry> {
    Arc::new(Registry::built_in().unwrap())
}

/// The key of a `userName`.
pub(crate) fn key_of(tenant: &Tenant, name: &str) -> Key {
    subject::key_of_value(&SubjectSecret::new(SECRET), tenant, "User", name)
}

/// An event of the source `hr`, happening now.
pub(crate) fn event(tenant: &Tenant, resource_type: &str, id: ResourceId, kind: Kind) -> Event {
    Event {
        id: clock::new_event_id(),
        tenant: tenant.clone(),
        resource_type: resource_type.to_string(),
        resource_id: id,
        source: "hr".to_string(),
        actor: "a".to_string(),
        txn: "t".to_string(),
        occurred_at: clock::now(),
        reason: String::new(),
        key_ref: None,
        continued: false,
        kind,
    }
}

/// A body with a document and what the source `hr` calls its resource.
pub(crate) fn body(document: &Value, external_id: Option<String>) -> Body {
    Body {
        document: document.as_object().cloned().unwrap_or_default().into(),
        external_ids: external_id.map(|id| ("hr".to_string(), id)).into_iter().collect(),
        ..Body::default()
    }
}

/// An event as it is written.
pub(crate) fn sealed(event: &Event, body: &Body, key: &DataKey) -> Bytes {
    proto::codec::encode(event, Some((body, key, clock::random().unwrap())))
}

pub(crate) fn append(event: &Event, key: &Key, guard: Guard, payload: Bytes) -> Append {
    let subject = subject::identity(&event.tenant, &event.resource_type, key);
    Append { subject, guard, id: event.id, payload, headers: eventlog::Headers::default() }
}

/// A projection in a folder, with little memory for what it reads.
pub(crate) fn config(folder: &Path, indexed: &[&str]) -> Config {
    Config {
        storage: Storage::Folder(folder.join("projection")),
        cache_bytes: 8 << 20,
        hot_bytes: 1 << 16,
        indexed: indexed.iter().map(ToString::to_string).collect(),
        until: None,
        restored_at: None,
    }
}

/// Who sees members and groups.
pub(crate) fn lens(source: &str) -> Lens {
    Lens {
        source: source.to_string(),
        base_url: BASE_URL.to_string(),
        members: true,
        groups: true,
        ..Lens::default()
    }
}

/// Every file in a folder.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// What a projection that was stopped wrote, once it let go of it.
pub(crate) async fn store(folder: &Path) -> sled::Db {
    let path = folder.join("projection");
    let deadline = deadline();
    loop {
        match sled::open(&path) {
            Ok(store) => return store,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A projection that follows its log.
pub(crate) struct Running {
    pub(crate) projection: Projection,
    pub(crate) shutdown: CancellationToken,
    pub(crate) task: tokio::task::JoinHandle<Result<(), Error>>,
}

impl Running {
    /// Lets an open projection follow.
    pub(crate) fn start(projection: Projection) -> Self {
        let shutdown = CancellationToken::new();
        let (running, token) = (projection.clone(), shutdown.clone());
        let task = tokio::spawn(async move { running.run(token).await });
        Self { projection, shutdown, task }
    }

    /// Opens a projection and lets it follow until it knows all that the log tells.
    pub(crate) async fn open(
        config: Config,
        log: Arc<dyn Log>,
        keyring: &Keyring,
        registry: &Arc<Registry>,
    ) -> Self {
        let projection = Projection::open(config, log, keyring.clone(), registry.clone()).await.unwrap();
        let running = Self::start(projection);
        running.projection.catch_up(deadline()).await.unwrap();
        running
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }
}

/// A log in memory, a folder, and who writes there.
pub(crate) struct World {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) keyring: Keyring,
    pub(crate) registry: Arc<Registry>,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) tenant: Tenant,
    pub(crate) keys: BTreeMap<ResourceId, (KeyRef, DataKey)>,
}

impl World {
    pub(crate) fn new() -> Self {
        let broker = memory::broker(Faults::default());
        Self {
            log: broker.identity,
            keyring: Keyring::new(broker.keys, DataKey::new([1; 32])),
            registry: registry(),
            folder: tempfile::tempdir().unwrap(),
            tenant: tenant("corp"),
            keys: BTreeMap::new(),
        }
    }

    pub(crate) async fn write(
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
        let event = Event { key_ref: Some(key_ref), ..event(&self.tenant, resource_type, id, kind) };
        let payload = sealed(&event, &body(&document, Some(format!("ext-{id}"))), &data_key);
        self.log.append(append(&event, key, Guard::None, payload), deadline()).await.unwrap()
    }

    pub(crate) fn key(&self, name: &str) -> Key {
        key_of(&self.tenant, name)
    }

    pub(crate) async fn user(&mut self, name: &str) -> ResourceId {
        let (id, key) = (clock::new_resource_id(), self.key(name));
        let document = json!({"userName": name, "displayName": format!("The {name}")});
        self.write("User", id, &key, Kind::Created { members_added: vec![] }, document).await;
        id
    }

    pub(crate) async fn group(&mut self, name: &str, members: &[ResourceId]) -> ResourceId {
        let id = clock::new_resource_id();
        let kind = Kind::Created { members_added: members.to_vec() };
        self.write("Group", id, &subject::key_of_id(id), kind, json!({"displayName": name})).await;
        id
    }

    pub(crate) async fn members(
        &mut self,
        group: ResourceId,
        added: &[ResourceId],
        removed: &[ResourceId],
    ) -> u64 {
        let kind = Kind::MembersChanged { added: added.to_vec(), removed: removed.to_vec() };
        self.write("Group", group, &subject::key_of_id(group), kind, json!({})).await
    }

    pub(crate) async fn open(&self) -> Running {
        let config = config(self.folder.path(), &[]);
        Running::open(config, self.log.clone(), &self.keyring, &self.registry).await
    }
}
