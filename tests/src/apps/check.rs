//! Whether a document is one that the app takes.

use serde_json::{Value, json};

use super::Document;
use super::answer::Answer;
use super::rules::{Fields, Rules, Shape, Type};

/// Why a request is not done.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) keyword: &'static str,
    pub(super) detail: String,
}

impl Refusal {
    pub(super) fn new(keyword: &'static str, detail: impl Into<String>) -> Self {
        Self { status: 400, keyword, detail: detail.into() }
    }

    pub(super) fn of(status: u16, detail: &str) -> Self {
        Self { status, keyword: "", detail: detail.to_string() }
    }

    pub(super) fn taken(status: u16) -> Self {
        Self { status, keyword: "uniqueness", detail: "somebody has this name".to_string() }
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        let mut body = json!({
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:Error"],
            "status": refusal.status.to_string(),
            "detail": refusal.detail,
        });
        if !refusal.keyword.is_empty() {
            body["scimType"] = refusal.keyword.into();
        }
        Self { status: refusal.status, headers: Vec::new(), body: Some(body) }
    }
}

/// The field that a name means, within an extension or not.
pub(super) fn field(kind: &Type, extension: Option<&str>, name: &str) -> Option<Shape> {
    let fields = match extension {
        None => kind.fields,
        Some(urn) => kind.extension.filter(|(own, _)| *own == urn)?.1,
    };
    fields.iter().find(|(own, _)| *own == name).map(|(_, shape)| *shape)
}

/// The whole document, members apart.
pub(super) fn check(rules: &Rules, kind: &Type, endpoint: &str, document: &Document) -> Result<(), Refusal> {
    let schemas = document.get("schemas").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if !schemas.iter().any(|schema| schema == kind.schema) {
        return Err(Refusal::new("invalidSyntax", format!("schemas: {} is missing", kind.schema)));
    }
    for (name, value) in document {
        if name == "schemas" {
            continue;
        }
        if let Some((urn, fields)) = kind.extension
            && name == urn
        {
            if !schemas.iter().any(|schema| schema == urn) {
                return Err(Refusal::new("invalidSyntax", format!("schemas: {urn} is missing")));
            }
            shaped(rules, name, Shape::One(fields), value)?;
            continue;
        }
        let Some(shape) = field(kind, None, name) else {
            return Err(Refusal::new("invalidSyntax", format!("{name} is not known")));
        };
        shaped(rules, name, shape, value)?;
    }
    let known =
        |schema: &&Value| **schema == kind.schema || kind.extension.is_some_and(|(urn, _)| **schema == urn);
    if let Some(strange) = schemas.iter().find(|schema| !known(schema)) {
        return Err(Refusal::new("invalidSyntax", format!("schemas: {strange} is not known")));
    }
    for path in kind.required {
        if is_missing(document, path) {
            return Err(Refusal::new("invalidValue", format!("{path} is required")));
        }
    }
    for name in kind.single {
        if document.get(*name).and_then(Value::as_array).is_some_and(|values| values.len() > 1) {
            return Err(Refusal::new("invalidValue", format!("{name}: one value only")));
        }
    }
    (rules.peculiar)(endpoint, document).map_err(|detail| Refusal::new("invalidValue", detail))
}

fn is_missing(document: &Document, path: &str) -> bool {
    let (name, sub) = path.split_once('.').unwrap_or((path, ""));
    let value = match document.get(name) {
        Some(value) if sub.is_empty() => Some(value),
        Some(value) => value.get(sub),
        None => None,
    };
    match value {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Array(values)) => values.is_empty(),
        Some(_) => false,
    }
}

fn shaped(rules: &Rules, name: &str, shape: Shape, value: &Value) -> Result<(), Refusal> {
    let wrong = |wanted: &str| Err(Refusal::new("invalidValue", format!("{name}: must be {wanted}")));
    match (shape, value) {
        (_, Value::Null) if rules.null => Ok(()),
        (Shape::Text, Value::String(_))
        | (Shape::Flag, Value::Bool(_))
        | (Shape::Members, Value::Array(_)) => Ok(()),
        (Shape::One(fields), Value::Object(object)) => each(rules, name, fields, object),
        (Shape::Many(fields), Value::Array(values)) => {
            let primary = values.iter().filter(|value| value["primary"] == true).count();
            if primary > 1 {
                return wrong("primary once at most");
            }
            for value in values {
                let Some(object) = value.as_object() else { return wrong("a list of objects") };
                each(rules, name, fields, object)?;
            }
            Ok(())
        }
        (Shape::Text, _) => wrong("a text"),
        (Shape::Flag, _) => wrong("true or false"),
        (Shape::One(_), _) => wrong("an object"),
        (Shape::Many(_) | Shape::Members, _) => wrong("a list"),
    }
}

fn each(rules: &Rules, name: &str, fields: Fields, object: &Document) -> Result<(), Refusal> {
    for (sub, value) in object {
        let Some((_, shape)) = fields.iter().find(|(own, _)| own == sub) else {
            return Err(Refusal::new("invalidSyntax", format!("{name}.{sub} is not known")));
        };
        shaped(rules, &format!("{name}.{sub}"), *shape, value)?;
    }
    Ok(())
}
