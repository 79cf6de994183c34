//! The one home of the clock and of new ids. Pure code takes them as arguments.

use jiff::Timestamp;
use proto::{EventId, ResourceId};
use uuid::Uuid;

/// The time now.
#[expect(clippy::disallowed_methods, reason = "the one home of the clock")]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// A new event's id.
pub fn new_event_id() -> EventId {
    EventId::new(Uuid::now_v7())
}

/// A new resource's id.
pub fn new_resource_id() -> ResourceId {
    ResourceId::new(Uuid::now_v7())
}

/// A new UUIDv7 for anything else, such as a `txn`.
pub fn new_uuid() -> Uuid {
    Uuid::now_v7()
}

/// Random bytes for keys and nonces.
pub fn random<const N: usize>() -> Result<[u8; N], crate::Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| crate::Error::Unavailable {
        doing: "asking the operating system for randomness".to_string(),
        source: Some(error.to_string().into()),
    })?;
    Ok(bytes)
}
