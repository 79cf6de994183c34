//! Which attributes a change names, whether it gives them a value or takes it.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{AttrPath, Object, Registry, ResourceType};

/// What a client sent to change a resource.
#[derive(Clone, Copy, Debug)]
pub enum Sent<'a> {
    /// With POST or PUT: all of it.
    Resource(&'a Value),
    /// With PATCH: operations.
    Patch(&'a Value),
}

/// The paths with canonical names. A part that is named stands there with the attribute it belongs to.
pub(crate) fn paths(registry: &Registry, kind: &ResourceType, sent: Sent<'_>) -> BTreeSet<AttrPath> {
    let mut names = Names { registry, kind, found: BTreeSet::new() };
    match sent {
        Sent::Resource(body) => names.members(None, body),
        Sent::Patch(body) => {
            let operations = member(body, "Operations").and_then(Value::as_array);
            for operation in operations.into_iter().flatten() {
                let value = member(operation, "value").unwrap_or(&Value::Null);
                match member(operation, "path").and_then(Value::as_str) {
                    None => names.members(None, value),
                    Some(path) => names.one(path, value),
                }
            }
        }
    }
    names.found
}

fn member<'a>(value: &'a Value, wanted: &str) -> Option<&'a Value> {
    let mut members = value.as_object()?.iter();
    members.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value)
}

struct Names<'a> {
    registry: &'a Registry,
    kind: &'a ResourceType,
    found: BTreeSet<AttrPath>,
}

impl Names<'_> {
    /// Every member of an object, perhaps under the URN of an extension.
    fn members(&mut self, urn: Option<&str>, value: &Value) {
        for (name, value) in value.as_object().into_iter().flatten() {
            match urn {
                None => self.one(name, value),
                Some(urn) => self.one(&format!("{urn}:{name}"), value),
            }
        }
    }

    fn one(&mut self, path: &str, value: &Value) {
        let (start, rest) = path.split_once('[').unwrap_or((path, ""));
        let part = rest.rsplit_once(']').map_or("", |(_, part)| part);
        let Ok(path) = AttrPath::parse(&format!("{start}{part}"), self.registry) else { return };
        if path.name.is_none() && path.is_whole(&self.kind.schema) {
            return self.members(None, value);
        }
        let Some(path) = self.registry.canonical(self.kind, &path) else { return };
        if path.name.is_none() {
            return self.members(path.schema.as_deref(), value);
        }
        if path.sub.is_none() {
            let values = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
            // Many values have the same few names.
            let names: BTreeSet<&String> =
                values.iter().filter_map(Value::as_object).flat_map(Object::keys).collect();
            for name in names {
                let part = AttrPath { sub: Some(name.clone()), ..path.clone() };
                self.found.extend(self.registry.canonical(self.kind, &part));
            }
        }
        self.found.insert(path);
    }
}
