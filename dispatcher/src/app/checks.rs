//! What a worker, its performers and its reconciliation tell each other: who is to be read, since when access should have
//! ended, and what was found.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use eventlog::clock;
use jiff::{SignedDuration, Timestamp};
use proto::ResourceId;
use serde::{Deserialize, Serialize};

/// As many of each kind of finding are named; all are counted.
pub(crate) const NAMED_MAX: usize = 100;
/// As many accounts are remembered whose app does not keep what it is told.
const NOT_KEPT_MAX: usize = 1_000;

/// When so many calls are known to have been answered, those of longer ago are forgotten: nobody waits for them any more.
const ANSWERED_MAX: usize = 10_000;
const ANSWERED_FOR: SignedDuration = SignedDuration::from_mins(15);

/// Why an account is to be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Check {
    /// A complete list did not show it: when the app says 404 too, it is gone.
    pub(crate) was_not_listed: bool,
    /// It was just written again because of these: what differs still is not kept by the app.
    pub(crate) reverted: Option<BTreeSet<String>>,
    /// A call that nobody heard of may have been carried out after others: letters count that otherwise do not.
    pub(crate) is_after_unheard: bool,
}

/// What a reconciliation found, named and counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Findings {
    /// Accounts that the app listed, by type.
    pub listed: BTreeMap<String, u64>,
    /// Accounts that were read one by one.
    pub read: u64,
    /// Accounts whose attributes were otherwise than intended.
    pub drifted: u64,
    /// Accounts that are missing at the app.
    pub missing: u64,
    /// Members that nobody gave.
    pub members_too_many: u64,
    /// Members that are missing.
    pub members_too_few: u64,
    /// Accounts that could not be read.
    pub unreadable: u64,
    /// Accounts that nobody of ours owns.
    pub strangers: u64,
    /// The first strangers, by the app's ids.
    pub first_strangers: Vec<Stranger>,
    /// The first accounts of ours that were otherwise, and the attributes in which they were.
    pub first_drifted: Vec<Drifted>,
    /// Accounts whose app showed the same again after it was told otherwise; it is not told again while the same is intended.
    pub not_kept: Vec<Drifted>,
}

/// An account that nobody of ours owns.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Stranger {
    /// The resource type's name.
    pub resource_type: String,
    /// The app's id.
    pub remote_id: String,
    /// Ours that it says it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claims: Option<ResourceId>,
}

/// An account of ours that is otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Drifted {
    /// Our resource.
    pub id: ResourceId,
    /// The attributes' names, or `members`.
    pub paths: BTreeSet<String>,
    /// Hash of what was intended.
    pub intended: String,
}

/// Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Checks(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    wanted: BTreeMap<ResourceId, Check>,
    /// Those on their way to the worker, who will want them to be read.
    suspected: usize,
    /// Since when access should have ended: the first event that says so, and its time.
    ending: BTreeMap<ResourceId, (u64, Timestamp)>,
    findings: Findings,
    not_kept: BTreeMap<ResourceId, Drifted>,
    /// Calls that were answered, by the time at which they were about to be made, although what they did is not known.
    answered: BTreeSet<(ResourceId, Timestamp)>,
    /// Accounts that were read again after a call that nobody heard of, by its time.
    read_again: BTreeMap<ResourceId, Timestamp>,
    /// The app can be asked: nothing else must be done first.
    ready: bool,
    full_wanted: bool,
}

impl Checks {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Access should end, because of this event. Of several the first counts, however late we hear of it.
    pub(crate) fn ends(&self, id: ResourceId, sequence: u64, time: Timestamp) {
        let mut inner = self.inner();
        let (first, since) = inner.ending.entry(id).or_insert((sequence, time));
        (*first, *since) = ((*first).min(sequence), (*since).min(time));
    }

