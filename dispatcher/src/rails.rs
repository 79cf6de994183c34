//! Guard rails: how many operations of a kind an app takes within a window before the rest waits for a person. Pure:
//! time is an argument.

use std::collections::BTreeMap;
use std::fmt;

use jiff::{SignedDuration, Timestamp};
use proto::ResourceId;
use proto::provisioning::{Details, Event, Kind};
use serde::{Deserialize, Serialize};

/// How long what was counted is remembered, so that a release is not forgotten by a restart.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(24);

/// What a call does to an account, as the guard rails count it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// An account is made because of an event.
    Create,
    /// An account is made that no event asks for: the configuration changed, or the app was compared with the directory.
    UnaskedCreate,
    /// Attributes change.
    Update,
    /// Somebody becomes a member; each membership counts.
    Grant,
    /// Somebody is a member no more; each membership counts.
    Revoke,
    /// An account is switched off.
    Deactivate,
    /// An account is deleted.
    Delete,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 7] = [
        Self::Create,
        Self::UnaskedCreate,
        Self::Update,
        Self::Grant,
        Self::Revoke,
        Self::Deactivate,
        Self::Delete,
    ];

    /// The name in configuration, answers and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::UnaskedCreate => "unasked_create",
            Self::Update => "update",
            Self::Grant => "grant",
            Self::Revoke => "revoke",
            Self::Deactivate => "deactivate",
            Self::Delete => "delete",
        }
    }

    /// The operation of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|operation| operation.name() == name)
    }

    /// What is counted together: whoever is switched off and then deleted lost access once.
    fn line(self) -> Self {
        match self {
            Self::Delete => Self::Deactivate,
            Self::Create
            | Self::UnaskedCreate
            | Self::Update
            | Self::Grant
            | Self::Revoke
            | Self::Deactivate => self,
        }
    }

    /// The operations that are counted together with this one.
    pub(crate) fn counted_together(self) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(move |other| other.line() == self.line())
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// More than so many, and more than such a part of the app's accounts: both when both are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Limit {
    /// So many are allowed.
    pub more_than: Option<u64>,
    /// Percent of the app's linked accounts that are allowed.
    pub percent: Option<u8>,
}

impl Limit {
    /// Whether so many of so many accounts are too many. A limit that says nothing is never exceeded.
    pub fn is_exceeded(&self, counted: usize, of: usize) -> bool {
        let (counted, of) = (counted as u128, of as u128);
        let absolute = self.more_than.map(|limit| counted > u128::from(limit));
        let percent = self.percent.map(|limit| counted * 100 > u128::from(limit) * of);
        match (absolute, percent) {
            (None, None) => false,
            (absolute, percent) => absolute.unwrap_or(true) && percent.unwrap_or(true),
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.more_than, self.percent) {
            (Some(count), Some(percent)) => write!(f, "more than {count} and more than {percent} %"),
            (Some(count), None) => write!(f, "more than {count}"),
            (None, Some(percent)) => write!(f, "more than {percent} %"),
            (None, None) => f.write_str("no limit"),
        }
    }
}

/// What `[app.NAME.guard]` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rails {
    /// How far back operations are counted.
    pub window_minutes: u32,
    /// An operation without a limit is not counted.
    pub limits: BTreeMap<Operation, Limit>,
}

impl Default for Rails {
    /// Without being asked: whoever loses the account, and whoever gets one without an event.
    fn default() -> Self {
        let leaving = Limit { more_than: Some(50), percent: Some(20) };
        let unasked = Limit { more_than: Some(1_000), percent: Some(50) };
        Self {
            window_minutes: 60,
            limits: BTreeMap::from([
                (Operation::Deactivate, leaving),
                (Operation::Delete, leaving),
                (Operation::UnaskedCreate, unasked),
            ]),
        }
    }
}

impl Rails {
    /// The limit of an operation.
    pub(crate) fn limit(&self, operation: Operation) -> Option<Limit> {
        self.limits.get(&operation).copied()
    }

    fn window(&self) -> SignedDuration {
        SignedDuration::from_mins(i64::from(self.window_minutes))
    }

