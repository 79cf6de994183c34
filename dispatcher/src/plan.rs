//! From what an app should hold and what we know it holds to the calls that make them equal. Pure: time is an input.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use proto::ResourceId;
use scim::Object;

use crate::config::Leave;
use crate::desired::Desired;
use crate::link::{Link, is_off};

/// One call to the app.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Call {
    /// Make the account. Not idempotent.
    Create {
        attributes: Object,
        /// Said now and never again.
        once: Object,
    },
    /// Set the attributes.
    Update { remote_id: String, attributes: Object },
    /// Switch the account off.
    Deactivate { remote_id: String },
    /// Remove the account.
    Delete { remote_id: String },
    /// Change a group's members.
    ChangeMembers { remote_id: String, added: BTreeSet<ResourceId>, removed: BTreeSet<ResourceId> },
}

impl Call {
    /// The operation's name in events, logs and metrics.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Create { .. } => "create",
            Self::Update { .. } => "update",
            Self::Deactivate { .. } => "deactivate",
            Self::Delete { .. } => "delete",
            Self::ChangeMembers { .. } => "change_members",
        }
    }
}

/// The next call and why, or when to look again.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Plan {
    /// The app holds what it should, until this time.
    Settled { next: Option<Next> },
    /// Nobody knows whether the last call was made: read the app first.
    ReadBack,
    /// This is to be done; afterwards the plan is made again.
    Call { call: Call, why: &'static str },
    /// Not before this time.
    Later { due_at: Timestamp },
    /// A person must look at it first.
    Held,
    /// A person must look at it from now on.
    Hold { why: &'static str },
}

/// When a plan changes without an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Next {
    pub(crate) at: Timestamp,
    /// Whether access may be reduced then.
    pub(crate) urgent: bool,
}

/// The earlier of two.
pub(crate) fn earlier(one: Option<Next>, other: Option<Next>) -> Option<Next> {
    match (one, other) {
        (Some(one), Some(other)) => Some(if other.at < one.at { other } else { one }),
        (one, other) => one.or(other),
    }
}

/// How a resource that the app should not hold is taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leaving {
    /// What to do.
    pub(crate) away: Away,
    /// When an account that is switched off is deleted.
    pub(crate) delete_after: Option<SignedDuration>,
    /// Why.
    pub(crate) why: &'static str,
}

/// What is done with what the app should not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Away {
    /// An account is switched off, a group emptied.
    Deactivate,
    /// It is deleted.
    Delete,
    /// Nobody knows whether the app should hold it: a person must look.
    Unclear,
}

impl Leaving {
    /// What a policy means for a type. What cannot be switched off is deleted, unless there is a time to wait for.
    pub(crate) fn of(
        policy: Leave,
        grace: Option<SignedDuration>,
        can_be_switched_off: bool,
        why: &'static str,
    ) -> Self {
        let (away, delete_after) = match (policy, grace) {
            (Leave::Never, _) => (Away::Deactivate, None),
            (Leave::Delete | Leave::Deactivate, Some(grace)) => (Away::Deactivate, Some(grace)),
            (Leave::Delete, None) => (Away::Delete, None),
            (Leave::Deactivate, None) if can_be_switched_off => (Away::Deactivate, None),
            (Leave::Deactivate, None) => (Away::Delete, None),
        };
        Self { away, delete_after, why }
    }

    /// Nobody knows, for this reason.
    pub(crate) fn unclear(why: &'static str) -> Self {
        Self { away: Away::Unclear, delete_after: None, why }
    }
}

/// The plan for one resource and one app.
pub(crate) fn plan(
    desired: Result<&Desired, Leaving>,
    link: &Link,
    configuration_hash: &str,
    now: Timestamp,
) -> Plan {
    let wish = wish(desired);
    if let Some(held) = &link.held
        && held.wish == wish
        && held.configuration_hash == configuration_hash
    {
        return Plan::Held;
    }
    // Whoever leaves does not wait because something else failed.
    let waits = desired.is_ok() || link.failed_to_reduce;
    if let Some(due_at) = link.next_due_at.filter(|due_at| waits && *due_at > now) {
        return Plan::Later { due_at };
    }
    if link.intent_open {
        return Plan::ReadBack;
    }
    match desired {
        Ok(desired) => towards(desired, link),
        Err(leaving) => away(leaving, link, now),
    }
}

