//! Reading back: an app that says that access has ended is believed when it shows it.
//!
//! One that only says so is told again, a few times, and then a person must look at it. What an app cannot show stays
//! unverified, and no event says otherwise.

use jiff::{SignedDuration, Timestamp};
use proto::ResourceId;
use proto::provisioning::Kind;
use serde_json::Value;

use super::look::Now;
use super::perform::{Ended, Performer, has};
use super::rollout::BELIED;
use crate::Error;
use crate::connector::{Account, Read};
use crate::desired::Desired;
use crate::drift::is_inactive;
use crate::link::{Link, is_off};
use crate::plan::{Away, Call, Plan};
use crate::trust::{OBSERVE, OBSERVE_MEMBERS, Unverified, VERIFY};
use eventlog::clock;

/// How often an app is told, and read, before it is held that it only says so.
const READS_MAX: u32 = 3;
/// How long an app that was belied has until it is told again; it doubles. Some show a change only after a while.
const AGAIN_MIN_MS: i64 = 500;

/// How a reading ends.
pub(super) enum Step {
    /// Nothing is in the way of the plan.
    Plan,
    /// Something was written down: plan again.
    Again,
    /// This resource ends here.
    Ended(Ended),
}

/// What an app shows of access that should have ended.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// It has ended.
    Ended,
    /// It has not.
    Remains {
        /// The account is there and not switched off.
        account: bool,
        /// These are still members.
        members: Vec<ResourceId>,
    },
    /// The app does not show it.
    Untold,
}

impl Performer {
    /// Reads the app before the plan goes on, where it must be read: access that should have ended, or a wish of the
    /// reconciliation. Access is looked at before anything but a further reduction, because somebody waits for it.
    pub(super) async fn believe(
        &self,
        id: ResourceId,
        now: &Now,
        link: &Link,
        next: &Plan,
        untold: &mut bool,
    ) -> Result<Step, Error> {
        if let Some(unverified) = &link.trust.unverified
            && !*untold
            && !link.trust.unreadable
            && !reduces(next, link)
            // What comes late could undo what is seen now.
            && self.awaited(id, link).is_none()
        {
            let step = self.verify(id, now, link, unverified).await?;
            if matches!(step, Step::Plan) {
                *untold = true;
            } else {
                return Ok(step);
            }
        }
        match next {
            Plan::Settled { .. } => self.inspect(id, now, link).await,
            Plan::ReadBack | Plan::Call { .. } | Plan::Later { .. } | Plan::Held | Plan::Hold { .. } => {
                Ok(Step::Plan)
            }
        }
    }

    async fn verify(
        &self,
        id: ResourceId,
        now: &Now,
        link: &Link,
        unverified: &Unverified,
    ) -> Result<Step, Error> {
        let read = self.app.reducing().read(&now.kind, &unverified.remote_id).await;
        let shown = match read {
            Read::Account(account) if self.is_anothers(id, &unverified.remote_id, &account) => None,
            Read::Account(account) => Some(account),
            Read::Missing => None,
            Read::Refused { .. } => return Ok(self.untold(id)),
            Read::Failed { status } => {
                let ended = self.retry(id, now, link, VERIFY, status).await?;
                return Ok(ended.map_or(Step::Again, Step::Ended));
            }
            Read::NotYet(denied) => return Ok(Step::Ended(Ended::NotYet(denied))),
            Read::Unavailable { after, error } => {
                return Ok(Step::Ended(Ended::Unavailable { after, error }));
            }
        };
        let shows_members = self.app.own(&now.kind).members_shown;
        let mut unverified = unverified.clone();
        unverified.account &= !self.is_emptied(now);
        let unverified = &unverified;
        match seen(unverified, now.desired.as_ref().ok(), shown.as_ref(), shows_members) {
            Seen::Ended => {
                self.write(id, now, link, Kind::Verified, None, "the app was read back").await?;
                self.checks.verified(&self.name, id);
                Ok(Step::Again)
            }
            Seen::Untold => Ok(self.untold(id)),
            Seen::Remains { account, members } => {
                self.belie(id, now, link, unverified, account, members).await
            }
        }
    }

