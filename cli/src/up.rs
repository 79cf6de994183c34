//! `rollcall up`: everything in one process, with a broker of its own and a downstream app to look at.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use eventlog::server::{self, Server};
use gateway::mint;
use scim::Dialect;

use crate::args::Up;
use crate::node::{HangUps, Node, Role};
use crate::output::say;
use crate::settings::Settings;
use crate::{Failure, dev_env};

/// The tenant that the first client writes to.
const TENANT: &str = "corp";
/// The tenant that plays a downstream app, and the app's name.
const APP: &str = "demo-app";

pub(crate) async fn run(mut settings: Settings, up: &Up) -> Result<(), Failure> {
    let hang_ups = HangUps::listen()?;
    std::fs::create_dir_all(&settings.data_dir).map_err(|error| {
        Failure::of(format_args!("making the data folder {}", settings.data_dir.display()), &error)
    })?;
    settings.data_dir = settings.data_dir.canonicalize().map_err(|error| {
        Failure::of(format_args!("finding the data folder {}", settings.data_dir.display()), &error)
    })?;
    let server = match settings.nats.url {
        Some(_) => None,
        None => Some(start_server(&settings, settings.nats.port).await?),
    };
    // Another process that works on this folder keeps its own.
    if !projector::Storage::Folder(settings.projection_folder()).is_held() {
        dev_env::remove(&settings.data_dir);
    }
    let config = settings.broker_config(server.as_ref().map(Server::url))?;
    let mut node = Node::start(&settings, Role::All, &config, hang_ups).await?;
    let scheme = if settings.gateway.tls.is_some() { "https" } else { "http" };
    let address = node.scim_address.map(|address| address.to_string()).unwrap_or_default();
    let base = format!("{scheme}://{address}");
    let public = settings.gateway.public_url.clone().unwrap_or_else(|| base.clone());
    let scim_token = token(&node, &settings.data_dir, TENANT, "first-client").await?;
    let app_token = token(&node, &settings.data_dir, APP, "rollcall").await?;
    let (scim_url, app_url) = (format!("{public}/t/{TENANT}/scim/v2"), format!("{public}/t/{APP}/scim/v2"));
    let admin_url = format!("http://{}", node.admin_address);
    // Our own dispatcher need not trust the certificate that clients are shown.
    let demo = !up.no_demo && settings.gateway.tls.is_none();
    let mut fixed = BTreeMap::new();
    if demo {
        fixed.insert(APP.to_string(), demo_app(&base, &app_token)?);
    }
    node.dispatch(std::mem::take(&mut settings.dispatcher), fixed, settings.sections.clone());
    let values = [
        ("SCIM_URL", scim_url.as_str()),
        ("SCIM_TOKEN", &scim_token),
        ("APP_URL", &app_url),
        ("APP_TOKEN", &app_token),
        ("ADMIN_URL", &admin_url),
        ("ADMIN_TOKEN", &node.admin_token),
        ("NATS_URL", &config.url),
    ];
    let env = dev_env::write(&settings.data_dir, &values)?;
    tell(&scim_url, &app_url, &admin_url, &env, demo);
    let result = node.wait().await;
    dev_env::remove(&settings.data_dir);
    if let Some(server) = server {
        let _ = tokio::task::spawn_blocking(move || server.stop()).await;
    }
    result
}

/// The managed broker of the data folder.
pub(crate) async fn start_server(settings: &Settings, port: u16) -> Result<Server, Failure> {
    let binary = server::find(settings.nats.server.as_deref(), &settings.search_path)
        .map_err(|error| Failure::new(error.to_string()))?;
    let processors = settings.broker_processors;
    let config = server::Config { binary, folder: settings.data_dir.join("nats"), port, processors };
    tracing::info!(program = %config.binary.display(), folder = %config.folder.display(), "starting the managed NATS server");
    let started = tokio::task::spawn_blocking(move || Server::start(&config)).await;
    match started {
        Ok(Ok(server)) => Ok(server),
        Ok(Err(error)) => Err(Failure::new(error.to_string())),
        Err(error) => Err(Failure::of("starting the managed NATS server", &error)),
    }
}

