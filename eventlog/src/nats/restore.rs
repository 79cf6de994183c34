//! Restoring a backup into a broker that has no such streams.
//!
//! Each stream is marked as unfinished while it is restored, and the marks go last: whoever connects meanwhile is
//! refused, and a restore that was interrupted can be run again, because what is marked holds nothing of anybody's.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::{self, stream};
use async_nats::{Client, Subscriber};
use bytes::Bytes;
use futures::StreamExt;
use proto::sealing::DataKey;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use super::backup::{Numbers, Progress, Told};
use super::connect::{self, Config, PATIENT_TIMEOUT};
use super::manifest::{Backup, Entry, damaged, hexadecimal, refused};
use super::{settings, unavailable};
use crate::{Error, Timeline, clock, secret, timeline};

/// Stands in the metadata of a stream while a restore is not finished.
pub(super) const UNFINISHED: &str = "rollcall-restore-unfinished";
/// Stands there afterwards.
const RESTORED: &str = "rollcall-restored-from";
/// The broker's own notes, which it makes anew.
const BROKERS_OWN: &str = "_nats.";
/// One piece. Small, because the broker gives up when it works on one for five seconds, and it may sync each message.
const CHUNK_BYTES: usize = 32 * 1024;
/// Pieces under way.
const WINDOW_PIECES: usize = 8;
/// How long the broker may take for a piece.
const PIECE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long it may take to finish a stream.
const FINISH_TIMEOUT: Duration = Duration::from_secs(300);

/// Restores everything and compares it with the manifest. `keys_from` is a newer backup of the same installation
/// whose data keys are taken, so that keys erased since do not come back.
pub async fn restore(
    config: &Config,
    backup: &Backup,
    keys_from: Option<&Backup>,
    master: &DataKey,
    told: Told<'_>,
) -> Result<Timeline, Error> {
    let sources = sources(backup, keys_from)?;
    backup.manifest.check_master(master)?;
    let client = connect::client(config, PATIENT_TIMEOUT).await?;
    let version = client.server_info().version;
    settings::check_version(&version)?;
    settings::check_not_older(&version, &backup.manifest.server)?;
    let context = connect::context(&client, PATIENT_TIMEOUT);
    clear(&context, &sources).await?;
    for (source, entry) in &sources {
        stream_of(&client, &context, config, source, entry, &backup.id, told).await?;
    }
    check_secret(&context, backup, master).await?;
    let timeline = begin_timeline(&context, backup).await?;
    // IDENTITY comes last: as long as it is marked nobody connects.
    for (_, entry) in sources.iter().rev() {
        unmark(&context, &entry.name).await?;
    }
    // Compares all settings, and makes what this version has and the backup's did not.
    connect::connect(config).await?;
    Ok(timeline)
}

/// Each stream and the backup it comes from. IDENTITY comes first, so that its mark stands before anything else does.
fn sources<'a>(
    backup: &'a Backup,
    keys_from: Option<&'a Backup>,
) -> Result<Vec<(&'a Backup, &'a Entry)>, Error> {
    let doing = "taking the data keys from another backup";
    if let Some(newer) = keys_from {
        let fingerprint =
            |backup: &Backup| backup.manifest.subject_secret.as_ref().map(|it| it.fingerprint.clone());
        if fingerprint(newer) != fingerprint(backup) {
            return Err(refused(doing, format!("{} is of another installation", newer.folder.display())));
        }
        if newer.manifest.begun_at < backup.manifest.begun_at {
            return Err(refused(
                doing,
                format!("{} is older; keys made since then would be missing", newer.folder.display()),
            ));
        }
    }
    let mut sources: Vec<(&Backup, &Entry)> = Vec::new();
    for entry in &backup.manifest.streams {
        let newer = keys_from.filter(|_| entry.name == "KV_KEYS");
        let source = newer.and_then(|newer| Some((newer, newer.manifest.stream(&entry.name)?)));
        sources.push(source.unwrap_or((backup, entry)));
    }
    sources.sort_by_key(|(_, entry)| entry.name != "IDENTITY");
    Ok(sources)
}

