//! How many calls may be under way at the same time, at all apps of this process together.
//!
//! A fifth of the bound belongs to reductions of access alone. Of the rest an app has at most as many as are left free: one
//! alone gets half of it, and one that answers slowly leaves as much for each that comes as it has itself. Who has none
//! always gets one while there is any, so nobody waits for somebody who waits for him: whoever gets none holds none, and
//! asks again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Denied, Whom};

/// Calls that may be under way at all apps together, where the configuration says nothing.
pub const CALLS_MAX: usize = 1_024;
/// One part in so many belongs to reductions of access alone, as of every budget.
const RESERVED_PART: usize = 5;
/// When whoever got none asks again.
const AGAIN_DELAY: Duration = Duration::from_millis(10);

/// The bound, and who uses it. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Flights {
    most: usize,
    under_way: Arc<Mutex<UnderWay>>,
}

#[derive(Debug, Default)]
struct UnderWay {
    ordinary: Kind,
    /// Reductions of access.
    reducing: Kind,
}

/// Calls of one kind.
#[derive(Debug, Default)]
struct Kind {
    all: usize,
    by_app: BTreeMap<String, usize>,
}

/// One call that is under way, until it is dropped.
#[derive(Debug)]
pub(crate) struct Flight {
    flights: Flights,
    app: String,
    reduces: bool,
}

impl UnderWay {
    fn kind(&mut self, reduces: bool) -> &mut Kind {
        if reduces { &mut self.reducing } else { &mut self.ordinary }
    }
}

impl Default for Flights {
    fn default() -> Self {
        Self::new(CALLS_MAX)
    }
}

impl Flights {
    pub(crate) fn new(most: usize) -> Self {
        Self { most: most.max(1), under_way: Arc::default() }
    }

    fn under_way(&self) -> MutexGuard<'_, UnderWay> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many belong to reductions alone; one at least, where there are two.
    fn reserved(&self) -> usize {
        (self.most / RESERVED_PART).max(1).min(self.most.saturating_sub(1))
    }

    /// Begins a call of an app, or says when to ask again.
    pub(crate) fn begin(&self, app: &str, reduces: bool) -> Result<Flight, Denied> {
        let mut under_way = self.under_way();
        let mut free = self.most.saturating_sub(under_way.ordinary.all + under_way.reducing.all);
        if !reduces {
            free = free.min(self.most.saturating_sub(self.reserved() + under_way.ordinary.all));
        }
        let kind = under_way.kind(reduces);
        let own = kind.by_app.get(app).copied().unwrap_or_default();
        if free == 0 || (own > 0 && own >= free) {
            drop(under_way);
            metrics::counter!("rollcall_app_calls_bounded_total", "app" => app.to_string()).increment(1);
            let whom = if reduces { Whom::All } else { Whom::Ordinary };
            return Err(Denied { after: AGAIN_DELAY, whom });
        }
        kind.all += 1;
        kind.by_app.insert(app.to_string(), own + 1);
        Ok(Flight { flights: self.clone(), app: app.to_string(), reduces })
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut under_way = self.flights.under_way();
        let kind = under_way.kind(self.reduces);
        kind.all = kind.all.saturating_sub(1);
        if let Some(own) = kind.by_app.get_mut(&self.app) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                kind.by_app.remove(&self.app);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As many as an app gets.
    fn fill(flights: &Flights, app: &str, reduces: bool) -> Vec<Flight> {
        std::iter::from_fn(|| flights.begin(app, reduces).ok()).collect()
    }

    #[test]
    fn a_fifth_is_kept_for_reductions_and_the_bound_is_kept() {
        let flights = Flights::new(10);
        let ordinary: Vec<Vec<Flight>> =
            (0..20).map(|app| fill(&flights, &format!("a{app}"), false)).collect();
        assert_eq!(ordinary.iter().map(Vec::len).sum::<usize>(), 8, "eight of ten");
        assert_eq!(flights.begin("b", false).unwrap_err().whom, Whom::Ordinary);
        let reducing = [flights.begin("b", true).unwrap(), flights.begin("a0", true).unwrap()];
        assert_eq!(flights.begin("c", true).unwrap_err().whom, Whom::All, "never more than ten");
        drop(reducing);
        drop(ordinary);
        let under_way = flights.under_way();
        let is_empty = |kind: &Kind| kind.all == 0 && kind.by_app.is_empty();
        assert!(is_empty(&under_way.ordinary) && is_empty(&under_way.reducing));
    }

    #[test]
    fn a_slow_app_leaves_room_for_each_that_comes() {
        let flights = Flights::new(100);
        let slow = fill(&flights, "slow", false);
        assert_eq!(slow.len(), 40, "half of eighty");
        let second = fill(&flights, "second", false);
        assert_eq!(second.len(), 20, "half of what it left");
        // The first gets no more, and what it gives back is for both.
        assert!(flights.begin("slow", false).is_err());
        drop(slow);
        assert_eq!(fill(&flights, "second", false).len() + second.len(), 40);
    }

    #[test]
    fn reductions_of_one_app_do_not_eat_the_reserve() {
        let flights = Flights::new(100);
        let ordinary: Vec<Vec<Flight>> =
            (0..100).map(|app| fill(&flights, &format!("a{app}"), false)).collect();
        assert_eq!(ordinary.iter().map(Vec::len).sum::<usize>(), 80);
        let slow = fill(&flights, "a1", true);
        assert_eq!(slow.len(), 10);
        assert!(flights.begin("a2", true).is_ok());
    }

    #[test]
    fn the_smallest_bounds_work() {
        let one = Flights::new(1);
        let first = one.begin("a", false).unwrap();
        assert!(one.begin("b", true).is_err());
        drop(first);
        let leaver = one.begin("b", true).unwrap();
        assert!(one.begin("a", false).is_err());
        drop(leaver);
        let two = Flights::new(2);
        let _ordinary = two.begin("a", false).unwrap();
        assert!(two.begin("b", false).is_err() && two.begin("b", true).is_ok());
    }
}
