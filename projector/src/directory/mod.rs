//! One tenant's directory in memory: who exists and existed, who holds which key, which values lead to whom, now and as
//! of any event. `apply` is the only way in, and gives the same result the second time.

mod apply;
mod counts;
mod edges;
mod image;
mod keys;
mod resource;
mod types;
mod values;
mod versions;

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashTable;
use jiff::Timestamp;
use proto::subject::Key;
use proto::{ResourceId, Version};

use crate::fragments::Fragments;
use crate::index::Indexes;
use crate::table::Column;
use edges::Edges;
use keys::Keys;
use resource::{ResourceRow, Touch};
use versions::Versions;

pub(crate) use edges::{Mark, Slot};
pub(crate) use image::Image;
pub(crate) use keys::mix;
pub(crate) use resource::Seen;
pub(crate) use types::TypeList;
pub(crate) use values::{ColumnNumber, DISPLAY, Ordered, Values, beginning};
pub(crate) use versions::{NOW, Number, Step};

/// What is known of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyState {
    /// The last sequence on its subject: the guard of the next event there; 0 for a key never used.
    pub last: u64,
    /// Who has it.
    pub holder: Option<ResourceId>,
}

/// A resource that is gone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grave {
    pub(crate) id: ResourceId,
    /// The row that holds its last document.
    pub(crate) row: u64,
    pub(crate) deleted_ms: i64,
}

#[derive(Debug)]
pub(crate) struct Directory {
    indexes: Arc<Indexes>,
    /// Names of resource types, by number.
    kinds: Vec<String>,
    /// Names of sources that gave an `externalId`, by number.
    sources: Vec<String>,
    versions: Versions,
    resources: Column<ResourceRow>,
    /// The last life under each id.
    by_id: HashTable<Slot>,
    /// Of who came back under an id, that of a deletion that was taken back: the life before.
    earlier: BTreeMap<Slot, Slot>,
    touches: Column<Touch>,
    keys: Keys,
    /// The numbers of the keys of further unique values, by attribute.
    claims: BTreeMap<Slot, BTreeMap<String, Number>>,
    values: Values,
    edges: Edges,
    /// By resource type.
    types: Vec<TypeList>,
    /// The last sequence that was applied.
    applied: u64,
    /// How many rows were applied since the tenant began, or began anew.
    rows_applied: u64,
    /// Log time of the event that dropped the tenant; known until it is written down in an image, which holds later ones.
    dropped_ms: Option<i64>,
    /// The last sequence at which somebody was erased, or the tenant dropped; 0 when that never was.
    erased: u64,
    /// What was written for readers.
    fragments: Fragments,
}

impl Directory {
    pub(crate) fn new(indexes: Arc<Indexes>) -> Self {
        Self {
            indexes,
            kinds: Vec::new(),
            sources: Vec::new(),
            versions: Versions::default(),
            resources: Column::default(),
            by_id: HashTable::new(),
            earlier: BTreeMap::new(),
            touches: Column::default(),
            keys: Keys::default(),
            claims: BTreeMap::new(),
            values: Values::default(),
            edges: Edges::default(),
            types: Vec::new(),
            applied: 0,
            rows_applied: 0,
            dropped_ms: None,
            erased: 0,
            fragments: Fragments::default(),
        }
    }

    pub(crate) fn applied(&self) -> u64 {
        self.applied
    }

    pub(crate) fn indexes(&self) -> &Indexes {
        &self.indexes
    }

    /// The number of a resource type.
    pub(crate) fn kind(&self, name: &str) -> Option<u8> {
        self.kinds.iter().position(|known| known == name).and_then(|number| u8::try_from(number).ok())
    }

    /// A resource type's name.
    pub(crate) fn kind_name(&self, kind: u8) -> &str {
        self.kinds.get(usize::from(kind)).map(String::as_str).unwrap_or_default()
    }

