//! Reading one account that may be otherwise than intended, and setting it right.
//!
//! Only a settled account is looked at, and by the one who works on it, so nothing changes under our eyes. Setting right is
//! an event that says what the app holds; the plan does the rest.

use std::collections::{BTreeMap, BTreeSet};

use proto::ResourceId;
use proto::provisioning::Kind;
use serde_json::Value;
use tokio::time::Instant;

use super::checks::{Check, Drifted};
use super::look::Now;
use super::perform::{Ended, Performer, has_members};
use super::record::gone;
use super::rollout::BELIED;
use super::verify::Step;
use crate::Error;
use crate::budget::Wanted;
use crate::config::{MEMBERS, OnDrift, ReconcileConfig};
use crate::connector::{Account, Outcome, Read};
use crate::drift::{drift, is_inactive, spelled_otherwise};
use crate::link::Link;
use crate::plan::Call;
use crate::profile::Calls;
use crate::trust::{OBSERVE, OBSERVE_MEMBERS};

/// In what an account is otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    /// Attributes.
    pub(super) paths: BTreeSet<String>,
    /// Members that nobody gave, by the app's ids.
    pub(super) joined: BTreeSet<String>,
    /// Members of ours that the app does not show.
    pub(super) left: Vec<ResourceId>,
}

impl Difference {
    pub(super) fn is_none(&self) -> bool {
        self.paths.is_empty() && self.joined.is_empty() && self.left.is_empty()
    }

    /// What of it the configuration says to set right.
    fn to_revert(&self, config: &ReconcileConfig) -> Self {
        let reverts = |path: &str| config.on_drift(path) == OnDrift::Revert;
        let paths = self.paths.iter().filter(|path| reverts(path)).cloned().collect();
        if reverts(MEMBERS) { Self { paths, ..self.clone() } } else { Self { paths, ..Self::default() } }
    }

    /// The names of all that differs.
    fn names(&self) -> BTreeSet<String> {
        let members = !self.joined.is_empty() || !self.left.is_empty();
        self.paths.iter().cloned().chain(members.then(|| MEMBERS.to_string())).collect()
    }
}

impl Performer {
    /// Reads a settled account, if somebody wants it to be read.
    pub(super) async fn inspect(&self, id: ResourceId, now: &Now, link: &Link) -> Result<Step, Error> {
        let Some(check) = self.checks.wanted(id) else { return Ok(Step::Plan) };
        let Some(remote_id) = &link.remote_id else {
            self.checks.was_read(id, |_| {});
            return Ok(Step::Plan);
        };
        let read = self.app.read(&now.kind, remote_id).await;
        match read {
            Read::Account(account) if self.is_anothers(id, remote_id, &account) => {
                self.is_missing(id, now, link, &check).await
            }
            Read::Account(account) => self.set_right(id, now, link, &check, &account).await,
            Read::Missing => self.is_missing(id, now, link, &check).await,
            Read::Refused { .. } | Read::Failed { .. } => {
                self.checks.was_read(id, |findings| findings.unreadable += 1);
                Ok(Step::Plan)
            }
            Read::NotYet(denied) => Ok(Step::Ended(Ended::NotYet(denied))),
            Read::Unavailable { after, error } => Ok(Step::Ended(Ended::Unavailable { after, error })),
        }
    }

    /// Whether an app gave the id of an account that it lost to another one, which is another resource's of ours.
    pub(super) fn is_anothers(&self, id: ResourceId, remote_id: &str, account: &Account) -> bool {
        let says = account.attributes.get("externalId").and_then(Value::as_str);
        let owner: Option<ResourceId> = says.and_then(|says| says.parse().ok());
        owner.filter(|owner| *owner != id).is_some_and(|owner| {
            let link = self.shared.links.get(&self.name, owner);
            let exists = self.shared.projection.type_of(&self.config.tenant, owner).is_some();
            // One that is being made is not written down yet.
            exists && (link.intent_open || link.remote_id.is_none_or(|its| its == remote_id))
        })
    }

