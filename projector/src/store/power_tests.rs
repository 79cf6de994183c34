//! The power fails at any moment: of a file only what was synced is surely there, and behind it may stand anything. sled
//! is as it was at any moment since its last flush; what the folder holds must be a beginning of the log, and can be
//! written on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use bytes::Bytes;
use eventlog::memory::Chance;
use jiff::Timestamp;
use proto::subject::key_of_id;
use proto::{EventId, Position, ResourceId, Tenant};
use tempfile::TempDir;

use super::Facts;
use super::folder::Folder;
use crate::row::Row;

const CACHE_BYTES: u64 = 8 << 20;
const STEPS: usize = 70;
const ROW_BYTES_MAX: u64 = 20_000;
/// What is behind the part of a file that was synced, at most.
const BEHIND_MAX: u64 = 300_000;

fn tenants() -> [Tenant; 2] {
    ["corp", "acme"].map(|name| name.parse().unwrap())
}

/// What the log says at a sequence.
fn told(sequence: u64) -> (Tenant, Row) {
    let scrambled = sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    let [corp, acme] = tenants();
    let count = usize::try_from(scrambled % ROW_BYTES_MAX / 8).unwrap();
    let payload = scrambled.to_be_bytes().repeat(count);
    let key = key_of_id(ResourceId::new(uuid::Uuid::from_u128(sequence.into())));
    let tenant = if scrambled.is_multiple_of(5) { acme } else { corp };
    (tenant, Row { sequence, time: Timestamp::UNIX_EPOCH, key, payload: Bytes::from(payload) })
}

/// sled's own files, as they are at one moment.
fn of_sled(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let read = || -> BTreeMap<String, Vec<u8>> {
        let files = fs::read_dir(folder).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file());
        let read = |path: &Path| fs::read(path).unwrap_or_default();
        files.map(|entry| (entry.file_name().into_string().unwrap(), read(&entry.path()))).collect()
    };
    let mut files = read();
    loop {
        // It writes on a thread of its own.
        let again = read();
        if again == files {
            return files;
        }
        files = again;
    }
}

fn segments(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder.join("segments")).unwrap().map(Result::unwrap);
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

fn put(folder: &Path, files: &BTreeMap<String, Vec<u8>>) {
    fs::create_dir_all(folder.join("segments")).unwrap();
    for (name, bytes) in files {
        fs::write(folder.join(name), bytes).unwrap();
    }
}

/// How long sled knows segments to be.
fn lengths(sled: &BTreeMap<String, Vec<u8>>) -> BTreeMap<String, usize> {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), sled);
    let lengths = sled::open(folder.path()).unwrap().open_tree("segments").unwrap();
    let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
    let length = |(segment, length): (sled::IVec, sled::IVec)| {
        (format!("{:08}.rows", number(&segment)), number(&length) as usize)
    };
    lengths.iter().map(|entry| length(entry.unwrap())).collect()
}

/// What may be found behind what was synced: what was written, a part of it, nothing, or anything else.
fn behind(chance: &Chance, written: &[u8]) -> Vec<u8> {
    let count = usize::try_from(chance.below(BEHIND_MAX)).unwrap();
    match chance.below(4) {
        0 => Vec::new(),
        1 => vec![0; count],
        2 => (0..count).map(|at| ((at * at) >> 5) as u8).collect(),
        _ => written.iter().take(count).copied().collect(),
    }
}

