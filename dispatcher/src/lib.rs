//! Keeps every app in step with the directory, and every feed's subscriber informed.
//!
//! Level-triggered: an event only marks who may have to change; what has to change is planned from what is and what
//! should be. It decides nothing about the directory. Start reading at `plan.rs`.

#![forbid(unsafe_code)]

mod affected;
mod app;
mod auth;
mod book;
mod budget;
mod config;
mod connector;
mod crew;
mod dates;
mod decided;
mod desired;
mod drift;
mod feed;
mod gauges;
mod herald;
mod lease;
mod link;
mod links;
mod mapping;
mod matching;
mod naming;
mod place;
mod plan;
mod profile;
mod rails;
mod reload;
mod rollout;
#[cfg(test)]
mod sample;
mod scope;
mod told;
mod trust;
mod unheard;
mod valve;
mod view;
mod watermark;

pub use app::checks::{Drifted, Findings, Stranger};
pub use app::filling::Filling;
pub use app::reconciled::{Reconciled, Reconciliation};
pub use auth::{Auth, ClientAuth, OAuth, Scheme, Source, Tls, Unproven};
pub use budget::CALLS_MAX;
pub use config::{
    AfterRestore, AppConfig, Begin, Config, FeedConfig, Leave, OnDrift, OnStranger, ReconcileConfig, Secret,
    Timing,
};
pub use connector::{NoAnswer, Transport};
pub use crew::Steward;
pub use dates::{BeforeStart, Dates};
pub use feed::{FeedState, Feeds, Held, Instructed, Instruction, Origin, Stopped, Waiting, Work};
pub use mapping::{MapRule, Mapping, OnNull};
pub use matching::{Matching, OnMatch};
pub use profile::{Budget, Calls, Missing, Profile, Window};
pub use rails::{Limit, Operation, Rails};
pub use reload::{Became, Change};
pub use rollout::{Failed, Rollout, RolloutConfig, Share, Stage};
pub use scope::Scope;
pub use valve::{Refusal, Released, Said, Tripped, Valve};
pub use view::{
    AppView, Apply, Check, HeldView, IMPORT_MOST, IMPORT_MOST_MAX, Import, Maker, Making, NotMade,
    PROVISION_SECONDS, PROVISION_SECONDS_MAX, Part, Unanswered, Verdict, View, Which, WorkView,
};

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use eventlog::{Broker, Keyring};
use projector::Projection;
use scim::Registry;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use budget::Purses;
use crew::{Crew, Orders};
use herald::Herald;
use links::Links;

/// The dispatcher cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log.
    #[error(transparent)]
    Log(#[from] eventlog::Error),
    /// The directory.
    #[error(transparent)]
    Directory(#[from] projector::Error),
    /// A part of the dispatcher panicked.
    #[error("a part of the dispatcher panicked: {0}")]
    Panicked(String),
    /// An event that this version cannot read.
    #[error("reading the event of {stream} at sequence {sequence} (see `rollcall events pass-over --help`)")]
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
    pub(crate) herald: Herald,
    /// Who we are to other dispatchers.
    pub(crate) holder: String,
    /// What may be called, and by whom together.
    pub(crate) purses: Purses,
    status: Arc<Mutex<BTreeMap<String, Status>>>,
    config: Arc<RwLock<Arc<Config>>>,
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
    shared: Shared,
    transport: Option<Arc<dyn Transport>>,
    steward: Steward,
    orders: Orders,
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
        let (status, purses) = (Arc::default(), Purses::new(config.calls_max));
        let config = Arc::new(RwLock::new(Arc::new(config)));
        let herald = Herald::new(broker.identity.clone(), keyring.clone());
        let shared =
            Shared { broker, projection, keyring, registry, links, herald, holder, purses, status, config };
        // Whoever asks at once shall not hear that there is no such app.
        shared.starting();
        let (steward, orders) = Steward::new(shared.clone());
        Self { shared, transport: None, steward, orders }
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
        self.steward.view()
    }

    /// Gives it another configuration, while it runs.
    pub fn steward(&self) -> Steward {
        self.steward.clone()
    }

    /// Works until told to stop. One sick app never delays another; an event that cannot be read stops all.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let Self { shared, transport, steward, orders } = self;
        // Whoever else has one can give orders; this one cannot.
        drop(steward);
        let mut crew = Crew::new(shared.clone(), transport, shutdown);
        crew.begin(&shared.config())?;
        crew.run(orders).await
    }
}

impl Shared {
    /// The configuration in force.
    pub(crate) fn config(&self) -> Arc<Config> {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_config(&self, config: Config) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
    }

    /// Whatever has not begun says so.
    pub(crate) fn starting(&self) {
        let config = self.config();
        let feeds = config.feeds.keys().map(|name| format!("{}{name}", gauges::FEED));
        for name in config.apps.keys().cloned().chain(feeds) {
            let told = Status { waiting_for: Some(STARTING.to_string()), ..Status::default() };
            self.status.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_insert(told);
        }
    }

    /// Tells no more of an app or a feed.
    pub(crate) fn forget(&self, name: &str) {
        gauges::tell(name, &Status::default());
        self.status.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    pub(crate) fn tell(&self, name: &str, status: Status) {
        gauges::tell(name, &status);
        self.status.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_string(), status);
    }
}
