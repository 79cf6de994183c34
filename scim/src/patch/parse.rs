//! From a PATCH body to operations.

use serde_json::Value;

use super::{Operation, Patch, PatchOp, PatchPath};
use crate::filter::PathFilter;
use crate::validate::{Context, each_name_once, find};
use crate::{AttrPath, Error, FilterLimits, Object, Quirk, Resolved, ScimType};

/// The URN of the message.
const SCHEMA: &str = "urn:ietf:params:scim:api:messages:2.0:PatchOp";

pub(super) fn request(context: Context<'_>, body: Value, limits: &FilterLimits) -> Result<Patch, Error> {
    let Value::Object(body) = body else { return Err(Error::syntax("the body must be a JSON object")) };
    each_name_once(&body)?;
    let member = |wanted: &str| {
        body.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value)
    };
    let schemas = member("schemas").and_then(Value::as_array);
    let names_it = schemas.is_some_and(|urns| {
        urns.iter().filter_map(Value::as_str).any(|urn| urn.eq_ignore_ascii_case(SCHEMA))
    });
    let forgiven = || schemas.is_none() && context.speech.forgives(Quirk::SchemasMissing);
    if !(names_it || forgiven()) {
        return Err(Error::syntax(format!("schemas must hold {SCHEMA:?}")));
    }
    let listed = match member("Operations") {
        Some(Value::Array(operations)) if !operations.is_empty() => operations,
        Some(_) | None => return Err(Error::syntax("Operations must be an array that is not empty")),
    };
    let mut operations = Vec::new();
    for (index, operation) in listed.iter().enumerate() {
        let place =
            |error: Error| Error { detail: format!("operation {}: {}", index + 1, error.detail), ..error };
        one(context, operation, limits, &mut operations).map_err(place)?;
    }
    Ok(Patch { operations })
}

fn one(
    context: Context<'_>,
    operation: &Value,
    limits: &FilterLimits,
    into: &mut Vec<Operation>,
) -> Result<(), Error> {
    let Value::Object(members) = operation else { return Err(Error::syntax("it must be an object")) };
    each_name_once(members)?;
    let member = |wanted: &str| {
        members.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value)
    };
    let word = match member("op") {
        Some(Value::String(word)) => word,
        Some(_) | None => return Err(Error::syntax("op must be add, replace or remove")),
    };
    let op = match word.to_ascii_lowercase().as_str() {
        "add" => PatchOp::Add,
        "replace" => PatchOp::Replace,
        "remove" => PatchOp::Remove,
        _ => return Err(Error::syntax(format!("op {word:?} is none of add, replace and remove"))),
    };
    let context = Context { speech: context.speech.of_operation(word), ..context };
    let value = member("value").cloned();
    // RFC 7644 §3.5.2.3; `null`, `[]` and remove are there for whoever means nothing.
    if op != PatchOp::Remove && value.is_none() {
        return Err(Error::value("add and replace need a value"));
    }
    match member("path") {
        None | Some(Value::Null) => without_path(context, op, value, limits, into),
        Some(Value::String(text)) => {
            let path = path(context, text, limits)?;
            with_path(context, op, path, value, into)
        }
        Some(_) => Err(Error::new(ScimType::InvalidPath, "path must be a string")),
    }
}

/// RFC 7644 §3.5.2.1 and §3.5.2.3: without a path the value holds the attributes. Keys may be whole paths, as Entra
/// writes them (`"name.givenName"`).
fn without_path(
    context: Context<'_>,
    op: PatchOp,
    value: Option<Value>,
    limits: &FilterLimits,
    into: &mut Vec<Operation>,
) -> Result<(), Error> {
    if op == PatchOp::Remove {
        return Err(Error::new(ScimType::NoTarget, "remove needs a path"));
    }
    let Some(Value::Object(members)) = value else {
        return Err(Error::value("without a path the value must be an object of attributes"));
    };
    each_name_once(&members)?;
    for (name, value) in members {
        if name.eq_ignore_ascii_case("schemas") {
            continue;
        }
        let plain = name.split('[').next().unwrap_or_default();
        let Ok(parsed) = AttrPath::parse(plain, context.registry) else { continue };
        let Some(found) = resolved(context, &parsed) else { continue };
        let filtered = plain.len() < name.len();
        if filtered || parsed.sub.is_some() || parsed.schema.is_some() && parsed.name.is_some() {
            context.speech.note(Quirk::PathsAsKeys);
        }
        let path = if filtered { path(context, &name, limits)? } else { found };
        with_path(context, op, path, Some(value), into)?;
    }
    Ok(())
}

