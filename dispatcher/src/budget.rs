//! How many calls an app gets, in each window of time, and what is kept of them for reductions of access.
//!
//! A call that cannot be afforded is not waited for: its resource rests, and the place at the app is free for somebody who
//! loses access. Time is an argument.

mod bucket;
mod flights;
mod spent;
mod turns;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proto::ResourceId;
use tokio::time::Instant;

use crate::config::AppConfig;
use crate::plan::Call;
use crate::profile::{Budget, Calls, Window};
use bucket::Bucket;
pub use flights::CALLS_MAX;
pub(crate) use flights::{Flight, Flights};
pub(crate) use spent::Spent;
use turns::{Party, Turns};

/// This part of each budget belongs to reductions of access alone.
const RESERVED: f64 = 0.2;
/// After the app said that we are too fast, it gets this part of what it got.
const SLOWER: f64 = 0.5;
/// How long it takes until it is tried twice as fast again.
const RECOVERY: Duration = Duration::from_secs(20);
/// What the app says within this time it says once.
const TOLD_AT_ONCE: Duration = Duration::from_secs(2);
/// Over this time we look at how fast we were.
const OBSERVED: Duration = Duration::from_secs(10);
/// We never get slower than this many calls in a second.
const SLOWEST: f64 = 0.5;
/// Twice as fast so many times, and nothing is left of it.
const RECOVERIES: u32 = 6;
/// Places that are remembered before anybody looks which of them are over.
const PLACES_MIN: usize = 1_000;
/// Groups whose budgets are remembered.
const GROUPS_MAX: usize = 10_000;

/// One call that wants to be made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    /// What it is.
    pub(crate) calls: Calls,
    /// The resource type.
    pub(crate) kind: &'a str,
    /// Whether somebody loses access by it.
    pub(crate) reduces: bool,
    /// The app's group that gets members, and how many.
    pub(crate) members: Option<(&'a str, usize)>,
}

/// A call that cannot be afforded yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Denied {
    /// How long it must rest.
    pub(crate) after: Duration,
    /// Who else need not ask until then.
    pub(crate) whom: Whom,
}

/// Whom a lack concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Whom {
    /// Only calls of this kind.
    Alike,
    /// Everybody but those who lose access.
    Ordinary,
    /// Everybody.
    All,
}

/// The budgets of one app, or of several together, and who draws from them. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Purse {
    inner: Arc<Mutex<Inner>>,
    who: Arc<Party>,
    flights: Flights,
}

#[derive(Debug, Default)]
struct Inner {
    accounts: Vec<Account>,
    members: Vec<Members>,
    /// What the app taught us.
    learned: Option<Learned>,
    /// Calls of the last seconds.
    calls: Vec<Instant>,
    /// Calls so far.
    calls_count: u64,
    /// Of ordinary work, and of reductions of access.
    turns: [Turns; 2],
}

/// Every purse by the name of who shares it, and how many calls may be under way at all apps.
#[derive(Clone, Debug, Default)]
pub(crate) struct Purses {
    purses: Arc<Mutex<BTreeMap<String, Purse>>>,
    flights: Flights,
}

/// A budget and what is left of it.
#[derive(Debug)]
struct Account {
    budget: Budget,
    /// For whoever loses access.
    all: Bucket,
    /// For everybody else, who draws from both.
    ordinary: Bucket,
    /// The last time that somebody of a tenant was told to come back at; the next one of them comes later.
    promised: BTreeMap<String, Instant>,
    /// Who was told which time: whoever asks too early hears the same again, and takes nobody's place.
    places: BTreeMap<ResourceId, Instant>,
    /// So many of them before those are forgotten whose time is over.
    places_most: usize,
}

#[derive(Debug)]
struct Members {
    budget: Budget,
    groups: BTreeMap<String, Bucket>,
}

#[derive(Debug)]
struct Learned {
    all: Bucket,
    ordinary: Bucket,
    since: Instant,
    recoveries: u32,
    /// When the app said so.
    told: Instant,
}

impl Budget {
    /// So many at once.
    pub(crate) fn burst(&self) -> u32 {
        self.burst.unwrap_or(self.limit / 10).clamp(1, (self.limit / 2).max(1))
    }
}

impl Window {
    pub(crate) fn length(self) -> Duration {
        Duration::from_secs(match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => 86_400,
        })
    }
}

