//! Schemas, extensions and resource types of others: RFC 7643 §6 and §7, checked before anybody is served.

use std::collections::BTreeSet;

use crate::path::{is_name, is_urn};
use crate::{Attribute, Mutability, ResourceType, Schema, SchemaExtension, Type, Uniqueness};

use super::Registry;

/// Endpoints that mean something else.
const RESERVED: [&str; 7] =
    ["Me", "Bulk", "Schemas", "ResourceTypes", "ServiceProviderConfig", "Events", "Requests"];
/// Attributes that every resource has, or that only the built-in meaning can have.
const COMMON: [&str; 4] = ["schemas", "id", "externalId", "meta"];

impl Registry {
    /// Adds a schema. The error is a sentence for whoever wrote it.
    pub fn add_schema(&mut self, mut schema: Schema) -> Result<(), String> {
        let urn = &schema.id;
        if !is_urn(urn) || urn.split(':').count() < 3 {
            return Err(format!("schema {urn:?}: the id must be a URN, as in urn:example:scim:Badge"));
        }
        if urn.contains(['[', ']', '"', ' ', ',']) || urn.ends_with(':') {
            return Err(format!("schema {urn}: a URN holds no brackets, quotes, commas and spaces"));
        }
        if self.schema(urn).is_some() {
            return Err(format!("schema {urn}: there is one with this id already"));
        }
        attributes(urn, &schema.attributes, false)?;
        exact(&mut schema.attributes);
        self.schemas.push(schema);
        Ok(())
    }

