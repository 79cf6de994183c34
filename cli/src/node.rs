//! What runs in one process: connected, wired, served, and stopped in order.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dispatcher::{AppConfig, Dispatcher};
use eventlog::{Broker, Keyring, nats};
use gateway::{Bound, Gateway, Tokens};
use projector::Projection;
use proto::sealing::DataKey;
use scim::Registry;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use toml::Table;

use crate::admin::{self, About};
use crate::failure::causes;
use crate::reload::Reload;
use crate::settings::Settings;
use crate::{Failure, dev_env, open_files, retention, snapshots, telemetry};

/// How long catching up at the start may take before we say that it goes on.
const CATCH_UP_TOLD: Duration = Duration::from_secs(5);
/// How long to wait before the log is asked again how far it is.
const AGAIN_DELAY: Duration = Duration::from_secs(1);
/// How long the last look at the broker may take at the end.
const LAST_LOOK_MAX: Duration = Duration::from_secs(2);
/// How long reading the tokens at the start may take.
const TOKENS_MAX: Duration = Duration::from_secs(60);

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    All,
    Gateway,
    Projector,
    Dispatcher,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::All => "up",
            Self::Gateway => "gateway",
            Self::Projector => "projector",
            Self::Dispatcher => "dispatcher",
        }
    }
}

/// A process whose parts run.
pub(crate) struct Node {
    pub(crate) broker: Broker,
    pub(crate) scim_address: Option<SocketAddr>,
    pub(crate) admin_address: SocketAddr,
    pub(crate) admin_token: String,
    shutdown: CancellationToken,
    tasks: JoinSet<Result<(), Failure>>,
    signals: Signals,
    hang_ups: HangUps,
    parts: Parts,
    /// Once a dispatcher runs.
    reload: Option<Arc<Reload>>,
}

/// What is needed to start a dispatcher later, once its apps have tokens.
struct Parts {
    projection: Projection,
    keyring: Keyring,
    registry: Arc<Registry>,
    about: Arc<About>,
    holder: String,
}

/// Runs one role until told to stop.
pub(crate) async fn run(settings: Settings, role: Role) -> Result<(), Failure> {
    let hang_ups = HangUps::listen()?;
    let config = settings.broker_config(None)?;
    let mut node = Node::start(&settings, role, &config, hang_ups).await?;
    if role == Role::Dispatcher {
        node.dispatch(settings.dispatcher, BTreeMap::new(), settings.sections);
    }
    tracing::info!(address = %node.admin_address, role = role.name(), "ready");
    node.wait().await
}

