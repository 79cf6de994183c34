//! Which resources wait for their turn, who comes first, and up to where everything is done.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use proto::ResourceId;

/// Why and since when a resource is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    /// The first event that it has to answer.
    since: u64,
    /// The last one: whoever plans must have seen it.
    until: u64,
    urgent: bool,
    /// Not before.
    not_before: Option<Timestamp>,
}

/// The due set. What is taken stays in it until it is finished or put back, so the watermark never passes it.
#[derive(Debug, Default)]
pub(crate) struct Due {
    waiting: BTreeMap<ResourceId, Mark>,
    /// Reductions of access before everything else, then in the order of their events.
    order: BTreeSet<(bool, u64, ResourceId)>,
    /// Work that goes on.
    taken: BTreeMap<ResourceId, Taken>,
}

/// Work on a resource: the first and the last event that it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) since: u64,
    pub(crate) until: u64,
}

impl Due {
    pub(crate) fn len(&self) -> usize {
        self.waiting.len() + self.taken.len()
    }

    /// Marks a resource; an earlier mark keeps its place, an urgent one overtakes and waits for nothing.
    pub(crate) fn mark(&mut self, id: ResourceId, sequence: u64, urgent: bool) {
        let old = self.waiting.get(&id).copied();
        let mark = Mark {
            since: old.map_or(sequence, |old| old.since.min(sequence)),
            until: old.map_or(sequence, |old| old.until.max(sequence)),
            urgent: urgent || old.is_some_and(|old| old.urgent),
            not_before: None,
        };
        self.insert(id, mark);
    }

    fn insert(&mut self, id: ResourceId, mark: Mark) {
        if let Some(old) = self.waiting.insert(id, mark) {
            self.order.remove(&(!old.urgent, old.since, id));
        }
        self.order.insert((!mark.urgent, mark.since, id));
    }

    /// The next resource whose time has come and that nobody works on.
    pub(crate) fn take(&mut self, now: Timestamp) -> Option<(ResourceId, Taken)> {
        let ready = |(_, _, id): &&(bool, u64, ResourceId)| {
            let waits = self.waiting.get(id).and_then(|mark| mark.not_before).is_some_and(|time| time > now);
            !waits && !self.taken.contains_key(id)
        };
        let next = self.order.iter().find(ready).copied()?;
        let (_, since, id) = next;
        self.order.remove(&next);
        let until = self.waiting.remove(&id).map_or(since, |mark| mark.until);
        let taken = Taken { since, until };
        self.taken.insert(id, taken);
        Some((id, taken))
    }

    /// The work is done or held.
    pub(crate) fn finish(&mut self, id: ResourceId) {
        self.taken.remove(&id);
    }

    /// The work has to be done again, not before a time.
    pub(crate) fn put_back(&mut self, id: ResourceId, taken: Taken, not_before: Option<Timestamp>) {
        self.taken.remove(&id);
        let Taken { since, until } = taken;
        match self.waiting.get(&id).copied() {
            // Marked again meanwhile: the new mark decides when.
            Some(mark) => {
                let (since, until) = (mark.since.min(since), mark.until.max(until));
                self.insert(id, Mark { since, until, ..mark });
            }
            None => self.insert(id, Mark { since, until, urgent: false, not_before }),
        }
    }

    /// The first event that is not answered yet.
    pub(crate) fn oldest(&self) -> Option<u64> {
        let waiting = self.waiting.values().map(|mark| mark.since);
        waiting.chain(self.taken.values().map(|taken| taken.since)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> ResourceId {
        format!("01890a5d-ac96-774b-bcce-b302099a80{number:02x}").parse().unwrap()
    }

    #[test]
    fn reductions_overtake_and_the_watermark_waits() {
        let mut due = Due::default();
        due.mark(id(1), 10, false);
        due.mark(id(2), 11, false);
        due.mark(id(3), 12, true);
        let now = Timestamp::UNIX_EPOCH;
        let one = |sequence| Taken { since: sequence, until: sequence };
        assert_eq!(due.take(now), Some((id(3), one(12))));
        assert_eq!(due.take(now), Some((id(1), one(10))));
        assert_eq!(due.oldest(), Some(10));
        due.mark(id(1), 13, false);
        assert_eq!(due.take(now), Some((id(2), one(11))));
        assert_eq!(due.take(now), None, "nobody is worked on twice at once");
        due.finish(id(1));
        assert_eq!(due.take(now), Some((id(1), one(13))));
        due.finish(id(2));
        due.finish(id(3));
        let later: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
        due.put_back(id(1), one(13), Some(later));
        assert_eq!((due.take(now), due.oldest()), (None, Some(13)));
        due.mark(id(1), 14, true);
        assert_eq!(due.take(now), Some((id(1), Taken { since: 13, until: 14 })));
        due.finish(id(1));
        assert_eq!((due.oldest(), due.len()), (None, 0));
    }

    /// Planned with what was true at the first of its events, the last one would be forgotten.
    #[test]
    fn one_turn_answers_all_marks_and_waits_for_the_last() {
        let mut due = Due::default();
        for sequence in [4, 6, 8] {
            due.mark(id(1), sequence, false);
        }
        assert_eq!(due.take(Timestamp::UNIX_EPOCH), Some((id(1), Taken { since: 4, until: 8 })));
        assert_eq!(due.oldest(), Some(4));
    }
}
