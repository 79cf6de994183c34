//! Which resources wait for their turn, who comes first, and up to where everything is done.
//!
//! Whoever is ready stands in one order, whoever rests in another by time: a turn costs the same however many wait.

use std::collections::BTreeSet;
#[expect(clippy::disallowed_types, reason = "whatever has an order stands in the sets beside it")]
use std::collections::HashMap;

use jiff::Timestamp;
use proto::ResourceId;

/// Why and since when a resource is due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Mark {
    /// The first event that it has to answer.
    since: u64,
    /// The last one: whoever plans must have seen it.
    until: u64,
    urgent: bool,
    /// Among those of the same event: who comes later.
    rank: Rank,
    /// Not before.
    not_before: Option<Timestamp>,
}

/// Who comes first when everything is due: members before whatever holds them, so that a group is told of its members once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    #[default]
    Member,
    Holder,
}

/// The due set. What is taken stays in it until it is finished or put back, so the watermark never passes it.
#[expect(clippy::disallowed_types, reason = "whatever has an order stands in the sets beside it")]
#[derive(Debug, Default)]
pub(crate) struct Due {
    waiting: HashMap<ResourceId, Mark>,
    /// Those whose time has come and that nobody works on: reductions of access before everything else, then in the
    /// order of their events, and members before those that hold them.
    ready: BTreeSet<(bool, u64, Rank, ResourceId)>,
    /// Those whose time has not come.
    resting: BTreeSet<(Timestamp, ResourceId)>,
    /// All that wait, by the first event that they answer.
    ages: BTreeSet<(u64, ResourceId)>,
    /// Work that goes on.
    taken: HashMap<ResourceId, Taken>,
}

/// Work on a resource: the first and the last event that it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) since: u64,
    pub(crate) until: u64,
    /// Whether access may be reduced.
    pub(crate) urgent: bool,
    pub(crate) rank: Rank,
}

impl Due {
    pub(crate) fn len(&self) -> usize {
        self.waiting.len() + self.taken.len()
    }

    /// Marks a resource; an earlier mark keeps its place, an urgent one overtakes and waits for nothing.
    pub(crate) fn mark(&mut self, id: ResourceId, sequence: u64, urgent: bool) {
        let old = self.waiting.get_mut(&id);
        if let Some(old) = old
            && old.since <= sequence
            && old.not_before.is_none()
            && (old.urgent || !urgent)
        {
            // It keeps its place in every order.
            old.until = old.until.max(sequence);
            return;
        }
        let old = self.waiting.get(&id).copied();
        let mark = Mark {
            since: old.map_or(sequence, |old| old.since.min(sequence)),
            until: old.map_or(sequence, |old| old.until.max(sequence)),
            urgent: urgent || old.is_some_and(|old| old.urgent),
            rank: old.map_or(Rank::Member, |old| old.rank),
            not_before: None,
        };
        self.insert(id, mark);
    }

    /// Marks a resource whose turn is among the others of its sequence.
    pub(crate) fn mark_in_order(&mut self, id: ResourceId, sequence: u64, rank: Rank) {
        self.insert(id, Mark { since: sequence, until: sequence, urgent: false, rank, not_before: None });
    }

    fn insert(&mut self, id: ResourceId, mark: Mark) {
        self.forget(id);
        self.waiting.insert(id, mark);
        self.ages.insert((mark.since, id));
        self.line_up(id, mark);
    }

    /// Takes a resource out of every order.
    fn forget(&mut self, id: ResourceId) -> Option<Mark> {
        let old = self.waiting.remove(&id)?;
        self.ages.remove(&(old.since, id));
        self.ready.remove(&(!old.urgent, old.since, old.rank, id));
        if let Some(time) = old.not_before {
            self.resting.remove(&(time, id));
        }
        Some(old)
    }

    /// Nobody is worked on twice at once: what is taken lines up when it is finished.
    fn line_up(&mut self, id: ResourceId, mark: Mark) {
        match mark.not_before {
            Some(time) => drop(self.resting.insert((time, id))),
            None if self.taken.contains_key(&id) => {}
            None => drop(self.ready.insert((!mark.urgent, mark.since, mark.rank, id))),
        }
    }

