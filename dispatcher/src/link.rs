//! A link: what we know that an app holds of one resource. A projection of the events on its subject of PROVISIONING.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use proto::ResourceId;
use proto::provisioning::{Details, Event, Kind};
use scim::Object;
use serde_json::Value;

use crate::config::short_hash;
use crate::decided::{ADOPT, Decisions};
use crate::told::Told;
use crate::trust::{OBSERVE, OBSERVE_MEMBERS, STRANGER, Trust, VERIFY};
use crate::unheard::Unheard;

/// An account that was about to be made.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Attempt {
    pub(crate) at: Timestamp,
    /// What the app was told.
    pub(crate) told: Object,
}

/// Our resource and the app's.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Link {
    /// The type of our resource; nothing before the first event. The app's id says whose it is within its type only.
    pub(crate) resource_type: Arc<str>,
    pub(crate) remote_id: Option<String>,
    /// Hash of what we last made the app hold.
    pub(crate) intended: Option<String>,
    /// The same attribute by attribute, where that is known: not from the moment on at which something else was about to
    /// be told.
    pub(crate) told: Option<Told>,
    /// Members that the app holds.
    pub(crate) members: BTreeSet<ResourceId>,
    /// Under which of the app's ids they became members. An account that was lost and made anew is in no group.
    pub(crate) known_as: BTreeMap<ResourceId, String>,
    /// Whether we switched the account off.
    pub(crate) is_off: bool,
    /// A call was about to be made whose outcome nobody wrote down.
    pub(crate) intent_open: bool,
    /// When the app made the account, as long as nothing else was done to it: it may not know it everywhere yet.
    pub(crate) made_at: Option<Timestamp>,
    /// What the app was told when the account was about to be made, as long as nobody knows whether it was: by that it is looked
    /// for.
    pub(crate) attempted: Option<Box<Attempt>>,
    /// Calls that may still be carried out, although nobody listens any more.
    pub(crate) unheard: Unheard,
    /// The app did not know an account that it had made, and since then nothing was done to it but making it anew.
    pub(crate) was_lost: bool,
    /// A person said whose the account is, and nothing was done about it since.
    pub(crate) imported: bool,
    /// The same, and the owner was not there before: as long as he never belonged at the app, it is left alone.
    pub(crate) newborn: bool,
    pub(crate) held: Option<Held>,
    /// What was decided of single attributes.
    pub(crate) decisions: Decisions,
    /// How far the app is believed about it.
    pub(crate) trust: Trust,
    /// Failures since the last success.
    pub(crate) attempts: u32,
    pub(crate) next_due_at: Option<Timestamp>,
    /// Whether what failed would have reduced access. Otherwise whoever leaves does not wait for it.
    pub(crate) failed_to_reduce: bool,
    /// The app did not take what its attributes should have become, and nothing was done since.
    pub(crate) update_failed: bool,
    /// Since when the account is switched off because the app should not hold it.
    pub(crate) deactivated_at: Option<Timestamp>,
    /// When the app's id last became another, or was lost: what of IDENTITY was known then.
    pub(crate) renamed_at: u64,
    /// The event of PROVISIONING that said so.
    pub(crate) renamed_by: u64,
    /// The last sequence on its subject: the guard of the next event.
    pub(crate) last: u64,
}

/// Why a resource waits for a person.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// The call.
    pub(crate) operation: String,
    pub(crate) reason: String,
    pub(crate) since: Timestamp,
    /// What was wished when it was held.
    pub(crate) wish: String,
    pub(crate) configuration_hash: String,
}

impl Held {
    /// Whether it is held for this.
    pub(crate) fn is_for(&self, operation: &str, reason: &str) -> bool {
        self.operation == operation && self.reason == reason
    }
}

/// Who releases what was held and is not wished any more.
pub(crate) const RELEASED_BY: &str = "plan";

/// The operation of an event that makes an account ours that was there before, because a person asked for it: nothing was
/// called, and the next plan makes it equal. Of what has members it does not say who they are.
pub(crate) const IMPORT: &str = "import";
/// The same for somebody who is about to be made in the directory because of the account.
pub(crate) const IMPORT_NEW: &str = "import_new";

/// The operation of an event that says: the app did not know an account by its id, and no search finds it.
pub(crate) const LOST: &str = "lost";

/// The operation of an event about setting attributes.
const UPDATE: &str = "update";

/// Whether an account with these attributes is switched off.
pub(crate) fn is_off(attributes: &Object) -> bool {
    attributes.get("active") == Some(&Value::Bool(false))
}

