//! The command line: what `rollcall --help` says, and nothing else.

mod apps;
mod audit;
mod config;
mod feeds;

pub(crate) use apps::{
    App as AppCommand, By, Import, Leave, Provision, Reconcile, Show as AppShow, Timeline, Told, WhoAt, Why,
};
pub(crate) use audit::{AdminApi, Answer, Audit, Explain, Format, Who};
pub(crate) use config::{Config as ConfigCommand, ConfigReload};
pub(crate) use feeds::{Ask, Feed};

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use url::Url;

/// Event-sourced identity provisioning: SCIM in, an immutable identity log, every app in step.
#[derive(Debug, Parser)]
#[command(
    name = "rollcall",
    version,
    about,
    max_term_width = 100,
    after_help = "Settings come from flags, then ROLLCALL_* variables, then rollcall.toml; \
                  the first that names a setting wins.\n\
                  Try it: `rollcall up`, then follow what it prints."
)]
pub(crate) struct Cli {
    /// Configuration file [default: rollcall.toml if there is one]
    #[arg(long, global = true, value_name = "FILE", env = "ROLLCALL_CONFIG")]
    pub(crate) config: Option<PathBuf>,

    /// Where this node keeps its data: the managed broker's store, the projection, keys, dev.env [default: var]
    #[arg(long, global = true, value_name = "DIR", env = "ROLLCALL_DATA_DIR")]
    pub(crate) data_dir: Option<PathBuf>,

    /// Use this NATS server or cluster instead of a managed one, for example
    /// `nats://user:password@host:4222,nats://other:4222`
    #[arg(long, global = true, value_name = "URL", env = "ROLLCALL_NATS", hide_env_values = true)]
    pub(crate) nats: Option<String>,

    /// Replicas of each stream: 1, or 3 on a cluster [default: 1]
    #[arg(long, alias = "replicas", global = true, value_name = "COUNT", env = "ROLLCALL_NATS_REPLICAS")]
    pub(crate) nats_replicas: Option<usize>,

    /// NATS credentials file, for --nats
    #[arg(long, global = true, value_name = "FILE", env = "ROLLCALL_NATS_CREDENTIALS")]
    pub(crate) nats_credentials: Option<PathBuf>,

    /// Root certificates of the NATS server, PEM, for --nats; also makes TLS a must
    #[arg(long, global = true, value_name = "FILE", env = "ROLLCALL_NATS_CA")]
    pub(crate) nats_ca: Option<PathBuf>,

    /// The key that wraps all data keys, 64 hexadecimal digits. Every process of one installation needs the same.
    /// Best given by the environment [default: DATA_DIR/master.key, made when missing]
    #[arg(long, global = true, value_name = "HEX", env = "ROLLCALL_MASTER_KEY", hide_env_values = true)]
    pub(crate) master_key: Option<String>,

    /// What to log, as a tracing filter: `info`, `debug`, `gateway=debug,info` [default: info]
    #[arg(long, global = true, value_name = "FILTER", env = "ROLLCALL_LOG")]
    pub(crate) log: Option<String>,