/// Refuses a broker that has one of the streams, unless an unfinished restore left it.
async fn clear(context: &jetstream::Context, sources: &[(&Backup, &Entry)]) -> Result<(), Error> {
    let doing = "restoring into this broker";
    let mut found = BTreeMap::new();
    for (_, entry) in sources {
        if let Some(metadata) = metadata(context, &entry.name).await? {
            found.insert(entry.name.clone(), metadata);
        }
    }
    let unfinished: Vec<&String> = found.values().filter_map(|metadata| metadata.get(UNFINISHED)).collect();
    let is_ours = |metadata: &Metadata| {
        metadata.contains_key(UNFINISHED)
            || metadata.get(RESTORED).is_some_and(|from| unfinished.contains(&from))
    };
    let foreign: Vec<&str> =
        found.iter().filter(|(_, metadata)| !is_ours(metadata)).map(|(name, _)| name.as_str()).collect();
    if !foreign.is_empty() {
        return Err(refused(
            doing,
            format!(
                "it has the streams {} already, and nothing is overwritten. Restore into a broker without them: an empty \
                 data folder, or after the old store was moved away",
                foreign.join(", ")
            ),
        ));
    }
    // IDENTITY is removed last: as long as it is there and marked, the rest is known to be unfinished.
    for (_, entry) in sources.iter().rev().filter(|(_, entry)| found.contains_key(&entry.name)) {
        context
            .delete_stream(&entry.name)
            .await
            .map_err(|error| unavailable(format!("removing the unfinished stream {}", entry.name), error))?;
    }
    Ok(())
}

type Metadata = BTreeMap<String, String>;

/// A stream's notes; nothing when there is no such stream.
async fn metadata(context: &jetstream::Context, name: &str) -> Result<Option<Metadata>, Error> {
    match context.get_stream(name).await {
        Ok(stream) => Ok(Some(stream.cached_info().config.metadata.clone().into_iter().collect())),
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(answer)
                if answer.error_code() == jetstream::ErrorCode::STREAM_NOT_FOUND =>
            {
                Ok(None)
            }
            GetStreamErrorKind::EmptyName
            | GetStreamErrorKind::Request
            | GetStreamErrorKind::InvalidStreamName
            | GetStreamErrorKind::JetStream(_) => {
                Err(unavailable(format!("looking for the stream {name}"), error))
            }
        },
    }
}

/// Where the broker wants the pieces.
#[derive(Deserialize)]
struct Begun {
    deliver_subject: String,
}

/// What the broker made of them.
#[derive(Deserialize)]
struct Made {
    state: Numbers,
}

/// Restores one stream and compares it with its entry.
async fn stream_of(
    client: &Client,
    context: &jetstream::Context,
    config: &Config,
    source: &Backup,
    entry: &Entry,
    id: &str,
    told: Told<'_>,
) -> Result<(), Error> {
    let doing = || format!("restoring the stream {}", entry.name);
    let request = json!({
        "config": settings_of(entry, config.replicas.max(1), id),
        "state": {
            "messages": entry.messages, "bytes": entry.bytes, "first_seq": entry.first_sequence,
            "last_seq": entry.last_sequence, "consumer_count": 0,
            "first_ts": "1970-01-01T00:00:00Z", "last_ts": "1970-01-01T00:00:00Z",
        },
    });
    let answer: Response<Begun> = context
        .request(format!("STREAM.RESTORE.{}", entry.name), &request)
        .await
        .map_err(|error| unavailable(doing(), error))?;
    let begun = match answer {
        Response::Ok(begun) => begun,
        Response::Err { error } => return Err(refused(doing(), format!("the broker says: {error}"))),
    };
    let made = send(client, source, entry, &begun.deliver_subject, told).await?;
    check(context, entry, made.state).await?;
    told(Progress { doing: "restore", stream: &entry.name, bytes: entry.bytes, of: entry.bytes, done: true });
    Ok(())
}

