//! Which resources wait for their turn, who comes first, and up to where everything is done.
//!
//! Events come in order, so whoever they make due only joins the end of a line, which costs little even when a hundred apps
//! mark a backlog. Whoever comes out of order (in a hurry, put back, marked while worked on) stands apart in sets: of those
//! who are ready, of those who rest, by time. A turn costs the same however many wait.

#[expect(
    clippy::disallowed_types,
    reason = "whatever has an order stands in the line or the sets beside it"
)]
use std::collections::HashMap;
use std::collections::{BTreeSet, VecDeque};

use foldhash::fast::RandomState;
use jiff::Timestamp;
use proto::ResourceId;

/// Fewer places that were left are not worth a walk along the line.
const GAPS_MIN: usize = 64;

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
    /// Those apart whose time has come and that nobody works on: reductions of access before everything else, then in the
    /// order of their events, and members before those that hold them.
    ready: BTreeSet<(bool, u64, Rank, ResourceId)>,
    /// Those whose time has not come.
    resting: BTreeSet<(Timestamp, ResourceId)>,
    /// All that wait apart, by the first event that they answer.
    ages: BTreeSet<(u64, ResourceId)>,
    /// Work that goes on.
    taken: HashMap<ResourceId, Taken, RandomState>,
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
        let first = self.ready.first().copied().into_iter().chain(in_line).min()?;
        Some((first.0, first.3))
    }

    /// The next resource whose time has come and that nobody works on.
    pub(crate) fn take(&mut self, now: Timestamp) -> Option<(ResourceId, Taken)> {
        self.wake(now);
        let (_, id) = self.first()?;
        Some(self.hand_out(id))
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
        let waiting = apart.into_iter().chain(in_line);
        waiting.chain(self.taken.values().map(|taken| taken.since)).min()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn id(number: u32) -> ResourceId {
        format!("01890a5d-ac96-774b-bcce-b302{number:08x}").parse().unwrap()
    }

    fn one(sequence: u64, urgent: bool) -> Taken {
        Taken { since: sequence, until: sequence, urgent, rank: Rank::default() }
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
            Some((id(1), Taken { since: 13, until: 14, urgent: true, rank: Rank::default() }))
        );
        due.finish(id(1));
        assert_eq!((due.oldest(), due.len(), due.next_rested()), (None, 0, None));
    }

    #[test]
    fn a_group_comes_after_everybody_it_may_hold() {
        let (mut due, now) = (Due::default(), Timestamp::UNIX_EPOCH);
        let holder = Rank::new(Class::Holder, 0);
        due.mark_in_order(id(1), 0, holder);
        due.mark_in_order(id(2), 0, Rank::new(Class::Member, 7));
        let (first, taken) = due.take(now).unwrap();
        assert_eq!(first, id(2));
        due.put_back(first, taken, None);
        assert_eq!(due.take(now).unwrap().0, id(2), "also the second time");
        let (group, taken) = due.take(now).unwrap();
        assert_eq!((group, taken.rank), (id(1), holder));
        due.put_back(group, taken, None);
        due.mark(id(1), 5, true);
        assert_eq!(due.take(now).unwrap().0, id(1), "a reduction of access waits for nobody");
    }

    #[test]
    fn whoever_needs_it_most_comes_first() {
        let (mut due, now) = (Due::default(), Timestamp::UNIX_EPOCH);
        let ranks = [
            (1, Class::Holder, 0),
            (2, Class::Later, 0),
            (3, Class::Member, usize::MAX),
            (4, Class::Later, 1),
            (5, Class::Member, 0),
        ];
        for (number, class, place) in ranks {
            due.mark_in_order(id(number), 0, Rank::new(class, place));
        }
        let order: Vec<ResourceId> = std::iter::from_fn(|| due.take(now).map(|(id, _)| id)).collect();
        assert_eq!(order, [5, 3, 2, 4, 1].map(id));
        assert_eq!(size_of::<Rank>(), 4, "a million may be due");
    }

    /// Planned with what was true at the first of its events, the last one would be forgotten.
    #[test]
    fn one_turn_answers_all_marks_and_waits_for_the_last() {
        let mut due = Due::default();
        for sequence in [4, 6, 8] {
            due.mark(id(1), sequence, false);
        }
        let taken = Taken { since: 4, until: 8, urgent: false, rank: Rank::default() };
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
            Some((id(2), Taken { since: 2, until: 3, urgent: true, rank: Rank::default() }))
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

    #[test]
    fn places_that_were_left_are_given_up() {
        let (mut due, now) = (Due::default(), Timestamp::UNIX_EPOCH);
        due.mark(id(1), 1, false);
        // An app that may only reduce access: the first one waits for ever, the others come and go.
        for sequence in 2..10_000 {
            due.mark(id(2), sequence, false);
            due.mark(id(2), sequence, true);
            let (urgent, _) = due.take_urgent(now).unwrap();
            due.finish(urgent);
        }
        assert!(due.line.len() <= 2 * due.len() + GAPS_MIN, "{} places for one who waits", due.line.len());
        assert_eq!((due.take(now), due.len()), (Some((id(1), one(1, false))), 1));
    }

    /// Who waits, said as simply as it can be: since, until, urgent, rests.
    #[derive(Default)]
    struct Model {
        waiting: BTreeMap<ResourceId, (u64, u64, bool, bool)>,
        taken: BTreeMap<ResourceId, Taken>,
    }

    impl Model {
        fn mark(&mut self, id: ResourceId, sequence: u64, urgent: bool) {
            let mark = self.waiting.entry(id).or_insert((sequence, sequence, urgent, false));
            *mark = (mark.0.min(sequence), mark.1.max(sequence), mark.2 || urgent, false);
        }

        /// Who comes first, by hurry and age.
        fn first(&self) -> Option<(bool, u64)> {
            let ready = self.waiting.iter().filter(|(id, mark)| !mark.3 && !self.taken.contains_key(id));
            ready.map(|(_, mark)| (!mark.2, mark.0)).min()
        }

        fn oldest(&self) -> Option<u64> {
            let waiting = self.waiting.values().map(|mark| mark.0);
            waiting.chain(self.taken.values().map(|taken| taken.since)).min()
        }
    }

    #[test]
    fn whatever_happens_the_first_is_the_first() {
        let (mut due, mut model, now) = (Due::default(), Model::default(), Timestamp::UNIX_EPOCH);
        let mut chance = 1_u64;
        let mut roll = |below: u64| {
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (chance >> 33) % below
        };
        for step in 1..20_000 {
            let someone = id(u32::try_from(roll(12)).unwrap());
            match roll(6) {
                0 | 1 => {
                    let (sequence, urgent) = (step - roll(2) * roll(9).min(step), roll(8) == 0);
                    due.mark(someone, sequence, urgent);
                    model.mark(someone, sequence, urgent);
                }
                2 | 3 => {
                    let first = model.first();
                    let found = due.take(now);
                    assert_eq!(found.map(|(_, taken)| (!taken.urgent, taken.since)), first, "step {step}");
                    if let Some((id, taken)) = found {
                        let (since, until, urgent, _) = model.waiting.remove(&id).unwrap();
                        assert_eq!(taken, Taken { since, until, urgent, rank: Rank::default() });
                        assert_eq!(model.taken.insert(id, taken), None, "worked on twice at once");
                    }
                }
                4 => {
                    due.finish(someone);
                    model.taken.remove(&someone);
                }
                _ => {
                    if let Some(taken) = model.taken.remove(&someone) {
                        let rests = roll(2) == 0;
                        due.put_back(someone, taken, rests.then_some(Timestamp::MAX));
                        let known = model.waiting.entry(someone);
                        let mark = known.or_insert((taken.since, taken.until, taken.urgent, rests));
                        let urgent = mark.2 || taken.urgent;
                        *mark = (mark.0.min(taken.since), mark.1.max(taken.until), urgent, mark.3);
                    }
                }
            }
            assert_eq!(due.oldest(), model.oldest(), "step {step}");
            assert_eq!(due.len(), model.waiting.len() + model.taken.len(), "step {step}");
        }
    }
}
