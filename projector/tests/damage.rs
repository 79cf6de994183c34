//! Folders that were closed cleanly and damaged afterwards: opening says so and builds again, or reads what is whole, and
//! what is found damaged later is read from the log. It never panics, and never answers anything else than before.

#![cfg(test)]

#[expect(clippy::allow_attributes, reason = "which parts are used differs between the tests that include it")]
#[allow(dead_code, reason = "the other tests use the rest")]
mod common;

use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use common::answers::{answers, same};
use common::history::{History, tenants};
use common::{Running, config, files, registry, store};
use eventlog::Keyring;
use eventlog::memory::{self, Chance, Faults};
use projector::{Error, Moment, Projection, When};
use proto::Tenant;
use proto::sealing::DataKey;

/// Folders that are damaged at random.
const SEEDS: u64 = 24;
/// What opening may take; an endless wait is a failure, too.
const OPENING_MAX: Duration = Duration::from_secs(60);

/// A folder with images of two tenants, and with rows that are newer.
struct Whole {
    history: History,
    folder: tempfile::TempDir,
    /// Images that were written earlier.
    older: PathBuf,
    /// What each tenant is answered.
    expected: Vec<(Tenant, String)>,
}

impl Whole {
    async fn new(seed: u64) -> Self {
        let history = History::new(seed, 5);
        let folder = tempfile::tempdir().unwrap();
        let older = folder.path().join("older");
        let mut whole = Self { history, folder, older, expected: Vec::new() };
        whole.goes_on(1_050).await;
        copy(&whole.images(), &whole.older);
        whole.goes_on(1_050).await;
        assert_ne!(
            std::fs::read(whole.images().join("corp")).unwrap(),
            std::fs::read(whole.older.join("corp")).unwrap()
        );
        whole.goes_on(60).await;
        let running = open(whole.folder.path(), &whole.history).await.unwrap();
        whole.expected = whole.ask(&running.projection).await;
        running.stop().await;
        whole
    }

    fn images(&self) -> PathBuf {
        self.folder.path().join("projection/images")
    }

    /// So many more events of each tenant, up to a clean stop.
    async fn goes_on(&mut self, steps: usize) {
        for _ in 0..steps {
            for tenant in &tenants()[..2] {
                self.history.step(tenant).await;
            }
        }
        self.history.book.tell(self.history.book.len());
        open(self.folder.path(), &self.history).await.unwrap().stop().await;
    }

    async fn ask(&self, projection: &Projection) -> Vec<(Tenant, String)> {
        let mut all = Vec::new();
        for tenant in &tenants()[..2] {
            let when = When::Sequence(self.history.book.len() / 3);
            all.push((tenant.clone(), answers(projection, tenant, &registry(), &[when]).await));
        }
        all
    }

    fn copied(&self) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        copy(self.folder.path(), folder.path());
        folder
    }

    /// A damaged folder answers as before, at once and after another start.
    async fn survives(&self, folder: &Path, what: &str) {
        for start in ["first", "second"] {
            let running = open(folder, &self.history).await.unwrap_or_else(|error| panic!("{what}: {error}"));
            for ((tenant, found), (_, expected)) in
                self.ask(&running.projection).await.iter().zip(&self.expected)
            {
                same(found, expected, &format!("{what}, {tenant}, {start} start"));
            }
            running.stop().await;
        }
    }
}

fn copy(from: &Path, to: &Path) {
    for file in files(from) {
        let path = to.join(file.strip_prefix(from).unwrap());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::copy(file, path).unwrap();
    }
}

/// Opens on a thread of its own, so that neither a panic nor an endless wait is overlooked.
async fn open(folder: &Path, history: &History) -> Result<Running, Error> {
    open_with(folder, history, history.keyring.clone()).await
}

async fn open_with(folder: &Path, history: &History, keyring: Keyring) -> Result<Running, Error> {
    let (config, log) = (config(folder, &[]), Arc::new(history.book.clone()));
    let opening = tokio::spawn(Projection::open(config, log, keyring, registry()));
    let opened =
        tokio::time::timeout(OPENING_MAX, opening).await.expect("opening ends").expect("it does not panic");
    let running = Running::start(opened?);
    running.projection.catch_up(common::deadline()).await?;
    Ok(running)
}

/// Which file holds the rows: another one after they were built again.
fn rows_of(folder: &Path) -> Option<u64> {
    Some(std::fs::metadata(folder.join("projection/db")).ok()?.ino())
}

