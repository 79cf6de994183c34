//! Figures that go up and down: how many wait at an app or a feed. They are those of whoever works for it, so whoever stops
//! working for it shows none any more; the next one shows them.

use std::collections::BTreeMap;

use crate::Status;
use crate::rails::Operation;

/// What the names of feeds begin with among the statuses, so that an app and a feed of one name are two.
pub(crate) const FEED: &str = "feed.";

/// How many wait at an app or a feed.
pub(crate) fn tell(name: &str, status: &Status) {
    let set = |gauge: metrics::Gauge, count: usize| gauge.set(count as f64);
    match name.strip_prefix(FEED) {
        Some(feed) => set(metrics::gauge!("rollcall_feed_held", "feed" => feed.to_string()), status.held),
        None => {
            set(metrics::gauge!("rollcall_app_due", "app" => name.to_string()), status.due);
            set(metrics::gauge!("rollcall_app_held", "app" => name.to_string()), status.held);
        }
    }
}

/// How many wait because of the guard rails of an app, for as long as it is worked for.
#[derive(Debug, Default)]
pub(crate) struct Railed {
    app: String,
    counts: BTreeMap<Operation, usize>,
}

impl Railed {
    pub(crate) fn new(app: &str) -> Self {
        Self { app: app.to_string(), counts: BTreeMap::new() }
    }

    /// So many wait, by operation; of what was released meanwhile nobody does.
    pub(crate) fn tell(&mut self, counts: BTreeMap<Operation, usize>) {
        let over = self.counts.keys().filter(|operation| !counts.contains_key(operation));
        for (operation, count) in over.map(|operation| (operation, &0)).chain(&counts) {
            metrics::gauge!("rollcall_app_railed", "app" => self.app.clone(), "operation" => operation.name())
                .set(*count as f64);
        }
        self.counts = counts;
    }
}

impl Drop for Railed {
    fn drop(&mut self) {
        self.tell(BTreeMap::new());
    }
}
