//! Whether an app still shows an account as it was intended. Pure.
//!
//! Only what we set is compared, and only so exactly as an app can be asked to keep it: upper and lower case where the schema
//! says that they do not matter, the order of values, ids that an app gives to values, and booleans or numbers that it shows
//! as text are no drift. What comes out are the names of attributes, never a value.

use std::collections::BTreeSet;

use jiff::Timestamp;
use scim::{Attribute, Mutability, Object, Registry, ResourceType, Returned, Type};
use serde_json::Value;

/// What an app adds or turns over by itself, or what is compared elsewhere.
const NOT_COMPARED: [&str; 5] = ["schemas", "id", "meta", "members", "groups"];
/// Parts of a value that only say it again.
const REPEATING: [&str; 2] = ["$ref", "display"];

/// The attributes that an app shows otherwise than intended, as paths.
pub(crate) fn drift(
    registry: &Registry,
    kind: &ResourceType,
    intended: &Object,
    shown: &Object,
) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (name, ours) in intended {
        if NOT_COMPARED.iter().any(|skipped| name.eq_ignore_ascii_case(skipped)) {
            continue;
        }
        let theirs = named(shown, name);
        if let Some(schema) = registry.extensions(kind).find(|schema| schema.id.eq_ignore_ascii_case(name)) {
            parts(&schema.attributes, &format!("{}:", schema.id), ours, theirs, &mut found);
            continue;
        }
        let core = registry.core(kind).iter().chain(registry.common());
        let attribute = core.into_iter().find(|attribute| attribute.name.eq_ignore_ascii_case(name));
        whole(attribute, name, ours, theirs, &mut found);
    }
    found
}

/// Texts that an app shows in other letters, upper for lower, as paths; those of several values aside. That is drift only
/// where something is known to have been written since: an app may spell them its own way.
pub(crate) fn spelled_otherwise(intended: &Object, shown: &Object) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (name, ours) in intended {
        match (ours, named(shown, name).map(alone)) {
            (Value::String(ours), Some(Value::String(theirs))) => {
                let (ours, theirs) = (ours.trim(), theirs.trim());
                if ours != theirs && scim::fold(ours) == scim::fold(theirs) {
                    found.insert(name.clone());
                }
            }
            (Value::Object(ours), Some(Value::Object(theirs))) => {
                let separator = if name.contains(':') { ':' } else { '.' };
                let inner = spelled_otherwise(ours, theirs).into_iter();
                found.extend(inner.map(|path| format!("{name}{separator}{path}")));
            }
            (_, _) => {}
        }
    }
    found
}

/// Whether an account is switched off, as the app shows it.
pub(crate) fn is_inactive(shown: &Object) -> bool {
    named(shown, "active").and_then(truth) == Some(false)
}

/// A part by its name, in any case.
pub(crate) fn named<'a>(object: &'a Object, name: &str) -> Option<&'a Value> {
    object
        .get(name)
        .or_else(|| object.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value))
}

/// One attribute; a complex one with a single value part by part.
fn whole(
    attribute: Option<&Attribute>,
    path: &str,
    ours: &Value,
    theirs: Option<&Value>,
    found: &mut BTreeSet<String>,
) {
    if attribute.is_some_and(is_unreadable) {
        return;
    }
    let single = attribute.filter(|attribute| !attribute.multi_valued && attribute.kind == Type::Complex);
    match (single, ours) {
        (Some(attribute), Value::Object(_)) => {
            parts(&attribute.sub_attributes, &format!("{path}."), ours, theirs, found);
        }
        (Some(_) | None, _) => {
            if !same(attribute, ours, theirs) {
                found.insert(path.to_string());
            }
        }
    }
}

fn parts(
    schema: &[Attribute],
    prefix: &str,
    ours: &Value,
    theirs: Option<&Value>,
    found: &mut BTreeSet<String>,
) {
    let nothing = Object::new();
    let theirs = match theirs.map(alone) {
        Some(Value::Object(theirs)) => theirs,
        Some(_) | None => &nothing,
    };
    let Value::Object(ours) = ours else { return };
    for (name, ours) in ours {
        if REPEATING.contains(&name.as_str()) {
            continue;
        }
        let attribute = schema.iter().find(|attribute| attribute.name.eq_ignore_ascii_case(name));
        whole(attribute, &format!("{prefix}{name}"), ours, named(theirs, name), found);
    }
}

/// Nobody can read it back, or only the app sets it.
fn is_unreadable(attribute: &Attribute) -> bool {
    let written = match attribute.mutability {
        Mutability::ReadOnly | Mutability::WriteOnly => false,
        Mutability::ReadWrite | Mutability::Immutable => true,
    };
    let read = match attribute.returned {
        Returned::Never | Returned::Request => false,
        Returned::Always | Returned::Default => true,
    };
    !written || !read
}

