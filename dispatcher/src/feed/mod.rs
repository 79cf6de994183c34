//! One feed's worker: typed events from the log to a webhook, signed, in the order of each resource, until they are taken.
//!
//! A feed does one thing after the other: a snapshot, a replay, the log as it grows. Each is a *leg*, which ends when
//! everything of it was taken or is held. Start reading at `queue.rs`, which knows what may go next; what is told is
//! derived in `event.rs`.

mod catalogue;
mod cursor;
mod document;
mod event;
mod instruction;
mod leg;
mod obey;
mod pause;
mod queue;
mod source;
mod view;
mod webhook;

pub use cursor::{FeedState, Stopped, Work};
pub use instruction::{Feeds, Instructed, Instruction};
pub use queue::{Held, Origin, Waiting};
pub(crate) use view::mistakes;
pub(crate) use webhook::secret_mistake;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use eventlog::clock;
use tokio_util::sync::CancellationToken;

use crate::config::{AfterRestore, Begin, FeedConfig};
use crate::gauges::FEED;
use crate::lease::Lease;
use crate::watermark::{self, Found, Watermark};
use crate::{Error, Shared, Status};
use cursor::Cursor;
use leg::Ended;
use pause::Pause;
use queue::Queue;
use source::Source;
use view::View;
use webhook::Webhook;

/// How long to wait for another dispatcher's lease, or for the broker.
const AGAIN_DELAY: Duration = Duration::from_secs(1);
/// How long a feed may take to end after it was told to.
const STOP_GRACE: Duration = Duration::from_secs(8);

/// The worker of one feed.
pub(crate) struct Worker {
    /// With a prefix, so that an app and a feed of one name are two.
    name: String,
    /// Without it.
    feed: String,
    config: FeedConfig,
    shared: Shared,
    source: Source,
    webhook: Arc<Webhook>,
    /// Whether it was said in the log why nothing goes on.
    told: AtomicBool,
}

/// A feed at work: what lasts from leg to leg.
struct Desk {
    cursor: Cursor,
    queue: Queue,
    pause: Pause,
}

