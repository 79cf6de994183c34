//! Connecting: find the server, refuse one that is too old, make or check streams and buckets.

use std::error::Error as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream;
use async_nats::{Client, ConnectError, ConnectErrorKind, ConnectOptions, ServerAddr};
use percent_encoding::percent_decode_str;
use proto::stand_in::Stream;
use tokio::time::Instant;

use super::aside::Aside;
use super::buckets::BucketSettings;
use super::ends;
use super::health::NatsHealth;
use super::log::NatsLog;
use super::objects::NatsObjects;
use super::patience::Patience;
use super::settings::{self, StreamSettings};
use crate::file;
use crate::passed_over::{Passes, PassingOver};
use crate::{Broker, Committer, Error, Log, WAITING_MAX, timeline};

/// How long to wait for a server that answers, unless told otherwise.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait for leaders of all streams and buckets, unless told otherwise: two elections, and as much again.
pub const READY_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two attempts to connect.
const AGAIN_DELAY: Duration = Duration::from_millis(100);
/// How long one question to the broker may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// The same, where the broker may first have to give up an unfinished restore or to read a large stream.
pub(super) const PATIENT_TIMEOUT: Duration = Duration::from_secs(60);

/// Which broker, and how to get in.
#[derive(Clone)]
pub struct Config {
    /// One or more `nats://` or `tls://` URLs, separated by commas; they may hold user and password.
    pub url: String,
    /// A credentials file.
    pub credentials: Option<PathBuf>,
    /// Root certificates beside the system's.
    pub root_certificates: Option<PathBuf>,
    /// Replicas of each stream.
    pub replicas: usize,
    /// How long to wait for a server that answers.
    pub connect_timeout: Duration,
    /// How long to wait, once connected, until every stream and bucket is found or made. In a cluster each first has to choose its leader: 4 to 9
    /// seconds, and as much again when its votes are split.
    pub ready_timeout: Duration,
    /// How many writes may wait for their turn; a further one is refused.
    pub waiting_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: String::new(),
            credentials: None,
            root_certificates: None,
            replicas: 1,
            connect_timeout: CONNECT_TIMEOUT,
            ready_timeout: READY_TIMEOUT,
            waiting_max: WAITING_MAX,
        }
    }
}

/// The URL without what must not be shown.
fn shown(url: &str) -> String {
    url.split(',').map(|url| url.rsplit_once('@').map_or(url, |(_, host)| host)).collect::<Vec<_>>().join(",")
}

/// Connects, and makes what is missing. Refuses a server that is too old and streams that differ from what they
/// should be.
pub async fn connect(config: &Config) -> Result<Broker, Error> {
    let aside = Aside::default();
    let client = client_told(config, REQUEST_TIMEOUT, &aside).await?;
    let mut patience = Patience::new(config.ready_timeout, aside);
    settings::check_server(&client.server_info())?;
    let context = context(&client, REQUEST_TIMEOUT);
    let mut streams = Vec::new();
    for wanted in StreamSettings::logs(config.replicas) {
        let awaited = format!("opening the stream {}", wanted.name());
        let seen = patience.attempt(&awaited, || settings::ensure(&context, &wanted)).await?;
        streams.push((seen, wanted));
    }
    let is_begun = streams.first().is_some_and(|(identity, _)| identity.last_sequence > 0);
    let mut buckets = Vec::new();
    for wanted in BucketSettings::all(config.replicas) {
        let awaited = format!("opening the bucket {}", wanted.name);
        let opened = patience.attempt(&awaited, || wanted.open(&context, is_begun)).await?;
        let (bucket, seen, settings) = opened;
        buckets.push(bucket);
        streams.push((seen, settings));
    }
    let [keys, leases, requests, completions, rollcall] = <[_; 5]>::try_from(buckets).map_err(|_| {
        Error::Damaged { doing: "opening the buckets".to_string(), reason: "there are not five".to_string() }
    })?;
    let timeline = timeline::read(&*rollcall).await?;
    ends::check(&context, &*rollcall, timeline.as_ref(), &streams).await?;
    let passes = Passes::read(&*rollcall).await?;
    let log = |name: &'static str, stream: Stream| -> Arc<dyn Log> {
        let log = Arc::new(NatsLog::new(name, client.clone(), context.clone()));
        Arc::new(PassingOver::new(log, stream, &passes))
    };
    let committer = |name, stream| Arc::new(Committer::new(log(name, stream), config.waiting_max));
    let health =
        NatsHealth::new(client.clone(), context.clone(), streams, rollcall.clone(), timeline.clone());
    health.read_clock().await?;
    Ok(Broker {
        identity: committer("IDENTITY", Stream::Identity),
        provisioning: committer("PROVISIONING", Stream::Provisioning),
        control: log("CONTROL", Stream::Control),
        keys,
        leases,
        requests,
        completions,
        rollcall,
        snapshots: Arc::new(NatsObjects::new("SNAPSHOTS", context, config.replicas)),
        timeline,
        health: Arc::new(health),
    })
}

/// What JetStream is asked through.
pub(super) fn context(client: &Client, timeout: Duration) -> jetstream::Context {
    jetstream::context::ContextBuilder::new().timeout(timeout).build(client.clone())
}

/// A connection, and nothing made.
pub(super) async fn client(config: &Config, timeout: Duration) -> Result<Client, Error> {
    client_told(config, timeout, &Aside::default()).await
}

