//! Events for unit tests.

use jiff::Timestamp;
use proto::ResourceId;
use proto::provisioning::{Event, Kind};

/// Whose id the sample has.
pub(crate) const ID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

/// One of the app "wiki" about a user, with nothing but a kind.
pub(crate) fn event(kind: Kind) -> Event {
    Event {
        id: ID.parse().unwrap(),
        tenant: "corp".parse().unwrap(),
        app: "wiki".to_string(),
        resource_type: "User".to_string(),
        resource_id: ID.parse().unwrap(),
        txn: String::new(),
        occurred_at: Timestamp::UNIX_EPOCH,
        key_ref: None,
        caused_by: 1,
        configuration_hash: String::new(),
        why: String::new(),
        kind,
    }
}

/// A call that was done, as the app's "r".
pub(crate) fn done(operation: &str) -> Kind {
    Kind::Done {
        operation: operation.to_string(),
        linked: true,
        remote_id: "r".to_string(),
        members_added: Vec::new(),
        members_removed: Vec::new(),
        members_replaced: false,
        status: 200,
    }
}

/// One of IDENTITY about a user of "corp", with nothing but a kind.
pub(crate) fn identity(resource_id: ResourceId, kind: proto::Kind) -> proto::Event {
    proto::Event {
        id: eventlog::clock::new_event_id(),
        tenant: "corp".parse().unwrap(),
        resource_type: "User".to_string(),
        resource_id,
        source: "hr".to_string(),
        actor: "hr".to_string(),
        txn: String::new(),
        occurred_at: Timestamp::UNIX_EPOCH,
        reason: String::new(),
        key_ref: None,
        continued: false,
        kind,
    }
}