/// By this, a held resource's circumstances are the same as when it was held.
pub(crate) fn wish(desired: Result<&Desired, Leaving>) -> String {
    match desired {
        Ok(desired) => {
            let members: Vec<String> = desired.members.iter().map(ToString::to_string).collect();
            crate::config::short_hash(format!("{} {}", desired.hash(), members.join(" ")).as_bytes())
        }
        Err(leaving) => format!("{:?}", leaving.away),
    }
}

fn towards(desired: &Desired, link: &Link) -> Plan {
    let attributes = desired.attributes.clone();
    let Some(remote_id) = link.remote_id.clone() else {
        let once = desired.once.clone();
        return Plan::Call { call: Call::Create { attributes, once }, why: "missing at the app" };
    };
    // Whoever lost access loses it before anything else changes.
    let removed: BTreeSet<ResourceId> = link.members.difference(&desired.members).copied().collect();
    if !removed.is_empty() {
        let call = Call::ChangeMembers { remote_id, added: BTreeSet::new(), removed };
        return Plan::Call { call, why: "members left" };
    }
    // Nothing else that the app does not take keeps anybody his access.
    if is_off(&attributes) && !link.is_off && link.update_failed {
        return Plan::Call { call: Call::Deactivate { remote_id }, why: "inactive" };
    }
    if link.intended.as_deref() != Some(desired.hash().as_str()) {
        return Plan::Call { call: Call::Update { remote_id, attributes }, why: "attributes differ" };
    }
    let added: BTreeSet<ResourceId> = desired.members.difference(&link.members).copied().collect();
    if !added.is_empty() {
        let call = Call::ChangeMembers { remote_id, added, removed: BTreeSet::new() };
        return Plan::Call { call, why: "members joined" };
    }
    Plan::Settled { next: None }
}

/// What a deactivated account's link remembers as intended.
pub(crate) const DEACTIVATED: &str = "deactivated";

