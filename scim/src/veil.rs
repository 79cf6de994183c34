//! What nobody is shown who does not have it named to him: attributes and parts of them that are `returned: never`
//! (RFC 7643 §7).

use serde_json::Value;

use crate::select::only;
use crate::{AttrPath, Attribute, Change, Object, Registry, Resolved, ResourceType, Returned};

/// What stands in the place of such a value.
const VEILED: &str = "(never returned)";

/// A document without them.
pub fn without_veiled(registry: &Registry, kind: &ResourceType, mut document: Object) -> Object {
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

/// Changes whose values are not told where nobody is shown them; that there was something is.
pub fn veil(registry: &Registry, kind: &ResourceType, changes: &mut [Change]) {
    for change in changes {
        let Ok(path) = AttrPath::parse(&change.path, registry) else { continue };
        let Some(Resolved::Attribute { attribute, sub, .. }) = registry.resolve(kind, &path) else {
            continue;
        };
        let is_veiled = is_never(attribute) || sub.is_some_and(is_never);
        let told = |value: Value| match sub {
            _ if is_veiled => VEILED.into(),
            Some(_) => value,
            None => only(attribute, value, |_| true).unwrap_or_else(|| VEILED.into()),
        };
        change.before = change.before.take().map(told);
        change.after = change.after.take().map(told);
    }
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
    fn of_a_change_to_it_no_value_is_told() {
        let registry = registry();
        let kind = registry.by_name("User").unwrap();
        let document = |value: Value| value.as_object().unwrap().clone();
        let old = document(json!({URN: {"pin": "1", "hint": "a", "box": {"code": "1", "label": "a"}}}));
        let new = document(
            json!({URN: {"hint": "b", "box": {"code": "2", "label": "b"}, "boxes": [{"code": "3"}]}}),
        );
        let mut changes = crate::diff(&old, &new);
        veil(&registry, kind, &mut changes);
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
