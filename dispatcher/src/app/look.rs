//! What the app should hold of a resource as of now.

use std::collections::BTreeSet;

use projector::{Lens, Moment, Stored};
use proto::{KeyRef, ResourceId, subject};
use scim::ResourceType;

use super::perform::{Performer, has_members};
use crate::Error;
use crate::desired::{Desired, attributes};
use crate::link::Link;
use crate::plan::Leaving;
use crate::profile::Missing;
use crate::scope::Holder;

/// A resource as of now.
pub(super) struct Now {
    pub(super) kind: ResourceType,
    pub(super) desired: Result<Desired, Leaving>,
    pub(super) key_ref: Option<KeyRef>,
    /// Why it cannot be sent as it is.
    pub(super) missing: Option<Missing>,
}

impl Performer {
    /// The resource and what the app should hold of it; nothing when neither the directory nor the app knows it.
    pub(super) async fn look(&self, id: ResourceId, link: &Link) -> Result<Option<Now>, Error> {
        let (projection, tenant) = (&self.shared.projection, &self.config.tenant);
        let Some(name) = projection.type_of(tenant, id) else {
            if link.remote_id.is_none() && !link.intent_open {
                return Ok(None);
            }
            let Some(kind) = self.type_of_link(id).await? else { return Ok(None) };
            let leave = self.leave(&kind, self.config.on_delete);
            let leaving = Leaving { leave, why: "deleted in the directory" };
            return Ok(Some(Now { kind, desired: Err(leaving), key_ref: None, missing: None }));
        };
        let Some(kind) = self.shared.registry.by_name(&name).cloned() else { return Ok(None) };
        let Some(stored) = projection.resource(tenant, &name, id).await? else { return Ok(None) };
        let key_ref = stored.key_ref;
        let (desired, missing) = if self.in_scope(&kind, &stored) {
            self.shaped(&kind, self.desired(&kind, &stored))
        } else {
            let leave = self.leave(&kind, self.config.on_leave);
            (Err(Leaving { leave, why: "left the app's scope" }), None)
        };
        Ok(Some(Now { kind, desired, key_ref, missing }))
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