fn intended(attributes: &Object) -> String {
    short_hash(Value::Object(attributes.clone()).to_string().as_bytes())
}

impl Link {
    /// The link after an event.
    pub(crate) fn apply(
        &mut self,
        event: &Event,
        details: Option<&Details>,
        remote_id_of: impl Fn(ResourceId) -> Option<String>,
    ) {
        self.trust.apply(event, details, self.remote_id.as_deref(), &self.known_as);
        self.decisions.apply(event, details);
        self.unheard.apply(event);
        match &event.kind {
            Kind::Intended { operation } => {
                self.intent_open = true;
                if operation != "change_members" {
                    self.told = None;
                }
                if operation == "create" {
                    let told = details.map(|details| details.intended.clone());
                    let told = told.filter(|told| !told.is_empty());
                    self.attempted = told.map(|told| Box::new(Attempt { at: event.occurred_at, told }));
                }
            }
            Kind::Done {
                operation,
                linked,
                remote_id,
                members_added,
                members_removed,
                members_replaced,
                ..
            } => {
                // Reading the app is no success of what failed before.
                let read = matches!(
                    operation.as_str(),
                    "read_back" | LOST | "adopt" | IMPORT | IMPORT_NEW | OBSERVE | OBSERVE_MEMBERS | STRANGER
                );
                let attempts = if read { self.attempts } else { 0 };
                let trust = std::mem::take(&mut self.trust);
                let decisions = std::mem::take(&mut self.decisions);
                let (renamed_at, renamed_by) = (self.renamed_at, self.renamed_by);
                let resource_type = self.resource_type.clone();
                let unheard = std::mem::take(&mut self.unheard);
                let was_lost = operation == LOST || (self.was_lost && (read || operation == "create"));
                let update_failed = self.update_failed && read;
                let kept =
                    Self { last: self.last, renamed_at, renamed_by, trust, decisions, ..Self::default() };
                let settled = Self { resource_type, attempts, unheard, was_lost, update_failed, ..kept };
                let before = std::mem::replace(self, settled);
                if !linked {
                    return;
                }
                self.remote_id = Some(remote_id.clone());
                self.made_at = (operation == "create").then_some(event.occurred_at);
                // Who else is in it is not known: it is read and set before anything else.
                self.newborn = operation == IMPORT_NEW;
                self.imported = self.newborn || operation == IMPORT;
                self.intent_open = self.imported && !members_replaced;
                self.is_off = match (operation.as_str(), details) {
                    ("adopt" | IMPORT | IMPORT_NEW, _) => false,
                    ("deactivate", _) => true,
                    ("change_members", _) | (_, None) => before.is_off,
                    (_, Some(details)) => is_off(&details.intended),
                };
                if !*members_replaced {
                    (self.members, self.known_as) = (before.members, before.known_as);
                }
                for id in members_added {
                    self.members.insert(*id);
                    match remote_id_of(*id) {
                        Some(remote_id) => drop(self.known_as.insert(*id, remote_id)),
                        None => drop(self.known_as.remove(id)),
                    }
                }
                self.deactivated_at = match operation.as_str() {
                    "deactivate" => Some(event.occurred_at),
                    "change_members" | OBSERVE_MEMBERS => before.deactivated_at,
                    _ => None,
                };
                for id in members_removed {
                    self.members.remove(id);
                    self.known_as.remove(id);
                }
                self.told = match (operation.as_str(), details) {
                    ("change_members" | OBSERVE_MEMBERS, _) => before.told,
                    ("create" | "update", Some(details)) => Some(Told::of(&details.intended)),
                    (_, _) => None,
                };
                self.intended = match (operation.as_str(), details) {
                    ("adopt" | IMPORT | IMPORT_NEW | OBSERVE | STRANGER, _) => None,
                    ("change_members" | OBSERVE_MEMBERS, _) => before.intended,
                    ("deactivate", _) => Some(crate::plan::DEACTIVATED.to_string()),
                    (_, Some(details)) => Some(intended(&details.intended)),
                    (_, None) => None,
                };
            }
            Kind::Retrying { operation, attempt, after_ms, .. } => {
                self.attempts = *attempt;
                self.update_failed |= operation == UPDATE;
                self.failed_to_reduce =
                    matches!(operation.as_str(), "deactivate" | "delete" | "change_members" | VERIFY);
                let after = SignedDuration::from_millis(i64::try_from(*after_ms).unwrap_or(i64::MAX));
                self.next_due_at = event.occurred_at.checked_add(after).ok();
            }
            Kind::Refused { operation, status, .. } => {
                self.intent_open = false;
                self.attempted = None;
                self.update_failed |= operation == UPDATE && !matches!(status, 401 | 429);
            }
            Kind::Held { operation, reason } => {
                // Whether there is an account stays unknown until a person looked: nobody leaves without that, or is made twice.
                self.intent_open &= self.remote_id.is_none();
                self.attempts = 0;
                self.next_due_at = None;
                let before = self.held.as_ref().filter(|held| held.is_for(operation, reason));
                let since = before.map_or(event.occurred_at, |held| held.since);
                self.held = Some(Held {
                    operation: operation.clone(),
                    reason: reason.clone(),
                    since,
                    wish: details.map(|details| details.detail.clone()).unwrap_or_default(),
                    configuration_hash: event.configuration_hash.clone(),
                });
            }
            Kind::Released { actor } => {
                self.intent_open &= actor == RELEASED_BY;
                if !self.intent_open {
                    self.attempted = None;
                }
                self.held = None;
                self.next_due_at = None;
            }
            Kind::Verified => (self.attempts, self.next_due_at) = (0, None),
            // The app holds already what is intended from now on.
            Kind::Decided { operation, .. } if operation == ADOPT && self.intended.is_some() => {
                if let Some(details) = details {
                    self.intended = Some(intended(&details.intended));
                    self.told = Some(Told::of(&details.intended));
                }
            }
            Kind::Decided { .. } | Kind::ScopeEntered | Kind::ScopeLeft | Kind::PassedOver => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::event;

    fn done(operation: &str) -> Event {
        event(crate::sample::done(operation))
    }

    #[test]
    fn whoever_is_imported_is_made_equal_and_what_has_members_is_read_first() {
        let imported = |members_replaced| {
            let mut link = Link::default();
            let mut event = done(IMPORT);
            if let Kind::Done { members_replaced: replaced, .. } = &mut event.kind {
                *replaced = members_replaced;
            }
            link.apply(&event, None, |_| None);
            (link.remote_id, link.intended, link.is_off, link.intent_open)
        };
        assert_eq!(imported(true), (Some("r".to_string()), None, false, false));
        assert_eq!(imported(false), (Some("r".to_string()), None, false, true));
    }

    #[test]
    fn an_account_that_is_lost_is_known_as_such_until_something_was_done_to_it() {
        let lost = |events: &[&str]| {
            let mut link = Link::default();
            link.apply(&done("create"), None, |_| None);
            events.iter().for_each(|operation| link.apply(&done(operation), None, |_| None));
            link.was_lost
        };
        assert!(!lost(&[]) && lost(&[LOST]) && lost(&[LOST, "create"]) && lost(&[LOST, "adopt"]));
        assert!(!lost(&[LOST, "create", "update"]) && !lost(&[LOST, "create", "change_members"]));
    }

    #[test]
    fn whether_there_is_an_account_is_unknown_until_a_person_looked() {
        let intended = event(Kind::Intended { operation: "create".to_string() });
        let held = event(Kind::Held { operation: "create".to_string(), reason: String::new() });
        let released = |actor: &str| event(Kind::Released { actor: actor.to_string() });
        let is_unknown = |events: &[Event]| {
            let mut link = Link::default();
            events.iter().for_each(|event| link.apply(event, None, |_| None));
            link.intent_open
        };
        let unknown = [intended.clone(), held.clone()];
        assert!(is_unknown(&unknown) && is_unknown(&[&unknown[..], &[released(RELEASED_BY)]].concat()));
        assert!(!is_unknown(&[&unknown[..], &[released("ann")]].concat()));
        let refused =
            event(Kind::Refused { operation: "create".to_string(), status: 409, error: String::new() });
        assert!(!is_unknown(&[intended.clone(), refused, held.clone()]));
        assert!(!is_unknown(&[done("create"), intended, held]), "it has one");
    }

    #[test]
    fn whoever_is_held_again_for_the_same_is_held_since_the_first_time() {
        let held = |reason: &str, second| {
            let (operation, reason) = ("create".to_string(), reason.to_string());
            let occurred_at = Timestamp::from_second(second).unwrap();
            Event { occurred_at, ..event(Kind::Held { operation, reason }) }
        };
        let refused = Kind::Refused { operation: "create".to_string(), status: 400, error: String::new() };
        let since = |events: &[Event]| {
            let mut link = Link::default();
            events.iter().for_each(|event| link.apply(event, None, |_| None));
            link.held.map(|held| held.since.as_second())
        };
        assert_eq!(since(&[held("400", 1), event(refused), held("400", 2)]), Some(1));
        assert_eq!(since(&[held("400", 1), held("409", 2)]), Some(2));
        assert_eq!(since(&[held("400", 1), done("create"), held("400", 3)]), Some(3));
    }

    #[test]
    fn an_account_is_new_until_something_else_was_done_to_it() {
        let made_at = |operations: &[&str]| {
            let mut link = Link::default();
            operations.iter().for_each(|operation| link.apply(&done(operation), None, |_| None));
            link.made_at
        };
        assert_eq!(made_at(&["create"]), Some(Timestamp::UNIX_EPOCH));
        assert_eq!((made_at(&["adopt"]), made_at(&["create", "update"])), (None, None));
        let refused = Kind::Refused { operation: "delete".to_string(), status: 404, error: String::new() };
        let mut link = Link::default();
        link.apply(&done("create"), None, |_| None);
        link.apply(&event(refused), None, |_| None);
        assert!(link.made_at.is_some(), "it may yet appear");
    }

    #[test]
    fn under_which_name_somebody_was_about_to_be_made_is_known_until_the_outcome_is() {
        let intended = serde_json::json!({"userName": "ada"}).as_object().unwrap().clone();
        let details = Details { intended: intended.clone(), ..Details::default() };
        let attempted = |events: &[Event]| {
            let mut link = Link::default();
            let intent = event(Kind::Intended { operation: "create".to_string() });
            link.apply(&intent, Some(&details), |_| None);
            events.iter().for_each(|event| link.apply(event, None, |_| None));
            link.attempted.map(|attempted| attempted.told)
        };
        let held = event(Kind::Held { operation: "create".to_string(), reason: String::new() });
        let released = |actor: &str| event(Kind::Released { actor: actor.to_string() });
        let adopting = event(Kind::Intended { operation: "adopt".to_string() });
        assert_eq!(attempted(&[adopting]), Some(intended.clone()));
        assert_eq!(attempted(&[held.clone(), released(RELEASED_BY)]), Some(intended));
        assert_eq!(attempted(&[held, released("ann")]), None);
        for operation in ["create", "read_back", "adopt"] {
            assert_eq!(attempted(&[done(operation)]), None, "{operation}");
        }
        // Of somebody who was erased nothing can be read.
        assert_eq!(attempted(&[event(Kind::Intended { operation: "create".to_string() })]), None);
    }

    #[test]
    fn an_update_that_failed_is_known_until_something_else_was_done() {
        let after = |events: &[Event]| {
            let mut link = Link::default();
            events.iter().for_each(|event| link.apply(event, None, |_| None));
            link.update_failed
        };
        let refused = |operation: &str, status| {
            let operation = operation.to_string();
            event(Kind::Refused { operation, status, error: String::new() })
        };
        let retrying = Kind::Retrying {
            operation: "update".to_string(),
            attempt: 1,
            after_ms: 500,
            error: String::new(),
        };
        assert!(after(&[refused("update", 400)]) && after(&[event(retrying.clone()), done("adopt")]));
        assert!(!after(&[refused("update", 429)]) && !after(&[refused("create", 400)]));
        assert!(!after(&[event(retrying), done("deactivate")]));
    }

    #[test]
    fn what_was_told_is_known_until_something_else_is_about_to_be_told_or_was_seen() {
        let intended = serde_json::json!({"userName": "ada", "title": "Dr"}).as_object().unwrap().clone();
        let told = Some(Told::of(&intended));
        let details = Details { intended, ..Details::default() };
        let after = |events: &[Event]| {
            let mut link = Link::default();
            link.apply(&done("create"), Some(&details), |_| None);
            assert_eq!(link.told, told);
            for event in events {
                link.apply(event, None, |_| None);
            }
            link.told
        };
        let intent = |operation: &str| event(Kind::Intended { operation: operation.to_string() });
        for operation in ["adopt", "observe", "stranger", "read_back", "deactivate"] {
            assert_eq!(after(&[done(operation)]), None, "{operation}");
        }
        for events in [vec![done("change_members")], vec![done("observe_members")]] {
            assert_eq!(after(&events), told);
        }
        assert_eq!(after(&[intent("change_members"), done("change_members")]), told);
        // Nobody knows how much of it the app did before it refused the rest.
        let error = "400".to_string();
        let refused = event(Kind::Refused { operation: "update".to_string(), status: 400, error });
        assert_eq!(after(&[intent("update")]), None);
        assert_eq!(after(&[intent("update"), refused]), None);
    }
}
