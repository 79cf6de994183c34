//! What `rollcall app`, `why`, `timeline` and `who` are asked.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::AdminApi;

#[derive(Debug, Subcommand)]
pub(crate) enum App {
    /// Every app: accounts, what is due, what is held, what is stopped
    List(List),
    /// One app, with everything that is stopped there, by whom and why
    Show(Show),
    /// What waits for a person, and why
    #[command(after_help = "Example:\n  rollcall app held wiki --reason 'another account'")]
    Held(Held),
    /// Hold an app against what it should hold, now
    #[command(
        after_help = "Examples:\n  rollcall app reconcile wiki --wait\n  rollcall app reconcile wiki --wait --json"
    )]
    Reconcile(Reconcile),
    /// Stop every call to an app; what changes meanwhile waits
    #[command(after_help = "Example:\n  rollcall app pause wiki --by ann --why 'maintenance until noon'")]
    Pause(Operate),
    /// Let a paused app go on
    #[command(after_help = "Example:\n  rollcall app resume wiki --by ann")]
    Resume(Operate),
    /// Let go on what a guard rail holds, or a rollout that stopped; whoever caused it cannot
    #[command(
        after_help = "Examples:\n  rollcall app show wiki\n  rollcall app release wiki --by ann --why 'the department is gone'\n  \
                            rollcall app release wiki --operation delete --by ann"
    )]
    Release(Release),
    /// Try again what is held, planned afresh: one, several, or by the reason
    #[command(
        after_help = "Examples:\n  rollcall app redrive wiki --by ann --id 01890a5d-ac96-774b-bcce-b302099a8057\n  \
                            rollcall app redrive wiki --by ann --reason 'another account'\n  \
                            rollcall app redrive wiki --by ann --all"
    )]
    Redrive(Redrive),
    /// What would be done now, without doing it: for everybody or for one; also with a configuration that is not active
    #[command(
        after_help = "Examples:\n  rollcall app plan wiki\n  rollcall app plan wiki --who ada@example.com\n  \
                            rollcall app plan wiki --with new.toml --count 100"
    )]
    Plan(Plan),
    /// Whether an app can be worked with: reached, known to it, searched and listed as its profile says; changes nothing
    #[command(
        after_help = "Exit code 1: a check failed.\n\nExamples:\n  rollcall app test wiki\n  rollcall app test wiki --json"
    )]
    Test(Show),
    /// Work on one resource at once, before all others, and wait for what comes of it; guard rails hold it as ever
    #[command(after_help = "Exit code 1: it is not as it should be, and the text says why.\n\nExamples:\n  \
                            rollcall app provision wiki ada@example.com --by ann\n  \
                            rollcall app provision wiki Engineers --by ann --why 'ticket 4711' --wait-seconds 300")]
    Provision(Provision),
    /// What an app holds: whose each account is or would become, and SCIM requests that make the others; changes nothing
    /// unless --apply does what is proposed
    #[command(
        after_help = "Requests are lines of JSON, each an operation of a bulk request: method, path and data. Everything else is told on \
                            the error output.\n\nExit code 1: the app did not list everything, or not everything was applied.\n\nExamples:\n  \
                            rollcall app import wiki --out requests.jsonl\n  \
                            rollcall app import wiki | jq -c .data\n  rollcall app import wiki --json --keep-ids\n  \
                            rollcall app import wiki --apply --only links --by ann --most 500\n  \
                            rollcall app import wiki --apply --by ann --yes"
    )]
    Import(Import),
}

#[derive(Args, Debug)]
pub(crate) struct List {
    #[command(flatten)]
    pub(crate) answer: Told,
}

#[derive(Args, Debug)]
pub(crate) struct Show {
    /// The app, as in [app.NAME]
    pub(crate) app: String,
    #[command(flatten)]
    pub(crate) answer: Told,
}

#[derive(Args, Debug)]
pub(crate) struct Held {
    /// The app, as in [app.NAME]
    pub(crate) app: String,
    /// Only those whose reason has these words
    #[arg(long, value_name = "WORDS")]
    pub(crate) reason: Option<String>,
    #[command(flatten)]
    pub(crate) answer: Told,
}

#[derive(Args, Debug)]
pub(crate) struct Operate {
    /// The app, as in [app.NAME]
    pub(crate) app: String,
    #[command(flatten)]
    pub(crate) said: By,
    #[command(flatten)]
    pub(crate) answer: Told,
}

#[derive(Args, Debug)]
pub(crate) struct Release {
    /// The app, as in [app.NAME]
    pub(crate) app: String,
    /// Only this operation, and what is counted with it [default: all that are held, and the rollout]
    #[arg(long, value_name = "OPERATION")]
    pub(crate) operation: Option<String>,
    #[command(flatten)]
    pub(crate) said: By,
    #[command(flatten)]
    pub(crate) answer: Told,
}

#[derive(Args, Debug)]
pub(crate) struct Reconcile {
    /// The app, as in [app.NAME]
    pub(crate) app: String,
    /// Wait for the end and show what was found
    #[arg(long)]
    pub(crate) wait: bool,
    /// Who you are, for the record
    #[arg(long, value_name = "NAME", default_value = "")]
    pub(crate) by: String,
    /// Why, for the record
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) why: String,
    #[command(flatten)]
    pub(crate) answer: Told,
}

