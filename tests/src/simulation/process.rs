//! One process of the house in simulation: projection, gateway and dispatcher, wired as the program wires them, and killed
//! without a word.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use dispatcher::{
    AppConfig, Auth, Dispatcher, Leave, Mapping, Matching, Profile, Rails, ReconcileConfig, Scope, Secret,
    Timing,
};
use eventlog::memory::{Chance, Cluster, Line, Weather};
use eventlog::{Broker, Keyring};
use gateway::{Gateway, Limits, Policies, TenantPolicy, Tokens};
use projector::{MemoryStore, Projection, Storage};
use proto::Tenant;
use proto::sealing::DataKey;
use scim::Registry;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::app::{App, Wire};

/// The one tenant.
pub const TENANT: &str = "corp";
/// How long whatever is tried again may be tried in all.
const PATIENCE: Duration = Duration::from_secs(600);

/// What all processes share.
#[derive(Clone)]
pub struct World {
    /// Streams and buckets.
    pub cluster: Cluster,
    /// The schemas.
    pub registry: Arc<Registry>,
    /// The app.
    pub app: App,
    /// The scope of users at the app.
    pub scope: Option<String>,
    /// How the app is configured.
    pub config: AppConfig,
    /// How bad the lines are.
    pub weather: Weather,
    /// A broker on whose line nothing goes wrong, and its keys: for whoever judges.
    pub calm: (Broker, Keyring),
    /// What must not happen and did.
    pub failures: Arc<Mutex<Vec<String>>>,
}

impl World {
    /// The tenant.
    pub fn tenant(&self) -> Tenant {
        TENANT.parse().expect("a tenant")
    }

    /// Says that something happened that must not.
    pub fn fail(&self, what: String) {
        self.failures.lock().expect("no panic").push(what);
    }
}

/// What of a process outlives it.
pub struct Place {
    name: String,
    store: MemoryStore,
    line: Mutex<Option<Arc<Line>>>,
    running: Mutex<Option<Arc<Running>>>,
}

/// A process that runs.
pub struct Running {
    /// What clients talk to.
    pub router: Router,
    /// The directory.
    pub projection: Projection,
    /// How its apps are.
    pub statuses: Box<dyn Fn() -> BTreeMap<String, dispatcher::Status> + Send + Sync>,
    /// Ends when it is killed.
    pub killed: CancellationToken,
    line: Arc<Line>,
    tasks: Mutex<JoinSet<()>>,
}

impl Place {
    /// A place where a process can run.
    pub fn new(name: &str) -> Self {
        let store = MemoryStore::default();
        Self { name: name.to_string(), store, line: Mutex::default(), running: Mutex::default() }
    }

    /// The process, if it runs.
    pub fn running(&self) -> Option<Arc<Running>> {
        self.running.lock().expect("no panic").clone()
    }

    /// Its rows.
    pub fn store(&self) -> &MemoryStore {
        &self.store
    }

    /// Kills the process, even while it starts; of what its store has not flushed, a share stays.
    pub fn kill(&self, chance: &Chance) {
        self.give_up_starting();
        if let Some(running) = self.running.lock().expect("no panic").take() {
            running.killed.cancel();
            running.tasks.lock().expect("no panic").abort_all();
        }
        self.store.crash(chance.below(1001));
    }

    /// What a process that does not serve yet has begun comes to nothing.
    pub fn give_up_starting(&self) {
        if let Some(line) = self.line.lock().expect("no panic").take() {
            line.cut();
        }
    }

    /// Starts a process; returns once it serves.
    pub async fn start(&self, world: &World, seed: u64, storm: bool) {
        let weather = if storm { world.weather } else { Weather::default() };
        let line = Arc::new(Line::new(seed, weather));
        *self.line.lock().expect("no panic") = Some(line.clone());
        let running = start(self, world, line).await;
        *self.running.lock().expect("no panic") = Some(Arc::new(running));
    }
}

impl Running {
    /// From now on nothing goes wrong between this process and the rest.
    pub fn calm(&self) {
        self.line.calm();
    }
}

/// The projection's configuration.
pub fn projection_config(store: &MemoryStore) -> projector::Config {
    projector::Config {
        storage: Storage::Memory(store.clone()),
        cache_bytes: 1 << 20,
        hot_bytes: 1 << 20,
        indexed: Vec::new(),
        until: None,
        restored_at: None,
    }
}

fn gateway_config() -> gateway::Config {
    let unique = [("User".to_string(), vec!["nickName".to_string()])].into();
    let policy = TenantPolicy { unique, ..TenantPolicy::default() };
    gateway::Config {
        listen: ([127, 0, 0, 1], 0).into(),
        tls: None,
        public_url: Some("http://house.test".to_string()),
        behind_proxy: false,
        announce_security_events: false,
        limits: Limits::default(),
        policies: Policies { tenants: [(TENANT.to_string(), policy)].into() },
    }
}

