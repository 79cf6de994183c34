//! A resource's document: how it was before a change, and the part of it that a subscriber may see. Pure.

use std::collections::{BTreeMap, BTreeSet};

use scim::{AttrPath, Attribute, Change, Object, Registry, Returned, Schema};
use serde_json::Value;

/// The document before the changes, from the one after them.
pub(super) fn before(after: &Object, changes: &[Change]) -> Object {
    let mut document = after.clone();
    for change in changes {
        // `externalId` and `externalId[SOURCE]` are kept beside the document.
        if change.path == "externalId" || change.path.starts_with("externalId[") {
            continue;
        }
        set(&mut document, &steps(&change.path), change.before.as_ref());
    }
    document
}

/// The names on the way to a value. Names hold neither dots nor colons; URNs hold both.
fn steps(path: &str) -> Vec<&str> {
    let (urn, rest) = match path.rsplit_once(':') {
        Some((urn, rest)) => (Some(urn), rest),
        None => (None, path),
    };
    urn.into_iter().chain(rest.split('.')).collect()
}

/// Sets or removes a value; what is empty then is removed too, as a document has no empty members.
fn set(object: &mut Object, steps: &[&str], value: Option<&Value>) {
    let Some((first, rest)) = steps.split_first() else { return };
    if rest.is_empty() {
        match value {
            Some(value) => drop(object.insert(first.to_string(), value.clone())),
            None => drop(object.remove(*first)),
        }
        return;
    }
    let inner = object.entry(first.to_string()).or_insert_with(|| Object::new().into());
    if !inner.is_object() {
        *inner = Object::new().into();
    }
    if let Some(inner) = inner.as_object_mut() {
        set(inner, rest, value);
        if inner.is_empty() {
            object.remove(*first);
        }
    }
}

/// Attributes that may be shown: of each the whole, or only some sub-attributes.
#[derive(Clone, Debug, Default)]
pub(super) struct Allowed(BTreeMap<Path, Option<BTreeSet<String>>>);

/// An extension's URN, and an attribute; nothing for a whole extension.
type Path = (Option<String>, Option<String>);

impl Allowed {
    /// The attributes with these paths. What cannot be read is not shown; it is refused when the configuration is read.
    pub(super) fn new(paths: &[String], registry: &Registry) -> Self {
        let mut allowed: BTreeMap<_, Option<BTreeSet<String>>> = BTreeMap::new();
        for path in paths.iter().filter_map(|text| AttrPath::parse(text, registry).ok()) {
            let is_core = |urn: &String| registry.resource_types().iter().any(|kind| kind.schema == *urn);
            let schema = path.schema.filter(|urn| !is_core(urn));
            let subs = allowed.entry((schema, path.name)).or_insert_with(|| Some(BTreeSet::new()));
            match (subs.as_mut(), path.sub) {
                (Some(subs), Some(sub)) => drop(subs.insert(sub)),
                (Some(_), None) => *subs = None,
                (None, _) => {}
            }
        }
        Self(allowed.into_iter().flat_map(|(path, subs)| returned(registry, path, subs)).collect())
    }

    /// Whether nothing may be shown.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What may be shown of a document.
    pub(super) fn of(&self, document: &Object) -> Object {
        let mut shown = Object::new();
        for ((schema, name), subs) in &self.0 {
            let root = match schema {
                None => Some(document),
                Some(urn) => document.get(urn).and_then(Value::as_object),
            };
            let Some(root) = root else { continue };
            let found: Vec<(&String, Value)> = match name {
                None => root.iter().map(|(name, value)| (name, value.clone())).collect(),
                Some(name) => root
                    .get_key_value(name)
                    .and_then(|(name, value)| Some((name, part(value, subs.as_ref())?)))
                    .into_iter()
                    .collect(),
            };
            if found.is_empty() {
                continue;
            }
            let into = match schema {
                None => Some(&mut shown),
                Some(urn) => shown.entry(urn.clone()).or_insert_with(|| Object::new().into()).as_object_mut(),
            };
            if let Some(into) = into {
                into.extend(found.into_iter().map(|(name, value)| (name.clone(), value)));
            }
        }
        shown
    }
}

