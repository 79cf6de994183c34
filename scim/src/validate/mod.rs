//! From what a client sent to a document: canonical names, checked types, nothing that others derive.
//!
//! A *full* document holds `externalId`, `members` and write-only attributes too; [`split`] takes them apart, because
//! each is kept elsewhere: external ids by source, members as edges, passwords nowhere.

mod value;

use std::sync::Arc;

use serde_json::Value;

pub(crate) use value::{entries_of, is_primary, value_of};
use value::{in_form, writable};

use crate::quirk;
use crate::{
    AttrPath, Attribute, Error, Mutability, Object, Quirk, Registry, Resolved, ResourceType, Schema,
    ScimType, Speech, Type, members,
};

/// So few names are compared each with each, which needs no memory.
const COMPARED_MAX: usize = 32;

/// What a request is read against.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The schemas.
    pub registry: &'a Registry,
    /// The type of the resource.
    pub kind: &'a ResourceType,
    /// How the client speaks.
    pub speech: Speech<'a>,
}

/// A full document taken apart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parts {
    /// What the event keeps. Shared, because most requests are carried out as they came.
    pub document: Arc<Object>,
    /// The client's identifier.
    pub external_id: Option<String>,
    /// Ids of the members, in order, each once; nothing when the type has none or the request names none.
    pub members: Option<Vec<String>>,
    /// Write-only attributes.
    pub credentials: Object,
}

/// The full document of a POST: read-only attributes are ignored, required ones must be there.
pub fn create(context: Context<'_>, body: Value) -> Result<Object, Error> {
    let full = full(context, body)?;
    complete(context, &full)?;
    Ok(full)
}

/// What a PUT leads to (RFC 7644 §3.5.1): as a POST, and an immutable attribute keeps its value. `keep` puts back what else it
/// cannot mean to clear; what is required and was put back is not missing.
pub fn replace(
    context: Context<'_>,
    body: Value,
    current: &Object,
    keep: impl FnOnce(&mut Parts),
) -> Result<Parts, Error> {
    let mut full = full(context, body)?;
    keep_immutable(context.registry.core(context.kind), &mut full, current)?;
    for schema in context.registry.extensions(context.kind) {
        keep_immutable_in(&schema.id, &schema.attributes, &mut full, current)?;
    }
    let lacked = lacking(context, &full);
    let mut parts = split(context, full);
    keep(&mut parts);
    if !lacked.is_empty() {
        let lacks = lacking(context, &parts.document);
        if let Some(what) = lacked.into_iter().find(|what| lacks.contains(what)) {
            return Err(Error::value(what));
        }
    }
    Ok(parts)
}

/// An immutable attribute that has a value keeps it, and so does an immutable part of one.
fn keep_immutable(attributes: &[Attribute], new: &mut Object, current: &Object) -> Result<(), Error> {
    for attribute in attributes {
        let Some(old) = current.get(&attribute.name) else { continue };
        if attribute.mutability != Mutability::Immutable {
            if attribute.sub_attributes.iter().any(is_immutable) {
                keep_immutable_in(&attribute.name, &attribute.sub_attributes, new, current)?;
            }
            continue;
        }
        match new.get(&attribute.name) {
            None => {
                new.insert(attribute.name.clone(), old.clone());
            }
            Some(new) if new == old => {}
            Some(_) => return Err(immutable(&attribute.name)),
        }
    }
    Ok(())
}

/// The same of the parts of an extension or of a complex attribute that has one value.
fn keep_immutable_in(
    name: &str,
    parts: &[Attribute],
    new: &mut Object,
    current: &Object,
) -> Result<(), Error> {
    let Some(old) = current.get(name).and_then(Value::as_object) else { return Ok(()) };
    let (mut members, is_named) = match new.remove(name) {
        Some(Value::Object(members)) => (members, true),
        Some(_) => (Object::new(), true),
        None => (Object::new(), false),
    };
    keep_immutable(parts, &mut members, old)?;
    // What is kept of something that was left out must be whole, or whoever knows nothing of it could put nothing.
    if !is_named && !members.is_empty() {
        for part in parts.iter().filter(|part| part.required) {
            if let (Some(value), false) = (old.get(&part.name), members.contains_key(&part.name)) {
                members.insert(part.name.clone(), value.clone());
            }
        }
    }
    if !members.is_empty() {
        new.insert(name.to_string(), members.into());
    }
    Ok(())
}

