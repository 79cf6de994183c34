//! When somebody entered an app's scope, and left it: read from what was done there.
//!
//! Situation: an operator asks since when somebody belongs at an app, and why. PROVISIONING has kinds of its own for that,
//! `ScopeEntered` and `ScopeLeft`. Choice: nobody writes them. Whoever enters gets an account, is given one that is there or
//! is told again after he was switched off, and whoever leaves is switched off or deleted; each begins with an intent, or
//! with the account that was found, and its reason says which filter or group it was. So an event of scope would say the same
//! a second time, and cost each newcomer a third write before anything is called. What we gave up: a change of scope that
//! led to nothing at the app, as of somebody who left before he was given an account, stands nowhere but in the directory;
//! and the clear reason names a group by its id and a filter not at all, because both can tell something of a person. When
//! to look again: when an app must be told of a scope without an account. Both kinds are still read, whoever writes them.

use proto::provisioning::{Event, Kind};

use crate::link::RELEASED_BY;
use crate::trust::STRANGER;

/// How a resource stands to the scope of one app, as its events tell it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Belonging {
    belongs: bool,
    has_account: bool,
}

/// What an event changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    Entered,
    Left,
}

impl Scope {
    /// The change as it is shown.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Entered => "entered",
            Self::Left => "left",
        }
    }
}

impl Belonging {
    /// After an event; says whether the scope was entered or left with it.
    pub(super) fn apply(&mut self, event: &Event) -> Option<Scope> {
        let belongs = match &event.kind {
            Kind::Intended { operation } => match operation.as_str() {
                "deactivate" | "delete" => Some(false),
                "create" | "update" | "adopt" => Some(true),
                _ => None,
            },
            Kind::Done { operation, linked, .. } => {
                let is_found = *linked && !self.has_account && operation != STRANGER;
                self.has_account = *linked;
                is_found.then_some(true)
            }
            // What was held is not wished any more, and there is no account.
            Kind::Released { actor } if actor == RELEASED_BY && !self.has_account => Some(false),
            Kind::ScopeEntered => Some(true),
            Kind::ScopeLeft => Some(false),
            Kind::Retrying { .. }
            | Kind::Refused { .. }
            | Kind::Held { .. }
            | Kind::Released { .. }
            | Kind::Verified
            | Kind::Decided { .. }
            | Kind::PassedOver => None,
        };
        let belongs = belongs.filter(|belongs| *belongs != self.belongs)?;
        self.belongs = belongs;
        Some(if belongs { Scope::Entered } else { Scope::Left })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intended(operation: &str) -> Kind {
        Kind::Intended { operation: operation.to_string() }
    }

    fn done(operation: &str, linked: bool) -> Kind {
        Kind::Done {
            operation: operation.to_string(),
            linked,
            remote_id: String::new(),
            members_added: Vec::new(),
            members_removed: Vec::new(),
            members_replaced: false,
            status: 200,
        }
    }

    #[track_caller]
    fn check(events: &[Kind], expected: &[Option<Scope>]) {
        let mut belonging = Belonging::default();
        let told = events.iter().map(|kind| belonging.apply(&crate::sample::event(kind.clone())));
        assert_eq!(told.collect::<Vec<_>>(), expected);
    }

    const IN: Option<Scope> = Some(Scope::Entered);
    const OUT: Option<Scope> = Some(Scope::Left);

    #[test]
    fn scope_is_entered_with_an_account_and_left_with_its_end() {
        let joins = [intended("create"), done("create", true), intended("update"), done("update", true)];
        check(&joins, &[IN, None, None, None]);
        let leaves =
            [intended("create"), done("create", true), intended("deactivate"), done("deactivate", true)];
        check(&leaves, &[IN, None, OUT, None]);
        let after = [intended("delete"), done("delete", false), intended("create")];
        check(&[&leaves[..], &after].concat(), &[IN, None, OUT, None, None, None, IN]);
        let back = [intended("update"), done("update", true), intended("delete")];
        check(&[&leaves[..], &back].concat(), &[IN, None, OUT, None, IN, None, OUT]);
    }

    #[test]
    fn an_account_that_is_found_is_entered_with_and_one_of_nobody_is_not() {
        check(&[done("import", true), intended("change_members"), intended("delete")], &[IN, None, OUT]);
        check(&[done(STRANGER, true), intended("deactivate"), done("deactivate", true)], &[None, None, None]);
        // The app lost it, and it is made again: nobody left.
        let lost = [done("adopt", true), done("observe", false), intended("create")];
        check(&lost, &[IN, None, None]);
    }

    #[test]
    fn whoever_is_held_without_an_account_leaves_when_it_is_not_wished_any_more() {
        let held = Kind::Held { operation: "create".to_string(), reason: "400".to_string() };
        let released = |actor: &str| Kind::Released { actor: actor.to_string() };
        let refused = [intended("create"), held];
        check(&[&refused[..], &[released(RELEASED_BY)]].concat(), &[IN, None, OUT]);
        check(&[&refused[..], &[released("ann")]].concat(), &[IN, None, None]);
        let linked = [intended("create"), done("create", true), released(RELEASED_BY)];
        check(&linked, &[IN, None, None]);
    }
}
