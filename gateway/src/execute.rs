//! From a command to its outcome: look, decide, append under the guard, wait for our own projection.
//!
//! Nothing is decided on stale state. A success is protected by its guard; whatever appends nothing (a no-op, 404,
//! 409, 412) is said only after catching up with the log and deciding again.

use std::time::Duration;

use eventlog::{Append, Error as LogError, Guard, clock};
use projector::{KeyState, Projection, Stored};
use proto::sealing::DataKey;
use proto::subject::{self, Key, SubjectSecret};
use proto::{Event, EventId, KeyRef, Kind, Position, ResourceId, Tenant, Version};
use scim::validate::{self, Context};
use scim::{Error, ResourceType};
use tokio::time::Instant;

use crate::command::{Caller, Command};
use crate::decide::{Claim, Decision, Directory, Rejection, State, Terms, Write, decide, known_only};
use crate::rival::Found;
use crate::{Gateway, Inner};

/// What came of a command.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The resource as it is now.
    Resource(Box<Stored>),
    /// It is gone.
    Deleted,
}

/// Why a command came to nothing.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The caller's fault.
    Refused(Error),
    /// Ours, for the moment: come back later.
    Busy { doing: &'static str, source: Box<dyn std::error::Error + Send + Sync> },
    /// Ours.
    Broken { doing: &'static str, source: Box<dyn std::error::Error + Send + Sync> },
}

impl From<projector::Error> for Failure {
    fn from(error: projector::Error) -> Self {
        match error {
            projector::Error::TooMany { .. } => {
                Self::Refused(Error::new(scim::ScimType::TooMany, error.to_string()))
            }
            projector::Error::Lagging(_) => {
                Self::Busy { doing: "catching up with the log", source: error.into() }
            }
            projector::Error::Log(ref log) if log.is_retryable() => {
                Self::Busy { doing: "asking the log", source: error.into() }
            }
            projector::Error::Log(_)
            | projector::Error::Event { .. }
            | projector::Error::Stranger { .. }
            | projector::Error::Folder { .. }
            | projector::Error::Index(_)
            | projector::Error::Gone { .. } => {
                Self::Broken { doing: "reading the directory", source: error.into() }
            }
        }
    }
}

impl From<LogError> for Failure {
    fn from(error: LogError) -> Self {
        if error.is_retryable() {
            Self::Busy { doing: "writing to the log", source: error.into() }
        } else {
            Self::Broken { doing: "writing to the log", source: error.into() }
        }
    }
}

/// The directory around one resource, as the projection shows it now.
struct View<'a> {
    projection: &'a Projection,
    secret: &'a SubjectSecret,
    tenant: &'a Tenant,
    kind: &'a ResourceType,
    id: ResourceId,
}

impl Directory for View<'_> {
    fn key_of(&self, value: &str) -> Key {
        subject::key_of_value(self.secret, self.tenant, &self.kind.name, value)
    }

    fn claim_key(&self, attribute: &str, compared: &str) -> Key {
        subject::key_of_claim(self.secret, self.tenant, &self.kind.name, attribute, compared)
    }

    fn key(&self, key: &Key) -> KeyState {
        self.projection.key(self.tenant, &self.kind.name, key)
    }

    fn exists(&self, id: ResourceId) -> bool {
        self.projection.type_of(self.tenant, id).is_some()
    }

    fn is_member(&self, member: ResourceId) -> bool {
        self.projection.has_member(self.tenant, self.id, member)
    }

    fn members(&self) -> Vec<ResourceId> {
        self.projection.members(self.tenant, self.id)
    }
}

impl Gateway {
    /// The command of a POST; a body that is no resource is refused here.
    pub(crate) fn creation(
        &self,
        caller: &Caller,
        kind: &ResourceType,
        body: serde_json::Value,
    ) -> Result<Command, Error> {
        let inner = &*self.inner;
        let context = Context { registry: &inner.registry, kind, speech: caller.speech() };
        let rules = inner.policies.rules(caller, &inner.registry, kind);
        let terms = Terms { context, caller, limits: &inner.limits, rules: &rules };
        known_only(terms, &body).map_err(|rejection| rejection.into_error(&kind.name))?;
        let parts = validate::split(context, validate::create(context, body)?);
        Ok(Command::Create { id: clock::new_resource_id(), parts: Box::new(parts) })
    }