fn is_immutable(attribute: &Attribute) -> bool {
    attribute.mutability == Mutability::Immutable
}

/// Takes a full document apart.
pub fn split(context: Context<'_>, mut full: Object) -> Parts {
    let external_id = match full.remove("externalId") {
        // An empty one identifies nobody.
        Some(Value::String(id)) if !id.trim().is_empty() => Some(id),
        Some(_) | None => None,
    };
    let members = members::take(context, &mut full);
    let mut credentials = Object::new();
    let write_only = |attribute: &&Attribute| attribute.mutability == Mutability::WriteOnly;
    for attribute in context.registry.core(context.kind).iter().filter(write_only) {
        if let Some(value) = full.remove(&attribute.name) {
            credentials.insert(attribute.name.clone(), value);
        }
    }
    for schema in context.registry.extensions(context.kind) {
        let Some(members) = full.get_mut(&schema.id).and_then(Value::as_object_mut) else { continue };
        for attribute in schema.attributes.iter().filter(write_only) {
            if let Some(value) = members.remove(&attribute.name) {
                credentials.insert(format!("{}:{}", schema.id, attribute.name), value);
            }
        }
        if members.is_empty() {
            full.remove(&schema.id);
        }
    }
    Parts { document: full.into(), external_id, members, credentials }
}

/// A value that never changes again, and the names that lead to it: perhaps an extension's, an attribute's, perhaps that of a part.
pub(crate) type Kept = (Vec<String>, Value);

/// The values that never change again.
pub(crate) fn immutables(context: Context<'_>, full: &Object) -> Vec<Kept> {
    let mut all = Vec::new();
    immutables_of(context.registry.core(context.kind), full, &[], &mut all);
    for schema in context.registry.extensions(context.kind) {
        if let Some(members) = full.get(&schema.id).and_then(Value::as_object) {
            immutables_of(&schema.attributes, members, &[&schema.id], &mut all);
        }
    }
    all
}

fn immutables_of(attributes: &[Attribute], members: &Object, place: &[&str], all: &mut Vec<Kept>) {
    for attribute in attributes {
        let Some(value) = members.get(&attribute.name) else { continue };
        let place = [place, &[attribute.name.as_str()]].concat();
        if is_immutable(attribute) {
            all.push((place.iter().map(ToString::to_string).collect(), value.clone()));
        } else if let Some(members) = value.as_object() {
            immutables_of(&attribute.sub_attributes, members, &place, all);
        }
    }
}

/// Whether they are still there, whatever way a change took to them.
pub(crate) fn keeps(full: &Object, immutables: &[Kept]) -> Result<(), Error> {
    let is_lost = |(place, value): &&Kept| {
        let Some((first, rest)) = place.split_first() else { return false };
        let found =
            full.get(first).and_then(|found| rest.iter().try_fold(found, |found, name| found.get(name)));
        found != Some(value)
    };
    match immutables.iter().find(is_lost) {
        Some((place, _)) => Err(immutable(place.last().map_or("", String::as_str))),
        None => Ok(()),
    }
}

/// RFC 7643 §2.2: every required attribute has a value, and each value has its required parts; every required extension is
/// there.
pub(crate) fn complete(context: Context<'_>, full: &Object) -> Result<(), Error> {
    lacking(context, full).into_iter().next().map_or(Ok(()), |what| Err(Error::value(what)))
}

/// What is required and is not there, in words; of many values each that lacks a part.
pub(crate) fn lacking(context: Context<'_>, full: &Object) -> Vec<String> {
    let mut missing = Vec::new();
    lacking_of(context.registry.core(context.kind), full, "", &mut missing);
    for extension in &context.kind.schema_extensions {
        let Some(schema) = context.registry.schema(&extension.schema) else { continue };
        match full.get(&schema.id).and_then(Value::as_object) {
            None if extension.required => missing.push(format!("the extension {} is required", schema.id)),
            None => {}
            Some(members) => {
                lacking_of(&schema.attributes, members, &format!("{}:", schema.id), &mut missing);
            }
        }
    }
    missing
}

