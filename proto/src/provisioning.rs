//! What we did to the outside world: the events of the stream PROVISIONING.

use bytes::Bytes;
use jiff::Timestamp;
use prost::Message;
use scim::Object;

use crate::codec::{Error, Frame, id_bytes, ids, instant, object};
use crate::document::json;
use crate::sealing::{DataKey, Nonce};
use crate::wire::provisioning as wire;
use crate::{EventId, KeyRef, ResourceId, Tenant};

/// One message of PROVISIONING, without its sealed part.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The event's id.
    pub id: EventId,
    /// The tenant.
    pub tenant: Tenant,
    /// The app.
    pub app: String,
    /// The resource type's name.
    pub resource_type: String,
    /// Our resource.
    pub resource_id: ResourceId,
    /// The request that caused it.
    pub txn: String,
    /// Our clock.
    pub occurred_at: Timestamp,
    /// The key that seals the details; nothing when there are none.
    pub key_ref: Option<KeyRef>,
    /// The sequence of IDENTITY that was planned at.
    pub caused_by: u64,
    /// Hash of the app's configuration.
    pub configuration_hash: String,
    /// The plan's reason.
    pub why: String,
    /// What happened.
    pub kind: Kind,
}

/// The kinds. Never renamed, never reused.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// About to make a call that is not idempotent.
    Intended {
        /// The call.
        operation: String,
    },
    /// The app did what was asked.
    Done {
        /// The call.
        operation: String,
        /// Whether a link stands afterwards.
        linked: bool,
        /// The app's id of the resource.
        remote_id: String,
        /// Members that the app holds now.
        members_added: Vec<ResourceId>,
        /// Members that it holds no more.
        members_removed: Vec<ResourceId>,
        /// Whether `members_added` is the whole membership.
        members_replaced: bool,
        /// HTTP status of the answer.
        status: u16,
    },
    /// The call will be made again.
    Retrying {
        /// The call.
        operation: String,
        /// Which attempt failed, from 1.
        attempt: u32,
        /// When the next is made.
        after_ms: u64,
        /// Class and status.
        error: String,
    },
    /// The app refused.
    Refused {
        /// The call.
        operation: String,
        /// HTTP status of the answer.
        status: u16,
        /// Class.
        error: String,
    },
    /// The work waits for a person.
    Held {
        /// The call.
        operation: String,
        /// Why.
        reason: String,
    },
    /// A person let the work go on.
    Released {
        /// Who.
        actor: String,
    },
    /// The app shall hold the resource from now on.
    ScopeEntered,
    /// The app shall hold it no more.
    ScopeLeft,
    /// The app was read and holds what it should.
    Verified,
    /// What an attribute is at the app was decided, beside what the mapping says.
    Decided {
        /// What kind of decision.
        operation: String,
        /// The attributes' paths.
        attributes: Vec<String>,
    },
    /// Stands for a message that nobody can read, and changes nothing. Nobody writes it; readers are given it.
    PassedOver,
}

impl Kind {
    /// The kind's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Intended { .. } => "Intended",
            Self::Done { .. } => "Done",
            Self::Retrying { .. } => "Retrying",
            Self::Refused { .. } => "Refused",
            Self::Held { .. } => "Held",
            Self::Released { .. } => "Released",
            Self::ScopeEntered => "ScopeEntered",
            Self::ScopeLeft => "ScopeLeft",
            Self::Verified => "Verified",
            Self::Decided { .. } => "Decided",
            Self::PassedOver => "PassedOver",
        }
    }
}

/// The sealed part.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Details {
    /// What the app should hold after the call.
    pub intended: Object,
    /// The app's own words, bounded.
    pub detail: String,
    /// What was decided of each attribute, by its path.
    pub decided: Object,
}

/// A message that was read, its details still sealed.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// The envelope.
    pub event: Event,
    frame: Frame,
}

/// Writes an event, and its details if it has any.
pub fn encode(event: &Event, details: Option<(&Details, &DataKey, Nonce)>) -> Bytes {
    let plain = details.map(|(details, key, nonce)| {
        let details = wire::Details {
            intended: json(&details.intended),
            detail: details.detail.clone().into(),
            decided: json(&details.decided),
        };
        (details.encode_to_vec(), key, nonce)
    });
    Frame::seal(to_wire(event).encode_to_vec(), plain)
}

/// Reads an event.
pub fn decode(bytes: Bytes) -> Result<Encoded, Error> {
    let frame = Frame::read(bytes)?;
    let event = from_wire(wire::Event::decode(frame.envelope.clone())?)?;
    Ok(Encoded { event, frame })
}

impl Encoded {
    /// Whether there are details.
    pub fn is_sealed(&self) -> bool {
        self.frame.is_sealed()
    }

