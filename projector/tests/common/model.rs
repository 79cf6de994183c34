//! The naive directory: after every event a snapshot of everything, so that any moment can be looked up. It knows no
//! index, no interval and no text, only what events mean.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use projector::When;
use proto::subject::Key;
use proto::{Body, Event, Kind, Position, ResourceId, Version};
use scim::{Object, Registry};
use serde_json::{Value, json};

use super::BASE_URL;

/// Bytes of a name that are shown where another resource tells it.
const SHOWN_MAX: usize = 4096;

/// An event as the log has it.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) sequence: u64,
    /// Log time.
    pub(crate) time: Timestamp,
    pub(crate) event: Event,
    pub(crate) body: Body,
    pub(crate) key: Key,
}

#[derive(Clone, Debug)]
pub(crate) struct Resource {
    pub(crate) id: ResourceId,
    pub(crate) kind: String,
    pub(crate) document: Object,
    pub(crate) external_ids: BTreeMap<String, String>,
    pub(crate) members: BTreeSet<ResourceId>,
    pub(crate) created: Timestamp,
    pub(crate) modified: Timestamp,
    pub(crate) version: Version,
}

/// Everybody that exists after an event, in the order of creation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) sequence: u64,
    pub(crate) time: Timestamp,
    pub(crate) living: Vec<Arc<Resource>>,
}

/// One tenant.
#[derive(Default)]
pub(crate) struct Model {
    pub(crate) snapshots: Vec<Snapshot>,
    /// The last sequence on each key's subject, and who has it.
    pub(crate) keys: BTreeMap<(String, Key), (u64, Option<ResourceId>)>,
    /// Everybody that ever was.
    pub(crate) ids: BTreeSet<ResourceId>,
    /// Which events are in whose history.
    pub(crate) happened: Vec<(u64, ResourceId)>,
}

impl Model {
    pub(crate) fn apply(&mut self, told: &Told) {
        let event = &told.event;
        let mut next = self.snapshots.last().cloned().unwrap_or_default();
        (next.sequence, next.time) = (told.sequence, told.time);
        let is_alive = next.find(event.resource_id).is_some();
        let key = self.keys.entry((event.resource_type.clone(), told.key)).or_default();
        key.0 = told.sequence;
        if is_alive || self.ids.contains(&event.resource_id) || matches!(event.kind, Kind::Created { .. }) {
            self.happened.push((told.sequence, event.resource_id));
        }
        match (&event.kind, is_alive) {
            (Kind::Created { members_added }, false) => {
                key.1 = Some(event.resource_id);
                self.ids.insert(event.resource_id);
                next.living.push(Arc::new(Resource {
                    id: event.resource_id,
                    kind: event.resource_type.clone(),
                    document: Object::clone(&told.body.document),
                    external_ids: told.body.external_ids.clone(),
                    members: BTreeSet::new(),
                    created: told.time,
                    modified: told.time,
                    version: told.version(),
                }));
                next.change_members(told, members_added, &[]);
            }
            (Kind::Updated { members_added, members_removed }, true) => {
                key.1 = Some(event.resource_id);
                next.change_members(told, members_added, members_removed);
                let resource = next.resource(event.resource_id);
                resource.document = Object::clone(&told.body.document);
                resource.external_ids = told.body.external_ids.clone();
                resource.touch(told);
            }
            (Kind::MembersChanged { added, removed }, true) => {
                if next.change_members(told, added, removed) {
                    next.resource(event.resource_id).touch(told);
                }
            }
            (Kind::Deleted, true) => {
                key.1 = None;
                next.living.retain(|resource| resource.id != event.resource_id);
                for resource in &mut next.living {
                    if resource.members.contains(&event.resource_id) {
                        let group = Arc::make_mut(resource);
                        group.members.remove(&event.resource_id);
                        group.touch(told);
                        self.happened.push((told.sequence, group.id));
                    }
                }
            }
            (Kind::Moved { .. }, _) => key.1 = None,
            (Kind::Erased, _) => {
                self.snapshots.push(next);
                for snapshot in &mut self.snapshots {
                    if snapshot.find(event.resource_id).is_some() {
                        let resource = snapshot.resource(event.resource_id);
                        (resource.document, resource.external_ids) = (Object::new(), BTreeMap::new());
                    }
                }
                return;
            }
            (Kind::TenantDropped, _) => {
                *self = Self::default();
                return;
            }
            (_, _) => {}
        }
        self.snapshots.push(next);
    }

    /// The ids of a type whose resources are gone, and not forgotten.
    pub(crate) fn gone(&self, kind: &str) -> Vec<ResourceId> {
        let Some(last) = self.snapshots.last() else { return Vec::new() };
        let gone = self.ids.iter().copied().filter(|id| last.find(*id).is_none());
        let was = |id: &ResourceId| self.snapshots.iter().rev().find_map(|snapshot| snapshot.find(*id));
        gone.filter(|id| was(id).is_some_and(|one| one.kind == kind && !one.document.is_empty())).collect()
    }

    /// The last snapshot until a moment.
    pub(crate) fn at(&self, when: When) -> Option<&Snapshot> {
        let is_until = |snapshot: &Snapshot| match when {
            When::Now => true,
            When::Sequence(sequence) => snapshot.sequence <= sequence,
            When::Instant(instant) => snapshot.time <= instant,
        };
        self.snapshots.iter().rev().find(|snapshot| is_until(snapshot))
    }
}

