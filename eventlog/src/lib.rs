//! The log: append under a guard, read, follow; buckets of keys; the managed broker; the same log in memory.
//!
//! It knows no SCIM rule. Start reading at [`Log`]: the contract, which one suite tests on the real broker and on
//! the log in memory. Everything that depends on the broker's habits is in `nats/`.

pub mod clock;
pub mod file;
pub mod memory;
pub mod nats;
pub mod server;

mod bucket;
mod committer;
mod keyring;
mod last;
mod lately;
mod log;
pub mod objects;
pub mod passed_over;
mod secret;
mod timeline;

pub use bucket::Bucket;
pub use committer::{Committer, WAITING_MAX};
pub use keyring::Keyring;
pub use last::LastSequence;
pub use lately::Lately;
pub use log::{Append, Error, Guard, Headers, Log, Message};
pub use objects::Objects;
pub use secret::{is_begun, read_subject_secret, subject_secret};
pub use timeline::Timeline;

use std::sync::Arc;

/// Every stream and bucket.
#[derive(Clone)]
pub struct Broker {
    /// What happened to people and groups.
    pub identity: Arc<dyn Log>,
    /// What we did to the outside world.
    pub provisioning: Arc<dyn Log>,
    /// What operators did.
    pub control: Arc<dyn Log>,
    /// Data keys, in pages.
    pub keys: Arc<dyn Bucket>,
    /// Who does what at the moment, and the watermarks of apps and feeds.
    pub leases: Arc<dyn Bucket>,
    /// Requests that were accepted and are not carried out yet.
    pub requests: Arc<dyn Bucket>,
    /// What came of them, for a day.
    pub completions: Arc<dyn Bucket>,
    /// The subject secret and other facts about the whole.
    pub rollcall: Arc<dyn Bucket>,
    /// Snapshots of projections.
    pub snapshots: Arc<dyn Objects>,
    /// What the last restore from a backup left behind.
    pub timeline: Option<Timeline>,
    pub(crate) health: Arc<dyn Health>,
}

impl Broker {
    /// Whether the broker can be reached now.
    pub fn reachable(&self) -> bool {
        self.health.reachable()
    }

    /// How many milliseconds the broker's clock was ahead of ours when it was last looked at.
    pub fn clock_skew_ms(&self) -> i64 {
        self.health.clock_skew_ms()
    }

    /// Reads the server's version and every stream's configuration back and compares them with what was asked for;
    /// a stream must also be the one that it was, and no shorter. Looks at the broker's clock.
    pub async fn verify(&self) -> Result<(), Error> {
        self.health.verify().await
    }
}

/// What can be asked of the connection as a whole.
#[async_trait::async_trait]
pub(crate) trait Health: Send + Sync {
    fn reachable(&self) -> bool;
    fn clock_skew_ms(&self) -> i64;
    async fn verify(&self) -> Result<(), Error>;
}
