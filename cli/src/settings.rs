//! All settings, from flags, `ROLLCALL_*` and `rollcall.toml`, in that order. The only place that reads the
//! environment; every mistake is reported at once.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use dispatcher::{AppConfig, FeedConfig, Leave, Secret};
use proto::Tenant;
use scim::{Dialect, Filter, FilterLimits, Registry};
use serde::Deserialize;
use toml::{Table, Value};
use url::Url;

use crate::args::{Admin, Cli, Command, Serve};
use crate::file::{self, Mistakes};
use crate::{Failure, dev_env};

/// Where the file is looked for.
const FILE: &str = "rollcall.toml";
const SCIM_PORT: u16 = 7643;
const ADMIN_PORT: u16 = 7644;
const NATS_PORT: u16 = 7422;

/// Everything that can be set.
pub(crate) struct Settings {
    pub(crate) data_dir: PathBuf,
    pub(crate) nats: Nats,
    pub(crate) gateway: gateway::Config,
    pub(crate) admin_listen: SocketAddr,
    pub(crate) cache_bytes: u64,
    pub(crate) dispatcher: dispatcher::Config,
    pub(crate) search_path: String,
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
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct GatewaySection {
    listen: Option<SocketAddr>,
    public_url: Option<String>,
    tls_certificate: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    behind_proxy: bool,
    limits: gateway::Limits,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct AdminSection {
    listen: Option<SocketAddr>,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ProjectionSection {
    cache_mb: u64,
}

impl Default for ProjectionSection {
    fn default() -> Self {
        Self { cache_mb: 512 }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AppSection {
    tenant: Tenant,
    #[serde(default = "scim_kind")]
    kind: String,
    url: Url,
    token: Option<Secret>,
    token_env: Option<String>,
    token_file: Option<PathBuf>,
    users: Option<String>,
    groups: Option<String>,
    #[serde(default = "yes")]
    provision_groups: bool,
    #[serde(default = "delete")]
    on_delete: Leave,
    #[serde(default = "deactivate")]
    on_leave: Leave,
    #[serde(default = "timeout_ms")]
    timeout_ms: u64,
    #[serde(default = "concurrency")]
    concurrency: usize,
    #[serde(default = "attempts_max")]
    attempts_max: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FeedSection {
    tenant: Tenant,
    url: Url,
    secret: Option<Secret>,
    secret_env: Option<String>,
    secret_file: Option<PathBuf>,
    #[serde(default)]
    attributes: Vec<String>,
    #[serde(default)]
    from_start: bool,
    #[serde(default = "timeout_ms")]
    timeout_ms: u64,
}

fn scim_kind() -> String {
    "scim".to_string()
}
fn yes() -> bool {
    true
}
fn delete() -> Leave {
    Leave::Delete
}
fn deactivate() -> Leave {
    Leave::Deactivate
}
fn timeout_ms() -> u64 {
    10_000
}
fn concurrency() -> usize {
    4
}
fn attempts_max() -> u32 {
    8
}

impl Settings {
    /// Reads everything. Nothing is started when there is a mistake.
    pub(crate) fn read(cli: &Cli) -> Result<Self, Failure> {
        let mut mistakes = Mistakes::default();
        let mut table = match &cli.config {
            Some(path) => file::read(path, &mut mistakes),
            None if Path::new(FILE).exists() => file::read(Path::new(FILE), &mut mistakes),
            None => Table::new(),
        };
        let data_dir_value = table.remove("data_dir").and_then(|value| value.as_str().map(PathBuf::from));
        let nats: NatsSection = take(&mut table, "nats", &mut mistakes);
        let gateway: GatewaySection = take(&mut table, "gateway", &mut mistakes);
        let admin: AdminSection = take(&mut table, "admin", &mut mistakes);
        let projection: ProjectionSection = take(&mut table, "projection", &mut mistakes);
        let apps = named(&mut table, "app", &mut mistakes, app);
        let feeds = named(&mut table, "feed", &mut mistakes, feed);
        for unknown in table.keys() {
            mistakes.add(format!(
                "{unknown}: unknown section; there are data_dir, nats, gateway, admin, projection, app.NAME and feed.NAME"
            ));
        }
        let (serve, admin_flags) = flags(&cli.command);
        let (nats_port, nats_server) = match &cli.command {
            Command::Up(up) => (up.nats_port, up.nats_server.clone()),
            Command::Gateway(_)
            | Command::Projector(_)
            | Command::Dispatcher(_)
            | Command::Token(_)
            | Command::Events(_) => (None, None),
        };
        let gateway = gateway_config(serve, gateway, &mut mistakes);
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
            },
            gateway,
            admin_listen: admin_listen.unwrap_or_else(|| loopback(ADMIN_PORT)),
            cache_bytes: projection.cache_mb.max(8) * 1024 * 1024,
            dispatcher: dispatcher::Config { apps, feeds },
            search_path: environment("PATH").unwrap_or_default(),
            master_key: cli.master_key.clone(),
        };
        if settings.master_key.as_ref().is_some_and(|text| proto::sealing::DataKey::from_hex(text).is_none())
        {
            mistakes.add("--master-key (ROLLCALL_MASTER_KEY): must be 64 hexadecimal digits; make one with `openssl rand -hex 32`");
        }
        mistakes.into_result()?;
        Ok(settings)
    }

    /// The master key: given, or of this data folder.
    pub(crate) fn master_key(&self) -> Result<proto::sealing::DataKey, Failure> {
        let text = match &self.master_key {
            Some(text) => text.clone(),
            None => dev_env::secret(&self.data_dir, "master.key", 32)?,
        };
        let path = self.data_dir.join("master.key");
        proto::sealing::DataKey::from_hex(&text).ok_or_else(|| {
            Failure::new(format!(
                "{}: holds no key of 64 hexadecimal digits; put the right file back",
                path.display()
            ))
        })
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
            connect_timeout: Duration::from_secs(10),
        })
    }
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
        Command::Projector(admin) | Command::Dispatcher(admin) => (None, Some(admin)),
        Command::Token(_) | Command::Events(_) => (None, None),
    }
}

fn gateway_config(
    serve: Option<&Serve>,
    section: GatewaySection,
    mistakes: &mut Mistakes,
) -> gateway::Config {
    let flag = |of: fn(&Serve) -> Option<PathBuf>| serve.and_then(of);
    let certificate = flag(|serve| serve.tls_certificate.clone()).or(section.tls_certificate);
    let key = flag(|serve| serve.tls_key.clone()).or(section.tls_key);
    let tls = match (certificate, key) {
        (Some(certificate), Some(key)) => Some(gateway::Tls { certificate, key }),
        (None, None) => None,
        (Some(_), None) => {
            mistakes.add("gateway.tls_certificate: needs gateway.tls_key too");
            None
        }
        (None, Some(_)) => {
            mistakes.add("gateway.tls_key: needs gateway.tls_certificate too");
            None
        }
    };
    let public_url = serve.and_then(|serve| serve.public_url.clone()).or(section.public_url);
    if let Some(url) = &public_url
        && !Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
    {
        mistakes.add(format!("gateway.public_url: {url:?} is no http or https URL"));
    }
    gateway::Config {
        listen: serve
            .and_then(|serve| serve.scim_listen)
            .or(section.listen)
            .unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, SCIM_PORT))),
        tls,
        public_url,
        behind_proxy: section.behind_proxy || serve.is_some_and(|serve| serve.behind_proxy),
        limits: section.limits,
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
    read: fn(&str, Value, &mut Mistakes) -> Option<T>,
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

