//! CloudEvents 1.0 attributes in the binary mode of its NATS binding: headers of each message of IDENTITY.

use crate::Event;

/// The headers. No attribute holds a person's data.
pub fn headers(event: &Event) -> Vec<(String, String)> {
    let pair = |name: &str, value: String| (name.to_string(), value);
    vec![
        pair("ce-specversion", "1.0".to_string()),
        pair("ce-id", event.id.to_string()),
        pair("ce-source", format!("/t/{}", event.tenant)),
        pair("ce-type", format!("rollcall.identity.{}", event.kind.name())),
        pair("ce-subject", format!("{}/{}", event.resource_type, event.resource_id)),
        pair("ce-time", event.occurred_at.to_string()),
        pair("ce-txn", event.txn.clone()),
    ]
}
