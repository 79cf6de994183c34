//! Settling one resource at one app: plan, call, write down, until nothing is left to do.
//!
//! Before a call an intent is appended under a guard on its subject: it fences off a second dispatcher, and after a crash or a
//! lost answer it says that the app must be read before anything else is planned. That holds for calls that could be repeated
//! too: once the wish has changed back, nobody would repeat them, and the app would keep what nobody wishes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use eventlog::clock;
use jiff::{SignedDuration, Timestamp};
use proto::ResourceId;
use proto::provisioning::Kind;
use scim::{Object, ResourceType};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::checks::{Check, Checks};
use super::look::Now;
use super::railed::Railing;
use super::record::{done, outcome_event};
use super::verify::Step;
use super::wanted::Turn;
use crate::budget::Denied;
use crate::config::AppConfig;
use crate::connector::{Outcome, ScimApp};
use crate::desired::at_creation;
use crate::link::{Link, RELEASED_BY, is_off};
use crate::mapping::TypeMapping;
use crate::matching::OUR_ID;
use crate::plan::{Call, Next, Plan, earlier, plan};
use crate::rails::FILLING;
use crate::told::Told;
use crate::{Error, Shared};

/// Calls for one resource in one go; what is left waits for the next.
const STEPS_MAX: usize = 100;
/// How long writing an outcome may take.
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a group waits before it is looked at again whether its members were read back.
const MEMBERS_DELAY: SignedDuration = SignedDuration::from_millis(500);

/// Why an account becomes ours.
pub(super) const FOUND: &str = "found at the app";

/// Why an app cannot be used that does not take our credential.
pub(super) const UNKNOWN_TO_IT: &str =
    "the app does not know us any more (401): its credential must be renewed";

/// How settling ended.
pub(crate) enum Ended {
    /// The app holds what it should, until this time.
    Settled { next: Option<Next> },
    /// A person must look at it; this time changes what is wished.
    Held { next: Option<Next> },
    /// One resource failed and is tried again.
    Later { due_at: Timestamp },
    /// The budget has nothing for it yet.
    NotYet(Denied),
    /// A person must let it go on: the app is only read, or a guard rail holds it.
    Railed,
    /// The whole app must rest.
    Unavailable { after: Option<Duration>, error: String },
}

/// Everything that settling needs.
pub(crate) struct Performer {
    pub(crate) name: String,
    pub(crate) config: Arc<AppConfig>,
    pub(crate) hash: String,
    pub(crate) shared: Shared,
    pub(crate) app: ScimApp,
    pub(crate) railing: Arc<Railing>,
    /// Whether an event asks for what is done.
    pub(crate) asked: bool,
    pub(crate) checks: Checks,
}

