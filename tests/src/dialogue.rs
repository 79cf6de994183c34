//! Dialogues of real clients as files: `{method, path, request, status, response}`, step by step.
//!
//! A response names what must be there; more may be. `{{save:x}}` remembers a value, `{{x}}` stands for it,
//! `{{any}}` is anything that is present, `{{absent}}` must not be there, `{"{{set}}": [..]}` is an array in any order.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::house::Client;

/// A recorded or documented exchange with one client.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dialogue {
    /// The client.
    pub client: String,
    /// What happens.
    pub title: String,
    /// Where the shapes come from.
    pub source: String,
    /// The quirks that it shows, and no others.
    pub quirks: BTreeSet<String>,
    /// The exchange.
    pub steps: Vec<Step>,
}

/// One request and the answer it must get.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    method: String,
    path: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Another token than the dialogue's.
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    request: Option<Value>,
    status: u16,
    #[serde(default)]
    response: Option<Value>,
}

impl Dialogue {
    /// Reads one file.
    pub fn read(path: &Path) -> Self {
        let text =
            std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Plays it against an endpoint; the first difference fails with the step it stands in.
    pub fn play(&self, client: &Client) {
        let mut saved = BTreeMap::new();
        for (index, step) in self.steps.iter().enumerate() {
            let path = substitute_text(&step.path, &saved);
            let body = step.request.as_ref().map(|body| substitute(body, &saved).to_string().into_bytes());
            let headers: Vec<(String, String)> = step
                .headers
                .iter()
                .map(|(name, value)| (name.clone(), substitute_text(value, &saved)))
                .collect();
            let headers: Vec<(&str, &str)> =
                headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let client = match &step.token {
                Some(token) => client.with_token(token),
                None => client.clone(),
            };
            let reply = client.send(&step.method, &path, &headers, body);
            let place = format!("{}, step {} ({} {path})", self.title, index + 1, step.method);
            assert_eq!(reply.status, step.status, "{place}: {}", reply.text);
            if let Some(expected) = &step.response
                && let Err(difference) = matches(expected, Some(&reply.body), &mut saved, "")
            {
                panic!("{place}: {difference}\nanswer: {}", reply.text);
            }
        }
    }
}

type Saved = BTreeMap<String, Value>;

fn substitute_text(text: &str, saved: &Saved) -> String {
    saved.iter().fold(text.to_string(), |text, (name, value)| {
        text.replace(&format!("{{{{{name}}}}}"), value.as_str().unwrap_or_default())
    })
}

fn substitute(value: &Value, saved: &Saved) -> Value {
    match value {
        Value::String(text) => Value::String(substitute_text(text, saved)),
        Value::Array(values) => values.iter().map(|value| substitute(value, saved)).collect(),
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| (substitute_text(name, saved), substitute(value, saved)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

/// Whether `actual` holds everything that `expected` names.
pub fn matches(expected: &Value, actual: Option<&Value>, saved: &mut Saved, at: &str) -> Result<(), String> {
    if expected == "{{absent}}" {
        return match actual {
            None => Ok(()),
            Some(actual) => Err(format!("{at}: expected nothing, found {actual}")),
        };
    }
    let Some(actual) = actual else { return Err(format!("{at}: expected {expected}, found nothing")) };
    match expected {
        Value::String(text) if text == "{{any}}" => Ok(()),
        Value::String(text) if text.starts_with("{{save:") => {
            let name = text.trim_start_matches("{{save:").trim_end_matches("}}");
            saved.insert(name.to_string(), actual.clone());
            Ok(())
        }
        Value::Object(members) if members.contains_key("{{set}}") => matches_set(members, actual, saved, at),
        Value::Object(members) => {
            for (name, value) in members {
                matches(value, actual.get(name), saved, &format!("{at}/{name}"))?;
            }
            Ok(())
        }
        Value::Array(values) => {
            let count = actual.as_array().map(Vec::len);
            if count != Some(values.len()) {
                return Err(format!("{at}: expected {} values, found {actual}", values.len()));
            }
            for (index, value) in values.iter().enumerate() {
                matches(value, actual.get(index), saved, &format!("{at}/{index}"))?;
            }
            Ok(())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            let expected = substitute(expected, saved);
            if &expected == actual {
                Ok(())
            } else {
                Err(format!("{at}: expected {expected}, found {actual}"))
            }
        }
    }
}

fn matches_set(
    members: &serde_json::Map<String, Value>,
    actual: &Value,
    saved: &mut Saved,
    at: &str,
) -> Result<(), String> {
    let wanted = members.get("{{set}}").and_then(Value::as_array).cloned().unwrap_or_default();
    let found = actual.as_array().cloned().unwrap_or_default();
    if found.len() != wanted.len() {
        return Err(format!("{at}: expected {} values in any order, found {actual}", wanted.len()));
    }
    for value in &wanted {
        if !found.iter().any(|candidate| matches(value, Some(candidate), &mut saved.clone(), at).is_ok()) {
            return Err(format!("{at}: {} is not among {actual}", substitute(value, saved)));
        }
    }
    Ok(())
}
