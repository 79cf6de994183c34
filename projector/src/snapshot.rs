//! Snapshots: images of all directories at one position, in the broker's object store. A process that has no rows begins
//! with the newest, answers at once, and fetches the rows from the log behind it.
//!
//! A snapshot is a description in a line of JSON and, for each tenant, the file of its image, sealed under its key.

use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use eventlog::Log;
use eventlog::objects::{Objects, Stream};
use jiff::Timestamp;
use proto::{Position, Tenant};
use serde::{Deserialize, Serialize};
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use crate::directory::{Directory, Image};
use crate::images::Images;
use crate::reader::Reader;
use crate::{Error, Projection};

/// The layout of a snapshot; another one is refused.
const LAYOUT: u32 = 4;
/// Bytes that a description may have.
const HEAD_MAX: u64 = 16 << 20;
/// How long the log may take to confirm what a snapshot holds.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two attempts to remove snapshots.
const AGAIN_DELAY: Duration = Duration::from_secs(10);
/// One whose bytes have been silent for so long will not be whole any more: who put it was killed, or gave up.
const SILENCE_MAX: Duration = Duration::from_secs(10 * 60);
/// How often to look whether it did.
const CONFIRM_INTERVAL: Duration = Duration::from_millis(20);

/// What a snapshot says about itself.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Snapshot {
    layout: u32,
    /// Up to which event.
    pub position: Position,
    /// When it was made.
    pub made: Timestamp,
    indexes: String,
    tenants: Vec<Part>,
}

/// One tenant's part.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Part {
    tenant: Tenant,
    rows: u64,
    bytes: u64,
}

impl Snapshot {
    /// Its name in the object store: names are in the order of positions.
    pub fn name(&self) -> String {
        name(self.position.sequence)
    }

    /// How many events it was made of.
    pub fn rows(&self) -> u64 {
        self.tenants.iter().map(|part| part.rows).sum()
    }

    /// Its size.
    pub fn bytes(&self) -> u64 {
        self.tenants.iter().map(|part| part.bytes).sum()
    }
}

fn name(sequence: u64) -> String {
    format!("{sequence:020}")
}

fn sequence(name: &str) -> Option<u64> {
    name.parse().ok()
}

fn failed(doing: &str, error: &dyn std::fmt::Display) -> Error {
    Error::Snapshot { reason: format!("{doing}: {error}") }
}

impl Projection {
    /// Puts a snapshot of what is applied now into the store, and returns what it says. Nothing when nothing is applied.
    pub async fn snapshot(&self, objects: &dyn Objects) -> Result<Option<Snapshot>, Error> {
        let taken = {
            let state = self.state();
            let images: Vec<(Tenant, Image)> = state
                .tenants
                .iter()
                .map(|(tenant, directory)| (tenant.clone(), Image::of(directory)))
                .collect();
            state.position.map(|position| (position, images, state.corrections))
        };
        let Some((position, images, corrections)) = taken else { return Ok(None) };
        self.confirmed(position.sequence).await?;
        if self.state().corrections != corrections {
            return Err(failed("taking it", &"a time that is in it was corrected meanwhile; take another"));
        }
        let work = self.inner.images.work().map_err(|error| failed("making a temporary folder", &error))?;
        let indexes = self.inner.reader.indexes.fingerprint();
        let mut tenants = Vec::new();
        for (tenant, image) in images {
            let key = self.inner.reader.keyring.tenant_key(&tenant).await?;
            let (folder, rows, columns) = (work.path().to_path_buf(), image.rows(), indexes.clone());
            let of = tenant.clone();
            let write = move || {
                let images = Images::passing(&folder);
                images.write(&of, &image, columns, &key, 0)?;
                images.size(&of)
            };
            let bytes = tokio::task::spawn_blocking(write).await;
            let bytes = bytes.map_err(|error| failed("writing an image", &error))?;
            let bytes = bytes.map_err(|error| failed("writing an image", &error))?;
            tenants.push(Part { tenant, rows, bytes });
        }
        let made = eventlog::clock::now();
        let snapshot = Snapshot { layout: LAYOUT, position, made, indexes, tenants };
        let mut head = serde_json::to_vec(&snapshot).map_err(|error| failed("describing it", &error))?;
        head.push(b'\n');
        let mut whole: Stream = Box::pin(io::Cursor::new(head));
        for part in &snapshot.tenants {
            let file = Images::passing(work.path()).file(&part.tenant);
            let file = File::open(file.unwrap_or_default()).await;
            let file = file.map_err(|error| failed("reading an image", &error))?;
            whole = Box::pin(whole.chain(file));
        }
        objects.put(&snapshot.name(), whole).await?;
        // Whoever erased somebody meanwhile could not remove what was not there yet.
        if self.erased() > position.sequence {
            objects.delete(&snapshot.name()).await?;
            return Err(failed("taking it", &"somebody was erased meanwhile; take another"));
        }
        metrics::counter!("rollcall_snapshots_written_total").increment(1);
        Ok(Some(snapshot))
    }

