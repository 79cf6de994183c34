//! The same logs and buckets in memory, with seeded faults: for tests that need a broker's answers but not a broker.
//!
//! A [`Cluster`] holds the streams and buckets; each process that is connected to it has a [`Line`] of its own, on which a
//! seed decides what goes wrong. Everything waits in tokio's time, so a test whose time is paused runs as fast as it can.

mod bucket;
mod chance;
mod line;
mod log;
mod objects;
mod stream;

use std::sync::Arc;

use bucket::Values;

pub use bucket::MemoryBucket;
pub use chance::Chance;
pub use line::{Line, Weather};
pub use log::MemoryLog;
pub use objects::MemoryObjects;
pub use stream::Stream;

use crate::{Broker, Bucket, Committer, Error, Health, Log, WAITING_MAX};

/// Lost acknowledgements, chosen by a seed that a failing test prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// The seed; 0 means no faults.
    pub seed: u64,
}

/// A broker in memory, alone with one process.
pub fn broker(faults: Faults) -> Broker {
    Cluster::default().wired(&Arc::new(Line::from(faults)), |log| Arc::new(log))
}

/// What a broker in memory holds, whoever is connected to it.
#[derive(Clone, Default)]
pub struct Cluster {
    /// What happened to people and groups.
    pub identity: Stream,
    /// What was done to apps.
    pub provisioning: Stream,
    control: Stream,
    keys: Values,
    leases: Values,
    requests: Values,
    completions: Values,
    rollcall: Values,
    snapshots: MemoryObjects,
}

impl Cluster {
    /// The broker as one process sees it, with group commit as over the real one.
    pub fn connect(&self, line: &Arc<Line>) -> Broker {
        self.wired(line, |log| Arc::new(Committer::new(Arc::new(log), WAITING_MAX)))
    }

    fn wired(&self, line: &Arc<Line>, wrapped: impl Fn(MemoryLog) -> Arc<dyn Log>) -> Broker {
        let log = |name: &str, stream: &Stream| MemoryLog::over(name, stream.clone(), line.clone());
        let bucket = |values: &Values| -> Arc<dyn Bucket> {
            Arc::new(MemoryBucket::over(values.clone(), line.clone()))
        };
        Broker {
            identity: wrapped(log("IDENTITY", &self.identity)),
            provisioning: wrapped(log("PROVISIONING", &self.provisioning)),
            control: Arc::new(log("CONTROL", &self.control)),
            keys: bucket(&self.keys),
            leases: bucket(&self.leases),
            requests: bucket(&self.requests),
            completions: bucket(&self.completions),
            rollcall: bucket(&self.rollcall),
            snapshots: Arc::new(self.snapshots.clone()),
            timeline: None,
            health: Arc::new(Always),
        }
    }
}

struct Always;

#[async_trait::async_trait]
impl Health for Always {
    fn reachable(&self) -> bool {
        true
    }

    fn clock_skew_ms(&self) -> i64 {
        0
    }

    async fn verify(&self) -> Result<(), Error> {
        Ok(())
    }
}