impl Calls {
    /// Whether a budget of these counts a call of that kind.
    fn count(self, call: Self) -> bool {
        let writes = [Self::Creates, Self::Updates, Self::Deletes].contains(&call);
        match self {
            Self::All => true,
            Self::Writes => writes,
            Self::Reads | Self::Creates | Self::Updates | Self::Deletes => self == call,
            Self::MembersAdded => false,
        }
    }

    /// Whether somebody can lose access by what is counted.
    fn can_reduce(self) -> bool {
        match self {
            Self::All | Self::Writes | Self::Updates | Self::Deletes => true,
            Self::Reads | Self::Creates | Self::MembersAdded => false,
        }
    }
}

impl Account {
    fn new(budget: Budget) -> Self {
        let part = if budget.calls.can_reduce() { 1.0 - RESERVED } else { 1.0 };
        Self {
            all: Bucket::of(&budget, 1.0),
            ordinary: Bucket::of(&budget, part),
            promised: BTreeMap::new(),
            places: BTreeMap::new(),
            places_most: PLACES_MIN,
            budget,
        }
    }

    /// Whether whatever is asked for next would lack it too.
    fn concerns_all(&self) -> bool {
        self.budget.kind.is_none() && matches!(self.budget.calls, Calls::All | Calls::Writes)
    }

    /// A time of his own for each who must come back, lest all of them come at once and all but one in vain.
    fn promise(
        &mut self,
        (who, tenant): (ResourceId, &str),
        wait: Duration,
        reduces: bool,
        now: Instant,
    ) -> Duration {
        if let Some(at) = self.places.get(&who).filter(|at| **at > now) {
            return at.saturating_duration_since(now).max(wait);
        }
        if self.places.len() >= self.places_most {
            self.places.retain(|_, at| *at > now);
            self.places_most = (self.places.len() * 2).max(PLACES_MIN);
        }
        let bucket = if reduces { &self.all } else { &self.ordinary };
        let apart = Duration::try_from_secs_f64(1.0 / bucket.per_second.max(1e-6)).unwrap_or(wait);
        self.promised.retain(|_, at| *at > now);
        // As many as there are share what comes in.
        let others = self.promised.keys().filter(|other| *other != tenant).count();
        let apart = apart.saturating_mul(u32::try_from(others).unwrap_or(u32::MAX).saturating_add(1));
        let next = self.promised.get(tenant).map_or(now, |promised| *promised + apart);
        let at = next.max(now + wait);
        self.promised.insert(tenant.to_string(), at);
        self.places.insert(who, at);
        at.saturating_duration_since(now)
    }

    fn counts(&self, wanted: &Wanted<'_>) -> bool {
        self.budget.calls.count(wanted.calls)
            && self.budget.kind.as_deref().is_none_or(|kind| kind == wanted.kind)
    }
}

impl Members {
    fn group(&mut self, group: &str, now: Instant) -> &mut Bucket {
        if self.groups.len() >= GROUPS_MAX {
            // A full one is as one that never was.
            self.groups.retain(|_, bucket| {
                bucket.fill(now);
                bucket.left < bucket.size
            });
        }
        let budget = &self.budget;
        self.groups.entry(group.to_string()).or_insert_with(|| Bucket::of(budget, 1.0))
    }
}

