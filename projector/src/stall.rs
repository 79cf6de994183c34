//! What keeps rows from being written, as the writer tells it to whoever asks.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::{Error, Projection};

/// What the store does not answer for so long counts as a reason.
const SLOW: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(crate) struct Stall(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    /// Why nothing could be written the last time.
    reason: Option<String>,
    /// Since when the store is to write something that it did not answer yet.
    asked: Option<Instant>,
}

impl Stall {
    /// Has the store write something.
    pub(crate) fn during<T>(&self, write: impl FnOnce() -> T) -> T {
        self.lock().asked = Some(Instant::now());
        let written = write();
        self.lock().asked = None;
        written
    }

    /// As if it had been asked before.
    #[cfg(test)]
    pub(crate) fn during_since<T>(&self, before: Duration, write: impl FnOnce() -> T) -> T {
        self.during(|| {
            self.lock().asked = Instant::now().checked_sub(before);
            write()
        })
    }

    /// Nothing can be written, and why.
    pub(crate) fn because(&self, reason: String) {
        self.lock().reason = Some(reason);
    }

    /// What is to be written can be.
    pub(crate) fn is_over(&self) {
        self.lock().reason = None;
    }

    /// How long the store has not answered.
    pub(crate) fn silence(&self) -> Duration {
        self.lock().asked.map_or(Duration::ZERO, |asked| asked.elapsed())
    }

    fn reason(&self) -> Option<String> {
        let silence = self.silence();
        if silence >= SLOW {
            return Some(format!("the store has not answered for {} s", silence.as_secs()));
        }
        self.lock().reason.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Projection {
    /// Why the log is not heard any more: so many rows wait in memory that none may be added, and none of them can be
    /// written. Nothing while it is heard.
    pub fn stalled(&self) -> Option<String> {
        let reason = self.inner.stall.reason()?;
        self.state().is_full().then_some(reason)
    }

    /// An error about the folder of the rows.
    pub(crate) fn folder_error(&self, reason: String) -> Error {
        Error::Folder { folder: self.inner.store.name(), reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_why_until_it_is_over() {
        let stall = Stall::default();
        assert_eq!(stall.reason(), None);
        stall.because("no room".to_string());
        assert_eq!(stall.reason().as_deref(), Some("no room"));
        assert!(stall.during(|| stall.silence() < SLOW));
        stall.is_over();
        assert_eq!((stall.reason(), stall.silence()), (None, Duration::ZERO));
    }

    #[test]
    fn a_store_that_does_not_answer_is_a_reason_too() {
        let stall = Stall::default();
        let reason = stall.during_since(SLOW, || stall.reason());
        assert!(reason.is_some_and(|reason| reason.contains("has not answered for 5 s")));
        assert_eq!(stall.reason(), None);
    }
}
