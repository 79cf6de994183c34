//! SCIM over HTTP: authenticate, make a command, decide, append, answer.
//!
//! It knows no app. Start reading at `execute.rs`; what is permitted is in `decide/` and nowhere else, what goes
//! over the wire is in `http/`.

#![forbid(unsafe_code)]

mod batch;
mod certificate;
mod command;
mod company;
mod connections;
mod cursor;
mod decide;
mod execute;
mod forgotten;
mod fresh;
mod http;
mod later;
mod limits;
mod make;
mod messages;
mod policy;
mod rival;
mod room;
mod serve;
mod tokens;

pub use command::{Caller, Heard};
pub use connections::{Connections, Refusal};
pub use limits::Limits;
pub use make::Unmade;
pub use policy::{Policies, SourcePolicy, TenantPolicy, UnknownAttributes};
pub use serve::{Bound, Config, Error, Tls};
pub use tokens::{Minted, Token, Tokens, mint, read_tokens, revoke};

use std::sync::Arc;
use std::time::Duration;

use cursor::Cursors;
use eventlog::{Broker, Keyring};
use projector::Projection;
use proto::subject::SubjectSecret;
use room::Room;
use scim::Registry;
use tokio::sync::Semaphore;

/// Everything a request needs. Cheap to clone.
#[derive(Clone)]
pub struct Gateway {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) broker: Broker,
    pub(crate) projection: Projection,
    pub(crate) keyring: Keyring,
    pub(crate) secret: SubjectSecret,
    pub(crate) registry: Arc<Registry>,
    pub(crate) tokens: Tokens,
    pub(crate) limits: Limits,
    pub(crate) policies: Policies,
    pub(crate) cursors: Cursors,
    /// Room in memory for large bodies and answers.
    pub(crate) room: Room,
    /// How many accepted requests may still be taken on.
    pub(crate) under_way: Arc<Semaphore>,
    pub(crate) public_url: Option<String>,
    pub(crate) behind_proxy: bool,
    pub(crate) announce_security_events: bool,
    pub(crate) tls: bool,
}

/// What a gateway is built from.
pub struct Parts {
    /// The streams and buckets.
    pub broker: Broker,
    /// The directory that it reads.
    pub projection: Projection,
    /// The data keys.
    pub keyring: Keyring,
    /// What makes keys of names.
    pub secret: SubjectSecret,
    /// The schemas.
    pub registry: Arc<Registry>,
    /// The credentials.
    pub tokens: Tokens,
}

impl Gateway {
    /// Wires a gateway; nothing runs yet.
    pub fn new(config: &Config, parts: Parts) -> Self {
        let Parts { broker, projection, keyring, secret, registry, tokens } = parts;
        let cursors = Cursors::new(&secret, Duration::from_secs(config.limits.cursor_timeout_s));
        Self {
            inner: Arc::new(Inner {
                cursors,
                room: Room::new(config.limits.memory_bytes_max),
                under_way: Arc::new(Semaphore::new(config.limits.async_requests_max)),
                broker,
                projection,
                keyring,
                secret,
                registry,
                tokens,
                limits: config.limits.clone(),
                policies: config.policies.clone(),
                public_url: config.public_url.as_ref().map(|url| url.trim_end_matches('/').to_string()),
                behind_proxy: config.behind_proxy,
                announce_security_events: config.announce_security_events,
                tls: config.tls.is_some(),
            }),
        }
    }
}
