//! Who is due: because of an event of the log, or because an account is new or lost.

use proto::ResourceId;
use tokio::time::Instant;

use super::Worker;
use super::due::Due;
use super::perform::WRITE_TIMEOUT;
use super::railed::Railing;
use crate::Error;
use crate::affected::{Affected, Who, affected, ends};
use crate::herald::Heard;

impl Worker {
    /// Marks whom an event affects.
    pub(super) async fn mark(&self, due: &mut Due, railing: &Railing, heard: &Heard) -> Result<(), Error> {
        let Heard { sequence, event, body, .. } = heard;
        let sequence = *sequence;
        if event.tenant != self.config.tenant {
            return Ok(());
        }
        if ends(&event.kind, body.as_ref()) {
            railing.leaves(event.resource_id, &event.kind, format!("{}/{}", event.source, event.actor));
        }
        let affected = affected(event, body.as_ref(), self.needs);
        if affected.iter().any(|one| one.who.is_looked_up()) {
            // Whoever looks earlier can miss those that came just before.
            let deadline = Instant::now() + WRITE_TIMEOUT;
            let wait = self.shared.projection.wait_until(sequence, deadline).await;
            wait.map_err(projector::Error::from)?;
        }
        for Affected { who, urgent } in affected {
            for id in self.look_up(who, heard) {
                if railing.comes_by_itself(id, sequence, urgent) {
                    continue;
                }
                due.mark(id, sequence, urgent);
                if urgent {
                    self.checks.ends(id, sequence, event.occurred_at);
                }
            }
        }
        Ok(())
    }

    /// Who it is, as of now. What happened between the event and now marks whom it took away.
    fn look_up(&self, who: Who, heard: &Heard) -> Vec<ResourceId> {
        let (projection, tenant) = (&self.shared.projection, &self.config.tenant);
        let now = projector::Moment::NOW;
        let with_below = |ids: Vec<ResourceId>| -> Vec<ResourceId> {
            let below = ids.iter().flat_map(|id| projection.descendants(tenant, *id)).collect::<Vec<_>>();
            ids.into_iter().chain(below).collect()
        };
        let ended = |stay: &projector::Stay| stay.to.is_some_and(|(at, _)| at == heard.sequence);
        match who {
            Who::One(id) => vec![id],
            Who::These(ids) => with_below(ids),
            Who::Below(id) => projection.descendants(tenant, id),
            Who::FormerMembers(id) => {
                let stays = projection.stays_in(tenant, id, now).into_iter().filter(ended);
                with_below(stays.map(|stay| stay.member).collect())
            }
            Who::FormerGroups(id) => {
                let stays = projection.stays_of(tenant, id, now).into_iter().filter(ended);
                stays.map(|stay| stay.group).collect()
            }
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