fn same(attribute: Option<&Attribute>, ours: &Value, theirs: Option<&Value>) -> bool {
    let theirs = theirs.filter(|theirs| !is_nothing(theirs));
    if is_nothing(ours) {
        return theirs.is_none();
    }
    if matches!(ours, Value::Array(_)) || attribute.is_some_and(|attribute| attribute.multi_valued) {
        return same_values(attribute, &values(ours), &theirs.map(values).unwrap_or_default());
    }
    match theirs {
        Some(theirs) => same_value(attribute, ours, alone(theirs)),
        // Whoever says nothing of an account says that it is on, and of anything else that it is not so.
        None => ours.as_bool() == Some(attribute.is_some_and(|attribute| attribute.name == "active")),
    }
}

/// Each of ours has one of theirs of its own, and nobody is left over. The most exact of ours choose first.
fn same_values(attribute: Option<&Attribute>, ours: &[&Value], theirs: &[&Value]) -> bool {
    if ours.len() != theirs.len() {
        return false;
    }
    let mut ours = ours.to_vec();
    ours.sort_by_key(|value| std::cmp::Reverse(value.as_object().map_or(0, Object::len)));
    let mut left = theirs.to_vec();
    ours.into_iter().all(|value| {
        let place = left.iter().position(|theirs| same_value(attribute, value, theirs));
        place.map(|place| left.swap_remove(place)).is_some()
    })
}

fn same_value(attribute: Option<&Attribute>, ours: &Value, theirs: &Value) -> bool {
    if let Value::Object(parts) = ours {
        let Value::Object(shown) = theirs else {
            // An app that shows `{"value": "x"}` as "x".
            return parts
                .get("value")
                .is_some_and(|value| same_value(attribute_value(attribute), value, theirs));
        };
        return parts.iter().filter(|(name, _)| !REPEATING.contains(&name.as_str())).all(|(name, value)| {
            let sub = attribute.and_then(|attribute| attribute.sub(name));
            sub.is_some_and(is_unreadable) || same(sub, value, named(shown, name))
        });
    }
    let kind = attribute.map_or_else(|| kind_of(ours), |attribute| attribute.kind);
    match kind {
        Type::Boolean => truth(ours).zip(truth(theirs)).is_some_and(|(ours, theirs)| ours == theirs),
        Type::Integer | Type::Decimal => {
            number(ours).zip(number(theirs)).is_some_and(|(ours, theirs)| ours == theirs)
        }
        Type::DateTime => match (instant(ours), instant(theirs)) {
            (Some(ours), Some(theirs)) => ours == theirs,
            (_, _) => text(ours) == text(theirs),
        },
        Type::Binary => binary(ours) == binary(theirs),
        Type::Reference => text(ours).trim_end_matches('/') == text(theirs).trim_end_matches('/'),
        Type::String | Type::Complex => {
            let (ours, theirs) = (text(ours), text(theirs));
            let exact = attribute.is_none_or(|attribute| attribute.case_exact);
            ours.trim() == theirs.trim() || (!exact && scim::fold(ours.trim()) == scim::fold(theirs.trim()))
        }
    }
}

fn attribute_value(attribute: Option<&Attribute>) -> Option<&Attribute> {
    attribute.and_then(|attribute| attribute.sub("value"))
}

fn kind_of(value: &Value) -> Type {
    match value {
        Value::Bool(_) => Type::Boolean,
        Value::Number(_) => Type::Decimal,
        Value::String(_) => Type::String,
        Value::Null | Value::Array(_) | Value::Object(_) => Type::Complex,
    }
}

/// RFC 7643 §2.5: null, an empty array and no value are one.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.trim().is_empty(),
        Value::Array(values) => values.iter().all(is_nothing),
        Value::Object(parts) => parts.values().all(is_nothing),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// The only one of an array of one.
fn alone(value: &Value) -> &Value {
    match value {
        Value::Array(values) => match values.as_slice() {
            [only] => only,
            _ => value,
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => value,
    }
}

fn values(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(values) => values.iter().filter(|value| !is_nothing(value)).collect(),
        Value::Null => Vec::new(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => vec![value],
    }
}

fn truth(value: &Value) -> Option<bool> {
    value.as_bool().or_else(|| match value.as_str()? {
        text if text.eq_ignore_ascii_case("true") => Some(true),
        text if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    })
}

fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())
}

fn instant(value: &Value) -> Option<Timestamp> {
    scim::instant(value.as_str()?.trim())
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_string)
}

