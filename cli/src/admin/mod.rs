//! The admin listener: health, metrics, status, and the auditor's questions. Bound to loopback unless told otherwise.

mod apps;
mod asked;
mod audit;
mod config;
mod feeds;
mod found;
mod import;
mod members;
mod people;
mod problem;
mod proof;
mod reconcile;
mod snapshot;
mod starting;
mod status;
mod then;

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use dispatcher::{Status, View};
use eventlog::Broker;
use gateway::{Connections, Gateway, Limits};
use metrics_exporter_prometheus::PrometheusHandle;
use projector::Projection;
use scim::Registry;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::Failure;
use crate::reload::Reload;
use found::Found;
use problem::Problem;
pub(crate) use starting::Starting;

/// How long the log may take to answer before we count as not ready.
const READY_TIMEOUT: Duration = Duration::from_secs(2);
/// How many events the projection may be behind and still count as ready.
const LAG_MAX: u64 = 1_000;

type Statuses = Box<dyn Fn() -> BTreeMap<String, Status> + Send + Sync>;
type Views = Box<dyn Fn() -> View + Send + Sync>;

/// What an admin listener is built from.
pub(crate) struct Parts {
    /// The role's name.
    pub(crate) role: &'static str,
    pub(crate) broker: Broker,
    pub(crate) projection: Projection,
    pub(crate) registry: Arc<Registry>,
    pub(crate) metrics: PrometheusHandle,
    pub(crate) token: String,
    /// How much one question may ask for.
    pub(crate) limits: Limits,
    /// How many snapshots of the projection stay.
    pub(crate) snapshots_kept: usize,
    /// Where clients reach the gateway, without a slash at its end; empty when this process has none.
    pub(crate) scim_url: String,
    /// What makes resources, under the rules of the directory.
    pub(crate) gateway: Gateway,
}

/// What the admin listener tells about.
pub(crate) struct About {
    role: &'static str,
    broker: Broker,
    projection: Projection,
    registry: Arc<Registry>,
    metrics: PrometheusHandle,
    token: String,
    limits: Limits,
    snapshots_kept: usize,
    scim_url: String,
    gateway: Gateway,
    /// Turns at looking at the past.
    turns: Arc<Semaphore>,
    /// What was found of which more is to be told.
    found: Found,
    statuses: OnceLock<Statuses>,
    view: OnceLock<Views>,
    reload: OnceLock<Arc<Reload>>,
}

impl About {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { role, broker, projection, registry, metrics, token, limits, .. } = parts;
        let Parts { snapshots_kept, scim_url, gateway, .. } = parts;
        let turns = Arc::new(Semaphore::new(asked::TURNS_MAX));
        let (statuses, view, reload) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        Self {
            role,
            broker,
            projection,
            registry,
            metrics,
            token,
            limits,
            snapshots_kept,
            scim_url,
            gateway,
            turns,
            found: Found::default(),
            statuses,
            view,
            reload,
        }
    }

    /// Tells of the dispatcher's apps and feeds from now on.
    pub(crate) fn set_statuses(&self, statuses: Statuses) {
        let _ = self.statuses.set(statuses);
    }

    /// Asks this dispatcher from now on, as it is configured whenever it is asked.
    pub(crate) fn set_view(&self, view: Views) {
        let _ = self.view.set(view);
    }

    /// Has this configuration read again, when somebody asks for it.
    pub(crate) fn set_reload(&self, reload: Arc<Reload>) {
        let _ = self.reload.set(reload);
    }

    /// Where the projection and the log stand; an error says why we are not ready.
    async fn readiness(&self) -> Result<projector::Readiness, String> {
        if !self.broker.reachable() {
            return Err("the broker cannot be reached".to_string());
        }
        if let Some(reason) = self.projection.stalled() {
            return Err(format!(
                "the projection's rows cannot be written, and no more fit into memory: {reason}"
            ));
        }
        match tokio::time::timeout(READY_TIMEOUT, self.projection.readiness()).await {
            Err(_) => Err("the broker does not answer".to_string()),
            Ok(Err(error)) => Err(crate::failure::causes(&error)),
            Ok(Ok(found)) if found.last.saturating_sub(found.applied) > LAG_MAX => {
                Err(format!("the projection stands at {} of {}", found.applied, found.last))
            }
            Ok(Ok(found)) => Ok(found),
        }
    }
}

/// Takes the address.
pub(crate) fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(format!(
            "listening for the admin API on {address}: {error}; choose another address with --admin-listen (port 0 picks a free one)"
        ))
    };
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    if !address.ip().is_loopback() {
        tracing::warn!(
            %address,
            "the admin API speaks plain HTTP, and others than this machine can reach it: its token is to be seen on the way"
        );
    }
    Ok(listener)
}

/// Serves until told to stop.
pub(crate) async fn serve(
    listener: TcpListener,
    about: Arc<About>,
    shutdown: CancellationToken,
) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::of("serving the admin API", &error);
    let connections = Connections::new("admin", &about.limits, None, Problem::of_head);
    let router = Router::new()
        .route("/livez", get(async || "alive\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/api/v1/status", get(status::status))
        .route("/api/v1/audit/history", get(audit::history))
        .route("/api/v1/audit/at", get(audit::at))
        .route("/api/v1/audit/members", get(members::members))
        .route("/api/v1/audit/diff", get(audit::diff))
        .route("/api/v1/audit/digest", get(audit::digest))
        .route("/api/v1/explain", get(audit::explain))
        .route("/api/v1/projection/snapshot", post(snapshot::take))
        .merge(apps::routes())
        .merge(people::routes())
        .merge(reconcile::routes())
        .merge(proof::routes())
        .merge(import::routes())
        .merge(feeds::routes())
        .route("/api/v1/config/reload", post(config::reload))
        .fallback(Problem::no_endpoint)
        .method_not_allowed_fallback(Problem::no_method)
        .with_state(about);
    let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
    connections.serve(listener, router, shutdown).await;
    Ok(())
}

async fn ready(State(about): State<Arc<About>>) -> Response {
    match about.readiness().await {
        Ok(_) => "ready\n".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")).into_response(),
    }
}

async fn metrics(State(about): State<Arc<About>>) -> Response {
    let headers = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    (headers, about.metrics.render()).into_response()
}
