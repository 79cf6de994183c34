//! What this service can do: RFC 7643 §5 to §7, RFC 7644 §4.

use serde_json::{Value, json};

use crate::{Object, Registry, ResourceType, Schema};

/// The limits that the service tells about.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest page.
    pub results_max: usize,
    /// The most operations of a Bulk request.
    pub bulk_operations_max: usize,
    /// The largest body.
    pub payload_bytes_max: usize,
    /// How long a cursor can be used.
    pub cursor_timeout_s: u64,
    /// Whether requests that are carried out later are announced (RFC 9967 §4).
    pub security_events: bool,
}

/// The ServiceProviderConfig. `base_url` ends without a slash.
pub fn service_provider_config(limits: Limits, base_url: &str) -> Value {
    let mut config = json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"],
        "patch": {"supported": true},
        "bulk": {"supported": true, "maxOperations": limits.bulk_operations_max,
            "maxPayloadSize": limits.payload_bytes_max},
        "filter": {"supported": true, "maxResults": limits.results_max},
        "changePassword": {"supported": false},
        "sort": {"supported": true},
        "etag": {"supported": true},
        "pagination": {"cursor": true, "index": true, "defaultPaginationMethod": "index",
            "defaultPageSize": limits.results_max, "maxPageSize": limits.results_max,
            "cursorTimeout": limits.cursor_timeout_s},
        "authenticationSchemes": [{
            "type": "oauthbearertoken",
            "name": "Bearer token",
            "description": "A token in the header Authorization, made with `rollcall token create`",
            "specUri": "https://www.rfc-editor.org/info/rfc6750",
            "primary": true,
        }],
        "meta": {"resourceType": "ServiceProviderConfig", "location": format!("{base_url}/ServiceProviderConfig")},
    });
    if let Some(members) = config.as_object_mut().filter(|_| limits.security_events) {
        let uris = json!(["urn:ietf:params:scim:event:misc:asyncresp"]);
        members.insert("securityEvents".to_string(), json!({"asyncRequest": "request", "eventUris": uris}));
    }
    config
}

/// Every resource type, as resources.
pub fn resource_types(registry: &Registry, base_url: &str) -> Vec<Object> {
    registry.resource_types().iter().map(|kind| resource_type(kind, base_url)).collect()
}

/// One resource type.
pub fn resource_type(kind: &ResourceType, base_url: &str) -> Object {
    let mut object = as_object(serde_json::to_value(kind));
    object.insert("schemas".to_string(), json!(["urn:ietf:params:scim:schemas:core:2.0:ResourceType"]));
    let location = format!("{base_url}/ResourceTypes/{}", kind.id);
    object.insert("meta".to_string(), json!({"resourceType": "ResourceType", "location": location}));
    object
}

/// Every schema, as resources.
pub fn schemas(registry: &Registry, base_url: &str) -> Vec<Object> {
    registry.schemas().iter().map(|found| schema(found, base_url)).collect()
}

/// One schema.
pub fn schema(schema: &Schema, base_url: &str) -> Object {
    let mut object = as_object(serde_json::to_value(schema));
    object.insert("schemas".to_string(), json!(["urn:ietf:params:scim:schemas:core:2.0:Schema"]));
    let location = format!("{base_url}/Schemas/{}", schema.id);
    object.insert("meta".to_string(), json!({"resourceType": "Schema", "location": location}));
    object
}

fn as_object(value: Result<Value, serde_json::Error>) -> Object {
    match value {
        Ok(Value::Object(object)) => object,
        Ok(_) | Err(_) => Object::new(),
    }
}