/// Base64 in either alphabet, with or without its end.
fn binary(value: &Value) -> String {
    text(value).trim().trim_end_matches('=').replace('-', "+").replace('_', "/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ENTERPRISE: &str = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";

    #[track_caller]
    fn check(intended: Value, shown: Value, expected: &[&str]) {
        let registry = Registry::built_in().unwrap();
        let kind = registry.by_name("User").unwrap();
        let found = drift(&registry, kind, intended.as_object().unwrap(), shown.as_object().unwrap());
        assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), expected, "{intended} {shown}");
    }

    #[test]
    fn other_letters_are_found_where_they_are_asked_for() {
        let intended = json!({
            "userName": "Ada", "title": "Dr", "active": true, "name": {"givenName": "ADA", "familyName": "L"},
            ENTERPRISE: {"department": "R"}, "emails": [{"value": "A@x.test"}],
        });
        let shown = json!({
            "username": "ada", "title": "Prof", "active": false, "name": {"givenName": "ada", "familyName": "L"},
            ENTERPRISE: {"department": "r"}, "emails": [{"value": "a@x.test"}],
        });
        let found = spelled_otherwise(intended.as_object().unwrap(), shown.as_object().unwrap());
        let expected = ["name.givenName", &format!("{ENTERPRISE}:department"), "userName"];
        assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_an_app_may_show_otherwise_is_no_drift() {
        check(json!({"userName": "Ada"}), json!({"id": "7", "username": "ada", "meta": {}}), &[]);
        check(json!({"active": true}), json!({"active": "True"}), &[]);
        check(json!({"active": true}), json!({}), &[]);
        check(json!({"password": "x"}), json!({}), &[]);
        check(json!({"schemas": ["a"], "title": ""}), json!({"schemas": ["b"]}), &[]);
        check(json!({"title": " Dr "}), json!({"title": "dr"}), &[]);
        check(json!({"emails": []}), json!({"emails": null}), &[]);
        check(
            json!({"emails": [{"value": "a@x", "type": "work", "primary": true}, {"value": "b@x", "primary": false}]}),
            json!({"emails": [{"value": "B@x", "id": 3}, {"value": "a@x", "type": "Work", "primary": "true", "display": "A"}]}),
            &[],
        );
        check(json!({"emails": [{"value": "a@x"}]}), json!({"emails": {"value": "a@x"}}), &[]);
        check(
            json!({"x509Certificates": [{"value": "YWI_"}]}),
            json!({"x509Certificates": [{"value": "YWI/=="}]}),
            &[],
        );
        check(
            json!({ENTERPRISE: {"department": "R", "manager": {"value": "9", "$ref": "../Users/9", "displayName": "Eve"}}}),
            json!({ENTERPRISE.to_uppercase(): {"department": "r", "manager": {"value": "9"}, "division": "x"}}),
            &[],
        );
    }

    #[test]
    fn what_somebody_changed_is_named() {
        check(
            json!({"title": "Dr", "active": false}),
            json!({"title": "Mr", "active": true}),
            &["active", "title"],
        );
        check(json!({"active": false}), json!({}), &["active"]);
        check(json!({"title": "Dr"}), json!({}), &["title"]);
        check(json!({"externalId": "Ab"}), json!({"externalId": "ab"}), &["externalId"]);
        check(
            json!({"name": {"givenName": "Ada", "familyName": "L"}}),
            json!({"name": {"givenName": "Eve", "familyName": "L", "formatted": "Eve L"}}),
            &["name.givenName"],
        );
        check(
            json!({"emails": [{"value": "a@x"}]}),
            json!({"emails": [{"value": "a@x"}, {"value": "b@x"}]}),
            &["emails"],
        );
        check(
            json!({"emails": [{"value": "a@x", "type": "work"}]}),
            json!({"emails": [{"value": "a@x", "type": "home"}]}),
            &["emails"],
        );
        check(
            json!({ENTERPRISE: {"department": "R", "manager": {"value": "9"}}}),
            json!({ENTERPRISE: {"department": "S", "manager": {"value": "8"}}}),
            &[
                "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department",
                "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:manager.value",
            ],
        );
    }

    #[test]
    fn a_value_that_fits_twice_is_given_to_the_more_exact_one() {
        check(
            json!({"emails": [{"value": "a@x"}, {"value": "a@x", "type": "work"}]}),
            json!({"emails": [{"value": "a@x", "type": "work"}, {"value": "a@x", "type": "home"}]}),
            &[],
        );
    }

    /// Whatever was sent and is shown as it was sent has not drifted.
    #[test]
    fn what_is_shown_as_it_was_sent_has_not_drifted() {
        let sent = json!({
            "userName": "ada", "nickName": "A", "active": false, "locale": "en",
            "name": {"givenName": "Ada"}, "phoneNumbers": [{"value": "1", "type": "work"}, {"value": "2"}],
            "roles": [{"value": "x", "primary": false}], ENTERPRISE: {"employeeNumber": "7"},
        });
        check(sent.clone(), sent, &[]);
    }

    #[test]
    fn inactive_is_what_says_so() {
        let shown = |value: Value| is_inactive(value.as_object().unwrap());
        assert!(shown(json!({"active": false})) && shown(json!({"Active": "False"})));
        assert!(!shown(json!({"active": true})) && !shown(json!({})));
    }
}
