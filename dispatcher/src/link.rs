//! Links: what we know that each app holds. A projection of PROVISIONING, in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use eventlog::{Keyring, Log, Message, Timeline};
use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use proto::ResourceId;
use proto::provisioning::{self, Details, Encoded, Event, Kind};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::config::short_hash;
use crate::rails::{self, Rails, Tally};
use crate::trust::{OBSERVE, OBSERVE_MEMBERS, STRANGER, Trust};

/// How long to wait before keys are asked for again.
const AGAIN_DELAY: Duration = Duration::from_millis(200);

/// Our resource and the app's.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Link {
    pub(crate) remote_id: Option<String>,
    /// Hash of what we last made the app hold.
    pub(crate) intended: Option<String>,
    /// Members that the app holds.
    pub(crate) members: BTreeSet<ResourceId>,
    /// Under which of the app's ids they became members. An account that was lost and made anew is in no group.
    pub(crate) known_as: BTreeMap<ResourceId, String>,
    /// Whether we switched the account off.
    pub(crate) is_off: bool,
    /// A call was about to be made whose outcome nobody wrote down.
    pub(crate) intent_open: bool,
    pub(crate) held: Option<Held>,
    /// How far the app is believed about it.
    pub(crate) trust: Trust,
    /// Failures since the last success.
    pub(crate) attempts: u32,
    pub(crate) next_due_at: Option<Timestamp>,
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

/// Who releases what was held and is not wished any more.
pub(crate) const RELEASED_BY: &str = "plan";

/// Whether an account with these attributes is switched off.
pub(crate) fn is_off(attributes: &scim::Object) -> bool {
    attributes.get("active") == Some(&Value::Bool(false))
}

/// One app's resource.
pub(crate) type LinkId = (String, ResourceId);

/// Every link of every app. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Links {
    log: Arc<dyn Log>,
    keyring: Keyring,
    /// The restore that the log comes from.
    restored: Option<Timeline>,
    links: Arc<RwLock<BTreeMap<LinkId, Link>>>,
    /// What was done lately, by app.
    tallies: Arc<Mutex<BTreeMap<String, Tally>>>,
    /// Who was released by a person and not looked at since, by app.
    redriven: Arc<Mutex<BTreeSet<LinkId>>>,
    applied: Arc<watch::Sender<u64>>,
}

impl Links {
    pub(crate) fn new(log: Arc<dyn Log>, keyring: Keyring, restored: Option<Timeline>) -> Self {
        Self {
            log,
            keyring,
            restored,
            links: Arc::default(),
            tallies: Arc::default(),
            redriven: Arc::default(),
            applied: Arc::new(watch::Sender::new(0)),
        }
    }

    /// Counts what is done at an app from now on, and what was done before, once it is read. What is counted already stays.
    pub(crate) fn guard(&self, app: &str, rails: &Rails) {
        let mut tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        let tally = tallies.entry(app.to_string()).or_insert_with(|| Tally::new(rails.clone()));
        tally.limit(rails.clone());
    }

    /// Asks or tells an app's tally.
    pub(crate) fn tally<T>(&self, app: &str, tell: impl FnOnce(&mut Tally) -> T) -> T {
        let mut tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        tell(tallies.entry(app.to_string()).or_insert_with(|| Tally::new(Rails::default())))
    }

    /// Who was released by a person since this was asked last.
    pub(crate) fn take_redriven(&self, app: &str) -> Vec<ResourceId> {
        let mut redriven = self.redriven.lock().unwrap_or_else(PoisonError::into_inner);
        let of_app: Vec<LinkId> = redriven.iter().filter(|(name, _)| name == app).cloned().collect();
        redriven.retain(|(name, _)| name != app);
        of_app.into_iter().map(|(_, id)| id).collect()
    }

    /// What an event tells beside the link.
    fn notice(&self, event: &Event, details: Option<&Details>, was_off: bool) {
        for (operation, counted) in rails::counted(event, details, was_off) {
            self.tally(&event.app, |tally| tally.add(operation, counted, event.occurred_at));
        }
        let one = (event.app.clone(), event.resource_id);
        let mut redriven = self.redriven.lock().unwrap_or_else(PoisonError::into_inner);
        match &event.kind {
            Kind::Released { actor } if actor != RELEASED_BY => {
                redriven.insert(one);
            }
            Kind::Released { .. }
            | Kind::Intended { .. }
            | Kind::Done { .. }
            | Kind::Retrying { .. }
            | Kind::Refused { .. }
            | Kind::Held { .. }
            | Kind::ScopeEntered
            | Kind::ScopeLeft
            | Kind::Verified => {
                redriven.remove(&one);
            }
        }
    }

