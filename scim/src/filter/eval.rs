//! Whether a resource satisfies a filter.

use serde_json::Value;

use super::{Filter, Op, Rule};
use crate::{AttrPath, Object, compare};

pub(super) fn matches(filter: &Filter, resource: &Object) -> bool {
    match filter {
        Filter::And(filters) => filters.iter().all(|filter| matches(filter, resource)),
        Filter::Or(filters) => filters.iter().any(|filter| matches(filter, resource)),
        Filter::Not(filter) => !matches(filter, resource),
        Filter::Present(path) => present(resource, path),
        Filter::Values { path, filter } => values(resource, path)
            .into_iter()
            .any(|value| value.as_object().is_some_and(|value| matches(filter, value))),
        Filter::Compare { path, op, value, rule } => compared(resource, path, *op, value, *rule),
    }
}

fn compared(resource: &Object, path: &AttrPath, op: Op, wanted: &Value, rule: Option<Rule>) -> bool {
    let Some(rule) = rule else {
        // An attribute that the type does not have has no value (RFC 7644 §3.4.2.1): nothing equals it.
        return match op {
            Op::Ne => !wanted.is_null(),
            Op::Eq => wanted.is_null(),
            Op::Co | Op::Sw | Op::Ew | Op::Gt | Op::Ge | Op::Lt | Op::Le => false,
        };
    };
    if wanted.is_null() {
        return present(resource, path) == (op == Op::Ne);
    }
    let any =
        |op| values(resource, path).into_iter().any(|value| compare::holds(rule, op, simple(value), wanted));
    // RFC 7644 leaves `ne` on many values open: it holds when no value is equal.
    if op == Op::Ne { !any(Op::Eq) } else { any(op) }
}

/// A complex value compares by its `value`.
fn simple(value: &Value) -> &Value {
    value.as_object().and_then(|members| members.get("value")).unwrap_or(value)
}

fn present(resource: &Object, path: &AttrPath) -> bool {
    values(resource, path).into_iter().any(is_present)
}

fn is_present(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(values) => values.iter().any(is_present),
        Value::Object(members) => members.values().any(is_present),
        Value::Bool(_) | Value::Number(_) => true,
    }
}

