//! Many operations in one request: RFC 7644 §3.7. What is here is pure; who carries them out is elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::validate::each_name_once;
use crate::{Error, Object, Speech, message};

/// The URN of the request.
const REQUEST: &str = "urn:ietf:params:scim:api:messages:2.0:BulkRequest";
/// The URN of the body of a PATCH.
const PATCH: &str = "urn:ietf:params:scim:api:messages:2.0:PatchOp";
/// What a reference to another operation's resource begins with.
const REFERENCE: &str = "bulkId:";

/// A parsed request.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// After how many errors the rest is not carried out.
    pub errors_max: usize,
    /// In the order of the request.
    pub operations: Vec<Operation>,
}

/// One operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    /// As the client wrote it.
    pub method: String,
    /// The client's name of the resource that a POST makes.
    pub bulk_id: Option<String>,
    /// `/Users` or `/Users/{id}`.
    pub path: String,
    /// Plays If-Match.
    pub version: Option<String>,
    /// The body.
    pub data: Value,
    /// What makes it impossible to carry out.
    pub fault: Option<Error>,
}

impl Request {
    /// Reads a request. A mistake in one operation is that operation's error; more operations than `operations_max`
    /// are 413.
    pub fn parse(body: Value, operations_max: usize, speech: Speech<'_>) -> Result<Self, Error> {
        let Value::Object(body) = body else { return Err(Error::syntax("the body must be a JSON object")) };
        each_name_once(&body)?;
        let mut members: BTreeMap<String, Value> =
            body.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
        message::is(REQUEST, members.get("schemas"), speech)?;
        let errors_max = match members.get("failonerrors") {
            None | Some(Value::Null) => usize::MAX,
            Some(number) => match number.as_u64().and_then(|number| usize::try_from(number).ok()) {
                // RFC 7644 §3.7 leaves it open; who writes it means that no error ends the request.
                Some(0) => usize::MAX,
                Some(number) => number,
                None => return Err(Error::value("failOnErrors must be a whole number")),
            },
        };
        let Some(Value::Array(listed)) = members.remove("operations") else {
            return Err(Error::syntax("Operations must be an array"));
        };
        if listed.len() > operations_max {
            return Err(Error::status(
                413,
                format!(
                    "a request may hold {operations_max} operations (maxOperations), not {}",
                    listed.len()
                ),
            ));
        }
        let operations: Vec<Operation> = listed.into_iter().map(Operation::parse).collect();
        let mut seen = BTreeSet::new();
        for id in operations.iter().filter_map(|operation| operation.bulk_id.as_ref()) {
            if !seen.insert(id) {
                return Err(Error::value(format!("two operations have the bulkId {id:?}")));
            }
        }
        Ok(Self { errors_max, operations })
    }
}

impl Operation {
    /// Reads an operation; a mistake in it is kept as its fault.
    pub fn parse(value: Value) -> Self {
        let mut members: BTreeMap<String, Value> = match value {
            Value::Object(members) => {
                members.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect()
            }
            _ => BTreeMap::new(),
        };
        let mut text = |name: &str| match members.remove(name) {
            Some(Value::String(text)) => Some(text),
            Some(_) | None => None,
        };
        let method = text("method").unwrap_or_default().to_ascii_uppercase();
        let (bulk_id, path, version) = (text("bulkid"), text("path").unwrap_or_default(), text("version"));
        let data = match members.remove("data") {
            // RFC 7644 §3.7.3 shows the operations of a PATCH alone.
            Some(Value::Array(operations)) if method == "PATCH" => {
                json!({"schemas": [PATCH], "Operations": operations})
            }
            data => data.unwrap_or(Value::Null),
        };
        let fault = match method.as_str() {
            "POST" if bulk_id.as_ref().is_none_or(String::is_empty) => {
                Some(Error::syntax("a POST needs a bulkId"))
            }
            "POST" | "PUT" | "PATCH" if !data.is_object() => Some(Error::syntax("data must be an object")),
            "POST" | "PUT" | "PATCH" | "DELETE" if path.is_empty() => {
                Some(Error::syntax("path must name an endpoint or a resource"))
            }
            "POST" | "PUT" | "PATCH" | "DELETE" => None,
            _ => Some(Error::syntax("method must be POST, PUT, PATCH or DELETE")),
        };
        Self { method, bulk_id, path, version, data, fault }
    }