    /// The column of a source's `externalId`; nothing when it never gave one.
    pub(crate) fn source_column(&self, source: &str) -> Option<ColumnNumber> {
        let number = self.sources.iter().position(|known| known == source)?;
        Some(self.indexes.first_source() + ColumnNumber::try_from(number).ok()?)
    }

    fn find(&self, id: ResourceId) -> Option<Slot> {
        let same = |slot: &Slot| self.resources.at(*slot).is_some_and(|row| row.id == *id.as_bytes());
        self.by_id.find(hash(id.as_bytes()), same).copied()
    }

    /// The place of a resource that exists.
    pub(crate) fn slot(&self, id: ResourceId) -> Option<Slot> {
        self.find(id).filter(|slot| self.exists(*slot, NOW))
    }

    /// The places of a resource that exists or did, one for each of its lives, the last one first.
    pub(crate) fn lives(&self, id: ResourceId) -> impl Iterator<Item = Slot> {
        std::iter::successors(self.find(id), |slot| self.earlier.get(slot).copied())
    }

    /// The place of a resource as of a moment: its last life that had begun, else its first.
    pub(crate) fn slot_at(&self, id: ResourceId, at: Number) -> Option<Slot> {
        let begun = |slot: &Slot| self.resources.at(*slot).is_some_and(|row| row.created <= at);
        self.lives(id).find(begun).or_else(|| self.lives(id).last())
    }

    /// Whether a resource exists at a moment.
    pub(crate) fn exists(&self, slot: Slot, at: Number) -> bool {
        self.resources.at(slot).is_some_and(|row| row.is_at(at))
    }

    /// Whether a resource is of a type and exists at a moment.
    pub(crate) fn is_of(&self, slot: Slot, kind: u8, at: Number) -> bool {
        self.resources.at(slot).is_some_and(|row| row.kind == kind && row.is_at(at))
    }

    /// The same, which is mostly this one.
    pub(crate) fn slot_near(&self, id: ResourceId, likely: Option<Slot>, at: Number) -> Option<Slot> {
        let is_it = |row: &ResourceRow| row.id == *id.as_bytes() && row.is_at(at);
        likely.filter(|slot| self.resources.at(*slot).is_some_and(is_it)).or_else(|| self.slot_at(id, at))
    }

    pub(crate) fn id(&self, slot: Slot) -> Option<ResourceId> {
        ResourceId::from_bytes(&self.resources.at(slot)?.id).ok()
    }

    fn kind_at(&self, slot: Slot) -> u8 {
        self.resources.at(slot).map_or(u8::MAX, |row| row.kind)
    }

    /// How many resources of a type have a value in a column of single values.
    pub(crate) fn valued(&self, column: ColumnNumber, resource_type: &str) -> usize {
        self.kind(resource_type).map_or(0, |kind| self.values.counted(column, kind))
    }

    /// The name of a resource's type.
    pub(crate) fn type_at(&self, slot: Slot) -> &str {
        self.resources.at(slot).map(|row| self.kind_name(row.kind)).unwrap_or_default()
    }

    /// A resource as it is at a moment; nothing when it does not exist then.
    pub(crate) fn seen(&self, slot: Slot, at: Number) -> Option<Seen> {
        let row = self.resources.at(slot).filter(|row| row.is_at(at))?;
        let document = self.versions.last_until(row.last, at)?.1.document;
        let modified = self.versions.get(self.modified(row, at)?)?;
        Some(Seen {
            id: ResourceId::from_bytes(&row.id).ok()?,
            kind: row.kind,
            row: self.versions.get(document)?.sequence,
            created_ms: self.versions.get(row.created)?.time_ms,
            modified_ms: modified.time_ms,
            version: Version::from_parts(modified.sequence, modified.tail),
        })
    }

    /// The last event until a moment that changed what a client reads of a resource.
    fn modified(&self, row: &ResourceRow, at: Number) -> Option<Number> {
        if row.modified <= at {
            return Some(row.modified);
        }
        let own = self.versions.change_until(row.last, at);
        let mut touch = self.touches.at(row.touched);
        while touch.is_some_and(|touch| touch.at > at) {
            touch = touch.and_then(|touch| self.touches.at(touch.previous));
        }
        own.max(touch.map(|touch| touch.at))
    }

