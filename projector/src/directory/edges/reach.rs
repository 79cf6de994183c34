//! Whom somebody reaches through groups that are in groups, from below and from above.

use std::collections::BTreeSet;

use super::super::versions::{NONE, NOW, Number};
use super::{Edges, Ends, Slot};
use crate::kin::Kin;

/// Groups that somebody is in, where nothing better is known.
const GROUPS_USUAL: usize = 16;

/// The way from edge to edge of one member.
struct Walk {
    edge: Number,
    groups: [Slot; GROUPS_USUAL],
    count: usize,
}

impl Edges {
    /// Every group that holds a resource, by itself (`true`) or through other groups, in the order of their creation;
    /// circles end.
    pub(crate) fn ancestors(&self, member: Slot, at: Number) -> Vec<(Slot, bool)> {
        let mut found: Vec<(Slot, bool)> = Vec::with_capacity(GROUPS_USUAL);
        found.extend(self.of_member(member, at).map(|(_, edge)| (edge.group, true)));
        let mut next = 0;
        let mut seen: BTreeSet<Slot> = BTreeSet::new();
        while let Some((slot, _)) = found.get(next).copied() {
            next += 1;
            // Mostly groups are in no groups, and nothing need be remembered.
            if !self.is_member(slot) {
                continue;
            }
            for (_, edge) in self.of_member(slot, at).filter(|(_, edge)| edge.group != member) {
                if seen.is_empty() {
                    seen = found.iter().map(|(slot, _)| *slot).collect();
                }
                if seen.insert(edge.group) {
                    found.push((edge.group, false));
                }
            }
        }
        found.sort_unstable_by_key(|(slot, _)| *slot);
        found
    }

    /// The groups that each of these is in by itself now, in the order of their creation, where they are few and in no
    /// groups themselves. Every step goes over all of them, so that what one needs from memory is fetched while others are
    /// waited for.
    pub(crate) fn flat_groups(&self, members: &[Slot]) -> impl Iterator<Item = Option<Box<[Slot]>>> {
        let begin =
            |member: &Slot| Walk { edge: self.ends(*member).groups, groups: [0; GROUPS_USUAL], count: 0 };
        let mut walks: Vec<Walk> = members.iter().map(begin).collect();
        for _ in 0..GROUPS_USUAL {
            let mut goes_on = false;
            for walk in &mut walks {
                let Some(edge) = self.edges.at(walk.edge) else { continue };
                if let Some(group) = walk.groups.get_mut(walk.count) {
                    *group = edge.group;
                }
                walk.count += 1;
                walk.edge = edge.next_of_member;
                goes_on = true;
            }
            if !goes_on {
                break;
            }
        }
        walks.into_iter().map(|mut walk| {
            let groups = walk.groups.get_mut(..walk.count).filter(|_| walk.edge == NONE)?;
            groups.sort_unstable();
            groups.iter().all(|group| !self.is_member(*group)).then(|| Box::from(&*groups))
        })
    }

    /// [`Self::ancestors`] for somebody who wants them one after the other. Those of now are kept, where there is a place for them,
    /// until something changes: an edge leads to the next through memory that is in no cache.
    pub(crate) fn with_ancestors<T>(
        &self,
        member: Slot,
        at: Number,
        kin: Option<&Kin>,
        take: impl FnOnce(&mut dyn Iterator<Item = (Slot, bool)>) -> T,
    ) -> T {
        let Some(kin) = kin.filter(|_| at == NOW) else {
            return take(&mut self.ancestors(member, at).into_iter());
        };
        let mark = self.mark(member);
        // Who is in a group that is in none is in no other through it.
        let is_flat = |groups: &[Slot]| groups.iter().all(|group| !self.is_member(*group));
        {
            let kept = kin.kept();
            if let Some(groups) = kept.of(mark).filter(|groups| is_flat(groups)) {
                return take(&mut groups.iter().map(|group| (*group, true)));
            }
        }
        let found = self.ancestors(member, NOW);
        if found.iter().all(|(group, _)| !self.is_member(*group)) {
            kin.keep(mark, found.iter().map(|(group, _)| *group).collect());
        }
        take(&mut found.into_iter())
    }

