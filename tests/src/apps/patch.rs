//! PATCH, as strictly as RFC 7644 §3.5.2 and the app have it.

use serde_json::{Value, json};

use super::Document;
use super::check::{Refusal, field};
use super::held::Account;
use super::rules::{Rules, Shape, Type};

/// Where an operation points.
struct Path {
    extension: Option<&'static str>,
    attribute: String,
    /// `[sub eq "value"]`.
    selector: Option<(String, Value)>,
    sub: Option<String>,
}

/// The account after all operations, or why there is none.
pub(super) fn patch(
    rules: &Rules,
    kind: &Type,
    account: Account,
    body: &Document,
) -> Result<Account, Refusal> {
    let schema = json!(["urn:ietf:params:scim:api:messages:2.0:PatchOp"]);
    if body.get("schemas") != Some(&schema) {
        return Err(Refusal::new("invalidSyntax", "schemas: is no PatchOp"));
    }
    let operations = body.get("Operations").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if operations.is_empty() {
        return Err(Refusal::new("invalidSyntax", "Operations: there are none"));
    }
    let mut changed = account;
    let mut members = 0;
    for operation in operations {
        let op = operation["op"].as_str().unwrap_or_default();
        if !matches!(op, "add" | "remove" | "replace") {
            return Err(Refusal::new("invalidSyntax", "op: is none of add, remove and replace"));
        }
        let value = operation.get("value");
        match operation.get("path").and_then(Value::as_str) {
            Some(path) => {
                let path = parse(kind, path)?;
                members += apply(rules, kind, &mut changed, op, &path, value)?;
            }
            None if op == "remove" => return Err(Refusal::new("noTarget", "remove needs a path")),
            None => {
                let values = value.and_then(Value::as_object);
                let values =
                    values.ok_or_else(|| Refusal::new("invalidSyntax", "value: must be an object"))?;
                members += apply_all(rules, kind, &mut changed, op, values)?;
            }
        }
    }
    if members > rules.members.most {
        let most = rules.members.most;
        return Err(Refusal::new("invalidValue", format!("{members} changes of members, {most} at most")));
    }
    Ok(changed)
}

fn apply_all(
    rules: &Rules,
    kind: &Type,
    account: &mut Account,
    op: &str,
    values: &Document,
) -> Result<usize, Refusal> {
    let mut members = 0;
    for (name, value) in values {
        if let Some((urn, _)) = kind.extension.filter(|(urn, _)| urn == name)
            && let Some(object) = value.as_object()
        {
            for (name, value) in object {
                let path = Path { extension: Some(urn), ..Path::of(name) };
                members += apply(rules, kind, account, op, &path, Some(value))?;
            }
            continue;
        }
        members += apply(rules, kind, account, op, &parse(kind, name)?, Some(value))?;
    }
    Ok(members)
}

/// Returns how many members it changes.
fn apply(
    rules: &Rules,
    kind: &Type,
    account: &mut Account,
    op: &str,
    path: &Path,
    value: Option<&Value>,
) -> Result<usize, Refusal> {
    let Some(shape) = field(kind, path.extension, &path.attribute) else {
        return Err(Refusal::new("invalidPath", format!("{} is not known", path.attribute)));
    };
    if matches!(shape, Shape::Members) {
        return change_members(rules, account, op, path, value);
    }
    if path.selector.is_some() && !rules.selectors {
        return Err(Refusal::new("invalidPath", "selectors are not supported"));
    }
    let document = match path.extension {
        None => &mut account.document,
        Some(urn) => {
            let schemas = account.document.entry("schemas").or_insert_with(|| json!([]));
            if let Some(schemas) =
                schemas.as_array_mut().filter(|schemas| !schemas.iter().any(|own| own == urn))
            {
                schemas.push(urn.into());
            }
            let extension = account.document.entry(urn).or_insert_with(|| json!({}));
            extension.as_object_mut().expect("an extension is an object")
        }
    };
    if op == "remove" {
        return remove(document, path, value).map(|()| 0);
    }
    let value = value.ok_or_else(|| Refusal::new("invalidSyntax", "value: is missing"))?;
    set(document, shape, op, path, value.clone()).map(|()| 0)
}

fn set(document: &mut Document, shape: Shape, op: &str, path: &Path, value: Value) -> Result<(), Refusal> {
    let name = path.attribute.clone();
    if let Some(selector) = &path.selector {
        let values = document.get_mut(&name).and_then(Value::as_array_mut);
        let chosen = values.into_iter().flatten().filter(|own| own[&selector.0] == selector.1);
        let mut found = false;
        for own in chosen {
            found = true;
            match &path.sub {
                Some(sub) => own[sub] = value.clone(),
                None => *own = value.clone(),
            }
        }
        return if found { Ok(()) } else { Err(Refusal::new("noTarget", "nothing is selected")) };
    }
    match (shape, &path.sub) {
        (Shape::One(_), Some(sub)) => document.entry(name).or_insert_with(|| json!({}))[sub] = value,
        (Shape::One(_), None) if op == "add" => {
            let own = document.entry(name).or_insert_with(|| json!({}));
            for (sub, value) in value.as_object().into_iter().flatten() {
                own[sub] = value.clone();
            }
        }
        (Shape::Many(_), None) if op == "add" => {
            let own = document.entry(name).or_insert_with(|| json!([]));
            let own = own.as_array_mut().expect("a list is one");
            let more = value.as_array().cloned().unwrap_or_else(|| vec![value]);
            own.extend(more.into_iter().filter(|value| !own.contains(value)).collect::<Vec<Value>>());
        }
        (Shape::Text | Shape::Flag | Shape::Many(_) | Shape::Members, Some(_)) => {
            return Err(Refusal::new("invalidPath", format!("{name} has no such part")));
        }
        (Shape::Text | Shape::Flag | Shape::One(_) | Shape::Many(_) | Shape::Members, None) => {
            document.insert(name, value);
        }
    }
    Ok(())
}

