//! What the app should hold of a resource as of now.

use std::collections::BTreeSet;

use eventlog::clock;
use jiff::Timestamp;
use projector::{Lens, Moment, Stored};
use proto::{KeyRef, ResourceId};
use scim::{Object, ResourceType};
use serde_json::Value;

use super::perform::{Performer, has, has_members};
use super::reconcile::STRANGER;
use crate::Error;
use crate::config::Leave;
use crate::dates::{BeforeStart, Standing};
use crate::desired::{Desired, attributes as attributes_for};
use crate::link::Link;
use crate::mapping::{Mapped, Open, Person, TypeMapping, set};
use crate::plan::{Away, Leaving, Next};
use crate::profile::Missing;
use crate::scope::{By, Holder, NOT_ITS_TYPE, Needs};

/// A resource as of now.
pub(crate) struct Now {
    pub(crate) kind: ResourceType,
    pub(crate) desired: Result<Desired, Leaving>,
    pub(super) key_ref: Option<KeyRef>,
    /// Why it cannot be sent as it is.
    pub(super) missing: Option<Missing>,
    /// When this changes without an event.
    pub(super) next: Option<Next>,
    /// Why nobody knows what the app should hold, where that is more than the plan says.
    pub(super) unclear: Option<String>,
    /// What it is in scope by.
    pub(crate) by: Option<By>,
    /// Attributes of which no other account may have the same.
    pub(super) open: Vec<Open>,
}

impl Now {
    /// What is not in the directory, or has no more to be said of it.
    pub(super) fn of(kind: ResourceType, desired: Result<Desired, Leaving>) -> Self {
        let (key_ref, missing, next, unclear, by) = (None, None, None, None, None);
        Self { kind, desired, key_ref, missing, next, unclear, by, open: Vec::new() }
    }
}

impl Performer {
    /// The resource and what the app should hold of it; nothing when neither the directory nor the app knows it.
    pub(super) async fn look(&self, id: ResourceId, link: &Link) -> Result<Option<Now>, Error> {
        let (projection, tenant) = (&self.shared.projection, &self.config.tenant);
        let Some(name) = projection.type_of(tenant, id) else {
            let is_known = link.remote_id.is_some() || link.intent_open || !link.decisions.is_empty();
            if !is_known && link.trust.unverified.is_none() {
                return Ok(None);
            }
            if self.is_unborn(id, link) {
                return Ok(None);
            }
            let Some(kind) = self.shared.registry.by_name(&link.resource_type).cloned() else {
                return Ok(None);
            };
            if link.trust.stranger && self.is_owned(link) {
                return Ok(None);
            }
            let (policy, grace) = (self.config.on_delete, self.config.timing.delete_after);
            let deleted = self.leaving(&kind, policy, grace, "deleted in the directory");
            let desired = Err(if link.trust.stranger { STRANGER } else { deleted });
            return Ok(Some(Now::of(kind, desired)));
        };
        let Some(kind) = self.shared.registry.by_name(&name).cloned() else { return Ok(None) };
        let Some(stored) = projection.resource(tenant, &name, id).await? else { return Ok(None) };
        let key_ref = stored.key_ref;
        let wanted = self.wanted(&kind, &stored, link, clock::now());
        let (mut desired, missing) = match wanted.desired {
            Ok(desired) => self.shaped(&kind, desired),
            Err(leaving) => (Err(leaving), None),
        };
        if let Ok(desired) = &mut desired {
            link.decisions.leave(&mut desired.attributes, desired.partial);
        }
        // Nobody ever gave this account: that its owner does not belong yet takes nothing away.
        if link.newborn && desired.as_ref().is_err_and(|leaving| leaving.away != Away::Unclear) {
            return Ok(None);
        }
        Ok(Some(Now { kind, desired, key_ref, missing, ..wanted }))
    }

    /// What the app should hold of a resource at a time, and when that changes by itself.
    fn wanted(&self, kind: &ResourceType, stored: &Stored, link: &Link, now: Timestamp) -> Now {
        let timing = &self.config.timing;
        let can = has(&self.shared, kind, "active");
        let leaving = |why| self.leaving(kind, self.config.on_leave, timing.leave_grace, why);
        let with = |desired, next| Now { next, ..Now::of(kind.clone(), desired) };
        let by = match self.in_scope(kind, stored) {
            Ok(by) => Some(by),
            Err(why) => return with(Err(leaving(why)), None),
        };
        let with = |desired, next| Now { by, ..with(desired, next) };
        let (next, is_active) = match timing.dates.standing(&stored.document, now) {
            Standing::Unclear(why) => return with(Err(self.unclear(kind, stored, why)), None),
            Standing::Over => return with(Err(leaving("its end has come")), None),
            Standing::Present { until } => (until.map(|at| Next { at, urgent: true }), true),
            Standing::Early { until } => {
                let next = Some(Next { at: until, urgent: false });
                match timing.dates.before_start() {
                    BeforeStart::Inactive if can => (next, false),
                    BeforeStart::Absent | BeforeStart::Inactive => {
                        return with(Err(leaving("its beginning has not come")), next);
                    }
                }
            }
        };
        match self.desired(kind, stored, link) {
            Ok((mut desired, open)) => {
                if !is_active {
                    desired.attributes.insert("active".to_string(), false.into());
                }
                Now { open, ..with(Ok(desired), next) }
            }
            Err(unclear) => {
                let leaving = self.unclear(kind, stored, "its mapping gives nothing");
                Now { unclear: Some(unclear), ..with(Err(leaving), next) }
            }
        }
    }