impl Performer {
    /// Settles a resource, planned not before the last event that made it due is applied. Told to stop, it begins nothing any
    /// more, and what is under way ends.
    pub(crate) async fn settle(
        &self,
        id: ResourceId,
        until: u64,
        stopping: &CancellationToken,
    ) -> Result<Ended, Error> {
        tokio::select! {
            wait = self.shared.projection.wait_until(until, Instant::now() + WRITE_TIMEOUT) => {
                wait.map_err(projector::Error::from)?;
            }
            () = stopping.cancelled() => {}
        }
        let (railing, turn) = (&*self.railing, Turn { id, until, asked: self.asked });
        railing.forget(id);
        let (mut untold, mut tried) = (false, false);
        for _ in 0..STEPS_MAX {
            if stopping.is_cancelled() {
                break;
            }
            let link = self.shared.links.get(&self.name, id);
            let Some(mut now) = self.look(id, &link).await? else {
                return Ok(Ended::Settled { next: None });
            };
            if let Ok(desired) = &mut now.desired {
                railing.keep(turn, &link, desired).await?;
            }
            if self.waits_for_members(id, &now) {
                let due_at = clock::now().checked_add(MEMBERS_DELAY).unwrap_or(Timestamp::MAX);
                return Ok(Ended::Later { due_at });
            }
            let planned =
                plan(now.desired.as_ref().map_err(|leaving| *leaving), &link, &self.hash, clock::now());
            if matches!(planned, Plan::Settled { .. })
                && let Some(due_at) = self.await_the_late(id, &link)
            {
                return Ok(Ended::Later { due_at });
            }
            match self.believe(id, &now, &link, &planned, &mut untold).await? {
                Step::Plan => {}
                Step::Again => continue,
                Step::Ended(ended) => return Ok(ended),
            }
            let (call, why) = match planned {
                Plan::Settled { next } => {
                    match self.decide(id, &now, &link).await? {
                        Step::Plan => {}
                        Step::Again => continue,
                        Step::Ended(ended) => return Ok(ended),
                    }
                    if link.held.is_some() {
                        let released = Kind::Released { actor: RELEASED_BY.to_string() };
                        self.write(id, &now, &link, released, None, "it is not wished any more").await?;
                    }
                    return Ok(Ended::Settled { next: earlier(next, now.next) });
                }
                Plan::Held => return Ok(Ended::Held { next: now.next }),
                Plan::Hold { why } => {
                    let why = now.unclear.as_deref().unwrap_or(why);
                    match self.hold(id, &now, &link, "plan", why).await? {
                        None => continue,
                        Some(ended) => return Ok(ended),
                    }
                }
                Plan::Later { due_at } => return Ok(Ended::Later { due_at }),
                Plan::ReadBack if railing.is_read_only() => {
                    railing.wait(turn);
                    return Ok(Ended::Railed);
                }
                Plan::ReadBack => match self.read_back(id, &now, &link).await? {
                    None => continue,
                    Some(ended) => return Ok(ended),
                },
                Plan::Call { call, why } => (call, why),
            };
            if let Some(missing) = &now.missing
                && matches!(call, Call::Create { .. } | Call::Update { .. })
                && let Some(ended) = self.hold(id, &now, &link, call.name(), &missing.to_string()).await?
            {
                return Ok(ended);
            }
            if !railing.admits(turn, &link, &call).await? {
                return Ok(Ended::Railed);
            }
            match self.meet(id, &now, &link, &call).await? {
                Step::Plan => {}
                Step::Again => continue,
                Step::Ended(ended) => return Ok(ended),
            }
            // Others wait for what comes of it, so it is read once it is done.
            if railing.rolling.is_tried(turn) && !std::mem::replace(&mut tried, true) {
                self.checks.want(id, Check::default());
            }
            let freely = matches!(call, Call::Create { .. }) && !self.asked && railing.is_filled_freely();
            let why = now.reason(&call, &link, if freely { FILLING } else { why });
            if let Some(ended) = self.perform(id, &now, &link, call, &why).await? {
                return Ok(ended);
            }
        }
        Ok(Ended::Later { due_at: clock::now() })
    }

    /// After a restore a group is read back when its members were: those whose accounts are not known again would be
    /// left out of it.
    fn waits_for_members(&self, id: ResourceId, now: &Now) -> bool {
        let waits = |id| self.shared.links.waits_for_reading(&self.name, id);
        waits(id)
            && has_members(&self.shared, &now.kind)
            && self.shared.projection.members(&self.config.tenant, id).into_iter().any(waits)
    }

