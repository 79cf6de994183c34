//! Images of directories on disk, so that opening need not read every row: one file for each tenant, sealed under its key.
//! An image is only ever older than the rows beside it, and is thrown away on any doubt: the rows make it again.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::sync::{Mutex, MutexGuard, PoisonError};

use eventlog::clock;
use proto::Tenant;
use proto::sealing::{DataKey, NONCE_BYTES, Nonce};
use serde::{Deserialize, Serialize};

use crate::directory::Image;
use crate::table::{Input, Output};

/// The folder beside the rows.
const FOLDER: &str = "images";
/// What a file begins with.
const MAGIC: &[u8; 8] = b"rcimage1";
/// The layout of an image; another one is not read.
const LAYOUT: u32 = 5;
/// Bytes that one sealed piece may have.
const PIECE_MAX: u32 = 64 << 20;
/// Bytes that the description may have.
const HEAD_MAX: u32 = 1 << 20;
/// Pieces that are opened ahead of whoever reads them.
const AHEAD: usize = 4;
/// So many bytes are written between two syncs.
const SYNC_STEP: usize = 8 << 20;

/// What a file says about its image before it is opened; sealed with every piece.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct Head {
    layout: u32,
    tenant: Tenant,
    /// What the columns are.
    indexes: String,
}

/// The images of a projection.
#[derive(Debug, Default)]
pub(crate) struct Images {
    /// Nothing where rows are kept in memory.
    folder: Option<PathBuf>,
    /// Whether they are gone after a crash anyway, so that none need be on disk.
    passing: bool,
    kept: Mutex<BTreeMap<Tenant, Kept>>,
}

/// What is known of a tenant's image.
#[derive(Clone, Copy, Debug, Default)]
struct Kept {
    /// How often it was forgotten: one that was taken before must not appear afterwards.
    forgotten: u64,
    /// How many rows are in it.
    rows: u64,
    /// The last sequence in it.
    applied: u64,
}

impl Kept {
    fn holds(&mut self, image: Option<&Image>) {
        self.rows = image.map_or(0, Image::rows);
        self.applied = image.map_or(0, Image::applied);
    }
}

impl Images {
    pub(crate) fn beside(rows: Option<&Path>) -> Self {
        Self { folder: rows.map(|rows| rows.join(FOLDER)), ..Self::default() }
    }

    /// Images in a folder to work in: a sync for each of thousands of tenants would hold up the broker's.
    pub(crate) fn passing(folder: &Path) -> Self {
        Self { folder: Some(folder.join(FOLDER)), passing: true, ..Self::default() }
    }

    /// Removes what a process that was killed left behind while it wrote. No tenant's name has a dot.
    pub(crate) fn sweep(&self) {
        let entries = self.folder.as_ref().and_then(|folder| std::fs::read_dir(folder).ok());
        for entry in entries.into_iter().flatten().flatten() {
            if entry.file_name().as_encoded_bytes().contains(&b'.') {
                let path = entry.path();
                let removed =
                    if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
                if let Err(error) = removed {
                    tracing::warn!(path = %path.display(), %error, "what is left of an image cannot be removed");
                }
            }
        }
    }

    /// Removes all of them: without rows nothing tells which log they were made of.
    pub(crate) fn drop_all(&self) -> io::Result<()> {
        match self.folder.as_ref().map(std::fs::remove_dir_all) {
            Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Some(_) | None => Ok(()),
        }
    }

    /// A folder to work in, which goes with whoever holds it.
    pub(crate) fn work(&self) -> io::Result<tempfile::TempDir> {
        match &self.folder {
            None => tempfile::tempdir(),
            Some(folder) => {
                std::fs::create_dir_all(folder)?;
                tempfile::tempdir_in(folder)
            }
        }
    }

