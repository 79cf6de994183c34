//! Finding again what waits for its time: after a start nothing remembers it.
//!
//! Accounts that are switched off are known from the links. Beginnings and ends stand in the directory, so everybody in
//! scope is looked at once, beside the work, when the app has dates at all.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use proto::ResourceId;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use eventlog::clock;

use super::due::Due;
use super::perform::Performer;
use super::railed::Railing;
use super::timers::Timers;
use super::{AGAIN_DELAY, CATCH_UP_TIMEOUT, EVERYTHING, Worker};
use crate::Error;
use crate::plan::{Next, Plan, earlier, plan};

/// Found and not yet taken notice of.
const FOUND_MAX: usize = 256;
/// Looked at before others have their turn.
const LOOKS: usize = 64;

/// Somebody whose time is known now, or who is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    id: ResourceId,
    next: Option<Next>,
    /// Whether there is work, and whether that may reduce access.
    due: Option<bool>,
}

/// The look at everybody; ends with this.
pub(super) struct Dated {
    found: mpsc::Receiver<Found>,
    _look: JoinSet<()>,
}

impl Dated {
    /// Whom the look finds next; nothing once it is through.
    pub(super) async fn next(&mut self) -> Option<Found> {
        self.found.recv().await
    }
}

impl Found {
    pub(super) fn note(self, due: &mut Due, timers: &mut Timers, followed: u64) {
        if let Some(urgent) = self.due {
            due.mark(self.id, followed.max(1), urgent);
        }
        if let Some(next) = self.next {
            timers.set(self.id, next);
        }
    }
}

impl Worker {
    /// What waits for its time, and the look at everybody that finds the rest. When everything is due, the plans tell.
    pub(super) fn timers(&self, due: &mut Due, from: u64, railing: &Arc<Railing>) -> (Timers, Dated) {
        let mut timers = Timers::default();
        let timing = &self.config.timing;
        let (sender, found) = mpsc::channel(FOUND_MAX);
        let mut look = JoinSet::new();
        if due.oldest() != Some(EVERYTHING) {
            // The shorter of the two: whoever is looked at too early is planned for his own time.
            let graces = [timing.delete_after, timing.leave_grace];
            if let Some(grace) = graces.into_iter().flatten().min() {
                self.wait_for_deletions(&mut timers, grace);
            }
            if !timing.dates.is_empty() {
                look.spawn(self.performer(railing, true).look_at_everybody(from, sender));
            }
        }
        (timers, Dated { found, _look: look })
    }

    fn wait_for_deletions(&self, timers: &mut Timers, grace: SignedDuration) {
        for (id, since) in self.shared.links.deactivated(&self.name) {
            if let Ok(at) = since.checked_add(grace) {
                timers.set(id, Next { at, urgent: true });
            }
        }
    }
}

impl Performer {
    /// Tells of everybody in scope what time changes, and who is due because it did while nobody looked.
    async fn look_at_everybody(self, from: u64, sender: mpsc::Sender<Found>) {
        let (projection, tenant) = (&self.shared.projection, &self.config.tenant);
        while projection.wait_until(from, Instant::now() + CATCH_UP_TIMEOUT).await.is_err() {}
        for kind in self.shared.registry.resource_types() {
            if self.config.scope.of(&kind.name).is_none() {
                continue;
            }
            for (count, id) in projection.ids(tenant, &kind.name).into_iter().enumerate() {
                let found = loop {
                    match self.time_of(id).await {
                        Ok(found) => break found,
                        Err(error) => {
                            tracing::warn!(app = self.name, %error, "looking for dates; trying again");
                            tokio::time::sleep(AGAIN_DELAY).await;
                        }
                    }
                };
                if let Some(found) = found
                    && sender.send(found).await.is_err()
                {
                    return;
                }
                if count % LOOKS == LOOKS - 1 {
                    tokio::time::sleep(Duration::ZERO).await;
                }
            }
        }
    }

    async fn time_of(&self, id: ResourceId) -> Result<Option<Found>, Error> {
        let link = self.shared.links.get(&self.name, id);
        let Some(now) = self.look(id, &link).await? else { return Ok(None) };
        let desired = now.desired.as_ref().map_err(|leaving| *leaving);
        let (next, due) = match plan(desired, &link, &self.hash, clock::now()) {
            Plan::Settled { next } => (earlier(next, now.next), None),
            Plan::Held => (now.next, None),
            Plan::ReadBack | Plan::Call { .. } | Plan::Later { .. } | Plan::Hold { .. } => {
                (now.next, Some(desired.is_err()))
            }
        };
        let is_something = next.is_some() || due.is_some();
        Ok(is_something.then_some(Found { id, next, due }))
    }
}
