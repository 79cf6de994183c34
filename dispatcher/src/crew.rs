//! The workers of all apps and feeds: started, replaced one by one when the configuration changes, and stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::budget::Purses;
use crate::config::Config;
use crate::connector::Transport;
use crate::reload::{Change, changes};
use crate::{Error, Shared, View, app, feed};

/// How long the links of all apps may take to be read before it is asked again whether they are.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
const AGAIN_DELAY: Duration = Duration::from_secs(1);

/// Another configuration, and whoever waits for it to be in force.
type Order = (Config, oneshot::Sender<Result<Vec<Change>, Error>>);

/// Gives a running dispatcher another configuration. Cheap to clone.
#[derive(Clone)]
pub struct Steward {
    shared: Shared,
    orders: mpsc::Sender<Order>,
}

/// What a [`Steward`] says to, taken by [`crate::Dispatcher::run`].
pub(crate) type Orders = mpsc::Receiver<Order>;

impl Steward {
    pub(crate) fn new(shared: Shared) -> (Self, Orders) {
        let (orders, received) = mpsc::channel(1);
        (Self { shared, orders }, received)
    }

    /// Asks and tells what runs now.
    pub fn view(&self) -> View {
        View { shared: self.shared.clone(), apps: Arc::new(self.shared.config().apps.clone()) }
    }

    /// Whether everything in it can be made.
    pub fn check(&self, config: &Config) -> Result<(), Error> {
        // Nothing that runs must notice.
        let apart = Shared { purses: Purses::default(), ..self.shared.clone() };
        for change in self.changes(config) {
            make(&apart, None, &change.subject, config)?;
        }
        Ok(())
    }

    /// What would change.
    pub fn changes(&self, config: &Config) -> Vec<Change> {
        changes(&self.shared.config(), config)
    }

    /// Has it changed, and waits until it has: workers of what changes are stopped in order and started anew, all others
    /// keep running. Nothing when the dispatcher has ended.
    pub async fn apply(&self, config: Config) -> Result<Option<Vec<Change>>, Error> {
        let (done, wait) = oneshot::channel();
        if self.orders.send((config, done)).await.is_err() {
            return Ok(None);
        }
        wait.await.map_or(Ok(None), |changed| changed.map(Some))
    }
}

/// The worker of an app or a feed.
enum Worker {
    App(Box<app::Worker>),
    Feed(Box<feed::Worker>),
}

/// Workers that run.
pub(crate) struct Crew {
    shared: Shared,
    transport: Option<Arc<dyn Transport>>,
    shutdown: CancellationToken,
    /// Each ends with the name of its work; that of the links has none.
    tasks: JoinSet<(String, Result<(), Error>)>,
    running: BTreeMap<String, (CancellationToken, Id)>,
}

impl Crew {
    /// Nobody but who reads the links.
    pub(crate) fn new(
        shared: Shared,
        transport: Option<Arc<dyn Transport>>,
        shutdown: CancellationToken,
    ) -> Self {
        let mut tasks = JoinSet::new();
        let (links, stop) = (shared.links.clone(), shutdown.clone());
        tasks.spawn(async move { (String::new(), links.run(stop).await) });
        Self { shared, transport, shutdown, tasks, running: BTreeMap::new() }
    }

    /// Works until told to stop, and follows orders meanwhile. An event that cannot be read stops all.
    pub(crate) async fn run(mut self, mut orders: Orders) -> Result<(), Error> {
        let mut result = Ok(());
        let mut listens = true;
        while !self.tasks.is_empty() {
            tokio::select! {
                Some(ended) = self.tasks.join_next() => self.ended(ended, &mut result),
                order = orders.recv(), if listens => match order {
                    Some((config, done)) => {
                        let changed = self.change(config, &mut result).await;
                        // Whoever asked may not wait any more.
                        let _ = done.send(changed);
                    }
                    None => listens = false,
                },
            }
        }
        result
    }

    /// Every worker of a configuration is made before one is stopped, so that a configuration comes whole or not at all.
    async fn change(&mut self, config: Config, result: &mut Result<(), Error>) -> Result<Vec<Change>, Error> {
        let changed = changes(&self.shared.config(), &config);
        let names: BTreeSet<String> = changed.iter().map(|change| change.subject.clone()).collect();
        self.empty_purses(&names);
        let mut fresh = Vec::new();
        for change in &changed {
            fresh.extend(self.worker(&change.subject, &config)?);
        }
        self.retire(names, result).await;
        for (name, app) in &config.apps {
            self.shared.links.guard(name, &app.guard);
        }
        self.shared.set_config(config);
        self.shared.starting();
        tell_forsaken(&self.shared);
        for (subject, worker) in fresh {
            self.start(subject, worker);
        }
        Ok(changed)
    }