    /// Adds a resource type whose schemas are known.
    pub fn add_resource_type(&mut self, kind: ResourceType) -> Result<(), String> {
        let name = &kind.name;
        let plain = |text: &str| {
            !text.is_empty()
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        if !plain(name) {
            return Err(format!(
                "resource type {name:?}: a name has letters, digits, hyphens and underscores only"
            ));
        }
        let endpoint = kind.endpoint.strip_prefix('/').unwrap_or_default();
        if !plain(endpoint) || RESERVED.iter().any(|reserved| reserved.eq_ignore_ascii_case(endpoint)) {
            return Err(format!(
                "resource type {name}: the endpoint {:?} must be a slash and a name that means nothing else",
                kind.endpoint
            ));
        }
        let taken = |other: &&ResourceType| {
            other.name == *name || other.id == kind.id || other.endpoint.eq_ignore_ascii_case(&kind.endpoint)
        };
        if let Some(other) = self.types.iter().find(taken) {
            return Err(format!(
                "resource type {name}: its id, name or endpoint is the one of {}",
                other.name
            ));
        }
        for urn in std::iter::once(&kind.schema).chain(kind.schema_extensions.iter().map(|one| &one.schema)) {
            if self.schema(urn).is_none() {
                return Err(format!("resource type {name}: there is no schema {urn}"));
            }
        }
        linked(&kind.name, self.core(&kind))?;
        self.types.push(kind);
        Ok(())
    }

    /// Lets a resource type carry one more schema.
    pub fn extend(&mut self, resource_type: &str, extension: SchemaExtension) -> Result<(), String> {
        let Some(schema) = self.schema(&extension.schema) else {
            return Err(format!("the extension of {resource_type}: there is no schema {}", extension.schema));
        };
        let urn = schema.id.clone();
        let Some(kind) = self.types.iter_mut().find(|kind| kind.name == resource_type) else {
            return Err(format!("the extension {urn}: there is no resource type {resource_type:?}"));
        };
        if kind.schema == urn || kind.schema_extensions.iter().any(|other| other.schema == urn) {
            return Err(format!("{resource_type} has the schema {urn} already"));
        }
        kind.schema_extensions.push(SchemaExtension { schema: urn, ..extension });
        Ok(())
    }
}

/// RFC 7643 §2.3.6 and §2.3.7: bytes and references differ when their letters do, whatever the schema says.
fn exact(attributes: &mut [Attribute]) {
    for attribute in attributes {
        attribute.case_exact |= matches!(attribute.kind, Type::Binary | Type::Reference);
        exact(&mut attribute.sub_attributes);
    }
}

/// `members` and `groups` of a base schema are links between resources, kept apart from documents.
fn linked(resource_type: &str, attributes: &[Attribute]) -> Result<(), String> {
    let has_value = |attribute: &Attribute| {
        attribute.multi_valued && attribute.sub("value").is_some_and(|value| value.kind == Type::String)
    };
    let wrong = |attribute: &&Attribute| match attribute.name.as_str() {
        "members" => !has_value(attribute),
        "groups" => !has_value(attribute) || attribute.mutability != Mutability::ReadOnly,
        _ => false,
    };
    match attributes.iter().find(wrong) {
        Some(Attribute { name, .. }) => Err(format!(
            "resource type {resource_type}: {name} links resources. It must be complex and multi-valued with a value, as in \
             Group and User, and groups must be readOnly; or give it another name"
        )),
        None => Ok(()),
    }
}

fn attributes(place: &str, attributes: &[Attribute], inner: bool) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for attribute in attributes {
        let name = &attribute.name;
        let place = format!("{place}:{name}");
        if !is_name(name) {
            return Err(format!("{place}: {name:?} is not an attribute name (RFC 7643 section 2.1)"));
        }
        if !seen.insert(name.to_ascii_lowercase()) {
            return Err(format!("{place}: stands in the schema twice"));
        }
        if !inner && COMMON.iter().any(|common| common.eq_ignore_ascii_case(name)) {
            return Err(format!("{place}: every resource has this attribute; it cannot be defined again"));
        }
        match (attribute.kind, inner, attribute.sub_attributes.is_empty()) {
            (Type::Complex, true, _) => {
                return Err(format!("{place}: a complex attribute cannot hold another"));
            }
            (Type::Complex, false, true) => {
                return Err(format!("{place}: a complex attribute needs subAttributes"));
            }
            (Type::Complex, false, false) => self::attributes(&place, &attribute.sub_attributes, true)?,
            (_, _, false) => return Err(format!("{place}: only a complex attribute has subAttributes")),
            (_, _, true) => {}
        }
        let simple = !attribute.multi_valued
            && !inner
            && matches!(attribute.kind, Type::String | Type::Reference | Type::Integer);
        if attribute.uniqueness != Uniqueness::None && !simple {
            return Err(format!(
                "{place}: only a single string, reference or integer of the schema itself can be unique"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(json: serde_json::Value) -> Schema {
        serde_json::from_value(json).unwrap()
    }

    fn badge() -> Schema {
        schema(serde_json::json!({"id": "urn:example:scim:Badge", "name": "Badge", "attributes": [
            {"name": "number", "type": "string", "required": true, "uniqueness": "server"},
            {"name": "doors", "type": "complex", "multiValued": true, "subAttributes": [{"name": "value", "type": "string"}]},
        ]}))
    }

    fn kind(name: &str, endpoint: &str, schema: &str) -> ResourceType {
        serde_json::from_value(
            serde_json::json!({"id": name, "name": name, "endpoint": endpoint, "schema": schema}),
        )
        .unwrap()
    }

    #[test]
    fn defaults_are_those_of_the_rfc() {
        let badge = badge();
        let number = &badge.attributes[0];
        assert_eq!(
            (number.mutability, number.returned),
            (crate::Mutability::ReadWrite, crate::Returned::Default)
        );
        assert!(!number.multi_valued && !number.case_exact);
    }

    #[test]
    fn a_type_of_ones_own_is_known_after_its_schema() {
        let mut registry = Registry::built_in().unwrap();
        assert!(registry.add_resource_type(kind("Badge", "/Badges", "urn:example:scim:Badge")).is_err());
        registry.add_schema(badge()).unwrap();
        registry.add_resource_type(kind("Badge", "/Badges", "urn:example:scim:Badge")).unwrap();
        assert!(registry.by_endpoint("Badges").is_some());
        assert!(registry.add_schema(badge()).is_err());
        for (name, endpoint) in [
            ("Badge", "/Other"),
            ("Other", "/badges"),
            ("Other", "/Bulk"),
            ("a.b", "/Other"),
            ("Other", "Other"),
        ] {
            assert!(
                registry.add_resource_type(kind(name, endpoint, "urn:example:scim:Badge")).is_err(),
                "{name} {endpoint}"
            );
        }
        let more = || SchemaExtension { schema: "URN:example:scim:Badge".to_string(), required: false };
        registry.extend("User", more()).unwrap();
        assert!(registry.extend("User", more()).is_err());
        assert!(registry.extend("Nobody", more()).is_err());
    }

    /// Of other attributes with these names nothing would be kept, or another thing found.
    #[test]
    fn members_and_groups_are_links_in_a_base_schema() {
        let part = |kind: &str| serde_json::json!([{"name": "value", "type": kind}]);
        let complex = |name: &str, many: bool, parts: serde_json::Value| serde_json::json!({"name": name, "type": "complex", "multiValued": many, "subAttributes": parts});
        let groups = |mutability: &str| {
            let mut groups = complex("groups", true, part("string"));
            groups["mutability"] = mutability.into();
            groups
        };
        for (attribute, permitted) in [
            (serde_json::json!({"name": "members", "type": "string", "multiValued": true}), false),
            (complex("members", false, part("string")), false),
            (complex("members", true, part("integer")), false),
            (complex("members", true, serde_json::json!([{"name": "name", "type": "string"}])), false),
            (complex("members", true, part("string")), true),
            (serde_json::json!({"name": "groups", "type": "string"}), false),
            (groups("readWrite"), false),
            (groups("readOnly"), true),
            (serde_json::json!({"name": "member", "type": "string"}), true),
        ] {
            let mut registry = Registry::built_in().unwrap();
            let own = serde_json::json!({"id": "urn:x:y", "name": "x", "attributes": [attribute]});
            registry.add_schema(schema(own)).unwrap();
            // An extension has names of its own.
            let extension = SchemaExtension { schema: "urn:x:y".to_string(), required: false };
            registry.extend("User", extension).unwrap();
            let added = registry.add_resource_type(kind("Club", "/Clubs", "urn:x:y"));
            assert_eq!(added.is_ok(), permitted, "{attribute} {added:?}");
        }
    }

    #[test]
    fn bytes_and_references_are_exact() {
        let mut registry = Registry::built_in().unwrap();
        let parts =
            serde_json::json!([{"name": "value", "type": "reference"}, {"name": "type", "type": "string"}]);
        let own = serde_json::json!({"id": "urn:x:y", "name": "x", "attributes": [
            {"name": "image", "type": "binary"}, {"name": "name", "type": "string"},
            {"name": "places", "type": "complex", "multiValued": true, "subAttributes": parts},
        ]});
        registry.add_schema(schema(own)).unwrap();
        registry.add_resource_type(kind("Y", "/Ys", "urn:x:y")).unwrap();
        let kind = registry.by_name("Y").unwrap();
        let resource =
            serde_json::json!({"image": "QUJD", "name": "QUJD", "places": [{"value": "urn:Q", "type": "q"}]});
        for (filter, expected) in [
            ("image eq \"QUJD\"", true),
            ("image eq \"qujd\"", false),
            ("name eq \"qujd\"", true),
            ("places.value co \"Q\"", true),
            ("places.value co \"q\"", false),
            ("places.type co \"Q\"", true),
        ] {
            let limits = crate::FilterLimits::default();
            let parsed = crate::Filter::parse(filter, &limits, crate::Dialect::Rfc, &registry, kind).unwrap();
            assert_eq!(parsed.matches(resource.as_object().unwrap()), expected, "{filter}");
        }
    }

    #[test]
    fn what_no_schema_may_say_is_refused() {
        for (id, attributes) in [
            ("badge", serde_json::json!([])),
            ("urn:x:y", serde_json::json!([{"name": "1a", "type": "string"}])),
            (
                "urn:x:y",
                serde_json::json!([{"name": "a", "type": "string"}, {"name": "A", "type": "string"}]),
            ),
            ("urn:x:y", serde_json::json!([{"name": "id", "type": "string"}])),
            ("urn:x:y", serde_json::json!([{"name": "a", "type": "complex"}])),
            (
                "urn:x:y",
                serde_json::json!([{"name": "a", "type": "string", "subAttributes": [{"name": "b", "type": "string"}]}]),
            ),
            (
                "urn:x:y",
                serde_json::json!([{"name": "a", "type": "string", "multiValued": true, "uniqueness": "server"}]),
            ),
            ("urn:ietf:params:scim:schemas:core:2.0:User", serde_json::json!([])),
        ] {
            let schema = schema(serde_json::json!({"id": id, "name": "x", "attributes": attributes}));
            assert!(Registry::built_in().unwrap().add_schema(schema).is_err(), "{id} {attributes}");
        }
    }
}