    fn is_member(&self, slot: Slot) -> bool {
        self.ends.at(slot).is_some_and(Ends::is_member)
    }

    /// Everything that a group holds, by itself or through other groups, in the order of its creation; circles end.
    pub(crate) fn descendants(&self, group: Slot, at: Number) -> Vec<Slot> {
        let members = |group: Slot| self.of_group(group, at).map(|(_, edge)| edge.member);
        let mut found: Vec<Slot> = members(group).collect();
        let mut opened = BTreeSet::from([group]);
        let mut next = 0;
        while let Some(slot) = found.get(next).copied() {
            next += 1;
            // Most hold nobody, and need not be remembered.
            if self.ends.at(slot).is_some_and(Ends::is_group) && opened.insert(slot) {
                found.extend(members(slot));
            }
        }
        found.sort_unstable();
        found.dedup();
        found.retain(|member| *member != group);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_that_are_kept_are_those_that_are_found() {
        const SLOTS: u32 = 12;
        let mut edges = Edges::default();
        (0..SLOTS).for_each(|_| edges.grow());
        let kept: Vec<Kin> = (0..SLOTS).map(|_| Kin::default()).collect();
        let (mut state, mut was_kept, mut was_walked) = (7_u32, 0, 0);
        for at in 0..3_000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (group, member) =
                (8 + (state >> 8) % 4, (state >> 16) % if at % 50 == 0 { SLOTS } else { 8 });
            match state >> 28 {
                0 => drop(edges.end(member, at)),
                1..8 => drop(edges.remove(group, member, at)),
                _ => drop(group != member && edges.add(group, &[member], at)),
            }
            let all: Vec<Slot> = (0..SLOTS).collect();
            for ((slot, kin), groups) in (0..).zip(&kept).zip(edges.flat_groups(&all)) {
                let ancestors = edges.ancestors(slot, NOW);
                let direct: Vec<Slot> = ancestors.iter().map(|(group, _)| *group).collect();
                let is_flat = direct.iter().all(|group| edges.groups(*group, NOW).is_empty());
                was_walked += usize::from(groups.as_ref().is_some_and(|groups| !groups.is_empty()));
                match groups {
                    Some(groups) => {
                        assert_eq!((&*groups, is_flat), (&*direct, true), "{at}");
                        kin.keep(edges.mark(slot), groups);
                    }
                    // A group that was in a group is looked at as one that is.
                    None => assert!(!is_flat || direct.iter().any(|group| edges.is_member(*group)), "{at}"),
                }
            }
            for (slot, kin) in (0..).zip(&kept) {
                was_kept += usize::from(kin.kept().of(edges.mark(slot)).is_some_and(|kept| !kept.is_empty()));
                let found = edges.with_ancestors(slot, NOW, Some(kin), |groups| groups.collect::<Vec<_>>());
                assert_eq!(found, edges.ancestors(slot, NOW), "{at}");
            }
        }
        assert!(was_kept > 5_000 && was_walked > 5_000, "{was_kept} {was_walked}");
    }

    #[test]
    fn the_groups_of_who_is_in_many_are_found_and_not_kept() {
        let (mut edges, kin) = (Edges::default(), Kin::default());
        (0..200).for_each(|_| edges.grow());
        let found = |edges: &Edges| edges.with_ancestors(0, NOW, Some(&kin), |groups| groups.count());
        for groups in 1..200 {
            edges.add(groups, &[0], groups);
            assert_eq!(found(&edges), groups as usize);
            assert_eq!(kin.kept().of(edges.mark(0)).is_some(), groups <= 64);
            let walked = edges.flat_groups(&[0]).flatten().next();
            assert_eq!(walked, (groups <= 16).then(|| (1..=groups).collect()));
        }
    }
}
