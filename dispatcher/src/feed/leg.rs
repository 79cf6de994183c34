//! A leg of a feed: everything that a source has is delivered, several resources at a time, and the cursor follows.

use std::sync::Arc;
use std::time::Duration;

use eventlog::clock;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use proto::ResourceId;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::event::Told;
use super::queue::{Full, Origin, Parcel, Refused};
use super::source::Parcels;
use super::webhook::Answer;
use super::{Desk, Work, Worker, obey, pause};
use crate::lease::{Lease, RENEW};
use crate::{Error, Status};

/// How often the cursor is written while events flow.
const SAVE_INTERVAL: Duration = Duration::from_millis(500);
/// How often it is looked whether an operator asks for something.
const OBEY_INTERVAL: Duration = Duration::from_millis(500);
/// How long deliveries under way may still take when the leg must end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Parcels that are read ahead of the deliveries, and the bytes of their events: of a change of a large group there is one
/// for each member. Larger by one parcel at most.
const AHEAD_MAX: usize = 1_000;
const AHEAD_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How a leg ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// There is nothing left of it.
    Done,
    /// The lease is lost, the process stops, or the feed does.
    Over,
}

type Deliveries = FuturesUnordered<BoxFuture<'static, (ResourceId, Arc<Told>, Answer)>>;

/// What a leg is about.
struct Leg {
    /// What the leg is; nothing for the log as it grows.
    work: Option<Work>,
    /// Its last parcel, which follows once all others are done.
    last: Option<Parcel>,
}

