//! Whether concurrent commands have an explanation: an order, one command after the other, that respects who was done
//! before another began, and under which a tiny directory gives every answer that was given and ends in the state that
//! was found at the end.
//!
//! The search is that of Wing and Gong, with a memory of what was tried in vain (Lowe). A command whose answer was lost
//! may have happened at any time after it began, or never.

mod driver;
mod model;

use std::collections::BTreeSet;
use std::fmt;

pub use driver::{Chance, ask, everybody};
use model::State;
pub use model::{Answer, Command, Set, User};

/// How many combinations are tried before the history is called too long.
const TRIED_MAX: usize = 3_000_000;

/// One command of one client.
#[derive(Clone, Debug)]
pub struct Step {
    /// Who.
    pub client: usize,
    /// Through which gateway.
    pub gateway: usize,
    /// When it was sent, on a clock that all clients share.
    pub begun: u64,
    /// When the answer was there.
    pub ended: u64,
    /// What was asked.
    pub command: Command,
    /// What was answered.
    pub answer: Answer,
}

/// What happened.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Everybody at the beginning.
    pub before: Vec<User>,
    /// What was asked and answered.
    pub steps: Vec<Step>,
    /// Everybody at the end.
    pub after: Vec<User>,
}

impl History {
    /// An order that explains everything: places in `steps`, without what was lost and never happened.
    pub fn order(&self) -> Option<Vec<usize>> {
        assert!(self.steps.len() <= 128, "{} steps are too many", self.steps.len());
        let mut search =
            Search { history: self, strays: self.strays(), vain: BTreeSet::new(), order: Vec::new() };
        let found = search.goes_on(0, &State::of(&self.before));
        found.then_some(search.order)
    }

    /// Ids that nobody is known to have made: a create whose answer was lost may have.
    fn strays(&self) -> BTreeSet<String> {
        let seen = self.steps.iter().filter_map(|step| step.answer.user()).chain(&self.after);
        let mut strays: BTreeSet<String> = seen.map(|user| user.id.clone()).collect();
        for user in &self.before {
            strays.remove(&user.id);
        }
        for step in self.steps.iter().filter(|step| matches!(step.command, Command::Create { .. })) {
            if let Some(user) = step.answer.user() {
                strays.remove(&user.id);
            }
        }
        strays
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "before:")?;
        for user in &self.before {
            writeln!(f, "  {user}")?;
        }
        let mut steps: Vec<(usize, &Step)> = self.steps.iter().enumerate().collect();
        steps.sort_by_key(|(_, step)| step.begun);
        let first = steps.first().map_or(0, |(_, step)| step.begun);
        writeln!(f, "place  client gateway       us from .. to")?;
        for (place, step) in steps {
            let at = |time: u64| time.saturating_sub(first) / 1_000;
            let Step { client, gateway, begun, ended, command, answer } = step;
            let (begun, ended) = (at(*begun), at(*ended));
            writeln!(f, "{place:5}  {client:6} {gateway:7} {begun:8} .. {ended:8}  {command} -> {answer}")?;
        }
        writeln!(f, "after:")?;
        for user in &self.after {
            writeln!(f, "  {user}")?;
        }
        Ok(())
    }
}

struct Search<'a> {
    history: &'a History,
    strays: BTreeSet<String>,
    /// What was done in whatever order, and where that led: there is no way on from here.
    vain: BTreeSet<(u128, State)>,
    order: Vec<usize>,
}

impl Search<'_> {
    /// Whether what is not done yet can follow in some order.
    fn goes_on(&mut self, done: u128, state: &State) -> bool {
        let history = self.history;
        let open = || history.steps.iter().enumerate().filter(|(place, _)| done >> place & 1 == 0);
        let answered = || open().filter(|(_, step)| step.answer != Answer::Unknown);
        if answered().next().is_none() && state.is(&history.after) {
            return true;
        }
        if !self.vain.insert((done, state.clone())) {
            return false;
        }
        assert!(self.vain.len() < TRIED_MAX, "the history is too long for a search:\n{history}");
        // Whatever begins after another has ended comes after it.
        let latest = answered().map(|(_, step)| step.ended).min().unwrap_or(u64::MAX);
        for (place, step) in open().filter(|(_, step)| step.begun <= latest) {
            for next in state.after(&step.command, &step.answer, &self.strays) {
                self.order.push(place);
                if self.goes_on(done | 1 << place, &next) {
                    return true;
                }
                self.order.pop();
            }
        }
        false
    }
}

#[cfg(test)]
mod tests;
