//! sled, and nobody else knows it. It is told where rows stand, under their sequences: ascending keys only, where it is
//! fast; one tree for each tenant. The rows themselves are in segments, and sled hears of one only when its bytes are on disk.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use proto::Tenant;

use super::guarded::guarded;
use super::segments::{Place, Segments, Unread};
use super::{Doubt, Facts, LAYOUT, Unopened, room};
use crate::row::Row;

/// The tree of facts about the whole.
const META: &str = "meta";
/// Where the facts stand in it.
const FACTS: &str = "facts";
/// The tree of segments' lengths, as far as they are on disk.
const LENGTHS: &str = "segments";
/// Where the segments are, within the folder.
const SEGMENTS_FOLDER: &str = "segments";
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
/// So many rows are on disk together at the latest.
const UNSETTLED_MAX: usize = 8192;
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
    pub(super) db: sled::Db,
    /// sled's file, to have it on disk for certain.
    file: File,
    meta: sled::Tree,
    pub(super) lengths: sled::Tree,
    pub(super) segments: Segments,
    unsettled: Mutex<Unsettled>,
    /// Whether sled could not do what it was to.
    failed: AtomicBool,
}

/// What is in the segments, and not yet told to sled.
#[derive(Default)]
pub(super) struct Unsettled {
    pub(super) places: BTreeMap<Tenant, Vec<(u64, Place)>>,
    count: usize,
    facts: Option<Facts>,
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
            let (meta, lengths) = (db.open_tree(META)?, db.open_tree(LENGTHS)?);
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
            let known = read_lengths(&lengths).map_err(Unopened::Doubt)?;
            let file = File::open(folder.join(LOCK_FILE))
                .map_err(|error| doubt(format!("its file cannot be opened: {error}")))?;
            let segments = Segments::open(&folder.join(SEGMENTS_FOLDER), &known)
                .map_err(|error| doubt(format!("its segments cannot be used: {error}")))?;
            let (unsettled, failed) = (Mutex::default(), AtomicBool::new(false));
            Ok((Self { db, file, meta, lengths, segments, unsettled, failed }, facts))
        };
        // Damaged files make sled panic as well as fail.
        guarded(open).unwrap_or_else(|| Err(doubt("the store cannot be opened".to_string())))
    }

    /// What was last written about the rows.
    pub(super) fn facts(&self) -> Result<Facts, Doubt> {
        let unsettled = self.unsettled().facts.clone();
        Ok(unsettled.map_or_else(|| read_facts(&self.meta), |facts| Ok(Some(facts)))?.unwrap_or_default())
    }

    /// All who ever had rows.
    pub(super) fn tenants(&self) -> Vec<Tenant> {
        let tenant =
            |name: &sled::IVec| std::str::from_utf8(name).ok()?.strip_prefix(TENANT_PREFIX)?.parse().ok();
        self.db.tree_names().iter().filter_map(tenant).collect()
    }

    pub(super) fn tree(&self, tenant: &Tenant) -> Result<sled::Tree, Doubt> {
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
        let mut window = self.segments.window();
        for entry in self.tree(tenant)?.range(from.to_be_bytes()..=to.to_be_bytes()) {
            let (sequence, place) = entry_of(entry?)?;
            let bytes = window.read(place, sequence).map_err(|unread| unread.of(tenant, sequence))?;
            let row = Row::from_bytes(sequence, &bytes);
            if !each(row.ok_or_else(|| Unread::Damaged.of(tenant, sequence))?) {
                break;
            }
        }
        Ok(())
    }

    /// One row; nothing when it is not there.
    pub(super) fn get(&self, tenant: &Tenant, sequence: u64) -> Result<Option<Row>, Doubt> {
        let tree = self.tree(tenant)?;
        let mut moved = false;
        loop {
            let Some(value) = tree.get(sequence.to_be_bytes())? else { return Ok(None) };
            let place = Place::from_bytes(&value).ok_or_else(|| Unread::Damaged.of(tenant, sequence))?;
            match self.segments.read(place, sequence) {
                Ok(bytes) => return Ok(Row::from_bytes(sequence, &bytes)),
                // It was moved between our two questions.
                Err(Unread::Gone) if !moved => moved = true,
                Err(unread) => return Err(unread.of(tenant, sequence)),
            }
        }
    }

    /// Removes rows.
    pub(super) fn remove(&self, tenant: &Tenant, sequences: &[u64]) -> Result<(), Doubt> {
        self.settle(&mut self.unsettled())?;
        self.told(|| {
            let mut batch = sled::Batch::default();
            for sequence in sequences {
                batch.remove(&sequence.to_be_bytes());
            }
            Ok(self.tree(tenant)?.apply_batch(batch)?)
        })
    }

    /// Leaves no row of a tenant before a sequence.
    pub(super) fn drop_before(&self, tenant: &Tenant, sequence: u64) -> Result<(), Doubt> {
        self.settle(&mut self.unsettled())?;
        self.told(|| {
            let tree = self.tree(tenant)?;
            for entry in tree.range(..sequence.to_be_bytes()).keys() {
                tree.remove(entry?)?;
            }
            Ok(())
        })
    }

    /// Writes rows, then the facts that include them. A crash in between leaves rows beyond the position, which the
    /// next start ignores and writes again. They are found once they are on disk, at the latest after a flush.
    pub(super) fn write(&self, rows: &BTreeMap<Tenant, Vec<Row>>, facts: &Facts) -> Result<(), Doubt> {
        let mut unsettled = self.unsettled();
        let mut places = self.segments.append(rows.values().flatten()).map_err(unwritten)?.into_iter();
        for (tenant, rows) in rows {
            let places = rows.iter().map(|row| row.sequence).zip(&mut places);
            unsettled.places.entry(tenant.clone()).or_default().extend(places);
            unsettled.count += rows.len();
        }
        unsettled.facts = Some(facts.clone());
        if unsettled.count >= UNSETTLED_MAX { self.settle(&mut unsettled) } else { Ok(()) }
    }

    /// Everything that was written is on disk afterwards, as far as a kill is concerned: of a file that grew sled does not
    /// say so to the disk, which it does on its own a moment later.
    pub(super) fn flush(&self) -> Result<(), Doubt> {
        self.settle(&mut self.unsettled())?;
        self.told(|| self.db.flush().map(drop).map_err(Doubt::from))
    }

    /// The same, also when the power fails.
    pub(super) fn sync(&self) -> Result<(), Doubt> {
        self.flush()?;
        self.told(|| self.file.sync_all().map_err(|error| Doubt(format!("it cannot be synced: {error}"))))
    }

    /// Has sled say the error that it keeps to whoever waits for it.
    pub(super) fn wake(&self) {
        let _ = self.db.flush();
    }

    /// Tells sled of all rows, once their bytes are on disk: what it may know after a power failure, can be read.
    pub(super) fn settle(&self, unsettled: &mut Unsettled) -> Result<(), Doubt> {
        let lengths = self.segments.sync().map_err(unwritten)?;
        self.told(|| {
            for (segment, length) in lengths {
                self.lengths.insert(segment.to_be_bytes(), &length.to_be_bytes())?;
            }
            for (tenant, places) in &unsettled.places {
                self.place(tenant, places)?;
            }
            unsettled.facts.iter().try_for_each(|facts| write_facts(&self.meta, facts))
        })?;
        *unsettled = Unsettled::default();
        for _ in 0..EPOCH_FLUSHES {
            crossbeam_epoch::pin().flush();
        }
        Ok(())
    }

    fn place(&self, tenant: &Tenant, places: &[(u64, Place)]) -> Result<(), Doubt> {
        let mut batch = sled::Batch::default();
        for (sequence, place) in places {
            batch.insert(&sequence.to_be_bytes(), &place.to_bytes());
        }
        Ok(self.tree(tenant)?.apply_batch(batch)?)
    }

    /// Has sled change something, and remembers when it could not.
    pub(super) fn told(&self, change: impl FnOnce() -> Result<(), Doubt>) -> Result<(), Doubt> {
        let changed = change();
        if changed.is_err() {
            self.failed.store(true, Ordering::Release);
        }
        changed
    }

    pub(super) fn unsettled(&self) -> MutexGuard<'_, Unsettled> {
        self.unsettled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether sled keeps an error of its disk: it answers everything that is to be written with it, until it is opened
    /// anew, and is closed without another attempt to write.
    pub(super) fn is_stuck(&self) -> bool {
        self.db.context.global_error().is_err()
    }

    /// Whether sled failed and keeps no error: it may wait for ever for what it did not write, also when it is read or
    /// closed.
    pub(super) fn is_lost(&self) -> bool {
        self.failed.load(Ordering::Acquire) && !self.is_stuck()
    }
}

