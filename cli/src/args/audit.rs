//! What `rollcall audit` and `rollcall explain` are asked.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use url::Url;

/// What `--at` says in every help text.
const AT: &str = "As of a sequence, an instant (RFC 3339) or a date (its first instant, UTC) [default: now]";

#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// What happened to a resource: every event, who caused it, what changed
    #[command(after_help = "Examples:\n  rollcall audit history --tenant corp --user ada@example.com\n  \
                            rollcall audit history --tenant corp --group Admins --at 2026-11-01 --format csv > admins.csv")]
    History(History),
    /// Resources as a client would have read them then
    #[command(
        after_help = "Examples:\n  rollcall audit at --tenant corp --user ada@example.com --at 4711\n  \
                            rollcall audit at --tenant corp --type User --filter 'active eq true' --sort-by userName \\\n    \
                            --at 2026-11-01T00:00:00Z --source okta --format json"
    )]
    At(At),
    /// Who was in a group, in which groups somebody was, and since when
    #[command(
        after_help = "Examples:\n  rollcall audit members --tenant corp --group Admins --at 2026-11-01 --nested\n  \
                            rollcall audit members --tenant corp --user ada@example.com --stays"
    )]
    Members(Members),
    /// How the directory differs between two moments
    #[command(
        after_help = "Example, a month:\n  rollcall audit diff --tenant corp --from 2026-10-01 --to 2026-11-01 --format csv > october.csv"
    )]
    Diff(Diff),
    /// A digest of everything the directory answers: two projections of one log have the same
    #[command(after_help = "Example:\n  rollcall audit digest --tenant corp --at 4711\n\n\
                            `rollcall projector rebuild` prints the same for a projection that is built anew.")]
    Digest(Digest),
}

#[derive(Args, Debug)]
pub(crate) struct History {
    #[command(flatten)]
    pub(crate) who: Who,
    #[arg(long, value_name = "SEQUENCE|TIME|DATE", help = AT)]
    pub(crate) at: Option<String>,
    #[command(flatten)]
    pub(crate) answer: Answer,
}

#[derive(Args, Debug)]
pub(crate) struct At {
    #[command(flatten)]
    pub(crate) what: What,
    /// Only resources that satisfy this SCIM filter
    #[arg(long, requires = "resource_type")]
    pub(crate) filter: Option<String>,
    /// Sorted by this attribute [default: in the order of creation]
    #[arg(long, value_name = "ATTRIBUTE", requires = "resource_type")]
    pub(crate) sort_by: Option<String>,
    /// The last first
    #[arg(long, requires = "sort_by")]
    pub(crate) descending: bool,
    /// As the client of this source reads them: whose externalId is shown
    #[arg(long)]
    pub(crate) source: Option<String>,
    #[arg(long, value_name = "SEQUENCE|TIME|DATE", help = AT)]
    pub(crate) at: Option<String>,
    #[command(flatten)]
    pub(crate) answer: Answer,
}

#[derive(Args, Debug)]
pub(crate) struct Members {
    #[command(flatten)]
    pub(crate) who: Who,
    /// With --id: who is in it, or what it is in [default: members of what has members]
    #[arg(long, value_name = "members|groups")]
    pub(crate) list: Option<String>,
    /// Members through other groups, too; of somebody's groups these are always told
    #[arg(long, conflicts_with = "stays")]
    pub(crate) nested: bool,
    /// Every stay until then: since when, until when
    #[arg(long)]
    pub(crate) stays: bool,
    #[arg(long, value_name = "SEQUENCE|TIME|DATE", help = AT)]
    pub(crate) at: Option<String>,
    #[command(flatten)]
    pub(crate) answer: Answer,
}

#[derive(Args, Debug)]
pub(crate) struct Diff {
    /// Since a sequence, an instant (RFC 3339) or a date (its first instant, UTC)
    #[arg(long, value_name = "SEQUENCE|TIME|DATE")]
    pub(crate) from: String,
    /// Until such a moment [default: now]
    #[arg(long, value_name = "SEQUENCE|TIME|DATE")]
    pub(crate) to: Option<String>,
    #[command(flatten)]
    pub(crate) answer: Answer,
}

#[derive(Args, Debug)]
pub(crate) struct Digest {
    #[arg(long, value_name = "SEQUENCE|TIME|DATE", help = AT)]
    pub(crate) at: Option<String>,
    #[command(flatten)]
    pub(crate) answer: Answer,
}

#[derive(Args, Debug)]
pub(crate) struct Explain {
    /// A SCIM filter
    pub(crate) filter: String,
    /// The resource type that is asked for [default: the first of /ResourceTypes]
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) resource_type: Option<String>,
    /// Sorted by this attribute
    #[arg(long, value_name = "ATTRIBUTE")]
    pub(crate) sort_by: Option<String>,
    /// As the client of this source asks: whose externalId is compared
    #[arg(long)]
    pub(crate) source: Option<String>,
    #[arg(long, value_name = "SEQUENCE|TIME|DATE", help = AT)]
    pub(crate) at: Option<String>,
    #[command(flatten)]
    pub(crate) answer: Answer,
}

/// Who is meant.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct Who {
    /// A resource's id
    #[arg(long)]
    pub(crate) id: Option<String>,
    /// The userName that a user has then
    #[arg(long, value_name = "USERNAME")]
    pub(crate) user: Option<String>,
    /// The displayName that a group has then
    #[arg(long, value_name = "DISPLAYNAME")]
    pub(crate) group: Option<String>,
}

/// Who or what is meant.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct What {
    /// A resource's id
    #[arg(long)]
    pub(crate) id: Option<String>,
    /// The userName that a user has then
    #[arg(long, value_name = "USERNAME")]
    pub(crate) user: Option<String>,
    /// The displayName that a group has then
    #[arg(long, value_name = "DISPLAYNAME")]
    pub(crate) group: Option<String>,
    /// All resources of a type, for example User
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) resource_type: Option<String>,
}

/// Whom to ask, and how to show the answer.
#[derive(Args, Debug)]
pub(crate) struct Answer {
    /// The tenant [default: the only one]
    #[arg(long)]
    pub(crate) tenant: Option<String>,
    /// How the answer looks
    #[arg(long, default_value = "text")]
    pub(crate) format: Format,
    /// Write position, count and digest of the whole answer to this file, as JSON, when it is whole
    #[arg(long, value_name = "FILE")]
    pub(crate) digest_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) admin: AdminApi,
}

/// How the admin API of a running process is reached.
#[derive(Args, Debug)]
pub(crate) struct AdminApi {
    /// The admin API of a running process [default: ADMIN_URL, of the environment or DATA_DIR/dev.env; else admin.listen]
    #[arg(long, value_name = "URL", env = "ROLLCALL_ADMIN_URL")]
    pub(crate) admin_url: Option<Url>,
    /// Its token, best given by the environment [default: ADMIN_TOKEN, of the environment or DATA_DIR/dev.env; else
    /// DATA_DIR/admin.token]
    #[arg(long, value_name = "TOKEN", env = "ROLLCALL_ADMIN_TOKEN", hide_env_values = true)]
    pub(crate) admin_token: Option<String>,
}

/// How an answer looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Lines for people; the last one says position, count and digest.
    Text,
    /// One object: position, items, count, digest.
    Json,
    /// RFC 4180, one row a change. A cell that a spreadsheet would take for a formula gets an apostrophe in front.
    Csv,
}
