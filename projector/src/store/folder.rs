//! sled, and nobody else knows it. Rows under ascending keys only, where it is fast; one tree for each tenant.

use std::collections::BTreeMap;
use std::fs::TryLockError;
use std::io::ErrorKind;
use std::path::Path;

use proto::Tenant;

use super::{Doubt, Facts, LAYOUT, Unopened, room};
use crate::row::Row;

/// The tree of facts about the whole.
const META: &str = "meta";
/// Where the facts stand in it.
const FACTS: &str = "facts";
/// Before a tenant's name in the name of its tree.
const TENANT_PREFIX: &str = "tenant/";
/// The file that sled locks while it is open.
const LOCK_FILE: &str = "db";
/// How sled describes its log when it opens it, to open it faster the next time.
const DESCRIPTION: &str = "snap.";
/// Ends the name of such a file until it is whole.
const HALF_WRITTEN: &str = ".generating";
/// What sled writes before everything else.
const PARAMETERS_FILE: &str = "conf";
/// What sled says of a folder that is open elsewhere, for which it has no error of its own.
const LOCKED: &str = "could not acquire lock";
/// sled keeps garbage until its epoch moves on; without this its memory grows without bound.
const EPOCH_FLUSHES: usize = 16;

impl From<sled::Error> for Doubt {
    fn from(error: sled::Error) -> Self {
        Self(format!("the store says: {error}"))
    }
}

impl From<sled::Error> for Unopened {
    fn from(error: sled::Error) -> Self {
        match &error {
            sled::Error::Io(cause) if cause.to_string().contains(LOCKED) => Self::Busy,
            _ => Self::Doubt(error.into()),
        }
    }
}

pub(super) struct Folder {
    db: sled::Db,
    meta: sled::Tree,
}

impl Folder {
    /// Opens the folder, or says why it cannot be used or trusted.
    pub(super) fn open(folder: &Path, cache_bytes: u64) -> Result<(Self, Facts), Unopened> {
        let doubt = |reason: String| Unopened::Doubt(Doubt(reason));
        let open = || -> Result<(Self, Facts), Unopened> {
            sweep(folder)?;
            let db = sled::Config::new()
                .path(folder)
                .cache_capacity(cache_bytes)
                .flush_every_ms(Some(500))
                .mode(sled::Mode::HighThroughput)
                .open()?;
            let meta = db.open_tree(META)?;
            let facts = match read_facts(&meta).map_err(Unopened::Doubt)? {
                Some(facts) => facts,
                None if db.tree_names().iter().any(|name| name.starts_with(TENANT_PREFIX.as_bytes())) => {
                    return Err(doubt("it holds rows but no facts".to_string()));
                }
                None => {
                    // Before the first rows: sled keeps a beginning of what was written, so that a kill leaves no rows
                    // without facts.
                    let facts = Facts { layout: LAYOUT, ..Facts::default() };
                    write_facts(&meta, &facts).map_err(Unopened::Doubt)?;
                    facts
                }
            };
            if facts.layout != LAYOUT {
                return Err(doubt(format!("it has layout {}, this version writes {LAYOUT}", facts.layout)));
            }
            Ok((Self { db, meta }, facts))
        };
        // Damaged files make sled panic as well as fail.
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(open))
            .unwrap_or_else(|_| Err(doubt("the store cannot be opened".to_string())))
    }

    /// What was last written about the rows.
    pub(super) fn facts(&self) -> Result<Facts, Doubt> {
        Ok(read_facts(&self.meta)?.unwrap_or_default())
    }

    fn tree(&self, tenant: &Tenant) -> Result<sled::Tree, Doubt> {
        Ok(self.db.open_tree(format!("{TENANT_PREFIX}{tenant}"))?)
    }

    /// The rows of a tenant within these sequences, in order, until one is enough or an error comes.
    pub(super) fn range(
        &self,
        tenant: &Tenant,
        from: u64,
        to: u64,
        mut each: impl FnMut(Row) -> bool,
    ) -> Result<(), Doubt> {
        for entry in self.tree(tenant)?.range(from.to_be_bytes()..=to.to_be_bytes()) {
            let (key, value) = entry?;
            let sequence = <[u8; 8]>::try_from(key.as_ref()).map(u64::from_be_bytes).ok();
            let row = sequence.and_then(|sequence| Row::from_bytes(sequence, &value));
            if !each(row.ok_or_else(|| Doubt(format!("a row of tenant {tenant} cannot be read")))?) {
                break;
            }
        }
        Ok(())
    }

    /// One row; nothing when it is not there.
    pub(super) fn get(&self, tenant: &Tenant, sequence: u64) -> Result<Option<Row>, Doubt> {
        let Some(value) = self.tree(tenant)?.get(sequence.to_be_bytes())? else { return Ok(None) };
        Ok(Row::from_bytes(sequence, &value))
    }

    /// Removes rows.
    pub(super) fn remove(&self, tenant: &Tenant, sequences: &[u64]) -> Result<(), Doubt> {
        let mut batch = sled::Batch::default();
        for sequence in sequences {
            batch.remove(&sequence.to_be_bytes());
        }
        self.tree(tenant)?.apply_batch(batch)?;
        Ok(())
    }

    /// Leaves no row of a tenant before a sequence.
    pub(super) fn drop_before(&self, tenant: &Tenant, sequence: u64) -> Result<(), Doubt> {
        let tree = self.tree(tenant)?;
        for entry in tree.range(..sequence.to_be_bytes()).keys() {
            tree.remove(entry?)?;
        }
        Ok(())
    }

    /// Writes rows, then the facts that include them. A crash in between leaves rows beyond the position, which the
    /// next start ignores and writes again.
    pub(super) fn write(&self, rows: &BTreeMap<Tenant, Vec<Row>>, facts: &Facts) -> Result<(), Doubt> {
        let mut bytes = Vec::new();
        for (tenant, rows) in rows {
            let mut batch = sled::Batch::default();
            for row in rows {
                bytes.clear();
                row.put(&mut bytes);
                batch.insert(&row.sequence.to_be_bytes(), bytes.as_slice());
            }
            self.tree(tenant)?.apply_batch(batch)?;
        }
        write_facts(&self.meta, facts)?;
        for _ in 0..EPOCH_FLUSHES {
            crossbeam_epoch::pin().flush();
        }
        Ok(())
    }

    /// Everything that was written is on disk afterwards.
    pub(super) fn flush(&self) -> Result<(), Doubt> {
        self.db.flush()?;
        Ok(())
    }

    /// Whether sled keeps an error of its disk: it answers everything that is to be written with it, until it is opened
    /// anew, and is closed without another attempt to write.
    pub(super) fn is_stuck(&self) -> bool {
        self.db.context.global_error().is_err()
    }
}