    /// Whether it is a group that is left without members instead of being switched off.
    pub(super) fn is_emptied(&self, now: &Now) -> bool {
        now.desired.as_ref().is_err_and(|leaving| leaving.away == Away::Deactivate)
            && !has(&self.shared, &now.kind, "active")
    }

    fn untold(&self, id: ResourceId) -> Step {
        tracing::debug!(app = self.name, resource.id = %id, "the app does not show whether access has ended");
        metrics::counter!("rollcall_app_untold_total", "app" => self.name.clone()).increment(1);
        Step::Plan
    }

    /// The app said that it was done, and it is not: our link says again what the app holds, so that the plan tells it
    /// once more.
    async fn belie(
        &self,
        id: ResourceId,
        now: &Now,
        link: &Link,
        unverified: &Unverified,
        account: bool,
        members: Vec<ResourceId>,
    ) -> Result<Step, Error> {
        let call = unverified.operation.as_str();
        tracing::warn!(app = self.name, resource.id = %id, call, "{BELIED}");
        metrics::counter!("rollcall_app_belied_total", "app" => self.name.clone()).increment(1);
        let observed = Kind::Done {
            operation: if account { OBSERVE } else { OBSERVE_MEMBERS }.to_string(),
            linked: true,
            remote_id: unverified.remote_id.clone(),
            members_added: members,
            members_removed: Vec::new(),
            members_replaced: false,
            status: 200,
        };
        self.railing.rolling.fails(id, BELIED);
        self.write(id, now, link, observed, None, BELIED).await?;
        let link = self.shared.links.get(&self.name, id);
        let belied = link.trust.belied;
        if belied >= READS_MAX {
            let reason = format!("the app said {belied} times that it was done, and it is not");
            let ended = self.hold(id, now, &link, call, &reason).await?;
            return Ok(ended.map_or(Step::Again, Step::Ended));
        }
        let after = SignedDuration::from_millis(AGAIN_MIN_MS << belied);
        let due_at = clock::now().checked_add(after).unwrap_or(Timestamp::MAX);
        Ok(Step::Ended(Ended::Later { due_at }))
    }
}

/// Whether the next call ends access, or the app is to be read anyway.
fn reduces(next: &Plan, link: &Link) -> bool {
    match next {
        Plan::ReadBack => true,
        Plan::Settled { .. } | Plan::Later { .. } | Plan::Held | Plan::Hold { .. } => false,
        Plan::Call { call, .. } => match call {
            Call::Deactivate { .. } | Call::Delete { .. } => true,
            Call::ChangeMembers { removed, .. } => !removed.is_empty(),
            Call::Update { attributes, .. } => is_off(attributes) && !link.is_off,
            Call::Create { .. } => false,
        },
    }
}

