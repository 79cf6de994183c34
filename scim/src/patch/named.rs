//! Which values a `remove` with a value names: RFC 7644 knows no such thing, but Entra and others send it, and removing all
//! of them is the alternative.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::validate::{Context, entries_of};
use crate::{Attribute, Error, Object, Type, compare, fold, members};

/// Takes out what is named, and nothing else. A name with a `value` names what has it, and the `type` where it gives one:
/// that is what makes a value the one it is (RFC 7643 §2.4), and `add` looks at nothing else either. Whoever calls a role by
/// its new `display` takes it away. A name without a `value` names what has every part that it gives. A name that names
/// nothing is `invalidValue`.
pub(super) fn remove(
    context: Context<'_>,
    attribute: &Attribute,
    named: &Value,
    values: &mut Vec<Value>,
) -> Result<(), Error> {
    let mut names = Vec::new();
    for entry in entries_of(context, attribute, named.clone())? {
        let nobody =
            || Error::value(format!("{} holds a value that names nothing to remove", attribute.name));
        names.push(entry.ok_or_else(nobody)?);
    }
    if members::are(attribute) {
        let ids: BTreeSet<String> = names.iter().filter_map(members::id).collect();
        values.retain(|value| !members::id(value).is_some_and(|id| ids.contains(&id)));
        return Ok(());
    }
    // By the parts that tell: what they are. So many names are looked for in many values at once.
    let mut wanted: BTreeMap<Vec<&str>, BTreeSet<Vec<String>>> = BTreeMap::new();
    for name in &names {
        let (parts, are) = match name {
            Value::Object(members) => members
                .iter()
                .filter(|(part, value)| tells(members, part, value))
                .map(|(part, value)| (part.as_str(), compared(sub(attribute, part), value)))
                .unzip(),
            simple => (Vec::new(), vec![compared(attribute, simple)]),
        };
        wanted.entry(parts).or_default().insert(are);
    }
    values.retain(|value| {
        !wanted.iter().any(|(parts, named)| {
            let are: Option<Vec<String>> = match value {
                Value::Object(members) => parts_of(attribute, members, parts),
                simple => Some(vec![compared(attribute, simple)]),
            };
            are.is_some_and(|are| named.contains(&are))
        })
    });
    Ok(())
}

fn parts_of(attribute: &Attribute, members: &Object, parts: &[&str]) -> Option<Vec<String>> {
    let is_named = parts.contains(&"value");
    let part = |part: &&str| match members.get(*part) {
        Some(value) => Some(compared(sub(attribute, part), value)),
        // Templates write `""` where there is no type.
        None => (is_named && *part == "type").then(String::new),
    };
    parts.iter().map(part).collect()
}

fn sub<'a>(attribute: &'a Attribute, part: &str) -> &'a Attribute {
    attribute.sub(part).unwrap_or(attribute)
}

/// Whether a part of a name tells which value is meant. Beside a `value` all but the type describe it; a value that is not
/// primary need not say so.
fn tells(name: &Object, part: &str, value: &Value) -> bool {
    if name.contains_key("value") {
        return matches!(part, "value" | "type");
    }
    part != "primary" || value != &Value::Bool(false)
}

/// A value so that those that are equal for a filter are the same text.
fn compared(attribute: &Attribute, value: &Value) -> String {
    match (attribute.kind, value) {
        (Type::DateTime, Value::String(text)) => {
            compare::instant(text).map_or_else(|| text.clone(), |instant| instant.to_string())
        }
        (Type::Decimal | Type::Integer, Value::Number(number)) => compare::number(number),
        (_, Value::String(text)) if attribute.case_exact => text.clone(),
        (_, Value::String(text)) => fold(text),
        (_, other) => other.to_string(),
    }
}
