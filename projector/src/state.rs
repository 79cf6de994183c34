//! What applying changes: the directories of all tenants, the tail, and how far the log confirmed it.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use proto::{CLOCK_TOLERANCE, EventId, Position, Tenant, log_time};

use crate::Error;
use crate::directory::{Directory, Image};
use crate::index::Indexes;
use crate::row::ReadRow;
use crate::tail::Tail;

/// So many events of others at once are a history that is read, which a broker tells in small portions.
const HISTORY_FROM: usize = 16;
/// Own commands that wait for what stands before them in the log.
const AHEAD_MAX: usize = 10_000;

pub(crate) struct State {
    indexes: Arc<Indexes>,
    pub(crate) tenants: BTreeMap<Tenant, Directory>,
    pub(crate) tail: Tail,
    pub(crate) position: Option<Position>,
    /// Log time of the last message that was applied.
    log_time: Timestamp,
    /// The last sequence that the log itself told, and its log time.
    pub(crate) confirmed: u64,
    confirmed_time: Timestamp,
    /// Own commands that were acknowledged and wait for what stands before them, by their first sequence.
    ahead: BTreeMap<u64, Vec<ReadRow>>,
    /// Whether our clock agreed with the broker's when the log last confirmed something of ours.
    clocks_agree: bool,
    /// How often the log belied a time that was applied: an image from before may not be kept.
    pub(crate) corrections: u64,
}

/// A message that the log tells.
pub(crate) enum Told {
    /// It was applied when it came.
    Again { sequence: u64, id: Option<EventId>, broker: Timestamp },
    /// It is new, its time still to be set; `own` when our process wrote it.
    New { read: Box<ReadRow>, broker: Timestamp, own: bool },
}

impl Told {
    /// Whether more of the same command follows.
    pub(crate) fn continued(&self) -> bool {
        match self {
            Self::Again { .. } => false,
            Self::New { read, .. } => read.event.continued,
        }
    }
}

/// Whether this is a history that is read: then indexes are put in order afterwards, and its documents are not the ones
/// that are asked for next. However much our own process writes at once, its clients wait for it.
pub(crate) fn is_history(told: &[Told]) -> bool {
    let of_others = told.iter().filter(|told| matches!(told, Told::New { own: false, .. }));
    of_others.take(HISTORY_FROM).count() == HISTORY_FROM
}

impl State {
    pub(crate) fn new(indexes: Arc<Indexes>) -> Self {
        Self {
            indexes,
            tenants: BTreeMap::new(),
            tail: Tail::default(),
            position: None,
            log_time: Timestamp::MIN,
            confirmed: 0,
            confirmed_time: Timestamp::MIN,
            ahead: BTreeMap::new(),
            clocks_agree: true,
            corrections: 0,
        }
    }

    /// The last sequence that was applied.
    pub(crate) fn applied(&self) -> u64 {
        self.position.map_or(0, |position| position.sequence)
    }

    /// Log time of the last message that the log told.
    pub(crate) fn confirmed_time(&self) -> Timestamp {
        self.confirmed_time
    }

    /// Whether the store must catch up before more is heard. What only hearing more confirms is not waited for.
    pub(crate) fn is_full(&self) -> bool {
        self.tail.is_full() && self.tail.is_writable(self.confirmed)
    }

    /// The first event that was shown from its acknowledgement and that the log did not tell yet.
    pub(crate) fn unconfirmed(&self) -> Option<(u64, EventId)> {
        let sequence = self.confirmed + 1;
        self.tail.event(sequence).map(|event| (sequence, event))
    }

    /// Applies an event whose row is already written.
    pub(crate) fn load(&mut self, read: &ReadRow) {
        self.enter(read, true);
    }

    /// Begins a tenant with an image of it.
    pub(crate) fn insert(&mut self, tenant: &Tenant, image: Image) {
        self.tenants.insert(tenant.clone(), image.into_directory(self.indexes.clone()));
    }

    /// All rows up to this position were loaded; nothing when they were not.
    pub(crate) fn loaded(&mut self, position: Option<Position>) -> Option<()> {
        let last = self.tenants.values().map(Directory::applied).max().unwrap_or_default();
        if last != position.map_or(0, |position| position.sequence) {
            return None;
        }
        let time = self.tenants.values().filter_map(Directory::last_time).max();
        self.log_time = time.unwrap_or(Timestamp::MIN);
        self.position = position;
        self.confirmed = last;
        self.confirmed_time = self.log_time;
        Some(())
    }

    fn enter(&mut self, read: &ReadRow, later: bool) {
        let at = read.at();
        if let Some(directory) = self.tenants.get_mut(&read.event.tenant) {
            directory.apply(read, later);
        } else {
            let mut directory = Directory::new(self.indexes.clone());
            directory.apply(read, later);
            self.tenants.insert(read.event.tenant.clone(), directory);
        }
        self.log_time = self.log_time.max(at.time);
        if self.applied() < at.position.sequence {
            self.position = Some(at.position);
        }
    }

