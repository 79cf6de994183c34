//! A process that follows a log is killed again and again, whatever it is doing: applying, writing rows or an image,
//! opening. After every kill its folder is opened and must answer as a directory that was built from nothing up to the
//! same position.

#![cfg(test)]

#[expect(clippy::allow_attributes, reason = "which parts are used differs between the tests that include it")]
#[allow(dead_code, reason = "the other tests use the rest")]
mod common;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::answers::{answers, same};
use common::book::Book;
use common::history::{History, tenants};
use common::{Running, config, deadline};
use eventlog::memory::{self, Chance, Faults};
use eventlog::{Bucket, Keyring, Message};
use jiff::Timestamp;
use projector::{MemoryStore, Projection, Storage, When};
use proto::EventId;
use proto::sealing::DataKey;
use tokio::time::Instant;

/// Where the process that is killed finds its folder; who has none of it is not that process.
const FOLDER: &str = "ROLLCALL_TEST_KILLS_FOLDER";
const SEED: &str = "ROLLCALL_TEST_KILLS_SEED";
const KILLS: u64 = 205;
/// Another history and other lives than usual.
const SEED_OF_ALL: &str = "ROLLCALL_TEST_KILLS_SEED_OF_ALL";
const USUAL_SEED: u64 = 7;
/// A file that grows by a byte with every step.
const STEPS_TOLD: &str = "steps";
/// What opening says when it does not trust a folder.
const DISTRUST: &str = "cannot be trusted";
/// Steps of the history; a thousand rows make an image at a clean stop.
const STEPS: usize = 2_500;
/// The longest of short and of long lives, in steps that the process tells; then it lives for a moment more.
const LIFE_MAX_STEPS: [u64; 2] = [5, 20];
const MOMENT_MAX: Duration = Duration::from_millis(15);
/// Long lives among a thousand.
const LONG_LIVES: u64 = 200;
/// How long the process waits for all that it told itself.
const CATCH_UP_MAX: Duration = Duration::from_millis(300);
/// A process that nobody kills ends by itself.
const ALONE_MAX: Duration = Duration::from_secs(120);

/// Writes a log and its keys into a file: texts and bytes, each behind its length.
async fn write(history: &History, bucket: &dyn Bucket, file: &Path) {
    let mut parts = Vec::new();
    for name in bucket.keys().await.unwrap() {
        let (value, _) = bucket.get(&name).await.unwrap().unwrap();
        parts.extend([name.into_bytes(), value.to_vec()]);
    }
    let keys = parts.len();
    for message in history.book.messages() {
        let (id, time) = (message.id.unwrap(), message.time.as_microsecond());
        parts.extend([message.subject.into_bytes(), id.as_bytes().to_vec()]);
        parts.extend([message.payload.to_vec(), time.to_be_bytes().to_vec()]);
    }
    let mut bytes = u32::try_from(keys).unwrap().to_be_bytes().to_vec();
    for part in parts {
        bytes.extend(u32::try_from(part.len()).unwrap().to_be_bytes());
        bytes.extend(part);
    }
    std::fs::write(file, bytes).unwrap();
}

/// Reads what [`write`] wrote.
async fn read(file: &Path) -> (Book, Keyring) {
    let mut bytes = Bytes::from(std::fs::read(file).unwrap());
    let number = |bytes: &mut Bytes| u32::from_be_bytes(bytes.split_to(4)[..].try_into().unwrap()) as usize;
    let keys = number(&mut bytes);
    let mut parts = Vec::new();
    while !bytes.is_empty() {
        let length = number(&mut bytes);
        parts.push(bytes.split_to(length));
    }
    let messages = parts.split_off(keys);
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    let broker = memory::broker(Faults::default());
    for key in parts.chunks(2) {
        broker.keys.create(&text(&key[0]), key[1].clone()).await.unwrap();
    }
    let message = |(sequence, parts): (u64, &[Bytes])| Message {
        sequence,
        subject: text(&parts[0]),
        id: Some(EventId::from_bytes(&parts[1]).unwrap()),
        payload: parts[2].clone(),
        time: Timestamp::from_microsecond(i64::from_be_bytes(parts[3][..].try_into().unwrap())).unwrap(),
    };
    let book = Book::of((1..).zip(messages.chunks(4)).map(message).collect());
    (book, Keyring::new(broker.keys, DataKey::new([1; 32])))
}

fn number(variable: &str) -> Option<u64> {
    Some(std::env::var_os(variable)?.to_str().unwrap().parse().unwrap())
}

/// The lines of a file that say that a folder was not trusted, and why.
fn distrust(file: &Path) -> Vec<String> {
    let said = std::fs::read_to_string(file).unwrap();
    said.lines().filter(|line| line.contains(DISTRUST)).map(str::to_string).collect()
}

/// The process that is killed. In any other it does nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_process_that_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let seed = number(SEED).unwrap();
    let begun = std::time::Instant::now();
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    let chance = Chance::new(seed);
    let (book, keyring) = read(&folder.join("log")).await;
    let registry = common::registry();
    let mut steps =
        std::fs::OpenOptions::new().append(true).create(true).open(folder.join(STEPS_TOLD)).unwrap();
    let mut step = || steps.write_all(b".").unwrap();
    while begun.elapsed() < ALONE_MAX {
        step();
        let opened = Projection::open(
            config(&folder, &["title"]),
            Arc::new(book.clone()),
            keyring.clone(),
            registry.clone(),
        );
        let running = Running::start(opened.await.unwrap());
        step();
        book.tell(running.projection.applied());
        // A few bursts, then a clean stop and a new start in the same process.
        for _ in 0..chance.below(7) {
            book.tell(book.told() + 1 + chance.below(400));
            if chance.strikes(700) {
                // In vain where the log ends within a command.
                let _ = running.projection.catch_up(Instant::now() + CATCH_UP_MAX).await;
            }
            tokio::time::sleep(chance.up_to(Duration::from_millis(20))).await;
            step();
        }
        running.stop().await;
    }
}

