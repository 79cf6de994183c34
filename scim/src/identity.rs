//! Which values of a multi-valued attribute are the same.

use std::collections::BTreeSet;

use serde_json::Value;

/// What makes two values of one attribute the same: `value` and `type` (RFC 7643 §2.4), else everything.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Identity<'a> {
    Text(&'a str, Option<&'a str>),
    Whole(String),
}

impl<'a> Identity<'a> {
    pub(crate) fn of(value: &'a Value) -> Self {
        let (main, kind) = (value.get("value"), value.get("type"));
        match (main, kind.map(Value::as_str)) {
            (Some(Value::String(main)), None) => Self::Text(main, None),
            (Some(Value::String(main)), Some(Some(kind))) => Self::Text(main, Some(kind)),
            (Some(main), _) => Self::Whole(format!("{main}\0{}", kind.unwrap_or(&Value::Null))),
            (None, _) => Self::Whole(value.to_string()),
        }
    }
}

/// Of values that are the same the first is kept.
pub(crate) fn each_once(values: &mut Vec<Value>) {
    if values.len() < 2 {
        return;
    }
    let mut seen = BTreeSet::new();
    let first: Vec<bool> = values.iter().map(|value| seen.insert(Identity::of(value))).collect();
    if first.contains(&false) {
        let mut first = first.into_iter();
        values.retain(|_| first.next().unwrap_or(true));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn value_and_type_make_a_value() {
        let mut values = vec![
            json!({"value": "a", "type": "work"}),
            json!({"value": "a", "type": "home"}),
            json!({"value": "a", "type": "work", "display": "again"}),
            json!({"value": "a"}),
            json!({"value": true}),
            json!({"value": "true"}),
            json!({"value": true, "primary": true}),
            json!("a"),
            json!("a"),
            json!({"street": "x"}),
            json!({"street": "x"}),
        ];
        each_once(&mut values);
        assert_eq!(values.len(), 7);
    }
}
