//! What an app said is done and nobody has read back yet, and what it was seen to hold otherwise. Part of a link, and like
//! it a projection of PROVISIONING: `Done` of a reduction of access without a `Verified` after it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use proto::ResourceId;
use proto::provisioning::{Details, Event, Kind};
use serde_json::Value;

use crate::link::LOST;

/// The operation of an event that says: the app was read, and this is what it holds. What was intended is not known to be
/// there, so the next plan writes it again.
pub(crate) const OBSERVE: &str = "observe";
/// The same of a group's members alone.
pub(crate) const OBSERVE_MEMBERS: &str = "observe_members";

/// The operation of an event that takes charge of an account that nobody of ours owns.
pub(crate) const STRANGER: &str = "stranger";

/// The reading of access that should have ended, as it is named when it fails.
pub(crate) const VERIFY: &str = "verify";

/// How far an app is believed about one resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trust {
    /// The reduction of access that must be seen to be true.
    pub(crate) unverified: Option<Unverified>,
    /// How often in a row the app said that it was done and it was not.
    pub(crate) belied: u32,
    /// The app was seen to hold something else, and nothing was done about it since.
    pub(crate) observed: bool,
    /// It could not be read so often that a person must look at it.
    pub(crate) unreadable: bool,
    /// The account was the app's own, and nobody of ours has it.
    pub(crate) stranger: bool,
    /// The last intended state was a switched-off account.
    inactive: bool,
}

/// Access that the app says has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unverified {
    /// The call.
    pub(crate) operation: String,
    /// The app's id of the account or group.
    pub(crate) remote_id: String,
    /// Whether the account itself is to be gone or off.
    pub(crate) account: bool,
    /// Who was taken out of the group, by the app's id.
    pub(crate) members: BTreeMap<ResourceId, String>,
    /// When the app first said so.
    pub(crate) since: Timestamp,
}

impl Trust {
    /// After an event. `remote_id` and `known_as` are the link's before it.
    pub(crate) fn apply(
        &mut self,
        event: &Event,
        details: Option<&Details>,
        remote_id: Option<&str>,
        known_as: &BTreeMap<ResourceId, String>,
    ) {
        match &event.kind {
            Kind::Done { operation, linked, remote_id: theirs, members_removed, .. } => {
                self.observed = operation.starts_with(OBSERVE);
                self.unreadable = false;
                match operation.as_str() {
                    OBSERVE | OBSERVE_MEMBERS => {
                        self.inactive &= operation == OBSERVE_MEMBERS;
                        self.belied += u32::from(self.unverified.take().is_some());
                    }
                    STRANGER => (self.stranger, self.observed) = (true, true),
                    // Nothing of ours is found. What was linked is gone, if the app says the same of its own id.
                    "read_back" | LOST => match remote_id {
                        Some(remote_id) => self.ends(operation, remote_id, event.occurred_at),
                        None => self.unverified = None,
                    },
                    "delete" | "deactivate" => {
                        self.inactive = true;
                        self.ends(operation, remote_id.unwrap_or(theirs), event.occurred_at);
                    }
                    _ if !linked => {
                        self.unverified = None;
                        self.inactive = false;
                    }
                    "change_members" => {
                        let removed = (members_removed.as_slice(), event.occurred_at);
                        self.leave(operation, theirs, removed, known_as);
                    }
                    _ => self.intend(operation, theirs, details, event.occurred_at),
                }
            }
            Kind::Verified => (self.unverified, self.belied, self.unreadable) = (None, 0, false),
            Kind::Held { operation, .. } => (self.belied, self.unreadable) = (0, operation == VERIFY),
            Kind::Released { .. } => (self.belied, self.unreadable) = (0, false),
            Kind::Intended { .. }
            | Kind::Retrying { .. }
            | Kind::Refused { .. }
            | Kind::ScopeEntered
            | Kind::ScopeLeft
            | Kind::Decided { .. }
            | Kind::PassedOver => {}
        }
    }

    /// Attributes were set. An account that is switched off by them has lost its access; one that is made so never had any.
    fn intend(&mut self, operation: &str, remote_id: &str, details: Option<&Details>, at: Timestamp) {
        let Some(details) = details else { return };
        let inactive = details.intended.get("active") == Some(&Value::Bool(false));
        if inactive && !self.inactive && operation != "create" {
            self.ends(operation, remote_id, at);
        }
        self.inactive = inactive;
    }

    fn ends(&mut self, operation: &str, remote_id: &str, at: Timestamp) {
        let unverified =
            self.unverified.get_or_insert_with(|| Unverified { since: at, ..Unverified::default() });
        unverified.operation = operation.to_string();
        unverified.remote_id = remote_id.to_string();
        unverified.account = true;
    }