#[derive(Args, Debug)]
#[group(id = "which", required = true, multiple = false, args = ["id", "reason", "all"])]
pub(crate) struct Redrive {
    /// The app, as in [app.NAME]
    pub(crate) app: String,
    /// This resource; can be given more than once
    #[arg(long, value_name = "ID")]
    pub(crate) id: Vec<String>,
    /// Those whose reason has these words
    #[arg(long, value_name = "WORDS")]
    pub(crate) reason: Option<String>,
    /// All that are held
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) said: By,
    #[command(flatten)]
    pub(crate) answer: Told,
}

#[derive(Args, Debug)]
pub(crate) struct Plan {
    /// The app, as in [app.NAME]
    pub(crate) app: String,
    /// Only this resource: an id, a userName or a group's displayName
    #[arg(long, value_name = "WHO")]
    pub(crate) who: Option<String>,
    /// With [app.NAME] of this file instead of the active configuration; its secrets are not needed
    #[arg(long, value_name = "FILE")]
    pub(crate) with: Option<PathBuf>,
    /// So many steps are told
    #[arg(long, default_value_t = 20)]
    pub(crate) count: usize,
    #[command(flatten)]
    pub(crate) answer: Told,
}

#[derive(Args, Debug)]
pub(crate) struct Provision {
    /// The app, as in [app.NAME]
    pub(crate) app: String,
    /// An id, a userName or a group's displayName
    pub(crate) who: String,
    /// How long the outcome is waited for, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = dispatcher::PROVISION_SECONDS,
        value_parser = clap::value_parser!(u64).range(1..=dispatcher::PROVISION_SECONDS_MAX))]
    pub(crate) wait_seconds: u64,
    #[command(flatten)]
    pub(crate) said: By,
    #[command(flatten)]
    pub(crate) answer: Told,
}

#[derive(Args, Debug)]
pub(crate) struct Import {
    /// The app, as in [app.NAME]
    pub(crate) app: String,
    /// Write the requests to this file, which must not exist [default: the standard output]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Name the app's id as externalId in each request
    #[arg(long)]
    pub(crate) keep_ids: bool,
    /// Do it: an account that fits exactly one of ours becomes that one's, and whoever is nobody's is made in the directory
    #[arg(long, requires = "by", conflicts_with = "out")]
    pub(crate) apply: bool,
    /// Only a part of it
    #[arg(long, value_name = "links|creates", requires = "apply", value_parser = ["links", "creates"])]
    pub(crate) only: Option<String>,
    /// If more are to be linked and made together, nothing is done
    #[arg(long, value_name = "COUNT", requires = "apply", default_value_t = dispatcher::IMPORT_MOST)]
    pub(crate) most: usize,
    /// However many there are
    #[arg(long, requires = "apply", conflicts_with = "most")]
    pub(crate) yes: bool,
    /// Who you are, for the record
    #[arg(long, value_name = "NAME")]
    pub(crate) by: Option<String>,
    /// Why, for the record
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) why: String,
    #[command(flatten)]
    pub(crate) answer: Told,
}

#[derive(Args, Debug)]
pub(crate) struct Why {
    /// An id, a userName or a group's displayName
    pub(crate) who: String,
    /// The app, as in [app.NAME]
    pub(crate) app: String,
    #[command(flatten)]
    pub(crate) answer: Told,
}

#[derive(Args, Debug)]
pub(crate) struct Timeline {
    /// An id, a userName or a group's displayName; whoever is deleted has only an id
    pub(crate) who: String,
    /// The tenant [default: the only one]
    #[arg(long)]
    pub(crate) tenant: Option<String>,
    #[command(flatten)]
    pub(crate) answer: Told,
}

#[derive(Args, Debug)]
pub(crate) struct WhoAt {
    /// The app, as in [app.NAME]
    pub(crate) app: String,
    /// At this instant (RFC 3339), or at the beginning of a date (UTC) [default: now]
    #[arg(long, value_name = "TIME|DATE")]
    pub(crate) at: Option<String>,
    #[command(flatten)]
    pub(crate) answer: Told,
}

#[derive(Args, Debug)]
pub(crate) struct Leave {
    /// An id or a userName
    pub(crate) who: String,
    /// At once, whatever is stopped
    #[arg(long, required = true)]
    pub(crate) now: bool,
    /// The tenant [default: the only one]
    #[arg(long)]
    pub(crate) tenant: Option<String>,
    #[command(flatten)]
    pub(crate) said: By,
    #[command(flatten)]
    pub(crate) answer: Told,
}

/// Who wants it, for the record.
#[derive(Args, Debug)]
pub(crate) struct By {
    /// Who you are
    #[arg(long, value_name = "NAME")]
    pub(crate) by: String,
    /// Why
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) why: String,
}

/// Whom to ask, and how to show the answer.
#[derive(Args, Debug)]
pub(crate) struct Told {
    /// The answer as JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) admin: AdminApi,
}
