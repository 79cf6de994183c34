//! In which order everything is planned: whoever needs it most comes first.

use std::collections::BTreeSet;

use projector::Moment;
use proto::ResourceId;
use scim::{AttrPath, Filter, Op, ResourceType, Rule};

use super::Worker;
use super::due::{Class, Rank};
use super::perform::has_members;
use crate::scope::{Chosen, Holder, Needs};

impl Worker {
    /// Everything of a type with its place: people who are active and in scope, then the others, then what holds them; and
    /// among those of a class whoever changed last, and then in the order of creation. What only reading each of them would
    /// tell is not asked.
    pub(super) fn in_order(&self, kind: &ResourceType) -> Vec<(ResourceId, Rank)> {
        let ids = self.shared.projection.last_changed_first(&self.config.tenant, &kind.name);
        let holds = has_members(&self.shared, kind);
        let chosen = self.config.scope.of(&kind.name);
        let inside = chosen.map_or_else(|| Some(BTreeSet::new()), |chosen| self.inside(kind, chosen));
        let off = self.switched_off(kind);
        let class = |id: &ResourceId| {
            let belongs = inside.as_ref().is_none_or(|inside| inside.contains(id));
            match (holds, belongs && !off.contains(id)) {
                (true, _) => Class::Holder,
                (false, true) => Class::Member,
                (false, false) => Class::Later,
            }
        };
        let ranked = ids.into_iter().enumerate();
        ranked.map(|(place, id)| (id, Rank::new(class(&id), place))).collect()
    }

    fn switched_off(&self, kind: &ResourceType) -> BTreeSet<ResourceId> {
        let core = self.shared.registry.core(kind);
        let Some(active) = core.iter().find(|attribute| attribute.name == "active") else {
            return BTreeSet::new();
        };
        let path = AttrPath::of(&active.name);
        let off = Filter::Compare { path, op: Op::Eq, value: false.into(), rule: Some(Rule::of(active)) };
        let found = self.shared.projection.indexed_ids(&self.config.tenant, kind, &off);
        found.unwrap_or_default().into_iter().collect()
    }

    /// Who is in scope, as far as the indexes and the groups say it; nothing when they do not.
    fn inside(&self, kind: &ResourceType, chosen: &Chosen) -> Option<BTreeSet<ResourceId>> {
        let (projection, tenant) = (&self.shared.projection, &self.config.tenant);
        let filtered = match chosen.filter() {
            Some(filter) if chosen.needs == Needs::default() => projection.indexed_ids(tenant, kind, filter),
            Some(_) | None => None,
        };
        let within = chosen.is_within_groups().then(|| {
            let kinds = self.shared.registry.resource_types().iter();
            let groups = kinds.filter(|kind| has_members(&self.shared, kind));
            let groups = groups.flat_map(|kind| projection.ids(tenant, &kind.name));
            let is_one = |id: &ResourceId| {
                let name = projection.known_at(tenant, *id, Moment::NOW).and_then(|known| known.display);
                chosen.has_group(&Holder { id: *id, name })
            };
            groups.filter(is_one).flat_map(|id| projection.descendants(tenant, id)).collect::<BTreeSet<_>>()
        });
        match (filtered, within) {
            (Some(filtered), Some(within)) => {
                Some(filtered.into_iter().filter(|id| within.contains(id)).collect())
            }
            (Some(filtered), None) => Some(filtered.into_iter().collect()),
            (None, within) => within,
        }
    }
}