    /// Follows PROVISIONING until told to stop.
    pub(crate) async fn run(&self, shutdown: CancellationToken) -> Result<(), Error> {
        let mut messages = self.log.follow(1);
        loop {
            let message = tokio::select! {
                message = messages.next() => message,
                () = shutdown.cancelled() => return Ok(()),
            };
            let Some(message) = message.transpose()? else { return Ok(()) };
            let sequence = message.sequence;
            let encoded =
                provisioning::decode(message.payload).map_err(|source| unreadable(sequence, source))?;
            if !self.knows(&encoded.event, sequence) {
                let details = loop {
                    match self.open(&encoded, sequence).await {
                        Err(Error::Log(error)) if error.is_retryable() => {
                            tracing::warn!(%error, sequence, "waiting for data keys");
                            tokio::select! {
                                () = tokio::time::sleep(AGAIN_DELAY) => {}
                                () = shutdown.cancelled() => return Ok(()),
                            }
                        }
                        opened => break opened?,
                    }
                };
                self.enter(&encoded.event, details.as_ref(), sequence);
            }
            self.applied.send_replace(sequence);
        }
    }

    /// Whether an event is in its link already, because we wrote it.
    fn knows(&self, event: &Event, sequence: u64) -> bool {
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
        links.get(&(event.app.clone(), event.resource_id)).is_some_and(|link| link.last >= sequence)
    }

    /// Puts an event into its link. One of ours comes as soon as it is acknowledged: its guard says that nothing stands
    /// between it and what the link knows. The log tells it again a moment later.
    pub(crate) fn enter(&self, event: &Event, details: Option<&Details>, sequence: u64) {
        let mut links = self.links.write().unwrap_or_else(PoisonError::into_inner);
        let key = (event.app.clone(), event.resource_id);
        let mut link = links.remove(&key).unwrap_or_default();
        if link.last < sequence {
            self.notice(event, details, link.is_off);
            let account = link.remote_id.clone();
            link.apply(event, details, |id| links.get(&(event.app.clone(), id))?.remote_id.clone());
            if link.remote_id != account {
                (link.renamed_at, link.renamed_by) = (event.caused_by, sequence);
            }
            link.last = sequence;
        }
        links.insert(key, link);
    }

    async fn open(&self, encoded: &Encoded, sequence: u64) -> Result<Option<Details>, Error> {
        let Some(at) = encoded.event.key_ref.filter(|_| encoded.is_sealed()) else { return Ok(None) };
        let Some(key) = self.keyring.key(&encoded.event.tenant, at).await? else { return Ok(None) };
        encoded.open(&key).map(Some).map_err(|source| unreadable(sequence, source))
    }

    /// Reads an event, and its details where they can be opened.
    pub(crate) async fn read(&self, message: Message) -> Result<(Event, Option<Details>), Error> {
        let sequence = message.sequence;
        let encoded = provisioning::decode(message.payload).map_err(|source| unreadable(sequence, source))?;
        let details = self.open(&encoded, sequence).await?;
        Ok((encoded.event, details))
    }

    /// Waits until a sequence is applied.
    pub(crate) async fn wait_until(&self, sequence: u64, deadline: Instant) -> bool {
        let mut applied = self.applied.subscribe();
        tokio::time::timeout_at(deadline, applied.wait_for(|applied| *applied >= sequence)).await.is_ok()
    }

    /// Waits until everything is known that stands in PROVISIONING now.
    pub(crate) async fn catch_up(&self, timeout: Duration) -> Result<bool, Error> {
        let last = self.log.last_sequence().await?;
        Ok(self.wait_until(last, Instant::now() + timeout).await)
    }

    pub(crate) fn get(&self, app: &str, id: ResourceId) -> Link {
        let mut link = self.known(app, id);
        // As after a crash: the app is read before anything is sent to it.
        link.intent_open |= self.is_doubted(id, &link);
        link
    }

    fn known(&self, app: &str, id: ResourceId) -> Link {
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
        let mut link = links.get(&(app.to_string(), id)).cloned().unwrap_or_default();
        let known_as = std::mem::take(&mut link.known_as);
        link.members.retain(|member| {
            let now = links.get(&(app.to_string(), *member)).and_then(|link| link.remote_id.as_ref());
            // Who has no account now is a member until the plan takes him out.
            now.is_none() || now == known_as.get(member)
        });
        link
    }

