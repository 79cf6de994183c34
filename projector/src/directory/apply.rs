//! What an event changes.

use jiff::Timestamp;
use proto::{Kind, ResourceId, Version};

use super::edges::Slot;
use super::resource::{ResourceRow, Touch};
use super::types::TypeList;
use super::versions::{NONE, Number};
use super::{Directory, begin_life};
use crate::row::ReadRow;

impl Directory {
    /// Applies one event; one that was applied before changes nothing. `later`: many more come, so indexes are put in
    /// order afterwards.
    pub(crate) fn apply(&mut self, read: &ReadRow, later: bool) {
        let (event, at) = (&read.event, read.at());
        if at.position.sequence <= self.applied {
            return;
        }
        self.applied = at.position.sequence;
        self.rows_applied += 1;
        if event.kind == Kind::PassedOver && self.kind(&event.resource_type).is_none() {
            // Whoever wrote the message may have made the type up.
            return;
        }
        let kind = self.kind_number(&event.resource_type);
        let Some(packed) = read.row.key.pack() else { return };
        let key = self.keys.number(kind, &packed);
        if let Some(row) = self.keys.at_mut(key) {
            row.last = at.position.sequence;
        }
        let known = self.find(event.resource_id);
        let slot = known.filter(|slot| self.exists(*slot, super::NOW));
        let last = known.and_then(|slot| self.resources.at(slot)).map_or(NONE, |row| row.last);
        let (tail, time_ms) = (Version::new(at.position).tail(), at.time.as_millisecond());
        let number = match (&event.kind, slot) {
            (Kind::Created { .. }, None) => self.insert(read, kind, key, tail, time_ms),
            (_, _) => {
                let place = known.unwrap_or(NONE);
                let number = self.versions.push(at.position.sequence, time_ms, tail, place, last);
                if let Some(row) = known.and_then(|slot| self.resources.at_mut(slot)) {
                    row.last = number;
                }
                number
            }
        };
        match (&event.kind, slot) {
            (Kind::Created { members_added }, None) => {
                let Some(slot) = self.find(event.resource_id) else { return };
                self.take_key(key, slot);
                self.document(slot, number, read, later);
                self.add_members(slot, members_added, number);
                self.counts(slot, number);
            }
            (Kind::Updated { members_added, members_removed }, Some(slot)) => {
                self.take_key(key, slot);
                if let Some(row) = self.resources.at_mut(slot) {
                    row.key = key;
                }
                self.document(slot, number, read, later);
                self.remove_members(slot, members_removed, number);
                self.add_members(slot, members_added, number);
                self.counts(slot, number);
            }
            (Kind::MembersChanged { added, removed }, Some(slot)) => {
                if self.remove_members(slot, removed, number) | self.add_members(slot, added, number) {
                    self.counts(slot, number);
                }
            }
            (Kind::Deleted, Some(slot)) => self.delete(slot, number),
            (Kind::Moved { .. }, _) => self.free_key(key, NONE),
            (Kind::Claimed { attribute }, Some(slot)) => {
                self.take_key(key, slot);
                self.claims.entry(slot).or_default().insert(attribute.clone(), key);
            }
            (Kind::Released { attribute }, slot) => {
                if let Some(claims) = slot.and_then(|slot| self.claims.get_mut(&slot))
                    && claims.get(attribute) == Some(&key)
                {
                    claims.remove(attribute);
                }
                self.free_key(key, NONE);
            }
            (Kind::TenantDropped, _) => {
                let (applied, indexes) = (self.applied, self.indexes.clone());
                let dropped_ms = Some(time_ms);
                *self = Self { applied, rows_applied: 1, dropped_ms, erased: applied, ..Self::new(indexes) };
            }
            (Kind::Erased, _) => {
                self.erased = self.applied;
                self.fragments.wipe();
                for slot in self.lives(event.resource_id).collect::<Vec<_>>() {
                    self.values.wipe(slot, kind);
                }
            }
            (Kind::CredentialsChanged | Kind::PassedOver, _)
            | (Kind::Created { .. }, Some(_))
            | (
                Kind::Updated { .. } | Kind::MembersChanged { .. } | Kind::Deleted | Kind::Claimed { .. },
                None,
            ) => {}
        }
    }

    fn kind_number(&mut self, name: &str) -> u8 {
        if let Some(kind) = self.kind(name) {
            return kind;
        }
        self.kinds.push(name.to_string());
        self.types.push(TypeList::default());
        u8::try_from(self.kinds.len() - 1).unwrap_or(u8::MAX)
    }

    fn insert(&mut self, read: &ReadRow, kind: u8, key: Number, tail: u32, time_ms: i64) -> Number {
        let id = *read.event.resource_id.as_bytes();
        let slot = u32::try_from(self.resources.len()).unwrap_or(u32::MAX);
        let number = self.versions.push(read.row.sequence, time_ms, tail, slot, NONE);
        self.resources.push(ResourceRow {
            id,
            kind,
            key,
            created: number,
            last: number,
            modified: number,
            ended: NONE,
            unlinked: NONE,
            touched: NONE,
        });
        self.values.grow();
        self.edges.grow();
        if let Some(list) = self.types.get_mut(usize::from(kind)) {
            list.push(slot);
        }
        let lives = (&mut self.by_id, &mut self.earlier);
        begin_life(lives, &self.resources, slot, &id);
        number
    }

