//! From a PATCH body to operations.

use serde_json::Value;

use super::{Operation, Patch, PatchOp, PatchPath};
use crate::filter::PathFilter;
use crate::validate::{Context, each_name_once, find};
use crate::{AttrPath, Error, FilterLimits, Quirk, Resolved, ScimType, message, quirk};

pub(super) fn request(context: Context<'_>, body: Value, limits: &FilterLimits) -> Result<Patch, Error> {
    let Value::Object(body) = body else { return Err(Error::syntax("the body must be a JSON object")) };
    each_name_once(&body)?;
    let member = |wanted: &str| {
        body.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value)
    };
    message::is(Patch::SCHEMA, member("schemas"), context.speech)?;
    let listed = match member("Operations") {
        Some(Value::Array(operations))
            if !operations.is_empty() || context.speech.forgives(Quirk::OperationsEmpty) =>
        {
            operations
        }
        Some(_) | None => return Err(Error::syntax("Operations must be an array that is not empty")),
    };
    let mut patch = Patch { operations: Vec::new(), unknown: None };
    let mut unless_leaving = None;
    for (index, operation) in listed.iter().enumerate() {
        let place =
            |error: Error| Error { detail: format!("operation {}: {}", index + 1, error.detail), ..error };
        let doubt = one(context, operation, limits, &mut patch).map_err(place)?;
        unless_leaving = unless_leaving.or(doubt.map(place));
    }
    match unless_leaving {
        Some(error) if !patch.switches_off() => return Err(error),
        Some(_) => context.speech.note(Quirk::UnknownPath),
        None => {}
    }
    Ok(patch)
}

impl Patch {
    /// Whether an operation sets `active` to false.
    fn switches_off(&self) -> bool {
        let is_false = |value: &Value| match value {
            Value::Bool(active) => !active,
            Value::String(text) => quirk::boolean(text) == Some(false),
            _ => false,
        };
        self.operations.iter().any(|operation| {
            let PatchPath { attr, filter, sub } = &operation.path;
            attr.is("active")
                && (filter, sub) == (&None, &None)
                && operation.op != PatchOp::Remove
                && operation.value.as_ref().is_some_and(is_false)
        })
    }
}

/// Where a path leads.
enum Led {
    To(PatchPath),
    /// To nothing that a schema of the type knows.
    Nowhere(Error),
}

/// Reads one operation. What it returns is wrong with it where nobody leaves by the others.
fn one(
    context: Context<'_>,
    operation: &Value,
    limits: &FilterLimits,
    into: &mut Patch,
) -> Result<Option<Error>, Error> {
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
        None | Some(Value::Null) => without_path(context, op, value, limits, into)?,
        Some(Value::String(text)) => match path(context, text, limits)? {
            Led::To(path) => with_path(context, op, path, value, limits, into)?,
            Led::Nowhere(error) if context.speech.dialect().allows(Quirk::UnknownPath) => {
                into.unknown.get_or_insert_with(|| text.clone());
                return Ok(Some(error));
            }
            Led::Nowhere(error) => return Err(error),
        },
        Some(_) => return Err(Error::new(ScimType::InvalidPath, "path must be a string")),
    }
    Ok(None)
}

/// RFC 7644 §3.5.2.1 and §3.5.2.3: without a path the value holds the attributes. Keys may be whole paths, as Entra
/// writes them (`"name.givenName"`).
fn without_path(
    context: Context<'_>,
    op: PatchOp,
    value: Option<Value>,
    limits: &FilterLimits,
    into: &mut Patch,
) -> Result<(), Error> {
    if op == PatchOp::Remove {
        return Err(Error::new(ScimType::NoTarget, "remove needs a path"));
    }
    let Some(Value::Object(members)) = value else {
        return Err(Error::value("without a path the value must be an object of attributes"));
    };
    each_name_once(&members)?;
    for (name, value) in members {
        if !name.eq_ignore_ascii_case("schemas") {
            key(context, op, None, &name, value, limits, into)?;
        }
    }
    Ok(())
}