impl Unread {
    fn of(self, tenant: &Tenant, sequence: u64) -> Doubt {
        Doubt(format!("the row of tenant {tenant} at sequence {sequence} cannot be read: {self}"))
    }
}

pub(super) fn unwritten(error: std::io::Error) -> Doubt {
    Doubt(format!("its segments cannot be written: {error}"))
}

/// A row's sequence and place.
pub(super) fn entry_of((key, value): (sled::IVec, sled::IVec)) -> Result<(u64, Place), Doubt> {
    let sequence = <[u8; 8]>::try_from(key.as_ref()).map(u64::from_be_bytes).ok();
    sequence.zip(Place::from_bytes(&value)).ok_or_else(|| Doubt("a row's place cannot be read".to_string()))
}

/// Whether another process has the folder open.
pub(super) fn is_held(folder: &Path) -> bool {
    let Ok(file) = File::open(folder.join(LOCK_FILE)) else { return false };
    matches!(file.try_lock(), Err(TryLockError::WouldBlock))
}

/// Removes what a process that was killed while it opened the folder left half written. sled would take it for whole, find
/// it damaged, and refuse the folder. Nothing is lost: the former description stays until the new one has its name.
fn sweep(folder: &Path) -> Result<(), Unopened> {
    let failed = |error: std::io::Error| {
        Unopened::Doubt(Doubt(format!("what is half written cannot be removed: {error}")))
    };
    let lock = match File::open(folder.join(LOCK_FILE)) {
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

fn read_lengths(lengths: &sled::Tree) -> Result<BTreeMap<u32, u32>, Doubt> {
    let unreadable = || Doubt("the lengths of its segments cannot be read".to_string());
    let number = |bytes: &[u8]| <[u8; 4]>::try_from(bytes).map(u32::from_be_bytes).map_err(|_| unreadable());
    lengths
        .iter()
        .map(|entry| {
            let (segment, length) = entry?;
            Ok((number(&segment)?, number(&length)?))
        })
        .collect()
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