    /// Whether a group that an app has lacks a member who has an account there, or has one who has none any more.
    pub(crate) fn lacks(&self, app: &str, group: ResourceId, member: ResourceId) -> bool {
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
        let of = |id: ResourceId| links.get(&(app.to_string(), id));
        let account = of(member).and_then(|link| link.remote_id.as_ref());
        of(group).is_some_and(|link| {
            let known_as = link.members.contains(&member).then(|| link.known_as.get(&member));
            match (known_as, account) {
                (Some(known_as), Some(account)) => known_as != Some(account),
                (Some(_), None) | (None, Some(_)) => true,
                (None, None) => false,
            }
        })
    }

    /// Whether an account at an app is another resource's. Looks at every link; only a refused name makes us ask.
    pub(crate) fn is_others(&self, app: &str, remote_id: &str, external_id: &str, id: ResourceId) -> bool {
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
        // One that was just made, or is about to be found again after a crash, is known by our id only.
        let owner = external_id.parse().ok().filter(|owner| *owner != id);
        let owner = owner.and_then(|owner| links.get(&(app.to_string(), owner)));
        if owner.is_some_and(|link| link.remote_id.is_some() || link.intent_open) {
            return true;
        }
        links.iter().any(|((name, other), link)| {
            name == app
                && *other != id
                && !link.trust.stranger
                && link.remote_id.as_deref() == Some(remote_id)
        })
    }

    /// Whether a resource waits to be read back because of a restore.
    pub(crate) fn waits_for_reading(&self, app: &str, id: ResourceId) -> bool {
        let link = self.known(app, id);
        link.held.is_none() && self.is_doubted(id, &link)
    }

    /// After a restore from a backup the app may hold anything that it was told since the backup. What was written
    /// down about a resource after the restore is known again, and what was made after it was never told to anybody.
    fn is_doubted(&self, id: ResourceId, link: &Link) -> bool {
        let Some(restored) = &self.restored else { return false };
        let made_at = id.uuid().get_timestamp().map_or(0, |time| time.to_unix().0);
        let was_there =
            i64::try_from(made_at).is_ok_and(|made_at| made_at <= restored.restored_at.as_second());
        link.last <= restored.provisioning && (link.last > 0 || was_there)
    }

    pub(crate) fn remote_id(&self, app: &str, id: ResourceId) -> Option<String> {
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
        links.get(&(app.to_string(), id))?.remote_id.clone()
    }

    /// The event of PROVISIONING that last made the app's id of a resource another.
    pub(crate) fn renamed_by(&self, app: &str, id: ResourceId) -> u64 {
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
        links.get(&(app.to_string(), id)).map_or(0, |link| link.renamed_by)
    }

    /// Whose account became another, was made or was lost at or after a sequence of IDENTITY.
    pub(crate) fn renamed_since(&self, app: &str, sequence: u64) -> Vec<ResourceId> {
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
        let renamed = |link: &Link| link.renamed_at > 0 && link.renamed_at >= sequence;
        let of_app = links.iter().filter(|((name, _), link)| name == app && renamed(link));
        of_app.map(|((_, id), _)| *id).collect()
    }

    /// Every resource that an app has, or may have, an account for.
    pub(crate) fn of_app(&self, app: &str) -> Vec<ResourceId> {
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
        links
            .iter()
            .filter(|((name, _), link)| name == app && (link.remote_id.is_some() || link.intent_open))
            .map(|((_, id), _)| *id)
            .collect()
    }

    /// How many resources an app has an account for.
    pub(crate) fn linked(&self, app: &str) -> usize {
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
        let of_app = links.range((app.to_string(), ResourceId::new(uuid::Uuid::nil()))..);
        of_app.take_while(|((name, _), _)| name == app).filter(|(_, link)| link.remote_id.is_some()).count()
    }

    /// What an app's resources are held for.
    pub(crate) fn held_items(&self, app: &str) -> Vec<(ResourceId, Held)> {
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
        let of_app = links.iter().filter(|((name, _), _)| name == app);
        of_app.filter_map(|((_, id), link)| Some((*id, link.held.clone()?))).collect()
    }

    /// Whose account at an app is switched off, and since when.
    pub(crate) fn deactivated(&self, app: &str) -> Vec<(ResourceId, Timestamp)> {
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
        let of_app = links.iter().filter(|((name, _), _)| name == app);
        of_app.filter_map(|((_, id), link)| Some((*id, link.deactivated_at?))).collect()
    }