/// The same without what is never returned, and without what no schema knows any more, which may have been: told attribute by
/// attribute, and part by part.
fn returned(
    registry: &Registry,
    (urn, name): Path,
    subs: Option<BTreeSet<String>>,
) -> Vec<(Path, Option<BTreeSet<String>>)> {
    let is_core = |schema: &&Schema| registry.resource_types().iter().any(|kind| kind.schema == schema.id);
    let schemas = registry.schemas().iter().filter(|schema| match &urn {
        Some(urn) => schema.id == *urn,
        None => is_core(schema),
    });
    let attributes: Vec<&Attribute> = schemas.flat_map(|schema| &schema.attributes).collect();
    let is_never = |attribute: &Attribute| attribute.returned == Returned::Never;
    let rest = |name: String, subs: Option<BTreeSet<String>>| {
        let own: Vec<&Attribute> =
            attributes.iter().filter(|attribute| attribute.name == name).copied().collect();
        let parts = own.iter().flat_map(|attribute| &attribute.sub_attributes);
        let (never, shown): (Vec<&Attribute>, Vec<&Attribute>) = parts.partition(|sub| is_never(sub));
        // One type may have a text where another has parts.
        let has_parts = own.iter().all(|attribute| !attribute.sub_attributes.is_empty());
        let all =
            || (has_parts || !never.is_empty()).then(|| shown.iter().map(|sub| sub.name.clone()).collect());
        let mut subs: Option<BTreeSet<String>> = subs.or_else(all);
        if let Some(subs) = &mut subs {
            subs.retain(|sub| never.iter().all(|never| never.name != *sub));
        }
        ((urn.clone(), Some(name)), subs)
    };
    match name {
        Some(name) => vec![rest(name, subs)],
        None => {
            let told = attributes.iter().filter(|attribute| !is_never(attribute));
            told.map(|attribute| rest(attribute.name.clone(), None)).collect()
        }
    }
}