    fn take_key(&mut self, key: Number, slot: Slot) {
        if let Some(row) = self.keys.at_mut(key) {
            (row.holder, row.grave) = (slot, NONE);
        }
    }

    fn free_key(&mut self, key: Number, grave: Slot) {
        if let Some(row) = self.keys.at_mut(key) {
            row.holder = NONE;
            if grave != NONE {
                row.grave = grave;
            }
        }
    }

    /// The event holds the document from here on.
    fn document(&mut self, slot: Slot, number: Number, read: &ReadRow, later: bool) {
        if let Some(step) = self.versions.get_mut(number) {
            step.document = number;
        }
        let first = self.indexes.first_source();
        let mut values: Vec<(u16, &str)> = Vec::with_capacity(read.values.len() + 1);
        values.extend(read.values.iter().map(|(column, text)| (*column, text.as_str())));
        for (source, id) in read.external_ids() {
            let known = self.sources.iter().position(|known| known == source).unwrap_or_else(|| {
                self.sources.push(source.to_string());
                self.sources.len() - 1
            });
            values.push((first + u16::try_from(known).unwrap_or(u16::MAX / 2), id));
        }
        self.values.set(slot, self.kind_at(slot), number, &values, later);
    }

    /// The event changed what a client reads of the resource.
    fn counts(&mut self, slot: Slot, number: Number) {
        if let Some(step) = self.versions.get_mut(number) {
            step.counts = 1;
        }
        if let Some(row) = self.resources.at_mut(slot) {
            row.modified = number;
        }
    }

    /// An event of another resource changed what a client reads of this one.
    fn touch(&mut self, slot: Slot, at: Number) {
        let Some(row) = self.resources.at_mut(slot) else { return };
        row.modified = at;
        row.touched = self.touches.push(Touch { at, slot, previous: row.touched });
    }

    fn unlink(&mut self, slot: Slot, number: Number) {
        if let Some(row) = self.resources.at_mut(slot) {
            row.unlinked = number;
        }
    }

    fn delete(&mut self, slot: Slot, number: Number) {
        self.values.set(slot, self.kind_at(slot), number, &[] as &[(u16, String)], false);
        let (members, groups) = self.edges.end(slot, number);
        for member in members {
            self.unlink(member, number);
        }
        for group in groups {
            self.touch(group, number);
        }
        self.counts(slot, number);
        let Some(row) = self.resources.at_mut(slot) else { return };
        row.ended = number;
        let (key, kind) = (row.key, row.kind);
        if let Some(list) = self.types.get_mut(usize::from(kind)) {
            list.end(slot);
        }
        for key in self.claims.remove(&slot).unwrap_or_default().into_values() {
            self.free_key(key, NONE);
        }
        self.free_key(key, slot);
    }

    /// Edges whose member is not alive at this event are ignored: such events commute with its deletion.
    fn add_members(&mut self, group: Slot, members: &[ResourceId], number: Number) -> bool {
        let slots = members.iter().filter_map(|id| self.slot(*id)).filter(|member| *member != group);
        let slots: Vec<Slot> = slots.collect();
        self.edges.add(group, &slots, number)
    }

    fn remove_members(&mut self, group: Slot, members: &[ResourceId], number: Number) -> bool {
        let mut changed = false;
        for id in members {
            if let Some(member) = self.slot(*id) {
                changed |= self.edges.remove(group, member, number);
                self.unlink(member, number);
            }
        }
        changed
    }

    /// The log says that an event has another time than it was applied with.
    pub(crate) fn correct(&mut self, sequence: u64, time: Timestamp) {
        if let Some(number) = self.versions.exactly(sequence)
            && let Some(step) = self.versions.get_mut(number)
        {
            step.time_ms = time.as_millisecond();
        } else if sequence == self.applied {
            self.dropped_ms = self.dropped_ms.map(|_| time.as_millisecond());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Told;
    use crate::writer::tests::told;

    /// Types have numbers of one byte.
    #[test]
    fn what_is_passed_over_uses_up_no_types() {
        let mut directory = Directory::new(Default::default());
        let tenant = "corp".parse().unwrap();
        for sequence in 1..400 {
            let Told::New { mut read, .. } = told(&tenant, sequence, Kind::PassedOver, Vec::new()) else {
                unreachable!("news are told")
            };
            read.event.resource_type = format!("Made{sequence}");
            directory.apply(&read, false);
        }
        for (sequence, name) in [(400, "User"), (401, "Group")] {
            let kind = Kind::Created { members_added: Vec::new() };
            let Told::New { mut read, .. } = told(&tenant, sequence, kind, Vec::new()) else {
                unreachable!("news are told")
            };
            read.event.resource_type = name.to_string();
            directory.apply(&read, false);
            let slot = directory.slot(read.event.resource_id).unwrap();
            assert_eq!(directory.type_at(slot), name);
        }
        assert_eq!(directory.kinds, ["User", "Group"]);
    }
}
