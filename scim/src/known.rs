//! What of a document the schemas know. Whatever they do not was written under one that was taken away, or part of which
//! was: nothing says any more who may see it, so nobody does.

use serde_json::Value;

use crate::{Attribute, Object, Registry, ResourceType};

/// A document with only what the schemas know of it.
pub fn known(registry: &Registry, kind: &ResourceType, document: Object) -> Object {
    Known::Document(registry, kind).members_of(document)
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ENTERPRISE: &str = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";

    #[track_caller]
    fn check(document: Value, expected: Value) {
        let registry = Registry::built_in().unwrap();
        let user = registry.by_name("User").unwrap();
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