    /// Opens the details.
    pub fn open(&self, key: &DataKey) -> Result<Details, Error> {
        let details = wire::Details::decode(Bytes::from(self.frame.open(key)?))?;
        let detail = String::from_utf8_lossy(&details.detail).into_owned();
        Ok(Details { intended: object(&details.intended)?, detail, decided: object(&details.decided)? })
    }
}

fn to_wire(event: &Event) -> wire::Event {
    use wire::event::Kind as Wire;
    let kind = match event.kind.clone() {
        Kind::Intended { operation } => Wire::Intended(wire::Intended { operation }),
        Kind::Done {
            operation,
            linked,
            remote_id,
            members_added,
            members_removed,
            members_replaced,
            status,
        } => Wire::Done(wire::Done {
            operation,
            linked,
            remote_id,
            members_added: id_bytes(&members_added),
            members_removed: id_bytes(&members_removed),
            members_replaced,
            status: u32::from(status),
        }),
        Kind::Retrying { operation, attempt, after_ms, error } => {
            Wire::Retrying(wire::Retrying { operation, attempt, after_ms, error })
        }
        Kind::Refused { operation, status, error } => {
            Wire::Refused(wire::Refused { operation, status: u32::from(status), error })
        }
        Kind::Held { operation, reason } => Wire::Held(wire::Held { operation, reason }),
        Kind::Released { actor } => Wire::Released(wire::Released { actor }),
        Kind::ScopeEntered => Wire::ScopeEntered(wire::ScopeEntered {}),
        Kind::ScopeLeft => Wire::ScopeLeft(wire::ScopeLeft {}),
        Kind::Verified => Wire::Verified(wire::Verified {}),
        Kind::Decided { operation, attributes } => Wire::Decided(wire::Decided { operation, attributes }),
        Kind::PassedOver => Wire::PassedOver(wire::PassedOver {}),
    };
    wire::Event {
        id: Bytes::copy_from_slice(event.id.as_bytes()),
        tenant: event.tenant.to_string(),
        app: event.app.clone(),
        resource_type: event.resource_type.clone(),
        resource_id: Bytes::copy_from_slice(event.resource_id.as_bytes()),
        txn: event.txn.clone(),
        occurred_at_us: event.occurred_at.as_microsecond(),
        key_ref: event.key_ref.map(|key_ref| key_ref.to_string()).unwrap_or_default(),
        caused_by: event.caused_by,
        configuration_hash: event.configuration_hash.clone(),
        why: event.why.clone(),
        kind: Some(kind),
    }
}

fn from_wire(event: wire::Event) -> Result<Event, Error> {
    use wire::event::Kind as Wire;
    let status = |status: u32| u16::try_from(status).unwrap_or_default();
    // What has none is no event of any version, whatever its kind.
    let id = EventId::from_bytes(&event.id)?;
    let kind = match event.kind.ok_or(Error::UnknownKind)? {
        Wire::Intended(kind) => Kind::Intended { operation: kind.operation },
        Wire::Done(kind) => Kind::Done {
            operation: kind.operation,
            linked: kind.linked,
            remote_id: kind.remote_id,
            members_added: ids(&kind.members_added)?,
            members_removed: ids(&kind.members_removed)?,
            members_replaced: kind.members_replaced,
            status: status(kind.status),
        },
        Wire::Retrying(kind) => Kind::Retrying {
            operation: kind.operation,
            attempt: kind.attempt,
            after_ms: kind.after_ms,
            error: kind.error,
        },
        Wire::Refused(kind) => {
            Kind::Refused { operation: kind.operation, status: status(kind.status), error: kind.error }
        }
        Wire::Held(kind) => Kind::Held { operation: kind.operation, reason: kind.reason },
        Wire::Released(kind) => Kind::Released { actor: kind.actor },
        Wire::ScopeEntered(_) => Kind::ScopeEntered,
        Wire::ScopeLeft(_) => Kind::ScopeLeft,
        Wire::Verified(_) => Kind::Verified,
        Wire::Decided(kind) => Kind::Decided { operation: kind.operation, attributes: kind.attributes },
        Wire::PassedOver(_) => Kind::PassedOver,
    };
    Ok(Event {
        id,
        tenant: event.tenant.parse()?,
        app: event.app,
        resource_type: event.resource_type,
        resource_id: ResourceId::from_bytes(&event.resource_id)?,
        txn: event.txn,
        occurred_at: instant(event.occurred_at_us)?,
        key_ref: if event.key_ref.is_empty() { None } else { Some(event.key_ref.parse()?) },
        caused_by: event.caused_by,
        configuration_hash: event.configuration_hash,
        why: event.why,
        kind,
    })
}