    fn leave(
        &mut self,
        operation: &str,
        remote_id: &str,
        (removed, at): (&[ResourceId], Timestamp),
        known_as: &BTreeMap<ResourceId, String>,
    ) {
        let removed = removed.iter().filter_map(|id| Some((*id, known_as.get(id)?.clone())));
        let removed: BTreeMap<ResourceId, String> = removed.collect();
        if removed.is_empty() {
            return;
        }
        let unverified =
            self.unverified.get_or_insert_with(|| Unverified { since: at, ..Unverified::default() });
        unverified.operation = operation.to_string();
        unverified.remote_id = remote_id.to_string();
        unverified.members.extend(removed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn id(number: u8) -> ResourceId {
        format!("01890a5d-ac96-774b-bcce-b302099a80{number:02x}").parse().unwrap()
    }

    fn event(kind: Kind) -> Event {
        Event { resource_id: id(1), ..crate::sample::event(kind) }
    }

    fn done(operation: &str, linked: bool, removed: &[u8]) -> Event {
        event(Kind::Done {
            operation: operation.to_string(),
            linked,
            remote_id: if linked { "r".to_string() } else { String::new() },
            members_added: Vec::new(),
            members_removed: removed.iter().map(|number| id(*number)).collect(),
            members_replaced: false,
            status: 200,
        })
    }

    /// The trust after these events, each with what it intended to be `active`.
    fn after(events: &[(Event, Option<bool>)]) -> Trust {
        let mut trust = Trust::default();
        let known_as = BTreeMap::from([(id(7), "r7".to_string())]);
        for (event, active) in events {
            let intended = |active: &bool| json!({"active": active}).as_object().unwrap().clone();
            let details =
                active.as_ref().map(|active| Details { intended: intended(active), ..Details::default() });
            trust.apply(event, details.as_ref(), Some("r"), &known_as);
        }
        trust
    }

    #[test]
    fn what_ends_access_waits_to_be_seen() {
        let ends = |events: &[(Event, Option<bool>)]| after(events).unverified.map(|found| found.account);
        let on = (done("update", true, &[]), Some(true));
        let off = (done("update", true, &[]), Some(false));
        assert_eq!(ends(std::slice::from_ref(&on)), None);
        assert_eq!(ends(&[on.clone(), off.clone()]), Some(true));
        assert_eq!(ends(&[(done("deactivate", true, &[]), None)]), Some(true));
        assert_eq!(ends(&[(done("delete", false, &[]), None)]), Some(true));
        // It never had access, or lost it before.
        assert_eq!(ends(&[(done("create", true, &[]), Some(false))]), None);
        let seen = (event(Kind::Verified), None);
        assert_eq!(ends(&[on.clone(), off.clone(), seen.clone()]), None);
        assert_eq!(ends(&[on.clone(), off.clone(), seen, off.clone()]), None);
        // It goes on waiting while other things are done, and is forgotten when the app has nothing.
        assert_eq!(ends(&[off.clone(), on.clone()]), Some(true));
        assert_eq!(ends(&[on, off, (done("update", false, &[]), None)]), None);
    }

    /// Whether the call that ended it was done is not known, so that nobody wrote it down.
    #[test]
    fn what_was_linked_and_is_not_found_waits_to_be_seen() {
        let found_none = (done("read_back", false, &[]), None);
        let unverified = after(std::slice::from_ref(&found_none)).unverified.unwrap();
        assert_eq!((unverified.account, unverified.remote_id.as_str()), (true, "r"));
        let mut never = Trust::default();
        never.apply(&found_none.0, None, None, &BTreeMap::new());
        assert_eq!(never.unverified, None);
    }

    #[test]
    fn a_deleted_account_is_looked_for_under_the_id_that_it_had() {
        let unverified = after(&[(done("delete", false, &[]), None)]).unverified.unwrap();
        assert_eq!(unverified.remote_id, "r");
    }

    #[test]
    fn who_left_a_group_waits_to_be_seen_under_the_id_that_the_app_knew() {
        let unverified = after(&[(done("change_members", true, &[7, 8]), None)]).unverified.unwrap();
        assert!(!unverified.account);
        assert_eq!(unverified.members, BTreeMap::from([(id(7), "r7".to_string())]));
        assert_eq!(after(&[(done("change_members", true, &[]), None)]).unverified, None);
    }

    #[test]
    fn an_app_that_is_belied_again_and_again_is_counted() {
        let off = (done("deactivate", true, &[]), None);
        let observed = (done(OBSERVE, true, &[]), None);
        let trust = after(&[off.clone(), observed.clone(), off.clone(), observed.clone()]);
        assert_eq!((trust.belied, trust.observed, trust.unverified), (2, true, None));
        assert_eq!(after(&[off.clone(), observed.clone(), (event(Kind::Verified), None)]).belied, 0);
        assert!(!after(&[observed.clone(), off]).observed);
        // Told again, it must be seen again.
        let off = (done("update", true, &[]), Some(false));
        assert!(after(&[off.clone(), observed, off]).unverified.is_some());
    }
}
