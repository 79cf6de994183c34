//! Reconciliation: all that an app holds is listed and held against what it should hold, now and then, and on demand.
//!
//! The list only raises suspicion. Whoever is suspected is read by himself when nothing else is to be done for him
//! (`inspect.rs`), and only then is anything said or changed. A list that breaks off says nothing about whom it did not show.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::time::Duration;

use eventlog::clock;
use jiff::{SignedDuration, Timestamp};
use proto::ResourceId;
use proto::provisioning::Kind;
use scim::ResourceType;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::checks::{Check, Findings, NAMED_MAX, Stranger};
use super::look::Now;
use super::pages::Pages;
use super::perform::{Performer, has};
use super::reconciled::{self, Reconciled};
use crate::Error;
use crate::config::OnStranger;
use crate::connector::Account;
use crate::drift::is_inactive;
use crate::link::Link;
use crate::plan::{Away, Leaving, Plan, plan};
use crate::profile::Inactive;
use crate::trust::STRANGER as TAKEN_CHARGE;

/// An account that nobody of ours owns, and that the configuration says to switch off.
pub(super) const STRANGER: Leaving =
    Leaving { away: Away::Deactivate, delete_after: None, why: "nobody of ours owns it" };

/// How often it is looked whether it is time.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How often it is looked whether everybody who is suspected was read.
const WAIT_INTERVAL: Duration = Duration::from_millis(100);
/// Strangers that are remembered; more are counted.
const STRANGERS_MAX: usize = 10_000;
/// Accounts that are compared before others may work.
const COMPARED_AT_ONCE: usize = 16;

/// Somebody to be read, and why.
pub(super) type Suspect = (ResourceId, Check);

/// By this, an id of the app's is remembered: a million of them are listed.
type Mark = u64;

/// One app's list of one type.
#[derive(Default)]
struct Listing {
    seen: BTreeSet<Mark>,
    strangers: Vec<(Stranger, bool)>,
    /// Why it does not show everything.
    broken: Option<String>,
}

/// Reconciles when it is time, for as long as it is polled. Resources to look at go to `marks`.
pub(super) async fn rounds(performer: Performer, marks: mpsc::Sender<Suspect>) -> Result<Infallible, Error> {
    let mut round = Round { performer, marks, sampled_at: Instant::now() };
    let mut look = tokio::time::interval(LOOK_INTERVAL);
    loop {
        look.tick().await;
        if !round.performer.checks.is_ready() {
            continue;
        }
        match round.look().await {
            Ok(()) => {}
            // One that broke off begins again.
            Err(Error::Log(error)) if error.is_retryable() => {
                tracing::debug!(app = round.performer.name, %error, "reconciling breaks off; the broker is away");
            }
            Err(error) => return Err(error),
        }
    }
}

struct Round {
    performer: Performer,
    marks: mpsc::Sender<Suspect>,
    sampled_at: Instant,
}

impl Round {
    /// Does what it is time for.
    async fn look(&mut self) -> Result<(), Error> {
        let performer = &self.performer;
        let config = performer.config.reconcile.clone();
        let bucket = &*performer.shared.broker.leases;
        let wanted = performer.checks.take_full();
        if reconciled::is_due(bucket, &performer.name, config.hours, wanted).await? {
            return self.full().await;
        }
        if config.sample > 0 && self.sampled_at.elapsed() >= Duration::from_secs(config.sample_minutes * 60) {
            self.sampled_at = Instant::now();
            return self.sample().await;
        }
        Ok(())
    }

    async fn full(&self) -> Result<(), Error> {
        let performer = &self.performer;
        let (name, shared, checks) = (&performer.name, &performer.shared, &performer.checks);
        let before = reconciled::begin(&*shared.broker.leases, name).await?;
        checks.begin(&before);
        let begun_at = clock::now();
        tracing::info!(app = name, "reconciling");
        let mut broken = None;
        let kinds: Vec<ResourceType> = shared.registry.resource_types().to_vec();
        for kind in kinds.iter().filter(|kind| performer.config.scope.of(&kind.name).is_some()) {
            let listing = self.list(kind).await?;
            if listing.broken.is_none() {
                self.suspect_missing(kind, &listing).await;
            }
            self.tell_strangers(kind, &listing).await?;
            broken = broken.or(listing.broken);
        }
        self.until_read().await;
        let findings = checks.findings();
        self.tell(&findings, broken.as_deref());
        let done = Reconciled { begun_at, ended_at: clock::now(), broken, findings };
        reconciled::end(&*shared.broker.leases, name, performer.config.reconcile.hours, done).await?;
        Ok(())
    }