    /// An account that is there becomes ours; the next plan makes it equal. Its members are not known to us, so a
    /// group's are replaced.
    pub(super) async fn adopt(
        &self,
        id: ResourceId,
        now: &Now,
        link: &Link,
        remote_id: String,
    ) -> Result<Option<Ended>, Error> {
        let mut members = Vec::new();
        if has_members(&self.shared, &now.kind)
            && let Ok(desired) = &now.desired
        {
            let app = match self.app.purse.begin(false) {
                Ok(flight) => self.app.begun(flight),
                Err(denied) => return Ok(Some(Ended::NotYet(denied))),
            };
            // Whoever was in it before and should not be would keep access that nobody gave.
            let outcome = if self.app.own(&now.kind).members_replaced {
                members = desired.members.iter().copied().collect();
                let remote: Vec<String> =
                    members.iter().filter_map(|id| self.shared.links.remote_id(&self.name, *id)).collect();
                app.replace_members(&now.kind, &remote_id, &remote).await
            } else {
                self.take_out_all_but(&app, id, now, &remote_id, &desired.members).await
            };
            match outcome {
                Outcome::Done { .. } => {}
                Outcome::Unavailable { after, error, unheard } => {
                    self.heard(id, link, unheard);
                    return Ok(Some(Ended::Unavailable { after, error }));
                }
                Outcome::Throttled { status, after } | Outcome::Stranger { status, after } => {
                    self.heard(id, link, false);
                    let error = format!("the app answers {status}");
                    return Ok(Some(Ended::Unavailable { after, error }));
                }
                Outcome::Retry { status } => return self.retry(id, now, link, "adopt", status).await,
                // The group or a member may have ended at the app meanwhile; the next plan knows. Tried too often, it is held.
                Outcome::Missing => return self.retry(id, now, link, "adopt", 404).await,
                Outcome::Taken { .. } => return self.retry(id, now, link, "adopt", 409).await,
                Outcome::TooLarge { status }
                | Outcome::NoTarget { status, .. }
                | Outcome::Refused { status, .. } => {
                    return self.retry(id, now, link, "adopt", status).await;
                }
            }
        }
        let kind = done("adopt", remote_id, members, Vec::new(), true, 200);
        let why = if link.remote_id.is_none() { now.entering(FOUND) } else { FOUND.to_string() };
        self.write(id, now, link, kind, None, &why).await?;
        Ok(None)
    }

    /// One call; nothing means that the plan is made again.
    pub(super) async fn perform(
        &self,
        id: ResourceId,
        now: &Now,
        link: &Link,
        call: Call,
        why: &str,
    ) -> Result<Option<Ended>, Error> {
        let name = call.name();
        let (app, call) = match self.afford(id, now, call) {
            Ok(afforded) => afforded,
            Err(denied) => return Ok(Some(Ended::NotYet(denied))),
        };
        // Every call: what it did is unknown until its outcome is written down, and the wish may change back before.
        let intended = Kind::Intended { operation: name.to_string() };
        self.write(id, now, link, intended, self.attempted(now, &call), why).await?;
        let told = link.told.as_ref();
        let link = self.shared.links.get(&self.name, id);
        let is_young = self.appears_until(&link).is_some();
        let begun = std::time::Instant::now();
        let (outcome, call) = self.call(&app, now, call, told).await;
        drop(app);
        let elapsed = begun.elapsed();
        metrics::histogram!("rollcall_app_call_duration_seconds", "app" => self.name.clone())
            .record(elapsed.as_secs_f64());
        metrics::counter!("rollcall_app_calls_total", "app" => self.name.clone(), "call" => name, "outcome" => outcome.name()).increment(1);
        tracing::debug!(app = self.name, resource.id = %id, call = name, why, outcome = outcome.name(), duration_ms = elapsed.as_millis(), "called the app");
        match outcome {
            Outcome::Done { remote_id, status } => {
                let (kind, intended) = outcome_event(call, remote_id, status);
                self.write(id, now, &link, kind, intended, why).await?;
                Ok(None)
            }
            // Nothing is left to end, unless it is yet to appear.
            Outcome::Missing if matches!(call, Call::Delete { .. }) && !is_young => {
                let (kind, intended) = outcome_event(call, None, 404);
                self.write(id, now, &link, kind, intended, why).await?;
                Ok(None)
            }
            Outcome::Missing => self.missing(id, now, &link, &call).await,
            Outcome::Taken { status } => self.taken(id, now, &link, name, status, why).await,
            Outcome::Retry { status } => self.retry(id, now, &link, name, status).await,
            Outcome::Throttled { status, after } | Outcome::Stranger { status, after } => {
                let error = if status == 401 {
                    UNKNOWN_TO_IT.to_string()
                } else {
                    format!("the app answers {status}")
                };
                self.not_done(id, now, &link, name, status, &error, why).await?;
                Ok(Some(Ended::Unavailable { after, error }))
            }
            Outcome::Unavailable { after, error, unheard } => {
                self.heard(id, &link, unheard);
                Ok(Some(Ended::Unavailable { after, error }))
            }
            Outcome::TooLarge { status } => {
                let error = format!("{status} too large");
                let link = self.not_done(id, now, &link, name, status, &error, why).await?;
                let more = matches!(&call, Call::ChangeMembers { added, removed, .. } if added.len() + removed.len() > 1);
                if more {
                    self.app.halve_members(&now.kind);
                    return Ok(None);
                }
                if switches_off(&call, &link) {
                    return Ok(None);
                }
                self.hold(id, now, &link, name, &format!("the app refuses it ({error})")).await
            }
            Outcome::Refused { status, error } | Outcome::NoTarget { status, error } => {
                self.railing.rolling.fails(id, &format!("the app refuses it ({error})"));
                let link = self.not_done(id, now, &link, name, status, &error, why).await?;
                // The next plan says nothing but that.
                if switches_off(&call, &link) {
                    return Ok(None);
                }
                if matches!(call, Call::ChangeMembers { .. }) {
                    // A member's account may have ended meanwhile; then the next plan does not name it.
                    return self.retry(id, now, &link, name, status).await;
                }
                self.hold(id, now, &link, name, &format!("the app refuses it ({error})")).await
            }
        }
    }

