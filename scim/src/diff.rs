//! The difference between two documents, as an event keeps it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Object, is_urn};

/// One attribute's value before and after. Single complex attributes are compared part by part, arrays as a whole.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Change {
    /// `userName`, `name.givenName`, `urn:…:User:department`, `externalId`.
    pub path: String,
    /// Nothing when there was no value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// Nothing when there is no value any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
}

/// What differs, in the order of the names.
pub fn diff(before: &Object, after: &Object) -> Vec<Change> {
    let mut changes = Vec::new();
    for name in names(before, after) {
        let (old, new) = (before.get(name), after.get(name));
        if old == new {
            continue;
        }
        let separator = if is_urn(name) { ":" } else { "." };
        parts(name, separator, old, new, &mut changes);
    }
    changes
}

fn parts(path: &str, separator: &str, old: Option<&Value>, new: Option<&Value>, changes: &mut Vec<Change>) {
    let empty = Object::new();
    let (old_members, new_members) = match (old, new) {
        (Some(Value::Object(old)), Some(Value::Object(new))) => (old, new),
        (Some(Value::Object(old)), None) => (old, &empty),
        (None, Some(Value::Object(new))) => (&empty, new),
        (Some(_) | None, Some(_) | None) => {
            changes.push(Change { path: path.to_string(), before: old.cloned(), after: new.cloned() });
            return;
        }
    };
    for name in names(old_members, new_members) {
        let (old, new) = (old_members.get(name), new_members.get(name));
        if old != new {
            parts(&format!("{path}{separator}{name}"), ".", old, new, changes);
        }
    }
}

fn names<'a>(before: &'a Object, after: &'a Object) -> BTreeSet<&'a String> {
    before.keys().chain(after.keys()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_changed_part_is_named() {
        let before = json!({"a": 1, "name": {"x": 1, "y": 2}, "list": [1], "urn:x:User": {"d": "1", "m": {"value": "1"}}});
        let after = json!({"a": 1, "name": {"x": 1, "y": 3}, "list": [1, 2], "urn:x:User": {"m": {"value": "2"}}, "new": true});
        let changes = diff(before.as_object().unwrap(), after.as_object().unwrap());
        let paths: Vec<&str> = changes.iter().map(|change| change.path.as_str()).collect();
        assert_eq!(paths, ["list", "name.y", "new", "urn:x:User:d", "urn:x:User:m.value"]);
        assert_eq!(changes[2].before, None);
        assert_eq!(changes[3].after, None);
        let extended = json!({"URN:x:User": {"d": "1"}});
        let changes = diff(&Object::new(), extended.as_object().unwrap());
        assert_eq!(changes[0].path, "URN:x:User:d");
    }
}