/// Damages a file as chance has it; returns what was done.
fn damage(chance: &Chance, file: &Path) -> String {
    let mut bytes = std::fs::read(file).unwrap();
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    let place = usize::try_from(chance.below(bytes.len().max(1) as u64)).unwrap();
    let what = match chance.below(5) {
        0 => {
            bytes.truncate(place);
            format!("{name} ends at {place}")
        }
        1 => {
            std::fs::remove_file(file).unwrap();
            return format!("{name} is gone");
        }
        2 => {
            let end = bytes.len().min(place + 1 + usize::try_from(chance.below(5_000)).unwrap());
            bytes.get_mut(place..end).unwrap_or_default().fill(0);
            format!("{name} has nothing from {place} to {end}")
        }
        3 => {
            bytes.extend_from_slice(&[7; 100]);
            format!("{name} goes on")
        }
        _ => {
            let count = 1 + chance.below(20);
            for _ in 0..count {
                let place = usize::try_from(chance.below(bytes.len().max(1) as u64)).unwrap();
                if let Some(byte) = bytes.get_mut(place) {
                    *byte ^= u8::try_from(1 + chance.below(255)).unwrap();
                }
            }
            format!("{name} has {count} other bytes")
        }
    };
    std::fs::write(file, bytes).unwrap();
    what
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_damage_is_noticed_or_does_no_harm() {
    let (whole, mut rebuilt) = (Whole::new(1).await, 0);
    for seed in 1..=SEEDS {
        let (chance, folder) = (Chance::new(seed), whole.copied());
        let mut done = Vec::new();
        for _ in 0..1 + chance.below(2) {
            let files = files(&folder.path().join("projection"));
            done.push(damage(&chance, chance.pick(&files).unwrap()));
        }
        let rows = rows_of(folder.path());
        whole.survives(folder.path(), &format!("seed {seed}: {}", done.join(", "))).await;
        rebuilt += u64::from(rows_of(folder.path()) != rows);
    }
    assert!((1..SEEDS).contains(&rebuilt), "some damage is so great and some so small: {rebuilt}");
}

/// Opening describes the log of rows in a file that gets its name when it is whole; who is killed before that leaves a
/// part of one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_opening_that_was_killed_leaves_nothing_that_is_doubted() {
    let whole = Whole::new(7).await;
    let copied = whole.copied();
    let rows = copied.path().join("projection");
    let is_description = |file: &PathBuf| file.file_name().unwrap().to_string_lossy().starts_with("snap.");
    let description = files(&rows).into_iter().find(is_description).unwrap();
    let bytes = std::fs::read(&description).unwrap();
    for length in [0, 12, 13, bytes.len() / 2, bytes.len() - 1] {
        let folder = whole.copied();
        let left = folder.path().join("projection/snap.00000000FFFFFFFF.generating");
        std::fs::write(&left, &bytes[..length]).unwrap();
        let (config, log) = (config(folder.path(), &[]), Arc::new(whole.history.book.clone()));
        let keyring = whole.history.keyring.clone();
        let opened = Projection::open(config, log, keyring, registry()).await.unwrap();
        assert_eq!(opened.applied(), whole.history.book.len(), "{length} bytes: it is the same store");
        drop(opened);
        assert!(!left.exists());
    }
    // Killed before there was a store at all.
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("projection")).unwrap();
    let parameters = std::fs::read(rows.join("conf")).unwrap();
    std::fs::write(folder.path().join("projection/conf"), &parameters[..parameters.len() - 4]).unwrap();
    whole.survives(folder.path(), "half of the parameters").await;
}

/// Images that are whole, and not the right ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_of_something_else_is_not_used() {
    let (whole, strange) = (Whole::new(2).await, Whole::new(3).await);
    let replaced = |from: &str, to: &str, file: &Path| {
        let mut bytes = std::fs::read(file).unwrap();
        let place = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
        bytes[place..place + from.len()].copy_from_slice(to.as_bytes());
        bytes
    };
    let corp = whole.images().join("corp");
    let foreign = whole.images().join("acme");
    let images = [
        ("an older image", std::fs::read(whole.older.join("corp")).unwrap()),
        ("another tenant's image", std::fs::read(&foreign).unwrap()),
        ("another tenant's image under its name", replaced("\"acme\"", "\"corp\"", &foreign)),
        ("another layout", replaced("\"layout\":5", "\"layout\":4", &corp)),
        ("other indexes", replaced("displayName", "displayNam3", &corp)),
        ("another master key", std::fs::read(strange.images().join("corp")).unwrap()),
        ("an empty file", Vec::new()),
    ];
    for (what, image) in images {
        let folder = whole.copied();
        std::fs::write(folder.path().join("projection/images/corp"), image).unwrap();
        whole.survives(folder.path(), what).await;
    }
    let folder = whole.copied();
    std::fs::remove_dir_all(folder.path().join("projection/images")).unwrap();
    std::fs::write(folder.path().join("projection/images"), b"no folder").unwrap();
    whole.survives(folder.path(), "a file in the place of images").await;
}