    /// Carries a command out. Every event that it causes names the transaction.
    pub(crate) async fn execute(
        &self,
        caller: &Caller,
        kind: &ResourceType,
        command: &Command,
        txn: &str,
    ) -> Result<Outcome, Failure> {
        let inner = &*self.inner;
        let deadline = Instant::now() + Duration::from_millis(inner.limits.request_timeout_ms);
        let rules = inner.policies.rules(caller, &inner.registry, kind);
        let context = Context { registry: &inner.registry, kind, speech: caller.speech() };
        let terms = Terms { context, caller, limits: &inner.limits, rules: &rules };
        let mut caught_up = false;
        for attempt in 0..inner.limits.attempts_max.max(1) {
            let found = match command {
                Command::Create { parts, .. } => inner.rival(caller, kind, &rules, parts).await?,
                Command::Replace { .. } | Command::Patch { .. } | Command::Delete { .. } => Found::Nobody,
            };
            let named = match command {
                Command::Create { .. } => None,
                Command::Replace { id, .. } | Command::Patch { id, .. } | Command::Delete { id, .. } => {
                    inner.projection.resource(&caller.tenant, &kind.name, *id).await?
                }
            };
            let current = named.as_ref().or(found.stored());
            let view = View {
                projection: &inner.projection,
                secret: &inner.secret,
                tenant: &caller.tenant,
                kind,
                id: current.map_or(command.id(), |current| current.id),
            };
            let state = State { current: named.as_ref(), rival: found.rival(), directory: &view };
            match decide(&state, terms, command) {
                Ok(Decision::Write(write)) => {
                    // A returning person under the former id is a new resource all the same.
                    let current = current.filter(|current| current.id == write.id).cloned();
                    match inner.append(caller, kind, current.as_ref(), *write, txn, deadline).await {
                        Err(LogError::Conflict) => {
                            metrics::counter!("rollcall_command_conflicts_total").increment(1);
                            inner.projection.catch_up(deadline).await?;
                            caught_up = true;
                            pause(attempt).await;
                        }
                        Err(error) => return Err(error.into()),
                        Ok(written) => {
                            return inner.answer(caller, kind, command, current, written, deadline).await;
                        }
                    }
                }
                Ok(Decision::Nothing) if caught_up => {
                    return current
                        .cloned()
                        .map(Box::new)
                        .map(Outcome::Resource)
                        .ok_or_else(|| refused(Rejection::NotFound, kind));
                }
                Err(Rejection::Invalid(error)) => return Err(Failure::Refused(error)),
                Err(rejection) if caught_up => return Err(refused(rejection, kind)),
                Ok(Decision::Nothing) | Err(_) => {
                    inner.projection.catch_up(deadline).await?;
                    caught_up = true;
                }
            }
        }
        metrics::counter!("rollcall_command_attempts_exhausted_total").increment(1);
        Err(Failure::Busy { doing: "deciding", source: "others kept changing the same resource".into() })
    }
}

fn refused(rejection: Rejection, kind: &ResourceType) -> Failure {
    Failure::Refused(rejection.into_error(&kind.name))
}

/// Between two decisions, so that many writers of one key do not all try again at once.
async fn pause(attempt: u32) {
    let jitter =
        u64::from(clock::random::<1>().map_or(0, |[byte]| byte)) % (1 + u64::from(attempt.min(10)) * 2);
    if jitter > 0 {
        tokio::time::sleep(Duration::from_millis(jitter)).await;
    }
}

/// What stands in the log now.
struct Written {
    position: Position,
    /// The last sequence of its batch.
    last: u64,
    write: Write,
    key_ref: KeyRef,
    occurred_at: jiff::Timestamp,
}