    /// What changes gets its budgets anew; a purse that somebody else draws from too stays, and can only become tighter.
    fn empty_purses(&self, changed: &BTreeSet<String>) {
        let config = self.shared.config();
        let apps =
            config.apps.iter().map(|(name, app)| (changed.contains(&format!("app/{name}")), app.purse(name)));
        let (changed, kept): (Vec<_>, Vec<_>) = apps.partition(|(is_changed, _)| *is_changed);
        for (_, purse) in changed.iter().filter(|(_, purse)| !kept.iter().any(|(_, kept)| kept == purse)) {
            self.shared.purses.forget(purse);
        }
    }

    /// Makes the worker of each app and feed, and lets them work.
    pub(crate) fn begin(&mut self, config: &Config) -> Result<(), Error> {
        let apps = config.apps.keys().map(|name| format!("app/{name}"));
        let feeds = config.feeds.keys().map(|name| format!("feed/{name}"));
        let mut workers = Vec::new();
        for subject in apps.chain(feeds) {
            workers.extend(self.worker(&subject, config)?);
        }
        for (subject, worker) in workers {
            self.start(subject, worker);
        }
        let (shared, stop) = (self.shared.clone(), self.shutdown.clone());
        self.tasks.spawn(async move {
            let read = async {
                while !matches!(shared.links.catch_up(READ_TIMEOUT).await, Ok(true)) {
                    tokio::time::sleep(AGAIN_DELAY).await;
                }
            };
            tokio::select! {
                () = read => tell_forsaken(&shared),
                () = stop.cancelled() => {}
            }
            (String::new(), Ok(()))
        });
        Ok(())
    }

    fn worker(&self, subject: &str, config: &Config) -> Result<Option<(String, Worker)>, Error> {
        let worker = make(&self.shared, self.transport.clone(), subject, config)?;
        Ok(worker.map(|worker| (subject.to_string(), worker)))
    }

    fn start(&mut self, subject: String, worker: Worker) {
        let stop = self.shutdown.child_token();
        let (name, until) = (subject.clone(), stop.clone());
        let task = self.tasks.spawn(async move {
            let result = match worker {
                Worker::App(worker) => worker.run(until).await,
                Worker::Feed(worker) => worker.run(until).await,
            };
            (subject, result)
        });
        self.running.insert(name, (stop, task.id()));
    }

    /// Tells workers to stop, and waits until they have.
    async fn retire(&mut self, mut names: BTreeSet<String>, result: &mut Result<(), Error>) {
        names.retain(|name| self.running.contains_key(name));
        for name in &names {
            if let Some((stop, _)) = self.running.get(name) {
                stop.cancel();
            }
        }
        while names.iter().any(|name| self.running.contains_key(name)) {
            let Some(ended) = self.tasks.join_next().await else { return };
            self.ended(ended, result);
        }
        for name in names {
            // As statuses name them.
            let name = match name.split_once('/') {
                Some(("app", name)) => name.to_string(),
                Some((kind, name)) => format!("{kind}.{name}"),
                None => name,
            };
            self.shared.forget(&name);
        }
    }

    fn ended(
        &mut self,
        ended: Result<(String, Result<(), Error>), tokio::task::JoinError>,
        result: &mut Result<(), Error>,
    ) {
        match ended {
            Ok((name, ended)) => {
                self.running.remove(&name);
                if ended.is_err() && result.is_ok() {
                    *result = ended;
                    self.shutdown.cancel();
                }
            }
            Err(error) => {
                // One that is gone without a word would leave its app as it is for ever.
                tracing::error!(%error, "a part of the dispatcher panicked; stopping");
                self.running.retain(|_, (_, id)| *id != error.id());
                if result.is_ok() {
                    *result = Err(Error::Panicked(error.to_string()));
                }
                self.shutdown.cancel();
            }
        }
    }
}

/// Whoever leaves keeps his account at an app that no configuration names, as after its name there was changed: that is
/// meant sometimes, and never to be unnoticed.
fn tell_forsaken(shared: &Shared) {
    let config = shared.config();
    for (app, accounts) in shared.links.beside(|name| config.apps.contains_key(name)) {
        tracing::warn!(
            app,
            accounts,
            "accounts were made at an app that the configuration does not name any more: nobody ends access there. If it is named \
             otherwise now, give it this name again"
        );
    }
}

/// The worker of what is configured under this name; nothing when nothing is.
fn make(
    shared: &Shared,
    transport: Option<Arc<dyn Transport>>,
    subject: &str,
    config: &Config,
) -> Result<Option<Worker>, Error> {
    let Some((kind, name)) = subject.split_once('/') else { return Ok(None) };
    if let Some(app) = config.apps.get(name).filter(|_| kind == "app") {
        let worker = app::Worker::new(name.to_string(), app.clone(), shared.clone(), transport)?;
        return Ok(Some(Worker::App(Box::new(worker))));
    }
    if let Some(feed) = config.feeds.get(name).filter(|_| kind == "feed") {
        let worker = feed::Worker::new(name.to_string(), feed.clone(), shared.clone())?;
        return Ok(Some(Worker::Feed(Box::new(worker))));
    }
    Ok(None)
}
