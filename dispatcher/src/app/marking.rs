//! Who is due: because of an event of the log, or because an account is new or lost.

use std::sync::Arc;

use proto::{Event, Kind, ResourceId};
use tokio::time::Instant;

use super::Worker;
use super::due::Due;
use super::perform::WRITE_TIMEOUT;
use super::railed::Railing;
use super::rollout::Known;
use crate::Error;
use crate::affected::{Who, changes, ends};
use crate::herald::{Heard, Step, Stretch};
use crate::plan::Away;

impl Worker {
    /// Marks whom these events affect.
    pub(super) async fn mark(
        &self,
        due: &mut Due,
        railing: &Arc<Railing>,
        heard: &Stretch,
    ) -> Result<(), Error> {
        let steps = heard.steps(&self.config.tenant, self.needs);
        let known = railing.known();
        if !self.deciding.is_empty() {
            self.mark_leavers(due, railing, heard, &known).await?;
        }
        if known.may_cover(heard.first()) {
            self.mark_these(due, railing, heard, &known, steps.all()).await?;
        } else {
            self.mark_these(due, railing, heard, &known, steps.pressing()).await?;
            due.mark_later(steps);
        }
        let count = metrics::counter!("rollcall_app_events_total", "app" => self.name.clone());
        count.increment(heard.len() as u64);
        Ok(())
    }

    async fn mark_these(
        &self,
        due: &mut Due,
        railing: &Railing,
        heard: &Stretch,
        known: &Known<'_>,
        steps: impl Iterator<Item = &Step>,
    ) -> Result<(), Error> {
        for step in steps {
            let Some(of) = heard.event(step) else { continue };
            let Event { kind, source, actor, resource_id, .. } = &of.event;
            let leaves = |id| railing.leaves(id, kind, format!("{source}/{actor}"));
            if step.ends {
                leaves(*resource_id);
            }
            if step.who.is_looked_up() {
                // Whoever looks earlier can miss those that came just before.
                let deadline = Instant::now() + WRITE_TIMEOUT;
                let wait = self.shared.projection.wait_until(step.sequence, deadline).await;
                wait.map_err(projector::Error::from)?;
            }
            for id in self.look_up(&step.who, of) {
                if step.who == Who::Everybody {
                    leaves(id);
                }
                self.mark_one(due, known, step, of, id);
            }
        }
        Ok(())
    }

    /// Whoever is not switched off and leaves all the same, because of what an event changed: the filter does not hold any
    /// more, or the end has come. That is not seen in the event, and overtakes everything else like it.
    async fn mark_leavers(
        &self,
        due: &mut Due,
        railing: &Arc<Railing>,
        heard: &Stretch,
        known: &Known<'_>,
    ) -> Result<(), Error> {
        let performer = self.performer(railing, true);
        for of in heard.events().filter(|of| of.event.tenant == self.config.tenant) {
            let Event { kind, resource_id: id, .. } = &of.event;
            if !matches!(kind, Kind::Updated { .. })
                || !changes(of.body.as_ref(), &self.deciding)
                || ends(kind, of.body.as_ref())
                || known.covers(*id, of.sequence, false)
            {
                continue;
            }
            let link = self.shared.links.get(&self.name, *id);
            if link.remote_id.is_none() || link.is_off {
                continue;
            }
            let wait = self.shared.projection.wait_until(of.sequence, Instant::now() + WRITE_TIMEOUT).await;
            wait.map_err(projector::Error::from)?;
            let now = performer.look(*id, &link).await?;
            let leaving = now.and_then(|now| now.desired.err());
            if leaving.is_some_and(|leaving| leaving.away != Away::Unclear) {
                due.mark(*id, of.sequence, true);
                self.checks.ends(*id, of.sequence, of.event.occurred_at);
            }
        }
        Ok(())
    }

    fn mark_one(&self, due: &mut Due, known: &Known<'_>, step: &Step, of: &Heard, id: ResourceId) {
        let Step { sequence, urgent, .. } = *step;
        if known.covers(id, sequence, urgent) {
            return;
        }
        due.mark(id, sequence, urgent);
        if urgent {
            self.checks.ends(id, sequence, of.event.occurred_at);
        }
    }

    /// Who it is, as of now. What happened between the event and now marks whom it took away.
    fn look_up(&self, who: &Who, heard: &Heard) -> Vec<ResourceId> {
        let (projection, tenant) = (&self.shared.projection, &self.config.tenant);
        let with_below = |ids: Vec<ResourceId>| -> Vec<ResourceId> {
            let below = ids.iter().flat_map(|id| projection.descendants(tenant, *id)).collect::<Vec<_>>();
            ids.into_iter().chain(below).collect()
        };
        match *who {
            Who::One(id) => vec![id],
            Who::These(ref ids) => with_below(ids.clone()),
            Who::Below(id) => projection.descendants(tenant, id),
            Who::FormerMembers(id) => with_below(projection.left_with(tenant, id, heard.sequence)),
            Who::FormerGroups(id) => projection.lost_with(tenant, id, heard.sequence),
            Who::Groups(id) => projection.groups_of(tenant, id),
            Who::Naming(id) => heard.naming(|| self.naming.of(projection, tenant, id)).to_vec(),
            Who::Everybody => self.shared.links.of_app(&self.name),
        }
    }

    /// Marks those whose plan an account decides: the groups that can hold it or not any more, and, when the app knows it
    /// by another id than before, whoever names it.
    pub(super) fn tell(&self, due: &mut Due, id: ResourceId, renamed: bool, since: u64) {
        let (projection, tenant) = (&self.shared.projection, &self.config.tenant);
        for group in projection.groups_of(tenant, id) {
            if self.shared.links.lacks(&self.name, group, id) {
                due.mark(group, since, false);
            }
        }
        if renamed {
            for other in self.naming.of(projection, tenant, id) {
                due.mark(other, since, false);
            }
        }
    }

    /// Marks whose account was being read back when work was interrupted.
    pub(super) fn take_up(&self, due: &mut Due, since: u64) {
        for (id, ended) in self.shared.links.unfinished(&self.name) {
            due.mark(id, since, true);
            if let Some(ended) = ended {
                self.checks.ends(id, since, ended);
            }
        }
    }

    /// Whoever was about to be told when work was interrupted is told again: accounts of which we learned after the
    /// watermark.
    pub(super) async fn tell_again(&self, due: &mut Due, from: u64) -> Result<(), Error> {
        let renamed = self.shared.links.renamed_since(&self.name, from);
        if renamed.is_empty() {
            return Ok(());
        }
        let deadline = Instant::now() + super::CATCH_UP_TIMEOUT;
        let wait = self.shared.projection.wait_until(from, deadline).await;
        wait.map_err(projector::Error::from)?;
        for id in renamed {
            self.tell(due, id, true, from.max(1));
        }
        Ok(())
    }
}
