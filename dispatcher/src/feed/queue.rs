//! Which events wait, which are on their way, which are held, and up to where everything is done. Pure: times and delays
//! are arguments.
//!
//! Each resource has a lane. Lanes go on at the same time; within a lane one event goes after the other, and what is
//! refused too often is held with everything that comes behind it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use jiff::Timestamp;
use proto::ResourceId;
use serde::{Deserialize, Serialize};

use super::event::Told;

/// From what an event can be told again: nothing of a person stands in it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", tag = "of")]
pub enum Origin {
    /// An event of the log.
    Event {
        /// Where it stands.
        sequence: u64,
        /// The replay that tells it again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        replay: Option<String>,
    },
    /// A resource in a snapshot.
    Snapshot {
        /// The snapshot's id.
        snapshot: String,
        /// As of which sequence.
        position: u64,
        /// When it was begun.
        time: Timestamp,
    },
    /// A snapshot's end.
    SnapshotCompleted {
        /// The snapshot's id.
        snapshot: String,
        /// As of which sequence.
        position: u64,
        /// When it ended.
        time: Timestamp,
    },
    /// A replay's end.
    ReplayCompleted {
        /// The replay's id.
        replay: String,
        /// Its first sequence.
        first: u64,
        /// Its last one.
        last: u64,
        /// When it ended.
        time: Timestamp,
    },
}

/// What a subscriber is told of one thing that happened to one resource.
#[derive(Clone, Debug)]
pub(super) struct Parcel {
    pub(super) origin: Origin,
    pub(super) resource_type: String,
    pub(super) resource_id: ResourceId,
    /// Events, to be taken one after the other.
    pub(super) told: Vec<Arc<Told>>,
    /// Those before this one were taken.
    pub(super) next: usize,
}

impl Parcel {
    /// About how much memory its events take.
    fn bytes(&self) -> usize {
        self.told.iter().map(|told| told.text.len()).sum()
    }
}

/// What waits for a person, or behind something that does.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Waiting {
    /// From what it is told again.
    pub origin: Origin,
    /// Events of it that were taken before, or skipped.
    pub next: usize,
}

/// A resource whose next event the subscriber refuses.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Held {
    /// The resource type's name.
    pub resource_type: String,
    /// The resource.
    pub resource_id: ResourceId,
    /// The id of the event that is refused.
    pub event: String,
    /// Its type.
    pub event_type: String,
    /// Why.
    pub reason: String,
    /// How often it was tried.
    pub attempts: u32,
    /// Since when.
    pub since: Timestamp,
    /// Whether it is being tried again because somebody asked for it.
    #[serde(default)]
    pub redriving: bool,
    /// It, and what waits behind it.
    pub waiting: Vec<Waiting>,
}

/// No more can be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

/// How a refusal ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It is tried again.
    Again,
    /// It is held.
    Held,
}

#[derive(Debug, Default)]
struct Lane {
    /// Each with its number.
    parcels: VecDeque<(u64, Parcel)>,
    attempts: u32,
    /// How often the first event was sent in vain, its refusals among them.
    tries: u32,
    not_before: Option<Timestamp>,
    /// How many events the subscriber had taken when it failed with the first one.
    failed_at: Option<u64>,
    /// How often it had failed with any when the first one was sent.
    sent_at: u64,
    is_flying: bool,
}

impl Lane {
    fn is_due(&self, now: Timestamp) -> bool {
        self.not_before.is_none_or(|time| time <= now)
    }
}

/// All lanes of a feed.
#[derive(Debug)]
pub(super) struct Queue {
    lanes: BTreeMap<ResourceId, Lane>,
    /// Lanes whose first event is not on its way, by its number.
    ready: BTreeSet<(u64, ResourceId)>,
    /// Numbers of parcels that are neither taken nor held.
    open: BTreeSet<u64>,
    held: BTreeMap<ResourceId, Held>,
    /// Held resources that are tried again, and how much of what waits of each stands in its lane.
    redriven: BTreeMap<ResourceId, usize>,
    /// Of all parcels in lanes.
    bytes: usize,
    /// The last number that was added.
    followed: u64,
    /// How often the subscriber failed, and how many events it took that were sent after it had failed last.
    failures: u64,
    takes: u64,
    attempts_max: u32,
    held_max: usize,
}