    /// Removes all snapshots but the newest ones, those that were made before somebody was erased, and those of another
    /// timeline whose positions the log has not reached: they would pass for the newest and fit nobody. What is left of
    /// those that broke off goes too.
    pub async fn prune_snapshots(&self, objects: &dyn Objects, kept: usize) -> Result<(), Error> {
        let (all, erased) = (snapshots(objects).await?, self.erased());
        let is_beyond = all.first().is_some_and(|newest| *newest > self.applied());
        let last = if is_beyond { self.inner.last.ask().await? } else { u64::MAX };
        let (foreign, own): (Vec<u64>, Vec<u64>) = all.into_iter().partition(|at| *at > last);
        let spare = own.into_iter().enumerate().filter(|(number, at)| *number >= kept || *at < erased);
        for at in foreign.into_iter().chain(spare.map(|(_, at)| at)) {
            objects.delete(&name(at)).await?;
        }
        Ok(objects.sweep(SILENCE_MAX).await?)
    }

    /// The last sequence at which somebody was erased, or a tenant dropped.
    fn erased(&self) -> u64 {
        self.state().tenants.values().map(Directory::erased).max().unwrap_or_default()
    }

    /// Has snapshots removed that still hold what is erased now; every process that hears of it tries. However many are
    /// erased, one task does it.
    pub(crate) fn forget_snapshots(&self) {
        let Some(snapshots) = self.inner.snapshots.clone() else { return };
        if self.inner.forgetting.swap(true, Ordering::AcqRel) {
            return;
        }
        let projection = self.clone();
        tokio::spawn(async move {
            loop {
                let erased = projection.erased();
                if let Err(error) = projection.prune_snapshots(&*snapshots, usize::MAX).await {
                    tracing::warn!(%error, "snapshots that must go cannot be removed yet; trying again");
                    tokio::time::sleep(AGAIN_DELAY).await;
                    continue;
                }
                projection.inner.forgetting.store(false, Ordering::Release);
                // Whoever was erased since may have found us at work.
                if projection.erased() == erased || projection.inner.forgetting.swap(true, Ordering::AcqRel) {
                    return;
                }
            }
        });
    }

    /// Waits until the log has told everything up to a sequence: what only its acknowledgement told may be forgotten.
    async fn confirmed(&self, sequence: u64) -> Result<(), Error> {
        let wait = async {
            while self.state().confirmed < sequence {
                tokio::time::sleep(CONFIRM_INTERVAL).await;
            }
        };
        let waited = tokio::time::timeout(CONFIRM_TIMEOUT, wait).await;
        waited.map_err(|_| failed("taking it", &"the log does not confirm what is to be in it"))
    }
}

/// The positions of all snapshots, the newest first.
pub async fn snapshots(objects: &dyn Objects) -> Result<Vec<u64>, Error> {
    let mut all: Vec<u64> =
        objects.list().await?.iter().filter_map(|object| sequence(&object.name)).collect();
    all.sort_unstable_by(|left, right| right.cmp(left));
    Ok(all)
}

