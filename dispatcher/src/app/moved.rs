//! Before the first call: whether the app is still where its accounts were made.

use serde_json::Value;

use super::Worker;
use super::railed::Railing;
use crate::Error;
use crate::valve::{self, Valve};

impl Railing {
    /// Hears where the configuration has the app. Where that is elsewhere, and accounts are linked, a person must say that they
    /// are there before anything is called. What changes is written down before it does: rather twice than never.
    pub(super) async fn is_at(&self, worker: &Worker) -> Result<(), Error> {
        let (url, linked) = (worker.config.url.as_str(), worker.shared.links.linked(&worker.name));
        let hear = |valve: &mut Valve| valve.is_at(url, linked > 0);
        let (before, after) = {
            let mut valve = self.state().valve.clone();
            let before = valve.question();
            hear(&mut valve);
            (before, valve.question())
        };
        if let Some(why) = &after {
            tracing::error!(app = worker.name, linked, why, "an app is paused");
        }
        match &after {
            after if *after == before => {}
            Some(why) => self.record("pause", why, Value::Null).await?,
            None => self.record("resume", "it is where its accounts were made", Value::Null).await?,
        }
        let change = |valve: &mut Valve| {
            hear(valve);
            Ok(())
        };
        match valve::change(&*worker.shared.broker.leases, &worker.name, change).await {
            // Nothing is called where nobody knows what was stopped.
            Err(error) if !error.is_retryable() => {}
            Err(error) => return Err(error.into()),
            Ok(Err(_)) => {}
            Ok(Ok((valve, ()))) => self.state().set(valve),
        }
        Ok(())
    }
}
