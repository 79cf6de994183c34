//! What the streams must be like, compared with what the server says they are: an older server silently ignores what
//! it does not know, and a limit that somebody sets later deletes history in spite of every denial.

use std::time::Duration;

use async_nats::ServerInfo;
use async_nats::jetstream::context::{GetStreamError, GetStreamErrorKind, RequestError, RequestErrorKind};
use async_nats::jetstream::stream::{self, Compression, RetentionPolicy, StorageType, Stream};
use async_nats::jetstream::{self, Context, context::CreateStreamErrorKind};
use proto::subject;

use super::{authority, restore, unavailable};
use crate::Error;

/// The oldest server whose habits were measured.
pub const SERVER_VERSION_MIN: (u32, u32) = (2, 15);

/// The largest message that the broker must take: a group of a quarter million members. NATS' own default is 1 MB.
pub const PAYLOAD_MIN_BYTES: usize = 8 * 1024 * 1024;

/// What to do when nobody there has JetStream.
const JETSTREAM_OFF: &str = "start nats-server with JetStream enabled (-js or a jetstream block)";

/// How long to wait before it is believed that a stream is gone: a server that starts may not know it yet.
const GONE_DELAY: Duration = Duration::from_secs(1);

/// How long the broker knows a message id again. Longer than any deadline of ours.
pub(super) const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);

/// The stream behind the bucket of data keys.
pub(super) const KEYS: &str = "KV_KEYS";

/// One stream, of a log or behind a bucket.
#[derive(Clone, Debug)]
pub(super) struct StreamSettings {
    name: &'static str,
    config: stream::Config,
    /// Whether nothing is ever taken from it.
    grows: bool,
}

impl StreamSettings {
    /// All logs.
    pub(super) fn logs(replicas: usize) -> Vec<Self> {
        [
            ("IDENTITY", subject::IDENTITY),
            ("PROVISIONING", subject::PROVISIONING),
            ("CONTROL", subject::CONTROL),
        ]
        .into_iter()
        .map(|(name, subjects)| Self { name, config: log(name, subjects, replicas.max(1)), grows: true })
        .collect()
    }

    /// Of a bucket, whose stream has these settings.
    pub(super) fn bucket(name: &'static str, config: stream::Config) -> Self {
        Self { name, config, grows: false }
    }
}

fn log(name: &str, subjects: &str, replicas: usize) -> stream::Config {
    stream::Config {
        name: name.to_string(),
        subjects: vec![subjects.to_string()],
        storage: StorageType::File,
        num_replicas: replicas,
        retention: RetentionPolicy::Limits,
        duplicate_window: DUPLICATE_WINDOW,
        deny_delete: true,
        deny_purge: true,
        allow_direct: true,
        allow_atomic_publish: true,
        // A broker that was killed can take a block that is compressed already for one that it may add to, and not
        // read the stream any more. What is sealed does not shrink anyway.
        compression: Some(Compression::None),
        ..Default::default()
    }
}

/// Refuses a server that cannot do what is needed.
pub(super) fn check_server(info: &ServerInfo) -> Result<(), Error> {
    check_version(&info.version)?;
    check_payload(info.max_payload)
}

fn check_payload(found: usize) -> Result<(), Error> {
    if found >= PAYLOAD_MIN_BYTES {
        return Ok(());
    }
    Err(Error::Refused {
        doing: "checking the NATS server's max_payload".to_string(),
        reason: format!(
            "it takes messages of {found} bytes, but a large group needs {PAYLOAD_MIN_BYTES}. Set `max_payload: 8MB` in \
             nats-server's configuration and reload it"
        ),
    })
}

/// Refuses a server that is older than what was measured.
pub(super) fn check_version(version: &str) -> Result<(), Error> {
    if numbers(version) >= SERVER_VERSION_MIN {
        return Ok(());
    }
    let (major, minor) = SERVER_VERSION_MIN;
    Err(Error::Refused {
        doing: "checking the NATS server's version".to_string(),
        reason: format!(
            "it is {version}, but rollcall needs {major}.{minor} or newer: older ones ignore settings that keep events \
             safe. Upgrade the server"
        ),
    })
}

/// What was seen of a stream, to be compared with what is seen later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// When it was made, in nanoseconds.
    pub(super) created: i128,
    pub(super) last_sequence: u64,
    /// How many values it has, where none is ever removed.
    pub(super) values: u64,
}

impl StreamSettings {
    pub(super) fn name(&self) -> &'static str {
        self.name
    }
}

