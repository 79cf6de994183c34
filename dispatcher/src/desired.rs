//! What an app should hold of a resource: in scope or not, and the attributes as the app should have them. Pure.

use std::collections::BTreeSet;

use proto::ResourceId;
use scim::{Attribute, Object, Registry, ResourceType};
use serde_json::Value;

use crate::config::short_hash;

/// What the app should hold.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Desired {
    /// The attributes, with our id as `externalId`.
    pub(crate) attributes: Object,
    /// Attributes that are said once, when the account is made.
    pub(crate) once: Object,
    /// Whether other attributes are the app's own and must not be overwritten.
    pub(crate) partial: bool,
    /// Members that the app can know: those that have a link.
    pub(crate) members: BTreeSet<ResourceId>,
}

impl Desired {
    /// By this, two wishes are the same.
    pub(crate) fn hash(&self) -> String {
        short_hash(Value::Object(self.attributes.clone()).to_string().as_bytes())
    }
}

/// A resource's attributes as an app is told them: with our id, and whom they name by the app's. `remote` translates our
/// ids into the app's; what the app does not know yet is left out.
pub(crate) fn attributes(
    registry: &Registry,
    kind: &ResourceType,
    id: ResourceId,
    mut attributes: Object,
    partial: bool,
    remote: impl Fn(ResourceId) -> Option<String>,
) -> Object {
    let mut schemas = vec![Value::String(kind.schema.clone())];
    translate(registry.core(kind), &mut attributes, partial, &remote);
    for schema in registry.extensions(kind) {
        let Some(extension) = attributes.get_mut(&schema.id).and_then(Value::as_object_mut) else { continue };
        translate(&schema.attributes, extension, partial, &remote);
        if extension.is_empty() {
            attributes.remove(&schema.id);
        } else {
            schemas.push(Value::String(schema.id.clone()));
        }
    }
    attributes.insert("schemas".to_string(), schemas.into());
    attributes.insert("externalId".to_string(), id.to_string().into());
    attributes
}

/// Whoever is named (`manager`) is named by the app's own id.
fn translate(
    schema: &[Attribute],
    attributes: &mut Object,
    partial: bool,
    remote: &impl Fn(ResourceId) -> Option<String>,
) {
    for attribute in schema.iter().filter(|attribute| attribute.names_resource()) {
        let Some(named) = attributes.get_mut(&attribute.name).and_then(Value::as_object_mut) else {
            continue;
        };
        named.remove("$ref");
        let ours = named.get("value").and_then(Value::as_str).and_then(|value| value.parse().ok());
        match ours.and_then(remote) {
            Some(theirs) => drop(named.insert("value".to_string(), theirs.into())),
            // What is not mentioned would stay.
            None if partial => drop(attributes.insert(attribute.name.clone(), Value::Null)),
            None => drop(attributes.remove(&attribute.name)),
        }
    }
}

/// What is said when an account is made: everything, and nothing of what has no value.
pub(crate) fn at_creation(attributes: &Object, once: &Object) -> Object {
    let mut said = attributes.clone();
    merge(&mut said, once);
    remove_nulls(&mut said);
    said
}

fn merge(into: &mut Object, from: &Object) {
    for (name, value) in from {
        match (into.get_mut(name).and_then(Value::as_object_mut), value.as_object()) {
            (Some(into), Some(from)) => merge(into, from),
            (_, _) => drop(into.insert(name.clone(), value.clone())),
        }
    }
}

fn remove_nulls(object: &mut Object) {
    for value in object.values_mut() {
        if let Some(inner) = value.as_object_mut() {
            remove_nulls(inner);
        }
    }
    object.retain(|_, value| !value.is_null() && value.as_object().is_none_or(|inner| !inner.is_empty()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn at_its_creation_an_account_is_told_what_is_said_once() {
        let object = |value: Value| value.as_object().unwrap().clone();
        let attributes = object(json!({"name": {"givenName": "Ada"}, "title": null, "x": {"manager": null}}));
        let once = object(json!({"name": {"familyName": "Lovelace"}, "locale": "en"}));
        let expected = json!({"name": {"givenName": "Ada", "familyName": "Lovelace"}, "locale": "en"});
        assert_eq!(Value::Object(at_creation(&attributes, &once)), expected);
    }
}