    /// What is written down of an account before it is made, where the app does not keep our id: by that it is found should
    /// nobody hear whether it was made, whatever it is to be called by then.
    fn attempted(&self, now: &Now, call: &Call) -> Option<Object> {
        let Call::Create { attributes, once } = call else { return None };
        (!self.app.own(&now.kind).can_search(OUR_ID)).then(|| at_creation(attributes, once))
    }

    async fn call(&self, app: &ScimApp, now: &Now, call: Call, told: Option<&Told>) -> (Outcome, Call) {
        let kind = &now.kind;
        let links = &self.shared.links;
        match call {
            Call::Create { attributes, once } => {
                let mut said = at_creation(&attributes, &once);
                let mapping = self.config.mapping.of(&kind.name);
                let add = |mapping: &Arc<TypeMapping>| {
                    mapping.add_passwords(app.own(kind), &mut said, clock::random)
                };
                let outcome = match mapping.map_or(Ok(()), add) {
                    Ok(()) => app.create(kind, &said).await,
                    Err(error) => {
                        Outcome::Unavailable { after: None, error: error.to_string(), unheard: false }
                    }
                };
                (outcome, Call::Create { attributes, once })
            }
            Call::Update { remote_id, attributes } => {
                let partial = now.desired.as_ref().is_ok_and(|desired| desired.partial);
                let partial = partial || has_members(&self.shared, kind);
                let outcome = app.update(kind, &remote_id, &attributes, partial, told).await;
                (outcome, Call::Update { remote_id, attributes })
            }
            // What has no switch was emptied before; from now on it waits for its end.
            Call::Deactivate { remote_id } if !has(&self.shared, kind, "active") => {
                (Outcome::Done { remote_id: None, status: 204 }, Call::Deactivate { remote_id })
            }
            Call::Deactivate { remote_id } => {
                (app.deactivate(kind, &remote_id).await, Call::Deactivate { remote_id })
            }
            Call::Delete { remote_id } => (app.delete(kind, &remote_id).await, Call::Delete { remote_id }),
            Call::ChangeMembers { remote_id, added, removed } => {
                // A member whose account is gone at the app is gone from its groups there too.
                let remote = |ids: &BTreeSet<ResourceId>| -> Vec<String> {
                    ids.iter().filter_map(|id| links.remote_id(&self.name, *id)).collect()
                };
                let (joining, leaving) = (remote(&added), remote(&removed));
                let outcome = if joining.is_empty() && leaving.is_empty() {
                    Outcome::Done { remote_id: None, status: 204 }
                } else {
                    app.change_members(kind, &remote_id, &joining, &leaving).await
                };
                (outcome, Call::ChangeMembers { remote_id, added, removed })
            }
        }
    }
}

/// Whether an account that is on would be switched off among other things.
fn switches_off(call: &Call, link: &Link) -> bool {
    matches!(call, Call::Update { attributes, .. } if is_off(attributes) && !link.is_off)
}

pub(super) fn has_members(shared: &Shared, kind: &ResourceType) -> bool {
    has(shared, kind, "members")
}

pub(super) fn has(shared: &Shared, kind: &ResourceType, name: &str) -> bool {
    shared.registry.core(kind).iter().any(|attribute| attribute.name == name)
}
