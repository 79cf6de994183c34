//! What a backup says about itself: one file a stream, and a manifest with numbers, digests and settings.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use proto::sealing::DataKey;

use crate::{Error, secret};

/// The manifest's name in the folder.
pub const MANIFEST: &str = "manifest.json";
/// The format that this version writes and reads.
const FORMAT: u32 = 1;
/// The largest manifest that is read.
const MANIFEST_BYTES_MAX: u64 = 1024 * 1024;
/// How much of a file is in memory at once.
const BUFFER_BYTES: usize = 256 * 1024;

/// Every stream, in the order of the snapshots: each refers only to what comes after it (docs/adr/0005-backup.md).
pub const STREAMS: [&str; 8] = [
    "KV_LEASES",
    "PROVISIONING",
    "KV_REQUESTS",
    "KV_COMPLETIONS",
    "IDENTITY",
    "CONTROL",
    "KV_ROLLCALL",
    "KV_KEYS",
];

/// Without these nothing can be read.
const NEEDED: [&str; 5] = ["IDENTITY", "PROVISIONING", "CONTROL", "KV_ROLLCALL", "KV_KEYS"];

/// A backup as its manifest tells it.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Manifest {
    /// Of the folder.
    pub format: u32,
    /// The version of rollcall that made it.
    pub rollcall: String,
    /// The version of the broker that made it.
    pub server: String,
    /// When it was begun.
    pub begun_at: Timestamp,
    /// When the last snapshot was there.
    pub finished_at: Timestamp,
    /// Nothing when nothing was ever written.
    pub subject_secret: Option<SecretProof>,
    /// In the order in which they were taken.
    pub streams: Vec<Entry>,
}

/// Tells whether a master key is the one that belongs to the backup.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct SecretProof {
    /// The subject secret's fingerprint, as it stands on the stream IDENTITY.
    pub fingerprint: String,
    /// The secret, sealed under the master key, in hexadecimal digits.
    pub sealed: String,
}

/// One stream.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Entry {
    /// The stream's name.
    pub name: String,
    /// The file's name in the folder.
    pub file: String,
    /// The file's size.
    pub bytes: u64,
    /// The file's digest, in hexadecimal digits.
    pub sha256: String,
    /// Messages in it.
    pub messages: u64,
    /// The first one's sequence.
    pub first_sequence: u64,
    /// The last one's sequence.
    pub last_sequence: u64,
    /// The id of the last event; a bucket has none.
    pub last_event: Option<String>,
    /// The stream's settings as the broker tells them.
    pub config: serde_json::Value,
}

impl Entry {
    /// Whether the broker removes values by their age, so that fewer may be there later.
    pub(super) fn ages(&self) -> bool {
        self.config.get("max_age").and_then(serde_json::Value::as_u64).is_some_and(|age| age > 0)
    }
}

/// A backup that was found to be whole.
#[derive(Clone, Debug)]
pub struct Backup {
    /// Where it is.
    pub folder: PathBuf,
    /// What it says.
    pub manifest: Manifest,
    /// Its name: a digest of the manifest.
    pub id: String,
}

pub(super) fn file_name(stream: &str) -> String {
    format!("{stream}.snapshot")
}

impl Manifest {
    pub(super) fn new(server: String, begun_at: Timestamp) -> Self {
        Self {
            format: FORMAT,
            rollcall: env!("CARGO_PKG_VERSION").to_string(),
            server,
            begun_at,
            finished_at: begun_at,
            subject_secret: None,
            streams: Vec::new(),
        }
    }

    /// The entry of a stream.
    pub fn stream(&self, name: &str) -> Option<&Entry> {
        self.streams.iter().find(|entry| entry.name == name)
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.streams.iter().map(|entry| entry.bytes).sum()
    }

    /// Writes it into the folder and makes it last.
    pub(super) fn write(&self, folder: &Path) -> Result<(), Error> {
        let path = folder.join(MANIFEST);
        let failed = |error: &dyn std::fmt::Display| {
            refused("writing the manifest", format!("{}: {error}", path.display()))
        };
        let text = serde_json::to_vec_pretty(self).map_err(|error| failed(&error))?;
        let mut file = private(&path).map_err(|error| failed(&error))?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(|error| failed(&error))
    }

