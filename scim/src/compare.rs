//! How two values compare, by type: RFC 7644 §3.4.2.2.

use std::cmp::Ordering;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde_json::Value;

use crate::filter::Rule;
use crate::{Op, Type, fold};

/// Whether `actual op wanted` holds. Values of another type than the rule's never compare.
pub(crate) fn holds(rule: Rule, op: Op, actual: &Value, wanted: &Value) -> bool {
    match rule.kind {
        Type::Boolean => match (actual.as_bool(), wanted.as_bool()) {
            (Some(actual), Some(wanted)) => ordered(op, actual.cmp(&wanted)),
            (None, _) | (_, None) => false,
        },
        Type::Decimal | Type::Integer => match (actual.as_f64(), wanted.as_f64()) {
            (Some(actual), Some(wanted)) => ordered(op, actual.total_cmp(&wanted)),
            (None, _) | (_, None) => false,
        },
        Type::DateTime => match (actual.as_str().and_then(instant), wanted.as_str().and_then(instant)) {
            (Some(actual), Some(wanted)) => ordered(op, actual.cmp(&wanted)),
            (None, _) | (_, None) => false,
        },
        Type::String | Type::Binary | Type::Reference | Type::Complex => {
            match (actual.as_str(), wanted.as_str()) {
                (Some(actual), Some(wanted)) if rule.kind == Type::Reference && op == Op::Eq => {
                    same_reference(actual, wanted)
                }
                (Some(actual), Some(wanted)) if rule.case_exact => text(op, actual, wanted),
                (Some(actual), Some(wanted)) => text(op, &fold(actual), &fold(wanted)),
                (None, _) | (_, None) => false,
            }
        }
    }
}

fn text(op: Op, actual: &str, wanted: &str) -> bool {
    match op {
        Op::Co => actual.contains(wanted),
        Op::Sw => actual.starts_with(wanted),
        Op::Ew => actual.ends_with(wanted),
        Op::Eq | Op::Ne | Op::Gt | Op::Ge | Op::Lt | Op::Le => ordered(op, actual.cmp(wanted)),
    }
}

fn ordered(op: Op, ordering: Ordering) -> bool {
    match op {
        Op::Eq => ordering.is_eq(),
        Op::Ne => ordering.is_ne(),
        Op::Gt => ordering.is_gt(),
        Op::Ge => ordering.is_ge(),
        Op::Lt => ordering.is_lt(),
        Op::Le => ordering.is_le(),
        Op::Co | Op::Sw | Op::Ew => false,
    }
}

/// A relative reference is the tail of the absolute one. URNs compare without regard to case.
fn same_reference(actual: &str, wanted: &str) -> bool {
    let tail = |long: &str, short: &str| {
        !short.is_empty()
            && long.strip_suffix(short.trim_start_matches('/')).is_some_and(|start| start.ends_with('/'))
    };
    actual == wanted
        || (actual.starts_with("urn:") && actual.eq_ignore_ascii_case(wanted))
        || tail(actual, wanted)
        || tail(wanted, actual)
}

/// An xsd:dateTime; one without an offset is taken as UTC.
pub fn instant(text: &str) -> Option<Timestamp> {
    text.parse::<Timestamp>().ok().or_else(|| {
        text.contains('T').then_some(())?;
        let civil: DateTime = text.parse().ok()?;
        TimeZone::UTC.to_timestamp(civil).ok()
    })
}
