//! Who is let through while a changed configuration is rolled out, and what becomes of the rollout.
//!
//! How far it is stands in the valve, so a restart or another dispatcher goes on with it; who is affected is planned again
//! at every start. What an event asks for is never asked about here.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use eventlog::clock;
use proto::ResourceId;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::author::author;
use super::foresee::Foreseen;
use super::railed::Railing;
use super::wanted::Turn;
use crate::Error;
use crate::links::Links;
use crate::plan::Plan;
use crate::rollout::{Failed, LAST, Rank, Rollout, Seen, Step, rank};
use crate::valve::{self, Valve};
use crate::watermark::Found;

/// How often it is written down how many are done.
const TELL_INTERVAL: Duration = Duration::from_secs(2);
/// Why an app that shows something else than it was told is not trusted with more.
pub(super) const BELIED: &str = "the app said that it was done, and it is not";

/// Whom a configuration affects, in the order in which it reaches them.
pub(super) struct Affected {
    configuration_hash: String,
    all: BTreeSet<(Rank, ResourceId)>,
    late: BTreeSet<ResourceId>,
    /// Those who are held under this configuration already.
    held: BTreeSet<(Rank, ResourceId)>,
}

impl Affected {
    pub(super) fn new(configuration_hash: &str) -> Self {
        let (all, late, held) = Default::default();
        Self { configuration_hash: configuration_hash.to_string(), all, late, held }
    }

    pub(super) fn note(&mut self, id: ResourceId, foreseen: &Foreseen) {
        let place = (rank(&self.configuration_hash, id), id);
        match &foreseen.plan {
            Plan::Settled { .. } => {}
            Plan::Held => drop(self.held.insert(place)),
            Plan::ReadBack | Plan::Call { .. } | Plan::Later { .. } | Plan::Hold { .. } => {
                // Whoever was held before will be again: that says nothing about the configuration.
                let is_late = foreseen.link.held.is_some();
                if is_late {
                    self.late.insert(id);
                }
                self.all.insert(if is_late { (LAST, id) } else { place });
            }
        }
    }
}

/// Events that the configuration before may have answered: read once more, they change nothing about whose turn it is.
pub(super) struct Known<'a> {
    links: &'a Links,
    app: &'a str,
    /// The last of them while a rollout goes on.
    rolls_until: Option<u64>,
    /// The last of them otherwise.
    known_until: u64,
}

impl Known<'_> {
    /// Whether one of the events from this sequence on may be among them.
    pub(super) fn may_cover(&self, sequence: u64) -> bool {
        sequence <= self.rolls_until.unwrap_or(self.known_until)
    }

    /// Whether somebody comes by himself. Whoever loses access waits for nobody, and in a rollout neither does whoever has
    /// no account yet.
    pub(super) fn covers(&self, id: ResourceId, sequence: u64, urgent: bool) -> bool {
        match self.rolls_until {
            _ if urgent => false,
            Some(until) => sequence <= until && self.links.remote_id(self.app, id).is_some(),
            None => sequence <= self.known_until,
        }
    }
}

/// A rollout, as whoever works for the app sees it.
#[derive(Default)]
pub(super) struct Rolling(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    rollout: Option<Rollout>,
    /// The last event that was known when another configuration came into force.
    known_until: u64,
    /// The configuration that the watermark names, when another one is to be carried out by stages.
    before: Option<String>,
    pending: BTreeSet<(Rank, ResourceId)>,
    /// Those of whom the work was refused.
    waiting: BTreeSet<(Rank, ResourceId)>,
    late: BTreeSet<ResourceId>,
    /// Those that turned out to be affected, and are not counted yet.
    more: usize,
    failed: Option<Failed>,
    told_at: Option<Instant>,
}

impl Inner {
    fn rank(&self, id: ResourceId) -> Option<Rank> {
        let hash = &self.rollout.as_ref()?.configuration_hash;
        Some(if self.late.contains(&id) { LAST } else { rank(hash, id) })
    }

    fn lets_through(&self, rank: Rank) -> bool {
        let lets = |rollout: &Rollout| self.failed.is_none() && rollout.lets_through(rank);
        self.rollout.as_ref().is_none_or(lets)
    }

    fn seen(&self) -> Seen {
        Seen {
            first: self.pending.first().map(|(rank, _)| *rank),
            left: self.pending.len(),
            more: self.more,
            failed: self.failed.clone(),
        }
    }

