//! From a command to its outcome: look, decide, append under the guard, wait for our own projection.
//!
//! Nothing is decided on stale state. A success is protected by its guard; whatever appends nothing (a no-op, 404,
//! 409, 412, and 400 too: what a path leads to is a matter of the state) is said only after catching up with the log
//! and deciding again. So is what rests on more than its guards watch: `Write::beyond_guards`, and `fresh.rs`.

use std::sync::Arc;
use std::time::Duration;

use eventlog::{Append, Error as LogError, Guard, clock};
use projector::{Announced, Cut, KeyState, Lens, Projection, Stored};
use proto::sealing::DataKey;
use proto::subject::{self, Key, SubjectSecret};
use proto::{Body, Event, KeyRef, Kind, Position, ResourceId, Tenant, Version};
use scim::validate::{self, Context};
use scim::{Error, ResourceType};
use serde_json::Value;
use tokio::time::Instant;

use crate::command::{Caller, Command};
use crate::decide::{Decision, Directory, Rejection, State, Terms, Write, decide, known_only};
use crate::forgotten::{Forgotten, unused};
use crate::fresh::{looks_beyond_guards, within};
use crate::messages::{Unsent, messages};
use crate::rival::Found;
use crate::{Gateway, Inner};

/// What came of a command.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The resource as it is now.
    Resource(Box<Stored>),
    /// The resource as its event tells it, which our own projection does not show, or shows changed again: what is derived
    /// there, such as members, does not belong to it.
    Told(Box<Stored>),
    /// It is gone.
    Deleted,
}

/// Why a command came to nothing.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The caller's fault.
    Refused(Error),
    /// Ours, for the moment, and nothing was done: come back later.
    Busy { doing: &'static str, source: Box<dyn std::error::Error + Send + Sync> },
    /// The same, but what was asked for may have been done.
    Unknown { doing: &'static str, source: Box<dyn std::error::Error + Send + Sync> },
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
            | projector::Error::Replaced { .. }
            | projector::Error::Folder { .. }
            | projector::Error::Index(_)
            | projector::Error::NotYet { .. }
            | projector::Error::NotKept { .. }
            | projector::Error::Snapshot { .. }
            | projector::Error::Gone { .. } => {
                Self::Broken { doing: "reading the directory", source: error.into() }
            }
        }
    }
}

impl Failure {
    /// The log failed while something was written to it.
    pub(crate) fn writing(error: LogError) -> Self {
        let doing = "writing to the log";
        if error.is_retryable() {
            Self::Unknown { doing, source: error.into() }
        } else {
            Self::Broken { doing, source: error.into() }
        }
    }

