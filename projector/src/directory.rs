//! One tenant's directory in memory: who exists, who holds which key, which values lead to whom. `apply` is the only
//! way in, and gives the same result the second time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use proto::subject::Key;
use proto::{At, Body, KeyRef, Kind, ResourceId};
use serde_json::Value;

use crate::edges::{Edges, Slot};
use crate::index::{Indexes, Term};
use crate::row::ReadRow;

/// What is known of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyState {
    /// The last sequence on its subject: the guard of the next event there; 0 for a key never used.
    pub last: u64,
    /// Who has it.
    pub holder: Option<ResourceId>,
}

/// One resource.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) id: ResourceId,
    pub(crate) resource_type: String,
    pub(crate) key: Key,
    pub(crate) key_ref: Option<KeyRef>,
    /// The row that holds its document.
    pub(crate) row: u64,
    pub(crate) created: At,
    pub(crate) modified: At,
    pub(crate) display: Option<String>,
    /// The last sequence at which it left a group, or a group of it ended: what is derived for it changed then.
    pub(crate) unlinked: u64,
    /// The keys of its further unique values, by attribute.
    pub(crate) claims: BTreeMap<String, Key>,
    terms: Arc<[Term]>,
}

/// What a key leads to.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    last: u64,
    holder: Option<Slot>,
    /// Who had it last and is gone.
    grave: Option<Grave>,
}

/// A resource that is gone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grave {
    pub(crate) id: ResourceId,
    /// The row that holds its last document.
    pub(crate) row: u64,
    pub(crate) deleted: At,
}

#[derive(Debug)]
pub(crate) struct Directory {
    indexes: Arc<Indexes>,
    entries: Vec<Option<Entry>>,
    /// At which sequence each slot's resource was created: ascending.
    births: Vec<u64>,
    slots: BTreeMap<ResourceId, Slot>,
    keys: BTreeMap<(String, Key), Held>,
    terms: BTreeMap<Term, BTreeSet<Slot>>,
    by_type: BTreeMap<String, BTreeSet<Slot>>,
    edges: Edges,
    applied: u64,
}

impl Directory {
    pub(crate) fn new(indexes: Arc<Indexes>) -> Self {
        Self {
            indexes,
            entries: Vec::new(),
            births: Vec::new(),
            slots: BTreeMap::new(),
            keys: BTreeMap::new(),
            terms: BTreeMap::new(),
            by_type: BTreeMap::new(),
            edges: Edges::default(),
            applied: 0,
        }
    }

    /// Applies one event; one that was applied before changes nothing.
    pub(crate) fn apply(&mut self, read: &ReadRow) {
        let (event, at) = (&read.event, read.at());
        if at.position.sequence <= self.applied {
            return;
        }
        self.applied = at.position.sequence;
        let key = (event.resource_type.clone(), read.row.key.clone());
        self.keys.entry(key.clone()).or_default().last = at.position.sequence;
        let slot = self.slots.get(&event.resource_id).copied();
        match (&event.kind, slot) {
            (Kind::Created { members_added }, None) => {
                let slot = self.insert(read, at);
                self.take_key(key, slot);
                self.add_members(slot, members_added);
            }
            (Kind::Updated { members_added, members_removed }, Some(slot)) => {
                self.take_key(key, slot);
                self.update(slot, read, at);
                self.remove_members(slot, members_removed);
                self.add_members(slot, members_added);
            }
            (Kind::MembersChanged { added, removed }, Some(slot)) => {
                let changed = self.remove_members(slot, removed) | self.add_members(slot, added);
                if changed {
                    self.touch(slot, at);
                }
            }
            (Kind::Deleted, Some(slot)) => self.delete(slot, at),
            (Kind::Moved { .. }, _) => self.keys.entry(key).or_default().holder = None,
            (Kind::Claimed { attribute }, Some(slot)) => {
                self.take_key(key.clone(), slot);
                if let Some(entry) = self.entry_mut(slot) {
                    entry.claims.insert(attribute.clone(), key.1);
                }
            }
            (Kind::Released { attribute }, slot) => {
                if let Some(entry) = slot.and_then(|slot| self.entry_mut(slot))
                    && entry.claims.get(attribute) == Some(&key.1)
                {
                    entry.claims.remove(attribute);
                }
                self.keys.entry(key).or_default().holder = None;
            }
            (Kind::TenantDropped, _) => {
                *self = Self { applied: self.applied, ..Self::new(self.indexes.clone()) };
            }
            (Kind::CredentialsChanged | Kind::Erased, _)
            | (Kind::Created { .. }, Some(_))
            | (
                Kind::Updated { .. } | Kind::MembersChanged { .. } | Kind::Deleted | Kind::Claimed { .. },
                None,
            ) => {}
        }
    }

