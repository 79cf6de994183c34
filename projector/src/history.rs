//! What happened: to one resource, and in the whole directory between two moments. Read-only, in pages.

use std::collections::BTreeSet;

use jiff::Timestamp;
use proto::{Event, ResourceId, Tenant};
use scim::{Change, Object};

use crate::directory::{Directory, Number, Slot};
use crate::stored::Outline;
use crate::{Error, Moment, Projection, Stored};

/// Bytes that a page takes when it is told, about: it ends with whatever goes beyond. A group can hold everybody.
const PAGE_BYTES_MAX: usize = 8 << 20;
/// Of these for a member.
const MEMBER_BYTES: usize = 40;
/// Of more events than this, each page would walk along all: then resources are looked at one by one, whether one was about them.
const EVENTS_WALKED_MAX: usize = 16_384;
/// So many of them before others have a turn.
const LOOKED_AT_ONCE: u32 = 4_096;

/// An event that changed a resource, or did not.
#[derive(Clone, Debug, PartialEq)]
pub struct Happened {
    /// Where it stands.
    pub sequence: u64,
    /// Log time.
    pub time: Timestamp,
    /// The envelope: kind, source, actor, txn, reason. Another resource's when that one is gone from a group.
    pub event: Event,
    /// What changed, by attribute; empty when the event says nothing about attributes.
    pub changes: Vec<Change>,
    /// Where the request came from.
    pub caller_address: String,
    /// Whether its sealed part can no longer be read: the person was erased.
    pub is_erased: bool,
}

/// Part of a history.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// How many events there are above the floor.
    pub total: usize,
    /// How many there were below it, which are not kept.
    pub not_kept: usize,
    /// The wanted ones, in the order of the log.
    pub events: Vec<Happened>,
    /// The last of them, when more come.
    pub next: Option<u64>,
}

/// How a resource differs between two moments.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The resource.
    pub id: ResourceId,
    /// Its type.
    pub resource_type: String,
    /// What became of it.
    pub what: Became,
    /// What differs, by attribute; of a resource that began or ended, everything.
    pub changes: Vec<Change>,
    /// Members that it has only at the later moment.
    pub members_added: Vec<ResourceId>,
    /// Members that it has only at the earlier moment.
    pub members_removed: Vec<ResourceId>,
}

/// What became of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Became {
    /// It exists only at the later moment.
    Created,
    /// It exists only at the earlier moment.
    Deleted,
    /// It exists at both, and differs.
    Changed,
}

/// Part of the differences.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Differences {
    /// Those of the page.
    pub resources: Vec<Difference>,
    /// Where the next page begins, when more come.
    pub next: Option<u64>,
}

impl Projection {
    /// The events of a resource until a moment, in the order of the log, from the first after `after` on: so many, fewer
    /// where much is to tell. Nothing when there never was such a resource. Without `after` it begins at the floor; what
    /// comes after a sequence below it is refused.
    pub async fn history(
        &self,
        tenant: &Tenant,
        id: ResourceId,
        until: Moment,
        after: Option<u64>,
        count: usize,
    ) -> Result<Option<History>, Error> {
        let floor = self.floor();
        let found = self.with(tenant, |directory| {
            let numbers = directory.events_of(id, until.0)?;
            let told_until = |sequence| {
                let last = directory.at_sequence(sequence);
                numbers.partition_point(|number| Some(*number) <= last)
            };
            let (not_kept, skip) = (told_until(floor), after.map_or(0, told_until));
            let step = |number: &Number| {
                let step = directory.versions().get(*number)?;
                Some((step.sequence, Timestamp::from_millisecond(step.time_ms).ok()?))
            };
            let page = numbers.iter().skip(skip.max(not_kept)).take(count).filter_map(step);
            // A page that follows one from before the floor was raised would pass over what is between them.
            let missed = numbers.get(skip).filter(|_| after.is_some() && skip < not_kept).and_then(step);
            Some((page.collect::<Vec<_>>(), numbers.len(), not_kept, skip.max(not_kept), missed))
        });
        let Some((page, total, not_kept, skip, missed)) = found.flatten() else { return Ok(None) };
        if let Some((sequence, _)) = missed {
            return Err(Error::NotKept { sequence, floor });
        }
        let mut history = History { total: total - not_kept, not_kept, ..History::default() };
        let mut bytes = 0;
        for (sequence, time) in page {
            if bytes >= PAGE_BYTES_MAX {
                break;
            }
            let (event, body) = self.opened(tenant, sequence).await?;
            let is_erased = body.is_none() && event.key_ref.is_some();
            let body = body.unwrap_or_default();
            let (added, removed) = event.kind.members();
            bytes += (added.len() + removed.len()) * MEMBER_BYTES + body.document.json().len();
            let mut changes = body.all_changes(&event);
            self.veil(&event.resource_type, &mut changes);
            let caller_address = body.caller_address;
            history.events.push(Happened { sequence, time, event, changes, caller_address, is_erased });
        }
        let more = skip + history.events.len() < total;
        history.next = history.events.last().map(|last| last.sequence).filter(|_| more);
        Ok(Some(history))
    }

