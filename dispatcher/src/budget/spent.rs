//! What was spent of the budgets of a minute, an hour and a day, to be written down and remembered after a restart. Pure:
//! time is an argument.
//!
//! It is told as what is lacking to a full bucket, so that it means the same under another limit. What fills in a second is
//! not worth it, and what the app taught us is learned again.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::bucket::Bucket;
use super::{Inner, Purse};
use crate::profile::{Budget, Window};

/// Groups that are written down, those that had most members added lately.
const GROUPS_KEPT: usize = 500;

/// What is lacking to full buckets.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub(crate) struct Spent {
    /// By what is counted and in which window: for everybody, and for ordinary work.
    accounts: BTreeMap<String, (f64, f64)>,
    /// By the same and by the app's id of the group.
    members: BTreeMap<String, BTreeMap<String, f64>>,
}

/// What a budget is called, whatever its limit.
fn name(budget: &Budget) -> String {
    format!("{:?} {:?} {}", budget.calls, budget.per, budget.kind.as_deref().unwrap_or_default())
}

fn is_long(budget: &Budget) -> bool {
    match budget.per {
        Window::Second => false,
        Window::Minute | Window::Hour | Window::Day => true,
    }
}

impl Bucket {
    fn lacking(&mut self, now: Instant) -> f64 {
        self.fill(now);
        (self.size - self.left).max(0.0)
    }

    /// So much was lacking so long ago.
    fn recall(&mut self, lacking: f64, ago: Duration, now: Instant) {
        self.fill(now);
        let since = ago.as_secs_f64() * self.per_second;
        self.left = self.left.min((self.size - lacking + since).min(self.size));
    }
}

impl Purse {
    /// Whether anything of it is worth remembering.
    pub(crate) fn is_remembered(&self) -> bool {
        let inner = self.inner();
        let members = inner.members.iter().map(|own| &own.budget);
        inner.accounts.iter().map(|own| &own.budget).chain(members).any(is_long)
    }

    /// How many calls there were so far.
    pub(crate) fn calls(&self) -> u64 {
        self.inner().calls_count
    }

    /// What was spent of it.
    pub(crate) fn spent(&self, now: Instant) -> Spent {
        self.inner().spent(now)
    }

    /// So much was spent of it so long ago. Twice is once.
    pub(crate) fn recall(&self, spent: &Spent, ago: Duration, now: Instant) {
        self.inner().recall(spent, ago, now);
    }
}

impl Inner {
    fn spent(&mut self, now: Instant) -> Spent {
        let mut spent = Spent::default();
        for own in self.accounts.iter_mut().filter(|own| is_long(&own.budget)) {
            let lacking = (own.all.lacking(now), own.ordinary.lacking(now));
            if lacking.0 > 0.0 || lacking.1 > 0.0 {
                spent.accounts.insert(name(&own.budget), lacking);
            }
        }
        for own in self.members.iter_mut().filter(|own| is_long(&own.budget)) {
            let lacking = own.groups.iter_mut().map(|(group, bucket)| (bucket.lacking(now), group));
            let mut lacking: Vec<(f64, &String)> = lacking.filter(|(lacking, _)| *lacking > 0.0).collect();
            lacking.sort_by(|(one, _), (other, _)| other.total_cmp(one));
            let most = lacking.into_iter().take(GROUPS_KEPT);
            let groups: BTreeMap<String, f64> =
                most.map(|(lacking, group)| (group.clone(), lacking)).collect();
            if !groups.is_empty() {
                spent.members.insert(name(&own.budget), groups);
            }
        }
        spent
    }

