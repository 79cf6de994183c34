//! What the streams must be like, compared with what the server says they are: an older server silently ignores what
//! it does not know, and a limit that somebody sets later deletes history in spite of every denial.

use std::time::Duration;

use async_nats::jetstream::stream::{self, Compression, RetentionPolicy, StorageType};
use async_nats::jetstream::{
    self,
    context::{CreateStreamErrorKind, GetStreamErrorKind},
};
use proto::subject;

use super::unavailable;
use crate::Error;

/// The oldest server whose habits were measured.
pub const SERVER_VERSION_MIN: (u32, u32) = (2, 15);

/// How long the broker knows a message id again. Longer than any deadline of ours.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);

/// One stream.
#[derive(Clone, Debug)]
pub(super) struct StreamSettings {
    name: &'static str,
    subjects: &'static str,
    replicas: usize,
}

impl StreamSettings {
    /// All streams.
    pub(super) fn all(replicas: usize) -> Vec<Self> {
        let replicas = replicas.max(1);
        [
            ("IDENTITY", subject::IDENTITY),
            ("PROVISIONING", subject::PROVISIONING),
            ("CONTROL", subject::CONTROL),
        ]
        .into_iter()
        .map(|(name, subjects)| Self { name, subjects, replicas })
        .collect()
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    fn config(&self) -> stream::Config {
        stream::Config {
            name: self.name.to_string(),
            subjects: vec![self.subjects.to_string()],
            storage: StorageType::File,
            num_replicas: self.replicas,
            retention: RetentionPolicy::Limits,
            duplicate_window: DUPLICATE_WINDOW,
            deny_delete: true,
            deny_purge: true,
            allow_direct: true,
            allow_atomic_publish: true,
            compression: Some(Compression::S2),
            ..Default::default()
        }
    }
}

/// Refuses a server that is older than what was measured.
pub(super) fn check_version(version: &str) -> Result<(), Error> {
    let mut parts =
        version.trim_start_matches('v').split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    let found = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if found >= SERVER_VERSION_MIN {
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

/// Makes the stream if there is none, then checks it.
pub(super) async fn ensure(context: &jetstream::Context, wanted: &StreamSettings) -> Result<(), Error> {
    let doing = || format!("opening the stream {}", wanted.name);
    match context.get_stream(wanted.name).await {
        Ok(_) => {}
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(answer)
                if answer.error_code() == jetstream::ErrorCode::STREAM_NOT_FOUND =>
            {
                context.create_stream(wanted.config()).await.map_err(|error| match error.kind() {
                    CreateStreamErrorKind::JetStream(answer)
                        if answer.error_code() == jetstream::ErrorCode::STREAM_REPLICAS_NOT_SUPPORTED =>
                    {
                        let reason = format!("{answer}; --nats-replicas {} needs a cluster", wanted.replicas);
                        Error::Refused { doing: doing(), reason }
                    }
                    _ => unavailable(doing(), error),
                })?;
            }
            GetStreamErrorKind::JetStream(answer)
                if answer.error_code() == jetstream::ErrorCode::JETSTREAM_NOT_ENABLED
                    || answer.error_code() == jetstream::ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT =>
            {
                return Err(Error::Refused {
                    doing: doing(),
                    reason: format!(
                        "{answer}; start nats-server with JetStream enabled (-js or a jetstream block)"
                    ),
                });
            }
            GetStreamErrorKind::EmptyName
            | GetStreamErrorKind::Request
            | GetStreamErrorKind::InvalidStreamName
            | GetStreamErrorKind::JetStream(_) => return Err(unavailable(doing(), error)),
        },
    }
    check(context, wanted).await
}

/// Compares a stream with what it should be; every difference is named.
pub(super) async fn check(context: &jetstream::Context, wanted: &StreamSettings) -> Result<(), Error> {
    let doing = format!("checking the stream {}", wanted.name);
    let stream = context.get_stream(wanted.name).await.map_err(|error| unavailable(doing.clone(), error))?;
    let found = &stream.cached_info().config;
    let expected = wanted.config();
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
    compare("deny_delete", found.deny_delete.to_string(), "true".to_string());
    compare("deny_purge", found.deny_purge.to_string(), "true".to_string());
    compare("allow_atomic", found.allow_atomic_publish.to_string(), "true".to_string());
    compare("sealed", found.sealed.to_string(), "false".to_string());
    let limit = |value: i64| if value <= 0 { "unlimited".to_string() } else { value.to_string() };
    compare("max_msgs", limit(found.max_messages), limit(0));
    compare("max_bytes", limit(found.max_bytes), limit(0));
    compare("max_msgs_per_subject", limit(found.max_messages_per_subject), limit(0));
    compare("max_age", format!("{:?}", found.max_age), format!("{:?}", Duration::ZERO));
    if differences.is_empty() {
        return Ok(());
    }
    Err(Error::Refused {
        doing,
        reason: format!(
            "its configuration is not what keeps events safe: {}. Set it back with `nats stream edit {}`, or restore it",
            differences.join("; "),
            wanted.name
        ),
    })
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
}
