//! CloudEvents 1.0 attributes in the binary mode of its NATS binding: headers of each message of IDENTITY.

use crate::Event;

/// The headers. No attribute holds a person's data.
pub fn headers(event: &Event) -> [(&'static str, String); 7] {
    [
        ("ce-specversion", "1.0".to_string()),
        ("ce-id", event.id.to_string()),
        ("ce-source", format!("/t/{}", event.tenant)),
        ("ce-type", format!("rollcall.identity.{}", event.kind.name())),
        ("ce-subject", format!("{}/{}", event.resource_type, event.resource_id)),
        ("ce-time", event.occurred_at.to_string()),
        ("ce-txn", event.txn.clone()),
    ]
}
