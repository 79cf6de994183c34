//! The attributes of a resource as an app takes them, or what it would miss. Pure.

use std::fmt;

use scim::Object;
use serde_json::Value;

use super::Type;

/// Why a resource cannot be sent. Names attributes, never what they hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    without: Vec<String>,
    too_long: Vec<(String, usize)>,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if !self.without.is_empty() {
            parts.push(format!("it needs {}, which the resource does not have", self.without.join(", ")));
        }
        for (name, most) in &self.too_long {
            parts.push(format!("{name} has more than {most} characters"));
        }
        write!(f, "the app would refuse it: {}", parts.join("; "))
    }
}

impl Type {
    /// Whether `only` lets an attribute through.
    pub(super) fn takes(&self, path: &str) -> bool {
        let head = path.split('.').next().unwrap_or(path);
        // Of a path or the whole attribute, one is within the other.
        let within = |own: &String| own == path || own == head || own.split('.').next() == Some(path);
        self.only.is_empty() || self.only.iter().any(within)
    }

    pub(crate) fn shape(&self, mut attributes: Object) -> Result<Object, Missing> {
        if !self.external_id {
            attributes.remove("externalId");
        }
        if !self.only.is_empty() {
            self.keep_only(&mut attributes);
        }
        for path in &self.dropped {
            drop_path(&mut attributes, path);
        }
        for name in &self.single {
            if let Some(Value::Array(values)) = attributes.get_mut(name) {
                keep_one(values);
            }
        }
        for (name, value) in &self.defaults {
            if is_missing(attributes.get(name)) {
                attributes.insert(name.clone(), value.clone());
            }
        }
        for path in &self.lower_case {
            if let Some(Value::String(text)) = at_mut(&mut attributes, path) {
                *text = text.to_lowercase();
            }
        }
        tidy_schemas(&mut attributes);
        let without =
            self.required.iter().filter(|path| is_missing(at(&attributes, path))).cloned().collect();
        let long = |(path, most): (&String, &usize)| {
            let text = at(&attributes, path).and_then(Value::as_str).unwrap_or_default();
            (text.chars().count() > *most).then(|| (path.clone(), *most))
        };
        let missing = Missing { without, too_long: self.longest.iter().filter_map(long).collect() };
        if missing.without.is_empty() && missing.too_long.is_empty() { Ok(attributes) } else { Err(missing) }
    }

    fn keep_only(&self, attributes: &mut Object) {
        attributes.retain(|name, _| matches!(name.as_str(), "schemas" | "externalId") || self.takes(name));
        for (name, value) in attributes.iter_mut() {
            let parts: Vec<&str> =
                self.only.iter().filter_map(|own| own.strip_prefix(name)?.strip_prefix('.')).collect();
            if parts.is_empty() || self.only.iter().any(|own| own == name) {
                continue;
            }
            let keep = |object: &mut Object| object.retain(|part, _| parts.contains(&part.as_str()));
            match value {
                Value::Object(object) => keep(object),
                Value::Array(values) => values.iter_mut().filter_map(Value::as_object_mut).for_each(keep),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
    }
}

/// `emails.display` is a part of each value.
fn drop_path(attributes: &mut Object, path: &str) {
    let Some((name, rest)) = step(attributes, path) else { return };
    let Some(part) = rest else { return drop(attributes.remove(&name)) };
    match attributes.get_mut(&name) {
        Some(Value::Object(object)) => drop_path(object, part),
        Some(Value::Array(values)) => {
            values.iter_mut().filter_map(Value::as_object_mut).for_each(|object| drop_path(object, part));
        }
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) | None => {}
    }
}

fn keep_one(values: &mut Vec<Value>) {
    let primary = |value: &Value| value.get("primary") == Some(&Value::Bool(true));
    let chosen = values.iter().position(primary).unwrap_or(0);
    if chosen >= values.len() {
        return;
    }
    let mut one = values.swap_remove(chosen);
    if let Some(object) = one.as_object_mut() {
        object.insert("primary".to_string(), true.into());
    }
    *values = vec![one];
}

/// An extension that was dropped is not named.
fn tidy_schemas(attributes: &mut Object) {
    let empty = |value: &Value| value.as_object().is_some_and(Object::is_empty);
    attributes.retain(|_, value| !empty(value));
    let there: Vec<String> = attributes.keys().filter(|name| scim::is_urn(name)).cloned().collect();
    if let Some(Value::Array(schemas)) = attributes.get_mut("schemas") {
        let mut first = true;
        schemas.retain(|schema| {
            let core = std::mem::take(&mut first);
            core || there.iter().any(|name| schema == name)
        });
    }
}

/// The first step of a path and the rest of it: `name.givenName` is `name` and `givenName`, and the attributes of an
/// extension stand behind its URN and a colon.
fn step<'p>(attributes: &Object, path: &'p str) -> Option<(String, Option<&'p str>)> {
    if !scim::is_urn(path) {
        let (name, rest) = path.split_once('.').map_or((path, None), |(name, rest)| (name, Some(rest)));
        return Some((name.to_string(), rest));
    }
    let of = |urn: &String| match path.strip_prefix(urn.as_str())? {
        "" => Some((urn.clone(), None)),
        rest => Some((urn.clone(), Some(rest.strip_prefix(':')?))),
    };
    attributes.keys().find_map(of)
}

fn at<'a>(attributes: &'a Object, path: &str) -> Option<&'a Value> {
    let (name, rest) = step(attributes, path)?;
    let value = attributes.get(&name)?;
    match rest {
        None => Some(value),
        Some(rest) => at(value.as_object()?, rest),
    }
}

fn at_mut<'a>(attributes: &'a mut Object, path: &str) -> Option<&'a mut Value> {
    let (name, rest) = step(attributes, path)?;
    let value = attributes.get_mut(&name)?;
    match rest {
        None => Some(value),
        Some(rest) => at_mut(value.as_object_mut()?, rest),
    }
}

fn is_missing(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Array(values)) => values.is_empty(),
        Some(Value::Object(_) | Value::Bool(_) | Value::Number(_)) => false,
    }
}