impl Worker {
    pub(crate) fn new(feed: String, config: FeedConfig, shared: Shared) -> Result<Self, Error> {
        let name = format!("{FEED}{feed}");
        let webhook = Webhook::new(&config).map_err(|source| Error::Client { name: name.clone(), source })?;
        let view = Arc::new(View::new(&config, &shared.registry));
        let source =
            Source { shared: shared.clone(), feed: feed.clone(), tenant: config.tenant.clone(), view };
        let webhook = Arc::new(webhook);
        Ok(Self { name, feed, config, shared, source, webhook, told: AtomicBool::new(false) })
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
                // Another process has written the cursor: it has the lease by now.
                Err(Error::Log(eventlog::Error::Conflict { .. })) => self.waiting(OTHERS),
                Err(Error::Log(error)) if error.is_retryable() => {
                    tracing::warn!(feed = self.feed, %error, "the broker is away; trying again");
                    self.waiting("the broker");
                }
                Err(Error::Directory(error)) => {
                    tracing::warn!(feed = self.feed, %error, "the directory cannot be read; trying again");
                    self.waiting("the directory");
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

    fn waiting(&self, what: &str) {
        self.shared.tell(&self.name, Status { waiting_for: Some(what.to_string()), ..Status::default() });
    }

    /// As long as the lease is ours: one leg after the other.
    async fn turn(&self, lease: &mut Lease, shutdown: &CancellationToken) -> Result<(), Error> {
        let broker = &self.shared.broker;
        if !lease.renew(&*broker.leases).await? {
            self.waiting(OTHERS);
            return Ok(());
        }
        let Some(cursor) = self.begin().await? else { return Ok(()) };
        let held = cursor.state.held.clone();
        let mut desk = Desk {
            cursor,
            queue: Queue::new(held, self.config.attempts_max, self.config.held_max),
            pause: Pause::default(),
        };
        self.take_up(&mut desk);
        loop {
            self.obey(&mut desk).await?;
            if let Some(stopped) = &desk.cursor.state.stopped {
                self.stopped(&stopped.why, Some(&desk.cursor.state));
                return Ok(());
            }
            match self.leg(&mut desk, lease, shutdown).await? {
                Ended::Done => {}
                Ended::Over => return Ok(()),
            }
        }
    }

    /// Where to go on; nothing when the log is on another timeline, which a subscriber must not be told as if it were
    /// the same.
    async fn begin(&self) -> Result<Option<Cursor>, Error> {
        let broker = &self.shared.broker;
        let (state, revision) = match cursor::read(broker, &self.feed).await {
            Ok(Some(found)) => found,
            Ok(None) => return self.first().await.map(Some),
            Err(error @ eventlog::Error::Damaged { .. }) => {
                self.stopped(&format!("{error}; remove it to begin anew"), None);
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let found = watermark::compare(broker, state.watermark.clone()).await?;
        let mut cursor = Cursor::new(&self.feed, state, revision);
        cursor.state.tenant = Some(self.config.tenant.clone());
        match found {
            Found::None | Found::Trusted(_) => Ok(Some(cursor)),
            Found::Restored(_) if self.config.after_restore == AfterRestore::GoOn => {
                let from = cursor.state.sequence();
                tracing::warn!(
                    feed = self.feed,
                    from,
                    "the log was restored from a backup; the feed goes on where it was then, and its subscriber may have \
                     heard what never happened"
                );
                cursor.state.watermark = self.at(from).await?;
                cursor.save(broker).await?;
                Ok(Some(cursor))
            }
            Found::Restored(_) => {
                self.stopped(
                    "the log was restored from a backup, and the subscriber may have heard what never happened; tell it, \
                     then set after_restore = \"go_on\" for this feed",
                    Some(&cursor.state),
                );
                Ok(None)
            }
            Found::OtherTimeline => {
                self.stopped(
                    "the log is on another timeline than this feed's cursor; remove the cursor from the bucket LEASES to \
                     begin anew",
                    Some(&cursor.state),
                );
                Ok(None)
            }
        }
    }

    /// The first cursor of a feed.
    async fn first(&self) -> Result<Cursor, Error> {
        let broker = &self.shared.broker;
        let (from, work) = match self.config.begin {
            Begin::Now => (broker.identity.last_sequence().await?, None),
            Begin::Start => (0, None),
            Begin::Snapshot => (self.source.position().await?, Some(obey::snapshot())),
        };
        let watermark = self.at(from).await?;
        let state =
            FeedState { watermark, work, tenant: Some(self.config.tenant.clone()), ..FeedState::default() };
        Ok(Cursor::create(broker, &self.feed, state).await?)
    }

    async fn at(&self, sequence: u64) -> Result<Watermark, Error> {
        Ok(watermark::at(&self.shared.broker, sequence, &self.config.hash()).await?)
    }

    /// Says why nothing goes on: once in the log, and in the status for as long as it is so, with where it stands.
    fn stopped(&self, why: &str, state: Option<&FeedState>) {
        if !self.told.swap(true, Ordering::Relaxed) {
            tracing::error!(feed = self.feed, why, "the feed is stopped");
        }
        self.shared.tell(
            &self.name,
            Status {
                watermark: state.map(FeedState::sequence).unwrap_or_default(),
                held: state.map(FeedState::held_count).unwrap_or_default(),
                waiting_for: Some(why.to_string()),
                ..Status::default()
            },
        );
    }

    /// Stops the feed until an operator says that it goes on.
    fn stop(&self, desk: &mut Desk, why: &str) {
        let since = clock::now();
        desk.cursor.state.stopped.get_or_insert(Stopped { why: why.to_string(), since });
    }
}

/// What a feed waits for that another dispatcher delivers.
const OTHERS: &str = "another dispatcher works for this feed";
