//! Random histories: people and groups of a few tenants, as a seed decides.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use eventlog::memory::{self, Chance, Faults};
use eventlog::{Bucket, Guard, Keyring};
use jiff::{SignedDuration, Timestamp};
use proto::sealing::DataKey;
use proto::subject::{self, Key};
use proto::{Body, Event, EventId, KeyRef, Kind, ResourceId, Tenant, log_time};
use serde_json::{Value, json};

use super::book::Book;
use super::model::{Model, Resource, Told};
use super::{append, key_of, sealed, tenant};

pub(crate) const ENTERPRISE: &str = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";
/// When histories begin, in milliseconds: long ago, so that all their instants are past.
const BEGINNING_MS: i64 = 1_767_225_600_000;
/// So many users of a tenant are enough.
const USERS_MAX: usize = 40;
const GROUPS_MAX: usize = 10;
/// Ids that are named before their resources exist.
const AHEAD: usize = 3;

const NAMES: [&str; 10] =
    ["ada", "Bob", "ÇELİK", "straße", "Åsa", "李雷", "Zoë", "émile", "o'malley", "quo\"te\\d"];
const TITLES: [&str; 9] =
    ["", "Engineer", "engineer", "ENGINEER II", "Ｄr", "Éclair", "éclair\n\"x\"", "manager", "Zar"];
const FAMILIES: [&str; 6] = ["Lovelace", "lovelace", "Ångström", "Zhang", "de la Cruz", "O'Malley"];
pub(crate) const SOURCES: [&str; 3] = ["hr", "it", "fi"];

/// A history and what it comes to.
pub(crate) struct History {
    pub(crate) chance: Chance,
    pub(crate) book: Book,
    pub(crate) keyring: Keyring,
    pub(crate) models: BTreeMap<Tenant, Model>,
    pub(crate) keys: BTreeMap<ResourceId, (KeyRef, DataKey)>,
    /// Who is left alone by what happens at random.
    pub(crate) kept: BTreeSet<ResourceId>,
    /// Ids that are still to be given.
    ahead: BTreeMap<Tenant, Vec<ResourceId>>,
    broker_time: Timestamp,
    log_time: Timestamp,
    /// How many of a thousand values are longer than an index keeps.
    long: u64,
    /// How many of a thousand resources have a name to show: all, or most.
    shown: u64,
}

/// A message before it is written.
pub(crate) struct Draft<'a> {
    pub(crate) tenant: &'a Tenant,
    pub(crate) resource_type: &'a str,
    pub(crate) id: ResourceId,
    pub(crate) key: Key,
    pub(crate) kind: Kind,
    pub(crate) body: Body,
    pub(crate) continued: bool,
}

impl History {
    pub(crate) fn new(seed: u64, long: u64) -> Self {
        Self::over(seed, long, memory::broker(Faults::default()).keys)
    }

    /// A history whose data keys stand in this bucket.
    pub(crate) fn over(seed: u64, long: u64, bucket: Arc<dyn Bucket>) -> Self {
        let time = Timestamp::from_millisecond(BEGINNING_MS).unwrap();
        Self {
            chance: Chance::new(seed),
            book: Book::default(),
            keyring: Keyring::new(bucket, DataKey::new([1; 32])),
            models: BTreeMap::new(),
            keys: BTreeMap::new(),
            kept: BTreeSet::new(),
            ahead: BTreeMap::new(),
            broker_time: time,
            log_time: Timestamp::MIN,
            long,
            shown: if seed.is_multiple_of(2) { 1000 } else { 800 },
        }
    }

    pub(crate) fn below(&self, bound: usize) -> usize {
        usize::try_from(self.chance.below(bound as u64)).unwrap()
    }