/// Refuses to restore into a server that is older than the one whose snapshots these are.
pub(super) fn check_not_older(version: &str, wanted: &str) -> Result<(), Error> {
    let (found, expected) = (numbers(version), numbers(wanted));
    if found >= expected {
        return Ok(());
    }
    Err(Error::Refused {
        doing: "checking the NATS server's version".to_string(),
        reason: format!(
            "it is {version}, but the backup was made by {wanted}; restore into that or a newer one"
        ),
    })
}

fn numbers(version: &str) -> (u32, u32) {
    let mut parts =
        version.trim_start_matches('v').split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

/// Makes the stream if there is none, then checks it.
pub(super) async fn ensure(context: &Context, wanted: &StreamSettings) -> Result<Seen, Error> {
    let doing = || format!("opening the stream {}", wanted.name);
    match context.get_stream(wanted.name).await {
        Ok(stream) => uncompressed(context, wanted, &stream.cached_info().config).await?,
        Err(error) if is_gone(&error) => {
            not_begun(context, wanted).await?;
            context.create_stream(wanted.config.clone()).await.map_err(|error| match error.kind() {
                CreateStreamErrorKind::JetStream(answer)
                    if answer.error_code() == jetstream::ErrorCode::STREAM_REPLICAS_NOT_SUPPORTED =>
                {
                    let replicas = wanted.config.num_replicas;
                    let reason = format!("{answer}; --nats-replicas {replicas} needs a cluster");
                    Error::Refused { doing: doing(), reason }
                }
                _ => unavailable(doing(), error),
            })?;
        }
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(answer)
                if answer.error_code() == jetstream::ErrorCode::JETSTREAM_NOT_ENABLED
                    || answer.error_code() == jetstream::ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT =>
            {
                return Err(Error::Refused { doing: doing(), reason: format!("{answer}; {JETSTREAM_OFF}") });
            }
            // In a cluster a server that has it may not be known yet.
            GetStreamErrorKind::Request if is_unheard(&error) => {
                return Err(Error::Unavailable { doing: doing(), source: Some(JETSTREAM_OFF.into()) });
            }
            GetStreamErrorKind::EmptyName
            | GetStreamErrorKind::Request
            | GetStreamErrorKind::InvalidStreamName
            | GetStreamErrorKind::JetStream(_) => return Err(unavailable(doing(), error)),
        },
    }
    check(context, wanted).await
}

/// A stream that an older version made is compressed no further; what is compressed stays readable.
async fn uncompressed(
    context: &Context,
    wanted: &StreamSettings,
    found: &stream::Config,
) -> Result<(), Error> {
    if found.compression.as_ref().is_none_or(|compression| *compression == Compression::None) {
        return Ok(());
    }
    let config = stream::Config { compression: Some(Compression::None), ..found.clone() };
    let doing = || format!("switching off the compression of the stream {}", wanted.name);
    context.update_stream(config).await.map_err(|error| unavailable(doing(), error))?;
    tracing::info!(stream = wanted.name, "its new blocks are not compressed any more");
    Ok(())
}

/// The stream, which is looked for once more before it is believed that it is gone.
pub(super) async fn find(context: &Context, name: &str) -> Result<Stream, GetStreamError> {
    let asked = context.get_stream(name).await;
    if !asked.as_ref().is_err_and(is_gone) {
        return asked;
    }
    tokio::time::sleep(GONE_DELAY).await;
    context.get_stream(name).await
}

/// Whether no server that has JetStream heard the question.
fn is_unheard(error: &GetStreamError) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<RequestError>());
    cause.is_some_and(|cause| cause.kind() == RequestErrorKind::NoResponders)
}

/// Whether there is no such stream.
pub(super) fn is_gone(error: &GetStreamError) -> bool {
    matches!(error.kind(), GetStreamErrorKind::JetStream(answer)
        if answer.error_code() == jetstream::ErrorCode::STREAM_NOT_FOUND)
}

/// Data keys are issued before the first event, so where there are keys there were events: a stream that is missing
/// then was deleted, and an empty one in its place would hide that.
async fn not_begun(context: &Context, wanted: &StreamSettings) -> Result<(), Error> {
    let doing = || format!("opening the stream {}", wanted.name);
    match context.get_stream(KEYS).await {
        Err(error) if is_gone(&error) => Ok(()),
        Err(error) => Err(unavailable(doing(), error)),
        Ok(keys) if keys.cached_info().state.last_sequence == 0 => Ok(()),
        Ok(_) => Err(Error::Refused {
            doing: doing(),
            reason: format!(
                "it is gone, but the bucket KEYS holds keys of what was written to it. Restore the stream {} from the \
                 backup that belongs to the bucket; to begin with nothing, delete the broker's whole store",
                wanted.name
            ),
        }),
    }
}

