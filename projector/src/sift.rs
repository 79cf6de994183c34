//! Who a plan finds: candidates out of the indexes, each looked at where those say too little. It is done in pieces, because
//! nobody may hold the directory for as long as many take.

use crate::directory::{Directory, Number, Slot};
use crate::plan::{Plan, Planner, Range};

/// So many tests make a piece. One index or one group leads to more at once, within what counts as many.
const PIECE: usize = 4_096;
/// What an index leads to is many, when it is more than this and more than this part of all.
const MANY_MIN: usize = 65_536;
const MANY_PART: usize = 8;
/// Going through somebody's groups takes as long as so many other tests.
const GROUPS_TESTS: usize = 4;

/// The finds of a plan that is being carried out, as of one moment.
#[derive(Debug)]
pub(crate) struct Sifting {
    plan: Plan,
    /// Whether candidates must be looked at one by one.
    looks: bool,
    /// How many of them in one piece.
    at_once: usize,
    stage: Stage,
    /// Ascending, each once.
    found: Vec<Slot>,
}

#[derive(Debug)]
enum Stage {
    /// Candidates come from these plans, each of one index.
    Gathering(Vec<Plan>, Vec<Slot>),
    /// These candidates are left from this place on.
    Looking(Vec<Slot>, usize),
    /// Everybody from this one on is a candidate.
    Walking(Slot),
    Done,
}

impl Sifting {
    pub(crate) fn new(planner: &Planner<'_>, plan: Plan) -> Self {
        let mut leaves = Vec::new();
        let (stage, looks) = match sources(planner, &plan, &mut leaves) {
            Some(looks) => (Stage::Gathering(leaves, Vec::new()), looks),
            None => (Stage::Walking(0), plan != Plan::Everything),
        };
        let at_once = if looks { (PIECE / tests(&plan).max(1)).max(1) } else { PIECE };
        Self { plan, looks, at_once, stage, found: Vec::new() }
    }

    /// Does a piece of the work. Whether all is done.
    pub(crate) fn step(&mut self, planner: &Planner<'_>) -> bool {
        let mut done = 0;
        while done < PIECE {
            match &mut self.stage {
                Stage::Gathering(leaves, candidates) => match leaves.pop() {
                    Some(leaf) => {
                        let slots = planner.leaf(&leaf);
                        done += 1 + slots.len();
                        candidates.extend(slots);
                    }
                    None => {
                        let mut candidates = std::mem::take(candidates);
                        // Each leaf's are in order already.
                        candidates.sort();
                        candidates.dedup();
                        self.stage = if self.looks {
                            Stage::Looking(candidates, 0)
                        } else {
                            self.found = candidates;
                            Stage::Done
                        };
                    }
                },
                Stage::Looking(candidates, next) => {
                    let rest = candidates.get(*next..).unwrap_or_default();
                    let piece = rest.get(..self.at_once).unwrap_or(rest);
                    self.found.extend(piece.iter().filter(|slot| planner.holds(&self.plan, **slot)));
                    *next += piece.len();
                    done += piece.len() * (PIECE / self.at_once);
                    if *next >= candidates.len() {
                        self.stage = Stage::Done;
                    }
                }
                Stage::Walking(first) => {
                    let mut last = None;
                    for slot in planner.ever(*first).take(self.at_once) {
                        last = Some(slot);
                        if planner.exists(slot) && (!self.looks || planner.holds(&self.plan, slot)) {
                            self.found.push(slot);
                        }
                    }
                    self.stage = last.map_or(Stage::Done, |last| Stage::Walking(last.saturating_add(1)));
                    done = PIECE;
                }
                Stage::Done => return true,
            }
        }
        matches!(self.stage, Stage::Done)
    }

    /// Those that were found, in the order of their creation.
    pub(crate) fn found(self) -> Vec<Slot> {
        self.found
    }
}

/// The plans of one index each that lead to all that a plan can find, and whether what they lead to must be looked at; nothing
/// when looking at everybody is less work.
fn sources(planner: &Planner<'_>, plan: &Plan, leaves: &mut Vec<Plan>) -> Option<bool> {
    match plan {
        Plan::Nothing => Some(false),
        Plan::Everything | Plan::Not(_) => None,
        Plan::Slots(_) | Plan::Held(_) => {
            leaves.push(plan.clone());
            Some(false)
        }
        Plan::Values(..) | Plan::Modified(..) | Plan::Created(..) => {
            let most = MANY_MIN.max(planner.total() / MANY_PART);
            let is_many = match plan {
                // Asked for most, and mostly one.
                Plan::Values(column, Range::Equal(text)) => {
                    planner.directory.values().may_be_more(most, *column, text)
                }
                _ => planner.estimate(plan) > most,
            };
            leaves.push(plan.clone());
            (!is_many).then_some(false)
        }
        Plan::And(plans) => match plans.split_first() {
            None => Some(false),
            Some((first, others)) => Some(sources(planner, first, leaves)? | !others.is_empty()),
        },
        Plan::Or(plans) => {
            let all: usize = plans.iter().map(|plan| planner.estimate(plan)).sum();
            if all > planner.total().max(PIECE) {
                return None;
            }
            plans.iter().try_fold(false, |looks, plan| Some(looks | sources(planner, plan, leaves)?))
        }
    }
}