    fn take_key(&mut self, key: (String, Key), slot: Slot) {
        let held = self.keys.entry(key).or_default();
        held.holder = Some(slot);
        held.grave = None;
    }

    fn insert(&mut self, read: &ReadRow, at: At) -> Slot {
        let event = &read.event;
        let slot = Slot::try_from(self.entries.len()).unwrap_or(Slot::MAX);
        self.entries.push(Some(Entry {
            id: event.resource_id,
            resource_type: event.resource_type.clone(),
            key: read.row.key.clone(),
            key_ref: event.key_ref,
            row: at.position.sequence,
            created: at,
            modified: at,
            display: None,
            unlinked: 0,
            claims: BTreeMap::new(),
            terms: Arc::default(),
        }));
        self.births.push(at.position.sequence);
        self.slots.insert(event.resource_id, slot);
        self.by_type.entry(event.resource_type.clone()).or_default().insert(slot);
        self.index(slot, read.body.as_deref());
        slot
    }

    fn update(&mut self, slot: Slot, read: &ReadRow, at: At) {
        if let Some(entry) = self.entry_mut(slot) {
            entry.key = read.row.key.clone();
            entry.row = at.position.sequence;
            entry.modified = at;
        }
        self.index(slot, read.body.as_deref());
    }

    fn touch(&mut self, slot: Slot, at: At) {
        if let Some(entry) = self.entry_mut(slot) {
            entry.modified = at;
        }
    }

    fn unlink(&mut self, slot: Slot, sequence: u64) {
        if let Some(entry) = self.entry_mut(slot) {
            entry.unlinked = sequence;
        }
    }

    fn delete(&mut self, slot: Slot, at: At) {
        self.index(slot, None);
        let members: Vec<Slot> = self.edges.members(slot).collect();
        for member in members {
            self.unlink(member, at.position.sequence);
        }
        for group in self.edges.end(slot) {
            self.touch(group, at);
        }
        let Some(entry) =
            self.entries.get_mut(usize::try_from(slot).unwrap_or(usize::MAX)).and_then(Option::take)
        else {
            return;
        };
        self.slots.remove(&entry.id);
        if let Some(slots) = self.by_type.get_mut(&entry.resource_type) {
            slots.remove(&slot);
        }
        for key in entry.claims.into_values() {
            if let Some(held) = self.keys.get_mut(&(entry.resource_type.clone(), key)) {
                held.holder = None;
            }
        }
        if let Some(held) = self.keys.get_mut(&(entry.resource_type, entry.key)) {
            held.holder = None;
            held.grave = Some(Grave { id: entry.id, row: entry.row, deleted: at });
        }
    }

    fn index(&mut self, slot: Slot, body: Option<&Body>) {
        let terms: Arc<[Term]> = body.map(|body| self.indexes.terms(body)).unwrap_or_default().into();
        let display = body
            .and_then(|body| body.document.get("displayName"))
            .and_then(Value::as_str)
            .map(str::to_string);
        let Some(entry) = self.entry_mut(slot) else { return };
        entry.display = display;
        let old = std::mem::replace(&mut entry.terms, terms.clone());
        for term in old.iter() {
            if let Some(slots) = self.terms.get_mut(term) {
                slots.remove(&slot);
                if slots.is_empty() {
                    self.terms.remove(term);
                }
            }
        }
        for term in terms.iter() {
            self.terms.entry(term.clone()).or_default().insert(slot);
        }
    }

    /// Edges whose member is not alive at this sequence are ignored: such events commute with its deletion.
    fn add_members(&mut self, group: Slot, members: &[ResourceId]) -> bool {
        let mut changed = false;
        for id in members {
            if let Some(member) = self.slots.get(id).copied()
                && member != group
            {
                changed |= self.edges.add(group, member);
            }
        }
        changed
    }

