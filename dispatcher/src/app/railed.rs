//! What lets an app's calls through, or holds them: the valve as it is now, the guard rails and what they have counted,
//! and who waits because of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use eventlog::clock;
use jiff::Timestamp;
use proto::{Kind, ResourceId};
use serde_json::{Value, json};

use super::due::{Due, Taken};
use super::gates::Gates;
use super::rollout::Rolling;
use super::wanted::{Turn, Wanted, end, wanted};
use crate::config::AppConfig;
use crate::desired::Desired;
use crate::gauges::Railed;
use crate::link::Link;
use crate::plan::Call;
use crate::rails::{Counted, Limit, Operation};
use crate::valve::{self, EXAMPLES_MAX, OURSELVES, Record, Released, Said, Tripped, Valve};
use crate::{Error, Shared};

/// What holds the calls of one app.
pub(crate) struct Railing {
    pub(super) name: String,
    pub(super) hash: String,
    pub(super) config: AppConfig,
    /// Nobody had an account there before: it is filled freely.
    is_new: AtomicBool,
    pub(super) shared: Shared,
    state: Mutex<State>,
    /// Who comes first under a changed configuration.
    pub(super) rolling: Rolling,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) valve: Valve,
    /// What tripped and does not stand in the bucket yet.
    tripping: BTreeMap<Operation, Tripped>,
    waiting: BTreeMap<ResourceId, Waiting>,
    /// Who will leave, as far as events tell before it is planned.
    leaving: BTreeMap<ResourceId, Operation>,
    /// Who caused it.
    authors: BTreeMap<ResourceId, String>,
    /// Passes that were seen.
    passing: BTreeSet<ResourceId>,
    /// Passes that are used up.
    passed: BTreeSet<ResourceId>,
    railed: Railed,
}

/// Why a resource waits.
#[derive(Clone, Copy)]
struct Waiting {
    /// Nothing when the app is only read.
    operation: Option<Operation>,
    /// The last event that it has to answer.
    until: u64,
    asked: bool,
    /// Whether it is this one that would be too many, and not a group that would lose it as a member.
    counts: bool,
}

impl State {
    /// Whether an operation waits because of what tripped before.
    fn holds(&self, operation: Operation, asked: bool) -> bool {
        self.holds_all(asked) || self.valve.tripped.contains_key(&operation)
    }

    /// A configuration that was foreseen to be too much waits as a whole; what events ask for goes on.
    fn holds_all(&self, asked: bool) -> bool {
        !asked && self.valve.tripped.values().any(|tripped| tripped.foreseen)
    }

    /// The value as it stands in the bucket, and what does not stand there yet.
    pub(super) fn set(&mut self, mut valve: Valve) {
        for (operation, tripped) in &self.tripping {
            valve.trip(*operation, tripped.clone());
        }
        self.valve = valve;
    }

    /// Holds an operation at once, before it is written down.
    pub(super) fn hold(&mut self, operation: Operation, tripped: &Tripped) {
        self.valve.trip(operation, tripped.clone());
        self.tripping.insert(operation, tripped.clone());
    }

    /// Everybody who waits because of an operation.
    fn waiting_for(&self, operation: Operation) -> Vec<ResourceId> {
        let waits = |waiting: &Waiting| waiting.operation == Some(operation) && waiting.counts;
        self.waiting.iter().filter(|(_, waiting)| waits(waiting)).map(|(id, _)| *id).collect()
    }
}

impl Railing {
    pub(crate) fn new(name: &str, config: &AppConfig, shared: &Shared) -> Self {
        let (name, hash) = (name.to_string(), config.hash());
        let state = Mutex::new(State { railed: Railed::new(&name), ..State::default() });
        let (is_new, rolling) = (AtomicBool::default(), Rolling::default());
        Self { name, hash, config: config.clone(), is_new, shared: shared.clone(), state, rolling }
    }