    /// Whether what is counted together with an operation has a limit.
    fn counts(&self, operation: Operation) -> bool {
        operation.counted_together().any(|operation| self.limits.contains_key(&operation))
    }
}

/// What is counted: a resource, and of a membership its member.
pub(crate) type Counted = (ResourceId, Option<ResourceId>);

/// What was done at an app lately. Filled from PROVISIONING, and by whoever is about to do something, so a restart or
/// another dispatcher goes on with the same numbers.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    rails: Rails,
    lines: BTreeMap<Operation, Line>,
}

/// Operations that are counted together.
#[derive(Clone, Debug, Default)]
struct Line {
    /// When each was counted last.
    latest: BTreeMap<Counted, Timestamp>,
    /// In the order of time.
    times: Vec<Timestamp>,
    /// A release: nothing before it counts, and of what comes after it so many do not.
    since: Timestamp,
    allowance: usize,
}

impl Line {
    /// Where the counted ones begin: within the window, after the release and after what it lets through.
    fn first(&self, now: Timestamp, window: SignedDuration) -> usize {
        let begin = now.checked_sub(window).unwrap_or(Timestamp::MIN);
        let in_window = self.times.partition_point(|time| *time <= begin);
        let released = self.times.partition_point(|time| *time <= self.since);
        in_window.max(released + self.allowance).min(self.times.len())
    }

    fn forget(&mut self, now: Timestamp, window: SignedDuration) {
        let begin = now.checked_sub(window.max(REMEMBERED)).unwrap_or(Timestamp::MIN);
        let old = self.times.partition_point(|time| *time <= begin);
        // Now and then is enough.
        if old > 0 && old * 2 >= self.times.len() {
            self.times.drain(..old);
            self.latest.retain(|_, time| *time > begin);
        }
    }
}

impl Tally {
    pub(crate) fn new(rails: Rails) -> Self {
        Self { rails, lines: BTreeMap::new() }
    }

    /// Other guard rails, for the same counts.
    pub(crate) fn limit(&mut self, rails: Rails) {
        self.rails = rails;
    }

    /// Counts one operation. The same one is counted once within the window.
    pub(crate) fn add(&mut self, operation: Operation, counted: Counted, at: Timestamp) {
        if !self.rails.counts(operation) || self.has(operation, counted, at) {
            return;
        }
        let window = self.rails.window();
        let line = self.lines.entry(operation.line()).or_default();
        line.forget(at, window);
        line.latest.insert(counted, at);
        let place = line.times.partition_point(|time| *time <= at);
        line.times.insert(place, at);
    }

    /// Whether it is counted already.
    pub(crate) fn has(&self, operation: Operation, counted: Counted, now: Timestamp) -> bool {
        let begin = now.checked_sub(self.rails.window()).unwrap_or(Timestamp::MIN);
        let latest = self.lines.get(&operation.line()).and_then(|line| line.latest.get(&counted).copied());
        latest.is_some_and(|time| time > begin)
    }

    /// What counts now.
    pub(crate) fn counted(&self, operation: Operation, now: Timestamp) -> Vec<Counted> {
        let begin = now.checked_sub(self.rails.window()).unwrap_or(Timestamp::MIN);
        let Some(line) = self.lines.get(&operation.line()) else { return Vec::new() };
        let since = line.latest.iter().filter(|(_, time)| **time > line.since);
        let mut all: Vec<(Timestamp, Counted)> = since.map(|(counted, time)| (*time, *counted)).collect();
        all.sort_unstable();
        let counts = all.into_iter().skip(line.allowance).filter(|(time, _)| *time > begin);
        counts.map(|(_, counted)| counted).collect()
    }

    /// How many count now.
    pub(crate) fn count(&self, operation: Operation, now: Timestamp) -> usize {
        let Some(line) = self.lines.get(&operation.line()) else { return 0 };
        line.times.len() - line.first(now, self.rails.window())
    }