impl Purse {
    #[cfg(test)]
    fn new(budgets: &[Budget]) -> Self {
        let purse = Self::default();
        purse.add(budgets);
        purse
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same budgets, drawn from by this one.
    fn drawn_by(&self, who: Party, flights: &Flights) -> Self {
        Self { who: Arc::new(who), flights: flights.clone(), ..self.clone() }
    }

    /// Begins a call, or says when to ask again because too many are under way.
    pub(crate) fn begin(&self, reduces: bool) -> Result<Flight, Denied> {
        self.flights.begin(&self.who.app, reduces)
    }

    /// Adds budgets. Of two for the same calls in the same window, the smaller one counts.
    fn add(&self, budgets: &[Budget]) {
        let mut inner = self.inner();
        for budget in budgets {
            if budget.calls == Calls::MembersAdded {
                if !inner.members.iter().any(|own| own.budget == *budget) {
                    inner.members.push(Members { budget: budget.clone(), groups: BTreeMap::new() });
                }
                continue;
            }
            let same = |own: &&mut Account| {
                let own = &own.budget;
                (own.calls, &own.kind, own.per) == (budget.calls, &budget.kind, budget.per)
            };
            match inner.accounts.iter_mut().find(same) {
                Some(own) if own.budget.limit > budget.limit => *own = Account::new(budget.clone()),
                Some(_) => {}
                None => inner.accounts.push(Account::new(budget.clone())),
            }
        }
    }

    /// Takes a call from every budget that counts it, or from none and says how long it must rest.
    pub(crate) fn take(&self, wanted: &Wanted<'_>, now: Instant) -> Result<(), Denied> {
        self.take_for(None, wanted, now)
    }

    /// The same for a resource, which keeps its place among those that wait for the same calls.
    pub(crate) fn take_for(
        &self,
        who: Option<ResourceId>,
        wanted: &Wanted<'_>,
        now: Instant,
    ) -> Result<(), Denied> {
        let mut inner = self.inner();
        if let Some(denied) = inner.lack((who, &self.who), wanted, now) {
            let back_at = now.checked_add(denied.after).unwrap_or(now);
            inner.turns(wanted).denied(&self.who, back_at, now);
            return Err(denied);
        }
        inner.spend(wanted, now);
        inner.turns(wanted).took(&self.who, now);
        if let Some(who) = who {
            for own in &mut inner.accounts {
                own.places.remove(&who);
            }
        }
        Ok(())
    }

    /// How many of these members a group can get now, and if none, how long it must rest.
    pub(crate) fn members(&self, group: &str, count: usize, now: Instant) -> Result<usize, Denied> {
        let mut inner = self.inner();
        let mut most = count;
        for own in &mut inner.members {
            let bucket = own.group(group, now);
            let wait = bucket.wait(1.0, now);
            if !wait.is_zero() {
                return Err(Denied { after: wait, whom: Whom::Alike });
            }
            most = most.min((bucket.left + 1e-9).floor() as usize);
        }
        Ok(most)
    }

    /// A call that could not wait is taken all the same; others wait for it.
    pub(crate) fn spend(&self, wanted: &Wanted<'_>, now: Instant) {
        let mut inner = self.inner();
        inner.spend(wanted, now);
        inner.turns(wanted).took(&self.who, now);
    }

    /// The app said that we are too fast.
    pub(crate) fn slow_down(&self, now: Instant) {
        let mut inner = self.inner();
        // Calls that were under way together are told the same together.
        let just_told = |learned: &Learned| now.saturating_duration_since(learned.told) < TOLD_AT_ONCE;
        if inner.learned.as_ref().is_some_and(just_told) {
            return;
        }
        inner.forget_old(now);
        let observed = inner.calls.len() as f64 / OBSERVED.as_secs_f64();
        let before = inner
            .learned
            .as_ref()
            .map_or(observed, |learned| learned.all.per_second.min(observed.max(SLOWEST)));
        let all = (before * SLOWER).max(SLOWEST);
        inner.learned = Some(Learned {
            all: Bucket::steady(all),
            ordinary: Bucket::steady(all * (1.0 - RESERVED)),
            since: now,
            recoveries: 0,
            told: now,
        });
    }

    #[cfg(test)]
    fn learned(&self) -> Option<f64> {
        self.inner().learned.as_ref().map(|learned| learned.all.per_second)
    }
}

impl Inner {
    fn forget_old(&mut self, now: Instant) {
        self.calls.retain(|call| now.saturating_duration_since(*call) < OBSERVED);
    }

    /// Twice as fast after each while, until nothing is left of what the app taught us.
    fn recover(&mut self, now: Instant) {
        let Some(learned) = &mut self.learned else { return };
        while now.saturating_duration_since(learned.since) >= RECOVERY && learned.recoveries < RECOVERIES {
            learned.recoveries += 1;
            learned.since += RECOVERY;
            learned.all.per_second *= 2.0;
            learned.ordinary.per_second *= 2.0;
        }
        if learned.recoveries >= RECOVERIES {
            self.learned = None;
        }
    }

    fn turns(&mut self, wanted: &Wanted<'_>) -> &mut Turns {
        let [ordinary, reducing] = &mut self.turns;
        if wanted.reduces { reducing } else { ordinary }
    }

