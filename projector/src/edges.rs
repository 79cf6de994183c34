//! Membership: edges between a group and its members, both ways, by slot.

use std::collections::btree_map::Entry;
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

    pub(crate) fn member_count(&self, group: Slot) -> usize {
        self.members.get(&group).map_or(0, BTreeSet::len)
    }

    pub(crate) fn groups(&self, member: Slot) -> impl Iterator<Item = Slot> {
        self.groups.get(&member).into_iter().flatten().copied()
    }

    /// Every group that holds a resource, by itself (`true`) or through other groups; circles end.
    pub(crate) fn ancestors(&self, member: Slot) -> BTreeMap<Slot, bool> {
        let mut found: BTreeMap<Slot, bool> = self.groups(member).map(|group| (group, true)).collect();
        let mut next: Vec<Slot> = found.keys().copied().collect();
        while let Some(slot) = next.pop() {
            for group in self.groups(slot).filter(|group| *group != member) {
                if let Entry::Vacant(vacant) = found.entry(group) {
                    vacant.insert(false);
                    next.push(group);
                }
            }
        }
        found
    }

    /// Everything that a group holds, by itself or through other groups; circles end.
    pub(crate) fn descendants(&self, group: Slot) -> BTreeSet<Slot> {
        let mut found = BTreeSet::new();
        let mut next = vec![group];
        while let Some(slot) = next.pop() {
            next.extend(self.members(slot).filter(|member| *member != group && found.insert(*member)));
        }
        found
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_groups_reach_through_and_circles_end() {
        let mut edges = Edges::default();
        for (group, member) in [(10, 1), (11, 10), (12, 11), (10, 12), (12, 1)] {
            edges.add(group, member);
        }
        assert_eq!(edges.ancestors(1), BTreeMap::from([(10, true), (11, false), (12, true)]));
        assert_eq!(edges.ancestors(10), BTreeMap::from([(11, true), (12, false)]));
        assert_eq!(edges.descendants(11), BTreeSet::from([1, 10, 12]));
        edges.remove(12, 11);
        assert_eq!(edges.descendants(12), BTreeSet::from([1]));
    }
}