impl Node {
    /// Connects and starts everything but the dispatcher; returns once the projection has caught up.
    pub(crate) async fn start(
        settings: &Settings,
        role: Role,
        config: &nats::Config,
        hang_ups: HangUps,
    ) -> Result<Self, Failure> {
        std::fs::create_dir_all(&settings.data_dir).map_err(|error| {
            Failure::of(format_args!("making the data folder {}", settings.data_dir.display()), &error)
        })?;
        let metrics = telemetry::start_metrics()?;
        let listeners = match role {
            Role::All | Role::Gateway => 2,
            Role::Projector | Role::Dispatcher => 1,
        };
        open_files::take(listeners, settings.gateway.limits.connections_max as u64);
        // Addresses are taken first: a port that is in use shows at once.
        let bound = match role {
            Role::All | Role::Gateway => {
                Some(Bound::bind(&settings.gateway).await.map_err(|error| Failure::new(error.to_string()))?)
            }
            Role::Projector | Role::Dispatcher => None,
        };
        let admin_listener = admin::bind(settings.admin_listen)?;
        let admin_address = admin_listener
            .local_addr()
            .map_err(|error| Failure::of("asking for the admin address", &error))?;
        let starting = admin::Starting::serve(&admin_listener, metrics.clone(), &settings.gateway.limits)?;
        let broker = nats::connect(config).await.map_err(|error| Failure::of("starting", &error))?;
        let master = settings.master_key(&broker).await?;
        let secret = eventlog::subject_secret(&broker, &master)
            .await
            .map_err(|error| Failure::of("starting", &error))?;
        let keyring = Keyring::new(broker.keys.clone(), master.clone());
        let registry = settings.registry.clone();
        let projection = Projection::open_from(
            settings.projection(settings.projection_folder(), None, &broker),
            broker.identity.clone(),
            keyring.clone(),
            registry.clone(),
            Some(broker.snapshots.clone()),
        )
        .await
        .map_err(|error| Failure::of("opening the projection", &error))?;

        let shutdown = CancellationToken::new();
        let (mut tasks, mut signals) = (JoinSet::new(), Signals::listen()?);
        let (folded, stop) = (metrics.clone(), shutdown.clone());
        tasks.spawn(async move {
            telemetry::fold(move || folded.run_upkeep(), stop).await;
            Ok(())
        });
        let (running, stop) = (projection.clone(), shutdown.clone());
        tasks.spawn(async move {
            running.run(stop).await.map_err(|error| Failure::of("running the projection", &error))
        });
        while_running((&mut tasks, &shutdown, &mut signals), catch_up(&projection)).await?;
        // What reading a million rows has left would stay for as long as nobody asks for it.
        allocator::give_back();

        let scim_address = bound.as_ref().map(Bound::address);
        let tokens = Tokens::new(broker.control.clone());
        let parts = gateway::Parts {
            broker: broker.clone(),
            projection: projection.clone(),
            keyring: keyring.clone(),
            secret,
            registry: registry.clone(),
            tokens: tokens.clone(),
        };
        // Where nothing is served, it still carries out what an operator asks for.
        let gateway = Gateway::new(&settings.gateway, parts);
        if let Some(bound) = bound {
            let (following, stop) = (tokens.clone(), shutdown.clone());
            tasks.spawn(async move {
                following.run(stop).await.map_err(|error| Failure::of("following the tokens", &error))
            });
            while_running((&mut tasks, &shutdown, &mut signals), read_tokens(&tokens)).await?;
            tracing::info!(address = %bound.address(), tls = settings.gateway.tls.is_some(), "SCIM is served");
            let (accepted, stop) = (gateway.clone(), shutdown.clone());
            tasks.spawn(async move {
                accepted.take_over(stop).await;
                Ok(())
            });
            let (served, stop) = (gateway.clone(), shutdown.clone());
            tasks.spawn(async move {
                bound.serve(&served, stop).await;
                Ok(())
            });
        }

        let admin_token = dev_env::secret(&settings.data_dir, "admin.token", 24)?;
        let about = Arc::new(About::new(admin::Parts {
            role: role.name(),
            broker: broker.clone(),
            projection: projection.clone(),
            registry: registry.clone(),
            metrics,
            token: admin_token.clone(),
            limits: settings.gateway.limits.clone(),
            snapshots_kept: settings.snapshots.kept,
            scim_url: scim_url(settings, scim_address),
            gateway,
        }));
        starting.end().await;
        tasks.spawn(admin::serve(admin_listener, about.clone(), shutdown.clone()));
        let (kept, thinned, stop) = (settings.history_kept, projection.clone(), shutdown.clone());
        tasks.spawn(async move {
            retention::run(thinned, kept, stop.clone()).await;
            stop.cancelled().await;
            Ok(())
        });
        let (schedule, stop) = (settings.snapshots, shutdown.clone());
        let (taken_of, from) = (projection.clone(), broker.clone());
        tasks.spawn(async move {
            snapshots::run(taken_of, from, schedule, stop.clone()).await;
            stop.cancelled().await;
            Ok(())
        });
        let interval = settings.nats.verify_interval;
        tasks.spawn(verify(broker.clone(), master, interval, shutdown.clone()));
        let holder = dev_env::secret(&settings.data_dir, "node.id", 8)?;
        let parts = Parts { projection, keyring, registry, about, holder };
        Ok(Self {
            broker,
            scim_address,
            admin_address,
            admin_token,
            shutdown,
            tasks,
            signals,
            hang_ups,
            parts,
            reload: None,
        })
    }

