//! What is applied and not yet in the store.
//!
//! An event that our own process wrote is applied as soon as its acknowledgement tells the sequence; the log tells it
//! again a moment later, and only then its row may go to the store.

use std::collections::BTreeMap;

use jiff::Timestamp;
use proto::{EventId, Kind, Position, Tenant};

use crate::row::{ReadRow, Row};

#[derive(Default)]
pub(crate) struct Tail {
    rows: BTreeMap<u64, Kept>,
}

pub(crate) struct Kept {
    pub(crate) tenant: Tenant,
    pub(crate) row: Row,
    pub(crate) event: EventId,
    pub(crate) occurred_at: Timestamp,
    /// More of the same command follows.
    continued: bool,
    /// The tenant is dropped with it.
    drops: bool,
}

/// Rows as the store takes them.
pub(crate) struct Batch {
    pub(crate) rows: BTreeMap<Tenant, Vec<Row>>,
    /// Which tenants were dropped by them, and where last.
    pub(crate) dropped: BTreeMap<Tenant, u64>,
    /// The last of them.
    pub(crate) position: Position,
}

impl Tail {
    pub(crate) fn keep(&mut self, read: &ReadRow) {
        let event = &read.event;
        let kept = Kept {
            tenant: event.tenant.clone(),
            row: read.row.clone(),
            event: event.id,
            occurred_at: event.occurred_at,
            continued: event.continued,
            drops: matches!(event.kind, Kind::TenantDropped),
        };
        self.rows.insert(read.row.sequence, kept);
    }

    pub(crate) fn get(&self, sequence: u64) -> Option<&Row> {
        self.rows.get(&sequence).map(|kept| &kept.row)
    }

    pub(crate) fn event(&self, sequence: u64) -> Option<EventId> {
        self.rows.get(&sequence).map(|kept| kept.event)
    }

    pub(crate) fn kept_mut(&mut self, sequence: u64) -> Option<&mut Kept> {
        self.rows.get_mut(&sequence)
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The first rows, up to `rows_max` and a little more, none beyond `confirmed`, each command whole.
    pub(crate) fn batch(&self, confirmed: u64, rows_max: usize) -> Option<Batch> {
        let mut rows: BTreeMap<Tenant, Vec<Row>> = BTreeMap::new();
        let mut dropped = BTreeMap::new();
        let mut command: Vec<&Kept> = Vec::new();
        let mut last = None;
        for (count, kept) in self.rows.range(..=confirmed).map(|(_, kept)| kept).enumerate() {
            command.push(kept);
            if kept.continued {
                continue;
            }
            last = Some(Position { sequence: kept.row.sequence, event: kept.event });
            for kept in command.drain(..) {
                if kept.drops {
                    dropped.insert(kept.tenant.clone(), kept.row.sequence);
                }
                match rows.get_mut(&kept.tenant) {
                    Some(rows) => rows.push(kept.row.clone()),
                    None => {
                        rows.insert(kept.tenant.clone(), vec![kept.row.clone()]);
                    }
                }
            }
            if count >= rows_max {
                break;
            }
        }
        Some(Batch { rows, dropped, position: last? })
    }

    /// The rows up to a sequence are in the store. What is let go of is for the caller to drop, outside of any lock.
    pub(crate) fn written(&mut self, to: u64) -> Vec<Kept> {
        let mut written = Vec::new();
        while let Some(first) = self.rows.first_entry()
            && *first.key() <= to
        {
            written.push(first.remove());
        }
        written
    }
}