/// A value, or only these sub-attributes of it.
fn part(value: &Value, subs: Option<&BTreeSet<String>>) -> Option<Value> {
    let Some(subs) = subs else { return Some(value.clone()) };
    match value {
        Value::Object(members) => {
            let wanted = members.iter().filter(|(name, _)| subs.contains(*name));
            let object: Object = wanted.map(|(name, value)| (name.clone(), value.clone())).collect();
            (!object.is_empty()).then_some(object.into())
        }
        Value::Array(values) => {
            let parts: Vec<Value> = values.iter().filter_map(|value| part(value, Some(subs))).collect();
            (!parts.is_empty()).then_some(parts.into())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(value: Value) -> Object {
        value.as_object().unwrap().clone()
    }

    #[track_caller]
    fn there_and_back(old: Value, new: Value) {
        let (old, new) = (object(old), object(new));
        assert_eq!(before(&new, &scim::diff(&old, &new)), old);
    }

    #[test]
    fn a_change_is_undone() {
        there_and_back(json!({"userName": "ada"}), json!({"userName": "ada", "title": "Dr"}));
        there_and_back(json!({"userName": "ada", "title": "Dr"}), json!({"userName": "bob"}));
        there_and_back(
            json!({"name": {"givenName": "Ada", "familyName": "L"}}),
            json!({"name": {"givenName": "Ada"}}),
        );
        there_and_back(json!({"name": {"givenName": "Ada"}}), json!({"userName": "ada"}));
        there_and_back(json!({"userName": "ada"}), json!({"name": {"givenName": "Ada"}}));
        there_and_back(
            json!({"emails": [{"value": "a"}]}),
            json!({"emails": [{"value": "a"}, {"value": "b"}]}),
        );
        let urn = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";
        there_and_back(
            json!({urn: {"department": "A", "manager": {"value": "1"}}}),
            json!({urn: {"department": "B"}}),
        );
        there_and_back(json!({urn: {"manager": {"value": "1"}}}), json!({}));
        there_and_back(json!({}), json!({urn: {"manager": {"value": "1"}}}));
    }

    #[test]
    fn an_external_id_is_no_part_of_the_document() {
        let changes = [Change { path: "externalId".to_string(), before: Some("7".into()), after: None }];
        assert_eq!(before(&object(json!({"userName": "ada"})), &changes), object(json!({"userName": "ada"})));
    }

    #[test]
    fn a_name_that_begins_like_an_external_id_is_undone_too() {
        let (old, new) = (json!({"externalIdentity": "a"}), json!({"externalIdentity": "b"}));
        there_and_back(old.clone(), new);
        there_and_back(old, json!({}));
    }

    #[test]
    fn what_is_never_returned_is_not_told_as_part_of_the_whole() {
        const URN: &str = "urn:example:scim:Vault";
        let mut registry = Registry::built_in().unwrap();
        let schema = json!({"id": URN, "name": "Vault", "attributes": [
            {"name": "pin", "type": "string", "returned": "never"}, {"name": "hint", "type": "string"},
            {"name": "box", "type": "complex", "subAttributes": [
                {"name": "code", "type": "string", "returned": "never"}, {"name": "label", "type": "string"},
            ]},
        ]});
        registry.add_schema(serde_json::from_value(schema).unwrap()).unwrap();
        let parts = json!({"code": "1", "label": "a", "gone": "1"});
        let document = object(json!({URN: {"pin": "7", "hint": "h", "box": parts, "gone": "1"}}));
        let shown = |path: String| Value::Object(Allowed::new(&[path], &registry).of(&document));
        assert_eq!(shown(URN.to_string()), json!({URN: {"hint": "h", "box": {"label": "a"}}}));
        assert_eq!(shown(format!("{URN}:box")), json!({URN: {"box": {"label": "a"}}}));
        assert_eq!(shown(format!("{URN}:box.code")), json!({}));
        assert_eq!(shown(format!("{URN}:hint")), json!({URN: {"hint": "h"}}));
    }

    #[test]
    fn only_what_is_allowed_is_shown() {
        let urn = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";
        let document = object(json!({
            "userName": "ada", "title": "Dr", "name": {"givenName": "Ada", "familyName": "L"},
            "emails": [{"value": "a@x", "type": "work"}, {"value": "b@x", "type": "home"}],
            urn: {"department": "A", "costCenter": "7", "manager": {"value": "1", "displayName": "M"}},
        }));
        let shown = |paths: &[&str]| {
            let paths: Vec<String> = paths.iter().map(ToString::to_string).collect();
            Value::Object(Allowed::new(&paths, &Registry::built_in().unwrap()).of(&document))
        };
        assert_eq!(shown(&["userName", "nickName"]), json!({"userName": "ada"}));
        assert_eq!(shown(&["name.givenName"]), json!({"name": {"givenName": "Ada"}}));
        assert_eq!(
            shown(&["name.givenName", "name"]),
            json!({"name": {"givenName": "Ada", "familyName": "L"}})
        );
        assert_eq!(shown(&["emails.value"]), json!({"emails": [{"value": "a@x"}, {"value": "b@x"}]}));
        let department = format!("{urn}:department");
        assert_eq!(shown(&[&department]), json!({urn: {"department": "A"}}));
        assert_eq!(
            shown(&[&department, &format!("{urn}:manager.value")]),
            json!({urn: {"department": "A", "manager": {"value": "1"}}})
        );
        assert_eq!(shown(&[urn])[urn]["costCenter"], "7");
        assert_eq!(shown(&["urn:ietf:params:scim:schemas:core:2.0:User:title"]), json!({"title": "Dr"}));
        assert_eq!(shown(&[]), json!({}));
    }
}