fn app(place: &str, value: Value, mistakes: &mut Mistakes) -> Option<AppConfig> {
    let section: AppSection = file::section(place, value, mistakes)?;
    if section.kind != "scim" {
        mistakes.add(format!("{place}.kind: {:?} is not known; there is scim", section.kind));
    }
    check_url(place, &section.url, mistakes);
    for (name, filter, kind) in [("users", &section.users, "User"), ("groups", &section.groups, "Group")] {
        check_filter(&format!("{place}.{name}"), filter.as_deref(), kind, mistakes);
    }
    let token = secret(place, "token", section.token, section.token_env, section.token_file, mistakes);
    Some(AppConfig {
        tenant: section.tenant,
        url: section.url,
        token,
        users: section.users,
        groups: section.groups,
        provision_groups: section.provision_groups,
        on_delete: section.on_delete,
        on_leave: section.on_leave,
        timeout_ms: section.timeout_ms.clamp(100, 25_000),
        concurrency: section.concurrency.clamp(1, 64),
        attempts_max: section.attempts_max.max(1),
    })
}

fn feed(place: &str, value: Value, mistakes: &mut Mistakes) -> Option<FeedConfig> {
    let section: FeedSection = file::section(place, value, mistakes)?;
    check_url(place, &section.url, mistakes);
    let secret = secret(place, "secret", section.secret, section.secret_env, section.secret_file, mistakes);
    Some(FeedConfig {
        tenant: section.tenant,
        url: section.url,
        secret,
        attributes: section.attributes,
        from_start: section.from_start,
        timeout_ms: section.timeout_ms.clamp(100, 25_000),
    })
}

fn check_url(place: &str, url: &Url, mistakes: &mut Mistakes) {
    if !matches!(url.scheme(), "http" | "https") {
        mistakes.add(format!("{place}.url: must be http or https"));
    }
}

fn check_filter(place: &str, filter: Option<&str>, kind: &str, mistakes: &mut Mistakes) {
    let (Some(filter), Ok(registry)) = (filter, Registry::built_in()) else { return };
    let Some(kind) = registry.by_name(kind) else { return };
    if let Err(error) = Filter::parse(filter, &FilterLimits::default(), Dialect::Rfc, &registry, kind) {
        mistakes.add(format!("{place}: {error}"));
    }
}

/// A secret that stands in the file, in a variable, or in a file of its own.
fn secret(
    place: &str,
    name: &str,
    plain: Option<Secret>,
    variable: Option<String>,
    path: Option<PathBuf>,
    mistakes: &mut Mistakes,
) -> Secret {
    let found = match (plain, variable, path) {
        (Some(secret), None, None) => Ok(secret),
        (None, Some(variable), None) => environment(&variable)
            .filter(|text| !text.is_empty())
            .map(Secret::new)
            .ok_or_else(|| format!("{place}.{name}_env: the variable {variable} is not set")),
        (None, None, Some(path)) => std::fs::read_to_string(&path)
            .map(|text| Secret::new(text.trim()))
            .map_err(|error| format!("{place}.{name}_file: {} cannot be read: {error}", path.display())),
        (_, _, _) => Err(format!("{place}: needs one of {name}, {name}_env and {name}_file")),
    };
    found.unwrap_or_else(|mistake| {
        mistakes.add(mistake);
        Secret::default()
    })
}
