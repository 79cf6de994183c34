//! A reader of RFC 7643 and RFC 7644 who says of a resource's JSON whether it satisfies a filter, and knows nothing of how
//! others find that out.

use std::cmp::Ordering;

use scim::Object;
use serde_json::Value;

use super::history::ENTERPRISE;

pub(crate) const PAINT: &str = "urn:example:scim:Paint";
/// How values of an attribute compare: RFC 7643 §2.3.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum As {
    Text,
    Exact,
    Number,
    Truth,
    Instant,
    /// Nothing but presence is asked for.
    Whole,
}

/// The same instants in several hands, in order.
pub(crate) const INSTANTS: [&[&str]; 4] = [
    &["2026-01-01T01:59:59.999+02:00", "2025-12-31T23:59:59.999Z"],
    &["2026-01-01T00:00:00Z", "2026-01-01T00:00:00.000Z", "2025-12-31T19:30:00-04:30", "2026-01-01T00:00:00"],
    &["2026-01-01T00:00:00.0005Z", "2026-01-01T14:00:00.0005+14:00"],
    &["9999-12-30T22:00:00Z"],
];
/// Numbers in several hands, in order.
pub(crate) const NUMBERS: [&[&str]; 10] = [
    &["-9007199254740993"],
    &["-9007199254740992", "-9007199254740992.0"],
    &["-1.5"],
    &["0", "-0.0", "0.0"],
    &["0.25"],
    &["2", "2.0", "2e0"],
    &["9007199254740992", "9007199254740992.0"],
    &["9007199254740993"],
    &["18446744073709551614"],
    &["18446744073709551615"],
];

/// A filter as a reader of RFC 7644 §3.4.2.2 knows it.
#[derive(Debug)]
pub(crate) enum Asked {
    And(Vec<Asked>),
    Or(Vec<Asked>),
    Not(Box<Asked>),
    Present(&'static str, &'static str),
    /// `null` when there is no constant.
    Compared(&'static str, &'static str, As, &'static str, Option<String>),
    /// Of a multi-valued attribute of a type: inside the brackets there are its parts.
    Within(&'static str, &'static str, Box<Asked>),
}

impl Asked {
    /// Whether a resource, as its JSON is shown, satisfies the filter.
    pub(crate) fn holds(&self, kind: &str, json: &Object) -> bool {
        let has = |owner: &str| owner.is_empty() || owner == kind;
        match self {
            Self::And(all) => all.iter().all(|one| one.holds(kind, json)),
            Self::Or(all) => all.iter().any(|one| one.holds(kind, json)),
            Self::Not(one) => !one.holds(kind, json),
            Self::Present(owner, path) => has(owner) && is_there(&found(json, path)),
            Self::Compared(owner, path, _, op, None) => {
                (has(owner) && is_there(&found(json, path))) == (*op == "ne")
            }
            Self::Compared(owner, path, how, op, Some(constant)) => {
                let values = if has(owner) { found(json, path) } else { Vec::new() };
                let op_holds = |op: &str| values.iter().any(|value| compares(*how, op, value, constant));
                if *op == "ne" { !op_holds("eq") } else { op_holds(op) }
            }
            Self::Within(owner, path, inner) => {
                has(owner)
                    && found(json, path)
                        .into_iter()
                        .any(|value| value.as_object().is_some_and(|value| inner.holds(kind, value)))
            }
        }
    }
}

/// All values at a path.
fn found<'a>(json: &'a Object, path: &str) -> Vec<&'a Value> {
    let (urn, names) = match [ENTERPRISE, PAINT].into_iter().find(|urn| path.starts_with(urn)) {
        Some(urn) => (Some(urn), path[urn.len()..].trim_start_matches(':')),
        None => (None, path),
    };
    let mut values: Vec<&Value> = Vec::new();
    let names: Vec<&str> = urn.into_iter().chain(names.split('.').filter(|name| !name.is_empty())).collect();
    let (first, others) = names.split_first().unwrap();
    values.extend(json.get(*first));
    let flat = |values: Vec<&'a Value>| -> Vec<&'a Value> {
        values
            .into_iter()
            .flat_map(|value| value.as_array().map_or(vec![value], |all| all.iter().collect()))
            .collect()
    };
    values = flat(values);
    for name in others {
        values = flat(values.into_iter().filter_map(|value| value.get(name)).collect());
    }
    values
}

fn is_there(values: &[&Value]) -> bool {
    values.iter().any(|value| match value {
        Value::Object(members) => is_there(&members.values().collect::<Vec<_>>()),
        Value::Array(values) => is_there(&values.iter().collect::<Vec<_>>()),
        Value::String(text) => !text.is_empty(),
        other => !other.is_null(),
    })
}

fn compares(how: As, op: &str, value: &Value, constant: &str) -> bool {
    let wanted: Value = serde_json::from_str(constant).unwrap();
    let Some(value) = simple(value) else { return false };
    if let ("co" | "sw" | "ew", Some(left), Some(right)) = (op, text(how, value), text(how, &wanted)) {
        return match op {
            "co" => left.contains(&right),
            "sw" => left.starts_with(&right),
            _ => left.ends_with(&right),
        };
    }
    let order = order(how, value, &wanted);
    match op {
        "eq" => order.is_eq(),
        "gt" => order.is_gt(),
        "ge" => order.is_ge(),
        "lt" => order.is_lt(),
        "le" => order.is_le(),
        _ => unreachable!("{op}"),
    }
}

/// RFC 7643 §2.4: of a complex attribute the value is meant.
fn simple(value: &Value) -> Option<&Value> {
    value.as_object().map_or(Some(value), |members| members.get("value"))
}

fn text(how: As, value: &Value) -> Option<String> {
    let text = value.as_str()?;
    Some(if how == As::Text { text.to_lowercase().replace('\u{212A}', "k") } else { text.to_string() })
}

fn order(how: As, left: &Value, right: &Value) -> Ordering {
    match how {
        As::Text | As::Exact | As::Whole => text(how, left).cmp(&text(how, right)),
        As::Truth => left.as_bool().cmp(&right.as_bool()),
        As::Number => {
            let place = |number: &Value| {
                let is_it = |text: &&str| serde_json::from_str::<Value>(text).unwrap() == *number;
                NUMBERS.iter().position(|same| same.iter().any(is_it)).unwrap()
            };
            place(left).cmp(&place(right))
        }
        As::Instant => {
            // Times of the service are after all that is in the list, save for the last.
            let place = |value: &Value| {
                let text = value.as_str().unwrap();
                INSTANTS.iter().position(|same| same.contains(&text)).map_or(5, |place| place * 2)
            };
            place(left).cmp(&place(right))
        }
    }
}

/// What a resource is sorted by (RFC 7644 §3.4.2.3): of many values the primary one, or else the first.
pub(crate) fn sorted_by<'a>(json: &'a Object, path: &str) -> Option<&'a Value> {
    let (whole, part) = match path.rsplit_once('.').filter(|_| !path.starts_with("urn:")) {
        Some((whole, part)) => (whole, Some(part)),
        None => (path, None),
    };
    let values = found(json, whole);
    let is_primary = |value: &&&Value| value.get("primary") == Some(&Value::Bool(true));
    let value = values.iter().find(is_primary).or(values.first())?;
    part.map_or_else(|| simple(value), |part| value.get(part))
}

/// The order of two resources by these values: whoever has none comes last.
pub(crate) fn sorted(how: As, left: Option<&Value>, right: Option<&Value>) -> Ordering {
    match (left, right) {
        (Some(left), Some(right)) => order(how, left, right),
        (left, right) => right.is_some().cmp(&left.is_some()),
    }
}
