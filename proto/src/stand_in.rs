//! What readers are given in place of a message that nobody can read: an event that says so and changes nothing. It
//! keeps the message's subject, whose last sequence writers guard.

use bytes::Bytes;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::codec::Error;
use crate::{Event, EventId, Kind, ResourceId, Tenant, codec, control, provisioning, subject};

/// The resource type of a message whose subject names none.
const NO_TYPE: &str = "nobody";

/// The streams whose messages are events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// What happened to people and groups.
    Identity,
    /// What we did to the outside world.
    Provisioning,
    /// What operators did.
    Control,
}

/// An event in place of a message.
#[derive(Clone, Debug, PartialEq)]
pub struct StandIn {
    /// The tenant that the message's subject names, or nobody.
    pub tenant: Tenant,
    /// The message's subject, or one of nobody when it is none of ours.
    pub subject: String,
    /// The same for every reader of the same message.
    pub id: EventId,
    /// The event.
    pub payload: Bytes,
}

impl Stream {
    /// The stream of a name: `IDENTITY`, `PROVISIONING`, `CONTROL`.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "IDENTITY" => Some(Self::Identity),
            "PROVISIONING" => Some(Self::Provisioning),
            "CONTROL" => Some(Self::Control),
            _ => None,
        }
    }

    /// Says why a message is no event of the stream; what is sealed in it is not looked at.
    pub fn check(self, subject: &str, payload: &Bytes) -> Result<(), Error> {
        match self {
            Self::Identity => {
                subject::parse_identity(subject)?;
                codec::decode(payload.clone()).map(drop)
            }
            Self::Provisioning => {
                subject::parse_provisioning(subject)?;
                provisioning::decode(payload.clone()).map(drop)
            }
            Self::Control => control::decode(payload.clone()).map(drop),
        }
    }

    /// The event that stands for a message, and why it does.
    pub fn stand_in(self, subject: &str, payload: &[u8], time: Timestamp, why: &str) -> StandIn {
        let digest = digest(subject, payload);
        let mut id = [0; 16];
        id.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        let (id, nobody) = (EventId::new(Uuid::from_bytes(id)), ResourceId::new(Uuid::nil()));
        let (tenant, subject, payload) = match self {
            Self::Identity => {
                let (tenant, resource_type, key) = subject::parse_identity(subject)
                    .unwrap_or_else(|_| (Tenant::nobody(), NO_TYPE.to_string(), subject::key_of_id(nobody)));
                let subject = subject::identity(&tenant, &resource_type, &key);
                let event = Event {
                    id,
                    tenant,
                    resource_type,
                    resource_id: nobody,
                    source: String::new(),
                    actor: String::new(),
                    txn: String::new(),
                    occurred_at: time,
                    reason: why.to_string(),
                    key_ref: None,
                    continued: false,
                    kind: Kind::PassedOver,
                };
                (event.tenant.clone(), subject, codec::encode(&event, None))
            }
            Self::Provisioning => {
                let (tenant, app, resource_type, resource_id) = subject::parse_provisioning(subject)
                    .unwrap_or_else(|_| (Tenant::nobody(), NO_TYPE.to_string(), NO_TYPE.to_string(), nobody));
                let subject = subject::provisioning(&tenant, &app, &resource_type, resource_id);
                let event = provisioning::Event {
                    id,
                    tenant,
                    app,
                    resource_type,
                    resource_id,
                    txn: String::new(),
                    occurred_at: time,
                    key_ref: None,
                    caused_by: 0,
                    configuration_hash: String::new(),
                    why: why.to_string(),
                    kind: provisioning::Kind::PassedOver,
                };
                (event.tenant.clone(), subject, provisioning::encode(&event, None))
            }
            Self::Control => {
                let event = control::Event {
                    id,
                    tenant: Tenant::nobody(),
                    actor: String::new(),
                    txn: String::new(),
                    occurred_at: time,
                    reason: why.to_string(),
                    ticket: String::new(),
                    kind: passed_over(),
                };
                let subject = subject::control(&event.tenant, event.kind.name());
                let payload = control::encode(&event);
                (event.tenant, subject, payload)
            }
        };
        StandIn { tenant, subject, id, payload }
    }

    /// Whether an event stands for a message.
    pub fn is_stand_in(self, payload: &Bytes) -> bool {
        let payload = payload.clone();
        match self {
            Self::Identity => {
                codec::decode(payload).is_ok_and(|encoded| encoded.event.kind == Kind::PassedOver)
            }
            Self::Provisioning => provisioning::decode(payload)
                .is_ok_and(|encoded| encoded.event.kind == provisioning::Kind::PassedOver),
            Self::Control => control::decode(payload).is_ok_and(|event| event.kind == passed_over()),
        }
    }
}

/// What stands for a message of CONTROL: nobody was operated.
fn passed_over() -> control::Kind {
    let operation = "passed_over".to_string();
    control::Kind::Operated { subject: NO_TYPE.to_string(), operation, detail: String::new() }
}

/// SHA-256 over a message's subject and payload, by which it is known again.
pub fn digest(subject: &str, payload: &[u8]) -> [u8; 32] {
    let length = (subject.len() as u64).to_be_bytes();
    Sha256::new().chain_update(length).chain_update(subject).chain_update(payload).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAMS: [(Stream, &str, &str); 3] = [
        (Stream::Identity, "IDENTITY", "identity.corp.User.01890a5dac96774bbcceb302099a8057"),
        (
            Stream::Provisioning,
            "PROVISIONING",
            "provisioning.corp.wiki.User.01890a5dac96774bbcceb302099a8057",
        ),
        (Stream::Control, "CONTROL", "control.corp.Operated"),
    ];

    #[test]
    fn what_stands_for_a_message_can_be_read_and_is_of_its_subject() {
        for (stream, name, subject) in STREAMS {
            assert_eq!(Stream::named(name), Some(stream));
            let noise = Bytes::from_static(b"hello");
            assert!(stream.check(subject, &noise).is_err() && !stream.is_stand_in(&noise));
            // Nothing at all is not of a newer version.
            assert!(matches!(stream.check(subject, &Bytes::new()), Err(Error::Invalid(_))));
            let given = stream.stand_in(subject, &noise, Timestamp::UNIX_EPOCH, "noise");
            assert!(
                stream.check(&given.subject, &given.payload).is_ok() && stream.is_stand_in(&given.payload)
            );
            assert!(stream == Stream::Control || given.subject == subject, "{given:?}");
            assert_eq!(stream.stand_in(subject, &noise, Timestamp::UNIX_EPOCH, "noise"), given);
            assert_ne!(stream.stand_in(subject, b"hallo", Timestamp::UNIX_EPOCH, "noise").id, given.id);
            // Whatever the subject is.
            let strange = stream.stand_in("identity.x", &noise, Timestamp::UNIX_EPOCH, "noise");
            assert!(stream.check(&strange.subject, &strange.payload).is_ok(), "{strange:?}");
        }
    }

    #[test]
    fn it_says_why_and_touches_nobody() {
        let (stream, _, subject) = STREAMS[0];
        let given = stream.stand_in(subject, b"", Timestamp::UNIX_EPOCH, "noise");
        let event = codec::decode(given.payload).unwrap().event;
        assert_eq!((event.kind, event.reason.as_str()), (Kind::PassedOver, "noise"));
        assert_eq!((event.tenant.as_str(), event.resource_type.as_str()), ("corp", "User"));
        assert!(event.resource_id.uuid().is_nil());
    }
}
