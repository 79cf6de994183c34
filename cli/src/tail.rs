//! `rollcall events tail`: who changed what, from what, to what.

use eventlog::{Keyring, Log, Message};
use futures::StreamExt;
use jiff::Timestamp;
use projector::When;
use proto::{Body, Event, ResourceId};
use scim::{Change, Registry};
use serde_json::{Value, json};

use crate::args::Tail;
use crate::output::print;
use crate::settings::Settings;
use crate::token::connect;
use crate::{Failure, at};

pub(crate) async fn run(settings: &Settings, tail: Tail) -> Result<(), Failure> {
    let master = settings.present_master_key()?;
    let broker = connect(settings).await?;
    let keyring = Keyring::new(broker.keys.clone(), master);
    let log = &*broker.identity;
    let failed = |error: eventlog::Error| Failure::of("reading the log", &error);
    let last = log.last_sequence().await.map_err(failed)?;
    let from = match &tail.from {
        None => last + 1,
        Some(text) => position(log, text, last).await?,
    };
    if tail.no_follow && from > last {
        return Ok(());
    }
    let mut messages = log.follow(from);
    loop {
        let message = tokio::select! {
            message = messages.next() => message,
            _ = tokio::signal::ctrl_c() => return Ok(()),
        };
        let Some(message) = message.transpose().map_err(failed)? else { return Ok(()) };
        let (sequence, time) = (message.sequence, message.time);
        let (event, body) = read(&keyring, message).await?;
        let changes = changes(&settings.registry, &event, body.as_ref());
        let wanted = tail.tenant.as_ref().is_none_or(|tenant| event.tenant.as_str() == tenant);
        if wanted {
            let text = if tail.json {
                as_json(sequence, time, &event, body.as_ref(), &changes)
            } else {
                as_text(sequence, time, &event, &changes)
            };
            if !print(&text) {
                return Ok(());
            }
        }
        if tail.no_follow && sequence >= last {
            return Ok(());
        }
    }
}

/// Where to begin, as `audit` reads moments.
async fn position(log: &dyn Log, text: &str, last: u64) -> Result<u64, Failure> {
    let found = match at::parse(text).map_err(|reason| Failure::new(format!("--from: {reason}")))? {
        When::Now => Ok(last + 1),
        When::Sequence(sequence) => Ok(sequence.max(1)),
        When::Instant(instant) => log.sequence_at(instant).await,
    };
    found.map_err(|error| Failure::of("finding the instant in the log", &error))
}

async fn read(keyring: &Keyring, message: Message) -> Result<(Event, Option<Body>), Failure> {
    let sequence = message.sequence;
    let doing = format!("reading the event at {sequence}");
    let encoded = proto::codec::decode(message.payload).map_err(|error| Failure::of(&doing, &error))?;
    let body = match encoded.event.key_ref.filter(|_| encoded.is_sealed()) {
        None => None,
        Some(at) => {
            match keyring.key(&encoded.event.tenant, at).await.map_err(|error| Failure::of(&doing, &error))? {
                None => None,
                Some(key) => Some(encoded.open(&key).map_err(|error| Failure::of(&doing, &error))?),
            }
        }
    };
    Ok((encoded.event, body))
}

/// What an event changed; values that no answer shows are not told here, either.
fn changes(registry: &Registry, event: &Event, body: Option<&Body>) -> Vec<Change> {
    let mut changes = body.map(|body| body.all_changes(event)).unwrap_or_default();
    scim::veil(registry, registry.by_name(&event.resource_type), &mut changes);
    changes
}

fn as_json(sequence: u64, time: Timestamp, event: &Event, body: Option<&Body>, changes: &[Change]) -> String {
    let (added, removed) = event.kind.members();
    let ids = |ids: &[ResourceId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut line = json!({
        "sequence": sequence,
        "time": time.to_string(),
        "id": event.id.to_string(),
        "kind": event.kind.name(),
        "tenant": event.tenant,
        "resourceType": event.resource_type,
        "resourceId": event.resource_id.to_string(),
        "source": event.source,
        "actor": event.actor,
        "txn": event.txn,
        "occurredAt": event.occurred_at.to_string(),
        "changes": changes,
    });
    if let Some(line) = line.as_object_mut() {
        if !added.is_empty() || !removed.is_empty() {
            line.insert("membersAdded".to_string(), json!(ids(added)));
            line.insert("membersRemoved".to_string(), json!(ids(removed)));
        }
        if let Some(body) = body.filter(|body| !body.caller_address.is_empty()) {
            line.insert("callerAddress".to_string(), body.caller_address.clone().into());
        }
        if !event.reason.is_empty() {
            line.insert("reason".to_string(), event.reason.clone().into());
        }
        if event.key_ref.is_some() && body.is_none() {
            line.insert("erased".to_string(), true.into());
        }
    }
    line.to_string()
}

fn as_text(sequence: u64, time: Timestamp, event: &Event, changes: &[Change]) -> String {
    let time = time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ");
    let kind = event.kind.name();
    let mut text = format!(
        "{sequence:>8}  {time}  {}  {kind} {} {}  by {}/{}",
        event.tenant, event.resource_type, event.resource_id, event.source, event.actor
    );
    if !event.reason.is_empty() {
        text.push_str(&format!("\n          because {}", event.reason));
    }
    let value =
        |value: &Option<Value>| value.as_ref().map_or_else(|| "nothing".to_string(), Value::to_string);
    for change in changes {
        text.push_str(&format!(
            "\n          {}: {} -> {}",
            change.path,
            value(&change.before),
            value(&change.after)
        ));
    }
    let (added, removed) = event.kind.members();
    for id in removed {
        text.push_str(&format!("\n          - member {id}"));
    }
    for id in added {
        text.push_str(&format!("\n          + member {id}"));
    }
    text
}
