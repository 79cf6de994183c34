//! All settings, from flags, `ROLLCALL_*` and `rollcall.toml`, in that order. The only place that reads the
//! environment; every mistake is reported at once.

mod apps;
mod auth;
mod feeds;
mod gateway;
mod guard;
mod limits;
mod plans;
mod profiles;
mod rollout;
mod schemas;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ::gateway::Policies;
use proto::Tenant;
use proto::sealing::DataKey;
use scim::Registry;
use serde::Deserialize;
use toml::{Table, Value};
use url::Url;

use crate::args::{Admin, AdminApi, Cli, Command, Serve};
use crate::file::{self, Mistakes};
use crate::snapshots::Schedule;
use crate::{Failure, dev_env};

/// Where the file is looked for.
const FILE: &str = "rollcall.toml";
const MASTER_KEY: &str = "master.key";
const SCIM_PORT: u16 = 7643;
const ADMIN_PORT: u16 = 7644;
const NATS_PORT: u16 = 7422;
const VERIFY_INTERVAL_S: u64 = 60;
/// Calls under way at all apps together. Of one alone reductions of access would have no part.
const CALLS_MAX: RangeInclusive<u64> = 2..=65_536;
/// Up to a terabyte; more is a slip of the hand.
const MEMORY_MB: RangeInclusive<u64> = 0..=1_048_576;
const CACHE_MB: RangeInclusive<u64> = 8..=1_048_576;
const SNAPSHOTS_KEPT: RangeInclusive<u64> = 1..=1_000;
const SNAPSHOT_EVENTS_MIN: RangeInclusive<u64> = 1..=1_000_000_000_000;
const VERIFY_S: RangeInclusive<u64> = 1..=86_400;
const BROKER_TIMEOUT_MS: RangeInclusive<u64> = 100..=600_000;
const WRITES_WAITING_MAX: RangeInclusive<u64> = 1..=1_000_000;

/// Everything that can be set.
pub(crate) struct Settings {
    pub(crate) data_dir: PathBuf,
    pub(crate) nats: Nats,
    pub(crate) gateway: ::gateway::Config,
    pub(crate) admin_listen: SocketAddr,
    pub(crate) registry: Arc<Registry>,
    pub(crate) cache_bytes: u64,
    pub(crate) hot_bytes: u64,
    /// Further attributes that are found without a scan.
    pub(crate) indexed: Vec<String>,
    /// How far back the projection can be asked; nothing means to the beginning.
    pub(crate) history_kept: Option<Duration>,
    /// When snapshots of the projection are taken.
    pub(crate) snapshots: Schedule,
    pub(crate) dispatcher: dispatcher::Config,
    /// What the file says of everything but apps and feeds.
    pub(crate) sections: Table,
    pub(crate) search_path: String,
    /// How many processors a managed broker may use; nothing where the environment says it.
    pub(crate) broker_processors: Option<usize>,
    master_key: Option<String>,
}

