//! The admin listener: health, metrics, status. Bound to loopback unless told otherwise.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use dispatcher::Status;
use eventlog::Broker;
use metrics_exporter_prometheus::PrometheusHandle;
use projector::Projection;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::Failure;

/// How long the log may take to answer before we count as not ready.
const READY_TIMEOUT: Duration = Duration::from_secs(2);
/// How many events the projection may be behind and still count as ready.
const LAG_MAX: u64 = 1_000;

type Statuses = Box<dyn Fn() -> BTreeMap<String, Status> + Send + Sync>;

/// What the admin listener tells about.
pub(crate) struct About {
    role: &'static str,
    broker: Broker,
    projection: Projection,
    metrics: PrometheusHandle,
    token: String,
    statuses: OnceLock<Statuses>,
}

impl About {
    pub(crate) fn new(
        role: &'static str,
        broker: Broker,
        projection: Projection,
        metrics: PrometheusHandle,
        token: String,
    ) -> Self {
        Self { role, broker, projection, metrics, token, statuses: OnceLock::new() }
    }

    /// Tells of the dispatcher's apps and feeds from now on.
    pub(crate) fn set_statuses(&self, statuses: Statuses) {
        let _ = self.statuses.set(statuses);
    }

    /// Where the projection and the log stand; an error says why we are not ready.
    async fn readiness(&self) -> Result<projector::Readiness, String> {
        if !self.broker.reachable() {
            return Err("the broker cannot be reached".to_string());
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
    Ok(listener)
}

/// Serves until told to stop.
pub(crate) async fn serve(
    listener: TcpListener,
    about: Arc<About>,
    shutdown: CancellationToken,
) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::of("serving the admin API", &error);
    let router = Router::new()
        .route("/livez", get(async || "alive\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/api/v1/status", get(status))
        .with_state(about);
    let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
    let stopped = async move { shutdown.cancelled().await };
    axum::serve(listener, router).with_graceful_shutdown(stopped).await.map_err(failed)
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

async fn status(State(about): State<Arc<About>>, headers: HeaderMap) -> Response {
    let presented = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let presented = presented.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    // Comparing digests takes the same time for every wrong token.
    let digest = |text: &str| <sha2::Sha256 as sha2::Digest>::digest(text.as_bytes());
    if digest(presented) != digest(&about.token) {
        let challenge = [(header::WWW_AUTHENTICATE, "Bearer realm=\"rollcall admin\"")];
        return (StatusCode::UNAUTHORIZED, challenge, "the admin token is needed (ADMIN_TOKEN in dev.env)\n")
            .into_response();
    }
    let readiness = about.readiness().await;
    let body = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "role": about.role,
        "ready": readiness.is_ok(),
        "reason": readiness.as_ref().err(),
        "projection": {"applied": about.projection.applied(), "last": readiness.as_ref().map(|found| found.last).ok()},
        "tenants": about.projection.counts().iter().map(|(tenant, counts)| (tenant.to_string(), json!(counts))).collect::<serde_json::Map<String, Value>>(),
        "apps": about.statuses.get().map(|statuses| statuses()).unwrap_or_default(),
    });
    ([(header::CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
}