fn with_path(
    context: Context<'_>,
    op: PatchOp,
    path: PatchPath,
    value: Option<Value>,
    into: &mut Vec<Operation>,
) -> Result<(), Error> {
    if op == PatchOp::Remove && path.filter.is_none() && value.as_ref().is_some_and(|value| !value.is_null())
    {
        context.speech.note(Quirk::RemoveByValue);
    }
    if path.attr.name.is_some() || op == PatchOp::Remove {
        into.push(Operation { op, path, value, dialect: context.speech.dialect() });
        return Ok(());
    }
    let urn = path.attr.schema.clone().unwrap_or_default();
    match value {
        None | Some(Value::Null) => {
            into.push(Operation {
                op: PatchOp::Remove,
                path,
                value: None,
                dialect: context.speech.dialect(),
            });
            Ok(())
        }
        Some(Value::Object(members)) => expand(context, op, &urn, members, into),
        Some(_) => Err(Error::value(format!("{urn} must be an object"))),
    }
}

/// A whole extension: one operation for each of its attributes.
fn expand(
    context: Context<'_>,
    op: PatchOp,
    urn: &str,
    members: Object,
    into: &mut Vec<Operation>,
) -> Result<(), Error> {
    each_name_once(&members)?;
    for (name, value) in members {
        let Ok(parsed) = AttrPath::parse(&format!("{urn}:{name}"), context.registry) else { continue };
        if let Some(path) = resolved(context, &parsed) {
            into.push(Operation { op, path, value: Some(value), dialect: context.speech.dialect() });
        }
    }
    Ok(())
}

fn resolved(context: Context<'_>, path: &AttrPath) -> Option<PatchPath> {
    Some(match find(context, path)? {
        Resolved::Extension(schema) => PatchPath {
            attr: AttrPath { schema: Some(schema.id.clone()), name: None, sub: None },
            filter: None,
            sub: None,
        },
        Resolved::Attribute { extension, attribute, sub } => PatchPath {
            attr: AttrPath {
                schema: extension.map(|schema| schema.id.clone()),
                name: Some(attribute.name.clone()),
                sub: None,
            },
            filter: None,
            sub: sub.map(|sub| sub.name.clone()),
        },
    })
}

fn path(context: Context<'_>, text: &str, limits: &FilterLimits) -> Result<PatchPath, Error> {
    let invalid = |detail: String| Error::new(ScimType::InvalidPath, detail);
    if text.len() > limits.length_bytes_max {
        return Err(invalid(format!("the path is longer than {} bytes", limits.length_bytes_max)));
    }
    let text = text.trim();
    let (attr_text, bracket) = match text.find('[') {
        Some(at) => (text.get(..at).unwrap_or_default(), Some(at + 1)),
        None => (text, None),
    };
    let parsed = AttrPath::parse(attr_text, context.registry).map_err(invalid)?;
    let unknown = || invalid(format!("{attr_text} is not an attribute of {}", context.kind.name));
    let mut found = resolved(context, &parsed).ok_or_else(unknown)?;
    let Some(at) = bracket else { return Ok(found) };
    let attribute = match find(context, &parsed).ok_or_else(unknown)? {
        Resolved::Attribute { attribute, sub: None, .. } if attribute.multi_valued => attribute,
        Resolved::Attribute { .. } | Resolved::Extension(_) => {
            return Err(invalid(format!("{attr_text} is not multi-valued, so no filter can follow it")));
        }
    };
    let inner = PathFilter::parse(text, at, limits, context.speech, attribute)?;
    let rest = text.get(inner.rest..).unwrap_or_default();
    found.filter = Some(inner.filter);
    if let Some(name) = rest.strip_prefix('.') {
        let sub = attribute
            .sub(name)
            .ok_or_else(|| invalid(format!("{name:?} is not a sub-attribute of {attr_text}")))?;
        found.sub = Some(sub.name.clone());
    } else if !rest.is_empty() {
        return Err(invalid(format!("{rest:?} after the bracket is no sub-attribute")));
    }
    Ok(found)
}
