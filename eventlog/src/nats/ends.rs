//! How far streams went, as the bucket ROLLCALL keeps it: a stream that lost its end, or a bucket that lost values, while
//! nobody ran looks as if that had never been. Each process writes it down whenever it looks after the broker, and compares
//! it when it connects.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::jetstream::Context;
use serde::{Deserialize, Serialize};

use super::log::is_absent;
use super::settings::{self, Seen, StreamSettings};
use super::unavailable;
use crate::{Bucket, Error, Timeline};

/// Where it stands in the bucket ROLLCALL.
const KEY: &str = "ends";
/// Those of which nothing else tells. Where IDENTITY went, every projection knows.
const KEPT: [&str; 3] = ["PROVISIONING", "CONTROL", settings::KEYS];
/// The subjects of the keys.
const ALL_KEYS: &str = "$KV.KEYS.>";
const KEYS_PREFIX: &str = "$KV.KEYS.";
/// The header of what stands for a deleted value, and what it says.
const MARK: &str = "KV-Operation";
const DELETED: [&str; 2] = ["DEL", "PURGE"];
/// How often in a row a stream must be shorter than it was: a new leader may have to catch up first.
const SHORTER_MAX: u32 = 10;
/// How long to wait before it is looked at again.
const AGAIN_DELAY: Duration = Duration::from_millis(200);

/// What was written down.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
struct Ends {
    /// The restore that the streams came from. After another one they begin where their backup ends.
    timeline: Option<String>,
    streams: BTreeMap<String, End>,
}

/// How far a stream went, and how many values it had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
struct End {
    last_sequence: u64,
    values: u64,
}

impl End {
    fn of(seen: Seen) -> Self {
        Self { last_sequence: seen.last_sequence, values: seen.values }
    }

    fn or_further(self, other: Self) -> Self {
        Self {
            last_sequence: self.last_sequence.max(other.last_sequence),
            values: self.values.max(other.values),
        }
    }
}

/// What a stream lost since it was seen; nothing when it only grew.
pub(super) fn lost(before: Seen, now: Seen) -> Option<String> {
    if now.last_sequence < before.last_sequence {
        return Some(format!(
            "it went to sequence {} and now ends at {}",
            before.last_sequence, now.last_sequence
        ));
    }
    (now.values < before.values)
        .then(|| format!("{} of its {} values are gone", before.values - now.values, before.values))
}

/// A key that was deleted after a sequence of the bucket's stream: that leaves a mark under its name. Reads all that was
/// written since.
pub(super) async fn deleted(context: &Context, after: u64) -> Result<Option<String>, Error> {
    let doing = || format!("looking for deleted values of {}", settings::KEYS);
    let stream = context.get_stream(settings::KEYS).await.map_err(|error| unavailable(doing(), error))?;
    let mut from = after + 1;
    loop {
        match stream.get_first_raw_message_by_subject(ALL_KEYS, from).await {
            Ok(message) if message.headers.get(MARK).is_some_and(|mark| DELETED.contains(&mark.as_str())) => {
                let name = message.subject.strip_prefix(KEYS_PREFIX).unwrap_or_default();
                return Ok(Some(format!("{name} was deleted")));
            }
            Ok(message) => from = message.sequence + 1,
            Err(error) if is_absent(&error.kind()) => return Ok(None),
            Err(error) => return Err(unavailable(doing(), error)),
        }
    }
}

/// What a stream is like, once it had time to be as it was: a new leader may have to catch up first.
pub(super) async fn look_again(
    context: &Context,
    wanted: &StreamSettings,
    before: Seen,
) -> Result<Seen, Error> {
    let mut now = settings::check(context, wanted).await?;
    for _ in 1..SHORTER_MAX {
        if now.created != before.created || lost(before, now).is_none() {
            break;
        }
        tokio::time::sleep(AGAIN_DELAY).await;
        now = settings::check(context, wanted).await?;
    }
    Ok(now)
}

/// Refuses streams that do not go as far any more as they once did.
pub(super) async fn check(
    context: &Context,
    bucket: &dyn Bucket,
    timeline: Option<&Timeline>,
    streams: &[(Seen, StreamSettings)],
) -> Result<(), Error> {
    let Some((ends, _)) = read(bucket).await? else { return Ok(()) };
    if ends.timeline.as_ref() != timeline.map(|timeline| &timeline.id) {
        return Ok(());
    }
    for (seen, wanted) in streams {
        let Some(end) = ends.streams.get(wanted.name()) else { continue };
        let before = Seen { last_sequence: end.last_sequence, values: end.values, ..*seen };
        let reason = match lost(before, *seen) {
            None if wanted.name() == settings::KEYS => deleted(context, before.last_sequence).await?,
            None => None,
            Some(_) => lost(before, look_again(context, wanted, before).await?),
        };
        if let Some(reason) = reason {
            let otherwise = match wanted.name() {
                settings::KEYS => "Nothing else opens what was sealed with them",
                _ => {
                    "Where there is neither, `rollcall backup` and `rollcall restore` what is there: then every app is read back \
                     before it is told anything, and tokens that were revoked are to be revoked again"
                }
            };
            return Err(Error::Damaged {
                doing: format!("checking the stream {}", wanted.name()),
                reason: format!(
                    "{reason}: the broker lost what was written there. Put its newer store back, or restore all of it from a \
                     backup. {otherwise}"
                ),
            });
        }
    }
    Ok(())
}

/// Writes down how far streams went. Whoever is overtaken by another process leaves it to the next time.
pub(super) async fn keep(
    bucket: &dyn Bucket,
    timeline: Option<&Timeline>,
    streams: impl Iterator<Item = (&'static str, Seen)>,
) -> Result<(), Error> {
    let found = read(bucket).await?;
    let timeline = timeline.map(|timeline| timeline.id.clone());
    let known = found.clone().map(|(ends, _)| ends).filter(|ends| ends.timeline == timeline);
    let mut ends = known.unwrap_or_default();
    ends.timeline = timeline;
    for (name, seen) in streams.filter(|(name, _)| KEPT.contains(name)) {
        let end = ends.streams.entry(name.to_string()).or_default();
        *end = end.or_further(End::of(seen));
    }
    let value = serde_json::to_vec(&ends).unwrap_or_default();
    let written = match found {
        Some((before, _)) if before == ends => return Ok(()),
        Some((_, revision)) => bucket.update(KEY, value.into(), revision).await,
        None => bucket.create(KEY, value.into()).await,
    };
    match written {
        Ok(_) | Err(Error::Conflict { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// What was written down, with its revision. What cannot be read is written anew.
async fn read(bucket: &dyn Bucket) -> Result<Option<(Ends, u64)>, Error> {
    let found = bucket.get(KEY).await?;
    Ok(found.map(|(value, revision)| (serde_json::from_slice(&value).unwrap_or_default(), revision)))
}