    /// The next resource whose time has come and that nobody works on.
    pub(crate) fn take(&mut self, now: Timestamp) -> Option<(ResourceId, Taken)> {
        self.wake(now);
        let (_, _, _, id) = self.ready.first().copied()?;
        Some(self.hand_out(id))
    }

    /// The next one whose access may be reduced, while everything else has to wait.
    pub(crate) fn take_urgent(&mut self, now: Timestamp) -> Option<(ResourceId, Taken)> {
        self.wake(now);
        let (ordinary, _, _, id) = self.ready.first().copied()?;
        if ordinary { None } else { Some(self.hand_out(id)) }
    }

    /// When the next one has rested enough.
    pub(crate) fn next_rested(&self) -> Option<Timestamp> {
        self.resting.first().map(|(time, _)| *time)
    }

    fn wake(&mut self, now: Timestamp) {
        while let Some((time, id)) = self.resting.first().copied()
            && time <= now
        {
            self.resting.remove(&(time, id));
            if let Some(mark) = self.waiting.get_mut(&id) {
                mark.not_before = None;
                let mark = *mark;
                self.line_up(id, mark);
            }
        }
    }

    fn hand_out(&mut self, id: ResourceId) -> (ResourceId, Taken) {
        let mark = self.forget(id).unwrap_or_default();
        let taken = Taken { since: mark.since, until: mark.until, urgent: mark.urgent, rank: mark.rank };
        self.taken.insert(id, taken);
        (id, taken)
    }

    /// This one, if it waits and nobody works on it: whoever passes what is stopped waits for no time.
    pub(crate) fn take_this(&mut self, id: ResourceId) -> Option<(ResourceId, Taken)> {
        let waits = self.waiting.contains_key(&id) && !self.taken.contains_key(&id);
        waits.then(|| self.hand_out(id))
    }

    /// The work is done or held.
    pub(crate) fn finish(&mut self, id: ResourceId) {
        self.taken.remove(&id);
        if let Some(mark) = self.waiting.get(&id).copied() {
            self.line_up(id, mark);
        }
    }

    /// The work has to be done again, not before a time.
    pub(crate) fn put_back(&mut self, id: ResourceId, taken: Taken, not_before: Option<Timestamp>) {
        self.taken.remove(&id);
        let Taken { since, until, urgent, rank } = taken;
        match self.waiting.get(&id).copied() {
            // Marked again meanwhile: the new mark decides when.
            Some(mark) => {
                let (since, until) = (mark.since.min(since), mark.until.max(until));
                self.insert(id, Mark { since, until, urgent: mark.urgent || urgent, ..mark });
            }
            None => self.insert(id, Mark { since, until, urgent, rank, not_before }),
        }
    }

    /// The first event that a resource waits to answer, if it waits.
    pub(crate) fn since(&self, id: ResourceId) -> Option<u64> {
        self.waiting.get(&id).map(|mark| mark.since)
    }