    /// Access was seen to have ended.
    pub(crate) fn verified(&self, app: &str, id: ResourceId) {
        let Some((_, since)) = self.inner().ending.remove(&id) else { return };
        let waited = clock::now().duration_since(since).as_secs_f64().max(0.0);
        metrics::histogram!("rollcall_app_access_ended_seconds", "app" => app.to_string()).record(waited);
    }

    /// A resource waits for a person. So does access that should have ended.
    pub(crate) fn hold(&self, id: ResourceId) {
        self.inner().wanted.remove(&id);
    }

    /// Nothing is left to do for a resource, up to this event. It may wait for another turn.
    pub(crate) fn finish(&self, id: ResourceId, until: u64, waits: bool) {
        let mut inner = self.inner();
        if !waits {
            inner.wanted.remove(&id);
        }
        if inner.ending.get(&id).is_some_and(|(sequence, _)| *sequence <= until) {
            inner.ending.remove(&id);
        }
    }

    /// The app answered the call that was about to be made then.
    pub(crate) fn answered(&self, id: ResourceId, call: Timestamp) {
        let mut inner = self.inner();
        if inner.answered.len() >= ANSWERED_MAX
            && let Ok(oldest) = call.checked_sub(ANSWERED_FOR)
        {
            inner.answered.retain(|(_, call)| *call >= oldest);
        }
        inner.answered.insert((id, call));
    }

    pub(crate) fn is_answered(&self, id: ResourceId, call: Timestamp) -> bool {
        self.inner().answered.contains(&(id, call))
    }

    /// Wants an account to be read once after a call that nobody heard of.
    pub(crate) fn read_again(&self, id: ResourceId, call: Timestamp) {
        let mut inner = self.inner();
        if inner.read_again.insert(id, call) != Some(call) {
            inner.wanted.entry(id).or_default().is_after_unheard = true;
        }
    }

    /// Whether an account is to be read, and why.
    pub(crate) fn wanted(&self, id: ResourceId) -> Option<Check> {
        self.inner().wanted.get(&id).cloned()
    }

    /// Whether a list did not show an account, so that making it anew is what no event asks for.
    pub(crate) fn is_lost(&self, id: ResourceId) -> bool {
        self.inner().wanted.get(&id).is_some_and(|check| check.was_not_listed)
    }

    pub(crate) fn want(&self, id: ResourceId, check: Check) {
        self.inner().wanted.insert(id, check);
    }

    /// Somebody is on his way to the worker.
    pub(crate) fn suspect(&self) {
        self.inner().suspected += 1;
    }

    /// The worker marked somebody who was on his way.
    pub(crate) fn suspected(&self, id: ResourceId, check: Check) {
        let mut inner = self.inner();
        inner.suspected = inner.suspected.saturating_sub(1);
        inner.wanted.insert(id, check);
    }

    pub(crate) fn is_idle(&self) -> bool {
        let inner = self.inner();
        inner.wanted.is_empty() && inner.suspected == 0
    }

    /// An account was read; what came of it is counted.
    pub(crate) fn was_read(&self, id: ResourceId, count: impl FnOnce(&mut Findings)) {
        let mut inner = self.inner();
        inner.wanted.remove(&id);
        inner.findings.read += 1;
        count(&mut inner.findings);
    }

    pub(crate) fn count(&self, count: impl FnOnce(&mut Findings)) {
        count(&mut self.inner().findings);
    }

    /// The attributes that an app is known not to keep, while this is intended.
    pub(crate) fn not_kept(&self, id: ResourceId, intended: &str) -> BTreeSet<String> {
        let inner = self.inner();
        let known = inner.not_kept.get(&id).filter(|known| known.intended == intended);
        known.map(|known| known.paths.clone()).unwrap_or_default()
    }

    pub(crate) fn keeps_not(&self, drifted: Drifted) {
        let mut inner = self.inner();
        if inner.not_kept.len() < NOT_KEPT_MAX || inner.not_kept.contains_key(&drifted.id) {
            inner.not_kept.insert(drifted.id, drifted);
        }
    }

