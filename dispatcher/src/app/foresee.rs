//! What would be done, without doing it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use eventlog::clock;
use proto::ResourceId;
use serde_json::json;
use tokio::time::Instant;

use super::author::author;
use super::look::Now;
use super::perform::Performer;
use super::railed::Railing;
use super::rollout::Affected;
use super::wanted::{Turn, Wanted, wanted};
use super::{EVERYTHING, Worker};
use crate::Error;
use crate::lease::{Lease, RENEW};
use crate::link::Link;
use crate::plan::{Plan, plan};
use crate::rails::{Counted, Operation};
use crate::valve::{self, EXAMPLES_MAX, Tripped, Valve};

/// A resource, what we know of it at the app, and the plan.
pub(crate) struct Foreseen {
    pub(crate) now: Now,
    pub(crate) link: Link,
    pub(crate) plan: Plan,
}

impl Foreseen {
    /// What the guard rails would count when no event asks for it.
    pub(crate) fn wanted(&self, id: ResourceId) -> Option<Wanted> {
        self.counted(id, false)
    }

    /// What they would count when somebody asks for it.
    pub(crate) fn asked_for(&self, id: ResourceId) -> Option<Wanted> {
        self.counted(id, true)
    }

    fn counted(&self, id: ResourceId, asked: bool) -> Option<Wanted> {
        match &self.plan {
            Plan::Call { call, .. } => wanted(Turn { id, until: EVERYTHING, asked }, &self.link, call),
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
    /// A whole configuration, before its first call: what it would do is counted, and held if it is too much.
    pub(crate) async fn foresee(&self, would_be: &[Wanted]) -> Result<(), Error> {
        let tripped = self.too_much(would_be);
        let is_held = !tripped.is_empty();
        let author = if is_held { author(&self.shared, &self.name, &self.hash).await? } else { None };
        for (operation, mut tripped) in tripped {
            tripped.caused_by(author.iter());
            self.state().hold(operation, &tripped);
            self.trip(operation, tripped).await?;
        }
        if is_held { Ok(()) } else { self.take_back().await }
    }

    /// What was foreseen of another configuration is not held any more: nothing of it was done.
    pub(crate) async fn take_back(&self) -> Result<(), Error> {
        let broker = &self.shared.broker;
        let taken = self.state().valve.clone().take_back(&self.hash);
        if taken.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = taken.into_iter().map(Operation::name).collect();
        self.record("take_back", "the configuration is another", json!({"operations": names})).await?;
        let change = |valve: &mut Valve| Ok(valve.take_back(&self.hash));
        if let Ok((valve, _)) = valve::change(&*broker.leases, &self.name, change).await? {
            self.state().set(valve);
        }
        tracing::info!(app = self.name, "the configuration that was held is taken back");
        Ok(())
    }

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
        let (mut would_be, mut affected) = (Vec::new(), Affected::new(&self.hash));
        let mut renewed = Instant::now();
        for id in all {
            if renewed.elapsed() >= RENEW {
                if !lease.renew(&*self.shared.broker.leases).await? {
                    return Ok(false);
                }
                renewed = Instant::now();
            }
            let Some(foreseen) = performer.foresee(id).await? else { continue };
            affected.note(id, &foreseen);
            would_be.extend(foreseen.wanted(id));
        }
        railing.foresee(&would_be).await?;
        railing.roll_out(affected).await?;
        Ok(true)
    }
}
