//! Requests that are answered before they are carried out: RFC 9967 §2.5.1.
//!
//! What was accepted is written down first, sealed, so that it is carried out even if we die: whoever sees that a request is
//! not renewed any more takes it over, by a clock of his own, because no two processes need agree on what time it is. Each
//! event of a request names its transaction, so a second try knows from the log what the first one did.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use eventlog::{Error as LogError, clock};
use futures::StreamExt;
use proto::{Kind, Position, Tenant, Version};
use scim::bulk::{Operation, Request};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::batch::{Batch, Done};
use crate::command::{Caller, Heard};
use crate::{Gateway, Inner};

/// The event that tells what came of an operation.
pub(crate) const COMPLETED: &str = "urn:ietf:params:scim:event:misc:asyncresp";
/// How long a request belongs to the process that renewed it last. Others wait for as long as a write may take besides, so
/// that nothing of the first comes after they looked.
const LEASE: Duration = Duration::from_secs(15);
/// How often that is renewed, and how often others look for requests that nobody carries out.
const LOOK: Duration = Duration::from_secs(5);
/// The largest request that is written down; a message of the broker must hold it sealed. Larger ones are answered at once.
const RECORD_BYTES_MAX: usize = 768 * 1024;

/// A request as it is written down.
#[derive(Debug, Deserialize, Serialize)]
struct Record {
    source: String,
    dialect: String,
    actor: String,
    address: String,
    base_url: String,
    single: bool,
    errors_max: usize,
    operations: Vec<Value>,
    /// The log's last sequence when it was accepted: none of its events is older.
    since: u64,
}

/// Requests that somebody carries out: each by its revision, and since when we know that it stands.
type Seen = BTreeMap<String, (u64, Instant)>;

/// What is kept of it when it is done.
#[derive(Debug, Deserialize, Serialize)]
struct Completion {
    source: String,
    tokens: Vec<Value>,
}

/// What is known of a transaction.
pub(crate) enum Known {
    Nothing,
    Pending,
    /// One security event token for each operation.
    Done(Vec<Value>),
}

/// A request that was accepted.
pub(crate) struct Accepted {
    pub(crate) finished: oneshot::Receiver<Vec<Option<Value>>>,
}

impl Gateway {
    /// Writes a request down and begins to carry it out; gives it back when too much is under way already, or when it is
    /// too large.
    pub(crate) async fn accept(&self, batch: Batch) -> Result<Result<Accepted, Batch>, LogError> {
        let Ok(permit) = self.inner.under_way.clone().try_acquire_owned() else { return Ok(Err(batch)) };
        let record = Record {
            source: batch.caller.source.clone(),
            dialect: batch.caller.dialect.as_str().to_string(),
            actor: batch.caller.actor.clone(),
            address: batch.caller.address.clone(),
            base_url: batch.caller.base_url.clone(),
            single: batch.single,
            errors_max: batch.request.errors_max,
            operations: batch.request.operations.iter().map(Operation::to_json).collect(),
            since: self.inner.projection.applied(),
        };
        let key = key(&batch.caller.tenant, &batch.txn);
        let sealed = self.inner.seal(&batch.caller.tenant, &key, &record).await?;
        if sealed.len() > RECORD_BYTES_MAX {
            return Ok(Err(batch));
        }
        let revision = self.inner.broker.requests.create(&key, sealed).await?;
        metrics::counter!("rollcall_requests_accepted_total").increment(1);
        Ok(Ok(Accepted { finished: self.begin(batch, record, revision, permit) }))
    }

    /// What is known of a transaction of this tenant and source.
    pub(crate) async fn transaction(&self, caller: &Caller, txn: &str) -> Result<Known, LogError> {
        let inner = &self.inner;
        // Another text was never given to anybody, and the bucket would not know what to say to some.
        let Ok(txn) = uuid::Uuid::try_parse(txn) else { return Ok(Known::Nothing) };
        let key = key(&caller.tenant, &txn.to_string());
        // In this order: a request is removed only once its completion is there.
        let request = inner.broker.requests.get(&key).await?;
        if let Some((sealed, _)) = inner.broker.completions.get(&key).await? {
            let completion: Option<Completion> = inner.open(&caller.tenant, &key, &sealed).await?;
            let own = completion.filter(|completion| completion.source == caller.source);
            return Ok(own.map_or(Known::Nothing, |completion| Known::Done(completion.tokens)));
        }
        let Some((sealed, _)) = request else { return Ok(Known::Nothing) };
        let record: Option<Record> = inner.open(&caller.tenant, &key, &sealed).await?;
        let own = record.is_some_and(|record| record.source == caller.source);
        Ok(if own { Known::Pending } else { Known::Nothing })
    }

