//! Following the log: read, open, apply, tell.

use std::pin::pin;
use std::time::{Duration, Instant};

use eventlog::Message;
use futures::StreamExt;
use tokio_util::sync::CancellationToken;

use crate::chunks::{CHUNK_MESSAGES_MAX, chunks};
use crate::reader::{Locked, Now};
use crate::row::Row;
use crate::settle::End;
use crate::state::{Told, is_history};
use crate::writer::Writer;
use crate::{Error, Projection};

/// So many messages at once are opened by a thread of their own, while others are applied.
const ASIDE_FROM: usize = 64;
/// Chunks that are opened at the same time.
const ASIDE_MAX: usize = 3;
/// How often progress is told while far behind.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);
/// How long to wait at most for the store when the tail is full, before looking again.
const TAIL_DELAY: Duration = Duration::from_millis(20);
/// How long the log may be silent before what it did not confirm is asked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How often in a row it may be missing.
const MISSING_MAX: u32 = 10;
/// How long to wait before keys are asked for again.
const AGAIN_DELAY: Duration = Duration::from_millis(200);

/// A message that was prepared, or one whose key must be fetched first.
enum Prepared {
    Told(Told),
    Locked { locked: Box<Locked>, broker: jiff::Timestamp },
}

impl Projection {
    /// Follows the log until told to stop, or until the sequence that the configuration ends at, then writes what is
    /// left. An event that cannot be read ends it: skipping would be data loss. So does a store that cannot be written any
    /// more although there is room.
    pub async fn run(&self, shutdown: CancellationToken) -> Result<(), Error> {
        let mut following = pin!(self.follow());
        if self.is_filling() {
            // Rows come in their order: those of the snapshot first. Who ends before they are there begins again.
            tokio::select! {
                result = &mut following => return result,
                result = self.fill() => result?,
                () = shutdown.cancelled() => return Ok(()),
            }
        }
        let mut writer = Writer::start(self.clone())?;
        let result = tokio::select! {
            result = following => result,
            () = shutdown.cancelled() => Ok(()),
            // Nothing would be heard once the tail is full.
            error = writer.failed() => return Err(error),
        };
        let finished = writer.finish().await;
        result.and(finished)
    }