fn away(leaving: Leaving, link: &Link, now: Timestamp) -> Plan {
    let Leaving { away, delete_after, why } = leaving;
    if away == Away::Unclear {
        return Plan::Hold { why };
    }
    let Some(remote_id) = link.remote_id.clone() else { return Plan::Settled { next: None } };
    if away == Away::Delete {
        return Plan::Call { call: Call::Delete { remote_id }, why };
    }
    if !link.members.is_empty() {
        let (added, removed) = (BTreeSet::new(), link.members.clone());
        return Plan::Call { call: Call::ChangeMembers { remote_id, added, removed }, why };
    }
    if link.intended.as_deref() != Some(DEACTIVATED) {
        return Plan::Call { call: Call::Deactivate { remote_id }, why };
    }
    let since = link.deactivated_at.unwrap_or(now);
    match delete_after.map(|grace| since.checked_add(grace).unwrap_or(Timestamp::MAX)) {
        None => Plan::Settled { next: None },
        Some(at) if at > now => Plan::Settled { next: Some(Next { at, urgent: true }) },
        Some(_) => Plan::Call { call: Call::Delete { remote_id }, why: "switched off long enough" },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::Held;
    use serde_json::json;

    const LEAVING: Leaving = Leaving { away: Away::Delete, delete_after: None, why: "deleted" };
    const SETTLED: &str = "Settled { next: None }";

    fn id(number: u8) -> ResourceId {
        format!("01890a5d-ac96-774b-bcce-b302099a80{number:02x}").parse().unwrap()
    }

    fn desired(members: &[u8]) -> Desired {
        let attributes = json!({"displayName": "Team"}).as_object().unwrap().clone();
        Desired {
            attributes,
            once: Object::new(),
            partial: false,
            members: members.iter().map(|number| id(*number)).collect(),
        }
    }

    fn linked(members: &[u8]) -> Link {
        Link {
            remote_id: Some("r".to_string()),
            intended: Some(desired(&[]).hash()),
            members: members.iter().map(|number| id(*number)).collect(),
            ..Link::default()
        }
    }

    #[track_caller]
    fn check(desired: Result<&Desired, Leaving>, link: &Link, expected: &str) {
        let found = match plan(desired, link, "hash", Timestamp::UNIX_EPOCH) {
            Plan::Call { call, why } => format!("{}: {why}", call.name()),
            other => format!("{other:?}"),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_missing_is_created_and_what_is_equal_is_left_alone() {
        check(Ok(&desired(&[])), &Link::default(), "create: missing at the app");
        check(Ok(&desired(&[1])), &linked(&[1]), SETTLED);
        check(Ok(&desired(&[])), &Link { intended: None, ..linked(&[]) }, "update: attributes differ");
    }

    #[test]
    fn leavers_come_first() {
        check(Ok(&desired(&[2])), &Link { intended: None, ..linked(&[1]) }, "change_members: members left");
        check(Ok(&desired(&[2])), &linked(&[]), "change_members: members joined");
        check(Err(LEAVING), &linked(&[]), "delete: deleted");
        check(Err(LEAVING), &Link::default(), SETTLED);
        let deactivate = Leaving { away: Away::Deactivate, ..LEAVING };
        check(Err(deactivate), &linked(&[]), "deactivate: deleted");
        check(Err(deactivate), &Link { intended: Some(DEACTIVATED.to_string()), ..linked(&[]) }, SETTLED);
    }

    #[test]
    fn whoever_is_switched_off_does_not_wait_for_what_the_app_does_not_take() {
        let mut off = desired(&[]);
        off.attributes.insert("active".to_string(), json!(false));
        check(Ok(&off), &linked(&[]), "update: attributes differ");
        let failed = Link { update_failed: true, ..linked(&[]) };
        check(Ok(&off), &failed, "deactivate: inactive");
        check(Ok(&off), &Link { is_off: true, ..failed.clone() }, "update: attributes differ");
        check(Ok(&desired(&[])), &Link { intended: None, ..failed }, "update: attributes differ");
    }

    #[test]
    fn an_open_intent_is_read_back_before_anything_else() {
        check(Ok(&desired(&[])), &Link { intent_open: true, ..Link::default() }, "ReadBack");
        check(Err(LEAVING), &Link { intent_open: true, ..Link::default() }, "ReadBack");
    }

    #[test]
    fn what_is_held_waits_until_something_changes() {
        let wish = wish(Ok(&desired(&[])));
        let held = Held { wish, configuration_hash: "hash".to_string(), ..Held::default() };
        let link = Link { held: Some(held.clone()), ..Link::default() };
        check(Ok(&desired(&[])), &link, "Held");
        check(Ok(&desired(&[1])), &link, "create: missing at the app");
        let link = Link { held: Some(Held { configuration_hash: "other".to_string(), ..held }), ..link };
        check(Ok(&desired(&[])), &link, "create: missing at the app");
    }

    #[test]
    fn a_retry_waits_for_its_time() {
        let due_at: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
        let link = Link { next_due_at: Some(due_at), ..Link::default() };
        check(Err(LEAVING), &Link { next_due_at: Some(due_at), ..linked(&[]) }, "delete: deleted");
        check(Ok(&desired(&[])), &link, &format!("{:?}", Plan::Later { due_at }));
    }

    #[test]
    fn an_account_is_switched_off_at_once_and_deleted_after_its_grace() {
        let days = |days: i64| SignedDuration::from_hours(24 * days);
        let grace = Some(days(30));
        let leaving = Leaving::of(Leave::Delete, grace, true, "gone");
        check(Err(leaving), &linked(&[]), "deactivate: gone");
        check(Err(leaving), &linked(&[1]), "change_members: gone");
        let off = |ago: i64| Link {
            intended: Some(DEACTIVATED.to_string()),
            deactivated_at: Timestamp::UNIX_EPOCH.checked_sub(days(ago)).ok(),
            ..linked(&[])
        };
        check(Err(leaving), &off(30), "delete: switched off long enough");
        let next = Next { at: "1970-01-02T00:00:00Z".parse().unwrap(), urgent: true };
        check(Err(leaving), &off(29), &format!("{:?}", Plan::Settled { next: Some(next) }));
        check(Err(Leaving::of(Leave::Never, None, false, "gone")), &off(900), SETTLED);
        check(Err(Leaving::of(Leave::Deactivate, None, true, "gone")), &off(900), SETTLED);
        check(Err(Leaving::of(Leave::Deactivate, None, false, "gone")), &linked(&[]), "delete: gone");
        check(Ok(&desired(&[])), &off(29), "update: attributes differ");
        check(Err(Leaving::unclear("why")), &off(1), "Hold { why: \"why\" }");
    }

    #[test]
    fn of_two_times_the_earlier_counts() {
        let at = |text: &str| Some(Next { at: text.parse().unwrap(), urgent: false });
        let (one, other) = (at("2026-01-01T00:00:00Z"), at("2026-01-02T00:00:00Z"));
        assert_eq!((earlier(one, other), earlier(other, one)), (one, one));
        assert_eq!((earlier(one, None), earlier(None, None)), (one, None));
    }
}