    /// Where a tenant's image is; nothing where there are none.
    pub(crate) fn file(&self, tenant: &Tenant) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join(tenant.as_str()))
    }

    /// How large a tenant's image is.
    pub(crate) fn size(&self, tenant: &Tenant) -> io::Result<u64> {
        self.file(tenant).map_or(Ok(0), |path| Ok(std::fs::metadata(path)?.len()))
    }

    /// Whether there can be any.
    pub(crate) fn is_used(&self) -> bool {
        self.folder.is_some()
    }

    /// What [`Images::write`] must be told, asked before the image is taken.
    pub(crate) fn forgotten(&self, tenant: &Tenant) -> u64 {
        self.lock().get(tenant).copied().unwrap_or_default().forgotten
    }

    /// How many rows are in a tenant's image; 0 when there is none.
    pub(crate) fn rows(&self, tenant: &Tenant) -> u64 {
        self.lock().get(tenant).copied().unwrap_or_default().rows
    }

    /// The last sequence in a tenant's image; 0 when there is none.
    pub(crate) fn applied(&self, tenant: &Tenant) -> u64 {
        self.lock().get(tenant).copied().unwrap_or_default().applied
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Tenant, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing of a tenant stays in its image.
    pub(crate) fn forget(&self, tenant: &Tenant) {
        let mut all = self.lock();
        let kept = all.entry(tenant.clone()).or_default();
        *kept = Kept { forgotten: kept.forgotten + 1, ..Kept::default() };
        if let Some(path) = self.file(tenant)
            && let Err(error) = std::fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::error!(%tenant, path = %path.display(), %error, "an image that must go cannot be removed; remove it by hand");
        }
    }

    /// Writes an image beside the former one and then takes its place. All its rows must be on disk before.
    pub(crate) fn write(
        &self,
        tenant: &Tenant,
        image: &Image,
        indexes: String,
        key: &DataKey,
        forgotten: u64,
    ) -> io::Result<()> {
        let Some(path) = self.file(tenant) else { return Ok(()) };
        if let Some(folder) = &self.folder {
            std::fs::create_dir_all(folder)?;
        }
        let fresh = path.with_extension("fresh");
        let head = Head { layout: LAYOUT, tenant: tenant.clone(), indexes };
        let written = write_file(&fresh, &head, image, key).and_then(|file| {
            if !self.passing {
                file.sync_all()?;
            }
            let mut all = self.lock();
            let kept = all.entry(tenant.clone()).or_default();
            if kept.forgotten == forgotten {
                std::fs::rename(&fresh, &path)?;
                // Whoever removes rows because of it counts on its name.
                if let Some(folder) = self.folder.as_ref().filter(|_| !self.passing) {
                    File::open(folder)?.sync_all()?;
                }
                kept.holds(Some(image));
            }
            Ok(())
        });
        // Gone when all went well.
        let _ = std::fs::remove_file(&fresh);
        written
    }

    /// A tenant's image; nothing when there is none that can be used, which is said where it is a surprise.
    pub(crate) fn read(&self, tenant: &Tenant, indexes: String, key: &DataKey) -> Option<Image> {
        let path = self.file(tenant)?;
        let wanted = Head { layout: LAYOUT, tenant: tenant.clone(), indexes };
        let why = match read_file(&path, &wanted, key) {
            Ok(image) => {
                self.lock().entry(tenant.clone()).or_default().holds(image.as_ref());
                return image;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => error,
        };
        tracing::warn!(%tenant, path = %path.display(), reason = %why, "an image of the projection cannot be used; reading its rows instead");
        metrics::counter!("rollcall_projection_images_refused_total").increment(1);
        self.forget(tenant);
        None
    }
}

/// The file, of which the end need not be on disk yet.
fn write_file(path: &Path, head: &Head, image: &Image, key: &DataKey) -> io::Result<File> {
    let file = Steps { file: File::create(path)?, unsynced: 0 };
    let mut file = BufWriter::with_capacity(1 << 16, file);
    let head = serde_json::to_vec(head)?;
    file.write_all(MAGIC)?;
    file.write_all(&length(head.len())?)?;
    file.write_all(&head)?;
    let mut number = 0_u64;
    let mut full = |bytes: &mut Vec<u8>| {
        let nonce: Nonce = clock::random().map_err(io::Error::other)?;
        key.seal_in_place(&nonce, bytes, &associated(&head, number));
        number += 1;
        file.write_all(&length(bytes.len())?)?;
        file.write_all(&nonce)?;
        file.write_all(bytes)
    };
    let mut output = Output::new(&mut full);
    image.write(&mut output);
    output.finish()?;
    let Steps { file, .. } = file.into_inner().map_err(io::IntoInnerError::into_error)?;
    Ok(file)
}

