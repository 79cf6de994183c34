//! Membership: edges between a group and its members, each from one event to another, found from both ends.

mod reach;

use super::versions::{NONE, NOW, Number};
use crate::table::{Column, plain_struct};

/// A resource's place in its tenant's directory.
pub(crate) type Slot = Number;

/// An edge, in two lists at once: its group's and its member's. Those that are over are in lists of their own, so that
/// what was costs those nothing who ask for what is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Edge {
    group: Slot,
    member: Slot,
    from: Number,
    /// While it is there: the one before it in its group's list. Afterwards: the event that ended it.
    before_or_end: Number,
    next_of_group: Number,
    next_of_member: Number,
}

plain_struct!(Edge {
    group: u32,
    member: u32,
    from: u32,
    before_or_end: u32,
    next_of_group: u32,
    next_of_member: u32,
});

/// How an edge leads to the next of a list.
type Next = fn(&Edge) -> Number;
const OF_GROUP: Next = |edge| edge.next_of_group;
const OF_MEMBER: Next = |edge| edge.next_of_member;

/// Where a resource's lists begin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    /// As a group.
    members: Number,
    former_members: Number,
    /// As a member.
    groups: Number,
    former_groups: Number,
    /// How many members it has now.
    count: u32,
}

plain_struct!(Ends { members: u32, former_members: u32, groups: u32, former_groups: u32, count: u32 });

impl Ends {
    /// Whether there is or was a member.
    fn is_group(&self) -> bool {
        self.members != NONE || self.former_members != NONE
    }

    /// Whether it is or was in a group.
    fn is_member(&self) -> bool {
        self.groups != NONE || self.former_groups != NONE
    }
}

/// Of the groups that a resource is in by itself: the edge that came last and the one that ended last. An edge comes once and
/// ends once, so they are the same groups for as long as these are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    came: Number,
    ended: Number,
}

/// So many members added at once are compared with those that are there.
const MANY: usize = 16;
/// Looking at the groups of one resource is as much work as looking at so many members.
const GROUPS_FEW: usize = 4;

const NO_ENDS: Ends =
    Ends { members: NONE, former_members: NONE, groups: NONE, former_groups: NONE, count: 0 };

#[derive(Clone, Debug, Default)]
pub(crate) struct Edges {
    pub(super) edges: Column<Edge>,
    /// By slot.
    pub(super) ends: Column<Ends>,
}

impl Edges {
    /// What tells whether the groups that a resource is in by itself are still the same.
    pub(crate) fn mark(&self, member: Slot) -> Mark {
        let Ends { groups, former_groups, .. } = self.ends(member);
        Mark { came: groups, ended: former_groups }
    }

    /// Makes room for the next slot.
    pub(crate) fn grow(&mut self) {
        self.ends.push(NO_ENDS);
    }

    fn ends(&self, slot: Slot) -> Ends {
        self.ends.get(slot).unwrap_or(NO_ENDS)
    }

    fn list(&self, first: Number, next: Next) -> impl Iterator<Item = (Number, Edge)> {
        let numbered = |number: Number| Some((number, self.edges.get(number)?));
        std::iter::successors(numbered(first), move |(_, edge)| numbered(next(edge)))
    }

    /// The edges at a moment of those that are there and of those that are over.
    fn at(
        &self,
        open: Number,
        former: Number,
        next: Next,
        at: Number,
    ) -> impl Iterator<Item = (Number, Edge)> {
        let former = if at == NOW { NONE } else { former };
        let former = self.list(former, next).filter(move |(_, edge)| at < edge.before_or_end);
        self.list(open, next).chain(former).filter(move |(_, edge)| edge.from <= at)
    }

    /// The edges of a group at a moment.
    fn of_group(&self, group: Slot, at: Number) -> impl Iterator<Item = (Number, Edge)> {
        let ends = self.ends(group);
        self.at(ends.members, ends.former_members, OF_GROUP, at)
    }

    /// The edges of a member at a moment.
    fn of_member(&self, member: Slot, at: Number) -> impl Iterator<Item = (Number, Edge)> {
        let ends = self.ends(member);
        self.at(ends.groups, ends.former_groups, OF_MEMBER, at)
    }

    /// An edge that is there now. A resource is in few groups, a group can hold everybody.
    fn open(&self, group: Slot, member: Slot) -> Option<Number> {
        self.of_member(member, NOW).find(|(_, edge)| edge.group == group).map(|(number, _)| number)
    }

    /// Adds the edges to these members that are not there; whether there was such a one.
    pub(crate) fn add(&mut self, group: Slot, members: &[Slot], from: Number) -> bool {
        let before = self.edges.len();
        match self.known(group, members) {
            Some(known) => {
                let is_new = |member: &Slot| known.binary_search(member).is_err();
                let new: Vec<Slot> = members.iter().copied().filter(is_new).collect();
                self.put_all(group, &new, from);
            }
            None => {
                for member in members {
                    if self.open(group, *member).is_none() {
                        self.put(group, *member, from);
                    }
                }
            }
        }
        self.edges.len() > before
    }