    /// In what an account is otherwise than the plan has it, save for what the app is known not to keep.
    pub(super) fn difference(&self, id: ResourceId, now: &Now, link: &Link, account: &Account) -> Difference {
        if self.is_emptied(now) {
            return Difference { joined: account.members.clone(), ..Difference::default() };
        }
        let Ok(desired) = &now.desired else {
            let paths = if is_inactive(&account.attributes) { None } else { Some("active".to_string()) };
            return Difference { paths: paths.into_iter().collect(), ..Difference::default() };
        };
        let mut paths = drift(&self.shared.registry, &now.kind, &desired.attributes, &account.attributes);
        for kept_otherwise in self.checks.not_kept(id, &desired.hash()) {
            paths.remove(&kept_otherwise);
        }
        if !has_members(&self.shared, &now.kind) || !self.app.own(&now.kind).members_shown {
            return Difference { paths, ..Difference::default() };
        }
        let shown = &account.members;
        let remote_id = |member: &ResourceId| self.shared.links.remote_id(&self.name, *member);
        let ours: BTreeMap<String, ResourceId> =
            link.members.iter().filter_map(|member| Some((remote_id(member)?, *member))).collect();
        let joined = shown.iter().filter(|member| !ours.contains_key(*member)).cloned().collect();
        let left = ours.iter().filter(|(member, _)| !shown.contains(*member)).map(|(_, id)| *id).collect();
        Difference { paths, joined, left }
    }

    async fn set_right(
        &self,
        id: ResourceId,
        now: &Now,
        link: &Link,
        check: &Check,
        account: &Account,
    ) -> Result<Step, Error> {
        let over = self.left_too_long(link);
        if !over.is_empty() && !self.railing.is_read_only() {
            self.take_back(id, now, link, over).await?;
            return Ok(Step::Again);
        }
        let mut difference = self.difference(id, now, link, account);
        if check.is_after_unheard
            && let Ok(desired) = &now.desired
        {
            difference.paths.extend(spelled_otherwise(&desired.attributes, &account.attributes));
        }
        let intended = now.desired.as_ref().map(|desired| desired.hash()).unwrap_or_default();
        if let Some(reverted) = &check.reverted {
            let paths: BTreeSet<String> = reverted.intersection(&difference.paths).cloned().collect();
            if !paths.is_empty() {
                tracing::warn!(app = self.name, resource.id = %id, ?paths, "the app does not keep what it is told");
                let why = format!("the app does not keep {}", Vec::from_iter(paths.clone()).join(", "));
                self.railing.rolling.fails(id, &why);
                self.checks.keeps_not(Drifted { id, paths: paths.clone(), intended: intended.clone() });
            }
            difference.paths = difference.paths.difference(&paths).cloned().collect();
        }
        if difference.is_none() {
            self.checks.was_read(id, |_| {});
            return Ok(Step::Plan);
        }
        self.report(id, &difference, intended);
        if !difference.joined.is_empty() || !difference.left.is_empty() {
            self.railing.rolling.fails(id, BELIED);
        }
        if self.railing.is_read_only() {
            return Ok(Step::Plan);
        }
        let is_left = self.leave_there(id, now, link, account, &difference.paths).await?;
        let told = difference.to_revert(&self.config.reconcile);
        match (told.is_none(), is_left) {
            (true, true) => Ok(Step::Again),
            (true, false) => Ok(Step::Plan),
            (false, _) => {
                let link = self.shared.links.get(&self.name, id);
                self.revert(id, now, &link, account, &told).await
            }
        }
    }

    fn report(&self, id: ResourceId, difference: &Difference, intended: String) {
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let paths = difference.names();
        tracing::warn!(app = self.name, resource.id = %id, ?paths, "the app holds something else than it was told");
        metrics::counter!("rollcall_app_drifted_total", "app" => self.name.clone()).increment(1);
        self.checks.was_read(id, |findings| {
            findings.drifted += u64::from(!difference.paths.is_empty());
            findings.members_too_many += count(difference.joined.len());
            findings.members_too_few += count(difference.left.len());
            findings.name(Drifted { id, paths, intended });
        });
    }

    /// Our link says from now on what the app holds.
    async fn revert(
        &self,
        id: ResourceId,
        now: &Now,
        link: &Link,
        account: &Account,
        difference: &Difference,
    ) -> Result<Step, Error> {
        let why = format!("drifted: {}", Vec::from_iter(difference.names()).join(", "));
        let owners = self.shared.links.members(&self.name, &now.kind.name, &difference.joined);
        let strange: Vec<String> =
            difference.joined.iter().filter(|member| !owners.contains_key(*member)).cloned().collect();
        if let Some(ended) = self.expel(id, now, &account.remote_id, &strange).await? {
            return Ok(Step::Ended(ended));
        }
        let link = if strange.is_empty() { link.clone() } else { self.shared.links.get(&self.name, id) };
        if owners.is_empty() && difference.left.is_empty() && difference.paths.is_empty() {
            return Ok(Step::Again);
        }
        let operation = if difference.paths.is_empty() { OBSERVE_MEMBERS } else { OBSERVE };
        let observed = Kind::Done {
            operation: operation.to_string(),
            linked: true,
            remote_id: account.remote_id.clone(),
            members_added: owners.into_values().collect(),
            members_removed: difference.left.clone(),
            members_replaced: false,
            status: 200,
        };
        if !difference.paths.is_empty() {
            self.checks.want(id, Check { reverted: Some(difference.paths.clone()), ..Check::default() });
        }
        self.write(id, now, &link, observed, None, &why).await?;
        Ok(Step::Again)
    }

