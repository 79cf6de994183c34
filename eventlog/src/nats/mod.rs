//! Logs and buckets on NATS JetStream. Everything that depends on the server's habits is in this folder.

mod connect;
mod follow;
mod log;
mod patience;
mod publish;
mod settings;
mod store;

pub use connect::{Config, connect};
pub use settings::SERVER_VERSION_MIN;

use crate::Error;

/// Something failed that may work a moment later.
fn unavailable(doing: impl Into<String>, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Unavailable { doing: doing.into(), source: Some(Box::new(error)) }
}