    /// The members that a group has now, in their order, where looking at them is less work than looking at the groups of
    /// each who is added; nothing where one is added twice.
    fn known(&self, group: Slot, added: &[Slot]) -> Option<Vec<Slot>> {
        if added.len() < MANY || self.member_count(group) > added.len() * GROUPS_FEW {
            return None;
        }
        let mut sorted = added.to_vec();
        sorted.sort_unstable();
        let is_once = sorted.iter().zip(sorted.iter().skip(1)).all(|(one, next)| one != next);
        is_once.then(|| self.members(group, NOW))
    }

    /// Puts an edge at the front of both its lists.
    fn put(&mut self, group: Slot, member: Slot, from: Number) {
        let next_of_group = self.ends(group).members;
        let number = self.edges.push(Edge {
            group,
            member,
            from,
            before_or_end: NONE,
            next_of_group,
            next_of_member: self.ends(member).groups,
        });
        if let Some(next) = self.edges.at_mut(next_of_group) {
            next.before_or_end = number;
        }
        if let Some(ends) = self.ends.at_mut(group) {
            ends.members = number;
            ends.count += 1;
        }
        if let Some(ends) = self.ends.at_mut(member) {
            ends.groups = number;
        }
    }

    /// The same for many, each once. Every step goes over all of them, so that what one needs from memory is fetched
    /// while others are waited for.
    fn put_all(&mut self, group: Slot, members: &[Slot], from: Number) {
        let count = Number::try_from(members.len()).unwrap_or(NONE);
        let Some(last) = count.checked_sub(1) else { return };
        let heads: Vec<Number> = members.iter().map(|member| self.ends(*member).groups).collect();
        let next_of_group = self.ends(group).members;
        let first = Number::try_from(self.edges.len()).unwrap_or(NONE);
        let edge = |(place, (member, head)): (Number, (&Slot, Number))| Edge {
            group,
            member: *member,
            from,
            before_or_end: if place == last { NONE } else { first + place + 1 },
            next_of_group: if place == 0 { next_of_group } else { first + place - 1 },
            next_of_member: head,
        };
        self.edges.extend((0..).zip(members.iter().zip(heads)).map(edge));
        if let Some(next) = self.edges.at_mut(next_of_group) {
            next.before_or_end = first;
        }
        if let Some(ends) = self.ends.at_mut(group) {
            ends.members = first + last;
            ends.count += count;
        }
        self.ends.each_mut(members, |place, ends| ends.groups = first + place);
    }

    /// Whether the edge was there.
    pub(crate) fn remove(&mut self, group: Slot, member: Slot, to: Number) -> bool {
        let Some(number) = self.open(group, member) else { return false };
        self.close(number, to);
        true
    }

    /// Takes an edge from the lists of what is to those of what was.
    fn close(&mut self, number: Number, to: Number) {
        let Some(edge) = self.edges.get(number) else { return };
        let before_of_member =
            self.of_member(edge.member, NOW).find(|(_, other)| other.next_of_member == number);
        match before_of_member.and_then(|(before, _)| self.edges.at_mut(before)) {
            Some(before) => before.next_of_member = edge.next_of_member,
            None => {
                if let Some(ends) = self.ends.at_mut(edge.member) {
                    ends.groups = edge.next_of_member;
                }
            }
        }
        match self.edges.at_mut(edge.before_or_end) {
            Some(before) => before.next_of_group = edge.next_of_group,
            None => {
                if let Some(ends) = self.ends.at_mut(edge.group) {
                    ends.members = edge.next_of_group;
                }
            }
        }
        if let Some(next) = self.edges.at_mut(edge.next_of_group) {
            next.before_or_end = edge.before_or_end;
        }
        let (group, member) = (self.ends(edge.group), self.ends(edge.member));
        if let Some(closed) = self.edges.at_mut(number) {
            *closed = Edge {
                before_or_end: to,
                next_of_group: group.former_members,
                next_of_member: member.former_groups,
                ..edge
            };
        }
        if let Some(ends) = self.ends.at_mut(edge.group) {
            ends.former_members = number;
            ends.count = ends.count.saturating_sub(1);
        }
        if let Some(ends) = self.ends.at_mut(edge.member) {
            ends.former_groups = number;
        }
    }

    /// Ends every edge of a resource that is gone; returns its members and the groups that lost it.
    pub(crate) fn end(&mut self, slot: Slot, to: Number) -> (Vec<Slot>, Vec<Slot>) {
        let below: Vec<(Number, Edge)> = self.of_group(slot, NOW).collect();
        let above: Vec<(Number, Edge)> = self.of_member(slot, NOW).collect();
        for (number, _) in below.iter().chain(&above) {
            self.close(*number, to);
        }
        let members = below.into_iter().map(|(_, edge)| edge.member).collect();
        (members, above.into_iter().map(|(_, edge)| edge.group).collect())
    }

    pub(crate) fn has(&self, group: Slot, member: Slot, at: Number) -> bool {
        self.of_member(member, at).any(|(_, edge)| edge.group == group)
    }