    fn tell(&self, findings: &Findings, broken: Option<&str>) {
        let app = &self.performer.name;
        metrics::gauge!("rollcall_app_strangers", "app" => app.clone()).set(findings.strangers as f64);
        metrics::counter!("rollcall_app_reconciled_total", "app" => app.clone(), "complete" => if broken.is_some() { "no" } else { "yes" }).increment(1);
        let Findings { read, drifted, missing, strangers, .. } = findings;
        match broken {
            None => tracing::info!(app, read, drifted, missing, strangers, "reconciled"),
            Some(reason) => {
                tracing::warn!(
                    app,
                    read,
                    drifted,
                    strangers,
                    reason,
                    "reconciled in part: the app did not list everything"
                );
            }
        }
    }

    /// Reads some accounts that are picked by chance.
    async fn sample(&self) -> Result<(), Error> {
        let performer = &self.performer;
        let ids = performer.shared.links.of_app(&performer.name);
        for _ in 0..performer.config.reconcile.sample.min(ids.len()) {
            let chance = u64::from_le_bytes(clock::random()?);
            let place = usize::try_from(chance % u64::try_from(ids.len()).unwrap_or(1)).unwrap_or_default();
            if let Some(id) = ids.get(place) {
                self.suspect(*id, Check::default()).await;
            }
        }
        Ok(())
    }

    async fn suspect(&self, id: ResourceId, check: Check) {
        self.performer.checks.suspect();
        // A worker that is not there any more begins again.
        let _ = self.marks.send((id, check)).await;
    }

    async fn until_read(&self) {
        while !self.performer.checks.is_idle() {
            tokio::time::sleep(WAIT_INTERVAL).await;
        }
    }

    /// Lists everything of one type and holds it against what should be.
    async fn list(&self, kind: &ResourceType) -> Result<Listing, Error> {
        let performer = &self.performer;
        let owners: BTreeMap<Mark, ResourceId> = performer
            .shared
            .links
            .remote_ids(&performer.name, &kind.name)
            .into_iter()
            .map(|(remote_id, id)| (mark(&remote_id), id))
            .collect();
        let mut listing = Listing::default();
        let mut pages = Pages::new(&performer.app, kind);
        loop {
            let page = match pages.next().await {
                Ok(Some(page)) => page,
                Ok(None) => return Ok(listing),
                Err(broken) => {
                    listing.broken = Some(broken);
                    return Ok(listing);
                }
            };
            let known = listing.seen.len();
            self.compare(kind, &page.accounts, &owners, &mut listing).await?;
            if page.next.is_some() && listing.seen.len() > known {
                continue;
            }
            let seen = u64::try_from(listing.seen.len()).unwrap_or(u64::MAX);
            if let Some(total) = page.total.filter(|total| seen < *total) {
                listing.broken = Some(format!("the app listed {seen} of {total} {}", kind.name));
            }
            return Ok(listing);
        }
    }

    /// Suspects the accounts of a page that are otherwise, and notes those that nobody owns.
    async fn compare(
        &self,
        kind: &ResourceType,
        accounts: &[Account],
        owners: &BTreeMap<Mark, ResourceId>,
        listing: &mut Listing,
    ) -> Result<(), Error> {
        for (number, account) in accounts.iter().enumerate() {
            if number % COMPARED_AT_ONCE == 0 {
                tokio::task::yield_now().await;
            }
            let mark = mark(&account.remote_id);
            if !listing.seen.insert(mark) {
                continue;
            }
            self.performer.checks.count(|findings| {
                *findings.listed.entry(kind.name.clone()).or_default() += 1;
            });
            match owners.get(&mark) {
                Some(id) => {
                    if self.is_otherwise(*id, account).await? {
                        self.suspect(*id, Check::default()).await;
                    }
                }
                None if listing.strangers.len() < STRANGERS_MAX => {
                    let stranger = Stranger {
                        resource_type: kind.name.clone(),
                        remote_id: account.remote_id.clone(),
                        claims: account.external_id().and_then(|id| id.parse().ok()),
                    };
                    listing.strangers.push((stranger, is_inactive(&account.attributes)));
                }
                None => self.performer.checks.count(|findings| findings.strangers += 1),
            }
        }
        Ok(())
    }

    /// Whether a listed account of ours is not as it should be. One that is worked on is not looked at: it is about to change.
    async fn is_otherwise(&self, id: ResourceId, account: &Account) -> Result<bool, Error> {
        let performer = &self.performer;
        let link = performer.shared.links.get(&performer.name, id);
        if link.remote_id.as_deref() != Some(account.remote_id.as_str()) || link.trust.stranger {
            return Ok(false);
        }
        let Some(now) = performer.look(id, &link).await? else { return Ok(false) };
        let desired = now.desired.as_ref().map_err(|leaving| *leaving);
        match plan(desired, &link, &performer.hash, clock::now()) {
            Plan::Settled { .. } => {
                let differs = !performer.difference(id, &now, &link, account).is_none();
                Ok(differs || !performer.left_too_long(&link).is_empty())
            }
            Plan::ReadBack | Plan::Call { .. } | Plan::Later { .. } | Plan::Held | Plan::Hold { .. } => {
                Ok(false)
            }
        }
    }