fn spawn(folder: &Path, seed: u64) -> Child {
    let program = std::env::current_exe().unwrap();
    let arguments = ["--exact", "the_process_that_is_killed", "--nocapture", "--test-threads=1"];
    Command::new(program)
        .args(arguments)
        .env(FOLDER, folder)
        .env(SEED, seed.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(folder.join("stderr")).unwrap())
        .spawn()
        .unwrap()
}

/// Waits until the process took so many steps, lets it live for a moment, and kills it.
async fn live(folder: &Path, seed: u64, steps: u64, moment: Duration) {
    let told = folder.join(STEPS_TOLD);
    let _ = std::fs::remove_file(&told);
    let mut child = spawn(folder, seed);
    let waited = std::time::Instant::now();
    let ended = loop {
        let ended = child.try_wait().unwrap();
        if ended.is_some() || std::fs::metadata(&told).is_ok_and(|file| file.len() > steps) {
            break ended;
        }
        assert!(waited.elapsed() < ALONE_MAX, "the process does not go on");
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    tokio::time::sleep(moment).await;
    let said = || std::fs::read_to_string(folder.join("stderr")).unwrap();
    assert!(ended.is_none(), "seed {seed}: the process ended by itself: {ended:?}\n{}", said());
    child.kill().unwrap();
    child.wait().unwrap();
}

/// A directory that was built from nothing in memory, and goes on as far as the killed one.
struct Built {
    running: Running,
    book: Book,
}

impl Built {
    async fn new(messages: Vec<Message>, keyring: &Keyring) -> Self {
        let book = Book::of(messages);
        let folder = Path::new("");
        let config = projector::Config {
            storage: Storage::Memory(MemoryStore::default()),
            ..config(folder, &["title"])
        };
        let running = Running::open(config, Arc::new(book.clone()), keyring, &common::registry()).await;
        Self { running, book }
    }

    async fn until(&self, position: u64) {
        self.book.tell(position);
        self.running.projection.wait_until(position, deadline()).await.unwrap();
        assert_eq!(self.running.projection.applied(), position);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_any_kill_it_answers_as_if_it_had_not_been_killed() {
    let registry = common::registry();
    let bucket = memory::broker(Faults::default()).keys;
    let seed = number(SEED_OF_ALL).unwrap_or(USUAL_SEED);
    let mut history = History::over(seed, 5, bucket.clone());
    let tenants = tenants();
    for step in 0..STEPS {
        let tenant = &tenants[[0, 0, 0, 0, 1, 2][history.below(6)]];
        history.step(tenant).await;
        if step % 700 == 600 {
            history.drop_tenant(&tenants[2]).await;
        }
        if step % 90 == 50
            && let Some(id) = history.somebody_gone(&tenants[1])
        {
            history.erase(&tenants[1], id).await;
        }
    }
    history.book.tell(history.book.len());
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write(&history, &*bucket, &folder.join("log")).await;
    let said = folder.join("said");
    let file = std::fs::File::create(&said).unwrap();
    tracing_subscriber::fmt().with_writer(file).with_ansi(false).init();
    let chance = Chance::new(seed);
    let (mut former, mut rounds, mut images) = (0, 1, 0);
    let mut distrusted = Vec::new();
    let mut built = Built::new(history.book.messages(), &history.keyring).await;
    for kill in 0..KILLS {
        let steps = LIFE_MAX_STEPS[usize::from(chance.strikes(LONG_LIVES))];
        live(folder, seed * KILLS + kill, chance.below(steps), chance.up_to(MOMENT_MAX)).await;
        images += u64::from(folder.join("projection/images/corp").is_file());
        let opened = Projection::open(
            config(folder, &["title"]),
            Arc::new(history.book.clone()),
            history.keyring.clone(),
            registry.clone(),
        );
        let killed = opened.await.unwrap();
        let position = killed.applied();
        distrusted.extend(distrust(&folder.join("stderr")));
        if position < former {
            assert_eq!(position, 0, "kill {kill}: what was on disk is there, or all of it is built again");
            built = Built::new(history.book.messages(), &history.keyring).await;
        }
        former = position;
        built.until(position).await;
        let whens = [When::Sequence(chance.below(position + 1))];
        for tenant in &tenants {
            let expected = answers(&built.running.projection, tenant, &registry, &whens).await;
            let found = answers(&killed, tenant, &registry, &whens).await;
            same(&found, &expected, &format!("kill {kill} at {position}, {tenant}"));
        }
        drop(killed);
        if position == history.book.len() {
            std::fs::remove_dir_all(folder.join("projection")).unwrap();
            built = Built::new(history.book.messages(), &history.keyring).await;
            (former, rounds) = (0, rounds + 1);
        }
    }
    distrusted.extend(distrust(&said));
    let what =
        format!("{KILLS} kills in {rounds} rounds, {images} with an image, distrusted: {distrusted:#?}");
    assert!(
        distrusted.is_empty() && images > 0,
        "a kill damages nothing, and images are written and read: {what}"
    );
}
