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
    steps: Mutex<Vec<Worked>>,
}

/// Whom the events of a tenant affect, for those who need the same.
#[derive(Debug)]
struct Worked {
    tenant: Tenant,
    needs: Needs,
    steps: Arc<[Step]>,
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
        (!events.is_empty()).then(|| Self { events, bytes, steps: Mutex::default() })
    }

    pub(super) fn last(&self) -> u64 {
        self.events.last().map_or(0, |heard| heard.sequence)
    }

    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    fn steps(&self, tenant: &Tenant, needs: Needs) -> Arc<[Step]> {
        let mut all = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.iter().find(|worked| worked.needs == needs && worked.tenant == *tenant);
        if let Some(worked) = known {
            return worked.steps.clone();
        }
        let steps: Arc<[Step]> = self.work_out(tenant, needs).into();
        all.push(Worked { tenant: tenant.clone(), needs, steps: steps.clone() });
        steps
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
        let steps = self.passage.steps(tenant, needs);
        let from = steps.partition_point(|step| step.place < self.from);
        Steps { steps, from }
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

/// The steps of a stretch.
pub(crate) struct Steps {
    steps: Arc<[Step]>,
    from: usize,
}

impl Steps {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().skip(self.from)
    }
}