    /// After which sequence the last so many events of a resource come; nothing when there are no more above the floor.
    pub fn before_last(&self, tenant: &Tenant, id: ResourceId, count: usize) -> Option<u64> {
        let floor = self.floor();
        self.with(tenant, |directory| {
            let numbers = directory.events_of(id, Moment::NOW.0)?;
            let before = numbers.get(numbers.len().checked_sub(count + 1)?)?;
            Some(directory.versions().get(*before)?.sequence).filter(|sequence| *sequence > floor)
        })
        .flatten()
    }

    /// How the directory differs between two moments, in the order of the resources' creation, from the place `after`
    /// on: so many resources are looked at, fewer where much is to tell, and those that differ are told.
    pub async fn differences(
        &self,
        tenant: &Tenant,
        (from, to): (Option<Moment>, Moment),
        after: Option<u64>,
        count: usize,
    ) -> Result<Differences, Error> {
        let first = after.map_or(0, |after| Slot::try_from(after).unwrap_or(Slot::MAX).saturating_add(1));
        let slots = self.touched_within(tenant, (from, to), first, count + 1).await;
        let found = self.with(tenant, |directory| {
            let (mut looked, mut bytes) = (Vec::new(), 0);
            for slot in slots.iter().take(count) {
                if bytes >= PAGE_BYTES_MAX {
                    break;
                }
                let ends = ends(directory, *slot, from, to);
                bytes += ends.as_ref().map_or(0, Ends::bytes);
                looked.push((*slot, ends));
            }
            let is_last = looked.len() == slots.len();
            (looked, is_last)
        });
        let (looked, is_last) = found.unwrap_or_else(|| (Vec::new(), true));
        let (mut differences, mut bytes) = (Differences::default(), 0);
        let mut rest = looked.into_iter().peekable();
        while let Some((slot, ends)) = rest.next_if(|_| bytes < PAGE_BYTES_MAX) {
            differences.next = Some(slot.into());
            let Some(ends) = ends else { continue };
            bytes += ends.bytes();
            let Ends { before, after, members_added, members_removed } = ends;
            let before = self.filled(tenant, before).await?;
            let after = self.filled(tenant, after).await?;
            let documents = [&before, &after].into_iter().flatten();
            bytes += documents.map(|stored| stored.document.json().len()).sum::<usize>();
            let members = (members_added, members_removed);
            let mut difference = difference(before.as_ref(), after.as_ref(), members);
            if let Some(Difference { resource_type, changes, .. }) = &mut difference {
                self.veil(resource_type, changes);
            }
            differences.resources.extend(difference);
        }
        if is_last && rest.peek().is_none() {
            differences.next = None;
        }
        Ok(differences)
    }

    /// Values that no answer shows are told to nobody who looks back, either.
    fn veil(&self, resource_type: &str, changes: &mut [Change]) {
        scim::veil(&self.inner.registry, self.inner.registry.by_name(resource_type), changes);
    }

    /// The first resources, from a slot on, that an event after the one moment and until the other was about or changed.
    async fn touched_within(
        &self,
        tenant: &Tenant,
        (from, to): (Option<Moment>, Moment),
        first: Slot,
        count: usize,
    ) -> Vec<Slot> {
        let after = from.map_or(0, |from| from.0.saturating_add(1));
        let (mut slots, mut next) = (Vec::new(), Some(first));
        while let Some(first) = next
            && slots.len() < count
        {
            let rest = count - slots.len();
            let looked = self.with(tenant, |directory| directory.touched_within((after, to.0), first, rest));
            let (found, further) = looked.unwrap_or_default();
            slots.extend(found);
            next = further;
            tokio::task::yield_now().await;
        }
        slots
    }

    async fn filled(&self, tenant: &Tenant, outline: Option<Outline>) -> Result<Option<Stored>, Error> {
        match outline {
            None => Ok(None),
            Some(outline) => Ok(Some(self.read(tenant, outline).await?)),
        }
    }
}

/// How a resource differs; nothing when it does not.
fn difference(
    before: Option<&Stored>,
    after: Option<&Stored>,
    (members_added, members_removed): (Vec<ResourceId>, Vec<ResourceId>),
) -> Option<Difference> {
    let what = match (before, after) {
        (None, None) => return None,
        (None, Some(_)) => Became::Created,
        (Some(_), None) => Became::Deleted,
        (Some(_), Some(_)) => Became::Changed,
    };
    let either = after.or(before)?;
    let changes = scim::diff(&shown(before), &shown(after));
    let is_same = changes.is_empty() && members_added.is_empty() && members_removed.is_empty();
    (what != Became::Changed || !is_same).then(|| Difference {
        id: either.id,
        resource_type: either.resource_type.clone(),
        what,
        changes,
        members_added,
        members_removed,
    })
}

