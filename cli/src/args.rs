//! The command line: what `rollcall --help` says, and nothing else.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Event-sourced identity provisioning: SCIM in, an immutable identity log, every app in step.
#[derive(Debug, Parser)]
#[command(
    name = "rollcall",
    version,
    about,
    max_term_width = 100,
    after_help = "Settings come from flags, then ROLLCALL_* variables, then rollcall.toml; \
                  the first that names a setting wins.\n\
                  Try it: `rollcall up --demo`, then follow what it prints."
)]
pub struct Cli {
    /// Configuration file [default: rollcall.toml if there is one]
    #[arg(long, global = true, value_name = "FILE", env = "ROLLCALL_CONFIG")]
    pub config: Option<PathBuf>,

    /// Where this node keeps its data: the managed broker's store, the projection, keys, dev.env [default: var]
    #[arg(long, global = true, value_name = "DIR", env = "ROLLCALL_DATA_DIR")]
    pub data_dir: Option<PathBuf>,

    /// Use this NATS server or cluster instead of a managed one, for example
    /// `nats://user:password@host:4222,nats://other:4222`
    #[arg(long, global = true, value_name = "URL", env = "ROLLCALL_NATS", hide_env_values = true)]
    pub nats: Option<String>,

    /// What to log, as a tracing filter: `info`, `debug`, `gateway=debug,info` [default: info]
    #[arg(long, global = true, value_name = "FILTER", env = "ROLLCALL_LOG")]
    pub log: Option<String>,

    /// How log lines look
    #[arg(long, global = true, value_name = "FORMAT", env = "ROLLCALL_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,

    #[command(subcommand)]
    pub command: Command,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum LogFormat {
    /// One readable line each.
    Text,
    /// One JSON object each.
    Json,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run everything in one process: broker (managed unless --nats), gateway, projector, dispatcher
    #[command(after_help = "Ends cleanly on SIGTERM and Ctrl-C. When everything is ready, DATA_DIR/dev.env holds \
                            SCIM_URL, SCIM_TOKEN, APP_URL, APP_TOKEN, ADMIN_URL, ADMIN_TOKEN and NATS_URL.")]
    Up(Up),
    /// Run only the SCIM gateway (with its own projection), against --nats
    Gateway(Serve),
    /// Run only the projector: keeps the projection current and ready, against --nats
    Projector(Admin),
    /// Run only the dispatcher: keeps apps and feeds in step, against --nats
    Dispatcher(Admin),
    /// Create, list and revoke the bearer tokens that SCIM clients present
    #[command(subcommand)]
    Token(Token),
    /// Look at the identity log
    #[command(subcommand)]
    Events(Events),
}

#[derive(Args, Debug)]
pub struct Up {
    #[command(flatten)]
    pub serve: Serve,
    /// Port of the managed NATS server on 127.0.0.1; 0 picks a free one [default: 7422]
    #[arg(long, value_name = "PORT", env = "ROLLCALL_NATS_PORT")]
    pub nats_port: Option<u16>,
    /// The nats-server program [default: the one on PATH, else target/tools/nats-server]
    #[arg(long, value_name = "FILE", env = "ROLLCALL_NATS_SERVER")]
    pub nats_server: Option<PathBuf>,
    /// Add a tenant `corp`, and a tenant `demo-app` that plays a downstream SCIM app fed from it
    #[arg(long, env = "ROLLCALL_DEMO")]
    pub demo: bool,
}

#[derive(Args, Debug)]
pub struct Serve {
    /// Where the SCIM gateway listens; port 0 picks a free one [default: 127.0.0.1:7643]
    #[arg(long, value_name = "ADDRESS", env = "ROLLCALL_SCIM_LISTEN")]
    pub scim_listen: Option<SocketAddr>,
    /// The URL under which clients reach the gateway; makes Location and meta.location
    #[arg(long, value_name = "URL", env = "ROLLCALL_PUBLIC_URL")]
    pub public_url: Option<String>,
    /// TLS certificate chain, PEM
    #[arg(long, value_name = "FILE", env = "ROLLCALL_TLS_CERTIFICATE", requires = "tls_key")]
    pub tls_certificate: Option<PathBuf>,
    /// TLS private key, PEM
    #[arg(long, value_name = "FILE", env = "ROLLCALL_TLS_KEY", requires = "tls_certificate")]
    pub tls_key: Option<PathBuf>,
    /// Allow plain HTTP on an address that is not loopback, because a proxy in front terminates TLS
    #[arg(long, env = "ROLLCALL_BEHIND_PROXY")]
    pub behind_proxy: bool,
    #[command(flatten)]
    pub admin: Admin,
}

#[derive(Args, Debug)]
pub struct Admin {
    /// Where /livez, /readyz, /metrics and the admin API listen; port 0 picks a free one [default: 127.0.0.1:7644]
    #[arg(long, value_name = "ADDRESS", env = "ROLLCALL_ADMIN_LISTEN")]
    pub admin_listen: Option<SocketAddr>,
}

#[derive(Debug, Subcommand)]
pub enum Token {
    /// Make a token and print it, once: only its hash is kept
    Create(TokenCreate),
    /// List tokens: id, tenant, source, dialect, state. Never the tokens themselves
    List {
        /// Only this tenant's
        #[arg(long)]
        tenant: Option<String>,
        /// One JSON object per line
        #[arg(long)]
        json: bool,
    },
    /// Revoke a token by its id; every gateway refuses it from then on
    Revoke {
        /// The token's id, as `rollcall token list` shows it
        id: String,
        /// Why, for the record
        #[arg(long, default_value = "")]
        reason: String,
    },
}

#[derive(Args, Debug)]
pub struct TokenCreate {
    /// The tenant it belongs to: lower-case letters, digits and hyphens
    #[arg(long)]
    pub tenant: String,
    /// The source (client) that writes with it: okta, entra, hr, ...
    #[arg(long)]
    pub source: String,
    /// How the client speaks SCIM: rfc (strict), okta, entra
    #[arg(long, default_value = "rfc")]
    pub dialect: String,
    /// Expires after this long, for example 90d or 12h [default: never]
    #[arg(long, value_name = "DURATION")]
    pub expires_in: Option<String>,
    /// A note for `rollcall token list`
    #[arg(long, default_value = "")]
    pub description: String,
}

#[derive(Debug, Subcommand)]
pub enum Events {
    /// Follow the log live: who changed what, from what, to what
    #[command(after_help = "Examples:\n  rollcall events tail\n  rollcall events tail --from 1\n  \
                            rollcall events tail --from 2026-11-01T00:00:00Z --json | jq .\n\n\
                            Values are people's data: this needs the master key in DATA_DIR, and prints it only to you.")]
    Tail(Tail),
}

#[derive(Args, Debug)]
pub struct Tail {
    /// Start at a position (a sequence) or an instant (RFC 3339) [default: now]
    #[arg(long, value_name = "POSITION|TIME")]
    pub from: Option<String>,
    /// Only this tenant
    #[arg(long)]
    pub tenant: Option<String>,
    /// One JSON object per line
    #[arg(long)]
    pub json: bool,
    /// Stop at the end of the log instead of waiting for more
    #[arg(long)]
    pub no_follow: bool,
}
