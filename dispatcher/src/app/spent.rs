//! What was spent of an app's budgets, written down beside its watermark and read by whoever goes on. So a day's budget is a
//! day's, however often the process is restarted and whoever works for the app.
//!
//! It is written every few seconds while calls are made, and at an orderly end; after a kill what came since is forgotten.

use std::time::Duration;

use eventlog::clock;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::Worker;
use crate::Error;
use crate::budget::Spent;

/// How long there is between two records.
const KEEP_INTERVAL: Duration = Duration::from_secs(5);

/// What stands in the bucket.
#[derive(Deserialize, Serialize)]
struct Record {
    at: Timestamp,
    spent: Spent,
}

/// What was written last.
#[derive(Default)]
pub(super) struct Memory {
    at: Option<Instant>,
    /// How many calls there had been.
    calls: u64,
}

/// Where it stands.
fn key(name: &str) -> String {
    format!("budget.{name}")
}

impl Worker {
    /// What was spent before counts. A record that cannot be read is as none.
    pub(super) async fn recall_spent(&self) -> Result<Memory, Error> {
        let purse = &self.app.purse;
        let memory = Memory { at: None, calls: purse.calls() };
        if !purse.is_remembered() {
            return Ok(memory);
        }
        let found = self.shared.broker.leases.get(&key(&self.name)).await?;
        let record = found.and_then(|(bytes, _)| serde_json::from_slice::<Record>(&bytes).ok());
        if let Some(Record { at, spent }) = record {
            // A clock that was set back makes nothing come sooner.
            let ago = Duration::try_from(clock::now().duration_since(at)).unwrap_or_default();
            purse.recall(&spent, ago, Instant::now());
        }
        Ok(memory)
    }

    /// Writes it down, if it is time and there were calls since.
    pub(super) async fn keep_spent(&self, memory: &mut Memory) {
        let is_early = memory.at.is_some_and(|at| at.elapsed() < KEEP_INTERVAL);
        if is_early || self.app.purse.calls() == memory.calls {
            return;
        }
        *memory = Memory { at: Some(Instant::now()), calls: self.app.purse.calls() };
        self.write_spent().await;
    }

    /// All of it, as at an orderly end. Work does not stop for it: what is not written now is written next time.
    pub(super) async fn write_spent(&self) {
        if let Err(error) = self.try_to_write_spent().await {
            tracing::warn!(app = self.name, %error, "what was spent of its budget is not written down");
        }
    }

    async fn try_to_write_spent(&self) -> Result<(), Error> {
        let purse = &self.app.purse;
        if !purse.is_remembered() || purse.calls() == 0 {
            return Ok(());
        }
        let (leases, key) = (&self.shared.broker.leases, key(&self.name));
        let record = Record { at: clock::now(), spent: purse.spent(Instant::now()) };
        let value = serde_json::to_vec(&record).unwrap_or_default();
        match leases.get(&key).await? {
            None => leases.create(&key, value.into()).await?,
            Some((_, revision)) => leases.update(&key, value.into(), revision).await?,
        };
        Ok(())
    }
}