    /// The app's ids of all that it has of ours.
    pub(crate) fn remote_ids(&self, app: &str) -> Vec<(String, ResourceId)> {
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
        let of_app = links.iter().filter(|((name, _), link)| name == app && !link.trust.stranger);
        of_app.filter_map(|((_, id), link)| Some((link.remote_id.clone()?, *id))).collect()
    }

    /// Whose these accounts are. Looks at every link.
    pub(crate) fn owners(&self, app: &str, remote_ids: &BTreeSet<String>) -> BTreeMap<String, ResourceId> {
        if remote_ids.is_empty() {
            return BTreeMap::new();
        }
        let owned = self.remote_ids(app).into_iter();
        owned.filter(|(remote_id, _)| remote_ids.contains(remote_id)).collect()
    }

    /// The link of an account that nobody of ours owns and that we took charge of.
    pub(crate) fn stranger(&self, app: &str, remote_id: &str) -> Option<ResourceId> {
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
        let is_it = |link: &Link| link.trust.stranger && link.remote_id.as_deref() == Some(remote_id);
        links.iter().find(|((name, _), link)| name == app && is_it(link)).map(|((_, id), _)| *id)
    }

    /// Those that no event makes due: access that nobody saw end, or something else that was seen and not answered yet.
    pub(crate) fn unfinished(&self, app: &str) -> Vec<(ResourceId, Option<Timestamp>)> {
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
        let open = |link: &Link| {
            let ended = link.trust.unverified.as_ref().map(|unverified| unverified.since);
            (link.trust.observed || ended.is_some()).then_some(ended)
        };
        let of_app = links.iter().filter(|((name, _), _)| name == app);
        of_app.filter_map(|((_, id), link)| Some((*id, open(link)?))).collect()
    }

    pub(crate) fn held(&self, app: &str) -> usize {
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
        links.iter().filter(|((name, _), link)| name == app && link.held.is_some()).count()
    }
}

fn unreadable(sequence: u64, source: proto::codec::Error) -> Error {
    Error::Event { stream: "PROVISIONING", sequence, source }
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
        match &event.kind {
            Kind::Intended { .. } => self.intent_open = true,
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
                    "read_back" | "adopt" | OBSERVE | OBSERVE_MEMBERS | STRANGER
                );
                let attempts = if read { self.attempts } else { 0 };
                let trust = std::mem::take(&mut self.trust);
                let (renamed_at, renamed_by) = (self.renamed_at, self.renamed_by);
                let kept = Self { last: self.last, renamed_at, renamed_by, trust, ..Self::default() };
                let settled = Self { attempts, ..kept };
                let before = std::mem::replace(self, settled);
                if !linked {
                    return;
                }
                self.remote_id = Some(remote_id.clone());
                self.is_off = match (operation.as_str(), details) {
                    ("adopt", _) => false,
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
                self.intended = match (operation.as_str(), details) {
                    ("adopt" | OBSERVE | STRANGER, _) => None,
                    ("change_members" | OBSERVE_MEMBERS, _) => before.intended,
                    ("deactivate", _) => Some(crate::plan::DEACTIVATED.to_string()),
                    (_, Some(details)) => {
                        Some(short_hash(Value::Object(details.intended.clone()).to_string().as_bytes()))
                    }
                    (_, None) => None,
                };
            }
            Kind::Retrying { attempt, after_ms, .. } => {
                self.attempts = *attempt;
                let after = SignedDuration::from_millis(i64::try_from(*after_ms).unwrap_or(i64::MAX));
                self.next_due_at = event.occurred_at.checked_add(after).ok();
            }
            Kind::Refused { .. } => self.intent_open = false,
            Kind::Held { operation, reason } => {
                self.intent_open = false;
                self.attempts = 0;
                self.next_due_at = None;
                self.held = Some(Held {
                    operation: operation.clone(),
                    reason: reason.clone(),
                    since: event.occurred_at,
                    wish: details.map(|details| details.detail.clone()).unwrap_or_default(),
                    configuration_hash: event.configuration_hash.clone(),
                });
            }
            Kind::Released { .. } => {
                self.held = None;
                self.next_due_at = None;
            }
            Kind::Verified => (self.attempts, self.next_due_at) = (0, None),
            Kind::ScopeEntered | Kind::ScopeLeft => {}
        }
    }
}

#[cfg(test)]
mod tests;