    /// Applies what the log tells. The messages of one command must come together. Returns what was new, and what of our
    /// own could follow it. `later`: indexes are put in order afterwards.
    pub(crate) fn hear(&mut self, told: Vec<Told>, later: bool) -> Result<Vec<ReadRow>, Error> {
        let mut entered = Vec::with_capacity(told.len());
        for told in told {
            match told {
                Told::Again { sequence, id, broker } => self.confirm(sequence, id, broker)?,
                // Its acknowledgement came while it was read.
                Told::New { read, broker, .. } if read.row.sequence <= self.applied() => {
                    self.confirm(read.row.sequence, Some(read.event.id), broker)?;
                }
                Told::New { mut read, broker, own } => {
                    read.row.time = log_time(self.confirmed_time, read.event.occurred_at, broker);
                    self.enter(&read, later);
                    self.tail.keep(&read);
                    self.confirmed = read.row.sequence;
                    self.confirmed_time = read.row.time;
                    if own {
                        self.clocks_agree = agree(read.event.occurred_at, broker);
                    }
                    entered.push(*read);
                }
            }
        }
        self.follow_up(&mut entered);
        Ok(entered)
    }

    /// The log tells what was applied before. The broker's time, which an acknowledgement does not tell, can say that
    /// the writer's clock does not count.
    fn confirm(&mut self, sequence: u64, id: Option<EventId>, broker: Timestamp) -> Result<(), Error> {
        if sequence <= self.confirmed {
            return Ok(());
        }
        let Some(kept) = self.tail.kept_mut(sequence) else { return Ok(()) };
        if id != Some(kept.event) {
            return Err(Error::Replaced { sequence });
        }
        let time = log_time(self.confirmed_time, kept.occurred_at, broker);
        self.confirmed = sequence;
        self.confirmed_time = time;
        self.clocks_agree = agree(kept.occurred_at, broker);
        if time != kept.row.time {
            kept.row.time = time;
            self.corrections += 1;
            let tenant = kept.tenant.clone();
            if let Some(directory) = self.tenants.get_mut(&tenant) {
                directory.correct(sequence, time);
            }
            if sequence == self.applied() {
                self.log_time = time;
            }
            metrics::counter!("rollcall_projection_times_corrected_total").increment(1);
        }
        Ok(())
    }

    /// One of our own commands stands in the log from this row's sequence on. Nothing when it was applied before, or
    /// when the log must tell it first.
    pub(crate) fn acknowledged(&mut self, rows: Vec<ReadRow>) -> Vec<ReadRow> {
        let Some(first) = rows.first().map(|read| read.row.sequence) else { return Vec::new() };
        if first <= self.applied() || !self.clocks_agree || self.ahead.len() >= AHEAD_MAX {
            return Vec::new();
        }
        self.ahead.insert(first, rows);
        let mut entered = Vec::new();
        self.follow_up(&mut entered);
        entered
    }

    /// Applies own commands whose turn it is.
    fn follow_up(&mut self, entered: &mut Vec<ReadRow>) {
        while let Some((&first, _)) = self.ahead.first_key_value()
            && first <= self.applied() + 1
        {
            let rows = self.ahead.remove(&first).unwrap_or_default();
            if first <= self.applied() {
                continue;
            }
            for mut read in rows {
                // What the broker's time will say unless a clock jumps; `confirm` knows better.
                read.row.time = log_time(self.log_time, read.event.occurred_at, read.event.occurred_at);
                self.enter(&read, false);
                self.tail.keep(&read);
                entered.push(read);
            }
        }
    }
}

fn agree(occurred_at: Timestamp, broker: Timestamp) -> bool {
    occurred_at.duration_since(broker).abs() <= CLOCK_TOLERANCE
}

#[cfg(test)]
mod tests {
    use proto::subject::key_of_id;
    use proto::{Event, Kind, ResourceId};

    use super::*;
    use crate::row::Row;

    fn told(own: bool) -> Told {
        let uuid = uuid::Uuid::from_u128(7);
        let event = Event {
            id: EventId::new(uuid),
            tenant: "corp".parse().unwrap(),
            resource_type: "User".to_string(),
            resource_id: ResourceId::new(uuid),
            source: String::new(),
            actor: String::new(),
            txn: String::new(),
            occurred_at: Timestamp::UNIX_EPOCH,
            reason: String::new(),
            key_ref: None,
            continued: false,
            kind: Kind::Deleted,
        };
        let key = key_of_id(event.resource_id);
        let row = Row { sequence: 1, time: event.occurred_at, key, payload: bytes::Bytes::new() };
        let read = Box::new(ReadRow { row, event, content: None, values: Vec::new() });
        Told::New { read, broker: Timestamp::UNIX_EPOCH, own }
    }

    #[test]
    fn however_much_we_write_ourselves_is_no_history() {
        let some = |own: usize, others: usize| -> Vec<Told> {
            let own = std::iter::repeat_with(|| told(true)).take(own);
            own.chain(std::iter::repeat_with(|| told(false)).take(others)).collect()
        };
        assert!(!is_history(&some(300, HISTORY_FROM - 1)));
        assert!(is_history(&some(0, HISTORY_FROM)));
        assert!(is_history(&some(300, HISTORY_FROM)));
        let again = || Told::Again { sequence: 1, id: None, broker: Timestamp::UNIX_EPOCH };
        assert!(!is_history(&std::iter::repeat_with(again).take(300).collect::<Vec<_>>()));
    }
}