fn lacking_of(attributes: &[Attribute], members: &Object, place: &str, missing: &mut Vec<String>) {
    let lacks = |members: &Object, attribute: &Attribute| {
        let value = members.get(&attribute.name);
        attribute.required
            && value.is_none_or(|value| value.as_str().is_some_and(|text| text.trim().is_empty()))
    };
    for attribute in attributes {
        let name = &attribute.name;
        if lacks(members, attribute) {
            missing.push(format!("{place}{name} is required"));
        }
        let required: Vec<&Attribute> = attribute.sub_attributes.iter().filter(|sub| sub.required).collect();
        let Some(value) = members.get(name).filter(|_| !required.is_empty()) else { continue };
        let values = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        for value in values.iter().filter_map(Value::as_object) {
            let lacked = required.iter().filter(|sub| lacks(value, sub));
            missing.extend(lacked.map(|sub| format!("{place}{name}.{} is required", sub.name)));
        }
    }
}

fn full(context: Context<'_>, body: Value) -> Result<Object, Error> {
    let Value::Object(body) = body else {
        return Err(Error::syntax("the body must be a JSON object"));
    };
    each_name_once(&body)?;
    schemas(context, &body)?;
    let mut body = without_base(context, body)?;
    body.retain(|name, _| !["schemas", "id", "meta"].iter().any(|given| name.eq_ignore_ascii_case(given)));
    // Nearly all names are those of attributes.
    let named = |name: &str| context.registry.named(context.kind, name);
    let (mut full, others) = in_form(body, named, |attribute, value| writable(context, attribute, value))?;
    for (name, value) in others {
        let Some(path) = AttrPath::parse(&name, context.registry).ok().filter(|path| path.sub.is_none())
        else {
            continue;
        };
        match find(context, &path) {
            Some(Resolved::Extension(schema)) => {
                let Some(members) = extension(context, &schema.id, &schema.attributes, value)? else {
                    continue;
                };
                merge(&mut full, &schema.id, members);
            }
            Some(Resolved::Attribute { extension: None, attribute, .. }) => {
                if let Some(value) = writable(context, attribute, value)? {
                    full.insert(attribute.name.clone(), value);
                }
            }
            Some(Resolved::Attribute { extension: Some(schema), attribute, .. }) => {
                if let Some(value) = writable(context, attribute, value)? {
                    merge(&mut full, &schema.id, [(attribute.name.clone(), value)].into_iter().collect());
                }
            }
            // RFC 7643 is silent on attributes that nobody knows; every large client sends some.
            None => {}
        }
    }
    Ok(full)
}

/// RFC 7643 §3.3 knows URNs as keys for extensions only; what stands under the one of the base schema is meant all the same.
fn without_base(context: Context<'_>, mut body: Object) -> Result<Object, Error> {
    let Some(urn) = body.keys().find(|name| name.eq_ignore_ascii_case(&context.kind.schema)).cloned() else {
        return Ok(body);
    };
    match body.remove(&urn) {
        Some(Value::Object(members)) => {
            for (name, value) in members {
                if body.insert(name.clone(), value).is_some() {
                    return Err(Error::syntax(format!("{name} stands in the body and under {urn}")));
                }
            }
        }
        None | Some(Value::Null) => {}
        Some(_) => return Err(Error::value(format!("{urn} must be an object"))),
    }
    each_name_once(&body)?;
    Ok(body)
}

/// The first attribute of a body that no schema of the type knows.
pub fn unknown(context: Context<'_>, body: &Value) -> Option<String> {
    let body = body.as_object()?;
    body.iter().filter(|(name, _)| !quirk::is_extra_schema(name)).find_map(|(name, value)| {
        let path = AttrPath::parse(name, context.registry).ok().filter(|path| path.sub.is_none());
        let Some(path) = path else { return Some(name.clone()) };
        let attributes = match find(context, &path) {
            Some(Resolved::Attribute { attribute, .. }) => return unknown_part(attribute, value),
            Some(Resolved::Extension(schema)) => schema.attributes.as_slice(),
            None if path.is_whole(&context.kind.schema) => context.registry.core(context.kind),
            None => return Some(name.clone()),
        };
        value.as_object()?.iter().find_map(|(inner, value)| {
            match attributes.iter().find(|one| one.name.eq_ignore_ascii_case(inner)) {
                None => Some(format!("{name}:{inner}")),
                Some(attribute) => unknown_part(attribute, value),
            }
        })
    })
}

/// The first part of a value that its attribute does not have.
pub(crate) fn unknown_part(attribute: &Attribute, value: &Value) -> Option<String> {
    if attribute.kind != Type::Complex {
        return None;
    }
    let values = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    let mut names = values.iter().filter_map(Value::as_object).flat_map(Object::keys);
    let found = names.find(|name| attribute.sub(name).is_none())?;
    Some(format!("{}.{found}", attribute.name))
}

