//! Taking a backup: the broker's own snapshot of every stream, written to a folder piece by piece.
//!
//! The broker sends a snapshot in pieces and waits for their acknowledgements, so neither side holds more than a
//! window of it. The order and what makes the streams fit together: docs/adr/0005-backup.md.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_nats::jetstream::response::Response;
use async_nats::jetstream::{self, stream};
use async_nats::{Client, StatusCode};
use futures::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

use super::connect::{self, Config, PATIENT_TIMEOUT};
use super::manifest::{self, Backup, Entry, Manifest, STREAMS, SecretProof, damaged, hexadecimal, refused};
use super::{settings, unavailable};
use crate::{Error, clock, secret};

/// One piece of a snapshot.
const CHUNK_BYTES: usize = 128 * 1024;
/// How much may be under way before the broker waits for acknowledgements.
const WINDOW_BYTES: usize = 4 * 1024 * 1024;
/// How long the broker may take for the next piece.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(60);
/// How often the snapshot of a bucket is taken again because values were replaced meanwhile.
const ATTEMPTS_MAX: u32 = 40;
/// The longest pause before it is taken again.
const AGAIN_DELAY_MAX: Duration = Duration::from_millis(500);

/// How far a backup, a verification or a restore is.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// What happens.
    pub doing: &'static str,
    /// To which stream.
    pub stream: &'a str,
    /// Bytes so far.
    pub bytes: u64,
    /// Bytes in all. While a snapshot is taken it is what the stream takes up before it is packed, so an estimate.
    pub of: u64,
    /// Whether this stream is done.
    pub done: bool,
}

/// Hears how far it is.
pub type Told<'a> = &'a (dyn Fn(Progress<'_>) + Send + Sync);

/// What the broker says about a snapshot that begins.
#[derive(Deserialize)]
struct Begun {
    config: Value,
    state: Numbers,
}

/// A stream's numbers at the moment of the snapshot.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Numbers {
    pub(super) messages: u64,
    #[serde(default)]
    bytes: u64,
    pub(super) first_seq: u64,
    pub(super) last_seq: u64,
}

/// Takes a backup of everything into a folder that must not exist. It has its name only when it is whole.
pub async fn backup(config: &Config, folder: &Path, told: Told<'_>) -> Result<Backup, Error> {
    let partial = Partial(partial(folder)?);
    into_partial(config, &partial.0, told).await?;
    finish(&partial.0, folder)
        .map_err(|error| refused(doing(folder), format!("it cannot be finished: {error}")))?;
    Backup::open(folder)
}

/// What is half-made is worth nothing, and its room may be needed: it goes with this, also when nobody waits for it any
/// more. What was finished has another name by then.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn doing(folder: &Path) -> String {
    format!("taking a backup into {}", folder.display())
}

/// Makes the folder that the backup is written to until it is whole.
fn partial(folder: &Path) -> Result<PathBuf, Error> {
    let refused = |reason: String| refused(doing(folder), reason);
    if folder.symlink_metadata().is_ok() {
        return Err(refused(
            "it exists, and nothing is overwritten. Name a folder that does not exist".to_string(),
        ));
    }
    let Some(name) = folder.file_name() else {
        return Err(refused("this is no name for a new folder".to_string()));
    };
    let mut partial = name.to_os_string();
    partial.push(".partial");
    let partial = folder.with_file_name(partial);
    if let Some(parent) = folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        std::fs::create_dir_all(parent)
            .map_err(|error| refused(format!("{} cannot be made: {error}", parent.display())))?;
    }
    let mut builder = std::fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(&partial).map_err(|error| {
        refused(match error.kind() {
            std::io::ErrorKind::AlreadyExists => format!(
                "{} exists: another backup writes it, or one was interrupted. Remove it when none runs",
                partial.display()
            ),
            _ => format!("{} cannot be made: {error}", partial.display()),
        })
    })?;
    Ok(partial)
}

/// Gives the folder its name, for good.
fn finish(partial: &Path, folder: &Path) -> std::io::Result<()> {
    std::fs::File::open(partial)?.sync_all()?;
    std::fs::rename(partial, folder)?;
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(parent)?.sync_all()
}

