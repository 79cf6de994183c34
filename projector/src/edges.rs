//! Membership: edges between a group and its members, both ways, by slot.

use std::collections::{BTreeMap, BTreeSet};

/// A resource's place in its tenant's directory.
pub(crate) type Slot = u32;

#[derive(Debug, Default)]
pub(crate) struct Edges {
    members: BTreeMap<Slot, BTreeSet<Slot>>,
    groups: BTreeMap<Slot, BTreeSet<Slot>>,
}

impl Edges {
    /// Whether the edge is new.
    pub(crate) fn add(&mut self, group: Slot, member: Slot) -> bool {
        self.groups.entry(member).or_default().insert(group);
        self.members.entry(group).or_default().insert(member)
    }

    /// Whether the edge was there.
    pub(crate) fn remove(&mut self, group: Slot, member: Slot) -> bool {
        take(&mut self.groups, member, group);
        take(&mut self.members, group, member)
    }

    /// Ends every edge of a resource that is gone; returns the groups that lost it.
    pub(crate) fn end(&mut self, slot: Slot) -> BTreeSet<Slot> {
        for member in self.members.remove(&slot).unwrap_or_default() {
            take(&mut self.groups, member, slot);
        }
        let groups = self.groups.remove(&slot).unwrap_or_default();
        for group in &groups {
            take(&mut self.members, *group, slot);
        }
        groups
    }

    pub(crate) fn has(&self, group: Slot, member: Slot) -> bool {
        self.members.get(&group).is_some_and(|members| members.contains(&member))
    }

    pub(crate) fn members(&self, group: Slot) -> impl Iterator<Item = Slot> {
        self.members.get(&group).into_iter().flatten().copied()
    }

    pub(crate) fn groups(&self, member: Slot) -> impl Iterator<Item = Slot> {
        self.groups.get(&member).into_iter().flatten().copied()
    }
}

fn take(map: &mut BTreeMap<Slot, BTreeSet<Slot>>, from: Slot, what: Slot) -> bool {
    let Some(set) = map.get_mut(&from) else { return false };
    let found = set.remove(&what);
    if set.is_empty() {
        map.remove(&from);
    }
    found
}