    /// Takes members out of a group that no plan can name, because nobody of ours owns them.
    async fn expel(
        &self,
        id: ResourceId,
        now: &Now,
        remote_id: &str,
        strange: &[String],
    ) -> Result<Option<Ended>, Error> {
        for some in strange.chunks(self.app.members_per_call(&now.kind)) {
            let link = self.shared.links.get(&self.name, id);
            let call = Call::ChangeMembers {
                remote_id: remote_id.to_string(),
                added: BTreeSet::new(),
                removed: BTreeSet::new(),
            };
            let (name, why) = (call.name(), "members that nobody gave");
            let wanted = Wanted { calls: Calls::Updates, kind: &now.kind.name, reduces: true, members: None };
            let begun = self.app.purse.begin(true);
            let paid = begun.and_then(|flight| self.app.purse.take(&wanted, Instant::now()).map(|()| flight));
            let app = match paid {
                Ok(flight) => self.app.begun(flight),
                Err(denied) => return Ok(Some(Ended::NotYet(denied))),
            };
            self.write(id, now, &link, Kind::Intended { operation: name.to_string() }, None, why).await?;
            let link = self.shared.links.get(&self.name, id);
            match app.change_members(&now.kind, remote_id, &[], some).await {
                Outcome::Done { status, .. } => {
                    let kind = super::record::done(
                        name,
                        remote_id.to_string(),
                        Vec::new(),
                        Vec::new(),
                        false,
                        status,
                    );
                    self.write(id, now, &link, kind, None, why).await?;
                }
                Outcome::Unavailable { after, error, unheard } => {
                    self.heard(id, &link, unheard);
                    return Ok(Some(Ended::Unavailable { after, error }));
                }
                Outcome::Throttled { status, after } | Outcome::Stranger { status, after } => {
                    let error = format!("the app answers {status}");
                    self.not_done(id, now, &link, name, status, &error, why).await?;
                    return Ok(Some(Ended::Unavailable { after, error }));
                }
                Outcome::Retry { status } => return self.retry(id, now, &link, name, status).await,
                Outcome::Missing => return self.retry(id, now, &link, name, 404).await,
                Outcome::Taken { .. } => return self.retry(id, now, &link, name, 409).await,
                Outcome::TooLarge { status } => {
                    self.app.halve_members(&now.kind);
                    self.not_done(id, now, &link, name, status, "too large", why).await?;
                    return Ok(None);
                }
                Outcome::Refused { status, error } | Outcome::NoTarget { status, error } => {
                    // Somebody may have taken them out meanwhile; the next reconciliation knows.
                    self.not_done(id, now, &link, name, status, &error, why).await?;
                    return Ok(None);
                }
            }
        }
        Ok(None)
    }

    /// The app says that the account is not there. A list that did not show it must say so too, because one wrong answer
    /// must not make anybody anew.
    async fn is_missing(&self, id: ResourceId, now: &Now, link: &Link, check: &Check) -> Result<Step, Error> {
        if !check.was_not_listed {
            self.railing.rolling.fails(id, BELIED);
            self.checks.was_read(id, |_| {});
            self.checks.want_full();
            return Ok(Step::Plan);
        }
        tracing::warn!(app = self.name, resource.id = %id, "the app has lost the account");
        metrics::counter!("rollcall_app_missing_total", "app" => self.name.clone()).increment(1);
        self.checks.was_read(id, |findings| {
            findings.missing += 1;
            findings.name(Drifted { id, paths: ["missing".to_string()].into(), intended: String::new() });
        });
        match self.config.reconcile.drifted {
            OnDrift::Report | OnDrift::Adopt => return Ok(Step::Plan),
            OnDrift::Revert => {}
        }
        self.write(id, now, link, gone(OBSERVE), None, "the app has lost the account").await?;
        Ok(Step::Again)
    }
}
