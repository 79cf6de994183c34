//! Opening: trust the folder if it agrees with the log, otherwise build it again.

use std::sync::Arc;
use std::time::Instant;

use eventlog::{Keyring, Log};
use proto::Tenant;
use scim::Registry;

use crate::hot::Hot;
use crate::index::Indexes;
use crate::reader::Reader;
use crate::row::Row;
use crate::state::State;
use crate::store::{Doubt, Facts, Storage, Store};
use crate::{Config, Error, Projection};

/// How often progress is told, in rows.
const PROGRESS_ROWS: u64 = 100_000;

impl Projection {
    /// Opens the directory. On any doubt (damage, another layout, another timeline) the folder is dropped and built
    /// again from the log, loudly.
    pub async fn open(
        config: Config,
        log: Arc<dyn Log>,
        keyring: Keyring,
        registry: Arc<Registry>,
    ) -> Result<Self, Error> {
        let begun = Instant::now();
        let indexes = Arc::new(Indexes::new(&registry, &config.indexed).map_err(Error::Index)?);
        let reader = Reader { keyring, registry, indexes };
        let (store, state) = match load(&config, &*log, &reader).await {
            Ok(loaded) => loaded,
            Err(Problem::Doubt(doubt)) => {
                tracing::warn!(folder = %config.storage, reason = %doubt, "the projection cannot be trusted; building it again from the log");
                metrics::counter!("rollcall_projection_rebuilds_total").increment(1);
                drop_rows(&config.storage)?;
                match load(&config, &*log, &reader).await {
                    Ok(loaded) => loaded,
                    Err(Problem::Doubt(doubt)) => {
                        return Err(folder_error(&config.storage, &doubt.to_string()));
                    }
                    Err(Problem::Error(error)) => return Err(error),
                }
            }
            Err(Problem::Error(error)) => return Err(error),
        };
        let projection = Self::new(log, reader, store, state, Hot::new(config.hot_bytes));
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

async fn load(config: &Config, log: &dyn Log, reader: &Reader) -> Result<(Store, State), Problem> {
    if let Storage::Folder(folder) = &config.storage {
        std::fs::create_dir_all(folder).map_err(|error| folder_error(&config.storage, &error.to_string()))?;
    }
    let (store, facts) = Store::open(&config.storage, config.cache_bytes)?;
    check_timeline(&facts, log).await?;
    let mut state = State::new(reader.indexes.clone());
    let to = facts.position.map_or(0, |position| position.sequence);
    let mut loaded = 0;
    for (tenant, expected) in &facts.rows {
        let rows = rows_of(&store, tenant, to)?;
        if rows.len() as u64 != *expected {
            return Err(
                Doubt(format!("tenant {tenant} has {} rows, should have {expected}", rows.len())).into()
            );
        }
        for row in rows {
            let sequence = row.sequence;
            let read = match reader.read(row).await {
                Ok(read) => read,
                Err(error @ Error::Log(_)) => return Err(error.into()),
                Err(_) => return Err(Doubt(format!("the row at sequence {sequence} cannot be read")).into()),
            };
            state.load(&read);
            loaded += 1;
            if loaded % PROGRESS_ROWS == 0 {
                tracing::info!(rows = loaded, "reading the projection");
            }
        }
    }
    if state.position != facts.position {
        return Err(Doubt("its last row is missing".to_string()).into());
    }
    Ok((store, state))
}

fn rows_of(store: &Store, tenant: &Tenant, to: u64) -> Result<Vec<Row>, Doubt> {
    let mut rows = Vec::new();
    store.range(tenant, 0, to, |row| {
        rows.push(row);
        Ok(())
    })?;
    Ok(rows)
}

/// The stored position must name the same event in the log; another one there means another timeline.
async fn check_timeline(facts: &Facts, log: &dyn Log) -> Result<(), Problem> {
    let Some(position) = facts.position else { return Ok(()) };
    let message = log.read(position.sequence).await.map_err(Error::from)?;
    match message {
        Some(message) if message.id == Some(position.event) => Ok(()),
        Some(_) => Err(Doubt(format!(
            "the log has another event at sequence {}: another timeline",
            position.sequence
        ))
        .into()),
        None => {
            Err(Doubt(format!("the log has nothing at sequence {}: it is shorter", position.sequence)).into())
        }
    }
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