/// An app that keeps no account of those who are gone or left, with this scope of users.
pub fn app_config(registry: &Registry, scope: Option<&str>) -> AppConfig {
    let mut chosen = Scope::all(["Group"]);
    let kind = registry.by_name("User").expect("the type");
    chosen.choose(registry, kind, scope, None).expect("a filter");
    AppConfig {
        tenant: TENANT.parse().expect("a tenant"),
        url: "http://app.test/scim".parse().expect("a URL"),
        auth: Auth::bearer(Secret::new("secret")),
        scope: chosen,
        profile: Arc::new(Profile::scim()),
        budgets: Vec::new(),
        budget_shared_as: None,
        budget_weight: 1,
        on_delete: Leave::Delete,
        on_leave: Leave::Delete,
        timing: Timing::default(),
        mapping: Mapping::default(),
        matching: Matching::default(),
        timeout_ms: 5_000,
        late_ms: 10_000,
        concurrency: 4,
        attempts_max: 20,
        // Chance deletes as much as it likes.
        guard: Rails { limits: BTreeMap::new(), ..Rails::default() },
        rollout: None,
        read_only: false,
        // Whoever is read by chance must be found as he was told to be.
        reconcile: ReconcileConfig { sample: 4, sample_minutes: 1, ..ReconcileConfig::default() },
    }
}

/// Tries again what may succeed a moment later.
async fn again<T, E: std::error::Error, F: Future<Output = Result<T, E>>>(
    what: &str,
    mut attempt: impl FnMut() -> F,
) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match attempt().await {
            Ok(done) => return done,
            Err(error) if Instant::now() > deadline => panic!("{what}: {error}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
        }
    }
}

async fn start(place: &Place, world: &World, line: Arc<Line>) -> Running {
    let broker = world.cluster.connect(&line);
    let master = DataKey::new([1; 32]);
    let secret = again("the secret", || eventlog::subject_secret(&broker, &master)).await;
    let keyring = Keyring::new(broker.keys.clone(), DataKey::new([1; 32]));
    let projection = again("opening", || {
        let config = projection_config(&place.store);
        Projection::open(config, broker.identity.clone(), keyring.clone(), world.registry.clone())
    })
    .await;
    let shutdown = CancellationToken::new();
    let mut tasks = JoinSet::new();
    let (running, stop) = (projection.clone(), shutdown.clone());
    watch(&mut tasks, world, &place.name, "projection", async move { running.run(stop).await });
    again("catching up", || projection.catch_up(Instant::now() + Duration::from_secs(5))).await;

    let tokens = Tokens::new(broker.control.clone());
    let (following, stop) = (tokens.clone(), shutdown.clone());
    watch(&mut tasks, world, &place.name, "tokens", async move { following.run(stop).await });
    again("the tokens", || tokens.catch_up(Instant::now() + Duration::from_secs(5))).await;
    let parts = gateway::Parts {
        broker: broker.clone(),
        projection: projection.clone(),
        keyring: keyring.clone(),
        secret,
        registry: world.registry.clone(),
        tokens,
    };
    let gateway = Gateway::new(&gateway_config(), parts);
    let (accepted, stop) = (gateway.clone(), shutdown.clone());
    tasks.spawn(async move { accepted.take_over(stop).await });

    let apps = [("app".to_string(), world.config.clone())].into();
    let config = dispatcher::Config { apps, ..dispatcher::Config::default() };
    let registry = world.registry.clone();
    let holder = place.name.clone();
    let wire = Arc::new(Wire { app: world.app.clone(), line: line.clone() });
    let dispatcher =
        Dispatcher::new(config, broker, projection.clone(), keyring, registry, holder).over(wire);
    let statuses = Box::new(dispatcher.statuses());
    watch(&mut tasks, world, &place.name, "dispatcher", dispatcher.run(shutdown));
    let killed = CancellationToken::new();
    Running { router: gateway.router(), projection, statuses, killed, line, tasks: Mutex::new(tasks) }
}

/// A part that ends by itself has failed: nobody told it to stop.
fn watch<E: std::error::Error>(
    tasks: &mut JoinSet<()>,
    world: &World,
    place: &str,
    part: &str,
    running: impl Future<Output = Result<(), E>> + Send + 'static,
) {
    let (world, name) = (world.clone(), format!("{part} of {place}"));
    tasks.spawn(async move {
        let why = match running.await {
            Ok(()) => "by itself".to_string(),
            Err(error) => causes(&error),
        };
        world.fail(format!("the {name} ended: {why}"));
    });
}

fn causes(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |error| error.source());
    sources.fold(error.to_string(), |text, source| format!("{text}: {source}"))
}
