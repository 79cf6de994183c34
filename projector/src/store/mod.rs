//! Where rows stand: in segments, of which sled knows the places, or in a twin of both in memory. What it holds is a cache
//! of the log.

mod folder;
mod guarded;
mod handle;
mod memory;
#[cfg(test)]
mod power_tests;
mod reclaim;
mod room;
mod segments;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use bytes::Bytes;
use proto::{Position, Tenant};
use serde::{Deserialize, Serialize};

use crate::row::Row;
pub use guarded::is_guarded;
pub use memory::MemoryStore;

/// The layout; another number means that the folder was written by another version.
const LAYOUT: u32 = 4;

/// Where a projection keeps its rows.
#[derive(Clone, Debug)]
pub enum Storage {
    /// In a folder of its own.
    Folder(PathBuf),
    /// In memory, for a simulation.
    Memory(MemoryStore),
}

impl Storage {
    /// Whether another process has it open.
    pub fn is_held(&self) -> bool {
        match self {
            Self::Folder(path) => folder::is_held(path),
            Self::Memory(_) => false,
        }
    }

    /// Whether its folder can be written, or why not.
    pub(crate) fn find_room(&self) -> std::io::Result<()> {
        match self {
            Self::Folder(path) => room::find(path),
            Self::Memory(_) => Ok(()),
        }
    }
}

impl fmt::Display for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => path.display().fmt(f),
            Self::Memory(_) => f.write_str("memory"),
        }
    }
}

/// The store is not what it should be: build it again.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Doubt(pub(crate) String);

/// Why a store was not opened.
#[derive(Debug)]
pub(crate) enum Unopened {
    /// It is open elsewhere, and must be left alone.
    Busy,
    Doubt(Doubt),
}

/// Why a store could not be opened anew.
#[derive(Debug)]
pub(crate) enum Unusable {
    /// There is no room for it to write.
    NoRoom(Doubt),
    /// Another attempt may go better.
    Later(Doubt),
    /// Only another process can.
    Never(Doubt),
}

/// What must be true of the rows; a store that lost some of them is noticed by it.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
pub(crate) struct Facts {
    layout: u32,
    /// The last row that was written, over all tenants.
    pub(crate) position: Option<Position>,
    /// Rows of each tenant, since it was dropped last.
    pub(crate) rows: BTreeMap<Tenant, u64>,
    /// At which sequence a tenant was dropped last: rows before it are nobody's.
    #[serde(default)]
    pub(crate) dropped: BTreeMap<Tenant, u64>,
    /// Up to which sequence history was thinned; 0 when it is whole.
    #[serde(default)]
    pub(crate) floor: u64,
    /// Above which sequence rows that nobody needs are still to be removed, up to the floor; nothing when all are.
    #[serde(default)]
    pub(crate) thinning_from: Option<u64>,
    /// Whether rows were removed whose room may be given back.
    #[serde(default)]
    pub(crate) reclaims: bool,
}

impl Facts {
    /// The same of a store that is not whole yet: it can be filled, but not opened again.
    pub(crate) fn unfinished(&self) -> Self {
        Self { position: None, ..self.clone() }
    }

    /// The facts after these rows, some of which dropped a tenant.
    pub(crate) fn with(
        &self,
        rows: &BTreeMap<Tenant, Vec<Row>>,
        dropped: &BTreeMap<Tenant, u64>,
        position: Position,
    ) -> Self {
        let mut facts = self.clone();
        facts.layout = LAYOUT;
        facts.position = Some(position);
        for (tenant, rows) in rows {
            let count = facts.rows.entry(tenant.clone()).or_default();
            match dropped.get(tenant) {
                None => *count += rows.len() as u64,
                Some(sequence) => {
                    *count = rows.iter().filter(|row| row.sequence >= *sequence).count() as u64;
                    facts.dropped.insert(tenant.clone(), *sequence);
                    facts.reclaims = true;
                }
            }
        }
        facts
    }
}

/// An opened store.
pub(crate) enum Store {
    Folder(handle::Handle),
    Memory(memory::Opened),
}

impl Store {
    /// Opens it, or says why it cannot be used or trusted.
    pub(crate) fn open(storage: &Storage, cache_bytes: u64) -> Result<(Self, Facts), Unopened> {
        match storage {
            Storage::Folder(path) => {
                let (store, facts) = handle::Handle::open(path, cache_bytes)?;
                Ok((Self::Folder(store), facts))
            }
            Storage::Memory(store) => {
                let (store, facts) = store.open();
                Ok((Self::Memory(store), facts))
            }
        }
    }

    /// What was last written about the rows.
    pub(crate) fn facts(&self) -> Result<Facts, Doubt> {
        match self {
            Self::Folder(store) => store.read(folder::Folder::facts),
            Self::Memory(store) => Ok(store.facts()),
        }
    }

