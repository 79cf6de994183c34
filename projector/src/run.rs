//! Following the log: read, open, apply, tell.

use std::time::{Duration, Instant};

use eventlog::Message;
use futures::StreamExt;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::projection::open;
use crate::row::{ReadRow, Row};
use crate::store::Facts;
use crate::writer::{TAIL_ROWS_MAX, Writer};
use crate::{Error, Projection};

/// Messages applied under one lock.
const CHUNK_MAX: usize = 256;
/// How often progress is told while far behind.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);
/// How long to wait for the store when the tail is full.
const TAIL_DELAY: Duration = Duration::from_millis(20);
/// How long to wait before keys are asked for again.
const AGAIN_DELAY: Duration = Duration::from_millis(200);

impl Projection {
    /// Follows the log until told to stop, then writes what is left. An event that cannot be read ends it: skipping
    /// would be data loss.
    pub async fn run(&self, shutdown: CancellationToken) -> Result<(), Error> {
        let writer = Writer::start(self.clone(), self.facts())?;
        let result = tokio::select! {
            result = self.follow() => result,
            () = shutdown.cancelled() => Ok(()),
        };
        writer.finish().await;
        result
    }

    async fn follow(&self) -> Result<(), Error> {
        let mut chunks = self.inner.log.follow(self.applied() + 1).ready_chunks(CHUNK_MAX);
        let mut told = Instant::now();
        let mut applied_since = 0;
        while let Some(chunk) = chunks.next().await {
            let messages: Vec<Message> = chunk.into_iter().collect::<Result<_, _>>()?;
            applied_since += messages.len();
            self.take(messages).await?;
            if told.elapsed() > PROGRESS_INTERVAL {
                if applied_since > 10 * CHUNK_MAX {
                    tracing::info!(applied = self.applied(), events = applied_since, "reading the log");
                }
                told = Instant::now();
                applied_since = 0;
            }
        }
        Ok(())
    }

    /// Opens messages, applies them under one lock, wakes whoever waits for them.
    async fn take(&self, messages: Vec<Message>) -> Result<(), Error> {
        let mut earliest = self.state().log_time;
        let mut rows = Vec::with_capacity(messages.len());
        for message in messages {
            let read = self.prepare(message, earliest).await?;
            earliest = read.row.time;
            rows.push(read);
        }
        let Some(last) = rows.last().map(|read| read.row.sequence) else { return Ok(()) };
        while self.state().tail.len() > TAIL_ROWS_MAX {
            tokio::time::sleep(TAIL_DELAY).await;
        }
        {
            let mut state = self.state_mut();
            for read in &rows {
                self.inner.hot.learn(read);
                state.apply(read);
            }
        }
        self.inner.applied.send_replace(last);
        metrics::gauge!("rollcall_projection_applied_sequence").set(last as f64);
        Ok(())
    }

    /// Keys that cannot be had at the moment are waited for; everything else that fails is the event's fault.
    async fn prepare(&self, message: Message, earliest: Timestamp) -> Result<ReadRow, Error> {
        let row = Row::of(message, earliest)?;
        let tenant = row.decode()?.event.tenant;
        loop {
            match open(&self.inner.keyring, &tenant, row.clone()).await {
                Err(Error::Log(error)) if error.is_retryable() => {
                    tracing::warn!(%error, sequence = row.sequence, "waiting for data keys");
                    tokio::time::sleep(AGAIN_DELAY).await;
                }
                result => return result,
            }
        }
    }

    fn facts(&self) -> Facts {
        self.inner.store.facts().unwrap_or_default()
    }
}
