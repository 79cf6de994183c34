//! What a PUT cannot mean to clear: what its client was not shown.

use std::collections::BTreeSet;
use std::sync::Arc;

use scim::validate::{Context, Parts};
use scim::{AttrPath, Attribute, Object, Returned, Said, keep_unseen};
use serde_json::Value;

/// Keeps the attributes that no answer shows unless they are asked for, where the body does not name them, and those that no
/// schema knows any more. Clients PUT back what they got with GET. Naming one with `null` clears it.
pub(super) fn keep(context: Context<'_>, body: &Value, current: &Object, parts: &mut Parts) {
    keep_parts(context, body, current, parts);
    let mut hidden = hidden(context);
    hidden.extend(unknown(context, current));
    hidden.retain(|path| path.is("members") || !path.values(current).is_empty());
    if hidden.is_empty() {
        return;
    }
    let named = named(context, body);
    let is_named = |path: &AttrPath| {
        let whole = AttrPath { name: None, ..path.clone() };
        named.contains(path) || path.schema.is_some() && named.contains(&whole)
    };
    for path in hidden.iter().filter(|path| !is_named(path)) {
        if path.is("members") {
            parts.members = None;
        }
        let Some(name) = path.name.as_ref() else { continue };
        match &path.schema {
            None => {
                if let Some(value) = current.get(name) {
                    let document = Arc::make_mut(&mut parts.document);
                    document.entry(name.clone()).or_insert_with(|| value.clone());
                }
            }
            Some(urn) => {
                if let Some(value) = current.get(urn).and_then(|extension| extension.get(name)) {
                    let document = Arc::make_mut(&mut parts.document);
                    let extension = document.entry(urn.clone()).or_insert_with(|| Object::new().into());
                    if let Some(extension) = extension.as_object_mut() {
                        extension.entry(name.clone()).or_insert_with(|| value.clone());
                    }
                }
            }
        }
    }
}

/// The same of parts of attributes that are shown.
fn keep_parts(context: Context<'_>, body: &Value, current: &Object, parts: &mut Parts) {
    let core = context.registry.core(context.kind).iter().map(|attribute| (None, attribute));
    let extended = context
        .registry
        .extensions(context.kind)
        .flat_map(|schema| schema.attributes.iter().map(move |attribute| (Some(&schema.id), attribute)));
    let partly = |(_, attribute): &(Option<&String>, &Attribute)| {
        !hides(attribute) && attribute.sub_attributes.iter().any(hides)
    };
    let mut named = None;
    for (urn, attribute) in core.chain(extended).filter(partly) {
        let place = |object: &Object| match urn {
            None => object.get(&attribute.name).cloned(),
            Some(urn) => object.get(urn).and_then(|extension| extension.get(&attribute.name)).cloned(),
        };
        let Some(old) = place(current) else { continue };
        let named = named.get_or_insert_with(|| self::named(context, body));
        let path = AttrPath { schema: urn.cloned(), name: Some(attribute.name.clone()), sub: None };
        let is_named =
            |sub: &Attribute| named.contains(&AttrPath { sub: Some(sub.name.clone()), ..path.clone() });
        let whole = AttrPath { name: None, ..path.clone() };
        let is_said = named.contains(&path) || urn.is_some() && named.contains(&whole);
        let said = if is_said { Said::Something } else { Said::Nothing };
        let new = place(&parts.document);
        let kept = keep_unseen(attribute, is_named, said, &old, new.clone());
        let Some(kept) = kept.filter(|kept| Some(kept) != new.as_ref()) else { continue };
        let document = Arc::make_mut(&mut parts.document);
        let root = match urn {
            None => Some(document),
            Some(urn) => document.entry(urn.clone()).or_insert_with(|| Object::new().into()).as_object_mut(),
        };
        if let Some(root) = root {
            root.insert(attribute.name.clone(), kept);
        }
    }
}

fn hides(attribute: &Attribute) -> bool {
    matches!(attribute.returned, Returned::Never | Returned::Request)
}

fn hidden(context: Context<'_>) -> Vec<AttrPath> {
    let hides = |attribute: &&Attribute| hides(attribute);
    let core = context.registry.core(context.kind).iter().filter(hides);
    let core = core.map(|attribute| AttrPath::of(&attribute.name));
    let extended = context.registry.extensions(context.kind).flat_map(|schema| {
        let urn = Some(schema.id.clone());
        let of = move |attribute: &Attribute| AttrPath {
            schema: urn.clone(),
            name: Some(attribute.name.clone()),
            sub: None,
        };
        schema.attributes.iter().filter(hides).map(of)
    });
    core.chain(extended).collect()
}