    /// The rows of a tenant within these sequences, in order, until `each` says that it was enough, or an error comes.
    pub(crate) fn range(
        &self,
        tenant: &Tenant,
        from: u64,
        to: u64,
        each: impl FnMut(Row) -> bool,
    ) -> Result<(), Doubt> {
        match self {
            Self::Folder(store) => store.read(|folder| folder.range(tenant, from, to, each)),
            Self::Memory(store) => store.range(tenant, from, to, each),
        }
    }

    /// One row; nothing when it is not there.
    pub(crate) fn get(&self, tenant: &Tenant, sequence: u64) -> Result<Option<Row>, Doubt> {
        match self {
            Self::Folder(store) => store.read(|folder| folder.get(tenant, sequence)),
            Self::Memory(store) => Ok(store.get(tenant, sequence)),
        }
    }

    /// The rows of a tenant from a sequence on: so many at most, and about so many bytes.
    pub(crate) fn rows(
        &self,
        tenant: &Tenant,
        (from, to): (u64, u64),
        rows_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Row>, Doubt> {
        let (mut rows, mut bytes) = (Vec::new(), 0);
        self.range(tenant, from, to, |row| {
            bytes += row.payload.len();
            // By itself: they are kept for longer than what was read around them.
            rows.push(Row { payload: Bytes::copy_from_slice(&row.payload), ..row });
            rows.len() < rows_max && bytes < bytes_max
        })?;
        Ok(rows)
    }

    /// Removes rows.
    pub(crate) fn remove(&self, tenant: &Tenant, sequences: &[u64]) -> Result<(), Doubt> {
        match self {
            Self::Folder(store) => store.write(|folder| folder.remove(tenant, sequences)),
            Self::Memory(store) => {
                store.remove(tenant, sequences);
                Ok(())
            }
        }
    }

    /// Leaves no row of a tenant before a sequence: it was dropped there.
    pub(crate) fn drop_before(&self, tenant: &Tenant, sequence: u64) -> Result<(), Doubt> {
        match self {
            Self::Folder(store) => store.write(|folder| folder.drop_before(tenant, sequence)),
            Self::Memory(store) => {
                store.drop_before(tenant, sequence);
                Ok(())
            }
        }
    }

    /// Writes rows, then the facts that include them. A crash in between leaves rows beyond the position, which the
    /// next start ignores and writes again.
    pub(crate) fn write(&self, rows: &BTreeMap<Tenant, Vec<Row>>, facts: &Facts) -> Result<(), Doubt> {
        match self {
            Self::Folder(store) => store.write(|folder| folder.write(rows, facts)),
            Self::Memory(store) => {
                store.write(rows, facts);
                Ok(())
            }
        }
    }

    /// Gives back the room of rows that were removed, where they leave enough of it. That can take long; in between others
    /// may be written, and it ends early when `goes_on` says no. Returns whether all is done.
    pub(crate) fn reclaim(&self, goes_on: &mut dyn FnMut() -> bool) -> Result<bool, Doubt> {
        match self {
            Self::Folder(store) => store.write(|folder| folder.reclaim(goes_on)),
            Self::Memory(_) => Ok(true),
        }
    }

    /// Everything that was written is on disk afterwards, as far as a kill is concerned.
    pub(crate) fn flush(&self) -> Result<(), Doubt> {
        match self {
            Self::Folder(store) => store.write(folder::Folder::flush),
            Self::Memory(store) => {
                store.flush();
                Ok(())
            }
        }
    }

    /// The same, also when the power fails: before something else counts on it.
    pub(crate) fn sync(&self) -> Result<(), Doubt> {
        match self {
            Self::Folder(store) => store.write(folder::Folder::sync),
            Self::Memory(store) => {
                store.flush();
                Ok(())
            }
        }
    }

    /// Closes it and opens it again, once there is room: after a failure nothing can be written before. Everything that was
    /// flushed is there afterwards.
    pub(crate) fn reopen(&self) -> Result<Facts, Unusable> {
        match self {
            Self::Folder(store) => store.reopen(),
            Self::Memory(store) => Ok(store.facts()),
        }
    }

    /// Whether it is open, and nothing failed that was to be written. One that is not may refuse to answer until it was opened
    /// anew.
    pub(crate) fn is_whole(&self) -> bool {
        match self {
            Self::Folder(store) => store.is_whole(),
            Self::Memory(_) => true,
        }
    }

    /// Wakes whoever waits for a write that failed.
    pub(crate) fn wake(&self) {
        match self {
            Self::Folder(store) => store.wake(),
            Self::Memory(_) => {}
        }
    }

    /// Whether there is room on its disk.
    pub(crate) fn has_room(&self) -> bool {
        match self {
            Self::Folder(store) => room::find(store.path()).is_ok(),
            Self::Memory(_) => true,
        }
    }

    /// Whether writing takes no time, so that no thread is needed for it.
    pub(crate) fn is_memory(&self) -> bool {
        matches!(self, Self::Memory(_))
    }

    /// Its name in what we tell.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Folder(store) => store.path().display().to_string(),
            Self::Memory(_) => "memory".to_string(),
        }
    }
}
