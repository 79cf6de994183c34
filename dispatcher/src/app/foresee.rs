//! What would be done, without doing it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use eventlog::clock;
use proto::ResourceId;
use tokio::time::Instant;

use super::look::Now;
use super::perform::Performer;
use super::railed::Railing;
use super::wanted::{Turn, Wanted, wanted};
use super::{EVERYTHING, Worker};
use crate::Error;
use crate::lease::{Lease, RENEW};
use crate::link::Link;
use crate::plan::{Plan, plan};
use crate::rails::{Counted, Operation};
use crate::valve::{EXAMPLES_MAX, Tripped};

/// A resource, what we know of it at the app, and the plan.
pub(crate) struct Foreseen {
    pub(crate) now: Now,
    pub(crate) link: Link,
    pub(crate) plan: Plan,
}

impl Foreseen {
    /// What the guard rails would count.
    pub(crate) fn wanted(&self, id: ResourceId) -> Option<Wanted> {
        match &self.plan {
            Plan::Call { call, .. } => wanted(Turn { id, until: EVERYTHING, asked: false }, &self.link, call),
            Plan::Settled { .. } | Plan::ReadBack | Plan::Later { .. } | Plan::Held | Plan::Hold { .. } => {
                None
            }
        }
    }
}

impl Performer {
    /// The first step of what would be done about a resource; nothing when neither the directory nor the app knows it.
    pub(crate) async fn foresee(&self, id: ResourceId) -> Result<Option<Foreseen>, Error> {
        let link = self.shared.links.get(&self.name, id);
        let Some(now) = self.look(id, &link).await? else { return Ok(None) };
        let desired = now.desired.as_ref().map_err(|leaving| *leaving);
        let plan = plan(desired, &link, &self.hash, clock::now());
        Ok(Some(Foreseen { now, link, plan }))
    }
}

impl Railing {
    /// Of what would be done together, what would be too much.
    pub(crate) fn too_much(&self, would_be: &[Wanted]) -> BTreeMap<Operation, Tripped> {
        let now = clock::now();
        let mut by_operation: BTreeMap<Operation, BTreeSet<Counted>> = BTreeMap::new();
        for Wanted { operation, counted } in would_be {
            by_operation.entry(*operation).or_default().extend(counted);
        }
        let mut tripped = BTreeMap::new();
        for (operation, all) in by_operation {
            let Some(limit) = self.config.guard.limit(operation) else { continue };
            let is_new = |one: &&Counted| {
                !self.shared.links.tally(&self.name, |tally| tally.has(operation, **one, now))
            };
            let new: Vec<Counted> = all.iter().filter(is_new).copied().collect();
            let counted = self.shared.links.tally(&self.name, |tally| tally.with(operation, new.len(), now));
            if let Some(found) = self.exceeds(operation, limit, counted, now) {
                let examples = new.iter().take(EXAMPLES_MAX).map(|(id, _)| *id).collect();
                tripped.insert(operation, Tripped { foreseen: true, waiting: new.len(), examples, ..found });
            }
        }
        tripped
    }
}

impl Worker {
    /// Plans everything without a call, so that what would be too much is held before the first. Says whether the lease is
    /// still ours.
    pub(super) async fn foresee(&self, railing: &Arc<Railing>, lease: &mut Lease) -> Result<bool, Error> {
        let (projection, links) = (&self.shared.projection, &self.shared.links);
        let performer = self.performer(railing, false);
        let mut all: BTreeSet<ResourceId> = links.of_app(&self.name).into_iter().collect();
        for kind in self.shared.registry.resource_types() {
            all.extend(projection.ids(&self.config.tenant, &kind.name));
        }
        let mut would_be = Vec::new();
        let mut renewed = Instant::now();
        for id in all {
            if renewed.elapsed() >= RENEW {
                if !lease.renew(&*self.shared.broker.leases).await? {
                    return Ok(false);
                }
                renewed = Instant::now();
            }
            would_be.extend(performer.foresee(id).await?.and_then(|foreseen| foreseen.wanted(id)));
        }
        railing.foresee(&would_be).await?;
        Ok(true)
    }
}
