//! The buckets: how long their values stay, and which of them the log cannot be read without.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::context::KeyValueError;
use async_nats::jetstream::stream::{self, StorageType};
use async_nats::jetstream::{Context, kv};

use super::settings::{self, Seen, StreamSettings};
use super::store::NatsBucket;
use super::unavailable;
use crate::{Bucket, Error};

/// A bucket whose values stay.
const FOR_EVER: Duration = Duration::ZERO;
/// How long it can be asked what came of a request.
const COMPLETIONS_AGE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// One bucket.
pub(super) struct BucketSettings {
    pub(super) name: &'static str,
    /// The stream behind it.
    stream: &'static str,
    max_age: Duration,
    /// Whether events are worth nothing without it.
    is_needed: bool,
    replicas: usize,
}

impl BucketSettings {
    /// All buckets.
    pub(super) fn all(replicas: usize) -> [Self; 5] {
        [
            ("KEYS", "KV_KEYS", FOR_EVER, true),
            ("LEASES", "KV_LEASES", FOR_EVER, false),
            ("REQUESTS", "KV_REQUESTS", FOR_EVER, false),
            ("COMPLETIONS", "KV_COMPLETIONS", COMPLETIONS_AGE_MAX, false),
            ("ROLLCALL", "KV_ROLLCALL", FOR_EVER, true),
        ]
        .map(|(name, stream, max_age, is_needed)| Self {
            name,
            stream,
            max_age,
            is_needed,
            replicas: replicas.max(1),
        })
    }

    /// Opens the bucket and checks the stream behind it. It is made if there is none, unless that would hide a loss: the log
    /// is begun, and cannot be read without it.
    pub(super) async fn open(
        &self,
        context: &Context,
        is_begun: bool,
    ) -> Result<(Arc<dyn Bucket>, Seen, StreamSettings), Error> {
        let store = match context.get_key_value(self.name).await {
            Ok(store) => store,
            Err(error) => self.made(context, is_begun, error).await?,
        };
        let bucket = NatsBucket::new(self.name, store);
        // One that was just made on several servers cannot be read until they have chosen its leader.
        bucket.get("ready").await?;
        let wanted = StreamSettings::bucket(self.stream, self.stream_config());
        let seen = settings::check(context, &wanted).await?;
        Ok((Arc::new(bucket), seen, wanted))
    }

    /// The bucket that could not be opened, once it is certain that there is none.
    async fn made(
        &self,
        context: &Context,
        is_begun: bool,
        error: KeyValueError,
    ) -> Result<kv::Store, Error> {
        let doing = || format!("opening the bucket {}", self.name);
        let is_lost = is_begun && self.is_needed;
        let found = match is_lost {
            true => settings::find(context, self.stream).await,
            false => context.get_stream(self.stream).await,
        };
        match found {
            Err(found) if settings::is_gone(&found) && is_lost => Err(self.lost()),
            Err(found) if settings::is_gone(&found) => {
                let made = context.create_key_value(self.config()).await;
                made.map_err(|error| unavailable(doing(), error))
            }
            Ok(_) | Err(_) => Err(unavailable(doing(), error)),
        }
    }

    fn lost(&self) -> Error {
        Error::Refused {
            doing: format!("opening the bucket {}", self.name),
            reason: format!(
                "its stream {0} is gone, but the stream IDENTITY holds events that cannot be read without it. Restore {0} from \
                 the backup that belongs to IDENTITY; to begin with nothing, delete the broker's whole store",
                self.stream
            ),
        }
    }

    fn config(&self) -> kv::Config {
        kv::Config {
            bucket: self.name.to_string(),
            history: 1,
            storage: StorageType::File,
            num_replicas: self.replicas,
            max_age: self.max_age,
            ..Default::default()
        }
    }

    /// What the client library makes of it.
    fn stream_config(&self) -> stream::Config {
        stream::Config {
            name: self.stream.to_string(),
            subjects: vec![format!("$KV.{}.>", self.name)],
            storage: StorageType::File,
            num_replicas: self.replicas,
            max_messages_per_subject: 1,
            max_age: self.max_age,
            duplicate_window: settings::DUPLICATE_WINDOW,
            deny_delete: true,
            ..Default::default()
        }
    }
}