impl Queue {
    /// Nothing waits but what is held.
    pub(super) fn new(held: Vec<Held>, attempts_max: u32, held_max: usize) -> Self {
        Self {
            lanes: BTreeMap::new(),
            ready: BTreeSet::new(),
            open: BTreeSet::new(),
            held: held.into_iter().map(|held| (held.resource_id, held)).collect(),
            redriven: BTreeMap::new(),
            bytes: 0,
            followed: 0,
            failures: 0,
            takes: 0,
            attempts_max,
            held_max,
        }
    }

    /// Counts from this number on; nothing may be open.
    pub(super) fn begin(&mut self, followed: u64) {
        self.followed = followed;
    }

    /// How many parcels wait or are on their way.
    pub(super) fn len(&self) -> usize {
        self.lanes.values().map(|lane| lane.parcels.len()).sum()
    }

    /// About how much memory they take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing waits but what is held.
    pub(super) fn is_idle(&self) -> bool {
        self.lanes.is_empty() && self.redriven.is_empty()
    }

    /// The last number that was added.
    pub(super) fn followed(&self) -> u64 {
        self.followed
    }

    /// Up to where everything was taken or is held.
    pub(super) fn done(&self) -> u64 {
        self.open.first().map_or(self.followed, |oldest| oldest.saturating_sub(1).min(self.followed))
    }

    /// Everything that is held.
    pub(super) fn held(&self) -> impl Iterator<Item = &Held> {
        self.held.values()
    }

    /// How many parcels are held.
    pub(super) fn held_count(&self) -> usize {
        self.held.values().map(|held| held.waiting.len()).sum()
    }

    /// The held resource that this id means: its own, or that of its refused event.
    pub(super) fn find_held(&self, id: &str) -> Option<&Held> {
        self.held.values().find(|held| held.event == id || held.resource_id.to_string() == id)
    }

    /// Adds what comes next. Behind something that is held it is held too.
    pub(super) fn add(&mut self, number: u64, parcel: Parcel) -> Result<(), Full> {
        if parcel.next < parcel.told.len() {
            let id = parcel.resource_id;
            if self.held.contains_key(&id) && self.held_count() >= self.held_max {
                return Err(Full);
            }
            match self.held.get_mut(&id) {
                Some(held) => {
                    let before = held.waiting.len();
                    held.waiting.push(Waiting { origin: parcel.origin.clone(), next: parcel.next });
                    // Otherwise it is derived again once everything before it was.
                    if let Some(filled) = self.redriven.get_mut(&id).filter(|filled| **filled == before) {
                        *filled += 1;
                        self.push(number, parcel);
                    }
                }
                None => {
                    self.open.insert(number);
                    self.push(number, parcel);
                }
            }
        }
        self.followed = number;
        Ok(())
    }

    fn push(&mut self, number: u64, parcel: Parcel) {
        let id = parcel.resource_id;
        self.bytes += parcel.bytes();
        let lane = self.lanes.entry(id).or_default();
        if lane.parcels.is_empty() {
            self.ready.insert((number, id));
        }
        lane.parcels.push_back((number, parcel));
    }

    /// The next event whose time has come, of a resource of which nothing is on its way.
    pub(super) fn take(&mut self, now: Timestamp) -> Option<(ResourceId, Arc<Told>)> {
        self.take_of(|lane| lane.is_due(now))
    }

    /// The same, rather one with which the subscriber has not failed.
    pub(super) fn take_another(&mut self, now: Timestamp) -> Option<(ResourceId, Arc<Told>)> {
        self.take_of(|lane| lane.is_due(now) && lane.failed_at.is_none()).or_else(|| self.take(now))
    }

