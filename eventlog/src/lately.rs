//! What was said lately, so that the log does not fill with one line: whoever fails now and then, for days, says so every few
//! minutes, however often it was.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// How long something is not said again.
const AGAIN: Duration = Duration::from_secs(300);
/// Of more than this is forgotten what was said longest ago.
const KEPT_MAX: usize = 64;

/// What was said, and when.
#[derive(Debug, Default)]
pub struct Lately(BTreeMap<String, Instant>);

impl Lately {
    /// Whether this was not said for some minutes; from now on it was.
    pub fn is_news(&mut self, said: &str) -> bool {
        let now = Instant::now();
        if self.0.get(said).is_some_and(|at| now - *at < AGAIN) {
            return false;
        }
        if self.0.len() >= KEPT_MAX
            && let Some(oldest) = self.0.iter().min_by_key(|(_, at)| **at).map(|(said, _)| said.clone())
        {
            self.0.remove(&oldest);
        }
        self.0.insert(said.to_string(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_thing_is_said_every_few_minutes() {
        let mut lately = Lately::default();
        assert!(lately.is_news("503") && !lately.is_news("503") && lately.is_news("429"));
        tokio::time::advance(AGAIN).await;
        assert!(lately.is_news("503") && !lately.is_news("503"));
        (1_000..2_000).for_each(|number| assert!(lately.is_news(&number.to_string())));
        assert_eq!(lately.0.len(), KEPT_MAX);
    }
}