    fn begin(
        &self,
        batch: Batch,
        record: Record,
        revision: u64,
        permit: OwnedSemaphorePermit,
    ) -> oneshot::Receiver<Vec<Option<Value>>> {
        let gateway = self.clone();
        let (sender, finished) = oneshot::channel();
        tokio::spawn(async move {
            let _permit = permit;
            match gateway.carry_out(&batch, record, revision).await {
                Ok(results) => drop(sender.send(results)),
                Err(error) => {
                    // Whoever looks next takes it over.
                    tracing::warn!(error = %error, txn = batch.txn, "an accepted request was interrupted");
                }
            }
        });
        finished
    }

    async fn carry_out(
        &self,
        batch: &Batch,
        record: Record,
        mut revision: u64,
    ) -> Result<Vec<Option<Value>>, LogError> {
        let inner = &self.inner;
        let (tenant, source) = (&batch.caller.tenant, batch.caller.source.clone());
        let key = key(tenant, &batch.txn);
        let work = batch.carry_out(self);
        tokio::pin!(work);
        let carried = loop {
            tokio::select! {
                // Whoever was stopped for long looks first whether it is still his.
                biased;
                () = tokio::time::sleep(LOOK) => {
                    let sealed = inner.seal(tenant, &key, &record).await?;
                    revision = inner.broker.requests.update(&key, sealed, revision).await?;
                }
                carried = &mut work => break carried,
            }
        };
        if carried.interrupted {
            let doing = "carrying out an accepted request (it is begun again in a while)".to_string();
            return Err(LogError::Unavailable { doing, source: None });
        }
        let results = carried.results;
        let token = |(index, result): (usize, &Option<Value>)| Some(token(batch, index, result.as_ref()?));
        let tokens = results.iter().enumerate().filter_map(token).collect();
        let sealed = inner.seal(tenant, &key, &Completion { source, tokens }).await?;
        match inner.broker.completions.create(&key, sealed).await {
            Ok(_) | Err(LogError::Conflict { .. }) => inner.broker.requests.purge(&key).await?,
            Err(error) => return Err(error),
        }
        Ok(results)
    }

