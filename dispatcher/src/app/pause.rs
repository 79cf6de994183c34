//! Quarantine: an app that cannot be used rests, longer each time. After a rest one call tries whether it can be used again;
//! only when the app answers it, others may follow.

use std::time::Duration;

use eventlog::{Lately, clock};
use tokio::time::Instant;

/// First rest.
const MIN: Duration = Duration::from_millis(500);
/// Longest rest that the app did not ask for.
const MAX: Duration = Duration::from_secs(60);

/// Whether an app rests.
#[derive(Default)]
pub(super) struct Pause {
    pub(super) until: Option<Instant>,
    /// How long the last rest was; nothing while all is well.
    length: Option<Duration>,
    /// Why it rests or is tried.
    pub(super) why: Option<String>,
    /// How many answers there were when the call began that tries it.
    tried_at: Option<u64>,
    lately: Lately,
}

impl Pause {
    pub(super) fn over(&self) -> bool {
        self.until.is_none_or(|until| until <= Instant::now())
    }

    /// Whether one more resource may be worked on beside those that are. `answers` counts what the app answered in good
    /// health so far.
    pub(super) fn allows(&mut self, running: usize, concurrency: usize, answers: u64) -> bool {
        if self.tried_at.is_some_and(|before| answers > before) {
            *self = Self { lately: std::mem::take(&mut self.lately), ..Self::default() };
        }
        if self.length.is_none() {
            return running < concurrency;
        }
        // What began before the rest must have ended, so that an answer is one to who tries.
        let may_try = running == 0 && self.over();
        if may_try {
            self.tried_at = Some(answers);
        }
        may_try
    }

    /// Whether an operator is to be told why it cannot be used: once for as long as that lasts.
    pub(super) fn is_news(&mut self, why: &str) -> bool {
        self.why.as_deref() != Some(why) && self.lately.is_news(why)
    }

    /// The app could not be used: it rests for as long as it asked for, or longer than the last time, with jitter.
    pub(super) fn longer(&mut self, after: Option<Duration>, why: &str) {
        // Calls that were under way fail together; that is one reason to rest, not many.
        if !self.over() {
            return;
        }
        let length = self.length.map_or(MIN, |length| (length * 2).min(MAX));
        let jitter = clock::random::<1>().map_or(0, |[byte]| u32::from(byte));
        // A date that has passed on our clock, or no time at all, is no rest.
        let asked = after.filter(|after| *after >= MIN);
        let rest = asked.unwrap_or(length + length * jitter / 1024);
        self.length = Some(length);
        self.until = Some(Instant::now() + rest);
        self.why = Some(why.to_string());
        self.tried_at = None;
    }

    /// When whoever found the app unusable has his turn again: behind others, because he may be the only one whom it fails.
    pub(super) fn behind_others(&self) -> Duration {
        let left = self.until.map(|until| until.saturating_duration_since(Instant::now()));
        left.unwrap_or_default() + MIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: usize = 8;

    #[tokio::test(start_paused = true)]
    async fn after_a_rest_one_call_tries_before_others_follow() {
        let mut pause = Pause::default();
        assert!(pause.allows(FULL - 1, FULL, 0) && !pause.allows(FULL, FULL, 0));
        pause.longer(None, "503");
        assert!(!pause.allows(0, FULL, 0));
        // Who was under way is answered: that says nothing about the app since.
        assert!(!pause.allows(2, FULL, 3));
        tokio::time::advance(MIN * 2).await;
        assert!(!pause.allows(2, FULL, 3), "first they end");
        assert!(pause.allows(0, FULL, 3));
        assert!(!pause.allows(1, FULL, 3), "one tries");
        assert_eq!(pause.why.as_deref(), Some("503"));
        // It fails: a longer rest, and again one.
        pause.longer(None, "503");
        tokio::time::advance(MIN + MIN / 2).await;
        assert!(!pause.allows(0, FULL, 3), "the second rest is longer");
        tokio::time::advance(MIN).await;
        assert!(pause.allows(0, FULL, 3) && !pause.allows(1, FULL, 3));
        assert!(!pause.is_news("503") && pause.is_news("429"));
        // It is answered.
        assert!(pause.allows(1, FULL, 4) && pause.allows(FULL - 1, FULL, 4));
        assert_eq!(pause.why, None);
    }

    /// A resource for which nothing had to be called proves nothing.
    #[tokio::test(start_paused = true)]
    async fn without_an_answer_the_next_one_tries() {
        let mut pause = Pause::default();
        pause.longer(None, "down");
        tokio::time::advance(MIN * 2).await;
        for _ in 0..3 {
            assert!(pause.allows(0, FULL, 0) && !pause.allows(1, FULL, 0));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_app_that_asks_for_no_rest_is_given_one_all_the_same() {
        let mut pause = Pause::default();
        for rests in 0..4 {
            pause.longer(Some(Duration::ZERO), "503");
            tokio::time::advance(MIN * 2_u32.pow(rests) - Duration::from_millis(1)).await;
            assert!(!pause.over(), "{rests}");
            tokio::time::advance(MAX).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_app_rests_for_as_long_as_it_asks_for() {
        let mut pause = Pause::default();
        pause.longer(Some(Duration::from_secs(300)), "429");
        assert!(pause.behind_others() > Duration::from_secs(300), "others try it first");
        tokio::time::advance(Duration::from_secs(299)).await;
        assert!(!pause.allows(0, FULL, 0));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(pause.allows(0, FULL, 0));
    }
}