fn remove(document: &mut Document, path: &Path, value: Option<&Value>) -> Result<(), Refusal> {
    if value.is_some() {
        return Err(Refusal::new("invalidSyntax", "remove has no value"));
    }
    let Some(own) = document.get_mut(&path.attribute) else {
        return if path.selector.is_none() {
            Ok(())
        } else {
            Err(Refusal::new("noTarget", "nothing is selected"))
        };
    };
    match (&path.selector, &path.sub) {
        (None, None) => drop(document.remove(&path.attribute)),
        (None, Some(sub)) => drop(own.as_object_mut().and_then(|own| own.remove(sub))),
        (Some(selector), sub) => {
            let values = own.as_array_mut().expect("only lists are selected from");
            let before = values.len();
            let chosen = |own: &Value| own[&selector.0] == selector.1;
            match sub {
                None => values.retain(|own| !chosen(own)),
                Some(sub) => {
                    for own in values.iter_mut().filter(|own| chosen(own)) {
                        drop(own.as_object_mut().and_then(|own| own.remove(sub)));
                    }
                    return Ok(());
                }
            }
            if values.len() == before {
                return Err(Refusal::new("noTarget", "nothing is selected"));
            }
        }
    }
    Ok(())
}

fn change_members(
    rules: &Rules,
    account: &mut Account,
    op: &str,
    path: &Path,
    value: Option<&Value>,
) -> Result<usize, Refusal> {
    let ids = |value: &Value| -> Result<Vec<String>, Refusal> {
        let values = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
        let id = |value: &Value| value["value"].as_str().map(str::to_string);
        let ids: Option<Vec<String>> = values.iter().map(id).collect();
        ids.ok_or_else(|| Refusal::new("invalidValue", "members: a member has no value"))
    };
    match (op, &path.selector, value) {
        ("add", None, Some(value)) => {
            let ids = ids(value)?;
            let count = ids.len();
            account.members.extend(ids);
            Ok(count)
        }
        ("replace", None, Some(value)) if rules.members.replaced => {
            account.members = ids(value)?.into_iter().collect();
            Ok(0)
        }
        ("remove", Some((sub, value)), None) if rules.members.by_selector && sub == "value" => {
            let id = value.as_str().unwrap_or_default();
            if !account.members.remove(id) && rules.members.no_target {
                return Err(Refusal::new("noTarget", "members: nobody is selected"));
            }
            Ok(1)
        }
        ("remove", None, Some(value)) if rules.members.by_value => {
            let ids = ids(value)?;
            for id in &ids {
                account.members.remove(id);
            }
            Ok(ids.len())
        }
        ("remove", None, None) if rules.members.replaced => {
            account.members.clear();
            Ok(0)
        }
        (_, _, _) => Err(Refusal::new("invalidSyntax", format!("members: cannot be changed so by {op}"))),
    }
}

impl Path {
    fn of(attribute: &str) -> Self {
        Self { extension: None, attribute: attribute.to_string(), selector: None, sub: None }
    }
}

fn parse(kind: &Type, text: &str) -> Result<Path, Refusal> {
    let invalid = || Refusal::new("invalidPath", format!("{text} is no path"));
    let mut rest = text;
    let mut extension = None;
    for urn in kind.extension.map(|(urn, _)| urn).into_iter().chain([kind.schema]) {
        if let Some(more) = rest.strip_prefix(urn) {
            extension = Some(urn).filter(|urn| *urn != kind.schema);
            rest = more.strip_prefix(':').ok_or_else(invalid)?;
            break;
        }
    }
    let (head, selector, tail) = match rest.split_once('[') {
        None => (rest, None, ""),
        Some((head, more)) => {
            let (inside, tail) = more.split_once(']').ok_or_else(invalid)?;
            let (sub, value) = inside.split_once(" eq ").ok_or_else(invalid)?;
            let value = serde_json::from_str(value).map_err(|_| invalid())?;
            (head, Some((sub.to_string(), value)), tail)
        }
    };
    let (attribute, sub) = match (head.split_once('.'), tail.strip_prefix('.')) {
        (Some((attribute, sub)), None) => (attribute, Some(sub)),
        (None, sub) => (head, sub),
        (Some(_), Some(_)) => return Err(invalid()),
    };
    let sub = sub.map(str::to_string);
    Ok(Path { extension, attribute: attribute.to_string(), selector, sub })
}
