//! What of a document the schemas know. Whatever they do not was written under one that was taken away, or part of which
//! was: nothing says any more who may see it, so nobody does.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::{Attribute, Object, Registry, ResourceType};

/// A document with only what the schemas know of it.
pub fn known(registry: &Registry, kind: &ResourceType, document: Object) -> Object {
    Known::Document(registry, kind).members_of(document)
}

/// Whether they know all of it. The document is given as JSON; what is none is not known.
pub fn is_known(registry: &Registry, kind: &ResourceType, json: &[u8]) -> bool {
    let mut text = serde_json::Deserializer::from_slice(json);
    Known::Document(registry, kind).deserialize(&mut text).is_ok()
}

/// The members that an object may have.
#[derive(Clone, Copy)]
pub(crate) enum Known<'a> {
    /// The attributes of a type, and its extensions.
    Document(&'a Registry, &'a ResourceType),
    /// The attributes of an extension, or the parts of an attribute.
    Parts(&'a [Attribute]),
}

impl<'a> Known<'a> {
    /// What a member of this name may have in turn; nothing when there is no such member.
    fn part(self, name: &str) -> Option<Self> {
        let named = |attributes: &'a [Attribute]| {
            let found = attributes.iter().find(|attribute| attribute.name == name)?;
            Some(Self::Parts(&found.sub_attributes))
        };
        match self {
            Self::Parts(attributes) => named(attributes),
            Self::Document(registry, kind) => named(registry.core(kind)).or_else(|| {
                let extension = registry.extensions(kind).find(|schema| schema.id == name)?;
                Some(Self::Parts(&extension.attributes))
            }),
        }
    }

    fn members_of(self, object: Object) -> Object {
        let known = |(name, value): (String, Value)| {
            let value = self.part(&name)?.value_of(value)?;
            Some((name, value))
        };
        object.into_iter().filter_map(known).collect()
    }

    /// A value without members that are not known; nothing when it has no others.
    pub(crate) fn value_of(self, value: Value) -> Option<Value> {
        match value {
            Value::Object(members) => {
                let kept = self.members_of(members);
                (!kept.is_empty()).then_some(kept.into())
            }
            Value::Array(values) => {
                let kept: Vec<Value> = values.into_iter().filter_map(|value| self.value_of(value)).collect();
                (!kept.is_empty()).then_some(kept.into())
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Some(value),
        }
    }
}

/// Walks along a text, keeps nothing of it, and ends at the first name that is not known.
impl<'de> DeserializeSeed<'de> for Known<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Known<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(part) = map.next_key_seed(Member(self))? {
            map.next_value_seed(part)?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<(), A::Error> {
        while values.next_element_seed(self)?.is_some() {}
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }
}

/// The name of a member.
struct Member<'a>(Known<'a>);

impl<'de, 'a> DeserializeSeed<'de> for Member<'a> {
    type Value = Known<'a>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Known<'a>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a> Visitor<'_> for Member<'a> {
    type Value = Known<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Known<'a>, E> {
        self.0.part(name).ok_or_else(|| E::custom("no schema knows it"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ENTERPRISE: &str = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";

    #[track_caller]
    fn check(document: Value, expected: Value) {
        let registry = Registry::built_in().unwrap();
        let user = registry.by_name("User").unwrap();
        let text = document.to_string();
        assert_eq!(is_known(&registry, user, text.as_bytes()), document == expected, "{text}");
        let object = document.as_object().unwrap().clone();
        assert_eq!(Value::Object(known(&registry, user, object)), expected);
    }

    #[test]
    fn what_every_schema_knows_stays_as_it_is() {
        let whole = json!({
            "userName": "ada", "active": true, "name": {"givenName": "Ad\u{e4}\n\"", "familyName": ""},
            "emails": [{"value": "a", "primary": false, "type": "work"}, {"value": "b"}],
            ENTERPRISE: {"department": "D", "manager": {"value": "1", "displayName": "M"}},
        });
        check(whole.clone(), whole);
        check(json!({}), json!({}));
    }

    #[test]
    fn what_no_schema_knows_is_left_out_wherever_it_stands() {
        check(json!({"userName": "ada", "badge": 1}), json!({"userName": "ada"}));
        check(json!({"userName": "ada", "urn:example:Desk": {"pin": 1}}), json!({"userName": "ada"}));
        check(json!({ENTERPRISE: {"pin": "1", "division": "D"}}), json!({ENTERPRISE: {"division": "D"}}));
        check(json!({ENTERPRISE: {"pin": "1"}, "active": false}), json!({"active": false}));
        check(json!({"name": {"givenName": "A", "pin": 1.5}}), json!({"name": {"givenName": "A"}}));
        check(
            json!({"emails": [{"value": "a", "pin": -1}, {"pin": null}]}),
            json!({"emails": [{"value": "a"}]}),
        );
        check(json!({"title": {"pin": "1"}}), json!({}));
    }
}
