//! Logs to standard error, metrics for Prometheus.

use std::io::IsTerminal;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use crate::Failure;
use crate::args::LogFormat;

/// Buckets of every `*_duration_seconds` histogram.
const DURATION_BUCKETS_S: [f64; 12] =
    [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.0, 10.0];

/// Starts logging. The broker client's own chatter is a warning's worth at most.
pub(crate) fn start_logs(filter: &str, format: LogFormat) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(format!("async_nats=warn,sled=warn,{filter}"))
        .map_err(|error| Failure::of(format_args!("--log {filter}"), &error))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}

/// Starts collecting metrics and returns what renders them.
pub(crate) fn start_metrics() -> Result<PrometheusHandle, Failure> {
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_duration_seconds".to_string()), &DURATION_BUCKETS_S)
        .and_then(|builder| builder.install_recorder())
        .map_err(|error| Failure::of("starting the metrics", &error))
}