/// A store, and what must be true of it.
struct World {
    chance: Chance,
    disk: TempDir,
    folder: Option<Folder>,
    facts: Facts,
    /// How sled was, since it was flushed last.
    moments: Vec<BTreeMap<String, Vec<u8>>>,
    /// Segments that were given back; they may be there again.
    given_back: BTreeMap<String, Vec<u8>>,
    flushed: u64,
    removed: BTreeSet<u64>,
    removed_surely: BTreeSet<u64>,
    failures: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let disk = tempfile::tempdir().unwrap();
        let (folder, facts) = Folder::open(disk.path(), CACHE_BYTES).map_err(|_| "unopened").unwrap();
        folder.flush().unwrap();
        Self {
            chance: Chance::new(seed),
            moments: vec![of_sled(disk.path())],
            disk,
            folder: Some(folder),
            facts,
            given_back: BTreeMap::new(),
            flushed: 0,
            removed: BTreeSet::new(),
            removed_surely: BTreeSet::new(),
            failures: 0,
        }
    }

    fn folder(&self) -> &Folder {
        self.folder.as_ref().unwrap()
    }

    fn position(&self) -> u64 {
        self.facts.position.map_or(0, |position| position.sequence)
    }

    fn step(&mut self) {
        match self.chance.below(20) {
            0..10 => self.write(),
            10..12 => self.flush(),
            12..15 => self.remove(),
            15..18 => self.reclaim(),
            _ => self.fail(),
        }
    }

    fn write(&mut self) {
        let first = self.position() + 1;
        let last = first + self.chance.below(150);
        let mut rows: BTreeMap<Tenant, Vec<Row>> = BTreeMap::new();
        for sequence in first..=last {
            let (tenant, row) = told(sequence);
            rows.entry(tenant).or_default().push(row);
        }
        let event = EventId::new(uuid::Uuid::from_u128(last.into()));
        self.facts = self.facts.with(&rows, &BTreeMap::new(), Position { sequence: last, event });
        self.folder().write(&rows, &self.facts).unwrap();
        self.moments.push(of_sled(self.disk.path()));
    }

    fn flush(&mut self) {
        self.folder().flush().unwrap();
        self.flushed = self.position();
        self.removed_surely.clone_from(&self.removed);
        self.moments = vec![of_sled(self.disk.path())];
    }

    /// Most of the rows between two sequences.
    fn remove(&mut self) {
        self.flush();
        let from = self.chance.below(self.flushed + 1);
        let removed =
            (from..self.flushed.min(from + 400)).filter(|sequence| sequence % 4 != 0 && *sequence > 0);
        let removed: Vec<u64> = removed.filter(|sequence| !self.removed.contains(sequence)).collect();
        for tenant in tenants() {
            let its: Vec<u64> =
                removed.iter().copied().filter(|sequence| told(*sequence).0 == tenant).collect();
            self.folder().remove(&tenant, &its).unwrap();
            self.moments.push(of_sled(self.disk.path()));
        }
        self.removed.extend(removed);
    }

    /// The power may fail in between.
    fn reclaim(&mut self) {
        let before = segments(self.disk.path());
        let fails_at = self.chance.below(6);
        let (mut asked, mut moments) = (0, Vec::new());
        let mut goes_on = || {
            asked += 1;
            moments.push(of_sled(self.disk.path()));
            asked <= fails_at
        };
        let is_done = self.folder().reclaim(&mut goes_on).unwrap();
        self.moments.extend(moments);
        if is_done {
            let after = segments(self.disk.path());
            let gone = before.into_iter().filter(|(name, _)| !after.contains_key(name));
            self.given_back.extend(gone);
            // What tells where rows stand now is on disk before the segments go.
            self.moments = vec![of_sled(self.disk.path())];
        } else {
            self.fail();
        }
    }

    fn fail(&mut self) {
        let sled = self.chance.pick(&self.moments).unwrap().clone();
        let (lengths, disk) = (lengths(&sled), tempfile::tempdir().unwrap());
        put(disk.path(), &sled);
        let mut there = segments(self.disk.path());
        self.folder = None;
        for (name, length) in &lengths {
            let written = there.remove(name).unwrap_or_else(|| panic!("{name} is known, and not there"));
            let (synced, rest) = written.split_at(*length);
            let found = [synced.to_vec(), behind(&self.chance, rest)].concat();
            fs::write(disk.path().join("segments").join(name), found).unwrap();
        }
        let strange = there.iter().chain(&self.given_back).filter(|(name, _)| !lengths.contains_key(*name));
        for (name, written) in strange {
            if self.chance.strikes(500) {
                fs::write(disk.path().join("segments").join(name), behind(&self.chance, written)).unwrap();
            }
        }
        self.disk = disk;
        let opened = Folder::open(self.disk.path(), CACHE_BYTES);
        let (folder, facts) = opened.unwrap_or_else(|why| panic!("it is not trusted: {why:?}"));
        (self.folder, self.facts) = (Some(folder), facts);
        self.failures += 1;
        self.check();
        let position = self.position();
        self.removed.retain(|sequence| *sequence <= position);
        self.flush();
    }

    /// What is there is what the log says, up to its position, and no more is missing than was removed.
    fn check(&mut self) {
        let position = self.position();
        assert!(position >= self.flushed, "{position} is there, and {} was flushed", self.flushed);
        let mut found = BTreeMap::new();
        for tenant in tenants() {
            let each = |row: Row| found.insert(row.sequence, row).is_none();
            self.folder().range(&tenant, 0, position, each).unwrap();
        }
        for sequence in 1..=position {
            let (tenant, expected) = told(sequence);
            let row = self.folder().get(&tenant, sequence).unwrap();
            assert_eq!(row.is_some(), found.contains_key(&sequence));
            match &row {
                Some(row) => {
                    assert!(row.payload == expected.payload && row.key == expected.key, "{sequence}")
                }
                None => assert!(self.removed.contains(&sequence), "{sequence} is lost"),
            }
            assert!(row.is_none() || !self.removed_surely.contains(&sequence), "{sequence} is back");
            if row.is_some() {
                self.removed.remove(&sequence);
            }
        }
    }
}

#[test]
fn after_a_power_failure_a_beginning_is_there_and_can_be_written_on() {
    for seed in 1..=3 {
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            world.step();
        }
        world.fail();
        assert!(world.failures > 5 && !world.given_back.is_empty(), "seed {seed}");
    }
}