    /// An app that was never filled to its end: whether it goes on being filled freely. With another configuration than it
    /// was begun with it does not, however short a time that was.
    pub(crate) async fn is_new(&self) -> Result<bool, Error> {
        let begun = self.state().valve.filling.clone();
        let is_new = match &begun {
            Some(hash) => *hash == self.hash,
            None => self.shared.links.linked(&self.name) == 0,
        };
        if is_new && begun.is_none() {
            let change = |valve: &mut Valve| {
                valve.filling = Some(self.hash.clone());
                Ok(())
            };
            if let Ok((valve, ())) = valve::change(&*self.shared.broker.leases, &self.name, change).await? {
                self.state().set(valve);
            }
        }
        self.is_new.store(is_new, Ordering::Relaxed);
        Ok(is_new)
    }

    /// Whether accounts that no event asks for are made freely, because the app is filled for the first time.
    pub(crate) fn is_filled_freely(&self) -> bool {
        self.is_new.load(Ordering::Relaxed)
    }

    /// Everything was planned once: what no event asks for is a surprise from now on.
    pub(crate) fn is_filled(&self) {
        self.is_new.store(false, Ordering::Relaxed);
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why nothing is called, if nothing is.
    pub(crate) fn stopped(&self) -> Option<String> {
        let paused = self.state().valve.paused.clone()?;
        let why = if paused.why.is_empty() { String::new() } else { format!(": {}", paused.why) };
        Some(format!("paused by {}{why}", paused.by))
    }

    /// Everything is planned, nothing is called.
    pub(crate) fn is_read_only(&self) -> bool {
        self.config.read_only
    }

    /// Whose turn it is; of a paused app only of those who pass.
    pub(crate) fn take(&self, due: &mut Due, gates: &mut Gates) -> Option<(ResourceId, Taken)> {
        let passing = {
            let state = self.state();
            if state.valve.paused.is_none() {
                return gates.next(due);
            }
            // Nobody's account is surely his own at an address that nobody has vouched for.
            if state.valve.question().is_some() {
                return None;
            }
            state.valve.passes.keys().copied().collect::<Vec<_>>()
        };
        passing.into_iter().find_map(|id| due.take_this(id))
    }

    /// What waits, for whoever asks.
    pub(crate) fn waits_for(&self) -> Option<String> {
        let rolling = self.rolling.waits_for();
        let state = self.state();
        if self.is_read_only() {
            let count = state.waiting.len();
            return (count > 0).then(|| format!("nothing is called (read_only): {count} would change"));
        }
        let tripped: Vec<String> = state
            .valve
            .tripped
            .keys()
            .map(|operation| format!("{operation} ({})", state.waiting_for(*operation).len()))
            .collect();
        if tripped.is_empty() {
            return rolling;
        }
        Some(format!("a person must release: {}", tripped.join(", ")))
    }

    /// An event says that somebody leaves, and who caused it.
    pub(crate) fn leaves(&self, id: ResourceId, kind: &Kind, author: String) {
        let operation = match kind {
            Kind::Deleted | Kind::TenantDropped => end(self.config.on_delete),
            Kind::Created { .. }
            | Kind::Updated { .. }
            | Kind::MembersChanged { .. }
            | Kind::Moved { .. }
            | Kind::Claimed { .. }
            | Kind::Released { .. }
            | Kind::CredentialsChanged
            | Kind::Erased
            | Kind::PassedOver => Operation::Deactivate,
        };
        if self.shared.links.remote_id(&self.name, id).is_some() {
            let mut state = self.state();
            state.leaving.insert(id, operation);
            state.authors.insert(id, author);
        }
    }

    /// It is planned anew, and may wait no more.
    pub(crate) fn forget(&self, id: ResourceId) {
        self.state().waiting.remove(&id);
    }

    /// It is as it should be.
    pub(crate) fn settled(&self, id: ResourceId) {
        self.rolling.settled(id);
        let mut state = self.state();
        state.leaving.remove(&id);
        state.authors.remove(&id);
        // Whoever is gone needs no pass any more.
        if state.valve.passes.contains_key(&id) && self.shared.links.remote_id(&self.name, id).is_none() {
            state.passed.insert(id);
        }
    }

    /// It waits because nothing may be called.
    pub(crate) fn wait(&self, turn: Turn) {
        let waiting = Waiting { operation: None, until: turn.until, asked: turn.asked, counts: true };
        self.state().waiting.insert(turn.id, waiting);
    }

    /// Whether a call may be made. One that may is counted.
    pub(crate) async fn admits(&self, turn: Turn, link: &Link, call: &Call) -> Result<bool, Error> {
        if self.is_read_only() {
            self.wait(turn);
            return Ok(false);
        }
        if !self.rolling.admits(turn) && !self.state().valve.passes.contains_key(&turn.id) {
            return Ok(false);
        }
        match wanted(turn, link, call) {
            Some(wanted) => self.ask(turn, turn.id, wanted).await,
            None => Ok(true),
        }
    }

    /// Members whose account will end, but not yet, stay in their group; so does whoever would be one membership too many.
    pub(crate) async fn keep(&self, turn: Turn, link: &Link, desired: &mut Desired) -> Result<(), Error> {
        if self.is_read_only() || !self.rolling.lets(turn) {
            return Ok(());
        }
        let leaving: Vec<ResourceId> = link.members.difference(&desired.members).copied().collect();
        for member in leaving {
            if self.shared.links.remote_id(&self.name, member).is_none() {
                continue;
            }
            let (projection, tenant) = (&self.shared.projection, &self.config.tenant);
            let wanted = if projection.type_of(tenant, member).is_none() {
                Wanted { operation: end(self.config.on_delete), counted: vec![(member, None)] }
            } else if projection.has_member(tenant, turn.id, member) {
                Wanted { operation: end(self.config.on_leave), counted: vec![(member, None)] }
            } else {
                Wanted { operation: Operation::Revoke, counted: vec![(turn.id, Some(member))] }
            };
            if !self.ask(turn, member, wanted).await? {
                desired.members.insert(member);
            }
        }
        Ok(())
    }

    /// Asks for one; `whose` passes if that person does.
    async fn ask(&self, turn: Turn, whose: ResourceId, wanted: Wanted) -> Result<bool, Error> {
        let operation = wanted.operation;
        let tripped = {
            let mut state = self.state();
            if state.valve.passes.contains_key(&whose) {
                return Ok(true);
            }
            let (until, asked, counts) = (turn.until, turn.asked, whose == turn.id);
            let waiting = Waiting { operation: Some(operation), until, asked, counts };
            // Whoever was counted and left the groups already must not stay half gone.
            let goes_on = !state.holds_all(turn.asked) && self.is_counted(&wanted);
            if state.holds(operation, turn.asked) && !goes_on {
                state.waiting.insert(turn.id, waiting);
                return Ok(false);
            }
            let Some(tripped) = self.count(&state, &wanted) else { return Ok(true) };
            state.waiting.insert(turn.id, waiting);
            state.hold(operation, &tripped);
            tripped
        };
        self.trip(operation, tripped).await?;
        Ok(false)
    }

    fn is_counted(&self, Wanted { operation, counted }: &Wanted) -> bool {
        let now = clock::now();
        self.shared
            .links
            .tally(&self.name, |tally| counted.iter().all(|one| tally.has(*operation, *one, now)))
    }

    /// Counts what is about to be done; says so when it would be too much, and then it is not counted.
    fn count(&self, state: &State, wanted: &Wanted) -> Option<Tripped> {
        let (operation, now) = (wanted.operation, clock::now());
        if operation == Operation::UnaskedCreate && self.is_filled_freely() {
            return None;
        }
        let counted =
            |more: usize| self.shared.links.tally(&self.name, |tally| tally.with(operation, more, now));
        let is_new =
            |one: &&Counted| !self.shared.links.tally(&self.name, |tally| tally.has(operation, **one, now));
        let mut new: BTreeSet<Counted> = wanted.counted.iter().filter(is_new).copied().collect();
        if let Some(limit) = self.config.guard.limit(operation)
            && !new.is_empty()
        {
            if operation.counted_together().any(|together| together == Operation::Delete) {
                // Whoever is known to leave counts before it is planned, so that of many none goes first.
                let leaving: Vec<Counted> = state.leaving.keys().map(|id| (*id, None)).collect();
                new.extend(leaving.iter().filter(is_new));
            }
            let counted = counted(new.len());
            if let Some(tripped) = self.exceeds(operation, limit, counted, now) {
                return Some(tripped);
            }
        }
        self.shared.links.tally(&self.name, |tally| {
            wanted.counted.iter().for_each(|one| tally.add(operation, *one, now));
        });
        None
    }

    pub(super) fn exceeds(
        &self,
        operation: Operation,
        limit: Limit,
        counted: usize,
        now: Timestamp,
    ) -> Option<Tripped> {
        // What cannot be exceeded whatever there is need not be counted.
        if !limit.is_exceeded(counted, 0) {
            return None;
        }
        let of = self.accounts(operation, now);
        if operation == Operation::UnaskedCreate && (self.is_filled_freely() || of == 0) {
            return None;
        }
        limit.is_exceeded(counted, of).then(|| Tripped {
            at: now,
            counted,
            of,
            limit,
            configuration_hash: self.hash.clone(),
            foreseen: false,
            waiting: 0,
            examples: Vec::new(),
            authors: BTreeSet::new(),
        })
    }

    /// How many accounts there were before what counts now.
    fn accounts(&self, operation: Operation, now: Timestamp) -> usize {
        let links = &self.shared.links;
        let linked = links.linked(&self.name);
        let counted = |operation| links.tally(&self.name, |tally| tally.counted(operation, now));
        let has = |(id, _): &Counted| links.remote_id(&self.name, *id).is_some();
        match operation {
            Operation::Create | Operation::UnaskedCreate => {
                linked.saturating_sub(counted(operation).iter().filter(|one| has(one)).count())
            }
            Operation::Update
            | Operation::Grant
            | Operation::Revoke
            | Operation::Deactivate
            | Operation::Delete => linked + counted(Operation::Delete).iter().filter(|one| !has(one)).count(),
        }
    }

    /// Writes down that a guard rail holds an operation. Here it does already, so nothing goes on meanwhile.
    pub(super) async fn trip(&self, operation: Operation, tripped: Tripped) -> Result<(), Error> {
        let (counted, of, limit) = (tripped.counted, tripped.of, tripped.limit);
        tracing::error!(app = self.name, %operation, counted, of, %limit, "a guard rail holds this operation until a person releases it");
        metrics::counter!("rollcall_app_tripped_total", "app" => self.name.clone(), "operation" => operation.name()).increment(1);
        let detail = json!({"operation": operation.name(), "counted": counted, "of": of, "limit": limit, "foreseen": tripped.foreseen});
        self.record("trip", &limit.to_string(), detail).await?;
        let change = |valve: &mut Valve| Ok(valve.trip(operation, tripped.clone()));
        let changed = valve::change(&*self.shared.broker.leases, &self.name, change).await?;
        let mut state = self.state();
        state.tripping.remove(&operation);
        if let Ok((valve, _)) = changed {
            state.set(valve);
        }
        Ok(())
    }

    pub(super) async fn record(&self, operation: &str, why: &str, detail: Value) -> Result<(), Error> {
        let (tenant, app) = (&self.config.tenant, self.name.as_str());
        let record = Record { tenant, app, actor: OURSELVES, why, operation, detail };
        Ok(valve::record(&self.shared.broker, record).await?)
    }

    /// Reads the valve again, tells there who waits, and names those that need not wait any more, each with the last event
    /// that it has to answer, if it has one. A value that cannot be read stops the app: nobody knows what was stopped.
    pub(crate) async fn look(&self) -> Result<Vec<(ResourceId, Option<u64>)>, Error> {
        let valve = match valve::load(&*self.shared.broker.leases, &self.name).await {
            Ok(valve) => valve,
            Err(error) if error.is_retryable() => return Err(error.into()),
            Err(error) => {
                let paused = Some(Said::now(OURSELVES, &error.to_string()));
                let Valve { tripped, rollout, .. } = self.state().valve.clone();
                Valve { paused, tripped, rollout, ..Valve::default() }
            }
        };
        self.release(&valve);
        let freed = {
            let mut state = self.state();
            state.set(valve);
            let read_only = self.is_read_only();
            let is_free = |id: &ResourceId, waiting: &Waiting| {
                let held = waiting.operation.is_some_and(|operation| state.holds(operation, waiting.asked));
                !read_only && (!held || state.valve.passes.contains_key(id))
            };
            let mut freed: Vec<(ResourceId, Option<u64>)> = state
                .waiting
                .iter()
                .filter(|(id, waiting)| is_free(id, waiting))
                .map(|(id, waiting)| (*id, Some(waiting.until)))
                .collect();
            for (id, _) in &freed {
                state.waiting.remove(id);
            }
            let passes: BTreeSet<ResourceId> = state.valve.passes.keys().copied().collect();
            freed.extend(passes.difference(&state.passing).map(|id| (*id, None)));
            state.passing = passes;
            freed
        };
        self.publish().await?;
        Ok(freed)
    }

    /// What was released counts no more.
    fn release(&self, valve: &Valve) {
        for (operation, released) in &valve.released {
            let at = released.said.at;
            let together: Vec<&Released> =
                operation.counted_together().filter_map(|operation| valve.released.get(&operation)).collect();
            let latest = together.iter().map(|one| one.said.at).max().unwrap_or(at);
            if at == latest {
                let allowance =
                    together.iter().filter(|one| one.said.at == latest).map(|one| one.allowance).sum();
                self.shared.links.tally(&self.name, |tally| tally.release(*operation, at, allowance));
            }
        }
    }

    /// Who waits, where everybody can read it.
    async fn publish(&self) -> Result<(), Error> {
        let wanted = {
            let mut state = self.state();
            let mut wanted = state.valve.tripped.clone();
            let mut counts = BTreeMap::new();
            for (operation, tripped) in &mut wanted {
                let mut waiting: BTreeSet<ResourceId> = state.waiting_for(*operation).into_iter().collect();
                waiting.extend(
                    state.leaving.iter().filter(|(_, leaves)| *leaves == operation).map(|(id, _)| *id),
                );
                let count = waiting.len();
                counts.insert(*operation, count);
                if count > tripped.waiting || !tripped.foreseen {
                    tripped.waiting = count;
                    tripped.examples = waiting.iter().take(EXAMPLES_MAX).copied().collect();
                    tripped.caused_by(waiting.iter().filter_map(|id| state.authors.get(id)));
                }
            }
            state.railed.tell(counts);
            (wanted != state.valve.tripped).then_some(wanted)
        };
        let passed = std::mem::take(&mut self.state().passed);
        if wanted.is_none() && passed.is_empty() {
            return Ok(());
        }
        let wanted = wanted.unwrap_or_default();
        let change = |valve: &mut Valve| {
            valve.passes.retain(|id, _| !passed.contains(id));
            for (operation, tripped) in &mut valve.tripped {
                if let Some(wanted) = wanted.get(operation).filter(|wanted| wanted.at == tripped.at) {
                    *tripped = wanted.clone();
                }
            }
            Ok(())
        };
        if let Ok((valve, ())) = valve::change(&*self.shared.broker.leases, &self.name, change).await? {
            self.state().set(valve);
        }
        Ok(())
    }
}
