//! Opening: trust the folder if it agrees with the log, otherwise build it again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use eventlog::{Keyring, Log, Objects};
use jiff::Timestamp;
use proto::{EventId, Kind, Tenant};
use scim::Registry;

use crate::directory::{Directory, Image};
use crate::hot::Hot;
use crate::images::Images;
use crate::index::Indexes;
use crate::projection::Ground;
use crate::reader::{Now, Reader};
use crate::row::{ReadRow, Row};
use crate::snapshot;
use crate::state::State;
use crate::store::{Doubt, Facts, Storage, Store, Unopened};
use crate::{Config, Error, Projection};

/// How often progress is told, in rows.
const PROGRESS_ROWS: u64 = 100_000;
/// How long to wait for a folder that is still open elsewhere: who was told to stop may need a moment.
const BUSY_MAX: Duration = Duration::from_secs(5);
const BUSY_DELAY: Duration = Duration::from_millis(20);
/// Rows that are read before they are applied, and their bytes, about.
const AT_ONCE: usize = 8192;
const BYTES_AT_ONCE: usize = 16 << 20;

impl Projection {
    /// Opens the directory. On any doubt (damage, another layout, another timeline) the folder is dropped and built
    /// again from the log, loudly; unless nothing can be written there, which is an error.
    pub async fn open(
        config: Config,
        log: Arc<dyn Log>,
        keyring: Keyring,
        registry: Arc<Registry>,
    ) -> Result<Self, Error> {
        Self::open_from(config, log, keyring, registry, None).await
    }

    /// The same; a folder without rows is begun with the newest snapshot that fits the log.
    pub async fn open_from(
        config: Config,
        log: Arc<dyn Log>,
        keyring: Keyring,
        registry: Arc<Registry>,
        snapshots: Option<Arc<dyn Objects>>,
    ) -> Result<Self, Error> {
        let begun = Instant::now();
        let indexes = Arc::new(Indexes::new(&registry, &config.indexed).map_err(Error::Index)?);
        let reader = Reader { keyring, registry, indexes };
        let loaded = load(&config, &*log, &reader, &snapshots).await;
        if let Err(Problem::OtherLog(doubt)) = &loaded {
            metrics::counter!("rollcall_projection_history_lost_total").increment(1);
            tracing::error!(
                folder = %config.storage,
                reason = %doubt,
                "events that were applied here are gone from the log, and no restore took them away; what the log has goes on. \
                 If nobody meant that, stop every process and put the broker's newer store back"
            );
        }
        let (ground, state) = match loaded {
            Ok(loaded) => loaded,
            Err(Problem::Doubt(doubt) | Problem::OtherLog(doubt)) => {
                check_room(&config.storage, &doubt)?;
                tracing::warn!(folder = %config.storage, reason = %doubt, "the projection cannot be trusted; building it again from the log");
                metrics::counter!("rollcall_projection_rebuilds_total").increment(1);
                drop_rows(&config.storage)?;
                match load(&config, &*log, &reader, &snapshots).await {
                    Ok(loaded) => loaded,
                    Err(Problem::Doubt(doubt) | Problem::OtherLog(doubt)) => {
                        return Err(folder_error(&config.storage, &doubt.to_string()));
                    }
                    Err(Problem::Error(error)) => return Err(error),
                }
            }
            Err(Problem::Error(error)) => return Err(error),
        };
        let projection = Self::new(log, reader, ground, state, Hot::new(config.hot_bytes), config.until);
        projection.tell_memory();
        tracing::info!(
            applied = projection.applied(),
            duration_ms = begun.elapsed().as_millis(),
            "projection opened"
        );
        Ok(projection)
    }
}

enum Problem {
    Doubt(Doubt),
    /// The log lacks what was applied, and no restore explains it.
    OtherLog(Doubt),
    Error(Error),
}