async fn into_partial(config: &Config, partial: &Path, told: Told<'_>) -> Result<(), Error> {
    let client = connect::client(config, PATIENT_TIMEOUT).await?;
    let version = client.server_info().version;
    settings::check_version(&version)?;
    let context = connect::context(&client, PATIENT_TIMEOUT);
    let mut manifest = Manifest::new(version, clock::now());
    manifest.subject_secret = proof(&context).await?;
    for name in STREAMS {
        manifest.streams.push(whole(&client, &context, name, partial, told).await?);
    }
    manifest.finished_at = clock::now();
    manifest.write(partial)
}

/// What tells the right master key from a wrong one.
async fn proof(context: &jetstream::Context) -> Result<Option<SecretProof>, Error> {
    let doing = "reading the subject secret";
    let bucket = context.get_key_value("ROLLCALL").await.map_err(|error| unavailable(doing, error))?;
    let Some(sealed) = bucket.get(secret::KEY).await.map_err(|error| unavailable(doing, error))? else {
        return Ok(None);
    };
    let stream = context.get_stream("IDENTITY").await.map_err(|error| unavailable(doing, error))?;
    let Some(fingerprint) = stream.cached_info().config.metadata.get(secret::NOTE).cloned() else {
        return Err(refused(
            doing,
            "the stream IDENTITY does not say which subject secret it was written with; start `rollcall up` once",
        ));
    };
    Ok(Some(SecretProof { fingerprint, sealed: hexadecimal(&sealed) }))
}

/// A snapshot in which nothing is missing: that of a bucket is taken again when values went while it was taken.
async fn whole(
    client: &Client,
    context: &jetstream::Context,
    name: &str,
    folder: &Path,
    told: Told<'_>,
) -> Result<Entry, Error> {
    let path = folder.join(manifest::file_name(name));
    for attempt in 1..=ATTEMPTS_MAX {
        let (mut entry, numbers) = snapshot(client, context, name, &path, told).await?;
        let doing = || format!("looking at the stream {name} after its snapshot");
        let stream = context.get_stream(name).await.map_err(|error| unavailable(doing(), error))?;
        let state = &stream.cached_info().state;
        // Each new sequence adds a message; whatever is less than that went.
        let expected = numbers.messages + state.last_sequence.saturating_sub(numbers.last_seq);
        if state.messages == expected || entry.ages() {
            entry.last_event = last_event(&stream, name, numbers.last_seq).await?;
            told(Progress { doing: "backup", stream: name, bytes: entry.bytes, of: entry.bytes, done: true });
            return Ok(entry);
        }
        tokio::fs::remove_file(&path)
            .await
            .map_err(|error| refused(doing(), format!("{} cannot be removed: {error}", path.display())))?;
        tokio::time::sleep((Duration::from_millis(20) * attempt).min(AGAIN_DELAY_MAX)).await;
    }
    Err(refused(
        format!("taking a snapshot of the stream {name}"),
        format!(
            "values were replaced or removed during each of {ATTEMPTS_MAX} snapshots, and one that lacks them is of no \
             use. Take the backup when less is written"
        ),
    ))
}

/// The id of the last event in a snapshot. What stands in a log stays, so it can be read afterwards.
async fn last_event(stream: &stream::Stream, name: &str, sequence: u64) -> Result<Option<String>, Error> {
    if sequence == 0 || name.starts_with("KV_") {
        return Ok(None);
    }
    let doing = || format!("reading the stream {name} at {sequence}");
    let message = stream.get_raw_message(sequence).await.map_err(|error| unavailable(doing(), error))?;
    Ok(message.headers.get(async_nats::header::NATS_MESSAGE_ID).map(|id| id.as_str().to_string()))
}

