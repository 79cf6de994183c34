//! Events as bytes: an envelope in the clear, a body sealed with the envelope's exact bytes as associated data.

use bytes::Bytes;
use jiff::Timestamp;
use prost::Message;
use scim::{Change, Object};
use serde_json::Value;

use crate::document::json;
use crate::external_ids::Entry;
use crate::sealing::{DataKey, Nonce, Unopened};
use crate::subject::Key;
use crate::wire::identity as wire;
use crate::{Body, Event, EventId, ExternalIds, InvalidId, KeyRef, Kind, ResourceId};

/// Bytes that are no event we can read. The consumer must stop: skipping would be data loss.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not our wire format.
    #[error("reading an event: not the wire format")]
    Malformed(#[from] prost::DecodeError),
    /// A field holds what it must not.
    #[error("reading an event: a field is invalid")]
    Invalid(#[from] InvalidId),
    /// A kind that this version does not know.
    #[error("reading an event: its kind is unknown to this version of rollcall; upgrade it")]
    UnknownKind,
    /// The sealed part does not open.
    #[error("opening an event")]
    Sealed(#[from] Unopened),
    /// The sealed part holds no JSON where it must.
    #[error("reading an event's body")]
    Json(#[from] serde_json::Error),
}

/// A message that was read, its body still sealed.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// The envelope.
    pub event: Event,
    frame: Frame,
}

/// An envelope's bytes and what is sealed under them.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) envelope: Bytes,
    nonce: Bytes,
    ciphertext: Bytes,
}

impl Frame {
    pub(crate) fn seal(envelope: Vec<u8>, plain: Option<(Vec<u8>, &DataKey, Nonce)>) -> Bytes {
        let mut record = wire::Record { envelope: envelope.into(), ..Default::default() };
        if let Some((plain, key, nonce)) = plain {
            record.ciphertext = key.seal(&nonce, &plain, &record.envelope).into();
            record.nonce = nonce.to_vec().into();
        }
        record.encode_to_vec().into()
    }

    pub(crate) fn read(bytes: Bytes) -> Result<Self, Error> {
        let wire::Record { envelope, nonce, ciphertext } = wire::Record::decode(bytes)?;
        Ok(Self { envelope, nonce, ciphertext })
    }

    pub(crate) fn is_sealed(&self) -> bool {
        !self.ciphertext.is_empty()
    }

    pub(crate) fn open(&self, key: &DataKey) -> Result<Vec<u8>, Unopened> {
        key.open(&self.nonce, &self.ciphertext, &self.envelope)
    }

    fn open_document(&self, key: &DataKey) -> Result<(Bytes, ExternalIds), Error> {
        let plain = Bytes::from(self.open(key)?);
        let body = DocumentAndIds::decode(plain.clone())?;
        let external_ids = match ExternalIds::of_entries(body.external_ids) {
            Some(external_ids) => external_ids,
            // Who reads all of it says what is wrong.
            None => wire::Body::decode(plain)?.external_ids.into(),
        };
        Ok((body.document, external_ids))
    }
}

/// Writes an event, and its body if it has one.
pub fn encode(event: &Event, body: Option<(&Body, &DataKey, Nonce)>) -> Bytes {
    let plain = body.map(|(body, key, nonce)| (to_wire_body(body).encode_to_vec(), key, nonce));
    Frame::seal(to_wire(event).encode_to_vec(), plain)
}

/// Reads an event.
pub fn decode(bytes: Bytes) -> Result<Encoded, Error> {
    let frame = Frame::read(bytes)?;
    let event = from_wire(wire::Event::decode(frame.envelope.clone())?)?;
    Ok(Encoded { event, frame })
}

/// A message with a document, read only as far as opening that needs.
#[derive(Clone, Debug)]
pub struct Closed {
    /// The key that seals it.
    pub key_ref: KeyRef,
    frame: Frame,
}

/// Of an envelope, what opening a document needs. Whoever opens it finds out whether the envelope is whole.
#[derive(Clone, PartialEq, Message)]
struct Glance {
    #[prost(string, tag = "10")]
    key_ref: String,
    #[prost(message, optional, tag = "20")]
    created: Option<()>,
    #[prost(message, optional, tag = "21")]
    updated: Option<()>,
}

/// Of a body, the document alone.
#[derive(Clone, PartialEq, Message)]
struct DocumentOnly {
    #[prost(bytes = "bytes", tag = "1")]
    document: Bytes,
}

/// Of a body, what readers need most.
#[derive(Clone, PartialEq, Message)]
struct DocumentAndIds {
    #[prost(bytes = "bytes", tag = "1")]
    document: Bytes,
    #[prost(message, repeated, tag = "2")]
    external_ids: Vec<Entry>,
}

/// Reads a message that holds the document of its resource, sealed; nothing when it is another.
pub fn glance(bytes: Bytes) -> Result<Option<Closed>, Error> {
    let frame = Frame::read(bytes)?;
    let glance = Glance::decode(frame.envelope.clone())?;
    let has_document = glance.created.or(glance.updated).is_some() && frame.is_sealed();
    if !has_document || glance.key_ref.is_empty() {
        return Ok(None);
    }
    Ok(Some(Closed { key_ref: glance.key_ref.parse()?, frame }))
}

impl Closed {
    /// The document's JSON, which is not looked at, and `externalId` by source.
    pub fn open_document(&self, key: &DataKey) -> Result<(Bytes, ExternalIds), Error> {
        self.frame.open_document(key)
    }

    /// The document's JSON alone.
    pub fn open_json(&self, key: &DataKey) -> Result<Bytes, Error> {
        Ok(DocumentOnly::decode(Bytes::from(self.frame.open(key)?))?.document)
    }
}

impl Encoded {
    /// Whether there is a body.
    pub fn is_sealed(&self) -> bool {
        self.frame.is_sealed()
    }

    /// Opens the body.
    pub fn open(&self, key: &DataKey) -> Result<Body, Error> {
        let body = wire::Body::decode(Bytes::from(self.frame.open(key)?))?;
        Ok(Body {
            document: object(&body.document)?.into(),
            external_ids: body.external_ids,
            changes: body.changes.iter().map(change).collect::<Result<_, _>>()?,
            caller_address: body.caller_address,
            credentials: object(&body.credentials)?,
        })
    }
}

impl Encoded {
    /// Opens the body for what readers need most: its document's JSON, which is not looked at, and `externalId` by source.
    pub fn open_document(&self, key: &DataKey) -> Result<(Bytes, ExternalIds), Error> {
        self.frame.open_document(key)
    }
}

pub(crate) fn object(bytes: &[u8]) -> Result<Object, serde_json::Error> {
    if bytes.is_empty() { Ok(Object::new()) } else { serde_json::from_slice(bytes) }
}

fn change(change: &wire::Change) -> Result<Change, serde_json::Error> {
    let value = |bytes: &[u8]| (!bytes.is_empty()).then(|| serde_json::from_slice(bytes)).transpose();
    Ok(Change { path: change.path.clone(), before: value(&change.before)?, after: value(&change.after)? })
}

fn to_wire_body(body: &Body) -> wire::Body {
    let value = |value: &Option<Value>| {
        value.as_ref().map(|value| Bytes::from(value.to_string())).unwrap_or_default()
    };
    wire::Body {
        document: body.document.json().clone(),
        external_ids: body.external_ids.clone(),
        changes: body
            .changes
            .iter()
            .map(|change| wire::Change {
                path: change.path.clone(),
                before: value(&change.before),
                after: value(&change.after),
            })
            .collect(),
        caller_address: body.caller_address.clone(),
        credentials: json(&body.credentials),
    }
}

pub(crate) fn id_bytes(ids: &[ResourceId]) -> Vec<Bytes> {
    ids.iter().map(|id| Bytes::copy_from_slice(id.as_bytes())).collect()
}

pub(crate) fn ids(bytes: &[Bytes]) -> Result<Vec<ResourceId>, InvalidId> {
    bytes.iter().map(|bytes| ResourceId::from_bytes(bytes)).collect()
}

pub(crate) fn instant(microseconds: i64) -> Result<Timestamp, InvalidId> {
    Timestamp::from_microsecond(microseconds).map_err(|_| InvalidId::new("instant", microseconds.to_string()))
}

fn to_wire(event: &Event) -> wire::Event {
    use wire::event::Kind as Wire;
    let kind = match &event.kind {
        Kind::Created { members_added } => {
            Wire::Created(wire::Created { members_added: id_bytes(members_added) })
        }
        Kind::Updated { members_added, members_removed } => Wire::Updated(wire::Updated {
            members_added: id_bytes(members_added),
            members_removed: id_bytes(members_removed),
        }),
        Kind::Deleted => Wire::Deleted(wire::Deleted {}),
        Kind::MembersChanged { added, removed } => {
            Wire::MembersChanged(wire::MembersChanged { added: id_bytes(added), removed: id_bytes(removed) })
        }
        Kind::Moved { to_key } => Wire::Moved(wire::Moved { to_key: to_key.as_str().to_string() }),
        Kind::Claimed { attribute } => Wire::Claimed(wire::Claimed { attribute: attribute.clone() }),
        Kind::Released { attribute } => Wire::Released(wire::Released { attribute: attribute.clone() }),
        Kind::CredentialsChanged => Wire::CredentialsChanged(wire::CredentialsChanged {}),
        Kind::Erased => Wire::Erased(wire::Erased {}),
        Kind::TenantDropped => Wire::TenantDropped(wire::TenantDropped {}),
        Kind::PassedOver => Wire::PassedOver(wire::PassedOver {}),
    };
    wire::Event {
        id: Bytes::copy_from_slice(event.id.as_bytes()),
        tenant: event.tenant.to_string(),
        resource_type: event.resource_type.clone(),
        resource_id: Bytes::copy_from_slice(event.resource_id.as_bytes()),
        source: event.source.clone(),
        actor: event.actor.clone(),
        txn: event.txn.clone(),
        occurred_at_us: event.occurred_at.as_microsecond(),
        reason: event.reason.clone(),
        key_ref: event.key_ref.map(|key_ref| key_ref.to_string()).unwrap_or_default(),
        continued: event.continued,
        kind: Some(kind),
    }
}

fn from_wire(event: wire::Event) -> Result<Event, Error> {
    use wire::event::Kind as Wire;
    // What has none is no event of any version, whatever its kind.
    let id = EventId::from_bytes(&event.id)?;
    let kind = match event.kind.ok_or(Error::UnknownKind)? {
        Wire::Created(kind) => Kind::Created { members_added: ids(&kind.members_added)? },
        Wire::Updated(kind) => Kind::Updated {
            members_added: ids(&kind.members_added)?,
            members_removed: ids(&kind.members_removed)?,
        },
        Wire::Deleted(_) => Kind::Deleted,
        Wire::MembersChanged(kind) => {
            Kind::MembersChanged { added: ids(&kind.added)?, removed: ids(&kind.removed)? }
        }
        Wire::Moved(kind) => Kind::Moved { to_key: Key::parse(&kind.to_key)? },
        Wire::Claimed(kind) => Kind::Claimed { attribute: kind.attribute },
        Wire::Released(kind) => Kind::Released { attribute: kind.attribute },
        Wire::CredentialsChanged(_) => Kind::CredentialsChanged,
        Wire::Erased(_) => Kind::Erased,
        Wire::TenantDropped(_) => Kind::TenantDropped,
        Wire::PassedOver(_) => Kind::PassedOver,
    };
    Ok(Event {
        id,
        tenant: event.tenant.parse()?,
        resource_type: event.resource_type,
        resource_id: ResourceId::from_bytes(&event.resource_id)?,
        source: event.source,
        actor: event.actor,
        txn: event.txn,
        occurred_at: instant(event.occurred_at_us)?,
        reason: event.reason,
        key_ref: if event.key_ref.is_empty() { None } else { Some(event.key_ref.parse()?) },
        continued: event.continued,
        kind,
    })
}
