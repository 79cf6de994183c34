//! Whom the budget lets through: while it has nothing for ordinary work, nobody is planned in vain, and whoever loses
//! access passes all the same.

use std::time::Duration;

use eventlog::clock;
use jiff::{SignedDuration, Timestamp};
use proto::ResourceId;
use tokio::time::Instant;

use super::due::{Due, Taken};
use crate::budget::{Denied, Whom};

/// How long nobody looks when there is nothing to wait for.
const IDLE: Duration = Duration::from_secs(60);

/// How long there is between two looks.
const LOOK_MIN: Duration = Duration::from_millis(2);

/// Until when each kind of work has to wait.
#[derive(Default)]
pub(crate) struct Gates {
    ordinary: Option<Instant>,
    urgent: Option<Instant>,
}

impl Gates {
    /// The next resource that may have its turn.
    pub(crate) fn next(&mut self, due: &mut Due) -> Option<(ResourceId, Taken)> {
        let (now, time) = (Instant::now(), clock::now());
        let closed = |gate: Option<Instant>| gate.is_some_and(|until| until > now);
        match (closed(self.urgent), closed(self.ordinary)) {
            // Reductions may always draw on what others draw on, so both are closed.
            (true, _) => None,
            (false, true) => due.take_urgent(time),
            (false, false) => due.take(time),
        }
    }

    /// Nothing for whom this concerns, as long as it lasts.
    pub(crate) fn close(&mut self, denied: Denied) {
        let until = Instant::now().checked_add(denied.after.min(IDLE));
        match denied.whom {
            Whom::Alike => {}
            Whom::Ordinary => self.ordinary = until,
            Whom::All => self.urgent = until,
        }
    }

    /// When it is worth another look.
    pub(crate) fn opens(&self, due: &Due) -> Instant {
        let now = Instant::now();
        let rested = due.next_rested().map(|time| {
            let left = time.duration_since(clock::now());
            now + Duration::try_from(left).unwrap_or_default().min(IDLE)
        });
        let gates = [self.ordinary, self.urgent].into_iter().flatten().filter(|until| *until > now);
        // One that is there already waits for a place or for the lease, and these wake us too.
        gates.chain(rested).min().unwrap_or(now + IDLE).max(now + LOOK_MIN)
    }
}

/// That long from now, on the clock that due times are told by.
pub(crate) fn later(after: Duration) -> Timestamp {
    let after = SignedDuration::try_from(after).unwrap_or(SignedDuration::MAX);
    clock::now().checked_add(after).unwrap_or(Timestamp::MAX)
}
