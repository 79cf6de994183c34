//! One attribute's value: its shape, its type, its canonical form.

use base64::Engine;
use serde_json::Value;

use super::{Context, each_name_once};
use crate::identity::each_once;
use crate::{Attribute, Dialect, Error, Mutability, Object, Quirk, Type, Uniqueness, members};

pub(super) fn writable(
    context: Context<'_>,
    attribute: &Attribute,
    value: Value,
) -> Result<Option<Value>, Error> {
    if attribute.mutability == Mutability::ReadOnly {
        return Ok(None);
    }
    value_of(context, attribute, value)
}

/// An attribute's value in canonical form; nothing for `null`, `[]` and objects that hold nothing (RFC 7643 §2.5).
pub(crate) fn value_of(
    context: Context<'_>,
    attribute: &Attribute,
    value: Value,
) -> Result<Option<Value>, Error> {
    if !attribute.multi_valued {
        let value = context.speech.shape(attribute, value);
        return one(context, attribute, value);
    }
    let mut kept: Vec<Value> = entries_of(context, attribute, value)?.into_iter().flatten().collect();
    each_once(&mut kept);
    if kept.iter().filter(|value| is_primary(value)).count() > 1 {
        return Err(Error::value(format!("{} has more than one primary value", attribute.name)));
    }
    Ok((!kept.is_empty()).then_some(Value::Array(kept)))
}

/// The values of a multi-valued attribute in canonical form, each in its place: nothing for one that holds nothing.
pub(crate) fn entries_of(
    context: Context<'_>,
    attribute: &Attribute,
    value: Value,
) -> Result<Vec<Option<Value>>, Error> {
    let values = match context.speech.shape(attribute, value) {
        Value::Null => return Ok(Vec::new()),
        Value::Array(values) => values,
        single @ Value::Object(_) => {
            context.speech.note(Quirk::ValueForArray);
            vec![single]
        }
        other if context.speech.dialect() != Dialect::Rfc || attribute.kind != Type::Complex => {
            context.speech.note(Quirk::ValueForArray);
            vec![other]
        }
        Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            return Err(Error::value(format!("{} must be an array of objects", attribute.name)));
        }
    };
    let mut entries = Vec::with_capacity(values.len());
    for value in values {
        let value = context.speech.shape(attribute, value);
        let entry = one(context, attribute, value)?;
        if members::are(attribute) && entry.as_ref().and_then(members::id).is_none() {
            return Err(Error::value(format!("{} holds a value that names nobody", attribute.name)));
        }
        entries.push(entry);
    }
    Ok(entries)
}

pub(crate) fn is_primary(value: &Value) -> bool {
    value.get("primary") == Some(&Value::Bool(true))
}

fn one(context: Context<'_>, attribute: &Attribute, value: Value) -> Result<Option<Value>, Error> {
    if value.is_null() || value.as_array().is_some_and(Vec::is_empty) {
        return Ok(None);
    }
    let name = &attribute.name;
    let wrong = |wanted: &str| Err(Error::value(format!("{name} must be {wanted}")));
    match (attribute.kind, value) {
        (Type::Complex, Value::Object(members)) => object(context, attribute, members),
        (Type::Complex, _) => wrong("an object"),
        (Type::Boolean, value @ Value::Bool(_)) => Ok(Some(value)),
        (Type::Boolean, _) => wrong("true or false"),
        (Type::Integer, Value::Number(number)) if number.is_i64() || number.is_u64() => {
            Ok(Some(number.into()))
        }
        (Type::Integer, _) => wrong("a whole number"),
        (Type::Decimal, value @ Value::Number(_)) => Ok(Some(value)),
        (Type::Decimal, _) => wrong("a number"),
        (Type::DateTime, Value::String(text)) if crate::compare::instant(&text).is_some() => {
            Ok(Some(text.into()))
        }
        (Type::DateTime, _) => wrong("an instant such as \"2026-01-31T12:00:00Z\""),
        (Type::Binary, Value::String(text)) if is_base64(&text) => Ok(Some(text.into())),
        (Type::Binary, _) => wrong("base64 text"),
        (Type::String | Type::Reference, Value::String(text))
            if attribute.uniqueness != Uniqueness::None && text.chars().any(char::is_control) =>
        {
            wrong("free of control characters")
        }
        (Type::String | Type::Reference, Value::String(text)) => Ok(Some(text.into())),
        (Type::String | Type::Reference, _) => wrong("a string"),
    }
}

fn is_base64(text: &str) -> bool {
    use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
    [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD].iter().any(|engine| engine.decode(text).is_ok())
}

fn object(context: Context<'_>, attribute: &Attribute, members: Object) -> Result<Option<Value>, Error> {
    each_name_once(&members)?;
    let (mut kept, _) = in_form(
        members,
        |name| attribute.sub(name),
        |sub, value| {
            if matches!(sub.mutability, Mutability::ReadOnly | Mutability::WriteOnly) {
                return Ok(None);
            }
            value_of(context, sub, value)
                .map_err(|error| Error { detail: format!("{}.{}", attribute.name, error.detail), ..error })
        },
    )?;
    if attribute.names_resource() {
        by_value(&mut kept);
        if attribute.names_nobody(&kept) {
            return Ok(None);
        }
    }
    Ok((!kept.is_empty()).then_some(Value::Object(kept)))
}

/// The members that are known, each in the form that `form` gives its value, and all others. They stay where they are, save
/// those whose names are not spelled as the schema spells them.
pub(super) fn in_form<'a>(
    mut members: Object,
    known: impl Fn(&str) -> Option<&'a Attribute>,
    mut form: impl FnMut(&'a Attribute, Value) -> Result<Option<Value>, Error>,
) -> Result<(Object, Vec<(String, Value)>), Error> {
    let (mut renamed, mut others, mut wrong) = (Vec::new(), Vec::new(), None);
    members.retain(|name, value| {
        if wrong.is_some() {
            return false;
        }
        let Some(attribute) = known(name) else {
            others.push((name.clone(), value.take()));
            return false;
        };
        match form(attribute, value.take()) {
            Ok(Some(formed)) if *name == attribute.name => {
                *value = formed;
                return true;
            }
            Ok(Some(formed)) => renamed.push((attribute.name.clone(), formed)),
            Ok(None) => {}
            Err(error) => wrong = Some(error),
        }
        false
    });
    members.extend(renamed);
    wrong.map_or(Ok((members, others)), Err)
}

/// Whom an attribute names is kept as `value` alone: the place, which ends with it, is written when it is read.
fn by_value(members: &mut Object) {
    let text = |name: &str| members.get(name).and_then(Value::as_str).map(str::to_string);
    let Some(place) = text("$ref") else { return };
    let end = place.rsplit('/').next().unwrap_or_default();
    if text("value").is_none_or(|value| value == end) && !end.is_empty() {
        members.insert("value".to_string(), end.into());
        members.remove("$ref");
    }
}
