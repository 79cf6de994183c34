//! Following the log: read, open, apply, tell.

use std::time::{Duration, Instant};

use eventlog::Message;
use futures::StreamExt;
use tokio_util::sync::CancellationToken;

use crate::row::{ReadRow, Row};
use crate::state::Told;
use crate::store::Facts;
use crate::writer::{TAIL_ROWS_MAX, Writer};
use crate::{Error, Projection};

/// Messages applied under one lock.
const CHUNK_MAX: usize = 256;
/// How often progress is told while far behind.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);
/// How long to wait for the store when the tail is full.
const TAIL_DELAY: Duration = Duration::from_millis(20);
/// How long the log may be silent before what it did not confirm is asked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How often in a row it may be missing.
const MISSING_MAX: u32 = 10;
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
        // What was shown from its acknowledgement is still to be confirmed.
        let confirmed = self.state().confirmed;
        let mut chunks = self.inner.log.follow(confirmed + 1).ready_chunks(CHUNK_MAX);
        let mut told = Instant::now();
        let mut applied_since = 0;
        // The beginning of a command whose end did not come yet.
        let mut begun = Vec::new();
        let mut missing = 0;
        loop {
            let Ok(chunk) = tokio::time::timeout(LOOK_INTERVAL, chunks.next()).await else {
                self.look_after_own(&mut missing).await?;
                continue;
            };
            let Some(chunk) = chunk else { return Ok(()) };
            missing = 0;
            applied_since += chunk.len();
            for message in chunk {
                begun.push(self.prepare(message?).await?);
            }
            if let Some(last) = begun.iter().rposition(|told| !told.continued()) {
                let rest = begun.split_off(last + 1);
                self.hear(std::mem::replace(&mut begun, rest)).await?;
            }
            if told.elapsed() > PROGRESS_INTERVAL {
                if applied_since > 10 * CHUNK_MAX {
                    tracing::info!(applied = self.applied(), events = applied_since, "reading the log");
                }
                told = Instant::now();
                applied_since = 0;
            }
        }
    }

    /// The log is silent. What was shown from its acknowledgement must stand there all the same: a log that was restored
    /// underneath forgot it.
    async fn look_after_own(&self, missing: &mut u32) -> Result<(), Error> {
        let Some((sequence, event)) = self.state().unconfirmed() else { return Ok(()) };
        match self.inner.log.read(sequence).await {
            Ok(Some(message)) if message.id == Some(event) => *missing = 0,
            Ok(Some(_)) => return Err(Error::Replaced { sequence }),
            // A new leader may have to catch up first.
            Ok(None) if *missing >= MISSING_MAX => return Err(Error::Replaced { sequence }),
            Ok(None) => *missing += 1,
            Err(_) => {}
        }
        Ok(())
    }

    /// Applies whole commands under one lock and wakes whoever waits for them.
    async fn hear(&self, told: Vec<Told>) -> Result<(), Error> {
        while self.state().tail.len() > TAIL_ROWS_MAX {
            tokio::time::sleep(TAIL_DELAY).await;
        }
        let entered = self.state_mut().hear(told)?;
        self.entered(entered);
        metrics::gauge!("rollcall_projection_applied_sequence").set(self.applied() as f64);
        Ok(())
    }

    /// Reads a message, unless it was applied before. Keys that cannot be had at the moment are waited for; everything
    /// else that fails is the event's fault.
    async fn prepare(&self, message: Message) -> Result<Told, Error> {
        let (broker, id) = (message.time, message.id);
        if message.sequence <= self.applied() {
            return Ok(Told::Again { sequence: message.sequence, id, broker });
        }
        let row = Row::of(message)?;
        if let Some(read) = id.and_then(|id| self.inner.own.take(&row, id)) {
            return Ok(Told::New { read: Box::new(read), broker, own: true });
        }
        let tenant = row.decode()?.event.tenant;
        loop {
            match ReadRow::open(&self.inner.keyring, &tenant, row.clone()).await {
                Err(Error::Log(error)) if error.is_retryable() => {
                    tracing::warn!(%error, sequence = row.sequence, "waiting for data keys");
                    tokio::time::sleep(AGAIN_DELAY).await;
                }
                result => return Ok(Told::New { read: Box::new(result?), broker, own: false }),
            }
        }
    }

    fn facts(&self) -> Facts {
        self.inner.store.facts().unwrap_or_default()
    }
}
