//! Waiting for a broker that is not ready yet: it is being started, or its cluster has not chosen its leaders.

use std::time::Duration;

use tokio::time::Instant;

use super::aside::Aside;
use crate::Error;

/// Between two attempts.
const AGAIN_DELAY: Duration = Duration::from_millis(250);

/// How long to wait, and whether somebody has been told that we do.
pub(super) struct Patience {
    begun: Instant,
    deadline: Instant,
    told: bool,
    aside: Aside,
}

impl Patience {
    pub(super) fn new(limit: Duration, aside: Aside) -> Self {
        let begun = Instant::now();
        Self { begun, deadline: begun + limit, told: false, aside }
    }

    /// Does it again while the broker cannot serve, until it is done, refused, or the time is over.
    pub(super) async fn attempt<T, F>(&mut self, awaited: &str, work: impl Fn() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut last = None;
        loop {
            let error = match tokio::time::timeout_at(self.deadline, work()).await {
                Ok(Err(error)) if error.is_retryable() => error,
                Ok(result) => return result,
                // What was said before tells more than that nothing is said now.
                Err(_) => {
                    last.take().unwrap_or(Error::Unavailable { doing: awaited.to_string(), source: None })
                }
            };
            // What is not permitted is no matter of time, and neither is what an account may not have.
            if let Some(cause) = cause(&error).filter(|cause| is_limit(cause)) {
                return Err(Error::Refused {
                    doing: awaited.to_string(),
                    reason: format!(
                        "{cause}: raise the limits of its account (nine streams, with consumers), and start this again"
                    ),
                });
            }
            if let Some(said) = self.aside.denied_since(self.begun) {
                return Err(Error::Refused {
                    doing: awaited.to_string(),
                    reason: format!(
                        "the broker's user may not do what rollcall needs there: {said}. Permit it (docs/operations/broker.md \
                         lists all that is needed), and start this again"
                    ),
                });
            }
            if Instant::now() + AGAIN_DELAY >= self.deadline {
                return Err(self.over(awaited, error));
            }
            if !self.told {
                self.told = true;
                tracing::warn!(
                    awaited,
                    error = cause(&error).unwrap_or_default(),
                    "the broker is not ready yet; waiting"
                );
            }
            last = Some(error);
            tokio::time::sleep(AGAIN_DELAY).await;
        }
    }

    fn over(&self, awaited: &str, error: Error) -> Error {
        let cause = cause(&error).map(|cause| format!(" ({cause})")).unwrap_or_default();
        Error::Refused {
            doing: awaited.to_string(),
            reason: format!(
                "the broker could not serve within {} s{cause}. A cluster serves once more than half of its servers run and \
                 have chosen their leaders; see the servers' logs, and start this again",
                self.begun.elapsed().as_secs_f64().round().max(1.0)
            ),
        }
    }
}

/// The broker's codes for limits of an account: its storage, consumers, streams, memory.
const LIMITS: [u32; 4] = [10_002, 10_026, 10_027, 10_028];

fn is_limit(cause: &str) -> bool {
    LIMITS.iter().any(|code| cause.contains(&format!("error code {code})")))
}

fn cause(error: &Error) -> Option<String> {
    std::error::Error::source(error).map(ToString::to_string)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn not_yet() -> Error {
        Error::Unavailable { doing: "opening".to_string(), source: Some("no leader".into()) }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_ready_is_waited_for() {
        let attempts = AtomicU32::new(0);
        let work = || async {
            match attempts.fetch_add(1, Ordering::Relaxed) {
                0..3 => Err(not_yet()),
                _ => Ok(7),
            }
        };
        let mut patience = Patience::new(Duration::from_secs(10), Aside::default());
        assert_eq!(patience.attempt("opening", work).await.unwrap(), 7);
    }

    #[tokio::test(start_paused = true)]
    async fn not_for_ever_and_the_cause_is_told() {
        let mut patience = Patience::new(Duration::from_secs(10), Aside::default());
        let work = || async { Err::<(), _>(not_yet()) };
        let error = patience.attempt("opening the stream IDENTITY", work).await.unwrap_err().to_string();
        assert!(
            error.contains("IDENTITY") && error.contains("no leader") && error.contains("half"),
            "{error}"
        );
        // A refusal is no matter of time.
        let attempts = AtomicU32::new(0);
        let work = || async {
            attempts.fetch_add(1, Ordering::Relaxed);
            Err::<(), _>(Error::Refused { doing: String::new(), reason: "too old".to_string() })
        };
        assert!(
            Patience::new(Duration::from_secs(10), Aside::default()).attempt("opening", work).await.is_err()
        );
        assert_eq!(attempts.into_inner(), 1);
    }
}