/// The settings of the backup, with these replicas and the mark.
fn settings_of(entry: &Entry, replicas: usize, id: &str) -> Value {
    let mut config = entry.config.clone();
    if let Some(config) = config.as_object_mut() {
        config.insert("num_replicas".to_string(), replicas.into());
        let kept = config.remove("metadata").unwrap_or_default();
        let mut metadata = kept.as_object().cloned().unwrap_or_default();
        metadata.retain(|name, _| !name.starts_with(BROKERS_OWN) && name != RESTORED);
        metadata.insert(UNFINISHED.to_string(), id.into());
        config.insert("metadata".to_string(), metadata.into());
    }
    config
}

/// Sends a file piece by piece; the broker acknowledges each when it has stored it.
async fn send(
    client: &Client,
    source: &Backup,
    entry: &Entry,
    to: &str,
    told: Told<'_>,
) -> Result<Made, Error> {
    let doing = || format!("restoring the stream {}", entry.name);
    let path = source.folder.join(&entry.file);
    let disk =
        |error: std::io::Error| refused(doing(), format!("{} cannot be read: {error}", path.display()));
    let mut file = tokio::fs::File::open(&path).await.map_err(disk)?;
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await.map_err(|error| unavailable(doing(), error))?;
    let (mut bytes, mut under_way) = (0_u64, 0_usize);
    loop {
        let mut piece = Vec::with_capacity(CHUNK_BYTES);
        let read = (&mut file).take(CHUNK_BYTES as u64).read_to_end(&mut piece).await.map_err(disk)?;
        while under_way > 0 && (under_way >= WINDOW_PIECES || read == 0) {
            acknowledged(&mut answers, entry).await?;
            under_way -= 1;
        }
        // An empty piece is the end.
        client
            .publish_with_reply(to.to_string(), inbox.clone(), Bytes::from(piece))
            .await
            .map_err(|error| unavailable(doing(), error))?;
        if read == 0 {
            break;
        }
        under_way += 1;
        bytes += read as u64;
        told(Progress { doing: "restore", stream: &entry.name, bytes, of: entry.bytes, done: false });
    }
    let answer = next(&mut answers, entry, FINISH_TIMEOUT).await?;
    match serde_json::from_slice(&answer) {
        Ok(Response::Ok(made)) => Ok(made),
        Ok(Response::<Made>::Err { error }) => Err(refused(doing(), format!("the broker says: {error}"))),
        Err(error) => Err(damaged(doing(), format!("the broker's answer cannot be read: {error}"))),
    }
}

/// An empty answer is an acknowledgement; another one says why not.
async fn acknowledged(answers: &mut Subscriber, entry: &Entry) -> Result<(), Error> {
    let answer = next(answers, entry, PIECE_TIMEOUT).await?;
    if answer.is_empty() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&answer).chars().take(500).collect::<String>();
    Err(refused(format!("restoring the stream {}", entry.name), format!("the broker says: {words}")))
}

async fn next(answers: &mut Subscriber, entry: &Entry, timeout: Duration) -> Result<Bytes, Error> {
    let again = |reason: String| {
        refused(format!("restoring the stream {}", entry.name), format!("{reason}. Run the restore again"))
    };
    match tokio::time::timeout(timeout, answers.next()).await {
        Ok(Some(message)) if message.status.is_some_and(|status| status.as_u16() == 503) => {
            Err(again("nobody takes the pieces: the broker gave up or was restarted".to_string()))
        }
        Ok(Some(message)) => Ok(message.payload),
        Ok(None) => Err(again("the connection was closed".to_string())),
        Err(_) => Err(again(format!("the broker did not answer for {} s", timeout.as_secs()))),
    }
}