    fn take_of(&mut self, is_meant: impl Fn(&Lane) -> bool) -> Option<(ResourceId, Arc<Told>)> {
        let is_meant = |(_, id): &&(u64, ResourceId)| self.lanes.get(id).is_some_and(&is_meant);
        let next = self.ready.iter().find(is_meant).copied()?;
        self.ready.remove(&next);
        let lane = self.lanes.get_mut(&next.1)?;
        (lane.is_flying, lane.sent_at) = (true, self.failures);
        let (_, parcel) = lane.parcels.front()?;
        Some((next.1, parcel.told.get(parcel.next)?.clone()))
    }

    /// When the next lane may go on that rests now.
    pub(super) fn next_time(&self, now: Timestamp) -> Option<Timestamp> {
        let times = self.ready.iter().filter_map(|(_, id)| self.lanes.get(id)?.not_before);
        times.filter(|time| *time > now).min()
    }

    /// The subscriber has the event that was on its way.
    pub(super) fn taken(&mut self, id: ResourceId) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        self.takes += u64::from(lane.sent_at == self.failures);
        (lane.attempts, lane.tries, lane.not_before, lane.failed_at, lane.is_flying) =
            (0, 0, None, None, false);
        let Some((number, parcel)) = lane.parcels.front_mut() else { return };
        let number = *number;
        parcel.next += 1;
        let (next, is_over) = (parcel.next, parcel.next >= parcel.told.len());
        if is_over && let Some((_, parcel)) = lane.parcels.pop_front() {
            self.bytes -= parcel.bytes();
        }
        let following = lane.parcels.front().map(|(number, _)| *number);
        match self.held.get_mut(&id) {
            Some(held) if is_over => {
                held.waiting.drain(..held.waiting.len().min(1));
                self.redriven.entry(id).and_modify(|filled| *filled = filled.saturating_sub(1));
            }
            Some(held) => held.waiting.iter_mut().take(1).for_each(|waiting| waiting.next = next),
            None if is_over => drop(self.open.remove(&number)),
            None => {}
        }
        match following {
            Some(number) => drop(self.ready.insert((number, id))),
            None => {
                self.lanes.remove(&id);
                self.end(id);
            }
        }
    }

    /// A held resource of which nothing waits any more is not held.
    fn end(&mut self, id: ResourceId) {
        if self.held.get(&id).is_some_and(|held| held.waiting.is_empty()) {
            self.held.remove(&id);
            self.redriven.remove(&id);
        }
    }

    /// It is tried again, as if nothing had been said.
    pub(super) fn put_back(&mut self, id: ResourceId) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        lane.is_flying = false;
        if let Some((number, _)) = lane.parcels.front() {
            self.ready.insert((*number, id));
        }
    }

    /// How often the first event of a lane was sent in vain so far.
    pub(super) fn tries(&self, id: ResourceId) -> u32 {
        self.lanes.get(&id).map_or(0, |lane| lane.tries)
    }

    /// The subscriber failed with the event that was on its way. That is a refusal where it took another one since it failed
    /// with this one before. As long as nobody knows, it is tried again, and nothing is said: the subscriber may take none.
    pub(super) fn failed(
        &mut self,
        id: ResourceId,
        reason: &str,
        now: Timestamp,
        not_before: Timestamp,
    ) -> Result<Option<Refused>, Full> {
        self.failures += 1;
        let takes = self.takes;
        let Some(lane) = self.lanes.get_mut(&id) else { return Ok(None) };
        let before = lane.failed_at.replace(takes);
        if before.is_some_and(|before| before < takes) {
            return self.refused(id, reason, now, not_before).map(Some);
        }
        lane.tries += 1;
        let is_known = lane.attempts > 0;
        if is_known {
            lane.not_before = Some(not_before);
        }
        self.put_back(id);
        Ok(is_known.then_some(Refused::Again))
    }

    /// The subscriber refuses the event that was on its way. Once too often, and its resource is held.
    pub(super) fn refused(
        &mut self,
        id: ResourceId,
        reason: &str,
        now: Timestamp,
        not_before: Timestamp,
    ) -> Result<Refused, Full> {
        let attempts_max = self.attempts_max;
        let Some(lane) = self.lanes.get_mut(&id) else { return Ok(Refused::Again) };
        lane.attempts += 1;
        lane.tries += 1;
        lane.not_before = Some(not_before);
        if lane.attempts < attempts_max {
            self.put_back(id);
            return Ok(Refused::Again);
        }
        self.hold(id, reason, now)?;
        Ok(Refused::Held)
    }

    fn hold(&mut self, id: ResourceId, reason: &str, now: Timestamp) -> Result<(), Full> {
        let is_new = !self.held.contains_key(&id);
        let more = self.lanes.get(&id).map_or(0, |lane| lane.parcels.len());
        if is_new && self.held_count() + more > self.held_max {
            self.put_back(id);
            return Err(Full);
        }
        let Some(lane) = self.lanes.remove(&id) else { return Ok(()) };
        let Some((_, first)) = lane.parcels.front() else { return Ok(()) };
        let (event, event_type) =
            first.told.get(first.next).map(|told| (told.id.clone(), told.kind.clone())).unwrap_or_default();
        let since = self.held.get(&id).map_or(now, |held| held.since);
        let before = self.held.get(&id).map_or(0, |held| held.attempts);
        let held = Held {
            resource_type: first.resource_type.clone(),
            resource_id: id,
            event,
            event_type,
            reason: reason.to_string(),
            attempts: before.saturating_add(lane.attempts),
            since,
            redriving: false,
            waiting: Vec::new(),
        };
        for (number, parcel) in &lane.parcels {
            self.open.remove(number);
            self.bytes -= parcel.bytes();
        }
        let waiting =
            lane.parcels.into_iter().map(|(_, parcel)| Waiting { origin: parcel.origin, next: parcel.next });
        let filled = self.redriven.remove(&id).unwrap_or_default();
        let behind = self.held.remove(&id).into_iter().flat_map(|held| held.waiting.into_iter().skip(filled));
        self.held.insert(id, Held { waiting: waiting.chain(behind).collect(), ..held });
        Ok(())
    }

    /// Tries again what is held of a resource. It stays among the held, so that nothing is lost however this ends, and joins
    /// its lane piece by piece, as there is room.
    pub(super) fn redrive(&mut self, id: ResourceId) {
        let Some(held) = self.held.get_mut(&id) else { return };
        held.redriving = true;
        self.redriven.insert(id, 0);
        self.end(id);
    }

    /// What is to be made again next of what is tried again: of which resource, and which piece.
    pub(super) fn unfilled(&self) -> Option<(&Held, &Waiting)> {
        self.redriven.iter().find_map(|(id, filled)| {
            let held = self.held.get(id)?;
            Some((held, held.waiting.get(*filled)?))
        })
    }

    /// It was made again; nothing when there is nothing to tell of it any more.
    pub(super) fn fill(&mut self, id: ResourceId, parcel: Option<Parcel>) {
        let (Some(held), Some(filled)) = (self.held.get_mut(&id), self.redriven.get_mut(&id)) else { return };
        match parcel.filter(|parcel| parcel.next < parcel.told.len()) {
            Some(parcel) => {
                *filled += 1;
                // Before everything that comes from the log.
                self.push(0, parcel);
            }
            None => {
                if *filled < held.waiting.len() {
                    held.waiting.remove(*filled);
                }
                self.end(id);
            }
        }
    }

    /// Gives up the refused event of a held resource; what is behind it can be tried then.
    pub(super) fn skip(&mut self, id: ResourceId) {
        if let Some(first) = self.held.get_mut(&id).and_then(|held| held.waiting.first_mut()) {
            first.next += 1;
        }
    }
}

#[cfg(test)]
mod tests;