    /// How log lines look
    #[arg(long, global = true, value_name = "FORMAT", env = "ROLLCALL_LOG_FORMAT", default_value = "text")]
    pub(crate) log_format: LogFormat,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// One readable line each.
    Text,
    /// One JSON object each.
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run everything in one process: broker (managed unless --nats), gateway, projector, dispatcher
    #[command(
        after_help = "Ends cleanly on SIGTERM and Ctrl-C. When everything is ready, DATA_DIR/dev.env holds \
                            SCIM_URL, SCIM_TOKEN, APP_URL, APP_TOKEN, ADMIN_URL, ADMIN_TOKEN and NATS_URL."
    )]
    Up(Up),
    /// Run only the SCIM gateway (with its own projection), against --nats
    Gateway(Serve),
    /// Run only the projector: keeps the projection current and ready, against --nats
    #[command(args_conflicts_with_subcommands = true)]
    Projector(Projector),
    /// Run only the dispatcher: keeps apps and feeds in step, against --nats
    Dispatcher(Admin),
    /// Create, list and revoke the bearer tokens that SCIM clients present
    #[command(subcommand)]
    Token(Token),
    /// Look at the identity log
    #[command(subcommand)]
    Events(Events),
    /// Ask a running process what the directory was, at any moment, and what happened to it
    #[command(
        subcommand,
        after_help = "Every answer is the directory as of one event, and ends with that position, the number of items and a \
                            digest over all of them (docs/operations/audit.md)."
    )]
    Audit(Audit),
    /// Look at feeds, and have what is held of them tried again, given up or told once more (docs/feeds.md)
    #[command(subcommand)]
    Feed(Feed),
    /// Change what a running process does
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Say how a filter would be answered: which indexes are used, how many resources are looked at. Nothing is read
    #[command(
        after_help = "Example:\n  rollcall explain 'userName sw \"a\" and active eq true' --tenant corp --type User --sort-by userName"
    )]
    Explain(Explain),
    /// Ask and tell a running dispatcher: how apps are, what waits there and why; stop it, let it go on
    #[command(
        subcommand,
        after_help = "Every command is asked of a running process (--admin-url), and whatever stops something or lets it go on \
                            is written down with --by (docs/operations/apps.md)."
    )]
    App(AppCommand),
    /// Say why an app holds of somebody what it holds: scope, wish, account, plan, what was done and why
    #[command(after_help = "Example:\n  rollcall why ada@example.com wiki")]
    Why(Why),
    /// Everything that happened to somebody, in the directory and at every app, in the order of time
    #[command(after_help = "Example:\n  rollcall timeline ada@example.com --tenant corp")]
    Timeline(Timeline),
    /// Who had an account at an app, at an instant
    #[command(after_help = "Example:\n  rollcall who wiki --at 2026-11-01T08:30:00Z")]
    Who(WhoAt),
    /// End one person's access now: what the directory takes away passes pauses and guard rails at every app
    #[command(
        after_help = "Example:\n  rollcall leave ada@example.com --now --by ann --why 'badge withdrawn'\n\n\
                            It is the directory that says who leaves: deactivate or delete the person there."
    )]
    Leave(Leave),
    /// Write everything that must not be lost into a folder, while rollcall runs or while it does not
    #[command(
        args_conflicts_with_subcommands = true,
        subcommand_negates_reqs = true,
        after_help = "Examples:\n  rollcall backup --to /backups/2026-11-24\n  rollcall backup verify /backups/2026-11-24\n  \
                            rollcall backup --to /backups/2026-11-24 --nats nats://user:password@host:4222\n\n\
                            The master key is not in it: keep DATA_DIR/master.key somewhere else. Without it nothing \
                            in a backup can be read."
    )]
    Backup(Backup),
    /// Restore a backup into a broker that holds nothing yet, and compare it with what was backed up
    #[command(
        after_help = "Example, into a new data folder:\n  mkdir -p var && cp /safe/master.key var/\n  \
                            rollcall restore --from /backups/2026-11-24\n  rollcall up\n\n\
                            Stop every process of the installation first. Nothing is overwritten; a restore that was \
                            interrupted can be run again. Into a cluster: --nats URL --replicas 3"
    )]
    Restore(Restore),
    /// Stand between a live client and a SCIM service and write their dialogue to a file, without personal data
    #[command(
        after_help = "Example:\n  rollcall record --upstream http://127.0.0.1:7643/t/corp/scim/v2 --client okta \\\n    \
                            --out tests/dialogues/okta/0009_recorded.json\n\n\
                            Values become made-up ones, ids become names, credentials are not kept. Read the file before \
                            you share it."
    )]
    Record(Record),
}