    async fn follow(&self) -> Result<(), Error> {
        // What was shown from its acknowledgement is still to be confirmed.
        let confirmed = self.state().confirmed;
        let rest = self.inner.until.map_or(u64::MAX, |until| until.saturating_sub(confirmed));
        let messages = self.inner.log.follow(confirmed + 1).take(usize::try_from(rest).unwrap_or(usize::MAX));
        let mut chunks = pin!(chunks(messages).map(|chunk| self.prepare(chunk)).buffered(ASIDE_MAX));
        let mut told = Instant::now();
        let mut applied_since = 0;
        // The beginning of a command whose end did not come yet.
        let mut begun = Vec::new();
        let mut missing = 0;
        let mut end = End::unknown();
        self.settle_at_end(&mut end).await;
        loop {
            let Ok(chunk) = tokio::time::timeout(LOOK_INTERVAL, chunks.next()).await else {
                self.look_after_own(&mut missing).await?;
                continue;
            };
            // A command that goes on after the last sequence is not shown at all.
            let Some(chunk) = chunk else { return Ok(()) };
            missing = 0;
            let (prepared, error) = chunk;
            applied_since += prepared.len();
            for prepared in prepared {
                begun.push(match prepared {
                    Prepared::Told(told) => told,
                    Prepared::Locked { locked, broker } => self.unlock(*locked, broker).await?,
                });
            }
            if let Some(last) = begun.iter().rposition(|told| !told.continued()) {
                let rest = begun.split_off(last + 1);
                self.hear(std::mem::replace(&mut begun, rest), &mut end).await?;
            }
            if let Some(error) = error {
                return Err(error);
            }
            if told.elapsed() > PROGRESS_INTERVAL {
                if applied_since > 10 * CHUNK_MESSAGES_MAX {
                    let seconds = told.elapsed().as_secs_f64();
                    tracing::info!(
                        applied = self.applied(),
                        events = applied_since,
                        per_second = (applied_since as f64 / seconds).round(),
                        "reading the log"
                    );
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
    async fn hear(&self, told: Vec<Told>, end: &mut End) -> Result<(), Error> {
        while self.state().is_full() {
            let _ = tokio::time::timeout(TAIL_DELAY, self.inner.written.notified()).await;
        }
        let later = is_history(&told);
        end.hears(later);
        let entered = self.state_mut().hear(told, later)?;
        // Who waits for the last of a history may ask the indexes at once.
        self.settle_at_end(end).await;
        self.entered(entered, later);
        metrics::gauge!("rollcall_projection_applied_sequence").set(self.applied() as f64);
        Ok(())
    }

    /// Reads messages: few where they come, many on a thread of their own. What could be read before an error is given
    /// with it.
    async fn prepare(
        &self,
        messages: Vec<Result<Message, eventlog::Error>>,
    ) -> (Vec<Prepared>, Option<Error>) {
        let aside = messages.len() >= ASIDE_FROM && !self.inner.store.is_memory();
        let projection = self.clone();
        let (mut prepared, mut error) =
            self.on_a_thread(aside, move || projection.prepare_all(messages)).await;
        let mut is_locked = false;
        for one in &prepared {
            if let Prepared::Locked { locked, .. } = one {
                is_locked = true;
                // What fails here is tried again when its turn comes.
                let _ = self.inner.reader.fetch(locked).await;
            }
        }
        if is_locked {
            let projection = self.clone();
            let again = move || {
                let mut read = Vec::with_capacity(prepared.len());
                for one in prepared {
                    match projection.try_unlock(one) {
                        Ok(one) => read.push(one),
                        Err(error) => return (read, Some(error)),
                    }
                }
                (read, None)
            };
            let (read, failed) = self.on_a_thread(aside, again).await;
            (prepared, error) = (read, failed.or(error));
        }
        (prepared, error)
    }

    async fn on_a_thread(
        &self,
        aside: bool,
        work: impl FnOnce() -> (Vec<Prepared>, Option<Error>) + Send + 'static,
    ) -> (Vec<Prepared>, Option<Error>) {
        if !aside {
            return work();
        }
        match tokio::task::spawn_blocking(work).await {
            Ok(prepared) => prepared,
            Err(error) => {
                let reason = format!("reading it ended unexpectedly: {error}");
                (Vec::new(), Some(Error::Stranger { sequence: self.applied() + 1, reason }))
            }
        }
    }

    fn try_unlock(&self, prepared: Prepared) -> Result<Prepared, Error> {
        let Prepared::Locked { locked, broker } = prepared else { return Ok(prepared) };
        Ok(Prepared::of(self.inner.reader.unlock_now(*locked)?, broker))
    }

    fn prepare_all(&self, messages: Vec<Result<Message, eventlog::Error>>) -> (Vec<Prepared>, Option<Error>) {
        let mut prepared = Vec::with_capacity(messages.len());
        for message in messages {
            match message.map_err(Error::from).and_then(|message| self.prepare_one(message)) {
                Ok(one) => prepared.push(one),
                Err(error) => return (prepared, Some(error)),
            }
        }
        (prepared, None)
    }

    /// Reads a message, unless it was applied before. What fails is the event's fault.
    fn prepare_one(&self, message: Message) -> Result<Prepared, Error> {
        let (broker, id) = (message.time, message.id);
        if message.sequence <= self.applied() {
            return Ok(Prepared::Told(Told::Again { sequence: message.sequence, id, broker }));
        }
        let row = Row::of(message)?;
        if let Some(read) = id.and_then(|id| self.inner.own.take(&row, id)) {
            return Ok(Prepared::Told(Told::New { read: Box::new(read), broker, own: true }));
        }
        Ok(Prepared::of(self.inner.reader.read_now(row)?, broker))
    }

    /// Reads a message whose key is not at hand. Keys that cannot be had at the moment are waited for.
    async fn unlock(&self, mut locked: Locked, broker: jiff::Timestamp) -> Result<Told, Error> {
        loop {
            match self.inner.reader.fetch(&locked).await {
                Err(Error::Log(error)) if error.is_retryable() => {
                    tracing::warn!(%error, sequence = locked.row().sequence, "waiting for data keys");
                    tokio::time::sleep(AGAIN_DELAY).await;
                    continue;
                }
                result => result?,
            }
            match self.inner.reader.unlock_now(locked)? {
                Now::Read(read) => return Ok(Told::New { read, broker, own: false }),
                // Keys were forgotten meanwhile.
                Now::Locked(again) => locked = *again,
            }
        }
    }
}

impl Prepared {
    fn of(now: Now, broker: jiff::Timestamp) -> Self {
        match now {
            Now::Read(read) => Self::Told(Told::New { read, broker, own: false }),
            Now::Locked(locked) => Self::Locked { locked, broker },
        }
    }
}
