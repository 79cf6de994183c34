//! Events that were read in one go, and whom they affect: worked out once for all apps that need the same.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use proto::{Body, Event, ResourceId, Tenant};

use crate::affected::{Who, affected, ends};
use crate::scope::Needs;

/// An event of IDENTITY, opened as far as its key still exists.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) sequence: u64,
    pub(crate) event: Event,
    pub(crate) body: Option<Body>,
    /// Its length in the log.
    pub(super) bytes: usize,
    /// Who names the resource, once somebody looked it up: it is the same for all apps, and whoever changes it later does
    /// so by an event of his own.
    naming: OnceLock<Vec<ResourceId>>,
}

/// Somebody whom one of the events affects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// Where the event stands in the passage.
    place: usize,
    pub(crate) sequence: u64,
    pub(crate) who: Who,
    pub(crate) urgent: bool,
    /// Whether this is the event's own resource, whose access ends by it.
    pub(crate) ends: bool,
}

/// Events in the order of the log; at least one.
#[derive(Debug)]
pub(crate) struct Passage {
    events: Vec<Heard>,
    pub(super) bytes: usize,
    worked: Mutex<Vec<Arc<Worked>>>,
}

/// Whom the events of a tenant affect, for those who need the same.
#[derive(Debug)]
struct Worked {
    tenant: Tenant,
    needs: Needs,
    steps: Vec<Step>,
    /// Where those stand that cannot wait.
    pressing: Vec<usize>,
}

/// What a listener has not heard yet of a passage; at least one event.
#[derive(Clone, Debug)]
pub(crate) struct Stretch {
    passage: Arc<Passage>,
    from: usize,
}

impl Heard {
    pub(super) fn new(sequence: u64, event: Event, body: Option<Body>, bytes: usize) -> Self {
        Self { sequence, event, body, bytes, naming: OnceLock::new() }
    }

    /// Who names the resource, looked up for all by the first who asks once the directory is as far as the event.
    pub(crate) fn naming(&self, look_up: impl FnOnce() -> Vec<ResourceId>) -> &[ResourceId] {
        self.naming.get_or_init(look_up)
    }
}

impl Passage {
    /// Nothing when there is no event.
    pub(super) fn new(events: Vec<Heard>) -> Option<Self> {
        let bytes = events.iter().map(|heard| heard.bytes).sum();
        (!events.is_empty()).then(|| Self { events, bytes, worked: Mutex::default() })
    }

    pub(super) fn last(&self) -> u64 {
        self.events.last().map_or(0, |heard| heard.sequence)
    }

    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    fn worked(&self, tenant: &Tenant, needs: Needs) -> Arc<Worked> {
        let mut all = self.worked.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.iter().find(|worked| worked.needs == needs && worked.tenant == *tenant);
        if let Some(worked) = known {
            return worked.clone();
        }
        let steps = self.work_out(tenant, needs);
        let presses = steps.iter().enumerate().filter(|(_, step)| step.waits().is_none());
        let pressing = presses.map(|(place, _)| place).collect();
        let worked = Arc::new(Worked { tenant: tenant.clone(), needs, steps, pressing });
        all.push(worked.clone());
        worked
    }

    fn work_out(&self, tenant: &Tenant, needs: Needs) -> Vec<Step> {
        let mut steps = Vec::with_capacity(self.events.len());
        for (place, Heard { sequence, event, body, .. }) in self.events.iter().enumerate() {
            if event.tenant != *tenant {
                continue;
            }
            let mut ends = ends(&event.kind, body.as_ref());
            for found in affected(event, body.as_ref(), needs) {
                let (who, urgent) = (found.who, found.urgent);
                // Who it happened to is named first.
                steps.push(Step { place, sequence: *sequence, who, urgent, ends: std::mem::take(&mut ends) });
            }
        }
        steps
    }
}

