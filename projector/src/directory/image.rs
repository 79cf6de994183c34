//! A directory that stands still, to be written down and read again.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashTable;

use super::edges::Edges;
use super::keys::{KeyRow, Keys};
use super::resource::{ResourceRow, Touch};
use super::types::TypeList;
use super::values::Values;
use super::versions::{Number, Versions};
use super::{Directory, NOW, Slot, hash};
use crate::index::Indexes;
use crate::table::{Column, Plain};

/// Taken in no time, whatever the size of the directory: it shares what is not changed meanwhile.
pub(crate) struct Image {
    kinds: Vec<String>,
    sources: Vec<String>,
    versions: Versions,
    resources: Column<ResourceRow>,
    touches: Column<Touch>,
    keys: Column<KeyRow>,
    claims: BTreeMap<Slot, BTreeMap<String, Number>>,
    values: Values,
    edges: Edges,
    applied: u64,
}

impl Image {
    pub(crate) fn of(directory: &Directory) -> Self {
        Self {
            kinds: directory.kinds.clone(),
            sources: directory.sources.clone(),
            versions: directory.versions.clone(),
            resources: directory.resources.clone(),
            touches: directory.touches.clone(),
            keys: directory.keys.rows.clone(),
            claims: directory.claims.clone(),
            values: directory.values.clone(),
            edges: directory.edges.clone(),
            applied: directory.applied,
        }
    }

    /// How many rows it was made of.
    pub(crate) fn rows(&self) -> u64 {
        self.versions.len() as u64
    }

    /// The last sequence in it.
    pub(crate) fn applied(&self) -> u64 {
        self.applied
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.applied.put(&mut bytes);
        write_texts(self.kinds.iter(), &mut bytes);
        write_texts(self.sources.iter(), &mut bytes);
        self.versions.0.write(&mut bytes);
        self.resources.write(&mut bytes);
        self.touches.write(&mut bytes);
        self.keys.write(&mut bytes);
        let claims = self
            .claims
            .iter()
            .flat_map(|(slot, of_slot)| of_slot.iter().map(move |(attribute, key)| (*slot, attribute, *key)));
        let (mut attributes, mut numbers) = (Vec::new(), Column::<u64>::default());
        for (slot, attribute, key) in claims {
            attributes.push(attribute);
            numbers.push(u64::from(slot) << 32 | u64::from(key));
        }
        write_texts(attributes.into_iter(), &mut bytes);
        numbers.write(&mut bytes);
        self.values.write(&mut bytes);
        self.edges.edges.write(&mut bytes);
        self.edges.ends.write(&mut bytes);
        bytes
    }

    /// Reads what [`Image::write`] wrote; nothing when it is anything else.
    pub(crate) fn read(mut bytes: &[u8]) -> Option<Self> {
        let bytes = &mut bytes;
        let applied = u64::take(bytes)?;
        let kinds = read_texts(bytes)?;
        let sources = read_texts(bytes)?;
        let versions = Versions(Column::read(bytes)?);
        let resources = Column::read(bytes)?;
        let touches = Column::read(bytes)?;
        let keys = Column::read(bytes)?;
        let (attributes, numbers) = (read_texts(bytes)?, Column::<u64>::read(bytes)?);
        let mut claims: BTreeMap<Slot, BTreeMap<String, Number>> = BTreeMap::new();
        for (attribute, number) in attributes.into_iter().zip(numbers.iter()) {
            let (slot, key) = (u32::try_from(number >> 32).ok()?, u32::try_from(number & 0xFFFF_FFFF).ok()?);
            claims.entry(slot).or_default().insert(attribute, key);
        }
        let values = Values::read(bytes)?;
        let edges = Edges { edges: Column::read(bytes)?, ends: Column::read(bytes)? };
        bytes.is_empty().then_some(Self {
            kinds,
            sources,
            versions,
            resources,
            touches,
            keys,
            claims,
            values,
            edges,
            applied,
        })
    }

    /// The directory that it is an image of; the indexes must be the same.
    pub(crate) fn into_directory(self, indexes: Arc<Indexes>) -> Directory {
        let mut types = vec![TypeList::default(); self.kinds.len()];
        let mut by_id: HashTable<Slot> = HashTable::with_capacity(self.resources.len());
        for (slot, row) in self.resources.from(0) {
            if let Some(list) = types.get_mut(usize::from(row.kind)) {
                list.push(slot);
                if !row.is_at(NOW) {
                    list.end(slot);
                }
            }
            let same = |other: &Slot| self.resources.at(*other).is_some_and(|other| other.id == row.id);
            // Only of those that are gone can there be another with the same id.
            match by_id.find_mut(hash(&row.id), same) {
                Some(known) => *known = slot,
                None => {
                    by_id.insert_unique(hash(&row.id), slot, |_| 0);
                }
            }
        }
        let mut values = self.values;
        let open = values.postings().filter(|posting| posting.is_at(NOW)).copied();
        for posting in open.collect::<Vec<_>>() {
            let kind = self.resources.at(posting.slot).map_or(u8::MAX, |row| row.kind);
            values.count(posting.column, kind, true);
        }
        Directory {
            indexes,
            kinds: self.kinds,
            sources: self.sources,
            versions: self.versions,
            resources: self.resources,
            by_id,
            touches: self.touches,
            keys: Keys::of(self.keys),
            claims: self.claims,
            values,
            edges: self.edges,
            types,
            applied: self.applied,
        }
    }
}

pub(super) fn write_texts<'a>(texts: impl ExactSizeIterator<Item = &'a String>, bytes: &mut Vec<u8>) {
    (texts.len() as u64).put(bytes);
    for text in texts {
        (text.len() as u64).put(bytes);
        bytes.extend_from_slice(text.as_bytes());
    }
}

pub(super) fn read_texts(bytes: &mut &[u8]) -> Option<Vec<String>> {
    let count = u64::take(bytes)?;
    (0..count)
        .map(|_| {
            let length = usize::try_from(u64::take(bytes)?).ok()?;
            let (text, rest) = bytes.split_at_checked(length)?;
            *bytes = rest;
            String::from_utf8(text.to_vec()).ok()
        })
        .collect()
}
