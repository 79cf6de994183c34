//! Logs and buckets on NATS JetStream. Everything that depends on the server's habits is in this folder.

mod aside;
mod authority;
mod backup;
mod buckets;
mod connect;
mod ends;
mod follow;
mod health;
mod impatient;
mod log;
mod manifest;
mod objects;
mod patience;
mod publish;
mod restore;
mod settings;
mod several;
mod stands;
mod store;

pub use backup::{Progress, Told, backup};
pub use connect::{CONNECT_TIMEOUT, Config, READY_TIMEOUT, connect};
pub use health::CLOCK_SKEW_MAX;
pub use manifest::{Backup, Entry, MANIFEST, Manifest, STREAMS, SecretProof};
pub use restore::restore;
pub use settings::{PAYLOAD_MIN_BYTES, SERVER_VERSION_MIN};

use crate::Error;

/// Something failed that may work a moment later.
fn unavailable(doing: impl Into<String>, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Unavailable { doing: doing.into(), source: Some(Box::new(error)) }
}
