//! What is applied and not yet in the store.
//!
//! An event that our own process wrote is applied as soon as its acknowledgement tells the sequence; the log tells it
//! again a moment later, and only then its row may go to the store.

use std::collections::BTreeMap;

use jiff::Timestamp;
use proto::{EventId, Kind, Position, Tenant};

use crate::row::{ReadRow, Row};

/// Rows that may wait, and their bytes; beyond it the log is read no further until the store has caught up.
const ROWS_MAX: usize = 16_384;
const BYTES_MAX: usize = 24 << 20;
/// Rows in one batch, and their bytes, about.
const BATCH_ROWS_MAX: usize = 256;
const BATCH_BYTES_MAX: usize = 1 << 20;

#[derive(Default)]
pub(crate) struct Tail {
    rows: BTreeMap<u64, Kept>,
    /// Bytes of their payloads.
    bytes: usize,
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
        self.bytes += kept.row.payload.len();
        if let Some(former) = self.rows.insert(read.row.sequence, kept) {
            self.bytes -= former.row.payload.len();
        }
    }

    /// Whether the store must catch up before more is kept.
    pub(crate) fn is_full(&self) -> bool {
        self.rows.len() > ROWS_MAX || self.bytes > BYTES_MAX
    }

    /// Whether so much came that the store should not rest.
    pub(crate) fn is_long(&self) -> bool {
        self.rows.len() > ROWS_MAX / 8 || self.bytes > BYTES_MAX / 8
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

    /// Whether there is a whole command that the log confirmed, so that the store can take it.
    pub(crate) fn is_writable(&self, confirmed: u64) -> bool {
        self.rows.range(..=confirmed).any(|(_, kept)| !kept.continued)
    }

    /// The first rows after a sequence, none beyond `confirmed`, each command whole.
    pub(crate) fn batch(&self, after: u64, confirmed: u64) -> Option<Batch> {
        if after >= confirmed {
            return None;
        }
        let mut rows: BTreeMap<Tenant, Vec<Row>> = BTreeMap::new();
        let mut dropped = BTreeMap::new();
        let mut command: Vec<&Kept> = Vec::new();
        let (mut last, mut bytes) = (None, 0);
        for (count, kept) in self.rows.range(after + 1..=confirmed).map(|(_, kept)| kept).enumerate() {
            bytes += kept.row.payload.len();
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
            if count >= BATCH_ROWS_MAX || bytes >= BATCH_BYTES_MAX {
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
            let kept = first.remove();
            self.bytes -= kept.row.payload.len();
            written.push(kept);
        }
        written
    }
}
