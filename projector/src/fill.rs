//! Fetching the rows of a directory that began with a snapshot: from the log, behind whoever asks meanwhile.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures::StreamExt;
use jiff::Timestamp;
use proto::{Kind, Position, Tenant, log_time};

use crate::chunks::chunks;
use crate::row::Row;
use crate::store::{Doubt, Facts};
use crate::{Error, Projection};

/// How often progress is told.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

impl Projection {
    /// Whether rows are still to be fetched: until then the log is asked for them.
    pub fn is_filling(&self) -> bool {
        self.inner.filling.load(Ordering::Acquire) != 0
    }

    /// Fetches the rows up to the snapshot. Only when all are there the store is one that can be opened again.
    pub(crate) async fn fill(&self) -> Result<(), Error> {
        let to = self.inner.filling.load(Ordering::Acquire);
        let too_short = || Error::Snapshot { reason: format!("the log ends before its position {to}") };
        let (begun, mut told) = (Instant::now(), Instant::now());
        let mut facts = Facts::default();
        let (mut dropped, mut before) = (BTreeMap::new(), Timestamp::MIN);
        let mut chunks = pin!(chunks(self.inner.log.follow(1)));
        loop {
            // A log ends for nobody who follows it; one that does must not pass for whole.
            let chunk = chunks.next().await.ok_or_else(too_short)?;
            let mut rows: BTreeMap<Tenant, Vec<Row>> = BTreeMap::new();
            let mut last = None;
            for message in chunk {
                let message = message?;
                if message.sequence > to {
                    break;
                }
                let (sequence, broker) = (message.sequence, message.time);
                let mut row = Row::of(message)?;
                let event = row.decode()?.event;
                row.time = log_time(before, event.occurred_at, broker);
                before = row.time;
                if matches!(event.kind, Kind::TenantDropped) {
                    dropped.insert(event.tenant.clone(), sequence);
                }
                last = Some(Position { sequence, event: event.id });
                rows.entry(event.tenant).or_default().push(row);
            }
            let position = last.ok_or_else(too_short)?;
            facts = facts.with(&rows, &dropped, position);
            dropped.clear();
            let is_last = position.sequence >= to;
            self.keep(rows, if is_last { facts.clone() } else { facts.unfinished() }).await?;
            if is_last {
                // What is written behind them counts on them.
                self.flushed().await?;
                break;
            }
            if told.elapsed() > PROGRESS_INTERVAL {
                tracing::info!(rows = position.sequence, of = to, "fetching the rows of the snapshot");
                told = Instant::now();
            }
        }
        self.inner.filling.store(0, Ordering::Release);
        tracing::info!(
            rows = to,
            duration_ms = begun.elapsed().as_millis(),
            "the rows of the snapshot are there"
        );
        Ok(())
    }

    async fn keep(&self, rows: BTreeMap<Tenant, Vec<Row>>, facts: Facts) -> Result<(), Error> {
        let inner = self.inner.clone();
        self.aside(move || inner.store.write(&rows, &facts)).await
    }

    async fn flushed(&self) -> Result<(), Error> {
        let inner = self.inner.clone();
        self.aside(move || inner.store.flush()).await
    }

    async fn aside(&self, write: impl FnOnce() -> Result<(), Doubt> + Send + 'static) -> Result<(), Error> {
        let written = tokio::task::spawn_blocking(write).await;
        let failed = |reason: String| self.folder_error(reason);
        written.map_err(|error| failed(error.to_string()))?.map_err(|doubt| failed(doubt.to_string()))
    }
}