    /// The same of a resource that exists at the moment.
    pub(crate) fn modified_until(&self, slot: Slot, at: Number) -> Option<Number> {
        self.modified(self.resources.at(slot).filter(|row| row.is_at(at))?, at)
    }

    /// A moment behind which nothing came is now.
    pub(crate) fn moment_or_now(&self, at: Number) -> Number {
        if (at as usize) + 1 < self.rows() { at } else { NOW }
    }

    /// A moment that stays the same while events come: of now, the last one.
    pub(crate) fn moment_that_stays(&self, at: Number) -> Number {
        at.min(u32::try_from(self.rows()).unwrap_or(NOW).saturating_sub(1))
    }

    /// What was written of resources for readers before.
    pub(crate) fn fragments(&self) -> &Fragments {
        &self.fragments
    }

    /// Whether an event is the last until a moment that changed a resource.
    pub(crate) fn is_modification(&self, slot: Slot, event: Number, at: Number) -> bool {
        self.modified_until(slot, at) == Some(event)
    }

    /// The sequence of the row that holds the document of a resource at a moment.
    pub(crate) fn document_row(&self, slot: Slot, at: Number) -> Option<u64> {
        let row = self.resources.at(slot)?;
        Some(self.versions.get(self.versions.last_until(row.last, at)?.1.document)?.sequence)
    }

    /// The key of a resource, and the last sequence on its subject.
    pub(crate) fn key_of(&self, slot: Slot) -> Option<(Key, u64)> {
        let row = self.keys.at(self.resources.at(slot)?.key)?;
        Some((Key::unpack(&row.key), row.last))
    }

    /// The keys of a resource's further unique values, by attribute.
    pub(crate) fn claims_of(&self, slot: Slot) -> BTreeMap<String, Key> {
        let claims = self.claims.get(&slot).into_iter().flatten();
        claims
            .filter_map(|(attribute, key)| Some((attribute.clone(), Key::unpack(&self.keys.at(*key)?.key))))
            .collect()
    }

    pub(crate) fn key(&self, resource_type: &str, key: &Key) -> KeyState {
        let found = || self.keys.get(self.kind(resource_type)?, &key.pack()?);
        found().map_or_else(KeyState::default, |row| KeyState {
            last: row.last,
            holder: self.id(row.holder).filter(|_| self.exists(row.holder, NOW)),
        })
    }

    /// Who had a key last, when that resource is gone and nobody has it now.
    pub(crate) fn grave(&self, resource_type: &str, key: &Key) -> Option<Grave> {
        let slot = self.keys.get(self.kind(resource_type)?, &key.pack()?)?.grave;
        let row = self.resources.at(slot)?;
        let ended = self.versions.get(row.ended)?;
        Some(Grave {
            id: self.id(slot)?,
            row: self.document_row(slot, row.ended)?,
            deleted_ms: ended.time_ms,
        })
    }

    /// Whether what is derived for a resource (its groups, the names of its members and of whom it names) may have
    /// changed after a sequence. May say yes too often, never no wrongly.
    pub(crate) fn links_changed(&self, id: ResourceId, named: &[ResourceId], after: u64) -> bool {
        let Some(slot) = self.slot(id) else { return true };
        let later = |number: Number| self.versions.get(number).is_some_and(|step| step.sequence > after);
        let newer = |slot: Option<Slot>| {
            let row = slot.and_then(|slot| self.resources.at(slot)).filter(|row| row.is_at(NOW));
            row.is_none_or(|row| later(row.modified))
        };
        let unlinked = |slot: Slot| self.resources.at(slot).is_none_or(|row| later(row.unlinked));
        unlinked(slot)
            || self
                .edges
                .ancestors(slot, NOW)
                .into_iter()
                .any(|(slot, _)| newer(Some(slot)) || unlinked(slot))
            || self.edges.members(slot, NOW).into_iter().any(|slot| newer(Some(slot)))
            || named.iter().any(|id| newer(self.slot(*id)))
    }

