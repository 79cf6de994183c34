//! How an app wants to hear it. One file for each kind of app.

mod answer;
mod probe;
mod read;
mod scim;
mod search;
mod transport;

use std::time::Duration;

use crate::budget::Denied;

pub(crate) use self::probe::Probed;
pub(crate) use self::read::{Account, Listed, Page, Place, Read};
pub(crate) use self::scim::ScimApp;
pub use self::transport::{NoAnswer, Transport};

/// What an app did, as the table of error classes has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// As asked.
    Done { remote_id: Option<String>, status: u16 },
    /// The account is not there.
    Missing,
    /// Somebody at the app has the unique value already.
    Taken { status: u16 },
    /// What should be replaced or removed is not there.
    NoTarget { status: u16, error: String },
    /// Too much in one request.
    TooLarge { status: u16 },
    /// This request can work later.
    Retry { status: u16 },
    /// We were too fast, and the app did nothing.
    Throttled { status: u16, after: Option<Duration> },
    /// The app does not know us (401), and it did nothing.
    Stranger { status: u16, after: Option<Duration> },
    /// The whole app cannot be used for a while: down or slow. The outcome of the call is unknown, and where nobody answered
    /// for the app (`unheard`) it may be carried out later still.
    Unavailable { after: Option<Duration>, error: String, unheard: bool },
    /// The app will not do it.
    Refused { status: u16, error: String },
}

/// What a search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Exactly this account.
    One(String),
    /// None.
    None,
    /// So many: a person must choose.
    Many(u64),
    /// The app cannot be asked this.
    Unsearchable,
    /// The app does not answer this question, and goes on to answer others.
    Failed { status: u16 },
    /// The budget does not allow the question yet.
    NotYet(Denied),
    /// The app did not answer.
    Unavailable { after: Option<Duration>, error: String },
}

/// Why a request has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unanswered {
    /// It was never sent: the budget does not allow it yet.
    #[error("the budget does not allow it yet")]
    NotYet(Denied),
    /// It was sent, and nobody answered.
    #[error(transparent)]
    Lost(#[from] NoAnswer),
}

impl Outcome {
    /// The outcome's name in metrics and logs.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Done { .. } => "done",
            Self::Missing => "missing",
            Self::Taken { .. } => "taken",
            Self::NoTarget { .. } => "no_target",
            Self::TooLarge { .. } => "too_large",
            Self::Retry { .. } => "retry",
            Self::Throttled { .. } => "throttled",
            Self::Stranger { .. } => "stranger",
            Self::Unavailable { .. } => "unavailable",
            Self::Refused { .. } => "refused",
        }
    }
}

#[cfg(test)]
mod tests;