/// A resource at two moments.
struct Ends {
    before: Option<Outline>,
    after: Option<Outline>,
    members_added: Vec<ResourceId>,
    members_removed: Vec<ResourceId>,
}

impl Ends {
    /// What its members take when they are told.
    fn bytes(&self) -> usize {
        (self.members_added.len() + self.members_removed.len()) * MEMBER_BYTES
    }
}

/// Both ends of a resource of which this is the last life; nothing for an earlier one, since who came back under an id is
/// the same.
fn ends(directory: &Directory, slot: Slot, from: Option<Moment>, to: Moment) -> Option<Ends> {
    let id = directory.id(slot)?;
    if directory.slot_at(id, to.0) != Some(slot) {
        return None;
    }
    let former = from.and_then(|from| Some((directory.slot_at(id, from.0)?, from.0)));
    let members = |(slot, at)| {
        let members = directory.edges().members(slot, at).into_iter();
        members.filter_map(|member| directory.id(member)).collect::<Vec<_>>()
    };
    let (old, new) = (former.map(members).unwrap_or_default(), members((slot, to.0)));
    let only = |some: &[ResourceId], others: &[ResourceId]| {
        let others: BTreeSet<&ResourceId> = others.iter().collect();
        some.iter().filter(|id| !others.contains(id)).copied().collect()
    };
    Some(Ends {
        before: former.and_then(|(slot, at)| Outline::of(directory, slot, at)),
        after: Outline::of(directory, slot, to.0),
        members_added: only(&new, &old),
        members_removed: only(&old, &new),
    })
}

/// A document with every source's `externalId`.
fn shown(stored: Option<&Stored>) -> Object {
    let Some(stored) = stored else { return Object::new() };
    let mut object = Object::clone(&stored.document);
    for (source, id) in stored.external_ids.iter() {
        object.insert(format!("externalId[{source}]"), id.clone().into());
    }
    object
}

impl Directory {
    /// The events of a resource until a moment, its own and those that touched it, in the order of the log; nothing when
    /// there never was such a resource.
    fn events_of(&self, id: ResourceId, until: Number) -> Option<Vec<Number>> {
        self.slot_at(id, until)?;
        let mut numbers = Vec::new();
        for slot in self.lives(id) {
            numbers.extend(self.own_events(slot, until));
            numbers.extend(self.touches_of(slot).filter(|number| *number <= until));
        }
        // A few lists in descending order.
        numbers.sort();
        numbers.dedup();
        Some(numbers)
    }

    /// The first resources, from a slot on, that an event of these numbers was about or changed; and from which slot on to
    /// look for more, if that is not all.
    fn touched_within(
        &self,
        (first, until): (Number, Number),
        from: Slot,
        count: usize,
    ) -> (Vec<Slot>, Option<Slot>) {
        let rows = u32::try_from(self.rows()).unwrap_or(Number::MAX);
        let own = until.saturating_add(1).min(rows).saturating_sub(first) as usize;
        let others = self.touches_from(first).take_while(|(number, _)| *number <= until);
        if own <= EVENTS_WALKED_MAX && others.take(EVENTS_WALKED_MAX).count() < EVENTS_WALKED_MAX {
            return (self.touched_by((first, until), from, count), None);
        }
        let end = u32::try_from(self.resource_count()).unwrap_or(Slot::MAX);
        let last = from.saturating_add(LOOKED_AT_ONCE).min(end);
        let is_touched = |slot: &Slot| self.is_touched(*slot, first, until);
        let found = (from..last).filter(is_touched).take(count).collect();
        (found, Some(last).filter(|last| *last < end))
    }

    /// The same, found by walking along the events.
    fn touched_by(&self, (first, until): (Number, Number), from: Slot, count: usize) -> Vec<Slot> {
        let own = self.versions().0.from(first).take_while(|(number, _)| *number <= until);
        let own = own.map(|(_, step)| step.slot);
        let touched =
            self.touches_from(first).take_while(|(number, _)| *number <= until).map(|(_, slot)| slot);
        let mut slots = BTreeSet::new();
        for slot in own.chain(touched).filter(|slot| *slot >= from) {
            if slots.len() < count || slots.last().is_some_and(|last| slot < *last) {
                // Of what is about nobody there is no resource.
                if self.id(slot).is_some() && slots.insert(slot) && slots.len() > count {
                    slots.pop_last();
                }
            }
        }
        slots.into_iter().collect()
    }

    /// Whether an event of these numbers was about a resource or changed it.
    fn is_touched(&self, slot: Slot, first: Number, until: Number) -> bool {
        let own = self.last_event(slot, until).is_some_and(|(number, _)| number >= first);
        own || self.touches_of(slot).find(|number| *number <= until).is_some_and(|number| number >= first)
    }
}
