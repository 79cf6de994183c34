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
use super::{Directory, NOW, Slot, begin_life};
use crate::fragments::Fragments;
use crate::index::Indexes;
use crate::table::{Column, Input, Output};

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
    rows: u64,
    erased: u64,
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
            rows: directory.rows_applied,
            erased: directory.erased,
        }
    }

    /// How many rows it was made of.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// The last sequence in it.
    pub(crate) fn applied(&self) -> u64 {
        self.applied
    }

    pub(crate) fn write(&self, output: &mut Output<'_>) {
        output.put(self.applied);
        output.put(self.rows);
        output.put(self.erased);
        write_texts(self.kinds.iter(), output);
        write_texts(self.sources.iter(), output);
        self.versions.0.write(output);
        self.resources.write(output);
        self.touches.write(output);
        self.keys.write(output);
        let count: usize = self.claims.values().map(BTreeMap::len).sum();
        output.put(count as u64);
        for (slot, claims) in &self.claims {
            for (attribute, key) in claims {
                output.put(*slot);
                output.put(*key);
                write_texts(std::iter::once(attribute), output);
                output.spill();
            }
        }
        self.values.write(output);
        self.edges.edges.write(output);
        self.edges.ends.write(output);
    }

    /// Reads what [`Image::write`] wrote; nothing when it is anything else.
    pub(crate) fn read(input: &mut Input<'_>) -> Option<Self> {
        let (applied, rows, erased) = (input.take()?, input.take()?, input.take()?);
        let kinds = read_texts(input)?;
        let sources = read_texts(input)?;
        let versions = Versions(Column::read(input)?);
        let resources = Column::read(input)?;
        let touches = Column::read(input)?;
        let keys = Column::read(input)?;
        let mut claims: BTreeMap<Slot, BTreeMap<String, Number>> = BTreeMap::new();
        for _ in 0..input.count()? {
            let (slot, key) = (input.take()?, input.take()?);
            let attribute = read_texts(input)?.pop()?;
            claims.entry(slot).or_default().insert(attribute, key);
        }
        let values = Values::read(input)?;
        let edges = Edges { edges: Column::read(input)?, ends: Column::read(input)? };
        let image = Self {
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
            rows,
            erased,
        };
        input.is_finished().then_some(image)
    }

    /// The directory that it is an image of; the indexes must be the same.
    pub(crate) fn into_directory(self, indexes: Arc<Indexes>) -> Directory {
        let mut types = vec![TypeList::default(); self.kinds.len()];
        let mut by_id: HashTable<Slot> = HashTable::with_capacity(self.resources.len());
        let mut earlier = BTreeMap::new();
        for (slot, row) in self.resources.from(0) {
            if let Some(list) = types.get_mut(usize::from(row.kind)) {
                list.push(slot);
                if !row.is_at(NOW) {
                    list.end(slot);
                }
            }
            begin_life((&mut by_id, &mut earlier), &self.resources, slot, &row.id);
        }
        let mut values = self.values;
        values.count_all(|slot| self.resources.at(slot).map_or(u8::MAX, |row| row.kind));
        Directory {
            indexes,
            kinds: self.kinds,
            sources: self.sources,
            versions: self.versions,
            resources: self.resources,
            by_id,
            earlier,
            touches: self.touches,
            keys: Keys::of(self.keys),
            claims: self.claims,
            values,
            edges: self.edges,
            types,
            applied: self.applied,
            rows_applied: self.rows,
            dropped_ms: None,
            erased: self.erased,
            fragments: Fragments::default(),
        }
    }
}

fn write_texts<'a>(texts: impl ExactSizeIterator<Item = &'a String>, output: &mut Output<'_>) {
    output.put(texts.len() as u64);
    for text in texts {
        output.put(text.len() as u64);
        output.bytes.extend_from_slice(text.as_bytes());
    }
}

fn read_texts(input: &mut Input<'_>) -> Option<Vec<String>> {
    (0..input.count()?)
        .map(|_| {
            let length = input.count()?;
            String::from_utf8(input.need(length)?.to_vec()).ok()
        })
        .collect()
}