    /// Those who may be worked on by now.
    fn freed(&mut self) -> Vec<ResourceId> {
        let mut freed = Vec::new();
        while let Some((rank, id)) =
            self.waiting.first().copied().filter(|(rank, _)| self.lets_through(*rank))
        {
            self.waiting.remove(&(rank, id));
            freed.push(id);
        }
        freed
    }
}

impl Rolling {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody may be worked on; whoever may not waits.
    pub(super) fn admits(&self, turn: Turn) -> bool {
        let mut inner = self.inner();
        let Some(rank) = inner.rank(turn.id).filter(|_| !turn.asked) else { return true };
        if inner.pending.insert((rank, turn.id)) {
            inner.more += 1;
        }
        let is_let = inner.lets_through(rank);
        if !is_let {
            inner.waiting.insert((rank, turn.id));
        }
        is_let
    }

    /// Whether it would be let through.
    pub(super) fn lets(&self, turn: Turn) -> bool {
        let inner = self.inner();
        turn.asked || inner.rank(turn.id).is_none_or(|rank| inner.lets_through(rank))
    }

    /// Whether others wait for what comes of this one, so that it is read when it is done.
    pub(super) fn is_tried(&self, turn: Turn) -> bool {
        let inner = self.inner();
        !turn.asked && inner.rollout.as_ref().is_some_and(|rollout| !rollout.is_last())
    }

    /// Somebody whom the configuration affects was refused, held or belied: nobody goes on who was not asked for.
    pub(super) fn fails(&self, id: ResourceId, why: &str) {
        let mut inner = self.inner();
        let Some(rank) = inner.rank(id) else { return };
        let is_open = |rollout: &Rollout| !rollout.is_last() && !rollout.accepted.contains(why);
        if inner.failed.is_none()
            && inner.pending.contains(&(rank, id))
            && inner.rollout.as_ref().is_some_and(is_open)
        {
            inner.failed = Some(Failed { at: clock::now(), id, why: why.to_string() });
        }
    }

    /// Nothing is left to do for it.
    pub(super) fn settled(&self, id: ResourceId) {
        let mut inner = self.inner();
        if let Some(rank) = inner.rank(id) {
            inner.pending.remove(&(rank, id));
            inner.waiting.remove(&(rank, id));
        }
    }

    /// What waits, for whoever asks.
    pub(super) fn waits_for(&self) -> Option<String> {
        let inner = self.inner();
        let rollout = inner.rollout.as_ref()?;
        if let Some(failed) = inner.failed.as_ref().or(rollout.stopped.as_ref()) {
            return Some(format!("a person must release: the rollout of the configuration ({})", failed.why));
        }
        let (stage, stages, left) = (rollout.stage, rollout.stages.len(), inner.pending.len());
        Some(format!("the configuration is rolled out: stage {stage} of {stages}, {left} wait"))
    }
}

impl Railing {
    /// Another configuration comes into force: events until now are read once more, and the one before may have answered
    /// them.
    pub(super) fn comes_after(&self, found: &Found, applied: u64) {
        let Found::Trusted(watermark) = found else { return };
        let mut inner = self.rolling.inner();
        inner.known_until = applied;
        if self.config.rollout.is_some() {
            inner.before = Some(watermark.configuration_hash.clone());
        }
    }

    /// A whole configuration, before its first call: those whom it affects have their turns by stages, if it is configured
    /// so. One that was carried out as a whole before comes back at once.
    pub(super) async fn roll_out(&self, affected: Affected) -> Result<(), Error> {
        let known = self.state().valve.rollout.clone();
        let before = self.rolling.inner().before.take();
        let Affected { mut all, late, held, .. } = affected;
        let begun = match (&self.config.rollout, before, known) {
            (Some(_), _, Some(known)) if known.configuration_hash == self.hash => {
                // Held since it began, and perhaps not yet taken notice of.
                all.extend(held);
                Some(known)
            }
            (Some(config), Some(before), known) => {
                let interrupted = known.map(|known| known.before).filter(|_| before.is_empty());
                let before = interrupted.unwrap_or(before);
                let rollout = Rollout::begin(&self.hash, &before, config, &all, clock::now());
                let known_until = self.shared.projection.applied();
                let mut rollout =
                    rollout.filter(|_| before != self.hash).map(|one| Rollout { known_until, ..one });
                if let Some(rollout) = &mut rollout {
                    rollout.author = author(&self.shared, &self.name, &self.hash).await?;
                }
                if let Some(rollout) = &rollout {
                    self.tell("rollout", "the configuration is another", rollout, Value::Null).await?;
                    tracing::info!(
                        app = self.name,
                        of = rollout.of,
                        stages = rollout.stages.len(),
                        "the configuration is rolled out by stages"
                    );
                }
                rollout
            }
            (_, _, _) => None,
        };
        let Some(begun) = begun else { return self.end_rollout().await };
        let change = |valve: &mut Valve| {
            valve.rollout = Some(begun.clone());
            Ok(())
        };
        if let Ok((valve, ())) = valve::change(&*self.shared.broker.leases, &self.name, change).await? {
            self.state().set(valve);
        }
        let mut inner = self.rolling.inner();
        let known_until = inner.known_until;
        *inner = Inner { rollout: Some(begun), known_until, pending: all, late, ..Inner::default() };
        Ok(())
    }