/// Without the right master key nobody's names can be read: that is said, and nothing is dropped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_master_key_is_said_and_drops_nothing() {
    let bucket = memory::broker(Faults::default()).keys;
    let mut history = History::over(4, 0, bucket.clone());
    let tenant = &tenants()[0];
    for _ in 0..1_100 {
        history.step(tenant).await;
    }
    history.book.tell(history.book.len());
    let folder = tempfile::tempdir().unwrap();
    open(folder.path(), &history).await.unwrap().stop().await;
    let rows = rows_of(folder.path());
    let wrong = open_with(folder.path(), &history, Keyring::new(bucket, DataKey::new([2; 32]))).await;
    let error = wrong.err().expect("nothing can be read").to_string();
    assert!(error.contains("master key") || error.contains("data keys"), "{error}");
    assert_eq!(rows_of(folder.path()), rows, "it is the same store");
    assert!(folder.path().join("projection/images/corp").is_file());
    open(folder.path(), &history).await.unwrap().stop().await;
}

/// Whose key is gone cannot be read, however whole his row is: that is said, and nothing of a damaged projection.
#[tokio::test]
async fn keys_that_are_gone_do_not_pass_for_damaged_rows() {
    let bucket = memory::broker(Faults::default()).keys;
    let mut history = History::over(8, 0, bucket.clone());
    let tenant = &tenants()[0];
    for _ in 0..1_100 {
        history.step(tenant).await;
    }
    history.book.tell(history.book.len());
    let folder = tempfile::tempdir().unwrap();
    open(folder.path(), &history).await.unwrap().stop().await;
    for name in bucket.keys().await.unwrap() {
        if name.starts_with("page.") {
            bucket.purge(&name).await.unwrap();
        }
    }
    let running =
        open_with(folder.path(), &history, Keyring::new(bucket, DataKey::new([1; 32]))).await.unwrap();
    let said = folder.path().join("said");
    let file = std::fs::File::create(&said).unwrap();
    let subscriber = tracing_subscriber::fmt().with_writer(file).with_ansi(false).finish();
    let told = tracing::subscriber::set_default(subscriber);
    let mut asked = 0;
    for id in history.models[tenant].ids.iter().take(50) {
        match running.projection.resource_at(tenant, "User", *id, Moment::NOW).await {
            Ok(None) => continue,
            Ok(Some(_)) => panic!("it cannot be read"),
            Err(error) => assert!(causes(&error).contains("gone from the bucket KEYS"), "{}", causes(&error)),
        }
        asked += 1;
    }
    drop(told);
    assert!(asked > 0);
    assert_eq!(std::fs::read_to_string(&said).unwrap(), "");
    running.stop().await;
}

fn causes(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).map(|error| format!("{error}; ")).collect()
}

/// What stands before a row's bytes in a segment: a checksum, and the row's sequence.
const HEAD: usize = 12;

/// The part of a file at a place in the store: segment, offset, length.
fn parts(place: &[u8]) -> [u32; 3] {
    let number = |at: usize| u32::from_be_bytes(place[at..at + 4].try_into().unwrap());
    [number(0), number(4), number(8)]
}