/// The same; what the broker does not permit on it is heard here.
async fn client_told(config: &Config, timeout: Duration, aside: &Aside) -> Result<Client, Error> {
    let hearing = aside.clone();
    let doing = format!("connecting to the NATS server at {}", shown(&config.url));
    let refused = |reason: String| Error::Refused { doing: doing.clone(), reason };
    let mut addresses = Vec::new();
    for url in config.url.split(',') {
        let address: ServerAddr = url
            .trim()
            .parse()
            .map_err(|error| refused(format!("this is no NATS URL ({error}); write nats://host:port")))?;
        addresses.push(address);
    }
    let mut options = ConnectOptions::new()
        .name("rollcall")
        .connection_timeout(config.connect_timeout)
        .request_timeout(Some(timeout))
        .client_capacity(16 * 1024)
        .event_callback(move |event| {
            hearing.hear(&event);
            std::future::ready(())
        })
        .reconnect_delay_callback(|attempts| {
            Duration::from_millis(u64::try_from(attempts).unwrap_or(20).min(20) * 50)
        });
    if let Some((user, password)) = user(&addresses) {
        options = options.user_and_password(user, password);
    }
    if let Some(path) = &config.credentials {
        let text = file::text(path).map_err(|error| {
            refused(format!("the credentials file {} cannot be read: {error}", path.display()))
        })?;
        options = options
            .credentials(&text)
            .map_err(|error| refused(format!("{} holds no NATS credentials: {error}", path.display())))?;
    }
    if let Some(path) = &config.root_certificates {
        options = options.add_root_certificates(path.clone()).require_tls(true);
    }
    let deadline = Instant::now() + config.connect_timeout;
    let mut last = None;
    let connected = loop {
        let connecting = options.clone().connect(addresses.clone());
        match tokio::time::timeout_at(deadline, connecting).await {
            // Perhaps it is being started at this moment, as we are.
            Ok(Err(error)) if may_come(&error) && Instant::now() + AGAIN_DELAY < deadline => {
                if last.is_none() {
                    tracing::warn!(server = shown(&config.url), %error, "the NATS server does not answer yet; waiting");
                }
                last = Some(error);
                tokio::time::sleep(AGAIN_DELAY).await;
            }
            result => break result,
        }
    };
    match connected {
        Ok(Ok(client)) => Ok(client),
        Ok(Err(error)) => Err(refused(format!("{error}. {}", remedy(&error)))),
        // What was said before tells more than that nothing is said now.
        Err(_) if let Some(error) = last => Err(refused(format!("{error}. {}", remedy(&error)))),
        Err(_) => Err(refused(format!(
            "no answer within {} s. Start a NATS server there, or name another with --nats",
            config.connect_timeout.as_secs()
        ))),
    }
}

/// Who we are there. In a URL a password such as `p@ss` is written `p%40ss`.
fn user(addresses: &[ServerAddr]) -> Option<(String, String)> {
    let text = |encoded: &str| percent_decode_str(encoded).decode_utf8_lossy().into_owned();
    addresses.iter().find_map(|address| Some((text(address.username()?), text(address.password()?))))
}

/// What to do when a server cannot be connected to.
fn remedy(error: &ConnectError) -> &'static str {
    match error.kind() {
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
            "Name the user and the password that it knows (nats://user:password@host:4222), or --nats-credentials"
        }
        _ if is_about_tls(error) => {
            "See --nats-ca, whether the server speaks TLS and shows a certificate for this name, and whether it asks clients for \
             one, which rollcall has not"
        }
        ConnectErrorKind::Tls => "See --nats-ca, and whether the server speaks TLS",
        ConnectErrorKind::Io
        | ConnectErrorKind::TimedOut
        | ConnectErrorKind::ServerParse
        | ConnectErrorKind::Dns
        | ConnectErrorKind::MaxReconnects => {
            "Start a NATS server there, or name another with --nats; `rollcall up` without --nats runs its own"
        }
    }
}

/// Whether it answers, but the two do not agree on TLS: that is no matter of time.
fn is_about_tls(error: &ConnectError) -> bool {
    let inner = error.source().and_then(|cause| cause.downcast_ref::<std::io::Error>()?.get_ref());
    inner.is_some_and(|inner| inner.is::<async_nats::rustls::Error>())
}

/// Whether a server that cannot be connected to may be there a moment later.
fn may_come(error: &ConnectError) -> bool {
    if is_about_tls(error) {
        return false;
    }
    match error.kind() {
        ConnectErrorKind::Io | ConnectErrorKind::TimedOut => true,
        ConnectErrorKind::ServerParse
        | ConnectErrorKind::Dns
        | ConnectErrorKind::Authentication
        | ConnectErrorKind::AuthorizationViolation
        | ConnectErrorKind::Tls
        | ConnectErrorKind::MaxReconnects => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, expected: Option<(&str, &str)>) {
        let found = user(&[url.parse().unwrap()]);
        assert_eq!(found, expected.map(|(user, password)| (user.to_string(), password.to_string())), "{url}");
    }

    #[test]
    fn what_a_url_has_to_encode_is_decoded() {
        check("nats://rollcall:simple@127.0.0.1:4222", Some(("rollcall", "simple")));
        check("nats://roll%40call:p%40ss%2Fw%23%25@127.0.0.1:4222", Some(("roll@call", "p@ss/w#%")));
        check("nats://127.0.0.1:4222", None);
    }
}