/// Every value that a path names.
pub(crate) fn values<'a>(resource: &'a Object, path: &AttrPath) -> Vec<&'a Value> {
    let root = match &path.schema {
        None => Some(resource),
        Some(urn) => resource.get(urn).and_then(Value::as_object),
    };
    let Some(root) = root else { return Vec::new() };
    let Some(name) = &path.name else { return root.values().collect() };
    let found: Vec<&Value> = match root.get(name) {
        None => Vec::new(),
        Some(Value::Array(values)) => values.iter().collect(),
        Some(value) => vec![value],
    };
    match &path.sub {
        None => found,
        Some(sub) => found
            .into_iter()
            .filter_map(|value| value.as_object()?.get(sub))
            .flat_map(|value| match value {
                Value::Array(values) => values.iter().collect(),
                other => vec![other],
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dialect, FilterLimits, Registry, ScimType};
    use serde_json::json;

    fn parse(text: &str) -> Result<Filter, crate::Error> {
        let registry = Registry::built_in().unwrap();
        let user = registry.by_name("User").unwrap();
        Filter::parse(text, &FilterLimits::default(), Dialect::Rfc, &registry, user)
    }

    fn user() -> Object {
        json!({
            "id": "2819c223", "userName": "BJensen", "active": true, "title": "",
            "name": {"familyName": "O'Malley", "givenName": "Barbara"},
            "emails": [{"type": "work", "value": "b@example.test", "primary": true}, {"type": "home", "value": "b@home.test"}],
            "meta": {"resourceType": "User", "lastModified": "2026-05-13T04:42:34Z"},
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
            "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User": {"employeeNumber": "17", "manager": {"value": "42"}},
        })
        .as_object()
        .unwrap()
        .clone()
    }

    #[track_caller]
    fn check(text: &str, expected: bool) {
        let filter = parse(text).unwrap();
        assert_eq!(filter.matches(&user()), expected, "{text}");
        let printed = filter.to_string();
        assert_eq!(parse(&printed).unwrap(), filter, "{printed}");
    }

    #[track_caller]
    fn refused(text: &str) {
        assert_eq!(parse(text).unwrap_err().scim_type, Some(ScimType::InvalidFilter), "{text}");
    }

    #[test]
    fn case_follows_the_schema() {
        check(r#"userName eq "bjensen""#, true);
        check(r#"USERNAME EQ "BJENSEN""#, true);
        check(r#"id eq "2819C223""#, false);
        check(r#"urn:ietf:params:scim:schemas:core:2.0:User:userName sw "bj""#, true);
    }

    #[test]
    fn the_operators() {
        check(r#"name.familyName co "O'Mal""#, true);
        check(r#"userName ew "sen""#, true);
        check(r#"userName gt "alpha""#, true);
        check(r#"userName le "alpha""#, false);
        check(r#"meta.lastModified ge "2026-05-13T06:42:34+02:00""#, true);
        check(r#"meta.lastModified gt "2026-05-13T04:42:34Z""#, false);
        check("active eq true", true);
        check("active ne true", false);
        check("title pr", false);
        check("name pr", true);
        check("nickName pr", false);
        check("nickName eq null", true);
        check("userName ne null", true);
    }

    #[test]
    fn many_values() {
        check(r#"emails co "home""#, true);
        check(r#"emails.type eq "work" and emails.value co "home""#, true);
        check(r#"emails[type eq "work" and value co "home"]"#, false);
        check(r#"emails[type eq "work"].value eq "b@example.test""#, true);
        check(r#"emails ne "b@home.test""#, false);
        check(r#"emails[not (type eq "work")]"#, true);
        check(r#"schemas eq "urn:ietf:params:scim:schemas:core:2.0:User""#, true);
    }

    #[test]
    fn extensions() {
        check(r#"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:employeeNumber eq "17""#, true);
        check(r#"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:manager eq "42""#, true);
        check("urn:ietf:params:scim:schemas:extension:enterprise:2.0:User pr", true);
        check("urn:ietf:params:scim:schemas:core:2.0:USER pr", true);
        check("urn:ietf:params:scim:schemas:core:2.0:Group pr", false);
    }

    #[test]
    fn precedence_is_not_then_and_then_or() {
        check(r#"userName eq "x" and active eq true or active eq true"#, true);
        check(r#"userName eq "x" and (active eq true or active eq true)"#, false);
        check(r#"not(userName eq "x") and active eq true"#, true);
    }

    #[test]
    fn unknown_attributes_have_no_value() {
        check(r#"shoeSize eq "9""#, false);
        check(r#"not (shoeSize eq "9")"#, true);
        check("shoeSize pr", false);
        check(r#"shoes[type eq "work" and size gt 9]"#, false);
        check(r#"not (shoes[type eq "work"])"#, true);
        check(r#"shoes[type eq "work"].size eq 9 or active eq true"#, true);
    }

    /// A filter that holds or not tells what no answer shows.
    #[test]
    fn what_is_never_returned_is_not_asked_for_part_by_part() {
        let schema = json!({"id": "urn:example:scim:Safe", "name": "Safe", "attributes": [
            {"name": "lock", "type": "complex", "returned": "never", "subAttributes": [{"name": "value", "type": "string"}]},
            {"name": "keys", "type": "complex", "multiValued": true, "returned": "never",
             "subAttributes": [{"name": "value", "type": "string"}]},
            {"name": "door", "type": "complex", "subAttributes": [
                {"name": "value", "type": "string"}, {"name": "code", "type": "string", "returned": "never"}]},
        ]});
        let kind =
            json!({"id": "Safe", "name": "Safe", "endpoint": "/Safes", "schema": "urn:example:scim:Safe"});
        let mut registry = Registry::built_in().unwrap();
        registry.add_schema(serde_json::from_value(schema).unwrap()).unwrap();
        registry.add_resource_type(serde_json::from_value(kind).unwrap()).unwrap();
        let kind = registry.by_name("Safe").unwrap();
        let parse = |text| Filter::parse(text, &FilterLimits::default(), Dialect::Rfc, &registry, kind);
        for text in [
            "lock pr",
            r#"lock eq "7""#,
            r#"lock.value sw "7""#,
            "urn:example:scim:Safe:lock.value pr",
            r#"keys[value sw "7"]"#,
            r#"keys[value pr].value sw "7""#,
            r#"door.code sw "7""#,
            r#"door[code sw "7"]"#,
        ] {
            let refused = parse(text).map_err(|error| error.scim_type);
            assert_eq!(refused, Err(Some(ScimType::InvalidFilter)), "{text}");
        }
        assert!(parse(r#"door.value eq "7" and door[value pr]"#).is_ok());
    }

    #[test]
    fn text_without_quotes_is_for_those_whose_client_nobody_knows() {
        let registry = Registry::built_in().unwrap();
        let kind = registry.by_name("User").unwrap();
        let parse =
            |text: &str, dialect| Filter::parse(text, &FilterLimits::default(), dialect, &registry, kind);
        for (text, same) in [
            ("userName eq bjensen", r#"userName eq "bjensen""#),
            ("(userName eq b@x.test and active eq True)", r#"userName eq "b@x.test" and active eq true"#),
            ("emails[type eq work].value co example", r#"emails[type eq "work"].value co "example""#),
            (
                "meta.created gt 2015-10-10T14:38:21.86-07:00",
                r#"meta.created gt "2015-10-10T14:38:21.86-07:00""#,
            ),
        ] {
            assert_eq!(parse(text, Dialect::Lenient).unwrap(), parse(same, Dialect::Rfc).unwrap(), "{text}");
            for strict in [Dialect::Rfc, Dialect::Okta, Dialect::Entra] {
                let refused = parse(text, strict).map_err(|error| error.scim_type);
                assert_eq!(refused, Err(Some(ScimType::InvalidFilter)), "{text}");
            }
        }
        for mistake in [
            "userName eq",
            "userName eq 'bjensen'",
            "userName eq bjensen b",
            "userName eq \"b",
            "userName eq (b)",
        ] {
            assert!(parse(mistake, Dialect::Lenient).is_err(), "{mistake}");
        }
    }

    #[test]
    fn mistakes_are_refused() {
        for text in [
            "",
            "userName",
            "userName eq",
            "userName eq bjensen",
            "userName xx \"a\"",
            "(userName pr",
            "userName pr)",
            "active gt true",
            "active eq \"yes\"",
            "password eq \"x\"",
            "emails[type eq \"work\"",
            "userName[value pr]",
            "emails[type[value pr]]",
            "shoes[type[value pr]]",
            "shoes[]",
            "shoes[type eq \"work\"",
            "shoes[type.a eq \"work\"]",
            "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User[manager pr]",
            "meta.lastModified gt \"soon\"",
            "userName co 5",
            "x509Certificates.value gt \"a\"",
            "userName gt null",
            "name eq \"x\"",
            "userName eq \"a\" and",
            "not userName pr",
        ] {
            refused(text);
        }
        refused(&format!("userName eq \"{}\"", "x".repeat(9000)));
        refused(&format!("{}userName pr{}", "(".repeat(50), ")".repeat(50)));
        refused(&vec!["userName pr"; 300].join(" or "));
    }
}