/// Whether another process has the folder open.
pub(super) fn is_held(folder: &Path) -> bool {
    let Ok(file) = std::fs::File::open(folder.join(LOCK_FILE)) else { return false };
    matches!(file.try_lock(), Err(TryLockError::WouldBlock))
}

/// Removes what a process that was killed while it opened the folder left half written. sled would take it for whole, find
/// it damaged, and refuse the folder. Nothing is lost: the former description stays until the new one has its name.
fn sweep(folder: &Path) -> Result<(), Unopened> {
    let failed = |error: std::io::Error| {
        Unopened::Doubt(Doubt(format!("what is half written cannot be removed: {error}")))
    };
    let lock = match std::fs::File::open(folder.join(LOCK_FILE)) {
        Ok(lock) => lock,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            // Killed before there was anything to be sure of.
            return match std::fs::remove_file(folder.join(PARAMETERS_FILE)) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(failed(error)),
                Ok(()) | Err(_) => Ok(()),
            };
        }
        Err(error) => return Err(failed(error)),
    };
    // Whoever has it open may be writing just now.
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(Unopened::Busy),
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    for entry in std::fs::read_dir(folder).map_err(failed)?.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if (name.starts_with(DESCRIPTION) && name.ends_with(HALF_WRITTEN)) || name == room::FILE {
            std::fs::remove_file(entry.path()).map_err(failed)?;
        }
    }
    Ok(())
}

fn write_facts(meta: &sled::Tree, facts: &Facts) -> Result<(), Doubt> {
    let bytes = serde_json::to_vec(facts).map_err(|error| Doubt(error.to_string()))?;
    meta.insert(FACTS, bytes)?;
    Ok(())
}

fn read_facts(meta: &sled::Tree) -> Result<Option<Facts>, Doubt> {
    let Some(bytes) = meta.get(FACTS)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|_| Doubt("its facts cannot be read".to_string()))
}
