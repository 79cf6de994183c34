//! Before the first call: whether the app is still where its accounts were made.

use super::Worker;
use super::railed::Railing;
use crate::{Error, valve};

impl Railing {
    /// Hears where the configuration has the app. Where that is elsewhere, and accounts are linked, a person must say that they
    /// are there before anything is called.
    pub(super) async fn is_at(&self, worker: &Worker) -> Result<(), Error> {
        let (url, linked) = (worker.config.url.as_str(), worker.shared.links.linked(&worker.name));
        let was_asked = self.state().valve.question().is_some();
        let change = |valve: &mut valve::Valve| {
            valve.is_at(url, linked > 0);
            Ok(())
        };
        let changed = match valve::change(&*worker.shared.broker.leases, &worker.name, change).await {
            // Nothing is called where nobody knows what was stopped.
            Err(error) if !error.is_retryable() => return Ok(()),
            changed => changed?,
        };
        if let Ok((valve, ())) = changed {
            if let Some(why) = valve.question().filter(|_| !was_asked) {
                tracing::error!(app = worker.name, linked, why, "an app is paused");
                self.record("pause", &why, serde_json::Value::Null).await?;
            }
            self.state().set(valve);
        }
        Ok(())
    }
}