    /// Takes requests over that were accepted and that nobody carries out any more, until told to stop.
    pub async fn take_over(&self, shutdown: CancellationToken) {
        let mut seen = Seen::new();
        loop {
            if let Err(error) = self.look_for_abandoned(&mut seen).await {
                tracing::warn!(error = %error, "accepted requests cannot be looked for at the moment");
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    async fn look_for_abandoned(&self, seen: &mut Seen) -> Result<(), LogError> {
        let inner = &self.inner;
        let patience = LEASE + Duration::from_millis(inner.limits.request_timeout_ms);
        let keys: BTreeSet<String> = inner.broker.requests.keys().await?.into_iter().collect();
        seen.retain(|key, _| keys.contains(key));
        for key in keys {
            let Some((tenant, txn)) = parse_key(&key) else { continue };
            let Some((sealed, revision)) = inner.broker.requests.get(&key).await? else { continue };
            if !is_abandoned(seen, &key, revision, patience) {
                continue;
            }
            let record = match inner.open::<Record>(&tenant, &key, &sealed).await {
                Ok(Some(record)) => record,
                Ok(None) | Err(LogError::Damaged { .. }) => {
                    tracing::error!(key, "an accepted request cannot be read; it stays where it is");
                    continue;
                }
                Err(error) => return Err(error),
            };
            if inner.broker.completions.get(&key).await?.is_some() {
                inner.broker.requests.purge(&key).await?;
                continue;
            }
            let Ok(permit) = inner.under_way.clone().try_acquire_owned() else { return Ok(()) };
            let sealed = inner.seal(&tenant, &key, &record).await?;
            let revision = match inner.broker.requests.update(&key, sealed, revision).await {
                Ok(revision) => revision,
                Err(LogError::Conflict { .. }) => continue,
                Err(error) => return Err(error),
            };
            let batch = self.revive(&tenant, &txn, &record).await?;
            tracing::info!(txn, done = batch.done.len(), "taking over an accepted request");
            drop(self.begin(batch, record, revision, permit));
        }
        Ok(())
    }

    /// A request as it was, and what the log says was done of it.
    async fn revive(&self, tenant: &Tenant, txn: &str, record: &Record) -> Result<Batch, LogError> {
        let operation = |value: &Value| {
            let parsed = Operation::parse(value.clone());
            // An ordinary POST has no bulkId.
            if record.single { Operation { fault: None, ..parsed } } else { parsed }
        };
        let mut batch = Batch {
            caller: Caller {
                tenant: tenant.clone(),
                source: record.source.clone(),
                dialect: record.dialect.parse().unwrap_or_default(),
                actor: record.actor.clone(),
                address: record.address.clone(),
                base_url: record.base_url.clone(),
                reason: String::new(),
                heard: Arc::new(Heard::of(tenant, &record.source)),
            },
            txn: txn.to_string(),
            single: record.single,
            request: Request {
                errors_max: record.errors_max,
                operations: record.operations.iter().map(operation).collect(),
            },
            done: BTreeMap::new(),
        };
        let places = (0..batch.request.operations.len()).map(|index| (batch.txn_of(index), index));
        let places: BTreeMap<String, usize> = places.collect();
        let last = self.inner.broker.identity.last_sequence().await?;
        let mut messages = self.inner.broker.identity.follow(record.since + 1);
        // The stream never ends, so nobody must wait for what is not there yet.
        for sequence in record.since + 1..=last {
            let Some(message) = messages.next().await else { break };
            let message = message?;
            if let Ok(encoded) = proto::codec::decode(message.payload)
                && encoded.event.tenant == *tenant
                && let Some(index) = places.get(&encoded.event.txn)
                && let Some(done) = self.inner.done(&encoded.event, sequence)
            {
                // A circle that was closed wrote twice; the first says what was done.
                batch.done.entry(*index).or_insert(done);
            }
        }
        Ok(batch)
    }
}

impl Inner {
    /// What an event says was done; nothing for those that only follow another.
    fn done(&self, event: &proto::Event, sequence: u64) -> Option<Done> {
        let status = match event.kind {
            Kind::Created { .. } => 201,
            Kind::Updated { .. } | Kind::MembersChanged { .. } => 200,
            Kind::Deleted => 204,
            Kind::Moved { .. }
            | Kind::Claimed { .. }
            | Kind::Released { .. }
            | Kind::CredentialsChanged
            | Kind::Erased
            | Kind::TenantDropped
            | Kind::PassedOver => return None,
        };
        let kind = self.registry.by_name(&event.resource_type)?;
        let version = Version::new(Position { sequence, event: event.id }).to_string();
        Some(Done {
            status,
            version: Some(version).filter(|_| status != 204),
            path: format!("{}/{}", kind.endpoint, event.resource_id),
        })
    }

    async fn seal<T: Serialize + Sync>(
        &self,
        tenant: &Tenant,
        key: &str,
        value: &T,
    ) -> Result<Bytes, LogError> {
        let plain = serde_json::to_vec(value).unwrap_or_default();
        self.keyring.seal(tenant, &plain, key.as_bytes()).await
    }

    async fn open<T: serde::de::DeserializeOwned>(
        &self,
        tenant: &Tenant,
        key: &str,
        sealed: &[u8],
    ) -> Result<Option<T>, LogError> {
        let plain = self.keyring.open(tenant, sealed, key.as_bytes()).await?;
        Ok(serde_json::from_slice(&plain).ok())
    }
}

/// The security event token of an operation: RFC 9967 §2.5.1.3, with the members of one operation of a BulkResponse.
fn token(batch: &Batch, index: usize, result: &Value) -> Value {
    let path = match (result.get("location").and_then(Value::as_str), batch.request.operations.get(index)) {
        (Some(location), _) => {
            location.strip_prefix(batch.caller.base_url.as_str()).unwrap_or(location).to_string()
        }
        (None, Some(operation)) => operation.path.clone(),
        (None, None) => String::new(),
    };
    json!({
        "iss": batch.caller.base_url,
        "iat": clock::now().as_second(),
        "jti": clock::new_uuid().to_string(),
        "aud": [batch.caller.source],
        "txn": batch.txn_of(index),
        "sub_id": {"format": "scim", "uri": path},
        "events": {COMPLETED: result},
    })
}

/// Whether a request has stood for so long as nobody leaves one that he carries out.
fn is_abandoned(seen: &mut Seen, key: &str, revision: u64, patience: Duration) -> bool {
    let now = Instant::now();
    let known = seen.get(key).filter(|(known, _)| *known == revision);
    let since = known.map_or(now, |(_, since)| *since);
    seen.insert(key.to_string(), (revision, since));
    now.duration_since(since) >= patience
}

/// `tenant.txn`: neither holds a dot.
fn key(tenant: &Tenant, txn: &str) -> String {
    format!("{tenant}.{txn}")
}

fn parse_key(key: &str) -> Option<(Tenant, String)> {
    let (tenant, txn) = key.split_once('.')?;
    Some((tenant.parse().ok()?, txn.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_renewed_is_not_taken_over_and_what_is_not_is() {
        let (mut seen, patience) = (Seen::new(), LEASE + LOOK);
        for revision in 1..20 {
            assert!(!is_abandoned(&mut seen, "corp.a", revision, patience), "{revision}");
            tokio::time::advance(LOOK).await;
        }
        let mut waited = Duration::ZERO;
        while !is_abandoned(&mut seen, "corp.a", 20, patience) {
            tokio::time::advance(LOOK).await;
            waited += LOOK;
        }
        assert_eq!(waited, patience);
        assert!(!is_abandoned(&mut seen, "corp.a", 21, patience), "somebody else took it over");
    }
}
