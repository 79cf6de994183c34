//! Which resources wait for their turn, who comes first, and up to where everything is done.
//!
//! Events come in order, so whoever they make due only joins the end of a line. When the line is long, they wait as what
//! the herald worked out for all apps, so that a hundred apps that are far behind cost little more than one. Whoever comes
//! out of order (in a hurry, put back, marked while worked on) stands apart in sets: of those who are ready, of those who
//! rest, by time. A turn costs the same however many wait.

#[expect(
    clippy::disallowed_types,
    reason = "whatever has an order stands in the line or the sets beside it"
)]
use std::collections::HashMap;
use std::collections::{BTreeSet, VecDeque};
use std::ops::Bound;

use foldhash::fast::RandomState;
use jiff::Timestamp;
use proto::ResourceId;

use super::EVERYTHING;
use crate::herald::Steps;

/// Fewer places that were left are not worth a walk along the line.
const GAPS_MIN: usize = 64;
/// As many stand in the line, if there are as many, and as many join it at once: only there is whoever is due twice found to
/// be one.
const LINE: usize = 1_024;
/// No more wait as events. Those before them join the line however long it is: there somebody is one, however often he
/// changes while an app is paused.
const LATER: usize = 262_144;

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
    place: Place,
}

/// Where somebody waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// In the line, among those of the same event.
    #[default]
    Line,
    /// Apart: ready, or being worked on.
    Apart,
    /// Apart, and not before a time.
    Resting(Timestamp),
}

/// Who comes first when everything is due: members before whatever holds them, so that a group is told of its members once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    /// Who works there, as far as that is known.
    #[default]
    Member,
    /// Who is switched off, or not in scope.
    Later,
    /// What holds others.
    Holder,
}

/// A class, and a place among those of the same class. Four bytes, because everything may be due at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank(u32);

impl Rank {
    const PLACE_BITS: u32 = 30;
    /// Nobody has it.
    const BEHIND_ALL: Self = Self(u32::MAX);

    pub(crate) fn new(class: Class, place: usize) -> Self {
        let last = (1 << Self::PLACE_BITS) - 1;
        let class = match class {
            Class::Member => 0,
            Class::Later => 1,
            Class::Holder => 2,
        };
        Self(class << Self::PLACE_BITS | u32::try_from(place).unwrap_or(last).min(last))
    }
}