    /// The operation as a request writes it.
    pub fn to_json(&self) -> Value {
        let mut members = Object::new();
        let mut set = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                members.insert(name.to_string(), value);
            }
        };
        set("method", Some(self.method.clone().into()));
        set("bulkId", self.bulk_id.clone().map(Value::from));
        set("path", Some(self.path.clone().into()));
        set("version", self.version.clone().map(Value::from));
        set("data", Some(self.data.clone()).filter(|data| !data.is_null()));
        members.into()
    }

    /// The operations that this one names.
    pub fn references(&self) -> BTreeSet<&str> {
        let mut found = BTreeSet::new();
        found.extend(self.path.rsplit('/').next().and_then(|id| id.strip_prefix(REFERENCE)));
        collect(&self.data, &mut found);
        found.extend(self.paths().flat_map(in_path));
        found
    }

    /// The paths of a PATCH.
    fn paths(&self) -> impl Iterator<Item = &str> {
        let body = self.data.as_object().filter(|_| self.method == "PATCH");
        let operations = body.into_iter().flatten().filter_map(|(_, operations)| operations.as_array());
        let members = operations.flatten().filter_map(Value::as_object).flatten();
        members.filter(|(name, _)| name.eq_ignore_ascii_case("path")).filter_map(|(_, path)| path.as_str())
    }

    /// The operation with ids instead of references.
    pub fn resolved(&self, ids: &BTreeMap<String, String>) -> Self {
        let mut operation = self.clone();
        if let Some((start, reference)) = self.path.rsplit_once('/')
            && let Some(id) = reference.strip_prefix(REFERENCE).and_then(|id| ids.get(id))
        {
            operation.path = format!("{start}/{id}");
        }
        replace(&mut operation.data, ids);
        if self.paths().flat_map(in_path).next().is_some() {
            in_paths(&mut operation.data, ids);
        }
        operation
    }

    /// For circles: the body without the values that hold these references, and those values alone, to be added once
    /// they can be resolved.
    pub fn without(&self, references: &BTreeSet<String>) -> (Value, Object) {
        let Value::Object(members) = &self.data else { return (self.data.clone(), Object::new()) };
        let names = |value: &Value| {
            let mut found = BTreeSet::new();
            collect(value, &mut found);
            found.iter().any(|id| references.contains(*id))
        };
        let (mut kept, mut later) = (Object::new(), Object::new());
        for (name, value) in members {
            match value {
                Value::Array(values) if names(value) => {
                    let (with, without): (Vec<Value>, Vec<Value>) = values.iter().cloned().partition(names);
                    later.insert(name.clone(), with.into());
                    kept.insert(name.clone(), without.into());
                }
                // Inside an extension each attribute stays or waits by itself.
                Value::Object(inner) if names(value) && name.contains(':') => {
                    let split = |wanted: bool| -> Object {
                        let attributes = inner.iter().filter(|(_, value)| names(value) == wanted);
                        attributes.map(|(name, value)| (name.clone(), value.clone())).collect()
                    };
                    later.insert(name.clone(), split(true).into());
                    kept.insert(name.clone(), split(false).into());
                }
                value if names(value) => {
                    later.insert(name.clone(), value.clone());
                }
                value => {
                    kept.insert(name.clone(), value.clone());
                }
            }
        }
        (kept.into(), later)
    }
}

/// The body of a PATCH that adds what was withheld.
pub fn addition(later: &Object, ids: &BTreeMap<String, String>) -> Value {
    let mut value = Value::Object(later.clone());
    replace(&mut value, ids);
    json!({
        "schemas": [PATCH],
        "Operations": [{"op": "add", "value": value}],
    })
}

/// The BulkResponse message.
pub fn response(operations: Vec<Value>) -> Value {
    json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:BulkResponse"], "Operations": operations})
}

/// What came of one operation. `outcome` is a status and a version, or an error.
pub fn result(
    operation: &Operation,
    location: Option<&str>,
    outcome: Result<(u16, Option<String>), &Error>,
) -> Value {
    let mut result = Object::new();
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            result.insert(name.to_string(), value);
        }
    };
    set("method", Some(operation.method.clone().into()));
    set("bulkId", operation.bulk_id.clone().map(Value::from));
    set("location", location.map(Value::from));
    match outcome {
        Ok((status, version)) => {
            set("status", Some(status.to_string().into()));
            set("version", version.map(Value::from));
        }
        Err(error) => {
            set("status", Some(error.status.to_string().into()));
            set("response", Some(error.to_body()));
        }
    }
    Value::Object(result)
}