    /// In the order of their creation.
    pub(crate) fn members(&self, group: Slot, at: Number) -> Vec<Slot> {
        let mut members: Vec<Slot> = self.of_group(group, at).map(|(_, edge)| edge.member).collect();
        members.sort_unstable();
        members
    }

    /// How many members a group has now.
    pub(crate) fn member_count(&self, group: Slot) -> usize {
        self.ends.at(group).map_or(0, |ends| ends.count as usize)
    }

    /// In the order of their creation.
    pub(crate) fn groups(&self, member: Slot, at: Number) -> Vec<Slot> {
        let mut groups: Vec<Slot> = self.of_member(member, at).map(|(_, edge)| edge.group).collect();
        groups.sort_unstable();
        groups
    }

    /// Who stands at the other ends of edges that an event ended. Whatever ended last stands first.
    pub(crate) fn ended(&self, slot: Slot, as_group: bool, at: Number) -> impl Iterator<Item = Slot> {
        let Ends { former_members, former_groups, .. } = self.ends(slot);
        let (former, next) = if as_group { (former_members, OF_GROUP) } else { (former_groups, OF_MEMBER) };
        let ended = self.list(former, next).map(|(_, edge)| edge);
        let ended = ended.skip_while(move |edge| edge.before_or_end > at);
        let ended = ended.take_while(move |edge| edge.before_or_end == at);
        ended.map(move |edge| if as_group { edge.member } else { edge.group })
    }

    /// Every change of one end's edges, in no order: who, from which event, until which.
    pub(crate) fn stays(&self, slot: Slot, as_group: bool) -> Vec<(Slot, Number, Number)> {
        let ends = self.ends(slot);
        let (open, former, next) = if as_group {
            (ends.members, ends.former_members, OF_GROUP)
        } else {
            (ends.groups, ends.former_groups, OF_MEMBER)
        };
        let other = |edge: &Edge| if as_group { edge.member } else { edge.group };
        let open = self.list(open, next).map(|(_, edge)| (other(&edge), edge.from, NONE));
        let former = self.list(former, next).map(|(_, edge)| (other(&edge), edge.from, edge.before_or_end));
        open.chain(former).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_groups_reach_through_and_circles_end_and_the_past_stays() {
        let mut edges = Edges::default();
        (0..13).for_each(|_| edges.grow());
        for (at, (group, member)) in [(10, 1), (11, 10), (12, 11), (10, 12), (12, 1)].into_iter().enumerate()
        {
            assert!(edges.add(group, &[member], at as u32));
            assert!(!edges.add(group, &[member], at as u32));
        }
        assert_eq!(edges.ancestors(1, NOW), [(10, true), (11, false), (12, true)]);
        assert_eq!(edges.ancestors(1, 1), [(10, true), (11, false)]);
        assert_eq!(edges.ancestors(10, NOW), [(11, true), (12, false)]);
        assert_eq!(edges.descendants(11, NOW), [1, 10, 12]);
        assert!(edges.remove(12, 11, 5) && !edges.remove(12, 11, 5));
        assert_eq!(edges.descendants(12, NOW), [1]);
        assert_eq!(edges.descendants(12, 4), [1, 10, 11]);
        assert_eq!((edges.member_count(12), edges.members(12, 4)), (1, vec![1, 11]));
        assert!(edges.add(12, &[11], 6));
        assert_eq!(edges.end(11, 7), (vec![10], vec![12]));
        assert!(!edges.has(12, 11, NOW) && edges.has(12, 11, 6) && !edges.has(12, 11, 5));
        assert_eq!(edges.stays(11, false), [(12, 6, 7), (12, 2, 5)]);
        let ended = |at| edges.ended(11, false, at).collect::<Vec<_>>();
        assert_eq!([ended(4), ended(5), ended(7), ended(8)], [vec![], vec![12], vec![12], vec![]]);
    }

    #[test]
    fn many_at_once_are_added_as_one_by_one() {
        let (mut one, mut many) = (Edges::default(), Edges::default());
        for edges in [&mut one, &mut many] {
            (0..400).for_each(|_| edges.grow());
        }
        // New ones, half known ones, one twice, few to a group that has many, and known ones alone.
        let parts: [Vec<Slot>; 5] = [
            (1..60).rev().collect(),
            (30..120).collect(),
            (100..140).chain([101]).collect(),
            (130..147).collect(),
            (1..100).collect(),
        ];
        for (at, members) in (0..).zip(&parts) {
            let new = members.iter().filter(|member| one.add(0, &[**member], at)).count() > 0;
            assert_eq!(many.add(0, members, at), new, "{at}");
            one.remove(0, at * 7 + 3, at);
            many.remove(0, at * 7 + 3, at);
            for at in [NOW, at] {
                assert_eq!(many.members(0, at), one.members(0, at));
            }
        }
        let [mut many_stays, mut one_stays] = [&many, &one].map(|edges| edges.stays(0, true));
        many_stays.sort_unstable();
        one_stays.sort_unstable();
        assert_eq!(many_stays, one_stays);
        assert_eq!((many.member_count(0), many.edges.len()), (one.member_count(0), one.edges.len()));
    }
}