impl Worker {
    /// Delivers what the feed has to do next.
    pub(super) async fn leg(
        &self,
        desk: &mut Desk,
        lease: &mut Lease,
        shutdown: &CancellationToken,
    ) -> Result<Ended, Error> {
        let Some((mut leg, parcels)) = self.open(desk).await? else { return Ok(Ended::Done) };
        let mut parcels = Some(parcels);
        let broker = &self.shared.broker;
        let mut running: Deliveries = FuturesUnordered::new();
        let mut save = tokio::time::interval(SAVE_INTERVAL);
        let mut renew = tokio::time::interval(RENEW);
        let mut look = tokio::time::interval(OBEY_INTERVAL);
        loop {
            // What could not be held is not passed: the feed begins again where it is.
            if desk.cursor.state.stopped.is_some() {
                return self.drain(desk, &leg, running).await;
            }
            self.start(desk, lease, &mut running);
            // A leg that an operator asked for begins once this one has nothing open.
            if !leg.is_of(desk.cursor.state.work.as_ref()) {
                parcels = None;
            }
            if parcels.is_none() && running.is_empty() && desk.queue.is_idle() {
                let is_left = !leg.is_of(desk.cursor.state.work.as_ref());
                if is_left || leg.last.is_none() {
                    self.close(desk, &leg).await?;
                    // The log itself has no end: it was cut off, and is followed anew a moment later.
                    return Ok(if is_left || leg.work.is_some() { Ended::Done } else { Ended::Over });
                }
                if let Some(last) = leg.last.take() {
                    self.add(desk, desk.queue.followed(), last);
                }
            }
            let rest = self.rests_until(desk);
            let has_room = desk.queue.len() < AHEAD_MAX && desk.queue.bytes() < AHEAD_BYTES_MAX;
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return self.drain(desk, &leg, running).await,
                _ = renew.tick() => if !lease.renew(&*broker.leases).await? {
                    return Ok(Ended::Over);
                },
                _ = save.tick() => self.save(desk, &leg).await?,
                _ = look.tick() => self.obey(desk).await?,
                Some((id, told, answer)) = running.next(), if !running.is_empty() => {
                    self.answered(desk, id, &told, answer);
                }
                () = std::future::ready(()), if has_room && desk.queue.unfilled().is_some() => {
                    self.fill(desk).await?;
                }
                parcel = next(&mut parcels), if parcels.is_some() && has_room => {
                    match parcel.transpose()? {
                        Some((number, parcel)) => self.add(desk, number, parcel),
                        None => parcels = None,
                    }
                }
                () = tokio::time::sleep_until(rest) => {}
            }
        }
    }

    /// Begins a leg: where it starts is written down first. Nothing when it must begin anew.
    async fn open(&self, desk: &mut Desk) -> Result<Option<(Leg, Parcels)>, Error> {
        let at = desk.cursor.state.sequence();
        let work = match desk.cursor.state.work.clone() {
            Some(Work::Snapshot { id, position, time, done }) => {
                let position = position.unwrap_or(at);
                Some(Work::Snapshot { id, position: Some(position), time, done })
            }
            Some(work @ Work::Replay { .. }) => Some(work),
            None => None,
        };
        desk.cursor.state.work.clone_from(&work);
        desk.cursor.save(&self.shared.broker).await?;
        let time = clock::now();
        let (parcels, last) = match &work {
            None => {
                desk.queue.begin(at);
                (self.source.log(at + 1, None, None), None)
            }
            Some(Work::Replay { id, first, last, done }) => {
                desk.queue.begin(*done);
                let parcels = self.source.log((*first).max(done + 1), Some(*last), Some(id.clone()));
                let (replay, first, last) = (id.clone(), *first, *last);
                (parcels, Some(Origin::ReplayCompleted { replay, first, last, time }))
            }
            Some(Work::Snapshot { id, position, time: begun, done }) => {
                desk.queue.begin(*done);
                let position = position.unwrap_or(at);
                let Some(parcels) = self.source.snapshot(id, position, *begun, *done).await? else {
                    tracing::warn!(
                        feed = self.feed,
                        position,
                        "the moment of the snapshot is not kept any more; it begins anew"
                    );
                    desk.cursor.state.work = Some(obey::snapshot());
                    self.forget_passed(desk).await?;
                    return Ok(None);
                };
                (parcels, Some(Origin::SnapshotCompleted { snapshot: id.clone(), position, time }))
            }
        };
        let last = last.map(|origin| self.source.end(origin));
        Ok(Some((Leg { work, last }, parcels)))
    }

    /// The cursor moves to the present: a snapshot that begins there tells everything before it.
    async fn forget_passed(&self, desk: &mut Desk) -> Result<(), Error> {
        let position = self.source.position().await?;
        desk.cursor.state.watermark = self.at(position).await?;
        Ok(())
    }

    fn start(&self, desk: &mut Desk, lease: &Lease, running: &mut Deliveries) {
        let limit = desk.pause.limit(self.config.concurrency);
        while running.len() < limit
            && desk.pause.is_over()
            && lease.outlives(Duration::from_millis(self.config.timeout_ms))
            && let Some((id, told)) = self.next_event(desk)
        {
            let webhook = self.webhook.clone();
            running.push(Box::pin(async move {
                let answer = webhook.post(&told, clock::now()).await;
                (id, told, answer)
            }));
        }
    }

    /// After a failure another event goes first, which tells whose it was, unless the log's order over all resources counts.
    fn next_event(&self, desk: &mut Desk) -> Option<(ResourceId, Arc<Told>)> {
        if desk.pause.is_failing() && !self.keeps_the_order_of_all() {
            return desk.queue.take_another(clock::now());
        }
        desk.queue.take(clock::now())
    }

    fn keeps_the_order_of_all(&self) -> bool {
        self.config.concurrency == 1
    }

    fn add(&self, desk: &mut Desk, number: u64, parcel: Parcel) {
        if desk.queue.add(number, parcel).is_err() {
            self.stop(desk, &self.full());
        }
    }

    fn full(&self) -> String {
        format!(
            "more than {} events are held (held_max); `rollcall feed held {}` shows them: redrive or skip them, then \
             `rollcall feed resume {}`",
            self.config.held_max, self.feed, self.feed
        )
    }

    /// What the subscriber said to an event.
    fn answered(&self, desk: &mut Desk, id: ResourceId, told: &Told, answer: Answer) {
        let count = |name: &'static str| metrics::counter!(name, "feed" => self.feed.clone()).increment(1);
        let now = clock::now();
        match answer {
            Answer::Taken => {
                count("rollcall_feed_deliveries_total");
                desk.queue.taken(id);
                desk.pause.end();
            }
            Answer::Refused { why } => {
                count("rollcall_feed_failures_total");
                desk.pause.end();
                let not_before = pause::not_before(desk.queue.tries(id) + 1, now);
                let refused = desk.queue.refused(id, &why, now, not_before);
                self.refused(desk, id, told, &why, refused);
            }
            Answer::Failed { why } if self.keeps_the_order_of_all() => {
                count("rollcall_feed_failures_total");
                self.rest(desk, id, told, None, &why);
            }
            Answer::Failed { why } => {
                count("rollcall_feed_failures_total");
                let not_before = pause::not_before(desk.queue.tries(id) + 1, now);
                match desk.queue.failed(id, &why, now, not_before).transpose() {
                    Some(refused) => self.refused(desk, id, told, &why, refused),
                    None => self.rest(desk, id, told, None, &why),
                }
            }
            Answer::Later { after, why } => {
                count("rollcall_feed_failures_total");
                self.rest(desk, id, told, after, &why);
            }
            Answer::Gone => {
                count("rollcall_feed_failures_total");
                desk.queue.put_back(id);
                self.stop(
                    desk,
                    &format!(
                        "the subscriber answers 410: it wants no more; once that is settled, `rollcall feed resume {}`",
                        self.feed
                    ),
                );
            }
        }
    }

    /// An event was refused: what comes of its resource.
    fn refused(
        &self,
        desk: &mut Desk,
        id: ResourceId,
        told: &Told,
        why: &str,
        refused: Result<Refused, Full>,
    ) {
        match refused {
            Ok(Refused::Again) => {
                tracing::warn!(
                    feed = self.feed,
                    event.id = told.id,
                    why,
                    "an event is refused; trying it again"
                );
            }
            Ok(Refused::Held) => {
                metrics::counter!("rollcall_feed_held_total", "feed" => self.feed.clone()).increment(1);
                tracing::error!(feed = self.feed, event.id = told.id, event.kind = told.kind, resource.id = %id, why, "an event is held, and what comes behind it; others go on");
            }
            Err(Full) => self.stop(desk, &self.full()),
        }
    }

    /// The subscriber takes nothing: all of it rests.
    fn rest(&self, desk: &mut Desk, id: ResourceId, told: &Told, after: Option<Duration>, why: &str) {
        if desk.pause.is_news(why) {
            tracing::warn!(
                feed = self.feed,
                event.id = told.id,
                why,
                "the subscriber takes nothing; trying again"
            );
        }
        desk.queue.put_back(id);
        desk.pause.begin(after, why);
    }

    /// Until when nothing happens that nobody tells us of.
    fn rests_until(&self, desk: &Desk) -> Instant {
        let at_latest = Instant::now() + SAVE_INTERVAL;
        if let Some(until) = desk.pause.until() {
            return until.min(at_latest);
        }
        let now = clock::now();
        desk.queue.next_time(now).map_or(at_latest, |time| until(time, now).min(at_latest))
    }

    /// Writes how far it is, when that has changed, and tells it.
    async fn save(&self, desk: &mut Desk, leg: &Leg) -> Result<(), Error> {
        let done = desk.queue.done();
        let state = &mut desk.cursor.state;
        if leg.work.is_none() && done != state.sequence() {
            state.watermark = self.at(done).await?;
        }
        match (&mut state.work, &leg.work) {
            (Some(Work::Snapshot { done: known, .. }), Some(Work::Snapshot { .. }))
            | (Some(Work::Replay { done: known, .. }), Some(Work::Replay { .. })) => *known = done,
            (_, _) => {}
        }
        state.held = desk.queue.held().cloned().collect();
        state.resting = desk.pause.why().map(str::to_string);
        let status = Status {
            watermark: state.sequence(),
            due: desk.queue.len(),
            held: desk.queue.held_count(),
            waiting_for: state.resting.clone(),
            ..Status::default()
        };
        self.shared.tell(&self.name, status);
        Ok(desk.cursor.save(&self.shared.broker).await?)
    }

    /// A leg that has nothing open is over.
    async fn close(&self, desk: &mut Desk, leg: &Leg) -> Result<(), Error> {
        self.save(desk, leg).await?;
        if leg.work.is_some() && leg.is_of(desk.cursor.state.work.as_ref()) {
            tracing::info!(feed = self.feed, work = ?leg.work, "done");
            desk.cursor.state.work = None;
            desk.cursor.save(&self.shared.broker).await?;
        }
        Ok(())
    }

    /// What is under way may end; then how far it is is written down, so that nothing is delivered again.
    async fn drain(&self, desk: &mut Desk, leg: &Leg, mut running: Deliveries) -> Result<Ended, Error> {
        let deadline = Instant::now() + DRAIN_TIMEOUT;
        while let Ok(Some((id, told, answer))) = tokio::time::timeout_at(deadline, running.next()).await {
            self.answered(desk, id, &told, answer);
        }
        self.save(desk, leg).await?;
        Ok(Ended::Over)
    }
}

impl Leg {
    /// Whether this is what is to be done.
    fn is_of(&self, work: Option<&Work>) -> bool {
        let id = |work: &Work| match work {
            Work::Snapshot { id, .. } | Work::Replay { id, .. } => id.clone(),
        };
        self.work.as_ref().map(id) == work.map(id)
    }
}

async fn next(parcels: &mut Option<Parcels>) -> Option<Result<(u64, Parcel), Error>> {
    parcels.as_mut()?.next().await
}

/// The instant that a time is.
fn until(time: Timestamp, now: Timestamp) -> Instant {
    Instant::now() + Duration::try_from(time.duration_since(now)).unwrap_or_default()
}
