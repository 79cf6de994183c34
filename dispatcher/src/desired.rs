//! What an app should hold of a resource: in scope or not, and the attributes as the app should have them. Pure.

use std::collections::BTreeSet;

use projector::Stored;
use proto::ResourceId;
use scim::{Attribute, Object, Registry, ResourceType};
use serde_json::Value;

use crate::config::short_hash;

/// What the app should hold.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Desired {
    /// The attributes, with our id as `externalId`.
    pub(crate) attributes: Object,
    /// Members that the app can know: those that have a link.
    pub(crate) members: BTreeSet<ResourceId>,
}

impl Desired {
    /// By this, two wishes are the same.
    pub(crate) fn hash(&self) -> String {
        short_hash(Value::Object(self.attributes.clone()).to_string().as_bytes())
    }
}

/// The attributes of a resource for an app. `remote` translates our ids into the app's; what the app does not know
/// yet is left out.
pub(crate) fn attributes(
    registry: &Registry,
    kind: &ResourceType,
    stored: &Stored,
    remote: impl Fn(ResourceId) -> Option<String>,
) -> Object {
    let mut attributes = Object::clone(&stored.document);
    let mut schemas = vec![Value::String(kind.schema.clone())];
    translate(registry.core(kind), &mut attributes, &remote);
    for schema in registry.extensions(kind) {
        let Some(extension) = attributes.get_mut(&schema.id).and_then(Value::as_object_mut) else { continue };
        translate(&schema.attributes, extension, &remote);
        if extension.is_empty() {
            attributes.remove(&schema.id);
        } else {
            schemas.push(Value::String(schema.id.clone()));
        }
    }
    attributes.insert("schemas".to_string(), schemas.into());
    attributes.insert("externalId".to_string(), stored.id.to_string().into());
    attributes
}

/// Whoever is named (`manager`) is named by the app's own id.
fn translate(schema: &[Attribute], attributes: &mut Object, remote: &impl Fn(ResourceId) -> Option<String>) {
    for attribute in schema.iter().filter(|attribute| attribute.names_resource()) {
        let Some(named) = attributes.get_mut(&attribute.name).and_then(Value::as_object_mut) else {
            continue;
        };
        named.remove("$ref");
        let ours = named.get("value").and_then(Value::as_str).and_then(|value| value.parse().ok());
        match ours.and_then(remote) {
            Some(theirs) => drop(named.insert("value".to_string(), theirs.into())),
            None => drop(attributes.remove(&attribute.name)),
        }
    }
}
