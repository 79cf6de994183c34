//! One app's worker: marks what events affect, plans it, performs it, writes down what came of it.

mod adopt;
mod afford;
mod author;
pub(crate) mod checks;
mod circle;
mod dated;
mod decide;
mod due;
mod entering;
pub(crate) mod filling;
mod first;
mod foresee;
mod gates;
pub(crate) mod import;
mod inspect;
mod late;
mod look;
mod marking;
mod moved;
mod pages;
mod pause;
mod perform;
mod railed;
mod reconcile;
pub(crate) mod reconciled;
mod record;
mod rollout;
mod search;
mod shaped;
mod spent;
mod timers;
mod verify;
mod wanted;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use eventlog::clock;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use jiff::{SignedDuration, Timestamp};
use proto::{ResourceId, Tenant};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::AppConfig;
use crate::connector::{ScimApp, Transport};
use crate::lease::{Lease, RENEW};
use crate::naming::Naming;
use crate::scope::Needs;
use crate::watermark::{self, Found};
use crate::{Error, Shared, Status};
use checks::Checks;
use due::{Due, Taken};
use filling::Progress;
pub(crate) use foresee::Foreseen;
use gates::Gates;
pub(crate) use pages::Pages;
use pause::Pause;
pub(crate) use perform::Performer;
use perform::{Ended, UNKNOWN_TO_IT};
pub(crate) use railed::Railing;
pub(crate) use wanted::{Turn, wanted};

/// How long calls that are under way may take once nothing is begun any more. What takes longer is read back by whoever comes.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long whoever lost a race for a resource waits before he looks at it again.
const CONFLICT_DELAY: SignedDuration = SignedDuration::from_millis(200);
/// How often the watermark and the status are written.
const SAVE_INTERVAL: Duration = Duration::from_millis(500);
/// How long events are marked in one go, while neither the lease nor the watermark is looked after.
const BURST_MAX: Duration = Duration::from_millis(250);
/// How long to wait for another dispatcher's lease, or for the broker.
const AGAIN_DELAY: Duration = Duration::from_secs(1);
/// How long catching up at the start may take before it is tried again.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(60);
/// What a resource answers that no event made due: it comes before all events, and no watermark is written before it is done.
pub(crate) const EVERYTHING: u64 = 0;
/// The configuration that a watermark names while another one than before is being carried out.
const UNFINISHED: &str = "";
/// Resources that the reconciliation suspects and the worker has not marked yet.
const MARKS_MAX: usize = 256;

/// Resources that are being settled: whose, what of it, what its account was called before, and how it ended.
type Running<'a> = FuturesUnordered<BoxFuture<'a, (ResourceId, Taken, u64, Result<Ended, Error>)>>;

/// The worker of one app.
pub(crate) struct Worker {
    name: String,
    config: Arc<AppConfig>,
    hash: String,
    shared: Shared,
    app: ScimApp,
    needs: Needs,
    /// The attributes by whose change somebody can leave although he is not switched off.
    deciding: BTreeSet<String>,
    naming: Naming,
    checks: Checks,
}

impl Worker {
    pub(crate) fn new(
        name: String,
        config: AppConfig,
        shared: Shared,
        transport: Option<Arc<dyn Transport>>,
    ) -> Result<Self, Error> {
        let purse = shared.purses.of_app(&name, &config);
        let app = ScimApp::new(&config, purse, transport)
            .map_err(|reason| Error::App { app: name.clone(), reason })?;
        let (hash, needs) = (config.hash(), config.scope.needs().and(config.mapping.needs()));
        let deciding = config.scope.roots().into_iter().chain(config.timing.dates.roots()).collect();
        let naming = Naming::new(&shared.registry);
        let (config, checks) = (Arc::new(config), Checks::default());
        Ok(Self { name, config, hash, shared, app, needs, deciding, naming, checks })
    }

