//! One file for each kind of event, written once, never edited, read for ever. A kind without one fails.

#![cfg(test)]

use std::path::Path;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use jiff::Timestamp;
use proto::sealing::DataKey;
use proto::{Body, Event, Kind, control, provisioning, subject};
use serde_json::json;

const KEY: [u8; 32] = [42; 32];
const NONCE: [u8; 24] = [24; 24];

/// The bytes of the file; written when there is none yet, which fails so that nobody forgets to commit it.
#[track_caller]
fn golden(stream: &str, name: &str, bytes: &[u8]) -> Bytes {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("testdata/golden/{stream}.{name}.hex"));
    let Ok(text) = std::fs::read_to_string(&path) else {
        std::fs::write(&path, HEXLOWER.encode(bytes)).unwrap();
        panic!("{} did not exist and is written now: commit it", path.display());
    };
    HEXLOWER.decode(text.trim().as_bytes()).unwrap().into()
}

fn id<T: std::str::FromStr<Err = proto::InvalidId>>(number: u8) -> T {
    format!("01890a5d-ac96-774b-bcce-b302099a80{number:02x}").parse().unwrap()
}

fn event(kind: Kind, sealed: bool) -> Event {
    Event {
        id: id(1),
        tenant: "corp".parse().unwrap(),
        resource_type: "User".to_string(),
        resource_id: id(2),
        source: "okta".to_string(),
        actor: "k3y1d".to_string(),
        txn: "01890a5d-ac96-774b-bcce-b302099a8099".to_string(),
        occurred_at: Timestamp::from_microsecond(1_790_000_000_123_456).unwrap(),
        reason: String::new(),
        key_ref: sealed.then(|| "01890a5dac96774bbcceb302099a8057.7".parse().unwrap()),
        continued: false,
        kind,
    }
}

fn body() -> Body {
    Body {
        document: json!({"userName": "ada", "active": true}).as_object().unwrap().clone().into(),
        external_ids: [("okta".to_string(), "00u1".to_string())].into_iter().collect(),
        changes: vec![scim::Change { path: "active".to_string(), before: None, after: Some(json!(true)) }],
        caller_address: "127.0.0.1".to_string(),
        credentials: scim::Object::new(),
    }
}

#[test]
fn identity_events() {
    let kinds = [
        Kind::Created { members_added: vec![id(3)] },
        Kind::Updated { members_added: vec![id(3)], members_removed: vec![id(4)] },
        Kind::Deleted,
        Kind::MembersChanged { added: vec![id(3)], removed: vec![id(4)] },
        Kind::Moved { to_key: subject::key_of_id(id(5)) },
        Kind::Claimed { attribute: "badge".to_string() },
        Kind::Released { attribute: "badge".to_string() },
        Kind::CredentialsChanged,
        Kind::Erased,
        Kind::TenantDropped,
        Kind::PassedOver,
    ];
    for kind in kinds {
        let name = kind.name();
        // Spelled out, so that a new kind does not compile until it has an example above.
        let sealed = match kind {
            Kind::Created { .. }
            | Kind::Updated { .. }
            | Kind::Deleted
            | Kind::MembersChanged { .. }
            | Kind::CredentialsChanged => true,
            Kind::Moved { .. }
            | Kind::Claimed { .. }
            | Kind::Released { .. }
            | Kind::Erased
            | Kind::TenantDropped
            | Kind::PassedOver => false,
        };
        let (event, body, key) = (event(kind, sealed), body(), DataKey::new(KEY));
        let bytes = proto::codec::encode(&event, sealed.then_some((&body, &key, NONCE)));
        let read = proto::codec::decode(golden("identity", name, &bytes)).unwrap();
        assert_eq!(read.event, event);
        assert_eq!(read.is_sealed(), sealed);
        if sealed {
            assert_eq!(read.open(&key).unwrap(), body);
            assert!(!bytes.windows(3).any(|window| window == b"ada"));
        }
    }
}