    /// Starts the dispatcher. `fixed` are apps that no file names, `sections` what the file says of everything else.
    pub(crate) fn dispatch(
        &mut self,
        mut config: dispatcher::Config,
        fixed: BTreeMap<String, AppConfig>,
        sections: Table,
    ) {
        for (name, app) in &fixed {
            config.apps.entry(name.clone()).or_insert_with(|| app.clone());
        }
        let Parts { projection, keyring, registry, about, holder } = &self.parts;
        let dispatcher = Dispatcher::new(
            config,
            self.broker.clone(),
            projection.clone(),
            keyring.clone(),
            registry.clone(),
            holder.clone(),
        );
        about.set_statuses(Box::new(dispatcher.statuses()));
        let steward = dispatcher.steward();
        let asked = steward.clone();
        about.set_view(Box::new(move || asked.view()));
        let reload = Reload::new(steward, self.broker.clone(), registry.clone(), sections, fixed);
        let reload = Arc::new(reload);
        about.set_reload(reload.clone());
        self.reload = Some(reload);
        let stop = self.shutdown.clone();
        self.tasks.spawn(async move {
            dispatcher.run(stop).await.map_err(|error| Failure::of("running the dispatcher", &error))
        });
    }

    /// Works until a signal comes or a part fails, then stops everything in order.
    pub(crate) async fn wait(mut self) -> Result<(), Failure> {
        let mut ended = None;
        loop {
            tokio::select! {
                name = self.signals.stop() => {
                    tracing::info!(signal = name, "stopping");
                    break;
                }
                part = self.tasks.join_next() => {
                    ended = Some(part);
                    break;
                }
                Some(()) = self.hang_ups.0.recv() => match self.reload.clone() {
                    // It ends with the process, if it has not before.
                    Some(reload) => drop(tokio::spawn(async move { reload.hang_up().await })),
                    None => tracing::info!("SIGHUP: this process runs no dispatcher, so nothing is read again"),
                },
            }
        }
        let also = stop(&mut self.tasks, &self.shutdown).await;
        match ended {
            Some(part) => Err(why(part, also)),
            None => Ok(()),
        }
    }
}

/// Stops everything; returns the first failure that this brought to light.
async fn stop(tasks: &mut JoinSet<Result<(), Failure>>, shutdown: &CancellationToken) -> Option<Failure> {
    tokio::spawn(end_when_told_again());
    shutdown.cancel();
    let mut first = None;
    while let Some(ended) = tasks.join_next().await {
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => {
                tracing::error!(%failure, "a part ended badly");
                first.get_or_insert(failure);
            }
            Err(error) => tracing::error!(%error, "a part panicked"),
        }
    }
    tracing::info!("stopped");
    first
}

/// Does a part of the start. What runs already may fail meanwhile, and whoever waits may tell us to stop: then all stops.
async fn while_running(
    (tasks, shutdown, signals): (&mut JoinSet<Result<(), Failure>>, &CancellationToken, &mut Signals),
    work: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    let failure = tokio::select! {
        done = work => match done {
            Ok(()) => return Ok(()),
            Err(failure) => failure,
        },
        ended = tasks.join_next() => {
            let also = stop(tasks, shutdown).await;
            return Err(why(ended, also));
        }
        name = signals.stop() => Failure::new(format!("told to stop by {name} before it was ready")),
    };
    stop(tasks, shutdown).await;
    Err(failure)
}

/// Where clients reach the gateway, as far as this process knows.
fn scim_url(settings: &Settings, address: Option<SocketAddr>) -> String {
    let scheme = if settings.gateway.tls.is_some() { "https" } else { "http" };
    let bound = || address.map(|address| format!("{scheme}://{address}"));
    let url = settings.gateway.public_url.clone().or_else(bound).unwrap_or_default();
    url.trim_end_matches('/').to_string()
}

