//! Going on after writing failed: sled writes nothing more after an error of its disk, also when there is room again, so the
//! store is opened anew before the next attempt. Rows stay in the tail until they are flushed, so none is lost by it; what
//! was written and not flushed is written once more.

use std::time::{Duration, Instant};

use crate::Error;
use crate::behind::Behind;
use crate::store::{Doubt, Facts, Unusable};

/// How long to wait before the store is opened anew; twice as long after each attempt that did not help.
const DELAY_MIN: Duration = Duration::from_millis(200);
const DELAY_MAX: Duration = Duration::from_secs(5);
/// So many attempts in a row, for which there was room, end the process: another may fare better.
const ATTEMPTS_MAX: u32 = 20;

/// A store that cannot be written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Broken {
    /// Whether it is to be opened anew before anything is written.
    is_waiting: bool,
    /// When to try that.
    next: Instant,
    delay: Duration,
    /// Attempts since something was written, for which there was room.
    attempts: u32,
}

impl Broken {
    fn new() -> Self {
        Self { is_waiting: true, next: Instant::now() + DELAY_MIN, delay: DELAY_MIN, attempts: 0 }
    }

    /// Whether nothing may be written yet.
    pub(crate) fn is_waiting(&self) -> bool {
        self.is_waiting
    }

    fn is_later(&mut self) {
        self.is_waiting = true;
        self.delay = (self.delay * 2).min(DELAY_MAX);
        self.next = Instant::now() + self.delay;
    }
}

impl Behind {
    /// Something could not be written.
    pub(crate) fn breaks(&mut self, doubt: &Doubt) {
        let folder = self.projection.inner.store.name();
        tracing::error!(%folder, error = %doubt, "the projection cannot be written; rows stay in memory");
        metrics::counter!("rollcall_projection_writes_failed_total").increment(1);
        self.projection.inner.stall.because(doubt.to_string());
        match &mut self.broken {
            Some(broken) => broken.is_later(),
            None => self.broken = Some(Broken::new()),
        }
    }

    /// Something was written.
    pub(crate) fn goes_on(&mut self) {
        if let Some(broken) = &mut self.broken {
            *broken = Broken { is_waiting: broken.is_waiting, ..Broken::new() };
        }
    }

    /// Everything that was to be written is.
    pub(crate) fn is_whole(&mut self) {
        if self.broken.take().is_some() {
            let folder = self.projection.inner.store.name();
            tracing::info!(%folder, "the projection is written again");
        }
        self.projection.inner.stall.is_over();
    }

    /// Opens the store anew when writing failed and it is time. An error says that only another process can go on.
    pub(crate) fn mend(&mut self) -> Result<(), Error> {
        let inner = self.projection.inner.clone();
        let Some(broken) = &mut self.broken else { return Ok(()) };
        if !broken.is_waiting || Instant::now() < broken.next {
            return Ok(());
        }
        let doubt = match inner.store.reopen() {
            Ok(found) => {
                broken.is_waiting = false;
                broken.attempts += 1;
                metrics::counter!("rollcall_projection_stores_reopened_total").increment(1);
                if broken.attempts < ATTEMPTS_MAX {
                    return self.go_on_from(&found);
                }
                Doubt("it was opened anew again and again and still cannot be written".to_string())
            }
            Err(Unusable::NoRoom(doubt)) => {
                broken.is_later();
                inner.stall.because(doubt.to_string());
                tracing::error!(folder = %inner.store.name(), error = %doubt, "the projection cannot be written; rows stay in memory");
                return Ok(());
            }
            Err(Unusable::Later(doubt)) => {
                broken.is_later();
                broken.attempts += 1;
                inner.stall.because(doubt.to_string());
                if broken.attempts < ATTEMPTS_MAX {
                    tracing::error!(folder = %inner.store.name(), error = %doubt, "the projection's store cannot be opened anew; trying again");
                    return Ok(());
                }
                doubt
            }
            Err(Unusable::Never(doubt)) => doubt,
        };
        Err(self.ends(&doubt.to_string()))
    }

    /// Goes on with a store that was opened anew: from what was flushed, as if nothing had been written since. Rows that are
    /// there all the same are written over.
    fn go_on_from(&mut self, found: &Facts) -> Result<(), Error> {
        let sequence = |facts: &Facts| facts.position.map_or(0, |position| position.sequence);
        let (there, flushed) = (sequence(found), sequence(&self.facts));
        let is_other = there == flushed && found.position != self.facts.position;
        if there < flushed || is_other {
            return Err(self.ends(&format!("it lost rows: it ends at {there}, and {flushed} was on disk")));
        }
        let folder = self.projection.inner.store.name();
        tracing::warn!(%folder, flushed, there, "the projection's store was opened anew after it could not be written");
        Ok(())
    }

    fn ends(&self, reason: &str) -> Error {
        self.projection.folder_error(format!(
            "rows cannot be written: {reason}; start this process again: it reads from the log what is not written. If that \
             does not help, remove the folder: it is built again from the log"
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proto::{EventId, Position};

    use super::*;
    use crate::writer::tests::projection;

    fn at(sequence: u64, id: u128) -> Facts {
        let event = EventId::new(uuid::Uuid::from_u128(id));
        Facts::default().with(&BTreeMap::new(), &BTreeMap::new(), Position { sequence, event })
    }

    #[track_caller]
    fn check(behind: &mut Behind, found: &Facts, expected: Option<&str>) {
        let told = behind.go_on_from(found).err().map(|error| error.to_string());
        match (told, expected) {
            (Some(told), Some(expected)) => assert!(told.contains(expected), "{told}"),
            (told, expected) => assert_eq!(told.as_deref(), expected),
        }
    }

    #[tokio::test]
    async fn it_goes_on_from_what_was_flushed_unless_some_of_that_is_lost() {
        let runtime = tokio::runtime::Handle::current();
        let mut behind = Behind::new(projection().await, runtime, at(100, 1));
        check(&mut behind, &at(100, 1), None);
        // More was written than flushed: it is written once more.
        check(&mut behind, &at(130, 2), None);
        assert_eq!(behind.facts, at(100, 1));
        check(&mut behind, &at(99, 3), Some("it ends at 99, and 100 was on disk"));
        check(&mut behind, &at(100, 3), Some("start this process again"));
        check(&mut behind, &Facts::default(), Some("it ends at 0"));
    }

    #[tokio::test]
    async fn patience_grows_until_something_is_written() {
        let runtime = tokio::runtime::Handle::current();
        let mut behind = Behind::new(projection().await, runtime, Facts::default());
        let mut delays = Vec::new();
        for _ in 0..8 {
            behind.breaks(&Doubt("no room".to_string()));
            delays.extend(behind.broken.map(|broken| broken.delay.as_millis()));
        }
        assert_eq!(delays, [200, 400, 800, 1_600, 3_200, 5_000, 5_000, 5_000]);
        assert!(behind.broken.is_some_and(|broken| broken.is_waiting()));
        behind.goes_on();
        assert!(behind.broken.is_some_and(|broken| broken.delay == DELAY_MIN && broken.is_waiting()));
        behind.is_whole();
        assert!(behind.broken.is_none());
    }
}
