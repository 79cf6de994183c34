//! What nobody is shown who does not have it named to him: attributes and parts of them that are `returned: never`
//! (RFC 7643 §7), and what no schema knows any more, which may have been.

use serde_json::Value;

use crate::known::{Known, known};
use crate::select::only;
use crate::{AttrPath, Attribute, Change, Object, Registry, Resolved, ResourceType, Returned};

/// What stands in the place of such a value.
const VEILED: &str = "(never returned)";
/// And in the place of what no schema knows.
const UNKNOWN: &str = "(no schema knows it)";

/// A document without them.
pub fn without_veiled(registry: &Registry, kind: &ResourceType, document: Object) -> Object {
    let mut document = known(registry, kind, document);
    strip(registry.core(kind), &mut document);
    for schema in registry.extensions(kind) {
        let Some(members) = document.get_mut(&schema.id).and_then(Value::as_object_mut) else { continue };
        strip(&schema.attributes, members);
        if members.is_empty() {
            document.remove(&schema.id);
        }
    }
    document
}

/// Changes whose values are not told where nobody is shown them; that there was something is. `kind` is nothing for a type
/// that is not known any more.
pub fn veil(registry: &Registry, kind: Option<&ResourceType>, changes: &mut [Change]) {
    for change in changes.iter_mut().filter(|change| !is_external_id(&change.path)) {
        let path = AttrPath::parse(&change.path, registry).ok();
        let found = kind.zip(path.as_ref()).and_then(|(kind, path)| registry.resolve(kind, path));
        let told = |value: Value| match found {
            Some(Resolved::Attribute { attribute, sub, .. }) => match sub {
                _ if is_never(attribute) || sub.is_some_and(is_never) => VEILED.into(),
                Some(sub) => {
                    Known::Parts(&sub.sub_attributes).value_of(value).unwrap_or_else(|| UNKNOWN.into())
                }
                None => match Known::Parts(&attribute.sub_attributes).value_of(value) {
                    Some(value) => only(attribute, value, |_| true).unwrap_or_else(|| VEILED.into()),
                    None => UNKNOWN.into(),
                },
            },
            Some(Resolved::Extension(_)) | None => UNKNOWN.into(),
        };
        change.before = change.before.take().map(told);
        change.after = change.after.take().map(told);
    }
}

/// Every source has its own beside the document; others' are told as `externalId[SOURCE]`.
fn is_external_id(path: &str) -> bool {
    path == "externalId" || path.starts_with("externalId[")
}

fn is_never(attribute: &Attribute) -> bool {
    attribute.returned == Returned::Never
}

