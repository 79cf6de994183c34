//! From what was said to what may be kept: the shapes stay, every value that can be about a person becomes a made-up one,
//! always the same for the same, and every id a name for it.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// What was said.
pub(super) struct Exchange {
    pub(super) method: String,
    /// With the query.
    pub(super) path: String,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) request: Option<Value>,
    pub(super) status: u16,
    pub(super) response: Option<Value>,
}

/// What is known of the values so far.
#[derive(Default)]
pub(super) struct Sanitizer {
    /// Ids that the service gave, and their names.
    ids: BTreeMap<String, String>,
    /// Values, in lower case, and what stands for them.
    values: BTreeMap<String, String>,
}

/// Attributes whose values are words of the protocol.
const WORDS: [&str; 16] = [
    "schemas",
    "op",
    "type",
    "resourceType",
    "schema",
    "endpoint",
    "scimType",
    "status",
    "method",
    "sortOrder",
    "locale",
    "preferredLanguage",
    "timezone",
    "bulkId",
    "mutability",
    "returned",
];
/// Text that says nothing about anybody, wherever it stands.
const HARMLESS: [&str; 12] =
    ["", "true", "false", "null", "work", "home", "other", "mobile", "fax", "pager", "user", "group"];
/// What a service derives, and nobody can foretell.
const DERIVED: [&str; 6] = ["created", "lastModified", "location", "version", "$ref", "detail"];

impl Sanitizer {
    /// The exchange as a step of a dialogue.
    pub(super) fn step(&mut self, exchange: &Exchange) -> Value {
        let mut step = Map::new();
        step.insert("method".to_string(), exchange.method.clone().into());
        step.insert("path".to_string(), self.path(&exchange.path).into());
        let headers = exchange.headers.iter().filter(|(name, value)| {
            *name != "content-type" || !value.to_ascii_lowercase().starts_with("application/scim+json")
        });
        // A version is the service's own word for a state.
        let headers: Map<String, Value> =
            headers.map(|(name, value)| (name.clone(), value.clone().into())).collect();
        if !headers.is_empty() {
            step.insert("headers".to_string(), headers.into());
        }
        if let Some(request) = &exchange.request {
            step.insert("request".to_string(), self.value(request));
        }
        step.insert("status".to_string(), exchange.status.into());
        if let Some(response) = &exchange.response {
            let made = exchange.method == "POST" && exchange.status == 201;
            let id =
                response.get("id").and_then(Value::as_str).filter(|id| made && !self.ids.contains_key(*id));
            let name = id.map(|id| self.learn(id, response));
            let mut kept = self.value(response);
            if let Some((name, kept)) = name.zip(kept.as_object_mut()) {
                kept.insert("id".to_string(), format!("{{{{save:{name}}}}}").into());
            }
            step.insert("response".to_string(), kept);
        }
        step.into()
    }

    fn learn(&mut self, id: &str, resource: &Value) -> String {
        let kind = resource.pointer("/meta/resourceType").and_then(Value::as_str).unwrap_or("resource");
        let kind = kind.to_ascii_lowercase();
        let count = self.ids.values().filter(|name| name.starts_with(&kind)).count();
        let name = format!("{kind}{}", count + 1);
        self.ids.insert(id.to_string(), name.clone());
        name
    }

    fn value(&mut self, value: &Value) -> Value {
        match value {
            Value::Object(members) => {
                let kept = members.iter().map(|(inner, value)| {
                    let (word, derived) =
                        (WORDS.contains(&inner.as_str()), DERIVED.contains(&inner.as_str()));
                    let kept = match value {
                        Value::String(_) if derived => json!("{{any}}"),
                        Value::String(text) if inner == "path" => self.inside(text).into(),
                        _ if word => value.clone(),
                        _ => self.value(value),
                    };
                    (self.key(inner), kept)
                });
                kept.collect::<Map<String, Value>>().into()
            }
            Value::Array(values) => values.iter().map(|value| self.value(value)).collect(),
            Value::String(text) => match serde_json::from_str::<Value>(text) {
                // An object that is written as text keeps being one.
                Ok(inner @ Value::Object(_)) => self.value(&inner).to_string().into(),
                Ok(_) | Err(_) => self.text(text).into(),
            },
            Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        }
    }

    /// A key can be a path that holds values.
    fn key(&mut self, name: &str) -> String {
        if name.contains('"') { self.inside(name) } else { name.to_string() }
    }

