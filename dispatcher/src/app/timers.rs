//! Whose plan changes by itself, in the order of time: an account that is to be deleted after its grace, a beginning, an
//! end. Nothing of it lasts: it is found again from the links and the directory.

use std::collections::BTreeSet;

use jiff::Timestamp;
use proto::ResourceId;

use crate::plan::Next;

/// Who is due when. A time that is not right any more costs a look and changes nothing.
#[derive(Debug, Default)]
pub(super) struct Timers(BTreeSet<(i64, bool, ResourceId)>);

impl Timers {
    /// Remembers when to look again; rounded up, so that the time has come when it is said to have.
    pub(super) fn set(&mut self, id: ResourceId, next: Next) {
        let (seconds, part) = (next.at.as_second(), next.at.subsec_nanosecond());
        self.0.insert((seconds + i64::from(part > 0), !next.urgent, id));
    }

    /// The next whose time has come, and whether it may lose access.
    pub(super) fn take(&mut self, now: Timestamp) -> Option<(ResourceId, bool)> {
        if self.0.first()?.0 > now.as_second() {
            return None;
        }
        self.0.pop_first().map(|(_, is_calm, id)| (id, !is_calm))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_the_order_of_time_and_never_early() {
        let id = |number: u8| -> ResourceId {
            format!("01890a5d-ac96-774b-bcce-b302099a80{number:02x}").parse().unwrap()
        };
        let at = |text: &str| -> Timestamp { text.parse().unwrap() };
        let mut timers = Timers::default();
        timers.set(id(1), Next { at: at("2026-01-02T00:00:00.5Z"), urgent: false });
        timers.set(id(2), Next { at: at("2026-01-01T00:00:00Z"), urgent: false });
        timers.set(id(3), Next { at: at("2026-01-01T00:00:00Z"), urgent: true });
        timers.set(id(3), Next { at: at("2026-01-01T00:00:00Z"), urgent: true });
        assert_eq!(timers.take(at("2025-12-31T23:59:59Z")), None);
        let now = at("2026-01-02T00:00:00.9Z");
        assert_eq!(timers.take(now), Some((id(3), true)));
        assert_eq!(timers.take(now), Some((id(2), false)));
        assert_eq!(timers.take(now), None);
        assert_eq!(timers.take(at("2026-01-02T00:00:01Z")), Some((id(1), false)));
        assert_eq!(timers.take(now), None);
    }
}