    /// How many would count after so many more.
    pub(crate) fn with(&self, operation: Operation, more: usize, now: Timestamp) -> usize {
        let Some(line) = self.lines.get(&operation.line()) else { return more };
        let released = line.times.partition_point(|time| *time <= line.since);
        let free = line.allowance.saturating_sub(line.times.len() - released);
        self.count(operation, now) + more.saturating_sub(free)
    }

    /// What waited was released: nothing before it counts, and so many go without being counted.
    pub(crate) fn release(&mut self, operation: Operation, at: Timestamp, allowance: usize) {
        let line = self.lines.entry(operation.line()).or_default();
        (line.since, line.allowance) = (at, allowance);
    }
}

/// Why an account is made while an app is filled for the first time, as such a reason begins. It is no surprise, and no
/// guard rail counts it.
pub(crate) const FILLING: &str = "the app is filled for the first time";

/// What an event of PROVISIONING says was done, or was about to be; `was_off` tells whether the account was switched off
/// before.
pub(crate) fn counted(event: &Event, details: Option<&Details>, was_off: bool) -> Vec<(Operation, Counted)> {
    let id = event.resource_id;
    let of = |operation: &str, added: &[ResourceId], removed: &[ResourceId]| match operation {
        "create" if event.why.starts_with(FILLING) => Vec::new(),
        // What no event asked for belongs to no request.
        "create" if event.txn.is_empty() => vec![(Operation::UnaskedCreate, (id, None))],
        "create" => vec![(Operation::Create, (id, None))],
        "deactivate" => vec![(Operation::Deactivate, (id, None))],
        "delete" => vec![(Operation::Delete, (id, None))],
        "update" => match details {
            Some(details) if crate::link::is_off(&details.intended) && !was_off => {
                vec![(Operation::Deactivate, (id, None))]
            }
            Some(_) => vec![(Operation::Update, (id, None))],
            None => Vec::new(),
        },
        "change_members" => {
            let added = added.iter().map(|member| (Operation::Grant, (id, Some(*member))));
            added.chain(removed.iter().map(|member| (Operation::Revoke, (id, Some(*member))))).collect()
        }
        _ => Vec::new(),
    };
    match &event.kind {
        Kind::Intended { operation } => of(operation, &[], &[]),
        Kind::Done { operation, members_added, members_removed, .. } => {
            of(operation, members_added, members_removed)
        }
        Kind::Retrying { .. }
        | Kind::Refused { .. }
        | Kind::Held { .. }
        | Kind::Released { .. }
        | Kind::ScopeEntered
        | Kind::ScopeLeft
        | Kind::Verified
        | Kind::Decided { .. }
        | Kind::PassedOver => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u16) -> ResourceId {
        format!("01890a5d-ac96-774b-bcce-b3020000{number:04x}").parse().unwrap()
    }

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_second(1_900_000_000 + minutes * 60).unwrap()
    }

    #[track_caller]
    fn check(limit: (Option<u64>, Option<u8>), counted: usize, of: usize, expected: bool) {
        let limit = Limit { more_than: limit.0, percent: limit.1 };
        assert_eq!(limit.is_exceeded(counted, of), expected, "{counted} of {of}, {limit}");
    }

    #[test]
    fn both_must_be_exceeded_when_both_are_given() {
        check((Some(50), Some(20)), 50, 60, false);
        check((Some(50), Some(20)), 51, 60, true);
        check((Some(50), Some(20)), 51, 1_000, false);
        check((Some(50), None), 51, 1_000_000, true);
        check((None, Some(20)), 20, 100, false);
        check((None, Some(20)), 21, 100, true);
        check((None, Some(20)), 1, 0, true);
        check((None, None), 1_000_000, 1, false);
    }

    fn leavers(count: u16, minute: i64, tally: &mut Tally) {
        (0..count).for_each(|number| tally.add(Operation::Delete, (id(number), None), at(minute)));
    }

    #[test]
    fn whoever_is_switched_off_and_deleted_counts_once() {
        let mut tally = Tally::new(Rails::default());
        leavers(10, 0, &mut tally);
        leavers(10, 1, &mut tally);
        tally.add(Operation::Deactivate, (id(3), None), at(2));
        tally.add(Operation::Deactivate, (id(30), None), at(2));
        assert_eq!(tally.count(Operation::Delete, at(3)), 11);
        assert_eq!(tally.count(Operation::Deactivate, at(3)), 11);
        assert_eq!(tally.count(Operation::Create, at(3)), 0);
    }

    #[test]
    fn what_has_no_limit_is_not_counted() {
        let mut tally = Tally::new(Rails::default());
        tally.add(Operation::Update, (id(1), None), at(0));
        assert_eq!(tally.count(Operation::Update, at(0)), 0);
    }

    #[test]
    fn the_window_moves_on() {
        let mut tally = Tally::new(Rails::default());
        leavers(5, 0, &mut tally);
        tally.add(Operation::Delete, (id(7), None), at(30));
        assert_eq!(tally.count(Operation::Delete, at(59)), 6);
        assert_eq!(tally.count(Operation::Delete, at(60)), 1);
        // Once more, after the window.
        leavers(5, 70, &mut tally);
        assert_eq!(tally.count(Operation::Delete, at(71)), 6);
        assert_eq!(tally.count(Operation::Delete, at(200)), 0);
    }

    #[test]
    fn a_release_is_for_what_waits_then() {
        let mut tally = Tally::new(Rails::default());
        leavers(19, 0, &mut tally);
        tally.release(Operation::Delete, at(1), 3);
        assert_eq!(tally.count(Operation::Delete, at(1)), 0, "it begins again");
        assert_eq!(tally.with(Operation::Delete, 3, at(1)), 0);
        assert_eq!(tally.with(Operation::Delete, 5, at(1)), 2);
        for number in 20..25 {
            tally.add(Operation::Delete, (id(number), None), at(2));
        }
        assert_eq!(tally.count(Operation::Delete, at(2)), 2, "the rest counts");
        assert_eq!(tally.counted(Operation::Delete, at(2)), [(id(23), None), (id(24), None)]);
        assert_eq!(tally.with(Operation::Delete, 1, at(2)), 3);
        // An hour later the release is not there once more.
        assert_eq!(tally.with(Operation::Delete, 4, at(63)), 4);
    }

    /// Filled again from the log, where the release is not yet known, it says the same.
    #[test]
    fn it_can_be_filled_before_the_release_is_known() {
        let mut tally = Tally::new(Rails::default());
        leavers(19, 0, &mut tally);
        (20..25).for_each(|number| tally.add(Operation::Delete, (id(number), None), at(2)));
        tally.release(Operation::Deactivate, at(1), 3);
        assert_eq!(tally.count(Operation::Delete, at(2)), 2);
    }

    #[test]
    fn what_fills_a_new_app_is_not_counted() {
        let mut event = Event {
            id: "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap(),
            tenant: "corp".parse().unwrap(),
            app: "wiki".to_string(),
            resource_type: "User".to_string(),
            resource_id: id(1),
            txn: String::new(),
            occurred_at: at(0),
            key_ref: None,
            caused_by: 1,
            configuration_hash: String::new(),
            why: String::new(),
            kind: Kind::Intended { operation: "create".to_string() },
        };
        assert_eq!(counted(&event, None, false), [(Operation::UnaskedCreate, (id(1), None))]);
        event.why = format!("{FILLING}; in scope by the filter");
        assert_eq!(counted(&event, None, false), []);
    }

    #[test]
    fn memberships_count_each() {
        let limit = Limit { more_than: Some(2), percent: None };
        let rails = Rails { limits: BTreeMap::from([(Operation::Grant, limit)]), ..Rails::default() };
        let mut tally = Tally::new(rails);
        for member in 0..3 {
            tally.add(Operation::Grant, (id(9), Some(id(member))), at(0));
        }
        assert_eq!(tally.count(Operation::Grant, at(0)), 3);
    }

    #[test]
    fn names_are_read_back() {
        assert!(
            Operation::ALL.into_iter().all(|operation| Operation::named(operation.name()) == Some(operation))
        );
        assert_eq!(serde_json::to_value(Operation::UnaskedCreate).unwrap(), "unasked_create");
    }
}