impl Stretch {
    /// What comes at or after a sequence, if there is something.
    pub(super) fn new(passage: Arc<Passage>, next: u64) -> Option<Self> {
        let from = passage.events.partition_point(|heard| heard.sequence < next);
        (from < passage.len()).then_some(Self { passage, from })
    }

    /// Its first sequence.
    pub(crate) fn first(&self) -> u64 {
        self.passage.events.get(self.from).map_or(0, |heard| heard.sequence)
    }

    /// Its last sequence.
    pub(crate) fn last(&self) -> u64 {
        self.passage.last()
    }

    /// How many events it has.
    pub(crate) fn len(&self) -> usize {
        self.passage.len() - self.from
    }

    /// Whom the events of a tenant affect, in their order, for somebody who needs this.
    pub(crate) fn steps(&self, tenant: &Tenant, needs: Needs) -> Steps {
        let worked = self.passage.worked(tenant, needs);
        let next = worked.steps.partition_point(|step| step.place < self.from);
        Steps { worked, next }
    }

    /// Its events.
    pub(crate) fn events(&self) -> impl Iterator<Item = &Heard> {
        self.passage.events.iter().skip(self.from)
    }

    /// The event of a step.
    pub(crate) fn event(&self, step: &Step) -> Option<&Heard> {
        self.passage.events.get(step.place)
    }

    #[cfg(test)]
    pub(super) fn sequences(&self) -> impl Iterator<Item = u64> {
        self.passage.events.iter().skip(self.from).map(|heard| heard.sequence)
    }
}

/// The steps of a stretch. Cheap to keep: they are shared by all who need the same.
#[derive(Clone, Debug)]
pub(crate) struct Steps {
    worked: Arc<Worked>,
    next: usize,
}

impl Step {
    /// Whom it concerns, when it can wait for its turn: the event's own resource, whose access is not reduced.
    fn waits(&self) -> Option<ResourceId> {
        match self.who {
            Who::One(id) if !self.urgent && !self.ends => Some(id),
            Who::One(_)
            | Who::These(_)
            | Who::Below(_)
            | Who::FormerMembers(_)
            | Who::FormerGroups(_)
            | Who::Groups(_)
            | Who::Naming(_)
            | Who::Everybody => None,
        }
    }
}

impl Steps {
    pub(crate) fn all(&self) -> impl Iterator<Item = &Step> {
        self.worked.steps.iter().skip(self.next)
    }

    /// Those that cannot wait.
    pub(crate) fn pressing(&self) -> impl Iterator<Item = &Step> {
        let places = self.worked.pressing.iter().filter(|place| **place >= self.next);
        places.filter_map(|place| self.worked.steps.get(*place))
    }

    /// How many can wait.
    pub(crate) fn waiting(&self) -> usize {
        let left = self.worked.steps.len() - self.next;
        left - self.pressing().count()
    }

    /// The next that can wait.
    pub(crate) fn first_waiting(&self) -> Option<(u64, ResourceId)> {
        self.all().find_map(|step| Some((step.sequence, step.waits()?)))
    }

    /// Takes the next that can wait.
    pub(crate) fn take_waiting(&mut self) -> Option<(u64, ResourceId)> {
        while let Some(step) = self.worked.steps.get(self.next) {
            self.next += 1;
            if let Some(id) = step.waits() {
                return Some((step.sequence, id));
            }
        }
        None
    }
}

#[cfg(test)]
impl Steps {
    /// What an app that needs nothing else makes of people who are created one after the other.
    pub(crate) fn of(created: impl IntoIterator<Item = (u64, ResourceId)>) -> Self {
        let event = |id| crate::sample::identity(id, proto::Kind::Created { members_added: Vec::new() });
        let heard = created.into_iter().map(|(sequence, id)| Heard::new(sequence, event(id), None, 1));
        let passage = Arc::new(Passage::new(heard.collect()).expect("there are events"));
        Stretch { passage, from: 0 }.steps(&"corp".parse().expect("a name"), Needs::default())
    }
}