    /// Begins to count anew, knowing what was not kept before.
    pub(crate) fn begin(&self, not_kept: &[Drifted]) {
        let mut inner = self.inner();
        // What was on its way when a worker lost its app is there no more.
        (inner.findings, inner.suspected) = (Findings::default(), 0);
        inner.wanted.clear();
        for drifted in not_kept.iter().take(NOT_KEPT_MAX) {
            inner.not_kept.entry(drifted.id).or_insert_with(|| drifted.clone());
        }
    }

    pub(crate) fn findings(&self) -> Findings {
        let inner = self.inner();
        Findings { not_kept: inner.not_kept.values().cloned().collect(), ..inner.findings.clone() }
    }

    pub(crate) fn set_ready(&self, ready: bool) {
        self.inner().ready = ready;
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.inner().ready
    }

    /// Something was seen that only a whole reconciliation can tell.
    pub(crate) fn want_full(&self) {
        self.inner().full_wanted = true;
    }

    pub(crate) fn take_full(&self) -> bool {
        std::mem::take(&mut self.inner().full_wanted)
    }
}

impl Findings {
    /// Names an account of ours, if there is room.
    pub(crate) fn name(&mut self, drifted: Drifted) {
        if self.first_drifted.len() < NAMED_MAX {
            self.first_drifted.push(drifted);
        }
    }

    /// Whether everything was as it should be.
    pub fn is_clean(&self) -> bool {
        self.drifted + self.missing + self.members_too_many + self.members_too_few + self.strangers == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> ResourceId {
        format!("01890a5d-ac96-774b-bcce-b302099a80{number:02x}").parse().unwrap()
    }

    #[test]
    fn the_time_of_an_ending_outlives_work_that_began_before_it() {
        let checks = Checks::default();
        checks.ends(id(1), 7, Timestamp::MAX);
        checks.ends(id(1), 5, Timestamp::UNIX_EPOCH);
        checks.ends(id(1), 7, Timestamp::MAX);
        assert_eq!(checks.inner().ending.get(&id(1)), Some(&(5, Timestamp::UNIX_EPOCH)));
        checks.finish(id(1), 4, false);
        assert!(checks.inner().ending.contains_key(&id(1)));
        checks.finish(id(1), 5, false);
        assert!(checks.inner().ending.is_empty());
    }

    #[test]
    fn after_a_call_that_nobody_heard_an_account_is_read_once_and_to_the_letter() {
        let (checks, call) = (Checks::default(), Timestamp::UNIX_EPOCH);
        checks.read_again(id(1), call);
        let check = checks.wanted(id(1)).unwrap();
        assert!(check.is_after_unheard && check.reverted.is_none());
        checks.was_read(id(1), |_| {});
        checks.read_again(id(1), call);
        assert_eq!(checks.wanted(id(1)), None);
        checks.want(id(1), Check::default());
        assert!(!checks.wanted(id(1)).unwrap().is_after_unheard);
    }

    #[test]
    fn whoever_is_suspected_while_he_is_worked_on_is_read_at_the_next_turn() {
        let checks = Checks::default();
        checks.suspect();
        checks.finish(id(1), 5, false);
        assert!(!checks.is_idle(), "on the way");
        checks.suspected(id(1), Check::default());
        checks.finish(id(1), 5, true);
        assert!(checks.wanted(id(1)).is_some() && !checks.is_idle());
        checks.finish(id(1), 5, false);
        assert!(checks.is_idle());
    }

    #[test]
    fn what_an_app_does_not_keep_is_known_while_the_same_is_intended() {
        let checks = Checks::default();
        let paths: BTreeSet<String> = ["title".to_string()].into();
        let drifted = Drifted { id: id(1), paths: paths.clone(), intended: "a".to_string() };
        checks.begin(std::slice::from_ref(&drifted));
        assert_eq!(checks.not_kept(id(1), "a"), paths);
        assert_eq!(checks.not_kept(id(1), "b"), BTreeSet::new());
        assert_eq!(checks.findings().not_kept, [drifted]);
    }
}
