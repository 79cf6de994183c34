//! What the admin listener answers until the process is ready: that it lives, that it is not ready, and its metrics. A
//! start that reads a long log must not be taken for a process that hangs.

use std::net::TcpListener;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::routing::get;
use gateway::{Connections, Limits};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::problem::Problem;
use crate::Failure;

/// Serves until whoever tells more takes over.
pub(crate) struct Starting {
    stop: CancellationToken,
    served: JoinHandle<()>,
}

impl Starting {
    /// Serves on the same address as the listener, which is only looked at.
    pub(crate) fn serve(
        listener: &TcpListener,
        metrics: PrometheusHandle,
        limits: &Limits,
    ) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::of("serving the admin API", &error);
        let listener = listener.try_clone().and_then(tokio::net::TcpListener::from_std).map_err(failed)?;
        let text = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
        let router = Router::new()
            .route("/livez", get(async || "alive\n"))
            .route("/readyz", get(async || (StatusCode::SERVICE_UNAVAILABLE, "not ready: starting\n")))
            .route("/metrics", get(async move || (text, metrics.render())))
            .fallback(async || Problem::busy("starting", "this process is not ready yet: ask again"));
        let connections = Connections::new("admin", limits, None, Problem::of_head);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let served = tokio::spawn(async move { connections.serve(listener, router, stopped).await });
        Ok(Self { stop, served })
    }

    /// Answers what was asked, and leaves the address to another.
    pub(crate) async fn end(self) {
        self.stop.cancel();
        let _ = self.served.await;
    }
}