/// Unpacks the newest snapshot that fits this log into a folder, and reads its images; nothing when none does. Why one does
/// not is said, and the one before it is looked at.
pub(crate) async fn unpack_newest(
    objects: &dyn Objects,
    log: &dyn Log,
    reader: &Reader,
    images: &Images,
    folder: &Path,
) -> Result<Option<(Snapshot, Vec<(Tenant, Image)>)>, Error> {
    for at in snapshots(objects).await? {
        let unpacked = async {
            let snapshot = unpack(objects, log, reader, folder, at).await?;
            let all = snapshot.images(images, reader).await?;
            let damaged = || Error::Snapshot { reason: "one of its images cannot be read".to_string() };
            Ok::<_, Error>((snapshot, all.ok_or_else(damaged)?))
        };
        match unpacked.await {
            Ok(unpacked) => return Ok(Some(unpacked)),
            Err(reason) => {
                tracing::warn!(snapshot = at, %reason, "a snapshot cannot be used");
                metrics::counter!("rollcall_snapshots_refused_total").increment(1);
            }
        }
    }
    Ok(None)
}

async fn unpack(
    objects: &dyn Objects,
    log: &dyn Log,
    reader: &Reader,
    folder: &Path,
    at: u64,
) -> Result<Snapshot, Error> {
    let refused = |reason: &str| Error::Snapshot { reason: reason.to_string() };
    let stream = objects.get(&name(at)).await?.ok_or_else(|| refused("it is gone"))?;
    let mut stream = BufReader::with_capacity(1 << 20, stream);
    let mut head = Vec::new();
    let read = (&mut stream).take(HEAD_MAX).read_until(b'\n', &mut head).await;
    read.map_err(|error| failed("reading its description", &error))?;
    let layout: Layout = serde_json::from_slice(&head).map_err(|_| refused("it is no snapshot"))?;
    if layout.layout != LAYOUT {
        return Err(refused(&format!("it has layout {}, this version reads {LAYOUT}", layout.layout)));
    }
    let snapshot: Snapshot = serde_json::from_slice(&head).map_err(|_| refused("it is no snapshot"))?;
    if snapshot.position.sequence != at {
        return Err(refused("it is of another position than its name says"));
    }
    if snapshot.indexes != reader.indexes.fingerprint() {
        return Err(refused("it has other indexes than the configuration asks for"));
    }
    match log.read(at).await? {
        Some(message) if message.id == Some(snapshot.position.event) => {}
        Some(_) => return Err(refused("the log has another event there: another timeline")),
        None => return Err(refused("the log is shorter")),
    }
    let images = Images::beside(Some(folder));
    for part in &snapshot.tenants {
        let path = images.file(&part.tenant).unwrap_or_default();
        if let Some(folder) = path.parent() {
            let made = tokio::fs::create_dir_all(folder).await;
            made.map_err(|error| failed("making a folder for it", &error))?;
        }
        let copied = async {
            let mut file = File::create(&path).await?;
            let copied = tokio::io::copy(&mut (&mut stream).take(part.bytes), &mut file).await?;
            file.flush().await?;
            file.sync_all().await?;
            Ok::<u64, io::Error>(copied)
        };
        if copied.await.map_err(|error| failed("reading it", &error))? != part.bytes {
            return Err(refused("it is cut off"));
        }
    }
    // The store compares its digest when the last byte is read.
    let rest = stream.read_to_end(&mut Vec::new()).await.map_err(|error| failed("reading it", &error))?;
    if rest != 0 {
        return Err(refused("more comes behind it"));
    }
    Ok(snapshot)
}

/// What is read of any layout.
#[derive(Deserialize)]
struct Layout {
    layout: u32,
}

impl Snapshot {
    /// Every tenant's image, read from the folder where it was unpacked; nothing when one of them cannot be used.
    async fn images(&self, images: &Images, reader: &Reader) -> Result<Option<Vec<(Tenant, Image)>>, Error> {
        let mut all = Vec::new();
        for part in &self.tenants {
            let key = reader.keyring.tenant_key(&part.tenant).await?;
            let image = images.read(&part.tenant, self.indexes.clone(), &key);
            let Some(image) = image.filter(|image| image.rows() == part.rows) else { return Ok(None) };
            all.push((part.tenant.clone(), image));
        }
        Ok(Some(all))
    }
}