/// Compares what should have ended, as far as it still should, with what the app shows.
fn seen(
    unverified: &Unverified,
    wanted: Option<&Desired>,
    shown: Option<&Account>,
    shows_members: bool,
) -> Seen {
    let off = wanted.is_none_or(|wanted| wanted.attributes.get("active") == Some(&Value::Bool(false)));
    let account = unverified.account && off && shown.is_some_and(|shown| !is_inactive(&shown.attributes));
    let unwanted = |member: &ResourceId| wanted.is_none_or(|wanted| !wanted.members.contains(member));
    let left = unverified.members.iter().filter(|(member, _)| unwanted(member));
    let mut members = Vec::new();
    if let Some(shown) = shown
        && left.clone().next().is_some()
    {
        if !shows_members {
            return Seen::Untold;
        }
        let listed = &shown.members;
        members =
            left.filter(|(_, remote_id)| listed.contains(*remote_id)).map(|(member, _)| *member).collect();
    }
    if account || !members.is_empty() { Seen::Remains { account, members } } else { Seen::Ended }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::IdCase;
    use serde_json::json;
    use std::collections::BTreeSet;

    fn id(number: u8) -> ResourceId {
        format!("01890a5d-ac96-774b-bcce-b302099a80{number:02x}").parse().unwrap()
    }

    fn shown(mut value: Value) -> Account {
        value["id"] = json!("r");
        Account::of(&value, IdCase::Exact).unwrap()
    }

    fn wanted(active: bool, members: &[u8]) -> Desired {
        let attributes = json!({"active": active}).as_object().unwrap().clone();
        let members: BTreeSet<ResourceId> = members.iter().map(|number| id(*number)).collect();
        Desired { attributes, once: scim::Object::new(), partial: false, members }
    }

    /// At an app that shows members.
    fn seen(unverified: &Unverified, wanted: Option<&Desired>, shown: Option<&Account>) -> Seen {
        super::seen(unverified, wanted, shown, true)
    }

    fn ending() -> Unverified {
        Unverified { account: true, remote_id: "r".to_string(), ..Unverified::default() }
    }

    #[test]
    fn an_account_has_ended_when_it_is_gone_or_off() {
        let remains = Seen::Remains { account: true, members: Vec::new() };
        assert_eq!(seen(&ending(), None, None), Seen::Ended);
        assert_eq!(seen(&ending(), None, Some(&shown(json!({"active": "False"})))), Seen::Ended);
        assert_eq!(seen(&ending(), None, Some(&shown(json!({"active": true})))), remains);
        assert_eq!(seen(&ending(), None, Some(&shown(json!({})))), remains);
        assert_eq!(seen(&ending(), Some(&wanted(false, &[])), Some(&shown(json!({})))), remains);
        // Wanted again meanwhile.
        assert_eq!(
            seen(&ending(), Some(&wanted(true, &[])), Some(&shown(json!({"active": true})))),
            Seen::Ended
        );
    }

    #[test]
    fn a_member_has_left_when_the_group_says_so() {
        let members = [(id(1), "one".to_string()), (id(2), "two".to_string())].into();
        let left = Unverified { members, ..Unverified::default() };
        let group = wanted(true, &[2]);
        let both = shown(json!({"members": [{"value": "one"}, {"value": "two"}]}));
        assert_eq!(
            seen(&left, Some(&group), Some(&both)),
            Seen::Remains { account: false, members: vec![id(1)] }
        );
        assert_eq!(seen(&left, Some(&group), Some(&shown(json!({"members": []})))), Seen::Ended);
        assert_eq!(seen(&left, Some(&group), Some(&shown(json!({})))), Seen::Ended);
        assert_eq!(super::seen(&left, Some(&group), Some(&shown(json!({}))), false), Seen::Untold);
        assert_eq!(seen(&left, Some(&group), None), Seen::Ended);
    }

    #[test]
    fn a_further_reduction_goes_before_the_reading() {
        let on = Link::default();
        let call = |call: Call| reduces(&Plan::Call { call, why: "" }, &on);
        let remote_id = || "r".to_string();
        assert!(call(Call::Delete { remote_id: remote_id() }));
        assert!(call(Call::Update { remote_id: remote_id(), attributes: wanted(false, &[]).attributes }));
        assert!(!call(Call::Update { remote_id: remote_id(), attributes: wanted(true, &[]).attributes }));
        let members = |added: &[u8], removed: &[u8]| Call::ChangeMembers {
            remote_id: remote_id(),
            added: added.iter().map(|number| id(*number)).collect(),
            removed: removed.iter().map(|number| id(*number)).collect(),
        };
        assert!(call(members(&[], &[1])) && !call(members(&[1], &[])));
        assert!(!reduces(&Plan::Settled { next: None }, &on));
        let off = Link { is_off: true, ..Link::default() };
        let update = Call::Update { remote_id: remote_id(), attributes: wanted(false, &[]).attributes };
        assert!(!reduces(&Plan::Call { call: update, why: "" }, &off), "he is off already");
    }
}