    /// Refuses a master key that does not open what the backup holds.
    pub fn check_master(&self, master: &DataKey) -> Result<(), Error> {
        let Some(proof) = &self.subject_secret else { return Ok(()) };
        let sealed = data_encoding::HEXLOWER.decode(proof.sealed.as_bytes()).unwrap_or_default();
        let opened = secret::unseal(&sealed, master);
        if opened.is_some_and(|secret| secret.fingerprint() == proof.fingerprint) {
            return Ok(());
        }
        Err(refused(
            "checking the master key",
            "the backup was written under another master key than this one, and nothing in it can be read without its \
             own; bring the file master.key of that installation",
        ))
    }

    fn mistake(&self) -> Option<String> {
        if self.format != FORMAT {
            return Some(format!(
                "its format is {}, but this version of rollcall reads format {FORMAT}; use the version that made it ({})",
                self.format, self.rollcall
            ));
        }
        if let Some(missing) = NEEDED.iter().find(|name| self.stream(name).is_none()) {
            return Some(format!("its manifest does not have the stream {missing}"));
        }
        let strange = self
            .streams
            .iter()
            .find(|entry| !STREAMS.contains(&entry.name.as_str()) || entry.file != file_name(&entry.name));
        strange.map(|entry| {
            format!(
                "its manifest has the stream {:?} in the file {:?}, which this version of rollcall does not know",
                entry.name, entry.file
            )
        })
    }
}

impl Backup {
    /// Reads the manifest; the files are not looked at.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let doing = || format!("reading the backup {}", folder.display());
        let path = folder.join(MANIFEST);
        let file = File::open(&path).map_err(|error| {
            let reason = match error.kind() {
                std::io::ErrorKind::NotFound => format!(
                    "it has no {MANIFEST}: it is no backup, or one that was not finished; take another one"
                ),
                _ => format!("{} cannot be read: {error}", path.display()),
            };
            refused(doing(), reason)
        })?;
        let mut text = Vec::new();
        file.take(MANIFEST_BYTES_MAX)
            .read_to_end(&mut text)
            .map_err(|error| refused(doing(), format!("{} cannot be read: {error}", path.display())))?;
        let manifest: Manifest = serde_json::from_slice(&text).map_err(|error| {
            damaged(doing(), format!("{MANIFEST} is damaged ({error}); take another backup"))
        })?;
        if let Some(mistake) = manifest.mistake() {
            return Err(refused(doing(), mistake));
        }
        let id = hexadecimal(&Sha256::digest(&text)).chars().take(16).collect();
        Ok(Self { folder: folder.to_path_buf(), manifest, id })
    }

    /// Reads every file and compares its size and digest with the manifest; every one that differs is named. Blocks.
    pub fn verify(&self, told: &dyn Fn(&str, u64, u64)) -> Result<(), Error> {
        let mut mistakes = Vec::new();
        for entry in &self.manifest.streams {
            match digest(&self.folder.join(&entry.file), |done| told(&entry.name, done, entry.bytes)) {
                Err(error) => mistakes.push(format!("{} cannot be read: {error}", entry.file)),
                Ok((bytes, _)) if bytes != entry.bytes => mistakes.push(format!(
                    "{} has {bytes} bytes, should have {}: it is cut off or was changed",
                    entry.file, entry.bytes
                )),
                Ok((_, sha256)) if sha256 != entry.sha256 => {
                    mistakes.push(format!(
                        "{} has another digest than when it was written: it is damaged",
                        entry.file
                    ));
                }
                Ok(_) => {}
            }
        }
        if mistakes.is_empty() {
            return Ok(());
        }
        let reason = format!("{}. Take another backup; this one must not be restored", mistakes.join("; "));
        Err(damaged(format!("verifying the backup {}", self.folder.display()), reason))
    }
}

/// A file's size and digest.
fn digest(path: &Path, told: impl Fn(u64)) -> std::io::Result<(u64, String)> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut bytes = 0;
    loop {
        let read = file.read(&mut buffer)?;
        let Some(part) = buffer.get(..read).filter(|part| !part.is_empty()) else { break };
        hash.update(part);
        bytes += read as u64;
        told(bytes);
    }
    Ok((bytes, hexadecimal(&hash.finalize())))
}

pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

/// A new file that only its owner can read.
pub(super) fn private(path: &Path) -> std::io::Result<File> {
    std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)
}

pub(super) fn refused(doing: impl Into<String>, reason: impl Into<String>) -> Error {
    Error::Refused { doing: doing.into(), reason: reason.into() }
}

pub(super) fn damaged(doing: impl Into<String>, reason: impl Into<String>) -> Error {
    Error::Damaged { doing: doing.into(), reason: reason.into() }
}
