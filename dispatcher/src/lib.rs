//! Keeps every app in step with the directory, and every feed's subscriber informed.
//!
//! Level-triggered: an event only marks who may have to change; what has to change is planned from what is and what
//! should be. It decides nothing about the directory. Start reading at `plan.rs`.

#![forbid(unsafe_code)]

mod affected;
mod app;
mod auth;
mod budget;
mod config;
mod connector;
mod dates;
mod desired;
mod drift;
mod feed;
mod lease;
mod link;
mod mapping;
mod naming;
mod plan;
mod profile;
mod rails;
mod scope;
mod trust;
mod valve;
mod view;
mod watermark;

pub use app::checks::{Drifted, Findings, Stranger};
pub use app::filling::Filling;
pub use app::reconciled::{Reconciled, Reconciliation};
pub use auth::{Auth, ClientAuth, OAuth, Scheme, Source, Tls, Unproven};
pub use config::{
    AfterRestore, AppConfig, Config, FeedConfig, Leave, OnDrift, OnStranger, ReconcileConfig, Secret, Timing,
};
pub use connector::{NoAnswer, Transport};
pub use dates::{BeforeStart, Dates};
pub use mapping::{MapRule, Mapping, OnNull};
pub use profile::{Budget, Calls, Missing, Profile, Window};
pub use rails::{Limit, Operation, Rails};
pub use scope::Scope;
pub use valve::{Refusal, Released, Said, Tripped, Valve};
pub use view::{AppView, HeldView, Unanswered, View, Which, WorkView};

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use eventlog::{Broker, Keyring};
use projector::Projection;
use scim::Registry;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use budget::Purses;
use link::Links;

/// The dispatcher cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log.
    #[error(transparent)]
    Log(#[from] eventlog::Error),
    /// The directory.
    #[error(transparent)]
    Directory(#[from] projector::Error),
    /// An event that this version cannot read.
    #[error("reading the event of {stream} at sequence {sequence}")]
    Event {
        /// The stream.
        stream: &'static str,
        /// Where it stands.
        sequence: u64,
        /// Why.
        #[source]
        source: proto::codec::Error,
    },
    /// Certificates of an app cannot be used.
    #[error("making an HTTP client for app {app}: {reason}")]
    App {
        /// The app.
        app: String,
        /// Why.
        reason: String,
    },
    /// An HTTP client cannot be made.
    #[error("making an HTTP client for {name}")]
    Client {
        /// The app or feed.
        name: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
}

/// What everything in this crate works with. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) broker: Broker,
    pub(crate) projection: Projection,
    pub(crate) keyring: Keyring,
    pub(crate) registry: Arc<Registry>,
    pub(crate) links: Links,
    /// Who we are to other dispatchers.
    pub(crate) holder: String,
    /// What may be called, and by whom together.
    pub(crate) purses: Purses,
    status: Arc<Mutex<BTreeMap<String, Status>>>,
}

/// How an app or a feed is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Up to where everything is done or held.
    pub watermark: u64,
    /// Resources that wait for their turn.
    pub due: usize,
    /// Resources that wait for a person.
    pub held: usize,
    /// Why nothing goes on at the moment.
    pub waiting_for: Option<String>,
    /// How far everything is planned, while it is: for a new app, or another configuration.
    pub filling: Option<Filling>,
}

/// What an app or feed waits for until it has begun.
const STARTING: &str = "starting";

/// Apps and feeds at work.
pub struct Dispatcher {
    config: Config,
    shared: Shared,
    transport: Option<Arc<dyn Transport>>,
}

impl Dispatcher {
    /// Wires a dispatcher; nothing runs yet. `holder` must be the same after a restart on the same data folder.
    pub fn new(
        config: Config,
        broker: Broker,
        projection: Projection,
        keyring: Keyring,
        registry: Arc<Registry>,
        holder: String,
    ) -> Self {
        let links = Links::new(broker.provisioning.clone(), keyring.clone(), broker.timeline.clone());
        for (name, app) in &config.apps {
            links.guard(name, &app.guard);
        }
        let status = Arc::default();
        let purses = Purses::default();
        let shared = Shared { broker, projection, keyring, registry, links, holder, purses, status };
        // Whoever asks at once shall not hear that there is no such app.
        for name in config.apps.keys().chain(config.feeds.keys()) {
            shared.tell(name, Status { waiting_for: Some(STARTING.to_string()), ..Status::default() });
        }
        Self { config, shared, transport: None }
    }

    /// Reaches its apps in another way than over HTTP.
    pub fn over(self, transport: Arc<dyn Transport>) -> Self {
        Self { transport: Some(transport), ..self }
    }

    /// Tells how every app and feed is, while it runs.
    pub fn statuses(&self) -> impl Fn() -> BTreeMap<String, Status> + Send + Sync + 'static {
        let status = self.shared.status.clone();
        move || status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks and tells it, while it runs.
    pub fn view(&self) -> View {
        View { shared: self.shared.clone(), apps: Arc::new(self.config.apps.clone()) }
    }

    /// Works until told to stop. One sick app never delays another; an event that cannot be read stops all.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let mut tasks: JoinSet<Result<(), Error>> = JoinSet::new();
        let (links, stop) = (self.shared.links.clone(), shutdown.clone());
        tasks.spawn(async move { links.run(stop).await });
        for (name, app) in self.config.apps {
            let worker = app::Worker::new(name, app, self.shared.clone(), self.transport.clone())?;
            let stop = shutdown.clone();
            tasks.spawn(async move { worker.run(stop).await });
        }
        for (name, feed) in self.config.feeds {
            let worker = feed::Worker::new(name, feed, self.shared.clone())?;
            let stop = shutdown.clone();
            tasks.spawn(async move { worker.run(stop).await });
        }
        let mut result = Ok(());
        while let Some(ended) = tasks.join_next().await {
            let ended = ended.unwrap_or_else(|error| {
                tracing::error!(%error, "a part of the dispatcher panicked");
                Ok(())
            });
            if ended.is_err() && result.is_ok() {
                result = ended;
                shutdown.cancel();
            }
        }
        result
    }
}

impl Shared {
    pub(crate) fn tell(&self, name: &str, status: Status) {
        metrics::gauge!("rollcall_app_due", "app" => name.to_string()).set(status.due as f64);
        metrics::gauge!("rollcall_app_held", "app" => name.to_string()).set(status.held as f64);
        self.status.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_string(), status);
    }
}