/// Compares a stream with what it should be; every difference is named.
pub(super) async fn check(context: &Context, wanted: &StreamSettings) -> Result<Seen, Error> {
    let doing = format!("checking the stream {}", wanted.name);
    let stream = match find(context, wanted.name).await {
        Ok(stream) => stream,
        Err(error) if is_gone(&error) => {
            return Err(Error::Damaged {
                doing,
                reason: format!(
                    "it was deleted underneath us. Restore {} from a backup, then start again",
                    wanted.name
                ),
            });
        }
        Err(error) => return Err(unavailable(doing, error)),
    };
    let info = stream.cached_info();
    authority::check(info, || doing.clone())?;
    if info.config.metadata.contains_key(restore::UNFINISHED) {
        return Err(Error::Refused {
            doing,
            reason: "it is being restored from a backup, or that was interrupted; wait, or run `rollcall restore` again"
                .to_string(),
        });
    }
    let differences = differences(&info.config, &wanted.config);
    if !differences.is_empty() {
        return Err(Error::Refused {
            doing,
            reason: format!(
                "its configuration is not what keeps events safe: {}. Set it back with `nats stream edit {}`, or restore it",
                differences.join("; "),
                wanted.name
            ),
        });
    }
    let state = &info.state;
    if wanted.grows && state.messages < state.last_sequence {
        return Err(Error::Damaged {
            doing,
            reason: format!(
                "{} of its {} events are missing (it begins at sequence {}): somebody deleted history, or a limit did that \
                 was set for a time. Restore the stream from a backup",
                state.last_sequence - state.messages,
                state.last_sequence,
                state.first_sequence
            ),
        });
    }
    let created = info.created.unix_timestamp_nanos();
    let values = if wanted.name == KEYS { state.subjects_count } else { 0 };
    Ok(Seen { created, last_sequence: state.last_sequence, values })
}

fn differences(found: &stream::Config, expected: &stream::Config) -> Vec<String> {
    let mut differences = Vec::new();
    let mut compare = |name: &str, found: String, expected: String| {
        if found != expected {
            differences.push(format!("{name} is {found}, should be {expected}"));
        }
    };
    compare("subjects", found.subjects.join(","), expected.subjects.join(","));
    compare("storage", format!("{:?}", found.storage), format!("{:?}", expected.storage));
    compare("retention", format!("{:?}", found.retention), format!("{:?}", expected.retention));
    compare("num_replicas", found.num_replicas.to_string(), expected.num_replicas.to_string());
    compare("deny_delete", found.deny_delete.to_string(), expected.deny_delete.to_string());
    compare("deny_purge", found.deny_purge.to_string(), expected.deny_purge.to_string());
    compare(
        "allow_atomic",
        found.allow_atomic_publish.to_string(),
        expected.allow_atomic_publish.to_string(),
    );
    compare("sealed", found.sealed.to_string(), "false".to_string());
    let limit = |value: i64| if value <= 0 { "unlimited".to_string() } else { value.to_string() };
    compare("max_msgs", limit(found.max_messages), limit(0));
    compare("max_bytes", limit(found.max_bytes), limit(0));
    compare(
        "max_msgs_per_subject",
        limit(found.max_messages_per_subject),
        limit(expected.max_messages_per_subject),
    );
    compare("max_msg_size", limit(i64::from(found.max_message_size)), limit(0));
    compare("max_age", format!("{:?}", found.max_age), format!("{:?}", expected.max_age));
    compare(
        "duplicate_window",
        format!("{:?}", found.duplicate_window),
        format!("{:?}", expected.duplicate_window),
    );
    differences
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_servers_are_refused_by_name() {
        assert!(
            check_version("2.15.0").is_ok()
                && check_version("2.16.0-dev").is_ok()
                && check_version("3.0.0").is_ok()
        );
        let error = check_version("2.12.1").unwrap_err().to_string();
        assert!(error.contains("2.12.1") && error.contains("2.15"), "{error}");
    }

    #[test]
    fn a_broker_for_small_messages_is_refused_with_the_number() {
        assert!(check_payload(PAYLOAD_MIN_BYTES).is_ok());
        let error = check_payload(1024 * 1024).unwrap_err().to_string();
        assert!(error.contains("1048576") && error.contains("max_payload: 8MB"), "{error}");
    }
}