fn collect<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
    match value {
        Value::String(text) => found.extend(text.strip_prefix(REFERENCE)),
        Value::Array(values) => values.iter().for_each(|value| collect(value, found)),
        Value::Object(members) => members.values().for_each(|value| collect(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn replace(value: &mut Value, ids: &BTreeMap<String, String>) {
    match value {
        Value::String(text) => {
            if let Some(id) = text.strip_prefix(REFERENCE).and_then(|id| ids.get(id)) {
                *text = id.clone();
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| replace(value, ids)),
        Value::Object(members) => members.values_mut().for_each(|value| replace(value, ids)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The references in the filter of a path: `members[value eq "bulkId:a"]`.
fn in_path(path: &str) -> impl Iterator<Item = &str> {
    path.split('"').skip(1).step_by(2).filter_map(|text| text.strip_prefix(REFERENCE))
}

fn in_paths(data: &mut Value, ids: &BTreeMap<String, String>) {
    let bodies = data.as_object_mut().into_iter().flat_map(Object::values_mut);
    let operations = bodies.filter_map(Value::as_array_mut).flatten().filter_map(Value::as_object_mut);
    for (name, value) in operations.flat_map(Object::iter_mut) {
        let Some(path) = value.as_str().filter(|_| name.eq_ignore_ascii_case("path")) else { continue };
        let id = |text: &str| text.strip_prefix(REFERENCE).and_then(|id| ids.get(id));
        let texts = path.split('"').enumerate();
        let texts: Vec<&str> = texts
            .map(|(place, text)| match id(text) {
                Some(id) if place % 2 == 1 => id,
                Some(_) | None => text,
            })
            .collect();
        *value = texts.join("\"").into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dialect;

    fn request(operations: Value) -> Result<Request, Error> {
        Request::parse(
            json!({"schemas": [REQUEST], "failOnErrors": 2, "Operations": operations}),
            3,
            Dialect::Rfc.into(),
        )
    }

    #[test]
    fn references_are_found_and_replaced_everywhere() {
        let data = json!({"members": [{"value": "bulkId:a"}, {"value": "1"}], "x:y": {"manager": {"value": "bulkId:b"}, "d": 1}});
        let request = request(json!([{"METHOD": "post", "bulkId": "g", "path": "/Groups", "data": data},
            {"method": "DELETE", "path": "/Users/bulkId:a"}]))
        .unwrap();
        assert_eq!(request.errors_max, 2);
        let first = &request.operations[0];
        assert_eq!(first.references(), BTreeSet::from(["a", "b"]));
        let ids = BTreeMap::from([("a".to_string(), "17".to_string())]);
        assert_eq!(first.resolved(&ids).data["members"][0]["value"], "17");
        assert_eq!(request.operations[1].resolved(&ids).path, "/Users/17");
        let (kept, later) = first.without(&BTreeSet::from(["b".to_string()]));
        assert_eq!(kept["x:y"], json!({"d": 1}));
        assert_eq!(kept["members"].as_array().unwrap().len(), 2);
        assert_eq!(Value::Object(later), json!({"x:y": {"manager": {"value": "bulkId:b"}}}));
    }

    #[test]
    fn a_patch_may_be_its_operations_alone_and_name_others_in_its_paths() {
        let operations = json!([{"op": "remove", "PATH": "members[value eq \"bulkId:a\" or value eq \"b\"]"},
            {"op": "replace", "path": "displayName", "value": "say \"bulkId:z\""}]);
        let request = request(json!([{"method": "PATCH", "path": "/Groups/1", "data": operations}])).unwrap();
        let operation = &request.operations[0];
        assert_eq!((operation.data["schemas"][0].as_str(), &operation.fault), (Some(PATCH), &None));
        assert_eq!(operation.references(), BTreeSet::from(["a"]));
        let ids = BTreeMap::from([("a".to_string(), "17".to_string()), ("z".to_string(), "18".to_string())]);
        let resolved = &operation.resolved(&ids).data["Operations"];
        assert_eq!(resolved[0]["PATH"], "members[value eq \"17\" or value eq \"b\"]");
        assert_eq!(resolved[1], operations[1]);
        assert_eq!(Operation::parse(operation.to_json()), *operation);
    }

    #[test]
    fn a_request_without_schemas_is_one_where_that_is_forgiven() {
        let read = |dialect: Dialect| Request::parse(json!({"Operations": []}), 3, dialect.into());
        assert!(read(Dialect::Okta).is_ok());
        assert_eq!(read(Dialect::Rfc).unwrap_err().status, 400);
    }

    #[test]
    fn errors_end_a_request_that_says_so() {
        let read = |errors: Value| {
            let body = json!({"schemas": [REQUEST], "failOnErrors": errors, "Operations": []});
            Request::parse(body, 3, Dialect::Rfc.into())
                .map(|request| request.errors_max)
                .map_err(|error| error.status)
        };
        for (errors, expected) in [
            (Value::Null, Ok(usize::MAX)),
            (json!(0), Ok(usize::MAX)),
            (json!(1), Ok(1)),
            (json!(-1), Err(400)),
            (json!(1.5), Err(400)),
            (json!("1"), Err(400)),
        ] {
            assert_eq!(read(errors.clone()), expected, "{errors}");
        }
    }

    #[test]
    fn mistakes_belong_to_their_operation_unless_they_are_the_requests() {
        let parsed = request(json!([{"method": "POST", "path": "/Users", "data": {}},
            {"method": "GET", "path": "/Users"}, {"method": "PUT", "path": "/Users/1"}]))
        .unwrap();
        assert!(parsed.operations.iter().all(|operation| operation.fault.is_some()));
        assert_eq!(request(json!([1, 2, 3, 4])).unwrap_err().status, 413);
        assert_eq!(request(json!({})).unwrap_err().status, 400);
        let twice = json!({"method": "POST", "bulkId": "a", "path": "/Users", "data": {}});
        assert_eq!(request(json!([twice, twice])).unwrap_err().status, 400);
    }
}