/// About how many tests a look takes.
fn tests(plan: &Plan) -> usize {
    match plan {
        Plan::Held(_) => GROUPS_TESTS,
        Plan::And(plans) | Plan::Or(plans) => plans.iter().map(tests).sum(),
        Plan::Not(inner) => tests(inner),
        Plan::Nothing
        | Plan::Everything
        | Plan::Slots(_)
        | Plan::Values(..)
        | Plan::Modified(..)
        | Plan::Created(..) => 1,
    }
}

impl Planner<'_> {
    /// Everybody that ever was of the type, from a slot on.
    fn ever(&self, first: Slot) -> impl Iterator<Item = Slot> {
        self.directory.of_type(self.resource_type).into_iter().flat_map(move |list| list.from(first))
    }

    fn exists(&self, slot: Slot) -> bool {
        self.directory.exists(slot, self.at)
    }

    fn is_wanted(&self, slot: Slot) -> bool {
        self.kind.is_some_and(|kind| self.directory.is_of(slot, kind, self.at))
    }

    /// What one index finds: ascending, each once.
    fn leaf(&self, plan: &Plan) -> Vec<Slot> {
        let directory: &Directory = self.directory;
        let wanted = |slots: &mut dyn Iterator<Item = Slot>| -> Vec<Slot> {
            let mut slots: Vec<Slot> = slots.filter(|slot| self.is_wanted(*slot)).collect();
            slots.sort_unstable();
            slots.dedup();
            slots
        };
        let of_values = |numbers: &mut dyn Iterator<Item = Number>| {
            let postings = numbers.filter_map(|number| directory.values().posting(number));
            wanted(&mut postings.filter(|posting| posting.is_at(self.at)).map(|posting| posting.slot))
        };
        match plan {
            Plan::Slots(slots) => wanted(&mut slots.iter().copied()),
            Plan::Held(group) => wanted(&mut directory.edges().descendants(*group, self.at).into_iter()),
            Plan::Values(column, Range::Equal(text)) => {
                of_values(&mut directory.values().equal(*column, text).into_iter())
            }
            Plan::Values(column, range) => {
                let (from, to) = self.places(*column, range);
                let order = directory.values().order(*column).into_iter();
                of_values(&mut order.flat_map(|order| order.range(from, to)))
            }
            Plan::Modified(low, high) => {
                let (from, to) = self.events(*low, *high);
                let own = directory.versions().0.from(from).take_while(|(number, _)| *number < to);
                let own = own.filter(|(_, step)| step.counts != 0).map(|(number, step)| (number, step.slot));
                let touches = directory.touches_from(from).take_while(|(number, _)| *number < to);
                let all = own.chain(touches);
                let last = all.filter(|(number, slot)| directory.is_modification(*slot, *number, self.at));
                wanted(&mut last.map(|(_, slot)| slot))
            }
            Plan::Created(low, high) => {
                let (from, to) = directory.created_within(*low, *high);
                wanted(&mut (from..to))
            }
            Plan::Nothing | Plan::Everything | Plan::And(_) | Plan::Or(_) | Plan::Not(_) => Vec::new(),
        }
    }

    /// Whether a plan would find a resource of the type that exists.
    fn holds(&self, plan: &Plan, slot: Slot) -> bool {
        let directory: &Directory = self.directory;
        let within = |ms: i64, low: &Option<i64>, high: &Option<i64>| {
            low.is_none_or(|low| ms >= low) && high.is_none_or(|high| ms <= high)
        };
        match plan {
            Plan::Nothing => false,
            Plan::Everything => true,
            Plan::Slots(slots) => slots.binary_search(&slot).is_ok(),
            Plan::Held(group) => {
                let groups = directory.edges().ancestors(slot, directory.moment_or_now(self.at));
                *group != slot && groups.iter().any(|(known, _)| known == group)
            }
            Plan::Values(column, range) => directory
                .values()
                .of(slot, self.at)
                .any(|(known, text)| known == *column && range.holds(text.as_bytes())),
            Plan::Modified(low, high) => {
                directory.seen(slot, self.at).is_some_and(|seen| within(seen.modified_ms, low, high))
            }
            Plan::Created(low, high) => {
                directory.seen(slot, self.at).is_some_and(|seen| within(seen.created_ms, low, high))
            }
            Plan::And(plans) => plans.iter().all(|plan| self.holds(plan, slot)),
            Plan::Or(plans) => plans.iter().any(|plan| self.holds(plan, slot)),
            Plan::Not(inner) => !self.holds(inner, slot),
        }
    }
}
