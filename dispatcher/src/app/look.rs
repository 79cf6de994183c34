//! What the app should hold of a resource as of now.

use std::collections::BTreeSet;

use eventlog::clock;
use jiff::Timestamp;
use projector::{Lens, Moment, Stored};
use proto::{KeyRef, ResourceId, subject};
use scim::ResourceType;

use super::perform::{Performer, has, has_members};
use super::reconcile::STRANGER;
use crate::Error;
use crate::dates::{BeforeStart, Standing};
use crate::desired::{Desired, attributes};
use crate::link::Link;
use crate::plan::{Leaving, Next};
use crate::profile::Missing;
use crate::scope::Holder;

/// A resource as of now.
pub(crate) struct Now {
    pub(crate) kind: ResourceType,
    pub(crate) desired: Result<Desired, Leaving>,
    pub(super) key_ref: Option<KeyRef>,
    /// Why it cannot be sent as it is.
    pub(super) missing: Option<Missing>,
    /// When this changes without an event.
    pub(super) next: Option<Next>,
}

impl Performer {
    /// The resource and what the app should hold of it; nothing when neither the directory nor the app knows it.
    pub(super) async fn look(&self, id: ResourceId, link: &Link) -> Result<Option<Now>, Error> {
        let (projection, tenant) = (&self.shared.projection, &self.config.tenant);
        let Some(name) = projection.type_of(tenant, id) else {
            if link.remote_id.is_none() && !link.intent_open && link.trust.unverified.is_none() {
                return Ok(None);
            }
            let Some(kind) = self.type_of_link(id).await? else { return Ok(None) };
            if link.trust.stranger && self.is_owned(link) {
                return Ok(None);
            }
            let (policy, grace) = (self.config.on_delete, self.config.timing.delete_after);
            let deleted = self.leaving(&kind, policy, grace, "deleted in the directory");
            let desired = Err(if link.trust.stranger { STRANGER } else { deleted });
            return Ok(Some(Now { kind, desired, key_ref: None, missing: None, next: None }));
        };
        let Some(kind) = self.shared.registry.by_name(&name).cloned() else { return Ok(None) };
        let Some(stored) = projection.resource(tenant, &name, id).await? else { return Ok(None) };
        let key_ref = stored.key_ref;
        let (wanted, next) = self.wanted(&kind, &stored, clock::now());
        let (desired, missing) = match wanted {
            Ok(desired) => self.shaped(&kind, desired),
            Err(leaving) => (Err(leaving), None),
        };
        Ok(Some(Now { kind, desired, key_ref, missing, next }))
    }

    /// The type of a resource that is gone, from the last thing we wrote about it.
    async fn type_of_link(&self, id: ResourceId) -> Result<Option<ResourceType>, Error> {
        for kind in self.shared.registry.resource_types() {
            let subject = subject::provisioning(&self.config.tenant, &self.name, &kind.name, id);
            if self.shared.broker.provisioning.last_on(&subject).await?.is_some() {
                return Ok(Some(kind.clone()));
            }
        }
        Ok(None)
    }

    /// What the app should hold of a resource at a time, and when that changes by itself.
    fn wanted(
        &self,
        kind: &ResourceType,
        stored: &Stored,
        now: Timestamp,
    ) -> (Result<Desired, Leaving>, Option<Next>) {
        let timing = &self.config.timing;
        let can = has(&self.shared, kind, "active");
        let leaving = |why| Err(self.leaving(kind, self.config.on_leave, timing.leave_grace, why));
        if !self.in_scope(kind, stored) {
            return (leaving("left the app's scope"), None);
        }
        match timing.dates.standing(&stored.document, now) {
            Standing::Unclear(why) => (Err(Leaving::unclear(why)), None),
            Standing::Over => (leaving("its end has come"), None),
            Standing::Present { until } => {
                (Ok(self.desired(kind, stored)), until.map(|at| Next { at, urgent: true }))
            }
            Standing::Early { until } => {
                let next = Some(Next { at: until, urgent: false });
                match timing.dates.before_start() {
                    BeforeStart::Inactive if can => {
                        let mut desired = self.desired(kind, stored);
                        desired.attributes.insert("active".to_string(), false.into());
                        (Ok(desired), next)
                    }
                    BeforeStart::Absent | BeforeStart::Inactive => {
                        (leaving("its beginning has not come"), next)
                    }
                }
            }
        }
    }

    fn in_scope(&self, kind: &ResourceType, stored: &Stored) -> bool {
        let Some(chosen) = self.config.scope.of(&kind.name) else { return false };
        let holders = if chosen.needs.groups { self.holders(stored.id) } else { Vec::new() };
        let lens = Lens { members: chosen.needs.members, groups: chosen.needs.groups, ..Lens::default() };
        chosen.holds(&holders, || self.shared.projection.represent(&self.config.tenant, stored, kind, &lens))
    }

    /// The groups that hold a resource, by itself or through other groups.
    fn holders(&self, id: ResourceId) -> Vec<Holder> {
        let (projection, tenant) = (&self.shared.projection, &self.config.tenant);
        let groups = projection.groups_at(tenant, id, Moment::NOW).into_iter();
        let name = |id| projection.known_at(tenant, id, Moment::NOW).and_then(|known| known.display);
        groups.map(|(id, _)| Holder { id, name: name(id) }).collect()
    }

    fn desired(&self, kind: &ResourceType, stored: &Stored) -> Desired {
        let links = &self.shared.links;
        let attributes =
            attributes(&self.shared.registry, kind, stored, |id| links.remote_id(&self.name, id));
        let members = if has_members(&self.shared, kind) {
            let members = self.shared.projection.members(&self.config.tenant, stored.id);
            members.into_iter().filter(|id| links.remote_id(&self.name, *id).is_some()).collect()
        } else {
            BTreeSet::new()
        };
        Desired { attributes, members }
    }
}
