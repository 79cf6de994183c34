//! A reader of RFC 7643 and RFC 7644 who says of a resource's JSON whether it satisfies a filter, and knows nothing of how
//! others find that out.

use scim::Object;
use serde_json::Value;

use super::history::ENTERPRISE;

pub(crate) const PAINT: &str = "urn:example:scim:Paint";
/// How values of an attribute compare: RFC 7643 §2.3.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Sort {
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
    Compared(&'static str, &'static str, Sort, &'static str, Option<String>),
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
            Self::Compared(owner, path, sort, op, Some(constant)) => {
                let values = if has(owner) { found(json, path) } else { Vec::new() };
                let op_holds = |op: &str| values.iter().any(|value| compares(*sort, op, value, constant));
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

fn compares(sort: Sort, op: &str, value: &Value, constant: &str) -> bool {
    // RFC 7643 §2.4: of a complex attribute the value is meant.
    let value = value.as_object().map_or(Some(value), |members| members.get("value"));
    let Some(value) = value else { return false };
    let wanted: Value = serde_json::from_str(constant).unwrap();
    let place = |all: &[&[&str]], text: &str| all.iter().position(|same| same.contains(&text)).unwrap();
    let order = match sort {
        Sort::Whole => return false,
        Sort::Text | Sort::Exact => {
            let small = |text: &str| match sort {
                Sort::Text => text.to_lowercase().replace('\u{212A}', "k"),
                _ => text.to_string(),
            };
            let (Some(left), Some(right)) = (value.as_str().map(small), wanted.as_str().map(small)) else {
                return false;
            };
            match op {
                "co" => return left.contains(&right),
                "sw" => return left.starts_with(&right),
                "ew" => return left.ends_with(&right),
                _ => left.cmp(&right),
            }
        }
        Sort::Truth => value.as_bool().unwrap().cmp(&wanted.as_bool().unwrap()),
        Sort::Number => {
            let same = |number: &Value| {
                let is_it = |text: &str| serde_json::from_str::<Value>(text).unwrap() == *number;
                NUMBERS.iter().position(|same| same.iter().any(|text| is_it(text))).unwrap()
            };
            same(value).cmp(&same(&wanted))
        }
        Sort::Instant => {
            // Times of the service are texts of one form, after all that is in the list save for the last.
            let known = |text: &str| INSTANTS.iter().any(|same| same.contains(&text));
            let rank = |text: &str| if known(text) { place(&INSTANTS, text) * 2 } else { 5 };
            rank(value.as_str().unwrap()).cmp(&rank(wanted.as_str().unwrap()))
        }
    };
    match op {
        "eq" => order.is_eq(),
        "gt" => order.is_gt(),
        "ge" => order.is_ge(),
        "lt" => order.is_lt(),
        "le" => order.is_le(),
        _ => unreachable!("{op}"),
    }
}
