//! How an app wants to hear it. One file for each kind of app.

mod scim;
mod transport;

use std::time::Duration;

pub(crate) use self::scim::{MEMBERS_MAX, ScimApp};
pub use self::transport::{NoAnswer, Transport};

/// What an app did, as the table of error classes has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// As asked.
    Done { remote_id: Option<String>, status: u16 },
    /// The account is not there.
    Missing,
    /// Somebody at the app has the unique value already.
    Taken,
    /// This request can work later.
    Retry { status: u16 },
    /// The whole app cannot be used for a while, and it did nothing.
    PutOff { status: u16, after: Option<Duration> },
    /// The whole app cannot be used for a while: down or slow. The outcome of the call is unknown.
    Unavailable { after: Option<Duration>, error: String },
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
    /// Several: a person must choose.
    Many,
    /// The app did not answer.
    Unavailable { after: Option<Duration>, error: String },
}

impl Outcome {
    /// The outcome's name in metrics and logs.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Done { .. } => "done",
            Self::Missing => "missing",
            Self::Taken => "taken",
            Self::Retry { .. } => "retry",
            Self::PutOff { .. } => "put_off",
            Self::Unavailable { .. } => "unavailable",
            Self::Refused { .. } => "refused",
        }
    }
}