/// A key that is a path, after the URN that it stands under. One that no schema of the type knows is passed over, as in
/// any other body.
fn key(
    context: Context<'_>,
    op: PatchOp,
    under: Option<&str>,
    name: &str,
    value: Value,
    limits: &FilterLimits,
    into: &mut Patch,
) -> Result<(), Error> {
    let whole = under.map_or_else(|| name.to_string(), |urn| format!("{urn}:{name}"));
    let plain = whole.split('[').next().unwrap_or_default();
    let parsed = AttrPath::parse(plain, context.registry).ok();
    let parsed = parsed.filter(|parsed| under.is_none() || parsed.name.is_some());
    let Some((found, parsed)) = parsed.and_then(|parsed| Some((resolved(context, &parsed)?, parsed))) else {
        if !quirk::is_extra_schema(name) {
            into.unknown.get_or_insert(whole);
        }
        return Ok(());
    };
    let filtered = plain.len() < whole.len();
    let with_urn = under.is_none() && parsed.schema.is_some() && parsed.name.is_some();
    if filtered || parsed.sub.is_some() || with_urn {
        context.speech.note(Quirk::PathsAsKeys);
    }
    let path = match filtered.then(|| path(context, &whole, limits)).transpose()? {
        None => found,
        Some(Led::To(path)) => path,
        Some(Led::Nowhere(error)) => return Err(error),
    };
    with_path(context, op, path, Some(value), limits, into)
}

fn with_path(
    context: Context<'_>,
    op: PatchOp,
    path: PatchPath,
    value: Option<Value>,
    limits: &FilterLimits,
    into: &mut Patch,
) -> Result<(), Error> {
    let dialect = context.speech.dialect();
    let is_named = |value: &Value| !value.is_null();
    if op == PatchOp::Remove && path.filter.is_none() && value.as_ref().is_some_and(is_named) {
        context.speech.note(Quirk::RemoveByValue);
    }
    let urn = match &path.attr {
        AttrPath { schema: Some(urn), name: None, .. } => urn.clone(),
        _ => {
            into.operations.push(Operation { op, path, value, dialect });
            return Ok(());
        }
    };
    match value {
        // A whole schema: one operation for each of its attributes.
        Some(Value::Object(members)) if op != PatchOp::Remove => {
            each_name_once(&members)?;
            for (name, value) in members {
                key(context, op, Some(&urn), &name, value, limits, into)?;
            }
            Ok(())
        }
        _ if urn == context.kind.schema => Err(Error::new(
            ScimType::InvalidPath,
            format!("{urn} is all that {} is made of; name an attribute", context.kind.name),
        )),
        Some(value) if op != PatchOp::Remove && !value.is_null() => {
            Err(Error::value(format!("{urn} must be an object")))
        }
        value => {
            into.operations.push(Operation { op: PatchOp::Remove, path, value, dialect });
            Ok(())
        }
    }
}

fn resolved(context: Context<'_>, path: &AttrPath) -> Option<PatchPath> {
    if path.is_whole(&context.kind.schema) {
        let attr = AttrPath { schema: Some(context.kind.schema.clone()), name: None, sub: None };
        return Some(PatchPath { attr, filter: None, sub: None });
    }
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

fn path(context: Context<'_>, text: &str, limits: &FilterLimits) -> Result<Led, Error> {
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
    let Some(mut found) = resolved(context, &parsed) else { return Ok(Led::Nowhere(unknown())) };
    let Some(at) = bracket else { return Ok(Led::To(found)) };
    let attribute = match find(context, &parsed) {
        Some(Resolved::Attribute { attribute, sub: None, .. }) if attribute.multi_valued => attribute,
        Some(Resolved::Attribute { .. } | Resolved::Extension(_)) | None => {
            return Err(invalid(format!("{attr_text} is not multi-valued, so no filter can follow it")));
        }
    };
    let inner = PathFilter::parse(text, at, limits, context.speech, attribute)?;
    let rest = text.get(inner.rest..).unwrap_or_default();
    found.filter = Some(inner.filter);
    if let Some(name) = rest.strip_prefix('.') {
        let Some(sub) = attribute.sub(name) else {
            let error = invalid(format!("{name:?} is not a sub-attribute of {attr_text}"));
            return Ok(Led::Nowhere(error));
        };
        found.sub = Some(sub.name.clone());
    } else if !rest.is_empty() {
        return Err(invalid(format!("{rest:?} after the bracket is no sub-attribute")));
    }
    Ok(Led::To(found))
}