fn merge(full: &mut Object, urn: &str, members: Object) {
    match full.get_mut(urn).and_then(Value::as_object_mut) {
        Some(existing) => existing.extend(members),
        None => {
            full.insert(urn.to_string(), members.into());
        }
    }
}

/// What a name means; a client that forgets URNs is helped (see [`Dialect`]).
pub(crate) fn find<'a>(context: Context<'a>, path: &AttrPath) -> Option<Resolved<'a>> {
    let found = context.registry.resolve(context.kind, path);
    if found.is_some() || path.schema.is_some() {
        return found;
    }
    let extended = context.registry.in_extensions(context.kind, path);
    extended.filter(|_| context.speech.forgives(Quirk::UrnMissing))
}

fn extension(
    context: Context<'_>,
    urn: &str,
    attributes: &[Attribute],
    value: Value,
) -> Result<Option<Object>, Error> {
    let members = match value {
        Value::Null => return Ok(None),
        Value::Object(members) => members,
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            return Err(Error::value(format!("{urn} must be an object")));
        }
    };
    each_name_once(&members)?;
    let named = |name: &str| attributes.iter().find(|attribute| attribute.name.eq_ignore_ascii_case(name));
    let (kept, _) = in_form(members, named, |attribute, value| writable(context, attribute, value))?;
    Ok((!kept.is_empty()).then_some(kept))
}

/// RFC 7643 §2.1: names are compared without regard to case, so two such keys in one object mean two things at once.
pub(crate) fn each_name_once(object: &Object) -> Result<(), Error> {
    let twice = |name: &String| Error::syntax(format!("{name} stands in one object twice"));
    if object.len() <= COMPARED_MAX {
        let names: Vec<&String> = object.keys().collect();
        let mut rest = names.as_slice();
        while let Some((name, others)) = rest.split_first() {
            if let Some(again) = others.iter().find(|other| other.eq_ignore_ascii_case(name)) {
                return Err(twice(again));
            }
            rest = others;
        }
        return Ok(());
    }
    let mut seen = std::collections::BTreeSet::new();
    match object.keys().find(|name| !seen.insert(name.to_ascii_lowercase())) {
        Some(name) => Err(twice(name)),
        None => Ok(()),
    }
}

/// RFC 7643 §3: `schemas` names what the body holds.
fn schemas(context: Context<'_>, body: &Object) -> Result<(), Error> {
    let named = body.iter().find(|(name, _)| name.eq_ignore_ascii_case("schemas")).map(|(_, value)| value);
    let urns = match named {
        Some(Value::Array(urns)) if !urns.is_empty() => urns,
        Some(_) | None if context.speech.forgives(Quirk::SchemasMissing) => return Ok(()),
        Some(_) | None => {
            return Err(Error::syntax(format!(
                "schemas must be an array that holds {:?}",
                context.kind.schema
            )));
        }
    };
    let known = |urn: &str| {
        urn.eq_ignore_ascii_case(&context.kind.schema)
            || context.registry.extensions(context.kind).any(|schema| schema.id.eq_ignore_ascii_case(urn))
    };
    for urn in urns {
        match urn.as_str() {
            Some(urn) if known(urn) => {}
            Some(urn) if quirk::is_extra_schema(urn) => context.speech.note(Quirk::UnknownSchema),
            Some(_) if context.speech.forgives(Quirk::UnknownSchema) => {}
            Some(urn) => {
                return Err(Error::syntax(format!(
                    "schemas names {urn:?}, which {} does not have",
                    context.kind.name
                )));
            }
            None => return Err(Error::syntax("schemas must hold strings")),
        }
    }
    let listed =
        |wanted: &str| urns.iter().filter_map(Value::as_str).any(|urn| urn.eq_ignore_ascii_case(wanted));
    let unlisted =
        |schema: &&Schema| body.keys().any(|key| key.eq_ignore_ascii_case(&schema.id)) && !listed(&schema.id);
    if context.registry.extensions(context.kind).find(unlisted).is_some() {
        context.speech.note(Quirk::ExtensionUnlisted);
    }
    if !listed(&context.kind.schema) && !context.speech.forgives(Quirk::SchemasMissing) {
        return Err(Error::syntax(format!("schemas must hold {:?}", context.kind.schema)));
    }
    Ok(())
}

pub(crate) fn immutable(name: &str) -> Error {
    Error::new(ScimType::Mutability, format!("{name} cannot be changed once it has a value"))
}

#[cfg(test)]
mod tests;