fn strip(attributes: &[Attribute], object: &mut Object) {
    let hides = |attribute: &&Attribute| is_never(attribute) || attribute.sub_attributes.iter().any(is_never);
    for attribute in attributes.iter().filter(hides) {
        let value = object.remove(&attribute.name).filter(|_| !is_never(attribute));
        if let Some(value) = value.and_then(|value| only(attribute, value, |_| true)) {
            object.insert(attribute.name.clone(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const URN: &str = "urn:example:scim:Vault";

    fn registry() -> Registry {
        let mut registry = Registry::built_in().unwrap();
        let parts = |name: &str, many: bool| {
            json!({"name": name, "type": "complex", "multiValued": many, "subAttributes": [
                {"name": "code", "type": "string", "returned": "never"}, {"name": "label", "type": "string"},
            ]})
        };
        let schema = json!({"id": URN, "name": "Vault", "attributes": [
            {"name": "pin", "type": "string", "returned": "never"}, {"name": "hint", "type": "string"},
            parts("box", false), parts("boxes", true),
        ]});
        registry.add_schema(serde_json::from_value(schema).unwrap()).unwrap();
        let extension = crate::SchemaExtension { schema: URN.to_string(), required: false };
        registry.extend("User", extension).unwrap();
        registry
    }

    #[test]
    fn what_is_never_returned_is_left_out_of_a_document() {
        let registry = registry();
        let kind = registry.by_name("User").unwrap();
        let check = |document: Value, expected: Value| {
            let document = document.as_object().unwrap().clone();
            assert_eq!(Value::Object(without_veiled(&registry, kind, document)), expected);
        };
        let boxes = json!([{"code": "1", "label": "a"}, {"code": "2"}]);
        check(
            json!({"userName": "ada", URN: {"pin": "7", "hint": "h", "box": {"code": "1", "label": "a"}, "boxes": boxes}}),
            json!({"userName": "ada", URN: {"hint": "h", "box": {"label": "a"}, "boxes": [{"label": "a"}]}}),
        );
        check(
            json!({"userName": "ada", URN: {"pin": "7", "box": {"code": "1"}}}),
            json!({"userName": "ada"}),
        );
    }

    #[test]
    fn what_no_schema_knows_is_not_told_either() {
        let registry = registry();
        let kind = registry.by_name("User").unwrap();
        let document = json!({
            "userName": "ada", "name": {"givenName": "Ada", "pin": "1"}, "phoneNumbers": [{"value": "7", "pin": "1"}, {"pin": "1"}],
            URN: {"hint": "h", "old": {"pin": "1"}}, "urn:example:scim:Gone": {"pin": "1"},
        });
        let document = document.as_object().unwrap().clone();
        assert_eq!(
            Value::Object(without_veiled(&registry, kind, document.clone())),
            json!({"userName": "ada", "name": {"givenName": "Ada"}, "phoneNumbers": [{"value": "7"}], URN: {"hint": "h"}}),
        );
        let mut changes = crate::diff(&Object::new(), &document);
        let external_id =
            |path: &str| Change { path: path.to_string(), before: None, after: Some("x".into()) };
        changes.extend([external_id("externalId"), external_id("externalId[hr]")]);
        let told = |kind| {
            let mut changes = changes.clone();
            veil(&registry, kind, &mut changes);
            changes.into_iter().filter_map(|change| Some((change.path, change.after?))).collect::<Vec<_>>()
        };
        let of_user = told(Some(kind));
        let find = |name: &str| of_user.iter().find(|(path, _)| path == name).map(|(_, value)| value.clone());
        for (path, value) in [
            ("userName", json!("ada")),
            ("name.givenName", json!("Ada")),
            ("name.pin", json!(UNKNOWN)),
            ("phoneNumbers", json!([{"value": "7"}])),
            ("urn:example:scim:Vault:hint", json!("h")),
            ("urn:example:scim:Vault:old.pin", json!(UNKNOWN)),
            ("urn:example:scim:Gone:pin", json!(UNKNOWN)),
            ("externalId", json!("x")),
            ("externalId[hr]", json!("x")),
        ] {
            assert_eq!(find(path), Some(value), "{path}: {of_user:?}");
        }
        let of_nothing = told(None);
        assert!(
            of_nothing.iter().all(|(path, value)| value == UNKNOWN || is_external_id(path)),
            "{of_nothing:?}"
        );
    }

    #[test]
    fn of_a_change_to_it_no_value_is_told() {
        let registry = registry();
        let kind = registry.by_name("User").unwrap();
        let document = |value: Value| value.as_object().unwrap().clone();
        let old = document(json!({URN: {"pin": "1", "hint": "a", "box": {"code": "1", "label": "a"}}}));
        let new = document(
            json!({URN: {"hint": "b", "box": {"code": "2", "label": "b"}, "boxes": [{"code": "3"}]}}),
        );
        let mut changes = crate::diff(&old, &new);
        veil(&registry, Some(kind), &mut changes);
        let told: Vec<_> = changes
            .iter()
            .map(|change| {
                let path = change.path.strip_prefix(URN).unwrap();
                (
                    path,
                    change.before.as_ref().and_then(Value::as_str),
                    change.after.as_ref().and_then(Value::as_str),
                )
            })
            .collect();
        let veiled = Some(VEILED);
        assert_eq!(
            told,
            [
                (":box.code", veiled, veiled),
                (":box.label", Some("a"), Some("b")),
                (":boxes", None, veiled),
                (":hint", Some("a"), Some("b")),
                (":pin", veiled, None),
            ]
        );
    }
}
