//! What `rollcall app`, `why`, `timeline` and `who` are asked.

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
    /// Stop every call to an app; what changes meanwhile waits
    #[command(after_help = "Example:\n  rollcall app pause wiki --by ann --why 'maintenance until noon'")]
    Pause(Operate),
    /// Let a paused app go on
    #[command(after_help = "Example:\n  rollcall app resume wiki --by ann")]
    Resume(Operate),
    /// Let go on what a guard rail holds; whoever caused it cannot
    #[command(
        after_help = "Examples:\n  rollcall app show wiki\n  rollcall app release wiki --by ann --why 'the department is gone'\n  \
                            rollcall app release wiki --operation delete --by ann"
    )]
    Release(Release),
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
    /// Only this operation, and what is counted with it [default: all that are held]
    #[arg(long, value_name = "OPERATION")]
    pub(crate) operation: Option<String>,
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