#[derive(Args, Debug)]
pub(crate) struct Backup {
    /// The folder, which must not exist; its name appears when the backup is whole
    #[arg(long, value_name = "FOLDER", required = true)]
    pub(crate) to: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Option<BackupCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BackupCommand {
    /// Read a backup and compare it with its manifest; needs no broker
    Verify {
        /// The folder of the backup
        folder: PathBuf,
    },
}

#[derive(Args, Debug)]
pub(crate) struct Restore {
    /// The folder of the backup
    #[arg(long, value_name = "FOLDER")]
    pub(crate) from: PathBuf,
    /// Take the data keys from this newer backup, so that people who were erased since stay erased
    #[arg(long, value_name = "FOLDER")]
    pub(crate) keys_from: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct Record {
    /// The SCIM base URL of the service that answers
    #[arg(long, value_name = "URL")]
    pub(crate) upstream: Url,
    /// Where the client is to connect, plain HTTP on loopback; port 0 picks a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7645")]
    pub(crate) listen: SocketAddr,
    /// The dialogue file
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// The client's name
    #[arg(long, default_value = "unknown")]
    pub(crate) client: String,
    /// What happens in it
    #[arg(long, default_value = "Recorded")]
    pub(crate) title: String,
}

#[derive(Args, Debug)]
pub(crate) struct Up {
    #[command(flatten)]
    pub(crate) serve: Serve,
    /// Port of the managed NATS server on 127.0.0.1; 0 picks a free one [default: 7422]
    #[arg(long, value_name = "PORT", env = "ROLLCALL_NATS_PORT")]
    pub(crate) nats_port: Option<u16>,
    /// The nats-server program [default: the one on PATH, else target/tools/nats-server]
    #[arg(long, value_name = "FILE", env = "ROLLCALL_NATS_SERVER")]
    pub(crate) nats_server: Option<PathBuf>,
    /// Leave out the tenant `demo-app`, which plays a downstream SCIM app that is fed from the tenant `corp`
    #[arg(long, env = "ROLLCALL_NO_DEMO")]
    pub(crate) no_demo: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Serve {
    /// Where the SCIM gateway listens; port 0 picks a free one [default: 127.0.0.1:7643]
    #[arg(long, value_name = "ADDRESS", env = "ROLLCALL_SCIM_LISTEN")]
    pub(crate) scim_listen: Option<SocketAddr>,
    /// The URL under which clients reach the gateway; makes Location and meta.location
    #[arg(long, value_name = "URL", env = "ROLLCALL_PUBLIC_URL")]
    pub(crate) public_url: Option<String>,
    /// TLS certificate chain, PEM
    #[arg(long, value_name = "FILE", env = "ROLLCALL_TLS_CERTIFICATE", requires = "tls_key")]
    pub(crate) tls_certificate: Option<PathBuf>,
    /// TLS private key, PEM
    #[arg(long, value_name = "FILE", env = "ROLLCALL_TLS_KEY", requires = "tls_certificate")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Allow plain HTTP on an address that is not loopback, because a proxy in front terminates TLS
    #[arg(long, env = "ROLLCALL_BEHIND_PROXY")]
    pub(crate) behind_proxy: bool,
    #[command(flatten)]
    pub(crate) admin: Admin,
}

#[derive(Args, Debug)]
pub(crate) struct Projector {
    #[command(flatten)]
    pub(crate) admin: Admin,
    #[command(subcommand)]
    pub(crate) command: Option<ProjectorCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ProjectorCommand {
    /// Drop the projection and build it again from the log, or build a second one, and print its digest
    #[command(
        after_help = "Examples:\n  rollcall projector rebuild                            # the node is stopped\n  \
                            rollcall projector rebuild --folder check             # beside a node that runs\n  \
                            rollcall projector rebuild --folder then --to 4711    # as of a sequence\n\n\
                            Compare the digest with that of `rollcall audit digest`. Nothing is lost: the projection is a \
                            cache of the log."
    )]
    Rebuild(Rebuild),
    /// Have a running process put a snapshot of its projection into the broker's object store, where new processes begin
    #[command(
        after_help = "Example:\n  rollcall projector snapshot\n\nSnapshots are also taken by themselves: \
                            [projection] snapshot_hours (docs/operations/projection.md)."
    )]
    Snapshot(AdminApi),
}