    /// No configuration is rolled out: the one that was is in force as a whole, or is not to be carried out any more.
    pub(super) async fn end_rollout(&self) -> Result<(), Error> {
        let Some(known) = self.state().valve.rollout.clone() else { return Ok(()) };
        {
            let mut inner = self.rolling.inner();
            *inner = Inner { known_until: inner.known_until, ..Inner::default() };
        }
        let (operation, why) = if known.configuration_hash == self.hash {
            (Step::Finished.name(), "")
        } else {
            ("rollout_take_back", "the configuration is another")
        };
        self.tell(operation, why, &known, Value::Null).await?;
        let change = |valve: &mut Valve| {
            valve.rollout = None;
            Ok(())
        };
        if let Ok((valve, ())) = valve::change(&*self.shared.broker.leases, &self.name, change).await? {
            self.state().set(valve);
        }
        tracing::info!(app = self.name, operation, "no configuration is rolled out by stages any more");
        Ok(())
    }

    /// Goes on with the next stage when it is time, or stops; names those that need not wait any more.
    pub(super) async fn roll(&self) -> Result<Vec<ResourceId>, Error> {
        let known = self.state().valve.rollout.clone().filter(|known| known.configuration_hash == self.hash);
        let Some(known) = known else {
            let mut inner = self.rolling.inner();
            inner.rollout = None;
            return Ok(inner.freed());
        };
        let now = clock::now();
        let wait = self.config.rollout.as_ref().map(|config| config.wait()).unwrap_or_default();
        let (seen, is_told) = {
            let mut inner = self.rolling.inner();
            inner.rollout = Some(known.clone());
            let is_told = inner.told_at.is_some_and(|at| at.elapsed() < TELL_INTERVAL);
            (inner.seen(), is_told)
        };
        let mut next = known.clone();
        let step = next.step(&seen, wait, now);
        match step {
            Some(Step::Finished) => {
                self.end_rollout().await?;
                return Ok(self.rolling.inner().freed());
            }
            Some(Step::Stage | Step::Stopped) => self.tell_step(&next, step).await?,
            None if next == known || (is_told && next.settled_at == known.settled_at) => {
                return Ok(self.rolling.inner().freed());
            }
            None => {}
        }
        // Somebody may let it go on meanwhile: what is decided is decided on what stands there.
        let change = |valve: &mut Valve| {
            if let Some(rollout) =
                valve.rollout.as_mut().filter(|rollout| rollout.configuration_hash == self.hash)
            {
                rollout.step(&seen, wait, now);
            }
            Ok(())
        };
        let changed = valve::change(&*self.shared.broker.leases, &self.name, change).await?;
        if let Ok((valve, ())) = &changed {
            self.state().set(valve.clone());
        }
        let mut inner = self.rolling.inner();
        inner.more -= seen.more;
        inner.told_at = Some(Instant::now());
        if seen.failed.is_some() {
            inner.failed = None;
        }
        if let Ok((valve, ())) = changed {
            inner.rollout = valve.rollout;
        }
        Ok(inner.freed())
    }

    async fn tell_step(&self, next: &Rollout, step: Option<Step>) -> Result<(), Error> {
        let Some(step) = step else { return Ok(()) };
        let failed = next.stopped.as_ref();
        let why = failed.map(|failed| failed.why.clone()).unwrap_or_default();
        let id = failed.map(|failed| failed.id.to_string());
        self.tell(step.name(), &why, next, json!(id)).await?;
        let (stage, stages, of) = (next.stage, next.stages.len(), next.of);
        if failed.is_some() {
            metrics::counter!("rollcall_app_rollout_stopped_total", "app" => self.name.clone()).increment(1);
            tracing::error!(
                app = self.name,
                stage,
                stages,
                of,
                why,
                "the rollout of a configuration stops until a person releases it"
            );
        } else {
            tracing::info!(app = self.name, stage, stages, of, "the rollout of a configuration goes on");
        }
        Ok(())
    }