    fn recall(&mut self, spent: &Spent, ago: Duration, now: Instant) {
        for own in &mut self.accounts {
            if let Some((all, ordinary)) = spent.accounts.get(&name(&own.budget)) {
                own.all.recall(*all, ago, now);
                own.ordinary.recall(*ordinary, ago, now);
            }
        }
        for own in &mut self.members {
            for (group, lacking) in spent.members.get(&name(&own.budget)).into_iter().flatten() {
                own.group(group, now).recall(*lacking, ago, now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::{Wanted, Window};
    use crate::profile::Calls;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn budget(per: Window, limit: u32, burst: u32) -> Budget {
        Budget { calls: Calls::All, kind: None, per, limit, burst: Some(burst) }
    }

    fn call(reduces: bool) -> Wanted<'static> {
        Wanted { calls: Calls::Deletes, kind: "User", reduces, members: None }
    }

    /// Calls that are there at once.
    fn at_once(purse: &Purse, reduces: bool, now: Instant) -> usize {
        (0..).take_while(|_| purse.take(&call(reduces), now).is_ok()).count()
    }

    /// As it is read after a restart.
    fn written(purse: &Purse, now: Instant) -> Spent {
        serde_json::from_slice(&serde_json::to_vec(&purse.spent(now)).unwrap()).unwrap()
    }

    #[test]
    fn what_a_day_has_spent_is_spent_after_a_restart() {
        let now = Instant::now();
        let day = [budget(Window::Day, 1_000, 100)];
        let purse = Purse::new(&day);
        assert_eq!(at_once(&purse, false, now), 80);
        let spent = written(&purse, now);
        let again = |ago| {
            let purse = Purse::new(&day);
            purse.recall(&spent, ago, now);
            purse.recall(&spent, ago, now);
            at_once(&purse, false, now)
        };
        assert_eq!(again(Duration::ZERO), 0, "as if there had been no restart");
        // 720 of ordinary work come in a day.
        assert_eq!(again(HOUR), 30);
        assert_eq!(again(HOUR * 24), 80, "a full bucket and no more");
        // Reductions find what was kept for them.
        let purse = Purse::new(&day);
        purse.recall(&spent, Duration::ZERO, now);
        assert_eq!(at_once(&purse, true, now), 20);
    }

    #[test]
    fn another_limit_counts_from_what_was_spent() {
        let now = Instant::now();
        let purse = Purse::new(&[budget(Window::Day, 1_000, 100)]);
        at_once(&purse, true, now);
        let spent = written(&purse, now);
        let left = |budget: Budget| {
            let purse = Purse::new(&[budget]);
            purse.recall(&spent, Duration::ZERO, now);
            at_once(&purse, true, now)
        };
        assert_eq!(left(budget(Window::Day, 1_000, 150)), 50);
        assert_eq!(left(budget(Window::Day, 1_000, 50)), 0);
        assert_eq!(left(budget(Window::Hour, 1_000, 50)), 50, "another window is another budget");
    }

    #[test]
    fn what_is_left_is_never_more_than_it_was() {
        let now = Instant::now();
        let purse = Purse::new(&[budget(Window::Hour, 100, 20)]);
        at_once(&purse, true, now);
        purse.recall(&Spent::default(), HOUR, now);
        assert_eq!(at_once(&purse, true, now), 0);
    }

    #[test]
    fn a_groups_members_are_remembered_and_seconds_are_not() {
        let now = Instant::now();
        let members = Budget { calls: Calls::MembersAdded, ..budget(Window::Hour, 1_000, 500) };
        let purse = Purse::new(&[members.clone(), budget(Window::Second, 10, 5)]);
        let add = Wanted { members: Some(("g", 500)), ..call(false) };
        purse.take(&add, now).unwrap();
        let spent = written(&purse, now);
        assert!(purse.is_remembered() && !spent.members.is_empty() && spent.accounts.is_empty());
        let purse = Purse::new(&[members]);
        purse.recall(&spent, Duration::ZERO, now);
        assert!(purse.members("g", 1, now).is_err());
        assert_eq!(purse.members("h", 300, now), Ok(300));
        let second = Purse::new(&[budget(Window::Second, 10, 5)]);
        assert!(!second.is_remembered() && second.spent(now) == Spent::default());
    }
}
