//! The store's twin in memory, for simulations: it outlives the projection that writes it, and a crash takes away what was
//! not flushed, from the end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use proto::Tenant;

use super::{Doubt, Facts, LAYOUT};
use crate::row::Row;

/// A store that outlives whoever opened it. Clones are the same store.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore(Arc<Mutex<Held>>);

#[derive(Debug, Default)]
struct Held {
    rows: BTreeMap<Tenant, BTreeMap<u64, Bytes>>,
    facts: Option<Facts>,
    /// What was written since the last flush, in order, and undoes it.
    unflushed: Vec<Undo>,
    /// Who may write: the last who opened it.
    opened: u64,
}

#[derive(Debug)]
enum Undo {
    Rows(Tenant, Vec<u64>),
    Facts(Option<Facts>),
}

/// A store in use.
pub(crate) struct Opened {
    store: MemoryStore,
    /// Who was killed may still be about to write; the store is another's then.
    number: u64,
}

impl MemoryStore {
    /// Its process is killed: of what was not flushed, only this share of the writes (in a thousand) is kept, the first
    /// ones. Whoever has it open writes no more.
    pub fn crash(&self, kept_per_mille: u64) {
        let mut held = self.lock();
        held.opened += 1;
        let count = held.unflushed.len() as u64;
        let kept = usize::try_from(count * kept_per_mille.min(1000) / 1000).unwrap_or(usize::MAX);
        while held.unflushed.len() > kept
            && let Some(undo) = held.unflushed.pop()
        {
            match undo {
                Undo::Facts(before) => held.facts = before,
                Undo::Rows(tenant, sequences) => {
                    let rows = held.rows.entry(tenant).or_default();
                    rows.retain(|sequence, _| !sequences.contains(sequence));
                }
            }
        }
        held.unflushed.clear();
    }

    /// Another store that holds the same.
    pub fn copy(&self) -> Self {
        let held = self.lock();
        let (rows, facts) = (held.rows.clone(), held.facts.clone());
        Self(Arc::new(Mutex::new(Held { rows, facts, ..Held::default() })))
    }

    /// Forgets everything, as one does with a store that cannot be trusted.
    pub(crate) fn clear(&self) {
        let opened = self.lock().opened;
        *self.lock() = Held { opened, ..Held::default() };
    }

    pub(super) fn open(&self) -> (Opened, Facts) {
        let mut held = self.lock();
        held.opened += 1;
        let opened = Opened { store: self.clone(), number: held.opened };
        (opened, held.facts.clone().unwrap_or(Facts { layout: LAYOUT, ..Facts::default() }))
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Opened {
    pub(super) fn facts(&self) -> Facts {
        self.store.lock().facts.clone().unwrap_or_default()
    }

    pub(super) fn range(
        &self,
        tenant: &Tenant,
        from: u64,
        to: u64,
        mut each: impl FnMut(Row) -> bool,
    ) -> Result<(), Doubt> {
        for (sequence, bytes) in self.store.lock().rows.get(tenant).into_iter().flatten() {
            if *sequence < from {
                continue;
            }
            if *sequence > to {
                break;
            }
            let row = Row::from_bytes(*sequence, bytes);
            if !each(row.ok_or_else(|| Doubt(format!("a row of tenant {tenant} cannot be read")))?) {
                break;
            }
        }
        Ok(())
    }

    pub(super) fn get(&self, tenant: &Tenant, sequence: u64) -> Option<Row> {
        Row::from_bytes(sequence, self.store.lock().rows.get(tenant)?.get(&sequence)?)
    }

    pub(super) fn write(&self, rows: &BTreeMap<Tenant, Vec<Row>>, facts: &Facts) {
        let mut held = self.store.lock();
        if held.opened != self.number {
            return;
        }
        for (tenant, rows) in rows {
            let there = held.rows.entry(tenant.clone()).or_default();
            let new = rows.iter().filter(|row| !there.contains_key(&row.sequence));
            let sequences = new.map(|row| row.sequence).collect();
            there.extend(rows.iter().map(|row| (row.sequence, row.to_bytes().into())));
            held.unflushed.push(Undo::Rows(tenant.clone(), sequences));
        }
        let before = held.facts.replace(facts.clone());
        held.unflushed.push(Undo::Facts(before));
    }

    pub(super) fn remove(&self, tenant: &Tenant, sequences: &[u64]) {
        let mut held = self.store.lock();
        if held.opened == self.number
            && let Some(rows) = held.rows.get_mut(tenant)
        {
            rows.retain(|sequence, _| !sequences.contains(sequence));
        }
    }

    pub(super) fn drop_before(&self, tenant: &Tenant, sequence: u64) {
        let mut held = self.store.lock();
        if held.opened == self.number
            && let Some(rows) = held.rows.get_mut(tenant)
        {
            *rows = rows.split_off(&sequence);
        }
    }

    pub(super) fn flush(&self) {
        let mut held = self.store.lock();
        if held.opened == self.number {
            held.unflushed.clear();
        }
    }
}
