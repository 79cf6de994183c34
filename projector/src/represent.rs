//! A resource as a client reads it.

use jiff::Timestamp;
use proto::Tenant;
use scim::{Object, ResourceType};
use serde_json::{Value, json};

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

/// xsd:dateTime with all its milliseconds, so that texts sort as instants do.
fn date_time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

impl Projection {
    /// The whole representation: document, `schemas`, `id`, `externalId`, `members`, `groups`, `meta`.
    pub fn represent(&self, tenant: &Tenant, stored: &Stored, kind: &ResourceType, lens: &Lens) -> Object {
        let mut object = stored.document.clone();
        let extensions = self.inner.registry.extensions(kind).map(|schema| &schema.id);
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
                "lastModified": date_time(stored.last_modified),
                "location": location,
                "version": stored.version.to_string(),
            }),
        );
        let has = |name: &str| self.inner.registry.core(kind).iter().any(|attribute| attribute.name == name);
        if lens.members && has("members") {
            self.insert_links(tenant, stored, lens, "members", &mut object);
        }
        if lens.groups && has("groups") {
            self.insert_links(tenant, stored, lens, "groups", &mut object);
        }
        object
    }

    fn insert_links(&self, tenant: &Tenant, stored: &Stored, lens: &Lens, name: &str, object: &mut Object) {
        let types = &self.inner.registry;
        let links: Option<Vec<Value>> = self
            .with(tenant, |directory| {
                let slot = directory.slot(stored.id)?;
                let slots: Vec<u32> = match name {
                    "members" => directory.edges().members(slot).collect(),
                    _ => directory.edges().groups(slot).collect(),
                };
                let link = |slot: &u32| {
                    let entry = directory.at(*slot)?;
                    let endpoint = &types.by_name(&entry.resource_type)?.endpoint;
                    let mut link = Object::new();
                    link.insert("value".to_string(), entry.id.to_string().into());
                    link.insert(
                        "$ref".to_string(),
                        format!("{}{endpoint}/{}", lens.base_url, entry.id).into(),
                    );
                    let word = if name == "members" { entry.resource_type.as_str() } else { "direct" };
                    link.insert("type".to_string(), word.into());
                    if let Some(display) = &entry.display {
                        link.insert("display".to_string(), display.clone().into());
                    }
                    Some(Value::Object(link))
                };
                Some(slots.iter().filter_map(link).collect())
            })
            .flatten();
        if let Some(links) = links.filter(|links| !links.is_empty()) {
            object.insert(name.to_string(), links.into());
        }
    }
}
