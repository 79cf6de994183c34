//! A resource as a client sees it: the document with what is derived.

use jiff::Timestamp;
use proto::{ResourceId, Tenant, Version};
use scim::{Attribute, Object, Registry, ResourceType};
use serde_json::{Value, json};

use crate::directory::Directory;
use crate::{Projection, Stored};

/// Who looks, and how much is derived.
#[derive(Clone, Debug, Default)]
pub struct Lens {
    /// Whose `externalId` is shown.
    pub source: String,
    /// What locations begin with; ends without a slash.
    pub base_url: String,
    /// Whether a group's members are derived.
    pub members: bool,
    /// Whether a user's groups are derived.
    pub groups: bool,
}

/// A representation, and what it is one of.
#[derive(Clone, Debug)]
pub struct Represented {
    /// What is shown.
    pub object: Object,
    /// Its version.
    pub version: Version,
    /// Whether the document is as new as the members: it was not changed since it was read.
    pub is_current: bool,
}

/// xsd:dateTime with all its milliseconds, so that texts sort as instants do.
fn date_time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

impl Projection {
    /// The whole representation: document, `schemas`, `id`, `externalId`, `members`, `groups`, `meta`, and the names of
    /// whom it names (`manager.displayName`).
    pub fn represent(&self, tenant: &Tenant, stored: &Stored, kind: &ResourceType, lens: &Lens) -> Object {
        self.represent_now(tenant, stored, kind, lens).object
    }

    /// The same, with its version: members are as of now, so it is that of their last change.
    pub fn represent_now(
        &self,
        tenant: &Tenant,
        stored: &Stored,
        kind: &ResourceType,
        lens: &Lens,
    ) -> Represented {
        let registry = &self.inner.registry;
        let has = |name: &str| registry.core(kind).iter().any(|attribute| attribute.name == name);
        let (mut version, mut last_modified, mut is_current) = (stored.version, stored.last_modified, true);
        let mut members = None;
        if lens.members && has("members") {
            let seen = self.with(tenant, |directory| {
                let entry = directory.get(stored.id)?;
                Some((entry.row, entry.modified, self.links(directory, stored.id, lens, "members")))
            });
            match seen.flatten() {
                Some((row, modified, links)) if row == stored.row => {
                    (version, last_modified) = (Version::new(modified.position), modified.time);
                    members = links;
                }
                Some((_, _, links)) => (members, is_current) = (links, false),
                None => is_current = false,
            }
        }
        let mut object = Object::clone(&stored.document);
        let extensions = registry.extensions(kind).map(|schema| &schema.id);
        let schemas: Vec<&String> =
            std::iter::once(&kind.schema).chain(extensions.filter(|urn| object.contains_key(*urn))).collect();
        let schemas = json!(schemas);
        let location = format!("{}{}/{}", lens.base_url, kind.endpoint, stored.id);
        object.insert("schemas".to_string(), schemas);
        object.insert("id".to_string(), stored.id.to_string().into());
        if let Some(external_id) = stored.external_ids.get(&lens.source) {
            object.insert("externalId".to_string(), external_id.clone().into());
        }
        object.insert(
            "meta".to_string(),
            json!({
                "resourceType": stored.resource_type,
                "created": date_time(stored.created),
                "lastModified": date_time(last_modified),
                "location": location,
                "version": version.to_string(),
            }),
        );
        if let Some(members) = members {
            object.insert("members".to_string(), members.into());
        }
        if lens.groups && has("groups") {
            let links = |directory: &Directory| self.links(directory, stored.id, lens, "groups");
            if let Some(groups) = self.with(tenant, links).flatten() {
                object.insert("groups".to_string(), groups.into());
            }
        }
        for (extension, attribute) in naming(registry, kind) {
            let members = match extension {
                None => Some(&mut object),
                Some(urn) => object.get_mut(urn).and_then(Value::as_object_mut),
            };
            if let Some(named) = members.and_then(|members| members.get_mut(&attribute.name)?.as_object_mut())
            {
                self.insert_name(tenant, lens, attribute, named);
            }
        }
        Represented { object, version, is_current }
    }

