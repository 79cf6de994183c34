//! Writing down what came of a call, under the guard of its link.

use eventlog::{Append, Guard, clock};
use jiff::{SignedDuration, Timestamp};
use proto::provisioning::{self, Details, Event, Kind};
use proto::{ResourceId, subject};
use scim::Object;
use tokio::time::Instant;

use super::look::Now;
use super::perform::{Ended, Performer, WRITE_TIMEOUT};
use crate::Error;
use crate::link::Link;
use crate::plan::{Call, wish};

/// First delay after a failure of one resource; it doubles.
const RETRY_MIN_MS: u64 = 500;
/// Longest delay.
const RETRY_MAX_MS: u64 = 60_000;
/// Why somebody is held whose name the app does not give.
pub(super) const TAKEN: &str = "the app says that another account has this name (409)";

impl Performer {
    /// The app answered that it did nothing, which closes the intent.
    #[expect(clippy::too_many_arguments, reason = "what is written down has so many parts")]
    pub(super) async fn not_done(
        &self,
        id: ResourceId,
        now: &Now,
        link: &Link,
        name: &str,
        status: u16,
        error: &str,
        why: &str,
    ) -> Result<Link, Error> {
        let refused = Kind::Refused { operation: name.to_string(), status, error: error.to_string() };
        self.write(id, now, link, refused, None, why).await?;
        Ok(self.shared.links.get(&self.name, id))
    }

    pub(super) async fn retry(
        &self,
        id: ResourceId,
        now: &Now,
        link: &Link,
        name: &str,
        status: u16,
    ) -> Result<Option<Ended>, Error> {
        let attempt = link.attempts + 1;
        if attempt >= self.config.attempts_max {
            let failed = format!("the app failed {attempt} times (last {status})");
            let reason = if status == 409 { TAKEN } else { &failed };
            return self.hold(id, now, link, name, reason).await;
        }
        let after_ms = (RETRY_MIN_MS << attempt.min(16)).min(RETRY_MAX_MS);
        let error = format!("the app answers {status}");
        let retrying = Kind::Retrying { operation: name.to_string(), attempt, after_ms, error };
        self.write(id, now, link, retrying, None, "failed").await?;
        let after = SignedDuration::from_millis(i64::try_from(after_ms).unwrap_or(i64::MAX));
        let due_at = clock::now().checked_add(after).unwrap_or(Timestamp::MAX);
        Ok(Some(Ended::Later { due_at }))
    }

    pub(super) async fn hold(
        &self,
        id: ResourceId,
        now: &Now,
        link: &Link,
        name: &str,
        reason: &str,
    ) -> Result<Option<Ended>, Error> {
        // Whoever is held is tried again with each change: that he still is, is no news.
        if link.held.as_ref().is_some_and(|held| held.is_for(name, reason)) {
            tracing::debug!(app = self.name, resource.id = %id, call = name, reason, "still held");
        } else {
            tracing::error!(app = self.name, resource.id = %id, call = name, reason, "held: a person must look at it");
            metrics::counter!("rollcall_app_held_total", "app" => self.name.clone()).increment(1);
        }
        let wish = wish(now.desired.as_ref().map_err(|leaving| *leaving));
        let details = Details { detail: wish, ..Details::default() };
        let held = Kind::Held { operation: name.to_string(), reason: reason.to_string() };
        self.write_details(id, now, link, held, Some(details), reason).await?;
        Ok(Some(Ended::Held { next: now.next }))
    }

    pub(super) async fn write(
        &self,
        id: ResourceId,
        now: &Now,
        link: &Link,
        kind: Kind,
        intended: Option<Object>,
        why: &str,
    ) -> Result<(), Error> {
        let details = intended.map(|intended| Details { intended, ..Details::default() });
        self.write_details(id, now, link, kind, details, why).await
    }

