//! The keys of unique values: who holds each, and the last sequence on its subject.

use hashbrown::HashTable;
use proto::subject::PackedKey;

use super::edges::Slot;
use super::versions::{NONE, Number};
use crate::table::{Column, plain_struct};

/// A key of a resource type.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyRow {
    pub(crate) key: PackedKey,
    /// The resource type's number.
    pub(crate) kind: u8,
    /// The last sequence on its subject.
    pub(crate) last: u64,
    /// Who has it.
    pub(crate) holder: Slot,
    /// Who had it last and is gone, when nobody has it.
    pub(crate) grave: Slot,
}

plain_struct!(KeyRow { key: PackedKey, kind: u8, last: u64, holder: u32, grave: u32 });

#[derive(Clone, Debug, Default)]
pub(crate) struct Keys {
    pub(super) rows: Column<KeyRow>,
    by_key: HashTable<Number>,
}

impl Keys {
    /// With these rows.
    pub(crate) fn of(rows: Column<KeyRow>) -> Self {
        let mut by_key = HashTable::with_capacity(rows.len());
        for (number, row) in rows.from(0) {
            by_key.insert_unique(hash(row.kind, &row.key), number, |_| 0);
        }
        Self { rows, by_key }
    }

    pub(crate) fn get(&self, kind: u8, key: &PackedKey) -> Option<&KeyRow> {
        self.rows.at(self.find(kind, key)?)
    }

    pub(crate) fn at(&self, number: Number) -> Option<&KeyRow> {
        self.rows.at(number)
    }

    pub(crate) fn at_mut(&mut self, number: Number) -> Option<&mut KeyRow> {
        self.rows.at_mut(number)
    }

    fn find(&self, kind: u8, key: &PackedKey) -> Option<Number> {
        let same =
            |number: &Number| self.rows.at(*number).is_some_and(|row| row.kind == kind && row.key == *key);
        self.by_key.find(hash(kind, key), same).copied()
    }

    /// The number of a key, new or not.
    pub(crate) fn number(&mut self, kind: u8, key: &PackedKey) -> Number {
        if let Some(number) = self.find(kind, key) {
            return number;
        }
        let number = self.rows.push(KeyRow { key: *key, kind, last: 0, holder: NONE, grave: NONE });
        let rows = &self.rows;
        let rehash = |number: &Number| rows.at(*number).map_or(0, |row| hash(row.kind, &row.key));
        self.by_key.insert_unique(hash(kind, key), number, rehash);
        number
    }

    pub(crate) fn bytes(&self) -> usize {
        self.rows.bytes() + self.by_key.capacity() * 5
    }
}

/// Keys are keyed hashes or hold chance, so any of their bytes will do.
fn hash(kind: u8, key: &PackedKey) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&key[9..]);
    mix(u64::from_le_bytes(bytes) ^ u64::from(kind))
}

/// Spreads a number that holds some chance over all bits.
pub(crate) fn mix(number: u64) -> u64 {
    number.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(26)
}