/// One snapshot, written to a file and made to last.
async fn snapshot(
    client: &Client,
    context: &jetstream::Context,
    name: &str,
    path: &Path,
    told: Told<'_>,
) -> Result<(Entry, Numbers), Error> {
    let doing = || format!("taking a snapshot of the stream {name}");
    let disk =
        |error: std::io::Error| refused(doing(), format!("{} cannot be written: {error}", path.display()));
    let inbox = client.new_inbox();
    let mut pieces = client.subscribe(inbox.clone()).await.map_err(|error| unavailable(doing(), error))?;
    let request = json!({
        "deliver_subject": inbox,
        "no_consumers": true,
        "chunk_size": CHUNK_BYTES,
        "window_size": WINDOW_BYTES,
        "jsck": true,
    });
    let answer: Response<Begun> = context
        .request(format!("STREAM.SNAPSHOT.{name}"), &request)
        .await
        .map_err(|error| unavailable(doing(), error))?;
    let begun = match answer {
        Response::Ok(begun) => begun,
        Response::Err { error } => return Err(refused(doing(), format!("the broker says: {error}"))),
    };
    let mut file = tokio::fs::File::from_std(manifest::private(path).map_err(disk)?);
    let (mut hash, mut bytes, mut expected) = (Sha256::new(), 0_u64, 1_u64);
    loop {
        let piece = tokio::time::timeout(CHUNK_TIMEOUT, pieces.next()).await.map_err(|_| {
            refused(doing(), format!("the broker sent nothing for {} s; try again", CHUNK_TIMEOUT.as_secs()))
        })?;
        let Some(piece) = piece else {
            return Err(refused(doing(), "the connection was closed; try again"));
        };
        if piece.payload.is_empty() {
            ended(piece.status, piece.description.as_deref()).map_err(|reason| refused(doing(), reason))?;
            break;
        }
        file.write_all(&piece.payload).await.map_err(disk)?;
        hash.update(&piece.payload);
        bytes += piece.payload.len() as u64;
        told(Progress { doing: "backup", stream: name, bytes, of: begun.state.bytes, done: false });
        // The last piece asks for no acknowledgement.
        if let Some(reply) = piece.reply {
            if !is_next(&reply, piece.payload.len(), expected) {
                return Err(damaged(doing(), format!("piece {expected} was lost on the way; try again")));
            }
            expected += 1;
            client.publish(reply, Default::default()).await.map_err(|error| unavailable(doing(), error))?;
        }
    }
    file.sync_all().await.map_err(disk)?;
    let Numbers { messages, first_seq, last_seq, .. } = begun.state;
    let entry = Entry {
        name: name.to_string(),
        file: manifest::file_name(name),
        bytes,
        sha256: hexadecimal(&hash.finalize()),
        messages,
        first_sequence: first_seq,
        last_sequence: last_seq,
        last_event: None,
        config: begun.config,
    };
    Ok((entry, begun.state))
}

/// What the message behind the last piece means: 204 or nothing is success.
fn ended(status: Option<StatusCode>, description: Option<&str>) -> Result<(), String> {
    match status {
        None => Ok(()),
        Some(status) if status.as_u16() == 204 => Ok(()),
        Some(status) => {
            Err(format!("the broker ended it with {status} {}; try again", description.unwrap_or_default()))
        }
    }
}

/// The acknowledgement's subject ends with the piece's length and number.
fn is_next(reply: &str, length: usize, expected: u64) -> bool {
    let mut parts = reply.rsplit('.');
    let number = parts.next().and_then(|part| part.parse::<u64>().ok());
    let bytes = parts.next().and_then(|part| part.parse::<usize>().ok());
    number == Some(expected) && bytes == Some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_piece_is_noticed() {
        let reply = "$JS.SNAPSHOT.ACK.IDENTITY.abc.1024.3";
        assert!(is_next(reply, 1024, 3));
        assert!(!is_next(reply, 1024, 2) && !is_next(reply, 1000, 3) && !is_next("reply", 1, 1));
    }

    #[test]
    fn only_a_good_end_is_an_end() {
        assert_eq!(ended(None, None), Ok(()));
        assert_eq!(ended(StatusCode::from_u16(204).ok(), None), Ok(()));
        let reason = ended(StatusCode::from_u16(408).ok(), Some("No Flow Response")).unwrap_err();
        assert!(reason.contains("408") && reason.contains("No Flow Response"), "{reason}");
    }
}