    /// Writes a step down in CONTROL.
    async fn tell(&self, operation: &str, why: &str, rollout: &Rollout, id: Value) -> Result<(), Error> {
        let detail = json!({
            "configurationHash": rollout.configuration_hash,
            "stage": rollout.stage,
            "stages": rollout.stages.len(),
            "count": rollout.count(),
            "done": rollout.done,
            "of": rollout.of,
            "id": id,
        });
        self.record(operation, why, detail).await
    }

    /// Which events that are read once more change nothing about whose turn it is.
    pub(super) fn known(&self) -> Known<'_> {
        let inner = self.rolling.inner();
        let rolls_until = inner.rollout.as_ref().map(|rollout| rollout.known_until);
        Known { links: &self.shared.links, app: &self.name, rolls_until, known_until: inner.known_until }
    }

    /// It waits for a person because of what the app did.
    pub(super) fn held(&self, id: ResourceId) {
        let held = self.shared.links.get(&self.name, id).held;
        self.rolling.fails(id, held.as_ref().map_or("held", |held| held.reason.as_str()));
        self.settled(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::RolloutConfig;

    fn id(number: u8) -> ResourceId {
        format!("01890a5d-ac96-774b-bcce-b302099a80{number:02x}").parse().unwrap()
    }

    fn turn(id: ResourceId, asked: bool) -> Turn {
        Turn { id, until: 0, asked }
    }

    /// A rollout to some, the first of them alone.
    fn rolling(count: u8) -> (Rolling, Vec<ResourceId>) {
        let all: BTreeSet<(Rank, ResourceId)> =
            (0..count).map(|number| (rank("hash", id(number)), id(number))).collect();
        let order = all.iter().map(|(_, id)| *id).collect();
        let config = RolloutConfig::default();
        let rollout = Rollout::begin("hash", "before", &config, &all, clock::now());
        (Rolling(Mutex::new(Inner { rollout, pending: all, ..Inner::default() })), order)
    }

    #[test]
    fn only_the_first_is_let_through_and_whoever_is_asked_for() {
        let (rolling, order) = rolling(30);
        assert!(rolling.admits(turn(order[0], false)) && !rolling.admits(turn(order[1], false)));
        assert!(rolling.admits(turn(order[1], true)), "an event asks for it");
        assert!(rolling.lets(turn(order[0], false)) && !rolling.lets(turn(order[2], false)));
        assert!(rolling.is_tried(turn(order[0], false)) && !rolling.is_tried(turn(order[0], true)));
        assert_eq!(rolling.inner().waiting.len(), 1);
        rolling.settled(order[1]);
        assert!(rolling.inner().waiting.is_empty());
        // A group that nobody foresaw waits, too, and counts.
        assert!(!rolling.admits(turn(id(200), false)) || rolling.lets(turn(id(200), false)));
        assert_eq!(rolling.inner().more, 1);
        rolling.inner().rollout.as_mut().unwrap().stage = 3;
        let freed = rolling.inner().freed();
        assert_eq!((freed, rolling.inner().waiting.len()), (vec![id(200)], 0));
        assert!(rolling.waits_for().unwrap().contains("stage 3 of 3, 30 wait"));
    }

    #[test]
    fn one_that_fails_stops_all_who_are_not_asked_for() {
        let (rolling, order) = rolling(30);
        rolling.fails(id(200), "400");
        assert!(rolling.lets(turn(order[0], false)), "it is not affected");
        rolling.fails(order[0], "400");
        assert!(!rolling.lets(turn(order[0], false)) && rolling.lets(turn(order[1], true)));
        assert!(rolling.waits_for().unwrap().contains("must release") && rolling.inner().freed().is_empty());
    }

    #[test]
    fn without_a_rollout_everybody_is_let_through() {
        let rolling = Rolling::default();
        rolling.fails(id(1), "400");
        rolling.settled(id(1));
        assert!(rolling.admits(turn(id(1), false)) && !rolling.is_tried(turn(id(1), false)));
        assert_eq!(rolling.waits_for(), None);
    }
}