    /// The first slot whose resource was created after a sequence.
    pub(crate) fn created_after(&self, sequence: u64) -> Slot {
        let is_before =
            |row: &ResourceRow| self.versions.get(row.created).is_some_and(|step| step.sequence <= sequence);
        self.resources.partition_point(is_before)
    }

    /// At which sequence a slot's resource was created.
    pub(crate) fn born(&self, slot: Slot) -> u64 {
        let born = || Some(self.versions.get(self.resources.at(slot)?.created)?.sequence);
        born().unwrap_or_default()
    }

    /// Resources that were created at a time that satisfies; times ascend with slots.
    pub(crate) fn created_within(&self, low: Option<i64>, high: Option<i64>) -> (Slot, Slot) {
        let time = |row: &ResourceRow| self.versions.get(row.created).map_or(i64::MAX, |step| step.time_ms);
        let first = low.map_or(0, |low| self.resources.partition_point(|row| time(row) < low));
        let end = high.map_or(u32::MAX, |high| self.resources.partition_point(|row| time(row) <= high));
        (first, end.min(u32::try_from(self.resources.len()).unwrap_or(u32::MAX)))
    }

    pub(crate) fn edges(&self) -> &Edges {
        &self.edges
    }

    pub(crate) fn values(&self) -> &Values {
        &self.values
    }

    pub(crate) fn versions(&self) -> &Versions {
        &self.versions
    }

    /// Another's events that changed resources, from an event on.
    pub(crate) fn touches_from(&self, first: Number) -> impl Iterator<Item = (Number, Slot)> {
        let index = self.touches.partition_point(|touch| touch.at < first);
        self.touches.from(index).map(|(_, touch)| (touch.at, touch.slot))
    }

    /// Another's events that changed a resource, the last one first.
    pub(crate) fn touches_of(&self, slot: Slot) -> impl Iterator<Item = Number> {
        let first = self.resources.at(slot).and_then(|row| self.touches.at(row.touched));
        let touches = std::iter::successors(first, |touch| self.touches.at(touch.previous));
        touches.map(|touch| touch.at)
    }

    /// The events that a resource which exists at a moment cannot do without: its first, and the one with its document.
    pub(crate) fn base(&self, slot: Slot, at: Number) -> Option<[Number; 2]> {
        let row = self.resources.at(slot).filter(|row| row.is_at(at))?;
        Some([row.created, self.versions.last_until(row.last, at)?.1.document])
    }

    /// A resource's own events until a moment.
    pub(crate) fn own_events(&self, slot: Slot, until: Number) -> Vec<Number> {
        let first = self.last_event(slot, until);
        let earlier = |(_, step): &(Number, Step)| Some((step.previous, *self.versions.get(step.previous)?));
        std::iter::successors(first, earlier).map(|(number, _)| number).collect()
    }

    /// The event with the last document of a resource that is gone, while nobody else has had its key since.
    pub(crate) fn buried(&self, slot: Slot) -> Option<Number> {
        let row = self.resources.at(slot)?;
        let is_grave = self.keys.at(row.key).is_some_and(|key| key.grave == slot);
        Some(self.versions.last_until(row.last, row.ended)?.1.document).filter(|_| is_grave)
    }

    /// The last event of a resource until a moment.
    pub(crate) fn last_event(&self, slot: Slot, until: Number) -> Option<(Number, Step)> {
        let (number, step) = self.versions.last_until(self.resources.at(slot)?.last, until)?;
        Some((number, *step))
    }

    /// What a resource is called at a moment, or was at its end.
    pub(crate) fn last_display(&self, slot: Slot, at: Number) -> Option<&str> {
        let ended = self.resources.at(slot)?.ended;
        self.display(slot, if ended <= at { ended.saturating_sub(1) } else { at })
    }

