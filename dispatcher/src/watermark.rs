//! Up to where an app or a feed has done its work; kept in the bucket LEASES.

use eventlog::{Broker, Error};
use proto::Position;
use serde::{Deserialize, Serialize};

/// A stored watermark.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub(crate) struct Watermark {
    /// The last event whose work is done or held; nothing before the first.
    pub(crate) position: Option<Position>,
    /// Of what the work was planned with.
    pub(crate) configuration_hash: String,
    /// The restore that the log came from then.
    #[serde(default)]
    pub(crate) timeline: Option<String>,
}

/// What a stored watermark is worth.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Found {
    /// There is none.
    None,
    /// Work goes on after it.
    Trusted(Watermark),
    /// The log was restored from a backup since. It goes as far as this, but more was done than it knows of.
    Restored(Watermark),
    /// The log has another event there: another timeline.
    OtherTimeline,
}

/// Where it stands.
pub(crate) fn key(name: &str) -> String {
    format!("watermark.{name}")
}

/// Reads a watermark and compares it with the log.
pub(crate) async fn load(broker: &Broker, name: &str) -> Result<Found, Error> {
    let Some((bytes, _)) = broker.leases.get(&key(name)).await? else { return Ok(Found::None) };
    let Ok(watermark) = serde_json::from_slice::<Watermark>(&bytes) else { return Ok(Found::None) };
    compare(broker, watermark).await
}

/// Compares a watermark with the log.
pub(crate) async fn compare(broker: &Broker, watermark: Watermark) -> Result<Found, Error> {
    if let Some(position) = watermark.position {
        let message = broker.identity.read(position.sequence).await?;
        if message.is_none_or(|message| message.id != Some(position.event)) {
            return Ok(Found::OtherTimeline);
        }
    }
    if watermark.timeline != timeline(broker) {
        return Ok(Found::Restored(watermark));
    }
    Ok(Found::Trusted(watermark))
}

fn timeline(broker: &Broker) -> Option<String> {
    broker.timeline.as_ref().map(|timeline| timeline.id.clone())
}

/// The watermark of a sequence. The event there is read from the log, so that another timeline is noticed later.
pub(crate) async fn at(broker: &Broker, sequence: u64, hash: &str) -> Result<Watermark, Error> {
    let position = match broker.identity.read(sequence).await? {
        Some(message) => message.id.map(|event| Position { sequence, event }),
        None => None,
    };
    let timeline = timeline(broker);
    Ok(Watermark { position, configuration_hash: hash.to_string(), timeline })
}

/// Writes a watermark.
pub(crate) async fn save(broker: &Broker, name: &str, sequence: u64, hash: &str) -> Result<(), Error> {
    let watermark = at(broker, sequence, hash).await?;
    let value = serde_json::to_vec(&watermark).unwrap_or_default();
    match broker.leases.get(&key(name)).await? {
        None => broker.leases.create(&key(name), value.into()).await?,
        Some((_, revision)) => broker.leases.update(&key(name), value.into(), revision).await?,
    };
    Ok(())
}
