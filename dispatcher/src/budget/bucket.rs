//! One budget as time fills it. Time is an argument.

use std::time::Duration;

use tokio::time::Instant;

use crate::profile::Budget;

/// Whoever leaves a call to somebody else comes back after this time at least.
const YIELD_MIN: Duration = Duration::from_millis(2);

/// Fills with time, never over its size: whoever empties it and goes on as fast as it fills stays within the limit of
/// every window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    pub(super) per_second: f64,
    pub(super) size: f64,
    pub(super) left: f64,
    at: Option<Instant>,
}

impl Bucket {
    pub(super) fn of(budget: &Budget, part: f64) -> Self {
        let limit = f64::from(budget.limit);
        let burst = f64::from(budget.burst());
        // What a burst takes is missing for the rest of the window.
        let steady = if limit > burst { limit - burst } else { limit };
        let size = (burst * part).max(1.0);
        Self { per_second: steady * part / budget.per.length().as_secs_f64(), size, left: size, at: None }
    }

    pub(super) fn steady(per_second: f64) -> Self {
        Self { per_second, size: 1.0, left: 1.0, at: None }
    }

    pub(super) fn fill(&mut self, now: Instant) {
        if let Some(at) = self.at {
            let more = now.saturating_duration_since(at).as_secs_f64() * self.per_second;
            self.left = (self.left + more).min(self.size);
        }
        self.at = Some(now);
    }

    /// How long until so much is there.
    pub(super) fn wait(&mut self, count: f64, now: Instant) -> Duration {
        self.fill(now);
        let lacking = count.min(self.size) - self.left;
        // Rounding must not make us wait for a millionth, nor come a millionth too early.
        if lacking <= 1e-9 {
            return Duration::ZERO;
        }
        let seconds = lacking / self.per_second.max(1e-9);
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX).saturating_add(Duration::from_micros(1))
    }

    /// How long until one is there and one more for each of so many others, who come in so long a time at most.
    pub(super) fn wait_for(&mut self, others: usize, most: Duration, now: Instant) -> Duration {
        let wait = self.wait(1.0, now);
        let lacking = 1.0 + others as f64 - self.left;
        if others == 0 || lacking <= 1e-9 {
            return wait;
        }
        let seconds = lacking / self.per_second.max(1e-9);
        let more = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX).min(most);
        wait.max(more).max(YIELD_MIN)
    }

    pub(super) fn spend(&mut self, count: f64) {
        self.left -= count;
    }
}