impl Told {
    fn version(&self) -> Version {
        Version::new(Position { sequence: self.sequence, event: self.event.id })
    }
}

impl Resource {
    fn touch(&mut self, told: &Told) {
        (self.modified, self.version) = (told.time, told.version());
    }

    /// What others call it.
    fn shown(&self) -> Option<Value> {
        let name = self.document.get("displayName")?.as_str()?;
        Some(name.get(..name.floor_char_boundary(SHOWN_MAX)).unwrap().into())
    }

    fn location(&self, registry: &Registry) -> String {
        format!("{BASE_URL}{}/{}", registry.by_name(&self.kind).unwrap().endpoint, self.id)
    }
}

impl Snapshot {
    pub(crate) fn find(&self, id: ResourceId) -> Option<&Resource> {
        self.living.iter().find(|resource| resource.id == id).map(|resource| &**resource)
    }

    fn resource(&mut self, id: ResourceId) -> &mut Resource {
        Arc::make_mut(self.living.iter_mut().find(|resource| resource.id == id).unwrap())
    }

    pub(crate) fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Resource> {
        self.living.iter().map(|resource| &**resource).filter(move |resource| resource.kind == kind)
    }

    /// Whoever is not alive, and the group itself, cannot become a member. Those who leave come first.
    fn change_members(&mut self, told: &Told, added: &[ResourceId], removed: &[ResourceId]) -> bool {
        let id = told.event.resource_id;
        let added: Vec<ResourceId> =
            added.iter().copied().filter(|other| *other != id && self.find(*other).is_some()).collect();
        let members = &mut self.resource(id).members;
        let mut changed = false;
        removed.iter().for_each(|other| changed |= members.remove(other));
        added.iter().for_each(|other| changed |= members.insert(*other));
        changed
    }

    /// In the order of creation.
    pub(crate) fn members(&self, group: ResourceId) -> Vec<ResourceId> {
        let held =
            |other: &&Arc<Resource>| self.find(group).is_some_and(|group| group.members.contains(&other.id));
        self.living.iter().filter(held).map(|resource| resource.id).collect()
    }

    /// The groups of a resource, by itself or through others, in the order of creation.
    pub(crate) fn groups(&self, member: ResourceId) -> Vec<(ResourceId, bool)> {
        let holding = |id: ResourceId| self.living.iter().filter(move |group| group.members.contains(&id));
        let direct: BTreeSet<ResourceId> = holding(member).map(|group| group.id).collect();
        let mut all = direct.clone();
        loop {
            let further: BTreeSet<ResourceId> =
                all.iter().flat_map(|id| holding(*id)).map(|group| group.id).collect();
            let known = all.len();
            all.extend(further.into_iter().filter(|id| *id != member));
            if all.len() == known {
                break;
            }
        }
        let found = self.living.iter().filter(|resource| all.contains(&resource.id));
        found.map(|resource| (resource.id, direct.contains(&resource.id))).collect()
    }

    /// A resource as a client of a source sees it.
    pub(crate) fn represent(&self, registry: &Registry, resource: &Resource, source: &str) -> Object {
        let kind = registry.by_name(&resource.kind).unwrap();
        let mut object = resource.document.clone();
        let mut schemas = vec![kind.schema.clone()];
        for schema in registry.extensions(kind) {
            let Some(extension) = object.get_mut(&schema.id) else { continue };
            schemas.push(schema.id.clone());
            if let Some(manager) = extension.get_mut("manager") {
                self.name(registry, manager.as_object_mut().unwrap());
            }
        }
        object.insert("schemas".to_string(), json!(schemas));
        object.insert("id".to_string(), resource.id.to_string().into());
        if let Some(external_id) = resource.external_ids.get(source) {
            object.insert("externalId".to_string(), external_id.clone().into());
        }
        object.insert(
            "meta".to_string(),
            json!({
                "resourceType": resource.kind,
                "created": format!("{:.3}", resource.created),
                "lastModified": format!("{:.3}", resource.modified),
                "location": resource.location(registry),
                "version": resource.version.to_string(),
            }),
        );
        let link = |id: ResourceId, word: Option<&str>| {
            let other = self.find(id).unwrap();
            let mut link = json!({"value": id.to_string(), "$ref": other.location(registry), "type": word.unwrap_or(&other.kind)});
            if let Some(shown) = other.shown() {
                link["display"] = shown;
            }
            link
        };
        let members: Vec<Value> = self.members(resource.id).into_iter().map(|id| link(id, None)).collect();
        if resource.kind == "Group" && !members.is_empty() {
            object.insert("members".to_string(), members.into());
        }
        let word = |direct| Some(if direct { "direct" } else { "indirect" });
        let groups: Vec<Value> =
            self.groups(resource.id).into_iter().map(|(id, direct)| link(id, word(direct))).collect();
        if resource.kind == "User" && !groups.is_empty() {
            object.insert("groups".to_string(), groups.into());
        }
        object
    }

    /// Who a manager is.
    fn name(&self, registry: &Registry, manager: &mut Object) {
        let value = manager["value"].as_str().unwrap().to_string();
        let found = value.parse().ok().and_then(|id| self.find(id));
        let location =
            found.map_or_else(|| format!("{BASE_URL}/Users/{value}"), |found| found.location(registry));
        manager.entry("$ref").or_insert(location.into());
        if let Some(shown) = found.and_then(Resource::shown) {
            manager.insert("displayName".to_string(), shown);
        }
    }
}