impl Inner {
    async fn append(
        &self,
        caller: &Caller,
        kind: &ResourceType,
        current: Option<&Stored>,
        mut write: Write,
        txn: &str,
        deadline: Instant,
    ) -> Result<Written, LogError> {
        let (key_ref, data_key) = self.data_key(&caller.tenant, current).await?;
        write.body.caller_address.clone_from(&caller.address);
        let event = Event {
            id: clock::new_event_id(),
            tenant: caller.tenant.clone(),
            resource_type: kind.name.clone(),
            resource_id: write.id,
            source: caller.source.clone(),
            actor: caller.actor.clone(),
            txn: txn.to_string(),
            occurred_at: clock::now(),
            reason: String::new(),
            key_ref: Some(key_ref),
            kind: write.kind.clone(),
        };
        let payload = proto::codec::encode(&event, Some((&write.body, &data_key, clock::random()?)));
        let append = to_append(&event, &write.key, write.guard, payload);
        let mut batch = vec![append];
        let mut follower = |kind: Kind, key: &Key, last: u64| {
            let event = Event { id: clock::new_event_id(), key_ref: None, kind, ..event.clone() };
            let payload = proto::codec::encode(&event, None);
            batch.push(to_append(&event, key, Guard::Last(last), payload));
        };
        if let Some((old_key, last)) = &write.moved {
            follower(Kind::Moved { to_key: write.key.clone() }, old_key, *last);
        }
        for Claim { attribute, key, last } in &write.claimed {
            follower(Kind::Claimed { attribute: attribute.clone() }, key, *last);
        }
        for Claim { attribute, key, last } in &write.released {
            follower(Kind::Released { attribute: attribute.clone() }, key, *last);
        }
        let length = batch.len() as u64;
        let sequence = match (batch.pop(), batch.is_empty()) {
            (Some(alone), true) => self.broker.identity.append(alone, deadline).await?,
            (last, _) => {
                batch.extend(last);
                let sequences = self.broker.identity.append_atomic(batch, deadline).await?;
                sequences.first().copied().unwrap_or_default()
            }
        };
        metrics::counter!("rollcall_events_total", "kind" => event.kind.name()).increment(1);
        tracing::debug!(tenant = %event.tenant, resource.id = %write.id, event.id = %event.id, sequence, kind = event.kind.name(), "event appended");
        Ok(Written {
            last: sequence + length - 1,
            position: Position { sequence, event: event.id },
            write,
            key_ref,
            occurred_at: event.occurred_at,
        })
    }

    /// The resource's own key; a new one for a new resource.
    async fn data_key(
        &self,
        tenant: &Tenant,
        current: Option<&Stored>,
    ) -> Result<(KeyRef, DataKey), LogError> {
        if let Some(key_ref) = current.and_then(|current| current.key_ref)
            && let Some(key) = self.keyring.key(tenant, key_ref).await?
        {
            return Ok((key_ref, key));
        }
        self.keyring.issue(tenant).await
    }

    /// The state after the event, once our own projection shows it; a projection that lags beyond the deadline does
    /// not turn a success into a failure.
    async fn answer(
        &self,
        caller: &Caller,
        kind: &ResourceType,
        command: &Command,
        current: Option<Stored>,
        written: Written,
        deadline: Instant,
    ) -> Result<Outcome, Failure> {
        let id = written.write.id;
        let visible = self.projection.wait_until(written.last, deadline).await;
        if matches!(command, Command::Delete { .. }) {
            return Ok(Outcome::Deleted);
        }
        if visible.is_ok() {
            match self.projection.resource(&caller.tenant, &kind.name, id).await? {
                Some(stored) => return Ok(Outcome::Resource(Box::new(stored))),
                // What is not guarded can come after the end of its resource, where it changes nothing.
                None if matches!(written.write.kind, Kind::MembersChanged { .. }) => {
                    return Err(refused(Rejection::NotFound, kind));
                }
                None => {}
            }
        }
        metrics::counter!("rollcall_answers_from_event_total").increment(1);
        Ok(Outcome::Resource(Box::new(from_event(kind, current, written))))
    }
}

fn to_append(event: &Event, key: &Key, guard: Guard, payload: bytes::Bytes) -> Append {
    let id: EventId = event.id;
    let subject = subject::identity(&event.tenant, &event.resource_type, key);
    Append { subject, guard, id, payload, headers: proto::cloud_events::headers(event) }
}

/// The resource as the event alone tells it.
fn from_event(kind: &ResourceType, current: Option<Stored>, written: Written) -> Stored {
    let Written { position, write, key_ref, occurred_at, .. } = written;
    let members_only = matches!(write.kind, Kind::MembersChanged { .. });
    let (document, external_ids) = match &current {
        Some(current) if members_only => (current.document.clone(), current.external_ids.clone()),
        Some(_) | None => (write.body.document, write.body.external_ids),
    };
    let mut claims = current.as_ref().map(|current| current.claims.clone()).unwrap_or_default();
    claims.retain(|_, key| !write.released.iter().any(|released| released.key == *key));
    claims.extend(write.claimed.into_iter().map(|claim| (claim.attribute, claim.key)));
    Stored {
        id: write.id,
        resource_type: kind.name.clone(),
        document,
        external_ids,
        created: current.as_ref().map_or(occurred_at, |current| current.created),
        last_modified: occurred_at,
        version: Version::new(position),
        key: write.key,
        guard: position.sequence,
        key_ref: Some(key_ref),
        claims,
    }
}