    /// Works until told to stop. What the broker cannot do at the moment is tried again.
    pub(crate) async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let mut lease = Lease::new(&self.name, &self.shared.holder);
        loop {
            let turn = self.turn(&mut lease, &shutdown).await;
            if shutdown.is_cancelled() {
                break;
            }
            match turn {
                Ok(()) => {}
                Err(Error::Log(error)) if error.is_retryable() => {
                    tracing::warn!(app = self.name, %error, "the broker is away; trying again");
                    self.waiting("the broker");
                }
                Err(Error::Directory(error)) => {
                    tracing::warn!(app = self.name, %error, "the directory cannot be read; trying again");
                    self.waiting("the directory");
                }
                Err(error) => return Err(error),
            }
            tokio::select! {
                () = tokio::time::sleep(AGAIN_DELAY) => {}
                () = shutdown.cancelled() => break,
            }
        }
        if lease.outlives(Duration::ZERO) {
            self.write_spent().await;
        }
        lease.release(&*self.shared.broker.leases).await;
        Ok(())
    }

    fn waiting(&self, what: &str) {
        self.shared.tell(&self.name, Status { waiting_for: Some(what.to_string()), ..Status::default() });
    }

    /// What was written about its accounts is another tenant's. Until another configuration comes nothing is done: nobody would
    /// look after those accounts, and who gets which would be anybody's guess.
    async fn misplaced(&self, tenant: &Tenant) -> Result<(), Error> {
        let why = format!(
            "its accounts belong to tenant {tenant}, and it is configured for {}: give the other tenant's app another name",
            self.config.tenant
        );
        tracing::error!(app = self.name, why, "an app is not worked for");
        self.waiting(&why);
        std::future::pending().await
    }

    /// As long as the lease is ours and nobody says to stop. Whatever ends it, calls that are under way are heard: what came
    /// of one that nobody listens to has to be found out from the app.
    async fn turn(&self, lease: &mut Lease, shutdown: &CancellationToken) -> Result<(), Error> {
        let stopping = CancellationToken::new();
        let mut running = FuturesUnordered::new();
        let ended = tokio::select! {
            ended = self.work(lease, &mut running, &stopping) => ended,
            () = shutdown.cancelled() => Ok(()),
        };
        stopping.cancel();
        self.drain(running).await;
        ended
    }

    /// The guards of links fence off whoever works for the app by now.
    async fn drain(&self, mut running: Running<'_>) {
        let deadline = Instant::now() + DRAIN_TIMEOUT;
        while let Ok(Some((id, _, _, ended))) = tokio::time::timeout_at(deadline, running.next()).await {
            if let Err(error) = ended {
                tracing::warn!(app = self.name, resource.id = %id, %error, "what came of a call is not written down; the app will be read");
            }
        }
    }

    async fn work<'a>(
        &'a self,
        lease: &mut Lease,
        running: &mut Running<'a>,
        stopping: &CancellationToken,
    ) -> Result<(), Error> {
        let (broker, links) = (&self.shared.broker, &self.shared.links);
        if !links.catch_up(CATCH_UP_TIMEOUT).await? {
            return Ok(());
        }
        if let Some(tenant) = links.tenant(&self.name).filter(|tenant| *tenant != self.config.tenant) {
            return self.misplaced(&tenant).await;
        }
        if !lease.renew(&*broker.leases).await? {
            self.waiting("another dispatcher works for this app");
            return Ok(());
        }
        let mut due = Due::default();
        let Some((from, railing)) = self.begin(&mut due, lease).await? else { return Ok(()) };
        let (mut timers, mut dated) = self.timers(&mut due, from, &railing);
        let mut events = self.shared.herald.listen(from + 1);
        let mut followed = from;
        let mut saved = None;
        let mut save = tokio::time::interval(SAVE_INTERVAL);
        let mut renew = tokio::time::interval(RENEW);
        let mut paused = Pause::default();
        let mut spent = self.recall_spent().await?;
        let mut gates = Gates::default();
        let mut filling = Progress::begin(&mut due, clock::now());
        let (marks, mut marked) = mpsc::channel(MARKS_MAX);
        let rounds = reconcile::rounds(self.performer(&railing, false), marks);
        tokio::pin!(rounds);
        loop {
            while paused.allows(running.len(), self.config.concurrency, self.app.answers())
                && lease.outlives(Duration::from_millis(self.config.timeout_ms))
                && let Some((id, taken)) = railing.take(&mut due, &mut gates)
            {
                let asked = taken.until != EVERYTHING && !self.checks.is_lost(id);
                let performer = self.performer(&railing, asked);
                let renamed_by = links.renamed_by(&self.name, id);
                let stopping = stopping.clone();
                let settle = async move { performer.settle(id, taken.until, &stopping).await };
                running.push(settle.map(move |ended| (id, taken, renamed_by, ended)).boxed());
            }
            tokio::select! {
                heard = events.next() => {
                    let Some(heard) = heard? else { return Ok(()) };
                    self.mark(&mut due, &railing, &heard).await?;
                    followed = heard.last();
                    // A burst is marked as a whole before the next is planned, as long as nothing else suffers.
                    let begun = Instant::now();
                    while begun.elapsed() < BURST_MAX && let Some(heard) = events.next().now_or_never() {
                        let Some(heard) = heard? else { return Ok(()) };
                        self.mark(&mut due, &railing, &heard).await?;
                        followed = heard.last();
                        // Nobody hears far ahead of the others: what those have not heard yet would be forgotten.
                        tokio::task::yield_now().await;
                    }
                }
                Some((id, taken, renamed_by, ended)) = running.next(), if !running.is_empty() => {
                    // An account that was made and lost again in one go was seen by others meanwhile.
                    let renamed = renamed_by != links.renamed_by(&self.name, id);
                    self.tell(&mut due, id, renamed, taken.since);
                    if let Ok(Ended::Settled { next: Some(next) } | Ended::Held { next: Some(next) }) = &ended {
                        timers.set(id, *next);
                    }
                    self.after(&mut due, &railing, &mut paused, &mut gates, (id, taken), ended)?;
                    filling.finished(&self.name, id, taken, &due, clock::now());
                }
                Some(found) = dated.next() => found.note(&mut due, &mut timers, followed),
                Some((id, check)) = marked.recv() => {
                    self.checks.suspected(id, check);
                    due.mark(id, followed.max(1), false);
                }
                never = &mut rounds => match never? {},
                _ = save.tick() => {
                    while let Some((id, urgent)) = timers.take(clock::now()) {
                        due.mark(id, followed.max(1), urgent);
                    }
                    let oldest = due.oldest();
                    let watermark = oldest.map_or(followed, |oldest| oldest.saturating_sub(1).min(followed));
                    // Interrupted while everything is planned, we must plan everything again.
                    if saved != Some(watermark) && oldest != Some(EVERYTHING) {
                        watermark::save(broker, &self.name, watermark, &self.hash).await?;
                        saved = Some(watermark);
                        railing.is_filled();
                    }
                    self.keep_spent(&mut spent).await;
                    self.let_go(&mut due, &railing, followed).await?;
                    let works = railing.stopped().is_none() && paused.why.is_none();
                    self.checks.set_ready(works && oldest != Some(EVERYTHING));
                    self.shared.tell(&self.name, Status {
                        watermark,
                        due: due.len(),
                        held: links.held(&self.name),
                        waiting_for: railing.stopped().or_else(|| paused.why.clone()).or_else(|| railing.waits_for()),
                        filling: filling.now(),
                    });
                }
                _ = renew.tick() => if !lease.renew(&*broker.leases).await? { return Ok(()) },
                () = tokio::time::sleep_until(paused.until.unwrap_or_else(|| Instant::now() + SAVE_INTERVAL)), if !paused.over() => {}
                () = tokio::time::sleep_until(gates.opens(&due)), if paused.over() && railing.stopped().is_none() && running.len() < self.config.concurrency => {}
            }
        }
    }

    /// What was released, or is tried again, is planned again.
    async fn let_go(&self, due: &mut Due, railing: &Railing, followed: u64) -> Result<(), Error> {
        for (id, until) in railing.look().await? {
            due.mark(id, until.unwrap_or(followed), true);
        }
        for id in self.shared.links.take_redriven(&self.name) {
            due.mark(id, followed, true);
        }
        for id in self.shared.links.take_imported(&self.name) {
            due.mark(id, followed.max(1), false);
            self.tell(due, id, true, followed.max(1));
        }
        for id in railing.roll().await? {
            due.mark(id, EVERYTHING, false);
        }
        Ok(())
    }

    fn performer(&self, railing: &Arc<Railing>, asked: bool) -> Performer {
        Performer {
            railing: railing.clone(),
            asked,
            name: self.name.clone(),
            config: self.config.clone(),
            hash: self.hash.clone(),
            shared: self.shared.clone(),
            app: self.app.clone(),
            checks: self.checks.clone(),
        }
    }

    /// Where to go on. Another configuration, another timeline or a first start mark everything.
    async fn begin(&self, due: &mut Due, lease: &mut Lease) -> Result<Option<(u64, Arc<Railing>)>, Error> {
        let (broker, projection) = (&self.shared.broker, &self.shared.projection);
        let found = watermark::load(broker, &self.name).await?;
        let railing = Arc::new(Railing::new(&self.name, &self.config, &self.shared));
        railing.look().await?;
        railing.is_at(self).await?;
        if let Found::Trusted(watermark) = &found
            && watermark.configuration_hash == self.hash
        {
            let from = watermark.position.map_or(0, |position| position.sequence);
            self.tell_again(due, from).await?;
            railing.take_back().await?;
            railing.end_rollout().await?;
            self.take_up(due, from.max(1));
            return Ok(Some((from, railing)));
        }
        if matches!(found, Found::OtherTimeline | Found::Restored(_)) {
            tracing::warn!(
                app = self.name,
                "the log is on another timeline than this app's watermark; planning everything again"
            );
        }
        projection.catch_up(Instant::now() + CATCH_UP_TIMEOUT).await?;
        railing.comes_after(&found, projection.applied());
        // Whoever was to leave meanwhile leaves under any configuration, and waits for nobody's release.
        let asked_from = match &found {
            Found::Trusted(watermark) => {
                Some(watermark.position.as_ref().map_or(0, |position| position.sequence))
            }
            Found::None | Found::OtherTimeline | Found::Restored(_) => None,
        };
        let from = asked_from.unwrap_or_else(|| projection.applied());
        for kind in self.shared.registry.resource_types() {
            for (id, rank) in self.in_order(kind) {
                due.mark_in_order(id, EVERYTHING, rank);
            }
        }
        for id in self.shared.links.of_app(&self.name) {
            due.mark(id, EVERYTHING, false);
        }
        self.take_up(due, asked_from.map_or(EVERYTHING, |from| from.max(1)));
        tracing::info!(app = self.name, due = due.len(), "planning everything");
        if found == Found::None && railing.is_new().await? {
            railing.take_back().await?;
        } else if !self.foresee(&railing, lease).await? {
            return Ok(None);
        }
        if let Found::Trusted(watermark) = found {
            // From the first call on it is not the other configuration's any more, even if that one comes back.
            let sequence = watermark.position.map_or(0, |position| position.sequence);
            watermark::save(broker, &self.name, sequence, UNFINISHED).await?;
        }
        Ok(Some((from, railing)))
    }

    fn after(
        &self,
        due: &mut Due,
        railing: &Railing,
        paused: &mut Pause,
        gates: &mut Gates,
        (id, taken): (ResourceId, Taken),
        ended: Result<Ended, Error>,
    ) -> Result<(), Error> {
        match ended {
            Ok(Ended::Settled { .. }) => {
                railing.settled(id);
                due.finish(id);
                self.checks.finish(id, taken.until, due.since(id).is_some());
            }
            Ok(Ended::Held { .. }) => {
                railing.held(id);
                due.finish(id);
                self.checks.hold(id);
            }
            // Whoever lets it go on marks it again.
            Ok(Ended::Railed) => {
                due.put_back(id, taken, Some(Timestamp::MAX));
                self.checks.hold(id);
            }
            Ok(Ended::Later { due_at }) => due.put_back(id, taken, Some(due_at)),
            Ok(Ended::NotYet(denied)) => {
                gates.close(denied);
                due.put_back(id, taken, Some(gates::later(denied.after)));
            }
            Ok(Ended::Unavailable { after, error }) => {
                // It is tried every minute, and `app list` says why meanwhile.
                let is_news = paused.is_news(&error);
                paused.longer(after, &error);
                due.put_back(id, taken, Some(gates::later(paused.behind_others())));
                match (is_news, error == UNKNOWN_TO_IT) {
                    (true, true) => tracing::error!(app = self.name, "{error}"),
                    (true, false) => tracing::warn!(
                        app = self.name,
                        error,
                        "the app cannot be used at the moment; trying again"
                    ),
                    (false, _) => {}
                }
                metrics::counter!("rollcall_app_unavailable_total", "app" => self.name.clone()).increment(1);
            }
            // A person released or decided something, or another dispatcher is at work, which the lease will tell.
            Err(Error::Log(eventlog::Error::Conflict { .. })) => {
                let due_at = clock::now().checked_add(CONFLICT_DELAY).unwrap_or(Timestamp::MAX);
                due.put_back(id, taken, Some(due_at));
            }
            Err(error) => {
                due.put_back(id, taken, None);
                return Err(error);
            }
        }
        Ok(())
    }
}
