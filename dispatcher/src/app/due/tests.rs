//! Who comes when, and a model of it.

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
    let later = |seconds: u32| now.checked_add(jiff::SignedDuration::from_secs(i64::from(seconds))).unwrap();
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
        match roll(7) {
            6 => {
                let created = [0, 1].map(|_| (step, id(u32::try_from(roll(12)).unwrap())));
                due.mark_later(Steps::of(created));
                created.iter().for_each(|(sequence, id)| model.mark(*id, *sequence, false));
                // Counted and ordered as they wait, before they join the line.
                assert_eq!(due.later_count, 2);
                assert_eq!(due.oldest(), model.oldest(), "step {step}");
                due.refill();
            }
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

#[test]
fn whoever_comes_while_everything_is_due_waits_for_one_other_only() {
    let mut due = Due::default();
    for number in 1..=4 {
        due.mark_in_order(id(number), EVERYTHING, Rank::new(Class::Member, number as usize));
    }
    let now = Timestamp::UNIX_EPOCH;
    let turn = |due: &mut Due| due.take(now).map(|(id, _)| id);
    assert_eq!(turn(&mut due), Some(id(1)));
    for (number, sequence) in [(10, 7), (11, 8), (12, 9)] {
        due.mark(id(number), sequence, false);
    }
    assert_eq!(turn(&mut due), Some(id(10)));
    assert_eq!(turn(&mut due), Some(id(2)));
    // Put back, it stands apart and is as much of an event as before.
    due.put_back(id(10), Taken { since: 7, until: 7, urgent: false, rank: Rank::default() }, None);
    assert_eq!(turn(&mut due), Some(id(10)));
    due.mark(id(13), 10, true);
    assert_eq!(turn(&mut due), Some(id(13)), "a reduction of access waits for nobody");
    let rest = std::iter::from_fn(|| turn(&mut due)).collect::<Vec<_>>();
    assert_eq!(rest, [3, 11, 4, 12].map(id));
    assert_eq!(due.oldest(), Some(EVERYTHING), "what is worked on still counts");
}

#[test]
fn a_backlog_is_shared_by_all_who_are_behind() {
    let now = Timestamp::UNIX_EPOCH;
    let count = 10_u64 * 1_024;
    let mut apps: Vec<Due> = std::iter::repeat_with(Due::default).take(3).collect();
    for first in (1..=count).step_by(256) {
        let steps = Steps::of((first..first + 256).map(|sequence| (sequence, id(sequence as u32))));
        apps.iter_mut().for_each(|due| due.mark_later(steps.clone()));
    }
    for due in &mut apps {
        assert_eq!((due.len(), due.oldest(), due.waiting.len()), (count as usize, Some(1), 0));
        due.mark(id(9_000), 20_000, true);
        assert_eq!(due.take(now), Some((id(9_000), one(20_000, true))), "whoever leaves waits for nobody");
        due.finish(id(9_000));
        for sequence in 1..=count {
            assert_eq!(due.oldest(), Some(sequence));
            assert_eq!(due.take(now), Some((id(sequence as u32), one(sequence, false))));
            assert!(due.waiting.len() <= LINE && due.line.len() <= LINE, "{} wait", due.waiting.len());
            due.finish(id(sequence as u32));
        }
        assert_eq!((due.len(), due.oldest(), due.take(now)), (0, None, None));
    }
}

#[test]
fn whoever_comes_again_and_again_is_called_once_as_far_as_the_line_goes() {
    let (mut due, now) = (Due::default(), Timestamp::UNIX_EPOCH);
    let same = |first: u64| Steps::of((first..first + 256).map(|sequence| (sequence, id(1))));
    (0..40).for_each(|number| due.mark_later(same(1 + 256 * number)));
    let mut turns = 0;
    let mut until = 0;
    while let Some((_, taken)) = due.take(now) {
        assert_eq!(taken.since, until + 1);
        until = taken.until;
        turns += 1;
        due.finish(id(1));
    }
    assert_eq!(until, 40 * 256);
    assert!(turns <= 1 + 40 * 256 / LINE, "{turns} turns");
    assert_eq!(due.len(), 0);
}

#[test]
fn a_backlog_grows_with_those_who_wait_and_not_with_their_events() {
    let (mut due, now) = (Due::default(), Timestamp::UNIX_EPOCH);
    let steps = Steps::of((1..=256).map(|sequence| (sequence, id(sequence as u32 % 100))));
    for _ in 0..2 * LATER / 256 {
        due.mark_later(steps.clone());
        assert!(due.later_count <= LATER && due.later.len() <= LATER / 256 + 1, "{}", due.later_count);
    }
    assert_eq!((due.waiting.len(), due.oldest()), (100, Some(1)));
    assert!(due.line.len() <= 2 * due.waiting.len() + GAPS_MIN);
    while let Some((id, _)) = due.take(now) {
        due.finish(id);
    }
    assert_eq!((due.len(), due.oldest()), (0, None));
}
