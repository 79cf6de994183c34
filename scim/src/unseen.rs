//! What a PUT cannot mean to clear in what it names: parts that its client was not shown.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::identity::Identity;
use crate::{Attribute, Object, Returned};

/// What a body says of an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// It does not name it.
    Nothing,
    /// It names it, whether or not with a value.
    Something,
}

/// An attribute's new value, with the parts of the old one that no answer shows unless they are asked for. `is_named` says of which
/// parts the body speaks: whoever does was shown them, and means what he says. A value of which nothing was shown stays, unless
/// the attribute is cleared.
pub fn keep_unseen(
    attribute: &Attribute,
    is_named: impl Fn(&Attribute) -> bool,
    said: Said,
    old: &Value,
    new: Option<Value>,
) -> Option<Value> {
    let hides = |sub: &&Attribute| matches!(sub.returned, Returned::Never | Returned::Request);
    let hidden: Vec<&str> = attribute
        .sub_attributes
        .iter()
        .filter(hides)
        .filter(|sub| !is_named(sub))
        .map(|sub| sub.name.as_str())
        .collect();
    if hidden.is_empty() || new.is_none() && said == Said::Something {
        return new;
    }
    let olds = old.as_array().map_or(std::slice::from_ref(old), Vec::as_slice);
    let olds: Vec<(Object, Object)> = olds
        .iter()
        .filter_map(Value::as_object)
        .map(|old| old.clone().into_iter().partition(|(name, _)| hidden.contains(&name.as_str())))
        .collect();
    let unshown =
        olds.iter().filter(|(_, shown)| shown.is_empty()).map(|(unseen, _)| Value::from(unseen.clone()));
    if !attribute.multi_valued {
        return match (new, olds.first()) {
            (Some(Value::Object(mut new)), Some((unseen, _))) => {
                add(&mut new, unseen);
                Some(new.into())
            }
            (None, _) => unshown.into_iter().next(),
            (new, _) => new,
        };
    }
    let mut values = match new {
        Some(Value::Array(values)) => values,
        Some(other) => vec![other],
        None => Vec::new(),
    };
    let shown: Vec<Value> = olds.iter().map(|(_, shown)| Value::from(shown.clone())).collect();
    let places: BTreeMap<Identity<'_>, &Object> =
        shown.iter().zip(&olds).map(|(shown, (unseen, _))| (Identity::of(shown), unseen)).collect();
    for value in &mut values {
        let unseen = places.get(&Identity::of(value)).copied();
        if let (Some(unseen), Some(value)) = (unseen, value.as_object_mut()) {
            add(value, unseen);
        }
    }
    values.extend(unshown);
    (!values.is_empty()).then_some(Value::Array(values))
}

fn add(value: &mut Object, unseen: &Object) {
    for (name, part) in unseen {
        value.entry(name.clone()).or_insert_with(|| part.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn attribute(many: bool) -> Attribute {
        let attribute = json!({"name": "lock", "type": "complex", "multiValued": many, "subAttributes": [
            {"name": "value", "type": "string"}, {"name": "type", "type": "string"},
            {"name": "note", "type": "string", "returned": "request"}, {"name": "code", "type": "string", "returned": "never"}]});
        serde_json::from_value(attribute).unwrap()
    }

    #[track_caller]
    fn check(named: &[&str], said: Said, old: Value, new: Value, expected: Value) {
        let some = |value: Value| Some(value).filter(|value| !value.is_null());
        let is_named = |sub: &Attribute| named.contains(&sub.name.as_str());
        let found = keep_unseen(&attribute(old.is_array()), is_named, said, &old, some(new.clone()));
        assert_eq!(found, some(expected), "{new}");
    }

    #[test]
    fn parts_of_one_value() {
        let old = json!({"value": "v", "note": "n", "code": "c"});
        let unseen = json!({"note": "n", "code": "c"});
        let put = |named: &[&str], new, expected| check(named, Said::Something, old.clone(), new, expected);
        put(&[], json!({"value": "w"}), json!({"value": "w", "note": "n", "code": "c"}));
        put(&["note"], json!({"value": "w"}), json!({"value": "w", "code": "c"}));
        put(&["code"], json!({"value": "w", "code": "d"}), json!({"value": "w", "note": "n", "code": "d"}));
        put(&[], Value::Null, Value::Null);
        // It was shown and is left out.
        check(&[], Said::Nothing, old.clone(), Value::Null, Value::Null);
        // Nothing of it was shown.
        check(&[], Said::Nothing, unseen.clone(), Value::Null, unseen.clone());
        check(&[], Said::Something, unseen, Value::Null, Value::Null);
    }

    #[test]
    fn parts_of_many_values() {
        let old = json!([
            {"value": "a", "type": "x", "note": "1"}, {"value": "a", "type": "y", "note": "2"}, {"type": "z", "code": "3"}, {"code": "4"},
        ]);
        let put = |named: &[&str], said, new, expected| check(named, said, old.clone(), new, expected);
        put(
            &[],
            Said::Something,
            json!([{"value": "a", "type": "y"}, {"value": "b"}, {"type": "z"}]),
            json!([{"value": "a", "type": "y", "note": "2"}, {"value": "b"}, {"type": "z", "code": "3"}, {"code": "4"}]),
        );
        put(
            &["note"],
            Said::Something,
            json!([{"value": "a", "type": "x"}]),
            json!([{"value": "a", "type": "x"}, {"code": "4"}]),
        );
        put(&[], Said::Something, Value::Null, Value::Null);
        put(&[], Said::Nothing, Value::Null, json!([{"code": "4"}]));
    }
}