/// A file that is synced while it grows. A large one that is synced at its end alone holds up whoever else syncs on the
/// same disk for as long, and the broker does so for every write: beside a file of 700 MB the longest sync took 185 ms,
/// in steps 9 ms.
struct Steps {
    file: File,
    unsynced: usize,
}

impl Write for Steps {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.unsynced += written;
        if self.unsynced >= SYNC_STEP {
            self.file.sync_data()?;
            self.unsynced = 0;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn length(length: usize) -> io::Result<[u8; 4]> {
    Ok(u32::try_from(length).map_err(io::Error::other)?.to_le_bytes())
}

fn associated(head: &[u8], number: u64) -> Vec<u8> {
    [head, &number.to_le_bytes()].concat()
}

/// Nothing when it is of other indexes or another layout.
fn read_file(path: &Path, wanted: &Head, key: &DataKey) -> io::Result<Option<Image>> {
    let damaged = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_string());
    let mut file = BufReader::with_capacity(1 << 16, File::open(path)?);
    let mut magic = [0; MAGIC.len()];
    file.read_exact(&mut magic)?;
    if magic != *MAGIC {
        return Err(damaged("it is no image"));
    }
    let head = read_piece(&mut file, HEAD_MAX)?.ok_or_else(|| damaged("it is cut off"))?;
    let said: Head = serde_json::from_slice(&head)?;
    if said != *wanted {
        tracing::info!(tenant = %wanted.tenant, "the image of the projection is of other indexes or another layout; reading its rows instead");
        return Ok(None);
    }
    let (opened, pieces) = mpsc::sync_channel::<Vec<u8>>(AHEAD);
    // The memory of pieces is used again: what is only just freed stays with the process for a while.
    let (used, free) = mpsc::channel::<Vec<u8>>();
    std::thread::scope(|scope| {
        // One opens pieces while the other makes columns of them.
        let open = move || -> io::Result<()> {
            let mut number = 0_u64;
            while let Some((nonce, length)) = read_nonce(&mut file)? {
                let mut piece = free.try_recv().unwrap_or_default();
                piece.resize(length, 0);
                file.read_exact(&mut piece)?;
                key.open_in_place(&nonce, &mut piece, &associated(&head, number))
                    .map_err(|_| damaged("a part of it does not open under the tenant's key"))?;
                number += 1;
                if opened.send(piece).is_err() {
                    break;
                }
            }
            Ok(())
        };
        let opening = scope.spawn(open);
        let mut more = |bytes: &mut Vec<u8>| {
            let mut piece = pieces.recv().ok()?;
            if bytes.is_empty() {
                std::mem::swap(bytes, &mut piece);
            } else {
                bytes.extend_from_slice(&piece);
            }
            // Whoever opens may have done with it.
            let _ = used.send(piece);
            Some(())
        };
        let image = Image::read(&mut Input::new(&mut more));
        drop(pieces);
        opening.join().unwrap_or_else(|_| Err(damaged("reading it failed")))?;
        image.map(Some).ok_or_else(|| damaged("it is cut off, or holds something else"))
    })
}

fn read_piece(file: &mut impl Read, max: u32) -> io::Result<Option<Vec<u8>>> {
    let Some(length) = read_length(file, max)? else { return Ok(None) };
    let mut piece = vec![0; length];
    file.read_exact(&mut piece)?;
    Ok(Some(piece))
}

/// The nonce of the next piece, and its length; nothing at the end.
fn read_nonce(file: &mut impl Read) -> io::Result<Option<(Nonce, usize)>> {
    let Some(length) = read_length(file, PIECE_MAX)? else { return Ok(None) };
    let mut nonce = [0; NONCE_BYTES];
    file.read_exact(&mut nonce)?;
    Ok(Some((nonce, length)))
}

fn read_length(file: &mut impl Read, max: u32) -> io::Result<Option<usize>> {
    let mut length = [0; 4];
    let mut read = 0;
    while read < length.len() {
        match file.read(length.get_mut(read..).unwrap_or_default())? {
            0 if read == 0 => return Ok(None),
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => read += count,
        }
    }
    let length = u32::from_le_bytes(length);
    if length > max {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a length in it cannot be"));
    }
    Ok(Some(length as usize))
}