    /// The log failed while it was only read.
    pub(crate) fn reading(error: LogError) -> Self {
        let doing = "asking the log";
        if error.is_retryable() {
            Self::Busy { doing, source: error.into() }
        } else {
            Self::Broken { doing, source: error.into() }
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
    /// The resource that the command names, and who asks.
    named: Option<&'a Stored>,
    caller: &'a Caller,
    forgotten: &'a Forgotten,
}

impl Directory for View<'_> {
    fn key_of(&self, value: &str) -> Key {
        subject::key_of_value(self.secret, self.tenant, &self.kind.name, value)
    }

    fn claim_key(&self, attribute: &str, compared: &str) -> Key {
        subject::key_of_claim(self.secret, self.tenant, &self.kind.name, attribute, compared)
    }

    fn request_key(&self, request: &str, turn: u8) -> Key {
        subject::key_of_request(self.secret, self.tenant, &self.kind.name, request, turn)
    }

    fn key(&self, key: &Key) -> KeyState {
        let known = self.projection.key(self.tenant, &self.kind.name, key);
        let last = Some(known.last).filter(|last| *last > 0).or_else(|| self.forgotten.get(key).copied());
        KeyState { last: last.unwrap_or_default(), ..known }
    }

    fn exists(&self, id: ResourceId) -> bool {
        self.projection.type_of(self.tenant, id).is_some()
    }

    fn was_there(&self, id: ResourceId) -> bool {
        self.projection.was_there(self.tenant, id)
    }

    fn is_member(&self, member: ResourceId) -> bool {
        self.projection.has_member(self.tenant, self.id, member)
    }

    fn members(&self) -> Vec<ResourceId> {
        self.projection.members(self.tenant, self.id)
    }

    fn members_shown(&self) -> Vec<Value> {
        let Some(named) = self.named else { return Vec::new() };
        let (source, base_url) = (self.caller.source.clone(), self.caller.base_url.clone());
        let lens = Lens { source, base_url, members: true, ..Lens::default() };
        match self.projection.represent(self.tenant, named, self.kind, &lens).remove("members") {
            Some(Value::Array(members)) => members,
            Some(_) | None => Vec::new(),
        }
    }
}

impl Gateway {
    /// The command of a POST; a body that is no resource is refused here.
    pub(crate) fn creation(
        &self,
        caller: &Caller,
        kind: &ResourceType,
        body: Value,
    ) -> Result<Command, Error> {
        let inner = &*self.inner;
        let context = Context { registry: &inner.registry, kind, speech: caller.speech() };
        let rules = inner.policies.rules(caller, &inner.registry, kind);
        let terms = Terms { context, caller, limits: &inner.limits, rules: &rules };
        known_only(terms, || validate::unknown(context, &body))
            .map_err(|rejection| rejection.into_error(&kind.name))?;
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
        let has_members = inner.registry.core(kind).iter().any(|attribute| attribute.name == "members");
        let mut caught_up = looks_beyond_guards(command, &rules, has_members);
        if caught_up {
            inner.catch_up("premise", deadline).await?;
        }
        let mut forgotten = Forgotten::default();
        for attempt in 0..inner.limits.attempts_max.max(1) {
            let looked_at = inner.projection.applied();
            let found = match command {
                Command::Create { parts, .. } => inner.rival(terms, parts).await?,
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
                named: named.as_ref(),
                caller,
                forgotten: &forgotten,
            };
            let rival = found.rival();
            let state = State { current: named.as_ref(), rival, looked_at, directory: &view };
            match decide(&state, terms, command) {
                Ok(Decision::Write(write)) if caught_up || !write.beyond_guards => {
                    // A returning person under the former id is a new resource all the same.
                    let current = current.filter(|current| current.id == write.id).cloned();
                    let key = within(deadline, || inner.data_key(&caller.tenant, current.as_ref())).await?;
                    let unused = unused(&write);
                    match inner.append(caller, kind, key, *write, txn, deadline).await {
                        Err(LogError::Conflict { .. }) => {
                            metrics::counter!("rollcall_command_conflicts_total").increment(1);
                            inner.catch_up("conflict", deadline).await?;
                            inner.remember(caller, kind, unused, &mut forgotten, deadline).await?;
                            caught_up = true;
                            pause(attempt).await;
                        }
                        Err(error) => return Err(Failure::writing(error)),
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
                Err(Rejection::Overtaken) => pause(attempt).await,
                Err(rejection) if caught_up => return Err(refused(rejection, kind)),
                Ok(Decision::Write(_)) => {
                    inner.catch_up("premise", deadline).await?;
                    caught_up = true;
                }
                Ok(Decision::Nothing) | Err(_) => {
                    inner.catch_up("nothing written", deadline).await?;
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
    body: Arc<Body>,
    key_ref: KeyRef,
    occurred_at: jiff::Timestamp,
}

impl Inner {
    async fn append(
        &self,
        caller: &Caller,
        kind: &ResourceType,
        (key_ref, data_key): (KeyRef, DataKey),
        mut write: Write,
        txn: &str,
        deadline: Instant,
    ) -> Result<Written, LogError> {
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
            reason: caller.reason.clone(),
            key_ref: Some(key_ref),
            continued: false,
            kind: write.kind.clone(),
        };
        let (id, occurred_at) = (event.id, event.occurred_at);
        let body = Arc::new(std::mem::take(&mut write.body));
        let (messages, version) = messages(event, &write, body.clone());
        let length = messages.len() as u64;
        let version = (version as u64, messages.get(version).map_or(id, |message| message.event.id));
        let mut appends = Vec::with_capacity(messages.len());
        let mut announced = Vec::with_capacity(messages.len());
        for Unsent { event, key, guard, body } in messages {
            let sealed = match &body {
                Some(body) => Some((&**body, &data_key, clock::random()?)),
                None => None,
            };
            let payload = proto::codec::encode(&event, sealed);
            let subject = subject::identity(&event.tenant, &event.resource_type, &key);
            let headers = proto::cloud_events::headers(&event).into();
            metrics::counter!("rollcall_events_total", "kind" => event.kind.name()).increment(1);
            appends.push(Append { subject, guard, id: event.id, payload: payload.clone(), headers });
            announced.push(Announced { event, key, body, payload });
        }
        let announcement = self.projection.announce(announced);
        let first = match (appends.pop(), appends.is_empty()) {
            (Some(alone), true) => self.broker.identity.append(alone, deadline).await?,
            (last, _) => {
                appends.extend(last);
                let sequences = self.broker.identity.append_atomic(appends, deadline).await?;
                sequences.first().copied().unwrap_or_default()
            }
        };
        announcement.stands_at(first, clock::now());
        tracing::debug!(tenant = %caller.tenant, resource.id = %write.id, sequence = first, kind = write.kind.name(), "event appended");
        let position = Position { sequence: first + version.0, event: version.1 };
        Ok(Written { position, last: first + length - 1, write, body, key_ref, occurred_at })
    }

    /// The resource's own key; a new one for a new resource.
    async fn data_key(
        &self,
        tenant: &Tenant,
        current: Option<&Stored>,
    ) -> Result<(KeyRef, DataKey), projector::Error> {
        if let Some(key_ref) = current.and_then(|current| current.key_ref)
            && let Some(key) = self.keyring.key(tenant, key_ref).await?
        {
            return Ok((key_ref, key));
        }
        Ok(self.keyring.issue(tenant).await?)
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
        let mut created = None;
        if visible.is_ok() {
            let unguarded = written.write.guard == Guard::None;
            match self.projection.resource(&caller.tenant, &kind.name, id).await {
                // Somebody may have changed it again since: what the client hears is what its own command led to.
                Ok(Some(stored)) if unguarded || stored.version.sequence() <= written.position.sequence => {
                    return Ok(Outcome::Resource(Box::new(stored)));
                }
                // Without a guard nobody saw to it that it was still there, and it was not, or is not any more.
                Ok(None) if unguarded => return Err(refused(Rejection::NotFound, kind)),
                Err(error) if unguarded => {
                    return Err(Failure::Unknown { doing: "reading what was written", source: error.into() });
                }
                Ok(shown) => created = shown.map(|shown| shown.created),
                // What stands in the log was done, whether or not it can be read at the moment.
                Err(error) => tracing::debug!(%error, "what was written cannot be read"),
            }
        }
        metrics::counter!("rollcall_answers_from_event_total").increment(1);
        let told = from_event(kind, current, written);
        Ok(Outcome::Told(Box::new(Stored { created: created.unwrap_or(told.created), ..told })))
    }
}

/// The resource as the event alone tells it.
fn from_event(kind: &ResourceType, current: Option<Stored>, written: Written) -> Stored {
    let Written { position, write, body, key_ref, occurred_at, .. } = written;
    let members_only = matches!(write.kind, Kind::MembersChanged { .. });
    let (document, external_ids) = match &current {
        Some(current) if members_only => (current.document.clone(), current.external_ids.clone()),
        Some(_) | None => (body.document.clone(), body.external_ids.clone().into()),
    };
    let mut claims = current.as_ref().map(|current| current.claims.clone()).unwrap_or_default();
    claims.retain(|_, key| !write.released.iter().any(|released| released.key == *key));
    claims.extend(write.claimed.into_iter().map(|claim| (claim.attribute, claim.key)));
    Stored {
        id: write.id,
        row: position.sequence,
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
        cuts: Cut::default(),
    }
}