/// The due set. What is taken stays in it until it is finished or put back, so the watermark never passes it.
#[expect(clippy::disallowed_types, reason = "whatever has an order stands in the line or the sets beside it")]
#[derive(Debug, Default)]
pub(crate) struct Due {
    waiting: HashMap<ResourceId, Mark, RandomState>,
    /// Ordinary members in the order of their events. Whoever left it is only passed over later.
    line: VecDeque<(u64, ResourceId)>,
    /// Those who join it when it is shorter, and how many they are; who has several events is counted for each.
    later: VecDeque<Steps>,
    later_count: usize,
    /// Those apart whose time has come and that nobody works on: reductions of access before everything else, then in the
    /// order of their events, and members before those that hold them.
    ready: BTreeSet<(bool, u64, Rank, ResourceId)>,
    /// Those whose time has not come.
    resting: BTreeSet<(Timestamp, ResourceId)>,
    /// All that wait apart, by the first event that they answer.
    ages: BTreeSet<(u64, ResourceId)>,
    /// Work that goes on.
    taken: HashMap<ResourceId, Taken, RandomState>,
    /// Whether the last turn was one of those that no event made due.
    filled: bool,
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
        self.waiting.len() + self.taken.len() + self.later_count
    }

    /// Marks whoever can wait, in the order of the events, which are later than all before.
    pub(crate) fn mark_later(&mut self, steps: Steps) {
        let count = steps.waiting();
        if count > 0 {
            self.later_count += count;
            self.later.push_back(steps);
        }
        while self.later_count > LATER && self.joins() {}
    }

    /// Lets those who come later join the line while it is short.
    fn refill(&mut self) {
        for _ in 0..LINE {
            if self.line.len() >= LINE || !self.joins() {
                return;
            }
        }
    }

    /// Lets the first of those who come later join the line; says whether there may be more.
    fn joins(&mut self) -> bool {
        let Some(steps) = self.later.front_mut() else { return false };
        match steps.take_waiting() {
            Some((sequence, id)) => {
                self.later_count -= 1;
                self.mark(id, sequence, false);
            }
            None => drop(self.later.pop_front()),
        }
        true
    }

    /// Marks a resource; an earlier mark keeps its place, an urgent one overtakes and waits for nothing.
    pub(crate) fn mark(&mut self, id: ResourceId, sequence: u64, urgent: bool) {
        let Some(old) = self.waiting.get_mut(&id) else {
            let mark = Mark { since: sequence, until: sequence, urgent, ..Mark::default() };
            return self.insert(id, mark);
        };
        old.until = old.until.max(sequence);
        // Most keep their place.
        if old.since <= sequence && !matches!(old.place, Place::Resting(_)) && (old.urgent || !urgent) {
            return;
        }
        let (since, urgent) = (old.since.min(sequence), old.urgent || urgent);
        let mark = Mark { since, urgent, place: Place::default(), ..*old };
        self.insert(id, mark);
    }

    /// Marks a resource whose turn is among the others of its sequence.
    pub(crate) fn mark_in_order(&mut self, id: ResourceId, sequence: u64, rank: Rank) {
        let place = Place::default();
        self.insert(id, Mark { since: sequence, until: sequence, urgent: false, rank, place });
    }

    fn insert(&mut self, id: ResourceId, mark: Mark) {
        self.forget(id);
        let place = match mark.place {
            Place::Resting(time) => Place::Resting(time),
            Place::Line | Place::Apart if self.joins_the_line(id, &mark) => Place::Line,
            Place::Line | Place::Apart => Place::Apart,
        };
        let mark = Mark { place, ..mark };
        self.waiting.insert(id, mark);
        if place == Place::Line {
            self.close_up();
            self.line.push_back((mark.since, id));
        } else {
            self.ages.insert((mark.since, id));
            self.line_up(id, mark);
        }
    }

    /// Behind one who waits for long, places that others left are given up before they are as many as those who wait.
    fn close_up(&mut self) {
        if self.line.len() > 2 * self.waiting.len() + GAPS_MIN {
            let mut line = std::mem::take(&mut self.line);
            line.retain(|(since, id)| self.stands_in_line(*since, *id));
            self.line = line;
        }
    }

    fn joins_the_line(&self, id: ResourceId, mark: &Mark) -> bool {
        !mark.urgent
            && mark.since != EVERYTHING
            && mark.rank == Rank::default()
            && self.line.back().is_none_or(|(last, _)| *last <= mark.since)
            && !self.taken.contains_key(&id)
    }

    /// Takes a resource out of every order.
    fn forget(&mut self, id: ResourceId) -> Option<Mark> {
        let old = self.waiting.remove(&id)?;
        if old.place != Place::Line {
            self.ages.remove(&(old.since, id));
            self.ready.remove(&(!old.urgent, old.since, old.rank, id));
        }
        if let Place::Resting(time) = old.place {
            self.resting.remove(&(time, id));
        }
        Some(old)
    }

    /// Nobody is worked on twice at once: what is taken lines up when it is finished.
    fn line_up(&mut self, id: ResourceId, mark: Mark) {
        match mark.place {
            Place::Line => {}
            Place::Resting(time) => drop(self.resting.insert((time, id))),
            Place::Apart if self.taken.contains_key(&id) => {}
            Place::Apart => drop(self.ready.insert((!mark.urgent, mark.since, mark.rank, id))),
        }
    }

    /// Who is first in the line, once whoever left it is passed over.
    fn first_in_line(&mut self) -> Option<(u64, ResourceId)> {
        while let Some((since, id)) = self.line.front().copied() {
            if self.stands_in_line(since, id) {
                return Some((since, id));
            }
            self.line.pop_front();
        }
        None
    }

    fn stands_in_line(&self, since: u64, id: ResourceId) -> bool {
        self.waiting.get(&id).is_some_and(|mark| mark.place == Place::Line && mark.since == since)
    }

    /// Who is first of all that are ready, and whether it is in no hurry.
    fn first(&mut self) -> Option<(bool, ResourceId)> {
        let in_line = self.first_in_line().map(|(since, id)| (true, since, Rank::default(), id));
        let mut first = self.ready.first().copied().into_iter().chain(in_line).min()?;
        if self.filled && (first.0, first.1) == (true, EVERYTHING) {
            let after_all = Bound::Excluded((true, EVERYTHING, Rank::BEHIND_ALL, first.3));
            let of_an_event = self.ready.range((after_all, Bound::Unbounded)).next().copied();
            first = of_an_event.into_iter().chain(in_line).min().unwrap_or(first);
        }
        Some((first.0, first.3))
    }

    /// The next resource whose time has come and that nobody works on.
    pub(crate) fn take(&mut self, now: Timestamp) -> Option<(ResourceId, Taken)> {
        self.wake(now);
        loop {
            self.refill();
            if let Some((_, id)) = self.first() {
                return Some(self.hand_out(id));
            }
            // The line held only places that were left, or those who came are being worked on.
            if self.later.is_empty() {
                return None;
            }
        }
    }

    /// The next one whose access may be reduced, while everything else has to wait.
    pub(crate) fn take_urgent(&mut self, now: Timestamp) -> Option<(ResourceId, Taken)> {
        self.wake(now);
        let (ordinary, id) = self.first()?;
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
                mark.place = Place::Apart;
                let mark = *mark;
                self.line_up(id, mark);
            }
        }
    }

    fn hand_out(&mut self, id: ResourceId) -> (ResourceId, Taken) {
        let mark = self.forget(id).unwrap_or_default();
        self.filled = mark.since == EVERYTHING;
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
            None => {
                let place = not_before.map_or(Place::Apart, Place::Resting);
                self.insert(id, Mark { since, until, urgent, rank, place });
            }
        }
    }

    /// The first event that a resource waits to answer, if it waits.
    pub(crate) fn since(&self, id: ResourceId) -> Option<u64> {
        self.waiting.get(&id).map(|mark| mark.since)
    }

    /// The first event that is not answered yet.
    pub(crate) fn oldest(&mut self) -> Option<u64> {
        let in_line = self.first_in_line().map(|(since, _)| since);
        let apart = self.ages.first().map(|(since, _)| *since);
        let later = self.later.iter().find_map(|steps| Some(steps.first_waiting()?.0));
        let waiting = apart.into_iter().chain(in_line).chain(later);
        waiting.chain(self.taken.values().map(|taken| taken.since)).min()
    }
}

#[cfg(test)]
mod tests;
