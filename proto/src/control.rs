//! What operators did: the events of the stream CONTROL.

use bytes::Bytes;
use jiff::Timestamp;
use prost::Message;

use crate::codec::{Error, instant};
use crate::wire::control as wire;
use crate::{EventId, ResourceId, Tenant};

/// One message of CONTROL. Holds no person's data and no secret.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The event's id.
    pub id: EventId,
    /// The tenant.
    pub tenant: Tenant,
    /// Who did it.
    pub actor: String,
    /// The operation it belongs to.
    pub txn: String,
    /// Our clock.
    pub occurred_at: Timestamp,
    /// Why.
    pub reason: String,
    /// The ticket that asked for it.
    pub ticket: String,
    /// What happened.
    pub kind: Kind,
}

/// The kinds. Never renamed, never reused.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A bearer token exists.
    TokenCreated {
        /// The public id inside the token.
        credential: String,
        /// SHA-256 of its secret part.
        hash: [u8; 32],
        /// The source that writes with it.
        source: String,
        /// How the source speaks SCIM.
        dialect: String,
        /// When it ends; nothing means never.
        expires_at: Option<Timestamp>,
        /// A note.
        description: String,
        /// Whom the credential stands for; nothing for a service.
        user: Option<ResourceId>,
    },
    /// A token is refused from now on.
    TokenRevoked {
        /// The public id.
        credential: String,
    },
    /// A configuration took effect.
    ConfigurationApplied {
        /// What was configured: `app/NAME`, `feed/NAME`.
        subject: String,
        /// Its hash.
        hash: String,
    },
    /// Work was stopped, let go on or asked for again.
    Operated {
        /// What was operated: `app/NAME`, `feed/NAME`.
        subject: String,
        /// In which way: `pause`, `release`, `redrive`, ...
        operation: String,
        /// Counts and ids, as JSON; nothing when there is no more to say.
        detail: String,
    },
}

impl Kind {
    /// The kind's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::TokenCreated { .. } => "TokenCreated",
            Self::TokenRevoked { .. } => "TokenRevoked",
            Self::ConfigurationApplied { .. } => "ConfigurationApplied",
            Self::Operated { .. } => "Operated",
        }
    }
}

/// Writes an event.
pub fn encode(event: &Event) -> Bytes {
    use wire::event::Kind as Wire;
    let kind = match event.kind.clone() {
        Kind::TokenCreated { credential, hash, source, dialect, expires_at, description, user } => {
            Wire::TokenCreated(wire::TokenCreated {
                credential,
                hash: Bytes::copy_from_slice(&hash),
                source,
                dialect,
                expires_at_us: expires_at.map_or(0, Timestamp::as_microsecond),
                description,
                user: user.map(|user| Bytes::copy_from_slice(user.uuid().as_bytes())).unwrap_or_default(),
            })
        }
        Kind::TokenRevoked { credential } => Wire::TokenRevoked(wire::TokenRevoked { credential }),
        Kind::ConfigurationApplied { subject, hash } => {
            Wire::ConfigurationApplied(wire::ConfigurationApplied { subject, hash })
        }
        Kind::Operated { subject, operation, detail } => {
            Wire::Operated(wire::Operated { subject, operation, detail })
        }
    };
    wire::Event {
        id: Bytes::copy_from_slice(event.id.as_bytes()),
        tenant: event.tenant.to_string(),
        actor: event.actor.clone(),
        txn: event.txn.clone(),
        occurred_at_us: event.occurred_at.as_microsecond(),
        reason: event.reason.clone(),
        ticket: event.ticket.clone(),
        kind: Some(kind),
    }
    .encode_to_vec()
    .into()
}

/// Reads an event.
pub fn decode(bytes: Bytes) -> Result<Event, Error> {
    use wire::event::Kind as Wire;
    let event = wire::Event::decode(bytes)?;
    // What has none is no event of any version, whatever its kind.
    let id = EventId::from_bytes(&event.id)?;
    let kind = match event.kind.ok_or(Error::UnknownKind)? {
        Wire::TokenCreated(kind) => Kind::TokenCreated {
            credential: kind.credential,
            hash: kind
                .hash
                .as_ref()
                .try_into()
                .map_err(|_| crate::InvalidId::new("SHA-256", format!("{} bytes", kind.hash.len())))?,
            source: kind.source,
            dialect: kind.dialect,
            expires_at: if kind.expires_at_us == 0 { None } else { Some(instant(kind.expires_at_us)?) },
            description: kind.description,
            user: if kind.user.is_empty() { None } else { Some(ResourceId::from_bytes(&kind.user)?) },
        },
        Wire::TokenRevoked(kind) => Kind::TokenRevoked { credential: kind.credential },
        Wire::ConfigurationApplied(kind) => {
            Kind::ConfigurationApplied { subject: kind.subject, hash: kind.hash }
        }
        Wire::Operated(kind) => {
            Kind::Operated { subject: kind.subject, operation: kind.operation, detail: kind.detail }
        }
    };
    Ok(Event {
        id,
        tenant: event.tenant.parse()?,
        actor: event.actor,
        txn: event.txn,
        occurred_at: instant(event.occurred_at_us)?,
        reason: event.reason,
        ticket: event.ticket,
        kind,
    })
}
