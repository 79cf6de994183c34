//! Up to where an app or a feed has done its work; kept in the bucket LEASES.

use eventlog::{Bucket, Error, Log};
use proto::Position;
use serde::{Deserialize, Serialize};

/// A stored watermark.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(crate) struct Watermark {
    /// The last event whose work is done or held; nothing before the first.
    pub(crate) position: Option<Position>,
    /// Of what the work was planned with.
    pub(crate) configuration_hash: String,
}

/// What a stored watermark is worth.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Found {
    /// There is none.
    None,
    /// Work goes on after it.
    Trusted(Watermark),
    /// The log has another event there: another timeline.
    OtherTimeline,
}

fn key(name: &str) -> String {
    format!("watermark.{name}")
}

/// Reads a watermark and compares it with the log.
pub(crate) async fn load(bucket: &dyn Bucket, log: &dyn Log, name: &str) -> Result<Found, Error> {
    let Some((bytes, _)) = bucket.get(&key(name)).await? else { return Ok(Found::None) };
    let Ok(watermark) = serde_json::from_slice::<Watermark>(&bytes) else { return Ok(Found::None) };
    let Some(position) = watermark.position else { return Ok(Found::Trusted(watermark)) };
    match log.read(position.sequence).await? {
        Some(message) if message.id == Some(position.event) => Ok(Found::Trusted(watermark)),
        Some(_) | None => Ok(Found::OtherTimeline),
    }
}

/// Writes a watermark. The event at the sequence is read from the log, so that another timeline is noticed later.
pub(crate) async fn save(
    bucket: &dyn Bucket,
    log: &dyn Log,
    name: &str,
    sequence: u64,
    hash: &str,
) -> Result<(), Error> {
    let position = match log.read(sequence).await? {
        Some(message) => message.id.map(|event| Position { sequence, event }),
        None => None,
    };
    let watermark = Watermark { position, configuration_hash: hash.to_string() };
    let value = serde_json::to_vec(&watermark).unwrap_or_default();
    match bucket.get(&key(name)).await? {
        None => bucket.create(&key(name), value.into()).await?,
        Some((_, revision)) => bucket.update(&key(name), value.into(), revision).await?,
    };
    Ok(())
}