/// Compares a restored stream with what was backed up.
async fn check(context: &jetstream::Context, entry: &Entry, found: Numbers) -> Result<(), Error> {
    let doing = || format!("comparing the restored stream {} with the backup", entry.name);
    let mut differences = Vec::new();
    let mut compare = |what: &str, found: String, expected: String| {
        if found != expected {
            differences.push(format!("{what} is {found}, should be {expected}"));
        }
    };
    compare("its last sequence", found.last_seq.to_string(), entry.last_sequence.to_string());
    if !entry.ages() {
        compare("its number of messages", found.messages.to_string(), entry.messages.to_string());
        if entry.messages > 0 {
            compare("its first sequence", found.first_seq.to_string(), entry.first_sequence.to_string());
        }
    }
    if let Some(expected) = &entry.last_event {
        let stream = context.get_stream(&entry.name).await.map_err(|error| unavailable(doing(), error))?;
        let last = stream.get_raw_message(entry.last_sequence).await;
        let last = last.map_err(|error| unavailable(doing(), error))?;
        let id = last.headers.get(async_nats::header::NATS_MESSAGE_ID).map(|id| id.as_str().to_string());
        compare("its last event", format!("{id:?}"), format!("{:?}", Some(expected)));
    }
    if differences.is_empty() {
        return Ok(());
    }
    Err(damaged(doing(), format!("{}. Use another backup", differences.join("; "))))
}

/// The secret that was restored is the one of the manifest, which the master key opens.
async fn check_secret(context: &jetstream::Context, backup: &Backup, master: &DataKey) -> Result<(), Error> {
    let Some(proof) = &backup.manifest.subject_secret else { return Ok(()) };
    let doing = "reading the restored subject secret";
    let bucket = context.get_key_value("ROLLCALL").await.map_err(|error| unavailable(doing, error))?;
    let sealed = bucket.get(secret::KEY).await.map_err(|error| unavailable(doing, error))?;
    let noted = metadata(context, "IDENTITY").await?.and_then(|mut notes| notes.remove(secret::NOTE));
    let opened = sealed.as_ref().and_then(|sealed| secret::unseal(sealed, master));
    let fingerprint = opened.map(|secret| secret.fingerprint());
    if fingerprint.as_ref() == Some(&proof.fingerprint)
        && noted.as_ref() == Some(&proof.fingerprint)
        && sealed.is_some_and(|sealed| hexadecimal(&sealed) == proof.sealed)
    {
        return Ok(());
    }
    Err(damaged(doing, "it is not the one that the manifest names. Use another backup"))
}

/// Writes down that from here on it is another timeline.
async fn begin_timeline(context: &jetstream::Context, backup: &Backup) -> Result<Timeline, Error> {
    let doing = "writing down that the log was restored";
    let last = |name: &str| backup.manifest.stream(name).map_or(0, |entry| entry.last_sequence);
    let timeline = Timeline {
        id: clock::new_uuid().to_string(),
        restored_at: clock::now(),
        backup_of: backup.manifest.begun_at,
        identity: last("IDENTITY"),
        provisioning: last("PROVISIONING"),
    };
    let bucket = context.get_key_value("ROLLCALL").await.map_err(|error| unavailable(doing, error))?;
    let value = serde_json::to_vec(&timeline).unwrap_or_default();
    bucket.put(timeline::KEY, value.into()).await.map_err(|error| unavailable(doing, error))?;
    Ok(timeline)
}

async fn unmark(context: &jetstream::Context, name: &str) -> Result<(), Error> {
    let doing = || format!("finishing the restore of the stream {name}");
    let stream = context.get_stream(name).await.map_err(|error| unavailable(doing(), error))?;
    let mut config: stream::Config = stream.cached_info().config.clone();
    let id = config.metadata.remove(UNFINISHED).unwrap_or_default();
    config.metadata.insert(RESTORED.to_string(), id);
    context.update_stream(config).await.map_err(|error| unavailable(doing(), error))?;
    Ok(())
}