    /// Nobody knows what the app should hold. Whoever is switched off in the directory is switched off all the same.
    fn unclear(&self, kind: &ResourceType, stored: &Stored, why: &'static str) -> Leaving {
        let says_active = self.config.mapping.of(&kind.name).is_some_and(|mapping| mapping.says_active());
        // Whose `active` was taken away is switched off, too.
        let is_on = stored.document.get("active") == Some(&Value::Bool(true));
        if has(&self.shared, kind, "active") && !says_active && !is_on {
            return self.leaving(kind, Leave::Deactivate, None, "inactive");
        }
        Leaving::unclear(why)
    }

    /// What a resource is in scope by, or why it is not.
    fn in_scope(&self, kind: &ResourceType, stored: &Stored) -> Result<By, &'static str> {
        let chosen = self.config.scope.of(&kind.name).ok_or(NOT_ITS_TYPE)?;
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

    /// What the app should hold of it. Whether it is switched on is told in any case.
    fn desired(
        &self,
        kind: &ResourceType,
        stored: &Stored,
        link: &Link,
    ) -> Result<(Desired, Vec<Open>), String> {
        let links = &self.shared.links;
        let mapping = self.config.mapping.of(&kind.name);
        let mut mapped = match mapping {
            // What nobody is shown is for an app whose mapping names it.
            None => {
                let document = Object::clone(&stored.document);
                let attributes = scim::without_veiled(&self.shared.registry, kind, document);
                Mapped { attributes, ..Mapped::default() }
            }
            Some(mapping) => self.mapped(mapping, kind, stored)?,
        };
        // Whoever is made has an `active`; it can only be taken away. An app would make of silence what it likes.
        if has(&self.shared, kind, "active") && mapping.is_none_or(|mapping| !mapping.says_active()) {
            let active = stored.document.get("active").cloned().unwrap_or(false.into());
            mapped.attributes.insert("active".to_string(), active);
        }
        self.name(stored.id, kind, link, &mut mapped)?;
        let Mapped { attributes, once, open } = mapped;
        let partial = mapping.is_some_and(|mapping| mapping.is_partial());
        let registry = &self.shared.registry;
        let attributes = attributes_for(registry, kind, stored.id, attributes, partial, |id| {
            links.remote_id(&self.name, id)
        });
        let members = if has_members(&self.shared, kind) {
            let members = self.shared.projection.members(&self.config.tenant, stored.id);
            members.into_iter().filter(|id| links.remote_id(&self.name, *id).is_some()).collect()
        } else {
            BTreeSet::new()
        };
        Ok((Desired { attributes, once, partial, members }, open))
    }

    /// What must be the only one is what was chosen, or else what would be chosen now.
    fn name(
        &self,
        id: ResourceId,
        kind: &ResourceType,
        link: &Link,
        mapped: &mut Mapped,
    ) -> Result<(), String> {
        let is_over = |open: &Open| {
            open.create_only && link.remote_id.is_some() && open.standing(&link.decisions).is_none()
        };
        mapped.open.retain(|open| !is_over(open));
        for open in &mapped.open {
            let chosen = open.standing(&link.decisions).map(|choice| choice.after.clone());
            let chosen = chosen.or_else(|| self.shared.links.free_name(&self.name, id, &kind.name, open));
            let value = chosen.ok_or_else(|| format!("no name is left for {}", open.path))?;
            let object = if open.create_only { &mut mapped.once } else { &mut mapped.attributes };
            set(object, &open.path, value.into());
        }
        Ok(())
    }

    /// A resource as the app calls it.
    fn mapped(&self, mapping: &TypeMapping, kind: &ResourceType, stored: &Stored) -> Result<Mapped, String> {
        let Needs { groups, members, .. } = mapping.needs;
        let lens = Lens { members, groups, ..Lens::default() };
        let resource = self.shared.projection.represent(&self.config.tenant, stored, kind, &lens);
        let holders = if groups { self.holders(stored.id) } else { Vec::new() };
        let groups: Vec<String> = holders.into_iter().filter_map(|holder| holder.name).collect();
        mapping.map(&Person { resource: &resource, groups: &groups, app: &self.name })
    }
}
