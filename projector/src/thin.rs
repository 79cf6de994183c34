//! Thinning: of what happened before a floor only what is still needed stays in the store: of each resource that existed
//! there the row that held its document, and its first. What changed after the floor can always be told from these. The
//! log keeps everything; a question about a moment below the floor is refused.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use jiff::Timestamp;
use proto::Tenant;

use crate::directory::{Directory, Number};
use crate::store::{Doubt, Facts};
use crate::{Error, Moment, Projection};

/// Rows that are removed before others are written.
const PIECE: usize = 1000;
/// Events that are looked at before others are applied.
const LOOK: usize = 4096;

impl Projection {
    /// Has everything thinned that happened before an instant; done in the background. Returns the floor: the last
    /// sequence that is not later. Nothing when nothing is that old.
    pub fn thin(&self, before: Timestamp) -> Option<u64> {
        let floors = {
            let state = self.state();
            let floor = |directory: &Directory| {
                let number = directory.at_time(before)?;
                Some(directory.versions().get(number)?.sequence)
            };
            state.tenants.values().filter_map(floor).max()
        };
        let floor = floors?;
        self.inner.thin_to.fetch_max(floor, Ordering::AcqRel);
        Some(floor)
    }

    /// Below this sequence moments are not kept; 0 when all are.
    pub fn floor(&self) -> u64 {
        self.inner.floor.load(Ordering::Acquire)
    }

    /// Refuses a moment below the floor. A tenant to whom nothing happened since is at its floor, whenever that was.
    pub(crate) fn kept(&self, tenant: &Tenant, moment: Moment) -> Result<(), Error> {
        let floor = self.floor();
        let is_kept = self
            .with(tenant, |directory| directory.at_sequence(floor).is_none_or(|lowest| moment.0 >= lowest));
        if is_kept.unwrap_or(true) {
            return Ok(());
        }
        let sequence = self.stands_at(tenant, moment).map_or(0, |(sequence, _)| sequence);
        Err(Error::NotKept { sequence, floor })
    }

    /// Raises the floor. The images of all tenants must be newer than it: without the rows nothing else can tell what
    /// happened. What is under way from here on is written first, so that whoever is killed in it goes on at the next start.
    pub(crate) fn raise_floor(&self, facts: &mut Facts, floor: u64) -> Result<(), Doubt> {
        facts.thinning_from.get_or_insert(facts.floor);
        (facts.floor, facts.reclaims) = (floor, true);
        self.inner.store.write(&Default::default(), facts)?;
        self.inner.floor.store(floor, Ordering::Release);
        Ok(())
    }

    /// Removes the rows that are not needed any more since the floor was raised from one sequence to another, unless
    /// `goes_on` says no. Others may be written whenever it is asked. Returns whether all are removed.
    pub(crate) fn remove_spare(
        &self,
        (from, floor): (u64, u64),
        goes_on: &mut dyn FnMut() -> bool,
    ) -> Result<bool, Doubt> {
        let tenants: Vec<Tenant> = self.state().tenants.keys().cloned().collect();
        for tenant in tenants {
            let (mut removed, mut first) =
                (0, self.with(&tenant, |directory| directory.first_after(from)).unwrap_or_default());
            while let Some(spare) = self.with(&tenant, |directory| directory.spare(first, floor)).flatten() {
                for piece in spare.rows.chunks(PIECE) {
                    self.inner.store.remove(&tenant, piece)?;
                    if !goes_on() {
                        return Ok(false);
                    }
                }
                removed += spare.rows.len();
                first = spare.next;
            }
            metrics::counter!("rollcall_projection_rows_thinned_total").increment(removed as u64);
            tracing::info!(%tenant, floor, rows = removed, "rows that are no longer needed are removed");
        }
        Ok(true)
    }
}

/// Rows that nobody needs, and which event is to be looked at next.
struct Spare {
    rows: Vec<u64>,
    next: Number,
}

impl Directory {
    /// The first event after a sequence.
    fn first_after(&self, sequence: u64) -> Number {
        self.at_sequence(sequence).map_or(0, |number| number + 1)
    }

    /// What some events from this one on leave that nobody needs once the floor is raised; nothing when none is left. Each
    /// event tells by itself, so what is applied in between changes nothing.
    fn spare(&self, first: Number, floor: u64) -> Option<Spare> {
        let last = self.at_sequence(floor).filter(|last| first <= *last)?;
        let (mut spare, mut next): (BTreeSet<Number>, Number) = (BTreeSet::new(), first);
        let events = self.versions().0.from(first).take_while(|(number, _)| *number <= last);
        for (number, step) in events.take(LOOK) {
            next = number + 1;
            spare.insert(number);
            match self.base(step.slot, last) {
                // What stood there before may have been needed until now.
                Some(needed) => {
                    let before = self.versions().get(step.previous).map(|earlier| earlier.document);
                    spare.extend(before);
                    needed.iter().for_each(|number| {
                        spare.remove(number);
                    });
                }
                None => {
                    // Its last event tells for all before it.
                    if self.last_event(step.slot, last).is_some_and(|(end, _)| end == number) {
                        spare.extend(self.own_events(step.slot, last));
                    }
                    // Whoever takes its key may be asked whether it is the same person.
                    if let Some(number) = self.buried(step.slot) {
                        spare.remove(&number);
                    }
                }
            }
        }
        let sequence = |number: Number| self.versions().get(number).map(|step| step.sequence);
        Some(Spare { rows: spare.into_iter().filter_map(sequence).collect(), next })
    }
}