    /// Suspects those whose accounts a complete list did not show.
    async fn suspect_missing(&self, kind: &ResourceType, listing: &Listing) {
        let performer = &self.performer;
        let (links, projection) = (&performer.shared.links, &performer.shared.projection);
        let of_kind = |id| projection.type_of(&performer.config.tenant, id).as_ref() == Some(&kind.name);
        let ours: Vec<(Mark, ResourceId)> = links
            .remote_ids(&performer.name, &kind.name)
            .into_iter()
            .filter(|(_, id)| of_kind(*id))
            .map(|(remote_id, id)| (mark(&remote_id), id))
            .collect();
        // An id that the app gave again, after it lost whose it was, shows the account of one of them only.
        let (mut once, mut again) = (BTreeSet::new(), BTreeSet::new());
        for (mark, _) in &ours {
            if !once.insert(*mark) {
                again.insert(*mark);
            }
        }
        for (mark, id) in ours {
            if !listing.seen.contains(&mark) || again.contains(&mark) {
                self.suspect(id, Check { was_not_listed: true, ..Check::default() }).await;
            }
        }
    }

    /// Reports those that nobody of ours owns, and does what the configuration says.
    async fn tell_strangers(&self, kind: &ResourceType, listing: &Listing) -> Result<(), Error> {
        let performer = &self.performer;
        let links = &performer.shared.links;
        let ids: BTreeSet<String> =
            listing.strangers.iter().map(|(stranger, _)| stranger.remote_id.clone()).collect();
        // Who was made while the app was listed is no stranger.
        let owners = links.owners(&performer.name, &kind.name, &ids);
        for (stranger, inactive) in &listing.strangers {
            if owners.contains_key(&stranger.remote_id) {
                continue;
            }
            if let Some(ours) = stranger.claims {
                let link = links.get(&performer.name, ours);
                let exists = performer.shared.projection.type_of(&performer.config.tenant, ours).is_some();
                if link.remote_id.is_none() && exists {
                    // The plan finds it by our id.
                    self.suspect(ours, Check::default()).await;
                }
            }
            performer.checks.count(|findings| {
                findings.strangers += 1;
                if findings.first_strangers.len() < NAMED_MAX {
                    findings.first_strangers.push(stranger.clone());
                }
            });
            match performer.config.reconcile.strangers {
                OnStranger::Report => {}
                OnStranger::Deactivate if *inactive || !performer.can_deactivate(kind) => {}
                OnStranger::Deactivate => {
                    let id = match links.stranger(&performer.name, &kind.name, &stranger.remote_id) {
                        Some(known) => known,
                        None => performer.take_charge_of(kind, &stranger.remote_id).await?,
                    };
                    self.suspect(id, Check::default()).await;
                }
            }
        }
        Ok(())
    }
}

impl Performer {
    /// Whether somebody of ours has an account that nobody had.
    pub(super) fn is_owned(&self, link: &Link) -> bool {
        let ids = link.remote_id.iter().cloned().collect();
        !self.shared.links.owners(&self.name, &link.resource_type, &ids).is_empty()
    }

    /// Whether accounts of a type can be switched off.
    fn can_deactivate(&self, kind: &ResourceType) -> bool {
        has(&self.shared, kind, "active") && self.app.own(kind).inactive == Inactive::Kept
    }

    /// Makes a link for an account that nobody owns, as if somebody had been deleted: so the plan switches it off, under
    /// the same guards as everybody else.
    async fn take_charge_of(&self, kind: &ResourceType, remote_id: &str) -> Result<ResourceId, Error> {
        let id = clock::new_resource_id();
        let now = Now::of(kind.clone(), Err(STRANGER));
        let found = Kind::Done {
            operation: TAKEN_CHARGE.to_string(),
            linked: true,
            remote_id: remote_id.to_string(),
            members_added: Vec::new(),
            members_removed: Vec::new(),
            members_replaced: false,
            status: 200,
        };
        self.write(id, &now, &Link::default(), found, None, STRANGER.why).await?;
        Ok(id)
    }
}

fn mark(remote_id: &str) -> Mark {
    let digest = Sha256::digest(remote_id.to_ascii_lowercase().as_bytes());
    digest.iter().take(8).fold(0, |mark, byte| (mark << 8) | u64::from(*byte))
}

/// When the next is due after one at this time.
pub(super) fn next_after(time: Timestamp, hours: u32) -> Timestamp {
    time.checked_add(SignedDuration::from_hours(i64::from(hours))).unwrap_or(Timestamp::MAX)
}