    /// What is lacking for a call, if anything is. One is left over for each who waits and had less.
    fn lack(
        &mut self,
        (who, party): (Option<ResourceId>, &Party),
        wanted: &Wanted<'_>,
        now: Instant,
    ) -> Option<Denied> {
        self.recover(now);
        let (before, until) = self.turns(wanted).before(party, now);
        let most = until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        let left_over = |bucket: &mut Bucket| bucket.wait_for(before, most, now);
        let all = if wanted.reduces { Whom::All } else { Whom::Ordinary };
        let mut longest = Duration::ZERO;
        let mut whom = Whom::Alike;
        for own in self.accounts.iter_mut().filter(|own| own.counts(wanted)) {
            let ordinary = if wanted.reduces { Duration::ZERO } else { left_over(&mut own.ordinary) };
            let mut wait = left_over(&mut own.all).max(ordinary);
            if wait.is_zero() {
                continue;
            }
            if own.concerns_all() {
                whom = all;
            } else if let Some(who) = who {
                wait = own.promise((who, &party.tenant), wait, wanted.reduces, now);
            }
            longest = longest.max(wait);
        }
        if let Some(learned) = &mut self.learned {
            let ordinary = if wanted.reduces { Duration::ZERO } else { left_over(&mut learned.ordinary) };
            let wait = left_over(&mut learned.all).max(ordinary);
            if !wait.is_zero() {
                whom = all;
                longest = longest.max(wait);
            }
        }
        if let Some((group, count)) = wanted.members {
            for own in &mut self.members {
                longest = longest.max(own.group(group, now).wait(count as f64, now));
            }
        }
        (!longest.is_zero()).then_some(Denied { after: longest, whom })
    }

    fn spend(&mut self, wanted: &Wanted<'_>, now: Instant) {
        self.calls_count += 1;
        for own in self.accounts.iter_mut().filter(|own| own.counts(wanted)) {
            own.all.spend(1.0);
            if !wanted.reduces {
                own.ordinary.spend(1.0);
            }
        }
        if let Some(learned) = &mut self.learned {
            learned.all.spend(1.0);
            if !wanted.reduces {
                learned.ordinary.spend(1.0);
            }
        }
        if let Some((group, count)) = wanted.members {
            for own in &mut self.members {
                own.group(group, now).spend(count as f64);
            }
        }
        if self.calls.len() >= CALLS_REMEMBERED_MAX {
            self.forget_old(now);
        }
        if self.calls.len() < CALLS_REMEMBERED_MAX {
            self.calls.push(now);
        }
    }
}

/// Calls whose time is remembered: so many in ten seconds are fast enough to say that we were fast.
const CALLS_REMEMBERED_MAX: usize = 20_000;

impl Purses {
    /// So many calls may be under way at all apps together.
    pub(crate) fn new(calls_max: usize) -> Self {
        Self { purses: Arc::default(), flights: Flights::new(calls_max) }
    }

    /// The purse that an app draws from, with its budgets in it.
    pub(crate) fn of_app(&self, app: &str, config: &AppConfig) -> Purse {
        let party =
            Party { tenant: config.tenant.to_string(), app: app.to_string(), weight: config.budget_weight };
        self.of(&config.purse(app), &config.all_budgets()).drawn_by(party, &self.flights)
    }

    /// The purse of this name, with these budgets in it.
    fn of(&self, name: &str, budgets: &[Budget]) -> Purse {
        let mut purses = self.purses.lock().unwrap_or_else(PoisonError::into_inner);
        let purse = purses.entry(name.to_string()).or_default();
        purse.add(budgets);
        purse.clone()
    }

    /// The next one of this name is a new one; whoever has it keeps it.
    pub(crate) fn forget(&self, name: &str) {
        self.purses.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}

/// What a call of the plan counts as.
pub(crate) fn wanted<'a>(call: &'a Call, kind: &'a str) -> Wanted<'a> {
    let plain = |calls, reduces| Wanted { calls, kind, reduces, members: None };
    match call {
        Call::Create { .. } => plain(Calls::Creates, false),
        Call::Update { attributes, .. } => {
            plain(Calls::Updates, attributes.get("active") == Some(&serde_json::Value::Bool(false)))
        }
        Call::Deactivate { .. } => plain(Calls::Updates, true),
        Call::Delete { .. } => plain(Calls::Deletes, true),
        Call::ChangeMembers { remote_id, added, removed } => {
            let members = (!added.is_empty()).then_some((remote_id.as_str(), added.len()));
            Wanted { members, ..plain(Calls::Updates, !removed.is_empty()) }
        }
    }
}

#[cfg(test)]
mod tests;