    /// The first event that is not answered yet.
    pub(crate) fn oldest(&self) -> Option<u64> {
        let waiting = self.ages.first().map(|(since, _)| *since);
        waiting.into_iter().chain(self.taken.values().map(|taken| taken.since)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u32) -> ResourceId {
        format!("01890a5d-ac96-774b-bcce-b302{number:08x}").parse().unwrap()
    }

    fn one(sequence: u64, urgent: bool) -> Taken {
        Taken { since: sequence, until: sequence, urgent, rank: Rank::Member }
    }

    #[test]
    fn reductions_overtake_and_the_watermark_waits() {
        let mut due = Due::default();
        due.mark(id(1), 10, false);
        due.mark(id(2), 11, false);
        due.mark(id(3), 12, true);
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(due.take(now), Some((id(3), one(12, true))));
        assert_eq!(due.take_urgent(now), None, "nobody else is in a hurry");
        assert_eq!(due.take(now), Some((id(1), one(10, false))));
        assert_eq!(due.oldest(), Some(10));
        due.mark(id(1), 13, false);
        assert_eq!(due.take(now), Some((id(2), one(11, false))));
        assert_eq!(due.take(now), None, "nobody is worked on twice at once");
        due.finish(id(1));
        assert_eq!(due.take(now), Some((id(1), one(13, false))));
        due.finish(id(2));
        due.finish(id(3));
        let later: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
        due.put_back(id(1), one(13, false), Some(later));
        assert_eq!((due.take(now), due.oldest(), due.next_rested()), (None, Some(13), Some(later)));
        due.mark(id(1), 14, true);
        assert_eq!(
            due.take(now),
            Some((id(1), Taken { since: 13, until: 14, urgent: true, rank: Rank::Member }))
        );
        due.finish(id(1));
        assert_eq!((due.oldest(), due.len(), due.next_rested()), (None, 0, None));
    }

    #[test]
    fn a_group_comes_after_everybody_it_may_hold() {
        let (mut due, now) = (Due::default(), Timestamp::UNIX_EPOCH);
        due.mark_in_order(id(1), 0, Rank::Holder);
        due.mark_in_order(id(2), 0, Rank::Member);
        let (first, taken) = due.take(now).unwrap();
        assert_eq!(first, id(2));
        due.put_back(first, taken, None);
        assert_eq!(due.take(now).unwrap().0, id(2), "also the second time");
        let (group, taken) = due.take(now).unwrap();
        assert_eq!((group, taken.rank), (id(1), Rank::Holder));
        due.put_back(group, taken, None);
        due.mark(id(1), 5, true);
        assert_eq!(due.take(now).unwrap().0, id(1), "a reduction of access waits for nobody");
    }

    /// Planned with what was true at the first of its events, the last one would be forgotten.
    #[test]
    fn one_turn_answers_all_marks_and_waits_for_the_last() {
        let mut due = Due::default();
        for sequence in [4, 6, 8] {
            due.mark(id(1), sequence, false);
        }
        let taken = Taken { since: 4, until: 8, urgent: false, rank: Rank::Member };
        assert_eq!(due.take(Timestamp::UNIX_EPOCH), Some((id(1), taken)));
        assert_eq!(due.oldest(), Some(4));
    }

    #[test]
    fn whoever_was_urgent_stays_so_when_he_is_put_back() {
        let (mut due, now) = (Due::default(), Timestamp::UNIX_EPOCH);
        due.mark(id(1), 1, false);
        due.mark(id(2), 2, true);
        let (_, taken) = due.take(now).unwrap();
        due.put_back(id(2), taken, None);
        assert_eq!(due.take_urgent(now), Some((id(2), one(2, true))));
        // Marked while somebody works on it.
        due.mark(id(2), 3, false);
        due.put_back(id(2), taken, Some(Timestamp::MAX));
        assert_eq!(
            due.take_urgent(now),
            Some((id(2), Taken { since: 2, until: 3, urgent: true, rank: Rank::Member }))
        );
    }

    #[test]
    fn a_leaver_overtakes_fifty_thousand_who_wait_or_rest() {
        let (mut due, now) = (Due::default(), Timestamp::UNIX_EPOCH);
        let later =
            |seconds: u32| now.checked_add(jiff::SignedDuration::from_secs(i64::from(seconds))).unwrap();
        for number in 0..50_000_u32 {
            due.mark(id(number), u64::from(number) + 1, false);
            if number % 2 == 0 {
                let (taken, work) = due.take(now).unwrap();
                due.put_back(taken, work, Some(later(1 + number)));
            }
        }
        due.mark(id(70_000), 70_000, true);
        assert_eq!(due.take(now), Some((id(70_000), one(70_000, true))));
        assert_eq!((due.len(), due.oldest()), (50_001, Some(1)));
        // Nothing is lost: as time goes by, each has its turn once.
        due.finish(id(70_000));
        let mut turns = BTreeSet::new();
        for second in 0..60_000 {
            while let Some((id, _)) = due.take(later(second)) {
                assert!(turns.insert(id), "{id} had its turn already");
                due.finish(id);
            }
        }
        assert_eq!((turns.len(), due.len()), (50_000, 0));
    }
}