    /// Appends under the guard of the link; our own links show it as soon as it is acknowledged.
    pub(super) async fn write_details(
        &self,
        id: ResourceId,
        now: &Now,
        link: &Link,
        kind: Kind,
        details: Option<Details>,
        why: &str,
    ) -> Result<(), Error> {
        let (shared, tenant) = (&self.shared, &self.config.tenant);
        let sealed = match details {
            None => None,
            Some(details) => {
                let found = match now.key_ref {
                    Some(at) => shared.keyring.key(tenant, at).await?.map(|key| (at, key)),
                    None => None,
                };
                let (at, key) = match found {
                    Some(found) => found,
                    None => shared.keyring.issue(tenant).await?,
                };
                Some((at, key, details))
            }
        };
        let event = Event {
            id: clock::new_event_id(),
            tenant: tenant.clone(),
            app: self.name.clone(),
            resource_type: now.kind.name.clone(),
            resource_id: id,
            // What no event asks for belongs to no request.
            txn: if self.asked { clock::new_uuid().to_string() } else { String::new() },
            occurred_at: clock::now(),
            key_ref: sealed.as_ref().map(|(at, _, _)| *at),
            caused_by: shared.projection.applied(),
            configuration_hash: self.hash.clone(),
            why: why.to_string(),
            kind,
        };
        let payload = match &sealed {
            None => provisioning::encode(&event, None),
            Some((_, key, details)) => provisioning::encode(&event, Some((details, key, clock::random()?))),
        };
        let append = |last| Append {
            subject: subject::provisioning(tenant, &self.name, &now.kind.name, id),
            guard: Guard::Last(last),
            id: event.id,
            payload: payload.clone(),
            headers: eventlog::Headers::default(),
        };
        let deadline = Instant::now() + WRITE_TIMEOUT;
        let mut last = link.last;
        let sequence = loop {
            match shared.broker.provisioning.append(append(last), deadline).await {
                Ok(sequence) => break sequence,
                Err(conflict @ eventlog::Error::Conflict { .. }) => {
                    match self.still_open(id, link, last).await? {
                        Some(newer) => last = newer,
                        None => return Err(conflict.into()),
                    }
                }
                Err(error) => return Err(error.into()),
            }
        };
        shared.links.enter(&event, sealed.as_ref().map(|(_, _, details)| details), sequence);
        Ok(())
    }
}

impl Performer {
    /// The guard under which what came of a call can still be written down, when something else was written since: a person
    /// may release or decide meanwhile, and the call is open as before. Whoever else worked on it has closed it or opened
    /// another.
    async fn still_open(&self, id: ResourceId, link: &Link, last: u64) -> Result<Option<u64>, Error> {
        let Some(call) = link.unheard.open() else { return Ok(None) };
        if !self.shared.links.catch_up(WRITE_TIMEOUT).await? {
            return Ok(None);
        }
        let newer = self.shared.links.get(&self.name, id);
        Ok((newer.unheard.open() == Some(call) && newer.last > last).then_some(newer.last))
    }
}

/// What is written down when an app has no account.
pub(super) fn gone(operation: &str) -> Kind {
    let mut kind = done(operation, String::new(), Vec::new(), Vec::new(), false, 404);
    if let Kind::Done { linked, .. } = &mut kind {
        *linked = false;
    }
    kind
}

pub(super) fn done(
    operation: &str,
    remote_id: String,
    members_added: Vec<ResourceId>,
    members_removed: Vec<ResourceId>,
    members_replaced: bool,
    status: u16,
) -> Kind {
    let operation = operation.to_string();
    Kind::Done {
        operation,
        linked: true,
        remote_id,
        members_added,
        members_removed,
        members_replaced,
        status,
    }
}

/// What is written down about a call that was done.
pub(super) fn outcome_event(call: Call, answered_id: Option<String>, status: u16) -> (Kind, Option<Object>) {
    let name = call.name();
    match call {
        Call::Create { attributes, .. } => {
            let kind = done(name, answered_id.unwrap_or_default(), Vec::new(), Vec::new(), true, status);
            (kind, Some(attributes))
        }
        Call::Update { remote_id, attributes } => {
            (done(name, remote_id, Vec::new(), Vec::new(), false, status), Some(attributes))
        }
        Call::Deactivate { remote_id } => {
            (done(name, remote_id, Vec::new(), Vec::new(), false, status), None)
        }
        Call::Delete { remote_id } => {
            let mut kind = done(name, remote_id, Vec::new(), Vec::new(), false, status);
            if let Kind::Done { linked, .. } = &mut kind {
                *linked = false;
            }
            (kind, None)
        }
        Call::ChangeMembers { remote_id, added, removed } => {
            let (added, removed) = (added.into_iter().collect(), removed.into_iter().collect());
            (done(name, remote_id, added, removed, false, status), None)
        }
    }
}