/// Why the process ends with a part of it. One that ended without a word did so because of another.
fn why(part: Option<Result<Result<(), Failure>, tokio::task::JoinError>>, also: Option<Failure>) -> Failure {
    match part {
        Some(Ok(Err(failure))) => failure,
        Some(Err(error)) => Failure::of("a part of the process panicked", &error),
        Some(Ok(Ok(()))) | None => {
            also.unwrap_or_else(|| Failure::new("a part of the process ended by itself"))
        }
    }
}

/// The signals that tell us to stop. What comes while nobody asks is kept.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(crate) fn listen() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(|error| Failure::of("listening for signals", &error));
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    /// Waits until we are told, and returns by which.
    async fn stop(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// The signal to read the configuration again. What comes during a start is kept: it must not end the process.
pub(crate) struct HangUps(Signal);

impl HangUps {
    pub(crate) fn listen() -> Result<Self, Failure> {
        signal(SignalKind::hangup()).map(Self).map_err(|error| Failure::of("listening for signals", &error))
    }
}

/// Whoever says it twice does not want to wait for what is under way. Nothing is lost by that which a kill would not lose.
async fn end_when_told_again() {
    let Ok(name) = told_to_stop().await else { return };
    tracing::warn!(signal = name, "told to stop again: ending at once, whatever is under way");
    #[expect(clippy::exit, reason = "whatever hangs is what would be waited for")]
    std::process::exit(1)
}

/// Waits until we are told to stop.
pub(crate) async fn told_to_stop() -> Result<&'static str, Failure> {
    Ok(Signals::listen()?.stop().await)
}

/// Reads what the log has and the projection has not, with a word now and then when it takes long.
async fn catch_up(projection: &Projection) -> Result<(), Failure> {
    loop {
        match projection.catch_up(Instant::now() + CATCH_UP_TOLD).await {
            Ok(()) => return Ok(()),
            Err(projector::Error::Lagging(lagging)) => {
                tracing::info!(applied = lagging.applied, last = lagging.wanted, "catching up with the log");
            }
            Err(projector::Error::Log(error)) if error.is_retryable() => {
                tracing::warn!(error = causes(&error), "the log does not say how far it is; asking again");
                tokio::time::sleep(AGAIN_DELAY).await;
            }
            Err(error) => return Err(Failure::of("catching up with the log", &error)),
        }
    }
}

async fn read_tokens(tokens: &Tokens) -> Result<(), Failure> {
    let deadline = Instant::now() + TOKENS_MAX;
    tokens.catch_up(deadline).await.map_err(|error| Failure::of("reading the tokens", &error))
}

/// A stream whose settings were changed deletes history or lets others do so, and one that was exchanged is another
/// history: stop before it is too late.
async fn verify(
    broker: Broker,
    master: DataKey,
    interval: Duration,
    shutdown: CancellationToken,
) -> Result<(), Failure> {
    loop {
        // At once as well: where the streams end is written down by it, and is missed if they are shorter some day.
        verify_once(&broker, &master).await?;
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = shutdown.cancelled() => {
                // And once more, for what came since. A broker that is gone already is not waited for.
                let _ = tokio::time::timeout(LAST_LOOK_MAX, broker.verify()).await;
                return Ok(());
            }
        }
    }
}

async fn verify_once(broker: &Broker, master: &DataKey) -> Result<(), Failure> {
    match broker.verify().await {
        Ok(()) => {}
        Err(error) if error.is_retryable() => {
            tracing::warn!(error = causes(&error), "the broker's settings cannot be read at the moment");
            return Ok(());
        }
        Err(error) => return Err(Failure::of("checking the broker", &error)),
    }
    // This process still knows the secret; the next that starts would not.
    match eventlog::read_subject_secret(broker, master).await {
        Ok(Some(_)) => {}
        Ok(None) => tracing::error!(
            "the subject secret is gone from the bucket ROLLCALL: no process will start any more. Restore the bucket from a \
             backup while this one runs"
        ),
        Err(error) if error.is_retryable() => {}
        Err(error) => return Err(Failure::of("checking the broker", &error)),
    }
    Ok(())
}
