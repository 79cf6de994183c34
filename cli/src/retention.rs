//! How far back the projection can be asked.

use std::time::Duration;

use eventlog::clock;
use jiff::SignedDuration;
use projector::Projection;
use tokio_util::sync::CancellationToken;

/// How often history is thinned.
const INTERVAL: Duration = Duration::from_secs(60 * 60);
/// The first time.
const FIRST_DELAY: Duration = Duration::from_secs(5 * 60);

/// Thins what is older than this, until told to stop; nothing keeps everything.
pub(crate) async fn run(projection: Projection, kept: Option<Duration>, stop: CancellationToken) {
    let Some(kept) = kept.and_then(|kept| SignedDuration::try_from(kept).ok()) else { return };
    let mut delay = FIRST_DELAY;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(delay) => {}
        }
        delay = INTERVAL;
        if let Ok(before) = clock::now().checked_sub(kept) {
            projection.thin(before);
        }
    }
}