    fn remove_members(&mut self, group: Slot, members: &[ResourceId]) -> bool {
        let mut changed = false;
        for id in members {
            if let Some(member) = self.slots.get(id).copied() {
                changed |= self.edges.remove(group, member);
                self.unlink(member, self.applied);
            }
        }
        changed
    }

    /// The log says that an event has another time than it was applied with. Rare, so everybody is looked at.
    pub(crate) fn correct(&mut self, sequence: u64, time: Timestamp) {
        let entries = self.entries.iter_mut().flatten();
        let graves = self.keys.values_mut().filter_map(|held| held.grave.as_mut());
        let times = entries.flat_map(|entry| [&mut entry.created, &mut entry.modified]);
        for at in times.chain(graves.map(|grave| &mut grave.deleted)) {
            if at.position.sequence == sequence {
                at.time = time;
            }
        }
    }

    fn entry_mut(&mut self, slot: Slot) -> Option<&mut Entry> {
        self.entries.get_mut(usize::try_from(slot).ok()?)?.as_mut()
    }

    pub(crate) fn at(&self, slot: Slot) -> Option<&Entry> {
        self.entries.get(usize::try_from(slot).ok()?)?.as_ref()
    }

    pub(crate) fn get(&self, id: ResourceId) -> Option<&Entry> {
        self.at(self.slot(id)?)
    }

    pub(crate) fn slot(&self, id: ResourceId) -> Option<Slot> {
        self.slots.get(&id).copied()
    }

    pub(crate) fn key(&self, resource_type: &str, key: &Key) -> KeyState {
        let found = self.keys.get(&(resource_type.to_string(), key.clone()));
        let Held { last, holder, .. } = found.copied().unwrap_or_default();
        KeyState { last, holder: holder.and_then(|slot| self.at(slot)).map(|entry| entry.id) }
    }

    /// Who had a key last, when that resource is gone and nobody has it now.
    pub(crate) fn grave(&self, resource_type: &str, key: &Key) -> Option<Grave> {
        self.keys.get(&(resource_type.to_string(), key.clone()))?.grave
    }

    pub(crate) fn indexes(&self) -> &Indexes {
        &self.indexes
    }

    /// Whether what is derived for a resource (its groups, the names of its members and of whom it names) may have
    /// changed after a sequence. May say yes too often, never no wrongly.
    pub(crate) fn links_changed(&self, id: ResourceId, named: &[ResourceId], after: u64) -> bool {
        let Some(slot) = self.slot(id) else { return true };
        let newer =
            |entry: Option<&Entry>| entry.is_none_or(|entry| entry.modified.position.sequence > after);
        let unlinked = |slot: Slot| self.at(slot).is_none_or(|entry| entry.unlinked > after);
        unlinked(slot)
            || self.edges.ancestors(slot).into_keys().any(|slot| newer(self.at(slot)) || unlinked(slot))
            || self.edges.members(slot).any(|slot| newer(self.at(slot)))
            || named.iter().any(|id| newer(self.get(*id)))
    }

    /// The first slot whose resource was created after a sequence.
    pub(crate) fn created_after(&self, sequence: u64) -> Slot {
        Slot::try_from(self.births.partition_point(|birth| *birth <= sequence)).unwrap_or(Slot::MAX)
    }

    /// At which sequence a slot's resource was created.
    pub(crate) fn born(&self, slot: Slot) -> u64 {
        let found = usize::try_from(slot).ok().and_then(|slot| self.births.get(slot));
        found.copied().unwrap_or_default()
    }

    pub(crate) fn edges(&self) -> &Edges {
        &self.edges
    }

    /// Slots that a term leads to, in the order of creation.
    pub(crate) fn having(&self, term: &Term) -> Vec<Slot> {
        self.terms.get(term).into_iter().flatten().copied().collect()
    }

    /// Slots of a type, in the order of creation.
    pub(crate) fn of_type(&self, resource_type: &str) -> Option<&BTreeSet<Slot>> {
        self.by_type.get(resource_type)
    }
}