/// Changes the rows of a tenant, beside the projection: each is written anew with a checksum that fits, as if it had been
/// like that from the beginning, or is gone.
async fn change_rows(folder: &Path, tenant: &str, mut change: impl FnMut(u64, &mut Vec<u8>) -> bool) {
    let rows = store(folder).await;
    let (tree, lengths) =
        (rows.open_tree(format!("tenant/{tenant}")).unwrap(), rows.open_tree("segments").unwrap());
    let all: Vec<_> = tree.iter().map(Result::unwrap).collect();
    assert!(all.len() > 1_000);
    let path = |segment: u32| folder.join(format!("projection/segments/{segment:08}.rows"));
    for (key, value) in all {
        let sequence = u64::from_be_bytes(key.as_ref().try_into().unwrap());
        let [segment, offset, length] = parts(&value).map(|number| number as usize);
        let mut file = std::fs::read(path(segment as u32)).unwrap();
        let before = file[offset + HEAD..offset + length].to_vec();
        let mut bytes = before.clone();
        if !change(sequence, &mut bytes) {
            tree.remove(key).unwrap();
        } else if bytes != before {
            let record = [&sequence.to_be_bytes()[..], &bytes].concat();
            let place = [segment, file.len(), 4 + record.len()].map(|number| (number as u32).to_be_bytes());
            file.extend_from_slice(&crc32fast::hash(&record).to_be_bytes());
            file.extend_from_slice(&record);
            std::fs::write(path(segment as u32), &file).unwrap();
            tree.insert(key, place.concat()).unwrap();
            lengths.insert(place[0], &(file.len() as u32).to_be_bytes()).unwrap();
        }
    }
    rows.flush().unwrap();
}

/// Damage that comes while the folder is open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_damaged_while_it_is_open_does_no_harm() {
    let whole = Whole::new(6).await;
    for seed in 1..=6 {
        let (chance, folder) = (Chance::new(seed), whole.copied());
        let running = open(folder.path(), &whole.history).await.unwrap();
        let file = if seed % 2 == 0 { "projection/db" } else { "projection/segments/00000001.rows" };
        let file = folder.path().join(file);
        let mut bytes = std::fs::read(&file).unwrap();
        if seed <= 2 {
            bytes.fill(0x5a);
        }
        for _ in 0..2_000 {
            let place = usize::try_from(chance.below(bytes.len() as u64)).unwrap();
            bytes[place] ^= u8::try_from(1 + chance.below(255)).unwrap();
        }
        // In place, so that whoever has it open sees it.
        let rows = std::fs::OpenOptions::new().write(true).open(&file).unwrap();
        rows.write_all_at(&bytes, 0).unwrap();
        for ((tenant, found), (_, expected)) in
            whole.ask(&running.projection).await.iter().zip(&whole.expected)
        {
            same(found, expected, &format!("seed {seed}, {tenant}, while it is open"));
        }
        running.stop().await;
        whole.survives(folder.path(), &format!("seed {seed}, afterwards")).await;
    }
}

/// An image spares reading rows at the start, so that damaged ones are found only when somebody asks for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_turn_out_to_be_damaged_are_read_from_the_log() {
    let whole = Whole::new(5).await;
    let (old, chance) = (whole.history.book.len() * 9 / 10, Chance::new(5));
    type Change = fn(&Chance, &mut Vec<u8>) -> bool;
    let changes: [(&str, Change); 6] = [
        ("sealed by a key that never was", |_, bytes| {
            // The text of a page in the envelope, which is in the clear.
            let is_hex = |window: &[u8]| window.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            let mut pages =
                bytes.windows(33).enumerate().filter(|(_, text)| is_hex(&text[..32]) && text[32] == b'.');
            let place = pages.next_back().map(|(place, _)| place).unwrap();
            bytes[place + 12..place + 32].reverse();
            true
        }),
        ("flipped", |chance, bytes| {
            let place = bytes.len() - 1 - usize::try_from(chance.below(60)).unwrap();
            bytes[place] ^= 1;
            true
        }),
        ("cut off", |_, bytes| {
            bytes.truncate(bytes.len() - 20);
            true
        }),
        ("empty", |_, bytes| {
            bytes.clear();
            true
        }),
        ("something else", |_, bytes| {
            *bytes = b"no row at all, however long it may be made".to_vec();
            true
        }),
        ("gone", |_, _| false),
    ];
    for (what, change) in changes {
        let folder = whole.copied();
        change_rows(folder.path(), "corp", |sequence, bytes| {
            sequence > old || !chance.strikes(200) || change(&chance, bytes)
        })
        .await;
        whole.survives(folder.path(), &format!("rows are {what}")).await;
        // And where the image is gone, too, they are found at the start.
        let folder = whole.copied();
        std::fs::remove_file(folder.path().join("projection/images/corp")).unwrap();
        change_rows(folder.path(), "corp", |sequence, bytes| {
            sequence > old || !chance.strikes(200) || change(&chance, bytes)
        })
        .await;
        whole.survives(folder.path(), &format!("rows are {what} and there is no image")).await;
    }
}