    pub(crate) fn pick<'a>(&self, texts: &[&'a str]) -> &'a str {
        self.chance.pick(texts).unwrap()
    }

    fn uuid(&self) -> uuid::Uuid {
        let ms = u64::try_from(self.broker_time.as_millisecond()).unwrap();
        let [high, low] = [self.chance.next().to_be_bytes(), self.chance.next().to_be_bytes()];
        let mut bytes = [0; 10];
        bytes[..8].copy_from_slice(&high);
        bytes[8..].copy_from_slice(&low[..2]);
        uuid::Builder::from_unix_timestamp_millis(ms, &bytes).into_uuid()
    }

    fn ahead(&mut self, tenant: &Tenant) -> Vec<ResourceId> {
        let mut ahead = self.ahead.remove(tenant).unwrap_or_default();
        while ahead.len() < AHEAD {
            ahead.push(ResourceId::new(self.uuid()));
        }
        self.ahead.insert(tenant.clone(), ahead.clone());
        ahead
    }

    /// An id that the tenant has, had, or will have.
    fn some_id(&mut self, tenant: &Tenant) -> ResourceId {
        let mut ids = self.ahead(tenant);
        let model = self.models.entry(tenant.clone()).or_default();
        if let Some(last) = model.snapshots.last() {
            ids.extend(last.living.iter().map(|resource| resource.id));
        }
        ids.extend(model.ids.iter().take(5));
        ids[self.below(ids.len())]
    }

    /// The id of the next resource of a type: a deletion that is taken back gives the former one.
    fn new_id(&mut self, tenant: &Tenant, kind: &str) -> ResourceId {
        if self.chance.strikes(250)
            && let Some(model) = self.models.get(tenant)
            && let Some(id) = self.chance.pick(&model.gone(kind)).copied()
        {
            return id;
        }
        self.ahead(tenant);
        self.ahead.get_mut(tenant).unwrap().remove(0)
    }

    fn living(&self, tenant: &Tenant, kind: &str) -> Vec<Resource> {
        let last = self.models.get(tenant).and_then(|model| model.snapshots.last());
        let living = last.into_iter().flat_map(|last| last.of_kind(kind));
        // Of who was erased nothing is known, not even the name.
        let is_known = |one: &&Resource| !one.document.is_empty() || kind == "Group";
        living.filter(is_known).filter(|one| !self.kept.contains(&one.id)).cloned().collect()
    }

    /// The next thing that happens to a tenant; one message or two.
    pub(crate) async fn step(&mut self, tenant: &Tenant) {
        let (users, groups) = (self.living(tenant, "User"), self.living(tenant, "Group"));
        match self.below(100) {
            0..20 if users.len() < USERS_MAX => self.create_user(tenant, &users).await,
            20..26 if groups.len() < GROUPS_MAX => self.create_group(tenant).await,
            0..52 if !users.is_empty() => {
                let user = users[self.below(users.len())].clone();
                self.update_user(tenant, &user, &users).await;
            }
            52..58 if !groups.is_empty() => {
                let group = &groups[self.below(groups.len())];
                let (members_added, members_removed) = (self.some(tenant, 3), self.some(tenant, 2));
                let kind = Kind::Updated { members_added, members_removed };
                self.of_group(tenant, group.id, kind).await;
            }
            58..85 if !groups.is_empty() => {
                let group = &groups[self.below(groups.len())];
                let kind =
                    Kind::MembersChanged { added: self.some(tenant, 4), removed: self.some(tenant, 3) };
                self.of_group(tenant, group.id, kind).await;
            }
            85..91 if users.len() > 3 => {
                let user = &users[self.below(users.len())];
                self.of_user(tenant, user, Kind::Deleted).await;
            }
            91..93 if groups.len() > 2 => {
                let group = groups[self.below(groups.len())].id;
                self.of_group(tenant, group, Kind::Deleted).await;
            }
            // What lost a race against a deletion, or came twice, changes nothing.
            93..96 => {
                let id = self.some_id(tenant);
                let kind = Kind::MembersChanged { added: self.some(tenant, 2), removed: vec![] };
                self.of_group(tenant, id, kind).await;
            }
            96..98 if !groups.is_empty() => {
                let group = groups[self.below(groups.len())].id;
                self.of_group(tenant, group, Kind::Created { members_added: vec![] }).await;
            }
            98..100 if !users.is_empty() => {
                let user = &users[self.below(users.len())];
                let kinds = [Kind::CredentialsChanged, Kind::PassedOver];
                let kind = kinds[self.below(kinds.len())].clone();
                self.of_user(tenant, user, kind).await;
            }
            _ => self.create_user(tenant, &users).await,
        }
    }

    /// A few ids.
    fn some(&mut self, tenant: &Tenant, max: usize) -> Vec<ResourceId> {
        (0..self.below(max + 1)).map(|_| self.some_id(tenant)).collect()
    }

    pub(crate) async fn create_user(&mut self, tenant: &Tenant, users: &[Resource]) {
        let Some(name) = self.free_name(tenant, users) else { return };
        let id = self.new_id(tenant, "User");
        let body = self.user_body(tenant, &name);
        let kind = Kind::Created { members_added: vec![] };
        let key = key_of(tenant, &name);
        self.write(Draft { tenant, resource_type: "User", id, key, kind, body, continued: false }).await;
    }

    async fn create_group(&mut self, tenant: &Tenant) {
        let id = self.new_id(tenant, "Group");
        let kind = Kind::Created { members_added: self.some(tenant, 5) };
        self.of_group(tenant, id, kind).await;
    }

    async fn update_user(&mut self, tenant: &Tenant, user: &Resource, users: &[Resource]) {
        let old = user.document["userName"].as_str().unwrap().to_string();
        let new = self.free_name(tenant, users).filter(|_| self.chance.strikes(150));
        let body = self.user_body(tenant, new.as_ref().unwrap_or(&old));
        let kind = Kind::Updated { members_added: vec![], members_removed: vec![] };
        let old_key = key_of(tenant, &old);
        let key = new.as_ref().map_or(old_key, |new| key_of(tenant, new));
        let (resource_type, id, continued) = ("User", user.id, new.is_some());
        self.write(Draft { tenant, resource_type, id, key, kind, body, continued }).await;
        if continued {
            let kind = Kind::Moved { to_key: key };
            let body = Body::default();
            self.write(Draft { tenant, resource_type, id, key: old_key, kind, body, continued: false }).await;
        }
    }

    async fn of_user(&mut self, tenant: &Tenant, user: &Resource, kind: Kind) {
        let key = key_of(tenant, user.document["userName"].as_str().unwrap());
        let (resource_type, id, body) = ("User", user.id, Body::default());
        self.write(Draft { tenant, resource_type, id, key, kind, body, continued: false }).await;
    }

    pub(crate) async fn of_group(&mut self, tenant: &Tenant, id: ResourceId, kind: Kind) {
        let name = if self.chance.strikes(self.shown) { json!(self.display()) } else { Value::Null };
        let mut document = json!({"displayName": name});
        if name.is_null() {
            document = json!({});
        }
        let body = Body { external_ids: self.external_ids(), ..super::body(&document, None) };
        let key = subject::key_of_id(id);
        self.write(Draft { tenant, resource_type: "Group", id, key, kind, body, continued: false }).await;
    }

    fn free_name(&self, tenant: &Tenant, users: &[Resource]) -> Option<String> {
        let name = format!("{}{}", self.pick(&NAMES), self.below(9));
        let key = key_of(tenant, &name);
        let is_taken = |user: &Resource| key_of(tenant, user.document["userName"].as_str().unwrap()) == key;
        (!users.iter().any(is_taken)).then_some(name)
    }

    /// A text that is as long as indexes keep, or longer, and begins as others do.
    pub(crate) fn long_text(&self) -> String {
        let (x, y, e) = ("x".repeat(4096), "y".repeat(4094), "É".repeat(2048));
        let texts = [
            x.clone(),
            x[1..].to_string(),
            format!("{x}a"),
            format!("{x}B"),
            y.clone(),
            format!("{y}😀"),
            format!("{y}😀!"),
            format!("{y}z😀"),
            format!("{y}zé"),
            e.clone(),
            format!("{e}z"),
            format!("q{e}"),
            format!("q{e}z"),
        ];
        texts[self.below(texts.len())].clone()
    }

    fn text(&self, texts: &[&str]) -> String {
        if self.chance.strikes(self.long) { self.long_text() } else { self.pick(texts).to_string() }
    }

    fn display(&self) -> String {
        if self.chance.strikes(self.long) {
            return self.long_text();
        }
        // Some names are everybody's.
        let names = if self.chance.strikes(400) { &NAMES[..2] } else { &NAMES };
        format!("The {} {}", self.pick(names), self.below(2))
    }

    pub(crate) fn title(&self) -> String {
        self.text(&TITLES)
    }

    pub(crate) fn name(&self) -> String {
        format!("{}{}", self.pick(&NAMES), self.below(9))
    }

    pub(crate) fn family(&self) -> String {
        self.pick(&FAMILIES).to_string()
    }

    pub(crate) fn email(&self) -> String {
        format!("{}@{}.test", self.text(&NAMES), self.pick(&["a", "B", "ü"]))
    }

    fn external_ids(&self) -> BTreeMap<String, String> {
        let ids = SOURCES.iter().filter(|_| self.chance.strikes(600));
        ids.map(|source| (source.to_string(), format!("E{}", self.below(30)))).collect()
    }

    fn user_body(&mut self, tenant: &Tenant, name: &str) -> Body {
        let mut user = json!({"userName": name});
        if self.chance.strikes(self.shown) {
            user["displayName"] = self.display().into();
        }
        if self.chance.strikes(600) {
            user["title"] = self.title().into();
        }
        if self.chance.strikes(800) {
            user["active"] = self.chance.strikes(700).into();
        }
        if self.chance.strikes(700) {
            user["name"] = json!({"familyName": self.family()});
        }
        if self.chance.strikes(400) {
            user["nickName"] = self.name().into();
        }
        let emails: Vec<Value> = (0..self.below(4))
            .map(|_| json!({"type": self.pick(&["work", "home"]), "value": self.email()}))
            .collect();
        if !emails.is_empty() {
            user["emails"] = emails.into();
        }
        let mut extension = json!({});
        if self.chance.strikes(500) {
            extension["employeeNumber"] = format!("N{}", self.below(20)).into();
        }
        if self.chance.strikes(400) {
            extension["manager"] = json!({"value": self.some_id(tenant).to_string()});
            if self.chance.strikes(200) {
                extension["manager"]["$ref"] = "https://elsewhere.test/1".into();
            }
        }
        if extension != json!({}) {
            user[ENTERPRISE] = extension;
        }
        Body { external_ids: self.external_ids(), ..super::body(&user, None) }
    }

    /// The next times of the broker and of a writer's clock, which is mostly nearly right.
    fn tick(&mut self) -> Timestamp {
        let step = SignedDuration::from_micros(i64::try_from(self.chance.below(3_000)).unwrap());
        self.broker_time += step;
        // A broker's clock can be put back.
        if self.chance.strikes(3) {
            self.broker_time -= SignedDuration::from_secs(3);
        }
        let off = match self.below(30) {
            0 => SignedDuration::from_hours(-1),
            _ => SignedDuration::from_micros(i64::try_from(self.chance.below(20_000)).unwrap() - 10_000),
        };
        self.broker_time + off
    }

    /// Writes a message; who follows is told later.
    pub(crate) async fn write(&mut self, draft: Draft<'_>) -> u64 {
        let Draft { tenant, resource_type, id, key, kind, body, continued } = draft;
        let occurred_at = Timestamp::from_microsecond(self.tick().as_microsecond()).unwrap();
        if !self.keys.contains_key(&id) {
            self.keys.insert(id, self.keyring.issue(tenant).await.unwrap());
        }
        let (key_ref, data_key) = self.keys[&id].clone();
        let event = Event {
            id: EventId::new(self.uuid()),
            occurred_at,
            key_ref: Some(key_ref),
            continued,
            ..super::event(tenant, resource_type, id, kind)
        };
        let append = append(&event, &key, Guard::None, sealed(&event, &body, &data_key));
        let sequence = self.book.write(append, self.broker_time);
        let time = log_time(self.log_time, occurred_at, self.broker_time);
        self.log_time = time;
        let told = Told { sequence, time, event, body, key };
        self.models.entry(tenant.clone()).or_default().apply(&told);
        sequence
    }

    pub(crate) fn somebody_gone(&self, tenant: &Tenant) -> Option<ResourceId> {
        let model = &self.models[tenant];
        let last = model.snapshots.last()?;
        let gone: Vec<&ResourceId> = model.ids.iter().filter(|id| last.find(**id).is_none()).collect();
        self.chance.pick(&gone).map(|id| **id)
    }

    /// Empties the place of somebody's data key in its page, as who erases people does.
    pub(crate) async fn destroy_key(&self, bucket: &dyn Bucket, id: ResourceId) {
        let at = self.keys[&id].0;
        let name = format!("page.{}", at.page.simple());
        let (page, revision) = bucket.get(&name).await.unwrap().unwrap();
        let (mut rest, mut kept) = (&page[..], Vec::new());
        let mut slot = 0;
        // A page is its keys, one behind the other, each behind a tag and its length.
        while let [tag, length, further @ ..] = rest {
            let (key, further) = further.split_at(usize::from(*length));
            assert!(*length < 128);
            kept.push(*tag);
            if slot == at.slot {
                kept.push(0);
            } else {
                kept.push(*length);
                kept.extend_from_slice(key);
            }
            rest = further;
            slot = slot.saturating_add(1);
        }
        bucket.update(&name, kept.into(), revision).await.unwrap();
    }

    /// Somebody who is or was there is erased; the data key is destroyed by others.
    pub(crate) async fn erase(&mut self, tenant: &Tenant, id: ResourceId) -> u64 {
        let (key, kind, body) = (subject::key_of_id(id), Kind::Erased, Body::default());
        self.write(Draft { tenant, resource_type: "User", id, key, kind, body, continued: false }).await
    }

    /// The whole tenant goes.
    pub(crate) async fn drop_tenant(&mut self, tenant: &Tenant) -> u64 {
        let id = ResourceId::new(self.uuid());
        let (key, kind, body) = (subject::key_of_id(id), Kind::TenantDropped, Body::default());
        self.write(Draft { tenant, resource_type: "User", id, key, kind, body, continued: false }).await
    }
}

/// The tenants of most histories.
pub(crate) fn tenants() -> [Tenant; 3] {
    ["corp", "acme", "tiny"].map(tenant)
}
