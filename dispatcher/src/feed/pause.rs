//! How long a subscriber that cannot take anything is left alone, and one event that it refuses.

use std::time::Duration;

use eventlog::{Lately, clock};
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// First rest.
const REST_MIN: Duration = Duration::from_millis(500);
/// Longest rest that the subscriber did not ask for.
const REST_MAX: Duration = Duration::from_secs(60);

/// A subscriber's rest.
#[derive(Debug, Default)]
pub(super) struct Pause {
    until: Option<Instant>,
    failures: u32,
    why: Option<String>,
    lately: Lately,
}

impl Pause {
    /// Whether something may be delivered.
    pub(super) fn is_over(&self) -> bool {
        self.until.is_none_or(|until| until <= Instant::now())
    }

    /// When something may be delivered.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until.filter(|until| *until > Instant::now())
    }

    /// Why nothing is delivered, until something was taken.
    pub(super) fn why(&self) -> Option<&str> {
        self.why.as_deref()
    }

    /// Whether the subscriber has taken nothing since it failed.
    pub(super) fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// How many deliveries may be under way: one, until the subscriber has taken something again.
    pub(super) fn limit(&self, concurrency: usize) -> usize {
        if self.is_failing() { 1 } else { concurrency }
    }

    /// The subscriber works.
    pub(super) fn end(&mut self) {
        *self = Self { lately: std::mem::take(&mut self.lately), ..Self::default() };
    }

    /// Whether an operator is to be told why nothing is taken: once for as long as that lasts.
    pub(super) fn is_news(&mut self, why: &str) -> bool {
        self.why.as_deref() != Some(why) && self.lately.is_news(why)
    }

    /// It does not. Several answers of one moment are one failure.
    pub(super) fn begin(&mut self, after: Option<Duration>, why: &str) {
        self.why = Some(why.to_string());
        if !self.is_over() {
            return;
        }
        self.failures = self.failures.saturating_add(1);
        // Whoever cannot take anything and wants no rest has a short one: else nothing else would be done than asking.
        let rest = after.map_or_else(|| jittered(backoff(self.failures)), |after| after.max(REST_MIN));
        self.until = Some(Instant::now() + rest);
    }
}

/// Twice as long each time, to a bound.
fn backoff(failures: u32) -> Duration {
    REST_MIN.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX)).min(REST_MAX)
}

/// Between half of it and all of it, so that feeds do not come back at one moment.
fn jittered(length: Duration) -> Duration {
    let chance = clock::random::<1>().map_or(255, |[byte]| u32::from(byte));
    length / 2 + length * chance / 510
}

/// When an event is tried again that was refused so often.
pub(super) fn not_before(refusals: u32, now: Timestamp) -> Timestamp {
    let rest = SignedDuration::try_from(jittered(backoff(refusals))).unwrap_or_default();
    now.checked_add(rest).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_grow_to_a_bound() {
        assert_eq!(backoff(1), REST_MIN);
        assert_eq!(backoff(2), REST_MIN * 2);
        assert_eq!(backoff(8), REST_MAX);
        assert_eq!(backoff(u32::MAX), REST_MAX);
        for _ in 0..100 {
            let rest = jittered(REST_MAX);
            assert!(rest >= REST_MAX / 2 && rest <= REST_MAX, "{rest:?}");
        }
    }

    #[tokio::test]
    async fn a_rest_of_nothing_is_a_short_one() {
        let mut pause = Pause::default();
        pause.begin(Some(Duration::ZERO), "the subscriber answers 503");
        assert!(!pause.is_over() && pause.until().unwrap() <= Instant::now() + REST_MIN);
    }

    #[tokio::test]
    async fn one_failure_is_counted_once_and_the_first_after_it_goes_alone() {
        let mut pause = Pause::default();
        assert_eq!((pause.is_over(), pause.limit(8)), (true, 8));
        assert!(pause.is_news("the subscriber answers 503"));
        pause.begin(Some(Duration::from_secs(30)), "the subscriber answers 503");
        pause.begin(Some(Duration::from_secs(300)), "the subscriber answers 503");
        assert!(!pause.is_over());
        assert!(pause.until().unwrap() <= Instant::now() + Duration::from_secs(30), "the first one decides");
        assert_eq!((pause.failures, pause.limit(8)), (1, 1));
        pause.end();
        assert!(!pause.is_news("the subscriber answers 503"), "it was said a moment ago");
        assert_eq!((pause.is_over(), pause.limit(8), pause.why()), (true, 8, None));
    }
}
