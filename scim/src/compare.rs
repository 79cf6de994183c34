//! How two values compare, by type: RFC 7644 §3.4.2.2.

use std::cmp::Ordering;

use jiff::Timestamp;
use jiff::fmt::temporal::Pieces;
use jiff::tz::Offset;
use serde_json::{Number, Value};

use crate::filter::Rule;
use crate::{Op, Type, fold, is_urn};

/// Whether `actual op wanted` holds. Values of another type than the rule's never compare.
pub(crate) fn holds(rule: Rule, op: Op, actual: &Value, wanted: &Value) -> bool {
    match rule.kind {
        Type::Boolean => match (actual.as_bool(), wanted.as_bool()) {
            (Some(actual), Some(wanted)) => ordered(op, actual.cmp(&wanted)),
            (None, _) | (_, None) => false,
        },
        Type::Decimal | Type::Integer => match (actual, wanted) {
            (Value::Number(actual), Value::Number(wanted)) => {
                ordered(op, ordinal(actual).cmp(&ordinal(wanted)))
            }
            (_, _) => false,
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

/// RFC 7643 §2.3.7: a relative reference begins at the service's root, so it is an endpoint and an id, and the absolute
/// one that ends with both is the same. URNs compare without regard to case.
fn same_reference(actual: &str, wanted: &str) -> bool {
    let ends = |absolute: &str, end: &str| {
        absolute.strip_suffix(end).is_some_and(|start| start.ends_with('/')) && end.split('/').count() == 2
    };
    match (relative(actual), relative(wanted)) {
        (Some(actual), Some(wanted)) => actual == wanted,
        (Some(actual), None) => ends(wanted, actual),
        (None, Some(wanted)) => ends(actual, wanted),
        (None, None) => actual == wanted || is_urn(actual) && actual.eq_ignore_ascii_case(wanted),
    }
}

/// What a reference without a scheme names, below the root: RFC 7643 §8 writes `../Users/17` for `Users/17`.
fn relative(reference: &str) -> Option<&str> {
    let mut rest = reference;
    while let Some(inner) = rest.strip_prefix("../").or_else(|| rest.strip_prefix("./")) {
        rest = inner;
    }
    let scheme = rest.split(['/', '?', '#']).next().unwrap_or_default();
    (!scheme.contains(':')).then(|| rest.strip_prefix('/').unwrap_or(rest))
}

/// What numbers are compared by, exactly: the greatest double that is not greater, as bits that sort as doubles do, and what
/// is left of a whole number that no double can be.
pub(crate) fn ordinal(number: &Number) -> (u64, u16) {
    let whole = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
    let (double, left) = match whole {
        Some(whole) => {
            let near = whole as f64;
            let below = if near as i128 > whole { near.next_down() } else { near };
            (below, u16::try_from(whole - below as i128).unwrap_or_default())
        }
        // There is one zero.
        None => (number.as_f64().unwrap_or_default() + 0.0, 0),
    };
    let bits = double.to_bits();
    (if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }, left)
}

/// A number as a text that is equal for equal numbers and sorts as numbers do.
pub fn number(number: &Number) -> String {
    match ordinal(number) {
        (double, 0) => format!("{double:016x}"),
        (double, left) => format!("{double:016x}{left:04x}"),
    }
}

/// An xsd:dateTime; one without an offset is taken as UTC. What is later than a [`Timestamp`] can be, in the last hours of the
/// year 9999, is the last one: it says "never".
pub fn instant(text: &str) -> Option<Timestamp> {
    text.parse::<Timestamp>().ok().or_else(|| {
        text.contains('T').then_some(())?;
        let pieces = Pieces::parse(text).ok()?;
        let civil = pieces.date().to_datetime(pieces.time()?);
        let instant = pieces.to_numeric_offset().unwrap_or(Offset::UTC).to_timestamp(civil).ok();
        instant.or((civil.year() > 0).then_some(Timestamp::MAX))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_the_same_below_the_root_only() {
        let place = "https://example.test/scim/v2/Users/17";
        for (one, other, expected) in [
            (place, place, true),
            (place, "Users/17", true),
            (place, "/Users/17", true),
            (place, "../Users/17", true),
            ("/Users/17", "../Users/17", true),
            (place, "17", false),
            (place, "v2/Users/17", false),
            (place, "ers/17", false),
            (place, "Users/1", false),
            (place, "users/17", false),
            (place, "", false),
            ("https://example.test/logo.png", "logo.png", false),
            ("https://example.test/a:b/17", "a:b/17", false),
            ("urn:example:A", "URN:example:a", true),
            ("urn:example:A", "A", false),
            ("logo.png", "logo.png", true),
        ] {
            assert_eq!(same_reference(one, other), expected, "{one} {other}");
            assert_eq!(same_reference(other, one), expected, "{other} {one}");
        }
    }

    /// HR systems and directories write the last day there is, or its last moment, for "never".
    #[test]
    fn the_end_of_time_is_an_instant() {
        let at = |text: &str| instant(text).unwrap_or_else(|| panic!("{text} is an instant"));
        for never in [
            "9999-12-31T00:00:00Z",
            "9999-12-31T23:59:59Z",
            "9999-12-31T23:59:59.9999999Z",
            "9999-12-31T23:59:59",
            "9999-12-31T23:59:59-12:00",
        ] {
            assert_eq!(at(never), Timestamp::MAX, "{never}");
        }
        assert_eq!(at("9999-12-31T00:00:00+14:00"), at("9999-12-30T10:00:00Z"));
        assert!(at("0001-01-01T00:00:00+14:00") < at("0001-01-01T00:00:00.0000000Z"));
        for none in
            ["9999-12-31", "9999-12-32T00:00:00Z", "10000-01-01T00:00:00Z", "-009999-01-01T00:00:00Z", "soon"]
        {
            assert_eq!(instant(none), None, "{none}");
        }
    }

    /// Each is less than the next one.
    #[test]
    fn numbers_are_compared_exactly_and_their_texts_sort_as_they_do() {
        let steps = [
            "-1e300",
            "-9007199254740994",
            "-9007199254740993",
            "-9007199254740992.0",
            "-2.5",
            "0",
            "5e-324",
            "1",
            "1.5",
            "9007199254740992",
            "9007199254740993",
            "9007199254740994",
            "9223372036854775807",
            "9223372036854775808.0",
            "18446744073709551614",
            "18446744073709551615",
            "18446744073709551616",
            "1e300",
        ];
        let read = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        let key = |text: &str| number(read(text).as_number().unwrap());
        let rule = Rule { kind: Type::Decimal, case_exact: false };
        for (place, left) in steps.into_iter().enumerate() {
            for (other, right) in steps.into_iter().enumerate() {
                let wanted = place.cmp(&other);
                assert_eq!(key(left).cmp(&key(right)), wanted, "{left} {right}");
                assert_eq!(holds(rule, Op::Lt, &read(left), &read(right)), wanted.is_lt(), "{left} {right}");
                assert_eq!(holds(rule, Op::Eq, &read(left), &read(right)), wanted.is_eq(), "{left} {right}");
            }
        }
        for (one, same) in [
            ("0", "-0.0"),
            ("-0", "0.0"),
            ("5", "5.0"),
            ("1e2", "100"),
            ("9007199254740992", "9007199254740992.0"),
        ] {
            assert_eq!(key(one), key(same));
            assert!(holds(rule, Op::Eq, &read(one), &read(same)), "{one} {same}");
        }
    }
}
