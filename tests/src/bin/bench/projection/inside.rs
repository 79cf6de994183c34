//! The directory asked inside its own process: it runs on threads of its own, and whoever asks has one thread.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use super::asks::Asks;
use super::feed::Feed;
use super::population::Population;
use super::{changes, gets, keys, questions, table, time};
use crate::load::{self, Figures};

/// How long one figure is measured.
pub(crate) const CELL: Duration = Duration::from_secs(3);
/// Everything may be applied first.
const PATIENCE: Duration = Duration::from_secs(3_600);
/// People who are asked for again and again.
pub(crate) const WORKING: usize = 100_000;

/// A directory that runs, and who is in it.
pub(crate) struct World {
    pub(crate) population: Population,
    pub(crate) feed: Arc<Feed>,
    pub(crate) keyring: eventlog::Keyring,
    pub(crate) asks: Asks,
    /// What the directory runs on.
    pub(crate) runtime: Runtime,
}

pub(crate) fn run(work: &Path, folder: &Path, population: &Population, wanted: impl Fn(&str) -> bool) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let (feed, keyring) = (Arc::new(Feed::open(work)), keys::open(work));
    let asks = runtime.block_on(Asks::open(folder, feed.clone(), keyring.clone()));
    let shutdown = CancellationToken::new();
    let (projection, token) = (asks.projection.clone(), shutdown.clone());
    let running = runtime.spawn(async move { projection.run(token).await });
    let deadline = tokio::time::Instant::now() + PATIENCE;
    runtime
        .block_on(asks.projection.wait_until(feed.written(), deadline))
        .expect("everything is applied in time");
    let world = World { population: population.clone(), feed, keyring, asks, runtime };
    table::head("inside the process, asked by one thread");
    if wanted("gets") {
        gets::run(&world);
    }
    if wanted("questions") {
        questions::run(&world);
    }
    if wanted("time") {
        time::run(&world);
    }
    if wanted("changes") {
        changes::run(&world);
    }
    shutdown.cancel();
    world.runtime.block_on(running).expect("it ends").expect("it went well");
}

/// Does something again and again on this thread, as long as `goes_on` says so, and at least once.
pub(crate) fn timed(goes_on: impl Fn(Duration) -> bool, mut work: impl AsyncFnMut(usize)) -> Figures {
    load::on_one_thread(async {
        let (begun, mut latencies) = (Instant::now(), Vec::new());
        loop {
            let one = Instant::now();
            work(latencies.len()).await;
            latencies.push(one.elapsed());
            if !goes_on(begun.elapsed()) {
                return load::figures(latencies, begun.elapsed());
            }
        }
    })
}

/// For as long as one figure is measured.
pub(crate) fn a_cell(took: Duration) -> bool {
    took < CELL
}