/// Which broker.
pub(crate) struct Nats {
    pub(crate) url: Option<String>,
    pub(crate) port: u16,
    pub(crate) server: Option<PathBuf>,
    pub(crate) replicas: usize,
    pub(crate) credentials: Option<PathBuf>,
    pub(crate) ca: Option<PathBuf>,
    pub(crate) connect_timeout: Duration,
    pub(crate) ready_timeout: Duration,
    pub(crate) writes_waiting_max: usize,
    /// How often the broker's version, limits, streams and clock are read back.
    pub(crate) verify_interval: Duration,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct NatsSection {
    url: Option<String>,
    port: Option<u16>,
    server: Option<PathBuf>,
    replicas: Option<usize>,
    credentials: Option<PathBuf>,
    ca: Option<PathBuf>,
    connect_timeout_ms: Option<u64>,
    ready_timeout_ms: Option<u64>,
    writes_waiting_max: Option<usize>,
    verify_interval_s: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct AdminSection {
    listen: Option<SocketAddr>,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct DispatcherSection {
    calls_max: usize,
}

impl Default for DispatcherSection {
    fn default() -> Self {
        Self { calls_max: dispatcher::CALLS_MAX }
    }
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ProjectionSection {
    cache_mb: u64,
    hot_mb: u64,
    indexed: Vec<String>,
    history_days: u64,
    snapshot_hours: u64,
    snapshots_kept: usize,
    snapshot_events_min: u64,
}

impl Default for ProjectionSection {
    fn default() -> Self {
        Self {
            cache_mb: 32,
            hot_mb: 192,
            indexed: Vec::new(),
            history_days: 0,
            snapshot_hours: 24,
            snapshots_kept: 2,
            snapshot_events_min: 10_000,
        }
    }
}

impl Settings {
    /// Reads everything. Nothing is started when there is a mistake.
    pub(crate) fn read(cli: &Cli) -> Result<Self, Failure> {
        let mut mistakes = Mistakes::default();
        let path = match &cli.config {
            Some(path) => Some(path.as_path()),
            None => Some(Path::new(FILE)).filter(|path| path.exists()),
        };
        let mut table = path.map(|path| file::read(path, &mut mistakes)).unwrap_or_default();
        let folder = path.and_then(Path::parent).unwrap_or(Path::new(""));
        let mut sections = table.clone();
        for name in ["app", "feed"] {
            sections.remove(name);
        }
        let data_dir_value = folder_of(&mut table, "data_dir", &mut mistakes);
        let nats: NatsSection = take(&mut table, "nats", &mut mistakes);
        let gateway: gateway::Section = take(&mut table, "gateway", &mut mistakes);
        let admin: AdminSection = take(&mut table, "admin", &mut mistakes);
        let projection: ProjectionSection = take(&mut table, "projection", &mut mistakes);
        let dispatcher: DispatcherSection = take(&mut table, "dispatcher", &mut mistakes);
        let calls_max = dispatcher.calls_max;
        mistakes.check_range("dispatcher", "calls_max", calls_max as u64, CALLS_MAX);
        mistakes.check_range("projection", "cache_mb", projection.cache_mb, CACHE_MB);
        mistakes.check_range("projection", "hot_mb", projection.hot_mb, MEMORY_MB);
        let (kept, events_min) = (projection.snapshots_kept as u64, projection.snapshot_events_min);
        mistakes.check_range("projection", "snapshots_kept", kept, SNAPSHOTS_KEPT);
        mistakes.check_range("projection", "snapshot_events_min", events_min, SNAPSHOT_EVENTS_MIN);
        let verify_interval_s = nats.verify_interval_s.unwrap_or(VERIFY_INTERVAL_S);
        mistakes.check_range("nats", "verify_interval_s", verify_interval_s, VERIFY_S);
        let mut patience = |key: &str, set: Option<u64>, preset: Duration| {
            let timeout = set.map_or(preset, Duration::from_millis);
            mistakes.check_range("nats", key, timeout.as_millis() as u64, BROKER_TIMEOUT_MS);
            timeout
        };
        let connect_timeout =
            patience("connect_timeout_ms", nats.connect_timeout_ms, eventlog::nats::CONNECT_TIMEOUT);
        let ready_timeout =
            patience("ready_timeout_ms", nats.ready_timeout_ms, eventlog::nats::READY_TIMEOUT);
        let waiting_max = nats.writes_waiting_max.unwrap_or(eventlog::WAITING_MAX);
        mistakes.check_range("nats", "writes_waiting_max", waiting_max as u64, WRITES_WAITING_MAX);
        limits::check(&gateway.limits, &mut mistakes);
        let registry = schemas::registry(take(&mut table, "scim", &mut mistakes), folder, &mut mistakes);
        let apps = named(&mut table, "app", &mut mistakes, |place, value, mistakes| {
            apps::app(&registry, folder, place, value, mistakes)
        });
        let feeds = named(&mut table, "feed", &mut mistakes, |place, value, mistakes| {
            feeds::feed(&registry, place, value, mistakes)
        });
        let policies = Policies { tenants: named(&mut table, "tenant", &mut mistakes, file::section) };
        for mistake in policies.mistakes(&registry) {
            mistakes.add(mistake);
        }
        // Whoever is joined by an attribute that cannot be indexed is looked for one by one.
        let joined = policies.indexed().into_iter();
        let joined =
            joined.filter(|path| projector::check_indexed(&registry, std::slice::from_ref(path)).is_ok());
        let indexed: Vec<String> = projection.indexed.into_iter().chain(joined).collect();
        if let Err(mistake) = projector::check_indexed(&registry, &indexed) {
            mistakes.add(format!("projection.indexed: {mistake}"));
        }
        for unknown in table.keys() {
            mistakes.add(format!(
                "{unknown}: unknown section; there are data_dir, include, nats, gateway, admin, projection, dispatcher, scim, tenant.NAME, app.NAME and feed.NAME"
            ));
        }
        let (serve, admin_flags) = flags(&cli.command);
        let (nats_port, nats_server) = match &cli.command {
            Command::Up(up) => (up.nats_port, up.nats_server.clone()),
            Command::Gateway(_)
            | Command::Projector(_)
            | Command::Dispatcher(_)
            | Command::Token(_)
            | Command::Events(_)
            | Command::Audit(_)
            | Command::Feed(_)
            | Command::Config(_)
            | Command::Explain(_)
            | Command::App(_)
            | Command::Why(_)
            | Command::Timeline(_)
            | Command::Who(_)
            | Command::Leave(_)
            | Command::Backup(_)
            | Command::Restore(_)
            | Command::Record(_) => (None, None),
        };
        let gateway = gateway::config(serve, gateway, policies, &mut mistakes);
        let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let admin_listen = admin_flags.and_then(|admin| admin.admin_listen).or(admin.listen);
        let settings = Self {
            data_dir: cli.data_dir.clone().or(data_dir_value).unwrap_or_else(|| PathBuf::from("var")),
            nats: Nats {
                url: cli.nats.clone().or(nats.url),
                port: nats_port.or(nats.port).unwrap_or(NATS_PORT),
                server: nats_server.or(nats.server),
                replicas: cli.nats_replicas.or(nats.replicas).unwrap_or(1),
                credentials: cli.nats_credentials.clone().or(nats.credentials),
                ca: cli.nats_ca.clone().or(nats.ca),
                connect_timeout,
                ready_timeout,
                writes_waiting_max: waiting_max,
                verify_interval: Duration::from_secs(verify_interval_s),
            },
            gateway,
            admin_listen: admin_listen.unwrap_or_else(|| loopback(ADMIN_PORT)),
            registry: Arc::new(registry),
            cache_bytes: projection.cache_mb.saturating_mul(1 << 20),
            hot_bytes: projection.hot_mb.saturating_mul(1 << 20),
            indexed,
            history_kept: (projection.history_days > 0)
                .then(|| Duration::from_secs(projection.history_days.saturating_mul(24 * 60 * 60))),
            snapshots: Schedule {
                interval: (projection.snapshot_hours > 0)
                    .then(|| Duration::from_secs(projection.snapshot_hours.saturating_mul(60 * 60))),
                kept: projection.snapshots_kept,
                events_min: projection.snapshot_events_min,
            },
            dispatcher: dispatcher::Config { calls_max, apps, feeds },
            sections,
            search_path: environment("PATH").unwrap_or_default(),
            broker_processors: environment("GOMAXPROCS").is_none().then(eventlog::server::processors),
            master_key: cli.master_key.clone(),
        };
        if settings.master_key.as_ref().is_some_and(|text| DataKey::from_hex(text).is_none()) {
            mistakes.add("--master-key (ROLLCALL_MASTER_KEY): must be 64 hexadecimal digits; make one with `openssl rand -hex 32`");
        }
        mistakes.into_result()?;
        Ok(settings)
    }

    /// The master key that what the broker holds is sealed under: given, or of this data folder. It is made only where
    /// nothing was ever written.
    pub(crate) async fn master_key(&self, broker: &eventlog::Broker) -> Result<DataKey, Failure> {
        let failed = |error: eventlog::Error| Failure::of("starting", &error);
        if self.known_master_key()?.is_none() && !eventlog::is_begun(broker).await.map_err(failed)? {
            dev_env::secret(&self.data_dir, MASTER_KEY, 32)?;
        }
        self.present_master_key()
    }

    /// The master key, which must be there.
    pub(crate) fn present_master_key(&self) -> Result<DataKey, Failure> {
        self.known_master_key()?.ok_or_else(|| {
            Failure::new(format!(
                "{} is missing, and without the master key nothing that was written can be read: put the file of this \
                 installation there, or give the key with ROLLCALL_MASTER_KEY",
                self.data_dir.join(MASTER_KEY).display()
            ))
        })
    }

    /// The master key if there is one; it is not made.
    pub(crate) fn known_master_key(&self) -> Result<Option<DataKey>, Failure> {
        let text = match &self.master_key {
            Some(text) => Some(text.clone()),
            None => dev_env::kept(&self.data_dir, MASTER_KEY)?,
        };
        let Some(text) = text else { return Ok(None) };
        DataKey::from_hex(&text).map(Some).ok_or_else(|| {
            Failure::new(format!(
                "{}: holds no key of 64 hexadecimal digits; put the right file back",
                self.data_dir.join(MASTER_KEY).display()
            ))
        })
    }

    /// A projection in this folder.
    pub(crate) fn projection(
        &self,
        folder: PathBuf,
        until: Option<u64>,
        broker: &eventlog::Broker,
    ) -> projector::Config {
        projector::Config {
            storage: projector::Storage::Folder(folder),
            cache_bytes: self.cache_bytes,
            hot_bytes: self.hot_bytes,
            indexed: self.indexed.clone(),
            until,
            restored_at: broker.timeline.as_ref().map(|timeline| timeline.restored_at),
        }
    }

    /// Where the node that runs on the data folder has its projection.
    pub(crate) fn projection_folder(&self) -> PathBuf {
        self.data_dir.join("projection")
    }

    /// How to connect: the URL that was given, or the one of the house that runs on this data folder.
    pub(crate) fn broker_config(&self, managed: Option<&str>) -> Result<eventlog::nats::Config, Failure> {
        let url = managed
            .map(str::to_string)
            .or_else(|| self.nats.url.clone())
            .or_else(|| dev_env::read(&self.data_dir, "NATS_URL"));
        let url = url.ok_or_else(|| {
            Failure::new(format!(
                "no broker is known: start `rollcall up` with --data-dir {}, or name one with --nats",
                self.data_dir.display()
            ))
        })?;
        Ok(eventlog::nats::Config {
            url,
            credentials: self.nats.credentials.clone(),
            root_certificates: self.nats.ca.clone(),
            replicas: self.nats.replicas,
            connect_timeout: self.nats.connect_timeout,
            ready_timeout: self.nats.ready_timeout,
            waiting_max: self.nats.writes_waiting_max,
        })
    }

    /// Where the admin API of a running process is, and its token: given, of the environment, or of the house that runs
    /// on this data folder.
    pub(crate) fn admin_api(&self, given: &AdminApi) -> Result<(String, String), Failure> {
        let of_folder = |name: &str| dev_env::read(&self.data_dir, name);
        let url = given.admin_url.as_ref().map(Url::to_string).or_else(|| environment("ADMIN_URL"));
        let url = url.or_else(|| of_folder("ADMIN_URL"));
        let url = url.unwrap_or_else(|| format!("http://{}", self.admin_listen));
        let token = given.admin_token.clone().or_else(|| environment("ADMIN_TOKEN"));
        let token = token.or_else(|| of_folder("ADMIN_TOKEN"));
        let token = match token {
            None => dev_env::kept(&self.data_dir, "admin.token")?,
            token => token,
        };
        let token = token.ok_or_else(|| {
            Failure::new(format!(
                "the admin token is not known: {} holds none. Name the data folder of the process to ask with --data-dir, or \
                 give the token as ADMIN_TOKEN",
                self.data_dir.display()
            ))
        })?;
        Ok((url.trim_end_matches('/').to_string(), token))
    }
}

/// One app of a configuration that is not active. Its secrets are not read: whoever plans needs none.
pub(crate) fn app_of(
    text: &str,
    name: &str,
    registry: &scim::Registry,
) -> Result<dispatcher::AppConfig, Failure> {
    let mut mistakes = Mistakes::default();
    let table = file::table(text)
        .map_err(|mistake| Failure::new(format!("the configuration is not TOML: {mistake}")))?;
    let section = table.get("app").and_then(|apps| apps.get(name)).cloned();
    let Some(Value::Table(mut section)) = section else {
        return Err(Failure::new(format!("the configuration has no [app.{name}]")));
    };
    for secret in ["token", "token_env", "token_file", "auth"] {
        section.remove(secret);
    }
    section.insert("token".to_string(), "not needed".into());
    let found = apps::app(registry, Path::new(""), &format!("app.{name}"), section.into(), &mut mistakes);
    mistakes.into_result()?;
    found.ok_or_else(|| Failure::new(format!("[app.{name}] cannot be read")))
}

/// The one look at the environment beside clap's.
#[expect(clippy::disallowed_methods, reason = "the configuration is the place that reads the environment")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn flags(command: &Command) -> (Option<&Serve>, Option<&Admin>) {
    match command {
        Command::Up(up) => (Some(&up.serve), Some(&up.serve.admin)),
        Command::Gateway(serve) => (Some(serve), Some(&serve.admin)),
        Command::Projector(projector) => (None, Some(&projector.admin)),
        Command::Dispatcher(admin) => (None, Some(admin)),
        Command::Token(_)
        | Command::Events(_)
        | Command::Audit(_)
        | Command::Feed(_)
        | Command::Config(_)
        | Command::Explain(_)
        | Command::App(_)
        | Command::Why(_)
        | Command::Timeline(_)
        | Command::Who(_)
        | Command::Leave(_)
        | Command::Backup(_)
        | Command::Restore(_)
        | Command::Record(_) => (None, None),
    }
}

fn folder_of(table: &mut Table, name: &str, mistakes: &mut Mistakes) -> Option<PathBuf> {
    match table.remove(name)? {
        Value::String(path) if !path.is_empty() => Some(PathBuf::from(path)),
        _ => {
            mistakes.add(format!("{name}: must be the path of a folder"));
            None
        }
    }
}

fn take<T: serde::de::DeserializeOwned + Default>(
    table: &mut Table,
    name: &str,
    mistakes: &mut Mistakes,
) -> T {
    table.remove(name).and_then(|value| file::section(name, value, mistakes)).unwrap_or_default()
}

fn named<T>(
    table: &mut Table,
    prefix: &str,
    mistakes: &mut Mistakes,
    read: impl Fn(&str, Value, &mut Mistakes) -> Option<T>,
) -> BTreeMap<String, T> {
    let mut found = BTreeMap::new();
    let entries = match table.remove(prefix) {
        None => return found,
        Some(Value::Table(entries)) => entries,
        Some(_) => {
            mistakes.add(format!("{prefix}: must hold tables, written [{prefix}.NAME]"));
            return found;
        }
    };
    for (name, value) in entries {
        let place = format!("{prefix}.{name}");
        if name.parse::<Tenant>().is_err() {
            mistakes.add(format!("{place}: a name has lower-case letters, digits and hyphens only"));
        }
        if let Some(read) = read(&place, value, mistakes) {
            found.insert(name, read);
        }
    }
    found
}
