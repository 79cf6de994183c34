//! Whose turn it is where several draw from the same budgets: whoever has a long backlog leaves room for whoever comes with a
//! single change. First tenants have turns, then the apps of each. Pure: time is an argument.
//!
//! Nobody waits in a line here; whoever was denied comes back. Until then a call is left over for each who waits and had less,
//! counted by weight, and not longer than he takes to come back.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// How long a call is left over for somebody who was told to come back and does not.
const PATIENCE: Duration = Duration::from_millis(500);
/// Those that are remembered before whoever is idle is forgotten.
const REMEMBERED: usize = 1_000;

/// Who draws.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Party {
    /// Whose people.
    pub(crate) tenant: String,
    /// Where.
    pub(crate) app: String,
    /// So many turns while others have one; at least one.
    pub(crate) weight: u32,
}

/// Everybody who draws from a purse.
#[derive(Debug, Default)]
pub(super) struct Turns {
    tenants: Line,
    apps: BTreeMap<String, Line>,
}

/// Those among whom turns are shared.
#[derive(Debug, Default)]
struct Line {
    all: BTreeMap<String, One>,
    /// What whoever was served last had had before: whoever comes anew begins there, and has saved nothing.
    level: f64,
}

#[derive(Clone, Copy, Debug, Default)]
struct One {
    /// Calls so far, divided by the weight.
    had: f64,
    /// When he comes back, while he waits.
    back_at: Option<Instant>,
}

impl One {
    fn waits(&self, now: Instant) -> bool {
        self.back_at.is_some_and(|at| now <= at + PATIENCE)
    }

    /// What counts of what he had.
    fn begins(&self, level: f64, now: Instant) -> f64 {
        if self.waits(now) { self.had } else { self.had.max(level) }
    }
}

impl Line {
    /// How many others wait who had less, and until when at most.
    fn before(&self, who: &str, now: Instant) -> (usize, Option<Instant>) {
        let own = self.all.get(who).copied().unwrap_or_default();
        let (begins, waits) = (own.begins(self.level, now), own.waits(now));
        let is_before = |(name, one): &(&String, &One)| {
            // Of two who had the same, whoever waits comes before whoever just came.
            *name != who && one.waits(now) && (one.had < begins || (one.had == begins && !waits))
        };
        let before: Vec<&One> = self.all.iter().filter(is_before).map(|(_, one)| one).collect();
        (before.len(), before.iter().filter_map(|one| one.back_at).max().map(|at| at + PATIENCE))
    }

    fn denied(&mut self, who: &str, back_at: Instant, now: Instant) {
        self.forget(now);
        let level = self.level;
        let one = self.all.entry(who.to_string()).or_default();
        one.had = one.begins(level, now);
        // Of many that he has to do, the first to come back counts.
        one.back_at = Some(one.back_at.filter(|at| *at >= now).map_or(back_at, |at| at.min(back_at)));
    }

    fn took(&mut self, who: &str, weight: u32, now: Instant) {
        self.forget(now);
        let level = self.level;
        let one = self.all.entry(who.to_string()).or_default();
        one.had = one.begins(level, now);
        self.level = level.max(one.had);
        one.had += 1.0 / f64::from(weight.max(1));
        one.back_at = None;
    }

    fn forget(&mut self, now: Instant) {
        if self.all.len() >= REMEMBERED {
            let level = self.level;
            self.all.retain(|_, one| one.waits(now) || one.had > level);
        }
    }
}

impl Turns {
    /// For how many others a call must be left over, and until when at most.
    pub(super) fn before(&self, who: &Party, now: Instant) -> (usize, Option<Instant>) {
        let (tenants, until) = self.tenants.before(&who.tenant, now);
        let apps = self.apps.get(&who.tenant).map(|line| line.before(&who.app, now)).unwrap_or_default();
        (tenants + apps.0, until.max(apps.1))
    }

    /// He was told to come back.
    pub(super) fn denied(&mut self, who: &Party, back_at: Instant, now: Instant) {
        self.tenants.denied(&who.tenant, back_at, now);
        self.apps.entry(who.tenant.clone()).or_default().denied(&who.app, back_at, now);
    }

    /// He had his turn.
    pub(super) fn took(&mut self, who: &Party, now: Instant) {
        self.tenants.took(&who.tenant, who.weight, now);
        self.apps.entry(who.tenant.clone()).or_default().took(&who.app, who.weight, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn party(tenant: &str, app: &str) -> Party {
        Party { tenant: tenant.to_string(), app: app.to_string(), weight: 1 }
    }

    #[test]
    fn whoever_had_less_comes_first_and_nobody_saves() {
        let now = Instant::now();
        let mut turns = Turns::default();
        let (busy, quiet) = (party("corp", "wiki"), party("beta", "wiki"));
        for _ in 0..1_000 {
            turns.took(&busy, now);
        }
        turns.denied(&busy, now, now);
        assert_eq!(turns.before(&quiet, now).0, 0, "he had nothing for a long time");
        turns.denied(&quiet, now, now);
        assert_eq!((turns.before(&busy, now).0, turns.before(&quiet, now).0), (1, 0));
        turns.took(&quiet, now);
        turns.denied(&quiet, now, now);
        // What he did not need then is not owed to him now: they take turns.
        let mut order = Vec::new();
        for _ in 0..6 {
            let next = if turns.before(&busy, now).0 == 0 { &busy } else { &quiet };
            turns.took(next, now);
            turns.denied(next, now, now);
            order.push(next.tenant.as_str());
        }
        let busy = order.iter().filter(|tenant| **tenant == "corp").count();
        assert_eq!(busy, 3, "{order:?}");
    }

    #[test]
    fn whoever_does_not_come_back_holds_up_nobody() {
        let now = Instant::now();
        let mut turns = Turns::default();
        turns.took(&party("corp", "wiki"), now);
        turns.denied(&party("beta", "wiki"), now + Duration::from_secs(1), now);
        let (count, until) = turns.before(&party("corp", "wiki"), now);
        assert_eq!((count, until), (1, Some(now + Duration::from_secs(1) + PATIENCE)));
        let later = now + Duration::from_secs(2);
        assert_eq!(turns.before(&party("corp", "wiki"), later), (0, None));
    }

    #[test]
    fn apps_of_a_tenant_take_turns_and_are_together_one_tenant() {
        let now = Instant::now();
        let mut turns = Turns::default();
        let (one, other, beta) = (party("corp", "one"), party("corp", "other"), party("beta", "one"));
        let mut served: BTreeMap<String, u32> = BTreeMap::new();
        let all = [&one, &other, &beta];
        for party in all {
            turns.denied(party, now, now);
        }
        for _ in 0..40 {
            let next = all.into_iter().find(|party| turns.before(party, now).0 == 0).unwrap();
            turns.took(next, now);
            turns.denied(next, now, now);
            *served.entry(format!("{}/{}", next.tenant, next.app)).or_default() += 1;
        }
        assert_eq!(served.into_values().collect::<Vec<_>>(), [20, 10, 10]);
    }

    #[test]
    fn weight_is_turns() {
        let now = Instant::now();
        let mut turns = Turns::default();
        let (heavy, light) = (Party { weight: 3, ..party("corp", "a") }, party("beta", "a"));
        let mut heavies = 0;
        turns.denied(&heavy, now, now);
        turns.denied(&light, now, now);
        for _ in 0..40 {
            let next = if turns.before(&heavy, now).0 == 0 { &heavy } else { &light };
            heavies += u32::from(next == &heavy);
            turns.took(next, now);
            turns.denied(next, now, now);
        }
        assert_eq!(heavies, 30);
    }
}
