//! How new the state must be that something is answered from.
//!
//! A success is protected by its guard. Everything else is as new as our own projection, unless the answer is one that
//! a client acts on ("there is none", "that was all", "you may not") or the client asks for more: then the log is
//! asked first how far it is, and the projection is awaited. Never for longer than the request may take.

use std::time::Duration;

use proto::Version;
use scim::Error;
use tokio::time::Instant;

use crate::Inner;
use crate::command::Command;
use crate::execute::Failure;
use crate::policy::Rules;

/// How long to wait before a question that the broker did not answer is asked again.
const AGAIN_DELAY: Duration = Duration::from_millis(50);

/// What a client asks of the state that a read is answered from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// What this gateway has.
    #[default]
    Own,
    /// Not before this sequence.
    AtLeast(u64),
    /// Everything that stood in the log when the request came.
    Latest,
}

impl Freshness {
    /// Reads `latest`, a version, or several of these: then all of them hold. Nothing when it is none of that.
    pub(crate) fn parse(header: &str) -> Option<Self> {
        header.split(',').try_fold(Self::Own, |sofar, wish| {
            let wish = wish.trim();
            let wish = if wish.eq_ignore_ascii_case("latest") {
                Self::Latest
            } else {
                Self::AtLeast(wish.parse::<Version>().ok()?.sequence())
            };
            Some(match (sofar, wish) {
                (Self::Latest, _) | (_, Self::Latest) => Self::Latest,
                (Self::AtLeast(one), Self::AtLeast(other)) => Self::AtLeast(one.max(other)),
                (Self::Own, wish) | (wish, Self::Own) => wish,
            })
        })
    }
}

/// Whether a decision rests on more than the keys that its guards watch, so that even a success needs the latest state:
/// somebody is looked for by other attributes than the unique one, or a version is named that also changes by what
/// happens on other keys (a group's, when a member of it is deleted).
pub(crate) fn looks_beyond_guards(command: &Command, rules: &Rules, has_members: bool) -> bool {
    match command {
        Command::Create { .. } => !rules.join.is_empty() || rules.called.is_some(),
        Command::Replace { expected, .. }
        | Command::Patch { expected, .. }
        | Command::Delete { expected, .. } => has_members && !expected.is_any(),
    }
}

impl Inner {
    /// Waits until the projection shows everything that stands in the log now. `why` is for the metrics.
    pub(crate) async fn catch_up(&self, why: &'static str, deadline: Instant) -> Result<(), Failure> {
        metrics::counter!("rollcall_catch_ups_total", "why" => why).increment(1);
        let begun = Instant::now();
        let caught_up = Box::pin(within(deadline, || self.projection.catch_up(deadline))).await;
        metrics::histogram!("rollcall_catch_up_duration_seconds").record(begun.elapsed().as_secs_f64());
        caught_up
    }

    /// Waits until the projection is as new as a client asks.
    pub(crate) async fn reach(&self, wanted: Freshness, deadline: Instant) -> Result<(), Failure> {
        match wanted {
            Freshness::Own => Ok(()),
            Freshness::Latest => self.catch_up("asked for", deadline).await,
            Freshness::AtLeast(sequence) if self.projection.applied() >= sequence => Ok(()),
            Freshness::AtLeast(sequence) => {
                metrics::counter!("rollcall_catch_ups_total", "why" => "version").increment(1);
                // What no log will ever show is not waited for: it was made up, or the log was restored from a backup.
                let last = Box::pin(within(deadline, || self.projection.readiness())).await?.last;
                if last < sequence {
                    let detail =
                        format!("the log ends at {last}, before {sequence}, which the request refers to");
                    return Err(Failure::Refused(Error::value(detail)));
                }
                Ok(self.projection.wait_until(sequence, deadline).await.map_err(projector::Error::from)?)
            }
        }
    }
}

/// Asks until there is an answer or the time is over. The broker's client gives up a question in its own time, which is
/// shorter, and takes one question after the other, which can be longer.
pub(crate) async fn within<T, F>(deadline: Instant, ask: impl Fn() -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<T, projector::Error>>,
{
    let asking = async {
        loop {
            match ask().await {
                Err(projector::Error::Log(error)) if error.is_retryable() => {
                    tokio::time::sleep(AGAIN_DELAY).await;
                }
                result => return result,
            }
        }
    };
    match tokio::time::timeout_at(deadline, asking).await {
        Ok(result) => Ok(result?),
        Err(elapsed) => Err(Failure::Busy { doing: "asking the log", source: elapsed.into() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_read() {
        for (header, expected) in [
            ("latest", Some(Freshness::Latest)),
            (" Latest ", Some(Freshness::Latest)),
            ("W/\"42-01ab23cd\"", Some(Freshness::AtLeast(42))),
            ("\"42-01ab23cd\"", Some(Freshness::AtLeast(42))),
            ("W/\"42-01ab23cd\", W/\"7-01ab23cd\"", Some(Freshness::AtLeast(42))),
            ("W/\"42-01ab23cd\",latest", Some(Freshness::Latest)),
            ("", None),
            ("eventual", None),
            ("42", None),
            ("W/\"42\"", None),
            ("W/\"x-01ab23cd\"", None),
            ("latest,", None),
        ] {
            assert_eq!(Freshness::parse(header), expected, "{header}");
        }
    }
}
