//! Logs to standard error, panics among them, metrics for Prometheus.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::IsTerminal;
use std::panic::PanicHookInfo;
use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::Failure;
use crate::args::LogFormat;

/// Buckets of every `*_duration_seconds` histogram.
const DURATION_BUCKETS_S: [f64; 12] =
    [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.0, 10.0];

/// Buckets of how long it takes until access has ended at an app.
const ENDED_BUCKETS_S: [f64; 12] =
    [0.1, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0, 300.0, 1_800.0, 7_200.0, 21_600.0, 86_400.0];
/// Buckets of every other histogram: they count.
const COUNT_BUCKETS: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1_024.0];
/// How often what histograms were told is folded.
const FOLD_INTERVAL: Duration = Duration::from_secs(5);

/// Starts logging. The broker client's own chatter is a warning's worth at most.
pub(crate) fn start_logs(filter: &str, format: LogFormat) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(format!("async_nats=warn,sled=warn,{filter}"))
        .map_err(|error| Failure::of(format_args!("--log {filter}"), &error))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        // A log that cannot be written, on a full disk or into a pipe that nobody reads, stops nothing.
        .log_internal_errors(false);
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    std::panic::set_hook(Box::new(tell_panic));
    Ok(())
}

/// A panic is a line of the log as everything else, in its format. What a panic says may hold values, and so what is true
/// of a person; only fixed words are told.
fn tell_panic(panic: &PanicHookInfo<'_>) {
    let at = panic.location().map(ToString::to_string).unwrap_or_default();
    let words = panic.payload().downcast_ref::<&'static str>().copied().unwrap_or("with words of its own");
    if projector::is_guarded() {
        tracing::debug!(at, words, "the store panicked, which is taken for damage of its files");
        return;
    }
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or_default();
    let backtrace = Backtrace::capture();
    match backtrace.status() {
        BacktraceStatus::Captured => tracing::error!(at, thread, words, %backtrace, "a thread panicked"),
        _ => tracing::error!(at, thread, words, "a thread panicked"),
    }
}

/// Folds what histograms were told into their figures, until told to stop. Until then each value is kept by itself, and a
/// process whose metrics nobody reads would keep all of them.
pub(crate) async fn fold(fold_once: impl Fn(), stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(FOLD_INTERVAL) => fold_once(),
        }
    }
}

/// Starts collecting metrics and returns what renders them.
pub(crate) fn start_metrics() -> Result<PrometheusHandle, Failure> {
    let installed = with_buckets().and_then(PrometheusBuilder::install_recorder);
    installed.map_err(|error| Failure::of("starting the metrics", &error))
}

/// What has no buckets is no histogram but a summary, which nobody can add up over several processes.
fn with_buckets() -> Result<PrometheusBuilder, BuildError> {
    PrometheusBuilder::new()
        .set_buckets(&COUNT_BUCKETS)?
        .set_buckets_for_metric(Matcher::Suffix("_duration_seconds".to_string()), &DURATION_BUCKETS_S)?
        .set_buckets_for_metric(Matcher::Suffix("_ended_seconds".to_string()), &ENDED_BUCKETS_S)
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_panic_is_a_line_of_the_log_without_values() {
        let lines = Lines::default();
        let writer = lines.clone();
        let logs = tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
        let name = "ada@example.com";
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(tell_panic));
        tracing::subscriber::with_default(logs, || {
            let _ = std::panic::catch_unwind(|| panic!("{name} is not there"));
            let _ = std::panic::catch_unwind(|| panic!("fixed words"));
        });
        std::panic::set_hook(before);
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let told: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(told.len(), 2, "{text}");
        assert!(text.contains("fixed words") && text.contains("telemetry.rs"), "{text}");
        assert!(!text.contains("ada"), "{text}");
    }

    #[test]
    fn every_histogram_has_the_buckets_of_its_unit() {
        let recorder = with_buckets().unwrap().build_recorder();
        metrics::with_local_recorder(&recorder, || {
            metrics::histogram!("rollcall_request_duration_seconds").record(0.3);
            metrics::histogram!("rollcall_app_access_ended_seconds", "app" => "wiki").record(90_000.0);
            metrics::histogram!("rollcall_bulk_operations").record(3.0);
        });
        let text = recorder.handle().render();
        for line in [
            "rollcall_request_duration_seconds_bucket{le=\"0.5\"} 1",
            "rollcall_app_access_ended_seconds_bucket{app=\"wiki\",le=\"86400\"} 0",
            "rollcall_app_access_ended_seconds_bucket{app=\"wiki\",le=\"+Inf\"} 1",
            "rollcall_bulk_operations_bucket{le=\"4\"} 1",
        ] {
            assert!(text.lines().any(|told| told == line), "{line} is not in:\n{text}");
        }
        assert!(!text.contains("summary"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn histograms_are_folded_although_nobody_reads_them() {
        let (stop, folded) = (CancellationToken::new(), Arc::new(Mutex::new(0)));
        let count = folded.clone();
        let task = tokio::spawn(fold(move || *count.lock().unwrap() += 1, stop.clone()));
        tokio::time::sleep(FOLD_INTERVAL * 10 + FOLD_INTERVAL / 2).await;
        assert_eq!(*folded.lock().unwrap(), 10);
        stop.cancel();
        task.await.unwrap();
        assert_eq!(*folded.lock().unwrap(), 10);
    }
}
