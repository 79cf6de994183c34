//! One feed's worker: typed events from the log to a webhook, in order, signed, until they are taken.

mod event;
mod webhook;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use eventlog::clock;
use futures::StreamExt;
use tokio_util::sync::CancellationToken;

use crate::app::read_event;
use crate::config::{AfterRestore, FeedConfig, short_hash};
use crate::lease::{Lease, RENEW};
use crate::watermark::{self, Found};
use crate::{Error, Shared, Status};
use webhook::Webhook;

/// How often the cursor is written while events flow.
const SAVE_INTERVAL: Duration = Duration::from_millis(500);
/// How long to wait for another dispatcher's lease, or for the broker.
const AGAIN_DELAY: Duration = Duration::from_secs(1);
/// How long a delivery under way may still take when the process is told to stop.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// First delay after a delivery that was not taken; it doubles.
const RETRY_MIN: Duration = Duration::from_millis(500);
/// Longest delay.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// The worker of one feed.
pub(crate) struct Worker {
    /// With a prefix, so that an app and a feed of one name are two.
    name: String,
    config: FeedConfig,
    shared: Shared,
    webhook: Webhook,
    /// Whether it was said that the log is on another timeline.
    told: AtomicBool,
}

impl Worker {
    pub(crate) fn new(name: String, config: FeedConfig, shared: Shared) -> Result<Self, Error> {
        let name = format!("feed.{name}");
        let webhook = Webhook::new(&config).map_err(|source| Error::Client { name: name.clone(), source })?;
        Ok(Self { name, config, shared, webhook, told: AtomicBool::new(false) })
    }

    pub(crate) async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let mut lease = Lease::new(&self.name, &self.shared.holder);
        loop {
            let turn = tokio::select! {
                turn = self.turn(&mut lease, &shutdown) => turn,
                () = async { shutdown.cancelled().await; tokio::time::sleep(STOP_GRACE).await } => break,
            };
            match turn {
                Ok(()) => {}
                Err(Error::Log(error)) if error.is_retryable() => {
                    tracing::warn!(feed = self.name, %error, "the broker is away; trying again");
                }
                Err(error) => return Err(error),
            }
            tokio::select! {
                () = tokio::time::sleep(AGAIN_DELAY) => {}
                () = shutdown.cancelled() => break,
            }
        }
        lease.release(&*self.shared.broker.leases).await;
        Ok(())
    }

    /// As long as the lease is ours. Told to stop, it writes down what was taken, so that nothing is delivered again.
    async fn turn(&self, lease: &mut Lease, shutdown: &CancellationToken) -> Result<(), Error> {
        let broker = &self.shared.broker;
        if !lease.renew(&*broker.leases).await? {
            return Ok(());
        }
        let Some(from) = self.begin().await? else { return Ok(()) };
        let mut events = broker.identity.follow(from + 1);
        let (mut done, mut saved) = (from, from);
        let mut save = tokio::time::interval(SAVE_INTERVAL);
        let mut renew = tokio::time::interval(RENEW);
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {
                    if saved != done {
                        self.save(done).await?;
                    }
                    return Ok(());
                }
                _ = renew.tick() => if !lease.renew(&*broker.leases).await? { return Ok(()) },
                _ = save.tick() => {
                    if saved != done {
                        self.save(done).await?;
                        saved = done;
                    }
                    self.shared.tell(&self.name, Status { watermark: done, ..Status::default() });
                }
                message = events.next() => {
                    let Some(message) = message.transpose()? else { return Ok(()) };
                    let sequence = message.sequence;
                    match self.deliver(message, lease, shutdown).await? {
                        Delivered::Taken => done = sequence,
                        Delivered::Stopped => {}
                        Delivered::LeaseLost => return Ok(()),
                    }
                }
            }
        }
    }

    /// Where to go on; nothing when the log is on another timeline, which a subscriber must not be told as if it were
    /// the same.
    async fn begin(&self) -> Result<Option<u64>, Error> {
        let broker = &self.shared.broker;
        match watermark::load(broker, &self.name).await? {
            Found::Trusted(found) => Ok(Some(found.position.map_or(0, |position| position.sequence))),
            Found::None => {
                let from = if self.config.from_start { 0 } else { broker.identity.last_sequence().await? };
                self.save(from).await?;
                Ok(Some(from))
            }
            Found::Restored(found) if self.config.after_restore == AfterRestore::GoOn => {
                let from = found.position.map_or(0, |position| position.sequence);
                tracing::warn!(
                    feed = self.name,
                    from,
                    "the log was restored from a backup; the feed goes on where it was then, and its subscriber may have \
                     heard what never happened"
                );
                self.save(from).await?;
                Ok(Some(from))
            }
            Found::Restored(_) => {
                self.stopped(
                    "the log was restored from a backup, and the subscriber may have heard what never happened; tell it, \
                     then set after_restore = \"go_on\" for this feed",
                );
                Ok(None)
            }
            Found::OtherTimeline => {
                self.stopped(
                    "the log is on another timeline than this feed's cursor; remove the cursor from the bucket LEASES to \
                     begin anew",
                );
                Ok(None)
            }
        }
    }

    /// Says why nothing goes on: once in the log, and in the status for as long as it is so.
    fn stopped(&self, why: &str) {
        if !self.told.swap(true, Ordering::Relaxed) {
            tracing::error!(feed = self.name, why, "the feed is stopped");
        }
        self.shared.tell(&self.name, Status { waiting_for: Some(why.to_string()), ..Status::default() });
    }

    async fn save(&self, sequence: u64) -> Result<(), Error> {
        let broker = &self.shared.broker;
        let hash = short_hash(self.config.url.as_str().as_bytes());
        Ok(watermark::save(broker, &self.name, sequence, &hash).await?)
    }

    /// Delivers what a message means, in order, until it is taken.
    async fn deliver(
        &self,
        message: eventlog::Message,
        lease: &mut Lease,
        shutdown: &CancellationToken,
    ) -> Result<Delivered, Error> {
        let time = message.time;
        let (event, body) = read_event(&self.shared, message).await?;
        if event.tenant != self.config.tenant {
            return Ok(Delivered::Taken);
        }
        for (id, told) in event::of(&event, body.as_ref(), time, &self.config.attributes) {
            let text = told.to_string();
            let mut delay = RETRY_MIN;
            let mut renewed = std::time::Instant::now();
            while let Err(error) = self.webhook.post(&id, &text, clock::now()).await {
                tracing::warn!(
                    feed = self.name,
                    event.id = id,
                    error,
                    "a delivery was not taken; trying again"
                );
                metrics::counter!("rollcall_feed_failures_total", "feed" => self.name.clone()).increment(1);
                self.shared
                    .tell(&self.name, Status { due: 1, waiting_for: Some(error), ..Status::default() });
                tokio::select! {
                    () = tokio::time::sleep(delay) => {}
                    () = shutdown.cancelled() => return Ok(Delivered::Stopped),
                }
                delay = (delay * 2).min(RETRY_MAX).min(RENEW);
                if renewed.elapsed() > RENEW / 2 {
                    if !lease.renew(&*self.shared.broker.leases).await? {
                        return Ok(Delivered::LeaseLost);
                    }
                    renewed = std::time::Instant::now();
                }
            }
            metrics::counter!("rollcall_feed_deliveries_total", "feed" => self.name.clone()).increment(1);
        }
        Ok(Delivered::Taken)
    }
}

/// How the delivery of a message ended.
enum Delivered {
    /// The subscriber has taken all of it.
    Taken,
    /// The process stops first.
    Stopped,
    /// Another dispatcher delivers now.
    LeaseLost,
}