    /// Whom a resource names in attributes that show the other's name.
    pub(crate) fn named(&self, stored: &Stored) -> Vec<ResourceId> {
        let registry = &self.inner.registry;
        let Some(kind) = registry.by_name(&stored.resource_type) else { return Vec::new() };
        let id = |(extension, attribute): (Option<&str>, &Attribute)| {
            let members = match extension {
                None => Some(&*stored.document),
                Some(urn) => stored.document.get(urn)?.as_object(),
            };
            members?.get(&attribute.name)?.get("value")?.as_str()?.parse().ok()
        };
        naming(registry, kind).filter_map(id).collect()
    }

    /// `$ref` and `displayName` of an attribute that names another resource.
    fn insert_name(&self, tenant: &Tenant, lens: &Lens, attribute: &Attribute, named: &mut Object) {
        let registry = &self.inner.registry;
        let Some(value) = named.get("value").and_then(Value::as_str) else { return };
        let found = value.parse::<ResourceId>().ok().and_then(|id| {
            self.with(tenant, |directory| {
                directory.get(id).map(|entry| (entry.resource_type.clone(), entry.display.clone()))
            })
            .flatten()
        });
        let (resource_type, display) = match found {
            Some((resource_type, display)) => (Some(resource_type), display),
            None => (attribute.sub("$ref").and_then(|sub| sub.reference_types.first().cloned()), None),
        };
        if let Some(kind) = resource_type.and_then(|name| registry.by_name(&name)) {
            let reference = format!("{}{}/{value}", lens.base_url, kind.endpoint);
            named.entry("$ref").or_insert_with(|| reference.into());
        }
        if let Some(display) = display {
            named.insert("displayName".to_string(), display.into());
        }
    }

    /// A group's members, or the groups of a resource; nothing when there are none.
    fn links(&self, directory: &Directory, id: ResourceId, lens: &Lens, name: &str) -> Option<Vec<Value>> {
        let types = &self.inner.registry;
        let slot = directory.slot(id)?;
        let slots: Vec<(u32, Option<bool>)> = match name {
            "members" => directory.edges().members(slot).map(|slot| (slot, None)).collect(),
            _ => {
                let groups = directory.edges().ancestors(slot);
                groups.into_iter().map(|(slot, direct)| (slot, Some(direct))).collect()
            }
        };
        let link = |(slot, direct): &(u32, Option<bool>)| {
            let entry = directory.at(*slot)?;
            let endpoint = &types.by_name(&entry.resource_type)?.endpoint;
            let mut link = Object::new();
            link.insert("value".to_string(), entry.id.to_string().into());
            link.insert("$ref".to_string(), format!("{}{endpoint}/{}", lens.base_url, entry.id).into());
            let word = match direct {
                None => entry.resource_type.as_str(),
                Some(true) => "direct",
                Some(false) => "indirect",
            };
            link.insert("type".to_string(), word.into());
            if let Some(display) = &entry.display {
                link.insert("display".to_string(), display.clone().into());
            }
            Some(Value::Object(link))
        };
        let links: Vec<Value> = slots.iter().filter_map(link).collect();
        (!links.is_empty()).then_some(links)
    }
}

/// Single attributes that name another resource and show its name, which only we can know: `manager`.
fn naming<'a>(
    registry: &'a Registry,
    kind: &'a ResourceType,
) -> impl Iterator<Item = (Option<&'a str>, &'a Attribute)> {
    let core = registry.core(kind).iter().map(|attribute| (None, attribute));
    let extended = registry
        .extensions(kind)
        .flat_map(|schema| schema.attributes.iter().map(|attribute| (Some(schema.id.as_str()), attribute)));
    core.chain(extended).filter(|(_, attribute)| attribute.names_resource())
}