#[test]
fn provisioning_events() {
    use provisioning::{Details, Event, Kind};
    let operation = || "create User".to_string();
    let kinds = [
        Kind::Intended { operation: operation() },
        Kind::Done {
            operation: operation(),
            linked: true,
            remote_id: "r1".to_string(),
            members_added: vec![id(3)],
            members_removed: vec![id(4)],
            members_replaced: true,
            status: 201,
        },
        Kind::Retrying {
            operation: operation(),
            attempt: 2,
            after_ms: 1500,
            error: "unavailable 503".to_string(),
        },
        Kind::Refused { operation: operation(), status: 400, error: "invalid".to_string() },
        Kind::Held { operation: operation(), reason: "ambiguous".to_string() },
        Kind::Released { actor: "operator".to_string() },
        Kind::ScopeEntered,
        Kind::ScopeLeft,
        Kind::Verified,
        Kind::Decided { operation: operation(), attributes: vec!["userName".to_string()] },
        Kind::PassedOver,
    ];
    for kind in kinds {
        let name = kind.name();
        let event = Event {
            id: id(1),
            tenant: "corp".parse().unwrap(),
            app: "demo".to_string(),
            resource_type: "User".to_string(),
            resource_id: id(2),
            txn: "t".to_string(),
            occurred_at: Timestamp::from_microsecond(1_790_000_000_123_456).unwrap(),
            key_ref: Some("01890a5dac96774bbcceb302099a8057.7".parse().unwrap()),
            caused_by: 17,
            configuration_hash: "abc".to_string(),
            why: "missing at the app".to_string(),
            kind,
        };
        let intended = scim::Object::clone(&body().document);
        let decided =
            if matches!(event.kind, Kind::Decided { .. }) { intended.clone() } else { scim::Object::new() };
        let details = Details { intended, detail: "words".to_string(), decided };
        let key = DataKey::new(KEY);
        let bytes = provisioning::encode(&event, Some((&details, &key, NONCE)));
        let read = provisioning::decode(golden("provisioning", name, &bytes)).unwrap();
        assert_eq!(read.event, event);
        assert_eq!(read.open(&key).unwrap(), details);
    }
}

#[test]
fn control_events() {
    use control::{Event, Kind};
    let kinds = [
        Kind::TokenCreated {
            credential: "k1".to_string(),
            hash: [5; 32],
            source: "okta".to_string(),
            dialect: "okta".to_string(),
            expires_at: Some(Timestamp::from_microsecond(1_890_000_000_000_000).unwrap()),
            description: "note".to_string(),
            user: None,
        },
        Kind::TokenRevoked { credential: "k1".to_string() },
        Kind::ConfigurationApplied { subject: "app/demo".to_string(), hash: "abc".to_string() },
        Kind::Operated {
            subject: "app/demo".to_string(),
            operation: "release".to_string(),
            detail: r#"{"delete":7}"#.to_string(),
        },
    ];
    for kind in kinds {
        let name = kind.name();
        let event = Event {
            id: id(1),
            tenant: "corp".parse().unwrap(),
            actor: "operator".to_string(),
            txn: "t".to_string(),
            occurred_at: Timestamp::from_microsecond(1_790_000_000_123_456).unwrap(),
            reason: "rotation".to_string(),
            ticket: "T-1".to_string(),
            kind,
        };
        assert_eq!(control::decode(golden("control", name, &control::encode(&event))).unwrap(), event);
    }
}

#[test]
fn what_cannot_be_read_is_an_error() {
    assert!(proto::codec::decode(Bytes::from_static(b"\xff\xff")).is_err());
    // An envelope whose kind is a field that this version does not know.
    let bytes = proto::codec::encode(&event(Kind::Deleted, false), None);
    let unknown: Vec<u8> = bytes.iter().copied().take(bytes.len() - 3).chain([0xaa, 0x06, 0x00]).collect();
    assert!(matches!(proto::codec::decode(unknown.into()), Err(proto::codec::Error::UnknownKind)));
}