#[derive(Args, Debug)]
pub(crate) struct Rebuild {
    /// Build up to this sequence only; needs a folder of its own
    #[arg(long, value_name = "POSITION", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) to: Option<u64>,
    /// Build a second projection in this folder, which must be empty or not exist [default: the node's own, dropped before]
    #[arg(long, value_name = "DIR")]
    pub(crate) folder: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct Admin {
    /// Where /livez, /readyz, /metrics and the admin API listen; port 0 picks a free one [default: 127.0.0.1:7644]
    #[arg(long, value_name = "ADDRESS", env = "ROLLCALL_ADMIN_LISTEN")]
    pub(crate) admin_listen: Option<SocketAddr>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Token {
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
pub(crate) struct TokenCreate {
    /// The tenant it belongs to: lower-case letters, digits and hyphens
    #[arg(long)]
    pub(crate) tenant: String,
    /// The source (client) that writes with it: okta, entra, hr, ...
    #[arg(long)]
    pub(crate) source: String,
    /// How the client speaks SCIM: rfc (strict), okta, entra, lenient (any shape)
    #[arg(long, default_value = "rfc")]
    pub(crate) dialect: String,
    /// The id of the user that the token stands for, who is /Me for it [default: a service]
    #[arg(long, value_name = "ID")]
    pub(crate) user: Option<String>,
    /// Expires after this long, for example 90d or 12h [default: never]
    #[arg(long, value_name = "DURATION")]
    pub(crate) expires_in: Option<String>,
    /// A note for `rollcall token list`
    #[arg(long, default_value = "")]
    pub(crate) description: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Events {
    /// Follow the log live: who changed what, from what, to what
    #[command(after_help = "Examples:\n  rollcall events tail\n  rollcall events tail --from 1\n  \
                            rollcall events tail --from 2026-11-01T00:00:00Z --json | jq .\n\n\
                            Values are people's data: this needs the master key in DATA_DIR, and prints it only to you.")]
    Tail(Tail),
    /// Have readers pass over a message that nobody can read and that ends every start; it stays in the log
    #[command(
        after_help = "Example:\n  rollcall events pass-over 4711 --by ann --why 'damaged on nats-2, see INC-42'\n\n\
                            Restore the stream from a backup instead if a good copy of the message may exist: what it said is lost to \
                            every reader. Refused for what can be read, and for what a newer version wrote. Counts for processes \
                            that start afterwards."
    )]
    PassOver(PassOver),
}

#[derive(Args, Debug)]
pub(crate) struct PassOver {
    /// Where the message stands, as the error says that ended the process
    pub(crate) sequence: u64,
    /// In which stream: IDENTITY, PROVISIONING or CONTROL
    #[arg(long, value_name = "NAME", default_value = "IDENTITY")]
    pub(crate) stream: String,
    /// Who you are
    #[arg(long, value_name = "NAME")]
    pub(crate) by: String,
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    pub(crate) why: String,
}

#[derive(Args, Debug)]
pub(crate) struct Tail {
    /// Start at a sequence, or at an instant of the broker's clock (RFC 3339) or a date (its first instant, UTC) [default:
    /// now]
    #[arg(long, value_name = "SEQUENCE|TIME|DATE")]
    pub(crate) from: Option<String>,
    /// Only this tenant
    #[arg(long)]
    pub(crate) tenant: Option<String>,
    /// One JSON object per line
    #[arg(long)]
    pub(crate) json: bool,
    /// Stop at the end of the log instead of waiting for more
    #[arg(long)]
    pub(crate) no_follow: bool,
}