    /// What stands for a value.
    fn text(&mut self, text: &str) -> String {
        if let Some(name) = self.ids.get(text) {
            return format!("{{{{{name}}}}}");
        }
        if let Some((_, name)) = self.ids.iter().find(|(id, _)| text.ends_with(&format!("/{id}"))) {
            return format!("https://example.test/{{{{{name}}}}}");
        }
        let folded = text.to_lowercase();
        let schema = folded.starts_with("urn:ietf:params:scim:") || folded.starts_with("http://schemas.");
        if HARMLESS.contains(&folded.as_str()) || schema || text.parse::<jiff::Timestamp>().is_ok() {
            return text.to_string();
        }
        let number = self.values.len() + 1;
        let made_up = self.values.entry(folded.clone()).or_insert_with(|| {
            if folded.contains("://") {
                format!("https://example.test/{number}")
            } else if folded.contains('@') {
                format!("person{number}@example.test")
            } else if folded.chars().any(char::is_alphabetic) {
                format!("value{number}")
            } else {
                format!("{number:07}")
            }
        });
        let upper = text.chars().any(char::is_alphabetic) && *text == text.to_uppercase();
        if upper { made_up.to_uppercase() } else { made_up.clone() }
    }

    /// A path or filter: what stands in quotes is a value.
    fn inside(&mut self, text: &str) -> String {
        let mut kept = String::new();
        let mut rest = text;
        while let Some(start) = rest.find('"') {
            let (before, quoted) = rest.split_at(start);
            kept.push_str(before);
            let mut stream = serde_json::Deserializer::from_str(quoted).into_iter::<String>();
            let Some(Ok(value)) = stream.next() else {
                // Half a value is left out.
                return kept + "\"";
            };
            kept.push_str(&Value::from(self.text(&value)).to_string());
            rest = quoted.get(stream.byte_offset()..).unwrap_or_default();
        }
        kept + rest
    }

    /// Ids in the path, values in the query.
    fn path(&mut self, path: &str) -> String {
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        let known = |part: &str| match self.ids.get(part) {
            Some(name) => format!("{{{{{name}}}}}"),
            None if part.len() > 20 => "00000000-0000-7000-8000-000000000000".to_string(),
            None => part.to_string(),
        };
        let mut kept: String = path.split('/').map(known).collect::<Vec<_>>().join("/");
        let Some(query) = query else { return kept };
        let pairs: Vec<(String, String)> =
            url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let pairs = pairs.into_iter().map(|(name, value)| {
            let value = self.inside(&value);
            // A name for an id must stay readable to whoever plays the dialogue.
            let encoded: String = url::form_urlencoded::byte_serialize(value.as_bytes()).collect();
            format!("{name}={}", encoded.replace("%7B%7B", "{{").replace("%7D%7D", "}}").replace('+', "%20"))
        });
        kept.push('?');
        kept.push_str(&pairs.collect::<Vec<_>>().join("&"));
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(method: &str, path: &str, request: Value, status: u16, response: Value) -> Exchange {
        Exchange {
            method: method.to_string(),
            path: path.to_string(),
            headers: BTreeMap::new(),
            request: Some(request).filter(|request| !request.is_null()),
            status,
            response: Some(response),
        }
    }

    #[test]
    fn people_become_nobody_and_ids_become_names() {
        let id = "01890a5d-ac96-774b-bcce-b302099a8057";
        let mut sanitizer = Sanitizer::default();
        let ada = json!({"schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"], "userName": "Ada@Corp.com", "active": "True",
                         "emails": [{"value": "ada@corp.com", "type": "work"}], "name": {"givenName": "Ada"}});
        let mut made = ada.clone();
        made["id"] = json!(id);
        made["meta"] = json!({"resourceType": "User", "location": format!("https://x/Users/{id}"), "created": "2026-01-01T00:00:00Z"});
        let step = sanitizer.step(&exchange("POST", "/Users", ada, 201, made));
        assert_eq!(step["request"]["userName"], step["request"]["emails"][0]["value"]);
        assert_eq!(step["request"]["active"], "True");
        assert_eq!(step["response"]["id"], "{{save:user1}}");
        assert_eq!(step["response"]["meta"]["location"], "{{any}}");
        let path = format!(
            "/Users/{id}?attributes=id&filter=userName%20eq%20%22ADA%40CORP.COM%22%20or%20id%20eq%20%22{id}%22"
        );
        let body = json!({"Operations": [{"op": "Add", "path": format!("members[value eq \"{id}\"]"), "value": "{\"value\":\"Ada\"}"}]});
        let step = sanitizer.step(&exchange(
            "PATCH",
            &path,
            body,
            404,
            json!({"detail": "no Ada here", "status": "404"}),
        ));
        assert_eq!(
            step["path"],
            "/Users/{{user1}}?attributes=id&filter=userName%20eq%20%22PERSON1%40EXAMPLE.TEST%22%20or%20id%20eq%20%22{{user1}}%22"
        );
        assert_eq!(step["request"]["Operations"][0]["path"], "members[value eq \"{{user1}}\"]");
        let all = step.to_string().to_lowercase();
        assert!(!all.contains("ada") && !all.contains("corp.com"), "{all}");
    }
}