/// The token of this data folder for a tenant: made once, kept in a file that only its owner can read.
async fn token(node: &Node, data_dir: &Path, tenant: &str, source: &str) -> Result<String, Failure> {
    let name = format!("{tenant}.token");
    let control = &*node.broker.control;
    if let Some(kept) = dev_env::kept(data_dir, &name)? {
        let credential = kept.trim_start_matches("rc_").split('_').next().unwrap_or_default().to_string();
        let known =
            gateway::read_tokens(control).await.map_err(|error| Failure::of("reading the tokens", &error))?;
        if known.iter().any(|token| token.credential == credential && !token.revoked) {
            return Ok(kept);
        }
    }
    let tenant = tenant.parse().map_err(|error| Failure::of("naming a tenant", &error))?;
    let minted = mint(control, &tenant, source, Dialect::Rfc, None, "made by rollcall up", None)
        .await
        .map_err(|error| Failure::of("making a token", &error))?;
    dev_env::keep(data_dir, &name, &minted.secret)?;
    Ok(minted.secret)
}

fn demo_app(base: &str, token: &str) -> Result<dispatcher::AppConfig, Failure> {
    let url = format!("{base}/t/{APP}/scim/v2");
    Ok(dispatcher::AppConfig {
        tenant: TENANT.parse().map_err(|error| Failure::of("naming a tenant", &error))?,
        url: url.parse().map_err(|error| Failure::of("naming the demo app", &error))?,
        auth: dispatcher::Auth::bearer(dispatcher::Secret::new(token)),
        scope: dispatcher::Scope::all(["User", "Group"]),
        profile: Arc::new(dispatcher::Profile::scim()),
        budgets: Vec::new(),
        budget_shared_as: None,
        budget_weight: 1,
        on_delete: dispatcher::Leave::Delete,
        on_leave: dispatcher::Leave::Deactivate,
        timing: dispatcher::Timing::default(),
        mapping: dispatcher::Mapping::default(),
        matching: dispatcher::Matching::default(),
        timeout_ms: 10_000,
        late_ms: 10_000,
        concurrency: 4,
        attempts_max: 8,
        // It is there to be played with.
        guard: dispatcher::Rails { limits: BTreeMap::new(), ..dispatcher::Rails::default() },
        read_only: false,
        rollout: None,
        reconcile: dispatcher::ReconcileConfig::default(),
    })
}

fn tell(scim_url: &str, app_url: &str, admin_url: &str, env: &Path, demo: bool) {
    let env = env.display();
    say("\nRollcall is ready.\n");
    say(&format!("  SCIM, tenant {TENANT}:  {scim_url}"));
    if demo {
        say(&format!("  Demo app:          {app_url}"));
    }
    say(&format!("  Admin:             {admin_url}  (/livez, /readyz, /metrics, /api/v1/…)"));
    say(&format!("  Tokens and URLs:   {env}\n"));
    say("Try it in another terminal:\n");
    say(&format!("  . {env}"));
    say(
        "  curl -s \"$SCIM_URL/Users\" -H \"Authorization: Bearer $SCIM_TOKEN\" -H 'Content-Type: application/scim+json' \\",
    );
    say(
        "    -d '{\"schemas\":[\"urn:ietf:params:scim:schemas:core:2.0:User\"],\"userName\":\"ada@example.com\",\"displayName\":\"Ada\"}'",
    );
    if demo {
        say(
            "  curl -s \"$APP_URL/Users\" -H \"Authorization: Bearer $APP_TOKEN\"    # the account in the app",
        );
    }
    say("  rollcall events tail --from 1                                      # who changed what\n");
    say("Ctrl-C stops it.");
}
