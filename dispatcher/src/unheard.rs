//! Calls whose answer nobody heard. Part of a link, and like it a projection of PROVISIONING.
//!
//! Whoever stops listening does not stop the app: a call may be carried out after its caller has given up, was stopped or was
//! killed. Until that cannot be any more, "there is no such account" is no answer, and what was done since may be undone by
//! what comes late.

use jiff::Timestamp;
use proto::provisioning::{Event, Kind};

/// So many are remembered, the newest: an app rests longer after each that fails, so the time of older ones is over.
const LOST_MAX: usize = 8;

/// What is known of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unheard {
    /// The call that was about to be made last, until something is written down of it.
    open: Option<Open>,
    /// When those were made of which nothing was written down although the app was read since, in their order. One may have
    /// been answered, which only whoever called it knows; the one before it still counts then.
    lost: Vec<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Open {
    at: Timestamp,
    /// Whether an account is being made ours by it.
    adopts: bool,
    /// The app did answer, and not what it did.
    is_answered: bool,
}

impl Unheard {
    /// After an event.
    pub(crate) fn apply(&mut self, event: &Event) {
        match &event.kind {
            Kind::Intended { operation } => {
                self.lose();
                let adopts = operation == "adopt";
                self.open = Some(Open { at: event.occurred_at, adopts, is_answered: false });
            }
            Kind::Done { operation, .. } => {
                let is_heard = match operation.as_str() {
                    "create" | "update" | "deactivate" | "delete" | "change_members" => true,
                    "adopt" => self.open.is_some_and(|open| open.adopts),
                    _ => false,
                };
                if is_heard { self.open = None } else { self.lose() }
            }
            Kind::Refused { .. } => self.open = None,
            Kind::Retrying { .. } => self.open.iter_mut().for_each(|open| open.is_answered = true),
            Kind::Held { .. } => self.lose(),
            Kind::Released { .. }
            | Kind::Verified
            | Kind::Decided { .. }
            | Kind::ScopeEntered
            | Kind::ScopeLeft
            | Kind::PassedOver => {}
        }
    }

    /// Nothing will be heard of the open one any more.
    fn lose(&mut self) {
        if let Some(open) = self.open.take().filter(|open| !open.is_answered) {
            if self.lost.len() == LOST_MAX {
                self.lost.remove(0);
            }
            self.lost.push(open.at);
        }
    }

    /// The call that was about to be made last and of which nothing is written down: by its time it is known again.
    pub(crate) fn open(&self) -> Option<Timestamp> {
        self.open.map(|open| open.at)
    }

    /// When those were made that may still be carried out, as far as their time allows.
    pub(crate) fn times(&self) -> impl Iterator<Item = Timestamp> {
        let open = self.open.filter(|open| !open.is_answered).map(|open| open.at);
        self.lost.iter().copied().chain(open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::event;

    fn at(second: i64, kind: Kind) -> Event {
        Event { occurred_at: Timestamp::from_second(second).unwrap(), ..event(kind) }
    }

    fn intended(second: i64, operation: &str) -> Event {
        at(second, Kind::Intended { operation: operation.to_string() })
    }

    fn done(operation: &str) -> Event {
        at(100, crate::sample::done(operation))
    }

    #[track_caller]
    fn check(events: &[Event], times: &[i64]) {
        let mut unheard = Unheard::default();
        events.iter().for_each(|event| unheard.apply(event));
        let found: Vec<i64> = unheard.times().map(Timestamp::as_second).collect();
        assert_eq!(found, times);
    }

    #[test]
    fn a_call_is_unheard_until_what_came_of_it_is_written_down() {
        check(&[intended(1, "create")], &[1]);
        for heard in ["create", "update", "deactivate", "delete", "change_members"] {
            check(&[intended(1, heard), done(heard)], &[]);
        }
        let error = "400".to_string();
        let refused = Kind::Refused { operation: "create".to_string(), status: 400, error: error.clone() };
        check(&[intended(1, "create"), at(2, refused)], &[]);
        let retrying = Kind::Retrying { operation: "create".to_string(), attempt: 1, after_ms: 500, error };
        check(&[intended(1, "create"), at(2, retrying)], &[]);
    }

    #[test]
    fn reading_the_app_does_not_say_that_nothing_comes_late() {
        for read in ["read_back", "adopt", "observe", "observe_members", "import"] {
            check(&[intended(1, "create"), done(read)], &[1]);
            check(&[intended(1, "create"), done(read), intended(7, "update"), done("update")], &[1]);
            check(&[intended(1, "create"), done(read), intended(7, "update")], &[1, 7]);
        }
        check(&[intended(1, "adopt"), done("adopt")], &[]);
        // Made ours a second time, because nobody heard of the first.
        check(&[intended(1, "adopt"), intended(5, "adopt"), done("adopt")], &[1]);
        let held = Kind::Held { operation: "create".to_string(), reason: String::new() };
        check(&[intended(3, "create"), at(4, held)], &[3]);
    }

    /// The newest may have been answered, and only the process that called knows it.
    #[test]
    fn an_older_one_is_not_forgotten_for_a_newer_one() {
        let lost = |second| [intended(second, "update"), done("read_back")];
        check(&[lost(1), lost(5)].concat(), &[1, 5]);
        let many: Vec<Event> = (1..=12).flat_map(lost).collect();
        check(&many, &[5, 6, 7, 8, 9, 10, 11, 12]);
    }
}