    /// The same as bytes.
    pub(crate) fn display_bytes(&self, slot: Slot, at: Number) -> Option<&[u8]> {
        self.values.bytes_of_value(slot, DISPLAY, at)
    }

    /// What a resource is called at a moment.
    pub(crate) fn display(&self, slot: Slot, at: Number) -> Option<&str> {
        self.values.value(slot, DISPLAY, at)
    }

    /// The resources of a type.
    pub(crate) fn of_type(&self, resource_type: &str) -> Option<&TypeList> {
        self.types.get(usize::from(self.kind(resource_type)?))
    }

    /// How many values are still to be put in order before indexes are asked.
    pub(crate) fn waiting(&self) -> usize {
        self.values.waiting()
    }

    /// Puts the indexes in order.
    pub(crate) fn settle(&mut self) {
        self.values.settle();
    }

    /// Takes orders over that were made of a copy of the values, unless the tenant was dropped since then.
    pub(crate) fn adopt(&mut self, erased: u64, ordered: Ordered) {
        if erased == self.erased {
            self.values.adopt(ordered);
        }
    }

    /// The moment of a sequence: its event, or the last before it.
    pub(crate) fn at_sequence(&self, sequence: u64) -> Option<Number> {
        self.versions.at_sequence(sequence)
    }

    /// The moment of an instant: the last event that is not later.
    pub(crate) fn at_time(&self, time: Timestamp) -> Option<Number> {
        self.versions.at_time(time.as_millisecond())
    }

    /// The last sequence at which somebody was erased, or the tenant dropped: what was kept elsewhere before must go.
    pub(crate) fn erased(&self) -> u64 {
        self.erased
    }

    /// Log time of the last event.
    pub(crate) fn last_time(&self) -> Option<Timestamp> {
        let last = u32::try_from(self.versions.len()).ok()?.checked_sub(1);
        let last = last.and_then(|last| self.versions.get(last)).map(|step| step.time_ms);
        Timestamp::from_millisecond(last.or(self.dropped_ms)?).ok()
    }

    /// How many rows were applied since the tenant began, or began anew.
    pub(crate) fn rows_applied(&self) -> u64 {
        self.rows_applied
    }

    /// How many events there are, so that moments are smaller numbers.
    pub(crate) fn rows(&self) -> usize {
        self.versions.len()
    }

    /// How many resources there are and were.
    pub(crate) fn resource_count(&self) -> usize {
        self.resources.len()
    }

    /// About how much memory each part takes, in bytes.
    pub(crate) fn memory(&self) -> [(&'static str, usize); 5] {
        let types: usize = self.types.iter().map(TypeList::bytes).sum();
        [
            ("events", self.versions.0.bytes() + self.touches.bytes()),
            ("resources", self.resources.bytes() + self.by_id.capacity() * 5 + types),
            ("keys", self.keys.bytes()),
            ("values", self.values.bytes()),
            ("edges", self.edges.edges.bytes() + self.edges.ends.bytes()),
        ]
    }
}

/// A life begins under an id, which mostly nobody had before.
fn begin_life(
    (by_id, earlier): (&mut HashTable<Slot>, &mut BTreeMap<Slot, Slot>),
    resources: &Column<ResourceRow>,
    slot: Slot,
    id: &[u8; 16],
) {
    let same = |slot: &Slot| resources.at(*slot).is_some_and(|row| row.id == *id);
    match by_id.find_mut(hash(id), same) {
        Some(known) => {
            earlier.insert(slot, std::mem::replace(known, slot));
        }
        None => {
            by_id.insert_unique(hash(id), slot, |slot| resources.at(*slot).map_or(0, |row| hash(&row.id)));
        }
    }
}

/// An id's last bytes are chance.
fn hash(id: &[u8; 16]) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&id[8..]);
    keys::mix(u64::from_le_bytes(bytes))
}