impl From<Doubt> for Problem {
    fn from(doubt: Doubt) -> Self {
        Self::Doubt(doubt)
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

async fn load(
    config: &Config,
    log: &dyn Log,
    reader: &Reader,
    snapshots: &Option<Arc<dyn Objects>>,
) -> Result<(Ground, State), Problem> {
    if let Storage::Folder(folder) = &config.storage {
        std::fs::create_dir_all(folder).map_err(|error| folder_error(&config.storage, &error.to_string()))?;
    }
    let (store, facts) = open_store(config).await?;
    check_timeline(&facts, log, config.restored_at).await?;
    let images = Images::beside(match &config.storage {
        Storage::Folder(folder) => Some(folder),
        Storage::Memory(_) => None,
    });
    images.sweep();
    let mut state = State::new(reader.indexes.clone());
    if facts.position.is_none() {
        if !facts.rows.is_empty() {
            return Err(Doubt("its rows were not all fetched".to_string()).into());
        }
        let failed =
            |error: std::io::Error| folder_error(&config.storage, &format!("removing images: {error}"));
        images.drop_all().map_err(failed)?;
        let filling = begin(snapshots, log, reader, &images, &mut state, &config.storage).await?;
        return Ok((Ground { store, images, snapshots: snapshots.clone(), filling, floor: 0 }, state));
    }
    let to = facts.position.map_or(0, |position| position.sequence);
    for (tenant, sequence) in &facts.dropped {
        // Who was killed may have written the drop, and no more.
        store.drop_before(tenant, *sequence)?;
    }
    for (tenant, expected) in &facts.rows {
        let image = image(&images, reader, tenant, to).await?.filter(|image| image.rows() <= *expected);
        let can_lack = facts.floor > 0 && image.is_none();
        let from = match image {
            Some(image) => {
                let applied = image.applied();
                state.insert(tenant, image);
                applied + 1
            }
            None => facts.dropped.get(tenant).copied().unwrap_or_default(),
        };
        rows((&store, log), reader, &images, &mut state, tenant, (from, to)).await?;
        let loaded = state.tenants.get(tenant).map_or(0, Directory::rows_applied);
        if loaded != *expected {
            // Where history was thinned only an image can tell, unless nothing was removed.
            let why = if can_lack { ": its history was thinned, and its image cannot be used" } else { "" };
            let reason = format!("tenant {tenant} has {loaded} rows, should have {expected}{why}");
            return Err(Doubt(reason).into());
        }
    }
    state.loaded(facts.position).ok_or_else(|| Doubt("its last row is missing".to_string()))?;
    Ok((Ground { store, images, snapshots: snapshots.clone(), filling: 0, floor: facts.floor }, state))
}

/// Begins with the newest snapshot; returns up to which sequence rows are still to be fetched.
async fn begin(
    snapshots: &Option<Arc<dyn Objects>>,
    log: &dyn Log,
    reader: &Reader,
    images: &Images,
    state: &mut State,
    storage: &Storage,
) -> Result<u64, Problem> {
    let (Some(objects), Storage::Folder(folder)) = (snapshots, storage) else { return Ok(0) };
    let begun = Instant::now();
    let (snapshot, all) = match snapshot::unpack_newest(&**objects, log, reader, images, folder).await {
        Ok(Some(unpacked)) => unpacked,
        Ok(None) => return Ok(0),
        Err(error) => {
            tracing::warn!(%error, "snapshots cannot be read; reading the log from its beginning");
            return Ok(0);
        }
    };
    for (tenant, image) in all {
        state.insert(&tenant, image);
    }
    state
        .loaded(Some(snapshot.position))
        .ok_or_else(|| Doubt("the snapshot is of another position than it says".to_string()))?;
    tracing::info!(
        snapshot = %snapshot.name(),
        rows = snapshot.rows(),
        megabytes = snapshot.bytes() / 1_000_000,
        duration_ms = begun.elapsed().as_millis(),
        "the projection begins with a snapshot"
    );
    Ok(snapshot.position.sequence)
}

/// Opens the store once nobody else has it open. What another process uses is never dropped.
async fn open_store(config: &Config) -> Result<(Store, Facts), Problem> {
    let deadline = tokio::time::Instant::now() + BUSY_MAX;
    loop {
        match Store::open(&config.storage, config.cache_bytes) {
            Ok(opened) => return Ok(opened),
            Err(Unopened::Doubt(doubt)) => return Err(doubt.into()),
            Err(Unopened::Busy) if tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(BUSY_DELAY).await;
            }
            Err(Unopened::Busy) => {
                let reason = "another process has it open; stop that one, or give this one another folder";
                return Err(folder_error(&config.storage, reason).into());
            }
        }
    }
}

/// A tenant's image, unless it knows more than the rows.
async fn image(images: &Images, reader: &Reader, tenant: &Tenant, to: u64) -> Result<Option<Image>, Problem> {
    if !images.is_used() {
        return Ok(None);
    }
    let key = reader.keyring.tenant_key(tenant).await.map_err(Error::from)?;
    Ok(images.read(tenant, reader.indexes.fingerprint(), &key).filter(|image| image.applied() <= to))
}

/// Applies a tenant's rows within these sequences.
async fn rows(
    (store, log): (&Store, &dyn Log),
    reader: &Reader,
    images: &Images,
    state: &mut State,
    tenant: &Tenant,
    (from, to): (u64, u64),
) -> Result<(), Problem> {
    let (mut from, mut loaded) = (from, 0);
    loop {
        let rows = store.rows(tenant, (from, to), AT_ONCE, BYTES_AT_ONCE)?;
        let Some(last) = rows.last().map(|row| row.sequence) else { return Ok(()) };
        let before = loaded / PROGRESS_ROWS;
        loaded += rows.len() as u64;
        for read in read_all(log, reader, rows, !store.is_memory()).await? {
            if matches!(read.event.kind, Kind::Erased | Kind::TenantDropped) {
                images.forget(tenant);
            }
            state.load(&read);
        }
        if loaded / PROGRESS_ROWS > before {
            tracing::info!(%tenant, rows = loaded, "reading the projection");
        }
        from = last + 1;
    }
}

/// Reads rows, on two threads when there are many.
async fn read_all(
    log: &dyn Log,
    reader: &Reader,
    rows: Vec<Row>,
    aside: bool,
) -> Result<Vec<ReadRow>, Problem> {
    let unreadable = |sequence: u64| Doubt(format!("the row at sequence {sequence} cannot be read"));
    let read = |row: Row| {
        let sequence = row.sequence;
        reader.read_now(row).map_err(|_| unreadable(sequence))
    };
    let all = in_halves(rows, aside, read)?;
    for now in &all {
        if let Now::Locked(locked) = now
            && let Err(error) = reader.fetch(locked).await
        {
            // A damaged row can ask for a key that never was.
            if error.may_be_the_rows() && !is_in(log, locked.row()).await? {
                return Err(unreadable(locked.row().sequence).into());
            }
            return Err(error.into());
        }
    }
    let unlock = |now: Now| {
        let locked = match now {
            Now::Read(read) => return Ok(*read),
            Now::Locked(locked) => locked,
        };
        let sequence = locked.row().sequence;
        match reader.unlock_now(*locked) {
            Ok(Now::Read(read)) => Ok(*read),
            Ok(Now::Locked(_)) | Err(_) => Err(unreadable(sequence)),
        }
    };
    Ok(in_halves(all, aside, unlock)?)
}

/// Does something with each, with half of them on a thread of its own when there are many.
fn in_halves<T: Send, U: Send>(
    mut all: Vec<T>,
    aside: bool,
    work: impl Fn(T) -> Result<U, Doubt> + Sync,
) -> Result<Vec<U>, Doubt> {
    if !aside || all.len() < AT_ONCE / 8 {
        return all.into_iter().map(work).collect();
    }
    let second = all.split_off(all.len() / 2);
    let do_all = |part: Vec<T>| part.into_iter().map(&work).collect::<Result<Vec<U>, Doubt>>();
    let (first, second) = std::thread::scope(|scope| {
        let first = scope.spawn(|| do_all(all));
        let second = do_all(second);
        (first.join().unwrap_or_else(|_| Err(Doubt("reading rows failed".to_string()))), second)
    });
    let mut done = first?;
    done.extend(second?);
    Ok(done)
}

/// Whether a row is what the log says.
async fn is_in(log: &dyn Log, row: &Row) -> Result<bool, Error> {
    Ok(log.read(row.sequence).await?.is_some_and(|message| message.payload == row.payload))
}

/// The stored position must name the same event in the log; another one there means another timeline.
async fn check_timeline(facts: &Facts, log: &dyn Log, restored_at: Option<Timestamp>) -> Result<(), Problem> {
    let Some(position) = facts.position else { return Ok(()) };
    let message = log.read(position.sequence).await.map_err(Error::from)?;
    let doubt = match message {
        Some(message) if message.id == Some(position.event) => return Ok(()),
        Some(_) => {
            Doubt(format!("the log has another event at sequence {}: another timeline", position.sequence))
        }
        None => {
            let last = log.last_sequence().await.map_err(Error::from)?;
            Doubt(format!("the log has nothing at sequence {}: it ends at {last}", position.sequence))
        }
    };
    if is_explained(position.event, restored_at) {
        return Err(doubt.into());
    }
    Err(Problem::OtherLog(doubt))
}

/// Whether a restore took an event away: one that was made before it.
fn is_explained(event: EventId, restored_at: Option<Timestamp>) -> bool {
    let made = event.uuid().get_timestamp().map(|time| time.to_unix());
    restored_at.is_some_and(|restored| {
        made.is_none_or(|(seconds, _)| i64::try_from(seconds).is_ok_and(|made| made <= restored.as_second()))
    })
}

/// What is doubted may be whole: without room for it sled opens nothing. Then nothing is dropped.
fn check_room(storage: &Storage, doubt: &Doubt) -> Result<(), Error> {
    storage.find_room().map_err(|error| {
        let reason = format!(
            "it cannot be used: {doubt}; nor can a file be written there: {error}. Nothing was removed: make room, and start \
             this process again"
        );
        folder_error(storage, &reason)
    })
}

fn drop_rows(storage: &Storage) -> Result<(), Error> {
    let folder = match storage {
        Storage::Folder(folder) => folder,
        Storage::Memory(store) => {
            store.clear();
            return Ok(());
        }
    };
    match std::fs::remove_dir_all(folder) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => {
            Err(folder_error(storage, &format!("it cannot be dropped: {error}; remove it by hand")))
        }
    }
}

fn folder_error(storage: &Storage, reason: &str) -> Error {
    Error::Folder { folder: storage.to_string(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(event: &str, restored_at: Option<&str>, expected: bool) {
        let restored_at = restored_at.map(|text| text.parse().unwrap());
        assert_eq!(is_explained(event.parse().unwrap(), restored_at), expected, "{event} {restored_at:?}");
    }

    #[test]
    fn a_restore_explains_only_what_was_there_before_it() {
        // Made at 2023-06-29T07:36:42.604Z.
        let event = "01890615-3d6c-774b-bcce-b302099a8057";
        check(event, None, false);
        check(event, Some("2023-06-29T07:36:41Z"), false);
        check(event, Some("2023-06-29T07:36:43Z"), true);
        check(event, Some("2026-01-01T00:00:00Z"), true);
    }
}
