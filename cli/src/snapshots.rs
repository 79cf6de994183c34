//! Taking snapshots of the projection now and then, so that a new process begins quickly.

use std::time::Duration;

use eventlog::{Broker, clock};
use projector::{Projection, Snapshot};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::Failure;
use crate::args::AdminApi;
use crate::audit::Client;
use crate::output::print;
use crate::settings::Settings;

/// How often it is looked whether one is due.
const LOOK_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// The first look.
const FIRST_DELAY: Duration = Duration::from_secs(60);
/// Several processes do not look at the same moment.
const SPREAD_MS: u64 = 60_000;

/// When snapshots are taken, and how many stay.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    /// Between two; nothing when none are taken.
    pub(crate) interval: Option<Duration>,
    /// So many of the newest stay.
    pub(crate) kept: usize,
    /// Events that must have come since the last one.
    pub(crate) events_min: u64,
}

/// Takes them when they are due, until told to stop. Whichever process comes first does it for all.
pub(crate) async fn run(projection: Projection, broker: Broker, schedule: Schedule, stop: CancellationToken) {
    let spread = clock::random::<8>().map(u64::from_le_bytes).unwrap_or_default() % SPREAD_MS;
    let mut delay = FIRST_DELAY + Duration::from_millis(spread);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(delay) => {}
        }
        delay = LOOK_INTERVAL;
        // A stop does not wait until a large one is there: what broke off is swept by whoever looks next.
        tokio::select! {
            () = stop.cancelled() => return,
            () = look(&projection, &broker, schedule) => {}
        }
    }
}

async fn look(projection: &Projection, broker: &Broker, schedule: Schedule) {
    if let Err(error) = projection.prune_snapshots(&*broker.snapshots, schedule.kept).await {
        tracing::warn!(%error, "snapshots cannot be removed");
    }
    let Some(interval) = schedule.interval else { return };
    match is_due(projection, broker, interval, schedule.events_min).await {
        Ok(false) => {}
        Ok(true) => match take(projection, broker, schedule.kept).await {
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "no snapshot could be taken; trying again later"),
        },
        Err(error) => tracing::warn!(%error, "snapshots cannot be listed"),
    }
}

async fn is_due(
    projection: &Projection,
    broker: &Broker,
    interval: Duration,
    events_min: u64,
) -> Result<bool, eventlog::Error> {
    let applied = projection.applied();
    let objects = broker.snapshots.list().await?;
    let newest =
        objects.iter().filter_map(|object| object.name.parse::<u64>().ok()).max().unwrap_or_default();
    let put = objects.iter().filter_map(|object| object.put).max();
    let is_old = put.is_none_or(|put| clock::now().duration_since(put).unsigned_abs() >= interval);
    Ok(is_old && !projection.is_filling() && applied.saturating_sub(newest) >= events_min)
}

/// `rollcall projector snapshot`: has a running process take one.
pub(crate) async fn ask(settings: &Settings, api: &AdminApi) -> Result<(), Failure> {
    let told = Client::new(settings, api)?.post("/api/v1/projection/snapshot").await?;
    let number = |name: &str| told.get(name).and_then(Value::as_u64).unwrap_or_default();
    let line = match told.get("snapshot").and_then(Value::as_str) {
        None => "there is nothing to take yet: no event is applied".to_string(),
        Some(name) => {
            format!("snapshot {name}: {} events, {:.1} MB", number("rows"), number("bytes") as f64 / 1e6)
        }
    };
    print(&line);
    Ok(())
}

/// Takes one now and removes those that are too many. Nothing when there is nothing to take.
pub(crate) async fn take(
    projection: &Projection,
    broker: &Broker,
    kept: usize,
) -> Result<Option<Snapshot>, projector::Error> {
    let begun = std::time::Instant::now();
    let Some(snapshot) = projection.snapshot(&*broker.snapshots).await? else { return Ok(None) };
    projection.prune_snapshots(&*broker.snapshots, kept.max(1)).await?;
    tracing::info!(
        snapshot = %snapshot.name(),
        rows = snapshot.rows(),
        megabytes = snapshot.bytes() / 1_000_000,
        duration_ms = begun.elapsed().as_millis(),
        "a snapshot of the projection is taken"
    );
    Ok(Some(snapshot))
}