/// What a document holds that was taken out of the schemas.
fn unknown(context: Context<'_>, current: &Object) -> Vec<AttrPath> {
    let knows = |attributes: &[Attribute], name: &String| attributes.iter().any(|known| known.name == *name);
    let mut unknown = Vec::new();
    for (name, value) in current {
        if knows(context.registry.core(context.kind), name) {
            continue;
        }
        let Some(schema) = context.registry.extensions(context.kind).find(|schema| schema.id == *name) else {
            unknown.push(AttrPath { schema: None, name: Some(name.clone()), sub: None });
            continue;
        };
        let inner = value.as_object().into_iter().flat_map(Object::keys);
        let of =
            |inner: &String| AttrPath { schema: Some(name.clone()), name: Some(inner.clone()), sub: None };
        unknown.extend(inner.filter(|inner| !knows(&schema.attributes, inner)).map(of));
    }
    unknown
}

/// What a body names, with a value or without: attributes and parts of them. An extension that it sets to `null` is named as a
/// whole.
fn named(context: Context<'_>, body: &Value) -> BTreeSet<AttrPath> {
    let mut named = BTreeSet::new();
    let mut one = |path: AttrPath, value: &Value| {
        let values = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        // Many values have the same few names.
        let parts: BTreeSet<&String> =
            values.iter().filter_map(Value::as_object).flat_map(Object::keys).collect();
        let part = |part: &String| AttrPath { sub: Some(part.clone()), ..path.clone() };
        named.extend(
            parts.into_iter().filter_map(|name| context.registry.canonical(context.kind, &part(name))),
        );
        named.insert(path);
    };
    for (name, value) in body.as_object().into_iter().flatten() {
        let Ok(path) = AttrPath::parse(name, context.registry) else { continue };
        // Of the base schema as a whole there is no canonical path, but of what stands under it.
        let whole = Some(path.clone()).filter(|path| path.name.is_none());
        let Some(path) = context.registry.canonical(context.kind, &path).or(whole) else { continue };
        let Some(inner) = value.as_object().filter(|_| path.name.is_none()) else {
            one(path, value);
            continue;
        };
        for (name, value) in inner {
            let inner = AttrPath { name: Some(name.clone()), ..path.clone() };
            if let Some(inner) = context.registry.canonical(context.kind, &inner) {
                one(inner, value);
            }
        }
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;
    use scim::{Dialect, Registry, ResourceType, validate};
    use serde_json::json;

    const CORE: &str = "urn:example:scim:Badge";
    const DOORS: &str = "urn:example:scim:Doors";

    fn registry() -> Registry {
        let mut registry = Registry::built_in().unwrap();
        let attribute =
            |name: &str, returned: &str| json!({"name": name, "type": "string", "returned": returned});
        let schema = |urn: &str, attributes: Value| {
            serde_json::from_value(json!({"id": urn, "name": urn, "attributes": attributes})).unwrap()
        };
        let own =
            json!([attribute("number", "default"), attribute("note", "request"), attribute("seed", "never")]);
        registry.add_schema(schema(CORE, own)).unwrap();
        let lock = json!({"name": "lock", "type": "complex", "subAttributes": [attribute("value", "default"), attribute("code", "never")]});
        let doors = json!([attribute("main", "default"), attribute("vault", "request"), lock]);
        registry.add_schema(schema(DOORS, doors)).unwrap();
        let kind = json!({
            "id": "Badge", "name": "Badge", "endpoint": "/Badges", "schema": CORE,
            "schemaExtensions": [{"schema": DOORS, "required": false}],
        });
        registry.add_resource_type(serde_json::from_value(kind).unwrap()).unwrap();
        registry
    }

    #[track_caller]
    fn check(mut body: Value, expected: Value) {
        let registry = registry();
        let kind = registry.by_name("Badge").unwrap();
        let current = json!({"number": "1", "note": "n", "seed": "s", DOORS: {"main": "m", "vault": "v"}});
        put(&mut body, &current, &expected, (&registry, kind));
    }

    #[track_caller]
    fn put(
        body: &mut Value,
        current: &Value,
        expected: &Value,
        (registry, kind): (&Registry, &ResourceType),
    ) {
        let context = Context { registry, kind, speech: Dialect::Rfc.into() };
        let current = current.as_object().unwrap();
        body["schemas"] = json!([CORE, DOORS]);
        let keep = |parts: &mut Parts| keep(context, body, current, parts);
        let parts = validate::replace(context, body.clone(), current, keep).unwrap();
        assert_eq!(Value::from(Object::clone(&parts.document)), *expected, "{body}");
    }

    #[test]
    fn what_was_taken_out_of_the_schemas_is_there_for_when_it_comes_back() {
        let registry = registry();
        let kind = registry.by_name("Badge").unwrap();
        let gone = json!({"pin": "1"});
        let current = json!({"number": "1", "gone": [gone], "urn:example:Gone": gone, DOORS: {"main": "m", "gone": gone}});
        let kept = json!({"number": "2", "gone": [gone], "urn:example:Gone": gone, DOORS: {"gone": gone}});
        put(&mut json!({"number": "2", "gone": "x"}), &current, &kept, (&registry, kind));
    }

    /// Nobody can say what he was never shown: whoever puts all the rest must be able to leave.
    #[test]
    fn what_is_required_and_kept_is_not_missing() {
        let mut registry = Registry::built_in().unwrap();
        let schema = json!({"id": CORE, "name": "Badge", "attributes": [
            {"name": "pin", "type": "string", "required": true, "returned": "never"}, {"name": "active", "type": "boolean"},
            {"name": "lock", "type": "complex", "subAttributes": [
                {"name": "value", "type": "string"}, {"name": "code", "type": "string", "required": true, "returned": "request"}]}]});
        registry.add_schema(serde_json::from_value(schema).unwrap()).unwrap();
        let kind = json!({"id": "Badge", "name": "Badge", "endpoint": "/Badges", "schema": CORE});
        registry.add_resource_type(serde_json::from_value(kind).unwrap()).unwrap();
        let context = Context {
            registry: &registry,
            kind: registry.by_name("Badge").unwrap(),
            speech: Dialect::Rfc.into(),
        };
        let current = json!({"pin": "1", "active": true, "lock": {"value": "v", "code": "c"}});
        let put = |mut body: Value, current: &Value| {
            let current = current.as_object().unwrap();
            body["schemas"] = json!([CORE]);
            let keep = |parts: &mut Parts| keep(context, &body, current, parts);
            let parts = validate::replace(context, body.clone(), current, keep);
            parts.map(|parts| Value::from(Object::clone(&parts.document))).map_err(|error| error.detail)
        };
        let shown = json!({"active": false, "lock": {"value": "v"}});
        assert_eq!(
            put(shown.clone(), &current).unwrap(),
            json!({"pin": "1", "active": false, "lock": {"value": "v", "code": "c"}})
        );
        assert_eq!(put(json!({"pin": null}), &current).unwrap_err(), "pin is required");
        let cleared = json!({"lock": {"value": "v", "code": null}});
        assert_eq!(put(cleared, &current).unwrap_err(), "lock.code is required");
        assert_eq!(put(shown, &json!({"active": true})).unwrap_err(), "pin is required");
    }

    #[test]
    fn nor_is_a_part_of_what_it_was_shown() {
        let registry = registry();
        let kind = registry.by_name("Badge").unwrap();
        let current = json!({"number": "1", DOORS: {"main": "m", "lock": {"value": "v", "code": "c"}}});
        let put = |mut lock: Value, expected: Value| {
            put(&mut lock, &current, &expected, (&registry, kind));
        };
        let lock = |lock: Value| json!({DOORS: {"lock": lock}});
        put(lock(json!({"value": "w"})), lock(json!({"value": "w", "code": "c"})));
        put(lock(json!({"value": "w", "CODE": null})), lock(json!({"value": "w"})));
        put(json!({format!("{DOORS}:LOCK"): {"Value": "w"}}), lock(json!({"value": "w", "code": "c"})));
        put(lock(Value::Null), json!({}));
        put(json!({DOORS: null}), json!({}));
        put(json!({"number": "1"}), json!({"number": "1"}));
    }

    #[test]
    fn what_a_client_was_not_shown_is_not_cleared_by_its_silence() {
        let doors = |main: &str| json!({"main": main, "vault": "v"});
        check(
            json!({"number": "2"}),
            json!({"number": "2", "note": "n", "seed": "s", DOORS: {"vault": "v"}}),
        );
        check(json!({DOORS: {"main": "x"}}), json!({"note": "n", "seed": "s", DOORS: doors("x")}));
        check(json!({"NOTE": "new", "seed": null, DOORS: {"Vault": null}}), json!({"note": "new"}));
        check(json!({format!("{CORE}:note"): null, DOORS: null}), json!({"seed": "s"}));
        check(json!({CORE: {"number": "2", "note": null}, DOORS: null}), json!({"number": "2", "seed": "s"}));
        check(
            json!({format!("{DOORS}:vault"): "w", "seed": "t"}),
            json!({"note": "n", "seed": "t", DOORS: {"vault": "w"}}),
        );
    }
}
