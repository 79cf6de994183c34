//! What `rollcall feed` is asked.

use clap::{Args, Subcommand};

use super::AdminApi;

#[derive(Debug, Subcommand)]
pub(crate) enum Feed {
    /// All feeds: how far they are, what is held, what they wait for
    List(Ask),
    /// One feed
    Show(Named),
    /// Events that the subscriber refuses, and what waits behind them
    Held(Named),
    /// Try again what is held
    #[command(after_help = "Examples:\n  rollcall feed redrive audit --all\n  \
                            rollcall feed redrive audit 01890a5d-ac96-774b-bcce-b302099a8058")]
    Redrive(Redrive),
    /// Give up one refused event for good, and go on with what waits behind it
    Skip(Skip),
    /// Deliver part of the log once more, marked as a replay; the feed goes on after it
    #[command(after_help = "Examples:\n  rollcall feed replay audit --from 4711 --to 5000\n  \
                            rollcall feed replay audit --from 2026-11-01T08:00:00Z")]
    Replay(Replay),
    /// Deliver everything that there is, as of where the feed stands; the feed goes on after it
    Snapshot(Order),
    /// Let a feed go on that was stopped: by 410 Gone, or because too much is held
    Resume(Order),
}

/// Whom to ask, and how to show the answer.
#[derive(Args, Debug)]
pub(crate) struct Ask {
    /// The answer as JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) admin: AdminApi,
}

#[derive(Args, Debug)]
pub(crate) struct Named {
    /// The feed, as in [feed.NAME]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) ask: Ask,
}

/// Something to be done.
#[derive(Args, Debug)]
pub(crate) struct Order {
    /// The feed, as in [feed.NAME]
    pub(crate) name: String,
    /// Who wants it; it is written down
    #[arg(long, value_name = "WHO", default_value = "operator")]
    pub(crate) by: String,
    #[command(flatten)]
    pub(crate) ask: Ask,
}

#[derive(Args, Debug)]
pub(crate) struct Redrive {
    /// The feed, as in [feed.NAME]
    pub(crate) name: String,
    /// Resources, or refused events, as `rollcall feed held` shows them
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub(crate) ids: Vec<String>,
    /// Everything that is held
    #[arg(long)]
    pub(crate) all: bool,
    /// Who wants it; it is written down
    #[arg(long, value_name = "WHO", default_value = "operator")]
    pub(crate) by: String,
    #[command(flatten)]
    pub(crate) ask: Ask,
}

#[derive(Args, Debug)]
pub(crate) struct Skip {
    /// The feed, as in [feed.NAME]
    pub(crate) name: String,
    /// The refused event, or its resource, as `rollcall feed held` shows them
    pub(crate) id: String,
    /// Who gives it up; it is written down
    #[arg(long, value_name = "WHO")]
    pub(crate) by: String,
    #[command(flatten)]
    pub(crate) ask: Ask,
}

#[derive(Args, Debug)]
pub(crate) struct Replay {
    /// The feed, as in [feed.NAME]
    pub(crate) name: String,
    /// From this sequence, instant (RFC 3339) or date on
    #[arg(long, value_name = "SEQUENCE|TIME|DATE")]
    pub(crate) from: String,
    /// To this one, included [default: up to where the feed is]
    #[arg(long, value_name = "SEQUENCE|TIME|DATE")]
    pub(crate) to: Option<String>,
    /// Who wants it; it is written down
    #[arg(long, value_name = "WHO", default_value = "operator")]
    pub(crate) by: String,
    #[command(flatten)]
    pub(crate) ask: Ask,
}
