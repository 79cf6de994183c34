//! How far everything is planned: for a new app, after another configuration or another timeline.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use proto::ResourceId;
use serde::Serialize;

use super::EVERYTHING;
use super::due::{Due, Taken};

/// How often it is logged.
const TELL_INTERVAL: Duration = Duration::from_secs(10);

/// How far an app is filled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Filling {
    /// Resources that are planned, and done or held.
    pub done: usize,
    /// Of so many.
    pub of: usize,
    /// Since when.
    pub since: Timestamp,
    /// When it should be through, at the pace so far.
    pub until: Option<Timestamp>,
}

/// Counts what is done of everything.
pub(super) struct Progress {
    filling: Option<Filling>,
    told_at: Timestamp,
}

impl Progress {
    /// What is due at the start, when that is everything.
    pub(super) fn begin(due: &mut Due, now: Timestamp) -> Self {
        let everything = due.oldest() == Some(EVERYTHING);
        let filling = everything.then(|| Filling { done: 0, of: due.len(), since: now, until: None });
        Self { filling, told_at: now }
    }

    /// A resource was worked on; it counts when it waits no more for what it was marked for.
    pub(super) fn finished(&mut self, app: &str, id: ResourceId, taken: Taken, due: &Due, now: Timestamp) {
        let Some(filling) = &mut self.filling else { return };
        if taken.since != EVERYTHING || due.since(id) == Some(EVERYTHING) {
            return;
        }
        filling.done += 1;
        filling.until = filling.end(now);
        let Filling { done, of, .. } = *filling;
        if done >= of {
            tracing::info!(app, done, "everything is planned");
            self.filling = None;
        } else if SignedDuration::try_from(TELL_INTERVAL)
            .is_ok_and(|wait| now.duration_since(self.told_at) >= wait)
        {
            self.told_at = now;
            let until = filling.until.map(|until| until.to_string());
            tracing::info!(app, done, of, until, "planning everything");
        }
    }

    /// How far it is.
    pub(super) fn now(&self) -> Option<Filling> {
        self.filling.clone()
    }
}

impl Filling {
    fn end(&self, now: Timestamp) -> Option<Timestamp> {
        let (done, of) = (i32::try_from(self.done).ok()?, i32::try_from(self.of).ok()?);
        let spent = now.duration_since(self.since);
        let left = spent.checked_div(done.max(1))?.checked_mul((of - done).max(0))?;
        now.checked_add(left).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_told_at_the_pace_so_far() {
        let since: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let filling = Filling { done: 25, of: 100, since, until: None };
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        assert_eq!(filling.end(now), Some("2026-01-01T00:04:00Z".parse().unwrap()));
    }

    #[test]
    fn only_what_waits_no_more_is_done() {
        let id = |number: u8| -> ResourceId {
            format!("01890a5d-ac96-774b-bcce-b302099a80{number:02x}").parse().unwrap()
        };
        let now = Timestamp::UNIX_EPOCH;
        let mut due = Due::default();
        due.mark(id(1), EVERYTHING, false);
        due.mark(id(2), EVERYTHING, false);
        let mut progress = Progress::begin(&mut due, now);
        assert_eq!(progress.now().map(|filling| (filling.done, filling.of)), Some((0, 2)));
        let (first, taken) = due.take(now).unwrap();
        due.put_back(first, taken, None);
        progress.finished("wiki", first, taken, &due, now);
        assert_eq!(progress.now().map(|filling| filling.done), Some(0));
        let (first, taken) = due.take(now).unwrap();
        due.finish(first);
        progress.finished("wiki", first, taken, &due, now);
        assert_eq!(progress.now().map(|filling| filling.done), Some(1));
        let (second, taken) = due.take(now).unwrap();
        due.finish(second);
        progress.finished("wiki", second, taken, &due, now);
        assert_eq!(progress.now(), None);
        due.mark(id(1), 5, false);
        assert_eq!(Progress::begin(&mut due, now).now(), None);
    }
}
